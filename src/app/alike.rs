//! Notices when all players seem to come from within: behind a tunnel, a container's network, or a proxy that does not
//! say whom it speaks for. Logins work then; in an outage nobody could be admitted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::{address, session::alike::AllPrivate};

/// So many attempts, by so many players, are no accident.
const ATTEMPTS: u32 = 5;
const PLAYERS: usize = 3;
/// Addresses shown to the owner.
const SHOWN: usize = 3;

/// Watches the first login attempts of a run. One short lock.
#[derive(Debug)]
pub(super) struct AlikeWatch {
    expects_public: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Every attempt so far came from a private address.
    Watching(Seen),
    /// Nothing to notice, or it has been said.
    Off,
}

#[derive(Debug, Default)]
struct Seen {
    attempts: u32,
    /// Different names in lower case, at most as many as matter.
    players: Vec<String>,
    /// At most as many as are shown.
    addresses: Vec<IpAddr>,
}

/// Whether players from the internet are meant to come here and their addresses to be their own.
pub(super) fn expects_public(bound: &[SocketAddr], proxy_protocol: bool, trust_private: bool) -> bool {
    let is_public = |ip: IpAddr| ip.is_unspecified() || !address::is_private(ip);
    !proxy_protocol && !trust_private && bound.iter().any(|bound| is_public(address::unmap(bound.ip())))
}

impl AlikeWatch {
    /// Begins with what is remembered of earlier runs: if that says enough, the owner hears of it now.
    pub(super) fn begin(expects_public: bool, remembered: Option<AllPrivate>) -> Self {
        let state = match remembered {
            _ if !expects_public => State::Off,
            Some(AllPrivate { sessions, addresses }) => {
                warn!(
                    "{}",
                    told(&format!("all {sessions} remembered players with a current address"), &addresses)
                );
                State::Off
            }
            None => State::Watching(Seen::default()),
        };
        Self { expects_public, state: Mutex::new(state) }
    }

    /// Whether it was begun where public addresses are expected.
    pub(super) fn expects_public(&self) -> bool {
        self.expects_public
    }

    /// Hears of a login attempt, whatever came of it.
    pub(super) fn saw(&self, address: IpAddr, player: &str) {
        if let Some(line) = self.line(address, player) {
            warn!("{line}");
        }
    }

    fn line(&self, address: IpAddr, player: &str) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Watching(seen) = &mut *state else { return None };
        if !address::is_private(address) {
            *state = State::Off;
            return None;
        }
        seen.attempts = seen.attempts.saturating_add(1);
        let player = player.to_ascii_lowercase();
        if seen.players.len() < PLAYERS && !seen.players.contains(&player) {
            seen.players.push(player);
        }
        if seen.addresses.len() < SHOWN && !seen.addresses.contains(&address) {
            seen.addresses.push(address);
        }
        if seen.attempts < ATTEMPTS || seen.players.len() < PLAYERS {
            return None;
        }
        let line = told(&format!("all {} login attempts since the start", seen.attempts), &seen.addresses);
        *state = State::Off;
        Some(line)
    }
}

fn told(who: &str, addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "{who} came from private addresses ({}): all players look alike, and in an outage nobody could be admitted \
         (private-address). Something in front hides where players come from. Switch the PROXY protocol on there and \
         set network.accept-proxy-protocol and network.trusted-proxies here; in Docker, use network_mode: host",
        addresses.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn watching() -> AlikeWatch {
        AlikeWatch::begin(true, None)
    }

    #[test]
    fn five_attempts_by_three_players_are_told_of_once() {
        let watch = watching();
        for (address, player) in [
            ("172.17.0.1", "Ann"),
            ("172.17.0.1", "ann"),
            ("172.17.0.1", "Ben"),
            ("10.0.0.5", "Ben"),
            ("10.0.0.6", "Ben"),
        ] {
            assert_eq!(watch.line(ip(address), player), None);
        }
        let line = watch.line(ip("10.0.0.7"), "Cat").unwrap();
        assert!(
            line.starts_with("all 6 login attempts since the start came from private addresses"),
            "{line}"
        );
        assert!(line.contains("(172.17.0.1, 10.0.0.5, 10.0.0.6)"), "{line}");
        for part in [
            "in an outage nobody",
            "private-address",
            "accept-proxy-protocol",
            "trusted-proxies",
            "network_mode: host",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        for player in ["Dan", "Eve", "Fay", "Gil", "Hal"] {
            assert_eq!(watch.line(ip("10.0.0.8"), player), None, "never again");
        }
    }

    #[test]
    fn a_public_address_ends_the_watch() {
        let watch = watching();
        watch.line(ip("172.17.0.1"), "Ann");
        watch.line(ip("203.0.113.7"), "Ben");
        for player in ["Cat", "Dan", "Eve", "Fay", "Gil", "Hal"] {
            assert_eq!(watch.line(ip("172.17.0.1"), player), None);
        }
    }

    #[test]
    fn only_where_public_addresses_are_expected() {
        let bound = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        for (address, expected) in [
            ("0.0.0.0:25565", true),
            ("[::]:25565", true),
            ("203.0.113.1:25565", true),
            ("127.0.0.1:25565", false),
            ("192.168.0.2:25565", false),
            ("[::ffff:10.0.0.1]:25565", false),
        ] {
            assert_eq!(expects_public(&bound(address), false, false), expected, "{address}");
            assert!(!expects_public(&bound(address), true, false), "{address}");
            assert!(!expects_public(&bound(address), false, true), "{address}");
        }
        assert!(expects_public(&[bound("127.0.0.1:1"), bound("0.0.0.0:2")].concat(), false, false));
        let off = AlikeWatch::begin(false, None);
        let told = AlikeWatch::begin(true, Some(AllPrivate { sessions: 3, addresses: vec![ip("10.0.0.1")] }));
        for player in ["Cat", "Dan", "Eve", "Fay", "Gil", "Hal"] {
            assert_eq!((off.line(ip("10.0.0.1"), player), told.line(ip("10.0.0.1"), player)), (None, None));
        }
    }
}
