//! What the admin interface tells of a proxy at work and has it do, by HTTP and by the commands; and that logins do not
//! care what goes on there.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    End, Mode, Player, Setup,
    dialog::{CODE, begin, begin_from, code, dialog, refused, restart_with_pin, scene_with_pin},
    scene::{MODERN, Scene, is_in, refuse_at_once, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);
const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.66";

fn with_admin(setup: Setup) -> Setup {
    setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")
}

/// The proxy, and the way to ask it.
struct Live {
    scene: Scene,
    to: SocketAddr,
    token: String,
}

impl Live {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        Self::of(Scene::with("", |setup| change(with_admin(setup))).await)
    }

    fn of(scene: Scene) -> Self {
        let to = scene.proxy.admin_address().unwrap();
        let token = std::fs::read_to_string(scene.setup.folder.path().join("admin.token")).unwrap();
        Self { scene, to, token }
    }

    /// Asks as the owner does: the status of the answer, and its content.
    async fn text(&self, line: &str, body: &str) -> (u16, String) {
        let (to, token, length) = (self.to, &self.token, body.len());
        let request = format!(
            "{line} HTTP/1.0\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert!(!text.contains(&self.token), "{text}");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), content.to_owned())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, content) = self.text(&format!("GET {path}"), "").await;
        assert_eq!(status, 200, "{path}: {content}");
        serde_json::from_str(&content).unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, content) = self.text(&format!("POST {path}"), &body.to_string()).await;
        (status, serde_json::from_str(&content).unwrap())
    }

    /// Runs the program in its folder: exit code, standard output, standard error.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).current_dir(self.scene.setup.folder.path());
        for variable in
            ["POSTERN_CONFIG", "POSTERN_FORWARDING_SECRET", "VELOCITY_FORWARDING_SECRET", "RUST_LOG"]
        {
            command.env_remove(variable);
        }
        let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[tokio::test]
