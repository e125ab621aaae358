//! The login, from handshake to admission.
//!
//! [`drive`] reads top to bottom: each stage is a value that the next one consumes. An [`admitted::Admitted`] is made
//! in two places only: from the session server's word (`online`) and from a permit of policy (`fallback`).

use std::{collections::HashSet, fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    clock::Clock,
    geo::Geo,
    identity::Username,
    limit::bans::Bans,
    messages::Messages,
    mojang::{
        health::{Health, Verdict},
        player_keys::{PlayerKeys, ProvenKey},
        session_server::SessionServer,
    },
    net::{
        configuring::Configuring,
        conn::{Conn, Io},
        deadline::Deadline,
    },
    pin::Pins,
    protocol::handshake::Intent,
    reason::Reason,
    session::Store,
};

pub mod admitted;
mod claim;
mod fallback;
mod hang_ups;
mod hold;
pub mod keys;
mod line;
mod metrics;
mod online;
mod opener;
mod player_key;
mod quarantine;
pub mod refusal;
pub mod roster;
mod stage;
mod terms;

pub use hang_ups::HangUps;
pub use metrics::{Metrics, PinChange};
pub use quarantine::{Held, Taken, admit_held};
pub use stage::{Hello, Named};
pub use terms::{Terms, TermsInForce};

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

impl FallbackMode {
    /// As it is written in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::DryRun => "dry-run",
            Self::Disabled => "disabled",
        }
    }
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
    /// How logins are treated. Whether one is admitted by policy is not read here, but in the terms.
    pub config: Config,
    /// By what players are admitted without the session server's word, as of now.
    pub terms: TermsInForce,
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
    /// The players' PINs.
    pub pins: Pins,
    /// What players read, for the dialog that asks for the PIN.
    pub messages: Arc<Messages>,
    /// Refusals kept back for clients that hung up.
    pub hang_ups: Arc<HangUps>,
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
    /// Where it would lead.
    pub route: Route,
    /// Hears what comes of asking for the PIN.
    pub on_pin: OnPin<'a>,
}

/// What happened to a player who is asked for its PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinEvent {
    /// It was asked, by a dialog.
    Prompted,
    /// It gave a wrong one.
    Failed {
        /// Tries that are left.
        left: u8,
    },
    /// It gave the right one.
    Verified,
}

/// Hears what comes of asking for the PIN of that id, whose session has that name. Must be quick.
#[derive(Clone, Copy)]
pub struct OnPin<'a>(pub &'a (dyn Fn(Uuid, &Username, PinEvent) + Sync));

impl OnPin<'_> {
    fn tell(&self, id: Uuid, name: &Username, event: PinEvent) {
        (self.0)(id, name, event);
    }
}

impl fmt::Debug for OnPin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnPin")
    }
}

/// A player who may go on to a backend, with the place it holds.
#[derive(Debug)]
pub struct Admission {
    /// Who, and how that was proven.
    pub admitted: Admitted,
    /// What the player holds for as long as it stays.
    pub seat: Seat,
    /// The connections of the same player that have to go first.
    pub leaving: Option<Leaving>,
    /// What the client said of itself.
    pub named: Named,
    /// The key that the client brought, if it was proven to be this player's.
    pub player_key: Option<ProvenKey>,
    /// If the country and network are known to be new for the player.
    pub moved: Option<Box<Moved>>,
    /// What the admission rests on, for audit.log.
    pub facts: Map<String, Value>,
    /// Of one by policy: since when there is an outage, as policy saw it.
    pub outage_started: Option<Timestamp>,
    /// What has happened with the client since its login success, if it got that from us: it is in configuration.
    pub begun: Option<Box<Configuring>>,
}

/// What a player holds for as long as it stays. Dropping it gives that up.
#[derive(Debug)]
pub enum Seat {
    /// It is in.
    Place(Place),
    /// It may only meet its backend, to be asked for its PIN there.
    Held(Box<Held>),
}

/// Where a client would be led, as far as its login has to know that.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Whether every backend needs a newer client.
    pub too_old: bool,
    /// Whether the backend makes ids of its own, out of names.
    pub own_ids: bool,
    /// From how many bytes on packets are likely to be compressed there; `None` is never.
    pub threshold: Option<usize>,
}

/// The whole login in reading order.
pub async fn drive<S: Io>(
    conn: &mut Conn<S>,
    hello: Hello,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
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
    } else if attempt.route.too_old {
        Err(Refusal::new(Reason::NewerVersionNeeded))
    } else {
        match (cx.terms.current().fallback, cx.health.status().verdict) {
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
    let mut refusal = Refusal { who, words: line.words(), ..Refusal::new(reason) };
    if let Some((id, proof)) = line.seated.get() {
        refusal.who.id = Some(*id);
        return refusal.fact("proof", proof.label());
    }
    if let Some(judged) = line.take_judged() {
        let Judged { reason, id, facts } = *judged;
        refusal.who.id = id;
        match reason {
            Some(reason) => {
                refusal =
                    Refusal { who: refusal.who.clone(), facts, ..Refusal::new(reason) }.unheard(refusal);
            }
            None => refusal.facts.extend(facts),
        }
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
    let id = session.filter(|session| !session.is_own_client(address)).map(|session| session.id);
    let asn = cx.geo.at_hand(address).and_then(|place| place.asn);
    cx.bans.fail(failure, address, &name.key(), id, asn);
}

/// How many different players share the client address, this one included.
fn accounts_at(cx: &LoginCx, address: IpAddr, admitted_here: Vec<Uuid>, own: Option<Uuid>) -> u32 {
    let mut ids: HashSet<_> = cx.store.ids_at(address, cx.clock.now()).into_iter().collect();
    ids.extend(admitted_here);
    ids.extend(own);
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}
