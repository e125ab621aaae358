//! Answers of a web provider, kept for a while.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

use crate::place::Place;

/// Most answers kept: some 2 MB. Each has cost a question to the provider, so that whoever wanted to push out the
/// answers about others would have to draw so many of them within the time that answers are kept.
const MAX_KEPT: usize = 16_384;

/// The longest time for which it is kept that nothing was found out. Long enough for a player who tries again and again
/// to cost one question; short enough that a provider that stumbled keeps nobody out for longer than it takes to look
/// what is wrong.
const MAX_NOTHING_KEPT: Duration = Duration::from_secs(30);

/// That time is also at most one part in so many of the time for which answers are kept.
const NOTHING_SHARE: u32 = 10;

/// What answers are kept by: an IPv4 address itself, the /64 of an IPv6 one. That is the least that one customer is
/// given, so all of it is in one country and one network, and devices change their address within it every day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(IpAddr);

impl Key {
    /// The key of an address, which must not be an IPv4-mapped one.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

#[derive(Debug)]
struct Kept {
    answer: Option<Place>,
    until: Instant,
    number: u64,
}

/// A bounded number of answers. When it is full, the oldest goes.
#[derive(Debug)]
pub(super) struct Cache {
    /// Zero keeps nothing.
    ttl: Duration,
    kept: HashMap<Key, Kept>,
    /// Their numbers, in the order in which they came. The number of one that was replaced stays until its turn.
    order: VecDeque<(Key, u64)>,
    /// Of the next one.
    number: u64,
}

impl Cache {
    /// Keeps places for `ttl`, and for a shorter time that nothing was found out.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, kept: HashMap::new(), order: VecDeque::new(), number: 0 }
    }

    /// Keeps places for so long from now on. What is kept already ends no later than if it had come now.
    pub(super) fn keep_for(&mut self, ttl: Duration, now: Instant) {
        self.ttl = ttl;
        let (place, nothing) = (now + self.time(true), now + self.time(false));
        for kept in self.kept.values_mut() {
            kept.until = kept.until.min(if kept.answer.is_some() { place } else { nothing });
        }
    }

    fn time(&self, is_place: bool) -> Duration {
        if is_place { self.ttl } else { (self.ttl / NOTHING_SHARE).min(MAX_NOTHING_KEPT) }
    }

    /// What is known: nothing, or the place, or that there was nothing to be found out.
    #[expect(clippy::option_option, reason = "that nothing could be found out is an answer as well")]
    pub(super) fn find(&self, key: Key, now: Instant) -> Option<Option<Place>> {
        self.kept.get(&key).filter(|kept| now < kept.until).map(|kept| kept.answer)
    }

    /// Keeps an answer.
    pub(super) fn keep(&mut self, key: Key, answer: Option<Place>, now: Instant) {
        let time = self.time(answer.is_some());
        if time.is_zero() {
            return;
        }
        let number = self.number;
        self.number += 1;
        self.kept.insert(key, Kept { answer, until: now + time, number });
        self.order.push_back((key, number));
        while let Some((oldest, number)) = self.order.front().copied() {
            // A newer answer about the same address has its own place in the order.
            let kept = self.kept.get(&oldest).filter(|kept| kept.number == number);
            if kept.is_some_and(|kept| now < kept.until) && self.order.len() <= MAX_KEPT {
                return;
            }
            if kept.is_some() {
                self.kept.remove(&oldest);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of(text.parse().unwrap())
    }

    const PLACE: Option<Place> = Some(Place { country: None, asn: Some(64_496) });

    #[test]
    fn addresses_of_one_customer_are_one() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("203.0.113.5"), key("203.0.113.6"));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_have_their_time() {
        for (ttl, place, nothing) in [(300, 300, 30), (100, 100, 10), (86_400, 86_400, 30), (0, 0, 0)] {
            let (mut cache, now) = (Cache::new(Duration::from_secs(ttl)), Instant::now());
            cache.keep(key("203.0.113.1"), PLACE, now);
            cache.keep(key("203.0.113.2"), None, now);
            for (address, answer, seconds) in [("203.0.113.1", PLACE, place), ("203.0.113.2", None, nothing)]
            {
                let end = now + Duration::from_secs(seconds);
                if seconds > 0 {
                    assert_eq!(cache.find(key(address), end - Duration::from_millis(1)), Some(answer));
                }
                assert_eq!(cache.find(key(address), end), None, "{address} {ttl}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_answer_outlives_the_older_one() {
        let mut cache = Cache::new(Duration::from_mins(5));
        let (key, start) = (key("203.0.113.1"), Instant::now());
        cache.keep(key, None, start);
        let later = start + Duration::from_secs(30);
        cache.keep(key, PLACE, later);
        assert_eq!(cache.order.len(), 1, "the first was replaced");
        assert_eq!(cache.find(key, later), Some(PLACE));
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_come_so_many_are_kept() {
        let (mut cache, now) = (Cache::new(Duration::from_mins(5)), Instant::now());
        let nth = |n: u32| Key::of(IpAddr::V4(n.into()));
        let most = u32::try_from(MAX_KEPT).unwrap();
        for n in 0..most + 2 {
            cache.keep(nth(n), PLACE, now);
        }
        assert_eq!((cache.kept.len(), cache.order.len()), (MAX_KEPT, MAX_KEPT));
        assert_eq!(
            [0, 1, 2, most + 1].map(|n| cache.find(nth(n), now).is_some()),
            [false, false, true, true]
        );
        // The same address over and over.
        for _ in 0..MAX_KEPT * 2 {
            cache.keep(nth(7), None, now);
        }
        assert_eq!((cache.kept.len(), cache.order.len()), (1, 1));
        // Once their time is over, the next one sweeps them out.
        let later = now + Duration::from_mins(10);
        cache.keep(nth(8), PLACE, later);
        assert_eq!((cache.kept.len(), cache.order.len()), (1, 1));
    }
}
