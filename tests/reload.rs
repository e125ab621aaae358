//! Another configuration while players are connected: nobody is touched, all of it is taken over or nothing, and what
//! was taken over counts for whoever comes after.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::{path::Path, time::Duration};

use postern::{
    app::{Outcome, Proxy, Reloaded},
    clock::Clock,
    mojang::health::{ForcedVerdict, Override, Verdict},
    session::{Store, StoreError},
};
use support::{
    Backend, Client, End, Mode, Player, SessionServer, Setup,
    backend::SECRET,
    dialog::{CODE, begin, code, dialog, refused, restart_with_pin, scene_with_pin},
    logs::Logs,
    proxy::{Audit, address},
    scene::{MODERN, Scene, assert_refused, is_in, refuse_at_once, until},
    world::{Ids, Resident, World},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

/// Players of the big test.
const PLAYERS: usize = 200;
/// Packets of each player, each way, from one file to the next.
const PACKETS: usize = 3;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// Puts another text in the place of the file, in one step as editors do, and has it read.
async fn reload(proxy: &Proxy, path: &Path, text: &str) -> Outcome {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
    timeout(PATIENCE, proxy.reload()).await.expect("a reload that never ends")
}

/// A setup whose server list answer is its own, so that it shows which configuration is in force.
fn shown(setup: Setup) -> Setup {
    Setup { text: setup.text + "status: {mode: static, description: \"the first\"}\n", ..setup }
}

/// The description that a client is shown.
async fn description(proxy: &Proxy) -> String {
    let status = Client::connect(address(proxy), MODERN).await.status("play.example.com").await;
    support::client::plain(&status["description"].to_string())
}

/// The same file with one thing changed.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}: {text}");
    text.replace(from, to)
}

