//! Failures, counted for each target over a while that moves on with time.

use std::{hash::RandomState, time::Duration};

use ipnet::IpNet;

use super::{
    table::{FEWER, MANY, Table},
    target::Target,
};
use crate::identity::NameKey;

/// Targets of one kind whose failures are remembered: those of [`MANY`] clients, pairs and subnets each, and of
/// [`FEWER`] networks, since nobody can make up where he comes from. Each costs some 200 bytes, 450 at most.
///
/// What somebody can do who has many addresses, or makes up many names: new failures push out targets that failed
/// once, and no others until half of all places hold such as failed more often. So whoever wants his own count
/// forgotten must bring some fourteen thousand other clients that fail at least twice each within the time a failure
/// counts; and he could have used those for his tries in the first place, at nine each. What he cannot do: let one kind
/// of target push out another, since each has places of its own; or get anybody else counted, since nothing is shared
/// between targets.
pub(super) const MAX_COUNTED: usize = MANY;
/// See [`MAX_COUNTED`].
pub(super) const MAX_NETWORKS: usize = FEWER;

/// Pairs of client and name that were refused lately. Beyond that the oldest is forgotten, and would count once more.
const MAX_REFUSED: usize = MANY;

/// Up to that limit every failure keeps its own time.
const EXACT: u32 = 32;

/// Above it, failures within this part of the while share the time of the first of them.
const GRAINS: u32 = 32;

/// Time since the start, in tenths of a second: thirteen years of them.
pub(super) type Tenths = u32;

/// In tenths of a second, for [`Counter`].
pub(super) fn tenths(time: Duration) -> Tenths {
    u32::try_from(time.as_millis() / 100).unwrap_or(Tenths::MAX)
}

/// Failures that count as one: when, and how many.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Tenths,
    failures: u32,
}

/// The failures of every target of one kind.
#[derive(Debug)]
pub(super) struct Counter {
    limit: u32,
    lasting: Tenths,
    grain: Tenths,
    /// Oldest first; never empty.
    targets: Table<Target, Vec<Mark>>,
}

impl Counter {
    /// At `limit` failures within `lasting` a target has failed too often.
    pub(super) fn new(limit: u32, lasting: Duration, capacity: usize) -> Self {
        let mut counter = Self { limit: 0, lasting: 1, grain: 0, targets: Table::new(capacity) };
        counter.adopt(limit, lasting);
        counter
    }

    /// Judges by this from now on, also what was counted before.
    pub(super) fn adopt(&mut self, limit: u32, lasting: Duration) {
        self.limit = limit;
        self.lasting = tenths(lasting).max(1);
        self.grain = if limit <= EXACT { 0 } else { self.lasting / GRAINS };
    }

    /// Counts one failure. Once there are too many, says how many and forgets them.
    pub(super) fn fail(&mut self, target: Target, now: Tenths) -> Option<u32> {
        let (lasting, grain) = (self.lasting, self.grain);
        let counts = |mark: &Mark| now.saturating_sub(mark.at) < lasting;
        self.targets.drop_ended(|marks| !marks.last().is_some_and(counts));
        let Some(marks) = self.targets.get_mut(&target) else {
            if self.limit <= 1 {
                return Some(1);
            }
            self.targets.put(target, vec![Mark { at: now, failures: 1 }]);
            return None;
        };
        marks.retain(counts);
        match marks.last_mut() {
            Some(newest) if now.saturating_sub(newest.at) <= grain => {
                newest.failures = newest.failures.saturating_add(1);
            }
            _ => marks.push(Mark { at: now, failures: 1 }),
        }
        let failures = marks.iter().fold(0_u32, |sum, mark| sum.saturating_add(mark.failures));
        if failures >= self.limit {
            self.targets.remove(&target);
            return Some(failures);
        }
        if failures > 1 {
            self.targets.keep(&target);
        } else {
            self.targets.touch(&target);
        }
        None
    }

    /// Whether one failure more than `pending` others would be beyond the limit.
    pub(super) fn is_spent(&self, target: &Target, pending: u32, now: Tenths) -> bool {
        let marks = self.targets.get(target).into_iter().flatten();
        let counts = marks.filter(|mark| now.saturating_sub(mark.at) < self.lasting);
        counts.fold(pending, |sum, mark| sum.saturating_add(mark.failures)) >= self.limit
    }

    /// Forgets what a target did. Whether there was anything.
    pub(super) fn forget(&mut self, target: &Target) -> bool {
        self.targets.remove(target).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // The allocator gives no less than 16 bytes.
        let marks = |marks: &Vec<Mark>| (marks.capacity() * size_of::<Mark>()).max(16);
        self.targets.bytes() + self.targets.iter().map(|(_, list)| marks(list)).sum::<usize>()
    }
}

/// Who was refused lately under which name: only the first time counts.
#[derive(Debug)]
pub(super) struct Refused {
    /// Keyed, so that nobody can choose names that fall together. Two that do all the same (one in 2^64) count as one.
    hashing: RandomState,
    lasting: Tenths,
    first: Table<u64, Tenths>,
}

impl Refused {
    pub(super) fn new(lasting: Duration) -> Self {
        Self { hashing: RandomState::new(), lasting: tenths(lasting).max(1), first: Table::new(MAX_REFUSED) }
    }

