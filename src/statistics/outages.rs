//! The outages so far: how many, how long, and the newest one by one.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::totals::Outages;
use crate::reason::Reason;

/// Outages that are kept one by one: years of them, in some 100 KB of file at the most.
const MOST_KEPT: usize = 100;

/// One outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` if that has not been seen.
    pub ended: Option<Timestamp>,
    /// How long it lasted, in seconds; if its end has not been seen, how long it was seen to last.
    pub seconds: u64,
    /// Logins that policy let in meanwhile.
    #[serde(default)]
    pub admitted: u64,
    /// Logins refused meanwhile for want of the session server's word, by reason code. Who hung up, or ran out of time,
    /// while policy's word was kept back counts by that word; the try after it, which is told, is not counted again.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

impl Outage {
    /// One that has just begun.
    pub fn begun(started: Timestamp) -> Self {
        Self { started, ended: None, seconds: 0, admitted: 0, refused: BTreeMap::new() }
    }

    /// Refusals for all reasons together.
    pub fn all_refused(&self) -> u64 {
        self.refused.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// When it was over, or else when it was last seen.
    pub fn last_seen(&self) -> Timestamp {
        let length = jiff::SignedDuration::from_secs(i64::try_from(self.seconds).unwrap_or(i64::MAX));
        self.ended.unwrap_or_else(|| self.started.saturating_add(length).unwrap_or(Timestamp::MAX))
    }
}

/// Whether a refusal for this reason, in an outage, is one that the outage is to blame for: policy's word, a PIN that was
/// not given, or the session server's silence. Scanners, full servers and backends that fail have no part in it.
pub(super) const fn in_tally(reason: Reason) -> bool {
    match reason {
        Reason::Banned
        | Reason::MojangRequired
        | Reason::NoSession
        | Reason::IdMismatch
        | Reason::Locked
        | Reason::SessionExpired
        | Reason::Inactive
        | Reason::ShortHistory
        | Reason::PrivateAddress
        | Reason::SharedAddress
        | Reason::AddressChanged
        | Reason::BlockedAsn
        | Reason::GeoChanged
        | Reason::GeoUnknown
        | Reason::AlreadyOnline
        | Reason::WeakerClient
        | Reason::PinNotSet
        | Reason::PinFailed
        | Reason::PinTimeout
        | Reason::Unreachable => true,
        Reason::NotJoined
        | Reason::Throttled
        | Reason::Unexpected
        | Reason::Local
        | Reason::RateLimited
        | Reason::TooManyConnections
        | Reason::BadHandshake
        | Reason::BadName
        | Reason::NewerVersionNeeded
        | Reason::TransferRefused
        | Reason::ClientLeft
        | Reason::ClientTimeout
        | Reason::BackendUnavailable
        | Reason::BackendMisconfigured
        | Reason::Displaced
        | Reason::Kicked
        | Reason::ShuttingDown => false,
    }
}

/// All outages. Told of them in the order in which they happen.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Those that are not kept one by one any more, and their length together in seconds.
    older: (u64, u64),
    /// Oldest first, at most [`MOST_KEPT`].
    newest: VecDeque<Outage>,
    /// Whether the last one is going on in this run. An open one that is not was left open by the last run.
    going_on: bool,
}

impl From<Outages> for History {
    fn from(totals: Outages) -> Self {
        let mut newest = VecDeque::from(totals.newest);
        newest.drain(..newest.len().saturating_sub(MOST_KEPT));
        let kept = u64::try_from(newest.len()).unwrap_or(u64::MAX);
        let older = (totals.count.saturating_sub(kept), totals.seconds.saturating_sub(length(&newest)));
        Self { older, newest, going_on: false }
    }
}

impl History {
    /// The outage that began at `started` is going on at `now`. If it is the last one, it never ended.
    pub(super) fn began(&mut self, started: Timestamp, now: Timestamp) {
        match self.newest.back_mut() {
            Some(last) if last.started == started => last.ended = None,
            _ => {
                self.close(None);
                self.newest.push_back(Outage::begun(started));
                if self.newest.len() > MOST_KEPT
                    && let Some(oldest) = self.newest.pop_front()
                {
                    self.older.0 = self.older.0.saturating_add(1);
                    self.older.1 = self.older.1.saturating_add(oldest.seconds);
                }
            }
        }
        self.going_on = true;
        self.seen(now);
    }

    /// This one is going on, and was before this history was told of it.
    pub(super) fn goes_on(&mut self, outage: Outage) {
        self.began(outage.started, outage.last_seen());
        if let Some(last) = self.newest.back_mut() {
            *last = outage;
        }
    }

