//! Stand-ins for everything around the proxy: a session server, a backend, players. They speak the protocol by code of
//! their own, so that a mistake in the proxy is not mirrored here.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::indexing_slicing, clippy::type_complexity, reason = "a test may panic")]

pub mod backend;
pub mod client;
pub mod dialog;
pub mod logs;
pub mod mmdb;
pub mod player_keys;
pub mod proxy;
pub mod scene;
pub mod session_server;
pub mod tls;
pub mod wire;
pub mod world;

pub use backend::{Backend, BackendKind};
pub use client::{Client, End, Player};
pub use proxy::Setup;
pub use session_server::{Mode, SessionServer};
