//! The packets of the play state in which players talk, release by release.

use postern::{protocol::pin_command::PinCommand, relay::Heard};
use secrecy::ExposeSecret;

use super::*;

/// Ids of the play state, written down from the tables of game data: towards the client Join Game, the tree of commands,
/// a plugin message, chat of players; from the client a chat line, a command, one that may be signed, a request for
/// suggestions, a chat acknowledgement, a plugin message, a movement.
pub(super) struct Play {
    pub(super) protocol: i32,
    pub(super) login: u8,
    pub(super) tree: Option<u8>,
    pub(super) plugin_down: u8,
    /// Signed ones, disguised ones, and those taken back, from the first release that counts signed lines on.
    pub(super) chat_down: Option<[u8; 3]>,
    pub(super) chat: u8,
    pub(super) command: Option<u8>,
    pub(super) signed_command: Option<u8>,
    pub(super) suggestions: u8,
    pub(super) ack: Option<u8>,
    pub(super) plugin: u8,
    pub(super) movement: u8,
    /// What else may pass while the client is held.
    pub(super) allowed: &'static [u8],
    pub(super) reconfiguration: Option<Reconfiguration>,
}

/// In play: start of configuration, its acknowledgement. In configuration: finish, its acknowledgement, plugin message
/// of either side; what else may pass.
pub(super) struct Reconfiguration {
    pub(super) start: u8,
    pub(super) acknowledged: u8,
    pub(super) finish: u8,
    pub(super) finished: u8,
    pub(super) plugin: u8,
    pub(super) plugin_down: u8,
    pub(super) allowed: &'static [u8],
}

pub(super) const EARLY: Option<Reconfiguration> = None;
pub(super) const fn of_764(start: u8) -> Reconfiguration {
    let allowed = &[0, 3, 4, 5];
    Reconfiguration { start, acknowledged: 0x0b, finish: 2, finished: 2, plugin: 1, plugin_down: 0, allowed }
}
pub(super) const fn of_766(start: u8, acknowledged: u8) -> Reconfiguration {
    let allowed = &[0, 1, 4, 5, 6, 7];
    Reconfiguration { start, acknowledged, finish: 3, finished: 3, plugin: 2, plugin_down: 1, allowed }
}

