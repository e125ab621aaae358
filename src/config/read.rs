//! Taking values out of the tree, one key at a time: every wrong one is reported, and reading goes on with the default.

use std::cell::{Cell, RefCell};

use super::{
    problem::{Findings, Place, Spot, nearest, show},
    settings::{Record, Setting},
    tree::{Key, Node, Resolved, Scalar, Value},
};

/// One reading of a file: where findings go, and which keys were asked for.
#[derive(Debug)]
pub(super) struct Reading<'t> {
    pub(super) findings: &'t Findings,
    /// What stands under each key that is not written, to have its kind say what may; `None` is nothing, so that the
    /// key has its default.
    probe: Option<&'t Node>,
    /// Dotted path of every key there is, known once all sections were read.
    known: RefCell<Vec<String>>,
    /// Keys that nobody asked for: where, their name, and the keys beside which they stand.
    unknown: RefCell<Vec<(Spot, String, Vec<&'static str>)>>,
    /// Every key that holds a value, and what stands there.
    settings: RefCell<Vec<(String, Setting)>>,
    /// What may stand under a key, as its kind says.
    kinds: RefCell<Vec<(String, String)>>,
}

impl<'t> Reading<'t> {
    pub(super) fn new(findings: &'t Findings) -> Self {
        Self {
            findings,
            probe: None,
            known: RefCell::default(),
            unknown: RefCell::default(),
            settings: RefCell::default(),
            kinds: RefCell::default(),
        }
    }

    /// A reading that finds out what may stand under each key: keys that are not written have `nothing`, which no kind
    /// accepts and none complains about.
    pub(super) fn probing(findings: &'t Findings, nothing: &'t Node) -> Self {
        Self { probe: Some(nothing), ..Self::new(findings) }
    }

    /// Reports unknown keys, with the nearest known one: first of the same section, then of any.
    pub(super) fn finish(self) -> Record {
        let known = self.known.into_inner();
        for (spot, name, beside) in self.unknown.into_inner() {
            let elsewhere =
                |path: &&String| path.rsplit('.').next().is_some_and(|last| letters(last).eq(letters(&name)));
            let hint = if let Some(near) = nearest(&name, beside.iter().copied()) {
                format!("did you mean {near}?")
            } else if let Some(path) = known.iter().find(elsewhere) {
                format!("did you mean {path}? It belongs into that section")
            } else {
                format!("known here: {}", beside.join(", "))
            };
            self.findings.error(&spot, "unknown key", Some(hint));
        }
        Record { known, settings: self.settings.into_inner(), kinds: self.kinds.into_inner() }
    }
}

/// What makes up a key, however its words are joined.
fn letters(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase())
}

/// A value, its key, and where to complain about it.
#[derive(Debug)]
pub(super) struct At<'r, 't> {
    reading: &'r Reading<'t>,
    node: &'t Node,
    pub(super) spot: Spot,
    /// Whether the value is nobody's business.
    secret: Cell<bool>,
}

impl<'r, 't> At<'r, 't> {
    fn new(reading: &'r Reading<'t>, node: &'t Node, spot: Spot) -> Self {
        Self { reading, node, spot, secret: Cell::new(false) }
    }

    /// Says what may stand here, in words for the owner; said again, more of it. Every kind does so before it gives up on
    /// what does stand here.
    pub(super) fn takes(&self, words: impl FnOnce() -> String) {
        if self.reading.probe.is_some() {
            self.reading.kinds.borrow_mut().push((self.spot.key.clone(), words()));
        }
    }

    /// Whether this is about what may stand here, and nothing does.
    pub(super) fn is_probed(&self) -> bool {
        self.reading.probe.is_some() && self.node.value == Value::Broken
    }

    /// What stands here is to be shown to nobody.
    pub(super) fn keep_secret(&self) {
        self.secret.set(true);
    }

    pub(super) fn error(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.reading.findings.error(&self.spot, what, Some(hint.into()));
    }

    pub(super) fn warning(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.reading.findings.warning(&self.spot, what, Some(hint.into()));
    }

