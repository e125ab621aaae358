//! The handle that takes events, and the thread that writes them.
//!
//! ```text
//!            events            closing
//! Waiting ──────────> Writing ────────> Ended
//!    ^                │  ^  │             ^
//!    └────────────────┘  │  └> Failing ───┘ closing, and the disk still takes nothing
//!          written       └────────┘ every second, on reopen, on another configuration, on closing
//! ```

use std::{
    collections::VecDeque,
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::sync::broadcast;

use super::{
    Config, coalesce,
    event::Event,
    files::Files,
    output::{OpenError, Output, Rotation, Turning},
    queue::{Dropped, Queue},
    tap::Tap,
};

/// Between two tries while the disk takes no lines.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The same once the proxy waits for the last lines.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// Tries for the last lines on a disk that fails: with [`CLOSING_PAUSE`] about a second, as no stop may hang on a log.
const CLOSING_TRIES: u32 = 10;

/// Longest wait for the writer to end, for a disk that neither works nor fails.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

/// The way into audit.log. Clones lead to the same log. When the last one is dropped, what waits is still written.
#[derive(Clone)]
pub struct Audit(Option<Arc<Owner>>);

/// What may be counted of a log. All counts are since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that wait to be written.
    pub queued: usize,
    /// Lines in the file.
    pub written: u64,
    /// Events that are in no line, as too many waited.
    pub dropped: u64,
    /// Whether the disk takes no lines at the moment.
    pub failing: bool,
    /// Times the file was rotated, by this program.
    pub rotations: u64,
}

/// A log that may take the place of the one in use: [`Audit::adopt`]. Dropped, it is as if it had not been.
#[must_use = "it is taken over by Audit::adopt"]
pub struct Prepared {
    config: Config,
    /// Open already, if lines are to go elsewhere.
    output: Option<Output>,
    /// A file that was made for it.
    made: Option<PathBuf>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.output = None;
        if let Some(made) = self.made.take()
            && fs::metadata(&made).is_ok_and(|made| made.is_file() && made.len() == 0)
        {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(made);
        }
    }
}

