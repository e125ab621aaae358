//! The share of has-joined calls that players unknown to the store may use.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The window of the configured rate.
const MINUTE: f64 = 60.0;

/// What is left of the configured rate at the least, as a share of it: so that strangers can still join, slowly.
const FLOOR: f64 = 0.05;

/// How much of the configured rate comes back per minute without throttling.
const RECOVERY_PER_MINUTE: f64 = 0.1;

/// Calls under way together are throttled together; such a volley shrinks the rate once.
const VOLLEY: Duration = Duration::from_secs(1);

/// A token bucket whose rate and size halve when the session server throttles us, and grow back by a tenth a minute.
///
/// A flood of forged encryption responses costs an attacker nothing and would cost us one has-joined call each, until
/// Mojang blocks this machine for everybody.
#[derive(Debug)]
pub struct Bucket {
    /// Calls a minute when nothing is wrong; also the size. `None` is no limit.
    full: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    /// The rate now, between `FLOOR` of the full one (but at least 1 a minute) and the full one.
    rate: f64,
    updated: Instant,
    shrunk: Option<Instant>,
}

impl Bucket {
    /// A full bucket for so many calls a minute; 0 is no limit.
    pub fn new(per_minute: u32) -> Self {
        let rate = f64::from(per_minute);
        let state = State { tokens: rate, rate, updated: Instant::now(), shrunk: None };
        Self { full: (per_minute > 0).then_some(rate), state: Mutex::new(state) }
    }

    /// A bucket for another number of calls a minute; 0 is no limit. What throttling and calls have taken from this one is
    /// missing there in the same share, so that no reload buys strangers anything.
    #[must_use]
    pub fn successor(&self, per_minute: u32) -> Self {
        let successor = Self::new(per_minute);
        let (Some(before), Some(full)) = (self.full, successor.full) else { return successor };
        let mut old = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        old.advance(before);
        let (rate, tokens) = (old.rate / before * full, old.tokens / before * full);
        let state = State { tokens, rate: rate.max(1.0), updated: old.updated, shrunk: old.shrunk };
        drop(old);
        Self { state: Mutex::new(state), ..successor }
    }

    /// Takes the right to one call, if there is one. A refusal is one of our own limits being hit.
    pub fn try_take(&self) -> bool {
        let Some(full) = self.full else { return true };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(full);
        let granted = state.tokens >= 1.0;
        if granted {
            state.tokens -= 1.0;
        }
        granted
    }

    /// The session server has throttled us: halves rate and tokens, at most once a second.
    pub fn throttled(&self) {
        let Some(full) = self.full else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(full);
        let now = state.updated;
        if state.shrunk.is_some_and(|at| now.duration_since(at) < VOLLEY) {
            return;
        }
        state.shrunk = Some(now);
        state.rate = (state.rate / 2.0).max(full * FLOOR).max(1.0);
        state.tokens = state.tokens.min(state.rate) / 2.0;
    }

    /// Calls a minute that are granted now; `None` is no limit.
    pub fn rate(&self) -> Option<f64> {
        let full = self.full?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(full);
        Some(state.rate)
    }
}

impl State {
    fn advance(&mut self, full: f64) {
        let now = Instant::now();
        let minutes = now.duration_since(self.updated).as_secs_f64() / MINUTE;
        self.updated = now;
        self.rate = (self.rate + full * RECOVERY_PER_MINUTE * minutes).min(full);
        self.tokens = (self.tokens + self.rate * minutes).min(self.rate);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_rate_begins_with_the_same_share() {
        let bucket = Bucket::new(100);
        bucket.throttled();
        assert_eq!((0..1000).take_while(|_| bucket.try_take()).count(), 25);
        let (slower, faster) = (bucket.successor(40), bucket.successor(1000));
        assert_eq!((slower.rate(), faster.rate()), (Some(20.0), Some(500.0)));
        assert!(!slower.try_take() && !faster.try_take());
        advance(Duration::from_secs(3)).await;
        assert!(slower.try_take() && faster.try_take() && !slower.try_take());
        assert!(bucket.successor(0).try_take(), "0 is no limit");
        assert_eq!(bucket.successor(0).successor(7).rate(), Some(7.0));
    }

    fn drain(bucket: &Bucket) -> u32 {
        let mut taken = 0;
        while taken < 10_000 && bucket.try_take() {
            taken += 1;
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn bursts_once_and_refills_at_its_rate() {
        let bucket = Bucket::new(120);
        assert_eq!(drain(&bucket), 120);
        advance(Duration::from_millis(499)).await;
        assert!(!bucket.try_take());
        advance(Duration::from_millis(2)).await;
        assert!(bucket.try_take());
        assert!(!bucket.try_take());
        advance(Duration::from_hours(1)).await;
        assert_eq!(drain(&bucket), 120, "never more than one burst");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let bucket = Bucket::new(0);
        bucket.throttled();
        assert_eq!(drain(&bucket), 10_000);
        assert_eq!(bucket.rate(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn shrinks_once_a_volley_and_recovers_slowly() {
        let bucket = Bucket::new(120);
        for _ in 0..50 {
            bucket.throttled();
        }
        assert!((bucket.rate().unwrap() - 60.0).abs() < 1e-6);
        assert_eq!(drain(&bucket), 30);
        advance(Duration::from_mins(1)).await;
        assert!((bucket.rate().unwrap() - 72.0).abs() < 1e-6);
        advance(Duration::from_mins(4)).await;
        assert!((bucket.rate().unwrap() - 120.0).abs() < 1e-6);
    }

    #[tokio::test(start_paused = true)]
    async fn never_shrinks_below_its_floor() {
        for (full, floor) in [(120, 6.0), (3, 1.0)] {
            let bucket = Bucket::new(full);
            for _ in 0..20 {
                bucket.throttled();
                advance(Duration::from_millis(1001)).await;
            }
            let rate = bucket.rate().unwrap();
            assert!((floor..floor * 1.1).contains(&rate), "{full}: {rate}");
            advance(Duration::from_secs(61)).await;
            assert!(bucket.try_take(), "{full}");
        }
    }
}
