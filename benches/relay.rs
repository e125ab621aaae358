//! The relay between two streams in memory: frames in, judged, frames out.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern::{
    net::conn::Parts,
    protocol::{
        cipher::{Decryptor, Encryptor, SharedSecret},
        frame::put_frame,
        version::{Dialect, ProtocolVersion},
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

/// A running relay in the play state; the client's and the backend's ends. The player is in the world, and has the tree
/// of its commands. With `pins`, PIN commands are looked for.
fn start(runtime: &Runtime, encrypted: bool, pins: bool) -> (DuplexStream, DuplexStream) {
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
        put_frame(&mut bytes, &[COMMANDS; 12_000], Some(256));
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
        // Packet 0x7f is none that the relay knows. Its frame is not compressed.
        let mut one = Vec::new();
        put_frame(&mut one, &vec![0x7f; len - 4], Some(usize::MAX));
        let bytes = one.repeat(ROUND / one.len());
        let mut room = vec![0; bytes.len()];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for (encrypted, pins) in [(false, false), (false, true), (true, false), (true, true)] {
            let cipher = if encrypted { "cipher" } else { "plain" };
            let pinned = if pins { "/pins" } else { "" };
            let (mut client, mut backend) = start(&runtime, encrypted, pins);
            group.bench_function(BenchmarkId::new(format!("to-client/{cipher}{pinned}"), len), |b| {
                b.iter(|| runtime.block_on(pass(&mut backend, &mut client, &bytes, &mut room)));
            });
            // What the client sends must decrypt to frames: the cipher goes on from round to round, as the relay's does.
            let mut encryptor = encrypted.then(|| Encryptor::new(&SharedSecret::new(&[7; 16]).unwrap()));
            group.bench_function(BenchmarkId::new(format!("to-server/{cipher}{pinned}"), len), |b| {
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

criterion_group!(benches, relay);
criterion_main!(benches);
