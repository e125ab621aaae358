//! A player's stay: from login success to the end of the connection, on one of the threads that relay.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::sleep};
use tracing::error;

use super::{
    connection::{Caller, ConnCx, text},
    journal::{self, Journal},
    pins::{self, About, Pace, Player, Quarantine},
    places::{self, Visits},
    players::{Listing, Players},
    staff::{Present, Staff},
};
use crate::{
    backend::Entered,
    limit::gate::{Held, Passage},
    login::{
        Admission, LoginCx, Seat, Taken,
        roster::{Line, Place},
    },
    messages::Messages,
    net::conn::{Conn, Parts},
    policy::Proof,
    protocol::text::Text,
    reason::Reason,
    relay::{self, Begin, Ended, Link, Relay, Terms, Workshop},
    session::Store,
};

/// How often the presence of a verified player is noted, so that a crash does not expire a long-online friend.
const PRESENCE_EVERY: Duration = Duration::from_mins(15);

/// What every stay shares. Apart from what connections share: those know the threads, which would then keep themselves
/// alive.
#[derive(Debug)]
pub(super) struct StayCx {
    /// For those who are held: they are admitted later.
    pub(super) login: Arc<LoginCx>,
    pub(super) relay: relay::Config,
    pub(super) messages: Arc<Messages>,
    pub(super) store: Store,
    pub(super) journal: Arc<Journal>,
    pub(super) staff: Staff,
    /// Fewest characters of a new PIN, for the text that asks for more.
    pub(super) min_pin_length: u8,
    /// Logins whose address is to be looked up.
    pub(super) visits: Visits,
    /// Who is connected.
    pub(super) players: Players,
}

/// A player who is in, or is held on its backend. All that outlives the login: what the login alone needed is gone by
/// then.
struct Guest {
    player: Box<Player>,
    /// How it was proven when it met its backend.
    proof: Proof,
    line: Arc<Line>,
    seating: Seating,
    listing: Listing,
}

/// What a player takes up while it stays. Freed when the stay ends.
struct Seating {
    /// While it is held, all that concerns its being held.
    quarantine: Option<Box<Quarantine>>,
    /// Once it is in, its place, and its share of connections.
    place: Option<(Place, Held)>,
    /// Once it is in and proven.
    present: Option<Box<Present>>,
}

impl Drop for Guest {
    /// However the stay ends, also if the program has no time left for it.
    fn drop(&mut self) {
        if self.proof == Proof::Verified {
            self.player.cx.store.note_presence(self.player.about.id);
        }
    }
}

/// Hands a player who met its backend to a thread that relays. The login is over with that, and its memory is free. Who was
/// listed during its login stays so.
pub(super) fn begin(
    conn: Conn<TcpStream>,
    admission: Admission,
    entered: Entered,
    caller: Caller,
    (line, listing): (Arc<Line>, Option<Box<Listing>>),
    passage: Passage,
    cx: &ConnCx,
) {
    line.set_piped();
    if cx.lasting.shutdown.is_requested() {
        // Those who were in before have been asked already.
        line.close(Reason::ShuttingDown);
    }
    let profile = admission.admitted.profile();
    let about = About {
        caller,
        name: profile.name.clone(),
        id: profile.id,
        claimed_id: admission.named.claimed_id,
        backend: Some(entered.backend.name.clone()),
    };
    let (handle, mailbox) = relay::link(admission.named.hello.dialect, Arc::clone(&line.activity));
    let begin = if admission.begun.is_some() { Begin::InConfiguration } else { Begin::BehindLoginSuccess };
    let seating = match admission.seat {
        Seat::Place(place) => {
            let place = Some((place, passage.into_held()));
            Seating { quarantine: None, place, present: None }
        }
        Seat::Held(held) => {
            let cx = &cx.stay;
            journal::passed_over(&*cx.journal, &about.caller, &entered.passed_over);
            let quarantine = Quarantine::new(*held, admission.facts, passage, &cx.login);
            Seating { quarantine: Some(Box::new(quarantine)), place: None, present: None }
        }
    };
    let (about, proof) = (Arc::new(about), admission.admitted.proof());
    let standing = if seating.quarantine.is_some() { Proof::Held } else { proof };
    let now = cx.login.clock.now();
    let listing = match listing {
        Some(listing) => {
            listing.met_backend(Arc::clone(&about), standing, now);
            *listing
        }
        None => cx.stay.players.enter(Arc::clone(&about), standing, Arc::clone(&line), now),
    };
    let player = Box::new(Player { about, handle, cx: Arc::clone(&cx.stay) });
    let mut guest = Guest { player, proof, line, seating, listing };
    let streams = into_std(conn).and_then(|client| Ok((client, into_std(entered.conn)?)));
    let (client, backend) = match streams {
        Ok(streams) => streams,
        Err(error) => return not_begun(&mut guest, &error),
    };
    cx.lasting.workers.hand_over(move |workshop| stay(client, backend, workshop, (mailbox, begin), guest));
}

/// Off the runtime of logins, for another one to take it up.
fn into_std(conn: Conn<TcpStream>) -> io::Result<Parts<std::net::TcpStream>> {
    conn.into_parts().try_map_io(TcpStream::into_std)
}

