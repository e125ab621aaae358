//! What is wrong with a backend that did not let a player in, in words for its owner.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use serde_json::Value;
use uuid::Uuid;

use super::{Backend, ForwardingMode, connect::Attempt};
use crate::{foreign, protocol::reader::Malformed, reason::Reason};

/// Longest quotation of a backend's words, in characters.
const MAX_WORDS: usize = 200;

/// Why a backend did not let a player in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No backend of the route took a connection.
    Unreachable {
        /// What was tried, in order.
        attempts: Vec<Attempt>,
    },
    /// It takes connections and says nothing.
    Silent,
    /// It closed the connection without a word.
    Cut,
    /// It sent something that is not the login of this protocol version.
    Protocol(Malformed),
    /// It wants to authenticate the player itself.
    OnlineMode,
    /// It let the player in without asking who it is.
    ForwardingNotAsked,
    /// It asks for a kind of forwarding other than the configured one, or none that it could read came.
    ForwardingExpected {
        /// The kind it asks for.
        wanted: ForwardingMode,
    },
    /// It does not accept our signature or token.
    WrongSecret,
    /// It let somebody else in than who was forwarded.
    WrongIdentity {
        /// The id it gave the player.
        given: Uuid,
    },
    /// It speaks another protocol version than the player's client.
    WrongVersion {
        /// Its own words for the player, JSON.
        words: String,
    },
    /// It wants players to sign their chat with a key of their own, and this one brought none it would take.
    ProfileKeyWanted,
    /// It counts all players as one, because all come from this proxy's address, and they come too fast.
    Throttled {
        /// Its own words for the player, JSON.
        words: String,
    },
    /// It does not want this player: a ban, a whitelist, a full server.
    Refused {
        /// Its own words for the player, JSON.
        words: String,
    },
}

/// What a backend was told about the player before it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or nothing it could check.
    Nothing,
    /// That we do not answer, when it asked as in modern forwarding.
    Declined,
    /// Who the player is, with a signature or token.
    Signed,
}

impl Fault {
    /// Every [label](Self::label).
    pub const LABELS: &[&str] = &[
        "unreachable",
        "silent",
        "cut",
        "protocol",
        "online-mode",
        "forwarding-not-asked",
        "forwarding-expected",
        "wrong-secret",
        "wrong-identity",
        "wrong-version",
        "profile-key-wanted",
        "throttled",
        "refused",
    ];

    /// What a backend's disconnect means. Its text names the cause; the mode says which causes are possible, so that
    /// the reason of a ban cannot pass for a broken setup.
    pub fn of_disconnect(json: &str, mode: ForwardingMode, told: Told) -> Self {
        let text = text_of(json).to_lowercase();
        // A colour that was not understood, where mods wrote it down as plugins do.
        let text = text.trim_start().trim_start_matches("&c");
        let says = |known: &[&str]| known.iter().any(|known| text.starts_with(known));
        let expects = |wanted| Self::ForwardingExpected { wanted };
        let words = || json.to_owned();
        // The texts of Paper (whose forwarding other servers and mods copied), Spigot, BungeeGuard, ViaVersion, Velocity
        // as a backend, and the game.
        if told == Told::Signed && says(&["unable to verify player details"]) {
            Self::WrongSecret
        } else if says(&["unable to authenticate"]) {
            // BungeeGuard: without or with a wrong token.
            if mode == ForwardingMode::BungeeGuard && !text.contains("no data was forwarded") {
                Self::WrongSecret
            } else {
                expects(ForwardingMode::BungeeGuard)
            }
        } else if says(&["this server requires you to connect with velocity"]) {
            expects(ForwardingMode::Modern)
        } else if says(&["if you wish to use ip forwarding, please enable it in your bungeecord config"]) {
            expects(ForwardingMode::Legacy)
        } else if says(&["unknown data in login hostname, did you forget to enable bungeecord"]) {
            Self::ForwardingNotAsked
        } else if says(&["multiplayer.disconnect.unverified_username"]) {
            Self::OnlineMode
        } else if says(&[
            "multiplayer.disconnect.missing_public_key",
            "multiplayer.disconnect.invalid_public_key",
            "missing profile public key",
            "invalid signature for profile public key",
        ]) {
            Self::ProfileKeyWanted
        } else if says(&[
            "multiplayer.disconnect.outdated_client",
            "multiplayer.disconnect.outdated_server",
            "multiplayer.disconnect.incompatible",
            "outdated client!",
            "outdated server!",
            "incompatible client!",
            "you are using an unsupported minecraft version",
            "this server is only compatible with",
        ]) {
            Self::WrongVersion { words: words() }
        } else if says(&["connection throttled!", "you are logging in too fast"]) {
            Self::Throttled { words: words() }
        } else if told == Told::Declined {
            // The text for those who come without the proxy is the owner's to choose.
            expects(ForwardingMode::Modern)
        } else {
            Self::Refused { words: words() }
        }
    }

