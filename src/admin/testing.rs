//! An interface to try, around handles that tell of little.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    Handles, Phase, Reloaded, Token,
    gate::Gate,
    players::{Player, Players, Which},
    server,
    status::{Connections, Counts, Facts},
};
use crate::{
    alert,
    audit::Audit,
    clock::Clock,
    limit::bans::{self, Bans},
    mojang::{
        classify::{Outcome, Why},
        health::{self, Health, Probe},
    },
    session::{self, Store},
    statistics::Statistics,
    task::{Shutdown, ShutdownTrigger},
};

pub(super) const TOKEN: &str = "a long random text";

/// The interface, and what a test moves.
pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    pub(super) to: SocketAddr,
    pub(super) gate: Arc<Gate>,
    pub(super) phase: Phase,
    pub(super) clock: Clock,
    pub(super) audit: Audit,
    /// Whether the session server answers.
    pub(super) answers: Arc<AtomicBool>,
    pub(super) stop: ShutdownTrigger,
    pub(super) server: JoinHandle<()>,
}

/// A few players.
pub(super) struct Few(Arc<Mutex<Vec<Player>>>);

impl Players for Few {
    fn counts(&self) -> Counts {
        Counts { total: self.0.lock().unwrap().len(), ..Counts::default() }
    }

    fn list(&self) -> Box<dyn ExactSizeIterator<Item = Player> + Send> {
        Box::new(self.0.lock().unwrap().clone().into_iter())
    }

    fn kick(&self, which: &Which, _: Option<&str>) -> Vec<Player> {
        let mut players = self.0.lock().unwrap();
        players.extract_if(.., |player| player.name == which.to_string()).collect()
    }
}

/// A token that was read from a file, which is the only way to have one.
pub(super) fn token(folder: &Path, content: &str) -> Token {
    let path = folder.join("admin.token");
    std::fs::write(&path, content).unwrap();
    Token::read(&path).unwrap()
}

impl Stage {
    /// On loopback, with no hosts allowed besides. The verdict is Degraded until somebody waits for more.
    pub(super) async fn new() -> Self {
        Self::with(true, &[]).await
    }

    /// As if it listened there, with these hosts allowed.
    pub(super) async fn with(on_loopback: bool, hosts: &[&str]) -> Self {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let config = session::Config {
            directory: folder.path().join("sessions"),
            cleanup_on_startup: false,
            max_address_age: Duration::from_hours(1),
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
        };
        let (store, _) = Store::open(config, clock.clone()).await.unwrap();
        let config = bans::Config {
            per_client: 1,
            per_subnet: 1,
            per_asn: 1,
            duration: Duration::from_mins(1),
            file: folder.path().join("bans.json"),
            ipv4_subnet_prefix: 24,
        };
        let bans = Bans::open(&config, clock.clone(), Box::new(|_| {})).unwrap();
        let config = alert::Config { staff: Vec::new(), on_fallback: true, webhooks: Vec::new() };
        let answers = Arc::new(AtomicBool::new(true));
        let (stop, stopping) = Shutdown::new();
        let health = monitor(folder.path(), &clock, &answers, stopping.clone());
        let audit = Audit::to_writer(io::sink());
        let phase = Phase::default();
        let handles = Handles {
            store,
            bans,
            audit: audit.clone(),
            clock: clock.clone(),
            phase: phase.clone(),
            connected: Box::new(|_| None),
            players: Box::new(Few(Arc::default())),
            health,
            alerts: alert::queue(&config).0,
            statistics: Statistics::off(clock.clone()),
            connections: Box::new(Connections::default),
            facts: Box::new(|| Facts { fallback: "enabled" }),
            readiness: Arc::new(|| Ok("{}\n".to_owned())),
            metrics: Box::new(|| None),
            reload: Box::new(|| Box::pin(async { Ok(Reloaded::default()) })),
        };
        let gate = Arc::new(Gate::new(token(folder.path(), TOKEN), &hosts, on_loopback));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let server = tokio::spawn(server::run(listener, Arc::clone(&gate), handles, stopping));
        Self { folder, to, gate, phase, clock, audit, answers, stop, server }
    }

    /// Sends a request with these headers besides the host, and reads what comes until the end of the connection.
    pub(super) async fn ask(&self, line: &str, headers: &str, body: &str) -> String {
        self.ask_at(&self.to.to_string(), line, headers, body).await
    }

    /// The same, by that name.
    pub(super) async fn ask_at(&self, host: &str, line: &str, headers: &str, body: &str) -> String {
        let (to, length) = (self.to, body.len());
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut came = String::new();
        stream.read_to_string(&mut came).await.unwrap();
        came
    }

    /// A good order.
    pub(super) async fn order(&self, path: &str, body: &str) -> String {
        let own = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        self.ask(&format!("POST {path}"), &own, body).await
    }
}

fn monitor(folder: &Path, clock: &Clock, answers: &Arc<AtomicBool>, stop: Shutdown) -> Health {
    let config = health::Config {
        check_interval: Duration::from_secs(30),
        retry_interval: Duration::from_secs(2),
        failure_threshold: 3,
        recovery_threshold: 2,
        treat_throttling_as_outage: false,
        outage_file: folder.join("outage.json"),
    };
    let answers = Arc::clone(answers);
    let probe: Probe = Arc::new(move || {
        let outcome = if answers.load(Ordering::Relaxed) {
            Outcome::NotJoined
        } else {
            Outcome::Unreachable(Why::TimedOut)
        };
        Box::pin(std::future::ready(outcome))
    });
    health::start(config, clock.clone(), probe, stop, Box::new(|_| {})).0
}
