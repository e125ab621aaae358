//! What is measured.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

use crate::{
    load::{Flood, Lane, Pace, client_stream, echo, flood_backend, flood_clients, run_of_frames},
    numbers::percentile,
    proc,
    shape::{Running, Shape, relaying_time},
};

/// Of a flood's bytes, one in so many passes before figures count.
const WARM_UP: u64 = 8;

/// Connections a core that are flooded beside something else.
const BESIDE: usize = 4;

/// Between two tasks given to another runtime.
const TASK_INTERVAL: Duration = Duration::from_millis(1);

/// How much of it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// MB of a flood.
    pub megabytes: u64,
    /// Round trips of small frames, one a millisecond; and as many tasks.
    pub echoes: u32,
}

impl Size {
    fn bytes(self) -> u64 {
        self.megabytes * 1_000_000
    }
}

/// A unit and a value.
type Figure = (&'static str, f64);

/// Something to measure.
pub(crate) struct Flow {
    pub name: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// From backends to clients.
    ToClients { frame: usize, connections_a_core: usize },
    /// From one client to its backend.
    ToServer { frame: usize },
    /// Small frames there and back.
    Echo { beside: Beside },
    /// How long tasks given to another runtime, as logins are, wait for their turn beside an unlimited flood.
    Elsewhere,
}

/// What the other connections do.
#[derive(Clone, Copy)]
enum Beside {
    Idle,
    /// Flooded.
    Flooded(Pace),
}

impl Flow {
    pub(crate) const ALL: [Self; 10] = [
        Self {
            name: "to-client, 2048 B, 1 connection a core",
            what: What::ToClients { frame: 2048, connections_a_core: 1 },
        },
        Self {
            name: "to-client, 2048 B, 4 connections a core",
            what: What::ToClients { frame: 2048, connections_a_core: 4 },
        },
        Self {
            name: "to-client, 2048 B, 8 connections a core",
            what: What::ToClients { frame: 2048, connections_a_core: 8 },
        },
        Self {
            name: "to-client, 128 B, 4 connections a core",
            what: What::ToClients { frame: 128, connections_a_core: 4 },
        },
        Self { name: "to-server, 2048 B, 1 connection", what: What::ToServer { frame: 2048 } },
        Self { name: "echo, others idle", what: What::Echo { beside: Beside::Idle } },
        Self {
            name: "echo, others get 20 MB/s a core",
            what: What::Echo { beside: Beside::Flooded(Pace::Spread) },
        },
        Self {
            name: "echo, others get 20 MB/s a core in ticks",
            what: What::Echo { beside: Beside::Flooded(Pace::Ticks) },
        },
        Self { name: "echo, others flooded", what: What::Echo { beside: Beside::Flooded(Pace::Unlimited) } },
        Self { name: "task elsewhere, connections flooded", what: What::Elsewhere },
    ];

    /// Measures it once.
    pub(crate) fn measure(&self, shape: Shape, size: Size) -> Vec<Figure> {
        let running = shape.start();
        let figures = match self.what {
            What::ToClients { frame, connections_a_core } => {
                let lanes = lanes(&running, connections_a_core);
                flood_clients(&lanes, &run_of_frames(frame), Pace::Unlimited, |flood| throughput(flood, size))
            }
            What::ToServer { frame } => {
                let run = run_of_frames(frame);
                // As many again as are under way when the last count.
                let bytes = size.bytes() + size.bytes() / WARM_UP + (16 << 20);
                let stream = client_stream(&run, usize::try_from(bytes).unwrap());
                flood_backend(&Lane::new(&running), &run, &stream, |flood| throughput(flood, size))
            }
            What::Echo { beside } => echo_beside(&running, beside, size),
            What::Elsewhere => {
                let lanes = lanes(&running, BESIDE);
                flood_clients(&lanes, &run_of_frames(2048), Pace::Unlimited, |flood| {
                    flood.await_bytes(size.bytes() / WARM_UP);
                    microseconds(&tasks_elsewhere(size.echoes))
                })
            }
        };
        running.finish();
        figures
    }
}

fn lanes(running: &Running, connections_a_core: usize) -> Vec<Lane> {
    (0..connections_a_core * proc::cores()).map(|_| Lane::new(running)).collect()
}

/// Waits for the bytes of a flood; what they cost.
fn throughput(flood: &Flood, size: Size) -> Vec<Figure> {
    flood.await_bytes(size.bytes() / WARM_UP);
    costs(flood, || {
        let before = flood.received();
        flood.await_bytes(before + size.bytes());
    })
    .1
}

/// What the bytes received during `work` cost, and how many came a second.
fn costs<T>(flood: &Flood, work: impl FnOnce() -> T) -> (T, Vec<Figure>) {
    let now = || (flood.received(), relaying_time(), Instant::now());
    let before = now();
    let outcome = work();
    let after = now();
    let bytes = (after.0 - before.0) as f64;
    let mut figures = Vec::new();
    if let Some((after, before)) = after.1.zip(before.1) {
        figures.push(("CPU-s/GB", (after - before) / (bytes / 1e9)));
    }
    figures.push(("MB/s", bytes / 1e6 / (after.2 - before.2).as_secs_f64()));
    (outcome, figures)
}

fn echo_beside(running: &Running, beside: Beside, size: Size) -> Vec<Figure> {
    let others = lanes(running, BESIDE);
    let lane = Lane::new(running);
    let Beside::Flooded(pace) = beside else {
        let before = relaying_time();
        let mut figures = microseconds(&echo(&lane, size.echoes));
        if let Some((after, before)) = relaying_time().zip(before) {
            figures.push(("CPU-µs each", (after - before) * 1e6 / f64::from(size.echoes)));
        }
        return figures;
    };
    flood_clients(&others, &run_of_frames(2048), pace, |flood| {
        flood.await_bytes(size.bytes() / WARM_UP);
        let (latencies, mut figures) = costs(flood, || echo(&lane, size.echoes));
        figures.extend(microseconds(&latencies));
        figures
    })
}

/// Gives tasks to a runtime of its own. Nanoseconds until each ran.
fn tasks_elsewhere(tasks: u32) -> Vec<u64> {
    let elsewhere = Builder::new_multi_thread().worker_threads(proc::cores()).build().unwrap();
    let (done, times) = mpsc::channel();
    for _ in 0..tasks {
        proc::pause(TASK_INTERVAL);
        let (asked, done) = (Instant::now(), done.clone());
        elsewhere.spawn(async move {
            let waited = u64::try_from(asked.elapsed().as_nanos()).unwrap();
            done.send(waited).unwrap();
        });
    }
    drop(done);
    times.into_iter().collect()
}

fn microseconds(nanoseconds: &[u64]) -> Vec<Figure> {
    [("p50 µs", 50), ("p99 µs", 99)]
        .into_iter()
        .filter_map(|(unit, percent)| Some((unit, percentile(nanoseconds, percent)? as f64 / 1e3)))
        .collect()
}
