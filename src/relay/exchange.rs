//! Both directions together: their ends, their silence, and what the handle asks for.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, copy, sink},
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    Terms,
    course::Course,
    ended::{EndCause, Side},
    gates::{Clientbound, Fit, Serverbound, Wanted},
    head::Opener,
    link::Link,
    metrics::Tally,
    pipe::{Pipe, Stop},
    workshop::Workshop,
};
use crate::{
    net::conn::{Io, Parts},
    protocol::{play::write_disconnect, text::Text},
};

/// How long the rest may go on after one side ended: what was said last gets through, and a socket closed with unread
/// bytes in it would reset the connection under those words.
const LINGER: Duration = Duration::from_secs(5);

/// Longest wait for the end of a frame before a disconnect is sent, and again for that to be sent and heard. A player
/// who is to make room for another holds that one up at most for both.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of packets replaced in one turn of the thread's loop, in one direction: as many as are read in one. Each is
/// inflated and read whole, and may be a hundred times as long as its frame; a client that sends nothing but PIN commands
/// must not keep the others waiting.
const REPLACED_A_TURN: usize = 64 << 10;

/// What a packet counts for at least: a short one costs as much as passing many.
const REPLACED_AT_LEAST: usize = 1 << 10;

/// Where the direction from client to backend stands. The other one is either relaying or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Up {
    Relaying,
    /// The backend takes no more. The client is still read, so that its socket closes clean.
    Discarding,
    Done,
}

/// The compression thresholds of both sides, in bytes; none where nothing is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    client: Option<u32>,
    backend: Option<u32>,
}

impl Thresholds {
    fn new(client: Option<usize>, backend: Option<usize>) -> Self {
        // No packet is as long as the most that this holds: nothing is compressed from there on either.
        let narrow = |threshold: usize| u32::try_from(threshold).unwrap_or(u32::MAX);
        Self { client: client.map(narrow), backend: backend.map(narrow) }
    }

    pub(super) fn client(self) -> Option<usize> {
        self.client.map(|threshold| threshold as usize)
    }

    pub(super) fn backend(self) -> Option<usize> {
        self.backend.map(|threshold| threshold as usize)
    }
}

/// A connection being relayed.
///
/// ```text
///   relaying ──close──> farewell awaits the end of a frame ──> disconnect sent ──┐
///      └── first end of a side ──> lingering: the rest, at most LINGER ──────────┴──> over
/// ```
pub(super) struct Exchange<C, B> {
    client: C,
    backend: B,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    up_stage: Up,
    down_done: bool,
    pub(super) course: Course,
    up_opener: Opener,
    down_opener: Opener,
    /// The compression thresholds of both sides.
    pub(super) thresholds: Thresholds,
    pub(super) link: Link,
    workshop: Arc<Workshop>,
    /// Waits for its place in the stream.
    insertion: Option<Vec<u8>>,
    /// What the client is to be told at the next frame's end.
    farewell: Option<Text>,
    /// What happened first.
    cause: Option<EndCause>,
    /// When lingering, or the wait for the farewell's place, is over.
    limit: Option<Instant>,
    read_timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<C, B> fmt::Debug for Exchange<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("up", &self.up).field("down", &self.down).finish_non_exhaustive()
    }
}

impl<C: Io, B: Io> Exchange<C, B> {
    pub(super) fn new(
        client: Parts<C>,
        backend: Parts<B>,
        link: Link,
        workshop: Arc<Workshop>,
        read_timeout: Duration,
        terms: Terms,
    ) -> Self {
        Self {
            course: Course::new(&link.dialect, terms),
            up: Pipe::new(client.inbox, client.decryptor, backend.encryptor),
            down: Pipe::new(backend.inbox, backend.decryptor, client.encryptor),
            up_stage: Up::Relaying,
            down_done: false,
            up_opener: Opener::default(),
            down_opener: Opener::default(),
            thresholds: Thresholds::new(client.threshold, backend.threshold),
            client: client.io,
            backend: backend.io,
            link,
            workshop,
            insertion: None,
            farewell: None,
            cause: None,
            limit: None,
            read_timeout,
            timer: Box::pin(sleep_until(Instant::now() + read_timeout)),
        }
    }

    /// Bytes written to the backend and to the client.
    pub(super) fn written(&self) -> (u64, u64) {
        (self.up.written(), self.down.written())
    }

