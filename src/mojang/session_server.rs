//! Has-joined calls, every answer put into an outcome class.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::SignedDuration;
use reqwest::{
    Client, ClientBuilder, Response, StatusCode, Url,
    header::{ACCEPT, DATE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    bucket::Bucket,
    classify::{
        Head, LocalFault, MAX_BODY, Oddity, Outcome, OutcomeClass, judge_exception, judge_failure,
        judge_head, judge_profile, parse_date,
    },
    health::Probe,
    metrics::{Asker, CallMetrics},
    names::{FRESH, Found, Noting, Remembering, System},
    reserve::{OwnThreadResolver, Reserve},
};
use crate::{clock::Clock, identity::Username};

/// Has-joined calls under way at once for known players, and as many for unknown ones. At 50 ms each that is 2500
/// logins a second; more wait, then fail.
const IN_FLIGHT: usize = 128;

/// How long a login waits for its call to begin before it is told to try again.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// Idle connections kept to a server that speaks HTTP/1.1 only.
const IDLE_CONNECTIONS: usize = 32;

/// Longest wait for which an answer's Retry-After silences logins.
const LONGEST_HOLD: Duration = Duration::from_mins(2);

/// How often a busy HTTP/2 connection is checked. One dead connection would otherwise fail every login.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A process held up for longer than this may have caused a time-out itself.
const LAG_TOLERANCE: Duration = Duration::from_secs(1);

/// How often a waiting call checks that it is woken on time.
const LAG_CHECK: Duration = Duration::from_millis(250);

/// A flood of failures writes one line per class in this time.
const LOG_GAP: Duration = Duration::from_secs(10);

/// Who a probe asks for. Nobody can have joined with the probe's random server id.
const PROBE_NAME: &str = "PosternProbe";

/// Whether the store knows a player, which decides whom its call may wait behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A session has this name, and this network.
    Known,
    /// Anybody can be this.
    Unknown,
}

/// How the session server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Base URL without a trailing slash; `/session/minecraft/hasJoined` is appended.
    pub base_url: Url,
    /// Longest wait for one has-joined call or probe.
    pub timeout: Duration,
    /// Whether the client address is sent along, so that Mojang compares it with the one that joined.
    pub prevent_client_proxy_connections: bool,
    /// Has-joined calls a minute for players the store does not know; burst as many; 0 is no limit.
    pub unknown_logins_per_minute: u32,
}

