use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::*;
use crate::{
    place::{Country, Place},
    policy::{
        evidence::FoundBy,
        facts::{Bans, Online, Proof},
    },
    session::record::{Session, VerifiedAddress},
};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const NOTCH: Uuid = Uuid::from_u128(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5);
const OTHER: Uuid = Uuid::from_u128(0x6124_6bbc_0000_4000_8000_0000_0000_0001);
const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.77";
const ABROAD: &str = "198.51.100.9";

fn now() -> Timestamp {
    "2026-11-21T20:00:00Z".parse().unwrap()
}

fn ago(age: Duration) -> Timestamp {
    now() - age
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn username(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn seen(address: &str, age: Duration) -> VerifiedAddress {
    VerifiedAddress { address: ip(address), verified: ago(age), place: Place::default() }
}

fn online(proof: Proof, address_match: AddressMatch) -> Online {
    Online { proof, same_exact_address: false, silent_for: Duration::ZERO, address_match }
}

/// An attempt in parts that a row can alter; unaltered it is admitted.
#[derive(Clone)]
struct Scene {
    rules: Rules,
    /// `None` in a row about a player without one.
    session: Option<Session>,
    name: Username,
    claimed_id: Option<Uuid>,
    address: IpAddr,
    outage_started: Timestamp,
    accounts_at_address: u32,
    online: Option<Online>,
    bans: Bans,
    location: Location,
    has_dialogs: bool,
    wrong_pin_codes: u32,
    pin_proven: bool,
}

impl Scene {
    /// Notch, from home, an hour into an outage, last verified an hour before it.
    fn new() -> Self {
        let session = Session {
            id: NOTCH,
            name: Some(username("Notch")),
            first_verified: ago(500 * HOUR),
            last_verified: ago(2 * HOUR),
            last_present: None,
            verified_logins: 3,
            fallback_logins: 0,
            addresses: vec![seen(HOME, 2 * HOUR)],
            last_without_dialogs: None,
            last_with_dialogs: None,
            pin_hash: None,
            locked: false,
            unproven_quarantine: false,
            denied_networks: Vec::new(),
            rehearsal: None,
        };
        let rules = Rules {
            max_session_age: 72 * HOUR,
            recent_activity: Some(30 * 24 * HOUR),
            min_login_history: 3,
            trust_private_addresses: false,
            max_accounts_per_address: 5,
            strict_ip_check: true,
            allow_ip_range_match: true,
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
            max_address_age: 168 * HOUR,
            require_mojang_auth: HashSet::new(),
            geo_checks: true,
            blocked_asns: HashSet::new(),
            deny_on_geo_change: false,
            deny_on_geo_unknown: false,
            pins: true,
            require_pin: false,
            allow_pin_for_changed_address: false,
        };
        Self {
            rules,
            session: Some(session),
            name: username("Notch"),
            claimed_id: Some(NOTCH),
            address: ip(HOME),
            outage_started: ago(HOUR),
            accounts_at_address: 1,
            online: None,
            bans: Bans::default(),
            location: Location::NotAsked,
            has_dialogs: true,
            wrong_pin_codes: 0,
            pin_proven: false,
        }
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    /// The last verified presence, with an address that stays live, and an outage that begins now.
    fn present(&mut self, age: Duration) {
        self.session().last_verified = ago(age);
        self.outage_started = now();
    }

    /// Where the client address is, and where the verified ones are.
    fn places(&mut self, here: Place, verified: Place) {
        self.location = Location::Known(here);
        for seen in &mut self.session().addresses {
            seen.place = verified;
        }
    }

    fn from(&mut self, address: &str) {
        self.address = ip(address);
    }

    fn facts(&self) -> Facts {
        Facts {
            name: self.name.clone(),
            claimed_id: self.claimed_id,
            address: self.address,
            session: self.session.clone().map(Arc::new),
            outage_started: self.outage_started,
            accounts_at_address: self.accounts_at_address,
            online: self.online,
            bans: self.bans,
            location: self.location,
            has_dialogs: self.has_dialogs,
            wrong_pin_codes: self.wrong_pin_codes,
            pin_proven: self.pin_proven,
        }
    }

    fn judge(&self) -> Decision {
        judge(&self.rules, &self.facts(), now())
    }
}

type Row = (&'static str, fn(&mut Scene), Option<Reason>);

/// `None` stands for an admission.
fn check(rows: &[Row]) {
    for (name, alter, expected) in rows {
        let mut scene = Scene::new();
        alter(&mut scene);
        let got = match scene.judge() {
            Decision::Admit { .. } => None,
            Decision::Refuse { reason, .. } => Some(reason),
        };
        assert_eq!(got, *expected, "{name}");
    }
}

fn admitted(alter: impl FnOnce(&mut Scene)) -> (Permit, Evidence) {
    let mut scene = Scene::new();
    alter(&mut scene);
    match scene.judge() {
        Decision::Admit { permit, evidence } => (permit, evidence),
        Decision::Refuse { reason, .. } => panic!("refused: {reason}"),
    }
}

#[test]
fn unaltered() {
    let (permit, _) = admitted(|_| ());
    assert_eq!(permit.id(), NOTCH);
    assert_eq!(permit.name().as_str(), "Notch");
    assert_eq!(permit.address_match(), AddressMatch::Exact);
    assert_eq!(permit.displace(), Displace::Nobody);
}

#[test]
fn mojang_required() {
    check(&[
        ("another id is listed", |s| s.rules.require_mojang_auth = [OTHER].into(), None),
        (
            "the session's id is listed",
            |s| s.rules.require_mojang_auth = [NOTCH].into(),
            Some(Reason::MojangRequired),
        ),
        (
            "the session's id is listed, nothing is claimed",
            |s| {
                s.rules.require_mojang_auth = [NOTCH].into();
                s.claimed_id = None;
            },
            Some(Reason::MojangRequired),
        ),
        (
            "the claimed id is listed, the session's is another",
            |s| {
                s.rules.require_mojang_auth = [OTHER].into();
                s.claimed_id = Some(OTHER);
            },
            Some(Reason::MojangRequired),
        ),
        (
            "the claimed id is listed, there is no session",
            |s| {
                s.rules.require_mojang_auth = [NOTCH].into();
                s.session = None;
            },
            Some(Reason::MojangRequired),
        ),
    ]);
}

#[test]
fn no_session() {
    check(&[
        ("none", |s| s.session = None, Some(Reason::NoSession)),
        ("found by name, spelt otherwise", |s| s.name = username("nOTCH"), None),
        ("found by name, nothing claimed", |s| s.claimed_id = None, None),
        ("found by claimed id after a change of name", |s| s.name = username("Markus"), None),
        (
            "neither name nor claimed id is the session's",
            |s| {
                s.name = username("Markus");
                s.claimed_id = Some(OTHER);
            },
            Some(Reason::NoSession),
        ),
        (
            "another name, nothing claimed",
            |s| {
                s.name = username("Markus");
                s.claimed_id = None;
            },
            Some(Reason::NoSession),
        ),
        ("the session has lost its name", |s| s.session().name = None, Some(Reason::NoSession)),
    ]);
}

#[test]
fn id_mismatch() {
    check(&[
        ("the same", |s| s.claimed_id = Some(NOTCH), None),
        ("none, as before protocol 764", |s| s.claimed_id = None, None),
        ("another", |s| s.claimed_id = Some(OTHER), Some(Reason::IdMismatch)),
        ("nil is a claim too", |s| s.claimed_id = Some(Uuid::nil()), Some(Reason::IdMismatch)),
    ]);
}

#[test]
fn locked() {
    check(&[("locked", |s| s.session().locked = true, Some(Reason::Locked))]);
}

#[test]
fn session_expired() {
    check(&[
        ("exactly at the limit", |s| s.present(72 * HOUR), None),
        ("a second above", |s| s.present(72 * HOUR + SECOND), Some(Reason::SessionExpired)),
        (
            "the end of a verified connection counts",
            |s| {
                s.present(500 * HOUR);
                s.session().last_present = Some(ago(72 * HOUR));
            },
            None,
        ),
        (
            "the later of both counts",
            |s| {
                s.present(72 * HOUR);
                s.session().last_present = Some(ago(500 * HOUR));
            },
            None,
        ),
        (
            "counted to the start of the outage",
            |s| {
                s.present(172 * HOUR);
                s.outage_started = ago(100 * HOUR);
            },
            None,
        ),
        (
            "counted to the start of the outage, a second above",
            |s| {
                s.present(172 * HOUR + SECOND);
                s.outage_started = ago(100 * HOUR);
            },
            Some(Reason::SessionExpired),
        ),
        (
            "7 days of grace in full",
            |s| {
                s.present(240 * HOUR);
                s.outage_started = ago(168 * HOUR);
            },
            None,
        ),
        (
            "no more than 7 days of grace",
            |s| {
                s.present(240 * HOUR + SECOND);
                s.outage_started = ago(1000 * HOUR);
            },
            Some(Reason::SessionExpired),
        ),
        ("verified during the outage", |s| s.session().last_verified = ago(SECOND), None),
        (
            "an outage that begins in the future gives no grace",
            |s| {
                s.present(72 * HOUR + SECOND);
                s.outage_started = now() + 50 * HOUR;
            },
            Some(Reason::SessionExpired),
        ),
        ("five minutes in the future is now", |s| s.session().last_verified = now() + 300 * SECOND, None),
        (
            "further in the future is never",
            |s| s.session().last_verified = now() + 301 * SECOND,
            Some(Reason::SessionExpired),
        ),
        (
            "a presence in the future does not spoil a good login",
            |s| s.session().last_present = Some(now() + 1000 * HOUR),
            None,
        ),
        (
            "a presence in the future does not freshen an old login",
            |s| {
                s.present(73 * HOUR);
                s.session().last_present = Some(now() + 1000 * HOUR);
            },
            Some(Reason::SessionExpired),
        ),
        (
            "36 days, the rules generous",
            |s| {
                s.rules.max_session_age = 10_000 * HOUR;
                s.rules.recent_activity = None;
                s.present(36 * 24 * HOUR);
            },
            None,
        ),
        (
            "more than 36 days, the rules generous: the name may be another's by now",
            |s| {
                s.rules.max_session_age = 10_000 * HOUR;
                s.rules.recent_activity = None;
                s.present(36 * 24 * HOUR + SECOND);
                s.outage_started = ago(100 * HOUR);
            },
            Some(Reason::SessionExpired),
        ),
    ]);
}

#[test]
fn inactive() {
    check(&[
        (
            "exactly at the limit",
            |s| {
                s.rules.recent_activity = Some(48 * HOUR);
                s.present(48 * HOUR);
            },
            None,
        ),
        (
            "a second above",
            |s| {
                s.rules.recent_activity = Some(48 * HOUR);
                s.present(48 * HOUR + SECOND);
            },
            Some(Reason::Inactive),
        ),
        (
            "counted to now, whenever the outage began",
            |s| {
                s.rules.recent_activity = Some(48 * HOUR);
                s.present(49 * HOUR);
                s.outage_started = ago(48 * HOUR);
            },
            Some(Reason::Inactive),
        ),
        (
            "presence counts as activity",
            |s| {
                s.rules.recent_activity = Some(48 * HOUR);
                s.present(49 * HOUR);
                s.session().last_present = Some(ago(HOUR));
            },
            None,
        ),
        (
            "not required",
            |s| {
                s.rules.recent_activity = None;
                s.present(72 * HOUR);
            },
            None,
        ),
    ]);
}

#[test]
fn short_history() {
    check(&[
        ("exactly enough", |s| s.session().verified_logins = 3, None),
        ("one short", |s| s.session().verified_logins = 2, Some(Reason::ShortHistory)),
        (
            "logins admitted by policy prove nothing",
            |s| {
                s.session().verified_logins = 2;
                s.session().fallback_logins = 50;
            },
            Some(Reason::ShortHistory),
        ),
        (
            "none wanted",
            |s| {
                s.session().verified_logins = 0;
                s.rules.min_login_history = 0;
            },
            None,
        ),
    ]);
}

#[test]
fn private_address() {
    fn at(scene: &mut Scene, address: &str) {
        scene.from(address);
        scene.session().addresses = vec![seen(address, HOUR)];
    }
    check(&[
        ("loopback", |s| at(s, "127.0.0.1"), Some(Reason::PrivateAddress)),
        ("private", |s| at(s, "192.168.1.5"), Some(Reason::PrivateAddress)),
        ("private, mapped", |s| at(s, "::ffff:192.168.1.5"), Some(Reason::PrivateAddress)),
        ("link-local", |s| at(s, "169.254.7.7"), Some(Reason::PrivateAddress)),
        ("carrier-grade NAT", |s| at(s, "100.64.0.9"), Some(Reason::PrivateAddress)),
        ("unique local", |s| at(s, "fd12::9"), Some(Reason::PrivateAddress)),
        (
            "trusted",
            |s| {
                at(s, "192.168.1.5");
                s.rules.trust_private_addresses = true;
            },
            None,
        ),
        (
            "not excused by lax address rules",
            |s| {
                at(s, "192.168.1.5");
                s.rules.strict_ip_check = false;
            },
            Some(Reason::PrivateAddress),
        ),
    ]);
}

#[test]
fn shared_address() {
    check(&[
        ("exactly as many as allowed", |s| s.accounts_at_address = 5, None),
        ("one more", |s| s.accounts_at_address = 6, Some(Reason::SharedAddress)),
        (
            "one more, but with a PIN",
            |s| {
                s.accounts_at_address = 6;
                s.session().pin_hash = Some("$argon2id$".to_owned());
            },
            None,
        ),
    ]);
}

#[test]
fn address_changed() {
    check(&[
        ("in the range of a verified one", |s| s.from(NEXT_DOOR), None),
        ("elsewhere", |s| s.from(ABROAD), Some(Reason::AddressChanged)),
        ("the other family", |s| s.from("2001:db8::1"), Some(Reason::AddressChanged)),
        (
            "in the range, which does not count",
            |s| {
                s.from(NEXT_DOOR);
                s.rules.allow_ip_range_match = false;
            },
            Some(Reason::AddressChanged),
        ),
        ("exact, where ranges do not count", |s| s.rules.allow_ip_range_match = false, None),
        (
            "just outside a wider range",
            |s| {
                s.from("203.0.128.1");
                s.rules.ipv4_range_prefix = 17;
            },
            Some(Reason::AddressChanged),
        ),
        (
            "just inside a wider range",
            |s| {
                s.from("203.0.127.255");
                s.rules.ipv4_range_prefix = 17;
            },
            None,
        ),
        ("exact, mapped into IPv6", |s| s.from("::ffff:203.0.113.5"), None),
        ("exact, stored mapped", |s| s.session().addresses = vec![seen("::ffff:203.0.113.5", HOUR)], None),
        (
            "an IPv6 range",
            |s| {
                s.from("2001:db8:0:7:aaaa::1");
                s.session().addresses = vec![seen("2001:db8:0:7::1", HOUR)];
            },
            None,
        ),
        (
            "the next IPv6 range",
            |s| {
                s.from("2001:db8:0:8::1");
                s.session().addresses = vec![seen("2001:db8:0:7::1", HOUR)];
            },
            Some(Reason::AddressChanged),
        ),
        ("an older one of several", |s| s.session().addresses.insert(0, seen(ABROAD, HOUR)), None),
        (
            "verified exactly max-address-age ago",
            |s| s.session().addresses = vec![seen(HOME, 168 * HOUR)],
            None,
        ),
        (
            "verified longer ago",
            |s| s.session().addresses = vec![seen(HOME, 168 * HOUR + SECOND)],
            Some(Reason::AddressChanged),
        ),
        (
            "counted to now, whenever the outage began",
            |s| {
                s.session().addresses = vec![seen(HOME, 169 * HOUR)];
                s.outage_started = ago(100 * HOUR);
            },
            Some(Reason::AddressChanged),
        ),
        (
            "verified in the future",
            |s| s.session().addresses = vec![VerifiedAddress { verified: now() + HOUR, ..seen(HOME, HOUR) }],
            Some(Reason::AddressChanged),
        ),
        (
            "the exact one is too old, another in its range is not",
            |s| s.session().addresses = vec![seen(HOME, 169 * HOUR), seen(NEXT_DOOR, HOUR)],
            None,
        ),
        ("none on record", |s| s.session().addresses.clear(), Some(Reason::AddressChanged)),
        (
            "only recorded",
            |s| {
                s.from(ABROAD);
                s.rules.strict_ip_check = false;
            },
            None,
        ),
    ]);
}

fn place(country: &str, asn: u32) -> Place {
    Place { country: Country::parse(country), asn: (asn != 0).then_some(asn) }
}

const ALL_BANNED: Bans = Bans { client: true, subnet: true, asn: true, pair: false };

#[test]
fn banned() {
    const BANNED: Option<Reason> = Some(Reason::Banned);
    fn next_door(s: &mut Scene, bans: Bans) {
        s.from(NEXT_DOOR);
        s.bans = bans;
    }
    check(&[
        ("all but the pair, at an exact verified address", |s| s.bans = ALL_BANNED, None),
        ("the pair, there", |s| s.bans.pair = true, BANNED),
        ("the address, in the range", |s| next_door(s, Bans { client: true, ..Bans::default() }), BANNED),
        ("the subnet, in the range", |s| next_door(s, Bans { subnet: true, ..Bans::default() }), BANNED),
        ("the network, in the range", |s| next_door(s, Bans { asn: true, ..Bans::default() }), BANNED),
        ("the pair, in the range", |s| next_door(s, Bans { pair: true, ..Bans::default() }), BANNED),
        ("none, in the range", |s| next_door(s, Bans::default()), None),
        (
            "an exact address that counts no more",
            |s| {
                s.bans = ALL_BANNED;
                s.session().addresses = vec![seen(HOME, 200 * HOUR)];
            },
            BANNED,
        ),
        (
            "nobody whom anything was verified for",
            |s| {
                s.bans = ALL_BANNED;
                s.session = None;
            },
            BANNED,
        ),
        (
            "addresses are only recorded",
            |s| {
                next_door(s, ALL_BANNED);
                s.rules.strict_ip_check = false;
            },
            BANNED,
        ),
    ]);
}

#[test]
fn blocked_asn() {
    const BLOCKED: Option<Reason> = Some(Reason::BlockedAsn);
    fn block(s: &mut Scene, location: Location) {
        s.rules.blocked_asns = [64_496].into();
        s.location = location;
    }
    check(&[
        ("blocked, though exact", |s| block(s, Location::Known(place("DE", 64_496))), BLOCKED),
        ("another", |s| block(s, Location::Known(place("DE", 64_497))), None),
        ("unknown, exact", |s| block(s, Location::Unknown), None),
        ("not asked, exact", |s| block(s, Location::NotAsked), None),
        ("country only, exact", |s| block(s, Location::Known(place("DE", 0))), None),
        (
            "another, in the range",
            |s| {
                s.from(NEXT_DOOR);
                block(s, Location::Known(place("DE", 64_497)));
            },
            None,
        ),
        (
            "unknown, in the range",
            |s| {
                s.from(NEXT_DOOR);
                block(s, Location::Unknown);
            },
            BLOCKED,
        ),
        (
            "not asked, in the range",
            |s| {
                s.from(NEXT_DOOR);
                block(s, Location::NotAsked);
            },
            BLOCKED,
        ),
        (
            "country only, in the range",
            |s| {
                s.from(NEXT_DOOR);
                block(s, Location::Known(place("DE", 0)));
            },
            BLOCKED,
        ),
        (
            "nothing is blocked",
            |s| {
                s.from(NEXT_DOOR);
                s.location = Location::Unknown;
            },
            None,
        ),
        (
            "switched off",
            |s| {
                block(s, Location::Known(place("DE", 64_496)));
                s.rules.geo_checks = false;
            },
            None,
        ),
    ]);
}

#[test]
fn geo_changed() {
    const CHANGED: Option<Reason> = Some(Reason::GeoChanged);
    fn come(s: &mut Scene, here: Place, verified: Place) {
        s.rules.deny_on_geo_change = true;
        s.from(NEXT_DOOR);
        s.places(here, verified);
    }
    check(&[
        ("the same", |s| come(s, place("DE", 1), place("DE", 1)), None),
        ("another country", |s| come(s, place("FR", 1), place("DE", 1)), CHANGED),
        ("another network", |s| come(s, place("DE", 2), place("DE", 1)), CHANGED),
        ("the same country, no network here", |s| come(s, place("DE", 0), place("DE", 1)), None),
        ("the same country, no network there", |s| come(s, place("DE", 1), place("DE", 0)), None),
        ("another country, no network here", |s| come(s, place("FR", 0), place("DE", 1)), CHANGED),
        ("nothing in common to compare", |s| come(s, place("DE", 0), place("", 1)), CHANGED),
        ("nothing known of before", |s| come(s, place("DE", 1), Place::default()), CHANGED),
        ("an answer that tells nothing", |s| come(s, Place::default(), place("DE", 1)), None),
        (
            "not known",
            |s| {
                come(s, Place::default(), place("DE", 1));
                s.location = Location::Unknown;
            },
            None,
        ),
        (
            "an exact verified address",
            |s| {
                come(s, place("FR", 2), place("DE", 1));
                s.session().denied_networks = vec![place("FR", 2)];
                s.from(HOME);
            },
            None,
        ),
        (
            "one of several",
            |s| {
                come(s, place("FR", 2), place("DE", 1));
                let other = VerifiedAddress { place: place("FR", 2), ..seen(ABROAD, HOUR) };
                s.session().addresses.push(other);
            },
            None,
        ),
        (
            "one that counts no more",
            |s| {
                come(s, place("FR", 2), place("DE", 1));
                let other = VerifiedAddress { place: place("FR", 2), ..seen(ABROAD, 200 * HOUR) };
                s.session().addresses.push(other);
            },
            CHANGED,
        ),
        (
            "refused before",
            |s| {
                come(s, place("DE", 1), place("DE", 1));
                s.session().denied_networks = vec![place("DE", 1)];
            },
            CHANGED,
        ),
        (
            "only recorded",
            |s| {
                come(s, place("FR", 2), place("DE", 1));
                s.rules.deny_on_geo_change = false;
            },
            None,
        ),
        (
            "switched off",
            |s| {
                come(s, place("FR", 2), place("DE", 1));
                s.rules.geo_checks = false;
            },
            None,
        ),
    ]);
}

#[test]
fn geo_unknown() {
    const UNKNOWN: Option<Reason> = Some(Reason::GeoUnknown);
    fn deny(s: &mut Scene, location: Location) {
        s.rules.deny_on_geo_unknown = true;
        s.location = location;
    }
    check(&[
        ("known", |s| deny(s, Location::Known(place("DE", 1))), None),
        ("known in part", |s| deny(s, Location::Known(place("", 1))), None),
        ("an answer that tells nothing", |s| deny(s, Location::Known(Place::default())), UNKNOWN),
        ("not known", |s| deny(s, Location::Unknown), UNKNOWN),
        ("not asked", |s| deny(s, Location::NotAsked), UNKNOWN),
        (
            "a trusted private address",
            |s| {
                deny(s, Location::Unknown);
                s.rules.trust_private_addresses = true;
                s.from("10.0.0.7");
                s.session().addresses = vec![seen("10.0.0.7", HOUR)];
            },
            None,
        ),
        (
            "switched off",
            |s| {
                deny(s, Location::Unknown);
                s.rules.geo_checks = false;
            },
            None,
        ),
    ]);
}

/// The provider is asked as late as can be, and only if its answer matters.
#[test]
fn when_to_ask_where_an_address_is() {
    let wants = |alter: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        scene.rules.deny_on_geo_unknown = true;
        alter(&mut scene);
        wants_location(&scene.rules, &scene.facts(), now())
    };
    assert!(wants(&|_| ()));
    let other_rules = |s: &mut Scene| s.rules.deny_on_geo_unknown = false;
    assert!(wants(&|s| {
        other_rules(s);
        s.rules.deny_on_geo_change = true;
    }));
    assert!(wants(&|s| {
        other_rules(s);
        s.rules.blocked_asns = [1].into();
    }));
    assert!(!wants(&other_rules), "no rule would weigh it");
    assert!(!wants(&|s| s.rules.geo_checks = false));
    assert!(!wants(&|s| s.location = Location::Unknown), "asked already");
    assert!(!wants(&|s| s.location = Location::Known(place("DE", 1))), "known already");
    assert!(
        wants(&|s| s.online = Some(online(Proof::Verified, AddressMatch::Exact))),
        "checks below do not matter"
    );
    for refused in [
        &(|s: &mut Scene| s.from(ABROAD)) as &dyn Fn(&mut Scene),
        &|s| s.session = None,
        &|s| s.bans.pair = true,
        &|s| s.session().locked = true,
        &|s| s.accounts_at_address = 6,
    ] {
        assert!(!wants(refused));
    }
}

#[test]
fn all_objections_are_told_in_order() {
    let mut scene = Scene::new();
    assert_eq!(objections(&scene.rules, &scene.facts(), now()), []);
    scene.from(ABROAD);
    scene.session().verified_logins = 1;
    scene.rules.deny_on_geo_unknown = true;
    let expected = [Reason::ShortHistory, Reason::AddressChanged, Reason::GeoUnknown];
    assert_eq!(objections(&scene.rules, &scene.facts(), now()), expected);
    scene.session = None;
    scene.bans.subnet = true;
    assert_eq!(objections(&scene.rules, &scene.facts(), now()), [Reason::Banned, Reason::NoSession]);
}

#[test]
fn the_permit_tells_the_address_match() {
    let best = |alter: fn(&mut Scene)| admitted(alter).0.address_match();
    assert_eq!(best(|_| ()), AddressMatch::Exact);
    assert_eq!(best(|s| s.from(NEXT_DOOR)), AddressMatch::Range);
    assert_eq!(best(|s| s.session().addresses.insert(0, seen(NEXT_DOOR, HOUR))), AddressMatch::Exact);
    let abroad = |s: &mut Scene| {
        s.from(ABROAD);
        s.rules.strict_ip_check = false;
    };
    assert_eq!(best(abroad), AddressMatch::None);
}

#[test]
fn already_online() {
    const TAKEN: Option<Reason> = Some(Reason::AlreadyOnline);
    check(&[
        ("verified", |s| s.online = Some(online(Proof::Verified, AddressMatch::None)), TAKEN),
        ("by PIN", |s| s.online = Some(online(Proof::Pinned, AddressMatch::None)), TAKEN),
        (
            "unproven, exact like this one",
            |s| s.online = Some(online(Proof::Fallback, AddressMatch::Exact)),
            TAKEN,
        ),
        (
            "unproven, a range match like this one",
            |s| {
                s.from(NEXT_DOOR);
                s.online = Some(online(Proof::Fallback, AddressMatch::Range));
            },
            TAKEN,
        ),
        (
            "unproven, a better match than this one",
            |s| {
                s.from(NEXT_DOOR);
                s.online = Some(online(Proof::Fallback, AddressMatch::Exact));
            },
            TAKEN,
        ),
        (
            "unproven, no match, this one a range match",
            |s| {
                s.from(NEXT_DOOR);
                s.online = Some(online(Proof::Fallback, AddressMatch::None));
            },
            TAKEN,
        ),
        (
            "silent, but from elsewhere",
            |s| {
                let up = online(Proof::Verified, AddressMatch::None);
                s.online = Some(Online { silent_for: 60 * SECOND, ..up });
            },
            TAKEN,
        ),
        (
            "from the same address, but heard of a moment ago",
            |s| {
                s.online = Some(Online {
                    same_exact_address: true,
                    silent_for: Duration::from_millis(4999),
                    ..online(Proof::Verified, AddressMatch::Exact)
                });
            },
            TAKEN,
        ),
    ]);
}

#[test]
fn what_gives_way() {
    let dead = |proof, address_match| Online {
        same_exact_address: true,
        silent_for: 5 * SECOND,
        ..online(proof, address_match)
    };
    for (name, up, expected) in [
        ("a verified dead link", dead(Proof::Verified, AddressMatch::Exact), Displace::DeadLink),
        ("a dead link proven by PIN", dead(Proof::Pinned, AddressMatch::Exact), Displace::DeadLink),
        ("an unproven dead link", dead(Proof::Fallback, AddressMatch::Exact), Displace::DeadLink),
        ("a range match", online(Proof::Fallback, AddressMatch::Range), Displace::WeakerMatch),
        ("no match at all", online(Proof::Fallback, AddressMatch::None), Displace::WeakerMatch),
    ] {
        let (permit, _) = admitted(|s| s.online = Some(up));
        assert_eq!(permit.displace(), expected, "{name}");
    }
}

#[test]
fn a_changed_name_is_admitted_under_the_stored_one() {
    let (permit, evidence) = admitted(|s| s.name = username("Markus"));
    assert_eq!((permit.name().as_str(), permit.id()), ("Notch", NOTCH));
    assert_eq!(evidence.found_by, Some(FoundBy::ClaimedId));
    let (permit, evidence) = admitted(|s| s.name = username("NOTCH"));
    assert_eq!(permit.name().as_str(), "Notch");
    assert_eq!(evidence.found_by, Some(FoundBy::Name));
}

/// A player with a PIN, and an old client.
fn old_client(s: &mut Scene) {
    s.session().pin_hash = Some("$argon2id$".to_owned());
    s.has_dialogs = false;
}

#[test]
fn weaker_client() {
    const WEAKER: Option<Reason> = Some(Reason::WeakerClient);
    fn used(s: &mut Scene, with: Option<Duration>, without: Option<Duration>) {
        s.has_dialogs = false;
        s.session().last_with_dialogs = with.map(ago);
        s.session().last_without_dialogs = without.map(ago);
    }
    check(&[
        (
            "only newer ones were used",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), None);
            },
            WEAKER,
        ),
        (
            "the same with a newer one",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), None);
                s.has_dialogs = true;
            },
            None,
        ),
        ("no PIN", |s| used(s, Some(2 * HOUR), None), None),
        (
            "the same where there are no PINs",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), None);
                s.rules.pins = false;
            },
            None,
        ),
        (
            "also from home with the right PIN",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), None);
                s.pin_proven = true;
            },
            WEAKER,
        ),
        (
            "only older ones were used",
            |s| {
                old_client(s);
                used(s, None, Some(2 * HOUR));
            },
            None,
        ),
        (
            "an older one within max-session-age, counted to the start of the outage",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), Some(73 * HOUR));
            },
            None,
        ),
        (
            "an older one a second before that",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), Some(73 * HOUR + SECOND));
            },
            WEAKER,
        ),
        (
            "an older one in the future proves nothing",
            |s| {
                old_client(s);
                used(s, Some(2 * HOUR), None);
                s.session().last_with_dialogs = Some(now() + 3 * HOUR);
                s.session().last_without_dialogs = Some(now() + 2 * HOUR);
            },
            WEAKER,
        ),
        (
            "long online with an older one, which was the newest",
            |s| {
                old_client(s);
                used(s, Some(200 * HOUR), Some(100 * HOUR));
            },
            None,
        ),
        (
            "long online with a newer one",
            |s| {
                old_client(s);
                used(s, Some(100 * HOUR), Some(200 * HOUR));
            },
            WEAKER,
        ),
        ("an import, of which nothing is known", old_client, None),
    ]);
}

