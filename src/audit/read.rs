//! Reads a log and its rotated files as one stream of lines, the oldest first, while somebody may be writing, rotating
//! and compressing them.
//!
//! All files are opened before the first line is read: what is renamed or removed after that is read all the same. Names
//! and files are looked at before and after, so that a rotation in between is noticed and everything opened anew.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Stdin},
    path::{Path, PathBuf},
};

use flate2::{Crc, read::MultiGzDecoder};
use jiff::{SignedDuration, Timestamp};

use super::{
    files::{Key, key},
    shelf::{self, Rotated, Sum},
};

/// Longest line, in bytes; ours are far shorter. A longer one is not taken into memory.
const LONGEST_LINE: usize = 1024 * 1024;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// How often files are opened anew because they were rotated meanwhile, which takes some milliseconds a year.
const TRIES: u32 = 100;

/// A file that was last written so long before the time asked for has no line of that time: clocks are put right by less.
const SLACK: SignedDuration = SignedDuration::from_mins(5);

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be opened or looked at.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody renames the files all the time.
    #[error("the files of {} are renamed all the time; try again", .0.display())]
    Restless(PathBuf),
}

/// One file of the stream.
struct Part {
    path: PathBuf,
    text: Text,
    key: Key,
    /// Somebody may be writing to it.
    live: bool,
    /// It has another name by now, and was read to its end since.
    ended: bool,
}

enum Text {
    Plain(BufReader<Summed>),
    Gzip(BufReader<MultiGzDecoder<BufReader<File>>>),
    Input(BufReader<Stdin>),
}

/// A file, with the sum of what was read of it.
struct Summed {
    file: File,
    crc: Crc,
    taken: u64,
}

impl Read for Summed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(to)?;
        self.crc.update(to.get(..read).unwrap_or_default());
        self.taken += read as u64;
        Ok(read)
    }
}

impl Part {
    fn open(path: &Path, live: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::other("it is a folder"));
        }
        let key = key(&metadata);
        let text = if metadata.is_file() && is_gzip(&mut file)? {
            Text::Gzip(BufReader::with_capacity(
                CHUNK,
                MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file)),
            ))
        } else {
            let summed = Summed { file, crc: Crc::new(), taken: 0 };
            Text::Plain(BufReader::with_capacity(CHUNK, summed))
        };
        Ok(Self { path: path.to_owned(), text, key, live, ended: false })
    }

    fn reader(&mut self) -> &mut dyn BufRead {
        match &mut self.text {
            Text::Plain(text) => text,
            Text::Gzip(text) => text,
            Text::Input(text) => text,
        }
    }

    /// Whether that file holds what this one held when it was read to its end.
    fn became(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (Text::Plain(own), Text::Gzip(gzip)) => {
                let file = gzip.get_ref().get_ref().get_ref();
                own.get_ref().taken > 0
                    && sum_of(file).is_some_and(|sum| sum == Sum::from(&own.get_ref().crc))
            }
            _ => self.key.is_some() && self.key == other.key,
        }
    }
}

/// The sum that a compressed file ends with. Leaves the place to read at as it was.
fn sum_of(mut file: &File) -> Option<Sum> {
    use std::io::{Seek, SeekFrom};

    let place = file.stream_position().ok()?;
    let sum = shelf::sum_of_gzip(file).ok();
    file.seek(SeekFrom::Start(place)).ok()?;
    sum
}

/// Whether the file begins as compressed ones do, whatever its name is.
fn is_gzip(file: &mut File) -> io::Result<bool> {
    use std::io::{Seek, SeekFrom};

    let mut start = Vec::new();
    file.take(2).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start == [0x1f, 0x8b])
}

/// The lines of one or more files.
pub struct Stream {
    /// Files to come, the oldest first.
    waiting: VecDeque<Part>,
    current: Option<Part>,
    /// The file whose end is waited at, if its end is not the stream's.
    followed: Option<PathBuf>,
    /// What was read of a line, without its line feed.
    line: Vec<u8>,
    /// Whether the rest of that line is yet to come.
    torn: bool,
    /// Whether the end of the newest file was looked at twice.
    twice: bool,
    too_long: u64,
    troubles: Vec<String>,
}

/// How much was read.
enum Taken {
    Line,
    TooLong,
    /// All there is, be it the start of a line.
    End,
}

