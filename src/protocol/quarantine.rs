//! What may pass between a backend and a player who is in it already, but has not proven who it is.

use super::{
    ids::{
        PacketId, configuration_clientbound, configuration_serverbound, login_serverbound, play_clientbound,
        play_serverbound,
    },
    pin_command::SpeechIds,
    play::RelayState,
    player_chat,
    reader::{Malformed, Reader},
    version::{ChatForm, Dialect},
};

/// What becomes of a packet of a held client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// The backend gets it.
    Pass,
    /// It is left out.
    Drop,
    /// The client says something: whether it is for the proxy, [`SpeechIds::read`] tells. The backend never gets it.
    Speech,
}

/// What becomes of a packet for a held client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The client gets it.
    Pass,
    /// It is left out.
    Withhold,
    /// It is a signed line, and left out. Where the backend counts what the client has to acknowledge, it has to hear of
    /// it; in 1.19.1 and 1.19.2 the client gets a [header](player_chat::header) in its place.
    WithholdSigned,
}

/// The rules for one dialect.
#[derive(Clone, Debug)]
pub struct Quarantine {
    dialect: Dialect,
    speech: SpeechIds,
    login_up: Vec<PacketId>,
    configuration_up: Vec<PacketId>,
    play_up: Vec<PacketId>,
}

/// Longest channel that may pass but those of NeoForge, which are known by their start: `minecraft:unregister`.
const CHANNEL: usize = 20;

impl Quarantine {
    /// Most bytes of a packet for the client, from its id on, that it takes to judge it. A line of chat up to 1.18.2 says
    /// behind its text what it is; one longer than this is left out.
    pub const LOOK: usize = 4096;

    /// The same of a packet of the client: an id and the length of a channel at five bytes each, and a channel.
    pub const LOOK_UP: usize = 10 + CHANNEL;

    /// The rules of one dialect.
    pub fn of(dialect: &Dialect) -> Self {
        let ids = |packets: &[_]| packets.iter().filter_map(|packet| dialect.id(*packet)).collect();
        Self {
            dialect: *dialect,
            speech: SpeechIds::of(dialect),
            login_up: ids(&[login_serverbound::LOGIN_ACKNOWLEDGED, login_serverbound::COOKIE_RESPONSE]),
            configuration_up: ids(&[
                configuration_serverbound::CLIENT_INFORMATION,
                configuration_serverbound::COOKIE_RESPONSE,
                configuration_serverbound::ACKNOWLEDGE_FINISH_CONFIGURATION,
                configuration_serverbound::KEEP_ALIVE,
                configuration_serverbound::PONG,
                configuration_serverbound::RESOURCE_PACK,
                configuration_serverbound::SELECT_KNOWN_PACKS,
            ]),
            play_up: ids(&[
                play_serverbound::CONFIRM_TELEPORT,
                play_serverbound::CONFIRM_TRANSACTION,
                play_serverbound::CHAT_ACK,
                play_serverbound::CHAT_SESSION_UPDATE,
                play_serverbound::CHUNK_BATCH_RECEIVED,
                play_serverbound::CLIENT_INFORMATION,
                play_serverbound::CONFIGURATION_ACKNOWLEDGED,
                play_serverbound::COOKIE_RESPONSE,
                play_serverbound::KEEP_ALIVE,
                play_serverbound::PLAYER_LOADED,
                play_serverbound::PONG,
                play_serverbound::RESOURCE_PACK,
                play_serverbound::TICK_END,
            ]),
        }
    }

    /// Judges a packet of the client by its first bytes, from the id on.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if it takes more of the packet. A channel whose length is impossible is an error too.
    pub fn lets_up(&self, state: RelayState, head: &[u8]) -> Result<Up, Malformed> {
        let mut reader = Reader::new(head);
        let id = reader.varint()?;
        let (allowed, plugin_message) = match state {
            RelayState::AwaitingAcknowledge => (&self.login_up, None),
            RelayState::Configuration => {
                (&self.configuration_up, self.dialect.id(configuration_serverbound::PLUGIN_MESSAGE))
            }
            RelayState::Play if self.speech.is_speech(id) => return Ok(Up::Speech),
            RelayState::Play => (&self.play_up, self.dialect.id(play_serverbound::PLUGIN_MESSAGE)),
        };
        let passes = if plugin_message == Some(id) {
            lets_channel(state, &mut reader)?
        } else {
            allowed.contains(&id)
        };
        Ok(if passes { Up::Pass } else { Up::Drop })
    }

