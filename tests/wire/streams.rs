//! Frames, whole streams of them, and the link cipher.

use postern::{
    net::conn::{Conn, ConnError, limit},
    protocol::{
        cipher::{Decryptor, Encryptor, SharedSecret},
        frame::{self, MAX_INFLATED},
        reader::peek_varint,
    },
};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, duplex};

use super::{bytes, pinned, text};

fn threshold(entry: &Value) -> Option<usize> {
    entry["threshold"].as_u64().map(|threshold| threshold.try_into().unwrap())
}

/// What a connection yields whose peer sends these bytes, the first `cut` on their own, and closes.
async fn packets(stream: &[u8], cut: usize, threshold: Option<usize>) -> (Vec<Vec<u8>>, ConnError) {
    let (mut peer, io) = duplex(stream.len().max(1));
    let mut conn = Conn::new(io);
    conn.set_threshold(threshold);
    peer.write_all(&stream[..cut]).await.unwrap();
    if cut > 0 {
        conn.fill().await.unwrap();
    }
    peer.write_all(&stream[cut..]).await.unwrap();
    drop(peer);
    let mut packets = Vec::new();
    loop {
        match conn.read_packet(limit::BACKEND).await {
            Ok(packet) => packets.push(packet),
            Err(end) => return (packets, end),
        }
    }
}

#[tokio::test]
async fn good_frames() {
    for entry in pinned("frames.json")["good"].as_array().unwrap() {
        let case = text(&entry["case"]);
        let (packet, whole, threshold) = (bytes(&entry["packet"]), bytes(&entry["frame"]), threshold(entry));
        let head = frame::header(&whole).unwrap().unwrap();
        assert_eq!(head.prefix + head.content, whole.len(), "{case}");
        for len in 0..head.prefix {
            assert_eq!(frame::header(&whole[..len]), Ok(None), "{case}");
        }
        let (got, end) = packets(&whole, 0, threshold).await;
        assert_eq!(got, std::slice::from_ref(&packet), "{case}");
        assert!(matches!(end, ConnError::Closed), "{case}: {end}");

        let mut written = Vec::new();
        frame::put_frame(&mut written, &packet, threshold);
        match threshold {
            // Another spelling of the same length.
            None if case == "padded_length" => assert_eq!(written[1..], packet),
            Some(threshold) if packet.len() >= threshold => {
                let head = frame::header(&written).unwrap().unwrap();
                let content = &written[head.prefix..];
                assert_eq!(head.content, content.len(), "{case}");
                // Stated, and so really compressed.
                let (stated, _) = peek_varint(content, 5).unwrap().unwrap();
                assert_eq!(usize::try_from(stated), Ok(packet.len()), "{case}");
                assert_eq!(frame::decompress(content, MAX_INFLATED).unwrap(), packet, "{case}");
            }
            _ => assert_eq!(written, whole, "{case}"),
        }
    }
}

/// A packet of `zlib.json`.
fn repeated(entry: &Value) -> Vec<u8> {
    bytes(&entry["unit"]).repeat(entry["times"].as_u64().unwrap().try_into().unwrap())
}

/// What the program writes is what zlib itself makes without compressing, byte by byte.
#[tokio::test]
async fn short_packets_go_stored() {
    let zlib = pinned("zlib.json");
    let entries = zlib["stored"].as_array().unwrap();
    assert!(entries.iter().any(|entry| repeated(entry).len() == 16 << 10), "the longest of them");
    for entry in entries {
        let (case, packet) = (text(&entry["case"]), repeated(entry));
        let whole = [&bytes(&entry["before"])[..], &packet, &bytes(&entry["after"])].concat();
        let mut written = Vec::new();
        frame::put_frame(&mut written, &packet, Some(packet.len()));
        assert!(written == whole, "{case} is written otherwise");
        let (got, end) = packets(&whole, whole.len() / 2, Some(0)).await;
        assert!(got == [packet], "{case} is read otherwise");
        assert!(matches!(end, ConnError::Closed), "{case}: {end}");
    }
}

#[tokio::test]
async fn packets_that_others_deflated() {
    for entry in pinned("zlib.json")["deflated"].as_array().unwrap() {
        let (case, packet, whole) = (text(&entry["case"]), repeated(entry), bytes(&entry["frame"]));
        let (got, end) = packets(&whole, whole.len() / 2, Some(0)).await;
        assert!(got == [packet], "{case} is read otherwise");
        assert!(matches!(end, ConnError::Closed), "{case}: {end}");
    }
}

#[tokio::test]
async fn broken_zlib_streams_yield_nothing() {
    let zlib = pinned("zlib.json");
    let entries = zlib["bad"].as_array().unwrap();
    assert_eq!(entries.len(), 9);
    for entry in entries {
        let (got, end) = packets(&bytes(&entry["frame"]), 0, Some(0)).await;
        assert!(got.is_empty(), "{}", entry["case"]);
        assert!(matches!(end, ConnError::Malformed(_)), "{}: {end}", entry["case"]);
    }
}

