//! What happens, as it happens: server-sent events.
//!
//! Each reader has a task of its own, which makes the next part once the last was taken. A reader that takes nothing
//! holds up nobody: no part is made for it meanwhile, and it is given up like anybody who takes nothing of an answer.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use hyper::{StatusCode, body::Bytes};
use serde_json::json;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        mpsc, watch,
    },
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    Handles, Stage,
    answer::{self, Answer, Refused},
    audit,
    routes::Call,
    server::Shared,
    status,
};
use crate::mojang::health;

/// Readers at once. A few people watch, each in a page or two.
const MAX_READERS: usize = 16;
/// Places of these that only those get who showed the token: else whoever needs none could keep the owner out.
const FOR_OWNERS: usize = 4;
/// Bytes of lines after which a part is sent.
const MAX_PART: usize = 16 << 10;
/// Between two looks at the state.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How many may watch besides.
#[derive(Debug)]
pub(super) struct Readers {
    for_owners: Arc<Semaphore>,
    for_anyone: Arc<Semaphore>,
}

impl Default for Readers {
    fn default() -> Self {
        let places = |number| Arc::new(Semaphore::new(number));
        Self { for_owners: places(FOR_OWNERS), for_anyone: places(MAX_READERS - FOR_OWNERS) }
    }
}

impl Readers {
    /// A place for one more, if there is one.
    fn place(&self, is_owner: bool) -> Option<OwnedSemaphorePermit> {
        let owners = is_owner.then(|| Arc::clone(&self.for_owners).try_acquire_owned().ok()).flatten();
        owners.or_else(|| Arc::clone(&self.for_anyone).try_acquire_owned().ok())
    }
}

/// `GET /api/events`
pub(super) fn open(shared: &Arc<Shared>, call: &Call) -> Result<Answer, Refused> {
    let last = audit::last(call)?.unwrap_or_default();
    let place = shared.readers.place(call.shown).ok_or_else(|| {
        let what = if call.shown {
            "as many watch already as may; close a page that is open elsewhere"
        } else {
            "as many watch already as may without the token; enter the token, or close a page that is open elsewhere"
        };
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, what)
    })?;
    let (to, parts) = mpsc::channel(1);
    tokio::spawn(feed(Arc::clone(shared), last, to, place));
    Ok(answer::events(parts))
}

/// Tells one reader, until it leaves, the proxy stops, or callers need another token.
async fn feed(shared: Arc<Shared>, last: usize, to: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
    let barred = shared.gate.changed();
    let telling = async {
        let mut news = News::of(&shared);
        let first = news.first(&shared, last);
        let mut next = to.send(first).await;
        while next.is_ok() {
            let part = news.next(&shared).await;
            next = to.send(part).await;
        }
    };
    tokio::select! {
        () = to.closed() => {}
        () = shared.stop.requested() => {}
        () = barred => {}
        () = telling => {}
    }
}

/// What there is to tell.
struct News {
    verdict: watch::Receiver<health::Status>,
    stage: watch::Receiver<Stage>,
    lines: broadcast::Receiver<Arc<str>>,
    /// Those that were written before.
    recent: Vec<Arc<str>>,
    beat: Interval,
}

