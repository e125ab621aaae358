//! The lines as they are written, for whoever looks on: the newest, and those to come.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

/// Newest lines that are kept: what a page shows at first, some 100 kB.
const RECENT: usize = 200;

/// Lines that a slow listener may be behind; it is told how many more it missed. None are held for nobody.
const BEHIND: usize = 1024;

/// The lines as they are written.
#[derive(Debug)]
pub(super) struct Tap {
    recent: Mutex<VecDeque<Arc<str>>>,
    listeners: broadcast::Sender<Arc<str>>,
}

impl Default for Tap {
    fn default() -> Self {
        Self { recent: Mutex::default(), listeners: broadcast::Sender::new(BEHIND) }
    }
}

impl Tap {
    /// Shows whole lines to whoever looks on. Waits for nobody.
    pub(super) fn show(&self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Lines are JSON, so this never replaces anything.
            let line: Arc<str> = String::from_utf8_lossy(line).into();
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() >= RECENT {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(&line));
            // Under the lock, so that whoever subscribes under it misses no line and sees none twice. That nobody
            // listens is no error.
            let _ = self.listeners.send(line);
        }
    }

    /// The newest lines, oldest first, without line feeds.
    pub(super) fn recent(&self) -> Vec<Arc<str>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The lines from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.listeners.subscribe()
    }

    /// The newest lines, and those that come after them: none twice, none left out.
    pub(super) fn join(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.listeners.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn the_newest_lines_and_those_to_come() {
        let tap = Tap::default();
        (0..RECENT + 5).for_each(|n| tap.show(format!("{n}\n").as_bytes()));
        let (recent, mut coming) = tap.join();
        assert_eq!(recent.len(), RECENT);
        assert_eq!((&*recent[0], &**recent.last().unwrap()), ("5", "204"));
        tap.show(b"a\nb\n");
        assert_eq!([coming.try_recv().unwrap(), coming.try_recv().unwrap()], ["a".into(), "b".into()]);
        assert_eq!(coming.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(tap.recent().last(), Some(&"b".into()));
    }

    #[test]
    fn who_is_slow_misses_lines_and_holds_up_nobody() {
        let tap = Tap::default();
        let mut slow = tap.subscribe();
        (0..BEHIND + 10).for_each(|n| tap.show(format!("{n}\n").as_bytes()));
        assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(10)));
        assert_eq!(slow.try_recv().unwrap(), "10".into());
    }

    #[test]
    fn lines_are_held_for_nobody() {
        let tap = Tap::default();
        drop(tap.subscribe());
        tap.show(b"first\n");
        let first = Arc::downgrade(&tap.recent()[0]);
        (0..RECENT).for_each(|n| tap.show(format!("{n}\n").as_bytes()));
        assert!(first.upgrade().is_none());
    }
}
