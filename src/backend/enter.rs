//! Takes an admitted player into a backend: from the TCP connection to login success.
//!
//! To the backend this proxy is the client, to the client it is the server. The only bytes of the client that reach
//! the backend are answers to questions that the backend asked through us.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep_until},
};

use super::{
    Backend, ForwardingMode,
    connect::{Attempt, Patience, connect},
    diagnose::{Fault, Told},
    forwarding,
    route::{Router, Try},
};
use crate::{
    login::admitted::Admitted,
    net::{
        conn::{Conn, ConnError, Io, limit},
        deadline::Deadline,
    },
    protocol::{
        handshake::Handshake,
        login::{
            FromBackend, FromClient, LoginStart, LoginSuccess, PluginRequest, PluginResponse,
            write_disconnect, write_disconnect_json, write_set_compression,
        },
        reader::Malformed,
        text::Text,
        version::Dialect,
    },
    reason::Reason,
};

/// How long a backend may take for its first word. A running one answers within a tick or two; the player hears of
/// one that hangs while its own patience (30 s) lasts.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Kept back from the login's deadline for telling the player why.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The part of the time left that may be spent on connecting, as a fraction; the rest is for the login at the backend
/// that is reached last.
const SEARCH: (u32, u32) = (7, 8);

/// What a login gains by each question that the backend asked and the client answered: mod handshakes are long.
const PROGRESS: Duration = Duration::from_secs(10);

/// Most questions to the client that may be open at once. Forge sends its whole registry that way, one message each.
const MAX_OPEN: usize = 1024;

/// Who enters.
#[derive(Clone, Copy, Debug)]
pub struct Player<'a> {
    /// The proof that the player may.
    pub admitted: &'a Admitted,
    /// The client's handshake.
    pub handshake: &'a Handshake,
    /// What the client speaks.
    pub dialect: &'a Dialect,
}

/// A player is in: the client got its login success, and both connections are ready for the relay.
#[derive(Debug)]
pub struct Entered {
    /// The connection to the backend.
    pub conn: Conn<TcpStream>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// What the backend settled with the client through us.
    pub passed: Passed,
    /// Backends of the route that could not be reached before this one: worth a warning, the player is in.
    pub unreachable: Vec<Attempt>,
}

/// What was passed on to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The compression threshold in force on both connections, in bytes.
    pub threshold: Option<usize>,
    /// The backend's login success, as the client got it.
    pub success: LoginSuccess,
}

/// Why a player did not get in.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A backend is at fault, or has refused the player.
    #[error("backend {} {}", .backend.name, .fault.cause())]
    Backend {
        /// Which one.
        backend: Arc<Backend>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The virtual host leads only to backends that this client is too old for.
    #[error("no backend for this protocol version")]
    NoBackend,
    /// The client left, or sent what nobody asked it for.
    #[error("client: {0}")]
    Client(#[source] ConnError),
    /// The time for the login ran out while the client owed an answer.
    #[error("the client did not answer in time")]
    DeadlinePassed,
}

impl EnterError {
    /// The reason code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Backend { fault, .. } => fault.reason(),
            Self::NoBackend => Reason::NewerVersionNeeded,
            Self::Client(ConnError::Malformed(_)) => Reason::BadHandshake,
            Self::Client(_) => Reason::ClientLeft,
            Self::DeadlinePassed => Reason::ClientTimeout,
        }
    }

    /// The disconnect packet that the player gets: the backend's own words if it refused the player itself, else
    /// `text`, which is that of the reason. `None` if the client has left.
    pub fn disconnect(&self, dialect: &Dialect, text: &Text) -> Option<Vec<u8>> {
        match self {
            Self::Client(ConnError::Malformed(_)) | Self::NoBackend | Self::DeadlinePassed => {}
            Self::Client(_) => return None,
            Self::Backend { fault, .. } => {
                if let Some(words) = fault.words() {
                    return Some(write_disconnect_json(dialect, words));
                }
            }
        }
        Some(write_disconnect(dialect, text))
    }
}

/// Why a step cannot go on; whose fault it is.
enum Stop {
    Backend(Fault),
    Client(ConnError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Backend(fault)
    }
}

fn client_fault(error: impl Into<ConnError>) -> Stop {
    Stop::Client(error.into())
}

