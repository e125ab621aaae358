//! Look-ups by a web provider: few at once, one for all who ask about an address, answers kept for a while.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::{
    cache::{Cache, Key},
    metrics::{Lookup, Metrics},
    provider::{LookupError, Provider},
};
use crate::{place::Place, task};

/// Questions that the provider is asked at once. It is a stranger's service, often a free one.
const AT_ONCE: usize = 6;

/// Look-ups that may wait for their turn. A provider that takes half a second answers as many within 5 s; a longer row
/// would wait in vain.
const WAITING: usize = 64;

/// For how long nothing is asked after the provider said "too often" without saying until when: the free services count
/// by the minute.
const PAUSE: Duration = Duration::from_mins(1);

/// The shortest and the longest such time that is believed.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// How often the log says that look-ups fail; what fails in between is told at debug level.
const TELL_EVERY: Duration = Duration::from_mins(10);

type Asked = Pin<Box<dyn Future<Output = Result<Place, LookupError>> + Send>>;

/// Puts the question about one address.
type Ask = Box<dyn Fn(IpAddr) -> Asked + Send + Sync>;

/// The handle on all look-ups of one provider.
#[derive(Clone, Debug)]
pub(super) struct Web(Arc<Shared>);

struct Shared {
    ask: Ask,
    /// Longest time for one look-up, the wait for its turn included.
    timeout: Duration,
    /// These two are common to all that ask the same provider.
    turns: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    cache: Cache,
    /// Look-ups under way, each with those who wait for it. Apart from the cache, which may be full.
    under_way: HashMap<Key, watch::Receiver<Progress>>,
    /// The provider is not asked before.
    paused_until: Option<Instant>,
    /// When the log last said that look-ups fail.
    told: Option<Instant>,
}

fn asker(provider: Provider) -> Ask {
    let provider = Arc::new(provider);
    Box::new(move |address| {
        let provider = Arc::clone(&provider);
        Box::pin(async move { provider.look_up(address).await })
    })
}

/// How far a look-up is.
#[derive(Clone, Copy, Debug)]
enum Progress {
    UnderWay,
    Over(Option<Place>),
}

/// What becomes of a question at first.
enum Begun {
    Known(Option<Place>),
    UnderWay(watch::Receiver<Progress>),
}

/// Why there is no answer.
#[derive(Debug)]
enum Nothing {
    /// Its turn did not come in time, or nobody is asked for now. It says nothing about the address.
    NotAsked,
    /// The provider was asked in vain.
    Failed(LookupError),
    /// It did not answer within what the wait for the turn had left, which was too little to hold it against it.
    Late,
}

impl Web {
    /// Asks `provider`; each look-up takes at most `timeout`, and its answer is kept for `cache_ttl`.
    pub(super) fn new(provider: Provider, timeout: Duration, cache_ttl: Duration, metrics: Metrics) -> Self {
        Self::asking(asker(provider), timeout, cache_ttl, metrics)
    }

