//! Taking over another configuration while running: all of it or nothing, and without touching a connection.
//!
//! ```text
//! asked ──> read ──> prepare every part ──> adopt every part ──> the next generation
//!             └────────────┴──> problems: nothing is changed, and whoever asked is told
//! ```
//!
//! Preparing may fail and changes nothing that is in use; what was prepared is undone by being dropped. Adopting cannot
//! fail. There is one reload at a time; asked for while one is under way, there is one more behind it, for what that
//! one read may be out of date.

use std::{fmt::Display, panic, sync::Arc};

use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
};
use tracing::{error, info, warn};

use super::{
    Surroundings,
    connection::ConnCx,
    generation::{Generations, Lasting, Parts},
    journal, start,
};
use crate::{
    admin::{self, Door, Reloaded},
    alert, audit,
    config::{self, Config, Loaded, Problem, Purpose, Report, Severity},
    geo,
    limit::{bans, gate::Limits},
    login::Terms,
    mojang::player_keys,
    session::{self, OpenReport},
    statistics,
    task::Shutdown,
};

/// What came of a reload: what it did, or the problems for which it did nothing.
pub type Outcome = Result<Reloaded, Vec<String>>;

/// The way to ask for a reload. Clones ask the same.
#[derive(Clone, Debug)]
pub(super) struct Reloads {
    /// How often it was asked for.
    asked: Arc<watch::Sender<Count>>,
    /// Up to which time of asking it was done, and what came of it.
    done: watch::Receiver<Done>,
}

type Done = (u64, Arc<Outcome>);

/// Who asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A signal to the process.
    Signal,
    /// A caller of the admin interface.
    Admin,
}

/// How often who asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    signal: u64,
    admin: u64,
}

impl Count {
    fn all(self) -> u64 {
        self.signal + self.admin
    }

    /// Who asked since that, as audit.log says it.
    fn askers_since(self, before: Self) -> &'static str {
        match (self.signal > before.signal, self.admin > before.admin) {
            (true, true) => "signal, admin",
            (false, true) => "admin",
            (_, false) => "signal",
        }
    }
}

/// Where it is heard that a reload is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    asking: watch::Receiver<Count>,
    /// What was heard so far.
    heard: Count,
    done: watch::Sender<Done>,
}

/// The way to ask, and where that is heard.
pub(super) fn queue() -> (Reloads, Asked) {
    let (asking, asked) = watch::channel(Count::default());
    let (doing, done) = watch::channel((0, Arc::new(Ok(Reloaded::default()))));
    (Reloads { asked: Arc::new(asking), done }, Asked { asking: asked, heard: Count::default(), done: doing })
}

impl Reloads {
    /// Asks at once, and tells what came of the reload that began after that. Never waits itself; whoever does not want
    /// to know drops the future.
    pub(super) fn ask(&self, by: Asker) -> impl Future<Output = Outcome> + Send + use<> {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            match by {
                Asker::Signal => asked.signal += 1,
                Asker::Admin => asked.admin += 1,
            }
            number = asked.all();
        });
        let mut done = self.done.clone();
        async move {
            match done.wait_for(|(up_to, _)| *up_to >= number).await {
                Ok(done) => Outcome::clone(&done.1),
                Err(_) => Err(vec!["the proxy is stopping".to_owned()]),
            }
        }
    }
}

impl Asked {
    /// Waits until it is asked for. Everybody who has asked up to then is answered by what is done next; tells up to
    /// which time of asking that is, and who they are. `None` once nobody is left to ask.
    async fn next(&mut self) -> Option<(u64, &'static str)> {
        self.asking.changed().await.ok()?;
        let before = self.heard;
        self.heard = *self.asking.borrow_and_update();
        Some((self.heard.all(), self.heard.askers_since(before)))
    }

    /// That is what came of it.
    fn answer(&self, up_to: u64, outcome: Outcome) {
        self.done.send_replace((up_to, Arc::new(outcome)));
    }
}