/// The session server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not an http or https URL.
    #[error("the session server's URL must begin with https:// or http://")]
    Url,
    /// The HTTP client could not be set up, as a rule because this machine has no CA certificates.
    #[error("the HTTPS client could not be set up (are CA certificates installed?)")]
    Client(#[from] reqwest::Error),
    /// The system gives out no threads.
    #[error("cannot start the threads for name look-ups: {0}")]
    Threads(#[source] io::Error),
}

/// One call, with what an owner wants to know of it besides its outcome.
#[derive(Debug)]
pub struct Examined {
    /// What it came to.
    pub outcome: Outcome,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// By how much this machine's clock is ahead of the answer's Date, to a second; negative if it is behind.
    pub clock_ahead: Option<SignedDuration>,
    /// How long it took, name look-up and handshakes included.
    pub took: Duration,
}

/// The session server, as this proxy sees it.
///
/// Proxy settings in the environment are not followed: whoever sets them could vouch for players.
#[derive(Debug)]
pub struct SessionServer {
    config: Config,
    known: Lane,
    strangers: Lane,
    /// A new connection for every call: a retry must not share the fate of a dead pooled one.
    fresh: Client,
    /// A new connection for every call, and a name look-up of its own for each; logins live on what these find.
    probing: Client,
    /// The full has-joined URL without its query.
    url: Url,
    clock: Clock,
    /// What this machine keeps for probes: one reserve, whatever is asked.
    reserve: Arc<Reserve>,
    unknown: Arc<Bucket>,
    /// Where logins find the server's address.
    found: Found,
    /// What looks names up for probes.
    resolver: Arc<OwnThreadResolver>,
    metrics: CallMetrics,
    /// When each class was last logged, and how many lines were left out since.
    logged: Arc<Mutex<HashMap<OutcomeClass, (Instant, u64)>>>,
}

/// What the logins of one [`Standing`] share: a flood of unknown players fills their own slots, and the streams of
/// their own HTTP/2 connection, and no known player waits behind it.
#[derive(Debug)]
struct Lane {
    /// Pooled connections.
    pooled: Client,
    slots: Arc<Semaphore>,
    /// Until when an answer has asked us not to ask.
    not_before: Arc<Mutex<Option<Instant>>>,
}

impl Lane {
    fn new(config: &Config, slots: Arc<Semaphore>, found: &Found) -> Result<Self, BuildError> {
        let pooled = builder(config.timeout)
            .dns_resolver(Arc::new(Remembering::new(System, found.clone(), FRESH)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(config.timeout)
            .build()?;
        Ok(Self { pooled, slots, not_before: Arc::default() })
    }

    /// What is left of the wait that an answer has asked for. Asking on would make it longer, or a block.
    fn held(&self) -> Option<Duration> {
        let not_before = (*self.not_before.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(not_before.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_HOLD);
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = not_before.max(Some(until));
    }
}

impl SessionServer {
    /// Sets up the HTTP clients; connects to nothing. Reads the clock for Retry-After dates.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let resolver = OwnThreadResolver::start().map_err(BuildError::Threads)?;
        Self::with(config, clock, IN_FLIGHT, resolver)
    }

    fn with(
        config: &Config,
        clock: Clock,
        slots: usize,
        resolver: OwnThreadResolver,
    ) -> Result<Self, BuildError> {
        let slots = [(); 2].map(|()| Arc::new(Semaphore::new(slots)));
        Self::asking(config, clock, slots, Found::default(), Arc::new(resolver))
    }

    /// A server of which nothing is known yet.
    fn asking(
        config: &Config,
        clock: Clock,
        [known, strangers]: [Arc<Semaphore>; 2],
        found: Found,
        resolver: Arc<OwnThreadResolver>,
    ) -> Result<Self, BuildError> {
        // A retry takes no old answer if a new one can be had: the old address may be what failed.
        let looking_up = Arc::new(Remembering::new(System, found.clone(), Duration::ZERO));
        let fresh = builder(config.timeout).pool_max_idle_per_host(0).dns_resolver(looking_up).build()?;
        let noting = Arc::new(Noting::sharing(Arc::clone(&resolver), found.clone()));
        let probing = builder(config.timeout).pool_max_idle_per_host(0).dns_resolver(noting).build()?;
        Ok(Self {
            config: config.clone(),
            known: Lane::new(config, known, &found)?,
            strangers: Lane::new(config, strangers, &found)?,
            fresh,
            probing,
            url: has_joined_url(&config.base_url).ok_or(BuildError::Url)?,
            clock,
            reserve: Arc::new(Reserve::new()),
            unknown: Arc::new(Bucket::new(config.unknown_logins_per_minute)),
            found,
            resolver,
            metrics: CallMetrics::default(),
            logged: Arc::default(),
        })
    }

    /// The session server as another configuration wants it asked; the same if that is no other. Calls under way are left
    /// alone, and limits hold over both: how many at once, the share of unknown players, and at the same server what it
    /// has asked us to wait. Connects to nothing.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn successor(self: &Arc<Self>, config: &Config) -> Result<Arc<Self>, BuildError> {
        if self.config == *config {
            return Ok(Arc::clone(self));
        }
        let slots = [Arc::clone(&self.known.slots), Arc::clone(&self.strangers.slots)];
        let (found, resolver) = (self.found.clone(), Arc::clone(&self.resolver));
        let mut next = Self::asking(config, self.clock.clone(), slots, found, resolver)?;
        next.reserve = Arc::clone(&self.reserve);
        next.metrics = self.metrics.clone();
        next.logged = Arc::clone(&self.logged);
        next.unknown = if self.config.unknown_logins_per_minute == config.unknown_logins_per_minute {
            Arc::clone(&self.unknown)
        } else {
            Arc::new(self.unknown.successor(config.unknown_logins_per_minute))
        };
        if self.config.base_url == config.base_url {
            for (next, before) in [(&mut next.known, &self.known), (&mut next.strangers, &self.strangers)] {
                next.not_before = Arc::clone(&before.not_before);
                if self.config.timeout == config.timeout {
                    // Its connections serve on.
                    next.pooled = before.pooled.clone();
                }
            }
        }
        Ok(Arc::new(next))
    }

    /// One has-joined call, on a pooled connection. Known players never wait behind unknown ones. `client_ip` is sent
    /// only if the configuration says so.
    pub async fn has_joined(
        &self,
        standing: Standing,
        name: &Username,
        server_id_hash: &str,
        client_ip: Option<IpAddr>,
    ) -> Outcome {
        self.login_call(standing, &self.lane(standing).pooled, name, server_id_hash, client_ip).await
    }

    /// The same call once more, on a connection of its own.
    pub(super) async fn has_joined_afresh(
        &self,
        standing: Standing,
        name: &Username,
        hash: &str,
        client_ip: Option<IpAddr>,
    ) -> Outcome {
        self.login_call(standing, &self.fresh, name, hash, client_ip).await
    }

    /// Asks for a player who cannot have joined; `NotJoined` is the healthy answer. It has its own connection, look-up
    /// threads and descriptors, never waits behind logins, and is never `Held`: what one login was told to wait must
    /// not blind the checks. How long they wait after a throttled one is the monitor's business.
    pub async fn probe(&self) -> Outcome {
        let Ok(name) = Username::parse(PROBE_NAME) else { return Outcome::Local(LocalFault::Internal) };
        let Some(server_id) = random_server_id() else { return Outcome::Local(LocalFault::Internal) };
        let released = self.reserve.release();
        let begun = Instant::now();
        let outcome = self.call(&self.probing, &name, &server_id, None).await;
        drop(released);
        self.metrics.called(Asker::Probe, &outcome, begun.elapsed());
        if let Outcome::Throttled { retry_after: Some(wait) } = outcome {
            self.strangers.hold(wait);
        }
        outcome
    }

    /// The same question as a probe, asked once, for a report: nothing is held back, counted or logged.
    pub async fn examine(&self) -> Examined {
        let begun = Instant::now();
        let unasked = |fault| Examined {
            outcome: Outcome::Local(fault),
            status: None,
            clock_ahead: None,
            took: begun.elapsed(),
        };
        let (Ok(name), Some(server_id)) = (Username::parse(PROBE_NAME), random_server_id()) else {
            return unasked(LocalFault::Internal);
        };
        let url = query(&self.url, &name, &server_id, None);
        let before = self.clock.now();
        match self.probing.get(url).send().await {
            Ok(response) => {
                // The server wrote its date between these two moments, most likely in the middle.
                let here = before + self.clock.now().duration_since(before) / 2;
                let date = response.headers().get(DATE).and_then(|date| parse_date(date.to_str().ok()?));
                let status = Some(response.status().as_u16());
                let outcome = judge(response, &name, &self.clock).await;
                let clock_ahead = date.map(|there| here.duration_since(there));
                Examined { outcome, status, clock_ahead, took: begun.elapsed() }
            }
            Err(error) => Examined { outcome: judge_failure(&error, false), ..unasked(LocalFault::Internal) },
        }
    }

    /// [`SessionServer::probe`] as the health monitor wants it.
    pub fn prober(self: &Arc<Self>) -> Probe {
        let server = Arc::clone(self);
        Arc::new(move || {
            let server = Arc::clone(&server);
            Box::pin(async move { server.probe().await })
        })
    }

    /// The share of calls that players unknown to the store may use: take before [`SessionServer::has_joined`].
    /// Throttled answers shrink it by themselves.
    pub fn unknown_logins(&self) -> &Bucket {
        &self.unknown
    }

    /// What is counted of calls.
    pub fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    const fn lane(&self, standing: Standing) -> &Lane {
        match standing {
            Standing::Known => &self.known,
            Standing::Unknown => &self.strangers,
        }
    }

    async fn login_call(
        &self,
        standing: Standing,
        client: &Client,
        name: &Username,
        hash: &str,
        client_ip: Option<IpAddr>,
    ) -> Outcome {
        let begun = Instant::now();
        let lane = self.lane(standing);
        let Ok(Ok(_slot)) = timeout(QUEUE_WAIT, lane.slots.acquire()).await else {
            return self.counted(self.noted(Outcome::Local(LocalFault::QueueFull)), begun);
        };
        if let Some(left) = lane.held() {
            return self.counted(Outcome::Held { left }, begun);
        }
        let outcome = self
            .call(client, name, hash, client_ip.filter(|_| self.config.prevent_client_proxy_connections))
            .await;
        if let Outcome::Throttled { retry_after: Some(wait) } = outcome {
            self.hold(standing, wait);
        }
        self.counted(outcome, begun)
    }

    /// A login's call that began then came to this. Apart, since a future around the call's would be part of every login.
    fn counted(&self, outcome: Outcome, begun: Instant) -> Outcome {
        self.metrics.called(Asker::Login, &outcome, begun.elapsed());
        outcome
    }

    /// Honours a Retry-After that a login's call was answered with. Anybody can be a stranger and draw a limit upon
    /// us, so a stranger's holds strangers only; a known player's shows that known players are limited too.
    fn hold(&self, standing: Standing, wait: Duration) {
        self.strangers.hold(wait);
        if standing == Standing::Known {
            self.known.hold(wait);
        }
    }

    async fn call(&self, client: &Client, name: &Username, hash: &str, client_ip: Option<IpAddr>) -> Outcome {
        let url = query(&self.url, name, hash, client_ip);
        let asked = async {
            match client.get(url).send().await {
                Ok(response) => judge(response, name, &self.clock).await,
                Err(error) => judge_failure(&error, false),
            }
        };
        let (outcome, lag) = watch_lag(asked).await;
        let outcome = match outcome {
            Outcome::Unreachable(why) if !why.is_answered() && lag > LAG_TOLERANCE => {
                Outcome::Local(LocalFault::Lagging)
            }
            other => other,
        };
        self.noted(outcome)
    }

    /// Logs what an owner must hear of, and lets throttling shrink the share of unknown players.
    fn noted(&self, outcome: Outcome) -> Outcome {
        if matches!(outcome, Outcome::Throttled { .. }) {
            self.unknown.throttled();
        }
        if matches!(outcome, Outcome::Verified(_) | Outcome::NotJoined) {
            return outcome;
        }
        let Some(left_out) = self.may_log(outcome.class()) else { return outcome };
        match &outcome {
            Outcome::Throttled { retry_after } => tracing::warn!(
                ?retry_after,
                left_out,
                "the session server limits or blocks this machine's address; this is no outage"
            ),
            Outcome::Unreachable(why) => {
                tracing::info!(%why, left_out, "a call to the session server failed");
            }
            Outcome::Unexpected(oddity) => tracing::warn!(
                status = oddity.status(),
                left_out,
                "the session server's answer makes no sense: {oddity}; check auth.session-server and what stands \
                 between it and this machine"
            ),
            Outcome::Local(fault) => tracing::error!(
                left_out,
                "a call to the session server failed on this machine: {fault}; players are told to try again"
            ),
            Outcome::Verified(_) | Outcome::NotJoined | Outcome::Held { .. } => {}
        }
        outcome
    }

    /// Whether the class may be logged again, and how many lines were left out since it was.
    fn may_log(&self, class: OutcomeClass) -> Option<u64> {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, left_out)) = logged.get_mut(&class)
            && now.duration_since(*at) < LOG_GAP
        {
            *left_out += 1;
            return None;
        }
        Some(logged.insert(class, (now, 0)).map_or(0, |(_, left_out)| left_out))
    }
}

