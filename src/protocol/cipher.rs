//! AES-128-CFB8, the link cipher: key and first register are both the shared secret.
//!
//! Each byte is combined with the first byte of the encrypted register, and the register takes up the ciphertext byte
//! at its end. What is decrypted is known ciphertext from the first byte on, so all registers of a buffer can be laid
//! out beforehand and encrypted side by side. What is encrypted is one long chain: each block waits for the one before.

use aes::{
    Aes128, Block,
    cipher::{
        BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16,
    },
};

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

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret([REDACTED])")
    }
}

/// Registers laid out at once: more than any processor's pipeline holds, and still small on the stack (1 KiB).
const SIDE_BY_SIDE: usize = 64;

/// One direction's encryption. Bytes must pass in order, each once.
pub struct Encryptor {
    aes: Aes128,
    /// The register, first byte uppermost.
    register: u128,
}

/// One direction's decryption. Bytes must pass in order, each once.
pub struct Decryptor {
    aes: Aes128,
    /// The register, first byte uppermost.
    register: u128,
}

impl Encryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        Self { aes: Aes128::new(&secret.0.into()), register: u128::from_be_bytes(secret.0) }
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.aes.encrypt_with_backend(Chain { register: &mut self.register, bytes });
    }
}

/// The chain of one buffer, run inside the backend: a call from outside for each block would load the round keys anew.
struct Chain<'a> {
    register: &'a mut u128,
    bytes: &'a mut [u8],
}

impl BlockSizeUser for Chain<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chain<'_> {
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "only inside the backend's own function are its instructions enabled"
    )]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut register = *self.register;
        for byte in self.bytes {
            let mut block = Block::from(register.to_be_bytes());
            backend.encrypt_block((&mut block).into());
            *byte ^= first(&block);
            register = register << 8 | u128::from(*byte);
        }
        *self.register = register;
    }
}

impl Decryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        Self { aes: Aes128::new(&secret.0.into()), register: u128::from_be_bytes(secret.0) }
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let mut blocks = [Block::default(); SIDE_BY_SIDE];
        for chunk in bytes.chunks_mut(SIDE_BY_SIDE) {
            for (block, byte) in blocks.iter_mut().zip(&*chunk) {
                *block = self.register.to_be_bytes().into();
                self.register = self.register << 8 | u128::from(*byte);
            }
            let (laid_out, _) = blocks.split_at_mut(chunk.len());
            self.aes.encrypt_blocks(laid_out);
            for (byte, block) in chunk.iter_mut().zip(&*laid_out) {
                *byte ^= first(block);
            }
        }
    }
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
    use cfb8::cipher::KeyIvInit;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The `cfb8` crate is the oracle, whatever the stream is cut into.
        #[test]
        fn equal_to_the_reference_however_cut(
            secret: [u8; 16],
            plain in proptest::collection::vec(0u8.., 0..700),
            cuts in proptest::collection::vec(0usize..200, 0..20),
        ) {
            let key = (&secret).into();
            let mut expected = plain.clone();
            cfb8::Encryptor::<Aes128>::new(key, key).encrypt(&mut expected);

            let secret = SharedSecret(secret);
            let (mut encryptor, mut decryptor) = (Encryptor::new(&secret), Decryptor::new(&secret));
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
    }

    #[test]
    fn every_split_point() {
        let secret = SharedSecret(*b"sixteen bytes!!!");
        let plain: Vec<u8> = (0..150u8).collect();
        let mut whole = plain.clone();
        Encryptor::new(&secret).apply(&mut whole);
        for cut in 0..=plain.len() {
            let mut bytes = plain.clone();
            let (mut encryptor, mut decryptor) = (Encryptor::new(&secret), Decryptor::new(&secret));
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
}