/// Takes a player into the first backend of its route that can be reached. Only a backend that cannot be reached is
/// passed over for the next: what a reached one says is final.
///
/// Nothing was said to the client when this fails, save for questions that its backend asked; the caller sends
/// [`EnterError::disconnect`].
///
/// # Errors
/// See [`EnterError`]. The whole ends with `deadline`, which each answered question of the backend extends.
pub async fn enter<C: Io>(
    client: &mut Conn<C>,
    player: &Player<'_>,
    router: &Router,
    deadline: &Deadline,
) -> Result<Entered, EnterError> {
    let reached = reach(client, player, router, deadline).await?;
    let Reached { conn, attempt, unreachable } = reached;
    let backend = Arc::clone(attempt.backend());
    let first_word = FIRST_WORD.min(deadline.left().saturating_sub(LAST_WORD));
    let mut talk = Talk {
        client,
        conn,
        player,
        backend: Arc::clone(&backend),
        attempt,
        deadline,
        open: Open::default(),
        told: Told::Nothing,
        threshold: None,
        awaits_client: false,
        first_word: Some(Instant::now() + first_word),
    };
    let outcome = select! {
        outcome = talk.drive() => outcome,
        () = deadline.passed() => {
            if talk.awaits_client || !talk.open.is_empty() {
                return Err(EnterError::DeadlinePassed);
            }
            Err(Fault::Silent.into())
        }
    };
    let Talk { conn, mut attempt, .. } = talk;
    match outcome {
        Ok(passed) => Ok(Entered { conn, backend, passed, unreachable }),
        Err(Stop::Client(error)) => Err(EnterError::Client(error)),
        Err(Stop::Backend(fault)) => {
            if fault == Fault::Silent {
                attempt.failed();
            } else {
                // Hanging up is a word of a kind.
                attempt.reached();
            }
            Err(EnterError::Backend { backend, fault })
        }
    }
}

struct Reached<'r> {
    conn: Conn<TcpStream>,
    attempt: Try<'r>,
    unreachable: Vec<Attempt>,
}

/// Connects to the first candidate that can be reached, as long as the client stays. However many hang, each gets its
/// share of the time, and the last one still has some for the login itself.
async fn reach<'r, C: Io>(
    client: &mut Conn<C>,
    player: &Player<'_>,
    router: &'r Router,
    deadline: &Deadline,
) -> Result<Reached<'r>, EnterError> {
    let mut search = router.search_for(router.route(&player.handshake.host.route_key()), player.dialect);
    if search.len() == 0 {
        return Err(EnterError::NoBackend);
    }
    let usual = Patience::from(router.connect_timeout());
    let end = Instant::now() + deadline.left().saturating_sub(LAST_WORD) / SEARCH.1 * SEARCH.0;
    let (mut first, mut unreachable) = (None, Vec::new());
    let searching = async {
        while let Some(mut attempt) = search.next() {
            first.get_or_insert_with(|| Arc::clone(attempt.backend()));
            let left = u32::try_from(search.len()).unwrap_or(u32::MAX - 1);
            let share = end.saturating_duration_since(Instant::now()) / (left + 1);
            let patience = Patience { each: usual.each.min(share), all: usual.all.min(share) };
            match connect(attempt.backend(), Some(player.admitted.address()), patience).await {
                Ok(found) => return Some((Conn::new(found.stream), attempt)),
                Err(attempts) => {
                    attempt.failed();
                    unreachable.extend(attempts);
                }
            }
        }
        None
    };
    let found = select! {
        found = searching => found,
        // Nobody has asked the client anything yet.
        packet = client.read_packet(limit::LOGIN) => return Err(EnterError::Client(unasked(packet))),
        () = deadline.passed() => None,
    };
    if let Some((conn, attempt)) = found {
        return Ok(Reached { conn, attempt, unreachable });
    }
    let Some(first) = first else { return Err(EnterError::NoBackend) };
    if unreachable.is_empty() {
        let error = "no answer before the login's time ran out".to_owned();
        unreachable.push(Attempt { backend: first.name.clone(), address: None, error });
    }
    Err(EnterError::Backend { backend: first, fault: Fault::Unreachable { attempts: unreachable } })
}

