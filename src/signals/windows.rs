//! Events of a console and of the system.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use super::Asked;

/// Ctrl+C, Ctrl+Break, the console's closing and the system's end all end the program; the system waits some seconds
/// for the last two. Nothing here means a reload: that is what the admin interface is for.
pub(crate) struct Signals {
    interrupt: CtrlC,
    break_off: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Signals {
    /// Those that come from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            break_off: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// The next thing asked of the program.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Asked::Stop,
            Some(()) = self.break_off.recv() => Asked::Stop,
            Some(()) = self.close.recv() => Asked::Stop,
            Some(()) = self.shutdown.recv() => Asked::Stop,
            else => std::future::pending().await,
        }
    }
}
