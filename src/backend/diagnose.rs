//! What is wrong with a backend that did not let a player in, in words for its owner.

use std::fmt::Write as _;

use serde_json::Value;
use uuid::Uuid;

use super::{ForwardingMode, connect::Attempt};
use crate::{protocol::reader::Malformed, reason::Reason};

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
    /// It asks for a kind of forwarding other than the configured one.
    ForwardingExpected,
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
    /// Who the player is, with a signature or token.
    Signed,
}

impl Fault {
    /// What a backend's disconnect means. Its text names the cause; the mode says which causes are possible, so that
    /// the reason of a ban cannot pass for a broken setup.
    pub fn of_disconnect(json: &str, mode: ForwardingMode, told: Told) -> Self {
        let text = serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| plain_text(&value));
        let text = text.to_lowercase();
        let says = |known: &[&str]| known.iter().any(|known| text.starts_with(known));
        // The texts of Paper (whose forwarding other servers and mods copied), Spigot and BungeeGuard.
        if told == Told::Signed && says(&["unable to verify player details"]) {
            Self::WrongSecret
        } else if mode == ForwardingMode::BungeeGuard && says(&["unable to authenticate"]) {
            if text.contains("no data was forwarded") { Self::ForwardingExpected } else { Self::WrongSecret }
        } else if says(&[
            "this server requires you to connect with velocity",
            "if you wish to use ip forwarding, please enable it in your bungeecord config",
            "unable to authenticate - no data was forwarded",
        ]) {
            Self::ForwardingExpected
        } else if says(&["unknown data in login hostname, did you forget to enable bungeecord"]) {
            Self::ForwardingNotAsked
        } else if says(&["multiplayer.disconnect.unverified_username"]) {
            Self::OnlineMode
        } else if says(&[
            "multiplayer.disconnect.outdated_client",
            "multiplayer.disconnect.outdated_server",
            "multiplayer.disconnect.incompatible",
            "outdated client!",
            "outdated server!",
            "incompatible client!",
        ]) {
            Self::WrongVersion { words: json.to_owned() }
        } else {
            Self::Refused { words: json.to_owned() }
        }
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
            Self::ForwardingExpected => "forwarding-expected",
            Self::WrongSecret => "wrong-secret",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::WrongVersion { .. } => "wrong-version",
            Self::Refused { .. } => "refused",
        }
    }

    /// The reason code of a login that ended so.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Silent | Self::Cut | Self::Refused { .. } => {
                Reason::BackendUnavailable
            }
            Self::Protocol(_)
            | Self::OnlineMode
            | Self::ForwardingNotAsked
            | Self::ForwardingExpected
            | Self::WrongSecret
            | Self::WrongIdentity { .. }
            | Self::WrongVersion { .. } => Reason::BackendMisconfigured,
        }
    }

    /// The backend's own words for its player, JSON, where they tell the player more than we could.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Refused { words } | Self::WrongVersion { words } => Some(words),
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
            Self::ForwardingNotAsked => "let the player in without asking who it is".to_owned(),
            Self::ForwardingExpected => "expects another kind of player forwarding than it got".to_owned(),
            Self::WrongSecret => "does not accept our forwarding secret".to_owned(),
            Self::WrongIdentity { given } => {
                // Offline-mode servers make ids of version 3 from names; accounts have version 4.
                let made_up = if given.get_version_num() == 3 { ", one made from its name" } else { "" };
                format!("ignored the forwarded player and gave it the id {given}{made_up}")
            }
            Self::WrongVersion { words } => {
                format!("does not accept this protocol version: {:?}", shown(words))
            }
            Self::Refused { words } => format!("refused the player: {:?}", shown(words)),
        }
    }

    /// What to do about it, for the operator.
    pub const fn mend(&self, mode: ForwardingMode) -> &'static str {
        match self {
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
            Self::ForwardingNotAsked | Self::WrongIdentity { .. } => match mode {
                ForwardingMode::Modern => {
                    "switch modern forwarding on: `proxies.velocity.enabled: true` and `proxies.velocity.secret` in its config/paper-global.yml (Paper), or a mod such as FabricProxy-Lite (Fabric) or Proxy Compatible Forge (Forge, NeoForge); until then anyone who reaches its port can join as anyone, so close it with a firewall"
                }
                ForwardingMode::Legacy | ForwardingMode::BungeeGuard => {
                    "set `settings.bungeecord: true` in its spigot.yml; until then anyone who reaches its port can join as anyone, so close it with a firewall"
                }
                ForwardingMode::None => "set `forwarding` for this backend to what it is set up for",
            },
            Self::ForwardingExpected => match mode {
                ForwardingMode::Modern => {
                    "it is set up for BungeeCord forwarding, or could not read our answer: set `settings.bungeecord: false` in its spigot.yml and `proxies.velocity.enabled: true` in its config/paper-global.yml, or `forwarding: legacy` for it here"
                }
                ForwardingMode::Legacy | ForwardingMode::BungeeGuard | ForwardingMode::None => {
                    "set `forwarding: modern` and its secret for this backend here if its config/paper-global.yml has `proxies.velocity.enabled: true`; `forwarding: legacy` or `bungeeguard` if its spigot.yml has `settings.bungeecord: true`"
                }
            },
            Self::WrongSecret => match mode {
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
            Self::Refused { .. } => {
                "nothing to mend here: it is the backend's own decision (whitelist, ban, full server)"
            }
        }
    }
}

