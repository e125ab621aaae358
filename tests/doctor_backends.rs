//! What the examination of backends finds, on backends scripted after the servers that people run: each way to set one
//! up, in each mode. They let players in at a tick, as the game does, so none of them may ever see the probe in play.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use postern::{
    backend::{Backend, ForwardingMode, Lookup},
    doctor::{
        backends::examine,
        report::{Finding, Report, Verdict},
    },
};
use sha2::Sha256;
use support::wire::{self, In, Out};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    time::{Instant, sleep},
};
use uuid::Uuid;

const SECRET: &str = "the forwarding secret";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Servers let players in when their next tick comes.
const TICK: Duration = Duration::from_millis(50);

/// What offline mode makes of the probe's name.
const OFFLINE_ID: Uuid = Uuid::from_u128(0x8007_59cf_6bc3_308f_a69a_98c6_7470_7a97);

/// How a server treats who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Offline mode, no forwarding. `true`: Spigot, which knows host fields when it sees some.
    Offline(bool),
    Online,
    /// Asks as Paper does, from the thread that reads.
    Paper(&'static str),
    /// Asks as FabricProxy-Lite does, at the next tick, and says the same whatever is wrong.
    Fabric(&'static str),
    /// Asks, and lets in who does not answer.
    Bypass,
    /// Asks, and takes every signature.
    Gullible,
    /// Asks, and has its own words for everything.
    Worded(&'static str),
    /// Asks, and says the same whatever is wrong, from the thread that reads.
    Vague(&'static str),
    /// Asks for host fields, as Spigot.
    Bungee,
    /// The same behind BungeeGuard.
    Guard(&'static str),
    /// Takes the connection, also for pings, and says nothing.
    Silent,
    /// Answers pings, closes logins.
    Cut,
    /// Speaks another protocol.
    Web,
    /// Wants a chat key.
    Keyed,
    /// Wants the client's mods.
    Modded,
    /// Wants another version.
    Outdated,
}

#[derive(Clone, Debug)]
struct Script {
    kind: Kind,
    native: i32,
    /// Versions taken beside its own, by a plugin.
    translates: Option<RangeInclusive<i32>>,
    /// Who is in, is not on the whitelist.
    whitelist: bool,
    /// Time between two logins of one address.
    throttle: Duration,
    /// Whether there are server list answers, and whether they are any good.
    answers: bool,
    garbled: bool,
    /// Whether connections begin with a PROXY header.
    proxied: bool,
    /// Whether a plugin gives players ids of its own, whoever they were before.
    own_ids: bool,
    /// What it thinks before it answers a ping, and a login.
    slow: (Duration, Duration),
}

impl Script {
    fn new(kind: Kind, native: i32) -> Self {
        Self {
            kind,
            native,
            translates: None,
            whitelist: false,
            throttle: Duration::ZERO,
            answers: true,
            garbled: false,
            proxied: false,
            own_ids: false,
            slow: (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// How a login ended for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Refused,
    /// The client left before it was let in, or before it acknowledged that.
    Left,
    /// In the world.
    InPlay,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Visit {
    protocol: i32,
    host: String,
    name: String,
    ending: Ending,
}

struct Server {
    port: u16,
    visits: Arc<Mutex<Vec<Visit>>>,
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let visits = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&visits);
        tokio::spawn(async move {
            let mut last: Option<Instant> = None;
            while let Ok((stream, _)) = listener.accept().await {
                // Time stands still while bytes are under way, so none may wait for others.
                stream.set_nodelay(true).unwrap();
                let mut seat = Seat { stream, script: script.clone(), threshold: None, id: OFFLINE_ID };
                let Some((protocol, host, intent)) = seat.handshake().await else { continue };
                if intent == 1 {
                    tokio::spawn(async move { seat.status(protocol).await });
                    continue;
                }
                let throttled = last.is_some_and(|last| last.elapsed() < script.throttle);
                last = Some(Instant::now());
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let (name, ending) = seat.login(protocol, &host, throttled).await;
                    noted.lock().unwrap().push(Visit { protocol, host, name, ending });
                });
            }
        });
        Self { port, visits }
    }

    fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }
}

struct Seat {
    stream: TcpStream,
    script: Script,
    threshold: Option<usize>,
    /// Who the player is, as far as the server knows.
    id: Uuid,
}

impl Seat {
    async fn read(&mut self) -> Option<Vec<u8>> {
        let body = wire::read_body(&mut self.stream, |_| {}).await?;
        Some(wire::unframe(&body, self.threshold))
    }

    async fn write(&mut self, packet: &Out) {
        let _ = self.stream.write_all(&wire::frame(&packet.0, self.threshold)).await;
    }

    async fn handshake(&mut self) -> Option<(i32, String, i32)> {
        if self.script.proxied {
            // Version 2, LOCAL, no addresses.
            let mut header = [0; 16];
            self.stream.read_exact(&mut header).await.ok()?;
            assert_eq!(header, *b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00");
        }
        match self.script.kind {
            Kind::Silent => {
                let mut rest = Vec::new();
                let _ = self.stream.read_to_end(&mut rest).await;
                return None;
            }
            Kind::Web => {
                let _ = self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                return None;
            }
            _ => {}
        }
        let packet = self.read().await?;
        let mut reader = In(&packet[1..]);
        let (protocol, host) = (reader.varint(), reader.str());
        reader.take(2);
        Some((protocol, host, reader.varint()))
    }

    async fn status(&mut self, protocol: i32) -> Option<()> {
        self.read().await?;
        sleep(self.script.slow.0).await;
        if !self.script.answers {
            return None;
        }
        let spoken = match &self.script.translates {
            Some(range) if range.contains(&protocol) => protocol,
            _ => self.script.native,
        };
        let json = serde_json::json!({
            "version": { "name": "Scripted \u{1b}[31m", "protocol": spoken },
            "players": { "max": 20, "online": 3 },
            "description": "x",
        });
        let json = if self.script.garbled { "no json".to_owned() } else { json.to_string() };
        self.write(&Out::id(0).str(&json)).await;
        Some(())
    }

    async fn refuse(&mut self, text: &str) -> Ending {
        self.write(&Out::id(0).str(&serde_json::json!({ "text": text }).to_string())).await;
        let _ = self.stream.shutdown().await;
        Ending::Refused
    }

    async fn login(&mut self, protocol: i32, host: &str, throttled: bool) -> (String, Ending) {
        if throttled {
            return (
                String::new(),
                self.refuse("Connection throttled! Please wait before reconnecting.").await,
            );
        }
        sleep(self.script.slow.1).await;
        let parts: Vec<&str> = host.split('\0').collect();
        match self.script.kind {
            Kind::Bungee | Kind::Guard(_) if parts.len() < 3 => {
                let text =
                    "If you wish to use IP forwarding, please enable it in your BungeeCord config as well!";
                return (String::new(), self.refuse(text).await);
            }
            Kind::Guard(token) => {
                let properties: serde_json::Value = serde_json::from_str(parts[3]).unwrap();
                let given = properties.as_array().unwrap().iter().find(|p| p["name"] == "bungeeguard-token");
                if given.is_none_or(|given| given["value"] != token) {
                    return (String::new(), self.refuse("\u{a7}cUnable to authenticate.").await);
                }
            }
            Kind::Offline(true) if parts.len() >= 3 => {
                let text =
                    "Unknown data in login hostname, did you forget to enable BungeeCord in spigot.yml?";
                return (String::new(), self.refuse(text).await);
            }
            _ => {}
        }
        if matches!(self.script.kind, Kind::Bungee | Kind::Guard(_)) {
            self.id = parts[2].parse().unwrap();
        }
        let Some(packet) = self.read().await else { return (String::new(), Ending::Left) };
        let name = In(&packet[1..]).str();
        let ending = match self.script.kind {
            Kind::Online => {
                self.write(&Out::id(1).str("").bytes(&[1; 162]).bytes(&[2; 4]).bool(true)).await;
                let mut rest = Vec::new();
                let _ = self.stream.read_to_end(&mut rest).await;
                Ending::Left
            }
            Kind::Cut => Ending::Refused,
            Kind::Modded => self.refuse("This server has mods that require Forge to be installed").await,
            Kind::Outdated => self.refuse("Outdated server! I'm still on 1.20.1").await,
            Kind::Keyed => self.refuse("Missing profile public key.").await,
            Kind::Fabric(_) => match self.tick().await {
                None => Ending::Left,
                Some(()) => self.ask(protocol).await,
            },
            Kind::Paper(_) | Kind::Bypass | Kind::Gullible | Kind::Worded(_) | Kind::Vague(_) => {
                self.ask(protocol).await
            }
            _ => self.admit(protocol).await,
        };
        (name, ending)
    }

    /// Waits for the next tick; `None` if the client has left before.
    async fn tick(&mut self) -> Option<()> {
        let mut byte = [0];
        select! {
            biased;
            read = self.stream.peek(&mut byte) => (read.unwrap_or(0) > 0).then_some(()),
            () = sleep(TICK) => Some(()),
        }
    }

    async fn ask(&mut self, protocol: i32) -> Ending {
        self.write(&Out::id(4).varint(9).str("mod:hello").raw(b"?")).await;
        self.write(&Out::id(4).varint(7).str("velocity:player_info").raw(&[4])).await;
        let answer = loop {
            let Some(packet) = self.read().await else { return Ending::Left };
            let mut reader = In(&packet[1..]);
            if (packet[0], reader.varint()) == (2, 7) {
                break reader.bool().then(|| reader.0.to_vec());
            }
        };
        let Some(answer) = answer else {
            return match self.script.kind {
                Kind::Bypass => self.admit(protocol).await,
                Kind::Worded(_) => self.refuse("Nope.").await,
                _ => self.refuse("This server requires you to connect with Velocity.").await,
            };
        };
        let (Kind::Paper(secret) | Kind::Fabric(secret) | Kind::Worded(secret) | Kind::Vague(secret)) =
            self.script.kind
        else {
            return self.judge(protocol, &answer[32..]).await;
        };
        let (signature, data) = answer.split_at(32);
        let mut mac = <Hmac<Sha256>>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(data);
        let is_good = mac.verify_slice(signature).is_ok();
        let fabric = matches!(self.script.kind, Kind::Fabric(_));
        if fabric && self.tick().await.is_none() {
            return Ending::Left;
        }
        match self.script.kind {
            Kind::Fabric(_) | Kind::Vague(_) if data[0] > 4 => {
                self.refuse("Unable to verify player details").await
            }
            Kind::Worded(_) if !is_good => self.refuse("Bad signature, sorry").await,
            _ if !is_good => self.refuse("Unable to verify player details").await,
            _ => self.judge(protocol, data).await,
        }
    }

    /// What the data says, after its signature.
    async fn judge(&mut self, protocol: i32, data: &[u8]) -> Ending {
        if data[0] > 4 {
            let text =
                "Internal Exception: java.lang.IllegalStateException: Unsupported forwarding version 127";
            return self.refuse(text).await;
        }
        // Version, address, id.
        let mut reader = In(&data[1..]);
        reader.str();
        self.id = Uuid::from_slice(&reader.0[..16]).unwrap();
        self.admit(protocol).await
    }

    async fn admit(&mut self, protocol: i32) -> Ending {
        if self.tick().await.is_none() {
            return Ending::Left;
        }
        if self.script.whitelist {
            return self.refuse("You are not whitelisted on this server!").await;
        }
        if protocol >= 47 {
            self.write(&Out::id(3).varint(64)).await;
            self.threshold = Some(64);
        }
        let id = if self.script.own_ids { OFFLINE_ID } else { self.id };
        let success = match protocol {
            0..735 => Out::id(2).str(&id.hyphenated().to_string()).str("PosternDoctor"),
            735..759 => Out::id(2).raw(id.as_bytes()).str("PosternDoctor"),
            766 | 767 => Out::id(2).raw(id.as_bytes()).str("PosternDoctor").varint(0).bool(true),
            776.. => Out::id(2).raw(id.as_bytes()).str("PosternDoctor").varint(0).raw(&[5; 16]),
            _ => Out::id(2).raw(id.as_bytes()).str("PosternDoctor").varint(0),
        };
        self.write(&success).await;
        // A server that translates is in play with its own success, whatever the client's version needs.
        if self.script.native < 764 || self.read().await.is_some() { Ending::InPlay } else { Ending::Left }
    }
}

fn backend(port: u16, forwarding: ForwardingMode) -> Backend {
    Backend {
        name: "lobby".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        lookup: Lookup::Host,
        forwarding,
        secret: Some(SECRET.as_bytes().to_vec().into()),
        send_proxy_protocol: false,
    }
}

async fn findings_on(script: Script, mode: ForwardingMode) -> (Vec<Finding>, Vec<Visit>) {
    findings_with(Some(SECRET), script, mode).await
}

async fn findings_with(
    secret: Option<&str>,
    script: Script,
    mode: ForwardingMode,
) -> (Vec<Finding>, Vec<Visit>) {
    let proxied = script.proxied;
    let server = Server::start(script).await;
    let secret = secret.map(|secret| secret.as_bytes().to_vec().into());
    let examined = Backend { send_proxy_protocol: proxied, secret, ..backend(server.port, mode) };
    let findings = examine(&[examined], TIMEOUT).await;
    // The last probe may still be leaving.
    sleep(2 * TICK).await;
    let visits = server.visits();
    for visit in &visits {
        assert_ne!(visit.ending, Ending::InPlay, "{visit:?}");
        assert!(["", "PosternDoctor"].contains(&visit.name.as_str()), "{visit:?}");
        assert_eq!(visit.host.split('\0').next(), Some("127.0.0.1"));
    }
    for finding in &findings {
        assert_eq!(finding.subject, format!("lobby (127.0.0.1:{})", server.port));
    }
    let mut report = Report::default();
    report.extend(findings.clone());
    assert!(!report.to_json().contains(SECRET) && !report.to_string().contains('\u{1b}'));
    let mut checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    checks.sort_unstable();
    checks.dedup();
    assert_eq!(checks.len(), findings.len(), "two findings on one check: {findings:#?}");
    (findings, visits)
}

/// Check, verdict, words of cause and mend.
type Expected = (&'static str, Verdict, &'static [&'static str]);

fn assert_found(what: &str, findings: &[Finding], expected: &[Expected]) {
    for (check, verdict, words) in expected {
        let finding = findings.iter().find(|finding| finding.check == *check);
        let finding = finding.unwrap_or_else(|| panic!("{what}: nothing on {check}: {findings:#?}"));
        assert_eq!(finding.verdict, *verdict, "{what}: {check}: {findings:#?}");
        for word in *words {
            let said = format!("{}. {}", finding.cause, finding.mend);
            assert!(said.contains(word), "{what}: {check} does not say {word:?}: {said}");
        }
    }
}

use ForwardingMode::{BungeeGuard, Legacy, Modern, None as Unforwarded};
use Verdict::{Error, Ok as Good, Skipped, Warning};

const CAN_BE_ANYONE: &str = "can be anyone: firewall it or enable forwarding";

const NOT_ASKED: &[Expected] = &[
    (
        "forwarding",
        Error,
        &["does not ask who the player is", "proxies.velocity.enabled: true", CAN_BE_ANYONE],
    ),
    ("plain-login", Error, &["lets in whoever connects", "anyone who can reach 127.0.0.1:", CAN_BE_ANYONE]),
    ("secret", Skipped, &["did not ask who the player is"]),
    ("online-mode", Good, &["offline mode"]),
];
/// What is found on each kind in modern mode, where the version has a configuration state.
const SINCE_CONFIGURATION: &[(Kind, &[Expected])] = &[
    (
        Kind::Paper(SECRET),
        &[
            ("resolve", Good, &["127.0.0.1"]),
            ("connect", Good, &["takes connections"]),
            ("status", Good, &["Scripted", "3 of 20 players"]),
            ("protocol", Good, &["speaks"]),
            ("forwarding", Good, &["asks who the player is"]),
            ("secret", Good, &["accepts our forwarding secret"]),
            ("wrong-secret", Good, &["refuses a wrong"]),
            (
                "plain-login",
                Good,
                &["refuses a login without forwarding", "requires you to connect with Velocity"],
            ),
            ("online-mode", Good, &["offline mode"]),
        ],
    ),
    (
        Kind::Paper("another secret"),
        &[
            ("forwarding", Good, &[]),
            ("secret", Error, &["does not accept our forwarding secret", "`secret-file`"]),
            ("wrong-secret", Good, &[]),
            ("plain-login", Good, &[]),
        ],
    ),
    (Kind::Fabric(SECRET), &[("forwarding", Good, &[]), ("secret", Good, &[]), ("wrong-secret", Good, &[])]),
    (Kind::Fabric("another"), &[("secret", Error, &[]), ("wrong-secret", Good, &[])]),
    (
        Kind::Worded("another"),
        &[
            ("secret", Error, &["does not accept our forwarding secret"]),
            ("wrong-secret", Skipped, &["in the same words"]),
            ("plain-login", Good, &["Nope."]),
        ],
    ),
    (
        Kind::Bypass,
        &[("forwarding", Good, &[]), ("plain-login", Error, &["lets in whoever connects", CAN_BE_ANYONE])],
    ),
    (
        Kind::Gullible,
        &[
            ("secret", Skipped, &["it takes any"]),
            ("wrong-secret", Error, &["takes a wrong forwarding secret", CAN_BE_ANYONE]),
            ("plain-login", Good, &[]),
        ],
    ),
    (Kind::Offline(false), NOT_ASKED),
    (Kind::Offline(true), NOT_ASKED),
    (
        Kind::Online,
        &[
            ("online-mode", Error, &["is in online mode", "online-mode=false"]),
            ("forwarding", Skipped, &["it is in online mode"]),
            ("secret", Skipped, &["it is in online mode"]),
            ("plain-login", Skipped, &["it is in online mode"]),
        ],
    ),
    (
        Kind::Bungee,
        &[
            (
                "forwarding",
                Error,
                &[
                    "expects BungeeCord forwarding",
                    "set `settings.bungeecord: false` in its spigot.yml",
                    "`forwarding: legacy`",
                ],
            ),
            ("plain-login", Good, &["If you wish to use IP forwarding"]),
            ("secret", Skipped, &["it expects another kind of forwarding"]),
            ("wrong-secret", Skipped, &["it expects another kind of forwarding"]),
            ("online-mode", Skipped, &["it expects another kind of forwarding"]),
        ],
    ),
    (Kind::Vague(SECRET), &[("forwarding", Good, &[]), ("secret", Good, &[]), ("wrong-secret", Good, &[])]),
    (Kind::Vague("another"), &[("secret", Error, &[]), ("wrong-secret", Good, &[])]),
    (
        Kind::Keyed,
        &[("forwarding", Error, &["chat key", "enforce-secure-profile=false"]), ("secret", Skipped, &[])],
    ),
    (Kind::Cut, &[("status", Good, &[]), ("forwarding", Error, &["closed the connection", "its log"])]),
];

#[tokio::test(start_paused = true)]
async fn modern_backends_since_configuration() {
    for (kind, expected) in SINCE_CONFIGURATION {
        for native in [764, 767, 769, 777] {
            let what = format!("{kind:?} {native}");
            let (findings, visits) = findings_on(Script::new(*kind, native), Modern).await;
            assert_found(&what, &findings, expected);
            let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
            let all = ["resolve", "connect", "status", "protocol", "forwarding", "secret", "wrong-secret"];
            assert_eq!(checks, [&all[..], &["plain-login", "online-mode"]].concat(), "{what}");
            assert!(!visits.is_empty() && visits.iter().all(|visit| visit.protocol == native), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn modern_backends_before_configuration() {
    let late: &[Expected] = &[
        ("forwarding", Warning, &["did not ask at once", "FabricProxy-Lite", CAN_BE_ANYONE]),
        ("plain-login", Warning, &["most likely lets anyone in", CAN_BE_ANYONE]),
        ("secret", Skipped, &[]),
    ];
    let untold: &[Expected] = &[
        ("forwarding", Good, &["asks who the player is"]),
        ("secret", Warning, &["before 1.20.2", "the first real login tells"]),
        ("wrong-secret", Skipped, &["before 1.20.2"]),
        ("plain-login", Good, &[]),
        ("online-mode", Good, &[]),
    ];
    let rows: &[(Kind, &[Expected])] = &[
        (
            Kind::Paper(SECRET),
            &[
                ("forwarding", Good, &["asks who the player is"]),
                ("secret", Good, &["accepts our forwarding secret", "Unsupported forwarding version"]),
                ("wrong-secret", Good, &["refuses a wrong"]),
                ("plain-login", Good, &["lets nobody in before its question is answered"]),
                ("online-mode", Good, &[]),
            ],
        ),
        // Nobody can tell these apart: the right secret, and words for an unreadable answer that are those for a wrong one;
        // or a wrong secret.
        (Kind::Vague(SECRET), untold),
        (Kind::Vague("another"), untold),
        (Kind::Paper("another"), untold),
        (Kind::Worded("another"), untold),
        (Kind::Worded(SECRET), &[("secret", Good, &[]), ("wrong-secret", Good, &[])]),
        (
            Kind::Gullible,
            &[
                ("secret", Skipped, &["it takes any"]),
                ("wrong-secret", Error, &["does not check", CAN_BE_ANYONE]),
            ],
        ),
        (Kind::Fabric(SECRET), late),
        (Kind::Offline(false), late),
        (Kind::Online, &[("online-mode", Error, &["online-mode=false"]), ("forwarding", Skipped, &[])]),
        (
            Kind::Bungee,
            &[("forwarding", Error, &["expects BungeeCord forwarding"]), ("plain-login", Good, &[])],
        ),
    ];
    for (kind, expected) in rows {
        for native in [393, 578, 758, 760, 763] {
            let (findings, visits) = findings_on(Script::new(*kind, native), Modern).await;
            assert_found(&format!("{kind:?} {native}"), &findings, expected);
            assert!(!visits.is_empty());
        }
    }
    // Below 1.13 there is nothing to find out by logins.
    let (findings, visits) = findings_on(Script::new(Kind::Offline(true), 340), Modern).await;
    let expected: &[Expected] = &[
        ("protocol", Error, &["1.12.2", "modern forwarding needs 1.13 or later", "`legacy`"]),
        ("forwarding", Skipped, &["modern forwarding cannot work in its version"]),
        ("plain-login", Skipped, &[]),
    ];
    assert_found("1.12.2", &findings, expected);
    // Nobody has looked whether it lets strangers in.
    assert!(findings.iter().all(|finding| !finding.mend.contains("can be anyone")), "{findings:#?}");
    assert_eq!(visits, []);
}

#[tokio::test(start_paused = true)]
async fn backends_that_ask_for_host_fields() {
    let rows: &[(ForwardingMode, Kind, &[Expected])] = &[
        (
            Legacy,
            Kind::Bungee,
            &[
                ("forwarding", Good, &["BungeeCord forwarding"]),
                ("plain-login", Good, &["If you wish to use IP forwarding"]),
                ("unsigned", Warning, &["not signed", CAN_BE_ANYONE]),
                ("online-mode", Good, &[]),
            ],
        ),
        (
            Legacy,
            Kind::Guard(SECRET),
            &[("forwarding", Error, &["expects BungeeGuard forwarding", "`forwarding: bungeeguard`"])],
        ),
        (
            Legacy,
            Kind::Online,
            &[
                ("online-mode", Error, &[]),
                ("plain-login", Skipped, &["it is in online mode"]),
                ("unsigned", Skipped, &["in this proxy's name", "it is in online mode"]),
            ],
        ),
        (
            BungeeGuard,
            Kind::Guard(SECRET),
            &[
                ("forwarding", Good, &[]),
                ("secret", Good, &[]),
                ("wrong-secret", Good, &["refuses a wrong token"]),
                ("plain-login", Good, &[]),
                ("online-mode", Good, &[]),
            ],
        ),
        (
            BungeeGuard,
            Kind::Guard("another"),
            &[
                ("secret", Error, &["does not accept our forwarding secret", "`allowed-tokens`"]),
                ("wrong-secret", Good, &[]),
                ("plain-login", Good, &[]),
            ],
        ),
    ];
    for (mode, kind, expected) in rows {
        for native in [5, 47, 340, 758, 763, 764, 769, 777] {
            let (findings, visits) = findings_on(Script::new(*kind, native), *mode).await;
            assert_found(&format!("{mode:?} {kind:?} {native}"), &findings, expected);
            assert!(!visits.is_empty());
        }
    }
    // What old servers do only at their next tick is not waited for there.
    for (native, sure) in [(340, Warning), (763, Warning), (764, Error), (777, Error)] {
        for (mode, kind, expected) in [
            (
                Legacy,
                Kind::Offline(false),
                &[
                    ("plain-login", sure, &[CAN_BE_ANYONE][..]),
                    ("forwarding", sure, &["`settings.bungeecord: true`", CAN_BE_ANYONE]),
                    ("unsigned", Skipped, &[]),
                ][..],
            ),
            (
                BungeeGuard,
                Kind::Offline(false),
                &[
                    ("plain-login", sure, &[CAN_BE_ANYONE]),
                    ("forwarding", sure, &["install BungeeGuard", CAN_BE_ANYONE]),
                    ("secret", Skipped, &[]),
                    ("wrong-secret", Skipped, &[]),
                ],
            ),
            (
                Legacy,
                Kind::Offline(true),
                &[
                    ("plain-login", sure, &[CAN_BE_ANYONE]),
                    ("forwarding", Error, &["does not ask", "`settings.bungeecord: true`"]),
                ],
            ),
            (
                BungeeGuard,
                Kind::Bungee,
                &[
                    ("wrong-secret", sure, &[CAN_BE_ANYONE]),
                    ("plain-login", Good, &[]),
                    ("secret", Skipped, &["the same with a wrong one"]),
                ],
            ),
        ] {
            let (findings, _) = findings_on(Script::new(kind, native), mode).await;
            let what = format!("{mode:?} {kind:?} {native}");
            assert_found(&what, &findings, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn modern_where_another_mode_is_configured_and_the_reverse() {
    for native in [758, 769] {
        for mode in [Legacy, BungeeGuard, Unforwarded] {
            let (findings, _) = findings_on(Script::new(Kind::Paper(SECRET), native), mode).await;
            assert_found(
                &format!("{mode:?} {native}"),
                &findings,
                &[(
                    "forwarding",
                    Error,
                    &["expects modern (Velocity) forwarding", "set `forwarding: modern` and its secret"],
                )],
            );
        }
        for kind in [Kind::Bungee, Kind::Paper(SECRET)] {
            let (findings, _) = findings_on(Script::new(kind, native), Unforwarded).await;
            let expected: &[Expected] =
                &[("forwarding", Error, &["set `forwarding: "]), ("plain-login", Good, &[])];
            assert_found("none", &findings, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_forwarding_is_told_of_where_it_is_found() {
    for native in [5, 340, 763, 764, 777] {
        let (findings, _) = findings_on(Script::new(Kind::Offline(true), native), Unforwarded).await;
        let expected: &[Expected] = &[
            ("forwarding", Good, &["asks for none"]),
            ("plain-login", Warning, &["anyone who can reach 127.0.0.1:", CAN_BE_ANYONE]),
            ("online-mode", Good, &[]),
        ];
        assert_found(&native.to_string(), &findings, expected);
        let (findings, _) = findings_on(Script::new(Kind::Online, native), Unforwarded).await;
        let expected: &[Expected] = &[
            ("online-mode", Error, &["online-mode=false"]),
            ("plain-login", Skipped, &["it is in online mode"]),
            ("forwarding", Skipped, &[]),
        ];
        assert_found(&native.to_string(), &findings, expected);
    }
    let (findings, _) = findings_on(Script::new(Kind::Modded, 769), Unforwarded).await;
    let expected: &[Expected] = &[
        ("forwarding", Good, &["refused the probe"]),
        ("plain-login", Warning, &["by a name that nobody checks", CAN_BE_ANYONE]),
    ];
    assert_found("modded", &findings, expected);
}

#[tokio::test(start_paused = true)]
async fn a_whitelist_is_no_forwarding() {
    let listed = |kind| Script { whitelist: true, ..Script::new(kind, 769) };
    let (findings, _) = findings_on(listed(Kind::Offline(false)), Modern).await;
    let expected: &[Expected] = &[
        ("forwarding", Error, &["does not ask who the player is"]),
        ("plain-login", Error, &["by its lists alone", "not whitelisted", CAN_BE_ANYONE]),
    ];
    assert_found("offline", &findings, expected);
    let (findings, _) = findings_on(listed(Kind::Offline(false)), Legacy).await;
    assert_found("offline", &findings, &[("plain-login", Error, &["by its lists alone", CAN_BE_ANYONE])]);
    let (findings, _) = findings_on(listed(Kind::Paper(SECRET)), Modern).await;
    let expected: &[Expected] = &[
        ("secret", Good, &["accepts our forwarding secret, then refused the probe"]),
        ("wrong-secret", Good, &[]),
    ];
    assert_found("paper", &findings, expected);
    let (findings, _) = findings_on(listed(Kind::Gullible), Modern).await;
    assert_found("gullible", &findings, &[("secret", Skipped, &[]), ("wrong-secret", Error, &[])]);
    // The list is looked at behind the question, so nobody had to answer that.
    let (findings, _) = findings_on(listed(Kind::Bypass), Modern).await;
    let expected: &[Expected] =
        &[("forwarding", Good, &[]), ("plain-login", Error, &["by its lists alone", CAN_BE_ANYONE])];
    assert_found("bypass", &findings, expected);
    // Another refusal may be about anything.
    let (findings, _) = findings_on(Script::new(Kind::Modded, 769), Modern).await;
    let expected: &[Expected] = &[
        (
            "forwarding",
            Warning,
            &[
                "refused the probe before asking who it is: most likely forwarding is off there",
                "mods that require Forge",
                "`proxies.velocity.enabled: true`",
                CAN_BE_ANYONE,
            ],
        ),
        ("plain-login", Warning, &["maybe for another reason", CAN_BE_ANYONE]),
    ];
    assert_found("modded", &findings, expected);
    for mode in [Legacy, BungeeGuard] {
        for script in [Script::new(Kind::Modded, 769), listed(Kind::Offline(false))] {
            let what = format!("{mode:?} {:?}", script.kind);
            let (findings, _) = findings_on(script, mode).await;
            let expected: &[Expected] =
                &[("forwarding", Warning, &["cannot be told whether it takes", "it says the same without"])];
            assert_found(&what, &findings, expected);
            assert!(
                findings
                    .iter()
                    .skip(5)
                    .all(|finding| finding.verdict != Good || finding.check == "online-mode")
            );
        }
    }
}

/// A login that succeeds proves nothing if it was not the forwarded player's.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_makes_its_own_ids() {
    let ids = |kind| Script { own_ids: true, ..Script::new(kind, 769) };
    let rows: &[(ForwardingMode, Kind, &[Expected])] = &[
        (
            Modern,
            Kind::Paper(SECRET),
            &[
                (
                    "forwarding",
                    Error,
                    &["ignored the forwarded player", "made from its name", "makes ids of its own"],
                ),
                ("secret", Good, &[]),
                ("wrong-secret", Good, &[]),
                ("plain-login", Good, &[]),
            ],
        ),
        (
            Modern,
            Kind::Gullible,
            &[
                ("forwarding", Error, &["ignored the forwarded player"]),
                ("secret", Skipped, &["it takes any"]),
                ("wrong-secret", Error, &[CAN_BE_ANYONE]),
            ],
        ),
        (
            Modern,
            Kind::Bypass,
            &[
                ("forwarding", Error, &["ignored the forwarded player"]),
                ("plain-login", Error, &[CAN_BE_ANYONE]),
            ],
        ),
        (
            Legacy,
            Kind::Bungee,
            &[
                ("forwarding", Error, &["ignored the forwarded player", CAN_BE_ANYONE]),
                ("plain-login", Good, &[]),
            ],
        ),
        (
            BungeeGuard,
            Kind::Guard(SECRET),
            &[
                ("forwarding", Error, &["ignored the forwarded player"]),
                ("plain-login", Good, &[]),
                ("secret", Skipped, &["our forwarding is not taken"]),
            ],
        ),
    ];
    for (mode, kind, expected) in rows {
        let (findings, _) = findings_on(ids(*kind), *mode).await;
        assert_found(&format!("{mode:?} {kind:?}"), &findings, expected);
    }
}

/// Before the first `postern run` there is nothing to sign with, which is not the backend's fault.
#[tokio::test(start_paused = true)]
async fn no_secret_here_yet() {
    let missing: Expected = ("secret", Skipped, &["no forwarding secret here yet", "run `postern run` once"]);
    let sound: &[Expected] =
        &[("forwarding", Good, &[]), missing, ("wrong-secret", Good, &[]), ("plain-login", Good, &[])];
    let old: &[Expected] =
        &[("forwarding", Good, &[]), missing, ("wrong-secret", Skipped, &["no forwarding secret here yet"])];
    let open: &[Expected] = &[("forwarding", Good, &[]), missing, ("wrong-secret", Error, &[CAN_BE_ANYONE])];
    for (mode, kind, native, expected) in [
        (Modern, Kind::Paper(SECRET), 769, sound),
        (Modern, Kind::Worded(SECRET), 769, sound),
        (Modern, Kind::Paper(SECRET), 763, old),
        (Modern, Kind::Gullible, 769, open),
        (Modern, Kind::Gullible, 763, open),
        (BungeeGuard, Kind::Guard(SECRET), 769, sound),
        (BungeeGuard, Kind::Guard(SECRET), 340, sound),
        (BungeeGuard, Kind::Bungee, 769, open),
    ] {
        let (findings, _) = findings_with(None, Script::new(kind, native), mode).await;
        assert_found(&format!("{mode:?} {kind:?} {native}"), &findings, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttle_is_waited_out_and_told() {
    let script = |throttle| Script { throttle, ..Script::new(Kind::Paper(SECRET), 769) };
    let start = Instant::now();
    let (findings, visits) = findings_on(script(Duration::from_secs(4)), Modern).await;
    assert_found(
        "4 s",
        &findings,
        &[
            ("secret", Good, &[]),
            ("wrong-secret", Good, &[]),
            (
                "throttle",
                Warning,
                &["throttles connections", "settings.connection-throttle: -1", "bukkit.yml"],
            ),
        ],
    );
    assert_eq!(visits.len(), 5);
    assert!(start.elapsed() < Duration::from_secs(12));
    let (findings, _) = findings_on(script(Duration::from_mins(1)), Modern).await;
    assert_found(
        "a minute",
        &findings,
        &[
            ("forwarding", Good, &[]),
            ("plain-login", Good, &[]),
            ("secret", Skipped, &["it throttles connections"]),
            ("throttle", Warning, &[]),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn versions_that_a_backend_takes() {
    for (native, translates, expected) in [
        (769, None, "speaks 1.21.4 (protocol 769)"),
        (774, Some(47..=777), "speaks 1.21.11 (protocol 774); takes games from 1.8 to 26.3"),
        (763, Some(763..=775), "speaks 1.20.1 (protocol 763); takes games from 1.20.1 to 26.1"),
        (-1, Some(-1..=774), "translates between versions; takes games from 1.7.6 to 1.21.11"),
    ] {
        let script = Script { translates, ..Script::new(Kind::Offline(false), native) };
        let (findings, _) = findings_on(script, Unforwarded).await;
        let finding = findings.iter().find(|finding| finding.check == "protocol").unwrap();
        assert_eq!((finding.verdict, finding.cause.as_str()), (Good, expected));
    }
    let (findings, _) = findings_on(Script::new(Kind::Offline(false), 778), Unforwarded).await;
    assert_found("778", &findings, &[("protocol", Warning, &["protocol 778", "update Postern"])]);
    let (findings, visits) = findings_on(Script::new(Kind::Offline(false), -1), Unforwarded).await;
    let expected: &[Expected] =
        &[("protocol", Warning, &["does not say"]), ("forwarding", Skipped, &["its version is not known"])];
    assert_found("none", &findings, expected);
    assert_eq!(visits, []);
}

/// The version that a translated login would be made in has a configuration state; the server's own has none, and is in
/// play with its login success.
#[tokio::test(start_paused = true)]
async fn a_backend_that_translates_is_approached_as_what_it_is() {
    for kind in [Kind::Offline(false), Kind::Paper(SECRET), Kind::Fabric(SECRET), Kind::Gullible] {
        for native in [758, 763] {
            let script = Script { translates: Some(47..=777), ..Script::new(kind, native) };
            let (_, visits) = findings_on(script, Modern).await;
            assert!(!visits.is_empty() && visits.iter().all(|visit| visit.protocol == native), "{visits:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_step_that_fails_skips_the_rest() {
    let rows: &[(Kind, &[Expected])] = &[
        (
            Kind::Silent,
            &[
                ("connect", Good, &[]),
                ("status", Error, &["does not answer server list pings", "hangs", "PROXY header"]),
            ],
        ),
        (
            Kind::Web,
            &[
                ("status", Error, &["with something else than Minecraft does", "which program its port"]),
                ("protocol", Skipped, &[]),
            ],
        ),
    ];
    for (kind, expected) in rows {
        let (findings, _) = findings_on(Script::new(*kind, 769), Modern).await;
        assert_found(&format!("{kind:?}"), &findings, expected);
        assert!(findings[3..].iter().all(|finding| finding.verdict == Skipped), "{findings:#?}");
    }
    let garbled = Script { garbled: true, ..Script::new(Kind::Paper(SECRET), 769) };
    let (findings, _) = findings_on(garbled, Modern).await;
    let expected: &[Expected] =
        &[("status", Error, &["Minecraft does: the status answer is not a JSON object"])];
    assert_found("garbled", &findings, expected);

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = backend(socket.local_addr().unwrap().port(), Modern);
    let unnamed = Backend { host: "not a name".to_owned(), ..closed.clone() };
    let findings = examine(&[closed, unnamed], TIMEOUT).await;
    assert_eq!(findings.len(), 18);
    let (closed, unnamed) = findings.split_at(9);
    let expected: &[Expected] = &[
        ("resolve", Good, &[]),
        ("connect", Error, &["cannot be reached", "server-port"]),
        ("status", Skipped, &["cannot be reached"]),
        ("online-mode", Skipped, &["cannot be reached"]),
    ];
    assert_found("closed", closed, expected);
    let expected: &[Expected] = &[
        (
            "resolve",
            Error,
            &["cannot resolve not a name", "correct the name in its `address`", "/etc/resolv.conf"],
        ),
        ("connect", Skipped, &["leads nowhere"]),
    ];
    assert_found("unnamed", unnamed, expected);
    // The name stands in front of each line already.
    assert!(findings.iter().all(|finding| !finding.cause.contains("lobby")), "{findings:#?}");
}

/// A server may be told to hide from the server list; players can join all the same.
#[tokio::test(start_paused = true)]
async fn a_backend_without_a_server_list_answer_is_examined_carefully() {
    let hidden = |kind| Script { answers: false, ..Script::new(kind, 777) };
    let closes: Expected =
        ("status", Warning, &["closes the connection", "enable-status=true", "PROXY header"]);
    let rows: &[(ForwardingMode, Kind, &[Expected])] = &[
        (
            Modern,
            Kind::Paper(SECRET),
            &[
                closes,
                ("protocol", Skipped, &["does not answer server list pings"]),
                ("forwarding", Good, &[]),
                ("secret", Good, &[]),
                ("wrong-secret", Good, &[]),
                ("plain-login", Good, &["lets nobody in before"]),
                ("online-mode", Good, &[]),
            ],
        ),
        (
            Modern,
            Kind::Offline(false),
            &[
                closes,
                ("forwarding", Warning, &["closed the connection at a login without a word"]),
                ("plain-login", Skipped, &["without a word"]),
                ("online-mode", Skipped, &[]),
            ],
        ),
        (
            Unforwarded,
            Kind::Offline(false),
            &[closes, ("forwarding", Warning, &["cannot be told"]), ("plain-login", Skipped, &[])],
        ),
        (
            Legacy,
            Kind::Bungee,
            &[closes, ("forwarding", Good, &["does not object"]), ("plain-login", Good, &[])],
        ),
        (Modern, Kind::Online, &[closes, ("online-mode", Error, &[])]),
        (
            Modern,
            Kind::Outdated,
            &[
                closes,
                (
                    "forwarding",
                    Skipped,
                    &["its version is not known, and it refuses 26.3: \"Outdated server!"],
                ),
            ],
        ),
    ];
    for (mode, kind, expected) in rows {
        let (findings, visits) = findings_on(hidden(*kind), *mode).await;
        assert_found(&format!("{mode:?} {kind:?}"), &findings, expected);
        assert!(!visits.is_empty() && visits.iter().all(|visit| visit.protocol == 777), "{visits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_examination_has_an_end() {
    let script = Script {
        translates: Some(-1..=777),
        slow: (Duration::from_millis(4900), Duration::from_millis(9900)),
        ..Script::new(Kind::Paper(SECRET), -1)
    };
    let start = Instant::now();
    let (findings, _) = findings_on(script, Modern).await;
    let took = start.elapsed().as_secs();
    assert!((45..47).contains(&took), "{took} s");
    let expected: &[Expected] = &[
        ("status", Good, &[]),
        ("forwarding", Good, &[]),
        ("plain-login", Good, &[]),
        ("secret", Skipped, &["it took too long (45 s"]),
        ("wrong-secret", Skipped, &["it took too long (45 s"]),
    ];
    assert_found("slow", &findings, expected);
}

#[tokio::test(start_paused = true)]
async fn eight_backends_are_examined_at_once() {
    let mut servers = Vec::new();
    for _ in 0..9 {
        servers.push(Server::start(Script::new(Kind::Silent, 769)).await);
    }
    let backends: Vec<_> = servers.iter().map(|server| backend(server.port, Modern)).collect();
    // Two questions of five seconds each.
    for (count, seconds) in [(8, 10), (9, 20)] {
        let start = Instant::now();
        examine(&backends[..count], TIMEOUT).await;
        let took = start.elapsed().as_secs();
        assert!((seconds..seconds + 2).contains(&took), "{count}: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn several_backends_in_the_order_written() {
    let mut servers = Vec::new();
    let mut backends = Vec::new();
    for index in 0..9 {
        let kind = if index % 2 == 0 { Kind::Silent } else { Kind::Paper(SECRET) };
        let server = Server::start(Script::new(kind, 769)).await;
        let name = format!("b{index}");
        backends.push(Backend { name, ..backend(server.port, Modern) });
        servers.push(server);
    }
    let findings = examine(&backends, TIMEOUT).await;
    let mut names: Vec<_> =
        findings.iter().map(|finding| finding.subject.split(' ').next().unwrap().to_owned()).collect();
    names.dedup();
    assert_eq!(names, (0..9).map(|index| format!("b{index}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_wants_to_be_told_who_connects() {
    let script = Script { proxied: true, ..Script::new(Kind::Paper(SECRET), 769) };
    let (findings, visits) = findings_on(script, Modern).await;
    assert!(findings.iter().all(|finding| finding.verdict == Good), "{findings:#?}");
    assert_eq!(visits.len(), 3);
}
