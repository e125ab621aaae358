//! The verdict on the session server.

use std::{path::PathBuf, time::Duration};

/// When the verdict changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between probes while all is well.
    pub check_interval: Duration,
    /// Between probes from the first failure until the verdict is clear.
    pub retry_interval: Duration,
    /// Failures until Down.
    pub failure_threshold: u32,
    /// Good probes in a row until Up, or out of Down.
    pub recovery_threshold: u32,
    /// Whether `Throttled` counts as a failure.
    pub treat_throttling_as_outage: bool,
    /// Where the start of an outage is kept until the state is Up again.
    pub outage_file: PathBuf,
}
