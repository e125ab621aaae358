//! What is remembered of a player.

use std::{fmt, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Config;
use crate::{
    address,
    identity::{Profile, Property, Username},
    place::{Country, Place},
};

/// Most verified addresses that a session keeps.
pub const MAX_ADDRESSES: usize = 4;

/// Most foreign networks that a session remembers as refused; strangers can add to them.
const MAX_DENIED_NETWORKS: usize = 8;

/// A session without verified login or presence for so long is dropped: 36 days. From the 37th day on, a name that
/// its player gave up can be taken by somebody else.
pub const UNUSED_AFTER: SignedDuration = SignedDuration::from_hours(36 * 24);

/// How far ahead of the clock a stored time may be and still count as now: 5 minutes, more than time
/// synchronisation sets a clock back in normal operation.
pub const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// The version that [`Document::version`] carries.
pub const FORMAT_VERSION: u32 = 1;

/// What the store learns from a login that the session server has proven. Whoever makes one must hold that proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLogin {
    /// The profile in the session server's answer.
    pub profile: Profile,
    /// The client address.
    pub address: IpAddr,
    /// The client's protocol version.
    pub protocol: i32,
    /// Whether the client has dialogs (protocol 771 and above).
    pub has_dialogs: bool,
}

/// A client address from which a verified login came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "AddressDocument", into = "AddressDocument")]
pub struct VerifiedAddress {
    /// The exact address, never an IPv4-mapped one.
    pub address: IpAddr,
    /// The newest verified login from it.
    pub verified: Timestamp,
    /// Where it is, as far as it was looked up.
    pub place: Place,
}

/// A [`VerifiedAddress`] on disk: flat.
#[derive(Serialize, Deserialize)]
struct AddressDocument {
    address: IpAddr,
    verified: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<Country>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asn: Option<u32>,
}

impl From<AddressDocument> for VerifiedAddress {
    fn from(AddressDocument { address, verified, country, asn }: AddressDocument) -> Self {
        Self { address, verified, place: Place { country, asn } }
    }
}

impl From<VerifiedAddress> for AddressDocument {
    fn from(VerifiedAddress { address, verified, place: Place { country, asn } }: VerifiedAddress) -> Self {
        Self { address, verified, country, asn }
    }
}

/// What an outage at the moment of the newest verified login would have met: kept so that it can be judged later what
/// policy would have said. The session as it is now cannot tell, for in it every address matches itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// When that login was.
    pub at: Timestamp,
    /// The client address it came from.
    pub address: IpAddr,
    /// Where that is, as far as it was looked up.
    #[serde(default, skip_serializing_if = "Place::is_unknown")]
    pub place: Place,
    /// The client's protocol version.
    pub protocol: i32,
    /// The verified addresses as they stood before it; none if it was the first login.
    #[serde(default)]
    pub addresses: Vec<VerifiedAddress>,
}

/// A remembered, once verified login of a player: all but its profile properties, which stay on disk. Its debug print
/// hides the PIN hash: a short PIN can be found from it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Account id; the key.
    pub id: Uuid,
    /// Account name; `None` once another id verified with it.
    pub name: Option<Username>,
    /// First verified login.
    pub first_verified: Timestamp,
    /// Newest verified login.
    pub last_verified: Timestamp,
    /// Newest time at which a verified connection was known to be up.
    pub last_present: Option<Timestamp>,
    /// Verified logins so far.
    pub verified_logins: u32,
    /// Logins admitted by policy so far.
    #[serde(default)]
    pub fallback_logins: u32,
    /// Up to 4, newest first, at most one per range.
    pub addresses: Vec<VerifiedAddress>,
    /// Newest verified login with a protocol below 771, which has no dialogs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_without_dialogs: Option<Timestamp>,
    /// Newest verified login with protocol 771 or above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_with_dialogs: Option<Timestamp>,
    /// PIN hash in PHC string form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_hash: Option<String>,
    /// Whether the owner locked it until the next verified login.
    #[serde(default)]
    pub locked: bool,
    /// Whether somebody has joined a backend under this name since the last verified login, to be asked for the PIN
    /// there, and has not known it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven_quarantine: bool,
    /// Foreign networks refused since the last verified login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_networks: Vec<Place>,
    /// The newest verified login, and what it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Box<Rehearsal>>,
}

/// Whether `time` is at most `max_age` ago, and not ahead of the clock.
pub(super) fn is_within(time: Timestamp, now: Timestamp, max_age: SignedDuration) -> bool {
    let age = now.duration_since(time);
    age >= -CLOCK_SLACK && age <= max_age
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("first_verified", &self.first_verified)
            .field("last_verified", &self.last_verified)
            .field("last_present", &self.last_present)
            .field("verified_logins", &self.verified_logins)
            .field("fallback_logins", &self.fallback_logins)
            .field("addresses", &self.addresses)
            .field("last_without_dialogs", &self.last_without_dialogs)
            .field("last_with_dialogs", &self.last_with_dialogs)
            .field("pin_hash", &self.pin_hash.as_ref().map(|_| "[REDACTED]"))
            .field("locked", &self.locked)
            .field("unproven_quarantine", &self.unproven_quarantine)
            .field("denied_networks", &self.denied_networks)
            .field("rehearsal", &self.rehearsal)
            .finish()
    }
}

