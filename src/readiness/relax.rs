//! The rule behind each reason, and how it could be less strict.

use std::time::Duration;

use serde_json::Value;

use super::{
    Terms,
    terms::{days, hours},
};
use crate::{policy::Rules, reason::Reason, session::record::UNUSED_AFTER};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Terms that are less strict in one key.
pub(super) struct Relaxed {
    pub(super) key: &'static str,
    pub(super) value: Value,
    /// What is given up by it.
    pub(super) gives_up: String,
    /// It switches a protection off: not to be thought of where something milder helps as many.
    pub(super) is_last_resort: bool,
    pub(super) terms: Terms,
}

impl Relaxed {
    fn last_resort(self) -> Self {
        Self { is_last_resort: true, ..self }
    }
}

/// What keeps a player out for this reason: the key, or what else it is.
pub const fn rule(reason: Reason) -> &'static str {
    match reason {
        Reason::MojangRequired => "require-mojang-auth",
        Reason::NoSession => "a name that is somebody else's now",
        Reason::Locked => "a lock",
        Reason::SessionExpired => "max-session-age",
        Reason::Inactive => "recent-activity-days",
        Reason::ShortHistory => "min-login-history",
        Reason::PrivateAddress => "trust-private-addresses",
        Reason::SharedAddress => "max-accounts-per-address",
        Reason::AddressChanged => "strict-ip-check",
        Reason::BlockedAsn => "blocked-asns",
        Reason::GeoChanged => "deny-on-geo-change",
        Reason::GeoUnknown => "deny-on-geo-unknown",
        Reason::WeakerClient => "an older game than the player's own",
        Reason::PinFailed => "a PIN that somebody did not know",
        Reason::PinNotSet => "require-pin-on-fallback",
        Reason::NewerVersionNeeded => "allow-plaintext-fallback",
        // Nothing that can be known beforehand.
        other => other.code(),
    }
}

/// What to do or to know where no number helps; empty if there is nothing.
pub(super) const fn hint(reason: Reason) -> &'static str {
    match reason {
        Reason::MojangRequired => "they are on your list; take off it who may come in without Mojang's word",
        Reason::NoSession => {
            "another player was verified with their name; they come in once they have logged in anew"
        }
        Reason::Locked => "each comes in again after one login while the session servers answer",
        Reason::PrivateAddress => {
            "if a proxy or tunnel stands in front, let it send the PROXY protocol and set network.accept-proxy-protocol, \
             so that players have addresses of their own; only for players on your own network is \
             security.trust-private-addresses meant"
        }
        Reason::BlockedAsn => {
            "while the list is in use an address whose network is not known passes only if it is exactly a verified one"
        }
        Reason::GeoChanged => {
            "only addresses that were looked up can be compared, which is done after verified logins; until then every \
             place is a foreign one, except at exactly a verified address"
        }
        Reason::GeoUnknown => {
            "country and network are looked up after verified logins; logins from before geo checks were on have none"
        }
        Reason::WeakerClient => {
            "they come in with the game they were verified with last, which asks for the PIN"
        }
        Reason::PinNotSet => {
            "each comes in once it has set one with /setpin, while the session servers answer"
        }
        Reason::PinFailed => {
            "somebody has joined under their name with a game before 1.21.6 and did not know the PIN: from an address that \
             is not exactly a verified one they come in with a newer game, or after one login while the session servers \
             answer"
        }
        _ => "",
    }
}

/// The ways worth trying in which the rule behind a reason could be less strict; those of one key from least to most,
/// last resorts last.
pub(super) fn relaxations(reason: Reason, terms: &Terms) -> Vec<Relaxed> {
    let rules = &terms.rules;
    match reason {
        Reason::SessionExpired => longer(
            terms,
            "session-cache.max-session-age",
            rules.max_session_age,
            HOUR,
            |rules, age| rules.max_session_age = age,
            "a stolen or sold account, or a moved player's old address, is good for longer after the last verified login",
        ),
        Reason::Inactive => inactive(terms),
        Reason::ShortHistory => short_history(terms),
        Reason::SharedAddress => shared_address(terms),
        Reason::AddressChanged => address_changed(terms),
        Reason::GeoChanged => vec![relaxed(
            terms,
            "security.deny-on-geo-change",
            false,
            "a login from another country and network is then noted, and refused no more for that",
            |terms| terms.rules.deny_on_geo_change = false,
        )],
        Reason::GeoUnknown => vec![relaxed(
            terms,
            "security.deny-on-geo-unknown",
            false,
            "while look-ups fail, nobody notices a login from another country",
            |terms| terms.rules.deny_on_geo_unknown = false,
        )],
        Reason::PinNotSet => vec![relaxed(
            terms,
            "security.require-pin-on-fallback",
            false,
            "players without a PIN are judged by name, id and address alone",
            |terms| terms.rules.require_pin = false,
        )],
        Reason::NewerVersionNeeded => vec![relaxed(
            terms,
            "auth.allow-plaintext-fallback",
            true,
            "players with games before 1.20.5 are let in over links that anybody on the way can read and change",
            |terms| terms.allow_plaintext_fallback = true,
        )],
        _ => Vec::new(),
    }
}

