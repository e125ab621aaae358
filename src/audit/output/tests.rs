use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::*;
use crate::audit::{files::Step, read::Stream};

fn open(path: &Path) -> Result<Output, OpenError> {
    Output::open(path, Turning::default(), Files::default())
}

#[test]
fn lines_are_appended_after_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    for (before, after) in [("", "new\n"), ("old\n", "old\nnew\n"), ("old\nto", "old\nto\nnew\n")] {
        fs::write(&path, before).unwrap();
        let mut output = open(&path).unwrap();
        assert_eq!(output.write(b"new\n").unwrap(), 4);
        output.sync().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(open(&path).unwrap());
    assert_eq!(mode(), 0o600, "a new one");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(mode(), 0o600, "an older one");
}

#[test]
fn a_rotated_file_is_left_alone_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = folder.path().join("audit.log.1");
    let mut output = open(&path).unwrap();
    output.write(b"one\n").unwrap();
    fs::rename(&path, &rotated).unwrap();
    output.write(b"two\n").unwrap();
    output.reopen().unwrap();
    output.write(b"three\n").unwrap();
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = folder.path().join("audit.log.1");
    let mut output = open(&path).unwrap();
    fs::rename(&path, &rotated).unwrap();
    fs::create_dir(&path).unwrap();
    let error = output.reopen().unwrap_err();
    assert!(error.to_string().contains("audit.log"), "{error}");
    output.write(b"one\n").unwrap();
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\n");
}

/// A turning by size alone.
fn turning(max_size: u64, keep: u32) -> Turning {
    Turning { max_size, keep, compress: false }
}

/// A line that shows its place, of 10 bytes.
fn numbered(n: usize) -> String {
    format!("{{\"n\":{n:03}}}\n")
}

/// Writes one line as the writer does; on an error, not wholly.
fn write(output: &mut Output, line: &str) -> io::Result<Rotation> {
    let rotation = output.rotate(line.len());
    assert_eq!(output.write(line.as_bytes())?, line.len());
    Ok(rotation)
}

/// As [`write`], where all is well.
fn put(output: &mut Output, line: &str) {
    write(output, line).unwrap();
}

/// Compresses what there is, on this thread.
fn press_here(output: &Output) {
    let Output::File(Log { shelf: Some(shelf), .. }) = output else { panic!("no file") };
    assert!(shelf.compress(true));
    press::run(shelf);
    shelf.compress(false);
}

/// Every line that lies there, in the order in which they are read.
fn read(path: &Path) -> Vec<String> {
    let mut stream = Stream::of_log(path, None).unwrap();
    let mut lines = Vec::new();
    while stream.advance() {
        lines.push(String::from_utf8(stream.line().to_vec()).unwrap() + "\n");
    }
    assert_eq!(stream.troubles(), Vec::<String>::new());
    lines
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn files_are_rotated_at_every_boundary_between_whole_lines() {
    for max_size in 1..=45 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut output = Output::open(&path, turning(max_size, 100), Files::default()).unwrap();
        let lines: Vec<String> = (0..20).map(numbered).collect();
        for line in &lines {
            assert_ne!(write(&mut output, line).unwrap(), Rotation::Failed);
        }
        assert_eq!(read(&path), lines, "{max_size}");
        for name in names(folder.path()) {
            let text = fs::read_to_string(folder.path().join(&name)).unwrap();
            assert!(
                text.ends_with('\n') && text.len() as u64 <= max_size.max(10),
                "{max_size} {name}: {text}"
            );
            let full = name == "audit.log" || text.len() as u64 + 10 > max_size;
            assert!(full, "{max_size} {name} was rotated too early: {text}");
        }
    }
}

#[test]
fn what_is_full_when_it_is_opened_is_rotated_before_the_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    fs::write(&path, numbered(0).repeat(5)).unwrap();
    let mut output = Output::open(&path, turning(30, 3), Files::default()).unwrap();
    assert_eq!(write(&mut output, &numbered(1)).unwrap(), Rotation::Done);
    assert_eq!(fs::read_to_string(&path).unwrap(), numbered(1));
    assert_eq!(names(folder.path()), ["audit.log", "audit.log.1"]);
}

