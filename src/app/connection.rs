//! The life of one connection, from accept to its end.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{
    alike::AlikeWatch,
    farewell,
    generation::Lasting,
    journal,
    pins::About,
    places,
    players::Listing,
    proxy_peers::Mismatch,
    stay::{self, StayCx},
};
use crate::{
    address,
    audit::{Event, Kind},
    backend::{self, EnterError, Fault, Player, Router, diagnose::shown},
    clock::Clock,
    config::Config,
    foreign,
    identity::Username,
    limit::gate::Passage,
    login::{
        self, Admission, Attempt, Hello, LoginCx, OnPin, PinEvent, Seat,
        refusal::Refusal,
        roster::{Line, Reads},
    },
    messages::{MessageKey, Messages},
    mojang::health::Verdict,
    net::{
        self,
        conn::{Conn, ConnError, Io},
        deadline::Deadline,
        proxy_header::{self, Source},
    },
    policy::Proof,
    protocol::{
        handshake::Intent,
        legacy_ping::{self, FirstBytes},
        text::Text,
        version::{Dialect, ProtocolVersion},
    },
    reason::Reason,
    status::{self, Answers, Moment},
};

/// How long a trusted proxy may take to say whom it speaks for.
const PROXY_HEADER_TIME: Duration = Duration::from_secs(5);
/// How long the first bytes may stand alone before they are a legacy ping, and not a frame's beginning.
const LEGACY_PING_WAIT: Duration = Duration::from_millis(500);
/// How long a displaced connection may take to go before its successor meets the backend.
const DISPLACED_TIME: Duration = Duration::from_secs(2);
/// How many unknown protocol numbers are remembered as warned of; anybody can make them up.
const MAX_WARNED: usize = 256;

/// What a connection works with for as long as it lives, made from one configuration: see [`super::generation`].
#[derive(Debug)]
pub(super) struct ConnCx {
    pub(super) login: Arc<LoginCx>,
    pub(super) stay: Arc<StayCx>,
    pub(super) router: Arc<Router>,
    pub(super) answers: Answers,
    pub(super) messages: Arc<Messages>,
    /// Whether all players seem to come from within.
    pub(super) alike: Arc<AlikeWatch>,
    /// What all of this was made from.
    pub(super) config: Arc<Config>,
    /// What outlives this configuration.
    pub(super) lasting: Arc<Lasting>,
}

/// The number of a connection, as logs and audit.log show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnId(u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c-{:x}", self.0)
    }
}

/// Who calls, as far as every event about the connection states it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) conn: ConnId,
    pub(super) address: IpAddr,
    /// When its connection was accepted.
    pub(super) accepted: Instant,
    pub(super) protocol: Option<ProtocolVersion>,
    pub(super) host: Option<String>,
}

impl Caller {
    /// An event about this connection.
    pub(super) fn event(&self, kind: Kind, clock: &Clock) -> Event {
        let mut event = Event::new(kind, clock.now()).conn(self.conn).address(self.address);
        if let Some(protocol) = self.protocol {
            event = event.protocol(protocol.0);
        }
        if let Some(host) = &self.host {
            event = event.host(host);
        }
        event
    }
}

/// Serves one connection to its end. `None` if it is one too many: then it is closed, for nothing that its client could
/// read can be said before the handshake.
pub(super) fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    cx: Arc<ConnCx>,
) -> Option<impl Future<Output = ()> + Send> {
    let address = address::unmap(peer.ip());
    // What it is one of is known once its header is read.
    let speaks_for_another = cx.config.net.accept_proxy_protocol && is_trusted(address, &cx.config.net);
    let passage = cx.lasting.gate.enter((!speaks_for_another).then_some(address)).ok()?;
    cx.lasting.metrics.logins.accepted();
    let conn = ConnId(cx.lasting.serial.fetch_add(1, Ordering::Relaxed));
    let deadline = Deadline::new(login::LOGIN_TIME, login::LOGIN_TIME_LIMIT);
    Some(async move {
        let login = tokio::select! {
            biased;
            login = greet(stream, (conn, address), &passage, &deadline, &cx) => login,
            // Nothing it could read then would tell it more than that.
            _ = passage.asked_to_leave() => None,
        };
        // Apart: a ping needs no room for a login.
        if let Some(Login { conn, hello, caller }) = login {
            Box::pin(log_in(conn, hello, caller, passage, &deadline, &cx)).await;
        }
    })
}

