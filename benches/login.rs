//! The whole login up to admission over an in-memory connection: handshake, keys, has-joined against a stand-in session
//! server on loopback, record in the store.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{net::IpAddr, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use postern::{
    clock::Clock,
    geo::{self, Geo},
    identity::Username,
    limit::{self, Bans},
    login::{
        self, Attempt, Config, FallbackMode, Hello, LoginCx, OnPin, Route, Terms, TermsInForce,
        keys::{Challenge, Keys},
        roster::{Line, Roster},
    },
    mojang::{
        health::{self, Verdict},
        player_keys::{self, PlayerKeys},
        session_server::{self, SessionServer, Standing},
    },
    net::{conn::Conn, deadline::Deadline},
    pin::{self, Pins},
    policy::Rules,
    protocol::{
        handshake::Handshake,
        login::{EncryptionResponse, LoginStart, TokenProof},
        version::{Dialect, ProtocolVersion},
    },
    session::{self, Store},
    task::Shutdown,
};
use rand_core::OsRng;
use rsa::{Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey};
use support::{Client, Player, wire::Out};
use tokio::{io::duplex, runtime::Runtime};

async fn shared(sessions: &support::SessionServer, folder: &std::path::Path) -> LoginCx {
    let clock = Clock::system();
    let server = session_server::Config {
        base_url: sessions.url().parse().unwrap(),
        timeout: Duration::from_secs(5),
        prevent_client_proxy_connections: false,
        unknown_logins_per_minute: 0,
    };
    let server = Arc::new(SessionServer::new(&server, clock.clone()).unwrap());
    let player_keys =
        player_keys::Config { services: sessions.url().parse().unwrap(), timeout: Duration::from_secs(5) };
    let player_keys = PlayerKeys::new(&player_keys, clock.clone()).unwrap();
    let store = session::Config {
        directory: folder.to_owned(),
        cleanup_on_startup: true,
        max_address_age: Duration::from_hours(168),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    };
    let bans = limit::bans::Config {
        per_client: 10,
        per_subnet: 30,
        per_asn: 100,
        duration: Duration::from_mins(30),
        file: folder.join("bans.json"),
        ipv4_subnet_prefix: 24,
    };
    let health = health::Config {
        check_interval: Duration::from_secs(30),
        retry_interval: Duration::from_secs(2),
        failure_threshold: 3,
        recovery_threshold: 1,
        treat_throttling_as_outage: false,
        outage_file: folder.join("outage.json"),
    };
    let (trigger, shutdown) = Shutdown::new();
    // Lives as long as the benchmark.
    std::mem::forget(trigger);
    let (health, _) = health::start(health, clock.clone(), server.prober(), shutdown, Box::new(|_| ()));
    health.subscribe().wait_for(|status| status.verdict == Verdict::Up).await.unwrap();
    let geo_off = geo::Config {
        enabled: false,
        source: geo::Source::Files { country: None, asn: None },
        timeout: Duration::from_secs(1),
        cache_ttl: Duration::ZERO,
    };
    let store = Store::open(store, clock.clone()).await.unwrap().0;
    let bans = Bans::open(&bans, clock.clone(), Box::new(|_| ())).unwrap();
    let pins = pin::Config { enabled: true, min_length: 6, timeout: Duration::from_mins(1) };
    let config = Config {
        fallback: FallbackMode::Enabled,
        online_attempt_when_ineligible: true,
        allow_plaintext_fallback: true,
        accepts_transfers: false,
        compression_threshold: Some(256),
    };
    let rules = Rules {
        max_session_age: Duration::from_hours(72),
        recent_activity: None,
        min_login_history: 1,
        trust_private_addresses: false,
        max_accounts_per_address: 5,
        strict_ip_check: true,
        allow_ip_range_match: true,
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
        max_address_age: Duration::from_hours(168),
        require_mojang_auth: std::collections::HashSet::new(),
        geo_checks: true,
        blocked_asns: std::collections::HashSet::new(),
        deny_on_geo_change: false,
        deny_on_geo_unknown: false,
        pins: true,
        require_pin: false,
        allow_pin_for_changed_address: false,
    };
    LoginCx {
        terms: TermsInForce::new(Terms::of(&config, &rules)),
        config,
        keys: Keys::generate().unwrap(),
        health,
        server,
        player_keys,
        pins: Pins::new(pins, store.clone(), bans.clone()),
        messages: Arc::default(),
        store,
        geo: Geo::new(&geo_off).unwrap(),
        roster: Roster::new(clock.clone()),
        bans,
        hang_ups: Arc::default(),
        ipv4_subnet_prefix: 24,
        clock,
    }
}

