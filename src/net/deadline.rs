//! A deadline that several steps share, and that one of them may move.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// When a login must be over. Cheap to look at; moves only forward, and never beyond its limit.
#[derive(Debug)]
pub struct Deadline {
    at: Mutex<Instant>,
    limit: Instant,
}

impl Deadline {
    /// A deadline `after` from now that can be extended up to `limit` from now.
    pub fn new(after: Duration, limit: Duration) -> Self {
        let now = Instant::now();
        Self { at: Mutex::new(now + after), limit: now + limit }
    }

    /// When it ends, as things stand.
    pub fn at(&self) -> Instant {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time left, as things stand.
    pub fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Gives time until that moment at least, up to the limit.
    pub fn extend_to(&self, moment: Instant) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = (*at).max(moment).min(self.limit);
    }

    /// Whether it cannot be extended any more.
    pub fn is_at_limit(&self) -> bool {
        self.at() >= self.limit
    }

    /// Returns once the deadline has passed, wherever it was moved meanwhile.
    pub async fn passed(&self) {
        loop {
            let at = self.at();
            sleep_until(at).await;
            if self.at() <= at {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moves_forward_up_to_its_limit() {
        let start = Instant::now();
        let deadline = Deadline::new(Duration::from_secs(10), Duration::from_secs(30));
        deadline.extend_to(start + Duration::from_secs(3));
        assert_eq!(deadline.left(), Duration::from_secs(10));
        let moved = async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            deadline.extend_to(start + Duration::from_secs(18));
        };
        tokio::join!(deadline.passed(), moved);
        assert_eq!(start.elapsed(), Duration::from_secs(18));
        assert!(!deadline.is_at_limit());
        deadline.extend_to(start + Duration::from_secs(100));
        assert!(deadline.is_at_limit());
        deadline.passed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }
}
