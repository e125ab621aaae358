//! How the proxy starts: everything that may be missing or taken is opened first; then the tasks begin, and the doors are
//! opened last.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tracing::info;

use super::{
    Proxy, StartError, Stop,
    admin::{self, Sources},
    alike::{self, AlikeWatch},
    chatter::Chatter,
    connection::{self, ConnCx},
    descriptors,
    journal::{self, Journal},
    places,
    proxy_peers::ProxyPeers,
    staff::Staff,
    stay::StayCx,
};
use crate::{
    admin::{Interface, Phase, Stage},
    alert::{self, Inbox},
    audit::Audit,
    backend::Router,
    clock::Clock,
    config::Config,
    geo::{self, Geo},
    limit::{
        self, Bans,
        gate::{Gate, Limits},
        rate::Rates,
    },
    login::{FallbackMode, HangUps, LoginCx, keys::Keys, roster::Roster},
    mojang::{
        health::{self, Health, Verdict},
        player_keys::PlayerKeys,
        session_server::SessionServer,
    },
    net::listener,
    pin::Pins,
    relay,
    session::Store,
    statistics::Statistics,
    status::Answers,
    task::{self, Shutdown},
};

/// What must be there before anything runs.
struct Opened {
    store: Store,
    journal: Arc<Journal>,
    /// Where alerts come out.
    alerted: Inbox,
    bans: Bans,
    geo: Geo,
    keys: Keys,
    server: Arc<SessionServer>,
    player_keys: PlayerKeys,
    router: Arc<Router>,
    answers: Answers,
    relaying: relay::Threads,
    listeners: Vec<TcpListener>,
    /// The admin interface; `None` is off.
    interface: Option<Interface>,
}

impl Opened {
    async fn open(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        // The store first: its lock keeps a second proxy from going any further.
        let (store, report) = Store::open(config.session.clone(), clock.clone()).await?;
        info!(sessions = report.sessions, removed = report.unused, "opened the session store");
        let audit = Audit::open(&config.audit)?;
        let chatter = Arc::new(Chatter::default());
        let (alerts, alerted) = alert::queue(&config.alerts);
        let told = journal::of_bans(audit.clone(), alerts.clone(), clock.clone(), Arc::clone(&chatter));
        let bans = Bans::open(&config.limit.bans, clock.clone(), told)?;
        let geo = open_geo(config.geo.clone()).await?;
        let statistics = Statistics::open(&config.statistics, clock.clone()).await;
        let keys = Keys::generate()?;
        let server = Arc::new(SessionServer::new(&config.session_server, clock.clone())?);
        let player_keys = PlayerKeys::new(&config.player_keys, clock.clone())?;
        let router = Arc::new(Router::new(config.backend.clone()));
        let answers = Answers::new(&config.status, &config.messages, Arc::clone(&router))?;
        let relaying = relay::start().map_err(StartError::Threads)?;
        let listeners = listener::bind(&config.net.bind)?;
        let interface = admin::open(&config.admin, &store).await?;
        let journal = Arc::new(Journal {
            audit,
            alerts,
            statistics,
            clock: clock.clone(),
            chatter,
            alert_on_geo_change: config.alert_on_geo_change,
            store: store.clone(),
            geo: geo.clone(),
            rules: config.rules.clone(),
        });
        Ok(Self {
            store,
            journal,
            alerted,
            bans,
            geo,
            keys,
            server,
            player_keys,
            router,
            answers,
            relaying,
            listeners,
            interface,
        })
    }
}

/// The tasks that serve logins, until they are told to stop.
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
}

