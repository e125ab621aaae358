//! The relay between two streams in memory: frames in, judged, frames out. Behind criterion's figures: what it costs that
//! PIN commands are looked for, measured in pairs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints what it found"
)]

use std::{
    env,
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use flate2::{Compression, bufread::ZlibEncoder};
use postern::{
    net::conn::Parts,
    protocol::{
        cipher::{Decryptor, Encryptor, SharedSecret},
        frame::put_frame,
        version::{Dialect, ProtocolVersion},
        writer::put_varint,
    },
    relay::{Begin, Config, Relay, Terms, link},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
};

/// Bytes under way in a stream, as much as sockets mostly hold.
const CAPACITY: usize = 64 << 10;

/// Bytes of frames passed in one round.
const ROUND: usize = 1 << 20;

/// A release without configuration.
const PROTOCOL: i32 = 763;

/// Join Game and the commands packet of that release.
const JOIN: u8 = 0x28;
const COMMANDS: u8 = 0x10;

/// A chat line of a client of that release.
const CHAT: u8 = 0x05;

/// None that the relay knows.
const OTHER: u8 = 0x7f;

/// Frames behind Join Game of which each is looked into for the tree of commands.
const PATIENCE: usize = 2048;

/// A running relay in the play state; the client's and the backend's ends. The player is in the world, and has the tree
/// of its commands. With `pins`, PIN commands are looked for.
fn start(runtime: &Runtime, encrypted: bool, pins: bool) -> (DuplexStream, DuplexStream) {
    start_with_tree(runtime, encrypted, pins, 30_000)
}

fn start_with_tree(
    runtime: &Runtime,
    encrypted: bool,
    pins: bool,
    tree: usize,
) -> (DuplexStream, DuplexStream) {
    let (mut client, client_io) = duplex(CAPACITY);
    let (mut backend, backend_io) = duplex(CAPACITY);
    let secret = encrypted.then(|| SharedSecret::new(&[7; 16]).unwrap());
    let client_parts = Parts {
        io: client_io,
        inbox: BytesMut::new(),
        decryptor: secret.as_ref().map(Decryptor::new),
        encryptor: secret.as_ref().map(Encryptor::new),
        threshold: Some(256),
    };
    let backend_parts = Parts {
        io: backend_io,
        inbox: BytesMut::new(),
        decryptor: None,
        encryptor: None,
        threshold: Some(256),
    };
    let (_, link) = link(Dialect::of(ProtocolVersion(PROTOCOL)), Arc::default());
    let config = Config { read_timeout: Duration::from_mins(10) };
    let terms = Terms { begin: Begin::BehindLoginSuccess, pins, held: false };
    runtime.spawn(async move {
        Relay::new(client_parts, backend_parts, link, Arc::default(), &config, terms).run().await
    });
    runtime.block_on(async {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, &[JOIN; 100], Some(256));
        // Not as a server writes it: it passes as it is, and is known for the tree all the same.
        put_frame(&mut bytes, &vec![COMMANDS; tree], Some(256));
        for _ in 0..PATIENCE {
            put_frame(&mut bytes, &[OTHER; 100], Some(256));
        }
        let mut room = vec![0; bytes.len()];
        pass(&mut backend, &mut client, &bytes, &mut room).await;
    });
    (client, backend)
}

async fn pass(from: &mut DuplexStream, to: &mut DuplexStream, bytes: &[u8], room: &mut [u8]) {
    let (sent, got) = tokio::join!(from.write_all(bytes), to.read_exact(room));
    sent.unwrap();
    got.unwrap();
}

