//! Listening, the PROXY header, and framed connections.

use std::net::SocketAddr;

use ipnet::IpNet;

pub mod activity;
pub mod configuring;
pub mod conn;
pub mod deadline;
pub mod listener;
pub mod proxy_header;

/// Where and how connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; port 0 picks one.
    pub bind: Vec<SocketAddr>,
    /// Whether peers in `trusted_proxies` must send a PROXY header.
    pub accept_proxy_protocol: bool,
    /// Peers whose PROXY header is believed.
    pub trusted_proxies: Vec<IpNet>,
}
