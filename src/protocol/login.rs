//! Packets of the login state, both ways: Postern is the server to the client and the client to the backend.

use uuid::Uuid;

use super::{
    ids::{PacketId, PacketIds, login_clientbound as to_client, login_serverbound as to_server},
    reader::{Malformed, Reader},
    text::Text,
    version::{ArrayLength, Dialect, IdForm, LoginStartForm, SuccessTail},
    writer::Writer,
};
use crate::identity::{Profile, Property, Username};

/// Longest payload of a login plugin request or response, as the game bounds it, in bytes.
pub const MAX_PLUGIN_PAYLOAD: usize = 1 << 20;
/// Longest cookie, in bytes.
const MAX_COOKIE: usize = 5120;
/// Longest identifier and other text without a bound of its own, in UTF-16 units.
const MAX_STRING: usize = 32767;
/// Longest disconnect text, in UTF-16 units.
const MAX_DISCONNECT: usize = 262_144;
/// Longest profile key and signature in login start, in bytes.
const MAX_KEY: usize = 4096;
/// Most properties read from a backend.
const MAX_PROPERTIES: usize = 64;

/// The id, which every dialect has.
///
/// Packets whose existence depends on the dialect are asked for by their own functions.
fn always(dialect: &Dialect, packet: PacketIds) -> PacketId {
    dialect.id(packet).unwrap_or_default()
}

fn expect(reader: &mut Reader<'_>, dialect: &Dialect, packet: PacketIds) -> Result<(), Malformed> {
    let id = reader.varint()?;
    if dialect.id(packet) == Some(id) { Ok(()) } else { Err(Malformed::UnexpectedPacket(id)) }
}

/// A player's own key, as 1.19 to 1.19.2 send it: expiry in milliseconds, key, Mojang's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileKey {
    /// When the key expires, in milliseconds since 1970.
    pub expires: i64,
    /// The public key, DER.
    pub key: Vec<u8>,
    /// Mojang's signature.
    pub signature: Vec<u8>,
}

/// Login start as sent: the name may be anything, the id is a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginStart {
    /// The name, not checked yet.
    pub name: String,
    /// The profile key, if any.
    pub key: Option<ProfileKey>,
    /// The id that the client claims, if any.
    pub claimed_id: Option<Uuid>,
}

impl LoginStart {
    /// Reads the packet in its five forms.
    pub fn read(packet: &[u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        expect(&mut reader, dialect, to_server::LOGIN_START)?;
        // Longer names are read, to be refused with a reason.
        let name = reader.string(64)?.to_owned();
        let form = dialect.login_start;
        let key = match form {
            LoginStartForm::NameKey | LoginStartForm::NameKeyId => reader.option(|reader| {
                let expires = reader.i64()?;
                let key = reader.bytes(MAX_KEY)?.to_vec();
                Ok(ProfileKey { expires, key, signature: reader.bytes(MAX_KEY)?.to_vec() })
            })?,
            _ => None,
        };
        let claimed_id = match form {
            LoginStartForm::Name | LoginStartForm::NameKey => None,
            LoginStartForm::NameKeyId | LoginStartForm::NameMaybeId => reader.option(Reader::uuid)?,
            LoginStartForm::NameId => Some(reader.uuid()?),
        };
        reader.finish()?;
        Ok(Self { name, key, claimed_id })
    }

    /// Writes the packet for a backend.
    pub fn write(&self, dialect: &Dialect) -> Vec<u8> {
        let mut writer = Writer::packet(always(dialect, to_server::LOGIN_START));
        writer.string(&self.name);
        if matches!(dialect.login_start, LoginStartForm::NameKey | LoginStartForm::NameKeyId) {
            writer.option(self.key.as_ref(), |writer, key| {
                writer.i64(key.expires).bytes(&key.key).bytes(&key.signature);
            });
        }
        match dialect.login_start {
            LoginStartForm::Name | LoginStartForm::NameKey => {}
            LoginStartForm::NameKeyId | LoginStartForm::NameMaybeId => {
                writer.option(self.claimed_id, |writer, id| {
                    writer.uuid(id);
                });
            }
            LoginStartForm::NameId => {
                writer.uuid(self.claimed_id.unwrap_or_default());
            }
        }
        writer.finish()
    }
}

/// Encryption request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionRequest<'a> {
    /// The server's RSA key, X.509 DER.
    pub public_key: &'a [u8],
    /// Comes back encrypted.
    pub verify_token: &'a [u8],
    /// Whether the client is to call the session server. Older dialects always do.
    pub should_authenticate: bool,
}

