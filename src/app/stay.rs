//! A player's stay: from login success to the end of the connection, on one of the threads that relay.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::sleep};
use tracing::error;
use uuid::Uuid;

use super::{
    connection::{ConnCx, ConnId, text},
    journal,
};
use crate::{
    backend::Entered,
    identity::Username,
    limit::gate::Held,
    login::{
        Admission,
        roster::{Line, Place},
    },
    messages::Messages,
    net::conn::{Conn, Parts},
    policy::Proof,
    protocol::version::Dialect,
    reason::Reason,
    relay::{self, Relay, Workshop},
    session::Store,
};

/// How often the presence of a verified player is noted, so that a crash does not expire a long-online friend.
const PRESENCE_EVERY: Duration = Duration::from_mins(15);

/// What every stay shares. Apart from what connections share: those know the threads, which would then keep themselves
/// alive.
#[derive(Debug)]
pub(super) struct StayCx {
    pub(super) relay: relay::Config,
    pub(super) messages: Arc<Messages>,
    pub(super) store: Store,
}

/// A player who is in. All that outlives the login: what the login alone needed is gone by then.
struct Guest {
    conn: ConnId,
    id: Uuid,
    name: Username,
    proof: Proof,
    dialect: Dialect,
    line: Arc<Line>,
    /// Freed when the stay ends, as is its share of connections.
    _place: Place,
    _held: Held,
    cx: Arc<StayCx>,
}

impl Drop for Guest {
    /// However the stay ends, also if the program has no time left for it.
    fn drop(&mut self) {
        if self.proof == Proof::Verified {
            self.cx.store.note_presence(self.id);
        }
    }
}

/// Hands a player who is in to a thread that relays. The login is over with that, and its memory is free.
pub(super) fn begin(
    conn: Conn<TcpStream>,
    admission: Admission,
    entered: Entered,
    number: ConnId,
    line: Arc<Line>,
    held: Held,
    cx: &ConnCx,
) {
    line.set_piped();
    if cx.shutdown.is_requested() {
        // Those who were in before have been asked already.
        line.close(Reason::ShuttingDown);
    }
    let profile = admission.admitted.profile();
    let guest = Guest {
        conn: number,
        id: profile.id,
        name: profile.name.clone(),
        proof: admission.admitted.proof(),
        dialect: admission.named.hello.dialect,
        line,
        _place: admission.place,
        _held: held,
        cx: Arc::clone(&cx.stay),
    };
    let streams = into_std(conn).and_then(|client| Ok((client, into_std(entered.conn)?)));
    let (client, backend) = match streams {
        Ok(streams) => streams,
        Err(error) => return not_begun(number, &error),
    };
    cx.workers.hand_over(move |workshop| stay(client, backend, workshop, guest));
}

/// Off the runtime of logins, for another one to take it up.
fn into_std(conn: Conn<TcpStream>) -> io::Result<Parts<std::net::TcpStream>> {
    conn.into_parts().try_map_io(TcpStream::into_std)
}

/// The system does not let the streams change hands: both are closed.
fn not_begun(conn: ConnId, error: &io::Error) {
    error!(%conn, %error, "a player's connection could not be passed to the thread that would relay it");
}

/// Pipes the connection until it ends. Called on the thread that does it.
fn stay(
    client: Parts<std::net::TcpStream>,
    backend: Parts<std::net::TcpStream>,
    workshop: Arc<Workshop>,
    guest: Guest,
) -> impl Future<Output = ()> + Send {
    let streams = client
        .try_map_io(TcpStream::from_std)
        .and_then(|client| Ok((client, backend.try_map_io(TcpStream::from_std)?)));
    let (handle, link) = relay::link(guest.dialect, Arc::clone(&guest.line.activity));
    let mut relay = match streams {
        Ok((client, backend)) => Some(Relay::new(client, backend, link, workshop, &guest.cx.relay)),
        Err(error) => {
            not_begun(guest.conn, &error);
            None
        }
    };
    // What is made above is held in one place: an async fn would hold its arguments beside what it makes of them.
    async move {
        let Some(running) = &mut relay else { return };
        let closing = async {
            let reason = guest.line.closing().await;
            handle.close(text(&guest.cx.messages, reason.message(), guest.name.as_str(), reason));
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = running.run() => Some(ended),
            // Neither of these ends before the relay does.
            () = closing => None,
            () = note_presence(&guest) => None,
        };
        if let Some(ended) = ended {
            journal::left(guest.conn, guest.name.as_str(), &ended);
        }
        // In this order: whoever waits for the place may join the backend once it sees this connection closed.
        drop(relay);
        drop(guest);
    }
}

/// Only a verified connection refreshes trust.
async fn note_presence(guest: &Guest) {
    loop {
        sleep(PRESENCE_EVERY).await;
        if guest.proof == Proof::Verified {
            guest.cx.store.note_presence(guest.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_player_who_is_in_takes_little() {
        // Beside it there are, per player, some 1.3 kB in smaller pieces: the task, sockets, timers, the key schedule.
        let size = size_of_future(stay);
        assert!(size <= 1450, "{size} bytes");
    }
}
