//! What the system asks of the program: signals on Unix, the events of a console on Windows.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::Signals;
#[cfg(windows)]
pub(crate) use windows::Signals;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end.
    Stop,
    /// To open audit.log anew and to read the configuration again.
    #[cfg_attr(windows, allow(dead_code, reason = "nothing on Windows means it"))]
    Reload,
}

impl Signals {
    /// Returns when the program is asked to stop.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
