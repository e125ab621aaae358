//! Another folder, or other terms, while the store is in use.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Config, OpenReport, Store, StoreError,
    files::{Files, Lock, Made},
    load::{self, Loaded},
    store::{Former, Owner},
};

/// Longest wait for a folder that this store has left a moment ago, and now is to go back to.
const RETURN_WAIT: Duration = Duration::from_secs(10);

/// Another configuration, with its folder locked and read; see [`Store::prepare`].
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    /// `None` if the folder is the same.
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    loaded: Loaded,
    files: Files,
    /// Before the lock, which is to be held when this is dropped.
    made: Made,
    lock: Lock,
}

impl Prepared {
    /// What was found in the folder, if it is another one. What does not belong there is still there, and not counted.
    pub fn report(&self) -> Option<&OpenReport> {
        self.opened.as_ref().map(|opened| &opened.loaded.report)
    }
}

impl Store {
    /// Makes ready to keep sessions by another configuration. Another folder is made if need be, locked and read, off the
    /// network threads, and nothing in it is changed but the lock file, which says of its holder what the one in use
    /// says. Dropped, it is given up, and what was made for it is removed.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn prepare(&self, config: Config) -> Result<Prepared, StoreError> {
        let (here, former, role) = {
            let places = self.places();
            (places.current.shared.files.root().to_owned(), places.former.clone(), places.role)
        };
        let (there, now) = (config.directory.clone(), self.0.clock.now());
        let (is_here, left) = off_network(move || {
            let there = Folder::of(&there);
            let is_there = |former: &Former| there.is(former.shared.files.root());
            Ok((there.is(&here), former.into_iter().filter(is_there).collect::<Vec<_>>()))
        })
        .await?;
        if is_here {
            return Ok(Prepared { config, opened: None });
        }
        for former in left {
            // One that takes longer is found to be locked.
            let _ = timeout(RETURN_WAIT, former.ended()).await;
        }
        off_network(move || {
            let missing = Made::missing(&config.directory);
            let (files, lock) = Files::open(&config.directory)?;
            let made = Made::of(missing);
            let loaded = load::load(&files, &config, now)?;
            if let Some(role) = role {
                files.announce(role)?;
            }
            Ok(Prepared { config, opened: Some(Opened { loaded, files, made, lock }) })
        })
        .await
    }

    /// Keeps sessions by it from now on, behind every clone. With another folder, what lies there counts, as after a start
    /// with it; what is queued for the one before is still written there, and then that folder is free. `present` are the
    /// players who are in on the session server's word: their presence is noted in the old place, as it is at a stop, and
    /// where they are known in the new one too. Must be called on a tokio runtime.
    pub fn adopt(&self, Prepared { config, opened }: Prepared, present: &[Uuid]) {
        let Some(Opened { loaded, files, made, lock }) = opened else {
            let owner = self.owner();
            let mut state = owner.shared.state();
            // The folder goes by the name under which it was opened.
            let directory = std::mem::take(&mut state.config.directory);
            state.config = Config { directory, ..config };
            return;
        };
        let next = Arc::new(Owner::start(
            config,
            self.0.clock.clone(),
            (files, lock),
            loaded,
            self.0.metrics.clone(),
        ));
        made.keep();
        for id in present {
            self.note_presence(*id);
        }
        let before = {
            let mut places = self.places();
            let before = std::mem::replace(&mut places.current, next);
            let ended = places.former.extract_if(.., |former| former.has_ended());
            let failures: u64 = ended.map(|former| former.shared.state().queue.failures()).sum();
            places.failures_before += failures;
            places.former.push(before.left());
            before
        };
        // Whoever works there yet keeps it open until then.
        drop(before);
        for id in present {
            self.note_presence(*id);
        }
    }
}

/// A folder under whatever name.
struct Folder {
    path: PathBuf,
    /// `None` if there is none yet.
    real: Option<PathBuf>,
}

impl Folder {
    /// Blocks.
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), real: fs::canonicalize(path).ok() }
    }

    fn is(&self, path: &Path) -> bool {
        self.path == path || self.real.is_some() && self.real == fs::canonicalize(path).ok()
    }
}

