//! What happened, told to everybody who is to know: a line for whoever reads the log, an event in audit.log, a count in
//! the statistics.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Rest,
    chatter::{Chatter, May},
    connection::{Caller, ConnCx, ConnId},
};
use crate::{
    audit::{Audit, Event, Kind},
    backend::{Backend, Entered, Fault, connect::Attempt},
    clock::Clock,
    foreign,
    limit::{BanEvent, Target, bans},
    login::{
        Admission,
        refusal::{Moved, Refusal},
    },
    mojang::health::{self, Listener, OverrideChange, Verdict},
    policy::Proof,
    reason::Reason,
    relay::Ended,
    statistics::Statistics,
};

/// Bans of one kind that audit.log is told of in 10 s; the next line says how many it was not told of. The file of bans
/// has them all.
const BANS_AUDITED: u32 = 200;

/// The proxy takes connections.
pub(super) fn started(clock: &Clock, addresses: &[SocketAddr]) -> Event {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Event::new(Kind::ProxyStarted, clock.now())
        .field("version", env!("CARGO_PKG_VERSION"))
        .field("listening", json!(addresses))
}

/// The configuration was read again. `changed` says what was taken over, in words; the rest waits for the next start.
pub(super) fn reloaded(clock: &Clock, changed: &[String], rest: Rest) -> Event {
    Event::new(Kind::ConfigReloaded, clock.now())
        .field("changed", json!(changed))
        .field("restart_needed", rest == Rest::AtNextStart)
}

/// Hears of every change of the verdict and of every override. The log lines are the monitor's own.
pub(super) fn of_health(audit: Audit, statistics: Statistics) -> Listener {
    Box::new(move |event| match event {
        health::Event::State(change) => {
            match change.to {
                Verdict::Down { outage_started } => statistics.outage_began(outage_started),
                Verdict::Up | Verdict::Degraded => statistics.outage_ended(change.at),
            }
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
                    .field("until", forced.until.to_string()),
                OverrideChange::Cleared => event.field("change", "cleared"),
                OverrideChange::Expired => event.field("change", "expired"),
            });
        }
    })
}

/// Hears of every ban that begins or ends.
pub(super) fn of_bans(audit: Audit, clock: Clock, chatter: Arc<Chatter>) -> bans::Listener {
    // Whoever has enough addresses has one of them banned with every tenth attempt.
    let audited = Chatter::new(BANS_AUDITED);
    Box::new(move |event| {
        let (kind, ban) = match event {
            BanEvent::Added(ban) => (Kind::BanAdded, ban),
            BanEvent::Expired(ban) => (Kind::BanExpired, ban),
            BanEvent::Lifted(ban) => (Kind::BanLifted, ban),
        };
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
pub(super) fn passed_over(cx: &ConnCx, caller: &Caller, attempts: &[Attempt]) {
    for attempt in attempts {
        warn!(backend = attempt.backend, error = attempt.error, "could not be reached; the next one was");
        cx.audit.emit(
            caller
                .event(Kind::BackendError, &cx.login.clock)
                .backend(&attempt.backend)
                .reason("unreachable")
                .field("cause", attempt.error.clone()),
        );
    }
}

/// A player is in.
pub(super) fn joined(cx: &ConnCx, caller: &Caller, admission: &Admission, entered: &Entered) {
    let backend = &entered.backend;
    passed_over(cx, caller, &entered.passed_over);
    let profile = admission.admitted.profile();
    let proof = admission.admitted.proof();
    let kind = if proof == Proof::Verified {
        cx.statistics.verified();
        Kind::LoginVerified
    } else {
        cx.statistics.fallback();
        Kind::LoginFallback
    };
    cx.audit.emit(
        caller
            .event(kind, &cx.login.clock)
            .player(profile.name.as_str())
            .id(profile.id)
            .claimed_id(admission.named.claimed_id.filter(|claimed| *claimed != profile.id))
            .backend(&backend.name)
            .reason("ok")
            .facts(&admission.facts),
    );
    let how = if proof == Proof::Verified { "verified by the session server" } else { "known, by policy" };
    info!(
        conn = %caller.conn, player = %profile.name, id = %profile.id, address = %caller.address,
        backend = backend.name, "joined: {how}"
    );
    if let Some(moved) = &admission.moved {
        geo_changed(cx, caller, (profile.name.as_str(), profile.id), proof.label(), moved);
    }
}

/// A player comes from a country or network that is none of those known of it. `proof` says how it was proven, or that
/// it was refused. Nothing is told if the owner does not want it.
pub(super) fn geo_changed(
    cx: &ConnCx,
    caller: &Caller,
    player: (&str, Uuid),
    proof: &'static str,
    moved: &Moved,
) {
    if !cx.alert_on_geo_change {
        return;
    }
    let ((name, id), Moved { place, known }) = (player, moved);
    cx.audit.emit(
        caller
            .event(Kind::GeoChanged, &cx.login.clock)
            .player(name)
            .id(id)
            .field("proof", proof)
            .facts(&json!({ "place": place, "known_places": known })),
    );
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    info!(
        conn = %caller.conn, player = foreign::clean_to(name, 32), %id, address = %caller.address, proof,
        %place, known = known.join("; "), "comes from another country or network than before"
    );
}

/// A player is not in.
pub(super) fn refused(cx: &ConnCx, caller: &Caller, refusal: &Refusal, backend: Option<&str>) {
    cx.statistics.refused(refusal.reason);
    let who = &refusal.who;
    let mut event = caller.event(Kind::LoginRefused, &cx.login.clock).reason(refusal.reason.code());
    if let Some(name) = &who.name {
        event = event.player(name);
    }
    if let Some(backend) = backend {
        event = event.backend(backend);
    }
    cx.audit.emit(event.id(who.id).claimed_id(who.claimed_id).facts(&refusal.facts));
    if let (Some(moved), Some(name), Some(id)) = (&refusal.moved, &who.name, who.id) {
        geo_changed(cx, caller, (name, id), "refused", moved);
    }
    let name = foreign::clean_to(who.name.as_deref().unwrap_or("?"), 32);
    let cause = refusal.facts.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
    let reason = refusal.reason.code();
    let Some(May { left_out }) = cx.chatter.may(reason) else { return };
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
pub(super) fn backend_failed(cx: &ConnCx, caller: &Caller, backend: &Backend, fault: &Fault) {
    let (cause, mend) = (fault.cause(), fault.mend(backend));
    cx.audit.emit(
        caller
            .event(Kind::BackendError, &cx.login.clock)
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
