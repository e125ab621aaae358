//! Configuration files as owners write them, good and bad, each with the findings expected beside it; and what happens
//! to files around them.
//!
//! `UPDATE_EXPECTED=1 cargo test --test config` writes the expected findings anew: read the difference before keeping it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail like tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use postern::config::{self, Environment, Loaded, Problem, Purpose, Report};
use secrecy::{ExposeSecret, SecretString};

const MINIMAL: &str = "backends: {lobby: {address: \"127.0.0.1:25566\"}}\n";
/// The same without a need for secrets.
const UNSIGNED: &str = "backends: {lobby: {address: \"127.0.0.1:25566\", forwarding: none}}\n";

fn environment() -> Environment {
    Environment { postern_forwarding_secret: Some("Dv5Vj1tQ0mQe".into()), ..Environment::default() }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    files
}

/// Compares the findings with the file beside, without the folder that this machine keeps the sources in.
fn compare(path: &Path, problems: &[Problem], wrong: &mut Vec<String>) {
    let folder = format!("{}/", path.parent().unwrap().display());
    let found: String = problems.iter().map(|problem| format!("{problem}\n").replace(&folder, "")).collect();
    let beside = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&beside, &found).unwrap();
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    if found != expected {
        wrong.push(format!("--- {}\nexpected:\n{expected}found:\n{found}", path.display()));
    }
}

