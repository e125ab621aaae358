//! How the proxy starts: everything that may be missing or taken is opened first; then the tasks begin, and the doors are
//! opened last.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tracing::{info, warn};

use super::{
    Proxy, StartError, Stop, Surroundings,
    admin::{self, Sources},
    chatter::Chatter,
    connection::{self, ConnCx},
    descriptors,
    generation::{Generations, Lasting, Parts},
    journal,
    metrics::{self, Metrics},
    places,
    players::Players,
    proxy_peers::ProxyPeers,
    reload::{self, Asker, Reloading},
    staff::Staff,
    webhooks,
};
use crate::{
    admin::{Interface, Phase, Serving, Stage},
    alert::{Alerts, Inbox},
    audit::Audit,
    clock::Clock,
    config::Config,
    geo::{self, Geo},
    limit::{
        self, Bans,
        gate::{Gate, Limits},
        rate::Rates,
    },
    login::{FallbackMode, HangUps, Terms, TermsInForce, keys::Keys, roster::Roster},
    mojang::{
        health::{self, Health, Verdict},
        player_keys::PlayerKeys,
    },
    net::listener,
    relay,
    session::Store,
    statistics::Statistics,
    task::{self, Shutdown},
};

/// What must be there before anything runs.
struct Opened {
    store: Store,
    audit: Audit,
    alerts: Alerts,
    /// Where alerts come out.
    alerted: Inbox,
    chatter: Arc<Chatter>,
    bans: Bans,
    geo: Geo,
    statistics: Statistics,
    keys: Keys,
    player_keys: PlayerKeys,
    /// Of the first generation.
    parts: Parts,
    relaying: relay::Threads,
    listeners: Vec<TcpListener>,
    /// The admin interface; `None` is off.
    interface: Option<Interface>,
}

impl Opened {
    async fn open(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        // The store first: its lock keeps a second proxy from going any further.
        let (store, report) = Store::open(config.session.clone(), clock.clone()).await?;
        info!(
            sessions = report.sessions,
            removed = report.unused,
            renamed = report.robbed,
            "opened the session store"
        );
        let audit = Audit::open(&config.audit)?;
        let chatter = Arc::new(Chatter::default());
        let statistics = Statistics::open(&config.statistics, clock.clone()).await;
        let (alerts, alerted) = webhooks::open(&config.alerts, &statistics, clock).await?;
        let told = journal::of_bans(audit.clone(), alerts.clone(), clock.clone(), Arc::clone(&chatter));
        let bans = Bans::open(&config.limit.bans, clock.clone(), told)?;
        let geo = open_geo(config.geo.clone()).await?;
        let keys = Keys::generate()?;
        let player_keys = PlayerKeys::new(&config.player_keys, clock.clone())?;
        let parts = Parts::first(config, clock, &store, &bans)?;
        let relaying = relay::start().map_err(StartError::Threads)?;
        let listeners = listener::bind(&config.net.bind)?;
        let interface = admin::open(&config.admin, &store).await?;
        Ok(Self {
            store,
            audit,
            alerts,
            alerted,
            chatter,
            bans,
            geo,
            statistics,
            keys,
            player_keys,
            parts,
            relaying,
            listeners,
            interface,
        })
    }
}

/// Tasks that run until they are told to stop.
struct Tasks {
    stop: Shutdown,
    running: Vec<JoinHandle<()>>,
}

impl Tasks {
    fn begin<F>(&mut self, name: &'static str, task: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.push(task::spawn(name, task(self.stop.clone())));
    }

    /// Those by which the handles that outlive every configuration do their work.
    fn begin_lasting(&mut self, lasting: &Lasting, alerted: Inbox) {
        let Lasting { player_keys, health, geo, keys, bans, statistics, alerts, staff, hang_ups, .. } =
            lasting;
        self.begin("player-keys", |stop| player_keys.clone().refresh(health.subscribe(), stop));
        self.begin("geo-databases", |stop| geo.clone().run(stop));
        self.begin("key-renewal", |stop| keys.clone().renew(stop));
        self.begin("bans", |stop| bans.clone().run(stop));
        self.begin("statistics", |stop| statistics.clone().run(stop));
        self.begin("webhooks", |stop| webhooks::run(alerts.clone(), stop));
        self.begin("staff", |stop| staff.clone().tell(alerted, stop));
        self.begin("outage-end", |stop| forget_hang_ups(health.clone(), Arc::clone(hang_ups), stop));
    }
}

