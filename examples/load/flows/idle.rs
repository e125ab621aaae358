//! Memory of players who are in and do nothing, and what is left of it when they went.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use super::{Bench, Figure, Lane, throughput};
use crate::{
    backend::read_to_end,
    client::Client,
    failure::{During, Outcome, ensure},
    options::THRESHOLD,
    proc,
    target::Target,
    wire::{Packet, run_of_frames, said},
};

/// What each player gets after its login: about what the chunks around it weigh, to have every buffer used.
const BURST: usize = 100_000;

/// Bytes of the packets that each player sends: one below the compression threshold, one above.
const SENT: [usize; 2] = [98, 600];

/// Files that this program needs besides one at each end of every player's way.
const OTHER_FILES: usize = 64;

/// One wave of players, twice.
pub(super) fn measure(bench: &Bench, target: &Target) -> Outcome<Vec<Figure>> {
    let players = bench.options.players;
    let files = 2 * players + OTHER_FILES;
    let limit = proc::open_files_limit().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    ensure(
        files <= limit,
        format!("{players} players take {files} open files, but {limit} are allowed: `ulimit -n {files}`"),
    )?;
    bench.backends.compress_from(Some(THRESHOLD));
    let burst = run_of_frames(throughput::SERVER_PACKET, 2048, BURST, Some(THRESHOLD))?;
    // The same ones come again: what is remembered of a player is not what a connection costs.
    let names: Vec<String> = (0..players).map(|_| bench.name()).collect();
    // What is done once, whoever comes first.
    leave(vec![visit(bench, target, &bench.name(), &burst)?])?;

    let before = settled(bench, target);
    let wave = || -> Outcome<(Option<f64>, Option<f64>)> {
        let lanes = bench.side_by_side(players, |at| {
            visit(bench, target, names.get(at).map_or("", String::as_str), &burst)
        })?;
        let within = settled(bench, target);
        leave(lanes)?;
        Ok((within, settled(bench, target)))
    };
    let (first, left) = wave()?;
    let (second, left_again) = wave()?;
    let each =
        |bytes: Option<f64>| bytes.zip(before).map(|(after, before)| (after - before) / players as f64);
    Ok(vec![
        Figure::new("idle.player", "memory per idle player", "B", each(first)),
        Figure::new("idle.left", "the same, after all have left", "B", each(left)),
        Figure::new("idle.again", "the same, all in again", "B", each(second)),
        Figure::new("idle.left-again", "the same, all gone again", "B", each(left_again)),
    ])
}

/// Resident memory in bytes, after everybody had time to come to rest.
fn settled(bench: &Bench, target: &Target) -> Option<f64> {
    proc::pause(Duration::from_secs(bench.options.settle));
    target.pid.and_then(proc::resident).map(|bytes| bytes as f64)
}

/// Lets a player in; it gets its burst and sends a little.
fn visit(bench: &Bench, target: &Target, name: &str, burst: &[u8]) -> Outcome<Lane> {
    let mut lane = bench.join(target, name)?;
    let Lane { client, server } = &mut lane;
    // It fits into no socket's buffer, so both ends must be at it.
    thread::scope(|scope| {
        let sender = scope.spawn(|| (&*server).write_all(burst).map_err(|error| said(&error)));
        let received = receive(client, burst);
        let sent = sender.join().unwrap_or_else(|_| Err("a thread of the generator panicked".into()));
        sent.during("sending a burst")?;
        received.during("receiving a burst")
    })?;
    for size in SENT {
        let packet = Packet::new(throughput::CLIENT_PACKET).raw(&vec![7; size - 1]);
        let length = client.say(&packet)?;
        server.read_exact(&mut vec![0; length]).map_err(|error| said(&error)).during("backend")?;
    }
    Ok(lane)
}

fn receive(client: &mut Client, burst: &[u8]) -> Outcome<()> {
    let mut bytes = vec![0; burst.len()];
    client.stream.read_exact(&mut bytes).map_err(|error| said(&error))?;
    client.open(&mut bytes);
    ensure(bytes == burst, "a client got other bytes than the backend sent")
}

/// All clients go; the backend waits until it has been told so of each.
fn leave(lanes: Vec<Lane>) -> Outcome<()> {
    let (clients, servers): (Vec<_>, Vec<_>) =
        lanes.into_iter().map(|lane| (lane.client, lane.server)).unzip();
    drop(clients);
    for mut server in servers {
        read_to_end(&mut server)?;
    }
    Ok(())
}
