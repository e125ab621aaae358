//! Which backends a virtual host leads to, and in which order they are tried.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Backend, Config, ForwardingMode};
use crate::protocol::version::{Dialect, ModernForwarding};

/// How long a backend that could not be reached goes to the end of the line: long enough to spare the next players
/// its connect timeout, short enough that it is back soon after a restart.
const COOL_OFF: Duration = Duration::from_secs(10);

/// One of the configured routes. There are as many as forced hosts, plus the default one: a client cannot make more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

/// Finds the backends for a virtual host, and remembers which of them failed a moment ago.
#[derive(Debug)]
pub struct Router {
    backends: Vec<Arc<Backend>>,
    /// The default route, then one for each forced host.
    routes: Vec<Route>,
    exact: HashMap<String, RouteId>,
    /// `.example.com` for `*.example.com`, the longest first.
    suffixes: Vec<(String, RouteId)>,
    connect_timeout: Duration,
    /// When each backend could last not be reached, until it is reached again.
    failed: Mutex<Vec<Option<Instant>>>,
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
        let failed = Mutex::new(vec![None; config.backends.len()]);
        let backends = config.backends.into_iter().map(Arc::new).collect();
        Self { backends, routes, exact, suffixes, connect_timeout: config.connect_timeout, failed }
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

    /// The backends for a virtual host in lower case, in the order to try them. One that just failed stands last.
    pub fn candidates(&self, route_key: &str) -> Vec<Arc<Backend>> {
        self.along(self.route(route_key))
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

    /// The backends of a route, in the order to try them. One that just failed stands last.
    pub fn along(&self, route: RouteId) -> Vec<Arc<Backend>> {
        let indices = self.routes.get(route.0).map(|route| route.backends.as_slice()).unwrap_or_default();
        let (mut ready, mut rested) = (Vec::new(), Vec::new());
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for &index in indices {
            let Some(backend) = self.backends.get(index) else { continue };
            let resting = failed.get(index).copied().flatten().is_some_and(|at| at.elapsed() < COOL_OFF);
            if resting { &mut rested } else { &mut ready }.push(Arc::clone(backend));
        }
        ready.append(&mut rested);
        ready
    }

    /// The forced host that this route is for; `None` for patterns and the default route.
    pub fn host_of(&self, route: RouteId) -> Option<&str> {
        self.routes.get(route.0)?.host.as_deref()
    }

    /// Remembers that a backend could not be reached.
    pub fn failed(&self, backend: &Arc<Backend>) {
        self.note(backend, Some(Instant::now()));
    }

    /// Forgets earlier failures of a backend that was reached.
    pub fn reached(&self, backend: &Arc<Backend>) {
        self.note(backend, None);
    }

    /// Longest wait for a TCP connection.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    fn note(&self, backend: &Arc<Backend>, at: Option<Instant>) {
        let Some(index) = self.backends.iter().position(|known| Arc::ptr_eq(known, backend)) else { return };
        if let Some(slot) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *slot = at;
        }
    }
}

fn admits(backend: &Backend, dialect: &Dialect) -> bool {
    backend.forwarding != ForwardingMode::Modern || dialect.modern_forwarding != ModernForwarding::Absent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Lookup;
    use crate::protocol::version::ProtocolVersion;

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

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_just_failed_stands_last_for_a_while() {
        let router = router();
        let lobby = router.candidates("").remove(0);
        router.failed(&lobby);
        assert_eq!(names(&router.candidates("")), ["old", "lobby"]);
        router.reached(&lobby);
        assert_eq!(names(&router.candidates("")), ["lobby", "old"]);
        router.failed(&lobby);
        tokio::time::advance(COOL_OFF).await;
        assert_eq!(names(&router.candidates("")), ["lobby", "old"]);
    }
}
