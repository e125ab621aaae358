//! Figures for Prometheus: that they say what happened, in a form that every reader takes, and that nobody from outside
//! puts words into them. And what is built upon them: the table in the documentation, the dashboard, the alerts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test may panic"
)]

#[path = "metrics/exposition.rs"]
mod exposition;
mod support;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use exposition::{Family, Selector, read, selectors};
use postern::{
    app::Proxy,
    mojang::health::{ForcedVerdict, Override},
};
use support::{
    Backend, BackendKind, Client, Mode, Player, Setup, dialog,
    proxy::address,
    scene::{FAILED_TO_VERIFY, MODERN, NO_SESSION, Scene, is_in, refuse_at_once, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// With the admin interface on a port of its own.
fn with_admin(setup: Setup) -> Setup {
    setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")
}

/// Status and content of `/metrics`.
async fn answer(proxy: &Proxy) -> (u16, String, String) {
    let to = proxy.admin_address().unwrap();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// What is told at one moment.
struct Told(Vec<Family>);

impl Told {
    async fn by(proxy: &Proxy) -> Self {
        let (status, head, body) = answer(proxy).await;
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        Self(read(&body))
    }

    fn family(&self, name: &str) -> &Family {
        self.0.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The value of the one series with these label values, in the order of the labels.
    #[track_caller]
    fn value(&self, name: &str, values: &[&str]) -> f64 {
        let base = ["_count", "_sum"].iter().find_map(|end| {
            let base = name.strip_suffix(end)?;
            self.0.iter().any(|family| family.name == base && family.kind == "histogram").then_some(base)
        });
        let family = self.family(base.unwrap_or(name));
        let fits = |sample: &&exposition::Sample| {
            sample.name == name && sample.labels.iter().map(|(_, value)| value).eq(values)
        };
        family.samples.iter().find(fits).unwrap_or_else(|| panic!("{name} has no {values:?}")).value
    }

    /// Every series, without its value.
    fn series(&self) -> BTreeSet<String> {
        let samples = self.0.iter().flat_map(|family| &family.samples);
        samples.map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    }
}

/// Waits until that is told.
async fn settled(proxy: &Proxy, name: &str, values: &[&str], value: f64) {
    for _ in 0..2000 {
        if Told::by(proxy).await.value(name, values) == value {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let told = Told::by(proxy).await.value(name, values);
    panic!("{name} {values:?} never came to be {value}, but {told}");
}

/// Nothing of it may ever stand in a label.
const NAMES: [&str; 4] = ["Penny", "Alice", "Stranger", "play.example.com"];

/// What is told while one player plays who was admitted by policy, and another is asked for its PIN and gets it wrong,
/// then right. All leave again.
async fn in_the_outage(scene: &mut Scene, alice: &Player, penny: &Player) {
    scene.go_down().await;
    scene.refused(&Player::new("Stranger"), NO_SESSION, "no-session").await;
    let (client, end) = scene.join(MODERN, alice).await;
    assert!(is_in(&end), "{end:?}");
    scene.audit.next("login.fallback", |_| true).await;
    let mut held = dialog::begin(scene, MODERN, penny).await;
    dialog::dialog(&mut held).await;
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_connections", &["held"]), 1.0);
    assert_eq!(told.value("postern_connections", &["login"]), 0.0);
    assert_eq!(told.value("postern_connections", &["playing"]), 1.0);
    held.send(dialog::code("Wrong123")).await;
    dialog::dialog(&mut held).await;
    held.send(dialog::code(dialog::CODE)).await;
    scene.audit.next("login.fallback", |event| event["player"] == "Penny").await;
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_players", &["pinned"]), 1.0);
    assert_eq!(told.value("postern_players", &["fallback"]), 1.0);
    drop((client, held));
    scene.gone().await;
    until(|| scene.proxy.players() == 0).await;
    settled(&scene.proxy, "postern_connections", &["playing"], 0.0).await;
    settled(&scene.proxy, "postern_relayed_connections", &[], 0.0).await;
    // Disks take their time.
    settled(&scene.proxy, "postern_store_queue", &[], 0.0).await;
    settled(&scene.proxy, "postern_audit_queue", &[], 0.0).await;
}

#[tokio::test]
async fn the_figures_say_what_happened() {
    let mut scene = Scene::with("", |setup| refuse_at_once(with_admin(setup))).await;
    let alice = scene.make_known("Alice").await;
    let penny = scene.make_known("Penny").await;
    let mut scene = dialog::restart_with_pin(scene, &penny, Mode::Up).await;
    scene.audit.state("up").await;
    let fresh = Told::by(&scene.proxy).await;
    for (name, values) in [
        ("postern_logins_total", &["verified", "ok"][..]),
        ("postern_logins_total", &["refused", "no-session"]),
        ("postern_connections_accepted_total", &[]),
        ("postern_fallback_admissions_total", &["pinned"]),
        ("postern_relayed_bytes_total", &["client"]),
    ] {
        assert_eq!(fresh.value(name, values), 0.0, "{name} {values:?}");
    }
    assert_eq!(fresh.value("postern_build_info", &[env!("CARGO_PKG_VERSION")]), 1.0);
    assert_eq!(fresh.value("postern_sessions", &[]), 2.0);

    // While the session server is up.
    let (client, end) = scene.join(MODERN, &alice).await;
    assert!(is_in(&end), "{end:?}");
    scene.audit.next("login.verified", |_| true).await;
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_connections", &["playing"]), 1.0);
    assert_eq!(told.value("postern_players", &["verified"]), 1.0);
    assert_eq!(told.value("postern_relayed_connections", &[]), 1.0);
    drop(client);
    scene.gone().await;
    scene.refused(&Player::impostor("Stranger"), FAILED_TO_VERIFY, "not-joined").await;
    Client::connect(address(&scene.proxy), MODERN).await.status("play.example.com").await;
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_auth_state", &["up"]), 1.0);
    assert_eq!(told.value("postern_auth_state", &["down"]), 0.0);
    assert_eq!(told.value("postern_outage_started_timestamp_seconds", &[]), 0.0);
    assert_eq!(told.value("postern_auth_state_changes_total", &["degraded", "up"]), 1.0);
    assert_eq!(told.value("postern_has_joined_calls_total", &["login", "verified"]), 1.0);
    assert_eq!(told.value("postern_has_joined_calls_total", &["login", "not-joined"]), 1.0);
    assert_eq!(told.value("postern_has_joined_seconds_count", &["login"]), 2.0);
    assert!(told.value("postern_has_joined_calls_total", &["probe", "not-joined"]) >= 2.0);
    assert!(told.value("postern_auth_probes_total", &["not-joined"]) >= 2.0);
    let pings = ["passthrough", "static", "offline"]
        .map(|mode| told.value("postern_status_pings_total", &["current", mode]));
    assert_eq!(pings.iter().sum::<f64>(), 1.0, "{pings:?}");

    in_the_outage(&mut scene, &alice, &penny).await;

    let (status, _, text) = answer(&scene.proxy).await;
    assert_eq!(status, 200);
    let told = Told(read(&text));
    for (name, values, value) in [
        ("postern_logins_total", &["verified", "ok"][..], 1.0),
        ("postern_logins_total", &["fallback", "ok"], 2.0),
        ("postern_logins_total", &["refused", "not-joined"], 1.0),
        ("postern_logins_total", &["refused", "no-session"], 1.0),
        ("postern_logins_total", &["refused", "pin-failed"], 0.0),
        ("postern_fallback_admissions_total", &["fallback"], 1.0),
        ("postern_fallback_admissions_total", &["pinned"], 1.0),
        ("postern_login_seconds_count", &["verified"], 1.0),
        ("postern_login_seconds_count", &["fallback"], 1.0),
        ("postern_login_seconds_count", &["pinned"], 1.0),
        ("postern_pin_prompts_total", &["dialog"], 1.0),
        ("postern_pin_attempts_total", &["wrong"], 1.0),
        ("postern_pin_attempts_total", &["right"], 1.0),
        ("postern_connections_accepted_total", &[], 6.0),
        ("postern_handshake_seconds_count", &[], 6.0),
        ("postern_backend_connect_seconds_count", &["connected"], 3.0),
        ("postern_auth_state", &["down"], 1.0),
        ("postern_auth_state_changes_total", &["degraded", "down"], 1.0),
        ("postern_fallback_mode", &["enabled"], 1.0),
        ("postern_config_last_reload_successful", &[], 1.0),
    ] {
        assert_eq!(told.value(name, values), value, "{name} {values:?}");
    }
    let ends = told.family("postern_relayed_connections_ended_total").samples.iter();
    assert_eq!(ends.map(|sample| sample.value).sum::<f64>(), 3.0);
    assert!(told.value("postern_outage_started_timestamp_seconds", &[]) > 1_700_000_000.0);
    assert!(told.value("postern_store_writes_total", &["ok"]) >= 1.0);
    assert!(told.value("postern_audit_written_total", &[]) >= 6.0);
    assert!(
        told.value("postern_relayed_bytes_total", &["server"]) > 0.0,
        "what clients said in configuration"
    );

    // No series came or went by what players did, and no word of theirs is in there.
    assert_eq!(told.series(), fresh.series());
    for name in NAMES {
        assert!(!text.contains(name), "{name}");
    }
    assert!(!text.contains("127.0.0.1"));
}

#[tokio::test]
async fn the_owners_word_and_reloads_are_told_and_counts_go_on() {
    let mut scene = Scene::with("", with_admin).await;
    let player = scene.make_known("Alice").await;
    let order = Override { verdict: ForcedVerdict::Down, lasting: std::time::Duration::from_mins(10) };
    scene.proxy.health().set_override(order).await.unwrap();
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_auth_override", &["down"]), 1.0);
    assert_eq!(told.value("postern_auth_override", &["up"]), 0.0);
    let ends = told.value("postern_auth_override_until_timestamp_seconds", &[]);
    let since = told.value("postern_auth_state_since_timestamp_seconds", &[]);
    assert!((ends - since - 600.0).abs() < 30.0, "{ends} {since}");
    scene.proxy.health().clear_override().await.unwrap();
    until(|| scene.proxy.health().verdict() == postern::mojang::health::Verdict::Up).await;
    assert_eq!(Told::by(&scene.proxy).await.value("postern_auth_override_until_timestamp_seconds", &[]), 0.0);

    // What is made anew with each configuration counts on where the one before stopped.
    let text = scene.setup.text.replace("timeout: 2000", "timeout: 2500");
    let text = text.replace("min-login-history: 1", "min-login-history: 2\n  pin-timeout-seconds: 50");
    let text = text.replace("network:\n", "network:\n  connection-timeout: 4000\n");
    fs::write(scene.setup.path(), &text).unwrap();
    scene.proxy.reload().await.unwrap();
    assert!(is_in(&scene.login(&player).await));
    scene.audit.next("login.verified", |_| true).await;
    scene.gone().await;
    let told = Told::by(&scene.proxy).await;
    for (name, values, value) in [
        ("postern_config_reloads_total", &["ok"][..], 1.0),
        ("postern_logins_total", &["verified", "ok"], 2.0),
        ("postern_has_joined_calls_total", &["login", "verified"], 2.0),
        ("postern_backend_connect_seconds_count", &["connected"], 2.0),
        ("postern_login_seconds_count", &["verified"], 2.0),
    ] {
        assert_eq!(told.value(name, values), value, "{name} {values:?}");
    }
    fs::write(scene.setup.path(), "bind: 7\n").unwrap();
    scene.proxy.reload().await.unwrap_err();
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_config_reloads_total", &["failed"]), 1.0);
    assert_eq!(told.value("postern_config_last_reload_successful", &[]), 0.0);

    // Switched off, and on again.
    let off = text.replace("monitoring:\n", "monitoring:\n  enable-metrics: false\n");
    fs::write(scene.setup.path(), off).unwrap();
    scene.proxy.reload().await.unwrap();
    let (status, _, body) = answer(&scene.proxy).await;
    assert_eq!(status, 404);
    assert!(body.contains("enable-metrics") && !body.contains("postern_"), "{body}");
    fs::write(scene.setup.path(), &text).unwrap();
    scene.proxy.reload().await.unwrap();
    assert_eq!(Told::by(&scene.proxy).await.value("postern_logins_total", &["verified", "ok"]), 2.0);
}

#[tokio::test]
async fn trouble_shows() {
    let backend = Backend::start(BackendKind::Online, None).await;
    let scene = Scene::around(backend, "", with_admin).await;
    let told = Told::by(&scene.proxy).await;
    assert_eq!(told.value("postern_backend_faults_total", &["online-mode"]), 0.0);
    let end = scene.login(&Player::new("Alice")).await;
    assert!(!is_in(&end), "{end:?}");
    settled(&scene.proxy, "postern_backend_faults_total", &["online-mode"], 1.0).await;
    settled(&scene.proxy, "postern_logins_total", &["refused", "backend-misconfigured"], 1.0).await;
    scene.sessions.set(Mode::Throttled);
    let end = scene.login(&Player::new("Bob")).await;
    assert!(!is_in(&end), "{end:?}");
    settled(&scene.proxy, "postern_logins_total", &["refused", "throttled"], 1.0).await;
    assert!(
        Told::by(&scene.proxy).await.value("postern_has_joined_calls_total", &["login", "throttled"]) >= 1.0
    );
}

/// The text of a proxy to which nothing has happened.
async fn fresh() -> (String, Vec<Family>, Scene) {
    let scene = Scene::with("", with_admin).await;
    let (_, _, text) = answer(&scene.proxy).await;
    let families = read(&text);
    (text, families, scene)
}

#[tokio::test]
async fn names_labels_and_values_are_of_a_fixed_set() {
    let (_, families, _scene) = fresh().await;
    assert!(families.len() > 50, "{}", families.len());
    let mut series = 0;
    for family in &families {
        assert!(family.name.starts_with("postern_"), "{}", family.name);
        assert!(family.help.ends_with('.') && !family.help.contains('|'), "{}: {}", family.name, family.help);
        series += family.samples.len();
        for sample in &family.samples {
            for (label, value) in sample.own_labels() {
                let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
                assert!(!value.is_empty() && value.chars().all(word), "{} {label}={value}", sample.name);
            }
        }
    }
    assert!(series < 600, "{series} samples are many for one proxy");
    #[cfg(target_os = "linux")]
    for name in
        ["open_fds", "max_fds", "resident_memory_bytes", "cpu_seconds_total", "threads", "start_time_seconds"]
    {
        assert!(families.iter().any(|family| family.name == format!("postern_process_{name}")), "{name}");
    }
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let (text, _, _scene) = fresh().await;
    let Some((clean, said)) = promtool(&["check", "metrics"], &text) else {
        eprintln!("promtool is not installed: nothing was checked with it");
        return;
    };
    assert!(clean && said.trim().is_empty(), "{said}");
    let rules = root().join("contrib/prometheus");
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let file = rules.join(file);
        let (clean, said) = promtool(&["check", what, file.to_str().unwrap()], "").unwrap();
        assert!(clean, "{said}");
    }
}

/// What alerts fire on, and what they leave alone.
#[test]
fn alerts_fire_when_they_should() {
    let file = root().join("tests/metrics/alerts.yml");
    let Some((clean, said)) = promtool(&["test", "rules", file.to_str().unwrap()], "") else {
        eprintln!("promtool is not installed: the alerts were not tried");
        return;
    };
    assert!(clean, "{said}");
}

/// Whether it is content, and what it says. `None` if it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = piped.spawn().ok()?;
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[tokio::test]
async fn the_documentation_lists_every_family() {
    let (_, families, _scene) = fresh().await;
    let mut table = String::from("| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n");
    for family in &families {
        let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (&family.name, &family.kind, labels.join(", "));
        writeln!(table, "| `{name}` | {kind} | {labels} | {} |", family.help).unwrap();
    }
    let path = root().join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find("| name | kind |").expect("the table");
    let end = begin + text[begin..].find("\n\n").expect("a blank line behind the table") + 1;
    if std::env::var_os("POSTERN_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..])).unwrap();
        return;
    }
    let hint = "run it again with POSTERN_WRITE_DOCS=1 in the environment to write the table";
    assert_eq!(&text[begin..end], table, "{hint}");
}

/// That the selector finds something, and nothing but what is there.
fn check(selector: &Selector, families: &[Family], place: &str) -> String {
    let named = |name: &str| families.iter().find(|family| family.name == name);
    let of_histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| named(selector.name.strip_suffix(end)?).filter(|family| family.kind == "histogram"));
    let family = of_histogram.or_else(|| named(&selector.name)).unwrap_or_else(|| {
        panic!("{place}: there is no {}", selector.name);
    });
    assert!(of_histogram.is_some() || family.kind != "histogram", "{place}: {}", selector.name);
    for (label, operator, value) in &selector.matchers {
        if ["instance", "job"].contains(&label.as_str()) {
            continue;
        }
        assert!(family.labels().contains(label), "{place}: {} has no label {label}", family.name);
        for value in value.split('|') {
            let pair = (label.clone(), value.to_owned());
            let there = family.samples.iter().any(|sample| sample.labels.contains(&pair));
            assert!(there, "{place}: {} {label}{operator}{value}", family.name);
        }
    }
    family.name.clone()
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_is_there() {
    let (_, families, _scene) = fresh().await;
    let dashboard = fs::read_to_string(root().join("contrib/grafana/postern.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut shown = BTreeSet::new();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| place[side].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "two panels at {cell:?}: {}", panel["title"]);
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let found = selectors(target["expr"].as_str().unwrap());
            assert!(!found.is_empty(), "{target}");
            shown.extend(found.iter().map(|one| check(one, &families, panel["title"].as_str().unwrap())));
        }
    }
    let all: BTreeSet<String> = families.iter().map(|family| family.name.clone()).collect();
    assert_eq!(all.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "in no panel");

    let alerts = fs::read_to_string(root().join("contrib/prometheus/alerts.yml")).unwrap();
    let found = selectors(&alerts);
    assert!(found.len() > 20, "{}", found.len());
    for selector in &found {
        check(selector, &families, "alerts.yml");
    }
}

#[test]
fn the_reader_takes_nothing_that_is_wrong() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\\\"\\\\\\n\"} 1\n";
    assert_eq!(read(good)[0].samples[0].labels, [("b".to_owned(), "c\"\\\n".to_owned())]);
    for bad in [
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total 1",
        "# HELP a_total A.\n# TYPE a_total counter\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total -1\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 1\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c} 1\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total 1\n",
        "# HELP a A.\n# TYPE a counter\na 1\n",
        "# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 2\na_seconds_bucket{le=\"+Inf\"} 1\n\
         a_seconds_sum 1\na_seconds_count 1\n",
        "# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"+Inf\"} 1\na_seconds_sum 1\n\
         a_seconds_count 2\n",
    ] {
        assert!(std::panic::catch_unwind(|| read(bad)).is_err(), "{bad}");
    }
}
