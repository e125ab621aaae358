//! A player who may go on to a backend.

use std::net::IpAddr;

use crate::{
    identity::{Profile, Property},
    mojang::classify::Verified,
    pin::ProvenPin,
    policy::{Permit, Proof},
};

/// A permit of policy, and all the proof that it asks for.
#[derive(Debug)]
pub struct Cleared {
    permit: Permit,
    proof: Proof,
}

impl Cleared {
    /// `None` if the permit asks for a PIN and this is not the proof of it.
    pub(super) fn new(permit: Permit, proven: Option<&ProvenPin>) -> Option<Self> {
        let proof = match proven {
            Some(proven) if proven.id() == permit.id() => Proof::Pinned,
            None if !permit.must_prove_pin() => Proof::Fallback,
            Some(_) | None => return None,
        };
        Some(Self { permit, proof })
    }

    /// Leave of policy.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// How the player was proven.
    pub fn proof(&self) -> Proof {
        self.proof
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
    /// From the session server's word.
    pub(super) fn verified(verified: Verified, address: IpAddr) -> Self {
        Self { profile: verified.into_profile(), proof: Proof::Verified, address }
    }

    /// From a permit of policy: id and name are the session's, never the client's.
    pub(super) fn by_policy(cleared: Cleared, properties: Vec<Property>, address: IpAddr) -> Self {
        Self::permitted(cleared.permit, cleared.proof, properties, address)
    }

    /// From a permit that asks for a PIN: may meet its backend, to be asked for it there.
    pub(super) fn held(permit: Permit, properties: Vec<Property>, address: IpAddr) -> Self {
        Self::permitted(permit, Proof::Held, properties, address)
    }

    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up by the admission it allows")]
    fn permitted(permit: Permit, proof: Proof, properties: Vec<Property>, address: IpAddr) -> Self {
        let profile = Profile { id: permit.id(), name: permit.name().clone(), properties };
        Self { profile, proof, address }
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