/// Opens the store, listens, and serves. Returns once connections are taken.
pub(super) async fn start(config: Config, clock: Clock) -> Result<Proxy, StartError> {
    let opened = Opened::open(&config, &clock).await?;
    let started_with = config.clone();
    let Opened { store, journal, alerted, bans, geo, keys, server, player_keys, .. } = opened;
    let (audit, statistics) = (journal.audit.clone(), journal.statistics.clone());
    let Opened { router, answers, relaying, listeners, interface, .. } = opened;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let (services, until_drained) = Shutdown::new();
    let (connections, until_asked) = Shutdown::new();
    let mut tasks = Tasks { stop: until_drained.clone(), running: Vec::new() };

    let heard = journal::of_health(audit.clone(), statistics.clone(), journal.alerts.clone());
    let (health, monitor) =
        health::start(config.health, clock.clone(), server.prober(), until_drained, heard);
    tasks.running.push(monitor);
    tasks.begin("player-keys", |stop| player_keys.clone().refresh(health.subscribe(), stop));
    tasks.begin("geo-databases", |stop| geo.clone().run(stop));
    tasks.begin("key-renewal", |stop| keys.clone().renew(stop));
    tasks.begin("bans", |stop| bans.clone().run(stop));
    tasks.begin("statistics", |stop| statistics.clone().run(stop));
    if config.login.fallback != FallbackMode::Enabled {
        info!(mode = ?config.login.fallback, "no player is admitted by policy during an outage");
    }
    let (proxied, trusts_private) = (config.net.accept_proxy_protocol, config.rules.trust_private_addresses);
    let expects_public = alike::expects_public(&addresses, proxied, trusts_private);
    let gate = gate(&config.limit, &store, &health);
    let roster = Roster::new(clock.clone());
    let messages = Arc::new(config.messages);
    let staff = Staff::new(&config.alerts.staff, Arc::clone(&messages));
    tasks.begin("staff", |stop| staff.clone().tell(alerted, stop));
    let min_pin_length = config.pins.min_length;
    let pins = Pins::new(config.pins, store.clone(), bans.clone());
    let login = Arc::new(LoginCx {
        config: config.login,
        ipv4_subnet_prefix: config.rules.ipv4_range_prefix,
        rules: config.rules.clone(),
        keys,
        health: health.clone(),
        server,
        player_keys,
        store: store.clone(),
        geo: geo.clone(),
        roster: Arc::clone(&roster),
        bans: bans.clone(),
        pins,
        messages: Arc::clone(&messages),
        hang_ups: HangUps::default(),
        clock: clock.clone(),
    });
    let (visits, visited) = places::queue();
    let stay = StayCx {
        login: Arc::clone(&login),
        relay: config.relay,
        messages: Arc::clone(&messages),
        store: store.clone(),
        journal,
        staff,
        min_pin_length,
        visits,
    };
    let cx = Arc::new(ConnCx {
        login: Arc::clone(&login),
        net: config.net,
        workers: relaying.workers(),
        stay: Arc::new(stay),
        router: Arc::clone(&router),
        answers,
        messages,
        shutdown: until_asked.clone(),
        serial: AtomicU64::new(0),
        unknown_versions: Mutex::new(HashSet::new()),
        proxy_peers: ProxyPeers::default(),
        alike: AlikeWatch::begin(expects_public, store.all_private()),
        gate,
        rates: Rates::new(config.limit.login_interval),
    });
    tasks.begin("places", |stop| places::learn(Arc::clone(&cx), visited, stop));
    tasks.begin("outage-end", |stop| forget_hang_ups(Arc::clone(&cx), stop));
    let phase = Phase::default();
    let sources = Sources { store: &store, bans: &bans, audit: &audit, clock: &clock, roster: &roster };
    let admin = admin::serve(interface, &sources, &phase)?;

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
    phase.enter(Stage::Ready);
    let stop = Stop { connections, accepting, relaying, services, tasks: tasks.running };
    let (grace, config) = (config.shutdown_grace, started_with);
    Ok(Proxy { addresses, health, store, audit, clock, roster, grace, router, config, admin, phase, stop })
}

/// How many connections and logins there may be.
fn gate(config: &limit::Config, store: &Store, health: &Health) -> Gate {
    let limits = Limits {
        connections: descriptors::connections(config.max_connections),
        per_address: config.max_connections_per_address,
        pending_logins: config.max_pending_logins,
    };
    let (known, hit) = (store.clone(), health.clone());
    Gate::new(
        limits,
        Box::new(move |address| known.has_session_from(address)),
        Box::new(move || hit.note_limit_hit()),
    )
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
