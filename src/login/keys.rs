//! The server's RSA key, the verify token, the shared secret, and the server id hash.
//!
//! PKCS #1 v1.5 is what the game speaks, so whoever replays somebody's response here learns from our answer whether it
//! opened. What that is worth: another number opens to exactly 16 bytes once in 2^24 tries or so, it takes thousands of
//! such hits to find out one message (Bleichenbacher), and the key is gone after four hours. A *time* that depends on
//! the numbers would tell far more (RUSTSEC-2023-0071, the Marvin attack); that is why `opener` does the arithmetic.

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rsa::{RsaPrivateKey, pkcs8::EncodePublicKey, rand_core::OsRng};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tracing::{debug, error};

use super::opener::Opener;
use crate::{
    mojang::{player_keys::HeldKey, session_server::Standing},
    protocol::{
        cipher::SharedSecret,
        login::{EncryptionRequest, EncryptionResponse, ProfileKey, TokenProof},
        version::Dialect,
    },
    task::Shutdown,
};

/// The size that every client accepts; vanilla servers use it too.
const KEY_BITS: usize = 1024;
/// A fresh key now and then, so that what one protects stays little.
const RENEW_EVERY: Duration = Duration::from_hours(4);
/// As long as vanilla's.
const TOKEN_LEN: usize = 4;
/// An AES-128 key.
const SECRET_LEN: usize = 16;

/// A key pair and its public half as clients get it.
pub struct ServerKey {
    opener: Opener,
    public_der: Vec<u8>,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey([REDACTED])")
    }
}

/// A key could not be made: the system's random generator or the RSA library failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an RSA key: {0}")]
pub struct KeyError(String);

impl ServerKey {
    fn generate() -> Result<Self, KeyError> {
        let fail = |error: &dyn std::fmt::Display| KeyError(error.to_string());
        let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|e| fail(&e))?;
        let public_der = private.to_public_key().to_public_key_der().map_err(|e| fail(&e))?.into_vec();
        let opener = Opener::new(&private).ok_or_else(|| fail(&"not two primes of half its length"))?;
        Ok(Self { opener, public_der })
    }

    /// The public half, X.509 DER.
    pub fn public_der(&self) -> &[u8] {
        &self.public_der
    }
}

/// The key in use, renewed while the program runs. A login keeps the key it began with.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Arc<Mutex<Arc<ServerKey>>>,
    lanes: Lanes,
}

/// Responses being opened. More than one a core would not be faster, and a flood of forged ones would take every thread
/// that session documents are read and written on. Strangers have lanes of their own, and no more than half of the
/// cores: known players never wait behind them, and those who are in keep the other half.
#[derive(Clone, Debug)]
struct Lanes {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Lanes {
    fn new(cores: usize) -> Self {
        Self {
            known: Arc::new(Semaphore::new(cores)),
            strangers: Arc::new(Semaphore::new((cores / 2).max(1))),
        }
    }

    fn of(&self, standing: Standing) -> &Arc<Semaphore> {
        match standing {
            Standing::Known => &self.known,
            Standing::Unknown => &self.strangers,
        }
    }
}

impl Keys {
    /// Makes the first key; some ten milliseconds of work.
    pub fn generate() -> Result<Self, KeyError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { current: Arc::new(Mutex::new(Arc::new(ServerKey::generate()?))), lanes: Lanes::new(cores) })
    }

    /// The key for a login that begins now.
    pub fn current(&self) -> Arc<ServerKey> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Renews the key every few hours until the program stops.
    pub async fn renew(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            match tokio::task::spawn_blocking(ServerKey::generate).await {
                Ok(Ok(key)) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    debug!("renewed the RSA key");
                }
                Ok(Err(error)) => error!(%error, "keeping the old RSA key"),
                Err(_) => error!("keeping the old RSA key: making a new one panicked"),
            }
        }
    }
}

/// An encryption request under way: the key it was made with and the token that must come back.
#[derive(Debug)]
pub struct Challenge {
    key: Arc<ServerKey>,
    token: [u8; TOKEN_LEN],
    lanes: Lanes,
}

