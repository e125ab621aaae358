//! Peers whose idea of the PROXY protocol is not ours, told to the owner now and then.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;
use tracing::warn;

use crate::address;

/// How long after a line about a peer there is no other: whoever reads the log reads it once.
const QUIET: Duration = Duration::from_mins(10);

/// Most peers of each kind that are remembered; some hundred bytes each. Strangers can make up any number of addresses,
/// so this also bounds the lines that they can cause within [`QUIET`].
const MAX_PEERS: usize = 64;

/// In what a peer and we differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// A trusted peer began without a proper header.
    Missing,
    /// A peer that is not trusted began with a header.
    Unexpected,
}

/// Who differed lately. Two short locks, one for each kind, so that strangers cannot crowd out one's own proxies.
#[derive(Debug, Default)]
pub(super) struct ProxyPeers {
    missing: Mutex<HashMap<IpNet, Tally>>,
    unexpected: Mutex<HashMap<IpNet, Tally>>,
}

/// The connections of one peer since the last line about it.
#[derive(Debug)]
struct Tally {
    told: Instant,
    since: u64,
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    peer: IpAddr,
    mismatch: Mismatch,
    /// Connections, and over how long; `None` for the first one.
    before: Option<(u64, Duration)>,
}

impl ProxyPeers {
    /// Counts a connection, and says so if nothing was said of this peer lately.
    pub(super) fn note(&self, peer: IpAddr, mismatch: Mismatch) {
        if let Some(line) = self.count(peer, mismatch) {
            warn!("{line}");
        }
    }

    fn count(&self, peer: IpAddr, mismatch: Mismatch) -> Option<Line> {
        let tallies = match mismatch {
            Mismatch::Missing => &self.missing,
            Mismatch::Unexpected => &self.unexpected,
        };
        let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let key = address::limit_key(peer);
        if tallies.len() >= MAX_PEERS && !tallies.contains_key(&key) {
            tallies.retain(|_, tally| tally.told.elapsed() < QUIET);
            if tallies.len() >= MAX_PEERS {
                return None;
            }
        }
        let line = |before| Some(Line { peer, mismatch, before });
        match tallies.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Tally { told: Instant::now(), since: 0 });
                line(None)
            }
            Entry::Occupied(mut place) => {
                let tally = place.get_mut();
                tally.since += 1;
                let quiet = tally.told.elapsed();
                if quiet < QUIET {
                    return None;
                }
                let count = std::mem::take(&mut tally.since);
                tally.told = Instant::now();
                line(Some((count, quiet)))
            }
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, mismatch, before } = self;
        let (count, lately) = match before {
            None => ("a connection".to_owned(), String::new()),
            Some((1, time)) => ("1 connection".to_owned(), lately(*time)),
            Some((count, time)) => (format!("{count} connections"), lately(*time)),
        };
        match mismatch {
            Mismatch::Missing => write!(
                f,
                "{peer} is in network.trusted-proxies, but {count} from it began without a proper PROXY header{lately} \
                 and got no further: switch the PROXY protocol on there, or take it off the list"
            ),
            Mismatch::Unexpected => write!(
                f,
                "{peer} sends PROXY headers, but is not in network.trusted-proxies (or network.accept-proxy-protocol \
                 is off); {count} from it got no further{lately}: if it is a proxy of yours, list it and switch that key \
                 on, or switch the PROXY protocol off there; if you do not know it, ignore it"
            ),
        }
    }
}

fn lately(time: Duration) -> String {
    format!(" in the last {} minutes", time.as_secs() / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_told_of_once_and_then_with_a_count() {
        let peers = ProxyPeers::default();
        let proxy = ip("192.0.2.10");
        let told = |mismatch| peers.count(proxy, mismatch).map(|line| line.to_string());
        let first = told(Mismatch::Missing).unwrap();
        assert_eq!(
            first,
            "192.0.2.10 is in network.trusted-proxies, but a connection from it began without a proper PROXY header \
             and got no further: switch the PROXY protocol on there, or take it off the list"
        );
        for _ in 0..41 {
            assert_eq!(told(Mismatch::Missing), None);
        }
        // The other way round is another matter.
        let other = told(Mismatch::Unexpected).unwrap();
        assert!(
            other.starts_with("192.0.2.10 sends PROXY headers, but is not in network.trusted-proxies"),
            "{other}"
        );
        assert!(
            other.contains("; a connection from it got no further: if it is a proxy of yours"),
            "{other}"
        );
        tokio::time::advance(QUIET).await;
        let second = told(Mismatch::Missing).unwrap();
        assert!(second.contains("but 42 connections from it began"), "{second}");
        assert!(second.contains("header in the last 10 minutes and got"), "{second}");
        assert_eq!(told(Mismatch::Missing), None);
        tokio::time::advance(QUIET).await;
        tokio::time::advance(QUIET).await;
        let third = told(Mismatch::Unexpected).unwrap();
        assert!(third.contains("; 1 connection from it got no further in the last 30 minutes: "), "{third}");
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_make_it_grow_nor_crowd_out_the_owners_own() {
        let peers = ProxyPeers::default();
        let mut lines = 0;
        for n in 0..2000_u16 {
            let stranger = IpAddr::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, n >> 4, n & 15, 0, 0, 0, 1));
            lines += usize::from(peers.count(stranger, Mismatch::Unexpected).is_some());
        }
        assert_eq!((lines, peers.unexpected.lock().unwrap().len()), (MAX_PEERS, MAX_PEERS));
        assert!(peers.count(ip("192.0.2.10"), Mismatch::Missing).is_some());
        // One customer's addresses are one peer.
        assert_eq!(peers.count(ip("2001:db8::2"), Mismatch::Unexpected), None);
        tokio::time::advance(QUIET).await;
        assert!(peers.count(ip("203.0.113.9"), Mismatch::Unexpected).is_some());
        assert_eq!(peers.unexpected.lock().unwrap().len(), 1);
    }
}
