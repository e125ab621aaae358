//! Which backends a virtual host leads to, and in which order they are tried.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Backend, Config, ForwardingMode,
    connect::{Connected, Miss, Patience, Unreached, reach},
    metrics::Metrics,
    standing::{Standing, Trial, Turn},
};
use crate::protocol::version::{Dialect, ModernForwarding};

/// What a login that is not held up by its client has for its search, and more.
const SEARCH_TIME: Duration = Duration::from_secs(16);

/// One of the configured routes. There are as many as forced hosts, plus the default one: a client cannot make more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

/// Finds the backends for a virtual host, and remembers which of them failed a moment ago.
#[derive(Debug)]
pub struct Router {
    /// In the order of the configuration.
    backends: Vec<Known>,
    /// The default route, then one for each forced host.
    routes: Vec<Route>,
    exact: HashMap<String, RouteId>,
    /// `.example.com` for `*.example.com`, the longest first.
    suffixes: Vec<(String, RouteId)>,
    connect_timeout: Duration,
    metrics: Metrics,
}

/// A backend, and how its last tries went.
#[derive(Debug)]
struct Known {
    backend: Arc<Backend>,
    /// Shared with the routers before and after this one, where they have the same backend.
    standing: Arc<Mutex<Standing>>,
}

impl Known {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Route {
    /// The forced host, if it is not a pattern.
    host: Option<String>,
    backends: Vec<usize>,
    /// How the backend compresses that last let a player in; `None` until one did. Shared with the routers before and
    /// after this one, where they have the same route.
    compression: Arc<Mutex<Option<Compression>>>,
}

/// From how many bytes on a backend compresses; `None` is never.
#[derive(Clone, Copy, Debug)]
struct Compression(Option<usize>);

impl Route {
    fn new(host: Option<String>, backends: Vec<usize>) -> Self {
        Self { host, backends, compression: Arc::default() }
    }
}

impl Router {
    /// A router over validated configuration. Indices that point nowhere lead nowhere.
    pub fn new(config: Config) -> Self {
        let mut routes = vec![Route::new(None, config.try_order)];
        let (mut exact, mut suffixes) = (HashMap::new(), Vec::new());
        for (pattern, backends) in config.forced_hosts {
            let id = RouteId(routes.len());
            let suffix = pattern.strip_prefix('*').filter(|rest| rest.starts_with('.')).map(str::to_owned);
            routes.push(Route::new(suffix.is_none().then(|| pattern.clone()), backends));
            match suffix {
                Some(suffix) => suffixes.push((suffix, id)),
                None => {
                    exact.insert(pattern, id);
                }
            }
        }
        suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let known =
            |backend| Known { backend: Arc::new(backend), standing: Arc::new(Mutex::new(Standing::new())) };
        let backends = config.backends.into_iter().map(known).collect();
        let (connect_timeout, metrics) = (config.connect_timeout, Metrics::default());
        Self { backends, routes, exact, suffixes, connect_timeout, metrics }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A router over another validated configuration, for logins that begin from now on. What is known of a backend is
    /// common to both where nothing but its secret differs: also what logins on the old one find out yet. Likewise the
    /// compression of a route that leads to the same backends.
    #[must_use]
    pub fn successor(&self, config: Config) -> Self {
        let mut successor = Self::new(config);
        successor.metrics = self.metrics.clone();
        for known in &self.backends {
            let is_same = |other: &&mut Known| known.backend.is_same_but_secret(&other.backend);
            if let Some(other) = successor.backends.iter_mut().find(is_same) {
                other.standing = Arc::clone(&known.standing);
            }
        }
        let patterns: Vec<(String, RouteId)> = self.patterns().collect();
        let kept: Vec<(RouteId, RouteId)> = successor
            .patterns()
            .filter_map(|(pattern, id)| {
                let (_, before) = patterns.iter().find(|(other, _)| *other == pattern)?;
                successor.leads_as(id, self, *before).then_some((id, *before))
            })
            .collect();
        for (id, before) in kept {
            if let (Some(route), Some(before)) = (successor.routes.get_mut(id.0), self.routes.get(before.0)) {
                route.compression = Arc::clone(&before.compression);
            }
        }
        successor
    }

    /// All routes, each with what tells it from the others.
    fn patterns(&self) -> impl Iterator<Item = (String, RouteId)> {
        let exact = self.exact.iter().map(|(host, id)| (host.clone(), *id));
        let suffixes = self.suffixes.iter().map(|(suffix, id)| (format!("*{suffix}"), *id));
        exact.chain(suffixes).chain([(String::new(), RouteId(0))])
    }

    /// Whether a route leads to the same backends in the same order as a route of another router.
    fn leads_as(&self, route: RouteId, other: &Self, others: RouteId) -> bool {
        let standings = |router: &Self, route: RouteId| -> Vec<Arc<Mutex<Standing>>> {
            let indices =
                router.routes.get(route.0).map(|route| route.backends.as_slice()).unwrap_or_default();
            let known = indices.iter().filter_map(|index| router.backends.get(*index));
            known.map(|known| Arc::clone(&known.standing)).collect()
        };
        let (here, there) = (standings(self, route), standings(other, others));
        here.len() == there.len() && here.iter().zip(&there).all(|(one, other)| Arc::ptr_eq(one, other))
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

    /// Whether this virtual host, in lower case, leads only to backends that need a newer client.
    pub fn needs_newer_client(&self, route_key: &str, dialect: &Dialect) -> bool {
        self.search_for(self.route(route_key), dialect).len() == 0
    }

    /// Whether the first backend of this virtual host, in lower case, is told of no identity, and so makes ids of its own.
    pub fn makes_own_ids(&self, route_key: &str) -> bool {
        let first = self.routes.get(self.route(route_key).0).and_then(|route| route.backends.first());
        let backend = first.and_then(|index| self.backends.get(*index));
        backend.is_some_and(|known| known.backend.forwarding == ForwardingMode::None)
    }

    /// The compression threshold of the backend that last let in a player of this virtual host, in lower case: the next
    /// one's is most likely the same. `otherwise` if nobody was let in yet. `None` is no compression.
    pub fn last_threshold(&self, route_key: &str, otherwise: Option<usize>) -> Option<usize> {
        let route = self.routes.get(self.route(route_key).0);
        let last = route.and_then(|route| *route.compression.lock().unwrap_or_else(PoisonError::into_inner));
        last.map_or(otherwise, |Compression(threshold)| threshold)
    }

    /// Notes with which compression threshold a player was let in.
    pub(super) fn note_threshold(&self, route: RouteId, threshold: Option<usize>) {
        if let Some(route) = self.routes.get(route.0) {
            let last = Some(Compression(threshold));
            *route.compression.lock().unwrap_or_else(PoisonError::into_inner) = last;
        }
    }

    /// The backends of a route, each to be tried when it is asked for. Those that failed a moment ago come last.
    pub fn search(&self, route: RouteId) -> Search<'_> {
        self.search_among(route, |_| true)
    }

    /// The same for a player of this dialect: the backends that it can enter. Without login plugin requests there is
    /// no modern forwarding.
    pub fn search_for(&self, route: RouteId, dialect: &Dialect) -> Search<'_> {
        let modern = dialect.modern_forwarding != ModernForwarding::Absent;
        self.search_among(route, |backend| modern || backend.forwarding != ForwardingMode::Modern)
    }

