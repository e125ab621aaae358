//! The handle on the store.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    Config, OpenReport, Role, StoreError,
    alike::{self, AllPrivate},
    files::{Files, Lock},
    import,
    index::Index,
    load::{self, Loaded},
    metrics::Metrics,
    queue::{Change, Queue},
    record::{Session, VerifiedLogin},
    writer,
};
use crate::{
    address::same_range,
    clock::Clock,
    identity::{Property, Username, Whom},
    task,
};

/// Documents that may be read at once for [`Store::properties`]. If the disk hangs, so many threads of the
/// runtime's blocking pool hang with it, and no more.
const READS_AT_ONCE: usize = 16;

/// The remembered logins of all players. Clones are the same store; once the last is dropped, what is queued is
/// still written and the folder is then free. [`close`](Self::close) does the same and waits for it.
#[derive(Clone, Debug)]
pub struct Store(pub(super) Arc<Handle>);

/// What clones share.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) clock: Clock,
    /// Goes along to every place.
    pub(super) metrics: Metrics,
    /// Held to look where the store is, or to move it: not while anything is asked there.
    places: Mutex<Places>,
}

/// Where the store is, and was.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) current: Arc<Owner>,
    /// Those that still have something to write, or whose folder is not free yet.
    pub(super) former: Vec<Former>,
    /// What its holder has said that it is.
    pub(super) role: Option<Role>,
    /// Failed writes in places that are not among these any more.
    pub(super) failures_before: u64,
}

/// A place that was left.
#[derive(Clone, Debug)]
pub(super) struct Former {
    pub(super) shared: Arc<Shared>,
    ended: Ended,
}

/// Knows when a writer has ended and its folder is free: then the other end is gone.
#[derive(Clone, Debug)]
struct Ended(watch::Receiver<()>);

impl Former {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.0.has_changed().is_err()
    }

    /// Returns once its folder is free.
    pub(super) async fn ended(mut self) {
        while self.ended.0.changed().await.is_ok() {}
    }
}

/// One place. Ends the writer when the last one who works here goes.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    /// Taken by whoever closes the store.
    writer: Mutex<Option<JoinHandle<()>>>,
    ended: Ended,
}

impl Owner {
    /// Starts the writer of a folder that was locked and read. What is `untidy` there it clears away first.
    pub(super) fn start(
        config: Config,
        clock: Clock,
        (files, lock): (Files, Lock),
        Loaded { index, changed, untidy, .. }: Loaded,
        metrics: Metrics,
    ) -> Self {
        let queue = Queue::default();
        let state = State { config, index, queue, closing: false, told_of_failure: false };
        let shared = Arc::new(Shared {
            clock,
            files,
            state: Mutex::new(state),
            work: Notify::new(),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            metrics,
        });
        for session in changed {
            let id = session.id;
            shared.queue(&mut shared.state(), id, Change::Write { session, properties: None });
        }
        let (running, ended) = watch::channel(());
        let work = writer::run(Arc::clone(&shared), lock, untidy);
        let writer = task::spawn("session writer", async move {
            work.await;
            drop(running);
        });
        Self { shared, writer: Mutex::new(Some(writer)), ended: Ended(ended) }
    }

    /// The same, once it is left.
    pub(super) fn left(&self) -> Former {
        Former { shared: Arc::clone(&self.shared), ended: self.ended.clone() }
    }
}

impl Owner {
    /// Asks the disk, off the network threads. Takes as long as the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let permit = Arc::clone(&shared.reads).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let asked = tokio::task::spawn_blocking(move || {
            // Given back when the disk has answered, not when the caller has lost patience.
            let _permit = permit;
            ask(&shared.files)
        });
        match asked.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Closed),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_closing();
    }
}

/// What handles and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    clock: Clock,
    pub(super) files: Files,
    /// One lock for the index and the queue, so that changes are queued in the order they happened. Held for a few
    /// look-ups at a time, never for I/O.
    state: Mutex<State>,
    /// Wakes the writer.
    pub(super) work: Notify,
    /// Bounds the reads for properties.
    reads: Arc<Semaphore>,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    index: Index,
    pub(super) queue: Queue,
    /// The writer is to end.
    pub(super) closing: bool,
    /// The current spell of failing writes has been logged.
    pub(super) told_of_failure: bool,
}