    /// The text that stands here. A bare scalar that YAML takes for something else is refused: what reaches us may not
    /// be what was typed (`no`, `0123`).
    pub(super) fn text(&self) -> Option<&'t str> {
        self.text_or(|bare| format!("put it in quotes: \"{bare}\""))
    }

    /// The same, where quotes alone would not make the bare value a right one: `hint` tells what would.
    pub(super) fn text_or(&self, hint: impl FnOnce(&str) -> String) -> Option<&'t str> {
        let scalar = self.scalar("text")?;
        let taken_for = match scalar.resolved() {
            Resolved::Text => return Some(&scalar.text),
            Resolved::Null => "as nothing",
            Resolved::Bool => "as true or false",
            Resolved::Number => "as a number",
            Resolved::Date => "as a date",
        };
        let what = format!("must be text, but YAML reads a bare {} {taken_for}", scalar.text);
        self.error(what, hint(&scalar.text));
        None
    }

    /// The truth value that stands here: `true` or `false`, bare.
    pub(super) fn boolean(&self) -> Option<bool> {
        const WANTED: &str = "true or false";
        let scalar = self.scalar(WANTED)?;
        let lower = scalar.text.to_ascii_lowercase();
        match (scalar.quoted, lower.as_str()) {
            (false, "true") => return Some(true),
            (false, "false") => return Some(false),
            (true, "true" | "false") => self.error("must be true or false, not text", "remove the quotes"),
            (_, "yes" | "y" | "on") => self.must_be(WANTED, scalar, "write true"),
            (_, "no" | "n" | "off") => self.must_be(WANTED, scalar, "write false"),
            _ => self.must_be(WANTED, scalar, "write true or false"),
        }
        None
    }

    /// The whole number that stands here: decimal digits, bare.
    pub(super) fn integer(&self) -> Option<i64> {
        const WANTED: &str = "a whole number";
        let scalar = self.scalar(WANTED)?;
        let digits = scalar.text.strip_prefix('-').unwrap_or(&scalar.text);
        let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let plain = decimal && (digits == "0" || !digits.starts_with('0'));
        if scalar.quoted && plain {
            self.error("must be a whole number, not text", "remove the quotes");
        } else if plain {
            match scalar.text.parse() {
                Ok(number) => return Some(number),
                Err(_) => self.must_be(WANTED, scalar, "this one is far too large"),
            }
        } else if decimal {
            self.must_be(WANTED, scalar, "remove the leading zeros; some YAML readers take them for octal");
        } else {
            self.must_be(WANTED, scalar, "write it in plain digits, without a unit");
        }
        None
    }

    /// What follows `prefix` in the text that stands here, if it starts so.
    pub(super) fn prefixed(&self, prefix: &str) -> Option<&'t str> {
        match &self.node.value {
            Value::Scalar(scalar) => scalar.text.strip_prefix(prefix),
            _ => None,
        }
    }

    /// The items of the list that stands here.
    pub(super) fn items(&self) -> Option<Vec<At<'r, 't>>> {
        match &self.node.value {
            Value::Sequence(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, node)| At::new(self.reading, node, self.spot.item(index, node.place)))
                    .collect(),
            ),
            Value::Scalar(scalar) if scalar.is_absent() => {
                self.error("has no value", "write [] for an empty list, or remove the line for the default");
                None
            }
            _ => {
                self.wrong_shape("a list", "write it as [first, second]");
                None
            }
        }
    }

    /// Whether a list stands here.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// The fixed keys below this one. Nothing written is an empty section.
    pub(super) fn section(&self) -> Option<Section<'r, 't>> {
        let entries = self.mapping()?;
        Some(Section { reading: self.reading, spot: self.spot.clone(), entries, known: Vec::new() })
    }

    /// The entries below this one, whose keys the owner chooses, each checked to be text.
    pub(super) fn entries(&self) -> Option<Vec<(&'t str, At<'r, 't>)>> {
        let mut entries = Vec::new();
        for (key, node) in self.mapping()? {
            let spot = self.spot.child(&key.name.text, Some(key.place));
            if key.name.resolved() == Resolved::Text {
                entries.push((key.name.text.as_str(), At::new(self.reading, node, spot)));
            } else {
                let what = "must be text, but YAML reads this bare key as something else";
                let hint = format!("put it in quotes: \"{}\"", key.name.text);
                self.reading.findings.error(&spot, what, Some(hint));
            }
        }
        Some(entries)
    }

    fn mapping(&self) -> Option<Vec<(&'t Key, &'t Node)>> {
        match &self.node.value {
            Value::Mapping(entries) => Some(entries.iter().map(|(key, node)| (key, node)).collect()),
            Value::Scalar(scalar) if scalar.is_absent() => Some(Vec::new()),
            _ => {
                self.wrong_shape("a section", "write its keys below it, indented, as key: value");
                None
            }
        }
    }

    fn scalar(&self, wanted: &str) -> Option<&'t Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.is_absent() => {
                self.error("has no value", format!("write {wanted}, or remove the line for the default"));
                None
            }
            Value::Scalar(scalar) => Some(scalar),
            _ => {
                self.wrong_shape(wanted, "write one plain value");
                None
            }
        }
    }

    fn must_be(&self, wanted: &str, scalar: &Scalar, hint: &str) {
        self.error(format!("must be {wanted}, not {}", show(&scalar.text)), hint);
    }

    fn wrong_shape(&self, wanted: &str, hint: &str) {
        let found = match &self.node.value {
            Value::Broken => return,
            // Not shown: it may be a webhook's URL, which is a secret.
            Value::Scalar(_) => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a section",
        };
        self.error(format!("must be {wanted}, not {found}"), hint);
    }
}

