//! The session server and whether it answers.

pub mod health;
pub mod session_server;
