//! The configuration state (1.20.2 on), as far as the proxy takes part in it itself.

use super::{
    dialog::Click,
    ids::{PacketId, configuration_clientbound, configuration_serverbound},
    reader::{Malformed, Reader},
    version::Dialect,
    writer::Writer,
};

/// Longest cookie, in bytes.
const MAX_COOKIE: usize = 5120;
/// Longest identifier, in UTF-16 units.
const MAX_IDENTIFIER: usize = 32767;
/// Longest payload of a plugin message, in bytes.
const MAX_PAYLOAD: usize = 32767;

/// What a client sends in the configuration state.
#[derive(Clone, Debug)]
pub enum FromClient<'a> {
    /// Its settings. They are not looked at.
    ClientInformation,
    /// A plugin message. What it says is not looked at.
    PluginMessage {
        /// The channel.
        channel: &'a str,
    },
    /// An answer to keep alive.
    KeepAlive(i64),
    /// An answer to ping.
    Pong(i32),
    /// An answer to a cookie request.
    CookieResponse {
        /// Which cookie.
        key: &'a str,
        /// The cookie; `None` if the client has none.
        payload: Option<&'a [u8]>,
    },
    /// A dialog was answered.
    Click(Click),
    /// Something else.
    Other(PacketId),
}

impl<'a> FromClient<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// The packet is not as the game writes it.
    pub fn read(packet: &'a [u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let id = reader.varint()?;
        let is = |ids| dialect.id(ids) == Some(id);
        let read = if is(configuration_serverbound::CLIENT_INFORMATION) {
            return Ok(Self::ClientInformation);
        } else if is(configuration_serverbound::PLUGIN_MESSAGE) {
            let channel = reader.string(MAX_IDENTIFIER)?;
            if reader.rest().len() > MAX_PAYLOAD {
                return Err(Malformed::LengthOutOfRange);
            }
            Self::PluginMessage { channel }
        } else if is(configuration_serverbound::KEEP_ALIVE) {
            Self::KeepAlive(reader.i64()?)
        } else if is(configuration_serverbound::PONG) {
            Self::Pong(reader.i32()?)
        } else if is(configuration_serverbound::COOKIE_RESPONSE) {
            let key = reader.string(MAX_IDENTIFIER)?;
            Self::CookieResponse { key, payload: reader.option(|reader| reader.bytes(MAX_COOKIE))? }
        } else if is(configuration_serverbound::CUSTOM_CLICK_ACTION) {
            Self::Click(Click::read(&mut reader)?)
        } else {
            return Ok(Self::Other(id));
        };
        reader.finish()?;
        Ok(read)
    }
}

/// Writes keep alive; `None` where the dialect has no configuration state.
pub fn write_keep_alive(dialect: &Dialect, number: i64) -> Option<Vec<u8>> {
    Some(Writer::packet(dialect.id(configuration_clientbound::KEEP_ALIVE)?).i64(number).finish())
}

/// Writes ping; `None` where the dialect has no configuration state.
pub fn write_ping(dialect: &Dialect, number: i32) -> Option<Vec<u8>> {
    Some(Writer::packet(dialect.id(configuration_clientbound::PING)?).i32(number).finish())
}

/// Writes a cookie request; `None` where the dialect has none.
pub fn write_cookie_request(dialect: &Dialect, key: &str) -> Option<Vec<u8>> {
    Some(Writer::packet(dialect.id(configuration_clientbound::COOKIE_REQUEST)?).string(key).finish())
}