    /// Whether a backend's disconnect comes from its lists and limits (whitelist, bans, slots), which it looks at when
    /// it has settled who the player is.
    pub fn is_of_a_list(json: &str) -> bool {
        let text = text_of(json).to_lowercase();
        [
            "multiplayer.disconnect.not_whitelisted",
            "multiplayer.disconnect.banned",
            "multiplayer.disconnect.server_full",
            "you are not whitelisted on this server",
            "you are not white-listed on this server",
            "you are banned from this server",
            "the server is full",
        ]
        .iter()
        .any(|known| text.starts_with(known))
    }

    /// Whether a backend's disconnect is about what stands behind the signature in modern forwarding: it has read on.
    pub fn is_about_content(json: &str) -> bool {
        text_of(json).to_lowercase().contains("unsupported forwarding version")
    }

    /// A stable word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Silent => "silent",
            Self::Cut => "cut",
            Self::Protocol(_) => "protocol",
            Self::OnlineMode => "online-mode",
            Self::ForwardingNotAsked => "forwarding-not-asked",
            Self::ForwardingExpected { .. } => "forwarding-expected",
            Self::WrongSecret => "wrong-secret",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::WrongVersion { .. } => "wrong-version",
            Self::ProfileKeyWanted => "profile-key-wanted",
            Self::Throttled { .. } => "throttled",
            Self::Refused { .. } => "refused",
        }
    }

    /// The reason code of a login that ended so.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. }
            | Self::Silent
            | Self::Cut
            | Self::Throttled { .. }
            | Self::Refused { .. } => Reason::BackendUnavailable,
            Self::Protocol(_)
            | Self::OnlineMode
            | Self::ForwardingNotAsked
            | Self::ForwardingExpected { .. }
            | Self::WrongSecret
            | Self::WrongIdentity { .. }
            | Self::ProfileKeyWanted
            | Self::WrongVersion { .. } => Reason::BackendMisconfigured,
        }
    }

    /// The backend's own words for its player, JSON, where they tell the player more than we could.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Refused { words } | Self::WrongVersion { words } | Self::Throttled { words } => Some(words),
            _ => None,
        }
    }

    /// What happened, for the operator.
    pub fn cause(&self) -> String {
        match self {
            Self::Unreachable { attempts } => {
                let mut text = "cannot be reached".to_owned();
                for (i, attempt) in attempts.iter().enumerate() {
                    let _ = write!(text, "{}{attempt}", if i == 0 { ": " } else { "; " });
                }
                text
            }
            Self::Silent => "accepts connections but does not answer the login".to_owned(),
            Self::Cut => "closed the connection in the middle of the login without a reason".to_owned(),
            Self::Protocol(error) => {
                format!("sent something that is no login of this protocol version: {error}")
            }
            Self::OnlineMode => "is in online mode: it wants to authenticate players itself".to_owned(),
            Self::ForwardingNotAsked => {
                "does not ask who the player is: forwarding is not enabled there".to_owned()
            }
            Self::ForwardingExpected { wanted } => {
                format!("expects {}, which is not what this proxy is set to for it", kind_of(*wanted))
            }
            Self::WrongSecret => "does not accept our forwarding secret".to_owned(),
            Self::WrongIdentity { given } => {
                // Offline-mode servers make ids of version 3 from names; accounts have version 4.
                let made_up = if given.get_version_num() == 3 { ", one made from its name" } else { "" };
                format!("ignored the forwarded player and gave it the id {given}{made_up}")
            }
            Self::WrongVersion { words } => {
                format!("does not accept this protocol version: {:?}", shown(words))
            }
            Self::ProfileKeyWanted => {
                "wants a chat key of the player at the login, and got none it would take".to_owned()
            }
            Self::Throttled { words } => {
                format!(
                    "throttles connections, and all players come from this proxy's address: {:?}",
                    shown(words)
                )
            }
            Self::Refused { words } => format!("refused the player: {:?}", shown(words)),
        }
    }

    /// What to do about it, for the operator.
    pub fn mend(&self, at: &Backend) -> String {
        match self {
            Self::Unreachable { attempts } if attempts.iter().all(has_no_address) => {
                "correct the name in its `address` under `backends`; if the name is right, see what this machine makes of it: /etc/hosts, /etc/resolv.conf, the container's network"
            }
            Self::Unreachable { .. } => {
                "start it, or correct its `address` under `backends`; check `server-port` and `server-ip` in its server.properties, and firewalls between here and there"
            }
            Self::Silent => {
                "see whether it hangs, whether its port belongs to something other than a Minecraft server, and whether it waits for a PROXY header (`proxies.proxy-protocol` in its config/paper-global.yml goes with `send-proxy-protocol: true` here)"
            }
            Self::Cut => {
                "look into its log at this moment; a PROXY header that only one side expects (`send-proxy-protocol` here, `proxies.proxy-protocol` in its config/paper-global.yml) ends like this, and so does a forwarding mode that it does not know"
            }
            Self::Protocol(_) => {
                "check that its `address` under `backends` is that of a Minecraft server, and that no mod or plugin changes its login"
            }
            Self::OnlineMode => {
                "set `online-mode=false` in its server.properties, let it accept players from this proxy only (firewall), and switch on forwarding"
            }
            // It has asked, and checked who answers: the forwarding works, and its result is thrown away.
            Self::WrongIdentity { .. } if at.forwarding == ForwardingMode::Modern => {
                "a plugin or setting there makes ids of its own: look for one that changes UUIDs (offline UUIDs, plugins for passwords)"
            }
            Self::ForwardingNotAsked | Self::WrongIdentity { .. } => return switch_on(at),
            Self::ForwardingExpected { wanted } => change_mode(at.forwarding, *wanted),
            Self::WrongSecret => match at.forwarding {
                ForwardingMode::BungeeGuard => {
                    "put the secret of this proxy's `secret-file` under `allowed-tokens` in its plugins/BungeeGuard/config.yml"
                }
                _ => {
                    "put the same secret on both sides: `proxies.velocity.secret` in its config/paper-global.yml (or `secret` in the FabricProxy-Lite config) and this proxy's `secret-file`; then restart the backend"
                }
            },
            Self::WrongVersion { .. } => {
                "the player needs the game version of the backend; to serve several, install ViaVersion on the backend"
            }
            Self::ProfileKeyWanted => "set `enforce-secure-profile=false` in its server.properties",
            Self::Throttled { .. } => {
                "set `settings.connection-throttle: -1` in its bukkit.yml: behind a proxy all players share one address; this proxy has limits of its own"
            }
            Self::Refused { .. } => {
                "nothing to mend here: it is the backend's own decision (whitelist, ban, full server)"
            }
        }
        .to_owned()
    }
}

