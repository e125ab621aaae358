//! The login, from handshake to admission.
//!
//! [`drive`] reads top to bottom: each stage is a value that the next one consumes. An [`admitted::Admitted`] is made
//! in two places only: from the session server's word (`online`) and from a permit of policy (`fallback`).

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    address,
    clock::Clock,
    geo::Geo,
    identity::Username,
    limit::bans::Bans,
    mojang::{
        health::{Health, Verdict},
        player_keys::{PlayerKeys, ProvenKey},
        session_server::SessionServer,
    },
    net::{
        conn::{Conn, Io},
        deadline::Deadline,
    },
    policy::Rules,
    protocol::handshake::Intent,
    reason::Reason,
    session::{Store, record::Session},
};

pub mod admitted;
mod fallback;
mod hang_ups;
pub mod keys;
mod online;
mod opener;
mod player_key;
pub mod refusal;
pub mod roster;
mod stage;

pub use hang_ups::HangUps;
pub use stage::{Hello, Named};

use admitted::Admitted;
use keys::Keys;
use refusal::{Moved, Refusal, Who};
use roster::{Judged, Leaving, Line, Place, Roster};

/// From accept to login success, unless a mod handshake makes progress: the client gives up at 30 s.
pub const LOGIN_TIME: Duration = Duration::from_secs(25);
/// However much progress a mod handshake makes.
pub const LOGIN_TIME_LIMIT: Duration = Duration::from_mins(5);

/// What to do with logins during an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackMode {
    /// Admit known players under policy.
    Enabled,
    /// Judge and audit as if, and refuse.
    DryRun,
    /// A plain online-mode proxy.
    Disabled,
}

/// How logins are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to do during an outage.
    pub fallback: FallbackMode,
    /// Whether a player whom policy refuses gets a try at the online login first.
    pub online_attempt_when_ineligible: bool,
    /// Whether fallback is open to clients whose link cannot be encrypted without Mojang.
    pub allow_plaintext_fallback: bool,
    /// Whether clients that another server sent here may join.
    pub accepts_transfers: bool,
    /// From how many bytes on packets are compressed towards a client that meets its backend later; `None` is never.
    pub compression_threshold: Option<usize>,
}

/// What every login shares.
#[derive(Debug)]
pub struct LoginCx {
    /// How logins are treated.
    pub config: Config,
    /// The owner's rules for outages.
    pub rules: Rules,
    /// The RSA key in use.
    pub keys: Keys,
    /// Whether the session server answers.
    pub health: Health,
    /// The session server.
    pub server: Arc<SessionServer>,
    /// Mojang's keys, which vouch for those of players.
    pub player_keys: PlayerKeys,
    /// Remembered logins.
    pub store: Store,
    /// Who is in.
    pub roster: Arc<Roster>,
    /// Who failed too often.
    pub bans: Bans,
    /// Where addresses are.
    pub geo: Geo,
    /// Refusals kept back for clients that hung up.
    pub hang_ups: HangUps,
    /// Prefix length of an IPv4 client's subnet, for telling hang-ups from different places.
    pub ipv4_subnet_prefix: u8,
    /// UTC time.
    pub clock: Clock,
}

/// One try to log in: where it comes from, and what bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The client address, never an IPv4-mapped one.
    pub address: IpAddr,
    /// The connection's handle.
    pub line: &'a Arc<Line>,
    /// When it must be over.
    pub deadline: &'a Deadline,
}

/// A player who may go on to a backend, with the place it holds.
#[derive(Debug)]
pub struct Admission {
    /// Who, and how that was proven.
    pub admitted: Admitted,
    /// The player's place; dropping it frees it.
    pub place: Place,
    /// The connection of the same player that has to go first.
    pub leaving: Option<Leaving>,
    /// What the client said of itself.
    pub named: Named,
    /// The key that the client brought, if it was proven to be this player's.
    pub player_key: Option<ProvenKey>,
    /// If the country and network are known to be new for the player.
    pub moved: Option<Box<Moved>>,
    /// What the admission rests on, for audit.log.
    pub facts: Map<String, Value>,
}

