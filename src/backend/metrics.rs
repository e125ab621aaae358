//! What is counted of the way into backends.

use std::time::Duration;

use super::{EnterError, Fault, route::Router};
use crate::metric::{Counters, Error, NEARBY, Registry, Timings};

/// What is counted of the way into backends. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    connects: Timings<1>,
    faults: Counters<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connects: Timings::new(
                "postern_backend_connect_seconds",
                "How long it took to connect to a backend for a player, or to find out that it cannot be reached.",
                NEARBY,
                ["result"],
                [["connected"], ["failed"]],
            ),
            faults: Counters::new(
                "postern_backend_faults_total",
                "Players whom a backend did not take, by what was wrong with it.",
                ["fault"],
                Fault::LABELS.iter().map(|label| [*label]),
            ),
        }
    }
}

impl Metrics {
    /// A backend was reached, or not.
    pub(super) fn connected(&self, is_connected: bool, time: Duration) {
        self.connects.took([if is_connected { "connected" } else { "failed" }], time);
    }
}

impl Router {
    /// Counts that a player did not get in.
    pub fn note_failure(&self, error: &EnterError) {
        if let EnterError::Backend { fault, .. } = error {
            self.metrics().faults.count([fault.label()]);
        }
    }

    /// Has what is known of the way into backends read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let metrics = self.metrics();
        metrics.connects.register(registry)?;
        metrics.faults.register(registry)
    }
}