    /// Judges a packet for the client by its first bytes, from the id on.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if it takes more of the packet. A length that is impossible is an error too.
    pub fn lets_down(&self, state: RelayState, head: &[u8]) -> Result<Down, Malformed> {
        let mut reader = Reader::new(head);
        let id = reader.varint()?;
        let is = |packet| self.dialect.id(packet) == Some(id);
        let passes = if state == RelayState::Play {
            if is(play_clientbound::PLAYER_CHAT) {
                // What has no signature has no header either.
                let is_signed = self.dialect.chat_headers || player_chat::is_signed(&self.dialect, head)?;
                return Ok(if is_signed { Down::WithholdSigned } else { Down::Withhold });
            }
            if is(play_clientbound::CHAT_MESSAGE) {
                self.lets_chat(&mut reader)?
            } else if is(play_clientbound::PLUGIN_MESSAGE) {
                lets_channel(state, &mut reader)?
            } else {
                // Of lines to delete the client knows none, and would leave.
                !is(play_clientbound::DISGUISED_CHAT)
                    && !is(play_clientbound::DELETE_CHAT)
                    && !is(play_clientbound::STORE_COOKIE)
                    && !is(play_clientbound::TRANSFER)
            }
        } else if is(configuration_clientbound::PLUGIN_MESSAGE) {
            lets_channel(state, &mut reader)?
        } else {
            !is(configuration_clientbound::STORE_COOKIE) && !is(configuration_clientbound::TRANSFER)
        };
        Ok(if passes { Down::Pass } else { Down::Withhold })
    }

    /// Whether a line of chat up to 1.18.2 is none that a player said. Up to 1.15.2 only those above the hotbar surely
    /// are none; later ones say who speaks.
    fn lets_chat(&self, reader: &mut Reader<'_>) -> Result<bool, Malformed> {
        const BEHIND: usize = 17;
        if self.dialect.chat == ChatForm::Bare {
            return Ok(false);
        }
        let len = reader.count(i32::MAX as usize)?;
        if len > Self::LOOK - 10 - BEHIND {
            return Ok(false);
        }
        reader.fixed(len)?;
        let position = reader.u8()?;
        Ok(match self.dialect.chat {
            ChatForm::PositionSender => position != 0 && reader.uuid()?.is_nil(),
            _ => position == 2,
        })
    }
}

/// Whether plugin messages on a channel may pass: brand, what channels there are, and the handshakes of Forge, without
/// which its clients do not get into the world. The same channels both ways.
fn lets_channel(state: RelayState, reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    const NEOFORGE: &[u8] = b"neoforge:";
    let len = reader.count(i32::MAX as usize)?;
    if state == RelayState::Configuration && len > NEOFORGE.len() {
        let start = reader.fixed(NEOFORGE.len())?;
        if start == NEOFORGE {
            return Ok(true);
        }
        if len > CHANNEL {
            return Ok(false);
        }
        let rest = reader.fixed(len - NEOFORGE.len())?;
        return Ok(is_plain_channel(&[start, rest].concat()));
    }
    if len > CHANNEL { Ok(false) } else { reader.fixed(len).map(is_plain_channel) }
}

