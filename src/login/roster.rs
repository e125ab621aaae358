//! Who is in: one place per player, taken at the moment of admission and freed when the connection ends.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use super::refusal::Who;
use crate::{
    clock::Clock,
    net::activity::Activity,
    policy::{AddressMatch, Decision, Displace, Evidence, Online, Permit, Proof},
    reason::Reason,
};

/// How long an admission by policy counts towards the players at its address.
const ADMISSION_COUNTS: Duration = Duration::from_hours(24);
/// Bound on addresses whose admissions are remembered; beyond it the one remembered longest goes. A hundred
/// bytes each.
const MAX_ADDRESSES: usize = 65_536;

/// The handle of one connection, by which others can close it.
#[derive(Debug)]
pub struct Line {
    /// When the client was last heard.
    pub activity: Arc<Activity>,
    /// Who calls, once it said so: for endings that come from outside its login.
    pub who: OnceLock<Who>,
    /// The player's proven id and how it was proven, once it has a place.
    pub seated: OnceLock<(Uuid, Proof)>,
    /// What policy said of it, while it is offered the online login instead of hearing that.
    judged: Mutex<Option<Box<Judged>>>,
    piped: AtomicBool,
    close: Mutex<Close>,
}

/// A refusal that has not been said.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The code.
    pub reason: Reason,
    /// The session's id, if one was found.
    pub id: Option<Uuid>,
    /// What it rests on.
    pub facts: Map<String, Value>,
}

/// What a connection was asked, and the task that is to obey. A channel would take half a kilobyte.
#[derive(Debug, Default)]
struct Close {
    reason: Option<Reason>,
    waiting: Option<Waker>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            activity: Arc::default(),
            who: OnceLock::new(),
            seated: OnceLock::new(),
            judged: Mutex::default(),
            piped: AtomicBool::new(false),
            close: Mutex::default(),
        }
    }
}

impl Line {
    /// The connection is piped from now on: silence means something.
    pub fn set_piped(&self) {
        self.activity.touch(Instant::now());
        self.piped.store(true, Ordering::Release);
    }

    fn is_piped(&self) -> bool {
        self.piped.load(Ordering::Acquire)
    }

    /// Asks the connection to end and to tell its client why. The first reason stays.
    pub fn close(&self, reason: Reason) {
        let mut close = self.close.lock().unwrap_or_else(PoisonError::into_inner);
        close.reason.get_or_insert(reason);
        let waiting = close.waiting.take();
        drop(close);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Notes what policy said, or that it is of no more weight.
    pub fn set_judged(&self, judged: Option<Judged>) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = judged.map(Box::new);
    }

    /// What policy said, if nothing has come of it yet.
    pub fn take_judged(&self) -> Option<Box<Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the reason once the connection was asked to end. For the connection's own task: of several that wait,
    /// only the last would be woken.
    pub async fn closing(&self) -> Reason {
        poll_fn(|cx| {
            let mut close = self.close.lock().unwrap_or_else(PoisonError::into_inner);
            match (close.reason, &mut close.waiting) {
                (Some(reason), _) => return Poll::Ready(reason),
                (None, Some(waiting)) => waiting.clone_from(cx.waker()),
                (None, none) => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug)]
struct Seat {
    line: Arc<Line>,
    proof: Proof,
    address: IpAddr,
    address_match: AddressMatch,
    /// Closes when the place is given up.
    taken: oneshot::Receiver<()>,
}

#[derive(Debug, Default)]
struct Seats {
    by_id: HashMap<Uuid, Seat>,
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

/// A connection that was asked to end.
#[derive(Debug)]
pub struct Leaving(oneshot::Receiver<()>);

impl Leaving {
    /// Waits until it has ended, but not for long: its backend settles the rest.
    pub async fn gone(self, at_most: Duration) {
        // Too slow is not an error: the backend itself replaces a player who logs in again.
        let _ = tokio::time::timeout(at_most, self.0).await;
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
    /// Who may come in.
    pub permit: Permit,
    /// Why.
    pub evidence: Evidence,
    /// The connection that has to go for it.
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
        let leaving = seats.remove(id);
        let place = self.seat(&mut seats, id, address, AddressMatch::Exact, Proof::Verified, line);
        (place, leaving)
    }

    /// Judges an attempt with what is true now, and seats the player if the judgement says so: between the two
    /// nothing can change.
    pub fn seat_by_policy(
        self: &Arc<Self>,
        id: Option<Uuid>,
        address: IpAddr,
        line: &Arc<Line>,
        judge: impl FnOnce(Company) -> Decision,
    ) -> Result<Seated, Box<(Reason, Evidence)>> {
        let mut seats = self.lock();
        let now = self.clock.now();
        match judge(seats.company(id, address, now)) {
            Decision::Refuse { reason, evidence } => Err(Box::new((reason, evidence))),
            Decision::Admit { permit, evidence } => {
                let leaving = match permit.displace() {
                    Displace::Nobody => None,
                    Displace::DeadLink | Displace::WeakerMatch => seats.remove(permit.id()),
                };
                seats.note_admission(address, permit.id(), now);
                let matched = permit.address_match();
                let place = self.seat(&mut seats, permit.id(), address, matched, Proof::Fallback, line);
                Ok(Seated { place, permit, evidence, leaving })
            }
        }
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

    /// Asks all connections that are piped to end. A login under way is not cut: it finds out by itself.
    pub fn close_all(&self, reason: Reason) {
        for seat in self.lock().by_id.values().filter(|seat| seat.line.is_piped()) {
            seat.line.close(reason);
        }
    }

    /// Players who are in.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
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
            // A login under way has its own deadline, and nothing to say while it waits for others.
            silent_for: if seat.line.is_piped() { seat.line.activity.silent_for() } else { Duration::ZERO },
            address_match: seat.address_match,
        });
        let admitted_here = self.admitted_from.get(&address).into_iter().flatten();
        let admitted_here = admitted_here.filter(|(_, at)| counts(*at, now)).map(|(id, _)| *id).collect();
        Company { online, admitted_here }
    }

    fn remove(&mut self, id: Uuid) -> Option<Leaving> {
        let seat = self.by_id.remove(&id)?;
        seat.line.close(Reason::Displaced);
        Some(Leaving(seat.taken))
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

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_to_close_stays() {
        let line = Line::default();
        line.close(Reason::ShuttingDown);
        line.close(Reason::Displaced);
        assert_eq!(line.closing().await, Reason::ShuttingDown);
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
