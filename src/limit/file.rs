//! Bans on disk: one small JSON file, replaced whole. Everything here blocks.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{bans::Ban, target::Target};
use crate::disk;

/// The version of the file's form.
const FORMAT_VERSION: u32 = 1;

/// Longest file that is read, in bytes: a ban takes some 150, and there are [`super::bans::MAX_BANS`] of each kind.
const MAX_FILE: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    bans: Vec<Ban>,
}

/// The file of bans is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// The bans in the file that are in force at `now`, oldest first; none if there is no file. For commands while no proxy
/// runs.
///
/// # Errors
/// A file that cannot be read, or is damaged.
pub fn read_file(path: &Path, now: Timestamp) -> Result<Vec<Ban>, FileError> {
    let mut bans = read(path)?;
    bans.retain(|ban| now < ban.until);
    bans.sort_by_key(|ban| (ban.since, ban.target));
    Ok(bans)
}

/// Takes one ban out of the file, or without a target all. Those that were in force at `now`. For commands while no proxy
/// runs.
///
/// # Errors
/// A file that cannot be read or replaced, or is damaged. Nothing is changed then.
pub fn lift_in_file(path: &Path, target: Option<&Target>, now: Timestamp) -> Result<Vec<Ban>, FileError> {
    let is_meant = |ban: &Ban| target.is_none_or(|target| ban.target == *target);
    let (lifted, left): (Vec<Ban>, Vec<Ban>) = read_file(path, now)?.into_iter().partition(is_meant);
    if !lifted.is_empty() {
        write(path, left)?;
    }
    Ok(lifted)
}

/// All that the file holds; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Vec<Ban>, FileError> {
    let damaged = |why| FileError::Damaged { path: path.to_owned(), why };
    let bytes = match disk::read_small(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(damaged(error.to_string())),
        Err(error) => return Err(FileError::io(path)(error)),
    };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.version != FORMAT_VERSION {
        return Err(damaged(format!("version {} is not one that this program knows", stored.version)));
    }
    Ok(stored.bans)
}

/// Replaces the file.
pub(super) fn write(path: &Path, bans: Vec<Ban>) -> Result<(), FileError> {
    let stored = Stored { version: FORMAT_VERSION, bans };
    let written = serde_json::to_vec(&stored).map_err(io::Error::from).and_then(|mut text| {
        text.push(b'\n');
        disk::replace(path, &text)
    });
    written.map_err(FileError::io(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ban(target: &str, since: &str, until: &str) -> Ban {
        Ban { target: target.parse().unwrap(), since: at(since), until: at(until), failures: 10 }
    }

    const NOW: &str = "2026-01-01T12:00:00Z";

    #[test]
    fn the_form_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bans.json");
        assert_eq!(read_file(&path, at(NOW)).unwrap(), []);
        let bans = vec![
            ban("AS64496", "2026-01-01T11:50:00Z", "2026-01-01T12:20:00Z"),
            ban("203.0.113.5", "2026-01-01T11:40:00.5Z", "2026-01-01T12:10:00.5Z"),
        ];
        write(&path, bans.clone()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"version":1,"bans":[{"target":"AS64496","since":"2026-01-01T11:50:00Z","#,
                r#""until":"2026-01-01T12:20:00Z","failures":10},{"target":"203.0.113.5","#,
                r#""since":"2026-01-01T11:40:00.5Z","until":"2026-01-01T12:10:00.5Z","failures":10}]}"#,
                "\n"
            )
        );
        let listed = read_file(&path, at(NOW)).unwrap();
        assert_eq!(listed, [bans[1].clone(), bans[0].clone()], "oldest first");
        assert_eq!(read_file(&path, at("2026-01-01T12:15:00Z")).unwrap(), bans[..1]);
    }

    #[test]
    fn lifted_without_a_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bans.json");
        let lift = |target: Option<&str>| {
            let target = target.map(|text| text.parse().unwrap());
            let lifted = lift_in_file(&path, target.as_ref(), at(NOW)).unwrap();
            lifted.iter().map(|ban| ban.target.to_string()).collect::<Vec<_>>()
        };
        assert!(lift(Some("AS64496")).is_empty() && lift(None).is_empty());
        assert!(!path.exists());
        let bans = || {
            vec![
                ban("AS64496", "2026-01-01T11:50:00Z", "2026-01-01T12:20:00Z"),
                ban("203.0.113.5", "2026-01-01T11:00:00Z", "2026-01-01T11:30:00Z"),
                ban("203.0.113.0/24", "2026-01-01T11:51:00Z", "2026-01-01T12:21:00Z"),
            ]
        };
        write(&path, bans()).unwrap();
        assert!(lift(Some("203.0.113.5")).is_empty(), "it was over");
        assert_eq!(lift(Some("AS64496")), ["AS64496"]);
        assert!(lift(Some("AS64496")).is_empty());
        write(&path, bans()).unwrap();
        assert_eq!(lift(None), ["AS64496", "203.0.113.0/24"]);
        assert_eq!(read_file(&path, at(NOW)).unwrap(), []);
    }

    #[test]
    fn what_is_no_file_of_bans() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bans.json");
        for (text, why) in [
            ("", "EOF"),
            ("{\"version\":1", "EOF"),
            ("{\"version\":2,\"bans\":[]}", "version 2"),
            ("{\"version\":1,\"bans\":[{\"target\":\"Notch\"}]}", "no target of a ban"),
            ("[]", "invalid"),
            (" ".repeat(MAX_FILE + 1).as_str(), "longer than"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read_file(&path, at(NOW)).unwrap_err();
            assert!(
                matches!(&error, FileError::Damaged { why: found, .. } if found.contains(why)),
                "{text:.80}: {error}"
            );
            assert!(lift_in_file(&path, Some(&"AS1".parse().unwrap()), at(NOW)).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "left alone");
        }
    }
}
