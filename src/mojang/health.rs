//! The verdict on the session server: what it can be, and the handle by which others see and move it.

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};

pub use super::monitor::start;
use super::{
    classify::{Outcome, OutcomeClass, Why},
    machine::Vote,
    metrics::VerdictMetrics,
};
use crate::metric;

/// Longest time for which a verdict may be forced.
pub const MAX_OVERRIDE: Duration = Duration::from_hours(24);

/// When the verdict changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between probes while all is well.
    pub check_interval: Duration,
    /// Between probes from the first failure until the verdict is clear.
    pub retry_interval: Duration,
    /// Failures until Down.
    pub failure_threshold: u32,
    /// Good probes in a row until Up, or out of Down.
    pub recovery_threshold: u32,
    /// Whether `Throttled` counts as a failure.
    pub treat_throttling_as_outage: bool,
    /// Where the start of an outage is kept until the state is Up again.
    pub outage_file: PathBuf,
}

/// Whether the session server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Up,
    /// Some recent failures, or it throttles us, or nothing is known yet. Logins are as when Up.
    Degraded,
    /// It does not: known players may join from their sessions.
    Down {
        /// When this outage began, over restarts.
        outage_started: Timestamp,
    },
}

impl Verdict {
    /// Whether the fallback path is open.
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// The stable lower-case name for audit.log, metrics and the admin interface.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down { .. } => "down",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What an owner can force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedVerdict {
    /// Online mode whatever happens; fallback in place is off too.
    Up,
    /// The fallback path.
    Down,
}

impl ForcedVerdict {
    /// The stable lower-case name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// An order to force a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// Which.
    pub verdict: ForcedVerdict,
    /// For how long: more than nothing, at most [`MAX_OVERRIDE`].
    pub lasting: Duration,
}

/// A forced verdict that holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Which.
    pub verdict: ForcedVerdict,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// An override was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// Not between 1 s and 24 h.
    #[error("a verdict can be forced for 1 second to 24 hours")]
    Duration,
    /// The monitor has ended.
    #[error("the health monitor has stopped")]
    Stopped,
}

/// What the monitor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What logins go by.
    pub verdict: Verdict,
    /// When the verdict became this.
    pub since: Timestamp,
    /// The override, if there is one.
    pub forced: Option<Forced>,
    /// When the newest outage began, over restarts; kept until the state below any override is Up again.
    pub outage_started: Option<Timestamp>,
    /// The newest active probe.
    pub last_probe: Option<(Timestamp, OutcomeClass)>,
    /// When it last gave a definite answer, yes or no, to a probe or a login.
    pub last_answer: Option<Instant>,
}

impl Status {
    /// Whether the owner has forced Up, which also switches off fallback in place.
    pub fn is_forced_up(&self) -> bool {
        self.forced.is_some_and(|forced| forced.verdict == ForcedVerdict::Up)
    }
}

/// Why the verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Failed checks and logins since the last healthy check.
    Failures {
        /// How many.
        failures: u32,
        /// The newest; `None` is throttling that the owner counts as an outage.
        last: Option<Why>,
    },
    /// A check was throttled.
    Throttled,
    /// Healthy checks in a row.
    Healthy {
        /// How many.
        checks: u32,
    },
    /// Checks in a row that were answered, though not as they should be.
    OddAnswers {
        /// How many.
        checks: u32,
    },
    /// The owner forced the verdict.
    Forced,
    /// An override ended.
    OverrideEnded,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failures: 1, last: Some(why) } => write!(f, "a check or login failed: {why}"),
            Self::Failures { failures: 1, last: None } => f.write_str("a check was throttled"),
            Self::Failures { failures, last: Some(why) } => {
                write!(f, "{failures} failed checks or logins, the last: {why}")
            }
            Self::Failures { failures, last: None } => {
                write!(f, "{failures} failed checks or logins, the last: throttled")
            }
            Self::Throttled => f.write_str("it throttles this machine's address"),
            Self::Healthy { checks: 1 } => f.write_str("a good check"),
            Self::Healthy { checks } => write!(f, "{checks} good checks in a row"),
            Self::OddAnswers { checks } => {
                write!(f, "{checks} checks in a row answered, though throttled or oddly")
            }
            Self::Forced => f.write_str("forced by the owner"),
            Self::OverrideEnded => f.write_str("the owner's override has ended"),
        }
    }
}

/// A change of the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The verdict before.
    pub from: Verdict,
    /// The verdict now.
    pub to: Verdict,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Timestamp,
}

/// What became of an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideChange {
    /// The owner set it.
    Set(Forced),
    /// The owner took it back.
    Cleared,
    /// Its time was over.
    Expired,
}

/// What the monitor reports for audit, metrics and alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The verdict changed.
    State(Transition),
    /// An override began or ended, whether or not the verdict changed by it (if so, the change follows).
    Override {
        /// What happened.
        change: OverrideChange,
        /// When.
        at: Timestamp,
    },
}

/// Hears of every event, on the monitor's task: must not block.
pub type Listener = Box<dyn Fn(&Event) + Send>;

/// Starts one active probe.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// What a probe asked for by [`Health::probe_now`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The class of its outcome.
    pub class: OutcomeClass,
    /// Whether it confirms an outage: `Unreachable`, or `Throttled` where the owner counts that as one.
    pub failed: bool,
}

/// What the monitor is told. Overrides and probes come with who waits for them.
#[derive(Debug)]
pub(super) enum Input {
    Vote(Vote),
    HungUp(IpNet),
    Probe(oneshot::Sender<Probed>),
    /// `None` ends the override.
    Override(Option<Override>, oneshot::Sender<()>),
    /// Somebody wants to know whether there is an answer.
    Ping(oneshot::Sender<()>),
}

