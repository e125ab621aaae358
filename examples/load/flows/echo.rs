//! Round trips of small packets on an open-loop schedule: packets leave when they are due, however late the last
//! answer is, and each latency counts from the moment its packet was due. A proxy that stalls is charged for every
//! packet that had to wait, not only for the first.
//!
//! Timers of asynchronous runtimes are a millisecond wide, so sender, receiver and echo are threads with blocking
//! sockets. Even a thread wakes some 60 µs late; the sender sleeps until a little before each packet is due and spins
//! for the rest. That takes up to a tenth of one processor, from the proxy and from the plain relay alike.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use postern::protocol::cipher::{Decryptor, Encryptor};

use super::{Bench, Figure, Lane, joined, throughput};
use crate::{
    failure::{During, Outcome, ensure},
    numbers::percentile,
    options::Options,
    proc::{self, pause},
    target::Target,
    wire::{Inbox, Packet, Reader, frame, run_of_frames, said},
};

/// Bytes of an echoed frame on the wire.
const FRAME: usize = 100;

/// Time before a packet is due in which the sender does not sleep any more.
const SPIN: Duration = Duration::from_micros(100);

/// One in so many of a second's packets is sent first, without its latency counting.
const WARM_UP: u32 = 10;

/// Connections that are flooded beside a busy echo.
const FLOODED: usize = 4;

/// Measures, maybe while other connections are flooded.
pub(super) fn measure(bench: &Bench, target: &Target, busy: bool) -> Outcome<Vec<Figure>> {
    let mut lanes = bench.lanes(target, if busy { 1 + FLOODED } else { 1 }, None)?;
    let lane = lanes.pop().ok_or("no connection")?;
    let run = run_of_frames(throughput::SERVER_PACKET, 2048, 1 << 20, None)?;
    let flood = Flood { run, stop: AtomicBool::new(false), received: AtomicUsize::new(0) };
    let began = Instant::now();
    let (outcome, cpu) = proc::cpu_during(target.pid, || beside(&flood, &lanes, bench, lane));
    let latencies = outcome?;
    let time = began.elapsed();
    let microseconds = |percent| percentile(&latencies, percent).map(|nanoseconds| nanoseconds as f64 / 1e3);
    let (id, beside) = if busy { ("echo-busy", ", 4 others flooded") } else { ("echo", "") };
    let work = |what: &str| format!("echo at {}/s{beside}, {what}", bench.options.echo_rate);
    let mut figures = vec![
        Figure::new(format!("{id}.p50"), work("median"), "µs", microseconds(50)),
        Figure::new(format!("{id}.p99"), work("99 of 100 within"), "µs", microseconds(99)),
    ];
    if busy {
        let rate = flood.received.load(Ordering::Relaxed) as f64 / 1e6 / time.as_secs_f64();
        figures.push(Figure::new("echo-busy.flood", "what the 4 others got meanwhile", "MB/s", Some(rate)));
    } else {
        let all = uncounted(&bench.options) as f64 + latencies.len() as f64;
        figures.push(Figure::new("echo.cpu", work("each"), "CPU-µs", cpu.map(|cpu| cpu * 1e6 / all)));
    }
    Ok(figures)
}

