//! The owner's rules.

use std::{collections::HashSet, time::Duration};

use uuid::Uuid;

/// What a session must fulfil to let its player in during an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Longest time between the last verified presence and the start of the outage.
    pub max_session_age: Duration,
    /// Longest time since the last verified presence, if required.
    pub recent_activity: Option<Duration>,
    /// Fewest verified logins.
    pub min_login_history: u32,
    /// Whether loopback, private, link-local and CGNAT addresses count as evidence.
    pub trust_private_addresses: bool,
    /// Most players that may share an exact client address.
    pub max_accounts_per_address: u32,
    /// Whether an unproven address refuses; if not, it is only recorded.
    pub strict_ip_check: bool,
    /// Whether an address in the range of a verified one counts as proven.
    pub allow_ip_range_match: bool,
    /// Prefix length of an IPv4 range.
    pub ipv4_range_prefix: u8,
    /// Prefix length of an IPv6 range.
    pub ipv6_range_prefix: u8,
    /// How long a verified address counts.
    pub max_address_age: Duration,
    /// Ids that must always authenticate online.
    pub require_mojang_auth: HashSet<Uuid>,
    /// Whether the rules about country and network apply at all.
    pub geo_checks: bool,
    /// Networks (ASNs) to keep out.
    pub blocked_asns: HashSet<u32>,
    /// Whether a country and network that are none of the session's refuse.
    pub deny_on_geo_change: bool,
    /// Whether an address that could not be looked up refuses.
    pub deny_on_geo_unknown: bool,
    /// Whether there are PINs at all: without them nobody is asked for one, and none weighs anything.
    pub pins: bool,
    /// Whether players without a PIN are refused.
    pub require_pin: bool,
    /// Whether a player with a PIN may come from a new address in a network (ASN) of its own.
    pub allow_pin_for_changed_address: bool,
}
