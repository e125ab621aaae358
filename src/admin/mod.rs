//! The admin interface: HTTP for the owner's commands and monitors.
//!
//! ```text
//! Config ──open──> Interface ──serve(Handles)──> Serving          a thread and a runtime of its own
//!                  address, token                    │
//!                       connection ──> gate: host, origin, token, content type
//!                                        └─> routes: one row per question ──> sessions, bans: a handle is asked
//! ```
//!
//! It shares no thread with logins: neither waits for the other, save for the store's short lock.
//!
//! # Who may ask
//!
//! Every request must name a host that this interface is known by, so that a page on the internet, whose own name
//! leads here, gets nothing. A token, where one is shown, must be right, also where none is asked for: so no command
//! ever takes another proxy for its own. Whatever changes anything asks for it, on loopback too, takes JSON alone and no
//! request that a page of another site made. Questions that tell of players ask for it wherever others than programs of
//! this machine may ask: beyond loopback, and behind a proxy. Nothing is ever allowed to other sites (no CORS headers).

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::{
    alert::Alerts,
    audit::Audit,
    clock::Clock,
    limit::bans::Bans,
    mojang::health::Health,
    policy::Proof,
    session::Store,
    statistics::Statistics,
    task::{Shutdown, ShutdownTrigger},
};

mod answer;
mod audit;
pub mod auth;
mod bans;
mod console;
mod events;
mod gate;
mod metrics;
mod patient;
pub mod players;
mod readiness;
mod reload;
mod routes;
mod server;
mod sessions;
pub mod status;
#[cfg(test)]
mod testing;
mod token;

use gate::Gate;
pub use readiness::Rehearse;
pub use reload::{Reload, Reloaded};
use status::{Connections, Facts};
pub use token::{Token, TokenError};

/// How long the interface may take to end once the proxy stops: longer than its answers may take.
const END_TIME: Duration = Duration::from_secs(5);

/// Where the admin interface listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its address; `None` is off.
    pub listen: Option<SocketAddr>,
    /// Whether the owner chose that address. If not, the proxy runs without it where it is taken.
    pub listen_is_chosen: bool,
    /// The file of the token that its callers need.
    pub token_file: PathBuf,
    /// Further `Host` headers to accept.
    pub allowed_hosts: Vec<String>,
}

/// The admin interface cannot be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its address is taken or not allowed.
    #[error(
        "cannot listen on {address} for the admin interface: {source}; choose another address for admin.listen, or \
         \"\" to run without"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Others than this machine could reach it, and nobody wrote a token.
    #[error(
        "admin.listen {address} can be reached from other machines, and the token {} does not exist; create it with a \
         long random text as its content, or listen on 127.0.0.1", token_file.display()
    )]
    BeyondWithoutToken {
        /// The address.
        address: SocketAddr,
        /// Where the token should be.
        token_file: PathBuf,
    },
    /// The token is gone while the interface asks for it.
    #[error(
        "the admin token {} does not exist; put it back, or create it with a long random text as its content",
        token_file.display()
    )]
    TokenGone {
        /// Where it should be.
        token_file: PathBuf,
    },
    /// The system gives no thread to serve it.
    #[error("cannot start the thread of the admin interface: {0}")]
    Thread(#[source] io::Error),
}

/// How far the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It does not take players yet.
    Starting,
    /// It takes players.
    Ready,
    /// It takes players no more.
    Stopping,
}

impl Stage {
    /// Its word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// How far the proxy is, for all to see. Clones are the same.
#[derive(Clone, Debug)]
pub struct Phase(watch::Sender<Stage>);

impl Default for Phase {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Starting))
    }
}

impl Phase {
    /// Sees every later change.
    pub fn subscribe(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }

    /// How far it is now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// It has come further.
    pub fn enter(&self, stage: Stage) {
        self.0.send_replace(stage);
    }
}

/// How the player of an id who is in now was proven; `None` if none is in.
pub type Connected = Box<dyn Fn(Uuid) -> Option<Proof> + Send + Sync>;

/// What the answers come from.
pub struct Handles {
    /// Remembered players.
    pub store: Store,
    /// Who is banned.
    pub bans: Bans,
    /// Is told of every change.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
    /// How far the proxy is.
    pub phase: Phase,
    /// Who is in.
    pub connected: Connected,
    /// The same at length, and those who are held.
    pub players: Box<dyn players::Players>,
    /// The verdict on the session server.
    pub health: Health,
    /// Whom alerts go to.
    pub alerts: Alerts,
    /// What is counted since installation.
    pub statistics: Statistics,
    /// Connections and logins.
    pub connections: Box<dyn Fn() -> Connections + Send + Sync>,
    /// What the configuration in use says.
    pub facts: Box<dyn Fn() -> Facts + Send + Sync>,
    /// Who could join in an outage.
    pub readiness: Rehearse,
    /// Figures for Prometheus; `None` if they are switched off.
    pub metrics: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Reads the configuration again.
    pub reload: Reload,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handles")
    }
}

