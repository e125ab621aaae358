//! A stand-in for Mojang's session server: players join it, the proxy asks it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::client::Player;

/// What the server does with whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Up,
    /// Answers 503, to players too.
    Down,
    /// Players can join; the proxy gets 503: only our side fails.
    DownForProxy,
    /// 503 for named players, 204 for the probe: one stray error.
    StrayErrors,
    /// Closes the connection without an answer.
    Reset,
    Throttled,
    Forbidden,
    /// A block page.
    Html,
    /// Another player's profile.
    WrongPlayer,
    /// 200 with nothing in it.
    Empty,
    /// Sends whoever asks to another place, which vouches for everybody.
    Redirect,
}

#[derive(Clone)]
pub struct SessionServer {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    players: Mutex<HashMap<String, Player>>,
    joined: Mutex<HashSet<(String, String)>>,
    asked: AtomicUsize,
    names: Mutex<Vec<String>>,
    /// Base64 of the keys at `/publickeys`.
    published: Mutex<Vec<String>>,
    /// How often they were asked for.
    fetched: watch::Sender<usize>,
}

impl SessionServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Up),
            players: Mutex::default(),
            joined: Mutex::default(),
            asked: AtomicUsize::new(0),
            names: Mutex::default(),
            published: Mutex::default(),
            fetched: watch::Sender::new(0),
        });
        let server = Self { address, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(answer(stream, Arc::clone(&state)));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// Whether it vouches for players.
    pub fn is_up(&self) -> bool {
        *self.state.mode.lock().unwrap() == Mode::Up
    }

    /// How often the proxy asked for a player of ours.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// What `/publickeys` publishes from now on: base64 of X.509 DER.
    pub fn publish(&self, keys: &[String]) {
        *self.state.published.lock().unwrap() = keys.to_vec();
    }

    /// Waits until the public keys were asked for that often, whatever the answer was.
    pub async fn fetched(&self, times: usize) {
        self.state.fetched.subscribe().wait_for(|fetched| *fetched >= times).await.unwrap();
    }

    /// Every name that the proxy asked for so far, in lower case, the probe's among them.
    pub fn names(&self) -> Vec<String> {
        self.state.names.lock().unwrap().clone()
    }

    /// The player's own call, before it answers an encryption request. False if the service fails.
    pub fn join(&self, player: &Player, hash: &str) -> bool {
        if matches!(*self.state.mode.lock().unwrap(), Mode::Down | Mode::Reset) {
            return false;
        }
        if player.premium {
            self.state.players.lock().unwrap().insert(player.name.to_lowercase(), player.clone());
            self.state.joined.lock().unwrap().insert((player.name.to_lowercase(), hash.to_owned()));
        }
        true
    }
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let mut request = Vec::new();
    loop {
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut chunk = [0; 2048];
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => request.extend(&chunk[..n]),
                _ => return,
            }
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let path = text.split(' ').nth(1).unwrap().to_owned();
        if path == "/publickeys" {
            let keys = state.published.lock().unwrap().clone();
            let keys: Vec<_> = keys.into_iter().map(|key| json!({ "publicKey": key })).collect();
            let body = json!({"profilePropertyKeys": [], "playerCertificateKeys": keys}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let written = stream.write_all((head + &body).as_bytes()).await;
            state.fetched.send_modify(|fetched| *fetched += 1);
            if written.is_err() {
                return;
            }
            continue;
        }
        let query: HashMap<&str, &str> = path
            .split_once('?')
            .map_or("", |(_, q)| q)
            .split('&')
            .filter_map(|p| p.split_once('='))
            .collect();
        let name = query.get("username").unwrap_or(&"").to_lowercase();
        state.names.lock().unwrap().push(name.clone());
        let hash = (*query.get("serverId").unwrap_or(&"")).to_owned();
        let player = state.players.lock().unwrap().get(&name).cloned();
        if player.is_some() {
            state.asked.fetch_add(1, Ordering::SeqCst);
        }
        let joined = state.joined.lock().unwrap().contains(&(name.clone(), hash));
        let mode = *state.mode.lock().unwrap();
        let profile = |id: String, name: &str, skin: &str| {
            json!({"id": id, "name": name,
                   "properties": [{"name": "textures", "value": skin, "signature": "c2ln"}]})
            .to_string()
        };
        let (status, body) = match mode {
            Mode::Reset => return,
            Mode::Down | Mode::DownForProxy => ("503 Service Unavailable", "down".to_owned()),
            Mode::StrayErrors if player.is_some() => ("500 Internal Server Error", "oops".to_owned()),
            Mode::Throttled => ("429 Too Many Requests", String::new()),
            Mode::Forbidden => ("403 Forbidden", String::new()),
            Mode::Html => ("200 OK", "<html>hotel wifi</html>".to_owned()),
            Mode::WrongPlayer => ("200 OK", profile("1".repeat(32), "Someone", "")),
            Mode::Empty => ("200 OK", String::new()),
            Mode::Redirect if path.starts_with("/elsewhere") => {
                ("200 OK", profile("1".repeat(32), query.get("username").unwrap_or(&""), ""))
            }
            Mode::Redirect => ("302 Found", String::new()),
            Mode::Up | Mode::StrayErrors => match player {
                Some(player) if joined => {
                    ("200 OK", profile(player.id.simple().to_string(), &player.name, &player.skin))
                }
                _ => ("204 No Content", String::new()),
            },
        };
        let head = if status.starts_with("204") {
            format!("HTTP/1.1 {status}\r\n\r\n")
        } else if status.starts_with("302") {
            let query = path.split_once('?').map_or("", |(_, q)| q);
            format!("HTTP/1.1 {status}\r\nLocation: /elsewhere?{query}\r\nContent-Length: 0\r\n\r\n")
        } else {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())
        };
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}
