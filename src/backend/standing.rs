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
///     +--- any login gets on, the trial among them ---------------------+
/// ```
///
/// A backend that rests or is on trial stands last for everybody else; it is still tried if nothing else is left. A
/// trial that is overdue counts as given up. An answer to the server list is no success, and no end of a rest: a server
/// that hangs still gives it. A failure says nothing if the backend was heard after that try began, or
/// while another has the trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    state: State,
    /// When it last said something.
    heard: Option<Instant>,
    /// When it last answered the server list.
    answered: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
    /// In its place, as far as anybody knows.
    pub(super) fn new() -> Self {
        Self { state: State::Ready, heard: None, answered: None }
    }

    /// Asks for a turn in its place; the first after a rest takes the trial.
    pub(super) fn claim(&mut self, now: Instant) -> Turn {
        match self.state {
            State::Ready => return Turn::Open,
            State::Resting { until } | State::OnTrial(Trial { until }) if now < until => return Turn::Later,
            State::Resting { .. } | State::OnTrial(_) => {}
        }
        let trial = Trial { until: now + TRIAL_TIME };
        self.state = State::OnTrial(trial);
        Turn::Trial(trial)
    }

    /// A try that began at `begun`, perhaps on trial, led to nothing.
    pub(super) fn failed(&mut self, now: Instant, begun: Instant, trial: Option<Trial>) {
        let heard_since = self.heard.is_some_and(|heard| begun < heard);
        let anothers =
            matches!(self.state, State::OnTrial(current) if Some(current) != trial && now < current.until);
        if !heard_since && !anothers {
            self.state = State::Resting { until: now + REST };
        }
    }

    /// A try led to the backend.
    pub(super) fn reached(&mut self, now: Instant) {
        (self.state, self.heard) = (State::Ready, Some(now));
    }

    /// It answered the server list. A server that hangs may still do that, so this takes no rest from it.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    /// Whether it has said something within the time of a rest, be it in the server list.
    pub(super) fn was_heard_lately(&self, now: Instant) -> bool {
        self.heard.max(self.answered).is_some_and(|heard| now < heard + REST)
    }

    /// The trial ended without a result: the next may try. Says nothing if it was overdue and another is under way.
    pub(super) fn give_up(&mut self, trial: Trial, now: Instant) {
        if self.state == State::OnTrial(trial) {
            self.state = State::Resting { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times after the start, in seconds.
    fn clock() -> impl Fn(u64) -> Instant {
        let start = Instant::now();
        move |seconds| start + Duration::from_secs(seconds)
    }

    fn trial(standing: &mut Standing, now: Instant) -> Trial {
        let Turn::Trial(trial) = standing.claim(now) else { panic!("{standing:?}") };
        trial
    }

    #[test]
    fn one_tries_after_a_rest_and_the_rest_waits_for_the_outcome() {
        let at = clock();
        let mut standing = Standing::new();
        assert_eq!(standing.claim(at(0)), Turn::Open);
        standing.failed(at(0), at(0), None);
        assert_eq!(standing.claim(at(9)), Turn::Later);
        let first = trial(&mut standing, at(10));
        assert_eq!(standing.claim(at(10)), Turn::Later);
        // It fails, and the backend rests again.
        standing.failed(at(12), at(10), Some(first));
        assert_eq!(standing.claim(at(21)), Turn::Later);
        let second = trial(&mut standing, at(22));
        // One that was over long ago says nothing any more.
        standing.give_up(first, at(22));
        assert_eq!(standing.claim(at(23)), Turn::Later);
        // Given up: the next may try at once.
        standing.give_up(second, at(23));
        let third = trial(&mut standing, at(23));
        // Overdue: the next may try too, and the late one's end is not the end of that.
        assert_eq!(standing.claim(at(47)), Turn::Later);
        trial(&mut standing, at(48));
        standing.give_up(third, at(49));
        assert_eq!(standing.claim(at(49)), Turn::Later);
        // It succeeds: back for all.
        standing.reached(at(49));
        assert_eq!((standing.claim(at(49)), standing.claim(at(49))), (Turn::Open, Turn::Open));
    }

    #[test]
    fn late_failures_say_nothing() {
        let at = clock();
        let mut standing = Standing::new();
        // It was heard after that try began.
        standing.reached(at(3));
        standing.failed(at(5), at(0), None);
        assert_eq!(standing.claim(at(5)), Turn::Open);
        // This one began later.
        standing.failed(at(9), at(4), None);
        assert_eq!(standing.claim(at(9)), Turn::Later);
        // Another tries it just now: that will tell.
        let first = trial(&mut standing, at(19));
        standing.failed(at(20), at(8), None);
        standing.give_up(first, at(21));
        let second = trial(&mut standing, at(21));
        standing.failed(at(22), at(19), Some(first));
        assert_eq!(standing.claim(at(40)), Turn::Later);
        standing.failed(at(40), at(21), Some(second));
        assert_eq!(standing.claim(at(49)), Turn::Later);
        // One that is overdue is nobody's any more.
        trial(&mut standing, at(50));
        standing.failed(at(80), at(60), None);
        assert_eq!(standing.claim(at(89)), Turn::Later);
        trial(&mut standing, at(90));
    }
}
