//! Players and a backend in the world: what is said there, what is shown, and what the backend got to see.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::{
    Client,
    backend::{Seen, success},
    client::plain,
    scene::until,
    wire::{self, In, Out},
};

/// Packet ids of one release, from minecraft-data, and the forms of what is said.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    pub protocol: i32,
    /// Towards the client.
    pub join: u8,
    /// The line in chat that nobody says: a chat message up to 1.18.2.
    pub line: u8,
    pub kick: u8,
    /// The packet with the line above the hotbar.
    pub bar: u8,
    /// What others say, from 1.19 on.
    pub player_chat: Option<u8>,
    /// The command tree, from 1.13 on.
    pub tree: Option<u8>,
    pub plugin: u8,
    /// Towards the backend.
    pub chat: u8,
    /// From 1.19 on.
    pub command: Option<u8>,
    /// From 1.20.5 on.
    pub signed_command: Option<u8>,
    /// The acknowledgement of what was seen, from 1.19.3 on.
    pub acknowledge: Option<u8>,
    pub suggest: u8,
    pub arm: u8,
    /// The end of configuration, the same both ways, and its disconnect.
    pub finish: Option<(u8, u8)>,
}

#[rustfmt::skip]
const TABLE: &[Ids] = &[
    Ids { protocol: 47, join: 0x01, line: 0x02, kick: 0x40, bar: 0x02, player_chat: None, tree: None, plugin: 0x3f, chat: 0x01, command: None, signed_command: None, acknowledge: None, suggest: 0x14, arm: 0x0a, finish: None },
    Ids { protocol: 340, join: 0x23, line: 0x0f, kick: 0x1a, bar: 0x48, player_chat: None, tree: None, plugin: 0x18, chat: 0x02, command: None, signed_command: None, acknowledge: None, suggest: 0x01, arm: 0x1d, finish: None },
    Ids { protocol: 578, join: 0x26, line: 0x0f, kick: 0x1b, bar: 0x50, player_chat: None, tree: Some(0x12), plugin: 0x19, chat: 0x03, command: None, signed_command: None, acknowledge: None, suggest: 0x06, arm: 0x2a, finish: None },
    Ids { protocol: 754, join: 0x24, line: 0x0e, kick: 0x19, bar: 0x4f, player_chat: None, tree: Some(0x10), plugin: 0x17, chat: 0x03, command: None, signed_command: None, acknowledge: None, suggest: 0x06, arm: 0x2c, finish: None },
    Ids { protocol: 758, join: 0x26, line: 0x0f, kick: 0x1a, bar: 0x41, player_chat: None, tree: Some(0x12), plugin: 0x18, chat: 0x03, command: None, signed_command: None, acknowledge: None, suggest: 0x06, arm: 0x2c, finish: None },
    Ids { protocol: 759, join: 0x23, line: 0x5f, kick: 0x17, bar: 0x40, player_chat: Some(0x30), tree: Some(0x0f), plugin: 0x15, chat: 0x04, command: Some(0x03), signed_command: None, acknowledge: None, suggest: 0x08, arm: 0x2e, finish: None },
    Ids { protocol: 760, join: 0x25, line: 0x62, kick: 0x19, bar: 0x43, player_chat: Some(0x33), tree: Some(0x0f), plugin: 0x16, chat: 0x05, command: Some(0x04), signed_command: None, acknowledge: None, suggest: 0x09, arm: 0x2f, finish: None },
    Ids { protocol: 761, join: 0x24, line: 0x60, kick: 0x17, bar: 0x42, player_chat: Some(0x31), tree: Some(0x0e), plugin: 0x15, chat: 0x05, command: Some(0x04), signed_command: None, acknowledge: Some(0x03), suggest: 0x08, arm: 0x2f, finish: None },
    Ids { protocol: 763, join: 0x28, line: 0x64, kick: 0x1a, bar: 0x46, player_chat: Some(0x35), tree: Some(0x10), plugin: 0x17, chat: 0x05, command: Some(0x04), signed_command: None, acknowledge: Some(0x03), suggest: 0x09, arm: 0x2f, finish: None },
    Ids { protocol: 765, join: 0x29, line: 0x69, kick: 0x1b, bar: 0x4a, player_chat: Some(0x37), tree: Some(0x11), plugin: 0x18, chat: 0x05, command: Some(0x04), signed_command: None, acknowledge: Some(0x03), suggest: 0x0a, arm: 0x33, finish: Some((0x02, 0x01)) },
    Ids { protocol: 767, join: 0x2b, line: 0x6c, kick: 0x1d, bar: 0x4c, player_chat: Some(0x39), tree: Some(0x11), plugin: 0x19, chat: 0x06, command: Some(0x04), signed_command: Some(0x05), acknowledge: Some(0x03), suggest: 0x0b, arm: 0x36, finish: Some((0x03, 0x02)) },
    Ids { protocol: 769, join: 0x2c, line: 0x73, kick: 0x1d, bar: 0x51, player_chat: Some(0x3b), tree: Some(0x11), plugin: 0x19, chat: 0x07, command: Some(0x05), signed_command: Some(0x06), acknowledge: Some(0x04), suggest: 0x0d, arm: 0x3a, finish: Some((0x03, 0x02)) },
    Ids { protocol: 774, join: 0x30, line: 0x77, kick: 0x20, bar: 0x55, player_chat: Some(0x3f), tree: Some(0x10), plugin: 0x18, chat: 0x08, command: Some(0x06), signed_command: Some(0x07), acknowledge: Some(0x05), suggest: 0x0e, arm: 0x3c, finish: Some((0x03, 0x02)) },
];

