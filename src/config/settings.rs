//! What each key holds, as its owner writes it: what a reload says about what changed.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use subtle::ConstantTimeEq;

use super::tree::{Key, Node, Resolved, Scalar, Value};

/// Keys that a running proxy cannot change: it listens where it listens.
pub(super) const FIXED: &[&str] = &["bind", "admin.listen"];

/// Keys that the commented file leaves unwritten, and what holds without them. (Those that are not here hold nothing.)
pub(super) const UNWRITTEN: &[(&str, &str)] = &[
    ("try", "all, in the order of backends"),
    ("backends.NAME.forwarding", "as under forwarding.mode"),
    ("backends.NAME.secret-file", "as under forwarding.secret-file"),
    ("backends.NAME.send-proxy-protocol", "false"),
    ("alerts.webhooks[].format", "json"),
    ("alerts.webhooks[].events", "all"),
];

/// Longest value shown, in characters: enough to recognise it in a line of a log.
const SHOWN: usize = 100;

/// A list of more items is told by those that came and went.
const FEW: usize = 6;

/// What one reading of a file found out about its keys.
#[derive(Debug)]
pub(super) struct Record {
    /// Every key and section there is.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the commented file"))]
    pub(super) known: Vec<String>,
    /// Every key that holds a value, and what stands there.
    pub(super) settings: Vec<(String, Setting)>,
    /// What may stand under a key, in words. A key may have several, to be read one after the other.
    pub(super) kinds: Vec<(String, String)>,
}

/// What stands under a key.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    /// Nothing: the default holds.
    Unwritten,
    /// Nothing, and what holds then, in words.
    Default(&'static str),
    /// One value.
    One(String),
    /// A list, item by item.
    List(Vec<String>),
    /// What nobody may see.
    Secret(SecretString),
}

impl Setting {
    /// What stands at `node`, in one and the same form however it is quoted and laid out.
    pub(super) fn written(node: &Node, secret: bool) -> Self {
        match &node.value {
            Value::Broken => Self::Unwritten,
            Value::Scalar(scalar) if scalar.is_absent() => Self::Unwritten,
            Value::Scalar(scalar) if secret => Self::Secret(plain(scalar).into()),
            Value::Scalar(scalar) => Self::One(plain(scalar)),
            Value::Sequence(items) => Self::List(items.iter().filter_map(item).collect()),
            Value::Mapping(entries) => Self::List(entries.iter().map(entry).collect()),
        }
    }

    /// All of it, a secret too.
    pub(super) fn exact(&self) -> Cow<'_, str> {
        match self {
            Self::Unwritten => Cow::Borrowed(""),
            Self::Default(words) => Cow::Borrowed(words),
            Self::One(text) => Cow::Borrowed(text),
            Self::List(items) => Cow::Owned(format!("[{}]", items.join(", "))),
            Self::Secret(secret) => Cow::Borrowed(secret.expose_secret()),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.exact().as_bytes().ct_eq(other.exact().as_bytes()).into()
    }

    /// How this became `fresh`, which is not the same.
    fn became(&self, fresh: &Self) -> String {
        match (self, fresh) {
            (Self::Unwritten, Self::Secret(_)) => "added".to_owned(),
            (Self::Secret(_), Self::Unwritten) => "removed".to_owned(),
            (Self::Secret(_), _) | (_, Self::Secret(_)) => "changed".to_owned(),
            (Self::List(old), Self::List(new)) if old.len().max(new.len()) > FEW => difference(old, new),
            (old, new) => {
                let (old, new) = (old.exact(), new.exact());
                let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
                format!("{} -> {}", around(&old, same), around(&new, same))
            }
        }
    }
}

/// A value as its owner would write it: bare where every YAML reader takes it for what it is, else in quotes.
fn plain(scalar: &Scalar) -> String {
    let text = &scalar.text;
    if !scalar.quoted && scalar.resolved() != Resolved::Text {
        // Numbers and truth values, the latter however they are spelt.
        return text.to_ascii_lowercase();
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let bare = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(bare);
    if bare && (Scalar { quoted: false, ..scalar.clone() }).resolved() == Resolved::Text {
        return text.clone();
    }
    let escaped: String =
        text.chars().flat_map(|c| if c == '\'' { vec![c] } else { c.escape_debug().collect() }).collect();
    format!("\"{escaped}\"")
}

/// An item of a list. One with keys of its own is noted by these.
fn item(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(scalar) => Some(plain(scalar)),
        _ => None,
    }
}

/// A name that the owner chose, and what it stands for; if that has keys of its own it is noted by these.
fn entry((key, node): &(Key, Node)) -> String {
    let name = plain(&key.name);
    match &node.value {
        Value::Sequence(items) => {
            format!("{name}: [{}]", items.iter().filter_map(item).collect::<Vec<_>>().join(", "))
        }
        _ => name,
    }
}

/// What `text` holds, cut if long: to where it differs from another one, which is after `same` characters.
fn around(text: &str, same: usize) -> String {
    if text.is_empty() {
        return "(nothing)".to_owned();
    }
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    // A little of what goes before, so that the place can be found.
    let from = if same + 20 < SHOWN { 0 } else { same - 20 };
    let shown: String = text.chars().skip(from).take(SHOWN).collect();
    let before = if from > 0 { "…" } else { "" };
    let after = if text.chars().nth(from + SHOWN).is_some() { "…" } else { "" };
    format!("{before}{shown}{after}")
}

