//! Modded clients and their backends talk to each other through the running proxy: what Forge, NeoForge and Fabric say
//! while a player logs in passes byte for byte, whoever vouched for the player. Cookies and transfers, which also
//! happen in the login state, are here too.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::Duration;

use postern::app::Proxy;
use serde_json::Value;
use support::{
    Backend, BackendKind, Client, Mode, Player, SessionServer, Setup,
    backend::{Seen, success},
    client::plain,
    proxy::{Audit, address},
    scene::until,
    wire::{self, In, Out},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::Instant,
};

const HOST: &str = "play.example.com";
/// The longest payload of a login plugin request or response.
const MIB: usize = 1 << 20;
/// What a login on this machine takes at most, if nobody waits for a deadline.
const AT_ONCE: Duration = Duration::from_secs(20);

/// The proxy before a backend whose every word the test speaks itself.
struct Stage {
    sessions: SessionServer,
    listener: TcpListener,
    proxy: Proxy,
    audit: Audit,
    setup: Setup,
}

impl Stage {
    async fn new(mode: &str, auth: &str) -> Self {
        let sessions = SessionServer::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unused = Backend::start(BackendKind::Plain, None).await;
        let setup = Setup::with(&sessions, &unused, mode, auth)
            .replace(&unused.address.to_string(), &listener.local_addr().unwrap().to_string());
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        Self { sessions, listener, proxy, audit, setup }
    }

    /// Runs a login: the backend's part and the client's, each with its end of the conversation.
    async fn run<B, C>(
        &self,
        protocol: i32,
        host: &str,
        player: &Player,
        online: bool,
        backend: impl AsyncFnOnce(&mut Game) -> B,
        client: impl AsyncFnOnce(&mut Modded) -> C,
    ) -> (B, C) {
        let behind = async {
            let mut game = Game::accept(&self.listener, protocol).await;
            let said = backend(&mut game).await;
            (said, game)
        };
        let before = async {
            let mut modded = Modded(Client::connect(address(&self.proxy), protocol).await);
            modded.begin(host, 2, player, &self.sessions, online).await;
            let said = client(&mut modded).await;
            (said, modded)
        };
        let ((behind, _game), (before, _modded)) =
            tokio::time::timeout(AT_ONCE, async { tokio::join!(behind, before) })
                .await
                .unwrap_or_else(|_| panic!("a stuck login"));
        (behind, before)
    }

    /// A player with a verified login behind it.
    async fn known(&mut self, protocol: i32, name: &str) -> Player {
        let player = Player::new(name);
        self.plain_login(protocol, &player, true).await;
        self.audit.next("login.verified", |_| true).await;
        until(|| self.proxy.players() == 0).await;
        player
    }

    async fn plain_login(&self, protocol: i32, player: &Player, online: bool) {
        self.run(
            protocol,
            HOST,
            player,
            online,
            async |game| {
                game.player_info().await;
                game.succeed(player).await;
            },
            async |modded| modded.arrive().await,
        )
        .await;
    }

    async fn go(&mut self, online: bool) {
        self.sessions.set(if online { Mode::Up } else { Mode::Down });
        self.audit.state(if online { "up" } else { "down" }).await;
    }
}

/// A backend in the login state.
struct Game {
    stream: TcpStream,
    threshold: Option<usize>,
    protocol: i32,
    host: String,
}

