//! The admin interface.

use std::{net::SocketAddr, path::PathBuf};

/// Where the admin interface listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its address; `None` is off.
    pub listen: Option<SocketAddr>,
    /// Whether the owner chose that address. If not, the proxy runs without it where it is taken.
    pub listen_is_stated: bool,
    /// The file of the token that its callers need.
    pub token_file: PathBuf,
    /// Further `Host` headers to accept.
    pub allowed_hosts: Vec<String>,
}
