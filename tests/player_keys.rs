//! The keys that players of 1.19 to 1.19.2 bring: which of them backends are told of.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use postern::app::Proxy;
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use serde_json::Value;
use support::{
    Backend, BackendKind, Client, End, Mode, Player, SessionServer, Setup,
    backend::{ForwardedKey, Seen},
    player_keys::{Authority, PlayerKey},
    proxy::{Audit, address},
    scene::{is_in, seldom},
};
use uuid::Uuid;

const KEYED: [i32; 2] = [759, 760];

struct Scene {
    sessions: SessionServer,
    backend: Backend,
    _setup: Setup,
    proxy: Proxy,
    audit: Audit,
    mojang: Authority,
    private: RsaPrivateKey,
}

impl Scene {
    /// The program; its session server is up, and it has fetched the public keys.
    async fn new(mode: &str, backend: Backend, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (mojang, sessions) = (Authority::new(), SessionServer::start().await);
        sessions.publish(&["no key".to_owned(), mojang.published()]);
        let setup = change(Setup::with(&sessions, &backend, mode, ""));
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        sessions.fetched(1).await;
        let private = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        let mut scene = Self { sessions, backend, _setup: setup, proxy, audit, mojang, private };
        // That they were published does not mean that they were read yet.
        let began = Instant::now();
        while scene.fact(760, &Player::new("First"), Player::new("First").id).await == "no-mojang-keys" {
            assert!(began.elapsed() < Duration::from_secs(20), "the keys never came");
        }
        scene
    }

    async fn modern() -> Self {
        Self::new("modern", Backend::modern().await, seldom).await
    }

    /// A key that is good for that player.
    fn key(&self, protocol: i32, id: Uuid) -> PlayerKey {
        self.mojang.certify(protocol, id, in_an_hour(), &self.private)
    }

    async fn join(&self, protocol: i32, player: &Player, key: &PlayerKey) -> End {
        let mut client = Client::connect(address(&self.proxy), protocol).await;
        client.key = Some(key.clone());
        client.login(player, &self.sessions).await
    }

    /// Joins with a key for that id; returns what came of the key.
    async fn fact(&mut self, protocol: i32, player: &Player, id: Uuid) -> Value {
        self.join_with(protocol, player, &self.key(protocol, id)).await.0
    }

    /// Joins; returns what audit.log says of the key, and what the backend saw.
    async fn join_with(&mut self, protocol: i32, player: &Player, key: &PlayerKey) -> (Value, Seen) {
        // In an outage nobody takes the place of who is in; the one before may still be leaving.
        while self.proxy.players() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = self.backend.seen().len();
        let end = self.join(protocol, player, key).await;
        assert!(is_in(&end), "{protocol}: {end:?}");
        let name = player.name.clone();
        let joined = |event: &Value| event["player"] == name.as_str();
        let kind = if matches!(end, End::In { authenticated: true, .. }) && self.sessions.is_up() {
            "login.verified"
        } else {
            "login.fallback"
        };
        let event = self.audit.next(kind, joined).await;
        (event["facts"]["player_key"].clone(), self.backend.arrival(before + 1).await)
    }
}

fn in_an_hour() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the proxy under test goes by the system's clock")]
    Timestamp::now().as_millisecond().saturating_add(3_600_000)
}

/// What the backend is told of a proven key.
fn told(protocol: i32, player: &Player, key: &PlayerKey) -> ForwardedKey {
    ForwardedKey {
        expires: key.expires,
        der: key.der.clone(),
        signature: key.signature.clone(),
        owner: (protocol == 760).then_some(player.id),
    }
}

