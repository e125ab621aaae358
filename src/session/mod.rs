//! Remembered logins: one JSON document per player, and an index in memory.
//!
//! ```text
//! <directory>/.lock                  held by the one proxy or command that owns the store; says which, and where it is asked
//! <directory>/<2 hex>/<id>.json      a player's document; the folder is named by the id's first two digits
//! <directory>/<2 hex>/.<id>.tmp      a write that is under way; what a crash left is removed at the next start
//! <directory>/damaged/               documents that could not be read, set aside for a person to look at
//! ```
//!
//! # Durability
//!
//! A document is written to its temporary file, synced, renamed over the old one, and the folder is synced. So
//! after a crash at any moment it is whole: its old or its new self. Writing happens behind the login path, in one
//! task with a queue that holds at most one change per player; [`Store::flush`] and [`Store::flush_one`] wait for it.
//!
//! # Time
//!
//! * A session unused (no verified login, no verified presence) for [`record::UNUSED_AFTER`] is as good as absent
//!   in every answer of the store, whatever the configuration says: its name may since belong to somebody else. It
//!   leaves the index at the next start or hourly sweep. Its document is deleted with it if
//!   [`Config::cleanup_on_startup`] is set; else the document stays as it is, ignored, until the player verifies
//!   anew and a fresh one takes its place.
//! * A session last used *later* than now (the clock went back) cannot be told from one that is too old, so it is
//!   as good as absent too, but only until its next verified login, which mends its times, or until the
//!   clock has caught up. It is never deleted: machines without a battery start with a clock that is far behind.
//!   Differences up to [`record::CLOCK_SLACK`] count as none.

use std::{path::PathBuf, time::Duration};

pub mod alike;
mod error;
mod files;
pub mod import;
mod index;
mod load;
mod metrics;
mod moving;
pub mod query;
mod queue;
pub mod record;
pub mod scan;
mod store;
mod survey;
mod writer;

pub use error::StoreError;
pub use load::{Damaged, OpenReport};
pub use moving::Prepared;
pub use record::VerifiedLogin;
pub use store::Store;
pub use survey::{Hold, Holder, Owner, Role, Survey};

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of the documents.
    pub directory: PathBuf,
    /// Whether sessions unused for 36 days are removed when the store is opened.
    pub cleanup_on_startup: bool,
    /// How long a verified address counts.
    pub max_address_age: Duration,
    /// Prefix length within which two IPv4 addresses are one range (one address is remembered per range).
    pub ipv4_range_prefix: u8,
    /// The same for IPv6.
    pub ipv6_range_prefix: u8,
}
