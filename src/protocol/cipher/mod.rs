//! AES-128-CFB8, the link cipher: key and first register are both the shared secret.
//!
//! Each byte is combined with the first byte of the encrypted register, and the register takes up the ciphertext byte
//! at its end. What is decrypted is known ciphertext from the first byte on, so all registers of a buffer can be laid
//! out beforehand and encrypted side by side. What is encrypted is one long chain: each block waits for the one before.
//! The chains of different players know nothing of each other, so several are taken one step on at a time.
//!
//! ```text
//! decrypting  c0 c1 c2 c3 …      encrypting one stream        encrypting several together
//!             │  │  │  │
//!            AES AES AES AES     AES ─c0─ AES ─c1─ AES ─ …     AES ─a0─ AES ─a1─ AES ─ …
//!             │  │  │  │                                       AES ─b0─ AES ─b1─ AES ─ …
//!             p0 p1 p2 p3 …                                    AES ─d0─ AES ─d1─ AES ─ …
//! ```

mod decrypt;
mod encrypt;

use std::sync::Arc;

use aes::{
    Aes128Enc, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use secrecy::zeroize::Zeroize as _;

pub use encrypt::{Portion, encrypt_together};

/// The 16 bytes that a client chooses and sends under the server's RSA key. Never printed.
#[derive(Clone)]
pub struct SharedSecret([u8; 16]);

impl SharedSecret {
    /// Takes the decrypted bytes; `None` unless there are exactly 16.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, for the server id hash.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A key that outlives its player helps nobody but a thief.
impl Drop for SharedSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret([REDACTED])")
    }
}

/// One direction's encryption. Bytes must pass in order, each once.
pub struct Encryptor {
    aes: Arc<Aes128Enc>,
    /// The last 16 bytes that were sent.
    register: [u8; 16],
}

/// One direction's decryption. Bytes must pass in order, each once.
pub struct Decryptor {
    aes: Arc<Aes128Enc>,
    /// The last 16 bytes that came, still encrypted.
    register: [u8; 16],
}

/// Both directions' ciphers at the start of their streams. They share one key schedule.
pub fn pair(secret: &SharedSecret) -> (Encryptor, Decryptor) {
    let aes = Arc::new(Aes128Enc::new(&secret.0.into()));
    (Encryptor { aes: Arc::clone(&aes), register: secret.0 }, Decryptor { aes, register: secret.0 })
}

impl Encryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        pair(secret).0
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        encrypt::Chain { aes: &self.aes, register: &mut self.register, bytes }.encrypt();
    }
}

impl Decryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        pair(secret).1
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let before = self.register;
        self.register = match bytes.last_chunk() {
            Some(last) => *last,
            None => bytes.iter().fold(before, |register, byte| take_up(register, *byte)),
        };
        self.aes.encrypt_with_backend(decrypt::Windows { before, bytes });
    }
}

/// The register after one more ciphertext byte.
#[inline]
fn take_up(register: [u8; 16], byte: u8) -> [u8; 16] {
    (u128::from_le_bytes(register) >> 8 | u128::from(byte) << 120).to_le_bytes()
}

/// The byte of an encrypted register that the stream is combined with.
#[inline]
fn first(block: &Block) -> u8 {
    let [first, ..] = block.0;
    first
}

impl std::fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encryptor")
    }
}

