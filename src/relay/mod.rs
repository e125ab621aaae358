//! The pipe between an admitted player and the backend.

use std::time::Duration;

/// How the pipe treats silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest silence of either side before the connection is closed.
    pub read_timeout: Duration,
}
