//! audit.log: JSON Lines, one object per event.

use std::path::PathBuf;

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file; `None` writes none.
    pub path: Option<PathBuf>,
    /// Bytes before the file is rotated; 0 leaves rotation to others.
    pub max_size: u64,
    /// Rotated files kept.
    pub keep: u32,
}