impl Audit {
    /// Opens the log; without a path, one that writes no file, but can be looked at.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        Ok(Self::start(open(config)?, config.clone()))
    }

    /// A log that keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// A log that goes somewhere else than to a file: whole lines, as few writes as possible.
    pub fn to_writer(writer: impl Write + Send + 'static) -> Self {
        let config = Config { path: None, max_size: 0, keep: 0, compress: false };
        Self::start(Output::Writer(Box::new(writer)), config)
    }

    fn start(output: Output, config: Config) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().config = Some(config);
        let writer = Writer { ending: Ending(Arc::clone(&shared)), output, failing: false };
        match thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run()) {
            // The end of the thread is read from `Shared`.
            Ok(_) => Self(Some(Arc::new(Owner(shared)))),
            Err(error) => {
                tracing::error!(%error, "no thread for the audit log: nothing is audited");
                Self::off()
            }
        }
    }

    /// Gets the log ready to go on under another configuration. Changes nothing that is in use.
    ///
    /// # Errors
    /// The file cannot be opened. That of the log in use is not opened anew, so it is no reason to fail.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, OpenError> {
        let mut prepared = Prepared { config: config.clone(), output: None, made: None };
        let in_use = self.shared().and_then(|shared| shared.lock().config.clone());
        if in_use.is_none_or(|in_use| in_use.path == config.path) {
            return Ok(prepared);
        }
        // A disk that hangs must hold up nobody.
        let opened = tokio::task::spawn_blocking(move || {
            let missing = |path: &&PathBuf| fs::symlink_metadata(path).is_err();
            prepared.made = prepared.config.path.as_ref().filter(missing).cloned();
            prepared.output = Some(open(&prepared.config)?);
            Ok(prepared)
        });
        opened.await.unwrap_or_else(|error| {
            let path = config.path.clone().unwrap_or_default();
            Err(OpenError { path, source: io::Error::other(error) })
        })
    }

    /// Goes on under another configuration. What was emitted until now is written where it would have been, unless that
    /// disk takes no lines; the file is opened anew if it stays the same.
    pub fn adopt(&self, mut prepared: Prepared) {
        let Some(shared) = self.shared() else { return };
        let mut inbox = shared.lock();
        prepared.made = None;
        let turning = Turning::from(&prepared.config);
        let from = inbox.queue.end();
        inbox.changes.push_back(Change { output: prepared.output.take(), turning, from });
        inbox.config = Some(prepared.config.clone());
        shared.changed.notify_all();
    }

    /// The newest 200 lines, oldest first: JSON without line feeds, as they were written since the program started, or
    /// would have been into a file that is switched off.
    pub fn recent(&self) -> Vec<Arc<str>> {
        self.shared().map_or_else(Vec::new, |shared| shared.tap.recent())
    }

    /// The lines from now on, as they are written. A listener that is more than 1024 lines behind misses some, and holds
    /// up nobody. Ends with the log.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.shared().map_or_else(|| broadcast::channel(1).1, |shared| shared.tap.subscribe())
    }

    /// [`Audit::recent`], and after them [`Audit::subscribe`], with no line in both or in neither.
    pub fn recent_and_coming(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        self.shared().map_or_else(|| (Vec::new(), broadcast::channel(1).1), |shared| shared.tap.join())
    }

    /// What may be counted.
    pub fn figures(&self) -> Figures {
        let Some(shared) = self.shared() else { return Figures::default() };
        let inbox = shared.lock();
        let tally = &shared.tally;
        Figures {
            queued: inbox.queue.len() + tally.in_hand.load(Relaxed),
            written: tally.written.load(Relaxed),
            dropped: inbox.queue.dropped_in_all(),
            failing: tally.failing.load(Relaxed),
            rotations: tally.rotations.load(Relaxed),
        }
    }

    /// Hands over one event. Never waits for the disk, nor for room: what does not fit is dropped and counted,
    /// refusals first.
    pub fn emit(&self, event: Event) {
        if let Some(shared) = self.shared() {
            let mut inbox = shared.lock();
            if !inbox.ended {
                inbox.queue.push(event);
                shared.changed.notify_all();
            }
        }
    }

    /// Has the file opened anew by its path, after it was rotated away.
    pub fn reopen(&self) {
        if let Some(shared) = self.shared() {
            shared.lock().reopen = true;
            shared.changed.notify_all();
        }
    }

    /// Ends the log: returns once every event is durable, or cannot be made so within a few seconds. Events emitted
    /// from now on may be lost.
    pub async fn close(&self) {
        let Some(shared) = self.shared().cloned() else { return };
        shared.close();
        // Waited for on a thread and not by a channel, so that a paused clock does not run ahead of the writer.
        let ended = tokio::task::spawn_blocking(move || shared.wait_for_end()).await;
        if !matches!(ended, Ok(true)) {
            tracing::error!("the disk is stuck: the last lines of the audit log may be missing");
        }
    }

    fn shared(&self) -> Option<&Arc<Shared>> {
        self.0.as_ref().map(|owner| &owner.0)
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Audit(on)" } else { "Audit(off)" })
    }
}

/// The last handle: when it goes, the thread ends.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn open(config: &Config) -> Result<Output, OpenError> {
    match &config.path {
        Some(path) => Output::open(path, Turning::from(config), Files::default()),
        None => Ok(Output::Nothing),
    }
}

/// What the handles and the thread share.
#[derive(Default)]
struct Shared {
    tap: Tap,
    tally: Tally,
    /// Held for a push or a take, never for a write.
    inbox: Mutex<Inbox>,
    /// Signalled on every change of the inbox.
    changed: Condvar,
}

#[derive(Default)]
struct Inbox {
    queue: Queue,
    /// What the log goes by, with every change taken over that the thread may not know of yet.
    config: Option<Config>,
    /// Lines are to go elsewhere, or to be rotated by other rules; in order.
    changes: VecDeque<Change>,
    /// The file is to be opened anew.
    reopen: bool,
    /// The thread is to end once nothing waits.
    closing: bool,
    /// The thread has ended.
    ended: bool,
}

