//! The server list question to a backend, and what its answer says about it.

use serde_json::Value;

use super::diagnose::plain_text;
use crate::{
    net::conn::{Conn, ConnError, Io},
    protocol::{
        handshake::{Handshake, Intent, VirtualHost},
        status::{self, StatusRequest},
        version::ProtocolVersion,
    },
};

/// Longest frame of an answer: its units take at most three bytes each, and a little stands around them.
const MAX_FRAME: usize = status::MAX_ANSWER * 3 + 16;

/// Asks for the server list answer as a client of this version that typed `host` and `port`. Returns the JSON byte for
/// byte. The caller bounds the time.
///
/// # Errors
/// Those of the connection, and an answer that is not a JSON object.
pub async fn ask<S: Io>(
    mut conn: Conn<S>,
    host: &str,
    port: u16,
    version: ProtocolVersion,
) -> Result<String, ConnError> {
    let handshake = Handshake { version, host: VirtualHost::parse(host)?, port, intent: Intent::Status };
    conn.queue_packet(&handshake.write(host));
    // Who has hung up by now may have said something before: reading finds out.
    let _ = conn.write_packet(&StatusRequest::Status.write()).await;
    let packet = match conn.read_packet(MAX_FRAME).await {
        // Not a word, or the beginning of one, is a difference to those who look for what answers there.
        Err(ConnError::Broken(_)) if !conn.peek().is_empty() => return Err(ConnError::Cut),
        read => read?,
    };
    let json = status::read_answer(&packet)?;
    match serde_json::from_str(json) {
        Ok(Value::Object(_)) => Ok(json.to_owned()),
        _ => Err(std::io::Error::other("the status answer is not a JSON object").into()),
    }
}

/// What an answer says about the server. Servers leave out and make up much; nothing of it can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The protocol number, if it is one.
    pub protocol: Option<ProtocolVersion>,
    /// What the server calls its version, foreign text; empty if nothing.
    pub name: String,
    /// Players online and slots, if both are numbers.
    pub players: Option<(i64, i64)>,
    /// The mark that a modded client of this server appends to the host, `\0FML3\0`; empty if none.
    pub marker: &'static str,
}

impl Answer {
    /// Reads an answer; what cannot be read counts as not said.
    pub fn read(json: &str) -> Self {
        let answer: Value = serde_json::from_str(json).unwrap_or_default();
        let number = |at: &str| answer.pointer(at).and_then(Value::as_i64);
        let marker = match number("/forgeData/fmlNetworkVersion") {
            Some(2) => "\0FML2\0",
            Some(3) => "\0FML3\0",
            _ if answer.pointer("/modinfo/type").and_then(Value::as_str) == Some("FML") => "\0FML\0",
            _ => "",
        };
        Self {
            protocol: number("/version/protocol").and_then(|n| i32::try_from(n).ok()).map(ProtocolVersion),
            name: answer.pointer("/version/name").map(plain_text).unwrap_or_default(),
            players: number("/players/online").zip(number("/players/max")),
            marker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_answers_say_nothing() {
        for (json, expected) in [
            (
                r#"{"version":{"name":"Paper 1.21.4","protocol":769},"players":{"online":3,"max":20}}"#,
                Answer {
                    protocol: Some(ProtocolVersion(769)),
                    name: "Paper 1.21.4".into(),
                    players: Some((3, 20)),
                    marker: "",
                },
            ),
            (
                r#"{"version":{"name":{"text":"§cold"},"protocol":-1},"forgeData":{"fmlNetworkVersion":3}}"#,
                Answer {
                    protocol: Some(ProtocolVersion(-1)),
                    name: "old".into(),
                    marker: "\0FML3\0",
                    ..Answer::default()
                },
            ),
            (r#"{"modinfo":{"type":"FML"}}"#, Answer { marker: "\0FML\0", ..Answer::default() }),
            (
                r#"{"version":{"protocol":99999999999},"players":{"online":"many","max":1.5}}"#,
                Answer::default(),
            ),
            (r#"{"version":"1.8","players":[]}"#, Answer::default()),
            ("{}", Answer::default()),
        ] {
            assert_eq!(Answer::read(json), expected, "{json}");
        }
    }
}
