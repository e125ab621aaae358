//! Answers server list pings.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    Config, Metrics, Mode,
    metrics::{Answered, Asked},
    passthrough::{Passthrough, Shown},
};
use crate::{
    backend::{diagnose::plain_text, route::Router},
    messages::{MessageKey, Messages},
    net::conn::{Conn, Io},
    protocol::{
        handshake::Handshake,
        legacy_ping::{LegacyAnswer, LegacyPing},
        status::{AnswerFrame, MAX_ANSWER, StatusRequest, write_pong},
        text::Text,
        version::{Dialect, ProtocolVersion},
    },
};

/// Longest wait for each thing that a client has to send or to take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest frame in the status state; a ping has 9 bytes.
const MAX_FRAME: usize = 64;
/// Longest favicon file, in bytes: as base64 it fills most of an answer.
const MAX_FAVICON: u64 = 23 << 10;
/// Width and height of a favicon, in pixels.
const FAVICON_SIZE: u32 = 64;

/// Why status answers cannot be given as configured.
#[derive(Debug, thiserror::Error)]
pub enum AnswersError {
    /// The favicon file cannot be read.
    #[error("cannot read the favicon: {0}")]
    Favicon(#[from] std::io::Error),
    /// The favicon file is something else.
    #[error("the favicon is not a PNG image of 64x64 pixels")]
    NotAFavicon,
    /// The favicon file is too large.
    #[error("the favicon is larger than {} KiB", MAX_FAVICON >> 10)]
    FaviconTooLarge,
    /// The texts leave no room.
    #[error(
        "the description is too long: a status answer has at most {MAX_ANSWER} characters, favicon included"
    )]
    TooLong,
}

/// What is so at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Whether the session servers are down.
    pub outage: bool,
    /// Players connected, for answers of our own.
    pub online: u32,
}

/// Gives the answers. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Answers {
    sources: Arc<Sources>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Sources {
    mode: Mode,
    description: Text,
    offline: Text,
    notice: Option<Text>,
    max_players: u32,
    favicon: Option<String>,
    backends: Passthrough,
    /// The newest answer of our own for each protocol number that one names, and what was so when it was made.
    made: Mutex<HashMap<ProtocolVersion, (Moment, Arc<AnswerFrame>)>>,
}

impl Answers {
    /// Reads the favicon, once.
    ///
    /// # Errors
    /// If the favicon is none, or description and favicon do not fit into an answer.
    pub fn new(config: &Config, messages: &Messages, router: Arc<Router>) -> Result<Self, AnswersError> {
        let text = |key| Text::parse(messages.text(key), &[]);
        let sources = Sources {
            mode: config.mode,
            description: Text::parse(&config.description, &[]),
            offline: text(MessageKey::BackendOffline),
            notice: config.show_outage.then(|| text(MessageKey::MojangDownNotice)),
            max_players: config.max_players,
            favicon: config.favicon.as_deref().map(read_favicon).transpose()?,
            backends: Passthrough::new(router, config.cache),
            made: Mutex::default(),
        };
        let newest = Dialect::newest();
        let largest = Moment { outage: true, online: u32::MAX };
        for description in [&sources.description, &sources.offline] {
            let answer = sources.own(description, newest.release(), largest);
            if !fits(&sources.with_notice(answer, largest).to_string()) {
                return Err(AnswersError::TooLong);
            }
        }
        Ok(Self { sources: Arc::new(sources), metrics: Metrics::default() })
    }

