//! Readiness: the figures against a slow recount that shares nothing with the program, each reason, what-if files, the
//! command, and the statistics that it shows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
#![allow(clippy::too_many_lines, reason = "small numbers, and a table that is one table")]

#[path = "readiness/friends.rs"]
mod friends;
#[path = "readiness/recount.rs"]
mod recount;
mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use friends::{Friend, Login, Random, friends};
use jiff::Timestamp;
use postern::{
    clock::Clock,
    policy::Rules,
    readiness::{Cost, Population, Report, Terms},
    reason::Reason,
    statistics::{self, Statistics},
    task::Shutdown,
};
use recount::{Plain, Store};
use serde_json::{Value, json};
use support::{End, Mode, Player, scene::Scene};

const NOW: &str = "2026-11-21T20:15:03Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// The built-in rules.
fn terms() -> Terms {
    Terms {
        rules: Rules {
            max_session_age: Duration::from_hours(72),
            recent_activity: Some(Duration::from_hours(30 * 24)),
            min_login_history: 3,
            trust_private_addresses: false,
            max_accounts_per_address: 5,
            strict_ip_check: true,
            allow_ip_range_match: true,
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
            max_address_age: Duration::from_hours(168),
            require_mojang_auth: [].into(),
            geo_checks: true,
            blocked_asns: [].into(),
            deny_on_geo_change: false,
            deny_on_geo_unknown: false,
            pins: true,
            require_pin: false,
            allow_pin_for_changed_address: false,
        },
        allow_plaintext_fallback: true,
    }
}

fn report(friends: &[Friend], terms: &Terms) -> Report {
    let sessions = friends.iter().map(|friend| friend.session(now())).collect();
    Population::new(sessions, now()).report(terms)
}

fn cost(report: &Report, reason: Reason) -> &Cost {
    report
        .reasons
        .iter()
        .find(|cost| cost.reason == reason)
        .unwrap_or_else(|| panic!("no {reason}: {report:#?}"))
}

