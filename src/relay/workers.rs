//! The threads that relay: one a core, each with a loop of its own.
//!
//! A connection stays with its thread, so nothing is handed from core to core, no thread is woken for another, and
//! the connections that are busy at the same time meet in one [`Workshop`]. Logins run elsewhere: however busy the
//! relay is, they get their share of the processor from the system.

use std::{
    fmt,
    future::Future,
    io,
    num::NonZero,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{dispatcher, error, warn};

use super::{metrics::Tally, workshop::Workshop};
use crate::task;

/// Connections served before the thread looks for new readiness. Less often than this, and what arrives for an idle
/// player would wait behind many turns of busy ones; each look is a system call.
const TURNS_BETWEEN_POLLS: u32 = 16;

/// How long after the deadline a thread may take to cut what is left.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A connection to serve, begun on the thread that is to serve it. Boxed, so that its task holds nothing twice: not
/// what it is made of beside what it is.
type Serve = Box<dyn FnOnce(Arc<Workshop>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a thread is told.
enum Order {
    Serve(Serve, Counted),
    /// Takes no more, and ends when all connections have, or at that moment.
    Finish(Instant),
}

/// Hands connections to the threads. Clones hand them to the same ones.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Worker]>);

#[derive(Clone)]
struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    /// Connections handed over that have not ended.
    load: Arc<AtomicUsize>,
    tally: Arc<Tally>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("load", &self.load).finish_non_exhaustive()
    }
}

/// The threads themselves. They cut what they serve once this and all [`Workers`] are gone.
#[derive(Debug)]
pub struct Threads {
    workers: Workers,
    /// Of each, how many connections were cut at its end.
    ended: Vec<oneshot::Receiver<usize>>,
}

/// Counts one connection for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts one thread a core.
///
/// # Errors
/// If the system gives out no threads or no descriptors.
pub fn start() -> io::Result<Threads> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (workers, ended) = (0..cores).map(start_one).collect::<io::Result<(Vec<_>, Vec<_>)>>()?;
    Ok(Threads { workers: Workers(workers.into()), ended })
}

fn start_one(number: usize) -> io::Result<(Worker, oneshot::Receiver<usize>)> {
    let (orders, inbox) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let tally = Arc::<Tally>::default();
    let workshop = Arc::new(Workshop::counting(Arc::clone(&tally)));
    // It logs where its starter does.
    let log = dispatcher::get_default(Clone::clone);
    thread::Builder::new().name(format!("relay-{number}")).spawn(move || {
        // Made here: a runtime must not be dropped on another runtime's thread, not even by a start that fails.
        let runtime = Builder::new_current_thread().enable_all().event_interval(TURNS_BETWEEN_POLLS).build();
        let (runtime, made) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The starter waits for this.
        let _ = ready.send(made);
        let Some(runtime) = runtime else { return };
        let cut = dispatcher::with_default(&log, || runtime.block_on(work(inbox, workshop)));
        // Closes what is left.
        drop(runtime);
        // Nobody may be waiting.
        let _ = end.send(cut);
    })?;
    is_ready.recv().map_err(io::Error::other)??;
    Ok((Worker { orders, load: Arc::default(), tally }, ended))
}

impl Workers {
    /// Hands a connection to the thread that has the fewest. `serve` is called there, inside its runtime, with what
    /// its connections share.
    pub fn hand_over<F>(&self, serve: impl FnOnce(Arc<Workshop>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A thread that is gone has the fewest, and would get everybody.
        let alive = self.0.iter().filter(|worker| !worker.orders.is_closed());
        let Some(worker) = alive.min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else {
            warn!("no thread relays any more; a player is cut");
            return;
        };
        let serve = Box::new(move |workshop| Box::pin(serve(workshop)) as _);
        // Closed just now: as above.
        let _ = worker.orders.send(Order::Serve(serve, Counted::new(&worker.load)));
    }
}

impl Workers {
    /// What each thread has counted.
    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.0.iter().map(|worker| &*worker.tally)
    }

    /// Connections handed over that have not ended.
    pub(super) fn load(&self) -> usize {
        self.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }
}

impl Threads {
    /// The way to hand connections to them.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Waits until all connections have ended, at most until `deadline`; cuts the rest and returns their number. A
    /// thread that does not even do that is left behind: sessions and audit.log must not wait for it.
    pub async fn finish(self, deadline: Instant) -> usize {
        for worker in &*self.workers.0 {
            let _ = worker.orders.send(Order::Finish(deadline));
        }
        let mut cut = 0;
        for (ended, worker) in self.ended.into_iter().zip(&*self.workers.0) {
            cut += if let Ok(cut) = timeout_at(deadline + LAST_MOMENT, ended).await {
                // A thread that is gone has panicked, and serves nobody.
                cut.unwrap_or_default()
            } else {
                error!("a thread that relays does not stop; this is a bug in Postern, please report it");
                worker.load.load(Ordering::Relaxed)
            };
        }
        cut
    }
}

