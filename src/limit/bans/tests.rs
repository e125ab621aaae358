use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::{identity::Username, task::ShutdownTrigger};

const START: &str = "2026-01-01T12:00:00Z";
const VICTIM: Uuid = Uuid::from_u128(0x069a_79f4);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// Bans in a folder, and what is heard of them.
struct Scene {
    folder: TempDir,
    bans: Bans,
    heard: Arc<Mutex<Vec<BanEvent>>>,
}

fn config(folder: &Path) -> Config {
    Config {
        per_client: 10,
        per_subnet: 30,
        per_asn: 100,
        duration: Duration::from_mins(30),
        file: folder.join("bans.json"),
        ipv4_subnet_prefix: 24,
    }
}

impl Scene {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap(), START)
    }

    fn within(folder: TempDir, start: &str) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let listener = Box::new(move |event: &BanEvent| ears.lock().unwrap().push(event.clone()));
        let bans = Bans::open(&config(folder.path()), Clock::starting_at(at(start)), listener).unwrap();
        Self { folder, bans, heard }
    }

    /// That many failures at the victim.
    fn fail(&self, times: usize, address: &str) {
        self.fail_as(times, Failure::NotJoined, address, "Notch", Some(VICTIM), Some(64496));
    }

    fn fail_as(
        &self,
        times: usize,
        failure: Failure,
        address: &str,
        name: &str,
        id: Option<Uuid>,
        asn: Option<u32>,
    ) {
        let name = Username::parse(name).unwrap().key();
        (0..times).for_each(|_| self.bans.fail(failure, ip(address), &name, id, asn));
    }

    fn hits(&self, address: &str) -> [bool; 4] {
        let Hits { client, subnet, asn, pair } = self.bans.hits(ip(address), Some(64496), Some(VICTIM));
        [client, subnet, asn, pair]
    }

    /// What was heard since this was last asked.
    fn heard(&self) -> Vec<String> {
        let word = |event: &BanEvent| match event {
            BanEvent::Added(ban) => format!("added {}", ban.target),
            BanEvent::Expired(ban) => format!("expired {}", ban.target),
            BanEvent::Lifted(ban) => format!("lifted {}", ban.target),
        };
        std::mem::take(&mut *self.heard.lock().unwrap()).iter().map(word).collect()
    }

    fn run(&self) -> (ShutdownTrigger, JoinHandle<()>) {
        let (trigger, stop) = Shutdown::new();
        (trigger, tokio::spawn(self.bans.clone().run(stop)))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("bans.json")
    }

    fn saved(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return Vec::new() };
        let targets = value["bans"].as_array().unwrap().iter();
        targets.map(|ban| ban["target"].as_str().unwrap().to_owned()).collect()
    }
}

