//! The start of an outage on disk, so that a restart in the middle of one does not move it.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::disk;

/// The document is about 60 bytes; a longer file is not ours.
const MAX_LEN: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Document {
    outage_started: Timestamp,
}

/// Reads the kept start. A damaged file, or one from the future, is ignored with a warning. Blocks.
pub(super) fn load(path: &Path, now: Timestamp) -> Option<Timestamp> {
    match read(path) {
        Ok(None) => None,
        Ok(Some(started)) if started <= now => Some(started),
        Ok(Some(started)) => {
            tracing::warn!(path = %path.display(), %started, "the kept start of an outage lies ahead; ignored");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the kept start of an outage cannot be read; ignored");
            None
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Timestamp>> {
    match disk::read_small(path, MAX_LEN) {
        Ok(bytes) => Ok(Some(serde_json::from_slice::<Document>(&bytes)?.outage_started)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps the start of an outage, or forgets it. After a crash the file is either its old or its new self. Blocks.
pub(super) fn store(path: &Path, started: Option<Timestamp>) -> io::Result<()> {
    let Some(outage_started) = started else { return disk::remove(path) };
    let mut text = serde_json::to_vec(&Document { outage_started })?;
    text.push(b'\n');
    disk::replace(path, &text)
}

/// Removes the file if it says one of these starts: whoever writes there now may have put another one in its place.
/// Blocks.
pub(super) fn forget(path: &Path, starts: &[Timestamp]) -> io::Result<()> {
    match read(path)? {
        Some(started) if starts.contains(&started) => store(path, None),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outage.json");
        let started: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-11-21T21:00:00Z".parse().unwrap();
        assert_eq!(load(&path, later), None);
        store(&path, None).unwrap();
        store(&path, Some(started)).unwrap();
        assert_eq!(load(&path, later), Some(started));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        store(&path, Some(later)).unwrap();
        assert_eq!(load(&path, later), Some(later));
        assert_eq!(load(&path, started), None, "a start that lies ahead");
        store(&path, None).unwrap();
        assert_eq!(load(&path, later), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no temporary file stays");
    }

    #[test]
    fn damage_is_ignored_and_mended_by_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outage.json");
        let now: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
        let long = format!("{{\"outage_started\":\"{now}\"{}}}", " ".repeat(5000));
        for damage in ["", "{", "{}", "null", "{\"outage_started\":7}", long.as_str()] {
            std::fs::write(&path, damage).unwrap();
            assert_eq!(load(&path, now), None, "{damage:.40}");
            store(&path, Some(now)).unwrap();
            assert_eq!(load(&path, now), Some(now));
        }
    }
}
