use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;

/// A folder with a log.
struct Place {
    folder: TempDir,
    log: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        Self { folder, log }
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("audit.log{ending}"))
    }

    /// Adds to the log, and makes it if need be.
    fn add(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Rotates, as the proxy does.
    fn rotate(&self) {
        for number in (1..10).rev() {
            for ending in ["", ".gz"] {
                let _ = fs::rename(
                    self.path(&format!(".{number}{ending}")),
                    self.path(&format!(".{}{ending}", number + 1)),
                );
            }
        }
        fs::rename(&self.log, self.path(".1")).unwrap();
        self.add("");
    }

    /// Compresses a rotated file.
    fn compress(&self, number: u32) {
        let plain = self.path(&format!(".{number}"));
        fs::write(self.path(&format!(".{number}.gz")), gzip(&fs::read(&plain).unwrap())).unwrap();
        fs::remove_file(plain).unwrap();
    }

    fn follow(&self) -> Stream {
        Stream::of_log(&self.log, None).unwrap().followed(&self.log)
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

/// The lines that there are now.
fn lines(stream: &mut Stream) -> Vec<String> {
    let mut lines = Vec::new();
    while stream.advance() {
        lines.push(String::from_utf8(stream.line().to_vec()).unwrap());
    }
    lines
}

fn all(place: &Place) -> Vec<String> {
    lines(&mut Stream::of_log(&place.log, None).unwrap())
}

#[test]
fn the_oldest_file_comes_first_whatever_is_compressed_or_missing() {
    let place = Place::new();
    place.add("g\nh\n");
    fs::write(place.path(".1"), "f\n").unwrap();
    fs::write(place.path(".2.gz"), gzip(b"d\ne\n")).unwrap();
    // As `cat` joins them.
    fs::write(place.path(".10.gz"), [gzip(b"b\n"), gzip(b"c\n")].concat()).unwrap();
    fs::write(place.path(".11"), "a\n").unwrap();
    fs::write(place.path(".next"), "no\n").unwrap();
    fs::write(place.path(".gz.tmp"), "no\n").unwrap();
    assert_eq!(all(&place), ["a", "b", "c", "d", "e", "f", "g", "h"]);
    fs::remove_file(&place.log).unwrap();
    assert_eq!(all(&place), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(lines(&mut Stream::of_newest(&place.log).unwrap()), ["d", "e", "f"]);
}

#[test]
fn what_was_compressed_and_not_removed_yet_is_read_once() {
    let place = Place::new();
    fs::write(place.path(".1"), "a\nb\n").unwrap();
    fs::write(place.path(".1.gz"), gzip(b"a\nb\n")).unwrap();
    assert_eq!(all(&place), ["a", "b"]);
    // Two files of one number that are not the same.
    fs::write(place.path(".1"), "c\nd\n").unwrap();
    let mut both = all(&place);
    both.sort();
    assert_eq!(both, ["a", "b", "c", "d"]);
}

#[test]
fn there_may_be_nothing() {
    let place = Place::new();
    assert!(Stream::of_log(&place.log, None).unwrap().is_empty());
    assert!(Stream::of_log(&place.folder.path().join("no/such/log"), None).unwrap().is_empty());
    place.add("");
    assert!(!Stream::of_log(&place.log, None).unwrap().is_empty());
    assert_eq!(all(&place), [""; 0]);
    let error = Stream::of_files(&[place.path(".7")]).err().unwrap().to_string();
    assert!(error.contains("audit.log.7"), "{error}");
    let error = Stream::of_files(&[place.folder.path().to_owned()]).err().unwrap().to_string();
    assert!(error.contains("it is a folder"), "{error}");
}

#[test]
fn a_line_that_was_torn_or_is_too_long_costs_no_other() {
    let place = Place::new();
    fs::write(place.path(".1"), "a\nto").unwrap();
    place.add(&format!("b\n{}\n\nc\n{}\nd\nhal", "x".repeat(LONGEST_LINE + 1), "y".repeat(LONGEST_LINE)));
    let mut stream = Stream::of_log(&place.log, None).unwrap();
    let read = lines(&mut stream);
    let short: Vec<&str> = read.iter().map(|line| &line[..line.len().min(5)]).collect();
    assert_eq!(short, ["a", "to", "b", "", "c", "yyyyy", "d", "hal"]);
    assert_eq!(stream.too_long(), 1);
}

#[test]
fn a_damaged_file_costs_its_rest_only() {
    let place = Place::new();
    let mut text = String::new();
    for n in 0..20_000 {
        writeln!(text, "{n}").unwrap();
    }
    let whole = gzip(text.as_bytes());
    fs::write(place.path(".2.gz"), &whole[..whole.len() / 2]).unwrap();
    fs::write(place.path(".1.gz"), b"\x1f\x8bno gzip at all").unwrap();
    place.add("last\n");
    let mut stream = Stream::of_log(&place.log, None).unwrap();
    let read = lines(&mut stream);
    assert!(read.len() > 1000 && read[999] == "999", "{}", read.len());
    assert_eq!(read.last().unwrap(), "last");
    let troubles = stream.troubles();
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    assert!(troubles[0].contains("audit.log.2.gz is damaged"), "{troubles:?}");
}

#[test]
fn files_that_are_named_are_read_in_the_order_of_their_lines() {
    let place = Place::new();
    let line = |day: u32| format!("{{\"ts\":\"2026-11-{day:02}T00:00:00Z\"}}\n");
    fs::write(place.path(".2.gz"), gzip(line(1).as_bytes())).unwrap();
    fs::write(place.path(".1"), line(2)).unwrap();
    place.add(&line(3));
    fs::write(place.path(".odd"), "no event\n").unwrap();
    let mut stream = Stream::of_files(&["", ".odd", ".1", ".2.gz"].map(|ending| place.path(ending))).unwrap();
    let expected = [line(1), line(2), line(3), "no event\n".to_owned()];
    assert_eq!(lines(&mut stream), expected.map(|line| line.trim_end().to_owned()));
}

#[test]
fn files_that_are_older_than_what_is_asked_for_are_not_read() {
    let place = Place::new();
    let since: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    for (ending, seconds) in [(".3", -400), (".2", -200), (".1", 0)] {
        fs::write(place.path(ending), format!("{ending}\n")).unwrap();
        let file = OpenOptions::new().write(true).open(place.path(ending)).unwrap();
        let modified = since.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        file.set_modified(modified.into()).unwrap();
    }
    place.add("log\n");
    let mut stream = Stream::of_log(&place.log, Some(since)).unwrap();
    assert_eq!(lines(&mut stream), [".2", ".1", "log"], "clocks are a little off");
}

#[test]
fn what_is_added_comes_later_and_whole() {
    let place = Place::new();
    place.add("a\nb");
    let mut stream = place.follow();
    assert_eq!(lines(&mut stream), ["a"]);
    place.add("b");
    assert_eq!(lines(&mut stream), [""; 0]);
    place.add("b\nc\n");
    assert_eq!(lines(&mut stream), ["bbb", "c"]);
}

#[test]
fn a_log_is_followed_across_rotations() {
    let place = Place::new();
    place.add("a\n");
    let mut stream = place.follow();
    assert_eq!(lines(&mut stream), ["a"]);
    place.add("b\n");
    place.rotate();
    assert_eq!(lines(&mut stream), ["b"], "written before the rotation");
    place.add("c\n");
    assert_eq!(lines(&mut stream), ["c"]);
    // Several between two looks, and all but the newest are compressed already.
    for text in ["d\n", "e\n", "f\n"] {
        place.add(text);
        place.rotate();
    }
    place.compress(3);
    place.compress(2);
    place.add("g\n");
    assert_eq!(lines(&mut stream), ["d", "e", "f", "g"]);
    place.rotate();
    place.compress(1);
    assert_eq!(lines(&mut stream), [""; 0]);
    place.add("h\n");
    assert_eq!(lines(&mut stream), ["h"]);
}

#[test]
fn a_log_that_is_cut_goes_away_or_is_not_there_yet_is_followed() {
    let place = Place::new();
    let mut stream = place.follow();
    assert!(stream.is_empty());
    assert_eq!(lines(&mut stream), [""; 0]);
    place.add("a\nb\n");
    assert_eq!(lines(&mut stream), ["a", "b"]);
    // As `copytruncate` of logrotate does.
    fs::write(&place.log, "c\n").unwrap();
    assert_eq!(lines(&mut stream), ["c"]);
    fs::remove_file(&place.log).unwrap();
    assert_eq!(lines(&mut stream), [""; 0]);
    place.add("d\n");
    assert_eq!(lines(&mut stream), ["d"]);
    // Its new name is no number: it is another one's.
    fs::rename(&place.log, place.path("-20261122")).unwrap();
    assert_eq!(lines(&mut stream), [""; 0]);
    place.add("e\n");
    assert_eq!(lines(&mut stream), ["e"]);
}

/// Reads again and again what is written, rotated and compressed as fast as it goes: each time, all lines that there
/// were at the beginning, in order, none twice.
#[test]
fn whoever_reads_during_rotations_misses_nothing_and_sees_nothing_twice() {
    use crate::audit::{Audit, Config, Event, Kind};

    let place = Place::new();
    let config = Config { path: Some(place.log.clone()), max_size: 4000, keep: 1000, compress: true };
    let audit = Audit::open(&config).unwrap();
    let numbers = |stream: &mut Stream, seen: &mut Vec<u64>| {
        while stream.advance() {
            let line: serde_json::Value = serde_json::from_slice(stream.line()).unwrap();
            seen.push(line["conn"].as_str().unwrap().parse().unwrap());
        }
        assert_eq!(stream.troubles(), Vec::<String>::new());
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..6000 {
                while audit.figures().queued > 1000 {
                    thread::yield_now();
                }
                audit.emit(Event::new(Kind::ProxyStarted, Timestamp::UNIX_EPOCH).conn(number));
            }
            while audit.figures().written < 6000 {
                thread::yield_now();
            }
            done.store(true, Relaxed);
        });
        let mut followed = place.follow();
        let mut seen = Vec::new();
        loop {
            let last = done.load(Relaxed);
            let written = audit.figures().written;
            let mut now = Vec::new();
            numbers(&mut Stream::of_log(&place.log, None).unwrap(), &mut now);
            assert!(now.len() as u64 >= written, "{} of {written}", now.len());
            assert!(now.iter().copied().eq(0..now.len() as u64), "{now:?}");
            numbers(&mut followed, &mut seen);
            assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
            if last {
                break;
            }
        }
        assert_eq!(seen.len(), 6000);
    });
    assert!(audit.figures().rotations > 50);
}
