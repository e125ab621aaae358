//! Forwarding secrets: where they come from, and the random one of a first start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretSlice, SecretString, zeroize::Zeroizing};

use super::{
    AS_WHOM, Purpose,
    problem::{Findings, Spot},
};
use crate::{
    disk,
    secret::{self, MAX_FILE, SHORT, random, trimmed, write_new},
};

/// What the process's environment says, read once by the caller.
#[derive(Debug, Default)]
pub struct Environment {
    /// Value of `POSTERN_FORWARDING_SECRET`, if set.
    pub postern_forwarding_secret: Option<SecretString>,
    /// Value of `VELOCITY_FORWARDING_SECRET`, if set. The other one comes first.
    pub velocity_forwarding_secret: Option<SecretString>,
}

impl Environment {
    /// Whether the shared secret stands here, so that its file is not looked at.
    pub(super) fn holds_the_secret(&self) -> bool {
        self.postern_forwarding_secret.is_some() || self.velocity_forwarding_secret.is_some()
    }
}

/// The secret file that the first start writes.
pub(super) const DEFAULT_FILE: &str = "forwarding.secret";

/// A secret that is to be written once the rest of the configuration is known to be good.
#[derive(Debug)]
pub(super) struct Unwritten {
    path: PathBuf,
    spot: Spot,
    secret: SecretSlice<u8>,
}

impl Unwritten {
    /// Writes the file, owner-only, and says so.
    pub(super) fn write(self, findings: &Findings) {
        let shown = self.path.display();
        match write_new(&self.path, self.secret.expose_secret(), true) {
            Ok(()) => {
                let hint = "copy its content into your backends' configuration";
                let what = format!("did not exist; a random secret was written to {shown}");
                findings.note(&self.spot, what, Some(hint.to_owned()));
            }
            Err(error) => {
                let hint = "create the file yourself, with a long random text as its content";
                findings.error(
                    &self.spot,
                    format!("{shown} cannot be written: {error}"),
                    Some(hint.to_owned()),
                );
            }
        }
    }
}

/// The secret shared by all backends that have none of their own: from the environment, else from `path`. If that file
/// is missing, `Run` gets a random secret that is still to be written.
pub(super) fn global(
    environment: &Environment,
    path: &Path,
    spot: &Spot,
    purpose: Purpose,
    findings: &Findings,
) -> (Option<SecretSlice<u8>>, Option<Unwritten>) {
    for (name, value) in [
        ("POSTERN_FORWARDING_SECRET", &environment.postern_forwarding_secret),
        ("VELOCITY_FORWARDING_SECRET", &environment.velocity_forwarding_secret),
    ] {
        if let Some(value) = value {
            let from = format!("the secret in the environment's {name}");
            let hint = "set it to the secret, or unset it to use the file";
            return (accept(value.expose_secret().as_bytes(), &from, hint, spot, findings), None);
        }
    }
    if !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return (from_file(path, spot, findings), None);
    }
    match purpose {
        Purpose::Check => {
            let what = format!("{} does not exist yet", path.display());
            let hint = "postern run will write it with a random secret";
            findings.note(spot, what, Some(hint.to_owned()));
            (None, None)
        }
        Purpose::Reload => {
            let what = format!("{} does not exist", path.display());
            let hint = "put it back: it must hold the same secret as the backends' configuration";
            findings.error(spot, what, Some(hint.to_owned()));
            (None, None)
        }
        Purpose::Run => match random() {
            Ok(secret) => {
                let unwritten =
                    Unwritten { path: path.to_owned(), spot: spot.clone(), secret: secret.clone() };
                (Some(secret), Some(unwritten))
            }
            Err(error) => {
                let what =
                    format!("{} does not exist, and no random secret could be made: {error}", path.display());
                findings.error(spot, what, Some("create the file yourself".to_owned()));
                (None, None)
            }
        },
    }
}

/// The secret in a file that must exist.
pub(super) fn from_file(path: &Path, spot: &Spot, findings: &Findings) -> Option<SecretSlice<u8>> {
    let shown = path.display();
    let bytes = match disk::read_small(path, MAX_FILE) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => AS_WHOM,
                _ => "it must hold the same secret as the backend's configuration",
            };
            findings.error(spot, format!("{shown} cannot be read: {error}"), Some(hint.to_owned()));
            return None;
        }
    };
    if secret::open_to_others(path) {
        let hint = format!("chmod 600 {shown}");
        findings.warning(spot, format!("{shown} can be read by other users of this machine"), Some(hint));
    }
    let from = format!("the secret in {shown}");
    accept(&bytes, &from, "write a long random text into it, and the same into the backend", spot, findings)
}

/// The secret proper: as Velocity reads it, without line ends, and without white space around it.
fn accept(bytes: &[u8], from: &str, hint: &str, spot: &Spot, findings: &Findings) -> Option<SecretSlice<u8>> {
    let Some(secret) = trimmed(bytes) else {
        findings.error(spot, format!("{from} is not UTF-8 text"), Some(hint.to_owned()));
        return None;
    };
    let length = secret.expose_secret().len();
    if length == 0 {
        findings.error(spot, format!("{from} is empty"), Some(hint.to_owned()));
        return None;
    }
    if length < SHORT {
        let hint = format!("use {SHORT} characters or more, at random");
        findings.warning(spot, format!("{from} is short enough to be guessed"), Some(hint));
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_velocity_reads_it() {
        for (written, read) in [
            ("abcdefghijkl", Some("abcdefghijkl")),
            ("abcdefghijkl\n", Some("abcdefghijkl")),
            ("\u{feff}abcdefghijkl \r\n\n", Some("abcdefghijkl")),
            ("abcdef\r\nghijkl\n", Some("abcdefghijkl")),
            (" \n", None),
            ("", None),
        ] {
            let findings = Findings::new(Path::new("f"));
            let secret = accept(written.as_bytes(), "it", "mend it", &Spot::file(), &findings);
            let secret = secret.map(|secret| String::from_utf8(secret.expose_secret().to_vec()).unwrap());
            assert_eq!(secret.as_deref(), read, "{written:?}");
            assert_eq!(findings.any_error(), read.is_none());
        }
    }
}
