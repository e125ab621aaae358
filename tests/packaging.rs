//! What packages are made of: the unit, the image, the panel's egg, the release. Each is read as its tool reads it, as far
//! as that can be had here, and compared with the program: commands that it knows, ports and files that are its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command as Process, Stdio},
};

use postern::{
    cli::{Cli, Command},
    config::{self, Environment, Loaded, Purpose},
};
use serde_json::{Value, json};
use serde_yaml::{Event, Parser, ScalarStyle, StrInput};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The command that a command line, the program's name first, comes to.
fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    let words: Vec<&str> = words.into_iter().collect();
    Cli::read(&words).unwrap_or_else(|_| panic!("not understood: {words:?}")).command()
}

/// What the commented file sets up, with some of its text replaced.
fn configured(from: &str, to: &str) -> config::Config {
    assert!(config::EXAMPLE.contains(from), "{from}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(config::DEFAULT_PATH);
    fs::write(&path, config::EXAMPLE.replacen(from, to, 1)).unwrap();
    let environment =
        Environment { postern_forwarding_secret: Some("Dv5Vj1tQ0mQe".into()), ..Environment::default() };
    let Loaded { config, .. } =
        config::load(&path, &environment, Purpose::Check).unwrap_or_else(|report| panic!("{report}"));
    config
}

fn default_config() -> config::Config {
    configured("", "")
}

/// YAML as JSON, so far as plain files need it.
fn yaml(text: &str) -> Value {
    fn node<'a>(events: &mut Parser<'a, StrInput<'a>>, event: Event<'a>) -> Value {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
            }
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match next(events) {
                        Event::SequenceEnd => return Value::Array(items),
                        event => items.push(node(events, event)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = serde_json::Map::new();
                loop {
                    let key = match next(events) {
                        Event::MappingEnd => return Value::Object(entries),
                        Event::Scalar(key, ..) => key.into_owned(),
                        event => panic!("{event:?} is no key"),
                    };
                    let event = next(events);
                    assert!(entries.insert(key.clone(), node(events, event)).is_none(), "{key} stands twice");
                }
            }
            event => panic!("{event:?}"),
        }
    }
    fn next<'a>(events: &mut Parser<'a, StrInput<'a>>) -> Event<'a> {
        events.next_event().unwrap().unwrap().0
    }
    let mut events = Parser::new_from_str(text);
    loop {
        match next(&mut events) {
            Event::StreamStart | Event::DocumentStart(..) => {}
            event => return node(&mut events, event),
        }
    }
}

/// The instructions of the Dockerfile, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// What an instruction of the last stage says; the last one counts.
fn said(name: &str) -> String {
    let all = instructions();
    let stage = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let found = all[stage..].iter().rev().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("the image says nothing of {name}")).1.clone()
}

fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{list} is not in exec form: {error}"))
}

#[test]
fn the_image_runs_the_program_and_nothing_else() {
    let port = default_config().net.bind[0].port();
    assert_eq!(said("EXPOSE"), port.to_string());
    let user = said("USER");
    assert!(!user.starts_with('0') && !user.starts_with("root"), "{user}");
    let started = [words(&said("ENTRYPOINT")), words(&said("CMD"))].concat();
    assert_eq!(command(started.iter().map(String::as_str)), Command::Run);
    assert_eq!(said("STOPSIGNAL"), "SIGTERM");
    let health = said("HEALTHCHECK");
    let asked = words(health.split_once("CMD ").unwrap().1);
    assert_eq!(asked[0], started[0]);
    assert_eq!(command(asked.iter().map(String::as_str)), Command::Health, "{asked:?}");

    let all = instructions();
    let bases: Vec<&str> =
        all.iter().filter(|(name, _)| name == "FROM").map(|(_, base)| base.as_str()).collect();
    for base in &bases {
        let (_, tag) = base.split_whitespace().next().unwrap().rsplit_once(':').unwrap();
        assert_ne!(tag, "latest", "{base}");
    }
    let manifest = read("Cargo.toml");
    let least =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(bases[0].starts_with(&format!("rust:{least}-")), "{} builds what needs Rust {least}", bases[0]);
    // The program is dynamic: both stages have the C library of the same Debian.
    assert!(bases[0].contains("bookworm") && bases[1].contains("debian12"), "{bases:?}");
}

