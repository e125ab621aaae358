//! All figures in one place: what every room counts, and what only the whole knows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use prometheus::TextEncoder;
use tracing::error;

use super::{
    generation::{Generations, Lasting},
    process,
};
use crate::{
    login::{self, FallbackMode},
    metric::{Counters, Error, Readings, Registry, alone, number, one_of},
    status,
};

/// What the app counts itself, for all generations. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) logins: login::Metrics,
    pub(super) pings: status::Metrics,
    reloads: Counters<1>,
    last_reload: Arc<LastReload>,
}

/// The newest reload; at first, the start.
#[derive(Debug)]
struct LastReload {
    worked: AtomicBool,
    /// When the configuration in use was taken over, in seconds since 1970.
    took_effect: AtomicU64,
}

impl Metrics {
    /// Nothing has happened yet but the start, which was at that many seconds since 1970.
    pub(super) fn new(started: i64) -> Self {
        let took_effect = AtomicU64::new(u64::try_from(started).unwrap_or_default());
        Self {
            logins: login::Metrics::default(),
            pings: status::Metrics::default(),
            reloads: Counters::new(
                "postern_config_reloads_total",
                "Times the configuration was read again, by whether it was taken over (ok) or had problems (failed).",
                ["result"],
                [["ok"], ["failed"]],
            ),
            last_reload: Arc::new(LastReload { worked: true.into(), took_effect }),
        }
    }

    /// The configuration was read again, at that many seconds since 1970.
    pub(super) fn reloaded(&self, worked: bool, now: i64) {
        self.reloads.count([if worked { "ok" } else { "failed" }]);
        self.last_reload.worked.store(worked, Ordering::Relaxed);
        if worked {
            self.last_reload.took_effect.store(u64::try_from(now).unwrap_or_default(), Ordering::Relaxed);
        }
    }

    fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.pings.register(registry)?;
        self.reloads.register(registry)?;
        let last = Arc::clone(&self.last_reload);
        Readings::gauge(
            "postern_config_last_reload_successful",
            "Whether the configuration could be taken over when it was last read: 1, or 0 if it had problems.",
            [],
            move || alone(if last.worked.load(Ordering::Relaxed) { 1.0 } else { 0.0 }),
        )
        .register(registry)?;
        let last = Arc::clone(&self.last_reload);
        Readings::gauge(
            "postern_config_in_use_since_timestamp_seconds",
            "When the configuration in use was taken over, by the start or by a reload.",
            [],
            move || alone(number(last.took_effect.load(Ordering::Relaxed))),
        )
        .register(registry)
    }
}

/// Everything that is counted or known, in the text format of Prometheus whenever it is asked for. Reading takes a few
/// short locks, one after the other, and as much memory as the text has.
///
/// # Errors
/// If two families have one name, or one has none: a mistake in the program.
pub(super) fn compose(
    lasting: &Arc<Lasting>,
    generations: &Arc<Generations>,
) -> Result<Box<dyn Fn() -> String + Send + Sync>, Error> {
    let registry = Registry::new();
    let version = env!("CARGO_PKG_VERSION");
    Readings::gauge("postern_build_info", "Which version of Postern this is.", ["version"], move || {
        vec![([version], 1.0)]
    })
    .register(&registry)?;
    let in_use = Arc::downgrade(generations);
    Readings::gauge(
        "postern_fallback_mode",
        "What the configuration has done with logins during an outage: 1 for the mode in use.",
        ["mode"],
        move || {
            let modes = [FallbackMode::Enabled, FallbackMode::DryRun, FallbackMode::Disabled];
            let mode =
                in_use.upgrade().map(|generations| generations.current().login.config.fallback.label());
            one_of(&modes.map(FallbackMode::label), mode)
        },
    )
    .register(&registry)?;
    lasting.metrics.register(&registry)?;
    lasting.metrics.logins.register(&lasting.gate, &lasting.roster, &registry)?;
    lasting.health.register(&registry)?;
    lasting.store.register(&registry)?;
    lasting.bans.register(&registry)?;
    lasting.gate.register(&registry)?;
    lasting.geo.register(&registry)?;
    lasting.workers.register(&registry)?;
    lasting.audit.register(&registry)?;
    if let Some(webhooks) = lasting.alerts.webhooks() {
        webhooks.register(&registry)?;
    }
    // Those that are made anew with each generation count on in what the first one began.
    let first = generations.current();
    first.login.server.metrics().register(&registry)?;
    first.login.pins.register(&registry)?;
    first.router.register(&registry)?;
    process::register(&registry)?;
    Ok(Box::new(move || {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| {
            error!(%error, "the figures for Prometheus cannot be written; this is a bug in Postern, please report it");
            String::new()
        })
    }))
}