/// Echoes while all other lanes are flooded.
fn beside(flood: &Flood, lanes: &[Lane], bench: &Bench, lane: Lane) -> Outcome<Vec<u64>> {
    thread::scope(|scope| {
        let flooders: Vec<_> = lanes
            .iter()
            .flat_map(|Lane { client, server }| {
                let size = bench.options.write_size;
                [
                    scope.spawn(move || flood.send(server, size)),
                    scope.spawn(move || flood.receive(&client.stream)),
                ]
            })
            .collect();
        let latencies = echo(bench, lane);
        let broken = flooders.iter().any(thread::ScopedJoinHandle::is_finished);
        flood.stop.store(true, Ordering::Relaxed);
        for Lane { client, server } in lanes {
            // Whoever waits for these wakes up.
            let _ = client.stream.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
        for flooder in flooders {
            joined(flooder).during("flooding")?;
        }
        ensure(!broken, "a flooded connection broke")?;
        latencies
    })
}

/// When which packet is due.
#[derive(Clone, Copy)]
struct Schedule {
    began: Instant,
    interval: Duration,
    /// Packets of the warm-up.
    uncounted: u64,
    /// All packets.
    packets: u64,
}

impl Schedule {
    fn due(&self, packet: u64) -> Instant {
        self.began + self.interval * u32::try_from(packet).unwrap_or(u32::MAX)
    }
}

/// Packets of the warm-up.
fn uncounted(options: &Options) -> u64 {
    u64::from(options.echo_rate / WARM_UP)
}

/// Latencies in nanoseconds.
fn echo(bench: &Bench, lane: Lane) -> Outcome<Vec<u64>> {
    let Lane { client, server } = lane;
    let options = &bench.options;
    let uncounted = uncounted(options);
    let schedule = Schedule {
        began: Instant::now() + Duration::from_millis(10),
        interval: Duration::from_secs(1) / options.echo_rate,
        uncounted,
        packets: uncounted + u64::from(options.echo_rate) * u64::from(options.echo_seconds),
    };
    let stream = client.stream;
    let (encryptor, decryptor) =
        client.cipher.map_or((None, None), |cipher| (Some(cipher.encryptor), Some(cipher.decryptor)));
    thread::scope(|scope| {
        let echoing = scope.spawn(|| send_back(&server));
        let sender = scope.spawn(|| send(&stream, encryptor, schedule));
        let receiver = scope.spawn(|| receive(&stream, decryptor, schedule));
        let sent = joined(sender).during("sending");
        let latencies = joined(receiver).during("waiting for an echo");
        let _ = stream.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        let echoed = joined(echoing).during("backend");
        // The other ends' errors follow from an error at one.
        let latencies = latencies?;
        sent?;
        echoed?;
        Ok(latencies)
    })
}

fn send(mut stream: &TcpStream, mut encryptor: Option<Encryptor>, schedule: Schedule) -> Outcome<()> {
    for number in 0..schedule.packets {
        let padding = [7; FRAME - 10];
        let packet = Packet::new(throughput::CLIENT_PACKET).raw(&number.to_be_bytes()).raw(&padding);
        let mut bytes = frame(&packet.0, None)?;
        if let Some(encryptor) = &mut encryptor {
            encryptor.apply(&mut bytes);
        }
        let due = schedule.due(number);
        pause(due.saturating_duration_since(Instant::now() + SPIN));
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        stream.write_all(&bytes).map_err(|error| said(&error))?;
    }
    Ok(())
}

fn receive(
    mut stream: &TcpStream,
    mut decryptor: Option<Decryptor>,
    schedule: Schedule,
) -> Outcome<Vec<u64>> {
    let mut inbox = Inbox::default();
    let mut latencies = Vec::with_capacity(usize::try_from(schedule.packets)?);
    for expected in 0..schedule.packets {
        let packet = inbox.next(&mut stream, |bytes| {
            if let Some(decryptor) = &mut decryptor {
                decryptor.apply(bytes);
            }
        })?;
        let now = Instant::now();
        let mut reader = Reader(&packet);
        reader.byte()?;
        let number = u64::from_be_bytes(reader.take(8)?.try_into()?);
        ensure(number == expected, format!("echo {number} came in the place of {expected}"))?;
        if number >= schedule.uncounted {
            let latency = now.saturating_duration_since(schedule.due(number));
            latencies.push(u64::try_from(latency.as_nanos())?);
        }
    }
    Ok(latencies)
}

/// The backend's part: what comes goes back.
fn send_back(mut stream: &TcpStream) -> Outcome<()> {
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes).map_err(|error| said(&error))?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(bytes.get(..read).unwrap_or_default()).map_err(|error| said(&error))?;
    }
}

/// What keeps the proxy busy beside the echo.
struct Flood {
    run: Vec<u8>,
    stop: AtomicBool,
    received: AtomicUsize,
}

impl Flood {
    fn send(&self, mut to: &TcpStream, write_size: usize) -> Outcome<()> {
        for piece in self.run.chunks(write_size).cycle() {
            let written = to.write_all(piece);
            if self.stop.load(Ordering::Relaxed) {
                // The connection was ended under this write.
                return Ok(());
            }
            written.map_err(|error| said(&error))?;
        }
        Ok(())
    }

    fn receive(&self, mut from: &TcpStream) -> Outcome<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = from.read(&mut buffer);
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let read = read.map_err(|error| said(&error))?;
            ensure(read > 0, "the connection was closed")?;
            self.received.fetch_add(read, Ordering::Relaxed);
        }
    }
}
