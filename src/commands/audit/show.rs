//! Events in words. Everything that may come from outside is cleaned again: the file may have been edited.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{commands::output::count, foreign, reason::Reason};

/// The width of the longest name of an event.
const EVENT_WIDTH: usize = 17;

/// The width of the longest player name.
const SUBJECT_WIDTH: usize = 16;

/// Longest text of one field, in characters.
const LONGEST: usize = 300;

/// One event, without a line feed.
pub(super) fn line(time: Timestamp, event: &str, entry: &Map<String, Value>, colour: bool) -> String {
    let entry = Entry(entry);
    let event = foreign::clean_to(event, 40);
    let time = time.strftime("%Y-%m-%d %H:%M:%SZ");
    let subject = entry.subject(&event);
    let words = foreign::clean_to(&entry.words(&event), 2000);
    let (dim, tint, plain) = if colour { ("\x1b[2m", tint(&event), "\x1b[0m") } else { ("", "", "") };
    format!("{dim}{time}{plain}  {tint}{event:<EVENT_WIDTH$}{plain}  {subject:<SUBJECT_WIDTH$}  {words}")
        .trim_end()
        .to_owned()
}

/// The colour of an event; its name says the same.
fn tint(event: &str) -> &'static str {
    match event {
        "login.verified" | "pin.verified" => "\x1b[32m",
        "login.fallback" | "auth.state" | "auth.override" | "geo.changed" | "player.kicked" => "\x1b[33m",
        "login.refused" | "pin.failed" | "ban.added" | "backend.error" | "audit.dropped" => "\x1b[31m",
        _ => "\x1b[36m",
    }
}

/// A line of the log.
struct Entry<'a>(&'a Map<String, Value>);