fn relaxed(
    terms: &Terms,
    key: &'static str,
    value: impl Into<Value>,
    gives_up: impl Into<String>,
    change: impl FnOnce(&mut Terms),
) -> Relaxed {
    let mut terms = terms.clone();
    change(&mut terms);
    Relaxed { key, value: value.into(), gives_up: gives_up.into(), is_last_resort: false, terms }
}

/// Twice and four times the age, as far as sessions are kept. `unit` is the key's.
fn longer(
    terms: &Terms,
    key: &'static str,
    age: Duration,
    unit: Duration,
    set: impl Fn(&mut Rules, Duration),
    gives_up: &str,
) -> Vec<Relaxed> {
    let most = UNUSED_AFTER.unsigned_abs();
    let mut ages = [age.saturating_mul(2).min(most), age.saturating_mul(4).min(most)].to_vec();
    ages.dedup();
    ages.retain(|longer| *longer > age);
    let written = |age: Duration| if unit == DAY { days(age) } else { hours(age) };
    ages.into_iter()
        .map(|age| relaxed(terms, key, written(age), gives_up, |terms| set(&mut terms.rules, age)))
        .collect()
}

fn inactive(terms: &Terms) -> Vec<Relaxed> {
    let Some(age) = terms.rules.recent_activity else { return Vec::new() };
    let gives_up = "players who have been away for longer are let in; a name changes hands after 37 days";
    let mut ways = longer(
        terms,
        "security.recent-activity-days",
        age,
        DAY,
        |rules, age| rules.recent_activity = Some(age),
        gives_up,
    );
    let off = relaxed(
        terms,
        "security.require-recent-activity",
        false,
        "only max-session-age then says how long a player may have been away",
        |terms| terms.rules.recent_activity = None,
    );
    ways.push(off.last_resort());
    ways
}

fn short_history(terms: &Terms) -> Vec<Relaxed> {
    let fewest = terms.rules.min_login_history;
    let mut fewer = vec![fewest.saturating_sub(1), fewest / 2, 1];
    fewer.retain(|logins| (1..fewest).contains(logins));
    fewer.dedup();
    fewer
        .into_iter()
        .map(|logins| {
            let times = if logins == 1 { "once".to_owned() } else { format!("{logins} times") };
            relaxed(
                terms,
                "security.min-login-history",
                logins,
                format!("whoever has been here {times} counts as known"),
                |terms| terms.rules.min_login_history = logins,
            )
        })
        .collect()
}

fn shared_address(terms: &Terms) -> Vec<Relaxed> {
    let most = terms.rules.max_accounts_per_address;
    [2, 4]
        .into_iter()
        .map(|times| {
            let more = most.saturating_mul(times);
            relaxed(
                terms,
                "security.max-accounts-per-address",
                more,
                format!("at an address that {more} players share, each can come in under another's name"),
                |terms| terms.rules.max_accounts_per_address = more,
            )
        })
        .collect()
}

fn address_changed(terms: &Terms) -> Vec<Relaxed> {
    let rules = &terms.rules;
    let mut ways = Vec::new();
    if rules.allow_ip_range_match {
        for prefix in [20_u8, 16].into_iter().filter(|prefix| *prefix < rules.ipv4_range_prefix) {
            let addresses = 1_u32 << (32 - prefix);
            ways.push(relaxed(
                terms,
                "session-cache.ipv4-range-prefix",
                prefix,
                format!("each of the {addresses} addresses around a verified one is as good as it"),
                |terms| terms.rules.ipv4_range_prefix = prefix,
            ));
        }
        for prefix in [56_u8, 48].into_iter().filter(|prefix| *prefix < rules.ipv6_range_prefix) {
            let networks = 1_u32 << (64 - prefix);
            ways.push(relaxed(
                terms,
                "session-cache.ipv6-range-prefix",
                prefix,
                format!("each of the {networks} networks (/64) around a verified address is as good as it"),
                |terms| terms.rules.ipv6_range_prefix = prefix,
            ));
        }
    } else {
        ways.push(relaxed(
            terms,
            "session-cache.allow-ip-range-match",
            true,
            format!(
                "an address in the same /{} (IPv6: /{}) as a verified one is as good as it",
                rules.ipv4_range_prefix, rules.ipv6_range_prefix
            ),
            |terms| terms.rules.allow_ip_range_match = true,
        ));
    }
    if rules.pins && rules.geo_checks && !rules.allow_pin_for_changed_address {
        ways.push(relaxed(
            terms,
            "security.allow-pin-for-changed-address",
            true,
            "whoever knows a player's PIN comes in from anywhere in that player's networks",
            |terms| terms.rules.allow_pin_for_changed_address = true,
        ));
    }
    let older = rules.max_address_age.saturating_mul(2);
    ways.push(relaxed(
        terms,
        "session-cache.max-address-age",
        hours(older),
        "an address counts for longer after the player's last login from it, whoever has it by then",
        |terms| terms.rules.max_address_age = older,
    ));
    let off = relaxed(
        terms,
        "session-cache.strict-ip-check",
        false,
        "addresses are then no evidence at all: in an outage whoever knows a player's name comes in under it, from \
         anywhere",
        |terms| terms.rules.strict_ip_check = false,
    );
    ways.push(off.last_resort());
    ways
}
