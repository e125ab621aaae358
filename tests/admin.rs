//! The admin interface over real sockets: who gets in, what is answered, and that it holds up nobody.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use postern::{
    app::{Proxy, StartError},
    clock::Clock,
    session::StoreError,
};
use serde_json::{Value, json};
use support::{
    Backend, BackendKind, Client, Player, SessionServer, Setup,
    proxy::address,
    scene::{MODERN, Scene, is_in, refuse_at_once, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// With the interface on a port of its own.
fn with_admin(setup: Setup) -> Setup {
    setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")
}

async fn scene() -> Scene {
    Scene::with("", with_admin).await
}

fn admin(proxy: &Proxy) -> SocketAddr {
    proxy.admin_address().unwrap()
}

fn token(setup: &Setup) -> String {
    std::fs::read_to_string(setup.folder.path().join("admin.token")).unwrap()
}

/// What was answered: status, head in lower case, content.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// Sends these bytes and reads what comes until the end of the connection. `None` if nothing does.
async fn raw(to: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // Who is refused early may find the connection closed.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { dechunked(body) } else { body.to_owned() };
    Some(Answer { status, head, body })
}

fn dechunked(mut rest: &str) -> String {
    let mut text = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return text;
        }
        text += &after[..length];
        rest = &after[length + 2..];
    }
}