    fn search_among(&self, route: RouteId, admits: impl Fn(&Backend) -> bool) -> Search<'_> {
        let mut left = self.routes.get(route.0).map(|route| route.backends.clone()).unwrap_or_default();
        left.retain(|index| self.backends.get(*index).is_some_and(|known| admits(&known.backend)));
        let share = SEARCH_TIME / u32::try_from(left.len().max(1)).unwrap_or(u32::MAX);
        Search { router: self, full_wait: self.connect_timeout.min(share), left }
    }

    /// The forced host that this route is for; `None` for patterns and the default route.
    pub fn host_of(&self, route: RouteId) -> Option<&str> {
        self.routes.get(route.0)?.host.as_deref()
    }

    /// Longest wait for a TCP connection.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

/// The way along a route. Who comes next is decided when it is asked for: by then others may have found out more.
#[derive(Debug)]
pub struct Search<'r> {
    router: &'r Router,
    /// In the order of the configuration.
    left: Vec<usize>,
    /// How long a backend has to be waited for until its silence counts.
    full_wait: Duration,
}

impl<'r> Iterator for Search<'r> {
    type Item = Try<'r>;

    /// The next backend to try: the first in its place that is ready or that nobody else is trying after its rest, and
    /// when there are none of these, the rest in order.
    fn next(&mut self) -> Option<Try<'r>> {
        let router = self.router;
        let backends = &router.backends;
        // Indices that point nowhere lead nowhere.
        self.left.retain(|index| *index < backends.len());
        let now = Instant::now();
        let mut trial = None;
        let in_place = self.left.iter().position(|index| {
            match backends.get(*index).map(|known| known.standing().claim(now)) {
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
        Some(Try { router, index, backend, trial, begun: now, full_wait: self.full_wait })
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
    /// When it began, or last went well.
    begun: Instant,
    full_wait: Duration,
}

impl Try<'_> {
    /// The backend.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Connects within `time`, or less if the configuration gives less. If that shows that the backend is not there,
    /// it rests. A wait shorter than the connect timeout shows nothing, unless that is all that the number of backends
    /// leaves to each; nor does a fault of this machine.
    ///
    /// # Errors
    /// [`Miss::TimedOut`] says that the wait was too short to tell; after a full one it is [`Miss::Failed`].
    pub async fn connect(&mut self, client: Option<IpAddr>, time: Duration) -> Result<Connected, Unreached> {
        let start = Instant::now();
        let usual = Patience::from(self.router.connect_timeout);
        let patience = Patience { each: usual.each.min(time), all: usual.all.min(time) };
        let mut found = reach(&self.backend, client, patience).await;
        if let Err(unreached) = &mut found {
            if unreached.miss == Miss::TimedOut && start.elapsed() >= self.full_wait {
                unreached.miss = Miss::Failed;
            }
            if unreached.miss == Miss::Failed {
                self.failed();
            }
        }
        found
    }

    /// It could not be reached, or says nothing: it rests.
    pub fn failed(&mut self) {
        let (begun, trial) = (self.begun, self.trial.take());
        self.note(|standing, now| standing.failed(now, begun, trial));
    }

    /// It is there: whatever failed before is forgotten.
    pub fn reached(&mut self) {
        self.trial = None;
        self.note(Standing::reached);
        // Not before what was noted: what follows is a try of its own, which may fail.
        self.begun = Instant::now();
    }

    /// It answered the server list. Servers of which the game itself hangs still do that: it shows that the backend is not
    /// gone, but whether a rest is over, a login has to show.
    pub fn answered(&mut self) {
        self.note(Standing::answered);
    }

    /// It took the connection and hung up without a word, as whatever stands before a stopped server does. But a player
    /// may have given it a reason: if it spoke to others a moment ago, this says nothing.
    pub fn hung_up(&mut self) {
        let (begun, trial) = (self.begun, self.trial);
        self.note(|standing, now| {
            if !standing.was_heard_lately(now) {
                standing.failed(now, begun, trial);
            }
        });
    }

    /// Nothing was heard within a time that may have been short. That ends a trial; else it says nothing.
    pub fn silent(&mut self) {
        if self.trial.is_some() {
            self.failed();
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing, Instant)) {
        if let Some(known) = self.router.backends.get(self.index) {
            change(&mut known.standing(), Instant::now());
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if let Some(trial) = self.trial {
            self.note(|standing, now| standing.give_up(trial, now));
        }
    }
}

#[cfg(test)]
impl Router {
    /// The names of the default route's backends, in the order in which they would be tried now.
    pub(crate) fn line_up(&self) -> Vec<String> {
        names(self.search(RouteId(0)))
    }
}

/// The names along a route, each tried without a result.
#[cfg(test)]
fn names(search: Search<'_>) -> Vec<String> {
    search.map(|attempt| attempt.backend().name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        backend::{
            Lookup,
            connect::tests::hung,
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
            assert_eq!(names(router.search(router.route(host))), expected, "{host}");
        }
        assert!(!router.makes_own_ids("x.eu.example.com") && !router.makes_own_ids("example.com"));
        assert!(
            Router::new(Config {
                backends: vec![
                    backend("open", ForwardingMode::None),
                    backend("lobby", ForwardingMode::Modern)
                ],
                try_order: vec![0, 1],
                forced_hosts: Vec::new(),
                connect_timeout: Duration::from_secs(5),
            })
            .makes_own_ids("example.com")
        );
        assert_eq!(router.host_of(router.route("play.example.com")), Some("play.example.com"));
        assert_eq!(router.host_of(router.route("other.example.com")), None);
        assert_eq!(router.host_of(router.route("")), None);
    }

    #[test]
    fn old_clients_skip_modern_backends() {
        let router = router();
        let (old, new) = (Dialect::of(ProtocolVersion(340)), Dialect::of(ProtocolVersion(393)));
        assert_eq!(names(router.search_for(RouteId(0), &old)), ["old"]);
        assert_eq!(names(router.search_for(RouteId(0), &new)), ["lobby", "old"]);
        assert!(!router.needs_newer_client("", &old));
        assert!(router.needs_newer_client("play.example.com", &old));
        assert!(!router.needs_newer_client("play.example.com", &new));
        assert!(!router.needs_newer_client("x.eu.example.com", &old));
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_knows_what_is_known_of_backends_that_stay_the_same() {
        let config = |backends: Vec<Backend>| Config {
            try_order: (0..backends.len()).collect(),
            backends,
            forced_hosts: vec![("a.example.com".into(), vec![0]), ("*.example.com".into(), vec![0, 1])],
            connect_timeout: Duration::from_secs(5),
        };
        let with = |name: &str, secret: &str| Backend {
            secret: Some(secret.as_bytes().to_vec().into()),
            ..backend(name, ForwardingMode::Modern)
        };
        let before = Router::new(config(vec![with("a", "one"), with("b", "two"), with("c", "three")]));
        for host in ["a.example.com", "x.example.com", ""] {
            before.note_threshold(before.route(host), Some(64));
        }
        try_next(&before, "a").failed();
        tokio::time::advance(REST).await;
        let trial = try_next(&before, "a");
        try_next(&before, "b").failed();
        // Another secret, another address, nothing else.
        let b = Backend { port: 2, ..with("b", "two") };
        let after = before.successor(config(vec![with("a", "new"), b, with("c", "three")]));
        assert_eq!(
            after.line_up(),
            ["b", "c", "a"],
            "b is another one now, a is on trial with the old router"
        );
        assert_eq!(before.line_up(), ["c", "a", "b"]);
        drop(trial);
        let mut next = try_next(&after, "a");
        assert_eq!(next.backend().secret.as_ref().unwrap().expose_secret(), b"new");
        next.failed();
        drop(next);
        assert_eq!(
            (after.line_up()[0].as_str(), before.line_up()[0].as_str()),
            ("b", "c"),
            "both hear of it"
        );
        for (host, threshold) in [("a.example.com", Some(64)), ("x.example.com", Some(256)), ("", Some(256))]
        {
            assert_eq!(after.last_threshold(host, Some(256)), threshold, "{host}");
        }
        after.note_threshold(after.route("a.example.com"), Some(128));
        assert_eq!(before.last_threshold("a.example.com", None), Some(128));
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
        assert_eq!(router.line_up(), ["old", "lobby"]);
        let mut last = router.search(RouteId(0)).last().unwrap();
        assert_eq!(last.backend().name, "lobby");
        last.reached();
        assert_eq!(router.line_up(), ["lobby", "old"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_alone_tries_a_backend_after_its_rest() {
        let router = router();
        try_next(&router, "lobby").failed();
        tokio::time::advance(REST).await;
        // Whoever only asks who there is does not take the trial.
        assert!(!router.needs_newer_client("", &Dialect::of(ProtocolVersion(774))));
        let mut trial = try_next(&router, "lobby");
        for _ in 0..3 {
            assert_eq!(router.line_up(), ["old", "lobby"]);
        }
        trial.failed();
        drop(trial);
        assert_eq!(router.line_up(), ["old", "lobby"], "it rests again");
        tokio::time::advance(REST).await;
        let mut trial = try_next(&router, "lobby");
        trial.reached();
        assert_eq!(router.line_up(), ["lobby", "old"], "back for all");
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
        assert_eq!(router.line_up(), ["old", "lobby"], "the second one's trial goes on");
        drop(second);
        let mut silent = try_next(&router, "lobby");
        silent.silent();
        drop(silent);
        assert_eq!(router.line_up(), ["old", "lobby"], "silence ends a trial");
        try_next(&router, "old").silent();
        assert_eq!(router.line_up(), ["old", "lobby"], "and else says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_rest_all_are_tried_in_order() {
        let router = router();
        for attempt in router.search(RouteId(0)) {
            let mut attempt = attempt;
            attempt.failed();
        }
        assert_eq!(router.line_up(), ["lobby", "old"]);
        tokio::time::advance(REST).await;
        let (one, another) = (try_next(&router, "lobby"), try_next(&router, "old"));
        assert_eq!(router.line_up(), ["lobby", "old"], "others get the same, only later");
        drop((one, another));
        let mut search = router.search(RouteId(0));
        assert_eq!(search.len(), 2);
        drop(search.next());
        assert_eq!(search.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_up_counts_unless_the_backend_spoke_a_moment_ago() {
        let router = router();
        try_next(&router, "lobby").hung_up();
        assert_eq!(router.line_up(), ["old", "lobby"]);
        tokio::time::advance(REST).await;
        try_next(&router, "lobby").hung_up();
        assert_eq!(router.line_up(), ["old", "lobby"], "it rests again");
        tokio::time::advance(REST).await;
        try_next(&router, "lobby").reached();
        tokio::time::advance(REST / 2).await;
        try_next(&router, "lobby").hung_up();
        assert_eq!(router.line_up(), ["lobby", "old"]);
        tokio::time::advance(REST / 2).await;
        try_next(&router, "lobby").hung_up();
        assert_eq!(router.line_up(), ["old", "lobby"]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_ones_own_success_counts_unless_others_were_heard_since() {
        let router = router();
        let mut early = try_next(&router, "lobby");
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut one = try_next(&router, "lobby");
        one.reached();
        early.failed();
        assert_eq!(router.line_up(), ["lobby", "old"], "a success that is newer than the try");
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut other = try_next(&router, "lobby");
        other.reached();
        one.failed();
        assert_eq!(router.line_up(), ["lobby", "old"], "another was heard since");
        other.failed();
        assert_eq!(router.line_up(), ["old", "lobby"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_full_waits_count() {
        let (_full, _waiting, port) = hung();
        let of = |count: usize| {
            let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let hanging = |name: &&str| Backend { port, ..backend(name, ForwardingMode::None) };
            Router::new(Config {
                backends: names.iter().take(count).map(hanging).collect(),
                try_order: (0..count).collect(),
                forced_hosts: Vec::new(),
                connect_timeout: Duration::from_secs(5),
            })
        };
        // Where many share the time, a full wait is shorter.
        for (count, full) in [(2, 5000), (3, 5000), (4, 4000), (8, 2000)] {
            let router = of(count);
            for _ in 0..3 {
                let mut short = try_next(&router, "a");
                let unreached = short.connect(None, Duration::from_millis(full - 1)).await.unwrap_err();
                assert_eq!((unreached.attempts.len(), unreached.miss), (1, Miss::TimedOut));
            }
            assert_eq!(router.line_up()[0], "a");
            let mut whole = try_next(&router, "a");
            let unreached = whole.connect(None, Duration::from_millis(full)).await.unwrap_err();
            assert_eq!(unreached.miss, Miss::Failed);
            assert_eq!(router.line_up()[0], "b", "{count}");
            // A trial that was cut short is the next one's.
            tokio::time::advance(REST).await;
            let mut short = try_next(&router, "a");
            short.connect(None, Duration::from_millis(100)).await.unwrap_err();
            drop(short);
            assert_eq!(router.line_up()[0], "a", "{count}");
        }
    }
}
