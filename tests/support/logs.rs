//! What the program logs, down to the finest level, kept for a test to look at.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Dispatch,
    level_filters::LevelFilter,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::fmt::MakeWriter;

/// As long as this lives, logs are kept.
pub struct Kept {
    _guard: DefaultGuard,
    _second: Dispatch,
}

#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Keeps the logs of this thread, and so of a whole single-threaded runtime, until the guard is dropped.
    pub fn keep() -> (Self, Kept) {
        let logs = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(logs.clone())
            .finish();
        // With one subscriber alone, whether a line is of interest is decided by the thread that comes by it first,
        // which may be another test's.
        let second = Dispatch::new(NoSubscriber::new());
        (logs, Kept { _guard: tracing::subscriber::set_default(subscriber), _second: second })
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
