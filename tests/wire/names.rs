//! What passes to and from a held player, by the names that others have for the packets: so a wrong id shows as a packet
//! that passes and should not, or the other way round.

use postern::protocol::{
    ids::{PacketIds, configuration_serverbound, play_clientbound, play_serverbound},
    play::RelayState,
    quarantine::{Down, Quarantine, Up},
    version::Dialect,
    writer::Writer,
};

use super::{dialect, pinned, small, text};

/// What a held client may send, both in configuration and in play, as minecraft-data names it.
const UP: &[&str] = &[
    "teleport_confirm",
    "transaction",
    "message_acknowledgement",
    "chat_session_update",
    "chunk_batch_received",
    "settings",
    "configuration_acknowledged",
    "cookie_response",
    "keep_alive",
    "player_loaded",
    "pong",
    "resource_pack_receive",
    "tick_end",
    "finish_configuration",
    "select_known_packs",
];

/// What it says.
const SPEECH: &[&str] = &["chat", "chat_message", "chat_command", "chat_command_signed", "tab_complete"];

/// What it does not get.
const WITHHELD: &[&str] =
    &["chat", "player_chat", "profileless_chat", "hide_message", "store_cookie", "transfer"];

/// Of these minecraft-data says that they are there, and the first releases that have them.
const FIRST: &[(&str, &str, i32)] = &[
    ("play", "teleport_confirm", 107),
    ("play", "message_acknowledgement", 760),
    ("play", "chat_session_update", 761),
    ("play", "chunk_batch_received", 764),
    ("play", "cookie_response", 766),
    ("play", "player_loaded", 769),
    ("play", "pong", 755),
    ("play", "tick_end", 768),
    ("play", "chat_command_signed", 766),
    ("play", "keep_alive", 5),
    ("play", "settings", 5),
    ("configuration", "select_known_packs", 766),
    ("configuration", "keep_alive", 764),
];

/// A plugin message, as far as its channel.
fn on_channel(id: i32, channel: &str) -> Vec<u8> {
    Writer::packet(id).string(channel).raw(&[0; 8]).finish()
}

#[test]
fn held_players_send_and_get_what_is_listed_by_name() {
    let mut first: Vec<_> = FIRST.iter().map(|(state, name, _)| (*state, *name, None)).collect();
    for entry in pinned("names.json").as_array().unwrap() {
        let protocol = small(&entry["protocol"]);
        let quarantine = Quarantine::of(&dialect(protocol));
        let state_name = text(&entry["state"]);
        let state = if state_name == "play" { RelayState::Play } else { RelayState::Configuration };
        let is_up = text(&entry["direction"]) == "serverbound";
        let names: Vec<_> = text(&entry["names"]).split(' ').collect();
        for (id, name) in names.iter().enumerate() {
            let id = i32::try_from(id).unwrap();
            let place = format!("{state_name} {name} at {protocol}");
            if *name == "custom_payload" {
                for (channel, passes) in channels(state) {
                    let packet = on_channel(id, channel);
                    if is_up {
                        let expected = if passes { Up::Pass } else { Up::Drop };
                        assert_eq!(quarantine.lets_up(state, &packet), Ok(expected), "{place} {channel}");
                    } else {
                        let expected = if passes { Down::Pass } else { Down::Withhold };
                        assert_eq!(quarantine.lets_down(state, &packet), Ok(expected), "{place} {channel}");
                    }
                }
                continue;
            }
            // A text of two characters at position 0, or an unsigned line of nobody.
            let mut packet = Writer::packet(id).raw(&[2, b'{', b'}']).raw(&[0; 40]).finish();
            if is_up {
                let expected = if SPEECH.contains(name) && state == RelayState::Play {
                    Up::Speech
                } else if UP.contains(name) {
                    Up::Pass
                } else {
                    Up::Drop
                };
                assert_eq!(quarantine.lets_up(state, &packet), Ok(expected), "{place}");
                for (wanted_state, wanted, seen) in &mut first {
                    if (*wanted_state, *wanted) == (state_name, *name) {
                        seen.get_or_insert(protocol);
                    }
                }
            } else {
                if *name == "player_chat" {
                    packet = Writer::packet(id).raw(&[0; 40]).finish();
                }
                let expected = match *name {
                    // Looked into: a header may stand in for it.
                    "player_chat" if protocol == 760 => Down::WithholdSigned,
                    name if WITHHELD.contains(&name) => Down::Withhold,
                    _ => Down::Pass,
                };
                assert_eq!(quarantine.lets_down(state, &packet), Ok(expected), "{place}");
            }
        }
        // Behind the last of them there is nothing.
        for id in names.len()..names.len() + 80 {
            let packet = Writer::packet(i32::try_from(id).unwrap()).raw(&[0; 40]).finish();
            if is_up {
                assert_eq!(quarantine.lets_up(state, &packet), Ok(Up::Drop), "{id:#x} at {protocol}");
            }
        }
    }
    let expected: Vec<_> = FIRST.iter().map(|(state, name, since)| (*state, *name, Some(*since))).collect();
    assert_eq!(first, expected);
}

