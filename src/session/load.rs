//! Reading all documents when the store is opened. Blocks.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use jiff::Timestamp;

use super::{
    Config, StoreError,
    files::{self, Files},
    index::Index,
    record::Session,
};

/// Threads that read documents. More than two do not help: the disk and the allocator are busy then.
const READERS: usize = 2;

/// Damaged documents that are logged one by one; a broken disk must not fill the log as well.
const MOST_WARNINGS: usize = 20;

/// What was found when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Sessions in the store.
    pub sessions: usize,
    /// Documents that could not be used and were set aside.
    pub damaged: Vec<Damaged>,
    /// Sessions unused for 36 days; not counted in `sessions`.
    pub unused: usize,
    /// Temporary files of interrupted writes that were removed.
    pub leftovers: usize,
    /// Sessions that lost their name because another one with it was verified later.
    pub robbed: usize,
}

/// A document that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is now.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// All that a load hands to the store.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) index: Index,
    /// Sessions whose documents must be written anew.
    pub(super) changed: Vec<Arc<Session>>,
    pub(super) report: OpenReport,
    pub(super) untidy: Untidy,
}

/// What does not belong in the store's folder.
#[derive(Debug, Default)]
pub(super) struct Untidy {
    /// Documents that cannot be used, and what is wrong with each.
    damaged: Vec<(PathBuf, String)>,
    /// Documents of sessions unused for 36 days, where these are to go.
    unused: Vec<PathBuf>,
    /// Temporary files of interrupted writes.
    leftovers: Vec<PathBuf>,
}

/// What one thread found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) sessions: Vec<Session>,
    pub(super) damaged: Vec<(PathBuf, String)>,
    leftovers: Vec<PathBuf>,
}

/// Reads the store into an index. Changes nothing; see [`tidy`].
pub(super) fn load(files: &Files, config: &Config, now: Timestamp) -> Result<Loaded, StoreError> {
    let mut found = read_all(&files.shards()?, &AtomicUsize::new(0))?;
    let mut report = OpenReport::default();
    let mut untidy = Untidy {
        damaged: found.damaged,
        unused: Vec::new(),
        leftovers: std::mem::take(&mut found.leftovers),
    };

    found.sessions.retain(|session| {
        let unused = session.is_unused(now);
        if unused {
            report.unused += 1;
            if config.cleanup_on_startup {
                untidy.unused.push(files.document(session.id));
            }
        }
        !unused
    });

    // A crash between two writes, or a copied file, can leave one name with two players. Who was verified with it
    // later has it; a time ahead of the clock proves nothing. So each takes it from those before.
    found.sessions.sort_by_key(|session| (!session.is_ahead(now), session.last_verified, session.id));
    let mut index = Index::default();
    let changed: Vec<_> =
        found.sessions.into_iter().filter_map(|session| index.put(Arc::new(session))).collect();
    report.robbed = changed.len();
    report.sessions = index.len();
    Ok(Loaded { index, changed, report, untidy })
}

/// Clears away what does not belong in the folder, which must be ours, and notes that in the report.
pub(super) fn tidy(files: &Files, untidy: Untidy, report: &mut OpenReport) -> Result<(), StoreError> {
    files.keep_to_owner()?;
    for (path, why) in untidy.damaged {
        let moved_to = files.set_aside(&path)?;
        if report.damaged.len() < MOST_WARNINGS {
            tracing::warn!(path = %path.display(), moved_to = %moved_to.display(), %why,
                "a session document is damaged and was set aside; its player is unknown until the next verified login");
        }
        report.damaged.push(Damaged { path, moved_to, why });
    }
    if report.damaged.len() > MOST_WARNINGS {
        tracing::warn!(
            documents = report.damaged.len(),
            "more session documents are damaged and were set aside"
        );
    }

    for path in untidy.unused {
        // Not synced, as there may be many: what a crash brings back, the next start removes.
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an unused session was not removed; it is ignored");
        }
    }
    for path in untidy.leftovers {
        match fs::remove_file(&path) {
            Ok(()) => report.leftovers += 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the rest of an interrupted write stays");
            }
        }
    }
    Ok(())
}

/// Reads the documents in these folders, and changes nothing. `seen` counts them meanwhile.
pub(super) fn read_all(shards: &[PathBuf], seen: &AtomicUsize) -> Result<Found, StoreError> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut found = Found::default();
        let mut buffer = Vec::new();
        while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
            read_shard(shard, seen, &mut found, &mut buffer)?;
        }
        Ok(found)
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read_some)).collect();
        let mut all = Found::default();
        for reader in readers {
            let found = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.sessions.extend(found.sessions);
            all.damaged.extend(found.damaged);
            all.leftovers.extend(found.leftovers);
        }
        Ok(all)
    })
}

fn read_shard(
    shard: &Path,
    seen: &AtomicUsize,
    found: &mut Found,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    for entry in fs::read_dir(shard).map_err(StoreError::io("list", shard))? {
        let path = entry.map_err(StoreError::io("list", shard))?.path();
        if path.file_name().and_then(OsStr::to_str).is_some_and(Files::is_temporary) {
            found.leftovers.push(path);
        } else if path.extension() == Some(OsStr::new("json")) {
            seen.fetch_add(1, Ordering::Relaxed);
            match files::load_session(&path, buffer) {
                Ok(session) => found.sessions.push(session),
                Err(StoreError::Damaged { why, .. }) => found.damaged.push((path, why)),
                // A file that cannot be read costs its player; a process that cannot read costs the start.
                Err(StoreError::Io { source, .. }) if !is_exhausted(&source) => {
                    found.damaged.push((path, format!("cannot be read: {source}")));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Whether the failure is ours (out of memory or descriptors), not the file's.
fn is_exhausted(error: &std::io::Error) -> bool {
    /// "Too many open files" in the system and in the process, the same on all Unix systems; there is no
    /// [`ErrorKind`](std::io::ErrorKind) for them.
    const TOO_MANY_FILES: [i32; 2] = [23, 24];
    error.kind() == std::io::ErrorKind::OutOfMemory
        || cfg!(unix) && error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}
