//! The first packet: protocol version, virtual host, intent; and how the host is cleaned.

use super::{
    ids,
    reader::{Malformed, Reader},
    version::ProtocolVersion,
    writer::Writer,
};

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The server list answer.
    Status,
    /// To log in.
    Login,
    /// To log in, sent here by another server.
    Transfer,
}

/// A handshake with its host taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Protocol number as stated.
    pub version: ProtocolVersion,
    /// The host the player typed, cleaned.
    pub host: VirtualHost,
    /// The port the player typed.
    pub port: u16,
    /// What the client wants.
    pub intent: Intent,
}

/// Longest host, in UTF-16 units, as the game bounds it.
const MAX_HOST: usize = 255;

impl Handshake {
    /// Reads the packet after its id was found to be the handshake's.
    ///
    /// # Errors
    /// `BadValue` for an unknown intent or a host that hides something after a NUL.
    pub fn read(packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        match reader.varint()? {
            0 => {}
            id => return Err(Malformed::UnexpectedPacket(id)),
        }
        let version = ProtocolVersion(reader.varint()?);
        let host = VirtualHost::parse(reader.string(MAX_HOST)?)?;
        let port = reader.u16()?;
        let intent = match reader.varint()? {
            1 => Intent::Status,
            2 => Intent::Login,
            3 => Intent::Transfer,
            _ => return Err(Malformed::BadValue),
        };
        reader.finish()?;
        Ok(Self { version, host, port, intent })
    }

    /// Writes the handshake for a backend. Backends see a login even where the client came by transfer.
    pub fn write(&self, host: &str) -> Vec<u8> {
        let mut writer = Writer::packet(ids::handshake_serverbound::INTENTION.in_release(4).unwrap_or(0));
        let intent = if self.intent == Intent::Status { 1 } else { 2 };
        writer.varint(self.version.0).string(host).u16(self.port).varint(intent).finish()
    }
}

/// The virtual host, cleaned. Backends parse what follows a NUL as a forwarded identity, so nothing a client wrote
/// after one is ever passed on: what a backend gets is rebuilt by [`VirtualHost::for_backend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHost {
    name: String,
    marker: Option<String>,
}

impl VirtualHost {
    /// Takes a raw host apart: the name, what a protection service appended behind `///`, at most one exact Forge
    /// marker (`\0FML\0`, `\0FML2\0`, `\0FML3\0`, or `\0FORGE` and up to 4 digits).
    ///
    /// # Errors
    /// `BadValue` for any other control character.
    pub fn parse(raw: &str) -> Result<Self, Malformed> {
        let head = raw.split_once("///").map_or(raw, |(head, _)| head);
        // A marker may also stand behind what the protection service appended.
        let (name, marker) = match (head.find('\0'), raw.find('\0')) {
            (Some(at), _) => head.split_at(at),
            (None, Some(at)) => (head, raw.split_at(at).1),
            (None, None) => (head, ""),
        };
        // Between `///` and a marker behind it stands nothing that is passed on, but control characters are still
        // a sign of forgery.
        let appended = raw.get(name.len()..).unwrap_or_default().replace(marker, "");
        let is_foreign = |text: &str| text.chars().any(char::is_control);
        if is_foreign(name) || (!marker.is_empty() && is_foreign(&appended)) || !is_forge_marker(marker) {
            return Err(Malformed::BadValue);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let marker = (!marker.is_empty()).then(|| marker.to_owned());
        if marker.is_none() && is_foreign(raw) {
            return Err(Malformed::BadValue);
        }
        Ok(Self { name: name.to_owned(), marker })
    }

    /// The cleaned host as the player typed it, without marker.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host in lower case, for routing.
    pub fn route_key(&self) -> String {
        self.name.to_lowercase()
    }

    /// The Forge marker, with its NULs.
    pub fn forge_marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    /// The host for a backend: the cleaned name and the marker, nothing else.
    pub fn for_backend(&self) -> String {
        format!("{}{}", self.name, self.marker.as_deref().unwrap_or_default())
    }
}

/// Whether this is nothing, or exactly one of the marks that Forge appends to the host.
fn is_forge_marker(text: &str) -> bool {
    match text {
        "" | "\0FML\0" | "\0FML2\0" | "\0FML3\0" => true,
        _ => text
            .strip_prefix("\0FORGE")
            .is_some_and(|digits| digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (raw, name, marker) in [
            ("play.example.com", "play.example.com", None),
            ("play.example.com.", "play.example.com", None),
            ("", "", None),
            ("Play.Example.com\0FML\0", "Play.Example.com", Some("\0FML\0")),
            ("a\0FML2\0", "a", Some("\0FML2\0")),
            ("a\0FML3\0", "a", Some("\0FML3\0")),
            ("a\0FORGE", "a", Some("\0FORGE")),
            ("a\0FORGE1234", "a", Some("\0FORGE1234")),
            ("a.b.\0FORGE3", "a.b", Some("\0FORGE3")),
            ("a///203.0.113.7:4444///1700000000", "a", None),
            ("a\0FML2\0///203.0.113.7:4444///1700000000", "a", Some("\0FML2\0")),
            ("a///203.0.113.7:4444///1700000000\0FML2\0", "a", Some("\0FML2\0")),
        ] {
            let host = VirtualHost::parse(raw).unwrap_or_else(|e| panic!("{raw:?}: {e}"));
            assert_eq!((host.name(), host.forge_marker()), (name, marker), "{raw:?}");
            assert_eq!(host.for_backend(), format!("{name}{}", marker.unwrap_or("")));
        }
    }

    #[test]
    fn forged_hosts_end_the_handshake() {
        for raw in [
            "a\0",
            "a\0FML\0\0",
            "a\0FML4\0",
            "a\0FORGE12345",
            "a\0FORGEx",
            "a\0FML\0FML2\0",
            // A forwarded identity in the old style.
            "a\u{0}127.0.0.1\u{0}069a79f444e94726a5befca90e38aaf5",
            "a\u{0}127.0.0.1\u{0}069a79f444e94726a5befca90e38aaf5\0[]",
            "a\0FML\u{0}127.0.0.1\u{0}069a79f444e94726a5befca90e38aaf5",
            "a///x\u{0}127.0.0.1\u{0}069a79f444e94726a5befca90e38aaf5",
            "a\0FML2\0///x\u{0}127.0.0.1",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "a///\n",
        ] {
            assert_eq!(VirtualHost::parse(raw), Err(Malformed::BadValue), "{raw:?}");
        }
    }
}
