//! The same question answered slowly and plainly, from the plain numbers of friends. Shares nothing with the program but
//! the words for reasons and keys.

#![allow(missing_docs, unreachable_pub, reason = "a part of one test")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use postern::{policy::Rules, readiness::Terms};
use serde_json::Value;
use uuid::Uuid;

use super::friends::{Friend, Random, seen};

/// Rules in the units in which they are written.
#[derive(Clone, Debug)]
pub struct Plain {
    max_session_age: i64,
    recent_activity_days: Option<i64>,
    min_login_history: u32,
    trust_private: bool,
    max_accounts: usize,
    strict: bool,
    range_match: bool,
    v4: u32,
    v6: u32,
    max_address_age: i64,
    listed: Vec<u128>,
    geo: bool,
    blocked: Vec<u32>,
    geo_change: bool,
    geo_unknown: bool,
    plaintext: bool,
    pins: bool,
    require_pin: bool,
    pin_for_new_address: bool,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            max_session_age: 72,
            recent_activity_days: Some(30),
            min_login_history: 3,
            trust_private: false,
            max_accounts: 5,
            strict: true,
            range_match: true,
            v4: 24,
            v6: 64,
            max_address_age: 168,
            listed: Vec::new(),
            geo: true,
            blocked: Vec::new(),
            geo_change: false,
            geo_unknown: false,
            plaintext: true,
            pins: true,
            require_pin: false,
            pin_for_new_address: false,
        }
    }
}

impl Plain {
    pub fn random(random: &mut Random, friends: &[Friend]) -> Self {
        let listed: Vec<u128> = (0..random.below(30))
            .map(|_| random.below(friends.len() as u64))
            .map(|index| friends[index as usize].id)
            .collect();
        Self {
            max_session_age: random.one_of(&[24, 72, 300, 900]),
            recent_activity_days: random.one_of(&[None, Some(2), Some(10), Some(30)]),
            min_login_history: random.one_of(&[0, 1, 3, 10, 100]),
            trust_private: random.percent(50),
            max_accounts: random.one_of(&[1, 2, 5, 50]),
            strict: random.percent(80),
            range_match: random.percent(70),
            v4: random.one_of(&[32, 28, 24, 20, 16]),
            v6: random.one_of(&[128, 64, 56, 48]),
            max_address_age: random.one_of(&[20, 60, 168, 2000]),
            listed,
            geo: random.percent(80),
            blocked: if random.percent(50) { vec![64497, 64500] } else { Vec::new() },
            geo_change: random.percent(50),
            geo_unknown: random.percent(30),
            plaintext: random.percent(50),
            pins: random.percent(80),
            require_pin: random.percent(20),
            pin_for_new_address: random.percent(40),
        }
    }

    pub fn terms(&self) -> Terms {
        let hours = |hours: i64| Duration::from_hours(hours.try_into().unwrap());
        Terms {
            rules: Rules {
                max_session_age: hours(self.max_session_age),
                recent_activity: self.recent_activity_days.map(|days| hours(days * 24)),
                min_login_history: self.min_login_history,
                trust_private_addresses: self.trust_private,
                max_accounts_per_address: self.max_accounts as u32,
                strict_ip_check: self.strict,
                allow_ip_range_match: self.range_match,
                ipv4_range_prefix: self.v4 as u8,
                ipv6_range_prefix: self.v6 as u8,
                max_address_age: hours(self.max_address_age),
                require_mojang_auth: self.listed.iter().map(|id| Uuid::from_u128(*id)).collect(),
                geo_checks: self.geo,
                blocked_asns: self.blocked.iter().copied().collect(),
                deny_on_geo_change: self.geo_change,
                deny_on_geo_unknown: self.geo_unknown,
                pins: self.pins,
                require_pin: self.require_pin,
                allow_pin_for_changed_address: self.pin_for_new_address,
            },
            allow_plaintext_fallback: self.plaintext,
        }
    }

    /// The same with one key as written.
    pub fn with(&self, key: &str, value: &Value) -> Self {
        let mut plain = self.clone();
        let number = || value.as_i64().unwrap();
        match key {
            "session-cache.max-session-age" => plain.max_session_age = number(),
            "session-cache.max-address-age" => plain.max_address_age = number(),
            "session-cache.ipv4-range-prefix" => plain.v4 = number() as u32,
            "session-cache.ipv6-range-prefix" => plain.v6 = number() as u32,
            "session-cache.allow-ip-range-match" => plain.range_match = value.as_bool().unwrap(),
            "session-cache.strict-ip-check" => plain.strict = value.as_bool().unwrap(),
            "security.min-login-history" => plain.min_login_history = number() as u32,
            "security.max-accounts-per-address" => plain.max_accounts = number() as usize,
            "security.recent-activity-days" => plain.recent_activity_days = Some(number()),
            "security.require-recent-activity" => plain.recent_activity_days = None,
            "security.deny-on-geo-change" => plain.geo_change = value.as_bool().unwrap(),
            "security.deny-on-geo-unknown" => plain.geo_unknown = value.as_bool().unwrap(),
            "security.require-pin-on-fallback" => plain.require_pin = value.as_bool().unwrap(),
            "security.allow-pin-for-changed-address" => plain.pin_for_new_address = value.as_bool().unwrap(),
            "auth.allow-plaintext-fallback" => plain.plaintext = value.as_bool().unwrap(),
            other => panic!("{other}"),
        }
        plain
    }
}

