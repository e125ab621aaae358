//! Frames back to back in one direction.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use postern::protocol::cipher::{Decryptor, Encryptor, SharedSecret};

use super::{Bench, Figure, Lane, joined, plural};
use crate::{
    failure::{During, Outcome, ensure},
    proc,
    target::Target,
    wire::{run_of_frames, said},
};

/// A vehicle's move from clients, chunk data from servers, by their ids in the release of the traffic flows. A proxy has
/// no reason to look into either.
pub(crate) const CLIENT_PACKET: u8 = 0x18;
pub(crate) const SERVER_PACKET: u8 = 0x24;

/// Longest run of frames; it is sent again and again. As much of each connection is compared byte by byte.
const RUN: usize = 1 << 20;

/// Bytes that a receiver asks the system for.
const READ: usize = 256 << 10;

/// One direction of one connection.
struct Course<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// The bytes to send, `times` over.
    run: Vec<u8>,
    times: usize,
}

/// What came out at the other end.
struct Received {
    /// When the last byte came.
    at: Instant,
    /// The first bytes, as they came.
    first: Vec<u8>,
}

/// From players to the backend.
pub(super) fn to_server(bench: &Bench, target: &Target, size: usize) -> Outcome<Vec<Figure>> {
    let lanes = bench.lanes(target, 1, bench.options.threshold())?;
    let (length, times) = volume(bench, 1);
    let mut expected = Vec::new();
    let mut courses = Vec::new();
    for Lane { client, server } in &lanes {
        let mut run = run_of_frames(CLIENT_PACKET, size, length, bench.options.threshold())?;
        let plain = match &client.cipher {
            Some(cipher) => encrypt_for_repetition(&mut run, cipher.secret)?,
            None => run.clone(),
        };
        expected.push(plain);
        courses.push(Course { from: &client.stream, to: server, run, times });
    }
    let (figures, received) = pass(
        bench,
        target,
        &courses,
        &format!("to-server.{size}"),
        &format!("client to server, {size} B frames"),
    )?;
    for (received, expected) in received.iter().zip(&expected) {
        ensure(received.first == *expected, "the backend got other bytes than the client sent")?;
    }
    Ok(figures)
}

/// From the backend to players.
pub(super) fn to_client(
    bench: &Bench,
    target: &Target,
    size: usize,
    connections: usize,
) -> Outcome<Vec<Figure>> {
    let mut lanes = bench.lanes(target, connections, bench.options.threshold())?;
    let (length, times) = volume(bench, connections);
    let run = run_of_frames(SERVER_PACKET, size, length, bench.options.threshold())?;
    let courses: Vec<_> = lanes
        .iter()
        .map(|Lane { client, server }| Course { from: server, to: &client.stream, run: run.clone(), times })
        .collect();
    let id = format!("to-client.{size}.{}", if connections == 1 { "one" } else { "many" });
    let work = format!("server to client, {size} B frames, {connections} connection{}", plural(connections));
    let (figures, received) = pass(bench, target, &courses, &id, &work)?;
    drop(courses);
    for (lane, mut received) in lanes.iter_mut().zip(received) {
        lane.client.open(&mut received.first);
        ensure(received.first == run, "a client got other bytes than the backend sent")?;
    }
    Ok(figures)
}

/// The length of a run, and how often it is sent on each connection.
fn volume(bench: &Bench, connections: usize) -> (usize, usize) {
    let each = bench.options.megabytes * 1_000_000 / connections;
    let length = RUN.min(each);
    (length, each.div_ceil(length.max(1)))
}

/// Encrypts what a client sends first, so that it may be sent again and again; returns what it decrypts to.
///
/// The cipher's register is the last 16 bytes of ciphertext, and the shared secret at the start. A run of ciphertext
/// whose last 16 bytes are the shared secret therefore ends where it began, and decrypts to the same bytes each time.
/// So one run is encrypted, before the clock starts. The price: the last 16 bytes of its last frame are noise.
fn encrypt_for_repetition(run: &mut [u8], secret: [u8; 16]) -> Outcome<Vec<u8>> {
    let shared = SharedSecret::new(&secret).ok_or("a shared secret of the wrong length")?;
    Encryptor::new(&shared).apply(run);
    if let Some(end) = run.last_chunk_mut::<16>() {
        *end = secret;
    }
    let mut plain = run.to_vec();
    Decryptor::new(&shared).apply(&mut plain);
    Ok(plain)
}

/// Has everything sent and received, and sees to it that all came and nothing more.
fn pass(
    bench: &Bench,
    target: &Target,
    courses: &[Course<'_>],
    id: &str,
    work: &str,
) -> Outcome<(Vec<Figure>, Vec<Received>)> {
    let write_size = bench.options.write_size;
    let bytes: usize = courses.iter().map(|course| course.run.len() * course.times).sum();
    let (outcome, cpu) = proc::cpu_during(target.pid, || transfer(courses, write_size));
    let (time, received) = outcome?;
    for Course { from, to, .. } in courses {
        from.shutdown(Shutdown::Write).during("ending a connection")?;
        let mut to = *to;
        match to.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err("more bytes came than were sent".into()),
            // Whoever has nothing more to say may also hang up at once.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(said(&error)).during("waiting for the end of a connection"),
        }
    }
    let gigabytes = bytes as f64 / 1e9;
    let rate = bytes as f64 / 1e6 / time.as_secs_f64();
    let figures = vec![
        Figure::new(format!("{id}.cpu"), work, "CPU-s/GB", cpu.map(|cpu| cpu / gigabytes)),
        Figure::new(format!("{id}.rate"), work, "MB/s", Some(rate)),
    ];
    Ok((figures, received))
}

/// Sends and receives on all connections at once; how long it took until all had arrived.
fn transfer(courses: &[Course<'_>], write_size: usize) -> Outcome<(Duration, Vec<Received>)> {
    let began = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = courses
            .iter()
            .map(|course| {
                (scope.spawn(move || send(course, write_size)), scope.spawn(move || receive(course)))
            })
            .collect();
        let mut last = began;
        let mut all = Vec::new();
        for (sender, receiver) in threads {
            joined(sender).during("sending")?;
            let received = joined(receiver).during("receiving")?;
            last = last.max(received.at);
            all.push(received);
        }
        Ok((last - began, all))
    })
}

fn send(course: &Course<'_>, write_size: usize) -> Outcome<()> {
    let mut to = course.from;
    for _ in 0..course.times {
        for piece in course.run.chunks(write_size) {
            to.write_all(piece).map_err(|error| said(&error))?;
        }
    }
    Ok(())
}

fn receive(course: &Course<'_>) -> Outcome<Received> {
    let mut from = course.to;
    let total = course.run.len() * course.times;
    let mut first = Vec::with_capacity(course.run.len());
    let mut buffer = vec![0; READ];
    let mut count = 0;
    while count < total {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(|error| said(&error)).during(format!("after {count} of {total} bytes"))?,
        };
        ensure(read > 0, format!("the connection was closed after {count} of {total} bytes"))?;
        let wanted = read.min(course.run.len() - first.len());
        first.extend_from_slice(buffer.get(..wanted).unwrap_or_default());
        count += read;
    }
    ensure(count == total, format!("{count} bytes came, {total} were sent"))?;
    Ok(Received { at: Instant::now(), first })
}
