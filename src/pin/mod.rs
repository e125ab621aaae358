//! PIN codes: what a player who cannot be verified proves itself with.

use std::time::Duration;

/// How PINs are kept and asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether there are PINs here at all. If not, the commands belong to the backends.
    pub enabled: bool,
    /// Fewest characters of a new PIN.
    pub min_length: u8,
    /// How long a player may take to enter the right one.
    pub timeout: Duration,
}
