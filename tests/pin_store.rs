//! PINs and the disk: killed while one is being replaced, a player has the old one or the new one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, and lines to the parent process"
)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use postern::{
    clock::Clock,
    identity::{Profile, Username},
    limit::{Bans, bans},
    pin::{Config, Outcome, Pins, Tried},
    session::{self, Store, VerifiedLogin},
};
use tokio::runtime::Builder;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);

/// Tells the child process which folder to write to, and which code comes next.
const CHILD_FOLDER: &str = "POSTERN_TEST_PIN_STORE";
const CHILD_ROUND: &str = "POSTERN_TEST_PIN_ROUND";

/// The code that is set in this round.
fn code(round: u32) -> String {
    format!("goat{round}x{}", round * 7)
}

async fn open(folder: &Path) -> (Store, Pins) {
    let config = session::Config {
        directory: folder.join("sessions"),
        cleanup_on_startup: true,
        max_address_age: Duration::from_hours(168),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    };
    let (store, report) = Store::open(config, Clock::system()).await.unwrap();
    assert_eq!(report.damaged, []);
    let config = bans::Config {
        per_client: 1000,
        per_subnet: 1000,
        per_asn: 1000,
        duration: Duration::from_mins(30),
        file: folder.join("bans.json"),
        ipv4_subnet_prefix: 24,
    };
    let bans = Bans::open(&config, Clock::system(), Box::new(|_| ())).unwrap();
    let config = Config { enabled: true, min_length: 6, timeout: Duration::from_mins(1) };
    let pins = Pins::new(config, store.clone(), bans);
    (store, pins)
}

/// Not a test of its own: [`killed_at_any_moment`] runs it in a process to be killed. Prints `saved <round>` once the
/// code of that round is.
#[test]
#[ignore = "run by killed_at_any_moment"]
fn sets_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let first = std::env::var(CHILD_ROUND).unwrap().parse().unwrap();
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap().block_on(async {
        let (store, pins) = open(Path::new(&folder)).await;
        let profile = Profile { id: ID, name: Username::parse("Alice").unwrap(), properties: Vec::new() };
        let address = "203.0.113.5".parse().unwrap();
        for round in first.. {
            store.record_verified(VerifiedLogin {
                profile: profile.clone(),
                address,
                protocol: 774,
                has_dialogs: true,
            });
            pins.set(ID, &code(round).into()).await.unwrap();
            println!("\nsaved {round}");
        }
    });
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut saved = 0;
    for kill in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sets_until_killed", "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .env(CHILD_ROUND, (saved + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut rounds = lines.filter_map(|line| line.strip_prefix("saved ")?.parse::<u32>().ok());
        // Another number each time: while they are read the child is some way into its next one.
        for _ in 0..=kill % 3 {
            saved = rounds.next().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Said before the end, so promised as well. (The last line may be cut, and then is a smaller number.)
        saved = saved.max(rounds.last().unwrap_or_default());

        let found = Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let (store, pins) = open(folder.path()).await;
            let mut right = Vec::new();
            for round in [saved - 1, saved, saved + 1].into_iter().filter(|round| *round > 0) {
                let mut trial = pins.trial(Tried {
                    id: ID,
                    name: Username::parse("Alice").unwrap().key(),
                    address: "203.0.113.5".parse().unwrap(),
                    asn: None,
                    is_exact: true,
                });
                if matches!(trial.attempt(&code(round).into()).await, Outcome::Right(_)) {
                    right.push(round);
                }
            }
            store.close().await.unwrap();
            right
        });
        assert!(
            found == [saved] || found == [saved + 1],
            "kill {kill}: {saved} was saved, {found:?} is right"
        );
        saved = found.into_iter().next().unwrap();
    }
}
