//! Prints the story line by line, and says where it went another way.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Prints a line without a time.
pub(crate) fn plain(text: &str) {
    println!("{text}");
}

/// Prints the title of a part.
pub(crate) fn title(text: &str) {
    println!("\n{text}");
}

/// Prints lines with the time since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    began: Instant,
}

impl Teller {
    /// The clock starts now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.began.elapsed()
    }

    /// Something that has happened; further lines of `text` are indented.
    pub(crate) fn tell(self, text: &str) {
        let time = format!("{:6.2} s", self.began.elapsed().as_secs_f64());
        for (n, line) in text.lines().enumerate() {
            println!("{:8}  {line}", if n == 0 { time.as_str() } else { "" });
        }
    }
}

/// Something went another way than told.
#[derive(Debug)]
pub(crate) struct Deviation {
    step: String,
    expected: String,
    happened: String,
}

impl Deviation {
    /// At `step`, not what was expected happened.
    pub(crate) fn new(step: &str, expected: &str, happened: impl Into<String>) -> Self {
        Self { step: step.to_owned(), expected: expected.to_owned(), happened: happened.into() }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, expected, happened } = self;
        write!(f, "This went wrong: {step}\n  expected: {expected}\n  happened: {happened}")
    }
}

/// Goes on only if what happened is what was expected.
pub(crate) fn check<T: PartialEq + fmt::Debug>(
    step: &str,
    expected: &T,
    happened: &T,
) -> Result<(), Deviation> {
    if expected == happened {
        Ok(())
    } else {
        Err(Deviation::new(step, &format!("{expected:?}"), format!("{happened:?}")))
    }
}

/// Goes on only if something held.
pub(crate) fn ensure(held: bool, step: &str, expected: &str, happened: &str) -> Result<(), Deviation> {
    if held { Ok(()) } else { Err(Deviation::new(step, expected, happened)) }
}
