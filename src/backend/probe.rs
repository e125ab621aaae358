//! A login that finds out how a backend treats its players. From 1.20.2 on it cannot become one; before, an open server
//! that waits for no tick may take it for one for a moment.
//!
//! A player is in play once login success was acknowledged, from the release on that has a configuration state. A probe
//! never acknowledges it, so there it may see a login through to login success. In older releases login success *is*
//! play, so there a probe ends its side of the connection in the same breath in which it says the last thing it has to
//! say. The game's own server handles login packets where it reads them, but lets players in at a later tick, by which
//! time the connection is over; what it had to say at once (a question, an encryption request, a refusal) still comes
//! back. And to a question a probe never gives an answer there that a player could be read from.
//!
//! So it does enter for a moment where a server before 1.20.2 asks for no forwarding and lets players in without a tick
//! (some that are not the game's own), where an old server gives itself out for a newer one in its server list answer,
//! and where a tunnel on the way passes the end of one side on too late.
//!
//! Nothing here knows players who were admitted: a probe cannot take anybody in.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Backend, ForwardingMode,
    connect::{Attempt, Connected, connect},
    diagnose::{Fault, Told},
    forwarding,
};
use crate::{
    identity::{BadUsername, Profile, Username},
    net::conn::{Conn, ConnError, Io, limit},
    protocol::{
        handshake::{Handshake, Intent, VirtualHost},
        login::{FromBackend, LoginStart, PluginRequest, PluginResponse, write_no_cookie},
        reader::Malformed,
        version::{Dialect, ProtocolVersion},
    },
};

/// Who a probe says it is: a name that shows in the backend's log where it came from.
pub const NAME: &str = "PosternDoctor";

/// The id that an offline-mode server gives to [`NAME`], so that a probe names nobody's account.
const OFFLINE_ID: Uuid = Uuid::from_u128(0x8007_59cf_6bc3_308f_a69a_98c6_7470_7a97);

/// The id that a probe forwards: of version 8, which is for such uses, while accounts have 4 and offline names 3. A
/// backend can have it from nowhere but the forwarding.
const FORWARDED_ID: Uuid = Uuid::from_u128(0x706f_7374_6572_8e00_8000_646f_6374_6f72);

/// The client address that a probe forwards: it comes from the proxy itself.
const ADDRESS: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// How long a backend may take for its part of a probe. Real logins are as patient with its first word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most packets of one backend that are read: mods ask long lists of questions.
const MAX_PACKETS: usize = 2048;

/// How a backend is approached: in which version, and how carefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approach {
    dialect: Dialect,
    /// Login success could mean play.
    careful: bool,
    /// It was seen to ask who the player is before it lets anyone in.
    asks: bool,
    marker: &'static str,
}

impl Approach {
    /// For a backend whose own version is `native`, as far as that is known; else it is spoken to as `spoken`. One
    /// that translates for others may be in play where the version spoken is not, so only its own counts. `marker` is
    /// what its modded clients append to the host.
    pub fn new(native: Option<ProtocolVersion>, spoken: ProtocolVersion, marker: &'static str) -> Self {
        let dialect = Dialect::of(native.unwrap_or(spoken));
        let is_safe = native.is_some() && dialect.is_known() && dialect.configuration;
        Self { dialect, careful: !is_safe, asks: false, marker }
    }

    /// The same, once it is known what a login came to that proved nothing: only a backend that then asked who the player
    /// is gets a careful login that waits for this question.
    #[must_use]
    pub fn after(self, unproven: &Heard) -> Self {
        Self { asks: unproven.asked, ..self }
    }

    /// Whether logins are left before they could succeed. What the backend says later is not heard then.
    pub fn is_careful(&self) -> bool {
        self.careful
    }

    /// The version spoken.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }
}

/// What a probe can prove about itself.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// Nothing: it comes as anybody could who can reach the port.
    Nothing,
    /// That it is the proxy: forwarding as the backend is configured, with this secret where the mode has one.
    Forwarded(Option<&'a SecretSlice<u8>>),
}

