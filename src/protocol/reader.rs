//! Reads values from the bytes of one packet. Every length is checked against what is there before anything is
//! taken; nothing is allocated on the word of a length.

use uuid::Uuid;

/// Why bytes are not what they should be. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The packet ends before its value does.
    #[error("the packet ends too early")]
    Truncated,
    /// A VarInt of more bytes than its kind may have.
    #[error("a VarInt is too long")]
    VarIntTooLong,
    /// A length below zero or above the field's limit.
    #[error("a length is outside its limit")]
    LengthOutOfRange,
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// Bytes after the last field.
    #[error("the packet has bytes left over")]
    LeftOver,
    /// A frame of length zero, or one without a packet id.
    #[error("a frame is empty")]
    EmptyFrame,
    /// A frame larger than this state allows.
    #[error("a frame is too large for this state")]
    FrameTooLarge,
    /// Compressed data that does not inflate to the length it states, or should not have been compressed.
    #[error("a frame's compression is broken")]
    BadCompression,
    /// A packet id that this state does not have.
    #[error("packet {0:#04x} does not belong here")]
    UnexpectedPacket(i32),
    /// A value outside what the field may hold.
    #[error("a field has an impossible value")]
    BadValue,
}

/// A borrowing reader over one packet's bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader from the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next `len` bytes.
    pub fn fixed(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// One byte; anything but zero is true, as the game reads it.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? != 0)
    }

    /// Two bytes, big endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// Sixteen bytes, big endian.
    pub fn uuid(&mut self) -> Result<Uuid, Malformed> {
        self.array().map(Uuid::from_bytes)
    }

    /// A VarInt of at most five bytes.
    pub fn varint(&mut self) -> Result<i32, Malformed> {
        let (value, len) = peek_varint(self.bytes, 5)?.ok_or(Malformed::Truncated)?;
        self.fixed(len)?;
        Ok(value)
    }

    /// A VarInt that counts something, from 0 to `max`.
    pub fn count(&mut self, max: usize) -> Result<usize, Malformed> {
        match usize::try_from(self.varint()?) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(Malformed::LengthOutOfRange),
        }
    }

    /// A byte array behind a VarInt length of at most `max`.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = self.count(max)?;
        self.fixed(len)
    }

    /// A byte array behind a 16-bit length, as protocols 4 and 5 have it.
    pub fn short_bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(Malformed::LengthOutOfRange);
        }
        self.fixed(len)
    }

    /// A text of at most `max` UTF-16 units behind its length in bytes.
    pub fn string(&mut self, max: usize) -> Result<&'a str, Malformed> {
        // A UTF-16 unit takes at most three bytes of UTF-8.
        let bytes = self.bytes(max.saturating_mul(3))?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        // Only a text longer than `max` bytes can be longer than `max` units.
        if text.len() > max && text.encode_utf16().count() > max {
            return Err(Malformed::LengthOutOfRange);
        }
        Ok(text)
    }

    /// A value behind a bool that says whether it is there.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// The bytes that `read` goes over, as they are.
    pub fn span(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), Malformed>,
    ) -> Result<&'a [u8], Malformed> {
        let before = self.bytes;
        read(self)?;
        let len = before.len() - self.bytes.len();
        Ok(before.get(..len).unwrap_or_default())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Refuses bytes after the last field.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::LeftOver) }
    }
}

/// The VarInt at the start of `bytes` and its length; `None` if it is not complete yet.
///
/// Longer spellings than needed are accepted up to `max_len` bytes, as the game accepts them.
pub fn peek_varint(bytes: &[u8], max_len: usize) -> Result<Option<(i32, usize)>, Malformed> {
    let mut value = 0u32;
    for (i, byte) in bytes.iter().take(max_len).enumerate() {
        // The fifth byte's upper bits fall off the end, as in the game.
        value |= u32::from(byte & 0x7f).wrapping_shl(7 * u32::try_from(i).unwrap_or(0));
        if byte & 0x80 == 0 {
            return Ok(Some((value.cast_signed(), i + 1)));
        }
    }
    if bytes.len() >= max_len { Err(Malformed::VarIntTooLong) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0xff, 0xff, 0xff, 0xff, 0x07], i32::MAX),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], -1),
            (&[0x80, 0x80, 0x00], 0),
        ] {
            assert_eq!(Reader::new(bytes).varint(), Ok(value), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0x80; 5]).varint(), Err(Malformed::VarIntTooLong));
        assert_eq!(Reader::new(&[0x80; 4]).varint(), Err(Malformed::Truncated));
    }

    #[test]
    fn hostile_lengths() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0x07, b'x'];
        assert_eq!(Reader::new(&huge).string(16), Err(Malformed::LengthOutOfRange));
        assert_eq!(Reader::new(&huge).bytes(usize::MAX), Err(Malformed::Truncated));
        let negative = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(Reader::new(&negative).bytes(10), Err(Malformed::LengthOutOfRange));
        assert_eq!(Reader::new(&[0xff, 0xff, 1]).short_bytes(256), Err(Malformed::LengthOutOfRange));
        assert_eq!(Reader::new(&[2, 0xc3, 0x28]).string(16), Err(Malformed::NotUtf8));
    }

    #[test]
    fn strings_count_utf16_units() {
        let text = "😀".repeat(8);
        let mut bytes = vec![32];
        bytes.extend(text.as_bytes());
        assert_eq!(Reader::new(&bytes).string(16), Ok(text.as_str()));
        assert_eq!(Reader::new(&bytes).string(15), Err(Malformed::LengthOutOfRange));
    }

    #[test]
    fn leftovers_are_refused() {
        let mut reader = Reader::new(&[1, 2]);
        reader.u8().unwrap();
        assert_eq!(reader.finish(), Err(Malformed::LeftOver));
    }
}