#[test]
fn the_image_is_built_from_what_the_build_reads() {
    let text = read(".dockerignore");
    let kept: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for needed in [".cargo", "Cargo.toml", "Cargo.lock", "src", "benches", "config.example.yml", "LICENSE"] {
        assert!(kept.contains(&needed), "{needed} is kept out");
    }
    // Files that the sources take in.
    for path in kept {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path} is not there");
    }
}

#[test]
fn compose_gives_the_image_what_it_needs() {
    let compose = yaml(&read("contrib/docker/compose.yml"));
    let service = &compose["services"]["postern"];
    assert_eq!(service["network_mode"], "host", "Docker's own forwarding hides addresses");
    assert_eq!(service["user"], said("USER").as_str());
    assert_eq!(service["stop_signal"], said("STOPSIGNAL").as_str());
    let grace = service["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap();
    assert!(grace.parse::<u64>().unwrap() > default_config().shutdown_grace.as_secs());
    let volume = service["volumes"][0].as_str().unwrap();
    assert_eq!(volume.split_once(':').unwrap().1, said("WORKDIR"));
    let files = service["ulimits"]["nofile"]["soft"].as_u64().unwrap();
    assert!(files > u64::from(default_config().limit.max_connections) * 2, "{files}");
    let context = service["build"]["context"].as_str().unwrap();
    assert!(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("contrib/docker")
            .join(context)
            .join("Dockerfile")
            .exists()
    );
    assert_eq!(service["restart"], "unless-stopped");
}

/// The lines of the unit by section and key.
fn unit() -> BTreeMap<(String, String), Vec<String>> {
    let mut section = String::new();
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for line in read("contrib/systemd/postern.service").lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            found.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
    found
}

#[test]
fn the_unit_starts_the_program_and_shuts_it_in() {
    let unit = unit();
    let value = |key: &str| {
        let values = unit.get(&("Service".to_owned(), key.to_owned()));
        values.unwrap_or_else(|| panic!("{key} is missing")).join("\n")
    };
    let start = value("ExecStart");
    let cli = Cli::read(start.split(' ')).unwrap();
    assert_eq!(cli.command(), Command::Run);
    // Else the first start would find no configuration, and write none.
    assert!(cli.uses_default_config(), "{start}");
    let folder = value("WorkingDirectory");
    assert_eq!(folder, format!("/var/lib/{}", value("StateDirectory")));
    for (key, expected) in [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("StateDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("User", "postern"),
        ("NoNewPrivileges", "true"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "true"),
        ("PrivateDevices", "true"),
        ("CapabilityBoundingSet", ""),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    let refused = value("RestartPreventExitStatus");
    assert_eq!(refused, format!("{} {}", postern::cli::EXIT_USAGE, postern::cli::EXIT_CONFIG));
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > default_config().shutdown_grace.as_secs());
    let files: u64 = value("LimitNOFILE").parse().unwrap();
    assert!(files > u64::from(default_config().limit.max_connections) * 2, "{files}");
    assert!(value("WatchdogSec").parse::<u64>().unwrap() >= 30);
    // The system calls that raise the limit of open files are in a group that is taken away.
    assert!(value("SystemCallFilter").lines().last().unwrap().contains("prlimit64"));
    let user = read("contrib/systemd/postern.sysusers.conf");
    let user = user.lines().find(|line| line.starts_with("u ")).unwrap();
    assert!(user.starts_with(&format!("u {} ", value("User"))) && user.ends_with(&folder), "{user}");
}

/// As systemd sees it, where that is there.
#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let analyze = |arguments: &[&str]| {
        let process = Process::new("timeout")
            .args(["60", "systemd-analyze"])
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = process.unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let found = Process::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.service");
    // It looks for the program, which is not installed here.
    let text = read("contrib/systemd/postern.service")
        .replace("/usr/local/bin/postern", env!("CARGO_BIN_EXE_postern"));
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (well, said) = analyze(&["verify", "--man=no", path]);
    assert!(well && said.trim().is_empty(), "{said}");
    // Of 100, in tenths: what a service that only needs the network can have at best is some 10.
    let (well, said) = analyze(&["security", "--offline=true", "--threshold=20", path]);
    assert!(well, "{said}");
}

#[test]
fn the_egg_makes_a_server_that_starts() {
    let egg: Value = serde_json::from_str(&read("contrib/pterodactyl/egg-postern.json")).unwrap();
    assert_eq!(egg["meta"]["version"], "PTDL_v2");
    assert_eq!(command(egg["startup"].as_str().unwrap().split(' ')), Command::Run);
    assert_eq!(egg["config"]["stop"], "^C");
    let inner = |key: &str| -> Value { serde_json::from_str(egg["config"][key].as_str().unwrap()).unwrap() };
    // The start of the line that the program prints once players can join.
    assert_eq!(inner("startup"), json!({ "done": "Done (" }));
    assert!(read("src/main.rs").contains("\"Done ({"), "the program says so no more");
    assert_eq!(inner("logs"), json!({}));

    // The panel replaces whole lines by how they start.
    let files = inner("files");
    let file = &files[config::DEFAULT_PATH];
    assert_eq!((file["parser"].as_str(), files.as_object().unwrap().len()), (Some("file"), 1));
    let find = file["find"].as_object().unwrap();
    assert_eq!(find.len(), 1);
    for (start, line) in find {
        let line = line.as_str().unwrap().replace("{{server.build.default.port}}", "31337");
        let old: Vec<&str> = config::EXAMPLE.lines().filter(|known| known.starts_with(start)).collect();
        assert_eq!(old.len(), 1, "{start}");
        assert_eq!(configured(old[0], &line).net.bind, ["0.0.0.0:31337".parse().unwrap()]);
    }

    let names: Vec<&str> =
        egg["variables"].as_array().unwrap().iter().map(|it| it["env_variable"].as_str().unwrap()).collect();
    for variable in egg["variables"].as_array().unwrap() {
        let rules = variable["rules"].as_str().unwrap();
        // The panel divides them at each bar, also inside of an expression.
        let whole =
            |rule: &str| !rule.starts_with("regex:") || (rule.starts_with("regex:/") && rule.ends_with('/'));
        assert!(rules.split('|').all(whole), "{rules}");
    }
    let script = egg["scripts"]["installation"]["script"].as_str().unwrap();
    for name in &names {
        assert!(script.contains(&format!("${{{name}}}")), "{name} is for nothing");
    }
    let secrets: Vec<&str> =
        egg["file_denylist"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let admin = default_config().admin.token_file;
    assert!(secrets.contains(&"forwarding.secret"));
    assert!(secrets.contains(&admin.file_name().unwrap().to_str().unwrap()), "{secrets:?}");
    // As the shell reads it, where there is one.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("install.sh");
    fs::write(&path, script).unwrap();
    if let Ok(output) = Process::new("bash").arg("-n").arg(&path).output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // What it fetches is what a release has.
    let release = read(".github/workflows/release.yml");
    for target in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
        assert!(script.contains(&format!("name=postern-{target}")) && release.contains(target), "{target}");
    }
    for text in ["postern-$TARGET", "SHA256SUMS", "egg-postern.json", "config.example.yml"] {
        assert!(release.contains(text), "{text}");
    }
}

#[test]
fn workflows_have_few_rights_and_known_actions() {
    for name in ["ci", "release"] {
        let workflow = yaml(&read(&format!(".github/workflows/{name}.yml")));
        assert_eq!(workflow["permissions"], json!({ "contents": "read" }), "{name}");
        for (job, value) in workflow["jobs"].as_object().unwrap() {
            assert!(value["timeout-minutes"].is_u64(), "{name}: {job}");
            let may_write =
                value["permissions"].as_object().is_some_and(|all| all.values().any(|it| it == "write"));
            assert_eq!(may_write, job == "release", "{name}: {job}");
            for step in value["steps"].as_array().unwrap() {
                if let Some(action) = step["uses"].as_str() {
                    let (_, version) = action.split_once('@').unwrap();
                    assert!(version.starts_with('v') && version[1..].parse::<u32>().is_ok(), "{action}");
                } else {
                    // What comes from outside, such as the name of a tag, is not pasted into a shell.
                    let run = step["run"].as_str().unwrap();
                    assert!(!run.contains("${{"), "{run}");
                }
            }
        }
    }
    let release = yaml(&read(".github/workflows/release.yml"));
    let targets: Vec<&str> = release["jobs"]["build"]["strategy"]["matrix"]["include"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        [
            "x86_64-unknown-linux-musl",
            "aarch64-unknown-linux-musl",
            "x86_64-pc-windows-msvc",
            "aarch64-apple-darwin",
            "x86_64-apple-darwin"
        ]
    );
}
