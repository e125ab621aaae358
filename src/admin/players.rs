//! Who is connected, and sending somebody away.

use std::net::IpAddr;

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
    identity::Whom,
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

    /// Sends away every connection of that player, with this text instead of the configured one. Who it was: empty if
    /// nobody.
    fn kick(&self, whom: &Whom, text: Option<&str>) -> Vec<Player>;
}

/// Whom to send away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    player: String,
    reason: Option<String>,
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
    let Kick { player, reason } = call.content()?;
    let bad = |what: &dyn std::fmt::Display| Refused::new(StatusCode::BAD_REQUEST, what);
    let whom: Whom = player.parse().map_err(|error| bad(&error))?;
    let text = reason.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().nth(MAX_REASON).is_some()) {
        return Err(bad(&format_args!("the reason has more than {MAX_REASON} characters")));
    }
    if text.is_some_and(|text| text.chars().any(|c| c.is_control() && c != '\n')) {
        return Err(bad(&"the reason holds control characters"));
    }
    let kicked = handles.players.kick(&whom, text);
    if kicked.is_empty() {
        return Err(Refused::new(StatusCode::NOT_FOUND, format_args!("{whom} is not connected")));
    }
    for player in &kicked {
        let event = Event::new(Kind::PlayerKicked, handles.clock.now())
            .player(&player.name)
            .id(player.id)
            .address(player.address)
            .field("proof", player.proof.as_str())
            .field("by", BY);
        handles.audit.emit(match text {
            Some(text) => event.field("text", text),
            None => event,
        });
        tracing::info!(player = player.name, id = %player.id, address = %player.address, "kicked by the owner");
    }
    let names: Vec<&str> = kicked.iter().map(|player| player.name.as_str()).collect();
    Ok(answer::object(StatusCode::OK, &json!({ "kicked": names })))
}
