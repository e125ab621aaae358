//! What happened, told to everybody who is to know: a line for whoever reads the log, an event in audit.log, a count in
//! the statistics, an alert for staff.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    chatter::{Chatter, May},
    connection::{Caller, ConnCx, ConnId},
};
use crate::{
    address,
    alert::{Alert, Alerts, AuthState, BanAdded, Fallback, GeoChanged, Ground, Outage, Subject},
    audit::{Audit, Event, Kind},
    backend::{Backend, Entered, Fault, connect::Attempt},
    clock::Clock,
    foreign,
    geo::Geo,
    identity::Username,
    limit::{BanEvent, Target, bans},
    login::{
        self, Admission, PinChange, PinEvent,
        refusal::{Moved, Refusal},
    },
    mojang::health::{self, Listener, OverrideChange, Verdict},
    pin::Gate,
    policy::{Proof, Rules},
    reason::Reason,
    relay::Ended,
    session::{Store, record::Session},
    statistics::Statistics,
};

/// Bans of one kind that audit.log is told of in 10 s; the next line says how many it was not told of. The file of bans
/// has them all.
const BANS_AUDITED: u32 = 200;

/// Where what happens on connections is told, and what it takes to tell it.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) audit: Audit,
    pub(super) alerts: Alerts,
    /// What is counted since installation.
    pub(super) statistics: Statistics,
    /// What is counted since the start.
    pub(super) metrics: login::Metrics,
    pub(super) clock: Clock,
    /// Keeps strangers from filling the log.
    pub(super) chatter: Arc<Chatter>,
    /// Whether anybody is told when a login comes from elsewhere than those before.
    pub(super) alert_on_geo_change: bool,
    /// For what speaks for a player whom policy admits.
    pub(super) store: Store,
    pub(super) geo: Geo,
    pub(super) rules: Rules,
}