/// Looks again until it is so. The disk is waited for on another thread, so paused time must not run ahead of it.
async fn until(so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came to be so");
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_target_is_banned_at_its_own_limit() {
    let scene = Scene::new();
    scene.fail(9, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    scene.fail(1, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
    assert_eq!(scene.hits("203.0.113.6"), [false; 4], "the neighbours are not");
    scene.fail(20, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.6"), [false; 4], "not even if it goes on");
    // Nine from each of the next: no client is banned by that, but the subnet is.
    scene.fail(9, "203.0.113.6");
    scene.fail(9, "203.0.113.7");
    assert_eq!(scene.hits("203.0.113.8"), [false; 4]);
    scene.fail(2, "203.0.113.8");
    assert_eq!(scene.hits("203.0.113.250"), [false, true, false, false]);
    assert_eq!(scene.hits("203.0.114.1"), [false; 4]);
    // Thirty were counted for the network so far; ten subnets more.
    for n in 0..10 {
        scene.fail(7, &format!("2001:db8:{n}::1"));
        assert_eq!(scene.hits("198.51.100.1"), [false, false, n == 9, false]);
    }
    let targets: Vec<String> =
        scene.bans.list().iter().map(|ban| format!("{} {}", ban.target, ban.failures)).collect();
    let pair = format!("{VICTIM}@203.0.113.5 10");
    assert_eq!(targets, ["203.0.113.5 10", "203.0.113.0/24 30", "AS64496 100", &pair]);
    assert_eq!(
        scene.heard(),
        [
            format!("added {VICTIM}@203.0.113.5"),
            "added 203.0.113.5".into(),
            "added 203.0.113.0/24".into(),
            "added AS64496".into()
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_client_is_its_64() {
    let scene = Scene::new();
    for n in 0..10 {
        scene.fail(1, &format!("2001:db8:1:2::{n}"));
    }
    assert_eq!(scene.hits("2001:db8:1:2:ffff::"), [true, false, false, true]);
    assert_eq!(scene.hits("2001:db8:1:3::1"), [false; 4]);
    // A client that changes its /64 within its /48 is banned with that.
    for n in 10..30 {
        scene.fail(1, &format!("2001:db8:1:{n:x}::1"));
    }
    assert_eq!(scene.hits("2001:db8:1:99::1"), [false, true, false, false]);
    assert_eq!(scene.hits("2001:db8:2::1"), [false; 4]);
}

#[tokio::test(start_paused = true)]
async fn failures_elsewhere_never_touch_the_victims_own_address() {
    let scene = Scene::new();
    for n in 0..1000 {
        scene.fail(1, &format!("198.51.{}.{}", n / 250, n % 250));
    }
    let home = scene.bans.hits(ip("203.0.113.5"), Some(64500), Some(VICTIM));
    assert_eq!(home, Hits::default());
}

#[tokio::test(start_paused = true)]
async fn a_code_guesser_at_a_banned_address_is_still_counted_for_its_victim() {
    let scene = Scene::new();
    // Banned for something else before.
    scene.fail_as(10, Failure::NotJoined, "203.0.113.5", "Nobody", None, None);
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, false]);
    scene.fail_as(10, Failure::WrongPin, "203.0.113.5", "Notch", Some(VICTIM), None);
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn of_refusals_only_the_first_under_a_name_counts() {
    let scene = Scene::new();
    // A friend who tries and tries.
    scene.fail_as(100, Failure::Refused, "203.0.113.5", "Notch", Some(VICTIM), Some(64496));
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    // Somebody who goes through names.
    for n in 0..9 {
        scene.fail_as(5, Failure::Refused, "203.0.113.5", &format!("name_{n}"), None, None);
    }
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, false]);
    // The other failures count each time.
    for (failure, address) in [
        (Failure::NotJoined, "203.0.113.6"),
        (Failure::WrongPin, "203.0.113.7"),
        (Failure::Unproven, "203.0.113.8"),
    ] {
        scene.fail_as(10, failure, address, "Notch", None, None);
        assert!(scene.bans.hits(ip(address), None, None).client, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ban_lasts_its_time_and_is_said_to_end() {
    let scene = Scene::new();
    let (trigger, running) = scene.run();
    scene.fail(10, "203.0.113.5");
    let ban = scene.bans.list().remove(0);
    assert_eq!((ban.since, ban.until), (at(START), at("2026-01-01T12:30:00Z")));
    advance(Duration::from_secs(30 * 60 - 1)).await;
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
    scene.heard();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    let pair = format!("expired {VICTIM}@203.0.113.5");
    assert_eq!(scene.heard(), ["expired 203.0.113.5".to_owned(), pair]);
    // From nothing again.
    scene.fail(9, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    trigger.trigger();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_who_is_banned_again_before_the_end_was_noticed() {
    let scene = Scene::new();
    scene.fail(10, "203.0.113.5");
    advance(Duration::from_mins(31)).await;
    scene.fail(10, "203.0.113.5");
    let pair = |word: &str| format!("{word} {VICTIM}@203.0.113.5");
    let client = |word: &str| format!("{word} 203.0.113.5");
    assert_eq!(
        scene.heard(),
        [pair("added"), client("added"), pair("expired"), pair("added"), client("expired"), client("added")]
    );
    assert_eq!(scene.bans.list().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn lifting_ends_a_ban_and_forgets_what_was_counted() {
    let scene = Scene::new();
    scene.fail(10, "203.0.113.5");
    scene.heard();
    assert!(scene.bans.lift(&target("203.0.113.5")));
    assert!(!scene.bans.lift(&target("203.0.113.5")));
    assert_eq!(scene.heard(), ["lifted 203.0.113.5"]);
    assert_eq!(scene.hits("203.0.113.5"), [false, false, false, true]);
    scene.fail(9, "203.0.113.5");
    assert!(!scene.bans.lift(&target("203.0.113.5")), "no ban, but nine failures");
    scene.fail(1, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [false, false, false, true]);
    advance(Duration::from_mins(31)).await;
    assert!(!scene.bans.lift(&target(&format!("{VICTIM}@203.0.113.5"))), "it was over");
    assert_eq!(scene.heard(), [format!("expired {VICTIM}@203.0.113.5")]);
}

#[tokio::test(start_paused = true)]
async fn bans_survive_a_restart() {
    let scene = Scene::new();
    let (trigger, running) = scene.run();
    scene.fail(10, "203.0.113.5");
    sleep(Duration::from_millis(900)).await;
    assert!(!scene.file().exists(), "more may come");
    sleep(Duration::from_millis(200)).await;
    until(|| scene.saved().len() == 2).await;
    // The last moment counts too.
    scene.fail(10, "203.0.113.6");
    trigger.trigger();
    running.await.unwrap();
    assert_eq!(scene.saved().len(), 4);

    let scene = Scene::within(scene.folder, "2026-01-01T12:29:00Z");
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
    assert_eq!(scene.bans.list().len(), 4);
    assert_eq!(scene.heard(), [""; 0]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);

    // Ended while nothing ran.
    let scene = Scene::within(scene.folder, "2026-01-01T13:00:00Z");
    assert_eq!(scene.heard().len(), 4);
    assert_eq!(scene.bans.list(), []);
    let (trigger, running) = scene.run();
    trigger.trigger();
    running.await.unwrap();
    let scene = Scene::within(scene.folder, "2026-01-01T13:00:00Z");
    assert_eq!(scene.heard(), [""; 0], "said once");
}

#[tokio::test(start_paused = true)]
async fn no_clock_makes_a_ban_longer() {
    let folder = tempfile::tempdir().unwrap();
    let ban = |target: &str, since: &str, until: &str| Ban {
        target: target.parse().unwrap(),
        since: at(since),
        until: at(until),
        failures: 10,
    };
    let stored = vec![
        ban("203.0.113.5", "2027-01-01T12:00:00Z", "2027-01-01T12:30:00Z"),
        ban("203.0.113.6", "2026-01-01T11:50:00Z", "2026-02-01T12:00:00Z"),
        ban("203.0.113.7", "2026-01-01T11:50:00Z", "2026-01-01T12:20:00Z"),
    ];
    file::write(&folder.path().join("bans.json"), stored).unwrap();
    let scene = Scene::within(folder, START);
    let listed: Vec<String> =
        scene.bans.list().iter().map(|ban| format!("{} {} {}", ban.target, ban.since, ban.until)).collect();
    assert_eq!(
        listed,
        [
            "203.0.113.6 2026-01-01T11:50:00Z 2026-01-01T12:30:00Z",
            "203.0.113.7 2026-01-01T11:50:00Z 2026-01-01T12:20:00Z",
            "203.0.113.5 2026-01-01T12:00:00Z 2026-01-01T12:30:00Z",
        ]
    );
    // Written as shortened, so that the next start does not begin anew.
    let (trigger, running) = scene.run();
    sleep(Duration::from_secs(2)).await;
    until(|| fs::read_to_string(scene.file()).unwrap().contains("2026-01-01T12:30:00Z")).await;
    assert!(!fs::read_to_string(scene.file()).unwrap().contains("2027"));
    trigger.trigger();
    running.await.unwrap();
    advance(Duration::from_mins(30)).await;
    assert_eq!(scene.bans.list(), []);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_set_back_while_running_holds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let shown = Arc::new(Mutex::new(at(START)));
    let clock = Clock::shown_by(Arc::clone(&shown));
    let bans = Bans::open(&config(folder.path()), clock, Box::new(|_| ())).unwrap();
    let name = Username::parse("Notch").unwrap().key();
    let fail = || (0..10).for_each(|_| bans.fail(Failure::NotJoined, ip("203.0.113.5"), &name, None, None));
    let is_banned = || bans.hits(ip("203.0.113.5"), None, None).client;
    fail();
    *shown.lock().unwrap() = at("2025-01-01T00:00:00Z");
    assert!(is_banned());
    advance(Duration::from_mins(30)).await;
    assert!(!is_banned());
    // Set ahead, what it says counts.
    fail();
    assert!(is_banned());
    *shown.lock().unwrap() = at("2025-01-01T00:30:00Z");
    assert!(!is_banned());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_costs_the_bans_and_not_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bans.json"), "{\"version\":1,\"ba").unwrap();
    let scene = Scene::within(folder, START);
    assert_eq!(scene.bans.list(), []);
    assert_eq!(
        fs::read_to_string(scene.folder.path().join("bans.json.damaged")).unwrap(),
        "{\"version\":1,\"ba"
    );
    let (trigger, running) = scene.run();
    scene.fail(10, "203.0.113.5");
    trigger.trigger();
    running.await.unwrap();
    assert_eq!(scene.saved().len(), 2);
}

#[test]
fn a_file_that_could_not_be_kept_fails_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = |file: PathBuf| {
        let config = Config { file, ..config(folder.path()) };
        Bans::open(&config, Clock::system(), Box::new(|_| ())).unwrap_err().to_string()
    };
    for file in [folder.path().to_owned(), folder.path().join("none").join("bans.json")] {
        let error = open(file);
        assert!(error.contains("hint: `security.ban-file`"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_nobody_up_and_is_made_good() {
    let scene = Scene::new();
    let (trigger, running) = scene.run();
    // A folder in the way of the temporary file, as good as a full disk.
    let in_the_way = scene.folder.path().join("bans.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    scene.fail(10, "203.0.113.5");
    sleep(Duration::from_secs(200)).await;
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
    assert!(!scene.file().exists());
    scene.fail(10, "203.0.113.6");
    fs::remove_dir(&in_the_way).unwrap();
    sleep(LONGEST_PAUSE).await;
    until(|| scene.saved().len() == 4).await;
    trigger.trigger();
    running.await.unwrap();
}

/// Floods everything with a million addresses; then what is left must be small, and what matters must be there.
#[tokio::test(start_paused = true)]
async fn a_million_addresses_and_names_take_bounded_memory() {
    const FLOOD: u32 = 1_000_000;
    let scene = Scene::new();
    // Somebody nine tenths on the way to a ban, and somebody banned.
    scene.fail_as(9, Failure::NotJoined, "203.0.113.5", "Thief", Some(VICTIM), None);
    scene.fail_as(10, Failure::NotJoined, "198.51.100.5", "Thief", Some(VICTIM), None);
    let rates = super::super::rate::Rates::new(Duration::from_secs(3));
    for n in 0..FLOOD {
        // Every one in a /48 of its own, under a name of its own.
        let address = IpAddr::from((0x2a00_u128 << 112 | u128::from(n) << 80).to_be_bytes());
        let name = Username::parse(&format!("spoofed_{n:x}")).unwrap().key();
        scene.bans.fail(Failure::Refused, address, &name, Some(Uuid::from_u128(n.into())), Some(n));
        assert!(rates.take(address, || 0));
    }
    {
        let mut state = scene.bans.state();
        let counted = [
            state.counters.client.len(),
            state.counters.subnet.len(),
            state.counters.pair.len(),
            state.refused.len(),
        ];
        assert_eq!(counted, [MAX_COUNTED; 4]);
        assert_eq!(state.counters.asn.len(), MAX_NETWORKS);
        assert_eq!(rates.len(), MAX_COUNTED);
        let banned: Vec<usize> = state.banned.each().iter().map(|table| table.len()).collect();
        assert_eq!(banned, [1, 0, 0, 1]);
        let counters = &mut state.counters;
        let bytes: usize = [&counters.client, &counters.subnet, &counters.pair, &counters.asn]
            .map(Counter::bytes)
            .iter()
            .sum();
        let bytes = bytes + state.refused.bytes() + rates.bytes();
        println!("a million addresses leave {} MB", bytes / 1_000_000);
        assert!(bytes < 32_000_000, "{bytes}");
    }
    // It washed nothing away.
    assert_eq!(scene.hits("198.51.100.5"), [true, false, false, true]);
    scene.fail_as(1, Failure::NotJoined, "203.0.113.5", "Thief", Some(VICTIM), None);
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_banned_clients_takes_bounded_memory() {
    let scene = Scene::new();
    let name = Username::parse("Notch").unwrap().key();
    scene.fail_as(30, Failure::NotJoined, "198.51.100.5", "Notch", None, Some(64496));
    for n in 0..20_000_u32 {
        let address = IpAddr::from((0x2a00_u128 << 112 | u128::from(n) << 80).to_be_bytes());
        (0..10).for_each(|_| scene.bans.fail(Failure::NotJoined, address, &name, Some(VICTIM), None));
    }
    let bans = scene.bans.list();
    assert_eq!(bans.len(), 2 * MAX_BANS, "clients and pairs, each for itself");
    let gone = scene.heard().iter().filter(|event| event.starts_with("expired")).count();
    assert_eq!(gone, 2 * 20_000 + 1 - 2 * MAX_BANS, "every end is told");
    assert!(!scene.hits("198.51.100.5")[0], "it was the oldest");
    let bytes: usize = scene.bans.state().banned.each().iter().map(|table| table.bytes()).sum();
    println!("{} bytes per ban, {} MB at most", bytes / bans.len(), bytes * 2 / 1_000_000);
    assert!(bytes < 8_000_000, "{bytes}");
    // The file of them all can be read again.
    let path = scene.folder.path().join("all.json");
    file::write(&path, bans.iter().chain(&bans).cloned().collect()).unwrap();
    assert_eq!(file::read(&path).unwrap().len(), 4 * MAX_BANS);
}

#[test]
fn a_stuck_disk_holds_up_no_stop() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let scene = Scene::new();
        // The one thread that files are written on.
        tokio::task::spawn_blocking(move || _ = blocked.recv());
        let (trigger, running) = scene.run();
        scene.fail(10, "198.51.100.9");
        let wait = async |seconds| {
            for _ in 0..seconds {
                advance(Duration::from_secs(1)).await;
                tokio::task::yield_now().await;
            }
        };
        wait(3).await;
        assert_eq!(scene.saved(), [""; 0], "it is being written");
        trigger.trigger();
        wait(LAST_WRITE.as_secs() - 1).await;
        assert!(!running.is_finished());
        wait(2).await;
        assert!(running.is_finished());
    });
    drop(unblock);
}

#[tokio::test(start_paused = true)]
async fn codes_tried_side_by_side_are_charged_like_those_tried_one_after_another() {
    let scene = Scene::new();
    let name = Username::parse("Notch").unwrap().key();
    let charge = |id: u128| scene.bans.charge(ip("203.0.113.5"), &name, Uuid::from_u128(id), Some(64496));
    scene.fail(7, "203.0.113.5");
    let mut under_way: Vec<Charge> = (1..100).filter_map(charge).collect();
    assert_eq!(under_way.len(), 3, "the eighth to the tenth");
    assert_eq!(
        (scene.hits("203.0.113.5"), scene.heard()),
        ([false; 4], vec![]),
        "nothing is known to be wrong yet"
    );
    under_way.pop().unwrap().give_back();
    drop(under_way.pop());
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    let other = charge(1).unwrap();
    assert!(charge(2).is_none());
    other.give_back();
    drop(under_way);
    assert_eq!(scene.heard(), [] as [&str; 0], "nine are not ten");
    drop(charge(1));
    assert_eq!(scene.heard(), ["added 203.0.113.5"]);
    // What it does from then on counts for the pair alone.
    let pair = charge(VICTIM.as_u128()).unwrap();
    assert_eq!(pair.targets.len(), 1);
    pair.give_back();
    assert!(scene.bans.state().pending.is_empty(), "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_code_that_was_right_leaves_nothing_behind() {
    let scene = Scene::new();
    let name = Username::parse("Notch").unwrap().key();
    for _ in 0..1000 {
        scene.bans.charge(ip("203.0.113.5"), &name, VICTIM, Some(64496)).unwrap().give_back();
    }
    scene.fail_as(9, Failure::WrongPin, "203.0.113.5", "Notch", Some(VICTIM), None);
    assert_eq!((scene.hits("203.0.113.5"), scene.heard()), ([false; 4], vec![]));
}

/// Lets time pass until it is so.
async fn in_time(so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came to be so");
        advance(Duration::from_millis(100)).await;
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_configuration_judges_at_once_and_ends_what_would_last_longer() {
    let scene = Scene::new();
    scene.fail(5, "203.0.113.5");
    scene.fail(10, "203.0.113.6");
    assert_eq!(scene.hits("203.0.113.6"), [true, false, false, true]);
    let strict = Config { per_client: 6, duration: Duration::from_mins(10), ..config(scene.folder.path()) };
    let prepared = scene.bans.prepare(&strict).await.unwrap();
    scene.fail(1, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [false; 4], "not adopted yet");
    scene.bans.clone().adopt(prepared);
    scene.fail(1, "203.0.113.5");
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true], "what was counted before counts");
    let ends: Vec<_> = scene.bans.list().iter().map(|ban| ban.until).collect();
    assert_eq!(ends, [at("2026-01-01T12:10:00Z"); 4]);
    advance(Duration::from_mins(10)).await;
    assert_eq!(scene.hits("203.0.113.6"), [false; 4]);

    // Another range is another subnet.
    let wide = Config { per_subnet: 1, ipv4_subnet_prefix: 16, ..strict };
    scene.bans.adopt(scene.bans.prepare(&wide).await.unwrap());
    scene.fail(1, "198.51.100.5");
    assert!(scene.hits("198.51.7.7")[1]);
}

#[tokio::test(start_paused = true)]
async fn another_file_is_in_force_and_the_one_before_keeps_its_bans() {
    let scene = Scene::new();
    let elsewhere = Scene::new();
    elsewhere.fail(10, "198.51.100.5");
    let (trigger, task) = elsewhere.run();
    in_time(|| elsewhere.saved().len() == 2).await;
    trigger.trigger();
    task.await.unwrap();

    scene.fail(10, "203.0.113.5");
    let (trigger, task) = scene.run();
    let prepared = scene.bans.prepare(&config(elsewhere.folder.path())).await.unwrap();
    drop(prepared);
    assert_eq!(scene.hits("203.0.113.5"), [true, false, false, true]);
    let prepared = scene.bans.prepare(&config(elsewhere.folder.path())).await.unwrap();
    scene.fail(10, "203.0.113.6");
    scene.heard();
    scene.bans.adopt(prepared);
    assert_eq!(scene.hits("203.0.113.5"), [false; 4]);
    assert_eq!(scene.hits("198.51.100.5"), [true, false, false, true]);
    assert!(scene.heard().is_empty(), "nothing ended: it is in force where its file is");
    in_time(|| scene.saved().len() == 4).await;
    scene.fail(10, "198.51.100.7");
    trigger.trigger();
    task.await.unwrap();
    assert_eq!((scene.saved().len(), elsewhere.saved().len()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_only_touched_once_it_is_adopted() {
    let scene = Scene::new();
    let other = Config { file: scene.folder.path().join("other.json"), ..config(scene.folder.path()) };
    fs::write(&other.file, "nonsense").unwrap();
    let missing = Config { file: scene.folder.path().join("none/bans.json"), ..other.clone() };
    let error = scene.bans.prepare(&missing).await.unwrap_err().to_string();
    assert!(error.contains("no such folder"), "{error}");
    let prepared = scene.bans.prepare(&other).await.unwrap();
    assert_eq!(fs::read(&other.file).unwrap(), b"nonsense");
    let (trigger, task) = scene.run();
    scene.bans.adopt(prepared);
    // In between there is none.
    in_time(|| fs::read(&other.file).is_ok_and(|text| text != b"nonsense")).await;
    trigger.trigger();
    task.await.unwrap();
    assert_eq!(fs::read(scene.folder.path().join("other.json.damaged")).unwrap(), b"nonsense");
    assert_eq!(read_file(&other.file, at(START)).unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_does_not_delay_the_next_file() {
    let scene = Scene::new();
    let temporary = scene.folder.path().join("bans.json.tmp");
    fs::create_dir(&temporary).unwrap();
    let (trigger, task) = scene.run();
    scene.fail(10, "203.0.113.5");
    // Long enough for the pauses between tries to grow.
    for _ in 0..200 {
        advance(Duration::from_secs(1)).await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
    let good = Scene::new();
    scene.bans.adopt(scene.bans.prepare(&config(good.folder.path())).await.unwrap());
    scene.fail(10, "203.0.113.6");
    // Without a moment's wait.
    until(|| good.saved().len() == 2).await;
    trigger.trigger();
    task.await.unwrap();
}

fn other(scene: &Scene, name: &str) -> Config {
    Config { file: scene.folder.path().join(name), ..config(scene.folder.path()) }
}

#[tokio::test(start_paused = true)]
async fn there_and_back_again_every_ban_is_written() {
    let scene = Scene::new();
    scene.fail(10, "203.0.113.5");
    let (here, there) = (config(scene.folder.path()), other(&scene, "other.json"));
    scene.bans.adopt(scene.bans.prepare(&there).await.unwrap());
    scene.bans.adopt(scene.bans.prepare(&here).await.unwrap());
    assert_eq!(scene.bans.list().len(), 2);
    let (trigger, task) = scene.run();
    in_time(|| scene.saved().len() == 2).await;
    trigger.trigger();
    task.await.unwrap();
    assert_eq!(scene.saved().len(), 2);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn back_again_while_the_file_of_before_is_being_written() {
    let scene = Scene::new();
    scene.fail(10, "203.0.113.5");
    let (here, there) = (config(scene.folder.path()), other(&scene, "other.json"));
    scene.bans.adopt(scene.bans.prepare(&there).await.unwrap());
    // A disk that takes its time: to open this takes until somebody reads it.
    let temporary = scene.folder.path().join("bans.json.tmp");
    rustix::fs::mknodat(rustix::fs::CWD, &temporary, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut saving = Saving::default();
    let mut save = Box::pin(scene.bans.save(&mut saving));
    // The task of the write blocks; what is before it is done at once.
    tokio::select! {
        biased;
        () = &mut save => panic!("it cannot be written yet"),
        () = tokio::task::yield_now() => {}
    }
    scene.bans.adopt(scene.bans.prepare(&here).await.unwrap());
    assert_eq!(scene.bans.list().len(), 2, "what is being written is in force");
    let reader = temporary.clone();
    let reader = tokio::task::spawn_blocking(move || fs::File::open(reader).unwrap());
    save.await;
    reader.await.unwrap();
    let _ = fs::remove_file(&temporary);
    scene.bans.save(&mut Saving::default()).await;
    assert_eq!(scene.saved().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_that_was_in_use_for_a_moment_is_set_aside_too() {
    let scene = Scene::new();
    let (damaged, third) = (other(&scene, "other.json"), other(&scene, "third.json"));
    fs::write(&damaged.file, "nonsense").unwrap();
    for next in [&damaged, &third, &damaged, &third] {
        scene.bans.adopt(scene.bans.prepare(next).await.unwrap());
    }
    let (trigger, task) = scene.run();
    scene.fail(10, "203.0.113.5");
    trigger.trigger();
    task.await.unwrap();
    assert_eq!(fs::read(scene.folder.path().join("other.json.damaged")).unwrap(), b"nonsense");
    assert_eq!(read_file(&damaged.file, at(START)).unwrap(), []);
    assert_eq!(read_file(&third.file, at(START)).unwrap().len(), 2);
    assert!(!scene.folder.path().join("other.json.damaged.1").exists());
}
