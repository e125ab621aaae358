//! What the fuzz targets do with an input, apart from not panicking. `tests/fuzz_smoke.rs` runs the same on a stable
//! compiler, with inputs of its own making.
#![allow(dead_code, reason = "each target uses one of these")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is the finding")]

use std::{
    fs,
    pin::pin,
    task::{Context, Poll, Waker},
};

use postern::{
    backend::diagnose,
    config::{self, Environment, Purpose},
    net::{
        conn::{Conn, ConnError, limit},
        proxy_header::{self, Source},
    },
    protocol::{
        cipher::SharedSecret,
        command_tree::with_pin_commands,
        configuration,
        dialog::Click,
        frame::{self, MAX_INFLATED},
        handshake::Handshake,
        legacy_ping,
        login::{
            self, EncryptionResponse, FromBackend, FromClient, LoginStart, LoginSuccess, PluginResponse,
        },
        nbt,
        pin_command::{SpeechIds, Spoken},
        play::{RelayState, write_system_chat},
        player_chat,
        quarantine::{Down, Quarantine, Up},
        reader::{Malformed, Reader},
        status::{self, StatusRequest},
        text::Text,
        version::{Dialect, ProtocolVersion},
    },
    session::{
        import::{Row, Trust, read_rows},
        record::Document,
    },
};
use tokio::io::{AsyncReadExt, Join, Sink, join, sink};

/// A future that has nothing to wait for: its peer's bytes are all in memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("waits for a peer that has closed"),
    }
}

type Peer<'a> = Join<tokio::io::Chain<&'a [u8], &'a [u8]>, Sink>;

/// A connection whose peer sends these bytes in two pieces and closes.
fn conn(data: &[u8], cut: usize) -> Conn<Peer<'_>> {
    let (first, second) = data.split_at(cut.min(data.len()));
    Conn::new(join(first.chain(second), sink()))
}

/// Every release, and numbers that are none.
fn dialects() -> impl Iterator<Item = Dialect> {
    let others = [-1, 0, 46, 392, 778, 0x4000_0001, i32::MAX].map(ProtocolVersion);
    Dialect::releases().map(|(version, _)| version).chain(others).map(Dialect::of)
}

/// The first two bytes say how to read, the rest is the stream. However it is cut, it is read alike; no packet is
/// larger than allowed, or empty.
pub fn frame(data: &[u8]) {
    let [how, cut, stream @ ..] = data else { return };
    let cut = usize::from(*cut);
    let limit = if how & 1 == 0 { limit::BEFORE_LOGIN } else { limit::BACKEND };
    let read = |cut| {
        let mut conn = conn(stream, cut);
        if how & 2 != 0 {
            conn.encrypt(&SharedSecret::new(&[*how; 16]).unwrap());
        }
        conn.set_threshold((how & 4 != 0).then_some(usize::from(how >> 3)));
        let mut packets = Vec::new();
        let end = loop {
            match at_once(conn.read_packet(limit)) {
                Ok(packet) => packets.push(packet),
                Err(end) => break end.to_string(),
            }
        };
        (packets, end)
    };
    let (packets, end) = read(0);
    assert_eq!((&packets, &end), (&read(cut).0, &read(cut).1));
    for packet in &packets {
        assert!((1..=limit).contains(&packet.len()));
    }
    for packet in packets {
        for threshold in [None, Some(0), Some(256)] {
            let mut written = Vec::new();
            frame::put_frame(&mut written, &packet, threshold);
            // Compression may make it longer than a frame can be.
            let Ok(Some(head)) = frame::header(&written) else { continue };
            let content = &written[head.prefix..];
            assert_eq!(head.content, content.len());
            match threshold {
                None => assert_eq!(content, packet),
                Some(_) => assert_eq!(frame::decompress(content, MAX_INFLATED).unwrap(), packet),
            }
        }
    }
}

