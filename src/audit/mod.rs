//! audit.log: JSON Lines, one object per event.
//!
//! [`Audit::emit`] never waits: events go through a bounded queue to a thread that writes them. What does not fit is
//! dropped, refusals first, and counted; the count is written once there is room again.

use std::path::PathBuf;

mod coalesce;
mod event;
mod files;
mod metrics;
mod output;
mod press;
mod queue;
pub mod read;
mod shelf;
mod tap;
mod wanted;
mod writer;

pub use event::{Event, Kind};
pub use output::OpenError;
pub use wanted::{BadEvent, Wanted};
pub use writer::{Audit, Figures, Prepared};

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file; `None` writes none.
    pub path: Option<PathBuf>,
    /// Bytes that a file has at most before it is rotated; 0 leaves rotation to others.
    pub max_size: u64,
    /// Rotated files kept. With 0, what is full is not kept at all.
    pub keep: u32,
    /// Whether rotated files are compressed with gzip.
    pub compress: bool,
}
