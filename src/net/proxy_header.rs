//! The PROXY protocol header, versions 1 and 2, from trusted peers.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::conn::{Conn, ConnError, Io};
use crate::protocol::reader::Malformed;

/// Longest version 2 header read, in bytes: one may state up to 64 KiB of extensions, real ones need a few hundred
/// bytes.
const MAX_V2: usize = 4 << 10;
/// Longest version 1 header, in bytes, as its specification bounds it.
const MAX_V1: usize = 107;

const V1_START: &[u8] = b"PROXY ";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version and command of a version 2 header in which the proxy speaks for itself.
const V2_LOCAL: u8 = 0x20;

/// What a header says of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own address.
    Client(SocketAddr),
    /// The proxy speaks for itself (LOCAL) or does not know (UNKNOWN): good for status only.
    Unstated,
}

/// Whether the bytes begin as a header does; `None` as long as they are too few to tell. No packet of a client begins
/// like that: behind the length stands an id that no first packet has.
pub fn begins(bytes: &[u8]) -> Option<bool> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    match [V1_START, V2_START].into_iter().find(|start| begins(start)) {
        None => Some(false),
        Some(start) if bytes.len() >= start.len() => Some(true),
        Some(_) => None,
    }
}

/// Reads the header that must stand before anything else. Call only for peers that are trusted to send it.
///
/// # Errors
/// Nothing is taken from the connection then: what it began with can be looked at.
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
    if starts(V1_START) {
        parse_v1(bytes)
    } else if starts(V2_START) {
        parse_v2(bytes)
    } else {
        Err(Malformed::BadValue)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    // The library lets anything follow the word.
    if let Some([next, ..]) = bytes.strip_prefix(V1_UNKNOWN)
        && !matches!(next, b' ' | b'\r')
    {
        return Err(Malformed::BadValue);
    }
    // A line that has ended is whole or wrong: nothing more is waited for.
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = end.and_then(|end| bytes.get(..=end)).unwrap_or(bytes);
    match ProxyHeader::parse(line, CONFIG) {
        Ok((header, len)) if len <= MAX_V1 => Ok(Some((source(&header), len))),
        // The library waits no longer than the longest header.
        Err(Error::BufferTooShort) if end.is_none() => Ok(None),
        Ok(_) | Err(_) => Err(Malformed::BadValue),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    let Some([command, _family, high, low, content @ ..]) = bytes.strip_prefix(V2_START) else {
        return Ok(None);
    };
    let stated = usize::from(u16::from_be_bytes([*high, *low]));
    let len = bytes.len() - content.len() + stated;
    if len > MAX_V2 {
        return Err(Malformed::BadValue);
    }
    if content.len() < stated {
        return Ok(None);
    }
    // Whatever else stands in it must be ignored, says the specification.
    if *command == V2_LOCAL {
        return Ok(Some((Source::Unstated, len)));
    }
    match ProxyHeader::parse(bytes, CONFIG) {
        Ok((header, len)) => Ok(Some((source(&header), len))),
        // It is all there: if bytes are missing, it states too few.
        Err(_) => Err(Malformed::BadValue),
    }
}

const CONFIG: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };

fn source(header: &ProxyHeader<'_>) -> Source {
    header.proxied_address().map_or(Source::Unstated, |address| Source::Client(address.source))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn whoever_goes_without_a_byte_has_said_nothing_however_it_went() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for reset in [false, true] {
            let check = TcpStream::connect(address).await.unwrap();
            let mut conn = Conn::new(listener.accept().await.unwrap().0);
            if reset {
                check.set_zero_linger().unwrap();
            }
            drop(check);
            let error = read(&mut conn).await.unwrap_err();
            assert_eq!(matches!(error, ConnError::Broken(_)), reset, "{error}");
            assert!(conn.peek().is_empty());
        }
    }
}