/// Every figure of the report, counted anew; those of a relaxation under terms changed as it says.
fn assert_right(report: &Report, friends: &[Friend], plain: &Plain) {
    let store = Store::new(friends);
    let counted = store.recount(plain);
    assert_eq!((report.considered, report.ready), (counted.considered, counted.ready));
    assert_eq!(report.not_ready, report.considered - report.ready);
    assert_eq!(report.must_enter_pin, counted.must_enter_pin);
    assert_eq!(report.unrehearsed, counted.unrehearsed);
    let reported: Vec<_> =
        report.reasons.iter().map(|cost| (cost.reason.code(), cost.first, cost.any, cost.alone)).collect();
    assert_eq!(reported, counted.reasons);
    let first: usize = report.reasons.iter().map(|cost| cost.first).sum();
    assert!((report.not_ready - report.unrehearsed..=report.not_ready).contains(&first), "{report:#?}");
    for cost in &report.reasons {
        for way in &cost.relaxations {
            let then = store.recount(&plain.with(way.key, &way.value));
            let code = cost.reason.code();
            let then = (counted.ready_then(&then, code), then.alone(code));
            assert_eq!((way.ready, way.alone), then, "{} {}", way.key, way.value);
            assert!(way.ready > report.ready && way.alone < cost.alone, "it does not help: {way:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_players_are_counted_right() {
    let friends = friends(100_000, 1);
    let report = report(&friends, &terms());
    assert_right(&report, &friends, &Plain::default());
    // The store is such that all this means something.
    assert!(report.considered > 80_000 && report.ready > 10_000, "{} {}", report.considered, report.ready);
    assert!(report.unrehearsed > 1000);
    for reason in [
        Reason::NoSession,
        Reason::Locked,
        Reason::SessionExpired,
        Reason::ShortHistory,
        Reason::PrivateAddress,
        Reason::SharedAddress,
        Reason::AddressChanged,
        Reason::PinFailed,
    ] {
        let cost = cost(&report, reason);
        assert!(cost.first > 20 && cost.alone > 0, "{reason}: {cost:?}");
        assert_eq!(cost.players.len(), if reason == Reason::NoSession { 0 } else { 20 }, "{reason}");
    }
    let keys = |reason| -> Vec<String> {
        cost(&report, reason).relaxations.iter().map(|way| format!("{}: {}", way.key, way.value)).collect()
    };
    assert_eq!(
        keys(Reason::AddressChanged),
        [
            "session-cache.ipv4-range-prefix: 20",
            "session-cache.ipv4-range-prefix: 16",
            "session-cache.ipv6-range-prefix: 56",
            "session-cache.ipv6-range-prefix: 48",
            "security.allow-pin-for-changed-address: true",
            "session-cache.strict-ip-check: false",
        ]
    );
    assert_eq!(
        keys(Reason::ShortHistory),
        ["security.min-login-history: 2", "security.min-login-history: 1"]
    );
    assert_eq!(
        keys(Reason::SessionExpired),
        ["session-cache.max-session-age: 144", "session-cache.max-session-age: 288"]
    );
}

/// Stores and rules of all kinds; one after the other, so that what fails can be seen.
#[test]
fn whatever_the_rules_the_figures_are_right() {
    for seed in 0..40 {
        let friends = friends(1500, seed);
        let plain = Plain::random(&mut Random(seed + 77), &friends);
        let report = report(&friends, &plain.terms());
        assert_right(&report, &friends, &plain);
    }
}

/// A friend whom the built-in rules let in, judged after one change to it or to the rules.
struct Row {
    name: &'static str,
    change: fn(&mut Friend, &mut Terms),
    /// All that speaks against it, in order.
    reasons: &'static [&'static str],
    /// What would help, if that is its only one.
    helps: &'static [&'static str],
}

#[test]
fn every_reason() {
    const HOUR: i64 = 3600;
    fn row(
        name: &'static str,
        change: fn(&mut Friend, &mut Terms),
        reasons: &'static [&'static str],
        helps: &'static [&'static str],
    ) -> Row {
        Row { name, change, reasons, helps }
    }
    fn login(friend: &mut Friend) -> &mut Login {
        friend.login.as_mut().unwrap()
    }
    let rows = [
        row("as it is", |_, _| {}, &[], &[]),
        row(
            "listed",
            |friend, terms| {
                terms.rules.require_mojang_auth.insert(friend.uuid());
            },
            &["mojang-required"],
            &[],
        ),
        row("nameless", |friend, _| friend.name = None, &["no-session"], &[]),
        row(
            "nameless with a PIN",
            |friend, _| (friend.name, friend.pin) = (None, true),
            &["no-session"],
            &[],
        ),
        row("locked", |friend, _| friend.locked = true, &["locked"], &[]),
        row("72 hours old", |friend, _| friend.stay_away(72 * HOUR), &[], &[]),
        row(
            "older",
            |friend, _| friend.stay_away(72 * HOUR + 1),
            &["session-expired"],
            &["max-session-age: 144"],
        ),
        row(
            "older, but was online since",
            |friend, _| {
                friend.stay_away(100 * HOUR);
                friend.present = Some(HOUR);
            },
            &[],
            &[],
        ),
        row(
            "much older",
            |friend, terms| {
                friend.stay_away(200 * HOUR);
                terms.rules.max_address_age = Duration::from_hours(400);
            },
            &["session-expired"],
            &["max-session-age: 288"],
        ),
        row(
            "away for 3 days where 2 are the most",
            |friend, terms| {
                friend.stay_away(72 * HOUR);
                terms.rules.recent_activity = Some(Duration::from_hours(48));
            },
            &["inactive"],
            &["recent-activity-days: 4"],
        ),
        row(
            "away for 20 days where 2 are the most",
            |friend, terms| {
                friend.stay_away(20 * 24 * HOUR);
                terms.rules.recent_activity = Some(Duration::from_hours(48));
                terms.rules.max_session_age = Duration::from_hours(600);
                terms.rules.max_address_age = Duration::from_hours(600);
            },
            &["inactive"],
            &["require-recent-activity: false"],
        ),
        row("two logins", |friend, _| friend.logins = 2, &["short-history"], &["min-login-history: 2"]),
        row("one login", |friend, _| friend.logins = 1, &["short-history"], &["min-login-history: 1"]),
        row(
            "at home in a LAN",
            |friend, _| friend.move_to("192.168.0.7", "192.168.0.7"),
            &["private-address"],
            &[],
        ),
        row(
            "at home in a LAN that is trusted",
            |friend, terms| {
                friend.move_to("192.168.0.7", "192.168.0.7");
                terms.rules.trust_private_addresses = true;
            },
            &[],
            &[],
        ),
        row("next door", |friend, _| friend.move_to("203.0.113.5", "203.0.113.200"), &[], &[]),
        row(
            "next door where only the same address will do",
            |friend, terms| {
                friend.move_to("203.0.113.5", "203.0.113.200");
                terms.rules.allow_ip_range_match = false;
            },
            &["address-changed"],
            &["allow-ip-range-match: true"],
        ),
        row(
            "in the same /20",
            |friend, _| friend.move_to("203.0.113.5", "203.0.112.5"),
            &["address-changed"],
            &["ipv4-range-prefix: 20"],
        ),
        row(
            "in the same /16",
            |friend, _| friend.move_to("203.0.113.5", "203.0.213.5"),
            &["address-changed"],
            &["ipv4-range-prefix: 16"],
        ),
        row(
            "in the same /56",
            |friend, _| friend.move_to("2001:db8:1:2::5", "2001:db8:1:3::5"),
            &["address-changed"],
            &["ipv6-range-prefix: 56"],
        ),
        row(
            "in the same /48",
            |friend, _| friend.move_to("2001:db8:1:2::5", "2001:db8:1:ff02::5"),
            &["address-changed"],
            &["ipv6-range-prefix: 48"],
        ),
        row(
            "elsewhere",
            |friend, _| friend.move_to("203.0.113.5", "198.51.100.7"),
            &["address-changed"],
            &["strict-ip-check: false"],
        ),
        row(
            "elsewhere, where that is only noted",
            |friend, terms| {
                friend.move_to("203.0.113.5", "198.51.100.7");
                terms.rules.strict_ip_check = false;
            },
            &[],
            &[],
        ),
        row(
            "back after long, where it always was",
            |friend, _| {
                login(friend).before[0].ago = 30 * 24 * HOUR;
            },
            &[],
            &[],
        ),
        row(
            "online for days, its address too old by now",
            |friend, terms| {
                friend.stay_away(30 * HOUR);
                friend.present = Some(0);
                terms.rules.max_address_age = Duration::from_hours(24);
            },
            &["address-changed"],
            &["max-address-age: 48"],
        ),
        row("imported, with one address", |friend, _| friend.import(), &[], &[]),
        row(
            "imported and not trusted",
            |friend, _| (friend.import(), friend.locked = true).1,
            &["locked"],
            &[],
        ),
        row(
            "imported, its address too old by now",
            |friend, _| {
                friend.import();
                friend.present = Some(0);
                friend.addresses[0].ago = 8 * 24 * HOUR;
            },
            &["address-changed"],
            &["max-address-age: 336"],
        ),
        row("has a PIN", |friend, _| friend.pin = true, &[], &[]),
        row(
            "has none where one is required",
            |_, terms| terms.rules.require_pin = true,
            &["pin-not-set"],
            &["require-pin-on-fallback: false"],
        ),
        row(
            "has one where one is required",
            |friend, terms| (friend.pin, terms.rules.require_pin) = (true, true),
            &[],
            &[],
        ),
        row(
            "elsewhere with a PIN, at the same provider",
            |friend, _| {
                friend.pin = true;
                friend.move_to("203.0.113.5", "198.51.100.7");
                (login(friend).asn, login(friend).before[0].asn) = (Some(64496), Some(64496));
            },
            &["address-changed"],
            &["allow-pin-for-changed-address: true"],
        ),
        row(
            "elsewhere with a PIN, at the same provider, where the PIN is enough",
            |friend, terms| {
                friend.pin = true;
                terms.rules.allow_pin_for_changed_address = true;
                friend.move_to("203.0.113.5", "198.51.100.7");
                (login(friend).asn, login(friend).before[0].asn) = (Some(64496), Some(64496));
            },
            &[],
            &[],
        ),
        row(
            "the same, but nobody is looked up",
            |friend, terms| {
                friend.pin = true;
                terms.rules.allow_pin_for_changed_address = true;
                terms.rules.geo_checks = false;
                friend.move_to("203.0.113.5", "198.51.100.7");
                (login(friend).asn, login(friend).before[0].asn) = (Some(64496), Some(64496));
            },
            &["address-changed"],
            &["strict-ip-check: false"],
        ),
        row(
            "next door with an old game, after somebody did not know the PIN",
            |friend, _| {
                (friend.pin, friend.unproven, login(friend).protocol) = (true, true, 770);
                friend.move_to("203.0.113.5", "203.0.113.200");
            },
            &["pin-failed"],
            &[],
        ),
        row(
            "at home with an old game, after somebody did not know the PIN",
            |friend, _| (friend.pin, friend.unproven, login(friend).protocol) = (true, true, 770),
            &[],
            &[],
        ),
        row(
            "next door with a new game, after somebody did not know the PIN",
            |friend, _| {
                (friend.pin, friend.unproven) = (true, true);
                friend.move_to("203.0.113.5", "203.0.113.200");
            },
            &[],
            &[],
        ),
        row(
            "an old game where the link must be encrypted",
            |friend, terms| {
                login(friend).protocol = 765;
                terms.allow_plaintext_fallback = false;
            },
            &["newer-version-needed"],
            &["allow-plaintext-fallback: true"],
        ),
        row(
            "a new game there",
            |friend, terms| {
                login(friend).protocol = 766;
                terms.allow_plaintext_fallback = false;
            },
            &[],
            &[],
        ),
        row("an old game", |friend, _| login(friend).protocol = 47, &[], &[]),
        row(
            "a blocked network",
            |friend, terms| {
                login(friend).asn = Some(64496);
                terms.rules.blocked_asns.insert(64496);
            },
            &["blocked-asn"],
            &[],
        ),
        row(
            "an unknown network at the same address",
            |_, terms| {
                terms.rules.blocked_asns.insert(64496);
            },
            &[],
            &[],
        ),
        row(
            "an unknown network next door",
            |friend, terms| {
                friend.move_to("203.0.113.5", "203.0.113.200");
                terms.rules.blocked_asns.insert(64496);
            },
            &["blocked-asn"],
            &[],
        ),
        row(
            "the list is out of use",
            |friend, terms| {
                login(friend).asn = Some(64496);
                terms.rules.blocked_asns.insert(64496);
                terms.rules.geo_checks = false;
            },
            &[],
            &[],
        ),
        row(
            "next door in another country",
            |friend, terms| {
                friend.move_to("203.0.113.5", "203.0.113.200");
                (login(friend).country, login(friend).before[0].country) = (Some("FR"), Some("DE"));
                terms.rules.deny_on_geo_change = true;
            },
            &["geo-changed"],
            &["deny-on-geo-change: false"],
        ),
        row(
            "the same address, said to be in another country now",
            |friend, terms| {
                (login(friend).country, login(friend).before[0].country) = (Some("FR"), Some("DE"));
                terms.rules.deny_on_geo_change = true;
            },
            &[],
            &[],
        ),
        row(
            "not looked up",
            |_, terms| terms.rules.deny_on_geo_unknown = true,
            &["geo-unknown"],
            &["deny-on-geo-unknown: false"],
        ),
        row(
            "everything at once",
            |friend, _| {
                friend.stay_away(80 * HOUR);
                friend.move_to("10.0.0.1", "10.0.7.1");
                (friend.locked, friend.logins, friend.pin) = (true, 1, true);
            },
            &["locked", "session-expired", "short-history", "private-address", "address-changed"],
            &[],
        ),
    ];
    for Row { name, change, reasons, helps } in rows {
        let (mut friend, mut terms) = (Friend::at_home(1), terms());
        change(&mut friend, &mut terms);
        let report = report(&[friend], &terms);
        let found: Vec<_> = report.reasons.iter().map(|cost| cost.reason.code()).collect();
        assert_eq!(found, reasons, "{name}");
        assert_eq!((report.considered, report.ready), (1, usize::from(reasons.is_empty())), "{name}");
        for (index, cost) in report.reasons.iter().enumerate() {
            let alone = usize::from(reasons.len() == 1);
            assert_eq!((cost.first, cost.any, cost.alone), (usize::from(index == 0), 1, alone), "{name}");
        }
        let ways: Vec<String> = report
            .reasons
            .iter()
            .flat_map(|cost| &cost.relaxations)
            .map(|way| {
                assert_eq!((way.alone, way.ready), (0, 1), "{name}");
                assert!(!way.gives_up.is_empty());
                format!("{}: {}", way.key.split_once('.').unwrap().1, way.value)
            })
            .collect();
        assert_eq!(ways, helps, "{name}");
    }
}

