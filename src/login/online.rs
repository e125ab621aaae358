//! The online path: keys, has joined, verified.

use serde_json::Map;

use super::{
    Admission, Attempt, LoginCx, Named, Seat,
    admitted::Admitted,
    claim, fallback,
    keys::{BadResponse, Challenge, Keyed},
    refusal::Refusal,
};
use crate::{
    address,
    mojang::{
        classify::Verified,
        session_server::Standing,
        verify::{ConfirmedOutage, VerifyResult},
    },
    net::conn::{Conn, ConnError, Io, limit},
    protocol::login::EncryptionResponse,
    reason::Reason,
    session::VerifiedLogin,
};

/// What came of asking the session server.
pub(super) enum Proven {
    /// It vouches for the player.
    Verified(Verified),
    /// It does not answer, and an active probe begun later says so too.
    Outage(ConfirmedOutage),
}

/// Why nothing was proven.
pub(super) enum Unproven {
    /// The client closed instead of answering the encryption request: its own call to the session server may have
    /// failed.
    HungUp(ConnError),
    /// Anything else.
    Refused(Refusal),
}

impl From<Unproven> for Refusal {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::HungUp(error) => Self::from(error).fact("stage", "encryption-request"),
            Unproven::Refused(refusal) => refusal,
        }
    }
}

/// Admits a player on the session server's word. If the server turns out to be unreachable, the connection, which is
/// encrypted by then, is judged by policy in place.
pub(super) async fn admit<S: Io>(
    conn: &mut Conn<S>,
    mut named: Named,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    match prove(conn, &mut named, cx, attempt).await? {
        Proven::Verified(verified) => Ok(seat(verified, named, cx, attempt)),
        Proven::Outage(confirmed) => {
            // Apart: as long as there is no outage, nobody needs the room.
            Box::pin(fallback::admit_in_place(conn, named, confirmed, cx, attempt)).await
        }
    }
}

/// Encrypts the link and asks the session server.
pub(super) async fn prove<S: Io>(
    conn: &mut Conn<S>,
    named: &mut Named,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Proven, Unproven> {
    let standing = standing(named, cx, attempt);
    let keyed = exchange_keys(conn, named, true, standing, cx).await.inspect_err(|unproven| {
        if let Unproven::HungUp(_) = unproven {
            cx.health.hang_up(address::subnet(attempt.address, cx.ipv4_subnet_prefix));
        }
    })?;
    let refuse = |reason, cause: Option<String>| {
        let refusal = Refusal::new(reason);
        Err(Unproven::Refused(match cause {
            Some(cause) => refusal.fact("cause", cause),
            None => refusal,
        }))
    };
    if standing == Standing::Unknown && !cx.server.unknown_logins().try_take() {
        cx.health.note_limit_hit();
        return refuse(Reason::RateLimited, None);
    }
    let (hash, deadline) = (&keyed.server_id_hash, attempt.deadline.at());
    match cx.server.verify(&cx.health, standing, &named.name, hash, Some(attempt.address), deadline).await {
        VerifyResult::Verified(verified) => Ok(Proven::Verified(verified)),
        VerifyResult::OutageConfirmed(confirmed) => Ok(Proven::Outage(confirmed)),
        VerifyResult::NotJoined => refuse(Reason::NotJoined, None),
        VerifyResult::Throttled => refuse(Reason::Throttled, None),
        VerifyResult::Unreachable(why) => refuse(Reason::Unreachable, Some(why.to_string())),
        VerifyResult::Unexpected(oddity) => refuse(Reason::Unexpected, Some(oddity.to_string())),
        VerifyResult::Local(fault) => refuse(Reason::Local, Some(fault.to_string())),
    }
}

/// Whether the store knows this player at this network. Forged encryption responses cost an attacker nothing: known
/// players never wait behind them, neither for RSA nor for the session server.
pub(super) fn standing(named: &Named, cx: &LoginCx, attempt: &Attempt<'_>) -> Standing {
    if cx.store.knows(&named.name, attempt.address) { Standing::Known } else { Standing::Unknown }
}

/// Agrees on a secret with the client and switches the cipher on. The secret proves nothing about who the client is.
/// Notes whether the client holds the key that it brought.
pub(super) async fn exchange_keys<S: Io>(
    conn: &mut Conn<S>,
    named: &mut Named,
    should_authenticate: bool,
    standing: Standing,
    cx: &LoginCx,
) -> Result<Keyed, Unproven> {
    let refused = |error: ConnError| Unproven::Refused(error.into());
    let bad = |bad: &BadResponse| {
        let reason = match bad {
            BadResponse::NoRandom => Reason::Local,
            BadResponse::Secret | BadResponse::Token(_) | BadResponse::NotSigned(_) => Reason::BadHandshake,
        };
        Unproven::Refused(Refusal::new(reason).fact("cause", bad.to_string()))
    };
    let dialect = &named.hello.dialect;
    let challenge = Challenge::new(&cx.keys).map_err(|error| bad(&error))?;
    let request = challenge.request(dialect, should_authenticate);
    conn.write_packet(&request).await.map_err(|error| refused(error.into()))?;
    let packet = conn.read_packet(limit::BEFORE_LOGIN).await.map_err(|error| match error {
        ConnError::Malformed(_) => refused(error),
        ConnError::Closed | ConnError::Cut | ConnError::Broken(_) => Unproven::HungUp(error),
    })?;
    let response = EncryptionResponse::read(&packet, dialect).map_err(|error| refused(error.into()))?;
    match challenge.accept(response, named.key.clone(), standing).await {
        Ok(mut keyed) => {
            conn.encrypt(&keyed.secret);
            named.held_key = keyed.held_key.take();
            Ok(keyed)
        }
        Err(error) => {
            if let BadResponse::Token(secret) | BadResponse::NotSigned(secret) = &error {
                conn.encrypt(secret);
            }
            Err(bad(&error))
        }
    }
}

/// Records the session and takes the player's place, whoever of that id holds it now.
pub(super) fn seat(verified: Verified, named: Named, cx: &LoginCx, attempt: &Attempt<'_>) -> Admission {
    let (place, leaving) = cx.roster.seat_verified(verified.profile().id, attempt.address, attempt.line);
    let before = cx.store.record_verified(VerifiedLogin {
        profile: verified.profile().clone(),
        address: attempt.address,
        protocol: named.hello.handshake.version.0,
        has_dialogs: named.hello.dialect.dialogs,
    });
    let admitted = Admitted::verified(verified, attempt.address);
    let mut facts = Map::new();
    facts.insert("in_an_outage".to_owned(), claim::rehearse(before, &named, cx, attempt).into());
    // Behind the rehearsal, which it would have spoken against.
    cx.bans.clear(admitted.profile().id, attempt.address);
    if leaving.is_some() {
        facts.insert("displaced".to_owned(), true.into());
    }
    Admission {
        admitted,
        seat: Seat::Place(place),
        leaving,
        named,
        player_key: None,
        moved: None,
        facts,
        outage_started: None,
        begun: None,
    }
}
