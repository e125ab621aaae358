//! Named, watched tasks and the signal that ends them.

use std::future::Future;

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

/// The receiving end of the stop signal. Clones see the same signal.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The sending end of the stop signal.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl Shutdown {
    /// A fresh signal.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (tx, rx) = watch::channel(false);
        (ShutdownTrigger(tx), Self(rx))
    }

    /// Returns once the program is to stop (at once if it already is), or the trigger is gone.
    pub async fn requested(&self) {
        let mut rx = self.0.clone();
        // An error means that the trigger was dropped: nobody is left to run for.
        let _ = rx.wait_for(|stop| *stop).await;
    }

    /// Whether the program is stopping.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

impl ShutdownTrigger {
    /// Tells every clone of the signal to stop.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

/// Starts a task that lives as long as the program. A panic in it is logged with its name; the handle's owner
/// still sees the panic when it joins.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = tokio::spawn(future).await
            && error.is_panic()
        {
            tracing::error!(task = name, "a task panicked; this is a bug in Postern, please report it");
            std::panic::resume_unwind(error.into_panic());
        }
    })
}

/// A panic ends one connection, and is logged.
pub fn note_panic(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        tracing::error!("a connection's task panicked; this is a bug in Postern, please report it");
    }
}
