//! The PROXY protocol header, versions 1 and 2, from trusted peers.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::conn::{Conn, ConnError, Io};
use crate::protocol::reader::Malformed;

/// Longest header read: version 2 may state up to 64 KiB of extensions, real ones need a few hundred bytes.
const MAX_HEADER: usize = 4 << 10;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own address.
    Client(SocketAddr),
    /// The proxy speaks for itself (LOCAL) or does not know (UNKNOWN): good for status only.
    Unstated,
}

/// Reads the header that must stand before anything else. Call only for peers that are trusted to send it.
pub async fn read<S: Io>(conn: &mut Conn<S>) -> Result<Source, ConnError> {
    loop {
        if let Some((source, len)) = parse(conn.peek())? {
            conn.consume(len);
            return Ok(source);
        }
        if conn.fill().await? == 0 {
            return Err(if conn.peek().is_empty() { ConnError::Closed } else { ConnError::Cut });
        }
    }
}

/// The header at the start of `bytes` and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    let starts = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if !starts(V1_START) && !starts(V2_START) {
        return Err(Malformed::BadValue);
    }
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, len)) => {
            let source = header.proxied_address().map_or(Source::Unstated, |a| Source::Client(a.source));
            Ok(Some((source, len)))
        }
        Err(Error::BufferTooShort) if bytes.len() < MAX_HEADER => Ok(None),
        Err(_) => Err(Malformed::BadValue),
    }
}
