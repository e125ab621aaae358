//! What staff is told of while it happens: offered where audit.log is told, and taken by whoever passes it on.
//!
//! ```text
//! journal ──offer──> Alerts ─┬─(bounded, never waits)──> Inbox ──> Pace ──> lines in the game
//!                            └─> Webhooks ──(the same)──> messages over HTTP
//! ```

mod event;
mod pace;
mod queue;
pub mod webhook;

pub use event::{
    Alert, AuthState, BanAdded, Fallback, GeoChanged, Ground, Lasting, Outage, Subject, Whereabouts,
};
pub use pace::{Pace, Sum};
pub use queue::{Alerts, Inbox, News, Prepared, queue};

/// Who is alerted of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ids or names of those who get lines in the game.
    pub staff: Vec<String>,
    /// Whether they hear of every player whom policy admits.
    pub on_fallback: bool,
    /// Who is told of what over HTTP.
    pub webhooks: Vec<webhook::Hook>,
}
