use std::{
    collections::VecDeque,
    fs,
    net::IpAddr,
    sync::mpsc::{self, Receiver, Sender},
};

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::audit::Kind;

/// Longest wait for something that is bound to happen; only a failing test waits so long.
const FAILSAFE: Duration = Duration::from_secs(20);

/// What the disk does with one write. Writes beyond the script are taken whole.
enum Step {
    Fail,
    /// Takes that many bytes at most.
    Take(usize),
    /// Takes all once told to.
    Stall(Receiver<()>),
}

#[derive(Debug, PartialEq)]
enum Seen {
    Failed,
    Stalled,
    Wrote(String),
}

/// A disk that follows a script and shows what it did.
struct Disk {
    script: VecDeque<Step>,
    /// What it does when the script is over.
    broken: bool,
    seen: Sender<Seen>,
}

impl Disk {
    fn new(script: impl Into<VecDeque<Step>>) -> (Self, Receiver<Seen>) {
        let (seen, watch) = mpsc::channel();
        (Self { script: script.into(), broken: false, seen }, watch)
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = self.script.pop_front();
        let taken = match step {
            None if self.broken => 0,
            None => bytes.len(),
            Some(Step::Fail) => {
                self.seen.send(Seen::Failed).unwrap();
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(Step::Take(most)) => bytes.len().min(most),
            Some(Step::Stall(go)) => {
                self.seen.send(Seen::Stalled).unwrap();
                go.recv().unwrap();
                bytes.len()
            }
        };
        let text = String::from_utf8(bytes[..taken].to_vec()).unwrap();
        self.seen.send(if taken == 0 { Seen::Failed } else { Seen::Wrote(text) }).unwrap();
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn login(conn: u32) -> Event {
    Event::new(Kind::LoginVerified, at(0)).conn(conn)
}

/// So unlike each other that none is coalesced: a few of each client.
fn refusal(n: u32) -> Event {
    let client = IpAddr::from((n % 1024).to_be_bytes());
    Event::new(Kind::LoginRefused, at(0)).address(client).reason("no-session")
}

fn line(event: &Event) -> String {
    let mut line = Vec::new();
    event.write_line(&mut line);
    String::from_utf8(line).unwrap()
}

/// Everything written, once the log has ended.
fn written(watch: &Receiver<Seen>) -> String {
    let seen = watch.iter();
    seen.map(|seen| if let Seen::Wrote(text) = seen { text } else { String::new() }).collect()
}

#[tokio::test]
async fn events_are_lines_in_order() {
    let (disk, watch) = Disk::new([]);
    let audit = Audit::to_writer(disk);
    (0..1000).for_each(|conn| audit.emit(login(conn)));
    audit.close().await;
    let expected: String = (0..1000).map(|conn| line(&login(conn))).collect();
    let writes: Vec<Seen> = watch.iter().collect();
    for write in &writes {
        let Seen::Wrote(text) = write else { panic!("{write:?}") };
        assert!(text.ends_with('\n'), "a write holds whole lines");
    }
    let text: String =
        writes.into_iter().map(|w| if let Seen::Wrote(text) = w { text } else { String::new() }).collect();
    assert_eq!(text, expected);
}

#[test]
fn a_disk_that_works_again_gets_every_line() {
    let (disk, watch) = Disk::new([Step::Take(10), Step::Fail, Step::Fail]);
    let audit = Audit::to_writer(disk);
    let expected = line(&login(1));
    audit.emit(login(1));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Wrote(expected[..10].to_owned())));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Failed));
    audit.emit(login(2));
    audit.reopen();
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Failed));
    audit.reopen();
    assert_eq!(
        watch.recv_timeout(FAILSAFE),
        Ok(Seen::Wrote(expected[10..].to_owned())),
        "goes on where it stopped"
    );
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Wrote(line(&login(2)))));
}

#[test]
fn a_disk_that_works_again_is_found_out_without_being_told() {
    let (disk, watch) = Disk::new([Step::Fail]);
    let audit = Audit::to_writer(disk);
    audit.emit(login(1));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Failed));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Wrote(line(&login(1)))));
}

#[tokio::test]
async fn closing_tries_again_at_once() {
    let (disk, watch) = Disk::new([Step::Fail, Step::Fail, Step::Fail]);
    let audit = Audit::to_writer(disk);
    audit.emit(login(1));
    audit.close().await;
    assert_eq!(written(&watch), line(&login(1)));
}

#[tokio::test]
async fn closing_gives_up_on_a_broken_disk() {
    let (mut disk, watch) = Disk::new([]);
    disk.broken = true;
    let audit = Audit::to_writer(disk);
    audit.emit(login(1));
    audit.close().await;
    let tries = watch.iter().count();
    assert!((2..=CLOSING_TRIES as usize + 2).contains(&tries), "{tries}");
    audit.emit(login(2));
}

