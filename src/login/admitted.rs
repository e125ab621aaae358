//! A player who may go on to a backend.

use std::net::IpAddr;

use crate::identity::Profile;

/// How a player was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The session server vouched for this connection.
    Verified,
    /// Policy admitted a known player during an outage.
    Fallback,
}

impl Proof {
    /// The word for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Fallback => "fallback",
        }
    }
}

/// A player who may go on to a backend. Backends and relay accept nothing less; it can be made in two places only:
/// from the session server's word, and from a permit of policy.
#[derive(Debug)]
pub struct Admitted {
    profile: Profile,
    proof: Proof,
    address: IpAddr,
}

impl Admitted {
    /// Who the player is.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How that was proven.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// The client address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Only for tests of rooms that take an admitted player.
    #[cfg(test)]
    pub(crate) fn for_test(profile: Profile, proof: Proof, address: IpAddr) -> Self {
        Self { profile, proof, address }
    }
}
