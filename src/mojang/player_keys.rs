//! The keys that players of 1.19 to 1.19.2 sign their chat with, and Mojang's own, which vouch for them.
//!
//! A [`ProvenKey`] is the only kind that a backend is ever told of. Mojang signs SHA1withRSA, PKCS #1 v1.5, with any of
//! the keys it publishes as `playerCertificateKeys`. One of them also signs the values of profile properties (base64
//! text). Nothing that is signed for one purpose passes for another: what a player's key is checked against either
//! begins with digits that `-----BEGIN` follows, or holds, behind 24 bytes, a key of exactly one possible encoding,
//! whose bytes are no text.

use std::{
    fmt,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Client, StatusCode, Url};
use rsa::{
    Pkcs1v15Sign, RsaPublicKey,
    pkcs1v15::{Signature, VerifyingKey},
    pkcs8::{
        DecodePublicKey, EncodePublicKey, LineEnding,
        der::pem::{self, Base64Decoder},
    },
    sha2::Sha256,
    signature::Verifier,
    traits::PublicKeyParts,
};
use serde::Deserialize;
use serde_json::Value;
use sha1::{Digest, Sha1};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    classify::{Outcome, judge_failure},
    health::{Status, Verdict},
    session_server::{BuildError, builder, read_body, url_below},
};
use crate::{clock::Clock, protocol::login::ProfileKey, task::Shutdown};

/// How often Mojang's keys are fetched anew: as often as the game does. They change once in years.
const REFRESH: Duration = Duration::from_hours(24);
/// The wait after a failed fetch; each further one doubles it, up to [`REFRESH`].
const FIRST_RETRY: Duration = Duration::from_mins(5);
/// Shortest time between two fetches when the verdict has become Up again: one that flickers causes no flood.
const RETRY_GAP: Duration = Duration::from_secs(10);
/// Most keys of Mojang that are kept: a forged player key costs one verification with each.
const MAX_KEYS: usize = 16;
/// Sizes of Mojang's keys that are believed, in bits. Today's have 4096, the most that the RSA library takes.
const MOJANG_KEY_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The size of a player's key, in bits.
const PLAYER_KEY_BITS: usize = 2048;
/// Characters in a line of the text that is signed for 1.19.
const PEM_WIDTH: usize = 76;

/// What stands before the hash in such a signature: the beginning of a DigestInfo with SHA-1 (RFC 8017, 9.2, note 1).
const SHA1_INFO: [u8; 15] =
    [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];
/// Length of the hash, in bytes.
const SHA1_LEN: usize = 20;

/// Where Mojang's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Base URL without a trailing slash; `/publickeys` is appended.
    pub services: Url,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// A player's key whose private half signed our verify token: whoever is at the other end of this connection holds it.
/// Says nothing about whose it is. Made only by [`HeldKey::prove`].
#[derive(Debug)]
pub struct HeldKey(Box<ProfileKey>);

impl HeldKey {
    /// Checks that the key signed `token` and `salt` (SHA256withRSA); `None` if it did not or is no RSA key.
    pub fn prove(key: Box<ProfileKey>, token: &[u8], salt: i64, signature: &[u8]) -> Option<Self> {
        let public = RsaPublicKey::from_public_key_der(&key.key).ok()?;
        let signature = Signature::try_from(signature).ok()?;
        let message = [token, &salt.to_be_bytes()].concat();
        VerifyingKey::<Sha256>::new(public).verify(&message, &signature).ok()?;
        Some(Self(key))
    }
}

/// What is to be proven of a player's key. The two forms of Mojang's signature differ in what else has to be known.
#[derive(Debug)]
pub enum Claim {
    /// 1.19: the signature names nobody, so anybody could bring a key seen elsewhere. Only its holder may.
    Held(HeldKey),
    /// 1.19.1 and 1.19.2: the signature names this player.
    BelongsTo(Box<ProfileKey>, Uuid),
}

impl Claim {
    fn key(&self) -> &ProfileKey {
        match self {
            Self::Held(HeldKey(key)) | Self::BelongsTo(key, _) => key,
        }
    }