/// A request with these headers besides `Host`, unless they name one, and `Connection`.
fn request(to: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        write!(text, "Host: {to}\r\n").unwrap();
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() || line.starts_with("POST") {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    (text + "\r\n" + body).into_bytes()
}

async fn ask(to: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    raw(to, &request(to, line, headers, body)).await.unwrap()
}

/// A good request of the owner's.
async fn own(to: SocketAddr, token: &str, line: &str, body: &Value) -> Answer {
    let token = format!("Bearer {token}");
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(to, line, &headers, &body).await
}

#[tokio::test]
async fn sessions_are_listed_shown_locked_and_forgotten() {
    let mut scene = scene().await;
    let (to, token) = (admin(&scene.proxy), token(&scene.setup));
    let own = |line: &'static str, body: Value| {
        let token = token.clone();
        async move { own(to, &token, line, &body).await }
    };
    let alice = scene.make_known("Alice").await;
    scene.make_known("Bob").await;

    let list = own("GET /api/sessions?sort=name", Value::Null).await;
    assert_eq!(list.status, 200, "{list:?}");
    for header in
        ["content-type: application/json", "cache-control: no-store", "x-content-type-options: nosniff"]
    {
        assert!(list.head.contains(header), "{}", list.head);
    }
    assert!(!list.head.contains("access-control"), "{}", list.head);
    let list = list.json();
    assert_eq!((&list["known"], &list["total"]), (&json!(2), &json!(2)));
    assert_eq!(list["sessions"][0]["name"], "Alice");
    assert_eq!(list["sessions"][0]["addresses"][0]["address"], "127.0.0.1");
    assert_eq!(list["sessions"][1]["name"], "Bob");

    let some = own("GET /api/sessions?name=LIC&address=127.0.0.0%2F8&limit=5", Value::Null).await.json();
    assert_eq!((&some["known"], &some["total"]), (&json!(2), &json!(1)));
    let none = own("GET /api/sessions?locked=true", Value::Null).await.json();
    assert_eq!(none["sessions"], json!([]));
    for (query, words) in [
        ("address=x", "address: an address or a network"),
        ("seen_since=7d", "RFC 3339"),
        ("sort=age", "sorted by name, seen or logins"),
        ("limit=-1", "a whole number"),
        ("locked=perhaps", "true or false"),
        ("sessions=1", "no filter of that name"),
    ] {
        let line: &'static str = format!("GET /api/sessions?{query}").leak();
        let answer = own(line, Value::Null).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.error().contains(words), "{query}: {answer:?}");
    }

    let shown = own("GET /api/sessions/aLICE", Value::Null).await.json();
    assert_eq!((&shown["session"]["id"], &shown["connected"]), (&json!(alice.id), &Value::Null));
    let by_id: &'static str = format!("GET /api/sessions/{}", alice.id.simple()).leak();
    assert_eq!(own(by_id, Value::Null).await.json()["session"]["name"], "Alice");
    assert_eq!(own("GET /api/sessions/Nobody", Value::Null).await.status, 404);
    assert_eq!(own("GET /api/sessions/..", Value::Null).await.status, 400);

    // Somebody who is in.
    let (client, end) = scene.join(MODERN, &alice).await;
    assert!(is_in(&end));
    assert_eq!(own("GET /api/sessions/Alice", Value::Null).await.json()["connected"], "verified");
    let locked = own("POST /api/sessions/lock", json!({"player": "Alice"})).await.json();
    assert_eq!((&locked["session"]["locked"], &locked["changed"]), (&json!(true), &json!(true)));
    let event = scene.audit.next("session.locked", |_| true).await;
    assert_eq!(
        (&event["player"], &event["id"], &event["by"]),
        (&json!("Alice"), &json!(alice.id), &json!("admin"))
    );
    let again = own("POST /api/sessions/lock", json!({"player": alice.id})).await.json();
    assert_eq!(again["changed"], false);
    assert_eq!(scene.setup.sessions()["Alice"]["locked"], true, "it is on disk once that is said");

    let forgotten = own("POST /api/sessions/forget", json!({"player": "alice"})).await.json();
    assert_eq!(
        (&forgotten["session"]["name"], &forgotten["connected"]),
        (&json!("Alice"), &json!("verified"))
    );
    let event = scene.audit.next("session.forgotten", |_| true).await;
    assert_eq!((&event["player"], &event["by"]), (&json!("Alice"), &json!("admin")));
    assert!(!scene.setup.document(alice.id).exists());
    // The end of the connection, which notes presence, brings nothing back.
    drop(client);
    scene.gone().await;
    let left = own("GET /api/sessions", Value::Null).await.json();
    assert_eq!((left["known"].clone(), left["sessions"][0]["name"].clone()), (json!(1), json!("Bob")));
    assert_eq!(own("POST /api/sessions/forget", json!({"player": "Alice"})).await.status, 404);
    // What was set aside of a player is found by the id.
    let damaged = scene.setup.folder.path().join("sessions/damaged");
    std::fs::create_dir_all(&damaged).unwrap();
    let set_aside = damaged.join(format!("{}.json", alice.id));
    std::fs::write(&set_aside, "{").unwrap();
    let forgotten = own("POST /api/sessions/forget", json!({"player": alice.id})).await;
    assert_eq!((forgotten.status, forgotten.json()), (200, json!({"session": null, "connected": null})));
    let event = scene.audit.next("session.forgotten", |_| true).await;
    assert_eq!((&event["id"], &event["player"]), (&json!(alice.id), &Value::Null));
    assert!(!set_aside.exists());
    assert_eq!(own("POST /api/sessions/forget", json!({"player": alice.id})).await.status, 404);
    assert!(!scene.setup.document(alice.id).exists());
    for (body, status) in [
        (json!({"player": "a b"}), 400),
        (json!({"player": 7}), 400),
        (json!({"player": "Bob", "why": "x"}), 400),
        (json!({}), 400),
        (json!([]), 400),
        (Value::Null, 400),
    ] {
        let answer = own("POST /api/sessions/lock", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    // A verified login unlocks.
    own("POST /api/sessions/lock", json!({"player": "Bob"})).await;
    assert_eq!(own("GET /api/sessions?locked=true", Value::Null).await.json()["total"], 1);
    scene.make_known("Bob").await;
    assert_eq!(own("GET /api/sessions?locked=true", Value::Null).await.json()["total"], 0);
}

#[tokio::test]
async fn an_import_is_checked_against_who_is_here() {
    let mut scene = Scene::with("", |setup| with_admin(refuse_at_once(setup))).await;
    let (to, token) = (admin(&scene.proxy), token(&scene.setup));
    let known = scene.make_known("Known").await;
    let row = |id: &str, name: &str| {
        let now = jiff_now();
        json!({"uuid": id, "username": name, "ip": "127.0.0.1", "last-login": now,
               "properties": [{"name": "textures", "value": "c2tpbg==", "signature": "c2ln"}]})
    };
    let new = "069a79f4-44e9-4726-a5be-fca90e38aaf5";
    let other = "169a79f4-44e9-4726-a5be-fca90e38aaf5";
    let rows = json!([
        row(new, "New_one"),
        row(&known.id.to_string(), "Known"),
        row(other, "kNOWN"),
        row(new, "Twice"),
        {"uuid": "b50ad385-829d-3141-a216-7e7d7539ba7f"},
    ]);
    let import = |more: Value| {
        let mut body = json!({ "rows": rows });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let token = token.clone();
        async move { own(to, &token, "POST /api/sessions/import", &body).await.json() }
    };
    let outcomes = |answer: &Value| {
        let rows = answer["rows"].as_array().unwrap();
        let told = rows
            .iter()
            .map(|row| (row["index"].as_u64().unwrap(), row["outcome"].as_str().unwrap().to_owned()));
        told.collect::<Vec<_>>()
    };
    // Ids of the tests' players are not of version 4, and thus refused like those of offline-mode servers.
    let expected: Vec<(u64, String)> = ["imported", "refused", "refused", "refused", "refused"]
        .iter()
        .enumerate()
        .map(|(index, outcome)| (index as u64, (*outcome).to_owned()))
        .collect();
    let dry = import(json!({"dry_run": true})).await;
    assert_eq!(outcomes(&dry), expected, "{dry:#}");
    assert!(!scene.setup.sessions().contains_key("New_one"), "nothing is changed");
    let told = import(json!({})).await;
    assert_eq!(outcomes(&told), expected, "{told:#}");
    assert!(told["rows"][2]["why"].as_str().unwrap().contains("the name belongs to"), "{told:#}");
    let document = &scene.setup.sessions()["New_one"];
    assert_eq!(
        (&document["locked"], &document["properties"][0]["value"]),
        (&json!(true), &json!("c2tpbg=="))
    );
    let event = scene.audit.next("session.imported", |_| true).await;
    assert_eq!(
        (&event["player"], &event["id"], &event["by"], &event["trusted"]),
        (&json!("New_one"), &json!(new), &json!("admin"), &json!(false))
    );

    // In an outage: locked without trust, in with it.
    scene.go_down().await;
    let player = Player { id: new.parse().unwrap(), ..Player::new("New_one") };
    scene.refused(&player, "is locked", "locked").await;
    // No trust takes a lock away; forgetting it does.
    let told = import(json!({"trust": true})).await;
    let note = told["rows"][0]["notes"][1].as_str().unwrap();
    assert!(
        note.contains("locked before and stays so") && note.contains("sessions forget New_one"),
        "{note}"
    );
    let event = scene.audit.next("session.imported", |event| event["trusted"] == true).await;
    assert_eq!(event["locked"], true);
    scene.refused(&player, "is locked", "locked").await;
    assert_eq!(own(to, &token, "POST /api/sessions/forget", &json!({"player": new})).await.status, 200);
    import(json!({"trust": true})).await;
    let event = scene.audit.next("session.imported", |event| event["trusted"] == true).await;
    assert_eq!(event["locked"], false);
    assert!(is_in(&scene.login(&player).await));
    let event = scene.audit.next("login.fallback", |_| true).await;
    assert_eq!(event["id"], new);
}

/// The time now, as a row of an import writes it.
fn jiff_now() -> String {
    Clock::system().now().to_string()
}

#[tokio::test]
async fn nobody_gets_in_who_should_not() {
    let scene = scene().await;
    let (to, token) = (admin(&scene.proxy), token(&scene.setup));
    let (bearer, port) = (format!("Bearer {token}"), to.port());
    let right = ("Authorization", bearer.as_str());
    let json_type = ("Content-Type", "application/json");
    let lock = "POST /api/sessions/lock";
    let body = r#"{"player":"Nobody"}"#;
    let rebound = format!("rebound.example.com:{port}");
    let localhost = format!("localhost:{port}");
    let own_origin = format!("http://{to}");
    for (what, line, headers, status) in [
        ("a good one", lock, vec![right, json_type], 404),
        ("its own page", lock, vec![right, json_type, ("Origin", own_origin.as_str())], 404),
        ("no token", lock, vec![json_type], 401),
        ("a wrong token", lock, vec![("Authorization", "Bearer x"), json_type], 401),
        ("another scheme", lock, vec![("Authorization", "Basic eDp5"), json_type], 401),
        ("no content type", lock, vec![right], 415),
        ("a form", lock, vec![right, ("Content-Type", "text/plain")], 415),
        ("another site", lock, vec![right, json_type, ("Origin", "https://evil.example.com")], 403),
        ("a file", lock, vec![right, json_type, ("Origin", "null")], 403),
        ("a name that leads here", lock, vec![right, json_type, ("Host", rebound.as_str())], 403),
        ("localhost", "GET /live", vec![("Host", localhost.as_str())], 200),
        ("a name that leads here, without a token", "GET /live", vec![("Host", rebound.as_str())], 403),
        ("a wrong token where none is needed", "GET /live", vec![("Authorization", "Bearer x")], 401),
        ("the right one where none is needed", "GET /live", vec![right], 200),
        ("players, without a token", "GET /api/sessions", vec![], 200),
        ("a player, without a token", "GET /api/sessions/Nobody", vec![], 404),
        ("bans, without a token", "GET /api/bans", vec![], 200),
        ("players, with a wrong one", "GET /api/sessions", vec![("Authorization", "Bearer x")], 401),
        ("players, for somebody else", "GET /api/sessions", vec![("X-Forwarded-For", "203.0.113.5")], 401),
        ("before the browser asks", "OPTIONS /api/sessions/lock", vec![("Origin", own_origin.as_str())], 405),
        ("another method", "DELETE /api/sessions/lock", vec![right], 405),
        ("nothing", "GET /nothing", vec![], 404),
        ("a path that climbs", "GET /../etc/passwd", vec![], 404),
    ] {
        let content = if line.starts_with("POST") { body } else { "" };
        let answer = ask(to, line, &headers, content).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(!answer.head.contains("access-control"), "{what}: {answer:?}");
        assert!(!answer.body.contains(&token), "{what}: {answer:?}");
        if status >= 400 {
            assert!(answer.error().len() > 10, "{what}: {answer:?}");
        }
        assert_eq!(status == 401, answer.head.contains("www-authenticate: bearer"), "{what}: {answer:?}");
        assert_eq!(status == 405, answer.head.contains("\r\nallow: "), "{what}: {answer:?}");
    }
    let live = ask(to, "GET /ready", &[], "").await;
    assert_eq!((live.status, live.json()), (200, json!({"status": "ready"})));
    assert_eq!(ask(to, "HEAD /ready", &[], "").await.body, "");
}

#[tokio::test]
async fn what_is_too_large_or_no_http_is_turned_away() {
    let scene = scene().await;
    let (to, token) = (admin(&scene.proxy), token(&scene.setup));
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let large = format!("{{\"player\":\"{}\"}}", "x".repeat(5000));
    assert_eq!(ask(to, "POST /api/sessions/lock", &headers, &large).await.status, 413);
    // Announced, and never sent.
    let huge = format!(
        "POST /api/sessions/import HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nAuthorization: {bearer}\r\n\
         Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    );
    assert_eq!(raw(to, huge.as_bytes()).await.unwrap().status, 413);
    // Not announced: in chunks without end.
    let mut chunks = huge.replace("Content-Length: 99999999999", "Transfer-Encoding: chunked").into_bytes();
    for _ in 0..40 {
        chunks.extend_from_slice(b"10000\r\n");
        chunks.extend_from_slice(&vec![b' '; 0x10000]);
        chunks.extend_from_slice(b"\r\n");
    }
    // The server may close while this is still being sent, so that its answer is lost.
    assert!(raw(to, &chunks).await.is_none_or(|answer| answer.status == 413));
    let deep = format!("{{\"rows\":{}", "[".repeat(100_000));
    assert_eq!(ask(to, "POST /api/sessions/import", &headers, &deep).await.status, 400);

    let long = "x".repeat(40_000);
    let oversized = ask(to, "GET /live", &[("X-Long", long.as_str())], "").await;
    assert!([400, 431].contains(&oversized.status), "{oversized:?}");
    let many: Vec<(String, &str)> = (0..200).map(|number| (format!("X-{number}"), "x")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert!([400, 431].contains(&ask(to, "GET /live", &many, "").await.status));
    for garbage in [&b"\x10\x00\xf2\x05\x09localhost\x63\xdd\x02"[..], b"GET\r\n\r\n", &[0xff; 4096]] {
        assert!(raw(to, garbage).await.is_none_or(|answer| answer.status == 400));
    }
    assert_eq!(ask(to, "GET /live", &[], "").await.status, 200);
}

#[tokio::test]
async fn silent_and_many_callers_keep_neither_the_owner_out_nor_players() {
    let mut scene = scene().await;
    let (to, token) = (admin(&scene.proxy), token(&scene.setup));
    let mut idle = Vec::new();
    for number in 0..300 {
        let Ok(mut stream) = TcpStream::connect(to).await else { continue };
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow").await.unwrap_or(()),
            _ => {
                let slow =
                    "POST /api/sessions/lock HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{";
                stream.write_all(slow.as_bytes()).await.unwrap_or(());
            }
        }
        idle.push(stream);
        // Among them the owner is served each time.
        if number % 50 == 49 {
            assert_eq!(own(to, &token, "GET /api/sessions", &Value::Null).await.status, 200, "{number}");
        }
    }
    scene.make_known("Player").await;
    // Whoever has shown the token stays while others come and go.
    let mut owner = TcpStream::connect(to).await.unwrap();
    let hello = format!("GET /api/sessions HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut answer = vec![0; 4096];
    for round in 0..3 {
        owner.write_all(hello.as_bytes()).await.unwrap();
        let length = timeout(PATIENCE, owner.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{round}");
        for _ in 0..100 {
            idle.extend(TcpStream::connect(to).await);
        }
        assert_eq!(ask(to, "GET /live", &[], "").await.status, 200);
    }
    // Those that sent nothing are let go of in the end; most were, to make room.
    let mut open = 0;
    for stream in &mut idle {
        let gone = timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
        open += usize::from(gone.is_err());
    }
    assert!(open <= 64, "{open}");
}

#[tokio::test]
async fn a_taken_port_stops_the_start_only_where_the_owner_chose_it() {
    let (sessions, backend) = (SessionServer::start().await, Backend::modern().await);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&sessions, &backend)
        .replace("listen: \"\"", &format!("listen: \"{}\"", taken.local_addr().unwrap()));
    let error = setup.try_start(Clock::system()).await.unwrap_err().to_string();
    assert!(error.contains("admin interface") && error.contains("admin.listen"), "{error}");
    assert!(!setup.folder.path().join("admin.token").exists(), "nothing is written for it");
    // The default one: whether it is free here or not, the proxy runs.
    let default = Setup::new(&sessions, &backend).replace("admin: { listen: \"\" }", "");
    let blocker = TcpListener::bind("127.0.0.1:9464");
    let proxy = default.start().await;
    assert!(blocker.is_err() || proxy.admin_address().is_none());
    let player = Player::new("Player");
    assert!(is_in(&Client::connect(address(&proxy), MODERN).await.login(&player, &sessions).await));
    proxy.stop().await;
}

#[tokio::test]
async fn the_token_is_written_once_and_asked_for_beyond_this_machine() {
    let (sessions, backend) = (SessionServer::start().await, Backend::modern().await);
    let setup = with_admin(Setup::new(&sessions, &backend));
    let proxy = setup.start().await;
    let first = token(&setup);
    assert!(first.len() >= 32, "{first}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(setup.folder.path().join("admin.token")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    proxy.stop().await;
    let proxy = setup.start().await;
    assert_eq!(token(&setup), first);
    assert_eq!(own(admin(&proxy), &first, "GET /api/bans", &Value::Null).await.json(), json!({"bans": []}));
    proxy.stop().await;

    // The configuration was read while the file was there; the start looks again.
    let beyond = setup.replace("listen: \"127.0.0.1:0\"", "listen: \"0.0.0.0:0\"");
    let config = beyond.load().unwrap().config;
    std::fs::remove_file(beyond.folder.path().join("admin.token")).unwrap();
    let error = Proxy::start(config.clone(), Clock::system()).await.unwrap_err().to_string();
    assert!(error.contains("can be reached from other machines") && error.contains("admin.token"), "{error}");
    assert!(!beyond.folder.path().join("admin.token").exists());
    let mut file = std::fs::File::create(beyond.folder.path().join("admin.token")).unwrap();
    file.write_all(b"a long random text\n").unwrap();
    let proxy = loop {
        match Proxy::start(config.clone(), Clock::system()).await {
            // The start that failed gives the store back behind its answer.
            Err(StartError::Store(StoreError::Locked { .. })) => tokio::task::yield_now().await,
            started => break started.unwrap(),
        }
    };
    let to = SocketAddr::from(([127, 0, 0, 1], admin(&proxy).port()));
    assert_eq!(own(to, "a long random text", "GET /api/sessions", &Value::Null).await.status, 200);
    assert_eq!(ask(to, "GET /live", &[], "").await.status, 200);
    assert_eq!(ask(to, "GET /api/sessions", &[], "").await.status, 401);
    proxy.stop().await;
}

#[tokio::test]
async fn an_outage_is_ready_and_a_stop_ends_the_interface() {
    let mut scene = scene().await;
    let to = admin(&scene.proxy);
    scene.go_down().await;
    assert_eq!(ask(to, "GET /ready", &[], "").await.status, 200);
    scene.proxy.stop().await;
    assert!(TcpStream::connect(to).await.is_err());
    // Commands are told where it is, and before anybody else can have the address that it is no more.
    let lock = std::fs::read_to_string(scene.setup.folder.path().join("sessions/.lock")).unwrap();
    assert!(lock.ends_with(&format!("\nadmin {to}\nadmin none\n")), "{lock}");
}

#[tokio::test]
async fn a_proxy_that_stops_is_not_ready() {
    let backend = Backend::start(BackendKind::Silent, None).await;
    let scene = Scene::around(backend, "", with_admin).await;
    let to = admin(&scene.proxy);
    // Somebody's login waits for its backend and keeps the proxy from ending at once.
    let player = Player::new("Player");
    let (mut client, sessions) = (scene.client(MODERN).await, scene.sessions.clone());
    let login = tokio::spawn(async move { client.login(&player, &sessions).await });
    until(|| scene.backend.connections() > 0).await;
    assert_eq!(ask(to, "GET /ready", &[], "").await.status, 200);
    let stopping = tokio::spawn(scene.proxy.stop());
    let seen = loop {
        let answer = raw_or_gone(to, "GET /ready").await.map(|answer| (answer.status, answer.json()));
        if answer.as_ref().is_none_or(|(status, _)| *status != 200) {
            break answer;
        }
    };
    assert_eq!(seen, Some((503, json!({"status": "stopping"}))));
    login.abort();
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
    assert!(TcpStream::connect(to).await.is_err());
}

async fn raw_or_gone(to: SocketAddr, line: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.write_all(&request(to, line, &[], "")).await.ok()?;
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