/// The releases of these tests that have no dialogs.
pub const WITHOUT_DIALOGS: &[i32] = &[47, 340, 578, 754, 758, 759, 760, 761, 763, 765, 767, 769];

impl Ids {
    pub fn of(protocol: i32) -> Self {
        *TABLE.iter().find(|ids| ids.protocol == protocol).unwrap_or_else(|| panic!("no ids for {protocol}"))
    }

    /// What a client sends when its player types that.
    pub fn typed(&self, text: &str) -> Out {
        const TIME_AND_SALT: [u8; 16] = [7; 16];
        let Some(command) = self.command else { return Out::id(self.chat).str(text) };
        let behind = |packet: Out| match self.protocol {
            759 => packet.bool(false),
            760 => packet.bool(false).varint(0).bool(false),
            // Nothing seen since, nothing acknowledged.
            761..770 => packet.varint(0).raw(&[0; 3]),
            _ => packet.varint(0).raw(&[0; 4]),
        };
        match text.strip_prefix('/') {
            Some(text) if self.signed_command.is_some() => Out::id(command).str(text),
            Some(text) => behind(Out::id(command).str(text).raw(&TIME_AND_SALT).varint(0)),
            None => {
                let packet = Out::id(self.chat).str(text).raw(&TIME_AND_SALT);
                // Unsigned.
                behind(if self.protocol < 761 { packet.varint(0) } else { packet.bool(false) })
            }
        }
    }

    /// Chat as a client sends it that signs what it says, from 1.19 on.
    pub fn signed(&self, text: &str) -> Out {
        assert!(self.protocol >= 759 && !text.starts_with('/'), "{} {text}", self.protocol);
        let packet = Out::id(self.chat).str(text).raw(&[7; 16]);
        let signature = [9; 256];
        match self.protocol {
            759 => packet.bytes(&signature).bool(false),
            760 => packet.bytes(&signature).bool(false).varint(0).bool(false),
            761..770 => packet.bool(true).raw(&signature).varint(0).raw(&[0; 3]),
            _ => packet.bool(true).raw(&signature).varint(0).raw(&[0; 4]),
        }
    }

    /// What the backend says in chat, as a line that nobody says.
    pub fn line(&self, text: &str) -> Out {
        let packet = Out::id(self.line);
        let json = format!(r#"{{"text":"{text}"}}"#);
        match self.protocol {
            ..5 => packet.str(&json),
            5..735 => packet.str(&json).raw(&[1]),
            735..759 => packet.str(&json).raw(&[1]).raw(&[0; 16]),
            759 => packet.str(&json).varint(1),
            760..765 => packet.str(&json).bool(false),
            _ => packet.raw(&[8]).short_bytes(text.as_bytes()).bool(false),
        }
    }
}

/// What a client is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A line in chat.
    Line(String),
    /// The line above the hotbar.
    Bar(String),
    /// It is told why it has to go.
    Kicked(String),
    /// The connection is closed.
    Closed,
    /// Any other packet.
    Other(Vec<u8>),
}