#[test]
fn what_is_not_on_record_is_no_reason_to_switch_a_check_off() {
    let mut friends: Vec<Friend> = (1..=4).map(Friend::at_home).collect();
    for friend in &mut friends[..3] {
        friend.login = None;
    }
    friends[2].locked = true;
    let found = report(&friends, &terms());
    assert_eq!((found.considered, found.ready, found.not_ready, found.unrehearsed), (4, 1, 3, 3));
    let [locked] = &found.reasons[..] else { panic!("{found:#?}") };
    assert_eq!((locked.reason, locked.first, locked.any, locked.alone), (Reason::Locked, 1, 1, 0));

    // Beside one of whom it is known, they are in no figure either.
    friends[3].move_to("203.0.113.5", "198.51.100.7");
    let found = report(&friends, &terms());
    let changed = cost(&found, Reason::AddressChanged);
    assert_eq!((changed.first, changed.any, changed.alone), (1, 1, 1));
    assert_eq!(changed.players, ["Friend4"]);
    let [way] = &changed.relaxations[..] else { panic!("{changed:#?}") };
    assert_eq!((way.key, way.alone, way.ready), ("session-cache.strict-ip-check", 0, 1));

    // The same holds for where an address is.
    let mut anywhere = terms();
    (anywhere.rules.strict_ip_check, anywhere.rules.deny_on_geo_change) = (false, true);
    for friend in &mut friends {
        friend.addresses[0].country = Some("FR");
    }
    let found = report(&friends, &anywhere);
    assert!(found.reasons.iter().all(|cost| cost.reason == Reason::Locked), "{found:#?}");
    assert_eq!((found.ready, found.unrehearsed), (1, 3));
}

