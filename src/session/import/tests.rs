//! Rows of an import, one by one and together.

use serde_json::json;

use super::*;
use crate::session::record::tests::{at, config, ip, login};

const NOW: &str = "2026-11-21T20:00:00Z";
const ID: &str = "069a79f4-44e9-4726-a5be-fca90e38aaf5";

fn row() -> Value {
    json!({"uuid": ID, "username": "Notch", "ip": "203.0.113.5", "last-login": "2026-11-20T20:00:00Z"})
}

/// The row with a key set to something else; `null` takes it out.
fn with(key: &str, value: Value) -> Value {
    let mut row = row();
    row[key] = value;
    row
}

fn read(row: &Value) -> Result<Row, String> {
    Row::read(row, Trust::No, at(NOW))
}

#[test]
fn a_bare_row_and_a_full_one() {
    let last = at("2026-11-20T20:00:00Z");
    let bare = read(&row()).unwrap();
    let expected = Session {
        id: ID.parse().unwrap(),
        name: Some(Username::parse("Notch").unwrap()),
        first_verified: last,
        last_verified: last,
        last_present: None,
        verified_logins: 1,
        fallback_logins: 0,
        addresses: vec![VerifiedAddress {
            address: ip("203.0.113.5"),
            verified: last,
            place: Place::default(),
        }],
        last_without_dialogs: None,
        last_with_dialogs: None,
        pin_hash: None,
        locked: true,
        unproven_quarantine: false,
        denied_networks: Vec::new(),
        rehearsal: None,
    };
    assert_eq!((&bare.session, bare.properties.len(), bare.notes.len()), (&expected, 0, 0));
    assert!(bare.session.is_imported());

    let full = json!({
        "uuid": ID.replace('-', "").to_uppercase(),
        "username": "Notch",
        "ip": "::ffff:203.0.113.5",
        "last-login": last.as_millisecond(),
        "logins": 17,
        "properties": [{"name": "textures", "value": "e30=", "signature": "c2ln"}],
        "pin-sha256": "AB".repeat(32),
    });
    let full = Row::read(&full, Trust::Yes, at(NOW)).unwrap();
    let pin_hash = Some(format!("$sha256${}", "ab".repeat(32)));
    assert_eq!(full.session, Session { verified_logins: 17, pin_hash, locked: false, ..expected });
    let signature = Some("c2ln".to_owned());
    assert_eq!(Row::read(&full.as_json(), Trust::Yes, at(NOW)).as_ref(), Ok(&full));
    assert_eq!(read(&bare.as_json()).as_ref(), Ok(&bare));
    assert_eq!(full.properties, [Property { name: "textures".into(), value: "e30=".into(), signature }]);
}

