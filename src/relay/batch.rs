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
    collections::VecDeque,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::workshop::BUFFER;
use crate::protocol::cipher::{Encryptor, Portion, encrypt_together};

/// Most buffers encrypted at once: a millisecond's work, after which the thread looks at other things. Whoever is polled
/// next does the next lot.
const LOT: usize = 24;

/// What waits to be encrypted.
#[derive(Debug, Default)]
pub(super) struct Batch(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// An empty lot, for its memory.
    spare: Vec<Job>,
}

#[derive(Debug)]
struct Job {
    work: Option<Work>,
    range: Range<usize>,
    desk: Arc<Desk>,
}

/// What travels: the chain cannot go on without it.
struct Work {
    encryptor: Encryptor,
    buffer: Box<[u8; BUFFER]>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A player's bytes are nobody's to print.
        f.write_str("Work")
    }
}

/// A chain cannot go on: what it needs is lost, by a panic. Nothing may be sent then, least of all as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the encryption of this connection was lost to a panic")]
pub(super) struct Lost;

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
    /// Whoever was at it panicked.
    Lost,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes who waits for that.
    fn put(&self, state: State) {
        let before = std::mem::replace(&mut *self.lock(), state);
        if let State::UnderWay(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encrypts what waits longest.
    fn run(&self) {
        let mut lot = {
            let mut queue = self.lock();
            let mut jobs = std::mem::take(&mut queue.spare);
            let most = queue.waiting.len().min(LOT);
            jobs.extend(queue.waiting.drain(..most));
            for job in &jobs {
                *job.desk.lock() = State::UnderWay(None);
            }
            Lot(jobs)
        };
        encrypt_together(lot.0.iter_mut().filter_map(|Job { work, range, .. }| {
            let Work { encryptor, buffer } = work.as_mut()?;
            Some(Portion { encryptor, bytes: buffer.get_mut(range.clone())? })
        }));
        for Job { work, desk, .. } in &mut lot.0 {
            desk.put(work.take().map_or(State::Lost, State::Done));
        }
        lot.0.clear();
        self.lock().spare = std::mem::take(&mut lot.0);
    }
}

/// Jobs under way. If they end by a panic, it costs the players of this lot their connections, and they must hear of it.
struct Lot(Vec<Job>);

impl Drop for Lot {
    fn drop(&mut self) {
        for job in self.0.drain(..) {
            job.desk.put(State::Lost);
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

    /// Encrypts a few bytes at once. Only while nothing is handed in, as bytes must pass in order; otherwise, and after
    /// a [loss](Lost), the bytes stay as they are and must not be sent.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) -> Result<(), Lost> {
        self.encryptor.as_mut().ok_or(Lost)?.apply(bytes);
        Ok(())
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
        if let Some(encryptor) = self.encryptor.take() {
            *self.desk.lock() = State::Waiting;
            let work = Some(Work { encryptor, buffer });
            batch.lock().waiting.push_back(Job { work, range, desk: Arc::clone(&self.desk) });
        } else {
            debug_assert!(false, "handed in twice");
            *self.desk.lock() = State::Lost;
        }
        cx.waker().wake_by_ref();
    }

    /// The buffer that was handed in, encrypted; `None` if there is none. The first to ask in a turn does the work.
    pub(super) fn poll_back(
        &mut self,
        batch: &Batch,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Box<[u8; BUFFER]>>, Lost>> {
        if self.encryptor.is_some() {
            return Poll::Ready(Ok(None));
        }
        // Others may stand before it, if it did not come in the order of the queue.
        while matches!(*self.desk.lock(), State::Waiting) {
            batch.run();
        }
        let mut state = self.desk.lock();
        match std::mem::replace(&mut *state, State::Lost) {
            State::Done(Work { encryptor, buffer }) => {
                *state = State::Free;
                self.encryptor = Some(encryptor);
                Poll::Ready(Ok(Some(buffer)))
            }
            State::UnderWay(_) => {
                *state = State::UnderWay(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Free | State::Waiting | State::Lost => Poll::Ready(Err(Lost)),
        }
    }

    /// Takes back what was handed in and nobody has done, for the connection is over.
    pub(super) fn give_up(&mut self, batch: &Batch) {
        if self.encryptor.is_none() {
            batch.lock().waiting.retain(|job| !Arc::ptr_eq(&job.desk, &self.desk));
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
                assert_eq!(chain.poll_back(&batch, &cx), Poll::Ready(Ok(None)));
                chain.hand_in(plain(player), range.clone(), &batch, &cx);
            }
            assert_eq!(batch.lock().waiting.len(), 3);
            for at in [1, 0, 2] {
                let Poll::Ready(Ok(Some(got))) = chains[at].poll_back(&batch, &cx) else {
                    panic!("not done")
                };
                assert!(batch.lock().waiting.is_empty());
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
        assert_eq!(batch.lock().waiting.len(), 1);
        assert!(matches!(chains[1].poll_back(&batch, &cx), Poll::Ready(Ok(Some(_)))));
        chains[1].give_up(&batch);
    }

    #[test]
    fn a_lot_is_bounded_and_goes_in_order() {
        let batch = Batch::default();
        let cx = Context::from_waker(Waker::noop());
        let mut chains: Vec<Chain> = (0..2 * LOT + 5).map(|_| Chain::new(encryptor(1))).collect();
        for chain in &mut chains {
            chain.hand_in(plain(0), 0..10, &batch, &cx);
        }
        for (asking, left) in [(0, LOT + 5), (LOT - 1, LOT + 5), (LOT, 5), (2 * LOT + 4, 0)] {
            assert!(matches!(chains[asking].poll_back(&batch, &cx), Poll::Ready(Ok(Some(_)))));
            assert_eq!(batch.lock().waiting.len(), left);
        }
        // Who is out of order makes up for those before it.
        for chain in &mut chains {
            if let Poll::Ready(Ok(None)) = chain.poll_back(&batch, &cx) {
                chain.hand_in(plain(0), 0..10, &batch, &cx);
            }
        }
        assert!(chains.iter_mut().rev().all(|chain| chain.poll_back(&batch, &cx).is_ready()));
    }

    #[test]
    fn a_loss_is_told_to_all_of_the_lot_and_nothing_is_sent() {
        let batch = Batch::default();
        let cx = Context::from_waker(Waker::noop());
        let mut chains = [1, 2].map(|player| Chain::new(encryptor(player)));
        for chain in &mut chains {
            chain.hand_in(plain(0), 0..10, &batch, &cx);
        }
        assert_eq!(chains[0].apply(&mut [1, 2, 3]), Err(Lost), "not out of order");
        let jobs = batch.lock().waiting.drain(..).collect::<Vec<_>>();
        for job in &jobs {
            *job.desk.lock() = State::UnderWay(None);
        }
        assert!(chains.iter_mut().all(|chain| chain.poll_back(&batch, &cx).is_pending()));
        // As when a panic passes through.
        drop(Lot(jobs));
        for chain in &mut chains {
            assert_eq!(chain.poll_back(&batch, &cx), Poll::Ready(Err(Lost)));
            assert_eq!(chain.poll_back(&batch, &cx), Poll::Ready(Err(Lost)), "for good");
            assert_eq!(chain.apply(&mut [1, 2, 3]), Err(Lost));
        }
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
                    let got = poll_fn(|cx| chain.poll_back(&batch, cx)).await.unwrap().unwrap();
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
