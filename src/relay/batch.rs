//! The common encryption step of the connections of one thread.
//!
//! ```text
//!   one turn of the thread's loop
//!   A: read, judge, hand in ─┐
//!   B: read, judge, hand in ─┼─> next turn, A: encrypts all three together, writes, reads, hands in
//!   C: read, judge, hand in ─┘              B: writes, reads, hands in
//!                                           C: writes, reads, hands in
//! ```
//!
//! What goes to one player is a chain of AES blocks, each waiting for the one before; chains of several players can
//! run side by side in the time of one. So a connection does not encrypt at once what it has ready. It hands it in and
//! asks to be polled again, behind all others that are ready; the first one polled then does the work of all.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::workshop::BUFFER;
use crate::protocol::cipher::{Encryptor, Portion, encrypt_together};

/// What waits to be encrypted.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: Mutex<Vec<Job>>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    range: Range<usize>,
    desk: Arc<Desk>,
}

/// What travels: the chain cannot go on without it.
#[derive(Debug)]
struct Work {
    encryptor: Encryptor,
    buffer: Box<[u8; BUFFER]>,
}

/// Where a connection finds its work again.
#[derive(Debug, Default)]
struct Desk(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing was handed in.
    #[default]
    Free,
    /// It is in the batch.
    Waiting,
    /// Somebody on another thread is at it. (Connections of one workshop share a thread, but need not.)
    UnderWay(Option<Waker>),
    /// Encrypted.
    Done(Work),
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, Vec<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encrypts all that waits.
    fn run(&self) {
        let mut jobs = {
            let mut waiting = self.lock();
            for job in &*waiting {
                *job.desk.lock() = State::UnderWay(None);
            }
            std::mem::take(&mut *waiting)
        };
        encrypt_together(jobs.iter_mut().map(|Job { work, range, .. }| Portion {
            encryptor: &mut work.encryptor,
            bytes: work.buffer.get_mut(range.clone()).unwrap_or_default(),
        }));
        for Job { work, desk, .. } in jobs.drain(..) {
            let before = std::mem::replace(&mut *desk.lock(), State::Done(work));
            if let State::UnderWay(Some(waker)) = before {
                waker.wake();
            }
        }
        // Its memory serves the next batch.
        let mut waiting = self.lock();
        if waiting.is_empty() {
            *waiting = jobs;
        }
    }
}

/// One connection's encryption.
pub(super) struct Chain {
    /// At home, unless it was handed in.
    encryptor: Option<Encryptor>,
    desk: Arc<Desk>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

impl Chain {
    pub(super) fn new(encryptor: Encryptor) -> Self {
        Self { encryptor: Some(encryptor), desk: Arc::default() }
    }

    /// Encrypts a few bytes at once. Only while nothing is handed in: bytes must pass in order.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        debug_assert!(self.encryptor.is_some(), "bytes would pass out of order");
        if let Some(encryptor) = &mut self.encryptor {
            encryptor.apply(bytes);
        }
    }

    /// Hands in the next bytes of the stream, `range` of the buffer. The buffer comes back by
    /// [`poll_back`](Self::poll_back), for which the task is woken.
    pub(super) fn hand_in(
        &mut self,
        buffer: Box<[u8; BUFFER]>,
        range: Range<usize>,
        batch: &Batch,
        cx: &Context<'_>,
    ) {
        let Some(encryptor) = self.encryptor.take() else {
            debug_assert!(false, "handed in twice");
            return;
        };
        *self.desk.lock() = State::Waiting;
        let job = Job { work: Work { encryptor, buffer }, range, desk: Arc::clone(&self.desk) };
        batch.lock().push(job);
        cx.waker().wake_by_ref();
    }

    /// The buffer that was handed in, encrypted; `None` if there is none. The first to ask in a turn does the work.
    pub(super) fn poll_back(&mut self, batch: &Batch, cx: &Context<'_>) -> Poll<Option<Box<[u8; BUFFER]>>> {
        if self.encryptor.is_some() {
            return Poll::Ready(None);
        }
        if matches!(*self.desk.lock(), State::Waiting) {
            batch.run();
        }
        let mut state = self.desk.lock();
        match std::mem::take(&mut *state) {
            State::Done(Work { encryptor, buffer }) => {
                self.encryptor = Some(encryptor);
                Poll::Ready(Some(buffer))
            }
            State::UnderWay(_) => {
                *state = State::UnderWay(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Free | State::Waiting => {
                debug_assert!(false, "the work is lost");
                Poll::Ready(None)
            }
        }
    }

    /// Takes back what was handed in and nobody has done, for the connection is over.
    pub(super) fn give_up(&mut self, batch: &Batch) {
        if self.encryptor.is_none() {
            batch.lock().retain(|job| !Arc::ptr_eq(&job.desk, &self.desk));
        }
    }
}
