//! Takes an admitted player into a backend: from the TCP connection to login success.
//!
//! To the backend this proxy is the client, to the client it is the server. The only bytes of the client that reach
//! the backend are answers to questions that the backend asked through us.
//!
//! A client that was asked for a PIN has its login success already and is in configuration. The login at the backend is
//! ours alone then; what the client has said of itself follows once that is through.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep_until},
};

use super::{
    Backend, ForwardingMode,
    connect::Attempt,
    diagnose::{Fault, Told},
    forwarding,
    guest::{Heard, hear},
    questions::{Open, Question},
    route::{Router, Try},
    way::{LAST_WORD, Reached, Way},
};
use crate::{
    login::admitted::Admitted,
    mojang::player_keys::ProvenKey,
    net::{
        configuring::Configuring,
        conn::{Conn, ConnError, Io, limit},
        deadline::Deadline,
    },
    policy::Proof,
    protocol::{
        configuration,
        handshake::Handshake,
        login::{
            FromBackend, FromClient, LoginStart, LoginSuccess, PluginRequest, PluginResponse,
            write_cookie_response, write_disconnect, write_disconnect_json, write_login_acknowledged,
            write_set_compression,
        },
        play::{self, RelayState},
        reader::Malformed,
        text::Text,
        version::Dialect,
    },
    reason::Reason,
};

/// How long a backend may take for its first word. A running one answers within a tick or two; the player hears of
/// one that hangs while its own patience (30 s) lasts.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// How long either side of a mod handshake may rest once the login's own time is over: the client gives up when it has
/// heard nothing for 30 s.
const REST: Duration = Duration::from_secs(25);

/// How long the client may go without a word: somewhat less than it takes until it gives up.
const PATIENCE: Duration = Duration::from_secs(29);

/// What is said of a backend that was passed over because it hung up.
const HUNG_UP: &str = "hung up without a word: it is stopped behind something that still takes connections, or only one side expects a PROXY header";

/// Where the client is asked whether it has read what came before. It answers that it does not know the channel.
const FENCE_CHANNEL: &str = "postern:fence";

/// Where mods agree with each other before login success. A client whose player has not proven its PIN answers there and
/// nowhere else: its backend would not let a modded one in without, and reads nothing of who the player is there.
const MOD_HANDSHAKES: [&str; 3] = ["fml:handshake", "fml:loginwrapper", "forge:handshake"];

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

/// A player is in: the client got its login success, and both connections are ready for the relay. Where the client was
/// in configuration already, both sides are now.
#[derive(Debug)]
pub struct Entered {
    /// The connection to the backend.
    pub conn: Conn<TcpStream>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// What the backend settled with the client through us.
    pub passed: Passed,
    /// Backends of the route that were not there and passed over for this one: worth a warning, the player is in.
    pub passed_over: Vec<Attempt>,
}

/// What the backend settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The compression threshold in force towards the client, in bytes. The backend's is the same, unless the client had
    /// its login success before.
    pub threshold: Option<usize>,
    /// The backend's login success, as the client got it, unless it had one before.
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
        /// Backends of the route that were not there and passed over for it.
        passed_over: Vec<Attempt>,
    },
    /// The virtual host leads only to backends that this client is too old for.
    #[error("no backend for this protocol version")]
    NoBackend,
    /// The client left, or sent what nobody asked it for.
    #[error("client: {0}")]
    Client(#[source] ConnError),
    /// The time for the login ran out while the client owed an answer, or though both sides went on, or the client had
    /// left too little of it for the backend.
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

    /// The disconnect packet that the player gets, in the login state or `in_configuration`: the backend's own words if
    /// it refused the player itself, else `text`, which is that of the reason. `None` if the client has left.
    pub fn disconnect(&self, dialect: &Dialect, in_configuration: bool, text: &Text) -> Option<Vec<u8>> {
        let words = match self {
            Self::Client(ConnError::Malformed(_)) | Self::NoBackend | Self::DeadlinePassed => None,
            Self::Client(_) => return None,
            Self::Backend { fault, .. } => fault.words(),
        };
        match (words, in_configuration) {
            (Some(words), false) => Some(write_disconnect_json(dialect, words)),
            (None, false) => Some(write_disconnect(dialect, text)),
            (Some(words), true) => play::write_disconnect_json(dialect, RelayState::Configuration, words),
            (None, true) => play::write_disconnect(dialect, RelayState::Configuration, text),
        }
    }
}

/// Why a step cannot go on; whose fault it is.
enum Stop {
    Backend(Fault),
    Client(ConnError),
    /// Nobody's that could be told to mend it: see [`EnterError::DeadlinePassed`].
    TimeOver,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Backend(fault)
    }
}

fn client_fault(error: impl Into<ConnError>) -> Stop {
    Stop::Client(error.into())
}

