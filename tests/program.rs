//! The program as its owner meets it: arguments, exit codes, what it prints, signals, files.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything that the program is to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody listens on port 1: neither game server nor session server is there.
const CONFIG: &str = r#"
bind: "127.0.0.1:0"
admin: {listen: ""}
backends:
  lobby:
    address: "127.0.0.1:1"
auth:
  session-server: "http://127.0.0.1:1"
"#;

/// A folder with that configuration.
fn folder_with(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yml"), config).unwrap();
    folder
}

fn postern(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in [
        "POSTERN_CONFIG",
        "POSTERN_FORWARDING_SECRET",
        "VELOCITY_FORWARDING_SECRET",
        "RUST_LOG",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs the program to its end: the exit code, standard output, standard error.
fn ends(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = postern(folder, arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What lies in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The lines of a stream as they come.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            // The test may be over.
            let _ = send.send(line.unwrap());
        }
    });
    lines
}

/// The program while it runs; killed when the test is over, however it ends.
struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    /// Where it listens.
    address: SocketAddr,
}

impl Running {
    /// Starts it and waits until it listens.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(postern(folder, arguments))
    }

    /// The same for a command that becomes the program.
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut running = Self { child, out, err, address: nowhere };
        let Ok(done) = running.out.recv_timeout(PATIENCE) else {
            let log: Vec<String> = running.err.try_iter().collect();
            panic!("it does not listen: {log:#?}");
        };
        // Done (0.123s)! Listening on 127.0.0.1:40001
        let (seconds, address) =
            done.strip_prefix("Done (").and_then(|rest| rest.split_once("s)! Listening on ")).unwrap();
        assert_eq!(seconds.split_once('.').unwrap().1.len(), 3, "{done}");
        assert!((0.0..PATIENCE.as_secs_f64()).contains(&seconds.parse().unwrap()), "{done}");
        running.address = address.parse().unwrap();
        assert!(running.address.ip().is_loopback() && running.address.port() != 0, "{done}");
        running
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for a line of the log with that in it.
    fn logged(&self, part: &str) {
        let began = Instant::now();
        while let Ok(line) = self.err.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            if line.contains(part) {
                return;
            }
        }
        panic!("never logged: {part}");
    }

    /// Waits for the end. Both streams end with it; what was not read of them yet comes too.
    fn end(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let began = Instant::now();
        let left = || PATIENCE.saturating_sub(began.elapsed());
        let rest = |stream: &Receiver<String>| {
            let mut lines = Vec::new();
            while let Ok(line) = stream.recv_timeout(left()) {
                lines.push(line);
            }
            assert!(left() > Duration::ZERO, "it does not end");
            lines
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        (self.child.wait().unwrap(), out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events in an audit log, as far as they were written whole.
fn events(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often an event of that kind stands there.
fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event"] == kind).count()
}

/// Waits until an event of that kind stands in an audit log.
#[allow(clippy::disallowed_methods, reason = "another process writes it: there is nothing to wait on")]
fn written(log: &Path, kind: &str) {
    let began = Instant::now();
    while count(&events(log), kind) == 0 {
        assert!(began.elapsed() < PATIENCE, "no {kind} in {}", log.display());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Has a connection refused: what it sends is no handshake. Returns once it is closed.
fn be_refused(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0xff; 16]).unwrap();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn check_says_ok_and_touches_nothing() {
    let folder = folder_with(CONFIG);
    let (code, out, err) = ends(folder.path(), &["check"]);
    assert_eq!((code, out.lines().last(), err.as_str()), (0, Some("ok"), ""), "{out}");
    assert!(out.contains("forwarding.secret") && out.contains("does not exist yet"), "{out}");
    assert_eq!(files(folder.path()), ["config.yml"]);
    assert_eq!(fs::read_to_string(folder.path().join("config.yml")).unwrap(), CONFIG);
    // From elsewhere, with nothing to remark.
    fs::write(folder.path().join("config.yml"), CONFIG.replace("http:", "https:")).unwrap();
    fs::write(folder.path().join("forwarding.secret"), "a long random text").unwrap();
    fs::set_permissions(folder.path().join("forwarding.secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let path = folder.path().join("config.yml");
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, out, err) = ends(elsewhere.path(), &["--config", path.to_str().unwrap(), "check"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "ok\n", ""));
    assert_eq!(files(folder.path()), ["config.yml", "forwarding.secret"]);
    assert!(files(elsewhere.path()).is_empty());
}

#[test]
fn every_problem_is_listed_and_ends_with_78() {
    let config = CONFIG.replace("session-server:", "sesion-server: 1\n  timeout: soon\n  session-server:");
    let folder = folder_with(&config);
    for (command, listed_on_out) in [("check", true), ("run", false)] {
        let (code, out, err) = ends(folder.path(), &[command]);
        assert_eq!(code, 78, "{command}: {out}{err}");
        let (listed, other) = if listed_on_out { (out, err) } else { (err, out) };
        for problem in ["config.yml:8:3: ", "sesion-server", "config.yml:9:12: ", "auth.timeout"] {
            assert!(listed.contains(problem), "{command}: {problem}: {listed}");
        }
        assert_eq!(listed.matches(" error: ").count(), 2, "{listed}");
        assert_eq!(other, "", "{command}");
        assert_eq!(files(folder.path()), ["config.yml"], "{command}");
    }
}

#[test]
fn a_configuration_that_is_not_there_ends_with_78_and_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--config", "missing.yml"][..], &["run", "--config", "missing.yml"], &["check"]] {
        let (code, out, err) = ends(folder.path(), arguments);
        assert_eq!(code, 78, "{arguments:?}: {out}{err}");
        assert!((out + &err).contains("does not exist"), "{arguments:?}");
        assert!(files(folder.path()).is_empty(), "{arguments:?}");
    }
    let named = postern(folder.path(), &["run"]).env("POSTERN_CONFIG", "missing.yml").output().unwrap();
    assert_eq!(named.status.code(), Some(78), "in the environment");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn bad_usage_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["dance"][..], &["run", "now"], &["--log-format", "xml"], &["--config"]] {
        let (code, out, err) = ends(folder.path(), arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        assert!(err.contains("--help"), "{arguments:?}: {err}");
    }
    for arguments in [["--help"], ["--version"]] {
        let (code, out, err) = ends(folder.path(), &arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert!(out.contains("postern"), "{out}");
    }
    assert!(files(folder.path()).is_empty());
}

#[test]
fn the_first_start_writes_a_configuration_and_a_secret_once() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the folder of sessions should be stops it before it listens or asks anybody: this configuration
    // says where the real ones are.
    fs::write(folder.path().join("sessions"), "").unwrap();
    let (code, out, err) = ends(folder.path(), &[]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("sessions"), "{err}");
    let (config, secret) = (folder.path().join("config.yml"), folder.path().join("forwarding.secret"));
    assert_eq!(fs::read_to_string(&config).unwrap(), include_str!("../config.example.yml"));
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read(&secret).unwrap();
    assert!(written.len() >= 16);
    for file in ["config.yml", "forwarding.secret"] {
        assert!(err.lines().any(|line| line.contains("first start") && line.contains(file)), "{file}: {err}");
    }
    assert!(!err.contains(std::str::from_utf8(&written).unwrap().trim()), "a secret in the log");
    // Whatever the owner made of them stays.
    let own = format!("# mine\n{}", include_str!("../config.example.yml"));
    fs::write(&config, &own).unwrap();
    let (code, _, err) = ends(folder.path(), &["run"]);
    assert_eq!(code, 1);
    assert!(!err.contains("first start"), "{err}");
    assert_eq!(fs::read_to_string(&config).unwrap(), own);
    assert_eq!(fs::read(&secret).unwrap(), written);
}

#[test]
fn it_says_where_it_listens_and_stops_in_order_when_told_to() {
    for name in ["TERM", "INT"] {
        let folder = folder_with(CONFIG);
        let mut running = Running::start(folder.path(), &["--log-format", "json"]);
        be_refused(running.address);
        running.signal(name);
        let (status, out, log) = running.end();
        assert_eq!(status.code(), Some(0), "{name}: {log:#?}");
        assert_eq!(out, Vec::<String>::new(), "standard output is for one line");
        for line in &log {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
        }
        let events = events(&folder.path().join("audit.log"));
        assert_eq!(events[0]["event"], "proxy.started");
        assert_eq!(events[0]["listening"][0], running.address.to_string());
        assert_eq!(count(&events, "login.refused"), 1, "{events:#?}");
        assert_eq!(events.last().unwrap()["event"], "proxy.stopped");
        assert!(TcpStream::connect(running.address).is_err());
    }
}

#[test]
fn a_hang_up_signal_opens_the_audit_log_anew() {
    let folder = folder_with(CONFIG);
    let (log, rotated) = (folder.path().join("audit.log"), folder.path().join("audit.log.old"));
    let mut running = Running::start(folder.path(), &[]);
    be_refused(running.address);
    written(&log, "login.refused");
    fs::rename(&log, &rotated).unwrap();
    running.signal("HUP");
    running.logged("opened audit.log anew");
    be_refused(running.address);
    written(&log, "login.refused");
    running.signal("TERM");
    let (status, ..) = running.end();
    assert_eq!(status.code(), Some(0));
    let (old, new) = (events(&rotated), events(&log));
    for (kind, before, after) in [("proxy.started", 1, 0), ("login.refused", 1, 1), ("proxy.stopped", 0, 1)] {
        assert_eq!((count(&old, kind), count(&new, kind)), (before, after), "{kind}");
    }
}

/// Replaces a file in one step, as an editor or a secret manager does.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn a_hang_up_signal_takes_over_the_configuration_all_or_nothing() {
    const OLD: &str = "the first long secret";
    const NEW: &str = "the second long secret";
    let folder =
        folder_with(&format!("{CONFIG}  fallback: enabled\nmonitoring: {{health-check-interval: 30}}\n"));
    let (config, secret) = (folder.path().join("config.yml"), folder.path().join("forwarding.secret"));
    let audit = folder.path().join("audit.log");
    replace(&secret, OLD);
    let mut running = Running::start(folder.path(), &[]);

    replace(&secret, NEW);
    running.signal("HUP");
    running.logged("changed: forwarding.secret-file: the secret changed");
    running.logged("read the configuration again; connections that begin from now on go by it");
    written(&audit, "config.reloaded");

    // A bad file, and a missing secret, change nothing; every problem is named.
    let good = fs::read_to_string(&config).unwrap();
    replace(&config, &good.replace("fallback: enabled", "fallback: perhaps\n  timeout: soon"));
    replace(&secret, OLD);
    running.signal("HUP");
    running.logged("auth.fallback");
    running.logged("auth.timeout");
    running.logged("nothing of it was taken over");
    replace(&config, &good);
    fs::remove_file(&secret).unwrap();
    running.signal("HUP");
    running.logged("forwarding.secret does not exist");
    running.logged("nothing of it was taken over");
    assert!(!secret.exists(), "a reload writes nothing");

    // Where it listens waits for the next start, and that is said.
    replace(&secret, NEW);
    let other = good.replace("fallback: enabled", "fallback: dry-run").replace("127.0.0.1:0", "127.0.0.1:2");
    replace(&config, &other);
    running.signal("HUP");
    running.logged("changed: auth.fallback: enabled -> dry-run");
    running.logged("takes effect at the next start: bind: ");
    running.logged("read the configuration again");
    running.signal("HUP");
    running.logged("takes effect at the next start: bind: ");
    running.logged("read the configuration again; nothing changed");

    be_refused(running.address);
    running.signal("TERM");
    let (status, _, log) = running.end();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let events = events(&audit);
    let reloads: Vec<&Value> = events.iter().filter(|event| event["event"] == "config.reloaded").collect();
    let told: Vec<_> = reloads
        .iter()
        .map(|event| {
            let changed = event["changed"].as_array().map(Vec::len);
            let waiting = event["restart_needed"].as_array().map(Vec::len);
            (event["result"].as_str().unwrap(), changed, waiting, event["problems"].as_u64())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("ok", Some(1), Some(0), None),
            ("failed", None, None, Some(2)),
            ("failed", None, None, Some(1)),
            ("ok", Some(1), Some(1), None),
            ("ok", Some(0), Some(1), None)
        ],
        "{reloads:#?}"
    );
    let text = fs::read_to_string(&audit).unwrap() + &log.join("\n");
    assert!(!text.contains(OLD) && !text.contains(NEW), "a secret in a log");
}

/// Longest message of a service.
#[cfg(target_os = "linux")]
const MESSAGE: usize = 512;

/// The ear of a service manager.
#[cfg(target_os = "linux")]
struct Ear(std::os::unix::net::UnixDatagram);

#[cfg(target_os = "linux")]
impl Ear {
    fn at(path: &Path) -> Self {
        let socket = std::os::unix::net::UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next thing said, one line each.
    fn next(&self) -> Vec<String> {
        let mut message = [0; MESSAGE];
        let length = self.0.recv(&mut message).expect("nothing was said");
        std::str::from_utf8(&message[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// The next thing said that is no sign of life.
    fn next_word(&self) -> Vec<String> {
        loop {
            let said = self.next();
            if said != ["WATCHDOG=1"] {
                return said;
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_hears_how_it_fares() {
    let folder = folder_with(CONFIG);
    let socket = folder.path().join("notify");
    let ear = Ear::at(&socket);
    let mut command = postern(folder.path(), &[]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let mut running = Running::of(command);
    // It listens by then.
    assert_eq!(ear.next_word(), ["READY=1"]);
    drop(TcpStream::connect(running.address).unwrap());
    for _ in 0..3 {
        assert_eq!(ear.next(), ["WATCHDOG=1"]);
    }
    for text in [CONFIG, "no configuration"] {
        replace(&folder.path().join("config.yml"), text);
        running.signal("HUP");
        let said = ear.next_word();
        assert_eq!(said[0], "RELOADING=1", "{said:?}");
        let micros: u64 = said[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(micros > 0 && said.len() == 2, "{said:?}");
        assert_eq!(ear.next_word(), ["READY=1"], "however it ended");
    }
    running.signal("TERM");
    assert_eq!(ear.next_word(), ["STOPPING=1"]);
    assert_eq!(running.end().0.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_watchdog_that_is_meant_for_another_process_gets_nothing() {
    let folder = folder_with(CONFIG);
    let socket = folder.path().join("notify");
    let ear = Ear::at(&socket);
    let mut command = postern(folder.path(), &[]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let mut running = Running::of(command);
    running.signal("TERM");
    assert_eq!((ear.next(), ear.next()), (vec!["READY=1".to_owned()], vec!["STOPPING=1".to_owned()]));
    assert_eq!(running.end().0.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_that_does_not_listen_holds_up_nothing() {
    let folder = folder_with(CONFIG);
    let mut command = postern(folder.path(), &[]);
    command.env("NOTIFY_SOCKET", folder.path().join("nobody")).env("WATCHDOG_USEC", "100000");
    let mut running = Running::of(command);
    running.logged("the service manager could not be told");
    running.signal("HUP");
    running.logged("read the configuration again");
    be_refused(running.address);
    running.signal("TERM");
    assert_eq!(running.end().0.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_that_does_not_read_holds_up_nothing() {
    let folder = folder_with(CONFIG);
    let socket = folder.path().join("notify");
    // There, but it never reads: its queue is full soon.
    let _ear = Ear::at(&socket);
    let mut command = postern(folder.path(), &[]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "20000").env_remove("WATCHDOG_PID");
    let mut running = Running::of(command);
    let threads = |running: &Running| {
        let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    running.logged("it does not take what it is told");
    let mut counted = Vec::new();
    for _ in 0..3 {
        running.signal("HUP");
        running.logged("read the configuration again");
        counted.push(threads(&running));
    }
    // Each word that waits in a thread of its own would be one more.
    assert!(counted[2] <= counted[0] + 1, "{counted:?}");
    be_refused(running.address);
    running.signal("TERM");
    assert_eq!(running.end().0.code(), Some(0));
}

#[test]
fn a_second_one_on_the_same_folder_does_not_start() {
    let folder = folder_with(CONFIG);
    let mut running = Running::start(folder.path(), &[]);
    let (code, out, err) = ends(folder.path(), &["run"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let line = err.lines().find(|line| line.contains("in use by another running proxy")).unwrap();
    assert!(line.contains("sessions"), "{line}");
    assert!(line.contains(&format!("process {}", running.child.id())), "{line}");
    // The first goes on, and its log with it.
    be_refused(running.address);
    running.signal("TERM");
    assert_eq!(running.end().0.code(), Some(0));
    let events = events(&folder.path().join("audit.log"));
    assert_eq!((count(&events, "proxy.started"), count(&events, "login.refused")), (1, 1));
    // And once it has ended, the folder is free.
    Running::start(folder.path(), &[]);
}

#[test]
fn there_are_no_more_connections_than_files_may_be_open() {
    let run = |limit: &str| {
        let folder = folder_with(CONFIG);
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_postern");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" run"), program]);
        command.current_dir(folder.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
        (Running::of(command), folder)
    };
    let (running, _folder) = run("-n 512");
    running.logged("network.max-connections is 20000, but only 512 files may be open at once");
    // A soft limit alone is no limit: the program raises it.
    let hard = Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap().stdout;
    let hard = String::from_utf8(hard).unwrap();
    if hard.trim().parse().map_or(true, |hard: u64| hard > 50_000) {
        let (mut running, _folder) = run("-S -n 512");
        running.signal("TERM");
        let (_, _, log) = running.end();
        assert!(!log.iter().any(|line| line.contains("max-connections")), "{log:#?}");
    }
}