/// The system does not let the streams change hands: both are closed.
fn not_begun(guest: &mut Guest, error: &io::Error) {
    let About { caller, backend, .. } = &*guest.player.about;
    error!(conn = %caller.conn, %error, "a player's connection could not be passed to the thread that would relay it");
    if let Some(quarantine) = guest.seating.quarantine.take() {
        let refusal = quarantine.lost(&guest.player.about, error);
        journal::refused(&*guest.player.cx.journal, caller, &refusal, backend.as_deref());
    }
}

/// Pipes the connection until it ends. Called on the thread that does it.
fn stay(
    client: Parts<std::net::TcpStream>,
    backend: Parts<std::net::TcpStream>,
    workshop: Arc<Workshop>,
    (mailbox, begin): (Link, Begin),
    mut guest: Guest,
) -> impl Future<Output = ()> + Send {
    let streams = client
        .try_map_io(TcpStream::from_std)
        .and_then(|client| Ok((client, backend.try_map_io(TcpStream::from_std)?)));
    let held = guest.seating.quarantine.is_some();
    let terms = Terms { begin, pins: guest.player.cx.login.pins.are_on(), held };
    let mut relay = match streams {
        Ok((client, backend)) => {
            Some(Relay::new(client, backend, mailbox, workshop, &guest.player.cx.relay, terms))
        }
        Err(error) => {
            not_begun(&mut guest, &error);
            None
        }
    };
    // What is made above is held in one place: an async fn would hold its arguments beside what it makes of them.
    async move {
        let Some(running) = &mut relay else { return };
        let Guest { player, proof, line, seating, listing } = &mut guest;
        let player = &**player;
        let closing = async {
            let reason = line.closing().await;
            let name = player.about.name.as_str();
            player.handle.close(match line.words() {
                Some(words) => Text::parse(&words, &[]),
                None => text(&player.cx.messages, reason.message(), name, reason),
            });
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = running.run() => Some(ended),
            // None of these ends before the relay does.
            () = closing => None,
            () = attend(player, *proof, seating, listing) => None,
            () = note_presence(player, *proof) => None,
        };
        if let Some(ended) = ended {
            tell_end(player, line, seating, &ended);
        }
        // In this order: whoever waits for the place may join the backend once it sees this connection closed.
        drop(relay);
        drop(guest);
    }
}

/// Attends to a player until its connection ends: waits until it is in, and then for what it has to say about its PIN.
async fn attend(player: &Player, proof: Proof, seating: &mut Seating, listing: &Listing) {
    let mut pace = Pace::default();
    let proof = if seating.quarantine.is_some() {
        Box::pin(hold(player, seating, &mut pace)).await;
        listing.set_proof(Proof::Pinned, player.cx.login.clock.now());
        Proof::Pinned
    } else {
        // In this order: of what waits for the world, that is what comes first.
        pins::welcome(player, proof);
        seating.present = player.present(proof).map(Box::new);
        proof
    };
    pins::attend(player, proof, &mut pace).await;
}

/// Waits until the PIN of a held player is right, and lets it in. If it is not, tells the player, and waits for the end.
async fn hold(player: &Player, seating: &mut Seating, pace: &mut Pace) {
    if let Some(quarantine) = &mut seating.quarantine {
        match pins::wait(player, quarantine, pace).await {
            Ok(Taken { place, leaving: _, facts, outage_started, moved }) => {
                let About { caller, name, id, .. } = &*player.about;
                let journal = &*player.cx.journal;
                journal::admitted(
                    journal,
                    caller,
                    &player.about.guest(),
                    Proof::Pinned,
                    (&facts, Some(outage_started)),
                    moved.as_deref(),
                );
                let visit = (name, *id, Proof::Pinned, moved.is_some());
                places::note_login(visit, caller, &player.cx);
                let quarantine = seating.quarantine.take();
                seating.place = quarantine.map(|quarantine| (place, quarantine.into_share()));
                seating.present = player.present(Proof::Pinned).map(Box::new);
                pins::release(player);
            }
            Err(refusal) => {
                let (message, reason) = (refusal.message, refusal.reason);
                player.handle.close(text(&player.cx.messages, message, player.about.name.as_str(), reason));
                quarantine.refuse(refusal);
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Says how it ended: for one who was in, that it left, and for one who was still held, why it did not come in.
fn tell_end(player: &Player, line: &Line, seating: &mut Seating, ended: &Ended) {
    let About { caller, name, backend, .. } = &*player.about;
    let Some(quarantine) = seating.quarantine.take() else {
        return journal::left(caller.conn, name.as_str(), ended);
    };
    let refusal = quarantine.fail(player, line, ended);
    journal::refused(&*player.cx.journal, caller, &refusal, backend.as_deref());
}

/// Only a verified connection refreshes trust.
async fn note_presence(player: &Player, proof: Proof) {
    loop {
        sleep(PRESENCE_EVERY).await;
        if proof == Proof::Verified {
            player.cx.store.note_presence(player.about.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_player_who_is_in_takes_little() {
        // Beside it there are, per player, some 1.3 kB in smaller pieces: the task, sockets, timers, the key schedule.
        let size = size_of_future(stay);
        assert!(size <= 1450, "{size} bytes");
    }
}
