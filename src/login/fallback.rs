//! The fallback path: policy instead of the session server's word, while there is an outage.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::warn;
use uuid::Uuid;

use super::{
    Admission, Attempt, FallbackMode, LoginCx, Named, accounts_at,
    admitted::Admitted,
    online::{self, Proven, Unproven},
    refusal::{Moved, Refusal},
    roster::{Company, Judged, Seated},
};
use crate::{
    identity::Property,
    limit::bans::Hits,
    messages::MessageKey,
    mojang::{health::Verdict, verify::ConfirmedOutage},
    net::conn::{Conn, Io},
    policy::{Bans, Decision, Evidence, Facts, Location, judge, objections, wants_location},
    reason::Reason,
    session::record::Session,
};

/// Longest wait for the one document that holds a player's textures.
const PROPERTIES_WAIT: Duration = Duration::from_millis(500);

/// Why policy may decide at all.
enum Basis {
    /// The verdict was Down when the login began.
    Down { outage_started: Timestamp },
    /// The session server did not answer for this very login, and a probe begun later failed too.
    InPlace(ConfirmedOutage),
}

impl Basis {
    fn outage_started(&self) -> Timestamp {
        match self {
            Self::Down { outage_started } => *outage_started,
            Self::InPlace(confirmed) => confirmed.since(),
        }
    }

    /// Whether it still holds, as of now. An attempt that was parked during a blip is not admitted after it.
    fn holds(&self, cx: &LoginCx) -> bool {
        match self {
            Self::Down { .. } => matches!(cx.health.status().verdict, Verdict::Down { .. }),
            Self::InPlace(_) => !cx.health.status().is_forced_up(),
        }
    }
}

