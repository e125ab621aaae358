//! The server list, asked through the running proxy: how often backends are asked for it and with what, and what is
//! shown when they do not answer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use postern::app::Proxy;
use serde_json::{Value, json};
use support::{
    Backend, BackendKind, Client, Mode, SessionServer, Setup,
    proxy::{Audit, address},
    scene::until,
    wire::{self, In, Out},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

/// Longer than a test runs: only what is asked anew on purpose is asked anew.
const NEVER: u64 = 3_600_000;
/// What an answer takes at most that waits for no time limit of a backend.
const AT_ONCE: Duration = Duration::from_secs(4);

/// As a modded server gives it: spaces, order, escapes and all.
const ANSWER: &str = r##"{ "version":{"protocol":763,"name":"1.20.1"}, "description":{"text":"Mods","color":"#ff0000"},"players":{"online":1,"max":20,"sample":[]},"favicon":"data:image/png;base64,iVBORw0KGgo\u003d", "forgeData":{"channels":[],"mods":[],"truncated":false,"fmlNetworkVersion":3,"d":"\u0000Ⱃ翿\u0001"},"modinfo":{"type":"FML","modList":[{"modid":"a\/b","version":"1.0"}]},"enforcesSecureChat":true }"##;

/// How a backend meets a question.
#[derive(Clone)]
enum Manner {
    Says(Vec<u8>),
    /// Takes the connection and says nothing.
    Hangs,
    /// Closes at once.
    Closes,
}

impl Manner {
    fn json(json: &str) -> Self {
        Self::Says(wire::frame(&Out::id(0).str(json).0, None))
    }
}

/// A backend that is only asked for its status, and counts by protocol number and host.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Mutex<BTreeMap<(i32, String), usize>>>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, manner: Arc::new(Mutex::new(manner)), asked: Arc::default() };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        server
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let packet = wire::read_body(&mut stream, |_| {}).await?;
        let mut reader = In(&packet[1..]);
        let (protocol, host) = (reader.varint(), reader.str());
        assert_eq!((reader.take(2).len(), reader.varint()), (2, 1), "a question for the status");
        assert_eq!(wire::read_body(&mut stream, |_| {}).await?, [0]);
        *self.asked.lock().unwrap().entry((protocol, host)).or_default() += 1;
        let manner = self.manner.lock().unwrap().clone();
        match manner {
            Manner::Says(bytes) => stream.write_all(&bytes).await.ok()?,
            Manner::Closes => return None,
            Manner::Hangs => {}
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
        None
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn all(&self) -> Vec<(i32, String, usize)> {
        self.asked.lock().unwrap().iter().map(|((protocol, host), n)| (*protocol, host.clone(), *n)).collect()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }
}

/// The proxy before such a backend.
struct Scene {
    sessions: SessionServer,
    backend: Server,
    proxy: Proxy,
    audit: Audit,
    _setup: Setup,
}

impl Scene {
    async fn new(status: &str) -> Self {
        Self::with(status, |setup| setup).await
    }

    async fn with(status: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let sessions = SessionServer::start().await;
        let unused = Backend::start(BackendKind::Plain, None).await;
        let backend = Server::start(Manner::json(ANSWER)).await;
        let mut setup = Setup::with(&sessions, &unused, "modern", "")
            .replace(&unused.address.to_string(), &backend.address.to_string());
        setup.text = format!("{}status:\n{status}\n", setup.text);
        let setup = change(setup);
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        Self { sessions, backend, proxy, audit, _setup: setup }
    }

    /// The answer as it came.
    async fn ask(&self, protocol: i32, host: &str) -> String {
        let began = Instant::now();
        let answer = ask(address(&self.proxy), protocol, host).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        answer
    }

    async fn value(&self, protocol: i32, host: &str) -> Value {
        serde_json::from_str(&self.ask(protocol, host).await).unwrap()
    }

    async fn legacy(&self, ping: &[u8]) -> String {
        let mut stream = TcpStream::connect(address(&self.proxy)).await.unwrap();
        stream.write_all(ping).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let units: Vec<u16> = answer[3..].chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
        assert_eq!((answer[0], usize::from(u16::from_be_bytes([answer[1], answer[2]]))), (0xff, units.len()));
        String::from_utf16(&units).unwrap()
    }
}

async fn ask(proxy: SocketAddr, protocol: i32, host: &str) -> String {
    let mut client = Client::connect(proxy, protocol).await;
    client.handshake(host, 1).await;
    client.send(Out::id(0)).await;
    let packet = client.recv().await.unwrap();
    let mut reader = In(&packet[1..]);
    let json = reader.str();
    assert!(reader.0.is_empty());
    // As the game does it: the time of the answer to this is the ping that is shown.
    let ping = Out::id(1).raw(&[1, 2, 3, 4, 5, 6, 7, 8]);
    client.send(ping.clone()).await;
    assert_eq!(client.recv().await.unwrap(), ping.0);
    assert_eq!(client.recv().await, None);
    json
}

fn offline() -> Value {
    json!({ "text": "The game server is not answering right now.", "color": "red" })
}

#[tokio::test]
async fn a_thousand_pings_cost_one_question_for_each_route_and_dialect() {
    let scene = Scene::with(&format!("  cache: {NEVER}"), |mut setup| {
        setup.text.push_str("forced-hosts:\n  mods.example.com: [lobby]\n  '*.example.com': [lobby]\n");
        setup
    })
    .await;
    let own = scene.backend.address.ip().to_string();
    let mut pings = JoinSet::new();
    for i in 0..1000 {
        let proxy = address(&scene.proxy);
        pings.spawn(async move { ask(proxy, 763, &format!("host{i}.test")).await });
    }
    while let Some(answer) = pings.join_next().await {
        assert_eq!(answer.unwrap(), ANSWER);
    }
    assert_eq!(scene.backend.all(), [(763, own.clone(), 1)]);
    // Numbers that nobody knows are asked for as the newest release, once; other releases and routes as themselves. A
    // host that only a pattern fits, or none, is not passed on: there is no end of those.
    for i in 0..60 {
        let mut pings = JoinSet::new();
        for (protocol, host) in [
            (763, "MODS.example.com.".to_owned()),
            (763, format!("x{i}.example.com")),
            (763, format!("mods.example.com\0FML3\0///1.2.3.{}:1///{i}", i % 256)),
            (778 + i, format!("y{i}.test")),
            (0x4000_0000 + i, "z.test".to_owned()),
            (-1, "z.test".to_owned()),
            (47, "z.test".to_owned()),
        ] {
            let proxy = address(&scene.proxy);
            pings.spawn(async move { ask(proxy, protocol, &host).await });
        }
        while let Some(answer) = pings.join_next().await {
            assert_eq!(answer.unwrap(), ANSWER);
        }
    }
    let mut expected = vec![
        (47, own.clone(), 1),
        // The default route, and the pattern.
        (763, own.clone(), 2),
        (763, "mods.example.com".to_owned(), 1),
        (777, own, 1),
    ];
    expected.sort();
    assert_eq!(scene.backend.all(), expected);
}

#[tokio::test]
async fn an_answer_is_asked_for_anew_when_its_time_is_over() {
    const CACHE: Duration = Duration::from_millis(300);
    let scene = Scene::new("  cache: 300").await;
    // Down or up, the backend is asked once a time, however many ask.
    for manner in [Manner::json(ANSWER), Manner::Closes, Manner::json(ANSWER)] {
        scene.backend.set(manner);
        let (began, before) = (Instant::now(), scene.backend.count());
        while scene.backend.count() < before + 3 {
            scene.ask(763, "a.test").await;
        }
        // The third question came when two times were over, but for the rest of the one at the beginning.
        assert!(began.elapsed() >= CACHE * 2, "{:?}", began.elapsed());
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn backends_that_do_not_answer_as_they_should() {
    let scene = Scene::with("  cache: 1\n  favicon: icon.png\n  max-players: 7", |setup| {
        let setup = setup.network("  connection-timeout: 400\n");
        std::fs::write(setup.folder.path().join("icon.png"), icon()).unwrap();
        setup
    })
    .await;
    assert_eq!(scene.ask(763, "a.test").await, ANSWER);
    let huge = |len: usize| format!("{{\"description\":\"{}\"}}", "x".repeat(len - 18));
    let frame = |packet: Out| Manner::Says(wire::frame(&packet.0, None));
    for (what, manner) in [
        ("hangs", Manner::Hangs),
        ("closes", Manner::Closes),
        ("garbage", Manner::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("nothing", Manner::Says(vec![0])),
        ("the beginning of a frame", Manner::Says(vec![0x80])),
        ("a frame that never ends", Manner::Says(vec![0xff, 0x7f, 0, 1])),
        ("the longest frame", Manner::Says(vec![0xff, 0xff, 0x7f])),
        ("another packet", frame(Out::id(1).raw(&[0; 8]))),
        ("a string longer than its packet", frame(Out::id(0).varint(9000).raw(b"{}"))),
        ("bytes behind it", frame(Out::id(0).str("{}").raw(&[0]))),
        ("no text", frame(Out::id(0).bytes(&[b'"', 0xff, b'"']))),
        ("no JSON", Manner::json("Hello")),
        ("no object", Manner::json("[]")),
        ("very deep", Manner::json(&format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)))),
        ("a character too long", Manner::json(&huge(32768))),
        ("a megabyte", Manner::json(&huge(1 << 20))),
    ] {
        scene.backend.set(manner);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answer = scene.value(763, "a.test").await;
        assert_eq!(answer["description"], offline(), "{what}");
        assert_eq!(answer["version"]["protocol"], 763, "{what}");
        assert_eq!(answer["players"], json!({"max": 7, "online": 0}), "{what}");
        let icon = answer["favicon"].as_str().unwrap();
        assert!(icon.starts_with("data:image/png;base64,iVBORw0KGgo"), "{what}: {icon}");
        assert!(scene.legacy(&[0xfe, 1, 0xfa]).await.contains("not answering right now"), "{what}");
    }
    let longest = huge(32767);
    scene.backend.set(Manner::json(&longest));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(scene.ask(763, "a.test").await, longest);
}

/// A PNG image as far as anybody looks.
fn icon() -> Vec<u8> {
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x40\0\0\0\x40\x08\x06\0\0\0"[..], &[7; 500]].concat()
}

#[tokio::test]
async fn an_outage_is_the_second_line_and_nothing_else() {
    let notice = "Mojang authentication servers appear to be down.";
    let mut scene = Scene::new(&format!("  cache: {NEVER}")).await;
    assert_eq!(scene.ask(763, "a.test").await, ANSWER);
    scene.sessions.set(Mode::Down);
    scene.audit.state("down").await;
    let shown = scene.value(763, "a.test").await;
    let mut expected: Value = serde_json::from_str(ANSWER).unwrap();
    let first = expected["description"].take();
    expected["description"] = json!({"text": "", "extra": [first, "\n", {"text": notice, "color": "gray"}]});
    assert_eq!(shown, expected);
    for (ping, expected) in [
        (&[0xfe][..], format!("Mods {notice}\u{a7}1\u{a7}20")),
        (&[0xfe, 0x01], format!("\u{a7}1\u{0}127\u{0}1.20.1\u{0}Mods {notice}\u{0}1\u{0}20")),
        (&[0xfe, 0x01, 0xfa], format!("\u{a7}1\u{0}127\u{0}1.20.1\u{0}Mods {notice}\u{0}1\u{0}20")),
    ] {
        assert_eq!(scene.legacy(ping).await, expected);
    }
    scene.sessions.set(Mode::Up);
    scene.audit.state("up").await;
    assert_eq!(scene.ask(763, "a.test").await, ANSWER);
    // One question for 763, and one for pings of before 1.7, which are shown the newest release's answer.
    assert_eq!(scene.backend.count(), 2);
}

#[tokio::test]
async fn a_static_answer_asks_nobody() {
    let status = "  mode: static\n  favicon: icon.png\n  max-players: 7\n  description: '&aOurs'\n  show-outage: false";
    let mut scene = Scene::with(status, |setup| {
        std::fs::write(setup.folder.path().join("icon.png"), icon()).unwrap();
        setup
    })
    .await;
    for outage in [false, true] {
        if outage {
            scene.sessions.set(Mode::Down);
            scene.audit.state("down").await;
        }
        for (protocol, shown) in [(4, 4), (47, 47), (763, 763), (9999, 777)] {
            let answer = scene.value(protocol, "a.test").await;
            assert_eq!(answer["description"], json!({"text": "Ours", "color": "green"}));
            assert_eq!(answer["version"]["protocol"], shown);
            assert_eq!(answer["players"], json!({"max": 7, "online": 0}));
            assert!(answer["favicon"].as_str().unwrap().starts_with("data:image/png;base64,iVBORw0KGgo"));
        }
        assert_eq!(scene.legacy(&[0xfe]).await, "Ours\u{a7}0\u{a7}7");
        assert_eq!(scene.legacy(&[0xfe, 1]).await, "\u{a7}1\u{0}127\u{0}Postern\u{0}Ours\u{0}0\u{0}7");
    }
    assert_eq!(scene.backend.count(), 0);
}

#[tokio::test]
async fn whoever_waits_for_a_backend_that_hangs_waits_together_and_not_long() {
    let scene =
        Scene::with(&format!("  cache: {NEVER}"), |setup| setup.network("  connection-timeout: 500\n")).await;
    scene.backend.set(Manner::Hangs);
    let began = Instant::now();
    let mut pings = JoinSet::new();
    for _ in 0..50 {
        let proxy = address(&scene.proxy);
        pings.spawn(async move { ask(proxy, 763, "a.test").await });
    }
    // Whoever comes while they wait, and leaves, changes nothing.
    let mut client = Client::connect(address(&scene.proxy), 763).await;
    client.handshake("a.test", 1).await;
    client.send(Out::id(0)).await;
    drop(client);
    while let Some(answer) = pings.join_next().await {
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        assert_eq!(answer["description"], offline());
    }
    let took = began.elapsed();
    assert!((Duration::from_millis(499)..AT_ONCE).contains(&took), "{took:?}");
    until(|| scene.backend.count() == 1).await;
    // Known by now.
    scene.ask(763, "b.test").await;
    assert_eq!(scene.backend.count(), 1);
}
