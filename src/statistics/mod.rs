//! What has happened since the proxy was installed: admissions, refusals, outages. Kept in one small file across
//! restarts.
//!
//! Counting is an addition in memory and never waits. One task writes the file off the network threads: every minute
//! if there is something new, a few seconds after an outage began or ended, and once more at the stop. So a crash costs
//! a minute of counts, and a disk that fails costs nobody anything but the figures.
//!
//! # Outages and restarts
//!
//! An outage is known by when it began, which the verdict on the session server keeps over restarts. The same beginning
//! told again is the same outage: it goes on, and any end that it was given was none. So neither a restart in the middle
//! nor a server that answers now and then makes two of one. An outage that was going on when the proxy was stopped, and
//! that is over or another one when it runs again, ends when it was last seen: nobody was there to see more of it.

mod file;
mod outages;
mod totals;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

pub use file::{ReadError, read_file};
pub use outages::Outage;
pub use totals::{Outages, Totals};

use crate::{clock::Clock, reason::Reason, task::Shutdown};
use outages::History;

/// Between two writes while something changes: what a crash may cost.
const WRITE_INTERVAL: Duration = Duration::from_mins(1);

/// From the beginning or end of an outage to the write: verdicts that change to and fro are written once.
const NEWS_DELAY: Duration = Duration::from_secs(2);

/// Longest wait for a write once the proxy stops, for a disk that neither works nor fails.
const CLOSING_WAIT: Duration = Duration::from_secs(3);

/// Where totals are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Their file; `None` counts nothing and writes nothing.
    pub path: Option<PathBuf>,
}

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Statistics(Option<Arc<Counters>>);

/// What all clones share.
#[derive(Debug)]
struct Counters {
    clock: Clock,
    /// `None` if what lies there can neither be used nor moved out of the way: then it is left alone.
    path: Option<PathBuf>,
    since: Timestamp,
    verified: AtomicU64,
    fallback: AtomicU64,
    /// In the order of [`Reason::ALL`].
    refused: Box<[AtomicU64]>,
    /// Refusals for reasons that another version of the program wrote down; carried along.
    refused_before: BTreeMap<String, u64>,
    outages: Mutex<History>,
    /// Whether there is something to write.
    changed: AtomicBool,
    /// An outage began or ended: to be written soon.
    news: Notify,
}

impl Statistics {
    /// Goes on from what the file says; without one, from nothing. A file that makes no sense is set aside with a
    /// warning, one that cannot be read is left alone, and nothing is written then: neither keeps a proxy from starting.
    pub async fn open(config: &Config, clock: Clock) -> Self {
        let Some(path) = config.path.clone() else { return Self::off() };
        let found = spawn_blocking(move || {
            let found = file::open(&path);
            (path, found)
        });
        // An error means that reading panicked, which the runtime has told of.
        let Ok((path, found)) = found.await else { return Self::off() };
        let (path, before) = match found {
            Ok(before) => (Some(path), before),
            Err(error) => {
                warn!(
                    path = %path.display(), %error,
                    "the statistics cannot be read; this run counts in memory only and leaves the file alone"
                );
                (None, None)
            }
        };
        Self(Some(Arc::new(Counters::new(path, before, clock))))
    }

    /// Counts nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// A player came in on the session server's word.
    pub fn verified(&self) {
        self.count(|counters| Some(&counters.verified));
    }

    /// A player came in by policy.
    pub fn fallback(&self) {
        self.count(|counters| Some(&counters.fallback));
    }

    /// A player did not come in.
    pub fn refused(&self, reason: Reason) {
        let place = Reason::ALL.iter().position(|known| *known == reason);
        self.count(|counters| place.and_then(|place| counters.refused.get(place)));
    }

    /// The verdict is Down, in the outage that began then. One that is known already goes on.
    pub fn outage_began(&self, started: Timestamp) {
        self.note(|history, now| history.began(started, now));
    }

    /// The verdict is not Down any more, since `at`. Also to be told when it turns out Up at the start: then an outage
    /// that the last run left open ended when that run last saw it.
    pub fn outage_ended(&self, at: Timestamp) {
        self.note(|history, _| history.ended(at));
    }

