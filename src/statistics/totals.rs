//! What the file and every report show.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outages::Outage;

/// Counts since installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Since when is counted.
    pub since: Timestamp,
    /// Players who came in on the session server's word.
    pub verified: u64,
    /// Players who came in by policy.
    pub fallback: u64,
    /// Logins refused, by reason code; those that never happened are left out.
    pub refused: BTreeMap<String, u64>,
    /// When the session server was down. A verdict that the owner forced to Down counts like any other.
    pub outages: Outages,
}

/// Outages since installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outages {
    /// How many.
    pub count: u64,
    /// How long they lasted together, in seconds; the one that goes on counts as far as it was seen.
    pub seconds: u64,
    /// The newest hundred, oldest first.
    pub newest: Vec<Outage>,
}

impl Totals {
    /// Nothing has been counted yet.
    pub fn since(since: Timestamp) -> Self {
        Self { since, verified: 0, fallback: 0, refused: BTreeMap::new(), outages: Outages::default() }
    }

    /// Refusals for all reasons together.
    pub fn all_refused(&self) -> u64 {
        self.refused.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}