    /// The bytes that Mojang signs if the claim is true. `None` if there is no such text, which no key leads to.
    fn message(&self) -> Option<Vec<u8>> {
        match self {
            // The time in decimal, and right behind it the key as text.
            Self::Held(HeldKey(key)) => {
                let (label, end) = ("RSA PUBLIC KEY", LineEnding::LF);
                let len = pem::encapsulated_len_wrapped(label, PEM_WIDTH, end, key.key.len()).ok()?;
                let mut text = vec![0; len];
                let mut encoder = pem::Encoder::new_wrapped(label, PEM_WIDTH, end, &mut text).ok()?;
                encoder.encode(&key.key).ok()?;
                let written = encoder.finish().ok()?;
                text.truncate(written);
                Some([key.expires.to_string().as_bytes(), &text].concat())
            }
            Self::BelongsTo(key, id) => {
                Some([&id.as_bytes()[..], &key.expires.to_be_bytes(), &key.key].concat())
            }
        }
    }
}

/// A player's key that Mojang signed and that has not expired. Made only by [`PlayerKeys::prove`].
#[derive(Debug, PartialEq, Eq)]
pub struct ProvenKey {
    /// Apart: few players have one, and each login under way has room for it.
    key: Box<ProfileKey>,
    owner: Option<Uuid>,
}

impl ProvenKey {
    /// The key, its expiry and Mojang's signature.
    pub fn key(&self) -> &ProfileKey {
        &self.key
    }

    /// The player whom Mojang's signature names; `None` in its older form, which names nobody.
    pub fn owner(&self) -> Option<Uuid> {
        self.owner
    }

    /// Only for tests of rooms that take a proven key.
    #[cfg(test)]
    pub(crate) fn for_test(key: ProfileKey, owner: Option<Uuid>) -> Self {
        Self { key: Box::new(key), owner }
    }
}

/// Why a player's key was not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyDoubt {
    /// There is nothing to check it with: Mojang's keys were not fetched yet.
    #[error("Mojang's keys are not known yet")]
    NoMojangKeys,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Not an RSA key of 2048 bits in its one canonical encoding.
    #[error("it is no RSA key of 2048 bits")]
    BadKey,
    /// None of Mojang's keys signed it, or not for this player.
    #[error("Mojang did not sign it for this player")]
    BadSignature,
    /// It names nobody, and this login did not show that the client holds it.
    #[error("the client did not show that it holds it")]
    NotHeld,
}

impl KeyDoubt {
    /// The stable lower-case name for audit.log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoMojangKeys => "no-mojang-keys",
            Self::Expired => "expired",
            Self::BadKey => "bad-key",
            Self::BadSignature => "bad-signature",
            Self::NotHeld => "not-held",
        }
    }
}

/// Mojang's keys as far as they are known, and what they prove. Clones share them.
#[derive(Clone)]
pub struct PlayerKeys(Arc<Shared>);

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Another service is to be asked from now on.
    changed: Notify,
    /// Signatures being checked: one a core. More would not be faster, and the threads are also those that session
    /// documents are read and written on.
    at_work: Arc<Semaphore>,
}

/// Who is asked, and what it said.
struct State {
    service: Arc<Service>,
    /// Empty until the first fetch. Kept through everything that a later one may come to.
    mojang: Arc<[RsaPublicKey]>,
}

/// How Mojang's keys are asked for.
struct Service {
    config: Config,
    client: Client,
    url: Url,
}

impl Service {
    fn new(config: &Config) -> Result<Self, BuildError> {
        Ok(Self {
            config: config.clone(),
            // Used once a day: a connection is not worth keeping.
            client: builder(config.timeout).pool_max_idle_per_host(0).build()?,
            url: url_below(&config.services, &["publickeys"]).ok_or(BuildError::Url)?,
        })
    }

    async fn download(&self) -> Result<Arc<[RsaPublicKey]>, FetchError> {
        let sent = self.client.get(self.url.clone()).send().await;
        let response = sent.map_err(|error| FetchError::Call(judge_failure(&error, false)))?;
        match response.status() {
            StatusCode::OK => read_keys(&read_body(response).await.map_err(FetchError::Call)?),
            status => Err(FetchError::Status(status.as_u16())),
        }
    }
}

/// Another service, ready to be asked; see [`PlayerKeys::prepare`].
pub struct Prepared(Arc<Service>);

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("url", &self.0.url.as_str()).finish()
    }
}

impl fmt::Debug for PlayerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.service().url.to_string();
        f.debug_struct("PlayerKeys").field("url", &url).finish_non_exhaustive()
    }
}