fn relay(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut group = c.benchmark_group("relay");
    for len in [128, 2 << 10] {
        let one = stored(len - 4);
        let bytes = one.repeat(ROUND / one.len());
        let mut room = vec![0; bytes.len()];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for encrypted in [false, true] {
            let cipher = if encrypted { "cipher" } else { "plain" };
            let (mut client, mut backend) = start(&runtime, encrypted, false);
            group.bench_function(BenchmarkId::new(format!("to-client/{cipher}"), len), |b| {
                b.iter(|| runtime.block_on(pass(&mut backend, &mut client, &bytes, &mut room)));
            });
            // What the client sends must decrypt to frames: the cipher goes on from round to round, as the relay's does.
            let mut encryptor = encrypted.then(|| Encryptor::new(&SharedSecret::new(&[7; 16]).unwrap()));
            group.bench_function(BenchmarkId::new(format!("to-server/{cipher}"), len), |b| {
                b.iter_batched(
                    || {
                        let mut bytes = bytes.clone();
                        if let Some(encryptor) = &mut encryptor {
                            encryptor.apply(&mut bytes);
                        }
                        bytes
                    },
                    |bytes| runtime.block_on(pass(&mut client, &mut backend, &bytes, &mut room)),
                    criterion::BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// A frame that is not compressed.
fn stored(len: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    put_frame(&mut framed, &vec![OTHER; len], Some(usize::MAX));
    framed
}

/// A frame of a packet of `len` bytes, compressed as servers do it: about half as long, as chunks are.
fn deflated(id: u8, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut packet = vec![id];
    packet.resize_with(len, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes().first().map_or(0, |byte| byte & 0x0f)
    });
    compress(&packet)
}

fn compress(packet: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    put_varint(&mut content, packet.len().try_into().unwrap());
    ZlibEncoder::new(packet, Compression::default()).read_to_end(&mut content).unwrap();
    let mut framed = Vec::new();
    put_varint(&mut framed, content.len().try_into().unwrap());
    framed.extend(content);
    framed
}

/// A chat line that is none of the commands about PINs, which shows only behind hundreds of spaces.
fn hidden() -> Vec<u8> {
    let text = format!("{}hello", " ".repeat(1000));
    let mut packet = vec![CHAT];
    put_varint(&mut packet, text.len().try_into().unwrap());
    packet.extend(text.as_bytes());
    compress(&packet)
}

/// Rounds through a relay without, and through one with, a look for PIN commands: in turn, each first every other time, so
/// that whatever else the machine does meets both alike. Without a cipher, beside which no look weighs anything.
fn pairs(count: usize) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    println!("what looking for PIN commands costs, {count} pairs of rounds of 1 MiB:");
    println!("| frames | without, ns each | with, ns each | ratio, median | quarter to three quarters |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, frame, tree, up) in [
        ("to client, 128 B", stored(124), 30_000, false),
        ("to client, 2 KiB", stored(2044), 30_000, false),
        ("to client, 12 KB, compressed", deflated(OTHER, 12_000), 30_000, false),
        ("to client, 40 KB, compressed", deflated(OTHER, 40_000), 30_000, false),
        ("to client, 12 KB, compressed, tree as long", deflated(OTHER, 12_000), 12_000, false),
        ("to client, 40 KB, compressed, tree as long", deflated(OTHER, 40_000), 40_000, false),
        ("to server, 128 B", stored(124), 30_000, true),
        ("to server, 2 KiB", stored(2044), 30_000, true),
        ("to server, 2 KB, compressed", deflated(OTHER, 2000), 30_000, true),
        ("to server, chat behind 1000 spaces, compressed", hidden(), 30_000, true),
    ] {
        let frames = ROUND / frame.len();
        let bytes = frame.repeat(frames);
        let mut room = vec![0; bytes.len()];
        let mut relays = [false, true].map(|pins| start_with_tree(&runtime, false, pins, tree));
        let mut took: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for nth in 0..count + WARM_UP {
            let order = if nth % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                let Some((client, backend)) = relays.get_mut(which) else { continue };
                let (from, to) = if up { (client, backend) } else { (backend, client) };
                let start = Instant::now();
                runtime.block_on(pass(from, to, &bytes, &mut room));
                let took = took.get_mut(which).filter(|_| nth >= WARM_UP);
                if let Some(took) = took {
                    took.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let [without, with] = took;
        let mut ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
        let [without, with] = [without, with].map(|mut took| {
            // No round has so many frames that a float could not tell.
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let frames = frames as f64;
            quantile(&mut took, 2) * 1e9 / frames
        });
        let [low, middle, high] = [1, 2, 3].map(|quarters| quantile(&mut ratios, quarters));
        println!("| {name} | {without:.0} | {with:.0} | {middle:.2} | {low:.2} to {high:.2} |");
    }
}

/// Pairs that do not count.
const WARM_UP: usize = 10;

/// What so many quarters of the values do not exceed.
fn quantile(values: &mut [f64], quarters: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * quarters / 4).copied().unwrap_or(f64::NAN)
}

criterion_group!(benches, relay);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Without that word, it is only to be shown that it runs.
    let is_measured = env::args().any(|arg| arg == "--bench");
    pairs(if is_measured { 400 } else { 1 });
}