/// Serves until told to finish, or until nobody is left who could tell. Returns how many connections are cut.
async fn work(mut inbox: mpsc::UnboundedReceiver<Order>, workshop: Arc<Workshop>) -> usize {
    let mut served = JoinSet::new();
    let begin = |served: &mut JoinSet<()>, serve: Serve, counted: Counted| {
        let workshop = Arc::clone(&workshop);
        served.spawn(async move {
            serve(workshop).await;
            drop(counted);
        });
    };
    let deadline = loop {
        tokio::select! {
            Some(ended) = served.join_next() => task::note_panic(&ended),
            order = inbox.recv() => match order {
                Some(Order::Serve(serve, counted)) => begin(&mut served, serve, counted),
                Some(Order::Finish(deadline)) => break deadline,
                None => return served.len(),
            },
        }
    };
    inbox.close();
    while let Some(order) = inbox.recv().await {
        if let Order::Serve(serve, counted) = order {
            begin(&mut served, serve, counted);
        }
    }
    let drained = async {
        while let Some(ended) = served.join_next().await {
            task::note_panic(&ended);
        }
    };
    // Too late is not an error: the rest is counted.
    let _ = timeout_at(deadline, drained).await;
    while let Some(ended) = served.try_join_next() {
        task::note_panic(&ended);
    }
    served.len()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Hands over a connection that tells when it is served and by whom, then waits for its end.
    async fn begin(workers: &Workers) -> (thread::ThreadId, oneshot::Sender<()>) {
        let (begun, hears) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        workers.hand_over(move |_| async move {
            begun.send(thread::current().id()).unwrap();
            let _ = ended.await;
        });
        (hears.await.unwrap(), end)
    }

    fn load(workers: &Workers) -> usize {
        workers.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }

    #[tokio::test]
    async fn the_thread_with_the_fewest_gets_the_next() {
        let threads = start().unwrap();
        let (workers, cores) = (threads.workers(), threads.ended.len());
        let mut serving = Vec::new();
        for _ in 0..3 * cores {
            serving.push(begin(&workers).await);
        }
        for (thread, _) in &serving {
            assert_eq!(serving.iter().filter(|(other, _)| other == thread).count(), 3);
        }
        let (left, end) = serving.remove(0);
        end.send(()).unwrap();
        // The count goes down with the task, just behind its end.
        while load(&workers) == 3 * cores {
            tokio::task::yield_now().await;
        }
        assert_eq!(begin(&workers).await.0, left);
        drop(serving);
        assert_eq!(threads.finish(Instant::now() + Duration::from_mins(1)).await, 0);
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_cut_and_counted() {
        let threads = start().unwrap();
        let workers = threads.workers();
        let (_, _held) = begin(&workers).await;
        let (_, end) = begin(&workers).await;
        end.send(()).unwrap();
        while load(&workers) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.finish(Instant::now()).await, 1);
        // Too late for anybody else.
        let (begun, hears) = oneshot::channel::<()>();
        workers.hand_over(move |_| async move { drop(begun) });
        hears.await.unwrap_err();
    }

    #[tokio::test]
    async fn without_anybody_who_could_stop_them_they_stop() {
        let threads = start().unwrap();
        let (held, cut) = oneshot::channel::<()>();
        threads.workers().hand_over(move |_| async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(threads);
        cut.await.unwrap_err();
    }

    #[tokio::test]
    async fn a_panic_ends_one_connection() {
        let threads = start().unwrap();
        let workers = threads.workers();
        let (_, other) = begin(&workers).await;
        for _ in 0..2 * threads.ended.len() {
            workers.hand_over(|_| -> std::future::Ready<()> { panic!("on purpose") });
        }
        while load(&workers) > 1 {
            tokio::task::yield_now().await;
        }
        for _ in 0..threads.ended.len() {
            begin(&workers).await.1.send(()).unwrap();
        }
        other.send(()).unwrap();
        assert_eq!(threads.finish(Instant::now() + Duration::from_mins(1)).await, 0);
    }

    #[tokio::test]
    async fn a_thread_that_is_gone_gets_nobody() {
        let threads = start().unwrap();
        let mut workers = threads.workers().0.to_vec();
        // One whose thread has ended: it has the fewest.
        workers.insert(
            0,
            Worker { orders: mpsc::unbounded_channel().0, load: Arc::default(), tally: Arc::default() },
        );
        let workers = Workers(workers.into());
        for _ in 0..3 * threads.ended.len() {
            drop(begin(&workers).await);
        }
    }
}
