//! Whom a ban is for, and how that is written.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address;

/// Whom failures are counted for, and whom a ban is for.
///
/// Written `203.0.113.5` or `2001:db8:1:2::/64`, `203.0.113.0/24` or `2001:db8:1::/48`, `AS64496`, and
/// `069a79f4-44e9-4726-a5be-fca90e38aaf5@203.0.113.5`. The form is stable: it stands in files and on command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A client address: an IPv4 address, or the /64 of an IPv6 one.
    Client(IpNet),
    /// The subnet of a client: a range of IPv4 addresses, or the /48 of an IPv6 one.
    Subnet(IpNet),
    /// A network, by its AS number.
    Asn(u32),
    /// One player's id, from one client address.
    Pair {
        /// The id.
        id: Uuid,
        /// The client address, as in [`Target::Client`].
        client: IpNet,
    },
}

/// The text names nobody who could be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no target of a ban: one is 203.0.113.5 or 2001:db8:1:2::/64 (a client address), 203.0.113.0/24 or \
     2001:db8:1::/48 (a subnet), AS64496, or <id>@<client address>"
)]
pub struct BadTarget;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => write_client(client, f),
            // Always with its prefix, so that a subnet of one address differs from that address.
            Self::Subnet(subnet) => write!(f, "{subnet}"),
            Self::Asn(number) => write!(f, "AS{number}"),
            Self::Pair { id, client } => {
                write!(f, "{id}@")?;
                write_client(client, f)
            }
        }
    }
}

fn write_client(client: &IpNet, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match client {
        IpNet::V4(v4) => write!(f, "{}", v4.addr()),
        IpNet::V6(v6) => write!(f, "{v6}"),
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let text = text.trim();
        if let Some((id, client)) = text.split_once('@') {
            let id = id.parse().map_err(|_| BadTarget)?;
            return Ok(Self::Pair { id, client: client_of(client).ok_or(BadTarget)? });
        }
        if let Some(number) = text.get(..2).filter(|start| start.eq_ignore_ascii_case("as")) {
            let digits = text.get(number.len()..).unwrap_or_default();
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            return digits.parse().ok().filter(|_| plain).map(Self::Asn).ok_or(BadTarget);
        }
        if let Some(client) = client_of(text) {
            return Ok(Self::Client(client));
        }
        let subnet: IpNet = text.parse().map_err(|_| BadTarget)?;
        match subnet {
            IpNet::V4(_) => Ok(Self::Subnet(subnet.trunc())),
            // No other range of IPv6 addresses is ever banned.
            IpNet::V6(_) if subnet.trunc() == address::subnet(subnet.addr(), 0) => {
                Ok(Self::Subnet(subnet.trunc()))
            }
            IpNet::V6(_) => Err(BadTarget),
        }
    }
}

/// A client: any of its addresses alone, or the whole /64.
fn client_of(text: &str) -> Option<IpNet> {
    if let Ok(alone) = text.parse::<IpAddr>() {
        return Some(address::limit_key(alone));
    }
    let range: IpNet = text.parse().ok()?;
    Some(address::limit_key(range.addr()))
        .filter(|client| matches!(client, IpNet::V6(_)) && *client == range.trunc())
}

impl TryFrom<String> for Target {
    type Error = BadTarget;

    fn try_from(text: String) -> Result<Self, BadTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "069a79f4-44e9-4726-a5be-fca90e38aaf5";

    #[test]
    fn one_form_for_each() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let id: Uuid = ID.parse().unwrap();
        for (target, text) in [
            (Target::Client(address::limit_key(ip("203.0.113.5"))), "203.0.113.5"),
            (Target::Client(address::limit_key(ip("2001:db8:1:2::7"))), "2001:db8:1:2::/64"),
            (Target::Subnet(address::subnet(ip("203.0.113.5"), 24)), "203.0.113.0/24"),
            (Target::Subnet(address::subnet(ip("203.0.113.5"), 32)), "203.0.113.5/32"),
            (Target::Subnet(address::subnet(ip("2001:db8:1:2::7"), 24)), "2001:db8:1::/48"),
            (Target::Asn(64496), "AS64496"),
            (Target::Asn(u32::MAX), "AS4294967295"),
            (
                Target::Pair { id, client: address::limit_key(ip("203.0.113.5")) },
                "069a79f4-44e9-4726-a5be-fca90e38aaf5@203.0.113.5",
            ),
            (
                Target::Pair { id, client: address::limit_key(ip("2001:db8::1")) },
                "069a79f4-44e9-4726-a5be-fca90e38aaf5@2001:db8::/64",
            ),
        ] {
            assert_eq!(target.to_string(), text);
            assert_eq!(text.parse(), Ok(target), "{text}");
            assert_eq!(serde_json::from_str::<Target>(&format!("\"{text}\"")).unwrap(), target);
            assert_eq!(serde_json::to_string(&target).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn what_people_write_too() {
        for (text, target) in [
            (" 203.0.113.5 ", "203.0.113.5"),
            ("::ffff:203.0.113.5", "203.0.113.5"),
            ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::7/64", "2001:db8:1:2::/64"),
            ("203.0.113.9/24", "203.0.113.0/24"),
            ("2001:db8:1:2::7/48", "2001:db8:1::/48"),
            ("as64496", "AS64496"),
            (
                "069A79F444E94726A5BEFCA90E38AAF5@2001:db8::7",
                "069a79f4-44e9-4726-a5be-fca90e38aaf5@2001:db8::/64",
            ),
        ] {
            assert_eq!(
                text.parse::<Target>().map(|target| target.to_string()).as_deref(),
                Ok(target),
                "{text}"
            );
        }
    }

    #[test]
    fn and_what_means_nobody() {
        let pair = |client: &str| format!("{ID}@{client}");
        let pairs = [pair(""), pair("203.0.113.0/24"), pair("2001:db8:1::/48"), pair("AS64496"), pair("x")];
        let others = [
            "",
            "AS",
            "AS-1",
            "AS+1",
            "AS4294967296",
            "64496",
            "203.0.113",
            "203.0.113.5/33",
            "2001:db8::/56",
            "2001:db8::1/128",
            "Notch",
            "Notch@203.0.113.5",
            "ä",
            "aé",
        ];
        for text in others.into_iter().map(str::to_owned).chain(pairs) {
            assert_eq!(text.parse::<Target>(), Err(BadTarget), "{text:?}");
        }
    }
}
