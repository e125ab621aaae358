//! What stands in front of the proxy and behind it, as a whole: PROXY headers that are missing or not expected, players
//! who all look alike, secrets that change while players log in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail like tests")]

mod support;

use std::time::{Duration, Instant};

use postern::app::Proxy;
use support::{
    backend::{Backend, SECRET},
    client::{Client, End, Player},
    logs::Logs,
    proxy::{Audit, Setup, address},
    scene::until,
    session_server::SessionServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const MODERN: i32 = 774;
const HOST: &str = "play.example.com";

async fn proxy(change: impl FnOnce(Setup) -> Setup) -> (SessionServer, Backend, Setup, Proxy, Audit) {
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    let setup = change(Setup::new(&sessions, &backend));
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    (sessions, backend, setup, proxy, audit)
}

fn behind(setup: Setup, trusted: &str) -> Setup {
    setup.network(&format!("  accept-proxy-protocol: true\n  trusted-proxies: [\"{trusted}\"]\n"))
}

async fn login(proxy: &Proxy, player: &Player, sessions: &SessionServer) -> End {
    Client::connect(address(proxy), MODERN).await.login_at(HOST, player, sessions).await
}

/// Waits until nobody is in.
async fn gone(proxy: &Proxy) {
    let began = Instant::now();
    while proxy.players() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends bytes, reads to the end, and returns the facts of the refusal that they led to.
async fn refused(proxy: &Proxy, audit: &mut Audit, bytes: &[u8]) -> serde_json::Value {
    let mut client = Client::connect(address(proxy), MODERN).await;
    client.send_raw(bytes.to_vec()).await;
    assert_eq!(client.recv().await, None);
    let event = audit.reason("bad-handshake").await;
    assert_eq!(event["address"], "127.0.0.1", "what the header says is not believed");
    event["facts"].clone()
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 25565\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x9c\x40\x63\xdd";

#[tokio::test]
async fn headers_of_peers_that_are_not_trusted_are_refused_and_told_of_once() {
    for (setup, trusts) in [(None, "off"), (Some("192.0.2.0/24"), "on, for others")] {
        let (logs, _guard) = Logs::keep();
        let change = |plain| match setup {
            Some(trusted) => behind(plain, trusted),
            None => plain,
        };
        let (sessions, backend, _setup, proxy, mut audit) = proxy(change).await;
        for header in [V1, V2, b"PROXY UNKNOWN\r\n", b"PROXY and more nonsense"] {
            let facts = refused(&proxy, &mut audit, header).await;
            assert_eq!(
                facts["cause"], "a PROXY header from a peer that is not trusted to send one",
                "{trusts}"
            );
        }
        let text = logs.text();
        let told: Vec<&str> = text.lines().filter(|line| line.contains("sends PROXY headers, but")).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains(" WARN ") && told[0].contains("127.0.0.1 "), "{}", told[0]);
        assert_eq!(backend.connections(), 0);
        // Others are none the worse, nor are pings that begin with a byte of their own.
        let end = login(&proxy, &Player::new("Known"), &sessions).await;
        assert!(matches!(end, End::In { .. }), "{end:?}");
    }
}

#[tokio::test]
async fn trusted_peers_without_a_header_are_refused_and_told_of_once() {
    let (logs, _guard) = Logs::keep();
    let (_sessions, backend, _setup, proxy, mut audit) = proxy(|setup| behind(setup, "127.0.0.0/8")).await;
    // A port check that connects and leaves, politely or with a reset, is nothing to mend.
    for reset in [false, true] {
        let check = TcpStream::connect(address(&proxy)).await.unwrap();
        if reset {
            check.set_zero_linger().unwrap();
        }
        drop(check);
    }
    let two = [V1, V2].concat();
    assert_eq!(second(&proxy, &mut audit, &two).await, "a second PROXY header");
    assert!(!logs.text().contains("in network.trusted-proxies"), "{}", logs.text());
    for bytes in [&b"\x10\x00\xf6\x05"[..], b"\xfe\x01\xfa", b"PROXY TCP4 203.0.113.7\r\n"] {
        let facts = refused(&proxy, &mut audit, bytes).await;
        assert_eq!(facts["stage"], "PROXY header", "{bytes:x?}");
    }
    let text = logs.text();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("in network.trusted-proxies")).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("127.0.0.1 is in network.trusted-proxies, but a connection from it began"),
        "{}",
        told[0]
    );
    assert_eq!(backend.connections(), 0);
}

