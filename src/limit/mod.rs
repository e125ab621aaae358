//! Limits: how many connections and logins at once and from one address, and who failed too often.
//!
//! Every table here is bounded, whatever strangers bring: see `attempts`, [`bans`], `codes`, [`rate`] and [`gate`].

use std::time::Duration;

mod attempts;
pub mod bans;
mod codes;
mod file;
pub mod gate;
mod metrics;
pub mod rate;
mod table;
mod target;

pub use bans::{Ban, BanEvent, Bans, Charge, Failure, Hits, Target};
pub use codes::{ChargedCode, WrongCodes};

/// How much is taken from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who is banned, and when.
    pub bans: bans::Config,
    /// Most connections at once.
    pub max_connections: u32,
    /// Most of them from one client address.
    pub max_connections_per_address: u32,
    /// Most logins under way.
    pub max_pending_logins: u32,
    /// Time between logins from one client address; zero is no limit.
    pub login_interval: Duration,
}