    /// The one that is going on is told of elsewhere from now on. Here it was left open.
    pub(super) fn leave(&mut self) {
        self.going_on = false;
    }

    /// None is going on any more, since `at`. Returns the one that ended by it.
    pub(super) fn ended(&mut self, at: Timestamp) -> Option<Outage> {
        let seen = self.going_on.then_some(at);
        self.close(seen).cloned()
    }

    /// A login was let in by policy, in the outage that began then; if that is not known (the verdict was not Down yet),
    /// in the one that is going on.
    pub(super) fn admitted(&mut self, started: Option<Timestamp>) {
        let going_on = self.going_on;
        if let Some(last) = self.newest.back_mut().filter(|last| going_on || Some(last.started) == started) {
            last.admitted = last.admitted.saturating_add(1);
        }
    }

    /// A login was refused.
    pub(super) fn refused(&mut self, reason: Reason) {
        let Some(last) = self.newest.back_mut().filter(|_| self.going_on) else { return };
        match last.refused.get_mut(reason.code()) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(last.refused.insert(reason.code().to_owned(), 1)),
        }
    }

    /// The one that is going on, if there is one, still is.
    pub(super) fn seen(&mut self, now: Timestamp) {
        if self.going_on
            && let Some(last) = self.newest.back_mut()
        {
            // A clock that was set back takes nothing away.
            last.seconds = last.seconds.max(seconds_between(last.started, now));
        }
    }

    pub(super) fn is_going_on(&self) -> bool {
        self.going_on
    }

    /// The one that is going on.
    pub(super) fn going_on(&self) -> Option<&Outage> {
        self.newest.back().filter(|_| self.going_on)
    }

    /// The one that began then.
    pub(super) fn of(&self, started: Timestamp) -> Option<&Outage> {
        self.newest.iter().rfind(|outage| outage.started == started)
    }

    pub(super) fn totals(&self) -> Outages {
        let kept = u64::try_from(self.newest.len()).unwrap_or(u64::MAX);
        Outages {
            count: self.older.0.saturating_add(kept),
            seconds: self.older.1.saturating_add(length(&self.newest)),
            newest: self.newest.iter().cloned().collect(),
        }
    }

    /// Ends the last one if it is open: at `at`, or else when it was last seen.
    fn close(&mut self, at: Option<Timestamp>) -> Option<&Outage> {
        self.going_on = false;
        let last = self.newest.back_mut().filter(|last| last.ended.is_none())?;
        let end = at.unwrap_or_else(|| last.last_seen());
        last.ended = Some(end);
        last.seconds = seconds_between(last.started, end);
        Some(last)
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or_default()
}

