//! How many connections and logins there may be at once, and who goes when there are too many.
//!
//! ```text
//! accepted ──> placed ──────> logging in ──> proven, and in
//!    │         (its client    (counts as       (never closed
//!    │          is known)      pending)          to make room)
//!    └───────────┴──────────────┴──> asked to leave, to make room for somebody who is known
//! ```
//!
//! Up to three quarters of a limit everybody may come. Above, only addresses with a session may, and for each of them
//! the oldest connection of a stranger that has not proven who it is goes, so that the last quarter stays free for the
//! next. At the limit the oldest unproven one of all goes; if there is none, the newcomer is refused. An address with a
//! session that has as many connections as one may have gets a new one in place of its oldest unproven one: so nobody
//! who shares it can keep it out by opening sockets and saying nothing.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::Notify, time::Instant};

use super::metrics::GateMetrics;
use crate::address;

/// Connections beyond the limit that may be on their way out: each was asked to leave, and needs its task to be run
/// for that, which the accept loop does not wait for. Their descriptors are part of the reserve.
pub const MAX_LEAVING: u32 = 64;

/// A flood writes one line per limit in this time.
const LOG_GAP: Duration = Duration::from_secs(10);

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub connections: u32,
    /// Most of them from one client address.
    pub per_address: u32,
    /// Most logins under way that have proven nothing yet.
    pub pending_logins: u32,
}

/// How many connections and logins there are, and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Open connections, those on their way out included.
    pub open: u32,
    /// Most of them.
    pub max: u32,
    /// Logins under way that have proven nothing yet.
    pub pending_logins: u32,
    /// Most of them.
    pub max_pending_logins: u32,
}

/// Which limit turned somebody away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Full {
    /// `max-connections`, or three quarters of it for a stranger.
    Connections,
    /// `max-connections-per-address`.
    PerAddress,
    /// `max-pending-logins`, or three quarters of it for a stranger.
    PendingLogins,
}

impl Full {
    /// The key of the limit in the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::PerAddress => "max-connections-per-address",
            Self::PendingLogins => "max-pending-logins",
        }
    }
}

/// Whether there is a session from that address. Must be quick.
pub type Known = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;
/// Hears of every limit that was hit. Must be quick.
pub type OnLimit = Box<dyn Fn() + Send + Sync>;

/// The handle. Clones count the same connections.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    known: Known,
    on_limit: OnLimit,
    metrics: GateMetrics,
    /// Held for a few look-ups at a time.
    state: Mutex<State>,
    /// When each limit was last logged, and how often it was hit since.
    told: Mutex<HashMap<Full, (Instant, u64)>>,
}

struct State {
    limits: Limits,
    /// Open connections, also those that are on their way out.
    open: u32,
    /// Those that were asked to leave and have not gone yet.
    leaving: u32,
    /// Those of each client that has any open.
    clients: HashMap<IpNet, Client>,
    unproven: Queue,
    pending: Queue,
    serial: u64,
}

/// The connections of one client, counted as in [`State`].
#[derive(Default)]
struct Client {
    open: u32,
    leaving: u32,
}

/// Who may have to leave, oldest first.
#[derive(Default)]
struct Queue {
    strangers: BTreeMap<u64, Arc<Exit>>,
    known: BTreeMap<u64, Arc<Exit>>,
}

/// How a connection hears that it has to leave.
#[derive(Default)]
struct Exit {
    /// One of the constants below. Changed only under the lock of [`State`].
    stage: AtomicU8,
    /// For the sake of which limit.
    limit: OnceLock<Full>,
    /// Whose connection it is, once that is known.
    client: OnceLock<IpNet>,
    asked: Notify,
}

impl Exit {
    const WAITING: u8 = 0;
    const ASKED: u8 = 1;
    const PROVEN: u8 = 2;

    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }
}

/// One connection that was let in, until it ends or its player is in.
#[derive(Debug)]
pub struct Passage {
    waiting: Waiting,
    held: Held,
}

/// A connection's share in `max-connections` and `max-connections-per-address`. Dropping it gives that back.
pub struct Held {
    gate: Arc<Shared>,
    exit: Arc<Exit>,
}

