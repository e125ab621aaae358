//! Both ends of relayed connections: threads with blocking sockets.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use postern::protocol::{
    cipher::{Decryptor, Encryptor},
    frame::put_frame,
};

use crate::{
    proc::pause,
    shape::{Running, secret},
};

/// Bytes written at once, as a server under load does.
const WRITE: usize = 64 << 10;

/// Between two ticks of a server.
const TICK: Duration = Duration::from_millis(50);

/// Bytes of a connection in a tick, where the rate is limited: 5 MB/s, little enough for every shape with four
/// connections a core, so that latencies beside it compare. A run of frames has four times as many.
const IN_A_TICK: u32 = 256 << 10;

/// About a chunk of the world.
const CHUNK: u32 = 16 << 10;

/// Bytes at the beginning of each stream that are compared with what was sent.
const COMPARED: usize = 64 << 10;

/// Bytes of an echoed frame.
const ECHO: usize = 100;

/// Between two echoed frames.
const ECHO_INTERVAL: Duration = Duration::from_millis(1);

/// Time before a frame is due in which its sender does not sleep any more: threads wake some 60 µs late.
const SPIN: Duration = Duration::from_micros(100);

/// Whatever takes longer is stuck.
const STUCK: Duration = Duration::from_mins(2);

/// A relayed connection: the client's and the backend's end.
pub(crate) struct Lane {
    client: TcpStream,
    backend: TcpStream,
}

impl Lane {
    pub(crate) fn new(running: &Running) -> Self {
        let ((client, client_side), (backend, backend_side)) = (pair(), pair());
        running.serve(client_side, backend_side);
        // A thread that waits on a broken relay is to say so.
        for stream in [&client, &backend] {
            stream.set_read_timeout(Some(STUCK)).unwrap();
            stream.set_write_timeout(Some(STUCK)).unwrap();
        }
        Self { client, backend }
    }

    fn close(&self) {
        for stream in [&self.client, &self.backend] {
            // The relay may have closed it before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// A frame of `len` bytes that the relay passes in both directions. Packet 0x7f is none that it knows.
fn frame(len: usize, fields: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x7f];
    packet.extend_from_slice(fields);
    let mut bytes = Vec::new();
    // Its length takes one byte or two, and one says that it is not compressed.
    packet.resize(len - if len > 0x80 { 3 } else { 2 }, 0x55);
    put_frame(&mut bytes, &packet, Some(usize::MAX));
    assert_eq!(bytes.len(), len);
    bytes
}

/// About a MiB of frames of `len` bytes.
pub(crate) fn run_of_frames(len: usize) -> Vec<u8> {
    frame(len, &[]).repeat((1 << 20) / len)
}

/// What a client sends: frames for at least `bytes` bytes, encrypted from the start of the stream.
pub(crate) fn client_stream(run: &[u8], bytes: usize) -> Vec<u8> {
    let mut stream = run.repeat(bytes.div_ceil(run.len()));
    Encryptor::new(&secret()).apply(&mut stream);
    stream
}

/// How a flood comes.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As much as they take.
    Unlimited,
    /// At a limited rate: chunk by chunk, one lane after the other.
    Spread,
    /// At a limited rate: all lanes at once, in the ticks of a server.
    Ticks,
}

/// What is known of a flood while it lasts.
#[derive(Default)]
pub(crate) struct Flood {
    received: AtomicU64,
    /// Somebody sends or receives no more, for it is over or broken.
    over: AtomicBool,
}

impl Flood {
    /// Bytes that have come so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits for so many bytes in all.
    pub(crate) fn await_bytes(&self, bytes: u64) {
        let began = Instant::now();
        while self.received() < bytes {
            self.check();
            assert!(began.elapsed() < STUCK, "{} bytes of {bytes} arrived", self.received());
            pause(Duration::from_millis(1));
        }
    }

    fn check(&self) {
        assert!(!self.is_over(), "a flooded connection broke");
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Notes the end of one thread's part, also if it panics.
struct Part<'a>(&'a Flood);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Wakes the threads at the lanes to their end, also if what they are needed for panics.
struct Ending<'a>(&'a [Lane]);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(Lane::close);
    }
}