/// Readers differ on these; what this one does is its choice.
#[tokio::test]
async fn doubtful_frames_are_refused_unless_a_peer_might_mean_them() {
    let frames = pinned("frames.json");
    let doubtful = frames["doubtful"].as_array().unwrap();
    assert_eq!(doubtful.len(), 7);
    for entry in doubtful {
        let case = text(&entry["case"]);
        let (got, end) = packets(&bytes(&entry["frame"]), 0, threshold(entry)).await;
        // Thresholds of the two sides may differ for a while, and older games do not mind.
        if matches!(case, "compressed_below_threshold" | "plain_above_threshold") {
            assert_eq!(got, [bytes(&entry["packet"])], "{case}");
            assert!(matches!(end, ConnError::Closed), "{case}: {end}");
        } else {
            assert!(got.is_empty(), "{case}");
            assert!(matches!(end, ConnError::Malformed(_)), "{case}: {end}");
        }
    }
}

#[tokio::test]
async fn bad_frames_yield_nothing() {
    for entry in pinned("frames.json")["bad"].as_array().unwrap() {
        let (got, end) = packets(&bytes(&entry["frame"]), 0, threshold(entry)).await;
        assert!(got.is_empty(), "{}", entry["case"]);
        assert!(matches!(end, ConnError::Malformed(_)), "{}: {end}", entry["case"]);
    }
}

#[tokio::test]
async fn streams_may_be_cut_anywhere() {
    for entry in pinned("frames.json")["streams"].as_array().unwrap() {
        let expected: Vec<_> = entry["packets"].as_array().unwrap().iter().map(bytes).collect();
        let stream = bytes(&entry["stream"]);
        let mut from = 0;
        for packet in &expected {
            let head = frame::header(&stream[from..]).unwrap().unwrap();
            from += head.prefix + head.content;
            assert!(from <= stream.len(), "{packet:x?}");
        }
        assert_eq!(from, stream.len());
        for cut in 0..=stream.len() {
            let (got, end) = packets(&stream, cut, threshold(entry)).await;
            assert_eq!(got, expected, "{} cut at {cut}", entry["case"]);
            assert!(matches!(end, ConnError::Closed), "{} cut at {cut}: {end}", entry["case"]);
        }
    }
}

#[test]
fn the_cipher_whatever_the_pieces() {
    for entry in pinned("cipher.json").as_array().unwrap() {
        let secret = SharedSecret::new(&bytes(&entry["key"])).unwrap();
        let (plain, cipher) = (bytes(&entry["plaintext"]), bytes(&entry["ciphertext"]));
        assert_eq!(entry["length"].as_u64(), Some(plain.len() as u64));
        for piece in [1, 2, 7, 15, 16, 17, 31, 64, 999, 1000] {
            let (mut encrypted, mut decrypted) = (plain.clone(), cipher.clone());
            let (mut encryptor, mut decryptor) = (Encryptor::new(&secret), Decryptor::new(&secret));
            encrypted.chunks_mut(piece).for_each(|chunk| encryptor.apply(chunk));
            decrypted.chunks_mut(piece).for_each(|chunk| decryptor.apply(chunk));
            assert_eq!(encrypted, cipher, "{} bytes in pieces of {piece}", plain.len());
            assert_eq!(decrypted, plain, "{} bytes in pieces of {piece}", plain.len());
        }
        // An empty piece changes nothing, and two uneven ones meet anywhere in a block.
        for cut in 0..plain.len().min(40) {
            let mut encrypted = plain.clone();
            let mut encryptor = Encryptor::new(&secret);
            let (head, tail) = encrypted.split_at_mut(cut);
            encryptor.apply(head);
            encryptor.apply(&mut []);
            encryptor.apply(tail);
            assert_eq!(encrypted, cipher, "cut at {cut}");
        }
    }
}

/// The cipher under a connection: what the peer sees, and what it sends.
#[tokio::test]
async fn connections_encrypt_both_ways() {
    use tokio::io::AsyncReadExt;

    for entry in pinned("cipher.json").as_array().unwrap() {
        let secret = SharedSecret::new(&bytes(&entry["key"])).unwrap();
        let (plain, cipher) = (bytes(&entry["plaintext"]), bytes(&entry["ciphertext"]));
        let (mut peer, io) = duplex(2048);
        let mut conn = Conn::new(io);
        // Part of it is there already when the cipher is switched on.
        let (early, late) = cipher.split_at(cipher.len() / 3);
        peer.write_all(early).await.unwrap();
        if !early.is_empty() {
            conn.fill().await.unwrap();
        }
        conn.encrypt(&secret);
        assert!(conn.is_encrypted());
        peer.write_all(late).await.unwrap();
        while conn.peek().len() < plain.len() {
            assert_ne!(conn.fill().await.unwrap(), 0);
        }
        assert_eq!(conn.peek(), plain);
        let (first, second) = plain.split_at(plain.len() / 2);
        conn.write_raw(first).await.unwrap();
        conn.write_raw(second).await.unwrap();
        conn.close().await;
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, cipher);
    }
}