/// Another configuration.
struct Change {
    /// Where lines go, if not where they have gone.
    output: Option<Output>,
    turning: Turning,
    /// The place in the queue of the first event that it is for.
    from: u64,
}

/// What the thread counts.
#[derive(Default)]
struct Tally {
    /// Lines taken from the queue and not written yet.
    in_hand: AtomicUsize,
    written: AtomicU64,
    rotations: AtomicU64,
    failing: AtomicBool,
}

impl Inbox {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.reopen && !self.closing && self.changes.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // A panic cannot leave the queue half changed in a way that matters to the next event.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Whether the thread ended in time.
    fn wait_for_end(&self) -> bool {
        let inbox = self.lock();
        let running = |inbox: &mut Inbox| !inbox.ended;
        let (inbox, _) = self
            .changed
            .wait_timeout_while(inbox, CLOSING_WAIT, running)
            .unwrap_or_else(PoisonError::into_inner);
        inbox.ended
    }

    /// Waits for work, but not longer than a `minute` while refusals are being counted. The first refusal of a kind
    /// is always work; so if for a minute there is none, every count was begun longer ago than that, and is over.
    fn work(&self, minute: Duration) -> Work {
        let idle = |inbox: &mut Inbox| inbox.is_idle();
        let mut inbox = self.lock();
        loop {
            if inbox.queue.is_counting() {
                let waited = self.changed.wait_timeout_while(inbox, minute, idle);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                inbox = woken;
                if timeout.timed_out() || inbox.closing {
                    inbox.queue.push_counts();
                }
            } else {
                inbox = self.changed.wait_while(inbox, idle).unwrap_or_else(PoisonError::into_inner);
            }
            if !idle(&mut inbox) {
                let reopen = std::mem::take(&mut inbox.reopen);
                // What came before a change is written before it.
                let next = inbox.changes.front().map(|change| change.from);
                let due = next.is_some_and(|from| !inbox.queue.waits_before(from));
                let change = if due { inbox.changes.pop_front() } else { None };
                let before = inbox.changes.front().map_or(u64::MAX, |change| change.from);
                let (events, dropped) = inbox.queue.take(before);
                self.tally.in_hand.store(events.len() + usize::from(dropped.is_some()), Relaxed);
                let done = inbox.queue.is_empty() && !inbox.queue.is_counting() && inbox.changes.is_empty();
                return Work { events, dropped, reopen, change, last: inbox.closing && done };
            }
        }
    }

    /// Waits before the next try, at most until somebody asks for a reopen or, unless it is known, for the end.
    fn pause(&self, closing_known: bool) -> Pause {
        let length = if closing_known { CLOSING_PAUSE } else { RETRY_PAUSE };
        let undisturbed = |inbox: &mut Inbox| {
            !inbox.reopen && inbox.changes.is_empty() && (closing_known || !inbox.closing)
        };
        let paused = self.changed.wait_timeout_while(self.lock(), length, undisturbed);
        let (mut inbox, _) = paused.unwrap_or_else(PoisonError::into_inner);
        let reopen = std::mem::take(&mut inbox.reopen);
        Pause { reopen, change: inbox.changes.pop_front(), closing: inbox.closing }
    }
}

struct Work {
    events: Vec<Event>,
    dropped: Option<Dropped>,
    reopen: bool,
    /// Taken over before the events are written.
    change: Option<Change>,
    /// Nothing comes after this.
    last: bool,
}

struct Pause {
    reopen: bool,
    change: Option<Change>,
    closing: bool,
}

/// Tells the handles, whichever way the thread ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the audit log's writer panicked; this is a bug in Postern, please report it");
        }
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// The disk takes nothing and the proxy stops.
struct GaveUp {
    /// Lines not, or not wholly, written.
    lines: usize,
}

