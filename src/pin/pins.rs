//! The handle: whether a player has a PIN, and how it gets another.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use super::{
    Config, Trial, Tried, Weakness, hash,
    metrics::Metrics,
    pool::{Lane, Pool},
    strength,
};
use crate::{
    limit::{Bans, WrongCodes},
    session::{Store, StoreError},
    task,
};

/// Longest wait for the disk: whoever sets a PIN looks at the chat until something is said.
const SAVE_WAIT: Duration = Duration::from_secs(10);

/// Unreadable hashes that the log has told of by name.
const MOST_TOLD: usize = 1024;

/// The players' PINs. Clones are the same.
#[derive(Clone)]
pub struct Pins {
    config: Config,
    pub(super) shared: Arc<Shared>,
}

/// What does not depend on the configuration, and lives longer than one.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) bans: Bans,
    pub(super) wrong_codes: WrongCodes,
    pub(super) pool: Pool,
    pub(super) metrics: Metrics,
    /// Ids of which a code is being compared or a PIN set.
    busy: Mutex<HashSet<Uuid>>,
    /// Ids whose unreadable hash the log has told of.
    told: Mutex<HashSet<Uuid>>,
}

/// A PIN is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is the player's first.
    Set,
    /// The player had another one.
    Replaced,
}

/// A PIN is not changed: what was in force is.
#[derive(Debug, thiserror::Error)]
pub enum NotSaved {
    /// The code will not do.
    #[error(transparent)]
    Weak(Weakness),
    /// A code of the same player is being compared or set, or too many others' are.
    #[error("too much to do at the moment")]
    Busy,
    /// The store knows no such player.
    #[error("no session is stored for this player")]
    NoSession,
    /// The disk did not take it.
    #[error(transparent)]
    Disk(StoreError),
    /// This machine could not compute the hash, or the proxy is stopping.
    #[error("this machine could not do it")]
    Local,
}

/// The one that compares a code of an id, or sets its PIN. Dropped by whatever outlives the player that asked.
pub(super) struct Claim {
    shared: Arc<Shared>,
    id: Uuid,
}

impl Pins {
    /// The PINs in a store; wrong codes count towards bans.
    pub fn new(config: Config, store: Store, bans: Bans) -> Self {
        let shared = Shared {
            store,
            bans,
            wrong_codes: WrongCodes::default(),
            pool: Pool::new(),
            metrics: Metrics::default(),
            busy: Mutex::default(),
            told: Mutex::default(),
        };
        Self { config, shared: Arc::new(shared) }
    }

    /// The same PINs under another configuration, for logins that begin from now on. Wrong codes, and what is being
    /// compared, are counted together with the old one's.
    #[must_use]
    pub fn successor(&self, config: Config) -> Self {
        Self { config, shared: Arc::clone(&self.shared) }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether there are PINs here at all.
    pub fn are_on(&self) -> bool {
        self.config.enabled
    }

    /// How long a player may take to enter the right one.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Whether the player has one.
    pub fn is_set(&self, id: Uuid) -> bool {
        self.shared.stored(id).is_some()
    }

    /// Wrong codes for this id within 24 h, up to 32: what policy is to know.
    pub fn wrong_codes(&self, id: Uuid) -> u32 {
        self.shared.wrong_codes.count(id)
    }

    /// Sets or replaces the player's PIN. Once this returns, it survives a power cut. It goes on to its end if the caller
    /// does not wait for it.
    ///
    /// Only for a player who is proven: by the session server, or by the PIN that it has.
    ///
    /// # Errors
    /// Why what was in force is still.
    pub async fn set(&self, id: Uuid, words: &SecretString) -> Result<Saved, NotSaved> {
        let session = self.shared.store.by_id(id).ok_or(NotSaved::NoSession)?;
        strength::check(words.expose_secret(), self.config.min_length, session.name.as_ref())
            .map_err(NotSaved::Weak)?;
        let claim = self.shared.claim(id).ok_or(NotSaved::Busy)?;
        let ticket = self.shared.pool.queue(Lane::Known).ok_or(NotSaved::Busy)?;
        let turn = ticket.turn().await.ok_or(NotSaved::Local)?;
        let words = words.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hash::make(&words)
        });
        let hash = hashed.await.ok().and_then(Result::ok).ok_or(NotSaved::Local)?;
        let had = save(claim, Some(hash)).await?;
        Ok(if had { Saved::Replaced } else { Saved::Set })
    }

    /// Takes the player's PIN away. Once this returns, that survives a power cut. Whether there was one.
    ///
    /// Only for a player whom the session server has proven.
    ///
    /// # Errors
    /// Why what was in force is still.
    pub async fn reset(&self, id: Uuid) -> Result<bool, NotSaved> {
        let claim = self.shared.claim(id).ok_or(NotSaved::Busy)?;
        save(claim, None).await
    }

    /// The tries of one attempt to enter a PIN.
    pub fn trial(&self, who: Tried) -> Trial {
        Trial::new(Arc::clone(&self.shared), who)
    }
}

