//! The admin interface: what it is given, and when it begins.

use std::{
    panic,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::time::timeout;

use super::{StartError, players::Players};
use crate::{
    admin::{
        Config, Handles, Interface, OpenError, Phase, Reload, Serving,
        status::{Connections, Facts},
    },
    alert::Alerts,
    audit::Audit,
    clock::Clock,
    config,
    limit::{
        bans::Bans,
        gate::{self, Gate},
    },
    login::roster::Roster,
    mojang::health::Health,
    readiness::{self, Judged, Population, Terms},
    session::{Role, Store, Survey, scan},
    statistics::Statistics,
};

/// How long the lock file may take to be written when the interface ends.
const NOTE_TIME: Duration = Duration::from_secs(2);

/// Takes its address and its token, and notes the address in the store's lock file, so that commands show the token to
/// nobody else. Off the network threads.
pub(super) async fn open(config: &Config, store: &Store) -> Result<Option<Interface>, StartError> {
    let (config, store) = (config.clone(), store.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let interface = Interface::open(&config)?;
        store.announce(Role::Proxy { admin: interface.as_ref().map(Interface::address) })?;
        Ok(interface)
    });
    opened.await.unwrap_or_else(|stopped| panic::resume_unwind(stopped.into_panic()))
}

/// Ends it, if there is one. From then on its address may be anybody's, which is noted before.
pub(super) async fn stop(serving: Option<Serving>, store: &Store) {
    let Some(serving) = serving else { return };
    let store = store.clone();
    let note = tokio::task::spawn_blocking(move || store.announce(Role::Proxy { admin: None }));
    // A disk that is stuck must not keep the proxy from ending.
    if let Ok(Ok(Err(error))) = timeout(NOTE_TIME, note).await {
        tracing::warn!(%error, "the end of the admin interface was not noted");
    }
    serving.stop().await;
}

/// What its answers come from.
pub(super) struct Sources<'a> {
    pub(super) store: &'a Store,
    pub(super) bans: &'a Bans,
    pub(super) audit: &'a Audit,
    pub(super) clock: &'a Clock,
    pub(super) roster: &'a Arc<Roster>,
    pub(super) players: &'a Players,
    pub(super) health: &'a Health,
    pub(super) alerts: &'a Alerts,
    pub(super) statistics: &'a Statistics,
    pub(super) gate: &'a Gate,
    /// The configuration in use, whichever that is when it is asked for.
    pub(super) config: Arc<dyn Fn() -> Arc<config::Config> + Send + Sync>,
    /// Figures for Prometheus.
    pub(super) metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Reads the configuration again.
    pub(super) reload: Reload,
}

/// Has it answer, if there is one.
pub(super) fn serve(
    interface: Option<Interface>,
    sources: Sources<'_>,
    phase: &Phase,
) -> Result<Option<Serving>, OpenError> {
    let Some(interface) = interface else { return Ok(None) };
    let Sources { config, metrics, reload, clock, .. } = sources;
    let (roster, gate) = (Arc::clone(sources.roster), sources.gate.clone());
    let (facts, rehearsed, shown) = (Arc::clone(&config), Arc::clone(&config), config);
    let (statistics, at) = (sources.statistics.clone(), clock.clone());
    let handles = Handles {
        store: sources.store.clone(),
        bans: sources.bans.clone(),
        audit: sources.audit.clone(),
        clock: clock.clone(),
        phase: phase.clone(),
        connected: Box::new(move |id| roster.proof_of(id)),
        players: Box::new(sources.players.clone()),
        health: sources.health.clone(),
        alerts: sources.alerts.clone(),
        statistics: sources.statistics.clone(),
        connections: Box::new(move || connections(&gate)),
        facts: Box::new(move || Facts { fallback: facts().login.fallback.label() }),
        readiness: Arc::new(move || rehearse(&rehearsed(), &statistics, &at)),
        metrics: Box::new(move || shown().metrics.then(&metrics)),
        reload,
    };
    interface.serve(handles).map(Some)
}

fn connections(gate: &Gate) -> Connections {
    let gate::Figures { open, max, pending_logins, max_pending_logins } = gate.figures();
    Connections { open, max, pending_logins, max_pending_logins }
}

/// Who could join if the session servers went down now, by the configuration in use. Blocks.
fn rehearse(config: &config::Config, statistics: &Statistics, clock: &Clock) -> Result<String, String> {
    let now = clock.now();
    let scan = scan::scan(&config.session.directory, now, &AtomicUsize::new(0))
        .map_err(|error| format!("the sessions cannot be read: {error}"))?;
    let store = Survey { sessions: scan.sessions.len(), damaged: scan.damaged };
    let (rules, login) = (config.rules.clone(), &config.login);
    let terms = Terms { rules, allow_plaintext_fallback: login.allow_plaintext_fallback };
    let report = Population::new(scan.sessions, now).report(&terms);
    let (file, fallback) = (config.source.display().to_string(), login.fallback.label());
    let current = Judged { file, fallback, terms, report };
    Ok(readiness::to_json(now, store, &current, None, statistics.totals().as_ref()))
}
