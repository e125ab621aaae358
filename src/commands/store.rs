//! The store while no proxy holds it.

use std::{path::Path, sync::atomic::AtomicUsize};

use uuid::Uuid;

use super::{Client, Failure, client, output::count};
use crate::{
    audit::{self, Audit, Event, Kind},
    clock::Clock,
    config::Config,
    identity::Username,
    session::{self, Role, Store, StoreError, scan},
};

/// Who changed something, as audit.log says.
pub(super) const BY: &str = "command";

/// What a command may change: the store itself, or the proxy that holds it.
pub(super) enum Holder {
    /// The store is ours until the command ends.
    Command(Box<Ours>),
    /// A proxy holds it.
    Proxy(Client),
    /// There is no store yet.
    Nobody,
}

/// The store, held by this command.
pub(super) struct Ours {
    pub(super) store: Store,
    pub(super) audit: Audit,
    pub(super) clock: Clock,
    /// What the owner should know.
    pub(super) remarks: String,
}

/// Whether a store that does not exist is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Leave,
}

/// Reads the documents, whoever else does meanwhile.
pub(super) fn read(config: &Config, clock: &Clock) -> Result<scan::Scan, Failure> {
    scan::scan(&config.session.directory, clock.now(), &AtomicUsize::new(0)).map_err(Failure::new)
}

/// Takes hold of the store, or finds the proxy that does.
pub(super) async fn hold(config: &Config, clock: &Clock, missing: Missing) -> Result<Holder, Failure> {
    let directory = &config.session.directory;
    if missing == Missing::Leave && !directory.exists() {
        return Ok(Holder::Nobody);
    }
    keep_owner(directory)?;
    // Clearing away is the proxy's to do, at its start.
    let ours = session::Config { cleanup_on_startup: false, ..config.session.clone() };
    let (store, report) = match Store::open(ours, clock.clone()).await {
        Ok(opened) => opened,
        Err(StoreError::Locked { holder, .. }) => return client(config, &holder).await.map(Holder::Proxy),
        Err(error) => return Err(Failure::new(error)),
    };
    store.announce(Role::Command).map_err(Failure::new)?;
    let mut remarks = String::new();
    if !report.damaged.is_empty() {
        let documents = count(report.damaged.len(), "session document is", "session documents are");
        let folder = directory.join("damaged");
        remarks = format!("warning: {documents} damaged and was set aside into {}\n", folder.display());
    }
    let audit = Audit::open(&config.audit).map_err(Failure::new)?;
    Ok(Holder::Command(Box::new(Ours { store, audit, clock: clock.clone(), remarks })))
}

/// Opens audit.log for a change that needs no store.
pub(super) fn audit(config: &audit::Config) -> Result<Audit, Failure> {
    if let Some(path) = &config.path {
        keep_owner(path)?;
    }
    Audit::open(config).map_err(Failure::new)
}

impl Ours {
    /// Notes a change in audit.log.
    pub(super) fn note(&self, kind: Kind, id: Uuid, name: Option<&Username>) -> Event {
        let event = Event::new(kind, self.clock.now()).id(id).field("by", BY);
        match name {
            Some(name) => event.player(name.as_str()),
            None => event,
        }
    }

    /// Makes all of it durable and gives the store back.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        let closed = self.store.close().await;
        self.audit.close().await;
        closed.map_err(|error| Failure::new(format_args!("not every change could be saved: {error}")))
    }
}

/// Files that the superuser makes in another user's folder are of no use to the proxy, which runs as that user and could
/// read them no more.
#[cfg(unix)]
pub(super) fn keep_owner(path: &Path) -> Result<(), Failure> {
    use std::{fs, os::unix::fs::MetadataExt};
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // A path that does not exist yet will be made in the nearest folder that does.
    let mut place = Some(path);
    while let Some(there) = place {
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        match fs::metadata(there) {
            Ok(metadata) if metadata.uid() != 0 => {
                return Err(Failure::new(format_args!(
                    "{} belongs to the user with the number {uid}, and what this command writes there as the superuser \
                     could not be read by that user's proxy; use the command as that user: sudo -u '#{uid}' postern …",
                    there.display(),
                    uid = metadata.uid()
                )));
            }
            Ok(_) => return Ok(()),
            Err(_) => place = there.parent(),
        }
    }
    Ok(())
}

/// Here files belong to whoever owns their folder.
#[cfg(not(unix))]
pub(super) fn keep_owner(_: &Path) -> Result<(), Failure> {
    Ok(())
}
