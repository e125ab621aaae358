//! The shapes of runtime, each with the same relay in it.

use std::{fs, net::TcpStream, path::PathBuf, sync::Arc, time::Duration};

use bytes::BytesMut;
use postern::{
    net::conn::Parts,
    protocol::{
        cipher::{Decryptor, Encryptor, SharedSecret},
        version::{Dialect, ProtocolVersion},
    },
    relay::{self, Begin, Config, Relay, Terms, Threads, Workshop, link},
};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::{numbers, proc};

/// What the names of all threads that relay begin with. Only one shape runs at a time.
const NAME: &str = "relay-";

/// Where Linux tells of the threads of this process.
const THREADS: &str = "/proc/self/task";

/// As often as the program's own threads, so that nothing but the shape differs.
const TURNS_BETWEEN_POLLS: u32 = 16;

/// Of both sides: frames longer than anything here would be compressed.
const THRESHOLD: usize = 1 << 20;

/// Nothing is asked of players here.
const TERMS: Terms = Terms { begin: Begin::BehindLoginSuccess, pins: false, held: false };

/// Encrypts all links to clients. No login precedes: play it is at once.
pub(crate) fn secret() -> SharedSecret {
    SharedSecret::new(&[7; 16]).unwrap()
}

/// How connections are spread over threads, and with which others they are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One multi-thread runtime, each connection encrypted alone.
    SharedAlone,
    /// The same; all connections are encrypted together, whichever thread they are on.
    SharedTogether,
    /// A runtime a core, each connection encrypted alone.
    ThreadsAlone,
    /// The same; those of one thread are encrypted together. This is the program's.
    ThreadsTogether,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] =
        [Self::SharedAlone, Self::SharedTogether, Self::ThreadsAlone, Self::ThreadsTogether];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SharedAlone => "shared-alone",
            Self::SharedTogether => "shared-together",
            Self::ThreadsAlone => "threads-alone",
            Self::ThreadsTogether => "threads-together",
        }
    }

    /// The shape of that name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|shape| shape.name() == name)
            .ok_or_else(|| format!("the shapes are {names}"))
    }

    /// Starts its threads.
    pub(crate) fn start(self) -> Running {
        let together = matches!(self, Self::SharedTogether | Self::ThreadsTogether);
        let threads = match self {
            Self::SharedAlone | Self::SharedTogether => Kind::Shared {
                runtime: Builder::new_multi_thread()
                    .worker_threads(proc::cores())
                    .thread_name(format!("{NAME}shared"))
                    .event_interval(TURNS_BETWEEN_POLLS)
                    .enable_all()
                    .build()
                    .unwrap(),
                workshop: Arc::default(),
            },
            Self::ThreadsAlone | Self::ThreadsTogether => Kind::Threads(relay::start().unwrap()),
        };
        Running { threads, together }
    }
}

/// A shape at work.
pub(crate) struct Running {
    threads: Kind,
    together: bool,
}

enum Kind {
    Shared { runtime: Runtime, workshop: Arc<Workshop> },
    Threads(Threads),
}

impl Running {
    /// Relays between two sockets until either end closes.
    pub(crate) fn serve(&self, client: TcpStream, backend: TcpStream) {
        let together = self.together;
        let serve = move |shared: Arc<Workshop>| {
            serve(client, backend, if together { shared } else { Arc::default() })
        };
        match &self.threads {
            Kind::Shared { runtime, workshop } => {
                runtime.spawn(serve(Arc::clone(workshop)));
            }
            Kind::Threads(threads) => threads.workers().hand_over(serve),
        }
    }

    /// Ends its threads. Connections that are left are cut.
    pub(crate) fn finish(self) {
        match self.threads {
            Kind::Shared { runtime, .. } => drop(runtime),
            Kind::Threads(threads) => {
                let waiting = Builder::new_current_thread().enable_time().build().unwrap();
                waiting.block_on(threads.finish(Instant::now()));
            }
        }
        // They say so a little before they are gone, and their time must not count as the next shape's.
        while relaying_threads().next().is_some() {
            proc::pause(Duration::from_millis(1));
        }
    }
}

async fn serve(client: TcpStream, backend: TcpStream, workshop: Arc<Workshop>) {
    let [client, backend] = [client, backend].map(|stream| {
        stream.set_nonblocking(true).unwrap();
        tokio::net::TcpStream::from_std(stream).unwrap()
    });
    let secret = secret();
    let client = Parts {
        io: client,
        inbox: BytesMut::new(),
        decryptor: Some(Decryptor::new(&secret)),
        encryptor: Some(Encryptor::new(&secret)),
        threshold: Some(THRESHOLD),
    };
    let backend = Parts {
        io: backend,
        inbox: BytesMut::new(),
        decryptor: None,
        encryptor: None,
        threshold: Some(THRESHOLD),
    };
    // A release without configuration.
    let (_, link) = link(Dialect::of(ProtocolVersion(763)), Arc::default());
    let config = Config { read_timeout: Duration::from_mins(10) };
    // How it ends is seen at the sockets.
    let _ = Relay::new(client, backend, link, workshop, &config, TERMS).run().await;
}

/// Seconds that the relaying threads have spent on the processors so far. `None` where there is no `/proc`.
pub(crate) fn relaying_time() -> Option<f64> {
    fs::metadata(THREADS).ok()?;
    let times = relaying_threads()
        .map(|thread| numbers::schedstat_nanoseconds(&fs::read_to_string(thread.join("schedstat")).ok()?));
    let nanoseconds = times.sum::<Option<u64>>()?;
    Some(nanoseconds as f64 / 1e9)
}

/// Where the system tells of each.
fn relaying_threads() -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir(THREADS).into_iter().flatten().flatten().map(|entry| entry.path());
    threads.filter(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with(NAME)))
}
