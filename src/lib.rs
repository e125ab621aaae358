//! Postern: a login proxy for Minecraft: Java Edition that stays open, to known players only, while the session
//! servers are down.
//!
//! # Layout
//!
//! Each line may use the lines above it; rooms of one line do not use each other, save `policy`, which may name the
//! facts of `session` and `mojang`. A test keeps it so.
//!
//! | rooms | what for |
//! | --- | --- |
//! | [`address`], [`clock`], [`disk`], [`foreign`], [`identity`], [`local`], [`messages`], [`metric`], [`place`], [`secret`], [`task`] | client addresses, time given, small files, foreign text made harmless, who a player is, errors of this machine, texts, families of figures, country and network, secrets in files, watched tasks |
//! | [`reason`], [`protocol`] | reason codes, bytes to values and back |
//! | [`net`], [`mojang`], [`session`], [`policy`], [`geo`], [`audit`], [`limit`], [`statistics`], [`alert`] | sockets and framing, the session server and its health, remembered logins, the verdict on an outage login, where addresses are, audit.log, who may connect how often and who failed too often, totals, what staff is told |
//! | [`pin`] | PIN codes: kept, tried, counted |
//! | [`login`], [`backend`], [`relay`], [`status`], [`readiness`], [`admin`] | the login from handshake to admission, the way into a backend, the pipe, the server list, who could join in an outage now, the admin interface |
//! | [`config`], [`cli`] | the YAML file, resolved into each room's own `Config`; the command line |
//! | [`app`], [`doctor`], [`commands`] | the rooms that know all others: the first wires handles and tasks, and the order of stopping; the second examines an installation; the third looks into a store, or asks the proxy that holds it |

pub mod address;
pub mod admin;
pub mod alert;
pub mod app;
pub mod audit;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod foreign;
pub mod geo;
pub mod identity;
pub mod limit;
pub mod local;
pub mod login;
pub mod messages;
pub mod metric;
pub mod mojang;
pub mod net;
pub mod pin;
pub mod place;
pub mod policy;
pub mod protocol;
pub mod readiness;
pub mod reason;
pub mod relay;
pub mod secret;
pub mod session;
pub mod statistics;
pub mod status;
pub mod task;
