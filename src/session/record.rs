//! What is remembered of a player.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::{Property, Username};

/// A client address from which a verified login came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedAddress {
    /// The exact address, never an IPv4-mapped one.
    pub address: IpAddr,
    /// The newest verified login from it.
    pub verified: Timestamp,
    /// ISO 3166 country code, if looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Autonomous system number, if looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

/// A network from which a fallback login was refused for its foreign country and ASN, until the next verified login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedNetwork {
    /// ISO 3166 country code.
    pub country: Option<String>,
    /// Autonomous system number.
    pub asn: Option<u32>,
}

/// A remembered, once verified login of a player: all but its profile properties, which stay on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Account id; the key.
    pub id: Uuid,
    /// Account name; `None` once another id verified with it.
    pub name: Option<Username>,
    /// First verified login.
    pub first_verified: Timestamp,
    /// Newest verified login.
    pub last_verified: Timestamp,
    /// Newest time at which a verified connection was known to be up.
    pub last_present: Option<Timestamp>,
    /// Verified logins so far.
    pub verified_logins: u32,
    /// Logins admitted by policy so far.
    #[serde(default)]
    pub fallback_logins: u32,
    /// Up to 4, newest first, at most one per range.
    pub addresses: Vec<VerifiedAddress>,
    /// Newest verified login with a protocol below 771, which has no dialogs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_without_dialogs: Option<Timestamp>,
    /// Newest verified login with protocol 771 or above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_with_dialogs: Option<Timestamp>,
    /// PIN hash in PHC string form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_hash: Option<String>,
    /// Whether the owner locked it until the next verified login.
    #[serde(default)]
    pub locked: bool,
    /// Foreign networks refused since the last verified login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_networks: Vec<DeniedNetwork>,
}

/// The document on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Format version, 1.
    pub version: u32,
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Profile properties of the newest verified login.
    pub properties: Vec<Property>,
}
