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

#![expect(
    clippy::inline_always,
    reason = "only inside the backend's own function are its instructions enabled"
)]

use std::sync::Arc;

use aes::{
    Aes128Enc, Block,
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

/// The next bytes of one stream, to be encrypted in place.
#[derive(Debug)]
pub struct Portion<'a> {
    /// The stream's cipher.
    pub encryptor: &'a mut Encryptor,
    /// The bytes that come next in the stream.
    pub bytes: &'a mut [u8],
}

/// Chains that are taken on together. Their steps fill the time that each would otherwise wait for its last block.
const LANES: usize = 4;

/// Encrypts the next bytes of independent streams in place, each as [`Encryptor::apply`] would, in a fraction of the
/// time that one after the other takes. Lengths may be as uneven as they come: a portion that is done makes room for the
/// next. Several portions of one stream cannot be given, as each borrows its cipher.
pub fn encrypt_together<'a>(portions: impl IntoIterator<Item = Portion<'a>>) {
    let mut waiting = portions.into_iter().filter(|portion| !portion.bytes.is_empty());
    let mut lanes: [Option<Portion<'a>>; LANES] = [const { None }; LANES];
    loop {
        for lane in &mut lanes {
            if lane.as_ref().is_none_or(|portion| portion.bytes.is_empty()) {
                *lane = waiting.next();
            }
        }
        lanes.sort_unstable_by_key(Option::is_none);
        let steps = lanes.iter().flatten().map(|portion| portion.bytes.len()).min().unwrap_or(0);
        match lanes.each_mut().map(Option::as_mut) {
            [Some(a), Some(b), Some(c), Some(d)] => {
                (a.cut(steps), (b.cut(steps), (c.cut(steps), (d.cut(steps), ())))).enter(());
            }
            [Some(a), Some(b), Some(c), None] => (a.cut(steps), (b.cut(steps), (c.cut(steps), ()))).enter(()),
            [Some(a), Some(b), None, None] => (a.cut(steps), (b.cut(steps), ())).enter(()),
            [Some(a), ..] => (a.cut(steps), ()).enter(()),
            [None, ..] => return,
        }
    }
}

impl Portion<'_> {
    /// Takes the first bytes, as many as all lanes have.
    fn cut(&mut self, len: usize) -> Chain<'_> {
        let bytes = std::mem::take(&mut self.bytes);
        let (now, later) = bytes.split_at_mut(len);
        self.bytes = later;
        Chain { aes: &self.encryptor.aes, register: &mut self.encryptor.register, bytes: now }
    }
}

impl Encryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        pair(secret).0
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let chain = Chain { aes: &self.aes, register: &mut self.register, bytes };
        (chain, ()).enter(());
    }
}

/// One stream's part in a loop over several.
struct Chain<'a> {
    aes: &'a Aes128Enc,
    register: &'a mut [u8; 16],
    bytes: &'a mut [u8],
}

/// A list of chains that still have to get their backend: a loop must run inside the backends of all its chains, as a
/// call from outside for each block would load the round keys anew.
trait Waiting {
    /// Enters the backends one inside the other, then runs the loop.
    fn enter(self, running: impl Running);
}

/// A list of chains inside their backends.
trait Running {
    /// Encrypts the next byte of each chain. `None` at the end.
    fn step(&mut self) -> Option<()>;
    /// Keeps the registers.
    fn leave(self);
}

impl Waiting for () {
    #[inline(always)]
    fn enter(self, mut running: impl Running) {
        while running.step().is_some() {}
        running.leave();
    }
}

impl<W: Waiting> Waiting for (Chain<'_>, W) {
    #[inline(always)]
    fn enter(self, running: impl Running) {
        let (chain, waiting) = self;
        chain.aes.encrypt_with_backend(Entry { chain, waiting, running });
    }
}

/// The entry of one chain into its backend.
struct Entry<'a, W, R> {
    chain: Chain<'a>,
    waiting: W,
    running: R,
}

impl<W, R> BlockSizeUser for Entry<'_, W, R> {
    type BlockSize = U16;
}

impl<W: Waiting, R: Running> BlockCipherEncClosure for Entry<'_, W, R> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let register = u128::from_le_bytes(*self.chain.register);
        let lane = Lane { backend, register, kept: self.chain.register, bytes: self.chain.bytes.iter_mut() };
        self.waiting.enter((lane, self.running));
    }
}

/// A chain inside its backend.
struct Lane<'a, 'b, B> {
    backend: &'b B,
    /// The register, its first byte lowest.
    register: u128,
    kept: &'a mut [u8; 16],
    bytes: std::slice::IterMut<'a, u8>,
}

impl Running for () {
    #[inline(always)]
    fn step(&mut self) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn leave(self) {}
}

impl<B: BlockCipherEncBackend<BlockSize = U16>, R: Running> Running for (Lane<'_, '_, B>, R) {
    #[inline(always)]
    fn step(&mut self) -> Option<()> {
        let (lane, others) = self;
        let byte = lane.bytes.next()?;
        let mut block = Block::from(lane.register.to_le_bytes());
        lane.backend.encrypt_block((&mut block).into());
        *byte ^= first(&block);
        lane.register = lane.register >> 8 | u128::from(*byte) << 120;
        others.step()
    }

    #[inline(always)]
    fn leave(self) {
        let (lane, others) = self;
        *lane.kept = lane.register.to_le_bytes();
        others.leave();
    }
}

impl Decryptor {
    /// The cipher at the start of its stream.
    pub fn new(secret: &SharedSecret) -> Self {
        pair(secret).1
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let mut blocks = [Block::default(); SIDE_BY_SIDE];
        let mut register = u128::from_le_bytes(self.register);
        for chunk in bytes.chunks_mut(SIDE_BY_SIDE) {
            for (block, byte) in blocks.iter_mut().zip(&*chunk) {
                *block = register.to_le_bytes().into();
                register = register >> 8 | u128::from(*byte) << 120;
            }
            let (laid_out, _) = blocks.split_at_mut(chunk.len());
            self.aes.encrypt_blocks(laid_out);
            for (byte, block) in chunk.iter_mut().zip(&*laid_out) {
                *byte ^= first(block);
            }
        }
        self.register = register.to_le_bytes();
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
            streams in vec((any::<[u8; 16]>(), vec(0u8.., 0..400)), 1..=9),
            rounds in vec(vec((0usize..150, 0u8..4), 9), 0..8),
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
