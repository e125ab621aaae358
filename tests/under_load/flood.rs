//! Players whose clients talk without end, on threads of their own. The backend sends back what they say, so each of
//! them can tell whether what comes is its own, byte for byte.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    runtime::{Builder, Runtime},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::support::{
    Client, Player,
    wire::{self, In, Out},
};

/// An id that means nothing in configuration, to neither side.
const NOTHING_SPECIAL: u8 = 0x10;

/// Threads for whatever must not share one with the test.
pub(crate) struct Crowd(Option<Runtime>);

impl Crowd {
    pub(crate) fn new() -> Self {
        Self(Some(Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()))
    }

    pub(crate) fn run<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().unwrap().spawn(future)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Waiting for it is not allowed inside another runtime.
        self.0.take().unwrap().shutdown_background();
    }
}

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Frames of all sizes, larger ones than the relay's buffer among them, several in a write.
    Mixed,
    /// The smallest frames there are, hundreds in a write.
    Tiny,
    /// Small frames in pieces of so many bytes.
    Torn(usize),
}

impl Manner {
    pub(crate) const ALL: [Self; 4] = [Self::Mixed, Self::Tiny, Self::Torn(1), Self::Torn(7)];

    /// Lengths of its packets.
    fn packets(self) -> Vec<usize> {
        match self {
            Self::Mixed => [1, 100, 254, 255, 256, 600, 3, 2000, 40, 17_000, 127, 128, 9].repeat(5),
            Self::Tiny => (0..3001).map(|n| 1 + n % 3).collect(),
            Self::Torn(_) => (0..301).map(|n| 1 + n % 300).collect(),
        }
    }

    fn frames_a_write(self) -> usize {
        match self {
            Self::Mixed => 5,
            Self::Tiny => 500,
            Self::Torn(_) => 1,
        }
    }

    /// Bytes that may be under way. Few: it is not their number that matters here, but that there are always some.
    fn window(self) -> usize {
        match self {
            Self::Mixed => 48 << 10,
            Self::Tiny => 6 << 10,
            Self::Torn(_) => 1 << 10,
        }
    }

    fn piece(self) -> usize {
        match self {
            Self::Torn(len) => len,
            Self::Mixed | Self::Tiny => usize::MAX,
        }
    }
}

/// The frames a client sends, over and over: noise that nobody else's resembles.
fn script(seed: u64, manner: Manner, threshold: Option<usize>) -> Vec<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    let packet = |len: usize| {
        let noise: Vec<u8> = std::iter::repeat_with(&mut noise).take(len - 1).collect();
        wire::frame(&Out::id(NOTHING_SPECIAL).raw(&noise).0, threshold)
    };
    manner.packets().into_iter().map(packet).collect()
}

/// How a flooding player's connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The disconnect, as characters, with what surrounds them.
    pub(crate) told: Option<String>,
    /// Whether the stream ended between two frames, without a reset.
    pub(crate) clean: bool,
    pub(crate) sent: u64,
    /// What came back of it, every byte as it was.
    pub(crate) echoed: u64,
}

pub(crate) struct Flooder {
    pub(crate) player: Player,
    echoed: Arc<AtomicU64>,
    enough: watch::Sender<bool>,
    task: JoinHandle<Left>,
}

impl Flooder {
    /// Lets a client flood that has just logged in, and lives in that crowd.
    pub(crate) fn begin(crowd: &Crowd, player: Player, client: Client, seed: u64, manner: Manner) -> Self {
        let echoed = Arc::<AtomicU64>::default();
        let (enough, hears) = watch::channel(false);
        let task = crowd.run(flood(client, seed, manner, Arc::clone(&echoed), hears));
        Self { player, echoed, enough, task }
    }

    /// Bytes that came back so far.
    pub(crate) fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Says no more, hears the rest and goes.
    pub(crate) async fn end(self) -> Left {
        self.enough.send_replace(true);
        self.left().await
    }

