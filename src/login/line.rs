//! The handle of one connection: by which others close it, and what an end from outside has to know of its login.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::refusal::Who;
use crate::{net::activity::Activity, policy::Proof, reason::Reason};

/// The handle of one connection, by which others can close it.
#[derive(Debug)]
pub struct Line {
    /// When the client was last heard.
    pub activity: Arc<Activity>,
    /// Who calls, once it said so: for endings that come from outside its login.
    pub who: OnceLock<Who>,
    /// The player's proven id and how it was proven, once it has a place.
    pub seated: OnceLock<(Uuid, Proof)>,
    /// What policy said of it, while it does not know: it is offered the online login instead, or is held.
    judged: Mutex<Option<Box<Judged>>>,
    /// What its client reads, as one of [`Reads`].
    reads: AtomicU8,
    piped: AtomicBool,
    close: Mutex<Close>,
}

/// What a client can be told things by, as long as no backend does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reads {
    /// Packets of the login state.
    Login,
    /// Packets of the configuration state.
    Configuration,
    /// The same, but it has a dialog open, behind which it does not show that it was disconnected.
    Dialog,
}

/// What policy said of a login that goes on all the same.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The code of a refusal that has not been said; `None` if the player may come in once its PIN is right.
    pub reason: Option<Reason>,
    /// The session's id, if one was found.
    pub id: Option<Uuid>,
    /// What it rests on.
    pub facts: Map<String, Value>,
}

/// What a connection was asked, and the task that is to obey. A channel would take half a kilobyte.
#[derive(Debug, Default)]
struct Close {
    reason: Option<Reason>,
    /// What the client is to read instead of the reason's own text.
    words: Option<Box<str>>,
    /// Whether that is because somebody of the same id was let in.
    for_admission: bool,
    waiting: Option<Waker>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            activity: Arc::default(),
            who: OnceLock::new(),
            seated: OnceLock::new(),
            judged: Mutex::default(),
            reads: AtomicU8::new(Reads::Login as u8),
            piped: AtomicBool::new(false),
            close: Mutex::default(),
        }
    }
}

impl Line {
    /// The connection is piped from now on: silence means something.
    pub fn set_piped(&self) {
        self.activity.touch(Instant::now());
        self.piped.store(true, Ordering::Release);
    }

    pub(super) fn is_piped(&self) -> bool {
        self.piped.load(Ordering::Acquire)
    }

    /// How long its client has been silent. A login under way has its own deadline, and nothing to say while it waits
    /// for others.
    pub(super) fn silent_for(&self) -> Duration {
        if self.is_piped() { self.activity.silent_for() } else { Duration::ZERO }
    }

    /// Notes what its client reads from the next packet on that is put into its stream. For the connection's own task.
    pub fn set_reads(&self, reads: Reads) {
        self.reads.store(reads as u8, Ordering::Release);
    }

    /// What its client reads.
    pub fn reads(&self) -> Reads {
        match self.reads.load(Ordering::Acquire) {
            reads if reads == Reads::Login as u8 => Reads::Login,
            reads if reads == Reads::Configuration as u8 => Reads::Configuration,
            _ => Reads::Dialog,
        }
    }

    /// Why it was asked to end, if it was.
    pub fn asked_to_close(&self) -> Option<Reason> {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).reason
    }

    /// Whether it was asked to end because somebody of the same id was let in. Who has proven nothing and only stands
    /// where it stood does not count.
    pub fn gave_way_to_admission(&self) -> bool {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).for_admission
    }

    /// Asks the connection to end and to tell its client why. The first reason stays.
    pub fn close(&self, reason: Reason) {
        self.ask_to_close(reason, false, None);
    }

    /// Asks the connection to end, and to tell its client these words, `&` colour codes and all, instead of the reason's
    /// own text. Of one that was asked before, nothing changes. Whether this was the first time.
    pub fn send_away(&self, reason: Reason, words: Option<&str>) -> bool {
        self.ask_to_close(reason, false, words)
    }

    /// The words that its client is to read instead of the text of the reason for which it was asked to close.
    pub fn words(&self) -> Option<Box<str>> {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).words.clone()
    }

    /// Asks it to give way to somebody of the same id who was let in.
    pub(super) fn give_way_to_admission(&self) {
        self.ask_to_close(Reason::Displaced, true, None);
    }

    fn ask_to_close(&self, reason: Reason, for_admission: bool, words: Option<&str>) -> bool {
        let mut close = self.close.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = close.reason.is_none();
        if is_first {
            close.reason = Some(reason);
            close.for_admission = for_admission;
            close.words = words.map(Box::from);
        }
        let waiting = close.waiting.take();
        drop(close);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        is_first
    }

    /// Notes what policy said, or that it is of no more weight.
    pub fn set_judged(&self, judged: Option<Judged>) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = judged.map(Box::new);
    }

    /// What policy said, if nothing has come of it yet.
    pub fn take_judged(&self) -> Option<Box<Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the reason once the connection was asked to end. For the connection's own task: of several that wait,
    /// only the last would be woken.
    pub async fn closing(&self) -> Reason {
        poll_fn(|cx| {
            let mut close = self.close.lock().unwrap_or_else(PoisonError::into_inner);
            match (close.reason, &mut close.waiting) {
                (Some(reason), _) => return Poll::Ready(reason),
                (None, Some(waiting)) => waiting.clone_from(cx.waker()),
                (None, none) => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_to_close_stays() {
        let line = Line::default();
        line.close(Reason::ShuttingDown);
        line.close(Reason::Displaced);
        line.give_way_to_admission();
        assert!(!line.send_away(Reason::Kicked, Some("Go")));
        assert_eq!(line.closing().await, Reason::ShuttingDown);
        assert!(!line.gave_way_to_admission() && line.words().is_none());
        let line = Line::default();
        assert!(line.send_away(Reason::Kicked, Some("Go")) && !line.send_away(Reason::Kicked, None));
        assert_eq!(line.words().as_deref(), Some("Go"));
    }
}
