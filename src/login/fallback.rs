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
    refusal::Refusal,
    roster::{Company, Seated},
};
use crate::{
    identity::Property,
    messages::MessageKey,
    mojang::{health::Verdict, verify::ConfirmedOutage},
    net::conn::{Conn, Io},
    policy::{Bans, Decision, Facts, Location, judge},
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
    let session = cx.store.find(&named.name, named.claimed_id);
    let company = cx.roster.company(session.as_ref().map(|s| s.id), attempt.address);
    let refusal = match judge_now(&basis, &named, session.clone(), company, cx, attempt) {
        Decision::Refuse { reason, evidence } => Refusal::new(reason).evidence(&evidence),
        Decision::Admit { permit: _, evidence } => {
            let Some(refusal) = obstacle(session.as_deref(), &named, true, cx) else {
                if named.hello.dialect.authenticate_flag {
                    online::exchange_keys(conn, &mut named, false, cx).await?;
                }
                return enter(&basis, named, cx, attempt).await;
            };
            refusal.evidence(&evidence)
        }
    };
    let hung_up_before = cx.hang_ups.take(named.name.key(), attempt.address);
    if hung_up_before || !cx.config.online_attempt_when_ineligible {
        return Err(refusal);
    }
    match online::prove(conn, &mut named, cx, attempt).await {
        Ok(Proven::Verified(verified)) => Ok(online::seat(verified, named, cx, attempt)),
        // The link is encrypted now, which may be all that was missing.
        Ok(Proven::Outage(confirmed)) => admit_in_place(named, confirmed, cx, attempt)
            .await
            .map_err(|refusal| refusal.fact("online_attempt", Reason::Unreachable.code())),
        Err(Unproven::HungUp(error)) => {
            if basis.holds(cx) {
                cx.hang_ups.remember(named.name.key(), attempt.address);
            }
            let gone = Refusal::from(Unproven::HungUp(error)).fact("refused_as", refusal.reason.code());
            Err(Refusal { facts: refusal.facts.into_iter().chain(gone.facts.clone()).collect(), ..gone })
        }
        // These tell the player more than the outage does.
        Err(Unproven::Refused(online))
            if matches!(online.reason, Reason::NotJoined | Reason::BadHandshake | Reason::ClientLeft) =>
        {
            Err(online)
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
    let session = cx.store.find(&named.name, named.claimed_id);
    if let Some(refusal) = obstacle(session.as_deref(), &named, false, cx) {
        let company = cx.roster.company(session.as_ref().map(|s| s.id), attempt.address);
        return Err(match judge_now(&basis, &named, session, company, cx, attempt) {
            Decision::Refuse { reason, evidence } => Refusal::new(reason).evidence(&evidence),
            Decision::Admit { permit: _, evidence } => refusal.evidence(&evidence),
        });
    }
    enter(&basis, named, cx, attempt).await
}

/// What stands in the way of a player whom policy would admit.
fn obstacle(session: Option<&Session>, named: &Named, plaintext: bool, cx: &LoginCx) -> Option<Refusal> {
    if cx.config.fallback == FallbackMode::DryRun {
        let refusal = Refusal { message: MessageKey::MojangDownNotice, ..Refusal::new(Reason::Unreachable) };
        return Some(refusal.fact("dry_run", "would be admitted"));
    }
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

fn judge_now(
    basis: &Basis,
    named: &Named,
    session: Option<Arc<Session>>,
    company: Company,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Decision {
    let own = session.as_ref().map(|session| session.id);
    let facts = Facts {
        name: named.name.clone(),
        claimed_id: named.claimed_id,
        address: attempt.address,
        accounts_at_address: accounts_at(cx, attempt.address, company.admitted_here, own),
        session,
        outage_started: basis.outage_started(),
        online: company.online,
        bans: Bans::default(),
        location: Location::NotAsked,
    };
    judge(&cx.rules, &facts, cx.clock.now())
}

/// The moment of admission: everything is read again, and the places are taken in one step.
async fn enter(
    basis: &Basis,
    named: Named,
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
        judge_now(basis, &named, session, company, cx, attempt)
    });
    let Seated { place, permit, evidence, leaving } =
        judged.map_err(|no| Refusal::new(no.0).evidence(&no.1))?;
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
    Ok(Admission { admitted, place, leaving, named, player_key: None, facts })
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
