//! The rules by which the verdict changes: a pure state machine, told what happened and when.

use std::{collections::VecDeque, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    classify::{Outcome, OutcomeClass, Why},
    health::{Cause, Config, Event, Forced, ForcedVerdict, OverrideChange, Status, Transition, Verdict},
};

/// For so long after one of our own limits was hit, a login's silence is no vote.
const LIMIT_MEMORY: Duration = Duration::from_mins(1);

/// Hang-ups from so many distinct subnets within `HANG_UP_WINDOW` are a rise worth a probe.
const HANG_UP_SUBNETS: usize = 5;

/// See [`HANG_UP_SUBNETS`]; also the shortest time between two probes for this reason.
const HANG_UP_WINDOW: Duration = Duration::from_secs(10);

/// The same instant on the wall (for people and files) and on the monotonic clock (for every rule).
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) tick: Instant,
}

/// How often to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// All is well: about this often, so that many proxies started together do not probe together.
    Steady(Duration),
    /// The verdict is not clear: exactly this often.
    Fast(Duration),
}

/// What a login found that bears on the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    /// Unreachable, still so after its retry.
    Unreachable(Why),
    /// Throttled to the end.
    Throttled,
    /// A definite answer, yes or no.
    Answered,
}

/// What the owner of the machine has to do after an input.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// To be logged, audited, counted, alerted; in order.
    pub(super) events: Vec<Event>,
    /// Probe at once, or once the probe that is running has ended.
    pub(super) probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    Degraded,
    Down,
}

/// The verdict's state.
///
/// A *failed* probe is `Unreachable` (with `treat_throttling_as_outage` also `Throttled`), a *healthy* one is
/// `NotJoined`, an *odd* one is `Throttled`, `Unexpected` or `Verified` (nobody can have joined as the probe, so what
/// vouches for it is not Mojang). `Local` probes change nothing, nor would a `Held` one, which asked nothing.
///
/// Logins can ask for probes out of turn. Those end an outage early, but failed ones count at most once per retry
/// interval: on a busy server they would otherwise turn a moment's blip into an outage.
///
/// ```text
///             start                    recovery_threshold healthy probes in a row
///               |        +-------------------------------------------------------------+
///               v        |                                                             v
///           Degraded ----+                                                             Up
///            |    ^   ^---- failed probe, throttled probe, a login's vote -------------+ ^
///            |    |                                                                      |
///            |    +-- recovery_threshold probes in a row not failed, some odd --+        |
///            |                                                                  |        |
///            +-- failure_threshold failures (probes and votes) since the -->  Down ------+
///                last healthy probe, a failed probe among them          recovery_threshold
///                                                                       healthy in a row
/// ```
///
/// With a failure threshold of 1, Up goes straight to Down. A forced verdict lies over all this and hides it; the
/// states below go on. Logins alone reach Degraded at the most, and nothing that a login does postpones leaving Down.
#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    phase: Phase,
    /// Failed probes and votes since the last healthy probe (or since Down was left).
    failures: u32,
    /// Whether a failed probe is among them.
    probe_failed: bool,
    /// When the newest probe among them began.
    counted: Option<Instant>,
    /// Healthy probes in a row.
    healthy_streak: u32,
    /// Probes in a row that were not failed.
    answering_streak: u32,
    /// Start of the outage: from when the verdict first is Down until the phase is Up and nothing forces Down.
    outage: Option<Timestamp>,
    forced: Option<(Forced, Instant)>,
    /// When the verdict last changed.
    since: Timestamp,
    last_probe: Option<(Timestamp, OutcomeClass)>,
    last_answer: Option<Instant>,
    last_limit: Option<Instant>,
    /// Newest hang-up per subnet, oldest first; at most `HANG_UP_SUBNETS`.
    hang_ups: VecDeque<(IpNet, Instant)>,
    hang_up_probe: Option<Instant>,
}