/// The keys of one section. Each reader method names one key, which makes it known.
#[derive(Debug)]
pub(super) struct Section<'r, 't> {
    reading: &'r Reading<'t>,
    pub(super) spot: Spot,
    entries: Vec<(&'t Key, &'t Node)>,
    known: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// The file's outermost keys.
    pub(super) fn root(reading: &'r Reading<'t>, root: &'t Node) -> Option<Self> {
        let spot = Spot { place: Some(root.place), key: String::new() };
        At::new(reading, root, spot).section()
    }

    /// A key that is in force: its value, or `default` if it is missing or wrong.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        default: T,
        kind: impl FnOnce(&At<'_, 't>) -> Option<T>,
    ) -> T {
        self.optional(key, kind).unwrap_or(default)
    }

    /// A key without a default: its value if it stands there and is right.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&At<'_, 't>) -> Option<T>,
    ) -> Option<T> {
        let found = self.find(key);
        let value = found.as_ref().and_then(kind);
        let setting = match &found {
            Some(at) => Setting::written(at.node, at.secret.get()),
            None => Setting::Unwritten,
        };
        self.reading.settings.borrow_mut().push((self.spot.child(key, None).key, setting));
        value
    }

    /// A section below this one; empty if it is missing or wrong.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        let spot = self.spot.child(key, None);
        self.find(key).and_then(|at| at.section()).unwrap_or(Section {
            reading: self.reading,
            spot,
            entries: Vec::new(),
            known: Vec::new(),
        })
    }

    /// Whether `key` is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| k.name.text == key)
    }

    /// Where `key` stands, or where it would.
    pub(super) fn spot(&self, key: &str) -> Spot {
        let place = self.entries.iter().find(|(k, _)| k.name.text == key).map(|(_, node)| node.place);
        self.spot.child(key, place.or(self.spot.place))
    }

    /// A problem of the section as a whole.
    pub(super) fn error(&self, key: &str, what: &str, hint: &str) {
        self.reading.findings.error(&self.spot.child(key, self.spot.place), what, Some(hint.to_owned()));
    }

    /// Ends the section: keys that nobody asked for are unknown.
    pub(super) fn finish(self) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.name.text.as_str()) {
                let spot = self.spot.child(&key.name.text, Some(key.place));
                self.reading.unknown.borrow_mut().push((spot, key.name.text.clone(), self.known.clone()));
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<At<'r, 't>> {
        self.known.push(key);
        self.reading.known.borrow_mut().push(self.spot.child(key, None).key);
        let Some((written, node)) = self.entries.iter().find(|(k, _)| k.name.text == key) else {
            let spot = self.spot.child(key, self.spot.place);
            return self.reading.probe.map(|nothing| At::new(self.reading, nothing, spot));
        };
        let place: Place = match &node.value {
            // An empty value stands nowhere of its own.
            Value::Scalar(scalar) if scalar.is_absent() => written.place,
            Value::Mapping(_) => written.place,
            _ => node.place,
        };
        Some(At::new(self.reading, node, self.spot.child(key, Some(place))))
    }
}
