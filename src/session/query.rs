//! Sessions as lists show them: which, in what order, and what of each.

use std::{borrow::Borrow, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{Session, VerifiedAddress};
use crate::{
    address,
    identity::{NameKey, Username},
    place::Place,
};

/// What a list or a single answer shows of a session: all but the PIN hash, of which it says only whether there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Account id.
    pub id: Uuid,
    /// Account name; `None` once another id verified with it.
    pub name: Option<Username>,
    /// First verified login.
    pub first_verified: Timestamp,
    /// Newest verified login.
    pub last_verified: Timestamp,
    /// When a verified connection was last known to be up.
    pub last_seen: Timestamp,
    /// Verified logins so far.
    pub verified_logins: u32,
    /// Logins admitted by policy so far.
    pub fallback_logins: u32,
    /// Verified addresses, newest first.
    pub addresses: Vec<VerifiedAddress>,
    /// Whether the player has a PIN.
    pub pin: bool,
    /// Whether somebody has joined a backend under this name since the last verified login, and did not know the PIN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven_quarantine: bool,
    /// Whether it is locked until the next verified login.
    pub locked: bool,
    /// Whether it came from elsewhere and no login has proven it here yet.
    pub imported: bool,
    /// Foreign networks refused since the last verified login.
    pub denied_networks: Vec<Place>,
}

impl From<&Session> for Listed {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id,
            name: session.name.clone(),
            first_verified: session.first_verified,
            last_verified: session.last_verified,
            last_seen: session.last_presence(),
            verified_logins: session.verified_logins,
            fallback_logins: session.fallback_logins,
            addresses: session.addresses.clone(),
            pin: session.pin_hash.is_some(),
            unproven_quarantine: session.unproven_quarantine,
            locked: session.locked,
            imported: session.is_imported(),
            denied_networks: session.denied_networks.clone(),
        }
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By name, those without one last.
    #[default]
    Name,
    /// Whoever was seen last comes first.
    Seen,
    /// Whoever has most verified logins comes first.
    Logins,
}

/// The text names no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list is sorted by name, seen or logins")]
pub struct BadSort;

impl Sort {
    /// Its word on the command line and in requests.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Seen => "seen",
            Self::Logins => "logins",
        }
    }
}

impl FromStr for Sort {
    type Err = BadSort;

    fn from_str(text: &str) -> Result<Self, BadSort> {
        [Self::Name, Self::Seen, Self::Logins].into_iter().find(|sort| sort.word() == text).ok_or(BadSort)
    }
}

/// An address, or all addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network, as in 203.0.113.5, 203.0.113.0/24 or 2001:db8::/32")]
pub struct BadNetwork;

impl Network {
    fn contains(self, other: IpAddr) -> bool {
        self.0.contains(&address::unmap(other))
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| IpNet::from(address::unmap(ip)));
        address(text).or_else(|| text.parse().ok()).map(Self).ok_or(BadNetwork)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0.trunc())
        }
    }
}

/// Which sessions, and in what order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Those with this in their name, in any case.
    pub name: Option<String>,
    /// Those with a verified address in it, however old.
    pub network: Option<Network>,
    /// Those that are locked, or are not.
    pub locked: Option<bool>,
    /// Those last seen then or later.
    pub seen_since: Option<Timestamp>,
    /// The order.
    pub sort: Sort,
    /// The first so many of them.
    pub limit: Option<usize>,
}

/// The sessions that a query chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<S> {
    /// Those that are shown.
    pub shown: Vec<S>,
    /// How many fit, with those beyond the limit.
    pub total: usize,
}

impl Query {
    /// The sessions that fit, in order, up to the limit.
    pub fn select<S: Borrow<Session>>(&self, mut sessions: Vec<S>) -> Selection<S> {
        let part = self.name.as_ref().map(|part| part.to_ascii_lowercase());
        sessions.retain(|session| self.fits(session.borrow(), part.as_deref()));
        let total = sessions.len();
        let name = |session: &S| {
            let session = session.borrow();
            let key = session.name.as_ref().map(Username::key);
            (key.is_none(), key, session.id)
        };
        match self.sort {
            Sort::Name => sessions.sort_by_cached_key(name),
            Sort::Seen => sessions.sort_by_cached_key(|session| {
                (std::cmp::Reverse(session.borrow().last_presence()), name(session))
            }),
            Sort::Logins => sessions.sort_by_cached_key(|session| {
                (std::cmp::Reverse(session.borrow().verified_logins), name(session))
            }),
        }
        sessions.truncate(self.limit.unwrap_or(usize::MAX));
        Selection { shown: sessions, total }
    }

