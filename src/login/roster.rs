//! Who is in: one place per player, taken at the moment of admission and freed when the connection ends. And who is
//! held: asked for a PIN, and not in before that is right.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::admitted::Cleared;
pub use super::line::{Judged, Line, Reads};
use crate::{
    clock::Clock,
    pin::{Gate, ProvenPin},
    policy::{AddressMatch, Decision, Displace, Evidence, Online, Permit, Proof},
    reason::Reason,
};

/// How long an admission by policy counts towards the players at its address.
const ADMISSION_COUNTS: Duration = Duration::from_hours(24);
/// Bound on addresses whose admissions are remembered; beyond it the one remembered longest goes. A hundred
/// bytes each.
const MAX_ADDRESSES: usize = 65_536;

#[derive(Debug)]
struct Seat {
    line: Arc<Line>,
    proof: Proof,
    address: IpAddr,
    address_match: AddressMatch,
    /// Closes when the place is given up.
    taken: oneshot::Receiver<()>,
}

/// A connection that is held.
#[derive(Debug)]
struct Holding {
    line: Arc<Line>,
    gate: Gate,
    address: IpAddr,
    address_match: AddressMatch,
    /// Closes when it is held no more.
    over: oneshot::Receiver<()>,
}

#[derive(Debug, Default)]
struct Seats {
    by_id: HashMap<Uuid, Seat>,
    held: HashMap<Uuid, Vec<Holding>>,
    /// Why nobody is held any more, once that is so.
    closed: Option<Reason>,
    /// Admissions by policy of the last day: who, and when last.
    admitted_from: HashMap<IpAddr, Vec<(Uuid, Timestamp)>>,
    /// The addresses of `admitted_from` in the order of their first admission.
    first_admitted: VecDeque<(IpAddr, Timestamp)>,
}

/// Everyone who is in. One short lock; admission by policy is judged and recorded under it in one step.
#[derive(Debug)]
pub struct Roster {
    clock: Clock,
    seats: Mutex<Seats>,
}

/// A player's place. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    roster: Arc<Roster>,
    id: Uuid,
    line: Arc<Line>,
    /// Dropped with the place, which tells those who wait for it.
    _taken: oneshot::Sender<()>,
}

/// That a connection is held: whoever of its id is admitted closes it. It makes nobody online. Dropping it ends that.
#[derive(Debug)]
pub struct Hold {
    roster: Arc<Roster>,
    id: Uuid,
    line: Arc<Line>,
    /// Dropped with the hold, which tells those who wait for it.
    _over: oneshot::Sender<()>,
}

impl Hold {
    /// The session's id.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Connections of a player at a backend that were asked to end.
#[derive(Debug)]
pub struct Leaving(Vec<oneshot::Receiver<()>>);

impl Leaving {
    /// Waits until they have ended, but not for long: the backend settles the rest.
    pub async fn gone(self, at_most: Duration) {
        let all_gone = async {
            for gone in self.0 {
                // Nobody sends anything: it is dropped.
                let _ = gone.await;
            }
        };
        // Too slow is not an error: the backend itself replaces a player who logs in again.
        let _ = tokio::time::timeout(at_most, all_gone).await;
    }
}

/// What a policy decision needs to know of who is in, as of the moment of the decision.
#[derive(Clone, Debug)]
pub struct Company {
    /// The connection of the same id that is up.
    pub online: Option<Online>,
    /// The ids that policy admitted from the same address in the last 24 h.
    pub admitted_here: Vec<Uuid>,
}

/// An admission by policy that took its place.
#[derive(Debug)]
pub struct Seated {
    /// The place.
    pub place: Place,
    /// Who may come in, and what it has proven.
    pub cleared: Cleared,
    /// Why.
    pub evidence: Evidence,
    /// The connection that has to go for it.
    pub leaving: Option<Leaving>,
}

/// Why an attempt did not get a place by policy.
#[derive(Debug)]
pub enum NotSeated {
    /// Policy says no.
    Refused(Box<(Reason, Evidence)>),
    /// The player has to prove its PIN, and this is not the proof of it.
    PinWanted,
}

/// Leave to ask for the PIN.
#[derive(Debug)]
pub struct AtTheGate {
    /// That it is held.
    pub hold: Hold,
    /// Who may come in once the PIN is right.
    pub permit: Permit,
    /// Why.
    pub evidence: Evidence,
    /// The connection that has to go before this one meets its backend.
    pub leaving: Option<Leaving>,
}

impl Roster {
    /// An empty roster.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, seats: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the player of that id who is in was proven.
    pub fn proof_of(&self, id: Uuid) -> Option<Proof> {
        self.lock().by_id.get(&id).map(|seat| seat.proof)
    }

