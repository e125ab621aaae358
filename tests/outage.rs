//! Outage logins judged: every rule as a whole login, with the players' addresses given by PROXY headers, and what
//! failures come to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use postern::clock::Clock;
use support::{
    Client, End, Mode, Player, Setup, dialog,
    mmdb::{self, Mmdb},
    proxy::address,
    scene::*,
    wire::Out,
};

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
    // The same name, however it is spelt and whatever it is refused for.
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

/// Nor one that waits for its login to run out of time, or sends what makes no sense.
#[tokio::test(start_paused = true)]
async fn silence_and_nonsense_hide_no_failure() {
    let mut scene = Scene::with("", |setup| {
        setup.behind_a_proxy().replace("security:\n", "security:\n  max-failed-attempts: 2\n")
    })
    .await;
    for name in ["Silent", "Garbled"] {
        scene.make_known_at(HOME, name).await;
    }
    scene.go_down().await;
    for (name, reason) in [("Silent", "client-timeout"), ("Garbled", "bad-handshake")] {
        let mut client = Client::connect_from(ABROAD, address(&scene.proxy), MODERN).await;
        client.handshake("play.example.com", 2).await;
        client.login_start(name, Player::new(name).id).await;
        assert_eq!(client.recv().await.unwrap()[0], 1, "it is offered the online login");
        if reason == "bad-handshake" {
            client.send(Out::id(1).bytes(&[7; 128]).bytes(&[7; 128])).await;
        }
        let event = scene.audit.reason(reason).await;
        assert_eq!(event["facts"]["refused_as"], "address-changed");
        assert_eq!(event["facts"]["address_match"], "none", "what the rules weighed is told");
        assert_eq!(event["id"], Player::new(name).id.to_string());
    }
    scene.setup.audit().next("ban.added", |event| event["target"] == ABROAD).await;
}

/// All of a /64 is one client to bans, and one home to those who live in it.
#[tokio::test]
async fn nobody_in_a_players_own_64_locks_it_out() {
    let mut scene = Scene::with("", |setup| {
        judged(setup).replace("security:\n", "security:\n  max-failed-attempts: 3\n")
    })
    .await;
    let victim = scene.make_known_at(HOME6, "Victim").await;
    for _ in 0..4 {
        scene.refused_from(SAME_64, &Player::thief("Victim"), FAILED_TO_VERIFY, "not-joined").await;
    }
    scene.setup.audit().next("ban.added", |event| event["target"] == "2001:db8:1:2::/64").await;
    scene.go_down().await;
    scene.admitted_from(HOME6, &victim).await;
    let event = scene.refused_from(SAME_64, &victim, TOO_MANY, "banned").await;
    assert_eq!(event["facts"]["banned"], serde_json::json!(["address"]));
}

/// Under a player's name at a foreign address the pair of both is banned; until the player proves to be there.
#[tokio::test]
async fn a_ban_of_player_and_address_ends_when_the_player_is_verified_there() {
    let mut scene = Scene::with("", |setup| {
        judged(setup).replace("security:\n", "security:\n  max-failed-attempts: 3\n")
    })
    .await;
    let player = scene.make_known_at(HOME, "Player").await;
    let other = scene.make_known_at(SCHOOL, "Other").await;
    for _ in 0..3 {
        scene.refused_from(SCHOOL, &Player::thief("Player"), FAILED_TO_VERIFY, "not-joined").await;
    }
    let pair = format!("{}@{SCHOOL}", player.id);
    let event = scene.setup.audit().next("ban.added", |event| event["target"] == pair).await;
    assert_eq!(event["id"], player.id.to_string());
    scene.go_down().await;
    let event = scene.refused_from(SCHOOL, &player, TOO_MANY, "banned").await;
    assert_eq!(event["facts"]["banned"], serde_json::json!(["address", "id-and-address"]));
    scene.admitted_from(SCHOOL, &other).await;

    scene.sessions.set(Mode::Up);
    scene.audit.state("up").await;
    scene.make_known_at(SCHOOL, "Player").await;
    scene.setup.audit().next("ban.expired", |event| event["target"] == pair).await;
    scene.go_down().await;
    scene.admitted_from(SCHOOL, &player).await;
}

/// Failures from many subnets of one provider ban it, where the address tells the provider without asking.
#[tokio::test]
async fn a_provider_is_banned_for_its_customers_failures() {
    let mut scene = Scene::with("", |setup| {
        let networks = Mmdb::v4("GeoLite2-ASN")
            .with("198.51.100.0/22", &mmdb::network(64_500))
            .with("203.0.113.0/24", &mmdb::network(64_496));
        std::fs::write(setup.folder.path().join("asn.mmdb"), networks.bytes()).unwrap();
        judged(setup)
            .replace("  enable-geo-checks: false\n", "  max-failed-attempts-per-asn: 4\n")
            .replace("monitoring:\n", "monitoring:\n  geo-asn-database: asn.mmdb\n")
    })
    .await;
    let customer = scene.make_known_at("198.51.103.5", "Customer").await;
    let elsewhere = scene.make_known_at(HOME, "Elsewhere").await;
    for subnet in 100..104 {
        let source = format!("198.51.{subnet}.77");
        scene.refused_from(&source, &Player::impostor("Guess"), FAILED_TO_VERIFY, "not-joined").await;
    }
    scene.setup.audit().next("ban.added", |event| event["target"] == "AS64500").await;
    scene.go_down().await;
    let event = scene.refused_from("198.51.101.5", &elsewhere, TOO_MANY, "banned").await;
    assert_eq!(event["facts"]["banned"], serde_json::json!(["asn"]));
    scene.refused_from("198.51.103.6", &customer, TOO_MANY, "banned").await;
    scene.admitted_from("198.51.103.5", &customer).await;
    scene.admitted_from(HOME, &elsewhere).await;
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

/// A rehearsal tells of all that would keep a player out, also what no rule of policy says.
#[tokio::test]
async fn a_rehearsal_knows_what_the_proxy_cannot_do() {
    let mut scene = Scene::with("  allow-plaintext-fallback: false\n", Setup::behind_a_proxy).await;
    let player = Player::new("Known");
    let mut told = Vec::new();
    for protocol in [765, 765, 766] {
        let (client, end) = scene.join_from(HOME, protocol, &player).await;
        assert!(is_in(&end));
        drop(client);
        let event = scene.audit.next("login.verified", |_| true).await;
        told.push(event["facts"]["in_an_outage"].clone());
        scene.gone().await;
    }
    assert_eq!(told, ["no-session", "newer-version-needed", "ok"]);
    // Whoever has a PIN will be asked for it: that keeps nobody out.
    let mut scene = dialog::restart_with_pin(scene, &player, Mode::Up).await;
    scene.audit.state("up").await;
    let (_client, end) = scene.join_from(HOME, MODERN, &player).await;
    assert!(is_in(&end));
    let event = scene.audit.next("login.verified", |_| true).await;
    assert_eq!(event["facts"]["in_an_outage"], "ok");
}