impl std::fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decryptor")
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes128;
    use cfb8::cipher::KeyIvInit;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What the `cfb8` crate makes of a stream.
    fn reference(secret: [u8; 16], plain: &[u8]) -> Vec<u8> {
        let key = (&secret).into();
        let mut bytes = plain.to_vec();
        cfb8::Encryptor::<Aes128>::new(key, key).encrypt(&mut bytes);
        bytes
    }

    /// A stream on its way through our cipher, checked against the whole of it.
    struct Stream {
        encryptor: Encryptor,
        bytes: Vec<u8>,
        done: usize,
        expected: Vec<u8>,
    }

    impl Stream {
        fn new(secret: [u8; 16], plain: Vec<u8>) -> Self {
            let expected = reference(secret, &plain);
            Self { encryptor: Encryptor::new(&SharedSecret(secret)), bytes: plain, done: 0, expected }
        }

        /// The next bytes, or as many as are left.
        fn portion(&mut self, len: usize) -> Portion<'_> {
            let end = self.bytes.len().min(self.done.saturating_add(len));
            let bytes = &mut self.bytes[self.done..end];
            self.done = end;
            Portion { encryptor: &mut self.encryptor, bytes }
        }
    }

    proptest! {
        /// The `cfb8` crate is the oracle, whatever the stream is cut into.
        #[test]
        fn equal_to_the_reference_however_cut(
            secret: [u8; 16],
                plain in vec(0u8.., 0..700),
            cuts in vec(0usize..200, 0..20),
        ) {
            let expected = reference(secret, &plain);
            let (mut encryptor, mut decryptor) = pair(&SharedSecret(secret));
            let (mut encrypted, mut decrypted) = (plain.clone(), expected.clone());
            let (mut to_encrypt, mut to_decrypt) = (&mut encrypted[..], &mut decrypted[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let cut = cut.min(to_encrypt.len());
                let (now, later) = to_encrypt.split_at_mut(cut);
                encryptor.apply(now);
                to_encrypt = later;
                let (now, later) = to_decrypt.split_at_mut(cut);
                decryptor.apply(now);
                to_decrypt = later;
            }
            prop_assert_eq!(encrypted, expected);
            prop_assert_eq!(decrypted, plain);
        }

        /// Streams together, alone and left out by turns.
        #[test]
        fn together_equal_to_the_reference(
            streams in vec((any::<[u8; 16]>(), vec(0u8.., 0..400)), 1..=16),
            rounds in vec(vec((0usize..150, 0u8..4), 16), 0..8),
        ) {
            let mut streams: Vec<Stream> =
                streams.into_iter().map(|(secret, plain)| Stream::new(secret, plain)).collect();
            for round in rounds {
                let mut together = Vec::new();
                for (stream, (len, part)) in streams.iter_mut().zip(round) {
                    let portion = stream.portion(len);
                    match part {
                        0 => portion.encryptor.apply(portion.bytes),
                        _ => together.push(portion),
                    }
                }
                encrypt_together(together);
            }
            encrypt_together(streams.iter_mut().map(|stream| stream.portion(usize::MAX)));
            for stream in streams {
                prop_assert_eq!(stream.bytes, stream.expected);
            }
        }
    }

    #[test]
    fn every_split_point() {
        let secret = SharedSecret(*b"sixteen bytes!!!");
        let plain: Vec<u8> = (0..150u8).collect();
        let whole = reference(secret.0, &plain);
        for cut in 0..=plain.len() {
            let mut bytes = plain.clone();
            let (mut encryptor, mut decryptor) = pair(&secret);
            let (head, tail) = bytes.split_at_mut(cut);
            encryptor.apply(head);
            encryptor.apply(tail);
            assert_eq!(bytes, whole, "{cut}");
            let (head, tail) = bytes.split_at_mut(cut);
            decryptor.apply(head);
            decryptor.apply(tail);
            assert_eq!(bytes, plain, "{cut}");
        }
    }

    /// The second time shows that every register was kept.
    #[test]
    fn every_combination_of_lengths() {
        let lengths = || 0..4;
        for lengths in lengths().flat_map(|a| {
            let from_b = lengths().flat_map(move |b| lengths().map(move |c| [a, b, c]));
            from_b.flat_map(|[a, b, c]| lengths().flat_map(move |d| lengths().map(move |e| [a, b, c, d, e])))
        }) {
            let mut streams = [1, 2, 3, 4, 5].map(|byte| Stream::new([byte; 16], vec![byte; 6]));
            encrypt_together(streams.iter_mut().zip(lengths).map(|(stream, len)| stream.portion(len)));
            encrypt_together(streams.iter_mut().map(|stream| stream.portion(usize::MAX)));
            for stream in streams {
                assert_eq!(stream.bytes, stream.expected, "{lengths:?}");
            }
        }
    }

    /// Thousands of players are idle, each with both.
    #[test]
    fn small() {
        assert!(size_of::<Encryptor>() <= 32 && size_of::<Decryptor>() <= 32);
        assert!(size_of::<Aes128Enc>() <= 192);
    }
}