#[test]
fn every_way_to_be_wrong_has_its_words() {
    let textures = |value: Value| with("properties", json!([value]));
    for (row, words) in [
        (json!(7), "not an object"),
        (json!([]), "not an object"),
        (with("uuid", Value::Null), "uuid is missing"),
        (with("uuid", json!(7)), "uuid is not a text"),
        (with("uuid", json!("Notch")), "uuid \"Notch\" is no player id"),
        (with("uuid", json!(format!("{{{ID}}}"))), "is no player id"),
        (with("uuid", json!("b50ad385-829d-3141-a216-7e7d7539ba7f")), "of version 3"),
        (with("uuid", json!("00000000-0000-0000-0009-01f00e11aabb")), "not of version 4"),
        (with("uuid", json!("00000000-0000-0000-0000-000000000000")), "not of version 4"),
        (with("uuid", json!("069a79f4-44e9-4726-05be-fca90e38aaf5")), "not of version 4"),
        (with("username", Value::Null), "username is missing"),
        (with("username", json!("a b")), "username \"a b\": a username is 1 to 16"),
        (with("username", json!(".Bedrock")), "a username is 1 to 16"),
        (with("username", json!("\u{1b}[2J\n")), "username \"�[2J�\""),
        (with("ip", Value::Null), "ip is missing"),
        (with("ip", json!("203.0.113.5:1234")), "is no address"),
        (with("ip", json!("play.example.com")), "is no address"),
        (with("last-login", Value::Null), "last-login is missing"),
        (with("last-login", json!("yesterday")), "is not RFC 3339"),
        (with("last-login", json!("2026-11-20")), "is not RFC 3339"),
        (with("last-login", json!(1.5)), "is not RFC 3339"),
        (with("last-login", json!(i64::MAX)), "is not RFC 3339"),
        (with("last-login", json!(u64::MAX)), "is not RFC 3339"),
        (with("last-login", json!(true)), "is not RFC 3339"),
        (
            with("last-login", json!("2026-11-21T20:05:01Z")),
            "last-login 2026-11-21T20:05:01Z lies in the future",
        ),
        (with("last-login", json!("2026-10-16T20:00:00Z")), "36 days ago or more"),
        (with("last-login", json!(1_763_755_200)), "are these seconds?"),
        (with("logins", json!(0)), "logins is not a whole number"),
        (with("logins", json!(-1)), "logins is not a whole number"),
        (with("logins", json!(1.5)), "logins is not a whole number"),
        (with("logins", json!("3")), "logins is not a whole number"),
        (with("logins", json!(4_294_967_296_u64)), "logins is not a whole number"),
        (with("pin-sha256", json!("123456")), "pin-sha256 is not a SHA-256 hash"),
        (with("pin-sha256", json!("g".repeat(64))), "pin-sha256 is not a SHA-256 hash"),
        (with("pin-sha256", json!("ä".repeat(32))), "pin-sha256 is not a SHA-256 hash"),
        (with("properties", json!({})), "properties is not a list"),
        (textures(json!("textures")), "one is not an object"),
        (textures(json!({"value": "e30="})), "properties: name is missing"),
        (textures(json!({"name": "textures"})), "properties: value is missing"),
        (textures(json!({"name": "bungeeguard-token", "value": "e30="})), "not \"bungeeguard-token\""),
        (textures(json!({"name": "textures", "value": ""})), "the value is not base64"),
        (textures(json!({"name": "textures", "value": "a b"})), "the value is not base64"),
        (textures(json!({"name": "textures", "value": "e30==="})), "the value is not base64"),
        (textures(json!({"name": "textures", "value": "e".repeat(32_768)})), "the value is not base64"),
        (
            textures(json!({"name": "textures", "value": "e30=", "signature": 1})),
            "the signature is not base64",
        ),
        (
            textures(json!({"name": "textures", "value": "e30=", "signature": "e".repeat(1025)})),
            "the signature is not base64",
        ),
        (
            with(
                "properties",
                json!([{"name": "textures", "value": "e30="}, {"name": "textures", "value": "e30="}]),
            ),
            "twice",
        ),
    ] {
        let why = read(&row).unwrap_err();
        assert!(why.contains(words), "{row}: {why}");
        assert!(why.len() < 300 && !why.contains('\n') && !why.contains("123456"), "{why}");
    }
}

#[test]
fn what_is_odd_but_right_is_noted() {
    let odd = with("ip", json!("192.168.0.7"));
    assert!(read(&odd).unwrap().notes[0].contains("192.168.0.7 is a private address"));
    let unknown = with("las-login\u{202e}", json!(1));
    assert!(read(&unknown).unwrap().notes[0].contains("\"las-login�\" is not known"));
    let soon = read(&with("last-login", json!("2026-11-21T20:04:00Z"))).unwrap();
    assert_eq!(soon.session.last_verified, at(NOW), "a clock that is a little ahead");
    let old = read(&with("last-login", json!("2026-10-16T20:00:01Z"))).unwrap();
    assert_eq!(old.session.last_verified, at("2026-10-16T20:00:01Z"), "a second less than 36 days ago");
    let elsewhere = read(&with("last-login", json!("2026-11-20T22:00:00+02:00"))).unwrap();
    assert_eq!(elsewhere.session, read(&row()).unwrap().session);
}

#[test]
fn a_row_with_a_pin_is_noted() {
    let row = read(&with("pin-sha256", json!("ab".repeat(32)))).unwrap();
    assert!(
        row.notes[0].contains("is asked for this PIN") && row.notes[0].contains("delete the file"),
        "{row:?}"
    );
    assert!(!row.notes[0].contains("abab"), "{row:?}");
}