#[test]
fn who_shares_an_address_is_counted_over_the_whole_store() {
    // Six at one address; the last has not been seen for a month, but its address counts as long as the rules say.
    let mut friends: Vec<Friend> = (1..=6).map(Friend::at_home).collect();
    friends[5].stay_away(31 * 24 * 3600);
    let found = report(&friends, &terms());
    assert_eq!((found.considered, found.ready), (5, 5));
    let mut long = terms();
    long.rules.max_address_age = Duration::from_hours(800);
    let found = report(&friends, &long);
    assert_eq!((found.considered, cost(&found, Reason::SharedAddress).alone), (5, 5));
    let ways: Vec<_> = cost(&found, Reason::SharedAddress)
        .relaxations
        .iter()
        .map(|way| (way.key, way.value.clone()))
        .collect();
    assert_eq!(ways, [("security.max-accounts-per-address", json!(10))], "20 help no more than 10");
    friends[0].pin = true;
    let found = report(&friends, &long);
    assert_eq!((found.ready, found.must_enter_pin), (1, 1), "a PIN tells apart those who share an address");

    // An address that is verified again counts players, and would do so for longer.
    let mut crowd: Vec<Friend> = (1..=6).map(Friend::at_home).collect();
    for friend in &mut crowd[1..] {
        friend.import();
        friend.addresses[0].ago = 8 * 24 * 3600;
    }
    let found = report(&crowd, &terms());
    assert_eq!(found.ready, 1);
    assert!(
        cost(&found, Reason::AddressChanged)
            .relaxations
            .iter()
            .all(|way| way.key.ends_with("strict-ip-check"))
    );
}

#[test]
fn of_two_with_one_name_the_later_has_it() {
    let mut friends: Vec<Friend> = (1..=2).map(Friend::at_home).collect();
    friends[0].name = Some("Alice".into());
    friends[1].name = Some("aLICE".into());
    friends[0].last_verified += 10;
    let found = report(&friends, &terms());
    assert_eq!((found.considered, found.ready), (2, 1));
    assert_eq!(cost(&found, Reason::NoSession).alone, 1);
    assert!(cost(&found, Reason::NoSession).players.is_empty(), "it has no name to show");
}

#[test]
fn names_are_those_who_would_be_told_the_reason_seen_last_first() {
    let mut friends: Vec<Friend> = (1..=30).map(Friend::at_home).collect();
    for (minutes, friend) in (1..).zip(&mut friends) {
        friend.stay_away(minutes * 60);
        friend.move_to(&format!("198.51.{minutes}.1"), &format!("203.0.{minutes}.1"));
    }
    friends[3].locked = true;
    let found = report(&friends, &terms());
    assert_eq!(cost(&found, Reason::Locked).players, ["Friend4"]);
    let changed = cost(&found, Reason::AddressChanged);
    assert_eq!((changed.first, changed.any, changed.alone, changed.players.len()), (29, 30, 29, 20));
    assert_eq!(changed.players[..4], ["Friend1", "Friend2", "Friend3", "Friend5"]);
}