    fn asking(ask: Ask, timeout: Duration, cache_ttl: Duration, metrics: Metrics) -> Self {
        let state =
            State { cache: Cache::new(cache_ttl), under_way: HashMap::new(), paused_until: None, told: None };
        let (turns, state) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Mutex::new(state)));
        Self(Arc::new(Shared { ask, timeout, turns, state, metrics }))
    }

    /// Asks the same provider with another time limit. Answers, turns and pauses are common to both.
    pub(super) fn successor(&self, provider: Provider, timeout: Duration) -> Self {
        let (turns, state) = (Arc::clone(&self.0.turns), Arc::clone(&self.0.state));
        let (ask, metrics) = (asker(provider), self.0.metrics.clone());
        Self(Arc::new(Shared { ask, timeout, turns, state, metrics }))
    }

    /// Answers are kept for so long from now on; those that are kept already for no longer.
    pub(super) fn keep_for(&self, cache_ttl: Duration) {
        self.0.state().cache.keep_for(cache_ttl, Instant::now());
    }

    /// What an earlier look-up has found out, while it is kept.
    pub(super) fn at_hand(&self, address: IpAddr) -> Option<Place> {
        self.0.state().cache.find(Key::of(address), Instant::now()).flatten()
    }

    /// Whether it is kept what was found out, be it nothing.
    #[cfg(test)]
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.0.state().cache.find(Key::of(address), Instant::now()).is_some()
    }

    /// Asks, unless the answer is kept or somebody else asks already. Whoever loses patience takes nothing from the
    /// others who wait.
    pub(super) async fn look_up(&self, address: IpAddr) -> Option<Place> {
        let mut progress = match self.begin(address) {
            Begun::Known(answer) => return answer,
            Begun::UnderWay(progress) => progress,
        };
        let over = progress.wait_for(|progress| matches!(progress, Progress::Over(_))).await;
        match over.as_deref() {
            Ok(Progress::Over(answer)) => *answer,
            // The task that asked is gone.
            Ok(Progress::UnderWay) | Err(_) => None,
        }
    }

    fn begin(&self, address: IpAddr) -> Begun {
        let key = Key::of(address);
        let now = Instant::now();
        let mut state = self.0.state();
        let metrics = &self.0.metrics;
        if let Some(answer) = state.cache.find(key, now) {
            metrics.looked_up(Lookup::Cached);
            return Begun::Known(answer);
        }
        if let Some(progress) = state.under_way.get(&key) {
            metrics.looked_up(Lookup::Shared);
            return Begun::UnderWay(progress.clone());
        }
        if state.is_paused(now) {
            metrics.looked_up(Lookup::Throttled);
            return Begun::Known(None);
        }
        if state.under_way.len() >= AT_ONCE + WAITING {
            metrics.looked_up(Lookup::Busy);
            debug!(%address, "not looked up: too many look-ups are waiting for the geo provider");
            return Begun::Known(None);
        }
        let (teller, progress) = watch::channel(Progress::UnderWay);
        state.under_way.insert(key, progress.clone());
        drop(state);
        let question = Question { shared: Arc::clone(&self.0), key, address, teller };
        task::spawn("geo look-up", question.ask(now + self.0.timeout));
        Begun::UnderWay(progress)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_in_turn(&self, address: IpAddr, deadline: Instant) -> Result<Place, Nothing> {
        let turn = timeout_at(deadline, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Nothing::NotAsked) };
        let begun = Instant::now();
        if self.state().is_paused(begun) {
            return Err(Nothing::NotAsked);
        }
        match timeout_at(deadline, (self.ask)(address)).await {
            Ok(answer) => answer.map_err(Nothing::Failed),
            Err(_) if deadline.duration_since(begun) < self.timeout / 2 => Err(Nothing::Late),
            Err(_) => Err(Nothing::Failed(LookupError::TimedOut)),
        }
    }
}

impl State {
    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Draws what follows from a failure for other look-ups, and tells the owner of it, though not of each.
    fn note_failure(&mut self, address: IpAddr, error: &LookupError, now: Instant) {
        let tell = self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if tell {
            self.told = Some(now);
        }
        if let LookupError::Throttled { wait, .. } = error {
            let pause = wait.unwrap_or(PAUSE).clamp(MIN_PAUSE, MAX_PAUSE);
            // Questions that were put at the same time are answered alike.
            self.paused_until = self.paused_until.max(Some(now + pause));
            let seconds = pause.as_secs();
            if tell {
                warn!(%error, seconds, "the geo provider is asked too often; new addresses count as unknown for so long");
            } else {
                debug!(%error, seconds, "the geo provider is asked too often");
            }
        } else if tell {
            warn!(%address, %error, "an address could not be looked up; `postern doctor` says more");
        } else {
            debug!(%address, %error, "an address could not be looked up");
        }
    }
}

/// One look-up under way. Dropping it, in whatever way the task ends, takes it off the list and wakes who waits.
struct Question {
    shared: Arc<Shared>,
    key: Key,
    address: IpAddr,
    teller: watch::Sender<Progress>,
}

impl Question {
    async fn ask(self, deadline: Instant) {
        let found = self.shared.ask_in_turn(self.address, deadline).await;
        self.shared.metrics.looked_up(match &found {
            Ok(_) => Lookup::Found,
            Err(Nothing::Failed(LookupError::Throttled { .. })) => Lookup::Throttled,
            Err(Nothing::Failed(_)) => Lookup::Failed,
            Err(Nothing::NotAsked | Nothing::Late) => Lookup::Busy,
        });
        let now = Instant::now();
        let mut state = self.shared.state();
        match &found {
            Ok(place) => state.cache.keep(self.key, Some(*place), now),
            Err(Nothing::Failed(error)) => {
                state.note_failure(self.address, error, now);
                // What was not answered for being one too many is no answer about this address.
                if !matches!(error, LookupError::Throttled { .. }) {
                    state.cache.keep(self.key, None, now);
                }
            }
            Err(Nothing::NotAsked | Nothing::Late) => {
                debug!(address = %self.address, "not looked up in time: the geo provider is busy");
            }
        }
        // In one step with the answer being kept: in between, nobody asks again.
        state.under_way.remove(&self.key);
        drop(state);
        self.teller.send_replace(Progress::Over(found.ok()));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        // Another question about the address may be under way since this one was answered.
        if state.under_way.get(&self.key).is_some_and(|other| other.same_channel(&self.teller.subscribe())) {
            state.under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
