//! All hooks: who is told of what, and how it goes.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use reqwest::Client;
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::debug;

use super::{
    BuildError, Hook, Tally, Topic,
    messenger::Messenger,
    post::{self, Post},
    story::Story,
};
use crate::{
    alert::{Alert, AuthState, Outage},
    clock::Clock,
    task::{self, Shutdown, ShutdownTrigger},
};

/// Alerts that may wait for a hook's task, which takes them at once: it waits for nobody.
const WAITING: usize = 256;
/// Places in it that only changes of the verdict get. They are few, and without them a story has no end.
const RESERVED: usize = 16;

/// An alert, and when it came.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) at: Timestamp,
    pub(super) alert: Alert,
    /// Told to a hook that is new: others know it already.
    pub(super) known: bool,
}

/// Tells every hook what it wants to hear. Clones are the same hooks. Needs a runtime.
#[derive(Clone)]
pub struct Webhooks(Arc<Hub>);

struct Hub {
    clock: Clock,
    tally: Tally,
    /// When this run began: an outage that is older was told of by the run before.
    begun: Timestamp,
    state: Mutex<State>,
    totals: Arc<Totals>,
}

#[derive(Default)]
struct State {
    running: Vec<Running>,
    /// The newest word on the outage that is going on.
    going_on: Option<Arc<News>>,
    stopped: bool,
}

/// One hook and its task.
struct Running {
    hook: Hook,
    inbox: mpsc::Sender<Arc<News>>,
    standing: Arc<Standing>,
    stop: ShutdownTrigger,
    task: JoinHandle<()>,
}

/// How one hook does.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Its number in the configuration, from 1: a log names a hook by it.
    pub(super) number: AtomicUsize,
    /// Alerts and messages that the task keeps.
    pub(super) kept: AtomicUsize,
    /// Whether the newest try failed.
    pub(super) failing: AtomicBool,
}

/// Of all hooks since the start.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// How the hooks do, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many there are.
    pub hooks: usize,
    /// Of those, how many whose newest message did not get through.
    pub failing: usize,
    /// Alerts and messages that wait.
    pub queued: usize,
    /// Messages that were taken, since the start.
    pub sent: u64,
    /// Alerts and messages that are lost, since the start: no room, refused by the receiver, or left at the stop.
    pub dropped: u64,
    /// Tries that failed, since the start.
    pub failed: u64,
}

/// Hooks that can be had: see [`Webhooks::prepare`].
pub struct Prepared {
    hooks: Vec<Hook>,
    /// `None` if there is nobody new to ask.
    client: Option<Client>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("hooks", &self.hooks.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhooks({:?})", self.figures())
    }
}

impl Webhooks {
    /// No hooks yet. `tally` knows what became of the logins of an outage.
    pub fn new(clock: Clock, tally: Tally) -> Self {
        let begun = clock.now();
        Self(Arc::new(Hub { clock, tally, begun, state: Mutex::default(), totals: Arc::default() }))
    }

    /// Makes sure that these hooks can be had. Changes nothing, and connects to nothing.
    ///
    /// # Errors
    /// An HTTP client that cannot be set up; never if no hook is new.
    pub fn prepare(&self, hooks: &[Hook]) -> Result<Prepared, BuildError> {
        let any_new = {
            let state = self.0.state();
            hooks.iter().any(|hook| !state.running.iter().any(|running| running.hook == *hook))
        };
        let client = if any_new { Some(post::client()?) } else { None };
        Ok(Prepared { hooks: hooks.to_vec(), client })
    }

    /// From now on these are the hooks. One that was there already keeps what waits for it; one that is gone sends it and
    /// ends.
    pub fn adopt(&self, prepared: Prepared) {
        let Prepared { hooks, client } = prepared;
        let mut state = self.0.state();
        if state.stopped {
            return;
        }
        let mut before = mem::take(&mut state.running);
        for (hook, number) in hooks.into_iter().zip(1..) {
            let running = match before.iter().position(|running| running.hook == hook) {
                Some(place) => before.swap_remove(place),
                None => match &client {
                    Some(client) => {
                        let post = post::to(client.clone(), hook.url.clone(), self.0.clock.clone());
                        self.0.start(hook, post, state.going_on.as_ref())
                    }
                    // What was prepared has changed meanwhile, which whoever adopts one at a time does not do.
                    None => continue,
                },
            };
            running.standing.number.store(number, Ordering::Relaxed);
            state.running.push(running);
        }
        for gone in before {
            debug!(hook = gone.standing.number.load(Ordering::Relaxed), "a webhook was taken out");
            gone.stop.trigger();
        }
    }

    /// Hands an alert to every hook that wants it. Never waits: what does not fit is counted.
    pub fn offer(&self, alert: &Alert) {
        let mut state = self.0.state();
        let is_outage = match alert {
            Alert::AuthState(AuthState { outage, .. }) => *outage,
            _ => None,
        };
        if state.running.is_empty() && is_outage.is_none() {
            return;
        }
        let news = Arc::new(News { at: self.0.clock.now(), alert: alert.clone(), known: false });
        for running in &state.running {
            running.offer(&news, &self.0.totals);
        }
        match is_outage {
            Some(Outage::GoesOn { .. }) => state.going_on = Some(news),
            Some(Outage::Over { .. }) => state.going_on = None,
            None => {}
        }
    }

    /// How the hooks do.
    pub fn figures(&self) -> Figures {
        let state = self.0.state();
        let totals = &self.0.totals;
        let mut figures = Figures {
            hooks: state.running.len(),
            sent: totals.sent.load(Ordering::Relaxed),
            dropped: totals.dropped.load(Ordering::Relaxed),
            failed: totals.failed.load(Ordering::Relaxed),
            ..Figures::default()
        };
        for Running { inbox, standing, .. } in &state.running {
            figures.queued += inbox.max_capacity() - inbox.capacity() + standing.kept.load(Ordering::Relaxed);
            figures.failing += usize::from(standing.failing.load(Ordering::Relaxed));
        }
        figures
    }

    /// Waits for `stop`, then has every hook send what waits, within a few seconds, and ends them all.
    pub async fn run(self, stop: Shutdown) {
        stop.requested().await;
        let running = {
            let mut state = self.0.state();
            state.stopped = true;
            mem::take(&mut state.running)
        };
        for running in &running {
            running.stop.trigger();
        }
        for running in running {
            // A panic has been logged by the task itself.
            let _ = running.task.await;
        }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // A list is whole after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, hook: Hook, post: Post, going_on: Option<&Arc<News>>) -> Running {
        let (inbox, queue) = mpsc::channel(WAITING);
        let standing = Arc::new(Standing::default());
        let (stop, stopping) = Shutdown::new();
        let story =
            Story::new(self.begun, Arc::clone(&self.tally), hook.topics.contains(&Topic::LoginFallback));
        let messenger =
            Messenger::new(hook.format, queue, post, story, Arc::clone(&standing), Arc::clone(&self.totals));
        let task = task::spawn("webhook", messenger.run(stopping));
        let running = Running { hook, inbox, standing, stop, task };
        if let Some(news) = going_on {
            running.offer(&Arc::new(News { known: true, ..(**news).clone() }), &self.totals);
        }
        running
    }
}

impl Running {
    fn offer(&self, news: &Arc<News>, totals: &Totals) {
        let topic = Topic::of(&news.alert);
        if !self.hook.topics.contains(&topic) {
            return;
        }
        let has_room = topic == Topic::AuthState || self.inbox.capacity() > RESERVED;
        if !has_room || self.inbox.try_send(Arc::clone(news)).is_err() {
            totals.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
