//! Encryption: the chains of several streams, taken on together.
//!
//! A chain waits for its last block at each byte, about fifty processor cycles, in which the processor could start
//! twenty more. It looks far enough ahead to do so by itself where one loop holds the steps of several chains.
#![expect(
    clippy::inline_always,
    reason = "only inside the backend's own function are its instructions enabled"
)]

use std::slice;

use aes::{
    Aes128Enc, Block,
    cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, consts::U16},
};

use super::{Encryptor, first};

/// The next bytes of one stream, to be encrypted in place.
#[derive(Debug)]
pub struct Portion<'a> {
    /// The stream's cipher.
    pub encryptor: &'a mut Encryptor,
    /// The bytes that come next in the stream.
    pub bytes: &'a mut [u8],
}

/// Chains in one loop. With more, those that wait fill all places in which a processor keeps what it looked ahead at.
const LANES: usize = 6;

/// Portions at hand, of which the longest run.
const AT_HAND: usize = 2 * LANES;

/// Steps until others run, while some wait: all are to end at about the same time, not the last few alone. Entering the
/// backends anew costs as much as a few steps.
const TURN: usize = 64;

/// Encrypts the next bytes of independent streams in place, each as [`Encryptor::apply`] would, in a fraction of the
/// time that one after the other takes. Lengths may be as uneven as they come; long portions are best given first.
pub fn encrypt_together<'a>(portions: impl IntoIterator<Item = Portion<'a>>) {
    let mut given = portions.into_iter().filter(|portion| !portion.bytes.is_empty());
    let mut at_hand: [Option<Portion<'a>>; AT_HAND] = [const { None }; AT_HAND];
    loop {
        for place in &mut at_hand {
            if place.is_none() {
                *place = given.next();
            }
        }
        at_hand.sort_unstable_by_key(|place| {
            std::cmp::Reverse(place.as_ref().map_or(0, |portion| portion.bytes.len()))
        });
        let Some((lanes, waiting)) = at_hand.split_first_chunk_mut::<LANES>() else { return };
        let shortest = lanes.iter().flatten().map(|portion| portion.bytes.len()).min().unwrap_or(0);
        let turn = if matches!(waiting, [Some(_), ..]) { TURN.max(shortest / 4) } else { usize::MAX };
        let steps = shortest.min(turn);
        macro_rules! run {
            ($($portion:ident)*) => { run!(@ () $($portion)*).enter(()) };
            (@ $list:tt $portion:ident $($more:ident)*) => { run!(@ ($portion.cut(steps), $list) $($more)*) };
            (@ $list:tt) => { $list };
        }
        match lanes.each_mut().map(Option::as_mut) {
            [Some(one), Some(two), Some(three), Some(four), Some(five), Some(six)] => {
                run!(one two three four five six);
            }
            [Some(one), Some(two), Some(three), Some(four), Some(five), None] => {
                run!(one two three four five);
            }
            [Some(one), Some(two), Some(three), Some(four), None, _] => run!(one two three four),
            [Some(one), Some(two), Some(three), None, ..] => run!(one two three),
            [Some(one), Some(two), None, ..] => run!(one two),
            [Some(one), None, ..] => run!(one),
            [None, ..] => return,
        }
        for place in &mut at_hand {
            if place.as_ref().is_some_and(|portion| portion.bytes.is_empty()) {
                *place = None;
            }
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

/// One stream's part in a loop over several.
pub(super) struct Chain<'a> {
    pub(super) aes: &'a Aes128Enc,
    pub(super) register: &'a mut [u8; 16],
    pub(super) bytes: &'a mut [u8],
}

impl Chain<'_> {
    /// Runs this chain alone.
    pub(super) fn encrypt(self) {
        (self, ()).enter(());
    }
}

/// A list of chains that still have to enter their backends: a loop must run inside the backends of all its chains, as a
/// call from outside for each block would load the round keys anew.
trait Waiting {
    /// Enters the backends one inside the other, then runs the loop.
    fn enter(self, running: impl Running);
}

/// A list of chains inside their backends.
trait Running {
    /// The size of the backend last entered, none before the first.
    const BACKEND: Option<usize>;
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
        // A processor has one backend for all, but the compiler cannot know, and would build the loop for each of 4096
        // combinations of the four there are.
        if const { matches!(R::BACKEND, Some(size) if size != size_of::<B>()) } {
            return self.enter_apart();
        }
        let register = halves(*self.chain.register);
        let lane = Lane { backend, register, kept: self.chain.register, bytes: self.chain.bytes.iter_mut() };
        self.waiting.enter((lane, self.running));
    }
}

impl<W: Waiting, R: Running> Entry<'_, W, R> {
    /// Runs the loop over those that have entered, and another over the rest.
    #[cold]
    #[inline(never)]
    fn enter_apart(self) {
        ().enter(self.running);
        (self.chain, self.waiting).enter(());
    }
}