impl State {
    fn could_import(&self, row: &import::Row, now: Timestamp) -> Result<Session, import::Conflict> {
        let same_id = self.index.by_id(row.session.id).map(AsRef::as_ref);
        row.beside(same_id, self.index.by_name(&row.name).map(AsRef::as_ref), now)
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No panic leaves the state half changed: what can panic (an update's closure) works on a copy.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the changes so far, of one player or all.
    fn wait(&self, only: Option<Uuid>) -> oneshot::Receiver<Result<(), StoreError>> {
        let answer = self.state().queue.wait(only);
        self.work.notify_one();
        answer
    }

    fn begin_closing(&self) {
        self.state().closing = true;
        self.work.notify_one();
    }

    fn queue(&self, state: &mut State, id: Uuid, change: Change) {
        if state.queue.push(id, change) {
            self.work.notify_one();
        } else {
            tracing::warn!(%id, "a session changed after the store was closed; this change is lost");
        }
    }

    /// Puts a session into the index and queues what must be written for it.
    fn put(&self, state: &mut State, session: Session, properties: Option<Arc<[Property]>>) -> Arc<Session> {
        let session = Arc::new(session);
        // Who loses the name is written first, so that no two documents hold it after a crash in between.
        if let Some(robbed) = state.index.put(Arc::clone(&session)) {
            self.queue(state, robbed.id, Change::Write { session: robbed, properties: None });
        }
        let change = Change::Write { session: Arc::clone(&session), properties };
        self.queue(state, session.id, change);
        session
    }

    /// Drops the sessions that have gone unused.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        let unused: Vec<Uuid> =
            state.index.all().filter(|session| session.is_unused(now)).map(|session| session.id).collect();
        for id in unused {
            state.index.remove(id);
            if state.config.cleanup_on_startup {
                self.queue(&mut state, id, Change::Remove);
            }
        }
    }
}

impl Store {
    /// Locks the folder, reads all documents and starts the writer. Must be called on a tokio runtime; the reading
    /// happens off its network threads.
    ///
    /// Fails if another process owns the folder, or if the folder cannot be made, listed or written. A single
    /// document that is damaged or cannot be read is set aside instead, and stands in the report.
    pub async fn open(config: Config, clock: Clock) -> Result<(Self, OpenReport), StoreError> {
        let now = clock.now();
        let opened = tokio::task::spawn_blocking(move || {
            let (files, lock) = Files::open(&config.directory)?;
            let mut loaded = load::load(&files, &config, now)?;
            load::tidy(&files, std::mem::take(&mut loaded.untidy), &mut loaded.report)?;
            Ok((config, (files, lock), loaded))
        });
        let (config, folder, loaded) = match opened.await {
            Ok(result) => result?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(StoreError::Closed),
        };

        let report = loaded.report.clone();
        let metrics = Metrics::default();
        let current = Arc::new(Owner::start(config, clock.clone(), folder, loaded, metrics.clone()));
        let places = Places { current, former: Vec::new(), role: None, failures_before: 0 };
        Ok((Self(Arc::new(Handle { clock, metrics, places: Mutex::new(places) })), report))
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing in here panics between two changes that belong together.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the store is now. Whoever works there keeps it open meanwhile.
    pub(super) fn owner(&self) -> Arc<Owner> {
        Arc::clone(&self.places().current)
    }

    /// The session under that name (in any case); if there is none, the one of the id that the client claims: a
    /// player who has changed name. By id, only a session that still has a name is found: no other could be
    /// admitted under its own.
    pub fn find(&self, name: &Username, claimed_id: Option<Uuid>) -> Option<Arc<Session>> {
        let (owner, now) = (self.owner(), self.0.clock.now());
        let state = owner.shared.state();
        let counts = |session: &&Arc<Session>| session.counts(now);
        let by_name = state.index.by_name(name).filter(counts);
        let by_id = || claimed_id.and_then(|id| state.index.by_id(id)).filter(counts);
        by_name.or_else(|| by_id().filter(|session| session.name.is_some())).cloned()
    }

    /// The session of that id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Session>> {
        let now = self.0.clock.now();
        self.owner().shared.state().index.by_id(id).filter(|session| session.counts(now)).cloned()
    }