#[test]
fn pin_not_set() {
    check(&[
        ("not required", |_| (), None),
        ("required", |s| s.rules.require_pin = true, Some(Reason::PinNotSet)),
        (
            "required and there",
            |s| {
                s.rules.require_pin = true;
                s.session().pin_hash = Some("$argon2id$".to_owned());
            },
            None,
        ),
        (
            "required, but there are no PINs: nobody is let in by a mistake",
            |s| {
                s.rules.require_pin = true;
                s.rules.pins = false;
                s.session().pin_hash = Some("$argon2id$".to_owned());
            },
            Some(Reason::PinNotSet),
        ),
    ]);
}

#[test]
fn pin_failed() {
    const BARRED: Option<Reason> = Some(Reason::PinFailed);
    fn guessed(s: &mut Scene, codes: u32, address: &str) {
        s.session().pin_hash = Some("$argon2id$".to_owned());
        s.wrong_pin_codes = codes;
        s.from(address);
    }
    fn unproven(s: &mut Scene, address: &str) {
        old_client(s);
        s.session().unproven_quarantine = true;
        s.from(address);
    }
    check(&[
        ("19 wrong codes, from next door", |s| guessed(s, 19, NEXT_DOOR), None),
        ("20 wrong codes, from next door", |s| guessed(s, 20, NEXT_DOOR), BARRED),
        ("20 wrong codes, from home", |s| guessed(s, 20, HOME), None),
        (
            "20 wrong codes, from an address that was home once",
            |s| {
                guessed(s, 20, NEXT_DOOR);
                s.session().addresses.push(seen(NEXT_DOOR, 200 * HOUR));
            },
            BARRED,
        ),
        (
            "20 wrong codes while this one was asked",
            |s| {
                guessed(s, 20, NEXT_DOOR);
                s.pin_proven = true;
            },
            BARRED,
        ),
        (
            "20 wrong codes, where there are no PINs",
            |s| {
                guessed(s, 20, NEXT_DOOR);
                s.rules.pins = false;
            },
            None,
        ),
        ("after an unproven quarantine, from next door", |s| unproven(s, NEXT_DOOR), BARRED),
        ("after an unproven quarantine, from home", |s| unproven(s, HOME), None),
        (
            "after an unproven quarantine, with a dialog",
            |s| {
                unproven(s, NEXT_DOOR);
                s.has_dialogs = true;
            },
            None,
        ),
        (
            "after another's unproven quarantine that ended while this one was asked",
            |s| {
                unproven(s, NEXT_DOOR);
                s.pin_proven = true;
            },
            None,
        ),
    ]);
}