#[test]
fn an_import_over_another_takes_no_lock_away() {
    let now = at(NOW);
    let trusted = Row::read(&row(), Trust::Yes, now).unwrap();
    let denied = Place { country: None, asn: Some(64_496) };
    let known = |locked| Session {
        locked,
        fallback_logins: 3,
        denied_networks: vec![denied],
        addresses: Vec::new(),
        ..trusted.session.clone()
    };
    let import = |row: &Row, known: &Session| Known::of([known]).could_import(row, now).unwrap();
    let stored = import(&trusted, &known(true));
    let carried = Session { fallback_logins: 3, denied_networks: vec![denied], ..trusted.session.clone() };
    assert_eq!(stored, Session { locked: true, ..carried.clone() });
    let told = Told::of(0, &trusted, Ok(&stored));
    assert_eq!(told.outcome, Outcome::Imported);
    assert!(
        told.notes[0].contains("stays so") && told.notes[0].contains("sessions forget Notch"),
        "{told:?}"
    );

    let stored = import(&trusted, &known(false));
    assert_eq!((&stored, Told::of(0, &trusted, Ok(&stored)).notes.len()), (&carried, 0));
    // What was found out here about a PIN is newer than any file; a hash that came with one is not.
    let with_pin =
        |hash: &str| Session { pin_hash: Some(hash.to_owned()), unproven_quarantine: true, ..known(false) };
    let own = import(&trusted, &with_pin("$argon2id$own"));
    assert_eq!((own.pin_hash.as_deref(), own.unproven_quarantine), (Some("$argon2id$own"), true));
    assert_eq!(import(&trusted, &with_pin("$sha256$old")).pin_hash, None);
    // Without trust it is locked anyway, of which nothing has to be said.
    let untrusted = read(&row()).unwrap();
    let stored = import(&untrusted, &known(true));
    assert!(stored.locked && Told::of(0, &untrusted, Ok(&stored)).notes.is_empty());
    assert!(import(&untrusted, &known(false)).locked);
    // After 36 days nothing of it counts, as in everything else.
    let mut unused = known(true);
    unused.last_verified = at("2026-10-01T00:00:00Z");
    assert_eq!(import(&trusted, &unused), trusted.session);
}

#[test]
fn the_second_of_two_rows_is_refused() {
    let other = "169a79f4-44e9-4726-a5be-fca90e38aaf5";
    let mut same_name = with("uuid", json!(other));
    same_name["username"] = json!("NOTCH");
    let rows = [
        with("last-login", json!("2030-01-01T00:00:00Z")),
        row(),
        with("username", json!("Renamed")),
        same_name,
        with("uuid", json!(other)),
    ];
    let (good, refused) = read_rows(&rows, Trust::No, at(NOW));
    // The first row was wrong, so it has taken nothing.
    assert_eq!(good.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    let told: Vec<_> =
        refused.iter().map(|told| (told.index, told.why.as_deref().unwrap(), told.outcome)).collect();
    assert_eq!(
        told,
        [
            (0, "last-login 2030-01-01T00:00:00Z lies in the future", Outcome::Refused),
            (2, "row 1 is about the same id", Outcome::Refused),
            (3, "row 1 has the same name", Outcome::Refused),
            (4, "row 1 has the same name", Outcome::Refused),
        ]
    );
    assert_eq!(refused[0].player.as_ref().unwrap().as_str(), "Notch", "named as far as it can be read");
}

#[test]
fn what_was_proven_here_stays() {
    let now = at(NOW);
    let row = read(&row()).unwrap();
    let folder = std::path::Path::new("");
    let verified = |id: Uuid, name: &str, time: &str| {
        Session::after_login(None, &login(id.as_u128(), name, "192.0.2.1"), &config(folder), at(time))
    };
    let (own, other) = (row.session.id, Uuid::from_u128(1));
    let recent = "2026-11-01T00:00:00Z";
    let ahead = "2026-12-01T00:00:00Z";
    let unused = "2026-10-01T00:00:00Z";
    let imported = |id: Uuid, name: &str| {
        let mut session = verified(id, name, recent);
        session.last_with_dialogs = None;
        session
    };
    let held = |imported| Err(Conflict::NameHeld { by: other, imported });
    for (what, sessions, result) in [
        ("nobody", vec![], Ok(&row.session)),
        ("somebody else", vec![verified(other, "Other", recent)], Ok(&row.session)),
        ("the player", vec![verified(own, "Notch", recent)], Err(Conflict::Known)),
        ("the player under another name", vec![verified(own, "Renamed", recent)], Err(Conflict::Known)),
        ("the player, after the clock went back", vec![verified(own, "Notch", ahead)], Err(Conflict::Known)),
        ("the player, long ago", vec![verified(own, "Notch", unused)], Ok(&row.session)),
        ("the player, imported", vec![imported(own, "Notch")], Ok(&row.session)),
        ("who has the name", vec![verified(other, "nOTCH", recent)], held(false)),
        ("who has the name, after the clock went back", vec![verified(other, "Notch", ahead)], held(false)),
        ("who had the name long ago", vec![verified(other, "Notch", unused)], Ok(&row.session)),
        ("who has the name, imported", vec![imported(other, "Notch")], held(true)),
        (
            "the player, imported, and who has the name",
            vec![imported(own, "Renamed"), verified(other, "Notch", recent)],
            held(false),
        ),
    ] {
        assert_eq!(Known::of(&sessions).could_import(&row, now).as_ref(), result.as_ref().copied(), "{what}");
    }
    let told = Told::of(3, &row, Err(Conflict::Known));
    assert_eq!(told.outcome, Outcome::Known);
    assert!(told.why.unwrap().contains("known already"));
}
