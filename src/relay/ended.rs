//! How a relayed connection ended.

use std::{fmt, io, time::Duration};

use crate::protocol::reader::Malformed;

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The player's client.
    Client,
    /// The backend.
    Backend,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Backend => "backend",
        })
    }
}

/// Why a relayed connection ended: what happened first.
#[derive(Debug)]
pub enum EndCause {
    /// The client closed.
    ClientClosed,
    /// The backend closed.
    BackendClosed,
    /// The client sent nothing, or took nothing, for too long.
    ClientTimeout,
    /// The backend sent nothing, or took nothing, for too long.
    BackendTimeout,
    /// It was asked for through the handle.
    Kicked,
    /// The operating system reports an error.
    Broken {
        /// Whose connection broke.
        side: Side,
        /// What it says.
        error: io::Error,
    },
    /// A peer broke the protocol.
    Malformed {
        /// Who.
        side: Side,
        /// How.
        error: Malformed,
    },
}

impl EndCause {
    /// Every label.
    pub const LABELS: [&'static str; 9] = [
        "client-closed",
        "backend-closed",
        "client-timeout",
        "backend-timeout",
        "kicked",
        "client-broken",
        "backend-broken",
        "client-malformed",
        "backend-malformed",
    ];

    /// A stable label, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed => "client-closed",
            Self::BackendClosed => "backend-closed",
            Self::ClientTimeout => "client-timeout",
            Self::BackendTimeout => "backend-timeout",
            Self::Kicked => "kicked",
            Self::Broken { side: Side::Client, .. } => "client-broken",
            Self::Broken { side: Side::Backend, .. } => "backend-broken",
            Self::Malformed { side: Side::Client, .. } => "client-malformed",
            Self::Malformed { side: Side::Backend, .. } => "backend-malformed",
        }
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientClosed => f.write_str("the client closed the connection"),
            Self::BackendClosed => f.write_str("the backend closed the connection"),
            Self::ClientTimeout => f.write_str("the client went silent"),
            Self::BackendTimeout => f.write_str("the backend went silent"),
            Self::Kicked => f.write_str("the proxy closed the connection"),
            Self::Broken { side, error } => write!(f, "the connection to the {side} broke: {error}"),
            Self::Malformed { side, error } => write!(f, "the {side} broke the protocol: {error}"),
        }
    }
}

/// The end of a relayed connection, for log and metrics.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub cause: EndCause,
    /// Bytes written to the backend.
    pub to_server: u64,
    /// Bytes written to the client.
    pub to_client: u64,
    /// Time since the relay began.
    pub duration: Duration,
}
