//! Wires all rooms together, and takes them apart in order.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{error, info, warn};

use self::{
    generation::{Generations, Lasting},
    reload::{Asker, Reloads},
};
use crate::{
    admin::{OpenError, Phase, Serving, Stage},
    alert::webhook,
    audit::{self, Kind},
    clock::Clock,
    config::{Config, Environment},
    geo,
    limit::bans::OpenError as BansError,
    login::keys::KeyError,
    metric,
    mojang::{health::Health, session_server::BuildError},
    net::listener::BindError,
    reason::Reason,
    relay,
    session::StoreError,
    status::AnswersError,
    task::{self, ShutdownTrigger},
};

mod admin;
mod alike;
mod chatter;
mod connection;
mod descriptors;
mod farewell;
mod generation;
mod journal;
mod metrics;
mod pins;
mod places;
mod players;
mod process;
mod proxy_peers;
mod reload;
mod staff;
mod start;
mod stay;
mod supervisor;
mod webhooks;

pub use crate::admin::Reloaded;
pub use reload::Outcome;
pub use supervisor::Supervisor;

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
    /// Webhooks cannot be reached at all.
    #[error(transparent)]
    Webhooks(#[from] webhook::BuildError),
    /// The figures for Prometheus do not fit together.
    #[error("the figures for Prometheus: {0}; this is a bug in Postern, please report it")]
    Metrics(#[from] metric::Error),
    /// The server list answer cannot be given as configured.
    #[error("status: {0}")]
    Answers(#[from] AnswersError),
}

/// What a proxy is run in. The default is nothing in particular: no secrets in the environment, no service manager.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment that a reload finds secrets in, as the start did.
    pub environment: Arc<Environment>,
    /// Who started the program and wants to hear how it fares.
    pub supervisor: Supervisor,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    lasting: Arc<Lasting>,
    generations: Arc<Generations>,
    reloads: Reloads,
    supervisor: Supervisor,
    /// The admin interface; `None` is off.
    admin: Option<Serving>,
    phase: Phase,
    stop: Stop,
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
        Self::start_in(config, clock, Surroundings::default()).await
    }

    /// The same as part of a system: with secrets in the environment, or a service manager.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_in(
        config: Config,
        clock: Clock,
        surroundings: Surroundings,
    ) -> Result<Self, StartError> {
        start::start(config, clock, surroundings).await
    }

    /// Where connections are taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.lasting.addresses
    }

    /// Where the admin interface listens; `None` if it does not.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Serving::address)
    }

    /// The verdict on the session server, and the way to override it.
    pub fn health(&self) -> &Health {
        &self.lasting.health
    }

    /// Players who are in.
    pub fn players(&self) -> usize {
        self.lasting.roster.len()
    }

    /// Opens audit.log anew, after somebody else rotated it.
    pub fn reopen_audit(&self) {
        self.lasting.audit.reopen();
    }

    /// Asks for the configuration to be read again and taken over: all of it, or nothing if anything is wrong with it.
    /// Connections are left alone; those that begin later go by it. Only `bind` and `admin.listen` wait for the next
    /// start.
    ///
    /// This is what a signal asks for, and audit.log says so; the admin interface has its own way.
    ///
    /// It is asked for at once and done beside everything else; the future tells what came of it, which the log and
    /// audit.log tell as well.
    pub fn reload(&self) -> impl Future<Output = Outcome> + Send + use<> {
        self.reloads.ask(Asker::Signal)
    }

    /// Stops accepting, tells players and closes them, lets logins and writes finish within the grace, and ends.
    pub async fn stop(self) {
        info!(players = self.players(), "stopping");
        self.phase.enter(Stage::Stopping);
        self.supervisor.stopping().await;
        let Stop { connections, accepting, relaying, services, tasks } = self.stop;
        let grace = self.generations.current().config.shutdown_grace;
        let deadline = Instant::now() + grace;
        connections.trigger();
        self.lasting.roster.close_all(Reason::ShuttingDown);
        // The last tenth is for players whose login ends in the last moment: they are to be told, too.
        let logins = tokio::time::timeout_at(deadline - grace / 10, async {
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
        admin::stop(self.admin, &self.lasting.store).await;
        services.trigger();
        for task in tasks {
            // A panic has been logged by the task itself.
            let _ = task.await;
        }
        if let Err(error) = self.lasting.store.close().await {
            error!(%error, "not every session could be saved");
        }
        self.lasting.audit.emit(audit::Event::new(Kind::ProxyStopped, self.lasting.clock.now()));
        self.lasting.audit.close().await;
        info!("stopped");
    }
}
