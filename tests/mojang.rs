//! The session server's answers over real sockets: a stand-in that sends raw bytes, so that every kind of answer and
//! of silence can be had.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postern::{
    clock::Clock,
    identity::Username,
    mojang::{
        classify::{LocalFault, Oddity, Outcome, OutcomeClass, Why},
        health::{self, ForcedVerdict, Health, Override, Verdict},
        session_server::{Config, SessionServer, Standing},
        verify::VerifyResult,
    },
    task::{Shutdown, ShutdownTrigger},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

// Elsewhere trust comes from the system, not from the environment.
#[cfg(target_os = "linux")]
#[path = "mojang/http2.rs"]
mod http2;
#[cfg(target_os = "linux")]
#[path = "support/tls.rs"]
mod tls;

const ID: &str = "069a79f444e94726a5befca90e38aaf5";

/// What the stand-in does with one request.
#[derive(Clone, Debug)]
enum Reply {
    /// Sends these bytes, then closes.
    Raw(Vec<u8>),
    /// Closes so that the peer sees a reset.
    Reset,
    /// Says nothing.
    Hang,
}

fn http(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes())
}

fn no_content() -> Reply {
    Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
}

fn raw(bytes: &str) -> Reply {
    Reply::Raw(bytes.as_bytes().to_vec())
}

fn profile(name: &str) -> String {
    format!(
        r#"{{"id":"{ID}","name":"{name}","properties":[{{"name":"textures","value":"e30=","signature":"c2ln"}}]}}"#
    )
}

type Script = Arc<dyn Fn(&str, usize) -> Reply + Send + Sync>;

