//! What the facts come to: the numbers that the checks compare and the audit line shows.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{
    facts::{Facts, Online, Proof},
    rules::Rules,
};
use crate::{
    address,
    identity::Username,
    place::Place,
    session::record::{CLOCK_SLACK, Session, VerifiedAddress},
};

/// An outage stops the clock of a session's age for at most this long: without an end, an outage that somebody
/// manages to prolong would keep every old session good.
const MAX_GRACE: Duration = Duration::from_hours(7 * 24);

/// So many wrong PIN codes within 24 h are no longer somebody's own mistakes: whoever goes on must come from an address
/// that is the player's.
pub const TOO_MANY_WRONG_CODES: u32 = 20;

/// A connection that has been silent for this long, from the address the player comes from again, is a dead link.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// How a session was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// By the name in login start.
    Name,
    /// By the claimed id: the player has changed its name.
    ClaimedId,
}

/// How a client address relates to the verified ones of a session; later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressMatch {
    /// Neither one of them nor in the range of one.
    None,
    /// In the range of one of them.
    Range,
    /// One of them.
    Exact,
}

/// Which connection is to be closed before this one is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Displace {
    /// None: no connection of this id is up.
    Nobody,
    /// The one that is up: silent for 5 s, and from the same exact address.
    DeadLink,
    /// The one that is up: unproven like this one, and not from an exact verified address as this one is.
    WeakerMatch,
    /// The one that is up: unproven, where this one gives the right PIN. To be closed once it has.
    Unproven,
}

/// Why a PIN is taken from exactly verified addresses alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinBar {
    /// There were 20 wrong codes for the id within 24 h.
    WrongCodes,
    /// Somebody has joined a backend under this name, to be asked there, and did not know it; and this client could be
    /// asked nowhere else.
    UnprovenQuarantine,
}

/// The facts of a decision as they were weighed. Serialises to the JSON object that the audit line carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// How the session was found; none if there is no session, then most of the rest is missing too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_by: Option<FoundBy>,
    /// The session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// The session's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<Username>,
    /// When the outage began.
    pub outage_started: Timestamp,
    /// How much of the outage is not counted towards the session's age; at most 7 days.
    #[serde(rename = "grace_hours", serialize_with = "hours")]
    pub grace: Duration,
    /// From the last verified presence to now.
    #[serde(
        rename = "idle_hours",
        serialize_with = "optional_hours",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle: Option<Duration>,
    /// From the last verified presence to the start of the outage: `idle` less `grace`.
    #[serde(
        rename = "session_age_hours",
        serialize_with = "optional_hours",
        skip_serializing_if = "Option::is_none"
    )]
    pub session_age: Option<Duration>,
    /// Verified logins so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_logins: Option<u32>,
    /// Logins admitted by policy so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_logins: Option<u32>,
    /// Whether the owner locked the session.
    pub locked: bool,
    /// Whether the player has set a PIN, and PINs are in use.
    pub has_pin: bool,
    /// Whether the player comes in with the right PIN alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub must_prove_pin: bool,
    /// Wrong PIN codes for the session's id within 24 h, from wherever.
    #[serde(skip_serializing_if = "is_zero")]
    pub wrong_pin_codes: u32,
    /// Why the PIN is not even asked for, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_barred: Option<PinBar>,
    /// Whether the player must prove a PIN, and the client is older than what the player is known to use.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub weaker_client: bool,
    /// Whether the client address is a private one.
    pub private_address: bool,
    /// The best match among the verified addresses that still count.
    pub address_match: AddressMatch,
    /// The best match among those that are too old to count, if it is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_address_match: Option<AddressMatch>,
    /// Players at the client address, this one included.
    pub accounts_at_address: u32,
    /// Which bans cover the attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub banned: Vec<&'static str>,
    /// Where the client address is, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Where the verified addresses that still count are, each place once; left out while `place` is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_places: Vec<Place>,
    /// Whether `place` lies in a network (ASN) of these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_network: bool,
    /// Whether `place` is none of these, or was refused before for that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub geo_changed: bool,
    /// The connection of this id that is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<Online>,
    /// What would be closed for this one; none if the connection that is up stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displaces: Option<Displace>,
}