impl AsRef<Journal> for Journal {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<Journal> for ConnCx {
    fn as_ref(&self) -> &Journal {
        &self.stay.journal
    }
}

/// The proxy takes connections.
pub(super) fn started(clock: &Clock, addresses: &[SocketAddr]) -> Event {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Event::new(Kind::ProxyStarted, clock.now())
        .field("version", env!("CARGO_PKG_VERSION"))
        .field("listening", json!(addresses))
}

/// Another configuration is in force. Says what changed, and what of it waits for the next start.
pub(super) fn reloaded(clock: &Clock, by: &str, changed: &[String], restart_needed: &[String]) -> Event {
    Event::new(Kind::ConfigReloaded, clock.now())
        .field("result", "ok")
        .field("by", by)
        .field("changed", json!(changed))
        .field("restart_needed", json!(restart_needed))
}

/// The configuration was read again, and for so many problems nothing of it is in force.
pub(super) fn not_reloaded(clock: &Clock, by: &str, problems: usize) -> Event {
    Event::new(Kind::ConfigReloaded, clock.now())
        .field("result", "failed")
        .field("by", by)
        .field("problems", problems)
}

/// Hears of every change of the verdict and of every override. The log lines are the monitor's own.
pub(super) fn of_health(audit: Audit, statistics: Statistics, alerts: Alerts) -> Listener {
    Box::new(move |event| match event {
        health::Event::State(change) => {
            let outage = match change.to {
                Verdict::Down { outage_started: started } => {
                    statistics.outage_began(started);
                    Some(Outage::GoesOn { started })
                }
                // Also one that the last run left open.
                Verdict::Up | Verdict::Degraded => statistics.outage_ended(change.at).map(|outage| {
                    let (started, ended) = (outage.started, outage.ended.unwrap_or(change.at));
                    Outage::Over { started, ended }
                }),
            };
            let lasted = match change.from {
                Verdict::Down { outage_started } => Some(since(outage_started, change.at)),
                Verdict::Up | Verdict::Degraded => None,
            };
            alerts.offer(Alert::AuthState(AuthState {
                from: change.from.label(),
                to: change.to.label(),
                cause: change.cause.to_string(),
                lasted,
                outage,
            }));
            audit.emit(
                Event::new(Kind::AuthState, change.at)
                    .field("from", change.from.label())
                    .field("to", change.to.label())
                    .field("cause", change.cause.to_string()),
            );
        }
        health::Event::Override { change, at } => {
            let event = Event::new(Kind::AuthOverride, *at);
            audit.emit(match change {
                OverrideChange::Set(forced) => event
                    .field("change", "set")
                    .field("verdict", forced.verdict.label())
                    .field("until", forced.until.to_string())
                    // There is no other way.
                    .field("by", "admin"),
                OverrideChange::Cleared => event.field("change", "cleared").field("by", "admin"),
                OverrideChange::Expired => event.field("change", "expired"),
            });
        }
    })
}

/// Hears of every ban that begins or ends.
pub(super) fn of_bans(audit: Audit, alerts: Alerts, clock: Clock, chatter: Arc<Chatter>) -> bans::Listener {
    // Whoever has enough addresses has one of them banned with every tenth attempt.
    let audited = Chatter::new(BANS_AUDITED);
    Box::new(move |event| {
        let (kind, ban) = match event {
            BanEvent::Added(ban) => (Kind::BanAdded, ban),
            BanEvent::Expired(ban) => (Kind::BanExpired, ban),
            BanEvent::Lifted(ban) => (Kind::BanLifted, ban),
        };
        if kind == Kind::BanAdded {
            let (target, failures, until) = (ban.target.to_string(), ban.failures, ban.until);
            alerts.offer(Alert::BanAdded(BanAdded { target, failures, until }));
        }
        let mut line = Event::new(kind, clock.now())
            .field("target", ban.target.to_string())
            .field("failures", ban.failures)
            .field("since", format!("{:.3}", ban.since))
            .field("until", format!("{:.3}", ban.until));
        if let Target::Pair { id, .. } = ban.target {
            line = line.id(id);
        }
        if matches!(event, BanEvent::Lifted(_)) {
            // While the proxy runs there is no other way.
            line = line.field("by", "admin");
        }
        match event {
            // Strangers have no part in these.
            BanEvent::Lifted(_) => audit.emit(line),
            BanEvent::Added(_) | BanEvent::Expired(_) => match audited.may(kind.name()) {
                Some(May { left_out: Some(left_out) }) => audit.emit(line.field("left_out", left_out)),
                Some(May { left_out: None }) => audit.emit(line),
                None => {}
            },
        }
        let Some(May { left_out }) = chatter.may(kind.name()) else { return };
        let (target, failures, until) = (ban.target, ban.failures, ban.until);
        match event {
            BanEvent::Added(_) => info!(%target, failures, %until, left_out, "banned for failed logins"),
            BanEvent::Expired(_) => info!(%target, left_out, "a ban ended"),
            BanEvent::Lifted(_) => info!(%target, left_out, "a ban was lifted"),
        }
    })
}

/// Backends were not there, and the next one was.
pub(super) fn passed_over(to: &impl AsRef<Journal>, caller: &Caller, attempts: &[Attempt]) {
    let journal = to.as_ref();
    for attempt in attempts {
        warn!(backend = attempt.backend, error = attempt.error, "could not be reached; the next one was");
        journal.audit.emit(
            caller
                .event(Kind::BackendError, &journal.clock)
                .backend(&attempt.backend)
                .reason("unreachable")
                .field("cause", attempt.error.clone()),
        );
    }
}

/// A player is in.
pub(super) fn joined(to: &impl AsRef<Journal>, caller: &Caller, admission: &Admission, entered: &Entered) {
    passed_over(to, caller, &entered.passed_over);
    let profile = admission.admitted.profile();
    let guest = Guest {
        name: &profile.name,
        id: profile.id,
        claimed_id: admission.named.claimed_id,
        backend: Some(&entered.backend.name),
    };
    let proof = admission.admitted.proof();
    let facts = (&admission.facts, admission.outage_started);
    admitted(to, caller, &guest, proof, facts, admission.moved.as_deref());
}

/// A player, as far as every event about it states it.
pub(super) struct Guest<'a> {
    pub(super) name: &'a Username,
    pub(super) id: Uuid,
    pub(super) claimed_id: Option<Uuid>,
    /// The backend's name, once it has met one.
    pub(super) backend: Option<&'a str>,
}

impl Guest<'_> {
    fn event(&self, event: Event) -> Event {
        let claimed_id = self.claimed_id.filter(|claimed| *claimed != self.id);
        let event = event.player(self.name.as_str()).id(self.id).claimed_id(claimed_id);
        match self.backend {
            Some(backend) => event.backend(backend),
            None => event,
        }
    }
}