#[tokio::test]
async fn a_stalled_disk_holds_nobody_up_and_what_was_dropped_is_told() {
    let (go, stall) = mpsc::channel();
    let (disk, watch) = Disk::new([Step::Stall(stall)]);
    let audit = Audit::to_writer(disk);
    audit.emit(login(0));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Stalled));
    (0..5000).for_each(|n| audit.emit(refusal(n)));
    audit.emit(login(1));
    go.send(()).unwrap();
    audit.close().await;

    let text = written(&watch);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((count("login.verified"), count("login.refused"), count("audit.dropped")), (2, 4095, 1));
    let last = lines.last().unwrap();
    assert_eq!((&last["refusals"], &last["others"]), (&905.into(), &0.into()));
    assert!(last["ts"].is_string());
}

#[tokio::test]
async fn a_flood_of_like_refusals_is_counted_and_told_at_the_end() {
    let (disk, watch) = Disk::new([]);
    let audit = Audit::to_writer(disk);
    (0..10_000).for_each(|_| audit.emit(refusal(1)));
    audit.close().await;
    let text = written(&watch);
    assert_eq!(text.lines().count(), 11);
    assert_eq!(text.lines().last().unwrap(), line(&refusal(1).counted(9990)).trim_end());
}

#[test]
fn a_flood_that_has_ended_is_told_without_another_event() {
    let shared = Shared::default();
    (0..30).for_each(|_| shared.lock().queue.push(refusal(1)));
    let work = shared.work(FAILSAFE);
    assert_eq!(work.events, vec![refusal(1); 10]);
    let work = shared.work(Duration::ZERO);
    assert_eq!(work.events, [refusal(1).counted(20)]);
    assert!(!shared.lock().queue.is_counting());
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_run_ahead_of_the_writer() {
    let (disk, watch) = Disk::new([Step::Fail, Step::Fail]);
    let audit = Audit::to_writer(disk);
    audit.emit(login(1));
    tokio::time::timeout(Duration::from_secs(3), audit.close()).await.unwrap();
    assert_eq!(written(&watch), line(&login(1)));
}

#[test]
fn the_last_handle_takes_the_thread_along() {
    let (disk, watch) = Disk::new([]);
    let audit = Audit::to_writer(disk);
    let clone = audit.clone();
    drop(audit);
    clone.emit(login(1));
    drop(clone);
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Wrote(line(&login(1)))));
    assert_eq!(watch.recv_timeout(FAILSAFE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[tokio::test]
async fn closing_twice_is_no_more_than_once() {
    let (disk, _watch) = Disk::new([]);
    let audit = Audit::to_writer(disk);
    audit.close().await;
    audit.close().await;
}

#[tokio::test]
async fn a_file_is_reopened_after_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = folder.path().join("audit.log.1");
    let audit =
        Audit::open(&Config { path: Some(path.clone()), max_size: 0, keep: 0, compress: false }).unwrap();
    fs::rename(&path, &rotated).unwrap();
    audit.reopen();
    audit.emit(login(1));
    audit.close().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), line(&login(1)));
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "");
}

#[tokio::test]
async fn without_a_file_lines_can_still_be_looked_at() {
    let audit = Audit::open(&Config { path: None, max_size: 0, keep: 0, compress: false }).unwrap();
    audit.emit(login(1));
    audit.reopen();
    audit.close().await;
    assert_eq!(audit.figures(), Figures::default());
    assert_eq!(&*audit.recent()[0], line(&login(1)).trim_end());
    assert_eq!(format!("{:?} {:?}", audit, Audit::off()), "Audit(on) Audit(off)");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("audit.log");
    let error =
        Audit::open(&Config { path: Some(path.clone()), max_size: 0, keep: 0, compress: false }).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn whole_lines_end_with_a_line_feed() {
    for (text, length) in [("", 0), ("ab", 0), ("ab\n", 3), ("ab\nc", 3), ("ab\ncd\n", 6)] {
        assert_eq!(whole_lines(text.as_bytes()), length, "{text:?}");
    }
}

fn config(path: &std::path::Path, max_size: u64) -> Config {
    Config { path: Some(path.to_owned()), max_size, keep: 3, compress: false }
}

#[tokio::test]
async fn another_file_is_taken_over_with_what_comes_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.log"), folder.path().join("new.log"));
    let audit = Audit::open(&config(&old, 0)).unwrap();
    let lines = |range: std::ops::Range<u32>| range.map(|conn| line(&login(conn))).collect::<String>();
    (0..500).for_each(|conn| audit.emit(login(conn)));
    let prepared = audit.prepare(&config(&new, 0)).await.unwrap();
    assert_eq!(fs::read_to_string(&new).unwrap(), "", "opened, and nothing more");
    (500..1000).for_each(|conn| audit.emit(login(conn)));
    audit.adopt(prepared);
    (1000..1500).for_each(|conn| audit.emit(login(conn)));
    // Nowhere, and back.
    let off = audit.prepare(&Config { path: None, ..config(&new, 0) }).await.unwrap();
    audit.adopt(off);
    (1500..1600).for_each(|conn| audit.emit(login(conn)));
    while audit.figures().queued > 0 {
        tokio::task::yield_now().await;
    }
    let back = audit.prepare(&config(&old, 0)).await.unwrap();
    audit.adopt(back);
    (1600..1700).for_each(|conn| audit.emit(login(conn)));
    audit.close().await;
    assert_eq!(fs::read_to_string(&new).unwrap().len(), lines(1000..1500).len());
    assert_eq!(fs::read_to_string(&new).unwrap(), lines(1000..1500));
    assert_eq!(fs::read_to_string(&old).unwrap(), lines(0..1000) + &lines(1600..1700));
    assert_eq!(audit.figures().written, 1600);
}

