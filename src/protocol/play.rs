//! The few packets of configuration and play that the proxy knows.

use super::{
    ids::{
        PacketId, configuration_clientbound, configuration_serverbound, play_clientbound, play_serverbound,
    },
    nbt,
    text::Text,
    version::{ActionBarForm, ChatForm, Dialect, TextForm},
    writer::Writer,
};

/// The two states in which a relayed connection can be. Login success starts play before 1.20.2, configuration
/// since; each direction changes on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// After login success until login acknowledged, on the client's side.
    AwaitingAcknowledge,
    /// Configuration.
    Configuration,
    /// Play.
    Play,
}

/// The packet ids that change a direction's state, or that the relay looks into, for one dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayIds {
    /// Whether the dialect has the configuration state.
    pub configuration: bool,
    /// Client to server, play: plugin message.
    pub play_plugin_message: Option<PacketId>,
    /// Client to server, configuration: plugin message.
    pub configuration_plugin_message: Option<PacketId>,
    /// Client to server, configuration: acknowledges its end.
    pub finish_acknowledged: Option<PacketId>,
    /// Client to server, play: acknowledges the return to configuration.
    pub configuration_acknowledged: Option<PacketId>,
    /// Server to client, configuration: its end.
    pub finish_configuration: Option<PacketId>,
    /// Server to client, play: back to configuration.
    pub start_configuration: Option<PacketId>,
}

impl RelayIds {
    /// The ids of one dialect.
    pub fn of(dialect: &Dialect) -> Self {
        Self {
            configuration: dialect.configuration,
            play_plugin_message: dialect.id(play_serverbound::PLUGIN_MESSAGE),
            configuration_plugin_message: dialect.id(configuration_serverbound::PLUGIN_MESSAGE),
            finish_acknowledged: dialect.id(configuration_serverbound::ACKNOWLEDGE_FINISH_CONFIGURATION),
            configuration_acknowledged: dialect.id(play_serverbound::CONFIGURATION_ACKNOWLEDGED),
            finish_configuration: dialect.id(configuration_clientbound::FINISH_CONFIGURATION),
            start_configuration: dialect.id(play_clientbound::START_CONFIGURATION),
        }
    }
}

/// Writes disconnect for the state in which the client reads; `None` while it awaits no such packet.
pub fn write_disconnect(dialect: &Dialect, state: RelayState, text: &Text) -> Option<Vec<u8>> {
    let id = match state {
        RelayState::AwaitingAcknowledge | RelayState::Configuration => {
            dialect.id(configuration_clientbound::DISCONNECT)?
        }
        RelayState::Play => dialect.id(play_clientbound::DISCONNECT)?,
    };
    let mut writer = Writer::packet(id);
    text.write(dialect, &mut writer);
    Some(writer.finish())
}

/// Writes disconnect for configuration or play with a component that is JSON, as a backend gave it in the login state;
/// `None` while the client awaits no such packet. What is no JSON is passed on as plain text.
pub fn write_disconnect_json(dialect: &Dialect, state: RelayState, json: &str) -> Option<Vec<u8>> {
    let id = match state {
        RelayState::AwaitingAcknowledge | RelayState::Configuration => {
            dialect.id(configuration_clientbound::DISCONNECT)?
        }
        RelayState::Play => dialect.id(play_clientbound::DISCONNECT)?,
    };
    let mut writer = Writer::packet(id);
    match (dialect.text, serde_json::from_str(json)) {
        (TextForm::Json, _) => {
            writer.string(json);
        }
        (TextForm::Nbt, Ok(component)) => {
            writer.raw(&nbt::of_component(&component));
        }
        (TextForm::Nbt, Err(_)) => Text::plain(json).write(dialect, &mut writer),
    }
    Some(writer.finish())
}

