//! `postern doctor` as its owner meets it: what it prints, what it ends with, and that it changes nothing.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{Backend, Mode, SessionServer, backend::SECRET, player_keys::Authority, tls};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};

/// An installation in a folder of its own, with its secret written.
fn installation(session_server: SocketAddr, backend: SocketAddr, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
bind: "127.0.0.1:0"
backends: {{ lobby: {{ address: "{backend}" }} }}
auth: {{ session-server: "http://{session_server}", services: "http://{session_server}" }}
security: {{ enable-geo-checks: false }}
{more}
"#
    );
    fs::write(folder.path().join("config.yml"), config).unwrap();
    write_secret(folder.path(), SECRET);
    folder
}

fn write_secret(folder: &Path, secret: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join("forwarding.secret");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, secret.as_bytes()).unwrap();
}

/// Runs it, off the runtime that the stand-ins live on: exit code and standard output.
async fn doctor(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("doctor").args(arguments).current_dir(folder).stdin(Stdio::null());
    // The authority of the stand-in that speaks TLS.
    command.env("SSL_CERT_FILE", tls::authority()).env_remove("SSL_CERT_DIR");
    for variable in ["POSTERN_CONFIG", "POSTERN_FORWARDING_SECRET", "VELOCITY_FORWARDING_SECRET", "RUST_LOG"]
    {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
    (status.code().unwrap(), String::from_utf8(stdout).unwrap())
}

/// The findings of `--json` that are worse than ok, as area, check, verdict; and the exit code.
async fn complaints(folder: &Path) -> (i32, Vec<(String, String, String)>, Value) {
    let (code, out) = doctor(folder, &["--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    let told = findings
        .iter()
        .map(|finding| (field(finding, "area"), field(finding, "check"), field(finding, "verdict")));
    let told = told.filter(|(_, _, verdict)| verdict == "warning" || verdict == "error").collect();
    (code, told, report)
}

fn one(area: &str, check: &str, verdict: &str) -> (String, String, String) {
    (area.to_owned(), check.to_owned(), verdict.to_owned())
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        names.push(entry.unwrap().path().display().to_string());
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_installation_has_nothing_to_mend_but_what_the_test_needs() {
    let (server, backend) = (SessionServer::start().await, Backend::modern().await);
    server.publish(&[Authority::new().published()]);
    let folder = installation(server.address, backend.address, "");
    let before = files(folder.path());
    let (code, told, report) = complaints(folder.path()).await;
    // http:// towards the session server, which an owner never has, is warned of.
    assert!(
        !told.is_empty() && told.iter().all(|it| *it == one("configuration", "file", "warning")),
        "{report:#}"
    );
    assert_eq!((code, &report["verdict"]), (1, &Value::from("warning")));
    assert_eq!(files(folder.path()), before, "nothing is written");
    // No player of that backend's is any of ours.
    assert!(backend.seen().iter().all(|seen| seen.bytes == 0), "nobody went beyond login success");

    let (code, text) = doctor(folder.path(), &[]).await;
    assert_eq!(code, 1);
    for words in ["Session server 127.0.0.1", "answers login checks", "to mend: ", "0 errors, "] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains(SECRET) && !text.contains('\u{1b}'), "{text}");
}

/// Puts TLS in front of a stand-in.
#[cfg(target_os = "linux")]
async fn behind_tls(server: SocketAddr) -> u16 {
    let acceptor = tls::acceptor(&[b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // On some machines `localhost` is both, on some there is no IPv6.
    let listeners = [Ok(listener), TcpListener::bind(("::1", port)).await];
    for listener in listeners.into_iter().flatten() {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Somebody who only tries the connection says nothing.
                    let Ok(mut secured) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut secured, &mut plain).await;
                });
            }
        });
    }
    port
}

// Elsewhere trust comes from the system, not from the environment.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_to_mend_it_ends_with_0() {
    let (server, backend) = (SessionServer::start().await, Backend::modern().await);
    server.publish(&[Authority::new().published()]);
    let folder = installation(server.address, backend.address, "");
    let config = fs::read_to_string(folder.path().join("config.yml")).unwrap();
    let port = behind_tls(server.address).await;
    let config = config.replace(&format!("http://{}", server.address), &format!("https://localhost:{port}"));
    // A switched off key is noted, not warned of.
    fs::write(folder.path().join("config.yml"), config).unwrap();
    let (code, text) = doctor(folder.path(), &[]).await;
    assert_eq!(code, 0, "{text}");
    for words in ["shows a valid certificate", "answers login checks", "Nothing to mend."] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("  error ") && !text.contains("  warning "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trouble_of_the_session_server_has_its_own_words() {
    let (server, backend) = (SessionServer::start().await, Backend::modern().await);
    let folder = installation(server.address, backend.address, "");
    for (mode, words) in [
        (Mode::Down, "answers 503: an outage at Mojang"),
        (Mode::Reset, "gives no answer to login checks"),
        (Mode::Throttled, "limits this machine's address"),
        (Mode::Forbidden, "refuses this machine's address"),
        (Mode::Html, "is not Mojang's session server"),
        (Mode::Redirect, "status 302"),
    ] {
        server.set(mode);
        let (code, told, report) = complaints(folder.path()).await;
        assert_eq!(code, 2, "{mode:?}");
        assert!(told.contains(&one("session-server", "has-joined", "error")), "{mode:?}: {report:#}");
        assert!(report.to_string().contains(words), "{mode:?}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_is_the_whole_report() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told, _) = complaints(folder.path()).await;
    assert_eq!((code, told), (2, vec![one("configuration", "file", "error")]), "no file");
    fs::write(folder.path().join("config.yml"), "backends: {}\nstatus: {mod: static}\n").unwrap();
    let (code, told, report) = complaints(folder.path()).await;
    assert_eq!((code, told), (2, vec![one("configuration", "file", "error"); 2]));
    assert!(report.to_string().contains("line 2: status.mod: "), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_told() {
    let (server, backend) = (SessionServer::start().await, Backend::modern().await);
    let more = "session-cache: { directory: config.yml }\nmonitoring: { audit-log: config.yml/audit.log }\n";
    let folder = installation(server.address, backend.address, more);
    let (code, told, report) = complaints(folder.path()).await;
    assert_eq!(code, 2);
    for area in ["store", "audit"] {
        assert!(told.contains(&one(area, "writable", "error")), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_the_start_is_told() {
    let (server, backend) = (SessionServer::start().await, Backend::modern().await);
    let folder = installation(server.address, backend.address, "");
    let path = folder.path().join("config.yml");
    let config = fs::read_to_string(&path).unwrap();
    let geo = "security: { enable-geo-checks: false";
    assert!(config.contains(geo));
    let config = config.replace(geo, &format!("{geo}, ban-file: none/bans.json"));
    let more = "monitoring: { statistics-file: none/statistics.json }\nadmin: { listen: \"127.0.0.1:0\" }\n";
    fs::write(&path, config + more).unwrap();
    fs::write(folder.path().join("admin.token"), "\n").unwrap();
    fs::set_permissions(folder.path().join("admin.token"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = files(folder.path());
    let (code, told, report) = complaints(folder.path()).await;
    assert_eq!(code, 2);
    for finding in [
        one("bans", "writable", "error"),
        one("statistics", "writable", "warning"),
        one("admin", "token", "error"),
    ] {
        assert!(told.contains(&finding), "{finding:?}: {report:#}");
    }
    assert_eq!(files(folder.path()), before, "nothing is written");
}
