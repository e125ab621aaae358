//! The checks, in order, and what comes of them.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    evidence::{AddressMatch, Displace, Evidence, known_places},
    facts::{Facts, Location},
    rules::Rules,
};
use crate::{identity::Username, reason::Reason, session::record::UNUSED_AFTER};

/// What comes of an attempt.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// The player may come in.
    Admit {
        /// Who may, and at whose cost.
        permit: Permit,
        /// What the decision rests on.
        evidence: Evidence,
    },
    /// The player may not.
    Refuse {
        /// The first check that failed.
        reason: Reason,
        /// What the decision rests on.
        evidence: Evidence,
    },
}

/// Leave for one player to be admitted without the session server's word. Only [`judge`] makes one; it cannot be
/// copied, and is meant for the moment at which it was made.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    id: Uuid,
    name: Username,
    address_match: AddressMatch,
    displace: Displace,
    must_prove_pin: bool,
}

impl Permit {
    /// The session's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The session's name, in its own spelling: the one to admit the player under, whatever login start said.
    pub fn name(&self) -> &Username {
        &self.name
    }

    /// How the client address matched.
    pub fn address_match(&self) -> AddressMatch {
        self.address_match
    }

    /// Which connection is to be closed first.
    pub fn displace(&self) -> Displace {
        self.displace
    }

    /// Whether the player comes in with the right PIN alone. It stays so once that was given: only the proof of it makes
    /// up for this.
    pub fn must_prove_pin(&self) -> bool {
        self.must_prove_pin
    }
}

/// One attempt on the table.
struct Case<'a> {
    rules: &'a Rules,
    facts: &'a Facts,
    evidence: &'a Evidence,
}

