//! What is written to disk: the session store and audit.log.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::report::{Area, Finding};
use crate::{audit, session};

const MIB: u64 = 1024 * 1024;
/// Below this, a busy day fills the disk.
const LITTLE: u64 = 1024 * MIB;
/// Below this, the next writes may fail.
const NEARLY_NONE: u64 = 64 * MIB;

/// Examines the session store. Blocks. Leaves nothing behind.
pub(super) fn store(config: &session::Config) -> Vec<Finding> {
    const AREA: Area = Area::Store;
    let directory = &config.directory;
    let mut findings = vec![match try_folder(directory) {
        Ok(Folder::Exists) => Finding::ok(AREA, "writable", "can be written"),
        Ok(Folder::ToBeMade) => Finding::ok(AREA, "writable", "does not exist yet, and can be made"),
        Err(error) => {
            let cause =
                format!("cannot be written: {error}. Players who are proven from now on are not remembered");
            let mend = "give the folder to the user that Postern runs as, or correct session-cache.directory";
            Finding::error(AREA, "writable", cause, mend)
        }
    }];
    let survey = session::Survey::of(directory);
    findings.push(match &survey {
        Ok(session::Survey { sessions: 0, .. }) => {
            Finding::ok(AREA, "sessions", "knows nobody yet: in an outage nobody could join")
        }
        Ok(session::Survey { sessions, .. }) => {
            Finding::ok(AREA, "sessions", format!("knows {sessions} players"))
        }
        Err(error) => {
            let mend = "give the folder to the user that Postern runs as";
            Finding::error(AREA, "sessions", format!("cannot be listed: {error}"), mend)
        }
    });
    if let Ok(session::Survey { damaged: damaged @ 1.., .. }) = survey {
        let cause = format!("{damaged} damaged documents were set aside; their players start anew");
        let mend = "look into its folder damaged: a backup may hold them; then empty that folder";
        findings.push(Finding::warning(AREA, "damaged", cause, mend));
    }
    findings.extend(owner(AREA, directory));
    findings.push(space(AREA, directory));
    findings.into_iter().map(|finding| finding.of(directory.display().to_string())).collect()
}

/// Examines audit.log. Blocks. Leaves nothing behind.
pub(super) fn audit(config: &audit::Config) -> Vec<Finding> {
    const AREA: Area = Area::Audit;
    let Some(path) = &config.path else {
        let mend = "set monitoring.enable-audit-log to true";
        let cause = "switched off: nobody will be able to tell who joined in an outage, and why";
        return vec![Finding::warning(AREA, "enabled", cause, mend)];
    };
    let opened = match fs::metadata(path) {
        // Opening a pipe would wait for its reader.
        Ok(found) if !found.is_file() => Ok("is no regular file, and was not tried"),
        Ok(_) => OpenOptions::new().append(true).open(path).map(|_| "can be written"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            try_folder(folder_of(path)).and_then(|folder| match folder {
                Folder::Exists => Ok("does not exist yet, and can be made"),
                Folder::ToBeMade => Err(no_folder()),
            })
        }
        Err(error) => Err(error),
    };
    let mut findings = vec![match opened {
        Ok(cause) => Finding::ok(AREA, "writable", cause),
        Err(error) => {
            let mend = "make its folder, give both to the user that Postern runs as, or correct monitoring.audit-log";
            let cause = format!("cannot be written: {error}. The proxy does not start with it");
            Finding::error(AREA, "writable", cause, mend)
        }
    }];
    findings.extend(owner(AREA, path));
    findings.push(space(AREA, path));
    findings.into_iter().map(|finding| finding.of(path.display().to_string())).collect()
}

/// Examines the file of bans. Blocks. Leaves nothing behind.
pub(super) fn bans(path: &Path) -> Finding {
    let finding = match try_replaced(path) {
        Ok(cause) => Finding::ok(Area::Bans, "writable", cause),
        Err(error) => {
            let cause = format!(
                "cannot be written: {error}. The proxy does not start, or forgets at its next start who is banned"
            );
            let mend =
                "make its folder, give both to the user that Postern runs as, or correct security.ban-file";
            Finding::error(Area::Bans, "writable", cause, mend)
        }
    };
    finding.of(path.display().to_string())
}

/// Examines the file of statistics. Blocks. Leaves nothing behind.
pub(super) fn statistics(path: &Path) -> Finding {
    let finding = match try_replaced(path) {
        Ok(cause) => Finding::ok(Area::Statistics, "writable", cause),
        Err(error) => {
            let mend = "make its folder, give both to the user that Postern runs as, or correct \
                        monitoring.statistics-file";
            let cause = format!("cannot be written: {error}. What is counted is lost when the proxy stops");
            Finding::warning(Area::Statistics, "writable", cause, mend)
        }
    };
    finding.of(path.display().to_string())
}

/// Tries whether a file could be replaced whole: by another one in its folder, which nobody makes for it.
fn try_replaced(path: &Path) -> io::Result<&'static str> {
    let exists = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(io::Error::other("not a regular file")),
        Ok(_) => {
            fs::File::open(path)?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    match try_folder(folder_of(path))? {
        Folder::ToBeMade => Err(no_folder()),
        Folder::Exists if exists => Ok("can be written"),
        Folder::Exists => Ok("does not exist yet, and can be made"),
    }
}

/// The proxy makes the folder of the sessions, and no other.
fn no_folder() -> io::Error {
    io::Error::other("its folder does not exist")
}

/// What there is to say if all that does not come to an end.
pub(super) fn hangs() -> Finding {
    let cause = "does not answer: reading or writing on its disk takes too long";
    let mend =
        "look at the disk or network share that session-cache.directory and monitoring.audit-log are on";
    Finding::error(Area::Store, "writable", cause, mend)
}

