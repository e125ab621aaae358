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
//! Nearly all frames pass as they came. A few do not: a PIN command goes to whoever holds the [`Handle`], the tree of
//! commands gets ours, a held player's words are left out, and where both sides disagree on compression a frame is
//! framed anew. Such a frame is taken out whole, and what stands in for it is put in at its place, in order.
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
mod gates;
mod head;
mod link;
mod metrics;
mod pipe;
mod special;
mod taken;
mod workers;
mod workshop;

pub use ended::{EndCause, Ended, Side};
pub use link::{Handle, Heard, Link, link};
pub use workers::{Threads, Workers, start};
pub use workshop::Workshop;

/// How the pipe treats silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest silence of either side before the connection is closed. A side that takes nothing for as long, while
    /// there is something to give to it, is closed too.
    pub read_timeout: Duration,
}

/// Where a relay takes a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Login success was the last packet that the client got. In releases with configuration it has not acknowledged it.
    BehindLoginSuccess,
    /// Client and backend are both in configuration, login acknowledged.
    InConfiguration,
}

/// What is special about one relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where it is taken up.
    pub begin: Begin,
    /// Whether PIN commands are taken out of what the player says, and added to the commands that the client knows.
    pub pins: bool,
    /// Whether it is quarantined until [released](Handle::release): next to nothing of what the client does reaches the
    /// backend, and nothing that others say reaches the client. PIN commands are then taken whatever `pins` says.
    pub held: bool,
}

/// A connection to be relayed between client and backend, both in the same state.
///
/// Frames pass as they came wherever both sides' compression thresholds allow it; the others are framed anew.
///
/// Memory: some 900 bytes. Buffers (16 KiB a direction) and inflaters (47 KiB) are borrowed from the workshop, and only
/// while bytes are under way or a compressed frame's beginning is awaited. Nothing is allocated for frames that pass; one
/// that is taken out takes memory as it comes, at most 8 KiB for what a client says, else what the longest frame has.
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
        terms: Terms,
    ) -> Self {
        let exchange = Exchange::new(client, backend, link, workshop, config.read_timeout, terms);
        Self { exchange, start: Instant::now() }
    }

    /// Relays until one of the two ends it, or the [`Handle`] does. Both connections are closed when the relay is
    /// dropped.
    ///
    /// A backend that sets compression in the play state, which 1.8 alone has a packet for, ends the connection: no
    /// known server does, and one could not tell how the frames under way are meant.
    pub async fn run(&mut self) -> Ended {
        let cause = self.exchange.run().await;
        self.exchange.tally().ended(&cause);
        let (to_server, to_client) = self.exchange.written();
        Ended { cause, to_server, to_client, duration: self.start.elapsed() }
    }
}
