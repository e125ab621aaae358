//! What people are shown of sessions.

use uuid::Uuid;

use super::*;
use crate::{identity::Username, place::Country, session::record::VerifiedAddress};

fn listed(name: Option<&str>, addresses: &[(&str, Place)]) -> Listed {
    let time = "2026-11-20T20:15:30Z".parse().unwrap();
    let address = |(address, place): &(&str, Place)| VerifiedAddress {
        address: address.parse().unwrap(),
        verified: time,
        place: *place,
    };
    Listed {
        id: "069a79f4-44e9-4726-a5be-fca90e38aaf5".parse::<Uuid>().unwrap(),
        name: name.map(|name| Username::parse(name).unwrap()),
        first_verified: "2026-01-02T03:04:05Z".parse().unwrap(),
        last_verified: time,
        last_seen: "2026-11-21T20:15:30Z".parse().unwrap(),
        verified_logins: 17,
        fallback_logins: 0,
        addresses: addresses.iter().map(address).collect(),
        pin: false,
        unproven_quarantine: false,
        locked: false,
        imported: false,
        denied_networks: Vec::new(),
    }
}

fn here() -> Place {
    Place { country: Country::parse("DE"), asn: Some(4_294_967_295) }
}

#[test]
fn a_list_is_a_table_with_a_count() {
    let mut locked = listed(Some("Notch"), &[("203.0.113.5", here()), ("2001:db8::1", Place::default())]);
    (locked.locked, locked.imported, locked.pin) = (true, true, true);
    let nameless = listed(None, &[]);
    let list = List { known: 3, total: 2, sessions: vec![locked, nameless] };
    let expected = "\
NAME                                  LAST SEEN (UTC)   LOGINS  ADDRESS         PLACE            NOTES
Notch                                 2026-11-21 20:15      17  203.0.113.5 +1  DE AS4294967295  imported, locked, PIN
069a79f4-44e9-4726-a5be-fca90e38aaf5  2026-11-21 20:15      17                                   name lost
2 of 3 players
";
    assert_eq!(table(&list), expected);
    // Places that nobody looked up take no room.
    let plain = List {
        known: 9,
        total: 5,
        sessions: vec![listed(Some("jeb_"), &[("203.0.113.5", Place::default())])],
    };
    let expected = "\
NAME  LAST SEEN (UTC)   LOGINS  ADDRESS
jeb_  2026-11-21 20:15      17  203.0.113.5
1 of 5 that fit, 9 in all
";
    assert_eq!(table(&plain), expected);
    assert_eq!(table(&List { known: 1, total: 0, sessions: vec![] }), "None of 1 player fits.\n");
    assert_eq!(table(&List { known: 2, total: 2, sessions: vec![] }), "0 of 2 that fit, 2 in all\n");
    assert!(table(&List { known: 0, total: 0, sessions: vec![] }).starts_with("Nobody is remembered yet"));
}

#[test]
fn the_longest_common_row_fits_into_100_columns() {
    let mut longest = listed(Some("ABCDEFGHIJKLMNOP"), &[("203.100.113.255", here()); 4]);
    (longest.locked, longest.pin, longest.verified_logins) = (true, true, 999_999);
    let list = List { known: 1, total: 1, sessions: vec![longest] };
    assert!(table(&list).lines().all(|line| line.chars().count() <= 100), "{}", table(&list));
}

#[test]
fn a_portrait_tells_all() {
    let mut session = listed(Some("Notch"), &[("203.0.113.5", here()), ("2001:db8::1", Place::default())]);
    (session.locked, session.imported, session.fallback_logins) = (true, true, 2);
    session.denied_networks = vec![Place { country: Country::parse("XX"), asn: None }];
    let one = One { session, connected: Some("verified".into()), changed: false };
    let expected = "\
Notch (069a79f4-44e9-4726-a5be-fca90e38aaf5)
  last seen   2026-11-21 20:15 UTC (connected now, verified)
  logins      17 verified, the first 2026-01-02 03:04, the newest 2026-11-20 20:15 UTC
              2 during outages, by policy, since it is remembered
  addresses   203.0.113.5      2026-11-20 20:15 UTC  DE AS4294967295
              2001:db8::1      2026-11-20 20:15 UTC
  denied      country XX, no network, until the next verified login
  PIN         none
  locked      until the next verified login
  imported    and not verified here yet
";
    assert_eq!(portrait(&one), expected);
    let mut one = one;
    (one.session.pin, one.session.unproven_quarantine) = (true, true);
    let told = "  PIN         set\n              somebody joined under this name with a game before 1.21.6, and did not know it; ";
    assert!(portrait(&one).contains(told), "{}", portrait(&one));
}

#[test]
fn what_a_proxy_is_asked() {
    let query = Query {
        name: Some("a&b".into()),
        network: Some("2001:db8::/32".parse().unwrap()),
        locked: Some(true),
        seen_since: Some("2026-11-20T20:15:30Z".parse().unwrap()),
        limit: Some(3),
        ..Query::default()
    };
    assert_eq!(
        path(&query),
        "/api/sessions?sort=name&name=a%26b&address=2001%3Adb8%3A%3A%2F32&locked=true\
         &seen_since=2026-11-20T20%3A15%3A30Z&limit=3"
    );
}