#[test]
fn a_pin_is_asked_of_whoever_has_one() {
    let must_prove = |alter: fn(&mut Scene)| admitted(alter).0.must_prove_pin();
    assert!(!must_prove(|_| ()));
    assert!(must_prove(|s| s.session().pin_hash = Some("$argon2id$".to_owned())));
    assert!(must_prove(old_client));
    assert!(must_prove(|s| {
        old_client(s);
        s.pin_proven = true;
    }));
    assert!(!must_prove(|s| {
        old_client(s);
        s.rules.pins = false;
    }));
}

/// A connection that is unproven gives way to a PIN; but one that would be asked on its backend meets it there first.
#[test]
fn what_gives_way_to_a_pin() {
    fn silent(s: &mut Scene) {
        s.online = s.online.map(|up| Online { same_exact_address: true, silent_for: 5 * SECOND, ..up });
    }
    let up = |proof| online(proof, AddressMatch::Range);
    let dialog: fn(&mut Scene) = |s| s.session().pin_hash = Some("$argon2id$".to_owned());
    let proven: fn(&mut Scene) = |s| {
        old_client(s);
        s.pin_proven = true;
    };
    let next_door: fn(&mut Scene) = |s| {
        old_client(s);
        s.from(NEXT_DOOR);
    };
    let dead_next_door: fn(&mut Scene) = |s| {
        old_client(s);
        s.from(NEXT_DOOR);
        silent(s);
    };
    let dead_link: fn(&mut Scene) = |s| {
        old_client(s);
        silent(s);
    };
    let proven_after: fn(&mut Scene) = |s| {
        old_client(s);
        silent(s);
        s.pin_proven = true;
    };
    let dialog_after: fn(&mut Scene) = |s| {
        old_client(s);
        silent(s);
        s.has_dialogs = true;
    };
    for (name, alter, proof, expected) in [
        ("asked by a dialog", dialog, Proof::Fallback, Some(Displace::Unproven)),
        ("asked by a dialog, the other on its backend", dialog, Proof::Held, Some(Displace::Unproven)),
        ("asked by a dialog, the other verified", dialog, Proof::Verified, None),
        ("asked by a dialog, the other pinned", dialog, Proof::Pinned, None),
        ("proven", proven, Proof::Fallback, Some(Displace::Unproven)),
        ("proven, the other on its backend", proven, Proof::Held, Some(Displace::Unproven)),
        ("proven, the other verified", proven, Proof::Verified, None),
        ("on its backend, from home", old_client, Proof::Fallback, Some(Displace::WeakerMatch)),
        ("both on their backend, from home", old_client, Proof::Held, Some(Displace::WeakerMatch)),
        ("both on their backend, from next door", next_door, Proof::Held, None),
        ("on its backend, from next door", next_door, Proof::Fallback, None),
        ("on its backend, a dead link", dead_next_door, Proof::Held, Some(Displace::DeadLink)),
        ("on its backend, the other pinned", old_client, Proof::Pinned, None),
        (
            "on its backend, the other verified, a dead link",
            dead_link,
            Proof::Verified,
            Some(Displace::DeadLink),
        ),
        ("on its backend, the other pinned, a dead link", dead_link, Proof::Pinned, Some(Displace::DeadLink)),
        ("proven, the other verified, a dead link", proven_after, Proof::Verified, Some(Displace::DeadLink)),
        ("asked by a dialog, a dead link", dialog_after, Proof::Verified, Some(Displace::DeadLink)),
    ] {
        let mut scene = Scene::new();
        scene.online = Some(up(proof));
        alter(&mut scene);
        let got = match scene.judge() {
            Decision::Admit { permit, .. } => Some(permit.displace()),
            Decision::Refuse { reason, .. } => {
                assert_eq!(reason, Reason::AlreadyOnline, "{name}");
                None
            }
        };
        assert_eq!(got, expected, "{name}");
    }
}

