//! The pipe between an admitted player and the backend.
//!
//! ```text
//!             bytes               judged frames             bytes
//!  client ──────────> up   Pipe ──────────────────> backend
//!         <────────── down Pipe <──────────────────
//!                        │  both look at, and move,
//!                        └─ Course: the state of each direction
//! ```
//!
//! One task serves both directions: each reads into a buffer of its own, judges the frames in it by their first bytes
//! and writes on what may pass as it came. It reads again only when all of that is written, so that a slow reader
//! slows its writer down, and neither direction ever waits for the other.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    net::conn::{Io, Parts},
    relay::exchange::Exchange,
};

mod course;
mod ended;
mod exchange;
mod head;
mod link;
mod pipe;

pub use ended::{EndCause, Ended, Side};
pub use link::{Handle, Link, link};

/// How the pipe treats silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest silence of either side before the connection is closed. A side that takes nothing for as long, while
    /// there is something to give to it, is closed too.
    pub read_timeout: Duration,
}

/// Relays between client and backend until one of them ends it, or the [`Handle`] does. Both parts stand right
/// behind login success, and agree on compression. Closes both connections; may be cancelled, which closes them too.
///
/// Memory: 16 KiB for each direction, whatever the peers send, and some 43 KiB for the inflater of a direction in which
/// a compressed frame had to be looked into (mostly none: what clients send is short). Nothing is allocated per frame.
///
/// A backend that sets compression in the play state, which 1.8 alone has a packet for, ends the connection: no known
/// server does, and one could not tell how the frames under way are meant.
pub async fn run<C: Io, B: Io>(client: Parts<C>, backend: Parts<B>, link: Link, config: &Config) -> Ended {
    let start = Instant::now();
    let mut exchange = Exchange::new(client, backend, link, config.read_timeout);
    let cause = exchange.run().await;
    let (to_server, to_client) = exchange.written();
    Ended { cause, to_server, to_client, duration: start.elapsed() }
}
