use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use super::*;
use crate::{geo::answer::NoPlace, place::Place};

const TIMEOUT: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_mins(5);

/// A provider that answers when it is told to. The network of an address is its last byte.
#[derive(Clone, Default)]
struct Desk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: Mutex<Vec<IpAddr>>,
    now: AtomicUsize,
    most: AtomicUsize,
    /// How long an answer takes.
    delay: Mutex<Duration>,
    /// What is answered instead of a place.
    failure: Mutex<Option<fn() -> LookupError>>,
    put: Notify,
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Desk {
    fn web(&self, ttl: Duration) -> Web {
        let inner = Arc::clone(&self.0);
        let ask = move |address: IpAddr| -> Asked {
            let inner = Arc::clone(&inner);
            Box::pin(async move {
                inner.asked.lock().unwrap().push(address);
                inner.most.fetch_max(inner.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _counted = Counted(&inner.now);
                inner.put.notify_waiters();
                let delay = *inner.delay.lock().unwrap();
                sleep(delay).await;
                match *inner.failure.lock().unwrap() {
                    Some(failure) => Err(failure()),
                    None => Ok(place(address)),
                }
            })
        };
        Web::asking(Box::new(ask), TIMEOUT, ttl, Metrics::default())
    }

    fn takes(&self, delay: Duration) {
        *self.0.delay.lock().unwrap() = delay;
    }

    fn fails(&self, failure: Option<fn() -> LookupError>) {
        *self.0.failure.lock().unwrap() = failure;
    }

    fn asked(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }
}

fn place(address: IpAddr) -> Place {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    Place { country: None, asn: Some(u32::from(last)) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nth(n: usize) -> IpAddr {
    ip(&format!("203.0.{}.{}", 113 + n / 250, n % 250 + 1))
}

fn spawn(web: &Web, address: IpAddr) -> JoinHandle<Option<Place>> {
    let web = web.clone();
    tokio::spawn(async move { web.look_up(address).await })
}

fn throttled(wait: Option<u64>) -> LookupError {
    LookupError::Throttled { status: 429, wait: wait.map(Duration::from_secs) }
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_about_an_address_share_one_question() {
    let desk = Desk::default();
    desk.takes(Duration::from_secs(1));
    let web = desk.web(TTL);
    let begun = Instant::now();
    let waiting: Vec<_> = (0..500).map(|_| spawn(&web, nth(0))).collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Some(place(nth(0))));
    }
    assert_eq!((desk.asked(), begun.elapsed()), (1, Duration::from_secs(1)));
    assert_eq!(web.at_hand(nth(0)), Some(place(nth(0))));
    assert_eq!(web.at_hand(nth(1)), None);
    assert_eq!(web.look_up(nth(0)).await, Some(place(nth(0))));
    assert_eq!(desk.asked(), 1);
    sleep(TTL).await;
    assert_eq!(web.at_hand(nth(0)), None);
    assert_eq!(web.look_up(nth(0)).await, Some(place(nth(0))));
    assert_eq!(desk.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_ipv6_customer_is_one_question_about_a_real_address() {
    let desk = Desk::default();
    desk.takes(Duration::from_secs(1));
    let web = desk.web(TTL);
    let (first, second) = (ip("2001:db8:1:2::a"), ip("2001:db8:1:2:ffff::b"));
    let waiting = [first, second].map(|address| spawn(&web, address));
    for one in waiting {
        assert_eq!(one.await.unwrap(), Some(place(first)));
    }
    assert_eq!(*desk.0.asked.lock().unwrap(), [first]);
    assert_eq!(web.at_hand(ip("2001:db8:1:2::c")), Some(place(first)));
    assert_eq!(web.at_hand(ip("2001:db8:1:3::a")), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_patience_takes_nothing_from_the_others() {
    let desk = Desk::default();
    desk.takes(Duration::from_secs(1));
    let web = desk.web(TTL);
    let put = desk.0.put.notified();
    let first = spawn(&web, nth(0));
    put.await;
    let second = spawn(&web, nth(0));
    sleep(Duration::from_millis(500)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(second.await.unwrap(), Some(place(nth(0))));
    assert_eq!(desk.asked(), 1);
    // With nobody left, the answer is kept all the same: it was asked for.
    let put = desk.0.put.notified();
    let third = spawn(&web, nth(1));
    put.await;
    third.abort();
    sleep(Duration::from_millis(1001)).await;
    assert_eq!(web.at_hand(nth(1)), Some(place(nth(1))));
}

#[tokio::test(start_paused = true)]
async fn few_are_asked_at_once_and_a_bounded_number_waits() {
    let desk = Desk::default();
    desk.takes(Duration::from_millis(100));
    let web = desk.web(TTL);
    let begun = Instant::now();
    // The last one comes when all places are taken, and is told so at once.
    let waiting: Vec<_> = (0..=AT_ONCE + WAITING).map(|n| spawn(&web, nth(n))).collect();
    let mut found = Vec::new();
    for one in waiting {
        let place = one.await.unwrap();
        found.push((place, begun.elapsed()));
    }
    assert_eq!(desk.0.most.load(Ordering::SeqCst), AT_ONCE);
    let known = found.iter().filter(|(place, _)| place.is_some()).count();
    assert_eq!((known, desk.asked()), (AT_ONCE + WAITING, AT_ONCE + WAITING));
    assert_eq!(found.last().unwrap().0, None);
    // It was never asked about: nothing is kept of it.
    assert_eq!(web.look_up(nth(AT_ONCE + WAITING)).await, Some(place(nth(AT_ONCE + WAITING))));
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_includes_the_wait_for_a_turn() {
    let desk = Desk::default();
    desk.takes(Duration::from_hours(1));
    let web = desk.web(TTL);
    let begun = Instant::now();
    let asked: Vec<_> = (0..AT_ONCE).map(|n| spawn(&web, nth(n))).collect();
    sleep(Duration::from_millis(500)).await;
    let turn = spawn(&web, nth(AT_ONCE));
    for one in asked {
        assert_eq!(one.await.unwrap(), None);
    }
    assert_eq!(begun.elapsed(), TIMEOUT);
    assert_eq!(turn.await.unwrap(), None);
    assert_eq!(begun.elapsed(), TIMEOUT + Duration::from_millis(500));
    // Those that the provider left without an answer are not asked about again for a while. The one whose turn came too
    // late for an answer is.
    assert_eq!(desk.asked(), AT_ONCE + 1);
    desk.takes(Duration::ZERO);
    assert_eq!(web.look_up(nth(0)).await, None);
    assert_eq!(web.look_up(nth(AT_ONCE)).await, Some(place(nth(AT_ONCE))));
    assert_eq!(desk.asked(), AT_ONCE + 2);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(web.look_up(nth(0)).await, Some(place(nth(0))));
}

#[tokio::test(start_paused = true)]
async fn that_nothing_was_found_is_kept_for_a_shorter_time() {
    let desk = Desk::default();
    let web = desk.web(TTL);
    desk.fails(Some(|| LookupError::NoPlace(NoPlace::Nothing)));
    assert_eq!(web.look_up(nth(0)).await, None);
    desk.fails(None);
    sleep(Duration::from_millis(29_999)).await;
    assert_eq!((web.look_up(nth(0)).await, web.at_hand(nth(0)), desk.asked()), (None, None, 1));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((web.look_up(nth(0)).await, desk.asked()), (Some(place(nth(0))), 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_time_nothing_is_kept_but_questions_are_still_shared() {
    let desk = Desk::default();
    desk.takes(Duration::from_secs(1));
    let web = desk.web(Duration::ZERO);
    let both = [spawn(&web, nth(0)), spawn(&web, nth(0))];
    for one in both {
        assert_eq!(one.await.unwrap(), Some(place(nth(0))));
    }
    assert_eq!((desk.asked(), web.at_hand(nth(0))), (1, None));
    desk.fails(Some(|| LookupError::Status(500)));
    for asked in [2, 3] {
        assert_eq!(web.look_up(nth(0)).await, None);
        assert_eq!(desk.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn too_often_is_a_pause_for_all() {
    let cases: [(fn() -> LookupError, u64); 4] = [
        (|| throttled(None), 60),
        (|| throttled(Some(7)), 7),
        (|| throttled(Some(0)), 1),
        (|| throttled(Some(u64::MAX)), 3600),
    ];
    for (failure, seconds) in cases {
        let desk = Desk::default();
        let web = desk.web(TTL);
        assert!(web.look_up(nth(0)).await.is_some());
        desk.fails(Some(failure));
        assert_eq!(web.look_up(nth(1)).await, None);
        desk.fails(None);
        for n in 1..50 {
            assert_eq!(web.look_up(nth(n)).await, None, "nobody is asked now");
        }
        assert_eq!(desk.asked(), 2);
        if seconds < TTL.as_secs() {
            assert!(web.at_hand(nth(0)).is_some(), "what is known stays known");
        }
        sleep(Duration::from_millis(seconds * 1000 - 1)).await;
        assert_eq!((web.look_up(nth(2)).await, desk.asked()), (None, 2));
        sleep(Duration::from_millis(1)).await;
        // Nothing was kept of those who were not asked about.
        for n in 1..4 {
            assert_eq!(web.look_up(nth(n)).await, Some(place(nth(n))), "{seconds}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_pause_begins_does_not_ask_any_more() {
    let desk = Desk::default();
    desk.takes(Duration::from_millis(100));
    desk.fails(Some(|| throttled(Some(5))));
    let web = desk.web(TTL);
    let waiting: Vec<_> = (0..AT_ONCE * 3).map(|n| spawn(&web, nth(n))).collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), None);
    }
    assert_eq!(desk.asked(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_dies_holds_nobody() {
    let web =
        Web::asking(Box::new(|_| Box::pin(async { panic!("on purpose") })), TIMEOUT, TTL, Metrics::default());
    for _ in 0..AT_ONCE * 2 {
        assert_eq!(web.look_up(nth(0)).await, None);
    }
    assert!(web.0.state().under_way.is_empty());
}
