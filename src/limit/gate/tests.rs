use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;

/// A gate that knows everybody from 203.0.113.0/24, and from some time on 198.51.100.1.
struct Scene {
    gate: Gate,
    has_logged_in: Arc<AtomicBool>,
    hits: Arc<AtomicUsize>,
}

impl Scene {
    fn new(connections: u32, per_address: u32, pending_logins: u32) -> Self {
        let hits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hits);
        let has_logged_in = Arc::new(AtomicBool::new(false));
        let has = Arc::clone(&has_logged_in);
        let known = move |address: IpAddr| {
            let is_late = address == ip("198.51.100.1") && has.load(Ordering::Relaxed);
            is_late || address.to_string().starts_with("203.0.113.")
        };
        let limits = Limits { connections, per_address, pending_logins };
        let on_limit = move || _ = count.fetch_add(1, Ordering::Relaxed);
        Self { gate: Gate::new(limits, Box::new(known), Box::new(on_limit)), has_logged_in, hits }
    }

    fn enter(&self, address: &str) -> Result<Passage, Full> {
        self.gate.enter(Some(ip(address)))
    }

    /// Strangers, each from an address of its own.
    fn strangers(&self, count: u32) -> Vec<Passage> {
        (0..count).map(|n| self.gate.enter(Some(stranger(n))).unwrap()).collect()
    }

    /// How often a limit was hit since this was last asked.
    fn hits(&self) -> usize {
        self.hits.swap(0, Ordering::Relaxed)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn stranger(n: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n).to_be_bytes())
}

/// Which of them were asked to leave.
fn asked<'a>(passages: impl IntoIterator<Item = &'a Passage>) -> Vec<usize> {
    let all = passages.into_iter().enumerate();
    all.filter(|(_, passage)| passage.waiting.exit.stage() == Exit::ASKED).map(|(n, _)| n).collect()
}

#[tokio::test]
async fn strangers_are_let_in_up_to_three_quarters() {
    for (limit, strangers) in [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (100, 75)] {
        let scene = Scene::new(limit, 64, 64);
        let inside = scene.strangers(strangers);
        assert_eq!(scene.hits(), 0, "{limit}");
        assert_eq!(scene.enter("10.9.9.9").unwrap_err(), Full::Connections, "{limit}");
        assert_eq!(scene.hits(), 1, "{limit}");
        drop(inside);
        assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
        scene.enter("10.9.9.9").unwrap();
    }
}

#[tokio::test]
async fn for_the_known_the_oldest_unproven_stranger_goes() {
    let scene = Scene::new(8, 64, 64);
    let strangers = scene.strangers(6);
    strangers[0].proven();
    let first = scene.enter("203.0.113.1").unwrap();
    assert_eq!(asked(&strangers), [1]);
    // At once, also if it waits only later.
    strangers[1].asked_to_leave().await;
    let second = scene.enter("203.0.113.2").unwrap();
    assert_eq!((asked(&strangers), asked([&first, &second])), (vec![1, 2], vec![]));
    assert_eq!(scene.hits(), 2);
    // No stranger gets a place that was freed for the known.
    assert_eq!(scene.enter("10.9.9.9").unwrap_err(), Full::Connections);
    assert_eq!(scene.gate.counts(), (8, 2, 8, 5, 0));
    drop(strangers);
    assert_eq!(scene.gate.counts(), (2, 0, 2, 2, 0));
}

#[tokio::test]
async fn without_strangers_the_last_quarter_fills_and_then_the_oldest_known_goes() {
    let scene = Scene::new(8, 64, 64);
    let known: Vec<Passage> = (0..8).map(|n| scene.enter(&format!("203.0.113.{n}")).unwrap()).collect();
    assert_eq!((asked(&known), scene.hits()), (vec![], 0));
    known[0].proven();
    let next = scene.enter("203.0.113.9").unwrap();
    assert_eq!((asked(&known), scene.hits()), (vec![1], 1));
    known.iter().skip(2).for_each(Passage::proven);
    next.proven();
    assert_eq!(scene.enter("203.0.113.10").unwrap_err(), Full::Connections, "all are in");
    assert_eq!(asked(known.iter().chain([&next])), [1]);
    // One who has left makes room for one.
    let held = known.into_iter().map(Passage::into_held).collect::<Vec<_>>();
    drop(held.into_iter().next());
    scene.enter("203.0.113.10").unwrap();
}

