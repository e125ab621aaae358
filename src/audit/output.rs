//! The file, or what stands in for it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Config,
    files::Files,
    press,
    shelf::{Shelf, Turn},
};

/// audit.log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {}: {source}", path.display())]
pub struct OpenError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// How a file is rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turning {
    /// Bytes a file has at most; 0 leaves rotation to others.
    pub(super) max_size: u64,
    /// Rotated files kept.
    pub(super) keep: u32,
    /// Whether they are compressed.
    pub(super) compress: bool,
}

impl From<&Config> for Turning {
    fn from(config: &Config) -> Self {
        Self { max_size: config.max_size, keep: config.keep, compress: config.compress }
    }
}

/// Where lines end up.
pub(super) enum Output {
    /// Nowhere.
    Nothing,
    /// A file.
    File(Log),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

/// A file, reopened by its path after somebody rotated it away.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    files: Files,
    turning: Turning,
    /// Bytes in the file, as far as we know.
    length: u64,
    /// The place for rotated files; none beside what is no regular file.
    shelf: Option<Arc<Shelf>>,
    /// Rotation has failed, which was said, and is tried again at this length.
    again_at: Option<u64>,
}

/// After a rotation that failed, bytes until the next try: often enough, and seldom enough to cost nothing.
const AGAIN: u64 = 1024 * 1024;

/// What became of the wish to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// Not due.
    None,
    /// Lines go into a new file.
    Done,
    /// It failed.
    Failed,
}

impl Output {
    /// Opens the file for appending, readable and writable by its owner only, and ends a line that a crash tore.
    pub(super) fn open(path: &Path, turning: Turning, files: Files) -> Result<Self, OpenError> {
        match Log::open(path, turning, files) {
            Ok(log) => Ok(Self::File(log)),
            Err(source) => Err(OpenError { path: path.to_owned(), source }),
        }
    }

    /// Opens whatever stands at the path now. On an error, the file that was open stays so.
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        match self {
            Self::File(log) => {
                log.reopen().map_err(|source| OpenError { path: log.path.clone(), source })?;
                log.press();
                Ok(())
            }
            Self::Nothing | Self::Writer(_) => Ok(()),
        }
    }

    /// Whether after a reopen what was written before lies in another file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Whether lines are kept.
    pub(super) fn keeps(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Says that lines go here from now on: what an earlier program left undone is done.
    pub(super) fn begin(&self) {
        if let Self::File(log) = self {
            log.press();
        }
    }

    /// Rotates by another rule from now on.
    pub(super) fn turn(&mut self, turning: Turning) {
        let Self::File(log) = self else { return };
        let fewer = log.turning.max_size > 0 && turning.max_size > 0 && turning.keep < log.turning.keep;
        log.turning = turning;
        log.again_at = None;
        if let Some(shelf) = log.shelf.as_ref().filter(|_| fewer)
            && let Err(error) = shelf.keep(turning.keep)
        {
            tracing::warn!(%error, "rotated files of the audit log beyond audit-log-keep are still there; tried again at the next rotation");
        }
        log.press();
    }

    /// Rotates the file if the next line does not fit into it.
    pub(super) fn rotate(&mut self, next_line: usize) -> Rotation {
        match self {
            Self::File(log) => log.rotate(next_line as u64),
            Self::Nothing | Self::Writer(_) => Rotation::None,
        }
    }

    /// How many bytes more the file takes before it is to be rotated.
    pub(super) fn room(&self) -> u64 {
        match self {
            Self::File(log) => log.most().map_or(u64::MAX, |most| most.saturating_sub(log.length)),
            Self::Nothing | Self::Writer(_) => u64::MAX,
        }
    }

    /// Writes some of the bytes, as [`Write::write`] does.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Nothing => Ok(bytes.len()),
            Self::File(log) => {
                let written = log.files.write(&log.path, &log.file, bytes)?;
                log.length += written as u64;
                Ok(written)
            }
            Self::Writer(writer) => writer.write(bytes),
        }
    }

    /// Returns once what was written survives a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::File(log) => log.file.sync_data(),
            Self::Writer(writer) => writer.flush(),
        }
    }
}

impl Log {
    fn open(path: &Path, turning: Turning, files: Files) -> io::Result<Self> {
        let file = files.open(path)?;
        let mut log =
            Self { path: path.to_owned(), turning, length: 0, shelf: None, again_at: None, files, file };
        log.settle()?;
        Ok(log)
    }

    /// Opens whatever stands at the path now.
    fn reopen(&mut self) -> io::Result<()> {
        let old = std::mem::replace(&mut self.file, self.files.open(&self.path)?);
        self.settle().inspect_err(|_| self.file = old)
    }

    /// Looks at the file that was opened.
    fn settle(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let mut place = None;
        // A pipe or a terminal has no end to look at, and its mode is not ours.
        if metadata.is_file() {
            restrict(&self.file, &metadata)?;
            end_torn_line(&mut self.file, metadata.len())?;
            place = match self.shelf.clone() {
                Some(place) if place.opened(&self.path, &metadata)? => Some(place),
                _ => Some(Arc::new(Shelf::of(&self.path, &metadata, self.files.clone())?)),
            };
            self.length = self.file.metadata()?.len();
        }
        let same = matches!((&self.shelf, &place), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
        if !same {
            self.leave();
        }
        self.shelf = place;
        self.again_at = None;
        Ok(())
    }

    /// Has nothing compressed any more.
    fn leave(&self) {
        if let Some(place) = &self.shelf {
            place.compress(false);
        }
    }

    /// The length at which the file is to be rotated.
    fn most(&self) -> Option<u64> {
        let most = Some(self.turning.max_size).filter(|most| *most > 0 && self.shelf.is_some())?;
        Some(self.again_at.map_or(most, |again| again.max(most)))
    }

    /// Has rotated files compressed, or not any more.
    fn press(&self) {
        let Some(place) = self.shelf.as_ref().filter(|_| self.turning.max_size > 0) else {
            return self.leave();
        };
        if let Err(error) = place.clear() {
            tracing::warn!(%error, "what a rotation of the audit log left half done is still there");
        }
        if self.turning.compress {
            press::start(place);
        } else {
            self.leave();
        }
    }

    fn rotate(&mut self, next_line: u64) -> Rotation {
        let (Some(most), Some(place)) = (self.most(), self.shelf.clone()) else { return Rotation::None };
        let fits = |length: u64| length == 0 || length.saturating_add(next_line) <= most;
        if fits(self.length) {
            return Rotation::None;
        }
        match self.turned(&place, &fits) {
            Ok(rotation) => {
                if self.again_at.take().is_some() {
                    tracing::warn!("the audit log is rotated again");
                }
                rotation
            }
            Err(error) => {
                if self.again_at.is_none() {
                    tracing::error!(%error, "the audit log cannot be rotated and grows beyond audit-log-max-size; tried again every MiB");
                }
                self.again_at = Some(self.length.saturating_add(AGAIN));
                Rotation::Failed
            }
        }
    }

    fn turned(&mut self, place: &Arc<Shelf>, fits: &dyn Fn(u64) -> bool) -> io::Result<Rotation> {
        // Somebody may have cut it.
        self.length = self.file.metadata()?.len();
        if fits(self.length) {
            return Ok(Rotation::None);
        }
        match place.rotate(self.turning.keep)? {
            Turn::Rotated(file) => {
                self.file = file;
                self.length = 0;
            }
            Turn::Gone => self.reopen()?,
        }
        self.press();
        Ok(Rotation::Done)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.leave();
    }
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
mod tests;
