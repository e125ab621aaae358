//! Messages as one JSON object. It has a `text`, which is all that simple receivers look at.

use serde_json::{Value, json};

use super::{
    Topic,
    batch::Told,
    hub::News,
    message::{self, Message, cleaned},
};
use crate::{
    address,
    alert::{Alert, BanAdded, Fallback, GeoChanged, Subject},
};

/// The message.
pub(super) fn body(message: &Message) -> Value {
    let value = match message {
        Message::Began(began) => json!({
            "type": "outage.started",
            "text": message::began(began, str::to_owned),
            "started": format!("{:.3}", began.at),
            "cause": cleaned(&began.cause),
        }),
        Message::Ended(ended) => {
            let (admitted, refused) = (message::admitted(ended, str::to_owned), message::refused(ended));
            let players: Vec<String> = ended.players.names.iter().map(|name| cleaned(name)).collect();
            json!({
                "type": "outage.ended",
                "text": format!(
                    "The outage is over. {} Admitted without Mojang: {admitted}. Refused: {refused}.",
                    message::lasted(ended)
                ),
                "started": format!("{:.3}", ended.from),
                "ended": format!("{:.3}", ended.to),
                "seconds": ended.lasted().as_secs(),
                "admitted": ended.logins.admitted,
                "players": players,
                "more_players": ended.players.more,
                "refused": message::all_refused(ended),
                "refused_by_reason": ended.logins.refused,
            })
        }
        Message::Batch(Told { items, left_out }) => {
            let mut lines: Vec<String> =
                items.iter().map(|news| message::line(&news.alert, str::to_owned)).collect();
            if !left_out.is_empty() {
                lines.push(format!("and also: {left_out}"));
            }
            let events: Vec<Value> = items.iter().map(|news| event(news)).collect();
            json!({
                "type": "events",
                "text": lines.join("\n"),
                "events": events,
                "left_out": left_out.count(),
            })
        }
    };
    with(value, json!({ "source": concat!("Postern/", env!("CARGO_PKG_VERSION")) }))
}

/// One object with the fields of both.
pub(super) fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// One alert, by the names of audit.log.
fn event(news: &News) -> Value {
    let event = match &news.alert {
        Alert::Fallback(Fallback { player, ground, pin_proven, outage }) => {
            let how = json!({
                "reason": ground.to_string(),
                "pin_proven": pin_proven,
                "outage_seconds": outage.as_secs(),
            });
            with(subject(player), how)
        }
        Alert::GeoChanged(GeoChanged { player, known, proof }) => {
            with(subject(player), json!({ "known_places": known, "proof": proof }))
        }
        Alert::BanAdded(BanAdded { target, failures, until }) => json!({
            "target": cleaned(target),
            "failures": failures,
            "until": format!("{until:.3}"),
        }),
        Alert::AuthState(change) => json!({ "from": change.from, "to": change.to }),
    };
    with(event, json!({ "event": Topic::of(&news.alert).label(), "time": format!("{:.3}", news.at) }))
}

fn subject(Subject { name, id, address, place }: &Subject) -> Value {
    json!({
        "player": cleaned(name),
        "id": id,
        "address": address::unmap(*address),
        "place": place,
    })
}