impl News {
    fn of(shared: &Shared) -> Self {
        let Handles { health, phase, audit, .. } = &*shared.handles;
        let (recent, lines) = audit.recent_and_coming();
        let mut beat = interval_at(Instant::now() + STATUS_EVERY, STATUS_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { verdict: health.subscribe(), stage: phase.subscribe(), lines, recent, beat }
    }

    /// The state, and the newest lines.
    fn first(&mut self, shared: &Shared, last: usize) -> Bytes {
        let mut part = state(shared);
        for line in audit::newest(&std::mem::take(&mut self.recent), last) {
            event(&mut part, "audit", line);
        }
        part.into()
    }

    /// What happens next. Whatever else has happened by then comes along.
    async fn next(&mut self, shared: &Shared) -> Bytes {
        tokio::select! {
            biased;
            // Those whose other end is gone say nothing more.
            Ok(()) = self.verdict.changed() => state(shared).into(),
            Ok(()) = self.stage.changed() => state(shared).into(),
            _ = self.beat.tick() => state(shared).into(),
            Some(first) = heard(&mut self.lines) => {
                let mut part = String::new();
                let mut next = Some(first);
                while let Some(line) = next {
                    match line {
                        Ok(line) => event(&mut part, "audit", &line),
                        Err(lines) => event(&mut part, "missed", &json!({ "lines": lines }).to_string()),
                    }
                    next = if part.len() < MAX_PART { at_hand(&mut self.lines) } else { None };
                }
                part.into()
            }
        }
    }
}

/// The next line, or how many were missed; `None` if there are none any more.
async fn heard(lines: &mut broadcast::Receiver<Arc<str>>) -> Option<Result<Arc<str>, u64>> {
    match lines.recv().await {
        Ok(line) => Some(Ok(line)),
        Err(RecvError::Lagged(missed)) => Some(Err(missed)),
        Err(RecvError::Closed) => None,
    }
}

/// The same, if it is there already.
fn at_hand(lines: &mut broadcast::Receiver<Arc<str>>) -> Option<Result<Arc<str>, u64>> {
    match lines.try_recv() {
        Ok(line) => Some(Ok(line)),
        Err(TryRecvError::Lagged(missed)) => Some(Err(missed)),
        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
    }
}

/// The state as an event.
fn state(shared: &Shared) -> String {
    let mut part = String::new();
    // Plain data with text keys cannot fail.
    let state = serde_json::to_string(&status::status(shared)).unwrap_or_default();
    event(&mut part, "status", &state);
    part
}

/// Adds an event. Its data are JSON in one line.
fn event(to: &mut String, name: &str, data: &str) {
    // To a string, which takes anything.
    let _ = write!(to, "event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use serde_json::Value;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::{
            TcpSocket,
            tcp::{OwnedReadHalf, OwnedWriteHalf},
        },
        time::timeout,
    };

    use super::*;
    use crate::{
        admin::{
            Stage as Phase,
            testing::{self, Stage, TOKEN},
        },
        audit::{Event, Kind},
    };

    /// One who reads.
    struct Reader {
        lines: BufReader<OwnedReadHalf>,
        /// Closed with it.
        _write: OwnedWriteHalf,
    }

    impl Reader {
        async fn new(stage: &Stage, headers: &str) -> (Self, String) {
            Self::at(stage, "/api/events", headers, None).await
        }

