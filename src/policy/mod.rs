//! The verdict on an outage login: a pure function of rules, facts and time.
//!
//! ```text
//! Facts ──measure──> Evidence ──checks, in order──> Decision ─┬─> Admit(Permit)   the only maker of a Permit
//! Rules ─────────────────┴───────────┘                        └─> Refuse(Reason)  of the first check that fails
//! ```
//!
//! What a check compares is what the decision's [`Evidence`] says, so the audit line always tells why.

pub mod evidence;
pub mod facts;
pub mod judge;
pub mod rules;

pub use evidence::{
    AddressMatch, Displace, Evidence, FoundBy, PinBar, TOO_MANY_WRONG_CODES, is_foreign, known_places,
};
pub use facts::{Bans, Facts, Location, Online, Proof};
pub use judge::{Decision, Permit, judge, objections, wants_location};
pub use rules::Rules;
