//! Logins that do not go as they should: packets out of order, forged answers, names, transfers, PROXY headers, and
//! what an outage means for clients that cannot be let in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::Duration;

use postern::app::Proxy;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey, pkcs8::DecodePublicKey};
use serde_json::Value;
use support::{
    Backend, BackendKind, Client, End, Mode, Player, SessionServer, Setup,
    client::plain,
    logs::Logs,
    proxy::{Audit, address},
    wire::{In, Out},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use uuid::Uuid;

/// Both sides of what changes in the packets before login success.
const DIALECTS: [i32; 8] = [47, 340, 758, 759, 765, 766, 774, 777];
const MODERN: i32 = 774;
const HOST: &str = "play.example.com";

/// The longest a proxy may take to refuse what cannot be right: far below every deadline.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn plain_proxy() -> (SessionServer, Backend, Setup, Proxy, Audit) {
    let sessions = SessionServer::start().await;
    let backend = Backend::start(BackendKind::Plain, Some(256)).await;
    let setup = Setup::with(&sessions, &backend, "none", "");
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    (sessions, backend, setup, proxy, audit)
}

async fn modern_proxy(
    auth: &str,
    change: impl FnOnce(Setup) -> Setup,
) -> (SessionServer, Backend, Setup, Proxy, Audit) {
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    let setup = change(Setup::with(&sessions, &backend, "modern", auth));
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    (sessions, backend, setup, proxy, audit)
}

async fn login(proxy: &Proxy, protocol: i32, player: &Player, sessions: &SessionServer) -> End {
    Client::connect(address(proxy), protocol).await.login(player, sessions).await
}

#[track_caller]
fn assert_refused(end: &End, text: &str) {
    assert!(matches!(end, End::Refused(said) if said.contains(text)), "{text:?}: {end:?}");
}

async fn gone(proxy: &Proxy) {
    let began = Instant::now();
    while proxy.players() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "still in");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Where a login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    LoginStart,
    EncryptionResponse,
}

/// What does not belong there: whole frames.
fn intruders(stage: Stage, protocol: i32) -> Vec<(String, Vec<u8>)> {
    let frame = |packet: Out| Out::default().bytes(&packet.0).0;
    let mut all = Vec::new();
    let own = u8::from(stage == Stage::EncryptionResponse);
    // Every other id that the login, status and configuration states have, and some that no state has.
    for id in (0..=0x0f).chain([0x7f]).filter(|id| *id != own) {
        all.push((format!("id {id:#x}"), frame(Out::id(id).str("Known").raw(&[7; 20]))));
        all.push((format!("short id {id:#x}"), frame(Out::id(id).raw(&[0, 0]))));
    }
    all.push(("long id".into(), frame(Out::default().varint(-1))));
    all.push(("endless id".into(), frame(Out::default().raw(&[0xff; 9]))));
    // Not two bytes: that is how a login of before 1.7 begins.
    all.push(("bare".into(), frame(Out::id(own))));
    all.push(("empty".into(), vec![0]));
    all.push(("endless length".into(), vec![0xff; 8]));
    all.push(("oversized".into(), Out::default().varint(1 << 20).raw(&[0; 64]).0));
    let good = match stage {
        Stage::Handshake => Out::id(0).varint(protocol).str(HOST).raw(&[0x63, 0xdd, 2]),
        Stage::LoginStart => {
            let start = Out::id(0).str("Known");
            let start = if matches!(protocol, 759 | 760) { start.bool(false) } else { start };
            if protocol >= 764 { start.raw(&[1; 16]) } else { start }
        }
        Stage::EncryptionResponse => {
            let response = Out::id(1).bytes(&[1; 128]);
            let response = if matches!(protocol, 759 | 760) { response.bool(true) } else { response };
            response.bytes(&[2; 128])
        }
    };
    all.push(("left over".into(), frame(good.clone().raw(&[1]))));
    for cut in [good.0.len() - 1, good.0.len() / 2, 3] {
        all.push((format!("cut at {cut}"), frame(Out(good.0[..cut].to_vec()))));
    }
    let before = if stage == Stage::Handshake { Out::id(0).varint(protocol) } else { Out::id(own) };
    let liar = before.raw(&[0xff, 0xff, 0xff, 0xff, 0x07]).raw(&[b'a'; 40]);
    all.push(("a length that lies".into(), frame(liar)));
    if stage == Stage::Handshake {
        let handshake = |host: &str, intent| {
            frame(Out::id(0).varint(protocol).str(host).raw(&[0x63, 0xdd]).varint(intent))
        };
        for intent in [0, 4, -1, 127] {
            all.push((format!("intent {intent}"), handshake(HOST, intent)));
        }
        all.push(("long host".into(), handshake(&"a".repeat(256), 2)));
        all.push(("not UTF-8".into(), frame(Out::id(0).varint(protocol).bytes(&[0xff; 9]).raw(&[0, 0, 2]))));
    }
    all
}