#[tokio::test]
async fn what_is_prepared_and_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, missing) =
        (folder.path().join("old.log"), folder.path().join("new.log"), folder.path().join("no/new.log"));
    let audit = Audit::open(&config(&old, 0)).unwrap();
    drop(audit.prepare(&config(&new, 0)).await.unwrap());
    assert!(!new.exists());
    fs::write(&new, "there before\n").unwrap();
    drop(audit.prepare(&config(&new, 0)).await.unwrap());
    assert_eq!(fs::read_to_string(&new).unwrap(), "there before\n");
    let error = audit.prepare(&config(&missing, 0)).await.unwrap_err();
    assert!(error.to_string().contains("no/new.log"), "{error}");
    audit.emit(login(1));
    audit.close().await;
    assert_eq!(fs::read_to_string(&old).unwrap(), line(&login(1)));
}

#[tokio::test]
async fn other_rules_of_rotation_count_from_the_next_line_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = Audit::open(&config(&path, 0)).unwrap();
    (0..50).for_each(|conn| audit.emit(login(conn)));
    audit.adopt(audit.prepare(&config(&path, 1000)).await.unwrap());
    (50..100).for_each(|conn| audit.emit(login(conn)));
    audit.close().await;
    let figures = audit.figures();
    let expected =
        Figures { queued: 0, written: 100, dropped: 0, failing: false, rotations: figures.rotations };
    assert_eq!(figures, expected);
    assert!(figures.rotations >= 4, "{figures:?}");
    assert!(fs::metadata(&path).unwrap().len() <= 1000);
    assert!(path.with_file_name("audit.log.3").exists() && !path.with_file_name("audit.log.4").exists());
}

#[tokio::test]
async fn lines_that_a_full_disk_does_not_take_go_where_another_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (mut disk, watch) = Disk::new([Step::Take(7)]);
    disk.broken = true;
    let audit = Audit::to_writer(disk);
    audit.emit(login(1));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Wrote(line(&login(1))[..7].to_owned())));
    assert_eq!(watch.recv_timeout(FAILSAFE), Ok(Seen::Failed));
    audit.emit(login(2));
    while !audit.figures().failing {
        tokio::task::yield_now().await;
    }
    assert_eq!(audit.recent().len(), 0, "only what is written is shown");
    audit.adopt(audit.prepare(&config(&path, 0)).await.unwrap());
    audit.close().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), line(&login(1)) + &line(&login(2)));
    assert!(!audit.figures().failing);
}

#[tokio::test]
async fn lines_are_shown_as_they_are_written() {
    let (disk, _watch) = Disk::new([]);
    let audit = Audit::to_writer(disk);
    let mut lines = audit.subscribe();
    (0..20).for_each(|_| audit.emit(refusal(1)));
    audit.emit(login(1));
    for _ in 0..10 {
        assert_eq!(&*lines.recv().await.unwrap(), line(&refusal(1)).trim_end());
    }
    assert_eq!(&*lines.recv().await.unwrap(), line(&login(1)).trim_end(), "those that are alike are counted");
    let (recent, mut coming) = audit.recent_and_coming();
    assert_eq!(recent.len(), 11);
    audit.close().await;
    assert_eq!(&*coming.recv().await.unwrap(), line(&refusal(1).counted(10)).trim_end());
    drop(audit);
    assert_eq!(coming.recv().await, Err(broadcast::error::RecvError::Closed));
    assert_eq!(Audit::off().subscribe().recv().await, Err(broadcast::error::RecvError::Closed));
    assert_eq!(Audit::off().recent(), []);
}