/// Takes a player into the first backend of its route that is there. Passed over for the next is a backend that cannot
/// be reached, or hangs up before it has said anything: until then the client was told nothing either. What it says is
/// final.
///
/// Nothing was said to the client when this fails, save for questions that its backend asked; the caller sends
/// [`EnterError::disconnect`]. `begun` is what happened with a client that is in configuration already.
///
/// # Errors
/// See [`EnterError`]. The whole ends with `deadline`, which moves on while the backend asks and the client answers.
pub async fn enter<C: Io>(
    client: &mut Conn<C>,
    player: &Player<'_>,
    mut begun: Option<&mut Configuring>,
    router: &Router,
    deadline: &Deadline,
) -> Result<Entered, EnterError> {
    let route = router.route(&player.handshake.host.route_key());
    let search = router.search_for(route, player.dialect);
    let mut way = Way::new(search, router.metrics());
    loop {
        let Reached { conn, address, attempt } =
            way.reach(client, begun.as_deref_mut(), player, deadline).await?;
        let backend = Arc::clone(attempt.backend());
        let mut talk = Talk {
            client,
            begun: begun.as_deref_mut(),
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
            tells_backend: false,
            backends_turn: Instant::now(),
            heard: false,
            goes_on: false,
        };
        let outcome = select! {
            outcome = talk.drive() => outcome,
            () = deadline.passed() => Err(talk.out_of_time()),
        };
        // Perhaps the client still works on what it has not answered: no reason to lead others past this backend.
        let owes_nothing = talk.open.is_empty();
        let Talk { conn, mut attempt, heard, .. } = talk;
        let fault = match outcome {
            Ok(passed) => {
                router.note_threshold(route, conn.threshold());
                return Ok(Entered { conn, backend, passed, passed_over: way.into_down() });
            }
            Err(Stop::Client(error)) => return Err(EnterError::Client(error)),
            Err(Stop::TimeOver) if heard => return Err(EnterError::DeadlinePassed),
            Err(Stop::TimeOver) => return Err(way.end(true)),
            Err(Stop::Backend(fault)) => fault,
        };
        match fault {
            Fault::Silent if owes_nothing => attempt.failed(),
            Fault::Silent => {}
            Fault::Cut if !heard => {
                attempt.hung_up();
                if way.goes_on() {
                    let error = HUNG_UP.to_owned();
                    way.note(&backend, [Attempt { backend: backend.name.clone(), address, error }]);
                    continue;
                }
            }
            _ => attempt.reached(),
        }
        return Err(EnterError::Backend { backend, fault, passed_over: way.into_down() });
    }
}

/// The login at a backend that was reached.
struct Talk<'a, C> {
    client: &'a mut Conn<C>,
    /// The client's configuration, if it is there already.
    begun: Option<&'a mut Configuring>,
    conn: Conn<TcpStream>,
    player: &'a Player<'a>,
    backend: Arc<Backend>,
    /// Ends well with the backend's first word that is not meant for us alone.
    attempt: Try<'a>,
    deadline: &'a Deadline,
    open: Open,
    /// When the client last got a question.
    asked: Option<Instant>,
    /// When the backend last got an answer of the client's, after which it may work as long as the client may.
    answered: Option<Instant>,
    told: Told,
    /// The threshold that the backend set, not passed on yet.
    threshold: Option<i32>,
    /// Whether a write to the client is under way, or the last answer of the client's is waited for.
    awaits_client: bool,
    /// Whether a write to the backend is under way.
    tells_backend: bool,
    /// Since when it is for the backend to say something, or to take what it is told.
    backends_turn: Instant,
    /// Whether the backend has said anything.
    heard: bool,
    /// Whether it has said more than its question to us.
    goes_on: bool,
}