/// A player in the world.
pub struct Resident<S = TcpStream> {
    pub client: Client<S>,
    pub ids: Ids,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Resident<S> {
    /// Goes from login success into the world.
    pub async fn enter(mut client: Client<S>) -> Self {
        let ids = Ids::of(client.protocol);
        if let Some((finish, _)) = ids.finish {
            while client.recv().await.expect("configuration")[0] != finish {}
            client.send(Out::id(finish)).await;
        }
        while client.recv().await.expect("the world")[0] != ids.join {}
        Self { client, ids }
    }

    pub async fn say(&mut self, text: &str) {
        self.client.send(self.ids.typed(text)).await;
    }

    /// What comes next. No text has a placeholder left in it.
    pub async fn next(&mut self) -> Shown {
        let shown = self.shown().await;
        if let Shown::Line(text) | Shown::Bar(text) | Shown::Kicked(text) = &shown {
            assert!(!text.contains('%'), "{text}");
        }
        shown
    }

    async fn shown(&mut self) -> Shown {
        let Some(packet) = self.client.recv().await else { return Shown::Closed };
        let ids = self.ids;
        let mut reader = In(&packet[1..]);
        let id = packet[0];
        if id == ids.kick {
            return Shown::Kicked(component(ids.protocol, &mut reader));
        }
        if id == ids.line {
            let text = component(ids.protocol, &mut reader);
            let above = match ids.protocol {
                ..5 => false,
                5..759 => reader.u8() == 2,
                759 => reader.varint() == 2,
                _ => reader.bool(),
            };
            return if above { Shown::Bar(text) } else { Shown::Line(text) };
        }
        if id == ids.bar {
            if ids.protocol < 755 {
                assert_eq!(reader.varint(), 2, "above the hotbar");
            }
            return Shown::Bar(component(ids.protocol, &mut reader));
        }
        Shown::Other(packet)
    }

    /// The next line in chat, passing over all else that is shown. Prompts are asked for by [`Resident::until`].
    pub async fn line(&mut self) -> String {
        loop {
            match self.next().await {
                Shown::Line(text) => return text,
                Shown::Bar(_) | Shown::Other(_) => {}
                end => panic!("a line was to come: {end:?}"),
            }
        }
    }

    /// Waits for a line that holds this.
    pub async fn until(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Shown::Line(text) if text.contains(part) => return text,
                Shown::Kicked(_) | Shown::Closed => panic!("{part:?} was to come, not the end: {before:?}"),
                shown => before.push(shown),
            }
        }
    }

    /// The text with which the player has to go.
    pub async fn kicked(&mut self) -> String {
        loop {
            match self.next().await {
                Shown::Kicked(text) => return text,
                Shown::Closed => panic!("closed without a word"),
                _ => {}
            }
        }
    }

    /// Says something that the backend has to answer, and waits for the answer: whatever was sent before has been seen
    /// by then.
    pub async fn echo(&mut self) -> Vec<String> {
        self.client.send(Out::id(self.ids.chat).str("echo").raw(&self.tail())).await;
        let mut lines = Vec::new();
        loop {
            match self.line().await {
                text if text == "echoed" => return lines,
                text => lines.push(text),
            }
        }
    }

    /// What stands behind the text of unsigned chat.
    fn tail(&self) -> Vec<u8> {
        self.ids.typed("echo").0.split_off(1 + 1 + 4)
    }
}

/// The characters of a component as this release has it.
fn component(protocol: i32, reader: &mut In<'_>) -> String {
    if protocol < 765 { plain(&reader.str()) } else { nbt_text(reader) }
}

/// The characters of a component in nameless NBT.
fn nbt_text(reader: &mut In<'_>) -> String {
    fn text(reader: &mut In<'_>) -> String {
        String::from_utf8(reader.short_bytes().to_vec()).unwrap()
    }
    fn payload(tag: u8, reader: &mut In<'_>, is_text: bool, out: &mut String) {
        match tag {
            1 => drop(reader.take(1)),
            8 => {
                let text = text(reader);
                if is_text {
                    out.push_str(&text);
                }
            }
            9 => {
                let (tag, count) = (reader.u8(), u32::from_be_bytes(reader.take(4).try_into().unwrap()));
                for _ in 0..count {
                    payload(tag, reader, true, out);
                }
            }
            10 => loop {
                let tag = reader.u8();
                if tag == 0 {
                    return;
                }
                let name = text(reader);
                payload(tag, reader, name == "text", out);
            },
            other => panic!("tag {other} in a text"),
        }
    }
    let mut out = String::new();
    let tag = reader.u8();
    payload(tag, reader, true, &mut out);
    out
}