/// A folder that can be written.
enum Folder {
    Exists,
    ToBeMade,
}

/// Tries a folder, or the one that it would be made in, by writing a file and removing it.
fn try_folder(folder: &Path) -> io::Result<Folder> {
    let existing = existing(folder);
    let trial = existing.join(format!(".postern-doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&trial).and_then(|mut file| {
        let written = file.write_all(b"can this be written?").and_then(|()| file.sync_all());
        // What matters is whether it could be written.
        let _ = fs::remove_file(&trial);
        written
    });
    written.map(|()| if existing == folder { Folder::Exists } else { Folder::ToBeMade })
}

/// The folder itself, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    let above =
        folder.ancestors().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    above.into_iter().find(|folder| folder.exists()).unwrap_or(Path::new(".")).to_owned()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn space(area: Area, path: &Path) -> Finding {
    let folder = if path.is_file() { folder_of(path).to_owned() } else { existing(path) };
    match free(&folder) {
        Ok(free) => of_space(area, free),
        Err(error) => Finding::skipped(area, "space", format!("the free space is not known: {error}")),
    }
}

/// Bytes that may still be written to the disk of a folder.
#[cfg(unix)]
fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Other systems do not tell without a library of their own.
#[cfg(not(unix))]
fn free(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

fn of_space(area: Area, free: u64) -> Finding {
    const CHECK: &str = "space";
    let mib = free / MIB;
    let mend = "make room, or move it to another disk";
    if free < NEARLY_NONE {
        let cause = format!("{mib} MiB are left on its disk: soon nothing can be saved");
        Finding::error(area, CHECK, cause, mend)
    } else if free < LITTLE {
        Finding::warning(area, CHECK, format!("{mib} MiB are left on its disk"), mend)
    } else {
        Finding::ok(area, CHECK, format!("{} GiB are left on its disk", mib / 1024))
    }
}

/// Whoever runs this may write what the proxy's own user may not.
#[cfg(unix)]
fn owner(area: Area, path: &Path) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt;

    let owner = fs::metadata(path).ok()?.uid();
    let (me, cause) = (rustix::process::geteuid().as_raw(), "belongs to another user than the one that asks");
    let mend = "run this as the user that Postern runs as, to be told what that one may write";
    (owner != me).then(|| Finding::warning(area, "owner", cause, mend))
}

/// Here files belong to whoever owns their folder.
#[cfg(not(unix))]
fn owner(_: Area, _: &Path) -> Option<Finding> {
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::report::Verdict;

    fn config(directory: PathBuf) -> session::Config {
        session::Config {
            directory,
            cleanup_on_startup: false,
            max_address_age: Duration::from_hours(1),
            ipv4_range_prefix: 24,
            ipv6_range_prefix: 64,
        }
    }

    fn told(findings: &[Finding]) -> Vec<(&'static str, Verdict)> {
        let left_out = |finding: &&Finding| finding.check != "space";
        findings.iter().filter(left_out).map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = folder.path().join("a/b/sessions");
        let good = [("writable", Verdict::Ok), ("sessions", Verdict::Ok)];
        assert_eq!(told(&store(&config(sessions.clone()))), good);
        let log = audit::Config {
            path: Some(folder.path().join("audit.log")),
            max_size: 0,
            keep: 0,
            compress: false,
        };
        assert_eq!(told(&audit(&log)), [("writable", Verdict::Ok)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fs::create_dir_all(sessions.join("damaged")).unwrap();
        fs::write(sessions.join("damaged/x"), "").unwrap();
        let found = store(&config(sessions));
        assert_eq!(told(&found).last(), Some(&("damaged", Verdict::Warning)));
        assert!(found.iter().any(|finding| finding.check == "space"));
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        // A file where a folder should be: nobody can write below it, not even root.
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(told(&store(&config(file.clone())))[0], ("writable", Verdict::Error));
        let log = audit::Config { path: Some(file.join("audit.log")), max_size: 0, keep: 0, compress: false };
        assert_eq!(told(&audit(&log))[0], ("writable", Verdict::Error));
        let nowhere = folder.path().join("none/audit.log");
        let log = audit::Config { path: Some(nowhere), max_size: 0, keep: 0, compress: false };
        let found = audit(&log);
        assert_eq!(told(&found)[0], ("writable", Verdict::Error), "the proxy does not make that folder");
        assert!(found[0].mend.starts_with("make its folder"), "{:?}", found[0]);
        assert!(!folder.path().join("none").exists());
        let off = audit::Config { path: None, max_size: 0, keep: 0, compress: false };
        assert_eq!(told(&audit(&off)), [("enabled", Verdict::Warning)]);
    }

    #[test]
    fn files_that_are_replaced_need_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = |path: &Path| (bans(path).verdict, statistics(path).verdict);
        let path = folder.path().join("b.json");
        assert_eq!(verdicts(&path), (Verdict::Ok, Verdict::Ok), "to be made");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "{}").unwrap();
        assert_eq!(verdicts(&path), (Verdict::Ok, Verdict::Ok));
        for bad in [folder.path().join("none/b.json"), path.join("b.json"), folder.path().to_owned()] {
            assert_eq!(verdicts(&bad), (Verdict::Error, Verdict::Warning), "{}", bad.display());
            assert!(bans(&bad).mend.contains("security.ban-file"));
        }
    }

    #[test]
    fn little_space() {
        for (free, verdict) in [
            (0, Verdict::Error),
            (NEARLY_NONE, Verdict::Warning),
            (LITTLE - 1, Verdict::Warning),
            (LITTLE, Verdict::Ok),
            (u64::MAX, Verdict::Ok),
        ] {
            assert_eq!(of_space(Area::Store, free).verdict, verdict, "{free}");
        }
    }
}