/// A session server of which every byte is ours.
struct StandIn {
    base: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StandIn {
    /// `script` sees the request head and how many requests came before it.
    async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(script);
        let task = tokio::spawn({
            let (requests, connections) = (Arc::clone(&requests), Arc::clone(&connections));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&requests)));
                }
            }
        });
        Self { base, requests, connections, task }
    }

    async fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone()).await
    }

    fn server(&self) -> Arc<SessionServer> {
        server(&self.base, Duration::from_secs(5))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Script, requests: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let before = {
            let mut requests = requests.lock().unwrap();
            requests.push(head.clone());
            requests.len() - 1
        };
        match script(&head, before) {
            Reply::Raw(bytes) => {
                // The client may have hung up already, over a body beyond its cap.
                let _ = stream.write_all(&bytes).await;
                // A whole answer leaves the connection open for the next request.
                if !(bytes.starts_with(b"HTTP/1.1 20") && head.contains("keep-me")) {
                    return;
                }
            }
            Reply::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

fn config(base: &str, timeout: Duration) -> Config {
    Config {
        base_url: base.parse().unwrap(),
        timeout,
        prevent_client_proxy_connections: false,
        unknown_logins_per_minute: 120,
    }
}

fn server(base: &str, timeout: Duration) -> Arc<SessionServer> {
    let clock = Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap());
    Arc::new(SessionServer::new(&config(base, timeout), clock).unwrap())
}

fn notch() -> Username {
    Username::parse("Notch").unwrap()
}

async fn ask(server: &SessionServer) -> Outcome {
    server.has_joined(Standing::Known, &notch(), "-7c9d5b0044c130109a5d7b5fb5c317c02b4e28c1", None).await
}

#[tokio::test]
async fn a_profile_verifies() {
    for name in ["Notch", "nOTCH"] {
        let stand_in = StandIn::always(http(200, "", &profile(name))).await;
        let Outcome::Verified(verified) = ask(&stand_in.server()).await else { panic!("{name}") };
        assert_eq!(verified.profile().name.as_str(), name, "the reply's spelling");
        assert_eq!(verified.profile().id.simple().to_string(), ID);
        assert_eq!(verified.profile().properties[0].signature.as_deref(), Some("c2ln"));
    }
}

#[tokio::test]
async fn every_answer_has_its_class() {
    let throttled =
        |seconds: Option<u64>| Outcome::Throttled { retry_after: seconds.map(Duration::from_secs) };
    let unreachable = Outcome::Unreachable;
    let unexpected = Outcome::Unexpected;
    let forbidden = r#"{"error":"ForbiddenOperationException","errorMessage":"no"}"#;
    let mut chunked = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        write!(chunked, "400\r\n{}\r\n", " ".repeat(1024)).unwrap();
    }
    chunked.push_str("0\r\n\r\n");
    let whole = profile("Notch");
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}", whole.len() + 1);
    let cut_chunk =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\n", whole.len());
    let rows: Vec<(&str, Reply, Outcome)> = vec![
        ("204", no_content(), Outcome::NotJoined),
        ("empty 200", http(200, "", ""), Outcome::NotJoined),
        ("500 forbidden", http(500, "", forbidden), Outcome::NotJoined),
        ("500", http(500, "", r#"{"error":"Internal"}"#), unreachable(Why::Answered(500))),
        ("500 cut", raw("HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\n{"), unreachable(Why::Answered(500))),
        ("429", http(429, "", "slow down"), throttled(None)),
        ("429 seconds", http(429, "Retry-After: 7\r\n", ""), throttled(Some(7))),
        ("429 long", http(429, "Retry-After: 999999\r\n", ""), throttled(Some(3600))),
        ("429 words", http(429, "Retry-After: soon\r\n", ""), throttled(None)),
        ("403", http(403, "", forbidden), throttled(None)),
        ("502", http(502, "", "<html>"), unreachable(Why::Answered(502))),
        ("503", http(503, "Retry-After: 5\r\n", ""), unreachable(Why::Answered(503))),
        ("504", http(504, "", &profile("Notch")), unreachable(Why::Answered(504))),
        ("reset", Reply::Reset, unreachable(Why::Closed)),
        ("closed without a word", raw(""), unreachable(Why::Closed)),
        ("head cut", raw("HTTP/1.1 200 OK\r\nContent-"), unreachable(Why::Closed)),
        ("content length cut", raw(&cut), unreachable(Why::Truncated)),
        ("chunked cut", raw(&cut_chunk), unreachable(Why::Truncated)),
        ("other 4xx", http(404, "", ""), unexpected(Oddity::Status(404))),
        ("401", http(401, "", forbidden), unexpected(Oddity::Status(401))),
        ("201", http(201, "", &profile("Notch")), unexpected(Oddity::Status(201))),
        ("block page", http(200, "", "<html>blocked</html>"), unexpected(Oddity::NotAProfile)),
        ("other player", http(200, "", &profile("jeb_")), unexpected(Oddity::OtherPlayer)),
        ("bad name", http(200, "", &profile("Not\u{e4}ch")), unexpected(Oddity::NotAProfile)),
        ("wrong type", http(200, "", r#"{"id":1,"name":"Notch"}"#), unexpected(Oddity::NotAProfile)),
        ("huge, announced", http(200, "", &" ".repeat(200_000)), unexpected(Oddity::TooLong)),
        ("huge, in chunks", raw(&chunked), unexpected(Oddity::TooLong)),
        ("not HTTP", raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), unexpected(Oddity::NotHttp)),
        ("bad status", raw("HTTP/1.1 abc OK\r\n\r\n"), unexpected(Oddity::NotHttp)),
        (
            "bad chunk",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
            unexpected(Oddity::NotHttp),
        ),
    ];
    for (name, reply, want) in rows {
        let stand_in = StandIn::always(reply).await;
        assert_eq!(ask(&stand_in.server()).await, want, "{name}");
    }
}

#[tokio::test]
async fn a_retry_after_date_is_read_by_the_given_clock() {
    let stand_in = StandIn::always(http(429, "Retry-After: Sat, 21 Nov 2026 20:10:00 GMT\r\n", "")).await;
    let Outcome::Throttled { retry_after: Some(wait) } = ask(&stand_in.server()).await else { panic!() };
    assert!((595..=600).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = StandIn::always(http(200, "", &profile("Notch"))).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/session/minecraft/hasJoined\r\n", target.base);
        let stand_in = StandIn::always(http(status, &location, "")).await;
        assert_eq!(ask(&stand_in.server()).await, Outcome::Unexpected(Oddity::Status(status)));
    }
    assert_eq!(target.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn silence_and_refusal() {
    let silent = StandIn::always(Reply::Hang).await;
    let hasty = server(&silent.base, Duration::from_millis(200));
    assert_eq!(ask(&hasty).await, Outcome::Unreachable(Why::TimedOut));
    assert_eq!(hasty.probe().await, Outcome::Unreachable(Why::TimedOut));

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(
        ask(&server(&format!("http://{gone}"), Duration::from_secs(5))).await,
        Outcome::Unreachable(Why::Refused)
    );
    // Plain HTTP where TLS is expected.
    let plain = StandIn::start(|_, _| no_content()).await;
    let secure = plain.base.replace("http://", "https://");
    let tls = ask(&server(&secure, Duration::from_millis(500))).await;
    assert_eq!(tls.class(), OutcomeClass::Unreachable, "{tls:?}");
    // A label beyond 63 bytes: refused by the look-up itself, without asking any name server.
    let nowhere = server(&format!("http://{}.invalid", "a".repeat(64)), Duration::from_secs(30));
    assert_eq!(ask(&nowhere).await, Outcome::Unreachable(Why::Dns));
    assert_eq!(nowhere.probe().await, Outcome::Unreachable(Why::Dns));
}

#[tokio::test]
async fn the_request_is_exactly_this() {
    let stand_in = StandIn::always(no_content()).await;
    let address = Some("203.0.113.5".parse().unwrap());
    let _ = stand_in.server().has_joined(Standing::Known, &notch(), "-7c9d", address).await;
    let mut with_address = config(&stand_in.base, Duration::from_secs(5));
    with_address.prevent_client_proxy_connections = true;
    let strict = SessionServer::new(&with_address, Clock::system()).unwrap();
    let _ = strict.has_joined(Standing::Known, &notch(), "-7c9d", address).await;
    let _ = strict.probe().await;
    let requests = stand_in.requests();
    let first = requests[0].to_lowercase();
    assert!(
        requests[0]
            .starts_with("GET /session/minecraft/hasJoined?username=Notch&serverId=-7c9d HTTP/1.1\r\n")
    );
    assert!(first.contains(&format!("user-agent: postern/{}\r\n", env!("CARGO_PKG_VERSION"))), "{first}");
    assert!(!first.contains("accept-encoding"), "{first}");
    assert!(
        requests[1]
            .starts_with("GET /session/minecraft/hasJoined?username=Notch&serverId=-7c9d&ip=203.0.113.5 ")
    );
    assert!(requests[2].starts_with("GET /session/minecraft/hasJoined?username=PosternProbe&serverId="));
    assert!(!requests[2].contains("&ip="));
}

#[tokio::test]
async fn logins_share_connections_and_probes_never_do() {
    let stand_in =
        StandIn::always(Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())).await;
    // The stand-in keeps a connection open if the path says so.
    let server = server(&format!("{}/keep-me", stand_in.base), Duration::from_secs(5));
    for _ in 0..5 {
        assert_eq!(ask(&server).await, Outcome::NotJoined);
    }
    assert_eq!(stand_in.connections.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        assert_eq!(server.probe().await, Outcome::NotJoined);
    }
    assert_eq!(stand_in.connections.load(Ordering::SeqCst), 4);
}

/// An idle connection goes away when its server thinks that it was idle for long enough.
#[tokio::test]
async fn an_idle_connection_that_the_server_closed_fails_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = server(&format!("http://{}", listener.local_addr().unwrap()), Duration::from_secs(5));
    let serving = tokio::spawn(async move {
        for _ in 0..20 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            // Promises to stay, and goes.
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "nothing more was sent into it");
        }
    });
    for _ in 0..20 {
        assert_eq!(ask(&server).await, Outcome::NotJoined);
        tokio::task::yield_now().await;
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn throttling_shrinks_the_share_of_unknown_players() {
    let stand_in = StandIn::always(http(429, "", "")).await;
    let server = stand_in.server();
    assert!(server.unknown_logins().try_take());
    let before = server.unknown_logins().rate().unwrap();
    let _ = ask(&server).await;
    assert!(server.unknown_logins().rate().unwrap() < before * 0.6);
}

#[tokio::test]
async fn a_retry_after_is_no_reason_to_ask_again_and_no_vote() {
    let stand_in = scripted(vec![http(429, "Retry-After: 60\r\n", "")], no_content()).await;
    let watched = Watched::start(&stand_in, true);
    for _ in 0..5 {
        assert_eq!(watched.verify().await, VerifyResult::Throttled);
    }
    assert_eq!(stand_in.requests().iter().filter(|head| !is_probe(head)).count(), 1);
    let probed = watched.health.probe_now().await;
    assert_eq!((probed.class, probed.failed), (OutcomeClass::NotJoined, false), "probes go on");
}

#[tokio::test]
async fn a_strangers_retry_after_neither_ends_an_outage_nor_shuts_out_known_players() {
    let stand_in = StandIn::start(|head, _| {
        if head.contains("username=Stranger") {
            http(429, "Retry-After: 120\r\n", "")
        } else {
            http(503, "", "")
        }
    })
    .await;
    let watched = Watched::start(&stand_in, false);
    while !watched.health.verdict().is_down() {
        assert!(matches!(watched.verify().await, VerifyResult::OutageConfirmed(_)));
    }
    let stranger = Username::parse("Stranger").unwrap();
    for _ in 0..2 {
        let deadline = Instant::now() + Duration::from_secs(20);
        let (server, health) = (&watched.server, &watched.health);
        let refused = server.verify(health, Standing::Unknown, &stranger, "-7c9d", None, deadline).await;
        assert_eq!(refused, VerifyResult::Throttled);
    }
    for _ in 0..2 {
        assert!(watched.health.probe_now().await.failed);
        assert!(watched.health.verdict().is_down());
    }
    assert!(matches!(watched.verify().await, VerifyResult::OutageConfirmed(_)), "policy may judge");
    let strangers = stand_in.requests().iter().filter(|head| head.contains("username=Stranger")).count();
    assert_eq!(strangers, 1, "strangers wait it out");
}

/// A monitor over the stand-in whose probes run only when asked for, but for the first.
struct Watched {
    health: Health,
    server: Arc<SessionServer>,
    _trigger: ShutdownTrigger,
    _task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Watched {
    fn start(stand_in: &StandIn, treat_throttling_as_outage: bool) -> Self {
        Self::start_in(stand_in, treat_throttling_as_outage, tempfile::tempdir().unwrap())
    }

    fn start_in(stand_in: &StandIn, treat_throttling_as_outage: bool, folder: tempfile::TempDir) -> Self {
        Self::over(stand_in.server(), treat_throttling_as_outage, folder)
    }

    fn over(server: Arc<SessionServer>, treat_throttling_as_outage: bool, folder: tempfile::TempDir) -> Self {
        let config = health::Config {
            check_interval: Duration::from_hours(1),
            retry_interval: Duration::from_hours(1),
            failure_threshold: 3,
            recovery_threshold: 2,
            treat_throttling_as_outage,
            outage_file: folder.path().join("outage.json"),
        };
        let (trigger, shutdown) = Shutdown::new();
        let clock = Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap());
        let (health, task) = health::start(config, clock, server.prober(), shutdown, Box::new(|_| {}));
        Self { health, server, _trigger: trigger, _task: task, _folder: folder }
    }

    async fn verify(&self) -> VerifyResult {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.server.verify(&self.health, Standing::Known, &notch(), "-7c9d", None, deadline).await
    }
}

fn is_probe(head: &str) -> bool {
    head.contains("username=PosternProbe")
}

/// A stand-in that gives logins these replies in turn (the last one again and again), and probes always this one.
async fn scripted(logins: Vec<Reply>, probes: Reply) -> StandIn {
    let asked = AtomicUsize::new(0);
    StandIn::start(move |head, _| {
        if is_probe(head) {
            return probes.clone();
        }
        let turn = asked.fetch_add(1, Ordering::SeqCst).min(logins.len() - 1);
        logins[turn].clone()
    })
    .await
}

#[tokio::test]
async fn in_place_needs_two_failures_and_a_failed_probe() {
    let bad = || http(503, "", "");
    let good = || http(200, "", &profile("Notch"));
    let rows: Vec<(&str, Vec<Reply>, Reply, bool, &str)> = vec![
        ("all dead", vec![bad()], bad(), false, "confirmed"),
        ("one stray 503", vec![bad(), good()], no_content(), false, "verified"),
        ("a retry answered in an outage", vec![bad(), good()], bad(), false, "verified"),
        ("a retry's no", vec![bad(), no_content()], bad(), false, "not-joined"),
        ("only logins fail", vec![bad()], no_content(), false, "unreachable"),
        ("the probe is throttled", vec![bad()], http(429, "", ""), false, "unreachable"),
        ("which the owner counts", vec![bad()], http(429, "", ""), true, "confirmed"),
        ("the probe makes no sense", vec![bad()], http(404, "", ""), false, "unreachable"),
        ("the retry is throttled", vec![bad(), http(429, "", "")], bad(), false, "throttled"),
        ("throttled by default", vec![http(429, "", "")], bad(), false, "throttled"),
        ("throttled whatever the owner counts", vec![http(429, "", "")], bad(), true, "throttled"),
        ("a short Retry-After", vec![http(429, "Retry-After: 0\r\n", ""), good()], bad(), false, "verified"),
        ("once", vec![http(429, "Retry-After: 0\r\n", "")], bad(), false, "throttled"),
        ("a long one", vec![http(429, "Retry-After: 60\r\n", ""), good()], bad(), false, "throttled"),
        ("204 in an outage", vec![no_content()], bad(), false, "not-joined"),
        ("nonsense in an outage", vec![http(200, "", "<html>")], bad(), false, "unexpected"),
    ];
    for (name, logins, probes, treat, want) in rows {
        let stand_in = scripted(logins, probes).await;
        let watched = Watched::start(&stand_in, treat);
        let result = watched.verify().await;
        let got = match &result {
            VerifyResult::OutageConfirmed(_) => "confirmed",
            other => other.class().label(),
        };
        assert_eq!(got, want, "{name}: {result:?}");
    }
}

#[tokio::test]
async fn the_confirming_probe_begins_after_the_login_failed() {
    // Probes fail until the login has failed, and are healthy from then on.
    let login_failed = AtomicUsize::new(0);
    let stand_in = StandIn::start(move |head, _| {
        if !is_probe(head) {
            login_failed.store(1, Ordering::SeqCst);
            http(503, "", "")
        } else if login_failed.load(Ordering::SeqCst) == 0 {
            http(503, "", "")
        } else {
            no_content()
        }
    })
    .await;
    let watched = Watched::start(&stand_in, false);
    assert!(watched.health.probe_now().await.failed);
    assert_eq!(watched.verify().await, VerifyResult::Unreachable(Why::Answered(503)));
    let requests = stand_in.requests();
    assert!(is_probe(requests.first().unwrap()));
    assert!(
        requests.iter().skip_while(|r| is_probe(r)).any(|r| is_probe(r)),
        "a probe after the login's failure"
    );
}

#[tokio::test]
async fn forced_up_switches_off_fallback_in_place() {
    let stand_in = StandIn::always(http(503, "", "")).await;
    let watched = Watched::start(&stand_in, false);
    let order = Override { verdict: ForcedVerdict::Up, lasting: Duration::from_mins(1) };
    watched.health.set_override(order).await.unwrap();
    assert_eq!(watched.verify().await, VerifyResult::Unreachable(Why::Answered(503)));
    assert_eq!(watched.health.verdict(), Verdict::Up);
    watched.health.clear_override().await.unwrap();
    let VerifyResult::OutageConfirmed(outage) = watched.verify().await else { panic!() };
    let Verdict::Down { outage_started } = watched.health.verdict() else {
        panic!("{:?}", watched.health.status())
    };
    assert_eq!(outage.since(), outage_started);
}

#[tokio::test]
async fn in_place_goes_by_the_kept_start_of_the_outage() {
    let kept = "2026-11-21T12:00:00Z";
    let stand_in = StandIn::always(http(503, "", "")).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outage.json"), format!(r#"{{"outage_started":"{kept}"}}"#)).unwrap();
    let watched = Watched::start_in(&stand_in, false, folder);
    let VerifyResult::OutageConfirmed(outage) = watched.verify().await else { panic!() };
    assert_eq!(watched.health.verdict(), Verdict::Degraded);
    assert_eq!(outage.since().to_string(), kept);
}

#[tokio::test]
async fn logins_alone_never_move_the_verdict_to_down() {
    let stand_in = scripted(vec![http(503, "", "")], no_content()).await;
    let watched = Watched::start(&stand_in, false);
    let mut changes = watched.health.subscribe();
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let (server, health) = (Arc::clone(&watched.server), watched.health.clone());
            tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_secs(20);
                server.verify(&health, Standing::Known, &notch(), "-7c9d", None, deadline).await
            })
        })
        .collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap(), VerifyResult::Unreachable(Why::Answered(503)));
    }
    assert!(!watched.health.verdict().is_down());
    assert!(!changes.borrow_and_update().verdict.is_down());
}

#[tokio::test]
async fn nothing_outlasts_the_deadline() {
    let stand_in = StandIn::always(Reply::Hang).await;
    let watched = Watched::start(&stand_in, false);
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(200);
    let result =
        watched.server.verify(&watched.health, Standing::Known, &notch(), "-7c9d", None, deadline).await;
    assert_eq!(result, VerifyResult::Unreachable(Why::TimedOut));
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn fault_texts_name_no_player() {
    assert_eq!(LocalFault::QueueFull.to_string(), "too many has-joined calls at once");
    let stand_in = StandIn::always(http(404, "", "")).await;
    let outcome = ask(&stand_in.server()).await;
    assert!(!format!("{outcome:?}").contains("Notch"));
}
