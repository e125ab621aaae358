//! One direction of the relay.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    batch::Chain,
    workshop::{BUFFER, Workshop},
};
use crate::protocol::{
    cipher::{Decryptor, Encryptor},
    frame,
    reader::Malformed,
};

/// Reads in one turn of the thread's loop. A peer that sends without end must not keep the others waiting.
const READS_A_TURN: u32 = 4;

/// What becomes of the frame at the start of some bytes. Lengths count the whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes more bytes to tell.
    Open,
    /// It passes as it is.
    Pass(usize),
    /// It is left out.
    Drop(usize),
    /// It leaves the stream whole: the pipe stops behind it, and whoever runs it puts something in its place, or
    /// nothing. The gate sees to it that no more is taken than may be held.
    Take(usize),
}

/// Judges the frames of one direction, in their order.
pub(super) trait Gate {
    /// Judges the frame that starts at `bytes`. Asked again with more bytes while the fate is open.
    fn judge(&mut self, bytes: &[u8]) -> Result<Fate, Malformed>;

    /// Whether the pipe is to stop here, between two frames.
    fn pauses(&self) -> bool;
}

/// Why a pipe stopped.
pub(super) enum Stop {
    /// The gate pauses between two frames, and all before was written.
    Paused,
    /// A frame was [taken](Fate::Take), and all before it was written.
    Taken(Vec<u8>),
    /// The source ended, or broke; all before was written and the sink was told.
    Ended(io::Result<()>),
    /// The sink does not take any more.
    SinkBroken(io::Error),
    /// The source broke the protocol.
    Malformed(Malformed),
}

/// What becomes of a frame already judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Pass,
    Drop,
    Take,
}