async fn reach(client: &mut Client, stage: Stage) {
    if stage == Stage::Handshake {
        return;
    }
    client.handshake(HOST, 2).await;
    if stage == Stage::EncryptionResponse {
        client.login_start("Known", Player::new("Known").id).await;
        assert_eq!(client.recv().await.unwrap()[0], 1);
    }
}

#[tokio::test]
async fn packets_out_of_order_end_the_login_and_nothing_else() {
    let (logs, _guard) = Logs::keep();
    let (sessions, backend, setup, proxy, _audit) = plain_proxy().await;
    let mut sent = 0;
    for protocol in DIALECTS {
        for stage in [Stage::Handshake, Stage::LoginStart, Stage::EncryptionResponse] {
            for (what, bytes) in intruders(stage, protocol) {
                let mut client = Client::connect(address(&proxy), protocol).await;
                reach(&mut client, stage).await;
                let began = Instant::now();
                client.send_raw(bytes).await;
                let (told, clean) = client.rest().await;
                let case = format!("{protocol} {stage:?} {what}");
                assert!(began.elapsed() < AT_ONCE, "{case}");
                if stage == Stage::Handshake {
                    assert!(told.is_empty(), "{case}: {told:x?}");
                } else {
                    assert_eq!((told.len(), told[0][0]), (1, 0), "{case}");
                    assert!(clean, "{case}: reset");
                    let mut reader = In(&told[0][1..]);
                    assert!(plain(&reader.str()).contains("does not understand"), "{case}");
                    assert!(reader.0.is_empty());
                }
                sent += 1;
            }
        }
        let player = Player::new(&format!("P{protocol}"));
        let end = login(&proxy, protocol, &player, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{protocol}: {end:?}");
    }
    assert_eq!(backend.connections(), DIALECTS.len());
    proxy.stop().await;
    // Lines of one kind are counted beyond the tenth a minute.
    let mut counted = 0;
    for line in setup.audit().lines() {
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "login.refused" {
            assert_eq!(event["reason"], "bad-handshake", "{line}");
            counted += event["count"].as_u64().unwrap_or(1);
        }
    }
    assert_eq!(counted, sent);
    assert!(!logs.text().contains("panicked"), "{}", logs.text());
}

#[tokio::test]
async fn a_client_that_speaks_unasked_while_its_backend_is_silent_is_refused() {
    let sessions = SessionServer::start().await;
    let backend = Backend::start(BackendKind::Silent, None).await;
    let setup = Setup::with(&sessions, &backend, "none", "");
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    for protocol in [47, 340, 765, MODERN] {
        for packet in [Out::id(0).str("Other"), Out::id(2).varint(1).bool(false), Out::id(3), Out::id(0x7f)] {
            let player = Player::new("Known");
            let mut client = Client::connect(address(&proxy), protocol).await;
            client.handshake(HOST, 2).await;
            client.login_start(&player.name, player.id).await;
            let request = client.recv().await.unwrap();
            client.answer_encryption(&request, &player, &sessions).await.unwrap();
            client.send(packet).await;
            let (told, clean) = client.rest().await;
            assert_eq!(told.len(), 1, "{protocol}");
            assert!(plain(&In(&told[0][1..]).str()).contains("does not understand"), "{protocol}");
            assert!(clean);
        }
    }
    let event = audit.reason("bad-handshake").await;
    assert_eq!(event["facts"]["proof"], "verified");
}

#[tokio::test]
async fn forged_encryption_responses_prove_nothing() {
    let (sessions, backend, _setup, proxy, mut audit) = plain_proxy().await;
    let other = RsaPrivateKey::new(&mut rand_core::OsRng, 1024).unwrap().to_public_key();
    for protocol in [5, 47, 758, 759, MODERN] {
        for case in 0..8 {
            let mut client = Client::connect(address(&proxy), protocol).await;
            reach(&mut client, Stage::EncryptionResponse).await;
            drop(client);
            let mut client = Client::connect(address(&proxy), protocol).await;
            client.handshake(HOST, 2).await;
            client.login_start("Known", Player::new("Known").id).await;
            let packet = client.recv().await.unwrap();
            let mut reader = In(&packet[1..]);
            reader.str();
            let (der, token) = if protocol < 47 {
                (reader.short_bytes(), reader.short_bytes())
            } else {
                (reader.bytes(), reader.bytes())
            };
            let ours = RsaPublicKey::from_public_key_der(der).unwrap();
            let lock = |key: &RsaPublicKey, bytes: &[u8]| {
                key.encrypt(&mut rand_core::OsRng, Pkcs1v15Encrypt, bytes).unwrap()
            };
            let wrong: Vec<u8> = token.iter().map(|byte| byte ^ 1).collect();
            let (secret, proof) = match case {
                0 => (lock(&ours, &[5; 16]), lock(&ours, &wrong)),
                1 => (lock(&other, &[5; 16]), lock(&other, token)),
                2 => (lock(&ours, &[5; 16]), lock(&other, token)),
                3 => (lock(&ours, &[5; 15]), lock(&ours, token)),
                4 => (lock(&ours, &[5; 32]), lock(&ours, token)),
                5 => (vec![0xff; 128], vec![0xff; 128]),
                6 => (Vec::new(), Vec::new()),
                _ => (lock(&ours, &[5; 16]), token.to_vec()),
            };
            let response = match protocol {
                ..47 => Out::id(1).short_bytes(&secret).short_bytes(&proof),
                // A signature by a key that login start did not bring.
                759 if case == 7 => Out::id(1).bytes(&secret).bool(false).raw(&[0; 8]).bytes(&[3; 256]),
                759 => Out::id(1).bytes(&secret).bool(true).bytes(&proof),
                _ => Out::id(1).bytes(&secret).bytes(&proof),
            };
            client.send(response).await;
            if matches!(case, 0 | 2 | 7) {
                // The secret arrived whole: a real client would have its cipher on.
                client.encrypt([5; 16]);
            }
            let (told, clean) = client.rest().await;
            assert!(clean && told.len() == 1, "{protocol} {case}: {told:x?}");
            assert!(plain(&In(&told[0][1..]).str()).contains("does not understand"), "{protocol} {case}");
        }
    }
    audit.reason("bad-handshake").await;
    assert!(!sessions.names().contains(&"known".to_owned()), "nobody was asked about");
    assert_eq!(backend.connections(), 0);
    assert!(matches!(login(&proxy, MODERN, &Player::new("Known"), &sessions).await, End::In { .. }));
}

#[tokio::test]
async fn a_refusal_arrives_even_if_the_client_is_still_talking() {
    let (sessions, _backend, _setup, proxy, _audit) = modern_proxy("", |setup| setup).await;
    let mut client = Client::connect(address(&proxy), MODERN).await;
    client.handshake(HOST, 2).await;
    client.login_start("a b", Uuid::nil()).await;
    // Bytes that nobody reads: a socket closed over them would reset the connection, and the text with it.
    client.send_raw(vec![0x55; 20_000]).await;
    let (told, clean) = client.rest().await;
    assert!(plain(&In(&told[0][1..]).str()).contains("username is not valid"));
    assert!(clean, "the connection was reset");
    assert!(matches!(login(&proxy, MODERN, &Player::new("Known"), &sessions).await, End::In { .. }));
}

#[tokio::test]
async fn names_are_checked_before_anybody_is_asked() {
    let (sessions, backend, _setup, proxy, mut audit) = plain_proxy().await;
    let names = ["a b", "seventeen_letters", "", "ä", "a\0b", "a-b", "%2e", "😀"];
    for name in names {
        for protocol in [47, 758, 759] {
            let mut client = Client::connect(address(&proxy), protocol).await;
            client.handshake(HOST, 2).await;
            client.login_start(name, Uuid::nil()).await;
            let (told, _) = client.rest().await;
            assert_eq!(told.len(), 1, "{name:?}");
            assert!(plain(&In(&told[0][1..]).str()).contains("username is not valid"), "{name:?}");
        }
    }
    let event = audit.reason("bad-name").await;
    assert_eq!(event["player"], "a b");
    assert!(sessions.names().iter().all(|name| name == "posternprobe"), "{:?}", sessions.names());
    assert_eq!(backend.connections(), 0);
    let sixteen = Player::new("Sixteen_letters_");
    assert!(matches!(login(&proxy, 47, &sixteen, &sessions).await, End::In { .. }));
}

#[tokio::test]
async fn transfers_are_refused_unless_the_owner_accepts_them() {
    for accepted in [false, true] {
        let auth = format!("  accepts-transfers: {accepted}");
        let (sessions, backend, _setup, proxy, mut audit) = modern_proxy(&auth, |setup| setup).await;
        for player in [Player::new("Known"), Player::impostor("Known")] {
            let mut client = Client::connect(address(&proxy), MODERN).await;
            client.handshake(HOST, 3).await;
            client.login_start(&player.name, player.id).await;
            let end = client.finish_login(&player, &sessions).await;
            match (accepted, player.premium) {
                (false, _) => {
                    assert_refused(&end, "does not accept transfers");
                    audit.reason("transfer-refused").await;
                }
                (true, true) => {
                    assert!(matches!(end, End::In { authenticated: true, encrypted: true, .. }), "{end:?}");
                }
                (true, false) => assert_refused(&end, "Failed to verify username"),
            }
        }
        assert_eq!(backend.connections(), usize::from(accepted));
    }
}

#[tokio::test]
async fn clients_too_old_for_every_backend_are_told_so() {
    let (sessions, backend, _setup, proxy, mut audit) = modern_proxy("", |setup| setup).await;
    for protocol in [4, 5, 47, 340, 392] {
        assert_refused(
            &login(&proxy, protocol, &Player::new("Known"), &sessions).await,
            "newer Minecraft version",
        );
        audit.reason("newer-version-needed").await;
    }
    assert!(sessions.names().iter().all(|name| name == "posternprobe"));
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn whoever_hangs_up_on_the_online_attempt_learns_why_at_the_next_and_only_then() {
    let (sessions, backend, _setup, proxy, mut audit) = modern_proxy("", |setup| setup).await;
    sessions.set(Mode::Down);
    audit.state("down").await;
    let (stranger, other) = (Player::new("Stranger"), Player::new("Other"));
    for _ in 0..2 {
        assert_eq!(login(&proxy, MODERN, &stranger, &sessions).await, End::HungUp);
        let event = audit.reason("client-left").await;
        assert_eq!(event["facts"]["refused_as"], "no-session");
        // Another name is offered the attempt of its own.
        assert_eq!(login(&proxy, MODERN, &other, &sessions).await, End::HungUp);
        audit.reason("client-left").await;
        for player in [&stranger, &other] {
            assert_refused(&login(&proxy, MODERN, player, &sessions).await, "No cached session found");
            audit.reason("no-session").await;
        }
    }
    // Void once the outage is over.
    assert_eq!(login(&proxy, MODERN, &stranger, &sessions).await, End::HungUp);
    audit.reason("client-left").await;
    sessions.set(Mode::Up);
    audit.state("up").await;
    sessions.set(Mode::Down);
    audit.state("down").await;
    assert_eq!(login(&proxy, MODERN, &stranger, &sessions).await, End::HungUp);
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn an_online_attempt_during_an_outage_can_succeed() {
    // Only one more failed probe away from Down, and the server answers logins: a partial outage.
    let (sessions, backend, _setup, proxy, mut audit) = modern_proxy("", |setup| setup).await;
    let order = postern::mojang::health::Override {
        verdict: postern::mojang::health::ForcedVerdict::Down,
        lasting: Duration::from_mins(10),
    };
    proxy.health().set_override(order).await.unwrap();
    audit.state("down").await;
    let end = login(&proxy, MODERN, &Player::new("Stranger"), &sessions).await;
    assert!(matches!(end, End::In { authenticated: true, encrypted: true, .. }), "{end:?}");
    audit.next("login.verified", |_| true).await;
    assert_refused(&login(&proxy, MODERN, &Player::impostor("Nobody"), &sessions).await, "Failed to verify");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn plaintext_fallback_can_be_switched_off() {
    for attempt in [false, true] {
        let auth = format!("  allow-plaintext-fallback: false\n  online-attempt-when-ineligible: {attempt}");
        let (sessions, _backend, _setup, proxy, mut audit) = modern_proxy(&auth, |setup| setup).await;
        let known = Player::new("Known");
        assert!(matches!(login(&proxy, 758, &known, &sessions).await, End::In { .. }));
        gone(&proxy).await;
        sessions.set(Mode::Down);
        audit.state("down").await;
        if attempt {
            assert_eq!(login(&proxy, 758, &known, &sessions).await, End::HungUp);
            audit.reason("client-left").await;
        }
        assert_refused(&login(&proxy, 758, &known, &sessions).await, "newer Minecraft version");
        audit.reason("newer-version-needed").await;
        // From 766 on the link is encrypted without Mojang.
        let end = login(&proxy, 766, &known, &sessions).await;
        assert!(matches!(end, End::In { encrypted: true, authenticated: false, .. }), "{end:?}");
        gone(&proxy).await;
        // Where the client's own call works, the attempt encrypts the link, which was all that was missing.
        sessions.set(Mode::DownForProxy);
        let end = login(&proxy, 758, &known, &sessions).await;
        if attempt {
            assert!(matches!(end, End::In { encrypted: true, .. }), "{end:?}");
        } else {
            assert_refused(&end, "newer Minecraft version");
        }
    }
}

// Clients of before 1.7.

/// Sends those bytes, and perhaps the end of the stream, and reads all of the answer: `FF`, the length, UTF-16.
async fn ask_legacy(proxy: &Proxy, bytes: &[u8], ends: bool) -> (String, Duration) {
    let mut stream = TcpStream::connect(address(proxy)).await.unwrap();
    let began = Instant::now();
    stream.write_all(bytes).await.unwrap();
    if ends {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 0xff, "{answer:x?}");
    let units: Vec<u16> = answer[3..].chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
    assert_eq!(usize::from(u16::from_be_bytes([answer[1], answer[2]])), units.len());
    (String::from_utf16(&units).unwrap(), began.elapsed())
}

#[tokio::test]
async fn pings_and_logins_of_before_1_7_are_answered() {
    let (sessions, backend, _setup, proxy, _audit) = modern_proxy("", |setup| setup).await;
    // As clients of 1.6 send it: the name of a channel, their version, host and port.
    let ping_1_6 =
        [&[0xfe, 0x01, 0xfa, 0x00, 0x0b][..], &[0; 22], &[0x00, 0x07, 0x4a, 0, 0, 0, 0, 0x63, 0xdd]];
    let ping_1_6 = ping_1_6.concat();
    // The first two could be the beginning of a frame, and are answered once nothing follows, or nothing can.
    for (ping, bare, ends, waits) in [
        (&[0xfe][..], true, false, true),
        (&[0xfe, 0x01], false, false, true),
        (&[0xfe], true, true, false),
        (&[0xfe, 0x01], false, true, false),
        (&[0xfe, 0x01, 0xfa], false, false, false),
        (&ping_1_6, false, false, false),
    ] {
        let (text, took) = ask_legacy(&proxy, ping, ends).await;
        // The backend's own answer, in the words of that time.
        let expected = if bare {
            "A backend\u{a7}1\u{a7}20"
        } else {
            "\u{a7}1\u{0}127\0Stand-in\0A backend\u{0}1\u{0}20"
        };
        assert_eq!(text, expected, "{ping:x?}");
        // The clock of the runtime counts whole milliseconds.
        assert!(!waits || took >= Duration::from_millis(499), "{ping:x?}: {took:?}");
    }
    for login in [&b"\x02\x3d\x00\x05\0K\0n\0o\0w\0n"[..], &[0x02]] {
        let (text, _) = ask_legacy(&proxy, login, false).await;
        assert!(text.contains("newer Minecraft version"), "{text:?}");
        assert!(text.starts_with('\u{a7}'), "colours are written out: {text:?}");
    }
    assert!(sessions.names().iter().all(|name| name == "posternprobe"));
    // A handshake of 254 bytes begins like a ping.
    let host =
        format!("{}.{HOST}", ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(37)].join("."));
    let mut client = Client::connect(address(&proxy), MODERN).await;
    let packet = Out::id(0).varint(MODERN).str(&host).raw(&[0x63, 0xdd]).varint(2).0;
    assert_eq!(packet.len(), 254);
    client.handshake(&host, 2).await;
    client.login_start("Known", Player::new("Known").id).await;
    let end = client.finish_login(&Player::new("Known"), &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    assert_eq!(backend.seen().len(), 1, "nobody before it");
}

// What the log says.

#[tokio::test]
async fn an_unknown_protocol_is_warned_of_once() {
    let (logs, _guard) = Logs::keep();
    let (sessions, _backend, _setup, proxy, _audit) = modern_proxy("", |setup| setup).await;
    for protocol in [9999, 9998, 9999, MODERN] {
        Client::connect(address(&proxy), protocol).await.status(HOST).await;
        let end = login(&proxy, protocol, &Player::new("Known"), &sessions).await;
        assert!(matches!(end, End::In { .. }), "{protocol}: {end:?}");
    }
    let text = logs.text();
    let warned: Vec<&str> = text.lines().filter(|line| line.contains("does not know; if such")).collect();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    for (line, protocol) in warned.into_iter().zip([9999, 9998]) {
        assert!(line.contains(" WARN "), "{line}");
        assert!(line.contains(&format!("protocol={protocol} ")), "{line}");
    }
}

#[tokio::test]
async fn the_log_tells_who_left_and_how_much_was_relayed() {
    let (logs, _guard) = Logs::keep();
    let (sessions, _backend, _setup, proxy, _audit) = modern_proxy("", |setup| setup).await;
    let mut client = Client::connect(address(&proxy), MODERN).await;
    let end = client.login(&Player::new("Known"), &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    let brand = Out::id(2).str("minecraft:brand").str("vanilla").0;
    let size = support::wire::frame(&brand, client.threshold).len();
    for _ in 0..3 {
        client.send(Out(brand.clone())).await;
        assert_eq!(client.recv().await.unwrap(), brand);
    }
    drop(client);
    let began = Instant::now();
    let line = loop {
        let text = logs.text();
        if let Some(line) = text.lines().find(|line| line.contains(" left ")) {
            break line.to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // Login acknowledged is a frame of three bytes, and goes one way.
    for part in ["player=\"Known\"", "cause=\"client-closed\"", "seconds=0"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("to_server={} ", 3 * size + 3), format!("to_client={} ", 3 * size)])
    {
        assert!(line.contains(&part), "{part}: {line}");
    }
}

// PROXY headers.

fn behind_proxies(setup: Setup, trusted: &str) -> Setup {
    setup
        .replace("trust-private-addresses: true", "trust-private-addresses: false")
        .replace("  timeout: 2000", "  timeout: 2000\n  online-attempt-when-ineligible: false")
        .network(&format!("  accept-proxy-protocol: true\n  trusted-proxies: [\"{trusted}\"]\n"))
}

fn v1(client: &str) -> Vec<u8> {
    let (family, own) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    format!("PROXY {family} {client} {own} 40000 25565\r\n").into_bytes()
}

fn v2(client: [u8; 4]) -> Vec<u8> {
    let head = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", &client[..], &[127, 0, 0, 1]].concat();
    [head, vec![0x9c, 0x40, 0x63, 0xdd]].concat()
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

async fn login_behind(proxy: &Proxy, header: Vec<u8>, player: &Player, sessions: &SessionServer) -> End {
    let mut client = Client::connect(address(proxy), MODERN).await;
    client.send_raw(header).await;
    client.login(player, sessions).await
}

#[tokio::test]
async fn policy_goes_by_the_address_in_the_proxy_header() {
    let change = |setup| behind_proxies(setup, "127.0.0.0/8");
    let (sessions, backend, _setup, proxy, mut audit) = modern_proxy("", change).await;
    let (known, inside) = (Player::new("Known"), Player::new("Inside"));
    for (header, player) in [(v1("203.0.113.7"), &known), (v2([10, 0, 0, 5]), &inside)] {
        let end = login_behind(&proxy, header, player, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{end:?}");
        gone(&proxy).await;
    }
    let seen: Vec<String> = backend.seen().into_iter().map(|seen| seen.address).collect();
    assert_eq!(seen, ["203.0.113.7", "10.0.0.5"]);
    sessions.set(Mode::Down);
    audit.state("down").await;
    for header in [v1("203.0.113.7"), v2([203, 0, 113, 7]), v1("::ffff:203.0.113.7"), v1("203.0.113.99")] {
        let end = login_behind(&proxy, header.clone(), &known, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{}: {end:?}", String::from_utf8_lossy(&header));
        let event = audit.next("login.fallback", |_| true).await;
        assert_eq!(event["address"] == "203.0.113.7", !header.ends_with(b"99 127.0.0.1 40000 25565\r\n"));
        gone(&proxy).await;
    }
    for (header, player, text, reason) in [
        (v1("198.51.100.7"), &known, "new network address", "address-changed"),
        (v1("2001:db8::1"), &known, "new network address", "address-changed"),
        (v2([10, 0, 0, 5]), &inside, "cannot vouch", "private-address"),
        (v1("::ffff:10.0.0.5"), &inside, "cannot vouch", "private-address"),
    ] {
        assert_refused(&login_behind(&proxy, header, player, &sessions).await, text);
        audit.reason(reason).await;
    }
    assert_eq!(backend.connections(), 6);
}

/// A proxy in an outage, with players who were verified before it from those addresses. So many may share one.
async fn outage_behind(
    limit: u32,
    homes: &[(&Player, &str)],
) -> (SessionServer, Backend, Setup, Proxy, Audit) {
    let shared = format!("max-accounts-per-address: {limit}");
    let change =
        |setup| behind_proxies(setup, "127.0.0.0/8").replace("max-accounts-per-address: 100", &shared);
    let (sessions, backend, setup, proxy, mut audit) = modern_proxy("", change).await;
    for (player, home) in homes {
        let end = login_behind(&proxy, v1(home), player, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{end:?}");
        gone(&proxy).await;
    }
    sessions.set(Mode::Down);
    audit.state("down").await;
    (sessions, backend, setup, proxy, audit)
}

#[tokio::test]
async fn verified_players_share_their_address_up_to_the_limit() {
    let (ann, ben, cat) = (Player::new("Ann"), Player::new("Ben"), Player::new("Cat"));
    let homes = [(&ann, "203.0.113.7"), (&ben, "203.0.113.7"), (&cat, "203.0.113.8")];
    for (limit, refused) in [(1, &["Ann", "Ben", "Cat"][..]), (2, &["Cat"]), (3, &[])] {
        let (sessions, backend, _setup, proxy, mut audit) = outage_behind(limit, &homes).await;
        // Cat comes from the neighbours' for once, and is one more there before anybody was admitted.
        for player in [&cat, &ann, &ben] {
            let end = login_behind(&proxy, v1("203.0.113.7"), player, &sessions).await;
            if refused.contains(&player.name.as_str()) {
                assert_refused(&end, "cannot vouch");
                let event = audit.reason("shared-address").await;
                let accounts = if player.name == "Cat" { 3 } else { 2 };
                assert_eq!(event["facts"]["accounts_at_address"], accounts, "{event}");
            } else {
                assert!(matches!(end, End::In { .. }), "{limit} {}: {end:?}", player.name);
                gone(&proxy).await;
            }
        }
        // At home Cat is alone.
        let end = login_behind(&proxy, v1("203.0.113.8"), &cat, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{limit}: {end:?}");
        assert_eq!(backend.connections(), 3 + 3 - refused.len() + 1);
    }
}

#[tokio::test]
async fn players_whom_policy_admitted_from_an_address_count_there() {
    let (ann, ben, cat) = (Player::new("Ann"), Player::new("Ben"), Player::new("Cat"));
    let homes = [(&ann, "203.0.113.7"), (&ben, "203.0.113.8"), (&cat, "203.0.113.9")];
    let (sessions, backend, _setup, proxy, mut audit) = outage_behind(2, &homes).await;
    // Nobody was ever verified there; each is let in by the range, also a second time, until there are two.
    for (player, accounts) in [(&ann, 1), (&ann, 1), (&ben, 2), (&ann, 2)] {
        let end = login_behind(&proxy, v1("203.0.113.99"), player, &sessions).await;
        assert!(matches!(end, End::In { .. }), "{}: {end:?}", player.name);
        let event = audit.next("login.fallback", |_| true).await;
        assert_eq!(event["facts"]["accounts_at_address"], accounts, "{event}");
        gone(&proxy).await;
    }
    assert_refused(&login_behind(&proxy, v1("203.0.113.99"), &cat, &sessions).await, "cannot vouch");
    let event = audit.reason("shared-address").await;
    assert_eq!(event["facts"]["accounts_at_address"], 3);
    let end = login_behind(&proxy, v1("203.0.113.98"), &cat, &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    assert_eq!(backend.connections(), 3 + 4 + 1);
}

#[tokio::test]
async fn hang_ups_from_five_networks_bring_a_probe_forward() {
    let change = |setup| {
        behind_proxies(setup, "127.0.0.0/8")
            .replace("health-check-interval: 1", "health-check-interval: 3600")
    };
    let (sessions, _backend, _setup, proxy, mut audit) = modern_proxy("", change).await;
    let probes = || sessions.names().iter().filter(|name| *name == "posternprobe").count();
    let hang_up = async |from: &str, audit: &mut Audit| {
        let mut client = Client::connect(address(&proxy), MODERN).await;
        client.send_raw(v1(from)).await;
        client.handshake(HOST, 2).await;
        client.login_start("Known", Uuid::nil()).await;
        assert_eq!(client.recv().await.unwrap()[0], 1);
        drop(client);
        audit.reason("client-left").await;
    };
    let before = probes();
    // Five hang-ups, and more networks than one, but not five.
    for from in ["192.0.2.1", "192.0.2.2", "192.0.2.200", "198.51.100.1", "203.0.113.1", "2001:db8:1::1"] {
        hang_up(from, &mut audit).await;
    }
    // A player's own call to the session server takes longer than it takes a probe to begin.
    let known = Player::new("Known");
    let end = login_behind(&proxy, v1("192.0.2.1"), &known, &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    assert_eq!(probes(), before, "{:?}", sessions.names());
    hang_up("2001:db8:2::1", &mut audit).await;
    let began = Instant::now();
    while probes() == before {
        assert!(began.elapsed() < Duration::from_secs(20), "no probe");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(proxy.health().verdict(), postern::mojang::health::Verdict::Up);
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_may_only_ask_for_the_status() {
    let change = |setup| behind_proxies(setup, "127.0.0.0/8");
    let (sessions, backend, _setup, proxy, mut audit) = modern_proxy("", change).await;
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut client = Client::connect(address(&proxy), MODERN).await;
        client.send_raw(header.to_vec()).await;
        assert_eq!(client.status(HOST).await["players"]["max"], 20);
        let end = login_behind(&proxy, header.to_vec(), &Player::new("Known"), &sessions).await;
        assert_refused(&end, "does not understand");
        audit.reason("bad-handshake").await;
    }
    assert!(backend.seen().is_empty());
    assert!(sessions.names().iter().all(|name| name == "posternprobe"));
}

#[tokio::test]
async fn a_header_is_required_of_trusted_peers_and_garbage_from_others() {
    for (trusted, header) in [
        ("127.0.0.0/8", Vec::new()),
        ("127.0.0.0/8", b"PROXY TCP4 203.0.113.7\r\n".to_vec()),
        ("127.0.0.0/8", [b"PROXY ".to_vec(), vec![b'x'; 5000]].concat()),
        ("192.0.2.0/24", v2([203, 0, 113, 7])),
        ("192.0.2.0/24", v1("203.0.113.7")),
    ] {
        let change = |setup| behind_proxies(setup, trusted);
        let (_sessions, backend, _setup, proxy, mut audit) = modern_proxy("", change).await;
        let mut client = Client::connect(address(&proxy), MODERN).await;
        client.send_raw(header).await;
        client.handshake(&"long-host.".repeat(10), 2).await;
        client.login_start("Known", Uuid::nil()).await;
        assert_eq!(client.recv().await, None);
        let event = audit.reason("bad-handshake").await;
        assert_eq!(event["address"], "127.0.0.1");
        assert_eq!(backend.connections(), 0);
    }
}

#[tokio::test]
async fn a_login_under_way_when_the_proxy_stops_ends_in_a_word() {
    let (sessions, backend, setup, proxy, _audit) = modern_proxy("", |setup| setup).await;
    let player = Player::new("Late");
    let mut client = Client::connect(address(&proxy), MODERN).await;
    client.handshake("play.example.com", 2).await;
    client.login_start(&player.name, player.id).await;
    let request = client.recv().await.unwrap();
    let listening = address(&proxy);
    let stopping = tokio::spawn(proxy.stop());
    while TcpStream::connect(listening).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "it waits for the login");
    client.answer_encryption(&request, &player, &sessions).await.unwrap();
    let end = client.finish_login(&player, &sessions).await;
    assert!(matches!(end, End::In { .. }), "{end:?}");
    let (told, clean) = client.rest().await;
    let told = String::from_utf8_lossy(told.last().unwrap()).into_owned();
    assert!(told.contains("server is restarting") && clean, "{told}");
    stopping.await.unwrap();
    assert_eq!(backend.arrival(1).await.name, "Late");
    assert!(setup.sessions()["Late"]["last_present"].is_string(), "a stay, if a short one");
}
