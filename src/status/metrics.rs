//! What is counted of server list pings.

use crate::metric::{Counters, Error, Registry};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A client since 1.7.
    Current,
    /// A client, or a list, in the format before that.
    Legacy,
}

impl Asked {
    const ALL: [Self; 2] = [Self::Current, Self::Legacy];

    const fn label(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Legacy => "legacy",
        }
    }
}

/// Whose answer it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The backend's.
    Passthrough,
    /// The configured one.
    Static,
    /// The configured one for when no backend answers.
    Offline,
}

impl Answered {
    const ALL: [Self; 3] = [Self::Passthrough, Self::Static, Self::Offline];

    const fn label(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Static => "static",
            Self::Offline => "offline",
        }
    }
}

/// What is counted of pings. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Counters<2>);

impl Default for Metrics {
    /// Nothing has happened yet.
    fn default() -> Self {
        let pairs =
            Asked::ALL.iter().flat_map(|asked| Answered::ALL.map(|mode| [asked.label(), mode.label()]));
        Self(Counters::new(
            "postern_status_pings_total",
            "Server list pings answered, by the format they came in and whose answer they got.",
            ["format", "mode"],
            pairs,
        ))
    }
}

impl Metrics {
    /// A ping is about to get that answer.
    pub(super) fn answered(&self, asked: Asked, answered: Answered) {
        self.0.count([asked.label(), answered.label()]);
    }

    /// Has them read with the other figures.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.0.register(registry)
    }
}
