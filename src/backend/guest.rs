//! What a client says while its player is led to a backend, in whichever state it is.

use crate::{
    net::{
        configuring::{Configuring, Said},
        conn::{Conn, ConnError, Io, limit},
    },
    protocol::{dialog::Click, reader::Malformed},
};

/// Something a client says.
pub(super) enum Heard {
    /// A packet of the login state.
    Packet(Vec<u8>),
    /// The answer to a cookie request, from configuration.
    Cookie {
        /// Which one.
        key: String,
        /// The cookie, if there is one.
        payload: Option<Vec<u8>>,
    },
}

/// Waits for what the client says next; one that is in configuration is kept alive meanwhile. May be cancelled.
pub(super) async fn hear<C: Io>(
    client: &mut Conn<C>,
    begun: Option<&mut Configuring>,
) -> Result<Heard, ConnError> {
    match begun {
        None => client.read_packet(limit::LOGIN).await.map(Heard::Packet),
        // Apart: hardly anybody needs the room.
        Some(configuring) => Box::pin(in_configuration(client, configuring)).await,
    }
}

async fn in_configuration<C: Io>(
    client: &mut Conn<C>,
    configuring: &mut Configuring,
) -> Result<Heard, ConnError> {
    loop {
        match configuring.hear(client).await? {
            Said::Cookie { key, payload } => return Ok(Heard::Cookie { key, payload }),
            // The answer that let it in, once more.
            Said::Click(Click::Code(_) | Click::Leave) => {}
            Said::Click(Click::Foreign) | Said::Pong(_) => return Err(Malformed::BadValue.into()),
        }
    }
}
