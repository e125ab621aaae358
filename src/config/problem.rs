//! What is wrong with a configuration, told all at once: file, line, column, key, and how to mend it.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

/// Where something stands in the file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The proxy does not start with it.
    Error,
    /// The proxy starts, and the owner should know.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One finding. Displays as `config.yml:12:3: error: auth.timeout: what is wrong`, and the hint on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The configuration file, as its path was given.
    pub file: PathBuf,
    /// Where it stands; `None` if it concerns the file as a whole.
    pub place: Option<Place>,
    /// Dotted path of the key; empty if it concerns no key.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub what: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a configuration was refused: every problem, and the warnings beside them, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Vec<Problem>);

impl Report {
    /// All findings, at least one of them an error.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A key and the place to point at when something about it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) place: Option<Place>,
    pub(super) key: String,
}

impl Spot {
    /// The file as a whole.
    pub(super) fn file() -> Self {
        Self { place: None, key: String::new() }
    }

    /// The key `name` below this one, at `place`.
    pub(super) fn child(&self, name: &str, place: Option<Place>) -> Self {
        let name = if name.contains("://") {
            // A misplaced webhook URL, which is a secret.
            "\"…\"".to_owned()
        } else if name.is_empty() || name.contains(['.', '[', '"', ' ']) || name.chars().any(char::is_control)
        {
            show(name)
        } else {
            cut(name)
        };
        let key = if self.key.is_empty() { name } else { format!("{}.{name}", self.key) };
        Self { place, key }
    }

    /// An item of the list that stands here.
    pub(super) fn item(&self, index: usize, place: Place) -> Self {
        Self { place: Some(place), key: format!("{}[{index}]", self.key) }
    }
}

/// Collects findings while a file is read. Shared by all readers of one file, which run one after the other; hence
/// the `RefCell`.
#[derive(Debug)]
pub(super) struct Findings {
    file: PathBuf,
    problems: RefCell<Vec<Problem>>,
}

impl Findings {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), problems: RefCell::default() }
    }

    pub(super) fn error(&self, spot: &Spot, what: impl Into<String>, hint: Option<String>) {
        self.add(Severity::Error, spot, what.into(), hint);
    }

    pub(super) fn warning(&self, spot: &Spot, what: impl Into<String>, hint: Option<String>) {
        self.add(Severity::Warning, spot, what.into(), hint);
    }

    pub(super) fn note(&self, spot: &Spot, what: impl Into<String>, hint: Option<String>) {
        self.add(Severity::Note, spot, what.into(), hint);
    }

    pub(super) fn any_error(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    fn add(&self, severity: Severity, spot: &Spot, what: String, hint: Option<String>) {
        let Spot { place, key } = spot.clone();
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.file.clone(),
            place,
            key,
            what,
            hint,
        });
    }

    /// `outcome` with the warnings and the notes, or, if anything is an error, the report of errors and warnings.
    /// There must be an error if there is no outcome.
    pub(super) fn finish<T>(self, outcome: Option<T>) -> Result<(T, Vec<Problem>, Vec<Problem>), Report> {
        let refused = self.any_error();
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.place, problem.severity));
        let (notes, rest): (Vec<_>, Vec<_>) =
            problems.into_iter().partition(|problem| problem.severity == Severity::Note);
        match outcome {
            Some(outcome) if !refused => Ok((outcome, rest, notes)),
            _ => Err(Report(rest)),
        }
    }
}

/// Longest piece of the file's text repeated in a message, in characters: enough to recognise it.
const SHOWN: usize = 60;

/// `text` in quotes, control characters escaped, cut if long.
pub(super) fn show(text: &str) -> String {
    format!("\"{}\"", cut(text))
}

/// `text` with control characters escaped, cut if long.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| if c == '\'' { vec![c] } else { c.escape_debug().collect() })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The candidate that `word` was probably meant to be, if one is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is still a slip; more is another word.
    let most = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_file_place_key_and_hint() {
        let findings = Findings::new(Path::new("config.yml"));
        let auth = Spot::file().child("auth", None);
        findings.error(&auth.child("timeout", Some(Place { line: 12, column: 3 })), "no", Some("yes".into()));
        findings.warning(&Spot::file(), "hm", None);
        findings.note(&auth, "left out of a refusal", None);
        let report = findings.finish(Some(())).unwrap_err();
        assert_eq!(
            report.to_string(),
            "config.yml: warning: hm\nconfig.yml:12:3: error: auth.timeout: no\n  hint: yes"
        );
    }

    #[test]
    fn near_words() {
        for (word, expected) in [
            ("timout", Some("timeout")),
            ("max_session_age", Some("max-session-age")),
            ("maxSessionAge", Some("max-session-age")),
            ("TIMEOUT", Some("timeout")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["timeout", "max-session-age"]), expected, "{word}");
        }
    }

    #[test]
    fn shown_text_is_escaped_and_cut() {
        assert_eq!(show("a\nb\u{202e}'"), "\"a\\nb\\u{202e}'\"");
        assert_eq!(show(&"x".repeat(61)).chars().count(), 63);
    }
}