/// A backend in which players get into the world. It asks for no forwarding.
#[derive(Clone)]
pub struct World {
    pub address: SocketAddr,
    /// By name: what came from the player since login success, whole packets.
    got: Arc<watch::Sender<HashMap<String, Vec<Vec<u8>>>>>,
    /// By name: the way to the newest connection.
    lines: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Vec<u8>>>>>,
}

const THRESHOLD: usize = 256;

impl World {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Self { address, got: Arc::default(), lines: Arc::default() };
        let serving = world.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        world
    }

    /// What came of that player so far.
    pub fn got(&self, name: &str) -> Vec<Vec<u8>> {
        self.got.borrow().get(name).cloned().unwrap_or_default()
    }

    /// Whether any player ever came by that name.
    pub fn met(&self, name: &str) -> bool {
        self.got.borrow().contains_key(name)
    }

    /// Waits until such a packet came of that player.
    pub async fn until(&self, name: &str, fits: impl Fn(&[u8]) -> bool) {
        let mut got = self.got.subscribe();
        let came = |got: &HashMap<String, Vec<Vec<u8>>>| {
            got.get(name).is_some_and(|got| got.iter().any(|packet| fits(packet)))
        };
        got.wait_for(came).await.unwrap();
    }

    /// Sends a packet to that player.
    pub fn send(&self, name: &str, packet: Out) {
        let frame = wire::frame(&packet.0, Some(THRESHOLD));
        // The player may have left.
        let _ = self.lines.lock().unwrap().get(name).expect("a player who was here").send(frame);
    }

    /// Waits until that player has left. The proxy closes this side with the rest of what it kept of the player.
    pub async fn left(&self, name: &str) {
        until(|| !self.lines.lock().unwrap().contains_key(name)).await;
    }

    /// Closes the connection of that player.
    pub fn hang_up(&self, name: &str) {
        // A frame is never empty.
        let _ = self.lines.lock().unwrap().get(name).expect("a player who was here").send(Vec::new());
    }

    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let packet = wire::read_body(&mut stream, |_| {}).await?;
        let mut reader = In(&packet[1..]);
        let protocol = reader.varint();
        reader.str();
        reader.take(2);
        if reader.varint() == 1 {
            return None;
        }
        let ids = Ids::of(protocol);
        let packet = wire::read_body(&mut stream, |_| {}).await?;
        let name = In(&packet[1..]).str();
        self.got.send_modify(|got| {
            got.entry(name.clone()).or_default();
        });
        let packet = Out::id(3).varint(THRESHOLD as i32);
        stream.write_all(&wire::frame(&packet.0, None)).await.ok()?;
        let threshold = Some(THRESHOLD);
        let seen = Seen { name: name.clone(), ..Seen::default() };
        stream.write_all(&wire::frame(&success(protocol, &seen), threshold)).await.ok()?;
        let (mut read, mut write) = stream.into_split();
        if let Some((finish, _)) = ids.finish {
            let read = &mut read;
            let acknowledged = wire::unframe(&wire::read_body(read, |_| {}).await?, threshold);
            assert_eq!(acknowledged, [3], "login acknowledged");
            write.write_all(&wire::frame(&[finish], threshold)).await.ok()?;
            loop {
                let packet = wire::unframe(&wire::read_body(read, |_| {}).await?, threshold);
                if packet == [finish] {
                    break;
                }
                self.note(&name, packet);
            }
        }
        // What stands behind the id does not matter to anybody here.
        write.write_all(&wire::frame(&Out::id(ids.join).raw(&[0; 400]).0, threshold)).await.ok()?;
        let (line, mut waiting) = mpsc::unbounded_channel::<Vec<u8>>();
        self.lines.lock().unwrap().insert(name.clone(), line.clone());
        tokio::spawn(async move {
            while let Some(frame) = waiting.recv().await {
                if frame.is_empty() || write.write_all(&frame).await.is_err() {
                    // Closed with the writing half.
                    return;
                }
            }
        });
        while let Some(body) = wire::read_body(&mut read, |_| {}).await {
            let packet = wire::unframe(&body, threshold);
            let is_echo = packet[0] == ids.chat && packet[1..].starts_with(b"\x04echo");
            if is_echo {
                self.send(&name, ids.line("echoed"));
            } else {
                self.note(&name, packet);
            }
        }
        // The player has left: this side is closed as well, unless it is back already.
        self.lines.lock().unwrap().retain(|_, other| !other.same_channel(&line));
        None
    }

    fn note(&self, name: &str, packet: Vec<u8>) {
        self.got.send_modify(|got| got.entry(name.to_owned()).or_default().push(packet));
    }
}