    /// Who is in, as one attempt sees it.
    pub fn company(&self, id: Option<Uuid>, address: IpAddr) -> Company {
        self.lock().company(id, address, self.clock.now())
    }

    /// Seats a player whom the session server vouched for. Whoever of that id is in has to go.
    pub fn seat_verified(
        self: &Arc<Self>,
        id: Uuid,
        address: IpAddr,
        line: &Arc<Line>,
    ) -> (Place, Option<Leaving>) {
        let mut seats = self.lock();
        let leaving = seats.make_room(id, line, true);
        let place = self.seat(&mut seats, id, address, AddressMatch::Exact, Proof::Verified, line);
        (place, leaving)
    }

    /// Judges an attempt with what is true now, and seats the player if the judgement says so: between the two
    /// nothing can change. `proven` is the proof of the PIN, if it was asked for. Other connections that are held under
    /// its id are closed.
    pub fn seat_by_policy(
        self: &Arc<Self>,
        id: Option<Uuid>,
        address: IpAddr,
        line: &Arc<Line>,
        proven: Option<&ProvenPin>,
        judge: impl FnOnce(Company) -> Decision,
    ) -> Result<Seated, NotSeated> {
        let mut seats = self.lock();
        let now = self.clock.now();
        match judge(seats.company(id, address, now)) {
            Decision::Refuse { reason, evidence } => Err(NotSeated::Refused(Box::new((reason, evidence)))),
            Decision::Admit { permit, evidence } => {
                let cleared = Cleared::new(permit, proven).ok_or(NotSeated::PinWanted)?;
                let permit = cleared.permit();
                let (id, matched) = (permit.id(), permit.address_match());
                let leaving = seats.make_room(id, line, permit.displace() != Displace::Nobody);
                seats.note_admission(address, id, now);
                let place = self.seat(&mut seats, id, address, matched, cleared.proof(), line);
                Ok(Seated { place, cleared, evidence, leaving })
            }
        }
    }

    /// Judges an attempt whose player is to be asked for its PIN, and notes that it is held. Behind a dialog it meets
    /// nobody, and nobody has to go for it before the PIN is right. In quarantine it is at its backend, which takes an
    /// id once: so others in quarantine count as if they were in.
    pub fn hold_by_policy(
        self: &Arc<Self>,
        id: Option<Uuid>,
        address: IpAddr,
        line: &Arc<Line>,
        gate: Gate,
        judge: impl FnOnce(Company) -> Decision,
    ) -> Result<AtTheGate, Box<(Reason, Evidence)>> {
        let mut seats = self.lock();
        let now = self.clock.now();
        let mut company = seats.company(id, address, now);
        if gate == Gate::Quarantine && company.online.is_none() {
            company.online = seats.quarantined(id, address);
        }
        match judge(company) {
            Decision::Refuse { reason, evidence } => Err(Box::new((reason, evidence))),
            Decision::Admit { permit, evidence } => {
                let at_backend = gate == Gate::Quarantine && permit.displace() != Displace::Nobody;
                let leaving = if at_backend { seats.clear_backend(permit.id()) } else { None };
                let hold = self.hold(&mut seats, permit.id(), (address, permit.address_match()), line, gate);
                Ok(AtTheGate { hold, permit, evidence, leaving })
            }
        }
    }

    fn hold(
        self: &Arc<Self>,
        seats: &mut Seats,
        id: Uuid,
        (address, address_match): (IpAddr, AddressMatch),
        line: &Arc<Line>,
        gate: Gate,
    ) -> Hold {
        let (ends, over) = oneshot::channel();
        let holding = Holding { line: Arc::clone(line), gate, address, address_match, over };
        seats.held.entry(id).or_default().push(holding);
        if let Some(reason) = seats.closed {
            line.close(reason);
        }
        Hold { roster: Arc::clone(self), id, line: Arc::clone(line), _over: ends }
    }