impl Game {
    async fn accept(listener: &TcpListener, protocol: i32) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut game = Self { stream, threshold: None, protocol, host: String::new() };
        let packet = game.recv().await.unwrap();
        let mut reader = In(&packet);
        assert_eq!((reader.varint(), reader.varint()), (0, protocol));
        game.host = reader.str();
        // However the client came, this is a login.
        assert_eq!((reader.take(2), reader.varint()), (&[0x63, 0xdd][..], 2));
        assert_eq!(game.recv().await.unwrap()[0], 0, "login start");
        game
    }

    async fn send(&mut self, packet: &[u8]) {
        // The proxy may have closed; the next read will tell.
        let _ = self.stream.write_all(&wire::frame(packet, self.threshold)).await;
    }

    async fn recv(&mut self) -> Option<Vec<u8>> {
        let body = wire::read_body(&mut self.stream, |_| {}).await?;
        Some(wire::unframe(&body, self.threshold))
    }

    async fn compress(&mut self, threshold: usize) {
        self.send(&Out::id(3).varint(int(threshold)).0).await;
        self.threshold = Some(threshold);
    }

    /// Asks who the player is, and gets an answer that is none of the client's.
    async fn player_info(&mut self) {
        self.send(&request(0x1234, "velocity:player_info", &[1])).await;
        let answer = self.recv().await.unwrap();
        assert_eq!(answer[..4], [2, 0xb4, 0x24, 1], "message id, understood");
        assert_eq!(answer[4 + 32], 1, "version behind the signature");
    }

    async fn succeed(&mut self, player: &Player) {
        let seen = Seen { name: player.name.clone(), id: Some(player.id), ..Seen::default() };
        self.send(&success(self.protocol, &seen)).await;
    }
}

/// A client with mods in the login state.
struct Modded(Client);

impl Modded {
    /// Handshake, login start, and what is asked of the client before its backend meets it.
    async fn begin(
        &mut self,
        host: &str,
        intent: i32,
        player: &Player,
        sessions: &SessionServer,
        online: bool,
    ) {
        let client = &mut self.0;
        client.handshake(host, intent).await;
        client.login_start(&player.name, player.id).await;
        if online || client.protocol >= 766 {
            let packet = client.recv().await.unwrap();
            assert_eq!(packet[0], 1, "encryption request");
            assert_eq!(client.answer_encryption(&packet, player, sessions).await, Some(online));
        }
    }

    async fn recv(&mut self) -> Vec<u8> {
        self.0.recv().await.unwrap()
    }

    async fn send(&mut self, packet: &[u8]) {
        self.0.send(Out(packet.to_vec())).await;
    }

    /// Compression, if any, and login success. Answers whatever else comes as clients do that do not know it.
    async fn arrive(&mut self) {
        loop {
            let packet = self.recv().await;
            match packet[0] {
                2 => return,
                3 => self.0.threshold = usize::try_from(In(&packet[1..]).varint()).ok(),
                4 => {
                    let id = In(&packet[1..]).varint();
                    self.send(&response(id, None)).await;
                }
                _ => panic!("{packet:x?}"),
            }
        }
    }

    /// The text of the disconnect.
    async fn refused(&mut self) -> String {
        let packet = self.recv().await;
        assert_eq!(packet[0], 0, "{packet:x?}");
        plain(&In(&packet[1..]).str())
    }
}

fn request(id: i32, channel: &str, data: &[u8]) -> Vec<u8> {
    Out::id(4).varint(id).str(channel).raw(data).0
}

fn response(id: i32, data: Option<&[u8]>) -> Vec<u8> {
    Out::id(2).varint(id).bool(data.is_some()).raw(data.unwrap_or_default()).0
}

fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap()
}

