//! What a store looks like from outside: for whoever examines one that another process may own.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::Path,
};

use super::files::{DAMAGED, LOCK, is_shard};

/// Whether a running proxy owns a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// None does.
    Nobody,
    /// One does; its process number, if it could be read.
    Proxy(Option<u32>),
    /// Its lock file cannot be looked at.
    Unknown,
}

impl Owner {
    /// Looks at the lock file of the store in this folder. Blocks. For an instant a proxy that starts right now could
    /// take this look for an owner; ask only when there is reason to.
    pub fn of(directory: &Path) -> Self {
        let mut file = match File::open(directory.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Nobody,
            Err(_) => return Self::Unknown,
        };
        match file.try_lock_shared() {
            // Given back when the file is closed.
            Ok(()) => Self::Nobody,
            Err(TryLockError::WouldBlock) => {
                let mut number = String::new();
                // Where a locked file cannot be read, its owner stays unnamed.
                let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut number);
                Self::Proxy(number.trim().parse().ok())
            }
            Err(TryLockError::Error(_)) => Self::Unknown,
        }
    }
}

/// What lies in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Players with a document.
    pub sessions: usize,
    /// Documents that were set aside because they could not be read.
    pub damaged: usize,
}

impl Survey {
    /// Counts the documents by their names; opens none and changes nothing. Blocks. A folder that does not exist holds
    /// none.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut survey = Self::default();
        let shards = match fs::read_dir(directory) {
            Ok(shards) => shards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(survey),
            Err(error) => return Err(error),
        };
        for entry in shards {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == DAMAGED {
                survey.damaged += fs::read_dir(&path)?.count();
            } else if is_shard(name) && path.is_dir() {
                survey.sessions += documents(&path)?;
            }
        }
        Ok(survey)
    }
}

fn documents(shard: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(shard)? {
        // Temporary files end otherwise.
        count += usize::from(entry?.path().extension().is_some_and(|ending| ending == "json"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_running_proxy_is_seen_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("sessions");
        assert_eq!(Owner::of(&directory), Owner::Nobody);
        let config = super::super::Config {
            directory: directory.clone(),
            cleanup_on_startup: false,
            max_address_age: std::time::Duration::from_hours(1),
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
        };
        let (store, _) = super::super::Store::open(config, crate::clock::Clock::system()).await.unwrap();
        assert_eq!(Owner::of(&directory), Owner::Proxy(Some(std::process::id())));
        store.close().await.unwrap();
        assert_eq!(Owner::of(&directory), Owner::Nobody);
    }

    #[test]
    fn documents_are_counted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Survey::of(&root.join("none")).unwrap(), Survey::default());
        for (folder, file) in [
            ("06", "069a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("06", ".069a79f4-44e9-4726-a5be-fca90e38aaf5.tmp"),
            ("ff", "ff9a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("xx", "ff9a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("damaged", "whatever"),
            (".", "outage.json"),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(file), "").unwrap();
        }
        assert_eq!(Survey::of(root).unwrap(), Survey { sessions: 2, damaged: 1 });
    }
}
