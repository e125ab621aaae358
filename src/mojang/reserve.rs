//! What a probe keeps for itself, so that a flood of connections cannot starve it and so look like an outage:
//! file descriptors, and threads for its name look-ups.

use std::{
    fs::File,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

/// The socket of the probe, and the few descriptors that a look-up opens one after another.
const DESCRIPTORS: usize = 4;

/// Threads that look names up. A look-up hangs for up to about 30 s where no name server answers, and a probe starts
/// every few seconds, so one thread would not do.
const THREADS: usize = 8;

/// Open descriptors that do nothing but wait to be closed.
#[derive(Debug)]
pub(super) struct Reserve(Mutex<Vec<File>>);

/// The descriptors are free for the probe as long as this value lives.
pub(super) struct Released<'a>(&'a Reserve);

impl Reserve {
    pub(super) fn new() -> Self {
        let reserve = Self(Mutex::new(Vec::with_capacity(DESCRIPTORS)));
        reserve.refill();
        reserve
    }

    /// Closes the descriptors until the returned value is dropped.
    pub(super) fn release(&self) -> Released<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Released(self)
    }

    /// What cannot be opened now is tried again after the next probe.
    fn refill(&self) {
        let path = if cfg!(windows) { "NUL" } else { "/dev/null" };
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while files.len() < DESCRIPTORS {
            let Ok(file) = File::open(path) else { break };
            files.push(file);
        }
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.refill();
    }
}

/// No thread is free for a name look-up: a want of this machine, which says nothing about the name.
#[derive(Debug, thiserror::Error)]
#[error("no thread is free for the name look-up")]
pub(super) struct NoFreeThread;

/// Resolves on threads of its own, which are begun with it: the runtime's pool of blocking threads may be full of
/// other work, and a thread that is begun only when it is wanted may be refused just then.
#[derive(Debug)]
pub(super) struct OwnThreadResolver {
    jobs: mpsc::Sender<Job>,
    threads: usize,
    running: Arc<AtomicUsize>,
}

struct Job {
    name: Name,
    running: Running,
    answer: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

/// Counts a look-up for as long as it runs, panics included.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OwnThreadResolver {
    /// Begins the threads; they end with the resolver, each after its look-up.
    pub(super) fn start() -> io::Result<Self> {
        Self::with(THREADS, |name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    pub(super) fn with(
        threads: usize,
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let look_up = Arc::new(look_up);
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (queue, look_up) = (Arc::clone(&queue), Arc::clone(&look_up));
            std::thread::Builder::new()
                .name("probe-resolver".to_owned())
                .spawn(move || work(&queue, look_up.as_ref()))?;
        }
        Ok(Self { jobs, threads, running: Arc::default() })
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, look_up: &impl Fn(&str) -> io::Result<Vec<SocketAddr>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { name, running, answer }) = job else { return };
        let found = look_up(name.as_str());
        drop(running);
        // Nobody waits any more if the probe has timed out.
        let _ = answer.send(found);
    }
}

impl Resolve for OwnThreadResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let before = self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.running));
        let (answer, found) = oneshot::channel();
        // No queue: what waits behind a look-up that hangs would time out as if the session server were silent.
        let begun = before < self.threads && self.jobs.send(Job { name, running, answer }).is_ok();
        Box::pin(async move {
            if !begun {
                return Err(NoFreeThread.into());
            }
            let found = found.await.map_err(|_| NoFreeThread)??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_free_while_released() {
        let reserve = Reserve::new();
        assert_eq!(reserve.held(), DESCRIPTORS);
        let released = reserve.release();
        assert_eq!(reserve.held(), 0);
        drop(released);
        assert_eq!(reserve.held(), DESCRIPTORS);
    }

    #[tokio::test]
    async fn resolves_and_bounds_what_hangs() {
        let resolver = OwnThreadResolver::start().unwrap();
        let mut found = resolver.resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.all(|a| a.ip().is_loopback()));

        // Two threads that hang until they are told to go on.
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let hang = move |_: &str| {
            let _ = wait.lock().unwrap().recv();
            Ok(vec![([127, 0, 0, 1], 0).into()])
        };
        let resolver = OwnThreadResolver::with(2, hang).unwrap();
        let resolve = || resolver.resolve("localhost".parse().unwrap());
        let (first, second) = (resolve(), resolve());
        let refused = resolve().await.err().unwrap();
        assert!(refused.is::<NoFreeThread>(), "{refused}");
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(first.await.is_ok() && second.await.is_ok());
        assert_eq!(resolver.running.load(Ordering::Relaxed), 0, "a refused look-up is not counted");
        go.send(()).unwrap();
        assert!(resolve().await.is_ok(), "a thread that is free again serves again");
    }
}