/// A player is in, for these facts; by policy since there is that outage.
pub(super) fn admitted(
    to: &impl AsRef<Journal>,
    caller: &Caller,
    guest: &Guest<'_>,
    proof: Proof,
    (facts, outage_started): (&Map<String, Value>, Option<Timestamp>),
    moved: Option<&Moved>,
) {
    let journal = to.as_ref();
    let took = caller.accepted.elapsed();
    journal.statistics.login_took(took, proof.label());
    journal.metrics.admitted(proof);
    journal.metrics.took(proof, took);
    let kind = if proof == Proof::Verified {
        journal.statistics.verified();
        Kind::LoginVerified
    } else {
        journal.statistics.fallback(outage_started);
        let outage = outage_started.map(|started| since(started, journal.clock.now())).unwrap_or_default();
        journal.alerts.offer(Alert::Fallback(fallback(journal, caller.address, guest, proof, outage)));
        Kind::LoginFallback
    };
    let mut event = guest.event(caller.event(kind, &journal.clock)).reason("ok").facts(facts);
    if proof == Proof::Pinned {
        event = event.field("proof", proof.label());
    }
    journal.audit.emit(event);
    let how = match proof {
        Proof::Verified => "verified by the session server",
        Proof::Pinned => "known, by policy and PIN",
        Proof::Fallback | Proof::Held => "known, by policy",
    };
    info!(
        conn = %caller.conn, player = %guest.name, id = %guest.id, address = %caller.address,
        backend = guest.backend, "joined: {how}"
    );
    if let Some(moved) = moved {
        geo_changed(to, caller, (guest.name.as_str(), guest.id), proof.label(), moved);
    }
}

/// What staff is told of a player whom policy admitted.
fn fallback(
    journal: &Journal,
    address: IpAddr,
    guest: &Guest<'_>,
    proof: Proof,
    outage: Duration,
) -> Fallback {
    let now = journal.clock.now();
    let session = journal.store.by_id(guest.id);
    let place = journal.geo.at_hand(address).filter(|place| !place.is_unknown());
    Fallback {
        player: Subject { name: guest.name.as_str().to_owned(), id: guest.id, address, place },
        ground: session.map_or(Ground::Nothing, |session| ground(&session, address, &journal.rules, now)),
        pin_proven: proof == Proof::Pinned,
        outage,
    }
}

/// What an address says for the player of that session.
fn ground(session: &Session, address: IpAddr, rules: &Rules, now: Timestamp) -> Ground {
    let newest = |counts: &dyn Fn(IpAddr) -> bool| {
        let seen = session.addresses.iter().filter(|seen| counts(seen.address));
        seen.map(|seen| since(seen.verified, now)).min()
    };
    let in_range =
        |seen| address::same_range(address, seen, rules.ipv4_range_prefix, rules.ipv6_range_prefix);
    let exactly = |seen| address::unmap(seen) == address::unmap(address);
    newest(&exactly)
        .map(Ground::Exact)
        .or_else(|| newest(&in_range).map(Ground::Range))
        .unwrap_or(Ground::Nothing)
}

/// From then to now; nothing if a clock was set back in between.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// What became of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// The player was asked for it.
    Prompted(Gate),
    /// A right code.
    Verified(Gate),
    /// A wrong code, and how many more there may be.
    Failed(Gate, u8),
    /// It was set for the first time, or anew.
    Set { replaced: bool },
    /// It was given up.
    Reset,
}

/// Something happened with the PIN of a player. Never says anything about the code itself.
pub(super) fn pin(to: &impl AsRef<Journal>, caller: &Caller, guest: &Guest<'_>, what: Pin) {
    let journal = to.as_ref();
    let (kind, gate, said) = match what {
        Pin::Prompted(gate) => (Kind::PinPrompted, Some(gate), "held until its PIN is right"),
        Pin::Verified(gate) => (Kind::PinVerified, Some(gate), "PIN verified"),
        Pin::Failed(gate, _) => (Kind::PinFailed, Some(gate), "wrong PIN"),
        Pin::Set { replaced: false } => (Kind::PinSet, None, "PIN set"),
        Pin::Set { replaced: true } => (Kind::PinSet, None, "PIN replaced"),
        Pin::Reset => (Kind::PinReset, None, "PIN removed"),
    };
    match what {
        Pin::Prompted(gate) => journal.metrics.prompted(gate),
        Pin::Set { replaced: false } => journal.metrics.changed_pin(PinChange::Set),
        Pin::Set { replaced: true } => journal.metrics.changed_pin(PinChange::Replaced),
        Pin::Reset => journal.metrics.changed_pin(PinChange::Reset),
        Pin::Verified(_) | Pin::Failed(..) => {}
    }
    let gate = gate.map(Gate::label);
    let mut event = guest.event(caller.event(kind, &journal.clock));
    if let Some(gate) = gate {
        event = event.field("gate", gate);
    }
    let mut tries_left = None;
    match what {
        Pin::Failed(_, left) => {
            event = event.field("tries_left", left);
            tries_left = Some(left);
        }
        Pin::Set { replaced } => event = event.field("replaced", replaced),
        Pin::Prompted(_) | Pin::Verified(_) | Pin::Reset => {}
    }
    journal.audit.emit(event);
    let Some(May { left_out }) = journal.chatter.may(kind.name()) else { return };
    info!(
        conn = %caller.conn, player = %guest.name, id = %guest.id, address = %caller.address, gate, tries_left,
        left_out, "{said}"
    );
}

