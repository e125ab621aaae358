//! What would happen if the session servers went down now: who could join, who could not, and which rule costs how many
//! friends. Pure: sessions, terms and the time in, a report out.
//!
//! ```text
//! sessions ──Population::new──> Population ──report(terms)──> Report
//!                                    └────── policy::objections, for every player under the terms as they are and
//!                                            under each relaxation of a rule that keeps somebody out
//! ```
//!
//! # How a player is judged
//!
//! As if it came now, in an outage that begins now. Ages, history, lock and PIN are those of its session as it is. The
//! address is the one of its newest verified login, and is compared with the verified addresses **as they were before**
//! that login: in the session as it is, every address matches itself. Those that the login matched, exactly or by range
//! under the terms that are judged, were verified anew by it and count from then.
//!
//! Two kinds of session have no such record. One that was imported has had no login here yet: what an outage would
//! compare are its stored addresses as they are, and it is judged as coming from the newest of them. Any other was last
//! used before such records were kept: no address of it matches, which says nothing about the player, so the figures of
//! the rules that compare addresses, and what would come of relaxing them, leave it out.
//!
//! A player with a PIN counts as one who could join: that it knows its PIN is taken for granted. Nobody has tried wrong
//! codes yet.
//!
//! How many players share an address is counted over the whole store. Nobody is online, nobody is banned, and nobody has
//! been admitted by policy yet: these belong to the moment, not to the rules.

mod json;
mod judge;
mod player;
mod relax;
mod report;
mod show;
mod terms;

pub use json::{Judged, to_json};
pub use judge::Population;
pub use relax::rule;
pub use report::{Cost, Relaxation, Report};
pub use show::{Named, Shown};
pub use terms::{Difference, Terms};

use jiff::SignedDuration;

/// Players seen within so long are judged: who has stayed away for longer is missed by nobody on the evening of an
/// outage, and would blur the figures.
pub const CONSIDERED: SignedDuration = SignedDuration::from_hours(30 * 24);
