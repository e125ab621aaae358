//! The kinds of work, and what each is measured by.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::{
    backend::Backends,
    client::{Client, NAME, TRAFFIC},
    failure::{During, Failure, Outcome, ensure},
    options::{Kind, Options},
    proc,
    target::Target,
};

mod echo;
mod idle;
mod short;
mod throughput;

/// What every flow needs.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) backends: Backends,
    /// Players named so far: each has a name of its own.
    pub(crate) players: AtomicUsize,
}

/// One thing measured once.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is, for programs.
    pub(crate) id: String,
    /// What it is, for people.
    pub(crate) work: String,
    pub(crate) unit: &'static str,
    /// `None` where the system does not tell.
    pub(crate) value: Option<f64>,
}

impl Figure {
    fn new(id: impl Into<String>, work: impl Into<String>, unit: &'static str, value: Option<f64>) -> Self {
        Self { id: id.into(), work: work.into(), unit, value }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    ToServer { size: usize },
    ToClient { size: usize, connections: usize },
    Echo { busy: bool },
    Idle,
    Logins,
    Pings,
}

impl Work {
    /// All that was asked for, in their order.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let many = options.connections_per_core * proc::cores();
        let sizes = || options.frame_sizes.iter().copied();
        let mut all = Vec::new();
        if options.wants(Kind::ToServer) {
            all.extend(sizes().map(|size| Self::ToServer { size }));
        }
        if options.wants(Kind::ToClient) {
            all.extend(sizes().map(|size| Self::ToClient { size, connections: 1 }));
            all.extend(sizes().map(|size| Self::ToClient { size, connections: many }));
        }
        for (kind, work) in [
            (Kind::Echo, Self::Echo { busy: false }),
            (Kind::EchoBusy, Self::Echo { busy: true }),
            (Kind::Idle, Self::Idle),
            (Kind::Logins, Self::Logins),
            (Kind::Pings, Self::Pings),
        ] {
            if options.wants(kind) {
                all.push(work);
            }
        }
        all
    }

    /// What it is called.
    pub(crate) fn name(self) -> String {
        match self {
            Self::ToServer { size } => format!("to-server, {size} B frames"),
            Self::ToClient { size, connections } => {
                format!("to-client, {size} B frames, {connections} connection{}", plural(connections))
            }
            Self::Echo { busy: false } => "echo".to_owned(),
            Self::Echo { busy: true } => "echo-busy".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Logins => "logins".to_owned(),
            Self::Pings => "pings".to_owned(),
        }
    }

    /// Measures it once, within the time limit.
    pub(crate) fn measure(self, bench: &Bench, target: &Target) -> Outcome<Vec<Figure>> {
        let limit = bench.options.limit();
        let (done, expired) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let late = expired.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
                if late {
                    // All that waits for it wakes up, and fails.
                    target.kill();
                }
                late
            });
            let outcome = self.run(bench, target);
            drop(done);
            let late = watch.join().unwrap_or(false);
            ensure(!late, format!("not over within {} s (--limit)", limit.as_secs()))?;
            outcome
        })
        .map_err(|error| -> Failure {
            let complaint = bench.backends.complaint();
            let complaint =
                if complaint.is_empty() { complaint } else { format!("\n  backend: {complaint}") };
            format!("{error}{complaint}{}", target.last_words()).into()
        })
        .during(self.name())
    }

    fn run(self, bench: &Bench, target: &Target) -> Outcome<Vec<Figure>> {
        match self {
            Self::ToServer { size } => throughput::to_server(bench, target, size),
            Self::ToClient { size, connections } => throughput::to_client(bench, target, size, connections),
            Self::Echo { busy } => echo::measure(bench, target, busy),
            Self::Idle => idle::measure(bench, target),
            Self::Logins => short::logins(bench, target),
            Self::Pings => short::pings(bench, target),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A player that is in: both ends of its way.
pub(crate) struct Lane {
    pub(crate) client: Client,
    pub(crate) server: TcpStream,
}

impl Bench {
    /// A name that nobody had.
    pub(crate) fn name(&self) -> String {
        format!("{NAME}{}", self.players.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets one player in, for traffic.
    pub(crate) fn join(&self, target: &Target, name: &str) -> Outcome<Lane> {
        let client = Client::log_in(target.address, TRAFFIC, name)?;
        let server = self.backends.claim(name)?;
        client.expect_quiet()?;
        Ok(Lane { client, server })
    }

    /// Lets players in one after the other, for traffic on streams with that compression threshold.
    pub(crate) fn lanes(
        &self,
        target: &Target,
        count: usize,
        threshold: Option<usize>,
    ) -> Outcome<Vec<Lane>> {
        self.backends.compress_from(threshold);
        (0..count).map(|_| self.join(target, &self.name())).collect()
    }

    /// Does something `count` times, so many at a time. Ends with the first failure.
    pub(crate) fn side_by_side<T: Send>(
        &self,
        count: usize,
        step: impl Fn(usize) -> Outcome<T> + Sync,
    ) -> Outcome<Vec<T>> {
        let next = AtomicUsize::new(0);
        let worker = || -> Outcome<Vec<T>> {
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return Ok(made);
                }
                made.push(step(at).inspect_err(|_| next.store(count, Ordering::Relaxed))?);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.options.concurrency).map(|_| scope.spawn(worker)).collect();
            let mut all = Vec::with_capacity(count);
            for worker in workers {
                all.extend(joined(worker)?);
            }
            Ok(all)
        })
    }
}

/// A thread's outcome.
pub(crate) fn joined<T>(thread: thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or_else(|_| Err("a thread of the generator panicked".into()))
}

/// Checks that a proxy which somebody else started lets players in.
pub(crate) fn answers(bench: &Bench, address: SocketAddr) -> Outcome<()> {
    bench.lanes(&Target::running(address, None), 1, None).map(drop)
}