/// A player with a PIN, from abroad but in a network of its own, where that is enough.
fn new_address(s: &mut Scene) {
    s.rules.allow_pin_for_changed_address = true;
    s.session().pin_hash = Some("$argon2id$".to_owned());
    s.from(ABROAD);
    s.places(place("FR", 64_496), place("DE", 64_496));
}

#[test]
fn address_changed_and_left_to_the_pin() {
    const CHANGED: Option<Reason> = Some(Reason::AddressChanged);
    check(&[
        ("a network of its own", new_address, None),
        (
            "not allowed",
            |s| {
                new_address(s);
                s.rules.allow_pin_for_changed_address = false;
            },
            CHANGED,
        ),
        (
            "no PIN",
            |s| {
                new_address(s);
                s.session().pin_hash = None;
            },
            CHANGED,
        ),
        (
            "there are no PINs",
            |s| {
                new_address(s);
                s.rules.pins = false;
            },
            CHANGED,
        ),
        (
            "another network of the same country",
            |s| {
                new_address(s);
                s.places(place("DE", 64_497), place("DE", 64_496));
            },
            CHANGED,
        ),
        (
            "networks that nobody knows are not the same",
            |s| {
                new_address(s);
                s.places(place("DE", 0), place("DE", 0));
            },
            CHANGED,
        ),
        (
            "the network of an address that counts no more",
            |s| {
                new_address(s);
                s.session().addresses[0].verified = ago(169 * HOUR);
            },
            CHANGED,
        ),
        (
            "it was not found out",
            |s| {
                new_address(s);
                s.location = Location::Unknown;
            },
            CHANGED,
        ),
        (
            "a network of its own that is blocked",
            |s| {
                new_address(s);
                s.rules.blocked_asns = [64_496].into();
            },
            Some(Reason::BlockedAsn),
        ),
        (
            "after 20 wrong codes",
            |s| {
                new_address(s);
                s.wrong_pin_codes = 20;
            },
            Some(Reason::PinFailed),
        ),
    ]);
    assert_eq!(admitted(new_address).0.address_match(), AddressMatch::None);
}

