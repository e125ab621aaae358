//! Wires all rooms together, and takes them apart in order.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    audit::{self, Audit, Kind},
    backend::{Router, route::Adopted},
    clock::Clock,
    config::Config,
    geo::{self, Geo},
    limit::{
        Bans,
        bans::OpenError as BansError,
        gate::{Gate, Limits},
        rate::Rates,
    },
    login::{
        FallbackMode, HangUps, LoginCx,
        keys::{KeyError, Keys},
        roster::Roster,
    },
    mojang::{
        health::{self, Health, Verdict},
        player_keys::PlayerKeys,
        session_server::{BuildError, SessionServer},
    },
    net::listener::{self, BindError},
    reason::Reason,
    relay,
    session::{Store, StoreError},
    statistics::Statistics,
    status::{Answers, AnswersError},
    task::{self, Shutdown, ShutdownTrigger},
};

mod alike;
mod chatter;
mod connection;
mod descriptors;
mod journal;
mod places;
mod proxy_peers;
mod stay;

use alike::AlikeWatch;
use chatter::Chatter;
use connection::ConnCx;
use proxy_peers::ProxyPeers;
use stay::StayCx;

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
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let started_with = config.clone();
        // The store first: its lock keeps a second proxy from going any further.
        let ipv4_subnet_prefix = config.rules.ipv4_range_prefix;
        let (store, report) = Store::open(config.session, clock.clone()).await?;
        info!(sessions = report.sessions, removed = report.unused, "opened the session store");
        let audit = Audit::open(&config.audit)?;
        let chatter = Arc::new(Chatter::default());
        let told = journal::of_bans(audit.clone(), clock.clone(), Arc::clone(&chatter));
        let bans = Bans::open(&config.limit.bans, clock.clone(), told)?;
        let geo = open_geo(config.geo).await?;
        let statistics = Statistics::open(&config.statistics, clock.clone()).await;
        let keys = Keys::generate()?;
        let server = Arc::new(SessionServer::new(&config.session_server, clock.clone())?);
        let player_keys = PlayerKeys::new(&config.player_keys, clock.clone())?;
        let routes = Arc::new(Router::new(config.backend));
        let answers = Answers::new(&config.status, &config.messages, Arc::clone(&routes))?;
        let relaying = relay::start().map_err(StartError::Threads)?;
        let listeners = listener::bind(&config.net.bind)?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();

        let (services, until_drained) = Shutdown::new();
        let (connections, until_asked) = Shutdown::new();
        let roster = Roster::new(clock.clone());
        let listener = journal::of_health(audit.clone(), statistics.clone());
        let (health, monitor) =
            health::start(config.health, clock.clone(), server.prober(), until_drained.clone(), listener);
        let refresh = player_keys.clone().refresh(health.subscribe(), until_drained.clone());
        let refreshing = task::spawn("player-keys", refresh);
        let replacing = task::spawn("geo-databases", geo.clone().run(until_drained.clone()));
        let renewing = task::spawn("key-renewal", keys.clone().renew(until_drained.clone()));
        if config.login.fallback != FallbackMode::Enabled {
            info!(mode = ?config.login.fallback, "no player is admitted by policy during an outage");
        }
        let expects_public = alike::expects_public(
            &addresses,
            config.net.accept_proxy_protocol,
            config.rules.trust_private_addresses,
        );
        let limits = Limits {
            connections: descriptors::connections(config.limit.max_connections),
            per_address: config.limit.max_connections_per_address,
            pending_logins: config.limit.max_pending_logins,
        };
        let (known, hit) = (store.clone(), health.clone());
        let gate = Gate::new(
            limits,
            Box::new(move |address| known.has_session_from(address)),
            Box::new(move || hit.note_limit_hit()),
        );
        let banning = task::spawn("bans", bans.clone().run(until_drained.clone()));
        let alike = AlikeWatch::begin(expects_public, store.all_private());
        let messages = Arc::new(config.messages);
        let stay = StayCx { relay: config.relay, messages: Arc::clone(&messages), store: store.clone() };
        let (visits, visited) = places::queue();
        let cx = Arc::new(ConnCx {
            login: LoginCx {
                config: config.login,
                rules: config.rules,
                keys,
                health: health.clone(),
                server,
                player_keys,
                store: store.clone(),
                geo,
                roster: Arc::clone(&roster),
                bans,
                hang_ups: HangUps::default(),
                ipv4_subnet_prefix,
                clock: clock.clone(),
            },
            net: config.net,
            workers: relaying.workers(),
            stay: Arc::new(stay),
            router: Arc::clone(&routes),
            answers,
            messages,
            audit: audit.clone(),
            statistics: statistics.clone(),
            shutdown: until_asked.clone(),
            serial: AtomicU64::new(0),
            unknown_versions: Mutex::new(HashSet::new()),
            proxy_peers: ProxyPeers::default(),
            alike,
            gate,
            rates: Rates::new(config.limit.login_interval),
            chatter,
            visits,
            alert_on_geo_change: config.alert_on_geo_change,
        });
        let learning = places::learn(Arc::clone(&cx), visited, until_drained.clone());
        let learning = task::spawn("places", learning);
        let watching = task::spawn("outage-end", forget_hang_ups(Arc::clone(&cx), until_drained.clone()));
        let counting = task::spawn("statistics", statistics.run(until_drained));
        audit.emit(journal::started(&clock, &addresses));
        let accepting = listeners
            .into_iter()
            .map(|listener| {
                let cx = Arc::clone(&cx);
                let serve = move |stream, peer| connection::serve(stream, peer, Arc::clone(&cx));
                let health = health.clone();
                let on_limit = move || health.note_local_limit();
                tokio::spawn(listener::accept_loop(listener, until_asked.clone(), serve, on_limit))
            })
            .collect();
        let tasks = vec![monitor, refreshing, replacing, renewing, learning, watching, banning, counting];
        let stop = Stop { connections, accepting, relaying, services, tasks };
        Ok(Self {
            addresses,
            health,
            store,
            audit,
            clock,
            roster,
            grace: config.shutdown_grace,
            router: routes,
            config: started_with,
            stop,
        })
    }

    /// Where connections are taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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

/// Opens what addresses are looked up in, off the network threads: databases are large.
async fn open_geo(config: geo::Config) -> Result<Geo, geo::StartError> {
    let opened = tokio::task::spawn_blocking(move || Geo::new(&config));
    // The task cannot be cancelled while somebody waits for it.
    opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Refusals kept back for players who hung up are void once the outage is over.
async fn forget_hang_ups(cx: Arc<ConnCx>, stop: Shutdown) {
    let mut status = cx.login.health.subscribe();
    loop {
        tokio::select! {
            () = stop.requested() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
        if !matches!(status.borrow_and_update().verdict, Verdict::Down { .. }) {
            cx.login.hang_ups.clear();
        }
    }
}