/// How a file system fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// At that step the program is killed.
    Killed,
    /// That step alone fails.
    Once,
}

/// Writes lines, rotates and compresses until all are written, or nothing can be any more. Returns how many are
/// written, and whether the fault was met.
fn live(path: &Path, fault: Fault, at: usize, keep: u32, lines: &[String]) -> (usize, bool) {
    let met = Arc::new(AtomicUsize::new(0));
    let steps = Arc::clone(&met);
    let files = Files::failing(move |_, _| {
        let step = steps.fetch_add(1, Relaxed);
        let fails = match fault {
            Fault::Killed => step >= at,
            Fault::Once => step == at,
        };
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    let mut written = 0;
    'open: for _ in 0..2 {
        let Ok(mut output) = Output::open(path, turning(30, keep), files.clone()) else { continue };
        while let Some(line) = lines.get(written) {
            match (write(&mut output, line), fault) {
                (Ok(Rotation::Done), _) => press_here(&output),
                (Ok(_), _) | (Err(_), Fault::Once) => {}
                (Err(_), Fault::Killed) => break 'open,
            }
            // The line after a step that failed is the same one again.
            written = read(path).iter().rposition(|known| known == line).map_or(written, |_| written + 1);
        }
        break;
    }
    (written, met.load(Relaxed) > at)
}

#[test]
fn whatever_step_is_the_last_every_line_is_there_once() {
    let lines: Vec<String> = (0..16).map(numbered).collect();
    for fault in [Fault::Killed, Fault::Once] {
        let mut met_all = false;
        for at in 0..1000 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.log");
            let (written, met) = live(&path, fault, at, 100, &lines[..10]);
            assert_eq!(read(&path), lines[..written], "{fault:?} at {at}");
            if matches!(fault, Fault::Once) {
                assert_eq!(written, 10, "at {at}");
            }
            // The next program finds what the last one left.
            let mut output = Output::open(&path, turning(30, 100), Files::default()).unwrap();
            output.begin();
            press_here(&output);
            assert_eq!(read(&path), lines[..written], "{fault:?} at {at}, begun anew");
            for line in &lines[written..] {
                put(&mut output, line);
            }
            press_here(&output);
            assert_eq!(read(&path), lines, "{fault:?} at {at}, at the end");
            for name in names(folder.path()) {
                let whole =
                    name == "audit.log" || Path::new(&name).extension().is_some_and(|last| last == "gz");
                assert!(whole, "{fault:?} at {at}: {name} is left");
            }
            if !met {
                met_all = at > 40;
                break;
            }
        }
        assert!(met_all, "{fault:?}: there are more steps, or fewer");
    }
}

#[test]
fn whatever_step_is_the_last_the_newest_lines_are_kept() {
    let lines: Vec<String> = (0..24).map(numbered).collect();
    for at in 0..1000 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (written, met) = live(&path, Fault::Killed, at, 2, &lines);
        let kept = read(&path);
        assert!(lines[..written].ends_with(&kept), "{at}: {kept:?}");
        // At the worst, the oldest has gone and the log has not been rotated.
        assert!(kept.len() >= written.min(6), "{at}: {kept:?} of {written}");
        assert!(kept.len() <= 9, "{at}: {kept:?}");
        if !met {
            assert_eq!(names(folder.path()), ["audit.log", "audit.log.1.gz", "audit.log.2.gz"]);
            return;
        }
    }
    panic!("there are more steps");
}

