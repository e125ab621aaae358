//! Who failed too often.
//!
//! Failures are counted for the client address, for the pair of the player's id and that address, for the subnet and
//! for the network (ASN). Each that reaches its limit is banned for a while. So a stranger who tries a player's name
//! gets himself banned, and from that name at his own address: never the player at the player's own.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    attempts::{Counter, MAX_COUNTED, MAX_NETWORKS, Refused, Tenths, tenths},
    file,
    metrics::BanMetrics,
    table::{FEWER, Table},
};
use crate::{address, clock::Clock, disk, identity::NameKey, task::Shutdown};

mod charge;
mod succession;

pub use charge::Charge;
pub use succession::Prepared;

pub use super::{
    file::{FileError, lift_in_file, read_file},
    target::{BadTarget, Target},
};

/// Bans of one kind that are in force at once, at some 250 bytes each. Beyond that the oldest, which would end first,
/// ends at once: whoever wants his own to end that way must have thousands of other clients banned in its place.
pub(super) const MAX_BANS: usize = FEWER;

/// After a change, the wait for more of them before the file is written.
const GATHER: Duration = Duration::from_secs(1);
/// The same as a multiple of what the last write took: a slow disk is not kept busy with bans alone.
const GATHER_TIMES: u32 = 20;
/// Wait after the first failed write, then doubling up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait between tries: a disk that is mended is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longest wait for the last write: no stop hangs on a disk that neither works nor fails.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// While there are bans they are looked through at least this often, for a wall clock that was set ahead.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// When failures lead to a ban, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Failures from one client address, or of one pair of id and client address, that lead to a ban.
    pub per_client: u32,
    /// Failures from one subnet that do.
    pub per_subnet: u32,
    /// Failures from one network (ASN) that do.
    pub per_asn: u32,
    /// How long a failure counts, and a ban lasts.
    pub duration: Duration,
    /// The file of the bans.
    pub file: PathBuf,
    /// Prefix length of an IPv4 subnet.
    pub ipv4_subnet_prefix: u8,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Whom it is for.
    pub target: Target,
    /// When it was set.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The failures it was set for.
    pub failures: u32,
}

/// A ban that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanEvent {
    /// It was set.
    Added(Ban),
    /// Its time was over (perhaps while the proxy was not running), too many newer ones took its place, or its player was
    /// verified there.
    Expired(Ban),
    /// The owner lifted it.
    Lifted(Ban),
}

/// Hears of every ban that begins or ends. Called on whatever thread it happens; must be quick.
pub type Listener = Box<dyn Fn(&BanEvent) + Send + Sync>;

/// What counts towards a ban. Nothing else does: impatient friends must not ban their provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The session server says that the player did not join.
    NotJoined,
    /// One wrong PIN code.
    WrongPin,
    /// An attempt that was held for its PIN ended without it.
    Unproven,
    /// Policy refused somebody for what a thief would be refused for. Only the first time per client address and name
    /// counts, for as long as failures do.
    Refused,
}

/// Which targets of an attempt are banned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The client address.
    pub client: bool,
    /// Its subnet.
    pub subnet: bool,
    /// Its network.
    pub asn: bool,
    /// The pair of the player's id and the client address.
    pub pair: bool,
}

/// The bans cannot be kept where they should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "bans: {0}\n  hint: `security.ban-file` names a file that this user can read and write, in a folder that exists"
)]
pub struct OpenError(FileError);

/// The handle. Clones share the same bans and counts.
#[derive(Clone)]
pub struct Bans(Arc<Shared>);

struct Shared {
    clock: Clock,
    listener: Listener,
    metrics: BanMetrics,
    began: Instant,
    state: Mutex<State>,
    /// Wakes [`Bans::run`].
    changed: Notify,
    /// Says that another file is written from now on.
    moved: Notify,
}

/// Behind one lock, held for a few look-ups at a time.
struct State {
    config: Config,
    counters: PerKind<Counter>,
    /// Failures that are charged and may be given back, until it is known. As many at most as are charged at once.
    pending: HashMap<Target, u32>,
    refused: Refused,
    banned: PerKind<Table<Target, Entry>>,
    /// The file differs from what is banned.
    unsaved: bool,
    /// What lies in its place makes no sense, and is to be set aside before it is written.
    damaged: Option<FileError>,
    /// Files of before, until they hold what they should.
    former: Vec<Former>,
}

