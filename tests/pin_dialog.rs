//! Players with a PIN during an outage, whose clients have dialogs: asked before any backend knows of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{net::SocketAddr, time::Duration};

use postern::mojang::health::{ForcedVerdict, Override, Verdict};
use support::{
    Backend, BackendKind, Client, End, Mode, Player, Setup,
    backend::SECRET,
    dialog::*,
    scene::{MODERN, Scene, TRY_AGAIN, never_down, refuse_at_once, until},
    wire::{self, In, Out},
    world::{Resident, World},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::Instant,
};

const WRONG: &str = "Incorrect PIN";
const NONSENSE: &str = "does not understand";

/// A player with a PIN, in an outage.
async fn outage(change: impl FnOnce(Setup) -> Setup) -> (Scene, Player) {
    let (mut scene, player) = scene_with_pin("", change, "Pinned", Mode::Down).await;
    scene.audit.state("down").await;
    (scene, player)
}

/// An echoing backend got exactly these packets from the client, in this order, and sends more back.
async fn echoes(client: &mut Client, expected: &[Out]) {
    for packet in expected {
        assert_eq!(client.recv().await.unwrap(), packet.0);
    }
    client.send(Out::id(2).str("test:end").raw(&[1])).await;
    assert_eq!(client.recv().await.unwrap(), Out::id(2).str("test:end").raw(&[1]).0, "and nothing else");
}

#[tokio::test]
async fn no_backend_knows_of_the_player_before_the_code_is_right() {
    let (mut scene, player) = outage(|setup| setup).await;
    for protocol in [771, 774, 775, 777] {
        let before = scene.backend.connections();
        let mut client = begin(&scene, protocol, &player).await;
        let shown = dialog(&mut client).await;
        for text in ["Verify your identity", "Pinned", "60 seconds", "postern:pin", "postern:leave"] {
            assert!(shown.contains(text), "{protocol}: {text}: {shown}");
        }
        assert!(!shown.contains(WRONG));
        scene.audit.next("pin.prompted", |event| event["gate"] == "dialog").await;
        client.send(code("wrong")).await;
        assert!(dialog(&mut client).await.contains(WRONG));
        scene.audit.next("pin.failed", |event| event["tries_left"] == 2).await;
        // Nothing was tried with that.
        client.send(code("")).await;
        assert!(!dialog(&mut client).await.contains(WRONG));
        // Settings said last are in force; a message that a backend would take for ours stops here.
        client.send(settings(12)).await;
        client.send(Out::id(2).str("velocity:player_info").raw(&[1])).await;
        client.send(Out::id(2).str("mod:hello").raw(&[7])).await;
        assert_eq!(scene.backend.connections(), before, "{protocol}");
        assert_eq!(scene.proxy.players(), 0, "{protocol}: a held player is not in");
        // With the space that some keyboards write behind a word; and once more, though nobody can click twice.
        client.send(code(&format!("{CODE} "))).await;
        client.send(code(CODE)).await;
        echoes(&mut client, &[brand(), settings(12), Out::id(2).str("mod:hello").raw(&[7])]).await;
        let event = scene.audit.next("pin.verified", |_| true).await;
        assert_eq!((&event["player"], &event["id"]), (&"Pinned".into(), &player.id.to_string().into()));
        let event = scene.audit.next("login.fallback", |_| true).await;
        assert_eq!((&event["proof"], &event["protocol"]), (&"pinned".into(), &protocol.into()));
        let seen = scene.backend.arrival(scene.backend.seen().len()).await;
        assert_eq!(
            (seen.id, seen.name, seen.skin),
            (Some(player.id), player.name.clone(), Some(player.skin.clone()))
        );
        assert_eq!(scene.backend.connections(), before + 1);
        drop(client);
        scene.gone().await;
    }
    let log = scene.audit.lines().join("\n");
    assert!(!log.contains(CODE) && !log.contains("wrong\""), "no code is written anywhere");
}

