//! The start of an outage on disk, so that a restart in the middle of one does not move it.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The document is about 60 bytes; a longer file is not ours.
const MAX_LEN: u64 = 4096;

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
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut text)?;
    let document: Document = serde_json::from_slice(&text)?;
    Ok(Some(document.outage_started))
}

/// Keeps the start of an outage, or forgets it. After a crash the file is either its old or its new self. Blocks.
pub(super) fn store(path: &Path, started: Option<Timestamp>) -> io::Result<()> {
    let Some(outage_started) = started else {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => sync_folder(path),
        };
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    serde_json::to_writer(&mut file, &Document { outage_started })?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Makes a rename or removal last. Where a folder cannot be opened as a file (Windows), the file system sees to it.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
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