#[test]
fn where_a_new_address_is_is_asked_if_a_pin_may_make_up_for_it() {
    let wants = |alter: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        new_address(&mut scene);
        scene.location = Location::NotAsked;
        alter(&mut scene);
        wants_location(&scene.rules, &scene.facts(), now())
    };
    assert!(wants(&|_| ()));
    assert!(
        wants(&|s| s.online = Some(online(Proof::Verified, AddressMatch::Exact))),
        "checks below do not matter"
    );
    for refused in [
        &(|s: &mut Scene| s.rules.allow_pin_for_changed_address = false) as &dyn Fn(&mut Scene),
        &|s| s.rules.geo_checks = false,
        &|s| s.rules.pins = false,
        &|s| s.session().pin_hash = None,
        &|s| s.session().addresses[0].place = Place::default(),
        &|s| s.session().locked = true,
        &|s| s.from(HOME),
        &|s| s.location = Location::Unknown,
    ] {
        assert!(!wants(refused));
    }
}

/// A reason that shows, and what makes it go away.
type Step<'a> = (Reason, &'a dyn Fn(&mut Scene));

/// Everything is wrong; then one thing after another is put right, and the next reason shows.
#[test]
fn the_first_failing_check_gives_the_reason() {
    let mut scene = Scene::new();
    scene.bans.client = true;
    scene.rules.require_mojang_auth = [OTHER].into();
    scene.rules.blocked_asns = [64_496].into();
    scene.rules.deny_on_geo_change = true;
    scene.rules.deny_on_geo_unknown = true;
    scene.places(place("FR", 64_496), place("DE", 64_497));
    scene.rules.max_session_age = HOUR;
    scene.rules.recent_activity = Some(HOUR);
    scene.claimed_id = Some(OTHER);
    scene.from("10.0.0.1");
    scene.accounts_at_address = 6;
    scene.online = Some(online(Proof::Verified, AddressMatch::Exact));
    scene.present(2 * HOUR);
    scene.session().locked = true;
    scene.session().verified_logins = 0;
    scene.session().last_with_dialogs = Some(ago(2 * HOUR));
    scene.has_dialogs = false;
    scene.wrong_pin_codes = 20;
    scene.rules.require_pin = true;
    let session = scene.session.take();

    let steps: &[Step<'_>] = &[
        (Reason::Banned, &|s| s.bans.client = false),
        (Reason::MojangRequired, &|s| s.rules.require_mojang_auth.clear()),
        (Reason::NoSession, &|s| s.session.clone_from(&session)),
        (Reason::IdMismatch, &|s| s.claimed_id = Some(NOTCH)),
        (Reason::Locked, &|s| s.session().locked = false),
        (Reason::SessionExpired, &|s| s.rules.max_session_age = 72 * HOUR),
        (Reason::Inactive, &|s| s.rules.recent_activity = None),
        (Reason::ShortHistory, &|s| s.session().verified_logins = 3),
        (Reason::PrivateAddress, &|s| s.from(ABROAD)),
        (Reason::SharedAddress, &|s| s.session().pin_hash = Some("$argon2id$".to_owned())),
        (Reason::AddressChanged, &|s| s.from(NEXT_DOOR)),
        (Reason::BlockedAsn, &|s| s.rules.blocked_asns.clear()),
        (Reason::GeoChanged, &|s| s.location = Location::Unknown),
        (Reason::GeoUnknown, &|s| s.rules.deny_on_geo_unknown = false),
        (Reason::AlreadyOnline, &|s| s.online = None),
        (Reason::WeakerClient, &|s| {
            s.accounts_at_address = 5;
            s.session().pin_hash = None;
        }),
        (Reason::PinNotSet, &|s| {
            s.session().pin_hash = Some("$argon2id$".to_owned());
            s.has_dialogs = true;
        }),
        (Reason::PinFailed, &|s| s.wrong_pin_codes = 19),
    ];
    for (reason, mend) in steps {
        let Decision::Refuse { reason: got, .. } = scene.judge() else { panic!("admitted before {reason}") };
        assert_eq!(got, *reason);
        mend(&mut scene);
    }
    assert!(matches!(scene.judge(), Decision::Admit { .. }));
    let tested: Vec<_> = steps.iter().map(|(reason, _)| *reason).collect();
    let listed: Vec<_> = CHECKS.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(listed, tested, "every check has its place in this test");
}