#[tokio::test]
async fn a_key_that_mojang_signed_reaches_the_backend() {
    let mut scene = Scene::modern().await;
    for (protocol, version) in [(759, 2), (760, 3)] {
        let player = Player::new("Signer");
        let key = scene.key(protocol, player.id);
        let (fact, seen) = scene.join_with(protocol, &player, &key).await;
        assert_eq!((fact, seen.version), ("proven".into(), version));
        assert_eq!(seen.key, Some(told(protocol, &player, &key)));
        assert_eq!((seen.login_key, seen.id), (None, Some(player.id)));
    }
    // Nobody else's login says anything of keys.
    let (player, mut client) = (Player::new("Keyless"), Client::connect(address(&scene.proxy), 760).await);
    assert!(is_in(&client.login(&player, &scene.sessions).await));
    let event = scene.audit.next("login.verified", |event| event["player"] == "Keyless").await;
    assert_eq!(event["facts"].get("player_key"), None, "{event}");
    scene.proxy.stop().await;
}

#[tokio::test]
async fn a_key_that_is_not_proven_reaches_nobody_and_keeps_nobody_out() {
    let mut scene = Scene::modern().await;
    let stranger = Authority::new();
    for protocol in KEYED {
        let player = Player::new("Doubted");
        let good = scene.key(protocol, player.id);
        let by_stranger = stranger.certify(protocol, player.id, in_an_hour(), &scene.private);
        let other_form = scene.key(759 + 760 - protocol, player.id);
        let expired = scene.mojang.certify(protocol, player.id, in_an_hour() - 7_200_000, &scene.private);
        let small = RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
        let small = scene.mojang.certify(protocol, player.id, in_an_hour(), &small);
        let later = PlayerKey { expires: good.expires + 1, ..good.clone() };
        for (case, key, doubt) in [
            ("a stranger's word", by_stranger, "bad-signature"),
            ("the other form", other_form, "bad-signature"),
            ("another time", later, "bad-signature"),
            ("expired", expired, "expired"),
            ("1024 bits", small, "bad-key"),
        ] {
            let (fact, seen) = scene.join_with(protocol, &player, &key).await;
            assert_eq!((fact, seen.version, seen.key), (doubt.into(), 1, None), "{protocol} {case}");
        }
    }
    // Mojang's word about somebody else, whose id the client claims: the session server knows better.
    let player = Player::new("Doubted");
    let claimed = Player { id: Uuid::from_u128(0xbad), ..player.clone() };
    let key = scene.key(760, claimed.id);
    let mut client = Client::connect(address(&scene.proxy), 760).await;
    client.key = Some(key);
    client.handshake("play.example.com", 2).await;
    client.login_start(&claimed.name, claimed.id).await;
    let seen = scene.backend.seen().len();
    assert!(is_in(&client.finish_login(&player, &scene.sessions).await));
    let event = scene.audit.next("login.verified", |event| !event["claimed_id"].is_null()).await;
    assert_eq!(event["facts"]["player_key"], "bad-signature");
    assert_eq!(scene.backend.arrival(seen + 1).await.version, 1);
    scene.proxy.stop().await;
}

#[tokio::test]
async fn whoever_brings_a_key_must_sign_with_it() {
    let scene = Scene::modern().await;
    for protocol in KEYED {
        let player = Player::new("Unsigned");
        let key = PlayerKey { signs: false, ..scene.key(protocol, player.id) };
        let end = scene.join(protocol, &player, &key).await;
        assert!(matches!(end, End::Refused(_)), "{protocol}: {end:?}");
        // Somebody else's key, seen in passing: its private half was not.
        let own = scene.mojang.certify(
            protocol,
            player.id,
            in_an_hour(),
            &RsaPrivateKey::new(&mut OsRng, 2048).unwrap(),
        );
        let key = scene.key(protocol, player.id);
        let key = PlayerKey { der: key.der, signature: key.signature, expires: key.expires, ..own };
        let end = scene.join(protocol, &player, &key).await;
        assert!(matches!(end, End::Refused(_)), "{protocol}: {end:?}");
    }
    assert!(scene.backend.seen().iter().all(|seen| seen.name != "Unsigned"));
    scene.proxy.stop().await;
}

