//! Where players come from: looked up behind their logins, told if it is new for them, and kept with the sessions of
//! those whom the session server vouched for.

use std::{net::IpAddr, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};
use tracing::debug;
use uuid::Uuid;

use super::{
    connection::{Caller, ConnCx},
    generation::Generations,
    journal,
    stay::StayCx,
};
use crate::{
    address,
    identity::Username,
    login::{Admission, refusal::Moved},
    place::Place,
    policy::{self, Proof, Rules},
    session::record::VerifiedAddress,
    task::{self, Shutdown},
};

/// Look-ups for this at once: half of what a web provider is asked at once. A player who comes by policy waits for its
/// own, and nobody for these.
const AT_ONCE: usize = 3;

/// Logins that may wait for their look-up: those of everybody who comes back at once after a restart.
const WAITING: usize = 512;

/// A login whose address is to be looked up.
#[derive(Debug)]
pub(super) struct Visit {
    caller: Caller,
    name: Username,
    id: Uuid,
    proof: Proof,
    /// The verified addresses as they stood before this login: in the session as a verified one leaves it, every address
    /// is known.
    before: Vec<VerifiedAddress>,
}

/// Where visits are put in.
pub(super) type Visits = mpsc::Sender<Visit>;

/// Room for visits, and where they come out.
pub(super) fn queue() -> (Visits, mpsc::Receiver<Visit>) {
    mpsc::channel(WAITING)
}

/// Puts a login into the queue, once it has been told of. Never waits.
pub(super) fn note(admission: &Admission, caller: &Caller, cx: &ConnCx) {
    let admitted = &admission.admitted;
    let profile = admitted.profile();
    let login = (&profile.name, profile.id, admitted.proof(), admission.moved.is_some());
    note_login(login, caller, &cx.stay);
}

/// The same for whoever has no admission any more: who, how proven, and whether it was told that the place is new.
pub(super) fn note_login(login: (&Username, Uuid, Proof, bool), caller: &Caller, cx: &StayCx) {
    let (name, id, proof, is_told) = login;
    // What a login by policy shows is told, and not kept.
    let wanted = match proof {
        Proof::Verified => true,
        Proof::Fallback | Proof::Pinned => cx.journal.alert_on_geo_change && !is_told,
        // Whoever was held came no further.
        Proof::Held => false,
    };
    if !wanted || !cx.login.geo.is_enabled() || address::is_private(caller.address) {
        return;
    }
    let Some(session) = cx.login.store.by_id(id) else { return };
    let before = match (proof, &session.rehearsal) {
        (Proof::Fallback | Proof::Pinned | Proof::Held, _) => session.addresses.clone(),
        (Proof::Verified, Some(rehearsal)) if rehearsal.address == caller.address => {
            rehearsal.addresses.clone()
        }
        // The player has logged in again since, from elsewhere.
        (Proof::Verified, _) => Vec::new(),
    };
    let visit = Visit { caller: caller.clone(), name: name.clone(), id, proof, before };
    if cx.visits.try_send(visit).is_err() {
        debug!(conn = %caller.conn, address = %caller.address, "not looked up: too many logins wait for that");
    }
}

/// Looks up what was put into the queue, until the program stops. What is left then is looked up at the next login.
pub(super) async fn learn(generations: Arc<Generations>, mut visits: mpsc::Receiver<Visit>, stop: Shutdown) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.requested() => return,
            Some(ended) = under_way.join_next() => task::note_panic(&ended),
            Some(visit) = visits.recv(), if under_way.len() < AT_ONCE => {
                under_way.spawn(learn_one(generations.current(), visit));
            }
        }
    }
}

async fn learn_one(cx: Arc<ConnCx>, visit: Visit) {
    let address = visit.caller.address;
    let Some(place) = cx.login.geo.look_up(address).await else { return };
    if visit.proof == Proof::Verified {
        // A player who was forgotten meanwhile stays forgotten.
        cx.login.store.update(visit.id, |session| session.learn_place(address, place));
    }
    let (rules, now) = (&cx.config.rules, cx.login.clock.now());
    if let Some(known) = changed_from(place, address, &visit.before, rules, now) {
        let Visit { caller, name, id, proof, .. } = &visit;
        let moved = Moved { place, known };
        journal::geo_changed(&*cx, caller, (name.as_str(), *id), proof.label(), &moved);
    }
}

/// The places known of a player, if `place` is none of them. Whoever has none known comes from nowhere else.
fn changed_from(
    place: Place,
    address: IpAddr,
    before: &[VerifiedAddress],
    rules: &Rules,
    now: jiff::Timestamp,
) -> Option<Vec<Place>> {
    let known = policy::known_places(before, rules, now);
    (!known.is_empty() && policy::is_foreign(place, address, before, rules, now)).then_some(known)
}
