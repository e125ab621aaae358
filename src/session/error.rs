//! What can go wrong with the store, and what its owner can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::survey::{Holder, Role};

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock file.
    #[error("the session folder {} is in use by {holder}; {}", directory.display(), way_out(holder))]
    Locked {
        /// The folder.
        directory: PathBuf,
        /// Who holds the lock, as far as it could be learnt.
        holder: Holder,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was tried: the verb after "cannot".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A document does not hold what it should.
    #[error(
        "the session document {} is damaged: {why}; the player gets a new one at the next verified login",
        path.display()
    )]
    Damaged {
        /// The document.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store has no session (any more) for this id, or no document of it.
    #[error("no session is stored for {id}")]
    NoSession {
        /// The id asked for.
        id: Uuid,
    },
    /// A change that [`flush`](super::Store::flush) waited for could not be written. It is kept and tried again.
    #[error("not saved yet: {why}")]
    NotSaved {
        /// The failure, as the write reported it.
        why: String,
    },
    /// The store was closed, or the runtime is stopping.
    #[error("the session store is closed")]
    Closed,
}

impl StoreError {
    /// Makes a closure for `map_err` that says what was tried on which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether the path, or a folder on the way to it, is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What the owner can do about a store that is held.
fn way_out(holder: &Holder) -> &'static str {
    match holder.role {
        Role::Command => "wait until that has ended",
        Role::Proxy { .. } => "stop that one, or give this one a `session-cache.directory` of its own",
        Role::Unknown => {
            "wait until a command has ended; stop a proxy, or give this one a `session-cache.directory` of its own"
        }
    }
}

/// What the owner can do about an operating system error.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the user that runs Postern must own `session-cache.directory` and all in it"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on that disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "make that file system writable, or choose another `session-cache.directory`"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            "move away what stands in its place"
        }
        _ => "check that disk, and that `session-cache.directory` is right",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path_and_what_to_do() {
        let locked = |process, role| {
            let holder = Holder { process, role };
            StoreError::Locked { directory: "/srv/sessions".into(), holder }.to_string()
        };
        assert_eq!(
            locked(Some(42), Role::Proxy { admin: None }),
            "the session folder /srv/sessions is in use by another running proxy (process 42); stop that one, or \
             give this one a `session-cache.directory` of its own"
        );
        assert_eq!(
            locked(Some(42), Role::Command),
            "the session folder /srv/sessions is in use by a command (process 42); wait until that has ended"
        );
        assert!(locked(None, Role::Unknown).contains("another running proxy or a command; wait until"));
        let full = StoreError::io("write", Path::new("/srv/x"))(io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_string(), "cannot write /srv/x: no storage space; free some space on that disk");
    }
}