#[rustfmt::skip]
pub(super) const PLAYS: [Play; 15] = [
    Play { protocol: 47, login: 0x01, tree: None, plugin_down: 0x3f, chat_down: None, chat: 0x01, command: None,
        signed_command: None, suggestions: 0x14, ack: None, plugin: 0x17, movement: 0x04,
        allowed: &[0x0f, 0x15, 0x00, 0x19], reconfiguration: EARLY },
    Play { protocol: 340, login: 0x23, tree: None, plugin_down: 0x18, chat_down: None, chat: 0x02, command: None,
        signed_command: None, suggestions: 0x01, ack: None, plugin: 0x09, movement: 0x0d,
        allowed: &[0x00, 0x05, 0x04, 0x0b, 0x18], reconfiguration: EARLY },
    Play { protocol: 393, login: 0x25, tree: Some(0x11), plugin_down: 0x19, chat_down: None, chat: 0x02, command: None,
        signed_command: None, suggestions: 0x05, ack: None, plugin: 0x0a, movement: 0x10,
        allowed: &[0x00, 0x06, 0x04, 0x0e, 0x1d], reconfiguration: EARLY },
    Play { protocol: 758, login: 0x26, tree: Some(0x12), plugin_down: 0x18, chat_down: None, chat: 0x03, command: None,
        signed_command: None, suggestions: 0x06, ack: None, plugin: 0x0a, movement: 0x11,
        allowed: &[0x00, 0x05, 0x0f, 0x1d, 0x21], reconfiguration: EARLY },
    Play { protocol: 759, login: 0x23, tree: Some(0x0f), plugin_down: 0x15, chat_down: None, chat: 0x04,
        command: Some(0x03), signed_command: None, suggestions: 0x08, ack: None, plugin: 0x0c, movement: 0x13,
        allowed: &[0x00, 0x07, 0x11, 0x1f, 0x23], reconfiguration: EARLY },
    Play { protocol: 760, login: 0x25, tree: Some(0x0f), plugin_down: 0x16, chat_down: None, chat: 0x05,
        command: Some(0x04), signed_command: None, suggestions: 0x09, ack: None, plugin: 0x0d, movement: 0x14,
        allowed: &[0x00, 0x03, 0x08, 0x12, 0x20, 0x24], reconfiguration: EARLY },
    Play { protocol: 761, login: 0x24, tree: Some(0x0e), plugin_down: 0x15, chat_down: Some([0x31, 0x18, 0x16]),
        chat: 0x05, command: Some(0x04), signed_command: None, suggestions: 0x08, ack: Some(0x03), plugin: 0x0c,
        movement: 0x13, allowed: &[0x00, 0x03, 0x20, 0x07, 0x11, 0x1f, 0x24], reconfiguration: EARLY },
    Play { protocol: 763, login: 0x28, tree: Some(0x10), plugin_down: 0x17, chat_down: Some([0x35, 0x1b, 0x19]),
        chat: 0x05, command: Some(0x04), signed_command: None, suggestions: 0x09, ack: Some(0x03), plugin: 0x0d,
        movement: 0x14, allowed: &[0x00, 0x03, 0x06, 0x08, 0x12, 0x20, 0x24], reconfiguration: EARLY },
    Play { protocol: 764, login: 0x29, tree: Some(0x11), plugin_down: 0x18, chat_down: Some([0x37, 0x1c, 0x1a]),
        chat: 0x05, command: Some(0x04), signed_command: None, suggestions: 0x0a, ack: Some(0x03), plugin: 0x0f,
        movement: 0x16, allowed: &[0x00, 0x03, 0x06, 0x07, 0x09, 0x14, 0x23, 0x27], reconfiguration: Some(of_764(0x65)) },
    Play { protocol: 765, login: 0x29, tree: Some(0x11), plugin_down: 0x18, chat_down: Some([0x37, 0x1c, 0x1a]),
        chat: 0x05, command: Some(0x04), signed_command: None, suggestions: 0x0a, ack: Some(0x03), plugin: 0x10,
        movement: 0x17, allowed: &[0x00, 0x03, 0x06, 0x07, 0x09, 0x15, 0x24, 0x28], reconfiguration: Some(of_764(0x67)) },
    Play { protocol: 766, login: 0x2b, tree: Some(0x11), plugin_down: 0x19, chat_down: Some([0x39, 0x1e, 0x1c]),
        chat: 0x06, command: Some(0x04), signed_command: Some(0x05), suggestions: 0x0b, ack: Some(0x03), plugin: 0x12,
        movement: 0x1a, allowed: &[0x00, 0x03, 0x07, 0x08, 0x0a, 0x11, 0x18, 0x27, 0x2b],
        reconfiguration: Some(of_766(0x69, 0x0c)) },
    Play { protocol: 769, login: 0x2c, tree: Some(0x11), plugin_down: 0x19, chat_down: Some([0x3b, 0x1e, 0x1c]),
        chat: 0x07, command: Some(0x05), signed_command: Some(0x06), suggestions: 0x0d, ack: Some(0x04), plugin: 0x14,
        movement: 0x1c, allowed: &[0x00, 0x04, 0x08, 0x09, 0x0c, 0x13, 0x1a, 0x2a, 0x2b, 0x2f, 0x0b],
        reconfiguration: Some(of_766(0x70, 0x0e)) },
    Play { protocol: 770, login: 0x2b, tree: Some(0x10), plugin_down: 0x18, chat_down: Some([0x3a, 0x1d, 0x1b]),
        chat: 0x07, command: Some(0x05), signed_command: Some(0x06), suggestions: 0x0d, ack: Some(0x04), plugin: 0x14,
        movement: 0x1c, allowed: &[0x00, 0x04, 0x08, 0x09, 0x0c, 0x13, 0x1a, 0x2a, 0x2b, 0x2f, 0x0b],
        reconfiguration: Some(of_766(0x6f, 0x0e)) },
    Play { protocol: 774, login: 0x30, tree: Some(0x10), plugin_down: 0x18, chat_down: Some([0x3f, 0x21, 0x1f]),
        chat: 0x08, command: Some(0x06), signed_command: Some(0x07), suggestions: 0x0e, ack: Some(0x05), plugin: 0x15,
        movement: 0x1d, allowed: &[], reconfiguration: Some(of_766(0x74, 0x0f)) },
    Play { protocol: 777, login: 0x32, tree: Some(0x10), plugin_down: 0x18, chat_down: Some([0x42, 0x21, 0x1f]),
        chat: 0x09, command: Some(0x07), signed_command: Some(0x08), suggestions: 0x0f, ack: Some(0x06), plugin: 0x16,
        movement: 0x1e, allowed: &[], reconfiguration: Some(of_766(0x78, 0x10)) },
];

