//! Who failed too often.

use std::{path::PathBuf, time::Duration};

/// When failures lead to a ban, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Failures from one client address, or of one pair of id and client address, that lead to a ban.
    pub per_client: u32,
    /// Failures from one subnet that do.
    pub per_subnet: u32,
    /// Failures from one network (ASN) that do.
    pub per_asn: u32,
    /// How long a failure counts, and a ban lasts.
    pub duration: Duration,
    /// The file of the bans.
    pub file: PathBuf,
    /// Prefix length of an IPv4 subnet.
    pub ipv4_subnet_prefix: u8,
}