fn is_trusted(address: IpAddr, config: &net::Config) -> bool {
    config.trusted_proxies.iter().any(|proxies| proxies.contains(&address))
}

/// A connection whose handshake says that it wants to log in.
struct Login {
    conn: Conn<TcpStream>,
    hello: Hello,
    caller: Caller,
}

/// Finds out who calls and what for, and serves all but logins.
async fn greet(
    stream: TcpStream,
    (conn, address): (ConnId, IpAddr),
    passage: &Passage,
    deadline: &Deadline,
    cx: &ConnCx,
) -> Option<Login> {
    let mut caller = Caller { conn, address, accepted: Instant::now(), protocol: None, host: None };
    let mut conn = Conn::new(stream);
    let begun = async {
        let source = read_source(&mut conn, &mut caller, passage, cx).await?;
        if let Some(legacy) = read_legacy(&mut conn).await? {
            return Ok(Begun::Legacy(legacy));
        }
        refuse_header(&mut conn, &caller, source, cx).await?;
        Ok(Begun::Hello(source, Hello::read(&mut conn).await?))
    };
    let begun: Result<Begun, Refusal> = tokio::select! {
        begun = begun => begun,
        () = deadline.passed() => Err(Refusal::new(Reason::ClientTimeout)),
        () = cx.lasting.shutdown.requested() => return None,
    };
    match begun {
        Ok(Begun::Legacy(FirstBytes::Login)) => {
            let refusal = Refusal::new(Reason::NewerVersionNeeded).fact("cause", "a game from before 1.7");
            journal::refused(cx, &caller, &refusal, None);
            let text = Text::parse(cx.messages.text(refusal.message), &[]);
            let kick = legacy_ping::kick(&text.to_section_codes());
            farewell::say_raw(&mut conn, &kick).await;
        }
        Ok(Begun::Legacy(FirstBytes::Ping(ping) | FirstBytes::Maybe(ping))) => {
            let answer = cx.answers.legacy_answer(ping, cx.moment()).await;
            farewell::say_raw(&mut conn, &answer).await;
        }
        Ok(Begun::Legacy(FirstBytes::Framed)) => {}
        Ok(Begun::Hello(source, hello)) => {
            cx.lasting.metrics.logins.shook_hands(caller.accepted.elapsed());
            caller.protocol = Some(hello.handshake.version);
            caller.host = Some(foreign::clean(hello.handshake.host.name()));
            warn_if_unknown(&hello.dialect, cx);
            match (hello.handshake.intent, source) {
                (Intent::Status, _) => {
                    let (handshake, dialect) = (&hello.handshake, &hello.dialect);
                    tokio::select! {
                        () = status::serve(&mut conn, handshake, dialect, &cx.answers, cx.moment()) => {}
                        () = cx.lasting.shutdown.requested() => {}
                    }
                }
                (Intent::Login | Intent::Transfer, Some(Source::Unstated)) => {
                    let refusal = Refusal::new(Reason::BadHandshake)
                        .fact("cause", "the proxy in front did not say whom it speaks for");
                    let dialect = hello.dialect;
                    refuse(&mut conn, (&dialect, Reads::Login), &caller, &refusal, cx).await;
                }
                (Intent::Login | Intent::Transfer, _) => return Some(Login { conn, hello, caller }),
            }
        }
        Err(refusal) => {
            // No handshake, no dialect: there is nothing the peer could read. A peer that connects and leaves (a
            // port check) is no attempt, nor is one too many, of which the gate tells.
            if !refusal.is_gone() && refusal.reason != Reason::TooManyConnections {
                journal::refused(cx, &caller, &refusal, None);
            }
            conn.close().await;
        }
    }
    None
}

/// What a connection begins with.
enum Begun {
    Legacy(FirstBytes),
    Hello(Option<Source>, Hello),
}

