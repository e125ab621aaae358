//! The file, or what stands in for it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// audit.log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {}: {source}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// Where lines end up.
pub(super) enum Output {
    /// A file, reopened by its path after it was rotated away.
    File { file: File, path: PathBuf },
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

impl Output {
    /// Opens the file for appending, readable and writable by its owner only, and ends a line that a crash tore.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        match open(path) {
            Ok(file) => Ok(Self::File { file, path: path.to_owned() }),
            Err(source) => Err(OpenError { path: path.to_owned(), source }),
        }
    }

    /// Opens whatever stands at the path now. On an error, the file that was open stays so.
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        if let Self::File { path, .. } = self {
            *self = Self::open(path)?;
        }
        Ok(())
    }

    /// Whether after a reopen what was written before lies in another file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Writes some of the bytes, as [`Write::write`] does.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Writer(writer) => writer.write(bytes),
        }
    }

    /// Returns once what was written survives a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.sync_data(),
            Self::Writer(writer) => writer.flush(),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let metadata = file.metadata()?;
    // A pipe or a terminal has no end to look at, and its mode is not ours.
    if metadata.is_file() {
        restrict(&file, &metadata)?;
        end_torn_line(&mut file, metadata.len())?;
    }
    Ok(file)
}

/// Takes away what anybody but the owner may do: the file may be older than this program.
#[cfg(unix)]
fn restrict(file: &File, metadata: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let others = metadata.permissions().mode() & 0o077;
    if others == 0 { Ok(()) } else { file.set_permissions(PermissionsExt::from_mode(0o600)) }
}

#[cfg(not(unix))]
fn restrict(_: &File, _: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
}

fn end_torn_line(file: &mut File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_appended_after_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for (before, after) in [("", "new\n"), ("old\n", "old\nnew\n"), ("old\nto", "old\nto\nnew\n")] {
            fs::write(&path, before).unwrap();
            let mut output = Output::open(&path).unwrap();
            assert_eq!(output.write(b"new\n").unwrap(), 4);
            output.sync().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(Output::open(&path).unwrap());
        assert_eq!(mode(), 0o600, "a new one");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        drop(Output::open(&path).unwrap());
        assert_eq!(mode(), 0o600, "an older one");
    }

    #[test]
    fn a_rotated_file_is_left_alone_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotated = folder.path().join("audit.log.1");
        let mut output = Output::open(&path).unwrap();
        output.write(b"one\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        output.write(b"two\n").unwrap();
        output.reopen().unwrap();
        output.write(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_failed_reopen_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotated = folder.path().join("audit.log.1");
        let mut output = Output::open(&path).unwrap();
        fs::rename(&path, &rotated).unwrap();
        fs::create_dir(&path).unwrap();
        let error = output.reopen().unwrap_err();
        assert!(error.to_string().contains("audit.log"), "{error}");
        output.write(b"one\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\n");
    }
}