/// Whether an attempt failed for the name: there was no address to try.
fn has_no_address(attempt: &Attempt) -> bool {
    attempt.address.is_none()
}

/// What it means that a backend lets players in whom nobody vouches for, and what to do. `how` tells more about enabling
/// forwarding; it begins with its own punctuation, and may be empty.
pub fn exposure(at: &Backend, how: &str) -> String {
    let mut text =
        format!("anyone who can reach {} can be anyone: firewall it or enable forwarding{how}", at.address());
    // That address sounds as if nobody else could reach it; but it is only where the proxy connects to.
    let loopback = match at.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback().then_some(ip),
        Err(_) => at.host.eq_ignore_ascii_case("localhost").then_some(Ipv4Addr::LOCALHOST.into()),
    };
    if let Some(ip) = loopback {
        let _ = write!(
            text,
            "; it may listen on all addresses of this machine: set `server-ip={ip}` in its server.properties"
        );
    }
    text
}

/// How a backend that asks nobody who the player is stops being open to all.
pub fn switch_on(at: &Backend) -> String {
    exposure(at, &format!("; for that, {}", setting_of(at.forwarding)))
}

/// The name of a kind of forwarding, for owners.
pub const fn kind_of(mode: ForwardingMode) -> &'static str {
    match mode {
        ForwardingMode::Modern => "modern (Velocity) forwarding",
        ForwardingMode::Legacy => "BungeeCord forwarding",
        ForwardingMode::BungeeGuard => "BungeeGuard forwarding",
        ForwardingMode::None => "no forwarding",
    }
}

