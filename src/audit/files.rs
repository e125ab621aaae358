//! The steps on the file system that rotation is made of, one function each.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::disk;

/// One of these functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Create,
    Write,
    Rename,
    Remove,
    Sync,
}

/// What a test has happen before a step: nothing, or that it fails.
#[cfg(test)]
type Before = std::sync::Arc<dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync>;

/// The file system.
#[derive(Clone, Default)]
pub(super) struct Files {
    #[cfg(test)]
    before: Option<Before>,
}

/// What tells files apart whatever they are called: device and inode. Systems without such numbers tell nothing.
pub(super) type Key = Option<(u64, u64)>;

/// What tells the file apart.
#[cfg_attr(unix, expect(clippy::unnecessary_wraps, reason = "other systems have nothing"))]
pub(super) fn key(metadata: &Metadata) -> Key {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

impl Files {
    /// A file system that may fail before each step.
    #[cfg(test)]
    pub(super) fn failing(before: impl Fn(Step, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { before: Some(std::sync::Arc::new(before)) }
    }

    #[cfg(test)]
    fn before(&self, step: Step, path: &Path) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(step, path))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as in tests")]
    fn before(&self, _: Step, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Opens a file to append to it, and makes it if need be; a new one is its owner's only.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.before(Step::Open, path)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        owner_only(&mut options).open(path)
    }

    /// Makes a file to append to, its owner's only, where there is none.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.before(Step::Create, path)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        owner_only(&mut options).open(path)
    }

    /// Makes a file, its owner's only, or opens what is left of an earlier try, as it is.
    pub(super) fn open_scratch(&self, path: &Path) -> io::Result<File> {
        self.before(Step::Create, path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        owner_only(&mut options).open(path)
    }

    /// Writes some of the bytes, as [`Write::write`] does.
    pub(super) fn write(&self, path: &Path, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.before(Step::Write, path)?;
        file.write(bytes)
    }

    /// Renames a file. What has the new name already is gone after this.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Step::Rename, from)?;
        fs::rename(from, to).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot rename {} to {}: {error}", from.display(), to.display()),
            )
        })
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Step::Remove, path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Makes the contents of a file last.
    pub(super) fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        self.before(Step::Sync, path)?;
        file.sync_all()
    }

    /// Makes renames and removals beside this file last.
    pub(super) fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        self.before(Step::Sync, path)?;
        disk::sync_folder_of(path)
    }
}

fn owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
