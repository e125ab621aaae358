//! Answers to scripted clients, from scripted backends that count what they are asked.

use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::{
    backend::{
        self, Backend, ForwardingMode, Lookup, NameServers,
        connect::tests::hung,
        srv::tests::{GOOD, Server as NameServer, srv},
    },
    net::conn::ConnError,
    protocol::{
        handshake::{Intent, VirtualHost},
        status::{read_answer, write_answer},
    },
};

const UP: Moment = Moment { outage: false, online: 3 };
const DOWN: Moment = Moment { outage: true, online: 3 };

/// A status server that counts its questions and remembers the last one's protocol number and host.
#[derive(Clone)]
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<(i32, String)>>,
}

impl Fake {
    async fn start(json: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake =
            Self { address: listener.local_addr().unwrap(), asked: Arc::default(), last: Arc::default() };
        let (seen, json) = (fake.clone(), json.to_owned());
        tokio::spawn(async move {
            loop {
                let mut conn = Conn::new(listener.accept().await.unwrap().0);
                let handshake = Handshake::read(&conn.read_packet(1000).await.unwrap()).unwrap();
                assert_eq!(handshake.intent, Intent::Status);
                let request = StatusRequest::read(&conn.read_packet(1000).await.unwrap()).unwrap();
                assert_eq!(request, StatusRequest::Status);
                *seen.last.lock().unwrap() = (handshake.version.0, handshake.host.for_backend());
                seen.asked.fetch_add(1, Ordering::SeqCst);
                conn.write_packet(&write_answer(&json)).await.unwrap();
            }
        });
        fake
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn last(&self) -> (i32, String) {
        self.last.lock().unwrap().clone()
    }
}

fn backend_at(port: u16) -> Backend {
    Backend {
        name: port.to_string(),
        host: "127.0.0.1".to_owned(),
        port,
        lookup: Lookup::Host,
        forwarding: ForwardingMode::Modern,
        secret: None,
        send_proxy_protocol: false,
    }
}

fn router(ports: &[u16]) -> Arc<Router> {
    Arc::new(Router::new(backend::Config {
        backends: ports.iter().copied().map(backend_at).collect(),
        try_order: (0..ports.len()).collect(),
        forced_hosts: vec![
            ("forced.example.com".to_owned(), vec![0]),
            ("*.example.com".to_owned(), (0..ports.len()).collect()),
        ],
        connect_timeout: Duration::from_secs(5),
    }))
}

fn config(mode: Mode) -> Config {
    Config {
        mode,
        description: "&aHello\nworld".to_owned(),
        max_players: 20,
        favicon: None,
        show_outage: true,
        cache: Duration::from_secs(5),
    }
}

fn passthrough(ports: &[u16]) -> Answers {
    Answers::new(&config(Mode::Passthrough), &Messages::default(), router(ports)).unwrap()
}

fn hello(protocol: i32, host: &str) -> (Handshake, Dialect) {
    let version = ProtocolVersion(protocol);
    let host = VirtualHost::parse(host).unwrap();
    (Handshake { version, host, port: 25565, intent: Intent::Status }, Dialect::of(version))
}

async fn ask(answers: &Answers, protocol: i32, host: &str, moment: Moment) -> String {
    let (handshake, dialect) = hello(protocol, host);
    answers.answer(&handshake, &dialect, moment).await.json().to_owned()
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn notice() -> Value {
    json!({ "text": "Mojang authentication servers appear to be down.", "color": "gray" })
}

fn offline(protocol: i32) -> Value {
    json!({
        "version": { "name": "Postern", "protocol": protocol },
        "players": { "max": 20, "online": 3 },
        "description": { "text": "The game server is not answering right now.", "color": "red" },
    })
}

/// A port that refuses connections for as long as the socket lives: bound, so that nobody else gets it, but not
/// listening.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

const ANSWER: &str = r#"{ "players": {"online": 1, "max": 9}, "version":{"name":"Paper","protocol":774}, "description":"A\nB", "forgeData":{"d":"\u2603"}, "favicon":"data:x" }"#;

#[tokio::test]
async fn a_backend_s_answer_is_passed_on_as_it_is() {
    let fake = Fake::start(ANSWER).await;
    let answers = passthrough(&[fake.address.port()]);
    assert_eq!(ask(&answers, 774, "", UP).await, ANSWER);
    // During an outage the second line is ours, and nothing else changes.
    let mut expected = value(ANSWER);
    expected["description"] = json!("A\n§r§7Mojang authentication servers appear to be down.");
    assert_eq!(value(&ask(&answers, 774, "", DOWN).await), expected);
    let mut config = config(Mode::Passthrough);
    config.show_outage = false;
    let answers = Answers::new(&config, &Messages::default(), router(&[fake.address.port()])).unwrap();
    assert_eq!(ask(&answers, 774, "", DOWN).await, ANSWER);
}

#[tokio::test]
async fn many_pings_cost_one_question() {
    let fake = Fake::start(ANSWER).await;
    let answers = passthrough(&[fake.address.port()]);
    let mut pings = tokio::task::JoinSet::new();
    for i in 0..50 {
        let answers = answers.clone();
        pings.spawn(async move { ask(&answers, 774, &format!("host{i}"), UP).await });
    }
    while let Some(answer) = pings.join_next().await {
        assert_eq!(answer.unwrap(), ANSWER);
    }
    assert_eq!(fake.asked(), 1);
    assert_eq!(fake.last(), (774, "127.0.0.1".to_owned()));

    // Unknown numbers share the newest release's answer; other releases and other routes have their own.
    for (protocol, host, asked, expected) in [
        (9999, "", 2, (777, "127.0.0.1")),
        (0x4000_0001, "x", 2, (777, "127.0.0.1")),
        (47, "", 3, (47, "127.0.0.1")),
        (774, "FORCED.example.com", 4, (774, "forced.example.com")),
        (774, "a.example.com", 5, (774, "127.0.0.1")),
        (774, "b.example.com", 5, (774, "127.0.0.1")),
    ] {
        ask(&answers, protocol, host, UP).await;
        assert_eq!(fake.asked(), asked, "{protocol} {host}");
        assert_eq!(fake.last(), (expected.0, expected.1.to_owned()), "{protocol} {host}");
    }

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    ask(&answers, 774, "", UP).await;
    assert_eq!(fake.asked(), 6);
}

#[tokio::test]
async fn more_routes_and_releases_than_answers_are_kept_for_do_not_cost_more() {
    const ROUTES: usize = 30;
    let fake = Fake::start(ANSWER).await;
    let config = backend::Config {
        backends: vec![backend_at(fake.address.port())],
        try_order: vec![0],
        forced_hosts: (0..ROUTES).map(|i| (format!("host{i}"), vec![0])).collect(),
        connect_timeout: Duration::from_secs(5),
    };
    let answers = Passthrough::new(Arc::new(Router::new(config)), Duration::from_mins(1));
    let releases: Vec<_> = Dialect::releases().map(|(version, _)| Dialect::of(version)).collect();
    let all = ROUTES * releases.len();
    assert!(all > 1024 + 100, "{all} are too few to fill the table");
    for round in 0..2 {
        for i in 0..ROUTES {
            for dialect in &releases {
                let shown = answers.ask(&format!("host{i}"), dialect).await.unwrap();
                assert_eq!(shown.plain.json(), ANSWER);
            }
        }
        // The table, and one for each route once it is full.
        assert!((1024..=1024 + ROUTES).contains(&fake.asked()), "{} in round {round}", fake.asked());
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_answer_with_it() {
    let fake = Fake::start(ANSWER).await;
    let answers = passthrough(&[fake.address.port()]);
    let first = ask(&answers, 774, "", UP);
    tokio::select! {
        biased;
        _ = first => panic!("an answer without waiting for the backend"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(ask(&answers, 774, "", UP).await, ANSWER);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn unusable_backends_are_passed_over() {
    let ((_socket, closed), good) = (closed_port(), Fake::start(ANSWER).await);
    for bad in ["no json", "[]", "\"text\"", "{", "{\"a\":\"\\ud800\"}"] {
        let fake = Fake::start(bad).await;
        let answers = passthrough(&[closed, fake.address.port(), good.address.port()]);
        assert_eq!(ask(&answers, 774, "", UP).await, ANSWER, "{bad}");
        let answers = passthrough(&[closed, fake.address.port()]);
        assert_eq!(value(&ask(&answers, 774, "", UP).await), offline(774), "{bad}");
    }
    // One unit too many.
    let long = format!("{{\"description\":\"{}\"}}", "x".repeat(MAX_ANSWER - 17));
    assert_eq!(long.len(), MAX_ANSWER + 1);
    let fake = Fake::start(&long).await;
    assert_eq!(value(&ask(&passthrough(&[fake.address.port()]), 774, "", UP).await), offline(774));
}

#[tokio::test]
async fn a_backend_behind_srv_records_is_asked_by_the_name_and_port_in_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = NameServer::answering(GOOD, vec![srv(0, 0, port, "127.0.0.1")]).await;
    let backend = Backend {
        name: "lobby".to_owned(),
        host: "mc.example.com".to_owned(),
        port: 25565,
        lookup: Lookup::Service(NameServers::At(vec![server.address])),
        forwarding: ForwardingMode::None,
        secret: None,
        send_proxy_protocol: false,
    };
    let router = Router::new(backend::Config {
        backends: vec![backend],
        try_order: vec![0],
        forced_hosts: vec![("forced.example.com".to_owned(), vec![0])],
        connect_timeout: Duration::from_secs(5),
    });
    let answers = Answers::new(&config(Mode::Passthrough), &Messages::default(), Arc::new(router)).unwrap();
    for (typed, told) in [("play.example.com", "127.0.0.1"), ("forced.example.com", "forced.example.com")] {
        let behind = async {
            let mut conn = Conn::new(listener.accept().await.unwrap().0);
            let handshake = Handshake::read(&conn.read_packet(1000).await.unwrap()).unwrap();
            assert_eq!((handshake.host.name(), handshake.port), (told, port));
            conn.read_packet(1000).await.unwrap();
            conn.write_packet(&write_answer(ANSWER)).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&answers, 774, typed, UP), behind);
        assert_eq!(answer, ANSWER);
    }
}

#[tokio::test]
async fn no_answer_is_an_answer_too() {
    let (_socket, closed) = closed_port();
    let answers = passthrough(&[closed]);
    assert_eq!(value(&ask(&answers, 774, "", UP).await), offline(774));
    // A number not known here is answered with the newest known.
    assert_eq!(value(&ask(&answers, 778, "", UP).await), offline(777));
    let mut expected = offline(774);
    expected["description"] = json!({ "text": "", "extra": [expected["description"], "\n", notice()] });
    assert_eq!(value(&ask(&answers, 774, "", DOWN).await), expected);
}

#[tokio::test]
async fn a_backend_that_hangs_costs_its_share_of_the_time() {
    let hang = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hang.local_addr().unwrap().port();
    let holding = tokio::spawn(async move {
        let mut held = vec![hang.accept().await.unwrap()];
        tokio::time::pause();
        loop {
            held.push(hang.accept().await.unwrap());
        }
    });
    let start = tokio::time::Instant::now();
    let answers = passthrough(&[port, port]);
    assert_eq!(value(&ask(&answers, 774, "", UP).await), offline(774));
    let took = start.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_millis(5200)).contains(&took), "{took:?}");
    holding.abort();
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_time_is_no_proof_against_a_backend() {
    let ((_a, _waits_a, a), (_b, _waits_b, b)) = (hung(), hung());
    let router = router(&[a, b]);
    let answers = Passthrough::new(Arc::clone(&router), Duration::from_secs(5));
    assert!(answers.ask("", &Dialect::newest()).await.is_none());
    // After a rest, one alone would have a trial.
    tokio::time::advance(Duration::from_secs(10)).await;
    let mut first = router.search(router.route("")).next().unwrap();
    assert_eq!(router.line_up(), [a.to_string(), b.to_string()]);
    first.failed();
    assert_eq!(router.line_up(), [b.to_string(), a.to_string()]);
}

#[tokio::test]
async fn an_answer_in_the_server_list_ends_no_rest() {
    let good = Fake::start(ANSWER).await;
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closing.local_addr().unwrap().port();
    let router = router(&[port, good.address.port()]);
    router.search(router.route("")).for_each(|mut attempt| attempt.failed());
    let answers = Passthrough::new(Arc::clone(&router), Duration::from_secs(5));
    let hang_up = async { drop(closing.accept().await.unwrap()) };
    let dialect = Dialect::newest();
    let (answer, ()) = tokio::join!(answers.ask("", &dialect), hang_up);
    assert_eq!(answer.unwrap().plain.json(), ANSWER);
    // Nor does hanging up. Both have failed, so both are still tried, in order.
    assert_eq!(router.line_up(), [port.to_string(), good.address.port().to_string()]);
}

#[tokio::test]
async fn own_answers() {
    let fake = Fake::start(ANSWER).await;
    let answers =
        Answers::new(&config(Mode::Static), &Messages::default(), router(&[fake.address.port()])).unwrap();
    let mut expected = offline(47);
    expected["description"] = json!({ "text": "Hello\nworld", "color": "green" });
    assert_eq!(value(&ask(&answers, 47, "", UP).await), expected);
    expected["description"] =
        json!({ "text": "", "extra": [{ "text": "Hello", "color": "green" }, "\n", notice()] });
    assert_eq!(value(&ask(&answers, 47, "", DOWN).await), expected);
    assert_eq!(fake.asked(), 0);
}

#[test]
fn second_lines() {
    let with = |first: Value| json!({ "text": "", "extra": [first, "\n", notice()] });
    let text = Text::parse("&7Mojang authentication servers appear to be down.", &[]);
    for (before, after) in [
        (json!("one"), json!("one\n§r§7Mojang authentication servers appear to be down.")),
        (json!("§aone\n§btwo\nthree"), json!("§aone\n§r§7Mojang authentication servers appear to be down.")),
        (json!({"text": "one"}), with(json!({"text": "one"}))),
        (
            json!({"text": "one\ntwo", "extra": ["x"], "bold": true}),
            with(json!({"text": "one", "bold": true})),
        ),
        (
            json!({"text": "", "extra": [{"text": "a", "color": "red"}, {"text": "b\nc", "extra": ["d"]}, "e"]}),
            with(json!({"text": "", "extra": [{"text": "a", "color": "red"}, {"text": "b"}]})),
        ),
        (json!(["a", ["b", "c\nd", "e"], "f"]), with(json!(["a", ["b", "c"]]))),
        (json!({"translate": "menu.game"}), with(json!({"translate": "menu.game"}))),
        (json!(null), json!({ "text": "", "extra": ["\n", notice()] })),
    ] {
        let mut answer = Map::from_iter([("description".to_owned(), before.clone())]);
        put_second_line(&mut answer, &text);
        assert_eq!(answer["description"], after, "{before}");
    }
    let mut none = Map::new();
    put_second_line(&mut none, &text);
    assert_eq!(none["description"], json!({ "text": "", "extra": ["\n", notice()] }));
}

#[tokio::test]
async fn a_notice_that_does_not_fit_is_left_out() {
    let full = format!("{{\"description\":\"{}\"}}", "x".repeat(MAX_ANSWER - 18));
    let fake = Fake::start(&full).await;
    assert_eq!(ask(&passthrough(&[fake.address.port()]), 774, "", DOWN).await, full);
}

#[tokio::test]
async fn legacy_pings() {
    let text = |bytes: Vec<u8>| {
        let units: Vec<u16> = bytes[3..].chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
        assert_eq!((bytes[0], usize::from(u16::from_be_bytes([bytes[1], bytes[2]]))), (0xff, units.len()));
        String::from_utf16(&units).unwrap()
    };
    let json = r#"{"description":{"text":"§aHi & ","extra":["all"]},"players":{"online":1,"max":9},"version":{"name":"Paper"}}"#;
    let fake = Fake::start(json).await;
    let answers = passthrough(&[fake.address.port()]);
    assert_eq!(text(answers.legacy_answer(LegacyPing::Bare, UP).await), "Hi & all§1§9");
    assert_eq!(
        text(answers.legacy_answer(LegacyPing::Extended, DOWN).await),
        "§1\u{0}127\u{0}Paper\u{0}Hi & all Mojang authentication servers appear to be down.\u{0}1\u{0}9"
    );
    assert_eq!(fake.asked(), 1);
    let (_socket, closed) = closed_port();
    let answers = passthrough(&[closed]);
    assert_eq!(
        text(answers.legacy_answer(LegacyPing::Bare, UP).await),
        "The game server is not answering right now.§3§20"
    );
}

fn png(width: u32, height: u32, len: usize) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.resize(len, 0x5a);
    png
}

#[tokio::test]
async fn favicons() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    };
    let with = |favicon: PathBuf| {
        let config = Config { favicon: Some(favicon), ..config(Mode::Static) };
        Answers::new(&config, &Messages::default(), router(&[]))
    };
    let answers = with(file("good", &png(64, 64, 33))).unwrap();
    let answer = value(&ask(&answers, 774, "", UP).await);
    assert_eq!(answer["favicon"], "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAWlpaWlpaWlpa");
    with(file("largest", &png(64, 64, 23 << 10))).unwrap();
    let error = |name, bytes: &[u8]| with(file(name, bytes)).unwrap_err();
    assert!(matches!(error("wide", &png(128, 64, 33)), AnswersError::NotAFavicon));
    assert!(matches!(error("high", &png(64, 65, 33)), AnswersError::NotAFavicon));
    assert!(matches!(error("short", &png(64, 64, 33)[..20]), AnswersError::NotAFavicon));
    assert!(matches!(error("gif", b"GIF89a"), AnswersError::NotAFavicon));
    assert!(matches!(error("large", &png(64, 64, (23 << 10) + 1)), AnswersError::FaviconTooLarge));
    assert!(matches!(with(folder.path().join("none")), Err(AnswersError::Favicon(_))));
    let long = Config { description: "x".repeat(40_000), ..config(Mode::Static) };
    let long = Answers::new(&long, &Messages::default(), router(&[]));
    assert!(matches!(long, Err(AnswersError::TooLong)));
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
}

/// Sends packets to a static server and returns what comes back until it closes.
async fn talk(packets: &[&[u8]]) -> Vec<Vec<u8>> {
    let answers = Answers::new(&config(Mode::Static), &Messages::default(), router(&[])).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let (handshake, dialect) = hello(774, "");
    let (mut server, mut client) = (Conn::new(near), Conn::new(far));
    for packet in packets {
        client.write_packet(packet).await.unwrap();
    }
    serve(&mut server, &handshake, &dialect, &answers, UP).await;
    drop(server);
    let mut replies = Vec::new();
    loop {
        match client.read_packet(1 << 16).await {
            Ok(packet) => replies.push(packet),
            Err(error) => {
                assert!(matches!(error, ConnError::Closed), "{error}");
                return replies;
            }
        }
    }
}

#[tokio::test]
async fn answers_are_made_once_for_all_they_are_true_for() {
    let fake = Fake::start(ANSWER).await;
    let mut config = config(Mode::Passthrough);
    config.show_outage = true;
    let (_socket, closed) = closed_port();
    for port in [fake.address.port(), closed] {
        let answers = Answers::new(&config, &Messages::default(), router(&[port])).unwrap();
        let ask = async |protocol, moment| {
            let (handshake, dialect) = hello(protocol, "");
            answers.answer(&handshake, &dialect, moment).await
        };
        for moment in [UP, DOWN] {
            let first = ask(774, moment).await;
            assert!(Arc::ptr_eq(&first, &ask(774, moment).await));
            assert_eq!(first.json().contains("appear to be down"), moment.outage, "{}", first.json());
            let header = crate::protocol::frame::header(first.bytes()).unwrap().unwrap();
            assert_eq!(read_answer(&first.bytes()[header.prefix..]), Ok(first.json()));
        }
        assert!(!ask(774, UP).await.json().contains("appear to be down"), "the notice goes with the outage");
        if port == closed {
            assert!(ask(774, Moment { online: 9, ..UP }).await.json().contains("\"online\":9"));
            assert!(ask(47, UP).await.json().contains("\"protocol\":47"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_then_one_ping() {
    let ping = b"\x01\0\0\0\0\0\0\x30\x39";
    let start = tokio::time::Instant::now();
    let replies = talk(&[&[0], ping]).await;
    assert_eq!(value(read_answer(&replies[0]).unwrap())["players"]["max"], 20);
    assert_eq!((replies.len(), &replies[1][..]), (2, &ping[..]));
    assert_eq!(talk(&[ping]).await, [ping]);
    assert_eq!(talk(&[ping, ping]).await, [ping]);
    assert_eq!(talk(&[ping, &[0]]).await, [ping]);
    assert_eq!(talk(&[&[0], &[0], ping]).await.len(), 1);
    assert_eq!(talk(&[&[2], ping]).await.len(), 0);
    assert_eq!(talk(&[&[0, 0], ping]).await.len(), 0);
    assert_eq!(talk(&[&[0; MAX_FRAME + 1], ping]).await.len(), 0);
    assert!(start.elapsed() < PATIENCE, "a reply waited for nothing");
    // Silence ends it too.
    assert_eq!(talk(&[&[0]]).await.len(), 1);
    assert_eq!(start.elapsed(), PATIENCE);
    assert_eq!(talk(&[]).await.len(), 0);
    assert_eq!(start.elapsed(), 2 * PATIENCE);
}