impl Machine {
    /// A fresh machine. `outage` is the start of an outage that was under way when the last run ended.
    pub(super) fn new(config: Config, outage: Option<Timestamp>, now: Moment) -> Self {
        Self {
            config,
            phase: Phase::Degraded,
            failures: 0,
            probe_failed: false,
            counted: None,
            healthy_streak: 0,
            answering_streak: 0,
            outage,
            forced: None,
            since: now.at,
            last_probe: None,
            last_answer: None,
            last_limit: None,
            hang_ups: VecDeque::with_capacity(HANG_UP_SUBNETS),
            hang_up_probe: None,
        }
    }

    /// Judges what comes by another configuration.
    pub(super) fn adopt(&mut self, config: Config) {
        self.config = config;
    }

    pub(super) fn status(&self) -> Status {
        Status {
            verdict: self.verdict(),
            since: self.since,
            forced: self.forced.map(|(forced, _)| forced),
            outage_started: self.outage,
            last_probe: self.last_probe,
            last_answer: self.last_answer,
        }
    }

    /// What is to be kept on disk.
    pub(super) fn outage(&self) -> Option<Timestamp> {
        self.outage
    }

    /// When the override ends.
    pub(super) fn override_ends(&self) -> Option<Instant> {
        self.forced.map(|(_, end)| end)
    }

    /// Time from the start of one probe to the next. A forced verdict does not slow the probes below it.
    pub(super) fn pace(&self) -> Pace {
        match self.phase {
            Phase::Up => Pace::Steady(self.config.check_interval),
            Phase::Degraded | Phase::Down => Pace::Fast(self.config.retry_interval),
        }
    }

    fn is_failure(&self, class: OutcomeClass) -> bool {
        match class {
            OutcomeClass::Unreachable => true,
            OutcomeClass::Throttled => self.config.treat_throttling_as_outage,
            _ => false,
        }
    }

    /// Whether this is what a failed probe found.
    pub(super) fn failed_by(&self, outcome: &Outcome) -> bool {
        !matches!(outcome, Outcome::Held { .. }) && self.is_failure(outcome.class())
    }

    /// An active probe has ended that began at `began`.
    pub(super) fn probed(&mut self, outcome: &Outcome, began: Instant, now: Moment) -> Effects {
        if matches!(outcome, Outcome::Held { .. }) {
            return Effects::default();
        }
        let class = outcome.class();
        self.last_probe = Some((now.at, class));
        if class == OutcomeClass::Local {
            // Says nothing about the server, but that our own side is in trouble.
            self.limit_hit(now.tick);
            return Effects::default();
        }
        let failed = self.is_failure(class);
        let healthy = class == OutcomeClass::NotJoined;
        self.answering_streak = if failed { 0 } else { self.answering_streak.saturating_add(1) };
        self.healthy_streak = if healthy { self.healthy_streak.saturating_add(1) } else { 0 };
        if healthy {
            self.last_answer = Some(now.tick);
            self.forget_failures();
        }
        if failed {
            if self.counted.is_some_and(|at| began.duration_since(at) < self.config.retry_interval) {
                return Effects::default();
            }
            self.counted = Some(began);
            self.probe_failed = true;
            let reason = if let Outcome::Unreachable(why) = outcome { Some(*why) } else { None };
            return self.failed(reason, now);
        }
        let enough = self.config.recovery_threshold.max(1);
        let (phase, cause) = match self.phase {
            Phase::Up if class == OutcomeClass::Throttled => (Phase::Degraded, Cause::Throttled),
            Phase::Degraded | Phase::Down if self.healthy_streak >= enough => {
                (Phase::Up, Cause::Healthy { checks: self.healthy_streak })
            }
            Phase::Down if self.answering_streak >= enough => {
                // The next Down needs failures, and a failed probe, of its own.
                self.forget_failures();
                (Phase::Degraded, Cause::OddAnswers { checks: self.answering_streak })
            }
            phase => (phase, Cause::Throttled),
        };
        self.enter(phase, cause, now)
    }

