//! What is counted of PIN codes that are tried.

use super::{Pins, trial::Outcome};
use crate::metric::{Counters, Error, Registry};

/// What is counted of codes. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Counters<1>);

/// What a code can come to.
const RESULTS: [&str; 6] = ["right", "wrong", "barred", "gone", "busy", "local"];

impl Default for Metrics {
    fn default() -> Self {
        Self(Counters::new(
            "postern_pin_attempts_total",
            "PIN codes entered by held players, by what came of them; only right and wrong ones were compared.",
            ["result"],
            RESULTS.map(|result| [result]),
        ))
    }
}

impl Metrics {
    /// A code came to this.
    pub(super) fn tried(&self, outcome: &Outcome) {
        self.0.count([match outcome {
            Outcome::Right(_) => "right",
            Outcome::Wrong { .. } | Outcome::Over => "wrong",
            Outcome::Barred(_) => "barred",
            Outcome::Gone => "gone",
            Outcome::Busy => "busy",
            Outcome::Local => "local",
        }]);
    }
}

impl Pins {
    /// Has what is known of codes read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.metrics().0.register(registry)
    }
}
