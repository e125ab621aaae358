//! The way into a backend: routing, connecting, forwarding, diagnosis.

use std::time::Duration;

use secrecy::SecretSlice;

pub mod connect;
pub mod diagnose;
pub mod enter;
pub mod forwarding;
mod guest;
mod metrics;
pub mod ping;
pub mod probe;
mod questions;
pub mod route;
pub mod srv;
mod standing;
mod way;

pub use diagnose::Fault;
pub use enter::{EnterError, Entered, Player, enter};
pub use route::Router;
pub use srv::NameServers;

/// How a backend learns who the player is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingMode {
    /// Velocity modern forwarding, signed.
    Modern,
    /// BungeeCord host fields, unsigned.
    Legacy,
    /// BungeeCord host fields with a token.
    BungeeGuard,
    /// Not at all: the backend sees an offline-mode player.
    None,
}

/// How to find out where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// At its host and port.
    Host,
    /// Where the SRV records of its host say; at its host and port if there are none.
    Service(NameServers),
}

/// One backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name in the configuration.
    pub name: String,
    /// Host name or address, resolved anew for each connection.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How to find out where it is.
    pub lookup: Lookup,
    /// Forwarding towards it.
    pub forwarding: ForwardingMode,
    /// The forwarding secret, where the mode needs one.
    pub secret: Option<SecretSlice<u8>>,
    /// Whether it gets a PROXY v2 header.
    pub send_proxy_protocol: bool,
}

impl Backend {
    /// Where it is, as its owner knows it: `10.0.0.5:25566`, `[2001:db8::5]:25566`, or the name alone that its port is
    /// looked up by.
    pub fn address(&self) -> String {
        let Self { host, port, lookup, .. } = self;
        if let Lookup::Service(_) = lookup {
            return host.clone();
        }
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether nothing but the secret differs. Whether there is one counts: that follows from the mode.
    fn is_same_but_secret(&self, other: &Self) -> bool {
        let Self { name, host, port, lookup, forwarding, secret, send_proxy_protocol } = self;
        *name == other.name
            && *host == other.host
            && *port == other.port
            && *lookup == other.lookup
            && *forwarding == other.forwarding
            && secret.is_some() == other.secret.is_some()
            && *send_proxy_protocol == other.send_proxy_protocol
    }
}

/// Backends and the way to them.
#[derive(Clone, Debug)]
pub struct Config {
    /// All backends, in the order written.
    pub backends: Vec<Backend>,
    /// Order for hosts without a forced entry: indices into `backends`.
    pub try_order: Vec<usize>,
    /// Virtual host pattern in lower case (`survival.example.com` or `*.example.com`) and the indices to try.
    pub forced_hosts: Vec<(String, Vec<usize>)>,
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
}
