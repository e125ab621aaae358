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
//! One task serves both directions: each reads into a buffer it has borrowed, judges the frames in it by their first
//! bytes and writes on what may pass as it came. It reads again only when all of that is written, so that a slow reader
//! slows its writer down, and neither direction ever waits for the other.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    net::conn::{Io, Parts},
    relay::exchange::Exchange,
};

mod batch;
mod course;
mod ended;
mod exchange;
mod head;
mod link;
mod pipe;
mod workers;
mod workshop;

pub use ended::{EndCause, Ended, Side};
pub use link::{Handle, Link, link};
pub use workers::{Threads, Workers, start};
pub use workshop::Workshop;

/// How the pipe treats silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest silence of either side before the connection is closed. A side that takes nothing for as long, while
    /// there is something to give to it, is closed too.
    pub read_timeout: Duration,
}

/// A connection to be relayed between client and backend, both right behind login success and agreed on compression.
///
/// Memory: some 900 bytes. Buffers (16 KiB a direction) and inflaters (43 KiB) are borrowed from the workshop, and only
/// while bytes are under way or a compressed frame's beginning is awaited. Nothing is allocated per frame.
#[derive(Debug)]
pub struct Relay<C, B> {
    exchange: Exchange<C, B>,
    start: Instant,
}

impl<C: Io, B: Io> Relay<C, B> {
    /// Takes both connections up. Connections that share a workshop should be served by one thread.
    pub fn new(
        client: Parts<C>,
        backend: Parts<B>,
        link: Link,
        workshop: Arc<Workshop>,
        config: &Config,
    ) -> Self {
        let exchange = Exchange::new(client, backend, link, workshop, config.read_timeout);
        Self { exchange, start: Instant::now() }
    }

    /// Relays until one of the two ends it, or the [`Handle`] does. Both connections are closed when the relay is
    /// dropped.
    ///
    /// A backend that sets compression in the play state, which 1.8 alone has a packet for, ends the connection: no
    /// known server does, and one could not tell how the frames under way are meant.
    pub async fn run(&mut self) -> Ended {
        let cause = self.exchange.run().await;
        let (to_server, to_client) = self.exchange.written();
        Ended { cause, to_server, to_client, duration: self.start.elapsed() }
    }
}