    /// A login has come to its end.
    pub(super) fn voted(&mut self, vote: Vote, now: Moment) -> Effects {
        let (why, answered) = match vote {
            Vote::Answered => {
                self.last_answer = Some(now.tick);
                return Effects { probe: self.phase == Phase::Down, ..Effects::default() };
            }
            Vote::Throttled if !self.config.treat_throttling_as_outage => return Effects::default(),
            Vote::Throttled => (None, false),
            Vote::Unreachable(why) => (Some(why), why.is_answered()),
        };
        let flooded = self.last_limit.is_some_and(|at| now.tick.duration_since(at) < LIMIT_MEMORY);
        // A login's failure does not keep Down open either.
        if self.phase == Phase::Down || (flooded && !answered) {
            return Effects::default();
        }
        self.failed(why, now)
    }

    /// One of our own limits was hit at `tick`.
    pub(super) fn limit_hit(&mut self, tick: Instant) {
        self.last_limit = self.last_limit.max(Some(tick));
    }

    /// A client hung up after our encryption request, as it does when its own join call fails.
    pub(super) fn hung_up(&mut self, subnet: IpNet, now: Moment) -> Effects {
        self.hang_ups.retain(|(seen, at)| *seen != subnet && now.tick.duration_since(*at) <= HANG_UP_WINDOW);
        self.hang_ups.push_back((subnet, now.tick));
        let recently = self.hang_up_probe.is_some_and(|at| now.tick.duration_since(at) < HANG_UP_WINDOW);
        if self.hang_ups.len() < HANG_UP_SUBNETS {
            return Effects::default();
        }
        if recently {
            self.hang_ups.pop_front();
            return Effects::default();
        }
        self.hang_ups.clear();
        self.hang_up_probe = Some(now.tick);
        Effects { probe: true, ..Effects::default() }
    }

    /// The owner forces a verdict for a while; it replaces the last such order.
    pub(super) fn force(&mut self, verdict: ForcedVerdict, lasting: Duration, now: Moment) -> Effects {
        let until = now.at.saturating_add(jiff::SignedDuration::try_from(lasting).unwrap_or_default());
        let forced = Forced { verdict, until: until.unwrap_or(Timestamp::MAX) };
        let before = self.verdict();
        self.forced = Some((forced, now.tick + lasting));
        self.overridden(before, OverrideChange::Set(forced), Cause::Forced, now)
    }

    /// The owner gives the verdict back to the probes.
    pub(super) fn unforce(&mut self, now: Moment) -> Effects {
        self.end_override(OverrideChange::Cleared, now)
    }

    /// Time has passed: an override may have expired.
    pub(super) fn elapsed(&mut self, now: Moment) -> Effects {
        if self.override_ends().is_some_and(|end| end <= now.tick) {
            self.end_override(OverrideChange::Expired, now)
        } else {
            Effects::default()
        }
    }

    fn end_override(&mut self, change: OverrideChange, now: Moment) -> Effects {
        let before = self.verdict();
        if self.forced.take().is_none() {
            return Effects::default();
        }
        self.overridden(before, change, Cause::OverrideEnded, now)
    }

    fn overridden(&mut self, before: Verdict, change: OverrideChange, cause: Cause, now: Moment) -> Effects {
        let mut effects = self.published(before, cause, now);
        effects.events.insert(0, Event::Override { change, at: now.at });
        effects
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.probe_failed = false;
        self.counted = None;
    }

    /// Counts a failure, of a probe or a vote.
    fn failed(&mut self, why: Option<Why>, now: Moment) -> Effects {
        self.failures = self.failures.saturating_add(1);
        let down = self.probe_failed && self.failures >= self.config.failure_threshold.max(1);
        let phase = if down || self.phase == Phase::Down { Phase::Down } else { Phase::Degraded };
        self.enter(phase, Cause::Failures { failures: self.failures, last: why }, now)
    }

    fn enter(&mut self, phase: Phase, cause: Cause, now: Moment) -> Effects {
        if phase == self.phase {
            return Effects::default();
        }
        let before = self.verdict();
        // What was answered before the change is no step of the way back.
        if self.phase == Phase::Up || phase == Phase::Down {
            self.healthy_streak = 0;
            self.answering_streak = 0;
        }
        self.phase = phase;
        self.published(before, cause, now)
    }