/// A reason to refuse, and the check that tells whether it holds.
type Check = (Reason, fn(&Case<'_>) -> bool);

/// The order matters: it decides which reason a player, and audit.log, gets to see. Checks after
/// `NoSession` may rely on there being a session.
const CHECKS: &[Check] = &[
    (Reason::Banned, banned),
    (Reason::MojangRequired, mojang_required),
    (Reason::NoSession, no_session),
    (Reason::IdMismatch, id_mismatch),
    (Reason::Locked, locked),
    (Reason::SessionExpired, session_expired),
    (Reason::Inactive, inactive),
    (Reason::ShortHistory, short_history),
    (Reason::PrivateAddress, private_address),
    (Reason::SharedAddress, shared_address),
    (Reason::AddressChanged, address_changed),
    (Reason::BlockedAsn, blocked_asn),
    (Reason::GeoChanged, geo_changed),
    (Reason::GeoUnknown, geo_unknown),
    (Reason::AlreadyOnline, already_online),
    (Reason::WeakerClient, weaker_client),
    (Reason::PinNotSet, pin_not_set),
    (Reason::PinFailed, pin_failed),
];

/// Judges one attempt during an outage, as of `now`.
///
/// The caller sees to it that there is an outage: this function answers only who may come in if there is one.
pub fn judge(rules: &Rules, facts: &Facts, now: Timestamp) -> Decision {
    let evidence = Evidence::measure(rules, facts, now);
    let case = Case { rules, facts, evidence: &evidence };
    match CHECKS.iter().find(|(_, refuses)| refuses(&case)) {
        Some(&(reason, _)) => Decision::Refuse { reason, evidence },
        None => permit(facts, evidence),
    }
}

/// Every check that refuses the attempt, in order, where [`judge`] tells the first alone: for what would come of other
/// rules. Without a session nothing below that check is told, for there is nothing to judge.
pub fn objections(rules: &Rules, facts: &Facts, now: Timestamp) -> Vec<Reason> {
    let evidence = Evidence::measure(rules, facts, now);
    let case = Case { rules, facts, evidence: &evidence };
    let mut objections = Vec::new();
    for (reason, refuses) in CHECKS {
        if refuses(&case) {
            objections.push(*reason);
            if *reason == Reason::NoSession {
                break;
            }
        }
    }
    objections
}

/// Whether it is time to find out where the client address is: nobody has been asked, a rule would weigh it, and no
/// check before those that do refuses anyway. For an address that is none of the session's that rule is the one about
/// changed addresses, if a PIN may make up for that.
pub fn wants_location(rules: &Rules, facts: &Facts, now: Timestamp) -> bool {
    if !rules.geo_checks || facts.location != Location::NotAsked {
        return false;
    }
    let evidence = Evidence::measure(rules, facts, now);
    let case = Case { rules, facts, evidence: &evidence };
    let mut above = CHECKS.iter().take_while(|(reason, _)| *reason != Reason::AddressChanged);
    if above.any(|(_, refuses)| refuses(&case)) {
        return false;
    }
    if address_changed(&case) {
        // Without a network to compare with, the answer could change nothing.
        let session = facts.known().map(|known| known.session);
        let is_known = session.is_some_and(|session| {
            known_places(&session.addresses, rules, now).iter().any(|place| place.asn.is_some())
        });
        return rules.allow_pin_for_changed_address && evidence.has_pin && is_known;
    }
    !rules.blocked_asns.is_empty() || rules.deny_on_geo_change || rules.deny_on_geo_unknown
}

/// Draws up the permit. The checks have refused whatever is refused here; this is so that a check that is lost or
/// moved cannot let anybody in without a session.
fn permit(facts: &Facts, evidence: Evidence) -> Decision {
    let Some(known) = facts.known() else {
        return Decision::Refuse { reason: Reason::NoSession, evidence };
    };
    let Some(displace) = evidence.displaces else {
        return Decision::Refuse { reason: Reason::AlreadyOnline, evidence };
    };
    let permit = Permit {
        id: known.session.id,
        name: known.name.clone(),
        address_match: evidence.address_match,
        displace,
        must_prove_pin: evidence.must_prove_pin,
    };
    Decision::Admit { permit, evidence }
}

/// Whoever fails elsewhere must not lock a player out at an address that was verified for it; who fails there under its
/// id does.
fn banned(case: &Case<'_>) -> bool {
    let bans = case.facts.bans;
    let spared = case.evidence.address_match == AddressMatch::Exact;
    bans.pair || !spared && (bans.client || bans.subnet || bans.asn)
}

fn mojang_required(case: &Case<'_>) -> bool {
    let listed = |id| case.rules.require_mojang_auth.contains(&id);
    case.evidence.session_id.is_some_and(listed) || case.facts.claimed_id.is_some_and(listed)
}

fn no_session(case: &Case<'_>) -> bool {
    case.evidence.found_by.is_none()
}

fn id_mismatch(case: &Case<'_>) -> bool {
    case.facts.claimed_id.is_some() && case.facts.claimed_id != case.evidence.session_id
}

fn locked(case: &Case<'_>) -> bool {
    case.evidence.locked
}

fn session_expired(case: &Case<'_>) -> bool {
    case.evidence.session_age.is_none_or(|age| age > case.rules.max_session_age)
        || case.evidence.idle.is_none_or(|idle| idle > UNUSED_AFTER.unsigned_abs())
}

fn inactive(case: &Case<'_>) -> bool {
    case.rules.recent_activity.is_some_and(|longest| case.evidence.idle.is_none_or(|idle| idle > longest))
}

fn short_history(case: &Case<'_>) -> bool {
    case.evidence.verified_logins.is_none_or(|logins| logins < case.rules.min_login_history)
}

fn private_address(case: &Case<'_>) -> bool {
    case.evidence.private_address && !case.rules.trust_private_addresses
}

/// A PIN tells apart those who share an address.
fn shared_address(case: &Case<'_>) -> bool {
    !case.evidence.has_pin && case.evidence.accounts_at_address > case.rules.max_accounts_per_address
}

fn address_changed(case: &Case<'_>) -> bool {
    let proven = match case.evidence.address_match {
        AddressMatch::Exact => true,
        AddressMatch::Range => case.rules.allow_ip_range_match,
        AddressMatch::None => false,
    };
    let left_to_pin =
        case.rules.allow_pin_for_changed_address && case.evidence.has_pin && case.evidence.own_network;
    case.rules.strict_ip_check && !proven && !left_to_pin
}

/// A network that is not known might be one of them, so then only an exact verified address will do.
fn blocked_asn(case: &Case<'_>) -> bool {
    let blocked = &case.rules.blocked_asns;
    case.rules.geo_checks
        && !blocked.is_empty()
        && match case.evidence.place.and_then(|place| place.asn) {
            Some(asn) => blocked.contains(&asn),
            None => case.evidence.address_match < AddressMatch::Exact,
        }
}

fn geo_changed(case: &Case<'_>) -> bool {
    case.rules.geo_checks && case.rules.deny_on_geo_change && case.evidence.geo_changed
}

/// Private addresses, where they are trusted, are never looked up: nothing has failed there.
fn geo_unknown(case: &Case<'_>) -> bool {
    let unknown = case.evidence.place.is_none() && !case.evidence.private_address;
    case.rules.geo_checks && case.rules.deny_on_geo_unknown && unknown
}

fn already_online(case: &Case<'_>) -> bool {
    case.evidence.displaces.is_none()
}

fn weaker_client(case: &Case<'_>) -> bool {
    case.evidence.weaker_client
}

fn pin_not_set(case: &Case<'_>) -> bool {
    case.rules.require_pin && !case.evidence.has_pin
}

fn pin_failed(case: &Case<'_>) -> bool {
    case.evidence.pin_barred.is_some()
}

#[cfg(test)]
mod tests;