/// One direction: reads, judges, writes, and reads again only when all that may pass is written.
///
/// ```text
///   buffer  | written | to be written | head not judged yet | free |
///           0      sent           cleared                filled
/// ```
///
/// The buffer is borrowed from the workshop, and only while something is in it.
pub(super) struct Pipe {
    /// Away while nothing is in it, or while it is being encrypted.
    buffer: Option<Box<[u8; BUFFER]>>,
    sent: usize,
    cleared: usize,
    filled: usize,
    /// What is left of a frame already judged, beyond `cleared`.
    rest: usize,
    /// What becomes of that rest.
    aim: Aim,
    /// The frame being taken, as far as it came: it grows with what is there, not with what its length states.
    #[expect(clippy::box_collection, reason = "mostly there is none, and every player has this field twice")]
    taken: Option<Box<Vec<u8>>>,
    /// Bytes read before the relay began, decrypted: the source's first bytes.
    early: BytesMut,
    /// A frame of our own, encrypted. Only between frames, and only when all before was written.
    inserted: BytesMut,
    decryptor: Option<Decryptor>,
    chain: Option<Chain>,
    unflushed: bool,
    /// How the source ended, once it did.
    end: Option<io::Result<()>>,
    /// Found behind frames that may pass: told once those are written.
    malformed: Option<Malformed>,
    /// Since when the source has been silent: since bytes last came, or since it could be heard again if the sink was
    /// slow meanwhile.
    listening: Instant,
    /// When the sink last took bytes, or was first offered those it has not taken.
    offered: Instant,
    /// Whether the sink let us wait.
    stalled: bool,
    written: u64,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A player's bytes are nobody's to print.
        f.debug_struct("Pipe").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Pipe {
    /// A pipe whose source gave `early` already, and is decrypted, its sink encrypted.
    pub(super) fn new(early: BytesMut, decryptor: Option<Decryptor>, encryptor: Option<Encryptor>) -> Self {
        let now = Instant::now();
        Self {
            buffer: None,
            sent: 0,
            cleared: 0,
            filled: 0,
            rest: 0,
            aim: Aim::Pass,
            taken: None,
            // Not even an empty one's memory is kept.
            early: if early.is_empty() { BytesMut::new() } else { early },
            inserted: BytesMut::new(),
            decryptor,
            chain: encryptor.map(Chain::new),
            unflushed: false,
            end: None,
            malformed: None,
            listening: now,
            offered: now,
            stalled: false,
            written: 0,
        }
    }

    /// Bytes written to the sink.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Since when it has been waiting: for the sink if it [is writing](Self::is_writing), else for the source.
    pub(super) fn waiting_since(&self) -> Instant {
        if self.is_writing() { self.offered } else { self.listening }
    }

    /// Whether it waits for the sink.
    pub(super) fn is_writing(&self) -> bool {
        self.unflushed || self.sent < self.cleared || !self.inserted.is_empty()
    }

    /// Whether its sink stands between two frames, with nothing left to write. A frame that is left out is nothing
    /// to the sink; one that is taken has its place there, which must not be given to another.
    pub(super) fn is_between_frames(&self) -> bool {
        self.taken.is_none() && (self.rest == 0 || self.aim == Aim::Drop) && !self.is_writing()
    }

    /// Puts a packet in, as one frame. Only [between frames](Self::is_between_frames): the cipher passes over each byte
    /// in order.
    pub(super) fn insert(&mut self, packet: &[u8], threshold: Option<usize>) {
        let mut framed = Vec::new();
        frame::put_frame(&mut framed, packet, threshold);
        self.insert_frame(framed);
    }

    /// Puts a frame in as it is. As [`insert`](Self::insert) otherwise.
    pub(super) fn insert_frame(&mut self, mut framed: Vec<u8>) {
        debug_assert!(self.is_between_frames(), "an insertion tears a frame apart");
        if let Some(chain) = &mut self.chain
            && chain.apply(&mut framed).is_err()
        {
            // The next poll ends the connection.
            return;
        }
        self.inserted.extend_from_slice(&framed);
        self.offered = Instant::now();
    }

    /// Moves bytes until it has to wait or stops, or until it is others' turn. Not to be called again once the source
    /// ended.
    pub(super) fn poll<S, D, G>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
        gate: &mut G,
        workshop: &Workshop,
    ) -> Poll<Stop>
    where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
        G: Gate,
    {
        let mut reads = 0;
        loop {
            if let Some(chain) = &mut self.chain {
                match ready!(chain.poll_back(&workshop.batch, cx)) {
                    Ok(Some(buffer)) => self.buffer = Some(buffer),
                    Ok(None) => {}
                    Err(lost) => return Poll::Ready(Stop::SinkBroken(io::Error::other(lost))),
                }
            }
            match self.poll_write(cx, sink) {
                Poll::Pending => {
                    self.stalled = true;
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Stop::SinkBroken(error)),
                Poll::Ready(Ok(())) => {}
            }
            if std::mem::take(&mut self.stalled) {
                self.listening = Instant::now();
            }
            if self.rest == 0
                && let Some(frame) = self.taken.take()
            {
                return Poll::Ready(Stop::Taken(*frame));
            }
            if self.is_between_frames() && gate.pauses() {
                return Poll::Ready(Stop::Paused);
            }
            let before = self.cleared;
            let run = self.clear(gate);
            if self.cleared > before {
                if self.hand_in(run, workshop, cx) {
                    return Poll::Pending;
                }
                continue;
            }
            if let Some(error) = self.malformed.take() {
                return Poll::Ready(Stop::Malformed(error));
            }
            if self.end.is_some() {
                // The sink may be gone as well: there is nothing left to tell it.
                let _ = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                return Poll::Ready(Stop::Ended(self.end.take().unwrap_or(Ok(()))));
            }
            if reads == READS_A_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            match ready!(self.poll_fill(cx, source, workshop)) {
                Ok(true) => {}
                Ok(false) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }

    /// Writes what is to be written, before anything else is done.
    pub(super) fn poll_write<D>(&mut self, cx: &mut Context<'_>, sink: &mut D) -> Poll<io::Result<()>>
    where
        D: AsyncWrite + Unpin,
    {
        loop {
            let ours = !self.inserted.is_empty();
            let bytes = if ours {
                self.inserted.chunk()
            } else {
                self.buffer
                    .as_ref()
                    .and_then(|buffer| buffer.get(self.sent..self.cleared))
                    .unwrap_or_default()
            };
            if bytes.is_empty() {
                break;
            }
            let len = ready!(Pin::new(&mut *sink).poll_write(cx, bytes))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if ours {
                self.inserted.advance(len);
                if self.inserted.is_empty() {
                    self.inserted = BytesMut::new();
                }
            } else {
                self.sent += len;
            }
            self.written += len as u64;
            self.offered = Instant::now();
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Judges what is there, up to a head that is not complete, to the end of a frame that is taken, or to where the
    /// gate pauses. Returns where the cleared bytes begin that may pass. All that was cleared before has been written.
    fn clear<G: Gate>(&mut self, gate: &mut G) -> usize {
        let mut run = self.cleared;
        let Some(buffer) = &self.buffer else { return run };
        while self.cleared < self.filled && self.malformed.is_none() {
            if self.rest == 0 {
                if gate.pauses() {
                    break;
                }
                match gate.judge(buffer.get(self.cleared..self.filled).unwrap_or_default()) {
                    Ok(Fate::Open) => {
                        // No head is as large as the buffer; a gate that thinks so would wait for ever.
                        if self.cleared == 0 && self.filled == BUFFER {
                            self.malformed = Some(Malformed::FrameTooLarge);
                        }
                        break;
                    }
                    Ok(Fate::Pass(len)) => (self.rest, self.aim) = (len, Aim::Pass),
                    Ok(Fate::Drop(len)) => (self.rest, self.aim) = (len, Aim::Drop),
                    Ok(Fate::Take(len)) => (self.rest, self.aim) = (len, Aim::Take),
                    Err(error) => {
                        self.malformed = Some(error);
                        break;
                    }
                }
            }
            let passes = self.aim == Aim::Pass;
            if !passes && run < self.cleared {
                // What stands before it goes first.
                break;
            }
            let step = self.rest.min(self.filled - self.cleared);
            if self.aim == Aim::Take {
                let fresh = buffer.get(self.cleared..self.cleared + step).unwrap_or_default();
                self.taken.get_or_insert_default().extend_from_slice(fresh);
            }
            self.cleared += step;
            self.rest -= step;
            if !passes {
                run = self.cleared;
                self.sent = self.cleared;
                if self.aim == Aim::Take && self.rest == 0 {
                    break;
                }
            }
        }
        run
    }

    /// Hands the cleared bytes from `run` on in to be encrypted, if the sink's link is. Whether it did: then the task
    /// is woken when it is others' turn no more.
    fn hand_in(&mut self, run: usize, workshop: &Workshop, cx: &Context<'_>) -> bool {
        if let Some(chain) = &mut self.chain
            && run < self.cleared
            && let Some(buffer) = self.buffer.take()
        {
            chain.hand_in(buffer, run..self.cleared, &workshop.batch, cx);
            return true;
        }
        false
    }

    /// Reads more, behind the head that is not judged yet. Whether anything came.
    fn poll_fill<S>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        workshop: &Workshop,
    ) -> Poll<io::Result<bool>>
    where
        S: AsyncRead + Unpin,
    {
        let mut buffer = self.buffer.take().unwrap_or_else(|| workshop.buffers.take());
        if self.cleared > 0 {
            // All before `cleared` is written. What moves is a piece of a head, mostly nothing.
            buffer.copy_within(self.cleared..self.filled, 0);
            self.filled -= self.cleared;
            (self.sent, self.cleared) = (0, 0);
        }
        let read = self.poll_read(cx, source, &mut buffer);
        if self.filled > 0 {
            self.buffer = Some(buffer);
        } else {
            workshop.buffers.put(buffer);
        }
        read
    }

    fn poll_read<S>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        buffer: &mut [u8; BUFFER],
    ) -> Poll<io::Result<bool>>
    where
        S: AsyncRead + Unpin,
    {
        let free = buffer.get_mut(self.filled..).unwrap_or_default();
        let len = if self.early.is_empty() {
            let mut read = ReadBuf::new(free);
            ready!(Pin::new(source).poll_read(cx, &mut read))?;
            let fresh = read.filled_mut();
            if let Some(decryptor) = &mut self.decryptor {
                decryptor.apply(fresh);
            }
            fresh.len()
        } else {
            let len = free.len().min(self.early.len());
            free.iter_mut().zip(&self.early).for_each(|(to, from)| *to = *from);
            self.early.advance(len);
            if self.early.is_empty() {
                // Its memory, maybe a large packet's, is not needed any more.
                self.early = BytesMut::new();
            }
            len
        };
        if len > 0 {
            self.filled += len;
            let now = Instant::now();
            (self.listening, self.offered) = (now, now);
        }
        Poll::Ready(Ok(len > 0))
    }

    /// Reads and throws away until the source ends or breaks.
    pub(super) fn poll_discard<S>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        workshop: &Workshop,
    ) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut buffer = self.buffer.take().unwrap_or_else(|| workshop.buffers.take());
        let mut reads = 0;
        let ended = loop {
            if reads == READS_A_TURN {
                cx.waker().wake_by_ref();
                break Poll::Pending;
            }
            reads += 1;
            let mut read = ReadBuf::new(&mut *buffer);
            match Pin::new(&mut *source).poll_read(cx, &mut read) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => break Poll::Ready(()),
            }
        };
        workshop.buffers.put(buffer);
        ended
    }

    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.buffer.is_some() || self.taken.is_some() || self.early.capacity() + self.inserted.capacity() > 0
    }

    /// Bytes of memory that a frame being taken has.
    #[cfg(test)]
    pub(super) fn taken_capacity(&self) -> usize {
        self.taken.as_ref().map_or(0, |taken| taken.capacity())
    }

    /// Gives back what is borrowed, save what is being encrypted: the connection is over.
    pub(super) fn give_up(&mut self, workshop: &Workshop) {
        if let Some(chain) = &mut self.chain {
            chain.give_up(&workshop.batch);
        }
        if let Some(buffer) = self.buffer.take() {
            workshop.buffers.put(buffer);
        }
    }
}
