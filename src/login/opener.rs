//! Opens what clients encrypt for our key: RSA with PKCS #1 v1.5 padding, in constant time and blinded.
//!
//! The `rsa` crate makes the key, but its arithmetic takes a time that depends on the numbers (RUSTSEC-2023-0071), and
//! its blinding, which hides that in part, makes it a third slower. Here the numbers have a fixed size and every
//! step takes the same time whatever they are; blinding is kept for machines that multiply some numbers faster.

use std::sync::{Mutex, PoisonError};

use crypto_bigint::{
    NonZero, Odd, U64, U512, U1024,
    modular::{FixedMontyForm, FixedMontyParams},
};
use rsa::{
    BigUint, RsaPrivateKey,
    traits::{PrivateKeyParts, PublicKeyParts},
};
use secrecy::zeroize::{Zeroize, Zeroizing};
use subtle::{Choice, ConstantTimeEq};

/// Bytes of the modulus, and so of what is opened.
const BYTES: usize = 128;

/// How often a blinding pair is squared before a new one is drawn, as OpenSSL has it.
const BLINDINGS: u32 = 32;

type Number = FixedMontyForm<{ U1024::LIMBS }>;
type Remainder = FixedMontyForm<{ U512::LIMBS }>;

/// The private half of an RSA-1024 key.
pub(super) struct Opener {
    modulus: FixedMontyParams<{ U1024::LIMBS }>,
    public_exponent: U64,
    p: Half,
    q: Half,
    /// The inverse of q modulo p.
    q_inverse: Remainder,
    blinding: Mutex<Option<Blinding>>,
}

/// What belongs to one of the two primes.
struct Half {
    prime: FixedMontyParams<{ U512::LIMBS }>,
    /// The private exponent modulo the prime less one.
    exponent: U512,
}

/// A random number to the public exponent, and its inverse.
#[derive(Clone, Copy)]
struct Blinding {
    factor: Number,
    inverse: Number,
    uses: u32,
}

impl Zeroize for Blinding {
    fn zeroize(&mut self) {
        self.factor.zeroize();
        self.inverse.zeroize();
    }
}

impl Half {
    fn new(prime: U512, exponent: U512) -> Option<Self> {
        Some(Self { prime: FixedMontyParams::new(Odd::new(prime).into_option()?), exponent })
    }

    fn prime(&self) -> &NonZero<U512> {
        self.prime.modulus().as_nz_ref()
    }

    /// `number` to the private exponent.
    fn root(&self, number: &U1024) -> Remainder {
        Remainder::new(&number.rem(self.prime()), &self.prime).pow_amm(&self.exponent)
    }
}

impl Opener {
    /// `None` if the key is not one of two primes of 512 bits each.
    pub(super) fn new(key: &RsaPrivateKey) -> Option<Self> {
        let [p, q] = key.primes() else { return None };
        let half = |prime: &BigUint, exponent: Option<&BigUint>| {
            Half::new(
                U512::from_be_slice(&*padded::<64>(prime)?),
                U512::from_be_slice(&*padded::<64>(exponent?)?),
            )
        };
        let (p, q) = (half(p, key.dp())?, half(q, key.dq())?);
        let modulus =
            padded::<BYTES>(key.n()).filter(|bytes| bytes.first().is_some_and(|byte| *byte >= 0x80))?;
        let modulus = U1024::from_be_slice(&*modulus);
        let q_inverse = Remainder::new(&q.prime().rem(p.prime()), &p.prime).invert().into_option()?;
        Some(Self {
            modulus: FixedMontyParams::new(Odd::new(modulus).into_option()?),
            public_exponent: U64::from_be_slice(&*padded::<8>(key.e())?),
            p,
            q,
            q_inverse,
            blinding: Mutex::new(None),
        })
    }

    /// The message in `bytes`, if it is one of `L` bytes.
    pub(super) fn open<const L: usize>(&self, bytes: &[u8]) -> Option<Zeroizing<[u8; L]>> {
        let cipher = U1024::from_be_slice(<&[u8; BYTES]>::try_from(bytes).ok()?);
        if cipher >= *self.modulus.modulus().as_ref() {
            return None;
        }
        let Blinding { factor, inverse, .. } = *self.next_blinding()?;
        let blinded = Number::new(&cipher, &self.modulus).mul(&factor).retrieve();
        let root = Zeroizing::new(self.root(&blinded));
        let message = Zeroizing::new(Number::new(&root, &self.modulus).mul(&inverse).retrieve());
        let mut padded = message.to_be_bytes();
        let opened = unpad(padded.as_ref());
        padded.as_mut().zeroize();
        opened
    }

    /// `number` to the private exponent, by way of its remainders (Garner). A fault of the machine on the way makes a
    /// wrong number, which nobody gets to see: it is no padded message.
    fn root(&self, number: &U1024) -> U1024 {
        let p = self.p.root(number);
        let q = self.q.root(number).retrieve();
        let q_in_p = Remainder::new(&q.rem(self.p.prime()), &self.p.prime);
        let times = p.sub(&q_in_p).mul(&self.q_inverse).retrieve();
        let whole: U1024 = times.concatenating_mul(self.q.prime().as_ref());
        whole.wrapping_add(&q.resize())
    }

    /// The pair for one number: the last one squared, which is as good as a new one and costs next to nothing. `None`
    /// if the system's random generator fails.
    fn next_blinding(&self) -> Option<Zeroizing<Blinding>> {
        let mut blinding = self.blinding.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match *blinding {
            Some(Blinding { factor, inverse, uses }) if uses < BLINDINGS => {
                Blinding { factor: factor.square(), inverse: inverse.square(), uses: uses + 1 }
            }
            _ => self.new_blinding()?,
        };
        *blinding = Some(next);
        Some(Zeroizing::new(next))
    }

