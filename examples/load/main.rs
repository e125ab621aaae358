//! What players cost: a load generator for server owners and for developers.
//!
//! ```text
//! cargo build --release && cargo run --release --example load
//! cargo run --release --example load -- --only echo,logins --rounds 5 --json
//! cargo run --release --example load -- --help
//! ```
//!
//! Around the real proxy, as a process of its own with a configuration of its own, this program plays all the rest on
//! loopback: the session server, the game server, and players who log in, encrypt, send and receive. The same players
//! and the same game server are then joined by a **plain TCP relay** (without encryption, without logins checked): what
//! any relay on this machine costs at least. Both are measured in turns, several rounds of them, each time with a fresh
//! process; the table shows medians.
//!
//! # How to read the figures
//!
//! - **CPU-s/GB**: seconds that the measured process kept a processor busy (user and system time from `/proc`) per
//!   10⁹ bytes on the wire. At 5 CPU-s/GB, a server that sends 100 Mbit/s to its players keeps a processor busy for
//!   6 % of the time. **MB/s** is what went through while this machine also had to play both ends, so it says more
//!   about the machine than about the proxy.
//! - **Echo**: from the moment a packet was due to the moment its echo was there, at a fixed rate that does not wait
//!   for answers. Half of it is this program's and the system's: compare with the plain relay in the same run. On a
//!   machine that has other work to do, the slowest of a hundred are slow because of that work, on both sides.
//!   The `echo-busy` figures have all processors saturated, and who floods faster delays more: look at what the
//!   flooded got, too.
//! - **Memory per idle player**: growth of resident memory with all players in, after each got 100 kB and sent
//!   little, divided by their number. What the proxy remembers of a player (its session) is part of it. Thousands of
//!   players take longer than `--limit` and more files than `ulimit -n` mostly allow.
//! - **Logins, pings**: processor time for 1000 of them, from connecting to the connection's end. The relay's logins
//!   are those of an offline-mode server: no RSA, no session server.
//!
//! Absolute figures differ between machines, and from one minute to the next on a shared one; ratios in one run are
//! what to compare. `--json` has every round.
//!
//! # A proxy of your own
//!
//! `--address HOST:PORT` measures a proxy that runs already; what it must be pointed at is printed first. With
//! `--pid`, its processor time and memory are read too. Traffic is passed right behind login success of 1.20.1, without
//! the packets by which a game begins: proxies that wait for those before they relay cannot be measured.
#![expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
#![expect(clippy::cast_possible_truncation, reason = "the low bits of numbers of variable length")]

use std::{
    io::{Write, stderr, stdout},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::AtomicUsize,
    time::{Duration, Instant},
};

use clap::Parser;

use backend::Backends;
use failure::{During, Outcome};
use flows::{Bench, Work};
use options::{Command, Options, SECRET};
use report::{Report, Side};
use target::Target;

mod backend;
mod client;
mod failure;
mod flows;
mod numbers;
mod options;
mod proc;
mod relay;
mod report;
mod session_server;
mod target;
mod wire;

/// How long an owner has to point a running proxy at the stand-ins.
const POINTING: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.command {
        Some(Command::Relay { backend }) => relay::run(backend).during("plain relay"),
        None => measure(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// All rounds, and the report.
fn measure(options: Options) -> Outcome<()> {
    options.check()?;
    let stage = Stage::set(options)?;
    let options = &stage.bench.options;
    let works = Work::all(options);
    let mut report = Report::new(options, &stage.what());
    for round in 0..options.rounds {
        for (at, work) in works.iter().enumerate() {
            let mut sides = [Side::Relay, Side::Proxy];
            // Who comes first finds the machine cooler.
            if (round + at) % 2 == 1 {
                sides.reverse();
            }
            for side in sides {
                tell(&format!("round {} of {}: {}, {side}", round + 1, options.rounds, work.name()));
                let target = stage.target(side)?;
                report.add(side, work.measure(&stage.bench, &target).during(side)?);
            }
        }
    }
    let text = if options.json { report.json() } else { report.table() };
    stdout().write_all(text.as_bytes()).during("writing the report")
}

/// A line on standard error. If nobody reads there, there is nobody to tell.
fn tell(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Everything around what is measured.
struct Stage {
    bench: Bench,
    sessions: SocketAddr,
    subject: Subject,
}

/// What is measured.
enum Subject {
    /// A fresh process of that program each time.
    Program(PathBuf),
    /// A process of somebody else's.
    Running { address: SocketAddr, pid: Option<u32> },
}

impl Stage {
    fn set(options: Options) -> Outcome<Self> {
        let (subject, session_address, backend_address) = if let Some(address) = options.address {
            let at = |port| SocketAddr::new(options.listen, port);
            let subject = Subject::Running { address, pid: options.pid };
            (subject, at(options.session_port), at(options.backend_port))
        } else {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            (Subject::Program(target::find_proxy(options.proxy_binary.as_ref())?), free, free)
        };
        let sessions = session_server::start(session_address)?;
        let backends = Backends::start(backend_address, &options.secret)?;
        let stage =
            Self { bench: Bench { options, backends, players: AtomicUsize::new(0) }, sessions, subject };
        if let Subject::Running { address, .. } = stage.subject {
            stage.await_pointing(address)?;
        }
        Ok(stage)
    }

    /// Says what a running proxy must be pointed at, and waits until it is.
    fn await_pointing(&self, address: SocketAddr) -> Outcome<()> {
        let Self { bench, sessions, .. } = self;
        // An owner's own secret is not for terminals and build logs.
        let secret = &bench.options.secret;
        let secret = if secret == SECRET { format!("\"{secret}\"") } else { "as given".to_owned() };
        tell(&format!(
            "Point the proxy at {address} at these, without limits on logins per minute or per address:\n\
             \x20 session server (its base URL):  http://{sessions}\n\
             \x20 backend:                        {}\n\
             \x20 forwarding:                     modern (Velocity), secret {secret}",
            bench.backends.modern
        ));
        let began = Instant::now();
        loop {
            match flows::answers(bench, address) {
                Ok(()) => return Ok(()),
                Err(failure) if began.elapsed() > POINTING => {
                    let backend = bench.backends.complaint();
                    return Err(failure).during(format!("{address} lets no player in ({backend})"));
                }
                Err(_) => proc::pause(Duration::from_secs(1)),
            }
        }
    }

    /// What is measured, by name.
    fn what(&self) -> String {
        match &self.subject {
            Subject::Program(program) => program.display().to_string(),
            Subject::Running { address, .. } => address.to_string(),
        }
    }

    /// One side, ready for players.
    fn target(&self, side: Side) -> Outcome<Target> {
        let Bench { options, backends, .. } = &self.bench;
        match (side, &self.subject) {
            (Side::Relay, _) => Target::relay(backends.plain),
            (Side::Proxy, Subject::Running { address, pid }) => Ok(Target::running(*address, *pid)),
            (Side::Proxy, Subject::Program(program)) => {
                Target::proxy(program, self.sessions, backends.modern, &options.secret)
            }
        }
    }
}