/// What it means that the client sends when it was asked nothing.
fn unasked(packet: Result<Vec<u8>, ConnError>) -> ConnError {
    match packet {
        Err(error) => error,
        Ok(packet) => Malformed::UnexpectedPacket(packet.first().copied().map_or(-1, i32::from)).into(),
    }
}

/// Questions that the client really got and has not answered.
#[derive(Debug, Default)]
struct Open {
    /// Message ids of plugin requests. A backend may use one twice.
    plugin: Vec<i32>,
    /// Keys of cookie requests.
    cookies: Vec<String>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.plugin.is_empty() && self.cookies.is_empty()
    }

    fn is_full(&self) -> bool {
        self.plugin.len() + self.cookies.len() >= MAX_OPEN
    }

    /// Crosses the question off that this answers.
    fn close(&mut self, answer: &FromClient<'_>) -> Result<(), Malformed> {
        let at = match answer {
            FromClient::PluginResponse(response) => {
                self.plugin.iter().position(|id| *id == response.message_id).map(|at| {
                    self.plugin.swap_remove(at);
                })
            }
            FromClient::CookieResponse { key } => {
                self.cookies.iter().position(|asked| same_cookie(asked, key)).map(|at| {
                    self.cookies.swap_remove(at);
                })
            }
        };
        at.ok_or(Malformed::BadValue)
    }
}

/// Identifiers without a namespace are in `minecraft`; the client answers with the whole one.
fn same_cookie(asked: &str, answered: &str) -> bool {
    let path = |key| str::strip_prefix(key, "minecraft:").unwrap_or(key);
    path(asked) == path(answered)
}

/// The login at a backend that was reached.
struct Talk<'a, C> {
    client: &'a mut Conn<C>,
    conn: Conn<TcpStream>,
    player: &'a Player<'a>,
    backend: Arc<Backend>,
    /// Ends well with the backend's first word.
    attempt: Try<'a>,
    deadline: &'a Deadline,
    open: Open,
    told: Told,
    /// The threshold that the backend set, not passed on yet.
    threshold: Option<i32>,
    /// Whether a write to the client is under way.
    awaits_client: bool,
    /// When the backend has to have said something, until it has.
    first_word: Option<Instant>,
}

