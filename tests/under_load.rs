//! What must never happen, while the threads that relay have more to do than they can: players flood the proxy from
//! threads of their own, and whoever of them got a byte that is not its own would fail the test. A program of its own,
//! so that no other test runs beside the flood.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::large_futures, reason = "a test has a stack of its own")]

#[path = "under_load/flood.rs"]
mod flood;
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rsa::{Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};

use flood::{Crowd, Flooder, Left, Manner};
use support::{
    Backend, BackendKind, Client, End, Mode, Player, Setup,
    backend::SECRET,
    proxy::address,
    scene::*,
    wire::{self, In, Out},
};

const DISPLACED: &str = "logged in from another place";
const RESTARTING: &str = "server is restarting";
const ELSEWHERE: &str = "127.9.9.9:0";

/// Bytes that everybody has to get back before a flood counts as going on.
const ROUND: u64 = 500;

/// A scene, and players who flood it.
struct Load {
    scene: Scene,
    flood: Vec<Flooder>,
    crowd: Crowd,
    seed: u64,
}

impl Load {
    async fn new() -> Self {
        Self::with("", |setup| setup).await
    }

    /// With one more player than would make two for each thread.
    async fn with(auth: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let mut load = Self::calm(256, auth, change).await;
        load.begin().await;
        load
    }

    /// Before anybody floods. Packets are compressed from that length on.
    async fn calm(threshold: usize, auth: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let crowd = Crowd::new();
        let kind = BackendKind::Modern { secret: SECRET.to_owned() };
        let backend = crowd.run(Backend::start(kind, Some(threshold))).await.unwrap();
        let scene = Scene::around(backend, auth, change).await;
        Self { scene, flood: Vec::new(), crowd, seed: 0 }
    }

    async fn begin(&mut self) {
        let cores = thread::available_parallelism().unwrap().get();
        for (n, manner) in (0..=2 * cores).zip(Manner::ALL.into_iter().cycle()) {
            let flooder = self.join(&Player::new(&format!("Flood{n}")), manner).await;
            self.flood.push(flooder);
        }
        self.goes_on().await;
    }

    /// A verified login of somebody who floods from then on, with words never used before.
    async fn join(&mut self, player: &Player, manner: Manner) -> Flooder {
        let client = self.log_in(player).await;
        self.seed += 1;
        Flooder::begin(&self.crowd, player.clone(), client, self.seed, manner)
    }

    /// A verified login of a client that lives in the crowd.
    async fn log_in(&self, player: &Player) -> Client {
        self.log_in_with(player, None).await
    }

    /// The same with so many bytes to hold for it at its end.
    async fn log_in_with(&self, player: &Player, holds: Option<u32>) -> Client {
        let (to, sessions, player) =
            (address(&self.scene.proxy), self.scene.sessions.clone(), player.clone());
        let logging_in = self.crowd.run(async move {
            let socket = TcpSocket::new_v4().unwrap();
            if let Some(holds) = holds {
                socket.set_recv_buffer_size(holds).unwrap();
            }
            socket.set_nodelay(true).unwrap();
            let mut client = Client::over(socket.connect(to).await.unwrap(), MODERN);
            let end = client.login(&player, &sessions).await;
            assert!(matches!(end, End::In { authenticated: true, .. }), "{end:?}");
            client
        });
        logging_in.await.unwrap()
    }

    /// Waits until everybody who floods got more of it back.
    async fn goes_on(&self) {
        let before: Vec<u64> = self.flood.iter().map(Flooder::echoed).collect();
        until(|| {
            let all = self.flood.iter().zip(&before);
            all.for_each(|(flooder, _)| assert!(!flooder.is_over(), "{} is out", flooder.player.name));
            self.flood.iter().zip(&before).all(|(flooder, before)| flooder.echoed() >= before + ROUND)
        })
        .await;
    }

    /// Ends the flood: everybody who floods is still in, and got back all that it said.
    async fn end(mut self) -> Scene {
        self.goes_on().await;
        for flooder in self.flood.drain(..) {
            let name = flooder.player.name.clone();
            let left = flooder.end().await;
            assert!(left.sent >= ROUND && left.sent == left.echoed, "{name}: {left:?}");
            assert!(left.clean && left.told.is_none(), "{name}: {left:?}");
        }
        self.scene.gone().await;
        self.scene
    }
}

#[track_caller]
fn assert_told(left: &Left, text: &str) {
    assert!(left.clean && left.told.as_ref().is_some_and(|told| told.contains(text)), "{left:?}");
}

/// Nothing here takes a tenth of it.
async fn in_time(test: impl Future<Output = ()>) {
    timeout(Duration::from_mins(3), test).await.unwrap();
}