/// A connection's place among those that may have to leave. Dropping it gives that up.
struct Waiting {
    gate: Arc<Shared>,
    serial: u64,
    exit: Arc<Exit>,
}

impl Queue {
    fn len(&self) -> u32 {
        u32::try_from(self.strangers.len() + self.known.len()).unwrap_or(u32::MAX)
    }

    fn of(&mut self, is_known: bool) -> &mut BTreeMap<u64, Arc<Exit>> {
        if is_known { &mut self.known } else { &mut self.strangers }
    }

    fn remove(&mut self, serial: u64) {
        self.strangers.remove(&serial);
        self.known.remove(&serial);
    }

    /// The oldest stranger, or if there is none and `also_known`, the oldest at all.
    fn oldest(&self, also_known: bool) -> Option<u64> {
        let known = self.known.keys().next().filter(|_| also_known);
        self.strangers.keys().next().or(known).copied()
    }

    /// The oldest of that client, which has a session now.
    fn oldest_of(&self, client: IpNet) -> Option<u64> {
        let of = |queue: &BTreeMap<u64, Arc<Exit>>| {
            queue.iter().find(|(_, exit)| exit.client.get() == Some(&client)).map(|(serial, _)| *serial)
        };
        // Among strangers stand those of before it had one, which are older.
        of(&self.strangers).or_else(|| of(&self.known))
    }
}

impl State {
    /// Nobody has come yet.
    fn under(limits: Limits) -> Self {
        Self {
            limits,
            open: 0,
            leaving: 0,
            clients: HashMap::new(),
            unproven: Queue::default(),
            pending: Queue::default(),
            serial: 0,
        }
    }

    /// Connections, without those that are on their way out.
    fn in_use(&self) -> u32 {
        self.open - self.leaving
    }

    /// Which connection of that client makes room for one more; `None` if it has fewer than one may have.
    fn predecessor(&self, client: IpNet, is_known: bool) -> Result<Option<u64>, Full> {
        let in_use = |client: &Client| client.open - client.leaving;
        if self.clients.get(&client).map_or(0, in_use) < self.limits.per_address {
            return Ok(None);
        }
        let oldest = self.unproven.oldest_of(client).filter(|_| is_known);
        oldest.map(Some).ok_or(Full::PerAddress)
    }

    fn ask_to_leave(&mut self, serial: u64, limit: Full) {
        let both = [&self.unproven.strangers, &self.unproven.known];
        let Some(exit) = both.into_iter().find_map(|queue| queue.get(&serial)).cloned() else { return };
        self.unproven.remove(serial);
        self.pending.remove(serial);
        self.leaving += 1;
        if let Some(client) = exit.client.get().and_then(|client| self.clients.get_mut(client)) {
            client.leaving += 1;
        }
        // A connection is asked once.
        let _ = exit.limit.set(limit);
        exit.stage.store(Exit::ASKED, Ordering::Release);
        exit.asked.notify_one();
    }
}

/// Up to how many strangers are let in: three quarters of the limit, rounded up.
const fn open_to_all(limit: u32) -> u32 {
    limit - limit / 4
}

impl Gate {
    /// A gate that nobody has passed yet.
    pub fn new(limits: Limits, known: Known, on_limit: OnLimit) -> Self {
        let (state, told) = (Mutex::new(State::under(limits)), Mutex::default());
        Self(Arc::new(Shared { known, on_limit, metrics: GateMetrics::default(), state, told }))
    }

    /// Goes by other limits from now on. Nobody has to leave for it: where there are more than a limit allows now, those
    /// who come next find it reached, until enough have left by themselves or made room as they always do.
    pub fn adopt(&self, limits: Limits) {
        self.0.state().limits = limits;
    }