/// The handle on the monitor. Clones are the same monitor.
#[derive(Clone, Debug)]
pub struct Health {
    status: watch::Receiver<Status>,
    inputs: mpsc::Sender<Input>,
    limits: Arc<Limits>,
    fresh: Arc<Fresh>,
    metrics: VerdictMetrics,
}

/// A configuration on its way to the monitor. Not among the inputs, which may be lost.
#[derive(Default)]
pub(super) struct Fresh {
    newest: Mutex<Option<(Config, Probe)>>,
    arrived: Notify,
}

impl Fresh {
    /// The newest one, once there is one.
    pub(super) async fn taken(&self) -> (Config, Probe) {
        loop {
            match self.take() {
                Some(newest) => return newest,
                None => self.arrived.notified().await,
            }
        }
    }

    /// The newest one, if there is one.
    pub(super) fn take(&self) -> Option<(Config, Probe)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh")
    }
}

/// When our own limits were last hit. No messages, since a flood is when there are most of them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// See [`Health::note_local_limit`].
    machine: Mutex<Option<Instant>>,
    /// See [`Health::note_limit_hit`].
    calls: Mutex<Option<Instant>>,
}

impl Limits {
    /// When anything was wanting that a probe needs too.
    pub(super) fn machine(&self) -> Option<Instant> {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When any limit was hit.
    pub(super) fn any(&self) -> Option<Instant> {
        self.machine().max(*self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Health {
    /// The handle on a monitor that owns the other ends.
    pub(super) fn new(
        status: watch::Receiver<Status>,
        inputs: mpsc::Sender<Input>,
        limits: Arc<Limits>,
        fresh: Arc<Fresh>,
        metrics: VerdictMetrics,
    ) -> Self {
        Self { status, inputs, limits, fresh, metrics }
    }

    /// Has the verdict, and what is counted of it, read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &metric::Registry) -> Result<(), metric::Error> {
        self.metrics.register(self, registry)
    }

    /// Goes by another configuration, and asks another server, from now on. Verdict, override and counts stay: what the
    /// next probe finds is judged by the new thresholds. A probe that is under way is broken off and begun anew, so this
    /// is not for a configuration that is the same. The start of an outage moves to the new file.
    pub fn adopt(&self, config: Config, probe: Probe) {
        *self.fresh.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((config, probe));
        self.fresh.arrived.notify_one();
    }

    /// What is known now. Once the monitor has ended nothing is Down any more: nobody would notice its end.
    pub fn status(&self) -> Status {
        let mut status = *self.status.borrow();
        if status.verdict.is_down() && self.status.has_changed().is_err() {
            status.verdict = Verdict::Degraded;
        }
        status
    }

    /// The verdict alone.
    pub fn verdict(&self) -> Verdict {
        self.status().verdict
    }

    /// Sees every later change of the status.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// A client of this subnet (IPv6: /48, IPv4: the configured range) closed after our encryption request without an
    /// answer, as it does when its own join call fails. A rise of these brings a probe forward and does no more:
    /// anybody can hang up.
    pub fn hang_up(&self, subnet: IpNet) {
        self.tell(Input::HungUp(subnet));
    }

    /// This machine was at a limit that a probe may run into too (descriptors, connections, a runtime held up): for a
    /// minute a login's silence is no vote, and the silence that a probe meets meanwhile is no failure. Cheap.
    pub fn note_local_limit(&self) {
        *self.limits.machine.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A limit of ours kept somebody out: a connection or a login was one too many, or a has-joined call was not made
    /// because the share of calls for such players is used up. For a minute a login's silence is no vote. Probes have
    /// no part in those limits (they have descriptors and a connection of their own), so theirs still counts; else a
    /// few connections a second would hide an outage. Cheap.
    pub fn note_limit_hit(&self) {
        *self.limits.calls.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Asks for an active probe begun after this call, and waits for its end. Callers who ask while one is running
    /// share the next. The request is made at once, also if the returned future is polled later.
    pub fn probe_now(&self) -> impl Future<Output = Probed> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        self.tell(Input::Probe(tx));
        async move { rx.await.unwrap_or(Probed { class: OutcomeClass::Local, failed: false }) }
    }

    /// Forces a verdict for a while, in place of any earlier order. Returns once it holds.
    pub async fn set_override(&self, order: Override) -> Result<(), OverrideError> {
        if order.lasting < Duration::from_secs(1) || order.lasting > MAX_OVERRIDE {
            return Err(OverrideError::Duration);
        }
        self.order(Some(order)).await
    }

    /// Gives the verdict back to the probes. Returns once it holds.
    pub async fn clear_override(&self) -> Result<(), OverrideError> {
        self.order(None).await
    }

    /// Waits until the monitor has dealt with everything that it was told before. `false` if it has ended; whoever takes
    /// a long silence for an end has to measure it.
    pub async fn answers(&self) -> bool {
        let (tx, rx) = oneshot::channel();
        self.inputs.send(Input::Ping(tx)).await.is_ok() && rx.await.is_ok()
    }

    pub(super) fn vote(&self, vote: Vote) {
        self.tell(Input::Vote(vote));
    }

    async fn order(&self, order: Option<Override>) -> Result<(), OverrideError> {
        let (tx, rx) = oneshot::channel();
        let stopped = OverrideError::Stopped;
        self.inputs.send(Input::Override(order, tx)).await.map_err(|_| stopped)?;
        rx.await.map_err(|_| stopped)
    }

    fn tell(&self, input: Input) {
        // A full queue only delays a verdict. A closed one: the program stops.
        let _ = self.inputs.try_send(input);
    }
}