/// What the thread owns.
struct Writer {
    ending: Ending,
    output: Output,
    /// Whether the last write failed, which has been logged.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        self.output.begin();
        loop {
            let work = self.ending.0.work(coalesce::WINDOW);
            if let Some(change) = work.change {
                self.change(change);
            } else if work.reopen {
                self.reopen();
            }
            let mut lines = Vec::new();
            let events = work.events.into_iter().chain(work.dropped.map(Dropped::event));
            events.for_each(|event| event.write_line(&mut lines));
            if let Err(GaveUp { lines }) = self.write(&lines) {
                tracing::error!(
                    lines,
                    "the audit log still cannot be written: these lines and all that wait are lost"
                );
                return;
            }
            self.tally().in_hand.store(0, Relaxed);
            self.ending.0.tap.show(&lines);
            if let Some(Dropped { refusals, others, .. }) = work.dropped {
                tracing::warn!(refusals, others, "lines of the audit log were dropped");
            }
            if work.last {
                self.sync();
                return;
            }
        }
    }

    fn tally(&self) -> &Tally {
        &self.ending.0.tally
    }

    fn sync(&mut self) {
        if let Err(error) = self.output.sync() {
            tracing::error!(%error, "the end of the audit log may not be on disk yet");
        }
    }

    /// Writes whole lines, however long it takes; fails only when the proxy stops.
    fn write(&mut self, lines: &[u8]) -> Result<(), GaveUp> {
        let mut written = 0;
        let mut closing_tries = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            let begun = whole_lines(lines.get(..written).unwrap_or_default()) < written;
            let part = self.part(rest, begun);
            let error = match self.output.write(part) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(taken) => {
                    self.count(part.get(..taken).unwrap_or_default());
                    written += taken;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            if !self.failing {
                self.fails(true);
                tracing::error!(%error, "the audit log cannot be written; lines wait, and are dropped when too many do");
            }
            if closing_tries >= CLOSING_TRIES {
                return Err(GaveUp { lines: rest.split_inclusive(|byte| *byte == b'\n').count() });
            }
            let pause = self.ending.0.pause(closing_tries > 0);
            closing_tries += u32::from(pause.closing);
            let elsewhere = match pause.change {
                Some(change) => self.change(change),
                None => pause.reopen && self.reopen(),
            };
            if elsewhere {
                // A line is whole in one file: the torn one begins anew in the new file.
                written = whole_lines(lines.get(..written).unwrap_or_default());
            }
        }
        if self.failing && !lines.is_empty() {
            self.fails(false);
            tracing::warn!("the audit log is written again");
        }
        Ok(())
    }

    fn fails(&mut self, failing: bool) {
        self.failing = failing;
        self.tally().failing.store(failing, Relaxed);
    }

    /// Counts what was written.
    fn count(&self, written: &[u8]) {
        if self.output.keeps() {
            let ends = written.split(|byte| *byte == b'\n').count() - 1;
            self.tally().written.fetch_add(ends as u64, Relaxed);
        }
    }

    /// What is to be written next: lines that fit into the file, or the rest of a line that has been `begun`.
    fn part<'a>(&mut self, rest: &'a [u8], begun: bool) -> &'a [u8] {
        let first = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        if begun {
            return rest.get(..first).unwrap_or(rest);
        }
        if self.output.rotate(first) == Rotation::Done {
            self.tally().rotations.fetch_add(1, Relaxed);
        }
        let room = usize::try_from(self.output.room()).unwrap_or(usize::MAX).min(rest.len());
        let fitting = whole_lines(rest.get(..room).unwrap_or(rest));
        rest.get(..fitting.max(first)).unwrap_or(rest)
    }

    /// Whether lines go to another file now.
    fn change(&mut self, change: Change) -> bool {
        let elsewhere = if let Some(output) = change.output {
            if !self.failing {
                self.sync();
            }
            self.output = output;
            true
        } else {
            self.reopen()
        };
        self.output.turn(change.turning);
        elsewhere
    }

    /// Whether lines go to another file now.
    fn reopen(&mut self) -> bool {
        match self.output.reopen() {
            Ok(()) => self.output.is_file(),
            Err(error) => {
                tracing::error!(%error, "the audit log goes on in the file that was open");
                false
            }
        }
    }
}

/// The length of the whole lines at the start of `text`.
fn whole_lines(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests;