async fn connect_from(own: &str, to: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(own.parse().unwrap()).unwrap();
    Client::over(socket.connect(to).await.unwrap(), MODERN)
}

/// An encryption response with a secret of ours that is not for this connection, or not for this key.
async fn forge(client: &mut Client, player: &Player, wrong_token: bool) {
    client.handshake("play.example.com", 2).await;
    client.login_start(&player.name, player.id).await;
    let request = client.recv().await.unwrap();
    let mut reader = In(&request[1..]);
    reader.str();
    let (key, token) = (reader.bytes(), reader.bytes());
    if wrong_token {
        let key = RsaPublicKey::from_public_key_der(key).unwrap();
        let lock = |bytes: &[u8]| key.encrypt(&mut rand_core::OsRng, Pkcs1v15Encrypt, bytes).unwrap();
        let other: Vec<u8> = token.iter().map(|byte| !byte).collect();
        client.send(Out::id(1).bytes(&lock(&[5; 16])).bytes(&lock(&other))).await;
        client.encrypt([5; 16]);
    } else {
        client.send(Out::id(1).bytes(&[1; 128]).bytes(&[2; 128])).await;
    }
}

#[tokio::test]
async fn nobody_unproven_gets_in_while_others_flood() {
    in_time(async {
        let mut load = Load::new().await;
        let known = load.flood[0].player.clone();
        // All at once: whatever they share, they share it now.
        let mut attempts = JoinSet::new();
        for n in 0..12 {
            let (to, sessions, known) =
                (address(&load.scene.proxy), load.scene.sessions.clone(), known.clone());
            attempts.spawn(async move {
                let mut client = Client::connect(to, MODERN).await;
                match n % 4 {
                    0 => {
                        let end = client.login(&Player::thief(&known.name), &sessions).await;
                        assert_refused(&end, FAILED_TO_VERIFY);
                    }
                    1 => {
                        let end = client.login(&Player::impostor("Stranger"), &sessions).await;
                        assert_refused(&end, FAILED_TO_VERIFY);
                    }
                    _ => {
                        forge(&mut client, &known, n % 4 == 2).await;
                        let (told, clean) = client.rest().await;
                        assert!(clean && told.len() == 1, "{told:x?}");
                        assert!(In(&told[0][1..]).str().contains("does not understand"), "{told:x?}");
                    }
                }
            });
        }
        attempts.join_all().await;
        load.scene.audit.reason("not-joined").await;
        for bytes in [&[0xff; 64][..], &[0x81, 0x80, 0x01, 0x00], &[b'G'; 80]] {
            let mut client = load.scene.client(MODERN).await;
            client.send_raw(bytes.to_vec()).await;
            assert_eq!(client.recv().await, None, "{bytes:x?}");
            load.scene.audit.reason("bad-handshake").await;
        }
        load.goes_on().await;
        load.scene.nothing_else_reached_the_backend().await;
        // They, and the one who was let in just now.
        assert_eq!(load.scene.backend.seen().len(), load.flood.len() + 1);
        load.end().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_displaces_a_flooding_player_gets_a_stream_of_its_own() {
    in_time(async {
        let mut load = Load::new().await;
        let players = load.flood.len();
        for manner in Manner::ALL {
            // The next ones, not those who have just come.
            let old = load.flood.remove(0);
            let new = load.join(&old.player.clone(), manner).await;
            assert_told(&old.left().await, DISPLACED);
            load.flood.push(new);
            load.goes_on().await;
            let event = load.scene.audit.next("login.verified", |event| event["facts"]["displaced"] == true);
            event.await;
        }
        // One who keeps displacing itself, as fast as it can.
        let player = load.flood[0].player.clone();
        let mut last = load.flood.remove(0);
        for manner in Manner::ALL {
            let next = load.join(&player, manner).await;
            assert_told(&last.left().await, DISPLACED);
            last = next;
        }
        load.flood.push(last);
        until(|| load.scene.proxy.players() == players).await;
        assert_eq!(load.scene.backend.seen().len(), players + 2 * Manner::ALL.len());
        load.end().await;
    })
    .await;
}

#[tokio::test]
async fn an_outage_lets_in_the_known_and_nobody_else_while_others_flood() {
    in_time(async {
        let mut load = Load::with("", refuse_at_once).await;
        let known = Player::new("Known");
        drop(load.log_in(&known).await);
        let inside = load.flood[0].player.clone();
        until(|| load.scene.proxy.players() == load.flood.len()).await;
        load.scene.go_down().await;
        load.scene.refused(&Player::new("Stranger"), NO_SESSION, "no-session").await;
        load.scene.refused(&Player::impostor("Known"), NO_SESSION, "id-mismatch").await;
        let to = address(&load.scene.proxy);
        let end = connect_from(ELSEWHERE, to).await.login(&known, &load.scene.sessions).await;
        assert_refused(&end, "new network address");
        load.scene.audit.reason("address-changed").await;
        for _ in 0..2 {
            load.scene.refused(&inside, "already connected", "already-online").await;
        }
        let (to, sessions, player) = (to, load.scene.sessions.clone(), known.clone());
        let client = load.crowd.run(async move {
            let mut client = Client::connect(to, MODERN).await;
            let end = client.login(&player, &sessions).await;
            assert!(matches!(end, End::In { encrypted: true, authenticated: false, .. }), "{end:?}");
            client
        });
        let client = client.await.unwrap();
        let admitted = Flooder::begin(&load.crowd, known.clone(), client, 1000, Manner::Mixed);
        load.flood.push(admitted);
        load.goes_on().await;
        load.scene.refused(&known, "already connected", "already-online").await;
        // What the session server says goes over what policy said.
        load.scene.sessions.set(Mode::Up);
        load.scene.audit.state("up").await;
        let proven = load.join(&known, Manner::Mixed).await;
        assert_told(&load.flood.pop().unwrap().left().await, DISPLACED);
        load.flood.push(proven);
        load.scene.nothing_else_reached_the_backend().await;
        load.end().await;
    })
    .await;
}

#[tokio::test]
async fn clients_that_vanish_or_talk_garbage_end_alone() {
    in_time(async {
        let mut load = Load::new().await;
        let players = load.flood.len();
        for round in 0..3 {
            let mut leaving = Vec::new();
            for (n, manner) in Manner::ALL.into_iter().enumerate() {
                leaving.push(load.join(&Player::new(&format!("Gone{round}{n}")), manner).await);
            }
            // In the middle of whatever is done for them.
            for flooder in leaving {
                until(|| flooder.echoed() > 0).await;
                flooder.vanish().await;
            }
        }
        for garbage in [
            // Lengths that cannot be, a frame of nothing, a packet of less than nothing, what no one can inflate.
            &[0xff, 0xff, 0xff, 0x7f][..],
            &[0x80, 0x80, 0x80],
            &[0],
            &[5, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[7, 0x80, 0x08, 1, 2, 3, 4, 5],
        ] {
            let player = Player::new("Garbage");
            let (mut client, end) = load.scene.join(MODERN, &player).await;
            assert!(is_in(&end));
            let words: Vec<_> = (0..40).map(|n| Out::id(0x10).raw(&[n; 100])).collect();
            for word in &words {
                client.send(word.clone()).await;
            }
            client.send_raw(garbage.to_vec()).await;
            // Whatever it still hears is its own.
            let (heard, _) = client.rest().await;
            assert!(heard.len() <= words.len(), "{garbage:x?}");
            assert!(heard.iter().zip(&words).all(|(heard, word)| *heard == word.0), "{garbage:x?}");
        }
        load.goes_on().await;
        until(|| load.scene.proxy.players() == players).await;
        load.end().await;
    })
    .await;
}

/// A client that sends as long as anything is taken, and hears nothing until it is told to.
struct Stuck {
    accepted: Arc<AtomicU64>,
    hears_again: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Stuck {
    /// What it sends can be told by where it stands.
    fn frame(number: u64) -> Vec<u8> {
        wire::frame(&Out::id(0x10).raw(&number.to_be_bytes()).raw(&[3; 4000]).0, Some(1 << 20))
    }

    fn begin(crowd: &Crowd, client: Client) -> Self {
        let accepted = Arc::<AtomicU64>::default();
        let (hears_again, hears) = oneshot::channel();
        let counts = Arc::clone(&accepted);
        let task = crowd.run(async move {
            let (mut encryptor, mut decryptor) = client.cipher.unwrap();
            let (mut read, mut write) = client.stream.into_split();
            // Ends with this task.
            let mut writing = JoinSet::new();
            writing.spawn(async move {
                for number in (0..).step_by(5) {
                    let mut frames: Vec<u8> = (number..number + 5).flat_map(Self::frame).collect();
                    encryptor.encrypt(&mut frames);
                    if write.write_all(&frames).await.is_err() {
                        return;
                    }
                    counts.fetch_add(frames.len() as u64, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            if hears.await.is_ok() {
                for number in 0..100 {
                    let mut frame = Self::frame(number);
                    let expected = frame.clone();
                    read.read_exact(&mut frame).await.unwrap();
                    decryptor.decrypt(&mut frame);
                    assert_eq!(frame, expected, "{number}");
                }
            }
            drop(writing);
        });
        Self { accepted, hears_again, task }
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_client_that_hears_nothing_slows_nobody() {
    in_time(async {
        let mut load = Load::calm(1 << 20, "", |setup| setup).await;
        let players: Vec<Player> = (0..3).map(|n| Player::new(&format!("Deaf{n}"))).collect();
        let mut stuck = Vec::new();
        for player in &players {
            stuck.push(Stuck::begin(&load.crowd, load.log_in_with(player, Some(4096)).await));
        }
        let (mut quick, end) = load.scene.join(MODERN, &Player::new("Quick")).await;
        assert!(is_in(&end));
        let mut word = 0;
        let mut round_trips = async |count: usize| {
            for _ in 0..count {
                word += 1;
                let word = Out::id(0x10).varint(word).raw(&[7; 100]);
                let began = Instant::now();
                quick.send(word.clone()).await;
                assert_eq!(quick.recv().await.unwrap(), word.0);
                assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
            }
        };
        load.begin().await;
        round_trips(20).await;
        load.goes_on().await;
        // More is under way than the relay holds: it waits in the buffers of the system.
        for stuck in &stuck {
            until(|| stuck.accepted() > 64 << 10).await;
        }
        // One that hears again gets all of it, in order.
        let again = stuck.pop().unwrap();
        again.hears_again.send(()).unwrap();
        again.task.await.unwrap();
        // One that does not can be displaced all the same.
        let began = Instant::now();
        let successor = load.join(&players[0], Manner::Mixed).await;
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        load.flood.push(successor);
        load.goes_on().await;
        drop(quick);
        for stuck in stuck {
            stuck.task.abort();
            let _ = stuck.task.await;
        }
        load.end().await;
    })
    .await;
}

#[tokio::test]
async fn beginnings_of_frames_on_many_connections_at_once() {
    in_time(async {
        let load = Load::new().await;
        let mut clients = Vec::new();
        for n in 0..16 {
            clients.push(load.scene.join(MODERN, &Player::new(&format!("Slow{n}"))).await.0);
        }
        // Short, compressed, and longer than fits a length of two bytes.
        for len in [10, 300, 5000] {
            let word = |n: usize| Out::id(0x10).raw(&vec![u8::try_from(n).unwrap(); len]);
            let frames: Vec<_> = clients
                .iter()
                .enumerate()
                .map(|(n, client)| wire::frame(&word(n).0, client.threshold))
                .collect();
            // All of them stand at the same place of their frame, one byte further each time.
            for at in 0..frames.iter().map(Vec::len).max().unwrap() {
                for (client, frame) in clients.iter_mut().zip(&frames) {
                    if let Some(byte) = frame.get(at) {
                        client.send_raw(vec![*byte]).await;
                    }
                }
                if at == 0 {
                    load.goes_on().await;
                }
            }
            for (n, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.recv().await.unwrap(), word(n).0);
            }
        }
        drop(clients);
        load.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_stop_tells_every_flooding_player_and_waits_for_none() {
    in_time(async {
        let Load { scene, flood, crowd, .. } = Load::new().await;
        let (to, players) = (address(&scene.proxy), flood.len());
        // Some are about to come in as it stops: they are told too, or were never in.
        let mut coming = JoinSet::new();
        for n in 0..24 {
            let sessions = scene.sessions.clone();
            coming.spawn(async move {
                let mut client = Client::connect(to, MODERN).await;
                let end = client.login(&Player::new(&format!("Coming{n}")), &sessions).await;
                if !is_in(&end) {
                    return false;
                }
                let (told, clean) = client.rest().await;
                let told = String::from_utf8_lossy(told.last().unwrap()).into_owned();
                assert!(clean && told.contains(RESTARTING), "{clean} {told}");
                true
            });
        }
        until(|| scene.proxy.players() > players).await;
        let began = Instant::now();
        let Scene { proxy, setup, backend, .. } = scene;
        tokio::join!(proxy.stop(), async {
            for flooder in flood {
                assert_told(&flooder.left().await, RESTARTING);
            }
        });
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        let came = coming.join_all().await.into_iter().filter(|came| *came).count();
        assert!(came > 0);
        assert!(TcpStream::connect(to).await.is_err(), "nobody listens any more");
        let documents = setup.sessions();
        for n in 0..players {
            let document = &documents[&format!("Flood{n}")];
            assert!(
                document["last_present"].is_string(),
                "the end of a verified connection is noted: {document}"
            );
        }
        // Whoever was not told was not let in there either.
        assert!(backend.seen().len() >= players + came);
        drop(crowd);
    })
    .await;
}
