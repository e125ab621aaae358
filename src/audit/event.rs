//! One event and its line.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use uuid::Uuid;

use crate::{address, foreign};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What happened. The names are stable: other programs search audit.log for them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// The proxy listens.
    ProxyStarted = "proxy.started";
    /// The proxy ends.
    ProxyStopped = "proxy.stopped";
    /// The configuration was read again, and what may change while running was taken over.
    ConfigReloaded = "config.reloaded";
    /// The verdict on the session server changed.
    AuthState = "auth.state";
    /// Somebody overrode that verdict, or stopped to.
    AuthOverride = "auth.override";
    /// A player came in on the session server's word.
    LoginVerified = "login.verified";
    /// A player came in by policy.
    LoginFallback = "login.fallback";
    /// A player did not come in.
    LoginRefused = "login.refused";
    /// A player came from a country or network that is new for it.
    GeoChanged = "geo.changed";
    /// A player was asked for the PIN.
    PinPrompted = "pin.prompted";
    /// A player gave the right one.
    PinVerified = "pin.verified";
    /// A player gave a wrong one.
    PinFailed = "pin.failed";
    /// A player set a PIN.
    PinSet = "pin.set";
    /// A player gave up its PIN.
    PinReset = "pin.reset";
    /// The owner sent a player away.
    PlayerKicked = "player.kicked";
    /// Somebody failed too often.
    BanAdded = "ban.added";
    /// A ban came to its end.
    BanExpired = "ban.expired";
    /// The owner ended a ban.
    BanLifted = "ban.lifted";
    /// The owner locked a session until its next verified login.
    SessionLocked = "session.locked";
    /// The owner had a player forgotten.
    SessionForgotten = "session.forgotten";
    /// A session came from a file.
    SessionImported = "session.imported";
    /// A backend is unreachable or not set up for this proxy.
    BackendError = "backend.error";
    /// Events are missing from the log before this line.
    AuditDropped = "audit.dropped";
}

/// Longest advice, in characters.
const MAX_ADVICE: usize = 600;

/// One event. Every text given to it is cleaned of control and bidirectional characters and cut at 256 characters
/// ([`Event::advice`] later), so that nothing a client says can forge a line or garble a terminal.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an event is written once it is emitted"]
pub struct Event {
    kind: Kind,
    time: Timestamp,
    conn: Option<String>,
    player: Option<String>,
    id: Option<Uuid>,
    claimed_id: Option<Uuid>,
    address: Option<IpAddr>,
    protocol: Option<i32>,
    host: Option<String>,
    backend: Option<String>,
    reason: Option<&'static str>,
    count: Option<u64>,
    fields: Vec<(&'static str, Value)>,
    facts: Option<Value>,
}

impl Event {
    /// An event of this kind that happened at `time`.
    pub fn new(kind: Kind, time: Timestamp) -> Self {
        Self {
            kind,
            time,
            conn: None,
            player: None,
            id: None,
            claimed_id: None,
            address: None,
            protocol: None,
            host: None,
            backend: None,
            reason: None,
            count: None,
            fields: Vec::new(),
            facts: None,
        }
    }

    /// The connection's id.
    pub fn conn(mut self, conn: impl fmt::Display) -> Self {
        self.conn = Some(foreign::clean(&conn.to_string()));
        self
    }

    /// The player's name, or what login start gave for one.
    pub fn player(mut self, name: &str) -> Self {
        self.player = Some(foreign::clean(name));
        self
    }

    /// The player's id: proven, or the found session's.
    pub fn id(mut self, id: impl Into<Option<Uuid>>) -> Self {
        self.id = id.into();
        self
    }

    /// The id that the client claims.
    pub fn claimed_id(mut self, id: impl Into<Option<Uuid>>) -> Self {
        self.claimed_id = id.into();
        self
    }

    /// The client address.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address::unmap(address));
        self
    }

    /// The protocol version number of the client.
    pub fn protocol(mut self, protocol: i32) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// The virtual host.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(foreign::clean(host));
        self
    }

    /// The backend's name.
    pub fn backend(mut self, backend: &str) -> Self {
        self.backend = Some(foreign::clean(backend));
        self
    }

    /// A reason code, or `ok`.
    pub fn reason(mut self, code: &'static str) -> Self {
        self.reason = Some(code);
        self
    }

    /// A field of this kind of event alone; stands between `reason` and `facts`, in the order given.
    pub fn field(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, cleaned(value.into())));
        self
    }

    /// As [`Event::field`], for what we say ourselves about what is to be done: cut at 600 characters only.
    pub fn advice(mut self, key: &'static str, text: &str) -> Self {
        self.fields.push((key, foreign::clean_to(text, MAX_ADVICE).into()));
        self
    }

    /// What the decision rests on.
    pub fn facts(mut self, facts: &impl Serialize) -> Self {
        // Facts are plain data; if some are not, the event is still worth its line.
        self.facts = serde_json::to_value(facts).ok().map(cleaned);
        self
    }

    pub(super) fn is_refusal(&self) -> bool {
        self.kind == Kind::LoginRefused
    }

    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    pub(super) fn client(&self) -> Option<IpAddr> {
        self.address
    }

    pub(super) fn code(&self) -> Option<&'static str> {
        self.reason
    }

    /// How many events this one stands for.
    pub(super) fn weight(&self) -> u64 {
        self.count.unwrap_or(1)
    }

    /// The event, standing for `count` of its like.
    pub(super) fn counted(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Of what it said, only kind, time and reason: it stands for many clients now, and for none of them.
    pub(super) fn of_many(self) -> Self {
        let general = Self { reason: self.reason, ..Self::new(self.kind, self.time) };
        general.field("clients", "many")
    }

    /// Appends the line, with its line feed.
    pub(super) fn write_line(&self, to: &mut Vec<u8>) {
        // Neither a Vec nor a map with text keys can fail; if it did, a half line must not stay.
        let start = to.len();
        if serde_json::to_writer(&mut *to, self).is_err() {
            to.truncate(start);
            return;
        }
        to.push(b'\n');
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn entry<M: SerializeMap>(
            map: &mut M,
            key: &str,
            value: Option<&impl Serialize>,
        ) -> Result<(), M::Error> {
            value.map_or(Ok(()), |value| map.serialize_entry(key, value))
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &format_args!("{:.3}", self.time))?;
        map.serialize_entry("event", self.kind.name())?;
        entry(&mut map, "conn", self.conn.as_ref())?;
        entry(&mut map, "player", self.player.as_ref())?;
        entry(&mut map, "id", self.id.as_ref())?;
        entry(&mut map, "claimed_id", self.claimed_id.as_ref())?;
        entry(&mut map, "address", self.address.as_ref())?;
        entry(&mut map, "protocol", self.protocol.as_ref())?;
        entry(&mut map, "host", self.host.as_ref())?;
        entry(&mut map, "backend", self.backend.as_ref())?;
        entry(&mut map, "reason", self.reason.as_ref())?;
        entry(&mut map, "count", self.count.as_ref())?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        entry(&mut map, "facts", self.facts.as_ref())?;
        map.end()
    }
}

