//! Frames: a length, then a packet, maybe compressed.

use std::io::Read;

use adler2::adler32_slice;
use flate2::{
    Compression,
    bufread::{ZlibDecoder, ZlibEncoder},
};

use super::{
    reader::{Malformed, peek_varint},
    writer::put_varint,
};

/// Longest frame that the three bytes of its length can state.
pub const MAX_FRAME: usize = 0x1f_ffff;

/// Longest packet that the game inflates.
pub const MAX_INFLATED: usize = 8 << 20;

/// Longest packet that is put into a zlib stream as it is. Packets of our own are short, and a compressor costs a
/// third of a megabyte of memory to begin with: more than all else that a login allocates.
const MAX_STORED: usize = 16 << 10;

/// What an inflated packet is first given room for, whatever its stated length.
const FIRST_ROOM: usize = 4 << 10;

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
    let mut packet = Vec::with_capacity(stated.min(FIRST_ROOM) + 1);
    ZlibDecoder::new(body)
        .take(stated as u64 + 1)
        .read_to_end(&mut packet)
        .map_err(|_| Malformed::BadCompression)?;
    if packet.len() == stated { Ok(packet) } else { Err(Malformed::BadCompression) }
}

/// Appends `packet` as one frame. With a threshold, packets of at least that many bytes go as a zlib stream, long
/// ones compressed.
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
        Some(_) if packet.len() <= MAX_STORED => {
            let mut length = Vec::with_capacity(5);
            put_varint(&mut length, as_i32(packet.len()));
            put_varint(out, as_i32(length.len() + packet.len() + STORED_EXTRA));
            out.extend_from_slice(&length);
            put_stored(out, packet);
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

/// What [`put_stored`] adds: the stream's header, the block's header, the checksum.
const STORED_EXTRA: usize = 2 + 5 + 4;

/// Appends a zlib stream (RFC 1950) of one stored block (RFC 1951, 3.2.4).
fn put_stored(out: &mut Vec<u8>, packet: &[u8]) {
    debug_assert!(packet.len() <= MAX_STORED, "a stored block states its length in 16 bits");
    #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_STORED")]
    let length = packet.len() as u16;
    // Deflate with a 32 KiB window, fastest level; last block, stored.
    out.extend_from_slice(&[0x78, 0x01, 0x01]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(packet);
    out.extend_from_slice(&adler32_slice(packet).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_packets_are_stored() {
        let mut framed = Vec::new();
        for (len, longer) in [(MAX_STORED, true), (MAX_STORED + 1, false)] {
            framed.clear();
            put_frame(&mut framed, &vec![0xff; len], Some(256));
            let head = header(&framed).unwrap().unwrap();
            assert_eq!(framed.len() > len, longer, "only short packets are stored");
            assert_eq!(decompress(&framed[head.prefix..], len).unwrap(), vec![0xff; len]);
        }
    }

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