/// A file that was in use, and what it is still to hold.
struct Former {
    path: PathBuf,
    /// In no order. No other one shares it.
    bans: Arc<Vec<Ban>>,
    /// As in [`State`].
    damaged: Option<FileError>,
}

/// One of each kind, so that no kind of target pushes out another.
struct PerKind<T> {
    client: T,
    subnet: T,
    asn: T,
    pair: T,
}

struct Entry {
    ban: Ban,
    /// When it is over, whatever happens to the wall clock.
    ends: Instant,
}

/// The same moment on both clocks.
#[derive(Clone, Copy)]
struct Now {
    wall: Timestamp,
    steady: Instant,
}

impl<T> PerKind<T> {
    fn of(&mut self, target: &Target) -> &mut T {
        match target {
            Target::Client(_) => &mut self.client,
            Target::Subnet(_) => &mut self.subnet,
            Target::Asn(_) => &mut self.asn,
            Target::Pair { .. } => &mut self.pair,
        }
    }

    fn each(&self) -> [&T; 4] {
        [&self.client, &self.subnet, &self.asn, &self.pair]
    }
}

impl PerKind<Table<Target, Entry>> {
    fn nobody() -> Self {
        let banned = || Table::new(MAX_BANS);
        Self { client: banned(), subnet: banned(), asn: banned(), pair: banned() }
    }
}

impl Entry {
    /// Over as soon as either clock says so: a wall clock that was set back holds nobody for longer.
    fn is_over(&self, now: Now) -> bool {
        self.ends <= now.steady || self.ban.until <= now.wall
    }
}

impl State {
    fn is_banned(&mut self, target: &Target, now: Now) -> bool {
        self.banned.of(target).get(target).is_some_and(|entry| !entry.is_over(now))
    }

    /// Adds a ban. Bans that ended by that are added to `events`.
    fn add(&mut self, ban: Ban, ends: Instant, events: &mut Vec<BanEvent>) {
        let target = ban.target;
        let table = self.banned.of(&target);
        events.extend(table.remove(&target).map(|over| BanEvent::Expired(over.ban)));
        events.extend(table.put(target, Entry { ban, ends }).map(|(_, gone)| BanEvent::Expired(gone.ban)));
        self.unsaved = true;
    }

    /// Takes up what the file of the last run holds. Returns what ended meanwhile.
    fn take_up(&mut self, stored: Vec<Ban>, now: Now) -> Vec<BanEvent> {
        let whole = signed(self.config.duration);
        let mut events = Vec::new();
        let mut entries = Vec::new();
        let mut shortened = false;
        for mut ban in stored {
            let left = ban.until.duration_since(now.wall);
            if !left.is_positive() {
                events.push(BanEvent::Expired(ban));
                continue;
            }
            // Set by a clock that was ahead, or while bans lasted longer.
            if left > whole || ban.since > now.wall {
                ban.since = ban.since.min(now.wall);
                ban.until = now.wall.saturating_add(left.min(whole)).unwrap_or(ban.until);
                shortened = true;
            }
            let left = Duration::try_from(left.min(whole)).unwrap_or_default();
            entries.push((now.steady + left, ban));
        }
        // In the order in which they end, as those that are set later on will be.
        entries.sort_by_key(|(ends, _)| *ends);
        let kept = entries.len();
        for (ends, ban) in entries {
            self.add(ban, ends, &mut events);
        }
        // Else the next start would shorten them anew, and they would never end.
        self.unsaved = shortened || !events.is_empty();
        if kept > 0 {
            tracing::info!(bans = kept, "took up the bans of the last run");
        }
        events
    }

    /// In no order: sorting thousands is not for under the lock.
    fn in_force(&self, now: Now) -> Vec<Ban> {
        let all = self.banned.each().into_iter().flat_map(Table::iter);
        all.filter(|(_, entry)| !entry.is_over(now)).map(|(_, entry)| entry.ban.clone()).collect()
    }
}

