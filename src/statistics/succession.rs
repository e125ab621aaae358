//! Another file while the proxy runs.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use tokio::task::spawn_blocking;

use super::{Config, Counters, Statistics, Totals, file, file::ReadError, warn_unusable};

/// The statistics cannot be kept there.
#[derive(Debug, thiserror::Error)]
#[error(
    "monitoring.statistics-file: {} cannot be used: {source}; it names a file that this user can read and write, in a \
     folder that exists",
    path.display()
)]
pub struct OpenError {
    /// Where.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// Another configuration, with its file read; see [`Statistics::prepare`].
#[derive(Debug)]
pub struct Prepared(Next);

#[derive(Debug)]
enum Next {
    /// Nothing is different.
    Same,
    /// Totals are not wanted any more.
    Off,
    /// The file is the same, and still of no use.
    Unusable { path: PathBuf, error: ReadError },
    /// Counting goes on from another file.
    File { path: PathBuf, before: Option<Totals>, damaged: bool },
    /// Counting goes on where it was left a moment ago: what was counted there is not in its file yet.
    Back(Arc<Counters>),
}

impl Statistics {
    /// Makes ready to count by another configuration: reads what its file says. Changes nothing; a file that makes no
    /// sense is set aside once it is adopted.
    ///
    /// # Errors
    /// Another file that cannot be read, or whose folder is missing. That the one in use could not be read at the start
    /// is no reason to fail: it is tried again, and if it still cannot be, counting goes on without.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, OpenError> {
        let (wanted, now) = {
            let counters = self.counters();
            (counters.wanted.clone(), counters.path.clone())
        };
        let path = match &config.path {
            None if wanted.is_none() => return Ok(Prepared(Next::Same)),
            None => return Ok(Prepared(Next::Off)),
            Some(path) if now.as_ref() == Some(path) => return Ok(Prepared(Next::Same)),
            Some(path) => path.clone(),
        };
        if let Some(former) = self.former().iter().find(|former| former.path.as_ref() == Some(&path)) {
            return Ok(Prepared(Next::Back(Arc::clone(former))));
        }
        let is_the_same = wanted.as_ref() == Some(&path);
        let read = spawn_blocking(move || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if !is_the_same && folder.is_some_and(|folder| !folder.is_dir()) {
                let source = io::Error::other("there is no such folder");
                return Err(OpenError { path, source });
            }
            match file::read_file(&path) {
                Ok(before) => Ok(Next::File { path, before, damaged: false }),
                Err(ReadError::Damaged(_)) => Ok(Next::File { path, before: None, damaged: true }),
                Err(error) if is_the_same => Ok(Next::Unusable { path, error }),
                Err(ReadError::Io(source)) => Err(OpenError { path, source }),
            }
        });
        // The task cannot be cancelled while somebody waits for it.
        read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())).map(Prepared)
    }

    /// Counts so from now on, as after a start with that configuration: what the other file says counts, and what was
    /// counted is written to the one before. An outage that is going on goes on there, with its tally.
    pub fn adopt(&self, Prepared(next): Prepared) {
        let clock = self.0.clock.clone();
        let next = match next {
            Next::Same => return,
            Next::Unusable { path, error } => return warn_unusable(&path, &error),
            Next::Off => Arc::new(Counters::off(clock)),
            Next::File { path, before, damaged } => {
                let counters = Counters::new(Some(path), before, clock);
                counters.damaged.store(damaged, Ordering::Release);
                Arc::new(counters)
            }
            Next::Back(former) => former,
        };
        let mut counters = self.counters();
        let outage = {
            let mut outages = counters.outages();
            outages.seen(self.0.clock.now());
            let outage = outages.going_on().cloned();
            // Its end is not told here any more.
            outages.leave();
            outage
        };
        if let Some(outage) = outage {
            counters.changed.store(true, Ordering::Release);
            next.outages().goes_on(outage);
            next.changed.store(true, Ordering::Release);
            next.news.notify_one();
        }
        let mut former = self.former();
        former.retain(|former| !Arc::ptr_eq(former, &next));
        former.push(std::mem::replace(&mut *counters, next));
        drop((former, counters));
        self.0.replacements.fetch_add(1, Ordering::AcqRel);
        self.0.replaced.notify_one();
    }
}
