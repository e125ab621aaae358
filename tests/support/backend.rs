//! A stand-in backend. It checks forwarding by code of its own and echoes what players send.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use uuid::Uuid;

use super::wire::{self, In, Out};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Asks for modern forwarding and checks it.
    Modern { secret: String },
    /// A plain offline-mode server.
    Plain,
    /// The same, and players may bring keys. What stands behind NULs in the host is believed.
    Keyed,
    /// Sends an encryption request.
    Online,
    /// Takes the connection and says nothing.
    Silent,
}

/// A player's own key as forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedKey {
    pub expires: i64,
    pub der: Vec<u8>,
    pub signature: Vec<u8>,
    pub owner: Option<Uuid>,
}

/// What the backend saw of one player.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub host: String,
    pub login_name: String,
    pub login_id: Option<Uuid>,
    pub login_key: Option<ForwardedKey>,
    /// Version of modern forwarding.
    pub version: i32,
    /// From forwarding.
    pub key: Option<ForwardedKey>,
    /// From forwarding.
    pub name: String,
    pub id: Option<Uuid>,
    pub address: String,
    pub skin: Option<String>,
    /// Bytes after login success.
    pub bytes: usize,
}

#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<watch::Sender<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

pub const SECRET: &str = "the secret between proxy and backend";

impl Backend {
    pub async fn modern() -> Self {
        Self::start(BackendKind::Modern { secret: SECRET.to_owned() }, Some(256)).await
    }

    pub async fn start(kind: BackendKind, threshold: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let backend = Self { address, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                *connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, kind.clone(), threshold, Arc::clone(&seen)));
            }
        });
        backend
    }

    /// The players that got in so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until that many players got in, and returns the last of them. A client can read its login success before
    /// this side has noted the player.
    pub async fn arrival(&self, count: usize) -> Seen {
        let mut seen = self.seen.subscribe();
        let all = seen.wait_for(|all| all.len() >= count).await.unwrap();
        all[count - 1].clone()
    }

    /// How many connections came, status and logins alike.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    kind: BackendKind,
    threshold: Option<usize>,
    seen: Arc<watch::Sender<Vec<Seen>>>,
) -> Option<()> {
    let mut player = Seen::default();
    let packet = wire::read_body(&mut stream, |_| {}).await?;
    let mut reader = In(&packet[1..]);
    let protocol = reader.varint();
    player.host = reader.str();
    reader.take(2);
    let intent = reader.varint();
    let packet = wire::read_body(&mut stream, |_| {}).await?;
    if intent == 1 {
        let answer = r#"{"version":{"name":"Stand-in","protocol":774},"players":{"max":20,"online":1},"description":"A backend"}"#;
        stream.write_all(&wire::frame(&Out::id(0).str(answer).0, None)).await.ok()?;
        return None;
    }
    let mut reader = In(&packet[1..]);
    player.login_name = reader.str();
    if (protocol == 759 || protocol == 760) && reader.bool() {
        assert_eq!(kind, BackendKind::Keyed, "a key is in login start");
        player.login_key = Some(read_key(&mut reader));
    }
    if protocol >= 760 && (protocol >= 764 || reader.bool()) {
        player.login_id = Some(reader.uuid());
    }
    assert!(reader.0.is_empty());
    player.name = player.login_name.clone();
    match kind {
        BackendKind::Silent => {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            return None;
        }
        BackendKind::Online => {
            let packet = Out::id(1).str("").bytes(&[1; 162]).bytes(&[2; 4]);
            let packet = if protocol >= 766 { packet.bool(true) } else { packet };
            stream.write_all(&wire::frame(&packet.0, None)).await.ok()?;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            return None;
        }
        BackendKind::Plain => {}
        BackendKind::Keyed => {
            if let Some(id) = player.host.split('\0').nth(2) {
                player.id = Some(id.parse().unwrap());
            }
        }
        BackendKind::Modern { secret } => {
            let ask = Out::id(4).varint(7).str("velocity:player_info").raw(&[4]);
            stream.write_all(&wire::frame(&ask.0, None)).await.ok()?;
            let packet = wire::read_body(&mut stream, |_| {}).await?;
            let mut reader = In(&packet[1..]);
            assert_eq!((packet[0], reader.varint()), (2, 7));
            if !reader.bool() || !check_forwarding(reader.0, &secret, &mut player) {
                let json = r#"{"text":"Unable to verify player details"}"#;
                stream.write_all(&wire::frame(&Out::id(0).str(json).0, None)).await.ok()?;
                return None;
            }
        }
    }
    if let (Some(threshold), true) = (threshold, protocol >= 47) {
        let packet = Out::id(3).varint(threshold as i32);
        stream.write_all(&wire::frame(&packet.0, None)).await.ok()?;
    }
    let threshold = threshold.filter(|_| protocol >= 47);
    let success = success(protocol, &player);
    stream.write_all(&wire::frame(&success, threshold)).await.ok()?;
    let mut index = 0;
    seen.send_modify(|all| {
        index = all.len();
        all.push(player);
    });
    // Echo every frame, as a frame, until the player leaves. What comes together goes back together.
    let (read, write) = stream.split();
    let (mut read, mut write) = (BufReader::new(read), BufWriter::new(write));
    loop {
        if !wire::holds_frame(read.buffer()) {
            write.flush().await.ok()?;
            // Players who talk without end get their turns one after the other.
            tokio::task::yield_now().await;
        }
        let body = wire::read_body(&mut read, |_| {}).await?;
        let packet = wire::unframe(&body, threshold);
        seen.send_modify(|all| all[index].bytes += packet.len());
        if packet == [3] && protocol >= 764 {
            continue;
        }
        write.write_all(&wire::frame(&packet, threshold)).await.ok()?;
    }
}

