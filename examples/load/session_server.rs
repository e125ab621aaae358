//! A stand-in for Mojang's session server. It vouches for every player whose name this program made up.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use uuid::Uuid;

use crate::{
    client::{NAME, player_id},
    failure::{During, Outcome},
};

/// A skin and a cape, as Mojang words them, in base64.
const TEXTURES: &str = "\
    ewogICJ0aW1lc3RhbXAiOiAxNzkwMDAwMDAwMDAwLAogICJwcm9maWxlSWQiOiAiMDY5YTc5ZjQ0NGU5NDcyNmE1YmVmY2E5MGUz\
    OGFhZjUiLAogICJwcm9maWxlTmFtZSI6ICJsb2FkXzAwMDAwMSIsCiAgInNpZ25hdHVyZVJlcXVpcmVkIjogdHJ1ZSwKICAidGV4\
    dHVyZXMiOiB7CiAgICAiU0tJTiI6IHsKICAgICAgInVybCI6ICJodHRwOi8vdGV4dHVyZXMubWluZWNyYWZ0Lm5ldC90ZXh0dXJl\
    LzI5MjAwOWE0OTI1YjU4ZjAyYzc3ZGFkYzNlY2VmMDdlYTRjNzQ3MmY2NGUwZmRjMzJjZTU1MjI0ODkzNjI2ODAiLAogICAgICAi\
    bWV0YWRhdGEiOiB7CiAgICAgICAgIm1vZGVsIjogInNsaW0iCiAgICAgIH0KICAgIH0sCiAgICAiQ0FQRSI6IHsKICAgICAgInVy\
    bCI6ICJodHRwOi8vdGV4dHVyZXMubWluZWNyYWZ0Lm5ldC90ZXh0dXJlLzIzNDBjMGUwM2RkMjRhMTFiMTVhOGIzM2MyYTdlOWUz\
    MmFiYjIwNTFiMjQ4MWQwYmE3ZGVmZDYzNWNhN2E5MzMiCiAgICB9CiAgfQp9\
    ";

/// Characters of a signature: 4096 bits in base64.
const SIGNATURE: usize = 684;

/// Longest request that is read.
const MAX_REQUEST: usize = 16 << 10;

/// Answers at that address from now on, until the program ends. Returns the address with its port.
pub(crate) fn start(address: SocketAddr) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind(address).during(format!("session server: listening on {address}"))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("session server".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the proxy's to notice.
            thread::spawn(move || serve(stream));
        }
    })?;
    Ok(address)
}

/// Answers one request after the other.
fn serve(mut stream: TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = end_of_head(&bytes) {
            let head: Vec<u8> = bytes.drain(..end).collect();
            stream.write_all(answer(&String::from_utf8_lossy(&head)).as_bytes())?;
        }
        let read = stream.read(&mut piece)?;
        if read == 0 || bytes.len() > MAX_REQUEST {
            return Ok(());
        }
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
}

/// Where the first request ends; none of them has a body.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|start| start + 4)
}

/// The answer to a request.
fn answer(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let name = query.split('&').find_map(|pair| pair.strip_prefix("username=")).unwrap_or_default();
    if !name.starts_with(NAME) {
        return "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
    }
    let profile = profile(name, player_id(name));
    let length = profile.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{profile}")
}

/// The profile of a player: some 1.5 kB, like a real one.
fn profile(name: &str, id: Uuid) -> String {
    let signature = "c2lnbmF0dXJl".repeat(SIGNATURE / 12);
    format!(
        r#"{{"id":"{}","name":"{name}","properties":[{{"name":"textures","value":"{TEXTURES}","signature":"{signature}"}}],"profileActions":[]}}"#,
        id.simple()
    )
}