    /// Settles the outage's start and reports a changed verdict.
    fn published(&mut self, before: Verdict, cause: Cause, now: Moment) -> Effects {
        let forced_down = matches!(self.forced, Some((Forced { verdict: ForcedVerdict::Down, .. }, _)));
        if forced_down || self.phase == Phase::Down {
            self.outage.get_or_insert(now.at);
        } else if self.phase == Phase::Up {
            self.outage = None;
        }
        let to = self.verdict();
        let mut effects = Effects::default();
        if to != before {
            self.since = now.at;
            effects.events.push(Event::State(Transition { from: before, to, cause, at: now.at }));
        }
        effects
    }

    fn verdict(&self) -> Verdict {
        let down = Verdict::Down { outage_started: self.outage.unwrap_or(self.since) };
        match (self.forced, self.phase) {
            (Some((Forced { verdict: ForcedVerdict::Up, .. }, _)), _) | (None, Phase::Up) => Verdict::Up,
            (Some((Forced { verdict: ForcedVerdict::Down, .. }, _)), _) | (None, Phase::Down) => down,
            (None, Phase::Degraded) => Verdict::Degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mojang::classify::{LocalFault, Oddity, Verified};

    const DOWN_AFTER: u32 = 3;

    /// What happens to the machine, one per retry interval.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Probes.
        Good,
        Fail,
        Slow,
        Held,
        Odd,
        Vouch,
        Ours,
        /// The same again, out of turn: half a second after what came before.
        FailSoon,
        GoodSoon,
        /// Logins.
        Mute,
        Vote503,
        VoteSlow,
        Login,
        /// One of our own limits.
        Limit,
        /// Time passes.
        Minute,
    }
    use Step::*;

    struct Run {
        machine: Machine,
        now: Moment,
        last: Effects,
    }

    fn config() -> Config {
        Config {
            check_interval: Duration::from_secs(30),
            retry_interval: Duration::from_secs(2),
            failure_threshold: DOWN_AFTER,
            recovery_threshold: 2,
            treat_throttling_as_outage: false,
            outage_file: "unused".into(),
        }
    }

    fn start() -> Moment {
        Moment { at: "2026-11-21T20:00:00Z".parse().unwrap(), tick: Instant::now() }
    }

    impl Run {
        fn with(config: Config, kept: Option<Timestamp>) -> Self {
            let now = start();
            Self { machine: Machine::new(config, kept, now), now, last: Effects::default() }
        }

        fn new() -> Self {
            Self::with(config(), None)
        }

        fn up() -> Self {
            let mut run = Self::new();
            run.go(&[Good, Good]);
            assert_eq!(run.label(), "up");
            run
        }

        fn down() -> Self {
            let mut run = Self::up();
            run.go(&[Fail, Fail, Fail]);
            assert_eq!(run.label(), "down");
            run
        }

        fn pass(&mut self, time: Duration) {
            self.now.at += jiff::SignedDuration::try_from(time).unwrap();
            self.now.tick += time;
        }

        fn go(&mut self, steps: &[Step]) -> &mut Self {
            for step in steps {
                self.pass(match step {
                    FailSoon | GoodSoon => Duration::from_millis(500),
                    _ => Duration::from_secs(2),
                });
                let (machine, now) = (&mut self.machine, self.now);
                self.last = match step {
                    Good | GoodSoon => machine.probed(&Outcome::NotJoined, now.tick, now),
                    Fail | FailSoon => machine.probed(&Outcome::Unreachable(Why::TimedOut), now.tick, now),
                    Slow => machine.probed(&Outcome::Throttled { retry_after: None }, now.tick, now),
                    Held => machine.probed(&Outcome::Held { left: Duration::from_secs(9) }, now.tick, now),
                    Odd => machine.probed(&Outcome::Unexpected(Oddity::Status(404)), now.tick, now),
                    Vouch => machine.probed(&Outcome::Verified(Verified::made_up()), now.tick, now),
                    Ours => machine.probed(&Outcome::Local(LocalFault::Lagging), now.tick, now),
                    Mute => machine.voted(Vote::Unreachable(Why::TimedOut), now),
                    Vote503 => machine.voted(Vote::Unreachable(Why::Answered(503)), now),
                    VoteSlow => machine.voted(Vote::Throttled, now),
                    Login => machine.voted(Vote::Answered, now),
                    Limit => {
                        machine.limit_hit(now.tick);
                        Effects::default()
                    }
                    Minute => {
                        self.pass(Duration::from_mins(1));
                        Effects::default()
                    }
                };
            }
            self
        }

        fn label(&self) -> &'static str {
            self.machine.status().verdict.label()
        }
    }

