//! HTTP/2, which is agreed on within TLS: a stand-in that speaks it frame by frame, so that every way to end a
//! connection can be had. Which authority is trusted is read from the environment, so these tests run in a process of
//! their own.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postern::mojang::{classify::Outcome, session_server::SessionServer, verify::VerifyResult};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;

use super::{Watched, ask, server, tls};

/// Set for the process of their own.
const CHILD: &str = "POSTERN_TEST_HTTP2";

#[test]
fn http2() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["http2::child::", "--ignored"])
        .env(CHILD, "1")
        .env("SSL_CERT_FILE", tls::authority())
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("6 passed"), "{said}");
}

/// What the stand-in does about one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers 204.
    Answer,
    /// Waits until so many requests are open on this connection, then answers all.
    Gather(usize),
    /// Answers, and in the same breath says that it takes no more; closes.
    AnswerLast,
    /// Says that it takes no more, without naming a last request; then answers, names it and closes.
    Wind,
    /// Waits until so many are open, then answers the first half, names the last of them as the last that was looked
    /// at, and closes.
    Halve(usize),
    /// Refuses this request.
    Refuse,
    /// Says that this request was the last it looked at, and closes without an answer to it.
    Drop,
}

/// An HTTP/2 session server of which every frame is ours.
struct StandIn {
    server: Arc<SessionServer>,
    connections: Arc<AtomicUsize>,
}

impl StandIn {
    /// `script` sees the number of the connection and that of the request on it, from 0.
    async fn start(script: impl Fn(usize, usize) -> Act + Copy + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, acceptor) = (Arc::clone(&connections), tls::acceptor(&[b"h2", b"http/1.1"]));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    // The client may hang up at any moment.
                    Link { stream, open: Vec::new() }.serve(|request| script(number, request)).await;
                });
            }
        });
        Self { server: server(&base, Duration::from_secs(5)), connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// That many calls at once; all must be answered.
    async fn ask_at_once(&self, calls: usize) {
        let mut asking = JoinSet::new();
        for _ in 0..calls {
            let server = Arc::clone(&self.server);
            asking.spawn(async move { ask(&server).await });
        }
        while let Some(outcome) = asking.join_next().await {
            assert_eq!(outcome.unwrap(), Outcome::NotJoined);
        }
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The whole answer: `:status: 204` stands at 8 + 1 in the static table; end of headers, end of stream.
fn no_content(stream: u32) -> Vec<u8> {
    frame(HEADERS, 0x5, stream, &[0x89])
}

/// No error; requests above `last` were not looked at.
fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// One connection, and its requests that wait for an answer.
struct Link {
    stream: TlsStream<TcpStream>,
    open: Vec<u32>,
}

impl Link {
    async fn serve(mut self, act: impl Fn(usize) -> Act) -> Option<()> {
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).await.ok()?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        self.send(&frame(SETTINGS, 0, 0, &[])).await?;
        let mut requests = 0;
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], head[4] & 1) {
                (SETTINGS, 0) => self.send(&frame(SETTINGS, 1, 0, &[])).await?,
                (PING, 0) => self.send(&frame(PING, 1, 0, &payload)).await?,
                (HEADERS, _) => {
                    self.open.push(stream);
                    if self.answer(act(requests)).await? {
                        return self.close().await;
                    }
                    requests += 1;
                }
                _ => {}
            }
        }
    }

    /// Whether the connection is over.
    async fn answer(&mut self, act: Act) -> Option<bool> {
        let newest = *self.open.last()?;
        let waits = match act {
            Act::Gather(calls) | Act::Halve(calls) => self.open.len() < calls,
            _ => false,
        };
        if waits {
            return Some(false);
        }
        let open = std::mem::take(&mut self.open);
        let answers =
            |streams: &[u32]| streams.iter().flat_map(|stream| no_content(*stream)).collect::<Vec<_>>();
        let half = open.len() / 2;
        let (bytes, over) = match act {
            Act::Answer | Act::Gather(_) => (answers(&open), false),
            Act::AnswerLast => ([answers(&open), goaway(newest)].concat(), true),
            Act::Wind => ([goaway(i32::MAX as u32), answers(&open), goaway(newest)].concat(), true),
            Act::Halve(_) => ([answers(&open[..half]), goaway(open[half - 1])].concat(), true),
            Act::Refuse => (frame(RST_STREAM, 0, newest, &7_u32.to_be_bytes()), false),
            Act::Drop => (goaway(newest), true),
        };
        self.send(&bytes).await?;
        Some(over)
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()?;
        self.stream.flush().await.ok()
    }

    /// Closes, and reads until the client does too: closing over unread bytes would be a reset.
    async fn close(mut self) -> Option<()> {
        self.stream.shutdown().await.ok()?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.ok().map(|_| ())
    }
}

/// Run by [`http2`] alone.
mod child {
    use super::*;

    fn is_child() -> bool {
        std::env::var_os(CHILD).is_some()
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn calls_at_once_share_a_connection() {
        if !is_child() {
            return;
        }
        let stand_in =
            StandIn::start(|_, request| if request == 0 { Act::Answer } else { Act::Gather(100) }).await;
        assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
        stand_in.ask_at_once(100).await;
        assert_eq!(stand_in.connections(), 1);
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn a_connection_ended_while_idle_fails_nobody() {
        if !is_child() {
            return;
        }
        let stand_in = StandIn::start(|_, _| Act::AnswerLast).await;
        for _ in 0..20 {
            assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
        }
        assert!(stand_in.connections() >= 20);
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn a_connection_that_winds_down_while_busy_fails_nobody() {
        if !is_child() {
            return;
        }
        let stand_in = StandIn::start(|connection, request| match (connection, request) {
            (0, 1..20) => Act::Gather(20),
            (0, 20) => Act::Wind,
            _ => Act::Answer,
        })
        .await;
        assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
        stand_in.ask_at_once(20).await;
        stand_in.ask_at_once(5).await;
        assert!(stand_in.connections() >= 2);
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn requests_that_were_not_looked_at_are_sent_again() {
        if !is_child() {
            return;
        }
        let stand_in = StandIn::start(|connection, request| match (connection, request) {
            (0, 1..) => Act::Halve(10),
            _ => Act::Answer,
        })
        .await;
        assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
        stand_in.ask_at_once(10).await;
        assert!(stand_in.connections() >= 2);
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn a_refused_request_is_sent_again() {
        if !is_child() {
            return;
        }
        let stand_in =
            StandIn::start(|_, request| if request == 0 { Act::Refuse } else { Act::Answer }).await;
        assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own"]
    async fn a_request_dropped_half_way_is_retried_afresh() {
        if !is_child() {
            return;
        }
        let stand_in = StandIn::start(|connection, request| match (connection, request) {
            (0, 1) => Act::Drop,
            _ => Act::Answer,
        })
        .await;
        // The monitor's first probe is on a connection of its own: it must not be the one that is scripted.
        assert_eq!(ask(&stand_in.server).await, Outcome::NotJoined);
        let watched = Watched::over(Arc::clone(&stand_in.server), false, tempfile::tempdir().unwrap());
        assert_eq!(watched.verify().await, VerifyResult::NotJoined);
        assert!(!watched.health.verdict().is_down());
    }
}
