//! How often one address may log in.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::table::{MANY, Table};
use crate::address;

/// Logins that a client address may make at once, at the least: a player who mistypes an address, or whose mods fail.
const BURST: u32 = 3;

/// Clients that are remembered, at some 120 bytes each; one whose burst is whole again is forgotten. Beyond that the one
/// that came longest ago goes. To have himself forgotten, somebody must log in from as many other addresses in the
/// few seconds that he would have to wait, which is more than he gains.
const MAX_CLIENTS: usize = MANY;

/// Time between the logins of one client address, with a burst: the generic cell rate algorithm, which needs one time
/// per client and no timers.
#[derive(Debug)]
pub struct Rates(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` is no limit.
    interval: Option<Duration>,
    /// When each client's burst is whole again.
    whole_at: Table<IpNet, Instant>,
}

/// Zero is no limit.
fn limit(interval: Duration) -> Option<Duration> {
    Some(interval).filter(|interval| !interval.is_zero())
}

impl Rates {
    /// So much time between two logins of one client; zero is no limit.
    pub fn new(interval: Duration) -> Self {
        Self(Mutex::new(State { interval: limit(interval), whole_at: Table::new(MAX_CLIENTS) }))
    }

    /// Goes by another interval from now on; zero is no limit. What was waited for under the old one is void: everybody
    /// begins with a whole burst. The same interval changes nothing.
    pub fn adopt(&self, interval: Duration) {
        let mut state = self.state();
        if state.interval != limit(interval) {
            *state = State { interval: limit(interval), whole_at: Table::new(MAX_CLIENTS) };
        }
    }

    /// Whether a login may begin now. One that may not costs the client nothing. `sessions` says how many players are
    /// known from there, each of whom may log in at once; it is asked only if it matters.
    pub fn take(&self, address: IpAddr, sessions: impl FnOnce() -> usize) -> bool {
        let (client, now) = (address::limit_key(address), Instant::now());
        let may_be_many = {
            let state = self.state();
            let Some(interval) = state.interval else { return true };
            let wait = state.whole_at.get(&client).map(|at| at.saturating_duration_since(now));
            wait.unwrap_or_default() > interval * (BURST - 1)
        };
        // Not under the lock: the answer takes another one.
        let many = if may_be_many { u32::try_from(sessions()).unwrap_or(u32::MAX) } else { BURST };
        let mut state = self.state();
        // Another one may have been set meanwhile.
        let Some(interval) = state.interval else { return true };
        let room = interval.saturating_mul(many.max(BURST) - 1);
        let table = &mut state.whole_at;
        table.drop_ended(|at| *at <= now);
        let whole_at = table.get(&client).map_or(now, |at| (*at).max(now));
        if whole_at.saturating_duration_since(now) > room {
            return false;
        }
        table.put(client, whole_at + interval);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients that are remembered now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().whole_at.len()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state().whole_at.bytes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many logins at once are let through.
    fn burst(rates: &Rates, address: &str, sessions: usize) -> usize {
        (0..2000).take_while(|_| rates.take(ip(address), || sessions)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn three_at_once_then_one_per_interval() {
        let rates = Rates::new(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3);
        advance(Duration::from_millis(2999)).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 0);
        advance(Duration::from_millis(1)).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 1, "the tries in between cost nothing");
        advance(INTERVAL * 2).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 2);
        advance(Duration::from_hours(1)).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3, "never more");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_at_once_as_are_known_from_there() {
        let rates = Rates::new(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 40), 40);
        assert_eq!(burst(&rates, "203.0.113.6", 2), 3);
        assert_eq!(burst(&rates, "203.0.113.7", usize::MAX), 2000);
        advance(INTERVAL).await;
        assert_eq!(burst(&rates, "203.0.113.5", 40), 1);
        // They were forgotten meanwhile.
        assert_eq!(burst(&rates, "203.0.113.5", 0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        let rates = Rates::new(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3);
        assert_eq!(burst(&rates, "::ffff:203.0.113.5", 0), 0);
        assert_eq!(burst(&rates, "203.0.113.6", 0), 3);
        assert_eq!(burst(&rates, "2001:db8:0:1::1", 0), 3);
        assert_eq!(burst(&rates, "2001:db8:0:1:ffff::", 0), 0);
        assert_eq!(burst(&rates, "2001:db8:0:2::1", 0), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let rates = Rates::new(Duration::ZERO);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 2000);
        assert_eq!(rates.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_interval_holds_at_once_and_the_same_changes_nothing() {
        let rates = Rates::new(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3);
        rates.adopt(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 0, "nobody gets a new burst by it");
        rates.adopt(INTERVAL * 10);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3);
        advance(INTERVAL * 9).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 0);
        advance(INTERVAL).await;
        assert_eq!(burst(&rates, "203.0.113.5", 0), 1);
        rates.adopt(Duration::ZERO);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 2000);
        rates.adopt(INTERVAL);
        assert_eq!(burst(&rates, "203.0.113.5", 0), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_whole_again_is_forgotten() {
        let rates = Rates::new(INTERVAL);
        for n in 0..1000_u32 {
            assert!(rates.take(IpAddr::from(n.to_be_bytes()), || 0));
        }
        advance(INTERVAL).await;
        for n in 0..500_u32 {
            assert!(rates.take(IpAddr::from((1000 + n).to_be_bytes()), || 0));
        }
        assert_eq!(rates.len(), 500);
    }
}
