use std::collections::BTreeSet;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const MINIMAL: &str = "backends: {lobby: {address: \"127.0.0.1:25566\"}}";

fn environment() -> Environment {
    Environment { postern_forwarding_secret: Some("Dv5Vj1tQ0mQe".into()), ..Environment::default() }
}

fn check(text: &str) -> Result<Loaded, Report> {
    let path = Path::new("config.yml");
    let findings = Findings::new(path);
    let config = examine(text, path, &environment(), Purpose::Check, &findings);
    let (config, warnings, notes) = findings.finish(config)?;
    Ok(Loaded { config, warnings, notes })
}

fn config(text: &str) -> Config {
    check(text).unwrap_or_else(|report| panic!("{report}")).config
}

#[test]
fn the_example_is_the_defaults() {
    let example = check(EXAMPLE).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((example.warnings, example.notes), (vec![], vec![]));
    // Not every room's Config can be compared, since secrets cannot; their Debug shows all else. The record shows what is
    // written, too: of it, only that it holds the same.
    let mut minimal = config(MINIMAL);
    assert_eq!(minimal.changes(&example.config), Changes::default());
    minimal.settings = example.config.settings.clone();
    assert!(format!("{:#?}", example.config) == format!("{minimal:#?}"), "{minimal:#?}");
}

/// One of everything that an owner may name.
const FULL: &str = "
    backends: {lobby: {address: 'h:1'}}
    alerts: {webhooks: [{url: 'https://example.com'}]}";

fn record(text: &str) -> settings::Record {
    let findings = Findings::new(Path::new("config.yml"));
    let root = tree::parse(text, &findings).unwrap();
    let reading = Reading::new(&findings);
    let section = Section::root(&reading, &root).unwrap();
    schema::values(section, Path::new(""), &findings);
    assert!(!findings.any_error());
    reading.finish()
}

#[test]
fn the_example_holds_every_key_and_no_other() {
    let known = record(FULL).known.into_iter().map(|key| key.replace("[0]", "")).collect::<BTreeSet<_>>();
    let mut example: BTreeSet<String> =
        reference::keys_of_the_example().into_iter().map(|key| key.path).collect();
    // The backend itself is a name that the owner chose.
    assert!(example.remove("backends.lobby"));
    assert_eq!(known, example);
}

#[test]
fn every_key_is_noted_with_what_holds_there() {
    let record = record(FULL);
    let known: BTreeSet<String> = record.known.iter().cloned().collect();
    let settings = Settings::new(record, defaults().as_ref());
    let noted: BTreeSet<String> = settings.keys().map(|(key, _)| key.to_owned()).collect();
    let sections: Vec<&str> = known.difference(&noted).map(String::as_str).collect();
    let expected = "admin alerts auth forwarding messages monitoring network security session-cache status";
    assert_eq!(sections.join(" "), expected);
    let empty = settings.keys().filter(|(_, held)| matches!(held, settings::Setting::Unwritten));
    let empty: Vec<_> = empty.map(|(key, _)| key).collect();
    assert_eq!(
        empty,
        ["monitoring.geo-country-database", "monitoring.geo-asn-database", "status.favicon"],
        "these have no default"
    );
}

fn changes(old: &str, new: &str) -> Changes {
    config(old).changes(&config(new))
}