        /// `buffer` is how much the kernel keeps for it, in bytes.
        async fn at(stage: &Stage, path: &str, headers: &str, buffer: Option<u32>) -> (Self, String) {
            let socket = TcpSocket::new_v4().unwrap();
            if let Some(bytes) = buffer {
                socket.set_recv_buffer_size(bytes).unwrap();
            }
            let (read, mut write) = socket.connect(stage.to).await.unwrap().into_split();
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
            write.write_all(request.as_bytes()).await.unwrap();
            let mut reader = Self { lines: BufReader::new(read), _write: write };
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.lines.read_line(&mut head).await.unwrap() > 0, "{head}");
            }
            (reader, head)
        }

        /// The next event, and what it holds; `None` at the end.
        async fn next(&mut self) -> Option<(String, Value)> {
            let mut name = None;
            loop {
                let mut line = String::new();
                // The last chunk is an empty one.
                if self.lines.read_line(&mut line).await.ok()? == 0 || line == "0\r\n" {
                    return None;
                }
                // Cut off in the middle of it.
                if !line.ends_with('\n') {
                    return None;
                }
                if let Some(found) = line.strip_prefix("event: ") {
                    name = Some(found.trim_end().to_owned());
                } else if let Some(data) = line.strip_prefix("data: ") {
                    return Some((name.take().unwrap(), serde_json::from_str(data).unwrap()));
                }
            }
        }

        /// The next state for which that holds, and how long it took.
        async fn state(&mut self, fits: impl Fn(&Value) -> bool) -> (Value, Duration) {
            let began = Instant::now();
            loop {
                let (name, state) = self.next().await.unwrap();
                if name == "status" && fits(&state) {
                    return (state, began.elapsed());
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_is_told_at_once_every_two_seconds_and_when_it_changes() {
        let stage = Stage::new().await;
        let (mut reader, head) = Reader::new(&stage, "").await;
        for part in ["HTTP/1.1 200", "content-type: text/event-stream", "cache-control: no-store"] {
            assert!(head.contains(part), "{head}");
        }
        let (first, took) = reader.state(|_| true).await;
        assert_eq!((first["stage"].as_str(), took < STATUS_EVERY), (Some("starting"), true), "{first}");
        let began = Instant::now();
        for _ in 0..10 {
            reader.next().await.unwrap();
        }
        assert!(began.elapsed() <= STATUS_EVERY * 10, "{:?}", began.elapsed());
        let soon = |took: Duration| assert!(took < Duration::from_millis(100), "{took:?}");
        stage.phase.enter(Phase::Ready);
        soon(reader.state(|state| state["stage"] == "ready").await.1);
        stage.answers.store(false, Ordering::Relaxed);
        reader
            .state(|state| state["auth"]["state"] == "down" && state["outage"]["started"].is_string())
            .await;
        assert!(
            stage.order("/api/auth", r#"{"mode":"up","for_seconds":3600}"#).await.starts_with("HTTP/1.1 200")
        );
        let (forced, took) = reader.state(|state| state["auth"]["override"]["mode"] == "up").await;
        soon(took);
        assert_eq!((&forced["auth"]["state"], &forced["outage"]), (&"up".into(), &Value::Null));
        // It ends by itself, and that is told.
        let (over, took) = reader.state(|state| state["auth"]["override"].is_null()).await;
        assert_eq!(over["auth"]["state"], "down");
        let hour = Duration::from_hours(1);
        assert!(hour.abs_diff(took) < Duration::from_secs(10), "{took:?}");
        // The end of the proxy is the end of this.
        stage.phase.enter(Phase::Stopping);
        reader.state(|state| state["stage"] == "stopping").await;
        stage.stop.trigger();
        while reader.next().await.is_some() {}
        stage.server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_readers_and_no_more() {
        let stage = Stage::new().await;
        let mut readers = Vec::new();
        for _ in 0..MAX_READERS - FOR_OWNERS {
            let (reader, head) = Reader::new(&stage, "").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            readers.push(reader);
        }
        let many = stage.ask("GET /api/events", "", "").await;
        assert!(many.starts_with("HTTP/1.1 503") && many.contains("enter the token"), "{many}");
        // Whoever shows the token still finds a place.
        let own = format!("Authorization: Bearer {TOKEN}\r\n");
        let mut owners = Vec::new();
        for _ in 0..FOR_OWNERS {
            let (reader, head) = Reader::new(&stage, &own).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            owners.push(reader);
        }
        let many = stage.ask("GET /api/events", &own, "").await;
        assert!(many.starts_with("HTTP/1.1 503") && many.contains("open elsewhere"), "{many}");
        assert!(stage.ask("GET /live", "", "").await.starts_with("HTTP/1.1 200"));
        // One leaves, and its place is free.
        readers.pop();
        loop {
            let (_, head) = Reader::new(&stage, "").await;
            if head.starts_with("HTTP/1.1 200") {
                break;
            }
        }
        // Whoever asks for the head alone takes no place for longer than that.
        readers.clear();
        for _ in 0..MAX_READERS * 3 {
            let head = stage.ask("HEAD /api/events", "", "").await;
            assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        }
    }

    /// Has audit.log take that many lines.
    async fn emit(stage: &Stage, lines: usize) {
        let before = stage.audit.figures().written;
        let text = "x".repeat(200);
        for _ in 0..lines {
            let event = Event::new(Kind::AuthOverride, stage.clock.now()).field("cause", text.as_str());
            stage.audit.emit(event);
            // Without any time going by, so that nobody is given up meanwhile.
            while stage.audit.figures().queued > 100 {
                tokio::task::yield_now().await;
            }
        }
        while stage.audit.figures().written < before + lines as u64 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_told_from_the_last_ones_on() {
        let stage = Stage::new().await;
        emit(&stage, 5).await;
        let list = stage.ask("GET /api/audit?last=2", "", "").await;
        let list: Value = serde_json::from_str(list.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(list["events"].as_array().unwrap().len(), 2, "{list}");
        assert_eq!(list["events"][1]["event"], "auth.override");
        for query in ["last=201", "last=-1", "last=x", "event=x"] {
            for path in ["audit", "events"] {
                let answer = stage.ask(&format!("GET /api/{path}?{query}"), "", "").await;
                assert!(answer.starts_with("HTTP/1.1 400"), "{path}?{query}: {answer}");
            }
        }
        let (mut reader, _) = Reader::at(&stage, "/api/events?last=3", "", None).await;
        let mut lines = 0;
        assert_eq!(reader.next().await.unwrap().0, "status");
        while lines < 3 {
            let (name, event) = reader.next().await.unwrap();
            assert_eq!((name.as_str(), &event["event"]), ("audit", &"auth.override".into()));
            lines += 1;
        }
        emit(&stage, 40).await;
        while lines < 43 {
            lines += usize::from(reader.next().await.unwrap().0 == "audit");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_misses_lines_holds_up_nobody_and_is_given_up() {
        let stage = Stage::new().await;
        // What the kernel keeps for it is little, so that it is full soon.
        let (mut late, _) = Reader::at(&stage, "/api/events", "", Some(4096)).await;
        let (mut never, _) = Reader::at(&stage, "/api/events", "", Some(4096)).await;
        let (mut good, _) = Reader::new(&stage, "").await;
        let reading = tokio::spawn(async move {
            let (mut lines, mut missed) = (0, 0);
            while lines + missed < 30_000 {
                match good.next().await.unwrap() {
                    (name, _) if name == "audit" => lines += 1,
                    (name, event) if name == "missed" => missed += event["lines"].as_u64().unwrap(),
                    _ => {}
                }
            }
        });
        emit(&stage, 30_000).await;
        reading.await.unwrap();
        assert!(stage.ask("GET /live", "", "").await.starts_with("HTTP/1.1 200"));
        // It reads on, and is told how much it missed.
        let (mut lines, mut missed) = (0, 0);
        while lines + missed < 30_000 {
            match late.next().await.unwrap() {
                (name, _) if name == "audit" => lines += 1,
                (name, event) if name == "missed" => missed += event["lines"].as_u64().unwrap(),
                _ => {}
            }
        }
        assert!(missed > 10_000 && lines > 1000, "{lines} lines, {missed} missed");
        // The other is cut off once it has taken nothing for long, and its place is free.
        tokio::time::sleep(Duration::from_mins(1)).await;
        while never.next().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_with_a_token_that_counts_no_more_is_cut_off() {
        let stage = Stage::new().await;
        let own = format!("Authorization: Bearer {TOKEN}\r\n");
        let (mut reader, _) = Reader::new(&stage, &own).await;
        reader.next().await.unwrap();
        stage.gate.adopt(testing::token(stage.folder.path(), "another long random text"), &[]);
        let cut = async { while reader.next().await.is_some() {} };
        timeout(STATUS_EVERY * 2, cut).await.unwrap();
        assert!(stage.ask("GET /api/events", &own, "").await.starts_with("HTTP/1.1 401"));
    }
}