#[test]
fn files_of_other_names_and_kinds_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let foreign = [
        "audit.log.0",
        "audit.log.01",
        "audit.log.1001",
        "audit.log.20261122",
        "audit.log-20261122",
        "audit.log.2.xz",
        "audit.log.2.gz.bak",
        "audit.log.old",
        "audit.log.",
        "audit.log..gz",
        "audit.log.gz",
        "audit.log.+1",
        "bans.json",
        "xaudit.log.1",
    ];
    for name in foreign {
        fs::write(folder.path().join(name), name).unwrap();
    }
    fs::create_dir(folder.path().join("audit.log.1")).unwrap();
    fs::create_dir(folder.path().join("audit.log.3.gz")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("bans.json", folder.path().join("audit.log.4")).unwrap();
    let mut output = Output::open(&path, turning(10, 2), Files::default()).unwrap();
    output.begin();
    let lines: Vec<String> = (0..10).map(numbered).collect();
    for line in &lines {
        assert_ne!(write(&mut output, line).unwrap(), Rotation::Failed);
        press_here(&output);
    }
    for name in foreign {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), name);
    }
    assert!(folder.path().join("audit.log.1").is_dir() && folder.path().join("audit.log.3.gz").is_dir());
    #[cfg(unix)]
    assert!(folder.path().join("audit.log.4").is_symlink());
    assert_eq!(read(&path), lines[7..]);
}

#[test]
fn fewer_to_keep_removes_the_oldest_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut output = Output::open(&path, turning(10, 8), Files::default()).unwrap();
    let lines: Vec<String> = (0..9).map(numbered).collect();
    for line in &lines {
        put(&mut output, line);
    }
    press_here(&output);
    assert_eq!(read(&path), lines);
    output.turn(turning(10, 9));
    assert_eq!(read(&path), lines, "more to keep removes nothing");
    output.turn(turning(10, 3));
    assert_eq!(read(&path), lines[5..]);
    // Whoever leaves rotation to others has these files looked after by others.
    output.turn(turning(0, 1));
    output.turn(turning(10, 1));
    assert_eq!(read(&path), lines[5..]);
    write(&mut output, &numbered(9)).unwrap();
    assert_eq!(read(&path), [numbered(8), numbered(9)], "until the next rotation");
}

#[test]
fn with_none_to_keep_a_full_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut output = Output::open(&path, turning(20, 0), Files::default()).unwrap();
    for n in 0..5 {
        put(&mut output, &numbered(n));
    }
    assert_eq!(read(&path), [numbered(4)]);
    assert_eq!(names(folder.path()), ["audit.log"]);
}

/// What is done in the middle of something else.
type Act = Box<dyn FnOnce() + Send>;

#[test]
fn what_is_rotated_while_it_is_compressed_is_compressed_under_its_new_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let lines: Vec<String> = (0..4).map(numbered).collect();
    // What happens once some of it is written.
    let meanwhile: Arc<Mutex<Option<Act>>> = Arc::default();
    let act = Arc::clone(&meanwhile);
    let files = Files::failing(move |step, path| {
        let pressed = step == Step::Write && path.to_string_lossy().ends_with(".gz.tmp");
        let act = if pressed { act.lock().unwrap().take() } else { None };
        if let Some(act) = act {
            act();
        }
        Ok(())
    });
    for keep in [3, 1] {
        for name in names(folder.path()) {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let mut output = Output::open(&path, turning(10, keep), files.clone()).unwrap();
        write(&mut output, &lines[0]).unwrap();
        assert_eq!(write(&mut output, &lines[1]).unwrap(), Rotation::Done);
        let Output::File(Log { shelf: Some(shelf), .. }) = &output else { panic!("no file") };
        let shelf = Arc::clone(shelf);
        assert!(shelf.compress(true));
        let rotated = Arc::clone(&shelf);
        *meanwhile.lock().unwrap() = Some(Box::new(move || {
            assert!(matches!(rotated.rotate(keep).unwrap(), Turn::Rotated(_)));
        }));
        press::run(&shelf);
        let kept = if keep == 3 { &lines[..2] } else { &lines[1..2] };
        assert_eq!(read(&path), kept);
        let expected: &[&str] = if keep == 3 {
            &["audit.log", "audit.log.1.gz", "audit.log.2.gz"]
        } else {
            &["audit.log", "audit.log.1.gz"]
        };
        assert_eq!(names(folder.path()), expected);
    }
}

