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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::protocol::cipher::SharedSecret;

    fn encryptor(player: u8) -> Encryptor {
        Encryptor::new(&SharedSecret::new(&[player; 16]).unwrap())
    }

    fn plain(player: u8) -> Box<[u8; BUFFER]> {
        Box::new(std::array::from_fn(|at| at.to_le_bytes()[0] ^ player))
    }

    #[test]
    fn the_first_to_ask_does_the_work_of_all() {
        let batch = Batch::default();
        let cx = Context::from_waker(Waker::noop());
        let mut chains = [1, 2, 3].map(|player| Chain::new(encryptor(player)));
        let mut alone = [1, 2, 3].map(encryptor);
        for round in 0..3 {
            let ranges = [0..BUFFER, 7..7 + round, 100..2000];
            for ((chain, range), player) in chains.iter_mut().zip(&ranges).zip(1..) {
                assert_eq!(chain.poll_back(&batch, &cx), Poll::Ready(None));
                chain.hand_in(plain(player), range.clone(), &batch, &cx);
            }
            assert_eq!(batch.lock().len(), 3);
            for at in [1, 0, 2] {
                let Poll::Ready(Some(got)) = chains[at].poll_back(&batch, &cx) else { panic!("not done") };
                assert!(batch.lock().is_empty());
                let mut expected = plain(u8::try_from(at).unwrap() + 1);
                alone[at].apply(&mut expected[ranges[at].clone()]);
                assert!(got == expected, "player {at}, round {round}");
            }
        }
    }

    #[test]
    fn work_of_a_connection_that_is_over_is_not_kept() {
        let batch = Batch::default();
        let cx = Context::from_waker(Waker::noop());
        let mut chains = [1, 2].map(|player| Chain::new(encryptor(player)));
        for chain in &mut chains {
            chain.hand_in(plain(0), 0..10, &batch, &cx);
        }
        chains[0].give_up(&batch);
        assert_eq!(batch.lock().len(), 1);
        assert!(matches!(chains[1].poll_back(&batch, &cx), Poll::Ready(Some(_))));
        chains[1].give_up(&batch);
    }

    /// The relay keeps each batch to one thread; what is here is right without that too.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn across_threads() {
        let batch = Arc::<Batch>::default();
        let players = (1..=8).map(|player| {
            let batch = Arc::clone(&batch);
            tokio::spawn(async move {
                let (mut chain, mut alone) = (Chain::new(encryptor(player)), encryptor(player));
                for round in 0..200 {
                    let range = round..round * 3;
                    poll_fn(|cx| {
                        chain.hand_in(plain(player), range.clone(), &batch, cx);
                        Poll::Ready(())
                    })
                    .await;
                    let got = poll_fn(|cx| chain.poll_back(&batch, cx)).await.unwrap();
                    let mut expected = plain(player);
                    alone.apply(&mut expected[range]);
                    assert!(got == expected, "player {player}, round {round}");
                }
            })
        });
        for player in players.collect::<Vec<_>>() {
            player.await.unwrap();
        }
    }
}