impl Stream {
    fn new(parts: impl Into<VecDeque<Part>>) -> Self {
        Self {
            waiting: parts.into(),
            current: None,
            followed: None,
            line: Vec::new(),
            torn: false,
            twice: false,
            too_long: 0,
            troubles: Vec::new(),
        }
    }

    /// A log and its rotated files. Those that were written before `since` are left out.
    pub fn of_log(log: &Path, since: Option<Timestamp>) -> Result<Self, ReadError> {
        Ok(Self::new(snapshot(&real(log), since)?))
    }

    /// The newest part of a log: its file, and the newest rotated one.
    pub fn of_newest(log: &Path) -> Result<Self, ReadError> {
        let mut parts = snapshot(&real(log), None)?;
        parts.drain(..parts.len().saturating_sub(2));
        Ok(Self::new(parts))
    }

    /// These files, the one with the oldest first line first; `-` is standard input, and has them taken as they come.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let mut parts = Vec::new();
        let mut as_given = false;
        for path in paths {
            if path.as_os_str() == "-" {
                as_given = true;
                let text = Text::Input(BufReader::with_capacity(CHUNK, io::stdin()));
                parts.push(Part {
                    path: "standard input".into(),
                    text,
                    key: None,
                    live: false,
                    ended: false,
                });
            } else {
                let failed = |source| ReadError::Io { path: path.clone(), source };
                parts.push(Part::open(path, true).map_err(failed)?);
            }
        }
        if !as_given {
            parts.sort_by_cached_key(first_time);
        }
        Ok(Self::new(parts))
    }

    /// The same stream, which has no end: lines that are added to the log at this path come too, also after it was
    /// rotated, cut or made anew.
    #[must_use]
    pub fn followed(self, log: &Path) -> Self {
        Self { followed: Some(log.to_owned()), ..self }
    }

    /// Whether there is no file to read.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Whether there is another line: [`Stream::line`]. If not, that is the end; or, if the log is followed, there may be
    /// one later.
    pub fn advance(&mut self) -> bool {
        if !std::mem::take(&mut self.torn) {
            self.line.clear();
        }
        loop {
            let Some(part) = &mut self.current else {
                match self.waiting.pop_front() {
                    Some(part) => self.current = Some(part),
                    None if self.followed.is_some() && self.find_newer(None) => {}
                    None => return false,
                }
                continue;
            };
            match take_line(part.reader(), &mut self.line) {
                Ok(Taken::Line) => {
                    self.twice = false;
                    return true;
                }
                Ok(Taken::TooLong) => {
                    self.too_long += 1;
                    self.line.clear();
                }
                Ok(Taken::End) => {
                    let newest = self.waiting.is_empty();
                    if newest && self.followed.is_some() {
                        if self.stay() {
                            self.torn = !self.line.is_empty();
                            return false;
                        }
                        if self.current.is_some() {
                            continue;
                        }
                    } else if newest && part.live && !self.line.is_empty() && !self.twice {
                        // Half of a line that is just being written.
                        self.twice = true;
                        continue;
                    } else {
                        self.current = None;
                    }
                    if !self.line.is_empty() {
                        return true;
                    }
                }
                Err(error) => {
                    let path = part.path.display();
                    self.troubles.push(format!("{path} is damaged, and its rest is left out: {error}"));
                    self.current = None;
                    self.line.clear();
                }
            }
        }
    }

    /// The line, without its line feed.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Lines left out because no event is so long.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// What else was left out, in words; each once.
    pub fn troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }

    /// At the end of a file that is followed: whether there is nothing to do but wait. If not, there is more to read in
    /// this file, or in others.
    fn stay(&mut self) -> bool {
        let (Some(path), Some(part)) = (&self.followed, &mut self.current) else { return true };
        if part.ended {
            let last = self.current.take();
            return !self.find_newer(last);
        }
        let Ok(metadata) = fs::metadata(path) else {
            // It may be on its way from one name to the other.
            return true;
        };
        let length = if let Text::Plain(text) = &part.text { text.get_ref().taken } else { metadata.len() };
        if key(&metadata) != part.key {
            // What was written to it after its end was seen, and before it got another name.
            part.ended = true;
            return false;
        }
        if metadata.len() >= length {
            return true;
        }
        // It was cut: what is there now is new.
        let Ok(part) = Part::open(path, true) else { return true };
        self.current = Some(part);
        self.line.clear();
        false
    }

    /// Finds the files that came after the `last` one read; whether there are any. If not, that one stays the last.
    fn find_newer(&mut self, last: Option<Part>) -> bool {
        let Some(path) = &self.followed else { return false };
        let parts = snapshot(&real(path), None).unwrap_or_default();
        let mut newer: VecDeque<Part> = parts.into();
        if let Some(last) = &last {
            match newer.iter().rposition(|part| last.became(part)) {
                Some(place) => newer.drain(..=place),
                // It is gone. What else was rotated is older, as far as anybody can tell.
                None => newer.drain(..newer.len().saturating_sub(1)),
            };
        }
        // Without the log itself, what is found is not all.
        if newer.back().is_none_or(|newest| !newest.live) {
            self.current = last;
            return false;
        }
        self.waiting = newer;
        true
    }
}

