//! When a client was last heard.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The time of the last byte from a client, or since when it can be heard again. One relaxed store a turn; readable from
/// other tasks.
#[derive(Debug)]
pub struct Activity {
    origin: Instant,
    /// Milliseconds after `origin`; in the far future while nobody listens.
    heard: AtomicU64,
}

impl Default for Activity {
    /// Heard just now.
    fn default() -> Self {
        Self { origin: Instant::now(), heard: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Notes that the client was heard at `now`.
    pub fn touch(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        // Nothing else is published by this store.
        self.heard.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Nobody listens to the client for now, because its backend takes nothing: until the next touch it is not silent.
    pub fn not_listening(&self) {
        self.heard.store(u64::MAX, Ordering::Relaxed);
    }

    /// How long the client has been silent, to the millisecond.
    pub fn silent_for(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_touch() {
        let activity = Activity::default();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(activity.silent_for(), Duration::from_secs(7));
        activity.touch(Instant::now());
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(activity.silent_for(), Duration::from_millis(250));
        activity.not_listening();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(activity.silent_for(), Duration::ZERO);
        activity.touch(Instant::now());
        assert_eq!(activity.silent_for(), Duration::ZERO);
    }
}
