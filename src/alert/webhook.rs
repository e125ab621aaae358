//! Alerts for programs and chat rooms elsewhere, sent by HTTP.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

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
}