    /// Whether a session of that name remembers this address or another of its range, however old. Such a login
    /// is most likely the player's own. It proves nothing else.
    pub fn knows(&self, name: &Username, address: IpAddr) -> bool {
        let (ipv4_range_prefix, ipv6_range_prefix) = {
            let owner = self.owner();
            let Config { ipv4_range_prefix, ipv6_range_prefix, .. } = owner.shared.state().config;
            (ipv4_range_prefix, ipv6_range_prefix)
        };
        self.find(name, None).is_some_and(|session| {
            session
                .addresses
                .iter()
                .any(|known| same_range(known.address, address, ipv4_range_prefix, ipv6_range_prefix))
        })
    }

    /// The ids that were verified from exactly this address within the age that addresses count for; the first 1024
    /// of them.
    pub fn ids_at(&self, address: IpAddr, now: Timestamp) -> Vec<Uuid> {
        let owner = self.owner();
        let state = owner.shared.state();
        let max_age = SignedDuration::try_from(state.config.max_address_age).unwrap_or(SignedDuration::MAX);
        state.index.ids_at(address, now, max_age)
    }

    /// How many ids remember an address of this client, however old: an IPv4 client is its address, an IPv6 client
    /// its /64. Counting stops at 1024. For limits that spare known players.
    pub fn sessions_from(&self, address: IpAddr) -> usize {
        self.owner().shared.state().index.sessions_from(address)
    }

    /// Whether [`sessions_from`](Self::sessions_from) this client there are any.
    pub fn has_session_from(&self, address: IpAddr) -> bool {
        self.owner().shared.state().index.has_session_from(address)
    }

    /// Sessions in the index.
    pub fn len(&self) -> usize {
        self.owner().shared.state().index.len()
    }

    /// Whether the store remembers nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sessions that may be used to judge a login, in no order.
    pub fn snapshot(&self) -> Vec<Arc<Session>> {
        let now = self.0.clock.now();
        self.owner().shared.state().index.all().filter(|session| session.counts(now)).cloned().collect()
    }

    /// Whether all sessions come from private addresses; see [`alike::all_private`].
    pub fn all_private(&self) -> Option<AllPrivate> {
        let max_age = SignedDuration::try_from(self.owner().shared.state().config.max_address_age);
        let (sessions, now) = (self.snapshot(), self.0.clock.now());
        alike::all_private(sessions.iter().map(AsRef::as_ref), now, max_age.unwrap_or(SignedDuration::MAX))
    }

    /// Reads the profile properties of a session: from the queue if they are to be written, else from its document.
    /// Takes as long as the disk; set it a time limit.
    pub async fn properties(&self, id: Uuid) -> Result<Vec<Property>, StoreError> {
        if self.by_id(id).is_none() {
            return Err(StoreError::NoSession { id });
        }
        let owner = self.owner();
        let queued = owner.shared.state().queue.properties(id);
        if let Some(properties) = queued {
            return Ok(properties.to_vec());
        }
        let document = owner.on_disk(move |files| files.read(id)).await?;
        document.map(|document| document.properties).ok_or(StoreError::NoSession { id })
    }

    /// Records a login that the session server has proven: history, address, name, dialogs; unlocks the session and
    /// forgets its denied networks. Another session of the same name loses it. Returns the session as it was before.
    ///
    /// Does not wait for the disk.
    pub fn record_verified(&self, login: VerifiedLogin) -> Option<Arc<Session>> {
        let owner = self.owner();
        let shared = &owner.shared;
        let mut state = shared.state();
        // Read under the lock: later changes must not carry earlier times.
        let now = shared.clock.now();
        let id = login.profile.id;
        // An unused one is dropped, only not swept yet: the player starts anew.
        let before = state.index.by_id(id).filter(|session| !session.is_unused(now)).cloned();
        let session = Session::after_login(before.as_deref(), &login, &state.config, now);
        shared.put(&mut state, session, Some(login.profile.properties.into()));
        before
    }