/// The whole login in reading order. `too_old` says that every backend this client could be routed to needs a newer
/// one.
pub async fn drive<S: Io>(
    conn: &mut Conn<S>,
    hello: Hello,
    too_old: bool,
    cx: &LoginCx,
    attempt: Attempt<'_>,
) -> Result<Admission, Refusal> {
    let named = Named::read(conn, hello).await?;
    let (name, claimed_id) = (named.name.clone(), named.claimed_id);
    let who = Who { name: Some(name.as_str().to_owned()), claimed_id, id: None };
    // Set once: a connection has one login start.
    let _ = attempt.line.who.set(who);
    let is_transfer = named.hello.handshake.intent == Intent::Transfer;
    let admitted = if is_transfer && !named.hello.dialect.cookies {
        Err(Refusal::new(Reason::BadHandshake).fact("cause", "a transfer of a game that has no transfers"))
    } else if is_transfer && !cx.config.accepts_transfers {
        Err(Refusal::new(Reason::TransferRefused))
    } else if too_old {
        Err(Refusal::new(Reason::NewerVersionNeeded))
    } else {
        match (cx.config.fallback, cx.health.status().verdict) {
            (FallbackMode::Disabled, _) | (_, Verdict::Up | Verdict::Degraded) => {
                online::admit(conn, named, cx, attempt).await
            }
            (_, Verdict::Down { outage_started }) => {
                // Apart: as long as there is no outage, nobody needs the room.
                Box::pin(fallback::admit(conn, named, outage_started, cx, attempt)).await
            }
        }
    };
    let mut admission = admitted.map_err(|refusal| {
        count_failure(&refusal, &name, cx, attempt.address);
        refusal.named(&name, claimed_id)
    })?;
    // Behind the admission: checking a forged key costs us more than it costs whoever brings it.
    if admission.named.key.is_some() {
        Box::pin(player_key::prove(&mut admission, &cx.player_keys)).await;
    }
    Ok(admission)
}

/// The end of a login from outside it: out of time, or its place was wanted. What counts towards a ban is counted: else
/// whoever is silent until then would fail at nothing.
pub fn cut_short(reason: Reason, line: &Line, cx: &LoginCx, address: IpAddr) -> Refusal {
    let who = line.who.get().cloned().unwrap_or_default();
    let name = who.name.as_deref().and_then(|name| Username::parse(name).ok());
    let mut refusal = Refusal { who, ..Refusal::new(reason) };
    if let Some((id, proof)) = line.seated.get() {
        refusal.who.id = Some(*id);
        return refusal.fact("proof", proof.label());
    }
    if let Some(judged) = line.take_judged() {
        let Judged { reason, id, facts } = *judged;
        let who = Who { id, ..refusal.who.clone() };
        refusal = Refusal { who, facts, ..Refusal::new(reason) }.unheard(refusal);
    }
    if let Some(name) = name {
        count_failure(&refusal, &name, cx, address);
    }
    refusal
}

/// Counts what counts towards a ban.
fn count_failure(refusal: &Refusal, name: &Username, cx: &LoginCx, address: IpAddr) {
    let Some(failure) = refusal.failure() else { return };
    let session = match refusal.who.id {
        Some(id) => cx.store.by_id(id),
        None => cx.store.find(name, None),
    };
    // A pair is banned for the whole client (IPv6: a /64). Of those who share the one that a player was verified from,
    // nobody may lock it out there by failing under its name.
    let client = address::limit_key(address);
    let is_own = |session: &Arc<Session>| {
        session.addresses.iter().any(|seen| address::limit_key(seen.address) == client)
    };
    let id = session.filter(|session| !is_own(session)).map(|session| session.id);
    let asn = cx.geo.at_hand(address).and_then(|place| place.asn);
    cx.bans.fail(failure, address, &name.key(), id, asn);
}

/// How many different players share the client address, this one included.
fn accounts_at(
    cx: &LoginCx,
    address: IpAddr,
    admitted_here: Vec<uuid::Uuid>,
    own: Option<uuid::Uuid>,
) -> u32 {
    let mut ids: HashSet<_> = cx.store.ids_at(address, cx.clock.now()).into_iter().collect();
    ids.extend(admitted_here);
    ids.extend(own);
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}