#[tokio::test]
async fn three_wrong_codes_end_it() {
    let (mut scene, player) = outage(|setup| setup).await;
    let before = scene.backend.connections();
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    for left in [2, 1] {
        client.send(code("0000")).await;
        assert!(dialog(&mut client).await.contains(WRONG));
        scene.audit.next("pin.failed", |event| event["tries_left"] == left).await;
    }
    client.send(code("0000")).await;
    let (text, cleared) = refused(&mut client).await;
    // The click has closed the dialog already.
    assert!(text.contains(WRONG) && !cleared, "{text}");
    let event = scene.audit.reason("pin-failed").await;
    assert_eq!((&event["player"], &event["id"]), (&"Pinned".into(), &player.id.to_string().into()));
    assert_eq!(
        (&event["facts"]["gate"], &event["facts"]["must_prove_pin"]),
        (&"dialog".into(), &true.into())
    );
    assert_eq!(scene.backend.connections(), before);
}

#[tokio::test]
async fn whoever_leaves_is_told_and_whoever_is_gone_is_gone() {
    let (mut scene, player) = outage(|setup| setup).await;
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    client.send(leave()).await;
    let (text, cleared) = refused(&mut client).await;
    assert!(text.contains("appear to be down") && !cleared, "{text}");
    let event = scene.audit.reason("client-left").await;
    assert_eq!(event["facts"]["cause"], "the player chose to leave");
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    drop(client);
    let event = scene.audit.reason("client-left").await;
    assert_eq!(event["facts"]["has_pin"], true, "{event}");
    assert_eq!(scene.proxy.players(), 0);
}

#[tokio::test]
async fn the_time_is_over_with_the_dialog_open() {
    let (mut scene, player) =
        outage(|setup| setup.replace("security:\n", "security:\n  pin-timeout-seconds: 2\n")).await;
    for answers in [true, false] {
        let mut client = begin(&scene, 777, &player).await;
        assert!(dialog(&mut client).await.contains("2 seconds"));
        if answers {
            let (text, cleared) = refused(&mut client).await;
            assert!(text.contains(WRONG) && cleared, "{text}");
        } else {
            // It is told all the same.
            let (packets, clean) = client.rest().await;
            let ids: Vec<u8> = packets.iter().map(|packet| packet[0]).filter(|id| *id != 4).collect();
            assert_eq!((ids, clean), (vec![0x12, 5, 2], true));
        }
        scene.audit.reason("pin-timeout").await;
    }
}

#[tokio::test]
async fn what_nobody_asked_for_ends_it_readably() {
    let (mut scene, player) = outage(|setup| {
        setup.replace(
            "security:\n",
            "security:\n  max-failed-attempts: 1000\n  max-failed-attempts-per-subnet: 1000\n",
        )
    })
    .await;
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let cases: [(&str, Vec<Out>); 13] = [
        ("another dialog's button", vec![click("other:button", &[0])]),
        ("no code in it", vec![click("postern:pin", &[0])]),
        ("the code is a number", vec![click("postern:pin", &[&[10, 1][..], &text(FIELD), &[1, 0]].concat())]),
        ("cut NBT", vec![click("postern:pin", &[&[10, 8][..], &text(FIELD), &[0, 9, b'x']].concat())]),
        ("a length beyond the payload", vec![Out::id(8).str("postern:pin").varint(0x7fff_ffff).raw(&[0])]),
        ("a large payload", vec![click("postern:pin", &vec![7; 60_000])]),
        ("a finish that was not begun", vec![Out::id(3)]),
        ("a keep-alive nobody sent", vec![Out::id(4).raw(&7i64.to_be_bytes())]),
        ("a pong nobody asked for", vec![Out::id(5).raw(&[0, 0, 0, 9])]),
        ("a cookie nobody asked for", vec![Out::id(1).str("minecraft:a").bool(false)]),
        ("a resource pack's answer", vec![Out::id(6).raw(&[0; 17])]),
        ("play's packets", vec![Out::id(0x1f).raw(&[1; 40])]),
        ("a flood", (0..17).map(|n| Out::id(2).str("mod:x").raw(&[n])).collect()),
    ];
    let before = scene.backend.connections();
    for (what, packets) in cases {
        let mut client = begin(&scene, MODERN, &player).await;
        dialog(&mut client).await;
        for packet in packets {
            client.send(packet).await;
        }
        let (text, cleared) = refused(&mut client).await;
        assert!(text.contains(NONSENSE) && cleared, "{what}: {text}");
    }
    let event = scene.audit.reason("bad-handshake").await;
    assert_eq!(event["facts"]["cause"], "an answer to a dialog that was not shown");
    // Instead of login acknowledged.
    let mut client = scene.client(MODERN).await;
    client.handshake("play.example.com", 2).await;
    client.login_start(&player.name, player.id).await;
    let request = client.recv().await.unwrap();
    assert_eq!(client.answer_encryption(&request, &player, &scene.sessions).await, Some(false));
    let packet = client.recv().await.unwrap();
    assert_eq!(packet[0], 3, "compression");
    client.threshold = usize::try_from(In(&packet[1..]).varint()).ok();
    assert_eq!(client.recv().await.unwrap()[0], 2);
    client.send(Out::id(1).raw(&[0; 4])).await;
    let (text, cleared) = refused(&mut client).await;
    assert!(text.contains(NONSENSE) && !cleared, "{text}");
    assert_eq!(scene.backend.connections(), before);
}