    /// The session that its owner means. By name only one that has it now.
    pub fn of(&self, whom: &Whom) -> Option<Arc<Session>> {
        match whom {
            Whom::Id(id) => self.by_id(*id),
            Whom::Name(name) => self.find(name, None),
        }
    }

    /// Stores a session that comes from elsewhere, unless something here speaks against it: checked and stored in one
    /// step, so that no login comes between. Returns what was stored: the row, and what is known here of an earlier
    /// import of the same player.
    ///
    /// Does not wait for the disk; [`flush`](Self::flush) does.
    ///
    /// # Errors
    /// What speaks against it; nothing was changed then.
    pub fn import(&self, row: &import::Row) -> Result<Session, import::Conflict> {
        let owner = self.owner();
        let shared = &owner.shared;
        let mut state = shared.state();
        let session = state.could_import(row, shared.clock.now())?;
        shared.put(&mut state, session.clone(), Some(row.properties.clone().into()));
        Ok(session)
    }

    /// What [`import`](Self::import) would say now. Changes nothing.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn could_import(&self, row: &import::Row) -> Result<Session, import::Conflict> {
        let owner = self.owner();
        let shared = &owner.shared;
        shared.state().could_import(row, shared.clock.now())
    }

    /// Locks a session: policy lets nobody in with it until its next verified login. Whether it was not locked before;
    /// `None` if there is no session of this id.
    ///
    /// Does not wait for the disk; [`flush_one`](Self::flush_one) does.
    pub fn lock(&self, id: Uuid) -> Option<bool> {
        self.update(id, |session| !std::mem::replace(&mut session.locked, true))
    }

    /// Notes that a verified connection of this id is up now. To be called at its end, and every 15 minutes until
    /// then, so that a crash does not age the session of somebody who is online. Never for a fallback connection.
    pub fn note_presence(&self, id: Uuid) {
        let now = self.0.clock.now();
        self.update(id, |session| session.last_present = Some(now));
    }

    /// Counts a login admitted by policy. Refreshes nothing: else a spoofer could keep a session alive for ever.
    pub fn count_fallback(&self, id: Uuid) {
        self.update(id, |session| session.fallback_logins = session.fallback_logins.saturating_add(1));
    }

    /// Changes a session; the id and the name stay as they are, whatever the closure does. `None`, without calling
    /// it, if there is no session of this id. The closure runs under the store's lock: it must be short, and must
    /// not call the store.
    ///
    /// Does not wait for the disk; [`flush_one`](Self::flush_one) does.
    pub fn update<R>(&self, id: Uuid, change: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let owner = self.owner();
        let shared = &owner.shared;
        let mut state = shared.state();
        let now = shared.clock.now();
        let before = state.index.by_id(id).filter(|session| !session.is_unused(now)).cloned()?;
        let mut session = Session::clone(&before);
        let result = change(&mut session);
        session.id = before.id;
        session.name.clone_from(&before.name);
        session.tidy_addresses();
        if session != *before {
            shared.put(&mut state, session, None);
        }
        Some(result)
    }

    /// Deletes a session, its document and what was set aside of the player as damaged, and waits until that is durable.
    /// Whether there was any of it: also the document of a session that counts no more is found.
    pub async fn forget(&self, id: Uuid) -> Result<bool, StoreError> {
        let owner = self.owner();
        let is_known = owner.shared.state().index.by_id(id).is_some();
        // What is known leaves the index at once, however long the disk takes.
        let has_document = is_known || owner.on_disk(move |files| files.has_document(id)).await?;
        {
            let mut state = owner.shared.state();
            state.index.remove(id);
            owner.shared.queue(&mut state, id, Change::Remove);
        }
        owner.shared.wait(Some(id)).await.unwrap_or(Err(StoreError::Closed))?;
        let was_set_aside = owner.on_disk(move |files| files.remove_set_aside(id)).await?;
        Ok(has_document || was_set_aside)
    }

    /// Says in the lock file who holds the store, for commands that find it held. Not to be called once the store is
    /// closed: somebody else may hold it then. Blocks.
    ///
    /// # Errors
    /// A lock file that cannot be written.
    pub fn announce(&self, role: Role) -> Result<(), StoreError> {
        let owner = {
            let mut places = self.places();
            places.role = Some(role);
            Arc::clone(&places.current)
        };
        owner.shared.files.announce(role)
    }

