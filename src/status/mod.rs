//! The server list answer.
//!
//! In passthrough mode it is the routed backend's own, so this room uses the routes and connections of
//! [`crate::backend`], its neighbour: the one such use between rooms of their tier.

use std::{path::PathBuf, time::Duration};

mod metrics;
pub mod passthrough;
pub mod serve;

pub use metrics::Metrics;
pub use serve::{Answers, AnswersError, Moment, serve};

/// Where the answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The routed backend's answer.
    Passthrough,
    /// Always the configured one.
    Static,
}

/// How server list pings are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the answer comes from.
    pub mode: Mode,
    /// Description in static mode, with colour codes.
    pub description: String,
    /// Player slots shown in static mode.
    pub max_players: u32,
    /// 64x64 PNG for static mode and for when no backend answers.
    pub favicon: Option<PathBuf>,
    /// Whether the outage is shown in the description.
    pub show_outage: bool,
    /// How long a backend's answer is shown again.
    pub cache: Duration,
}