impl Evidence {
    /// Weighs the facts.
    pub(super) fn measure(rules: &Rules, facts: &Facts, now: Timestamp) -> Self {
        let known = facts.known();
        let session = known.map(|known| known.session);
        let grace = elapsed(facts.outage_started.min(now), now).unwrap_or_default().min(MAX_GRACE);
        let idle = session.and_then(|session| idle(session, now));
        let addresses = session.map_or(&[][..], |session| &session.addresses);
        let live = |seen: &VerifiedAddress| is_live(seen, rules, now);
        let best = |counts: &dyn Fn(&VerifiedAddress) -> bool| {
            let counting = addresses.iter().filter(|seen| counts(seen));
            counting
                .map(|seen| compare(facts.address, seen.address, rules))
                .max()
                .unwrap_or(AddressMatch::None)
        };
        let address_match = best(&live);
        let place = facts.location.place();
        let denied = |place| session.is_some_and(|session| session.denied_networks.contains(&place));
        let geo_changed = place.is_some_and(|place| {
            let foreign = is_foreign(place, facts.address, addresses, rules, now);
            foreign || address_match < AddressMatch::Exact && denied(place)
        });
        let known_places = place.map(|_| known_places(addresses, rules, now)).unwrap_or_default();
        let has_pin = rules.pins && session.is_some_and(|session| session.pin_hash.is_some());
        let expired = best(&|seen| !live(seen));
        Self {
            found_by: known.map(|known| known.found_by),
            session_id: session.map(|session| session.id),
            session_name: known.map(|known| known.name.clone()),
            outage_started: facts.outage_started,
            grace,
            idle,
            session_age: idle.map(|idle| idle.saturating_sub(grace)),
            verified_logins: session.map(|session| session.verified_logins),
            fallback_logins: session.map(|session| session.fallback_logins),
            locked: session.is_some_and(|session| session.locked),
            has_pin,
            must_prove_pin: has_pin,
            wrong_pin_codes: facts.wrong_pin_codes,
            pin_barred: session.filter(|_| has_pin).and_then(|session| {
                let spared = address_match == AddressMatch::Exact;
                if spared { None } else { pin_barred(session, facts) }
            }),
            weaker_client: has_pin
                && !facts.has_dialogs
                && session.is_some_and(|session| has_newer_client(session, rules, grace, now)),
            private_address: address::is_private(facts.address),
            address_match,
            expired_address_match: (expired > address_match).then_some(expired),
            accounts_at_address: facts.accounts_at_address,
            banned: facts.bans.labels(),
            place,
            own_network: place
                .and_then(|place| place.asn)
                .is_some_and(|asn| known_places.iter().any(|known| known.asn == Some(asn))),
            known_places,
            geo_changed,
            online: facts.online,
            displaces: displaces(facts, has_pin, address_match),
        }
    }
}

/// Time since the last verified presence; `None` if every time on record lies in the future.
fn idle(session: &Session, now: Timestamp) -> Option<Duration> {
    [Some(session.last_verified), session.last_present]
        .into_iter()
        .flatten()
        .filter_map(|time| elapsed(time, now))
        .min()
}

/// Time from `then` to `now`; `None` if `then` lies in the future by more than a small correction of the clock: it was
/// written by a wrong clock, and would stay fresh until then.
fn elapsed(then: Timestamp, now: Timestamp) -> Option<Duration> {
    let signed = now.duration_since(then);
    match Duration::try_from(signed) {
        Ok(past) => Some(past),
        Err(_) => (signed >= -CLOCK_SLACK).then_some(Duration::ZERO),
    }
}

/// Why the PIN of the session may not be tried from an address that is not exactly a verified one. Guessing is slow, but
/// patient; and whoever has come as far as a backend once without knowing the PIN does not get there again.
fn pin_barred(session: &Session, facts: &Facts) -> Option<PinBar> {
    if facts.wrong_pin_codes >= TOO_MANY_WRONG_CODES {
        Some(PinBar::WrongCodes)
    } else if session.unproven_quarantine && !facts.has_dialogs && !facts.pin_proven {
        Some(PinBar::UnprovenQuarantine)
    } else {
        None
    }
}