    /// Counts in these from now on.
    #[must_use]
    pub fn counting(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The answer for a client.
    pub async fn answer(&self, handshake: &Handshake, dialect: &Dialect, moment: Moment) -> Arc<AnswerFrame> {
        let (frame, answered) = self.sources.answer(&handshake.host.route_key(), dialect, moment).await;
        self.metrics.answered(Asked::Current, answered);
        frame
    }

    /// The answer for a ping in the format before 1.7: that of the default route, in its words but not its colours.
    pub async fn legacy_answer(&self, ping: LegacyPing, moment: Moment) -> Vec<u8> {
        let newest = Dialect::newest();
        let (answer, answered) = self.sources.answer("", &newest, moment).await;
        self.metrics.answered(Asked::Legacy, answered);
        let answer: Value = serde_json::from_str(answer.json()).unwrap_or_default();
        let number = |key: &str| {
            let number = answer.pointer(key).and_then(Value::as_u64).unwrap_or(0);
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        let description = answer.get("description").map(plain_text).unwrap_or_default();
        ping.answer(&LegacyAnswer {
            version: &answer.pointer("/version/name").map(plain_text).unwrap_or_default().replace('\0', ""),
            description: &Text::plain(&description),
            online: number("/players/online"),
            max: number("/players/max"),
        })
    }
}

impl Sources {
    /// The answer, and whose it is.
    async fn answer(
        &self,
        route_key: &str,
        dialect: &Dialect,
        moment: Moment,
    ) -> (Arc<AnswerFrame>, Answered) {
        let (own, answered) = match self.mode {
            Mode::Static => (&self.description, Answered::Static),
            Mode::Passthrough => match self.backends.ask(route_key, dialect).await {
                Some(shown) => return (self.pass_on(&shown, moment), Answered::Passthrough),
                None => (&self.offline, Answered::Offline),
            },
        };
        // A client of a known version is told its own number, so that it shows the server as one it can join. That
        // makes as many answers as there are known versions, and one for all others.
        let protocol = if dialect.is_known() { dialect.version() } else { dialect.release() };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = match made.get(&protocol) {
            Some((then, frame)) if *then == moment => Arc::clone(frame),
            _ => {
                let answer = self.with_notice(self.own(own, protocol, moment), moment).to_string();
                let frame = Arc::new(AnswerFrame::new(&answer));
                made.insert(protocol, (moment, Arc::clone(&frame)));
                frame
            }
        };
        (frame, answered)
    }

    /// An answer of our own.
    fn own(&self, description: &Text, protocol: ProtocolVersion, moment: Moment) -> Value {
        let mut answer = json!({
            "version": { "name": "Postern", "protocol": protocol.0 },
            "players": { "max": self.max_players, "online": moment.online },
            "description": description.to_json(),
        });
        if let (Some(favicon), Some(fields)) = (&self.favicon, answer.as_object_mut()) {
            fields.insert("favicon".to_owned(), favicon.as_str().into());
        }
        answer
    }

    /// A backend's answer, byte for byte unless there is an outage to show. The notice is left out where it does not
    /// fit: the list entry is worth more.
    fn pass_on(&self, shown: &Shown, moment: Moment) -> Arc<AnswerFrame> {
        if !moment.outage || self.notice.is_none() {
            return Arc::clone(&shown.plain);
        }
        let noticed = || match serde_json::from_str(shown.plain.json()) {
            Ok(answer) => {
                let answer = self.with_notice(answer, moment).to_string();
                if fits(&answer) { Arc::new(AnswerFrame::new(&answer)) } else { Arc::clone(&shown.plain) }
            }
            Err(_) => Arc::clone(&shown.plain),
        };
        Arc::clone(shown.noticed.get_or_init(noticed))
    }

    /// Makes the outage notice the second line of the description.
    fn with_notice(&self, mut answer: Value, moment: Moment) -> Value {
        if let (true, Some(notice), Some(fields)) = (moment.outage, &self.notice, answer.as_object_mut()) {
            put_second_line(fields, notice);
        }
        answer
    }
}

fn fits(answer: &str) -> bool {
    answer.encode_utf16().count() <= MAX_ANSWER
}

/// A text stays a text, for servers that write descriptions in colour codes; a component becomes one of three parts,
/// none of which passes its style on to the next.
fn put_second_line(answer: &mut Map<String, Value>, notice: &Text) {
    let mut first = answer.remove("description").unwrap_or(Value::Null);
    keep_first_line(&mut first);
    let description = match first {
        Value::String(text) => format!("{text}\n§r{}", notice.to_section_codes()).into(),
        Value::Null => json!({ "text": "", "extra": ["\n", notice.to_json()] }),
        component => json!({ "text": "", "extra": [component, "\n", notice.to_json()] }),
    };
    answer.insert("description".to_owned(), description);
}

/// Cuts a component at its first line break, in reading order. Returns whether there was one.
fn keep_first_line(component: &mut Value) -> bool {
    match component {
        Value::String(text) => match text.find('\n') {
            Some(end) => {
                text.truncate(end);
                true
            }
            None => false,
        },
        Value::Array(parts) => {
            let cut = parts.iter_mut().position(keep_first_line);
            if let Some(last) = cut {
                parts.truncate(last + 1);
            }
            cut.is_some()
        }
        Value::Object(fields) => {
            if fields.get_mut("text").is_some_and(keep_first_line) {
                fields.remove("extra");
                return true;
            }
            fields.get_mut("extra").is_some_and(keep_first_line)
        }
        _ => false,
    }
}

/// Serves a connection in the status state: at most one request, then at most one ping, then it is over. Anything
/// else ends it too. Each wait is bounded. Closing the connection is left to dropping it: there is nothing to flush.
pub async fn serve<S: Io>(
    conn: &mut Conn<S>,
    handshake: &Handshake,
    dialect: &Dialect,
    answers: &Answers,
    moment: Moment,
) {
    let mut answered = false;
    while let Ok(Ok(packet)) = timeout(PATIENCE, conn.read_packet(MAX_FRAME)).await {
        let sent = match StatusRequest::read(&packet) {
            Ok(StatusRequest::Status) if !answered => {
                answered = true;
                let answer = answers.answer(handshake, dialect, moment).await;
                timeout(PATIENCE, conn.write_raw(answer.bytes())).await
            }
            Ok(StatusRequest::Ping(number)) => {
                // Whether it got there or not, nothing follows.
                let _ = timeout(PATIENCE, conn.write_packet(&write_pong(number))).await;
                return;
            }
            _ => return,
        };
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Reads a favicon into the form that answers have it in.
fn read_favicon(path: &Path) -> Result<String, AnswersError> {
    let mut png = Vec::new();
    File::open(path)?.take(MAX_FAVICON + 1).read_to_end(&mut png)?;
    if png.len() as u64 > MAX_FAVICON {
        return Err(AnswersError::FaviconTooLarge);
    }
    // Signature, then the header chunk: 13 bytes long, width and height first.
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR").ok_or(AnswersError::NotAFavicon)?;
    let size = FAVICON_SIZE.to_be_bytes();
    if header.starts_with(&[size, size].concat()) {
        Ok(format!("data:image/png;base64,{}", base64(&png)))
    } else {
        Err(AnswersError::NotAFavicon)
    }
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4u8 {
            let index = (bits >> (18 - 6 * u32::from(i))) & 0x3f;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            out.push(if usize::from(i) <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