    /// Where it is counted.
    pub(super) fn tally(&self) -> &Tally {
        &self.workshop.tally
    }

    /// Relays to the end.
    pub(super) async fn run(&mut self) -> EndCause {
        let cause = poll_fn(|cx| self.poll(cx)).await;
        if let Some(text) = self.farewell.take() {
            // Apart from the exchange: a player who is in needs no room for this.
            Box::pin(self.say_farewell(&text)).await;
        }
        cause
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndCause> {
        if self.link.listen(cx) {
            self.course.release();
        }
        if self.farewell.is_none()
            && let Some(text) = self.link.take_close()
        {
            if let Some(cause) = self.cause.take() {
                return Poll::Ready(cause);
            }
            self.farewell = Some(text);
            self.limit = Some(Instant::now() + FAREWELL);
        }
        // A player who is being closed has no more to say to the backend.
        if self.farewell.is_none()
            && let Some(cause) = self.poll_up(cx)
        {
            return Poll::Ready(cause);
        }
        if let Some(cause) = self.poll_down(cx) {
            return Poll::Ready(cause);
        }
        if self.up_stage == Up::Done
            && self.down_done
            && let Some(cause) = self.cause.take()
        {
            return Poll::Ready(cause);
        }
        self.poll_timer(cx)
    }

    /// From client to backend. Some cause if that ends it all.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Option<EndCause> {
        let mut replaced = 0;
        while self.up_stage == Up::Relaying {
            let (client, backend) = (self.thresholds.client(), self.thresholds.backend());
            let mut gate = Serverbound {
                course: &mut self.course,
                link: &self.link,
                opener: &mut self.up_opener,
                inflaters: &self.workshop.inflaters,
                compression: client.is_some(),
                fit: Fit::to_server(client, backend),
            };
            let before = self.up.written();
            let stop = self.up.poll(cx, &mut self.client, &mut self.backend, &mut gate, &self.workshop);
            self.workshop.tally.to_server(self.up.written() - before);
            if self.up.is_writing() {
                self.link.activity.not_listening();
            } else {
                self.link.activity.touch(self.up.waiting_since());
            }
            match stop {
                Poll::Pending => break,
                Poll::Ready(Stop::Paused) => self.acknowledge_withheld(),
                Poll::Ready(Stop::Taken(frame)) => {
                    match self.replace_up(frame) {
                        Ok(len) => replaced += len.max(REPLACED_AT_LEAST),
                        Err(error) => return Some(EndCause::Malformed { side: Side::Client, error }),
                    }
                    if replaced >= REPLACED_A_TURN {
                        cx.waker().wake_by_ref();
                        break;
                    }
                }
                Poll::Ready(Stop::Ended(end)) => {
                    self.up_stage = Up::Done;
                    self.linger(match end {
                        Ok(()) => EndCause::ClientClosed,
                        Err(error) => EndCause::Broken { side: Side::Client, error },
                    });
                }
                Poll::Ready(Stop::SinkBroken(error)) => {
                    self.up_stage = Up::Discarding;
                    self.linger(EndCause::Broken { side: Side::Backend, error });
                }
                Poll::Ready(Stop::Malformed(error)) => {
                    return Some(EndCause::Malformed { side: Side::Client, error });
                }
            }
        }
        if self.up_stage == Up::Discarding
            && self.up.poll_discard(cx, &mut self.client, &self.workshop).is_ready()
        {
            self.up_stage = Up::Done;
        }
        None
    }