impl Bans {
    /// Reads the bans of the last run. A damaged file is set aside with a warning: it costs the bans, not the start.
    /// Blocks for that. `listener` hears of bans that ended meanwhile before this returns.
    ///
    /// # Errors
    /// A file that cannot be read, or could not be written for want of its folder.
    pub fn open(config: &Config, clock: Clock, listener: Listener) -> Result<Self, OpenError> {
        let mut stored = Stored::read(config)?;
        if let Some(damaged) = stored.damaged.take() {
            set_aside(&config.file, &damaged);
        }
        let new = |limit, capacity| Counter::new(limit, config.duration, capacity);
        let state = State {
            config: config.clone(),
            counters: PerKind {
                client: new(config.per_client, MAX_COUNTED),
                subnet: new(config.per_subnet, MAX_COUNTED),
                asn: new(config.per_asn, MAX_NETWORKS),
                pair: new(config.per_client, MAX_COUNTED),
            },
            pending: HashMap::new(),
            refused: Refused::new(config.duration),
            banned: PerKind::nobody(),
            unsaved: false,
            damaged: None,
            former: Vec::new(),
        };
        let bans = Self(Arc::new(Shared {
            clock,
            listener,
            metrics: BanMetrics::default(),
            began: Instant::now(),
            state: Mutex::new(state),
            changed: Notify::new(),
            moved: Notify::new(),
        }));
        let events = bans.state().take_up(stored.bans, bans.now());
        // Also if nothing ended: times may have been mended.
        bans.0.changed.notify_one();
        bans.tell(&events);
        Ok(bans)
    }

    /// What of an attempt is banned now.
    pub fn hits(&self, address: IpAddr, asn: Option<u32>, id: Option<Uuid>) -> Hits {
        let (client, now) = (address::limit_key(address), self.now());
        let mut state = self.state();
        let subnet = address::subnet(address, state.config.ipv4_subnet_prefix);
        Hits {
            client: state.is_banned(&Target::Client(client), now),
            subnet: state.is_banned(&Target::Subnet(subnet), now),
            asn: asn.is_some_and(|asn| state.is_banned(&Target::Asn(asn), now)),
            pair: id.is_some_and(|id| state.is_banned(&Target::Pair { id, client }, now)),
        }
    }

    /// Counts a failure of an attempt under `name` at the player with that `id`, and bans whoever failed too often by
    /// that. What is banned already is not counted further; and what a banned client does counts no longer for its
    /// subnet and network, so that one persistent client never bans its neighbours alone.
    pub fn fail(
        &self,
        failure: Failure,
        address: IpAddr,
        name: &NameKey,
        id: Option<Uuid>,
        asn: Option<u32>,
    ) {
        let client = address::limit_key(address);
        let now = self.now();
        let mut events = Vec::new();
        let mut state = self.state();
        let subnet = address::subnet(address, state.config.ipv4_subnet_prefix);
        if failure == Failure::Refused && !state.refused.is_first(client, name, self.tick(now)) {
            return;
        }
        self.count(&mut state, id.map(|id| Target::Pair { id, client }), now, &mut events);
        if !state.is_banned(&Target::Client(client), now) {
            self.count(&mut state, Some(Target::Client(client)), now, &mut events);
            self.count(&mut state, Some(Target::Subnet(subnet)), now, &mut events);
            self.count(&mut state, asn.map(Target::Asn), now, &mut events);
        }
        drop(state);
        self.tell(&events);
    }

    /// A player was verified at that address: what was held against the pair of both is void.
    pub fn clear(&self, id: Uuid, address: IpAddr) {
        let target = Target::Pair { id, client: address::limit_key(address) };
        let mut state = self.state();
        state.counters.of(&target).forget(&target);
        let entry = state.banned.of(&target).remove(&target);
        state.unsaved |= entry.is_some();
        drop(state);
        if let Some(entry) = entry {
            self.tell(&[BanEvent::Expired(entry.ban)]);
        }
    }

    /// The bans in force, oldest first.
    pub fn list(&self) -> Vec<Ban> {
        let now = self.now();
        let unsorted = self.state().in_force(now);
        sorted(unsorted)
    }

    /// How many bans are in force for clients, subnets, networks and pairs.
    pub fn count_in_force(&self) -> [usize; 4] {
        let now = self.now();
        let state = self.state();
        let of = |table: &Table<Target, Entry>| table.iter().filter(|(_, entry)| !entry.is_over(now)).count();
        state.banned.each().map(of)
    }

    pub(super) fn metrics(&self) -> &BanMetrics {
        &self.0.metrics
    }

