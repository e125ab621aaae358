//! Alerts for programs and chat rooms elsewhere, sent by HTTP.
//!
//! ```text
//! Alerts ──offer──> Webhooks ──(a bounded inbox each, never waits)──> Messenger ─┬─> Story ─┬──> body ──> HTTP
//!                                                                               └─> Batch ─┘
//! ```
//!
//! Each hook has a task, an inbox, and what waits to be sent of its own: one whose receiver hangs or fails costs the
//! others nothing, and logins never wait for any of them.
//!
//! # An outage is two messages
//!
//! To a hook that wants `auth.state`, an outage is its start, told at once, and its end with what came of it: how long,
//! how many were let in, how many refused and why. The players whom policy lets in meanwhile are part of that digest and
//! no messages of their own. The end is told once the verdict has not been Down for a minute, so that a session server
//! that answers now and then makes one outage. One that is going on when the proxy starts was told by the run before.
//!
//! Everything else comes in batches: collected for a few seconds, at most one message every half minute.

mod batch;
mod discord;
mod hub;
mod json;
mod message;
mod messenger;
mod metrics;
mod post;
mod story;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

pub use hub::{Figures, Prepared, Webhooks};
pub use post::BuildError;
pub use story::{Logins, Tally};

/// Where messages go, in which form, and about what.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The address. A secret: whoever has it can write there.
    pub url: SecretString,
    /// The form of the messages.
    pub format: Format,
    /// What they are about.
    pub topics: Vec<Topic>,
}

impl PartialEq for Hook {
    fn eq(&self, other: &Self) -> bool {
        let Self { url, format, topics } = self;
        let same = url.expose_secret().as_bytes().ct_eq(other.url.expose_secret().as_bytes());
        bool::from(same) && *format == other.format && *topics == other.topics
    }
}

impl Eq for Hook {}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// What Discord takes: embeds.
    Discord,
}

impl Format {
    /// The word of the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Discord => "discord",
        }
    }
}

/// What a message is about: the name of an event, as audit.log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The session server went down, or answers again.
    AuthState,
    /// A player came in by policy.
    LoginFallback,
    /// A player came from elsewhere than before.
    GeoChanged,
    /// Somebody was banned.
    BanAdded,
}

impl Topic {
    /// Every one.
    pub const ALL: &[Self] = &[Self::AuthState, Self::LoginFallback, Self::GeoChanged, Self::BanAdded];

    /// The name of the event.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AuthState => "auth.state",
            Self::LoginFallback => "login.fallback",
            Self::GeoChanged => "geo.changed",
            Self::BanAdded => "ban.added",
        }
    }

    /// What an alert is about.
    pub(super) const fn of(alert: &super::Alert) -> Self {
        match alert {
            super::Alert::AuthState(_) => Self::AuthState,
            super::Alert::Fallback(_) => Self::LoginFallback,
            super::Alert::GeoChanged(_) => Self::GeoChanged,
            super::Alert::BanAdded(_) => Self::BanAdded,
        }
    }
}
