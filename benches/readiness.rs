//! What the readiness of a whole store costs: judging 100 000 sessions, and anew under every relaxation that helps.

#![allow(clippy::expect_used, reason = "a benchmark whose set-up is wrong has nothing to measure")]
#![allow(clippy::cast_possible_truncation, reason = "bytes of made-up addresses")]

use std::{collections::HashSet, hint::black_box, net::IpAddr, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use postern::{
    identity::Username,
    place::Place,
    policy::Rules,
    readiness::{Population, Terms},
    session::record::{Rehearsal, Session, VerifiedAddress},
};
use uuid::Uuid;

const SESSIONS: u64 = 100_000;
const HOUR: Duration = Duration::from_hours(1);

fn terms() -> Terms {
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
    Terms { rules, allow_plaintext_fallback: true }
}

/// A player of this number: one in ten too old, one in four from elsewhere, some at one address, some new here.
fn session(number: u64, now: Timestamp) -> Session {
    let [.., b, c, d] = number.to_be_bytes();
    let home: IpAddr =
        if number.is_multiple_of(50) { [81, 2, (number % 90) as u8, 1] } else { [78 + b, c, d, 1] }.into();
    // In the same /20, the same /16, or far away.
    let elsewhere: IpAddr = match number / 4 % 3 {
        0 => [78 + b, c, d ^ 0x07, 1],
        1 => [78 + b, c, d ^ 0x46, 1],
        _ => [178 + b, c, d, 1],
    }
    .into();
    let at = now - (if number.is_multiple_of(10) { 100 } else { 20 }) * HOUR;
    let known = |address, verified| VerifiedAddress { address, verified, place: Place::default() };
    let before = [home, [9, c, d, 1].into()].map(|address| known(address, at - 30 * HOUR));
    let newest = if number.is_multiple_of(4) { elsewhere } else { home };
    Session {
        id: Uuid::from_u128(u128::from(number) << 64 | 1),
        name: Username::parse(&format!("Player{number}")).ok(),
        first_verified: now - 900 * HOUR,
        last_verified: at,
        last_present: None,
        verified_logins: (number % 30) as u32,
        fallback_logins: 0,
        addresses: vec![known(newest, at), known(home, at - 30 * HOUR)],
        last_without_dialogs: None,
        last_with_dialogs: Some(at),
        pin_hash: None,
        unproven_quarantine: false,
        locked: number % 100 == 1,
        denied_networks: Vec::new(),
        rehearsal: Some(Box::new(Rehearsal {
            at,
            address: newest,
            place: Place::default(),
            protocol: 774,
            addresses: before.into(),
        })),
    }
}

fn readiness(c: &mut Criterion) {
    let now: Timestamp = "2026-11-21T20:00:00Z".parse().expect("a time");
    let sessions: Vec<Session> = (0..SESSIONS).map(|number| session(number, now)).collect();
    let terms = terms();
    let population = Population::new(sessions.clone(), now);
    let report = population.report(&terms);
    let ways: usize = report.reasons.iter().map(|cost| cost.relaxations.len()).sum();
    assert!(report.ready > 40_000 && report.not_ready > 30_000 && ways >= 5, "{report:#?}");
    let mut group = c.benchmark_group("readiness");
    group.sample_size(10);
    group.bench_function("gather 100 000 sessions", |b| {
        b.iter_batched(
            || sessions.clone(),
            |sessions| Population::new(sessions, now),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("judge 100 000 sessions, and every relaxation", |b| {
        b.iter(|| population.report(black_box(&terms)));
    });
    group.finish();
}

criterion_group!(benches, readiness);
criterion_main!(benches);
