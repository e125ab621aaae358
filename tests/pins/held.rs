//! Players who are held on their backend: the ways in which that ends, what each of them counts for, and what becomes of
//! chat that was signed meanwhile.

use super::*;
use crate::support::{
    dialog::{brand, code, dialog, refused, settings},
    scene::TRY_AGAIN,
};

/// Where the players of these tests are verified, an address of the same range, and one far away.
const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.9";
const ELSEWHERE: &str = "198.51.100.7";

const OLD: i32 = 763;
const RIGHT: &str = "Verification successful";
const REJOIN: &str = "Something you wrote could not be passed on";

/// Addresses that have to be proven, and refusals without an offer to log in with Mojang instead.
fn public(setup: Setup) -> Setup {
    refuse_at_once(setup.behind_a_proxy())
}

impl Game {
    /// A player who set that PIN in health at [`HOME`], and left.
    async fn with_pin_at_home(&mut self, name: &str) -> Player {
        let player = Player::new(name);
        let mut resident = self.join_from(HOME, OLD, &player).await;
        resident.say(&format!("/setpin {CODE}")).await;
        resident.until(SAVED).await;
        drop(resident);
        self.gone().await;
        player
    }

    /// A player who is asked for its PIN.
    async fn held_from(&self, source: &str, player: &Player) -> Resident {
        let mut resident = self.join_from(source, OLD, player).await;
        resident.until(PROMPT).await;
        resident
    }

    /// The same in a dialog, which opens before its backend knows of it.
    async fn asked(&self, player: &Player) -> support::Client {
        let (mut client, end) = self.scene.join(MODERN, player).await;
        assert!(is_in(&end), "{end:?}");
        client.send(brand()).await;
        client.send(settings(10)).await;
        client
    }

    /// How the next attempt ended that was held in vain.
    async fn ended(&mut self, reason: &str) -> Value {
        let fits = |event: &Value| event["reason"] == reason && event["facts"]["gate"] == "quarantine";
        self.scene.audit.next("login.refused", fits).await
    }

    /// A login from that address is refused with that text.
    async fn kept_out(&mut self, source: &str, player: &Player, text: &str, reason: &str) {
        let (_, end) = self.scene.join_from(source, OLD, player).await;
        assert!(matches!(&end, End::Refused(said) if said.contains(text)), "{source}: {end:?}");
        self.scene.audit.reason(reason).await;
    }

    /// Stops, and says whether an attempt at the PIN of that player counts as failed on a backend.
    async fn has_failed(self, player: &Player) -> bool {
        self.scene.proxy.stop().await;
        let document = &self.scene.setup.sessions()[&player.name];
        document["unproven_quarantine"].as_bool().unwrap_or_default()
    }

    fn count(&self, kind: &str) -> usize {
        let lines = self.scene.audit.lines();
        let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == kind).count()
    }
}

#[tokio::test]
async fn who_is_displaced_has_not_failed() {
    // A single failure would be a ban.
    let mut game = Game::new("  max-failed-attempts: 1\n", |setup| setup).await;
    let player = game.with_pin(OLD, "Twice").await;
    game.force(ForcedVerdict::Down).await;

    // By the right code in a dialog, which needs no backend to ask.
    let mut held = game.join(OLD, &player).await;
    held.until(PROMPT).await;
    let mut asked = game.asked(&player).await;
    dialog(&mut asked).await;
    let mut other = game.asked(&player).await;
    dialog(&mut other).await;
    asked.send(code(CODE)).await;
    assert_eq!(held.kicked().await, "You logged in from another place.");
    game.ended("displaced").await;
    let (text, cleared) = refused(&mut other).await;
    assert!(text.contains("You logged in from another place.") && cleared, "{text}");
    // The first lines of one who was asked before there was a world to read them in.
    let mut resident = Resident::enter(asked).await;
    assert!(resident.line().await.starts_with(ACTIVE));
    assert!(resident.line().await.starts_with(RIGHT));
    drop(resident);
    game.gone().await;

    // By the right code of one who is held after a dialog was shown.
    let mut asked = game.asked(&player).await;
    dialog(&mut asked).await;
    let mut held = game.join(OLD, &player).await;
    held.until(PROMPT).await;
    held.say(&format!("/pin {CODE}")).await;
    held.until(RIGHT).await;
    assert!(refused(&mut asked).await.0.contains("You logged in from another place."));
    drop(held);
    game.gone().await;

    // By a login that Mojang proves.
    let mut held = game.join(OLD, &player).await;
    held.until(PROMPT).await;
    game.force(ForcedVerdict::Up).await;
    let _verified = game.join(OLD, &player).await;
    assert_eq!(held.kicked().await, "You logged in from another place.");
    game.ended("displaced").await;
    assert_eq!(game.scene.proxy.players(), 1);

    assert_eq!((game.count("ban.added"), game.count("pin.failed")), (0, 0));
    assert!(!game.has_failed(&player).await);
}

