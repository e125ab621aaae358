//! The one task that owns the verdict: it probes, hears of logins, keeps the outage's start and reports changes.

use std::{io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{
    classify::{LocalFault, Outcome},
    health::{
        Cause, Config, Event, Fresh, Health, Input, Limits, Listener, OverrideChange, Probe, Probed, Status,
        Transition, Verdict,
    },
    machine::{Effects, Machine, Moment, Pace},
    metrics::VerdictMetrics,
    outage_file,
};
use crate::{
    clock::Clock,
    task::{self, Shutdown},
};

/// Shortest time from the start of one probe to the next, whoever asks: logins must not turn into a flood of probes.
const PROBE_GAP: Duration = Duration::from_millis(500);

/// Longest wait for which a throttled probe's Retry-After holds the next: Down must be reached and left in time.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// Messages on their way to the monitor. Beyond it votes and hang-ups are lost, which only delays a verdict.
const QUEUE: usize = 4096;

/// Starts the monitor. It probes until `shutdown`, then makes sure that the outage file is as it should be; its owner
/// joins the handle.
pub fn start(
    config: Config,
    clock: Clock,
    probe: Probe,
    shutdown: Shutdown,
    listener: Listener,
) -> (Health, JoinHandle<()>) {
    let (inputs_tx, inputs) = mpsc::channel(QUEUE);
    let initial = Status {
        verdict: Verdict::Degraded,
        since: clock.now(),
        forced: None,
        outage_started: None,
        last_probe: None,
        last_answer: None,
    };
    let (status_tx, status) = watch::channel(initial);
    let limits = Arc::new(Limits::default());
    let fresh = Arc::new(Fresh::default());
    let metrics = VerdictMetrics::default();
    let health = Health::new(status, inputs_tx, Arc::clone(&limits), Arc::clone(&fresh), metrics.clone());
    let handle = task::spawn("health-monitor", async move {
        let path = config.outage_file.clone();
        let now = clock.now();
        // A panic in there costs no more than the kept start.
        let stored = spawn_blocking(move || outage_file::load(&path, now)).await.unwrap_or_default();
        let outage_file = config.outage_file.clone();
        let longest_turn = longest_turn(&config);
        let machine = Machine::new(config, stored, Moment { at: clock.now(), tick: Instant::now() });
        status_tx.send_replace(machine.status());
        let monitor = Monitor {
            machine,
            clock,
            probe,
            status: status_tx,
            limits,
            fresh,
            metrics,
            listener,
            asked: true,
            waiting: Vec::new(),
            served: Vec::new(),
            last_start: None,
            not_before: None,
            longest_turn,
            jitter: 1.0,
            excusing: false,
            outage_file,
            former_files: Vec::new(),
            starts: stored.into_iter().collect(),
            stored: Some(stored),
            store_failed: false,
        };
        monitor.run(inputs, shutdown).await;
    });
    (health, handle)
}

/// The one task that owns the state.
struct Monitor {
    machine: Machine,
    clock: Clock,
    probe: Probe,
    status: watch::Sender<Status>,
    limits: Arc<Limits>,
    /// Where configurations arrive that are to be adopted.
    fresh: Arc<Fresh>,
    metrics: VerdictMetrics,
    listener: Listener,
    /// Whether a probe is wanted out of turn.
    asked: bool,
    /// Who waits for a probe that has not begun.
    waiting: Vec<oneshot::Sender<Probed>>,
    /// Who waits for the probe that is running.
    served: Vec<oneshot::Sender<Probed>>,
    last_start: Option<Instant>,
    /// Until when a probe's answer has asked us not to probe.
    not_before: Option<Instant>,
    /// Longest time from the start of a throttled probe to the next. Set where throttling counts as an outage: there
    /// such probes are what leads to Down.
    longest_turn: Option<Duration>,
    /// What the steady interval after the last probe is multiplied with.
    jitter: f64,
    /// Whether the last probe's silence was our own: logged once in a row.
    excusing: bool,
    outage_file: PathBuf,
    /// Those of earlier configurations, to be removed once the start of an outage is kept in the new one.
    former_files: Vec<PathBuf>,
    /// What may stand in any of these files by our hand.
    starts: Vec<Timestamp>,
    /// What the outage file says; `None` if we do not know.
    #[expect(clippy::option_option, reason = "that it says nothing is something to know")]
    stored: Option<Option<Timestamp>>,
    /// Writing it failed; tried again after the next probe.
    store_failed: bool,
}

/// A probe, and when it began.
type Running = Pin<Box<dyn Future<Output = (Instant, Outcome)> + Send>>;
type Storing = JoinHandle<Stored>;

/// What was written where, and how that went.
struct Stored {
    path: PathBuf,
    outage: Option<Timestamp>,
    result: io::Result<()>,
}

impl Monitor {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: Shutdown) {
        let fresh = Arc::clone(&self.fresh);
        let mut running: Option<Running> = None;
        let mut storing: Option<Storing> = None;
        loop {
            if storing.is_none() && !self.store_failed && self.is_unsaved() {
                storing = Some(self.store());
            }
            let due = self.due();
            let ends = self.machine.override_ends();
            tokio::select! {
                () = shutdown.requested() => break,
                (began, outcome) = ended(&mut running), if running.is_some() => {
                    running = None;
                    self.probed(outcome, began);
                }
                stored = ended(&mut storing), if storing.is_some() => {
                    storing = None;
                    self.settle_store(stored.ok());
                }
                () = sleep_until(due), if running.is_none() => running = Some(self.begin_probe()),
                () = sleep_until(ends.unwrap_or(due)), if ends.is_some() => {
                    let effects = self.machine.elapsed(self.now());
                    self.publish(&effects);
                }
                Some(input) = inputs.recv() => self.take(input),
                (config, probe) = fresh.taken() => {
                    // What the server of before says means nothing any more. Who waits for it gets the next.
                    running = None;
                    self.adopt(config, probe);
                }
            }
        }
        // One that came just before the stop says where the next run looks for the start of the outage.
        if let Some((config, probe)) = fresh.take() {
            self.adopt(config, probe);
        }
        if let Some(storing) = storing {
            self.settle_store(storing.await.ok());
        }
        if self.is_unsaved() {
            let last = self.store().await.ok();
            self.settle_store(last);
        }
    }

    fn now(&self) -> Moment {
        Moment { at: self.clock.now(), tick: Instant::now() }
    }

    /// When the next probe begins, if none is running.
    fn due(&self) -> Instant {
        let Some(last) = self.last_start else { return Instant::now() };
        let in_turn = match self.machine.pace() {
            Pace::Steady(interval) => last + interval.mul_f64(self.jitter),
            Pace::Fast(interval) => last + interval,
        };
        let out_of_turn = self.asked || !self.waiting.is_empty();
        let due = if out_of_turn { in_turn.min(last + PROBE_GAP) } else { in_turn };
        self.not_before.map_or(due, |not_before| due.max(not_before))
    }

    /// Honours a throttled probe's Retry-After. What logins are told to wait has no part in this: anybody can draw a
    /// limit upon a login, and would hold the verdict with it.
    fn hold(&mut self, outcome: &Outcome, began: Instant) {
        let Outcome::Throttled { retry_after: Some(wait) } = outcome else { return };
        let until = Instant::now() + (*wait).min(LONGEST_HOLD);
        self.not_before = Some(self.longest_turn.map_or(until, |turn| until.min(began + turn)));
    }

    fn begin_probe(&mut self) -> Running {
        self.asked = false;
        self.served.append(&mut self.waiting);
        let began = Instant::now();
        self.last_start = Some(began);
        self.jitter = jitter();
        let probe = (self.probe)();
        Box::pin(async move { (began, probe.await) })
    }

    fn probed(&mut self, outcome: Outcome, began: Instant) {
        self.note_limits();
        let outcome = self.excused(outcome, began);
        if let Outcome::Verified(_) = outcome {
            tracing::warn!("the session server vouches for a made-up login; anybody can join as anybody");
        }
        self.store_failed = false;
        self.hold(&outcome, began);
        self.metrics.probed(outcome.class());
        let effects = self.machine.probed(&outcome, began, self.now());
        self.publish(&effects);
        let probed = Probed { class: outcome.class(), failed: self.machine.failed_by(&outcome) };
        for waiter in self.served.drain(..) {
            // The login that asked may have left.
            let _ = waiter.send(probed);
        }
    }

    /// The silence that a probe met while one of our own limits was hit is ours: whoever floods us must not look like
    /// an outage. Only what was hit while the probe ran counts, not the last minute, and an answered 5xx is never
    /// excused.
    ///
    /// The price: whoever keeps this machine at its limits through every single probe also hides an outage that shows
    /// by silence alone, for as long as that lasts, and players are told to try again. The other way round the same
    /// flood would open the fallback. An owner can force Down meanwhile.
    fn excused(&mut self, outcome: Outcome, began: Instant) -> Outcome {
        let silent = matches!(outcome, Outcome::Unreachable(why) if !why.is_answered());
        let excused = silent && self.limits.machine().is_some_and(|hit| hit >= began);
        if excused && !self.excusing {
            tracing::error!(
                "a check of the session server failed while this proxy was at one of its own limits, and says nothing"
            );
        }
        self.excusing = excused;
        if excused { Outcome::Local(LocalFault::AtLimit) } else { outcome }
    }

    fn take(&mut self, input: Input) {
        let now = self.now();
        let effects = match input {
            Input::Vote(vote) => {
                self.note_limits();
                self.machine.voted(vote, now)
            }
            Input::HungUp(subnet) => self.machine.hung_up(subnet, now),
            Input::Probe(waiter) => {
                self.waiting.push(waiter);
                return;
            }
            Input::Ping(waiter) => {
                // Whoever asked may have gone.
                let _ = waiter.send(());
                return;
            }
            Input::Override(order, done) => {
                let effects = match order {
                    Some(order) => self.machine.force(order.verdict, order.lasting, now),
                    None => self.machine.unforce(now),
                };
                self.publish(&effects);
                // The caller may have gone; the order stands.
                let _ = done.send(());
                return;
            }
        };
        self.publish(&effects);
    }

    fn note_limits(&mut self) {
        if let Some(hit) = self.limits.any() {
            self.machine.limit_hit(hit);
        }
    }

    fn publish(&mut self, effects: &Effects) {
        self.asked |= effects.probe;
        let status = self.machine.status();
        self.status.send_if_modified(|old| std::mem::replace(old, status) != status);
        for event in &effects.events {
            log(event);
            self.metrics.heard(event);
            (self.listener)(event);
        }
    }

    fn adopt(&mut self, config: Config, probe: Probe) {
        self.probe = probe;
        self.asked = true;
        self.served.append(&mut self.waiting);
        std::mem::swap(&mut self.served, &mut self.waiting);
        self.longest_turn = longest_turn(&config);
        if let (Some(turn), Some(last)) = (self.longest_turn, self.last_start) {
            self.not_before = self.not_before.map(|not_before| not_before.min(last + turn));
        }
        if config.outage_file != self.outage_file {
            let former = std::mem::replace(&mut self.outage_file, config.outage_file.clone());
            self.former_files.retain(|path| *path != self.outage_file);
            self.former_files.push(former);
            self.stored = None;
        }
        self.store_failed = false;
        self.machine.adopt(config);
    }

    fn is_unsaved(&self) -> bool {
        self.stored != Some(self.machine.outage())
    }

    fn store(&mut self) -> Storing {
        let path = self.outage_file.clone();
        let outage = self.machine.outage();
        let former = self.former_files.clone();
        self.starts.extend(outage.filter(|outage| !self.starts.contains(outage)));
        let starts = self.starts.clone();
        spawn_blocking(move || {
            let result = outage_file::store(&path, outage);
            if result.is_ok() {
                // Left there, one of them would move the start of a later outage. Another proxy may keep its own there
                // by now: the folder has been free since it was left.
                for former in &former {
                    if let Err(error) = outage_file::forget(former, &starts) {
                        tracing::warn!(path = %former.display(), %error, "an old start of an outage cannot be removed");
                    }
                }
            }
            Stored { path, outage, result }
        })
    }

    fn settle_store(&mut self, done: Option<Stored>) {
        match done {
            // The file has become another one meanwhile.
            Some(Stored { path, .. }) if path != self.outage_file => {}
            Some(Stored { outage, result: Ok(()), .. }) => {
                self.stored = Some(outage);
                self.former_files.clear();
                self.starts.retain(|start| Some(*start) == outage);
            }
            Some(Stored { result: Err(error), .. }) => {
                self.store_failed = true;
                tracing::warn!(
                    path = %self.outage_file.display(), %error,
                    "the start of the outage cannot be kept on disk; a restart would move it"
                );
            }
            None => self.store_failed = true,
        }
    }
}