impl Claim<'_> {
    /// The id that the probe gives itself.
    const fn id(&self) -> Uuid {
        match self {
            Self::Nothing => OFFLINE_ID,
            Self::Forwarded(_) => FORWARDED_ID,
        }
    }

    /// Whom the probe names.
    fn profile(&self) -> Result<Profile, BadUsername> {
        Ok(Profile { id: self.id(), name: Username::parse(NAME)?, properties: Vec::new() })
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No connection.
    Unreachable(Vec<Attempt>),
    /// The backend refused it; the reason as JSON.
    Disconnect(String),
    /// The backend wants to authenticate the player itself.
    EncryptionRequest,
    /// The backend let it in, as this player.
    Success(Uuid),
    /// The backend closed the connection without a word, or, in a careful approach, after its last one.
    Closed,
    /// The backend said nothing for a while.
    Silent,
    /// The backend sent what is no login.
    Malformed(Malformed),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether the backend asked, as in modern forwarding, who the player is.
    pub asked: bool,
    /// What it was told.
    pub told: Told,
    /// The id that was forwarded to it; `None` if the probe claimed nothing.
    pub forwarded: Option<Uuid>,
    /// How it ended.
    pub end: End,
}

impl Heard {
    /// What is wrong with the backend, if it did not let the probe in: the same diagnosis that a real login gets.
    pub fn fault(&self, mode: ForwardingMode) -> Option<Fault> {
        Some(match &self.end {
            End::Unreachable(attempts) => Fault::Unreachable { attempts: attempts.clone() },
            End::Disconnect(json) => Fault::of_disconnect(json, mode, self.told),
            End::EncryptionRequest => Fault::OnlineMode,
            End::Success(id) => match self.forwarded {
                Some(_) if mode == ForwardingMode::Modern && !self.asked => Fault::ForwardingNotAsked,
                Some(forwarded) if forwarded != *id => Fault::WrongIdentity { given: *id },
                _ => return None,
            },
            End::Closed => Fault::Cut,
            End::Silent => Fault::Silent,
            End::Malformed(malformed) => Fault::Protocol(*malformed),
        })
    }

    /// The backend's refusal, JSON.
    pub fn refusal(&self) -> Option<&str> {
        match &self.end {
            End::Disconnect(json) => Some(json),
            _ => None,
        }
    }
}

/// Logs in at a backend as far as [the module](self) allows. Takes at most twice `connect_timeout` and 10 s.
pub async fn login(
    backend: &Backend,
    approach: &Approach,
    claim: Claim<'_>,
    connect_timeout: Duration,
) -> Heard {
    match connect(backend, None, connect_timeout).await {
        Ok(Connected { stream, target }) => {
            // It hears the name and port under which it was found, as those of a player who comes directly.
            let backend = Backend { host: target.host, port: target.port, ..backend.clone() };
            converse(Conn::new(stream), &backend, approach, claim).await
        }
        Err(attempts) => {
            let end = End::Unreachable(attempts);
            Heard { asked: false, told: Told::Nothing, forwarded: None, end }
        }
    }
}

async fn converse<S: Io>(conn: Conn<S>, backend: &Backend, approach: &Approach, claim: Claim<'_>) -> Heard {
    let mut talk = Talk { conn, backend, approach, claim, asked: false, told: Told::Nothing };
    let end =
        timeout(PATIENCE, talk.drive()).await.unwrap_or(Ok(End::Silent)).unwrap_or_else(|error| error.0);
    let forwarded = matches!(claim, Claim::Forwarded(_)).then_some(claim.id());
    Heard { asked: talk.asked, told: talk.told, forwarded, end }
}

struct Talk<'a, S> {
    conn: Conn<S>,
    backend: &'a Backend,
    approach: &'a Approach,
    claim: Claim<'a>,
    asked: bool,
    told: Told,
}

/// An end that came as an error.
struct Ended(End);

impl From<ConnError> for Ended {
    fn from(error: ConnError) -> Self {
        match error {
            ConnError::Malformed(malformed) => malformed.into(),
            ConnError::Closed | ConnError::Cut | ConnError::Broken(_) => Self(End::Closed),
        }
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self(End::Malformed(malformed))
    }
}

