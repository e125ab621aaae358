use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;
use crate::{
    clock::Clock,
    identity::{Profile, Username},
    limit::{Bans, Hits, bans},
    session::{self, Store, VerifiedLogin},
};

const HOME: &str = "203.0.113.5";
const NEXT_DOOR: &str = "203.0.113.77";
const ELSEWHERE: &str = "198.51.100.9";
const ID: Uuid = Uuid::from_u128(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5);
const CODE: &str = "goat4711";

fn words(text: &str) -> SecretString {
    SecretString::from(text)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Scene {
    folder: TempDir,
    store: Store,
    bans: Bans,
    pins: Pins,
}

fn store_config(folder: &Path) -> session::Config {
    session::Config {
        directory: folder.join("sessions"),
        cleanup_on_startup: true,
        max_address_age: Duration::from_hours(168),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    }
}

impl Scene {
    /// Notch, verified from home, without a PIN.
    async fn new() -> Self {
        let scene = Self::within(tempfile::tempdir().unwrap()).await;
        scene.remember(ID, "Notch");
        scene
    }

    /// Notch, with its PIN.
    async fn with_pin() -> Self {
        let scene = Self::new().await;
        assert_eq!(scene.pins.set(ID, &words(CODE)).await.unwrap(), Saved::Set);
        scene
    }

    async fn within(folder: TempDir) -> Self {
        let clock = Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap());
        let (store, _) = Store::open(store_config(folder.path()), clock.clone()).await.unwrap();
        let config = bans::Config {
            per_client: 10,
            per_subnet: 1000,
            per_asn: 1000,
            duration: Duration::from_mins(30),
            file: folder.path().join("bans.json"),
            ipv4_subnet_prefix: 24,
        };
        let bans = Bans::open(&config, clock, Box::new(|_| ())).unwrap();
        let config = Config { enabled: true, min_length: 6, timeout: Duration::from_mins(1) };
        let pins = Pins::new(config, store.clone(), bans.clone());
        Self { folder, store, bans, pins }
    }

    /// The proxy again, on the same folder.
    async fn restart(self) -> Self {
        self.store.close().await.unwrap();
        Self::within(self.folder).await
    }

    fn remember(&self, id: Uuid, name: &str) {
        let profile = Profile { id, name: Username::parse(name).unwrap(), properties: Vec::new() };
        let login = VerifiedLogin { profile, address: ip(HOME), protocol: 774, has_dialogs: true };
        self.store.record_verified(login);
    }

    fn trial_of(&self, id: Uuid, address: &str) -> Trial {
        self.pins.trial(Tried {
            id,
            name: Username::parse("Notch").unwrap().key(),
            address: ip(address),
            asn: Some(64_496),
            is_exact: address == HOME,
        })
    }

    fn trial(&self, address: &str) -> Trial {
        self.trial_of(ID, address)
    }

    /// What comes of one code of a fresh attempt.
    async fn attempt(&self, address: &str, code: &str) -> Outcome {
        self.trial(address).attempt(&words(code)).await
    }

    async fn is_right(&self, code: &str) -> bool {
        matches!(self.attempt(HOME, code).await, Outcome::Right(proven) if proven.id() == ID)
    }

    fn hash(&self) -> Option<String> {
        self.store.by_id(ID).unwrap().pin_hash.clone()
    }

    fn document(&self) -> PathBuf {
        let id = ID.to_string();
        self.folder.path().join(format!("sessions/{}/{id}.json", &id[..2]))
    }

    /// Makes every write of Notch's document fail, as a full disk does; also for root.
    fn break_disk(&self) {
        fs::create_dir(self.temporary()).unwrap();
    }

    fn mend_disk(&self) {
        fs::remove_dir(self.temporary()).unwrap();
    }

    fn temporary(&self) -> PathBuf {
        self.document().with_file_name(format!(".{ID}.tmp"))
    }

    fn hits(&self, address: &str) -> Hits {
        self.bans.hits(ip(address), None, Some(ID))
    }

    /// Waits until nothing of Notch's is being computed or saved. On another thread, so that paused time stands still.
    async fn is_idle(&self) {
        let began = std::time::Instant::now();
        while self.pins.shared.claim(ID).is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "it never ended");
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pin_is_set_replaced_kept_over_a_restart_and_reset() {
    let scene = Scene::new().await;
    assert!(!scene.pins.is_set(ID));
    assert!(!scene.is_right(CODE).await, "without a PIN no code is right");
    assert_eq!(scene.pins.set(ID, &words(CODE)).await.unwrap(), Saved::Set);
    assert!(scene.pins.is_set(ID) && scene.is_right(CODE).await);
    assert_eq!(scene.store.pending_writes(), 0, "it is on disk when it is said to be");
    let first = scene.hash().unwrap();
    assert!(
        first.starts_with("$argon2id$") && fs::read_to_string(scene.document()).unwrap().contains(&first)
    );

    let scene = scene.restart().await;
    assert!(scene.is_right(CODE).await && !scene.is_right("GOAT4711").await);
    assert_eq!(scene.pins.set(ID, &words("sheep0815")).await.unwrap(), Saved::Replaced);
    assert!(!scene.is_right(CODE).await && scene.is_right("sheep0815").await);

    assert!(scene.pins.reset(ID).await.unwrap());
    assert!(!scene.pins.is_set(ID) && scene.store.pending_writes() == 0);
    assert!(!scene.pins.reset(ID).await.unwrap(), "there was none any more");
    let scene = scene.restart().await;
    assert!(!scene.pins.is_set(ID));
}

#[tokio::test(start_paused = true)]
async fn what_will_not_do_changes_nothing() {
    let scene = Scene::with_pin().await;
    let before = scene.hash();
    for (code, weakness) in [
        ("k7Q", Weakness::TooShort { min: 6 }),
        ("123456", Weakness::Trivial),
        ("notch1", Weakness::Name),
        ("k7Q z2m", Weakness::BadCharacter),
    ] {
        let refused = scene.pins.set(ID, &words(code)).await;
        assert!(matches!(refused, Err(NotSaved::Weak(why)) if why == weakness), "{code}: {refused:?}");
    }
    assert_eq!(scene.hash(), before);
    let nobody = Uuid::from_u128(1);
    assert!(matches!(scene.pins.set(nobody, &words(CODE)).await, Err(NotSaved::NoSession)));
    assert!(matches!(scene.pins.reset(nobody).await, Err(NotSaved::NoSession)));
}

#[tokio::test(start_paused = true)]
async fn three_wrong_codes_end_an_attempt() {
    let scene = Scene::with_pin().await;
    let mut trial = scene.trial(NEXT_DOOR);
    assert!(matches!(trial.attempt(&words("wrong1")).await, Outcome::Wrong { left: 2 }));
    assert!(matches!(trial.attempt(&words("")).await, Outcome::Wrong { left: 1 }));
    assert!(matches!(trial.attempt(&words("wrong3")).await, Outcome::Over));
    assert!(matches!(trial.attempt(&words(CODE)).await, Outcome::Over), "not even the right one");
    assert_eq!(scene.pins.wrong_codes(ID), 3, "what is not compared costs nothing");
    let mut trial = scene.trial(NEXT_DOOR);
    assert!(matches!(trial.attempt(&words("wrong1")).await, Outcome::Wrong { left: 2 }));
    assert!(matches!(trial.attempt(&words(CODE)).await, Outcome::Right(_)));
}

#[tokio::test(start_paused = true)]
async fn a_right_code_gives_back_what_it_was_charged() {
    let scene = Scene::with_pin().await;
    for n in 0..9 {
        assert!(!matches!(scene.attempt(NEXT_DOOR, "wrong1").await, Outcome::Right(_)), "{n}");
    }
    // The tenth would ban, were it wrong.
    for _ in 0..3 {
        assert!(matches!(scene.attempt(NEXT_DOOR, CODE).await, Outcome::Right(_)));
    }
    assert_eq!((scene.hits(NEXT_DOOR), scene.pins.wrong_codes(ID)), (Hits::default(), 9));
    assert!(matches!(scene.attempt(NEXT_DOOR, "wrong1").await, Outcome::Wrong { .. }));
    assert_eq!(scene.hits(NEXT_DOOR), Hits { client: true, pair: true, ..Hits::default() });
    let barred = scene.attempt(NEXT_DOOR, CODE).await;
    let is_told = !matches!(barred, Outcome::Barred(Bar::Banned));
    assert!(!is_told, "whether it is right is told to nobody who is banned: {barred:?}");
    assert_eq!(scene.pins.wrong_codes(ID), 10);
}

#[tokio::test(start_paused = true)]
async fn at_home_only_what_was_tried_there_counts() {
    let scene = Scene::with_pin().await;
    // Somebody else of the household, under another name: the address is banned.
    let other = Username::parse("Other").unwrap().key();
    for _ in 0..10 {
        scene.bans.fail(bans::Failure::NotJoined, ip(HOME), &other, None, None);
    }
    assert!(scene.hits(HOME).client);
    assert!(matches!(scene.attempt(HOME, CODE).await, Outcome::Right(_)));
    // Under this name it is the pair that is banned.
    for _ in 0..10 {
        assert!(matches!(scene.attempt(HOME, "wrong1").await, Outcome::Wrong { .. }));
    }
    assert!(scene.hits(HOME).pair);
    assert!(matches!(scene.attempt(HOME, CODE).await, Outcome::Barred(Bar::Banned)));
    tokio::time::advance(Duration::from_mins(30)).await;
    assert!(matches!(scene.attempt(HOME, CODE).await, Outcome::Right(_)));
}

#[tokio::test(start_paused = true)]
async fn after_20_wrong_codes_in_a_day_the_pin_is_taken_at_home_alone() {
    let scene = Scene::with_pin().await;
    for n in 0..20 {
        // From all over the world.
        assert!(
            matches!(scene.attempt(&format!("198.51.{n}.1"), "wrong1").await, Outcome::Wrong { .. }),
            "{n}"
        );
        tokio::time::advance(Duration::from_mins(30)).await;
    }
    assert_eq!(scene.pins.wrong_codes(ID), 20);
    assert!(matches!(scene.attempt(NEXT_DOOR, CODE).await, Outcome::Barred(Bar::WrongCodes)));
    assert!(matches!(scene.attempt(HOME, CODE).await, Outcome::Right(_)));
    tokio::time::advance(Duration::from_hours(14)).await;
    assert_eq!(scene.pins.wrong_codes(ID), 19, "the first is a day old");
    assert!(matches!(scene.attempt(NEXT_DOOR, CODE).await, Outcome::Right(_)));
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_pin_any_more_no_code_costs_anything() {
    let scene = Scene::with_pin().await;
    let mut trial = scene.trial(NEXT_DOOR);
    assert!(matches!(trial.attempt(&words("wrong1")).await, Outcome::Wrong { left: 2 }));
    assert!(scene.pins.reset(ID).await.unwrap());
    for code in [CODE, "wrong1", "wrong2", "wrong3"] {
        assert!(matches!(trial.attempt(&words(code)).await, Outcome::Gone), "{code}");
    }
    assert_eq!(scene.pins.wrong_codes(ID), 1);
    assert_eq!(scene.pins.set(ID, &words(CODE)).await.unwrap(), Saved::Set);
    assert!(matches!(trial.attempt(&words("wrong1")).await, Outcome::Wrong { left: 1 }));
    assert!(matches!(trial.attempt(&words(CODE)).await, Outcome::Right(_)));
}

#[tokio::test(start_paused = true)]
async fn one_code_of_a_player_at_a_time() {
    let scene = Scene::with_pin().await;
    let claim = scene.pins.shared.claim(ID).unwrap();
    assert!(matches!(scene.attempt(HOME, CODE).await, Outcome::Busy));
    assert!(matches!(scene.attempt(HOME, "wrong1").await, Outcome::Busy));
    assert!(matches!(scene.pins.set(ID, &words("sheep0815")).await, Err(NotSaved::Busy)));
    assert!(matches!(scene.pins.reset(ID).await, Err(NotSaved::Busy)));
    assert_eq!(scene.pins.wrong_codes(ID), 0, "a busy one costs nothing");
    let other = Uuid::from_u128(1);
    scene.remember(other, "Other");
    assert_eq!(scene.pins.set(other, &words(CODE)).await.unwrap(), Saved::Set, "others are not held up");
    drop(claim);
    assert!(scene.is_right(CODE).await);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_has_had_a_try() {
    let scene = Scene::with_pin().await;
    for (code, charged) in [("wrong1", 1), (CODE, 2)] {
        let mut trial = scene.trial(NEXT_DOOR);
        let words = words(code);
        tokio::select! {
            biased;
            outcome = trial.attempt(&words) => panic!("{outcome:?}"),
            // The first poll has brought it to the pool.
            () = std::future::ready(()) => {}
        }
        // The claim goes with the work, so no code was compared beside it.
        scene.is_idle().await;
        assert_eq!(scene.pins.wrong_codes(ID), charged, "{code}");
        let next = trial.attempt(&self::words("wrong2")).await;
        assert!(matches!(next, Outcome::Wrong { left: 1 }), "it was one of three: {next:?}");
        assert_eq!(scene.pins.wrong_codes(ID), charged + 1);
    }
}

#[tokio::test]
async fn a_burst_is_bounded_and_nobody_is_charged_who_was_turned_away() {
    let scene = Scene::new().await;
    let ids: Vec<Uuid> = (1..=150).map(Uuid::from_u128).collect();
    let hash = hash::make(&words(CODE)).unwrap();
    for id in &ids {
        scene.remember(*id, &format!("p{}", id.as_u128()));
        scene.store.update(*id, |session| session.pin_hash = Some(hash.clone()));
    }
    let mut burst = JoinSet::new();
    for (n, id) in ids.iter().enumerate() {
        let mut trial = scene.trial_of(*id, &format!("198.51.{n}.1"));
        burst.spawn(async move { trial.attempt(&words("wrong1")).await });
    }
    let (mut busy, mut wrong) = (0_u32, 0_u32);
    while let Some(outcome) = burst.join_next().await {
        match outcome.unwrap() {
            Outcome::Busy => busy += 1,
            Outcome::Wrong { left: 2 } => wrong += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 50 && wrong >= 32, "{busy} {wrong}");
    let charged: u32 = ids.iter().map(|id| scene.pins.wrong_codes(*id)).sum();
    assert_eq!(charged, wrong);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_leaves_the_old_pin_in_force_and_says_so() {
    let scene = Scene::with_pin().await;
    let old = scene.hash();
    scene.break_disk();
    let error = scene.pins.set(ID, &words("sheep0815")).await.unwrap_err();
    assert!(matches!(&error, NotSaved::Disk(_)) && error.to_string().contains("not saved"), "{error}");
    assert!(!error.to_string().contains("sheep") && !error.to_string().contains("argon2"), "{error}");
    assert_eq!(scene.hash(), old);
    assert!(scene.is_right(CODE).await && !scene.is_right("sheep0815").await);
    assert!(matches!(scene.pins.reset(ID).await, Err(NotSaved::Disk(_))));
    assert!(scene.is_right(CODE).await);

    // Whatever is written later on, it is not what was refused.
    scene.mend_disk();
    scene.store.flush().await.unwrap();
    let scene = scene.restart().await;
    assert_eq!(scene.hash(), old);
    assert_eq!(scene.pins.set(ID, &words("sheep0815")).await.unwrap(), Saved::Replaced);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_makes_no_first_pin() {
    let scene = Scene::new().await;
    scene.store.flush().await.unwrap();
    scene.break_disk();
    assert!(matches!(scene.pins.set(ID, &words(CODE)).await, Err(NotSaved::Disk(_))));
    assert!(!scene.pins.is_set(ID) && !scene.is_right(CODE).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_is_ended_also_for_a_player_who_leaves() {
    let scene = Scene::with_pin().await;
    scene.break_disk();
    let old = scene.hash();
    let pins = scene.pins.clone();
    let setting = tokio::spawn(async move { pins.set(ID, &words("sheep0815")).await.map(drop) });
    // The new hash is in memory: what comes next is the disk.
    let began = std::time::Instant::now();
    while scene.hash() == old && !setting.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(20), "it was never begun");
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
    setting.abort();
    scene.is_idle().await;
    assert_eq!(scene.hash(), old, "it is taken back all the same");
}

/// As an import stores it: SHA-256 of `482913`.
fn imported() -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest("482913");
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("$sha256${}", digits.concat())
}

#[tokio::test(start_paused = true)]
async fn a_hash_of_elsewhere_is_good_once_and_replaced() {
    for is_broken in [false, true] {
        let scene = Scene::new().await;
        scene.store.update(ID, |session| session.pin_hash = Some(imported())).unwrap();
        scene.store.flush().await.unwrap();
        assert!(!scene.is_right("482914").await);
        assert_eq!(scene.hash(), Some(imported()), "a wrong code replaces nothing");
        if is_broken {
            scene.break_disk();
        }
        assert!(scene.is_right("482913").await, "a failing disk keeps nobody out");
        let better = scene.hash().unwrap();
        assert!(better.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{better}");
        assert!(scene.is_right("482913").await && !scene.is_right("482914").await);
        assert_eq!(scene.hash(), Some(better.clone()), "once");
        if is_broken {
            scene.mend_disk();
        }
        let scene = scene.restart().await;
        assert_eq!(scene.hash(), Some(better));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hash_that_cannot_be_read_has_no_right_code_and_is_told_of_once() {
    let scene = Scene::new().await;
    for hash in ["", "482913", "$argon2id$", "$sha256$482913"] {
        scene.store.update(ID, |session| session.pin_hash = Some(hash.to_owned())).unwrap();
        assert!(scene.pins.is_set(ID), "it is asked for all the same");
        for code in ["", "482913", hash] {
            let outcome = scene.trial_of(ID, HOME).attempt(&words(code)).await;
            assert!(matches!(outcome, Outcome::Wrong { left: 2 }), "{hash:?} {code:?} {outcome:?}");
        }
        scene.bans.clear(ID, ip(HOME));
    }
    assert_eq!(scene.pins.set(ID, &words(CODE)).await.unwrap(), Saved::Replaced);
    assert!(scene.is_right(CODE).await);
}

#[tokio::test(start_paused = true)]
async fn a_successor_goes_by_its_own_rules_and_counts_with_the_one_before() {
    let scene = Scene::with_pin().await;
    let config = Config { enabled: false, min_length: 12, timeout: Duration::from_secs(5) };
    let later = scene.pins.successor(config);
    assert!(!later.are_on() && scene.pins.are_on());
    assert_eq!((later.timeout(), scene.pins.timeout()), (Duration::from_secs(5), Duration::from_mins(1)));
    let short = later.set(ID, &words("sheep0815")).await;
    assert!(matches!(short, Err(NotSaved::Weak(Weakness::TooShort { min: 12 }))), "{short:?}");
    assert!(matches!(scene.attempt(ELSEWHERE, "wrong0").await, Outcome::Wrong { .. }));
    assert_eq!((later.wrong_codes(ID), scene.pins.wrong_codes(ID)), (1, 1));
    // One at a time, whichever was asked.
    let claim = scene.pins.shared.claim(ID).unwrap();
    assert!(matches!(later.set(ID, &words("sheep0815sheep")).await, Err(NotSaved::Busy)));
    drop(claim);
    assert_eq!(later.set(ID, &words("sheep0815sheep")).await.unwrap(), Saved::Replaced);
    assert!(scene.is_right("sheep0815sheep").await);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_unproven_is_a_failure() {
    let scene = Scene::with_pin().await;
    for _ in 0..10 {
        scene.trial(NEXT_DOOR).fail(Gate::Dialog);
        scene.trial(HOME).fail(Gate::Dialog);
    }
    assert_eq!(scene.hits(NEXT_DOOR), Hits { client: true, pair: true, ..Hits::default() });
    let at_home = Hits { client: true, ..Hits::default() };
    assert_eq!(scene.hits(HOME), at_home, "coming and going locks nobody out at home");
    let is_marked = || scene.store.by_id(ID).unwrap().unproven_quarantine;
    assert!(!is_marked());
    for _ in 0..20 {
        scene.trial(ELSEWHERE).fail_uncharged(Gate::Dialog);
    }
    assert!(!is_marked());
    for _ in 0..20 {
        scene.trial(ELSEWHERE).fail_uncharged(Gate::Quarantine);
    }
    assert!(is_marked() && scene.hits(ELSEWHERE) == Hits::default(), "nobody is banned for it");
    scene.remember(ID, "Notch");
    scene.trial(NEXT_DOOR).fail(Gate::Quarantine);
    assert!(scene.store.by_id(ID).unwrap().unproven_quarantine);
    scene.remember(ID, "Notch");
    assert!(!scene.store.by_id(ID).unwrap().unproven_quarantine, "a verified login clears it");
}

/// The folder after a crash is one of: old document and any beginning of the new one beside it, or the new document.
#[tokio::test(start_paused = true)]
async fn a_write_cut_at_any_point_leaves_the_old_or_the_new_pin() {
    let scene = Scene::with_pin().await;
    let (old, old_bytes) = (scene.hash(), fs::read(scene.document()).unwrap());
    scene.pins.set(ID, &words("sheep0815")).await.unwrap();
    let (new, new_bytes) = (scene.hash(), fs::read(scene.document()).unwrap());
    let (document, temporary) = (scene.document(), scene.temporary());
    scene.store.close().await.unwrap();
    for length in (0..=new_bytes.len()).step_by(7).chain([new_bytes.len()]) {
        fs::write(&document, &old_bytes).unwrap();
        fs::write(&temporary, &new_bytes[..length]).unwrap();
        let (store, _) = Store::open(
            store_config(scene.folder.path()),
            Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap()),
        )
        .await
        .unwrap();
        assert_eq!(store.by_id(ID).unwrap().pin_hash, old, "cut at {length}");
        store.close().await.unwrap();
    }
    fs::write(&document, &new_bytes).unwrap();
    let scene = scene.restart().await;
    assert_eq!(scene.hash(), new);
    assert!(scene.is_right("sheep0815").await && !scene.is_right(CODE).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_prints_a_code_or_a_hash() {
    let scene = Scene::with_pin().await;
    let mut trial = scene.trial(HOME);
    let right = trial.attempt(&words(CODE)).await;
    let wrong = trial.attempt(&words("sheep0815")).await;
    let weak = scene.pins.set(ID, &words("sheep 0815")).await.unwrap_err();
    scene.break_disk();
    let unsaved = scene.pins.set(ID, &words("sheep0815")).await.unwrap_err();
    let texts = [
        format!("{:?} {:?}", scene.pins, scene.pins.shared),
        format!("{trial:?} {right:?} {wrong:?}"),
        format!("{weak:?} {weak} {unsaved:?} {unsaved}"),
        format!("{:?} {:?} {:?}", Saved::Set, Gate::Dialog, Weakness::Trivial),
        format!("{:?} {:?}", scene.pins.shared.wrong_codes, scene.bans),
        format!("{:?}", scene.store.by_id(ID).unwrap()),
    ];
    let hash = scene.hash().unwrap();
    let output = hash.rsplit('$').next().unwrap();
    // Whose name is random, and may be anything.
    let folder = scene.folder.path().display().to_string();
    for text in texts {
        let text = text.replace(&folder, "");
        for secret in [CODE, "sheep", "4711", "0815", "argon2", output] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        // Nor how long it is.
        assert!(!text.contains("len"), "{text}");
    }
}