#[tokio::test]
async fn in_an_outage_a_key_needs_an_owner_or_a_signature() {
    let backend = Backend::modern().await;
    let mut scene = Scene::new("modern", backend, |setup| setup).await;
    let player = Player::new("Known");
    for protocol in KEYED {
        assert_eq!(scene.fact(protocol, &player, player.id).await, "proven");
    }
    scene.sessions.set(Mode::Down);
    scene.audit.state("down").await;
    // In plaintext nothing is signed: the key could be anybody's, unless Mojang names its owner.
    for (protocol, outcome, version) in [(759, "not-held", 1), (760, "proven", 3)] {
        let key = scene.key(protocol, player.id);
        let (fact, seen) = scene.join_with(protocol, &player, &key).await;
        assert_eq!((fact, seen.version), (outcome.into(), version), "{protocol}");
        assert_eq!(seen.key, (version == 3).then(|| told(protocol, &player, &key)));
        let key = scene.key(protocol, Uuid::from_u128(0xbad));
        let (fact, seen) = scene.join_with(protocol, &player, &key).await;
        let doubt = if protocol == 759 { "not-held" } else { "bad-signature" };
        assert_eq!((fact, seen.version, seen.key), (doubt.into(), 1, None), "{protocol}");
    }
    scene.proxy.stop().await;
}

#[tokio::test]
async fn a_login_judged_in_place_has_signed() {
    let mut scene = Scene::modern().await;
    let player = Player::new("Known");
    assert_eq!(scene.fact(759, &player, player.id).await, "proven");
    scene.sessions.set(Mode::DownForProxy);
    for (protocol, version) in [(759, 2), (760, 3)] {
        let key = scene.key(protocol, player.id);
        let (fact, seen) = scene.join_with(protocol, &player, &key).await;
        assert_eq!((fact, seen.version), ("proven".into(), version));
        assert_eq!(seen.key, Some(told(protocol, &player, &key)));
    }
    scene.proxy.stop().await;
}

#[tokio::test]
async fn without_mojangs_keys_players_join_and_no_key_is_forwarded() {
    let (sessions, backend) = (SessionServer::start().await, Backend::modern().await);
    let setup = Setup::with(&sessions, &backend, "modern", "");
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    let (mojang, player) = (Authority::new(), Player::new("Early"));
    let private = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    for protocol in KEYED {
        let mut client = Client::connect(address(&proxy), protocol).await;
        client.key = Some(mojang.certify(protocol, player.id, in_an_hour(), &private));
        assert!(is_in(&client.login(&player, &sessions).await));
        let event = audit.next("login.verified", |_| true).await;
        assert_eq!(event["facts"]["player_key"], "no-mojang-keys");
    }
    assert!(backend.seen().iter().all(|seen| (seen.version, &seen.key) == (1, &None)));
    proxy.stop().await;
}

#[tokio::test]
async fn bungeecord_backends_get_a_proven_key_in_login_start() {
    for (mode, told_of) in [("legacy", true), ("bungeeguard", true), ("none", false)] {
        let backend = Backend::start(BackendKind::Keyed, Some(256)).await;
        let mut scene = Scene::new(mode, backend, seldom).await;
        for protocol in KEYED {
            let player = Player::new("Bungee");
            let mut key = scene.key(protocol, player.id);
            let (fact, seen) = scene.join_with(protocol, &player, &key).await;
            let expected = told_of.then(|| ForwardedKey { owner: None, ..told(protocol, &player, &key) });
            assert_eq!((fact, seen.login_key), ("proven".into(), expected), "{mode}");
            key.expires -= 1;
            let (fact, seen) = scene.join_with(protocol, &player, &key).await;
            assert_eq!((fact, seen.login_key), ("bad-signature".into(), None), "{mode}");
        }
        scene.proxy.stop().await;
    }
}
