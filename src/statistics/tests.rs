#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{fs, path::Path};

use tokio::time::{advance, sleep};

use super::*;
use crate::task::{self, ShutdownTrigger};

const START: &str = "2026-11-21T20:00:00Z";

/// Counters and their writing task, in a folder.
struct Run {
    statistics: Statistics,
    clock: Clock,
    trigger: ShutdownTrigger,
    task: tokio::task::JoinHandle<()>,
}

impl Run {
    async fn start(path: &Path, now: &str) -> Self {
        let clock = Clock::starting_at(now.parse().unwrap());
        let config = Config { path: Some(path.to_owned()) };
        let statistics = Statistics::open(&config, clock.clone()).await;
        let (trigger, stop) = Shutdown::new();
        let task = task::spawn("statistics", statistics.clone().run(stop));
        Self { statistics, clock, trigger, task }
    }

    async fn stop(self) {
        self.trigger.trigger();
        self.task.await.unwrap();
    }

    async fn go(&self, path: &Path) {
        let config = Config { path: Some(path.to_owned()) };
        self.statistics.adopt(self.statistics.prepare(&config).await.unwrap());
    }

    fn totals(&self) -> Totals {
        self.statistics.totals().unwrap()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn on_disk(path: &Path) -> Totals {
    read_file(path).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn counts_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let run = Run::start(&path, START).await;
    run.statistics.verified();
    run.statistics.verified();
    run.statistics.clone().fallback(None);
    run.statistics.refused(Reason::NoSession);
    run.statistics.refused(Reason::NoSession);
    run.statistics.refused(Reason::ShuttingDown);
    let totals = run.totals();
    run.stop().await;
    assert_eq!((totals.since, totals.verified, totals.fallback), (at(START), 2, 1));
    let refused = BTreeMap::from([("no-session".to_owned(), 2), ("shutting-down".to_owned(), 1)]);
    assert_eq!((&totals.refused, totals.all_refused()), (&refused, 3));
    assert_eq!(on_disk(&path), totals);

    let run = Run::start(&path, "2026-11-22T20:00:00Z").await;
    assert_eq!(run.totals(), totals);
    run.statistics.refused(Reason::NoSession);
    run.stop().await;
    assert_eq!(on_disk(&path).refused["no-session"], 3);
    assert_eq!(on_disk(&path).since, at(START));
}

#[tokio::test(start_paused = true)]
async fn every_reason_has_a_count_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(&folder.path().join("s.json"), START).await;
    for (times, reason) in Reason::ALL.iter().enumerate() {
        for _ in 0..=times {
            run.statistics.refused(*reason);
        }
    }
    let refused = run.totals().refused;
    for (times, reason) in (1_u64..).zip(Reason::ALL) {
        assert_eq!(refused[reason.code()], times, "{reason}");
    }
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn writes_are_few_and_outages_are_written_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let run = Run::start(&path, START).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(on_disk(&path), Totals::since(at(START)), "from when on is counted is written at once");
    fs::remove_file(&path).unwrap();
    sleep(Duration::from_mins(10)).await;
    assert!(!path.exists(), "nothing new, nothing written");
    run.statistics.verified();
    sleep(Duration::from_secs(50)).await;
    run.statistics.verified();
    assert!(!path.exists());
    sleep(Duration::from_secs(15)).await;
    assert_eq!(on_disk(&path).verified, 2);

    let began = run.clock.now();
    run.statistics.outage_began(began);
    sleep(Duration::from_secs(3)).await;
    let open = Outage { seconds: 2, ..Outage::begun(began) };
    assert_eq!(on_disk(&path).outages.newest, std::slice::from_ref(&open));
    sleep(Duration::from_mins(10)).await;
    let seen = on_disk(&path).outages.newest[0].seconds;
    assert!((540..=603).contains(&seen), "how long it lasts is noted every minute: {seen}");
    run.statistics.outage_ended(run.clock.now());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        on_disk(&path).outages.newest,
        [Outage { ended: Some(began + Duration::from_secs(603)), seconds: 603, ..open }]
    );
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_over_restarts_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let run = Run::start(&path, START).await;
    run.statistics.outage_began(at(START));
    advance(Duration::from_mins(5)).await;
    run.stop().await;
    let open = Outage { seconds: 300, ..Outage::begun(at(START)) };
    assert_eq!(on_disk(&path).outages, Outages { count: 1, seconds: 300, newest: vec![open.clone()] });
    assert_eq!(open.last_seen(), at("2026-11-21T20:05:00Z"));

    let run = Run::start(&path, "2026-11-21T20:10:00Z").await;
    run.statistics.outage_began(at(START));
    assert_eq!(run.totals().outages.seconds, 600);
    run.statistics.outage_ended(at("2026-11-21T20:12:00Z"));
    run.stop().await;
    let ended = Outage { ended: Some(at("2026-11-21T20:12:00Z")), seconds: 720, ..open };
    assert_eq!(on_disk(&path).outages, Outages { count: 1, seconds: 720, newest: vec![ended] });
}

