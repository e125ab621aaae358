//! The admin interface: what it is given, and when it begins.

use std::{panic, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::StartError;
use crate::{
    admin::{Config, Handles, Interface, OpenError, Phase, Serving},
    audit::Audit,
    clock::Clock,
    limit::bans::Bans,
    login::roster::Roster,
    session::{Role, Store},
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
}

/// Has it answer, if there is one.
pub(super) fn serve(
    interface: Option<Interface>,
    sources: &Sources<'_>,
    phase: &Phase,
) -> Result<Option<Serving>, OpenError> {
    let roster = Arc::clone(sources.roster);
    let handles = Handles {
        store: sources.store.clone(),
        bans: sources.bans.clone(),
        audit: sources.audit.clone(),
        clock: sources.clock.clone(),
        phase: phase.clone(),
        connected: Box::new(move |id| roster.proof_of(id)),
    };
    interface.map(|interface| interface.serve(handles)).transpose()
}