/// Whether the player is known to use clients with dialogs only: its newest verified login was with one, and no other
/// within the age that sessions have, counted like that of a session. An older client would be asked for the PIN on a
/// backend, which is worth less; so an impostor must not have the choice.
fn has_newer_client(session: &Session, rules: &Rules, grace: Duration, now: Timestamp) -> bool {
    let Some(with) = session.last_with_dialogs else { return false };
    session.last_without_dialogs.is_none_or(|without| {
        let age = elapsed(without, now).map(|age| age.saturating_sub(grace));
        without < with && age.is_none_or(|age| age > rules.max_session_age)
    })
}

/// Whether a verified address still counts.
fn is_live(seen: &VerifiedAddress, rules: &Rules, now: Timestamp) -> bool {
    elapsed(seen.verified, now).is_some_and(|age| age <= rules.max_address_age)
}

/// Where those of these addresses are that still count, each place once, as far as it was looked up.
pub fn known_places(addresses: &[VerifiedAddress], rules: &Rules, now: Timestamp) -> Vec<Place> {
    let mut known = Vec::new();
    for seen in addresses.iter().filter(|seen| is_live(seen, rules, now)) {
        if !seen.place.is_unknown() && !known.contains(&seen.place) {
            known.push(seen.place);
        }
    }
    known
}

/// Whether `place`, in which `address` lies, is that of none of these addresses that still count. What one side does
/// not know of country and network is not compared; where nothing can be, the place is foreign. An address that is one
/// of them itself never is: providers correct their tables.
pub fn is_foreign(
    place: Place,
    address: IpAddr,
    addresses: &[VerifiedAddress],
    rules: &Rules,
    now: Timestamp,
) -> bool {
    !addresses.iter().filter(|seen| is_live(seen, rules, now)).any(|seen| {
        address::unmap(address) == address::unmap(seen.address) || is_same_place(place, seen.place)
    })
}

fn is_same_place(a: Place, b: Place) -> bool {
    /// `None` if one side does not know.
    fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<bool> {
        Some(a? == b?)
    }
    match (same(a.country, b.country), same(a.asn, b.asn)) {
        (Some(false), _) | (_, Some(false)) | (None, None) => false,
        (Some(true), _) | (_, Some(true)) => true,
    }
}

fn compare(client: IpAddr, verified: IpAddr, rules: &Rules) -> AddressMatch {
    if address::unmap(client) == address::unmap(verified) {
        AddressMatch::Exact
    } else if address::same_range(client, verified, rules.ipv4_range_prefix, rules.ipv6_range_prefix) {
        AddressMatch::Range
    } else {
        AddressMatch::None
    }
}

/// What gives way to an attempt whose address matches so; `None` if the connection that is up stays.
///
/// A proven player gives way to a dead link's owner only. Among unproven ones the first stays, unless the second
/// comes from an exact verified address and the first does not: so a stranger who got in from next door, or from
/// anywhere because addresses are only recorded, cannot keep the owner of the account out. Whoever gives the right PIN
/// is proven, and an unproven one gives way.
///
/// A client without dialogs joins its backend to be asked, which throws out the first of the same id: it has proven
/// nothing by then, so an unproven one that would give way to the PIN does not give way to it. A dead link does, as to
/// every other: else its owner would be shut out until it times out.
fn displaces(facts: &Facts, has_pin: bool, address_match: AddressMatch) -> Option<Displace> {
    let Some(up) = facts.online else { return Some(Displace::Nobody) };
    let meets_it_unproven = has_pin && !facts.has_dialogs && !facts.pin_proven;
    if up.same_exact_address && up.silent_for >= DEAD_AFTER {
        return Some(Displace::DeadLink);
    }
    match up.proof {
        Proof::Verified | Proof::Pinned => None,
        Proof::Fallback | Proof::Held if has_pin && !meets_it_unproven => Some(Displace::Unproven),
        Proof::Fallback | Proof::Held => (address_match == AddressMatch::Exact
            && up.address_match < AddressMatch::Exact)
            .then_some(Displace::WeakerMatch),
    }
}

/// Hours with two decimals: 36 s, more than anybody needs to know of an age.
fn hours<S: Serializer>(age: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((age.as_secs_f64() / 36.0).round() / 100.0)
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn optional_hours<S: Serializer>(age: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match age {
        Some(age) => hours(age, to),
        None => to.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Whole seconds.
pub(super) fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(time.as_secs())
}
