//! Remembered logins: one JSON document per player, and an index in memory.

use std::{path::PathBuf, time::Duration};

pub mod record;

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of the documents.
    pub directory: PathBuf,
    /// Whether sessions unused for 36 days are removed when the store is opened.
    pub cleanup_on_startup: bool,
    /// How long a verified address counts.
    pub max_address_age: Duration,
    /// Prefix length within which two IPv4 addresses are one range (one address is remembered per range).
    pub ipv4_range_prefix: u8,
    /// The same for IPv6.
    pub ipv6_range_prefix: u8,
}
