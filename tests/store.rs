//! The session store and the disk: cut off at every point, killed, reopened.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, and lines to the parent process"
)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use postern::{
    address::same_range,
    clock::Clock,
    identity::{Profile, Property, Username},
    session::{Config, OpenReport, Store, VerifiedLogin, record::Session},
};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

fn config(folder: &Path) -> Config {
    Config {
        directory: folder.to_owned(),
        cleanup_on_startup: true,
        max_address_age: Duration::from_hours(168),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    }
}

fn login(id: Uuid, name: &str, address: [u8; 4], skin: &str) -> VerifiedLogin {
    let textures = Property { name: "textures".into(), value: skin.into(), signature: None };
    VerifiedLogin {
        profile: Profile { id, name: Username::parse(name).unwrap(), properties: vec![textures] },
        address: IpAddr::V4(Ipv4Addr::from(address)),
        protocol: 774,
        has_dialogs: true,
    }
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

async fn open(folder: &Path, now: Timestamp) -> (Store, OpenReport) {
    Store::open(config(folder), Clock::starting_at(now)).await.unwrap()
}

/// All that a store holds, from memory and disk.
async fn contents(store: &Store) -> BTreeMap<Uuid, (Session, Vec<Property>)> {
    let mut contents = BTreeMap::new();
    for session in store.snapshot() {
        let properties = store.properties(session.id).await.unwrap();
        contents.insert(session.id, (Session::clone(&session), properties));
    }
    contents
}

/// The folder after a crash is one of: old document and any beginning of the temporary file; old document and the
/// whole temporary file; new document. (Also: none of them yet, for a first write.)
#[test]
fn a_write_cut_at_any_point_leaves_the_old_or_the_new_self() {
    let folder = tempfile::tempdir().unwrap();
    let player = Uuid::from_u128(7);
    let bystander = Uuid::from_u128(8);
    let document = folder.path().join(format!("00/{player}.json"));
    let temporary = folder.path().join(format!("00/.{player}.tmp"));

    paused().block_on(async {
        let (store, _) = open(folder.path(), START).await;
        store.record_verified(login(bystander, "Bob", [192, 0, 2, 8], "b"));
        store.record_verified(login(player, "Alice", [192, 0, 2, 7], "old"));
        store.flush().await.unwrap();
        let old_bytes = fs::read(&document).unwrap();
        let old = contents(&store).await;
        store.record_verified(login(player, "Alicia", [198, 51, 100, 7], "new"));
        store.close().await.unwrap();
        let new_bytes = fs::read(&document).unwrap();
        let (store, _) = open(folder.path(), START).await;
        let new = contents(&store).await;
        store.close().await.unwrap();
        let mut without = old.clone();
        without.remove(&player);
        assert!(old != new && old.len() == 2 && new.len() == 2);

        for length in 0..=new_bytes.len() {
            for (before, expected) in [(Some(&old_bytes), &old), (None, &without)] {
                match before {
                    Some(bytes) => fs::write(&document, bytes).unwrap(),
                    None => fs::remove_file(&document).unwrap(),
                }
                fs::write(&temporary, &new_bytes[..length]).unwrap();
                let (store, report) = open(folder.path(), START).await;
                assert_eq!((report.leftovers, report.damaged.len()), (1, 0), "cut at {length}");
                assert!(!temporary.exists());
                assert_eq!(&contents(&store).await, expected, "cut at {length}");
                store.close().await.unwrap();
            }
        }
        fs::write(&temporary, &new_bytes).unwrap();
        fs::rename(&temporary, &document).unwrap();
        let (store, report) = open(folder.path(), START).await;
        assert_eq!((report.leftovers, report.damaged.len()), (0, 0));
        assert_eq!(contents(&store).await, new);
    });
}

/// A file system that breaks its promises, or a bad copy: the document itself is cut.
#[test]
fn a_torn_document_costs_its_player_only() {
    let folder = tempfile::tempdir().unwrap();
    let player = Uuid::from_u128(7);
    let document = folder.path().join(format!("00/{player}.json"));
    paused().block_on(async {
        let (store, _) = open(folder.path(), START).await;
        store.record_verified(login(Uuid::from_u128(8), "Bob", [192, 0, 2, 8], "b"));
        store.record_verified(login(player, "Alice", [192, 0, 2, 7], "a"));
        store.close().await.unwrap();
        let bytes = fs::read(&document).unwrap();
        assert_eq!(bytes.last(), Some(&b'\n'));
        for length in 0..bytes.len() - 1 {
            fs::write(&document, &bytes[..length]).unwrap();
            let (store, report) = open(folder.path(), START).await;
            assert_eq!((report.sessions, report.damaged.len()), (1, 1), "cut at {length}");
            assert_eq!(fs::read(&report.damaged[0].moved_to).unwrap(), &bytes[..length]);
            assert!(!document.exists());
            fs::remove_file(&report.damaged[0].moved_to).unwrap();
            store.close().await.unwrap();
        }
    });
}

/// Tells the child process which folder to write to.
const CHILD_FOLDER: &str = "POSTERN_TEST_STORE";

/// Not a test of its own: [`killed_at_any_moment`] runs it in a process to be killed. Prints `saved <player>
/// <logins>` once so many logins of a player are durable.
#[test]
#[ignore = "run by killed_at_any_moment"]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap().block_on(async {
        let (store, _) = Store::open(config(Path::new(&folder)), Clock::system()).await.unwrap();
        for round in 0_u64.. {
            let mut saved = HashMap::new();
            for player in 0..5 {
                // Two fight for each name; the skin grows so that writes differ in length.
                let id = Uuid::from_u128(player << 120 | player);
                let name = format!("p{}", player.midpoint(u128::from(round)));
                let octet = (round % 200) as u8;
                let skin = "x".repeat((round * 37 % 5000) as usize);
                store.record_verified(login(id, &name, [10, 0, octet, 1], &skin));
                store.note_presence(id);
                saved.insert(player, store.by_id(id).unwrap().verified_logins);
                if player == 2 && round % 2 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            if round % 3 != 0 {
                store.flush().await.unwrap();
                for (player, logins) in saved {
                    println!("\nsaved {player} {logins}");
                }
            }
        }
    });
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut saved: HashMap<u128, u32> = HashMap::new();
    for kill in 0_usize..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_killed", "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: &str| -> Option<()> {
            let mut words = line.strip_prefix("saved ")?.split(' ');
            let player = words.next()?.parse().ok()?;
            let logins = words.next()?.parse().ok()?;
            saved.insert(player, logins);
            Some(())
        };
        // While these lines are read the child is already some way into its next writes; where, is up to the
        // scheduler.
        let enough = 3 + kill * 13 % 47;
        for line in lines.by_ref().filter(|line| line.starts_with("saved ")).take(enough) {
            note(&line).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Said before the end, so promised as well.
        for line in lines {
            // The last line may be cut: not a promise yet.
            let _ = note(&line);
        }

        Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let (store, report) = Store::open(config(folder.path()), Clock::system()).await.unwrap();
            assert_eq!(report.damaged, [], "kill {kill}");
            assert_eq!(report.sessions, 5, "kill {kill}");
            let contents = contents(&store).await;
            let names: Vec<_> = contents.values().filter_map(|(session, _)| session.name.clone()).collect();
            let unique: HashSet<_> = names.iter().map(Username::key).collect();
            assert_eq!(names.len(), unique.len(), "kill {kill}");
            for (player, logins) in &saved {
                let (session, properties) = &contents[&Uuid::from_u128(player << 120 | player)];
                assert!(
                    session.verified_logins >= *logins,
                    "kill {kill}: {session:?} lost logins, had {logins}"
                );
                assert_eq!(properties.len(), 1);
            }
            store.close().await.unwrap();
        });
    }
    assert_eq!(saved.len(), 5);
}