/// A player comes from a country or network that is none of those known of it. `proof` says how it was proven, or that
/// it was refused. Nothing is told if the owner does not want it.
pub(super) fn geo_changed(
    to: &impl AsRef<Journal>,
    caller: &Caller,
    player: (&str, Uuid),
    proof: &'static str,
    moved: &Moved,
) {
    let journal = to.as_ref();
    if !journal.alert_on_geo_change {
        return;
    }
    let ((name, id), Moved { place, known }) = (player, moved);
    journal.audit.emit(
        caller
            .event(Kind::GeoChanged, &journal.clock)
            .player(name)
            .id(id)
            .field("proof", proof)
            .facts(&json!({ "place": place, "known_places": known })),
    );
    let subject = Subject { name: name.to_owned(), id, address: caller.address, place: Some(*place) };
    journal.alerts.offer(Alert::GeoChanged(GeoChanged { player: subject, known: known.clone(), proof }));
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    info!(
        conn = %caller.conn, player = foreign::clean_to(name, 32), %id, address = %caller.address, proof,
        %place, known = known.join("; "), "comes from another country or network than before"
    );
}

/// A player is not in.
pub(super) fn refused(to: &impl AsRef<Journal>, caller: &Caller, refusal: &Refusal, backend: Option<&str>) {
    let journal = to.as_ref();
    journal.statistics.refused(refusal.reason);
    if let Some(reason) = refusal.kept_out_by() {
        journal.statistics.kept_out(reason);
    }
    journal.metrics.refused(refusal.reason);
    let who = &refusal.who;
    let mut event = caller.event(Kind::LoginRefused, &journal.clock).reason(refusal.reason.code());
    if let Some(name) = &who.name {
        event = event.player(name);
    }
    if let Some(backend) = backend {
        event = event.backend(backend);
    }
    journal.audit.emit(event.id(who.id).claimed_id(who.claimed_id).facts(&refusal.facts));
    if let (Some(moved), Some(name), Some(id)) = (&refusal.moved, &who.name, who.id) {
        geo_changed(to, caller, (name, id), "refused", moved);
    }
    let name = foreign::clean_to(who.name.as_deref().unwrap_or("?"), 32);
    let cause = refusal.facts.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
    let reason = refusal.reason.code();
    let Some(May { left_out }) = journal.chatter.may(reason) else { return };
    // A scanner's garbage and a player who gave up are no news.
    if matches!(refusal.reason, Reason::ClientLeft | Reason::BadHandshake) {
        tracing::debug!(conn = %caller.conn, player = name, address = %caller.address, reason, cause, left_out,
            "login ended");
    } else {
        info!(conn = %caller.conn, player = name, address = %caller.address, reason, cause, left_out,
            "login refused");
    }
}

/// A backend failed a login; the line says how to mend it.
pub(super) fn backend_failed(to: &impl AsRef<Journal>, caller: &Caller, backend: &Backend, fault: &Fault) {
    let journal = to.as_ref();
    let (cause, mend) = (fault.cause(), fault.mend(backend));
    journal.audit.emit(
        caller
            .event(Kind::BackendError, &journal.clock)
            .backend(&backend.name)
            .reason(fault.label())
            .field("cause", cause.clone())
            .advice("mend", &mend),
    );
    warn!(conn = %caller.conn, backend = backend.name, fault = fault.label(), "{cause}. {mend}");
}

/// A player who was in has gone.
pub(super) fn left(conn: ConnId, name: &str, ended: &Ended) {
    info!(
        %conn, player = name, cause = ended.cause.label(), to_server = ended.to_server,
        to_client = ended.to_client, seconds = ended.duration.as_secs(), "left"
    );
}

/// A player was asked for its PIN by a dialog, or has answered. No backend knows of it yet.
pub(super) fn pin_at_dialog(to: &impl AsRef<Journal>, caller: &Caller, guest: &Guest<'_>, what: PinEvent) {
    let gate = Gate::Dialog;
    let what = match what {
        PinEvent::Prompted => Pin::Prompted(gate),
        PinEvent::Verified => Pin::Verified(gate),
        PinEvent::Failed { left } => Pin::Failed(gate, left),
    };
    pin(to, caller, guest, what);
}