    /// Lets one count again after this time from now on.
    pub(super) fn adopt(&mut self, lasting: Duration) {
        self.lasting = tenths(lasting).max(1);
    }

    /// Whether this is the first refusal of that name from that client for as long as failures count.
    pub(super) fn is_first(&mut self, client: IpNet, name: &NameKey, now: Tenths) -> bool {
        use std::hash::BuildHasher;
        let lasting = self.lasting;
        self.first.drop_ended(|at| now.saturating_sub(*at) >= lasting);
        let key = self.hashing.hash_one((client, name));
        if self.first.get(&key).is_some_and(|at| now.saturating_sub(*at) < lasting) {
            return false;
        }
        self.first.put(key, now);
        true
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.first.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Username;

    const MINUTE: Tenths = 600;

    fn target(n: u32) -> Target {
        Target::Asn(n)
    }

    /// Which of the failures, each at its minute, was one too many.
    fn bans(limit: u32, minutes: &[Tenths]) -> Vec<usize> {
        let mut counter = Counter::new(limit, Duration::from_mins(30), 100);
        let fail = |(n, minute): (usize, &Tenths)| counter.fail(target(1), minute * MINUTE).map(|_| n + 1);
        minutes.iter().enumerate().filter_map(fail).collect()
    }

    #[test]
    fn the_limit_within_the_while_and_neither_less_nor_longer() {
        for (name, limit, minutes, expected) in [
            ("at once", 3, &[0, 0, 0][..], &[3][..]),
            ("the first is one too many", 1, &[0, 1], &[1, 2]),
            ("in time", 3, &[0, 10, 29], &[3]),
            ("the first no longer counts", 3, &[0, 10, 30], &[]),
            ("but the others do", 3, &[0, 10, 30, 35], &[4]),
            ("all are over", 3, &[0, 10, 60, 65], &[]),
            ("two and two at the seam", 3, &[0, 20, 35, 45], &[4]),
            ("it begins anew", 3, &[0, 0, 0, 0, 0, 0, 0], &[3, 6]),
        ] {
            assert_eq!(bans(limit, minutes), expected, "{name}");
        }
    }

    #[test]
    fn high_limits_are_counted_to_a_thirtieth_of_the_while() {
        let mut counter = Counter::new(1_000_000, Duration::from_mins(30), 100);
        for second in 0..3000 {
            for _ in 0..500 {
                assert_eq!(counter.fail(target(1), second * 10), None, "{second}");
            }
            let marks = counter.targets.get(&target(1)).unwrap();
            assert!(marks.len() <= 34, "{second}: {marks:?}");
            let sum: u32 = marks.iter().map(|mark| mark.failures).sum();
            let exact = 500 * (second + 1).min(1800);
            assert!(sum <= exact && sum >= exact - exact / 30, "{second}: {sum} of {exact}");
        }
        let mut counter = Counter::new(100, Duration::from_mins(30), 100);
        let bans = (0..200).filter(|n| counter.fail(target(1), n * 50).is_some()).count();
        assert_eq!(bans, 2);
    }

    #[test]
    fn targets_are_counted_apart_and_forgotten_alone() {
        let mut counter = Counter::new(3, Duration::from_mins(30), 100);
        for n in 1..=2 {
            assert_eq!((counter.fail(target(n), 0), counter.fail(target(n), 0)), (None, None));
        }
        assert!(counter.forget(&target(1)));
        assert!(!counter.forget(&target(1)));
        assert_eq!(counter.fail(target(1), 1), None);
        assert_eq!(counter.fail(target(2), 1), Some(3));
        assert!(!counter.forget(&target(2)), "a ban takes its place");
    }

    #[test]
    fn a_flood_of_clients_does_not_wash_a_count_away() {
        let mut counter = Counter::new(3, Duration::from_mins(30), 1000);
        counter.fail(target(0), 0);
        counter.fail(target(0), 0);
        for n in 1..100_000 {
            counter.fail(target(n), 1);
            assert!(counter.len() <= 1000);
        }
        assert_eq!(counter.fail(target(0), 2), Some(3));
    }

    #[test]
    fn what_is_over_goes_by_itself() {
        let mut counter = Counter::new(3, Duration::from_mins(30), 1000);
        (0..500).for_each(|n| _ = counter.fail(target(n), 0));
        // Each new one takes two with it.
        (0..250).for_each(|n| _ = counter.fail(target(1000 + n), 30 * MINUTE));
        assert_eq!(counter.len(), 250);
    }

    #[test]
    fn only_the_first_refusal_of_a_name_counts() {
        let mut refused = Refused::new(Duration::from_mins(30));
        let client = |text: &str| crate::address::limit_key(text.parse().unwrap());
        let key = |name| Username::parse(name).unwrap().key();
        let home = client("203.0.113.5");
        assert!(refused.is_first(home, &key("Notch"), 0));
        assert!(!refused.is_first(home, &key("nOTCH"), 29 * MINUTE), "it is over when the first is");
        assert!(refused.is_first(home, &key("jeb_"), 29 * MINUTE));
        assert!(refused.is_first(client("203.0.113.6"), &key("Notch"), 29 * MINUTE));
        assert!(refused.is_first(home, &key("Notch"), 30 * MINUTE));
        assert!(!refused.is_first(home, &key("Notch"), 59 * MINUTE));
        assert_eq!(refused.len(), 1, "what is over goes by itself");
    }
}
