//! What is told, in words that both forms share.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Format,
    batch::Told,
    discord, json,
    story::{Began, Ended},
};
use crate::{
    alert::{Alert, BanAdded, GeoChanged, Whereabouts},
    foreign,
};

/// Longest foreign text, in characters.
const MAX_FOREIGN: usize = 100;
/// Places of a player that a line names; more of them say no more.
const MAX_PLACES: usize = 3;

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Began(Began),
    Ended(Ended),
    Batch(Told),
}

impl Message {
    /// Its bytes.
    pub(super) fn body(&self, format: Format) -> Vec<u8> {
        let value = match format {
            Format::Json => json::body(self),
            Format::Discord => discord::body(self),
        };
        value.to_string().into_bytes()
    }
}

/// How text of others is made harmless where a message is shown.
pub(super) type Escape = fn(&str) -> String;

/// Text of others, cleaned and cut.
pub(super) fn cleaned(text: &str) -> String {
    foreign::clean_to(text, MAX_FOREIGN)
}

/// An alert in one line.
pub(super) fn line(alert: &Alert, escape: Escape) -> String {
    let shown = |text: &str| escape(&cleaned(text));
    match alert {
        Alert::Fallback(fallback) => {
            let player = &fallback.player;
            format!(
                "{} joined without Mojang from {}: {}",
                shown(&player.name),
                shown(&player.address.to_string()),
                escape(&fallback.to_string())
            )
        }
        Alert::GeoChanged(GeoChanged { player, known, proof }) => {
            let known: Vec<String> =
                known.iter().take(MAX_PLACES).map(|place| Whereabouts(*place).to_string()).collect();
            format!(
                "{} came from {} ({}, {}), so far from {}",
                shown(&player.name),
                shown(&Whereabouts(player.place.unwrap_or_default()).to_string()),
                shown(&player.address.to_string()),
                shown(proof),
                escape(&known.join("; "))
            )
        }
        Alert::BanAdded(BanAdded { target, failures, until }) => {
            format!("banned {} until {}: {failures} failures", shown(target), minute(*until))
        }
        // They are told as stories.
        Alert::AuthState(change) => format!("authentication servers: {}", change.to),
    }
}

/// How an outage began, in a sentence.
pub(super) fn began(began: &Began, escape: Escape) -> String {
    format!(
        "Mojang's authentication servers count as down since {}: {}.",
        minute(began.at),
        escape(&cleaned(&began.cause))
    )
}

/// How long one lasted, in a sentence.
pub(super) fn lasted(ended: &Ended) -> String {
    format!("It lasted {}, from {} to {}.", length(ended.lasted()), minute(ended.from), minute(ended.to))
}

/// Who was let in.
pub(super) fn admitted(ended: &Ended, escape: Escape) -> String {
    let (count, players) = (ended.logins.admitted, &ended.players);
    let names: Vec<String> = players.names.iter().map(|name| escape(&cleaned(name))).collect();
    let names = match (names.is_empty(), players.more) {
        (true, _) => String::new(),
        (false, false) => format!(": {}", names.join(", ")),
        (false, true) => format!(": {} and others", names.join(", ")),
    };
    match count {
        0 => "nobody".to_owned(),
        1 => format!("1 login{names}"),
        _ => format!("{count} logins{names}"),
    }
}

/// Who was refused, the most frequent reason first.
pub(super) fn refused(ended: &Ended) -> String {
    let mut reasons: Vec<(&String, u64)> =
        ended.logins.refused.iter().map(|(reason, count)| (reason, *count)).collect();
    reasons.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
    if reasons.is_empty() {
        return "nobody".to_owned();
    }
    let all = all_refused(ended);
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("{all} {}: {}", if all == 1 { "login" } else { "logins" }, reasons.join(", "))
}

/// Refusals for all reasons together.
pub(super) fn all_refused(ended: &Ended) -> u64 {
    ended.logins.refused.values().fold(0, |sum, count| sum.saturating_add(*count))
}