impl PlayerKeys {
    /// Sets up the HTTP client; connects to nothing, knows no keys. The clock tells which keys have expired.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self(Arc::new(Shared {
            clock,
            state: Mutex::new(State { service: Arc::new(Service::new(config)?), mojang: Arc::default() }),
            changed: Notify::new(),
            at_work: Arc::new(Semaphore::new(cores)),
        })))
    }

    /// Makes ready to ask as another configuration says. Connects to nothing, changes nothing.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn prepare(&self, config: &Config) -> Result<Prepared, BuildError> {
        let service = self.service();
        if service.config == *config {
            return Ok(Prepared(service));
        }
        Service::new(config).map(|service| Prepared(Arc::new(service)))
    }

    /// Asks so from now on. Of another service nothing is known yet: it is asked soon, and until it has answered no key is
    /// proven. What the one before may yet say counts no more.
    pub fn adopt(&self, Prepared(service): Prepared) {
        let mut state = self.state();
        if state.service.url != service.url {
            state.mojang = Arc::default();
            self.0.changed.notify_one();
        }
        state.service = service;
    }

    /// Checks Mojang's signature on a player's key, off the network threads: about a millisecond.
    /// A forged key costs whoever brings it nothing, so this is for players who were admitted. Never waits for a
    /// fetch; waits its turn behind others, which the login's deadline bounds.
    pub async fn prove(&self, claim: Claim) -> Result<ProvenKey, KeyDoubt> {
        let mojang = self.mojang();
        if mojang.is_empty() {
            return Err(KeyDoubt::NoMojangKeys);
        }
        if claim.key().expires <= self.0.clock.now().as_millisecond() {
            return Err(KeyDoubt::Expired);
        }
        // The semaphore is never closed. The permit goes with the work, which outlives a login that is cut short.
        let permit = Arc::clone(&self.0.at_work).acquire_owned().await;
        let work = move || {
            let proven = check(claim, &mojang);
            drop(permit);
            proven
        };
        // A panic in there proves nothing either.
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(KeyDoubt::BadKey))
    }

    /// Fetches Mojang's keys until the program stops: as soon as the session server is known to be up, every 24 h, and
    /// after a failure again, later each time, or when the verdict becomes Up anew. Asks nothing while it is not Up.
    pub async fn refresh(self, verdict: watch::Receiver<Status>, stop: Shutdown) {
        tokio::select! {
            () = stop.requested() => {}
            () = self.keep_fresh(verdict) => {}
        }
    }

    /// Begins anew whenever another service is to be asked.
    async fn keep_fresh(&self, verdict: watch::Receiver<Status>) {
        loop {
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = keep_fresh(verdict.clone(), || self.fetch()) => return,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mojang(&self) -> Arc<[RsaPublicKey]> {
        Arc::clone(&self.state().mojang)
    }

    fn service(&self) -> Arc<Service> {
        Arc::clone(&self.state().service)
    }

    /// One fetch. Whatever goes wrong, the keys known before stay.
    async fn fetch(&self) -> Result<(), FetchError> {
        let service = self.service();
        let keys = service.download().await?;
        tracing::debug!(keys = keys.len(), "fetched Mojang's keys for player certificates");
        let mut state = self.state();
        // Else it is another's word by now.
        if state.service.url == service.url {
            state.mojang = keys;
        }
        Ok(())
    }

    /// Asks for Mojang's keys once, for a report, and keeps nothing. Returns how many can be used.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn examine(&self) -> Result<usize, FetchError> {
        self.service().download().await.map(|keys| keys.len())
    }
}

/// Why Mojang's keys could not be fetched.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchError {
    /// No whole answer.
    Call(Outcome),
    /// An answer of another status than 200, redirects among them.
    Status(u16),
    /// Not what the service publishes.
    NotKeys,
    /// None of the keys is usable.
    NoKey,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(Outcome::Unreachable(why)) => why.fmt(f),
            Self::Call(Outcome::Unexpected(oddity)) => oddity.fmt(f),
            Self::Call(Outcome::Local(fault)) => fault.fmt(f),
            Self::Call(other) => other.class().fmt(f),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NotKeys => f.write_str("the answer is no list of keys"),
            Self::NoKey => f.write_str("the answer holds no usable key"),
        }
    }
}

