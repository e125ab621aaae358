//! What stands before or beside the packets: PROXY headers, legacy pings, the server id hash, modern forwarding.

use std::time::Duration;

use postern::{
    backend::forwarding,
    identity::{Profile, Username},
    login::keys::server_id_hash,
    net::{
        conn::{Conn, ConnError, limit},
        proxy_header::{self, Source},
    },
    protocol::{
        cipher::SharedSecret,
        handshake::Handshake,
        legacy_ping::{FirstBytes, LegacyAnswer, LegacyPing, classify, kick},
        text::Text,
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};

use super::{bytes, dialect, pinned, properties, text, uuid};

/// What a trusted peer's bytes are read as, sent in pieces before it closes; and the connection behind the header.
async fn read(bytes: &[u8], piece: usize) -> (Result<Source, ConnError>, Conn<DuplexStream>) {
    let (mut peer, io) = duplex(piece);
    let mut conn = Conn::new(io);
    let receive = async {
        let source = proxy_header::read(&mut conn).await;
        if source.is_ok() {
            while conn.fill().await.unwrap() > 0 {}
        }
        (source, conn)
    };
    let send = async move {
        // Whoever refuses early leaves the rest where it is.
        let _ = peer.write_all(bytes).await;
        drop(peer);
        std::future::pending::<()>().await;
    };
    tokio::select! { got = receive => got, () = send => unreachable!("it never ends") }
}

/// Whole, byte by byte, and in pieces that end nowhere in particular.
const PIECES: [usize; 3] = [1 << 17, 1, 13];

async fn accepted(entry: &Value, expected: Source) {
    let header = bytes(&entry["hex"]);
    let len = usize::try_from(entry["header_length"].as_u64().unwrap()).unwrap();
    for piece in PIECES {
        let (source, conn) = read(&header, piece).await;
        assert_eq!(source.unwrap(), expected, "{}", entry["case"]);
        assert_eq!(conn.peek(), &header[len..], "{}", entry["case"]);
    }
}

#[tokio::test]
async fn proxy_headers_with_and_without_an_address() {
    let pinned = pinned("proxy.json");
    for entry in pinned["valid"].as_array().unwrap() {
        accepted(entry, Source::Client(text(&entry["source"]).parse().unwrap())).await;
    }
    for entry in pinned["no_address"].as_array().unwrap() {
        accepted(entry, Source::Unstated).await;
    }
}

#[tokio::test]
async fn incomplete_proxy_headers_are_awaited_to_the_end() {
    for entry in pinned("proxy.json")["incomplete"].as_array().unwrap() {
        let header = bytes(&entry["hex"]);
        let (source, _) = read(&header, PIECES[0]).await;
        let end = source.unwrap_err();
        let fits = match end {
            ConnError::Closed => header.is_empty(),
            ConnError::Cut => !header.is_empty(),
            ConnError::Broken(_) | ConnError::Malformed(_) => false,
        };
        assert!(fits, "{}: {end}", entry["case"]);
    }
}

/// Cut at every byte, no header is taken for a whole one, and nothing but its absence is found wrong.
#[tokio::test]
async fn every_beginning_of_a_proxy_header_is_only_that() {
    let pinned = pinned("proxy.json");
    let entries = ["valid", "no_address"].map(|group| pinned[group].as_array().unwrap().clone()).concat();
    for entry in &entries {
        let len = usize::try_from(entry["header_length"].as_u64().unwrap()).unwrap();
        let header = &bytes(&entry["hex"])[..len];
        for cut in 0..len {
            let (source, _) = read(&header[..cut], PIECES[0]).await;
            let end = source.unwrap_err();
            assert_eq!(matches!(end, ConnError::Closed), cut == 0, "{} cut at {cut}: {end}", entry["case"]);
            assert!(
                matches!(end, ConnError::Closed | ConnError::Cut),
                "{} cut at {cut}: {end}",
                entry["case"]
            );
            let (least, begins) =
                (if header[0] == b'P' { 6 } else { 12 }, proxy_header::begins(&header[..cut]));
            assert_eq!(begins, (cut >= least).then_some(true), "{} cut at {cut}", entry["case"]);
        }
    }
}

/// The lines that the specification prints: its example, and the longest of each kind with the length stated there.
#[tokio::test]
async fn the_published_lines() {
    const FULL: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let example =
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    for piece in PIECES {
        let (source, conn) = read(example, piece).await;
        assert_eq!(source.unwrap(), Source::Client("192.168.0.1:56324".parse().unwrap()));
        assert!(conn.peek().starts_with(b"GET / "), "{:?}", conn.peek());
    }
    for (line, len, expected) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_owned(),
            56,
            Some("255.255.255.255:65535"),
        ),
        (
            format!("PROXY TCP6 {FULL} {FULL} 65535 65535\r\n"),
            104,
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        ("PROXY UNKNOWN\r\n".to_owned(), 15, None),
        (format!("PROXY UNKNOWN {FULL} {FULL} 65535 65535\r\n"), 107, None),
    ] {
        assert_eq!(line.len(), len, "{line}");
        let (source, conn) = read(line.as_bytes(), PIECES[0]).await;
        let expected = expected.map_or(Source::Unstated, |address| Source::Client(address.parse().unwrap()));
        assert_eq!(source.unwrap(), expected, "{line}");
        assert!(conn.peek().is_empty());
    }
}