    /// From backend to client. Some cause if that ends it all.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Option<EndCause> {
        let mut replaced = 0;
        while !self.down_done {
            if self.insertion.is_none() {
                self.insertion = self.link.take_insertion();
            }
            let (client, backend) = (self.thresholds.client(), self.thresholds.backend());
            let mut gate = Clientbound {
                fit: Fit::to_client(backend, client, self.link.dialect.configuration),
                course: &mut self.course,
                link: &self.link,
                opener: &mut self.down_opener,
                inflaters: &self.workshop.inflaters,
                compression: backend.is_some(),
                wanted: match (&self.farewell, &self.insertion) {
                    (Some(_), _) => Wanted::Farewell,
                    (None, Some(_)) => Wanted::Insertion,
                    (None, None) => Wanted::Nothing,
                },
            };
            let before = self.down.written();
            let stop = self.down.poll(cx, &mut self.backend, &mut self.client, &mut gate, &self.workshop);
            self.workshop.tally.to_client(self.down.written() - before);
            match stop {
                Poll::Pending => return None,
                Poll::Ready(Stop::Paused) => {
                    if self.farewell.is_some() {
                        return Some(EndCause::Kicked);
                    }
                    if let Some(packet) = self.insertion.take() {
                        self.down.insert(&packet, client);
                    }
                }
                Poll::Ready(Stop::Taken(frame)) => {
                    match self.replace_down(frame) {
                        Ok(len) => replaced += len.max(REPLACED_AT_LEAST),
                        Err(error) => return Some(EndCause::Malformed { side: Side::Backend, error }),
                    }
                    if replaced >= REPLACED_A_TURN {
                        cx.waker().wake_by_ref();
                        return None;
                    }
                }
                Poll::Ready(Stop::Ended(end)) => {
                    self.down_done = true;
                    self.linger(match end {
                        Ok(()) => EndCause::BackendClosed,
                        Err(error) => EndCause::Broken { side: Side::Backend, error },
                    });
                    if self.farewell.is_some() {
                        // It ended inside a frame: there is no place for a farewell any more.
                        return self.cause.take();
                    }
                }
                // Nothing reaches this client any more.
                Poll::Ready(Stop::SinkBroken(error)) => {
                    return Some(self.cause.take().unwrap_or(EndCause::Broken { side: Side::Client, error }));
                }
                Poll::Ready(Stop::Malformed(error)) => {
                    return Some(EndCause::Malformed { side: Side::Backend, error });
                }
            }
        }
        None
    }

    /// Notes the first end.
    fn linger(&mut self, cause: EndCause) {
        if self.cause.is_none() {
            self.cause = Some(cause);
            self.limit.get_or_insert_with(|| Instant::now() + LINGER);
        }
    }

    /// When something is overdue, as things stand.
    fn due(&self) -> Instant {
        self.limit
            .unwrap_or_else(|| self.up.waiting_since().min(self.down.waiting_since()) + self.read_timeout)
    }

    /// What it means that something is overdue.
    fn overdue(&mut self) -> EndCause {
        if self.limit.is_some() {
            return self.cause.take().unwrap_or(EndCause::Kicked);
        }
        let (pipe, source, sink) = if self.up.waiting_since() <= self.down.waiting_since() {
            (&self.up, EndCause::ClientTimeout, EndCause::BackendTimeout)
        } else {
            (&self.down, EndCause::BackendTimeout, EndCause::ClientTimeout)
        };
        if pipe.is_writing() { sink } else { source }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<EndCause> {
        loop {
            // What is due mostly moves away with every read: the timer stays, and is set anew only when it rings. It
            // must not ring late, though.
            if self.due() < self.timer.deadline() {
                let due = self.due();
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
            let due = self.due();
            if due <= self.timer.deadline() {
                return Poll::Ready(self.overdue());
            }
            self.timer.as_mut().reset(due);
        }
    }

    /// Sends the disconnect that fits the client's state, if the stream stands where it can be read.
    async fn say_farewell(&mut self, text: &Text) {
        // At once: the player leaves the backend before anybody takes the place.
        let _ = timeout(FAREWELL, self.backend.shutdown()).await;
        if !self.down.is_between_frames() || !self.course.is_settled() {
            return;
        }
        if let Some(packet) = write_disconnect(&self.link.dialect, self.course.clientbound(), text) {
            self.down.insert(&packet, self.thresholds.client());
        }
        let said = async {
            let before = self.down.written();
            let wrote = poll_fn(|cx| self.down.poll_write(cx, &mut self.client)).await;
            self.workshop.tally.to_client(self.down.written() - before);
            wrote?;
            self.client.shutdown().await?;
            // Read to the end: closing a socket with unread bytes in it may take the text back.
            copy(&mut self.client, &mut sink()).await
        };
        // A client that is gone needs no farewell.
        let _ = timeout(FAREWELL, said).await;
    }
}

impl<C, B> Drop for Exchange<C, B> {
    fn drop(&mut self) {
        for pipe in [&mut self.up, &mut self.down] {
            pipe.give_up(&self.workshop);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;
    use crate::{
        protocol::{
            cipher::{SharedSecret, pair},
            frame::put_frame,
            version::{Dialect, ProtocolVersion},
        },
        relay::{Begin, link::link},
    };

    #[tokio::test(start_paused = true)]
    async fn who_is_quiet_holds_no_buffers() {
        let (mut client, client_io) = duplex(1000);
        let (mut backend, backend_io) = duplex(1000);
        let secret = SharedSecret::new(&[7; 16]).unwrap();
        let threshold = Some(256);
        let (encryptor, decryptor) = pair(&secret);
        let (mut encrypts, _) = pair(&secret);
        let (inbox, spare) = (BytesMut::new(), BytesMut::with_capacity(4096));
        let client_parts =
            Parts { io: client_io, inbox, decryptor: Some(decryptor), encryptor: Some(encryptor), threshold };
        let backend_parts =
            Parts { io: backend_io, inbox: spare, decryptor: None, encryptor: None, threshold };
        let (_handle, link) = link(Dialect::of(ProtocolVersion(763)), Arc::default());
        let workshop = Arc::<Workshop>::default();
        let mut exchange = Exchange::new(
            client_parts,
            backend_parts,
            link,
            Arc::clone(&workshop),
            Duration::from_mins(1),
            Terms { begin: Begin::BehindLoginSuccess, pins: true, held: false },
        );
        let (mut up, mut down) = (Vec::new(), Vec::new());
        // One is compressed, and so its beginning is inflated.
        put_frame(&mut up, &[0x7f; 600], threshold);
        put_frame(&mut up, &[0x7f; 60], threshold);
        put_frame(&mut down, &vec![0x7f; 60_000], Some(usize::MAX));
        let talk = async {
            for _ in 0..2 {
                let mut up = up.clone();
                encrypts.apply(&mut up);
                let (mut got_up, mut got_down) = (up.clone(), down.clone());
                client.write_all(&up).await.unwrap();
                backend.read_exact(&mut got_up).await.unwrap();
                let (sent, got) = tokio::join!(backend.write_all(&down), client.read_exact(&mut got_down));
                sent.unwrap();
                got.unwrap();
            }
            // Both wait for their peers when time moves.
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        tokio::select! {
            cause = exchange.run() => panic!("{cause:?}"),
            () = talk => {}
        }
        assert!(!exchange.up.holds_memory() && !exchange.down.holds_memory());
        assert!(!exchange.up_opener.holds_memory() && !exchange.down_opener.holds_memory());
        // Nor did it take more than one for each direction.
        assert!(workshop.buffers.spare() <= 2 && workshop.inflaters.spare() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_taken_holds_what_came_and_not_what_it_claims() {
        let (mut client, client_io) = duplex(1000);
        let (mut backend, backend_io) = duplex(1000);
        let parts =
            |io| Parts { io, inbox: BytesMut::new(), decryptor: None, encryptor: None, threshold: None };
        let (_handle, link) = link(Dialect::of(ProtocolVersion(763)), Arc::default());
        let terms = Terms { begin: Begin::BehindLoginSuccess, pins: true, held: false };
        let mut exchange = Exchange::new(
            parts(client_io),
            parts(backend_io),
            link,
            Arc::default(),
            Duration::from_mins(1),
            terms,
        );
        // Join Game, and a tree of two megabytes of which little comes.
        let join = [3, 0x28, 1, 2];
        let talk = async {
            backend.write_all(&join).await.unwrap();
            backend.write_all(&[0xff, 0xff, 0x7f, 0x10]).await.unwrap();
            backend.write_all(&[7; 5000]).await.unwrap();
            let mut got = join;
            client.read_exact(&mut got).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        tokio::select! {
            cause = exchange.run() => panic!("{cause:?}"),
            () = talk => {}
        }
        assert!((5000..20_000).contains(&exchange.down.taken_capacity()));
        // The rest of it, and nothing is left of it.
        let talk = async {
            let rest = vec![7; 0x1f_ffff - 5001];
            let mut got = vec![0; 3 + 0x1f_ffff];
            let (sent, got) = tokio::join!(backend.write_all(&rest), client.read_exact(&mut got));
            sent.unwrap();
            got.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        tokio::select! {
            cause = exchange.run() => panic!("{cause:?}"),
            () = talk => {}
        }
        assert!(!exchange.down.holds_memory() && !exchange.up.holds_memory());
    }
}