    /// Goes without a word, wherever it stands.
    pub(crate) async fn vanish(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until the connection is over.
    pub(crate) async fn left(self) -> Left {
        self.task.await.unwrap()
    }
}

async fn flood(
    client: Client,
    seed: u64,
    manner: Manner,
    echoed: Arc<AtomicU64>,
    enough: watch::Receiver<bool>,
) -> Left {
    let script = script(seed, manner, client.threshold);
    let window = Semaphore::new(manner.window());
    let (encryptor, decryptor) = client.cipher.unwrap();
    let (read, write) = client.stream.into_split();
    let talking = talk(write, encryptor, &script, manner, &window, enough);
    let listening = async {
        let heard = listen(read, decryptor, &script, &window, &echoed).await;
        // Whoever waits for room has nobody to talk to any more.
        window.close();
        heard
    };
    let (sent, (rest, clean)) = tokio::join!(talking, listening);
    let told = disconnect(&rest, client.threshold);
    let clean = clean && (rest.is_empty() || told.is_some());
    Left { told, clean, sent, echoed: echoed.load(Ordering::Relaxed) }
}

/// Sends until it is enough or nobody takes more. Returns the number of bytes.
async fn talk(
    mut write: OwnedWriteHalf,
    mut encryptor: cfb8::Encryptor<aes::Aes128>,
    script: &[Vec<u8>],
    manner: Manner,
    window: &Semaphore,
    mut enough: watch::Receiver<bool>,
) -> u64 {
    let mut frames = script.iter().cycle();
    let mut sent = 0;
    loop {
        let mut bytes: Vec<u8> = frames.by_ref().take(manner.frames_a_write()).flatten().copied().collect();
        let room = tokio::select! {
            room = window.acquire_many(u32::try_from(bytes.len()).unwrap()) => room,
            _ = enough.wait_for(|enough| *enough) => break,
        };
        let Ok(room) = room else { return sent };
        room.forget();
        encryptor.encrypt(&mut bytes);
        for piece in bytes.chunks(manner.piece()) {
            if write.write_all(piece).await.is_err() {
                return sent;
            }
            sent += piece.len() as u64;
        }
    }
    // Not before all of it came back: whoever stops talking is not waited for long.
    let _ = window.acquire_many(u32::try_from(manner.window()).unwrap()).await;
    sent
}

/// Compares what comes with what was sent, to the end or to the first frame that differs. Returns what is left from
/// there on, and whether the stream ended without a reset.
async fn listen(
    mut read: OwnedReadHalf,
    mut decryptor: cfb8::Decryptor<aes::Aes128>,
    script: &[Vec<u8>],
    window: &Semaphore,
    echoed: &AtomicU64,
) -> (Vec<u8>, bool) {
    let mut frames = script.iter().cycle();
    let mut expected = frames.next().unwrap();
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let len = match read.read(&mut chunk).await {
            Ok(0) => return (buffer, true),
            Ok(len) => len,
            Err(_) => return (buffer, false),
        };
        decryptor.decrypt(&mut chunk[..len]);
        buffer.extend_from_slice(&chunk[..len]);
        let mut whole = 0;
        while buffer[whole..].starts_with(expected) {
            whole += expected.len();
            expected = frames.next().unwrap();
        }
        buffer.drain(..whole);
        window.add_permits(whole);
        echoed.fetch_add(whole as u64, Ordering::Relaxed);
    }
}

/// The text of a disconnect in configuration, if that is all there is: a whole frame, the last one.
fn disconnect(bytes: &[u8], threshold: Option<usize>) -> Option<String> {
    let header = bytes.iter().position(|byte| *byte < 0x80)? + 1;
    let len = usize::try_from(In(bytes).varint()).ok()?;
    let body = bytes.get(header..).filter(|body| body.len() == len)?;
    let packet = wire::unframe(body, threshold);
    (packet.first() == Some(&2)).then(|| String::from_utf8_lossy(&packet).into_owned())
}
