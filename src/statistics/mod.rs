//! Totals since installation.

use std::path::PathBuf;

/// Where totals are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file; `None` counts nothing.
    pub path: Option<PathBuf>,
}
