//! The service manager that started the program, if there is one that wants to hear how it fares: systemd.
//!
//! It hears `READY=1` once connections are taken, `RELOADING=1` and another `READY=1` around a reload, `STOPPING=1`, and
//! `WATCHDOG=1` in half the time after which it would take the program for dead. That last one is sent on the runtime
//! that serves logins, and only once the monitor of the session server has answered: a program that hangs does not say
//! that it is well.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{mojang::health::Health, task::Shutdown};

/// How long a reload waits for the service manager to take its message.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a service manager is told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    /// Whether there is one.
    present: bool,
    /// After how long without a sign of life it takes the program for dead; `None` is never.
    watchdog: Option<Duration>,
    /// The last word did not reach it: logged once in a row.
    unheard: Arc<AtomicBool>,
}

/// How the program fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Ready,
    Reloading,
    Stopping,
    Alive,
}

impl Supervisor {
    /// The one that the environment of this process names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    #[cfg(target_os = "linux")]
    pub fn of_this_process() -> Self {
        let present = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        let watchdog = sd_notify::watchdog_enabled().filter(|time| present && !time.is_zero());
        Self { present, watchdog, unheard: Arc::default() }
    }

    /// There is none on this system that would hear it.
    #[cfg(not(target_os = "linux"))]
    pub fn of_this_process() -> Self {
        Self::default()
    }

    /// Connections are taken.
    pub async fn ready(&self) {
        self.tell(Word::Ready).await;
    }

    /// The configuration is read again. Once that is over, however it ended, [`ready`](Self::ready) follows.
    pub async fn reloading(&self) {
        self.tell(Word::Reloading).await;
    }

    /// Connections are taken no more.
    pub async fn stopping(&self) {
        self.tell(Word::Stopping).await;
    }

    /// Says that the program is alive, for as long as it is.
    pub(super) async fn watch(self, health: Health, stop: Shutdown) {
        let Some(limit) = self.watchdog else { return };
        let every = limit / 2;
        debug!(?every, "the service manager wants signs of life");
        let stays_well = beat(every, || health.answers(), || self.tell(Word::Alive));
        tokio::select! {
            () = stop.requested() => {}
            () = stays_well => {}
        }
    }

    /// A manager that does not listen must not hold up anything: it is told off the network threads, and not waited for
    /// long.
    async fn tell(&self, word: Word) {
        if !self.present {
            return;
        }
        let problem = match timeout(PATIENCE, spawn_blocking(move || send(word))).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(_)) | Err(_) => Some("it does not take what it is told".to_owned()),
        };
        let unheard = self.unheard.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(error) = problem.filter(|_| !unheard) {
            warn!(%error, ?word, "the service manager could not be told");
        }
    }
}

/// Gives a sign of life that often, each time the check has passed in that time. Says so when it stops and resumes.
async fn beat<C, S>(every: Duration, check: impl Fn() -> C, sign: impl Fn() -> S)
where
    C: Future<Output = bool>,
    S: Future<Output = ()>,
{
    let mut turns = interval_at(Instant::now(), every);
    // After a stall the next sign is due at once, and those that were missed are not made up for.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = false;
    loop {
        turns.tick().await;
        // Half of it, so that an answer that comes late still makes a sign in time.
        if timeout(every / 2, check()).await == Ok(true) {
            if std::mem::take(&mut silent) {
                info!("giving the service manager signs of life again");
            }
            sign().await;
        } else if !std::mem::replace(&mut silent, true) {
            error!(
                "the monitor of the session server does not answer: no sign of life for the service manager, which may \
                 restart the program; this is a bug in Postern, please report it"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn send(word: Word) -> std::io::Result<()> {
    use sd_notify::{NotifyState, notify};

    match word {
        Word::Ready => notify(&[NotifyState::Ready]),
        // Without the time a newer systemd takes a reload that it asked for as failed.
        Word::Reloading => notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        Word::Stopping => notify(&[NotifyState::Stopping]),
        Word::Alive => notify(&[NotifyState::Watchdog]),
    }
}

#[cfg(not(target_os = "linux"))]
fn send(_: Word) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_only_while_the_check_passes() {
        let began = Instant::now();
        let (every, signs, well) = (Duration::from_secs(5), RefCell::new(Vec::new()), Cell::new(true));
        let check = || async {
            if !well.get() {
                // It hangs.
                std::future::pending::<()>().await;
            }
            true
        };
        let sign = || async { signs.borrow_mut().push(began.elapsed().as_secs()) };
        let beating = beat(every, check, sign);
        tokio::pin!(beating);
        for (until, is_well, expected) in
            [(11, true, &[0, 5, 10][..]), (29, false, &[0, 5, 10]), (42, true, &[0, 5, 10, 30, 35, 40])]
        {
            well.set(is_well);
            let _ = tokio::time::timeout_at(began + Duration::from_secs(until), &mut beating).await;
            assert_eq!(*signs.borrow(), expected, "after {until} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_fails_is_no_sign_of_life() {
        let signs = Cell::new(0);
        let beating =
            beat(Duration::from_secs(1), || async { false }, || async { signs.set(signs.get() + 1) });
        assert!(timeout(Duration::from_secs(10), beating).await.is_err());
        assert_eq!(signs.get(), 0);
    }

    #[tokio::test]
    async fn nobody_is_told_where_nobody_listens() {
        let nobody = Supervisor::default();
        nobody.ready().await;
        nobody.stopping().await;
    }
}
