//! All sessions in memory, found by id, by name and by address. No properties: those are most of a document.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    ops::RangeInclusive,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::record::{self, Session};
use crate::identity::{NameKey, Username};

/// Where counting players of one address stops: far above any sensible limit, so that a proxy whose players all
/// seem to come from one address (a tunnel) does not walk through all of them at every login.
const COUNT_CAP: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Index {
    sessions: HashMap<Uuid, Arc<Session>>,
    names: HashMap<NameKey, Uuid>,
    /// Every verified address with its time. Ordered, so that an address and a whole network are ranges.
    addresses: BTreeMap<(IpAddr, Uuid), Timestamp>,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    pub(super) fn by_id(&self, id: Uuid) -> Option<&Arc<Session>> {
        self.sessions.get(&id)
    }

    pub(super) fn by_name(&self, name: &Username) -> Option<&Arc<Session>> {
        self.names.get(&name.key()).and_then(|id| self.sessions.get(id))
    }

    /// Adds or replaces a session. If another held its name, that one, now without it, is returned.
    pub(super) fn put(&mut self, session: Arc<Session>) -> Option<Arc<Session>> {
        self.remove(session.id);
        let mut robbed = None;
        if let Some(name) = &session.name
            && let Some(owner) = self.names.insert(name.key(), session.id)
            && let Some(former) = self.sessions.get_mut(&owner)
        {
            Arc::make_mut(former).name = None;
            robbed = Some(Arc::clone(former));
        }
        for known in &session.addresses {
            self.addresses.insert((known.address, session.id), known.verified);
        }
        self.sessions.insert(session.id, session);
        robbed
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Arc<Session>> {
        let session = self.sessions.remove(&id)?;
        if let Some(name) = &session.name {
            self.names.remove(&name.key());
        }
        for known in &session.addresses {
            self.addresses.remove(&(known.address, id));
        }
        Some(session)
    }

    /// The ids that verified from exactly this address at most `max_age` ago; the first 1024 of them.
    pub(super) fn ids_at(&self, address: IpAddr, now: Timestamp, max_age: SignedDuration) -> Vec<Uuid> {
        let address = address.to_canonical();
        // A session cannot have gone unused for longer than its newest address has been.
        let max_age = max_age.min(record::UNUSED_AFTER);
        self.addresses
            .range(span(address, address))
            .filter(|(_, verified)| record::is_within(**verified, now, max_age))
            .take(COUNT_CAP)
            .map(|((_, id), _)| *id)
            .collect()
    }

    /// How many ids have a remembered address of this client (IPv4: the address; IPv6: its /64); stops at 1024.
    pub(super) fn sessions_from(&self, address: IpAddr) -> usize {
        let ids: HashSet<Uuid> =
            self.addresses.range(client(address)).take(COUNT_CAP).map(|((_, id), _)| *id).collect();
        ids.len()
    }

    /// Whether there are any of those; one look-up.
    pub(super) fn has_session_from(&self, address: IpAddr) -> bool {
        self.addresses.range(client(address)).next().is_some()
    }
}

fn client(address: IpAddr) -> RangeInclusive<(IpAddr, Uuid)> {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let first = v6.to_bits() & !u128::from(u64::MAX);
            let last = first | u128::from(u64::MAX);
            span(Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into())
        }
        v4 @ IpAddr::V4(_) => span(v4, v4),
    }
}

fn span(first: IpAddr, last: IpAddr) -> RangeInclusive<(IpAddr, Uuid)> {
    (first, Uuid::nil())..=(last, Uuid::max())
}

#[cfg(test)]
mod tests {
    use std::{mem::size_of, path::Path};

    use super::*;
    use crate::session::record::{
        Rehearsal, VerifiedAddress,
        tests::{at, config, ip, login},
    };