/// Measures while backends flood their clients with `run` over and over.
pub(crate) fn flood_clients<T>(
    lanes: &[Lane],
    run: &[u8],
    pace: Pace,
    measure: impl FnOnce(&Flood) -> T,
) -> T {
    let flood = Flood::default();
    let began = Instant::now();
    thread::scope(|scope| {
        let _ending = Ending(lanes);
        for (number, lane) in lanes.iter().enumerate() {
            let flood = &flood;
            scope.spawn(move || {
                let _part = Part(flood);
                match pace {
                    Pace::Unlimited => {
                        run.chunks(WRITE).cycle().try_for_each(|piece| (&lane.backend).write_all(piece))
                    }
                    Pace::Spread => {
                        let interval = TICK * CHUNK / IN_A_TICK;
                        let first = began + interval.mul_f64(number as f64 / lanes.len() as f64);
                        send_paced(&lane.backend, run, CHUNK, interval, first)
                    }
                    Pace::Ticks => send_paced(&lane.backend, run, IN_A_TICK, TICK, began),
                }
            });
            scope.spawn(move || {
                let _part = Part(flood);
                receive(&lane.client, run, Some(Decryptor::new(&secret())), flood);
            });
        }
        let outcome = measure(&flood);
        flood.check();
        outcome
    })
}

/// Measures while one client sends `stream`, once. Behind the relay it is `run` over and over.
pub(crate) fn flood_backend<T>(
    lane: &Lane,
    run: &[u8],
    stream: &[u8],
    measure: impl FnOnce(&Flood) -> T,
) -> T {
    let flood = Flood::default();
    thread::scope(|scope| {
        let _ending = Ending(std::slice::from_ref(lane));
        scope.spawn(|| stream.chunks(WRITE).try_for_each(|piece| (&lane.client).write_all(piece)));
        scope.spawn(|| {
            let _part = Part(&flood);
            receive(&lane.backend, run, None, &flood);
        });
        let outcome = measure(&flood);
        flood.check();
        outcome
    })
}

/// Sends `len` bytes each time, however long the last ones took.
fn send_paced(
    mut to: &TcpStream,
    run: &[u8],
    len: u32,
    interval: Duration,
    mut due: Instant,
) -> io::Result<()> {
    for piece in run.chunks(len as usize).cycle() {
        pause(due.saturating_duration_since(Instant::now()));
        to.write_all(piece)?;
        due += interval;
    }
    Ok(())
}

/// Counts what comes until the connection ends, and compares the beginning.
fn receive(mut from: &TcpStream, run: &[u8], mut decryptor: Option<Decryptor>, flood: &Flood) {
    let mut expected = run.iter().cycle();
    let mut uncompared = COMPARED;
    let mut buffer = vec![0; 256 << 10];
    loop {
        // An end is an end: whether it was to come is known elsewhere.
        let read = from.read(&mut buffer).unwrap_or_default();
        if read == 0 {
            return;
        }
        let (fresh, _) = buffer.split_at_mut(read.min(uncompared));
        uncompared -= fresh.len();
        if let Some(decryptor) = &mut decryptor {
            decryptor.apply(fresh);
        }
        assert!(fresh.iter().eq(expected.by_ref().take(fresh.len())), "what arrives is not what was sent");
        flood.received.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Sends small frames that the backend sends back, each when it is due, however late the last one is. Returns how long
/// after that each was back, in nanoseconds.
pub(crate) fn echo(lane: &Lane, frames: u32) -> Vec<u64> {
    let began = Instant::now() + Duration::from_millis(10);
    thread::scope(|scope| {
        let _ending = Ending(std::slice::from_ref(lane));
        scope.spawn(|| send_back(&lane.backend));
        let sender = scope.spawn(|| {
            let mut encryptor = Encryptor::new(&secret());
            for number in 0..frames {
                let mut bytes = frame(ECHO, &number.to_be_bytes());
                encryptor.apply(&mut bytes);
                let due = began + ECHO_INTERVAL * number;
                pause(due.saturating_duration_since(Instant::now() + SPIN));
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                (&lane.client).write_all(&bytes).unwrap();
            }
        });
        let receiver = scope.spawn(|| {
            let mut decryptor = Decryptor::new(&secret());
            let mut bytes = [0; ECHO];
            let mut back = |number: u32| {
                (&lane.client).read_exact(&mut bytes).unwrap();
                let waited = (began + ECHO_INTERVAL * number).elapsed();
                decryptor.apply(&mut bytes);
                assert_eq!(bytes, *frame(ECHO, &number.to_be_bytes()), "frame {number} came back as another");
                u64::try_from(waited.as_nanos()).unwrap()
            };
            (0..frames).map(&mut back).collect()
        });
        sender.join().unwrap();
        receiver.join().unwrap()
    })
}

fn send_back(mut stream: &TcpStream) {
    let mut bytes = [0; 4 << 10];
    loop {
        let read = stream.read(&mut bytes).unwrap_or_default();
        if read == 0 || stream.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}