/// A point in time to the minute.
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A time in its two largest units, rounded down.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        86_400..172_800 => format!("1 day {} h", seconds / 3600 % 24),
        _ => format!("{} days {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::{
        alert::{
            AuthState, Fallback, Ground, Subject, Sum,
            webhook::{
                hub::News,
                story::{Logins, Players},
            },
        },
        place::{Country, Place},
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn text(message: &Message, format: Format) -> String {
        String::from_utf8(message.body(format)).unwrap()
    }

    fn start(cause: &str) -> Message {
        Message::Began(Began { at: at("2026-11-22T14:03:07.5Z"), cause: cause.to_owned() })
    }

    fn end(names: &[&str], more: bool, refused: &[(&str, u64)]) -> Message {
        let refused = refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        Message::Ended(Ended {
            from: at("2026-11-22T14:03:07Z"),
            to: at("2026-11-22T16:17:59.123Z"),
            logins: Logins { admitted: if more { 38 } else { names.len() as u64 }, refused },
            players: Players { names: names.iter().map(|name| (*name).to_owned()).collect(), more },
        })
    }

    fn place(country: &str, asn: u32) -> Place {
        Place { country: Country::parse(country), asn: Some(asn) }
    }

    fn subject(name: &str, place: Option<Place>) -> Subject {
        let address = "203.0.113.5".parse().unwrap();
        Subject { name: name.to_owned(), id: Uuid::from_u128(1), address, place }
    }

    fn batch(alerts: Vec<Alert>, left_out: &[Alert]) -> Message {
        let at = at("2026-11-22T14:03:07.25Z");
        let items = alerts.into_iter().map(|alert| Arc::new(News { at, alert, known: false })).collect();
        let mut sum = Sum::default();
        for alert in left_out {
            sum.add(alert);
        }
        Message::Batch(Told { items, left_out: sum })
    }

    fn moved(name: &str) -> Alert {
        let player = subject(name, Some(place("FR", 64_497)));
        Alert::GeoChanged(GeoChanged { player, known: vec![place("DE", 64_496)], proof: "verified" })
    }

    fn ban(target: &str) -> Alert {
        let until = at("2026-11-22T14:33:07Z");
        Alert::BanAdded(BanAdded { target: target.to_owned(), failures: 10, until })
    }

    fn login(name: &str) -> Alert {
        Alert::Fallback(Fallback {
            player: subject(name, None),
            ground: Ground::Exact(Duration::from_hours(19)),
            pin_proven: true,
            outage: Duration::from_mins(12),
        })
    }

    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[test]
    fn json_to_the_byte() {
        let source = format!(r#""source":"Postern/{VERSION}""#);
        assert_eq!(
            text(&start("3 failed checks or logins, the last: timed out"), Format::Json),
            format!(
                r#"{{"cause":"3 failed checks or logins, the last: timed out",{source},"started":"2026-11-22T14:03:07.500Z","text":"Mojang's authentication servers count as down since 2026-11-22 14:03 UTC: 3 failed checks or logins, the last: timed out.","type":"outage.started"}}"#
            )
        );
        assert_eq!(
            text(&end(&["Ann", "Ben_2"], true, &[("address-changed", 1), ("no-session", 3)]), Format::Json),
            format!(
                r#"{{"admitted":38,"ended":"2026-11-22T16:17:59.123Z","more_players":true,"players":["Ann","Ben_2"],"refused":4,"refused_by_reason":{{"address-changed":1,"no-session":3}},"seconds":8092,{source},"started":"2026-11-22T14:03:07.000Z","text":"The outage is over. It lasted 2 h 14 min, from 2026-11-22 14:03 UTC to 2026-11-22 16:17 UTC. Admitted without Mojang: 38 logins: Ann, Ben_2 and others. Refused: 4 logins: 3 no-session, 1 address-changed.","type":"outage.ended"}}"#
            )
        );
        assert_eq!(
            text(
                &batch(
                    vec![moved("Ann"), ban("203.0.113.5"), login("Ben_2")],
                    &[ban("x"), ban("y"), moved("z")]
                ),
                Format::Json
            ),
            format!(
                r#"{{"events":[{{"address":"203.0.113.5","event":"geo.changed","id":"00000000-0000-0000-0000-000000000001","known_places":[{{"asn":64496,"country":"DE"}}],"place":{{"asn":64497,"country":"FR"}},"player":"Ann","proof":"verified","time":"2026-11-22T14:03:07.250Z"}},{{"event":"ban.added","failures":10,"target":"203.0.113.5","time":"2026-11-22T14:03:07.250Z","until":"2026-11-22T14:33:07.000Z"}},{{"address":"203.0.113.5","event":"login.fallback","id":"00000000-0000-0000-0000-000000000001","outage_seconds":720,"pin_proven":true,"place":null,"player":"Ben_2","reason":"verified at this address 19 h ago","time":"2026-11-22T14:03:07.250Z"}}],"left_out":3,{source},"text":"Ann came from country FR, network AS64497 (203.0.113.5, verified), so far from country DE, network AS64496\nbanned 203.0.113.5 until 2026-11-22 14:33 UTC: 10 failures\nBen_2 joined without Mojang from 203.0.113.5: PIN proven, verified at this address 19 h ago; outage for 12 min\nand also: 1 player from elsewhere, 2 bans","type":"events"}}"#
            )
        );
    }

    #[test]
    fn discord_to_the_byte() {
        let footer = format!(r#""footer":{{"text":"Postern {VERSION}"}}"#);
        let head = r#"{"allowed_mentions":{"parse":[]},"embeds":[{"#;
        assert_eq!(
            text(&start("forced by the owner"), Format::Discord),
            format!(
                r#"{head}"color":14171198,"description":"Mojang's authentication servers count as down since 2026-11-22 14:03 UTC: forced by the owner.",{footer},"timestamp":"2026-11-22T14:03:07.500Z","title":"Outage"}}]}}"#
            )
        );
        assert_eq!(
            text(&end(&["Ann", "Ben_2"], false, &[]), Format::Discord),
            format!(
                r#"{head}"color":3908957,"description":"It lasted 2 h 14 min, from 2026-11-22 14:03 UTC to 2026-11-22 16:17 UTC.","fields":[{{"name":"Admitted without Mojang","value":"2 logins: Ann, Ben\\_2"}},{{"name":"Refused","value":"nobody"}}],{footer},"timestamp":"2026-11-22T16:17:59.123Z","title":"The outage is over"}}]}}"#
            )
        );
        assert_eq!(
            text(&batch(vec![moved("Ann"), ban("203.0.113.5")], &[ban("x")]), Format::Discord),
            format!(
                r#"{head}"color":16426522,"description":"<t:1795356187:T> Ann came from country FR, network AS64497 (203.0.113.5, verified), so far from country DE, network AS64496\n<t:1795356187:T> banned 203.0.113.5 until 2026-11-22 14:33 UTC: 10 failures\nand also: 1 ban",{footer},"title":"1 player from elsewhere, 2 bans"}}]}}"#
            )
        );
    }

    #[test]
    fn nobody_is_said_so() {
        let message = end(&[], false, &[]);
        assert!(text(&message, Format::Json).contains("Admitted without Mojang: nobody. Refused: nobody."));
        let one = end(&["Ann"], false, &[("no-session", 1)]);
        let said = text(&one, Format::Json);
        assert!(said.contains("Mojang: 1 login: Ann. Refused: 1 login: 1 no-session."), "{said}");
    }

    /// Text that is none of ours in every place where there can be any.
    fn hostile() -> Vec<Message> {
        let evil = "@everyone <@123> [x](https://evil.example) **b** `c` ~~d~~ ||e|| > # \\ \u{202e}\n- ";
        let name = format!("{evil}{}", "😀".repeat(200));
        let mut change = moved(&name);
        if let Alert::GeoChanged(change) = &mut change {
            change.known = vec![place("DE", 1); 1000];
        }
        vec![
            start(&name),
            end(&[name.as_str(); 20], true, &[("no-session", u64::MAX), ("banned", u64::MAX)]),
            batch(vec![change, ban(&name), login(&name)], &[]),
            batch(vec![moved(&name); 50], &[ban("x")]),
            batch(vec![login(&name); 50], &[]),
        ]
    }

    #[test]
    fn text_of_others_is_text() {
        for message in hostile() {
            let body: Value = serde_json::from_slice(&message.body(Format::Discord)).unwrap();
            assert_eq!(body["allowed_mentions"], serde_json::json!({ "parse": [] }));
            let embed = &body["embeds"][0];
            let mut shown = embed["description"].as_str().unwrap().to_owned();
            for field in embed["fields"].as_array().into_iter().flatten() {
                shown += field["value"].as_str().unwrap();
            }
            assert!(!shown.contains('\u{202e}'), "{shown}");
            // The times of day are ours, and round brackets are nothing without square ones.
            let ours = shown.replace("<t:1795356187:T> ", "");
            for (place, c) in ours.char_indices() {
                if "@<>[]*_`~|#".contains(c) {
                    let before = ours[..place].chars().rev().take_while(|c| *c == '\\').count();
                    assert_eq!(before % 2, 1, "{c} in {ours}");
                }
            }
            let body: Value = serde_json::from_slice(&message.body(Format::Json)).unwrap();
            assert!(!body.to_string().contains('\u{202e}'), "{body}");
        }
    }

    #[test]
    fn discords_limits_are_kept() {
        for message in hostile() {
            let body: Value = serde_json::from_slice(&message.body(Format::Discord)).unwrap();
            let units = |value: &Value| value.as_str().unwrap_or_default().encode_utf16().count();
            let embeds = body["embeds"].as_array().unwrap();
            assert_eq!(embeds.len(), 1);
            let embed = &embeds[0];
            let fields: Vec<&Value> = embed["fields"].as_array().into_iter().flatten().collect();
            assert!(fields.len() <= 25);
            let (title, description) = (units(&embed["title"]), units(&embed["description"]));
            assert!((1..=256).contains(&title) && (1..=4096).contains(&description), "{title} {description}");
            let mut all = title + description + units(&embed["footer"]["text"]);
            for field in fields {
                let (name, value) = (units(&field["name"]), units(&field["value"]));
                assert!((1..=256).contains(&name) && (1..=1024).contains(&value), "{name} {value}");
                all += name + value;
            }
            assert!(all <= 6000, "{all}");
        }
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let names: Vec<Alert> = (0..50).map(|_| moved(&"x".repeat(100))).collect();
        let body: Value = serde_json::from_slice(&batch(names, &[ban("x")]).body(Format::Discord)).unwrap();
        let embed = &body["embeds"][0];
        let description = embed["description"].as_str().unwrap();
        let lines = description.lines().count() - 1;
        let missing = 50 - lines;
        assert!((10..40).contains(&lines), "{lines}");
        assert!(description.ends_with(&format!("\nand also: {missing} players from elsewhere, 1 ban")));
        assert_eq!(embed["title"], "50 players from elsewhere, 1 ban");
    }

    #[test]
    fn lengths_in_two_units() {
        for (seconds, said) in [
            (0, "0 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 day 1 h"),
            (180_000, "2 days 2 h"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), said);
        }
        let (from, to) = (at("2026-11-22T14:03:07Z"), at("2026-11-22T14:03:06Z"));
        let set_back = Ended { from, to, logins: Logins::default(), players: Players::default() };
        assert_eq!(set_back.lasted(), Duration::ZERO);
    }

    #[test]
    fn a_state_has_a_line_too() {
        let change =
            AuthState { from: "up", to: "degraded", cause: String::new(), lasted: None, outage: None };
        assert_eq!(line(&Alert::AuthState(change), str::to_owned), "authentication servers: degraded");
    }
}