impl Session {
    /// The later of the newest verified login and the newest known presence of a verified connection. Nothing else
    /// is use of a session; a fallback login is not.
    pub fn last_presence(&self) -> Timestamp {
        self.last_present.map_or(self.last_verified, |present| present.max(self.last_verified))
    }

    /// Whether the client address (an IPv6 one: its /64) is one that the player was verified from, however long ago. Of
    /// those who share it nobody may lock the player out there by failing under its name.
    pub fn is_own_client(&self, address: IpAddr) -> bool {
        let client = address::limit_key(address);
        self.addresses.iter().any(|seen| address::limit_key(seen.address) == client)
    }

    /// Whether nobody has used it for [`UNUSED_AFTER`], so that its name may be somebody else's by now.
    pub fn is_unused(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_presence()) >= UNUSED_AFTER
    }

    /// Whether it was last used later than now, by more than [`CLOCK_SLACK`]: the clock went back and its age is
    /// unknown.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_presence()) < -CLOCK_SLACK
    }

    /// Whether the session may be used to judge a login: neither [unused](Self::is_unused) nor
    /// [ahead of the clock](Self::is_ahead).
    pub fn counts(&self, now: Timestamp) -> bool {
        !self.is_unused(now) && !self.is_ahead(now)
    }

    /// Whether it came from elsewhere and no login has proven it here yet: every verified login notes one of these.
    pub fn is_imported(&self) -> bool {
        self.last_with_dialogs.is_none() && self.last_without_dialogs.is_none()
    }

    /// The session after a verified login at `now`.
    pub(super) fn after_login(
        before: Option<&Self>,
        login: &VerifiedLogin,
        config: &Config,
        now: Timestamp,
    ) -> Self {
        let mut session = before.cloned().unwrap_or_else(|| Self {
            id: login.profile.id,
            name: None,
            first_verified: now,
            last_verified: now,
            last_present: None,
            verified_logins: 0,
            fallback_logins: 0,
            addresses: Vec::new(),
            last_without_dialogs: None,
            last_with_dialogs: None,
            pin_hash: None,
            locked: false,
            unproven_quarantine: false,
            denied_networks: Vec::new(),
            rehearsal: None,
        });
        session.forget_times_ahead(now);
        if before.is_some_and(|before| before.is_imported() && before.locked) {
            // Nobody vouched for these, and a login from elsewhere does not prove them either.
            session.addresses.clear();
        }
        session.rehearsal = Some(Box::new(Rehearsal {
            at: now,
            address: login.address.to_canonical(),
            place: session.place_of(login.address),
            protocol: login.protocol,
            addresses: session.addresses.clone(),
        }));
        session.name = Some(login.profile.name.clone());
        session.last_verified = now;
        session.verified_logins = session.verified_logins.saturating_add(1);
        session.locked = false;
        session.unproven_quarantine = false;
        session.denied_networks.clear();
        if login.has_dialogs {
            session.last_with_dialogs = Some(now);
        } else {
            session.last_without_dialogs = Some(now);
        }
        session.remember_address(login.address, config, now);
        session
    }

    /// Puts `address` first, in place of any other of its range. What was looked up for the exact address is kept.
    fn remember_address(&mut self, address: IpAddr, config: &Config, now: Timestamp) {
        let address = address.to_canonical();
        let newest = VerifiedAddress { address, verified: now, place: self.place_of(address) };
        self.addresses.retain(|known| {
            !address::same_range(known.address, address, config.ipv4_range_prefix, config.ipv6_range_prefix)
        });
        self.addresses.insert(0, newest);
        self.tidy_addresses();
    }

    /// What was looked up for this exact address.
    fn place_of(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let same = self.addresses.iter().find(|known| known.address == address);
        same.map(|known| known.place).unwrap_or_default()
    }

    /// Notes where an address is that it remembers; another one is left out.
    pub fn learn_place(&mut self, address: IpAddr, place: Place) {
        let address = address.to_canonical();
        for known in self.addresses.iter_mut().filter(|known| known.address == address) {
            known.place = place;
            // What was refused as foreign before this was known is no longer.
            self.denied_networks.retain(|denied| *denied != place);
        }
        if let Some(rehearsal) = self.rehearsal.as_mut().filter(|rehearsal| rehearsal.address == address) {
            rehearsal.place = place;
        }
    }

    /// Notes a country and network as refused until the next verified login; of many, the newest. Whether it was new.
    pub fn deny_network(&mut self, place: Place) -> bool {
        if self.denied_networks.contains(&place) {
            return false;
        }
        if self.denied_networks.len() >= MAX_DENIED_NETWORKS {
            self.denied_networks.remove(0);
        }
        self.denied_networks.push(place);
        true
    }

    /// Brings the addresses of a document into the form that all else relies on: canonical, newest first, few.
    pub(super) fn tidy_addresses(&mut self) {
        for known in &mut self.addresses {
            known.address = known.address.to_canonical();
        }
        self.addresses.sort_by_key(|known| std::cmp::Reverse(known.verified));
        self.addresses.truncate(MAX_ADDRESSES);
        self.addresses.shrink_to_fit();
    }

    /// Mends times that a clock, since set back, put ahead of `now`. By a little: they become now. By more: when
    /// it really was cannot be known, and an unknown time proves nothing, so what it stood for is dropped.
    fn forget_times_ahead(&mut self, now: Timestamp) {
        let mend = |time: Timestamp| (now.duration_since(time) >= -CLOCK_SLACK).then(|| time.min(now));
        self.first_verified = self.first_verified.min(now);
        self.last_present = self.last_present.and_then(mend);
        self.last_with_dialogs = self.last_with_dialogs.and_then(mend);
        self.last_without_dialogs = self.last_without_dialogs.and_then(mend);
        self.addresses.retain_mut(|known| mend(known.verified).map(|time| known.verified = time).is_some());
    }
}