/// What came and went of a long list.
fn difference(old: &[String], new: &[String]) -> String {
    let without = |these: &[String], those: &[String]| {
        let those: HashSet<&String> = those.iter().collect();
        these.iter().filter(|item| !those.contains(item)).cloned().collect::<Vec<_>>()
    };
    let (added, removed) = (without(new, old), without(old, new));
    let mut parts = Vec::new();
    for (verb, items) in [("added", added), ("removed", removed)] {
        if !items.is_empty() {
            let shown: Vec<String> = items.iter().take(FEW).map(|item| around(item, 0)).collect();
            let more = match items.len() - shown.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            parts.push(format!("{verb} {}{more}", shown.join(", ")));
        }
    }
    if parts.is_empty() { "another order".to_owned() } else { parts.join("; ") }
}

/// What every key of a configuration holds, built-in values included. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By dotted path, in the order of the schema.
    keys: Vec<(String, Setting)>,
    /// What the secret files hold that are in use, by the key that names the file.
    contents: Vec<(String, SecretSlice<u8>)>,
    /// Keys that something outside the file has put out of use.
    unused: Vec<String>,
}

impl Settings {
    /// The record of a reading, with what holds under each key that is not written: what `defaults`, the commented
    /// file, has there.
    pub(super) fn new(record: Record, defaults: Option<&Node>) -> Self {
        let complete = |(key, setting): (String, Setting)| {
            let setting = match setting {
                Setting::Unwritten => default_of(&key, defaults),
                setting => setting,
            };
            (key, setting)
        };
        Self {
            keys: record.settings.into_iter().map(complete).collect(),
            contents: Vec::new(),
            unused: Vec::new(),
        }
    }

    /// Adds what the secret file under `key` holds.
    pub(super) fn hold(&mut self, key: &str, content: &SecretSlice<u8>) {
        self.contents.push((key.to_owned(), content.clone()));
    }

    /// What stands under `key` has no effect.
    pub(super) fn ignore(&mut self, key: &str) {
        self.unused.push(key.to_owned());
    }

    /// Every key, in the order of the schema, and what it holds.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.keys.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// What is other in `fresh`. `means_the_same` says so of keys that are written otherwise.
    pub(super) fn changes(&self, fresh: &Self, means_the_same: impl Fn(&str) -> bool) -> Changes {
        // What came or went with its backend or webhook is told by what its owner wrote.
        let nothing = |other: &Setting| match other {
            Setting::Default(words) => Setting::Default(words),
            _ => Setting::Unwritten,
        };
        let old: HashMap<&str, &Setting> = self.keys.iter().map(|(key, held)| (key.as_str(), held)).collect();
        let new: HashSet<&str> = fresh.keys.iter().map(|(key, _)| key.as_str()).collect();
        let both = fresh.keys.iter().map(|(key, held)| {
            let before = old.get(key.as_str()).map_or_else(|| nothing(held), |before| (*before).clone());
            (key, before, held.clone())
        });
        let gone = self.keys.iter().filter(|(key, _)| !new.contains(key.as_str()));
        let gone = gone.map(|(key, held)| (key, held.clone(), nothing(held)));
        let mut changes = Changes::default();
        let is_unused = |key: &String| self.unused.contains(key) && fresh.unused.contains(key);
        let differ = both.chain(gone).filter(|(_, old, new)| !old.is_same(new));
        for (key, old, new) in differ.filter(|(key, ..)| !is_unused(key) && !means_the_same(key)) {
            let line = format!("{key}: {}", old.became(&new));
            if FIXED.contains(&key.as_str()) {
                changes.restart_needed.push(line);
            } else {
                changes.changed.push(line);
            }
        }
        for (key, new) in &fresh.contents {
            let old = self.contents.iter().find(|(known, _)| known == key);
            if old.is_some_and(|(_, old)| !bool::from(old.expose_secret().ct_eq(new.expose_secret()))) {
                changes.changed.push(format!("{key}: the secret changed"));
            }
        }
        changes
    }
}

/// How one configuration differs from another: one line for each key, as in `auth.timeout: 5000 -> 3000`. Of secrets it
/// says only that they changed. What differs in form alone, such as quotes or a default written out, is no change;
/// nor is another way to write where it listens, whom it asks or where it keeps what it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What a running proxy takes over.
    pub changed: Vec<String>,
    /// What it cannot change while it runs: where it listens.
    pub restart_needed: Vec<String>,
}

/// What holds where `key` is not written.
pub(super) fn default_of(key: &str, defaults: Option<&Node>) -> Setting {
    if let Some((_, words)) = UNWRITTEN.iter().find(|(known, _)| *known == general(key)) {
        return Setting::Default(words);
    }
    let found = key.split('.').try_fold(defaults, |node, part| match &node?.value {
        Value::Mapping(entries) => {
            Some(entries.iter().find(|(key, _)| key.name.text == part).map(|(_, node)| node))
        }
        _ => None,
    });
    found.flatten().map_or(Setting::Unwritten, |node| Setting::written(node, false))
}

/// A key without what its owner chose: the names of backends, and the places of lists.
pub(super) fn general(key: &str) -> String {
    if let Some((_, last)) = key.strip_prefix("backends.").and_then(|rest| rest.rsplit_once('.')) {
        return format!("backends.NAME.{last}");
    }
    match (key.split_once('['), key.split_once(']')) {
        (Some((list, _)), Some((_, rest))) => format!("{list}[]{rest}"),
        _ => key.to_owned(),
    }
}