#[tokio::test]
async fn hostile_lines_are_refused_before_they_end() {
    for line in [
        // One byte more than any line may have, whatever comes.
        format!("PROXY UNKNOWN {}", "x".repeat(94)),
        format!("PROXY TCP4 {}", "1".repeat(97)),
        "PROXY TCP4 192.168.000.001 192.168.0.11 56324 443\r\n".to_owned(),
        "PROXY TCP4 192.168.0.1\r\n".to_owned(),
        "PROXY \r\n".to_owned(),
        "PROXY UNKNOWN\n".to_owned(),
        "PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n".to_owned(),
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 65536\r\n".to_owned(),
        "PROXY TCP5 192.168.0.1 192.168.0.11 56324 443\r\n".to_owned(),
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n".to_owned() + &"x".repeat(70),
    ] {
        let (mut peer, io) = duplex(1024);
        peer.write_all(line.as_bytes()).await.unwrap();
        let mut conn = Conn::new(io);
        // The peer is still there: it is not waited for.
        let source = timeout(Duration::from_secs(5), proxy_header::read(&mut conn)).await.expect(&line);
        assert!(matches!(source, Err(ConnError::Malformed(_))), "{line}: {source:?}");
    }
}

#[test]
fn packets_do_not_begin_like_a_proxy_header() {
    for bytes in [
        // Handshakes as long as the first bytes of a header are large.
        &b"\x50\x00\xf6\x05"[..],
        b"\x0d\x00\xf6\x05",
        b"\xfe",
        b"\xfe\x01",
        b"\x02",
        b"PROXYTCP4 ",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"GET / HTTP/1.1",
    ] {
        assert_eq!(proxy_header::begins(bytes), Some(false), "{bytes:x?}");
    }
    for beginning in [&b""[..], b"P", b"\r", b"PROXY", b"\r\n\r\n\0\r\nQUIT"] {
        assert_eq!(proxy_header::begins(beginning), None, "{beginning:x?}");
    }
}

#[tokio::test]
async fn invalid_proxy_headers_are_refused() {
    for entry in pinned("proxy.json")["invalid"].as_array().unwrap() {
        for piece in PIECES {
            let (source, _) = read(&bytes(&entry["hex"]), piece).await;
            assert!(matches!(source, Err(ConnError::Malformed(_))), "{}: {source:?}", entry["case"]);
        }
    }
}

