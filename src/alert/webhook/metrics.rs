//! How the webhooks do.

use super::Webhooks;
use crate::metric::{Error, Readings, Registry, alone, length, number};

impl Webhooks {
    /// Has it read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let hooks = self.clone();
        Readings::gauge("postern_webhooks", "Webhooks that are configured.", [], move || {
            alone(length(hooks.figures().hooks))
        })
        .register(registry)?;
        let hooks = self.clone();
        Readings::gauge(
            "postern_webhooks_failing",
            "Webhooks whose newest message did not get through.",
            [],
            move || alone(length(hooks.figures().failing)),
        )
        .register(registry)?;
        let hooks = self.clone();
        Readings::gauge(
            "postern_webhook_queue",
            "Alerts and messages that wait for a webhook.",
            [],
            move || alone(length(hooks.figures().queued)),
        )
        .register(registry)?;
        let hooks = self.clone();
        Readings::total(
            "postern_webhook_messages_total",
            "Messages to webhooks: taken by the receiver (sent), or lost for want of room, by the receiver's no or at the \
             stop (dropped).",
            ["result"],
            move || {
                let figures = hooks.figures();
                vec![(["sent"], number(figures.sent)), (["dropped"], number(figures.dropped))]
            },
        )
        .register(registry)?;
        let hooks = self.clone();
        Readings::total(
            "postern_webhook_failures_total",
            "Tries to reach a webhook that failed; most are tried again.",
            [],
            move || alone(number(hooks.figures().failed)),
        )
        .register(registry)
    }
}