#[test]
fn evidence_as_json() {
    let mut scene = Scene::new();
    scene.from(NEXT_DOOR);
    scene.session().addresses = vec![seen(ABROAD, HOUR), seen(NEXT_DOOR, 200 * HOUR)];
    scene.session().pin_hash = Some("$argon2id$secret".to_owned());
    scene.session().last_with_dialogs = Some(ago(HOUR));
    (scene.has_dialogs, scene.wrong_pin_codes) = (false, 21);
    scene.places(place("FR", 64_496), place("DE", 0));
    scene.bans = Bans { subnet: true, pair: true, ..Bans::default() };
    scene.outage_started = ago(Duration::from_mins(90));
    scene.online = Some(Online { silent_for: 2 * SECOND, ..online(Proof::Fallback, AddressMatch::Range) });
    let Decision::Refuse { reason, evidence } = scene.judge() else { panic!("admitted") };
    assert_eq!(reason, Reason::Banned);
    assert_eq!(
        serde_json::to_value(&evidence).unwrap(),
        serde_json::json!({
            "found_by": "name",
            "session_id": NOTCH.to_string(),
            "session_name": "Notch",
            "outage_started": "2026-11-21T18:30:00Z",
            "grace_hours": 1.5,
            "idle_hours": 2.0,
            "session_age_hours": 0.5,
            "verified_logins": 3,
            "fallback_logins": 0,
            "locked": false,
            "has_pin": true,
            "must_prove_pin": true,
            "wrong_pin_codes": 21,
            "pin_barred": "wrong-codes",
            "weaker_client": true,
            "private_address": false,
            "address_match": "none",
            "expired_address_match": "exact",
            "accounts_at_address": 1,
            "banned": ["subnet", "id-and-address"],
            "place": {"country": "FR", "asn": 64_496},
            "known_places": [{"country": "DE"}],
            "geo_changed": true,
            "online": {
                "proof": "fallback",
                "same_exact_address": false,
                "silent_seconds": 2,
                "address_match": "range",
            },
        })
    );
}

