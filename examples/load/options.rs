//! What can be asked of the program.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    failure::{Outcome, ensure},
    wire::MIN_FRAME,
};

/// Measures what players cost the proxy, and beside it what they cost a plain TCP relay.
#[derive(Clone, Debug, Parser)]
#[command(name = "load", disable_help_subcommand = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Only these kinds of work
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WORK,...")]
    pub(crate) only: Vec<Kind>,
    /// How often everything is measured; medians are shown
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) rounds: usize,
    /// Megabytes (1e6 bytes) to pass in each throughput measurement, all connections together
    #[arg(long, default_value_t = 256, value_name = "MB")]
    pub(crate) megabytes: usize,
    /// Frame sizes of the throughput measurements, in bytes on the wire
    #[arg(long, value_delimiter = ',', default_value = "2048,128", value_name = "BYTES,...")]
    pub(crate) frame_sizes: Vec<usize>,
    /// Bytes that a sender hands to the system at once
    #[arg(long, default_value_t = 64 << 10, value_name = "BYTES")]
    pub(crate) write_size: usize,
    /// Busy connections per processor in the measurement of many of them
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) connections_per_core: usize,
    /// Have throughput measured on compressed streams (threshold 256), as behind most servers
    #[arg(long)]
    pub(crate) compression: bool,
    /// Echoes per second
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) echo_rate: u32,
    /// Seconds of echoes
    #[arg(long, default_value_t = 5, value_name = "S")]
    pub(crate) echo_seconds: u32,
    /// Players in the measurement of memory
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) players: usize,
    /// Seconds to leave everybody alone before memory is read
    #[arg(long, default_value_t = 3, value_name = "S")]
    pub(crate) settle: u64,
    /// Logins to measure
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) logins: usize,
    /// Status pings to measure
    #[arg(long, default_value_t = 5000, value_name = "N")]
    pub(crate) pings: usize,
    /// Logins and pings under way at a time
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) concurrency: usize,
    /// Longest time for one measurement, in seconds
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub(crate) limit: u64,
    /// The proxy's program [default: postern, in the folder above this program's]
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy_binary: Option<PathBuf>,
    /// Measure the proxy that runs at this address instead; what it must be pointed at is printed
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve, conflicts_with = "proxy_binary")]
    pub(crate) address: Option<SocketAddr>,
    /// With --address: that proxy's process, for its processor time and memory
    #[arg(long, requires = "address", value_name = "N")]
    pub(crate) pid: Option<u32>,
    /// With --address: this machine's address for that proxy, if it runs elsewhere
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) listen: IpAddr,
    /// With --address: port of the stand-in session server
    #[arg(long, default_value_t = 25580, value_name = "PORT")]
    pub(crate) session_port: u16,
    /// With --address: port of the stand-in backend
    #[arg(long, default_value_t = 25581, value_name = "PORT")]
    pub(crate) backend_port: u16,
    /// Forwarding secret between proxy and backend
    #[arg(long, default_value = SECRET, value_name = "TEXT")]
    pub(crate) secret: String,
    /// Print everything as JSON, each round by itself
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the program starts itself as.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the plain TCP relay in front of an address
    #[command(hide = true)]
    Relay {
        /// Where to connect to.
        backend: SocketAddr,
    },
}

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One player sends as fast as it can
    ToServer,
    /// The server sends as fast as it can, to one and to many
    ToClient,
    /// Round trips of small packets at a fixed rate
    Echo,
    /// The same while the server floods four other players
    EchoBusy,
    /// Memory of players who do nothing, and of players who left
    Idle,
    /// Logins of players whom the session server vouches for
    Logins,
    /// Server list pings
    Pings,
}

impl Options {
    /// Whether that kind of work is to be measured.
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Outcome<()> {
        for (name, value) in [
            ("--rounds", self.rounds),
            ("--megabytes", self.megabytes),
            ("--write-size", self.write_size),
            ("--connections-per-core", self.connections_per_core),
            ("--echo-rate", self.echo_rate as usize),
            ("--echo-seconds", self.echo_seconds as usize),
            ("--players", self.players),
            ("--logins", self.logins),
            ("--pings", self.pings),
            ("--concurrency", self.concurrency),
        ] {
            ensure(value > 0, format!("{name} must be at least 1"))?;
        }
        let sizes = self.frame_sizes.iter();
        let fits = sizes.clone().all(|size| (MIN_FRAME..=1 << 20).contains(size)) && sizes.len() > 0;
        ensure(fits, format!("--frame-sizes are {MIN_FRAME} to {} bytes", 1 << 20))
    }

    /// Longest time for one measurement.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.limit)
    }

    /// The compression threshold of throughput measurements, in bytes.
    pub(crate) fn threshold(&self) -> Option<usize> {
        self.compression.then_some(THRESHOLD)
    }
}

/// The first address of a host and port.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "no address".to_owned())
}

/// The forwarding secret unless another is given: it guards nothing but stand-ins.
pub(crate) const SECRET: &str = "a secret for measurements on loopback";

/// From how many bytes servers compress if nobody tells them otherwise.
pub(crate) const THRESHOLD: usize = 256;
