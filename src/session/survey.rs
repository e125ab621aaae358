//! What a store looks like from outside: for whoever examines one that another process may own.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read},
    net::SocketAddr,
    path::Path,
};

use super::{
    StoreError,
    files::{DAMAGED, Files, LOCK, Lock, is_shard},
};

/// Longest lock file that is read, in bytes: a process number and few lines with an address.
const MAX_LOCK: u64 = 512;

/// What holds a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not said: it starts, or is of another version.
    #[default]
    Unknown,
    /// A command, which ends soon.
    Command,
    /// A proxy.
    Proxy {
        /// Where its admin interface listens, if it has one.
        admin: Option<SocketAddr>,
    },
}

impl Role {
    /// The line of the lock file that says so.
    pub(super) fn line(self) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Command => Some("command".to_owned()),
            Self::Proxy { admin: None } => Some("admin none".to_owned()),
            Self::Proxy { admin: Some(address) } => Some(format!("admin {address}")),
        }
    }

    fn parse(line: &str) -> Self {
        match line.split_once(' ') {
            None if line == "command" => Self::Command,
            Some(("admin", "none")) => Self::Proxy { admin: None },
            Some(("admin", address)) => {
                address.parse().map_or(Self::Unknown, |address| Self::Proxy { admin: Some(address) })
            }
            _ => Self::Unknown,
        }
    }
}

/// Who holds a store, as its lock file says: a line with the process number, then one for each time that the holder said
/// what it is, the last of which counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process number, if it could be read.
    pub process: Option<u32>,
    /// What it is.
    pub role: Role,
}

impl Holder {
    /// Reads a lock file that somebody holds. Where a locked file cannot be read, its holder stays unnamed.
    pub(super) fn read(file: &File) -> Self {
        let mut text = String::new();
        let _ = file.take(MAX_LOCK).read_to_string(&mut text);
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let (process, rest) = text.split_once('\n').unwrap_or((text, ""));
        // A line without an end is being written: half an address is another one.
        let line = rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).next_back();
        Self { process: process.trim().parse().ok(), role: line.map_or(Role::Unknown, Role::parse) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.role {
            Role::Unknown => "another running proxy or a command",
            Role::Command => "a command",
            Role::Proxy { .. } => "another running proxy",
        })?;
        self.process.map_or(Ok(()), |process| write!(f, " (process {process})"))
    }
}

/// Keeps proxies and other commands from a store and from what a proxy writes beside it, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    _lock: Lock,
}

impl Hold {
    /// Takes hold for a command. Makes the folder if need be. Blocks.
    ///
    /// # Errors
    /// A store that somebody holds, and a folder or lock file that cannot be written.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let (files, lock) = Files::open(directory)?;
        files.announce(Role::Command)?;
        Ok(Self { _lock: lock })
    }
}

/// Whether somebody holds a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody does.
    Nobody,
    /// Somebody does.
    Held(Holder),
    /// Its lock file cannot be looked at.
    Unknown,
}

impl Owner {
    /// Looks at the lock file of the store in this folder. Blocks.
    pub fn of(directory: &Path) -> Self {
        let file = match File::open(directory.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Nobody,
            Err(_) => return Self::Unknown,
        };
        match file.try_lock_shared() {
            // Given back when the file is closed.
            Ok(()) => Self::Nobody,
            Err(TryLockError::WouldBlock) => Self::Held(Holder::read(&file)),
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
        let by = |role| Owner::Held(Holder { process: Some(std::process::id()), role });
        assert_eq!(Owner::of(&directory), by(Role::Unknown));
        let proxy = Role::Proxy { admin: Some("127.0.0.1:9464".parse().unwrap()) };
        store.announce(proxy).unwrap();
        assert_eq!(Owner::of(&directory), by(proxy));
        store.close().await.unwrap();
        assert_eq!(Owner::of(&directory), Owner::Nobody);
        let hold = Hold::take(&directory).unwrap();
        assert_eq!(Owner::of(&directory), by(Role::Command));
        assert!(matches!(Hold::take(&directory), Err(StoreError::Locked { .. })));
        drop(hold);
        assert_eq!(Owner::of(&directory), Owner::Nobody);
    }

    #[test]
    fn lock_files() {
        let proxy = |admin: &str| Role::Proxy { admin: Some(admin.parse().unwrap()) };
        for (text, process, role) in [
            ("", None, Role::Unknown),
            // As it was before there was more in it.
            ("42", Some(42), Role::Unknown),
            ("42\n", Some(42), Role::Unknown),
            ("42\ncommand\n", Some(42), Role::Command),
            ("42\nadmin none\n", Some(42), Role::Proxy { admin: None }),
            ("42\nadmin 127.0.0.1:9464\n", Some(42), proxy("127.0.0.1:9464")),
            ("42\nadmin [::1]:9464\n", Some(42), proxy("[::1]:9464")),
            // Half written.
            ("42\nadmin 127.0.0.1:94", Some(42), Role::Unknown),
            ("42\nadmin 127.0.0.1:9464\nadmin no", Some(42), proxy("127.0.0.1:9464")),
            ("42\nadmin 127.0.0.1:9464\nadmin none\n", Some(42), Role::Proxy { admin: None }),
            ("42\nadmin somewhere\n", Some(42), Role::Unknown),
            ("x\nwhat\n", None, Role::Unknown),
        ] {
            assert_eq!(Holder::parse(text), Holder { process, role }, "{text:?}");
        }
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