/// In the order in which the reasons are checked.
const ORDER: [&str; 15] = [
    "mojang-required",
    "no-session",
    "locked",
    "session-expired",
    "inactive",
    "short-history",
    "private-address",
    "shared-address",
    "address-changed",
    "blocked-asn",
    "geo-changed",
    "geo-unknown",
    "pin-not-set",
    "pin-failed",
    "newer-version-needed",
];

/// Those about how addresses compare.
const COMPARED: [&str; 3] = ["address-changed", "geo-changed", "pin-failed"];

#[derive(Debug)]
pub struct Counted {
    pub considered: usize,
    pub ready: usize,
    pub must_enter_pin: usize,
    pub unrehearsed: usize,
    /// Whether each could join, and whether its newest login is known.
    everybody: Vec<(bool, bool)>,
    /// Code, first, any, alone.
    pub reasons: Vec<(&'static str, usize, usize, usize)>,
}

impl Counted {
    /// Who could join then, if only what is known may tell of what comes of it.
    pub fn ready_then(&self, then: &Self, code: &str) -> usize {
        let compared = COMPARED.contains(&code);
        let both = self.everybody.iter().zip(&then.everybody);
        both.filter(|((now, known), (then, _))| if *known || !compared { *then } else { *now }).count()
    }

    pub fn alone(&self, code: &str) -> usize {
        self.reasons.iter().find(|(reason, ..)| *reason == code).map_or(0, |(_, _, _, alone)| *alone)
    }
}

/// A store in which it is settled who has each name.
pub struct Store<'a>(Vec<(&'a Friend, bool)>);

impl<'a> Store<'a> {
    pub fn new(friends: &'a [Friend]) -> Self {
        let store: Vec<&Friend> = friends.iter().filter(|friend| seen(friend) < 36 * 24 * 3600).collect();
        // Who has each name: the one verified last, of two at once the one with the higher id.
        let mut owners: BTreeMap<String, &Friend> = BTreeMap::new();
        for friend in &store {
            let Some(name) = &friend.name else { continue };
            let owner = owners.entry(name.to_lowercase()).or_insert(friend);
            if (friend.last_verified, u128::MAX - friend.id) < (owner.last_verified, u128::MAX - owner.id) {
                *owner = friend;
            }
        }
        let owns = |friend: &Friend| {
            friend.name.as_ref().is_some_and(|name| owners[&name.to_lowercase()].id == friend.id)
        };
        Self(store.into_iter().map(|friend| (friend, owns(friend))).collect())
    }

    pub fn recount(&self, plain: &Plain) -> Counted {
        let mut at_address: HashMap<IpAddr, HashSet<u128>> = HashMap::new();
        for (friend, _) in &self.0 {
            for known in &friend.addresses {
                if known.ago <= plain.max_address_age.min(36 * 24) * 3600 {
                    at_address.entry(known.ip).or_default().insert(friend.id);
                }
            }
        }
        let considered: Vec<_> = self.0.iter().filter(|(friend, _)| seen(friend) <= 30 * 24 * 3600).collect();
        let all: Vec<Vec<&str>> =
            considered.iter().map(|(friend, named)| against(friend, *named, &at_address, plain)).collect();
        let count = |fits: &dyn Fn(&Vec<&str>) -> bool| all.iter().filter(|reasons| fits(reasons)).count();
        // What is not on record tells nothing of what is compared with it.
        let known: Vec<bool> = considered.iter().map(|(friend, _)| !unrecorded(friend)).collect();
        let tell = |code: &str, fits: &dyn Fn(&Vec<&str>) -> bool| {
            let compared = COMPARED.contains(&code);
            all.iter().zip(&known).filter(|(reasons, known)| (**known || !compared) && fits(reasons)).count()
        };
        let reasons = ORDER.into_iter().map(|code| {
            let first = tell(code, &|reasons| reasons.first() == Some(&code));
            let any = tell(code, &|reasons| reasons.contains(&code));
            (code, first, any, tell(code, &|reasons| *reasons == [code]))
        });
        let ready = all.iter().zip(&known).map(|(reasons, known)| (reasons.is_empty(), *known)).collect();
        Counted {
            considered: considered.len(),
            ready: count(&|reasons| reasons.is_empty()),
            must_enter_pin: considered
                .iter()
                .zip(&all)
                .filter(|((friend, _), reasons)| reasons.is_empty() && friend.pin && plain.pins)
                .count(),
            unrehearsed: considered.iter().filter(|(friend, _)| unrecorded(friend)).count(),
            everybody: ready,
            reasons: reasons.filter(|(_, _, any, _)| *any > 0).collect(),
        }
    }
}

