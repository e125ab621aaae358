//! The task that brings changes to disk, behind the logins.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    StoreError,
    files::{Files, Lock},
    load::{self, OpenReport, Untidy},
    queue::Change,
    store::Shared,
};

/// Wait after the first failed write, then doubling up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait between tries: a disk that is mended is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How often sessions that have gone unused are dropped from the index. No answer depends on it.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// Refuses what comes after the end, also if the end is a panic or the runtime's.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.queue.close();
        if state.queue.len() > 0 {
            tracing::error!(
                sessions = state.queue.len(),
                "the session store ends with changes that are not on disk"
            );
        }
    }
}

/// When failed writes are tried again, and whether the owner has been told.
struct Spell {
    next_try: Instant,
    pause: Duration,
}

/// Writes until the store is closed, once what is untidy in the folder is cleared away. Holds the lock file; the folder is
/// free once this has ended.
pub(super) async fn run(shared: Arc<Shared>, lock: Lock, untidy: Untidy) {
    let lock = Arc::new(lock);
    let (tidied, held) = (Arc::clone(&shared), Arc::clone(&lock));
    let tidy = tokio::task::spawn_blocking(move || {
        let _held = held;
        if let Err(error) = load::tidy(&tidied.files, untidy, &mut OpenReport::default()) {
            tracing::error!(%error, "what does not belong in the session folder stays there; players are not affected");
        }
    });
    // What keeps it from being done keeps it from being written below, too.
    let _ = tidy.await;
    let ending = Ending(Arc::clone(&shared));
    let mut spell: Option<Spell> = None;
    let mut next_sweep = Instant::now() + SWEEP_EVERY;
    loop {
        // Taken before draining, so that what was queued before closing is written.
        let closing = shared.state().closing;

        let (drained, held) = (Arc::clone(&shared), Arc::clone(&lock));
        let drain = tokio::task::spawn_blocking(move || {
            // A write that outlives this task keeps the folder locked to its end.
            let _held = held;
            drain(&drained);
        });
        if drain.await.is_err() {
            // The runtime is stopping, or a panic that tokio's hook has reported.
            break;
        }
        spell = judge(&shared, spell);
        if closing {
            break;
        }

        let retry = async {
            match &spell {
                Some(spell) => sleep_until(spell.next_try).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.work.notified() => {}
            () = retry => shared.state().queue.retry(),
            () = sleep_until(next_sweep) => {
                shared.sweep();
                next_sweep = Instant::now() + SWEEP_EVERY;
            }
        }
    }
    drop(ending);
}

/// Begins, prolongs or ends a spell of failure by what the queue still holds.
fn judge(shared: &Shared, spell: Option<Spell>) -> Option<Spell> {
    let (failed, failures) = {
        let queue = &shared.state().queue;
        (queue.has_failed(), queue.failures())
    };
    let now = Instant::now();
    match spell {
        None if failed => Some(Spell { next_try: now + FIRST_PAUSE, pause: FIRST_PAUSE }),
        Some(spell) if failed && now >= spell.next_try => {
            let pause = (spell.pause * 2).min(LONGEST_PAUSE);
            Some(Spell { next_try: now + pause, pause })
        }
        Some(_) if !failed => {
            shared.state().told_of_failure = false;
            tracing::info!(failures, "sessions are written to disk again; nothing was lost");
            None
        }
        spell => spell,
    }
}

/// Writes all that is ready. Blocks.
fn drain(shared: &Shared) {
    loop {
        let Some((id, change)) = shared.state().queue.take() else { return };
        let begun = Instant::now();
        let result = match &change {
            Change::Remove => shared.files.remove(id),
            Change::Write { session, properties: Some(properties) } => {
                shared.files.write(session, properties)
            }
            Change::Write { session, properties: None } => {
                kept_properties(&shared.files, id).and_then(|kept| shared.files.write(session, &kept))
            }
        };
        shared.metrics.wrote(result.is_ok(), begun.elapsed());
        let mut state = shared.state();
        state.queue.settle(result.as_ref().copied());
        if let Err(error) = result {
            if state.told_of_failure {
                tracing::debug!(%error, "a session was not written");
            } else {
                state.told_of_failure = true;
                tracing::error!(%error, "a session was not written; players are not affected, it is tried again, \
                    but what changed since would be lost in a crash");
            }
        }
    }
}

/// The properties in a player's document, to be carried into the next one.
fn kept_properties(files: &Files, id: uuid::Uuid) -> Result<Vec<crate::identity::Property>, StoreError> {
    match files.read(id) {
        Ok(document) => Ok(document.map(|document| document.properties).unwrap_or_default()),
        Err(StoreError::Damaged { path, why }) => {
            let moved_to = files.set_aside(&path)?;
            tracing::warn!(path = %path.display(), moved_to = %moved_to.display(), %why,
                "a session document was damaged while in use and was set aside; a new one lacks only the skin");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
