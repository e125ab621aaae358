//! Has-joined calls, every answer put into an outcome class.

use std::time::Duration;

use reqwest::Url;

/// How the session server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Base URL without a trailing slash; `/session/minecraft/hasJoined` is appended.
    pub base_url: Url,
    /// Longest wait for one has-joined call or probe.
    pub timeout: Duration,
    /// Whether the client address is sent along, so that Mojang compares it with the one that joined.
    pub prevent_client_proxy_connections: bool,
    /// Has-joined calls a minute for players the store does not know; burst as many; 0 is no limit.
    pub unknown_logins_per_minute: u32,
}
