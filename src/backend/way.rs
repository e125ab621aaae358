//! The search for a backend that takes a player.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, select, time::Instant};

use super::{
    Backend,
    connect::{Attempt, Miss, Unreached},
    diagnose::Fault,
    enter::{EnterError, Player},
    guest::{Heard, hear},
    metrics::Metrics,
    route::{Search, Try},
};
use crate::{
    net::{
        configuring::Configuring,
        conn::{Conn, ConnError, Io},
        deadline::Deadline,
    },
    protocol::reader::Malformed,
};

/// Kept back from the login's deadline for telling the player why.
pub(super) const LAST_WORD: Duration = Duration::from_millis(500);

/// The part of the time left that may be spent on connecting, as a fraction; the rest is for the login at the backend
/// that is reached last.
const SEARCH: (u32, u32) = (7, 8);

/// A backend that took the connection.
pub(super) struct Reached<'r> {
    pub(super) conn: Conn<TcpStream>,
    /// Where it was found.
    pub(super) address: Option<SocketAddr>,
    pub(super) attempt: Try<'r>,
}

/// The way along a player's route.
pub(super) struct Way<'r> {
    search: Search<'r>,
    /// The first backend that is down, if any is.
    first: Option<Arc<Backend>>,
    /// What was tried in vain.
    down: Vec<Attempt>,
    /// Whether there was too little time left for a backend to show whether it is there.
    cut_short: bool,
    metrics: &'r Metrics,
}

impl<'r> Way<'r> {
    pub(super) fn new(search: Search<'r>, metrics: &'r Metrics) -> Self {
        Self { search, first: None, down: Vec::new(), cut_short: false, metrics }
    }

    /// Whether there is another candidate.
    pub(super) fn goes_on(&self) -> bool {
        self.search.len() > 0
    }

    /// Connects to the next candidate that can be reached, as long as the client stays. However many hang, each gets
    /// its share of the time, and the last one still has some for the login itself.
    pub(super) async fn reach<C: Io>(
        &mut self,
        client: &mut Conn<C>,
        begun: Option<&mut Configuring>,
        player: &Player<'_>,
        deadline: &Deadline,
    ) -> Result<Reached<'r>, EnterError> {
        let end = Instant::now() + deadline.left().saturating_sub(LAST_WORD) / SEARCH.1 * SEARCH.0;
        let address = Some(player.admitted.address());
        let searching = async {
            while let Some(mut attempt) = self.search.next() {
                let left = u32::try_from(self.search.len()).unwrap_or(u32::MAX - 1);
                let share = end.saturating_duration_since(Instant::now()) / (left + 1);
                let begun = Instant::now();
                let found = attempt.connect(address, share).await;
                self.metrics.connected(found.is_ok(), begun.elapsed());
                match found {
                    Ok(found) => return Some((found.stream, attempt)),
                    Err(Unreached { miss: Miss::TimedOut, .. }) => self.cut_short = true,
                    Err(Unreached { attempts, .. }) => self.note(attempt.backend(), attempts),
                }
            }
            None
        };
        let (found, out_of_time) = select! {
            found = searching => (found, false),
            // Nobody has asked the client anything yet.
            heard = hear(client, begun) => return Err(EnterError::Client(unasked(heard))),
            () = deadline.passed() => (None, true),
        };
        let Some((stream, attempt)) = found else { return Err(self.end(out_of_time)) };
        let address = stream.peer_addr().ok();
        Ok(Reached { conn: Conn::new(stream), address, attempt })
    }

    /// A backend is not there, as these tries have shown.
    pub(super) fn note(&mut self, backend: &Arc<Backend>, attempts: impl IntoIterator<Item = Attempt>) {
        self.first.get_or_insert_with(|| Arc::clone(backend));
        self.down.extend(attempts);
    }

    /// What was tried in vain.
    pub(super) fn into_down(self) -> Vec<Attempt> {
        self.down
    }

    /// What it comes to that no backend took the player. Only those are named that had their time.
    pub(super) fn end(&mut self, out_of_time: bool) -> EnterError {
        match self.first.take() {
            Some(backend) => {
                let attempts = std::mem::take(&mut self.down);
                // The fault names them all.
                EnterError::Backend {
                    backend,
                    fault: Fault::Unreachable { attempts },
                    passed_over: Vec::new(),
                }
            }
            None if out_of_time || self.cut_short => EnterError::DeadlinePassed,
            None => EnterError::NoBackend,
        }
    }
}

/// What it means that the client sends when it was asked nothing.
fn unasked(heard: Result<Heard, ConnError>) -> ConnError {
    match heard {
        Err(error) => error,
        Ok(Heard::Cookie { .. }) => Malformed::BadValue.into(),
        Ok(Heard::Packet(packet)) => {
            Malformed::UnexpectedPacket(packet.first().copied().map_or(-1, i32::from)).into()
        }
    }
}