#[test]
fn good_files_load_with_the_expected_warnings_and_notes() {
    let mut wrong = Vec::new();
    let files = files("valid");
    assert!(files.len() >= 5);
    for path in files {
        match config::load(&path, &environment(), Purpose::Check) {
            Ok(Loaded { warnings, notes, .. }) => compare(&path, &[warnings, notes].concat(), &mut wrong),
            Err(report) => wrong.push(format!("--- {} is refused:\n{report}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bad_files_are_refused_with_every_problem() {
    let mut wrong = Vec::new();
    let files = files("invalid");
    assert!(files.len() >= 25);
    for path in files {
        match config::load(&path, &environment(), Purpose::Run) {
            Ok(_) => wrong.push(format!("--- {} is accepted", path.display())),
            Err(report) => compare(&path, report.problems(), &mut wrong),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_is_what_the_program_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = config::reference();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let is_same = there == written;
    assert!(
        is_same,
        "docs/configuration.md is out of date; write it anew: cargo run -- reference > docs/configuration.md"
    );
    // Every key has a row with nothing empty in it.
    let rows: Vec<&str> = written.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 140, "{}", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() >= 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}

fn load(folder: &Path, text: &str, purpose: Purpose) -> Result<Loaded, Report> {
    let path = folder.join("config.yml");
    fs::write(&path, text).unwrap();
    config::load(&path, &Environment::default(), purpose)
}

/// The secret of the first backend.
fn secret(loaded: &Loaded) -> String {
    let secret = loaded.config.backend.backends[0].secret.as_ref().unwrap();
    String::from_utf8(secret.expose_secret().to_vec()).unwrap()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_writes_two_files_and_never_replaces_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, secret_path) = (folder.path().join("config.yml"), folder.path().join("forwarding.secret"));
    assert_eq!(config::write_default(&path).unwrap(), [path.clone(), secret_path.clone()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), config::EXAMPLE);
    #[cfg(unix)]
    assert_eq!(mode(&secret_path), 0o600);
    let loaded = config::load(&path, &Environment::default(), Purpose::Run).unwrap();
    assert_eq!((&loaded.warnings, &loaded.notes), (&vec![], &vec![]));
    assert_eq!(secret(&loaded), fs::read_to_string(&secret_path).unwrap());
    assert!(secret(&loaded).len() >= 24 && secret(&loaded).bytes().all(|b| b.is_ascii_alphanumeric()));

    fs::write(&path, MINIMAL).unwrap();
    fs::remove_file(&secret_path).unwrap();
    assert_eq!(config::write_default(&path).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(fs::read_to_string(&path).unwrap(), MINIMAL);
    assert!(!secret_path.exists());

    fs::remove_file(&path).unwrap();
    fs::write(&secret_path, "the owner's own secret").unwrap();
    assert_eq!(config::write_default(&path).unwrap(), std::slice::from_ref(&path));
    assert_eq!(fs::read_to_string(&secret_path).unwrap(), "the owner's own secret");
}

#[test]
fn a_missing_shared_secret_is_written_by_run_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarding.secret");

    let checked = load(folder.path(), MINIMAL, Purpose::Check).unwrap();
    assert!(checked.notes[0].what.ends_with("forwarding.secret does not exist yet"), "{:?}", checked.notes);
    assert!(!path.exists());

    load(folder.path(), &format!("{MINIMAL}bind: 1\n"), Purpose::Run).unwrap_err();
    assert!(!path.exists(), "a bad configuration writes nothing");

    let ran = load(folder.path(), MINIMAL, Purpose::Run).unwrap();
    assert!(ran.notes[0].what.contains("a random secret was written to"), "{:?}", ran.notes);
    assert_eq!(secret(&ran), fs::read_to_string(&path).unwrap());
    #[cfg(unix)]
    assert_eq!(mode(&path), 0o600);

    let again = load(folder.path(), MINIMAL, Purpose::Run).unwrap();
    assert_eq!((secret(&again), again.notes), (secret(&ran), vec![]));
}

#[test]
fn a_secret_that_nobody_needs_is_not_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "backends: {a: {address: 'h:1'}}\nforwarding: {mode: none}\n",
        "backends: {a: {address: 'h:1', forwarding: none, secret-file: missing}}\n",
    ] {
        let loaded = load(folder.path(), text, Purpose::Run).unwrap();
        assert!(loaded.config.backend.backends[0].secret.is_none());
        assert_eq!(loaded.notes, []);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_backend_of_its_own_secret() {
    let folder = tempfile::tempdir().unwrap();
    let text = "backends: {a: {address: 'h:1', secret-file: a.secret}}\n";
    let report = load(folder.path(), text, Purpose::Check).unwrap_err();
    assert_eq!(report.problems()[0].key, "backends.a.secret-file");
    fs::write(folder.path().join("a.secret"), "correct horse battery\r\n").unwrap();
    let loaded = load(folder.path(), text, Purpose::Check).unwrap();
    assert_eq!(secret(&loaded), "correct horse battery");
    assert!(loaded.notes.is_empty(), "the shared one is not needed: {:?}", loaded.notes);
}

#[test]
fn the_environment_comes_before_the_file_and_postern_before_velocity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, MINIMAL).unwrap();
    let both = Environment {
        postern_forwarding_secret: Some("from postern's\n".into()),
        velocity_forwarding_secret: Some("from velocity's".into()),
    };
    assert_eq!(secret(&config::load(&path, &both, Purpose::Run).unwrap()), "from postern's");
    let velocity = Environment { postern_forwarding_secret: None, ..both };
    assert_eq!(secret(&config::load(&path, &velocity, Purpose::Run).unwrap()), "from velocity's");
    assert!(!folder.path().join("forwarding.secret").exists());

    let empty =
        Environment { postern_forwarding_secret: Some(SecretString::from(" ")), ..Environment::default() };
    let report = config::load(&path, &empty, Purpose::Run).unwrap_err();
    assert!(report.to_string().contains("POSTERN_FORWARDING_SECRET is empty"), "{report}");
}

#[test]
fn that_a_secret_changed_is_told_by_its_key_and_nothing_else_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |shared: &str, own: &str| {
        fs::write(folder.path().join("forwarding.secret"), shared).unwrap();
        fs::write(folder.path().join("a.secret"), own).unwrap();
    };
    let text = "backends: {a: {address: 'h:1', secret-file: a.secret}, b: {address: 'h:2'}}\n";
    write("the shared secret", "a secret of its own");
    let before = load(folder.path(), text, Purpose::Run).unwrap().config;
    let changes = || before.changes(&load(folder.path(), text, Purpose::Reload).unwrap().config).changed;
    assert_eq!(changes(), Vec::<String>::new());
    write("the shared secret", "another secret of its own");
    assert_eq!(changes(), ["backends.a.secret-file: the secret changed"]);
    write("another shared secret", "a secret of its own");
    assert_eq!(changes(), ["forwarding.secret-file: the secret changed"]);
}

#[test]
fn bad_secret_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarding.secret");
    for (content, expected) in [
        (&b"\n"[..], "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (&b"a".repeat(20_000), "cannot be read: longer than"),
    ] {
        fs::write(&path, content).unwrap();
        let report = load(folder.path(), MINIMAL, Purpose::Run).unwrap_err();
        assert!(report.to_string().contains(expected), "{expected}: {report}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let report = load(folder.path(), MINIMAL, Purpose::Run).unwrap_err();
    assert!(report.to_string().contains("cannot be read: not a regular file"), "{report}");
}

#[cfg(unix)]
#[test]
fn a_secret_that_others_can_read_or_guess_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarding.secret");
    fs::write(&path, "short").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let warnings = load(folder.path(), MINIMAL, Purpose::Run).unwrap().warnings;
    assert!(warnings[0].what.ends_with("can be read by other users of this machine"), "{warnings:?}");
    assert!(warnings[1].what.ends_with("is short enough to be guessed"), "{warnings:?}");
    assert!(!format!("{warnings:?}").contains("\"short\""));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    let problem = |path: &Path| {
        let report = config::load(path, &environment(), Purpose::Run).unwrap_err();
        assert_eq!(report.problems().len(), 1);
        report.problems()[0].what.clone()
    };
    assert_eq!(problem(&path), "does not exist");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written for a missing file");
    assert_eq!(problem(folder.path()), "cannot be read: not a regular file");
    fs::write(&path, b"backends:\n  a: \xff\n").unwrap();
    assert_eq!(problem(&path), "is not UTF-8 text; the first bad byte is in line 2");
    fs::write(&path, "#".repeat(2_000_000)).unwrap();
    assert_eq!(problem(&path), "cannot be read: longer than 1048576 bytes");
}

#[test]
fn paths_are_relative_to_the_file_and_its_byte_order_mark_is_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("forwarding.secret"), "long enough for all").unwrap();
    let text = format!("\u{feff}{MINIMAL}monitoring: {{audit-log: logs/audit.log}}\n");
    let loaded = load(folder.path(), &text, Purpose::Check).unwrap();
    assert_eq!(loaded.config.session.directory, folder.path().join("sessions"));
    assert_eq!(loaded.config.audit.path, Some(folder.path().join("logs/audit.log")));
    assert_eq!(loaded.config.source, folder.path().join("config.yml"));
}

#[test]
fn icons() {
    let folder = tempfile::tempdir().unwrap();
    let icon = folder.path().join("icon.png");
    let text = format!("{UNSIGNED}status: {{favicon: icon.png}}\n");
    let png = |size: u8| {
        [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0, 0, 0, size, 0, 0, 0, 64][..], &[8, 6, 0, 0, 0]].concat()
    };
    fs::write(&icon, png(64)).unwrap();
    assert_eq!(load(folder.path(), &text, Purpose::Check).unwrap().config.status.favicon, Some(icon.clone()));
    for content in [png(32), b"GIF89a".to_vec(), Vec::new(), vec![0; 30_000]] {
        fs::write(&icon, content).unwrap();
        let report = load(folder.path(), &text, Purpose::Check).unwrap_err();
        assert_eq!(report.problems()[0].key, "status.favicon");
    }
}

#[test]
fn the_admin_interface_beyond_this_machine_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{UNSIGNED}admin: {{listen: '0.0.0.0:9464', token-file: t}}\n");
    let report = load(folder.path(), &text, Purpose::Check).unwrap_err();
    assert_eq!(report.problems()[0].key, "admin.listen");
    fs::write(folder.path().join("t"), "token").unwrap();
    load(folder.path(), &text, Purpose::Check).unwrap();
    let local = format!("{UNSIGNED}admin: {{listen: '[::1]:9464', token-file: missing}}\n");
    load(folder.path(), &local, Purpose::Check).unwrap();
}