    #[test]
    fn verdicts() {
        type Row<'a> = (&'a str, fn() -> Run, &'a [Step], &'a str);
        let rows: &[Row<'_>] = &[
            ("nothing known yet", Run::new, &[], "degraded"),
            ("one good probe is not enough", Run::new, &[Good], "degraded"),
            ("two in a row are", Run::new, &[Good, Good], "up"),
            ("in a row means in a row", Run::new, &[Good, Slow, Good], "degraded"),
            ("an odd answer breaks the row", Run::new, &[Good, Odd, Good], "degraded"),
            ("whoever vouches for a probe is not Mojang", Run::new, &[Vouch, Vouch, Vouch], "degraded"),
            ("and wipes no failures out", Run::up, &[Fail, Fail, Vouch, Fail], "down"),
            ("nor is a reason to change", Run::up, &[Vouch, Vouch, Vouch], "up"),
            ("but it answers", Run::down, &[Vouch, Vouch], "degraded"),
            (
                "probes out of turn turn no blip into an outage",
                Run::up,
                &[Fail, FailSoon, FailSoon, FailSoon],
                "degraded",
            ),
            ("once per retry interval they count", Run::up, &[Fail, FailSoon, Fail, FailSoon], "degraded"),
            (
                "however many there are",
                Run::up,
                &[Fail, FailSoon, FailSoon, FailSoon, FailSoon, FailSoon, FailSoon, FailSoon, FailSoon],
                "down",
            ),
            ("votes add to them", Run::up, &[Fail, FailSoon, Mute, FailSoon, Mute], "down"),
            ("the first after a good one counts", Run::up, &[Fail, GoodSoon, FailSoon, Fail, Fail], "down"),
            ("our own fault does not", Run::new, &[Good, Ours, Good], "up"),
            ("down from the start", Run::new, &[Fail, Fail, Fail], "down"),
            ("first failure", Run::up, &[Fail], "degraded"),
            ("two failures", Run::up, &[Fail, Fail], "degraded"),
            ("three failures", Run::up, &[Fail, Fail, Fail], "down"),
            ("a good probe wipes them out", Run::up, &[Fail, Fail, Good, Fail, Fail], "degraded"),
            ("throttling does not", Run::up, &[Fail, Fail, Slow, Fail], "down"),
            ("odd answers do not", Run::up, &[Fail, Fail, Odd, Fail], "down"),
            ("a login's success resets nothing", Run::up, &[Fail, Login, Fail, Login, Fail], "down"),
            ("throttled", Run::up, &[Slow], "degraded"),
            ("throttled for ever is no outage", Run::up, &[Slow, Slow, Slow, Slow, Slow, Slow], "degraded"),
            ("odd answers are no reason to change", Run::up, &[Odd, Odd, Odd, Odd], "up"),
            ("nor is our own trouble", Run::up, &[Ours, Ours, Ours, Ours], "up"),
            ("a login's vote", Run::up, &[Mute], "degraded"),
            (
                "logins alone never declare an outage",
                Run::up,
                &[Mute, Mute, Mute, Mute, Mute, Vote503],
                "degraded",
            ),
            ("not even with odd probes", Run::up, &[Mute, Mute, Mute, Slow, Odd, Ours, Mute], "degraded"),
            ("votes and one failed probe do", Run::up, &[Mute, Mute, Fail], "down"),
            ("in any order", Run::up, &[Fail, Mute, Mute], "down"),
            ("votes before a good probe are gone", Run::up, &[Mute, Mute, Good, Fail, Mute], "degraded"),
            ("after a vote, two good probes again", Run::up, &[Mute, Good], "degraded"),
            ("and then up", Run::up, &[Mute, Good, Good], "up"),
            ("a throttled login is no vote", Run::up, &[Fail, VoteSlow, VoteSlow, VoteSlow], "degraded"),
            ("a flood is no outage", Run::up, &[Limit, Mute, Mute, Mute, Fail], "degraded"),
            ("an answered 5xx is one in a flood too", Run::up, &[Limit, Vote503, Vote503, Fail], "down"),
            ("a minute later silence votes again", Run::up, &[Limit, Minute, Mute, Mute, Fail], "down"),
            (
                "probes vote in a flood: they have means of their own",
                Run::up,
                &[Limit, Fail, Fail, Fail],
                "down",
            ),
            ("leaving down", Run::down, &[Good], "down"),
            ("left", Run::down, &[Good, Good], "up"),
            ("not with a failure between", Run::down, &[Good, Fail, Good], "down"),
            ("throttled out of down", Run::down, &[Slow, Slow], "degraded"),
            ("odd answers out of down", Run::down, &[Odd, Slow], "degraded"),
            ("down does not end where nothing was asked", Run::down, &[Held, Held, Held, Held], "down"),
            ("nor does that break a row", Run::down, &[Good, Held, Good], "up"),
            ("nor is it a failure", Run::up, &[Held, Held, Held], "up"),
            ("nor is anything forgotten by it", Run::up, &[Fail, Fail, Held, Held, Fail], "down"),
            ("mixed answers end it, but are not yet up", Run::down, &[Slow, Good], "degraded"),
            ("and one more good one", Run::down, &[Slow, Good, Good], "up"),
            ("votes cannot hold down open", Run::down, &[Good, Mute, Vote503, Mute, Good], "up"),
            ("throttling cannot hold down open", Run::down, &[Good, VoteSlow, Slow], "degraded"),
            ("our own trouble holds it but a moment", Run::down, &[Good, Ours, Good], "up"),
            (
                "once left, old failures are forgotten",
                Run::down,
                &[Slow, Slow, Mute, Mute, Mute, Mute],
                "degraded",
            ),
            ("and down needs its threshold anew", Run::down, &[Slow, Slow, Fail, Fail], "degraded"),
            ("which it may reach", Run::down, &[Slow, Slow, Fail, Fail, Fail], "down"),
        ];
        for (name, begin, steps, want) in rows {
            let mut run = begin();
            run.go(steps);
            assert_eq!(run.label(), *want, "{name}");
        }
    }

    #[test]
    fn throttling_as_outage() {
        let wanted = Config { treat_throttling_as_outage: true, ..config() };
        let rows: &[(&[Step], &str)] = &[
            (&[Good, Good, Slow], "degraded"),
            (&[Slow, Slow, Slow], "down"),
            (&[Slow, VoteSlow, VoteSlow], "down"),
            (&[Slow, Held, Held, Held, Held], "degraded"),
            (&[Good, Held, Good], "up"),
            (&[Slow, Slow, Slow, Held, Held], "down"),
            (&[VoteSlow, VoteSlow, VoteSlow, VoteSlow], "degraded"),
            (&[Limit, Slow, VoteSlow, VoteSlow], "degraded"),
            (&[Slow, Slow, Slow, Good, Slow, Good], "down"),
            (&[Slow, Slow, Slow, Good, Good], "up"),
        ];
        for (steps, want) in rows {
            assert_eq!(Run::with(wanted.clone(), None).go(steps).label(), *want, "{steps:?}");
        }
    }

    #[test]
    fn thresholds_of_one() {
        let quick = Config { failure_threshold: 1, recovery_threshold: 1, ..config() };
        let mut run = Run::with(quick, None);
        assert_eq!(run.go(&[Good]).label(), "up");
        assert_eq!(run.go(&[Mute, Mute]).label(), "degraded");
        assert_eq!(run.go(&[Good, Fail]).label(), "down");
        assert_eq!(run.go(&[Slow]).label(), "degraded");
    }

    #[test]
    fn any_sequence_of_client_events_stays_out_of_down() {
        // Every sequence of five client-made events, from every verdict but Down, between odd probes.
        let client = [Mute, Vote503, VoteSlow, Login, Limit, Slow, Odd, Ours];
        for seed in 0..client.len().pow(5) {
            for begin in [Run::new, Run::up] {
                let mut run = begin();
                let mut rest = seed;
                for _ in 0..5 {
                    run.go(&[client[rest % client.len()]]);
                    rest /= client.len();
                }
                assert_ne!(run.label(), "down", "{seed}");
            }
        }
    }

    #[test]
    fn probes_are_fast_unless_up() {
        let fast = Pace::Fast(Duration::from_secs(2));
        assert_eq!(Run::new().machine.pace(), fast);
        assert_eq!(Run::up().machine.pace(), Pace::Steady(Duration::from_secs(30)));
        assert_eq!(Run::up().go(&[Fail]).machine.pace(), fast);
        assert_eq!(Run::up().go(&[Mute]).machine.pace(), fast);
        assert_eq!(Run::down().machine.pace(), fast);
    }

    #[test]
    fn an_answered_login_asks_for_a_probe_only_while_down() {
        assert!(Run::down().go(&[Login]).last.probe);
        assert!(!Run::up().go(&[Login]).last.probe);
        assert!(!Run::new().go(&[Login]).last.probe);
        assert!(!Run::down().go(&[VoteSlow]).last.probe);
    }

    #[test]
    fn the_last_definite_answer_is_known() {
        let mut run = Run::new();
        run.go(&[Fail, Slow]);
        assert_eq!(run.machine.status().last_answer, None);
        for step in [Good, Login] {
            run.go(&[step]);
            let answered = run.now.tick;
            assert_eq!(run.machine.status().last_answer, Some(answered));
            run.pass(Duration::from_secs(1));
            run.go(&[Fail, Slow, VoteSlow]);
            assert_eq!(run.machine.status().last_answer, Some(answered));
        }
    }

    #[test]
    fn transitions_tell_why() {
        let mut run = Run::up();
        run.go(&[Fail, Mute, Fail]);
        let [Event::State(transition)] = run.last.events[..] else { panic!("{:?}", run.last) };
        assert_eq!(transition.from, Verdict::Degraded);
        assert_eq!(transition.to, Verdict::Down { outage_started: run.now.at });
        assert_eq!(transition.cause, Cause::Failures { failures: 3, last: Some(Why::TimedOut) });
        assert_eq!(run.machine.status().since, run.now.at);
        run.go(&[Fail]);
        assert!(run.last.events.is_empty(), "no change, no event");
        let status = run.machine.status();
        assert_eq!(status.outage_started, Some(status.since));
        assert_eq!(status.last_probe, Some((run.now.at, OutcomeClass::Unreachable)));
        assert!(status.since < run.now.at);
    }

    #[test]
    fn an_outage_starts_once() {
        let mut run = Run::down();
        let began = run.machine.outage().unwrap();
        run.go(&[Slow, Slow]);
        assert_eq!((run.label(), run.machine.outage()), ("degraded", Some(began)), "not yet over");
        run.go(&[Fail, Fail, Fail]);
        assert_eq!(run.machine.status().verdict, Verdict::Down { outage_started: began });
        run.go(&[Good, Good]);
        assert_eq!(run.machine.outage(), None);
    }

    #[test]
    fn a_restart_does_not_move_it() {
        let kept: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let mut run = Run::with(config(), Some(kept));
        assert_eq!((run.label(), run.machine.outage()), ("degraded", Some(kept)));
        run.go(&[Fail, Fail, Fail]);
        assert_eq!(run.machine.status().verdict, Verdict::Down { outage_started: kept });

        let mut over = Run::with(config(), Some(kept));
        over.go(&[Good, Good, Fail, Fail, Fail]);
        assert_eq!(over.machine.status().verdict, Verdict::Down { outage_started: over.now.at });
    }

    #[test]
    fn overrides_hide_the_probes_and_expire() {
        let mut run = Run::up();
        let hour = Duration::from_hours(1);
        let forced_at = run.now.at;
        let effects = run.machine.force(ForcedVerdict::Down, hour, run.now);
        let forced =
            Forced { verdict: ForcedVerdict::Down, until: forced_at + jiff::SignedDuration::from_hours(1) };
        let down = Verdict::Down { outage_started: forced_at };
        let at = forced_at;
        assert_eq!(
            effects.events,
            [
                Event::Override { change: OverrideChange::Set(forced), at },
                Event::State(Transition { from: Verdict::Up, to: down, cause: Cause::Forced, at }),
            ]
        );
        assert_eq!(run.go(&[Good, Good, Good]).machine.status().verdict, down);
        assert_eq!(run.machine.pace(), Pace::Steady(Duration::from_secs(30)));
        run.pass(hour.saturating_sub(Duration::from_secs(7)));
        assert!(run.machine.elapsed(run.now).events.is_empty());
        run.pass(Duration::from_secs(1));
        let events = run.machine.elapsed(run.now).events;
        assert!(matches!(events[0], Event::Override { change: OverrideChange::Expired, .. }), "{events:?}");
        assert!(matches!(events[1], Event::State(Transition { to: Verdict::Up, .. })), "{events:?}");
        assert_eq!(run.machine.outage(), None);
        assert_eq!(run.machine.status().forced, None);
    }

    #[test]
    fn forced_up_covers_an_outage_without_ending_it() {
        let mut run = Run::down();
        let began = run.machine.outage();
        run.machine.force(ForcedVerdict::Up, Duration::from_mins(1), run.now);
        assert_eq!(run.go(&[Fail, Fail]).label(), "up");
        assert!(run.machine.status().is_forced_up());
        assert_eq!(run.machine.outage(), began);
        let events = run.machine.unforce(run.now).events;
        assert!(matches!(events[0], Event::Override { change: OverrideChange::Cleared, .. }));
        assert_eq!(run.machine.status().verdict, Verdict::Down { outage_started: began.unwrap() });
        assert!(run.machine.unforce(run.now).events.is_empty(), "nothing left to clear");
    }

    #[test]
    fn a_forced_verdict_is_reported_even_without_a_change() {
        let mut run = Run::up();
        let events = run.machine.force(ForcedVerdict::Up, Duration::from_mins(1), run.now).events;
        assert!(matches!(events[..], [Event::Override { change: OverrideChange::Set(_), .. }]), "{events:?}");
    }

    fn subnet(n: u8) -> IpNet {
        format!("198.51.{n}.0/24").parse().unwrap()
    }

    #[test]
    fn a_rise_of_hang_ups_asks_for_a_probe_and_no_more() {
        let mut run = Run::up();
        for _ in 0..100 {
            let now = run.now;
            assert!(!run.machine.hung_up(subnet(1), now).probe, "one subnet is no rise");
        }
        let asked: Vec<bool> = (2..=30).map(|n| run.machine.hung_up(subnet(n), run.now).probe).collect();
        assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "rate-limited");
        assert!(asked[3], "the fifth subnet");
        assert!(run.machine.hang_ups.len() <= HANG_UP_SUBNETS);
        assert_eq!(run.label(), "up");
        run.pass(HANG_UP_WINDOW);
        assert!(run.machine.hung_up(subnet(31), run.now).probe, "a rise that goes on asks again");
    }

    #[test]
    fn slow_hang_ups_are_no_rise() {
        let mut run = Run::up();
        for n in 0..50 {
            run.pass(Duration::from_secs(3));
            assert!(!run.machine.hung_up(subnet(n), run.now).probe);
        }
    }
}
