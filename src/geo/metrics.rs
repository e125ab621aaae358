//! What is counted of look-ups.

use super::Geo;
use crate::metric::{Counters, Error, Registry};

/// What a look-up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The answer of an earlier one was kept.
    Cached,
    /// Somebody else was asking for the same address already.
    Shared,
    /// The place was found.
    Found,
    /// The databases do not know the address.
    Unknown,
    /// The provider was asked in vain.
    Failed,
    /// The provider says that it is asked too often, or has said so lately.
    Throttled,
    /// There was no turn in time: too many are waiting for the provider.
    Busy,
}

impl Lookup {
    const ALL: [Self; 7] =
        [Self::Cached, Self::Shared, Self::Found, Self::Unknown, Self::Failed, Self::Throttled, Self::Busy];

    const fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Shared => "shared",
            Self::Found => "found",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
        }
    }
}

/// What is counted of look-ups. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Counters<1>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Counters::new(
            "postern_geo_lookups_total",
            "Look-ups of where public addresses are, by what they came to: cached and shared ones asked nobody.",
            ["result"],
            Lookup::ALL.map(|lookup| [lookup.label()]),
        ))
    }
}

impl Metrics {
    /// A look-up came to this.
    pub(super) fn looked_up(&self, lookup: Lookup) {
        self.0.count([lookup.label()]);
    }
}

impl Geo {
    /// Has what is known of look-ups read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.metrics().0.register(registry)
    }
}
