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
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::dispatcher;

use super::workshop::Workshop;
use crate::task;

/// Connections served before the thread looks for new readiness. Less often than this, and what arrives for an idle
/// player would wait behind many turns of busy ones; each look is a system call.
const TURNS_BETWEEN_POLLS: u32 = 16;

/// A connection to serve, begun on the thread that is to serve it.
type Begin = Box<dyn FnOnce(&mut JoinSet<()>) + Send>;

/// What a thread is told.
enum Order {
    Serve(Begin),
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
    workshop: Arc<Workshop>,
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
    let runtime = Builder::new_current_thread().enable_all().event_interval(TURNS_BETWEEN_POLLS).build()?;
    let (orders, inbox) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    // It logs where its starter does.
    let log = dispatcher::get_default(Clone::clone);
    thread::Builder::new().name(format!("relay-{number}")).spawn(move || {
        let cut = dispatcher::with_default(&log, || work(&runtime, inbox));
        // Closes what is left.
        drop(runtime);
        // Nobody may be waiting.
        let _ = end.send(cut);
    })?;
    Ok((Worker { orders, load: Arc::default(), workshop: Arc::default() }, ended))
}

impl Workers {
    /// Hands a connection to the thread that has the fewest. `serve` is called there, inside its runtime, with what
    /// its connections share.
    pub fn hand_over<F>(&self, serve: impl FnOnce(Arc<Workshop>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else {
            return;
        };
        let (counted, workshop) = (Counted::new(&worker.load), Arc::clone(&worker.workshop));
        let begin = Box::new(move |stays: &mut JoinSet<()>| {
            let served = serve(workshop);
            stays.spawn(async move {
                served.await;
                drop(counted);
            });
        });
        // Closed: the program no longer waits for connections, and this one is cut like all the others.
        let _ = worker.orders.send(Order::Serve(begin));
    }
}

impl Threads {
    /// The way to hand connections to them.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Waits until all connections have ended, at most until `deadline`; cuts the rest and returns their number.
    pub async fn finish(self, deadline: Instant) -> usize {
        for worker in &*self.workers.0 {
            let _ = worker.orders.send(Order::Finish(deadline));
        }
        let mut cut = 0;
        for ended in self.ended {
            // A thread that is gone has panicked, and serves nobody.
            cut += ended.await.unwrap_or_default();
        }
        cut
    }
}

/// Serves until told to finish, or until nobody is left who could tell.
fn work(runtime: &Runtime, mut inbox: mpsc::UnboundedReceiver<Order>) -> usize {
    let mut stays = JoinSet::new();
    runtime.block_on(async {
        let deadline = loop {
            tokio::select! {
                Some(ended) = stays.join_next() => task::note_panic(&ended),
                order = inbox.recv() => match order {
                    Some(Order::Serve(begin)) => begin(&mut stays),
                    Some(Order::Finish(deadline)) => break deadline,
                    None => return 0,
                },
            }
        };
        inbox.close();
        while let Some(order) = inbox.recv().await {
            if let Order::Serve(begin) = order {
                begin(&mut stays);
            }
        }
        let drained = async {
            while let Some(ended) = stays.join_next().await {
                task::note_panic(&ended);
            }
        };
        // Too late is not an error: the rest is counted.
        let _ = timeout_at(deadline, drained).await;
        stays.len()
    })
}