/// What is read is written so that it is read again; a host never carries a foreign NUL onwards.
pub fn serverbound(data: &[u8]) {
    legacy_ping::classify(data);
    let _ = StatusRequest::read(data)
        .map(|request| assert_eq!(StatusRequest::read(&request.write()), Ok(request)));
    if let Ok(handshake) = Handshake::read(data) {
        let host = handshake.host.for_backend();
        let name = handshake.host.name();
        assert!(!name.chars().any(char::is_control));
        assert_eq!(host, format!("{name}{}", handshake.host.forge_marker().unwrap_or_default()));
        let again = Handshake::read(&handshake.write(&host)).unwrap();
        assert_eq!((again.version, again.port), (handshake.version, handshake.port));
        // Without its trailing dot, a name that had two of them has another.
        if !name.ends_with('.') {
            assert_eq!(again.host, handshake.host);
        }
    }
    for dialect in dialects() {
        if let Ok(start) = LoginStart::read(data, &dialect) {
            assert_eq!(LoginStart::read(&start.write(&dialect), &dialect), Ok(start));
        }
        let _ = EncryptionResponse::read(data, &dialect);
        let _ = login::read_acknowledged(data, &dialect);
        if let Ok(FromClient::PluginResponse(response)) = FromClient::read(data, &dialect) {
            let written = PluginResponse { ..response.clone() }.write(&dialect);
            assert_eq!(FromClient::read(&written, &dialect), Ok(FromClient::PluginResponse(response)));
        }
    }
}

/// What is read is written so that the client reads the same.
pub fn backend_packets(data: &[u8]) {
    let _ = status::read_answer(data)
        .map(|json| assert_eq!(status::read_answer(&status::write_answer(json)), Ok(json)));
    for dialect in dialects() {
        let Ok(packet) = FromBackend::read(data, &dialect) else { continue };
        let written = match &packet {
            FromBackend::EncryptionRequest => continue,
            FromBackend::Disconnect(json) => {
                if let Ok(component) = serde_json::from_str(json) {
                    diagnose::plain_text(&component);
                }
                login::write_disconnect_json(&dialect, json)
            }
            FromBackend::Success(success) => {
                let written = success.write(&dialect);
                assert_eq!(LoginSuccess::read(&written, &dialect).as_ref(), Ok(success));
                written
            }
            FromBackend::SetCompression(threshold) => {
                login::write_set_compression(&dialect, *threshold).unwrap()
            }
            FromBackend::PluginRequest(request) => request.write(&dialect),
            FromBackend::CookieRequest(key) => login::write_cookie_request(&dialect, key).unwrap(),
        };
        assert_eq!(FromBackend::read(&written, &dialect), Ok(packet));
    }
}

/// One tag is passed over, or is none: then no longer input that begins so is one, unless more was needed.
pub fn nbt(data: &[u8]) {
    let skipped = |data: &[u8]| {
        let mut reader = Reader::new(data);
        nbt::skip(&mut reader).map(|()| data.len() - reader.rest().len())
    };
    let whole = skipped(data);
    for more in [&[0][..], &[0xff; 9]] {
        let longer = skipped(&[data, more].concat());
        assert!(longer == whole || whole == Err(Malformed::Truncated));
    }
    if let Ok(len) = whole {
        assert!((1..=data.len()).contains(&len));
        assert_eq!(skipped(&data[..len]), whole);
        assert_eq!(skipped(&data[..len - 1]), Err(Malformed::Truncated));
    }
    for key in ["pin", "", "a"] {
        if let Ok(found) = nbt::string_at(data, key) {
            // What clients may send, backends may, too, and it is the only tag there is.
            assert_eq!((whole, data[0]), (Ok(data.len()), 10));
            assert!(found.is_none_or(|text| text.len() <= data.len()));
        }
    }
}

