//! Limits on connections and logins: whole logins against the running proxy, from addresses that a PROXY header states.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::large_futures, reason = "a test has a stack of its own")]

mod support;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use postern::mojang::health::Verdict;
use support::{
    Client, End, Mode, Player, Setup,
    client::plain,
    logs::Logs,
    scene::*,
    wire::{In, Out},
};
use tokio::{io::AsyncReadExt, time::timeout};

const HOST: &str = "play.example.com";
const HOME: &str = "203.0.113.5";
const RESTARTS: &str = "server is restarting";

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Behind a proxy that states addresses, with these limits in place of none.
fn limited(lines: &'static str) -> impl FnOnce(Setup) -> Setup {
    move |setup| {
        let none = "network:\n  login-ratelimit: 0\n  max-connections-per-address: 20000\n";
        assert!(setup.text.contains(none));
        let stated = format!("network:\n  accept-proxy-protocol: true\n{lines}");
        setup
            .replace(none, &stated)
            .replace("trust-private-addresses: true", "trust-private-addresses: false")
    }
}

async fn scene(lines: &'static str) -> Scene {
    Scene::with("  unknown-logins-per-minute: 0", limited(lines)).await
}

async fn connect_from(scene: &Scene, from: &str) -> Client {
    let mut client = scene.client(MODERN).await;
    let (family, own) = if from.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    client.send_raw(format!("PROXY {family} {from} {own} 40000 25565\r\n").into_bytes()).await;
    client
}

async fn join_from(scene: &Scene, from: &str, player: &Player) -> (Client, End) {
    let mut client = connect_from(scene, from).await;
    let end = client.login(player, &scene.sessions).await;
    (client, end)
}

async fn login_from(scene: &Scene, from: &str, name: &str) -> End {
    join_from(scene, from, &Player::new(name)).await.1
}

/// A login that stands still at its encryption request.
async fn hold_from(scene: &Scene, from: &str) -> Client {
    let mut client = connect_from(scene, from).await;
    client.handshake(HOST, 2).await;
    client.login_start("Stranger", Player::new("Stranger").id).await;
    assert_eq!(client.recv().await.unwrap()[0], 1, "an encryption request");
    client
}

/// The text that a login which stands still is sent away with.
async fn told(client: &mut Client) -> String {
    let packet = timeout(PATIENCE, client.recv()).await.unwrap().unwrap();
    assert_eq!(packet[0], 0);
    assert_eq!(timeout(PATIENCE, client.recv()).await.unwrap(), None, "and then the end");
    plain(&In(&packet[1..]).str())
}

async fn assert_closed(client: &mut Client) {
    assert_eq!(timeout(PATIENCE, client.recv()).await.unwrap(), None);
}

/// A player is in if what it says comes back.
async fn assert_still_in(client: &mut Client, word: u8) {
    client.send(Out::id(0x10).raw(&[word; 20])).await;
    loop {
        let heard = timeout(PATIENCE, client.recv()).await.unwrap().unwrap();
        if heard == Out::id(0x10).raw(&[word; 20]).0 {
            return;
        }
    }
}

#[tokio::test]
async fn logins_from_one_address_have_a_burst_and_then_wait() {
    let mut scene = scene("  login-ratelimit: 3600000\n").await;
    for name in ["Ann", "Ben", "Cat"] {
        assert!(is_in(&login_from(&scene, HOME, name).await), "{name}");
    }
    let asked = scene.sessions.asked();
    for _ in 0..2 {
        assert_refused(&login_from(&scene, HOME, "Dan").await, TRY_AGAIN);
        let event = scene.audit.reason("rate-limited").await;
        assert_eq!((&event["address"], &event["facts"]["limit"]), (&HOME.into(), &"login-ratelimit".into()));
    }
    assert_eq!(scene.sessions.asked(), asked, "refused before any work is done");
    // Server list pings are no logins.
    for _ in 0..5 {
        connect_from(&scene, HOME).await.status(HOST).await;
    }
    // Others are not affected; all of an IPv6 /64 is one.
    assert!(is_in(&login_from(&scene, "203.0.113.6", "Dan").await));
    for n in 0..3 {
        assert!(is_in(&login_from(&scene, &format!("2001:db8:0:1::{n}"), "Dan").await));
    }
    assert_refused(&login_from(&scene, "2001:db8:0:1:ffff::1", "Dan").await, TRY_AGAIN);
    assert!(is_in(&login_from(&scene, "2001:db8:0:2::1", "Dan").await));
}