async fn force(scene: &Scene, verdict: ForcedVerdict) {
    let order = Override { verdict, lasting: Duration::from_mins(10) };
    scene.proxy.health().set_override(order).await.unwrap();
}

#[tokio::test]
async fn a_right_code_is_too_late_once_the_outage_is_over() {
    let (mut scene, player) = outage(|setup| setup).await;
    let before = scene.backend.connections();
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    force(&scene, ForcedVerdict::Up).await;
    assert_eq!(scene.proxy.health().verdict(), Verdict::Up);
    client.send(code(CODE)).await;
    let (text, _) = refused(&mut client).await;
    assert!(text.contains(TRY_AGAIN), "{text}");
    let event = scene.audit.reason("unreachable").await;
    assert_eq!(event["facts"]["pin"], "right");
    assert_eq!(scene.backend.connections(), before);
}

#[tokio::test]
async fn a_verified_login_and_the_first_right_code_displace_those_who_are_held() {
    let (mut scene, player) = outage(refuse_at_once).await;
    let mut held = Vec::new();
    for protocol in [771, 774] {
        let mut client = begin(&scene, protocol, &player).await;
        dialog(&mut client).await;
        held.push(client);
    }
    held[1].send(code(CODE)).await;
    echoes(&mut held[1], &[brand(), settings(10)]).await;
    let (text, cleared) = refused(&mut held[0]).await;
    assert!(text.contains("another place") && cleared, "{text}");
    let event = scene.audit.reason("displaced").await;
    assert_eq!((&event["id"], &event["facts"]["gate"]), (&player.id.to_string().into(), &"dialog".into()));
    // One who has proven the PIN is not displaced by one who has not.
    let (_, end) = scene.join(MODERN, &player).await;
    assert!(matches!(&end, End::Refused(text) if text.contains("already connected")), "{end:?}");
    drop(held);
    scene.gone().await;

    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    scene.sessions.set(Mode::Up);
    force(&scene, ForcedVerdict::Up).await;
    let (_in, end) = scene.join(MODERN, &player).await;
    assert!(matches!(end, End::In { authenticated: true, .. }), "{end:?}");
    let (text, cleared) = refused(&mut client).await;
    assert!(text.contains("another place") && cleared, "{text}");
}