impl EncryptionRequest<'_> {
    /// Writes the packet. The server id in it is empty, as vanilla's is.
    pub fn write(&self, dialect: &Dialect) -> Vec<u8> {
        let mut writer = Writer::packet(always(dialect, to_client::ENCRYPTION_REQUEST));
        writer.string("");
        match dialect.array_length {
            ArrayLength::Short => writer.short_bytes(self.public_key).short_bytes(self.verify_token),
            ArrayLength::VarInt => writer.bytes(self.public_key).bytes(self.verify_token),
        };
        if dialect.authenticate_flag {
            writer.bool(self.should_authenticate);
        }
        writer.finish()
    }
}

/// How the client proves that it saw the verify token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenProof {
    /// The token, under the server's key.
    Encrypted(Vec<u8>),
    /// Signed with the player's profile key over token and salt.
    Signed {
        /// The salt.
        salt: i64,
        /// The signature, SHA256withRSA.
        signature: Vec<u8>,
    },
}

/// Encryption response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionResponse {
    /// The shared secret, under the server's key.
    pub secret: Vec<u8>,
    /// The verify token.
    pub proof: TokenProof,
}

/// Bound on the arrays of encryption response: an RSA-1024 result has 128 bytes, a signature 256 or 512.
const MAX_RSA: usize = 512;

impl EncryptionResponse {
    /// Reads the packet.
    pub fn read(packet: &[u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        expect(&mut reader, dialect, to_server::ENCRYPTION_RESPONSE)?;
        let array = |reader: &mut Reader<'_>| match dialect.array_length {
            ArrayLength::Short => reader.short_bytes(MAX_RSA).map(<[u8]>::to_vec),
            ArrayLength::VarInt => reader.bytes(MAX_RSA).map(<[u8]>::to_vec),
        };
        let secret = array(&mut reader)?;
        let proof = if dialect.signed_verify_token && !reader.bool()? {
            let salt = reader.i64()?;
            TokenProof::Signed { salt, signature: array(&mut reader)? }
        } else {
            TokenProof::Encrypted(array(&mut reader)?)
        };
        reader.finish()?;
        Ok(Self { secret, proof })
    }
}

/// Login success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSuccess {
    /// The player, as the client is to see itself. Properties are empty where the dialect has none.
    pub profile: Profile,
    /// Whether the client is strict about errors, where the dialect says so.
    pub strict_errors: bool,
    /// The server's run, where the dialect says so.
    pub session_id: Uuid,
}

impl LoginSuccess {
    /// Writes the packet.
    pub fn write(&self, dialect: &Dialect) -> Vec<u8> {
        let mut writer = Writer::packet(always(dialect, to_client::LOGIN_SUCCESS));
        match dialect.success_id {
            IdForm::Plain => writer.string(&self.profile.id.as_simple().to_string()),
            IdForm::Dashed => writer.string(&self.profile.id.as_hyphenated().to_string()),
            IdForm::Binary => writer.uuid(self.profile.id),
        };
        writer.string(self.profile.name.as_str());
        if dialect.success_tail != SuccessTail::None {
            write_properties(&mut writer, &self.profile.properties);
        }
        match dialect.success_tail {
            SuccessTail::PropertiesStrict => writer.bool(self.strict_errors),
            SuccessTail::PropertiesSession => writer.uuid(self.session_id),
            SuccessTail::None | SuccessTail::Properties => &mut writer,
        };
        writer.finish()
    }

