//! AES-128-CFB8, the link cipher: key and first register are both the shared secret.

use aes::Aes128;
use cfb8::cipher::KeyIvInit;

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

/// One direction's encryption. Bytes must pass in order, each once.
pub struct Encryptor(cfb8::Encryptor<Aes128>);

/// One direction's decryption. Bytes must pass in order, each once.
pub struct Decryptor(cfb8::Decryptor<Aes128>);

impl Encryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        Self(cfb8::Encryptor::new(&secret.0.into(), &secret.0.into()))
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.encrypt(bytes);
    }
}

impl Decryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        Self(cfb8::Decryptor::new(&secret.0.into(), &secret.0.into()))
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.decrypt(bytes);
    }
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
