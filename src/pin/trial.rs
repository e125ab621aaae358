//! One attempt to enter a PIN.

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use secrecy::SecretString;
use uuid::Uuid;

use super::{
    hash::{self, Compared},
    pins::{Claim, Shared},
    pool::{Lane, Turn},
};
use crate::{
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

impl Gate {
    /// The word for logs and audit.log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::Quarantine => "quarantine",
        }
    }
}

/// Why no code is compared any more, not even the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// A ban has come to cover the attempt.
    Banned,
    /// There were 20 wrong codes for the id within 24 h.
    WrongCodes,
}

impl Bar {
    /// The word for audit.log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::WrongCodes => "wrong-codes",
        }
    }
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
    /// It is not, and was the third wrong one.
    Over,
    /// It was not compared, and costs nothing: whether it is right must not be told any more.
    Barred(Bar),
    /// It was not compared, and costs nothing: the player has no PIN any more. The attempt has not failed.
    Gone,
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
    Gone,
    Failed,
}

impl Trial {
    pub(super) fn new(shared: Arc<Shared>, who: Tried) -> Self {
        Self { shared, who, left: TRIES }
    }

    /// Tries a code. Takes some tens of milliseconds, more behind others; what was begun is charged if this is dropped.
    pub async fn attempt(&mut self, words: &SecretString) -> Outcome {
        let outcome = self.try_code(words).await;
        self.shared.metrics.tried(&outcome);
        outcome
    }

    async fn try_code(&mut self, words: &SecretString) -> Outcome {
        if self.left == 0 {
            return Outcome::Over;
        }
        if let Some(bar) = self.bar() {
            return Outcome::Barred(bar);
        }
        let Some(claim) = self.shared.claim(self.who.id) else { return Outcome::Busy };
        let lane = if self.who.is_exact { Lane::Known } else { Lane::Strangers };
        let Some(ticket) = self.shared.pool.queue(lane) else { return Outcome::Busy };
        let Some(turn) = ticket.turn().await else { return Outcome::Local };
        // Others may have failed while this one waited.
        if let Some(bar) = self.bar() {
            return Outcome::Barred(bar);
        }
        let Tried { id, ref name, address, asn, .. } = self.who;
        let Some(charge) = self.shared.bans.charge(address, name, id, asn) else { return Outcome::Busy };
        let code = self.shared.wrong_codes.charge(id);
        self.left -= 1;
        let stake = Stake { charge, code, _claim: claim, _turn: turn };
        let (shared, words) = (Arc::clone(&self.shared), words.clone());
        let answer = tokio::task::spawn_blocking(move || {
            // A fault in the computation is ours, and nobody's wrong code.
            let compared = catch_unwind(AssertUnwindSafe(|| compare(&shared, id, &words)));
            let answer = compared.unwrap_or(Answer::Failed);
            match answer {
                Answer::Wrong => drop(stake),
                Answer::Right | Answer::Gone | Answer::Failed => stake.give_back(),
            }
            answer
        });
        // Where the work itself is lost, the program stops.
        let answer = answer.await.unwrap_or(Answer::Failed);
        if !matches!(answer, Answer::Wrong) {
            self.left += 1;
        }
        match answer {
            Answer::Right => Outcome::Right(ProvenPin { id }),
            Answer::Wrong if self.left == 0 => Outcome::Over,
            Answer::Wrong => Outcome::Wrong { left: self.left },
            Answer::Gone => Outcome::Gone,
            Answer::Failed => Outcome::Local,
        }
    }

    /// The attempt ended without the right code, by what the player did or did not do.
    pub fn fail(self, gate: Gate) {
        let Tried { id, ref name, address, asn, .. } = self.who;
        // Wrong codes count at the player's own client too: they cannot be told from a guesser's next door. Coming and
        // going does not.
        let is_own = self.shared.store.by_id(id).is_some_and(|session| session.is_own_client(address));
        self.shared.bans.fail(Failure::Unproven, address, name, (!is_own).then_some(id), asn);
        self.fail_uncharged(gate);
    }

    /// The attempt ended without the right code, by what the player may have brought about, but which must not get
    /// anybody banned: its place was wanted, or its backend closed. All that remains of it is that somebody was at a
    /// backend under this name and did not prove to be its player.
    pub fn fail_uncharged(self, gate: Gate) {
        if gate == Gate::Quarantine {
            self.shared.store.update(self.who.id, |session| session.unproven_quarantine = true);
        }
    }

    /// Why not even the right code would help, if so: then whether it is right must not be told.
    fn bar(&self) -> Option<Bar> {
        let Tried { id, address, asn, is_exact, .. } = self.who;
        let Hits { client, subnet, asn, pair } = self.shared.bans.hits(address, asn, Some(id));
        if pair || !is_exact && (client || subnet || asn) {
            return Some(Bar::Banned);
        }
        let many = !is_exact && self.shared.wrong_codes.count(id) >= TOO_MANY_WRONG_CODES;
        many.then_some(Bar::WrongCodes)
    }
}

/// Compares, off the network threads.
fn compare(shared: &Shared, id: Uuid, words: &SecretString) -> Answer {
    // Read now: who waited may have another PIN by now, or none.
    let Some(stored) = shared.stored(id) else { return Answer::Gone };
    match hash::compare(words, &stored) {
        Ok(Compared::Right { outdated }) => {
            if outdated && let Ok(better) = hash::make(words) {
                shared.improve(id, &stored, better);
            }
            Answer::Right
        }
        Ok(Compared::Wrong) => Answer::Wrong,
        Ok(Compared::Unreadable) => {
            shared.tell_unreadable(id);
            Answer::Wrong
        }
        Err(hash::Failed) => Answer::Failed,
    }
}

impl Stake {
    fn give_back(self) {
        self.charge.give_back();
        self.code.give_back();
    }
}