    /// Lets a new connection in, or not. Of one that comes through a trusted proxy the client is not known yet (`None`):
    /// that is told later, by [`Passage::place`].
    ///
    /// # Errors
    /// Which limit keeps it out.
    pub fn enter(&self, address: Option<IpAddr>) -> Result<Passage, Full> {
        let shared = &self.0;
        let is_known = address.is_some_and(|address| (shared.known)(address));
        let client = address.map(address::limit_key);
        let mut state = shared.state();
        let most = state.limits.connections;
        let crowded = open_to_all(most);
        let predecessor = client.map_or(Ok(None), |client| state.predecessor(client, is_known));
        let predecessor = match predecessor {
            Ok(predecessor) => predecessor,
            Err(full) => return Err(shared.hit(state, full, address)),
        };
        if state.open >= most.saturating_add(MAX_LEAVING) {
            return Err(shared.hit(state, Full::Connections, address));
        }
        if let Some(oldest) = predecessor {
            state.ask_to_leave(oldest, Full::PerAddress);
        }
        let mut made_room = predecessor.map(|_| Full::PerAddress);
        if state.in_use() >= crowded {
            let is_full = |state: &State| state.in_use() >= most;
            let oldest = match (client, is_known) {
                // A stranger.
                (Some(_), false) => return Err(shared.hit(state, Full::Connections, address)),
                (Some(_), true) => state.unproven.oldest(is_full(&state)),
                // Perhaps a stranger: pushes out none until it must, and nobody who is known.
                (None, _) => state.unproven.oldest(false).filter(|_| is_full(&state)),
            };
            if let Some(oldest) = oldest {
                state.ask_to_leave(oldest, Full::Connections);
                made_room = Some(Full::Connections);
            }
            if is_full(&state) {
                return Err(shared.hit(state, Full::Connections, address));
            }
        }
        state.open += 1;
        let (serial, exit) = (state.serial, Arc::new(Exit::default()));
        if let Some(client) = client {
            state.clients.entry(client).or_default().open += 1;
            let _ = exit.client.set(client);
        }
        state.serial += 1;
        state.unproven.of(is_known).insert(serial, Arc::clone(&exit));
        if let Some(full) = made_room {
            shared.hit(state, full, address);
        }
        let held = Held { gate: Arc::clone(shared), exit: Arc::clone(&exit) };
        Ok(Passage { waiting: Waiting { gate: Arc::clone(shared), serial, exit }, held })
    }

    /// How many there are, and may be.
    pub fn figures(&self) -> Figures {
        let state = self.0.state();
        let Limits { connections: max, pending_logins: max_pending_logins, .. } = state.limits;
        Figures { open: state.open, max, pending_logins: state.pending.len(), max_pending_logins }
    }

    pub(super) fn metrics(&self) -> &GateMetrics {
        &self.0.metrics
    }

    #[cfg(test)]
    fn counts(&self) -> (u32, u32, usize, u32, u32) {
        let state = self.0.state();
        (state.open, state.leaving, state.clients.len(), state.unproven.len(), state.pending.len())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A limit was hit: gives the lock back, and tells of it.
    fn hit(&self, state: MutexGuard<'_, State>, full: Full, address: Option<IpAddr>) -> Full {
        drop(state);
        (self.on_limit)();
        self.metrics.hit(full);
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match told.entry(full) {
            Entry::Vacant(place) => {
                place.insert((now, 0));
                1
            }
            Entry::Occupied(mut place) => {
                let (at, since) = place.get_mut();
                *since += 1;
                if now.duration_since(*at) < LOG_GAP {
                    return full;
                }
                *at = now;
                std::mem::take(since)
            }
        };
        drop(told);
        let address = address.map(tracing::field::display);
        match full {
            Full::PerAddress => tracing::info!(
                address,
                times,
                "a client address wants more connections than network.max-connections-per-address allows; those too \
                 many are closed"
            ),
            Full::Connections | Full::PendingLogins => tracing::warn!(
                times,
                "network.{} is all but reached: only addresses with a session are let in, and unproven connections \
                 make room for them",
                full.key()
            ),
        }
        full
    }
}

impl Passage {
    /// States the client of a connection that came through a trusted proxy. The first word counts.
    ///
    /// # Errors
    /// Which limit keeps it out; it is to be closed.
    pub fn place(&self, address: IpAddr) -> Result<(), Full> {
        let shared = &self.held.gate;
        let is_known = (shared.known)(address);
        let client = address::limit_key(address);
        let mut state = shared.state();
        let oldest = match state.predecessor(client, is_known) {
            Ok(oldest) => oldest,
            Err(full) => return Err(shared.hit(state, full, Some(address))),
        };
        // This one is among them.
        let crowded = state.in_use() > open_to_all(state.limits.connections);
        if crowded && !is_known {
            return Err(shared.hit(state, Full::Connections, Some(address)));
        }
        // Asked to leave, it is about to hear of it.
        if self.waiting.exit.stage() != Exit::WAITING || self.waiting.exit.client.set(client).is_err() {
            return Ok(());
        }
        if let Some(oldest) = oldest {
            state.ask_to_leave(oldest, Full::PerAddress);
        }
        if is_known && let Some(exit) = state.unproven.strangers.remove(&self.waiting.serial) {
            state.unproven.known.insert(self.waiting.serial, exit);
        }
        state.clients.entry(client).or_default().open += 1;
        let stranger = state.unproven.oldest(false).filter(|_| crowded && oldest.is_none());
        if let Some(stranger) = stranger {
            state.ask_to_leave(stranger, Full::Connections);
        }
        let made_room = stranger.map(|_| Full::Connections).or(oldest.map(|_| Full::PerAddress));
        if let Some(full) = made_room {
            shared.hit(state, full, Some(address));
        }
        Ok(())
    }

