//! The token that callers show, and the file it stands in.

use std::{
    io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretSlice, zeroize::Zeroizing};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{disk, secret};

/// The token. Clones share it.
#[derive(Clone, Debug)]
pub struct Token(SecretSlice<u8>);

/// The token cannot be had. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is no file.
    #[error("the admin token {} does not exist", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the admin token {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(
        "the admin token {} cannot be written: {source}; create it yourself, with a long random text as its content",
        path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds nothing that could be shown in a header.
    #[error("the admin token {} {what}; delete the file to get a new one at the next start", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: &'static str,
    },
}

impl Token {
    /// Reads the token. Blocks.
    ///
    /// # Errors
    /// A file that is not there, cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let bytes = match disk::read_small(path, secret::MAX_FILE) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TokenError::Missing { path: path.to_owned() });
            }
            Err(source) => return Err(TokenError::Unreadable { path: path.to_owned(), source }),
        };
        let unfit = |what| TokenError::Unfit { path: path.to_owned(), what };
        let token = secret::trimmed(&bytes).ok_or_else(|| unfit("is not UTF-8 text"))?;
        let content = token.expose_secret();
        if content.is_empty() {
            return Err(unfit("is empty"));
        }
        if content.iter().any(u8::is_ascii_control) {
            return Err(unfit("holds control characters, which no header can carry"));
        }
        Ok(Self(token))
    }

    /// Reads the token; if there is no file, writes one with a random token. Blocks.
    pub(super) fn read_or_write(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::Missing { .. }) => {}
            other => return other,
        }
        match secret::write_random(path) {
            Ok(()) => tracing::info!(file = %path.display(), "wrote a random token for the admin interface"),
            // Another proxy of this folder was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(TokenError::Unwritable { path: path.to_owned(), source }),
        }
        Self::read(path)
    }

    /// Whether somebody could find it by trying.
    pub(super) fn is_short(&self) -> bool {
        self.0.expose_secret().len() < secret::SHORT
    }

    /// The value of the header that shows it. For requests, never for logs.
    pub fn bearer(&self) -> SecretSlice<u8> {
        [b"Bearer ".as_slice(), self.0.expose_secret()].concat().into()
    }

    /// Whether it is the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret().ct_eq(other.0.expose_secret()).into()
    }

    /// Whether the value of an `Authorization` header shows this token. Takes as long for a wrong one as for the right
    /// one.
    pub(super) fn is_shown_in(&self, authorization: &[u8]) -> bool {
        let (scheme, shown) = authorization.split_at_checked(7).unwrap_or((authorization, &[]));
        // Hashes are of one length, so that not even the token's is told.
        let right = Sha256::digest(self.0.expose_secret()).ct_eq(&Sha256::digest(shown.trim_ascii()));
        scheme.eq_ignore_ascii_case(b"Bearer ") & bool::from(right)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn written_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        assert!(matches!(Token::read(&path), Err(TokenError::Missing { .. })));
        let written = Token::read_or_write(&path).unwrap();
        assert!(!secret::open_to_others(&path) && !written.is_short());
        let again = Token::read_or_write(&path).unwrap();
        assert!(again.is_shown_in(written.bearer().expose_secret()));
        assert!(!format!("{again:?}").contains(&fs::read_to_string(&path).unwrap()));
        let nowhere = Token::read_or_write(&folder.path().join("none").join("admin.token")).unwrap_err();
        assert!(nowhere.to_string().contains("create it yourself"), "{nowhere}");
    }

    #[test]
    fn files_that_hold_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        for (content, words) in
            [(&b"\n"[..], "is empty"), (b"a\tb", "control characters"), (b"\xff", "is not UTF-8")]
        {
            fs::write(&path, content).unwrap();
            let error = Token::read_or_write(&path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("admin.token"), "{error}");
        }
        let error = Token::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn shown_right_and_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        fs::write(&path, "a long random text\n").unwrap();
        let token = Token::read(&path).unwrap();
        for right in ["Bearer a long random text", "bearer a long random text", "Bearer  a long random text "]
        {
            assert!(token.is_shown_in(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a long random tex",
            "Bearer a long random text2",
            "Bearer A long random text",
            "Basic a long random text",
            "a long random text",
        ] {
            assert!(!token.is_shown_in(wrong.as_bytes()), "{wrong}");
        }
    }
}