#[tokio::test]
async fn whom_our_own_stop_closes_has_not_failed() {
    let mut game = Game::new("  max-failed-attempts: 1\n", |setup| setup).await;
    let player = game.with_pin(OLD, "Stopped").await;
    game.force(ForcedVerdict::Down).await;
    let mut held = game.join(OLD, &player).await;
    held.until(PROMPT).await;
    assert!(!game.has_failed(&player).await);
    assert!(held.kicked().await.starts_with("The server is restarting"));
}

#[tokio::test]
async fn an_outage_that_is_over_by_then_lets_nobody_in() {
    let mut game = Game::new("  max-failed-attempts: 1\n", |setup| setup).await;
    let player = game.with_pin(OLD, "Late").await;
    game.force(ForcedVerdict::Down).await;
    let mut held = game.join(OLD, &player).await;
    held.until(PROMPT).await;
    game.force(ForcedVerdict::Up).await;
    held.say(&format!("/pin {CODE}")).await;
    assert!(held.kicked().await.contains(TRY_AGAIN));
    game.scene.audit.next("pin.verified", |_| true).await;
    let event = game.scene.audit.next("login.refused", |_| true).await;
    assert_eq!((&event["facts"]["gate"], &event["facts"]["pin"]), (&"quarantine".into(), &"right".into()));
    assert_eq!(event["player"], "Late");
    assert_eq!((game.count("login.fallback"), game.count("ban.added")), (0, 0));
    assert_eq!(game.scene.proxy.players(), 0);
    // The code was right: nothing has failed.
    assert!(!game.has_failed(&player).await);
}

#[tokio::test]
async fn who_has_to_make_room_is_told_and_has_failed() {
    let two = |setup: Setup| {
        public(setup).replace("max-connections-per-address: 20000", "max-connections-per-address: 2")
    };
    let mut game = Game::new("  max-failed-attempts: 1\n", two).await;
    let player = game.with_pin_at_home("Squeezed").await;
    game.force(ForcedVerdict::Down).await;
    let mut held = game.held_from(HOME, &player).await;
    // Two more from the same address, which is known: the oldest that has proven nothing goes for the second.
    let address = support::proxy::address(&game.scene.proxy);
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(support::Client::connect_from(HOME, address, OLD).await);
    }
    assert!(held.kicked().await.contains(TRY_AGAIN));
    let event = game.ended("too-many-connections").await;
    assert_eq!(event["facts"]["limit"], "max-connections-per-address");
    // A guesser could crowd itself out; but nobody is banned because others needed its place.
    assert_eq!(game.count("ban.added"), 0);
    assert!(game.has_failed(&player).await);
}

/// Before the world is there nobody could have typed a code.
#[tokio::test]
async fn who_leaves_while_the_world_loads_has_not_failed() {
    let mut game = Game::new("  max-failed-attempts: 1\n", |setup| setup).await;
    let player = game.with_pin(765, "Loading").await;
    game.force(ForcedVerdict::Down).await;
    let (client, end) = game.scene.join(765, &player).await;
    assert!(is_in(&end), "{end:?}");
    drop(client);
    game.ended("client-left").await;
    assert_eq!((game.count("pin.prompted"), game.count("ban.added")), (0, 0));
    assert!(!game.has_failed(&player).await);
}

