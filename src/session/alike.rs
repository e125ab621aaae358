//! Whether all remembered players come from addresses that say nothing about where they are.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::record::{self, Session};
use crate::address;

/// From so many players on it is no accident.
const ENOUGH: usize = 3;

/// Every remembered player has a private address: in an outage all look alike, and none is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllPrivate {
    /// Sessions with an address that counts.
    pub sessions: usize,
    /// Some of these addresses, at most three, each once.
    pub addresses: Vec<IpAddr>,
}

/// Whether the verified addresses that count at `now`, being at most `max_age` old, are private ones throughout. `None`
/// if one is not, and with fewer than three sessions that have any.
pub fn all_private<'a>(
    sessions: impl IntoIterator<Item = &'a Session>,
    now: Timestamp,
    max_age: SignedDuration,
) -> Option<AllPrivate> {
    let mut found = AllPrivate { sessions: 0, addresses: Vec::new() };
    for session in sessions {
        let live = session.addresses.iter().filter(|known| record::is_within(known.verified, now, max_age));
        let mut any = false;
        for known in live {
            if !address::is_private(known.address) {
                return None;
            }
            any = true;
            if found.addresses.len() < ENOUGH && !found.addresses.contains(&known.address) {
                found.addresses.push(known.address);
            }
        }
        found.sessions += usize::from(any);
    }
    (found.sessions >= ENOUGH).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::record::tests::{at, config, ip, login};

    #[test]
    fn only_when_all_that_count_are_private() {
        let now = at("2026-11-20T12:00:00Z");
        let day = SignedDuration::from_hours(24);
        let session = |id, address: &str, time| {
            Session::after_login(
                None,
                &login(id, &format!("p{id}"), address),
                &config(Path::new("")),
                at(time),
            )
        };
        let fresh = "2026-11-20T11:00:00Z";
        let of = |sessions: &[Session]| all_private(sessions, now, day);
        let mut sessions = vec![session(1, "172.17.0.1", fresh), session(2, "172.17.0.1", fresh)];
        assert_eq!(of(&[]), None);
        assert_eq!(of(&sessions), None, "two may be an accident");
        // An address that counts no more makes no third.
        sessions.push(session(3, "10.0.0.1", "2026-11-18T11:00:00Z"));
        assert_eq!(of(&sessions), None);
        sessions.push(session(4, "10.0.0.2", fresh));
        let found = of(&sessions).unwrap();
        assert_eq!(found, AllPrivate { sessions: 3, addresses: vec![ip("172.17.0.1"), ip("10.0.0.2")] });
        // Neither does a public one of long ago make a difference; one that counts does.
        sessions.push(session(5, "203.0.113.7", "2026-11-18T11:00:00Z"));
        assert_eq!(of(&sessions), Some(found));
        sessions.push(session(6, "203.0.113.7", fresh));
        assert_eq!(of(&sessions), None);
        let many: Vec<Session> = (0..9).map(|id| session(id, &format!("10.0.0.{id}"), fresh)).collect();
        let found = of(&many).unwrap();
        assert_eq!((found.sessions, found.addresses.len()), (9, 3));
    }
}
