//! YAML text as a tree that remembers where each value stood and whether it was quoted.
//!
//! Only what a configuration needs of YAML is accepted. Anchors, aliases, merge keys and tags make a file say
//! something else than it seems to; a second document or a doubled key would silently lose settings.

use std::collections::HashMap;

use serde_yaml::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::{Findings, Place, Spot};

/// Deepest nesting. The configuration itself needs five levels.
const MAX_DEPTH: usize = 16;

/// Most values in a file: far beyond any real configuration, and small enough to hold.
const MAX_NODES: usize = 50_000;

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// Something that has been reported already and stands for no value.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: Scalar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) quoted: bool,
}

/// What YAML, in its version 1.1 or 1.2, takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Null,
    Bool,
    Number,
    Date,
    Text,
}

impl Scalar {
    pub(super) fn resolved(&self) -> Resolved {
        if self.quoted { Resolved::Text } else { resolve(&self.text) }
    }

    /// Whether nothing was written at all.
    pub(super) fn is_absent(&self) -> bool {
        !self.quoted && self.text.is_empty()
    }
}

/// What a bare `text` is. Versions 1.1 and 1.2 of YAML differ; here it is enough that one of them sees more than text,
/// since the next tool to read the file may follow the other.
fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" | "yes" | "Yes" | "YES" | "no" | "No"
        | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" | "y" | "Y" | "n" | "N" => Resolved::Bool,
        _ if is_number(text.strip_prefix(['+', '-']).unwrap_or(text)) => Resolved::Number,
        _ if is_date(text) => Resolved::Date,
        _ => Resolved::Text,
    }
}

fn is_number(text: &str) -> bool {
    let digits =
        |text: &str, radix: u32| !text.is_empty() && text.chars().all(|c| c == '_' || c.is_digit(radix));
    if matches!(text, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return digits(rest, radix);
        }
    }
    if !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return false;
    }
    if let Some((first, rest)) = text.split_once(':') {
        // Base 60: 12:30:45.5
        let rest = rest.split_once('.').map_or(rest, |(whole, _)| whole);
        let sixtieth =
            |part: &str| digits(part, 10) && part.parse::<u8>().is_ok_and(|n| n < 60) && part.len() <= 2;
        return digits(first, 10) && rest.split(':').all(sixtieth);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    (whole.is_empty() || digits(whole, 10))
        && (fraction.is_empty() || digits(fraction, 10))
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e), 10))
}

fn is_date(text: &str) -> bool {
    let day = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let mut parts = day.split('-');
    let mut part = |lengths: &[usize]| {
        parts.next().is_some_and(|p| lengths.contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    part(&[4]) && part(&[1, 2]) && part(&[1, 2]) && parts.next().is_none()
}

/// Reads `text` into a tree. What is wrong with it as YAML goes to `findings`; `None` if there is nothing to go on
/// with, or nothing was written.
pub(super) fn parse(text: &str, findings: &Findings) -> Option<Node> {
    let mut builder = Builder { events: Parser::new_from_str(text), findings, nodes: 0 };
    match builder.document() {
        Ok(root) => root,
        Err(stop) => {
            let spot = Spot { place: Some(stop.place), key: String::new() };
            findings.error(&spot, stop.what, hint_for(text, stop.place));
            None
        }
    }
}

/// The slip behind most files that are not YAML.
fn hint_for(text: &str, place: Place) -> Option<String> {
    let near = text.lines().skip(place.line.saturating_sub(2)).take(2);
    let tab = near.into_iter().any(|line| line.trim_start_matches(' ').starts_with('\t'));
    tab.then(|| "indent with spaces; YAML allows no tabs there".to_owned())
}

/// Why reading cannot go on.
struct Stop {
    place: Place,
    what: String,
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        let place = Place { line: error.marker().line().max(1), column: error.marker().col() + 1 };
        Self { place, what: format!("not valid YAML: {}", error.info()) }
    }
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    findings: &'t Findings,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Stop> {
        match self.events.next_event() {
            Some(event) => {
                let (event, span) = event?;
                Ok((event, start(span)))
            }
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let spot = Spot { place: Some(place), key: String::new() };
                        let hint = "remove the line `---` and what follows it";
                        self.findings.error(
                            &spot,
                            "a second YAML document starts here",
                            Some(hint.to_owned()),
                        );
                        return Ok(root);
                    }
                }
                content => {
                    let node = self.node(content, place, &Spot::file(), 0)?;
                    let absent = matches!(&node.value, Value::Scalar(scalar) if scalar.is_absent());
                    root = (!absent).then_some(node);
                }
            }
        }
    }

    /// The value that starts with `event`. `parent` is the key it stands under.
    fn node(&mut self, event: Event<'t>, place: Place, spot: &Spot, depth: usize) -> Result<Node, Stop> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Stop { place, what: format!("nested more than {MAX_DEPTH} levels deep") });
        }
        if self.nodes > MAX_NODES {
            return Err(Stop { place, what: format!("more than {MAX_NODES} values in one file") });
        }
        let spot = Spot { place: Some(place), key: spot.key.clone() };
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(&spot, anchor, tag.is_some());
                Value::Scalar(Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(&spot, anchor, tag.is_some());
                self.sequence(&spot, depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(&spot, anchor, tag.is_some());
                self.mapping(&spot, depth)?
            }
            Event::Alias(_) => {
                let hint = "write the value out again";
                self.findings.error(&spot, "aliases (*name) are not supported here", Some(hint.to_owned()));
                Value::Broken
            }
            _ => return Err(Stop { place, what: "not valid YAML: a value is missing here".to_owned() }),
        };
        Ok(Node { place, value })
    }

    fn sequence(&mut self, spot: &Spot, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Sequence(items));
            }
            let item = spot.item(items.len(), place);
            items.push(self.node(event, place, &item, depth + 1)?);
        }
    }

    fn mapping(&mut self, spot: &Spot, depth: usize) -> Result<Value, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Mapping(entries));
            }
            let key = self.node(event, place, spot, depth + 1)?;
            let name = match key.value {
                Value::Scalar(name) => Some(name),
                Value::Broken => None,
                Value::Sequence(_) | Value::Mapping(_) => {
                    let at = Spot { place: Some(place), key: spot.key.clone() };
                    self.findings.error(&at, "a key must be text, not a list or a section", None);
                    None
                }
            };
            let at = spot.child(name.as_ref().map_or("?", |name| name.text.as_str()), Some(place));
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place, &at, depth + 1)?;
            let Some(name) = name else { continue };
            if name.text == "<<" && !name.quoted {
                let hint = "write the keys out again";
                self.findings.error(&at, "merge keys (<<) are not supported here", Some(hint.to_owned()));
            } else if let Some(first) = seen.get(&name.text) {
                let hint = format!("keep one; the first is in line {}", first.line);
                self.findings.error(&at, "stands here for the second time", Some(hint));
            } else {
                seen.insert(name.text.clone(), place);
                entries.push((Key { place, name }, value));
            }
        }
    }

    /// Anchors and tags are reported; the value itself is good for finding further problems.
    fn refuse_extras(&self, spot: &Spot, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.findings.error(spot, "anchors (&name) are not supported here", Some("remove it".to_owned()));
        }
        if tagged {
            self.findings.error(spot, "tags (!name) are not supported here", Some("remove it".to_owned()));
        }
    }
}