/// What is added to a command tree leaves all else as it was, wherever it is taken for one.
pub fn command_tree(data: &[u8]) {
    for dialect in dialects() {
        let Some(made) = with_pin_commands(&dialect, data) else { continue };
        // Three literals, an argument, and numbers: at most so much.
        let more = made.len() - data.len();
        assert!((30..120).contains(&more), "{more}");
        let tail = |packet: &[u8], skip: usize| packet[..packet.len() - skip].to_vec();
        let added = made.windows(8).rposition(|part| part == b"resetpin").unwrap();
        assert_eq!(added + 8, made.len() - 1, "the last thing before the root's number");
        assert_eq!(made.last(), data.last());
        // All but the root, which is at the beginning.
        let code = made.windows(4).rposition(|part| part == b"code").unwrap() - 3;
        let others = tail(&made, made.len() - code);
        let same = others.iter().rev().zip(data[..data.len() - 1].iter().rev());
        let same = same.take_while(|(own, its)| own == its).count();
        // Id, counts and flags of the root, and up to five bytes for each number of its children.
        let mut root = Reader::new(data);
        root.varint().unwrap();
        root.varint().unwrap();
        root.u8().unwrap();
        for _ in 0..root.varint().unwrap() {
            root.varint().unwrap();
        }
        assert!(same >= root.rest().len() - 1);
        // And once more.
        assert!(with_pin_commands(&dialect, &made).is_some());
    }
}

/// What the first bytes tell, the whole tells, too; and what is said passes no quarantine.
pub fn speech(data: &[u8]) {
    for dialect in dialects() {
        let (ids, quarantine) = (SpeechIds::of(&dialect), Quarantine::of(&dialect));
        let whole = ids.concerns_pins(data);
        for len in (0..data.len().min(SpeechIds::LOOK)).step_by(1 + data.len() / 64) {
            let part = ids.concerns_pins(&data[..len]);
            assert!(part == whole || part == Err(Malformed::Truncated), "{part:?} {whole:?}");
            assert!(matches!(part, Ok(_) | Err(Malformed::Truncated)));
        }
        if let Ok(id) = Reader::new(data).varint()
            && ids.is_speech(id)
        {
            assert_eq!(quarantine.lets_up(RelayState::Play, data), Ok(Up::Speech));
        }
        let Ok(speech) = ids.read(data) else { continue };
        let is_ours = match speech.spoken {
            Spoken::Command(typed) => {
                assert!(["setpin", "pin", "resetpin"].contains(&typed.command.name()));
                true
            }
            Spoken::Suggestion => true,
            Spoken::Other { .. } => false,
        };
        // What hides behind more than is looked at is taken, and read.
        assert!(whole == Ok(is_ours) || (data.len() > SpeechIds::LOOK && whole == Ok(true)), "{whole:?}");
    }
}

/// What a client says in configuration is read whole or not at all, also when it answers a dialog.
pub fn click(data: &[u8]) {
    for dialect in dialects() {
        let read = |data| configuration::FromClient::read(data, &dialect);
        let Ok(packet) = read(data) else { continue };
        let shown = format!("{packet:?}");
        match packet {
            configuration::FromClient::Click(click) => {
                assert!(dialect.dialogs);
                assert!(read(&data[..data.len() - 1]).is_err());
                assert!(matches!(read(&[data, &[0]].concat()), Err(Malformed::LeftOver)));
                if let Click::Code(_) = click {
                    assert!(shown.contains("REDACTED"), "{shown}");
                }
            }
            configuration::FromClient::KeepAlive(_) | configuration::FromClient::Pong(_) => {
                assert!(data.len() <= 13, "an id of five bytes, and a number");
            }
            _ => {}
        }
    }
}

/// A line of somebody is withheld from those who are held, and shown to others as the same line.
pub fn player_chat(data: &[u8]) {
    for dialect in dialects() {
        let quarantine = Quarantine::of(&dialect);
        let signed = player_chat::is_signed(&dialect, data);
        if let Ok(signed) = signed {
            let down = quarantine.lets_down(RelayState::Play, data).unwrap();
            let is_looked_into = signed || dialect.chat_headers;
            assert_eq!(down, if is_looked_into { Down::WithholdSigned } else { Down::Withhold });
            assert_eq!(player_chat::is_signed(&dialect, &data[..data.len().min(32)]), Ok(signed));
        }
        if let Some(header) = player_chat::header(&dialect, data) {
            // A hash in place of the words and what goes with them.
            assert!(header.len() <= data.len() + 33 && dialect.chat_headers);
            assert_eq!(quarantine.lets_down(RelayState::Play, &header), Ok(Down::Pass));
        }
        let Some(disguised) = player_chat::disguise(&dialect, data) else { continue };
        assert!(signed.is_ok());
        assert_eq!(player_chat::signature(&dialect, data).unwrap().is_some(), signed.unwrap());
        // Nothing is made up: what it says is in the packet, but for what is written around a plain line.
        let plain = write_system_chat(&dialect, &Text::plain("")).unwrap().len();
        assert!(disguised.len() <= data.len() + plain + data.len(), "{} of {}", disguised.len(), data.len());
        assert_eq!(quarantine.lets_down(RelayState::Play, &disguised), Ok(Down::Withhold));
    }
}

