//! Failures that are charged before it is known whether they are any.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Bans, Failure};
use crate::{address, identity::NameKey, limit::target::Target};

/// A wrong PIN code, as long as it may still be a right one. It counts towards every limit, so that codes tried side by
/// side are not cheaper than those tried one after another; it bans nobody before it is known to be wrong. Dropped, it is
/// wrong: whoever leaves before the answer has had a try.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    bans: Bans,
    address: IpAddr,
    name: NameKey,
    id: Uuid,
    asn: Option<u32>,
    /// Whom it is charged to.
    pub(super) targets: Vec<Target>,
    is_given_back: bool,
}

impl Bans {
    /// Charges a wrong PIN code for `id`, before the code is compared. `None` if codes that are being compared already may
    /// use up what is left to the address, its surroundings, or the pair of id and address: another moment tells.
    pub fn charge(&self, address: IpAddr, name: &NameKey, id: Uuid, asn: Option<u32>) -> Option<Charge> {
        let client = address::limit_key(address);
        let now = self.now();
        let mut targets = vec![Target::Pair { id, client }];
        let mut state = self.state();
        if !state.is_banned(&Target::Client(client), now) {
            targets.push(Target::Client(client));
            targets.push(Target::Subnet(address::subnet(address, state.config.ipv4_subnet_prefix)));
            targets.extend(asn.map(Target::Asn));
        }
        let state = &mut *state;
        let tick = self.tick(now);
        let is_spent = targets.iter().any(|target| {
            let pending = state.pending.get(target).copied().unwrap_or_default();
            // Alone, it is always taken: what it leads to is a ban's business.
            pending > 0 && state.counters.of(target).is_spent(target, pending, tick)
        });
        if is_spent {
            return None;
        }
        for target in &targets {
            *state.pending.entry(*target).or_default() += 1;
        }
        Some(Charge {
            bans: self.clone(),
            address,
            name: name.clone(),
            id,
            asn,
            targets,
            is_given_back: false,
        })
    }
}

impl Charge {
    /// The code was right: nothing is held against anybody.
    pub fn give_back(mut self) {
        self.is_given_back = true;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.is_given_back {
            // First, so that it counts at every moment.
            self.bans.fail(Failure::WrongPin, self.address, &self.name, Some(self.id), self.asn);
        }
        let mut state = self.bans.state();
        for target in &self.targets {
            if let Some(pending) = state.pending.get_mut(target) {
                *pending -= 1;
                if *pending == 0 {
                    state.pending.remove(target);
                }
            }
        }
    }
}
