//! Which backends a virtual host leads to, and in which order they are tried.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{
    Backend, Config, ForwardingMode,
    standing::{Standing, Trial, Turn},
};
use crate::protocol::version::{Dialect, ModernForwarding};

/// One of the configured routes. There are as many as forced hosts, plus the default one: a client cannot make more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

/// Finds the backends for a virtual host, and remembers which of them failed a moment ago.
#[derive(Debug)]
pub struct Router {
    /// In the order of the configuration. One short lock, for what may change: look-ups only.
    backends: Mutex<Vec<Known>>,
    /// The default route, then one for each forced host.
    routes: Vec<Route>,
    exact: HashMap<String, RouteId>,
    /// `.example.com` for `*.example.com`, the longest first.
    suffixes: Vec<(String, RouteId)>,
    connect_timeout: Duration,
}

/// A backend, and how its last tries went.
#[derive(Debug)]
struct Known {
    backend: Arc<Backend>,
    standing: Standing,
}

#[derive(Debug)]
struct Route {
    /// The forced host, if it is not a pattern.
    host: Option<String>,
    backends: Vec<usize>,
}

impl Router {
    /// A router over validated configuration. Indices that point nowhere lead nowhere.
    pub fn new(config: Config) -> Self {
        let mut routes = vec![Route { host: None, backends: config.try_order }];
        let (mut exact, mut suffixes) = (HashMap::new(), Vec::new());
        for (pattern, backends) in config.forced_hosts {
            let id = RouteId(routes.len());
            let suffix = pattern.strip_prefix('*').filter(|rest| rest.starts_with('.')).map(str::to_owned);
            routes.push(Route { host: suffix.is_none().then(|| pattern.clone()), backends });
            match suffix {
                Some(suffix) => suffixes.push((suffix, id)),
                None => {
                    exact.insert(pattern, id);
                }
            }
        }
        suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let known = |backend| Known { backend: Arc::new(backend), standing: Standing::Ready };
        let backends = Mutex::new(config.backends.into_iter().map(known).collect());
        Self { backends, routes, exact, suffixes, connect_timeout: config.connect_timeout }
    }

    /// The route of a virtual host in lower case: its own forced host, else the longest pattern that it ends with
    /// (`*.example.com` does not stand for `example.com`), else the default route.
    pub fn route(&self, route_key: &str) -> RouteId {
        let by_suffix = || {
            let fits = |suffix: &str| route_key.len() > suffix.len() && route_key.ends_with(suffix);
            self.suffixes.iter().find(|(suffix, _)| fits(suffix)).map(|(_, id)| *id)
        };
        self.exact.get(route_key).copied().or_else(by_suffix).unwrap_or(RouteId(0))
    }

    /// The backends for a virtual host in lower case, in the order in which they would be tried now. To try them, use
    /// [`search`](Self::search).
    pub fn candidates(&self, route_key: &str) -> Vec<Arc<Backend>> {
        let now = Instant::now();
        let backends = self.lock();
        let route = self.backends_of(self.route(route_key)).iter().filter_map(|index| backends.get(*index));
        let (last, first): (Vec<_>, Vec<_>) = route.partition(|known| known.standing.is_last(now));
        first.into_iter().chain(last).map(|known| Arc::clone(&known.backend)).collect()
    }

    /// The backends among the candidates that a player of this dialect can enter: without login plugin requests
    /// there is no modern forwarding.
    pub fn candidates_for(&self, route_key: &str, dialect: &Dialect) -> Vec<Arc<Backend>> {
        let mut candidates = self.candidates(route_key);
        candidates.retain(|backend| admits(backend, dialect));
        candidates
    }

    /// Whether this virtual host leads only to backends that need a newer client.
    pub fn needs_newer_client(&self, route_key: &str, dialect: &Dialect) -> bool {
        self.candidates_for(route_key, dialect).is_empty()
    }

