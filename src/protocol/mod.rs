//! Bytes to values and back: no clock, no sockets.

pub mod cipher;
pub mod frame;
pub mod handshake;
pub mod ids;
pub mod legacy_ping;
pub mod login;
pub mod play;
pub mod reader;
pub mod status;
pub mod text;
pub mod version;
pub mod writer;