fn length(outages: &VecDeque<Outage>) -> u64 {
    outages.iter().fold(0, |sum, outage| sum.saturating_add(outage.seconds))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// So many minutes into the day.
    fn at(minutes: i64) -> Timestamp {
        let day: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        day + SignedDuration::from_mins(minutes)
    }

    fn outage(started: i64, ended: i64) -> Outage {
        let seconds = u64::try_from((ended - started) * 60).unwrap();
        Outage { ended: Some(at(ended)), seconds, ..Outage::begun(at(started)) }
    }

    fn open(started: i64, seen: i64) -> Outage {
        Outage { ended: None, ..outage(started, seen) }
    }

    /// What the next run makes of what this one wrote.
    fn restarted(history: &History) -> History {
        History::from(history.totals())
    }

    #[test]
    fn outages_have_a_beginning_an_end_and_a_length() {
        let mut history = History::default();
        assert_eq!(history.totals(), Outages::default());
        history.ended(at(5));
        assert_eq!(history.totals().count, 0, "Up at the start ends nothing");
        history.began(at(10), at(10));
        assert_eq!(history.totals(), Outages { count: 1, seconds: 0, newest: vec![open(10, 10)] });
        history.seen(at(15));
        assert_eq!(history.totals().newest, [open(10, 15)]);
        history.seen(at(12));
        assert_eq!(history.totals().newest, [open(10, 15)], "the clock was set back");
        history.ended(at(20));
        history.seen(at(60));
        history.began(at(100), at(100));
        history.ended(at(130));
        let newest = vec![outage(10, 20), outage(100, 130)];
        assert_eq!(history.totals(), Outages { count: 2, seconds: 40 * 60, newest });
    }

    #[test]
    fn one_that_comes_and_goes_is_one() {
        let mut history = History::default();
        for (began, ended) in [(10, 20), (25, 30), (31, 40)] {
            history.began(at(10), at(began));
            assert!(history.is_going_on());
            history.ended(at(ended));
            assert!(!history.is_going_on());
        }
        assert_eq!(history.totals(), Outages { count: 1, seconds: 1800, newest: vec![outage(10, 40)] });
    }

    #[test]
    fn each_has_a_tally_of_its_own() {
        let mut history = History::default();
        history.admitted(None);
        history.refused(Reason::NoSession);
        history.began(at(10), at(10));
        for _ in 0..3 {
            history.admitted(Some(at(10)));
            history.refused(Reason::NoSession);
        }
        history.refused(Reason::PinFailed);
        // Let in before anybody knew of the outage.
        history.admitted(Some(at(9)));
        let going_on = history.going_on().unwrap();
        assert_eq!((going_on.admitted, going_on.all_refused()), (4, 4));
        let ended = history.ended(at(20)).unwrap();
        let refused = BTreeMap::from([("no-session".to_owned(), 3), ("pin-failed".to_owned(), 1)]);
        assert_eq!((ended.admitted, &ended.refused), (4, &refused));
        assert_eq!(history.ended(at(21)), None);
        assert_eq!(history.going_on(), None);
        // A login that was let in meanwhile gets in only now; one that is refused now has nothing to do with it.
        history.admitted(Some(at(10)));
        history.admitted(None);
        history.refused(Reason::NoSession);
        // The same one after a restart, then another.
        let mut history = restarted(&history);
        history.began(at(10), at(30));
        history.admitted(Some(at(10)));
        let ended = history.ended(at(31)).unwrap();
        assert_eq!((ended.admitted, ended.all_refused()), (6, 4));
        history.began(at(50), at(50));
        assert_eq!(history.going_on(), Some(&open(50, 50)));
        assert_eq!(history.of(at(10)), Some(&ended));
        assert_eq!(history.of(at(11)), None);
    }

    #[test]
    fn a_restart_in_the_middle_makes_no_second_one() {
        let mut history = History::default();
        history.began(at(10), at(10));
        history.seen(at(20));
        let mut history = restarted(&history);
        assert!(!history.is_going_on(), "nobody knows yet");
        history.seen(at(25));
        assert_eq!(history.totals().newest, [open(10, 20)], "not seen");
        history.began(at(10), at(30));
        assert_eq!(history.totals(), Outages { count: 1, seconds: 1200, newest: vec![open(10, 30)] });
        history.ended(at(40));
        assert_eq!(history.totals().newest, [outage(10, 40)]);
    }

    #[test]
    fn one_whose_end_nobody_saw_ends_when_it_was_last_seen() {
        for another in [false, true] {
            let mut history = History::default();
            history.began(at(10), at(10));
            history.seen(at(20));
            let mut history = restarted(&history);
            if another {
                history.began(at(900), at(900));
                assert_eq!(history.totals().newest, [outage(10, 20), open(900, 900)]);
            } else {
                history.ended(at(900));
                assert_eq!(history.totals().newest, [outage(10, 20)]);
                history.began(at(10), at(901));
                assert_eq!(
                    history.totals().newest,
                    [open(10, 901)],
                    "Up was forced, and it was the same after all"
                );
            }
        }
    }

    #[test]
    fn the_newest_are_kept_and_the_sums_of_all() {
        let mut history = History::default();
        for hour in 0..150 {
            history.began(at(hour * 60), at(hour * 60));
            history.ended(at(hour * 60 + 7));
            if hour % 50 == 20 {
                history = restarted(&history);
            }
        }
        let totals = history.totals();
        assert_eq!((totals.count, totals.seconds, totals.newest.len()), (150, 150 * 7 * 60, MOST_KEPT));
        assert_eq!(totals.newest.first(), Some(&outage(50 * 60, 50 * 60 + 7)));
    }

    #[test]
    fn a_file_that_says_too_much_or_nonsense() {
        let newest: Vec<_> = (0..200).map(|hour| outage(hour * 60, hour * 60 + 1)).collect();
        let totals = History::from(Outages { count: 3, seconds: 5, newest }).totals();
        assert_eq!((totals.count, totals.seconds, totals.newest.len()), (100, 6000, 100));
        let forever = Outage { seconds: u64::MAX, ..Outage::begun(at(0)) };
        let mut history = History::from(Outages { count: 1, seconds: u64::MAX, newest: vec![forever; 2] });
        history.ended(at(5));
        assert_eq!(history.totals().newest[1].ended, Some(Timestamp::MAX));
    }
}