/// Reads the PROXY header that a trusted peer must send. `None` if the peer is not one.
async fn read_source<S: Io>(
    conn: &mut Conn<S>,
    caller: &mut Caller,
    passage: &Passage,
    cx: &ConnCx,
) -> Result<Option<Source>, Refusal> {
    if !cx.config.net.accept_proxy_protocol || !is_trusted(caller.address, &cx.config.net) {
        return Ok(None);
    }
    let source = match timeout(PROXY_HEADER_TIME, proxy_header::read(conn)).await {
        Ok(Ok(source)) => source,
        Ok(Err(error)) => {
            // Who connects and leaves, in whatever way (a port check), said nothing at all.
            if !conn.peek().is_empty() {
                cx.lasting.proxy_peers.note(caller.address, Mismatch::Missing);
            }
            return Err(Refusal::from(error).fact("stage", "PROXY header"));
        }
        Err(_) => {
            cx.lasting.proxy_peers.note(caller.address, Mismatch::Missing);
            return Err(Refusal::new(Reason::ClientTimeout).fact("stage", "PROXY header"));
        }
    };
    if let Source::Client(client) = source {
        caller.address = address::unmap(client.ip());
        passage.place(caller.address).map_err(|_| Refusal::new(Reason::TooManyConnections))?;
    }
    Ok(Some(source))
}

/// Refuses a PROXY header where none may stand: from a peer that is not trusted, or behind another one. What it says is
/// not looked at.
async fn refuse_header<S: Io>(
    conn: &mut Conn<S>,
    caller: &Caller,
    source: Option<Source>,
    cx: &ConnCx,
) -> Result<(), Refusal> {
    let header = loop {
        match proxy_header::begins(conn.peek()) {
            Some(header) => break header,
            None if conn.fill().await? == 0 => break false,
            None => {}
        }
    };
    if !header {
        return Ok(());
    }
    let cause = if source.is_none() {
        cx.lasting.proxy_peers.note(caller.address, Mismatch::Unexpected);
        "a PROXY header from a peer that is not trusted to send one"
    } else {
        "a second PROXY header"
    };
    Err(Refusal::new(Reason::BadHandshake).fact("stage", "PROXY header").fact("cause", cause))
}