    /// Waits until all changes made so far are durable, in whichever place they were made. Fails at the first of them that
    /// cannot be written now; it is kept and tried again all the same.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.wait(None).await
    }

    /// Like [`flush`](Self::flush), for the changes of one id alone: others' trouble does not matter.
    pub async fn flush_one(&self, id: Uuid) -> Result<(), StoreError> {
        self.wait(Some(id)).await
    }

    async fn wait(&self, only: Option<Uuid>) -> Result<(), StoreError> {
        // A change may have been made just before the store moved.
        let (owner, former) = {
            let places = self.places();
            (Arc::clone(&places.current), places.former.clone())
        };
        let former = former.iter().filter(|former| !former.has_ended()).map(|former| &former.shared);
        let answers: Vec<_> = former.chain([&owner.shared]).map(|shared| shared.wait(only)).collect();
        for answer in answers {
            answer.await.unwrap_or(Err(StoreError::Closed))?;
        }
        Ok(())
    }

    /// Writes what is queued, ends the writer and frees the folder, also those of before. To be called last: later
    /// changes are lost, with a warning. Fails if something could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        let (owner, former) = {
            let places = self.places();
            (Arc::clone(&places.current), places.former.clone())
        };
        owner.shared.begin_closing();
        let writer = owner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        for former in former {
            former.ended().await;
        }
        flushed
    }

    /// Changes that are not durable yet, at most one per player.
    pub fn pending_writes(&self) -> usize {
        let places = self.places();
        let all = places.former.iter().map(|former| &former.shared).chain([&places.current.shared]);
        all.map(|shared| shared.state().queue.len()).sum()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Writes that have failed since the store was opened, each try counted.
    pub fn write_failures(&self) -> u64 {
        let places = self.places();
        let all = places.former.iter().map(|former| &former.shared).chain([&places.current.shared]);
        places.failures_before + all.map(|shared| shared.state().queue.failures()).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::session::record::tests::{at, config, ip, login};

    const START: &str = "2026-01-01T00:00:00Z";
    const DAY: Duration = Duration::from_hours(24);

    async fn open(folder: &Path, now: &str) -> Store {
        Store::open(config(folder), Clock::starting_at(at(now))).await.unwrap().0
    }

    async fn open_with(folder: &Path, cleanup_on_startup: bool, now: &str) -> (Store, OpenReport) {
        let config = Config { cleanup_on_startup, ..config(folder) };
        Store::open(config, Clock::starting_at(at(now))).await.unwrap()
    }

    fn id(id: u128) -> Uuid {
        Uuid::from_u128(id)
    }

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn found(store: &Store, by: &str, claimed: Option<u128>) -> Option<u128> {
        store.find(&name(by), claimed.map(id)).map(|session| session.id.as_u128())
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_found_by_name_then_by_claimed_id() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        assert_eq!(store.record_verified(login(1, "Alice", "192.0.2.1")), None);
        store.record_verified(login(2, "Bob", "192.0.2.2"));
        assert_eq!(found(&store, "ALICE", None), Some(1));
        assert_eq!(found(&store, "alice", Some(2)), Some(1), "the name comes first");
        assert_eq!(found(&store, "Carol", Some(2)), Some(2));
        assert_eq!(found(&store, "Carol", Some(3)), None);

        let before = store.record_verified(login(2, "alice", "192.0.2.2")).unwrap();
        assert_eq!(before.name, Some(name("Bob")));
        assert_eq!(found(&store, "Alice", Some(1)), Some(2));
        assert_eq!(found(&store, "Bob", None), None);
        assert_eq!(found(&store, "Bob", Some(1)), None, "it could not be admitted under any name");
        assert_eq!(store.by_id(id(1)).unwrap().name, None);
        store.close().await.unwrap();

        let store = open(folder.path(), START).await;
        assert_eq!(found(&store, "Alice", None), Some(2));
        assert_eq!((store.len(), store.by_id(id(1)).unwrap().name.clone()), (2, None));
        let alice = login(1, "Alice", "192.0.2.1").profile.properties;
        assert_eq!(store.properties(id(1)).await.unwrap(), alice, "losing the name costs nothing else");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_known_by_range_and_counted_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        store.record_verified(login(2, "Bob", "2001:db8::1"));
        assert!(store.knows(&name("alice"), ip("192.0.2.1")));
        assert!(store.knows(&name("Alice"), ip("::ffff:192.0.2.200")));
        assert!(!store.knows(&name("Alice"), ip("192.0.3.1")));
        assert!(!store.knows(&name("Bob"), ip("192.0.2.1")));
        assert!(store.has_session_from(ip("2001:db8::2")) && !store.has_session_from(ip("192.0.2.2")));
        let accounts = || store.ids_at(ip("192.0.2.1"), store.owner().shared.clock.now()).len();
        assert_eq!(accounts(), 1);
        advance(DAY * 7 + Duration::from_secs(1)).await;
        assert_eq!(accounts(), 0);
        assert!(store.knows(&name("Alice"), ip("192.0.2.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fallback_login_only_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        let before = store.by_id(id(1)).unwrap();
        advance(DAY).await;
        store.count_fallback(id(1));
        store.count_fallback(id(2));
        let expected = Session { fallback_logins: 1, ..Session::clone(&before) };
        assert_eq!(*store.by_id(id(1)).unwrap(), expected);
        store.note_presence(id(1));
        let present = at("2026-01-02T00:00:00Z");
        assert_eq!(*store.by_id(id(1)).unwrap(), Session { last_present: Some(present), ..expected });
        assert_eq!(store.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_cannot_change_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        let result = store.update(id(1), |session| {
            session.id = id(2);
            session.name = Some(name("Bob"));
            session.pin_hash = Some("$argon2id$".into());
            "done"
        });
        assert_eq!(result, Some("done"));
        store.flush_one(id(1)).await.unwrap();
        let session = store.by_id(id(1)).unwrap();
        assert_eq!((&session.name, session.pin_hash.as_deref()), (&Some(name("Alice")), Some("$argon2id$")));
        assert_eq!((store.by_id(id(2)), found(&store, "Bob", None)), (None, None));
        assert_eq!(store.update(id(2), |_| ()), None);

        store.update(id(1), |_| ()).unwrap();
        assert_eq!(store.pending_writes(), 0, "nothing changed, nothing to write");
    }

    #[tokio::test(start_paused = true)]
    async fn after_36_days_a_session_is_dropped_and_its_document_with_cleanup_only() {
        for cleanup in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = open_with(folder.path(), cleanup, START).await;
            store.record_verified(login(1, "Alice", "192.0.2.1"));
            store.update(id(1), |session| session.pin_hash = Some("$".into())).unwrap();
            store.record_verified(login(2, "Bob", "192.0.2.1"));
            store.flush().await.unwrap();
            let document = store.owner().shared.files.document(id(1));
            advance(DAY * 10).await;
            store.note_presence(id(2));
            advance(DAY * 26).await;
            assert_eq!((found(&store, "Alice", Some(1)), store.by_id(id(1))), (None, None));
            assert!(!store.knows(&name("Alice"), ip("192.0.2.1")));
            assert!(matches!(store.properties(id(1)).await, Err(StoreError::NoSession { .. })));
            assert_eq!((store.update(id(1), |_| ()), store.snapshot().len()), (None, 1));
            assert_eq!(found(&store, "Bob", None), Some(2), "presence is use");

            sleep(Duration::from_hours(2)).await;
            assert_eq!(store.len(), 1, "swept");
            store.close().await.unwrap();
            assert_eq!(document.exists(), !cleanup);

            if cleanup {
                continue;
            }
            let (store, report) = open_with(folder.path(), false, "2026-02-06T03:00:00Z").await;
            assert_eq!((report.sessions, report.unused, document.exists()), (1, 1, true));
            assert_eq!(store.record_verified(login(1, "Alice", "192.0.2.1")), None);
            let anew = store.by_id(id(1)).unwrap();
            assert_eq!((anew.verified_logins, anew.pin_hash.clone()), (1, None), "a new session");
            store.close().await.unwrap();

            let (store, report) = open_with(folder.path(), true, "2026-04-01T00:00:00Z").await;
            assert_eq!((report.sessions, report.unused, document.exists()), (0, 2, false));
            assert!(store.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ahead_of_the_clock_waits_for_its_next_verified_login() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), "2030-01-01T00:00:00Z").await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        store.update(id(1), |session| session.pin_hash = Some("$".into())).unwrap();
        store.close().await.unwrap();

        let (store, report) = open_with(folder.path(), true, START).await;
        assert_eq!((report.sessions, report.unused), (1, 0), "kept: the clock may be what is wrong");
        assert_eq!((found(&store, "Alice", Some(1)), store.by_id(id(1))), (None, None));
        assert_eq!(store.ids_at(ip("192.0.2.1"), at(START)).len(), 0);
        let before = store.record_verified(login(1, "Alice", "192.0.2.2")).unwrap();
        assert!(before.is_ahead(at(START)));
        let session = store.by_id(id(1)).unwrap();
        assert_eq!((session.verified_logins, session.pin_hash.as_deref()), (2, Some("$")));
        assert_eq!(session.addresses.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_documents_with_one_name_the_later_login_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(9, "Alice", "192.0.2.1"));
        store.flush().await.unwrap();
        let first = store.owner().shared.files.document(id(9));
        let kept = fs::read(&first).unwrap();
        advance(DAY).await;
        store.record_verified(login(1, "ALICE", "192.0.2.1"));
        store.close().await.unwrap();
        fs::write(&first, kept).unwrap();

        let (store, report) = open_with(folder.path(), true, "2026-01-02T00:00:00Z").await;
        assert_eq!((report.sessions, report.robbed), (2, 1));
        assert_eq!(found(&store, "Alice", None), Some(1));
        store.close().await.unwrap();
        let (_, report) = open_with(folder.path(), true, "2026-01-02T00:00:00Z").await;
        assert_eq!(report.robbed, 0, "it was rewritten");
    }

    #[tokio::test(start_paused = true)]
    async fn damaged_documents_are_set_aside_and_cost_one_player_each() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        for player in 0..3 {
            store.record_verified(login(player, &format!("p{player}"), "192.0.2.1"));
        }
        store.close().await.unwrap();
        let document = store.owner().shared.files.document(id(1));
        fs::write(&document, "{").unwrap();
        fs::write(folder.path().join("00/.00000000-0000-0000-0000-000000000002.tmp"), "{").unwrap();
        fs::write(folder.path().join("00/README"), "mine").unwrap();

        let (store, report) = open_with(folder.path(), true, START).await;
        assert_eq!((report.sessions, report.leftovers, report.damaged.len()), (2, 1, 1));
        assert_eq!(report.damaged[0].path, document);
        assert_eq!(fs::read_to_string(&report.damaged[0].moved_to).unwrap(), "{");
        assert_eq!((found(&store, "p1", None), found(&store, "p2", None)), (None, Some(2)));
        let mut left: Vec<_> =
            fs::read_dir(folder.path().join("00")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_damaged_while_in_use_loses_its_properties_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        store.flush().await.unwrap();
        let document = store.owner().shared.files.document(id(1));
        fs::write(&document, "torn").unwrap();
        assert!(matches!(store.properties(id(1)).await, Err(StoreError::Damaged { .. })));
        store.count_fallback(id(1));
        store.flush().await.unwrap();
        assert_eq!(store.properties(id(1)).await.unwrap(), []);
        let aside = folder.path().join("damaged").join(document.file_name().unwrap());
        assert_eq!(fs::read_to_string(aside).unwrap(), "torn");
    }

    #[tokio::test(start_paused = true)]
    async fn properties_come_from_the_queue_or_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        let first = login(1, "Alice", "192.0.2.1");
        store.record_verified(first.clone());
        assert_eq!(store.properties(id(1)).await.unwrap(), first.profile.properties);
        store.flush().await.unwrap();
        store.note_presence(id(1));
        store.flush().await.unwrap();
        assert_eq!(store.properties(id(1)).await.unwrap(), first.profile.properties, "carried over");
        let second = login(1, "Alice", "198.51.100.1");
        store.record_verified(second.clone());
        assert_eq!(store.properties(id(1)).await.unwrap(), second.profile.properties);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_disk_is_retried_and_holds_up_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        // A file where the folder should be fails like a disk does, also for root.
        let obstacle = folder.path().join("01");
        fs::write(&obstacle, "").unwrap();
        let (bad, good) = (0x01 << 120, 0x02 << 120);
        store.record_verified(login(bad, "Alice", "192.0.2.1"));
        store.record_verified(login(good, "Bob", "192.0.2.1"));
        let error = store.flush_one(id(bad)).await.unwrap_err();
        assert!(matches!(&error, StoreError::NotSaved { why } if why.contains("move away")), "{error}");
        store.flush_one(id(good)).await.unwrap();
        store.flush().await.unwrap_err();
        assert_eq!(found(&store, "Alice", None), Some(bad), "logins go on");
        assert_eq!(store.properties(id(bad)).await.unwrap().len(), 1);
        let failures = store.write_failures();
        assert!(failures >= 2);
        sleep(Duration::from_mins(10)).await;
        let tries = store.write_failures() - failures;
        assert!((9..20).contains(&tries), "it backs off: {tries}");
        assert_eq!(store.pending_writes(), 1);

        store.update(id(bad), |session| session.locked = true).unwrap();
        fs::remove_file(&obstacle).unwrap();
        while store.pending_writes() > 0 {
            sleep(Duration::from_secs(10)).await;
        }
        store.close().await.unwrap();
        let store = open(folder.path(), START).await;
        assert!(store.by_id(id(bad)).unwrap().locked);
        assert_eq!(store.properties(id(bad)).await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn forgetting_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        store.flush().await.unwrap();
        let document = store.owner().shared.files.document(id(1));
        assert!(document.exists());
        store.count_fallback(id(1));
        assert!(store.forget(id(1)).await.unwrap());
        assert!(!document.exists());
        assert!(!store.forget(id(1)).await.unwrap());
        assert_eq!((found(&store, "Alice", Some(1)), store.has_session_from(ip("192.0.2.1"))), (None, false));
        assert_eq!(store.record_verified(login(1, "Alice", "192.0.2.1")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_player_is_forgotten_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        for player in 1..=2 {
            store.record_verified(login(player, &format!("p{player}"), "192.0.2.1"));
        }
        store.close().await.unwrap();
        let (unused, damaged) =
            (store.owner().shared.files.document(id(1)), store.owner().shared.files.document(id(2)));
        fs::write(&damaged, "{").unwrap();

        let (store, report) = open_with(folder.path(), false, "2026-04-01T00:00:00Z").await;
        assert_eq!((store.len(), report.damaged.len(), unused.exists()), (0, 1, true));
        assert!(store.forget(id(1)).await.unwrap() && !unused.exists());
        assert!(!store.forget(id(1)).await.unwrap());
        assert!(report.damaged[0].moved_to.exists());
        assert!(store.forget(id(2)).await.unwrap() && !report.damaged[0].moved_to.exists());
        assert!(!store.forget(id(2)).await.unwrap());
        // Ahead of the clock, it counts as little, but is in the index.
        store.record_verified(login(3, "p3", "192.0.2.1"));
        store.close().await.unwrap();
        let store = open(folder.path(), START).await;
        assert_eq!(store.by_id(id(3)), None);
        assert!(store.forget(id(3)).await.unwrap());
        assert!(!store.forget(id(3)).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_at_a_time_and_nothing_is_lost_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), START).await;
        let clone = store.clone();
        let second = Store::open(config(folder.path()), Clock::starting_at(at(START))).await.unwrap_err();
        assert!(second.to_string().contains(&*folder.path().to_string_lossy()), "{second}");
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        drop(store);
        assert_eq!(found(&clone, "Alice", None), Some(1));
        drop(clone);
        let store = loop {
            match Store::open(config(folder.path()), Clock::starting_at(at(START))).await {
                Ok((store, _)) => break store,
                Err(StoreError::Locked { .. }) => sleep(Duration::from_millis(1)).await,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(found(&store, "Alice", None), Some(1), "written after the last handle went");

        store.close().await.unwrap();
        store.close().await.unwrap();
        store.count_fallback(id(1));
        store.flush().await.unwrap();
        assert_eq!(open(folder.path(), START).await.by_id(id(1)).unwrap().fallback_logins, 0);
    }
}