#[test]
fn evidence_without_a_session_is_short() {
    let mut scene = Scene::new();
    scene.session = None;
    let Decision::Refuse { evidence, .. } = scene.judge() else { panic!("admitted") };
    assert_eq!(
        serde_json::to_value(&evidence).unwrap(),
        serde_json::json!({
            "outage_started": "2026-11-21T19:00:00Z",
            "grace_hours": 1.0,
            "locked": false,
            "has_pin": false,
            "private_address": false,
            "address_match": "none",
            "accounts_at_address": 1,
            "displaces": "nobody",
        })
    );
}

prop_compose! {
    /// Attempts around every limit.
    fn scenes()(
        (name, claim) in (0..3_u8, 0..3_u8),
        (login_hours, present_hours, outage_hours) in (-10..100_i64, proptest::option::of(-10..100_i64), -10..400_i64),
        (logins, locked, pin, accounts) in (1..8_u32, proptest::bool::weighted(0.1), any::<bool>(), 1..8_u32),
        address in proptest::sample::select(vec![HOME, NEXT_DOOR, ABROAD, "10.0.0.1", "2001:db8::1", "2001:db8::2"]),
        verified in proptest::collection::vec(
            (proptest::sample::select(vec![HOME, NEXT_DOOR, "10.0.0.1", "2001:db8::1"]), -5..200_i64), 0..4),
        up in proptest::option::weighted(0.4, (0..4_u8, any::<bool>(), 0..10_u64, 0..3_u8)),
        (strict, range, trust, required, activity) in
            (any::<bool>(), any::<bool>(), any::<bool>(), proptest::bool::weighted(0.1), any::<bool>()),
        (geo_rules, places, location) in (proptest::option::weighted(0.4, 0..8_u8), (0..3_u32, 0..3_u32), 0..3_u8),
        bans in proptest::option::weighted(0.2, 0..16_u8),
        (has_dialogs, wrong_pin_codes, pin_proven, quarantine) in (
            any::<bool>(),
            proptest::sample::select(vec![0, 0, 0, 19, 20, 21]),
            any::<bool>(),
            proptest::bool::weighted(0.2),
        ),
        (with, without) in (
            proptest::option::weighted(0.3, -10..100_i64),
            proptest::option::weighted(0.3, -10..100_i64),
        ),
        pin_rules in proptest::option::weighted(0.3, 0..8_u8),
    ) -> Scene {
        let hours_ago = |hours: i64| now() - jiff::SignedDuration::from_hours(hours);
        let mut scene = Scene::new();
        scene.rules.strict_ip_check = strict;
        scene.rules.allow_ip_range_match = range;
        scene.rules.trust_private_addresses = trust;
        scene.rules.recent_activity = activity.then_some(60 * HOUR);
        if required {
            scene.rules.require_mojang_auth.insert(OTHER);
        }
        {
            let record = scene.session();
            record.last_verified = hours_ago(login_hours);
            record.last_present = present_hours.map(hours_ago);
            record.verified_logins = logins;
            record.locked = locked;
            record.unproven_quarantine = quarantine;
            record.last_with_dialogs = with.map(hours_ago);
            record.last_without_dialogs = without.map(hours_ago);
            record.pin_hash = pin.then(String::new);
            record.addresses = verified
                .into_iter()
                .map(|(address, hours)| VerifiedAddress { verified: hours_ago(hours), ..seen(address, HOUR) })
                .collect();
        }
        scene.name = username(["Notch", "notch", "Markus"][usize::from(name)]);
        scene.claimed_id = [None, Some(NOTCH), Some(OTHER)][usize::from(claim)];
        scene.address = ip(address);
        scene.outage_started = hours_ago(outage_hours);
        (scene.has_dialogs, scene.wrong_pin_codes, scene.pin_proven) = (has_dialogs, wrong_pin_codes, pin_proven);
        let pin_rules = pin_rules.unwrap_or_default();
        scene.rules.pins = pin_rules & 1 == 0;
        scene.rules.require_pin = pin_rules & 2 != 0;
        scene.rules.allow_pin_for_changed_address = pin_rules & 4 != 0;
        scene.accounts_at_address = accounts;
        let geo_rules = geo_rules.unwrap_or_default();
        scene.rules.blocked_asns = if geo_rules & 1 == 0 { HashSet::new() } else { [2].into() };
        scene.rules.deny_on_geo_change = geo_rules & 2 != 0;
        scene.rules.deny_on_geo_unknown = geo_rules & 4 != 0;
        scene.places(place("DE", places.0), place("DE", places.1));
        match location {
            0 => scene.location = Location::NotAsked,
            1 => scene.location = Location::Unknown,
            _ => {}
        }
        let bans = bans.unwrap_or_default();
        let of = |bit| bans & bit != 0;
        scene.bans = Bans { client: of(1), subnet: of(2), asn: of(4), pair: of(8) };
        scene.online = up.map(|(proof, same_exact_address, silent, matched)| Online {
            proof: [Proof::Verified, Proof::Pinned, Proof::Fallback, Proof::Held][usize::from(proof)],
            same_exact_address,
            silent_for: Duration::from_secs(silent),
            address_match: [AddressMatch::None, AddressMatch::Range, AddressMatch::Exact][usize::from(matched)],
        });
        scene
    }
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene")
            .field("rules", &self.rules)
            .field("name", &self.name)
            .field("claimed_id", &self.claimed_id)
            .field("address", &self.address)
            .field("decision", &self.judge())
            .finish_non_exhaustive()
    }
}

