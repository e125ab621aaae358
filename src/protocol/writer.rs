//! Writes the values of one packet.

use uuid::Uuid;

use super::ids::PacketId;

/// A growing packet: id, then fields in order.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A packet that begins with its id.
    pub fn packet(id: PacketId) -> Self {
        let mut writer = Self::default();
        writer.varint(id);
        writer
    }

    /// A VarInt in its shortest spelling.
    pub fn varint(&mut self, value: i32) -> &mut Self {
        put_varint(&mut self.bytes, value);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Two bytes, big endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Sixteen bytes, big endian.
    pub fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.raw(value.as_bytes())
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes behind a VarInt length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// Bytes behind a 16-bit length. Callers write keys and tokens of at most a few hundred bytes.
    pub fn short_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(u16::try_from(bytes.len()).is_ok(), "a short array holds at most 65535 bytes");
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).raw(bytes)
    }

    /// A text behind its length in bytes.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A count or length. Nothing the proxy writes comes near the limit of a VarInt.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.varint(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// A value behind a bool that says whether it is there.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    /// The finished packet.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// Appends a VarInt in its shortest spelling.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = value.cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::{super::reader::Reader, *};

    proptest::proptest! {
        #[test]
        fn varints_read_back(value: i32) {
            let bytes = Writer::default().varint(value).finish();
            proptest::prop_assert_eq!(Reader::new(&bytes).varint(), Ok(value));
            proptest::prop_assert!(bytes.len() <= 5);
        }
    }
}