    fn seat(
        self: &Arc<Self>,
        seats: &mut Seats,
        id: Uuid,
        address: IpAddr,
        address_match: AddressMatch,
        proof: Proof,
        line: &Arc<Line>,
    ) -> Place {
        let (held, taken) = oneshot::channel();
        // A connection takes one place.
        let _ = line.seated.set((id, proof));
        let seat = Seat { line: Arc::clone(line), proof, address, address_match, taken };
        seats.by_id.insert(id, seat);
        Place { roster: Arc::clone(self), id, line: Arc::clone(line), _taken: held }
    }

    /// Asks all connections to end that are piped, or held now or later: a player may take long to find its PIN. Any
    /// other login under way is not cut: it finds out by itself.
    pub fn close_all(&self, reason: Reason) {
        let mut seats = self.lock();
        seats.closed.get_or_insert(reason);
        for seat in seats.by_id.values().filter(|seat| seat.line.is_piped()) {
            seat.line.close(reason);
        }
        for holding in seats.held.values().flatten() {
            holding.line.close(reason);
        }
    }

    /// Players who are in.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Players who are in and were proven like that.
    pub fn proven_by(&self, proof: Proof) -> usize {
        self.lock().by_id.values().filter(|seat| seat.proof == proof).count()
    }

    /// Connections that are held: their players are to prove their PIN.
    pub fn held(&self) -> usize {
        self.lock().held.values().map(Vec::len).sum()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Seats {
    fn company(&self, id: Option<Uuid>, address: IpAddr, now: Timestamp) -> Company {
        let online = id.and_then(|id| self.by_id.get(&id)).map(|seat| Online {
            proof: seat.proof,
            same_exact_address: seat.address == address,
            silent_for: seat.line.silent_for(),
            address_match: seat.address_match,
        });
        let admitted_here = self.admitted_from.get(&address).into_iter().flatten();
        let admitted_here = admitted_here.filter(|(_, at)| counts(*at, now)).map(|(id, _)| *id).collect();
        Company { online, admitted_here }
    }

    /// The one in quarantine under that id, as one who would be as well sees it.
    fn quarantined(&self, id: Option<Uuid>, address: IpAddr) -> Option<Online> {
        let held = self.held.get(&id?)?.iter().find(|holding| holding.gate == Gate::Quarantine)?;
        Some(Online {
            proof: Proof::Held,
            same_exact_address: held.address == address,
            silent_for: held.line.silent_for(),
            address_match: held.address_match,
        })
    }

    /// Closes whoever must not be there beside the one who is admitted under that id: those who are held, and if it
    /// displaces, the one who is in.
    fn make_room(&mut self, id: Uuid, own: &Arc<Line>, displaces: bool) -> Option<Leaving> {
        let mut leaving = Vec::new();
        if displaces && let Some(seat) = self.by_id.remove(&id) {
            seat.line.give_way_to_admission();
            leaving.push(seat.taken);
        }
        if let Some(held) = self.held.get_mut(&id) {
            for holding in held.extract_if(.., |holding| !Arc::ptr_eq(&holding.line, own)) {
                holding.line.give_way_to_admission();
                if holding.gate == Gate::Quarantine {
                    leaving.push(holding.over);
                }
            }
            if held.is_empty() {
                self.held.remove(&id);
            }
        }
        (!leaving.is_empty()).then_some(Leaving(leaving))
    }

    /// Closes whoever is at a backend under that id, for another one who has proven nothing either.
    fn clear_backend(&mut self, id: Uuid) -> Option<Leaving> {
        let mut leaving = Vec::new();
        if let Some(seat) = self.by_id.remove(&id) {
            seat.line.close(Reason::Displaced);
            leaving.push(seat.taken);
        }
        let held = self.held.get_mut(&id).into_iter();
        for holding in held.flat_map(|held| held.extract_if(.., |holding| holding.gate == Gate::Quarantine)) {
            holding.line.close(Reason::Displaced);
            leaving.push(holding.over);
        }
        (!leaving.is_empty()).then_some(Leaving(leaving))
    }

    fn note_admission(&mut self, address: IpAddr, id: Uuid, now: Timestamp) {
        // An address comes up again a day after its first admission, or when there are too many, and is then
        // forgotten, or kept for another round if it was used since. Two looks an admission keep up with any flood.
        for _ in 0..2 {
            let due = |(_, at): &mut (IpAddr, Timestamp)| !counts(*at, now);
            let full = self.first_admitted.len() >= MAX_ADDRESSES;
            let next =
                if full { self.first_admitted.pop_front() } else { self.first_admitted.pop_front_if(due) };
            let Some((old, _)) = next else { break };
            if let Entry::Occupied(mut ids) = self.admitted_from.entry(old) {
                ids.get_mut().retain(|(_, at)| counts(*at, now));
                if ids.get().is_empty() || full {
                    ids.remove();
                } else {
                    self.first_admitted.push_back((old, now));
                }
            }
        }
        let ids = match self.admitted_from.entry(address) {
            Entry::Occupied(ids) => ids.into_mut(),
            Entry::Vacant(place) => {
                self.first_admitted.push_back((address, now));
                place.insert(Vec::new())
            }
        };
        ids.retain(|(other, at)| *other != id && counts(*at, now));
        ids.push((id, now));
    }
}

fn counts(at: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back makes the age negative: it counts.
    Duration::try_from(now.duration_since(at)).map_or(true, |age| age < ADMISSION_COUNTS)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self.roster.lock();
        // Somebody else may have the place by now.
        if seats.by_id.get(&self.id).is_some_and(|seat| Arc::ptr_eq(&seat.line, &self.line)) {
            seats.by_id.remove(&self.id);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut seats = self.roster.lock();
        if let Entry::Occupied(mut held) = seats.held.entry(self.id) {
            held.get_mut().retain(|holding| !Arc::ptr_eq(&holding.line, &self.line));
            if held.get().is_empty() {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_verified_login_displaces_and_waits_for_the_other_to_go() {
        let roster = Roster::new(Clock::system());
        let (first, second) = (Arc::new(Line::default()), Arc::new(Line::default()));
        let (id, address) = (Uuid::from_u128(1), "203.0.113.5".parse().unwrap());
        let (place, none) = roster.seat_verified(id, address, &first);
        assert!(none.is_none());
        let (newer, leaving) = roster.seat_verified(id, address, &second);
        assert_eq!(first.closing().await, Reason::Displaced);
        let leaving = tokio::spawn(leaving.unwrap().gone(Duration::from_hours(1)));
        tokio::task::yield_now().await;
        assert!(!leaving.is_finished());
        drop(place);
        leaving.await.unwrap();
        // The old place does not free the new one.
        assert_eq!(roster.len(), 1);
        drop(newer);
        assert!(roster.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_under_way_is_no_dead_link() {
        let roster = Roster::new(Clock::system());
        let line = Arc::new(Line::default());
        let (id, address) = (Uuid::from_u128(1), "203.0.113.5".parse().unwrap());
        tokio::time::advance(Duration::from_secs(6)).await;
        let (_place, _) = roster.seat_verified(id, address, &line);
        tokio::time::advance(Duration::from_secs(6)).await;
        let silent = || roster.company(Some(id), address).online.unwrap().silent_for;
        assert_eq!(silent(), Duration::ZERO);
        line.set_piped();
        assert_eq!(silent(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(silent(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_those_who_are_in() {
        let roster = Roster::new(Clock::system());
        let address = "203.0.113.5".parse().unwrap();
        let lines = [1, 2].map(|id| {
            let line = Arc::new(Line::default());
            let (place, _) = roster.seat_verified(Uuid::from_u128(id), address, &line);
            (line, place)
        });
        let [(piped, _first), (login, _second)] = &lines;
        piped.set_piped();
        let told = tokio::spawn({
            let piped = Arc::clone(piped);
            async move { piped.closing().await }
        });
        tokio::task::yield_now().await;
        roster.close_all(Reason::ShuttingDown);
        assert_eq!(told.await.unwrap(), Reason::ShuttingDown);
        tokio::time::timeout(Duration::from_secs(1), login.closing()).await.unwrap_err();
    }

    /// Holds connections of player 1, one behind each gate.
    fn hold(roster: &Arc<Roster>, lines: &[(Arc<Line>, Gate)]) -> Vec<Hold> {
        let from = ("203.0.113.5".parse().unwrap(), AddressMatch::Range);
        let hold = |(line, gate): &(Arc<Line>, Gate)| {
            roster.hold(&mut roster.lock(), Uuid::from_u128(1), from, line, *gate)
        };
        lines.iter().map(hold).collect()
    }

    fn line(gate: Gate) -> (Arc<Line>, Gate) {
        (Arc::new(Line::default()), gate)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_held_goes_when_the_player_comes_in_by_another_way() {
        let roster = Roster::new(Clock::system());
        let (id, address) = (Uuid::from_u128(1), "203.0.113.5".parse().unwrap());
        let lines = [line(Gate::Dialog), line(Gate::Quarantine), line(Gate::Dialog)];
        let mut holds = hold(&roster, &lines);
        assert!(roster.is_empty(), "nobody is in");
        // The last of them: by its own code.
        let own = &lines[2].0;
        let (_place, leaving) = roster.seat_verified(id, address, own);
        let [first, second, third] = [0, 1, 2].map(|index: usize| lines[index].0.asked_to_close());
        assert_eq!((first, second, third), (Some(Reason::Displaced), Some(Reason::Displaced), None));
        assert!(lines[..2].iter().all(|(line, _)| line.gave_way_to_admission()));
        // The one at the backend is waited for; a dialog meets nobody there.
        let gone = tokio::spawn(leaving.unwrap().gone(Duration::from_hours(1)));
        drop(holds.remove(0));
        tokio::task::yield_now().await;
        assert!(!gone.is_finished());
        drop(holds.remove(0));
        gone.await.unwrap();
        assert_eq!(roster.lock().held[&id].len(), 1, "its own is left");
        drop(holds);
        assert!(roster.lock().held.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_quarantine_is_company_and_only_to_its_like() {
        let roster = Roster::new(Clock::system());
        let (id, address) = (Some(Uuid::from_u128(1)), "203.0.113.5".parse().unwrap());
        let _dialog = hold(&roster, &[line(Gate::Dialog)]);
        assert!(roster.lock().quarantined(id, address).is_none());
        let in_quarantine = line(Gate::Quarantine);
        let _quarantine = hold(&roster, std::slice::from_ref(&in_quarantine));
        in_quarantine.0.set_piped();
        tokio::time::advance(Duration::from_secs(6)).await;
        let expected = Online {
            proof: Proof::Held,
            same_exact_address: true,
            silent_for: Duration::from_secs(6),
            address_match: AddressMatch::Range,
        };
        assert_eq!(roster.lock().quarantined(id, address), Some(expected));
        assert!(roster.company(id, address).online.is_none());
        let leaving = roster.lock().clear_backend(Uuid::from_u128(1));
        assert!(leaving.is_some() && in_quarantine.0.asked_to_close() == Some(Reason::Displaced));
        // By one who has proven no more than it.
        assert!(!in_quarantine.0.gave_way_to_admission());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_those_who_are_held_and_those_who_are_later() {
        let roster = Roster::new(Clock::system());
        let (before, after) = (line(Gate::Dialog), line(Gate::Quarantine));
        let _before = hold(&roster, std::slice::from_ref(&before));
        roster.close_all(Reason::ShuttingDown);
        let _after = hold(&roster, std::slice::from_ref(&after));
        for (line, _) in [before, after] {
            assert_eq!(line.asked_to_close(), Some(Reason::ShuttingDown));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn admissions_count_for_a_day() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let roster = Roster::new(clock.clone());
        let address = "203.0.113.5".parse().unwrap();
        roster.lock().note_admission(address, Uuid::from_u128(1), clock.now());
        roster.lock().note_admission(address, Uuid::from_u128(1), clock.now());
        roster.lock().note_admission(address, Uuid::from_u128(2), clock.now());
        assert_eq!(roster.company(None, address).admitted_here.len(), 2);
        tokio::time::advance(ADMISSION_COUNTS).await;
        assert!(roster.company(None, address).admitted_here.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn admissions_are_forgotten_and_bounded() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let roster = Roster::new(clock.clone());
        let address = |n: usize| IpAddr::from((n as u128).to_be_bytes());
        let remembered = || {
            let seats = roster.lock();
            (seats.admitted_from.len(), seats.first_admitted.len())
        };
        for n in 0..MAX_ADDRESSES + 10 {
            roster.lock().note_admission(address(n), Uuid::from_u128(1), clock.now());
        }
        assert_eq!(remembered(), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert!(roster.company(None, address(0)).admitted_here.is_empty());
        tokio::time::advance(ADMISSION_COUNTS).await;
        for n in 0..MAX_ADDRESSES {
            roster.lock().note_admission(address(n % 3), Uuid::from_u128(1), clock.now());
        }
        assert_eq!(remembered(), (3, 3));
    }
}
