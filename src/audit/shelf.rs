//! The rotated files beside a log: `audit.log.1` is the newest, each may be compressed and ends with `.gz` then.
//!
//! Whenever the program is killed, what lies there is every line once:
//!
//! - Rotation frees the lowest number it can by renaming upwards from there, so that at any time there is one gap at
//!   most, and never two files for one. The next rotation closes the gap.
//! - A compressed file gets its name once it is whole and on disk, and the one it was made of goes after that. Both are
//!   there if the program is killed in between; that they are the same is read from the length and checksum at the end
//!   of the compressed one.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use flate2::Crc;

use super::files::{Files, Key, key};

/// The highest number of a rotated file. What has a higher one is somebody else's: it may be a date.
pub(super) const HIGHEST: u32 = 1000;

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rotated {
    pub(super) number: u32,
    pub(super) gzip: bool,
    pub(super) path: PathBuf,
    pub(super) key: Key,
}

/// The path with something added to its name.
pub(super) fn beside(log: &Path, ending: &str) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// The path of a rotated file.
fn numbered(log: &Path, number: u32, gzip: bool) -> PathBuf {
    beside(log, &format!(".{number}{}", if gzip { ".gz" } else { "" }))
}

/// The number that a name stands for, and whether it is that of a compressed file; none for names of other kinds.
fn number(log: &OsStr, name: &OsStr) -> Option<(u32, bool)> {
    let ending = name.as_encoded_bytes().strip_prefix(log.as_encoded_bytes())?.strip_prefix(b".")?;
    let (digits, gzip) = match ending.strip_suffix(b".gz") {
        Some(digits) => (digits, true),
        None => (ending, false),
    };
    let plain = !digits.is_empty() && !digits.starts_with(b"0") && digits.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()?;
    (1..=HIGHEST).contains(&number).then_some((number, gzip))
}

/// The rotated files of a log, newest first. Only regular files count.
pub(super) fn rotated(log: &Path) -> io::Result<Vec<Rotated>> {
    let Some(name) = log.file_name() else { return Ok(Vec::new()) };
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some((number, gzip)) = number(name, &entry.file_name()) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                let path = numbered(log, number, gzip);
                found.push(Rotated { number, gzip, path, key: key(&metadata) });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable_by_key(|rotated| (rotated.number, rotated.gzip));
    Ok(found)
}

/// Length (of which gzip keeps the last 32 bits) and checksum of the text in a compressed file, as its end says.
pub(super) fn sum_of_gzip(mut file: &File) -> io::Result<Sum> {
    let (mut crc, mut length) = ([0; 4], [0; 4]);
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut crc)?;
    file.read_exact(&mut length)?;
    Ok(Sum { crc: u32::from_le_bytes(crc), length: u32::from_le_bytes(length) })
}

/// What tells texts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    crc: u32,
    length: u32,
}

impl From<&Crc> for Sum {
    fn from(crc: &Crc) -> Self {
        Self { crc: crc.sum(), length: crc.amount() }
    }
}