/// Whether it logged in here, but not since logins are kept on record.
fn unrecorded(friend: &Friend) -> bool {
    friend.login.is_none() && !friend.imported
}

/// All that speaks against a friend.
fn against(
    friend: &Friend,
    named: bool,
    at_address: &HashMap<IpAddr, HashSet<u128>>,
    plain: &Plain,
) -> Vec<&'static str> {
    let mut no = Vec::new();
    if plain.listed.contains(&friend.id) {
        no.push("mojang-required");
    }
    if !named {
        no.push("no-session");
        return no;
    }
    if friend.locked {
        no.push("locked");
    }
    let idle = seen(friend);
    if idle > plain.max_session_age * 3600 {
        no.push("session-expired");
    }
    if plain.recent_activity_days.is_some_and(|days| idle > days * 24 * 3600) {
        no.push("inactive");
    }
    if friend.logins < plain.min_login_history {
        no.push("short-history");
    }
    let newest = &friend.addresses[0];
    let (ip, country, asn) = match &friend.login {
        Some(login) => (login.ip, login.country, login.asn),
        None => (newest.ip, newest.country, newest.asn),
    };
    let private = match ip {
        IpAddr::V4(v4) => v4.octets()[0] == 10 || v4.octets()[..2] == [192, 168],
        IpAddr::V6(_) => false,
    };
    if private && !plain.trust_private {
        no.push("private-address");
    }
    let mut sharers = at_address.get(&ip).cloned().unwrap_or_default();
    sharers.insert(friend.id);
    let has_pin = friend.pin && plain.pins;
    if sharers.len() > plain.max_accounts && !has_pin {
        no.push("shared-address");
    }

    // What counted before the newest login: an address that it matched is as old as that login.
    let (mut exact, mut range) = (false, false);
    let mut places = Vec::new();
    if let Some(login) = &friend.login {
        for known in &login.before {
            let alike = same_bits(ip, known.ip, plain);
            let ago = if alike { login.ago.min(known.ago) } else { known.ago };
            if ago <= plain.max_address_age * 3600 {
                exact |= known.ip == ip;
                range |= alike;
                places.push((known.country, known.asn));
            }
        }
    } else if friend.imported {
        for known in friend.addresses.iter().filter(|known| known.ago <= plain.max_address_age * 3600) {
            exact |= known.ip == ip;
            range |= same_bits(ip, known.ip, plain);
            places.push((known.country, known.asn));
        }
    }
    let own_network = asn.is_some() && places.iter().any(|(_, known)| *known == asn);
    let left_to_pin = plain.pin_for_new_address && has_pin && plain.geo && own_network;
    let proven = exact || range && plain.range_match || left_to_pin;
    if plain.strict && !proven {
        no.push("address-changed");
    }
    let unknown = country.is_none() && asn.is_none();
    if plain.geo && !plain.blocked.is_empty() {
        let blocked = asn.map_or(!exact, |asn| plain.blocked.contains(&asn));
        if blocked {
            no.push("blocked-asn");
        }
    }
    if plain.geo && plain.geo_change && !unknown && !exact {
        let denied = friend.denied.contains(&(country, asn));
        let familiar = places.iter().any(|(known_country, known_asn)| {
            let countries = country.zip(*known_country).map(|(a, b)| a == b);
            let networks = asn.zip(*known_asn).map(|(a, b)| a == b);
            // Nothing that both know differs, and there is something that both know.
            countries != Some(false) && networks != Some(false) && (countries.is_some() || networks.is_some())
        });
        if denied || !familiar {
            no.push("geo-changed");
        }
    }
    if plain.geo && plain.geo_unknown && unknown && !private {
        no.push("geo-unknown");
    }
    if plain.require_pin && !has_pin {
        no.push("pin-not-set");
    }
    if has_pin && friend.unproven && !friend.dialogs() && !exact {
        no.push("pin-failed");
    }
    if !plain.plaintext && friend.login.as_ref().is_some_and(|login| login.protocol < 766) {
        no.push("newer-version-needed");
    }
    no
}

/// Whether two addresses of one family begin with the same bits, compared one by one.
fn same_bits(a: IpAddr, b: IpAddr, plain: &Plain) -> bool {
    let alike = |a: &[u8], b: &[u8], length: u32| {
        (0..length as usize).all(|bit| (a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1 == 0)
    };
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => alike(&a.octets(), &b.octets(), plain.v4),
        (IpAddr::V6(a), IpAddr::V6(b)) => alike(&a.octets(), &b.octets(), plain.v6),
        _ => false,
    }
}
