//! VarInts, strings and frames, written anew.

use std::io::{Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

#[derive(Default, Clone)]
pub struct Out(pub Vec<u8>);

impl Out {
    pub fn id(id: u8) -> Self {
        Self(vec![id])
    }

    pub fn varint(mut self, value: i32) -> Self {
        let mut v = value as u32;
        loop {
            let byte = (v % 128) as u8;
            v /= 128;
            if v == 0 {
                self.0.push(byte);
                return self;
            }
            self.0.push(byte + 128);
        }
    }

    pub fn str(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.varint(bytes.len() as i32).raw(bytes)
    }

    pub fn short_bytes(self, bytes: &[u8]) -> Self {
        self.raw(&(bytes.len() as u16).to_be_bytes()).raw(bytes)
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn bool(self, value: bool) -> Self {
        self.raw(&[value as u8])
    }
}

pub struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub fn varint(&mut self) -> i32 {
        let (mut value, mut shift) = (0u32, 0);
        loop {
            let byte = self.u8();
            value += u32::from(byte % 128) << shift;
            shift += 7;
            if byte < 128 {
                return value as i32;
            }
        }
    }

    pub fn bytes(&mut self) -> &'a [u8] {
        let n = self.varint() as usize;
        self.take(n)
    }

    pub fn short_bytes(&mut self) -> &'a [u8] {
        let n = u16::from_be_bytes(self.take(2).try_into().unwrap());
        self.take(usize::from(n))
    }

    pub fn str(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_slice(self.take(16)).unwrap()
    }

    pub fn bool(&mut self) -> bool {
        self.u8() != 0
    }
}

/// A packet as one frame.
pub fn frame(packet: &[u8], threshold: Option<usize>) -> Vec<u8> {
    let body = match threshold {
        None => packet.to_vec(),
        Some(t) if packet.len() < t => Out::default().varint(0).raw(packet).0,
        Some(_) => {
            let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            z.write_all(packet).unwrap();
            Out::default().varint(packet.len() as i32).raw(&z.finish().unwrap()).0
        }
    };
    Out::default().bytes(&body).0
}

/// The packet in a frame's body.
pub fn unframe(body: &[u8], threshold: Option<usize>) -> Vec<u8> {
    if threshold.is_none() {
        return body.to_vec();
    }
    let mut reader = In(body);
    match reader.varint() {
        0 => reader.0.to_vec(),
        size => {
            let mut packet = Vec::new();
            flate2::read::ZlibDecoder::new(reader.0).read_to_end(&mut packet).unwrap();
            assert_eq!(packet.len(), size as usize, "stated length");
            packet
        }
    }
}

/// Whether a whole frame is there.
pub fn holds_frame(bytes: &[u8]) -> bool {
    let Some(last) = bytes.iter().position(|byte| *byte < 128) else { return false };
    let len = bytes[..=last].iter().rev().fold(0usize, |len, byte| len << 7 | usize::from(byte % 128));
    bytes.len() - last > len
}

/// Reads a frame's body, byte by byte through `decrypt`; `None` at the end of the stream.
pub async fn read_body(
    io: &mut (impl AsyncRead + Unpin),
    mut decrypt: impl FnMut(&mut [u8]),
) -> Option<Vec<u8>> {
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await.ok()?;
        decrypt(&mut byte);
        len += usize::from(byte[0] % 128) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; len];
    io.read_exact(&mut body).await.ok()?;
    decrypt(&mut body);
    Some(body)
}