    /// Reads a backend's packet.
    pub fn read(packet: &[u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        expect(&mut reader, dialect, to_client::LOGIN_SUCCESS)?;
        let id = match dialect.success_id {
            IdForm::Plain | IdForm::Dashed => {
                Uuid::try_parse(reader.string(36)?).map_err(|_| Malformed::BadValue)?
            }
            IdForm::Binary => reader.uuid()?,
        };
        let name = Username::parse(reader.string(Username::MAX_LEN)?).map_err(|_| Malformed::BadValue)?;
        let properties = match dialect.success_tail {
            SuccessTail::None => Vec::new(),
            _ => read_properties(&mut reader)?,
        };
        let (mut strict_errors, mut session_id) = (true, Uuid::nil());
        match dialect.success_tail {
            SuccessTail::PropertiesStrict => strict_errors = reader.bool()?,
            SuccessTail::PropertiesSession => session_id = reader.uuid()?,
            SuccessTail::None | SuccessTail::Properties => {}
        }
        reader.finish()?;
        Ok(Self { profile: Profile { id, name, properties }, strict_errors, session_id })
    }
}

/// Writes a list of properties, as login success and modern forwarding have it.
pub fn write_properties(writer: &mut Writer, properties: &[Property]) {
    writer.count(properties.len());
    for property in properties {
        writer.string(&property.name).string(&property.value);
        writer.option(property.signature.as_deref(), |writer, signature| {
            writer.string(signature);
        });
    }
}

fn read_properties(reader: &mut Reader<'_>) -> Result<Vec<Property>, Malformed> {
    let count = reader.count(MAX_PROPERTIES)?;
    let mut properties = Vec::new();
    for _ in 0..count {
        let name = reader.string(MAX_STRING)?.to_owned();
        let value = reader.string(MAX_STRING)?.to_owned();
        let signature = reader.option(|reader| reader.string(MAX_STRING))?.map(str::to_owned);
        properties.push(Property { name, value, signature });
    }
    Ok(properties)
}

/// A question to the client in the login state, on a channel of the asker's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequest<'a> {
    /// Comes back in the response.
    pub message_id: i32,
    /// The channel.
    pub channel: &'a str,
    /// The question.
    pub data: &'a [u8],
}

/// The client's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginResponse<'a> {
    /// As in the request.
    pub message_id: i32,
    /// The answer; `None` if the client does not know the channel.
    pub data: Option<&'a [u8]>,
}

impl<'a> PluginRequest<'a> {
    /// Reads a backend's packet, past its id.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let message_id = reader.varint()?;
        let channel = reader.string(MAX_STRING)?;
        let data = reader.rest();
        if data.len() > MAX_PLUGIN_PAYLOAD {
            return Err(Malformed::LengthOutOfRange);
        }
        Ok(Self { message_id, channel, data })
    }

    /// Writes the packet for the client.
    pub fn write(&self, dialect: &Dialect) -> Vec<u8> {
        let mut writer = Writer::packet(always(dialect, to_client::LOGIN_PLUGIN_REQUEST));
        writer.varint(self.message_id).string(self.channel).raw(self.data).finish()
    }
}

impl PluginResponse<'_> {
    /// Writes the packet for a backend.
    pub fn write(&self, dialect: &Dialect) -> Vec<u8> {
        let mut writer = Writer::packet(always(dialect, to_server::LOGIN_PLUGIN_RESPONSE));
        writer.varint(self.message_id).bool(self.data.is_some());
        writer.raw(self.data.unwrap_or_default()).finish()
    }
}

