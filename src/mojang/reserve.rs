//! What a probe keeps for itself, so that a flood of connections cannot starve it and so look like an outage:
//! file descriptors, and a thread for its name look-up.

use std::{
    fs::File,
    io,
    net::ToSocketAddrs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

/// The socket of the probe, and the few descriptors that a look-up opens one after another.
const DESCRIPTORS: usize = 4;

/// Look-ups that may hang in the operating system at once. One hangs for up to about 30 s where no name server
/// answers, and a probe starts every few seconds.
const LOOK_UPS: usize = 16;

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

/// Resolves on a thread of its own: the runtime's pool of blocking threads may be full of other work.
#[derive(Debug, Default)]
pub(super) struct OwnThreadResolver {
    running: Arc<AtomicUsize>,
}

/// Counts a look-up for as long as it runs, panics included.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Resolve for OwnThreadResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let before = self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.running));
        Box::pin(async move {
            if before >= LOOK_UPS {
                return Err("name look-ups hang".into());
            }
            let (tx, rx) = oneshot::channel();
            std::thread::Builder::new().name("probe-resolver".to_owned()).spawn(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(running);
                // Nobody waits any more if the probe has timed out.
                let _ = tx.send(found);
            })?;
            let found = rx.await.map_err(|_| io::Error::other("the look-up ended without an answer"))??;
            Ok(Box::new(found) as Addrs)
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
        let resolver = OwnThreadResolver::default();
        let mut found = resolver.resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.all(|a| a.ip().is_loopback()));
        assert_eq!(resolver.running.load(Ordering::Relaxed), 0);

        resolver.running.store(LOOK_UPS, Ordering::Relaxed);
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_err());
        assert_eq!(resolver.running.load(Ordering::Relaxed), LOOK_UPS, "a refused look-up is not counted");
    }
}
