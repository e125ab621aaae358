//! Reading all documents of a store that another process may own, changing nothing.

use std::{fs, io, path::Path, sync::atomic::AtomicUsize};

use jiff::Timestamp;

use super::{StoreError, files::is_shard, load, record::Session};

/// What lies in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The sessions that may be used to judge a login, in no order.
    pub sessions: Vec<Session>,
    /// Documents that could not be read.
    pub damaged: usize,
}

/// Reads the documents of the store in this folder, without its lock: each is whole, whoever writes meanwhile. `seen`
/// counts the documents while they are read. A folder that does not exist holds none. Blocks.
///
/// # Errors
/// A folder that cannot be listed, or a want of memory or descriptors.
pub fn scan(directory: &Path, now: Timestamp, seen: &AtomicUsize) -> Result<Scan, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Scan::default()),
        Err(error) => return Err(StoreError::io("list", directory)(error)),
    };
    let mut shards = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        if entry.file_name().to_str().is_some_and(is_shard) && entry.path().is_dir() {
            shards.push(entry.path());
        }
    }
    let mut found = load::read_all(&shards, seen)?;
    found.sessions.retain(|session| session.counts(now));
    Ok(Scan { sessions: found.sessions, damaged: found.damaged.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        session::{
            Store,
            record::tests::{at, config, login},
        },
    };

    #[tokio::test]
    async fn reads_what_another_owns_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let seen = AtomicUsize::new(0);
        let now = at("2026-11-20T12:00:00Z");
        assert_eq!(scan(&folder.path().join("none"), now, &seen).unwrap(), Scan::default());
        let (store, _) = Store::open(config(folder.path()), Clock::starting_at(now)).await.unwrap();
        for id in 1..=3 {
            store.record_verified(login(id, &format!("p{id}"), "203.0.113.5"));
        }
        store.flush().await.unwrap();
        let shard = folder.path().join("00");
        let temporary = shard.join(".00000000-0000-0000-0000-000000000001.tmp");
        fs::write(&temporary, "half").unwrap();
        let damaged = shard.join("00000000-0000-0000-0000-000000000009.json");
        fs::write(&damaged, "{").unwrap();
        let found = scan(folder.path(), now, &seen).unwrap();
        assert_eq!((found.sessions.len(), found.damaged), (3, 1));
        assert_eq!(seen.into_inner(), 4);
        assert!(temporary.exists() && damaged.exists());
        for session in &found.sessions {
            assert_eq!(*session, *store.by_id(session.id).unwrap());
        }
        let later = scan(folder.path(), at("2027-01-20T12:00:00Z"), &AtomicUsize::new(0)).unwrap();
        assert_eq!(later.sessions.len(), 0, "unused sessions count for nothing");
        store.close().await.unwrap();
    }
}
