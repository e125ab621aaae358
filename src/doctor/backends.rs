//! Examines the backends: can players get there, does the forwarding work, and does it keep strangers out?

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::report::{Area, Finding, Verdict};
use crate::{
    backend::{
        Backend, Fault, ForwardingMode,
        connect::{Connected, connect, look_up},
        diagnose::exposure,
        ping::{self, Answer},
        probe::Approach,
    },
    foreign,
    net::conn::{Conn, ConnError},
    protocol::version::{Dialect, ProtocolVersion},
};

mod logins;

/// How many backends are examined at once.
const AT_ONCE: usize = 4;

/// How long a backend may take for its server list answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long a backend is asked about versions. One that answers takes far less for all of them.
const VERSIONS_TIME: Duration = Duration::from_secs(10);

/// Longest name of a version shown, in characters.
const MAX_NAME: usize = 60;

/// Stable words for the checks of a backend.
mod check {
    pub(super) const RESOLVE: &str = "resolve";
    pub(super) const CONNECT: &str = "connect";
    pub(super) const STATUS: &str = "status";
    pub(super) const PROTOCOL: &str = "protocol";
    pub(super) const FORWARDING: &str = "forwarding";
    pub(super) const SECRET: &str = "secret";
    pub(super) const WRONG_SECRET: &str = "wrong-secret";
    pub(super) const PLAIN_LOGIN: &str = "plain-login";
    pub(super) const UNSIGNED: &str = "unsigned";
    pub(super) const ONLINE_MODE: &str = "online-mode";
    pub(super) const THROTTLE: &str = "throttle";
}

/// What a check wants to know, for those that could not be made.
fn question_of(check: &str) -> &'static str {
    match check {
        check::RESOLVE => "where its name leads",
        check::CONNECT => "whether it takes connections",
        check::STATUS => "whether it answers server list pings",
        check::PROTOCOL => "which versions it takes",
        check::FORWARDING => "whether it asks for the configured forwarding",
        check::SECRET => "whether it accepts our forwarding secret",
        check::WRONG_SECRET => "whether it refuses a wrong forwarding secret",
        check::PLAIN_LOGIN => "whether it refuses a login without forwarding",
        _ => "whether it is in online mode",
    }
}

/// Before any login.
const REACHING: &[&str] = &[check::RESOLVE, check::CONNECT, check::STATUS, check::PROTOCOL];

/// The checks of a mode that take a login, in the order of the report.
const fn logins_of(mode: ForwardingMode) -> &'static [&'static str] {
    use check::{FORWARDING, ONLINE_MODE, PLAIN_LOGIN, SECRET, UNSIGNED, WRONG_SECRET};
    match mode {
        ForwardingMode::Modern | ForwardingMode::BungeeGuard => {
            &[FORWARDING, SECRET, WRONG_SECRET, PLAIN_LOGIN, ONLINE_MODE]
        }
        ForwardingMode::Legacy => &[FORWARDING, PLAIN_LOGIN, UNSIGNED, ONLINE_MODE],
        ForwardingMode::None => &[FORWARDING, PLAIN_LOGIN, ONLINE_MODE],
    }
}

/// Examines all backends, a few at once. Findings come in the order of the backends; each backend gets one for every
/// check of its mode. Where backends hang or throttle, each takes some half a minute.
pub async fn examine(backends: &[Backend], connect_timeout: Duration) -> Vec<Finding> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (index, backend) in backends.iter().cloned().enumerate() {
        let places = Arc::clone(&places);
        running.spawn(async move {
            // It is never closed.
            let _place = places.acquire_owned().await;
            (index, examine_one(&backend, connect_timeout).await)
        });
    }
    let mut examined = running.join_all().await;
    examined.sort_by_key(|(index, _)| *index);
    examined.into_iter().flat_map(|(_, findings)| findings).collect()
}

async fn examine_one(backend: &Backend, connect_timeout: Duration) -> Vec<Finding> {
    let mut exam =
        Exam { backend, connect_timeout, findings: Vec::new(), waits: 0, throttle: None, was_heard: false };
    let stopped = exam.all().await.err();
    exam.finish(stopped)
}

/// Why the rest is not examined.
struct Stop(String);

impl Stop {
    fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// The examination of one backend.
struct Exam<'a> {
    backend: &'a Backend,
    connect_timeout: Duration,
    findings: Vec<Finding>,
    /// How often a throttle was waited out.
    waits: u32,
    throttle: Option<Fault>,
    /// Whether a login came to where a server in online mode shows that it is.
    was_heard: bool,
}

