//! Webhooks in the running program: they know from the statistics what became of the logins of an outage.

use std::sync::Arc;

use crate::{
    alert::{
        self, Alerts, Inbox,
        webhook::{BuildError, Logins, Webhooks},
    },
    clock::Clock,
    statistics::Statistics,
    task::Shutdown,
};

/// Where alerts go in, with all webhooks of the configuration behind it, and where staff's come out.
///
/// # Errors
/// An HTTP client that cannot be set up.
pub(super) async fn open(
    config: &alert::Config,
    statistics: &Statistics,
    clock: &Clock,
) -> Result<(Alerts, Inbox), BuildError> {
    let statistics = statistics.clone();
    let tally = move |started| {
        let outage = statistics.outage(started)?;
        Some(Logins { admitted: outage.admitted, refused: outage.refused })
    };
    let (alerts, inbox) = alert::queue(config);
    let alerts = alerts.also_to(Webhooks::new(clock.clone(), Arc::new(tally)));
    let (asked, config) = (alerts.clone(), config.clone());
    // An HTTP client reads the certificates of the system.
    let prepared = tokio::task::spawn_blocking(move || asked.prepare(&config)).await;
    alerts.adopt(prepared.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
    Ok((alerts, inbox))
}

/// Lets them work until `stop`, and then send what waits.
pub(super) async fn run(alerts: Alerts, stop: Shutdown) {
    if let Some(webhooks) = alerts.webhooks() {
        webhooks.clone().run(stop).await;
    }
}
