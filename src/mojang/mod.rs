//! The session server and whether it answers.
//!
//! [`session_server`] asks, [`classify`] puts every answer into an outcome class, [`health`] makes the verdict out of
//! probes and logins, and [`verify`] is the whole of what a login does: ask, retry, and have an outage confirmed.

pub mod bucket;
pub mod classify;
pub mod health;
pub mod player_keys;
pub mod session_server;
pub mod verify;

mod machine;
pub mod metrics;
mod monitor;
mod names;
mod outage_file;
mod reserve;
