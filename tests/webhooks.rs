//! Webhooks against a scripted receiver: what it gets, when, and what its answers do. Sockets are real; time is moved
//! by hand between messages.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use postern::{
    alert::{
        Alert, Alerts, AuthState, BanAdded, Config, Fallback, GeoChanged, Ground, Inbox, Outage, Subject,
        queue,
        webhook::{Figures, Format, Hook, Logins, Topic, Webhooks},
    },
    clock::Clock,
    place::{Country, Place},
    reason::Reason,
    statistics::{self, Statistics},
    task::{Shutdown, ShutdownTrigger},
};
use serde_json::{Value, json};
use support::{
    Mode, Player,
    logs::Logs,
    scene::{MODERN, Scene, is_in, refuse_at_once, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, advance, pause, resume, timeout},
};
use uuid::Uuid;

const START: &str = "2026-11-22T14:00:00Z";
const TOKEN: &str = "S3CR3T-T0K3N";
/// Longer than batches are collected, and than they are apart.
const SOON: Duration = Duration::from_secs(6);
const APART: Duration = Duration::from_secs(31);
const SETTLED: Duration = Duration::from_secs(61);

/// What the receiver answers.
#[derive(Clone, Debug)]
enum Reply {
    Status(&'static str),
    /// More lines of the head, and a body.
    With(&'static str, String, &'static str),
    Hang,
    Close,
}

/// One request, whole.
#[derive(Debug)]
struct Request {
    head: String,
    body: String,
    at: Instant,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A receiver that answers what it is told to, and 204 beyond.
struct Receiver {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
    path: String,
}

impl Receiver {
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replies = Arc::new(Mutex::new(VecDeque::from_iter(replies)));
        let (came, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(answer(stream, Arc::clone(&replies), came.clone()));
            }
        });
        Self { address, requests, path: format!("/api/webhooks/1/{TOKEN}") }
    }

    fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    fn hook(&self, format: Format, topics: &[Topic]) -> Hook {
        Hook { url: self.url().into(), format, topics: topics.to_vec() }
    }

    async fn next(&mut self) -> Request {
        timeout(Duration::from_secs(20), self.requests.recv()).await.unwrap().unwrap()
    }

    /// Nothing has come, and nothing is on its way.
    async fn nothing(&mut self) {
        settle().await;
        if let Ok(request) = self.requests.try_recv() {
            panic!("nothing was to come: {}", request.body);
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Reply>>>,
    came: mpsc::UnboundedSender<Request>,
) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let length: usize = length.parse().unwrap();
        while read.len() < end + length {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        let body = String::from_utf8(read[end..end + length].to_vec()).unwrap();
        read.drain(..end + length);
        let reply = script.lock().unwrap().pop_front().unwrap_or(Reply::Status("204 No Content"));
        came.send(Request { head, body, at: Instant::now() }).ok()?;
        let reply = match reply {
            Reply::Status(status) => format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"),
            Reply::With(status, head, body) => {
                format!("HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
            }
            Reply::Close => return None,
            Reply::Hang => std::future::pending().await,
        };
        let reply = reply.replace("204 No Content\r\nContent-Length: 0\r\n", "204 No Content\r\n");
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

/// Lets every task do what it can do without waiting for time; sockets included.
async fn settle() {
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

/// Time passes, all at once.
async fn jump(time: Duration) {
    settle().await;
    pause();
    advance(time).await;
    resume();
    settle().await;
}

/// What takes a few seconds, and no more.
async fn ends(task: JoinHandle<()>) {
    for _ in 0..6 {
        if !task.is_finished() {
            jump(Duration::from_secs(1)).await;
        }
    }
    timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
}

/// The hooks and what they hear of.
struct Scenery {
    clock: Clock,
    statistics: Statistics,
    webhooks: Webhooks,
    alerts: Alerts,
    /// Staff reads none of it.
    _inbox: Inbox,
    stop: ShutdownTrigger,
    run: JoinHandle<()>,
}

impl Scenery {
    async fn new(hooks: &[Hook]) -> Self {
        Self::at(START, statistics::Config { path: None }, hooks).await
    }

    async fn at(time: &str, kept: statistics::Config, hooks: &[Hook]) -> Self {
        let clock = Clock::starting_at(time.parse().unwrap());
        let statistics = Statistics::open(&kept, clock.clone()).await;
        let counted = statistics.clone();
        let tally = move |started| {
            let outage = counted.outage(started)?;
            Some(Logins { admitted: outage.admitted, refused: outage.refused })
        };
        let webhooks = Webhooks::new(clock.clone(), Arc::new(tally));
        let config = Config { staff: Vec::new(), on_fallback: true, webhooks: hooks.to_vec() };
        let (alerts, inbox) = queue(&config);
        let alerts = alerts.also_to(webhooks.clone());
        alerts.adopt(alerts.prepare(&config).unwrap());
        let (stop, stopping) = Shutdown::new();
        let run = tokio::spawn(webhooks.clone().run(stopping));
        Self { clock, statistics, webhooks, alerts, _inbox: inbox, stop, run }
    }

    fn adopt(&self, hooks: &[Hook]) {
        let config = Config { staff: Vec::new(), on_fallback: true, webhooks: hooks.to_vec() };
        self.alerts.adopt(self.alerts.prepare(&config).unwrap());
    }

    fn figures(&self) -> Figures {
        self.webhooks.figures()
    }

    async fn sent(&self, messages: u64) {
        until(|| self.figures().sent == messages).await;
    }

    async fn failed(&self, tries: u64) {
        until(|| self.figures().failed == tries).await;
    }

    async fn stop(self) {
        self.stop.trigger();
        self.run.await.unwrap();
    }

    fn state(&self, from: &'static str, to: &'static str, cause: &str, outage: Option<Outage>) {
        let cause = cause.to_owned();
        self.alerts.offer(Alert::AuthState(AuthState { from, to, cause, lasted: None, outage }));
    }

    /// The verdict is Down, in the outage that began then.
    fn down(&self, started: Timestamp) {
        self.statistics.outage_began(started);
        self.state("degraded", "down", "3 failed checks", Some(Outage::GoesOn { started }));
    }

    /// It begins now.
    fn goes_down(&self) -> Timestamp {
        let now = self.clock.now();
        self.down(now);
        now
    }

    /// The verdict is not Down any more.
    fn up(&self) {
        let now = self.clock.now();
        let outage = self.statistics.outage_ended(now);
        let outage =
            outage.map(|outage| Outage::Over { started: outage.started, ended: outage.ended.unwrap() });
        self.state("down", "up", "2 good checks in a row", outage);
    }

    fn login(&self, name: &str, outage: Option<Timestamp>) {
        self.statistics.fallback(outage);
        let (ground, outage) = (Ground::Exact(Duration::from_hours(19)), Duration::from_mins(1));
        let player = subject(name);
        self.alerts.offer(Alert::Fallback(Fallback { player, ground, pin_proven: false, outage }));
    }

    fn moved(&self, name: &str) {
        let known = vec![place("DE")];
        self.alerts.offer(Alert::GeoChanged(GeoChanged { player: subject(name), known, proof: "verified" }));
    }

    fn ban(&self, target: &str) {
        let until = "2026-11-22T14:30:00Z".parse().unwrap();
        self.alerts.offer(Alert::BanAdded(BanAdded { target: target.to_owned(), failures: 10, until }));
    }
}

fn place(country: &str) -> Place {
    Place { country: Country::parse(country), asn: Some(64_496) }
}

fn subject(name: &str) -> Subject {
    let address = "203.0.113.5".parse().unwrap();
    Subject { name: name.to_owned(), id: Uuid::from_u128(1), address, place: Some(place("FR")) }
}

#[tokio::test]
async fn an_outage_is_two_messages_however_much_happens_in_it() {
    for format in [Format::Json, Format::Discord] {
        let mut receiver = Receiver::start([]).await;
        let scenery = Scenery::new(&[receiver.hook(format, Topic::ALL)]).await;
        scenery.state("up", "degraded", "a check failed", None);
        // Let in before the verdict, on the word of a check of its own.
        scenery.login("Early", None);
        let started = scenery.goes_down();
        let began = receiver.next().await;
        assert!(began.head.starts_with(&format!("POST {} HTTP/1.1\r\n", receiver.path)), "{}", began.head);
        assert!(began.head.contains("content-type: application/json\r\n"), "{}", began.head);
        for number in 0..200 {
            scenery.login(&format!("Player{number}"), Some(started));
            if number % 4 == 0 {
                scenery.statistics.kept_out(Reason::NoSession);
            }
            if number % 50 == 0 {
                jump(Duration::from_mins(10)).await;
            }
        }
        scenery.statistics.kept_out(Reason::BadHandshake);
        scenery.up();
        jump(Duration::from_secs(59)).await;
        receiver.nothing().await;
        // On its way when the outage ended.
        scenery.login("Late", Some(started));
        jump(Duration::from_secs(2)).await;
        let ended = receiver.next().await.json();
        scenery.sent(2).await;
        if format == Format::Json {
            assert_eq!(began.json()["type"], "outage.started");
            assert_eq!(
                (&ended["admitted"], &ended["refused"], &ended["refused_by_reason"]),
                (&json!(202), &json!(50), &json!({ "no-session": 50 })),
                "{ended}"
            );
            let (names, more) = (ended["players"].as_array().unwrap(), &ended["more_players"]);
            assert_eq!(
                (names.len(), &names[0], &names[1], more),
                (20, &json!("Early"), &json!("Player0"), &json!(true))
            );
            assert!((2400..2410).contains(&ended["seconds"].as_u64().unwrap()), "{ended}");
        } else {
            let fields = &ended["embeds"][0]["fields"];
            let admitted = fields[0]["value"].as_str().unwrap();
            assert!(
                admitted.starts_with("202 logins: Early, Player0, ")
                    && admitted.ends_with("Player18 and others")
            );
            assert_eq!(fields[1]["value"], "50 logins: 50 no-session");
        }
        jump(Duration::from_hours(2)).await;
        receiver.nothing().await;
        assert_eq!(scenery.figures(), Figures { hooks: 1, sent: 2, ..Figures::default() });
        scenery.stop().await;
        receiver.nothing().await;
    }
}

#[tokio::test]
async fn one_that_comes_and_goes_is_one() {
    let mut receiver = Receiver::start([]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    let first = scenery.goes_down();
    assert_eq!(receiver.next().await.json()["started"], format!("{first:.3}"));
    let mut started = first;
    for number in 0..10 {
        // Now it is the same outage all the time, now another one.
        if number % 2 == 1 {
            started = scenery.clock.now();
        }
        scenery.down(started);
        scenery.login(&format!("Player{number}"), Some(started));
        scenery.statistics.kept_out(Reason::Locked);
        jump(Duration::from_secs(20)).await;
        if number % 3 == 0 {
            scenery.state("down", "degraded", "it answers", None);
        }
        scenery.up();
        jump(Duration::from_secs(40)).await;
    }
    receiver.nothing().await;
    jump(Duration::from_secs(30)).await;
    let ended = receiver.next().await.json();
    assert_eq!((&ended["type"], &ended["started"]), (&json!("outage.ended"), &json!(format!("{first:.3}"))));
    assert_eq!((&ended["admitted"], &ended["refused"]), (&json!(10), &json!(10)), "{ended}");

    // The same, as far as the verdict goes, but its end was told.
    scenery.down(started);
    let again = receiver.next().await.json();
    assert_eq!(again["type"], "outage.started");
    assert_ne!(again["started"], format!("{started:.3}"), "told from when on it is so again");
    scenery.login("Ann", Some(started));
    scenery.up();
    jump(SETTLED).await;
    let ended = receiver.next().await.json();
    assert_eq!((&ended["players"], &ended["started"]), (&json!(["Ann"]), &again["started"]), "{ended}");
    scenery.stop().await;
}

#[tokio::test]
async fn what_was_told_is_not_told_of_the_same_outage_again() {
    let mut receiver = Receiver::start([]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    let started = scenery.goes_down();
    receiver.next().await;
    for _ in 0..3 {
        scenery.login("Ann", Some(started));
        scenery.statistics.kept_out(Reason::Locked);
    }
    scenery.up();
    jump(SETTLED).await;
    assert_eq!(receiver.next().await.json()["admitted"], 3);
    scenery.down(started);
    receiver.next().await;
    scenery.login("Ben", Some(started));
    scenery.statistics.kept_out(Reason::PinFailed);
    scenery.up();
    jump(SETTLED).await;
    let ended = receiver.next().await.json();
    assert_eq!(
        (&ended["admitted"], &ended["refused_by_reason"], &ended["players"]),
        (&json!(1), &json!({ "pin-failed": 1 }), &json!(["Ben"]))
    );
    scenery.stop().await;
}

#[tokio::test]
async fn a_restart_in_an_outage_tells_no_second_start() {
    let mut receiver = Receiver::start([]).await;
    let hooks = [receiver.hook(Format::Json, Topic::ALL)];
    let folder = tempfile::tempdir().unwrap();
    let kept = statistics::Config { path: Some(folder.path().join("statistics.json")) };
    let started: Timestamp = START.parse().unwrap();
    for (run, time) in
        ["2026-11-22T13:59:59Z", "2026-11-22T15:00:00Z", "2026-11-22T16:00:00Z"].into_iter().enumerate()
    {
        let scenery = Scenery::at(time, kept.clone(), &hooks).await;
        let (stop, stopping) = Shutdown::new();
        let writing = tokio::spawn(scenery.statistics.clone().run(stopping));
        if run < 2 {
            scenery.down(started);
            scenery.login(&format!("Player{run}"), Some(started));
            scenery.statistics.kept_out(Reason::NoSession);
        } else {
            // It was over when this run began.
            scenery.up();
            jump(SETTLED).await;
        }
        settle().await;
        scenery.stop().await;
        stop.trigger();
        writing.await.unwrap();
    }
    let (began, ended) = (receiver.next().await.json(), receiver.next().await.json());
    assert_eq!((&began["type"], &ended["type"]), (&json!("outage.started"), &json!("outage.ended")));
    assert_eq!(
        (&ended["admitted"], &ended["refused"], &ended["started"]),
        (&json!(2), &json!(2), &json!("2026-11-22T14:00:00.000Z")),
        "{ended}"
    );
    assert!(
        (3600..3660).contains(&ended["seconds"].as_u64().unwrap()),
        "ends when it was last seen: {ended}"
    );
    receiver.nothing().await;
}

#[tokio::test]
async fn everything_else_comes_in_batches() {
    let mut receiver = Receiver::start([]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    for number in 0..60 {
        scenery.moved(&format!("Player{number}"));
    }
    for _ in 0..3 {
        scenery.ban("203.0.113.9");
    }
    receiver.nothing().await;
    jump(SOON).await;
    let first = receiver.next().await;
    let events = first.json()["events"].as_array().unwrap().clone();
    assert_eq!((events.len(), &first.json()["left_out"]), (50, &json!(13)));
    assert_eq!((&events[7]["event"], &events[7]["player"]), (&json!("geo.changed"), &json!("Player7")));
    assert!(first.json()["text"].as_str().unwrap().ends_with("and also: 10 players from elsewhere, 3 bans"));
    // One more, and it has to wait.
    for number in 0..5 {
        scenery.ban(&format!("198.51.100.{number}"));
        jump(Duration::from_secs(4)).await;
    }
    receiver.nothing().await;
    jump(SOON).await;
    let second = receiver.next().await;
    assert_eq!(second.json()["events"].as_array().unwrap().len(), 5);
    assert!(second.at - first.at >= Duration::from_secs(29), "{:?}", second.at - first.at);
    jump(Duration::from_mins(10)).await;
    receiver.nothing().await;
    scenery.stop().await;
}

#[tokio::test]
async fn each_hook_hears_what_it_asked_for() {
    let topics = [
        &[Topic::AuthState][..],
        &[Topic::LoginFallback],
        &[Topic::GeoChanged],
        &[Topic::BanAdded],
        &[Topic::AuthState, Topic::LoginFallback],
        &[],
    ];
    let mut receivers = Vec::new();
    let mut hooks = Vec::new();
    for topics in topics {
        let receiver = Receiver::start([]).await;
        hooks.push(receiver.hook(Format::Json, topics));
        receivers.push(receiver);
    }
    let scenery = Scenery::new(&hooks).await;
    let started = scenery.goes_down();
    scenery.login("Ann", Some(started));
    scenery.moved("Ben");
    scenery.ban("203.0.113.9");
    jump(SOON).await;
    scenery.up();
    jump(SETTLED).await;
    let mut told = Vec::new();
    for receiver in &mut receivers {
        settle().await;
        let mut seen = Vec::new();
        while let Ok(request) = receiver.requests.try_recv() {
            let message = request.json();
            let events: Vec<&str> = message["events"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|event| event["event"].as_str().unwrap())
                .collect();
            let players = message["players"].as_array().map(Vec::len);
            let admitted = message["admitted"].as_u64();
            seen.push(format!("{} {events:?} {admitted:?} {players:?}", message["type"].as_str().unwrap()));
        }
        told.push(seen);
    }
    let began = "outage.started [] None None";
    assert_eq!(
        told,
        [
            // Whom it was about this hook does not want to know.
            vec![began, "outage.ended [] Some(1) Some(0)"],
            vec![r#"events ["login.fallback"] None None"#],
            vec![r#"events ["geo.changed"] None None"#],
            vec![r#"events ["ban.added"] None None"#],
            vec![began, "outage.ended [] Some(1) Some(1)"],
            vec![],
        ]
    );
    scenery.stop().await;
}

#[tokio::test]
async fn a_receiver_says_for_how_long_it_wants_to_be_left_alone() {
    let limited = "429 Too Many Requests";
    for (reply, wait) in [
        (Reply::With(limited, "Retry-After: 30\r\n".to_owned(), ""), 30),
        (Reply::With(limited, "Retry-After: Sun, 22 Nov 2026 14:00:40 GMT\r\n".to_owned(), ""), 39),
        (
            Reply::With(
                limited,
                String::new(),
                r#"{"message": "slow down", "retry_after": 20.5, "global": false}"#,
            ),
            20,
        ),
        (Reply::With(limited, "Retry-After: 1\r\n".to_owned(), r#"{"retry_after": 25}"#), 25),
        (Reply::With("503 Service Unavailable", "Retry-After: 50\r\n".to_owned(), ""), 50),
        // For a day; an hour is what it gets.
        (Reply::With(limited, "Retry-After: 86400\r\n".to_owned(), ""), 3600),
    ] {
        let mut receiver = Receiver::start([reply.clone()]).await;
        let scenery = Scenery::new(&[receiver.hook(Format::Discord, Topic::ALL)]).await;
        scenery.goes_down();
        let first = receiver.next().await;
        scenery.failed(1).await;
        assert_eq!((scenery.figures().failing, scenery.figures().queued), (1, 1), "{reply:?}");
        jump(Duration::from_secs(wait - 2)).await;
        receiver.nothing().await;
        jump(Duration::from_secs(4)).await;
        let second = receiver.next().await;
        assert_eq!(first.body, second.body);
        scenery.sent(1).await;
        assert_eq!(scenery.figures(), Figures { hooks: 1, sent: 1, failed: 1, ..Figures::default() });
        scenery.stop().await;
    }
}

#[tokio::test]
async fn failures_are_tried_again_ever_more_seldom_and_told_once() {
    let (logs, _kept) = Logs::keep();
    let replies = (0..12).map(|number| match number % 3 {
        0 => Reply::Status("500 Internal Server Error"),
        1 => Reply::Close,
        _ => Reply::Status("502 Bad Gateway"),
    });
    let mut receiver = Receiver::start(replies).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    let started = scenery.goes_down();
    let mut body = None;
    for failures in 1..=12 {
        let request = receiver.next().await;
        assert_eq!(*body.get_or_insert(request.body.clone()), request.body);
        scenery.failed(failures).await;
        if failures > 5 {
            let pause = (1 << (failures - 1)).min(300);
            jump(Duration::from_secs(pause * 7 / 10)).await;
            receiver.nothing().await;
        }
        jump(Duration::from_mins(5)).await;
    }
    receiver.next().await;
    scenery.sent(1).await;
    assert_eq!(scenery.figures(), Figures { hooks: 1, sent: 1, failed: 12, ..Figures::default() });
    scenery.login("Ann", Some(started));
    scenery.up();
    jump(SETTLED).await;
    assert_eq!(receiver.next().await.json()["players"], json!(["Ann"]));
    let text = logs.text();
    assert_eq!(text.matches("a webhook takes no message").count(), 1, "{text}");
    assert!(
        text.contains("answered 500") && text.contains("hook=1") && text.contains("format=\"json\""),
        "{text}"
    );
    assert_eq!(text.matches("a webhook takes messages again").count(), 1, "{text}");
    scenery.stop().await;
    assert_hidden(&logs.text(), &receiver);
}

/// The address of a hook is in no log line, down to the finest level.
#[track_caller]
fn assert_hidden(logs: &str, receiver: &Receiver) {
    assert!(!logs.contains(TOKEN), "{logs}");
    let ours: Vec<&str> = logs
        .lines()
        .filter(|line| line.contains("postern") && line.contains(&receiver.address.to_string()))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[tokio::test]
async fn who_refuses_a_message_does_not_get_it_again() {
    for (reply, rests) in [
        (Reply::Status("400 Bad Request"), false),
        (Reply::Status("413 Content Too Large"), false),
        (Reply::Status("401 Unauthorized"), true),
        (Reply::Status("403 Forbidden"), true),
        (Reply::Status("404 Not Found"), true),
    ] {
        let (logs, kept) = Logs::keep();
        let mut receiver = Receiver::start([reply.clone(), reply.clone()]).await;
        let scenery = Scenery::new(&[receiver.hook(Format::Discord, Topic::ALL)]).await;
        for number in 0..2 {
            scenery.ban("203.0.113.9");
            jump(APART).await;
            if number == 1 && rests {
                receiver.nothing().await;
                jump(Duration::from_mins(61)).await;
            }
            receiver.next().await;
            scenery.failed(number + 1).await;
            assert_eq!((scenery.figures().dropped, scenery.figures().failing), (number + 1, 1), "{reply:?}");
        }
        jump(Duration::from_mins(61)).await;
        receiver.nothing().await;
        scenery.ban("203.0.113.10");
        jump(APART).await;
        let request = receiver.next().await;
        assert!(
            request.body.contains("203.0.113.10") && !request.body.contains("203.0.113.9 "),
            "{}",
            request.body
        );
        scenery.sent(1).await;
        assert_eq!(scenery.figures().failing, 0);
        scenery.stop().await;
        drop(kept);
        let text = logs.text();
        let told = if rests { "rests for an hour" } else { "refused a message" };
        assert_eq!(text.matches(told).count(), 1, "{text}");
        assert_hidden(&text, &receiver);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut elsewhere = Receiver::start([]).await;
    let redirect = Reply::With("307 Temporary Redirect", format!("Location: {}\r\n", elsewhere.url()), "");
    let mut receiver = Receiver::start([redirect]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    scenery.goes_down();
    receiver.next().await;
    scenery.failed(1).await;
    assert_eq!(scenery.figures().dropped, 1);
    elsewhere.nothing().await;
    scenery.stop().await;
}

#[tokio::test]
async fn one_that_never_answers_holds_up_nobody_else() {
    let (logs, _kept) = Logs::keep();
    let mut silent = Receiver::start([Reply::Hang, Reply::Hang]).await;
    let mut other = Receiver::start([]).await;
    let hooks = [silent.hook(Format::Json, Topic::ALL), other.hook(Format::Json, Topic::ALL)];
    let scenery = Scenery::new(&hooks).await;
    let started = scenery.goes_down();
    silent.next().await;
    other.next().await;
    scenery.login("Ann", Some(started));
    scenery.up();
    scenery.sent(1).await;
    jump(Duration::from_secs(11)).await;
    scenery.failed(1).await;
    jump(SETTLED).await;
    assert_eq!(other.next().await.json()["type"], "outage.ended");
    silent.next().await;
    assert_eq!((scenery.figures().failing, scenery.figures().queued), (1, 2));
    jump(Duration::from_secs(11)).await;
    scenery.failed(2).await;
    jump(Duration::from_secs(5)).await;
    // In order, once it answers.
    assert_eq!(silent.next().await.json()["type"], "outage.started");
    assert_eq!(silent.next().await.json()["type"], "outage.ended");
    scenery.sent(4).await;
    assert!(logs.text().contains("it does not answer in time"), "{}", logs.text());
    scenery.stop().await;
    assert_hidden(&logs.text(), &silent);
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    let mut receiver = Receiver::start((0..1000).map(|_| Reply::Hang)).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    // The task has no turn meanwhile. Changes of the verdict have room of their own.
    for number in 0..100_000 {
        scenery.ban(&format!("ban {number}"));
    }
    let started = scenery.goes_down();
    let figures = scenery.figures();
    assert_eq!((figures.queued, figures.dropped), (241, 99_760));
    let began = receiver.next().await;
    assert_eq!(began.json()["started"], format!("{started:.3}"));
    // The receiver is silent while outages come and go.
    for _ in 0..20 {
        scenery.up();
        jump(SETTLED).await;
        scenery.goes_down();
        settle().await;
    }
    let figures = scenery.figures();
    assert!(figures.queued <= 16 + 1 + 50, "{figures:?}");
    // The first is on its way, the newest sixteen wait.
    assert_eq!(figures.dropped, 99_760 + 41 - 17, "{figures:?}");
    let webhooks = scenery.webhooks.clone();
    ends(tokio::spawn(scenery.stop())).await;
    assert_eq!((webhooks.figures().queued, webhooks.figures().sent), (0, 0));
}

#[tokio::test]
async fn a_stop_sends_what_waits() {
    let mut receiver = Receiver::start([]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    let started = scenery.goes_down();
    receiver.next().await;
    scenery.login("Ann", Some(started));
    scenery.up();
    scenery.moved("Ben");
    settle().await;
    receiver.nothing().await;
    let webhooks = scenery.webhooks.clone();
    scenery.stop().await;
    assert_eq!(receiver.next().await.json()["players"], json!(["Ann"]));
    assert_eq!(receiver.next().await.json()["events"][0]["player"], "Ben");
    receiver.nothing().await;
    assert_eq!((webhooks.figures().sent, webhooks.figures().dropped), (3, 0));
}

#[tokio::test]
async fn a_stop_waits_for_nobody_for_long() {
    let (logs, _kept) = Logs::keep();
    let mut receiver = Receiver::start([Reply::Hang]).await;
    let scenery = Scenery::new(&[receiver.hook(Format::Json, Topic::ALL)]).await;
    scenery.goes_down();
    receiver.next().await;
    scenery.moved("Ben");
    settle().await;
    let webhooks = scenery.webhooks.clone();
    ends(tokio::spawn(scenery.stop())).await;
    assert_eq!(webhooks.figures().dropped, 2);
    assert!(
        logs.text().contains("a webhook did not take its last messages; they are lost"),
        "{}",
        logs.text()
    );
    assert_hidden(&logs.text(), &receiver);
    // Nobody is left to tell.
    webhooks.adopt(webhooks.prepare(&[receiver.hook(Format::Json, Topic::ALL)]).unwrap());
    assert_eq!(webhooks.figures().hooks, 0);
}

#[tokio::test]
async fn hooks_that_stay_keep_what_waits_for_them() {
    let mut stays = Receiver::start([Reply::Status("503 Service Unavailable")]).await;
    let mut goes = Receiver::start([]).await;
    let mut comes = Receiver::start([]).await;
    let [stay, go, come] = [&stays, &goes, &comes].map(|receiver| receiver.hook(Format::Json, Topic::ALL));
    let scenery = Scenery::new(&[go, stay.clone()]).await;
    let started = scenery.goes_down();
    stays.next().await;
    goes.next().await;
    scenery.failed(1).await;
    scenery.moved("Ben");
    settle().await;
    scenery.adopt(&[stay, come]);
    assert_eq!(scenery.figures().hooks, 2);
    // Nobody hears of it twice, but what waited is sent before the hook goes.
    assert_eq!(goes.next().await.json()["events"][0]["player"], "Ben");
    jump(Duration::from_secs(2)).await;
    assert_eq!(stays.next().await.json()["type"], "outage.started");
    jump(SOON).await;
    assert_eq!(stays.next().await.json()["events"][0]["player"], "Ben");
    scenery.login("Ann", Some(started));
    scenery.up();
    jump(SETTLED).await;
    assert_eq!(stays.next().await.json()["players"], json!(["Ann"]));
    // The new one knows of the outage, whose start was told by others.
    assert_eq!(comes.next().await.json()["players"], json!(["Ann"]));
    goes.nothing().await;
    comes.nothing().await;
    scenery.adopt(&[]);
    scenery.goes_down();
    stays.nothing().await;
    assert_eq!(scenery.figures().hooks, 0);
    scenery.stop().await;
}

#[tokio::test]
async fn no_debug_shows_an_address() {
    let receiver = Receiver::start([]).await;
    let hooks = [receiver.hook(Format::Json, Topic::ALL)];
    let scenery = Scenery::new(&hooks).await;
    let prepared =
        scenery.alerts.prepare(&Config { staff: Vec::new(), on_fallback: true, webhooks: hooks.to_vec() });
    let shown = format!("{hooks:?} {:?} {:?} {prepared:?}", scenery.webhooks, scenery.alerts);
    assert!(!shown.contains(TOKEN) && !shown.contains(&receiver.address.to_string()), "{shown}");
    scenery.stop().await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_had_is_told_without_its_address() {
    let (logs, _kept) = Logs::keep();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let urls = [
        format!("http://{closed}/{TOKEN}"),
        format!("https://{closed}/{TOKEN}"),
        format!("http://user:{TOKEN}@{closed}/"),
        format!("http://\u{7f}/{TOKEN}"),
    ];
    let hooks: Vec<Hook> = urls
        .iter()
        .map(|url| Hook { url: url.as_str().into(), format: Format::Json, topics: Topic::ALL.to_vec() })
        .collect();
    let scenery = Scenery::new(&hooks).await;
    scenery.goes_down();
    until(|| scenery.figures().failing == 4).await;
    scenery.stop().await;
    let text = logs.text();
    assert_eq!(text.matches("the connection is refused").count(), 3, "{text}");
    assert!(!text.contains(TOKEN), "{text}");
    let ours: Vec<&str> =
        text.lines().filter(|line| line.contains(" postern") && line.contains(&closed.to_string())).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

fn config(receivers: &[&Receiver]) -> String {
    let hooks: Vec<String> =
        receivers.iter().map(|receiver| format!("{{url: '{}', format: discord}}", receiver.url())).collect();
    format!("alerts:\n  webhooks: [{}]\n", hooks.join(", "))
}

#[tokio::test]
async fn the_program_tells_an_outage_in_two_messages() {
    let (logs, _kept) = Logs::keep();
    let mut receiver = Receiver::start([]).await;
    let mut scene = Scene::with("", |setup| {
        let mut setup = refuse_at_once(setup);
        setup.text += &config(&[&receiver]);
        setup
    })
    .await;
    let mut known = Vec::new();
    for name in ["Ann", "Ben_2", "Cid"] {
        known.push(scene.make_known(name).await);
    }
    scene.go_down().await;
    let began = receiver.next().await.json();
    assert_eq!(began["embeds"][0]["title"], "Outage", "{began}");
    for player in &known {
        let (client, end) = scene.join(MODERN, player).await;
        assert!(is_in(&end), "{end:?}");
        drop(client);
        scene.audit.next("login.fallback", |_| true).await;
        scene.gone().await;
    }
    for name in ["Stranger1", "Stranger2"] {
        scene.refused(&Player::new(name), "", "no-session").await;
    }
    scene.sessions.set(Mode::Up);
    scene.audit.state("up").await;
    jump(SETTLED).await;
    let ended = receiver.next().await.json();
    let fields = &ended["embeds"][0]["fields"];
    assert_eq!(fields[0]["value"], "3 logins: Ann, Ben\\_2, Cid", "{ended}");
    assert_eq!(fields[1]["value"], "2 logins: 2 no-session");
    scene.proxy.stop().await;
    receiver.nothing().await;
    assert_hidden(&logs.text(), &receiver);
    for line in scene.setup.audit().lines() {
        assert!(!line.contains(TOKEN), "{line}");
    }
}

#[tokio::test]
async fn logins_go_on_while_a_receiver_hangs() {
    let hanging = (0..1000).map(|_| Reply::Hang);
    let mut silent = Receiver::start(hanging).await;
    let mut scene = Scene::with("", |setup| {
        let mut setup = refuse_at_once(setup);
        setup.text += &config(&[&silent, &silent]);
        setup
    })
    .await;
    let player = scene.make_known("Ann").await;
    scene.go_down().await;
    silent.next().await;
    silent.next().await;
    for _ in 0..20 {
        let began = Instant::now();
        let (client, end) = scene.join(MODERN, &player).await;
        assert!(is_in(&end) && began.elapsed() < Duration::from_secs(5), "{end:?} {:?}", began.elapsed());
        drop(client);
        scene.audit.next("login.fallback", |_| true).await;
        scene.gone().await;
    }
    // The stop waits for them, but not long.
    ends(tokio::spawn(scene.proxy.stop())).await;
}
