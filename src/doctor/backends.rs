//! Examines the backends: can players get there, does the forwarding work, and does it keep strangers out?

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::report::{Area, Finding, Verdict};
use crate::backend::{
    Backend, Fault, ForwardingMode,
    connect::{Attempt, Connected, connect, look_up},
};

mod logins;
mod status;

/// How many backends are examined at once.
const AT_ONCE: usize = 8;

/// How long the examination of one backend may take, whatever it waits for.
const WHOLE_TIME: Duration = Duration::from_secs(45);

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
        check::UNSIGNED => "who could forward players in this proxy's name",
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

/// Examines all backends, eight at once. Findings come in the order of the backends; each backend gets one for every
/// check of its mode. Takes up to 45 s for every eight backends; that long only where they hang or throttle.
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
    let mut exam = Exam {
        backend,
        connect_timeout,
        findings: Vec::new(),
        waits: 0,
        throttle: None,
        was_heard: false,
        is_guess: false,
    };
    let stopped = timeout(WHOLE_TIME, exam.all()).await.unwrap_or_else(|_| {
        Err(Stop::because(format!("it took too long ({} s altogether)", WHOLE_TIME.as_secs())))
    });
    exam.finish(stopped.err())
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
    /// Whether its version is only guessed.
    is_guess: bool,
}

impl Exam<'_> {
    async fn all(&mut self) -> Result<(), Stop> {
        let stream = self.reach().await?;
        let approach = match self.status(stream).await? {
            Some((native, answer)) => self.protocol(native, answer.marker).await?,
            None => self.unnamed_protocol(),
        };
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
                self.skipped(check, &reason);
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

    /// One finding for each check: of two, the worse one.
    fn tell(&mut self, finding: Finding) {
        match self.findings.iter_mut().find(|told| told.check == finding.check) {
            Some(told) if told.verdict < finding.verdict => *told = finding,
            Some(_) => {}
            None => self.findings.push(finding),
        }
    }

    fn ok(&mut self, check: &'static str, cause: impl Into<String>) {
        self.tell(Finding::ok(Area::Backend, check, cause));
    }

    /// A check that could not be made, and why.
    fn skipped(&mut self, check: &'static str, why: &str) {
        let cause = format!("not examined {}: {why}", question_of(check));
        self.tell(Finding::skipped(Area::Backend, check, cause));
    }

    fn warning(&mut self, check: &'static str, cause: impl Into<String>, mend: impl Into<String>) {
        self.tell(Finding::warning(Area::Backend, check, cause, mend));
    }

    fn error(&mut self, check: &'static str, cause: impl Into<String>, mend: impl Into<String>) {
        self.tell(Finding::error(Area::Backend, check, cause, mend));
    }

    /// A fault, in the words that a real login has for it.
    fn fault(&mut self, check: &'static str, verdict: Verdict, fault: &Fault) {
        let cause = match fault {
            Fault::Unreachable { attempts } => format!("cannot be reached: {}", errors_of(attempts)),
            _ => fault.cause(),
        };
        let mend = fault.mend(self.backend);
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
                let attempts = vec![attempt];
                let cause = errors_of(&attempts);
                self.error(check::RESOLVE, cause, Fault::Unreachable { attempts }.mend(self.backend));
                return Err(Stop::because("its name leads nowhere"));
            }
        };
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let found = Finding::ok(Area::Backend, check::RESOLVE, format!("is at {}", shown.join(", ")));
        self.tell(found.took(start.elapsed()));
        // The name server is asked again, but it has just been: the time is that of the connection.
        let start = Instant::now();
        match connect(self.backend, None, self.connect_timeout).await {
            Ok(stream) => {
                let found = Finding::ok(Area::Backend, check::CONNECT, "takes connections");
                self.tell(found.took(start.elapsed()));
                Ok(stream)
            }
            Err(attempts) => {
                self.fault(check::CONNECT, Verdict::Error, &Fault::Unreachable { attempts });
                Err(Stop::because("it cannot be reached"))
            }
        }
    }
}

/// What came of attempts at one backend, whose name stands in front of all findings on it.
fn errors_of(attempts: &[Attempt]) -> String {
    let texts = attempts.iter().map(|Attempt { address, error, .. }| match address {
        Some(address) => format!("{address}: {error}"),
        None => error.clone(),
    });
    texts.collect::<Vec<_>>().join("; ")
}
