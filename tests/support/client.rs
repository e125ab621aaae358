//! A scripted player.

use std::net::SocketAddr;

use cfb8::cipher::KeyIvInit;
use rsa::{Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use super::{
    player_keys::PlayerKey,
    session_server::SessionServer,
    wire::{self, In, Out},
};

#[derive(Clone, Debug)]
pub struct Player {
    pub name: String,
    pub id: Uuid,
    pub skin: String,
    /// Whether the session server knows it.
    pub premium: bool,
}

impl Player {
    pub fn new(name: &str) -> Self {
        let id = Uuid::from_bytes(Sha1::digest(name)[..16].try_into().unwrap());
        Self { name: name.to_owned(), id, skin: format!("skin-of-{name}"), premium: true }
    }

    /// Somebody who gives that name without owning the account.
    pub fn impostor(name: &str) -> Self {
        Self { id: Uuid::from_u128(0xbad), premium: false, ..Self::new(name) }
    }

    /// Somebody who gives name and id of that player without owning the account.
    pub fn thief(name: &str) -> Self {
        Self { premium: false, ..Self::new(name) }
    }
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    In {
        name: String,
        id: Uuid,
        /// The skin that login success carries, where it does.
        skin: Option<String>,
        encrypted: bool,
        /// Whether the client was asked to call the session server.
        authenticated: bool,
    },
    /// The text of the disconnect.
    Refused(String),
    /// The player's own call failed; it closed.
    HungUp,
    Closed,
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    pub protocol: i32,
    pub cipher: Option<(cfb8::Encryptor<aes::Aes128>, cfb8::Decryptor<aes::Aes128>)>,
    pub threshold: Option<usize>,
    /// Login plugin requests met, as (channel, payload); answered by this.
    pub on_plugin: Option<fn(&str, &[u8]) -> Option<Vec<u8>>>,
    /// The player's own key (759 and 760).
    pub key: Option<PlayerKey>,
}

impl Client {
    pub async fn connect(address: SocketAddr, protocol: i32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, protocol)
    }

    /// The same through a trusted proxy, which says that the client is at this address.
    pub async fn connect_from(source: &str, address: SocketAddr, protocol: i32) -> Self {
        let mut client = Self::connect(address, protocol).await;
        let family = if source.contains(':') { "TCP6" } else { "TCP4" };
        let target = if source.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        let header = format!("PROXY {family} {source} {target} 50000 25565\r\n");
        client.stream.write_all(header.as_bytes()).await.unwrap();
        client
    }

    /// Reads on until the proxy closes: every packet until then, and whether it closed between two packets and
    /// without a reset, not even one behind its last words: some systems throw those away then.
    pub async fn rest(&mut self) -> (Vec<Vec<u8>>, bool) {
        let mut packets = Vec::new();
        loop {
            match self.stream.peek(&mut [0]).await {
                Ok(0) => {
                    // Time for a reset on its heels: it is sent in the same breath, from the other end of loopback.
                    tokio::task::yield_now().await;
                    return (packets, self.stream.take_error().unwrap().is_none());
                }
                Ok(_) => match self.recv().await {
                    Some(packet) => packets.push(packet),
                    None => return (packets, false),
                },
                Err(_) => return (packets, false),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client at the other end of any stream.
    pub fn over(stream: S, protocol: i32) -> Self {
        Self { stream, protocol, cipher: None, threshold: None, on_plugin: None, key: None }
    }

    pub async fn send(&mut self, packet: Out) {
        let frame = wire::frame(&packet.0, self.threshold);
        self.send_raw(frame).await;
    }

    pub async fn send_raw(&mut self, mut bytes: Vec<u8>) {
        if let Some((encryptor, _)) = &mut self.cipher {
            encryptor.encrypt(&mut bytes);
        }
        // The proxy may have closed; the next read will tell.
        let _ = self.stream.write_all(&bytes).await;
    }

    /// The next packet; `None` once the connection is closed.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        let cipher = &mut self.cipher;
        let body = wire::read_body(&mut self.stream, |bytes| {
            if let Some((_, decryptor)) = cipher {
                decryptor.decrypt(bytes);
            }
        });
        Some(wire::unframe(&body.await?, self.threshold))
    }

    pub async fn handshake(&mut self, host: &str, intent: i32) {
        let packet = Out::id(0).varint(self.protocol).str(host).raw(&25565u16.to_be_bytes()).varint(intent);
        self.send(packet).await;
    }

    pub async fn login_start(&mut self, name: &str, id: Uuid) {
        let p = self.protocol;
        let mut packet = Out::id(0).str(name);
        if p == 759 || p == 760 {
            packet = packet.bool(self.key.is_some());
            if let Some(key) = &self.key {
                packet = packet.raw(&key.expires.to_be_bytes()).bytes(&key.der).bytes(&key.signature);
            }
        }
        if (760..764).contains(&p) {
            packet = packet.bool(true);
        }
        if p >= 760 {
            packet = packet.raw(id.as_bytes());
        }
        self.send(packet).await;
    }

    /// Switches the cipher on.
    pub fn encrypt(&mut self, secret: [u8; 16]) {
        let key = (&secret).into();
        self.cipher = Some((KeyIvInit::new(key, key), KeyIvInit::new(key, key)));
    }

    /// Answers an encryption request and switches the cipher on. Returns whether the client was to call the session
    /// server and could.
    pub async fn answer_encryption(
        &mut self,
        packet: &[u8],
        player: &Player,
        sessions: &SessionServer,
    ) -> Option<bool> {
        let mut reader = In(&packet[1..]);
        let server_id = reader.str();
        let (key, token) = if self.protocol < 47 {
            (reader.short_bytes(), reader.short_bytes())
        } else {
            (reader.bytes(), reader.bytes())
        };
        let authenticate = if self.protocol >= 766 { reader.bool() } else { true };
        assert!(reader.0.is_empty(), "bytes left over in encryption request");
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).unwrap();
        if authenticate {
            let digest =
                Sha1::new().chain_update(&server_id).chain_update(secret).chain_update(key).finalize();
            if !sessions.join(player, &java_hex(&digest)) {
                return None;
            }
        }
        let rsa = RsaPublicKey::from_public_key_der(key).unwrap();
        let encrypt = |bytes: &[u8]| rsa.encrypt(&mut rand_core::OsRng, Pkcs1v15Encrypt, bytes).unwrap();
        let (secret_box, token_box) = (encrypt(&secret), encrypt(token));
        let packet = match self.protocol {
            759 | 760 if self.key.as_ref().is_some_and(|key| key.signs) => {
                let signature = self.key.as_ref().unwrap().sign(token, 77);
                Out::id(1).bytes(&secret_box).bool(false).raw(&77i64.to_be_bytes()).bytes(&signature)
            }
            ..47 => Out::id(1).short_bytes(&secret_box).short_bytes(&token_box),
            759 | 760 => Out::id(1).bytes(&secret_box).bool(true).bytes(&token_box),
            _ => Out::id(1).bytes(&secret_box).bytes(&token_box),
        };
        self.send(packet).await;
        self.encrypt(secret);
        Some(authenticate)
    }

    /// The whole login, as a real client goes about it.
    pub async fn login(&mut self, player: &Player, sessions: &SessionServer) -> End {
        self.login_at("play.example.com", player, sessions).await
    }

    pub async fn login_at(&mut self, host: &str, player: &Player, sessions: &SessionServer) -> End {
        self.handshake(host, 2).await;
        self.login_start(&player.name, player.id).await;
        self.finish_login(player, sessions).await
    }

    /// What follows login start.
    pub async fn finish_login(&mut self, player: &Player, sessions: &SessionServer) -> End {
        let mut authenticated = false;
        loop {
            let Some(packet) = self.recv().await else { return End::Closed };
            let mut reader = In(&packet[1..]);
            match packet[0] {
                0 => return End::Refused(plain(&reader.str())),
                1 => match self.answer_encryption(&packet, player, sessions).await {
                    Some(asked) => authenticated = asked,
                    None => return End::HungUp,
                },
                2 => {
                    let (name, id, skin) = read_success(self.protocol, reader);
                    if self.protocol >= 764 {
                        self.send(Out::id(3)).await;
                    }
                    return End::In { name, id, skin, encrypted: self.cipher.is_some(), authenticated };
                }
                3 => {
                    let threshold = reader.varint();
                    self.threshold = usize::try_from(threshold).ok();
                }
                4 => {
                    let message = reader.varint();
                    let channel = reader.str();
                    let answer = self.on_plugin.and_then(|answer| answer(&channel, reader.0));
                    let packet = Out::id(2).varint(message).bool(answer.is_some());
                    self.send(packet.raw(&answer.unwrap_or_default())).await;
                }
                other => panic!("packet {other:#x} in login"),
            }
        }
    }

    /// Asks for the server list answer.
    pub async fn status(&mut self, host: &str) -> serde_json::Value {
        self.handshake(host, 1).await;
        self.send(Out::id(0)).await;
        let packet = self.recv().await.expect("a status answer");
        serde_json::from_str(&In(&packet[1..]).str()).unwrap()
    }
}

fn read_success(protocol: i32, mut reader: In<'_>) -> (String, Uuid, Option<String>) {
    let id = if protocol < 735 { Uuid::parse_str(&reader.str()).unwrap() } else { reader.uuid() };
    let name = reader.str();
    let mut skin = None;
    if protocol >= 759 {
        for _ in 0..reader.varint() {
            let (property, value) = (reader.str(), reader.str());
            if reader.bool() {
                reader.str();
            }
            if property == "textures" {
                skin = Some(value);
            }
        }
    }
    match protocol {
        766 | 767 => assert!(reader.bool()),
        776.. => {
            reader.uuid();
        }
        _ => {}
    }
    assert!(reader.0.is_empty(), "bytes left over in login success");
    (name, id, skin)
}

/// The characters of a JSON component.
pub fn plain(json: &str) -> String {
    fn walk(value: &serde_json::Value, out: &mut String) {
        match value {
            serde_json::Value::String(text) => out.push_str(text),
            serde_json::Value::Object(map) => {
                if let Some(text) = map.get("text") {
                    walk(text, out);
                }
                for extra in map.get("extra").and_then(|e| e.as_array()).into_iter().flatten() {
                    walk(extra, out);
                }
            }
            _ => {}
        }
    }
    let mut out = String::new();
    walk(&serde_json::from_str(json).unwrap(), &mut out);
    out
}

/// Java's `new BigInteger(digest).toString(16)`.
fn java_hex(digest: &[u8]) -> String {
    let mut value = i128::from_be_bytes(digest[..16].try_into().unwrap());
    let low = u32::from_be_bytes(digest[16..20].try_into().unwrap());
    let negative = value < 0;
    let mut low = low;
    if negative {
        let (l, borrow) = (!low).overflowing_add(1);
        low = l;
        value = (!value).wrapping_add(i128::from(borrow));
    }
    let text = format!("{:032x}{low:08x}", value as u128);
    let text = text.trim_start_matches('0');
    format!("{}{text}", if negative { "-" } else { "" })
}
