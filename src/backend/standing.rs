//! Whether a backend can be expected to answer, as far as the tries of the last seconds tell.

use std::time::Duration;

use tokio::time::Instant;

/// How long a backend rests that could not be reached: long enough to spare the next players its connect timeout, short
/// enough that it is back soon after a restart.
pub(super) const REST: Duration = Duration::from_secs(10);

/// How long a trial may be under way: as long as a login may take until the backend has said its first word.
pub(super) const TRIAL_TIME: Duration = Duration::from_secs(25);

/// What the last tries say of a backend.
///
/// ```text
///            a try fails                 the rest is over, and
///   Ready ----------------> Resting ---- somebody asks for it ----> OnTrial
///     ^                      ^  ^                                    |  |
///     |                      |  +--- the trial fails ----------------+  |
///     |                      +--- the trial is given up (rest over) ----+
///     +--- any try succeeds, the trial among them ----------------------+
/// ```
///
/// A backend that rests or is on trial stands last for everybody else; it is still tried if nothing else is left. A
/// trial that is overdue counts as given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In its place.
    Ready,
    /// Last in line.
    Resting {
        /// From then on, one may try it in its place.
        until: Instant,
    },
    /// One is trying it in its place; last in line for everybody else.
    OnTrial(Trial),
}

/// The right of one to try a backend while it is last in line for everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// From then on, the next may try.
    until: Instant,
}

/// What somebody who wants to try a backend in its place is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Go on, like everybody else.
    Open,
    /// Go on, on trial.
    Trial(Trial),
    /// Try the others first.
    Later,
}

impl Standing {
    /// What [`claim`](Self::claim) would say, without taking the trial.
    pub(super) fn is_last(self, now: Instant) -> bool {
        match self {
            Self::Ready => false,
            Self::Resting { until } | Self::OnTrial(Trial { until }) => now < until,
        }
    }

    /// Asks for a turn in its place; the first after a rest takes the trial.
    pub(super) fn claim(&mut self, now: Instant) -> Turn {
        if *self == Self::Ready {
            return Turn::Open;
        }
        if self.is_last(now) {
            return Turn::Later;
        }
        let trial = Trial { until: now + TRIAL_TIME };
        *self = Self::OnTrial(trial);
        Turn::Trial(trial)
    }

    /// A try led to nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        *self = Self::Resting { until: now + REST };
    }

    /// A try led to the backend.
    pub(super) fn reached(&mut self) {
        *self = Self::Ready;
    }

    /// The trial ended without a result: the next may try. Says nothing if it was overdue and another is under way.
    pub(super) fn give_up(&mut self, trial: Trial, now: Instant) {
        if *self == Self::OnTrial(trial) {
            *self = Self::Resting { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tries_after_a_rest_and_the_rest_waits_for_the_outcome() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut standing = Standing::Ready;
        assert_eq!(standing.claim(at(0)), Turn::Open);
        standing.failed(at(0));
        assert_eq!(standing.claim(at(9)), Turn::Later);
        assert!(standing.is_last(at(9)) && !standing.is_last(at(10)));
        // Looking takes nothing.
        assert!(!standing.is_last(at(10)));
        let Turn::Trial(first) = standing.claim(at(10)) else { panic!("{standing:?}") };
        assert_eq!(standing.claim(at(10)), Turn::Later);
        // It fails, and the backend rests again.
        standing.failed(at(12));
        assert_eq!(standing.claim(at(21)), Turn::Later);
        let Turn::Trial(second) = standing.claim(at(22)) else { panic!("{standing:?}") };
        // One that was over long ago says nothing any more.
        standing.give_up(first, at(22));
        assert_eq!(standing.claim(at(23)), Turn::Later);
        // Given up: the next may try at once.
        standing.give_up(second, at(23));
        let Turn::Trial(third) = standing.claim(at(23)) else { panic!("{standing:?}") };
        // Overdue: the next may try too, and the late one's end is not the end of that.
        assert_eq!(standing.claim(at(47)), Turn::Later);
        let Turn::Trial(_) = standing.claim(at(48)) else { panic!("{standing:?}") };
        standing.give_up(third, at(49));
        assert_eq!(standing.claim(at(49)), Turn::Later);
        // It succeeds: back for all.
        standing.reached();
        assert_eq!((standing.claim(at(49)), standing.claim(at(49))), (Turn::Open, Turn::Open));
    }
}
