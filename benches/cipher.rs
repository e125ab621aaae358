//! The link cipher: each byte to and from a client passes through it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern::protocol::cipher::{Decryptor, Encryptor, SharedSecret};

fn cipher(c: &mut Criterion) {
    let Some(secret) = SharedSecret::new(&[7; 16]) else { return };
    let mut group = c.benchmark_group("cipher");
    for len in [16, 256, 2 << 10, 16 << 10, 64 << 10] {
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
    }
    group.finish();
}

criterion_group!(benches, cipher);
criterion_main!(benches);