/// How a backend is made to ask.
const fn setting_of(mode: ForwardingMode) -> &'static str {
    match mode {
        ForwardingMode::Modern => {
            "set `proxies.velocity.enabled: true` and `proxies.velocity.secret` in its config/paper-global.yml (Paper), or install FabricProxy-Lite (Fabric) or Proxy Compatible Forge (Forge, NeoForge)"
        }
        ForwardingMode::Legacy => "set `settings.bungeecord: true` in its spigot.yml",
        ForwardingMode::BungeeGuard => {
            "set `settings.bungeecord: true` in its spigot.yml and install BungeeGuard on it"
        }
        ForwardingMode::None => "set `forwarding` for this backend to what it is set up for",
    }
}

/// How both sides are made to mean the same kind of forwarding: the side here first, which takes no restart there.
const fn change_mode(here: ForwardingMode, there: ForwardingMode) -> &'static str {
    match (here, there) {
        (ForwardingMode::Modern, ForwardingMode::Modern) => {
            "it could not read our answer: update it, or the mod on it that asks for forwarding"
        }
        (_, ForwardingMode::Modern) => {
            "set `forwarding: modern` and its secret (`proxies.velocity.secret` in its config/paper-global.yml) for this backend here"
        }
        (ForwardingMode::Modern, ForwardingMode::BungeeGuard) => {
            "set `forwarding: bungeeguard` and its token for this backend here; or, better, remove BungeeGuard there and set `settings.bungeecord: false` in its spigot.yml and `proxies.velocity.enabled: true` in its config/paper-global.yml"
        }
        (ForwardingMode::Legacy | ForwardingMode::None, ForwardingMode::BungeeGuard) => {
            "set `forwarding: bungeeguard` and one of its tokens (`allowed-tokens` in its plugins/BungeeGuard/config.yml) for this backend here"
        }
        (ForwardingMode::Modern, _) => {
            "set `settings.bungeecord: false` in its spigot.yml and `proxies.velocity.enabled: true` in its config/paper-global.yml; or `forwarding: legacy` for this backend here, if it is older than 1.13"
        }
        (ForwardingMode::Legacy | ForwardingMode::BungeeGuard, _) => {
            "it could not read our host fields: a plugin or mod there, or something between here and there, changes them"
        }
        (ForwardingMode::None, _) => {
            "set `forwarding: legacy` for this backend here (`settings.bungeecord: true` in its spigot.yml), and let its port be reached by this proxy only"
        }
    }
}

/// The text of a foreign component without anything that could disturb a log, cut at 200 characters.
pub fn shown(json: &str) -> String {
    foreign::clean_to(&text_of(json), MAX_WORDS)
}

fn text_of(json: &str) -> String {
    plain_text(&serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned())))
}

/// The characters of a text component: text or translation key, then what it contains, in reading order. Colour
/// codes in the old style are left out.
pub fn plain_text(component: &Value) -> String {
    let mut out = String::new();
    put_plain(component, &mut out);
    let mut plain = String::with_capacity(out.len());
    let mut chars = out.chars();
    while let Some(c) = chars.next() {
        if c == '§' {
            chars.next();
        } else {
            plain.push(c);
        }
    }
    plain
}

fn put_plain(component: &Value, out: &mut String) {
    match component {
        Value::String(text) => out.push_str(text),
        Value::Array(parts) => parts.iter().for_each(|part| put_plain(part, out)),
        Value::Object(fields) => {
            for key in ["text", "translate", "extra"] {
                if let Some(value) = fields.get(key) {
                    put_plain(value, out);
                }
            }
        }
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Null => {}
    }
}

#[cfg(test)]
mod tests;