async fn the_state_of_a_proxy_at_work() {
    let mut live = Live::with(refuse_at_once).await;
    let status = live.get("/api/status").await;
    assert_eq!((&status["stage"], &status["version"]), (&json!("ready"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!((&status["auth"]["state"], &status["auth"]["fallback"]), (&json!("up"), &json!("enabled")));
    assert_eq!(status["auth"]["last_probe"]["outcome"], "not-joined");
    assert_eq!((&status["auth"]["override"], &status["outage"]), (&Value::Null, &Value::Null));
    let known = live.scene.make_known("Known").await;
    let (client, end) = live.scene.join(MODERN, &Player::new("Alice")).await;
    assert!(is_in(&end));
    let status = live.get("/api/status").await;
    assert_eq!(status["players"], json!({"total": 1, "verified": 1, "fallback": 0, "pinned": 0, "held": 0}));
    assert_eq!((&status["logins"]["verified"], &status["sessions"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&status["connections"]["open"], &status["connections"]["pending_logins"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(status["connections"]["max_pending_logins"], 2000);
    let recent = status["recent_logins"].as_array().unwrap();
    assert_eq!((recent.len(), &recent[1]["proof"]), (2, &json!("verified")));
    let players = live.get("/api/players").await;
    let row = &players["players"][0];
    assert_eq!(
        (&players["total"], &row["name"], &row["proof"]),
        (&json!(1), &json!("Alice"), &json!("verified"))
    );
    assert_eq!(
        (&row["version"], &row["backend"], &row["address"]),
        (&json!("1.21.11"), &json!("lobby"), &json!("127.0.0.1"))
    );

    live.scene.go_down().await;
    let (_in_outage, end) = live.scene.join(MODERN, &known).await;
    assert!(is_in(&end));
    live.scene.refused(&Player::new("Stranger"), "No cached session found", "no-session").await;
    let status = live.get("/api/status").await;
    assert_eq!(status["auth"]["state"], "down");
    let outage = &status["outage"];
    assert_eq!(
        (&outage["admitted"], &outage["refused"], &outage["refused_by_reason"]["no-session"]),
        (&json!(1), &json!(1), &json!(1)),
        "{outage}"
    );
    assert_eq!((&status["players"]["fallback"], &status["players"]["total"]), (&json!(1), &json!(2)));
    let (code, out, err) = live.run(&["auth", "status"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("down: an outage, since ") && out.contains("1 refused (no-session 1)"), "{out}");
    let newest = live.get("/api/audit?last=1").await;
    assert_eq!(newest["events"][0]["reason"], "no-session", "{newest}");
    drop(client);
}

#[tokio::test]
async fn verdicts_are_forced_and_given_back() {
    let mut live = Live::new().await;
    for (order, words) in [
        (json!({"mode": "down"}), "for_seconds"),
        (json!({"mode": "auto", "for_seconds": 5}), "for_seconds"),
        (json!({"mode": "down", "for_seconds": 0}), "1 second to 24 hours"),
        (json!({"mode": "down", "for_seconds": 86_401}), "1 second to 24 hours"),
        (json!({"mode": "sideways", "for_seconds": 5}), "sideways"),
        (json!({"mode": "down", "for_seconds": 5, "why": "x"}), "why"),
    ] {
        let (status, said) = live.post("/api/auth", order.clone()).await;
        assert_eq!(status, 400, "{order}");
        assert!(said["error"].as_str().unwrap().contains(words), "{order}: {said}");
    }
    let (code, out, _) = live.run(&["auth", "force-down", "--for", "2h"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("Forced down until ") && out.contains("postern auth auto"), "{out}");
    let event = live.scene.audit.next("auth.override", |_| true).await;
    assert_eq!(
        (&event["change"], &event["verdict"], &event["by"]),
        (&json!("set"), &json!("down"), &json!("admin"))
    );
    let status = live.get("/api/status").await;
    assert_eq!(
        (&status["auth"]["state"], &status["auth"]["override"]["mode"]),
        (&json!("down"), &json!("down"))
    );
    let (code, out, _) = live.run(&["auth", "auto", "--json"]).await;
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["auth"]["override"]), (0, &Value::Null));
    let event = live.scene.audit.next("auth.override", |_| true).await;
    assert_eq!((&event["change"], &event["by"]), (&json!("cleared"), &json!("admin")));
    live.scene.audit.state("up").await;
    let (status, said) = live.post("/api/auth", json!({"mode": "up", "for_seconds": 1})).await;
    assert_eq!((status, &said["auth"]["override"]["mode"]), (200, &json!("up")));
    let event = live.scene.audit.next("auth.override", |event| event["change"] == "expired").await;
    assert_eq!(event["by"], Value::Null, "it ends by itself");
    assert_eq!(live.get("/api/status").await["auth"]["override"], Value::Null);
}

/// The players that are listed: how each is proven, its address and its connection.
async fn listed(live: &Live) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = live.get("/api/players").await["players"].take();
    let told = |row: &Value| (text(&row["proof"]), text(&row["address"]), text(&row["connection"]));
    rows.as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn of_two_with_one_name_the_one_that_was_meant_is_sent_away() {
    let mut scene = Scene::with("", |setup| with_admin(setup.behind_a_proxy())).await;
    let player = scene.make_known_at(HOME, "Pinned").await;
    let mut live = Live::of(restart_with_pin(scene, &player, Mode::Down).await);
    live.scene.audit.state("down").await;
    let mut friend = begin_from(&live.scene, HOME, &player).await;
    dialog(&mut friend).await;
    let mut stranger = begin_from(&live.scene, NEXT_DOOR, &player).await;
    dialog(&mut stranger).await;
    let rows = listed(&live).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let (_, _, meant) = rows.iter().find(|(_, address, _)| address == NEXT_DOOR).unwrap();
    let prompted = live.scene.audit.next("pin.prompted", |event| event["address"] == NEXT_DOOR).await;
    assert_eq!(&prompted["conn"], meant, "as every event about it has it");
    // Asked for at once by three: it is kicked once.
    let order = || live.post("/api/players/kick", json!({ "connection": meant }));
    let answers = tokio::join!(order(), order(), order());
    let mut statuses = [answers.0.0, answers.1.0, answers.2.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404, 404], "{answers:?}");
    let (text, _) = refused(&mut stranger).await;
    assert!(text.contains("disconnected by this server's staff"), "{text}");
    let event = live.scene.audit.next("player.kicked", |_| true).await;
    assert_eq!((&event["conn"], &event["address"]), (&json!(meant), &json!(NEXT_DOOR)));
    friend.send(code(CODE)).await;
    until(|| live.scene.proxy.players() == 1).await;
    assert_eq!(live.scene.audit.lines().iter().filter(|line| line.contains("player.kicked")).count(), 1);

    // By the name it is all of them, and it is said which.
    let rows = listed(&live).await;
    assert_eq!((rows.len(), rows[0].0.as_str()), (1, "pinned"), "{rows:?}");
    let (status, out, _) = live.run(&["kick", "Pinned"]).await;
    assert_eq!((status, out), (0, format!("Kicked Pinned from {HOME} ({}).\n", rows[0].2)));
}

#[tokio::test]
async fn who_is_on_the_way_to_a_backend_is_within_reach() {
    let (mut scene, player) = scene_with_pin("", with_admin, "Pinned", Mode::Down).await;
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (old, new) = (scene.backend.address, silent.local_addr().unwrap());
    scene.setup = scene.setup.replace(&old.to_string(), &new.to_string());
    let mut live = Live::of(scene.restart(Mode::Down).await);
    live.scene.audit.state("down").await;
    let mut client = begin(&live.scene, MODERN, &player).await;
    dialog(&mut client).await;
    assert_eq!(listed(&live).await[0].0, "held");
    client.send(code(CODE)).await;
    let _reached = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    let rows = listed(&live).await;
    assert_eq!((rows.len(), rows[0].0.as_str()), (1, "pinned"), "{rows:?}");
    assert_eq!(live.run(&["kick", "Pinned"]).await.0, 0);
    let (text, _) = refused(&mut client).await;
    assert!(text.contains("disconnected by this server's staff"), "{text}");
    live.scene.audit.reason("kicked").await;
}

#[tokio::test]
async fn who_hangs_up_on_a_refusal_counts_as_refused_once() {
    let mut live = Live::new().await;
    live.scene.go_down().await;
    let stranger = Player::new("Stranger");
    let tally = async |live: &Live| live.get("/api/status").await["outage"]["refused_by_reason"].take();
    assert_eq!(live.scene.login(&stranger).await, End::HungUp);
    live.scene.audit.reason("client-left").await;
    assert_eq!(tally(&live).await, json!({"no-session": 1}));
    // It comes again and is told, which is the same refusal.
    live.scene.refused(&stranger, "No cached session found", "no-session").await;
    assert_eq!(tally(&live).await, json!({"no-session": 1}));
    let status = live.get("/api/status").await;
    assert_eq!(status["logins"]["refused_by_reason"], json!({"client-left": 1, "no-session": 1}));
}

#[tokio::test]
async fn players_are_listed_and_sent_away() {
    let mut live = Live::new().await;
    let (code, out, _) = live.run(&["players"]).await;
    assert_eq!((code, out.as_str()), (0, "Nobody is connected.\n"));
    let alice = Player::new("Alice");
    for (arguments, text) in [
        (&["kick", "aLICE", "--reason", "Dinner is ready"][..], "Dinner is ready"),
        (&["kick", "Alice"][..], "disconnected by this server's staff"),
    ] {
        let (mut client, end) = live.scene.join(MODERN, &alice).await;
        assert!(is_in(&end));
        let (_, out, _) = live.run(&["players"]).await;
        assert!(out.contains("Alice  verified  127.0.0.1") && out.contains("1 verified by Mojang"), "{out}");
        let (code, out, err) = live.run(arguments).await;
        let event = live.scene.audit.next("player.kicked", |_| true).await;
        let said = format!("Kicked Alice from 127.0.0.1 ({}).\n", event["conn"].as_str().unwrap());
        assert_eq!((code, out, err.as_str()), (0, said, ""));
        let (said, _) = timeout(PATIENCE, client.rest()).await.unwrap();
        let said = String::from_utf8_lossy(&said.concat()).into_owned();
        assert!(said.contains(text), "{said}");
        live.scene.gone().await;
        assert_eq!(
            (&event["player"], &event["id"], &event["by"]),
            (&json!("Alice"), &json!(alice.id), &json!("admin"))
        );
        until(|| live.scene.proxy.players() == 0).await;
    }
    assert_eq!(live.get("/api/players").await, json!({"total": 0, "players": []}));
    let (code, _, err) = live.run(&["kick", "Alice"]).await;
    assert_eq!((code, err.as_str()), (1, "error: Alice is not connected\n"));
    for body in [
        json!({"player": "a b"}),
        json!({"player": "Alice", "reason": "x".repeat(300)}),
        json!({"player": "Alice", "reason": "a\u{1b}[31m"}),
        json!({"player": "Alice", "ban": true}),
        json!({"connection": "1"}),
        json!({"connection": "c-1", "player": "no name"}),
        json!({"reason": "x"}),
    ] {
        assert_eq!(live.post("/api/players/kick", body.clone()).await.0, 400, "{body}");
    }
    // Without a proxy there is nobody to ask.
    let live = Live { scene: live.scene.restart(Mode::Up).await, ..live };
    let Live { scene: Scene { proxy, setup, .. }, .. } = live;
    proxy.stop().await;
    for arguments in [&["players"][..], &["kick", "Alice"], &["auth", "status"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).current_dir(setup.folder.path()).env_remove("POSTERN_CONFIG");
        let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{err}");
        assert!(err.contains("no proxy runs") && err.contains("--config"), "{err}");
    }
}

#[tokio::test]
async fn readiness_is_what_the_command_prints() {
    let mut live = Live::new().await;
    let alice = live.scene.make_known("Alice").await;
    until(|| live.scene.setup.document(alice.id).exists()).await;
    let by_http = live.get("/api/readiness").await;
    let (code, out, _) = live.run(&["readiness", "--json"]).await;
    let by_command: Value = serde_json::from_str(&out).unwrap();
    let report = |answer: &Value| answer["current"]["report"].clone();
    assert_eq!((code, report(&by_http)), (0, report(&by_command)));
    assert_eq!(by_http["current"]["report"]["considered"], 1);
    assert_eq!(live.text("GET /metrics", "").await.0, 200);
    let (status, page) = live.text("GET /", "").await;
    assert!(status == 200 && page.starts_with("<!doctype html>"), "{status}");
}

#[tokio::test]
async fn metrics_can_be_switched_off() {
    let live =
        Live::with(|setup| setup.replace("monitoring:\n", "monitoring:\n  enable-metrics: false\n")).await;
    let (status, said) = live.text("GET /metrics", "").await;
    assert!(status == 404 && said.contains("monitoring.enable-metrics"), "{status}: {said}");
}

/// Callers of every bad kind, hundreds of them, for as long as it takes others to log in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_go_on_while_the_interface_is_hammered() {
    let mut live = Live::new().await;
    let (to, over, attempts) = (live.to, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let hammers: Vec<_> = (0..300)
        .map(|number| {
            let (over, attempts) = (Arc::clone(&over), Arc::clone(&attempts));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let request = match number % 5 {
                        0 => format!("GET /api/status HTTP/1.1\r\nHost: {to}\r\n\r\n").repeat(20),
                        1 => format!("GET /api/events HTTP/1.1\r\nHost: {to}\r\n\r\n"),
                        2 => format!(
                            "GET /api/readiness HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer x\r\n\r\n"
                        ),
                        3 => format!(
                            "POST /api/auth HTTP/1.1\r\nHost: {to}\r\nContent-Length: 9999999\r\n\r\n"
                        ),
                        _ => "x".repeat(40_000),
                    };
                    let Ok(mut stream) = TcpStream::connect(to).await else { continue };
                    let _ = stream.write_all(request.as_bytes()).await;
                    let _ = timeout(Duration::from_millis(20), stream.read(&mut [0; 512])).await;
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until(|| attempts.load(Ordering::Relaxed) > 300).await;
    for number in 0..30 {
        let player = Player::new(&format!("Player_{number}"));
        let (client, end) = timeout(PATIENCE, live.scene.join(MODERN, &player)).await.unwrap();
        assert!(is_in(&end), "{number}: {end:?}");
        drop(client);
        live.scene.audit.next("login.verified", |_| true).await;
    }
    over.store(true, Ordering::Relaxed);
    for hammer in hammers {
        hammer.await.unwrap();
    }
    assert_eq!(live.get("/api/status").await["auth"]["state"], "up", "nobody changed anything");
}