impl<C: Io> Talk<'_, C> {
    /// The talk until login success has been passed on.
    async fn drive(&mut self) -> Result<Passed, Stop> {
        self.introduce().await;
        let first_word = FIRST_WORD.min(self.deadline.left().saturating_sub(LAST_WORD));
        let first_word = sleep_until(self.backends_turn + first_word);
        tokio::pin!(first_word);
        loop {
            select! {
                packet = self.conn.read_packet(limit::BACKEND) => {
                    let packet = packet.map_err(|error| backend_fault(&error))?;
                    self.heard = true;
                    self.backends_turn = Instant::now();
                    if let Some(passed) = self.hear_backend(&packet).await? {
                        return Ok(passed);
                    }
                }
                heard = hear(self.client, self.begun.as_deref_mut()) => {
                    self.hear_client(heard.map_err(Stop::Client)?).await?;
                }
                () = &mut first_word, if !self.heard => return Err(self.out_of_time()),
            }
        }
    }

    /// Whose fault it is that the time is over. The backend's only if it was for it to go on, and it had all the time
    /// that it may take. At the limit nobody has been silent: it was too much for one login.
    fn out_of_time(&self) -> Stop {
        let up_to_backend =
            self.tells_backend || !(self.awaits_client || self.open.is_owed() || self.deadline.is_at_limit());
        let full = if self.answered.is_some() && !self.tells_backend { REST } else { FIRST_WORD };
        if up_to_backend && self.backends_turn.elapsed() >= full {
            Fault::Silent.into()
        } else {
            Stop::TimeOver
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
        self.backends_turn = Instant::now();
        self.tells_backend = true;
        let _ = self.conn.write_packet(packet).await;
        self.tells_backend = false;
        self.backends_turn = Instant::now();
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
        self.open.add(question);
        self.pass(packet).await?;
        self.asked = Some(Instant::now());
        self.go_on();
        Ok(())
    }

    /// Moves the deadline as far as the side may rest that has rested longer: mod handshakes are long, but both have
    /// to go on with it. A backend that has all its answers may take its whole rest if the client's patience lasts.
    fn go_on(&self) {
        if let (Some(asked), Some(answered)) = (self.asked, self.answered) {
            self.deadline.extend_to(asked.min(answered) + REST);
            if !self.open.is_owed() {
                self.deadline.extend_to((answered + REST).min(asked + PATIENCE));
            }
        }
    }

    async fn hear_backend(&mut self, packet: &[u8]) -> Result<Option<Passed>, Stop> {
        let said = FromBackend::read(packet, self.player.dialect).map_err(Fault::Protocol)?;
        // Servers of which the game itself hangs still ask who the player is: that shows nothing.
        let asks_us = matches!(&said, FromBackend::PluginRequest(request) if request.channel.starts_with(forwarding::PROXY_CHANNELS));
        if !asks_us && !self.goes_on {
            self.goes_on = true;
            self.attempt.reached();
        }
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
            FromBackend::PluginRequest(PluginRequest { message_id, channel, .. })
                if !self.may_ask_client(channel) =>
            {
                self.tell(&PluginResponse { message_id, data: None }.write(self.player.dialect)).await;
            }
            FromBackend::PluginRequest(request) => {
                self.ask(Question::Plugin(request.message_id), packet).await?;
            }
            FromBackend::CookieRequest(key) => {
                let anew = self
                    .begun
                    .is_some()
                    .then(|| configuration::write_cookie_request(self.player.dialect, key));
                let question = anew.flatten();
                self.ask(Question::Cookie(key.to_owned()), question.as_deref().unwrap_or(packet)).await?;
            }
            FromBackend::Success(success) if self.begun.is_some() => {
                self.examine(&success)?;
                // Apart: hardly anybody needs the room.
                Box::pin(self.hand_over()).await?;
                return Ok(Some(Passed { threshold: self.client.threshold(), success }));
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

    /// Whether the client is asked what a backend asks on that channel. Not if it has left the state in which it could be;
    /// and of what a player says who is held only that reaches the backend which it takes to hold it.
    fn may_ask_client(&self, channel: &str) -> bool {
        let is_held = self.player.admitted.proof() == Proof::Held;
        self.begun.is_none() && (!is_held || MOD_HANDSHAKES.contains(&channel))
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
                // Without a configuration state the backend's login success is the beginning of play, where these
                // bytes would mean something else.
                answer if !self.player.dialect.configuration => {
                    self.open.close(&answer).map_err(client_fault)?;
                }
                _ => self.hear_client(Heard::Packet(packet)).await?,
            }
        }
        self.awaits_client = false;
        Ok(())
    }

    /// Brings the backend as far as a client is that is in configuration already, and tells it what that has said of
    /// itself. All that the client owes us is awaited first: the backend would take it for an answer to itself.
    async fn hand_over(&mut self) -> Result<(), Stop> {
        self.awaits_client = true;
        while !self.open.is_empty() {
            let heard = hear(self.client, self.begun.as_deref_mut()).await.map_err(Stop::Client)?;
            self.hear_client(heard).await?;
            self.awaits_client = true;
        }
        if let Some(configuring) = &mut self.begun {
            configuring.settle(self.client).await.map_err(Stop::Client)?;
        }
        self.awaits_client = false;
        let kept = self.begun.as_deref().map(Configuring::kept).unwrap_or_default();
        let acknowledged = write_login_acknowledged(self.player.dialect);
        for packet in acknowledged.iter().chain(kept) {
            self.conn.queue_packet(packet);
        }
        // If it has hung up, the relay finds out.
        let _ = self.conn.flush().await;
        Ok(())
    }

    async fn hear_client(&mut self, heard: Heard) -> Result<(), Stop> {
        let dialect = self.player.dialect;
        match heard {
            Heard::Packet(packet) => {
                let answer = FromClient::read(&packet, dialect).map_err(client_fault)?;
                self.open.close(&answer).map_err(client_fault)?;
                self.tell(&packet).await;
            }
            Heard::Cookie { key, payload } => {
                self.open.close(&FromClient::CookieResponse { key: &key }).map_err(client_fault)?;
                if let Some(packet) = write_cookie_response(dialect, &key, payload.as_deref()) {
                    self.tell(&packet).await;
                }
            }
        }
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

#[cfg(test)]
mod tests;
