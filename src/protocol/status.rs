//! The status state: request, answer, ping.

use super::{
    frame, ids,
    reader::{Malformed, Reader},
    writer::Writer,
};

/// What a client sends in the status state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRequest {
    /// Asks for the answer.
    Status,
    /// Asks for its number back.
    Ping(i64),
}

impl StatusRequest {
    /// Reads one packet.
    pub fn read(packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let request = match reader.varint()? {
            0 => Self::Status,
            1 => Self::Ping(reader.i64()?),
            id => return Err(Malformed::UnexpectedPacket(id)),
        };
        reader.finish()?;
        Ok(request)
    }

    /// Writes the packet, for asking a backend.
    pub fn write(self) -> Vec<u8> {
        match self {
            Self::Status => Writer::packet(0).finish(),
            Self::Ping(number) => Writer::packet(1).i64(number).finish(),
        }
    }
}

/// Longest status answer that the game reads, in UTF-16 units.
pub const MAX_ANSWER: usize = 32767;

/// Writes the answer.
pub fn write_answer(json: &str) -> Vec<u8> {
    let id = ids::status_clientbound::STATUS_RESPONSE.in_release(4).unwrap_or(0);
    Writer::packet(id).string(json).finish()
}

/// An answer in its frame, for any number of clients: the status state has neither cipher nor compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerFrame {
    bytes: Box<[u8]>,
    /// Bytes of JSON, at the end.
    json: usize,
}

impl AnswerFrame {
    /// Frames an answer.
    pub fn new(json: &str) -> Self {
        let packet = write_answer(json);
        let mut bytes = Vec::with_capacity(packet.len() + 3);
        frame::put_frame(&mut bytes, &packet, None);
        Self { bytes: bytes.into(), json: json.len() }
    }

    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The answer itself.
    pub fn json(&self) -> &str {
        let json = self.bytes.get(self.bytes.len() - self.json..).unwrap_or_default();
        // It came from a text.
        std::str::from_utf8(json).unwrap_or_default()
    }
}

/// Reads a backend's answer.
pub fn read_answer(packet: &[u8]) -> Result<&str, Malformed> {
    let mut reader = Reader::new(packet);
    match reader.varint()? {
        0 => {}
        id => return Err(Malformed::UnexpectedPacket(id)),
    }
    let json = reader.string(MAX_ANSWER)?;
    reader.finish()?;
    Ok(json)
}

/// Writes the number back.
pub fn write_pong(number: i64) -> Vec<u8> {
    Writer::packet(1).i64(number).finish()
}
