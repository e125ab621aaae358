//! PINs in the game, as a whole: what players type and read, what their backend gets to see of it, and what is written
//! down. Each step over real sockets, at releases from 1.8 to the last one without dialogs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "pins/held.rs"]
mod held;
mod support;

use std::time::Duration;

use postern::mojang::health::{ForcedVerdict, Override};
use serde_json::Value;
use support::{
    Backend, End, Mode, Player, Setup,
    backend::BackendKind,
    logs::Logs,
    mmdb::{self, Mmdb},
    scene::{MODERN, Scene, is_in, refuse_at_once, until},
    wire::Out,
    world::{Ids, Resident, Shown, WITHOUT_DIALOGS, World},
};

const CODE: &str = "Zq7Wx4Lt9";
const OTHER: &str = "hV3nB8yRk2";
const SAVED: &str = "Your PIN is saved";
const ACTIVE: &str = "Authentication servers are down";
const PROMPT: &str = "Please verify your identity";

/// The program between a world and players.
struct Game {
    scene: Scene,
    world: World,
}

impl Game {
    async fn new(security: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let world = World::start().await;
        let backend = Backend::start(BackendKind::Plain, None).await;
        let address = (backend.address.to_string(), world.address.to_string());
        let scene = Scene::around(backend, "", |setup| {
            change(
                setup
                    .replace(&address.0, &address.1)
                    .replace("mode: modern", "mode: none")
                    .replace("security:\n", &format!("security:\n{security}")),
            )
        })
        .await;
        Self { scene, world }
    }

    /// The same players, and the session server in another mode from the start.
    async fn restart(mut self, mode: Mode) -> Self {
        self.scene = self.scene.restart(mode).await;
        self.scene.audit.state(if mode == Mode::Up { "up" } else { "down" }).await;
        self
    }

    /// Into the world.
    async fn join(&self, protocol: i32, player: &Player) -> Resident {
        let (client, end) = self.scene.join(protocol, player).await;
        assert!(is_in(&end), "{protocol} {}: {end:?}", player.name);
        Resident::enter(client).await
    }

    async fn gone(&self) {
        self.scene.gone().await;
    }

    /// What the owner orders for a while, which takes effect at once.
    async fn force(&self, verdict: ForcedVerdict) {
        let order = Override { verdict, lasting: Duration::from_mins(10) };
        self.scene.proxy.health().set_override(order).await.unwrap();
    }

    /// Into the world, from that address.
    async fn join_from(&self, source: &str, protocol: i32, player: &Player) -> Resident {
        let (client, end) = self.scene.join_from(source, protocol, player).await;
        assert!(is_in(&end), "{source} {protocol} {}: {end:?}", player.name);
        Resident::enter(client).await
    }

    /// A player who has that PIN, set in health, and left.
    async fn with_pin(&mut self, protocol: i32, name: &str) -> Player {
        let player = Player::new(name);
        let mut resident = self.join(protocol, &player).await;
        resident.say(&format!("/setpin {CODE}")).await;
        resident.until(SAVED).await;
        drop(resident);
        self.gone().await;
        player
    }

    /// The stored hash of a player's PIN.
    fn hash(&self, player: &Player) -> Option<String> {
        let text = std::fs::read_to_string(self.scene.setup.document(player.id)).unwrap_or_default();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        document["pin_hash"].as_str().map(str::to_owned)
    }

    /// The backend got nothing that tells of a command.
    fn saw_no_command(&self, name: &str) {
        for packet in self.world.got(name) {
            let text = String::from_utf8_lossy(&packet).to_lowercase();
            assert!(!text.contains("pin") && !text.contains(&CODE.to_lowercase()), "{name}: {packet:?}");
        }
    }
}

fn name(protocol: i32) -> String {
    format!("P{protocol}")
}

/// No code is in anything that was written.
fn holds_no_code(game: &Game, logs: &Logs) {
    let mut written = game.scene.audit.lines().join("\n");
    written.push_str(&logs.text());
    for code in [CODE, OTHER] {
        assert!(!written.contains(code), "a code was written down");
    }
}

