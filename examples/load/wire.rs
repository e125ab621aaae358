//! Packets, frames, and long runs of them.

use std::io::{self, Read};

use flate2::{Compression, read::ZlibEncoder};

use crate::failure::{Failure, Outcome, ensure};

/// Appends a number in the protocol's variable length.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    out.push(rest as u8);
}

/// A packet being written.
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl Packet {
    /// A packet of that id.
    pub(crate) fn new(id: u8) -> Self {
        Self(vec![id])
    }

    /// A number of variable length.
    pub(crate) fn varint(mut self, value: usize) -> Self {
        put_varint(&mut self.0, value);
        self
    }

    /// Bytes, their count before them.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.varint(bytes.len()).raw(bytes)
    }

    /// Text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Bytes alone.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A packet being read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a packet is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Outcome<u8> {
        self.take(1)?.first().copied().ok_or_else(|| "a packet is too short".into())
    }

    /// A number of variable length.
    pub(crate) fn varint(&mut self) -> Outcome<usize> {
        let mut value = 0;
        for place in 0..5 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is too long".into())
    }

    /// Bytes, their count before them.
    pub(crate) fn bytes(&mut self) -> Outcome<&'a [u8]> {
        let count = self.varint()?;
        self.take(count)
    }

    /// Text.
    pub(crate) fn text(&mut self) -> Outcome<&'a str> {
        Ok(str::from_utf8(self.bytes()?)?)
    }
}

/// Appends a packet as one frame. With a threshold, the stream is a compressed one.
pub(crate) fn put_frame(out: &mut Vec<u8>, packet: &[u8], threshold: Option<usize>) -> io::Result<()> {
    let mut content = Vec::with_capacity(packet.len() + 16);
    match threshold {
        None => content.extend_from_slice(packet),
        Some(threshold) if packet.len() < threshold => {
            content.push(0);
            content.extend_from_slice(packet);
        }
        Some(_) => {
            put_varint(&mut content, packet.len());
            ZlibEncoder::new(packet, Compression::fast()).read_to_end(&mut content)?;
        }
    }
    put_varint(out, content.len());
    out.extend_from_slice(&content);
    Ok(())
}

/// A packet as one frame.
pub(crate) fn frame(packet: &[u8], threshold: Option<usize>) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    put_frame(&mut frame, packet, threshold)?;
    Ok(frame)
}

/// The length of the first frame in `bytes`, and of the number before its content; `None` if it is not all there.
pub(crate) fn first_frame(bytes: &[u8]) -> Outcome<Option<(usize, usize)>> {
    let mut reader = Reader(bytes);
    let content = match reader.varint() {
        Ok(content) => content,
        Err(_) if bytes.len() < 5 => return Ok(None),
        Err(error) => return Err(error),
    };
    let prefix = bytes.len() - reader.0.len();
    Ok((bytes.len() >= prefix + content).then_some((prefix + content, prefix)))
}

/// The packet in a frame's content.
pub(crate) fn unframe(content: &[u8], threshold: Option<usize>) -> Outcome<Vec<u8>> {
    if threshold.is_none() {
        return Ok(content.to_vec());
    }
    let mut reader = Reader(content);
    let stated = reader.varint()?;
    if stated == 0 {
        return Ok(reader.0.to_vec());
    }
    let mut packet = Vec::new();
    flate2::read::ZlibDecoder::new(reader.0).take(stated as u64 + 1).read_to_end(&mut packet)?;
    ensure(packet.len() == stated, "a packet is not as long as its frame says")?;
    Ok(packet)
}

/// Shortest frame that can be asked for.
pub(crate) const MIN_FRAME: usize = 40;

/// Frames of about `size` bytes on the wire, `length` bytes or a little more of them, with payloads that do not
/// compress. The last frame is a short one that is never compressed: its last 16 bytes may be replaced by anything.
pub(crate) fn run_of_frames(
    id: u8,
    size: usize,
    length: usize,
    threshold: Option<usize>,
) -> Outcome<Vec<u8>> {
    ensure(size >= MIN_FRAME, format!("frames are at least {MIN_FRAME} bytes"))?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut make = |out: &mut Vec<u8>, packet: usize, threshold| {
        let mut bytes = noise.bytes(packet);
        if let Some(first) = bytes.first_mut() {
            *first = id;
        }
        put_frame(out, &bytes, threshold)
    };
    // What framing adds is found out by framing: lengths vary, and so does what deflate adds.
    let mut trial = Vec::new();
    make(&mut trial, size, threshold)?;
    let packet = size - (trial.len() - size);
    let mut run = Vec::with_capacity(length + 2 * size);
    while run.len() + MIN_FRAME < length {
        make(&mut run, packet, threshold)?;
    }
    make(&mut run, MIN_FRAME - 2, threshold.map(|_| usize::MAX))?;
    Ok(run)
}

/// Bytes without a pattern, the same in every run of the program.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Reads a connection frame by frame; `decrypt` sees every byte once, in order.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// The content of the next frame.
    pub(crate) fn next(
        &mut self,
        source: &mut impl Read,
        mut decrypt: impl FnMut(&mut [u8]),
    ) -> Outcome<Vec<u8>> {
        loop {
            if let Some((length, prefix)) = first_frame(&self.bytes)? {
                let content = self.bytes.drain(..length).skip(prefix).collect();
                return Ok(content);
            }
            let mut piece = [0; 4096];
            let read = match source.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| -> Failure { said(&error) })?,
            };
            ensure(read > 0, "the connection was closed")?;
            let piece = piece.get_mut(..read).unwrap_or_default();
            decrypt(piece);
            self.bytes.extend_from_slice(piece);
        }
    }

    /// Whether every byte read was handed out.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The words for an error of reading or writing.
pub(crate) fn said(error: &io::Error) -> Failure {
    match error.kind() {
        // What a socket's time limit is called depends on the system.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "nothing came for too long".into(),
        _ => error.to_string().into(),
    }
}