/// Channels, and whether they pass.
fn channels(state: RelayState) -> Vec<(&'static str, bool)> {
    let in_configuration = state == RelayState::Configuration;
    let mut channels = vec![("neoforge:network", in_configuration), ("neoforge:", in_configuration)];
    channels.retain(|(channel, _)| !in_configuration || channel.len() > 9);
    for channel in [
        "MC|Brand",
        "REGISTER",
        "UNREGISTER",
        "minecraft:brand",
        "minecraft:register",
        "minecraft:unregister",
        "c:version",
        "c:register",
        "FML|HS",
        "fml:handshake",
        "fml:loginwrapper",
        "forge:handshake",
    ] {
        channels.push((channel, true));
    }
    for channel in [
        "",
        "BungeeCord",
        "bungeecord:main",
        "velocity:player_info",
        "FML",
        "fml:play",
        "forge:login",
        "mc|brand",
        "minecraft:brands",
        "minecraft:unregisters",
        "authme:main",
        "neoforged:network",
        "a:channel/with/a/name/that/is/longer/than/any/of/those/that/may/pass",
    ] {
        channels.push((channel, false));
    }
    channels
}

/// Packets that are known by their id alone: their rows, and what others call them.
const ALONE: &[(&str, &str, PacketIds, &str)] = &[
    ("configuration", "serverbound", configuration_serverbound::RESOURCE_PACK, "resource_pack_receive"),
    ("play", "clientbound", play_clientbound::BUNDLE_DELIMITER, "bundle_delimiter"),
    ("play", "clientbound", play_clientbound::COMMANDS, "declare_commands"),
    ("play", "clientbound", play_clientbound::DELETE_CHAT, "hide_message"),
    ("play", "clientbound", play_clientbound::LOGIN, "login"),
    ("play", "clientbound", play_clientbound::PLAYER_CHAT_HEADER, "message_header"),
    ("play", "clientbound", play_clientbound::SET_COMPRESSION, "set_compression"),
    ("play", "serverbound", play_serverbound::CHUNK_BATCH_RECEIVED, "chunk_batch_received"),
    ("play", "serverbound", play_serverbound::CONFIRM_TELEPORT, "teleport_confirm"),
    ("play", "serverbound", play_serverbound::CONFIRM_TRANSACTION, "transaction"),
    ("play", "serverbound", play_serverbound::PLAYER_LOADED, "player_loaded"),
    ("play", "serverbound", play_serverbound::RESOURCE_PACK, "resource_pack_receive"),
    ("play", "serverbound", play_serverbound::TICK_END, "tick_end"),
];

#[test]
fn ids_are_those_that_others_have_for_the_names() {
    let mut checked = 0;
    for entry in pinned("names.json").as_array().unwrap() {
        let dialect = dialect(small(&entry["protocol"]));
        for (state, direction, ids, name) in ALONE {
            if (text(&entry["state"]), text(&entry["direction"])) != (*state, *direction) {
                continue;
            }
            let at = text(&entry["names"]).split(' ').position(|other| other == *name);
            let place = format!("{state} {name} at {}", dialect.release());
            assert_eq!(dialect.id(*ids), at.map(|at| i32::try_from(at).unwrap()), "{place}");
            checked += i32::from(at.is_some());
        }
    }
    assert!(checked > 200, "{checked}");
}

#[test]
fn before_configuration_only_its_acknowledgement_passes() {
    for (version, _) in Dialect::releases() {
        let dialect = Dialect::of(version);
        let quarantine = Quarantine::of(&dialect);
        let judged: Vec<_> = (0..0x60)
            .map(|id| quarantine.lets_up(RelayState::AwaitingAcknowledge, &[id, 0, 0]).unwrap())
            .enumerate()
            .filter(|(_, up)| *up == Up::Pass)
            .map(|(id, _)| id)
            .collect();
        let expected: &[usize] = match version.0 {
            ..764 => &[],
            764 | 765 => &[3],
            _ => &[3, 4],
        };
        assert_eq!(judged, expected, "{version}");
    }
}
