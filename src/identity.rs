//! Who a player is: username, id, profile, properties.

use std::{fmt, str::FromStr};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name that a player may have: 1 to 16 of `[A-Za-z0-9_]`. Keeps its spelling; compare by [`Username::key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(Box<str>);

/// A username in lower case: names differ only by more than case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey(Box<str>);

/// The text is not 1 to 16 of `[A-Za-z0-9_]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a username is 1 to 16 of A-Z, a-z, 0-9 and _")]
pub struct BadUsername;

impl Username {
    /// Longest username, in characters.
    pub const MAX_LEN: usize = 16;

    /// Checks a name as login start, the session server or an import gives it.
    pub fn parse(text: &str) -> Result<Self, BadUsername> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(BadUsername)
        }
    }

    /// The name as it is spelt.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in lower case, for comparing.
    pub fn key(&self) -> NameKey {
        NameKey(self.0.to_ascii_lowercase().into())
    }

    /// Whether both are the same player name, spelling aside.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl NameKey {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Username {
    type Error = BadUsername;

    fn try_from(text: String) -> Result<Self, BadUsername> {
        Self::parse(&text)
    }
}

impl From<Username> for String {
    fn from(name: Username) -> Self {
        name.0.into()
    }
}

/// The id that a server in offline mode makes of a name: what Java's `UUID.nameUUIDFromBytes` makes of
/// `OfflinePlayer:` and the name, an MD5 with version and variant put in.
pub fn offline_id(name: &Username) -> Uuid {
    let hash = Md5::digest(format!("OfflinePlayer:{name}"));
    uuid::Builder::from_md5_bytes(hash.into()).into_uuid()
}

/// A player id in the dashed or the undashed form: the `uuid` crate also reads braces and URNs, which no Minecraft tool
/// writes.
pub fn parse_id(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Whom an owner means: a player by id or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The player of that id.
    Id(Uuid),
    /// The player of that name.
    Name(Username),
}

/// The text is neither a player id nor a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a player is a name, 1 to 16 of A-Z, a-z, 0-9 and _, or an id, as in 069a79f4-44e9-4726-a5be-fca90e38aaf5"
)]
pub struct BadWhom;

impl FromStr for Whom {
    type Err = BadWhom;

    fn from_str(text: &str) -> Result<Self, BadWhom> {
        // No id is as short as a name.
        parse_id(text).map(Self::Id).or_else(|| Username::parse(text).ok().map(Self::Name)).ok_or(BadWhom)
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// One profile property, as the session server gives it. `textures` holds the skin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Property name.
    pub name: String,
    /// Property value, base64 for `textures`.
    pub value: String,
    /// Mojang's signature over the value, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A player's identity: from the session server, or from a session it once verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Account id.
    pub id: Uuid,
    /// Account name in its own spelling.
    pub name: Username,
    /// Properties, in the order received.
    pub properties: Vec<Property>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames() {
        for good in ["a", "Notch", "_x_9", "ABCDEFGHIJKLMNOP"] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "ABCDEFGHIJKLMNOPQ", "a b", "a\0", "ä", ".bedrock", "a-b", "a§c"] {
            assert_eq!(Username::parse(bad), Err(BadUsername), "{bad:?}");
        }
        assert!(Username::parse("NoTcH").unwrap().same_as(&Username::parse("nOtCh").unwrap()));
        assert_eq!(Username::parse("NoTcH").unwrap().key().as_str(), "notch");
    }

    #[test]
    fn ids_of_offline_mode() {
        // As servers in offline mode have it in their files.
        for (name, id) in [
            ("Notch", "b50ad385-829d-3141-a216-7e7d7539ba7f"),
            ("jeb_", "a762f560-4fce-3236-812a-b80efff0b62b"),
        ] {
            assert_eq!(offline_id(&Username::parse(name).unwrap()).to_string(), id);
        }
    }

    #[test]
    fn whom_an_owner_means() {
        let id = "069a79f4-44e9-4726-a5be-fca90e38aaf5";
        for text in [id, "069a79f444e94726a5befca90e38aaf5", "069A79F4-44E9-4726-A5BE-FCA90E38AAF5"] {
            assert_eq!(text.parse::<Whom>().unwrap().to_string(), id, "{text}");
        }
        assert_eq!("Notch".parse::<Whom>(), Ok(Whom::Name(Username::parse("Notch").unwrap())));
        for bad in
            ["", "a b", "{069a79f4-44e9-4726-a5be-fca90e38aaf5}", "069a79f4-44e9-4726-a5be-fca90e38aaf"]
        {
            assert_eq!(bad.parse::<Whom>(), Err(BadWhom), "{bad:?}");
        }
    }
}