/// Only these are ever held in play: newer clients are asked before a backend sees them.
pub(super) fn held_plays() -> impl Iterator<Item = &'static Play> {
    PLAYS.iter().filter(|play| play.protocol < 771)
}

pub(super) fn text(words: &str) -> Vec<u8> {
    [&varint(words.len(), 1), words.as_bytes()].concat()
}

impl Play {
    pub(super) fn is_counted(&self) -> bool {
        self.ack.is_some()
    }

    pub(super) fn dialect(&self) -> Dialect {
        Dialect::of(ProtocolVersion(self.protocol))
    }

    /// What a chat line or signed command ends with: how many lines were seen, which.
    pub(super) fn seen(&self, count: u8) -> Vec<u8> {
        match self.protocol {
            ..=758 => vec![],
            759 => vec![0],
            760 => vec![0, 0, 0],
            761..770 => vec![count, 0, 0, 0],
            _ => vec![count, 0, 0, 0, 1],
        }
    }

    /// A chat line.
    pub(super) fn says(&self, words: &str, signed: bool, count: u8) -> Vec<u8> {
        let signature = match (self.protocol, signed) {
            (..=758, _) => return [&[self.chat][..], &text(words)].concat(),
            (759 | 760, true) => [&varint(256, 1), &[7; 256][..]].concat(),
            (_, true) => [&[1][..], &[7; 256]].concat(),
            (_, false) => vec![0],
        };
        [&[self.chat][..], &text(words), &[9; 16], &signature, &self.seen(count)].concat()
    }

    /// A command, without its slash; in the packet that may be signed if there are two kinds and it is `signed`.
    pub(super) fn commands(&self, words: &str, signed: bool, count: u8) -> Vec<u8> {
        let Some(mut id) = self.command else {
            let spaces = words.len() - words.trim_start().len();
            return self.says(&format!("{}/{}", " ".repeat(spaces), words.trim_start()), false, 0);
        };
        if let Some(signed_command) = self.signed_command {
            if !signed {
                return [&[id][..], &text(words)].concat();
            }
            id = signed_command;
        }
        let signatures = match (self.protocol, signed) {
            (_, false) => vec![0],
            (759 | 760, true) => [&[1][..], &text("msg"), &varint(256, 1), &[7; 256]].concat(),
            (_, true) => [&[1][..], &text("msg"), &[7; 256]].concat(),
        };
        [&[id][..], &text(words), &[9; 16], &signatures, &self.seen(count)].concat()
    }

    pub(super) fn asks_for_suggestions(&self, words: &str) -> Vec<u8> {
        match self.protocol {
            47 => [&[self.suggestions][..], &text(words), &[0]].concat(),
            340 => [&[self.suggestions][..], &text(words), &[0, 0]].concat(),
            _ => [&[self.suggestions, 5][..], &text(words)].concat(),
        }
    }

    pub(super) fn acknowledges(&self, count: u8) -> Vec<u8> {
        vec![self.ack.unwrap(), count]
    }

    pub(super) fn tree(&self, nodes: &[u8], root: u8) -> Vec<u8> {
        // Three nodes; of the first, the root, one child.
        [&[self.tree.unwrap(), 3, 0, 1, 1][..], nodes, &[1, root]].concat()
    }

    /// Somebody's line as the server passes it on.
    pub(super) fn player_chat(&self, words: &str, signature: Option<u8>) -> Vec<u8> {
        let [id, ..] = self.chat_down.unwrap();
        let mut packet = vec![id];
        if self.protocol >= 770 {
            packet.push(3);
        }
        // Who, and its number.
        packet.extend([[0x11; 16].as_slice(), &[4]].concat());
        match signature {
            Some(byte) => packet.extend([&[1][..], &[byte; 256]].concat()),
            None => packet.push(0),
        }
        packet.extend([&text(words), &[9; 16][..], &[0, 0, 0]].concat());
        // The chat type, the name, nobody it goes to.
        packet.push(1);
        packet.extend(self.component("Somebody"));
        packet.push(0);
        packet
    }