#[tokio::test]
async fn a_held_player_makes_room_like_every_login_that_has_proven_nothing() {
    let change = |setup: Setup| {
        let setup = setup.replace("security:\n", "security:\n  max-failed-attempts: 1\n");
        setup.network("  max-pending-logins: 1\n")
    };
    let (mut scene, player) = outage(change).await;
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    // The next from an address with a session.
    let mut next = scene.client(MODERN).await;
    next.handshake("play.example.com", 2).await;
    let (text, cleared) = refused(&mut client).await;
    assert!(text.contains(TRY_AGAIN) && cleared, "{text}");
    let event = scene.audit.reason("too-many-connections").await;
    assert_eq!(event["facts"]["limit"], "max-pending-logins");
    assert_eq!((&event["id"], &event["facts"]["has_pin"]), (&player.id.to_string().into(), &true.into()));
    assert_eq!(event["facts"]["gate"], "dialog");
    // Whoever does without it has failed; whoever makes room has not.
    assert!(!scene.audit.lines().join("\n").contains("ban.added"));
    drop(next);
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    drop(client);
    scene.audit.next("ban.added", |_| true).await;
}

/// A known player's home, and somebody in the same range.
const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.77";

#[tokio::test]
async fn whoever_comes_and_goes_without_the_code_is_banned_and_the_player_is_not() {
    let change =
        |setup: Setup| setup.behind_a_proxy().replace("security:\n", "security:\n  max-failed-attempts: 3\n");
    let mut scene = Scene::with("", change).await;
    let player = scene.make_known_at(HOME, "Pinned").await;
    let mut scene = restart_with_pin(scene, &player, Mode::Down).await;
    scene.audit.state("down").await;
    for _ in 0..3 {
        let mut thief = begin_from(&scene, NEXT_DOOR, &Player::thief("Pinned")).await;
        dialog(&mut thief).await;
        drop(thief);
        scene.audit.reason("client-left").await;
    }
    let (_, end) = scene.join_from(NEXT_DOOR, MODERN, &Player::thief("Pinned")).await;
    assert!(matches!(&end, End::HungUp | End::Refused(_)), "{end:?}");
    scene.audit.next("login.refused", |event| event["facts"]["banned"] != serde_json::Value::Null).await;
    // What failed elsewhere does not matter at home. A displaced connection has not failed.
    for round in 0..4 {
        let mut held = begin_from(&scene, HOME, &player).await;
        dialog(&mut held).await;
        let mut client = begin_from(&scene, HOME, &player).await;
        dialog(&mut client).await;
        client.send(code(CODE)).await;
        echoes(&mut client, &[brand(), settings(10)]).await;
        let (text, _) = refused(&mut held).await;
        assert!(text.contains("another place"), "{round}: {text}");
        drop(client);
        scene.gone().await;
    }
}

