//! `postern sessions` and `postern bans` as their owner meets them: the program itself, with and without a proxy that
//! holds the store.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use jiff::SignedDuration;
use postern::{app::Proxy, clock::Clock};
use serde_json::{Value, json};
use support::{
    Backend, Client, Player, SessionServer, Setup,
    proxy::{Audit, address},
    scene::{MODERN, is_in, refuse_at_once, until},
};
use tokio::task::spawn_blocking;

const NEW: &str = "069a79f4-44e9-4726-a5be-fca90e38aaf5";
const OTHER: &str = "169a79f4-44e9-4726-a5be-fca90e38aaf5";

/// Exit code, standard output, standard error.
type Ended = (i32, String, String);

/// Runs the program, off the runtime that the stand-ins live on.
async fn run(folder: &Path, arguments: &[&str], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in ["POSTERN_CONFIG", "POSTERN_FORWARDING_SECRET", "VELOCITY_FORWARDING_SECRET", "RUST_LOG"]
    {
        command.env_remove(variable);
    }
    let input = input.to_owned();
    spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // Most commands read nothing and may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    })
    .await
    .unwrap()
}

/// An installation, and perhaps a proxy that runs on it.
struct Place {
    setup: Setup,
    sessions: SessionServer,
    _backend: Backend,
}

impl Place {
    /// With three players who have logged in, and nobody who runs.
    async fn new() -> Self {
        let (sessions, backend) = (SessionServer::start().await, Backend::modern().await);
        let setup = refuse_at_once(Setup::new(&sessions, &backend));
        let place = Self { setup, sessions, _backend: backend };
        let proxy = place.setup.start().await;
        for name in ["Carol", "alice", "Bob"] {
            place.visit(&proxy, &Player::new(name)).await;
        }
        place.visit(&proxy, &Player::new("Bob")).await;
        proxy.stop().await;
        place
    }

    /// A player comes and goes.
    async fn visit(&self, proxy: &Proxy, player: &Player) {
        let mut client = Client::connect(address(proxy), MODERN).await;
        assert!(is_in(&client.login(player, &self.sessions).await));
        drop(client);
        until(|| proxy.players() == 0).await;
    }

    fn folder(&self) -> &Path {
        self.setup.folder.path()
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        run(self.folder(), arguments, "").await
    }