/// See [`Monitor::longest_turn`].
fn longest_turn(config: &Config) -> Option<Duration> {
    config.treat_throttling_as_outage.then_some(config.retry_interval)
}

/// The end of what is running; never, if nothing is.
async fn ended<F: Future + Unpin>(running: &mut Option<F>) -> F::Output {
    match running {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Within 10 % of 1.
fn jitter() -> f64 {
    let random = getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX));
    0.9 + 0.2 * random
}

fn log(event: &Event) {
    match event {
        Event::State(Transition { to, cause: cause @ (Cause::Forced | Cause::OverrideEnded), .. }) => {
            tracing::warn!("the verdict on Mojang's session server is now {to} ({cause})");
        }
        Event::State(Transition { to, cause, .. }) => match to {
            Verdict::Up => {
                tracing::info!("Mojang's session server answers again ({cause}); logins are as always");
            }
            Verdict::Degraded => {
                tracing::warn!(
                    "Mojang's session server may be in trouble ({cause}); it is checked more often"
                );
            }
            Verdict::Down { outage_started } => tracing::error!(
                %outage_started,
                "Mojang's session server does not answer ({cause}); known players may join from their sessions"
            ),
        },
        Event::Override { change: OverrideChange::Set(forced), .. } => {
            tracing::warn!(until = %forced.until, "the owner forces the verdict: {}", forced.verdict.label());
        }
        Event::Override { change: OverrideChange::Cleared, .. } => {
            tracing::warn!("the owner gives the verdict back to the checks");
        }
        Event::Override { change: OverrideChange::Expired, .. } => {
            tracing::warn!("the forced verdict has expired; the checks decide again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{advance, sleep, timeout};

    use super::*;
    use crate::{
        mojang::{
            classify::{OutcomeClass, Why},
            health::{ForcedVerdict, MAX_OVERRIDE, Override, OverrideError},
            machine::Vote,
        },
        task::ShutdownTrigger,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// What probes find, changeable while the monitor runs, and when each began.
    #[derive(Clone)]
    struct Scene {
        answer: Arc<Mutex<fn() -> Outcome>>,
        takes: Arc<Mutex<Duration>>,
        began: Arc<Mutex<Vec<Instant>>>,
        running: Arc<Mutex<(u32, u32)>>,
        events: Arc<Mutex<Vec<Event>>>,
        clock: Clock,
    }

    fn healthy() -> Outcome {
        Outcome::NotJoined
    }

    fn dead() -> Outcome {
        Outcome::Unreachable(Why::TimedOut)
    }

    impl Scene {
        fn new(answer: fn() -> Outcome) -> Self {
            Self {
                answer: Arc::new(Mutex::new(answer)),
                takes: Arc::new(Mutex::new(Duration::from_millis(50))),
                began: Arc::default(),
                running: Arc::default(),
                events: Arc::default(),
                clock: Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap()),
            }
        }

        fn answers(&self, answer: fn() -> Outcome) {
            *self.answer.lock().unwrap() = answer;
        }

        fn probes(&self) -> usize {
            self.began.lock().unwrap().len()
        }

        fn probe(&self) -> Probe {
            let scene = self.clone();
            Arc::new(move || {
                let scene = scene.clone();
                Box::pin(async move {
                    scene.began.lock().unwrap().push(Instant::now());
                    {
                        let mut running = scene.running.lock().unwrap();
                        running.0 += 1;
                        running.1 = running.1.max(running.0);
                    }
                    let takes = *scene.takes.lock().unwrap();
                    sleep(takes).await;
                    scene.running.lock().unwrap().0 -= 1;
                    let answer = *scene.answer.lock().unwrap();
                    answer()
                })
            })
        }

        fn start(&self, folder: &tempfile::TempDir) -> (Health, JoinHandle<()>, ShutdownTrigger) {
            self.start_as(folder, false)
        }

        fn start_as(
            &self,
            folder: &tempfile::TempDir,
            treat_throttling_as_outage: bool,
        ) -> (Health, JoinHandle<()>, ShutdownTrigger) {
            let config = Config { treat_throttling_as_outage, ..config(folder) };
            let clock = self.clock.clone();
            let (trigger, shutdown) = Shutdown::new();
            let events = Arc::clone(&self.events);
            let listener: Listener = Box::new(move |event| events.lock().unwrap().push(*event));
            let (health, handle) = start(config, clock, self.probe(), shutdown, listener);
            (health, handle, trigger)
        }
    }

    fn config(folder: &tempfile::TempDir) -> Config {
        Config {
            check_interval: 30 * SECOND,
            retry_interval: 2 * SECOND,
            failure_threshold: 3,
            recovery_threshold: 2,
            treat_throttling_as_outage: false,
            outage_file: folder.path().join("outage.json"),
        }
    }

    async fn until(health: &Health, label: &str) -> Status {
        let mut changes = health.subscribe();
        let found = timeout(600 * SECOND, changes.wait_for(|s| s.verdict.label() == label)).await;
        *found.unwrap_or_else(|_| panic!("never {label}: {:?}", health.status())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn fast_from_the_start_and_steady_when_up() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        assert_eq!(health.verdict(), Verdict::Degraded);
        let started = Instant::now();
        until(&health, "up").await;
        assert_eq!(started.elapsed().as_secs(), 2, "two probes, one retry interval apart");
        sleep(300 * SECOND).await;
        let began = scene.began.lock().unwrap().clone();
        let steps: Vec<f64> = began.windows(2).skip(1).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        assert!(steps.len() >= 9, "{steps:?}");
        assert!(steps.iter().all(|s| (27.0..=33.1).contains(s)), "{steps:?}");
        assert!(steps.iter().any(|s| (s - 30.0).abs() > 0.01), "jitter: {steps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn other_intervals_and_thresholds_hold_at_once_and_the_verdict_stays() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        let before = until(&health, "up").await;
        sleep(SECOND).await;
        scene.began.lock().unwrap().clear();
        let adopted = Instant::now();
        let fresh = Config { check_interval: 5 * SECOND, failure_threshold: 1, ..config(&folder) };
        health.adopt(fresh.clone(), scene.probe());
        sleep(60 * SECOND).await;
        assert_eq!((health.verdict(), health.status().since), (Verdict::Up, before.since));
        let began = scene.began.lock().unwrap().clone();
        assert!(began[0] < adopted + SECOND, "the new way is tried at once");
        let steps: Vec<f64> = began.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        assert!(steps.len() >= 9 && steps.iter().all(|s| (4.4..=5.6).contains(s)), "{steps:?}");
        scene.answers(dead);
        let down = until(&health, "down").await;
        let labels: Vec<_> = scene.events.lock().unwrap().iter().map(label).collect();
        assert_eq!(labels, ["up", "down"], "one failure is enough now");

        // And the longer way round: an outage goes on.
        health.adopt(Config { retry_interval: 20 * SECOND, ..fresh }, scene.probe());
        sleep(SECOND).await;
        let known = scene.probes();
        sleep(18 * SECOND).await;
        assert_eq!((scene.probes(), health.verdict()), (known, down.verdict));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_probe_gets_one_of_the_new_server() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Scene::new(dead), Scene::new(healthy));
        *old.takes.lock().unwrap() = 3600 * SECOND;
        let (health, _handle, _trigger) = old.start(&folder);
        while old.probes() == 0 {
            tokio::task::yield_now().await;
        }
        let asked = Instant::now();
        let (first, second) = (health.probe_now(), health.probe_now());
        health.adopt(config(&folder), new.probe());
        let expected = Probed { class: OutcomeClass::NotJoined, failed: false };
        assert_eq!((first.await, second.await), (expected, expected));
        assert!(asked.elapsed() < SECOND);
        until(&health, "up").await;
        assert_eq!(old.probes(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_start_of_an_outage_moves_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        let (health, handle, trigger) = scene.start(&folder);
        let started = until(&health, "down").await.outage_started;
        let (old, new) = (config(&folder).outage_file, config(&elsewhere).outage_file);
        while !old.exists() {
            sleep(SECOND).await;
        }
        health.adopt(config(&elsewhere), scene.probe());
        while old.exists() {
            sleep(SECOND).await;
        }
        assert_eq!(outage_file::load(&new, scene.clock.now()), started);
        // There and back again, before anything could be written: nothing is left behind.
        health.adopt(config(&folder), scene.probe());
        tokio::task::yield_now().await;
        health.adopt(config(&elsewhere), scene.probe());
        trigger.trigger();
        handle.await.unwrap();
        assert!(!old.exists());
        assert_eq!(outage_file::load(&new, scene.clock.now()), started);

        // Whoever keeps its own start in the old place by now does not lose it.
        let theirs = Some(scene.clock.now());
        let kept = tempfile::tempdir().unwrap();
        let (health, handle, trigger) = scene.start(&elsewhere);
        until(&health, "down").await;
        outage_file::store(&new, theirs).unwrap();
        health.adopt(config(&kept), scene.probe());
        while !config(&kept).outage_file.exists() {
            sleep(SECOND).await;
        }
        trigger.trigger();
        handle.await.unwrap();
        assert_eq!(outage_file::load(&new, scene.clock.now()), theirs);

        // What an earlier run left in the new place says nothing while none is going on.
        let scene = Scene::new(healthy);
        let (health, handle, trigger) = scene.start(&folder);
        until(&health, "up").await;
        health.adopt(config(&elsewhere), scene.probe());
        while new.exists() {
            sleep(SECOND).await;
        }
        trigger.trigger();
        handle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn down_within_the_threshold_of_fast_probes_and_left_as_fast() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outage.json");
        let scene = Scene::new(healthy);
        let (health, handle, trigger) = scene.start(&folder);
        until(&health, "up").await;
        scene.answers(dead);
        until(&health, "degraded").await;
        let begin = Instant::now();
        let status = until(&health, "down").await;
        assert_eq!(begin.elapsed().as_secs(), 4);
        assert_eq!(status.verdict, Verdict::Down { outage_started: status.since });
        while !file.exists() {
            sleep(SECOND).await;
        }
        scene.answers(healthy);
        let begin = Instant::now();
        until(&health, "up").await;
        assert!(begin.elapsed() <= 4 * SECOND + Duration::from_millis(100), "{:?}", begin.elapsed());
        trigger.trigger();
        handle.await.unwrap();
        assert!(!file.exists(), "an outage that is over is forgotten");
        let labels: Vec<_> = scene.events.lock().unwrap().iter().map(label).collect();
        assert_eq!(labels, ["up", "degraded", "down", "up"]);
    }

    fn label(event: &Event) -> &'static str {
        match event {
            Event::State(transition) => transition.to.label(),
            Event::Override { change: OverrideChange::Set(_), .. } => "set",
            Event::Override { change: OverrideChange::Cleared, .. } => "cleared",
            Event::Override { change: OverrideChange::Expired, .. } => "expired",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_in_an_outage_keeps_its_start_and_a_dead_monitor_is_not_down() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        let (health, handle, trigger) = scene.start(&folder);
        let first = until(&health, "down").await.verdict;
        trigger.trigger();
        handle.await.unwrap();
        assert_eq!(health.verdict(), Verdict::Degraded, "nobody would notice the end of the outage");
        assert_eq!(health.set_override(order(SECOND)).await, Err(OverrideError::Stopped));
        assert_eq!(health.probe_now().await, Probed { class: OutcomeClass::Local, failed: false });

        *scene.takes.lock().unwrap() = SECOND;
        let (health, _handle, _trigger) = scene.start(&folder);
        assert_eq!(health.verdict(), Verdict::Degraded);
        let second = until(&health, "down").await.verdict;
        assert_eq!(first, second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_asked_for_begins_after_the_asking() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        *scene.takes.lock().unwrap() = 3 * SECOND;
        let (health, _handle, _trigger) = scene.start(&folder);
        while scene.probes() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        // The first probe is running and will fail; whoever asks now must not be served by it.
        *scene.takes.lock().unwrap() = SECOND;
        advance(SECOND).await;
        let asked = Instant::now();
        let callers: Vec<_> = (0..50).map(|_| tokio::spawn(health.probe_now())).collect();
        advance(SECOND).await;
        let first_ends = scene.began.lock().unwrap()[0] + 3 * SECOND;
        sleep_until(first_ends + Duration::from_millis(10)).await;
        scene.answers(healthy);
        for caller in callers {
            let probed = caller.await.unwrap();
            assert_eq!(probed, Probed { class: OutcomeClass::NotJoined, failed: false });
        }
        let began = scene.began.lock().unwrap().clone();
        assert!(began[1] > asked);
        assert_eq!(began.len(), 2, "all fifty share one probe");
        assert_eq!(scene.running.lock().unwrap().1, 1, "one at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn logins_cannot_turn_into_a_flood_of_probes() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "down").await;
        let (before, begin) = (scene.probes(), Instant::now());
        for _ in 0..20 {
            assert!(health.probe_now().await.failed);
            health.vote(Vote::Answered);
        }
        let probes = u32::try_from(scene.probes() - before).unwrap();
        assert!(begin.elapsed() >= PROBE_GAP * (probes - 1), "{probes} probes in {:?}", begin.elapsed());
    }

    fn told_to_wait() -> Outcome {
        Outcome::Throttled { retry_after: Some(Duration::from_mins(2)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_probe_holds_the_next_for_ten_seconds_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "down").await;
        let begin = Instant::now();
        scene.answers(told_to_wait);
        until(&health, "degraded").await;
        assert_eq!(begin.elapsed().as_secs(), 2 + 10, "left by two probes that were asked");

        let before = scene.probes();
        let asked = Instant::now();
        assert_eq!(health.probe_now().await.class, OutcomeClass::Throttled);
        assert_eq!(asked.elapsed().as_secs(), 10, "nobody can ask meanwhile");
        assert_eq!(scene.probes(), before + 1);

        scene.answers(dead);
        let begin = Instant::now();
        until(&health, "down").await;
        assert_eq!(begin.elapsed().as_secs(), 10 + 2 + 2, "three fast probes after the wait");
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_probes_lead_to_down_as_fast_where_that_is_an_outage() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start_as(&folder, true);
        until(&health, "up").await;
        scene.answers(told_to_wait);
        until(&health, "degraded").await;
        let begin = Instant::now();
        until(&health, "down").await;
        assert_eq!(begin.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_answered_while_down_brings_the_end_forward() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(dead);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "down").await;
        scene.answers(healthy);
        let begin = Instant::now();
        health.vote(Vote::Answered);
        sleep(Duration::from_millis(600)).await;
        health.vote(Vote::Answered);
        until(&health, "up").await;
        assert!(begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn logins_alone_only_bring_probes_forward() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        for n in 0..200 {
            health.vote(Vote::Unreachable(Why::Answered(503)));
            health.hang_up(format!("10.{n}.0.0/16").parse().unwrap());
            sleep(Duration::from_millis(100)).await;
        }
        let labels: std::collections::HashSet<_> = scene.events.lock().unwrap().iter().map(label).collect();
        assert!(!labels.contains("down"), "{labels:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn hang_ups_from_many_subnets_bring_a_probe_forward() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        sleep(SECOND).await;
        let before = scene.probes();
        for n in 0..20 {
            health.hang_up(format!("10.{n}.0.0/16").parse().unwrap());
        }
        sleep(SECOND).await;
        assert_eq!(scene.probes(), before + 1);
        assert_eq!(health.verdict(), Verdict::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_limits_silence_votes() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        health.note_local_limit();
        health.vote(Vote::Unreachable(Why::TimedOut));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(health.verdict(), Verdict::Up);
        health.vote(Vote::Unreachable(Why::Answered(503)));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(health.verdict(), Verdict::Degraded);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_while_a_limit_is_hit_is_our_own() {
        fn answered() -> Outcome {
            Outcome::Unreachable(Why::Answered(503))
        }

        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        *scene.takes.lock().unwrap() = SECOND;
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        // A limit hit before the probe began excuses nothing; one hit while it runs does.
        scene.answers(dead);
        health.note_local_limit();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(health.probe_now().await, Probed { class: OutcomeClass::Unreachable, failed: true });
        until(&health, "degraded").await;
        let limits = tokio::spawn({
            let health = health.clone();
            async move {
                loop {
                    health.note_local_limit();
                    sleep(SECOND / 10).await;
                }
            }
        });
        assert_eq!(health.probe_now().await, Probed { class: OutcomeClass::Local, failed: false });
        sleep(60 * SECOND).await;
        assert_eq!(health.verdict(), Verdict::Degraded, "a flood is no outage");
        scene.answers(answered);
        until(&health, "down").await;
        scene.answers(healthy);
        until(&health, "up").await;
        // Once the flood is over, silence counts again.
        limits.abort();
        scene.answers(dead);
        until(&health, "down").await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_were_not_made_excuse_no_probe() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        health.note_limit_hit();
        health.vote(Vote::Unreachable(Why::TimedOut));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(health.verdict(), Verdict::Up, "no vote");
        scene.answers(dead);
        let probe = health.probe_now();
        health.note_limit_hit();
        assert!(probe.await.failed);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_in_a_blip_do_not_shorten_the_way_down() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        scene.answers(dead);
        let begin = Instant::now();
        while begin.elapsed() < 3 * SECOND {
            assert!(health.probe_now().await.failed, "each confirms the failure of its login");
        }
        assert_eq!(health.verdict(), Verdict::Degraded);
        while !health.verdict().is_down() {
            assert!(health.probe_now().await.failed);
        }
        assert!(begin.elapsed() <= 5 * SECOND, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_kept_start_of_an_outage_is_known_while_degraded() {
        let folder = tempfile::tempdir().unwrap();
        let kept: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        outage_file::store(&folder.path().join("outage.json"), Some(kept)).unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        let mut changes = health.subscribe();
        let status = *changes.wait_for(|status| status.outage_started.is_some()).await.unwrap();
        assert_eq!((status.verdict, status.outage_started), (Verdict::Degraded, Some(kept)));
        assert_eq!(until(&health, "up").await.outage_started, None);
    }

    fn order(lasting: Duration) -> Override {
        Override { verdict: ForcedVerdict::Down, lasting }
    }

    #[tokio::test(start_paused = true)]
    async fn overrides_are_bounded_and_end_by_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(healthy);
        let (health, _handle, _trigger) = scene.start(&folder);
        until(&health, "up").await;
        for bad in [Duration::ZERO, MAX_OVERRIDE + SECOND, Duration::MAX] {
            assert_eq!(health.set_override(order(bad)).await, Err(OverrideError::Duration));
        }
        health.set_override(order(MAX_OVERRIDE)).await.unwrap();
        assert!(health.verdict().is_down(), "it holds once the call returns");
        health.clear_override().await.unwrap();
        assert_eq!(health.verdict(), Verdict::Up);

        health.set_override(order(60 * SECOND)).await.unwrap();
        let begin = Instant::now();
        until(&health, "up").await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        assert_eq!(health.status().forced, None);
        let labels: Vec<_> = scene.events.lock().unwrap().iter().map(label).collect();
        assert_eq!(labels, ["up", "set", "down", "cleared", "up", "set", "down", "expired", "up"]);
    }
}
