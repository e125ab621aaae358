//! PIN codes: what a player who cannot be verified proves itself with.
//!
//! ```text
//! words ──strength──> hash ──pool──> session document, on disk          Pins::set
//! words ──Trial: charged──> pool: compare ─┬─ right: given back ──> ProvenPin, the one way to be admitted with a PIN
//!                                          └─ wrong: stays charged
//! ```
//!
//! # What guessing costs
//!
//! Each code is charged to its guesser before anything is computed, and given back if it was right: so codes that are
//! tried side by side are as dear as those tried one after another. Three wrong ones end an attempt, ten or so ban an
//! address and the pair of id and address, and after [`TOO_MANY_WRONG_CODES`](crate::policy::TOO_MANY_WRONG_CODES) within
//! a day the PIN of an id is taken from exactly verified addresses alone, from wherever the wrong ones came. One code per
//! id is compared at a time.
//!
//! # What is kept
//!
//! A hash in the session's document, as a PHC string: Argon2id with a salt of its own. No code, nor its length or hash, is
//! in anything that is printed.

use std::time::Duration;

mod hash;
mod metrics;
mod pins;
mod pool;
mod strength;
mod trial;

pub use pins::{NotSaved, Pins, Saved};
pub use strength::{MAX_LENGTH, Weakness};
pub use trial::{Bar, Gate, Outcome, ProvenPin, Trial, Tried};

/// How PINs are kept and asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether there are PINs here at all. If not, the commands belong to the backends.
    pub enabled: bool,
    /// Fewest characters of a new PIN.
    pub min_length: u8,
    /// How long a player may take to enter the right one.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests;