/// A change of every key whose value is a truth, a number or a text.
#[test]
fn whatever_changes_is_named() {
    /// Where not every word is right.
    const WORDS: &[&str] =
        &["mode", "session-server", "services", "fallback", "storage-type", "geo-provider-url", "listen"];
    let base = config(MINIMAL);
    let mut tried = 0;
    for (key, held) in base.settings.keys() {
        let settings::Setting::One(value) = held else { continue };
        let Some((section, name)) = key.split_once('.').filter(|(section, _)| *section != "backends") else {
            continue;
        };
        let other = match value.as_str() {
            "true" => "false".to_owned(),
            "false" => "true".to_owned(),
            number if number.parse::<i64>().is_ok() => (number.parse::<i64>().unwrap() + 1).to_string(),
            _ if section == "messages" => "\"&cOther.\"".to_owned(),
            _ if WORDS.contains(&name) => continue,
            // These tests have it in the environment.
            _ if key == "forwarding.secret-file" => continue,
            _ => "other".to_owned(),
        };
        let text = match (key, other.as_str()) {
            // It stands alone for a contradiction that is refused.
            ("security.pin-commands", _) => "security: {pin-commands: false}".to_owned(),
            _ => format!("{section}: {{{name}: {other}}}"),
        };
        let Changes { changed, restart_needed } = base.changes(&config(&format!("{MINIMAL}\n{text}")));
        let [line] = &changed[..] else { panic!("{key}: {changed:?}") };
        let shown: String = value.chars().take(100).collect();
        assert!(
            line.starts_with(&format!("{key}: {shown}")) && line.ends_with(&format!(" -> {other}")),
            "{line}"
        );
        assert!(restart_needed.is_empty(), "{restart_needed:?}");
        tried += 1;
    }
    assert!(tried > 110, "{tried}");
}

#[test]
fn what_changed_is_shown_as_it_is_written() {
    let lines = |old: &str, new: &str| {
        let Changes { changed, restart_needed } =
            changes(&format!("{MINIMAL}\n{old}"), &format!("{MINIMAL}\n{new}"));
        (changed.join("\n"), restart_needed.join("\n"))
    };
    for (old, new, expected) in [
        ("auth: {timeout: 5000}", "auth: {timeout: 3000}", "auth.timeout: 5000 -> 3000"),
        ("", "auth: {fallback: 'dry-run'}", "auth.fallback: enabled -> dry-run"),
        ("try: [lobby]", "", "try: [lobby] -> all, in the order of backends"),
        ("", "forced-hosts: {a.example.com: [lobby]}", "forced-hosts: [] -> [a.example.com: [lobby]]"),
        (
            "network: {trusted-proxies: ['10.0.0.0/8']}",
            "network: {trusted-proxies: [10.0.0.1, '::1']}",
            "network.trusted-proxies: [10.0.0.0/8] -> [10.0.0.1, \"::1\"]",
        ),
        (
            "security: {blocked-asns: [1, 2, 3, 4, 5, 6]}",
            "security: {blocked-asns: [AS7, 6, 5, 4, 3, 2]}",
            "security.blocked-asns: [1, 2, 3, 4, 5, 6] -> [AS7, 6, 5, 4, 3, 2]",
        ),
        (
            "security: {blocked-asns: [1, 2, 3, 4, 5, 6, 7]}",
            "security: {blocked-asns: [AS8, 7, 6, 5, 4, 3, 2]}",
            "security.blocked-asns: added AS8; removed 1",
        ),
        (
            "security: {blocked-asns: [1, 2, 3, 4, 5, 6, 7]}",
            "security: {blocked-asns: [7, 1, 2, 3, 4, 5, 6]}",
            "security.blocked-asns: another order",
        ),
        (
            "security: {blocked-asns: []}",
            "security: {blocked-asns: [1, 2, 3, 4, 5, 6, 7, 8]}",
            "security.blocked-asns: added 1, 2, 3, 4, 5, 6 and 2 more",
        ),
        (
            "messages: {not-joined: \"a\\nb\"}",
            "messages: {not-joined: b}",
            "messages.not-joined: \"a\\nb\" -> b",
        ),
    ] {
        assert_eq!(lines(old, new), (expected.to_owned(), String::new()), "{new}");
    }
    for (new, expected) in [
        ("bind: '127.0.0.1:1'", "bind: \"0.0.0.0:25565\" -> \"127.0.0.1:1\""),
        ("admin: {listen: ''}", "admin.listen: \"127.0.0.1:9464\" -> \"\""),
    ] {
        assert_eq!(lines("", new), (String::new(), expected.to_owned()), "{new}");
    }
    let long = |end: &str| format!("status: {{description: '{}{end}'}}", "a".repeat(200));
    let (changed, _) = lines(&long("x"), &long("y"));
    let a = "a".repeat(20);
    assert_eq!(changed, format!("status.description: …{a}x -> …{a}y"));
}

