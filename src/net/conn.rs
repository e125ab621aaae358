//! A framed connection in the handshake, status and login states: to a client, or to a backend.

use std::{fmt, io};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::{
    cipher::{self, Decryptor, Encryptor, SharedSecret},
    frame,
    reader::Malformed,
};

/// A stream of bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConnError {
    /// The peer closed between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The peer closed inside a frame.
    #[error("the connection was closed in the middle of a packet")]
    Cut,
    /// The operating system reports an error.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The peer sent nonsense.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

/// Longest frames, by who sends them and when. A hostile length costs an error, not memory.
pub mod limit {
    /// Handshake, status request, login start, encryption response: a profile key and its signature are the longest.
    pub const BEFORE_LOGIN: usize = 16 << 10;
    /// Answers to login plugin requests, 1 MiB of payload and a little around it.
    pub const LOGIN: usize = (1 << 20) + (64 << 10);
    /// What a client says in the configuration state before it meets a backend: the longest plugin message that the game
    /// takes, and a little around it.
    pub const CONFIGURATION: usize = (32 << 10) + 1024;
    /// What a backend sends until login success.
    pub const BACKEND: usize = crate::protocol::frame::MAX_FRAME;
}

/// Bytes asked of the socket at once.
const READ_SIZE: usize = 4 << 10;

/// A framed connection. Reading and writing may be cancelled at any await without losing bytes.
pub struct Conn<S> {
    io: S,
    inbox: BytesMut,
    outbox: BytesMut,
    decryptor: Option<Decryptor>,
    encryptor: Option<Encryptor>,
    threshold: Option<usize>,
}

/// A connection taken apart for the relay. Bytes in `inbox` were read and decrypted, but belong to no packet
/// handled so far.
pub struct Parts<S> {
    /// The stream.
    pub io: S,
    /// Decrypted bytes that wait to be handled.
    pub inbox: BytesMut,
    /// Decrypts what comes.
    pub decryptor: Option<Decryptor>,
    /// Encrypts what goes.
    pub encryptor: Option<Encryptor>,
    /// Frames carry an uncompressed length if there is a threshold, in bytes.
    pub threshold: Option<usize>,
}

// What players sent is nobody's to print.
impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("read", &self.inbox.len()).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("read", &self.inbox.len()).finish_non_exhaustive()
    }
}

impl<S> Parts<S> {
    /// Turns the stream into another form of itself.
    ///
    /// # Errors
    /// Those of `form`.
    pub fn try_map_io<T>(self, form: impl FnOnce(S) -> io::Result<T>) -> io::Result<Parts<T>> {
        let Self { io, inbox, decryptor, encryptor, threshold } = self;
        Ok(Parts { io: form(io)?, inbox, decryptor, encryptor, threshold })
    }
}

impl<S: Io> Conn<S> {
    /// A plain connection.
    pub fn new(io: S) -> Self {
        Self {
            io,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            decryptor: None,
            encryptor: None,
            threshold: None,
        }
    }

    /// The bytes read but not taken yet.
    pub fn peek(&self) -> &[u8] {
        &self.inbox
    }

    /// Takes `len` of the bytes read.
    pub fn consume(&mut self, len: usize) {
        self.inbox.advance(len.min(self.inbox.len()));
    }