/// Looks for a ping or login of before 1.7. `None` if frames follow.
async fn read_legacy<S: Io>(conn: &mut Conn<S>) -> Result<Option<FirstBytes>, Refusal> {
    while conn.peek().is_empty() {
        if conn.fill().await? == 0 {
            return Err(ConnError::Closed.into());
        }
    }
    loop {
        match legacy_ping::classify(conn.peek()) {
            FirstBytes::Framed => return Ok(None),
            found @ (FirstBytes::Ping(_) | FirstBytes::Login) => return Ok(Some(found)),
            found @ FirstBytes::Maybe(_) => match timeout(LEGACY_PING_WAIT, conn.fill()).await {
                Ok(Ok(0)) | Err(_) => return Ok(Some(found)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
            },
        }
    }
}

/// A login, and the stay that follows it.
async fn log_in(
    mut conn: Conn<TcpStream>,
    hello: Hello,
    caller: Caller,
    passage: Passage,
    deadline: &Deadline,
    cx: &ConnCx,
) {
    let dialect = hello.dialect;
    if let Err(refusal) = begin(&passage, &caller, cx) {
        return refuse_in_passing(&mut conn, (&dialect, Reads::Login), &caller, &refusal, &passage, cx).await;
    }
    let route_key = hello.handshake.host.route_key();
    let route = login::Route {
        too_old: cx.router.needs_newer_client(&route_key, &dialect),
        own_ids: cx.router.makes_own_ids(&route_key),
        threshold: cx.router.last_threshold(&route_key, cx.login.config.compression_threshold),
    };
    let line = Arc::new(Line::default());
    let listing: Mutex<Option<Box<Listing>>> = Mutex::new(None);
    let on_pin = |id, name: &Username, event| {
        let claimed_id = line.who.get().and_then(|who| who.claimed_id);
        let held = |prompted: &Caller| {
            let (caller, name) = (prompted.clone(), name.clone());
            let about = Arc::new(About { caller, name, id, claimed_id, backend: None });
            cx.stay.players.enter(about, Proof::Held, Arc::clone(&line), cx.login.clock.now())
        };
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        match (event, &mut *listing) {
            (PinEvent::Prompted, listing) => *listing = Some(Box::new(held(&caller))),
            // On its way to a backend, and within the owner's reach all the while.
            (PinEvent::Verified, Some(listing)) => listing.set_proof(Proof::Pinned, cx.login.clock.now()),
            (PinEvent::Verified, None) | (PinEvent::Failed { .. }, _) => {}
        }
        drop(listing);
        let guest = journal::Guest { name, id, claimed_id, backend: None };
        journal::pin_at_dialog(cx, &caller, &guest, event);
    };
    let attempt = Attempt { address: caller.address, line: &line, deadline, route, on_pin: OnPin(&on_pin) };
    let entering = async {
        let mut admission = login::drive(&mut conn, hello, &cx.login, &attempt).await?;
        if let Seat::Place(_) = admission.seat {
            passage.proven();
        }
        if let Some(leaving) = admission.leaving.take() {
            leaving.gone(DISPLACED_TIME).await;
        }
        let handshake = &admission.named.hello.handshake;
        let key = admission.player_key.as_ref();
        let player = Player { admitted: &admission.admitted, handshake, dialect: &dialect, key };
        let begun = admission.begun.as_deref_mut();
        match backend::enter(&mut conn, &player, begun, &cx.router, deadline).await {
            Ok(entered) => Ok((admission, entered)),
            Err(error) => Err(Failed::Backend(Box::new(admission), error)),
        }
    };
    let must_leave = async {
        let full = passage.asked_to_leave().await;
        if line.seated.get().is_some() {
            // Admitted meanwhile, and never closed to make room.
            std::future::pending::<()>().await;
        }
        // Whatever is cut by this sees that it did nothing wrong.
        line.close(Reason::TooManyConnections);
        full
    };
    let cut_short = |reason| login::cut_short(reason, &line, &cx.login, caller.address);
    let entered = tokio::select! {
        // Whoever ran out of time knows best whose fault it was; the deadline here is for those who do not look.
        biased;
        entered = entering => entered,
        () = deadline.passed() => Err(cut_short(Reason::ClientTimeout).into()),
        reason = line.closing() => Err(cut_short(reason).into()),
        full = must_leave => Err(cut_short(Reason::TooManyConnections).fact("limit", full.key()).into()),
    };
    if let Some(player) = line.who.get().and_then(|who| who.name.as_deref()) {
        cx.alike.saw(caller.address, player);
    }
    // Whoever is refused is listed no more while it reads why.
    let mut listing = listing.into_inner().unwrap_or_else(PoisonError::into_inner);
    if entered.is_err() {
        listing = None;
    }
    match entered {
        Ok((admission, entered)) => {
            line.set_judged(None);
            // Of one who is held it is told once the PIN was right.
            if let Seat::Place(_) = admission.seat {
                journal::joined(cx, &caller, &admission, &entered);
                places::note(&admission, &caller, cx);
            }
            stay::begin(conn, admission, entered, caller, (line, listing), passage, cx);
        }
        Err(Failed::Login(refusal)) => {
            // Whoever was asked to leave may do this as well: hardly anybody is held, and it does not take long.
            if !refusal.is_gone() {
                Box::pin(farewell::clear_dialog(&mut conn, &dialect, &line)).await;
            }
            refuse_in_passing(&mut conn, (&dialect, line.reads()), &caller, &refusal, &passage, cx).await;
        }
        Err(Failed::Backend(admission, error)) => {
            if let Seat::Place(_) = admission.seat {
                places::note(&admission, &caller, cx);
            }
            turn_away(&mut conn, (&dialect, line.reads()), &caller, *admission, error, cx).await;
        }
    }
}

/// Whether one more login may begin, from there and at all. Before any work is done for it.
fn begin(passage: &Passage, caller: &Caller, cx: &ConnCx) -> Result<(), Refusal> {
    if !cx.lasting.rates.take(caller.address, || cx.login.store.sessions_from(caller.address)) {
        cx.login.health.note_limit_hit();
        return Err(Refusal::new(Reason::RateLimited).fact("limit", "login-ratelimit"));
    }
    passage.begin_login().map_err(|full| Refusal::new(Reason::TooManyConnections).fact("limit", full.key()))
}

/// A login that did not lead to a backend.
enum Failed {
    Login(Refusal),
    Backend(Box<Admission>, EnterError),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Login(refusal)
    }
}