// The command.

const CONFIG: &str = "backends:\n  lobby:\n    address: \"127.0.0.1:1\"\nforwarding:\n  mode: none\n";

/// A folder with a configuration and the documents of these friends.
fn folder(friends: &[Friend]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yml"), CONFIG).unwrap();
    let now = Clock::system().now();
    for friend in friends {
        let (path, text) = friend.document(now);
        let path = folder.path().join("sessions").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Runs the command: exit code, standard output, standard error.
fn readiness(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("readiness").args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in ["POSTERN_CONFIG", "POSTERN_FORWARDING_SECRET", "VELOCITY_FORWARDING_SECRET", "RUST_LOG"]
    {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = readiness(folder, &[&["--json"], arguments].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_command_reads_documents_and_says_the_same() {
    let friends = friends(3000, 5);
    let folder = folder(&friends);
    fs::write(folder.path().join("sessions/00/00000000-0000-0000-0000-000000000000.json"), "{").unwrap();
    fs::write(
        folder.path().join("other.yml"),
        CONFIG.to_owned()
            + "session-cache:\n  ipv4-range-prefix: 20\n  max-session-age: 200\n  directory: nowhere\n\
               security:\n  min-login-history: 1\n  recent-activity-days: 9\n",
    )
    .unwrap();
    let found = json_of(folder.path(), &["--with", "other.yml"]);
    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["at", "current", "statistics", "store", "with"]);
    assert_eq!(found["store"], json!({"sessions": friends::live(&friends), "damaged": 1}));
    assert_eq!(found["statistics"], Value::Null);
    let store = Store::new(&friends);
    let plain = Plain::default();
    let other = plain
        .with("session-cache.ipv4-range-prefix", &json!(20))
        .with("session-cache.max-session-age", &json!(200))
        .with("security.min-login-history", &json!(1))
        .with("security.recent-activity-days", &json!(9));
    for (shown, plain) in [(&found["current"], &plain), (&found["with"], &other)] {
        let counted = store.recount(plain);
        let report = &shown["report"];
        assert_eq!(shown["fallback"], "enabled");
        assert_eq!(
            (&report["considered"], &report["ready"]),
            (&json!(counted.considered), &json!(counted.ready))
        );
        assert_eq!(report["not_ready"], json!(counted.considered - counted.ready));
        assert_eq!(report["unrehearsed"], json!(counted.unrehearsed));
        let reasons: Vec<_> = report["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cost| json!([cost["reason"], cost["first"], cost["any"], cost["alone"]]))
            .collect();
        assert_eq!(json!(reasons), json!(counted.reasons));
        for cost in report["reasons"].as_array().unwrap() {
            for way in cost["relaxations"].as_array().unwrap() {
                let then = store.recount(&plain.with(way["key"].as_str().unwrap(), &way["value"]));
                let code = cost["reason"].as_str().unwrap();
                let then = (json!(counted.ready_then(&then, code)), json!(then.alone(code)));
                assert_eq!((&way["ready"], &way["alone"]), (&then.0, &then.1), "{way}");
                assert!(!way["gives_up"].as_str().unwrap().is_empty());
            }
            assert!(cost["rule"].is_string() && cost["players"].is_array());
        }
    }
    assert_eq!(
        (&found["current"]["file"], &found["with"]["file"]),
        (&json!("config.yml"), &json!("other.yml"))
    );
    assert_eq!(found["current"].get("differences"), None);
    assert_eq!(
        found["with"]["differences"],
        json!([
            {"key": "session-cache.max-session-age", "current": "72", "other": "200"},
            {"key": "session-cache.ipv4-range-prefix", "current": "24", "other": "20"},
            {"key": "security.min-login-history", "current": "3", "other": "1"},
            {"key": "security.recent-activity-days", "current": "30", "other": "9"},
        ])
    );
    assert_eq!(json_of(folder.path(), &[])["with"], Value::Null);
}

/// Ten friends, of whom eight can join at most.
fn ten() -> Vec<Friend> {
    let mut friends: Vec<Friend> = (1..=10).map(Friend::at_home).collect();
    for (number, friend) in (1..).zip(&mut friends) {
        friend.move_to(&format!("198.51.{number}.1"), &format!("198.51.{number}.1"));
        friend.stay_away(number * 60);
    }
    friends[0].move_to("203.0.113.5", "203.0.112.5");
    friends[1].move_to("203.0.113.5", "198.18.0.9");
    friends[2].locked = true;
    friends[3].logins = 2;
    friends[4].pin = true;
    friends
}

#[test]
fn the_table_for_people() {
    let folder = folder(&ten());
    let (code, out, err) = readiness(folder.path(), &["--names"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "\
If Mojang's session servers went down now, 6 of 10 players seen in the last 30 days could join; 4 could not.
1 of the 6 who could must enter their PIN first.

Why not                  first     any   alone
  locked                     1       1       1
  short-history              1       1       1
  address-changed            2       2       2
  (first: players for whom it is the first reason; any: for whom it is one; alone: for whom it is the only one)

a lock alone shuts out 1 of 10
  each comes in again after one login while the session servers answer
  players: Friend3

min-login-history alone shuts out 1 of 10
  with min-login-history: 2 it would be 0; 7 could join
    given up: whoever has been here 2 times counts as known
  players: Friend4

strict-ip-check alone shuts out 2 of 10
  with ipv4-range-prefix: 20 it would be 1; 7 could join
    given up: each of the 4096 addresses around a verified one is as good as it
  with strict-ip-check: false it would be 0; 8 could join
    given up: addresses are then no evidence at all: in an outage whoever knows a player's name comes in under it, \
         from anywhere
  players: Friend1, Friend2

Outages so far: no statistics yet.
"
        .replace("         from", "from")
    );
    assert!(!readiness(folder.path(), &[]).1.contains("Friend"), "names are for who asks for them");
}

#[test]
fn what_the_documentation_shows_is_what_the_program_says() {
    let mut friends: Vec<Friend> = (1..=20).map(Friend::at_home).collect();
    for (number, friend) in (1..).zip(&mut friends) {
        friend.move_to(&format!("198.51.{number}.1"), &format!("198.51.{number}.1"));
        friend.stay_away(number * 60);
    }
    friends[0].locked = true;
    friends[1].stay_away(80 * 3600);
    friends[2].stay_away(100 * 3600);
    for friend in &mut friends[2..5] {
        friend.move_to("203.0.113.5", "203.0.112.5");
    }
    friends[5].move_to("203.0.113.5", "198.18.0.9");
    let folder = folder(&friends);
    let totals = json!({
        "version": 1,
        "since": "2026-09-01T16:20:00Z",
        "verified": 1894,
        "fallback": 23,
        "refused": {"not-joined": 31, "address-changed": 4, "session-expired": 2},
        "outages": {
            "count": 2,
            "seconds": 10_080,
            "newest": [
                {"started": "2026-09-19T02:04:00Z", "ended": "2026-09-19T02:22:00Z", "seconds": 1080},
                {"started": "2026-10-29T17:11:00Z", "ended": "2026-10-29T19:41:00Z", "seconds": 9000},
            ],
        },
    });
    fs::write(folder.path().join("statistics.json"), totals.to_string()).unwrap();
    let (code, out, err) = readiness(folder.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split_once("### Before the next outage\n").unwrap().1;
    let sample = section.split_once("```text\n").unwrap().1.split_once("```\n").unwrap().0;
    assert_eq!(sample, out);
}

#[test]
fn those_whose_newest_login_is_not_on_record_are_told_of_at_once() {
    let mut friends: Vec<Friend> = (1..=2).map(Friend::at_home).collect();
    friends[0].login = None;
    let out = readiness(folder(&friends).path(), &[]).1;
    assert_eq!(
        out,
        "\
If Mojang's session servers went down now, 1 of 2 players seen in the last 30 days could join; 1 could not.

Of 1 player it is not on record where the newest login came from. Its address is taken for changed until its next \
         login tells; the figures about changed addresses below leave it out.

Outages so far: no statistics yet.
"
        .replace("         login", "login")
    );
    friends[1].login = None;
    let out = readiness(folder(&friends).path(), &[]).1;
    let many = "Of 2 players it is not on record where the newest login came from. Their addresses are taken for changed \
                until their next logins tell; the figures about changed addresses below leave them out.\n";
    assert!(out.contains(many) && !out.contains("strict-ip-check"), "{out}");
}

#[test]
fn a_trusted_import_is_judged_by_the_address_that_came_with_it() {
    let folder = folder(&[]);
    let row = json!([{
        "uuid": "00000000-0000-4000-8000-000000000001",
        "username": "Ok1",
        "ip": "203.0.113.7",
        "last-login": Clock::system().now().to_string(),
        "logins": 9,
    }]);
    fs::write(folder.path().join("export.json"), row.to_string()).unwrap();
    let import = |trust: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["sessions", "import", "export.json"]).args(trust).current_dir(folder.path());
        let output = command.env_remove("POSTERN_CONFIG").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut report = json_of(folder.path(), &[])["current"]["report"].take();
        let reasons = report["reasons"].take();
        let codes: Vec<_> = reasons.as_array().unwrap().iter().map(|cost| cost["reason"].clone()).collect();
        (report["ready"].clone(), report["unrehearsed"].clone(), json!(codes))
    };
    assert_eq!(import(&[]), (json!(0), json!(0), json!(["locked"])));
    fs::remove_dir_all(folder.path().join("sessions")).unwrap();
    assert_eq!(import(&["--trust"]), (json!(1), json!(0), json!([])));
}

#[test]
fn where_figures_rest_on_look_ups_it_is_said() {
    let mut friend = Friend::at_home(1);
    friend.move_to("203.0.113.5", "203.0.113.200");
    friend.login.as_mut().unwrap().country = Some("FR");
    let mut terms = terms();
    (terms.rules.deny_on_geo_change, terms.rules.deny_on_geo_unknown) = (true, true);
    let found = report(&[friend.clone()], &terms);
    let hint = cost(&found, Reason::GeoChanged).hint;
    assert!(hint.contains("only addresses that were looked up can be compared"), "{hint}");
    friend.login.as_mut().unwrap().country = None;
    let found = report(&[friend], &terms);
    let hint = cost(&found, Reason::GeoUnknown).hint;
    assert!(hint.contains("looked up after verified logins"), "{hint}");
}

#[test]
fn another_configuration_beside_it() {
    let folder = folder(&ten());
    let other = folder.path().join("other.yml");
    fs::write(
        &other,
        CONFIG.to_owned()
            + "auth:\n  fallback: dry-run\nsession-cache:\n  ipv4-range-prefix: 20\n  max-session-age: 900\n",
    )
    .unwrap();
    let (code, out, err) = readiness(folder.path(), &["--with", "other.yml"]);
    assert_eq!(code, 0);
    assert!(err.starts_with("other.yml:") && err.contains("864"), "its warnings are told: {err}");
    for part in [
        "could join; 4 could not.\n1 of the 6 who could must enter their PIN first.\n\nother.yml differs in\n  auth.fallback: enabled -> dry-run\n  \
         session-cache.max-session-age: 72 -> 900\n  session-cache.ipv4-range-prefix: 24 -> 20\n",
        "other.yml: auth.fallback is dry-run: NOBODY would be let in.",
        "With other.yml, 7 of 10 players seen in the last 30 days could join; 3 could not.\n1 of the 7 who could must enter",
        "                                     as it is                 with it\n\
         Why not                  first     any   alone   first     any   alone\n",
        "  address-changed            2       2       2       1       1       1\n",
        "As it is (config.yml):\n",
        "With other.yml:\n",
        "strict-ip-check alone shuts out 1 of 10\n  with strict-ip-check: false",
    ] {
        assert!(out.contains(part), "{part}\n---\n{out}");
    }
    fs::write(&other, CONFIG).unwrap();
    let (code, out, err) = readiness(folder.path(), &["--with", "other.yml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("\nother.yml has the same rules.\n"), "{out}");

    // A warning that the copy shares with its original is known already.
    let long = CONFIG.to_owned() + "session-cache:\n  max-session-age: 900\n";
    fs::write(folder.path().join("config.yml"), &long).unwrap();
    fs::write(&other, format!("# A copy.\n{long}  ipv4-range-prefix: 20\n")).unwrap();
    let (code, _, err) = readiness(folder.path(), &["--with", "other.yml"]);
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn what_goes_wrong_has_its_code_and_changes_nothing() {
    let folder = folder(&ten());
    let bad = CONFIG.to_owned() + "session-cache:\n  max-sesion-age: 3\n";
    fs::write(folder.path().join("bad.yml"), &bad).unwrap();
    let (code, out, err) = readiness(folder.path(), &["--with", "bad.yml"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(
        err.starts_with("bad.yml:7:3: error: session-cache.max-sesion-age: ") && err.contains("hint:"),
        "{err}"
    );
    let (code, _, err) = readiness(folder.path(), &["--with", "none.yml"]);
    let whole = "  hint: --with wants a whole configuration: copy config.yml and change the copy\n";
    assert_eq!((code, err), (78, format!("none.yml: error: does not exist\n{whole}")));
    fs::write(folder.path().join("part.yml"), "session-cache:\n  max-session-age: 100\n").unwrap();
    let (code, _, err) = readiness(folder.path(), &["--with", "part.yml"]);
    assert!(code == 78 && err.contains("backends: is missing") && err.ends_with(whole), "{err}");
    fs::remove_file(folder.path().join("part.yml")).unwrap();
    let (code, _, err) = readiness(folder.path(), &["--with", "bad.yml"]);
    assert!(code == 78 && !err.contains("copy config.yml"), "a slip in a whole one is just that: {err}");
    let (code, out, err) = readiness(folder.path(), &["--config", "bad.yml", "--with", "none.yml", "--json"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains("bad.yml:7:3") && err.contains("none.yml"), "all problems at once: {err}");
    assert_eq!(readiness(folder.path(), &["--with"]).0, 64);
    assert_eq!(readiness(folder.path(), &["now"]).0, 64);

    let names = |folder: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), ["bad.yml", "config.yml", "sessions"]);

    fs::remove_dir_all(folder.path().join("sessions")).unwrap();
    let (code, out, err) = readiness(folder.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("Nobody has been seen in the last 30 days"), "{out}");
    fs::write(folder.path().join("sessions"), "no folder").unwrap();
    let (code, out, err) = readiness(folder.path(), &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("the sessions cannot be read: "), "{err}");
}

#[test]
fn what_stands_in_the_way_of_all_is_said_first() {
    let folder = folder(&ten());
    for mode in ["dry-run", "disabled"] {
        fs::write(folder.path().join("config.yml"), format!("{CONFIG}auth:\n  fallback: {mode}\n")).unwrap();
        let (code, out, _) = readiness(folder.path(), &[]);
        assert_eq!(code, 0);
        let head = format!(
            "auth.fallback is {mode}: NOBODY would be let in. These are the figures as if it were enabled.\n"
        );
        assert!(out.starts_with(&head), "{out}");
        assert_eq!(json_of(folder.path(), &[])["current"]["fallback"], mode);
    }
}

#[test]
fn damaged_statistics_do_not_keep_the_report_away() {
    let folder = folder(&ten());
    let path = folder.path().join("statistics.json");
    fs::write(&path, "{").unwrap();
    let (code, out, err) = readiness(folder.path(), &[]);
    assert_eq!(code, 0);
    let start = "the statistics cannot be read: statistics.json: it holds no statistics of this version: ";
    assert!(err.starts_with(start), "{err}");
    let hint = "\n  hint: nothing else needs it: the next start of the proxy sets it aside and counts anew\n";
    assert!(err.ends_with(hint), "{err}");
    assert!(out.contains("6 of 10") && !out.contains("Outages"), "{out}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{", "only a proxy sets it aside");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (code, _, err) = readiness(folder.path(), &[]);
    assert!(code == 0 && err.starts_with("the statistics cannot be read: statistics.json: "), "{err}");
    assert!(err.ends_with("\n  hint: it must be a file that this user may read\n"), "{err}");
    fs::remove_dir(&path).unwrap();
    fs::write(
        folder.path().join("config.yml"),
        CONFIG.to_owned() + "monitoring:\n  enable-statistics: false\n",
    )
    .unwrap();
    let (code, out, err) = readiness(folder.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("\nOutages so far: monitoring.enable-statistics is false.\n"), "{out}");
}

// The running proxy.

/// What the file of that scene's folder says.
fn totals(folder: &Path) -> statistics::Totals {
    statistics::read_file(&folder.join("statistics.json")).unwrap().unwrap()
}

#[tokio::test]
async fn admissions_refusals_and_outages_are_counted_over_restarts() {
    let mut scene = Scene::new().await;
    let folder = scene.setup.folder.path().to_owned();
    let alice = Player::new("Alice");
    assert!(matches!(scene.login(&alice).await, End::In { .. }));
    assert!(matches!(scene.login(&Player::impostor("Bob")).await, End::Refused(_)));

    // While the proxy has the store, the command still reads it. The document is written behind the login.
    let found = loop {
        let found = json_of(&folder, &[]);
        if found["store"]["sessions"] == 1 {
            break found;
        }
    };
    let report = &found["current"]["report"];
    assert_eq!((&report["considered"], &report["unrehearsed"]), (&json!(1), &json!(0)));

    scene.go_down().await;
    assert!(matches!(scene.login(&alice).await, End::In { authenticated: false, .. }));
    let mut scene = scene.restart(Mode::Down).await;
    let open = totals(&folder);
    assert_eq!((open.verified, open.fallback), (1, 1));
    assert_eq!(open.refused, [("not-joined".to_owned(), 1)].into());
    assert_eq!((open.outages.count, open.outages.newest.len()), (1, 1));
    assert_eq!(open.outages.newest[0].ended, None, "it goes on");
    scene.audit.state("down").await;
    scene.sessions.set(Mode::Up);
    let up = scene.audit.state("up").await;
    scene.proxy.stop().await;

    let after = totals(&folder);
    assert_eq!((after.verified, after.fallback, &after.refused), (1, 1, &open.refused));
    assert_eq!(
        (after.since, after.outages.count),
        (open.since, 1),
        "a restart in the middle makes no second one"
    );
    let outage = &after.outages.newest[0];
    assert_eq!(outage.started, open.outages.newest[0].started);
    let told: Timestamp = up["ts"].as_str().unwrap().parse().unwrap();
    let apart = outage.ended.unwrap().duration_since(told);
    assert!(apart.abs() < jiff::SignedDuration::from_millis(2), "{outage:?} {told}");

    let out = readiness(&folder, &[]).1;
    for part in ["1 verified, 1 let in by policy, 1 refused (most often: not-joined 1)", "1 outage so far"] {
        assert!(out.contains(part), "{out}");
    }
    assert_eq!(json_of(&folder, &[])["statistics"]["outages"]["newest"][0]["ended"], json!(outage.ended));
}

#[tokio::test]
async fn an_outage_that_was_over_before_the_restart_ends_when_it_was_last_seen() {
    let mut scene = Scene::new().await;
    let folder = scene.setup.folder.path().to_owned();
    scene.go_down().await;
    let mut scene = scene.restart(Mode::Up).await;
    let open = totals(&folder).outages;
    assert_eq!(open.newest[0].ended, None);
    scene.audit.state("up").await;
    scene.proxy.stop().await;
    let closed = totals(&folder).outages;
    assert_eq!(closed.newest[0].ended, Some(open.newest[0].last_seen()));
    assert_eq!((closed.count, closed.seconds), (1, open.seconds));
}

#[tokio::test]
async fn switched_off_nothing_is_written() {
    let off = |setup: support::Setup| setup.replace("monitoring:", "monitoring:\n  enable-statistics: false");
    let scene = Scene::with("", off).await;
    assert!(matches!(scene.login(&Player::new("Alice")).await, End::In { .. }));
    let folder = scene.setup.folder.path().to_owned();
    scene.proxy.stop().await;
    assert!(folder.join("audit.log").exists() && !folder.join("statistics.json").exists());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_told_of_once_and_when_it_works_again() {
    let (logs, _kept) = support::logs::Logs::keep();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    let config = statistics::Config { path: Some(inside.join("statistics.json")) };
    let counted = Statistics::open(&config, Clock::starting_at(now())).await;
    let (trigger, stop) = Shutdown::new();
    let writing = tokio::spawn(counted.clone().run(stop));
    let told = |text: &str| logs.text().matches(text).count();
    for _ in 0..10 {
        counted.verified();
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    assert_eq!((told("cannot be written"), told("written again")), (1, 0), "{}", logs.text());
    fs::create_dir(&inside).unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!((told("cannot be written"), told("written again")), (1, 1));
    assert_eq!(totals(&inside).verified, 10);
    fs::remove_dir_all(&inside).unwrap();
    counted.verified();
    trigger.trigger();
    writing.await.unwrap();
    assert_eq!(told("cannot be written"), 2, "another failure is told again, also at the stop");
}
