//! The report for people: plain lines that say the same without colour.

use std::fmt;

use super::{
    report::{Cost, Report},
    terms::Difference,
};
use crate::reason::Reason;

/// Longest value of a key that is shown, in characters. Lists can be long.
const MOST_VALUE: usize = 60;

/// A configuration and what it comes to.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// Its file.
    pub file: String,
    /// What its owner must know before the figures; empty if nothing.
    pub headline: String,
    /// The figures.
    pub report: &'a Report,
}

/// What is shown to people.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The configuration in use.
    pub current: Named<'a>,
    /// Another one beside it, and the keys in which it differs.
    pub with: Option<(Named<'a>, &'a [Difference])>,
    /// Whether names are shown.
    pub names: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let considered = self.current.report.considered;
        if considered == 0 {
            return writeln!(f, "Nobody has been seen in the last 30 days: there is nobody to judge.");
        }
        if !self.current.headline.is_empty() {
            writeln!(f, "{}\n", self.current.headline)?;
        }
        write!(f, "If Mojang's session servers went down now, ")?;
        say_ready(f, self.current.report)?;
        say_unrecorded(f, self.current.report.unrehearsed)?;
        match &self.with {
            None => {
                reasons(f, &[self.current.report])?;
                costs(f, self.current.report, self.names)?;
            }
            Some((with, differences)) => {
                differing(f, &with.file, differences)?;
                if !with.headline.is_empty() {
                    writeln!(f, "{}: {}", with.file, with.headline)?;
                }
                write!(f, "With {}, ", with.file)?;
                say_ready(f, with.report)?;
                reasons(f, &[self.current.report, with.report])?;
                writeln!(f, "\nAs it is ({}):", self.current.file)?;
                costs(f, self.current.report, self.names)?;
                writeln!(f, "\nWith {}:", with.file)?;
                costs(f, with.report, self.names)?;
            }
        }
        Ok(())
    }
}

fn say_ready(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let Report { considered, ready, must_enter_pin, not_ready, .. } = report;
    writeln!(
        f,
        "{ready} of {considered} players seen in the last 30 days could join; {not_ready} could not."
    )?;
    match (must_enter_pin, ready) {
        (0, _) => Ok(()),
        (pin, ready) if pin == ready => writeln!(f, "All who could must enter their PIN first."),
        (pin, ready) => writeln!(f, "{pin} of the {ready} who could must enter their PIN first."),
    }
}

/// Belongs beside the figures: just after such records began they are about nothing else.
fn say_unrecorded(f: &mut fmt::Formatter<'_>, unrecorded: usize) -> fmt::Result {
    let (players, address, logins, them) = match unrecorded {
        0 => return Ok(()),
        1 => ("1 player".to_owned(), "Its address is", "its next login tells", "it"),
        many => (format!("{many} players"), "Their addresses are", "their next logins tell", "them"),
    };
    writeln!(
        f,
        "\nOf {players} it is not on record where the newest login came from. {address} taken for changed until \
         {logins}; the figures about changed addresses below leave {them} out."
    )
}

fn differing(f: &mut fmt::Formatter<'_>, file: &str, differences: &[Difference]) -> fmt::Result {
    if differences.is_empty() {
        return writeln!(f, "\n{file} has the same rules.");
    }
    writeln!(f, "\n{file} differs in")?;
    for Difference { key, current, other } in differences {
        writeln!(f, "  {key}: {} -> {}", cut(current), cut(other))?;
    }
    Ok(())
}

/// One line per reason, with three columns for each report.
fn reasons(f: &mut fmt::Formatter<'_>, reports: &[&Report]) -> fmt::Result {
    let told: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|reason| reports.iter().any(|report| cost(report, *reason).is_some()))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    if reports.len() > 1 {
        writeln!(f, "\n{:22}{:>24}{:>24}", "", "as it is", "with it")?;
        write!(f, "{:<22}", "Why not")?;
    } else {
        write!(f, "\n{:<22}", "Why not")?;
    }
    for _ in reports {
        write!(f, "{:>8}{:>8}{:>8}", "first", "any", "alone")?;
    }
    writeln!(f)?;
    for reason in told {
        write!(f, "  {:<20}", reason.code())?;
        for report in reports {
            let cost = cost(report, reason);
            let (first, any, alone) = cost.map_or((0, 0, 0), |cost| (cost.first, cost.any, cost.alone));
            write!(f, "{first:>8}{any:>8}{alone:>8}")?;
        }
        writeln!(f)?;
    }
    writeln!(
        f,
        "  (first: players for whom it is the first reason; any: for whom it is one; alone: for whom it is the only one)"
    )
}

fn cost(report: &Report, reason: Reason) -> Option<&Cost> {
    report.reasons.iter().find(|cost| cost.reason == reason)
}

/// What each rule costs, and what it would cost if it were less strict.
fn costs(f: &mut fmt::Formatter<'_>, report: &Report, names: bool) -> fmt::Result {
    for cost in &report.reasons {
        if cost.alone == 0 && cost.hint.is_empty() && !names {
            continue;
        }
        writeln!(f)?;
        let (rule, considered) = (cost.rule, report.considered);
        match cost.alone {
            0 => writeln!(f, "{rule} shuts out nobody alone, and {} together with other rules", cost.any)?,
            alone => writeln!(f, "{rule} alone shuts out {alone} of {considered}")?,
        }
        for way in &cost.relaxations {
            let key = way.key.rsplit('.').next().unwrap_or(way.key);
            writeln!(f, "  with {key}: {} it would be {}; {} could join", way.value, way.alone, way.ready)?;
            writeln!(f, "    given up: {}", way.gives_up)?;
        }
        if !cost.hint.is_empty() {
            writeln!(f, "  {}", cost.hint)?;
        }
        if names && !cost.players.is_empty() {
            let more = cost.first - cost.players.len();
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "  players: {}{rest}", cost.players.join(", "))?;
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MOST_VALUE {
        return text.to_owned();
    }
    text.chars().take(MOST_VALUE).chain(['…']).collect()
}