impl<S: Io> Talk<'_, S> {
    async fn drive(&mut self) -> Result<End, Ended> {
        self.introduce().await?;
        for _ in 0..MAX_PACKETS {
            let packet = self.conn.read_packet(limit::BACKEND).await?;
            match FromBackend::read(&packet, &self.approach.dialect)? {
                FromBackend::Disconnect(json) => return Ok(End::Disconnect(json.to_owned())),
                FromBackend::EncryptionRequest => return Ok(End::EncryptionRequest),
                FromBackend::Success(success) => return Ok(End::Success(success.profile.id)),
                FromBackend::SetCompression(threshold) => {
                    self.conn.set_threshold(usize::try_from(threshold).ok());
                }
                FromBackend::PluginRequest(request) => self.answer(&request).await,
                FromBackend::CookieRequest(key) => {
                    if let Some(packet) = write_no_cookie(&self.approach.dialect, key) {
                        self.say(&packet).await;
                    }
                }
            }
        }
        Err(Malformed::LengthOutOfRange.into())
    }

    /// Handshake and login start, in one write.
    async fn introduce(&mut self) -> Result<(), Ended> {
        let Self { backend, approach, claim, .. } = *self;
        let profile = claim.profile().map_err(|_| Malformed::BadValue)?;
        let dialect = approach.dialect;
        let virtual_host = VirtualHost::parse(&format!("{}{}", backend.host, approach.marker))?;
        let host = match claim {
            Claim::Nothing => virtual_host.for_backend(),
            Claim::Forwarded(secret) => {
                if backend.forwarding == ForwardingMode::BungeeGuard && secret.is_some() {
                    self.told = Told::Signed;
                }
                let backend = Backend { secret: secret.cloned(), ..backend.clone() };
                forwarding::host(&backend, &virtual_host, &profile, ADDRESS)
            }
        };
        let handshake = Handshake {
            version: dialect.version(),
            host: virtual_host,
            port: backend.port,
            intent: Intent::Login,
        };
        let start = LoginStart { name: NAME.to_owned(), key: None, claimed_id: Some(profile.id) };
        self.conn.queue_packet(&handshake.write(&host));
        self.conn.queue_packet(&start.write(&dialect));
        if approach.careful && !(approach.asks && self.answer_to_come().is_some()) {
            self.conn.close().await;
        } else {
            self.conn.write_raw(&[]).await.map_err(ConnError::from)?;
        }
        Ok(())
    }

    /// The secret under which the backend's question is to be answered, if it is.
    fn answer_to_come(&self) -> Option<&[u8]> {
        match self.claim {
            Claim::Forwarded(Some(secret)) if self.backend.forwarding == ForwardingMode::Modern => {
                Some(secret.expose_secret())
            }
            _ => None,
        }
    }

    /// Answers a question: that of modern forwarding as claimed, once; no other.
    async fn answer(&mut self, request: &PluginRequest<'_>) {
        let dialect = self.approach.dialect;
        let is_ours = request.channel == forwarding::PLAYER_INFO && !self.asked;
        self.asked |= is_ours;
        let data =
            match self.answer_to_come() {
                Some(secret) if is_ours && self.approach.careful => Some(forwarding::unreadable(secret)),
                Some(secret) if is_ours => self.claim.profile().ok().map(|profile| {
                    forwarding::answer(request.data, secret, &dialect, &profile, None, ADDRESS)
                }),
                _ => None,
            };
        if is_ours {
            self.told = if data.is_some() { Told::Signed } else { Told::Declined };
        }
        let response =
            PluginResponse { message_id: request.message_id, data: data.as_deref() }.write(&dialect);
        if self.approach.careful && data.is_some() {
            self.conn.queue_packet(&response);
            self.conn.close().await;
        } else {
            self.say(&response).await;
        }
    }

    /// Sends, unless this side is over. If the backend has hung up, it may have said why before: reading finds out.
    async fn say(&mut self, packet: &[u8]) {
        // An answer to a mod could be the last thing that keeps the backend from letting the probe in.
        if !self.approach.careful {
            let _ = self.conn.write_packet(packet).await;
        }
    }
}

#[cfg(test)]
mod tests;