    /// The backends of a route, each to be tried when it is asked for. Those that failed a moment ago come last.
    pub fn search(&self, route: RouteId) -> Search<'_> {
        Search { router: self, left: self.backends_of(route).to_vec() }
    }

    /// The same for a player of this dialect: the backends that it can enter.
    pub fn search_for(&self, route: RouteId, dialect: &Dialect) -> Search<'_> {
        let mut search = self.search(route);
        let backends = self.lock();
        search.left.retain(|index| backends.get(*index).is_some_and(|known| admits(&known.backend, dialect)));
        drop(backends);
        search
    }

    /// Takes over the secrets of these backends, told apart by name, for logins that begin from now on. Whatever else
    /// is different is left alone, and so are backends that have no secret here or there. Returns the names of those
    /// whose secret is another now.
    pub fn adopt_secrets(&self, fresh: &[Backend]) -> Vec<String> {
        let mut changed = Vec::new();
        for known in self.lock().iter_mut() {
            let Some(other) = fresh.iter().find(|backend| backend.name == known.backend.name) else {
                continue;
            };
            let (Some(old), Some(new)) = (&known.backend.secret, &other.secret) else { continue };
            if old.expose_secret() != new.expose_secret() {
                let backend = Backend { secret: Some(new.clone()), ..Backend::clone(&known.backend) };
                changed.push(backend.name.clone());
                known.backend = Arc::new(backend);
            }
        }
        changed
    }

    /// The forced host that this route is for; `None` for patterns and the default route.
    pub fn host_of(&self, route: RouteId) -> Option<&str> {
        self.routes.get(route.0)?.host.as_deref()
    }

    /// Longest wait for a TCP connection.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    fn backends_of(&self, route: RouteId) -> &[usize] {
        self.routes.get(route.0).map(|route| route.backends.as_slice()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way along a route. Who comes next is decided when it is asked for: by then others may have found out more.
#[derive(Debug)]
pub struct Search<'r> {
    router: &'r Router,
    /// In the order of the configuration.
    left: Vec<usize>,
}

impl<'r> Iterator for Search<'r> {
    type Item = Try<'r>;

    /// The next backend to try: the first in its place that is ready or that nobody else is trying after its rest, and
    /// when there are none of these, the rest in order.
    fn next(&mut self) -> Option<Try<'r>> {
        let router = self.router;
        let mut backends = router.lock();
        // Indices that point nowhere lead nowhere.
        self.left.retain(|index| *index < backends.len());
        let now = Instant::now();
        let mut trial = None;
        let in_place = self.left.iter().position(|index| {
            match backends.get_mut(*index).map(|known| known.standing.claim(now)) {
                Some(Turn::Open) => true,
                Some(Turn::Trial(taken)) => {
                    trial = Some(taken);
                    true
                }
                Some(Turn::Later) | None => false,
            }
        });
        if self.left.is_empty() {
            return None;
        }
        let index = self.left.remove(in_place.unwrap_or(0));
        let backend = Arc::clone(&backends.get(index)?.backend);
        Some(Try { router, index, backend, trial })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.len(), Some(self.left.len()))
    }
}

impl ExactSizeIterator for Search<'_> {}

/// One try at a backend. Dropped without a result, it leaves the trial, if it was one, to the next.
#[derive(Debug)]
pub struct Try<'r> {
    router: &'r Router,
    index: usize,
    backend: Arc<Backend>,
    trial: Option<Trial>,
}

