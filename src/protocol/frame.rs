//! Frames: a length, then a packet, maybe compressed.

use std::io::Read;

use flate2::{Compression, read::ZlibEncoder};

use super::{
    reader::{Malformed, peek_varint},
    writer::put_varint,
};

/// Longest frame that the three bytes of its length can state.
pub const MAX_FRAME: usize = 0x1f_ffff;

/// Longest packet that the game inflates.
pub const MAX_INFLATED: usize = 8 << 20;

/// Where a frame's content stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the length itself, 1 to 3.
    pub prefix: usize,
    /// Bytes of the content.
    pub content: usize,
}

/// The header at the start of `bytes`; `None` if it is not complete. A frame of length zero is refused, as the game
/// does from 1.21.11.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    match peek_varint(bytes, 3)? {
        None => Ok(None),
        Some((0, _)) => Err(Malformed::EmptyFrame),
        // Three bytes hold 21 bits: never negative.
        Some((content, prefix)) => Ok(Some(Header { prefix, content: content.cast_unsigned() as usize })),
    }
}

/// The packet in a frame of a compressed stream. `limit` bounds the inflated length; the buffer grows with the data,
/// not with the stated length.
pub fn decompress(content: &[u8], limit: usize) -> Result<Vec<u8>, Malformed> {
    let (stated, prefix) = peek_varint(content, 5)?.ok_or(Malformed::Truncated)?;
    let body = content.get(prefix..).unwrap_or_default();
    let stated = usize::try_from(stated).map_err(|_| Malformed::LengthOutOfRange)?;
    if stated == 0 {
        return Ok(body.to_vec());
    }
    if stated > limit {
        return Err(Malformed::FrameTooLarge);
    }
    let mut packet = Vec::new();
    flate2::read::ZlibDecoder::new(body)
        .take(stated as u64 + 1)
        .read_to_end(&mut packet)
        .map_err(|_| Malformed::BadCompression)?;
    if packet.len() == stated { Ok(packet) } else { Err(Malformed::BadCompression) }
}

/// Appends `packet` as one frame. With a threshold, packets of at least that many bytes are compressed.
pub fn put_frame(out: &mut Vec<u8>, packet: &[u8], threshold: Option<usize>) {
    let as_i32 = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
    match threshold {
        None => {
            put_varint(out, as_i32(packet.len()));
            out.extend_from_slice(packet);
        }
        Some(threshold) if packet.len() < threshold => {
            put_varint(out, as_i32(packet.len() + 1));
            out.push(0);
            out.extend_from_slice(packet);
        }
        Some(_) => {
            let mut body = Vec::new();
            put_varint(&mut body, as_i32(packet.len()));
            // Reading from memory into memory cannot fail.
            let _ = ZlibEncoder::new(packet, Compression::fast()).read_to_end(&mut body);
            put_varint(out, as_i32(body.len()));
            out.extend_from_slice(&body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        assert_eq!(header(&[]), Ok(None));
        assert_eq!(header(&[0x80]), Ok(None));
        assert_eq!(header(&[0xff, 0xff, 0x7f]), Ok(Some(Header { prefix: 3, content: MAX_FRAME })));
        assert_eq!(header(&[0x80, 0x80, 0x80]), Err(Malformed::VarIntTooLong));
        assert_eq!(header(&[0]), Err(Malformed::EmptyFrame));
    }

    #[test]
    fn a_lying_length_is_refused() {
        let mut frame = Vec::new();
        put_frame(&mut frame, &[7; 1000], Some(10));
        let head = header(&frame).unwrap().unwrap();
        let content = &frame[head.prefix..];
        assert_eq!(decompress(content, 1000).unwrap(), [7; 1000]);
        assert_eq!(decompress(content, 999), Err(Malformed::FrameTooLarge));
        // 1000 is e8 07; state 999 and 1001 instead.
        for lie in [0xe7, 0xe9] {
            let mut content = content.to_vec();
            content[0] = lie;
            assert_eq!(decompress(&content, 5000), Err(Malformed::BadCompression));
        }
        assert_eq!(decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f], 10), Err(Malformed::LengthOutOfRange));
    }

    proptest::proptest! {
        #[test]
        fn frames_read_back(packet in proptest::collection::vec(0u8.., 1..600), threshold in 0usize..600) {
            for threshold in [None, Some(threshold)] {
                let mut frame = Vec::new();
                put_frame(&mut frame, &packet, threshold);
                let head = header(&frame).unwrap().unwrap();
                proptest::prop_assert_eq!(head.prefix + head.content, frame.len());
                let content = &frame[head.prefix..];
                let read = if threshold.is_some() { decompress(content, 600).unwrap() } else { content.to_vec() };
                proptest::prop_assert_eq!(read, packet.clone());
            }
        }
    }
}
