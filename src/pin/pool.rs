//! Where hashes are computed: off the network threads, a few at a time, with a bound on those who wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hashes computed at once. Each keeps a core and 19 MiB busy for some tens of milliseconds; those who play keep the rest.
const THREADS: usize = 2;
/// Of these, those that are for strangers: so they never keep a known player waiting for more than one hash.
const FOR_STRANGERS: usize = 1;
/// Those of each kind who wait or are served. At 30 ms each, the last one waits for less than a second.
const WAITING: usize = 32;

/// Who wants a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A player who was verified, or comes from an address that was verified for it.
    Known,
    /// Anybody else.
    Strangers,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Pool {
    threads: Arc<Semaphore>,
    for_strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Ticket {
    threads: Arc<Semaphore>,
    for_strangers: Option<Arc<Semaphore>>,
    place: OwnedSemaphorePermit,
}

/// The right to compute one hash now. To be dropped by the thread that does, which may outlive whoever asked.
#[derive(Debug)]
pub(super) struct Turn {
    _thread: OwnedSemaphorePermit,
    _of_strangers: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new() -> Self {
        let bound = |places| Arc::new(Semaphore::new(places));
        Self {
            threads: bound(THREADS),
            for_strangers: bound(FOR_STRANGERS),
            known: bound(WAITING),
            strangers: bound(WAITING),
        }
    }

    /// Queues up; `None` if the queue is full.
    pub(super) fn queue(&self, lane: Lane) -> Option<Ticket> {
        let (places, for_strangers) = match lane {
            Lane::Known => (&self.known, None),
            Lane::Strangers => (&self.strangers, Some(Arc::clone(&self.for_strangers))),
        };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Ticket { threads: Arc::clone(&self.threads), for_strangers, place })
    }
}

impl Ticket {
    /// Waits for its turn, which the bound on the queue keeps short. `None` never comes: no semaphore is closed.
    pub(super) async fn turn(self) -> Option<Turn> {
        let of_strangers = match self.for_strangers {
            Some(for_strangers) => Some(for_strangers.acquire_owned().await.ok()?),
            None => None,
        };
        let thread = self.threads.acquire_owned().await.ok()?;
        Some(Turn { _thread: thread, _of_strangers: of_strangers, _place: self.place })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Polls once.
    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_burst_is_served_a_few_at_a_time_and_turned_away_beyond_the_queue() {
        let pool = Pool::new();
        let mut waiting: Vec<_> =
            (0..1000).filter_map(|_| pool.queue(Lane::Known)).map(|t| Box::pin(t.turn())).collect();
        assert_eq!(waiting.len(), WAITING);
        let mut served = 0;
        while !waiting.is_empty() {
            let turns: Vec<Turn> = {
                let mut turns = Vec::new();
                waiting.retain_mut(|turn| match ready(turn.as_mut()) {
                    Some(turn) => {
                        turns.extend(turn);
                        false
                    }
                    None => true,
                });
                turns
            };
            assert_eq!(turns.len(), THREADS.min(WAITING - served));
            served += turns.len();
        }
        assert_eq!(served, WAITING);
        assert!(pool.queue(Lane::Known).is_some(), "all places are free again");
    }

    #[tokio::test]
    async fn strangers_leave_a_thread_to_known_players() {
        let pool = Pool::new();
        let mut strangers: Vec<_> =
            (0..1000).filter_map(|_| pool.queue(Lane::Strangers)).map(|t| Box::pin(t.turn())).collect();
        assert_eq!(strangers.len(), WAITING);
        let served: Vec<_> = strangers.iter_mut().filter_map(|turn| ready(turn.as_mut())).collect();
        assert_eq!(served.len(), FOR_STRANGERS);
        let known = ready(pool.queue(Lane::Known).unwrap().turn());
        assert!(known.flatten().is_some());
    }
}