#[tokio::test]
async fn a_code_that_is_not_compared_any_more_is_no_wrong_code() {
    let change =
        |setup: Setup| setup.behind_a_proxy().replace("security:\n", "security:\n  max-failed-attempts: 3\n");
    let mut scene = Scene::with("", change).await;
    let player = scene.make_known_at(HOME, "Pinned").await;
    let mut scene = restart_with_pin(scene, &player, Mode::Down).await;
    scene.audit.state("down").await;
    let mut guesser = begin_from(&scene, NEXT_DOOR, &player).await;
    dialog(&mut guesser).await;
    let mut other = begin_from(&scene, NEXT_DOOR, &player).await;
    dialog(&mut other).await;
    for _ in 0..2 {
        guesser.send(code("0000")).await;
        dialog(&mut guesser).await;
    }
    guesser.send(code("0000")).await;
    refused(&mut guesser).await;
    let event = scene.audit.reason("pin-failed").await;
    assert_eq!(event["facts"]["pin_barred"], serde_json::Value::Null, "{event}");
    // Right, which nobody is told who is banned by now.
    other.send(code(CODE)).await;
    let (text, _) = refused(&mut other).await;
    assert!(text.contains(WRONG), "{text}");
    let event = scene.audit.reason("pin-failed").await;
    assert_eq!(
        (&event["facts"]["pin_barred"], &event["facts"]["gate"]),
        (&"banned".into(), &"dialog".into())
    );
    let log = scene.audit.lines().join("\n");
    assert_eq!((log.matches("\"pin.failed\"").count(), log.matches("\"pin.verified\"").count()), (3, 0));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_codes() {
    let (scene, player) = outage(|setup| setup).await;
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    let began = Instant::now();
    let ((), (text, cleared)) = tokio::join!(scene.proxy.stop(), refused(&mut client));
    assert!(text.contains("server is restarting") && cleared, "{text}");
    assert!(began.elapsed() < Duration::from_secs(15), "the grace is 20 s, and nobody needs it");
}

#[tokio::test]
async fn a_pin_is_asked_for_in_place_too() {
    // Degraded all along: what decides is this login's own failure.
    let (mut scene, player) = scene_with_pin("", never_down, "Pinned", Mode::DownForProxy).await;
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    client.send(code(CODE)).await;
    echoes(&mut client, &[brand(), settings(10)]).await;
    let event = scene.audit.next("login.fallback", |_| true).await;
    assert_eq!((&event["facts"]["in_place"], &event["proof"]), (&true.into(), &"pinned".into()));
}

/// The session server answers a check.
async fn answers_again(scene: &Scene, verdict: Verdict) {
    scene.sessions.set(Mode::Up);
    until(|| {
        let status = scene.proxy.health().status();
        status.verdict == verdict && status.last_answer.is_some()
    })
    .await;
}

#[tokio::test]
async fn in_place_a_right_code_is_too_late_once_the_session_server_has_answered() {
    // Also where it takes more to be taken for well.
    for (recovery, verdict) in [(2, Verdict::Up), (1000, Verdict::Degraded)] {
        let mut scene = Scene::with("", never_down).await;
        let player = scene.make_known("Pinned").await;
        let checks = format!("monitoring:\n  recovery-threshold: {recovery}\n");
        scene.setup = scene.setup.replace("monitoring:\n", &checks);
        let mut scene = restart_with_pin(scene, &player, Mode::DownForProxy).await;
        let before = scene.backend.connections();
        let mut client = begin(&scene, MODERN, &player).await;
        dialog(&mut client).await;
        answers_again(&scene, verdict).await;
        client.send(code(CODE)).await;
        let (text, _) = refused(&mut client).await;
        assert!(text.contains(TRY_AGAIN), "{verdict}: {text}");
        let event = scene.audit.reason("unreachable").await;
        assert_eq!((&event["facts"]["pin"], &event["facts"]["gate"]), (&"right".into(), &"dialog".into()));
        assert_eq!(scene.backend.connections(), before, "{verdict}");
    }
}

#[tokio::test]
async fn in_place_the_same_goes_for_a_player_on_its_backend() {
    let world = World::start().await;
    let backend = Backend::start(BackendKind::Plain, None).await;
    let (from, to) = (backend.address.to_string(), world.address.to_string());
    let change = |setup: Setup| never_down(setup.replace(&from, &to).replace("mode: modern", "mode: none"));
    let mut scene = Scene::around(backend, "", change).await;
    let player = Player::new("Pinned");
    let (client, _) = scene.join(763, &player).await;
    drop(Resident::enter(client).await);
    scene.audit.next("login.verified", |_| true).await;
    scene.gone().await;
    let mut scene = restart_with_pin(scene, &player, Mode::DownForProxy).await;
    for is_over in [false, true] {
        let (client, _) = scene.join(763, &player).await;
        let mut resident = Resident::enter(client).await;
        resident.until("Please verify your identity").await;
        if is_over {
            answers_again(&scene, Verdict::Up).await;
        }
        resident.say(&format!("/pin {CODE}")).await;
        if is_over {
            let text = resident.kicked().await;
            assert!(text.contains(TRY_AGAIN), "{text}");
            let event = scene.audit.reason("unreachable").await;
            let facts = &event["facts"];
            assert_eq!((&facts["pin"], &facts["gate"]), (&"right".into(), &"quarantine".into()));
        } else {
            let event = scene.audit.next("login.fallback", |_| true).await;
            assert_eq!((&event["facts"]["in_place"], &event["proof"]), (&true.into(), &"pinned".into()));
            drop(resident);
            scene.gone().await;
        }
    }
}

#[tokio::test]
async fn compression_begins_where_it_did_last_or_where_the_owner_says() {
    let setup = |setup: Setup| setup.network("  compression-threshold: 700\n");
    let scene = Scene::around(
        Backend::start(BackendKind::Modern { secret: SECRET.to_owned() }, Some(64)).await,
        "",
        setup,
    );
    let mut scene = scene.await;
    let player = scene.make_known("Pinned").await;
    let mut scene = restart_with_pin(scene, &player, Mode::Down).await;
    scene.audit.state("down").await;
    // Nobody has been in since the start: the owner's word. The backend's differs.
    for expected in [700, 64] {
        let mut client = begin(&scene, MODERN, &player).await;
        assert_eq!(client.threshold, Some(expected));
        dialog(&mut client).await;
        client.send(code(CODE)).await;
        echoes(&mut client, &[brand(), settings(10)]).await;
        for len in [10, 63, 65, 300, 701, 5000] {
            let packet = Out::id(2).str("test:data").raw(&vec![7; len]);
            client.send(packet.clone()).await;
            assert_eq!(client.recv().await.unwrap(), packet.0, "{len}");
        }
        drop(client);
        scene.gone().await;
    }
}

/// A backend that follows a script: it has read handshake and login start, and asked who the player is.
struct Script {
    stream: TcpStream,
    threshold: Option<usize>,
}

impl Script {
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(Duration::from_secs(30), listener.accept()).await;
        let (stream, _) = accepted.unwrap().unwrap();
        let mut script = Self { stream, threshold: None };
        script.read().await.unwrap();
        script.read().await.unwrap();
        script.send(Out::id(4).varint(7).str("velocity:player_info").raw(&[4])).await;
        let packet = script.read().await.unwrap();
        assert_eq!(packet[..3], [2, 7, 1], "it is told who the player is");
        script
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        let body = wire::read_body(&mut self.stream, |_| {}).await?;
        Some(wire::unframe(&body, self.threshold))
    }

    async fn send(&mut self, packet: Out) {
        self.stream.write_all(&wire::frame(&packet.0, self.threshold)).await.unwrap();
    }

    async fn succeed(&mut self, protocol: i32, player: &Player) {
        self.send(Out::id(3).varint(100)).await;
        self.threshold = Some(100);
        let seen =
            support::backend::Seen { id: Some(player.id), name: player.name.clone(), ..Default::default() };
        self.send(Out(support::backend::success(protocol, &seen))).await;
    }
}

