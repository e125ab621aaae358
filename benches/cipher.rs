//! The link cipher: each byte to and from a client passes through it.
//!
//! `encrypt-4/2048` is 2 KiB of each of four streams, encrypted together. `reference-…` is the `cfb8` crate.

use std::hint::black_box;

use aes::cipher::KeyIvInit;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern::protocol::cipher::{Decryptor, Encryptor, Portion, SharedSecret, encrypt_together, pair};

/// Bytes of each stream.
const LENGTHS: [usize; 6] = [16, 100, 256, 2 << 10, 16 << 10, 64 << 10];

/// Streams with keys of their own, and what they send next.
fn streams(lengths: impl IntoIterator<Item = usize>) -> Vec<(Encryptor, Vec<u8>)> {
    let secrets = (1..=u8::MAX).filter_map(|byte| SharedSecret::new(&[byte; 16]));
    secrets.zip(lengths).map(|(secret, len)| (pair(&secret).0, vec![0x55; len])).collect()
}

fn encrypt(streams: &mut [(Encryptor, Vec<u8>)]) {
    encrypt_together(
        streams.iter_mut().map(|(encryptor, bytes)| Portion { encryptor, bytes: black_box(bytes) }),
    );
}

fn cipher(c: &mut Criterion) {
    let Some(secret) = SharedSecret::new(&[7; 16]) else { return };
    let mut group = c.benchmark_group("cipher");
    for len in LENGTHS {
        group.throughput(Throughput::Bytes(len as u64));
        let mut bytes = vec![0x55; len];
        let mut encryptor = Encryptor::new(&secret);
        group.bench_function(BenchmarkId::new("encrypt", len), |b| {
            b.iter(|| encryptor.apply(black_box(&mut bytes)));
        });
        let mut decryptor = Decryptor::new(&secret);
        group.bench_function(BenchmarkId::new("decrypt", len), |b| {
            b.iter(|| decryptor.apply(black_box(&mut bytes)));
        });
        for count in [1, 2, 4, 6, 8] {
            let mut streams = streams(std::iter::repeat_n(len, count));
            group.throughput(Throughput::Bytes((len * count) as u64));
            group.bench_function(BenchmarkId::new(format!("encrypt-{count}"), len), |b| {
                b.iter(|| encrypt(&mut streams));
            });
        }
    }

    // One stream is busy, the others say little.
    let lengths = [16 << 10, 100, 100, 100, 100, 100, 100, 100];
    group.throughput(Throughput::Bytes(lengths.iter().sum::<usize>() as u64));
    let mut streams = streams(lengths);
    group.bench_function("encrypt-8/uneven", |b| b.iter(|| encrypt(&mut streams)));

    let len = 2 << 10;
    let mut bytes = vec![0x55; len];
    let key = &[7; 16].into();
    group.throughput(Throughput::Bytes(len as u64));
    let mut encryptor = cfb8::Encryptor::<aes::Aes128>::new(key, key);
    group.bench_function(BenchmarkId::new("reference-encrypt", len), |b| {
        b.iter(|| encryptor.encrypt(black_box(&mut bytes)));
    });
    let mut decryptor = cfb8::Decryptor::<aes::Aes128>::new(key, key);
    group.bench_function(BenchmarkId::new("reference-decrypt", len), |b| {
        b.iter(|| decryptor.decrypt(black_box(&mut bytes)));
    });
    group.finish();
}

criterion_group!(benches, cipher);
criterion_main!(benches);
