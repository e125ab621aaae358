//! The file of the totals: one JSON object, replaced whole. Everything here blocks.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Totals;
use crate::disk;

/// A hundred outages and every reason are some 20 KB; a file that is much longer is not ours.
const MAX_LEN: usize = 256 * 1024;

/// The version that [`Document::version`] carries.
const FORMAT_VERSION: u32 = 1;

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Document<T> {
    version: u32,
    #[serde(flatten)]
    totals: T,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk does not give it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It holds no totals.
    #[error("it holds no statistics of this version: {0}")]
    Damaged(String),
}

/// Reads the totals that a proxy keeps there; `None` if there is no such file. Whether a proxy runs makes no
/// difference. Blocks.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn read_file(path: &Path) -> Result<Option<Totals>, ReadError> {
    let bytes = match disk::read_small(path, MAX_LEN) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = |why: String| Err(ReadError::Damaged(why));
    match serde_json::from_slice::<Document<Totals>>(&bytes) {
        Ok(document) if document.version == FORMAT_VERSION => Ok(Some(document.totals)),
        Ok(document) => damaged(format!("its format version is {}", document.version)),
        Err(error) => damaged(error.to_string()),
    }
}

/// Reads the totals to go on from. What makes no sense is set aside with a warning.
pub(super) fn open(path: &Path) -> Result<Option<Totals>, ReadError> {
    match read_file(path) {
        Err(ReadError::Damaged(why)) => {
            set_aside(path, &why)?;
            Ok(None)
        }
        other => other,
    }
}

/// Moves a file out of the way that makes no sense.
pub(super) fn set_aside(path: &Path, why: &str) -> io::Result<()> {
    let aside = disk::set_aside(path)?;
    warn!(
        path = %path.display(), why, moved_to = %aside.display(),
        "the statistics file is damaged; it was set aside, and counting starts anew"
    );
    Ok(())
}

pub(super) fn write(path: &Path, totals: &Totals) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(&Document { version: FORMAT_VERSION, totals })?;
    bytes.push(b'\n');
    disk::replace(path, &bytes)
}