/// Whatever a reload needs.
#[derive(Debug)]
pub(super) struct Reloading {
    pub(super) lasting: Arc<Lasting>,
    pub(super) generations: Arc<Generations>,
    /// What the proxy listens by.
    pub(super) started_with: Arc<Config>,
    /// To the admin interface; `None` if it is off.
    pub(super) door: Option<Door>,
    pub(super) surroundings: Surroundings,
}

/// Every part of a configuration, ready to be taken over. Dropping it undoes what was done for it.
struct Prepared {
    config: Arc<Config>,
    parts: Parts,
    store: session::Prepared,
    bans: bans::Prepared,
    statistics: statistics::Prepared,
    player_keys: player_keys::Prepared,
    geo: geo::Prepared,
    audit: audit::Prepared,
    alerts: alert::Prepared,
    /// `None` if the admin interface is off.
    door: Option<admin::Prepared>,
}

/// Problems, as they are found.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    /// What was made, or nothing and one problem more.
    fn sort<T, E: Display>(&mut self, made: Result<T, E>) -> Option<T> {
        made.map_err(|error| self.0.push(error.to_string())).ok()
    }
}

impl Reloading {
    /// Reloads whenever that is asked for, until the program stops: then what was not adopted is undone.
    pub(super) async fn run(self, mut asked: Asked, stop: Shutdown) {
        let this = Arc::new(self);
        let serve = async {
            while let Some((up_to, by)) = asked.next().await {
                this.surroundings.supervisor.reloading().await;
                let outcome = this.reload(by).await;
                this.surroundings.supervisor.ready().await;
                asked.answer(up_to, outcome);
            }
        };
        tokio::select! {
            () = stop.requested() => {}
            () = serve => {}
        }
    }

    /// Reloads, and tells the log and audit.log of it.
    async fn reload(self: &Arc<Self>, by: &str) -> Outcome {
        let outcome = self.read_and_adopt().await;
        let Lasting { audit, clock, metrics, .. } = &*self.lasting;
        metrics.reloaded(outcome.is_ok(), clock.now().as_second());
        match &outcome {
            Ok(Reloaded { changed, restart_needed, warnings: _ }) => {
                for line in changed {
                    info!("changed: {line}");
                }
                for line in restart_needed {
                    warn!("takes effect at the next start: {line}");
                }
                if changed.is_empty() {
                    info!("read the configuration again; nothing changed");
                } else {
                    info!("read the configuration again; connections that begin from now on go by it");
                }
                audit.emit(journal::reloaded(clock, by, changed, restart_needed));
            }
            Err(problems) => {
                for problem in problems {
                    error!("{problem}");
                }
                error!("the configuration has problems; nothing of it was taken over");
                audit.emit(journal::not_reloaded(clock, by, problems.len()));
            }
        }
        outcome
    }

    async fn read_and_adopt(self: &Arc<Self>) -> Outcome {
        let before = self.generations.current();
        let (this, old) = (Arc::clone(self), Arc::clone(&before));
        let (prepared, warnings, notes) = caught(async move { this.read_and_prepare(&old).await }).await?;
        let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let limits =
            (prepared.config.limit != before.config.limit).then(|| start::limits(&prepared.config.limit));
        let limits = limits.map(|(limits, warning)| {
            warnings.extend(warning);
            limits
        });
        for finding in &warnings {
            warn!("{finding}");
        }
        for finding in &notes {
            info!("{finding}");
        }
        let mut changed = before.config.changes(&prepared.config).changed;
        if let (Some(door), Some(prepared)) = (&self.door, &prepared.door)
            && door.asks_otherwise(prepared)
        {
            changed.push("admin.token-file: the secret changed".to_owned());
        }
        // Against what it started with: that is where it listens, however often the file was read since.
        let restart_needed = self.started_with.changes(&prepared.config).restart_needed;
        // Nothing waits from here on: all of it is adopted, or the program has stopped before.
        self.adopt(prepared, limits, &before);
        Ok(Reloaded { changed, restart_needed, warnings })
    }

