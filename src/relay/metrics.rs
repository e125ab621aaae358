//! What is counted of relayed connections.
//!
//! Each thread counts for itself: a turn of a connection costs one addition to a number that no other thread writes, and
//! nobody waits for anybody. Whoever reads the figures adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{EndCause, Workers};
use crate::metric::{Error, Readings, Registry, alone, length, number};

/// What one thread has counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Bytes written to backends.
    to_server: AtomicU64,
    /// Bytes written to clients.
    to_client: AtomicU64,
    /// Ends, in the order of [`EndCause::LABELS`].
    ended: [AtomicU64; EndCause::LABELS.len()],
}

impl Default for Tally {
    /// Nothing yet.
    fn default() -> Self {
        Self {
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Tally {
    /// Bytes were written to a backend, or none.
    pub(super) fn to_server(&self, bytes: u64) {
        if bytes > 0 {
            self.to_server.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes were written to a client, or none.
    pub(super) fn to_client(&self, bytes: u64) {
        if bytes > 0 {
            self.to_client.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A connection ended.
    pub(super) fn ended(&self, cause: &EndCause) {
        let place = EndCause::LABELS.iter().position(|label| *label == cause.label());
        if let Some(count) = place.and_then(|place| self.ended.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Workers {
    /// Has what is known of relayed connections read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let workers = self.clone();
        Readings::total(
            "postern_relayed_bytes_total",
            "Bytes passed on between players and backends, frames of Postern's own among them, by whom they went to.",
            ["to"],
            move || {
                let sum = |of: fn(&Tally) -> &AtomicU64| {
                    workers.tallies().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
                };
                let (server, client) = (sum(|tally| &tally.to_server), sum(|tally| &tally.to_client));
                vec![(["server"], number(server)), (["client"], number(client))]
            },
        )
        .register(registry)?;
        let workers = self.clone();
        Readings::total(
            "postern_relayed_connections_ended_total",
            "Connections between players and backends that ended, by what happened first.",
            ["cause"],
            move || {
                let ends = EndCause::LABELS.iter().enumerate().map(|(place, label)| {
                    let counts = workers.tallies().filter_map(|tally| tally.ended.get(place));
                    ([*label], number(counts.map(|count| count.load(Ordering::Relaxed)).sum()))
                });
                ends.collect()
            },
        )
        .register(registry)?;
        let workers = self.clone();
        Readings::gauge(
            "postern_relayed_connections",
            "Connections between players and backends, those of players held at their backend among them.",
            [],
            move || alone(length(workers.load())),
        )
        .register(registry)
    }
}