    fn new_blinding(&self) -> Option<Blinding> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).ok()?;
        let random = Number::new(&U1024::from_be_slice(&bytes), &self.modulus);
        bytes.zeroize();
        let factor = random.pow_vartime(&self.public_exponent);
        Some(Blinding { factor, inverse: random.invert().into_option()?, uses: 1 })
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        for half in [&mut self.p, &mut self.q] {
            half.prime.zeroize();
            half.exponent.zeroize();
        }
        self.q_inverse.zeroize();
        if let Some(blinding) = self.blinding.get_mut().unwrap_or_else(PoisonError::into_inner) {
            blinding.zeroize();
        }
    }
}

/// Big-endian with leading zeros; `None` if it does not fit.
fn padded<const N: usize>(number: &BigUint) -> Option<Zeroizing<[u8; N]>> {
    let mut out = Zeroizing::new([0; N]);
    let bytes = Zeroizing::new(number.to_bytes_be());
    out.get_mut(N.checked_sub(bytes.len())?..)?.copy_from_slice(&bytes);
    Some(out)
}

/// Takes off `00 02`, random bytes that are not zero, and a zero. Since the length of the message is known, so is where
/// everything stands: there is no search whose time would tell.
fn unpad<const L: usize>(padded: &[u8]) -> Option<Zeroizing<[u8; L]>> {
    let (rest, message) = padded.split_last_chunk::<L>()?;
    let (head, rest) = rest.split_first_chunk::<2>()?;
    let (end, random) = rest.split_last()?;
    let well_formed =
        random.iter().fold(head.ct_eq(&[0, 2]) & end.ct_eq(&0), |so_far, byte| so_far & !byte.ct_eq(&0));
    let long_enough = Choice::from(u8::from(random.len() >= 8));
    bool::from(well_formed & long_enough).then(|| Zeroizing::new(*message))
}

#[cfg(test)]
mod tests {
    use rsa::{Pkcs1v15Encrypt, rand_core::OsRng};

    use super::*;

    fn key() -> (RsaPrivateKey, Opener) {
        let key = RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
        let opener = Opener::new(&key).unwrap();
        (key, opener)
    }

    #[test]
    fn opens_what_the_rsa_crate_encrypts() {
        for _ in 0..3 {
            let (key, opener) = key();
            // More than one blinding pair lasts for.
            for round in 0..2 * u8::try_from(BLINDINGS).unwrap() {
                let encrypt =
                    |bytes: &[u8]| key.to_public_key().encrypt(&mut OsRng, Pkcs1v15Encrypt, bytes).unwrap();
                assert_eq!(opener.open(&encrypt(&[round; 16])), Some([round; 16].into()));
                assert_eq!(opener.open(&encrypt(&[1, 2, round, 0])), Some([1, 2, round, 0].into()));
                for wrong in [0, 3, 5, 16, 117] {
                    assert_eq!(opener.open::<4>(&encrypt(&vec![7; wrong])), None, "{wrong} bytes");
                }
            }
        }
    }

    /// The public operation, on any number.
    fn raise(key: &RsaPrivateKey, bytes: &[u8; BYTES]) -> Vec<u8> {
        let modulus = U1024::from_be_slice(&*padded::<BYTES>(key.n()).unwrap());
        let params = FixedMontyParams::new(Odd::new(modulus).unwrap());
        let e = U64::from_be_slice(&*padded::<8>(key.e()).unwrap());
        Number::new(&U1024::from_be_slice(bytes), &params).pow(&e).retrieve().to_be_bytes().as_ref().to_vec()
    }

    #[test]
    fn only_the_exact_padding_will_do() {
        let (key, opener) = key();
        let mut good = [0x55; BYTES];
        good[..2].copy_from_slice(&[0, 2]);
        good[BYTES - 17] = 0;
        assert_eq!(opener.open(&raise(&key, &good)), Some([0x55; 16].into()));
        for (at, byte) in [(0, 1), (1, 1), (1, 0), (2, 0), (60, 0), (BYTES - 18, 0), (BYTES - 17, 1)] {
            let mut bad = good;
            bad[at] = byte;
            // The first byte above 1 might be no remainder of this modulus.
            assert_eq!(opener.open::<16>(&raise(&key, &bad)), None, "{byte} at {at}");
        }
        good[BYTES - 1] = 0;
        assert_eq!(opener.open::<16>(&raise(&key, &good)).unwrap()[15], 0, "zeros belong to the message");
    }

    #[test]
    fn what_is_no_remainder_is_refused() {
        let (key, opener) = key();
        let modulus = padded::<BYTES>(key.n()).unwrap();
        for bytes in [&modulus[..], &[0xff; BYTES], &[0; BYTES], &[1; BYTES - 1], &[1; BYTES + 1], &[]] {
            assert_eq!(opener.open::<16>(bytes), None);
        }
    }

    #[test]
    fn a_blinding_pair_is_not_used_twice_and_cancels_out() {
        let (_, opener) = key();
        let mut factors = Vec::new();
        for _ in 0..3 * BLINDINGS {
            let Blinding { factor, inverse, .. } = *opener.next_blinding().unwrap();
            assert_eq!(opener.root(&factor.retrieve()), inverse.invert().unwrap().retrieve());
            assert!(!factors.contains(&factor.retrieve()));
            factors.push(factor.retrieve());
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for bits in [512, 1040, 2048] {
            assert!(Opener::new(&RsaPrivateKey::new(&mut OsRng, bits).unwrap()).is_none(), "{bits}");
        }
    }
}