/// The endless round of [`PlayerKeys::refresh`]; ends if the health monitor does.
async fn keep_fresh<F, Fut>(mut status: watch::Receiver<Status>, fetch: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), FetchError>>,
{
    let mut due = Instant::now();
    let mut retry = FIRST_RETRY;
    // When the last fetch failed, if it did.
    let mut failed: Option<Instant> = None;
    loop {
        if status.wait_for(|status| status.verdict == Verdict::Up).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            left = status.wait_for(|status| status.verdict != Verdict::Up) => {
                if left.is_err() {
                    return;
                }
                // Up anew is a reason for new hope.
                if let Some(failed) = failed {
                    due = due.min(failed + RETRY_GAP);
                    retry = FIRST_RETRY;
                }
                continue;
            }
        }
        match fetch().await {
            Ok(()) => {
                (failed, retry) = (None, FIRST_RETRY);
                due = Instant::now() + REFRESH;
            }
            Err(error) => {
                let now = Instant::now();
                // No warning: few players have such a client.
                tracing::info!(
                    again_in_minutes = retry.as_secs() / 60,
                    "Mojang's keys for player certificates could not be fetched: {error}. Those fetched before stay in \
                     use; if there are none, the chat keys of 1.19 to 1.19.2 clients are not forwarded. If this goes on, \
                     check auth.services"
                );
                (failed, due) = (Some(now), now + retry);
                retry = (2 * retry).min(REFRESH);
            }
        }
    }
}

/// The body of the service's answer. It holds more than this.
#[derive(Deserialize)]
struct PublicKeys {
    #[serde(rename = "playerCertificateKeys")]
    player_certificate_keys: Vec<Value>,
}

/// Reads the published keys. One that cannot be used is left out.
fn read_keys(body: &[u8]) -> Result<Arc<[RsaPublicKey]>, FetchError> {
    let published: PublicKeys = serde_json::from_slice(body).map_err(|_| FetchError::NotKeys)?;
    let entries = &published.player_certificate_keys;
    let usable = entries.iter().filter_map(|entry| mojang_key(entry.get("publicKey")?.as_str()?));
    let keys: Arc<[_]> = usable.take(MAX_KEYS).collect();
    if keys.len() < entries.len() {
        tracing::warn!(
            left_out = entries.len() - keys.len(),
            "some of Mojang's keys for player certificates cannot be used by this version"
        );
    }
    if keys.is_empty() { Err(FetchError::NoKey) } else { Ok(keys) }
}

/// One of Mojang's keys, from the base64 of its X.509 DER.
fn mojang_key(text: &str) -> Option<RsaPublicKey> {
    let mut der = Vec::new();
    Base64Decoder::new(text.as_bytes()).ok()?.decode_to_end(&mut der).ok()?;
    let key = RsaPublicKey::from_public_key_der(&der).ok()?;
    MOJANG_KEY_BITS.contains(&key.n().bits()).then_some(key)
}

fn check(claim: Claim, mojang: &[RsaPublicKey]) -> Result<ProvenKey, KeyDoubt> {
    let key = claim.key();
    if !is_player_key(&key.key) {
        return Err(KeyDoubt::BadKey);
    }
    let message = claim.message().ok_or(KeyDoubt::BadKey)?;
    let digest = Sha1::digest(message);
    // That the signature is as long as the key that made it is part of the check.
    if !mojang.iter().any(|mojang| mojang.verify(sha1_with_rsa(), &digest, &key.signature).is_ok()) {
        return Err(KeyDoubt::BadSignature);
    }
    Ok(match claim {
        Claim::Held(HeldKey(key)) => ProvenKey { key, owner: None },
        Claim::BelongsTo(key, id) => ProvenKey { key, owner: Some(id) },
    })
}

/// PKCS #1 v1.5 over SHA-1.
fn sha1_with_rsa() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(SHA1_LEN), prefix: SHA1_INFO.into() }
}

/// Whether this is an RSA key of 2048 bits in the one encoding that DER allows.
fn is_player_key(der: &[u8]) -> bool {
    RsaPublicKey::from_public_key_der(der).is_ok_and(|key| {
        key.n().bits() == PLAYER_KEY_BITS
            && key.to_public_key_der().is_ok_and(|canonical| canonical.as_bytes() == der)
    })
}

#[cfg(test)]
mod tests;