/// Headers against the letter of the specification: what is read all the same, and what is not.
#[tokio::test]
async fn lenience_towards_proxy_headers() {
    let pinned = pinned("proxy.json");
    let lenient = pinned["lenient"].as_array().unwrap();
    assert_eq!(lenient.len(), 14);
    for entry in lenient {
        let case = text(&entry["case"]);
        let expected = match case {
            // Numbers and extensions that nobody could take for another address.
            "v1_leading_zeros_in_port"
            | "v1_plus_in_port"
            | "v2_udp4"
            | "v2_udp6"
            | "v2_tlv_overruns"
            | "v2_tlv_cut"
            | "v2_checksum_wrong" => Some(Source::Client(text(&entry["source"]).parse().unwrap())),
            // Whoever speaks for itself may fill the rest as it likes.
            "v2_local_family_4" => Some(Source::Unstated),
            "v1_unknown_glued"
            | "v1_other_separator"
            | "v1_unknown_108_bytes"
            | "v1_line_feed_alone"
            | "v2_inet_unspecified"
            | "v2_65535_bytes" => None,
            _ => panic!("{case} is new: say what becomes of it"),
        };
        let zeros = entry["zeros_after"].as_u64().unwrap_or_default();
        let mut header = bytes(&entry["hex"]);
        header.resize(header.len() + usize::try_from(zeros).unwrap(), 0);
        for piece in PIECES {
            let (source, _) = read(&header, piece).await;
            match expected {
                Some(expected) => assert_eq!(source.unwrap(), expected, "{case}"),
                None => assert!(matches!(source, Err(ConnError::Malformed(_))), "{case}: {source:?}"),
            }
        }
    }
}

/// A version 2 header may state up to 64 KiB. One above the cap is refused on its word: the peer still waits, and
/// nothing of what it promises is awaited.
#[tokio::test(start_paused = true)]
async fn the_length_of_a_proxy_header_has_a_cap() {
    let header = |len: u16| {
        let addresses = b"\xc0\xa8\0\x01\xc0\xa8\0\x0b\xdc\x04\x01\xbb";
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &len.to_be_bytes(), addresses].concat()
    };
    let longest = (4 << 10) - 16;
    for piece in PIECES {
        let mut fits = header(longest);
        fits.resize(16 + usize::from(longest), 0);
        let (source, conn) = read(&fits, piece).await;
        assert_eq!(source.unwrap(), Source::Client("192.168.0.1:56324".parse().unwrap()));
        assert!(conn.peek().is_empty());
    }
    for len in [longest + 1, u16::MAX] {
        let (mut peer, io) = duplex(1024);
        peer.write_all(&header(len)).await.unwrap();
        let mut conn = Conn::new(io);
        let source = timeout(Duration::from_secs(1), proxy_header::read(&mut conn)).await.unwrap();
        assert!(matches!(source, Err(ConnError::Malformed(_))), "{len}: {source:?}");
        drop(peer);
    }
}

#[test]
fn server_id_hashes() {
    let pinned = pinned("hash.json");
    let full = pinned["full"].as_array().unwrap();
    assert!(full.len() > 30);
    for entry in full {
        let secret = SharedSecret::new(&bytes(&entry["shared_secret"])).unwrap();
        let hash = server_id_hash(text(&entry["server_id"]), &secret, &bytes(&entry["public_key"]));
        assert_eq!(hash, text(&entry["hash"]), "{}", entry["case"]);
    }
}

fn profile(entry: &Value) -> Profile {
    let name = Username::parse(text(&entry["name"])).unwrap();
    Profile { id: uuid(&entry["uuid"]), name, properties: properties(&entry["properties"]) }
}

