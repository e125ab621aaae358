//! The handle that takes events, and the thread that writes them.
//!
//! ```text
//!            events            closing
//! Waiting ──────────> Writing ────────> Ended
//!    ^                │  ^  │             ^
//!    └────────────────┘  │  └> Failing ───┘ closing, and the disk still takes nothing
//!          written       └────────┘ every second, on reopen, on closing
//! ```

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    Config, coalesce,
    event::Event,
    output::{OpenError, Output},
    queue::{Dropped, Queue},
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

impl Audit {
    /// Opens the log; without a path, the one that keeps nothing.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let Some(path) = &config.path else { return Ok(Self::off()) };
        Ok(Self::start(Output::open(path)?))
    }

    /// A log that keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// A log that goes somewhere else than to a file: whole lines, as few writes as possible.
    pub fn to_writer(writer: impl Write + Send + 'static) -> Self {
        Self::start(Output::Writer(Box::new(writer)))
    }

    fn start(output: Output) -> Self {
        let shared = Arc::new(Shared::default());
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

/// What the handles and the thread share.
#[derive(Default)]
struct Shared {
    /// Held for a push or a take, never for a write.
    inbox: Mutex<Inbox>,
    /// Signalled on every change of the inbox.
    changed: Condvar,
}

#[derive(Default)]
struct Inbox {
    queue: Queue,
    /// The file is to be opened anew.
    reopen: bool,
    /// The thread is to end once nothing waits.
    closing: bool,
    /// The thread has ended.
    ended: bool,
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
        let idle = |inbox: &mut Inbox| inbox.queue.is_empty() && !inbox.reopen && !inbox.closing;
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
                let (events, dropped) = inbox.queue.take();
                let last = inbox.closing && inbox.queue.is_empty() && !inbox.queue.is_counting();
                return Work { events, dropped, reopen, last };
            }
        }
    }

    /// Waits before the next try, at most until somebody asks for a reopen or, unless it is known, for the end.
    fn pause(&self, closing_known: bool) -> Pause {
        let length = if closing_known { CLOSING_PAUSE } else { RETRY_PAUSE };
        let undisturbed = |inbox: &mut Inbox| !inbox.reopen && (closing_known || !inbox.closing);
        let paused = self.changed.wait_timeout_while(self.lock(), length, undisturbed);
        let (mut inbox, _) = paused.unwrap_or_else(PoisonError::into_inner);
        Pause { reopen: std::mem::take(&mut inbox.reopen), closing: inbox.closing }
    }
}

struct Work {
    events: Vec<Event>,
    dropped: Option<Dropped>,
    reopen: bool,
    /// Nothing comes after this.
    last: bool,
}

struct Pause {
    reopen: bool,
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
        loop {
            let work = self.ending.0.work(coalesce::WINDOW);
            if work.reopen {
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
            if let Some(Dropped { refusals, others, .. }) = work.dropped {
                tracing::warn!(refusals, others, "lines of the audit log were dropped");
            }
            if work.last {
                if let Err(error) = self.output.sync() {
                    tracing::error!(%error, "the end of the audit log may not be on disk yet");
                }
                return;
            }
        }
    }

    /// Writes whole lines, however long it takes; fails only when the proxy stops.
    fn write(&mut self, lines: &[u8]) -> Result<(), GaveUp> {
        let mut written = 0;
        let mut closing_tries = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            let error = match self.output.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(taken) => {
                    written += taken;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            if !self.failing {
                self.failing = true;
                tracing::error!(%error, "the audit log cannot be written; lines wait, and are dropped when too many do");
            }
            if closing_tries >= CLOSING_TRIES {
                return Err(GaveUp { lines: rest.split_inclusive(|byte| *byte == b'\n').count() });
            }
            let pause = self.ending.0.pause(closing_tries > 0);
            closing_tries += u32::from(pause.closing);
            if pause.reopen && self.reopen() {
                // A line is whole in one file: the torn one begins anew in the new file.
                written = whole_lines(lines.get(..written).unwrap_or_default());
            }
        }
        if self.failing && !lines.is_empty() {
            self.failing = false;
            tracing::warn!("the audit log is written again");
        }
        Ok(())
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