/// What a client proved by its encryption response: it holds the secret and saw our token.
#[derive(Debug)]
pub struct Keyed {
    /// The secret that keys the cipher.
    pub secret: SharedSecret,
    /// The hash under which the client joined at the session server.
    pub server_id_hash: String,
    /// The key that login start brought: the client signed our token with it. `None` if it brought none.
    pub held_key: Option<HeldKey>,
}

/// An encryption response that proves nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BadResponse {
    /// Not encrypted with our key, or not 16 bytes.
    #[error("the shared secret does not decrypt to 16 bytes")]
    Secret,
    /// Another token than ours. The client has switched its cipher on, so a refusal must be encrypted with its secret.
    #[error("the verify token is not the one that was sent")]
    Token(SharedSecret),
    /// Login start brought a key, and the token is not signed with it. The game always signs then, and its own servers
    /// refuse a client that does not: such a key is somebody else's. As above, the cipher is on.
    #[error("the verify token is not signed with the key of login start")]
    NotSigned(SharedSecret),
    /// The system's random generator failed.
    #[error("no random numbers")]
    NoRandom,
}

impl Challenge {
    /// A challenge with the current key and a fresh token.
    pub fn new(keys: &Keys) -> Result<Self, BadResponse> {
        let mut token = [0; TOKEN_LEN];
        getrandom::fill(&mut token).map_err(|_| BadResponse::NoRandom)?;
        Ok(Self { key: keys.current(), token, lanes: keys.lanes.clone() })
    }

    /// The request to send.
    pub fn request(&self, dialect: &Dialect, should_authenticate: bool) -> Vec<u8> {
        EncryptionRequest {
            public_key: self.key.public_der(),
            verify_token: &self.token,
            should_authenticate,
        }
        .write(dialect)
    }

    /// Checks the response: at most two RSA decryptions, off the network threads. A client that brought `profile_key`
    /// must have signed the token with it. Waits its turn behind others of the same standing; their number is that of
    /// logins under way, and the login's deadline bounds the wait.
    pub async fn accept(
        self,
        response: EncryptionResponse,
        profile_key: Option<Box<ProfileKey>>,
        standing: Standing,
    ) -> Result<Keyed, BadResponse> {
        // The semaphore is never closed. The permit goes with the work, which outlives a login that is cut short.
        let permit = Arc::clone(self.lanes.of(standing)).acquire_owned().await;
        let work = move || {
            let opened = self.open(&response, profile_key);
            drop(permit);
            opened
        };
        // A panic in there proves nothing either.
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(BadResponse::Secret))
    }

    fn open(
        &self,
        response: &EncryptionResponse,
        profile_key: Option<Box<ProfileKey>>,
    ) -> Result<Keyed, BadResponse> {
        // Both are decrypted in any case: how long a refusal takes must not tell which of them was wrong.
        let secret = self.key.opener.open::<SECRET_LEN>(&response.secret);
        let proven: Result<Option<HeldKey>, fn(SharedSecret) -> BadResponse> = match &response.proof {
            TokenProof::Encrypted(token) => {
                let token = self.key.opener.open::<TOKEN_LEN>(token);
                let is_ours = token.is_some_and(|token| token.ct_eq(&self.token).into());
                match (is_ours, profile_key) {
                    (false, _) => Err(BadResponse::Token),
                    (true, Some(_)) => Err(BadResponse::NotSigned),
                    (true, None) => Ok(None),
                }
            }
            TokenProof::Signed { salt, signature } => profile_key
                .and_then(|key| HeldKey::prove(key, &self.token, *salt, signature))
                .map(Some)
                .ok_or(BadResponse::Token),
        };
        let secret = secret.and_then(|secret| SharedSecret::new(&*secret)).ok_or(BadResponse::Secret)?;
        let held_key = match proven {
            Ok(held_key) => held_key,
            Err(bad) => return Err(bad(secret)),
        };
        let server_id_hash = server_id_hash("", &secret, self.key.public_der());
        Ok(Keyed { secret, server_id_hash, held_key })
    }
}

/// The hash that ties a join at the session server to this connection: SHA-1 over server id, shared secret and public
/// key, written as a signed hexadecimal number without leading zeros.
pub fn server_id_hash(server_id: &str, secret: &SharedSecret, public_der: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(server_id)
        .chain_update(secret.as_bytes())
        .chain_update(public_der)
        .finalize();
    signed_hex(&digest)
}

