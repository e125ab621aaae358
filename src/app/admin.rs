//! The admin interface: what it is given, and when it begins.

use std::{panic, sync::Arc};

use crate::{
    admin::{Config, Handles, Interface, OpenError, Phase, Serving},
    audit::Audit,
    clock::Clock,
    limit::bans::Bans,
    login::roster::Roster,
    session::Store,
};

/// Takes its address and its token, off the network threads.
pub(super) async fn open(config: &Config) -> Result<Option<Interface>, OpenError> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || Interface::open(&config)).await;
    opened.unwrap_or_else(|stopped| panic::resume_unwind(stopped.into_panic()))
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