/// Reads on in a line.
fn take_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Taken> {
    let mut too_long = false;
    loop {
        let chunk = match from.fill_buf() {
            Ok([]) => return Ok(Taken::End),
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        too_long |= line.len() + piece.len() > LONGEST_LINE;
        if !too_long {
            line.extend_from_slice(piece);
        }
        let used = piece.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(if too_long { Taken::TooLong } else { Taken::Line });
        }
    }
}

/// The time of the first line; files without one come last.
fn first_time(part: &Part) -> (bool, Option<Timestamp>) {
    #[derive(serde::Deserialize)]
    struct Head {
        ts: Timestamp,
    }
    let mut line = Vec::new();
    let time = Part::open(&part.path, false)
        .and_then(|mut part| take_line(part.reader(), &mut line))
        .ok()
        .and_then(|_| serde_json::from_slice::<Head>(&line).ok())
        .map(|head| head.ts);
    (time.is_none(), time)
}

/// The path without symbolic links: rotated files lie beside the file itself.
fn real(log: &Path) -> PathBuf {
    fs::canonicalize(log).unwrap_or_else(|_| log.to_owned())
}

/// The names and files of a log at one moment.
#[derive(PartialEq, Eq)]
struct Look {
    log: Option<Key>,
    rotated: Vec<Rotated>,
}

fn look(log: &Path) -> io::Result<Look> {
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let key = match fs::metadata(log) {
        Ok(metadata) => Some(key(&metadata)),
        Err(error) if missing(&error) => None,
        Err(error) => return Err(error),
    };
    let rotated = match shelf::rotated(log) {
        Ok(mut rotated) => {
            let doubled = shelf::doubled(&rotated)?;
            rotated.retain(|file| !doubled.contains(file));
            rotated
        }
        Err(error) if missing(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Look { log: key, rotated })
}

/// A log and its rotated files, the oldest first, all open.
fn snapshot(log: &Path, since: Option<Timestamp>) -> Result<Vec<Part>, ReadError> {
    for _ in 0..TRIES {
        let failed = |path: &Path, source| ReadError::Io { path: path.to_owned(), source };
        let before = match look(log) {
            // A file went away while it was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            look => look.map_err(|source| failed(log, source))?,
        };
        let old = before.rotated.iter().rev().map(|rotated| (rotated.path.as_path(), false));
        let files = old.chain(before.log.map(|_| (log, true)));
        let mut parts = Vec::new();
        let mut changed = false;
        for (path, live) in files {
            match Part::open(path, live) {
                Ok(part) => {
                    if live || since.is_none_or(|since| may_hold(&part, since)) {
                        parts.push(part);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => changed = true,
                Err(error) => return Err(failed(path, error)),
            }
        }
        if !changed && look(log).is_ok_and(|after| after == before) {
            return Ok(parts);
        }
    }
    Err(ReadError::Restless(log.to_owned()))
}

/// Whether a rotated file may hold lines of that time or later.
fn may_hold(part: &Part, since: Timestamp) -> bool {
    let modified = fs::metadata(&part.path).and_then(|metadata| metadata.modified());
    let Some(modified) = modified.ok().and_then(|time| Timestamp::try_from(time).ok()) else { return true };
    modified.saturating_add(SLACK).is_ok_and(|modified| modified >= since)
}

#[cfg(test)]
mod tests;