    /// All counts as of now; `None` if nothing is counted.
    pub fn totals(&self) -> Option<Totals> {
        self.0.as_deref().map(Counters::totals)
    }

    /// Writes the file until `stop`, then once more.
    pub async fn run(self, stop: Shutdown) {
        let Some(counters) = self.0 else { return };
        let Some(path) = counters.path.clone() else { return };
        let mut writer = Writer { counters, path, failing: false };
        let mut stopped = false;
        while !stopped {
            tokio::select! {
                () = stop.requested() => break,
                () = sleep(WRITE_INTERVAL) => {}
                () = writer.counters.news.notified() => tokio::select! {
                    () = stop.requested() => break,
                    () = sleep(NEWS_DELAY) => {}
                },
            }
            let wait = async {
                stop.requested().await;
                sleep(CLOSING_WAIT).await;
            };
            tokio::select! {
                () = writer.write() => {}
                // Another try would hang behind this one.
                () = wait => stopped = true,
            }
        }
        if stopped || timeout(CLOSING_WAIT, writer.write()).await.is_err() {
            error!("the disk is stuck: the last of the statistics is lost");
        }
    }

    fn count(&self, counter: impl FnOnce(&Counters) -> Option<&AtomicU64>) {
        let Some(counters) = self.0.as_deref() else { return };
        if let Some(counter) = counter(counters) {
            counter.fetch_add(1, Ordering::Relaxed);
            counters.changed.store(true, Ordering::Release);
        }
    }

    fn note(&self, change: impl FnOnce(&mut History, Timestamp)) {
        let Some(counters) = self.0.as_deref() else { return };
        change(&mut counters.outages(), counters.clock.now());
        counters.changed.store(true, Ordering::Release);
        counters.news.notify_one();
    }
}

impl Counters {
    fn new(path: Option<PathBuf>, before: Option<Totals>, clock: Clock) -> Self {
        let fresh = before.is_none();
        let before = before.unwrap_or_else(|| Totals::since(clock.now()));
        let mut refused_before = before.refused;
        let refused = Reason::ALL
            .iter()
            .map(|reason| AtomicU64::new(refused_before.remove(reason.code()).unwrap_or_default()))
            .collect();
        let counters = Self {
            clock,
            path,
            since: before.since,
            verified: before.verified.into(),
            fallback: before.fallback.into(),
            refused,
            refused_before,
            outages: Mutex::new(History::from(before.outages)),
            changed: fresh.into(),
            news: Notify::new(),
        };
        if fresh {
            // From when on is counted is not to be lost to a crash.
            counters.news.notify_one();
        }
        counters
    }

    fn totals(&self) -> Totals {
        let mut refused = self.refused_before.clone();
        for (reason, count) in Reason::ALL.iter().zip(&self.refused) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                refused.insert(reason.code().to_owned(), count);
            }
        }
        let outages = {
            let mut outages = self.outages();
            outages.seen(self.clock.now());
            outages.totals()
        };
        Totals {
            since: self.since,
            verified: self.verified.load(Ordering::Relaxed),
            fallback: self.fallback.load(Ordering::Relaxed),
            refused,
            outages,
        }
    }

    fn outages(&self) -> MutexGuard<'_, History> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the counts to the disk.
struct Writer {
    counters: Arc<Counters>,
    path: PathBuf,
    /// The last write failed, and that was said.
    failing: bool,
}

impl Writer {
    /// Writes if there is anything new; an outage that goes on is.
    async fn write(&mut self) {
        let changed = self.counters.changed.swap(false, Ordering::AcqRel);
        if !changed && !self.counters.outages().is_going_on() {
            return;
        }
        let (counters, path) = (Arc::clone(&self.counters), self.path.clone());
        let written = spawn_blocking(move || file::write(&path, &counters.totals())).await;
        let error = match written {
            Ok(Ok(())) => {
                if std::mem::take(&mut self.failing) {
                    info!(path = %self.path.display(), "the statistics are written again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.counters.changed.store(true, Ordering::Release);
        if !std::mem::replace(&mut self.failing, true) {
            warn!(
                path = %self.path.display(), error,
                "the statistics cannot be written; counting goes on, and it is tried again every minute"
            );
        }
    }
}

#[cfg(test)]
mod tests;