    /// Counts as a login under way from now on, until it is proven or ends.
    ///
    /// # Errors
    /// Which limit keeps it out; it can be told so.
    pub fn begin_login(&self) -> Result<(), Full> {
        let shared = &self.held.gate;
        let mut state = shared.state();
        let most = state.limits.pending_logins;
        if self.waiting.exit.stage() != Exit::WAITING {
            // Asked to leave already, and about to hear of it.
            return Ok(());
        }
        let is_known = state.unproven.known.contains_key(&self.waiting.serial);
        let mut made_room = false;
        if state.pending.len() >= open_to_all(most) {
            if !is_known {
                return Err(shared.hit(state, Full::PendingLogins, None));
            }
            let is_full = state.pending.len() >= most;
            match state.pending.oldest(is_full) {
                Some(oldest) => state.ask_to_leave(oldest, Full::PendingLogins),
                None if is_full => return Err(shared.hit(state, Full::PendingLogins, None)),
                None => {}
            }
            made_room = true;
        }
        state.pending.of(is_known).insert(self.waiting.serial, Arc::clone(&self.waiting.exit));
        if made_room {
            shared.hit(state, Full::PendingLogins, None);
        }
        Ok(())
    }

    /// Its player has proven who it is: it is never asked to leave from now on. If it has been in this very moment, that
    /// is void.
    pub fn proven(&self) {
        let mut state = self.waiting.gate.state();
        self.waiting.leave_queues(&mut state);
        self.waiting.exit.stage.store(Exit::PROVEN, Ordering::Release);
    }

    /// Returns once the connection has to leave, to make room, and says under which limit. For the connection's own task.
    pub async fn asked_to_leave(&self) -> Full {
        let exit = &self.waiting.exit;
        while exit.stage() != Exit::ASKED {
            exit.asked.notified().await;
        }
        exit.limit.get().copied().unwrap_or(Full::Connections)
    }

    /// What stays of it for as long as its player is in.
    pub fn into_held(self) -> Held {
        self.proven();
        self.held
    }
}

impl Waiting {
    fn leave_queues(&self, state: &mut State) {
        match self.exit.stage() {
            Exit::WAITING => {
                state.unproven.remove(self.serial);
                state.pending.remove(self.serial);
            }
            Exit::ASKED => {
                state.leaving -= 1;
                if let Some(client) = self.exit.client.get().and_then(|client| state.clients.get_mut(client))
                {
                    client.leaving -= 1;
                }
            }
            _ => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave_queues(&mut self.gate.state());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.open -= 1;
        if let Some(client) = self.exit.client.get()
            && let Entry::Occupied(mut place) = state.clients.entry(*client)
        {
            place.get_mut().open -= 1;
            if place.get().open == 0 {
                place.remove();
            }
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.0.state().limits).finish()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.exit.client.get()).finish()
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiting").field(&self.serial).finish()
    }
}

#[cfg(test)]
mod tests;