    /// Ends a ban, and forgets the failures that were counted for that target. Whether there was a ban.
    pub fn lift(&self, target: &Target) -> bool {
        let now = self.now();
        let mut state = self.state();
        state.counters.of(target).forget(target);
        let entry = state.banned.of(target).remove(target);
        state.unsaved |= entry.is_some();
        drop(state);
        let Some(entry) = entry else { return false };
        let lifted = !entry.is_over(now);
        let event = if lifted { BanEvent::Lifted } else { BanEvent::Expired };
        self.tell(&[event(entry.ban)]);
        lifted
    }

    /// Ends bans whose time is over, and keeps the file up to date, until the program stops; then writes it once more.
    pub async fn run(self, stop: Shutdown) {
        let mut saving = Saving::default();
        loop {
            let file = self.file();
            let next_end = self.end_due();
            let next_end = async {
                match next_end {
                    Some(end) => sleep_until(end.min(Instant::now() + LOOK_EVERY)).await,
                    None => std::future::pending().await,
                }
            };
            let retry = async {
                match saving.retry_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.requested() => break,
                () = next_end => continue,
                () = retry => {}
                // How the file of before failed does not matter any more.
                () = self.moved_from(&file) => saving = Saving::default(),
                // While the disk fails, the retry will write what changed.
                () = self.0.changed.notified(), if saving.retry_at.is_none() => {
                    tokio::select! {
                        () = stop.requested() => break,
                        () = sleep(saving.gather.max(GATHER)) => {}
                    }
                }
            }
            let file = self.file();
            let stuck = async {
                let is_over = tokio::select! {
                    () = stop.requested() => true,
                    () = self.moved_from(&file) => false,
                };
                sleep(LAST_WRITE).await;
                is_over
            };
            tokio::select! {
                () = self.save(&mut saving) => {}
                is_over = stuck => {
                    tell_stuck(&file);
                    // Another write would use the same temporary file.
                    if is_over {
                        return;
                    }
                }
            }
        }
        self.end_due();
        if timeout(LAST_WRITE, self.save(&mut saving)).await.is_err() {
            tell_stuck(&self.file());
        }
    }

    fn count(&self, state: &mut State, target: Option<Target>, now: Now, events: &mut Vec<BanEvent>) {
        let Some(target) = target.filter(|target| !state.is_banned(target, now)) else { return };
        let Some(failures) = state.counters.of(&target).fail(target, self.tick(now)) else { return };
        let duration = state.config.duration;
        let until = now.wall.saturating_add(signed(duration)).unwrap_or(Timestamp::MAX);
        let ban = Ban { target, since: now.wall, until, failures };
        state.add(ban.clone(), now.steady + duration, events);
        events.push(BanEvent::Added(ban));
    }

    /// Ends what is over. Says when the next one will be.
    fn end_due(&self) -> Option<Instant> {
        let now = self.now();
        let mut events = Vec::new();
        let mut state = self.state();
        let all = state.banned.each().into_iter().flat_map(Table::iter);
        let over: Vec<Target> =
            all.filter(|(_, entry)| entry.is_over(now)).map(|(target, _)| *target).collect();
        for target in over {
            let entry = state.banned.of(&target).remove(&target);
            events.extend(entry.map(|entry| BanEvent::Expired(entry.ban)));
            state.unsaved = true;
        }
        let next = state.banned.each().into_iter().flat_map(Table::iter).map(|(_, entry)| entry.ends).min();
        drop(state);
        self.tell(&events);
        next
    }

    /// Writes the file if it differs from what is banned, and those of before once more.
    async fn save(&self, saving: &mut Saving) {
        self.save_own(saving).await;
        let former: Vec<_> = self.state().former.iter().map(|former| Arc::clone(&former.bans)).collect();
        for bans in former {
            let found = self
                .state()
                .former
                .iter_mut()
                .find(|former| Arc::ptr_eq(&former.bans, &bans))
                .map(|former| (former.path.clone(), former.damaged.take()));
            // It may be in use again.
            let Some((path, damaged)) = found else { continue };
            let (file, content) = (path.clone(), Arc::clone(&bans));
            let write = tokio::task::spawn_blocking(move || replace(&file, damaged, content.to_vec()));
            match timeout(LAST_WRITE, write).await {
                Ok(Ok(Err(error))) => {
                    tracing::error!(%error, "the newest bans are not saved in the file of before");
                }
                // Otherwise it is written, or the runtime is stopping, or a panic has been reported.
                Ok(_) => {}
                Err(_) => tell_stuck(&path),
            }
            // Not earlier: until it is written, what is in force there is known here alone.
            self.state().former.retain(|former| !Arc::ptr_eq(&former.bans, &bans));
        }
    }

