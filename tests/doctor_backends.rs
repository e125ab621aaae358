//! What the examination of backends finds, on backends scripted after the servers that people run: each way to set one
//! up, in each mode. None of them may ever see the probe in play.

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

const SECRET: &str = "the forwarding secret";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Servers let players in when their next tick comes.
const TICK: Duration = Duration::from_millis(50);

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
    /// Whether there are server list answers.
    answers: bool,
    /// Whether connections begin with a PROXY header.
    proxied: bool,
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
            proxied: false,
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
                let mut seat = Seat { stream, script: script.clone(), threshold: None };
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
        self.write(&Out::id(0).str(&json.to_string())).await;
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
            Kind::Keyed => self.refuse("Missing profile public key.").await,
            Kind::Fabric(_) => match self.tick().await {
                None => Ending::Left,
                Some(()) => self.ask(protocol).await,
            },
            Kind::Paper(_) | Kind::Bypass | Kind::Gullible | Kind::Worded(_) => self.ask(protocol).await,
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
        let (Kind::Paper(secret) | Kind::Fabric(secret) | Kind::Worded(secret)) = self.script.kind else {
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
            Kind::Fabric(_) if data[0] > 4 => self.refuse("Unable to verify player details").await,
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
        let id = uuid::Uuid::from_u128(0x8007_59cf_6bc3_308f_a69a_98c6_7470_7a97);
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
    let proxied = script.proxied;
    let server = Server::start(script).await;
    let examined = Backend { send_proxy_protocol: proxied, ..backend(server.port, mode) };
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
        &[("secret", Error, &["does not accept our forwarding secret"]), ("plain-login", Good, &["Nope."])],
    ),
    (
        Kind::Bypass,
        &[("forwarding", Good, &[]), ("plain-login", Error, &["lets in whoever connects", CAN_BE_ANYONE])],
    ),
    (
        Kind::Gullible,
        &[
            ("secret", Good, &[]),
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
        ],
    ),
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
        (Kind::Paper("another"), &[("secret", Error, &["does not accept"]), ("wrong-secret", Good, &[])]),
        (
            Kind::Gullible,
            &[("secret", Good, &[]), ("wrong-secret", Error, &["does not check", CAN_BE_ANYONE])],
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
        ("protocol", Error, &["1.12.2", "modern forwarding needs 1.13 or later", "`legacy`", CAN_BE_ANYONE]),
        ("forwarding", Skipped, &["modern forwarding cannot work in its version"]),
        ("plain-login", Skipped, &[]),
    ];
    assert_found("1.12.2", &findings, expected);
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
        (Legacy, Kind::Online, &[("online-mode", Error, &[]), ("unsigned", Warning, &[])]),
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
            (Legacy, Kind::Offline(false), &[("plain-login", sure, &[CAN_BE_ANYONE][..])][..]),
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
                &[("wrong-secret", sure, &[CAN_BE_ANYONE]), ("plain-login", Good, &[])],
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
        let (findings, _) = findings_on(Script::new(Kind::Bungee, native), Unforwarded).await;
        assert_found("none", &findings, &[("forwarding", Error, &["`forwarding: legacy`"])]);
    }
}

#[tokio::test(start_paused = true)]
async fn no_forwarding_is_told_of_always() {
    for native in [5, 340, 763, 764, 777] {
        let (findings, _) = findings_on(Script::new(Kind::Offline(true), native), Unforwarded).await;
        let expected: &[Expected] = &[
            ("forwarding", Good, &["asks for none"]),
            ("plain-login", Warning, &["anyone who can reach 127.0.0.1:", CAN_BE_ANYONE]),
            ("online-mode", Good, &[]),
        ];
        assert_found(&native.to_string(), &findings, expected);
        let (findings, _) = findings_on(Script::new(Kind::Online, native), Unforwarded).await;
        assert_found(&native.to_string(), &findings, &[("online-mode", Error, &["online-mode=false"])]);
    }
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
    assert_found("gullible", &findings, &[("secret", Good, &[]), ("wrong-secret", Error, &[])]);
    // Another refusal says nothing about who could come in.
    let (findings, _) = findings_on(Script::new(Kind::Modded, 769), Modern).await;
    let expected: &[Expected] = &[
        ("forwarding", Warning, &["refused the probe before it asked", "mods that require Forge"]),
        ("plain-login", Skipped, &["not examined whether it refuses a login without forwarding"]),
    ];
    assert_found("modded", &findings, expected);
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
        (Kind::Silent, &[("connect", Good, &[]), ("status", Error, &["does not answer", "PROXY header"])]),
        (Kind::Web, &[("status", Error, &["does not answer server list pings"]), ("protocol", Skipped, &[])]),
    ];
    for (kind, expected) in rows {
        let (findings, _) = findings_on(Script::new(*kind, 769), Modern).await;
        assert_found(&format!("{kind:?}"), &findings, expected);
        assert!(findings[3..].iter().all(|finding| finding.verdict == Skipped), "{findings:#?}");
    }
    let unanswered = Script { answers: false, ..Script::new(Kind::Paper(SECRET), 769) };
    let (findings, _) = findings_on(unanswered, Modern).await;
    assert_found("no answer", &findings, &[("status", Error, &["enable-status=false"])]);

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
    let expected: &[Expected] =
        &[("resolve", Error, &["cannot resolve not a name"]), ("connect", Skipped, &["leads nowhere"])];
    assert_found("unnamed", unnamed, expected);
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