    /// Runs what must end with 0 and nothing on standard error.
    async fn well(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.well(arguments).await).unwrap()
    }

    /// A proxy that holds the store, with its admin interface at any free port.
    async fn start(&mut self) -> Proxy {
        self.admin("127.0.0.1:0");
        self.setup.start().await
    }

    /// Holds the store as somebody else does who has written this into its lock file.
    fn hold(&self, lines: &str) -> fs::File {
        let path = self.folder().join("sessions/.lock");
        fs::write(&path, lines).unwrap();
        let lock = fs::File::open(path).unwrap();
        lock.try_lock().unwrap();
        lock
    }

    /// Sets `admin.listen`.
    fn admin(&mut self, listen: &str) {
        let text = &self.setup.text;
        let start = text.find("admin: {").unwrap();
        self.setup.text = format!("{}admin: {{ listen: \"{listen}\" }}\n", &text[..start]);
        fs::write(self.setup.path(), &self.setup.text).unwrap();
    }

    /// The audit log, from now on.
    fn audit(&self) -> Audit {
        let mut audit = self.setup.audit();
        audit.skip(self.setup.audit().lines().len());
        audit
    }

    /// Writes bans, and says until when they are, as lists show it.
    fn ban(&self, targets: &[&str]) -> String {
        let until = Clock::system().now() + SignedDuration::from_mins(20);
        let bans: Vec<Value> = targets
            .iter()
            .map(|target| {
                json!({"target": target, "since": "2026-01-02T03:04:05Z", "until": until, "failures": 10})
            })
            .collect();
        let text = json!({"version": 1, "bans": bans}).to_string();
        fs::write(self.folder().join("bans.json"), text).unwrap();
        until.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

fn row(id: &str, name: &str) -> Value {
    json!({"uuid": id, "username": name, "ip": "127.0.0.1", "last-login": Clock::system().now().to_string()})
}

/// The first column of a table, without its head and its count.
fn first_column(out: &str) -> Vec<&str> {
    let lines: Vec<&str> = out.lines().collect();
    lines[1..lines.len() - 1].iter().map(|line| line.split(' ').next().unwrap()).collect()
}

/// What must be the same whether a proxy holds the store or not.
async fn lists_and_shows(place: &Place) {
    let out = place.well(&["sessions", "list"]).await;
    assert_eq!(first_column(&out), ["alice", "Bob", "Carol"], "{out}");
    assert!(out.starts_with("NAME ") && out.ends_with("3 players\n"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    let out = place.well(&["sessions", "list", "--sort", "logins", "--limit", "1"]).await;
    assert_eq!(first_column(&out), ["Bob"]);
    assert!(out.ends_with("1 of 3 that fit, 3 in all\n"), "{out}");
    let out = place
        .well(&["sessions", "list", "--name", "O", "--address", "127.0.0.0/8", "--seen-within", "7d"])
        .await;
    assert_eq!(first_column(&out), ["Bob", "Carol"]);
    assert_eq!(place.well(&["sessions", "list", "--locked"]).await, "None of 3 players fits.\n");
    let list = place.json(&["sessions", "list", "--json", "--sort", "seen"]).await;
    assert_eq!(
        (&list["known"], &list["total"], &list["sessions"][0]["name"]),
        (&json!(3), &json!(3), &json!("Bob"))
    );
    assert!(!list.to_string().contains("pin_hash") && !list.to_string().contains("signature"), "{list}");

    let bob = Player::new("Bob");
    for whom in ["bOB", &bob.id.to_string(), &bob.id.simple().to_string()] {
        let out = place.well(&["sessions", "show", whom]).await;
        assert!(out.starts_with(&format!("Bob ({})\n", bob.id)), "{out}");
        for words in ["last seen  ", "2 verified, the first ", "127.0.0.1 ", "PIN         none"] {
            assert!(out.contains(words), "{words}: {out}");
        }
    }
    let shown = place.json(&["sessions", "show", "Bob", "--json"]).await;
    assert_eq!((&shown["session"]["id"], &shown["connected"]), (&json!(bob.id), &Value::Null));
    for command in ["show", "forget", "lock"] {
        let (code, out, err) = place.run(&["sessions", command, "Nobody"]).await;
        assert_eq!((code, out.as_str()), (1, ""), "{command}");
        assert_eq!(err, "error: no session is stored for Nobody\n", "{command}");
    }
}

async fn locks_and_forgets(place: &Place, by: &str) {
    let mut audit = place.audit();
    let (alice, bob) = (Player::new("alice"), Player::new("Bob"));
    let out = place.well(&["sessions", "lock", "bob"]).await;
    assert!(out.starts_with(&format!("Locked Bob ({}): during an outage nobody", bob.id)), "{out}");
    assert_eq!(place.setup.sessions()["Bob"]["locked"], true);
    let event = audit.next("session.locked", |_| true).await;
    assert_eq!((&event["player"], &event["id"], &event["by"]), (&json!("Bob"), &json!(bob.id), &json!(by)));
    let out = place.well(&["sessions", "lock", &bob.id.to_string()]).await;
    assert_eq!(out, format!("Bob ({}) was locked already.\n", bob.id));
    assert_eq!(first_column(&place.well(&["sessions", "list", "--locked"]).await), ["Bob"]);

    let out = place.well(&["sessions", "forget", "ALICE"]).await;
    assert!(out.starts_with(&format!("Forgot alice ({}): 1 verified login, last seen ", alice.id)), "{out}");
    let event = audit.next("session.forgotten", |_| true).await;
    assert_eq!((&event["player"], &event["by"]), (&json!("alice"), &json!(by)));
    assert!(!place.setup.document(alice.id).exists());
    assert_eq!(place.run(&["sessions", "forget", "alice"]).await.0, 1);

    // What was set aside of a player is found by the id.
    let damaged = place.folder().join("sessions/damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join(format!("{}.json", alice.id)), "{").unwrap();
    let forget = ["sessions", "forget", &alice.id.to_string()];
    let out = place.well(&forget).await;
    let expected =
        format!("Forgot {}: what was left of the player counted no more, or was damaged.\n", alice.id);
    assert_eq!(out, expected);
    let event = audit.next("session.forgotten", |_| true).await;
    assert_eq!((&event["id"], &event["by"]), (&json!(alice.id), &json!(by)));
    assert_eq!(fs::read_dir(&damaged).unwrap().count(), 0);
    assert_eq!(place.run(&forget).await.0, 1);
}

async fn imports(place: &Place, by: &str) {
    let mut audit = place.audit();
    let mut noted = row(OTHER, "Noted");
    noted["ip"] = json!("203.0.113.5");
    noted["extra"] = json!(true);
    let rows = json!([
        row(NEW, "New_one"),
        row("b50ad385-829d-3141-a216-7e7d7539ba7f", "Offline"),
        noted,
        row(NEW, "Twice"),
        {"username": "\u{1b}[31mred"},
        row("269a79f4-44e9-4726-a5be-fca90e38aaf5", "cAROL"),
    ])
    .to_string();
    fs::write(place.folder().join("export.json"), &rows).unwrap();
    let before = place.setup.sessions();
    let (code, out, err) = place.run(&["sessions", "import", "export.json", "--dry-run"]).await;
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(
        out.contains("Would import 2 sessions, leave 0 alone and refuse 4; nothing was changed."),
        "{out}"
    );
    assert_eq!(place.setup.sessions(), before);

    let (code, out, err) = run(place.folder(), &["sessions", "import", "-"], &rows).await;
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let carol = Player::new("Carol").id;
    let expected = format!(
        "[row, counted from 0]\n\
         [0] New_one: note: 127.0.0.1 is a private address: it proves nothing unless \
         security.trust-private-addresses is true\n\
         [1] Offline: refused: uuid b50ad385-829d-3141-a216-7e7d7539ba7f is of version 3: an offline-mode server made \
         it from the name, and no account has it\n\
         [2] Noted: note: the key \"extra\" is not known and was left out\n\
         [3] Twice: refused: row 0 is about the same id\n\
         [4]: refused: uuid is missing\n\
         [5] cAROL: refused: the name belongs to {carol}, who has logged in here with it\n\
         Imported 2 sessions, left 0 alone, refused 4.\n\
         Each counts once its player has logged in while the session servers answer; until then it is locked.\n"
    );
    assert_eq!(out, expected);
    let event = audit.next("session.imported", |event| event["player"] == "New_one").await;
    assert_eq!((&event["id"], &event["by"], &event["trusted"]), (&json!(NEW), &json!(by), &json!(false)));
    audit.next("session.imported", |event| event["player"] == "Noted").await;
    let document = &place.setup.sessions()["New_one"];
    assert_eq!((&document["locked"], &document["verified_logins"]), (&json!(true), &json!(1)));
    assert!(
        place.well(&["sessions", "show", "New_one"]).await.contains("imported    and not verified here yet")
    );

    // Again, and trusted this time: it stays locked, for nobody can tell whose lock it is, and that is said.
    fs::write(place.folder().join("export.json"), format!("\u{feff}{}", json!([row(NEW, "New_one")])))
        .unwrap();
    for dry_run in [&["--dry-run"][..], &[]] {
        let out = place.well(&[&["sessions", "import", "export.json", "--trust"], dry_run].concat()).await;
        assert!(out.contains("[0] New_one: note: it was locked before and stays so"), "{out}");
        assert_eq!(out.matches("private address").count(), 1, "{out}");
        assert!(out.contains("postern sessions forget New_one"), "{out}");
    }
    assert_eq!(place.setup.sessions()["New_one"]["locked"], true);
    let event = audit.next("session.imported", |event| event["trusted"] == true).await;
    assert_eq!(event["locked"], true);
    place.well(&["sessions", "forget", NEW]).await;
    let told = place.json(&["sessions", "import", "export.json", "--trust", "--json"]).await;
    assert_eq!((&told["imported"], &told["known"], &told["refused"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!((&told["rows"][0]["outcome"], &told["rows"][0]["index"]), (&json!("imported"), &json!(0)));
    assert_eq!(place.setup.sessions()["New_one"]["locked"], false);

    for (content, words) in
        [("{}", "it must be a JSON array"), ("[", "it must be a JSON array"), ("", "JSON array")]
    {
        let (code, out, err) = run(place.folder(), &["sessions", "import", "-"], content).await;
        assert_eq!((code, out.as_str()), (1, ""), "{content}");
        assert!(err.starts_with("error: -: ") && err.contains(words), "{err}");
    }
    let (code, _, err) = place.run(&["sessions", "import", "none.json"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("none.json cannot be read"), "{err}");
    assert_eq!(run(place.folder(), &["sessions", "import", "-"], "[]").await.0, 0);
}

async fn many_rows_keep_their_places(place: &Place) {
    let mut rows: Vec<Value> = (0..120_u128)
        .map(|number| {
            let id = uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid();
            let mut row = row(&id.to_string(), &format!("Many_{number}"));
            let skin = "e".repeat(10_000);
            row["properties"] = json!([{"name": "textures", "value": skin}]);
            row
        })
        .collect();
    rows[7]["ip"] = json!("nowhere");
    rows[110]["username"] = json!("carol");
    rows[119]["username"] = json!("Many_0");
    fs::write(place.folder().join("many.json"), json!(rows).to_string()).unwrap();
    let (code, out, err) = place.run(&["sessions", "import", "many.json", "--json"]).await;
    assert_eq!((code, err.as_str()), (1, ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["imported"], &told["refused"]), (&json!(117), &json!(3)));
    let rows = told["rows"].as_array().unwrap();
    let refused: Vec<_> = rows
        .iter()
        .filter(|row| row["outcome"] == "refused")
        .map(|row| row["index"].as_u64().unwrap())
        .collect();
    assert_eq!((rows.len(), refused), (120, vec![7, 110, 119]));
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["index"], index);
        if ![7, 110, 119].contains(&index) {
            assert_eq!(row["player"], format!("Many_{index}"));
        }
    }
    let (code, out, _) = place.run(&["sessions", "import", "many.json"]).await;
    assert_eq!((code, out.matches(": note: ").count()), (1, 20), "{out}");
    assert!(out.contains("There are 117 notes in all; --json shows each.\n"), "{out}");
    let list = place.json(&["sessions", "list", "--name", "many_", "--json"]).await;
    assert_eq!(list["total"], 117);
}

async fn lifts_bans(place: &Place, until: &str, by: &str) {
    let mut audit = place.audit();
    let out = place.well(&["bans", "list"]).await;
    let expected = format!(
        "TARGET          SINCE (UTC)       UNTIL (UTC)       FAILURES\n\
         203.0.113.5     2026-01-02 03:04  {until}        10\n\
         203.0.113.0/24  2026-01-02 03:04  {until}        10\n\
         AS64496         2026-01-02 03:04  {until}        10\n\
         3 bans\n"
    );
    assert_eq!(out, expected);
    assert_eq!(place.json(&["bans", "list", "--json"]).await["bans"][2]["target"], "AS64496");
    assert_eq!(place.well(&["bans", "lift", "203.0.113.5"]).await, "Lifted the ban of 203.0.113.5.\n");
    let (code, out, err) = place.run(&["bans", "lift", "203.0.113.5"]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "error: 203.0.113.5 is not banned\n"));
    assert_eq!(place.well(&["bans", "lift", "--all"]).await, "Lifted 2 bans.\n");
    assert_eq!(place.well(&["bans", "lift", "--all"]).await, "Nobody is banned.\n");
    assert_eq!(place.well(&["bans", "list"]).await, "Nobody is banned.\n");
    let event = audit.next("ban.lifted", |_| true).await;
    assert_eq!((&event["target"], &event["by"]), (&json!("203.0.113.5"), &json!(by)));
    assert_eq!((&event["failures"], &event["since"]), (&json!(10), &json!("2026-01-02T03:04:05.000Z")));
    audit.next("ban.lifted", |event| event["target"] == "AS64496").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_proxy_runs_they_work_on_the_files() {
    let place = Place::new().await;
    let tree = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (tree(place.folder()), place.setup.sessions());
    lists_and_shows(&place).await;
    assert_eq!((tree(place.folder()), place.setup.sessions()), before, "nothing is changed");
    locks_and_forgets(&place, "command").await;
    imports(&place, "command").await;
    many_rows_keep_their_places(&place).await;
    let banned_until = place.ban(&["203.0.113.5", "203.0.113.0/24", "AS64496"]);
    lifts_bans(&place, &banned_until, "command").await;
    let mode = |file: &str| fs::metadata(place.folder().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("bans.json"), mode("audit.log")), (0o600, 0o600));
    // What they changed is what the next proxy goes by.
    let proxy = place.setup.start().await;
    assert_eq!(place.setup.sessions().len(), 3 - 1 + 2 + 117);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_proxy_runs_they_ask_it() {
    let mut place = Place::new().await;
    let banned_until = place.ban(&["203.0.113.5", "203.0.113.0/24", "AS64496"]);
    let proxy = place.start().await;
    lists_and_shows(&place).await;
    locks_and_forgets(&place, "admin").await;
    imports(&place, "admin").await;
    many_rows_keep_their_places(&place).await;
    lifts_bans(&place, &banned_until, "admin").await;

    // Somebody who is in.
    let carol = Player::new("Carol");
    let mut client = Client::connect(address(&proxy), MODERN).await;
    assert!(is_in(&client.login(&carol, &place.sessions).await));
    until(|| proxy.players() == 1).await;
    assert!(place.well(&["sessions", "show", "Carol"]).await.contains("(connected now, verified)"));
    assert!(
        place.well(&["sessions", "lock", "Carol"]).await.contains("Carol is connected now and stays in.")
    );
    let out = place.well(&["sessions", "forget", "Carol"]).await;
    assert!(
        out.contains("Carol is connected now and stays in; that connection leaves nothing behind."),
        "{out}"
    );
    drop(client);
    until(|| proxy.players() == 0).await;
    assert_eq!(place.run(&["sessions", "show", "Carol"]).await.0, 1);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_be_asked_is_said_so() {
    let mut place = Place::new().await;
    // Its interface is off.
    let proxy = place.setup.start().await;
    let row = json!([row(NEW, "New_one")]).to_string();
    fs::write(place.folder().join("export.json"), row).unwrap();
    let commands = [
        &["sessions", "list"][..],
        &["sessions", "show", "Bob"],
        &["sessions", "forget", "Bob"],
        &["sessions", "lock", "Bob"],
        &["sessions", "import", "export.json"],
        &["sessions", "import", "export.json", "--dry-run"],
        &["bans", "list"],
        &["bans", "lift", "--all"],
    ];
    for command in commands {
        let (code, out, err) = place.run(command).await;
        assert_eq!(code, 69, "{command:?}: {err}");
        assert!(!out.contains("Bob"), "{command:?}: {out}");
        for words in
            ["held by a running proxy (process ", "admin interface is off (admin.listen)", "try again"]
        {
            assert!(err.contains(words), "{command:?}: {err}");
        }
    }
    // Somebody else listens where it should, which is none of its business.
    let token = place.folder().join("admin.token");
    fs::write(&token, "a long random text").unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.admin(&other.local_addr().unwrap().to_string());
    other.set_nonblocking(true).unwrap();
    for command in commands {
        let (code, _, err) = place.run(command).await;
        assert_eq!(code, 69, "{command:?}: {err}");
        assert!(err.contains("it runs without its admin interface"), "{command:?}: {err}");
        assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{command:?}");
    }
    proxy.stop().await;

    // It was started with another token, or the token is gone.
    let proxy = place.start().await;
    fs::write(&token, "another long random text").unwrap();
    for command in commands {
        let (code, _, err) = place.run(command).await;
        assert_eq!(code, 69, "{command:?}: {err}");
        assert!(err.contains("does not take the admin token") && err.contains("admin.token"), "{err}");
        assert!(!err.contains("long random text"), "{err}");
    }
    fs::remove_file(&token).unwrap();
    let asked = async |place: &Place| place.run(&["sessions", "list"]).await;
    let (code, _, err) = asked(&place).await;
    assert!(code == 69 && err.contains("admin.token does not exist"), "{err}");
    proxy.stop().await;

    // What holds the store says an address at which nobody is, or no proxy; or is of another version.
    fs::write(&token, "a long random text").unwrap();
    let lock = place.hold("1\nadmin 127.0.0.1:1\n");
    let (code, _, err) = asked(&place).await;
    assert!(code == 69 && err.contains("cannot be reached at 127.0.0.1:1"), "{err}");
    drop(lock);
    other.set_nonblocking(false).unwrap();
    let address = other.local_addr().unwrap();
    let lock = place.hold(&format!("1\nadmin {address}\n"));
    let speaks = std::thread::spawn(move || {
        for answer in ["HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n<html", "SSH-2.0-OpenSSH\r\n"] {
            let (mut stream, _) = other.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let (code, _, err) = asked(&place).await;
    assert!(code == 69 && err.contains("is nothing that this command understands"), "{err}");
    let (code, _, err) = asked(&place).await;
    assert!(code == 69 && err.contains("does not answer at"), "{err}");
    speaks.join().unwrap();
    drop(lock);

    // It starts, or is of a version that said no more.
    for lines in ["1", "1\n", "1\nadmin 127.0.0.1:1"] {
        let lock = place.hold(lines);
        for command in commands {
            let (code, _, err) = place.run(command).await;
            assert_eq!(code, 69, "{command:?}: {err}");
            assert!(err.contains("held by another command or a proxy (process 1)"), "{command:?}: {err}");
            assert!(err.contains("wait a moment and try again"), "{command:?}: {err}");
        }
        drop(lock);
    }
    assert!(place.setup.sessions().contains_key("Bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_proxy_alone_does_not_promise_to_do_without() {
    let place = Place::new().await;
    // Its interface is off.
    let proxy = place.setup.start().await;
    for command in [&["auth", "status"][..], &["players"], &["kick", "Bob"]] {
        let (code, _, err) = place.run(command).await;
        assert_eq!(code, 69, "{command:?}: {err}");
        assert!(err.contains("admin interface is off (admin.listen)"), "{command:?}: {err}");
        assert!(!err.contains("stop the proxy"), "{command:?}: {err}");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_broken_meanwhile_keeps_nobody_from_the_running_proxy() {
    let mut place = Place::new().await;
    let proxy = place.start().await;
    let good = place.setup.text.clone();
    // A key that nobody knows, a rule against our own words, no YAML at all, and no text.
    let broken = [
        format!("{good}nonsense: 1\n").into_bytes(),
        format!("{good}security: [\n").into_bytes(),
        b"\t: [".to_vec(),
        b"\xff\xfe".to_vec(),
    ];
    for broken in &broken {
        fs::write(place.setup.path(), broken).unwrap();
        let shown = String::from_utf8_lossy(broken);
        for (command, well, words) in [
            (&["auth", "force-up", "--for", "2h"][..], 0, "Forced up until"),
            (&["auth", "auto"], 0, "the checks decide"),
            (&["players"], 0, "Nobody is connected."),
            (&["kick", "Bob"], 1, ""),
        ] {
            let (code, out, err) = place.run(command).await;
            assert_eq!(code, well, "{command:?}: {err} {shown}");
            assert!(out.contains(words), "{command:?}: {out}");
            assert!(err.contains("config.yml:") && err.contains(": error: "), "{command:?}: {err}");
            assert!(err.contains("goes on with what it read before"), "{command:?}: {err}");
        }
        // These need to know more than where it is.
        assert_eq!(place.run(&["sessions", "list"]).await.0, 78);
        let (code, out, err) = place.run(&["health"]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{shown}");
        assert!(out.starts_with("the proxy answers at 127.0.0.1:"), "{out}");
    }
    // In the middle of a move.
    let moved = good.replace("session-cache:\n", "session-cache:\n  directory: elsewhere\n");
    let moved =
        if moved == good { format!("{good}session-cache: {{directory: elsewhere}}\n") } else { moved };
    fs::write(place.setup.path(), moved).unwrap();
    assert_eq!(place.run(&["health"]).await.0, 0);
    fs::remove_file(place.setup.path()).unwrap();
    assert_eq!(place.run(&["health"]).await.0, 0);
    proxy.stop().await;

    // Nobody runs: the file is what matters.
    for broken in &broken {
        fs::write(place.setup.path(), broken).unwrap();
        let (code, out, err) = place.run(&["auth", "status"]).await;
        assert_eq!((code, out.as_str()), (78, ""), "{err}");
        assert!(err.contains("console page"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_whether_the_proxy_answers() {
    let mut place = Place::new().await;
    place.admin("127.0.0.1:1");
    let health = async |place: &Place| place.run(&["health"]).await;
    let (code, out, err) = health(&place).await;
    assert_eq!((code, out.as_str()), (1, ""), "nobody runs");
    assert!(err.starts_with("error: the proxy does not answer at 127.0.0.1:1"), "{err}");
    place.admin("");
    assert_eq!(health(&place).await.0, 1, "nobody runs");
    // Without its interface nothing more can be told.
    let proxy = place.setup.start().await;
    let (code, out, _) = health(&place).await;
    assert!(code == 0 && out.contains("its admin interface is off"), "{out}");
    proxy.stop().await;
    // One that hangs takes connections, and answers nothing; something else answers otherwise.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lock = place.hold(&format!("1\nadmin {}\n", other.local_addr().unwrap()));
    let (code, _, err) = health(&place).await;
    assert!(code == 1 && err.contains("no answer"), "{err}");
    let speaks = std::thread::spawn(move || {
        for _ in 0..2 {
            // The first one has given up.
            let (mut stream, _) = other.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let (code, _, err) = health(&place).await;
    assert!(code == 1 && err.contains("says something else"), "{err}");
    speaks.join().unwrap();
    drop(lock);
    let _lock = place.hold("1\ncommand\n");
    assert_eq!(health(&place).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_command_changes_the_store_it_can_be_read() {
    let place = Place::new().await;
    fs::write(place.folder().join("export.json"), json!([row(NEW, "New_one")]).to_string()).unwrap();
    place.ban(&["203.0.113.5"]);
    let _lock = place.hold("1\ncommand\n");
    lists_only(&place).await;
    assert!(place.well(&["bans", "list"]).await.contains("203.0.113.5"));
    for command in [
        &["sessions", "forget", "Bob"][..],
        &["sessions", "lock", "Bob"],
        &["sessions", "import", "export.json"],
        &["bans", "lift", "203.0.113.5"],
        &["bans", "lift", "--all"],
    ] {
        let (code, out, err) = place.run(command).await;
        assert_eq!((code, out.contains("Lifted")), (69, false), "{command:?}: {err}");
        let words = "held by another command (process 1); wait for it to end and try again";
        assert!(err.contains(words), "{command:?}: {err}");
    }
    assert!(place.well(&["bans", "list"]).await.contains("203.0.113.5"), "nothing was changed");
    let (code, _, err) = place.run(&["run"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("in use by a command (process 1); wait until that has ended"), "{err}");
}

async fn lists_only(place: &Place) {
    let out = place.well(&["sessions", "list"]).await;
    assert_eq!(first_column(&out), ["alice", "Bob", "Carol"], "{out}");
    assert!(place.well(&["sessions", "show", "Bob"]).await.starts_with("Bob ("));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_said_and_what_counts_no_more_is_forgotten() {
    let place = Place::new().await;
    let (alice, bob) = (Player::new("alice"), Player::new("Bob"));
    fs::write(place.setup.document(alice.id), "{").unwrap();
    let (code, out, err) = place.run(&["sessions", "show", "alice"]).await;
    let expected = "error: no session is stored for alice; 1 session document is damaged and left out\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", expected));
    let (code, out, err) = place.run(&["sessions", "show", "Bob"]).await;
    assert_eq!((code, err.as_str()), (0, "warning: 1 session document is damaged and left out\n"), "{out}");
    fs::remove_file(place.setup.document(alice.id)).unwrap();

    place.setup.edit(bob.id, "last_verified", json!("2026-01-01T00:00:00Z"));
    place.setup.edit(bob.id, "last_present", Value::Null);
    let mut audit = place.audit();
    assert_eq!(place.run(&["sessions", "forget", "Bob"]).await.0, 1, "whose name it is by now is not known");
    let out = place.well(&["sessions", "forget", &bob.id.to_string()]).await;
    assert!(out.contains("counted no more"), "{out}");
    assert!(!place.setup.document(bob.id).exists());
    let event = audit.next("session.forgotten", |_| true).await;
    assert_eq!((&event["id"], &event["by"]), (&json!(bob.id), &json!("command")));

    fs::write(place.folder().join("bans.json"), "{").unwrap();
    for command in [&["bans", "list"][..], &["bans", "lift", "--all"]] {
        let (code, _, err) = place.run(command).await;
        assert_eq!(code, 1);
        assert!(err.contains("bans.json: ") && err.contains("sets it aside at its next start"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_player_is_let_in_as_the_owner_said() {
    let mut place = Place::new().await;
    let proxy = place.start().await;
    fs::write(
        place.folder().join("export.json"),
        json!([row(NEW, "New_one"), row(OTHER, "Trusted")]).to_string(),
    )
    .unwrap();
    place.well(&["sessions", "import", "export.json"]).await;
    fs::write(place.folder().join("export.json"), json!([row(OTHER, "Trusted")]).to_string()).unwrap();
    place.well(&["sessions", "forget", "Trusted"]).await;
    place.well(&["sessions", "import", "export.json", "--trust"]).await;
    let player = |id: &str, name: &str| Player { id: id.parse().unwrap(), ..Player::new(name) };
    let (locked, trusted) = (player(NEW, "New_one"), player(OTHER, "Trusted"));
    let mut audit = place.audit();
    place.sessions.set(support::Mode::Down);
    audit.state("down").await;
    let login = async |player: &Player| {
        Client::connect(address(&proxy), MODERN).await.login(player, &place.sessions).await
    };
    support::scene::assert_refused(&login(&locked).await, "is locked");
    assert!(is_in(&login(&trusted).await));
    // One login online makes it count.
    place.sessions.set(support::Mode::Up);
    audit.state("up").await;
    place.visit(&proxy, &locked).await;
    assert!(!place.well(&["sessions", "show", "New_one"]).await.contains("imported"));
    place.sessions.set(support::Mode::Down);
    audit.state("down").await;
    assert!(is_in(&login(&locked).await));
    // And from then on an import leaves it alone.
    fs::write(place.folder().join("export.json"), json!([row(NEW, "New_one")]).to_string()).unwrap();
    let out = place.well(&["sessions", "import", "export.json"]).await;
    assert!(out.contains("[0] New_one: known already: "), "{out}");
    assert!(out.contains("Imported 0 sessions, left 1 alone, refused 0."), "{out}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_superuser_leaves_no_files_that_the_proxy_cannot_read() {
    use std::os::unix::fs::{MetadataExt, chown};
    let place = Place::new().await;
    place.ban(&["203.0.113.5"]);
    fs::write(place.folder().join("export.json"), json!([row(NEW, "New_one")]).to_string()).unwrap();
    let store = place.folder().join("sessions");
    if fs::metadata(&store).unwrap().uid() != 0 {
        // Only the superuser can be too powerful.
        return;
    }
    for owned in [&store, place.folder(), &place.folder().join("bans.json")] {
        chown(owned, Some(12_345), None).unwrap();
    }
    for command in [
        &["sessions", "forget", "Bob"][..],
        &["sessions", "lock", "Bob"],
        &["sessions", "import", "export.json"],
        &["bans", "lift", "203.0.113.5"],
    ] {
        let (code, out, err) = place.run(command).await;
        assert_eq!((code, out.as_str()), (1, ""), "{command:?}");
        assert!(err.contains("sudo -u '#12345' postern"), "{command:?}: {err}");
    }
    assert_eq!(first_column(&place.well(&["sessions", "list"]).await), ["alice", "Bob", "Carol"]);
    assert!(place.well(&["bans", "list"]).await.contains("203.0.113.5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_configuration_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["sessions"][..],
        &["sessions", "dance"],
        &["sessions", "show", "a b"],
        &["sessions", "list", "--seen-within", "soon"],
        &["bans", "lift"],
    ] {
        let (code, out, err) = run(folder.path(), arguments, "").await;
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {err}");
    }
    for arguments in [&["sessions", "list"][..], &["bans", "list"], &["sessions", "forget", "Bob"]] {
        let (code, out, err) = run(folder.path(), arguments, "").await;
        assert_eq!((code, out.as_str()), (78, ""), "{arguments:?}");
        assert!(err.contains("config.yml") && err.contains("does not exist"), "{err}");
    }
    // Nothing is there yet, and nothing is made by asking.
    let config = "backends: {lobby: {address: \"127.0.0.1:1\"}}\n";
    fs::write(folder.path().join("config.yml"), config).unwrap();
    let (code, out, err) = run(folder.path(), &["sessions", "list"], "").await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("Nobody is remembered yet"), "{out}");
    let (code, _, err) = run(folder.path(), &["sessions", "forget", "Bob"], "").await;
    assert_eq!((code, err.as_str()), (1, "error: no session is stored for Bob\n"));
    let (code, out, _) = run(folder.path(), &["bans", "list"], "").await;
    assert_eq!((code, out.as_str()), (0, "Nobody is banned.\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