#[derive(Clone, Debug)]
enum Step {
    Verified { player: u8, name: u8, address: (u8, u8), has_dialogs: bool },
    Presence(u8),
    Fallback(u8),
    Lock(u8),
    Forget(u8),
    Wait { hours: u16 },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let player = 0..4_u8;
    prop_oneof![
        6 => (player.clone(), 0..5_u8, (0..6_u8, 0..3_u8), any::<bool>()).prop_map(
            |(player, name, address, has_dialogs)| Step::Verified { player, name, address, has_dialogs }
        ),
        2 => player.clone().prop_map(Step::Presence),
        2 => player.clone().prop_map(Step::Fallback),
        1 => player.clone().prop_map(Step::Lock),
        1 => player.prop_map(Step::Forget),
        2 => (0..500_u16).prop_map(|hours| Step::Wait { hours }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happened, a store opened anew holds what the closed one held.
    #[test]
    fn reopened_is_the_same(steps in prop::collection::vec(step(), 1..40), cleanup_on_startup: bool) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { cleanup_on_startup, ..config(folder.path()) };
        paused().block_on(async {
            let clock = Clock::starting_at(START);
            let (mut store, _) = Store::open(config.clone(), clock.clone()).await.unwrap();
            for step in steps.into_iter().chain([Step::Reopen]) {
                let id = |player: u8| Uuid::from_u128(u128::from(player) << 120);
                match step {
                    Step::Verified { player, name, address: (range, host), has_dialogs } => {
                        let name = ["Ann", "ANN", "Ben", "Cat", "Dan"][usize::from(name)];
                        let login = login(id(player), name, [10, 0, range, host], &format!("{range} {host}"));
                        store.record_verified(VerifiedLogin { has_dialogs, ..login });
                        prop_assert_eq!(store.find(&Username::parse(name).unwrap(), None).unwrap().id, id(player));
                    }
                    Step::Presence(player) => store.note_presence(id(player)),
                    Step::Fallback(player) => store.count_fallback(id(player)),
                    Step::Lock(player) => drop(store.update(id(player), |session| session.locked = true)),
                    Step::Forget(player) => drop(store.forget(id(player)).await.unwrap()),
                    Step::Wait { hours } => tokio::time::advance(Duration::from_hours(hours.into())).await,
                    Step::Flush => store.flush().await.unwrap(),
                    Step::Reopen => {
                        store.flush().await.unwrap();
                        let before = contents(&store).await;
                        store.close().await.unwrap();
                        let (reopened, report) = Store::open(config.clone(), clock.clone()).await.unwrap();
                        prop_assert_eq!(report.sessions, before.len());
                        prop_assert_eq!((report.damaged.len(), report.leftovers, report.robbed), (0, 0, 0));
                        prop_assert_eq!(&contents(&reopened).await, &before);
                        store = reopened;
                    }
                }
                let sessions = store.snapshot();
                let names: Vec<_> = sessions.iter().filter_map(|session| session.name.as_ref()).collect();
                let unique: HashSet<_> = names.iter().map(|name| name.key()).collect();
                prop_assert_eq!(unique.len(), names.len());
                for session in &sessions {
                    let known = &session.addresses;
                    prop_assert!((1..=4).contains(&known.len()));
                    for (i, a) in known.iter().enumerate() {
                        let rest = &known[i + 1..];
                        prop_assert!(rest.iter().all(|b| b.verified <= a.verified));
                        prop_assert!(!rest.iter().any(|b| same_range(a.address, b.address, 24, 64)));
                    }
                }
            }
            Ok(())
        })?;
    }
}