/// The cause of the refusal of a connection whose first header was good.
async fn second(proxy: &Proxy, audit: &mut Audit, bytes: &[u8]) -> String {
    let mut client = Client::connect(address(proxy), MODERN).await;
    client.send_raw(bytes.to_vec()).await;
    assert_eq!(client.recv().await, None);
    let event = audit.reason("bad-handshake").await;
    assert_eq!(event["address"], "203.0.113.7");
    event["facts"]["cause"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn players_who_all_look_alike_are_noticed() {
    let public = |setup: Setup| {
        setup
            .replace("bind: \"127.0.0.1:0\"", "bind: [\"127.0.0.1:0\", \"0.0.0.0:0\"]")
            .replace("trust-private-addresses: true", "trust-private-addresses: false")
    };
    let (logs, _guard) = Logs::keep();
    let (sessions, _backend, setup, proxy, _audit) = proxy(public).await;
    let lines =
        |logs: &Logs| logs.text().lines().filter(|line| line.contains("all players look alike")).count();
    for name in ["Ann", "Ben", "Ann", "Cat"] {
        let end = login(&proxy, &Player::new(name), &sessions).await;
        assert!(matches!(end, End::In { .. }), "{end:?}");
        gone(&proxy).await;
    }
    assert_eq!(lines(&logs), 0);
    for name in ["Dan", "Eve"] {
        login(&proxy, &Player::new(name), &sessions).await;
        gone(&proxy).await;
        assert_eq!(lines(&logs), 1, "{name}");
    }
    assert!(
        logs.text().contains("all 5 login attempts since the start came from private addresses (127.0.0.1)")
    );
    proxy.stop().await;
    // The next start knows it from the sessions.
    let proxy = setup.start().await;
    assert_eq!(lines(&logs), 2);
    let text = logs.text();
    assert!(
        text.contains("all 5 remembered players with a current address came from private addresses"),
        "{text}"
    );
    proxy.stop().await;
    let trusting = setup.replace("trust-private-addresses: false", "trust-private-addresses: true");
    trusting.start().await.stop().await;
    assert_eq!(lines(&logs), 2);
}

#[tokio::test]
async fn a_new_secret_counts_for_logins_that_begin_after_it() {
    let (logs, _guard) = Logs::keep();
    let (sessions, backend, setup, proxy, mut audit) = proxy(|setup| {
        std::fs::write(setup.folder.path().join("forwarding.secret"), "not that of the backend").unwrap();
        setup
    })
    .await;
    let player = Player::new("Known");
    let End::Refused(text) = login(&proxy, &player, &sessions).await else { panic!("let in") };
    assert!(text.contains("not set up for this proxy"), "{text}");
    std::fs::write(setup.folder.path().join("forwarding.secret"), SECRET).unwrap();
    proxy.reload().await.unwrap();
    audit.next("config.reloaded", |event| event["result"] == "ok").await;
    let mut first = Client::connect(address(&proxy), MODERN).await;
    let end = first.login_at(HOST, &player, &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");

    // Who is in stays in, whatever the secret is then.
    std::fs::write(setup.folder.path().join("forwarding.secret"), "changed once more").unwrap();
    proxy.reload().await.unwrap();
    assert!(matches!(login(&proxy, &Player::new("Other"), &sessions).await, End::Refused(_)));
    assert_eq!(proxy.players(), 1);
    assert_eq!(backend.seen().len(), 1);
    let text = logs.text();
    // Whoever reads the log alone learns why.
    let refused: Vec<&str> = text.lines().filter(|line| line.contains("login refused")).collect();
    assert_eq!(refused.len(), 2, "{refused:#?}");
    assert!(refused[0].contains("cause=\"does not accept our forwarding secret\""), "{refused:#?}");
    assert!(!text.contains(SECRET) && !text.contains("changed once more"), "a secret in the log");
}

#[tokio::test]
async fn a_backend_that_moves_is_asked_with_its_new_secret_and_the_old_one_no_more() {
    let (sessions, backend, setup, proxy, _audit) = proxy(|setup| setup).await;
    let mut first = Client::connect(address(&proxy), MODERN).await;
    let end = first.login_at(HOST, &Player::new("Known"), &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    // The secret of the stand-ins is one and the same: the new one at the old host would be refused.
    let moved = Backend::modern().await;
    let text = setup.text.replace(&backend.address.to_string(), &moved.address.to_string());
    std::fs::write(setup.path(), text).unwrap();
    proxy.reload().await.unwrap();
    let end = login(&proxy, &Player::new("Other"), &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    assert_eq!((backend.seen().len(), moved.seen().len()), (1, 1));
    // Who was in before is where it was.
    until(|| proxy.players() == 1).await;
}

#[tokio::test]
async fn the_log_has_the_words_with_which_a_backend_refuses() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = backend.local_addr().unwrap();
    let refusing = tokio::spawn(async move {
        let (mut stream, _) = backend.accept().await.unwrap();
        let json = br#"{"text":"Not on the\nwhitelist"}"#;
        let length = u8::try_from(json.len()).unwrap();
        stream.write_all(&[&[length + 2, 0, length][..], json].concat()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    // Bound, so that nobody else gets the port, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = socket.local_addr().unwrap();
    let (logs, _guard) = Logs::keep();
    let (sessions, _backend, _setup, proxy, mut audit) = proxy(|setup| {
        let address = setup.text.lines().find(|line| line.trim().starts_with("address:")).unwrap().to_owned();
        let first = format!("backends:\n  gone:\n    address: \"{nowhere}\"\n");
        setup.replace(&address, &format!("    address: \"{here}\"")).replace("backends:\n", &first)
    })
    .await;
    assert!(matches!(login(&proxy, &Player::new("Known"), &sessions).await, End::Refused(_)));
    refusing.await.unwrap();
    // Whoever refused the player, the owner hears of the backend that was not there.
    let event = audit.next("backend.error", |event| event["backend"] == "gone").await;
    assert_eq!(event["reason"], "unreachable");
    let event = audit.reason("backend-unavailable").await;
    assert_eq!(event["facts"]["cause"], "Not on the\u{fffd}whitelist");
    let text = logs.text();
    let line = text.lines().find(|line| line.contains("login refused")).unwrap();
    assert!(line.contains("cause=\"Not on the\u{fffd}whitelist\""), "{line}");
}
