//! Secrets in files: how one is made, written, and read again. Everything here blocks.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use secrecy::{ExposeSecret, SecretSlice, zeroize::Zeroizing};

/// Longest secret file, in bytes. Nobody types such a secret; a wrong path may lead to anything.
pub const MAX_FILE: usize = 16 * 1024;

/// Below so many bytes a secret can be guessed by trying. Velocity's own random ones are as long.
pub const SHORT: usize = 12;

/// Length of a random secret: 32 of 62 characters are 190 bits.
const RANDOM_LEN: usize = 32;

/// A new secret of letters and digits, which survive every configuration format and shell.
///
/// # Errors
/// An operating system without randomness.
pub fn random() -> io::Result<SecretSlice<u8>> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = Zeroizing::new(Vec::with_capacity(RANDOM_LEN));
    let mut bytes = Zeroizing::new([0_u8; RANDOM_LEN]);
    while secret.len() < RANDOM_LEN {
        getrandom::fill(bytes.as_mut_slice()).map_err(|error| io::Error::other(error.to_string()))?;
        // Bytes beyond the last whole multiple of 62 would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte % 62)));
        let missing = RANDOM_LEN - secret.len();
        secret.extend(letters.take(missing));
    }
    Ok(SecretSlice::from(secret.to_vec()))
}

/// Writes a new random secret to a file that does not exist yet, for the owner's eyes only.
///
/// # Errors
/// As [`write_new`].
pub fn write_random(path: &Path) -> io::Result<()> {
    write_new(path, random()?.expose_secret(), true)
}

/// Writes a file that does not exist yet, and never replaces one; `private` is for the owner's eyes only. What could
/// not be written whole is removed again.
///
/// # Errors
/// A file that exists, and whatever kept it from being written.
pub fn write_new(path: &Path, content: &[u8], private: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    let mut file = options.open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(file);
        // The error that matters is the first one.
        let _ = fs::remove_file(path);
    }
    written
}

/// The secret in what a file or variable holds: as Velocity reads it, without line ends, and without white space around
/// it. May be empty. `None` if it is not UTF-8 text.
pub fn trimmed(bytes: &[u8]) -> Option<SecretSlice<u8>> {
    // Editors of one system put a byte order mark in front, which nobody sees or copies.
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let secret: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect());
    Some(SecretSlice::from(secret.to_vec()))
}

/// Whether others than its owner may read or write a file.
#[cfg(unix)]
pub fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Never known to be so on this system.
#[cfg(not(unix))]
pub fn open_to_others(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_secrets_are_long_plain_and_new() {
        let (first, second) = (random().unwrap(), random().unwrap());
        assert_eq!(first.expose_secret().len(), RANDOM_LEN);
        assert!(first.expose_secret().iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(first.expose_secret(), second.expose_secret());
    }

    #[test]
    fn written_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_random(&path).unwrap();
        let written = fs::read(&path).unwrap();
        assert_eq!((written.len(), open_to_others(&path)), (RANDOM_LEN, false));
        assert_eq!(write_random(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), written);
    }
}
