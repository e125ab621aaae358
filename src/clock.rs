//! Wall-clock time as a handle that is given, never taken.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Where the program gets UTC time from. Deadlines use tokio's `Instant` instead, which tests can pause.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The operating system's clock.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that shows `start` now and advances with tokio's clock, so that paused time moves both.
    pub fn starting_at(start: Timestamp) -> Self {
        let origin = Instant::now();
        Self(Arc::new(move || {
            let elapsed = SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX);
            start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
        }))
    }

    /// A clock that shows what a test sets.
    #[cfg(test)]
    pub(crate) fn shown_by(shown: Arc<std::sync::Mutex<Timestamp>>) -> Self {
        Self(Arc::new(move || *shown.lock().unwrap()))
    }

    /// The time now, in UTC.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