#[test]
fn the_same_in_another_form_is_no_change() {
    assert_eq!(changes(MINIMAL, EXAMPLE), Changes::default());
    let forms = "
        backends: {\"lobby\": {address: '127.0.0.1:25566', send-proxy-protocol: False}}
        auth: {fallback: 'enabled', timeout: 5000}
        monitoring: {geo-provider-url: 'https://ipwho.is/{ip}?fields=ip,country_code,connection'}
        network:
          trusted-proxies:
            - 127.0.0.0/8
            - '::1/128'";
    assert_eq!(changes(MINIMAL, forms), Changes::default());
}

#[test]
fn what_comes_to_the_same_is_no_change() {
    let named = |text: &str| format!("{MINIMAL}\n{text}");
    for (old, new) in [
        ("bind: '127.0.0.1:1'", "bind: ['127.0.0.1:1']"),
        ("bind: ['127.0.0.1:1', '[::1]:1']", "bind: ['[0:0::1]:1', '127.0.0.1:1']"),
        ("admin: {listen: '[::1]:9'}", "admin: {listen: '[0::1]:9'}"),
        ("auth: {session-server: 'http://127.0.0.1:9'}", "auth: {session-server: 'http://127.0.0.1:9/'}"),
        ("auth: {services: 'http://127.0.0.1:9'}", "auth: {services: 'http://127.0.0.1:9/'}"),
        ("session-cache: {directory: a/b}", "session-cache: {directory: a/./b/}"),
        ("security: {ban-file: a/b}", "security: {ban-file: a//b}"),
        ("admin: {listen: '', token-file: a}", "admin: {listen: '', token-file: b, allowed-hosts: [c]}"),
    ] {
        assert_eq!(changes(&named(old), &named(new)), Changes::default(), "{new}");
    }
    let Changes { changed, restart_needed } =
        changes(&named("bind: '127.0.0.1:1'"), &named("bind: ['127.0.0.1:1', '127.0.0.1:2']"));
    assert_eq!((changed.len(), restart_needed.len()), (0, 1));
    let Changes { changed, .. } = changes(MINIMAL, &named("admin: {token-file: b}"));
    assert_eq!(changed.len(), 1, "{changed:?}");
}

#[test]
fn the_file_of_a_secret_that_the_environment_holds_has_no_effect() {
    let other = format!("{MINIMAL}\nforwarding: {{secret-file: other}}");
    let from = |text: &str, environment: &Environment| {
        let findings = Findings::new(Path::new("config.yml"));
        examine(text, Path::new("config.yml"), environment, Purpose::Check, &findings).unwrap()
    };
    let set = Environment {
        postern_forwarding_secret: Some("a secret of some length".into()),
        ..Environment::default()
    };
    assert_eq!(from(MINIMAL, &set).changes(&from(&other, &set)), Changes::default());
    let none = Environment::default();
    assert_eq!(from(MINIMAL, &none).changes(&from(&other, &none)).changed.len(), 1);
}

#[test]
fn backends_and_webhooks_come_and_go() {
    let two = "backends: {lobby: {address: '127.0.0.1:25566'}, 'a.b': {address: 'h:1', forwarding: none}}";
    let Changes { changed, .. } = changes(MINIMAL, two);
    assert_eq!(
        changed,
        [
            "backends.\"a.b\".address: (nothing) -> \"h:1\"",
            "backends.\"a.b\".forwarding: (nothing) -> none",
            "backends: [lobby] -> [lobby, a.b]",
        ]
    );
    let Changes { changed, .. } = changes(two, MINIMAL);
    assert_eq!(
        changed,
        [
            "backends: [lobby, a.b] -> [lobby]",
            "backends.\"a.b\".address: \"h:1\" -> (nothing)",
            "backends.\"a.b\".forwarding: none -> (nothing)",
        ]
    );
    let hooks = |hooks: &str| format!("{MINIMAL}\nalerts: {{webhooks: [{hooks}]}}");
    for (old, new, expected) in [
        ("", "{url: 'https://h/TOKEN'}", "alerts.webhooks[0].url: added"),
        ("{url: 'https://h/TOKEN'}", "", "alerts.webhooks[0].url: removed"),
        ("{url: 'https://h/TOKEN'}", "{url: 'https://h/TOKEX'}", "alerts.webhooks[0].url: changed"),
        (
            "{url: 'https://h/TOKEN'}",
            "{url: 'https://h/TOKEN', format: discord, events: [ban.added]}",
            "alerts.webhooks[0].format: json -> discord\nalerts.webhooks[0].events: all -> [ban.added]",
        ),
    ] {
        assert_eq!(changes(&hooks(old), &hooks(new)).changed.join("\n"), expected);
    }
    let geo = |url: &str| format!("{MINIMAL}\nmonitoring: {{geo-provider-url: '{url}'}}");
    let keyed = geo("https://h/{ip}?key=TOKEN");
    assert_eq!(changes(MINIMAL, &keyed).changed, ["monitoring.geo-provider-url: changed"]);
    assert_eq!(
        changes(&keyed, &geo("https://h/{ip}?key=X")).changed,
        ["monitoring.geo-provider-url: changed"]
    );
    let shown = format!("{:?}{:?}", config(&keyed), config(&hooks("{url: 'https://h/TOKEN'}")));
    assert!(!shown.contains("TOKEN"), "{shown}");
}

#[test]
fn values_reach_their_rooms() {
    let config = config(
        "
        bind: ['127.0.0.1:0', '[::1]:0']
        backends:
          lobby: {address: 'lobby.internal:25566'}
          games: {address: '[::1]:1', forwarding: none}
        try: [games]
        forced-hosts: {'*.Example.com.': [games, lobby]}
        auth: {session-server: 'https://example.com/base/', services: 'https://example.com/keys/', timeout: 1, fallback: dry-run, unknown-logins-per-minute: 0}
        session-cache: {max-session-age: 2, directory: store, ipv4-range-prefix: 32}
        security:
          require-recent-activity: false
          min-login-history: 1
          require-mojang-auth: [069a79f444e94726a5befca90e38aaf5]
        monitoring: {health-check-interval: 7, audit-log-max-size: 1, enable-audit-log: true, audit-log: /var/log/a}
        messages: {not-joined: '&cNo.'}
        status: {mode: static, cache: 0}
        network: {trusted-proxies: [10.1.2.3/24, 192.0.2.1], shutdown-grace: 0}
        ",
    );
    assert_eq!(config.net.bind, ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    assert_eq!(config.net.trusted_proxies, ["10.1.2.0/24".parse().unwrap(), "192.0.2.1/32".parse().unwrap()]);
    let [lobby, games] = &config.backend.backends[..] else { panic!() };
    assert_eq!((lobby.host.as_str(), lobby.port, games.host.as_str()), ("lobby.internal", 25566, "::1"));
    assert_eq!(lobby.secret.as_ref().unwrap().expose_secret(), b"Dv5Vj1tQ0mQe");
    assert!(games.secret.is_none());
    assert_eq!(config.backend.try_order, [1]);
    assert_eq!(config.backend.forced_hosts, [("*.example.com".to_owned(), vec![1, 0])]);
    assert_eq!(config.session_server.base_url.as_str(), "https://example.com/base");
    assert_eq!(config.session_server.timeout, Duration::from_millis(1));
    assert_eq!(config.player_keys.services.as_str(), "https://example.com/keys");
    assert_eq!(config.player_keys.timeout, Duration::from_millis(1));
    assert_eq!(config.session_server.unknown_logins_per_minute, 0);
    assert_eq!(config.login.fallback, login::FallbackMode::DryRun);
    assert_eq!(config.rules.max_session_age, Duration::from_hours(2));
    assert_eq!(config.rules.recent_activity, None);
    assert_eq!(config.rules.ipv4_range_prefix, 32);
    assert_eq!(config.rules.require_mojang_auth.len(), 1);
    assert_eq!(config.session.directory, Path::new("store"));
    assert_eq!(config.health.outage_file, Path::new("store/outage.json"));
    assert_eq!(config.health.check_interval, Duration::from_secs(7));
    assert_eq!(config.audit.path.as_deref(), Some(Path::new("/var/log/a")));
    assert_eq!(config.audit.max_size, 1024 * 1024);
    assert_eq!(config.messages.text(crate::messages::MessageKey::NotJoined), "&cNo.");
    assert_eq!(config.status.mode, status::Mode::Static);
    assert_eq!(config.shutdown_grace, Duration::ZERO);
}

#[test]
fn networks_are_numbers_with_or_without_their_letters() {
    let blocked = |list: &str| check(&format!("{MINIMAL}\nsecurity: {{blocked-asns: [{list}]}}\n"));
    let expected = format!("{:?}", blocked("64496").unwrap().config.rules);
    for same in ["AS64496", "\"as64496\""] {
        assert_eq!(format!("{:?}", blocked(same).unwrap().config.rules), expected, "{same}");
    }
    for bad in ["as", "as-1", "aS64496", "0"] {
        assert!(blocked(bad).is_err(), "{bad}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", config(MINIMAL), environment());
    assert!(!shown.contains("Dv5Vj1tQ0mQe"), "{shown}");
    let loaded =
        check("backends: {a: {address: 'h:1'}}\nalerts: {webhooks: [{url: 'https://h/TOKEN'}]}").unwrap();
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("TOKEN"), "{shown}");
    for webhooks in [
        "[{url: 'ftp://h/TOKEN'}]",
        "['https://h/TOKEN']",
        "'https://h/TOKEN'",
        "[{'https://h/TOKEN'}]",
        "{'https://h/TOKEN': {}, 'https://h/TOKEN': {}}",
        "[[{'https://h/TOKEN': &x y}]]",
    ] {
        let report = check(&format!("alerts: {{webhooks: {webhooks}}}")).unwrap_err();
        assert!(!format!("{report:?}").contains("TOKEN"), "{report}");
    }
}

/// Lines as owners write them, whole and broken, so that more than the YAML parser is reached.
fn line() -> impl Strategy<Value = String> {
    let known: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    let word = prop_oneof![
        proptest::sample::select(known),
        "[ ]{0,6}[a-z-]{1,12}: [\"']?[\\PC]{0,12}[\"']?",
        "[ ]{0,6}- [\\PC]{0,10}",
        "\\PC{0,20}",
        "[ \\t]{0,4}[-?:,\\[\\]{}#&*!|>'\"%@`~0-9a-z ]{0,12}",
    ];
    word.boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = check(&text);
    }

    #[test]
    fn arbitrary_lines_never_panic_and_every_refusal_says_why(lines in proptest::collection::vec(line(), 0..12)) {
        if let Err(report) = check(&lines.join("\n")) {
            prop_assert!(report.problems().iter().any(|problem| problem.severity == Severity::Error), "{:?}", report);
        }
    }

    #[test]
    fn the_example_with_one_line_changed_never_panics(line in line(), at in 0_usize..200) {
        let mut lines: Vec<&str> = EXAMPLE.lines().collect();
        let at = at % lines.len();
        lines[at] = &line;
        if let Err(report) = check(&lines.join("\n")) {
            prop_assert!(!report.problems().is_empty());
        }
    }
}
