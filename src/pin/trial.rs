//! One attempt to enter a PIN.

use std::{net::IpAddr, sync::Arc};

use secrecy::SecretString;
use uuid::Uuid;

use super::{
    hash::{self, Compared},
    pins::{Claim, Shared},
    pool::{Lane, Turn},
};
use crate::{
    address,
    identity::NameKey,
    limit::{Charge, ChargedCode, Failure, Hits},
    policy::TOO_MANY_WRONG_CODES,
};

/// Wrong codes that end an attempt.
const TRIES: u8 = 3;

/// Who tries.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The session's id.
    pub id: Uuid,
    /// The name in login start.
    pub name: NameKey,
    /// The client address.
    pub address: IpAddr,
    /// Its network, if that is known without asking.
    pub asn: Option<u32>,
    /// Whether the address is exactly one that was verified for the player and still counts: then what others did from
    /// elsewhere does not matter.
    pub is_exact: bool,
}

/// How a player is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// By a dialog, before any backend sees it.
    Dialog,
    /// On its backend.
    Quarantine,
}

/// What became of a code.
#[derive(Debug)]
pub enum Outcome {
    /// It is the PIN.
    Right(ProvenPin),
    /// It is not.
    Wrong {
        /// Tries that are left, at least one.
        left: u8,
    },
    /// No code is taken any more: this was the third wrong one, or there were too many from elsewhere meanwhile, so that
    /// not even the right one would help.
    Over,
    /// It was not compared, and costs nothing: another code of this player is being, or too many of others.
    Busy,
    /// This machine could not compare it. It costs nothing.
    Local,
}

/// A right code was given for this id. Only [`Trial::attempt`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct ProvenPin {
    id: Uuid,
}

impl ProvenPin {
    /// Whose PIN it was.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// The tries of one connection.
#[derive(Debug)]
pub struct Trial {
    shared: Arc<Shared>,
    who: Tried,
    left: u8,
}

/// What a code costs unless it is right, and what must not happen twice meanwhile. Goes where the code is compared, and
/// with it: leaving does not make a try cheaper, nor another one possible beside it.
struct Stake {
    charge: Charge,
    code: ChargedCode,
    _claim: Claim,
    _turn: Turn,
}

enum Answer {
    Right,
    Wrong,
    Failed,
}

impl Trial {
    pub(super) fn new(shared: Arc<Shared>, who: Tried) -> Self {
        Self { shared, who, left: TRIES }
    }

    /// Tries a code. Takes some tens of milliseconds, more behind others; what was begun is charged if this is dropped.
    pub async fn attempt(&mut self, words: &SecretString) -> Outcome {
        if self.left == 0 || self.is_barred() {
            return Outcome::Over;
        }
        let Some(claim) = self.shared.claim(self.who.id) else { return Outcome::Busy };
        let lane = if self.who.is_exact { Lane::Known } else { Lane::Strangers };
        let Some(ticket) = self.shared.pool.queue(lane) else { return Outcome::Busy };
        let Some(turn) = ticket.turn().await else { return Outcome::Local };
        // Others may have failed while this one waited.
        if self.is_barred() {
            return Outcome::Over;
        }
        let Tried { id, ref name, address, asn, .. } = self.who;
        let Some(charge) = self.shared.bans.charge(address, name, id, asn) else { return Outcome::Busy };
        let code = self.shared.wrong_codes.charge(id);
        self.left -= 1;
        let stake = Stake { charge, code, _claim: claim, _turn: turn };
        let (shared, words) = (Arc::clone(&self.shared), words.clone());
        let answer = tokio::task::spawn_blocking(move || compare(&shared, id, &words, stake)).await;
        match answer.unwrap_or(Answer::Failed) {
            Answer::Right => {
                self.left += 1;
                Outcome::Right(ProvenPin { id })
            }
            Answer::Wrong if self.left == 0 => Outcome::Over,
            Answer::Wrong => Outcome::Wrong { left: self.left },
            Answer::Failed => {
                self.left += 1;
                Outcome::Local
            }
        }
    }

    /// The attempt ended without the right code, in whatever way but the proxy's own doing.
    pub fn fail(self, gate: Gate) {
        let Tried { id, name, address, asn, .. } = self.who;
        let session = self.shared.store.by_id(id);
        // Of those who share the address that a player was verified from, nobody may lock it out there by coming and
        // going under its name. Wrong codes do: they cannot be told from a guesser's next door.
        let client = address::limit_key(address);
        let is_own = session.is_some_and(|session| {
            session.addresses.iter().any(|known| address::limit_key(known.address) == client)
        });
        self.shared.bans.fail(Failure::Unproven, address, &name, (!is_own).then_some(id), asn);
        if gate == Gate::Quarantine {
            self.shared.store.update(id, |session| session.unproven_quarantine = true);
        }
    }

    /// Whether not even the right code would help: then whether it is right must not be told.
    fn is_barred(&self) -> bool {
        let Tried { id, address, asn, is_exact, .. } = self.who;
        let Hits { client, subnet, asn, pair } = self.shared.bans.hits(address, asn, Some(id));
        let elsewhere = client || subnet || asn || self.shared.wrong_codes.count(id) >= TOO_MANY_WRONG_CODES;
        pair || elsewhere && !is_exact
    }
}

/// Compares, off the network threads.
fn compare(shared: &Shared, id: Uuid, words: &SecretString, stake: Stake) -> Answer {
    // Read now: who waited may have another PIN by now, or none.
    let Some(stored) = shared.stored(id) else { return Answer::Wrong };
    match hash::compare(words, &stored) {
        Ok(Compared::Right { outdated }) => {
            if outdated && let Ok(better) = hash::make(words) {
                shared.improve(id, &stored, better);
            }
            stake.give_back();
            Answer::Right
        }
        Ok(Compared::Wrong) => Answer::Wrong,
        Ok(Compared::Unreadable) => {
            shared.tell_unreadable(id);
            Answer::Wrong
        }
        Err(hash::Failed) => {
            stake.give_back();
            Answer::Failed
        }
    }
}

impl Stake {
    fn give_back(self) {
        self.charge.give_back();
        self.code.give_back();
    }
}
