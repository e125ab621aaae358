//! What an examination found, as a report for people or programs.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::foreign;

/// Longest text of one finding, in characters. Some of it comes from elsewhere: name servers, backends, web pages.
const MAX_TEXT: usize = 600;

/// How good or bad a finding is. The worst one is the verdict on the whole installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to mend.
    Ok,
    /// Could not be examined, for the reason given; says nothing about whether it is well.
    Skipped,
    /// Players can join, but something is not as it should be.
    Warning,
    /// Players cannot join, or strangers can.
    Error,
}

impl Verdict {
    /// The word in the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The configuration file and the secrets it names.
    Configuration,
    /// This machine's clock.
    Clock,
    /// Mojang's session server, and the way there.
    SessionServer,
    /// Mojang's other services.
    Services,
    /// One backend.
    Backend,
    /// The addresses that players connect to.
    Listen,
    /// Where addresses are in the world.
    Geo,
    /// The session store.
    Store,
    /// audit.log.
    Audit,
    /// The file of bans.
    Bans,
    /// The file of statistics.
    Statistics,
    /// The admin interface.
    Admin,
}

impl Area {
    /// The heading in the report.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Clock => "Clock",
            Self::SessionServer => "Session server",
            Self::Services => "Mojang's keys",
            Self::Backend => "Backend",
            Self::Listen => "Listening",
            Self::Geo => "Geo look-ups",
            Self::Store => "Session store",
            Self::Audit => "Audit log",
            Self::Bans => "Bans",
            Self::Statistics => "Statistics",
            Self::Admin => "Admin interface",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was examined.
    pub area: Area,
    /// Which one of several: a backend's name, an address, a file. Empty if there is only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// A stable word for this check, for programs: `connect`, `wrong-secret`.
    pub check: &'static str,
    /// How good or bad it is.
    pub verdict: Verdict,
    /// What was found: the fact, and what follows from it for players.
    pub cause: String,
    /// What to do about it; empty if nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// How long it took, in milliseconds, where that tells something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

impl Finding {
    /// A finding with nothing to mend.
    pub fn ok(area: Area, check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(area, check, Verdict::Ok, cause, "")
    }

    /// A check that was left out, and why.
    pub fn skipped(area: Area, check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(area, check, Verdict::Skipped, cause, "")
    }

    /// A finding to mend some day.
    pub fn warning(
        area: Area,
        check: &'static str,
        cause: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(area, check, Verdict::Warning, cause, mend)
    }

    /// A finding to mend now.
    pub fn error(area: Area, check: &'static str, cause: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(area, check, Verdict::Error, cause, mend)
    }

    fn new(
        area: Area,
        check: &'static str,
        verdict: Verdict,
        cause: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let cause = foreign::clean_to(&cause.into(), MAX_TEXT);
        let mend = foreign::clean_to(&mend.into(), MAX_TEXT);
        Self { area, subject: String::new(), check, verdict, cause, mend, milliseconds: None }
    }

    /// Says which one of several this is about.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = foreign::clean_to(&subject.into(), MAX_TEXT);
        self
    }

    /// Says how long it took.
    #[must_use]
    pub fn took(mut self, time: Duration) -> Self {
        self.milliseconds = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// All findings, in the order in which they were examined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds several.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// All of them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst verdict. What was skipped does not count: its reason is a finding of its own.
    pub fn verdict(&self) -> Verdict {
        let counted = self.findings.iter().map(|finding| finding.verdict);
        counted.filter(|verdict| *verdict != Verdict::Skipped).max().unwrap_or(Verdict::Ok)
    }

    /// The code that the command ends with: 0 well, 1 warnings, 2 errors.
    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Verdict::Ok | Verdict::Skipped => 0,
            Verdict::Warning => 1,
            Verdict::Error => 2,
        }
    }

    /// For programs: one JSON object.
    pub fn to_json(&self) -> String {
        let value = serde_json::json!({ "verdict": self.verdict(), "findings": self.findings });
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// For people: findings under a heading for each thing examined, the verdict in words, what to do below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut under = None;
        for finding in &self.findings {
            let heading = (finding.area, finding.subject.as_str());
            if under != Some(heading) {
                let gap = if under.is_some() { "\n" } else { "" };
                let space = if finding.subject.is_empty() { "" } else { " " };
                writeln!(f, "{gap}{}{space}{}", finding.area.title(), finding.subject)?;
                under = Some(heading);
            }
            write!(f, "  {:<8} {}", finding.verdict.word(), finding.cause)?;
            if let Some(milliseconds) = finding.milliseconds {
                write!(f, " ({milliseconds} ms)")?;
            }
            writeln!(f)?;
            if !finding.mend.is_empty() {
                writeln!(f, "           to mend: {}", finding.mend)?;
            }
        }
        let (errors, warnings) = (self.count(Verdict::Error), self.count(Verdict::Warning));
        let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        match (errors, warnings) {
            (0, 0) => writeln!(f, "\nNothing to mend."),
            _ => writeln!(f, "\n{}, {}.", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: impl IntoIterator<Item = Finding>) -> Report {
        let mut report = Report::default();
        report.extend(findings);
        report
    }

    #[test]
    fn the_worst_finding_is_the_verdict() {
        let ok = || Finding::ok(Area::Clock, "skew", "fine");
        let skipped = || Finding::skipped(Area::Clock, "skew", "no answer");
        let warning = || Finding::warning(Area::Clock, "skew", "slow", "set it");
        let error = || Finding::error(Area::Clock, "skew", "wrong", "set it");
        for (findings, code) in [
            (vec![], 0),
            (vec![ok()], 0),
            (vec![ok(), skipped()], 0),
            (vec![warning(), skipped(), ok()], 1),
            (vec![warning(), error(), ok()], 2),
        ] {
            assert_eq!(report(findings.clone()).exit_code(), code, "{findings:?}");
        }
    }

    #[test]
    fn for_people_and_for_programs() {
        let lobby = |finding: Finding| finding.of("lobby (127.0.0.1:25566)");
        let report = report([
            Finding::ok(Area::Configuration, "file", "config.yml is good"),
            lobby(Finding::ok(Area::Backend, "connect", "takes connections").took(Duration::from_millis(3))),
            lobby(Finding::error(Area::Backend, "login", "says \u{1b}[31m\"no\"\nto us", "ask it why")),
        ]);
        assert_eq!(
            report.to_string(),
            "Configuration\n  ok       config.yml is good\n\nBackend lobby (127.0.0.1:25566)\n  ok       takes connections \
             (3 ms)\n  error    says \u{fffd}[31m\"no\"\u{fffd}to us\n           to mend: ask it why\n\n1 error, 0 warnings.\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["verdict"], "error");
        assert_eq!(
            json["findings"][1],
            serde_json::json!({"area": "backend", "subject": "lobby (127.0.0.1:25566)", "check": "connect", "verdict": "ok",
                "cause": "takes connections", "milliseconds": 3})
        );
    }
}