impl Try<'_> {
    /// The backend.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// It could not be reached, or says nothing: it rests.
    pub fn failed(&mut self) {
        self.trial = None;
        self.note(|standing| standing.failed(Instant::now()));
    }

    /// It is there: whatever failed before is forgotten.
    pub fn reached(&mut self) {
        self.trial = None;
        self.note(Standing::reached);
    }

    /// Nothing was heard within a time that may have been short. That ends a trial; else it says nothing.
    pub fn silent(&mut self) {
        if self.trial.is_some() {
            self.failed();
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(known) = self.router.lock().get_mut(self.index) {
            change(&mut known.standing);
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if let Some(trial) = self.trial {
            self.note(|standing| standing.give_up(trial, Instant::now()));
        }
    }
}

fn admits(backend: &Backend, dialect: &Dialect) -> bool {
    backend.forwarding != ForwardingMode::Modern || dialect.modern_forwarding != ModernForwarding::Absent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{
            Lookup,
            standing::{REST, TRIAL_TIME},
        },
        protocol::version::ProtocolVersion,
    };

    fn backend(name: &str, forwarding: ForwardingMode) -> Backend {
        Backend {
            name: name.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            lookup: Lookup::Host,
            forwarding,
            secret: None,
            send_proxy_protocol: false,
        }
    }

    fn router() -> Router {
        Router::new(Config {
            backends: vec![
                backend("lobby", ForwardingMode::Modern),
                backend("survival", ForwardingMode::Modern),
                backend("old", ForwardingMode::Legacy),
            ],
            try_order: vec![0, 2],
            forced_hosts: vec![
                ("*.example.com".into(), vec![1]),
                ("*.eu.example.com".into(), vec![2]),
                ("play.example.com".into(), vec![1, 0]),
            ],
            connect_timeout: Duration::from_secs(5),
        })
    }

    fn names(backends: &[Arc<Backend>]) -> Vec<String> {
        backends.iter().map(|backend| backend.name.clone()).collect()
    }

    #[test]
    fn forced_hosts_then_patterns_then_the_try_list() {
        let router = router();
        for (host, expected) in [
            ("play.example.com", &["survival", "lobby"][..]),
            ("other.example.com", &["survival"]),
            ("a.b.example.com", &["survival"]),
            ("x.eu.example.com", &["old"]),
            ("eu.example.com", &["survival"]),
            ("example.com", &["lobby", "old"]),
            (".example.com", &["lobby", "old"]),
            ("badexample.com", &["lobby", "old"]),
            ("", &["lobby", "old"]),
            ("203.0.113.7", &["lobby", "old"]),
        ] {
            assert_eq!(names(&router.candidates(host)), expected, "{host}");
        }
        assert_eq!(router.host_of(router.route("play.example.com")), Some("play.example.com"));
        assert_eq!(router.host_of(router.route("other.example.com")), None);
        assert_eq!(router.host_of(router.route("")), None);
    }

    #[test]
    fn old_clients_skip_modern_backends() {
        let router = router();
        let (old, new) = (Dialect::of(ProtocolVersion(340)), Dialect::of(ProtocolVersion(393)));
        assert_eq!(names(&router.candidates_for("", &old)), ["old"]);
        assert_eq!(names(&router.candidates_for("", &new)), ["lobby", "old"]);
        assert!(!router.needs_newer_client("", &old));
        assert!(router.needs_newer_client("play.example.com", &old));
        assert!(!router.needs_newer_client("play.example.com", &new));
        assert!(!router.needs_newer_client("x.eu.example.com", &old));
    }

    #[test]
    fn secrets_are_taken_over_and_nothing_else() {
        let with = |name: &str, forwarding, secret: Option<&str>| Backend {
            secret: secret.map(|secret| secret.as_bytes().to_vec().into()),
            ..backend(name, forwarding)
        };
        let modern = |name, secret| with(name, ForwardingMode::Modern, secret);
        let config = |backends: Vec<Backend>| Config {
            try_order: (0..backends.len()).collect(),
            backends,
            forced_hosts: Vec::new(),
            connect_timeout: Duration::from_secs(5),
        };
        let before = config(vec![
            modern("a", Some("one")),
            modern("b", Some("two")),
            with("c", ForwardingMode::None, None),
            modern("d", Some("four")),
        ]);
        let router = Router::new(before.clone());
        let under_way = router.candidates("");
        router.search(RouteId(0)).next().unwrap().failed();
        let fresh = config(vec![
            Backend { port: 9, ..modern("b", Some("new")) },
            modern("a", Some("one")),
            modern("c", Some("now signed")),
            with("d", ForwardingMode::None, None),
            modern("e", Some("unknown")),
        ]);
        assert_eq!(router.adopt_secrets(&fresh.backends), ["b"]);
        assert_eq!(router.adopt_secrets(&fresh.backends), [""; 0], "it is the same now");
        let secrets = |backends: &[Arc<Backend>]| -> Vec<(String, Option<String>, u16)> {
            let secret = |backend: &Backend| {
                let secret = backend.secret.as_ref()?.expose_secret();
                Some(String::from_utf8(secret.to_vec()).unwrap())
            };
            backends.iter().map(|backend| (backend.name.clone(), secret(backend), backend.port)).collect()
        };
        let entry = |name: &str, secret: Option<&str>| (name.to_owned(), secret.map(str::to_owned), 1);
        let (a, c, d) = (entry("a", Some("one")), entry("c", None), entry("d", Some("four")));
        // What failed before still stands last.
        let now = [entry("b", Some("new")), c.clone(), d.clone(), a.clone()];
        assert_eq!(secrets(&router.candidates("")), now);
        assert_eq!(secrets(&under_way), [a, entry("b", Some("two")), c, d], "logins under way keep theirs");

        let mut other = before.clone();
        other.backends[0].secret = Some(b"another".to_vec().into());
        assert!(before.is_same_but_secrets(&other));
        assert!(!before.is_same_but_secrets(&fresh));
        other.backends[0].secret = None;
        assert!(!before.is_same_but_secrets(&other));
    }

    /// The names along a route, each tried without a result.
    fn line_up(router: &Router) -> Vec<String> {
        router.search(RouteId(0)).map(|attempt| attempt.backend().name.clone()).collect()
    }

    fn try_next<'r>(router: &'r Router, name: &str) -> Try<'r> {
        let attempt = router.search(RouteId(0)).next().unwrap();
        assert_eq!(attempt.backend().name, name);
        attempt
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_just_failed_stands_last_for_a_while() {
        let router = router();
        try_next(&router, "lobby").failed();
        assert_eq!(names(&router.candidates("")), ["old", "lobby"]);
        assert_eq!(line_up(&router), ["old", "lobby"]);
        let mut last = router.search(RouteId(0)).last().unwrap();
        assert_eq!(last.backend().name, "lobby");
        last.reached();
        assert_eq!(names(&router.candidates("")), ["lobby", "old"]);
        assert_eq!(line_up(&router), ["lobby", "old"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_alone_tries_a_backend_after_its_rest() {
        let router = router();
        try_next(&router, "lobby").failed();
        tokio::time::advance(REST).await;
        // Whoever only asks who there is does not take the trial.
        assert_eq!(names(&router.candidates("")), ["lobby", "old"]);
        assert!(!router.needs_newer_client("", &Dialect::of(ProtocolVersion(774))));
        let mut trial = try_next(&router, "lobby");
        for _ in 0..3 {
            assert_eq!(line_up(&router), ["old", "lobby"]);
            assert_eq!(names(&router.candidates("")), ["old", "lobby"]);
        }
        trial.failed();
        drop(trial);
        assert_eq!(line_up(&router), ["old", "lobby"], "it rests again");
        tokio::time::advance(REST).await;
        let mut trial = try_next(&router, "lobby");
        trial.reached();
        assert_eq!(line_up(&router), ["lobby", "old"], "back for all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_comes_to_nothing_is_the_next_ones() {
        let router = router();
        try_next(&router, "lobby").failed();
        tokio::time::advance(REST).await;
        // The player left before the backend answered.
        drop(try_next(&router, "lobby"));
        let late = try_next(&router, "lobby");
        tokio::time::advance(TRIAL_TIME).await;
        let second = try_next(&router, "lobby");
        drop(late);
        assert_eq!(line_up(&router), ["old", "lobby"], "the second one's trial goes on");
        drop(second);
        let mut silent = try_next(&router, "lobby");
        silent.silent();
        drop(silent);
        assert_eq!(line_up(&router), ["old", "lobby"], "silence ends a trial");
        try_next(&router, "old").silent();
        assert_eq!(line_up(&router), ["old", "lobby"], "and else says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_rest_all_are_tried_in_order() {
        let router = router();
        for attempt in router.search(RouteId(0)) {
            let mut attempt = attempt;
            attempt.failed();
        }
        assert_eq!(line_up(&router), ["lobby", "old"]);
        tokio::time::advance(REST).await;
        let (one, another) = (try_next(&router, "lobby"), try_next(&router, "old"));
        assert_eq!(line_up(&router), ["lobby", "old"], "others get the same, only later");
        drop((one, another));
        let mut search = router.search(RouteId(0));
        assert_eq!(search.len(), 2);
        drop(search.next());
        assert_eq!(search.len(), 1);
    }
}
