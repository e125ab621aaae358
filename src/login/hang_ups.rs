//! Refusals kept back for a client that hung up before it could read them.
//!
//! During an outage a player whom policy refuses is still offered the online login. Where the client's own call to
//! the session server fails, the client closes and shows an error of its own; its next attempt gets our text, so
//! that the player learns why.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::identity::NameKey;

/// How long a refusal is kept back.
const KEPT: Duration = Duration::from_mins(1);
/// Bound on refusals kept back; beyond it the oldest goes. A hundred bytes each.
const MAX_KEPT: usize = 4096;

/// Who hung up: a name at an exact address. Good for one attempt.
#[derive(Debug, Default)]
pub struct HangUps(Mutex<HashMap<(NameKey, IpAddr), Instant>>);

impl HangUps {
    /// This player hung up on the online login that it was offered.
    pub fn remember(&self, name: NameKey, address: IpAddr) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, at| now.duration_since(*at) < KEPT);
        }
        if kept.len() >= MAX_KEPT
            && let Some(oldest) = kept.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert((name, address), now);
    }

    /// Whether this player hung up within the last minute; forgets it.
    pub fn take(&self, name: NameKey, address: IpAddr) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(name, address)).is_some_and(|at| at.elapsed() < KEPT)
    }

    /// Forgets all: the outage is over.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Username;

    #[tokio::test(start_paused = true)]
    async fn one_shot_exact_and_short() {
        let hang_ups = HangUps::default();
        let key = |name| Username::parse(name).unwrap().key();
        let (home, other): (IpAddr, IpAddr) =
            ("203.0.113.5".parse().unwrap(), "203.0.113.6".parse().unwrap());
        hang_ups.remember(key("Notch"), home);
        assert!(!hang_ups.take(key("Notch"), other));
        assert!(!hang_ups.take(key("jeb_"), home));
        assert!(hang_ups.take(key("nOTCH"), home));
        assert!(!hang_ups.take(key("Notch"), home));
        hang_ups.remember(key("Notch"), home);
        tokio::time::advance(KEPT).await;
        assert!(!hang_ups.take(key("Notch"), home));
    }

    #[tokio::test(start_paused = true)]
    async fn bounded() {
        let hang_ups = HangUps::default();
        let first: IpAddr = "203.0.113.5".parse().unwrap();
        let name = Username::parse("Notch").unwrap().key();
        hang_ups.remember(name.clone(), first);
        for i in 0..MAX_KEPT {
            tokio::time::advance(Duration::from_micros(1)).await;
            let address = IpAddr::from((i as u128).to_be_bytes());
            hang_ups.remember(name.clone(), address);
        }
        assert_eq!(hang_ups.0.lock().unwrap().len(), MAX_KEPT);
        assert!(!hang_ups.take(name, first));
    }
}
