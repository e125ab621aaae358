//! The configuration, as `postern check` sees it.

use super::report::{Area, Finding};
use crate::config::{self, Loaded, Problem};

const AREA: Area = Area::Configuration;
const CHECK: &str = "file";

/// What a good configuration leaves to be told.
pub(super) fn of_loaded(loaded: &Loaded) -> Vec<Finding> {
    let path = loaded.config.source.display().to_string();
    let mut findings = vec![Finding::ok(AREA, CHECK, "can be used").of(&path)];
    findings.extend(loaded.warnings.iter().map(|warning| {
        Finding::warning(AREA, CHECK, words(warning), warning.hint.clone().unwrap_or_default()).of(&path)
    }));
    // What a note tells is well as it is.
    findings.extend(loaded.notes.iter().map(|note| {
        let hint = note.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        Finding::ok(AREA, CHECK, words(note) + &hint).of(&path)
    }));
    findings
}

/// What keeps the proxy from starting.
pub(super) fn of_problems(report: &config::Report) -> Vec<Finding> {
    let finding = |problem: &Problem| {
        let mend = problem.hint.clone().unwrap_or_default();
        let finding = match problem.severity {
            config::Severity::Error => Finding::error(AREA, CHECK, words(problem), mend),
            config::Severity::Warning => Finding::warning(AREA, CHECK, words(problem), mend),
            config::Severity::Note => Finding::ok(AREA, CHECK, words(problem)),
        };
        finding.of(problem.file.display().to_string())
    };
    report.problems().iter().map(finding).collect()
}

/// What stands below problems: they hide what else there might be.
pub(super) fn nothing_else() -> Finding {
    Finding::skipped(AREA, "rest", "nothing else was examined: mend the configuration first")
}

/// The place in the file, the key, what is wrong.
fn words(problem: &Problem) -> String {
    let place = problem.place.map(|place| format!("line {}: ", place.line)).unwrap_or_default();
    let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
    format!("{place}{key}{}", problem.what)
}