impl Shared {
    /// The stored hash.
    pub(super) fn stored(&self, id: Uuid) -> Option<String> {
        self.store.by_id(id)?.pin_hash.clone()
    }

    /// `None` if there is one of this id already.
    pub(super) fn claim(self: &Arc<Self>, id: Uuid) -> Option<Claim> {
        lock(&self.busy).insert(id).then(|| Claim { shared: Arc::clone(self), id })
    }

    /// Puts a better hash of the same code in the place of the stored one, unless that is another by now. Does not wait
    /// for the disk: the code was right, whatever becomes of this.
    pub(super) fn improve(&self, id: Uuid, stored: &str, better: String) {
        self.store.update(id, |session| {
            if session.pin_hash.as_deref() == Some(stored) {
                session.pin_hash = Some(better);
            }
        });
    }

    /// Once a player, as far as anybody could count them.
    pub(super) fn tell_unreadable(&self, id: Uuid) {
        let mut told = lock(&self.told);
        if told.len() < MOST_TOLD && told.insert(id) {
            tracing::warn!(%id, "the PIN hash of this player's session cannot be read: no code is right, so in an outage \
                the player is kept out; a new PIN, set or reset while verified, mends it");
        }
    }

    /// Changes the hash, and waits until that is on disk. Whether there was one before.
    async fn save(&self, id: Uuid, new: Option<String>) -> Result<bool, NotSaved> {
        let mut old = None;
        let swap = |hash: &mut Option<String>, to: &Option<String>| std::mem::replace(hash, to.clone());
        self.store
            .update(id, |session| old = swap(&mut session.pin_hash, &new))
            .ok_or(NotSaved::NoSession)?;
        let why = match timeout(SAVE_WAIT, self.store.flush_one(id)).await {
            Ok(Ok(())) => return Ok(old.is_some()),
            Ok(Err(error)) => error,
            Err(_) => StoreError::NotSaved { why: "the disk did not answer in time".to_owned() },
        };
        // What is queued is changed with it, so that the disk gets the old one again whenever it is mended.
        self.store.update(id, |session| {
            if session.pin_hash == new {
                session.pin_hash.clone_from(&old);
            }
        });
        Err(NotSaved::Disk(why))
    }
}

/// Saves to the end, also if nobody waits for it: else a player who leaves could leave the new hash in memory, and the old
/// one on disk.
async fn save(claim: Claim, new: Option<String>) -> Result<bool, NotSaved> {
    let (tell, told) = oneshot::channel();
    task::spawn("saving a PIN", async move {
        let result = claim.shared.save(claim.id, new).await;
        drop(claim);
        // Whoever has left does not want to know.
        let _ = tell.send(result);
    });
    told.await.unwrap_or(Err(NotSaved::Local))
}

fn lock(ids: &Mutex<HashSet<Uuid>>) -> MutexGuard<'_, HashSet<Uuid>> {
    // A set is whole after each step.
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.shared.busy).remove(&self.id);
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