impl Entry<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(shown)
    }

    fn fact(&self, key: &str) -> Option<&Value> {
        self.0.get("facts").and_then(|facts| facts.get(key))
    }

    fn is(&self, key: &str, value: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool) == Some(value)
    }

    /// Whom or what it is about.
    fn subject(&self, event: &str) -> String {
        let key = if event.starts_with("ban.") { "target" } else { "player" };
        let subject = self.text(key).or_else(|| self.text("id"));
        subject.map_or_else(|| "-".to_owned(), |subject| foreign::clean_to(&subject, 64))
    }

    /// What happened.
    fn words(&self, event: &str) -> String {
        let text = |key: &str| self.text(key).unwrap_or_else(|| "?".to_owned());
        match event {
            "proxy.started" => format!("version {}, listens on {}", text("version"), text("listening")),
            "proxy.stopped" => "the proxy ended".to_owned(),
            "config.reloaded" => self.reloaded(),
            "auth.state" => format!("{} -> {}: {}", text("from"), text("to"), text("cause")),
            "auth.override" => match self.text("verdict") {
                Some(verdict) => format!("forced {verdict} until {}", text("until")),
                None => format!("the override is {}", text("change")),
            },
            "login.verified" => {
                self.with_facts(&format!("verified{}{}", self.backend(" joined "), self.from()))
            }
            "login.fallback" => {
                let pin =
                    if self.text("proof").is_some_and(|proof| proof == "pinned") { " and PIN" } else { "" };
                self.with_facts(&format!("by policy{pin}{}{}", self.backend(" joined "), self.from()))
            }
            "login.refused" => self.refused(),
            "geo.changed" => {
                let known = self.fact("known_places").and_then(Value::as_array).map(Vec::as_slice);
                let known: Vec<String> = known.unwrap_or_default().iter().map(place).collect();
                let known = if known.is_empty() { "nowhere".to_owned() } else { known.join(", ") };
                let here = self.fact("place").map(place).unwrap_or_default();
                format!("now in {here}, before in {known}{} ({})", self.from(), text("proof"))
            }
            "pin.prompted" => format!("asked for the PIN {}{}", self.gate(), self.from()),
            "pin.verified" => format!("right PIN {}{}", self.gate(), self.from()),
            "pin.failed" => format!("wrong PIN {}{}, {} left", self.gate(), self.from(), self.tries()),
            "pin.set" if self.is("replaced", true) => format!("PIN replaced{}", self.from()),
            "pin.set" => format!("PIN set{}", self.from()),
            "pin.reset" => format!("PIN removed{}", self.from()),
            "player.kicked" => format!("sent away{}{}", self.by(), self.rest(&["by"])),
            "ban.added" => {
                format!("banned until {} after {}{}", text("until"), self.failures(), self.left_out())
            }
            "ban.expired" => format!("ban ended{}", self.left_out()),
            "ban.lifted" => format!("ban lifted{}", self.by()),
            "session.locked" => format!("locked until the next verified login{}", self.by()),
            "session.forgotten" => format!("forgotten{}", self.by()),
            "session.imported" => {
                let trusted = if self.is("trusted", true) { ", counts at once" } else { "" };
                format!("imported{}{trusted}", self.by())
            }
            "backend.error" => {
                let mend = self.text("mend").map_or_else(String::new, |mend| format!(". {mend}"));
                format!("{}: {}{mend}", text("backend"), self.text("cause").unwrap_or_else(|| text("reason")))
            }
            "audit.dropped" => {
                format!(
                    "missing before this line: {} refused logins, {} other events",
                    text("refusals"),
                    text("others")
                )
            }
            // Of another version.
            _ => self.rest(&[]).trim_start_matches(", ").to_owned(),
        }
    }

    fn reloaded(&self) -> String {
        if self.text("result").is_some_and(|result| result == "failed") {
            let problems = match self.0.get("problems").and_then(Value::as_u64) {
                Some(problems) => {
                    count(usize::try_from(problems).unwrap_or(usize::MAX), "problem", "problems")
                }
                None => "problems".to_owned(),
            };
            return format!("refused: {problems}, nothing was taken over; `postern check` lists them");
        }
        let list = |key: &str| match self.0.get(key) {
            Some(Value::Array(items)) => items.iter().filter_map(shown).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let (changed, restart) = (list("changed"), list("restart_needed"));
        let changed = if changed.is_empty() { "nothing changed".to_owned() } else { changed.join("; ") };
        if !restart.is_empty() {
            format!("{changed}; at the next start: {}", restart.join("; "))
        } else if self.is("restart_needed", true) {
            format!("{changed}; the rest at the next start")
        } else {
            changed
        }
    }

    fn refused(&self) -> String {
        let code = self.text("reason").unwrap_or_default();
        let many = self.text("clients").map_or("", |_| " from many addresses");
        let more = match self.0.get("count").and_then(Value::as_u64) {
            Some(more) => format!(" (and {} more like this)", more.saturating_sub(1)),
            None => String::new(),
        };
        let words = format!("{}{many}{}{more}", reason(&code), self.from());
        self.with_facts(&words)
    }

    fn from(&self) -> String {
        self.text("address").map_or_else(String::new, |address| format!(" from {address}"))
    }

    fn backend(&self, before: &str) -> String {
        self.text("backend").map_or_else(String::new, |backend| format!(",{before}{backend}"))
    }

    fn by(&self) -> String {
        match self.text("by").as_deref() {
            Some("command") => " by a command".to_owned(),
            Some("admin") => " through the admin interface".to_owned(),
            Some(by) => format!(" by {by}"),
            None => String::new(),
        }
    }

    fn gate(&self) -> &'static str {
        match self.text("gate").as_deref() {
            Some("dialog") => "by a dialog",
            _ => "on the backend",
        }
    }

    fn tries(&self) -> String {
        let left = self.0.get("tries_left").and_then(Value::as_u64).unwrap_or_default();
        count(usize::try_from(left).unwrap_or(usize::MAX), "try", "tries")
    }

    fn failures(&self) -> String {
        let failures = self.0.get("failures").and_then(Value::as_u64).unwrap_or_default();
        count(usize::try_from(failures).unwrap_or(usize::MAX), "failed attempt", "failed attempts")
    }

    fn left_out(&self) -> String {
        self.text("left_out").map_or_else(String::new, |more| format!(" ({more} more are not in this log)"))
    }

    /// What stands in the line besides what every event has.
    fn rest(&self, said: &[&str]) -> String {
        const COMMON: [&str; 5] = ["ts", "event", "conn", "player", "facts"];
        let more =
            self.0.iter().filter(|(key, _)| !COMMON.contains(&key.as_str()) && !said.contains(&key.as_str()));
        more.filter_map(|(key, value)| Some(format!(", {}={}", foreign::clean_to(key, 40), shown(value)?)))
            .collect()
    }

    /// The words, and what a decision rests on.
    fn with_facts(&self, words: &str) -> String {
        let facts = self.facts();
        if facts.is_empty() { words.to_owned() } else { format!("{words}: {}", facts.join(", ")) }
    }

    fn facts(&self) -> Vec<String> {
        let number = |key: &str| self.fact(key).and_then(Value::as_u64).filter(|number| *number > 0);
        let flag = |key: &str| self.fact(key).and_then(Value::as_bool) == Some(true);
        let people = |number: u64, one, many| count(usize::try_from(number).unwrap_or(usize::MAX), one, many);
        let mut said = Vec::new();
        let mut say = |words: Option<String>| said.extend(words);
        say(match self.fact("address_match").and_then(Value::as_str) {
            Some("exact") => Some("known address".to_owned()),
            Some("range") => Some("near a known address".to_owned()),
            Some("none") => Some("unknown address".to_owned()),
            _ => None,
        });
        say(self
            .fact("idle_hours")
            .and_then(Value::as_f64)
            .map(|hours| format!("last seen {} ago", span(hours))));
        say(number("verified_logins").map(|logins| people(logins, "verified login", "verified logins")));
        say(self.fact("place").map(place).filter(|place| !place.is_empty()));
        say(flag("geo_changed").then(|| "elsewhere than before".to_owned()));
        let crowd = number("accounts_at_address").filter(|players| *players > 1);
        say(crowd.map(|players| format!("{players} players at this address")));
        say(number("wrong_pin_codes").map(|codes| people(codes, "wrong PIN code", "wrong PIN codes")));
        say(flag("in_place").then(|| "the session server did not answer for this login".to_owned()));
        say(flag("displaced").then(|| "its other connection was closed".to_owned()));
        let rehearsed = self.fact("in_an_outage").and_then(Value::as_str).filter(|code| *code != "ok");
        say(rehearsed.map(|code| format!("an outage would keep it out ({})", reason(code))));
        say(self.fact("stage").and_then(shown).map(|stage| format!("at {stage}")));
        say(self.fact("cause").and_then(shown));
        said
    }
}