#[tokio::test]
async fn the_admitted_are_never_asked() {
    let scene = Scene::new(4, 64, 64);
    let strangers = scene.strangers(3);
    let known = scene.enter("203.0.113.1").unwrap();
    assert_eq!(asked(&strangers), [0]);
    // Proven in the very moment in which it was asked: void.
    strangers[0].proven();
    assert_eq!(asked(&strangers), [0; 0]);
    tokio::select! {
        biased;
        _ = strangers[0].asked_to_leave() => panic!("it was admitted"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(scene.gate.counts(), (4, 0, 4, 3, 0));
    drop((strangers, known));
    assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
}

#[tokio::test]
async fn one_address_has_its_own_limit() {
    let scene = Scene::new(100, 3, 64);
    let addresses = ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"];
    let mut inside: Vec<Passage> = addresses.iter().map(|address| scene.enter(address).unwrap()).collect();
    assert_eq!(scene.enter("10.0.0.1").unwrap_err(), Full::PerAddress);
    inside.push(scene.enter("10.0.0.2").unwrap());
    for n in 0..3 {
        inside.push(scene.enter(&format!("2001:db8:0:1::{n}")).unwrap());
    }
    assert_eq!(scene.enter("2001:db8:0:1:ffff::").unwrap_err(), Full::PerAddress);
    inside.push(scene.enter("2001:db8:0:2::").unwrap());
    assert_eq!(scene.hits(), 2);
    // Players who are in count too, until they leave.
    let held = inside.remove(0).into_held();
    assert_eq!(scene.enter("10.0.0.1").unwrap_err(), Full::PerAddress);
    drop(held);
    scene.enter("10.0.0.1").unwrap();
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_counts_once_it_is_stated() {
    let scene = Scene::new(8, 2, 64);
    let unplaced: Vec<Passage> = (0..8).map(|_| scene.gate.enter(None).unwrap()).collect();
    assert_eq!(scene.hits(), 0, "nothing is known of them yet");
    // Six may be strangers; these are eight.
    assert_eq!(unplaced[7].place(ip("10.0.0.1")), Err(Full::Connections));
    // For one who is known the oldest goes, which it is itself no more.
    unplaced[0].place(ip("203.0.113.1")).unwrap();
    assert_eq!(asked(&unplaced), [1]);
    unplaced[2].place(ip("203.0.113.1")).unwrap();
    assert_eq!(asked(&unplaced), [1, 3]);
    // One more makes room among its own.
    unplaced[4].place(ip("203.0.113.1")).unwrap();
    assert_eq!(asked(&unplaced), [0, 1, 3]);
    unplaced[6].place(ip("10.0.0.1")).unwrap();
    // At the limit the next one pushes out the oldest of those nothing is known of, and none that is known.
    let more: Vec<Passage> = (0..4).map(|_| scene.gate.enter(None).unwrap()).collect();
    assert_eq!(asked(&unplaced), [0, 1, 3, 5]);
    drop((unplaced, more));
    assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
}

#[tokio::test]
async fn logins_under_way_have_the_same_rule() {
    let scene = Scene::new(1000, 64, 4);
    let strangers = scene.strangers(10);
    for passage in &strangers[..3] {
        passage.begin_login().unwrap();
    }
    assert_eq!(strangers[3].begin_login(), Err(Full::PendingLogins));
    assert_eq!(scene.hits(), 1);
    // One that is proven is under way no more.
    strangers[0].proven();
    strangers[3].begin_login().unwrap();
    let known: Vec<Passage> = (0..6).map(|n| scene.enter(&format!("203.0.113.{n}")).unwrap()).collect();
    known[0].begin_login().unwrap();
    assert_eq!(asked(&strangers), [1], "the oldest login, not the oldest connection");
    known[1].begin_login().unwrap();
    known[2].begin_login().unwrap();
    assert_eq!((asked(&strangers), asked(&known)), (vec![1, 2, 3], vec![]));
    known[3].begin_login().unwrap();
    assert_eq!(scene.gate.counts().4, 4);
    known[4].begin_login().unwrap();
    assert_eq!(asked(&known), [0], "full: the oldest of all");
    known[1..5].iter().for_each(Passage::proven);
    assert_eq!(scene.gate.counts().4, 0);
    // One that was asked to leave begins nothing.
    strangers[1].begin_login().unwrap();
    assert_eq!(scene.gate.counts().4, 0);
}

#[tokio::test]
async fn those_on_their_way_out_are_bounded() {
    let scene = Scene::new(200, 1000, 64);
    let mut inside: Vec<Passage> = (0..200).map(|_| scene.enter("203.0.113.1").unwrap()).collect();
    let more = std::iter::from_fn(|| scene.enter("203.0.113.1").ok());
    inside.extend(more);
    assert_eq!(inside.len(), 200 + 64);
    assert_eq!(scene.gate.counts(), (264, 64, 1, 200, 0));
    let leaving = asked(&inside);
    assert_eq!(leaving, (0..64).collect::<Vec<_>>());
    inside.drain(..64);
    scene.enter("203.0.113.1").unwrap();
}

/// A million connections, of which as many stay as fit: what is kept of them is what is open.
#[tokio::test]
async fn a_flood_leaves_nothing_behind() {
    let scene = Scene::new(1000, 4, 64);
    let mut inside = std::collections::VecDeque::new();
    for n in 0..1_000_000_u32 {
        let address = IpAddr::from((0x2a00_u128 << 112 | u128::from(n) << 64).to_be_bytes());
        if let Ok(passage) = scene.gate.enter(Some(address)) {
            inside.push_back(passage);
        }
        if n % 3 == 0 {
            inside.pop_front();
        }
    }
    let (open, leaving, clients, unproven, _) = scene.gate.counts();
    assert_eq!(open, u32::try_from(inside.len()).unwrap());
    assert!(open <= 750 && leaving == 0 && clients <= 750 && unproven == open, "{open} {clients} {unproven}");
    inside.clear();
    assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
}

#[tokio::test]
async fn nobody_who_shares_a_known_address_keeps_it_out_by_silence() {
    let scene = Scene::new(100, 3, 64);
    let inside: Vec<Passage> = (0..3).map(|_| scene.enter("203.0.113.1").unwrap()).collect();
    let other = scene.enter("203.0.113.2").unwrap();
    inside[0].proven();
    // The oldest unproven one of that client goes, and counts no longer.
    let next = scene.enter("203.0.113.1").unwrap();
    assert_eq!((asked(&inside), asked([&other, &next]), scene.hits()), (vec![1], vec![], 1));
    assert_eq!(inside[1].asked_to_leave().await, Full::PerAddress);
    let headed = scene.gate.enter(None).unwrap();
    headed.place(ip("203.0.113.1")).unwrap();
    assert_eq!((asked(&inside), asked([&other, &next, &headed])), (vec![1, 2], vec![]));
    assert_eq!(scene.gate.counts(), (6, 2, 2, 3, 0));
    // Players who are in stay in.
    next.proven();
    headed.proven();
    assert_eq!(scene.enter("203.0.113.1").unwrap_err(), Full::PerAddress);
    assert_eq!(scene.gate.enter(None).unwrap().place(ip("203.0.113.1")).unwrap_err(), Full::PerAddress);
    drop(inside);
    scene.enter("203.0.113.1").unwrap();
    drop((other, next, headed));
    assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
    // Strangers push out nobody, not even their own.
    let strangers: Vec<Passage> = (0..3).map(|_| scene.enter("10.0.0.1").unwrap()).collect();
    assert_eq!(scene.enter("10.0.0.1").unwrap_err(), Full::PerAddress);
    assert_eq!(asked(&strangers), [0; 0]);
}

#[tokio::test]
async fn those_of_before_an_address_had_a_session_go_first() {
    let scene = Scene::new(100, 3, 64);
    let silent: Vec<Passage> = (0..2).map(|_| scene.enter("198.51.100.1").unwrap()).collect();
    scene.has_logged_in.store(true, Ordering::Relaxed);
    let player = scene.enter("198.51.100.1").unwrap();
    let next = scene.enter("198.51.100.1").unwrap();
    assert_eq!((asked(&silent), asked([&player, &next])), (vec![0], vec![]));
}

#[tokio::test]
async fn other_limits_hold_at_once_and_nobody_has_to_leave_for_them() {
    let scene = Scene::new(8, 2, 64);
    let mut strangers = scene.strangers(6);
    assert_eq!(scene.enter("10.9.9.9").unwrap_err(), Full::Connections);
    let wide = Limits { connections: 100, per_address: 3, pending_logins: 4 };
    scene.gate.adopt(wide);
    let same: Vec<_> = (0..3).map(|_| scene.enter("10.9.9.9").unwrap()).collect();
    assert_eq!(scene.enter("10.9.9.9").unwrap_err(), Full::PerAddress);
    for login in &same {
        login.begin_login().unwrap();
    }
    assert_eq!(strangers[0].begin_login().unwrap_err(), Full::PendingLogins);

    scene.gate.adopt(Limits { connections: 4, per_address: 1, pending_logins: 1 });
    assert!(asked(strangers.iter().chain(&same)).is_empty(), "nobody leaves because of it");
    assert_eq!(scene.enter("10.8.8.8").unwrap_err(), Full::Connections);
    strangers.truncate(2);
    drop(same);
    let last = scene.enter("10.8.8.8").unwrap();
    assert_eq!(scene.enter("10.7.7.7").unwrap_err(), Full::Connections);
    drop(strangers);
    assert_eq!(scene.enter("10.8.8.8").unwrap_err(), Full::PerAddress);
    drop(last);
    assert_eq!(scene.gate.counts(), (0, 0, 0, 0, 0));
}