/// An outage, a player with a PIN, and a backend that follows a script from then on.
async fn scripted() -> (Scene, Player, TcpListener) {
    let (scene, player) = scene_with_pin("", |setup| setup, "Pinned", Mode::Down).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (old, new) = (scene.backend.address, listener.local_addr().unwrap());
    let mut scene = repoint(scene, old, new).await;
    scene.audit.state("down").await;
    (scene, player, listener)
}

async fn repoint(mut scene: Scene, from: SocketAddr, to: SocketAddr) -> Scene {
    scene.setup = scene.setup.replace(&from.to_string(), &to.to_string());
    scene.restart(Mode::Down).await
}

#[tokio::test]
async fn the_configuration_phases_are_one_for_both_sides() {
    let (mut scene, player, listener) = scripted().await;
    for protocol in [771, 774, 777] {
        let mut client = begin(&scene, protocol, &player).await;
        dialog(&mut client).await;
        client.send(code(CODE)).await;
        let behind = async {
            let mut script = Script::accept(&listener).await;
            // What the client cannot be asked any more, and what it can.
            script.send(Out::id(4).varint(9).str("mod:handshake").raw(&[1])).await;
            assert_eq!(script.read().await.unwrap(), Out::id(2).varint(9).bool(false).0);
            script.send(Out::id(5).str("minecraft:token")).await;
            let cookie = Out::id(4).str("minecraft:token").bool(true).bytes(b"crumbs");
            assert_eq!(script.read().await.unwrap(), cookie.0);
            script.succeed(protocol, &player).await;
            assert_eq!(script.read().await.unwrap(), [3], "login acknowledged");
            assert_eq!(script.read().await.unwrap(), brand().0);
            assert_eq!(script.read().await.unwrap(), settings(10).0);
            // Known packs, registries, tags, a keep-alive of its own, the end.
            let known_packs = if protocol >= 777 { 0x0f } else { 0x0e };
            script.send(Out::id(known_packs).varint(1).str("minecraft").str("core").str("1")).await;
            assert_eq!(script.read().await.unwrap(), Out::id(7).varint(0).0);
            script.send(Out::id(7).str("minecraft:x").raw(&vec![3; 20_000])).await;
            script.send(Out::id(if protocol >= 777 { 0x0e } else { 0x0d }).varint(0)).await;
            script.send(Out::id(4).raw(&99i64.to_be_bytes())).await;
            assert_eq!(script.read().await.unwrap(), Out::id(4).raw(&99i64.to_be_bytes()).0);
            script.send(Out::id(3)).await;
            assert_eq!(script.read().await.unwrap(), [3]);
            // Play: any packet, both ways.
            script.send(Out::id(0x70).raw(&[1; 500])).await;
            assert_eq!(script.read().await.unwrap(), Out::id(0x3f).raw(&[2; 500]).0);
        };
        let before = async {
            let asked = next(&mut client).await.unwrap();
            assert_eq!(cookie_of(&asked), "minecraft:token");
            client.send(Out::id(1).str("minecraft:token").bool(true).bytes(b"crumbs")).await;
            assert_eq!(next(&mut client).await.unwrap()[0], if protocol >= 777 { 0x0f } else { 0x0e });
            client.send(Out::id(7).varint(0)).await;
            assert_eq!(next(&mut client).await.unwrap().len(), 13 + 20_000);
            next(&mut client).await.unwrap();
            // Answers the keep-alive on the way.
            assert_eq!(next(&mut client).await.unwrap(), [3]);
            client.send(Out::id(3)).await;
            assert_eq!(client.recv().await.unwrap(), Out::id(0x70).raw(&[1; 500]).0);
            client.send(Out::id(0x3f).raw(&[2; 500])).await;
        };
        tokio::join!(behind, before);
        scene.audit.next("login.fallback", |event| event["protocol"] == protocol).await;
        drop(client);
        scene.gone().await;
    }
}

