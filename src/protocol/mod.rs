//! Bytes to values and back: no clock, no sockets.

pub mod cipher;
pub mod command_tree;
pub mod configuration;
pub mod dialog;
pub mod frame;
pub mod handshake;
pub mod ids;
pub mod legacy_ping;
pub mod login;
pub mod nbt;
pub mod pin_command;
pub mod play;
pub mod player_chat;
pub mod quarantine;
pub mod reader;
pub mod status;
pub mod text;
pub mod version;
pub mod writer;
