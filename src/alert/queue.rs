//! The way from where something happens to whoever tells of it.

use tokio::sync::mpsc;

use super::{Alert, Config};

/// Alerts that may wait. They are taken as fast as they come: who passes them on counts those it does not tell.
const WAITING: usize = 256;

/// Takes alerts. Clones lead to the same inbox.
#[derive(Clone, Debug)]
pub struct Alerts {
    queue: mpsc::Sender<Alert>,
    on_fallback: bool,
}

/// Where they come out.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Alert>);

/// Both ends.
pub fn queue(config: &Config) -> (Alerts, Inbox) {
    let (queue, inbox) = mpsc::channel(WAITING);
    (Alerts { queue, on_fallback: config.on_fallback }, Inbox(inbox))
}

impl Alerts {
    /// Hands one over, unless its kind is not wanted. Never waits: one that does not fit is dropped, as audit.log has
    /// all of them.
    pub fn offer(&self, alert: Alert) {
        if matches!(alert, Alert::Fallback(_)) && !self.on_fallback {
            return;
        }
        // An error other than a full queue: the program stops.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(alert) {
            tracing::debug!("an alert was dropped: too many wait");
        }
    }
}

impl Inbox {
    /// The next one; `None` once nobody is left to offer any.
    pub async fn next(&mut self) -> Option<Alert> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::alert::{AuthState, Fallback, Ground, Subject};

    fn state(to: &'static str) -> Alert {
        Alert::AuthState(AuthState { from: "up", to, cause: String::new(), lasted: None })
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
            let (alerts, mut inbox) = queue(&Config { staff: Vec::new(), on_fallback });
            alerts.offer(fallback());
            alerts.offer(state("down"));
            assert_eq!(inbox.next().await, Some(first));
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_room() {
        let (alerts, mut inbox) = queue(&Config { staff: Vec::new(), on_fallback: true });
        for _ in 0..WAITING {
            alerts.offer(state("down"));
        }
        alerts.offer(state("up"));
        drop(alerts);
        let mut taken = 0;
        while let Some(alert) = inbox.next().await {
            assert_eq!(alert, state("down"), "the newest goes");
            taken += 1;
        }
        assert_eq!(taken, WAITING);
    }
}
