//! A deadline that several steps share, and that one of them may move.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// When a login must be over. Cheap to look at; moves only forward, and never beyond its limit, unless a new part of the
/// login begins.
#[derive(Debug)]
pub struct Deadline(Mutex<Moments>);

#[derive(Clone, Copy, Debug)]
struct Moments {
    at: Instant,
    limit: Instant,
}

impl Moments {
    fn new(after: Duration, limit: Duration) -> Self {
        let now = Instant::now();
        Self { at: now + after, limit: now + limit }
    }
}

impl Deadline {
    /// A deadline `after` from now that can be extended up to `limit` from now.
    pub fn new(after: Duration, limit: Duration) -> Self {
        Self(Mutex::new(Moments::new(after, limit)))
    }

    /// A part of the login begins that has a time of its own. Whoever waits for the deadline already may hear of one that
    /// was moved back only when the old one has passed.
    pub fn begin_anew(&self, after: Duration, limit: Duration) {
        *self.lock() = Moments::new(after, limit);
    }

    fn lock(&self) -> MutexGuard<'_, Moments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it ends, as things stand.
    pub fn at(&self) -> Instant {
        self.lock().at
    }

    /// Time left, as things stand.
    pub fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Gives time until that moment at least, up to the limit.
    pub fn extend_to(&self, moment: Instant) {
        let mut moments = self.lock();
        moments.at = moments.at.max(moment).min(moments.limit);
    }

    /// Whether it cannot be extended any more.
    pub fn is_at_limit(&self) -> bool {
        let Moments { at, limit } = *self.lock();
        at >= limit
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

    #[tokio::test(start_paused = true)]
    async fn a_new_part_has_a_time_of_its_own() {
        let deadline = Deadline::new(Duration::from_secs(10), Duration::from_secs(30));
        deadline.begin_anew(Duration::from_secs(100), Duration::from_secs(100));
        assert!(deadline.is_at_limit());
        let start = Instant::now();
        deadline.begin_anew(Duration::from_secs(5), Duration::from_secs(50));
        assert!(!deadline.is_at_limit());
        deadline.extend_to(start + Duration::from_secs(40));
        deadline.passed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(40));
    }
}