    /// Everything that may fail, and may turn out to be a bug: it changes nothing.
    async fn read_and_prepare(
        &self,
        before: &Arc<ConnCx>,
    ) -> Result<(Prepared, Vec<Problem>, Vec<Problem>), Vec<String>> {
        let read = self.read(&before.config).await;
        let Loaded { config, warnings, notes } = read.map_err(|report| errors(&report))?;
        Ok((self.prepare(Arc::new(config), before).await?, warnings, notes))
    }

    /// Off the network threads: a disk may hang.
    async fn read(&self, before: &Config) -> Result<Loaded, Report> {
        let (path, environment) = (before.source.clone(), Arc::clone(&self.surroundings.environment));
        blocking(move || config::load(&path, &environment, Purpose::Reload)).await
    }

    /// Makes everything that can fail to be made, and changes nothing. All problems are found, not only the first.
    async fn prepare(&self, config: Arc<Config>, before: &Arc<ConnCx>) -> Result<Prepared, Vec<String>> {
        let lasting = &self.lasting;
        let mut problems = Problems::default();
        let (fresh, old) = (Arc::clone(&config), Arc::clone(before));
        // HTTP clients and status answers are made from files.
        let made = blocking(move || {
            let player_keys = old.lasting.player_keys.prepare(&fresh.player_keys);
            let alerts = old.lasting.alerts.prepare(&fresh.alerts);
            (Parts::successor(&fresh, &old), player_keys, alerts)
        });
        let (parts, player_keys, alerts) = made.await;
        let parts = problems.sort(parts);
        let player_keys = problems.sort(player_keys);
        let alerts = problems.sort(alerts);
        let store = problems.sort(lasting.store.prepare(config.session.clone()).await);
        let bans = problems.sort(lasting.bans.prepare(&config.limit.bans).await);
        let statistics = problems.sort(lasting.statistics.prepare(&config.statistics).await);
        let geo = problems.sort(lasting.geo.prepare(&config.geo).await);
        let audit = problems.sort(lasting.audit.prepare(&config.audit).await);
        let door = match &self.door {
            Some(door) => problems.sort(door.prepare(&config.admin).await).map(Some),
            None => Some(None),
        };
        // A part that could not be prepared has left its problem.
        let all = || {
            Some(Prepared {
                parts: parts?,
                store: store?,
                bans: bans?,
                statistics: statistics?,
                player_keys: player_keys?,
                geo: geo?,
                audit: audit?,
                alerts: alerts?,
                door: door?,
                config,
            })
        };
        all().ok_or(problems.0)
    }

    /// Takes over what was prepared, and the limits if they are others. The shared handles first, so that whoever begins
    /// with the new generation meets them as it expects them.
    fn adopt(&self, prepared: Prepared, limits: Option<Limits>, before: &ConnCx) {
        let Prepared { config, parts, store, bans, statistics, player_keys, geo, audit, alerts, door } =
            prepared;
        let lasting = &self.lasting;
        lasting.audit.adopt(audit);
        // What is damaged there is told by whoever sets it aside.
        if let Some(OpenReport { sessions, unused, robbed, .. }) = store.report() {
            let folder = config.session.directory.display();
            info!(sessions, removed = unused, renamed = robbed, %folder, "opened another session store");
        }
        lasting.store.adopt(store, &lasting.players.verified());
        lasting.bans.adopt(bans);
        lasting.statistics.adopt(statistics);
        lasting.alerts.adopt(alerts);
        lasting.geo.adopt(geo);
        lasting.player_keys.adopt(player_keys);
        if let Some(limits) = limits {
            lasting.gate.adopt(limits);
        }
        lasting.terms.adopt(Terms::of(&config.login, &config.rules));
        lasting.rates.adopt(config.limit.login_interval);
        if config.health != before.config.health || !Arc::ptr_eq(&parts.server, &before.login.server) {
            // A probe that is under way begins anew with them.
            lasting.health.adopt(config.health.clone(), parts.server.prober());
        }
        if let (Some(at), Some(door)) = (&self.door, door) {
            at.adopt(door);
        }
        let next = ConnCx::make(config, parts, lasting, Some(before));
        lasting.staff.adopt(&next.config.alerts.staff, Arc::clone(&next.messages));
        self.generations.follow(next);
    }
}

