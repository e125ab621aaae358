//! Outage logins judged: every rule as a whole login, with the players' addresses given by PROXY headers, and what
//! failures come to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use postern::clock::Clock;
use support::{Client, End, Mode, Player, Setup, proxy::address, scene::*};

const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.66";
const ABROAD: &str = "198.51.100.9";
const SCHOOL: &str = "192.0.2.50";
const LAN: &str = "10.0.0.7";
const HOME6: &str = "2001:db8:1:2::5";
const SAME_64: &str = "2001:db8:1:2:ffff::9";

const EXPIRED: &str = "session has expired";
const UNPROVEN: &str = "address";
const TOO_MANY: &str = "Too many failed attempts";

fn judged(setup: Setup) -> Setup {
    refuse_at_once(setup.behind_a_proxy())
}

fn hours_ago(hours: i64) -> serde_json::Value {
    (Clock::system().now() - jiff::SignedDuration::from_hours(hours)).to_string().into()
}

#[tokio::test]
async fn every_rule_refuses_with_its_reason() {
    let required = Player::new("Required");
    let mut scene = Scene::with("", |setup| {
        judged(setup)
            .replace("min-login-history: 1", "min-login-history: 2\n  recent-activity-days: 1")
            .replace("max-accounts-per-address: 100", "max-accounts-per-address: 3")
            .replace("security:\n", &format!("security:\n  require-mojang-auth: [{}]\n", required.id))
    })
    .await;
    let homes = [
        ("Required", HOME),
        ("Locked", HOME),
        ("Expired", NEXT_DOOR),
        ("Inactive", "203.0.113.67"),
        ("Private", LAN),
        ("Mover", "203.0.113.68"),
        ("Sixth", HOME6),
        ("Shared1", SCHOOL),
        ("Shared2", SCHOOL),
        ("Shared3", SCHOOL),
        ("Shared4", SCHOOL),
        ("Online", "203.0.113.69"),
    ];
    let mut players = std::collections::HashMap::new();
    for (name, home) in homes {
        scene.make_known_at(home, name).await;
        players.insert(name, scene.make_known_at(home, name).await);
    }
    let newcomer = scene.make_known_at("203.0.113.70", "Newcomer").await;
    let ids: Vec<_> = ["Locked", "Expired", "Inactive"].map(|name| players[name].id).into();
    let mut scene = scene
        .restart_after(Mode::Up, |setup| {
            setup.edit(ids[0], "locked", true.into());
            for (id, hours) in [(ids[1], 100), (ids[2], 30)] {
                setup.edit(id, "last_verified", hours_ago(hours));
                setup.edit(id, "last_present", hours_ago(hours));
            }
        })
        .await;
    scene.audit.state("up").await;
    let (online, end) = scene.join_from("203.0.113.69", MODERN, &players["Online"]).await;
    assert!(is_in(&end));
    scene.go_down().await;

    scene.refused_from(HOME, &players["Required"], "servers appear to be down", "mojang-required").await;
    scene.refused_from(HOME, &Player::new("Stranger"), NO_SESSION, "no-session").await;
    scene.refused_from(HOME, &Player::impostor("Locked"), NO_SESSION, "id-mismatch").await;
    scene.refused_from(HOME, &players["Locked"], "locked", "locked").await;
    scene.refused_from(NEXT_DOOR, &players["Expired"], EXPIRED, "session-expired").await;
    scene.refused_from("203.0.113.67", &players["Inactive"], EXPIRED, "inactive").await;
    scene.refused_from("203.0.113.70", &newcomer, "", "short-history").await;
    scene.refused_from(LAN, &players["Private"], UNPROVEN, "private-address").await;
    scene.refused_from(SCHOOL, &players["Shared1"], UNPROVEN, "shared-address").await;
    let event = scene.refused_from(ABROAD, &players["Mover"], UNPROVEN, "address-changed").await;
    assert_eq!((&event["address"], &event["facts"]["address_match"]), (&ABROAD.into(), &"none".into()));
    scene.refused_from("203.0.113.69", &players["Online"], "already connected", "already-online").await;
    drop(online);
    scene.gone().await;

    // Exactly there, in its range, and in IPv6 in the same /64.
    for (source, name, matched) in [
        ("203.0.113.68", "Mover", "exact"),
        (HOME, "Mover", "range"),
        (HOME6, "Sixth", "exact"),
        (SAME_64, "Sixth", "range"),
    ] {
        let event = scene.admitted_from(source, &players[name]).await;
        assert_eq!(event["facts"]["address_match"], matched, "{source}");
    }
    let event = scene.refused_from("2001:db8:1:3::5", &players["Sixth"], UNPROVEN, "address-changed").await;
    assert_eq!(event["id"], players["Sixth"].id.to_string());
}

#[tokio::test]
async fn who_fails_too_often_is_banned_beyond_a_restart() {
    let mut scene = Scene::with("", |setup| {
        judged(setup).replace("security:\n", "security:\n  max-failed-attempts: 3\n")
    })
    .await;
    let known = scene.make_known_at(HOME, "Known").await;
    let other = scene.make_known_at(ABROAD, "Other").await;
    // Definite noes of the session server, from one address.
    for name in ["Guess1", "Guess2", "Guess3"] {
        scene.refused_from("198.51.100.77", &Player::impostor(name), FAILED_TO_VERIFY, "not-joined").await;
    }
    let event = scene.setup.audit().next("ban.added", |_| true).await;
    assert_eq!((&event["target"], &event["failures"]), (&"198.51.100.77".into(), &3.into()), "{event}");
    // Online, the session server's word counts, and nothing else.
    let (_, end) = scene.join_from("198.51.100.77", MODERN, &other).await;
    assert!(matches!(end, End::In { authenticated: true, .. }), "{end:?}");
    scene.audit.next("login.verified", |_| true).await;
    scene.gone().await;

    let mut scene = scene.restart(Mode::Down).await;
    scene.audit.state("down").await;
    let event = scene.refused_from("198.51.100.77", &known, TOO_MANY, "banned").await;
    assert_eq!(event["facts"]["banned"], serde_json::json!(["address"]));
    // Its address by now, verified for it.
    scene.admitted_from("198.51.100.77", &other).await;
    scene.admitted_from(HOME, &known).await;
    let file = std::fs::read_to_string(scene.setup.folder.path().join("bans.json")).unwrap();
    assert!(file.contains("198.51.100.77"), "{file}");
}