/// What every client of Mojang's services has in common: no redirects, no proxies, no wait beyond `timeout`.
pub(super) fn builder(timeout: Duration) -> ClientBuilder {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Client::builder()
        .user_agent(concat!("Postern/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
}

/// The has-joined URL, below whatever path the base has.
fn has_joined_url(base: &Url) -> Option<Url> {
    url_below(base, &["session", "minecraft", "hasJoined"])
}

/// A URL below whatever path the base has, without the base's query and fragment; `None` if it is not http or https.
pub(super) fn url_below(base: &Url, path: &[&str]) -> Option<Url> {
    if !matches!(base.scheme(), "http" | "https") {
        return None;
    }
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(path);
    Some(url)
}

fn query(url: &Url, name: &Username, hash: &str, client_ip: Option<IpAddr>) -> Url {
    let mut url = url.clone();
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("username", name.as_str()).append_pair("serverId", hash);
    if let Some(ip) = client_ip {
        pairs.append_pair("ip", &ip.to_string());
    }
    drop(pairs);
    url
}

/// 160 random bits in the form of a server id hash.
fn random_server_id() -> Option<String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

async fn judge(response: Response, asked: &Username, clock: &Clock) -> Outcome {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    match judge_head(status.as_u16(), retry_after, clock.now()) {
        Head::Decided(outcome) => outcome,
        Head::Profile => match read_body(response).await {
            Ok(body) => judge_profile(&body, asked),
            Err(outcome) => outcome,
        },
        // An answered 500 stays one, however its body ends.
        Head::Exception => judge_exception(read_body(response).await.ok().as_deref()),
    }
}

/// Reads a body of at most [`MAX_BODY`] bytes, piece by piece: nothing is allocated on the word of a length field.
pub(super) async fn read_body(mut response: Response) -> Result<Vec<u8>, Outcome> {
    debug_assert!(response.status() != StatusCode::NO_CONTENT);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) if body.len() + piece.len() > MAX_BODY => {
                return Err(Outcome::Unexpected(Oddity::TooLong));
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(error) => return Err(judge_failure(&error, true)),
        }
    }
}