    /// `part` is the part of a name, in lower case.
    fn fits(&self, session: &Session, part: Option<&str>) -> bool {
        let named = part.is_none_or(|part| {
            session.name.as_ref().map(Username::key).is_some_and(|key: NameKey| key.as_str().contains(part))
        });
        let from = |network: Network| session.addresses.iter().any(|known| network.contains(known.address));
        named
            && self.network.is_none_or(from)
            && self.locked.is_none_or(|locked| session.locked == locked)
            && self.seen_since.is_none_or(|since| session.last_presence() >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::tests::{at, config, login};

    fn session(id: u128, name: &str, address: &str, seen: &str, logins: u32) -> Session {
        let config = config(std::path::Path::new(""));
        let mut session = Session::after_login(None, &login(id, name, address), &config, at(seen));
        session.verified_logins = logins;
        session
    }

    fn sessions() -> Vec<Session> {
        let mut sessions = vec![
            session(1, "Bob", "203.0.113.5", "2026-11-01T00:00:00Z", 9),
            session(2, "alice", "203.0.113.77", "2026-11-03T00:00:00Z", 2),
            session(3, "Carol", "2001:db8::1", "2026-11-02T00:00:00Z", 9),
            session(4, "Robbed", "198.51.100.1", "2026-11-04T00:00:00Z", 1),
        ];
        sessions[0].locked = true;
        // Somebody else has the name by now; an older login but a later presence.
        sessions[3].name = None;
        sessions[0].last_present = Some(at("2026-11-05T00:00:00Z"));
        sessions
    }

    fn chosen(query: &Query) -> (Vec<u128>, usize) {
        let Selection { shown, total } = query.select(sessions());
        (shown.iter().map(|session| session.id.as_u128()).collect(), total)
    }

    #[test]
    fn orders() {
        for (sort, order) in [("name", [2, 1, 3, 4]), ("seen", [1, 4, 2, 3]), ("logins", [1, 3, 2, 4])] {
            let query = Query { sort: sort.parse().unwrap(), ..Query::default() };
            assert_eq!(chosen(&query), (order.to_vec(), 4), "{sort}");
            assert_eq!(query.sort.word(), sort);
        }
        assert_eq!("age".parse::<Sort>(), Err(BadSort));
        assert_eq!(chosen(&Query { limit: Some(2), ..Query::default() }), (vec![2, 1], 4));
        assert_eq!(chosen(&Query { limit: Some(0), ..Query::default() }), (vec![], 4));
    }

    #[test]
    fn filters() {
        let with = |change: fn(&mut Query)| {
            let mut query = Query::default();
            change(&mut query);
            chosen(&query).0
        };
        assert_eq!(with(|q| q.name = Some("O".into())), [1, 3], "and nobody without a name");
        assert_eq!(with(|q| q.name = Some("LIC".into())), [2]);
        assert_eq!(with(|q| q.network = Some("203.0.113.5".parse().unwrap())), [1]);
        assert_eq!(with(|q| q.network = Some("::ffff:203.0.113.5".parse().unwrap())), [1]);
        assert_eq!(with(|q| q.network = Some("203.0.113.9/24".parse().unwrap())), [2, 1]);
        assert_eq!(with(|q| q.network = Some("2001:db8::/32".parse().unwrap())), [3]);
        assert_eq!(with(|q| q.locked = Some(true)), [1]);
        assert_eq!(with(|q| q.locked = Some(false)), [2, 3, 4]);
        assert_eq!(with(|q| q.seen_since = Some(at("2026-11-04T00:00:00Z"))), [1, 4]);
        assert_eq!(
            with(|q| {
                q.locked = Some(false);
                q.network = Some("203.0.113.0/24".parse().unwrap());
            }),
            [2]
        );
    }

    #[test]
    fn networks() {
        for (text, shown) in [
            ("203.0.113.5", "203.0.113.5"),
            ("203.0.113.5/32", "203.0.113.5"),
            ("203.0.113.5/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.5", "203.0.113.5"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown, "{text}");
        }
        for bad in ["", "203.0.113", "203.0.113.0/33", "example.com", "203.0.113.5:80"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad:?}");
        }
    }

    #[test]
    fn a_list_shows_no_pin_hash() {
        let mut session = session(1, "Bob", "203.0.113.5", "2026-11-01T00:00:00Z", 9);
        session.pin_hash = Some("$argon2id$v=19$abc".into());
        let listed = Listed::from(&session);
        let text = serde_json::to_string(&listed).unwrap();
        assert!(listed.pin && !text.contains("argon2") && !text.contains("hash"), "{text}");
        assert_eq!(serde_json::from_str::<Listed>(&text).unwrap(), listed);
    }
}
