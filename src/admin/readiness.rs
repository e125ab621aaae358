//! Who could join if the session servers went down now. Reading every session takes a while: one look serves all who ask
//! at the time and shortly after.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{StatusCode, body::Bytes};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    answer::{self, Answer, Refused},
    server::Shared,
};

/// How long an answer is as good as a new one.
const FRESH: Duration = Duration::from_secs(30);
/// How long a caller waits. A million documents take a minute on a slow disk; who asks again then joins the same look.
const LOOK_TIME: Duration = Duration::from_secs(50);

/// Looks through all sessions and says what `postern readiness --json` says, or why it cannot. Blocks.
pub type Rehearse = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The newest look, done or under way.
#[derive(Debug, Default)]
pub(super) struct Rehearsal(Mutex<Option<watch::Receiver<Option<Seen>>>>);

/// What a look came to, and when.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    result: Result<Bytes, String>,
}

impl Rehearsal {
    /// Joins the look that is under way or still fresh, or begins one.
    fn look(&self, rehearse: &Rehearse) -> watch::Receiver<Option<Seen>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = newest.as_ref().filter(|look| is_fresh(look)) {
            return look.clone();
        }
        let (tell, told) = watch::channel(None);
        let rehearse = Arc::clone(rehearse);
        tokio::task::spawn_blocking(move || {
            let result = rehearse().map(Bytes::from);
            tell.send_replace(Some(Seen { at: Instant::now(), result }));
        });
        newest.insert(told).clone()
    }
}

fn is_fresh(look: &watch::Receiver<Option<Seen>>) -> bool {
    match &*look.borrow() {
        Some(seen) => seen.at.elapsed() < FRESH,
        // Under way, unless it panicked.
        None => look.has_changed().is_ok(),
    }
}

/// `GET /api/readiness`
pub(super) async fn show(shared: Arc<Shared>) -> Result<Answer, Refused> {
    let mut look = shared.rehearsal.look(&shared.handles.readiness);
    let seen = match timeout(LOOK_TIME, look.wait_for(Option::is_some)).await {
        Ok(Ok(seen)) => seen.clone(),
        Ok(Err(_)) => {
            let what = "looking through the sessions failed; the log says more";
            return Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, what));
        }
        Err(_) => {
            let what = "the sessions are still being read; ask again in a moment";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, what));
        }
    };
    match seen.map(|seen| seen.result) {
        Some(Ok(text)) => Ok(answer::written(text)),
        Some(Err(error)) => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
        None => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "nothing was found out")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_look_serves_all_who_ask_at_the_time_and_shortly_after() {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let looks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&looks);
        let rehearse: Rehearse = Arc::new(move || {
            // Whoever looks meanwhile would find it locked.
            gone.try_lock().unwrap().recv().unwrap();
            Ok(counted.fetch_add(1, Ordering::Relaxed).to_string())
        });
        let rehearsal = Rehearsal::default();
        let seen = async |look: &mut watch::Receiver<Option<Seen>>| {
            look.wait_for(Option::is_some).await.unwrap().clone().unwrap().result.unwrap()
        };
        let mut asked: Vec<_> = (0..5).map(|_| rehearsal.look(&rehearse)).collect();
        go.send(()).unwrap();
        for look in &mut asked {
            assert_eq!(seen(look).await, "0");
        }
        tokio::time::advance(FRESH.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(seen(&mut rehearsal.look(&rehearse)).await, "0");
        tokio::time::advance(Duration::from_secs(1)).await;
        go.send(()).unwrap();
        assert_eq!(seen(&mut rehearsal.look(&rehearse)).await, "1");
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_look_that_broke_down_is_tried_again() {
        let broken = AtomicU32::new(0);
        let rehearse: Rehearse = Arc::new(move || {
            assert!(broken.fetch_add(1, Ordering::Relaxed) > 0, "broken on purpose");
            Ok("well".to_owned())
        });
        let rehearsal = Rehearsal::default();
        rehearsal.look(&rehearse).wait_for(Option::is_some).await.unwrap_err();
        let seen = rehearsal.look(&rehearse).wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(seen.unwrap().result.unwrap(), "well");
    }
}