/// One login, both ends. The client's own RSA and hashing are part of the time.
async fn one(cx: &LoginCx, sessions: &support::SessionServer, player: &Player) {
    let address: IpAddr = [203, 0, 113, 5].into();
    let (near, far) = duplex(4096);
    let mut client = Client::over(far, 774);
    let server = async {
        let mut conn = Conn::new(near);
        let line = Arc::new(Line::default());
        let deadline = Deadline::new(login::LOGIN_TIME, login::LOGIN_TIME_LIMIT);
        let (route, on_pin) =
            (Route { too_old: false, own_ids: false, threshold: None }, OnPin(&|_, _, _| ()));
        let attempt = Attempt { address, line: &line, deadline: &deadline, route, on_pin };
        let hello = Hello::read(&mut conn).await.unwrap();
        login::drive(&mut conn, hello, cx, &attempt).await.unwrap()
    };
    let player = async {
        client.handshake("play.example.com", 2).await;
        client.login_start(&player.name, player.id).await;
        let request = client.recv().await.unwrap();
        client.answer_encryption(&request, player, sessions).await.unwrap();
    };
    tokio::join!(server, player);
}

/// The server's part of the key exchange: two decryptions and the hash, on the blocking pool as in a login.
fn encryption_responses(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let keys = Keys::generate().unwrap();
    let public = RsaPublicKey::from_public_key_der(keys.current().public_der()).unwrap();
    let seal = |bytes: &[u8]| public.encrypt(&mut OsRng, Pkcs1v15Encrypt, bytes).unwrap();
    // The token is another login's: what that costs is the same.
    let (secret, token) = (seal(&[5; 16]), seal(&[6; 4]));
    c.bench_function("open an encryption response", |b| {
        b.iter(|| {
            let response =
                EncryptionResponse { secret: secret.clone(), proof: TokenProof::Encrypted(token.clone()) };
            runtime
                .block_on(Challenge::new(&keys).unwrap().accept(response, None, Standing::Unknown))
                .unwrap_err()
        });
    });
    c.bench_function("make a key", |b| b.iter(|| Keys::generate().unwrap()));
}

/// All that a scanner costs that stops at login start: reading, answering with an encryption request.
fn first_words(c: &mut Criterion) {
    let dialect = Dialect::of(ProtocolVersion(774));
    let keys = Keys::generate().unwrap();
    let (handshake, start) = packets();
    c.bench_function("handshake and login start to encryption request", |b| {
        b.iter(|| {
            let handshake = Handshake::read(&handshake).unwrap();
            let start = LoginStart::read(&start, &dialect).unwrap();
            let name = Username::parse(&start.name).unwrap();
            let request = Challenge::new(&keys).unwrap().request(&dialect, true);
            (handshake, name, request)
        });
    });
}

/// Handshake and login start of a 1.21.11 client, without their frames.
fn packets() -> (Vec<u8>, Vec<u8>) {
    let handshake = Out::id(0).varint(774).str("play.example.com").raw(&25565_u16.to_be_bytes()).varint(2);
    let start = Out::id(0).str("Bench").raw(&[7; 16]);
    (handshake.0, start.0)
}

fn logins(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (sessions, cx) = runtime.block_on(async {
        let sessions = support::SessionServer::start().await;
        let cx = shared(&sessions, folder.path()).await;
        (sessions, cx)
    });
    let player = Player::new("Bench");
    c.bench_function("online login to admission", |b| {
        b.iter(|| runtime.block_on(one(&cx, &sessions, &player)));
    });
    runtime.block_on(cx.store.close()).unwrap();
}

criterion_group!(benches, encryption_responses, first_words, logins);
criterion_main!(benches);
