//! The loop that takes connections, and what happens on one.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    body::{Body, Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    Handles,
    answer::{Answer, Refused},
    console::Page,
    events::Readers,
    gate::Gate,
    patient::Patient,
    readiness::Rehearsal,
    routes::{self, Call},
    status::Began,
};
use crate::task::{Shutdown, note_panic};

/// Connections at once. An owner needs a few; each may hold some 20 kB and one descriptor.
const MAX_CONNECTIONS: usize = 64;
/// How long the head of a request may take, from the end of the request before it; so also how long a connection may
/// be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// How long the content of a request may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long answers that are under way may take once the proxy stops.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// How long an answer waits while somebody guesses at the token: what guessing comes to is one guess a second on each
/// connection.
const GUESS_TIME: Duration = Duration::from_secs(1);
/// Wait after a failed accept: descriptors are short for a while, and trying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Shared {
    pub(super) gate: Arc<Gate>,
    pub(super) handles: Arc<Handles>,
    pub(super) page: Page,
    /// Those who watch.
    pub(super) readers: Readers,
    pub(super) rehearsal: Rehearsal,
    /// When this began to answer.
    pub(super) began: Began,
    pub(super) stop: Shutdown,
}

/// A connection that is open.
struct Open {
    task: AbortHandle,
    /// Whether its last request showed the token.
    trusted: Arc<AtomicBool>,
}

/// Serves until the proxy stops.
pub(super) async fn run(listener: TcpListener, gate: Arc<Gate>, handles: Handles, stop: Shutdown) {
    let shared = Arc::new(Shared {
        gate,
        page: Page::assemble(),
        readers: Readers::default(),
        rehearsal: Rehearsal::default(),
        began: Began::now(&handles.clock),
        handles: Arc::new(handles),
        stop: stop.clone(),
    });
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<Open> = VecDeque::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => break,
            Some(ended) = tasks.join_next() => {
                note_panic(&ended);
                open.retain(|connection| !connection.task.is_finished());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "the admin interface cannot take a connection; it goes on trying");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        if open.len() >= MAX_CONNECTIONS {
            // The one that has been open longest without having shown the token: else a few silent callers would keep
            // the owner out.
            let Some(place) = open.iter().position(|connection| !connection.trusted.load(Ordering::Relaxed))
            else {
                continue;
            };
            if let Some(oldest) = open.remove(place) {
                oldest.task.abort();
            }
        }
        let trusted = Arc::new(AtomicBool::new(false));
        let serving = serve(stream, peer, Arc::clone(&shared), Arc::clone(&trusted), stop.clone());
        open.push_back(Open { task: tasks.spawn(serving), trusted });
    }
    drop(listener);
    // Each ends by itself within the farewell time.
    while let Some(ended) = tasks.join_next().await {
        note_panic(&ended);
    }
}

/// One connection, to its end. Errors are the caller's own trouble.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    trusted: Arc<AtomicBool>,
    stop: Shutdown,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Without it small answers wait for nothing. If it fails, they do.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, trusted) = (Arc::clone(&shared), Arc::clone(&trusted));
        async move {
            let answer = respond(request, local, peer, &shared, &trusted).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(Answer::from))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return note_end(peer, ended),
        () = stop.requested() => connection.as_mut().graceful_shutdown(),
    }
    if let Ok(ended) = timeout(FAREWELL_TIME, connection).await {
        note_end(peer, ended);
    }
}

fn note_end(peer: SocketAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin interface ended");
    }
}

/// One request: who asks, what for, and the answer.
async fn respond(
    request: Request<Incoming>,
    local: SocketAddr,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    trusted: &AtomicBool,
) -> Result<Answer, Refused> {
    let (parts, body) = request.into_parts();
    let admitted = shared.gate.admit(&parts, local, peer);
    // Before the wait: an owner who waits gives way to no silent caller.
    trusted.store(matches!(admitted, Ok(true)), Ordering::Relaxed);
    if shared.gate.is_wary_of(&parts) {
        sleep(GUESS_TIME).await;
    }
    let shown = admitted?;
    let (route, name) = routes::find(&parts.method, parts.uri.path())?;
    shared.gate.let_through(&parts, route.access, shown)?;
    let mut call = Call { name, ..Call::default() };
    call.shown = shown;
    call.read_query(parts.uri.query());
    call.body = content(body, route.most).await?;
    (route.answer)(Arc::clone(shared), call).await
}

