//! Decryption: every register of a buffer is a window on its ciphertext.

use aes::{
    Block,
    cipher::{
        BlockCipherEncBackend, BlockCipherEncClosure, BlockSizeUser, ParBlocks, consts::U16,
        typenum::Unsigned,
    },
};

use super::{first, take_up};

/// Bytes in a register.
const REGISTER: usize = 16;

/// A buffer of ciphertext and the register that stands before it, to be decrypted in place inside the backend.
pub(super) struct Windows<'a> {
    pub(super) before: [u8; REGISTER],
    pub(super) bytes: &'a mut [u8],
}

impl BlockSizeUser for Windows<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Windows<'_> {
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "only inside the backend's own function are its instructions enabled"
    )]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        // From the back to the front: what comes before is still ciphertext then.
        let mut rest = self.bytes;
        let at_once = B::ParBlocksSize::USIZE;
        if rest.len() >= REGISTER + at_once {
            // Filled with zeros once, and not at all for the few bytes of most reads: it may be 1 KiB.
            let mut blocks = ParBlocks::<B>::default();
            while rest.len() >= REGISTER + at_once {
                let start = rest.len() - at_once;
                let (_, seen) = rest.split_at(start - REGISTER);
                for (block, window) in blocks.iter_mut().zip(seen.array_windows()) {
                    *block = Block::from(*window);
                }
                backend.encrypt_par_blocks((&mut blocks).into());
                let (front, back) = rest.split_at_mut(start);
                for (byte, block) in back.iter_mut().zip(&blocks) {
                    *byte ^= first(block);
                }
                rest = front;
            }
        }
        // Too few to be laid out: a processor looks far enough ahead to take several at once.
        while rest.len() > REGISTER {
            let (front, back) = rest.split_at_mut(rest.len() - 1);
            if let (Some(window), [byte]) = (front.last_chunk(), back) {
                let mut block = Block::from(*window);
                backend.encrypt_block((&mut block).into());
                *byte ^= first(&block);
            }
            rest = front;
        }
        let mut register = self.before;
        for byte in rest {
            let mut block = Block::from(register);
            register = take_up(register, *byte);
            backend.encrypt_block((&mut block).into());
            *byte ^= first(&block);
        }
    }
}