fn check_forwarding(answer: &[u8], secret: &str, player: &mut Seen) -> bool {
    let (signature, data) = answer.split_at(32);
    let mut mac = <Hmac<Sha256>>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(data);
    if mac.verify_slice(signature).is_err() {
        return false;
    }
    let mut reader = In(data);
    player.version = reader.varint();
    assert!((1..=4).contains(&player.version));
    player.address = reader.str();
    player.id = Some(reader.uuid());
    player.name = reader.str();
    for _ in 0..reader.varint() {
        let (name, value) = (reader.str(), reader.str());
        if reader.bool() {
            reader.str();
        }
        if name == "textures" {
            player.skin = Some(value);
        }
    }
    if let 2 | 3 = player.version {
        let mut key = read_key(&mut reader);
        key.owner = (player.version == 3 && reader.bool()).then(|| reader.uuid());
        player.key = Some(key);
    }
    assert!(reader.0.is_empty());
    true
}

fn read_key(reader: &mut In<'_>) -> ForwardedKey {
    let expires = i64::from_be_bytes(reader.take(8).try_into().unwrap());
    let (der, signature) = (reader.bytes().to_vec(), reader.bytes().to_vec());
    ForwardedKey { expires, der, signature, owner: None }
}

/// Login success for that player, as the packet has it in that version.
pub fn success(protocol: i32, player: &Seen) -> Vec<u8> {
    let id = player.id.unwrap_or(Uuid::from_u128(0x0ff11e));
    let packet = match protocol {
        4 => Out::id(2).str(&id.simple().to_string()),
        5..735 => Out::id(2).str(&id.hyphenated().to_string()),
        _ => Out::id(2).raw(id.as_bytes()),
    };
    let mut packet = packet.str(&player.name);
    if protocol >= 759 {
        packet = match &player.skin {
            None => packet.varint(0),
            Some(skin) => packet.varint(1).str("textures").str(skin).bool(false),
        };
    }
    match protocol {
        766 | 767 => packet.bool(true).0,
        776.. => packet.raw(&[5; 16]).0,
        _ => packet.0,
    }
}