/// The backend did not take an admitted player: says why to the operator and to the player.
async fn turn_away<S: Io>(
    conn: &mut Conn<S>,
    (dialect, reads): (&Dialect, Reads),
    caller: &Caller,
    admission: Admission,
    error: EnterError,
    cx: &ConnCx,
) {
    cx.router.note_failure(&error);
    let profile = admission.admitted.profile();
    let mut refusal = Refusal::new(error.reason())
        .named(&profile.name, admission.named.claimed_id)
        .fact("proof", admission.admitted.proof().label());
    refusal.who.id = Some(profile.id);
    let mut at_backend = None;
    match &error {
        EnterError::Backend { backend, fault, passed_over } => {
            journal::passed_over(cx, caller, passed_over);
            // What a backend says to a player of its own is nothing to mend.
            if !matches!(fault, Fault::Refused { .. }) {
                journal::backend_failed(cx, caller, backend, fault);
            }
            let cause = match fault {
                Fault::Refused { words } => shown(words),
                _ => foreign::clean(&fault.cause()),
            };
            refusal = refusal.fact("fault", fault.label()).fact("cause", cause);
            at_backend = Some(backend.name.as_str());
        }
        EnterError::NoBackend | EnterError::Client(_) | EnterError::DeadlinePassed => {
            refusal = refusal.fact("cause", error.to_string());
        }
    }
    journal::refused(cx, caller, &refusal, at_backend);
    let reason = error.reason();
    let text = cx.text(reason.message(), profile.name.as_str(), reason);
    let packet = error.disconnect(dialect, reads != Reads::Login, &text);
    // The place is free for the player's next try while this one reads its text.
    drop(admission);
    farewell::say(conn, packet).await;
}

/// Tells the client why it may not come in, and closes.
async fn refuse<S: Io>(
    conn: &mut Conn<S>,
    client: (&Dialect, Reads),
    caller: &Caller,
    refusal: &Refusal,
    cx: &ConnCx,
) {
    journal::refused(cx, caller, refusal, None);
    let player = foreign::clean_to(refusal.who.name.as_deref().unwrap_or_default(), Username::MAX_LEN);
    let text = match &refusal.words {
        Some(words) => Text::parse(words, &[]),
        None => cx.text(refusal.message, &player, refusal.reason),
    };
    let (dialect, reads) = client;
    let packet = farewell::disconnect(dialect, reads, &text).filter(|_| !refusal.is_gone());
    farewell::say(conn, packet).await;
}

/// The same, but the client is not waited for if its place is wanted.
async fn refuse_in_passing<S: Io>(
    conn: &mut Conn<S>,
    client: (&Dialect, Reads),
    caller: &Caller,
    refusal: &Refusal,
    passage: &Passage,
    cx: &ConnCx,
) {
    tokio::select! {
        // In this order: what fits into the socket's buffer is said in any case.
        biased;
        () = refuse(conn, client, caller, refusal, cx) => {}
        _ = passage.asked_to_leave() => {}
    }
}

/// Newer releases are served like the newest one known; that may fail, so the owner hears of it, once a number.
fn warn_if_unknown(dialect: &Dialect, cx: &ConnCx) {
    let version = dialect.version();
    if dialect.is_known() {
        return;
    }
    let mut warned = cx.lasting.unknown_versions.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() < MAX_WARNED && warned.insert(version) {
        drop(warned);
        warn!(
            protocol = version.0,
            treated_as = dialect.release().0,
            "a client speaks a protocol this version of Postern does not know; if such clients cannot join, update Postern"
        );
    } else {
        debug!(protocol = version.0, "unknown protocol");
    }
}

impl ConnCx {
    /// What server list answers depend on.
    fn moment(&self) -> Moment {
        let outage = matches!(self.login.health.status().verdict, Verdict::Down { .. });
        Moment { outage, online: u32::try_from(self.login.roster.len()).unwrap_or(u32::MAX) }
    }

    fn text(&self, key: MessageKey, player: &str, reason: Reason) -> Text {
        text(&self.messages, key, player, reason)
    }
}

/// A text as the owner worded it.
pub(super) fn text(messages: &Messages, key: MessageKey, player: &str, reason: Reason) -> Text {
    Text::parse(messages.text(key), &[("player", player), ("reason", reason.code())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_serve<A, B, C, F>(_: impl Fn(A, B, C) -> Option<F>) -> usize {
        size_of::<F>()
    }

    fn of_log_in<'a, F: 'a>(
        _: impl Fn(Conn<TcpStream>, Hello, Caller, Passage, &'a Deadline, &'a ConnCx) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn connections_take_as_much_memory_as_they_have_got_far() {
        let (asking, logging_in) = (of_serve(serve), of_log_in(log_in));
        assert!(asking <= 1700, "{asking} bytes until it is known what the client wants");
        assert!(logging_in <= 6300, "{logging_in} bytes more for a login");
    }
}
