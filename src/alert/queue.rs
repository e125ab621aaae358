//! The way from where something happens to whoever tells of it.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc::{
    self,
    error::{TryRecvError, TrySendError},
};

use super::{
    Alert, Config, Sum,
    webhook::{self, BuildError, Webhooks},
};

/// Alerts that may wait. They are taken as fast as they come; of what comes faster still the number is kept.
const WAITING: usize = 256;

/// Takes alerts. Clones lead to the same inbox.
#[derive(Clone, Debug)]
pub struct Alerts {
    queue: mpsc::Sender<Alert>,
    missed: Missed,
    on_fallback: Arc<AtomicBool>,
    webhooks: Option<Webhooks>,
}

/// A configuration that can be taken over: see [`Alerts::prepare`].
#[derive(Debug)]
pub struct Prepared {
    on_fallback: bool,
    webhooks: Option<webhook::Prepared>,
}

/// Where they come out.
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Alert>,
    missed: Missed,
}

/// What comes out of an [`Inbox`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An alert.
    Alert(Alert),
    /// There were more, behind those that came out before, for which there was no room.
    Missed(Sum),
}

/// Alerts for which there was no room, since the inbox was last empty.
#[derive(Clone, Debug, Default)]
struct Missed(Arc<Mutex<Sum>>);

impl Missed {
    fn lock(&self) -> MutexGuard<'_, Sum> {
        // A sum is whole after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends.
pub fn queue(config: &Config) -> (Alerts, Inbox) {
    let (queue, inbox) = mpsc::channel(WAITING);
    let missed = Missed::default();
    let on_fallback = Arc::new(AtomicBool::new(config.on_fallback));
    let alerts = Alerts { queue, missed: missed.clone(), on_fallback, webhooks: None };
    (alerts, Inbox { queue: inbox, missed })
}

impl Alerts {
    /// These get what is offered from now on, too.
    #[must_use]
    pub fn also_to(mut self, webhooks: Webhooks) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// Who is told over HTTP, if anybody can be.
    pub fn webhooks(&self) -> Option<&Webhooks> {
        self.webhooks.as_ref()
    }

    /// Makes sure that a configuration can be taken over. Changes nothing.
    ///
    /// # Errors
    /// An HTTP client that cannot be set up.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, BuildError> {
        let webhooks =
            self.webhooks.as_ref().map(|webhooks| webhooks.prepare(&config.webhooks)).transpose()?;
        Ok(Prepared { on_fallback: config.on_fallback, webhooks })
    }

    /// Takes over which alerts are wanted, and by which hooks.
    pub fn adopt(&self, prepared: Prepared) {
        self.on_fallback.store(prepared.on_fallback, Ordering::Relaxed);
        if let (Some(webhooks), Some(prepared)) = (&self.webhooks, prepared.webhooks) {
            webhooks.adopt(prepared);
        }
    }

    /// Hands one over, unless its kind is not wanted. Never waits: of one that does not fit remains that there was one,
    /// as audit.log has all of them.
    pub fn offer(&self, alert: Alert) {
        if matches!(alert, Alert::Fallback(_)) && !self.on_fallback.load(Ordering::Relaxed) {
            return;
        }
        if let Some(webhooks) = &self.webhooks {
            webhooks.offer(&alert);
        }
        // Held over both steps: whoever finds the queue empty has everything that did not fit before that.
        let mut missed = self.missed.lock();
        // An error other than a full queue: the program stops.
        if let Err(TrySendError::Full(alert)) = self.queue.try_send(alert) {
            missed.add(&alert);
        }
    }
}

impl Inbox {
    /// What is next; `None` once nobody is left to offer any. May be cancelled.
    pub async fn next(&mut self) -> Option<News> {
        match self.queue.try_recv() {
            Ok(alert) => return Some(News::Alert(alert)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        let missed = mem::take(&mut *self.missed.lock());
        if !missed.is_empty() {
            return Some(News::Missed(missed));
        }
        self.queue.recv().await.map(News::Alert)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::alert::{AuthState, Fallback, Ground, Subject};

    fn state(to: &'static str) -> Alert {
        Alert::AuthState(AuthState { from: "up", to, cause: String::new(), lasted: None, outage: None })
    }

    fn fallback() -> Alert {
        let address = "203.0.113.5".parse().unwrap();
        let player = Subject { name: "Ann".to_owned(), id: Uuid::nil(), address, place: None };
        let outage = Duration::ZERO;
        Alert::Fallback(Fallback { player, ground: Ground::Nothing, pin_proven: false, outage })
    }

    #[tokio::test]
    async fn outage_logins_can_be_silenced() {
        for (on_fallback, first) in [(true, fallback()), (false, state("down"))] {
            let (alerts, mut inbox) = queue(&Config { staff: Vec::new(), on_fallback, webhooks: Vec::new() });
            alerts.offer(fallback());
            alerts.offer(state("down"));
            assert_eq!(inbox.next().await, Some(News::Alert(first)));
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_room() {
        let (alerts, mut inbox) =
            queue(&Config { staff: Vec::new(), on_fallback: true, webhooks: Vec::new() });
        for _ in 0..WAITING {
            alerts.offer(state("down"));
        }
        alerts.offer(fallback());
        alerts.offer(state("up"));
        for _ in 0..WAITING {
            assert_eq!(inbox.next().await, Some(News::Alert(state("down"))));
        }
        let Some(News::Missed(missed)) = inbox.next().await else { panic!("two of them got lost") };
        assert_eq!(missed.to_string(), "1 login without Mojang, authentication servers are now up");
        // From then on there is room again.
        alerts.offer(state("down"));
        assert_eq!(inbox.next().await, Some(News::Alert(state("down"))));
        drop(alerts);
        assert_eq!(inbox.next().await, None);
    }
}