/// The value with every text in it cleaned.
fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(foreign::clean(&text)),
        Value::Array(values) => values.into_iter().map(cleaned).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (foreign::clean(&key), cleaned(value))).collect()
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time() -> Timestamp {
        "2026-11-21T20:15:03.123987Z".parse().unwrap()
    }

    fn line(event: &Event) -> String {
        let mut line = Vec::new();
        event.write_line(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn fields_stand_in_their_order_whatever_the_order_of_the_calls() {
        let id = "069a79f4-44e9-4726-a5be-fca90e38aaf5".parse::<Uuid>().unwrap();
        let event = Event::new(Kind::LoginFallback, time())
            .facts(&json!({"address_match": "exact"}))
            .field("extra", 1)
            .reason("ok")
            .backend("lobby")
            .host("play.example.com")
            .protocol(774)
            .address("::ffff:203.0.113.5".parse().unwrap())
            .claimed_id(id)
            .id(id)
            .player("Notch")
            .conn("c-1f3a");
        assert_eq!(
            line(&event),
            concat!(
                r#"{"ts":"2026-11-21T20:15:03.123Z","event":"login.fallback","conn":"c-1f3a","player":"Notch","#,
                r#""id":"069a79f4-44e9-4726-a5be-fca90e38aaf5","#,
                r#""claimed_id":"069a79f4-44e9-4726-a5be-fca90e38aaf5","address":"203.0.113.5","protocol":774,"#,
                r#""host":"play.example.com","backend":"lobby","reason":"ok","extra":1,"#,
                r#""facts":{"address_match":"exact"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let midnight = "2026-11-21T00:00:00Z".parse().unwrap();
        let event = Event::new(Kind::ProxyStarted, midnight).id(None).claimed_id(None);
        assert_eq!(line(&event), "{\"ts\":\"2026-11-21T00:00:00.000Z\",\"event\":\"proxy.started\"}\n");
    }

    #[test]
    fn foreign_text_cannot_forge_a_line() {
        let event = Event::new(Kind::LoginRefused, time())
            .conn("c\n1")
            .player("No\u{202E}tch\"}\n{")
            .host("a\0b\u{1b}[2J")
            .backend("lob\u{2066}by")
            .field("status", "x\ry")
            .facts(&json!({"k\u{200F}ey": ["a\tb", {"c": "d\u{85}"}]}));
        let line = line(&event);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with("}\n"));
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            parsed,
            json!({
                "ts": "2026-11-21T20:15:03.123Z",
                "event": "login.refused",
                "conn": "c�1",
                "player": "No�tch\"}�{",
                "host": "a�b�[2J",
                "backend": "lob�by",
                "status": "x�y",
                "facts": {"k�ey": ["a�b", {"c": "d�"}]},
            })
        );
    }

    #[test]
    fn long_text_is_cut() {
        let event =
            Event::new(Kind::BackendError, time()).host(&"h".repeat(100_000)).facts(&"f".repeat(100_000));
        assert!(line(&event).len() < 1000);
        // What is to be done stands at the end of an advice.
        let advice = |length| {
            let event = Event::new(Kind::BackendError, time()).advice("mend", &"~".repeat(length));
            line(&event).matches('~').count()
        };
        assert_eq!((advice(600), advice(601)), (600, 599));
    }

    #[test]
    fn names() {
        for (kind, name) in [
            (Kind::ProxyStarted, "proxy.started"),
            (Kind::ProxyStopped, "proxy.stopped"),
            (Kind::ConfigReloaded, "config.reloaded"),
            (Kind::AuthState, "auth.state"),
            (Kind::AuthOverride, "auth.override"),
            (Kind::LoginVerified, "login.verified"),
            (Kind::LoginFallback, "login.fallback"),
            (Kind::LoginRefused, "login.refused"),
            (Kind::GeoChanged, "geo.changed"),
            (Kind::BanAdded, "ban.added"),
            (Kind::BanExpired, "ban.expired"),
            (Kind::BanLifted, "ban.lifted"),
            (Kind::SessionLocked, "session.locked"),
            (Kind::SessionForgotten, "session.forgotten"),
            (Kind::SessionImported, "session.imported"),
            (Kind::BackendError, "backend.error"),
            (Kind::AuditDropped, "audit.dropped"),
        ] {
            assert_eq!(kind.name(), name);
        }
    }
}