/// Admits a known player while the session server is down. A player whom policy refuses may be offered the online
/// login first: a partial outage may still let it succeed, and it can never be less safe.
pub(super) async fn admit<S: Io>(
    conn: &mut Conn<S>,
    mut named: Named,
    outage_started: Timestamp,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Result<Admission, Refusal> {
    let basis = Basis::Down { outage_started };
    let location = locate(&basis, &named, cx, attempt).await;
    let facts = gather(&basis, &named, location, cx, attempt);
    let refusal = match judge(&cx.rules, &facts, cx.clock.now()) {
        Decision::Refuse { reason, evidence } => refusal(reason, &evidence, cx),
        Decision::Admit { permit: _, evidence } => {
            let Some(refusal) = obstacle(facts.session.as_deref(), &named, true, cx) else {
                if named.hello.dialect.authenticate_flag {
                    let standing = online::standing(&named, cx, attempt);
                    online::exchange_keys(conn, &mut named, false, standing, cx).await?;
                }
                return enter(&basis, named, location, cx, attempt).await;
            };
            refusal.evidence(&evidence)
        }
    };
    let hung_up_before = cx.hang_ups.take(named.name.key(), attempt.address);
    if hung_up_before || !cx.config.online_attempt_when_ineligible {
        return Err(refusal);
    }
    // For whoever leaves it at that, in whatever way.
    let judged = Judged { reason: refusal.reason, id: refusal.who.id, facts: refusal.facts.clone() };
    attempt.line.set_judged(Some(judged));
    let proven = online::prove(conn, &mut named, cx, attempt).await;
    attempt.line.set_judged(None);
    match proven {
        Ok(Proven::Verified(verified)) => Ok(online::seat(verified, named, cx, attempt)),
        // The link is encrypted now, which may be all that was missing.
        Ok(Proven::Outage(confirmed)) => admit_in_place(named, confirmed, cx, attempt)
            .await
            .map_err(|refusal| refusal.fact("online_attempt", Reason::Unreachable.code())),
        Err(Unproven::HungUp(error)) => {
            if basis.holds(cx) {
                cx.hang_ups.remember(named.name.key(), attempt.address);
            }
            Err(refusal.unheard(Refusal::from(Unproven::HungUp(error))))
        }
        // These tell the player more than the outage does.
        Err(Unproven::Refused(online)) if online.reason == Reason::NotJoined => Err(online),
        Err(Unproven::Refused(online))
            if matches!(online.reason, Reason::BadHandshake | Reason::ClientLeft) =>
        {
            Err(refusal.unheard(online))
        }
        Err(Unproven::Refused(online)) => Err(refusal.fact("online_attempt", online.reason.code())),
    }
}

/// Judges a login whose has-joined call failed although the verdict was not Down. Its link is encrypted already.
pub(super) async fn admit_in_place(
    named: Named,
    confirmed: ConfirmedOutage,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Result<Admission, Refusal> {
    if cx.config.fallback == FallbackMode::Disabled {
        return Err(Refusal::new(Reason::Unreachable));
    }
    let basis = Basis::InPlace(confirmed);
    let location = locate(&basis, &named, cx, attempt).await;
    let facts = gather(&basis, &named, location, cx, attempt);
    if let Some(obstacle) = obstacle(facts.session.as_deref(), &named, false, cx) {
        return Err(match judge(&cx.rules, &facts, cx.clock.now()) {
            Decision::Refuse { reason, evidence } => refusal(reason, &evidence, cx),
            Decision::Admit { permit: _, evidence } => obstacle.evidence(&evidence),
        });
    }
    enter(&basis, named, location, cx, attempt).await
}

/// What stands in the way of a player whom policy would admit.
fn obstacle(session: Option<&Session>, named: &Named, plaintext: bool, cx: &LoginCx) -> Option<Refusal> {
    if cx.config.fallback == FallbackMode::DryRun {
        let refusal = Refusal { message: MessageKey::MojangDownNotice, ..Refusal::new(Reason::Unreachable) };
        return Some(refusal.fact("dry_run", "would be admitted"));
    }
    shortcoming(session, named, plaintext, cx)
}

/// What no rule of policy says, and keeps a player out all the same.
fn shortcoming(session: Option<&Session>, named: &Named, plaintext: bool, cx: &LoginCx) -> Option<Refusal> {
    // A player with a PIN is always asked for it, and this version cannot ask.
    if session.is_some_and(|session| session.pin_hash.is_some()) {
        let refusal = Refusal { message: MessageKey::MojangDownNotice, ..Refusal::new(Reason::PinFailed) };
        return Some(refusal.fact("cause", "this version cannot ask for PINs"));
    }
    if plaintext && !named.hello.dialect.authenticate_flag && !cx.config.allow_plaintext_fallback {
        return Some(Refusal::new(Reason::NewerVersionNeeded).fact("cause", "the link cannot be encrypted"));
    }
    None
}

/// What policy judges by, as of now.
fn gather(basis: &Basis, named: &Named, location: Location, cx: &LoginCx, attempt: Attempt<'_>) -> Facts {
    let session = cx.store.find(&named.name, named.claimed_id);
    let company = cx.roster.company(session.as_ref().map(|session| session.id), attempt.address);
    facts(basis.outage_started(), named, session, company, location, cx, attempt)
}

fn facts(
    outage_started: Timestamp,
    named: &Named,
    session: Option<Arc<Session>>,
    company: Company,
    location: Location,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Facts {
    let id = session.as_ref().map(|session| session.id);
    Facts {
        name: named.name.clone(),
        claimed_id: named.claimed_id,
        address: attempt.address,
        accounts_at_address: accounts_at(cx, attempt.address, company.admitted_here, id),
        bans: bans(id, cx, attempt),
        session,
        outage_started,
        online: company.online,
        location,
    }
}

/// The bans that cover an attempt. Nobody is asked for the network (ASN): a stranger must not cause look-ups.
fn bans(id: Option<Uuid>, cx: &LoginCx, attempt: Attempt<'_>) -> Bans {
    let asn = cx.geo.at_hand(attempt.address).and_then(|place| place.asn);
    let Hits { client, subnet, asn, pair } = cx.bans.hits(attempt.address, asn, id);
    Bans { client, subnet, asn, pair }
}

/// Where the client address is: from memory if it is there; asked for only if a rule would weigh it and nothing else
/// refuses.
async fn locate(basis: &Basis, named: &Named, cx: &LoginCx, attempt: Attempt<'_>) -> Location {
    let at_hand = at_hand(cx, attempt);
    let facts = gather(basis, named, at_hand, cx, attempt);
    if !wants_location(&cx.rules, &facts, cx.clock.now()) {
        return at_hand;
    }
    cx.geo.look_up(attempt.address).await.map_or(Location::Unknown, Location::Known)
}

fn at_hand(cx: &LoginCx, attempt: Attempt<'_>) -> Location {
    cx.geo.at_hand(attempt.address).map_or(Location::NotAsked, Location::Known)
}

/// The no of policy. A foreign country and network are noted with the session: they stay denied until its next
/// verified login.
fn refusal(reason: Reason, evidence: &Evidence, cx: &LoginCx) -> Refusal {
    let mut refusal = Refusal::new(reason).evidence(evidence);
    if let (Reason::GeoChanged, Some(id), Some(place)) = (reason, evidence.session_id, evidence.place) {
        // Once a network: whoever comes again tells nothing new. Nor does who was never seen anywhere.
        let is_new = cx.store.update(id, |session| session.deny_network(place)) == Some(true);
        if is_new && !evidence.known_places.is_empty() {
            refusal.moved = Some(Box::new(Moved { place, known: evidence.known_places.clone() }));
        }
    }
    refusal
}

/// What would have come of this verified login in an outage, by the session as it stood before: `ok`, or the reason code.
/// Nothing is looked up for it.
pub(super) fn rehearse(
    before: Option<Arc<Session>>,
    named: &Named,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> &'static str {
    let (location, now) = (at_hand(cx, attempt), cx.clock.now());
    let nobody = Company { online: None, admitted_here: Vec::new() };
    let facts = facts(now, named, before, nobody, location, cx, attempt);
    let needs_place =
        |reason: &Reason| matches!(reason, Reason::BlockedAsn | Reason::GeoChanged | Reason::GeoUnknown);
    let mut objections = objections(&cx.rules, &facts, now).into_iter();
    let first = objections.find(|reason| location != Location::NotAsked || !needs_place(reason));
    let first = first.or_else(|| Some(shortcoming(facts.session.as_deref(), named, true, cx)?.reason));
    first.map_or("ok", Reason::code)
}

/// The moment of admission: everything is read again, and the places are taken in one step.
async fn enter(
    basis: &Basis,
    named: Named,
    location: Location,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Result<Admission, Refusal> {
    if !basis.holds(cx) {
        return Err(Refusal::new(Reason::Unreachable).fact("cause", "the outage ended meanwhile"));
    }
    let session = cx.store.find(&named.name, named.claimed_id);
    let id = session.as_ref().map(|session| session.id);
    if let Some(refusal) = obstacle(session.as_deref(), &named, false, cx) {
        return Err(refusal);
    }
    let judged = cx.roster.seat_by_policy(id, attempt.address, attempt.line, |company| {
        let facts = facts(basis.outage_started(), &named, session, company, location, cx, attempt);
        judge(&cx.rules, &facts, cx.clock.now())
    });
    let Seated { place, permit, evidence, leaving } = judged.map_err(|no| refusal(no.0, &no.1, cx))?;
    let mut facts = match serde_json::to_value(&evidence) {
        Ok(Value::Object(facts)) => facts,
        _ => Map::new(),
    };
    facts.insert("in_place".to_owned(), matches!(basis, Basis::InPlace(_)).into());
    // Before anything is written, which would make a lost document anew.
    let properties = stored_properties(permit.id(), cx).await;
    cx.store.count_fallback(permit.id());
    if properties.is_none() {
        facts.insert("properties".to_owned(), "not read in time".into());
    }
    let admitted = Admitted::by_policy(permit, properties.unwrap_or_default(), attempt.address);
    let moved = evidence.place.filter(|_| evidence.geo_changed && !evidence.known_places.is_empty());
    let moved = moved.map(|place| Box::new(Moved { place, known: evidence.known_places }));
    Ok(Admission { admitted, place, leaving, named, player_key: None, moved, facts })
}

/// The skin and what else the session server once gave; `None` if the disk is too slow or the document unreadable.
async fn stored_properties(id: Uuid, cx: &LoginCx) -> Option<Vec<Property>> {
    match tokio::time::timeout(PROPERTIES_WAIT, cx.store.properties(id)).await {
        Ok(Ok(properties)) => Some(properties),
        Ok(Err(error)) => {
            warn!(%id, %error, "a player joins without its skin: its stored properties cannot be read");
            None
        }
        Err(_) => {
            warn!(%id, "a player joins without its skin: the disk is too slow");
            None
        }
    }
}
