//! The reference of all keys, made out of what there is: the commented file says what a key does and what holds there,
//! the schema what may stand there, the messages when a player reads them.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    path::Path,
};

use super::{
    EXAMPLE, defaults,
    problem::{Findings, Place},
    read::{Reading, Section},
    schema,
    settings::{FIXED, Setting, default_of, general},
    tree::{self, Node, Value},
};
use crate::messages::MessageKey;

/// Keys that are in force from the next start on, since they are about the start.
const AT_START: &[&str] = &["session-cache.cleanup-on-startup"];

/// Keys that must be written.
const REQUIRED: &[&str] = &["backends", "backends.NAME.address", "alerts.webhooks[].url"];

/// Keys of a section whose names the owner chooses: written as a list they are refused.
const SECTIONS: &[&str] = &["forced-hosts"];

/// A key of the commented file.
#[derive(Debug)]
pub(super) struct ExampleKey {
    /// Its dotted path. A list of sections is a section here.
    pub(super) path: String,
    /// The comment above it. Keys right below each other share one.
    comment: String,
}

/// The keys in the commented file in its order, those in comments too. A comment that is a key looks like one:
/// `# word: …`, or is an entry of a list, `# - word: …`.
pub(super) fn keys_of_the_example() -> Vec<ExampleKey> {
    let mut keys: Vec<ExampleKey> = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut comment = String::new();
    let mut within = false;
    for line in EXAMPLE.lines() {
        let mut indent = line.len() - line.trim_start().len();
        let mut text = line.trim_start();
        let commented = text.starts_with('#');
        text = text.strip_prefix("# ").unwrap_or(text);
        let words = text;
        indent += text.len() - text.trim_start_matches([' ', '-']).len();
        text = text.trim_start_matches([' ', '-']);
        let Some(name) = key_of(text, commented) else {
            if !within {
                comment.clear();
            }
            within = commented;
            if commented {
                comment.push_str(if comment.is_empty() { "" } else { " " });
                comment.push_str(words);
            }
            continue;
        };
        within = false;
        parents.retain(|(depth, _)| *depth < indent);
        parents.push((indent, name));
        let path = parents.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(".");
        keys.push(ExampleKey { path, comment: comment.clone() });
    }
    keys
}

/// The key in a line. A comment explains a value (`# static: the one below.`) if it is a sentence, which ends.
fn key_of(text: &str, commented: bool) -> Option<&str> {
    let (name, rest) = text.split_once(':')?;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_key = !name.is_empty() && name.bytes().all(letter) && (rest.is_empty() || rest.starts_with(' '));
    let is_prose = commented && rest.ends_with(['.', ',', ':']);
    (is_key && !is_prose).then_some(name)
}

/// What may stand under each key, in words.
fn kinds() -> HashMap<String, String> {
    // One of everything that an owner may name.
    const NAMED: &str = "backends: {lobby: {}}\nalerts: {webhooks: [{}]}";
    let findings = Findings::new(Path::new(""));
    let nothing = Node { place: Place { line: 1, column: 1 }, value: Value::Broken };
    let mut kinds: HashMap<String, String> = HashMap::new();
    let Some(root) = tree::parse(NAMED, &findings) else { return kinds };
    let reading = Reading::probing(&findings, &nothing);
    if let Some(section) = Section::root(&reading, &root) {
        schema::values(section, Path::new(""), &findings);
    }
    let mut seen = HashSet::new();
    for (key, words) in reading.finish().kinds {
        // What an item of a list is belongs to what its list is.
        let key = key.strip_suffix("[0]").map_or(key.clone(), str::to_owned);
        if !seen.insert((key.clone(), words.clone())) {
            continue;
        }
        let kind = kinds.entry(general(&key)).or_default();
        kind.push_str(if kind.is_empty() || words.starts_with([',', ':']) { "" } else { " " });
        kind.push_str(&words);
    }
    kinds
}

/// Every key with what may stand there, what holds if it is not written, whether a reload takes it over, and what it
/// does: a page in Markdown.
pub fn reference() -> String {
    let mut page = "# Every key of the configuration\n\n\
        This page is written by `postern reference`, out of the program itself: what it says holds for the version that \
        wrote it. How to set Postern up is told in [operating.md](operating.md); the file that a first start writes, \
        [config.example.yml](../config.example.yml), has the same keys in the same order.\n\n\
        A key that is not written has its default, and so has every key of a section that is not written. Whatever \
        `postern check` finds wrong with a file stops the start, and a reload of it changes nothing. Paths are relative \
        to the folder of the file.\n\n\
        A reload (SIGHUP, `systemctl reload postern`, `POST /api/reload`) takes over every key without touching a \
        connection, save those marked *restart*: where Postern listens stays until the next start.\n"
        .to_owned();
    let defaults = defaults();
    let kinds = kinds();
    let mut in_table = false;
    for ExampleKey { path, comment } in keys_of_the_example() {
        if path == "backends.lobby" {
            continue;
        }
        let key = match path.strip_prefix("alerts.webhooks.") {
            Some(rest) => format!("alerts.webhooks[].{rest}"),
            None => general(&path),
        };
        let is_section = !kinds.contains_key(&key);
        let is_first = !path.contains('.');
        if is_section || is_first {
            let _ = write!(page, "\n## {key}\n");
            in_table = false;
            if is_section {
                let _ = write!(page, "\n{comment}\n");
                continue;
            }
        }
        let is_text = key.starts_with("messages.");
        if !in_table {
            page.push_str(if is_text {
                "\n| key | default | when a player reads it |\n| --- | --- | --- |\n"
            } else {
                "\n| key | what may stand there | default | reload | what it does |\n| --- | --- | --- | --- | --- |\n"
            });
            in_table = true;
        }
        let default = match default_of(&key, defaults.as_ref()) {
            _ if REQUIRED.contains(&key.as_str()) => "required".to_owned(),
            Setting::Unwritten => "none".to_owned(),
            // It reads as a list in changes, where only what differs matters.
            Setting::List(items) if items.is_empty() && SECTIONS.contains(&key.as_str()) => "`{}`".to_owned(),
            Setting::Default(words) => words.to_owned(),
            held => format!("`{}`", held.exact()),
        };
        let reload = match key.as_str() {
            fixed if FIXED.contains(&fixed) => "*restart*",
            start if AT_START.contains(&start) => "next start",
            _ => "yes",
        };
        let kind = kinds.get(&key).map(String::as_str).unwrap_or_default();
        let cells = if is_text {
            let message =
                MessageKey::ALL.iter().find(|message| key.ends_with(&format!(".{}", message.key())));
            vec![default, message.map(|message| message.about().trim().to_owned()).unwrap_or_default()]
        } else {
            vec![kind.to_owned(), default, reload.to_owned(), comment]
        };
        let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(page, "| `{key}` | {} |", cells.join(" | "));
    }
    page
}