#[tokio::test]
async fn a_pin_is_set_in_health_and_the_backend_learns_nothing() {
    let (logs, _kept) = Logs::keep();
    let mut game = Game::new("", |setup| setup).await;
    for &protocol in WITHOUT_DIALOGS.iter().chain(&[MODERN]) {
        let player = Player::new(&name(protocol));
        let mut resident = game.join(protocol, &player).await;
        // In any spelling.
        resident.say(&format!("/MINECRAFT:SetPin  {CODE} ")).await;
        resident.until(SAVED).await;
        // Durable by the time that is said.
        assert!(game.hash(&player).unwrap().starts_with("$argon2id$"), "{protocol}");
        let event = game.scene.audit.next("pin.set", |_| true).await;
        assert_eq!((&event["player"], &event["replaced"]), (&player.name.as_str().into(), &false.into()));
        assert_eq!(event["id"], player.id.to_string());
        // At once another: too fast, and heard of once.
        resident.say(&format!("/setpin {OTHER}")).await;
        resident.until("Not so fast").await;
        resident.say("/resetpin").await;
        assert!(resident.echo().await.is_empty(), "{protocol}");
        game.saw_no_command(&player.name);
        // What is not a command passes.
        resident.say("/pinata").await;
        game.world.until(&player.name, |packet| packet.windows(6).any(|part| part == b"pinata")).await;
    }
    holds_no_code(&game, &logs);
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn what_may_be_done_to_a_pin() {
    let (logs, _kept) = Logs::keep();
    let mut game = Game::new("  pin-min-length: 8\n", |setup| setup).await;
    let player = Player::new("Careful");
    // Each on a connection of its own: there is a pause between two commands of one.
    for (command, answer) in [
        ("/resetpin", "You have no PIN"),
        ("/pin", "Use /setpin"),
        ("/setpin", "Use /setpin"),
        ("/setpin short1", "cannot be used: it needs at least 8 letters and digits."),
        (
            &format!("/setpin {}", "k7Q".repeat(11)),
            "cannot be used: it may have at most 32 letters and digits.",
        ),
        ("/setpin 12345678", "cannot be used: it is easy to guess, as it only repeats"),
        ("/setpin aaaaaaaaaa", "cannot be used: it is easy to guess, as it only repeats"),
        ("/setpin careful1", "cannot be used: it is easy to guess, as it is hardly more than your name."),
        (
            "/setpin two words",
            "cannot be used: it may have only digits and letters from A to Z, and no spaces.",
        ),
        (&format!("/pin {CODE}"), SAVED),
        (&format!("/pin {OTHER}"), "You have a PIN already"),
        (&format!("/setpin {OTHER}"), SAVED),
        ("/resetpin", "Your PIN is removed"),
        ("/resetpin", "You have no PIN"),
    ] {
        let before = game.hash(&player);
        let mut resident = game.join(763, &player).await;
        resident.say(command).await;
        resident.until(answer).await;
        let after = game.hash(&player);
        let changes = answer == SAVED || answer.ends_with("removed");
        assert_eq!(before != after, changes, "{command}");
        drop(resident);
        game.gone().await;
    }
    for (kind, replaced) in [("pin.set", Some(false)), ("pin.set", Some(true)), ("pin.reset", None)] {
        let event = game.scene.audit.next(kind, |_| true).await;
        assert_eq!(event["replaced"].as_bool(), replaced, "{event}");
    }
    game.saw_no_command("Careful");
    holds_no_code(&game, &logs);
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn without_pin_commands_they_belong_to_the_backend() {
    let game = Game::new("  pin-commands: false\n", |setup| setup).await;
    for protocol in [340, 763, 767, MODERN] {
        let player = Player::new(&name(protocol));
        let mut resident = game.join(protocol, &player).await;
        resident.say("/setpin not-ours").await;
        game.world.until(&player.name, |packet| packet.windows(8).any(|part| part == b"not-ours")).await;
        assert!(resident.echo().await.is_empty());
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn who_needs_a_pin_is_reminded_until_there_is_one() {
    let game = Game::new("  require-pin-on-fallback: true\n", |setup| setup).await;
    for protocol in [47, 758, 760, 765, MODERN] {
        let player = Player::new(&name(protocol));
        let mut resident = game.join(protocol, &player).await;
        assert!(resident.line().await.starts_with("Pins are required"), "{protocol}");
        resident.say(&format!("/pin {CODE}")).await;
        resident.until(SAVED).await;
        drop(resident);
        game.gone().await;
        let mut resident = game.join(protocol, &player).await;
        assert!(resident.echo().await.is_empty(), "{protocol}");
        drop(resident);
        game.gone().await;
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn a_fallback_player_hears_of_the_outage_first_and_has_no_say_about_pins() {
    let mut game = Game::new("", |setup| setup).await;
    let protocols = [47, 340, 754, 758, 759, 763, 767, MODERN];
    for protocol in protocols {
        drop(game.join(protocol, &Player::new(&name(protocol))).await);
        game.gone().await;
    }
    game.scene.go_down().await;
    for protocol in protocols {
        let player = Player::new(&name(protocol));
        for command in [&format!("/setpin {CODE}"), &format!("/pin {CODE}"), "/resetpin"] {
            let mut resident = game.join(protocol, &player).await;
            assert!(resident.line().await.starts_with(ACTIVE), "{protocol}");
            resident.say(command).await;
            resident.until("only after you joined").await;
            drop(resident);
            game.gone().await;
        }
        assert_eq!(game.hash(&player), None);
        game.saw_no_command(&player.name);
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn a_pin_is_not_removed_while_nobody_can_vouch_for_the_player() {
    let mut game = Game::new("", |setup| setup).await;
    let player = Player::new("Keeper");
    let mut resident = game.join(763, &player).await;
    resident.say(&format!("/setpin {CODE}")).await;
    resident.until(SAVED).await;
    drop(resident);
    game.gone().await;
    let mut resident = game.join(763, &player).await;
    game.scene.go_down().await;
    resident.say("/resetpin").await;
    resident.until("only while the authentication servers are online").await;
    assert!(game.hash(&player).is_some());
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn in_an_outage_a_player_is_held_until_its_pin_is_right() {
    let (logs, _kept) = Logs::keep();
    let mut game = Game::new("", |setup| setup).await;
    for &protocol in WITHOUT_DIALOGS {
        game.with_pin(protocol, &name(protocol)).await;
    }
    let mut game = game.restart(Mode::Down).await;
    for (index, &protocol) in WITHOUT_DIALOGS.iter().enumerate() {
        let player = Player::new(&name(protocol));
        let before = game.world.got(&player.name).len();
        let mut resident = game.join(protocol, &player).await;
        let event = game.scene.audit.next("pin.prompted", |_| true).await;
        assert_eq!((&event["player"], &event["gate"]), (&player.name.as_str().into(), &"quarantine".into()));
        assert!(resident.line().await.starts_with(ACTIVE), "{protocol}");
        let prompt = resident.line().await;
        assert!(prompt.starts_with(PROMPT) && prompt.ends_with("60s"), "{protocol}: {prompt}");
        assert!(matches!(resident.next().await, Shown::Bar(text) if text.contains(PROMPT)), "{protocol}");
        // Nothing that it does passes.
        resident.client.send(Out::id(resident.ids.arm)).await;
        resident.say("hello?").await;
        resident.say("/kill everybody").await;
        resident.say(&format!("/setpin {OTHER}")).await;
        resident.until(PROMPT).await;
        assert_eq!(game.scene.proxy.players(), 0, "nobody is in");
        drop(resident);
        game.world.left(&player.name).await;
        // Of more than ten in a minute some become a count.
        if index < 10 {
            let left = |event: &Value| event["player"] == player.name.as_str();
            let event = game.scene.audit.next("login.refused", left).await;
            let facts = &event["facts"];
            assert_eq!((&event["reason"], &facts["gate"]), (&"client-left".into(), &"quarantine".into()));
            // With what policy weighed when it let the player come so far.
            assert_eq!(
                (&facts["address_match"], &facts["must_prove_pin"], &facts["in_place"]),
                (&"exact".into(), &true.into(), &false.into()),
                "{facts}"
            );
        }

        // Right.
        let mut resident = game.join(protocol, &player).await;
        resident.until(PROMPT).await;
        resident.say(&format!("/PIN {CODE}")).await;
        resident.until("Verification successful").await;
        game.scene.audit.next("pin.verified", |_| true).await;
        let event = game.scene.audit.next("login.fallback", |_| true).await;
        assert_eq!((&event["player"], &event["proof"]), (&player.name.as_str().into(), &"pinned".into()));
        assert_eq!(game.scene.proxy.players(), 1);
        // From now on everything passes.
        resident.client.send(Out::id(resident.ids.arm)).await;
        let arm = resident.ids.arm;
        game.world.until(&player.name, |packet| packet == [arm]).await;
        let got = &game.world.got(&player.name)[before..];
        assert_eq!(got.iter().filter(|packet| ***packet == [arm]).count(), 1, "{protocol}: {got:?}");
        assert!(
            !got.iter().any(|packet| String::from_utf8_lossy(packet).contains("everybody")),
            "{protocol}"
        );
        game.saw_no_command(&player.name);
        drop(resident);
        game.gone().await;
    }
    holds_no_code(&game, &logs);
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn a_held_player_sees_nothing_of_the_others() {
    let mut game = Game::new("", |setup| setup).await;
    for protocol in [758, 759, 763, 767] {
        game.with_pin(protocol, &name(protocol)).await;
    }
    let game = game.restart(Mode::Down).await;
    for protocol in [758, 759, 763, 767] {
        let player = Player::new(&name(protocol));
        let mut resident = game.join(protocol, &player).await;
        resident.until(PROMPT).await;
        let ids = resident.ids;
        let channel = Out::id(ids.plugin).str("shop:secrets").raw(b"hush");
        game.world.send(&player.name, channel);
        if let Some(player_chat) = ids.player_chat {
            game.world.send(&player.name, Out::id(player_chat).raw(&[0; 80]));
        } else {
            let said = Out::id(ids.line).str(r#"{"text":"<Ann> psst"}"#).raw(&[0]).raw(&[5; 16]);
            game.world.send(&player.name, said);
        }
        game.world.send(&player.name, ids.line("from the server itself"));
        loop {
            match resident.next().await {
                Shown::Line(text) if text == "from the server itself" => break,
                Shown::Line(text) => assert!(text.starts_with(PROMPT), "{protocol}: {text}"),
                Shown::Bar(_) => {}
                Shown::Other(packet) => panic!("{protocol}: {packet:?}"),
                end => panic!("{protocol}: {end:?}"),
            }
        }
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn three_wrong_codes_end_it_and_who_leaves_has_failed() {
    let (logs, _kept) = Logs::keep();
    let mut game = Game::new("  max-failed-attempts: 100\n", |setup| setup).await;
    let protocol = 763;
    let player = game.with_pin(protocol, "Guessed").await;
    let mut game = game.restart(Mode::Down).await;
    let mut resident = game.join(protocol, &player).await;
    resident.until(PROMPT).await;
    for left in [2, 1, 0] {
        // There has to be a pause between two commands: those that come too early cost nothing.
        let (mut again, mut byte) = (tokio::time::interval(Duration::from_millis(100)), [0]);
        loop {
            tokio::select! {
                biased;
                _ = resident.client.stream.peek(&mut byte) => match resident.next().await {
                    Shown::Line(text) if text.starts_with("Incorrect") && left > 0 => break,
                    Shown::Kicked(text) if text.starts_with("Incorrect") && left == 0 => break,
                    Shown::Line(_) | Shown::Bar(_) => {}
                    shown => panic!("{left} left: {shown:?}"),
                },
                _ = again.tick() => resident.say(&format!("/pin {OTHER}")).await,
            }
        }
        let event = game.scene.audit.next("pin.failed", |_| true).await;
        assert_eq!(event["tries_left"], left);
    }
    let event = game.scene.audit.reason("pin-failed").await;
    assert_eq!(
        (&event["facts"]["gate"], &event["id"]),
        (&"quarantine".into(), &player.id.to_string().into())
    );
    game.saw_no_command("Guessed");
    holds_no_code(&game, &logs);
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn who_takes_too_long_has_to_go() {
    let mut game = Game::new("  pin-timeout-seconds: 1\n", |setup| setup).await;
    let protocols = [47, 340, 759, 765, 769];
    for protocol in protocols {
        game.with_pin(protocol, &name(protocol)).await;
    }
    let mut game = game.restart(Mode::Down).await;
    // Side by side: each takes its second.
    let mut residents = Vec::new();
    for protocol in protocols {
        residents.push(game.join(protocol, &Player::new(&name(protocol))).await);
    }
    for mut resident in residents {
        let protocol = resident.ids.protocol;
        assert!(resident.kicked().await.starts_with("Incorrect PIN"), "{protocol}");
    }
    for _ in protocols {
        game.scene.audit.reason("pin-timeout").await;
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn who_knew_dialogs_is_not_taken_without_them() {
    let mut game = Game::new("", refuse_at_once).await;
    let player = game.with_pin(MODERN, "Modern").await;
    let mut game = game.restart(Mode::Down).await;
    for protocol in [340, 763, 765, 769] {
        let (_, end) = game.scene.join(protocol, &player).await;
        assert!(matches!(&end, End::Refused(text) if text.contains("newer")), "{protocol}: {end:?}");
        game.scene.audit.reason("weaker-client").await;
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn staff_hears_of_an_outage_and_of_who_joins_in_it() {
    let mut game = Game::new("", |setup| {
        let mut setup = setup.behind_a_proxy();
        setup.text.push_str("alerts:\n  staff: [\"bOSS\"]\n");
        setup
    })
    .await;
    let home = "203.0.113.5";
    let friends: Vec<Player> = (0..8).map(|n| Player::new(&format!("Friend{n}"))).collect();
    for friend in &friends {
        let (client, end) = game.scene.join_from(home, 763, friend).await;
        assert!(is_in(&end));
        drop(client);
        game.gone().await;
    }
    let (client, end) = game.scene.join_from(home, 763, &Player::new("Boss")).await;
    assert!(is_in(&end));
    let mut boss = Resident::enter(client).await;
    let (client, end) = game.scene.join_from(home, 763, &Player::new("Guest")).await;
    assert!(is_in(&end));
    let mut guest = Resident::enter(client).await;
    game.scene.go_down().await;
    let line = boss.until("authentication servers: down").await;
    assert!(line.contains("failed checks or logins"), "{line}");

    let mut clients = Vec::new();
    for friend in &friends {
        let (client, end) = game.scene.join_from(home, 763, friend).await;
        assert!(is_in(&end), "{end:?}");
        clients.push(client);
        game.scene.audit.next("login.fallback", |_| true).await;
    }
    // A few lines, and what was left out in one: nobody is missing. How many are summed up depends on how long the
    // logins took.
    let (mut told, mut sums) = (0, 0);
    while told < friends.len() {
        let line = boss.line().await;
        if let Some((_, count)) = line.split_once("and more: ") {
            sums += 1;
            told += count.split(' ').next().unwrap().parse::<usize>().unwrap();
        } else {
            told += 1;
            assert!(line.contains("joined without Mojang"), "{line}");
        }
    }
    assert_eq!(told, friends.len());
    assert!(sums > 0, "eight of them within a moment");
    // Then there is room again for lines that tell all.
    drop(clients);
    let (line, _client) = loop {
        until(|| game.scene.proxy.players() == 2).await;
        // On a slow machine this takes longer than anybody may be silent.
        boss.say("still here").await;
        guest.say("still here").await;
        let (client, end) = game.scene.join_from(home, 763, &friends[0]).await;
        assert!(is_in(&end), "{end:?}");
        let line = boss.line().await;
        if !line.contains("and more: ") {
            break (line, client);
        }
    };
    assert!(line.contains("Friend0 joined without Mojang from 203.0.113.5"), "{line}");
    assert!(line.contains("verified at this address") && line.contains("outage for"), "{line}");
    assert!(guest.echo().await.is_empty(), "nobody else is told");
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn staff_who_is_not_proven_hears_nothing() {
    let mut game = Game::new("  alert-on-fallback: true\n", |mut setup| {
        setup.text.push_str("alerts:\n  staff: [Boss]\n");
        setup
    })
    .await;
    let (boss, friend) = (Player::new("Boss"), Player::new("Friend"));
    for player in [&boss, &friend] {
        drop(game.join(763, player).await);
        game.gone().await;
    }
    game.scene.go_down().await;
    let mut resident = game.join(763, &boss).await;
    assert!(resident.line().await.starts_with(ACTIVE));
    let (_client, end) = game.scene.join(763, &friend).await;
    assert!(is_in(&end));
    game.scene.audit.next("login.fallback", |event| event["player"] == "Friend").await;
    assert!(resident.echo().await.is_empty());
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn staff_who_proved_its_pin_is_told() {
    let mut game = Game::new("", |mut setup| {
        setup.text.push_str("alerts:\n  staff: [Boss]\n");
        setup
    })
    .await;
    let boss = game.with_pin(763, "Boss").await;
    drop(game.join(763, &Player::new("Friend")).await);
    game.gone().await;
    let mut game = game.restart(Mode::Down).await;
    // What nobody is there to read takes no room from what is told later.
    for verdict in [ForcedVerdict::Up, ForcedVerdict::Down].repeat(3) {
        game.force(verdict).await;
    }
    let mut resident = game.join(763, &boss).await;
    resident.until(PROMPT).await;
    resident.say(&format!("/pin {CODE}")).await;
    resident.until("Verification successful").await;
    let (_client, end) = game.scene.join(763, &Player::new("Friend")).await;
    assert!(is_in(&end));
    resident.until("Friend joined without Mojang").await;
    game.scene.audit.next("login.fallback", |event| event["player"] == "Friend").await;
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn outage_logins_can_be_left_out_of_the_alerts() {
    let mut game = Game::new("  alert-on-fallback: false\n", |mut setup| {
        setup.text.push_str("alerts:\n  staff: [Boss]\n");
        setup
    })
    .await;
    drop(game.join(763, &Player::new("Friend")).await);
    game.gone().await;
    let mut boss = game.join(763, &Player::new("Boss")).await;
    game.force(ForcedVerdict::Down).await;
    boss.until("authentication servers: down").await;
    let (_client, end) = game.scene.join(763, &Player::new("Friend")).await;
    assert!(is_in(&end));
    game.scene.audit.next("login.fallback", |_| true).await;
    game.force(ForcedVerdict::Up).await;
    // What comes next is of what came next.
    let line = boss.line().await;
    assert!(line.contains("authentication servers: up"), "{line}");
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn staff_hears_of_who_comes_from_another_network() {
    let mut game = Game::new("", |setup| {
        let countries = Mmdb::v4("GeoLite2-Country").with("203.0.113.0/24", &mmdb::country("DE"));
        let countries = countries.with("198.51.100.0/24", &mmdb::country("FR"));
        std::fs::write(setup.folder.path().join("country.mmdb"), countries.bytes()).unwrap();
        let mut setup = setup
            .behind_a_proxy()
            .replace("enable-geo-checks: false", "enable-geo-checks: true")
            .replace("monitoring:\n", "monitoring:\n  geo-country-database: country.mmdb\n");
        setup.text.push_str("alerts:\n  staff: [Boss]\n");
        setup
    })
    .await;
    let mut boss = game.join_from("203.0.113.7", 763, &Player::new("Boss")).await;
    let traveller = Player::new("Traveller");
    drop(game.join_from("203.0.113.5", 763, &traveller).await);
    until(|| game.scene.proxy.players() == 1).await;
    // Where that was is looked up behind the player's back.
    until(|| {
        let document = std::fs::read_to_string(game.scene.setup.document(traveller.id));
        document.is_ok_and(|text| text.contains("\"DE\""))
    })
    .await;
    let _resident = game.join_from("198.51.100.5", 763, &traveller).await;
    let line = boss.until("Traveller came from").await;
    assert_eq!(
        line,
        "[Postern] Traveller came from country FR (198.51.100.5, verified), so far from country DE"
    );
    game.scene.audit.next("geo.changed", |_| true).await;
    game.scene.proxy.stop().await;
}

#[test]
fn ids_are_those_of_one_release_each() {
    for protocol in WITHOUT_DIALOGS {
        assert_eq!(Ids::of(*protocol).protocol, *protocol);
    }
}