/// A chain inside its backend.
struct Lane<'a, 'b, B> {
    backend: &'b B,
    /// The register as [`halves`].
    register: [u64; 2],
    kept: &'a mut [u8; 16],
    bytes: slice::IterMut<'a, u8>,
}

impl Running for () {
    const BACKEND: Option<usize> = None;

    #[inline(always)]
    fn step(&mut self) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn leave(self) {}
}

impl<B: BlockCipherEncBackend<BlockSize = U16>, R: Running> Running for (Lane<'_, '_, B>, R) {
    const BACKEND: Option<usize> = Some(size_of::<B>());

    #[inline(always)]
    fn step(&mut self) -> Option<()> {
        let (lane, others) = self;
        let byte = lane.bytes.next()?;
        let plain = *byte;
        let mut block = Block::from(joined(lane.register));
        // All but the keystream in the last byte is known beforehand: the next block waits for a shift and an exclusive
        // or only.
        let [low, high] = lane.register;
        let (low, high) = (low >> 8 | high << 56, high >> 8 | u64::from(plain) << 56);
        lane.backend.encrypt_block((&mut block).into());
        let [stream, _] = halves(block.0);
        *byte = plain ^ first(&block);
        lane.register = [low, high ^ stream << 56];
        others.step()
    }

    #[inline(always)]
    fn leave(self) {
        let (lane, others) = self;
        *lane.kept = joined(lane.register);
        others.leave();
    }
}

/// A register as two numbers, its first byte lowest: it moves by shifts.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn halves(register: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(register);
    [whole as u64, (whole >> 64) as u64]
}

/// The bytes of such a register.
#[inline(always)]
fn joined([low, high]: [u64; 2]) -> [u8; 16] {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use aes::cipher::{KeyInit, ParBlocksSizeUser, consts::U1, inout::InOut};

    use super::*;
    use crate::protocol::cipher::SharedSecret;

    /// A backend unlike those of the `aes` crate.
    struct Stranger(Aes128Enc);

    impl BlockSizeUser for Stranger {
        type BlockSize = U16;
    }

    impl ParBlocksSizeUser for Stranger {
        type ParBlocksSize = U1;
    }

    impl BlockCipherEncBackend for Stranger {
        fn encrypt_block(&self, block: InOut<'_, '_, Block>) {
            self.0.encrypt_block_inout(block);
        }
    }

    #[test]
    fn backends_that_differ_run_apart() {
        let secrets = [[1; 16], [2; 16], [3; 16]];
        let expected = secrets.map(|secret| {
            let mut bytes = [7; 40];
            Encryptor::new(&SharedSecret(secret)).apply(&mut bytes);
            bytes
        });
        let aes = secrets.map(|secret| Aes128Enc::new(&secret.into()));
        let stranger = Stranger(aes[0].clone());
        let mut registers = secrets;
        let mut bytes = [[7; 40]; 3];
        let [kept, b, c] = &mut registers;
        let [bytes_a, bytes_b, bytes_c] = &mut bytes;
        let lane = Lane { backend: &stranger, register: halves(*kept), kept, bytes: bytes_a.iter_mut() };
        let b = Chain { aes: &aes[1], register: b, bytes: bytes_b };
        let c = Chain { aes: &aes[2], register: c, bytes: bytes_c };
        (b, (c, ())).enter((lane, ()));
        assert_eq!(bytes, expected);
        assert_eq!(registers, expected.map(|bytes| *bytes.last_chunk().unwrap()));
    }
}
