use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::advance,
};

use super::*;
use crate::task::ShutdownTrigger;

/// Made by Node's OpenSSL; see tests/wire/README.md.
fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/wire/player_keys.json")).unwrap()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap()
}

fn bytes(entry: &Value, field: &str) -> Vec<u8> {
    let hex = text(entry, field);
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The published keys in the shape of the service's answer.
fn answer(entries: &[&Value]) -> Vec<u8> {
    let keys: Vec<_> = entries.iter().map(|entry| serde_json::json!({"publicKey": entry["key"]})).collect();
    let answer = serde_json::json!({"profilePropertyKeys": [7], "playerCertificateKeys": keys, "new": {}});
    answer.to_string().into_bytes()
}

fn clock_at(milliseconds: i64) -> Clock {
    let now = Timestamp::from_millisecond(milliseconds).unwrap();
    Clock::starting_at(now)
}

fn unfetched(clock: Clock) -> PlayerKeys {
    let config = Config { services: "http://127.0.0.1:1".parse().unwrap(), timeout: Duration::from_secs(5) };
    PlayerKeys::new(&config, clock).unwrap()
}

/// As if the fixture's keys had been fetched.
fn fetched(clock: Clock) -> PlayerKeys {
    let (keys, fixture) = (unfetched(clock), fixture());
    let published: Vec<_> = fixture["published"].as_array().unwrap().iter().collect();
    keys.state().mojang = read_keys(&answer(&published)).unwrap();
    keys
}

fn profile_key(entry: &Value) -> ProfileKey {
    ProfileKey {
        expires: text(entry, "expires").parse().unwrap(),
        key: bytes(entry, "key"),
        signature: bytes(entry, "signature"),
    }
}

fn claim(entry: &Value) -> Claim {
    match text(entry, "form") {
        "held" => Claim::Held(HeldKey(Box::new(profile_key(entry)))),
        "belongs-to" => Claim::BelongsTo(Box::new(profile_key(entry)), text(entry, "id").parse().unwrap()),
        other => panic!("{other}"),
    }
}

/// A good key of that form.
fn good(form: &str) -> Value {
    let fixture = fixture();
    let fits = |entry: &&Value| entry["case"] == "good" && entry["form"] == form;
    fixture["keys"].as_array().unwrap().iter().find(fits).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn only_mojangs_word_about_this_very_player_is_proof() {
    let keys = fetched(clock_at(1_699_999_999_999));
    let mut outcomes = std::collections::BTreeMap::new();
    for entry in fixture()["keys"].as_array().unwrap() {
        let name = format!("{} {}", entry["form"], entry["case"]);
        let found = keys.prove(claim(entry)).await;
        assert_eq!(
            found.as_ref().map_or_else(|doubt| doubt.label(), |_| "proven"),
            entry["outcome"],
            "{name}"
        );
        *outcomes.entry(text(entry, "outcome").to_owned()).or_insert(0) += 1;
        if let Ok(proven) = found {
            assert_eq!(*proven.key(), profile_key(entry), "{name}");
            let owner = (entry["form"] == "belongs-to").then(|| text(entry, "id").parse().unwrap());
            assert_eq!(proven.owner(), owner, "{name}");
        }
    }
    let count = |outcome| outcomes.get(outcome).copied().unwrap_or_default();
    assert_eq!([count("proven"), count("bad-signature"), count("bad-key")], [4, 28, 16]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_proven_until_it_expires() {
    for form in ["held", "belongs-to"] {
        let good = good(form);
        let expires = profile_key(&good).expires;
        let keys = fetched(clock_at(expires - 1));
        assert!(keys.prove(claim(&good)).await.is_ok());
        advance(Duration::from_millis(1)).await;
        assert_eq!(keys.prove(claim(&good)).await, Err(KeyDoubt::Expired));
        let other = ProfileKey { expires: i64::MIN, ..profile_key(&good) };
        assert_eq!(keys.prove(Claim::BelongsTo(Box::new(other), Uuid::nil())).await, Err(KeyDoubt::Expired));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_proven_without_mojangs_keys() {
    let good = good("held");
    let keys = unfetched(clock_at(0));
    assert_eq!(keys.prove(claim(&good)).await, Err(KeyDoubt::NoMojangKeys));
}

#[tokio::test(start_paused = true)]
async fn keys_are_checked_a_few_at_a_time() {
    let keys = fetched(clock_at(0));
    let cores = keys.0.at_work.available_permits();
    let all = u32::try_from(cores).unwrap();
    let busy = Arc::clone(&keys.0.at_work).acquire_many_owned(all).await.unwrap();
    let good = good("held");
    let mut proving = Box::pin(keys.prove(claim(&good)));
    tokio::select! {
        biased;
        _ = &mut proving => panic!("did not wait its turn"),
        () = tokio::task::yield_now() => {}
    }
    drop(busy);
    assert!(proving.await.is_ok());
    assert_eq!(keys.0.at_work.available_permits(), cores);
}

#[test]
fn published_keys_that_cannot_be_used_are_left_out() {
    let fixture = fixture();
    let published = fixture["published"].as_array().unwrap();
    for entry in published {
        let found = read_keys(&answer(&[entry]));
        let expected = if entry["usable"] == true { Ok(1) } else { Err(FetchError::NoKey) };
        assert_eq!(found.map(|keys| keys.len()), expected, "{}", entry["case"]);
    }
    assert_eq!(read_keys(&answer(&published.iter().collect::<Vec<_>>())).unwrap().len(), 2);
    let good = &published[0];
    assert_eq!(read_keys(&answer(&[good; 40])).unwrap().len(), MAX_KEYS);
}

#[test]
fn answers_that_are_no_list_of_keys() {
    for (body, expected) in [
        ("", FetchError::NotKeys),
        ("<html>", FetchError::NotKeys),
        ("[]", FetchError::NotKeys),
        ("{}", FetchError::NotKeys),
        (r#"{"playerCertificateKeys": null}"#, FetchError::NotKeys),
        (r#"{"profilePropertyKeys": [], "playerCertificateKeys": []}"#, FetchError::NoKey),
        (
            r#"{"playerCertificateKeys": [1, null, {}, {"publicKey": 7}, {"publicKey": "AA=="}]}"#,
            FetchError::NoKey,
        ),
    ] {
        assert_eq!(read_keys(body.as_bytes()), Err(expected), "{body}");
    }
}

/// A service that answers one call with these bytes. Returns what it was asked.
async fn fetch_from(head: &str, body: &[u8]) -> (Result<(), FetchError>, PlayerKeys, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let services = format!("http://{}/some/path", listener.local_addr().unwrap()).parse().unwrap();
    let config = Config { services, timeout: Duration::from_secs(20) };
    let keys = PlayerKeys::new(&config, Clock::system()).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let answer = [head.as_bytes(), b"\r\n\r\n", body].concat();
        // A client that has read enough closes.
        let _ = stream.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    };
    let (outcome, request) = tokio::join!(keys.fetch(), serve);
    (outcome, keys, request)
}

#[tokio::test]
async fn a_fetch_asks_for_the_public_keys_and_believes_nothing_else() {
    let fixture = fixture();
    let body = answer(&[&fixture["published"][0]]);
    let (outcome, keys, request) = fetch_from("HTTP/1.1 200 OK", &body).await;
    assert_eq!((outcome, keys.mojang().len()), (Ok(()), 1));
    assert!(request.starts_with("GET /some/path/publickeys HTTP/1.1\r\n"), "{request}");
    // The body is whole, and it would be believed: it is the status that matters.
    for status in [204, 301, 302, 307, 403, 404, 429, 500, 503] {
        let head = format!("HTTP/1.1 {status} No\r\nLocation: /\r\nContent-Length: {}", body.len());
        let (outcome, keys, _) = fetch_from(&head, &body).await;
        assert_eq!((outcome, keys.mojang().len()), (Err(FetchError::Status(status)), 0), "{status}");
    }
    // A length that lies, and one that is true.
    for head in ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000"] {
        let (outcome, _, _) = fetch_from(head, &vec![b' '; 65 << 10]).await;
        assert_eq!(outcome.unwrap_err().to_string(), "status 200 with more than 64 KiB", "{head}");
    }
    let (outcome, _, _) = fetch_from("HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000", &body).await;
    assert_eq!(outcome.unwrap_err().to_string(), "the answer was cut off");
}

#[tokio::test]
async fn a_failed_fetch_leaves_the_keys_known_before() {
    let (outcome, keys, _) = fetch_from("HTTP/1.1 200 OK", br#"{"playerCertificateKeys": []}"#).await;
    assert_eq!((outcome, keys.mojang().len()), (Err(FetchError::NoKey), 0));
    // Its service is gone by now.
    keys.state().mojang = fetched(Clock::system()).mojang();
    let error = keys.fetch().await.unwrap_err();
    assert_eq!((error.to_string().as_str(), keys.mojang().len()), ("connection refused", 2));
}

#[test]
fn debug_shows_where_from_and_no_more() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let shown = format!("{:?}", unfetched(Clock::system()));
    assert_eq!(shown, r#"PlayerKeys { url: "http://127.0.0.1:1/publickeys", .. }"#);
}

/// The endless round over a service that is told what to answer, in paused time.
struct Round {
    began: Instant,
    verdict: watch::Sender<Status>,
    /// When it asked, in seconds since the beginning.
    asked: Rc<RefCell<Vec<u64>>>,
    succeeds: Rc<Cell<bool>>,
}

impl Round {
    fn new() -> (Self, impl Future<Output = ()>) {
        let status = Status {
            verdict: Verdict::Degraded,
            since: Timestamp::UNIX_EPOCH,
            forced: None,
            outage_started: None,
            last_probe: None,
            last_answer: None,
        };
        let (verdict, receiver) = watch::channel(status);
        let round = Self { began: Instant::now(), verdict, asked: Rc::default(), succeeds: Rc::default() };
        let (asked, succeeds, began) = (Rc::clone(&round.asked), Rc::clone(&round.succeeds), round.began);
        let fetch = move || {
            asked.borrow_mut().push(began.elapsed().as_secs());
            let outcome = if succeeds.get() { Ok(()) } else { Err(FetchError::NoKey) };
            async move { outcome }
        };
        (round, keep_fresh(receiver, fetch))
    }

    fn set(&self, verdict: Verdict) {
        self.verdict.send_modify(|status| status.verdict = verdict);
    }

    async fn sleep(&self, minutes: u64) {
        tokio::time::sleep(Duration::from_mins(minutes)).await;
    }

    /// What it asked since the last look, in minutes from the beginning.
    fn asked(&self) -> Vec<u64> {
        self.asked.take().into_iter().map(|seconds| seconds / 60).collect()
    }
}

/// Runs the round beside what is done to it.
async fn beside(round: impl Future<Output = ()>, script: impl Future<Output = ()>) {
    tokio::select! {
        () = script => {}
        () = round => panic!("the round ended"),
    }
}

const DOWN: Verdict = Verdict::Down { outage_started: Timestamp::UNIX_EPOCH };

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_once_it_is_known_to_be_up_and_once_a_day() {
    let (told, round) = Round::new();
    told.succeeds.set(true);
    let script = async {
        told.sleep(60).await;
        told.set(DOWN);
        told.sleep(60).await;
        assert_eq!(told.asked(), [0; 0]);
        told.set(Verdict::Up);
        told.sleep(2 * 24 * 60 + 1).await;
        assert_eq!(told.asked(), [120, 120 + 24 * 60, 120 + 48 * 60]);
        // A verdict that flickers causes nothing while the keys are fresh.
        for verdict in [Verdict::Degraded, Verdict::Up, DOWN, Verdict::Up] {
            told.set(verdict);
            told.sleep(1).await;
        }
        assert_eq!(told.asked(), [0; 0]);
        // Not during an outage, however old they are; at once after it.
        told.set(DOWN);
        told.sleep(3 * 24 * 60).await;
        assert_eq!(told.asked(), [0; 0]);
        told.set(Verdict::Up);
        told.sleep(1).await;
        assert_eq!(told.asked().len(), 1);
    };
    beside(round, script).await;
}

#[tokio::test(start_paused = true)]
async fn failures_make_it_patient_until_it_is_up_anew() {
    let (told, round) = Round::new();
    told.set(Verdict::Up);
    let script = async {
        told.sleep(11 * 24 * 60).await;
        // 5 minutes, doubled up to a day.
        let mut expected = vec![0, 5, 15, 35, 75, 155, 315, 635, 1275, 2555];
        while expected.last().unwrap() + 1440 <= 11 * 24 * 60 {
            expected.push(expected.last().unwrap() + 1440);
        }
        assert_eq!(told.asked(), expected);
        // Up anew: at once, as long after the last one as that may be.
        let before = told.began.elapsed().as_secs() / 60;
        told.set(Verdict::Degraded);
        told.sleep(3).await;
        assert_eq!(told.asked(), [0; 0]);
        told.set(Verdict::Up);
        told.sleep(1).await;
        assert_eq!(told.asked(), [before + 3]);
        // A verdict that flickers is no flood.
        for _ in 0..60 {
            told.set(DOWN);
            tokio::time::sleep(Duration::from_millis(500)).await;
            told.set(Verdict::Up);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!((5..=7).contains(&told.asked().len()));
        // Success makes it forget.
        told.succeeds.set(true);
        told.sleep(2 * 24 * 60).await;
        told.asked();
        told.succeeds.set(false);
        told.sleep(24 * 60).await;
        let asked = told.asked();
        assert_eq!(asked[1] - asked[0], 5);
    };
    beside(round, script).await;
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_program_and_with_the_monitor() {
    async fn refreshing(verdict: watch::Receiver<Status>) -> (ShutdownTrigger, tokio::task::JoinHandle<()>) {
        let (trigger, stop) = Shutdown::new();
        let keys = unfetched(Clock::system());
        let task = tokio::spawn(keys.refresh(verdict, stop));
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        (trigger, task)
    }
    let (told, _) = Round::new();
    let (trigger, task) = refreshing(told.verdict.subscribe()).await;
    trigger.trigger();
    task.await.unwrap();
    let (_trigger, task) = refreshing(told.verdict.subscribe()).await;
    drop(told);
    task.await.unwrap();
}

/// A service that answers whoever asks, once it is told to; counts who did.
async fn service(listener: TcpListener, told: Arc<Notify>, asked: watch::Sender<u32>) {
    let body = answer(&[&fixture()["published"][0]]);
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked.send_modify(|count| *count += 1);
        told.notified().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // A client that was told to ask elsewhere is gone.
        let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn another_service_is_asked_at_once_and_the_one_before_is_believed_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let services = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let timeout = Duration::from_secs(20);
    let (told, (asked, mut count)) = (Arc::new(Notify::new()), watch::channel(0));
    let _serving = tokio::spawn(service(listener, Arc::clone(&told), asked));
    let keys = fetched(Clock::system());
    let before = keys.service();
    keys.adopt(keys.prepare(&before.config).unwrap());
    assert!(Arc::ptr_eq(&keys.service(), &before), "nothing changed");
    let patient = Config { timeout, ..before.config.clone() };
    keys.adopt(keys.prepare(&patient).unwrap());
    assert_eq!(keys.mojang().len(), 2, "the same service");

    // A task that has nothing to do for a day.
    let (verdict, _) = Round::new();
    verdict.set(Verdict::Up);
    let (_trigger, stop) = Shutdown::new();
    let _refreshing = tokio::spawn(keys.clone().refresh(verdict.verdict.subscribe(), stop));
    let here = Config { services, timeout };
    let prepared = keys.prepare(&here).unwrap();
    assert_eq!(keys.mojang().len(), 2, "not adopted yet");
    keys.adopt(prepared);
    assert!(keys.mojang().is_empty());
    count.wait_for(|count| *count == 1).await.unwrap();
    told.notify_one();
    while keys.mojang().is_empty() {
        tokio::task::yield_now().await;
    }

    // What is asked already when another takes its place comes too late.
    let fetching = tokio::spawn({
        let keys = keys.clone();
        async move { keys.fetch().await }
    });
    count.wait_for(|count| *count == 2).await.unwrap();
    keys.adopt(keys.prepare(&patient).unwrap());
    told.notify_one();
    fetching.await.unwrap().unwrap();
    assert!(keys.mojang().is_empty());
    let bad = Config { services: "ftp://127.0.0.1".parse().unwrap(), timeout };
    assert!(matches!(keys.prepare(&bad), Err(BuildError::Url)));
}