/// Bytes that do not compress.
fn noise(len: usize, seed: usize) -> Vec<u8> {
    let mut seed = seed as u64;
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[1]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A question and its answer, as whole packets. No answer: the client says nothing at all to it.
type Exchange = (Vec<u8>, Option<Vec<u8>>);

/// Inside `fml:loginwrapper`: the channel, the length, the message.
fn wrapped(channel: &str, message: &[u8]) -> Vec<u8> {
    Out::default().str(channel).bytes(message).0
}

fn names(prefix: &str, count: usize) -> Out {
    (0..count).fold(Out::default().varint(int(count)), |out, i| out.str(&format!("{prefix}{i}")))
}

/// What Forge says for 1.13 to 1.20.1: the server's mods, channels and registries, answered with the client's; then one
/// message for each registry and each file of configuration, acknowledged one by one. From 1.18 on a list of mods
/// comes first that clients never answer.
fn forge(third: bool) -> Vec<Exchange> {
    let (channel, acknowledged) = ("fml:loginwrapper", wrapped("fml:handshake", &[99]));
    let mut told = Vec::new();
    if third {
        let mods = (0..180).fold(Out::id(5).varint(180), |out, i| {
            out.str(&format!("mod{i}")).str(&format!("Mod number {i}")).str("1.2.3-forge")
        });
        told.push((mods.0, None));
    }
    let channels =
        |out: Out| (0..40).fold(out.varint(40), |out, i| out.str(&format!("mod{i}:main")).str("1.0"));
    let list = channels(Out::id(1).raw(&names("mod", 180).0)).raw(&names("minecraft:registry_", 30).0);
    let mine = channels(Out::id(2).raw(&names("mod", 185).0)).varint(0);
    told.push((list.0, Some(wrapped("fml:handshake", &mine.0))));
    for i in 0..30 {
        let snapshot = Out::id(3).str(&format!("minecraft:registry_{i}")).bool(true);
        let entries =
            (0..i * 4).fold(snapshot.varint(i * 4), |out, n| out.str(&format!("mod:thing_{n}")).varint(n));
        told.push((entries.0, Some(acknowledged.clone())));
    }
    for i in 0..300 {
        let file = Out::id(4).str(&format!("mod{i}-server.toml")).bytes(&noise(i * 7 % 200, i));
        told.push((file.0, Some(acknowledged.clone())));
    }
    let asked = |(id, (message, answer)): (usize, (Vec<u8>, Option<Vec<u8>>))| {
        let question = request(int(id), channel, &wrapped("fml:handshake", &message));
        // An empty answer is one too.
        (question, answer.map(|answer| response(int(id), Some(&answer))))
    };
    told.into_iter().enumerate().map(asked).collect()
}

/// What Fabric says: the channels that can be used early, then those of mods, some of which the client does not know.
/// Message ids count up from anywhere.
fn fabric() -> Vec<Exchange> {
    let early = |names: &[&str]| {
        names.iter().fold(Out::default().varint(int(names.len())), |out, name| out.str(name)).0
    };
    let mut told = vec![(
        request(-7, "fabric-networking-api-v1:early_registration", &early(&["fabric:a", "mod:login"])),
        Some(response(-7, Some(&early(&["fabric:a"])))),
    )];
    for (i, id) in (0..400).zip((0..i32::MAX).rev()) {
        let answer = (i % 3 != 0).then(|| noise(i * 13 % 150, i));
        let question = request(id, &format!("mod{i}:login"), &noise(i * 31 % 300, i));
        told.push((question, Some(response(id, answer.as_deref()))));
    }
    // An id that takes more bytes than it needs to, and bytes behind a "not understood".
    told.push((
        Out::id(4).raw(&[0x81, 0x80, 0x00]).str("odd:one").0,
        Some(Out::id(2).raw(&[0x81, 0x80, 0x80, 0x00]).raw(&[0, 9, 9]).0),
    ));
    told
}

/// When the backend asks who the player is, and from when on it compresses.
#[derive(Clone, Copy, Debug)]
struct Order {
    identity_at: usize,
    compress_at: Option<usize>,
}

/// Holds a conversation, `window` questions at a time, each window answered from its end; both sides compare every byte.
async fn converse(
    stage: &Stage,
    protocol: i32,
    player: &Player,
    online: bool,
    told: &[Exchange],
    window: usize,
    order: Order,
) {
    let began = Instant::now();
    let what = format!("{protocol} {online} {window} {order:?}");
    stage
        .run(
            protocol,
            HOST,
            player,
            online,
            async |game| {
                let last = told.len().div_ceil(window);
                for (i, part) in told.chunks(window).enumerate() {
                    if order.identity_at == i {
                        game.player_info().await;
                    }
                    if order.compress_at == Some(i) {
                        game.compress(64).await;
                    }
                    for (question, _) in part {
                        game.send(question).await;
                    }
                    for answer in part.iter().rev().filter_map(|(_, answer)| answer.as_ref()) {
                        assert!(game.recv().await.unwrap() == *answer, "{what}: an answer in window {i}");
                    }
                }
                if order.identity_at >= last {
                    game.player_info().await;
                    // A second time, nobody is given away; and the client never hears of it.
                    game.send(&request(77, "velocity:player_info", &[4])).await;
                    assert_eq!(game.recv().await.unwrap(), response(77, None));
                }
                if order.compress_at.is_some_and(|at| at >= last) {
                    game.compress(64).await;
                }
                game.succeed(player).await;
                game.send(b"\x60first packet of what follows").await;
            },
            async |modded| {
                for (i, part) in told.chunks(window).enumerate() {
                    for (question, _) in part {
                        assert!(modded.recv().await == *question, "{what}: a question in window {i}");
                    }
                    for answer in part.iter().rev().filter_map(|(_, answer)| answer.as_ref()) {
                        modded.send(answer).await;
                    }
                }
                modded.arrive().await;
                assert_eq!(modded.0.threshold, order.compress_at.map(|_| 64), "{what}");
                assert_eq!(modded.recv().await, b"\x60first packet of what follows", "{what}");
                assert_eq!(modded.0.cipher.is_some(), online || protocol >= 766, "{what}");
            },
        )
        .await;
    assert!(began.elapsed() < AT_ONCE, "{what}");
    until(|| stage.proxy.players() == 0).await;
}

#[tokio::test]
async fn conversations_of_mods_pass_byte_for_byte() {
    let mut stage = Stage::new("modern", "").await;
    let cases = [
        (393, forge(false), "Forge_1_13"),
        (758, forge(true), "Forge_1_18"),
        (763, forge(true), "Forge_1_20"),
        (774, fabric(), "Fabric_1_21"),
    ];
    let mut players = Vec::new();
    for (protocol, _, name) in &cases {
        players.push(stage.known(*protocol, name).await);
    }
    for online in [true, false] {
        if !online {
            stage.go(false).await;
        }
        for ((protocol, told, _), player) in cases.iter().zip(&players) {
            let all = told.len();
            for (window, identity_at, compress_at) in [
                // One at a time, identity first, compressed from the start; as Fabric does.
                (1, 0, Some(0)),
                // Some at a time, all else in the middle.
                (50, 3, Some(2)),
                // All at once, identity last; compressed at the very end, as the game does.
                (all, 1, Some(usize::MAX)),
            ] {
                converse(&stage, *protocol, player, online, told, window, Order { identity_at, compress_at })
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn a_mebibyte_passes_both_ways_and_a_byte_more_ends_the_login() {
    let mut stage = Stage::new("modern", "").await;
    let large = |id: i32, len| {
        let (question, answer) = (noise(len, 1), noise(len, 2));
        (request(id, "fml:loginwrapper", &question), Some(response(id, Some(&answer))))
    };
    let (new, old) = (stage.known(774, "Large_new").await, stage.known(763, "Large_old").await);
    // Ciphers are slow in a build for tests: once through one is enough.
    let order = Order { identity_at: 0, compress_at: Some(0) };
    converse(&stage, 774, &new, true, &[large(1, MIB)], 1, order).await;
    stage.go(false).await;
    converse(&stage, 774, &new, false, &[large(1, MIB / 8)], 1, order).await;
    // The bytes that compress best are as welcome as those that do not compress.
    let even = (request(9, "mod:even", &vec![7; MIB]), Some(response(9, Some(&vec![8; MIB]))));
    let told = [large(1, MIB), even, large(2, MIB)];
    for (window, compress_at) in [(3, None), (3, Some(0)), (1, Some(1)), (1, None)] {
        converse(&stage, 763, &old, false, &told, window, Order { identity_at: 0, compress_at }).await;
    }
    // One byte more: the client is refused in words; a backend that sends it is told apart from that.
    let long = noise(MIB + 1, 3);
    for compressed in [false, true] {
        let begin = async |game: &mut Game| {
            game.player_info().await;
            if compressed {
                game.compress(64).await;
            }
        };
        let backend = async |game: &mut Game| {
            begin(game).await;
            game.send(&request(1, "mod:x", &[])).await;
            game.recv().await
        };
        let client = async |modded: &mut Modded| {
            assert_eq!(modded.recv().await, request(1, "mod:x", &[]));
            modded.send(&response(1, Some(&long))).await;
            modded.refused().await
        };
        let (seen, text) = stage.run(763, HOST, &old, false, backend, client).await;
        assert_eq!(seen, None, "nothing of it reaches the backend");
        assert!(text.contains("something this server does not understand"), "{text}");
        stage.audit.reason("bad-handshake").await;

        let backend = async |game: &mut Game| {
            begin(game).await;
            game.send(&request(1, "mod:x", &long)).await;
            assert_eq!(game.recv().await, None);
        };
        let client = async |modded: &mut Modded| modded.refused().await;
        let ((), text) = stage.run(763, HOST, &old, false, backend, client).await;
        assert!(text.contains("not set up for this proxy"), "{text}");
        stage.audit.reason("backend-misconfigured").await;
    }
}

#[tokio::test]
async fn a_frame_that_no_answer_fills_is_refused_by_its_length() {
    let stage = Stage::new("modern", "").await;
    let player = Player::new("Hostile");
    let ((), text) = stage
        .run(
            774,
            HOST,
            &player,
            true,
            async |game| {
                game.player_info().await;
                game.send(&request(1, "mod:x", &[])).await;
                assert_eq!(game.recv().await, None);
            },
            async |modded| {
                modded.recv().await;
                // The length of the longest frame, and nothing in it: what follows is not waited for.
                modded.0.send_raw(vec![0xff, 0xff, 0x7f]).await;
                modded.refused().await
            },
        )
        .await;
    assert!(text.contains("something this server does not understand"), "{text}");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_login() {
    let mut stage = Stage::new("modern", "  accepts-transfers: true").await;
    let player = stage.known(774, "Eager").await;
    let cookie = Out::id(4).str("mod:c").bool(false).0;
    for online in [true, false] {
        if !online {
            stage.go(false).await;
        }
        for forged in [
            response(2, Some(b"forged")),
            response(0x1234, Some(b"forged")),
            response(1, None),
            cookie.clone(),
        ] {
            let (rest, text) = stage
                .run(
                    774,
                    HOST,
                    &player,
                    online,
                    async |game| {
                        game.player_info().await;
                        game.send(&request(1, "mod:x", &[])).await;
                        assert_eq!(game.recv().await.unwrap(), response(1, None));
                        game.recv().await
                    },
                    async |modded| {
                        assert_eq!(modded.recv().await, request(1, "mod:x", &[]));
                        modded.send(&response(1, None)).await;
                        modded.send(&forged).await;
                        modded.refused().await
                    },
                )
                .await;
            assert_eq!(rest, None);
            assert!(text.contains("something this server does not understand"), "{text}");
            stage.audit.reason("bad-handshake").await;
        }
    }
}

#[tokio::test]
async fn marks_of_every_forge_reach_the_backend() {
    for (mode, protocol) in [
        ("none", 4),
        ("none", 340),
        ("none", 774),
        ("legacy", 5),
        ("legacy", 340),
        ("legacy", 763),
        ("modern", 763),
    ] {
        let stage = Stage::new(mode, "").await;
        for mark in ["", "\0FML\0", "\0FML2\0", "\0FML3\0", "\0FORGE", "\0FORGE21"] {
            let player = Player::new("Forged");
            // As a protection service in front leaves it.
            let host = format!("{HOST}.{mark}///203.0.113.9:4444///1700000000");
            let (host, ()) = stage
                .run(
                    protocol,
                    &host,
                    &player,
                    true,
                    async |game| {
                        if mode == "modern" {
                            game.player_info().await;
                        }
                        game.succeed(&player).await;
                        game.host.clone()
                    },
                    async |modded| modded.arrive().await,
                )
                .await;
            until(|| stage.proxy.players() == 0).await;
            if mode != "legacy" {
                assert_eq!(host, format!("{HOST}{mark}"), "{mode}");
                continue;
            }
            let parts: Vec<&str> = host.split('\0').collect();
            let id = player.id.simple().to_string();
            assert_eq!(parts[..3], [HOST, "127.0.0.1", &id], "{host:?}");
            let properties: Vec<Value> = serde_json::from_str(parts[3]).unwrap();
            let extra: Vec<&str> = properties
                .iter()
                .filter(|property| property["name"] == "extraData")
                .map(|property| property["value"].as_str().unwrap())
                .collect();
            let expected = mark.replace('\0', "\u{1}");
            assert_eq!(extra, if mark.is_empty() { vec![] } else { vec![expected.as_str()] });
        }
    }
}

#[tokio::test]
async fn the_handshake_of_forge_before_1_13_passes_in_play() {
    let stage = Stage::new("none", "").await;
    // Plugin messages: to the client, to the server; with a 16-bit length before 1.8.
    for (protocol, down, up) in [(5, 0x3f, 0x17), (47, 0x3f, 0x17), (340, 0x18, 0x09)] {
        let message = |id, data: &[u8]| {
            let out = Out::id(id).str("FML|HS");
            if protocol < 47 { out.short_bytes(data).0 } else { out.raw(data).0 }
        };
        // Hello, list of mods, registries, acknowledgements.
        let list = Out::id(2).raw(&names("mod", 120).0).0;
        let told = [
            (message(down, &[0, 2, 0, 0, 0, 0]), message(up, &[1, 2])),
            (message(down, &list), message(up, &list)),
            (message(down, &noise(30_000, 5)), message(up, &[255, 2])),
            (message(down, &[255, 3]), message(up, &[255, 5])),
        ];
        let player = Player::new("Old_forge");
        stage
            .run(
                protocol,
                &format!("{HOST}\0FML\0"),
                &player,
                true,
                async |game| {
                    if protocol >= 47 {
                        game.compress(256).await;
                    }
                    game.succeed(&player).await;
                    for (question, answer) in &told {
                        game.send(question).await;
                        assert!(game.recv().await.unwrap() == *answer, "{protocol}");
                    }
                },
                async |modded| {
                    modded.arrive().await;
                    for (question, answer) in &told {
                        assert!(modded.recv().await == *question, "{protocol}");
                        modded.send(answer).await;
                    }
                },
            )
            .await;
        until(|| stage.proxy.players() == 0).await;
    }
}

// Cookies and transfers.

#[tokio::test]
async fn cookies_are_relayed_as_they_are() {
    let mut stage = Stage::new("modern", "  accepts-transfers: true").await;
    for protocol in [766, 774, 777] {
        stage.known(protocol, &format!("Cookie{protocol}")).await;
    }
    let cookie = |key: &str, payload: Option<&[u8]>| {
        let out = Out::id(4).str(key).bool(payload.is_some());
        payload.map_or(out.clone(), |payload| out.bytes(payload)).0
    };
    for online in [true, false] {
        if !online {
            stage.go(false).await;
        }
        for protocol in [766, 774, 777] {
            let player = Player::new(&format!("Cookie{protocol}"));
            let told: Vec<Exchange> = [
                ("mod:empty", "mod:empty", None),
                ("mod:nothing", "mod:nothing", Some(vec![])),
                ("short", "minecraft:short", Some(b"abc".to_vec())),
                ("mod:longest", "mod:longest", Some(noise(5120, 9))),
                // The same one again.
                ("mod:empty", "mod:empty", Some(vec![1])),
            ]
            .into_iter()
            .map(|(asked, answered, payload)| {
                (Out::id(5).str(asked).0, Some(cookie(answered, payload.as_deref())))
            })
            .collect();
            for (window, compress_at) in [(1, Some(0)), (4, None)] {
                converse(
                    &stage,
                    protocol,
                    &player,
                    online,
                    &told,
                    window,
                    Order { identity_at: 1, compress_at },
                )
                .await;
            }
            let (rest, text) = stage
                .run(
                    protocol,
                    HOST,
                    &player,
                    online,
                    async |game| {
                        game.player_info().await;
                        game.send(&Out::id(5).str("mod:x").0).await;
                        game.recv().await
                    },
                    async |modded| {
                        assert_eq!(modded.recv().await, Out::id(5).str("mod:x").0);
                        modded.send(&cookie("mod:x", Some(&noise(5121, 9)))).await;
                        modded.refused().await
                    },
                )
                .await;
            assert_eq!(rest, None, "a cookie that is too long goes nowhere");
            assert!(text.contains("something this server does not understand"), "{text}");
        }
    }
}

/// Comes by transfer; the text of the refusal, or whether the client was to call the session server.
async fn transfer(stage: &Stage, protocol: i32, player: &Player) -> Result<bool, String> {
    let mut client = Client::connect(address(&stage.proxy), protocol).await;
    client.handshake(HOST, 3).await;
    client.login_start(&player.name, player.id).await;
    let packet = client.recv().await.unwrap();
    if packet[0] == 0 {
        return Err(plain(&In(&packet[1..]).str()));
    }
    let asked = client.answer_encryption(&packet, player, &stage.sessions).await.unwrap();
    let behind = async {
        let mut game = Game::accept(&stage.listener, protocol).await;
        game.player_info().await;
        game.succeed(player).await;
        game
    };
    let mut modded = Modded(client);
    tokio::select! {
        (game, ()) = async { tokio::join!(behind, modded.arrive()) } => drop(game),
        () = tokio::time::sleep(AT_ONCE) => panic!("a stuck transfer"),
    }
    drop(modded);
    until(|| stage.proxy.players() == 0).await;
    Ok(asked)
}

#[tokio::test]
async fn whoever_comes_by_transfer_is_authenticated_like_everybody() {
    let mut stage =
        Stage::new("modern", "  accepts-transfers: true\n  online-attempt-when-ineligible: false").await;
    for protocol in [766, 774, 777] {
        let player = Player::new(&format!("Moved{protocol}"));
        let asked = stage.sessions.asked();
        assert_eq!(transfer(&stage, protocol, &player).await, Ok(true));
        assert_eq!(stage.sessions.asked(), asked + 1, "has-joined was asked");
        stage.audit.next("login.verified", |event| event["player"] == *player.name).await;
    }
    // A game that has no transfers cannot come by one.
    let text = transfer(&stage, 765, &Player::new("Moved765")).await.unwrap_err();
    assert!(text.contains("something this server does not understand"), "{text}");
    let event = stage.audit.reason("bad-handshake").await;
    assert_eq!(event["facts"]["cause"], "a transfer of a game that has no transfers");
    // In an outage the rules for outages decide.
    stage.go(false).await;
    assert_eq!(transfer(&stage, 774, &Player::new("Moved774")).await, Ok(false));
    stage.audit.next("login.fallback", |event| event["player"] == "Moved774").await;
    let text = transfer(&stage, 774, &Player::new("Stranger")).await.unwrap_err();
    assert!(text.contains("No cached session found"), "{text}");
    stage.audit.reason("no-session").await;
    // What is neither a ping, a login nor a transfer is nothing.
    for intent in [0, 4, -1] {
        let mut client = Client::connect(address(&stage.proxy), 774).await;
        client.handshake(HOST, intent).await;
        client.login_start("Moved774", Player::new("Moved774").id).await;
        assert_eq!(client.recv().await, None);
        stage.audit.reason("bad-handshake").await;
    }
    // And without the owner's leave nobody comes that way, outage or not.
    stage.proxy.stop().await;
    let setup = stage.setup.replace("accepts-transfers: true", "accepts-transfers: false");
    let (proxy, audit) = (setup.start().await, setup.audit());
    let mut stage = Stage { proxy, audit, setup, ..stage };
    for online in [false, true] {
        stage.go(online).await;
        for protocol in [766, 777] {
            let text =
                transfer(&stage, protocol, &Player::new(&format!("Moved{protocol}"))).await.unwrap_err();
            assert!(text.contains("does not accept transfers"), "{text}");
            stage.audit.reason("transfer-refused").await;
        }
    }
}
