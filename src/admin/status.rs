//! The state of the proxy in one answer, for the console page, for commands and for monitors.

use std::collections::BTreeMap;

use hyper::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Handles,
    answer::{self, Answer},
    server::Shared,
};
use crate::{
    alert::webhook,
    audit,
    clock::Clock,
    mojang::health::{self, Verdict},
    statistics::{self, Outage, Totals},
};

/// All that is told at once. Nothing in it is a secret, and nothing names a player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This program's.
    pub version: String,
    /// `starting`, `ready` or `stopping`.
    pub stage: String,
    /// When the proxy began to answer here.
    pub started: Timestamp,
    /// The time of this answer.
    pub now: Timestamp,
    /// From the one to the other, whatever was done to the wall clock.
    pub uptime_seconds: u64,
    /// The verdict on the session server.
    pub auth: Auth,
    /// The outage that is going on.
    pub outage: Option<Current>,
    /// Connections and logins, and how many there may be.
    pub connections: Connections,
    /// Who is in, or held until its PIN is right.
    pub players: Counts,
    /// Logins since installation; `None` if they are not counted.
    pub logins: Option<Logins>,
    /// The newest logins that succeeded, oldest first.
    pub recent_logins: Vec<RecentLogin>,
    /// Outages since installation; none if they are not counted.
    pub outages: Outages,
    /// Remembered players.
    pub sessions: usize,
    /// Bans in force.
    pub bans: usize,
    /// How audit.log does.
    pub audit: AuditLog,
    /// How those do who are told over HTTP.
    pub webhooks: Webhooks,
}

/// How the hooks do, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhooks {
    /// How many there are.
    pub hooks: usize,
    /// Alerts and messages that wait.
    pub queued: usize,
    /// Alerts and messages that are lost, since the start.
    pub dropped: u64,
    /// Hooks whose newest message did not get through.
    pub failing: usize,
}

/// How audit.log does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    /// Events that wait to be written.
    pub queued: usize,
    /// Events that are in no line, because too many waited.
    pub dropped: u64,
    /// Whether the disk takes no lines at the moment.
    pub failing: bool,
}

/// The verdict on the session server, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// `up`, `degraded` or `down`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// What the owner forces.
    #[serde(rename = "override")]
    pub forced: Option<Forced>,
    /// The newest active check.
    pub last_probe: Option<LastProbe>,
    /// What is done with known players during an outage: `enabled`, `dry-run` or `disabled`.
    pub fallback: String,
}

/// A verdict that the owner forces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// `up` or `down`.
    pub mode: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// An active check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastProbe {
    /// When it ended.
    pub at: Timestamp,
    /// The class of its outcome; `not-joined` is the healthy one.
    pub outcome: String,
}

/// An outage that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// When it began, over restarts.
    pub started: Timestamp,
    /// Logins let in by policy so far.
    pub admitted: u64,
    /// Logins refused so far for want of the session server's word.
    pub refused: u64,
    /// The same by reason code.
    pub refused_by_reason: BTreeMap<String, u64>,
}

/// How many connections and logins there are and may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Connections that are open, of players and of whoever else.
    pub open: u32,
    /// Most of them.
    pub max: u32,
    /// Logins under way.
    pub pending_logins: u32,
    /// Most of them.
    pub max_pending_logins: u32,
}

/// How many players there are, by how they were proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All, those who are held included.
    pub total: usize,
    /// On the session server's word.
    pub verified: usize,
    /// By policy.
    pub fallback: usize,
    /// By policy and PIN.
    pub pinned: usize,
    /// Not in before their PIN is right.
    pub held: usize,
}

/// Logins since installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logins {
    /// Since when is counted.
    pub since: Timestamp,
    /// On the session server's word.
    pub verified: u64,
    /// By policy.
    pub fallback: u64,
    /// Refused.
    pub refused: u64,
    /// The same by reason code.
    pub refused_by_reason: BTreeMap<String, u64>,
}

