//! PIN hashes as they are stored, made and compared. Everything here takes some tens of milliseconds and as many MiB.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Memory of one computation, in KiB: 19 MiB and two passes is the least that is advised for Argon2id, and more would let
/// strangers take more of this machine for each code they try.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// As long as PHC strings advise.
const SALT_LEN: usize = 16;

/// What a stored hash may ask for at most: documents are the owner's, but a slip in one must not take the machine.
const MOST_MEMORY: u32 = 64 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 8;

/// How a hash of elsewhere is marked: SHA-256 in hexadecimal digits, without salt.
const SHA256: &str = "$sha256$";

/// Longest code that is compared, in bytes. A longer one cannot be right.
const MOST_WORDS: usize = 256;

/// This machine could not compute a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// What comparing a code with a stored hash told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// It is the code.
    Right {
        /// The stored hash is of another form than those that are made now, and should be replaced.
        outdated: bool,
    },
    /// It is not.
    Wrong,
    /// The stored hash makes no sense: no code is right.
    Unreadable,
}

/// The hash to store for a code.
pub(super) fn make(code: &SecretString) -> Result<String, Failed> {
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|_| Failed)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| Failed)?;
    with_salt(code, salt.as_salt())
}

fn with_salt(code: &SecretString, salt: Salt<'_>) -> Result<String, Failed> {
    let params = Params::new(MEMORY, PASSES, LANES, None).map_err(|_| Failed)?;
    let hashing = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = hashing.hash_password(code.expose_secret().as_bytes(), salt).map_err(|_| Failed)?;
    Ok(hash.to_string())
}

/// Compares, in a time that tells nothing of how much of the two is the same.
pub(super) fn compare(code: &SecretString, stored: &str) -> Result<Compared, Failed> {
    let code = code.expose_secret().as_bytes();
    if let Some(digits) = stored.strip_prefix(SHA256) {
        let Some(stored) = sha256_of(digits) else { return Ok(Compared::Unreadable) };
        let is_right = bool::from(Sha256::digest(code).as_slice().ct_eq(&stored));
        return Ok(if is_right { Compared::Right { outdated: true } } else { Compared::Wrong });
    }
    let Some((hash, params)) = argon2id_of(stored) else { return Ok(Compared::Unreadable) };
    if code.is_empty() || code.len() > MOST_WORDS {
        return Ok(Compared::Wrong);
    }
    let is_current = (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY, PASSES, LANES)
        && hash.version == Some(Version::V0x13.into());
    // Compares the outcomes in constant time.
    match Argon2::default().verify_password(code, &hash) {
        Ok(()) => Ok(Compared::Right { outdated: !is_current }),
        Err(argon2::password_hash::Error::Password) => Ok(Compared::Wrong),
        Err(_) => Err(Failed),
    }
}

/// A stored Argon2id hash that is whole and does not ask for too much.
fn argon2id_of(stored: &str) -> Option<(PasswordHash<'_>, Params)> {
    let hash = PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let is_modest =
        params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES && params.p_cost() <= MOST_LANES;
    let is_known = hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version.is_none_or(|version| Version::try_from(version).is_ok());
    let is_whole = hash.salt.is_some() && hash.hash.is_some_and(|output| output.len() >= 16);
    (is_modest && is_known && is_whole).then_some((hash, params))
}

/// The 32 bytes that 64 hexadecimal digits stand for.
fn sha256_of(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> SecretString {
        SecretString::from(text)
    }

    /// From the tests of the algorithm's authors (phc-winner-argon2, src/test.c).
    #[test]
    fn known_answers_of_argon2id() {
        for (code, hash) in [
            (
                "password",
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            ),
            (
                "password",
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            ),
        ] {
            assert_eq!(compare(&words(code), hash), Ok(Compared::Right { outdated: true }), "{hash}");
            assert_eq!(compare(&words("differentpassword"), hash), Ok(Compared::Wrong));
        }
    }

    #[test]
    fn made_and_compared() {
        let hash = make(&words("k7Qz2m")).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(hash.split('$').nth(4).unwrap().len(), 22, "16 bytes of salt: {hash}");
        assert_eq!(compare(&words("k7Qz2m"), &hash), Ok(Compared::Right { outdated: false }));
        for wrong in ["k7Qz2M", "k7Qz2", "k7Qz2mm", "", &"k".repeat(1000)] {
            assert_eq!(compare(&words(wrong), &hash), Ok(Compared::Wrong), "{wrong}");
        }
        assert_ne!(make(&words("k7Qz2m")).unwrap(), hash, "a salt of its own");
    }

    /// SHA-256 of "123456", as `sha256sum` prints it.
    const OF_123456: &str = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92";

    #[test]
    fn a_hash_of_elsewhere_is_compared_whole_and_outdated() {
        for stored in [format!("$sha256${OF_123456}"), format!("$sha256${}", OF_123456.to_ascii_uppercase())]
        {
            assert_eq!(compare(&words("123456"), &stored), Ok(Compared::Right { outdated: true }));
            assert_eq!(compare(&words("123457"), &stored), Ok(Compared::Wrong));
        }
        // Each digit counts.
        for at in 0..64 {
            let mut digits = OF_123456.to_owned().into_bytes();
            digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
            let stored = format!("$sha256${}", String::from_utf8(digits).unwrap());
            assert_eq!(compare(&words("123456"), &stored), Ok(Compared::Wrong), "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_has_no_right_code() {
        for stored in [
            "",
            "123456",
            "$",
            "$argon2id$",
            "$sha256$",
            "$sha256$8d969eef",
            "$sha256$zz969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92",
            "$sha256$8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c9ä",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
            "$argon2id$v=7$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            // Asks for 4 TiB, for a day, for a thousand threads.
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=4294967295,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=65536,t=2,p=1000$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        ] {
            for code in ["", "123456", "password"] {
                assert_eq!(compare(&words(code), stored), Ok(Compared::Unreadable), "{stored}");
            }
        }
    }
}