/// Writes a system chat line for the play state.
pub fn write_system_chat(dialect: &Dialect, text: &Text) -> Option<Vec<u8>> {
    let packet = match dialect.chat {
        ChatForm::Bare | ChatForm::Position | ChatForm::PositionSender => play_clientbound::CHAT_MESSAGE,
        ChatForm::Type | ChatForm::Overlay => play_clientbound::SYSTEM_CHAT,
    };
    let mut writer = Writer::packet(dialect.id(packet)?);
    text.write(dialect, &mut writer);
    match dialect.chat {
        ChatForm::Bare => {}
        // Position 1 is a system message.
        ChatForm::Position => {
            writer.u8(1);
        }
        // A sender of all zeros cannot be blocked by the client.
        ChatForm::PositionSender => {
            writer.u8(1).raw(&[0; 16]);
        }
        // Type 1 is vanilla's system chat.
        ChatForm::Type => {
            writer.varint(1);
        }
        ChatForm::Overlay => {
            writer.bool(false);
        }
    }
    Some(writer.finish())
}

/// Writes the line above the hotbar for the play state; `None` where the client has none.
pub fn write_action_bar(dialect: &Dialect, text: &Text) -> Option<Vec<u8>> {
    /// Position of a chat line, and action of the title packet.
    const ABOVE_HOTBAR: u8 = 2;
    let mut writer;
    match dialect.action_bar {
        ActionBarForm::Absent => return None,
        ActionBarForm::ChatPosition => {
            writer = Writer::packet(dialect.id(play_clientbound::CHAT_MESSAGE)?);
            // The client shows no style there but that of the codes.
            Text::plain(&text.to_section_codes()).write(dialect, &mut writer);
            writer.u8(ABOVE_HOTBAR);
        }
        ActionBarForm::Title => {
            writer = Writer::packet(dialect.id(play_clientbound::TITLE_LEGACY)?);
            writer.varint(ABOVE_HOTBAR.into());
            text.write(dialect, &mut writer);
        }
        ActionBarForm::Own => {
            writer = Writer::packet(dialect.id(play_clientbound::SET_ACTION_BAR_TEXT)?);
            text.write(dialect, &mut writer);
        }
    }
    Some(writer.finish())
}

/// Whether backends trust a proxy for what comes on this plugin channel. A player's own message on it must not get
/// through: it could move other players or run commands.
pub fn is_proxy_channel(channel: &str) -> bool {
    // Backends map `BungeeCord` and `bungeecord:main` to each other, whatever the version.
    const VELOCITY: &str = "velocity:";
    channel.eq_ignore_ascii_case("bungeecord")
        || channel.eq_ignore_ascii_case("bungeecord:main")
        || channel.get(..VELOCITY.len()).is_some_and(|start| start.eq_ignore_ascii_case(VELOCITY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::version::ProtocolVersion;

    #[test]
    fn action_bars_are_pinned() {
        // By hand: id, then text and position; action and text; text.
        let text = Text::parse("&cNo", &[]);
        for (protocol, packet) in [
            (4, None),
            (5, None),
            (47, Some(&b"\x02\x10{\"text\":\"\xc2\xa7cNo\"}\x02"[..])),
            (210, Some(b"\x0f\x10{\"text\":\"\xc2\xa7cNo\"}\x02")),
            (315, Some(b"\x45\x02\x1b{\"color\":\"red\",\"text\":\"No\"}")),
            (754, Some(b"\x4f\x02\x1b{\"color\":\"red\",\"text\":\"No\"}")),
            (755, Some(b"\x41\x1b{\"color\":\"red\",\"text\":\"No\"}")),
            (764, Some(b"\x48\x1b{\"color\":\"red\",\"text\":\"No\"}")),
            (765, Some(b"\x4a\x0a\x08\x00\x04text\x00\x02No\x08\x00\x05color\x00\x03red\x00")),
        ] {
            let made = write_action_bar(&Dialect::of(ProtocolVersion(protocol)), &text);
            assert_eq!(made.as_deref(), packet, "{protocol}");
        }
        for (version, _) in Dialect::releases() {
            let dialect = Dialect::of(version);
            let has_one = dialect.action_bar != ActionBarForm::Absent;
            assert_eq!(write_action_bar(&dialect, &text).is_some(), has_one, "{version}");
        }
    }

    #[test]
    fn proxy_channels() {
        for yes in ["BungeeCord", "bungeecord:main", "BungeeCord:Main", "velocity:player_info", "velocity:x"]
        {
            assert!(is_proxy_channel(yes), "{yes}");
        }
        for no in ["minecraft:brand", "MC|Brand", "velocity", "bungeecord:other", "velocityx:a"] {
            assert!(!is_proxy_channel(no), "{no}");
        }
    }
}
