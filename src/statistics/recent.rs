//! The newest logins and how long each took, for a look at how it goes right now. In memory only.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::clock::Clock;

/// Logins that are kept: enough for a curve on a page, some 5 kB.
const KEPT: usize = 120;

/// A login that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentLogin {
    /// When its player was in.
    pub at: Timestamp,
    /// From accept to login success, in milliseconds; for one who was asked for a PIN, with the time it took to enter it.
    pub ms: u64,
    /// How it was proven: the words of audit.log.
    pub proof: &'static str,
}

/// The newest logins, oldest first. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    clock: Clock,
    newest: Arc<Mutex<VecDeque<RecentLogin>>>,
}

impl Recent {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, newest: Arc::new(Mutex::new(VecDeque::with_capacity(KEPT))) }
    }

    /// One more succeeded, now.
    pub(super) fn note(&self, took: Duration, proof: &'static str) {
        let at = self.clock.now();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() >= KEPT {
            newest.pop_front();
        }
        newest.push_back(RecentLogin { at, ms, proof });
    }

    pub(super) fn all(&self) -> Vec<RecentLogin> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_their_order() {
        let recent = Recent::new(Clock::system());
        assert_eq!(recent.all(), []);
        for ms in 0..=KEPT as u64 {
            recent.clone().note(Duration::from_millis(ms), "verified");
        }
        let kept: Vec<u64> = recent.all().iter().map(|login| login.ms).collect();
        assert_eq!(kept, (1..=KEPT as u64).collect::<Vec<_>>());
    }
}