async fn off_network<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;
    use tokio::time::advance;

    use super::*;
    use crate::{
        clock::Clock,
        session::{
            Hold, Holder, Role,
            record::tests::{at, config, ip, login},
            survey,
        },
    };

    const START: &str = "2026-01-01T00:00:00Z";

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    async fn open(folder: &Path) -> Store {
        open_at(folder, START).await
    }

    async fn open_at(folder: &Path, now: &str) -> Store {
        Store::open(config(folder), Clock::starting_at(at(now))).await.unwrap().0
    }

    async fn go(store: &Store, folder: &Path) {
        store.adopt(store.prepare(config(folder)).await.unwrap(), &[]);
    }

    fn id(id: u128) -> Uuid {
        Uuid::from_u128(id)
    }

    fn document(folder: &Path, id: Uuid) -> PathBuf {
        folder.join(format!("{:02x}", id.as_bytes()[0])).join(format!("{id}.json"))
    }

    fn is_free(folder: &Path) -> bool {
        Lock::take(folder).is_ok()
    }

    /// Waits until another can have the folder. On another thread, so that paused time stands still.
    async fn is_freed(folder: &Path) {
        let began = std::time::Instant::now();
        while !is_free(folder) {
            assert!(began.elapsed() < Duration::from_secs(20), "it stays locked");
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_moved_writes_to_the_new_folder_and_frees_the_old_one() {
        let (old, new) = (folder(), folder());
        let elsewhere = open(new.path()).await;
        elsewhere.record_verified(login(2, "Bob", "192.0.2.2"));
        elsewhere.close().await.unwrap();

        let store = open(old.path()).await;
        let clone = store.clone();
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        let prepared = store.prepare(config(new.path())).await.unwrap();
        assert_eq!(prepared.report().unwrap().sessions, 1);
        assert!(store.by_id(id(1)).is_some() && store.by_id(id(2)).is_none(), "not adopted yet");
        assert!(!is_free(new.path()) && !is_free(old.path()));
        // What comes after it was prepared, and is not on disk yet, is not lost either.
        store.record_verified(login(3, "Carol", "192.0.2.3"));
        store.adopt(prepared, &[]);
        clone.flush().await.unwrap();
        assert!(clone.by_id(id(1)).is_none() && clone.by_id(id(2)).is_some());
        assert_eq!(clone.properties(id(2)).await.unwrap(), login(2, "Bob", "192.0.2.2").profile.properties);
        assert!(document(old.path(), id(1)).exists() && document(old.path(), id(3)).exists());
        clone.record_verified(login(4, "Dave", "192.0.2.4"));
        store.flush_one(id(4)).await.unwrap();
        assert!(document(new.path(), id(4)).exists() && !document(old.path(), id(4)).exists());
        is_freed(old.path()).await;
        assert!(!is_free(new.path()));
        assert_eq!((store.len(), store.pending_writes(), store.write_failures()), (2, 0, 0));
        store.close().await.unwrap();
        is_freed(new.path()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_prepared_and_dropped_changes_nothing() {
        let (old, new) = (folder(), folder());
        let elsewhere = open(new.path()).await;
        elsewhere.record_verified(login(2, "Bob", "192.0.2.2"));
        elsewhere.record_verified(login(3, "Carol", "192.0.2.3"));
        elsewhere.close().await.unwrap();
        let (bob, carol) = (document(new.path(), id(2)), document(new.path(), id(3)));
        fs::write(&carol, "nonsense").unwrap();
        let leftover = carol.with_file_name(format!(".{}.tmp", id(3)));
        fs::write(&leftover, "half").unwrap();

        let store = open(old.path()).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        // By now Bob's session has gone unused.
        advance(Duration::from_hours(24 * 40)).await;
        let prepared = store.prepare(config(new.path())).await.unwrap();
        let report = prepared.report().unwrap();
        assert_eq!((report.sessions, report.unused), (0, 1));
        assert!(bob.exists() && carol.exists() && leftover.exists());
        drop(prepared);
        assert!(is_free(new.path()), "no lock is left behind");
        assert!(bob.exists() && carol.exists() && leftover.exists() && !new.path().join("damaged").exists());
        assert!(!is_free(old.path()));

        go(&store, new.path()).await;
        store.close().await.unwrap();
        assert!(!bob.exists() && !carol.exists() && !leftover.exists());
        assert_eq!(
            fs::read(new.path().join("damaged").join(format!("{}.json", id(3)))).unwrap(),
            b"nonsense"
        );
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_folder_that_was_prepared_in_vain_is_as_it_was() {
        use std::os::unix::fs::PermissionsExt;
        let (old, new) = (folder(), folder());
        let store = open(old.path()).await;
        let inner = new.path().join("a/b");
        drop(store.prepare(config(&inner)).await.unwrap());
        assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
        // What somebody has put there meanwhile stays.
        let prepared = store.prepare(config(&inner)).await.unwrap();
        fs::write(inner.join("note"), "").unwrap();
        drop(prepared);
        assert!(inner.join("note").exists() && is_free(&inner));

        let shard = new.path().join("00");
        fs::create_dir(&shard).unwrap();
        fs::set_permissions(&shard, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = || fs::metadata(&shard).unwrap().permissions().mode() & 0o777;
        drop(store.prepare(config(new.path())).await.unwrap());
        assert_eq!(mode(), 0o755);
        go(&store, new.path()).await;
        go(&store, &new.path().join("kept")).await;
        store.close().await.unwrap();
        assert_eq!(mode(), 0o700);
        assert!(new.path().join("kept").join(".lock").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_cannot_be_had_leaves_the_store_where_it_is() {
        let (old, new) = (folder(), folder());
        let store = open(old.path()).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        let hold = Hold::take(new.path()).unwrap();
        let locked = store.prepare(config(new.path())).await.unwrap_err();
        assert!(matches!(locked, StoreError::Locked { .. }), "{locked}");
        drop(hold);
        let file = new.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(store.prepare(config(&file)).await, Err(StoreError::Io { .. })));
        store.flush().await.unwrap();
        assert!(store.by_id(id(1)).is_some() && document(old.path(), id(1)).exists());
        store.close().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_while_the_store_moves_was_present() {
        let (old, new) = (folder(), folder());
        for place in [&old, &new] {
            let store = open(place.path()).await;
            store.record_verified(login(1, "Alice", "192.0.2.1"));
            store.close().await.unwrap();
        }
        let store = open(old.path()).await;
        store.record_verified(login(2, "Bob", "192.0.2.2"));
        advance(Duration::from_hours(5)).await;
        let now = Some(at("2026-01-01T05:00:00Z"));
        let prepared = store.prepare(config(new.path())).await.unwrap();
        store.adopt(prepared, &[id(1), id(2), id(3)]);
        assert_eq!(store.by_id(id(1)).unwrap().last_present, now);
        assert_eq!(store.len(), 1, "presence alone makes nobody known");
        advance(Duration::from_hours(1)).await;
        let later = Some(at("2026-01-01T06:00:00Z"));
        store.note_presence(id(1));
        store.note_presence(id(2));
        store.close().await.unwrap();
        let store = open_at(new.path(), "2026-01-01T07:00:00Z").await;
        assert_eq!(store.by_id(id(1)).unwrap().last_present, later);
        let store = open_at(old.path(), "2026-01-01T07:00:00Z").await;
        for player in [id(1), id(2)] {
            assert_eq!(store.by_id(player).unwrap().last_present, now, "as at a stop");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_terms_hold_at_once_in_the_same_folder() {
        let here = folder();
        let store = open(here.path()).await;
        store.record_verified(login(1, "Alice", "192.0.2.1"));
        let knows = |address| store.knows(&login(1, "Alice", "192.0.2.1").profile.name, ip(address));
        assert!(knows("192.0.2.200") && !knows("192.0.3.1"));
        let terms =
            Config { max_address_age: Duration::from_hours(1), ipv4_range_prefix: 16, ..config(here.path()) };
        let prepared = store.prepare(terms.clone()).await.unwrap();
        assert!(prepared.report().is_none());
        store.adopt(prepared, &[]);
        assert!(knows("192.0.3.1"));
        advance(Duration::from_hours(2)).await;
        assert!(store.ids_at(ip("192.0.2.1"), at("2026-01-01T02:00:00Z")).is_empty());
        // By another name it is no other folder: it would be found locked.
        let other_name = Config { directory: here.path().join("."), ..terms };
        store.adopt(store.prepare(other_name).await.unwrap(), &[]);
        assert!(store.by_id(id(1)).is_some());
        store.close().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn there_and_back_again_with_its_name_on_the_lock() {
        let (one, two) = (folder(), folder());
        let store = open(one.path()).await;
        let role = Role::Proxy { admin: Some("127.0.0.1:9464".parse().unwrap()) };
        store.announce(role).unwrap();
        for place in [&two, &one, &two] {
            store.record_verified(login(1, "Alice", "192.0.2.1"));
            go(&store, place.path()).await;
            let holder = Holder { process: Some(std::process::id()), role };
            assert_eq!(survey::Owner::of(place.path()), survey::Owner::Held(holder));
        }
        assert!(store.by_id(id(1)).is_some());
        store.close().await.unwrap();
        assert!(is_free(one.path()) && is_free(two.path()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_that_was_acknowledged_is_lost_while_it_moves() {
        let (one, two) = (folder(), folder());
        let store = open(one.path()).await;
        let stop = Arc::new(AtomicBool::new(false));
        let player = |number: u128| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for turn in 0..u128::MAX {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let who = number << 64 | turn;
                    store.record_verified(login(who, &format!("p{number}_{turn}"), "192.0.2.1"));
                    store.flush_one(id(who)).await.unwrap();
                    acknowledged.push(id(who));
                }
                acknowledged
            })
        };
        let players: Vec<_> = (1..=4).map(player).collect();
        for turn in 0..6 {
            go(&store, if turn % 2 == 0 { two.path() } else { one.path() }).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for player in players {
            for who in player.await.unwrap() {
                let places = [&one, &two].map(|place| document(place.path(), who).exists());
                assert!(places.contains(&true), "{who}");
                count += 1;
            }
        }
        assert!(count > 4, "{count}");
        store.close().await.unwrap();
        let [first, second] = [open(one.path()).await, open(two.path()).await];
        assert!(first.len() + second.len() >= count);
    }
}