impl Exam<'_> {
    async fn all(&mut self) -> Result<(), Stop> {
        let stream = self.reach().await?;
        let (native, answer) = self.status(stream).await?;
        let approach = self.protocol(native, answer.marker).await?;
        self.logins(&approach).await
    }

    /// Every check in its place; those that nothing was found on are skipped, with the reason.
    fn finish(mut self, stopped: Option<Stop>) -> Vec<Finding> {
        if self.was_heard && !self.has(check::ONLINE_MODE) {
            self.ok(check::ONLINE_MODE, "is in offline mode, as a server behind a proxy must be");
        }
        let reason = stopped.map_or_else(|| "no login got that far".to_owned(), |stop| stop.0);
        let checks = [REACHING, logins_of(self.backend.forwarding)].concat();
        for check in &checks {
            if !self.has(check) {
                let cause = format!("not examined {}: {reason}", question_of(check));
                self.findings.push(Finding::skipped(Area::Backend, check, cause));
            }
        }
        self.findings.sort_by_key(|finding| checks.iter().position(|check| *check == finding.check));
        if let Some(fault) = self.throttle.take() {
            self.fault(check::THROTTLE, Verdict::Warning, &fault);
        }
        let subject = format!("{} ({})", self.backend.name, self.backend.address());
        self.findings.into_iter().map(|finding| finding.of(subject.clone())).collect()
    }

    fn has(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    fn ok(&mut self, check: &'static str, cause: impl Into<String>) {
        self.findings.push(Finding::ok(Area::Backend, check, cause));
    }

    fn warning(&mut self, check: &'static str, cause: impl Into<String>, mend: impl Into<String>) {
        self.findings.push(Finding::warning(Area::Backend, check, cause, mend));
    }

    fn error(&mut self, check: &'static str, cause: impl Into<String>, mend: impl Into<String>) {
        self.findings.push(Finding::error(Area::Backend, check, cause, mend));
    }

    /// A fault, in the words that a real login has for it.
    fn fault(&mut self, check: &'static str, verdict: Verdict, fault: &Fault) {
        let (cause, mend) = (fault.cause(), fault.mend(self.backend));
        match verdict {
            Verdict::Error => self.error(check, cause, mend),
            Verdict::Ok | Verdict::Skipped | Verdict::Warning => self.warning(check, cause, mend),
        }
    }

    async fn reach(&mut self) -> Result<Connected, Stop> {
        let start = Instant::now();
        let addresses = match look_up(self.backend, self.connect_timeout).await {
            Ok(addresses) => addresses,
            Err(attempt) => {
                self.fault(check::RESOLVE, Verdict::Error, &Fault::Unreachable { attempts: vec![attempt] });
                return Err(Stop::because("its name leads nowhere"));
            }
        };
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let found = Finding::ok(Area::Backend, check::RESOLVE, format!("is at {}", shown.join(", ")));
        self.findings.push(found.took(start.elapsed()));
        // The name server is asked again, but it has just been: the time is that of the connection.
        let start = Instant::now();
        match connect(self.backend, None, self.connect_timeout).await {
            Ok(stream) => {
                let found = Finding::ok(Area::Backend, check::CONNECT, "takes connections");
                self.findings.push(found.took(start.elapsed()));
                Ok(stream)
            }
            Err(attempts) => {
                self.fault(check::CONNECT, Verdict::Error, &Fault::Unreachable { attempts });
                Err(Stop::because("it cannot be reached"))
            }
        }
    }

    /// The server list answer, and the version that the backend itself speaks, if it says one.
    async fn status(&mut self, stream: Connected) -> Result<(Option<ProtocolVersion>, Answer), Stop> {
        let start = Instant::now();
        let (native, answer) = match self.question(Ok(stream), ProtocolVersion::NONE).await {
            // One that gives back what it was asked does not say which version is its own.
            Ok(answer) => (answer.protocol.filter(|protocol| *protocol != ProtocolVersion::NONE), answer),
            // Maybe it answers nobody without a version.
            Err(_) => match self.question(self.connect().await, Dialect::newest().version()).await {
                Ok(answer) => (None, answer),
                Err(fault) => {
                    let mend = format!(
                        "{}; `enable-status=false` in its server.properties",
                        fault.mend(self.backend)
                    );
                    let cause = format!("does not answer server list pings: {}", fault.cause());
                    self.error(check::STATUS, cause, mend + " does this too");
                    return Err(Stop::because("without its answer its version is not known"));
                }
            },
        };
        let name = foreign::clean_to(&answer.name, MAX_NAME);
        let players =
            answer.players.map(|(online, max)| format!(", {online} of {max} players")).unwrap_or_default();
        let found = Finding::ok(Area::Backend, check::STATUS, format!("answers as {name:?}{players}"));
        self.findings.push(found.took(start.elapsed()));
        Ok((native, answer))
    }

    async fn connect(&self) -> Result<Connected, Fault> {
        let connected = connect(self.backend, None, self.connect_timeout).await;
        connected.map_err(|attempts| Fault::Unreachable { attempts })
    }

    async fn question(
        &self,
        stream: Result<Connected, Fault>,
        version: ProtocolVersion,
    ) -> Result<Answer, Fault> {
        let Connected { stream, target } = stream?;
        let asked = ping::ask(Conn::new(stream), &target.host, target.port, version);
        match timeout(ANSWER_TIME, asked).await {
            Ok(Ok(json)) => Ok(Answer::read(&json)),
            Ok(Err(ConnError::Malformed(malformed))) => Err(Fault::Protocol(malformed)),
            Ok(Err(_)) => Err(Fault::Cut),
            Err(_) => Err(Fault::Silent),
        }
    }

    /// Whether the backend takes games of this version: such a one gives the number back.
    async fn takes(&self, dialect: &Dialect) -> bool {
        let answer = self.question(self.connect().await, dialect.version()).await;
        answer.is_ok_and(|answer| answer.protocol == Some(dialect.version()))
    }

    /// Which games the backend takes, and how to log in there.
    async fn protocol(
        &mut self,
        native: Option<ProtocolVersion>,
        marker: &'static str,
    ) -> Result<Approach, Stop> {
        let own = native.map(Dialect::of);
        // From its own version outwards, until it takes no more. Without one, from the newest down to the first taken.
        let (older, newer) = own.map_or_else(
            || (Dialect::milestones().collect::<Vec<_>>().into_iter().rev().collect(), Vec::new()),
            |own| own.milestones_around(),
        );
        let (mut oldest, mut newest) = (own, own);
        let end = Instant::now() + VERSIONS_TIME;
        for dialect in newer {
            if Instant::now() > end || !self.takes(&dialect).await {
                break;
            }
            newest = Some(dialect);
        }
        for dialect in older {
            if Instant::now() > end {
                break;
            }
            if self.takes(&dialect).await {
                oldest = Some(dialect);
                newest = newest.or(oldest);
            } else if oldest.is_some() {
                break;
            }
        }
        let (Some(oldest), Some(newest)) = (oldest, newest) else {
            self.warning(
                check::PROTOCOL,
                "does not say which version it speaks",
                "see whether a plugin there changes its server list answer, or something else than a Minecraft server answers",
            );
            return Err(Stop::because("its version is not known"));
        };
        let mut cause = match own {
            Some(own) if own.is_known() => {
                format!("speaks {} (protocol {})", own.game_version(), own.version())
            }
            Some(own) => {
                format!("speaks protocol {}, which this version of Postern does not know", own.version())
            }
            None => "translates between versions".to_owned(),
        };
        if oldest != newest {
            let _ =
                write!(cause, "; takes games from {} to {}", oldest.game_version(), newest.game_version());
        }
        let needs_plugin = self.backend.forwarding == ForwardingMode::Modern;
        if own.is_some_and(|own| needs_plugin && !own.login_plugin) {
            cause += ": modern forwarding needs 1.13 or later, so nobody can join";
            let mend = format!(
                "set `forwarding: bungeeguard` or `legacy` for this backend here (`settings.bungeecord: true` in its spigot.yml); until then: {}",
                exposure(self.backend)
            );
            self.error(check::PROTOCOL, cause, mend);
            return Err(Stop::because("modern forwarding cannot work in its version"));
        }
        if own.is_some_and(|own| !own.is_known()) {
            self.warning(check::PROTOCOL, cause, "update Postern");
        } else {
            self.ok(check::PROTOCOL, cause);
        }
        Ok(Approach::new(native, newest.version(), marker))
    }
}
