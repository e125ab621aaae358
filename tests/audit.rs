//! `postern audit` as its owner meets it: the program itself. And audit.log where programs are killed and disks full.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use postern::{
    audit::{Audit, Config, Event, Kind, read::Stream},
    commands::audit::has_colour,
};
use serde_json::Value;
use tempfile::TempDir;

const NOTCH: &str = "069a79f4-44e9-4726-a5be-fca90e38aaf5";

/// Longest wait for something that is bound to happen; only a failing test waits so long.
const FAILSAFE: Duration = Duration::from_mins(1);

/// An installation, with a configuration and perhaps a log.
struct Place(TempDir);

impl Place {
    fn new(monitoring: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let config =
            format!("backends: {{lobby: {{address: \"127.0.0.1:1\"}}}}\nmonitoring: {{{monitoring}}}\n");
        fs::write(place.path("config.yml"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn add(&self, text: &str) {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(self.path("audit.log")).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("audit").args(arguments).current_dir(self.0.path()).env_remove("POSTERN_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let ended = self.start(arguments).wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    }

    /// What must end with 0 and nothing on standard error.
    fn well(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

/// Three files of a day.
fn day() -> Place {
    let place = Place::new("");
    let first = format!(
        "{}\n{}\n",
        r#"{"ts":"2026-11-21T08:00:00.000Z","event":"proxy.started","version":"0.1.0","listening":["0.0.0.0:25565"]}"#,
        r#"{"ts":"2026-11-21T09:00:00.500Z","event":"login.verified","conn":"c-1","player":"Notch","id":"ID","address":"203.0.113.5","protocol":774,"host":"play.example.com","backend":"lobby","reason":"ok","facts":{"in_an_outage":"short-history"}}"#
            .replace("ID", NOTCH),
    );
    fs::write(place.path("audit.log.2.gz"), gzip(&first)).unwrap();
    let second = format!(
        "{}\n{}\n",
        r#"{"ts":"2026-11-21T10:00:00.000Z","event":"auth.state","from":"up","to":"down","cause":"3 probes failed"}"#,
        r#"{"ts":"2026-11-21T11:00:00.000Z","event":"login.fallback","conn":"c-2","player":"jeb_","id":"169a79f4-44e9-4726-a5be-fca90e38aaf5","address":"203.0.113.6","backend":"lobby","reason":"ok","facts":{"address_match":"exact","idle_hours":3.2,"verified_logins":12,"place":{"country":"DE","asn":64496}}}"#,
    );
    fs::write(place.path("audit.log.1"), second).unwrap();
    place.add(&format!(
        "{}\n{}\n",
        r#"{"ts":"2026-11-21T12:00:00.000Z","event":"login.refused","conn":"c-3","player":"NOTCH","claimed_id":"ID","address":"198.51.100.7","reason":"address-changed","count":51,"facts":{"address_match":"none"}}"#
            .replace("ID", NOTCH),
        r#"{"ts":"2026-11-21T13:00:00.000Z","event":"ban.added","target":"198.51.100.7","failures":10,"since":"2026-11-21T13:00:00.000Z","until":"2026-11-21T13:30:00.000Z"}"#,
    ));
    place
}

#[test]
fn events_are_told_in_words_the_oldest_first() {
    let expected = "\
2026-11-21 08:00:00Z  proxy.started      -                 version 0.1.0, listens on 0.0.0.0:25565
2026-11-21 09:00:00Z  login.verified     Notch             verified, joined lobby from 203.0.113.5: an outage would keep it out (too few verified logins)
2026-11-21 10:00:00Z  auth.state         -                 up -> down: 3 probes failed
2026-11-21 11:00:00Z  login.fallback     jeb_              by policy, joined lobby from 203.0.113.6: known address, last seen 3 h ago, 12 verified logins, DE AS64496
2026-11-21 12:00:00Z  login.refused      NOTCH             address not known for this player from 198.51.100.7 (and 50 more like this): unknown address
2026-11-21 13:00:00Z  ban.added          198.51.100.7      banned until 2026-11-21T13:30:00.000Z after 10 failed attempts
";
    let place = day();
    assert_eq!(place.well(&[]), expected);
    // As a shell expands audit.log*, and from elsewhere.
    assert_eq!(place.well(&["audit.log", "audit.log.1", "audit.log.2.gz"]), expected);
}

#[test]
fn events_are_chosen_by_name_player_and_time_and_told_as_they_are() {
    let place = day();
    let events = |arguments: &[&str]| -> Vec<String> {
        let out = place.well(&[arguments, &["--json"]].concat());
        let parsed = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed.map(|event| event["ts"].as_str().unwrap()[11..13].to_owned()).collect()
    };
    assert_eq!(events(&[]), ["08", "09", "10", "11", "12", "13"]);
    assert_eq!(events(&["--event", "login"]), ["09", "11", "12"]);
    assert_eq!(events(&["--event", "auth.state", "--event", "ban.added"]), ["10", "13"]);
    assert_eq!(events(&["--player", "notch"]), ["09", "12"]);
    assert_eq!(events(&["--player", NOTCH]), ["09", "12"], "proven or claimed");
    assert_eq!(events(&["--player", &NOTCH.replace('-', "").to_uppercase()]), ["09", "12"]);
    assert_eq!(events(&["--player", "nobody"]), [""; 0]);
    let range = ["--since", "2026-11-21T10:00:00Z", "--until", "2026-11-21T13:00:00+01:00"];
    assert_eq!(events(&range), ["10", "11", "12"]);
    let last = place.well(&["--json", "--event", "ban.added"]);
    assert_eq!(last.trim_end(), fs::read_to_string(place.path("audit.log")).unwrap().lines().last().unwrap());
}

#[test]
fn hostile_and_damaged_lines_do_no_harm() {
    let place = Place::new("");
    let hostile = "{\"ts\":\"2026-11-21T12:00:00Z\",\"event\":\"login.refused\",\"player\":\"a\\u001b[2J\\u202eb\\nc\",\
                   \"reason\":\"\\u001b]0;x\",\"facts\":{\"cause\":\"\\u009b1m\"}}\n";
    place.add(hostile);
    place.add("torn {\"ts\":\n[]\n{\"ts\":\"yesterday\",\"event\":\"x\"}\n\n");
    place.add("{\"ts\":\"2026-11-21T12:00:01Z\",\"event\":\"of.tomorrow\",\"new\":[1,2]}\n");
    let (code, out, err) = place.run(&[]);
    assert_eq!((code, err.as_str()), (0, "warning: 3 lines are damaged and left out\n"));
    assert!(!out.chars().any(|c| c.is_control() && c != '\n') && !out.contains('\u{202e}'), "{out:?}");
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("a�[2J�b�c") && out.contains("of.tomorrow") && out.contains("new=1, 2"), "{out}");
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let place = Place::new("");
    for (arguments, code, words) in [
        (&[][..], 1, "there is no "),
        (&["--event", "login.refsued"], 64, "did you mean 'login.refused'?"),
        (&["nothing.log"], 1, "cannot read nothing.log"),
        // They would wait for ever, and follow nothing.
        (&["-f", "a.log", "b.log"], 64, "-f follows one file"),
        (&["-f", "-"], 64, "not standard input"),
        (&["--config", "none.yml"], 78, "name the files: postern audit FILE"),
    ] {
        let (ended, out, err) = place.run(arguments);
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    let off = Place::new("enable-audit-log: false");
    let (code, _, err) = off.run(&[]);
    assert!(code == 1 && err.contains("monitoring.enable-audit-log"), "{err}");
}

#[test]
fn colour_is_for_terminals_that_have_it_and_owners_who_want_it() {
    let colour = |terminal, no_color: Option<&str>, term: Option<&str>| {
        has_colour(terminal, no_color.map(AsRef::as_ref), term.map(AsRef::as_ref))
    };
    assert!(colour(true, None, Some("xterm")) && colour(true, Some(""), None));
    assert!(!colour(false, None, Some("xterm")));
    assert!(!colour(true, Some("1"), Some("xterm")) && !colour(true, None, Some("dumb")));
}

#[test]
fn whoever_has_seen_enough_ends_it_quietly() {
    let place = Place::new("");
    place.add(&"{\"ts\":\"2026-11-21T12:00:00Z\",\"event\":\"proxy.stopped\"}\n".repeat(50_000));
    let mut child = place.start(&[]);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_log_is_followed_across_rotations() {
    let place = Place::new("");
    let event = |n: u32| format!("{{\"ts\":\"2026-11-21T12:00:00Z\",\"event\":\"proxy.started\",\"n\":{n}}}");
    let add = |n| place.add(&(event(n) + "\n"));
    (0..20).for_each(add);
    let mut child = place.start(&["-f", "--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for n in 10..20 {
        assert_eq!(lines.next().unwrap(), event(n), "the newest ten");
    }
    for n in 20..25 {
        add(n);
        fs::rename(place.path("audit.log"), place.path(&format!("audit.log.{}", 30 - n))).unwrap();
        if n > 22 {
            assert_eq!(lines.next().unwrap(), event(n));
        }
        add(n + 100);
        if n > 22 {
            assert_eq!(lines.next().unwrap(), event(n + 100));
        } else {
            assert_eq!([lines.next().unwrap(), lines.next().unwrap()], [event(n), event(n + 100)]);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_million_lines_pass_in_little_memory() {
    const LINES: usize = 1_000_000;
    let place = Place::new("");
    let mut gzip =
        GzEncoder::new(fs::File::create(place.path("audit.log.1.gz")).unwrap(), Compression::fast());
    let mut text = String::new();
    for n in 0..LINES {
        write!(text, "{{\"ts\":\"2026-11-21T12:00:00Z\",\"event\":\"login.verified\",\"conn\":\"c-{n:x}\",")
            .unwrap();
        writeln!(text, "\"player\":\"Notch\",\"facts\":{{\"in_an_outage\":\"ok\",\"pad\":\"{n:060}\"}}}}")
            .unwrap();
        if text.len() > 1 << 20 || n + 1 == LINES {
            gzip.write_all(text.as_bytes()).unwrap();
            text.clear();
        }
    }
    gzip.finish().unwrap();
    let mut child = place.start(&["--json"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut lines, mut line, mut peak) = (0, Vec::new(), 0);
    loop {
        line.clear();
        if out.read_until(b'\n', &mut line).unwrap() == 0 {
            break;
        }
        lines += 1;
        // It waits for us, as the pipe is full.
        if lines == LINES / 100 * 95 {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            peak = high.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(lines, LINES);
    assert!((1..60_000).contains(&peak), "{peak} kB");
}

/// This test program once more, for what happens in a program that is killed, or to which a disk is given. `role` is an
/// ignored test.
fn again(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture"]).env("AUDIT_TEST_FOLDER", folder);
    command
}

fn given() -> PathBuf {
    env::var_os("AUDIT_TEST_FOLDER").unwrap().into()
}

fn log_in(folder: &Path, max_size: u64, keep: u32) -> Audit {
    let path = Some(folder.join("audit.log"));
    Audit::open(&Config { path, max_size, keep, compress: true }).unwrap()
}

fn event(life: &str, number: u64) -> Event {
    Event::new(Kind::ProxyStarted, Timestamp::UNIX_EPOCH).conn(number).host(life)
}

#[test]
#[ignore = "started by killed_at_any_time_every_line_is_there_once"]
fn writes_until_it_is_killed() {
    let audit = log_in(&given(), 3000, 1000);
    let life = std::process::id().to_string();
    for number in 0.. {
        while audit.figures().queued > 100 {
            thread::yield_now();
        }
        audit.emit(event(&life, number));
    }
}

#[test]
fn killed_at_any_time_every_line_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    for life in 0..25_u64 {
        let mut child = again("writes_until_it_is_killed", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once it has rotated a few times, at an odd moment.
        let begun = Instant::now();
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let before = count();
        while count() < before + 3 {
            assert!(begun.elapsed() < FAILSAFE, "it does not write");
            thread::yield_now();
        }
        thread::park_timeout(Duration::from_micros(life * 137 % 3000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(log_in(folder.path(), 3000, 1000));
    let mut stream = Stream::of_log(&log, None).unwrap();
    let (mut lives, mut damaged) = (Vec::<(String, u64)>::new(), 0);
    while stream.advance() {
        let Ok(event) = serde_json::from_slice::<Value>(stream.line()) else {
            damaged += 1;
            continue;
        };
        let (life, number) = (event["host"].as_str().unwrap(), event["conn"].as_str().unwrap());
        let number: u64 = number.parse().unwrap();
        match lives.last_mut() {
            Some((last, next)) if last == life => {
                assert_eq!(number, *next, "of {life}");
                *next += 1;
            }
            _ => {
                assert_eq!(number, 0, "{life} begins late");
                assert!(!lives.iter().any(|(known, _)| known == life), "{life} twice");
                lives.push((life.to_owned(), 1));
            }
        }
    }
    assert_eq!(stream.troubles(), Vec::<String>::new());
    assert_eq!(lives.len(), 25);
    assert!(damaged <= 25, "a kill tears the last line at the worst: {damaged}");
}

#[test]
#[ignore = "started by a_full_disk_holds_up_nobody_and_is_told_of"]
fn fills_its_disk() {
    let folder = given();
    let audit = log_in(&folder, 20_000, 2);
    let filler = folder.join("filler");
    let fill = || {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    };
    audit.emit(event("before", 0));
    let wait = |what: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < FAILSAFE, "{:?}", audit.figures());
            thread::yield_now();
        }
    };
    wait(&|| audit.figures().written == 1);
    fill();
    let begun = Instant::now();
    (0..6000).for_each(|number| audit.emit(event("full", number)));
    assert!(begun.elapsed() < Duration::from_secs(5), "whoever emits waits for nothing");
    wait(&|| audit.figures().failing);
    let figures = audit.figures();
    assert!(figures.dropped > 1000 && figures.queued >= 4096, "{figures:?}");
    fs::remove_file(&filler).unwrap();
    wait(&|| !audit.figures().failing && audit.figures().queued == 0);
    audit.emit(event("after", 0));
    wait(&|| audit.figures().queued == 0);
    let figures = audit.figures();
    assert!(figures.rotations > 2, "{figures:?}");
    let told: Vec<Value> = audit.recent().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let dropped = told.iter().find(|line| line["event"] == "audit.dropped").unwrap();
    assert_eq!(dropped["others"], figures.dropped);
    assert_eq!(told.last().unwrap()["host"], "after");
    assert_eq!(figures.written, 1 + 6000 - figures.dropped + 1 + 1);
    println!("resumed");
}

#[test]
fn a_full_disk_holds_up_nobody_and_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    // A disk of its own, which only that program sees.
    let script = "mount -t tmpfs -o size=200k tmpfs \"$AUDIT_TEST_FOLDER\" || exit 42; exec \"$@\"";
    let itself = again("fills_its_disk", folder.path());
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(itself.get_program()).args(itself.get_args());
    command.env("AUDIT_TEST_FOLDER", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: there is no unshare here");
        return;
    };
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let ended = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&ended.stderr);
    // 1: unshare itself is not permitted.
    let refused = ended.status.code() == Some(42) || complaint.starts_with("unshare:");
    if refused && said.is_empty() {
        eprintln!("skipped: nothing may be mounted here: {complaint}");
        return;
    }
    assert!(ended.status.success() && said.contains("resumed"), "{said}\n{complaint}");
}
