//! Who is connected, and sending somebody away.

use std::{fmt, net::IpAddr};

use hyper::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use uuid::Uuid;

use super::{
    Handles,
    answer::{self, Answer, Refused},
    routes::Call,
    sessions::BY,
    status::Counts,
};
use crate::{
    audit::{Event, Kind},
    identity::{Username, Whom},
};

/// Longest text for a player who is sent away, in characters. Any client shows that much.
pub const MAX_REASON: usize = 256;

/// A player who is in, or held until its PIN is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Player {
    /// The name.
    pub name: String,
    /// The id: proven, or while it is held, that of the session it has to prove.
    pub id: Uuid,
    /// The connection's number, as audit.log has it, such as `c-12`. Nobody else has it; a player may have several.
    pub connection: String,
    /// `verified`, `fallback`, `pinned` or `held`.
    pub proof: String,
    /// The client address.
    pub address: IpAddr,
    /// The client's protocol number.
    pub protocol: Option<i32>,
    /// The game release of that number, if it is known.
    pub version: Option<String>,
    /// The backend it is on; `None` for one who is asked for its PIN before it meets any.
    pub backend: Option<String>,
    /// The host that its client was given.
    pub host: Option<String>,
    /// Since when it is in, or held.
    pub since: Timestamp,
}

/// Everybody who is in or held.
pub trait Players: Send + Sync {
    /// How many.
    fn counts(&self) -> Counts;

    /// Each of them, by name.
    fn list(&self) -> Box<dyn ExactSizeIterator<Item = Player> + Send>;

    /// Sends these away, with this text instead of the configured one. Who it was, one for each connection; without those
    /// who were asked to leave before.
    fn kick(&self, which: &Which, text: Option<&str>) -> Vec<Player>;
}

/// Which connections are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of that number, such as `c-12`, if it is that player's: numbers begin anew with each run of the proxy.
    Connection(String, Option<Whom>),
    /// Every one of that player. Somebody who only claims to be the player, and is held for the PIN, counts as well.
    Player(Whom),
}

impl Which {
    /// Whether a connection of that number, id and name is meant.
    pub fn means(&self, number: &impl fmt::Display, id: Uuid, name: &Username) -> bool {
        let is = |whom: &Whom| match whom {
            Whom::Id(whose) => *whose == id,
            Whom::Name(whose) => whose.same_as(name),
        };
        match self {
            Self::Connection(meant, whom) => number.to_string() == *meant && whom.as_ref().is_none_or(is),
            Self::Player(whom) => is(whom),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(number, None) => write!(f, "{number}"),
            Self::Connection(number, Some(whom)) => write!(f, "{number} of {whom}"),
            Self::Player(whom) => write!(f, "{whom}"),
        }
    }
}

/// Whom to send away: a connection, a player, or a connection if it is that player's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    connection: Option<String>,
    player: Option<String>,
    reason: Option<String>,
}

impl Kick {
    fn which(&self) -> Result<Which, String> {
        let whom = |player: &String| player.parse().map_err(|error| format!("{error}"));
        match (&self.connection, &self.player) {
            (Some(number), player) => {
                let digits = number.strip_prefix("c-").unwrap_or_default().as_bytes();
                let fits = matches!(digits.len(), 1..=16) && digits.iter().all(u8::is_ascii_hexdigit);
                let what = || "a connection is given by its number in /api/players, such as c-12".to_owned();
                let whom = player.as_ref().map(whom).transpose()?;
                fits.then(|| Which::Connection(number.clone(), whom)).ok_or_else(what)
            }
            (None, Some(player)) => whom(player).map(Which::Player),
            (None, None) => Err("say whom: \"connection\" or \"player\"".to_owned()),
        }
    }
}

/// `GET /api/players`
pub(super) fn list(handles: &Handles) -> Answer {
    let players = handles.players.list();
    let mut fields = Map::new();
    fields.insert("total".to_owned(), players.len().into());
    answer::list(&fields, "players", players)
}

/// `POST /api/players/kick`
pub(super) fn kick(handles: &Handles, call: &Call) -> Result<Answer, Refused> {
    let order: Kick = call.content()?;
    let bad = |what: &dyn fmt::Display| Refused::new(StatusCode::BAD_REQUEST, what);
    let which = order.which().map_err(|what| bad(&what))?;
    let text = order.reason.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().nth(MAX_REASON).is_some()) {
        return Err(bad(&format_args!("the reason has more than {MAX_REASON} characters")));
    }
    if text.is_some_and(|text| text.chars().any(|c| c.is_control() && c != '\n')) {
        return Err(bad(&"the reason holds control characters"));
    }
    let kicked = handles.players.kick(&which, text);
    if kicked.is_empty() {
        return Err(Refused::new(StatusCode::NOT_FOUND, format_args!("{which} is not connected")));
    }
    for player in &kicked {
        let event = Event::new(Kind::PlayerKicked, handles.clock.now())
            .conn(&player.connection)
            .player(&player.name)
            .id(player.id)
            .address(player.address)
            .field("proof", player.proof.as_str())
            .field("by", BY);
        handles.audit.emit(match text {
            Some(text) => event.field("text", text),
            None => event,
        });
        tracing::info!(
            conn = player.connection, player = player.name, id = %player.id, address = %player.address,
            "kicked by the owner"
        );
    }
    Ok(answer::object(StatusCode::OK, &json!({ "kicked": kicked })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_or_a_player() {
        let which = |content: &str| serde_json::from_str::<Kick>(content).unwrap().which().ok();
        assert_eq!(which(r#"{"connection": "c-1f"}"#), Some(Which::Connection("c-1f".to_owned(), None)));
        let both = which(r#"{"connection": "c-1f", "player": "Anna"}"#).unwrap();
        let (anna, bert) = (Username::parse("Anna").unwrap(), Username::parse("Bert").unwrap());
        for (number, name, meant) in [("c-1f", &anna, true), ("c-1f", &bert, false), ("c-1e", &anna, false)] {
            assert_eq!(both.means(&number, Uuid::nil(), name), meant, "{number} {name}");
        }
        let anna = which(r#"{"player": "Anna", "reason": "Dinner"}"#);
        assert!(
            matches!(&anna, Some(Which::Player(Whom::Name(name))) if name.as_str() == "Anna"),
            "{anna:?}"
        );
        for bad in [
            "{}",
            r#"{"connection": "c-1", "player": "No name"}"#,
            r#"{"connection": "1"}"#,
            r#"{"connection": "c-"}"#,
            r#"{"connection": "c-+1"}"#,
            r#"{"connection": "c-11111111111111111"}"#,
            r#"{"player": "c-1"}"#,
        ] {
            assert_eq!(which(bad), None, "{bad}");
        }
    }
}