/// The first byte says where to cut. However it is cut, the same is read, and no more taken than the header.
pub fn proxy_header(data: &[u8]) {
    let [cut, stream @ ..] = data else { return };
    let read = |cut| {
        let mut conn = conn(stream, cut);
        match at_once(proxy_header::read(&mut conn)) {
            Ok(source) => {
                while at_once(conn.fill()).unwrap() > 0 {}
                Ok((source, stream.len() - conn.peek().len()))
            }
            Err(ConnError::Closed) => Err("closed"),
            Err(ConnError::Cut) => Err("cut"),
            Err(ConnError::Malformed(Malformed::BadValue)) => Err("bad"),
            Err(other) => panic!("{other}"),
        }
    };
    let (whole, pieces) = (read(stream.len()), read(usize::from(*cut)));
    assert_eq!(whole, pieces);
    if let Ok((source, taken)) = whole {
        assert!((15..=4096).contains(&taken), "{taken}");
        let head = &stream[..taken];
        // Not one byte fewer will do.
        assert!(at_once(proxy_header::read(&mut conn(&head[..taken - 1], 0))).is_err());
        if let Source::Client(address) = source
            && head.starts_with(b"PROXY")
        {
            assert_eq!(address.is_ipv4(), head.starts_with(b"PROXY TCP4 "));
        }
    }
}

/// A file is either refused with findings that each fit on a line, or taken; and the same twice.
pub fn config(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, data).unwrap();
    let environment =
        Environment { postern_forwarding_secret: Some("Dv5Vj1tQ0mQe".into()), ..Environment::default() };
    let load = || match config::load(&path, &environment, Purpose::Check) {
        Ok(loaded) => {
            assert!(!loaded.config.backend.backends.is_empty());
            format!("{:?} {:?}", loaded.warnings, loaded.notes)
        }
        Err(report) => report.to_string(),
    };
    let first = load();
    assert!(!first.is_empty());
    assert_eq!(first, load());
    // Findings quote the file: none of its control characters may reach a terminal.
    assert!(!first.chars().any(|c| c.is_control() && c != '\n'), "{first:?}");
}

/// A document that can be read is written so that it is read again.
pub fn session_document(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Document>(data) else { return };
    let written = serde_json::to_vec(&document).unwrap();
    assert_eq!(serde_json::from_slice::<Document>(&written).unwrap(), document);
    // Whatever it says, these have to cope with it.
    document.session.last_presence();
    assert!(!format!("{document:?}").contains("$argon2"));
}

/// Rows of an import: what is taken is read again as the same, and what is said about the rest can go to a terminal.
pub fn import_rows(data: &[u8]) {
    let Ok(rows) = serde_json::from_slice::<Vec<serde_json::Value>>(data) else { return };
    let now = "2026-11-21T20:00:00Z".parse().unwrap();
    let (good, refused) = read_rows(&rows, Trust::No, now);
    assert_eq!(good.len() + refused.len(), rows.len());
    for (_, row) in good {
        assert!(row.session.locked && row.session.is_imported() && row.session.counts(now));
        let again = Row::read(&row.as_json(), Trust::No, now).unwrap();
        assert_eq!((&again.session, &again.properties), (&row.session, &row.properties));
        assert!(row.notes.iter().all(|note| !note.chars().any(char::is_control)));
    }
    for told in refused {
        let why = told.why.unwrap();
        assert!(!why.is_empty() && why.len() < 1000 && !why.chars().any(char::is_control), "{why:?}");
    }
}
