//! One player, and the attempt that it would make.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::Terms;
use crate::{
    address,
    identity::Username,
    policy::{self, Bans, Facts, Location},
    protocol::version::{Dialect, ProtocolVersion},
    reason::Reason,
    session::record::{CLOCK_SLACK, Rehearsal, Session, UNUSED_AFTER, VerifiedAddress},
};

/// Stands for the address of a player of whom none is known. Out of a range for documentation: nobody's, not private.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A player, made ready for judging under any terms.
#[derive(Debug)]
pub(super) struct Player {
    id: Uuid,
    /// The session with what was known before the newest login: verified addresses as they were then.
    session: Arc<Session>,
    /// Login start's.
    name: Username,
    /// The newest login.
    at: Timestamp,
    address: IpAddr,
    location: Location,
    /// Whether the link can be encrypted without Mojang; `None` if no login tells.
    encrypts: Option<bool>,
    /// Whether the client has dialogs, as far as the logins tell.
    has_dialogs: bool,
    /// Verified logins from exactly `address`, newest, in the session as it is.
    home: Option<Timestamp>,
    /// Whether there is nothing to compare an address with, because such records were not kept yet.
    pub(super) is_unrecorded: bool,
}

impl Player {
    /// The player of that session.
    pub(super) fn new(mut session: Session) -> Option<Self> {
        // Whoever lost its name comes under a new one that nobody knows. This one always parses.
        let name = session.name.clone().or_else(|| Username::parse("_").ok())?;
        let rehearsal = session.rehearsal.take();
        let is_rehearsed = rehearsal.is_some();
        let is_imported = session.is_imported();
        let newest = session.addresses.first();
        // As of the newest address: no address of an import is to be taken for verified anew.
        let unrecorded = || Rehearsal {
            at: newest.map_or(session.last_verified, |known| known.verified),
            address: newest.map_or(NOWHERE, |known| known.address),
            place: newest.map(|known| known.place).unwrap_or_default(),
            protocol: 0,
            addresses: if is_imported { session.addresses.clone() } else { Vec::new() },
        };
        let Rehearsal { at, address, place, protocol, addresses: before } =
            rehearsal.map_or_else(unrecorded, |rehearsal| *rehearsal);
        let address = address::unmap(address);
        let home = session.addresses.iter().filter(|known| address::unmap(known.address) == address);
        let home = home.map(|known| known.verified).max();
        session.addresses = before;
        Some(Self {
            id: session.id,
            name,
            at,
            address,
            location: if place.is_unknown() { Location::Unknown } else { Location::Known(place) },
            encrypts: is_rehearsed.then(|| Dialect::of(ProtocolVersion(protocol)).authenticate_flag),
            has_dialogs: if is_rehearsed {
                Dialect::of(ProtocolVersion(protocol)).dialogs
            } else {
                session.last_with_dialogs >= session.last_without_dialogs
            },
            home,
            is_unrecorded: !is_rehearsed && !is_imported,
            session: Arc::new(session),
        })
    }

    /// The player's name, if it still has one.
    pub(super) fn name(&self) -> Option<&Username> {
        self.session.name.as_ref()
    }

    pub(super) fn last_presence(&self) -> Timestamp {
        self.session.last_presence()
    }

    /// Whether the player says something about what a reason costs.
    pub(super) fn tells_of(&self, reason: Reason) -> bool {
        let compares = matches!(reason, Reason::AddressChanged | Reason::GeoChanged | Reason::PinFailed);
        !self.is_unrecorded || !compares
    }

    /// Everything that would keep the player out, in the order of the checks.
    pub(super) fn objections(&self, terms: &Terms, accounts: &Accounts, now: Timestamp) -> Vec<Reason> {
        let facts = Facts {
            name: self.name.clone(),
            claimed_id: Some(self.id),
            address: self.address,
            session: Some(self.refreshed(terms)),
            outage_started: now,
            accounts_at_address: accounts.with(self.address, self.home),
            online: None,
            bans: Bans::default(),
            // What nobody would look up tells nothing.
            location: if terms.rules.geo_checks { self.location } else { Location::NotAsked },
            has_dialogs: self.has_dialogs,
            wrong_pin_codes: 0,
            pin_proven: false,
        };
        let mut objections = policy::objections(&terms.rules, &facts, now);
        if objections.contains(&Reason::NoSession) {
            return objections;
        }
        // What stands in the way of a player whom policy would admit.
        if self.encrypts == Some(false) && !terms.allow_plaintext_fallback {
            objections.push(Reason::NewerVersionNeeded);
        }
        objections
    }

    /// Whether the player would be asked for a PIN.
    pub(super) fn must_enter_pin(&self, terms: &Terms) -> bool {
        terms.rules.pins && self.session.pin_hash.is_some()
    }

    /// The session before the newest login, with those addresses fresh that this login matched.
    fn refreshed(&self, terms: &Terms) -> Arc<Session> {
        let rules = &terms.rules;
        let matched = |known: &VerifiedAddress| {
            let (v4, v6) = (rules.ipv4_range_prefix, rules.ipv6_range_prefix);
            known.verified < self.at && address::same_range(known.address, self.address, v4, v6)
        };
        let mut session = Arc::clone(&self.session);
        if session.addresses.iter().any(matched) {
            for known in Arc::make_mut(&mut session).addresses.iter_mut().filter(|known| matched(known)) {
                known.verified = self.at;
            }
        }
        session
    }
}

/// How many players have each address among their verified ones that still count.
#[derive(Debug)]
pub(super) struct Accounts {
    players: HashMap<IpAddr, u32>,
    now: Timestamp,
    max_age: SignedDuration,
}

impl Accounts {
    /// Counts over the addresses of every session, each address of a session once, with when it was verified.
    pub(super) fn count(
        addresses: &[(IpAddr, Timestamp)],
        max_address_age: Duration,
        now: Timestamp,
    ) -> Self {
        let max_age = SignedDuration::try_from(max_address_age).unwrap_or(SignedDuration::MAX);
        // A session goes unused before that.
        let max_age = max_age.min(UNUSED_AFTER);
        let mut accounts = Self { players: HashMap::new(), now, max_age };
        for (address, verified) in addresses {
            if accounts.counts(*verified) {
                *accounts.players.entry(*address).or_default() += 1;
            }
        }
        accounts
    }

    /// Players at that address with the one who is judged, who was verified there at `home`.
    fn with(&self, address: IpAddr, home: Option<Timestamp>) -> u32 {
        let is_among_them = home.is_some_and(|home| self.counts(home));
        self.players.get(&address).copied().unwrap_or_default() + u32::from(!is_among_them)
    }

    fn counts(&self, verified: Timestamp) -> bool {
        let age = self.now.duration_since(verified);
        age >= -CLOCK_SLACK && age <= self.max_age
    }
}