/// The text of a foreign component without anything that could disturb a log, cut at 200 characters.
fn shown(json: &str) -> String {
    let text = serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| plain_text(&value));
    text.chars().filter(|c| !c.is_control()).take(200).collect()
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
mod tests {
    use super::*;

    #[test]
    fn disconnects_are_told_apart() {
        use ForwardingMode::{BungeeGuard, Legacy, Modern, None};
        for (json, mode, told, label) in [
            (r#"{"text":"Unable to verify player details"}"#, Modern, Told::Signed, "wrong-secret"),
            (r#""Unable to verify player details.""#, Modern, Told::Signed, "wrong-secret"),
            (r#"{"text":"Unable to verify player details"}"#, Modern, Told::Nothing, "refused"),
            (
                r#"{"text":"","extra":[{"text":"This server requires you to connect with Velocity."}]}"#,
                None,
                Told::Nothing,
                "forwarding-expected",
            ),
            (
                r#"{"text":"If you wish to use IP forwarding, please enable it in your BungeeCord config as well!"}"#,
                Modern,
                Told::Nothing,
                "forwarding-expected",
            ),
            (
                r#"{"text":"Unknown data in login hostname, did you forget to enable BungeeCord in spigot.yml?"}"#,
                Legacy,
                Told::Nothing,
                "forwarding-not-asked",
            ),
            (r#"{"text":"§cUnable to authenticate."}"#, BungeeGuard, Told::Signed, "wrong-secret"),
            (
                r#"{"text":"Unable to authenticate - no data was forwarded by the proxy."}"#,
                BungeeGuard,
                Told::Signed,
                "forwarding-expected",
            ),
            (
                r#"{"translate":"multiplayer.disconnect.outdated_client","with":["1.21"]}"#,
                Modern,
                Told::Nothing,
                "wrong-version",
            ),
            (
                r#"{"translate":"multiplayer.disconnect.incompatible","with":["1.21"]}"#,
                None,
                Told::Nothing,
                "wrong-version",
            ),
            (r#"{"text":"Outdated server! I'm still on 1.20.4"}"#, Modern, Told::Nothing, "wrong-version"),
            (r#"{"text":"Banned: outdated client! used to cheat"}"#, Modern, Told::Signed, "refused"),
            (r#"{"translate":"multiplayer.disconnect.not_whitelisted"}"#, Modern, Told::Signed, "refused"),
            ("not json", Modern, Told::Signed, "refused"),
        ] {
            assert_eq!(Fault::of_disconnect(json, mode, told).label(), label, "{json}");
        }
        let words = r#"{"translate":"multiplayer.disconnect.server_full"}"#;
        assert_eq!(Fault::of_disconnect(words, Modern, Told::Signed).words(), Some(words));
    }

    #[test]
    fn every_fault_names_its_cause_and_cure() {
        let attempt = Attempt { backend: "lobby".into(), address: None, error: "no such host".into() };
        let words = || "{\"text\":\"no\\u001b[31m\"}".to_owned();
        let faults = [
            (
                Fault::Unreachable { attempts: vec![attempt] },
                Reason::BackendUnavailable,
                "lobby: no such host",
                "`address`",
            ),
            (Fault::Silent, Reason::BackendUnavailable, "accepts connections", "PROXY header"),
            (Fault::Cut, Reason::BackendUnavailable, "closed", "log"),
            (Fault::Protocol(Malformed::NotUtf8), Reason::BackendMisconfigured, "UTF-8", "`address`"),
            (Fault::OnlineMode, Reason::BackendMisconfigured, "online mode", "online-mode=false"),
            (
                Fault::ForwardingNotAsked,
                Reason::BackendMisconfigured,
                "without asking",
                "proxies.velocity.enabled",
            ),
            (
                Fault::ForwardingExpected,
                Reason::BackendMisconfigured,
                "expects another",
                "config/paper-global.yml",
            ),
            (Fault::WrongSecret, Reason::BackendMisconfigured, "secret", "proxies.velocity.secret"),
            (
                Fault::WrongIdentity { given: Uuid::from_u128(3 << 76) },
                Reason::BackendMisconfigured,
                "made from its name",
                "FabricProxy-Lite",
            ),
            (
                Fault::WrongVersion { words: words() },
                Reason::BackendMisconfigured,
                "version: \"no[31m\"",
                "ViaVersion",
            ),
            (
                Fault::Refused { words: words() },
                Reason::BackendUnavailable,
                "refused the player: \"no[31m\"",
                "own decision",
            ),
        ];
        let mut labels: Vec<_> = faults.iter().map(|(fault, ..)| fault.label()).collect();
        for (fault, reason, cause, mend) in &faults {
            assert_eq!(fault.reason(), *reason, "{fault:?}");
            assert!(fault.cause().contains(cause), "{}", fault.cause());
            assert!(fault.mend(ForwardingMode::Modern).contains(mend), "{fault:?}");
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), faults.len());
        assert!(Fault::ForwardingNotAsked.mend(ForwardingMode::Legacy).contains("spigot.yml"));
        assert!(Fault::WrongSecret.mend(ForwardingMode::BungeeGuard).contains("BungeeGuard"));
    }
}