fn signed_hex(digest: &[u8]) -> String {
    let negative = digest.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude = digest.to_vec();
    if negative {
        // Two's complement: invert, add one from the last byte on.
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (inverted, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = inverted;
            carry = overflow;
        }
    }
    let mut hex = String::with_capacity(2 * magnitude.len());
    for byte in &magnitude {
        for nibble in [byte >> 4, byte & 0xf] {
            hex.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    let digits = hex.trim_start_matches('0');
    let sign = if negative { "-" } else { "" };
    if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") }
}

#[cfg(test)]
mod tests {
    use rsa::{
        Pkcs1v15Encrypt, RsaPublicKey,
        pkcs1v15::SigningKey,
        pkcs8::DecodePublicKey,
        sha2::Sha256,
        signature::{SignatureEncoding, Signer},
    };

    use super::*;

    #[test]
    fn hashes_of_names() {
        // Published examples of the signed form: SHA-1 of the name alone.
        for (name, expected) in [
            ("Notch", "4ed1f46bbe04bc756bcb17c0c7ce3e4632f06a48"),
            ("jeb_", "-7c9d5b0044c130109a5d7b5fb5c317c02b4e28c1"),
            ("simon", "88e16a1019277b15d58faf0541e11910eb756f6"),
        ] {
            assert_eq!(signed_hex(&Sha1::digest(name)), expected);
        }
        assert_eq!(signed_hex(&[0, 0]), "0");
        assert_eq!(signed_hex(&[0xff, 0x00]), "-100");
    }

    #[tokio::test]
    async fn only_our_token_under_our_key_is_accepted() {
        let keys = Keys::generate().unwrap();
        let secret = [5u8; 16];
        let public = RsaPublicKey::from_public_key_der(keys.current().public_der()).unwrap();
        let encrypt = |bytes: &[u8]| public.encrypt(&mut OsRng, Pkcs1v15Encrypt, bytes).unwrap();
        let cases = |challenge: &Challenge| {
            let mut wrong = challenge.token;
            wrong[3] ^= 1;
            vec![
                (encrypt(&secret), encrypt(&challenge.token), None),
                (encrypt(&secret), encrypt(&wrong), Some("the verify token is not the one that was sent")),
                (encrypt(&secret), encrypt(&[]), Some("the verify token is not the one that was sent")),
                (
                    encrypt(&secret),
                    challenge.token.to_vec(),
                    Some("the verify token is not the one that was sent"),
                ),
                (
                    encrypt(&secret[..15]),
                    encrypt(&challenge.token),
                    Some("the shared secret does not decrypt to 16 bytes"),
                ),
                (
                    vec![1; 128],
                    encrypt(&challenge.token),
                    Some("the shared secret does not decrypt to 16 bytes"),
                ),
                (Vec::new(), Vec::new(), Some("the shared secret does not decrypt to 16 bytes")),
            ]
        };
        for case in 0..7 {
            let challenge = Challenge::new(&keys).unwrap();
            let (secret, token, error) = cases(&challenge).swap_remove(case);
            let response = EncryptionResponse { secret, proof: TokenProof::Encrypted(token) };
            let found =
                challenge.accept(response, None, Standing::Unknown).await.err().map(|bad| bad.to_string());
            assert_eq!(found.as_deref(), error, "case {case}");
        }
    }

    #[tokio::test]
    async fn a_signed_token_needs_the_key_of_login_start() {
        let keys = Keys::generate().unwrap();
        let player = RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
        let other = RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
        let profile_key = |key: &RsaPrivateKey| ProfileKey {
            expires: 0,
            key: key.to_public_key().to_public_key_der().unwrap().into_vec(),
            signature: Vec::new(),
        };
        let public = RsaPublicKey::from_public_key_der(keys.current().public_der()).unwrap();
        let encrypt = |bytes: &[u8]| public.encrypt(&mut OsRng, Pkcs1v15Encrypt, bytes).unwrap();
        let salt = 77i64;
        let signed = |token: &[u8], salt: i64| {
            let signature = SigningKey::<Sha256>::new(player.clone());
            TokenProof::Signed {
                salt: 77,
                signature: signature.sign(&[token, &salt.to_be_bytes()].concat()).to_vec(),
            }
        };
        let encrypted = |token: &[u8]| TokenProof::Encrypted(encrypt(token));
        let (token, unsigned) = (
            "the verify token is not the one that was sent",
            "the verify token is not signed with the key of login start",
        );
        let brought = |key| Some(Box::new(profile_key(key)));
        let (own, theirs) = (brought(&player), brought(&other));
        for (case, brought, proof, expected) in [
            ("own key", &own, &signed as &dyn Fn(&[u8], i64) -> TokenProof, Ok(true)),
            ("another's key", &theirs, &signed, Err(token)),
            ("no key", &None, &signed, Err(token)),
            ("another salt", &own, &|token, _| signed(token, salt + 1), Err(token)),
            ("another token", &own, &|_, salt| signed(&[1; TOKEN_LEN], salt), Err(token)),
            ("encrypted", &None, &|token, _| encrypted(token), Ok(false)),
            ("encrypted in spite of a key", &own, &|token, _| encrypted(token), Err(unsigned)),
            ("encrypted wrong in spite of a key", &own, &|_, _| encrypted(&[1; TOKEN_LEN]), Err(token)),
        ] {
            let challenge = Challenge::new(&keys).unwrap();
            let proof = proof(&challenge.token, salt);
            let response = EncryptionResponse { secret: encrypt(&[1; 16]), proof };
            match (challenge.accept(response, brought.clone(), Standing::Unknown).await, expected) {
                (Ok(keyed), Ok(held)) => assert_eq!(keyed.held_key.is_some(), held, "{case}"),
                (Err(bad), Err(expected)) => {
                    assert_eq!(bad.to_string(), expected, "{case}");
                    // The client has switched its cipher on: it is to read the refusal.
                    assert!(matches!(bad, BadResponse::Token(_) | BadResponse::NotSigned(_)), "{case}");
                }
                (found, _) => panic!("{case}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn responses_are_opened_a_few_at_a_time_and_known_players_wait_behind_no_stranger() {
        let keys = Keys::generate().unwrap();
        let empty = || EncryptionResponse { secret: Vec::new(), proof: TokenProof::Encrypted(Vec::new()) };
        for (standing, other) in [(Standing::Unknown, Standing::Known), (Standing::Known, Standing::Unknown)]
        {
            let lane = keys.lanes.of(standing);
            let width = lane.available_permits();
            let busy = Arc::clone(lane).acquire_many_owned(u32::try_from(width).unwrap()).await.unwrap();
            let mut opening = Box::pin(Challenge::new(&keys).unwrap().accept(empty(), None, standing));
            tokio::select! {
                biased;
                _ = &mut opening => panic!("did not wait its turn"),
                () = tokio::task::yield_now() => {}
            }
            // Passes by those who wait.
            assert!(Challenge::new(&keys).unwrap().accept(empty(), None, other).await.is_err());
            drop(busy);
            assert!(opening.await.is_err());
            assert_eq!(keys.lanes.of(standing).available_permits(), width);
        }
        for (cores, strangers) in [(1, 1), (2, 1), (3, 1), (8, 4)] {
            let lanes = Lanes::new(cores);
            assert_eq!(lanes.known.available_permits(), cores);
            assert_eq!(lanes.strangers.available_permits(), strangers);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewal_leaves_logins_under_way_alone() {
        let keys = Keys::generate().unwrap();
        let challenge = Challenge::new(&keys).unwrap();
        let before = keys.current();
        let (trigger, shutdown) = Shutdown::new();
        let renewing = tokio::spawn(keys.clone().renew(shutdown));
        while Arc::ptr_eq(&before, &keys.current()) {
            tokio::time::sleep(Duration::from_mins(10)).await;
        }
        let public = RsaPublicKey::from_public_key_der(challenge.key.public_der()).unwrap();
        let encrypt = |bytes: &[u8]| public.encrypt(&mut OsRng, Pkcs1v15Encrypt, bytes).unwrap();
        let response = EncryptionResponse {
            secret: encrypt(&[1; 16]),
            proof: TokenProof::Encrypted(encrypt(&challenge.token)),
        };
        assert!(challenge.accept(response, None, Standing::Known).await.is_ok());
        trigger.trigger();
        renewing.await.unwrap();
    }
}