/// What a backend sends in the login state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromBackend<'a> {
    /// It refuses the login; the reason as JSON.
    Disconnect(&'a str),
    /// It wants to authenticate the player itself.
    EncryptionRequest,
    /// It lets the player in.
    Success(LoginSuccess),
    /// From here on frames are compressed; negative is off.
    SetCompression(i32),
    /// A question to the client.
    PluginRequest(PluginRequest<'a>),
    /// It asks for a cookie.
    CookieRequest(&'a str),
}

impl<'a> FromBackend<'a> {
    /// Reads one packet.
    pub fn read(packet: &'a [u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let id = reader.varint()?;
        let is = |ids| dialect.id(ids) == Some(id);
        let read = if is(to_client::DISCONNECT) {
            Self::Disconnect(reader.string(MAX_DISCONNECT)?)
        } else if is(to_client::ENCRYPTION_REQUEST) {
            return Ok(Self::EncryptionRequest);
        } else if is(to_client::LOGIN_SUCCESS) {
            return LoginSuccess::read(packet, dialect).map(Self::Success);
        } else if is(to_client::SET_COMPRESSION) {
            Self::SetCompression(reader.varint()?)
        } else if is(to_client::LOGIN_PLUGIN_REQUEST) {
            Self::PluginRequest(PluginRequest::read(&mut reader)?)
        } else if is(to_client::COOKIE_REQUEST) {
            Self::CookieRequest(reader.string(MAX_STRING)?)
        } else {
            return Err(Malformed::UnexpectedPacket(id));
        };
        reader.finish()?;
        Ok(read)
    }
}

/// What a client may send between encryption and login success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// An answer to a plugin request.
    PluginResponse(PluginResponse<'a>),
    /// An answer to a cookie request; passed on whole.
    CookieResponse {
        /// Which cookie.
        key: &'a str,
    },
}

impl<'a> FromClient<'a> {
    /// Reads one packet.
    pub fn read(packet: &'a [u8], dialect: &Dialect) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let id = reader.varint()?;
        let is = |ids| dialect.id(ids) == Some(id);
        let read = if is(to_server::LOGIN_PLUGIN_RESPONSE) {
            let message_id = reader.varint()?;
            let understood = reader.bool()?;
            let rest = reader.rest();
            if rest.len() > MAX_PLUGIN_PAYLOAD {
                return Err(Malformed::LengthOutOfRange);
            }
            Self::PluginResponse(PluginResponse { message_id, data: understood.then_some(rest) })
        } else if is(to_server::COOKIE_RESPONSE) {
            let key = reader.string(MAX_STRING)?;
            reader.option(|reader| reader.bytes(MAX_COOKIE))?;
            Self::CookieResponse { key }
        } else {
            return Err(Malformed::UnexpectedPacket(id));
        };
        reader.finish()?;
        Ok(read)
    }
}

/// Writes the answer of a client that has no such cookie; `None` where the dialect has none.
pub fn write_no_cookie(dialect: &Dialect, key: &str) -> Option<Vec<u8>> {
    write_cookie_response(dialect, key, None)
}

/// Writes a cookie for a backend that asked in the login state, as far as there is one; `None` where the dialect has
/// no cookies.
pub fn write_cookie_response(dialect: &Dialect, key: &str, payload: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut writer = Writer::packet(dialect.id(to_server::COOKIE_RESPONSE)?);
    writer.string(key).option(payload, |writer, payload| {
        writer.bytes(payload);
    });
    Some(writer.finish())
}

/// Writes login acknowledged for a backend; `None` where the dialect has none.
pub fn write_login_acknowledged(dialect: &Dialect) -> Option<Vec<u8>> {
    dialect.id(to_server::LOGIN_ACKNOWLEDGED).map(|id| Writer::packet(id).finish())
}

/// Reads login acknowledged.
pub fn read_acknowledged(packet: &[u8], dialect: &Dialect) -> Result<(), Malformed> {
    let mut reader = Reader::new(packet);
    expect(&mut reader, dialect, to_server::LOGIN_ACKNOWLEDGED)?;
    reader.finish()
}

/// Writes set compression; `None` where the dialect has no compression.
pub fn write_set_compression(dialect: &Dialect, threshold: i32) -> Option<Vec<u8>> {
    let id = dialect.id(to_client::SET_COMPRESSION)?;
    Some(Writer::packet(id).varint(threshold).finish())
}

/// Writes a cookie request; `None` where the dialect has none.
pub fn write_cookie_request(dialect: &Dialect, key: &str) -> Option<Vec<u8>> {
    let id = dialect.id(to_client::COOKIE_REQUEST)?;
    Some(Writer::packet(id).string(key).finish())
}

/// Writes disconnect for the login state: JSON in every dialect.
pub fn write_disconnect(dialect: &Dialect, text: &Text) -> Vec<u8> {
    write_disconnect_json(dialect, &text.to_json().to_string())
}

/// Writes disconnect with a component that is JSON already, as a backend gave it.
pub fn write_disconnect_json(dialect: &Dialect, json: &str) -> Vec<u8> {
    Writer::packet(always(dialect, to_client::DISCONNECT)).string(json).finish()
}