impl<C: Io> Talk<'_, C> {
    /// The talk until login success has been passed on.
    async fn drive(&mut self) -> Result<Passed, Stop> {
        self.introduce().await;
        loop {
            let first_word = self.first_word;
            select! {
                packet = self.conn.read_packet(limit::BACKEND) => {
                    let packet = packet.map_err(|error| backend_fault(&error))?;
                    if self.first_word.take().is_some() {
                        self.attempt.reached();
                    }
                    if let Some(passed) = self.hear_backend(&packet).await? {
                        return Ok(passed);
                    }
                }
                packet = self.client.read_packet(limit::LOGIN) => {
                    self.hear_client(&packet.map_err(Stop::Client)?).await?;
                }
                () = until(first_word) => return Err(Fault::Silent.into()),
            }
        }
    }

    /// Handshake and login start: the rebuilt host, and the name and id of the one who was admitted. No player
    /// key travels along: nothing that the client wrote is to speak for its identity.
    async fn introduce(&mut self) {
        let Player { admitted, handshake, dialect } = *self.player;
        let profile = admitted.profile();
        let host = forwarding::host(&self.backend, &handshake.host, profile, admitted.address());
        let start = LoginStart { name: profile.name.to_string(), key: None, claimed_id: Some(profile.id) };
        self.tell(&handshake.write(&host)).await;
        self.tell(&start.write(dialect)).await;
        if self.backend.forwarding == ForwardingMode::BungeeGuard {
            self.told = Told::Signed;
        }
    }

    /// Sends to the backend. If it has hung up, it may have said why before: reading finds out.
    async fn tell(&mut self, packet: &[u8]) {
        let _ = self.conn.write_packet(packet).await;
    }

    /// Sends to the client.
    async fn pass(&mut self, packet: &[u8]) -> Result<(), Stop> {
        self.awaits_client = true;
        self.client.write_packet(packet).await.map_err(client_fault)?;
        self.awaits_client = false;
        Ok(())
    }

    async fn hear_backend(&mut self, packet: &[u8]) -> Result<Option<Passed>, Stop> {
        let said = FromBackend::read(packet, self.player.dialect).map_err(Fault::Protocol)?;
        match said {
            FromBackend::Disconnect(json) => {
                return Err(Fault::of_disconnect(json, self.backend.forwarding, self.told).into());
            }
            FromBackend::EncryptionRequest => return Err(Fault::OnlineMode.into()),
            FromBackend::SetCompression(threshold) => {
                self.conn.set_threshold(usize::try_from(threshold).ok());
                self.threshold = Some(threshold);
            }
            FromBackend::PluginRequest(request)
                if request.channel.starts_with(forwarding::PROXY_CHANNELS) =>
            {
                self.answer_ourselves(&request).await;
            }
            FromBackend::PluginRequest(request) => {
                self.note_question()?;
                self.open.plugin.push(request.message_id);
                self.pass(packet).await?;
            }
            FromBackend::CookieRequest(key) => {
                self.note_question()?;
                self.open.cookies.push(key.to_owned());
                self.pass(packet).await?;
            }
            FromBackend::Success(success) => {
                self.examine(&success)?;
                self.settle().await?;
                self.pass(packet).await?;
                return Ok(Some(Passed { threshold: self.client.threshold(), success }));
            }
        }
        Ok(None)
    }

    fn note_question(&self) -> Result<(), Fault> {
        if self.open.is_full() { Err(Fault::Protocol(Malformed::LengthOutOfRange)) } else { Ok(()) }
    }

    /// Answers a question that is meant for a proxy: the first one for the player in modern mode, no other.
    async fn answer_ourselves(&mut self, request: &PluginRequest<'_>) {
        let Player { admitted, dialect, .. } = *self.player;
        let ours = self.backend.forwarding == ForwardingMode::Modern
            && self.told == Told::Nothing
            && request.channel == forwarding::PLAYER_INFO;
        let data = ours.then(|| {
            self.told = Told::Signed;
            let secret = self.backend.secret.as_ref().map_or(&[][..], |secret| secret.expose_secret());
            forwarding::answer(request.data, secret, dialect, admitted.profile(), admitted.address())
        });
        let response = PluginResponse { message_id: request.message_id, data: data.as_deref() };
        self.tell(&response.write(dialect)).await;
    }

    /// Whether the backend let in who was forwarded. Without forwarding the player is whoever the backend says.
    fn examine(&self, success: &LoginSuccess) -> Result<(), Fault> {
        let given = success.profile.id;
        match self.backend.forwarding {
            ForwardingMode::None => Ok(()),
            ForwardingMode::Modern if self.told == Told::Nothing => Err(Fault::ForwardingNotAsked),
            _ if given != self.player.admitted.profile().id => Err(Fault::WrongIdentity { given }),
            _ => Ok(()),
        }
    }

    /// Passes the compression threshold on, right before login success and not earlier: an answer that the client
    /// sends meanwhile would reach us in frames of the old kind. So answers still on their way are awaited first.
    async fn settle(&mut self) -> Result<(), Stop> {
        while !self.open.is_empty() {
            let packet = self.client.read_packet(limit::LOGIN).await.map_err(Stop::Client)?;
            self.hear_client(&packet).await?;
        }
        if let Some(threshold) = self.threshold
            && let Some(packet) = write_set_compression(self.player.dialect, threshold)
        {
            // In one step: whatever is said next, be it a refusal, is framed as the client now expects.
            self.client.queue_packet(&packet);
            self.client.set_threshold(usize::try_from(threshold).ok());
        }
        Ok(())
    }

    async fn hear_client(&mut self, packet: &[u8]) -> Result<(), Stop> {
        let answer = FromClient::read(packet, self.player.dialect).map_err(client_fault)?;
        self.open.close(&answer).map_err(client_fault)?;
        self.tell(packet).await;
        self.deadline.extend(PROGRESS);
        Ok(())
    }
}

fn backend_fault(error: &ConnError) -> Stop {
    Stop::Backend(match error {
        ConnError::Malformed(malformed) => Fault::Protocol(*malformed),
        ConnError::Closed | ConnError::Cut | ConnError::Broken(_) => Fault::Cut,
    })
}

/// Waits for the moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