fn is_plain_channel(channel: &[u8]) -> bool {
    matches!(
        channel,
        b"MC|Brand"
            | b"REGISTER"
            | b"UNREGISTER"
            | b"minecraft:brand"
            | b"minecraft:register"
            | b"minecraft:unregister"
            | b"c:version"
            | b"c:register"
            | b"FML|HS"
            | b"fml:handshake"
            | b"fml:loginwrapper"
            | b"forge:handshake"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{version::PlayerChatForm, writer::Writer};

    fn releases() -> impl Iterator<Item = Dialect> {
        Dialect::releases().map(|(version, _)| Dialect::of(version))
    }

    fn chat(dialect: &Dialect, len: usize, behind: &[u8]) -> Option<Vec<u8>> {
        let id = dialect.id(play_clientbound::CHAT_MESSAGE)?;
        Some(Writer::packet(id).string(&"x".repeat(len)).raw(behind).finish())
    }

    #[test]
    fn chat_that_somebody_said_is_withheld() {
        use Down::{Pass, Withhold};
        let (nobody, somebody) = ([0; 16], [7; 16]);
        for dialect in releases() {
            let quarantine = Quarantine::of(&dialect);
            let cases: &[(&[u8], Down)] = match dialect.chat {
                ChatForm::Bare => &[(b"", Withhold)],
                ChatForm::Position => &[(b"\0", Withhold), (b"\x01", Withhold), (b"\x02", Pass)],
                ChatForm::PositionSender => &[
                    (&[&b"\0"[..], &nobody].concat(), Withhold),
                    (&[&b"\0"[..], &somebody].concat(), Withhold),
                    (&[&b"\x01"[..], &nobody].concat(), Pass),
                    (&[&b"\x01"[..], &somebody].concat(), Withhold),
                    (&[&b"\x02"[..], &nobody].concat(), Pass),
                    (&[&b"\x02"[..], &somebody].concat(), Withhold),
                ],
                ChatForm::Type | ChatForm::Overlay => {
                    assert_eq!(chat(&dialect, 2, b""), None);
                    continue;
                }
            };
            for (behind, expected) in cases {
                for len in [0, 2, 200, 3000] {
                    let packet = chat(&dialect, len, behind).unwrap();
                    assert_eq!(quarantine.lets_down(RelayState::Play, &packet), Ok(*expected));
                    assert!(*expected == Withhold || packet.len() <= Quarantine::LOOK);
                    for cut in 0..packet.len() {
                        let part = quarantine.lets_down(RelayState::Play, &packet[..cut]);
                        assert!(part == Err(Malformed::Truncated) || part == Ok(*expected), "{cut}");
                    }
                }
                // Whoever could hide who speaks behind a long text gets nothing through.
                let packet = chat(&dialect, 5000, behind).unwrap();
                let head = &packet[..Quarantine::LOOK];
                assert_eq!(quarantine.lets_down(RelayState::Play, head), Ok(Withhold));
            }
        }
    }

    #[test]
    fn no_judgement_takes_more_than_the_look() {
        let head = vec![0x7f; Quarantine::LOOK];
        for dialect in releases() {
            let quarantine = Quarantine::of(&dialect);
            for state in [RelayState::AwaitingAcknowledge, RelayState::Configuration, RelayState::Play] {
                for id in 0..=0x7f {
                    for length in [&[0xff, 0xff, 0x7f][..], &[0x80, 0x10], &[0x7f], &[0x14], &[0]] {
                        let packet = [&[id], length, &head].concat();
                        let (up, down) = (&packet[..Quarantine::LOOK_UP], &packet[..Quarantine::LOOK]);
                        assert_ne!(quarantine.lets_up(state, up), Err(Malformed::Truncated));
                        assert_ne!(quarantine.lets_down(state, down), Err(Malformed::Truncated));
                    }
                }
            }
        }
    }

    #[test]
    fn hostile_lengths() {
        for dialect in releases() {
            let quarantine = Quarantine::of(&dialect);
            let channel = Writer::packet(dialect.id(play_serverbound::PLUGIN_MESSAGE).unwrap())
                .raw(&[0xff, 0xff, 0xff, 0xff, 0x07, b'x'])
                .finish();
            assert_eq!(
                quarantine.lets_up(RelayState::Play, &channel),
                Ok(Up::Drop),
                "longer than any that may pass"
            );
            let channel = Writer::packet(dialect.id(play_serverbound::PLUGIN_MESSAGE).unwrap())
                .raw(&[0xff, 0xff, 0xff, 0xff, 0x0f, b'x'])
                .finish();
            let judged = quarantine.lets_up(RelayState::Play, &channel);
            assert_eq!(judged, Err(Malformed::LengthOutOfRange));
            assert_eq!(quarantine.lets_up(RelayState::Play, &[]), Err(Malformed::Truncated));
            assert_eq!(quarantine.lets_up(RelayState::Play, &[0x80; 5]), Err(Malformed::VarIntTooLong));
            assert_eq!(quarantine.lets_down(RelayState::Play, &[0x80; 5]), Err(Malformed::VarIntTooLong));
        }
    }

    #[test]
    fn signed_lines_are_told_where_they_are_counted() {
        for dialect in releases() {
            let Some(id) = dialect.id(play_clientbound::PLAYER_CHAT) else { continue };
            let quarantine = Quarantine::of(&dialect);
            for signed in [false, true] {
                let mut writer = Writer::packet(id);
                if matches!(dialect.player_chat, PlayerChatForm::Numbered | PlayerChatForm::NumberedBytes) {
                    writer.varint(70_000);
                }
                let packet = writer.raw(&[7; 16]).varint(300).bool(signed).finish();
                let counted = dialect.player_chat != PlayerChatForm::Other && signed;
                let is_looked_into = counted || dialect.chat_headers;
                let expected = if is_looked_into { Down::WithholdSigned } else { Down::Withhold };
                assert_eq!(quarantine.lets_down(RelayState::Play, &packet), Ok(expected));
                assert!(packet.len() <= 32);
            }
        }
    }
}