    async fn save_own(&self, saving: &mut Saving) {
        let now = self.now();
        let (bans, path, damaged) = {
            let mut state = self.state();
            if !std::mem::take(&mut state.unsaved) {
                return;
            }
            (state.in_force(now), state.config.file.clone(), state.damaged.take())
        };
        let (file, began) = (path.clone(), Instant::now());
        let written = tokio::task::spawn_blocking(move || replace(&file, damaged, bans)).await;
        saving.gather = began.elapsed() * GATHER_TIMES;
        match written {
            Ok(Ok(())) => {
                if saving.retry_at.take().is_some() {
                    tracing::info!("bans are written to disk again");
                }
                saving.pause = Duration::ZERO;
            }
            Ok(Err(error)) => {
                if saving.retry_at.is_none() {
                    tracing::error!(%error, "bans cannot be saved; they are in force, it is tried again, but a restart \
                        before that would lose the newest");
                }
                let mut state = self.state();
                // What another file is to hold, it will.
                if state.config.file != path {
                    return;
                }
                state.unsaved = true;
                drop(state);
                saving.pause = (saving.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                saving.retry_at = Some(Instant::now() + saving.pause);
            }
            // The runtime is stopping, or a panic that has been reported.
            Err(_) => {}
        }
    }

    fn tell(&self, events: &[BanEvent]) {
        if events.is_empty() {
            return;
        }
        self.0.changed.notify_one();
        for event in events {
            if let BanEvent::Added(ban) = event {
                self.0.metrics.added(&ban.target);
            }
            (self.0.listener)(event);
        }
    }

    /// Returns once another file than this is written.
    async fn moved_from(&self, file: &Path) {
        while self.state().config.file == file {
            self.0.moved.notified().await;
        }
    }

    fn file(&self) -> PathBuf {
        self.state().config.file.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { wall: self.0.clock.now(), steady: Instant::now() }
    }

    fn tick(&self, now: Now) -> Tenths {
        tenths(now.steady.saturating_duration_since(self.0.began))
    }
}

impl fmt::Debug for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bans")
    }
}

/// How the writes go.
#[derive(Default)]
struct Saving {
    /// The longest wait for more changes, after how long the last write took.
    gather: Duration,
    /// When to try again, once a write has failed.
    retry_at: Option<Instant>,
    pause: Duration,
}

/// The bans of the last run, as they are written.
#[derive(Debug)]
struct Stored {
    bans: Vec<Ban>,
    /// The file makes no sense: there are none.
    damaged: Option<FileError>,
}

impl Stored {
    /// Changes nothing. Blocks.
    fn read(config: &Config) -> Result<Self, OpenError> {
        let path = &config.file;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let source = std::io::Error::other("there is no such folder");
            return Err(OpenError(FileError::Io { path: folder.to_owned(), source }));
        }
        match file::read(path) {
            Ok(bans) => Ok(Self { bans, damaged: None }),
            Err(error @ FileError::Io { .. }) => Err(OpenError(error)),
            Err(damaged @ FileError::Damaged { .. }) => Ok(Self { bans: Vec::new(), damaged: Some(damaged) }),
        }
    }
}

/// Writes the file, once what makes no sense there is out of its way. Blocks.
fn replace(path: &Path, damaged: Option<FileError>, bans: Vec<Ban>) -> Result<(), FileError> {
    if let Some(damaged) = damaged {
        set_aside(path, &damaged);
    }
    file::write(path, sorted(bans))
}

fn set_aside(path: &Path, damaged: &FileError) {
    match disk::set_aside(path) {
        Ok(moved_to) => tracing::warn!(%damaged, moved_to = %moved_to.display(),
            "the file of bans is damaged and was set aside; the bans in it are not in force"),
        Err(error) => tracing::warn!(%damaged, %error,
            "the file of bans is damaged and will be replaced; the bans in it are not in force"),
    }
}

fn tell_stuck(path: &Path) {
    tracing::error!(path = %path.display(), "the disk is stuck: the newest bans may not be saved");
}

/// Oldest first.
fn sorted(mut bans: Vec<Ban>) -> Vec<Ban> {
    bans.sort_by_key(|ban| (ban.since, ban.target));
    bans
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
