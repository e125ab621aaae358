//! Wires all rooms together, and takes them apart in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    admin::{OpenError, Phase, Serving, Stage},
    audit::{self, Audit, Kind},
    backend::{Router, route::Adopted},
    clock::Clock,
    config::Config,
    geo,
    limit::bans::OpenError as BansError,
    login::{keys::KeyError, roster::Roster},
    mojang::{health::Health, session_server::BuildError},
    net::listener::BindError,
    reason::Reason,
    relay,
    session::{Store, StoreError},
    status::AnswersError,
    task::{self, ShutdownTrigger},
};

mod admin;
mod alike;
mod chatter;
mod connection;
mod descriptors;
mod farewell;
mod journal;
mod pins;
mod places;
mod proxy_peers;
mod staff;
mod start;
mod stay;

/// The proxy cannot start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not allowed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The session store is in use or broken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bans cannot be kept.
    #[error(transparent)]
    Bans(#[from] BansError),
    /// Addresses cannot be looked up as configured.
    #[error(transparent)]
    Geo(#[from] geo::StartError),
    /// audit.log cannot be written.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    SessionServer(#[from] BuildError),
    /// No RSA key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No threads to relay with.
    #[error("cannot start the threads that relay: {0}")]
    Threads(#[source] io::Error),
    /// The admin interface cannot be had where its owner wants it.
    #[error(transparent)]
    Admin(#[from] OpenError),
    /// The server list answer cannot be given as configured.
    #[error("status: {0}")]
    Answers(#[from] AnswersError),
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    health: Health,
    store: Store,
    audit: Audit,
    clock: Clock,
    roster: Arc<Roster>,
    grace: Duration,
    router: Arc<Router>,
    /// What it was started with.
    config: Config,
    /// The admin interface; `None` is off.
    admin: Option<Serving>,
    phase: Phase,
    stop: Stop,
}

/// What became of the parts of a fresh configuration that are not taken over while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are what the proxy runs by.
    Same,
    /// Some differ; they take effect at the next start.
    AtNextStart,
}

/// What ends the parts, in the order it is done.
#[derive(Debug)]
struct Stop {
    /// To listeners and players.
    connections: ShutdownTrigger,
    accepting: Vec<JoinHandle<JoinSet<()>>>,
    relaying: relay::Threads,
    /// To everything that serves logins.
    services: ShutdownTrigger,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Opens the store, listens, and serves. Returns once connections are taken.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        start::start(config, clock).await
    }

    /// Where connections are taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin interface listens; `None` if it does not.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Serving::address)
    }

    /// The verdict on the session server, and the way to override it.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Players who are in.
    pub fn players(&self) -> usize {
        self.roster.len()
    }

    /// Opens audit.log anew, after somebody else rotated it.
    pub fn reopen_audit(&self) {
        self.audit.reopen();
    }

    /// Takes over from a configuration that was read again what may change while running: the forwarding secrets of
    /// backends that are otherwise the same, for logins that begin from now on. Connections are left alone. Says in the
    /// log what changed, and which secrets wait because their backend differs in more.
    pub fn reload(&self, fresh: &Config) -> Rest {
        let Adopted { changed, left } = self.router.adopt_secrets(&fresh.backend.backends);
        for backend in &changed {
            info!("the forwarding secret of backend {backend} changed; logins use the new one from now on");
        }
        for backend in &left {
            warn!(
                "backend {backend} differs in more than its forwarding secret; it keeps the old one until the next start"
            );
        }
        let changed: Vec<String> =
            changed.into_iter().map(|backend| format!("forwarding secret of {backend}")).collect();
        let rest = if self.config.is_same_but_secrets(fresh) { Rest::Same } else { Rest::AtNextStart };
        if rest == Rest::AtNextStart {
            info!("other changes of the configuration take effect at the next start");
        }
        self.audit.emit(journal::reloaded(&self.clock, &changed, rest));
        rest
    }

    /// Stops accepting, tells players and closes them, lets logins and writes finish within the grace, and ends.
    pub async fn stop(self) {
        info!(players = self.players(), "stopping");
        self.phase.enter(Stage::Stopping);
        let Stop { connections, accepting, relaying, services, tasks } = self.stop;
        let deadline = Instant::now() + self.grace;
        connections.trigger();
        self.roster.close_all(Reason::ShuttingDown);
        // The last tenth is for players whose login ends in the last moment: they are to be told, too.
        let logins = tokio::time::timeout_at(deadline - self.grace / 10, async {
            for task in accepting {
                if let Ok(mut connections) = task.await {
                    while let Some(ended) = connections.join_next().await {
                        task::note_panic(&ended);
                    }
                }
            }
        });
        // A login that is over by then has passed its player on, who is told and closed like all others.
        let logins_cut = logins.await.is_err();
        let players_cut = relaying.finish(deadline).await;
        if logins_cut || players_cut > 0 {
            warn!("some connections did not end within shutdown-grace; they are cut");
        }
        // Up to here it tells whoever asks that the proxy stops. Its store is needed no longer than that.
        admin::stop(self.admin, &self.store).await;
        services.trigger();
        for task in tasks {
            // A panic has been logged by the task itself.
            let _ = task.await;
        }
        if let Err(error) = self.store.close().await {
            error!(%error, "not every session could be saved");
        }
        self.audit.emit(audit::Event::new(Kind::ProxyStopped, self.clock.now()));
        self.audit.close().await;
        info!("stopped");
    }
}