#[test]
fn what_is_still_written_to_is_not_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut output = Output::open(&path, turning(100, 3), Files::default()).unwrap();
    write(&mut output, &numbered(0)).unwrap();
    // Somebody else rotates, and has not said so yet.
    fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    press_here(&output);
    write(&mut output, &numbered(1)).unwrap();
    assert_eq!(names(folder.path()), ["audit.log.1"]);
    output.reopen().unwrap();
    write(&mut output, &numbered(2)).unwrap();
    press_here(&output);
    assert_eq!(names(folder.path()), ["audit.log", "audit.log.1.gz"]);
    assert_eq!(read(&path), [numbered(0), numbered(1), numbered(2)]);
}

#[test]
fn what_others_rotate_or_cut_is_not_rotated_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut output = Output::open(&path, turning(30, 3), Files::default()).unwrap();
    (0..3).for_each(|n| put(&mut output, &numbered(n)));
    fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    assert_eq!(write(&mut output, &numbered(3)).unwrap(), Rotation::Done, "into a new file");
    assert_eq!(names(folder.path()), ["audit.log", "audit.log.1"]);
    (4..6).for_each(|n| put(&mut output, &numbered(n)));
    // As `copytruncate` of logrotate.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(write(&mut output, &numbered(6)).unwrap(), Rotation::None);
    assert_eq!(read(&path), [0, 1, 2, 6].map(numbered));
}

#[test]
fn a_rotation_that_fails_is_tried_again_and_lines_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let refuse = Arc::new(AtomicUsize::new(1));
    let tries = Arc::new(AtomicUsize::new(0));
    let (refusing, count) = (Arc::clone(&refuse), Arc::clone(&tries));
    let files = Files::failing(move |step, _| {
        if step != Step::Create {
            return Ok(());
        }
        count.fetch_add(1, Relaxed);
        if refusing.load(Relaxed) == 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    let mut output = Output::open(&path, turning(1000, 3), files).unwrap();
    let line = "x".repeat(999) + "\n";
    for n in 0..2000 {
        let rotation = write(&mut output, &line).unwrap();
        assert_eq!(rotation == Rotation::Failed, n == 1 || n == 1049, "{n}");
    }
    assert_eq!(tries.load(Relaxed), 2, "tried again after a MiB, not with every line");
    refuse.store(0, Relaxed);
    let mut rotations = 0;
    for _ in 0..200 {
        rotations += usize::from(write(&mut output, &line).unwrap() == Rotation::Done);
    }
    assert!(rotations > 50, "{rotations}");
    assert_eq!(names(folder.path()), ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
}

#[cfg(unix)]
#[test]
fn rotated_and_compressed_files_are_their_owners_only_and_lie_beside_the_file_itself() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("disk");
    fs::create_dir(&real).unwrap();
    let path = folder.path().join("audit.log");
    fs::write(real.join("events"), numbered(0)).unwrap();
    std::os::unix::fs::symlink(real.join("events"), &path).unwrap();
    let mut output = Output::open(&path, turning(10, 3), Files::default()).unwrap();
    (1..3).for_each(|n| put(&mut output, &numbered(n)));
    press_here(&output);
    write(&mut output, &numbered(3)).unwrap();
    assert!(path.is_symlink());
    assert_eq!(names(folder.path()), ["audit.log", "disk"]);
    assert_eq!(names(&real), ["events", "events.1", "events.2.gz", "events.3.gz"]);
    for name in names(&real) {
        let mode = fs::metadata(real.join(&name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert_eq!(read(&path), [0, 1, 2, 3].map(numbered));
}

#[test]
fn a_compressed_file_is_as_old_as_what_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = folder.path().join("audit.log.1");
    fs::write(&rotated, numbered(0)).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options().write(true).open(&rotated).unwrap().set_modified(then).unwrap();
    // What a killed program left.
    fs::write(folder.path().join("audit.log.gz.tmp"), "half of it".repeat(100)).unwrap();
    let output = Output::open(&path, turning(10, 3), Files::default()).unwrap();
    press_here(&output);
    let compressed = fs::metadata(folder.path().join("audit.log.1.gz")).unwrap();
    assert_eq!(compressed.modified().unwrap(), then);
    assert_eq!(names(folder.path()), ["audit.log", "audit.log.1.gz"]);
    assert_eq!(read(&path), [numbered(0)]);
}
