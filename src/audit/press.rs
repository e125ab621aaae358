//! Compresses rotated files on a thread of its own.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    sync::Arc,
    thread,
};

use flate2::{Compression, GzBuilder};

use super::shelf::{Job, Shelf};

/// Bytes compressed between two looks at whether they are still wanted.
const CHUNK: usize = 64 * 1024;

/// Begins to compress what is to be, unless that is under way.
pub(super) fn start(shelf: &Arc<Shelf>) {
    if !shelf.compress(true) {
        return;
    }
    let own = Arc::clone(shelf);
    let spawned = thread::Builder::new().name("audit-gzip".to_owned()).spawn(move || run(&own));
    if let Err(error) = spawned {
        shelf.not_started();
        tracing::warn!(%error, "no thread to compress rotated files of the audit log; tried again after the next rotation");
    }
}

/// Compresses all there is.
pub(super) fn run(shelf: &Shelf) {
    loop {
        let done = match shelf.next_job() {
            Ok(Some(job)) => compress(shelf, &job),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match done {
            Ok(Pressed::Done) => {}
            Ok(Pressed::Elsewhere) => return shelf.give_up(),
            Err(error) => {
                // What holds half a file holds space that the log may need.
                let _ = shelf.files.remove(&shelf.scratch());
                shelf.give_up();
                tracing::warn!(%error, "a rotated file of the audit log stays uncompressed; tried again after the next rotation");
                return;
            }
        }
    }
}

/// What became of a file.
enum Pressed {
    /// It is compressed, or nobody wants that any more.
    Done,
    /// Another process is at it.
    Elsewhere,
}

fn compress(shelf: &Shelf, job: &Job) -> io::Result<Pressed> {
    let path = shelf.scratch();
    let scratch = shelf.files.open_scratch(&path)?;
    if scratch.try_lock().is_err() {
        return Ok(Pressed::Elsewhere);
    }
    // What a killed program left there.
    scratch.set_len(0)?;
    let modified = job.metadata.modified()?;
    let seconds = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = GzBuilder::new().mtime(u32::try_from(seconds).unwrap_or_default());
    let mut gzip = header.write(Scratch { shelf, file: &scratch }, Compression::default());
    let mut text = &job.file;
    text.seek(SeekFrom::Start(0))?;
    let mut chunk = vec![0; CHUNK];
    let mut taken = 0;
    loop {
        let read = text.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        taken += read as u64;
        gzip.write_all(chunk.get(..read).unwrap_or_default())?;
        if !shelf.is_wanted() {
            // Dropping the encoder writes its end, to a file that is gone then.
            shelf.files.remove(&path)?;
            return Ok(Pressed::Done);
        }
    }
    gzip.finish()?;
    // Whoever looks for old files goes by this.
    scratch.set_modified(modified)?;
    shelf.files.sync(&path, &scratch)?;
    shelf.replace(job, taken)?;
    Ok(Pressed::Done)
}

/// The file under way.
struct Scratch<'a> {
    shelf: &'a Shelf,
    file: &'a File,
}

impl Write for Scratch<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shelf.files.write(&self.shelf.scratch(), self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