/// The same of a text.
fn sum_of_text(mut text: impl Read) -> io::Result<Sum> {
    let mut crc = Crc::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match text.read(&mut chunk)? {
            0 => return Ok((&crc).into()),
            read => crc.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

/// The plain files that were compressed whole, but not removed yet. `rotated` is what [`rotated`] found.
pub(super) fn doubled(rotated: &[Rotated]) -> io::Result<Vec<Rotated>> {
    let mut doubled = Vec::new();
    for pair in rotated.windows(2) {
        if let [plain, gzip] = pair
            && plain.number == gzip.number
            && is_copy(&gzip.path, &plain.path)?
        {
            doubled.push(plain.clone());
        }
    }
    Ok(doubled)
}

fn is_copy(gzip: &Path, plain: &Path) -> io::Result<bool> {
    let gzip = File::open(gzip)?;
    // Anything shorter is no gzip.
    if gzip.metadata()?.len() < 18 {
        return Ok(false);
    }
    Ok(sum_of_gzip(&gzip)? == sum_of_text(File::open(plain)?)?)
}

/// What became of a log that is to be rotated.
pub(super) enum Turn {
    /// It is rotated; this is the new, empty one.
    Rotated(File),
    /// Somebody else has done it, or taken the file away.
    Gone,
}

/// The place beside a log. Shared by whoever writes the log and whoever compresses.
pub(super) struct Shelf {
    /// Without symbolic links, so that files stay in the folder of the one that is written.
    log: PathBuf,
    pub(super) files: Files,
    state: Mutex<State>,
}

/// Held while files change their names, never while bytes are compressed.
#[derive(Default)]
struct State {
    /// The file that is written.
    open: Key,
    /// The number of the file that is being compressed. It changes as that file is renamed.
    in_press: Option<u32>,
    /// Whether a thread compresses.
    pressing: bool,
    /// Whether files are to be compressed.
    compress: bool,
}

/// A file that is to be compressed.
pub(super) struct Job {
    pub(super) file: File,
    pub(super) metadata: Metadata,
}

impl Shelf {
    /// The place beside the log at this path, which is open as `file`.
    pub(super) fn of(log: &Path, file: &Metadata, files: Files) -> io::Result<Self> {
        let state = State { open: key(file), ..State::default() };
        Ok(Self { log: fs::canonicalize(log)?, files, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What matters lies on the disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the log at this path is another file now; whether its rotated ones still lie here.
    pub(super) fn opened(&self, log: &Path, file: &Metadata) -> io::Result<bool> {
        let here = fs::canonicalize(log)? == self.log;
        if here {
            self.lock().open = key(file);
        }
        Ok(here)
    }

    /// The file that is being compressed goes here until it is whole.
    pub(super) fn scratch(&self) -> PathBuf {
        beside(&self.log, ".gz.tmp")
    }

    /// The next log, until it gets its name.
    fn next(&self) -> PathBuf {
        beside(&self.log, ".next")
    }

    /// Moves the log to number 1 and all others up, and begins a new one. Keeps so many of them at most; with none to
    /// keep, the log itself goes.
    ///
    /// # Errors
    /// Whatever kept it from being done. The log is where it was, or, if even that fails, goes on under its new name;
    /// the next try finds either.
    pub(super) fn rotate(&self, keep: u32) -> io::Result<Turn> {
        let mut state = self.lock();
        match fs::metadata(&self.log) {
            Ok(metadata) if key(&metadata) == state.open => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(Turn::Gone),
        }
        self.remove_beyond(&mut state, keep.saturating_sub(1))?;
        let next = self.next();
        // What an earlier try left there: nothing is written to it before it has its name.
        if fs::symlink_metadata(&next).is_ok_and(|left| left.is_file() && left.len() == 0) {
            self.files.remove(&next)?;
        }
        let file = self.files.create(&next).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make {}: {error}", next.display()))
        })?;
        let metadata = file.metadata()?;
        if let Err(error) = self.shift(&mut state).and_then(|first| self.swap(&next, first)) {
            // The error that matters is the first one.
            let _ = self.files.remove(&next);
            return Err(error);
        }
        state.open = key(&metadata);
        // Where these fail, the next rotation sees to it.
        let _ = self.remove_beyond(&mut state, keep);
        let _ = self.files.sync_folder_of(&self.log);
        Ok(Turn::Rotated(file))
    }

    /// Gives that number to the log, and its name to the next one.
    fn swap(&self, next: &Path, first: u32) -> io::Result<()> {
        let first = numbered(&self.log, first, false);
        self.files.rename(&self.log, &first)?;
        self.files.rename(next, &self.log).inspect_err(|_| {
            // If this fails too, lines go on into the file that is open, which is then the first one; so nobody may
            // compress it: `State::open` still says which it is.
            let _ = self.files.rename(&first, &self.log);
        })
    }

    /// Frees the lowest number, and returns it: 1, unless something stands there that is no file of ours.
    fn shift(&self, state: &mut State) -> io::Result<u32> {
        let rotated = rotated(&self.log)?;
        let mut places = Vec::new();
        for number in 1.. {
            let ours = rotated.iter().any(|file| file.number == number);
            let free = [false, true]
                .into_iter()
                .all(|gzip| fs::symlink_metadata(numbered(&self.log, number, gzip)).is_err());
            if ours || free {
                places.push(number);
            }
            if free {
                break;
            }
        }
        for pair in places.windows(2).rev() {
            let [from, to] = pair else { continue };
            for file in rotated.iter().filter(|file| file.number == *from) {
                self.files.rename(&file.path, &numbered(&self.log, *to, file.gzip))?;
                if !file.gzip && state.in_press == Some(*from) {
                    state.in_press = Some(*to);
                }
            }
        }
        Ok(places.first().copied().unwrap_or(1))
    }

    /// Removes the plain ones of files that are there twice, and the oldest of those that are more than so many.
    fn remove_beyond(&self, state: &mut State, most: u32) -> io::Result<()> {
        let mut left = rotated(&self.log)?;
        for copy in doubled(&left)? {
            self.files.remove(&copy.path)?;
            left.retain(|file| *file != copy);
        }
        // Files of one number count as one.
        while left.chunk_by(|a, b| a.number == b.number).count() > most as usize {
            let Some(oldest) = left.pop() else { break };
            self.files.remove(&oldest.path)?;
            if !oldest.gzip && state.in_press == Some(oldest.number) {
                state.in_press = None;
            }
        }
        Ok(())
    }

    /// Removes rotated files beyond so many.
    pub(super) fn keep(&self, keep: u32) -> io::Result<()> {
        self.remove_beyond(&mut self.lock(), keep)
    }

    /// Sets whether files are to be compressed; tells whether a thread is to be started for it.
    pub(super) fn compress(&self, compress: bool) -> bool {
        let mut state = self.lock();
        state.compress = compress;
        let start = compress && !state.pressing;
        state.pressing |= compress;
        start
    }

    /// Takes back that a thread was started.
    pub(super) fn not_started(&self) {
        self.lock().pressing = false;
    }

    /// Whether what is being compressed is still wanted.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.compress && state.in_press.is_some()
    }

    /// The oldest file that is to be compressed. Without one, the thread that asks has ended.
    pub(super) fn next_job(&self) -> io::Result<Option<Job>> {
        let mut state = self.lock();
        let job = if state.compress { self.find_job(&mut state) } else { Ok(None) };
        state.pressing = matches!(job, Ok(Some(_)));
        job
    }

    fn find_job(&self, state: &mut State) -> io::Result<Option<Job>> {
        let mut found = rotated(&self.log)?;
        for copy in doubled(&found)? {
            self.files.remove(&copy.path)?;
            found.retain(|file| *file != copy);
        }
        let alone = |file: &Rotated| found.iter().filter(|other| other.number == file.number).count() == 1;
        let Some(oldest) = found.iter().rev().find(|file| {
            // The one that is written may be among them: somebody else renames it before he has it opened anew.
            let open = file.key.is_some() && file.key == state.open;
            !file.gzip && !open && alone(file)
        }) else {
            return Ok(None);
        };
        let file = File::open(&oldest.path)?;
        let metadata = file.metadata()?;
        state.in_press = Some(oldest.number);
        Ok(Some(Job { file, metadata }))
    }

    /// Puts what was compressed in the place of what it was made of, of which `taken` bytes were read.
    pub(super) fn replace(&self, job: &Job, taken: u64) -> io::Result<()> {
        let mut state = self.lock();
        let scratch = self.scratch();
        // Removed meanwhile, or nobody wants it compressed any more.
        let Some(number) = state.in_press.take().filter(|_| state.compress) else {
            return self.files.remove(&scratch);
        };
        if job.file.metadata()?.len() != taken {
            self.files.remove(&scratch)?;
            return Err(io::Error::other(format!(
                "somebody writes to {}",
                numbered(&self.log, number, false).display()
            )));
        }
        self.files.rename(&scratch, &numbered(&self.log, number, true))?;
        self.files.sync_folder_of(&self.log)?;
        self.files.remove(&numbered(&self.log, number, false))
    }

    /// Ends a try that came to nothing; the thread that made it ends too.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        state.in_press = None;
        state.pressing = false;
    }

    /// Removes what a killed program left half done.
    pub(super) fn clear(&self) -> io::Result<()> {
        let _state = self.lock();
        let next = self.next();
        if fs::symlink_metadata(&next).is_ok_and(|left| left.is_file() && left.len() == 0) {
            self.files.remove(&next)?;
        }
        let scratch = self.scratch();
        match File::open(&scratch) {
            // Another process compresses here, as long as it holds the lock.
            Ok(file) if file.try_lock().is_ok() => self.files.remove(&scratch),
            _ => Ok(()),
        }
    }
}
