//! Signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Asked;

/// SIGINT and SIGTERM end the program, SIGHUP has it reload.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
}

impl Signals {
    /// Those that come from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// The next thing asked of the program.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Asked::Stop,
            Some(()) = self.terminate.recv() => Asked::Stop,
            Some(()) = self.reload.recv() => Asked::Reload,
            else => std::future::pending().await,
        }
    }
}
