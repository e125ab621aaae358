//! Which events somebody asks for.

use std::str::FromStr;

use super::Kind;

/// Events by name, as in `login.refused`, or all that begin alike, as in `login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(String);

/// The text names no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event of that name{}; there are {}", hint(*.meant), names())]
pub struct BadEvent {
    meant: Option<&'static str>,
}

fn hint(meant: Option<&'static str>) -> String {
    meant.map_or_else(String::new, |meant| format!(", did you mean '{meant}'?"))
}

fn names() -> String {
    Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

/// What stands before the dot.
fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(family, _)| family)
}

impl Wanted {
    /// Whether an event of this name is asked for.
    pub fn covers(&self, event: &str) -> bool {
        self.0 == event || self.0 == family(event)
    }
}

impl FromStr for Wanted {
    type Err = BadEvent;

    fn from_str(text: &str) -> Result<Self, BadEvent> {
        let text = text.to_lowercase();
        let known = || Kind::ALL.iter().flat_map(|kind| [kind.name(), family(kind.name())]);
        if known().any(|name| name == text) {
            return Ok(Self(text));
        }
        // A third of the letters wrong is still a slip; more is another word.
        let most = (text.chars().count() / 3).max(1);
        let distance = |name: &&'static str| strsim::damerau_levenshtein(&text, name);
        Err(BadEvent { meant: known().min_by_key(distance).filter(|name| distance(name) <= most) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_families() {
        for (text, covered, not) in [
            ("login.refused", "login.refused", "login.verified"),
            ("Login.Refused", "login.refused", "login.fallback"),
            ("login", "login.verified", "pin.verified"),
            ("ban", "ban.added", "backend.error"),
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert!(wanted.covers(covered) && !wanted.covers(not), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_said() {
        for (text, meant) in [
            ("login.refsued", Some("login.refused")),
            ("logn", Some("login")),
            ("auth.sate", Some("auth.state")),
            ("dance", None),
            ("", None),
        ] {
            let error = text.parse::<Wanted>().unwrap_err();
            assert_eq!(error.meant, meant, "{text}");
            let said = error.to_string();
            assert_eq!(said.contains("did you mean"), meant.is_some(), "{said}");
            assert!(said.contains("proxy.started") && said.contains("audit.dropped"), "{said}");
        }
    }
}
