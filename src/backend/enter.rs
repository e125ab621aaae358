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
    mojang::player_keys::ProvenKey,
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

/// How long either side of a mod handshake may rest once the login's own time is over: the client gives up when it has
/// heard nothing for 30 s.
const REST: Duration = Duration::from_secs(25);

/// Most questions to the client that may be open at once. Forge sends its whole registry that way, one message each.
const MAX_OPEN: usize = 1024;

/// Where the client is asked whether it has read what came before. It answers that it does not know the channel.
const FENCE_CHANNEL: &str = "postern:fence";

/// Who enters.
#[derive(Clone, Copy, Debug)]
pub struct Player<'a> {
    /// The proof that the player may.
    pub admitted: &'a Admitted,
    /// The client's handshake.
    pub handshake: &'a Handshake,
    /// What the client speaks.
    pub dialect: &'a Dialect,
    /// The player's own key, if Mojang's signature on it was checked.
    pub key: Option<&'a ProvenKey>,
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
    /// The time for the login ran out while the client owed an answer, or though both sides went on.
    #[error("the client was not through in time")]
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
/// See [`EnterError`]. The whole ends with `deadline`, which moves on while the backend asks and the client answers.
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
        asked: None,
        answered: None,
        told: Told::Nothing,
        threshold: None,
        awaits_client: false,
        first_word: Some(Instant::now() + first_word),
    };
    let outcome = select! {
        outcome = talk.drive() => outcome,
        () = deadline.passed() => {
            // At the limit nobody has been silent: it was too much for one login.
            if talk.awaits_client || talk.open.is_owed() || deadline.is_at_limit() {
                return Err(EnterError::DeadlinePassed);
            }
            Err(Fault::Silent.into())
        }
    };
    // Perhaps the client still works on what it has not answered: no reason to lead others past this backend.
    let owes_nothing = talk.open.questions.is_empty();
    let Talk { conn, mut attempt, .. } = talk;
    match outcome {
        Ok(passed) => Ok(Entered { conn, backend, passed, unreachable }),
        Err(Stop::Client(error)) => Err(EnterError::Client(error)),
        Err(Stop::Backend(fault)) => {
            if fault == Fault::Silent && owes_nothing {
                attempt.failed();
            } else if fault != Fault::Silent {
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

/// A question of the backend's to the client.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// A plugin request, by its message id. A backend may use one twice.
    Plugin(i32),
    /// A cookie request, by its key.
    Cookie(String),
}

/// Questions that the client really got and has not answered.
#[derive(Debug, Default)]
struct Open {
    /// In the order they were asked.
    questions: Vec<Question>,
    /// How many of the first ones were overtaken: the client answered one that was asked later. Clients read in order,
    /// and some messages of mods are never answered, so nobody waits for these.
    overtaken: usize,
}

impl Open {
    fn is_full(&self) -> bool {
        self.questions.len() >= MAX_OPEN
    }

    /// Whether the client owes an answer.
    fn is_owed(&self) -> bool {
        self.questions.len() > self.overtaken
    }

    /// Crosses the question off that this answers.
    fn close(&mut self, answer: &FromClient<'_>) -> Result<(), Malformed> {
        let asks = |question: &Question| match (question, answer) {
            (Question::Plugin(id), FromClient::PluginResponse(response)) => *id == response.message_id,
            (Question::Cookie(asked), FromClient::CookieResponse { key }) => same_cookie(asked, key),
            _ => false,
        };
        let at = self.questions.iter().position(asks).ok_or(Malformed::BadValue)?;
        self.questions.remove(at);
        self.overtaken = if at < self.overtaken { self.overtaken - 1 } else { at };
        Ok(())
    }

    /// A message id that no open question has.
    fn free_id(&self) -> i32 {
        // Among more numbers than there are questions, one is free.
        (0..=i32::MAX).find(|id| !self.questions.contains(&Question::Plugin(*id))).unwrap_or_default()
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
    /// When the client last got a question.
    asked: Option<Instant>,
    /// When the backend last got an answer of the client's.
    answered: Option<Instant>,
    told: Told,
    /// The threshold that the backend set, not passed on yet.
    threshold: Option<i32>,
    /// Whether a write to the client is under way, or the last answer of the client's is waited for.
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

    /// Handshake and login start: the rebuilt host, and the name and id of the one who was admitted. The player's
    /// key goes along in the BungeeCord modes alone: a modern backend is told of it in the signed answer, and one
    /// without forwarding knows the player by another id than the key is for. An unproven one goes nowhere.
    async fn introduce(&mut self) {
        let Player { admitted, handshake, dialect, key } = *self.player;
        let profile = admitted.profile();
        let host = forwarding::host(&self.backend, &handshake.host, profile, admitted.address());
        let key = match self.backend.forwarding {
            ForwardingMode::Legacy | ForwardingMode::BungeeGuard => key.map(|proven| proven.key().clone()),
            ForwardingMode::Modern | ForwardingMode::None => None,
        };
        let start = LoginStart { name: profile.name.to_string(), key, claimed_id: Some(profile.id) };
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

    /// Passes a question on.
    async fn ask(&mut self, question: Question, packet: &[u8]) -> Result<(), Stop> {
        if self.open.is_full() {
            return Err(Fault::Protocol(Malformed::LengthOutOfRange).into());
        }
        self.open.questions.push(question);
        self.pass(packet).await?;
        self.asked = Some(Instant::now());
        self.go_on();
        Ok(())
    }

    /// Moves the deadline as far as the side may rest that has rested longer: mod handshakes are long, but both have
    /// to go on with it.
    fn go_on(&self) {
        if let (Some(asked), Some(answered)) = (self.asked, self.answered) {
            self.deadline.extend_to(asked.min(answered) + REST);
        }
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
                self.ask(Question::Plugin(request.message_id), packet).await?;
            }
            FromBackend::CookieRequest(key) => {
                self.ask(Question::Cookie(key.to_owned()), packet).await?;
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

    /// Answers a question that is meant for a proxy: the first one for the player in modern mode, no other.
    async fn answer_ourselves(&mut self, request: &PluginRequest<'_>) {
        let Player { admitted, dialect, key, .. } = *self.player;
        let ours = self.backend.forwarding == ForwardingMode::Modern
            && self.told == Told::Nothing
            && request.channel == forwarding::PLAYER_INFO;
        let data = ours.then(|| {
            self.told = Told::Signed;
            let secret = self.backend.secret.as_ref().map_or(&[][..], |secret| secret.expose_secret());
            forwarding::answer(request.data, secret, dialect, admitted.profile(), key, admitted.address())
        });
        if data.is_none()
            && request.channel == forwarding::PLAYER_INFO
            && self.backend.forwarding != ForwardingMode::Modern
        {
            self.told = Told::Declined;
        }
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
        if self.open.is_owed() {
            self.await_answers().await?;
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

    /// Waits until every answer that will come has come. Some messages of mods never get one (Forge's list of mods is
    /// such, from 1.18 to 1.20). So a question of our own goes behind them all, on a channel that no client knows: once
    /// that is answered, the client has read what came before.
    async fn await_answers(&mut self) -> Result<(), Stop> {
        let fence = self.open.free_id();
        let request = PluginRequest { message_id: fence, channel: FENCE_CHANNEL, data: &[] };
        self.pass(&request.write(self.player.dialect)).await?;
        self.awaits_client = true;
        loop {
            let packet = self.client.read_packet(limit::LOGIN).await.map_err(Stop::Client)?;
            match FromClient::read(&packet, self.player.dialect).map_err(client_fault)? {
                FromClient::PluginResponse(response) if response.message_id == fence => break,
                _ => self.hear_client(&packet).await?,
            }
        }
        self.awaits_client = false;
        Ok(())
    }

    async fn hear_client(&mut self, packet: &[u8]) -> Result<(), Stop> {
        let answer = FromClient::read(packet, self.player.dialect).map_err(client_fault)?;
        self.open.close(&answer).map_err(client_fault)?;
        self.tell(packet).await;
        self.answered = Some(Instant::now());
        self.go_on();
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