/// A value as text, cleaned.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(foreign::clean_to(text, LONGEST)),
        Value::Array(values) => Some(values.iter().filter_map(shown).collect::<Vec<_>>().join(", ")),
        value => Some(foreign::clean_to(&value.to_string(), LONGEST)),
    }
}

/// Country and network.
fn place(place: &Value) -> String {
    let country = place.get("country").and_then(shown);
    let network = place.get("asn").and_then(Value::as_u64).map(|asn| format!("AS{asn}"));
    [country, network].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// So many hours, as people say it.
fn span(hours: f64) -> String {
    if hours < 1.0 {
        format!("{:.0} min", hours * 60.0)
    } else if hours < 48.0 {
        format!("{hours:.0} h")
    } else {
        format!("{:.0} days", hours / 24.0)
    }
}

/// A reason code in words.
fn reason(code: &str) -> String {
    match Reason::ALL.iter().find(|reason| reason.code() == code) {
        Some(reason) => words(*reason).to_owned(),
        // Of another version.
        None => foreign::clean_to(code, 40),
    }
}

fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Banned => "banned",
        Reason::MojangRequired => "needs Mojang's word",
        Reason::NoSession => "nobody we know",
        Reason::IdMismatch => "a known name with another id",
        Reason::Locked => "session locked",
        Reason::SessionExpired => "session too old",
        Reason::Inactive => "not seen for too long",
        Reason::ShortHistory => "too few verified logins",
        Reason::PrivateAddress => "private address",
        Reason::SharedAddress => "too many players at this address",
        Reason::AddressChanged => "address not known for this player",
        Reason::BlockedAsn => "blocked network",
        Reason::GeoChanged => "another country or network",
        Reason::GeoUnknown => "country and network unknown",
        Reason::AlreadyOnline => "already online",
        Reason::WeakerClient => "older game than this player uses",
        Reason::PinNotSet => "has no PIN",
        Reason::PinFailed => "wrong PIN",
        Reason::PinTimeout => "no PIN in time",
        Reason::NotJoined => "the session server does not vouch for it",
        Reason::Throttled => "the session server throttles us",
        Reason::Unreachable => "the session server does not answer",
        Reason::Unexpected => "the session server's answer makes no sense",
        Reason::Local => "a limit of this machine",
        Reason::RateLimited => "too many attempts",
        Reason::TooManyConnections => "too many connections",
        Reason::BadHandshake => "no Minecraft handshake",
        Reason::BadName => "not a username",
        Reason::NewerVersionNeeded => "game too old",
        Reason::TransferRefused => "transfers are not accepted",
        Reason::ClientLeft => "left during the login",
        Reason::ClientTimeout => "did not answer in time",
        Reason::BackendUnavailable => "no backend answers",
        Reason::BackendMisconfigured => "the backend is not set up for this proxy",
        Reason::Displaced => "another connection took its place",
        Reason::Kicked => "sent away",
        Reason::ShuttingDown => "the proxy was stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(event: &str, entry: &Value) -> String {
        let line = line(Timestamp::UNIX_EPOCH, event, entry.as_object().unwrap(), false);
        line.split("  ").last().unwrap().trim().to_owned()
    }

    #[test]
    fn a_refused_reload_is_not_told_as_one_that_took() {
        for (entry, words) in [
            (serde_json::json!({"result": "ok", "changed": [], "restart_needed": []}), "nothing changed"),
            (
                serde_json::json!({"result": "ok", "changed": ["a: 1 -> 2"], "restart_needed": ["bind: x -> y"]}),
                "a: 1 -> 2; at the next start: bind: x -> y",
            ),
            (
                serde_json::json!({"result": "failed", "problems": 1}),
                "refused: 1 problem, nothing was taken over; `postern check` lists them",
            ),
            (
                serde_json::json!({"result": "failed", "problems": 3}),
                "refused: 3 problems, nothing was taken over; `postern check` lists them",
            ),
            (
                serde_json::json!({"result": "failed"}),
                "refused: problems, nothing was taken over; `postern check` lists them",
            ),
        ] {
            assert_eq!(told("config.reloaded", &entry), words, "{entry}");
        }
    }
}
