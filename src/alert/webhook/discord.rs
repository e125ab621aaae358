//! Messages as Discord takes them: one embed each. What others wrote is escaped, so that it neither looks like a link,
//! a mention or formatting nor is one, and mentions are switched off besides.
//!
//! Lengths are counted in UTF-16 units, which are never fewer than the characters that Discord's documentation speaks of.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    batch::Told,
    json::with,
    message::{self, Message},
};

/// Longest description, in units, with room for a last line that says what is missing. Discord takes 4096, and 6000
/// for all texts of a message together.
const DESCRIPTION: usize = 3900;
/// Longest value of a field, in units. Discord takes 1024.
const FIELD: usize = 1000;

/// Colours of the edge: alarm, relief, attention.
const RED: u32 = 0x00D8_3C3E;
const GREEN: u32 = 0x003B_A55D;
const AMBER: u32 = 0x00FA_A61A;

/// The message.
pub(super) fn body(message: &Message) -> Value {
    let embed = match message {
        Message::Began(began) => json!({
            "title": "Outage",
            "description": message::began(began, escaped),
            "color": RED,
            "timestamp": format!("{:.3}", began.at),
        }),
        Message::Ended(ended) => json!({
            "title": "The outage is over",
            "description": message::lasted(ended),
            "color": GREEN,
            "timestamp": format!("{:.3}", ended.to),
            "fields": [
                { "name": "Admitted without Mojang", "value": cut(&message::admitted(ended, escaped)) },
                { "name": "Refused", "value": cut(&message::refused(ended)) },
            ],
        }),
        Message::Batch(told) => json!({
            "title": told.sum().to_string(),
            "description": lines(told),
            "color": AMBER,
        }),
    };
    let embed = with(embed, json!({ "footer": { "text": concat!("Postern ", env!("CARGO_PKG_VERSION")) } }));
    json!({ "allowed_mentions": { "parse": [] }, "embeds": [embed] })
}

/// As many lines as there is room for, and what is missing.
fn lines(Told { items, left_out }: &Told) -> String {
    let (mut text, mut left_out) = (String::new(), *left_out);
    let mut is_full = false;
    for news in items {
        // The reader's own time of day.
        let line = format!("<t:{}:T> {}\n", news.at.as_second(), message::line(&news.alert, escaped));
        is_full = is_full || units(&text) + units(&line) > DESCRIPTION;
        if is_full {
            left_out.add(&news.alert);
        } else {
            text.push_str(&line);
        }
    }
    if !left_out.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "and also: {left_out}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// Cut to what a field takes, never within an escape.
fn cut(text: &str) -> String {
    if units(text) <= FIELD {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut length = 0;
    for c in text.chars() {
        length += c.len_utf16();
        if length >= FIELD {
            break;
        }
        kept.push(c);
    }
    let open = kept.chars().rev().take_while(|c| *c == '\\').count() % 2;
    kept.truncate(kept.len() - open);
    kept + "…"
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The text with a backslash before whatever Discord's Markdown may read as more than itself. A full stop, a comma and
/// the like never are.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ';' | '\'' | '"' | '?' | '%') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