/// In whatever way a hold ends unproven, the next one is for exact addresses only, until Mojang speaks for the player.
#[tokio::test]
async fn after_one_hold_in_vain_only_exact_addresses_are_asked() {
    let mut game = Game::new("  max-failed-attempts: 100\n", public).await;
    let player = game.with_pin_at_home("Guarded").await;
    for reason in ["client-left", "backend-unavailable", "bad-handshake", "displaced"] {
        game.force(ForcedVerdict::Down).await;
        let mut held = game.held_from(NEXT_DOOR, &player).await;
        match reason {
            "client-left" => drop(held),
            // Nobody was let in instead of it yet: one at an exact address is held in its place.
            "displaced" => {
                let mut owner = game.held_from(HOME, &player).await;
                assert_eq!(held.kicked().await, "You logged in from another place.");
                owner.say(&format!("/pin {CODE}")).await;
                owner.until(RIGHT).await;
                drop(owner);
                game.gone().await;
            }
            "backend-unavailable" => {
                game.world.hang_up(&player.name);
                while !matches!(held.next().await, Shown::Kicked(_) | Shown::Closed) {}
            }
            _ => {
                // A length of four bytes is none.
                held.client.send_raw(vec![0xff; 4]).await;
                while !matches!(held.next().await, Shown::Kicked(_) | Shown::Closed) {}
            }
        }
        game.ended(reason).await;
        game.world.left(&player.name).await;
        game.kept_out(NEXT_DOOR, &player, "Incorrect PIN", "pin-failed").await;
        // Its owner is asked at home all the same.
        let mut held = game.held_from(HOME, &player).await;
        held.say(&format!("/pin {CODE}")).await;
        held.until(RIGHT).await;
        drop(held);
        game.gone().await;
        // That was no word of Mojang's.
        game.kept_out(NEXT_DOOR, &player, "Incorrect PIN", "pin-failed").await;
        game.force(ForcedVerdict::Up).await;
        drop(game.join_from(HOME, OLD, &player).await);
        game.gone().await;
        // Asked again next door.
        game.force(ForcedVerdict::Down).await;
        let mut held = game.held_from(NEXT_DOOR, &player).await;
        held.say(&format!("/pin {CODE}")).await;
        held.until(RIGHT).await;
        drop(held);
        game.gone().await;
    }
    assert!(!game.has_failed(&player).await);
}

#[tokio::test]
async fn wrong_codes_ban_whoever_tries_them_and_staff_hears_of_it() {
    let mut game = Game::new("  max-failed-attempts: 2\n", |setup| {
        let mut setup = public(setup);
        setup.text.push_str("alerts:\n  staff: [Boss]\n");
        setup
    })
    .await;
    let player = game.with_pin_at_home("Wanted").await;
    let sister = Player::new("Sister");
    drop(game.join_from(HOME, OLD, &sister).await);
    game.gone().await;
    let mut boss = game.join_from(ELSEWHERE, OLD, &Player::new("Boss")).await;
    game.force(ForcedVerdict::Down).await;
    boss.until("authentication servers: down").await;
    let pair = |address: &str| format!("{}@{address}", player.id);

    // A wrong code, and it leaves: two failures, of the address and of it with this player.
    let mut stranger = game.held_from(NEXT_DOOR, &player).await;
    stranger.say(&format!("/pin {OTHER}")).await;
    stranger.until("Incorrect PIN").await;
    drop(stranger);
    game.world.left(&player.name).await;
    let mut targets = Vec::new();
    for _ in 0..2 {
        targets.push(game.scene.audit.next("ban.added", |_| true).await["target"].clone());
    }
    let line = boss.until("[Postern] banned ").await;
    assert!(line.contains(NEXT_DOOR) && line.ends_with(": 2 failures"), "{line}");
    assert!(targets.contains(&NEXT_DOOR.into()) && targets.contains(&pair(NEXT_DOOR).into()), "{targets:?}");
    game.kept_out(NEXT_DOOR, &player, "Too many failed attempts", "banned").await;

    // Nobody but that stranger is kept out.
    let mut owner = game.held_from(HOME, &player).await;
    owner.say(&format!("/pin {CODE}")).await;
    owner.until(RIGHT).await;
    drop(owner);
    until(|| game.scene.proxy.players() == 1).await;

    // Somebody at the same router: first the address is banned, which does not concern who was verified there.
    for (tries, banned) in [HOME.to_owned(), pair(HOME)].into_iter().enumerate() {
        let mut brother = game.held_from(HOME, &player).await;
        brother.say(&format!("/pin {OTHER}")).await;
        brother.until("Incorrect PIN").await;
        drop(brother);
        game.world.left(&player.name).await;
        let event = game.scene.audit.next("ban.added", |_| true).await;
        assert_eq!(event["target"], banned, "{tries}");
    }
    // But not more codes for this player than elsewhere.
    game.kept_out(HOME, &player, "Too many failed attempts", "banned").await;
    let _sister = game.join_from(HOME, OLD, &sister).await;
    game.scene.proxy.stop().await;
}