/// The content of a request, up to `most` bytes.
async fn content(body: Incoming, most: usize) -> Result<Bytes, Refused> {
    let too_large = || {
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format_args!("the content has more than {most} bytes"))
    };
    // What is announced is refused before any of it is read.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refused::new(StatusCode::BAD_REQUEST, "the content broke off")),
        Err(_) => {
            let what = format_args!("the content did not come within {} s", BODY_TIME.as_secs());
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, what))
        }
    }
}

/// A listener of the standard library, for the runtime that is to use it.
pub(super) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;
    use crate::admin::testing::{Stage, TOKEN};

    /// What comes until the end of the connection, and how long that took.
    async fn exchange(to: SocketAddr, sent: &str) -> (String, Duration) {
        let began = Instant::now();
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut came = String::new();
        stream.read_to_string(&mut came).await.unwrap();
        (came, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_takes_its_time() {
        let stage = Stage::new().await;
        let took = async |shown: &str| {
            let began = Instant::now();
            let answer =
                stage.ask("GET /api/players", &format!("Authorization: Bearer {shown}\r\n"), "").await;
            (answer[9..12].to_owned(), began.elapsed() >= GUESS_TIME)
        };
        assert_eq!(took(TOKEN).await, ("200".to_owned(), false));
        assert_eq!(took("x").await, ("401".to_owned(), true));
        assert_eq!(took(TOKEN).await, ("200".to_owned(), true), "else it would be told by its time");
        let began = Instant::now();
        stage.ask("GET /api/players", "", "").await;
        assert!(began.elapsed() < GUESS_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_who_waits_gives_way_to_no_silent_caller() {
        let stage = Stage::new().await;
        // From now on whoever shows a token waits.
        stage.ask("GET /api/players", "Authorization: Bearer x\r\n", "").await;
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        let crowd = async {
            // The owner's request has been read by then.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let mut silent = Vec::new();
            for _ in 0..=MAX_CONNECTIONS {
                silent.push(TcpStream::connect(stage.to).await.unwrap());
            }
            silent
        };
        let (answer, _silent) = tokio::join!(stage.ask("GET /api/players", &right, ""), crowd);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_slow_is_cut() {
        let stage = Stage::new().await;
        let to = stage.to;
        let head = format!("POST /api/sessions/lock HTTP/1.1\r\nHost: {to}\r\n");
        let own = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        for (sent, answered, time) in [
            ("", "", HEAD_TIME),
            (head.as_str(), "", HEAD_TIME),
            // Answered, and then silent.
            ("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200", HEAD_TIME),
            (&format!("{head}{own}Content-Length: 100\r\n\r\n{{"), "HTTP/1.1 408", BODY_TIME),
        ] {
            let (came, took) = exchange(to, sent).await;
            assert!(came.starts_with(answered) && (answered.is_empty() == came.is_empty()), "{sent}: {came}");
            assert!(took >= time && took < time + HEAD_TIME + Duration::from_secs(1), "{sent}: {took:?}");
        }

        // One that is being answered when the proxy stops may finish, for a moment. In real time: what is told apart here
        // is what comes over sockets, not what comes too late.
        tokio::time::resume();
        let mut idle = TcpStream::connect(to).await.unwrap();
        let mut slow = TcpStream::connect(to).await.unwrap();
        let asking = format!("{head}{own}Expect: 100-continue\r\nContent-Length: 20\r\n\r\n");
        slow.write_all(asking.as_bytes()).await.unwrap();
        let mut going_on = [0; 25];
        slow.read_exact(&mut going_on).await.unwrap();
        assert_eq!(going_on, *b"HTTP/1.1 100 Continue\r\n\r\n");
        stage.stop.trigger();
        slow.write_all(br#"{"player": "Nobody"}"#).await.unwrap();
        let mut came = String::new();
        slow.read_to_string(&mut came).await.unwrap();
        assert!(
            came.starts_with("HTTP/1.1 404") && came.contains("no session is stored for Nobody"),
            "{came}"
        );
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        stage.server.await.unwrap();
    }
}
