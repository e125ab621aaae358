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
//!
//! Each outage has a tally of its own: who came in by policy, and who was refused for what. It is kept with the outage,
//! and in memory also where the owner wants no statistics: whoever is told of an outage's end is told what came of it.

mod file;
mod outages;
mod recent;
mod succession;
mod totals;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
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
pub use recent::RecentLogin;
pub use succession::{OpenError, Prepared};
pub use totals::{Outages, Totals};

use crate::{clock::Clock, reason::Reason, task::Shutdown};
use outages::{History, in_tally};
use recent::Recent;

/// Between two writes while something changes: what a crash may cost.
const WRITE_INTERVAL: Duration = Duration::from_mins(1);

/// From the beginning or end of an outage to the write: verdicts that change to and fro are written once.
const NEWS_DELAY: Duration = Duration::from_secs(2);

/// Longest wait for a write once the proxy stops, for a disk that neither works nor fails.
const CLOSING_WAIT: Duration = Duration::from_secs(3);

/// Where totals are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Their file; `None` writes nothing and shows no totals.
    pub path: Option<PathBuf>,
}

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Statistics(Arc<Shared>);

/// What all clones share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Held to add, or to take others in their place.
    counters: Mutex<Arc<Counters>>,
    /// Those of before, until they are written.
    former: Mutex<Vec<Arc<Counters>>>,
    /// How often others have taken their place.
    replacements: AtomicU64,
    /// Others have taken their place.
    replaced: Notify,
    recent: Recent,
}

/// The counts of one file.
#[derive(Debug)]
struct Counters {
    clock: Clock,
    /// The file that the owner named; `None` if no totals are wanted, and only the tally of outages is of use.
    wanted: Option<PathBuf>,
    /// Where they are kept: `None` if what lies there can neither be used nor moved out of the way (then it is left alone), and if no
    /// totals are wanted.
    path: Option<PathBuf>,
    /// What lies there makes no sense, and is to be moved out of the way before the first write.
    damaged: AtomicBool,
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
    /// Held to write the file: one that hangs on a stuck disk and the next one use the same temporary file.
    writing: Mutex<()>,
    /// An outage began or ended: to be written soon.
    news: Notify,
}

impl Statistics {
    /// Goes on from what the file says; without one, from nothing. A file that makes no sense is set aside with a
    /// warning, one that cannot be read is left alone, and nothing is written then: neither keeps a proxy from starting.
    pub async fn open(config: &Config, clock: Clock) -> Self {
        let Some(path) = config.path.clone() else { return Self::off(clock) };
        let found = spawn_blocking(move || {
            let found = file::open(&path);
            (path, found)
        });
        // An error means that reading panicked, which the runtime has told of.
        let Ok((path, found)) = found.await else { return Self::off(clock) };
        Self::of(match found {
            Ok(before) => Counters::new(Some(path), before, clock),
            Err(error) => {
                warn_unusable(&path, &error);
                Counters { wanted: Some(path), ..Counters::new(None, None, clock) }
            }
        })
    }

    /// Keeps the tally of outages in memory, and nothing else.
    pub fn off(clock: Clock) -> Self {
        Self::of(Counters::off(clock))
    }

    fn of(counters: Counters) -> Self {
        let clock = counters.clock.clone();
        let recent = Recent::new(clock.clone());
        let counters = Mutex::new(Arc::new(counters));
        Self(Arc::new(Shared {
            clock,
            counters,
            former: Mutex::default(),
            replacements: AtomicU64::new(0),
            replaced: Notify::new(),
            recent,
        }))
    }

    /// A player came in on the session server's word.
    pub fn verified(&self) {
        self.count(|counters| Some(&counters.verified));
    }

    /// A player came in by policy, in the outage that began then.
    pub fn fallback(&self, outage_started: Option<Timestamp>) {
        self.counters().outages().admitted(outage_started);
        self.count(|counters| Some(&counters.fallback));
    }

    /// A player was kept out. If an outage is going on and is to blame for it, its tally has one more.
    pub fn kept_out(&self, reason: Reason) {
        if in_tally(reason) {
            self.counters().outages().refused(reason);
        }
    }

    /// A login ended without admission, for this reason.
    pub fn refused(&self, reason: Reason) {
        let place = Reason::ALL.iter().position(|known| *known == reason);
        self.count(|counters| place.and_then(|place| counters.refused.get(place)));
    }

    /// The verdict is Down, in the outage that began then. One that is known already goes on.
    pub fn outage_began(&self, started: Timestamp) {
        self.note(|history, now| history.began(started, now));
    }

    /// The verdict is not Down any more, since `at`. Also to be told when it turns out Up at the start: then an outage
    /// that the last run left open ended when that run last saw it. Returns the outage that ended by it.
    pub fn outage_ended(&self, at: Timestamp) -> Option<Outage> {
        self.note(|history, _| history.ended(at))
    }

    /// The outage that is going on, as of now.
    pub fn current_outage(&self) -> Option<Outage> {
        let counters = self.counters();
        let mut outages = counters.outages();
        outages.seen(self.0.clock.now());
        outages.going_on().cloned()
    }

    /// The outage that began then, as far as it is remembered.
    pub fn outage(&self, started: Timestamp) -> Option<Outage> {
        let counters = self.counters();
        let mut outages = counters.outages();
        outages.seen(self.0.clock.now());
        outages.of(started).cloned()
    }

    /// A player is in, so long after its connection was accepted; `proof` says how it was proven.
    pub fn login_took(&self, time: Duration, proof: &'static str) {
        self.0.recent.note(time, proof);
    }

    /// The newest logins that succeeded, oldest first; at most 120, and none from before the start. Kept also where
    /// nothing is counted.
    pub fn recent_logins(&self) -> Vec<RecentLogin> {
        self.0.recent.all()
    }

