//! What a verdict costs: it is given for every login of an outage, at its worst when everybody comes back at once.

#![allow(clippy::expect_used, reason = "a benchmark whose set-up is wrong has nothing to measure")]

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use postern::{
    identity::Username,
    place::Place,
    policy::{Bans, Decision, Facts, Location, Rules, judge},
    session::record::{Session, VerifiedAddress},
};
use uuid::Uuid;

const HOUR: Duration = Duration::from_hours(1);

fn rules() -> Rules {
    Rules {
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
        require_mojang_auth: (0..100).map(|n| Uuid::from_u128(1000 + n)).collect(),
        geo_checks: true,
        blocked_asns: std::collections::HashSet::new(),
        deny_on_geo_change: false,
        deny_on_geo_unknown: false,
        pins: true,
        require_pin: false,
        allow_pin_for_changed_address: false,
    }
}

/// A player with as many addresses as a session keeps, coming from `address`.
fn facts(now: Timestamp, address: &str) -> Facts {
    let id = Uuid::from_u128(1);
    let name = Username::parse("Notch").expect("a username");
    let addresses = ["198.51.100.1", "192.0.2.1", "2001:db8::1", "203.0.113.5"].map(|address| {
        VerifiedAddress { address: ip(address), verified: now - 30 * HOUR, place: Place::default() }
    });
    let session = Session {
        id,
        name: Some(name.clone()),
        first_verified: now - 900 * HOUR,
        last_verified: now - 30 * HOUR,
        last_present: Some(now - 29 * HOUR),
        verified_logins: 40,
        fallback_logins: 2,
        addresses: addresses.into(),
        last_without_dialogs: None,
        last_with_dialogs: Some(now - 30 * HOUR),
        pin_hash: None,
        unproven_quarantine: false,
        locked: false,
        denied_networks: Vec::new(),
        rehearsal: None,
    };
    Facts {
        name,
        claimed_id: Some(id),
        address: ip(address),
        session: Some(Arc::new(session)),
        outage_started: now - HOUR,
        accounts_at_address: 1,
        online: None,
        bans: Bans::default(),
        location: Location::Known(Place { country: None, asn: Some(64_496) }),
        has_dialogs: true,
        wrong_pin_codes: 0,
        pin_proven: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn verdict(c: &mut Criterion) {
    let now: Timestamp = "2026-11-21T20:00:00Z".parse().expect("a time");
    let rules = rules();
    let home = facts(now, "203.0.113.5");
    let abroad = facts(now, "203.0.115.5");
    assert!(matches!(judge(&rules, &home, now), Decision::Admit { .. }));
    assert!(matches!(judge(&rules, &abroad, now), Decision::Refuse { .. }));
    c.bench_function("policy/admit", |b| b.iter(|| judge(&rules, black_box(&home), now)));
    c.bench_function("policy/refuse", |b| b.iter(|| judge(&rules, black_box(&abroad), now)));
}

criterion_group!(benches, verdict);
criterion_main!(benches);
