//! What staff is told of while it happens.

/// Who is alerted of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ids or names of those who get lines in the game.
    pub staff: Vec<String>,
    /// Whether they hear of every player whom policy admits.
    pub on_fallback: bool,
}