    /// All counts as of now; `None` if the owner wants none.
    pub fn totals(&self) -> Option<Totals> {
        let counters = Arc::clone(&self.counters());
        counters.wanted.is_some().then(|| counters.totals())
    }

    /// Writes the file until `stop`, then once more. When another takes its place, the one before is written once more
    /// too.
    pub async fn run(self, stop: Shutdown) {
        let mut is_stopping = false;
        // Those before the first turn count: what they left is to be written too.
        let mut replacements = 0;
        while !is_stopping {
            let counters = Arc::clone(&self.counters());
            let over = || async {
                tokio::select! {
                    () = stop.requested() => true,
                    () = self.replaced(replacements) => false,
                }
            };
            is_stopping = match counters.path.clone() {
                Some(path) => {
                    Writer { counters: Arc::clone(&counters), path, failing: false }.run(over).await
                }
                None => over().await,
            };
            replacements = self.0.replacements.load(Ordering::Acquire);
            // Several may have taken each other's place since these did.
            let mut others = self.former().clone();
            others.extend(is_stopping.then(|| Arc::clone(&self.counters())));
            for other in others.into_iter().filter(|other| !Arc::ptr_eq(other, &counters)) {
                if let Some(path) = other.path.clone() {
                    Writer { counters: other, path, failing: false }.write_last().await;
                }
            }
            // Whoever goes back to one that is not written yet goes on from what it counted.
            self.former().retain(|former| !former.is_written());
        }
    }

    /// Returns once others have taken the counters' place more often than that.
    async fn replaced(&self, replacements: u64) {
        while self.0.replacements.load(Ordering::Acquire) == replacements {
            self.0.replaced.notified().await;
        }
    }

    fn former(&self) -> MutexGuard<'_, Vec<Arc<Counters>>> {
        self.0.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> MutexGuard<'_, Arc<Counters>> {
        // It is replaced whole.
        self.0.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, counter: impl FnOnce(&Counters) -> Option<&AtomicU64>) {
        let counters = self.counters();
        if let Some(counter) = counter(&counters) {
            counter.fetch_add(1, Ordering::Relaxed);
            counters.changed.store(true, Ordering::Release);
        }
    }

    fn note<T>(&self, change: impl FnOnce(&mut History, Timestamp) -> T) -> T {
        let counters = self.counters();
        let changed = change(&mut counters.outages(), self.0.clock.now());
        counters.changed.store(true, Ordering::Release);
        counters.news.notify_one();
        changed
    }
}

impl Counters {
    /// Without a file, and without totals.
    fn off(clock: Clock) -> Self {
        Self::new(None, None, clock)
    }

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
            wanted: path.clone(),
            path,
            damaged: false.into(),
            since: before.since,
            verified: before.verified.into(),
            fallback: before.fallback.into(),
            refused,
            refused_before,
            outages: Mutex::new(History::from(before.outages)),
            changed: fresh.into(),
            writing: Mutex::default(),
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

    /// Whether the file, if there is one, holds all that was counted.
    fn is_written(&self) -> bool {
        // Whoever holds it has something to write.
        self.path.is_none() || self.writing.try_lock().is_ok() && !self.changed.load(Ordering::Acquire)
    }

    /// Writes the file. Blocks.
    fn write(&self, path: &Path) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // What is counted from here on is written the next time.
        self.changed.swap(false, Ordering::AcqRel);
        let write = || {
            if self.damaged.swap(false, Ordering::AcqRel) {
                file::set_aside(path, "it holds no statistics of this version")?;
            }
            file::write(path, &self.totals())
        };
        write().inspect_err(|_| self.changed.store(true, Ordering::Release))
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
    /// Writes now and then until it is `over`, then once more. Returns what that said.
    async fn run<F: Future<Output = bool>>(mut self, over: impl Fn() -> F) -> bool {
        let (said, is_stuck) = loop {
            tokio::select! {
                said = over() => break (said, false),
                () = sleep(WRITE_INTERVAL) => {}
                () = self.counters.news.notified() => tokio::select! {
                    said = over() => break (said, false),
                    () = sleep(NEWS_DELAY) => {}
                },
            }
            let wait = async {
                let said = over().await;
                sleep(CLOSING_WAIT).await;
                said
            };
            tokio::select! {
                () = self.write() => {}
                // Another try would hang behind this one.
                said = wait => break (said, true),
            }
        };
        if is_stuck {
            self.tell_stuck();
        } else {
            self.write_last().await;
        }
        said
    }

    async fn write_last(&mut self) {
        if timeout(CLOSING_WAIT, self.write()).await.is_err() {
            self.tell_stuck();
        }
    }

    fn tell_stuck(&self) {
        error!(path = %self.path.display(), "the disk is stuck: the last of the statistics is lost");
    }

    /// Writes if there is anything new; an outage that goes on is.
    async fn write(&mut self) {
        let changed = self.counters.changed.load(Ordering::Acquire);
        if !changed && !self.counters.outages().is_going_on() {
            return;
        }
        let (counters, path) = (Arc::clone(&self.counters), self.path.clone());
        let written = spawn_blocking(move || counters.write(&path)).await;
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
        if !std::mem::replace(&mut self.failing, true) {
            warn!(
                path = %self.path.display(), error,
                "the statistics cannot be written; counting goes on, and it is tried again every minute"
            );
        }
    }
}

fn warn_unusable(path: &Path, error: &ReadError) {
    warn!(
        path = %path.display(), %error,
        "the statistics cannot be read; this run counts in memory only and leaves the file alone"
    );
}

#[cfg(test)]
mod tests;
