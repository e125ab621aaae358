//! Why a measurement cannot go on, said so that an owner can act on it.

use std::{error::Error, fmt::Display};

/// What went wrong, with all that was under way.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A result with words for people.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Adds what was under way.
pub(crate) trait During<T> {
    /// Puts `what` before the cause.
    fn during(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| format!("{what}: {error}").into())
    }
}

/// Goes on only if something holds.
pub(crate) fn ensure(holds: bool, otherwise: impl Display) -> Outcome<()> {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}