    /// Waits for more bytes. Returns how many came; 0 at the end of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.inbox.reserve(READ_SIZE);
        let before = self.inbox.len();
        let read = self.io.read_buf(&mut self.inbox).await?;
        if let Some(decryptor) = &mut self.decryptor
            && let Some(fresh) = self.inbox.get_mut(before..)
        {
            decryptor.apply(fresh);
        }
        Ok(read)
    }

    /// The next packet: its id and fields, without frame and compression. Frames longer than `limit` bytes, and
    /// packets that inflate to more, are refused.
    pub async fn read_packet(&mut self, limit: usize) -> Result<Vec<u8>, ConnError> {
        loop {
            if let Some(packet) = self.take_packet(limit)? {
                return Ok(packet);
            }
            if self.fill().await? == 0 {
                return Err(if self.inbox.is_empty() { ConnError::Closed } else { ConnError::Cut });
            }
        }
    }

    fn take_packet(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let Some(header) = frame::header(&self.inbox)? else { return Ok(None) };
        if header.content > limit {
            return Err(Malformed::FrameTooLarge);
        }
        let Some(content) = self.inbox.get(header.prefix..header.prefix + header.content) else {
            return Ok(None);
        };
        let packet = match self.threshold {
            None => content.to_vec(),
            Some(_) => frame::decompress(content, limit)?,
        };
        self.inbox.advance(header.prefix + header.content);
        if packet.is_empty() { Err(Malformed::EmptyFrame) } else { Ok(Some(packet)) }
    }

    /// Sends one packet.
    pub async fn write_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        self.queue_packet(packet);
        self.flush().await
    }

    /// Frames one packet, to be sent with the next one.
    pub fn queue_packet(&mut self, packet: &[u8]) {
        let mut framed = Vec::with_capacity(packet.len() + 8);
        frame::put_frame(&mut framed, packet, self.threshold);
        self.queue_raw(&framed);
    }

    /// Sends bytes without a frame, encrypted if the link is.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.queue_raw(bytes);
        self.flush().await
    }

    fn queue_raw(&mut self, bytes: &[u8]) {
        let before = self.outbox.len();
        self.outbox.extend_from_slice(bytes);
        if let (Some(encryptor), Some(fresh)) = (&mut self.encryptor, self.outbox.get_mut(before..)) {
            encryptor.apply(fresh);
        }
    }

    /// Sends what was queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            if self.io.write_buf(&mut self.outbox).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.io.flush().await
    }

    /// Switches the cipher on, both ways. Bytes that came already are decrypted: the client's cipher starts right
    /// behind its encryption response.
    pub fn encrypt(&mut self, secret: &SharedSecret) {
        let (encryptor, mut decryptor) = cipher::pair(secret);
        decryptor.apply(&mut self.inbox);
        self.decryptor = Some(decryptor);
        self.encryptor = Some(encryptor);
    }

    /// Whether the cipher is on.
    pub fn is_encrypted(&self) -> bool {
        self.encryptor.is_some()
    }

    /// Switches compression on or off, both ways, from the next frame on.
    pub fn set_threshold(&mut self, threshold: Option<usize>) {
        self.threshold = threshold;
    }

    /// The compression threshold in force, in bytes.
    pub fn threshold(&self) -> Option<usize> {
        self.threshold
    }

    /// Tells the peer that nothing more comes.
    pub async fn close(&mut self) {
        // The peer may be gone already: there is nothing left to tell it.
        let _ = self.flush().await;
        let _ = self.io.shutdown().await;
    }

    /// Closes, then reads and throws away until the peer closes too: a socket closed over unread bytes resets the
    /// connection, and many systems then forget what was said last. The caller bounds the time.
    pub async fn close_heard(&mut self) {
        self.close().await;
        self.decryptor = None;
        loop {
            self.inbox.clear();
            if !matches!(self.fill().await, Ok(1..)) {
                return;
            }
        }
    }

    /// Takes the connection apart for the relay.
    pub fn into_parts(self) -> Parts<S> {
        Parts {
            io: self.io,
            inbox: self.inbox,
            decryptor: self.decryptor,
            encryptor: self.encryptor,
            threshold: self.threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn packets_across_split_reads() {
        let (mut peer, io) = duplex(4096);
        let mut conn = Conn::new(io);
        let mut bytes = Vec::new();
        frame::put_frame(&mut bytes, b"\x01hello", None);
        frame::put_frame(&mut bytes, b"\x02", None);
        for byte in bytes {
            peer.write_all(&[byte]).await.unwrap();
            if !conn.peek().is_empty() || byte != 0 {
                conn.fill().await.unwrap();
            }
        }
        assert_eq!(conn.read_packet(100).await.unwrap(), b"\x01hello");
        assert_eq!(conn.read_packet(100).await.unwrap(), b"\x02");
        drop(peer);
        assert!(matches!(conn.read_packet(100).await, Err(ConnError::Closed)));
    }

    #[tokio::test]
    async fn endings_and_limits() {
        for (bytes, limit, expected) in [
            (&b"\x05ab"[..], 100, "the connection was closed in the middle of a packet"),
            (b"\x05", 4, "a frame is too large for this state"),
            (b"\xff\xff\x7f", 100, "a frame is too large for this state"),
            (b"\xff\xff\xff\xff", 100, "a VarInt is too long"),
            (b"\x00", 100, "a frame is empty"),
        ] {
            let (mut peer, io) = duplex(64);
            peer.write_all(bytes).await.unwrap();
            drop(peer);
            let mut conn = Conn::new(io);
            assert_eq!(conn.read_packet(limit).await.unwrap_err().to_string(), expected, "{bytes:x?}");
            assert!(conn.inbox.capacity() <= 2 * READ_SIZE, "a hostile length allocated");
        }
    }

    #[tokio::test]
    async fn the_cipher_starts_behind_the_packet_that_agreed_on_it() {
        let secret = SharedSecret::new(&[7; 16]).unwrap();
        let (mut peer, io) = duplex(4096);
        let mut conn = Conn::new(io);
        let mut later = Vec::new();
        frame::put_frame(&mut later, b"\x03later", None);
        Encryptor::new(&secret).apply(&mut later);
        let mut bytes = b"\x02\x01!".to_vec();
        bytes.extend(&later);
        peer.write_all(&bytes).await.unwrap();
        assert_eq!(conn.read_packet(100).await.unwrap(), b"\x01!");
        conn.encrypt(&secret);
        assert_eq!(conn.read_packet(100).await.unwrap(), b"\x03later");

        conn.set_threshold(Some(3));
        conn.write_packet(&[9; 500]).await.unwrap();
        conn.close().await;
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        Decryptor::new(&secret).apply(&mut got);
        let header = frame::header(&got).unwrap().unwrap();
        assert_eq!(frame::decompress(&got[header.prefix..], 500).unwrap(), [9; 500]);
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_by_the_longest_frame() {
        let (mut peer, io) = duplex(1 << 16);
        let mut frame = Vec::new();
        frame::put_frame(&mut frame, &vec![7; limit::LOGIN], None);
        let talking = tokio::spawn(async move {
            // Without a pause between them, and the beginning of one more.
            for _ in 0..4 {
                peer.write_all(&frame).await.unwrap();
            }
            peer.write_all(&frame[..frame.len() / 2]).await.unwrap();
        });
        let mut conn = Conn::new(io);
        for _ in 0..4 {
            assert_eq!(conn.read_packet(limit::LOGIN).await.unwrap().len(), limit::LOGIN);
            assert!(conn.inbox.capacity() <= 2 * (limit::LOGIN + READ_SIZE), "{}", conn.inbox.capacity());
        }
        assert!(matches!(conn.read_packet(limit::LOGIN).await, Err(ConnError::Cut)));
        talking.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_said_last_is_not_reset_by_what_was_not_read() {
        let (mut peer, io) = duplex(64);
        let mut conn = Conn::new(io);
        let talking = tokio::spawn(async move {
            peer.write_all(&vec![7; 50_000]).await.unwrap();
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).await.unwrap();
            heard
        });
        conn.write_packet(b"no").await.unwrap();
        conn.close_heard().await;
        assert!(conn.inbox.capacity() <= 2 * READ_SIZE);
        assert_eq!(talking.await.unwrap(), b"\x02no");
    }
}
