//! What is counted of writes to the store.

use std::time::Duration;

use super::Store;
use crate::metric::{Counters, DISK, Error, Readings, Registry, Timings, alone, length};

/// What is counted of writes. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    writes: Counters<1>,
    took: Timings<0>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            writes: Counters::new(
                "postern_store_writes_total",
                "Session documents written or removed, by whether the disk took it; what failed is tried again.",
                ["result"],
                [["ok"], ["failed"]],
            ),
            took: Timings::one(
                "postern_store_write_seconds",
                "How long a session document took to be written and synced.",
                DISK,
            ),
        }
    }
}

impl Metrics {
    /// A document was written, or not.
    pub(super) fn wrote(&self, ok: bool, time: Duration) {
        self.writes.count([if ok { "ok" } else { "failed" }]);
        self.took.took([], time);
    }
}

impl Store {
    /// Has what is known of the store read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let metrics = self.metrics();
        metrics.writes.register(registry)?;
        metrics.took.register(registry)?;
        let store = self.clone();
        Readings::gauge("postern_sessions", "Sessions in the store: players it remembers.", [], move || {
            alone(length(store.len()))
        })
        .register(registry)?;
        let store = self.clone();
        Readings::gauge(
            "postern_store_queue",
            "Changes of sessions that are not on disk yet.",
            [],
            move || alone(length(store.pending_writes())),
        )
        .register(registry)
    }
}