#[tokio::test]
async fn the_words_of_a_backend_that_refuses_reach_the_player() {
    let (mut scene, player, listener) = scripted().await;
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    client.send(code(CODE)).await;
    let behind = async {
        let mut script = Script::accept(&listener).await;
        let json =
            r#"{"translate":"multiplayer.disconnect.not_whitelisted","with":["a",{"text":"b","bold":true}]}"#;
        script.send(Out::id(0).str(json)).await;
        assert_eq!(script.read().await, None);
    };
    let ((), (text, cleared)) = tokio::join!(behind, refused(&mut client));
    assert!(text.contains("translate") && text.contains("not_whitelisted") && !cleared, "{text}");
    let event = scene.audit.reason("backend-unavailable").await;
    assert_eq!(event["facts"]["proof"], "pinned");
    // The right code was no failure: it is asked for again as if nothing had been.
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
}

#[tokio::test]
async fn backends_that_hang_or_are_gone_are_told_of_in_configuration() {
    let (mut scene, player, listener) = scripted().await;
    // It is gone.
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    drop(listener);
    client.send(code(CODE)).await;
    let (text, cleared) = refused(&mut client).await;
    assert!(text.contains("not answering") && !cleared, "{text}");
    scene.audit.reason("backend-unavailable").await;
}