/// Waits until the backend got what holds this.
async fn got(game: &Game, player: &Player, text: &str) {
    let holds = |packet: &[u8]| packet.windows(text.len()).any(|part| part == text.as_bytes());
    game.world.until(&player.name, holds).await;
}

#[tokio::test]
async fn who_signed_chat_while_held_is_told_to_rejoin() {
    let signing = [760, 761, 763, 765, 767, 769];
    let mut game = Game::new("", |setup| setup).await;
    for protocol in signing {
        game.with_pin(protocol, &name(protocol)).await;
    }
    game.force(ForcedVerdict::Down).await;
    for protocol in signing {
        let player = Player::new(&name(protocol));
        // It wrote: its chain of signatures has a gap, for which its backend would throw it out.
        let mut resident = game.join(protocol, &player).await;
        resident.until(PROMPT).await;
        let ids = resident.ids;
        resident.client.send(ids.signed("is anybody here")).await;
        resident.say(&format!("/pin {CODE}")).await;
        resident.until(RIGHT).await;
        assert!(resident.line().await.starts_with(REJOIN), "{protocol}");
        resident.client.send(ids.signed("hello again")).await;
        assert!(resident.line().await.starts_with(REJOIN), "{protocol}: it is told why nobody hears it");
        resident.client.send(ids.signed("and again")).await;
        assert!(resident.echo().await.is_empty(), "{protocol}: it has just heard that");
        for packet in game.world.got(&player.name) {
            let text = String::from_utf8_lossy(&packet);
            assert!(!text.contains("anybody") && !text.contains("again"), "{protocol}: {text}");
        }
        drop(resident);
        game.gone().await;

        // It did as it was told.
        let mut resident = game.join(protocol, &player).await;
        resident.until(PROMPT).await;
        resident.say(&format!("/pin {CODE}")).await;
        resident.until(RIGHT).await;
        assert!(resident.echo().await.is_empty(), "{protocol}: there is nothing more to say");
        resident.client.send(ids.signed("here I am")).await;
        got(&game, &player, "here I am").await;
        drop(resident);
        game.gone().await;
    }
    game.scene.proxy.stop().await;
}

#[tokio::test]
async fn nobody_is_told_to_rejoin_whose_chat_makes_no_chain() {
    let mut game = Game::new("", |setup| setup).await;
    // 1.19 signs each message by itself; 1.20 here signs none.
    for protocol in [759, OLD] {
        let player = game.with_pin(protocol, &name(protocol)).await;
        game.force(ForcedVerdict::Down).await;
        let mut resident = game.join(protocol, &player).await;
        resident.until(PROMPT).await;
        let said = |text: &str| {
            let ids = resident.ids;
            if protocol == 759 { ids.signed(text) } else { ids.typed(text) }
        };
        let (before, after) = (said("too early"), said("in time"));
        resident.client.send(before).await;
        resident.say(&format!("/pin {CODE}")).await;
        resident.until(RIGHT).await;
        assert!(resident.echo().await.is_empty(), "{protocol}");
        resident.client.send(after).await;
        got(&game, &player, "in time").await;
        let early = game.world.got(&player.name);
        assert!(!early.iter().any(|packet| String::from_utf8_lossy(packet).contains("early")), "{protocol}");
        drop(resident);
        game.gone().await;
        game.force(ForcedVerdict::Up).await;
    }
    game.scene.proxy.stop().await;
}
