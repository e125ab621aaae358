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
    // Not every room's Config can be compared, since secrets cannot; their Debug shows all else.
    assert_eq!(format!("{:#?}", example.config), format!("{:#?}", config(MINIMAL)));
}

/// The dotted paths in the example, those in comments too. A comment that is a key looks like one: `# word: …`, or is
/// an entry of a list, `# - word: …`.
fn keys_of_the_example() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    for line in EXAMPLE.lines() {
        let mut indent = line.len() - line.trim_start().len();
        let mut text = line.trim_start();
        text = text.strip_prefix("# ").unwrap_or(text);
        indent += text.len() - text.trim_start_matches([' ', '-']).len();
        text = text.trim_start_matches([' ', '-']);
        let Some((name, rest)) = text.split_once(':') else { continue };
        let is_key = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_key || !(rest.is_empty() || rest.starts_with(' ')) || is_prose(line, rest) {
            continue;
        }
        parents.retain(|(depth, _)| *depth < indent);
        parents.push((indent, name.to_owned()));
        keys.insert(parents.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("."));
    }
    keys
}

/// Whether a comment explains a value (`# static: the one below.`) instead of holding a key: sentences end.
fn is_prose(line: &str, rest: &str) -> bool {
    line.trim_start().starts_with('#') && rest.ends_with(['.', ',', ':'])
}

#[test]
fn the_example_holds_every_key_and_no_other() {
    let full = "
        backends: {lobby: {address: 'h:1'}}
        alerts: {webhooks: [{url: 'https://example.com'}]}";
    let findings = Findings::new(Path::new("config.yml"));
    let root = tree::parse(full, &findings).unwrap();
    let reading = Reading::new(&findings);
    let section = Section::root(&reading, &root).unwrap();
    schema::values(section, Path::new(""), &findings);
    let known = reading.finish().into_iter().map(|key| key.replace("[0]", "")).collect::<BTreeSet<_>>();
    let mut example = keys_of_the_example();
    // The backend itself is a name that the owner chose.
    assert!(example.remove("backends.lobby"));
    assert_eq!(known, example);
    assert!(!findings.any_error());
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
    assert!(shown.contains("has no effect yet") && !shown.contains("TOKEN"), "{shown}");
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