/// However often somebody fails under a player's name, wherever: the player still comes in from its own addresses.
#[tokio::test]
async fn nobody_can_lock_a_player_out() {
    let mut scene = Scene::with("", |setup| {
        judged(setup).replace(
            "security:\n",
            "security:\n  max-failed-attempts: 3\n  max-failed-attempts-per-subnet: 6\n",
        )
    })
    .await;
    let victim = scene.make_known_at(HOME, "Victim").await;
    let neighbour = scene.make_known_at("203.0.113.9", "Neighbour").await;
    // At the victim's own address, under its name: somebody behind the same router.
    for _ in 0..8 {
        scene.refused_from(HOME, &Player::thief("Victim"), FAILED_TO_VERIFY, "not-joined").await;
    }
    scene.go_down().await;
    // From everywhere in its subnet, and from another one.
    for host in 100..110 {
        let source = format!("203.0.113.{host}");
        let (_, end) = scene.join_from(&source, MODERN, &Player::impostor("Victim")).await;
        assert!(matches!(end, End::Refused(_)), "{end:?}");
        let (_, end) = scene.join_from(&format!("198.51.100.{host}"), MODERN, &Player::thief("Victim")).await;
        assert!(matches!(end, End::Refused(_)), "{end:?}");
    }
    for target in ["203.0.113.0/24", "198.51.100.0/24"] {
        scene.setup.audit().next("ban.added", |event| event["target"] == target).await;
    }
    scene.admitted_from(HOME, &victim).await;
    scene.admitted_from("203.0.113.9", &neighbour).await;
    // Where nothing was verified for it, it has to do with the ban like everybody.
    scene.refused_from("203.0.113.10", &victim, TOO_MANY, "banned").await;
    scene.refused_from(ABROAD, &victim, TOO_MANY, "banned").await;
}

/// Impatience is no failure: neither the same refusal again, nor any that is nobody's fault.
#[tokio::test]
async fn impatient_friends_ban_nobody() {
    let mut scene = Scene::with("", |setup| {
        judged(setup).replace("security:\n", "security:\n  max-failed-attempts: 2\n")
    })
    .await;
    let friend = scene.make_known_at(HOME, "Friend").await;
    scene.go_down().await;
    for _ in 0..6 {
        scene.refused_from(ABROAD, &friend, UNPROVEN, "address-changed").await;
        scene.refused_from(ABROAD, &Player::new("Stranger"), NO_SESSION, "no-session").await;
    }
    // A second name fails there: now it is two.
    scene.refused_from(ABROAD, &Player::impostor("friend"), NO_SESSION, "id-mismatch").await;
    assert!(!scene.audit.lines().iter().any(|line| line.contains("ban.added")));
}

/// A client that does not wait for its refusal fails all the same.
#[tokio::test]
async fn hanging_up_hides_no_failure() {
    let mut scene = Scene::with("", |setup| {
        setup.behind_a_proxy().replace("security:\n", "security:\n  max-failed-attempts: 2\n")
    })
    .await;
    for name in ["First", "Second"] {
        scene.make_known_at(HOME, name).await;
    }
    scene.go_down().await;
    for name in ["First", "Second"] {
        let mut client = Client::connect_from(ABROAD, address(&scene.proxy), MODERN).await;
        client.handshake("play.example.com", 2).await;
        client.login_start(name, Player::new(name).id).await;
        assert_eq!(client.recv().await.unwrap()[0], 1, "it is offered the online login");
        drop(client);
        let event = scene.audit.reason("client-left").await;
        assert_eq!(event["facts"]["refused_as"], "address-changed");
    }
    let event = scene.setup.audit().next("ban.added", |_| true).await;
    assert_eq!(event["target"], ABROAD);
}

#[tokio::test]
async fn every_verified_login_is_a_rehearsal() {
    let mut scene = Scene::with("", judged).await;
    let player = Player::new("Known");
    let mut told = Vec::new();
    for source in [HOME, HOME, NEXT_DOOR, ABROAD] {
        let (client, end) = scene.join_from(source, MODERN, &player).await;
        assert!(is_in(&end));
        drop(client);
        let event = scene.audit.next("login.verified", |_| true).await;
        told.push(event["facts"]["in_an_outage"].clone());
        scene.gone().await;
    }
    assert_eq!(told, ["no-session", "ok", "ok", "address-changed"]);
    let scene = scene.restart(Mode::Up).await;
    let document = &scene.setup.sessions()["Known"];
    let rehearsal = &document["rehearsal"];
    assert_eq!((&rehearsal["address"], &rehearsal["protocol"]), (&ABROAD.into(), &MODERN.into()));
    assert_eq!(rehearsal["at"], document["last_verified"]);
    let before: Vec<_> = rehearsal["addresses"].as_array().unwrap().iter().map(|a| &a["address"]).collect();
    assert_eq!(before, [NEXT_DOOR], "one per range, its newest");
}
