//! The report for programs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    report::Report,
    terms::{Difference, Terms},
};
use crate::{session::Survey, statistics::Totals};

/// A configuration that is judged, and what it comes to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its file.
    pub file: String,
    /// What is done with known players during an outage: `enabled`, `dry-run` or `disabled`.
    pub fallback: &'static str,
    /// Its terms.
    pub terms: Terms,
    /// The figures.
    pub report: Report,
}

impl Judged {
    fn to_json(&self) -> Value {
        json!({ "file": self.file, "fallback": self.fallback, "report": self.report })
    }
}

/// What `postern readiness --json` prints, and the admin interface answers: `with` is another configuration beside the
/// one in use, and the keys in which it differs.
pub fn to_json(
    now: Timestamp,
    store: Survey,
    current: &Judged,
    with: Option<&(Judged, Vec<Difference>)>,
    totals: Option<&Totals>,
) -> String {
    let with = with.map(|(with, differences)| {
        let mut value = with.to_json();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("differences".to_owned(), json!(differences));
        }
        value
    });
    let value = json!({
        "at": now,
        "store": { "sessions": store.sessions, "damaged": store.damaged },
        "current": current.to_json(),
        "with": with,
        "statistics": totals,
    });
    // Plain data with text keys: this cannot fail.
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}