#[test]
fn modern_forwarding() {
    let pinned = pinned("forwarding.json");
    let answers = pinned["answers"].as_array().unwrap();
    let mut compared = 0;
    for entry in answers {
        // A protocol whose backends are answered in this version, and what they ask.
        let (protocol, asked) = match entry["version"].as_u64().unwrap() {
            1 => (393, &[][..]),
            4 => (761, &[4][..]),
            // They carry a proven key, which only the crate's own tests can make up: they compare these.
            _ => continue,
        };
        let (secret, address) = (text(&entry["secret"]), text(&entry["address"]).parse().unwrap());
        let answer =
            forwarding::answer(asked, secret.as_bytes(), &dialect(protocol), &profile(entry), None, address);
        assert_eq!(answer, bytes(&entry["answer"]), "{}", entry["case"]);
        compared += 1;
    }
    assert_eq!(compared, 10);

    let (first, secret) = (&answers[0], text(&answers[0]["secret"]));
    let address = text(&first["address"]).parse().unwrap();
    let keyless = pinned["versions"].as_array().unwrap().iter().filter(|entry| entry["player_key"] == false);
    for entry in keyless {
        let protocol = super::small(&entry["protocol"]);
        let request = bytes(&entry["request"]);
        let answer = forwarding::answer(
            &request,
            secret.as_bytes(),
            &dialect(protocol),
            &profile(first),
            None,
            address,
        );
        // Behind the HMAC.
        assert_eq!(u64::from(answer[32]), entry["version"].as_u64().unwrap(), "{entry}");
    }
}

fn ping_of(form: &Value) -> LegacyPing {
    match text(form) {
        "oldest" => LegacyPing::Bare,
        "newer" => LegacyPing::Extended,
        form => panic!("no form {form}"),
    }
}

#[test]
fn legacy_pings() {
    let pinned = pinned("legacy_ping.json");
    for entry in pinned["requests"].as_array().unwrap() {
        let (request, ping) = (bytes(&entry["hex"]), ping_of(&entry["form"]));
        // One of up to two bytes ends where a frame might go on.
        let expected = if request.len() <= 2 { FirstBytes::Maybe(ping) } else { FirstBytes::Ping(ping) };
        assert_eq!(classify(&request), expected, "{}", entry["case"]);
        // However little of it has come, it is not taken for a frame.
        for len in 1..request.len() {
            let first = classify(&request[..len]);
            assert!(
                matches!(first, FirstBytes::Maybe(_) | FirstBytes::Ping(_)),
                "{}: {first:?}",
                entry["case"]
            );
        }
    }
    for entry in pinned["hostile"].as_array().unwrap() {
        // Nothing behind the third byte is read: none of it can be waited for, or believed.
        let first = classify(&bytes(&entry["hex"]));
        assert_eq!(first, FirstBytes::Ping(LegacyPing::Extended), "{}", entry["case"]);
    }
    for entry in pinned["answers"].as_array().unwrap() {
        let status = &entry["status"];
        let count = |key: &str| u32::try_from(status[key].as_u64().unwrap()).unwrap();
        let answer = LegacyAnswer {
            version: text(&status["version"]),
            description: &Text::parse(text(&status["motd"]), &[]),
            online: count("online"),
            max: count("max"),
        };
        assert_eq!(ping_of(&entry["form"]).answer(&answer), bytes(&entry["hex"]), "{}", entry["case"]);
    }
    for entry in pinned["logins"].as_array().unwrap() {
        assert_eq!(classify(&bytes(&entry["hex"])), FirstBytes::Login);
        assert_eq!(kick(text(&entry["text"])), bytes(&entry["answer"]));
    }
}

#[tokio::test]
async fn long_handshakes_are_not_pings() {
    for entry in pinned("legacy_ping.json")["not_pings"].as_array().unwrap() {
        let frame = bytes(&entry["hex"]);
        for len in 3..=frame.len() {
            assert_eq!(classify(&frame[..len]), FirstBytes::Framed, "{} bytes of {}", len, entry["case"]);
        }
        let (mut peer, io) = duplex(frame.len());
        peer.write_all(&frame).await.unwrap();
        let packet = Conn::new(io).read_packet(limit::BEFORE_LOGIN).await.unwrap();
        assert_eq!(Handshake::read(&packet).unwrap().host.name(), text(&entry["host"]));
    }
}
