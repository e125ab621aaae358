//! The fallback path: policy instead of the session server's word, while there is an outage.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;
use uuid::Uuid;

use super::{
    Admission, Attempt, FallbackMode, LOGIN_TIME, LOGIN_TIME_LIMIT, LoginCx, Named, Seat,
    admitted::Admitted,
    claim::{Basis, Claim, NoPlace, facts_of, lacks_encryption, moved, refusal, unencrypted},
    hold,
    online::{self, Proven, Unproven},
    quarantine,
    refusal::Refusal,
    roster::{AtTheGate, Judged, Seated},
};
use crate::{
    identity::{Profile, Property, offline_id},
    mojang::verify::ConfirmedOutage,
    net::{
        configuring::Configuring,
        conn::{Conn, Io},
    },
    pin::Gate,
    policy::{AddressMatch, Decision, Location},
    reason::Reason,
};

/// Longest wait for the one document that holds a player's textures.
const PROPERTIES_WAIT: Duration = Duration::from_millis(500);

/// Admits a known player while the session server is down. A player whom policy refuses may be offered the online
/// login first: a partial outage may still let it succeed, and it can never be less safe.
pub(super) async fn admit<S: Io>(
    conn: &mut Conn<S>,
    mut named: Named,
    outage_started: Timestamp,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    let basis = Basis::Down { outage_started };
    let claim = Claim::of(&named, attempt.address, cx);
    let location = claim.locate(outage_started).await;
    let refusal = match claim.judged(outage_started, location) {
        Decision::Refuse { reason, evidence } => refusal(reason, &evidence, cx),
        Decision::Admit { permit: _, evidence } => {
            let Some(refusal) = obstacle(&named, true, cx) else {
                if named.hello.dialect.authenticate_flag {
                    let standing = online::standing(&named, cx, attempt);
                    online::exchange_keys(conn, &mut named, false, standing, cx).await?;
                }
                return enter(conn, basis, named, location, cx, attempt).await;
            };
            refusal.evidence(&evidence)
        }
    };
    let hung_up_before = cx.hang_ups.take(named.name.key(), attempt.address);
    if hung_up_before || !cx.config.online_attempt_when_ineligible {
        return Err(Refusal { kept_back: hung_up_before, ..refusal });
    }
    // For whoever leaves it at that, in whatever way.
    let judged = Judged { reason: Some(refusal.reason), id: refusal.who.id, facts: refusal.facts.clone() };
    attempt.line.set_judged(Some(judged));
    let proven = online::prove(conn, &mut named, cx, attempt).await;
    attempt.line.set_judged(None);
    match proven {
        Ok(Proven::Verified(verified)) => Ok(online::seat(verified, named, cx, attempt)),
        // The link is encrypted now, which may be all that was missing.
        Ok(Proven::Outage(confirmed)) => admit_in_place(conn, named, confirmed, cx, attempt)
            .await
            .map_err(|refusal| refusal.fact("online_attempt", Reason::Unreachable.code())),
        Err(Unproven::HungUp(error)) => {
            if basis.holds(cx, false) {
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
pub(super) async fn admit_in_place<S: Io>(
    conn: &mut Conn<S>,
    named: Named,
    confirmed: ConfirmedOutage,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    if cx.terms.current().fallback == FallbackMode::Disabled {
        return Err(Refusal::new(Reason::Unreachable));
    }
    let basis = Basis::InPlace(confirmed);
    let (claim, since) = (Claim::of(&named, attempt.address, cx), basis.outage_started());
    let location = claim.locate(since).await;
    if let Some(obstacle) = obstacle(&named, false, cx) {
        return Err(match claim.judged(since, location) {
            Decision::Refuse { reason, evidence } => refusal(reason, &evidence, cx),
            Decision::Admit { permit: _, evidence } => obstacle.evidence(&evidence),
        });
    }
    enter(conn, basis, named, location, cx, attempt).await
}

/// What no rule of policy says, and keeps a player out all the same whom policy would admit.
fn obstacle(named: &Named, plaintext: bool, cx: &LoginCx) -> Option<Refusal> {
    let terms = cx.terms.current();
    terms.closed().or_else(|| (plaintext && lacks_encryption(named, &terms)).then(unencrypted))
}

/// Takes a place, or asks for the PIN first.
async fn enter<S: Io>(
    conn: &mut Conn<S>,
    basis: Basis,
    named: Named,
    location: Location,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    let claim = Claim::of(&named, attempt.address, cx);
    let seated = match claim.take_place(&basis, location, attempt.line, None) {
        Ok(seated) => seated,
        Err(NoPlace::Refused(refusal)) => return Err(refusal),
        Err(NoPlace::PinWanted) if named.hello.dialect.dialogs => {
            // Apart: hardly anybody needs the room.
            return Box::pin(behind_dialog(conn, basis, named, location, cx, attempt)).await;
        }
        Err(NoPlace::PinWanted) => {
            return Box::pin(quarantine::begin(basis, named, location, cx, attempt)).await;
        }
    };
    // Before anything is written, which would make a lost document anew.
    let properties = stored_properties(seated.cleared.permit().id(), cx).await;
    let arrival = Arrival { seated, properties, begun: None };
    Ok(arrival.admit(&basis, named, cx, attempt))
}

/// Asks a player whose client has dialogs, before any backend knows of it.
async fn behind_dialog<S: Io>(
    conn: &mut Conn<S>,
    basis: Basis,
    named: Named,
    location: Location,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    let claim = Claim::of(&named, attempt.address, cx);
    let AtTheGate { hold, permit, evidence, .. } =
        claim.take_hold(&basis, location, attempt.line, Gate::Dialog)?;
    let properties = stored_properties(permit.id(), cx).await;
    let name = permit.name().clone();
    // As the backend's own login success would have it: a client that believes to be somebody else there is thrown out
    // for the key it signs chat with.
    let profile = if attempt.route.own_ids {
        Profile { id: offline_id(&name), name, properties: Vec::new() }
    } else {
        Profile { id: permit.id(), name, properties: properties.clone().unwrap_or_default() }
    };
    let is_exact = permit.address_match() == AddressMatch::Exact;
    let (id, threshold) = (permit.id(), attempt.route.threshold);
    let guest = hold::Guest { id, profile, dialect: &named.hello.dialect, is_exact, threshold };
    let asked = hold::ask(conn, guest, cx, attempt).await;
    let with_facts = |refusal: Refusal| refusal.evidence(&evidence).fact("gate", Gate::Dialog.label());
    let (proven, begun) = asked.map_err(with_facts)?;
    // The way to the backend begins only now.
    attempt.deadline.begin_anew(LOGIN_TIME, LOGIN_TIME_LIMIT);
    let seated = claim.take_place(&basis, location, attempt.line, Some(&proven));
    let seated = seated.map_err(|no| {
        let mut refusal = Refusal::from(no);
        refusal.who.id = refusal.who.id.or(Some(hold.id()));
        refusal.fact("gate", Gate::Dialog.label()).fact("pin", "right")
    })?;
    let arrival = Arrival { seated, properties, begun: Some(begun) };
    Ok(arrival.admit(&basis, named, cx, attempt))
}

/// A player who has a place.
struct Arrival {
    seated: Seated,
    properties: Option<Vec<Property>>,
    begun: Option<Box<Configuring>>,
}

impl Arrival {
    fn admit(self, basis: &Basis, named: Named, cx: &LoginCx, attempt: &Attempt<'_>) -> Admission {
        let Self { seated: Seated { place, cleared, evidence, leaving }, properties, begun } = self;
        attempt.line.set_judged(None);
        cx.store.count_fallback(cleared.permit().id());
        let mut facts = facts_of(&evidence, basis);
        if properties.is_none() {
            facts.insert("properties".to_owned(), "not read in time".into());
        }
        let admitted = Admitted::by_policy(cleared, properties.unwrap_or_default(), attempt.address);
        let outage_started = Some(evidence.outage_started);
        let (seat, moved) = (Seat::Place(place), moved(evidence));
        Admission { admitted, seat, leaving, named, player_key: None, moved, facts, outage_started, begun }
    }
}

/// The skin and what else the session server once gave; `None` if the disk is too slow or the document unreadable.
pub(super) async fn stored_properties(id: Uuid, cx: &LoginCx) -> Option<Vec<Property>> {
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