/// What keeps a configuration from being taken over. What else was found in it is told once it can be.
fn errors(report: &Report) -> Vec<String> {
    let errors = report.problems().iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(ToString::to_string).collect()
}

/// Does it, and makes a problem of a panic: a bug in a part must neither end the task that hears whoever asks next, nor
/// leave unanswered who has asked. Dropping it ends what is being done.
async fn caught<T: Send + 'static>(
    work: impl Future<Output = Result<T, Vec<String>>> + Send + 'static,
) -> Result<T, Vec<String>> {
    let mut working = JoinSet::new();
    working.spawn(work);
    match working.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(_)) | None => Err(vec![
            "reading the configuration again ended in a bug in Postern, please report it; what is in use stays so"
                .to_owned(),
        ]),
    }
}

/// Does it off the network threads.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    // The task cannot be cancelled while somebody waits for it.
    spawn_blocking(work).await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, task};

    use super::*;

    fn did(what: &str) -> Reloaded {
        Reloaded { changed: vec![what.to_owned()], ..Reloaded::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_it_is_asked_for_there_is_one_at_a_time_and_one_more() {
        let (reloads, mut asked) = queue();
        let (began, mut beginnings) = mpsc::unbounded_channel();
        let (disk, mut answers) = mpsc::unbounded_channel();
        let serving = task::spawn(async move {
            while let Some((up_to, _)) = asked.next().await {
                began.send(()).unwrap();
                asked.answer(up_to, Ok(did(answers.recv().await.unwrap())));
            }
        });
        let first: Vec<_> = (0..5).map(|_| reloads.ask(Asker::Signal)).collect();
        beginnings.recv().await.unwrap();
        let later: Vec<_> = (0..5).map(|_| reloads.ask(Asker::Signal)).collect();
        disk.send("old").unwrap();
        for outcome in first {
            assert_eq!(outcome.await, Ok(did("old")));
        }
        disk.send("new").unwrap();
        for outcome in later {
            assert_eq!(
                outcome.await,
                Ok(did("new")),
                "what was read before it was asked for may be out of date"
            );
        }
        beginnings.recv().await.unwrap();
        task::yield_now().await;
        assert!(beginnings.try_recv().is_err(), "it was done a third time");
        let once_more = reloads.ask(Asker::Signal);
        disk.send("newer").unwrap();
        assert_eq!(once_more.await, Ok(did("newer")));
        // Nobody waits for ever.
        let never = reloads.ask(Asker::Signal);
        serving.abort();
        assert_eq!(never.await, Err(vec!["the proxy is stopping".to_owned()]));
    }

    #[tokio::test]
    async fn it_is_said_who_asked() {
        let (reloads, mut asked) = queue();
        for (askers, expected) in [
            (&[Asker::Signal][..], "signal"),
            (&[Asker::Admin, Asker::Admin], "admin"),
            (&[Asker::Admin, Asker::Signal], "signal, admin"),
            (&[Asker::Signal], "signal"),
        ] {
            for asker in askers {
                drop(reloads.ask(*asker));
            }
            assert_eq!(asked.next().await.unwrap().1, expected, "{askers:?}");
        }
    }

    #[tokio::test]
    async fn a_bug_in_a_part_is_a_problem_and_no_end() {
        async fn part(has_bug: bool) -> Result<(), Vec<String>> {
            // As whoever waits for a thread of its own hands it on.
            blocking(move || assert!(!has_bug, "a bug")).await;
            Ok(())
        }
        let problems = caught(part(true)).await.unwrap_err();
        assert!(problems[0].contains("please report it"), "{problems:?}");
        assert_eq!(caught(part(false)).await, Ok(()));
        assert_eq!(caught::<()>(async { Err(vec!["bad".to_owned()]) }).await, Err(vec!["bad".to_owned()]));
    }
}