#[tokio::test(start_paused = true)]
async fn the_tally_of_an_outage_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let run = Run::start(&path, START).await;
    run.statistics.outage_began(at(START));
    run.statistics.fallback(Some(at(START)));
    run.statistics.kept_out(Reason::PinTimeout);
    run.stop().await;
    let run = Run::start(&path, "2026-11-21T20:10:00Z").await;
    assert_eq!(run.statistics.current_outage(), None, "nobody knows yet");
    run.statistics.kept_out(Reason::PinTimeout);
    run.statistics.outage_began(at(START));
    run.statistics.fallback(Some(at(START)));
    let refused = BTreeMap::from([("pin-timeout".to_owned(), 1)]);
    let outage = Outage { seconds: 600, admitted: 2, refused, ..Outage::begun(at(START)) };
    assert_eq!(run.statistics.current_outage().as_ref(), Some(&outage));
    run.stop().await;
    assert_eq!(on_disk(&path).outages.newest, [outage]);
}

#[tokio::test(start_paused = true)]
async fn a_file_from_before_there_were_tallies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let outage = r#"{"started":"2026-11-21T20:00:00Z","ended":null,"seconds":5}"#;
    let text =
        r#"{"version":1,"since":"2026-11-21T20:00:00Z","verified":1,"fallback":0,"refused":{},"outages":"#;
    fs::write(&path, format!(r#"{text}{{"count":1,"seconds":5,"newest":[{outage}]}}}}"#)).unwrap();
    assert_eq!(on_disk(&path).outages.newest, [Outage { seconds: 5, ..Outage::begun(at(START)) }]);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_set_aside_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let later = serde_json::to_string(&Totals::since(at(START))).unwrap().replacen('{', "{\"version\":2,", 1);
    for (number, content) in ["", "{", "[]", &later].into_iter().enumerate() {
        fs::write(&path, content).unwrap();
        let run = Run::start(&path, START).await;
        run.statistics.verified();
        run.stop().await;
        assert_eq!(on_disk(&path).verified, 1, "{content}");
        let ending = if number == 0 { "damaged".to_owned() } else { format!("damaged.{number}") };
        let aside = folder.path().join(format!("statistics.json.{ending}"));
        assert_eq!(fs::read_to_string(aside).unwrap(), content);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    fs::create_dir(&path).unwrap();
    assert!(matches!(read_file(&path), Err(ReadError::Io(_))));
    let run = Run::start(&path, START).await;
    run.statistics.verified();
    assert_eq!(run.totals().verified, 1);
    run.stop().await;
    assert!(path.is_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn reasons_of_another_version_are_carried_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    let refused = BTreeMap::from([("too-tall".to_owned(), 4), ("locked".to_owned(), 1)]);
    file::write(&path, &Totals { refused: refused.clone(), ..Totals::since(at(START)) }).unwrap();
    let run = Run::start(&path, START).await;
    assert_eq!(run.totals().refused, refused);
    run.statistics.refused(Reason::Locked);
    run.stop().await;
    assert_eq!(
        on_disk(&path).refused,
        BTreeMap::from([("too-tall".to_owned(), 4), ("locked".to_owned(), 2)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_holds_up_nobody_and_is_caught_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    let path = inside.join("statistics.json");
    // No folder, no file: fails like a disk does, also for root.
    let run = Run::start(&path, START).await;
    run.statistics.verified();
    sleep(Duration::from_mins(5)).await;
    run.statistics.verified();
    assert_eq!(run.totals().verified, 2);
    fs::create_dir(&inside).unwrap();
    sleep(Duration::from_mins(2)).await;
    assert_eq!(on_disk(&path).verified, 2);
    fs::remove_dir_all(&inside).unwrap();
    run.statistics.verified();
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_keeps_the_tally_of_outages_and_writes_nothing() {
    let statistics = Statistics::open(&Config { path: None }, Clock::starting_at(at(START))).await;
    statistics.verified();
    assert_eq!((statistics.current_outage(), statistics.outage_ended(at(START))), (None, None));
    statistics.outage_began(at(START));
    statistics.kept_out(Reason::NoSession);
    statistics.kept_out(Reason::BadHandshake);
    statistics.fallback(Some(at(START)));
    statistics.verified();
    sleep(Duration::from_secs(7)).await;
    let refused = BTreeMap::from([("no-session".to_owned(), 1)]);
    let outage = Outage { seconds: 7, admitted: 1, refused, ..Outage::begun(at(START)) };
    assert_eq!(statistics.current_outage().as_ref(), Some(&outage));
    let ended = Some(at("2026-11-21T20:00:07Z"));
    let ended = Outage { ended, ..outage };
    assert_eq!(statistics.outage_ended(ended.ended.unwrap()).as_ref(), Some(&ended));
    assert_eq!((statistics.current_outage(), statistics.outage(at(START))), (None, Some(ended)));
    assert_eq!(statistics.totals(), None);
    let (trigger, stop) = Shutdown::new();
    trigger.trigger();
    statistics.run(stop).await;
}

#[tokio::test(start_paused = true)]
async fn another_file_counts_from_now_on_and_the_one_before_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.json"), folder.path().join("new.json"));
    let earlier = Run::start(&new, START).await;
    for _ in 0..5 {
        earlier.statistics.verified();
    }
    earlier.stop().await;

    let run = Run::start(&old, START).await;
    run.statistics.verified();
    let config = Config { path: Some(new.clone()) };
    drop(run.statistics.prepare(&config).await.unwrap());
    run.statistics.verified();
    run.statistics.outage_began(at("2026-11-21T19:50:00Z"));
    run.statistics.fallback(None);
    let prepared = run.statistics.prepare(&config).await.unwrap();
    run.statistics.adopt(prepared);
    run.statistics.clone().verified();
    assert_eq!((run.totals().verified, run.totals().fallback), (6, 0));
    let outage = run.statistics.current_outage().unwrap();
    assert_eq!((outage.started, outage.admitted), (at("2026-11-21T19:50:00Z"), 1), "it goes on");
    run.statistics.fallback(None);
    assert_eq!(run.statistics.outage_ended(at("2026-11-21T20:10:00Z")).unwrap().admitted, 2);

    let same = run.statistics.prepare(&config).await.unwrap();
    run.statistics.adopt(same);
    assert_eq!(run.totals().verified, 6, "the same file is not read again");
    let off = run.statistics.prepare(&Config { path: None }).await.unwrap();
    run.statistics.adopt(off);
    assert_eq!(run.statistics.totals(), None);
    run.statistics.verified();
    run.stop().await;
    assert_eq!((on_disk(&old).verified, on_disk(&old).fallback), (2, 1));
    assert_eq!((on_disk(&new).verified, on_disk(&new).outages.count), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_only_touched_once_it_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.json"), folder.path().join("new.json"));
    fs::write(&new, "nonsense").unwrap();
    let run = Run::start(&old, START).await;
    let config = |path: &Path| Config { path: Some(path.to_owned()) };
    let lost = folder.path().join("none/statistics.json");
    for (bad, why) in [(lost.as_path(), "no such folder"), (folder.path(), "not a regular file")] {
        let error = run.statistics.prepare(&config(bad)).await.unwrap_err().to_string();
        assert!(error.starts_with("monitoring.statistics-file: ") && error.contains(why), "{error}");
    }
    let prepared = run.statistics.prepare(&config(&new)).await.unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"nonsense");
    run.statistics.adopt(prepared);
    run.statistics.verified();
    run.stop().await;
    assert_eq!(on_disk(&new).verified, 1);
    assert_eq!(fs::read(folder.path().join("new.json.damaged")).unwrap(), b"nonsense");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_the_start_puts_up_with_refuses_no_other_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.json");
    fs::create_dir(&path).unwrap();
    let run = Run::start(&path, START).await;
    let config = Config { path: Some(path.clone()) };
    run.statistics.verified();
    run.go(&path).await;
    assert_eq!(run.totals().verified, 1, "it is of no use yet, and counting goes on");
    // Another one that cannot be used is still refused, and it is the way back that is not.
    let blocked = folder.path().join("blocked");
    fs::create_dir(&blocked).unwrap();
    run.statistics.prepare(&Config { path: Some(blocked) }).await.unwrap_err();
    fs::remove_dir(&path).unwrap();
    run.statistics.adopt(run.statistics.prepare(&config).await.unwrap());
    run.statistics.verified();
    run.stop().await;
    assert_eq!(on_disk(&path).verified, 1, "once it can be used it is, as after a start");
}

#[tokio::test(start_paused = true)]
async fn there_and_back_again_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.json"), folder.path().join("two.json"));
    let run = Run::start(&one, START).await;
    sleep(Duration::from_secs(5)).await;
    let began = run.clock.now();
    run.statistics.outage_began(began);
    run.statistics.fallback(None);
    for _ in 0..5 {
        run.statistics.verified();
    }
    run.go(&two).await;
    run.statistics.verified();
    advance(Duration::from_mins(1)).await;
    run.statistics.fallback(None);
    run.go(&one).await;
    assert_eq!((run.totals().verified, run.totals().fallback), (5, 1));
    assert_eq!(run.statistics.current_outage().unwrap().admitted, 2, "the outage went on meanwhile");
    run.statistics.verified();
    // What the other one counted is written without another change.
    sleep(Duration::from_secs(5)).await;
    assert_eq!((on_disk(&two).verified, on_disk(&two).fallback), (1, 1));

    run.statistics.adopt(run.statistics.prepare(&Config { path: None }).await.unwrap());
    run.statistics.outage_ended(began + Duration::from_secs(90));
    run.go(&one).await;
    assert_eq!((run.totals().verified, run.statistics.current_outage()), (6, None));
    run.stop().await;
    let written = on_disk(&one);
    assert_eq!((written.verified, written.fallback, written.outages.count), (6, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.json"), folder.path().join("two.json"));
    let run = Run::start(&one, START).await;
    run.statistics.verified();
    run.go(&two).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(on_disk(&one).verified, 1);
    file::write(&one, &Totals { verified: 9, ..Totals::since(at(START)) }).unwrap();
    run.go(&one).await;
    assert_eq!(run.totals().verified, 9);
    run.stop().await;
}