#[tokio::test]
async fn as_many_may_log_in_at_once_as_are_known_from_there() {
    let mut scene = scene("  login-ratelimit: 0\n").await;
    let family: Vec<String> = (0..6).map(|n| format!("Sibling{n}")).collect();
    for name in &family {
        assert!(is_in(&login_from(&scene, HOME, name).await), "{name}");
    }
    scene.gone().await;
    scene.setup = scene.setup.replace("login-ratelimit: 0", "login-ratelimit: 3600000");
    let mut scene = scene.restart(Mode::Up).await;
    for name in &family {
        assert!(is_in(&login_from(&scene, HOME, name).await), "{name}");
    }
    assert_refused(&login_from(&scene, HOME, &family[0]).await, TRY_AGAIN);
    scene.audit.reason("rate-limited").await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let mut scene = scene("  login-ratelimit: 0\n  max-connections-per-address: 2\n").await;
    let held = [hold_from(&scene, HOME).await, hold_from(&scene, HOME).await];
    assert_closed(&mut connect_from(&scene, HOME).await).await;
    // Nothing of that is an attempt.
    assert!(!scene.audit.lines().iter().any(|line| line.contains("login.refused")));
    connect_from(&scene, "203.0.113.6").await.status(HOST).await;
    drop(held);
    // Whoever is in counts as well.
    let ann = loop {
        let (client, end) = join_from(&scene, HOME, &Player::new("Ann")).await;
        if is_in(&end) {
            break client;
        }
        assert_eq!(end, End::Closed);
    };
    let mut held = loop {
        let mut client = connect_from(&scene, HOME).await;
        client.handshake(HOST, 2).await;
        client.login_start("Stranger", Player::new("Stranger").id).await;
        if client.recv().await.is_some() {
            break client;
        }
    };
    // From an address with a session, the oldest that has proven nothing makes room: silence keeps nobody out.
    connect_from(&scene, HOME).await.status(HOST).await;
    assert_refused(&held.finish_login(&Player::new("Stranger"), &scene.sessions).await, TRY_AGAIN);
    let event = scene.audit.reason("too-many-connections").await;
    assert_eq!(event["facts"]["limit"], "max-connections-per-address");
    drop(ann);
    scene.gone().await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_without_a_proxy_in_front_too() {
    let scene = Scene::with("", |setup| {
        setup.replace("max-connections-per-address: 20000", "max-connections-per-address: 2")
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = scene.client(MODERN).await;
        client.handshake(HOST, 2).await;
        client.login_start("Stranger", Player::new("Stranger").id).await;
        assert_eq!(client.recv().await.unwrap()[0], 1);
        held.push(client);
    }
    assert_closed(&mut scene.client(MODERN).await).await;
    drop(held);
    let began = Instant::now();
    while !is_in(&scene.login(&Player::new("Ann")).await) {
        assert!(began.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn above_three_quarters_the_known_come_in_and_the_oldest_stranger_goes() {
    let mut scene = scene("  login-ratelimit: 0\n  max-connections: 8\n").await;
    assert!(is_in(&login_from(&scene, HOME, "Ann").await));
    scene.gone().await;
    let mut strangers = Vec::new();
    for n in 0..6 {
        strangers.push(hold_from(&scene, &format!("198.51.100.{n}")).await);
    }
    // One stranger more is closed, whatever it wants; it is told nothing, since it has said nothing yet.
    assert_closed(&mut connect_from(&scene, "198.51.100.99").await).await;
    // For one who is known the oldest stranger goes, and is told why.
    let (mut ann, end) = join_from(&scene, HOME, &Player::new("Ann")).await;
    assert!(is_in(&end), "{end:?}");
    assert!(told(&mut strangers.remove(0)).await.contains(TRY_AGAIN));
    let event = scene.audit.reason("too-many-connections").await;
    assert_eq!(event["address"], "198.51.100.0");
    // The others are left alone, and their place stays with the known.
    assert_closed(&mut connect_from(&scene, "198.51.100.99").await).await;
    let mut more = Vec::new();
    for name in ["Bob", "Cat"] {
        let (client, end) = join_from(&scene, HOME, &Player::new(name)).await;
        assert!(is_in(&end), "{name}: {end:?}");
        more.push(client);
        assert!(told(&mut strangers.remove(0)).await.contains(TRY_AGAIN));
    }
    // Players who are in are never closed to make room: five more come in for the last strangers and the free places.
    for n in 0..5 {
        let (client, end) = join_from(&scene, HOME, &Player::new(&format!("Player{n}"))).await;
        assert!(is_in(&end), "{n}: {end:?}");
        more.push(client);
    }
    assert_eq!(scene.proxy.players(), 8);
    assert_closed(&mut connect_from(&scene, HOME).await).await;
    for (n, client) in (1..).zip(std::iter::once(&mut ann).chain(&mut more)) {
        assert_still_in(client, n).await;
    }
    for stranger in &mut strangers {
        assert!(told(stranger).await.contains(TRY_AGAIN));
    }
    // One leaves, one comes.
    drop(more.pop());
    until(|| scene.proxy.players() == 7).await;
    let (_last, end) = join_from(&scene, HOME, &Player::new("Last")).await;
    assert!(is_in(&end), "{end:?}");
}

#[tokio::test]
async fn so_many_logins_are_under_way_at_once() {
    let mut scene = scene("  login-ratelimit: 0\n  max-pending-logins: 4\n").await;
    assert!(is_in(&login_from(&scene, HOME, "Ann").await));
    scene.gone().await;
    let mut strangers = Vec::new();
    for n in 0..3 {
        strangers.push(hold_from(&scene, &format!("198.51.100.{n}")).await);
    }
    assert_refused(&login_from(&scene, "198.51.100.99", "Stranger").await, TRY_AGAIN);
    let event = scene.audit.reason("too-many-connections").await;
    assert_eq!(event["facts"]["limit"], "max-pending-logins");
    // Pings are no logins.
    connect_from(&scene, "198.51.100.99").await.status(HOST).await;
    let (mut ann, end) = join_from(&scene, HOME, &Player::new("Ann")).await;
    assert!(is_in(&end), "{end:?}");
    assert!(told(&mut strangers.remove(0)).await.contains(TRY_AGAIN));
    // She is in, and her login under way no more: there is room for a stranger.
    strangers.push(hold_from(&scene, "198.51.100.3").await);
    // Of the known, too, the oldest goes once all are under way.
    let mut known = Vec::new();
    for _ in 0..4 {
        known.push(hold_from(&scene, HOME).await);
    }
    for stranger in &mut strangers {
        assert!(told(stranger).await.contains(TRY_AGAIN));
    }
    let _fifth = hold_from(&scene, HOME).await;
    assert!(told(&mut known[0]).await.contains(TRY_AGAIN));
    assert_still_in(&mut ann, 1).await;
}

/// Runs them beside each other, in one task.
async fn join_all(futures: impl Iterator<Item = impl Future>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// What one stranger of a flood does, from an address that nobody had before.
async fn one_of_a_flood(scene: &Scene, n: u32) {
    let mut client = connect_from(scene, &format!("2001:db8:{n:x}::1")).await;
    match n % 3 {
        // Says nothing at all.
        0 => _ = client.recv().await,
        // Stands still.
        1 => {
            client.handshake(HOST, 2).await;
            client.login_start(&format!("Flood{n}"), Player::new("Flood").id).await;
            while client.recv().await.is_some_and(|packet| packet[0] == 1) {}
        }
        // Answers well, and never joined.
        _ => {
            let player = Player::impostor(&format!("Flood{n}"));
            client.handshake(HOST, 2).await;
            client.login_start(&player.name, player.id).await;
            if let Some(request) = client.recv().await.filter(|packet| packet[0] == 1) {
                client.answer_encryption(&request, &player, &scene.sessions).await;
                // Sent away in between, it would be so in plain text: whatever it hears, it is no good.
                let _ = client.stream.read_to_end(&mut Vec::new()).await;
            }
        }
    }
}

#[tokio::test]
async fn a_flood_keeps_nobody_out_who_is_known_and_is_no_outage() {
    let (logs, _kept) = Logs::keep();
    let auth = "  unknown-logins-per-minute: 5";
    let lines = "  max-connections: 40\n  max-pending-logins: 24\n";
    let scene = Scene::with(auth, limited(lines)).await;
    let known: Vec<Player> = (0..4).map(|n| Player::new(&format!("Known{n}"))).collect();
    let home = |n: usize| format!("203.0.113.{n}");
    for (n, player) in known.iter().enumerate() {
        assert!(is_in(&join_from(&scene, &home(n), player).await.1), "{}", player.name);
    }
    scene.gone().await;
    // One is in before it begins.
    let (mut first, end) = join_from(&scene, &home(0), &known[0]).await;
    assert!(is_in(&end), "{end:?}");

    // More of them at any time than there are places; whoever is sent away comes again as somebody else.
    let came = AtomicU32::new(0);
    let stranger = async || loop {
        one_of_a_flood(&scene, came.fetch_add(1, Ordering::Relaxed)).await;
    };
    let flood = join_all((0..48).map(|_| stranger()));
    let meanwhile = async {
        for round in 0..2_u8 {
            let before = came.load(Ordering::Relaxed);
            until(|| came.load(Ordering::Relaxed) > before + 500).await;
            for (n, player) in known.iter().enumerate().skip(1) {
                // Each gets through at the first try.
                let (mut client, end) = join_from(&scene, &home(n), player).await;
                assert!(is_in(&end), "round {round}, {}: {end:?}", player.name);
                assert_still_in(&mut client, round + 1).await;
            }
            assert_still_in(&mut first, round + 1).await;
            assert_eq!(scene.proxy.health().verdict(), Verdict::Up);
        }
    };
    tokio::select! {
        () = flood => unreachable!("it never ends by itself"),
        done = timeout(PATIENCE, meanwhile) => done.unwrap(),
    }
    assert_still_in(&mut first, 9).await;
    assert!(scene.backend.seen().iter().all(|seen| seen.name.starts_with("Known")));
    assert!(!scene.audit.lines().iter().any(|line| line.contains("\"to\":\"down\"")));
    // Nobody reads a line for each of them.
    let (text, came) = (logs.text(), came.into_inner());
    let lines = text.lines().filter(|line| line.contains("INFO") || line.contains("WARN")).count();
    assert!(lines < 400 && came > 1000, "{lines} lines for {came}");
    assert!(text.contains("network.max-connections is all but reached"), "{text}");
    assert!(!text.contains("panicked"));
    scene.proxy.stop().await;
    let (told, clean) = first.rest().await;
    let said = told.iter().any(|packet| String::from_utf8_lossy(packet).contains(RESTARTS));
    assert!(clean && said, "{told:?}");
}