/// The document on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Format version, 1.
    pub version: u32,
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Profile properties of the newest verified login.
    pub properties: Vec<Property>,
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in crate::session) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(in crate::session) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(in crate::session) fn config(directory: &std::path::Path) -> Config {
        Config {
            directory: directory.to_owned(),
            cleanup_on_startup: true,
            max_address_age: Duration::from_hours(168),
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
        }
    }

    pub(in crate::session) fn login(id: u128, name: &str, address: &str) -> VerifiedLogin {
        VerifiedLogin {
            profile: Profile {
                id: Uuid::from_u128(id),
                name: Username::parse(name).unwrap(),
                properties: vec![Property {
                    name: "textures".into(),
                    value: format!("{name} at {address}"),
                    signature: Some("c2lnbmVk".into()),
                }],
            },
            address: ip(address),
            protocol: 774,
            has_dialogs: true,
        }
    }

    fn after(before: Option<&Session>, address: &str, now: &str) -> Session {
        let config = config(std::path::Path::new("unused"));
        Session::after_login(before, &login(1, "Alice", address), &config, at(now))
    }

    fn addresses(session: &Session) -> Vec<String> {
        session.addresses.iter().map(|known| known.address.to_string()).collect()
    }

    #[test]
    fn a_first_login_makes_a_session() {
        let now = at("2026-01-01T00:00:00Z");
        let session = after(None, "::ffff:192.0.2.1", "2026-01-01T00:00:00Z");
        assert_eq!(session.name.as_ref().unwrap().as_str(), "Alice");
        assert_eq!((session.first_verified, session.last_verified), (now, now));
        assert_eq!((session.verified_logins, session.fallback_logins), (1, 0));
        assert_eq!(addresses(&session), ["192.0.2.1"]);
        assert_eq!((session.last_with_dialogs, session.last_without_dialogs), (Some(now), None));
    }

    #[test]
    fn a_login_clears_what_holds_until_the_next_one_and_keeps_the_rest() {
        let mut first = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        first.locked = true;
        first.denied_networks.push(Place { country: Country::parse("XX"), asn: Some(1) });
        first.pin_hash = Some("$argon2id$".into());
        first.fallback_logins = 7;
        first.last_present = Some(at("2026-01-01T05:00:00Z"));
        let home = Place { country: Country::parse("DE"), asn: Some(3320) };
        first.learn_place(ip("::ffff:192.0.2.1"), home);
        first.learn_place(ip("192.0.2.2"), Place { asn: Some(1), ..home });

        let mut old_client = login(1, "Alicia", "192.0.2.1");
        old_client.has_dialogs = false;
        let config = config(std::path::Path::new("unused"));
        let now = at("2026-01-02T00:00:00Z");
        let second = Session::after_login(Some(&first), &old_client, &config, now);
        let expected = Session {
            name: Some(Username::parse("Alicia").unwrap()),
            last_verified: now,
            verified_logins: 2,
            addresses: vec![VerifiedAddress { verified: now, ..first.addresses[0].clone() }],
            last_without_dialogs: Some(now),
            locked: false,
            denied_networks: Vec::new(),
            rehearsal: Some(Box::new(Rehearsal {
                at: now,
                address: ip("192.0.2.1"),
                place: home,
                protocol: 774,
                addresses: first.addresses.clone(),
            })),
            ..first.clone()
        };
        assert_eq!(second, expected);
    }

    #[test]
    fn a_login_proves_no_address_that_came_with_an_import() {
        let mut imported = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        (imported.last_with_dialogs, imported.rehearsal, imported.locked) = (None, None, true);
        let login = |before: &Session, address| after(Some(before), address, "2026-01-02T00:00:00Z");
        let elsewhere = login(&imported, "203.0.113.5");
        assert_eq!((addresses(&elsewhere), elsewhere.locked), (vec!["203.0.113.5".to_owned()], false));
        assert!(elsewhere.rehearsal.unwrap().addresses.is_empty(), "an outage would not have gone by it");
        assert_eq!(addresses(&login(&imported, "192.0.2.1")), ["192.0.2.1"]);
        // Whoever trusts the file trusts its addresses; and a lock says nothing about what was proven here.
        imported.locked = false;
        assert_eq!(addresses(&login(&imported, "203.0.113.5")), ["203.0.113.5", "192.0.2.1"]);
        let mut own = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        own.locked = true;
        assert_eq!(addresses(&login(&own, "203.0.113.5")), ["203.0.113.5", "192.0.2.1"]);
    }

    #[test]
    fn one_address_per_range_and_the_least_recently_verified_goes() {
        let mut session = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        session.addresses[0].place.asn = Some(1);
        session = after(Some(&session), "192.0.2.9", "2026-01-02T00:00:00Z");
        assert_eq!(addresses(&session), ["192.0.2.9"]);
        assert_eq!(session.addresses[0].place, Place::default(), "looked up for another address");

        for (day, address) in [(3, "198.51.100.1"), (4, "2001:db8::1"), (5, "2001:db8:0:1::1")] {
            session = after(Some(&session), address, &format!("2026-01-0{day}T00:00:00Z"));
        }
        session = after(Some(&session), "192.0.2.9", "2026-01-06T00:00:00Z");
        session = after(Some(&session), "203.0.113.1", "2026-01-07T00:00:00Z");
        assert_eq!(addresses(&session), ["203.0.113.1", "192.0.2.9", "2001:db8:0:1::1", "2001:db8::1"]);
        session = after(Some(&session), "2001:db8::2", "2026-01-08T00:00:00Z");
        assert_eq!(addresses(&session), ["2001:db8::2", "203.0.113.1", "192.0.2.9", "2001:db8:0:1::1"]);
    }

    #[test]
    fn the_debug_print_hides_the_pin_hash() {
        let mut session = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        session.pin_hash = Some("$argon2id$v=19$abc".into());
        let text = format!("{session:?}");
        assert!(!text.contains("argon2") && text.contains("[REDACTED]"), "{text}");
    }

    #[test]
    fn presence_and_disuse() {
        let mut session = after(None, "192.0.2.1", "2026-01-01T00:00:00Z");
        assert!(!session.is_unused(at("2026-02-05T23:59:59Z")));
        assert!(session.is_unused(at("2026-02-06T00:00:00Z")), "36 days");
        session.last_present = Some(at("2026-01-02T00:00:00Z"));
        assert_eq!(session.last_presence(), at("2026-01-02T00:00:00Z"));
        assert!(!session.is_unused(at("2026-02-06T00:00:00Z")));
        session.last_present = Some(at("2025-12-31T00:00:00Z"));
        assert_eq!(session.last_presence(), at("2026-01-01T00:00:00Z"), "an older presence does not count");
    }

    #[test]
    fn a_login_after_the_clock_went_back_mends_the_times() {
        let mut session = after(None, "192.0.2.1", "2030-01-01T00:00:00Z");
        session = after(Some(&session), "198.51.100.1", "2026-01-01T00:04:00Z");
        assert_eq!(addresses(&session), ["198.51.100.1"], "when the other was verified is unknown");
        session.last_present = Some(at("2026-01-01T00:04:30Z"));

        let now = at("2026-01-01T00:00:00Z");
        assert!(session.counts(now), "4.5 minutes are slack");
        session = after(Some(&session), "203.0.113.1", "2026-01-01T00:00:00Z");
        assert_eq!(addresses(&session), ["203.0.113.1", "198.51.100.1"]);
        assert_eq!(session.addresses[1].verified, now);
        assert_eq!((session.first_verified, session.last_present), (now, Some(now)));

        session.last_present = Some(at("2026-01-01T00:05:01Z"));
        session.last_without_dialogs = session.last_present;
        assert!(session.is_ahead(now) && !session.counts(now));
        session = after(Some(&session), "203.0.113.1", "2026-01-01T00:00:00Z");
        assert_eq!((session.last_present, session.last_without_dialogs), (None, None));
        assert!(session.counts(now));
    }
}