/// A login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentLogin {
    /// When its player was in.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How its player was proven: `verified`, `fallback` or `pinned`.
    pub proof: String,
}

/// Outages since installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outages {
    /// How many.
    pub count: u64,
    /// How long they lasted together, in seconds.
    pub seconds: u64,
    /// The newest, oldest first.
    pub newest: Vec<Outage>,
}

/// What the configuration in use says of which answers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `auth.fallback`, as it is written there.
    pub fallback: &'static str,
}

/// When the interface began to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    at: Timestamp,
    instant: Instant,
}

impl Began {
    pub(super) fn now(clock: &Clock) -> Self {
        Self { at: clock.now(), instant: Instant::now() }
    }
}

/// `GET /api/status`
pub(super) fn show(shared: &Shared) -> Answer {
    answer::object(StatusCode::OK, &status(shared))
}

/// The state as of now.
pub(super) fn status(shared: &Shared) -> Status {
    let handles = &*shared.handles;
    let health = handles.health.status();
    let outage = match health.verdict {
        Verdict::Down { outage_started } => Some(going_on(handles, outage_started)),
        Verdict::Up | Verdict::Degraded => None,
    };
    let (logins, outages) = handles.statistics.totals().map_or((None, Outages::default()), told);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        stage: handles.phase.stage().word().to_owned(),
        started: shared.began.at,
        now: handles.clock.now(),
        uptime_seconds: shared.began.instant.elapsed().as_secs(),
        auth: auth(handles, &health),
        outage,
        connections: (handles.connections)(),
        players: handles.players.counts(),
        logins,
        recent_logins: recent(handles),
        outages,
        sessions: handles.store.len(),
        bans: handles.bans.count_in_force().iter().sum(),
        audit: audit_log(handles),
        webhooks: webhooks(handles),
    }
}

fn recent(handles: &Handles) -> Vec<RecentLogin> {
    let told = |login: statistics::RecentLogin| RecentLogin {
        at: login.at,
        ms: login.ms,
        proof: login.proof.to_owned(),
    };
    handles.statistics.recent_logins().into_iter().map(told).collect()
}

fn webhooks(handles: &Handles) -> Webhooks {
    let figures = handles.alerts.webhooks().map(webhook::Webhooks::figures).unwrap_or_default();
    let webhook::Figures { hooks, queued, dropped, failing, .. } = figures;
    Webhooks { hooks, queued, dropped, failing }
}

fn audit_log(handles: &Handles) -> AuditLog {
    let audit::Figures { queued, dropped, failing, .. } = handles.audit.figures();
    AuditLog { queued, dropped, failing }
}

/// The outage that began then, and what became of its logins.
fn going_on(handles: &Handles, started: Timestamp) -> Current {
    // It hears of a change a moment later than the verdict is known.
    let counted = handles.statistics.current_outage().filter(|outage| outage.started == started);
    let (admitted, refused, refused_by_reason) =
        counted.map(|outage| (outage.admitted, outage.all_refused(), outage.refused)).unwrap_or_default();
    Current { started, admitted, refused, refused_by_reason }
}

fn told(totals: Totals) -> (Option<Logins>, Outages) {
    let refused = totals.all_refused();
    let Totals { since, verified, fallback, refused: refused_by_reason, outages } = totals;
    let logins = Logins { since, verified, fallback, refused, refused_by_reason };
    (Some(logins), Outages { count: outages.count, seconds: outages.seconds, newest: outages.newest })
}

/// The verdict alone.
pub(super) fn auth(handles: &Handles, health: &health::Status) -> Auth {
    let forced =
        health.forced.map(|forced| Forced { mode: forced.verdict.label().to_owned(), until: forced.until });
    let last_probe =
        health.last_probe.map(|(at, outcome)| LastProbe { at, outcome: outcome.label().to_owned() });
    Auth {
        state: health.verdict.label().to_owned(),
        since: health.since,
        forced,
        last_probe,
        fallback: (handles.facts)().fallback.to_owned(),
    }
}