/// Runs a call and tells by how much this task was woken late while it waited.
async fn watch_lag<F: Future<Output = Outcome>>(call: F) -> (Outcome, Duration) {
    let mut call = std::pin::pin!(call);
    let mut ticks = interval(LAG_CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worst = Duration::ZERO;
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            outcome = &mut call => return (outcome, worst.max(due.elapsed())),
            _ = ticks.tick() => {
                let now = Instant::now();
                worst = worst.max(now.saturating_duration_since(due));
                due = now + LAG_CHECK;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::mojang::classify::Why;

    fn config(base: &str) -> Config {
        Config {
            base_url: base.parse().unwrap(),
            timeout: Duration::from_secs(5),
            prevent_client_proxy_connections: false,
            unknown_logins_per_minute: 120,
        }
    }

    #[test]
    fn urls() {
        let name = Username::parse("Notch").unwrap();
        let cases = [
            (
                "https://sessionserver.mojang.com",
                "https://sessionserver.mojang.com/session/minecraft/hasJoined",
            ),
            ("https://h/", "https://h/session/minecraft/hasJoined"),
            ("http://h:8080/api/auth/?x=1#y", "http://h:8080/api/auth/session/minecraft/hasJoined"),
        ];
        for (base, want) in cases {
            let url = has_joined_url(&base.parse().unwrap()).unwrap();
            assert_eq!(url.as_str(), want);
            let asked = query(&url, &name, "-4a&ip=1 +", Some("2001:db8::1".parse().unwrap()));
            assert_eq!(asked.query(), Some("username=Notch&serverId=-4a%26ip%3D1+%2B&ip=2001%3Adb8%3A%3A1"));
        }
        assert!(has_joined_url(&"ftp://h".parse().unwrap()).is_none());
        assert!(has_joined_url(&"mailto:x@y".parse().unwrap()).is_none());
    }

    #[test]
    fn server_ids_are_random() {
        let one = random_server_id().unwrap();
        assert_eq!(one.len(), 40);
        assert_ne!(one, random_server_id().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn lag_is_measured_only_when_woken_late() {
        let calm = watch_lag(async {
            sleep(Duration::from_secs(5)).await;
            Outcome::NotJoined
        });
        assert!(calm.await.1 < Duration::from_millis(10));

        let held_up = watch_lag(async {
            sleep(Duration::from_secs(1)).await;
            tokio::time::advance(Duration::from_secs(3)).await;
            Outcome::NotJoined
        });
        assert!(held_up.await.1 > Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_our_own_fault_and_probes_pass_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let resolver = OwnThreadResolver::start().unwrap();
        let server = SessionServer::with(&config(&base), Clock::system(), 1, resolver).unwrap();
        let name = Username::parse("Notch").unwrap();
        let slot = server.known.slots.acquire().await.unwrap();
        let full = Outcome::Local(LocalFault::QueueFull);
        assert_eq!(server.has_joined(Standing::Known, &name, "abc", None).await, full);
        assert_eq!(server.probe().await.class(), OutcomeClass::Unreachable);
        drop(slot);
        assert_eq!(
            server.has_joined(Standing::Known, &name, "abc", None).await.class(),
            OutcomeClass::Unreachable
        );
    }

    #[tokio::test(start_paused = true)]
    async fn known_players_never_wait_behind_unknown_ones() {
        let server = SessionServer::new(&config("http://127.0.0.1:1"), Clock::system()).unwrap();
        let name = Username::parse("Notch").unwrap();
        let flood = server.strangers.slots.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
        let full = Outcome::Local(LocalFault::QueueFull);
        assert_eq!(server.has_joined(Standing::Unknown, &name, "abc", None).await, full);
        assert_eq!(server.has_joined_afresh(Standing::Unknown, &name, "abc", None).await, full);
        let asked = Outcome::Unreachable(Why::Refused);
        assert_eq!(server.has_joined(Standing::Known, &name, "abc", None).await, asked);
        assert_eq!(server.has_joined_afresh(Standing::Known, &name, "abc", None).await, asked);
        drop(flood);
        assert_eq!(server.has_joined(Standing::Unknown, &name, "abc", None).await, asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_holds_logins_for_two_minutes_at_most_and_never_probes() {
        let server = SessionServer::new(&config("http://127.0.0.1:1"), Clock::system()).unwrap();
        let name = Username::parse("Notch").unwrap();
        let (known, unknown) = (Standing::Known, Standing::Unknown);
        let ask = async |standing| server.has_joined(standing, &name, "abc", None).await;
        let held = |seconds| Outcome::Held { left: Duration::from_secs(seconds) };
        let asked = Outcome::Unreachable(Why::Refused);
        server.hold(known, Duration::ZERO);
        assert_eq!(ask(known).await, asked);

        server.hold(unknown, Duration::from_hours(1));
        assert_eq!(ask(unknown).await, held(120));
        assert_eq!(ask(known).await, asked, "a stranger's answer holds strangers only");
        assert_eq!(server.probe().await, asked);

        server.hold(known, Duration::from_mins(1));
        assert_eq!(ask(known).await, held(60));
        assert_eq!(server.has_joined_afresh(known, &name, "abc", None).await, held(60));
        assert_eq!(ask(unknown).await, held(120), "a shorter wait takes nothing back");
        assert_eq!(server.probe().await, asked);

        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(ask(unknown).await, asked);
        server.hold(known, Duration::from_secs(30));
        assert_eq!(ask(unknown).await, held(30), "a known player's answer holds both");
    }

    /// A server that nobody listens as, and a probe whose look-ups fail like this.
    fn without_look_ups(threads: usize, code: i32) -> SessionServer {
        let look_up = move |_: &str| Err(io::Error::from_raw_os_error(code));
        let resolver = OwnThreadResolver::with(threads, look_up).unwrap();
        let config = config("http://localhost:1");
        SessionServer::with(&config, Clock::system(), IN_FLIGHT, resolver).unwrap()
    }

    #[tokio::test]
    async fn a_probe_without_threads_is_our_own_fault() {
        assert_eq!(without_look_ups(0, 0).probe().await, Outcome::Local(LocalFault::LookUps));
        if cfg!(target_os = "linux") {
            let refused = Outcome::Local(LocalFault::System(io::ErrorKind::WouldBlock, Some(11)));
            assert_eq!(without_look_ups(1, 11).probe().await, refused, "EAGAIN");
        }
    }

    #[tokio::test]
    async fn logins_have_no_part_in_the_look_ups_of_probes() {
        let server = without_look_ups(0, 0);
        let name = Username::parse("Notch").unwrap();
        let refused = Outcome::Unreachable(Why::Refused);
        assert_eq!(server.has_joined(Standing::Known, &name, "abc", None).await, refused);
        assert_eq!(server.has_joined_afresh(Standing::Known, &name, "abc", None).await, refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_is_held_to_what_the_one_before_was() {
        let mut other = config("http://127.0.0.1:1");
        let server = Arc::new(SessionServer::new(&other, Clock::system()).unwrap());
        assert!(Arc::ptr_eq(&server, &server.successor(&other).unwrap()), "nothing to change");
        let name = Username::parse("Notch").unwrap();
        server.hold(Standing::Known, Duration::from_mins(1));
        assert!((0..120).all(|_| server.unknown_logins().try_take()));
        other.timeout = Duration::from_secs(1);
        let same_server = server.successor(&other).unwrap();
        assert!(!same_server.unknown_logins().try_take(), "no reload buys more calls");
        let held = Outcome::Held { left: Duration::from_mins(1) };
        assert_eq!(same_server.has_joined(Standing::Known, &name, "abc", None).await, held);

        // Another server has asked for no wait, and has another share; the places for calls are the same.
        other.base_url = "http://localhost:1".parse().unwrap();
        other.unknown_logins_per_minute = 60;
        let elsewhere = same_server.successor(&other).unwrap();
        assert!(!elsewhere.unknown_logins().try_take());
        let asked = Outcome::Unreachable(Why::Refused);
        assert_eq!(elsewhere.has_joined(Standing::Known, &name, "abc", None).await, asked);
        let _busy = server.known.slots.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
        let full = Outcome::Local(LocalFault::QueueFull);
        assert_eq!(elsewhere.has_joined(Standing::Known, &name, "abc", None).await, full);
        elsewhere.may_log(OutcomeClass::Unexpected).unwrap();
        assert_eq!(server.may_log(OutcomeClass::Unexpected), None);
        other.base_url = "ftp://localhost".parse().unwrap();
        assert!(matches!(server.successor(&other), Err(BuildError::Url)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_per_class_and_gap() {
        let server = SessionServer::new(&config("http://127.0.0.1:1"), Clock::system()).unwrap();
        assert_eq!(server.may_log(OutcomeClass::Local), Some(0));
        assert_eq!(server.may_log(OutcomeClass::Local), None);
        assert_eq!(server.may_log(OutcomeClass::Local), None);
        assert_eq!(server.may_log(OutcomeClass::Unexpected), Some(0));
        tokio::time::advance(LOG_GAP).await;
        assert_eq!(server.may_log(OutcomeClass::Local), Some(2));
    }
}
