//! A player who may go on to a backend.

use std::net::IpAddr;

use crate::{
    identity::{Profile, Property},
    mojang::classify::Verified,
    policy::{Permit, Proof},
};

/// A player who may go on to a backend. Backends and relay accept nothing less; it can be made in two places only:
/// from the session server's word, and from a permit of policy.
#[derive(Debug)]
pub struct Admitted {
    profile: Profile,
    proof: Proof,
    address: IpAddr,
}

impl Admitted {
    /// From the session server's word.
    pub(super) fn verified(verified: Verified, address: IpAddr) -> Self {
        Self { profile: verified.into_profile(), proof: Proof::Verified, address }
    }

    /// From a permit of policy: id and name are the session's, never the client's.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up by the admission it allows")]
    pub(super) fn by_policy(permit: Permit, properties: Vec<Property>, address: IpAddr) -> Self {
        let profile = Profile { id: permit.id(), name: permit.name().clone(), properties };
        Self { profile, proof: Proof::Fallback, address }
    }

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
