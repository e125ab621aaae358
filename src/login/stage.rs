//! The first two stages of a login, as values: what the handshake fixed, and the name.

use crate::{
    identity::Username,
    mojang::player_keys::HeldKey,
    net::conn::{Conn, ConnError, Io, limit},
    protocol::{
        handshake::Handshake,
        login::{LoginStart, ProfileKey},
        version::Dialect,
    },
    reason::Reason,
};

use super::refusal::{Refusal, Who};

/// The handshake was read: protocol version, virtual host and intent are fixed for this connection.
#[derive(Debug)]
pub struct Hello {
    /// The handshake.
    pub handshake: Handshake,
    /// How this client speaks.
    pub dialect: Dialect,
}

impl Hello {
    /// Waits for the handshake.
    pub async fn read<S: Io>(conn: &mut Conn<S>) -> Result<Self, ConnError> {
        let packet = conn.read_packet(limit::BEFORE_LOGIN).await?;
        let handshake = Handshake::read(&packet)?;
        Ok(Self { dialect: Dialect::of(handshake.version), handshake })
    }
}

/// Login start was read: there is a username. Its id is only a claim.
#[derive(Debug)]
pub struct Named {
    /// The handshake's stage.
    pub hello: Hello,
    /// The name that the client gives.
    pub name: Username,
    /// The id that the client gives.
    pub claimed_id: Option<uuid::Uuid>,
    /// The key that the client gives (1.19 to 1.19.2). Nothing about it is proven.
    pub key: Option<Box<ProfileKey>>,
    /// The same key once the client has signed with it, which it does where the link is encrypted.
    pub held_key: Option<HeldKey>,
}

impl Named {
    /// Waits for login start. A name that cannot be one is refused before anything is looked up.
    pub async fn read<S: Io>(conn: &mut Conn<S>, hello: Hello) -> Result<Self, Refusal> {
        let packet = conn.read_packet(limit::BEFORE_LOGIN).await?;
        let start = LoginStart::read(&packet, &hello.dialect).map_err(ConnError::Malformed)?;
        let Ok(name) = Username::parse(&start.name) else {
            let who = Who { name: Some(start.name), claimed_id: start.claimed_id, id: None };
            return Err(Refusal { who, ..Refusal::new(Reason::BadName) });
        };
        Ok(Self { hello, name, claimed_id: start.claimed_id, key: start.key.map(Box::new), held_key: None })
    }
}