/// Lines count from 1 in the parser, columns from 0.
fn start(span: Span) -> Place {
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn problems(text: &str) -> String {
        let findings = Findings::new(Path::new("f"));
        parse(text, &findings);
        findings.finish(Some(())).err().map_or_else(String::new, |report| report.to_string())
    }

    #[test]
    fn what_yaml_types() {
        for text in ["", "~", "null", "Null"] {
            assert_eq!(resolve(text), Resolved::Null, "{text:?}");
        }
        for text in ["true", "False", "no", "ON", "y"] {
            assert_eq!(resolve(text), Resolved::Bool, "{text:?}");
        }
        for text in [
            "12", "-3", "+5", "0123", "1e3", "1E-3", "1.5", ".5", "5.", "0x1F", "0o17", "1_000", "12:30",
            "1:2:3.4", ".inf", "-.inf", ".nan",
        ] {
            assert_eq!(resolve(text), Resolved::Number, "{text:?}");
        }
        for text in ["2026-11-21", "2026-1-2", "2026-11-21T20:15:03Z", "2026-11-21 20:15"] {
            assert_eq!(resolve(text), Resolved::Date, "{text:?}");
        }
        for text in [
            "lobby",
            "127.0.0.1",
            "127.0.0.1:25565",
            "0.0.0.0:80",
            "AS64496",
            "::1",
            "2001:db8::1",
            "1.20.4",
            "-",
            ".",
            "+",
            "0x",
            "1e",
            "e3",
            "12a",
            "nope",
            "069a79f4-44e9-4726-a5be-fca90e38aaf5",
            "12:99",
            "25565:25565",
            "2026-11",
        ] {
            assert_eq!(resolve(text), Resolved::Text, "{text:?}");
        }
    }

    #[test]
    fn places_and_quotes_are_kept() {
        let findings = Findings::new(Path::new("f"));
        let root = parse("a:\n  b: 'x'\n  c: [1, \"2\"]\n", &findings).unwrap();
        let Value::Mapping(entries) = root.value else { panic!("{root:?}") };
        let Value::Mapping(inner) = &entries[0].1.value else { panic!() };
        assert_eq!(inner[0].0.place, Place { line: 2, column: 3 });
        assert_eq!(inner[0].1.place, Place { line: 2, column: 6 });
        assert_eq!(inner[0].1.value, Value::Scalar(Scalar { text: "x".into(), quoted: true }));
        let Value::Sequence(items) = &inner[1].1.value else { panic!() };
        assert_eq!(items[1].place, Place { line: 3, column: 10 });
        assert_eq!(items[0].value, Value::Scalar(Scalar { text: "1".into(), quoted: false }));
        findings.finish(Some(())).unwrap();
    }

    #[test]
    fn bounds() {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        assert_eq!(problems(&deep), "f:1:18: error: nested more than 16 levels deep");
        let long = "- 1\n".repeat(MAX_NODES);
        assert_eq!(problems(&long), "f:50000:3: error: more than 50000 values in one file");
    }

    #[test]
    fn nothing_is_no_tree() {
        let findings = Findings::new(Path::new("f"));
        for text in ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n"] {
            assert_eq!(parse(text, &findings), None, "{text:?}");
        }
        assert!(!findings.any_error());
    }
}
