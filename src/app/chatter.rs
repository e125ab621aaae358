//! Lines that strangers can cause: enough to see what is going on, and not as many as they like.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time over which lines of one kind are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Lines of one kind within [`WINDOW`] in the log.
const LOGGED: u32 = 50;

/// Counts lines by kind. There are as many kinds as the program's source names.
#[derive(Debug)]
pub(super) struct Chatter {
    /// Lines of one kind within [`WINDOW`].
    lines: u32,
    windows: Mutex<HashMap<&'static str, Window>>,
}

/// For the log.
impl Default for Chatter {
    fn default() -> Self {
        Self::new(LOGGED)
    }
}

#[derive(Debug)]
struct Window {
    opened: Instant,
    written: u32,
    left_out: u64,
}

/// A line may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct May {
    /// Lines of its kind that were not, since the last one that was; `None` is none, and leaves no trace in the line.
    pub(super) left_out: Option<u64>,
}

impl Chatter {
    /// So many lines of one kind in 10 s.
    pub(super) fn new(lines: u32) -> Self {
        Self { lines, windows: Mutex::default() }
    }

    /// Whether a line of that kind may be written now.
    pub(super) fn may(&self, kind: &'static str) -> Option<May> {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind).or_insert(Window { opened: now, written: 0, left_out: 0 });
        if now.duration_since(window.opened) >= WINDOW {
            window.opened = now;
            window.written = 0;
        }
        if window.written >= self.lines {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(May { left_out: Some(std::mem::take(&mut window.left_out)).filter(|left_out| *left_out > 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_writes_some_lines_and_says_how_many_it_did_not() {
        let chatter = Chatter::default();
        let lines = |kind, tries: u32| (0..tries).filter_map(|_| chatter.may(kind)).collect::<Vec<_>>();
        let plain = May { left_out: None };
        assert_eq!(lines("rate-limited", 1000), vec![plain; 50]);
        assert_eq!(lines("not-joined", 2), [plain; 2], "kinds are counted apart");
        tokio::time::advance(Duration::from_millis(9999)).await;
        assert_eq!(lines("rate-limited", 10), []);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(lines("rate-limited", 2), [May { left_out: Some(960) }, plain]);
    }
}
