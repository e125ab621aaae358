//! What must never happen, each as a test against the whole program around stand-ins.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{collections::BTreeSet, io::Write as _, time::Duration};

use postern::{
    clock::Clock,
    mojang::health::{ForcedVerdict, Override, Verdict},
};
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use serde_json::Value;
use support::{
    Backend, BackendKind, Client, End, Mode, Player, SessionServer, Setup,
    backend::SECRET,
    dialog,
    logs::Logs,
    player_keys::Authority,
    proxy::address,
    scene::*,
    wire::{In, Out},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

// Nobody is admitted on an answer that is not a yes.

#[tokio::test]
async fn nobody_is_admitted_on_an_answer_that_is_not_a_yes() {
    let mut scene = Scene::with("", seldom).await;
    let known = scene.make_known("Known").await;
    for (mode, text, reason) in [
        (Mode::Throttled, BUSY, "throttled"),
        (Mode::Forbidden, BUSY, "throttled"),
        (Mode::Html, TRY_AGAIN, "unexpected"),
        (Mode::WrongPlayer, TRY_AGAIN, "unexpected"),
        (Mode::Redirect, TRY_AGAIN, "unexpected"),
        (Mode::Empty, FAILED_TO_VERIFY, "not-joined"),
    ] {
        scene.sessions.set(mode);
        for player in [&known, &Player::new("Stranger")] {
            scene.refused(player, text, reason).await;
        }
        assert_eq!(scene.proxy.health().verdict(), Verdict::Up, "{mode:?}");
    }
    scene.sessions.set(Mode::Up);
    // The server's own no, to somebody with the right name, and with the right name and id.
    for player in [Player::impostor("Known"), Player::thief("Known"), Player::impostor("Stranger")] {
        scene.refused(&player, FAILED_TO_VERIFY, "not-joined").await;
    }
    scene.nothing_else_reached_the_backend().await;
    assert_eq!(scene.backend.seen().len(), 2);
}

// No fallback while Up or Degraded, save in place.

#[tokio::test]
async fn a_stray_error_opens_nothing_while_probes_are_healthy() {
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    scene.sessions.set(Mode::StrayErrors);
    for _ in 0..2 {
        scene.refused(&known, TRY_AGAIN, "unreachable").await;
    }
    scene.nothing_else_reached_the_backend().await;
}

#[tokio::test]
async fn in_place_needs_this_logins_failure_and_a_failed_probe() {
    let mut scene = Scene::with("", never_down).await;
    let known = scene.make_known("Known").await;
    scene.sessions.set(Mode::DownForProxy);
    assert_eq!(scene.proxy.health().verdict(), Verdict::Up);
    let (client, end) = scene.join(MODERN, &known).await;
    let End::In { encrypted: true, authenticated: true, name, .. } = end else { panic!("{end:?}") };
    assert_eq!(name, "Known");
    let event = scene.audit.next("login.fallback", |_| true).await;
    assert_eq!(event["facts"]["in_place"], true);
    drop(client);
    scene.gone().await;
    // Degraded by now.
    assert_eq!(scene.proxy.health().verdict(), Verdict::Degraded);
    assert!(is_in(&scene.login(&known).await));
    scene.refused(&Player::new("Stranger"), NO_SESSION, "no-session").await;
    scene.refused(&Player::impostor("Known"), NO_SESSION, "id-mismatch").await;
    assert_eq!(scene.proxy.health().verdict(), Verdict::Degraded);
    scene.nothing_else_reached_the_backend().await;
}

#[tokio::test]
async fn a_verdict_forced_up_forbids_in_place_too() {
    let mut scene = Scene::with("", never_down).await;
    let known = scene.make_known("Known").await;
    let order = |verdict| Override { verdict, lasting: Duration::from_mins(10) };
    scene.proxy.health().set_override(order(ForcedVerdict::Up)).await.unwrap();
    scene.sessions.set(Mode::DownForProxy);
    scene.refused(&known, TRY_AGAIN, "unreachable").await;
    scene.proxy.health().clear_override().await.unwrap();
    assert!(is_in(&scene.login(&known).await));
    scene.gone().await;
    // Forced down, a healthy session server is not asked about those whom policy admits, and asked about others.
    scene.proxy.health().set_override(order(ForcedVerdict::Down)).await.unwrap();
    scene.sessions.set(Mode::Up);
    let end = scene.login(&known).await;
    assert!(matches!(end, End::In { authenticated: false, .. }), "{end:?}");
    scene.refused(&Player::impostor("Nobody"), FAILED_TO_VERIFY, "not-joined").await;
}

#[tokio::test]
async fn right_after_the_start_nothing_is_down() {
    let mut scene = Scene::with("", never_down).await;
    let known = scene.make_known("Known").await;
    let mut scene = scene.restart(Mode::Throttled).await;
    scene.refused(&known, BUSY, "throttled").await;
    let mut scene = scene.restart(Mode::DownForProxy).await;
    scene.refused(&Player::new("Stranger"), NO_SESSION, "no-session").await;
    assert!(is_in(&scene.login(&known).await));
    let event = scene.audit.next("login.fallback", |_| true).await;
    assert_eq!(event["facts"]["in_place"], true);
    // The client's own call fails too: it leaves, and nothing opens for it.
    let mut scene = scene.restart(Mode::Down).await;
    assert_eq!(scene.login(&known).await, End::HungUp);
    scene.audit.reason("client-left").await;
    assert_eq!(scene.proxy.health().verdict(), Verdict::Degraded);
}

#[tokio::test]
async fn an_attempt_parked_during_an_outage_is_not_admitted_after_it() {
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    scene.go_down().await;
    let mut parked = scene.client(MODERN).await;
    parked.handshake("play.example.com", 2).await;
    parked.login_start(&known.name, known.id).await;
    let request = parked.recv().await.unwrap();
    scene.sessions.set(Mode::Up);
    scene.audit.state("up").await;
    let asked = parked.answer_encryption(&request, &known, &scene.sessions).await;
    assert_eq!(asked, Some(false), "policy would have admitted");
    assert_refused(&parked.finish_login(&known, &scene.sessions).await, TRY_AGAIN);
    scene.audit.reason("unreachable").await;
    scene.nothing_else_reached_the_backend().await;
}

#[tokio::test]
async fn dry_run_and_disabled_admit_nobody() {
    for (mode, reason) in [("dry-run", "unreachable"), ("disabled", "unreachable")] {
        let mut scene = Scene::with(&format!("  fallback: {mode}"), refuse_at_once).await;
        let known = scene.make_known("Known").await;
        scene.go_down().await;
        scene.sessions.set(Mode::DownForProxy);
        for player in [&known, &Player::thief("Known")] {
            let end = scene.login(player).await;
            assert!(matches!(end, End::Refused(_)), "{mode}: {end:?}");
            let event = scene.audit.reason(reason).await;
            let dry_run = event["facts"].get("dry_run").is_some();
            assert_eq!(dry_run, mode == "dry-run", "{event}");
        }
        scene.nothing_else_reached_the_backend().await;
    }
}

// A player with a PIN is asked for it, or not let in.

/// Two known players, one of which has set a PIN, in a new run that begins with the session server in that mode.
async fn with_a_pin(change: impl FnOnce(Setup) -> Setup, mode: Mode) -> (Scene, Player, Player) {
    let mut scene = Scene::with("", change).await;
    let pinned = scene.make_known("Pinned").await;
    let known = scene.make_known("Known").await;
    (dialog::restart_with_pin(scene, &pinned, mode).await, pinned, known)
}

/// Everything but the right code, and everybody the player is not told from.
#[tokio::test]
async fn nobody_gets_past_a_pin_without_its_code() {
    let (mut scene, pinned, known) = with_a_pin(refuse_at_once, Mode::Down).await;
    scene.audit.state("down").await;
    let before = scene.backend.connections();
    // Whoever has another's name and id is asked like the player itself.
    let thief = Player::thief("Pinned");
    let mut client = dialog::begin(&scene, MODERN, &thief).await;
    for code in ["", "fjord1984", "Fjord1985"] {
        dialog::dialog(&mut client).await;
        client.send(dialog::code(code)).await;
    }
    dialog::dialog(&mut client).await;
    client.send(dialog::code(&format!("{}4", dialog::CODE))).await;
    dialog::refused(&mut client).await;
    scene.audit.reason("pin-failed").await;
    let mut client = dialog::begin(&scene, MODERN, &thief).await;
    dialog::dialog(&mut client).await;
    client.send(dialog::leave()).await;
    dialog::refused(&mut client).await;
    assert_eq!(scene.backend.connections(), before);
    assert!(is_in(&scene.login(&known).await), "policy admits whoever has none");
    scene.gone().await;
    // The session server's word needs no PIN.
    scene.nothing_else_reached_the_backend().await;
    assert!(is_in(&scene.login(&pinned).await));
}

/// Asks for the PIN, gets none, and sees that nobody was let in.
async fn is_asked(scene: &mut Scene, pinned: &Player) {
    let before = scene.backend.connections();
    let mut client = dialog::begin(scene, MODERN, pinned).await;
    dialog::dialog(&mut client).await;
    drop(client);
    let event = scene.audit.reason("client-left").await;
    assert_eq!((&event["player"], &event["facts"]["must_prove_pin"]), (&"Pinned".into(), &true.into()));
    assert_eq!(scene.backend.connections(), before);
}

#[tokio::test]
async fn a_pin_holds_in_place_too() {
    // Degraded all along: what decides is this login's own failure.
    let (mut scene, pinned, known) = with_a_pin(never_down, Mode::DownForProxy).await;
    is_asked(&mut scene, &pinned).await;
    assert!(is_in(&scene.login(&known).await));
    let event = scene.audit.next("login.fallback", |_| true).await;
    assert_eq!(event["facts"]["in_place"], true);
}

#[tokio::test]
async fn a_player_whose_client_is_older_than_its_known_ones_is_not_asked_on_a_backend() {
    let (mut scene, pinned, _) = with_a_pin(refuse_at_once, Mode::Down).await;
    scene.audit.state("down").await;
    let before = scene.backend.connections();
    let (_, end) = scene.join(758, &pinned).await;
    assert_refused(&end, "needs a newer Minecraft version");
    scene.audit.reason("weaker-client").await;
    assert_eq!(scene.backend.connections(), before);
}

// No client declares an outage, or holds one open.

#[tokio::test]
async fn failing_logins_alone_never_declare_an_outage() {
    let mut scene = Scene::new().await;
    scene.sessions.set(Mode::StrayErrors);
    let mut logins = tokio::task::JoinSet::new();
    for n in 0..24 {
        let (to, sessions) = (address(&scene.proxy), scene.sessions.clone());
        logins.spawn(async move {
            let mut client = Client::connect(to, MODERN).await;
            if n % 2 == 0 {
                return client.login(&Player::new(&format!("P{n}")), &sessions).await;
            }
            // Hangs up on the encryption request.
            client.handshake("play.example.com", 2).await;
            client.login_start(&format!("P{n}"), Player::new("x").id).await;
            assert_eq!(client.recv().await.unwrap()[0], 1);
            End::HungUp
        });
    }
    let ends = logins.join_all().await;
    assert_eq!(ends.iter().filter(|end| **end == End::HungUp).count(), 12);
    ends.iter().filter(|end| **end != End::HungUp).for_each(|end| assert_refused(end, TRY_AGAIN));
    scene.audit.state("degraded").await;
    scene.audit.state("up").await;
    scene.nothing_else_reached_the_backend().await;
    let down = scene.audit.lines().into_iter().find(|line| line.contains(r#""to":"down""#));
    assert_eq!(down, None);
}

#[tokio::test]
async fn throttling_neither_opens_nor_holds_open_the_fallback() {
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    scene.go_down().await;
    scene.sessions.set(Mode::Throttled);
    let event = scene.audit.state("degraded").await;
    assert_eq!(event["from"], "down");
    scene.refused(&known, BUSY, "throttled").await;
    let probes = scene.sessions.names().len();
    until(|| scene.sessions.names().len() > probes + 8).await;
    assert_eq!(scene.proxy.health().verdict(), Verdict::Degraded);
    scene.nothing_else_reached_the_backend().await;
}

// A fallback login refreshes nothing and displaces nobody who is proven.

#[tokio::test]
async fn a_fallback_login_refreshes_nothing_but_a_counter() {
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    let mut scene = scene.restart(Mode::Down).await;
    let before = scene.setup.sessions();
    scene.audit.state("down").await;
    // Another protocol, another address of the same range: nothing of that is to be remembered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let mut client = scene.client(MODERN).await;
    client.stream = socket.connect(address(&scene.proxy)).await.unwrap();
    client.protocol = 766;
    let end = client.login(&known, &scene.sessions).await;
    assert!(matches!(end, End::In { authenticated: false, .. }), "{end:?}");
    drop(client);
    scene.gone().await;
    let scene = scene.restart(Mode::Down).await;
    let mut after = scene.setup.sessions();
    let document = after.get_mut("Known").unwrap().as_object_mut().unwrap();
    assert_eq!(document.insert("fallback_logins".into(), 0.into()), Some(1.into()));
    assert_eq!(before["Known"]["fallback_logins"], 0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_fallback_login_never_displaces_a_verified_connection() {
    let mut scene = Scene::with("", refuse_at_once).await;
    let known = Player::new("Known");
    let (mut first, end) = scene.join(MODERN, &known).await;
    assert!(is_in(&end));
    scene.go_down().await;
    // It speaks, so it is no dead link.
    first.send(Out::id(0x02).str("minecraft:brand").str("vanilla")).await;
    first.recv().await.unwrap();
    for player in [&known, &Player::thief("Known")] {
        scene.refused(player, "already connected", "already-online").await;
    }
    first.send(Out::id(0x02).str("minecraft:brand").str("vanilla")).await;
    assert!(first.recv().await.is_some(), "the first is still in");
    assert_eq!(scene.proxy.players(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_a_silent_link_from_the_same_address_makes_room() {
    let mut scene = Scene::with("", refuse_at_once).await;
    let known = Player::new("Known");
    let (mut first, end) = scene.join(MODERN, &known).await;
    assert!(is_in(&end), "{end:?}");
    scene.go_down().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let mut elsewhere = scene.client(MODERN).await;
    elsewhere.stream = socket.connect(address(&scene.proxy)).await.unwrap();
    assert_refused(&elsewhere.login(&known, &scene.sessions).await, "already connected");
    assert!(is_in(&scene.login(&known).await), "a dead link does not lock its player out");
    let (told, _) = first.rest().await;
    assert!(String::from_utf8_lossy(&told.concat()).contains("logged in from another place"));
}

#[tokio::test]
async fn a_verified_login_displaces_whoever_is_in() {
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    scene.go_down().await;
    let (mut fallback, end) = scene.join(MODERN, &known).await;
    assert!(matches!(end, End::In { authenticated: false, .. }), "{end:?}");
    scene.sessions.set(Mode::Up);
    scene.audit.state("up").await;
    let (mut verified, end) = scene.join(MODERN, &known).await;
    assert!(matches!(end, End::In { authenticated: true, .. }), "{end:?}");
    let (told, clean) = fallback.rest().await;
    let told = String::from_utf8_lossy(told.last().unwrap()).into_owned();
    assert!(told.contains("logged in from another place"), "{told}");
    assert!(clean);
    let event = scene.audit.next("login.verified", |_| true).await;
    assert_eq!(event["facts"]["displaced"], true);
    // And again by the player itself.
    let (_again, end) = scene.join(MODERN, &known).await;
    assert!(is_in(&end));
    assert!(verified.rest().await.1);
    assert_eq!(scene.proxy.players(), 1);
}

#[tokio::test]
async fn a_verified_login_displaces_one_that_waits_for_its_backend() {
    let silent = Backend::start(BackendKind::Silent, None).await;
    let routes = format!(
        "  quiet:\n    address: \"{}\"\nforced-hosts:\n  quiet.example.com: [quiet]\nforwarding:\n",
        silent.address
    );
    let mut scene = Scene::with("", |setup| setup.replace("forwarding:\n", &routes)).await;
    let player = Player::new("Known");
    let mut waiting = scene.client(MODERN).await;
    let first = waiting.login_at("quiet.example.com", &player, &scene.sessions);
    let second = async {
        until(|| silent.connections() == 1).await;
        let began = Instant::now();
        let (client, end) = scene.join(MODERN, &player).await;
        (client, end, began.elapsed())
    };
    let (told, (_second, end, took)) = tokio::join!(first, second);
    assert_refused(&told, "logged in from another place");
    assert!(waiting.rest().await.1, "the first is closed without a reset");
    assert!(matches!(end, End::In { authenticated: true, .. }), "{end:?}");
    assert!(took < Duration::from_secs(10), "the first one's backend holds up nobody: {took:?}");
    assert_eq!(scene.proxy.players(), 1);
    let event = scene.audit.reason("displaced").await;
    assert_eq!((&event["player"], &event["facts"]["proof"]), (&"Known".into(), &"verified".into()));
    let event = scene.audit.next("login.verified", |_| true).await;
    assert_eq!(event["facts"]["displaced"], true);
}

#[tokio::test]
async fn of_many_fallback_logins_of_one_player_one_gets_in() {
    let mut scene = Scene::with("", refuse_at_once).await;
    let known = scene.make_known("Known").await;
    scene.go_down().await;
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (to, sessions, known) = (address(&scene.proxy), scene.sessions.clone(), known.clone());
        logins.spawn(async move {
            let mut client = Client::connect(to, MODERN).await;
            let end = client.login(&known, &sessions).await;
            (client, end)
        });
    }
    let ends = logins.join_all().await;
    let (inside, outside): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(_, end)| is_in(end));
    assert_eq!(inside.len(), 1);
    for (_, end) in &outside {
        assert_refused(end, "already connected");
    }
    assert_eq!(scene.proxy.players(), 1);
}

// Identity is never invented.

#[tokio::test]
async fn a_forged_host_ends_the_handshake() {
    let mut scene = Scene::new().await;
    for host in [
        "play.example.com\0",
        "play.example.com\x00127.0.0.1\x00069a79f444e94726a5befca90e38aaf5",
        "play.example.com\x00127.0.0.1\x00069a79f444e94726a5befca90e38aaf5\0[]",
        "play.example.com\0FML2\x00127.0.0.1\x00069a79f444e94726a5befca90e38aaf5",
        "play.example.com\0FORGE12345",
    ] {
        for intent in [1, 2] {
            let mut client = scene.client(MODERN).await;
            client.handshake(host, intent).await;
            client.login_start("Known", Player::new("Known").id).await;
            assert_eq!(client.recv().await, None, "{host:?}");
            scene.audit.reason("bad-handshake").await;
        }
    }
    let mut client = scene.client(MODERN).await;
    let end = client.login_at("Play.Example.com.\0FML2\0", &Player::new("Known"), &scene.sessions).await;
    assert!(is_in(&end));
    assert_eq!(scene.backend.seen()[0].host, "Play.Example.com\0FML2\0");
    assert_eq!(scene.backend.connections(), 1);
}

#[tokio::test]
async fn where_the_host_carries_the_identity_the_client_writes_none_of_it() {
    let sessions = SessionServer::start().await;
    let backend = Backend::start(BackendKind::Plain, None).await;
    let setup = Setup::with(&sessions, &backend, "legacy", "");
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    for protocol in [340, MODERN] {
        let player = Player::new("Known");
        let mut client = Client::connect(address(&proxy), protocol).await;
        // The stand-in gives an id of its own, which no set-up backend does: only what it was told matters here.
        let end = client.login_at("a\0FML2\0", &player, &sessions).await;
        assert_refused(&end, "not set up for this proxy");
        let host = backend.seen().pop().unwrap().host;
        let parts: Vec<&str> = host.split('\0').collect();
        assert_eq!(parts[..3], ["a", "127.0.0.1", &player.id.simple().to_string()]);
        let properties: Value = serde_json::from_str(parts[3]).unwrap();
        assert_eq!(properties[0]["value"], "skin-of-Known");
        assert_eq!(properties[1]["value"], "\u{1}FML2\u{1}");
        assert_eq!(parts.len(), 4);
    }
}

#[tokio::test]
async fn a_claimed_id_must_be_the_sessions() {
    let mut scene = Scene::with("", refuse_at_once).await;
    scene.make_known("Known").await;
    scene.make_known("Other").await;
    scene.go_down().await;
    scene.refused(&Player::impostor("Known"), NO_SESSION, "id-mismatch").await;
    // Somebody else's id, and no name that is known.
    let other = Player { id: Player::new("Other").id, ..Player::thief("Known") };
    scene.refused(&other, NO_SESSION, "id-mismatch").await;
    scene.refused(&Player::thief("Nobody"), NO_SESSION, "no-session").await;
    scene.nothing_else_reached_the_backend().await;
}

#[tokio::test]
async fn name_and_id_are_the_sessions_and_the_session_servers() {
    let mut scene = Scene::new().await;
    // Login start in another spelling: the answer's is the one that counts.
    let known = Player::new("Known");
    let mut client = scene.client(MODERN).await;
    client.handshake("play.example.com", 2).await;
    client.login_start("kNOWN", Player::impostor("x").id).await;
    let end = client.finish_login(&known, &scene.sessions).await;
    assert!(matches!(&end, End::In { name, id, .. } if *name == "Known" && *id == known.id), "{end:?}");
    assert_eq!(scene.backend.seen()[0].name, "Known");
    drop(client);
    scene.gone().await;

    scene.go_down().await;
    for (name, protocol) in [("KNOWN", MODERN), ("Renamed", MODERN), ("known", 758)] {
        let mut client = scene.client(protocol).await;
        client.handshake("play.example.com", 2).await;
        client.login_start(name, known.id).await;
        let end = client.finish_login(&known, &scene.sessions).await;
        assert!(matches!(&end, End::In { name, id, .. } if *name == "Known" && *id == known.id), "{end:?}");
        let seen = scene.backend.seen().pop().unwrap();
        assert_eq!((seen.login_name.as_str(), seen.name.as_str()), ("Known", "Known"));
        assert_eq!((seen.id, seen.skin.as_deref()), (Some(known.id), Some("skin-of-Known")));
        drop(client);
        scene.gone().await;
    }
}

#[tokio::test]
async fn a_key_that_nobody_proved_is_never_forwarded() {
    let scene = Scene::new().await;
    for protocol in [759, 760] {
        let player = Player::new("Known");
        // A key of its own, which it signed itself.
        let private = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        let mut client = scene.client(protocol).await;
        client.key = Some(Authority::new().certify(protocol, player.id, i64::MAX, &private));
        assert!(is_in(&client.login(&player, &scene.sessions).await), "{protocol}");
        let seen = scene.backend.seen().pop().unwrap();
        assert_eq!((seen.version, seen.key, seen.login_key), (1, None, None), "{protocol}");

        // What is no key at all cannot sign, and who brings a key must.
        let mut client = scene.client(protocol).await;
        client.handshake("play.example.com", 2).await;
        let mut start = Out::id(0).str("Known").bool(true).raw(&[7; 8]).bytes(&[1; 294]).bytes(&[2; 512]);
        if protocol == 760 {
            start = start.bool(true).raw(player.id.as_bytes());
        }
        client.send(start).await;
        let end = client.finish_login(&player, &scene.sessions).await;
        assert!(matches!(end, End::Refused(_)), "{protocol}: {end:?}");
    }
    assert_eq!(scene.backend.seen().len(), 2);
}

#[tokio::test]
async fn messages_on_a_proxys_channels_stop_here() {
    let scene = Scene::new().await;
    let plain = Backend::start(BackendKind::Plain, Some(64)).await;
    let old = Setup::with(&scene.sessions, &plain, "none", "");
    let (old_proxy, mut audit) = (old.start().await, old.audit());
    audit.state("up").await;
    for (to, protocol, id) in [
        (&old_proxy, 340, 0x09),
        (&scene.proxy, 393, 0x0a),
        (&scene.proxy, 765, 0x01),
        (&scene.proxy, MODERN, 0x02),
    ] {
        let mut client = Client::connect(address(to), protocol).await;
        assert!(is_in(&client.login(&Player::new("Known"), &scene.sessions).await));
        for channel in ["BungeeCord", "bungeecord:main", "velocity:player_info", "velocity:x"] {
            for len in [0, 20, 3000] {
                client.send(Out::id(id).str(channel).raw(&vec![5; len])).await;
            }
        }
        // What comes back first is what the backend got first.
        let brand = Out::id(id).str("minecraft:brand").str("vanilla");
        client.send(brand.clone()).await;
        assert_eq!(client.recv().await.unwrap(), brand.0, "{protocol}");
    }
}

// No byte of a client that is not admitted reaches a backend.

#[tokio::test]
async fn no_refusal_touches_a_backend() {
    let mut scene = Scene::new().await;
    let stranger = Player::impostor("Stranger");
    assert_refused(&scene.login(&stranger).await, FAILED_TO_VERIFY);
    assert_refused(&scene.join(340, &Player::new("Old")).await.1, "newer Minecraft version");
    for name in ["a b", "seventeen_letters", "", "ä"] {
        assert_refused(&scene.login(&Player::new(name)).await, "username is not valid");
    }
    let mut client = scene.client(MODERN).await;
    client.handshake("play.example.com", 3).await;
    client.login_start("Known", stranger.id).await;
    assert_refused(&client.finish_login(&stranger, &scene.sessions).await, "does not accept transfers");
    let mut client = scene.client(MODERN).await;
    client
        .send_raw(
            b"GET / HTTP/1.1\r\nHost: play.example.com\r\n\r\nplus what it takes to fill a frame".to_vec(),
        )
        .await;
    assert_eq!(client.recv().await, None);
    for (mode, text) in [(Mode::Throttled, BUSY), (Mode::Html, TRY_AGAIN), (Mode::StrayErrors, TRY_AGAIN)] {
        scene.sessions.set(mode);
        assert_refused(&scene.login(&Player::new("Known")).await, text);
    }
    scene.go_down().await;
    assert_eq!(scene.login(&stranger).await, End::HungUp);
    assert_refused(&scene.login(&stranger).await, NO_SESSION);
    scene.nothing_else_reached_the_backend().await;
    assert_eq!(scene.backend.connections(), 1);
}

// Hostile lengths, slow and silent clients.

#[tokio::test]
async fn hostile_lengths_are_refused_on_sight() {
    let mut scene = Scene::new().await;
    for bytes in [&[0xff; 64][..], &[0xff, 0xff, 0x7f], &[0x80; 4], &[0x00], &[0x81, 0x80, 0x01, 0x00]] {
        let mut client = scene.client(MODERN).await;
        client.send_raw(bytes.to_vec()).await;
        assert_eq!(client.recv().await, None, "{bytes:x?}");
        scene.audit.reason("bad-handshake").await;
        // After the handshake there is a dialect to say it in.
        let mut client = scene.client(MODERN).await;
        client.handshake("play.example.com", 2).await;
        client.send_raw(bytes.to_vec()).await;
        let said = client.recv().await.unwrap();
        assert_eq!(said[0], 0, "{bytes:x?}");
        assert!(In(&said[1..]).str().contains("does not understand"));
        scene.audit.reason("bad-handshake").await;
    }
    scene.nothing_else_reached_the_backend().await;
}

#[tokio::test]
async fn a_compressed_bomb_is_not_inflated_here() {
    let scene = Scene::new().await;
    let (mut client, end) = scene.join(MODERN, &Player::new("Known")).await;
    assert!(is_in(&end));
    // 64 MiB of zeros in a frame of 64 KiB, on a channel that is dropped: the first bytes tell.
    let head = Out::id(2).str("velocity:x").0;
    let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    z.write_all(&head).unwrap();
    for _ in 0..64 {
        z.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = z.finish().unwrap();
    let stated = i32::try_from(head.len() + (64 << 20)).unwrap();
    client.send_raw(Out::default().bytes(&Out::default().varint(stated).raw(&bomb).0).0).await;
    // A frame that states a negative length, or does not inflate, ends its own connection.
    for content in [Out::default().varint(-1).raw(&bomb), Out::default().varint(5000).raw(&[7; 200])] {
        let (mut other, end) = scene.join(MODERN, &Player::new("Other")).await;
        assert!(is_in(&end));
        other.send_raw(Out::default().bytes(&content.0).0).await;
        other.rest().await;
    }
    let before = scene.backend.seen()[0].bytes;
    let small = Out::id(2).str("minecraft:brand").str("vanilla");
    client.send(small.clone()).await;
    assert_eq!(client.recv().await.unwrap(), small.0);
    assert_eq!(scene.backend.seen()[0].bytes, before + small.0.len());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dribbles_is_cut_at_the_deadline() {
    let scene = Scene::new().await;
    for after_handshake in [false, true] {
        let began = Instant::now();
        let mut client = scene.client(MODERN).await;
        if after_handshake {
            client.handshake("play.example.com", 2).await;
        }
        let (mut read, mut write) = client.stream.into_split();
        // The beginning of a frame of 200 bytes, one a second.
        let dribbling = tokio::spawn(async move {
            let bytes = [0xc8, 0x01].into_iter().chain(std::iter::repeat(0));
            for byte in bytes {
                if write.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut said = Vec::new();
        let _ = read.read_to_end(&mut said).await;
        let lasted = began.elapsed().as_secs();
        assert!((24..=28).contains(&lasted), "{lasted} s");
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.contains("took too long"), after_handshake, "{said}");
        dribbling.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_stays_is_left() {
    let scene = Scene::new().await;
    let mut client = scene.client(MODERN).await;
    let end = client.login(&Player::new("a b"), &scene.sessions).await;
    assert_refused(&end, "username is not valid");
    let began = Instant::now();
    while client.stream.write_all(&[0]).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5), "still heard");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    let scene = Scene::new().await;
    let mut silent = Vec::new();
    for n in 0..500 {
        let mut stream = TcpStream::connect(address(&scene.proxy)).await.unwrap();
        match n % 3 {
            0 => {}
            1 => stream.write_all(&[0x10]).await.unwrap(),
            _ => {
                let mut client = scene.client(MODERN).await;
                client.handshake("play.example.com", 2).await;
                stream = client.stream;
            }
        }
        silent.push(stream);
    }
    let began = Instant::now();
    assert!(is_in(&scene.login(&Player::new("Known")).await));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(scene.backend.connections(), 1);
}

// Secrets.

#[tokio::test]
async fn secrets_stand_in_no_log_and_no_debug_print() {
    let (logs, _guard) = Logs::keep();
    let mut scene = Scene::new().await;
    let known = scene.make_known("Known").await;
    scene.refused(&Player::impostor("Known"), FAILED_TO_VERIFY, "not-joined").await;
    // A backend that does not take the secret is a fault to report, without it.
    let other = Backend::start(BackendKind::Modern { secret: "another".into() }, None).await;
    let wrong = Setup::new(&scene.sessions, &other);
    let wrong_proxy = wrong.start().await;
    wrong.audit().state("up").await;
    let end = Client::connect(address(&wrong_proxy), MODERN).await.login(&known, &scene.sessions).await;
    assert_refused(&end, "not set up for this proxy");
    wrong.audit().next("backend.error", |_| true).await;
    let config = scene.setup.load().unwrap();
    let debug = format!("{config:?} {config:#?} {:?} {:?}", scene.proxy, wrong_proxy);
    wrong_proxy.stop().await;
    scene.proxy.stop().await;
    let audit = [scene.setup.audit().lines(), wrong.audit().lines()].concat().concat();
    let logs = logs.text();
    assert!(logs.contains("joined: verified by the session server"), "{logs}");
    let hex = SECRET.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let list = format!("{:?}", SECRET.as_bytes());
    for secret in [SECRET, &hex, list.trim_matches(['[', ']'])] {
        for (place, text) in [("debug", &debug), ("audit.log", &audit), ("logs", &logs)] {
            assert!(!text.contains(secret), "{place}");
        }
    }
}

// The admin interface.

#[tokio::test]
async fn an_admin_port_for_everybody_without_a_token_refuses_the_start() {
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    for listen in ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:9464"] {
        let setup = Setup::new(&sessions, &backend).replace("listen: \"\"", &format!("listen: \"{listen}\""));
        let report = setup.load().unwrap_err().to_string();
        assert!(report.contains("admin.listen") && report.contains("token"), "{report}");
        std::fs::write(setup.folder.path().join("admin.token"), "a long random text").unwrap();
        setup.load().unwrap();
    }
}

// The rest of what an owner relies on.

#[tokio::test]
async fn an_outage_and_its_start_survive_a_restart() {
    const BEGIN: &str = "2026-11-21T20:00:00Z";
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    let setup = refuse_at_once(Setup::new(&sessions, &backend));
    let (mut proxy, mut audit) = (setup.start_at(BEGIN).await, setup.audit());
    audit.state("up").await;
    let known = Player::new("Known");
    assert!(is_in(&Client::connect(address(&proxy), MODERN).await.login(&known, &sessions).await));
    sessions.set(Mode::Down);
    audit.state("down").await;
    // Sessions are good for 72 h up to the start of the outage, and for no more than a week of it.
    for (time, reason) in [
        ("2026-11-24T21:00:00Z", None),
        ("2026-11-27T20:00:00Z", None),
        ("2026-12-02T20:00:00Z", Some("session-expired")),
    ] {
        proxy.stop().await;
        proxy = setup.start_at(time).await;
        audit.state("down").await;
        let end = Client::connect(address(&proxy), MODERN).await.login(&known, &sessions).await;
        match reason {
            None => assert!(is_in(&end), "{time} {end:?}"),
            Some(reason) => {
                assert_refused(&end, "session has expired");
                audit.reason(reason).await;
            }
        }
    }
    // Without the start that was kept, this outage begins only now.
    proxy.stop().await;
    let kept = std::fs::read_dir(setup.folder.path().join("sessions")).unwrap();
    let outage: Vec<_> = kept
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.to_string_lossy().contains("outage"))
        .collect();
    assert_eq!(outage.len(), 1, "{outage:?}");
    std::fs::remove_file(&outage[0]).unwrap();
    let proxy = setup.start_at("2026-11-24T21:00:00Z").await;
    audit.state("down").await;
    let end = Client::connect(address(&proxy), MODERN).await.login(&known, &sessions).await;
    assert_refused(&end, "session has expired");
}

#[tokio::test]
async fn a_player_whose_skin_cannot_be_read_joins_without_it() {
    let mut scene = Scene::new().await;
    let (bare, whole) = (scene.make_known("Bare").await, scene.make_known("Whole").await);
    let mut scene = scene.restart(Mode::Down).await;
    // A folder in its place fails every read and write, whoever runs this test and however often it is tried.
    let document = scene.setup.document(bare.id);
    std::fs::remove_file(&document).unwrap();
    std::fs::create_dir(&document).unwrap();
    scene.audit.state("down").await;
    for (player, expected, fact) in
        [(&bare, None, Some("not read in time")), (&whole, Some(whole.skin.clone()), None)]
    {
        let (client, end) = scene.join(MODERN, player).await;
        let End::In { id, skin, authenticated: false, .. } = end else { panic!("{end:?}") };
        assert_eq!((id, &skin), (player.id, &expected), "{}", player.name);
        let event = scene.audit.next("login.fallback", |_| true).await;
        assert_eq!(event["facts"].get("properties").and_then(Value::as_str), fact, "{event}");
        drop(client);
        scene.gone().await;
    }
    let skins: Vec<_> = scene.backend.seen().into_iter().skip(2).map(|seen| seen.skin).collect();
    assert_eq!(skins, [None, Some(whole.skin)]);
}

#[tokio::test]
async fn stopping_tells_players_why() {
    let scene = Scene::new().await;
    let mut clients = Vec::new();
    for protocol in [393, 758, 765, MODERN] {
        let (client, end) = scene.join(protocol, &Player::new(&format!("P{protocol}"))).await;
        assert!(is_in(&end));
        clients.push(client);
    }
    let listening = address(&scene.proxy);
    let reading = async {
        for client in &mut clients {
            let (told, clean) = client.rest().await;
            let told = String::from_utf8_lossy(told.last().unwrap()).into_owned();
            assert!(told.contains("server is restarting"), "{}: {told}", client.protocol);
            assert!(clean, "{}", client.protocol);
        }
    };
    let began = Instant::now();
    tokio::join!(scene.proxy.stop(), reading);
    assert!(began.elapsed() < Duration::from_secs(15), "the grace is 20 s, and nobody needs it");
    assert!(TcpStream::connect(listening).await.is_err(), "nobody listens any more");
    let document = &scene.setup.sessions()["P774"];
    assert!(document["last_present"].is_string(), "the end of a verified connection is noted: {document}");
}

#[tokio::test]
async fn a_second_proxy_on_the_same_store_does_not_start() {
    let scene = Scene::new().await;
    let error = scene.setup.try_start(Clock::system()).await.unwrap_err().to_string();
    assert!(error.contains("in use by another running proxy"), "{error}");
    assert!(is_in(&scene.login(&Player::new("Known")).await), "the first goes on");
    let Scene { proxy, setup, .. } = scene;
    proxy.stop().await;
    setup.start().await.stop().await;
}

#[tokio::test]
async fn a_flood_of_unknown_names_costs_the_session_server_little_and_the_known_nothing() {
    let mut scene = Scene::with("  unknown-logins-per-minute: 4", |setup| setup).await;
    let known = scene.make_known("Known").await;
    let mut asked = BTreeSet::new();
    for n in 0..12 {
        asked.insert(format!("flood{n}"));
        let end = scene.login(&Player::impostor(&format!("Flood{n}"))).await;
        assert!(matches!(end, End::Refused(_)), "{end:?}");
    }
    scene.audit.reason("rate-limited").await;
    let calls = scene.sessions.names().iter().filter(|name| asked.contains(*name)).count();
    assert!((1..=5).contains(&calls), "{calls} calls");
    assert!(is_in(&scene.login(&known).await));
}
