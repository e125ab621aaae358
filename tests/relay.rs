//! The relay between scripted peers: what arrives, byte by byte, and how connections end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

use std::{
    future::poll_fn,
    io::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::BytesMut;
use flate2::{Compression, write::ZlibEncoder};
use postern::{
    net::{activity::Activity, conn::Parts},
    protocol::{
        cipher::{Decryptor, Encryptor, SharedSecret},
        text::Text,
        version::{Dialect, ProtocolVersion},
    },
    relay::{Begin, Config, EndCause, Ended, Handle, Relay, Side, Terms, Workshop, link},
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::{JoinHandle, JoinSet, coop::unconstrained, yield_now},
    time::{Instant, sleep, timeout},
};

#[path = "relay/held.rs"]
mod held;
#[path = "relay/pins.rs"]
mod pins;
#[path = "relay/plays.rs"]
mod plays;
#[path = "relay/thresholds.rs"]
mod thresholds;

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Ids written down from the tables of game data, not taken from the program: plugin message, acknowledgement of a
/// finished configuration, of a return to it; finish and start of configuration towards the client; a disconnect in
/// configuration and in play; a chat line; what takes the client into the world.
struct Ids {
    protocol: i32,
    plugin: u8,
    configuration: Option<ConfigurationIds>,
    disconnect: u8,
    chat: u8,
    login: u8,
}

struct ConfigurationIds {
    plugin: u8,
    finished: u8,
    acknowledged: u8,
    finish: u8,
    start: u8,
    disconnect: u8,
}

const fn old(protocol: i32, plugin: u8, disconnect: u8, chat: u8, login: u8) -> Ids {
    Ids { protocol, plugin, configuration: None, disconnect, chat, login }
}

#[rustfmt::skip]
const IDS: [Ids; 8] = [
    old(4, 0x17, 0x40, 0x02, 0x01),
    old(47, 0x17, 0x40, 0x02, 0x01),
    old(340, 0x09, 0x1a, 0x0f, 0x23),
    old(393, 0x0a, 0x1b, 0x0e, 0x25),
    old(763, 0x0d, 0x1a, 0x64, 0x28),
    Ids { protocol: 764, plugin: 0x0f, disconnect: 0x1b, chat: 0x67, login: 0x29, configuration: Some(ConfigurationIds {
        plugin: 1, finished: 2, acknowledged: 0x0b, finish: 2, start: 0x65, disconnect: 1 }) },
    Ids { protocol: 774, plugin: 0x15, disconnect: 0x20, chat: 0x77, login: 0x30, configuration: Some(ConfigurationIds {
        plugin: 2, finished: 3, acknowledged: 0x0f, finish: 3, start: 0x74, disconnect: 2 }) },
    Ids { protocol: 777, plugin: 0x16, disconnect: 0x20, chat: 0x7c, login: 0x32, configuration: Some(ConfigurationIds {
        plugin: 2, finished: 3, acknowledged: 0x10, finish: 3, start: 0x78, disconnect: 2 }) },
];

/// The newest release, for what is the same in all of them.
fn newest() -> (&'static Ids, &'static ConfigurationIds) {
    let ids = &IDS[7];
    (ids, ids.configuration.as_ref().unwrap())
}

/// A VarInt in at least `len` bytes.
fn varint(value: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value;
    while rest >= 0x80 || out.len() + 1 < len {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

/// How a packet is put into a frame.
#[derive(Clone, Copy, Debug)]
enum How {
    Plain,
    /// In a compressed stream, not compressed.
    Stored,
    Deflated(u32),
}

/// One frame; lengths take at least the given numbers of bytes.
fn frame_as(packet: &[u8], how: How, length_bytes: usize, data_length_bytes: usize) -> Vec<u8> {
    let content = match how {
        How::Plain => packet.to_vec(),
        How::Stored => [&varint(0, data_length_bytes), packet].concat(),
        How::Deflated(level) => {
            let mut encoder =
                ZlibEncoder::new(varint(packet.len(), data_length_bytes), Compression::new(level));
            encoder.write_all(packet).unwrap();
            encoder.finish().unwrap()
        }
    };
    [varint(content.len(), length_bytes), content].concat()
}

fn frame(packet: &[u8], how: How) -> Vec<u8> {
    frame_as(packet, how, 1, 1)
}

fn plugin_message(id: u8, channel: &str, data: &[u8]) -> Vec<u8> {
    [&[id][..], &varint(channel.len(), 1), channel.as_bytes(), data].concat()
}

/// What takes the client into the world.
fn join(ids: &Ids) -> Vec<u8> {
    [&[ids.login][..], &[0x55; 300]].concat()
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

struct Setup {
    protocol: i32,
    threshold: Option<usize>,
    /// Those of client and backend, if they do not agree.
    thresholds: Option<(Option<usize>, Option<usize>)>,
    encrypted: bool,
    /// Bytes that each stream holds on its way.
    capacity: usize,
    early_client: Vec<u8>,
    early_backend: Vec<u8>,
    /// What it shares with other connections.
    workshop: Arc<Workshop>,
    secret: [u8; 16],
    terms: Terms,
}

/// As most players' connections are.
const TERMS: Terms = Terms { begin: Begin::BehindLoginSuccess, pins: false, held: false };

impl Setup {
    fn new(protocol: i32) -> Self {
        Self {
            protocol,
            threshold: None,
            thresholds: None,
            encrypted: false,
            capacity: 64 << 10,
            early_client: vec![],
            early_backend: vec![],
            workshop: Arc::default(),
            secret: *b"sixteen  secrets",
            terms: TERMS,
        }
    }

    /// With compression; what the client sends is none the shorter for it.
    fn compressed(self) -> Self {
        Self { threshold: Some(256), ..self }
    }

    fn start(self) -> Rig {
        self.start_with(tokio::spawn)
    }

    /// With a way of its own to poll the relay.
    fn start_with<R>(self, start: impl FnOnce(Run) -> R) -> Rig<R> {
        let (client, client_io) = duplex(self.capacity);
        let (backend, backend_io) = duplex(self.capacity);
        let (client_threshold, backend_threshold) =
            self.thresholds.unwrap_or((self.threshold, self.threshold));
        let secret = self.encrypted.then(|| SharedSecret::new(&self.secret).unwrap());
        let client_parts = Parts {
            io: client_io,
            inbox: BytesMut::from(&self.early_client[..]),
            decryptor: secret.as_ref().map(Decryptor::new),
            encryptor: secret.as_ref().map(Encryptor::new),
            threshold: client_threshold,
        };
        let backend_parts = Parts {
            io: backend_io,
            inbox: BytesMut::from(&self.early_backend[..]),
            decryptor: None,
            encryptor: None,
            threshold: backend_threshold,
        };
        let activity = Arc::<Activity>::default();
        let (handle, link) = link(Dialect::of(ProtocolVersion(self.protocol)), Arc::clone(&activity));
        let workshop = self.workshop;
        let config = Config { read_timeout: READ_TIMEOUT };
        let terms = self.terms;
        let run = start(Box::pin(async move {
            Relay::new(client_parts, backend_parts, link, workshop, &config, terms).run().await
        }));
        let encryptor = secret.as_ref().map(Encryptor::new);
        let decryptor = secret.as_ref().map(Decryptor::new);
        Rig { client: Client { io: client, encryptor, decryptor }, backend, handle, activity, run }
    }
}

/// The player's end.
struct Client {
    io: DuplexStream,
    encryptor: Option<Encryptor>,
    decryptor: Option<Decryptor>,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some(encryptor) = &mut self.encryptor {
            encryptor.apply(&mut bytes);
        }
        self.io.write_all(&bytes).await.unwrap();
    }

    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.io.read_exact(&mut bytes).await.unwrap();
        self.decrypt(bytes)
    }

    async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.io.read_to_end(&mut bytes).await.unwrap();
        self.decrypt(bytes)
    }

    fn decrypt(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(decryptor) = &mut self.decryptor {
            decryptor.apply(&mut bytes);
        }
        bytes
    }
}

/// A relay from its beginning to its end.
type Run = Pin<Box<dyn Future<Output = Ended> + Send>>;

struct Rig<R = JoinHandle<Ended>> {
    client: Client,
    backend: DuplexStream,
    handle: Handle,
    activity: Arc<Activity>,
    run: R,
}

impl Rig {
    async fn backend_reads(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.backend.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// The backend sends, the client gets the same.
    async fn down(&mut self, bytes: &[u8]) {
        self.backend.write_all(bytes).await.unwrap();
        assert_eq!(self.client.read(bytes.len()).await, bytes);
    }

    /// The client sends, the backend gets the same.
    async fn up(&mut self, bytes: &[u8]) {
        self.client.send(bytes).await;
        assert_eq!(self.backend_reads(bytes.len()).await, bytes);
    }

    /// Through login acknowledged and configuration, if there is one, into play.
    async fn enter_play(&mut self, ids: &Ids, how: How) {
        if let Some(configuration) = &ids.configuration {
            self.up(&frame(&[3], how)).await;
            self.finish_configuration(configuration, how).await;
        }
    }

    /// Into play, and into the world.
    async fn enter_world(&mut self, ids: &Ids, how: How) {
        self.enter_play(ids, how).await;
        self.down(&frame(&join(ids), how)).await;
    }

    async fn finish_configuration(&mut self, ids: &ConfigurationIds, how: How) {
        self.down(&frame(&[ids.finish], how)).await;
        self.up(&frame(&[ids.finished], how)).await;
    }

    async fn ended(self) -> Ended {
        timeout(Duration::from_mins(10), self.run).await.expect("the relay goes on").unwrap()
    }
}

fn is_malformed(ended: &Ended, side: Side) -> bool {
    matches!(&ended.cause, EndCause::Malformed { side: who, .. } if *who == side)
}

const HOWS: [How; 4] = [How::Plain, How::Stored, How::Deflated(0), How::Deflated(6)];

fn setup(protocol: i32, how: How) -> Setup {
    match how {
        How::Plain => Setup::new(protocol),
        _ => Setup::new(protocol).compressed(),
    }
}

#[tokio::test(start_paused = true)]
async fn proxy_channels_are_dropped_however_they_are_framed() {
    let channels =
        ["BungeeCord", "bungeecord:main", "velocity:player_info", "velocity:a-rather-long-channel-name"];
    for ids in &IDS {
        for how in HOWS {
            if ids.protocol < 47 && !matches!(how, How::Plain) {
                continue;
            }
            let mut rig = setup(ids.protocol, how).start();
            let mut states = vec![];
            if let Some(configuration) = &ids.configuration {
                rig.up(&frame(&[3], how)).await;
                states.push(configuration.plugin);
            }
            states.push(ids.plugin);
            for (i, id) in states.iter().enumerate() {
                if i + 1 == states.len()
                    && let Some(configuration) = &ids.configuration
                {
                    rig.finish_configuration(configuration, how).await;
                }
                for channel in channels {
                    let packet = plugin_message(*id, channel, &[1; 300]);
                    let longer_id =
                        [&varint((*id).into(), 5), &varint(channel.len(), 5), channel.as_bytes(), b"data"]
                            .concat();
                    for packet in [packet, longer_id] {
                        for (length, data_length) in [(1, 1), (3, 1), (3, 5)] {
                            rig.client.send(&frame_as(&packet, how, length, data_length)).await;
                        }
                    }
                }
                // Only this arrives, or the drops were wrong.
                rig.up(&frame(&plugin_message(*id, "minecraft:brand", b"\x07vanilla"), how)).await;
                rig.up(&frame(&plugin_message(*id, "velocity", b""), how)).await;
                rig.up(&frame(&plugin_message(*id, "bungeecord:mainly", b"x"), how)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_frame_larger_than_the_buffer() {
    let mut rig = Setup { encrypted: true, ..Setup::new(47) }.start();
    let before = frame(&[1, 2], How::Plain);
    let after = frame(&noise(40_000), How::Plain);
    let dropped = frame(&plugin_message(0x17, "BungeeCord", &noise(200_000)), How::Plain);
    let bytes = [&before[..], &dropped, &after].concat();
    let (mut writer, mut encryptor) = (rig.client.io, rig.client.encryptor.unwrap());
    let send = async move {
        let mut bytes = bytes;
        encryptor.apply(&mut bytes);
        writer.write_all(&bytes).await.unwrap();
        writer
    };
    let receive = async {
        let mut got = vec![0; before.len() + after.len()];
        rig.backend.read_exact(&mut got).await.unwrap();
        assert!(got == [before, after].concat());
    };
    tokio::join!(send, receive);
}

#[tokio::test(start_paused = true)]
async fn frames_that_cannot_be_judged_end_the_connection() {
    let hidden = {
        // Stored blocks of length zero inflate to nothing; then comes what was to be hidden.
        let mut content = vec![20, 0x78, 0x01];
        for _ in 0..300 {
            content.extend([0, 0, 0, 0xff, 0xff]);
        }
        content.extend([1, 1, 0, 0xfe, 0xff, 0x17]);
        [varint(content.len(), 1), content].concat()
    };
    let cases = [
        ("length of four bytes", vec![0x80, 0x80, 0x80, 0x01]),
        ("length zero", vec![0]),
        ("no id", vec![1, 0]),
        ("half an id", vec![2, 0, 0x80]),
        ("id of six bytes", vec![7, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
        ("half an inflated length", vec![1, 0x80]),
        ("negative inflated length", vec![6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        ("not zlib", vec![5, 4, 1, 2, 3, 4]),
        ("channel cut", vec![5, 0, 0x17, 10, b'B', b'u']),
        ("channel of negative length", vec![7, 0, 0x17, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("deflated channel cut", frame(&[0x17, 10, b'B', b'u'], How::Deflated(6))),
        ("hidden", hidden),
    ];
    for (name, bytes) in cases {
        let mut rig = Setup::new(47).compressed().start();
        let good = frame(&[9, 9, 9], How::Stored);
        rig.client.send(&[&good[..], &bytes].concat()).await;
        assert_eq!(rig.backend_reads(good.len()).await, good, "{name}");
        let mut rest = Vec::new();
        rig.backend.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{name}");
        let ended = rig.ended().await;
        assert!(is_malformed(&ended, Side::Client), "{name}: {:?}", ended.cause);
        assert_eq!(ended.cause.label(), "client-malformed");
        assert_eq!(ended.to_server, good.len() as u64);
    }
    // Bytes that look just like a compressed plugin message, in a stream without compression, are another packet.
    let mut rig = Setup::new(47).start();
    rig.up(&frame(&plugin_message(0x17, "BungeeCord", b""), How::Stored)).await;
}

#[tokio::test(start_paused = true)]
async fn before_login_acknowledged() {
    let (_, configuration) = newest();
    // Answers that the client still owed pass.
    let mut rig = Setup::new(777).start();
    rig.up(&frame(&[2, 1, 0], How::Plain)).await;
    rig.up(&frame(&[4, 1, b'k', 0], How::Plain)).await;
    rig.enter_play(newest().0, How::Plain).await;
    for id in [0, 1, 5, configuration.finished + 0x20, 0x16] {
        let mut rig = Setup::new(777).start();
        rig.client.send(&frame(&[id, 0], How::Plain)).await;
        let ended = rig.ended().await;
        assert!(is_malformed(&ended, Side::Client), "{id}");
        assert_eq!(ended.to_server, 0);
    }
    // No login leaves more questions open than these answers.
    let mut rig = Setup::new(777).start();
    let answer = frame(&[2, 1, 0], How::Plain);
    rig.up(&answer.repeat(1024)).await;
    rig.client.send(&answer).await;
    let ended = rig.ended().await;
    assert!(is_malformed(&ended, Side::Client));
    assert_eq!(ended.to_server, 1024 * answer.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn states_follow_configuration_and_back() {
    for ids in &IDS {
        let Some(configuration) = &ids.configuration else { continue };
        for (how, threshold) in [(How::Plain, None), (How::Stored, Some(256)), (How::Deflated(6), Some(0))] {
            let mut rig = Setup { threshold, ..Setup::new(ids.protocol) }.start();
            rig.enter_play(ids, how).await;
            for _ in 0..3 {
                // In play, the id of configuration's plugin message means something else.
                rig.up(&frame(&plugin_message(configuration.plugin, "BungeeCord", b""), how)).await;
                rig.client.send(&frame(&plugin_message(ids.plugin, "BungeeCord", b""), how)).await;
                rig.down(&frame(&[configuration.start], how)).await;
                // The client may go on in play for a while.
                rig.client.send(&frame(&plugin_message(ids.plugin, "BungeeCord", b""), how)).await;
                rig.up(&frame(&[configuration.acknowledged], how)).await;
                rig.up(&frame(&plugin_message(ids.plugin, "BungeeCord", b""), how)).await;
                rig.client.send(&frame(&plugin_message(configuration.plugin, "BungeeCord", b""), how)).await;
                rig.finish_configuration(configuration, how).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_nobody_asked_for_end_the_connection() {
    let (ids, configuration) = newest();
    let mut rig = Setup::new(777).start();
    rig.up(&frame(&[3], How::Plain)).await;
    rig.client.send(&frame(&[configuration.finished], How::Plain)).await;
    assert!(is_malformed(&rig.ended().await, Side::Client));

    let mut rig = Setup::new(777).start();
    rig.enter_play(ids, How::Plain).await;
    rig.client.send(&frame(&[configuration.acknowledged], How::Plain)).await;
    assert!(is_malformed(&rig.ended().await, Side::Client));
}

#[tokio::test(start_paused = true)]
async fn frames_larger_than_the_buffer_pass_byte_by_byte_alike() {
    for (threshold, encrypted) in [(None, false), (None, true), (Some(256), true)] {
        let mut rig = Setup { threshold, encrypted, ..Setup::new(340) }.start();
        let how = |level| if threshold.is_some() { How::Deflated(level) } else { How::Plain };
        // The cipher is slow in a build without optimisation.
        let largest = if encrypted { 100_000 } else { 2_000_000 };
        let bytes: Vec<u8> = [100, 16 << 10, (16 << 10) + 1, 3, largest, 50]
            .iter()
            .enumerate()
            .flat_map(|(level, len)| frame(&[&[0x33], &noise(*len)[..]].concat(), how(level as u32)))
            .collect();
        let Rig { client, backend, .. } = &mut rig;
        let mut sent = bytes.clone();
        if let Some(encryptor) = &mut client.encryptor {
            encryptor.apply(&mut sent);
        }
        let (mut client_read, mut client_write) = tokio::io::split(&mut client.io);
        let (mut backend_read, mut backend_write) = tokio::io::split(backend);
        let mut up = vec![0; bytes.len()];
        let mut down = vec![0; bytes.len()];
        let (a, b, c, d) = tokio::join!(
            client_write.write_all(&sent),
            backend_read.read_exact(&mut up),
            backend_write.write_all(&bytes),
            client_read.read_exact(&mut down),
        );
        assert_eq!((b.unwrap(), d.unwrap()), (bytes.len(), bytes.len()));
        a.unwrap();
        c.unwrap();
        if let Some(decryptor) = &mut client.decryptor {
            decryptor.apply(&mut down);
        }
        assert!(up == bytes, "to the backend");
        assert!(down == bytes, "to the client");
    }
}

#[tokio::test(start_paused = true)]
async fn every_split_point() {
    let (ids, configuration) = newest();
    for how in HOWS {
        let pieces = [
            (frame(&[3], how), true),
            (frame_as(&plugin_message(configuration.plugin, "velocity:x", &[7; 40]), how, 2, 3), false),
            (frame(&plugin_message(configuration.plugin, "minecraft:brand", b"\x03abc"), how), true),
            (frame(&[configuration.finished], how), true),
            (frame(&plugin_message(ids.plugin, "BungeeCord", b""), how), false),
            (frame(&[0x20; 300], how), true),
        ];
        let all: Vec<u8> = pieces.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let passed: Vec<u8> =
            pieces.iter().filter(|(_, passes)| *passes).flat_map(|(bytes, _)| bytes.clone()).collect();
        let finish = frame(&[configuration.finish], how);
        for split in 0..=all.len() {
            let mut rig = Setup { encrypted: true, early_backend: finish.clone(), ..setup(777, how) }.start();
            // An acknowledgement must not overtake what it acknowledges.
            assert_eq!(rig.client.read(finish.len()).await, finish);
            rig.client.send(&all[..split]).await;
            // The relay's turn.
            yield_now().await;
            rig.client.send(&all[split..]).await;
            assert!(rig.backend_reads(passed.len()).await == passed, "split at {split}, {how:?}");
        }
        // One byte at a time, both ways.
        let mut rig = Setup { encrypted: true, capacity: 1, ..setup(777, how) }.start();
        let Rig { client, backend, .. } = &mut rig;
        let (mut backend_read, mut backend_write) = tokio::io::split(backend);
        let mut got = vec![0; passed.len()];
        let script = async {
            backend_write.write_all(&finish).await.unwrap();
            std::future::pending::<()>().await;
        };
        let talk = async {
            assert_eq!(client.read(finish.len()).await, finish);
            client.send(&all).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = backend_read.read_exact(&mut got) => {}
            () = script => {}
            () = talk => {}
        }
        assert!(got == passed, "byte by byte, {how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_comes_first() {
    let early_client = frame(&noise(50_000), How::Plain);
    let early_backend = frame(&noise(60_000), How::Plain);
    let setup = Setup {
        early_client: early_client.clone(),
        early_backend: early_backend.clone(),
        encrypted: true,
        ..Setup::new(47)
    };
    let mut rig = setup.start();
    assert!(rig.backend_reads(early_client.len()).await == early_client);
    assert!(rig.client.read(early_backend.len()).await == early_backend);
    rig.up(&frame(&[1, 2, 3], How::Plain)).await;
    rig.down(&frame(&[4, 5, 6], How::Plain)).await;
}

/// A whole frame and the packet in it.
type Framed<'a> = (&'a [u8], Vec<u8>);

/// The whole frames at the start of a stream, and what is left.
fn split(bytes: &[u8], threshold: Option<usize>) -> (Vec<Framed<'_>>, &[u8]) {
    use postern::protocol::frame::{decompress, header};
    let mut rest = bytes;
    let mut frames = Vec::new();
    while let Some(head) = header(rest).unwrap()
        && let Some((frame, later)) = rest.split_at_checked(head.prefix + head.content)
    {
        let content = &frame[head.prefix..];
        let packet = match threshold {
            None => content.to_vec(),
            Some(_) => decompress(content, 1 << 20).unwrap(),
        };
        frames.push((frame, packet));
        rest = later;
    }
    (frames, rest)
}

/// The packets in a stream of frames, if none is cut.
fn packets(bytes: &[u8], threshold: Option<usize>) -> Vec<Vec<u8>> {
    let (frames, rest) = split(bytes, threshold);
    assert!(rest.is_empty(), "cut: {rest:x?}");
    frames.into_iter().map(|(_, packet)| packet).collect()
}

fn contains(packet: &[u8], words: &str) -> bool {
    packet.windows(words.len()).any(|part| part == words.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn lines_are_put_in_between_frames() {
    for ids in &IDS {
        let compressed = ids.protocol >= 47;
        let how = if compressed { How::Stored } else { How::Plain };
        let threshold = compressed.then_some(256);
        let mut rig = Setup { encrypted: true, ..setup(ids.protocol, how) }.start();
        rig.enter_world(ids, how).await;
        let big = frame(&[&[0x7f], &noise(100_000)[..]].concat(), how);
        let (first, second) = big.split_at(30_000);
        rig.down(first).await;
        rig.handle.chat(&Text::plain("first"));
        rig.handle.chat(&Text::plain(&"second ".repeat(100)));
        // The frame is not over: nothing of ours may come.
        rig.down(&second[..second.len() - 1]).await;
        assert!(timeout(Duration::from_secs(3), rig.client.read(1)).await.is_err());
        let small = frame(&[0x7f, 1, 2], how);
        rig.backend.write_all(&[&second[second.len() - 1..], &small].concat()).await.unwrap();
        drop(rig.backend);
        assert_eq!(rig.client.read(1).await, second[second.len() - 1..]);
        let seen = packets(&rig.client.read_to_end().await, threshold);
        assert_eq!(seen.len(), 3, "{}", ids.protocol);
        assert_eq!(seen[0][0], ids.chat);
        assert!(seen[0].windows(5).any(|w| w == b"first"));
        assert!(seen[1].windows(13).any(|w| w == b"second second"));
        assert_eq!(seen[2], [0x7f, 1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn lines_wait_for_play_and_for_the_end_of_a_bundle() {
    let (ids, configuration) = newest();
    let mut rig = Setup::new(777).start();
    rig.up(&frame(&[3], How::Plain)).await;
    rig.handle.chat(&Text::plain("hello"));
    rig.down(&frame(&[7, 1], How::Plain)).await;
    assert!(timeout(Duration::from_secs(1), rig.client.read(1)).await.is_err());
    let finish = frame(&[configuration.finish], How::Plain);
    rig.backend.write_all(&finish).await.unwrap();
    assert_eq!(rig.client.read(finish.len()).await, finish);
    // In play, but not in the world yet: a client that got anything else first would leave.
    assert!(timeout(Duration::from_secs(1), rig.client.read(1)).await.is_err());
    assert!(timeout(Duration::from_secs(1), rig.handle.joined()).await.is_err());
    rig.down(&frame(&join(ids), How::Plain)).await;
    rig.handle.joined().await;
    let line = rig.client.read(2).await;
    assert_eq!(line[1], ids.chat);
    rig.client.read(usize::from(line[0]) - 1).await;

    let delimiter = frame(&[0], How::Plain);
    let inside = frame(&[0x44; 30], How::Plain);
    rig.down(&delimiter).await;
    rig.handle.chat(&Text::plain("bundled"));
    rig.down(&inside).await;
    assert!(timeout(Duration::from_secs(1), rig.client.read(1)).await.is_err());
    rig.down(&delimiter).await;
    assert_eq!(rig.client.read(2).await[1], ids.chat);
}

#[tokio::test(start_paused = true)]
async fn closing_tells_the_player_in_the_state_it_is_in() {
    for ids in &IDS {
        for play in [false, true] {
            let expected = match (&ids.configuration, play) {
                (Some(configuration), false) => configuration.disconnect,
                (None, false) => continue,
                (_, true) => ids.disconnect,
            };
            let mut rig = Setup { encrypted: true, ..Setup::new(ids.protocol) }.start();
            if play {
                rig.enter_play(ids, How::Plain).await;
            }
            rig.handle.close(Text::plain("make room"));
            rig.handle.close(Text::plain("not this"));
            let mut rest = Vec::new();
            rig.backend.read_to_end(&mut rest).await.unwrap();
            let seen = packets(&rig.client.read_to_end().await, None);
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0][0], expected, "{} {play}", ids.protocol);
            assert!(seen[0].windows(9).any(|w| w == b"make room"));
            // The socket stays open until the client leaves, so that what it still sends resets nothing.
            rig.client.send(&frame(&[1; 50], How::Plain)).await;
            sleep(Duration::from_millis(300)).await;
            assert!(!rig.run.is_finished());
            drop(rig.client);
            let ended = rig.run.await.unwrap();
            assert!(matches!(ended.cause, EndCause::Kicked));
            assert_eq!(ended.cause.label(), "kicked");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_a_frame_to_end_but_not_long() {
    let big = frame(&noise(500), How::Plain);
    // The frame's end comes in time.
    let mut rig = Setup::new(340).start();
    rig.down(&big[..100]).await;
    rig.handle.close(Text::plain("bye"));
    sleep(Duration::from_millis(900)).await;
    rig.backend.write_all(&[&big[100..], &big].concat()).await.unwrap();
    let mut seen = rig.client.read_to_end().await;
    let last = seen.split_off(400 + big.len() - 500);
    assert!(seen == big[100..]);
    assert_eq!(packets(&last, None)[0][0], 0x1a);
    drop(rig.client);
    assert!(matches!(rig.run.await.unwrap().cause, EndCause::Kicked));

    // It does not.
    let mut rig = Setup::new(340).start();
    rig.down(&big[..100]).await;
    rig.handle.close(Text::plain("bye"));
    let start = Instant::now();
    assert!(rig.client.read_to_end().await.is_empty());
    assert_eq!(start.elapsed().as_secs(), 1);
    assert!(matches!(rig.ended().await.cause, EndCause::Kicked));

    // The client neither reads nor leaves: it holds nobody up for longer than a second for each step.
    let rig = Setup { capacity: 16, ..Setup::new(340) }.start();
    rig.handle.close(Text::plain(&"bye ".repeat(50)));
    let Rig { client, backend, run, .. } = rig;
    let start = Instant::now();
    assert!(matches!(run.await.unwrap().cause, EndCause::Kicked));
    assert!(start.elapsed() <= Duration::from_secs(2));
    drop((client, backend));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_while_it_is_closed_goes_nowhere() {
    let mut rig = Setup::new(340).start();
    rig.client.send(&frame(&[1; 2000], How::Plain)).await;
    rig.handle.close(Text::plain("bye"));
    let mut got = Vec::new();
    rig.backend.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty());
    assert_eq!(packets(&rig.client.read_to_end().await, None).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_its_writer() {
    const BOTH_BUFFERS: usize = 2 * (16 << 10);
    let endless = frame(&noise(1000), How::Plain).repeat(2000);
    // Towards the client.
    let mut rig = Setup { capacity: 1000, ..Setup::new(47) }.start();
    let mut written = 0;
    while let Ok(len) = timeout(Duration::from_secs(1), rig.backend.write(&endless[written..])).await {
        written += len.unwrap();
    }
    assert!(written <= BOTH_BUFFERS / 2 + 2000, "{written} bytes are held");
    // The other direction does not mind.
    rig.up(&frame(&[1, 2, 3], How::Plain)).await;
    // And it goes on once the reader reads.
    assert!(rig.client.read(written).await == endless[..written]);
    rig.down(&endless[written..written + 500]).await;

    // Towards the backend.
    let mut rig = Setup { capacity: 1000, ..Setup::new(47) }.start();
    let mut written = 0;
    while let Ok(len) = timeout(Duration::from_secs(1), rig.client.io.write(&endless[written..])).await {
        written += len.unwrap();
    }
    assert!(written <= BOTH_BUFFERS / 2 + 2000, "{written} bytes are held");
    rig.down(&frame(&[1, 2, 3], How::Plain)).await;
    assert!(rig.backend_reads(written).await == endless[..written]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_hears_the_rest() {
    let mut rig = Setup::new(47).start();
    let last = frame(&[1, 2, 3], How::Plain);
    rig.client.send(&last).await;
    rig.client.io.shutdown().await.unwrap();
    let mut got = Vec::new();
    rig.backend.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, last);
    rig.down(&frame(&noise(5000), How::Plain)).await;
    drop(rig.backend);
    assert!(rig.client.read_to_end().await.is_empty());
    let ended = rig.run.await.unwrap();
    assert!(matches!(ended.cause, EndCause::ClientClosed));
    assert_eq!((ended.to_server, ended.to_client), (4, 5002));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_closes_is_heard_to_the_end() {
    let mut rig = Setup::new(47).start();
    let last = frame(&noise(5000), How::Plain);
    rig.backend.write_all(&last).await.unwrap();
    rig.backend.shutdown().await.unwrap();
    assert!(rig.client.read_to_end().await == last);
    rig.up(&frame(&[1, 2, 3], How::Plain)).await;
    drop(rig.client);
    assert!(matches!(rig.run.await.unwrap().cause, EndCause::BackendClosed));

    // A backend that is gone altogether, while the client still talks: it gets the last words nevertheless.
    let mut rig = Setup::new(47).start();
    rig.backend.write_all(&last).await.unwrap();
    drop(rig.backend);
    rig.client.send(&frame(&[1; 100], How::Plain)).await;
    assert!(rig.client.read_to_end().await == last);
    rig.client.send(&frame(&[1; 100], How::Plain)).await;
    drop(rig.client);
    let ended = rig.run.await.unwrap();
    assert!(["backend-closed", "backend-broken"].contains(&ended.cause.label()), "{}", ended.cause);
}

#[tokio::test(start_paused = true)]
async fn lingering_is_short() {
    for client_leaves in [true, false] {
        let mut rig = Setup::new(47).start();
        let start = Instant::now();
        if client_leaves {
            rig.client.io.shutdown().await.unwrap();
        } else {
            rig.backend.shutdown().await.unwrap();
        }
        let Rig { client, backend, run, .. } = rig;
        let ended = run.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);
        assert_eq!(ended.cause.label(), if client_leaves { "client-closed" } else { "backend-closed" });
        drop((client, backend));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_connection() {
    let small = frame(&[1, 2], How::Plain);
    for client_silent in [true, false] {
        let mut rig = Setup::new(47).start();
        let start = Instant::now();
        for _ in 0..4 {
            sleep(Duration::from_secs(9)).await;
            if rig.run.is_finished() {
                break;
            }
            // One byte is enough to be heard.
            if client_silent {
                let _ = rig.backend.write_all(&small[..1]).await;
            } else {
                let _ = rig.client.io.write_all(&small[..1]).await;
            }
            // Lines of ours do not count for anybody.
            rig.handle.chat(&Text::plain("x"));
        }
        let ended = rig.ended().await;
        assert_eq!(ended.cause.label(), if client_silent { "client-timeout" } else { "backend-timeout" });
        assert_eq!(ended.duration.as_secs(), 30);
        assert!(start.elapsed().as_secs() >= 30);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_drips_are_not_silence() {
    let mut rig = Setup::new(47).start();
    let drip = frame(&noise(20), How::Plain);
    for byte in &drip {
        sleep(Duration::from_secs(25)).await;
        rig.client.send(&[*byte]).await;
        rig.backend.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(rig.backend_reads(drip.len()).await, drip);
    assert_eq!(rig.client.read(drip.len()).await, drip);
    assert_eq!(rig.activity.silent_for(), Duration::ZERO);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(rig.activity.silent_for(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_dead_and_its_writer_is_not_silent() {
    let endless = frame(&noise(1000), How::Plain).repeat(100);
    for client_stalls in [true, false] {
        let rig = Setup { capacity: 1000, ..Setup::new(47) }.start();
        let Rig { client, backend, run, .. } = rig;
        let (mut writer, mut other) = if client_stalls { (backend, client.io) } else { (client.io, backend) };
        let drips = async {
            // The stalled one still talks.
            loop {
                sleep(Duration::from_secs(10)).await;
                if other.write_all(&[1]).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = tokio::select! {
            ended = run => ended.unwrap(),
            Ok(()) = writer.write_all(&endless) => panic!("all was taken"),
            () = drips => unreachable!(),
        };
        assert_eq!(ended.cause.label(), if client_stalls { "client-timeout" } else { "backend-timeout" });
        assert_eq!(ended.duration.as_secs(), 30);
    }

    // The client stalls for 25 s, and the backend is not read meanwhile: its silence counts from then.
    let rig = Setup { capacity: 1000, ..Setup::new(47) }.start();
    let Rig { client, mut backend, run, .. } = rig;
    let (mut client_read, mut client_write) = tokio::io::split(client.io);
    // As much again as the way to the client holds: the relay has it, and cannot pass it on.
    backend.write_all(&endless[..2000]).await.unwrap();
    let read = async {
        sleep(Duration::from_secs(25)).await;
        client_read.read_exact(&mut [0; 2000]).await.unwrap();
        std::future::pending::<()>().await;
    };
    let talk = async {
        while client_write.write_all(&[1]).await.is_ok() {
            sleep(Duration::from_secs(10)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = run => {
            let ended = ended.unwrap();
            assert_eq!(ended.cause.label(), "backend-timeout");
            assert_eq!(ended.duration.as_secs(), 55);
        }
        () = read => unreachable!(),
        () = talk => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_listened_to_is_not_silent() {
    let endless = frame(&noise(1000), How::Plain).repeat(100);
    let Rig { mut client, backend: _stalled, activity, .. } =
        Setup { capacity: 1000, ..Setup::new(47) }.start();
    let talking = client.io.write_all(&endless);
    assert!(timeout(Duration::from_secs(6), talking).await.is_err(), "it would say more if it could");
    assert!(activity.silent_for() < Duration::from_secs(5), "{:?}", activity.silent_for());
}

#[tokio::test(start_paused = true)]
async fn a_line_gets_as_long_to_be_taken_as_anything_else() {
    let full = frame(&[1; 15], How::Plain);
    let rig = Setup { capacity: full.len(), ..Setup::new(47) }.start();
    let Rig { mut client, mut backend, handle, run, .. } = rig;
    backend.write_all(&full).await.unwrap();
    let talk = async {
        sleep(Duration::from_secs(25)).await;
        handle.chat(&Text::plain("there is no room for this"));
        while client.io.write_all(&[1]).await.is_ok() {
            sleep(Duration::from_secs(10)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = run => {
            let ended = ended.unwrap();
            assert_eq!(ended.cause.label(), "client-timeout");
            assert_eq!(ended.duration.as_secs(), 55);
        }
        () = talk => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn compression_set_in_play_is_refused() {
    let mut rig = Setup::new(47).compressed().start();
    rig.down(&frame(&[0x46; 100], How::Stored)).await;
    rig.backend.write_all(&frame(&[0x46, 0x80, 0x02], How::Stored)).await.unwrap();
    let ended = rig.ended().await;
    assert!(is_malformed(&ended, Side::Backend));
    assert_eq!(ended.cause.to_string(), "the backend broke the protocol: packet 0x46 does not belong here");
    // Other releases have another packet there.
    let mut rig = Setup::new(340).compressed().start();
    rig.down(&frame(&[0x46, 0x80, 0x02], How::Stored)).await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_its_connection() {
    let rig = Setup::new(47).start();
    let handle = rig.handle.clone();
    drop((rig.client, rig.backend));
    rig.run.await.unwrap();
    for _ in 0..100 {
        handle.chat(&Text::plain("anybody?"));
        handle.close(Text::plain("nobody"));
    }
    // Without a handle, a connection goes on.
    let rig = Setup::new(47).start();
    let Rig { mut client, mut backend, handle, run, .. } = rig;
    drop(handle);
    client.send(&[1, 7]).await;
    let mut got = [0; 2];
    backend.read_exact(&mut got).await.unwrap();
    drop((client, backend));
    run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_connection_can_still_be_closed() {
    let mut rig = Setup::new(777).start();
    // In configuration: lines wait, and the newest are lost.
    for i in 0..100 {
        rig.handle.chat(&Text::plain(&i.to_string()));
    }
    rig.handle.close(Text::plain("bye"));
    let seen = packets(&rig.client.read_to_end().await, None);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0][0], newest().1.disconnect);
}

/// Players of one thread are encrypted together; each gets its own bytes in its own order, whatever becomes of others.
async fn players_share_a_workshop() {
    let workshop = Arc::<Workshop>::default();
    let mut players = Vec::new();
    for player in 0..9u8 {
        let setup = Setup {
            encrypted: true,
            secret: [player; 16],
            workshop: Arc::clone(&workshop),
            capacity: 500 << (player % 4),
            ..Setup::new(763)
        };
        let mut rig = setup.start();
        players.push(tokio::spawn(async move {
            // From a few bytes at once to more than a buffer.
            let flood: Vec<Vec<u8>> = (1..12)
                .map(|piece| {
                    frame(
                        &[&[0x33, player], &noise(piece * 100 * (usize::from(player) + 1))[..]].concat(),
                        How::Plain,
                    )
                })
                .collect();
            let bytes = flood.concat();
            let leaves = player % 4 == 3;
            let Rig { client, backend, .. } = &mut rig;
            let sending = async {
                for piece in &flood {
                    if backend.write_all(piece).await.is_err() {
                        assert!(leaves, "player {player} is cut");
                    }
                    yield_now().await;
                }
            };
            let reading = async {
                let mut got = vec![0; if leaves { bytes.len() / 2 } else { bytes.len() }];
                client.io.read_exact(&mut got).await.unwrap();
                let got = client.decrypt(got);
                assert!(got == bytes[..got.len()], "player {player}");
                if leaves {
                    // In the middle of it all, and without a word.
                    drop(std::mem::replace(&mut client.io, duplex(1).0));
                }
            };
            tokio::join!(sending, reading);
            if !leaves {
                rig.up(&frame(&[1, 2, 3], How::Plain)).await;
                rig.down(&frame(&[1, 2, 3], How::Plain)).await;
            }
            drop(rig.client);
            drop(rig.backend);
            rig.run.await.unwrap();
        }));
    }
    for player in players {
        player.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn players_of_one_thread_get_their_own_bytes() {
    players_share_a_workshop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn players_of_several_threads_get_their_own_bytes() {
    players_share_a_workshop().await;
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Gives a future one turn.
async fn turn<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    poll_fn(|_| Poll::Ready(Pin::new(&mut *future).poll(&mut Context::from_waker(waker)))).await
}

/// What a test asks of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Lines,
    Close,
    LinesAndClose,
}

/// What lies in the batch when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lying {
    WholeFrames,
    /// Whose end comes later.
    HalfAFrame,
    /// Whose end never comes.
    HalfAFrameForEver,
}

/// Three players whose bytes lie in one batch, not yet encrypted, when something is asked of the first. `first` is the
/// one whose turn comes next: it encrypts for all.
async fn asked_while_in_the_batch(compressed: bool, asked: Asked, lying: Lying, first: usize) {
    let place =
        format!("{asked:?} {lying:?}, {first} is first, {}compressed", if compressed { "" } else { "not " });
    let ids = &IDS[1];
    let how = if compressed { How::Stored } else { How::Plain };
    let workshop = Arc::<Workshop>::default();
    let threshold = compressed.then_some(256);
    let mut rigs: Vec<Rig<Run>> = (1..=3)
        .map(|player| {
            let shared = Arc::clone(&workshop);
            let setup = Setup { encrypted: true, workshop: shared, secret: [player; 16], ..setup(47, how) };
            setup.start_with(|run| run)
        })
        .collect();
    let sent: Vec<Vec<u8>> = [700, 2000, 90]
        .iter()
        .zip(1u8..)
        .map(|(len, player)| {
            let packet = |len| [&[0x33, player], &noise(len)[..]].concat();
            [frame(&packet(len / 2), how), frame(&packet(*len), how)].concat()
        })
        .collect();
    let now = if lying == Lying::WholeFrames { sent[0].len() } else { sent[0].len() - 300 };
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let joins = frame(&join(ids), how);
    for rig in &mut rigs {
        rig.backend.write_all(&joins).await.unwrap();
        for _ in 0..2 {
            assert!(turn(&mut rig.run, &waker).await.is_pending(), "{place}");
        }
        assert!(rig.client.read(joins.len()).await == joins, "{place}");
    }
    woken.0.store(false, Ordering::SeqCst);
    for (rig, sent) in rigs.iter_mut().zip([&sent[0][..now], &sent[1], &sent[2]]) {
        rig.backend.write_all(sent).await.unwrap();
        assert!(turn(&mut rig.run, &waker).await.is_pending(), "{place}");
        // It was read and handed in, and asks for its next turn; nothing has come out.
        assert!(woken.0.swap(false, Ordering::SeqCst), "{place}");
        let mut byte = [0];
        assert!(turn(&mut Box::pin(rig.client.io.read(&mut byte)), &waker).await.is_pending(), "{place}");
    }
    if asked != Asked::Close {
        rigs[0].handle.chat(&Text::plain("first line"));
        rigs[0].handle.chat(&Text::plain(&"second line ".repeat(40)));
    }
    if asked != Asked::Lines {
        rigs[0].handle.close(Text::plain("make room"));
    }
    for at in 0..3 {
        assert!(turn(&mut rigs[(first + at) % 3].run, &waker).await.is_pending(), "{place}");
    }
    // All of it is encrypted in that one turn of each, whoever was first, and nothing else came between.
    for (rig, (sent, now)) in rigs.iter_mut().zip(sent.iter().zip([now, sent[1].len(), sent[2].len()])) {
        assert!(rig.client.read(now).await == sent[..now], "{place}");
    }

    let mut runs = Vec::new();
    for (nth, (rig, sent)) in rigs.into_iter().zip(&sent).enumerate() {
        let Rig { mut client, mut backend, handle, run, .. } = rig;
        let run = tokio::spawn(run);
        if nth > 0 {
            // The others never notice.
            let more = frame(&[0x33; 40], how);
            backend.write_all(&more).await.unwrap();
            assert_eq!(client.read(more.len()).await, more, "{place}");
            runs.push((client, backend, handle, run));
            continue;
        }
        let rest = &sent[now..];
        if lying == Lying::HalfAFrame {
            backend.write_all(rest).await.unwrap();
            assert!(client.read(rest.len()).await == rest, "{place}");
        }
        let tail = if asked == Asked::Lines {
            // Nothing is asked to end: the backend does.
            backend.shutdown().await.unwrap();
            client.read_to_end().await
        } else {
            let start = Instant::now();
            let tail = client.read_to_end().await;
            let patience = u64::from(lying == Lying::HalfAFrameForEver);
            assert_eq!(start.elapsed().as_secs(), patience, "{place}");
            tail
        };
        let seen = packets(&tail, threshold);
        if lying == Lying::HalfAFrameForEver {
            assert!(seen.is_empty(), "{place}: a frame is torn");
        } else if asked == Asked::Lines {
            assert_eq!(seen.len(), 2, "{place}");
            assert!(seen[0][0] == ids.chat && contains(&seen[0], "first line"), "{place}");
            assert!(seen[1][0] == ids.chat && contains(&seen[1], "second line second line"), "{place}");
        } else {
            // A closing does not wait behind lines.
            assert_eq!(seen.len(), 1, "{place}");
            assert!(seen[0][0] == ids.disconnect && contains(&seen[0], "make room"), "{place}");
        }
        drop(client);
        let expected = if asked == Asked::Lines { "backend-closed" } else { "kicked" };
        assert_eq!(run.await.unwrap().cause.label(), expected, "{place}");
    }
    for (client, backend, _, run) in runs {
        drop((client, backend));
        run.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn lines_and_closings_while_bytes_are_encrypted_with_those_of_others() {
    // Turns are given by hand here, and none is to be taken away by the runtime.
    unconstrained(async {
        for compressed in [false, true] {
            for asked in [Asked::Lines, Asked::Close, Asked::LinesAndClose] {
                for lying in [Lying::WholeFrames, Lying::HalfAFrame, Lying::HalfAFrameForEver] {
                    for first in 0..3 {
                        asked_while_in_the_batch(compressed, asked, lying, first).await;
                    }
                }
            }
        }
    })
    .await;
}

/// One goes while its bytes wait in the batch: nobody else's are lost, and nobody waits for it.
#[tokio::test(start_paused = true)]
async fn leaving_while_bytes_are_encrypted_with_those_of_others() {
    unconstrained(async {
        for leaver in 0..3 {
            let workshop = Arc::<Workshop>::default();
            let bytes = frame(&noise(3000), How::Plain);
            let waker = Waker::from(Arc::<Woken>::default());
            let mut rigs = Vec::new();
            for player in 1..=3 {
                let shared = Arc::clone(&workshop);
                let setup =
                    Setup { encrypted: true, workshop: shared, secret: [player; 16], ..Setup::new(47) };
                let mut rig = setup.start_with(|run| run);
                rig.backend.write_all(&bytes).await.unwrap();
                assert!(turn(&mut rig.run, &waker).await.is_pending());
                rigs.push(rig);
            }
            // The relay itself is dropped, as at a shutdown that did not end in time.
            drop(rigs.remove(leaver));
            for rig in rigs {
                let Rig { mut client, mut backend, run, .. } = rig;
                let run = tokio::spawn(run);
                backend.write_all(&bytes).await.unwrap();
                assert!(client.read(2 * bytes.len()).await == bytes.repeat(2), "{leaver} left");
                drop((client, backend));
                run.await.unwrap();
            }
        }
    })
    .await;
}

/// A packet of the client, and whether it arrives.
fn any_packet() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let plugin = 0x17;
    prop_oneof![
        8 => (any::<u8>().prop_filter("not a plugin message", move |id| *id != plugin && *id < 0x80),
              prop_oneof![9 => 0usize..300, 1 => 10_000usize..60_000])
            .prop_map(|(id, len)| ([&[id][..], &noise(len)].concat(), true)),
        2 => prop_oneof![Just("MC|Brand"), Just("REGISTER"), Just("velocityx:a"), Just("")]
            .prop_map(move |channel| (plugin_message(plugin, channel, &[3; 50]), true)),
        2 => (prop_oneof![Just("BungeeCord"), Just("bungeecord:main"), Just("VELOCITY:main")],
              prop_oneof![4 => 0usize..300, 1 => Just(40_000)])
            .prop_map(move |(channel, len)| (plugin_message(plugin, channel, &noise(len)), false)),
    ]
}

fn any_how(compressed: bool) -> BoxedStrategy<How> {
    if compressed {
        prop_oneof![Just(How::Stored), (0u32..=9).prop_map(How::Deflated)].boxed()
    } else {
        Just(How::Plain).boxed()
    }
}

/// Whether frames are compressed, and the frames, each with whether it arrives.
fn any_frames() -> impl Strategy<Value = (bool, Vec<(Vec<u8>, bool)>)> {
    any::<bool>().prop_flat_map(|compressed| {
        let one = (any_packet(), any_how(compressed), 1usize..=3, 1usize..=5).prop_map(
            |((packet, arrives), how, length, data_length)| {
                (frame_as(&packet, how, length, data_length), arrives)
            },
        );
        (Just(compressed), prop::collection::vec(one, 0..20))
    })
}

/// Bytes without sense, or frames without sense.
fn any_garbage() -> impl Strategy<Value = Vec<u8>> {
    let ids = prop::sample::select(vec![0, 1, 2, 3, 0x0f, 0x10, 0x16, 0x17, 0x78]);
    let packet = (ids, prop::collection::vec(any::<u8>(), 0..30))
        .prop_map(|(id, rest)| [&[id][..], &rest].concat())
        .boxed();
    let frames = (0usize..3).prop_flat_map(move |kind| {
        let packet = packet.clone();
        prop::collection::vec(
            packet.prop_map(move |packet| frame(&packet, [How::Plain, How::Stored, How::Deflated(6)][kind])),
            0..20,
        )
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..2000), frames.prop_map(|frames| frames.concat())]
}

/// One connection among others of its thread.
#[derive(Clone, Debug)]
struct Player {
    /// Lengths of the backend's packets, how they are framed, and whether each is a bundle.
    frames: Vec<(usize, How, bool)>,
    /// How the backend sends and the client reads: so many bytes, then so many turns for others.
    sends: Vec<(usize, usize)>,
    reads: Vec<(usize, usize)>,
    /// Bytes that each stream holds.
    capacity: usize,
    /// Behind which of the backend's bytes lines are asked for, and whether they are long.
    lines: Vec<(prop::sample::Index, bool)>,
}

fn any_player(compressed: bool) -> impl Strategy<Value = Player> {
    let len = prop_oneof![30 => 0usize..400, 1 => 10_000usize..35_000];
    let pace = || prop::collection::vec((prop_oneof![1usize..60, 1usize..20_000], 0usize..4), 1..12);
    (
        prop::collection::vec((len, any_how(compressed), prop::bool::weighted(0.2)), 1..12),
        pace(),
        pace(),
        prop_oneof![1 => 1usize..100, 4 => 500usize..50_000],
        prop::collection::vec(any::<(prop::sample::Index, bool)>(), 0..6),
    )
        .prop_map(|(frames, sends, reads, capacity, lines)| Player {
            frames,
            sends,
            reads,
            capacity,
            lines,
        })
}

/// Whether frames are compressed, and who is there.
fn any_crowd() -> impl Strategy<Value = (bool, Vec<Player>)> {
    any::<bool>()
        .prop_flat_map(|compressed| (Just(compressed), prop::collection::vec(any_player(compressed), 2..=8)))
}

/// How it ends for a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// When its backend has said all.
    Stays,
    /// We close it, once the backend has sent so much.
    Closed(usize),
    /// It leaves without a word, after so many bytes.
    Leaves(usize),
}

impl Player {
    /// Frames as this player's backend sends them, unlike any of another's; a bundle is three.
    fn stream(&self, number: u8, ids: &Ids, threshold: Option<usize>) -> Vec<Vec<u8>> {
        let how = if threshold.is_some() { How::Deflated(6) } else { How::Plain };
        let mut stream = vec![frame(&join(ids), how)];
        for ((len, how, bundled), nth) in self.frames.iter().zip(0u8..) {
            let own = noise(*len).into_iter().map(|byte| byte ^ (number << 5 | nth));
            let whole = frame(&[0x33, number, nth].into_iter().chain(own).collect::<Vec<_>>(), *how);
            if *bundled {
                let delimiter = frame(&[0], *how);
                stream.extend([delimiter.clone(), whole, delimiter]);
            } else {
                stream.push(whole);
            }
        }
        stream
    }

    fn line(number: u8, nth: usize) -> String {
        format!("line {nth} for {number};")
    }

    /// Plays a part to its end, and judges what the client saw.
    async fn play(self, number: u8, part: Part, ids: &Ids, threshold: Option<usize>, rig: Rig) {
        let Rig { mut client, mut backend, handle, run, .. } = rig;
        let frames = self.stream(number, ids, threshold);
        let bytes = frames.concat();
        let mut moments: Vec<_> =
            self.lines.iter().map(|(index, long)| (index.index(bytes.len() + 1), *long)).collect();
        moments.sort_unstable();
        let send = async {
            let (mut sent, mut said, mut closed) = (0, 0, false);
            for (len, turns) in self.sends.iter().cycle() {
                while let Some((at, long)) = moments.get(said)
                    && *at <= sent
                {
                    let line = Self::line(number, said);
                    handle.chat(&Text::plain(&if *long { line.repeat(30) } else { line }));
                    said += 1;
                }
                if let Part::Closed(at) = part
                    && at <= sent
                    && !closed
                {
                    handle.close(Text::plain(&format!("bye {number}")));
                    closed = true;
                }
                if sent == bytes.len() {
                    break;
                }
                // Not beyond the next moment at which something is to happen.
                let line = moments.get(said).map(|(at, _)| *at);
                let close = if let Part::Closed(at) = part { Some(at).filter(|_| !closed) } else { None };
                let end = [line, close].into_iter().flatten().fold(bytes.len().min(sent + len), usize::min);
                if backend.write_all(&bytes[sent..end]).await.is_err() {
                    assert_ne!(part, Part::Stays, "player {number} is cut");
                    break;
                }
                sent = end;
                for _ in 0..*turns {
                    yield_now().await;
                }
            }
            let _ = backend.shutdown().await;
        };
        let read = async {
            let most = if let Part::Leaves(after) = part { after } else { usize::MAX };
            let mut got = Vec::new();
            for (len, turns) in self.reads.iter().cycle() {
                let mut room = vec![0; (*len).min(most - got.len())];
                let len = client.io.read(&mut room).await.unwrap();
                if len == 0 {
                    break;
                }
                got.extend(client.decrypt(room[..len].to_vec()));
                for _ in 0..*turns {
                    yield_now().await;
                }
            }
            drop(client);
            got
        };
        let ((), got) = tokio::join!(send, read);
        drop(backend);
        let ended = run.await.unwrap();

        let (seen, cut) = split(&got, threshold);
        assert!(cut.is_empty() || matches!(part, Part::Leaves(_)), "player {number}: a frame is torn");
        let (mut own, mut lines, mut disconnects, mut bundled) = (Vec::new(), 0, 0, false);
        for (frame, packet) in &seen {
            assert_eq!(disconnects, 0, "player {number}: something follows the disconnect");
            if packet[0] == ids.chat {
                assert!(contains(packet, &Self::line(number, lines)), "player {number}: {packet:x?}");
                lines += 1;
            } else if packet[0] == ids.disconnect {
                assert!(contains(packet, &format!("bye {number}")), "player {number}: {packet:x?}");
                disconnects += 1;
            } else {
                own.push(*frame);
                bundled ^= packet[..] == [0] && ids.protocol >= 762;
                continue;
            }
            assert!(!bundled, "player {number}: inside a bundle");
        }
        assert!(frames.iter().zip(&own).all(|(frame, seen)| frame == seen), "player {number}");
        assert!(own.len() <= frames.len() && lines <= moments.len(), "player {number}");
        match part {
            Part::Stays => {
                assert_eq!((own.len(), lines), (frames.len(), moments.len()), "player {number}");
                assert_eq!(ended.cause.label(), "backend-closed", "player {number}");
                assert_eq!(ended.to_client, got.len() as u64, "player {number}");
            }
            Part::Closed(_) => {
                assert!(matches!(ended.cause, EndCause::Kicked), "player {number}: {}", ended.cause);
                assert_eq!(ended.to_client, got.len() as u64, "player {number}");
            }
            Part::Leaves(after) => assert!(got.len() <= after, "player {number}"),
        }
        assert_eq!(disconnects, usize::from(matches!(part, Part::Closed(_))), "player {number}");
    }
}

fn paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_arrive_alike_save_those_dropped(
        (compressed, frames) in any_frames(),
        encrypted: bool,
        capacity in prop_oneof![1usize..100, 1000usize..100_000],
        chunks in prop::collection::vec(1usize..3000, 1..20),
    ) {
        paused(async {
            let setup = if compressed { Setup::new(47).compressed() } else { Setup::new(47) };
            let Rig { mut client, mut backend, run, .. } = Setup { encrypted, capacity, ..setup }.start();
            let all: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let arriving: Vec<u8> =
                frames.iter().filter(|(_, arrives)| *arrives).flat_map(|(bytes, _)| bytes.clone()).collect();
            let send = async move {
                let mut rest = &all[..];
                for len in chunks.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (chunk, later) = rest.split_at(rest.len().min(*len));
                    client.send(chunk).await;
                    yield_now().await;
                    rest = later;
                }
                client.io.shutdown().await.unwrap();
                client
            };
            let mut got = Vec::new();
            let (_client, read) = tokio::join!(send, backend.read_to_end(&mut got));
            read.unwrap();
            drop(backend);
            assert!(got == arriving);
            assert_eq!(run.await.unwrap().cause.label(), "client-closed");
        });
    }

    /// Towards the clients, whose bytes are encrypted together.
    #[test]
    fn each_of_many_sees_its_own_frames_and_lines(
        (compressed, crowd) in any_crowd(),
        bundles: bool,
        closed: prop::sample::Index,
        close_at: prop::sample::Index,
        leaves in prop::option::of(any::<prop::sample::Index>()),
        leaves_after: prop::sample::Index,
    ) {
        let ids = IDS.iter().find(|ids| ids.protocol == if bundles { 763 } else { 47 }).unwrap();
        let (closed, leaves) = (closed.index(crowd.len()), leaves.map(|leaves| leaves.index(crowd.len())));
        paused(async {
            let workshop = Arc::<Workshop>::default();
            let mut playing = JoinSet::new();
            let threshold = compressed.then_some(256);
            for (number, player) in crowd.into_iter().enumerate() {
                let len = player.stream(number as u8, ids, threshold).concat().len();
                let part = if number == closed {
                    Part::Closed(close_at.index(len))
                } else if Some(number) == leaves {
                    Part::Leaves(leaves_after.index(len))
                } else {
                    Part::Stays
                };
                let how = if compressed { How::Stored } else { How::Plain };
                let setup = Setup {
                    encrypted: true,
                    capacity: player.capacity,
                    workshop: Arc::clone(&workshop),
                    secret: [number as u8; 16],
                    ..setup(ids.protocol, how)
                };
                assert_eq!(setup.threshold, threshold);
                playing.spawn(player.play(number as u8, part, ids, threshold, setup.start()));
            }
            while let Some(played) = playing.join_next().await {
                played.unwrap();
            }
        });
    }

    #[test]
    fn garbage_is_survived(
        protocol in prop::sample::select(vec![4, 47, 340, 764, 777]),
        compressed: bool,
        up in any_garbage(),
        down in any_garbage(),
    ) {
        paused(async {
            let setup = if compressed { Setup::new(protocol).compressed() } else { Setup::new(protocol) };
            let Rig { client, mut backend, run, .. } = setup.start();
            let mut client = client.io;
            // The relay may have hung up on it.
            let _ = tokio::join!(client.write_all(&up), backend.write_all(&down));
            let _ = tokio::join!(client.shutdown(), backend.shutdown());
            let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
            let (a, b) = tokio::join!(client.read_to_end(&mut to_client), backend.read_to_end(&mut to_server));
            assert_eq!((a.unwrap(), b.unwrap()), (to_client.len(), to_server.len()));
            assert!(to_server.len() <= up.len() && down.starts_with(&to_client));
            let ended = run.await.unwrap();
            assert_eq!(ended.to_server, to_server.len() as u64);
            assert_eq!(ended.to_client, to_client.len() as u64);
        });
    }
}
