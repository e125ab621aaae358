//! Small files that are replaced whole: after a crash each is its old or its new self. Everything here blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

/// Replaces a file, or makes it, readable by its owner only. Once this returns, the new one survives a power cut; until
/// then, the old one does.
///
/// # Errors
/// Whatever kept it from being written; the old one is still there then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // It may hold space that a full disk needs. The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder_of(path)
}

/// Removes a file for good, if it is there.
///
/// # Errors
/// Whatever kept it from being removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_folder_of(path),
    }
}

/// Moves a damaged file out of the way, to a name beside it that nothing has yet, and returns that name. For files that
/// one process at a time sets aside.
///
/// # Errors
/// Whatever kept it from being moved; it is still there then.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 0_u32.. {
        let mut aside = path.as_os_str().to_owned();
        aside.push(if number == 0 { ".damaged".to_owned() } else { format!(".damaged.{number}") });
        let aside = PathBuf::from(aside);
        if fs::symlink_metadata(&aside).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("there are too many damaged ones already"))
}

/// Makes a rename or removal last. Where a folder cannot be opened as a file (Windows), the file system sees to it.
///
/// # Errors
/// The folder cannot be opened, or the disk does not take it. A folder that is gone is none.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// A file that cannot be read; one that is longer ([`ErrorKind::FileTooLarge`]), or that could block or never end.
pub fn read_small(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        // The same words on every system.
        kind @ ErrorKind::NotFound => io::Error::new(kind, "it does not exist"),
        _ => error,
    })?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.json");
        remove(&path).unwrap();
        for text in ["first", "2nd"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(read_small(&path, 5).unwrap(), text.as_bytes());
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(read_small(&path, 2).unwrap_err().to_string(), "longer than 2 bytes");
        remove(&path).unwrap();
        assert_eq!(read_small(&path, 2).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no temporary file stays");
    }

    #[test]
    fn damaged_files_are_set_aside_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.json");
        for name in ["it.json.damaged", "it.json.damaged.1", "it.json.damaged.2"] {
            fs::write(&path, name).unwrap();
            assert_eq!(set_aside(&path).unwrap(), folder.path().join(name));
            assert!(!path.exists());
        }
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(fs::read_to_string(&path).unwrap(), path.file_name().unwrap().to_str().unwrap());
        }
        assert_eq!(set_aside(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        fs::create_dir_all(path.join("inside")).unwrap();
        replace(&path, b"text").unwrap_err();
        assert!(path.join("inside").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
        replace(&folder.path().join("none").join("file"), b"text").unwrap_err();
        assert_eq!(read_small(&path, 10).unwrap_err().to_string(), "not a regular file");
    }
}