#[track_caller]
fn changed(outcome: &Outcome) -> &[String] {
    let Ok(Reloaded { changed, restart_needed, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(restart_needed.is_empty(), "{restart_needed:?}");
    changed
}

#[track_caller]
fn problems(outcome: Outcome) -> String {
    outcome.expect_err("it was taken over").join("\n")
}

/// Exchanges packets with the backend each time it is told to: what it sends arrives in order and whole, and what is sent
/// to it does.
async fn exchange(
    mut resident: Resident,
    world: World,
    name: String,
    mut round: watch::Receiver<usize>,
    done: mpsc::UnboundedSender<usize>,
) {
    let ids = Ids::of(MODERN);
    let mut said = 0;
    while round.changed().await.is_ok() {
        let now = *round.borrow_and_update();
        let mut expected = Vec::new();
        for _ in 0..PACKETS {
            resident.say(&format!("up {said}")).await;
            world.send(&name, ids.line(&format!("down {said}")));
            expected.push(format!("down {said}"));
            said += 1;
        }
        assert_eq!(resident.echo().await, expected, "{name}, round {now}");
        done.send(now).unwrap();
    }
    // Everything that the player ever said is there, in order, once.
    let heard: Vec<Vec<u8>> = world.got(&name).into_iter().filter(|packet| packet[0] == ids.chat).collect();
    let expected: Vec<Vec<u8>> = (0..said).map(|n| ids.typed(&format!("up {n}")).0).collect();
    assert_eq!(heard, expected, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_players_stay_in_while_good_and_bad_files_are_read() {
    let (sessions, world) = (SessionServer::start().await, World::start().await);
    let nobody = Backend::modern().await;
    let setup = shown(Setup::with(&sessions, &nobody, "none", "  unknown-logins-per-minute: 0\n"))
        .replace(&nobody.address.to_string(), &world.address.to_string());
    let proxy = setup.start().await;
    setup.audit().state("up").await;
    let (round, rounds) = watch::channel(0);
    let (done, mut finished) = mpsc::unbounded_channel();
    let mut players = JoinSet::new();
    for n in 0..PLAYERS {
        let (sessions, world, to) = (sessions.clone(), world.clone(), address(&proxy));
        let (rounds, done) = (rounds.clone(), done.clone());
        players.spawn(async move {
            let player = Player::new(&format!("Player{n}"));
            let mut client = Client::connect(to, MODERN).await;
            let end = client.login(&player, &sessions).await;
            assert!(is_in(&end), "{n}: {end:?}");
            let resident = Resident::enter(client).await;
            done.send(0).unwrap();
            exchange(resident, world, player.name, rounds, done).await;
        });
    }
    let everybody = async |finished: &mut mpsc::UnboundedReceiver<usize>, round: usize| {
        for _ in 0..PLAYERS {
            let next = timeout(PATIENCE, finished.recv()).await.expect("somebody is stuck").unwrap();
            assert_eq!(next, round);
        }
    };
    everybody(&mut finished, 0).await;
    assert_eq!(proxy.players(), PLAYERS);

    let elsewhere = Backend::modern().await;
    let good = setup.text.clone();
    let second = format!("backends:\n  other:\n    address: \"{}\"\n", elsewhere.address);
    let secret = setup.folder.path().join("lobby.secret");
    std::fs::write(&secret, "a secret of its own, and long").unwrap();
    let files = [
        (with(&good, "the first", "the second"), Ok("the second")),
        (with(&good, "mode: none", "mode: perhaps"), Err("forwarding.mode")),
        (with(&good, "backends:\n", &second), Ok("the first")),
        (good.clone() + "status: {}\n", Err("status")),
        (with(&good, "timeout: 2000", "timeout: 1000\n  fallback: dry-run"), Ok("the first")),
        (with(&good, "static, ", "static, favicon: missing.png, "), Err("status.favicon")),
        (
            with(&good, "network:\n", "network:\n  max-connections: 210\n  read-timeout: 20000\n"),
            Ok("the first"),
        ),
        (String::new(), Err("the file is empty")),
        (
            with(&good, "security:\n", "security:\n  require-pin-on-fallback: true\n  pin-commands: true\n"),
            Ok("the first"),
        ),
        (with(&good, "mode: none", "mode: modern\n  secret-file: lobby.secret"), Ok("the first")),
        (with(&good, "mode: none", "mode: modern\n  secret-file: gone.secret"), Err("gone.secret")),
        (good.clone() + "messages: {not-joined: \"&cNo\"}\nalerts: {staff: [Player1]}\n", Ok("the first")),
        (good.clone(), Ok("the first")),
        (with(&good, "monitoring:\n", "session-cache: {directory: other}\nmonitoring:\n"), Ok("the first")),
    ];
    for (number, (text, expected)) in files.iter().enumerate() {
        round.send(number + 1).unwrap();
        // Under way while everybody talks.
        let outcome = reload(&proxy, &setup.path(), text).await;
        match expected {
            Ok(shown) => {
                assert!(outcome.is_ok(), "file {number}: {outcome:?}");
                assert_eq!(description(&proxy).await, *shown, "file {number}");
            }
            Err(problem) => {
                let said = problems(outcome);
                assert!(said.contains(problem), "file {number}: {said}");
            }
        }
        everybody(&mut finished, number + 1).await;
        assert_eq!(proxy.players(), PLAYERS, "after file {number}");
    }
    // Whoever looks at what they heard says so.
    drop(round);
    while let Some(ended) = players.join_next().await {
        ended.unwrap();
    }
    let mut audit = setup.audit();
    for (number, (_, expected)) in files.iter().enumerate() {
        let event = audit.next("config.reloaded", |_| true).await;
        let result = if expected.is_ok() { "ok" } else { "failed" };
        assert_eq!(event["result"], result, "file {number}: {event}");
        assert_eq!(event["problems"].is_u64(), expected.is_err(), "file {number}: {event}");
    }
    proxy.stop().await;
}

/// A proxy in front of a world, whose players are asked for nothing.
struct Town {
    sessions: SessionServer,
    world: World,
    setup: Setup,
    proxy: Proxy,
    audit: Audit,
}

impl Town {
    async fn new(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (sessions, world) = (SessionServer::start().await, World::start().await);
        let nobody = Backend::modern().await;
        let setup = shown(Setup::with(&sessions, &nobody, "none", "  unknown-logins-per-minute: 0\n"));
        let setup = change(setup.replace(&nobody.address.to_string(), &world.address.to_string()));
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        Self { sessions, world, setup, proxy, audit }
    }

    async fn read(&self, text: &str) -> Outcome {
        reload(&self.proxy, &self.setup.path(), text).await
    }

    /// The same with one thing changed in the file that it was started with.
    async fn read_with(&self, from: &str, to: &str) -> Outcome {
        self.read(&with(&self.setup.text, from, to)).await
    }

    async fn login(&self, player: &Player) -> (Client, End) {
        let mut client = Client::connect(address(&self.proxy), MODERN).await;
        let end = client.login(player, &self.sessions).await;
        (client, end)
    }

    async fn resident(&self, player: &Player) -> Resident {
        let (client, end) = self.login(player).await;
        assert!(is_in(&end), "{}: {end:?}", player.name);
        Resident::enter(client).await
    }

    /// A verified login of a player who leaves again.
    async fn make_known(&mut self, name: &str) -> Player {
        let player = Player::new(name);
        drop(self.resident(&player).await);
        self.gone().await;
        player
    }

    async fn gone(&self) {
        until(|| self.proxy.players() == 0).await;
    }

    async fn go_down(&mut self) {
        self.sessions.set(Mode::Down);
        self.audit.state("down").await;
    }
}

#[tokio::test]
async fn texts_and_the_server_list_are_the_new_ones_for_whoever_comes_after() {
    let town = Town::new(|setup| setup).await;
    let mut before = Client::connect(address(&town.proxy), MODERN).await;
    // This one has said hello, so it is of the old generation.
    before.handshake("play.example.com", 2).await;
    let text = with(&town.setup.text, "the first", "the second")
        + "messages: {not-joined: \"&cNobody knows you\"}\n";
    let outcome = town.read(&text).await;
    assert_eq!(changed(&outcome).len(), 2, "{outcome:?}");
    for line in ["messages.not-joined: ", "status.description: \"the first\" -> \"the second\""] {
        assert!(changed(&outcome).iter().any(|changed| changed.starts_with(line)), "{line}: {outcome:?}");
    }
    let stranger = Player::impostor("Nobody");
    before.login_start(&stranger.name, stranger.id).await;
    assert_refused(&before.finish_login(&stranger, &town.sessions).await, "Failed to verify username");
    assert_refused(&town.login(&stranger).await.1, "Nobody knows you");
    assert_eq!(description(&town.proxy).await, "the second");
    // The same file again, in other clothes.
    let again = town.read(&text.replace("\"&cNobody knows you\"", "'&cNobody knows you'")).await;
    assert_eq!(again, Ok(Reloaded { warnings: outcome.unwrap().warnings, ..Reloaded::default() }));
}

#[tokio::test]
async fn rules_of_an_outage_are_the_new_ones_for_whoever_comes_after() {
    let mut town = Town::new(refuse_at_once).await;
    let (first, second) = (town.make_known("First").await, town.make_known("Second").await);
    town.go_down().await;
    let mut inside = town.resident(&first).await;
    // It is told how it came in.
    assert_eq!(inside.echo().await.len(), 1);
    for (from, to, refused) in [
        // The client itself cannot get at the session server.
        ("  timeout: 2000", "  timeout: 2000\n  fallback: disabled", Some("client-left")),
        ("  timeout: 2000", "  timeout: 2000\n  fallback: dry-run", Some("unreachable")),
        ("min-login-history: 1", "min-login-history: 7", Some("short-history")),
        ("trust-private-addresses: true", "trust-private-addresses: false", Some("private-address")),
        ("security:\n", "security:\n  require-pin-on-fallback: true\n", Some("pin-not-set")),
        ("the first", "the second", None),
    ] {
        let outcome = town.read_with(from, to).await;
        assert!(!changed(&outcome).is_empty(), "{to}");
        let (client, end) = town.login(&second).await;
        let got_in = is_in(&end);
        drop(client);
        match refused {
            Some(reason) => {
                assert!(!got_in, "{to}: {end:?}");
                let event = town.audit.next("login.refused", |_| true).await;
                assert_eq!(event["reason"], reason, "{to}: {event}");
            }
            None => assert!(got_in, "{to}: {end:?}"),
        }
        until(|| town.proxy.players() == 1).await;
        // Who came in by the old rules is in.
        assert_eq!(inside.echo().await, Vec::<String>::new(), "{to}");
    }
    assert_eq!(town.proxy.players(), 1);
}

#[tokio::test]
async fn limits_are_the_new_ones_for_whoever_comes_after() {
    let town = Town::new(|setup| setup).await;
    let mut inside = town.resident(&Player::new("First")).await;
    let mut beside = town.resident(&Player::new("Second")).await;
    let outcome =
        town.read_with("max-connections-per-address: 20000", "max-connections-per-address: 2").await;
    assert_eq!(changed(&outcome), ["network.max-connections-per-address: 20000 -> 2"]);
    let mut third = Client::connect(address(&town.proxy), MODERN).await;
    assert_eq!(third.recv().await, None, "one too many");
    // Those who were there have not become too many.
    assert_eq!((inside.echo().await, beside.echo().await), (Vec::new(), Vec::new()));
    let outcome = town.read_with("login-ratelimit: 0", "login-ratelimit: 600000").await;
    assert_eq!(changed(&outcome).len(), 2, "{outcome:?}");
    // Who is not let in leaves no session, of which each would be one login more at once.
    let mut ends = Vec::new();
    for _ in 0..4 {
        let End::Refused(text) = town.login(&Player::impostor("Nobody")).await.1 else { panic!("let in") };
        ends.push(text.contains("Failed to verify username"));
    }
    assert_eq!(ends, [true, true, true, false]);
    assert_eq!((inside.echo().await, beside.echo().await), (Vec::new(), Vec::new()));
    let outcome = town.read(&town.setup.text).await;
    assert_eq!(changed(&outcome).len(), 1, "{outcome:?}");
    assert!(is_in(&town.login(&Player::new("Last")).await.1));
}

#[tokio::test]
async fn backends_are_the_new_ones_for_whoever_comes_after() {
    let town = Town::new(|setup| setup).await;
    let mut inside = town.resident(&Player::new("First")).await;
    let other = World::start().await;
    let outcome = town.read_with(&town.world.address.to_string(), &other.address.to_string()).await;
    assert_eq!(
        changed(&outcome),
        [format!("backends.lobby.address: \"{}\" -> \"{}\"", town.world.address, other.address)]
    );
    let mut later = town.resident(&Player::new("Second")).await;
    assert_eq!((inside.echo().await, later.echo().await), (Vec::new(), Vec::new()));
    assert!(town.world.met("First") && !town.world.met("Second"));
    assert!(other.met("Second") && !other.met("First"));
}

#[tokio::test]
async fn who_is_staff_changes_also_for_those_who_are_connected() {
    let mut town = Town::new(|setup| setup).await;
    let mut boss = town.resident(&Player::new("Boss")).await;
    let mut deputy = town.resident(&Player::new("Deputy")).await;
    let listed = town.setup.text.clone() + "alerts: {staff: [Boss, Deputy]}\n";
    let outcome = town.read(&listed).await;
    assert_eq!(changed(&outcome).len(), 1, "{outcome:?}");
    town.go_down().await;
    boss.until("down").await;
    deputy.until("down").await;
    let listed = town.setup.text.clone() + "alerts: {staff: [Deputy]}\n";
    let outcome = town.read(&listed).await;
    assert_eq!(changed(&outcome).len(), 1, "{outcome:?}");
    town.sessions.set(Mode::Up);
    // All staff are told in one go: whoever is still among them has heard it, and what the other was told would come
    // before this answer.
    deputy.until("[Postern]").await;
    assert_eq!(boss.echo().await, Vec::<String>::new());
}

#[tokio::test]
async fn where_it_listens_waits_for_the_next_start_and_that_is_said_each_time() {
    let town = Town::new(|setup| setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")).await;
    let text = with(&town.setup.text, "bind: \"127.0.0.1:0\"", "bind: \"127.0.0.1:1\"");
    let text = with(&text, "listen: \"127.0.0.1:0\"", "listen: \"127.0.0.1:2\"");
    for _ in 0..2 {
        let reloaded = town.read(&text).await.unwrap();
        assert_eq!(reloaded.changed, Vec::<String>::new());
        assert_eq!(
            reloaded.restart_needed,
            ["bind: \"127.0.0.1:0\" -> \"127.0.0.1:1\"", "admin.listen: \"127.0.0.1:0\" -> \"127.0.0.1:2\""]
        );
    }
    let event = town.setup.audit().next("config.reloaded", |_| true).await;
    assert_eq!(event["restart_needed"].as_array().unwrap().len(), 2, "{event}");
    assert_eq!(event["changed"], serde_json::json!([]));
    // It listens where it did, and once the old lines are back there is nothing to say.
    assert!(is_in(&town.login(&Player::new("Known")).await.1));
    assert_eq!(changed(&town.read(&town.setup.text).await), Vec::<String>::new());
}

/// How a request with that token is answered.
async fn shown_token(proxy: &Proxy, token: &str) -> String {
    let to = proxy.admin_address().unwrap();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "GET /api/bans HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn secrets_are_read_anew_and_never_shown() {
    const NEW: &str = "a-new-token-that-nobody-has-seen-yet";
    let (logs, _guard) = Logs::keep();
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    let setup = Setup::new(&sessions, &backend).replace("listen: \"\"", "listen: \"127.0.0.1:0\"");
    let hook = "alerts: {webhooks: [{url: \"https://127.0.0.1:1/hush-hush\"}]}\n";
    let proxy = setup.start().await;
    let path = setup.folder.path().join("admin.token");
    let old = std::fs::read_to_string(&path).unwrap();
    assert_eq!(shown_token(&proxy, old.trim()).await, "200");
    std::fs::write(&path, NEW).unwrap();
    std::fs::write(setup.folder.path().join("forwarding.secret"), "hush-hush-forwarded").unwrap();
    let outcome = reload(&proxy, &setup.path(), &(setup.text.clone() + hook)).await;
    for line in ["admin.token-file: the secret changed", "forwarding.secret-file: the secret changed"] {
        assert!(changed(&outcome).iter().any(|changed| changed == line), "{line}: {outcome:?}");
    }
    assert!(changed(&outcome).iter().any(|line| line.starts_with("alerts.webhooks")), "{outcome:?}");
    assert_eq!(
        (shown_token(&proxy, old.trim()).await, shown_token(&proxy, NEW).await),
        ("401".into(), "200".into())
    );
    // A missing one is a problem, and the one that was read last goes on.
    std::fs::remove_file(&path).unwrap();
    assert!(problems(reload(&proxy, &setup.path(), &setup.text).await).contains("admin.token"));
    assert_eq!(shown_token(&proxy, NEW).await, "200");
    proxy.stop().await;
    let told = logs.text() + &setup.audit().lines().join("\n") + &format!("{outcome:?}");
    for secret in [NEW, old.trim(), "hush-hush", SECRET] {
        assert!(!told.contains(secret), "a secret was told: {secret}");
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_had_leaves_everything_as_it_was() {
    let mut town = Town::new(|setup| setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")).await;
    let known = town.make_known("Known").await;
    let mut inside = town.resident(&Player::new("Inside")).await;
    let folder = town.setup.folder.path().to_owned();
    let clock = Clock::system();
    let taken = postern::session::Config {
        directory: folder.join("taken"),
        cleanup_on_startup: false,
        max_address_age: Duration::from_hours(1),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    };
    let other = Store::open(taken.clone(), clock.clone()).await.unwrap().0;
    std::fs::write(folder.join("broken.mmdb"), b"no database").unwrap();
    std::fs::write(folder.join("icon.png"), b"no picture").unwrap();
    std::fs::write(folder.join("empty.token"), b"").unwrap();
    std::fs::create_dir(folder.join("a folder")).unwrap();
    // Each breaks one part, and says what it says.
    let monitoring = "monitoring:\n";
    let breaks: [(&[(&str, &str)], &str); 6] = [
        (&[(monitoring, "session-cache: {directory: taken}\nmonitoring:\n")], "taken"),
        (
            &[
                ("enable-geo-checks: false", "enable-geo-checks: true"),
                (monitoring, "monitoring:\n  geo-country-database: broken.mmdb\n"),
            ],
            "broken.mmdb",
        ),
        (&[("static, ", "static, favicon: icon.png, ")], "PNG"),
        (&[("listen: \"127.0.0.1:0\"", "listen: \"127.0.0.1:0\", token-file: empty.token")], "empty.token"),
        (&[(monitoring, "monitoring:\n  audit-log: a folder\n")], "a folder"),
        (&[("security:\n", "security:\n  ban-file: a folder/no folder/bans.json\n")], "no folder"),
    ];
    let elsewhere = "session-cache: {directory: moved}\n";
    let apply = |text: &str, edits: &[(&str, &str)]| {
        edits.iter().fold(text.to_owned(), |text, (from, to)| with(&text, from, to))
    };
    let mut all = with(&town.setup.text, "the first", "never shown");
    for (edits, said) in breaks {
        if said != "PNG" {
            // That one is found before anything is prepared.
            all = apply(&all, edits);
        }
        let to = edits[0].1;
        // Everything else is good, and would be taken over.
        let mut text = with(&apply(&town.setup.text, edits), "the first", "never shown");
        text = with(&text, "timeout: 2000", "timeout: 1999\n  fallback: disabled");
        text = with(&text, "network:\n", "network:\n  max-pending-logins: 4\n");
        if !text.contains("directory: taken") {
            text += elsewhere;
        }
        if !text.contains("audit-log: a folder") {
            text = with(&text, "monitoring:\n", "monitoring:\n  audit-log: moved.log\n");
        }
        let found = problems(town.read(&text).await);
        assert!(found.contains(said), "{to}: {found}");
        assert_eq!(description(&town.proxy).await, "the first", "{to}");
        assert_eq!(inside.echo().await, Vec::<String>::new(), "{to}");
        // Sessions and audit.log are where they were, and nothing is held or left elsewhere.
        let here = postern::session::Config { directory: folder.join("sessions"), ..taken.clone() };
        assert!(matches!(Store::open(here, clock.clone()).await, Err(StoreError::Locked { .. })), "{to}");
        assert!(!folder.join("moved.log").exists(), "{to}");
        let free = postern::session::Config { directory: folder.join("moved"), ..taken.clone() };
        until_free(free, &clock).await;
        let event = town.audit.next("config.reloaded", |_| true).await;
        assert_eq!((&event["result"], &event["problems"]), (&"failed".into(), &1.into()), "{to}");
    }
    // All of them at once are all told of at once.
    let found = problems(town.read(&all).await);
    for (_, said) in breaks.iter().filter(|(_, said)| *said != "PNG") {
        assert!(found.contains(said), "{said}: {found}");
    }
    // The fallback, too, is what it was, with the sessions that were there.
    town.go_down().await;
    assert!(is_in(&town.login(&known).await.1));
    // And once it can be had, it is.
    drop(other);
    let text = with(&town.setup.text, "the first", "at last") + "session-cache: {directory: taken}\n";
    let mut outcome = town.read(&text).await;
    while matches!(&outcome, Err(problems) if problems[0].contains("taken")) {
        // The store that was given back is given back behind its last owner.
        outcome = town.read(&text).await;
    }
    assert_eq!(changed(&outcome).len(), 2, "{outcome:?}");
    assert!(description(&town.proxy).await.starts_with("at last\n"), "with the notice of the outage");
}

/// Waits until nobody holds that folder, if anybody did, and takes it away.
async fn until_free(config: postern::session::Config, clock: &Clock) {
    loop {
        match Store::open(config.clone(), clock.clone()).await {
            Ok((store, _)) => {
                store.close().await.unwrap();
                return;
            }
            Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn sessions_that_move_count_from_where_they_are_then() {
    let mut town = Town::new(|setup| setup).await;
    let old = town.make_known("Old").await;
    let moved = town.setup.text.clone() + "session-cache: {directory: moved}\n";
    let mut inside = town.resident(&Player::new("Inside")).await;
    let outcome = town.read(&moved).await;
    assert_eq!(changed(&outcome), ["session-cache.directory: sessions -> moved"]);
    let new = Player::new("New");
    drop(town.resident(&new).await);
    until(|| town.proxy.players() == 1).await;
    assert_eq!(inside.echo().await, Vec::<String>::new());
    town.go_down().await;
    assert!(is_in(&town.login(&new).await.1));
    assert!(!is_in(&town.login(&old).await.1), "from a folder that does not count any more");
    // What was remembered there is there, and counts again once the folder does.
    let outcome = town.read(&town.setup.text).await;
    assert_eq!(changed(&outcome), ["session-cache.directory: moved -> sessions"]);
    assert!(is_in(&town.login(&old).await.1));
    assert!(!is_in(&town.login(&new).await.1));
    assert_eq!(inside.echo().await, Vec::<String>::new());
    town.proxy.stop().await;
    let names: Vec<String> = town.setup.sessions().into_keys().collect();
    assert_eq!(names, ["Inside", "Old"]);
}

#[tokio::test]
async fn audit_log_moves_with_the_configuration() {
    let town = Town::new(|setup| setup).await;
    let outcome = town.read_with("monitoring:\n", "monitoring:\n  audit-log: other.log\n").await;
    assert_eq!(changed(&outcome), ["monitoring.audit-log: audit.log -> other.log"]);
    assert!(is_in(&town.login(&Player::new("Later")).await.1));
    town.proxy.stop().await;
    let (old, new) = (town.setup.audit().lines().join("\n"), town.setup.folder.path().join("other.log"));
    let new = std::fs::read_to_string(new).unwrap();
    for (event, in_old, in_new) in
        [("proxy.started", true, false), ("login.verified", false, true), ("proxy.stopped", false, true)]
    {
        assert_eq!((old.contains(event), new.contains(event)), (in_old, in_new), "{event}");
    }
}

/// What closes the fallback for that player, and what keeps it out then.
fn closed(player: &Player) -> [(&'static str, String, &'static str); 4] {
    [
        ("  timeout: 2000", "  timeout: 2000\n  fallback: disabled".to_owned(), "unreachable"),
        ("  timeout: 2000", "  timeout: 2000\n  fallback: dry-run".to_owned(), "unreachable"),
        ("min-login-history: 1", "min-login-history: 7".to_owned(), "short-history"),
        ("security:\n", format!("security:\n  require-mojang-auth: [{}]\n", player.id), "mojang-required"),
    ]
}

/// How the attempt of a player ended whose PIN was right.
async fn kept_out(scene: &mut Scene, gate: &str, reason: &str) {
    let event = scene.audit.next("login.refused", |_| true).await;
    assert_eq!((&event["reason"], &event["player"]), (&reason.into(), &"Pinned".into()), "{event}");
    assert_eq!((&event["facts"]["gate"], &event["facts"]["pin"]), (&gate.into(), &"right".into()), "{event}");
}

#[tokio::test]
async fn a_fallback_that_is_closed_is_closed_for_those_who_look_for_their_pin() {
    let (mut scene, player) = scene_with_pin("", refuse_at_once, "Pinned", Mode::Down).await;
    scene.audit.state("down").await;
    let (text, path) = (scene.setup.text.clone(), scene.setup.path());
    for (from, to, reason) in closed(&player) {
        let mut client = begin(&scene, MODERN, &player).await;
        dialog(&mut client).await;
        assert_eq!(changed(&reload(&scene.proxy, &path, &with(&text, from, &to)).await).len(), 1, "{to}");
        client.send(code(CODE)).await;
        refused(&mut client).await;
        kept_out(&mut scene, "dialog", reason).await;
        assert_eq!(scene.proxy.players(), 0, "{to}");
        // And open again, also for one who began while it was not.
        let mut client = scene.client(MODERN).await;
        client.handshake("play.example.com", 2).await;
        assert_eq!(changed(&reload(&scene.proxy, &path, &text).await).len(), 1, "{to}");
        client.login_start(&player.name, player.id).await;
        assert!(is_in(&client.finish_login(&player, &scene.sessions).await), "{to}");
        dialog(&mut client).await;
        drop(client);
        scene.audit.next("login.refused", |event| event["reason"] == "client-left").await;
    }
    // What does not close it leaves those be who are asked: also the tries they have left.
    let mut client = begin(&scene, MODERN, &player).await;
    dialog(&mut client).await;
    client.send(code("wrong")).await;
    scene.audit.next("pin.failed", |event| event["tries_left"] == 2).await;
    dialog(&mut client).await;
    let other = with(&text, "security:\n", "security:\n  pin-timeout-seconds: 30\n");
    assert_eq!(changed(&reload(&scene.proxy, &path, &other).await).len(), 1);
    client.send(code("wrong")).await;
    scene.audit.next("pin.failed", |event| event["tries_left"] == 1).await;
    dialog(&mut client).await;
    client.send(code(CODE)).await;
    scene.audit.next("login.fallback", |event| event["proof"] == "pinned").await;
    until(|| scene.proxy.players() == 1).await;
}

#[tokio::test]
async fn a_fallback_that_is_closed_is_closed_for_those_who_are_asked_on_their_backend() {
    const WITHOUT_DIALOGS: i32 = 763;
    let world = World::start().await;
    let to_world = |setup: Setup| {
        let setup = refuse_at_once(setup).replace("mode: modern", "mode: none");
        let address = setup.text.split("address: \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        setup.replace(&address, &world.address.to_string())
    };
    let scene = Scene::with("", to_world).await;
    let player = Player::new("Pinned");
    let (client, end) = scene.join(WITHOUT_DIALOGS, &player).await;
    assert!(is_in(&end), "{end:?}");
    drop(client);
    scene.gone().await;
    let mut scene = restart_with_pin(scene, &player, Mode::Down).await;
    scene.audit.state("down").await;
    let (text, path) = (scene.setup.text.clone(), scene.setup.path());
    let plain = "  timeout: 2000\n  allow-plaintext-fallback: false".to_owned();
    let to_plain = ("  timeout: 2000", plain, "newer-version-needed");
    for (from, to, reason) in closed(&player).into_iter().chain([to_plain]) {
        let (client, end) = scene.join(WITHOUT_DIALOGS, &player).await;
        assert!(is_in(&end), "{to}: {end:?}");
        let mut held = Resident::enter(client).await;
        held.until("/pin").await;
        assert_eq!(changed(&reload(&scene.proxy, &path, &with(&text, from, &to)).await).len(), 1, "{to}");
        held.say(&format!("/pin {CODE}")).await;
        held.kicked().await;
        kept_out(&mut scene, "quarantine", reason).await;
        world.left("Pinned").await;
        assert_eq!(scene.proxy.players(), 0, "{to}");
        assert_eq!(changed(&reload(&scene.proxy, &path, &text).await).len(), 1, "{to}");
    }
    let (client, _) = scene.join(WITHOUT_DIALOGS, &player).await;
    let mut held = Resident::enter(client).await;
    held.until("/pin").await;
    held.say(&format!("/pin {CODE}")).await;
    held.until("Verification successful").await;
    assert_eq!(scene.proxy.players(), 1);
}

#[tokio::test]
async fn who_is_in_by_an_older_configuration_gives_way_like_everybody() {
    let mut town = Town::new(|setup| setup).await;
    let known = town.make_known("Known").await;
    town.go_down().await;
    let mut by_policy = town.resident(&known).await;
    town.sessions.set(Mode::Up);
    town.audit.state("up").await;
    assert_eq!(changed(&town.read_with("the first", "the second").await).len(), 1);
    let mut verified = town.resident(&known).await;
    assert!(by_policy.kicked().await.contains("logged in from another place"));
    let event = town.audit.next("login.verified", |event| event["facts"]["displaced"] == true).await;
    assert_eq!(event["player"], "Known");
    assert_eq!(changed(&town.read_with("the first", "the third").await).len(), 1);
    let mut again = town.resident(&known).await;
    assert!(verified.kicked().await.contains("logged in from another place"));
    assert_eq!(again.echo().await, Vec::<String>::new());
    assert_eq!(town.proxy.players(), 1);
}

#[tokio::test]
async fn an_override_and_its_end_stay_as_they_are() {
    let mut town = Town::new(|setup| setup).await;
    let known = town.make_known("Known").await;
    let order = Override { verdict: ForcedVerdict::Down, lasting: Duration::from_mins(10) };
    town.proxy.health().set_override(order).await.unwrap();
    let before = town.proxy.health().status();
    assert!(before.forced.is_some());
    let other = SessionServer::start().await;
    let elsewhere = with(&town.setup.text, &town.sessions.url(), &other.url());
    let seldom = with(&elsewhere, "health-check-interval: 1", "health-check-interval: 600");
    // Both make the monitor begin anew.
    for text in [elsewhere, seldom] {
        assert!(!changed(&town.read(&text).await).is_empty());
        let after = town.proxy.health().status();
        assert_eq!((after.forced, after.verdict), (before.forced, before.verdict));
        assert_eq!(after.outage_started, before.outage_started);
        let (client, end) = town.login(&known).await;
        assert!(matches!(end, End::In { authenticated: false, .. }), "{end:?}");
        drop(client);
        town.gone().await;
    }
    town.proxy.health().clear_override().await.unwrap();
    until(|| town.proxy.health().verdict() == Verdict::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_at_once_one_configuration_follows_another() {
    const ASKERS: usize = 8;
    let town = Town::new(|setup| setup.replace("listen: \"\"", "listen: \"127.0.0.1:0\"")).await;
    let path = town.setup.path();
    let texts = [town.setup.text.clone(), with(&town.setup.text, "the first", "the second")];
    let mut asking = JoinSet::new();
    for round in 0..20 {
        let beside = path.with_extension("new");
        std::fs::write(&beside, &texts[round % 2]).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        for _ in 0..ASKERS {
            asking.spawn(town.proxy.reload());
        }
        // Some find another one under way, and some do not.
        if round % 3 == 0 {
            while let Some(outcome) = asking.join_next().await {
                assert!(outcome.unwrap().is_ok(), "round {round}");
            }
        }
    }
    // Two more at once, one of them by the admin interface: whatever is under way may have read an older file.
    let last = with(&town.setup.text, "the first", "the last");
    let (one, other) = tokio::join!(town.read(&last), posted_reload(&town.proxy, &town.setup));
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(other, "200");
    assert_eq!(description(&town.proxy).await, "the last");
    while let Some(outcome) = asking.join_next().await {
        assert!(outcome.unwrap().is_ok());
    }
    town.proxy.stop().await;
    // Each began with what the one before it left.
    let mut shown = "\"the first\"".to_owned();
    let (mut reloads, mut by_admin) = (0, false);
    for line in town.setup.audit().lines() {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["event"] != "config.reloaded" {
            continue;
        }
        reloads += 1;
        by_admin |= event["by"].as_str().unwrap().contains("admin");
        for change in event["changed"].as_array().unwrap() {
            let change = change.as_str().unwrap().strip_prefix("status.description: ").unwrap();
            let (from, to) = change.split_once(" -> ").unwrap();
            assert_eq!(from, shown);
            shown = to.to_owned();
        }
    }
    assert_eq!(shown, "\"the last\"");
    assert!(reloads > 2 && reloads < 20 * ASKERS, "{reloads}: those who wait together are answered together");
    assert!(by_admin);
}

/// How the admin interface answers who asks it for a reload.
async fn posted_reload(proxy: &Proxy, setup: &Setup) -> String {
    let token = std::fs::read_to_string(setup.folder.path().join("admin.token")).unwrap();
    let to = proxy.admin_address().unwrap();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "POST /api/reload HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        token.trim()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap_or(&answer).to_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn limits_that_the_system_does_not_allow_are_said_once_and_in_the_answer() {
    let hard = std::process::Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap().stdout;
    if String::from_utf8(hard).unwrap().trim().parse().map_or(true, |hard: u64| hard > 20_000_000) {
        // Here it allows whatever can be configured.
        return;
    }
    let (logs, _guard) = Logs::keep();
    let town = Town::new(|setup| setup).await;
    let most = "network:\n  max-connections: 10000000\n";
    let text = with(&town.setup.text, "network:\n", most);
    let Ok(Reloaded { warnings, .. }) = town.read(&text).await else { panic!("not taken over") };
    let told = |warnings: &[String]| warnings.iter().any(|line| line.contains("files may be open at once"));
    assert!(told(&warnings), "{warnings:?}");
    let said = || logs.text().matches("network.max-connections is 10000000").count();
    assert_eq!(said(), 1);
    // Nothing about it changed.
    assert!(town.read(&with(&text, "the first", "the second")).await.is_ok());
    assert_eq!(said(), 1);
}
