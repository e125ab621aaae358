//! What the system knows of a process: time on the processors, memory. Everything is `None` where there is no `/proc`.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use serde_json::{Value, json};

use crate::numbers;

/// Clock ticks per second in `/proc`: 100 on every Linux that a server runs on.
const TICKS: f64 = 100.0;

/// By how much the ticks may exceed the exact count before that is known to have missed something: both kinds of time
/// are rounded to ticks.
const ROUNDING: f64 = 0.03;

/// Processor time of a process up to a moment.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// Of the whole process, in seconds, rounded to ticks of 10 ms.
    ticks: f64,
    /// Of each thread that lives, in nanoseconds. Kernels can be built without this.
    threads: BTreeMap<String, u64>,
}

impl Cpu {
    /// As it is now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ticks = numbers::stat_ticks(&stat)? as f64 / TICKS;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            if let Some(time) = numbers::schedstat_nanoseconds(&text) {
                threads.insert(entry.file_name().to_string_lossy().into_owned(), time);
            }
        }
        Some(Self { ticks, threads })
    }

    /// Seconds on the processors since `earlier`: exact if no thread has ended meanwhile, else from the ticks.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let ticks = self.ticks - earlier.ticks;
        let complete =
            !self.threads.is_empty() && earlier.threads.keys().all(|id| self.threads.contains_key(id));
        let nanoseconds: u64 = self
            .threads
            .iter()
            .map(|(id, time)| time.saturating_sub(earlier.threads.get(id).copied().unwrap_or_default()))
            .sum();
        let exact = nanoseconds as f64 / 1e9;
        if complete && ticks <= exact + ROUNDING { exact } else { ticks }
    }
}

/// Seconds that a process spent on the processors while `work` ran, beside its outcome.
pub(crate) fn cpu_during<T>(pid: Option<u32>, work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let before = pid.and_then(Cpu::of);
    let outcome = work();
    let after = pid.and_then(Cpu::of);
    (outcome, before.zip(after).map(|(before, after)| after.since(&before)))
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    numbers::resident_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// How many files this process may have open, where that is known and limited.
pub(crate) fn open_files_limit() -> Option<u64> {
    numbers::open_files_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What stands beside figures, so that they can be compared.
pub(crate) fn machine() -> Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cores": cores(),
        "cpu": model.map(|(_, name)| name.trim()),
        "system": std::env::consts::OS,
        "kernel": kernel.trim(),
    })
}

/// Does nothing for a while.
#[expect(clippy::disallowed_methods, reason = "threads of their own, and no runtime that they could hold up")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
