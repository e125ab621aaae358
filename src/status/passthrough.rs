//! The backends' own answers: asked for once, shown to all for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    backend::{
        connect::{Connected, Miss},
        ping,
        route::{RouteId, Router, Try},
    },
    net::conn::{Conn, ConnError},
    protocol::{
        status::AnswerFrame,
        version::{Dialect, ProtocolVersion},
    },
    task,
};

/// Most answers kept, besides one for each route. Keys are configured routes times known releases, so clients cannot
/// make more of them; this bounds a configuration of very many forced hosts.
const MAX_ANSWERS: usize = 1024;

/// A backend's answer; `None` if no backend of the route gave one.
pub type BackendAnswer = Option<Arc<Shown>>;

/// An answer as it is shown until it is asked for anew.
#[derive(Debug)]
pub struct Shown {
    /// Byte for byte the backend's.
    pub plain: Arc<AnswerFrame>,
    /// The same with the outage notice, once somebody was to be shown it.
    pub noticed: OnceLock<Arc<AnswerFrame>>,
}

/// What is asked: the route, and the release whose answer the client gets. Numbers not known here share one.
type Key = (RouteId, ProtocolVersion);

type Answers = HashMap<Key, watch::Receiver<State>>;

#[derive(Clone, Debug)]
enum State {
    Asking,
    Known { at: Instant, answer: BackendAnswer },
}

/// Asks backends on behalf of all clients: one question at a time for each key, its answer shown again for a while.
#[derive(Debug)]
pub struct Passthrough {
    router: Arc<Router>,
    cache: Duration,
    answers: Mutex<Answers>,
}

impl Passthrough {
    /// Answers are shown again for `cache`.
    pub fn new(router: Arc<Router>, cache: Duration) -> Self {
        Self { router, cache, answers: Mutex::default() }
    }

    /// The answer of the first backend on the way of this host that gives one. Takes at most the router's connect
    /// timeout. A route without an answer is not asked again for a while either.
    pub async fn ask(&self, route_key: &str, dialect: &Dialect) -> BackendAnswer {
        let mut answer = self.pending((self.router.route(route_key), dialect.release()));
        match answer.wait_for(|state| matches!(state, State::Known { .. })).await.as_deref() {
            Ok(State::Known { answer, .. }) => answer.clone(),
            // The task that asked has died.
            Ok(State::Asking) | Err(_) => None,
        }
    }

    /// The answer under way or still fresh, else a new question. A task of its own asks, so that the client that came
    /// first may leave without harm to those that wait with it.
    fn pending(&self, key: Key) -> watch::Receiver<State> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let usable =
            |answers: &Answers, key| answers.get(&key).filter(|known| self.is_usable(known)).cloned();
        if let Some(known) = usable(&answers, key) {
            return known;
        }
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, known| self.is_usable(known));
        }
        // With every place taken by a fresh answer, all releases get the newest one's: asking without keeping the
        // answer would let clients ask backends as often as they like.
        let key = if answers.len() < MAX_ANSWERS { key } else { (key.0, Dialect::newest().release()) };
        if let Some(known) = usable(&answers, key) {
            return known;
        }
        let (sender, receiver) = watch::channel(State::Asking);
        answers.insert(key, receiver.clone());
        drop(answers);
        let router = Arc::clone(&self.router);
        task::spawn("status question", async move {
            let answer = ask_along(&router, key).await;
            sender.send_replace(State::Known { at: Instant::now(), answer });
        });
        receiver
    }

    fn is_usable(&self, known: &watch::Receiver<State>) -> bool {
        match &*known.borrow() {
            State::Asking => known.has_changed().is_ok(),
            State::Known { at, .. } => at.elapsed() < self.cache,
        }
    }
}

/// Asks the backends of a route in turn. Each gets its share of the time, so that one that hangs leaves some to the
/// next.
async fn ask_along(router: &Router, (route, release): Key) -> BackendAnswer {
    let end = Instant::now() + router.connect_timeout();
    let mut search = router.search(route);
    while let Some(mut attempt) = search.next() {
        let left = u32::try_from(search.len()).unwrap_or(u32::MAX - 1);
        let share = end.saturating_duration_since(Instant::now()) / (left + 1);
        if let Some(answer) = ask_one(router.host_of(route), &mut attempt, release, share).await {
            return Some(answer);
        }
    }
    None
}

/// Asks one backend, by this host or by the name it was found under: the answer is shown to everyone on this route, so
/// nothing in the question comes from one client.
async fn ask_one(
    host: Option<&str>,
    attempt: &mut Try<'_>,
    release: ProtocolVersion,
    share: Duration,
) -> BackendAnswer {
    let end = Instant::now() + share;
    let Connected { stream, target } = match attempt.connect(None, share).await {
        Ok(connected) => connected,
        Err(unreached) => {
            if unreached.miss == Miss::TimedOut {
                attempt.silent();
            }
            return None;
        }
    };
    let asked = ping::ask(Conn::new(stream), host.unwrap_or(&target.host), target.port, release);
    let Ok(answer) = timeout_at(end, asked).await else {
        attempt.silent();
        return None;
    };
    match &answer {
        // Some servers are set to give no status, and what stands before a stopped one hangs up as well.
        Err(ConnError::Closed | ConnError::Cut) => {}
        Err(ConnError::Broken(error)) if error.raw_os_error().is_some() => {}
        _ => attempt.answered(),
    }
    match answer {
        Ok(json) => {
            Some(Arc::new(Shown { plain: Arc::new(AnswerFrame::new(&json)), noticed: OnceLock::new() }))
        }
        Err(error) => {
            tracing::debug!(backend = attempt.backend().name, %error, "no usable status answer");
            None
        }
    }
}