fn admitted_exactly(scene: &Scene) -> bool {
    matches!(scene.judge(), Decision::Admit { permit, .. } if permit.address_match() == AddressMatch::Exact)
}

fn is_admitted(scene: &Scene) -> bool {
    matches!(scene.judge(), Decision::Admit { .. })
}

type Relaxation = (&'static str, fn(&mut Rules));

/// Ways to ask less of a player.
const RELAXATIONS: &[Relaxation] = &[
    ("session age", |r| r.max_session_age += 24 * HOUR),
    ("activity", |r| r.recent_activity = None),
    ("history", |r| r.min_login_history -= 1),
    ("private addresses", |r| r.trust_private_addresses = true),
    ("accounts", |r| r.max_accounts_per_address += 1),
    ("strictness", |r| r.strict_ip_check = false),
    ("ranges", |r| r.allow_ip_range_match = true),
    ("IPv4 range", |r| r.ipv4_range_prefix -= 8),
    ("IPv6 range", |r| r.ipv6_range_prefix -= 16),
    ("address age", |r| r.max_address_age += 24 * HOUR),
    ("always online", |r| r.require_mojang_auth.clear()),
    ("networks", |r| r.blocked_asns.clear()),
    ("foreign places", |r| r.deny_on_geo_change = false),
    ("unknown places", |r| r.deny_on_geo_unknown = false),
    ("all about places", |r| r.geo_checks = false),
    ("players without a PIN", |r| r.require_pin = false),
    ("new addresses of players with a PIN", |r| r.allow_pin_for_changed_address = true),
];

/// Else the properties below would hold for want of cases.
#[test]
fn the_attempts_are_of_both_kinds() {
    let mut runner = TestRunner::deterministic();
    let strategy = scenes();
    let sample = |_| is_admitted(&strategy.new_tree(&mut runner).unwrap().current());
    let admissions = (0..2000).map(sample).filter(|admitted| *admitted).count();
    assert!((100..1900).contains(&admissions), "{admissions} of 2000 admitted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nobody_is_admitted_without_a_session(mut scene in scenes()) {
        scene.session = None;
        prop_assert!(!is_admitted(&scene));
    }

    #[test]
    fn a_permit_names_the_session_and_nothing_else(scene in scenes()) {
        if let Decision::Admit { permit, .. } = scene.judge() {
            prop_assert_eq!(permit.id(), NOTCH);
            prop_assert_eq!(permit.name().as_str(), "Notch");
            prop_assert!(scene.claimed_id.is_none_or(|id| id == NOTCH));
        }
    }

    #[test]
    fn whoever_has_a_pin_is_asked_for_it(scene in scenes()) {
        if let Decision::Admit { permit, evidence } = scene.judge() {
            let has_pin = scene.session.as_ref().is_some_and(|session| session.pin_hash.is_some());
            prop_assert_eq!(permit.must_prove_pin(), has_pin && scene.rules.pins);
            prop_assert_eq!(evidence.must_prove_pin, permit.must_prove_pin());
            prop_assert!(permit.must_prove_pin() || !scene.rules.require_pin);
        }
    }

    #[test]
    fn a_mapped_address_is_judged_like_the_ipv4_address(scene in scenes()) {
        let mut mapped = scene.clone();
        if let IpAddr::V4(v4) = scene.address {
            mapped.address = v4.to_ipv6_mapped().into();
        }
        prop_assert_eq!(mapped.judge(), scene.judge());
    }

    #[test]
    fn asking_less_never_refuses(scene in scenes()) {
        for (name, relax) in RELAXATIONS {
            let mut lax = scene.clone();
            relax(&mut lax.rules);
            prop_assert!(!is_admitted(&scene) || is_admitted(&lax), "{}", name);
        }
    }

    #[test]
    fn failures_elsewhere_never_ban_an_exact_verified_address(scene in scenes(), bans in 0..8_u8) {
        let mut banned = scene.clone();
        banned.bans = Bans { client: bans & 1 != 0, subnet: bans & 2 != 0, asn: bans & 4 != 0, ..scene.bans };
        if admitted_exactly(&scene) {
            prop_assert!(is_admitted(&banned));
        }
    }

    #[test]
    fn the_first_objection_is_the_reason(scene in scenes()) {
        let objections = objections(&scene.rules, &scene.facts(), now());
        match scene.judge() {
            Decision::Admit { .. } => prop_assert_eq!(objections, []),
            Decision::Refuse { reason, .. } => prop_assert_eq!(objections.first(), Some(&reason)),
        }
    }

    #[test]
    fn a_proven_player_gives_way_to_a_dead_links_owner_only(scene in scenes()) {
        if let (Decision::Admit { permit, .. }, Some(up)) = (scene.judge(), scene.online) {
            prop_assert_ne!(permit.displace(), Displace::Nobody);
            if matches!(up.proof, Proof::Verified | Proof::Pinned) {
                prop_assert_eq!(permit.displace(), Displace::DeadLink);
                prop_assert!(up.same_exact_address && up.silent_for >= 5 * SECOND);
            }
        }
    }

    #[test]
    fn waiting_never_helps(scene in scenes(), hours in 0..500_u32) {
        // Times in the future are left out: they come of age by waiting.
        let session = scene.session.as_ref();
        let times = session.into_iter().flat_map(|s| {
            [Some(s.last_verified), s.last_present].into_iter().flatten().chain(s.addresses.iter().map(|a| a.verified))
        });
        prop_assume!(times.into_iter().all(|time| time <= now()) && scene.outage_started <= now());
        let later = judge(&scene.rules, &scene.facts(), now() + hours * HOUR);
        let refused = matches!(later, Decision::Refuse { .. });
        prop_assert!(is_admitted(&scene) || refused);
    }
}