/// Opens the store, listens, and serves. Returns once connections are taken.
pub(super) async fn start(
    config: Config,
    clock: Clock,
    surroundings: Surroundings,
) -> Result<Proxy, StartError> {
    let config = Arc::new(config);
    let opened = Opened::open(&config, &clock).await?;
    let Opened { store, audit, alerts, alerted, chatter, bans, geo, statistics, keys, player_keys, .. } =
        opened;
    let Opened { parts, relaying, listeners, interface, .. } = opened;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let (services, until_drained) = Shutdown::new();
    let (connections, until_asked) = Shutdown::new();
    let mut tasks = Tasks { stop: until_drained.clone(), running: Vec::new() };

    let heard = journal::of_health(audit.clone(), statistics.clone(), alerts.clone());
    let (health, monitor) =
        health::start(config.health.clone(), clock.clone(), parts.server.prober(), until_drained, heard);
    tasks.running.push(monitor);
    if config.login.fallback != FallbackMode::Enabled {
        info!(mode = ?config.login.fallback, "no player is admitted by policy during an outage");
    }
    let staff = Staff::new(&config.alerts.staff, Arc::new(config.messages.clone()));
    let (visits, visited) = places::queue();
    let lasting = Arc::new(Lasting {
        gate: gate(&config.limit, &store, &health),
        rates: Rates::new(config.limit.login_interval),
        terms: TermsInForce::new(Terms::of(&config.login, &config.rules)),
        roster: Roster::new(clock.clone()),
        metrics: Metrics::new(clock.now().as_second()),
        hang_ups: Arc::new(HangUps::default()),
        workers: relaying.workers(),
        shutdown: until_asked.clone(),
        serial: 0.into(),
        unknown_versions: Mutex::default(),
        proxy_peers: ProxyPeers::default(),
        players: Players::default(),
        clock,
        addresses,
        store,
        audit,
        alerts,
        statistics,
        chatter,
        bans,
        geo,
        keys,
        player_keys,
        health,
        staff,
        visits,
    });
    let generations = Arc::new(Generations::new(ConnCx::make(config, parts, &lasting, None)));
    let (reloads, asked) = reload::queue();

    tasks.begin_lasting(&lasting, alerted);
    tasks.begin("places", |stop| places::learn(Arc::clone(&generations), visited, stop));
    tasks.begin("watchdog", |stop| surroundings.supervisor.clone().watch(lasting.health.clone(), stop));

    let phase = Phase::default();
    let in_use = Arc::clone(&generations);
    let asking = reloads.clone();
    let sources = Sources {
        store: &lasting.store,
        bans: &lasting.bans,
        audit: &lasting.audit,
        clock: &lasting.clock,
        roster: &lasting.roster,
        players: &lasting.players,
        health: &lasting.health,
        alerts: &lasting.alerts,
        statistics: &lasting.statistics,
        gate: &lasting.gate,
        config: Arc::new(move || Arc::clone(&in_use.current().config)),
        metrics: metrics::compose(&lasting, &generations)?,
        reload: Box::new(move || Box::pin(asking.ask(Asker::Admin))),
    };
    let admin = admin::serve(interface, sources, &phase)?;
    // A proxy that stops takes over nothing more.
    let until_stopping = until_asked.clone();
    let reloading = Reloading {
        lasting: Arc::clone(&lasting),
        generations: Arc::clone(&generations),
        started_with: Arc::clone(&generations.current().config),
        door: admin.as_ref().map(Serving::door),
        surroundings: surroundings.clone(),
    };

    lasting.audit.emit(journal::started(&lasting.clock, &lasting.addresses));
    let accepting = listeners
        .into_iter()
        .map(|listener| {
            let generations = Arc::clone(&generations);
            let serve = move |stream, peer| connection::serve(stream, peer, generations.current());
            let health = lasting.health.clone();
            let on_limit = move || health.note_local_limit();
            tokio::spawn(listener::accept_loop(listener, until_asked.clone(), serve, on_limit))
        })
        .collect();
    phase.enter(Stage::Ready);
    surroundings.supervisor.ready().await;
    // Behind the word that it is ready, which would tell that a reload is over. What was asked for up to now is done now.
    tasks.begin("reload", |_| reloading.run(asked, until_stopping));
    let stop = Stop { connections, accepting, relaying, services, tasks: tasks.running };
    Ok(Proxy { lasting, generations, reloads, supervisor: surroundings.supervisor, admin, phase, stop })
}

/// How many connections and logins there may be.
fn gate(config: &limit::Config, store: &Store, health: &Health) -> Gate {
    let (known, hit) = (store.clone(), health.clone());
    let (limits, warning) = limits(config);
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    Gate::new(
        limits,
        Box::new(move |address| known.has_session_from(address)),
        Box::new(move || hit.note_limit_hit()),
    )
}

/// The limits as configured, lowered to what the system allows, and a warning for the owner if they had to be.
pub(super) fn limits(config: &limit::Config) -> (Limits, Option<String>) {
    let (connections, warning) = descriptors::connections(config.max_connections);
    let limits = Limits {
        connections,
        per_address: config.max_connections_per_address,
        pending_logins: config.max_pending_logins,
    };
    (limits, warning)
}

/// Opens what addresses are looked up in, off the network threads: databases are large.
async fn open_geo(config: geo::Config) -> Result<Geo, geo::StartError> {
    let opened = tokio::task::spawn_blocking(move || Geo::new(&config));
    // The task cannot be cancelled while somebody waits for it.
    opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Refusals kept back for players who hung up are void once the outage is over.
async fn forget_hang_ups(health: Health, hang_ups: Arc<HangUps>, stop: Shutdown) {
    let mut status = health.subscribe();
    loop {
        tokio::select! {
            () = stop.requested() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
        if !matches!(status.borrow_and_update().verdict, Verdict::Down { .. }) {
            hang_ups.clear();
        }
    }
}