/// The interface, which listens but does not answer yet.
#[derive(Debug)]
pub struct Interface {
    listener: TcpListener,
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Interface {
    /// Takes the address and reads the token; on loopback a missing one is written. `None` if the interface is switched
    /// off, or cannot be had at an address that the owner did not choose, which is logged. Blocks.
    ///
    /// # Errors
    /// An address that the owner chose and that cannot be had, and whatever is wrong with the token there.
    pub fn open(config: &Config) -> Result<Option<Self>, OpenError> {
        let Some(listen) = config.listen else { return Ok(None) };
        match Self::open_at(listen, config) {
            Ok(interface) => Ok(Some(interface)),
            Err(error) if !config.listen_is_chosen => {
                tracing::warn!(
                    "running without the admin interface, so postern sessions and postern bans cannot reach this proxy: \
                     {error}"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn open_at(listen: SocketAddr, config: &Config) -> Result<Self, OpenError> {
        let bind = |source| OpenError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let path = &config.token_file;
        let token = if listen.ip().to_canonical().is_loopback() {
            Token::read_or_write(path)?
        } else {
            Token::read(path).map_err(|error| match error {
                TokenError::Missing { path } => {
                    OpenError::BeyondWithoutToken { address: listen, token_file: path }
                }
                error => error.into(),
            })?
        };
        warn_of(&token, path);
        let on_loopback = address.ip().to_canonical().is_loopback();
        let gate = Arc::new(Gate::new(token, &config.allowed_hosts, on_loopback));
        Ok(Self { listener, address, gate })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// A system that gives no thread, or cannot wait for connections.
    pub fn serve(self, handles: Handles) -> Result<Serving, OpenError> {
        let Self { listener, address, gate } = self;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OpenError::Thread)?;
        let listener = {
            let _inside = runtime.enter();
            server::adopt(listener).map_err(OpenError::Thread)?
        };
        let (stop, stopping) = Shutdown::new();
        let (ending, ended) = oneshot::channel();
        let serving = Arc::clone(&gate);
        let serve = move || {
            runtime.block_on(server::run(listener, serving, handles, stopping));
            // A read that a stuck disk holds must not keep the proxy from ending.
            runtime.shutdown_background();
            // Nobody may be left to hear it.
            let _ = ending.send(());
        };
        thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(OpenError::Thread)?;
        Ok(Serving { address, gate, stop, ended })
    }
}

/// What callers must meet by a configuration that was read again, to be taken over.
#[derive(Debug)]
pub struct Prepared {
    token: Token,
    hosts: Vec<String>,
}

/// The way to change what callers of a running interface must meet.
#[derive(Clone, Debug)]
pub struct Door(Arc<Gate>);

impl Door {
    /// Reads what a configuration says of the token and of hosts. Where the interface listens is not looked at: that
    /// changes at the next start only.
    ///
    /// # Errors
    /// A token that is not there, cannot be read, or is none.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, OpenError> {
        let (path, hosts) = (config.token_file.clone(), config.allowed_hosts.clone());
        let read = tokio::task::spawn_blocking(move || {
            let token = Token::read(&path).map_err(|error| match error {
                TokenError::Missing { path } => OpenError::TokenGone { token_file: path },
                error => error.into(),
            })?;
            warn_of(&token, &path);
            Ok(Prepared { token, hosts })
        });
        // The task cannot be cancelled while somebody waits for it.
        read.await.unwrap_or_else(|stopped| panic::resume_unwind(stopped.into_panic()))
    }

    /// Whether that token is another than the one that is asked for now.
    pub fn asks_otherwise(&self, prepared: &Prepared) -> bool {
        !self.0.asks_for(&prepared.token)
    }

    /// Asks for that token, and takes those hosts, from now on. Whoever is being told of events with another token is
    /// cut off.
    pub fn adopt(&self, prepared: Prepared) {
        let Prepared { token, hosts } = prepared;
        self.0.adopt(token, &hosts);
    }
}

/// Says what is not well with a token that will do.
fn warn_of(token: &Token, path: &Path) {
    if token.is_short() {
        tracing::warn!(file = %path.display(), "the admin token is short enough to be guessed; delete the file to get \
            a random one at the next start");
    }
    if crate::secret::open_to_others(path) {
        tracing::warn!(file = %path.display(), "the admin token can be read by other users of this machine; chmod it \
            to 0600");
    }
}

/// The interface, which answers. Dropping it ends it.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    gate: Arc<Gate>,
    stop: ShutdownTrigger,
    ended: oneshot::Receiver<()>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What callers must meet, for whoever changes that.
    pub fn door(&self) -> Door {
        Door(Arc::clone(&self.gate))
    }

    /// Lets answers that are under way finish, for a moment, and ends.
    pub async fn stop(self) {
        self.stop.trigger();
        match tokio::time::timeout(END_TIME, self.ended).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!(
                "the thread of the admin interface panicked; this is a bug in Postern, please report it"
            ),
            Err(_) => tracing::warn!("the admin interface does not end in time"),
        }
    }
}