    fn session(id: u128, name: &str, address: &str, now: &str) -> Arc<Session> {
        Arc::new(Session::after_login(None, &login(id, name, address), &config(Path::new("")), at(now)))
    }

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    const NOW: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn names_are_unique_and_case_blind() {
        let mut index = Index::default();
        assert_eq!(index.put(session(1, "Alice", "192.0.2.1", NOW)), None);
        assert_eq!(index.by_name(&name("aLICE")).unwrap().id, Uuid::from_u128(1));

        let robbed = index.put(session(2, "ALICE", "192.0.2.1", NOW)).unwrap();
        assert_eq!((robbed.id, &robbed.name), (Uuid::from_u128(1), &None));
        assert_eq!(index.by_name(&name("alice")).unwrap().id, Uuid::from_u128(2));
        assert_eq!(index.by_id(Uuid::from_u128(1)).unwrap(), &robbed, "it is still there");

        // The second renames itself: its former name is free, and nothing else is lost.
        assert_eq!(index.put(session(2, "Bob", "192.0.2.1", NOW)), None);
        assert_eq!(index.by_name(&name("alice")), None);
        index.remove(Uuid::from_u128(1)).unwrap();
        assert_eq!(index.by_name(&name("bob")).unwrap().id, Uuid::from_u128(2));
        assert_eq!(index.remove(Uuid::from_u128(1)), None);
    }

    #[test]
    fn addresses_count_exactly_and_by_client() {
        let mut index = Index::default();
        let day = SignedDuration::from_hours(24);
        index.put(session(1, "A", "2001:db8::1", NOW));
        index.put(session(2, "B", "2001:db8::2", NOW));
        index.put(session(3, "C", "2001:db8:0:1::1", NOW));
        index.put(session(4, "D", "192.0.2.1", NOW));
        index.put(session(5, "E", "192.0.2.1", "2025-12-30T00:00:00Z"));
        index.put(session(6, "F", "192.0.2.1", "2026-01-01T01:00:00Z"));
        let accounts = |index: &Index, address| index.ids_at(ip(address), at(NOW), day).len();
        assert_eq!(accounts(&index, "2001:db8::1"), 1);
        assert_eq!(accounts(&index, "::ffff:192.0.2.1"), 1, "one is too old, one ahead of the clock");
        assert_eq!(accounts(&index, "192.0.2.2"), 0);
        assert_eq!(index.ids_at(ip("192.0.2.1"), at(NOW), SignedDuration::MAX).len(), 2);
        assert_eq!(index.ids_at(ip("192.0.2.1"), at("2026-03-01T00:00:00Z"), SignedDuration::MAX).len(), 0);
        assert_eq!(index.sessions_from(ip("2001:db8::77")), 2);
        assert_eq!(index.sessions_from(ip("2001:db8:0:1:ffff::")), 1);
        assert_eq!(index.sessions_from(ip("192.0.2.1")), 3);
        assert_eq!(index.sessions_from(ip("192.0.2.2")), 0);
        for (address, known) in
            [("2001:db8::77", true), ("2001:db8:0:2::1", false), ("192.0.2.1", true), ("192.0.2.2", false)]
        {
            assert_eq!(index.has_session_from(ip(address)), known, "{address}");
        }

        index.put(session(4, "D", "203.0.113.1", NOW));
        assert_eq!(accounts(&index, "192.0.2.1"), 0, "replaced sessions leave nothing behind");
        for id in 1..=6 {
            index.remove(Uuid::from_u128(id));
        }
        assert!(index.sessions.is_empty() && index.names.is_empty() && index.addresses.is_empty());
    }

    #[test]
    fn counting_stops_somewhere() {
        let mut index = Index::default();
        for id in 0..1500 {
            index.put(session(id, &format!("p{id}"), "127.0.0.1", NOW));
        }
        assert_eq!(index.ids_at(ip("127.0.0.1"), at(NOW), SignedDuration::MAX).len(), COUNT_CAP);
        assert_eq!(index.sessions_from(ip("127.0.0.1")), COUNT_CAP);
    }

    #[test]
    fn a_player_costs_less_than_a_kilobyte_of_memory() {
        // Hash tables are at worst 7/16 full, B-tree nodes half; names are heap allocations of at least 32 bytes, as is
        // what a rehearsal adds, and an `Arc` counts in 16 bytes.
        let table = (size_of::<(Uuid, Arc<Session>)>() + size_of::<(NameKey, Uuid)>() + 2) * 16 / 7;
        let fixed = size_of::<Session>() + 16 + 32 + size_of::<Rehearsal>();
        // Once in the session, once in the rehearsal.
        let address = 2 * size_of::<VerifiedAddress>() + 2 * size_of::<((IpAddr, Uuid), Timestamp)>();
        let (usual, most) = (table + fixed + address, table + fixed + 4 * address);
        println!("bytes per player: {usual} with one address, {most} with four");
        assert!(usual < 768 && most < 1400, "{usual} {most}");
    }
}