    pub(super) fn component(&self, words: &str) -> Vec<u8> {
        if self.protocol < 765 {
            text(&format!("{{\"text\":\"{words}\"}}"))
        } else {
            [&[8, 0, words.len() as u8][..], words.as_bytes()].concat()
        }
    }

    pub(super) fn setup(&self, how: How, terms: Terms) -> Setup {
        Setup { terms, encrypted: true, ..setup(self.protocol, how) }
    }

    /// Through configuration, if there is one, into the world.
    pub(super) async fn enter(&self, rig: &mut Rig, how: How) {
        if let Some(configuration) = &self.reconfiguration {
            rig.up(&frame(&[3], how)).await;
            self.finish(rig, configuration, how).await;
        }
        self.join(rig, how).await;
    }

    pub(super) async fn finish(&self, rig: &mut Rig, configuration: &Reconfiguration, how: How) {
        rig.down(&frame(&[configuration.finish], how)).await;
        rig.up(&frame(&[configuration.finished], how)).await;
    }

    pub(super) async fn join(&self, rig: &mut Rig, how: How) {
        rig.down(&frame(&[&[self.login][..], &[0x55; 300]].concat(), how)).await;
    }

    /// Back into configuration, and into the world anew.
    pub(super) async fn start_anew(&self, rig: &mut Rig, how: How) {
        let configuration = self.reconfiguration.as_ref().unwrap();
        rig.down(&frame(&[configuration.start], how)).await;
        rig.up(&frame(&[configuration.acknowledged], how)).await;
        self.finish(rig, configuration, how).await;
        self.join(rig, how).await;
    }
}

pub(super) const PINS: Terms = Terms { pins: true, ..TERMS };
pub(super) const HELD: Terms = Terms { held: true, ..PINS };

/// Frames of our own: short ones are not compressed.
pub(super) fn ours(packet: &[u8], how: How) -> Vec<u8> {
    frame(packet, if matches!(how, How::Plain) { How::Plain } else { How::Stored })
}

pub(super) fn heard_command(heard: Heard) -> (PinCommand, String) {
    match heard {
        Heard::Command(typed) => (typed.command, typed.words.expose_secret().to_owned()),
        Heard::Unsaid => panic!("nothing was unsaid"),
    }
}

impl Rig {
    /// The client sends, the backend gets something else, and nothing more before a packet that it must get.
    pub(super) async fn up_becomes(&mut self, play: &Play, sent: &[u8], got: &[u8], how: How) {
        let last = frame(&[&[play.movement][..], &[0x22; 30]].concat(), how);
        self.client.send(&[sent, &last].concat()).await;
        let expected = [got, &last].concat();
        let name = format!("{} {how:?}", play.protocol);
        let got = timeout(Duration::from_secs(5), self.backend_reads(expected.len())).await;
        assert!(got.expect(&name) == expected, "{name}");
    }

    /// The backend sends, the client gets something else, and nothing more before a packet that it must get.
    pub(super) async fn down_becomes(&mut self, sent: &[u8], got: &[u8], how: How, name: &str) {
        let last = frame(&[0x7e; 33], how);
        self.backend.write_all(&[sent, &last].concat()).await.unwrap();
        let expected = [got, &last].concat();
        let got = timeout(Duration::from_secs(5), self.client.read(expected.len())).await;
        assert!(got.expect(name) == expected, "{name}");
    }

    /// What the client gets, up to so many whole frames.
    pub(super) async fn client_frames(&mut self, count: usize, threshold: Option<usize>) -> Vec<u8> {
        let mut got = Vec::new();
        while split(&got, threshold).0.len() < count {
            let mut room = vec![0; 20_000];
            let len = self.client.io.read(&mut room).await.unwrap();
            assert!(len > 0, "it is over");
            room.truncate(len);
            got.extend(self.client.decrypt(room));
        }
        got
    }

    /// What the backend gets, up to so many whole frames.
    pub(super) async fn backend_frames(&mut self, count: usize, threshold: Option<usize>) -> Vec<u8> {
        let mut got = Vec::new();
        while split(&got, threshold).0.len() < count {
            assert!(self.backend.read_buf(&mut got).await.unwrap() > 0, "it is over");
        }
        got
    }

    pub(super) async fn hears(&self) -> Heard {
        timeout(Duration::from_secs(5), self.handle.heard()).await.expect("nothing is heard")
    }

    pub(super) async fn hears_nothing(&self) -> bool {
        timeout(Duration::from_secs(5), self.handle.heard()).await.is_err()
    }
}
