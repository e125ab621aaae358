//! `postern readiness`: who could join if the session servers went down now, and why the others could not.
//!
//! Reads the documents of the store as they lie on disk, so it makes no difference whether a proxy runs. Changes nothing.

use std::{
    fmt::Write as _,
    io::Write,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;

use super::{Answer, EXIT_FAILED, output::lasting};
use crate::{
    cli::{EXIT_CONFIG, EXIT_OK},
    config::{self, Config, Environment, Loaded, Problem, Purpose},
    login::FallbackMode,
    readiness::{self, Difference, Judged, Named, Population, Shown, Terms},
    session::{
        StoreError, Survey,
        scan::{self, Scan},
    },
    statistics::{self, Outage, ReadError, Totals},
};

/// From so many documents on, reading takes long enough to be watched.
const WATCHED_FROM: usize = 10_000;

/// Between two looks at how far the reading is.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Outages that people are shown one by one; programs get all.
const SHOWN_OUTAGES: usize = 5;

/// Reasons of refusals that people are shown.
const SHOWN_REASONS: usize = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The configuration in use.
    pub config: &'a Path,
    /// Another one, whose rules are judged beside those in use.
    pub with: Option<&'a Path>,
    /// Whether people are shown names.
    pub names: bool,
    /// Whether the answer is for programs.
    pub json: bool,
    /// Where secrets may be, which a configuration is checked for.
    pub environment: &'a Environment,
    /// The time now.
    pub now: Timestamp,
}

/// Does what is asked for. How far the reading is goes to `terminal`, if there is one. Blocks.
pub fn run(request: &Request<'_>, terminal: Option<&mut (dyn Write + Send)>) -> Answer {
    let mut err = Vec::new();
    match examine(request, terminal, &mut err) {
        Ok(out) => Answer { code: EXIT_OK, out, err: err.concat() },
        Err(code) => Answer { code, out: String::new(), err: err.concat() },
    }
}

/// The report, or the code to end with. What else there is to say goes to `err`, line by line.
fn examine(
    request: &Request<'_>,
    terminal: Option<&mut (dyn Write + Send)>,
    err: &mut Vec<String>,
) -> Result<String, u8> {
    let loaded = load(request.config, request.environment, err);
    let with = request.with.map(|path| load_other(path, request, err)).transpose();
    // Both first, so that all problems are told at once.
    let (Loaded { config, warnings, .. }, with) = (loaded?, with?);
    // The owner knows those of the configuration in use.
    let is_known = |warning: &Problem| {
        warnings.iter().any(|known| (&known.key, &known.what) == (&warning.key, &warning.what))
    };
    let news = with.iter().flat_map(|with| &with.warnings).filter(|warning| !is_known(warning));
    err.extend(news.map(|warning| format!("{warning}\n")));
    let scan = read(&config.session.directory, request.now, terminal).map_err(|error| {
        err.push(format!("the sessions cannot be read: {error}\n"));
        EXIT_FAILED
    })?;
    let store = Survey { sessions: scan.sessions.len(), damaged: scan.damaged };
    let population = Population::new(scan.sessions, request.now);
    let current = judge(&config, &population);
    let modes = (config.login.fallback, with.as_ref().map(|with| with.config.login.fallback));
    let with = with.map(|with| {
        let with = judge(&with.config, &population);
        let differences = differences(&current, &with);
        (with, differences)
    });
    let totals = match config.statistics.path.as_deref() {
        Some(path) => statistics::read_file(path).map_err(|error| err.push(unread_statistics(path, &error))),
        None => Ok(None),
    };
    if request.json {
        Ok(readiness::to_json(request.now, store, &current, with.as_ref(), totals.ok().flatten().as_ref()))
    } else {
        let shown = Shown {
            current: named(&current, modes.0),
            with: with
                .as_ref()
                .zip(modes.1)
                .map(|((with, differences), mode)| (named(with, mode), differences.as_slice())),
            names: request.names,
        };
        let said = totals.map(|totals| told(config.statistics.path.is_some(), totals.as_ref()));
        Ok(format!("{shown}{}{}", unread(store), said.unwrap_or_default()))
    }
}

/// Reads a configuration; its problems are told as `check` tells them.
fn load(path: &Path, environment: &Environment, err: &mut Vec<String>) -> Result<Loaded, u8> {
    config::load(path, environment, Purpose::Check).map_err(|report| {
        err.push(format!("{report}\n"));
        EXIT_CONFIG
    })
}

/// Reads the configuration that is judged beside the one in use. That it must be a whole one is not to be guessed.
fn load_other(path: &Path, request: &Request<'_>, err: &mut Vec<String>) -> Result<Loaded, u8> {
    config::load(path, request.environment, Purpose::Check).map_err(|report| {
        let (is_absent, shown) = (matches!(path.try_exists(), Ok(false)), path.display());
        // The hint of a file that is absent is for the one in use.
        let told = if is_absent { format!("{shown}: error: does not exist") } else { report.to_string() };
        // The only section that no file can do without.
        let is_a_part = report.problems().iter().any(|problem| problem.key == "backends");
        let hint = if is_absent || is_a_part {
            let copied = request.config.display();
            format!("  hint: --with wants a whole configuration: copy {copied} and change the copy\n")
        } else {
            String::new()
        };
        err.push(format!("{told}\n{hint}"));
        EXIT_CONFIG
    })
}

/// What to say of a statistics file that is of no use; the report does without it.
fn unread_statistics(path: &Path, error: &ReadError) -> String {
    let hint = match error {
        ReadError::Io(_) => "it must be a file that this user may read",
        ReadError::Damaged(_) => {
            "nothing else needs it: the next start of the proxy sets it aside and counts anew"
        }
    };
    format!("the statistics cannot be read: {}: {error}\n  hint: {hint}\n", path.display())
}

fn unread(store: Survey) -> String {
    let Survey { sessions, damaged } = store;
    if damaged == 0 {
        return String::new();
    }
    format!("\n{damaged} of {} documents cannot be read; their players are left out.\n", sessions + damaged)
}

/// What a configuration comes to.
fn judge(config: &Config, population: &Population) -> Judged {
    let allow_plaintext_fallback = config.login.allow_plaintext_fallback;
    let terms = Terms { rules: config.rules.clone(), allow_plaintext_fallback };
    let (file, fallback) = (config.source.display().to_string(), config.login.fallback.label());
    Judged { file, fallback, report: population.report(&terms), terms }
}

/// The same for people.
fn named(judged: &Judged, fallback: FallbackMode) -> Named<'_> {
    let headline = match fallback {
        FallbackMode::Enabled => "",
        FallbackMode::DryRun => {
            "auth.fallback is dry-run: NOBODY would be let in. These are the figures as if it were enabled."
        }
        FallbackMode::Disabled => {
            "auth.fallback is disabled: NOBODY would be let in. These are the figures as if it were enabled."
        }
    };
    Named { file: judged.file.clone(), headline: headline.to_owned(), report: &judged.report }
}

fn differences(current: &Judged, other: &Judged) -> Vec<Difference> {
    let mut differences = current.terms.differences(&other.terms);
    if current.fallback != other.fallback {
        let (current, other) = (current.fallback.to_owned(), other.fallback.to_owned());
        differences.insert(0, Difference { key: "auth.fallback", current, other });
    }
    differences
}

/// Reads all documents; on a terminal, and if they are many, with a bar that shows how far it is.
fn read(
    directory: &Path,
    now: Timestamp,
    terminal: Option<&mut (dyn Write + Send)>,
) -> Result<Scan, StoreError> {
    let seen = AtomicUsize::new(0);
    let scan = || scan::scan(directory, now, &seen);
    // If they cannot even be counted, reading them says why.
    let total = || Survey::of(directory).map_or(0, |survey| survey.sessions);
    match terminal.map(|terminal| (terminal, total())) {
        Some((terminal, total)) if total >= WATCHED_FROM => watched(total, &seen, terminal, scan),
        _ => scan(),
    }
}

/// Does the work, and meanwhile draws how much of it is done.
fn watched<T>(
    total: usize,
    done: &AtomicUsize,
    terminal: &mut (dyn Write + Send),
    work: impl FnOnce() -> T,
) -> T {
    thread::scope(|scope| {
        let (end, ended) = channel::<()>();
        let drawing = scope.spawn(move || {
            let mut width = 0;
            while ended.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let bar = bar(done.load(Ordering::Relaxed), total);
                width = bar.chars().count();
                // A terminal that went away takes nothing else with it.
                let _ = write!(terminal, "\r{bar}").and_then(|()| terminal.flush());
            }
            let _ = write!(terminal, "\r{:width$}\r", "").and_then(|()| terminal.flush());
        });
        let result = work();
        drop(end);
        // A panic in there costs no more than the bar.
        let _ = drawing.join();
        result
    })
}

/// How far it is, in one line. Documents can be added while they are read.
fn bar(done: usize, total: usize) -> String {
    const CELLS: usize = 30;
    let done = done.min(total);
    let cells = (done * CELLS).checked_div(total).unwrap_or(CELLS);
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    format!("Reading sessions [{:<CELLS$}] {percent:>3} % ({done} of {total})", "#".repeat(cells))
}

/// The statistics in a few lines.
fn told(enabled: bool, totals: Option<&Totals>) -> String {
    let Some(totals) = totals else {
        let why = if enabled { "no statistics yet" } else { "monitoring.enable-statistics is false" };
        return format!("\nOutages so far: {why}.\n");
    };
    let Totals { since, verified, fallback, outages, .. } = totals;
    let mut text = format!(
        "\nLogins since {}: {verified} verified, {fallback} let in by policy, {} refused{}.\n",
        minute(*since),
        totals.all_refused(),
        most_often(totals)
    );
    if outages.count == 0 {
        return text + "No outage so far.\n";
    }
    let plural = if outages.count == 1 { "" } else { "s" };
    let newest = outages.newest.iter().rev().take(SHOWN_OUTAGES);
    let _ = writeln!(
        text,
        "{} outage{plural} so far, {} together; newest first:",
        outages.count,
        lasting(outages.seconds)
    );
    for outage in newest {
        let _ = writeln!(text, "  {}", spelt(outage));
    }
    text
}

/// The reasons of most refusals.
fn most_often(totals: &Totals) -> String {
    let mut refused: Vec<_> = totals.refused.iter().collect();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown: Vec<_> =
        refused.iter().take(SHOWN_REASONS).map(|(reason, count)| format!("{reason} {count}")).collect();
    if shown.is_empty() { String::new() } else { format!(" (most often: {})", shown.join(", ")) }
}

fn spelt(outage: &Outage) -> String {
    let (started, length) = (minute(outage.started), lasting(outage.seconds));
    match outage.ended {
        Some(ended) => format!("{started} to {}, {length}", minute(ended)),
        None => format!("{started}, no end seen yet; {length} when it was last looked at"),
    }
}

/// A time to the minute, in UTC.
fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_bar_shows_how_far_it_is() {
        for (done, total, line) in [
            (0, 20_000, "Reading sessions [                              ]   0 % (0 of 20000)"),
            (10_000, 20_000, "Reading sessions [###############               ]  50 % (10000 of 20000)"),
            (30_000, 20_000, "Reading sessions [##############################] 100 % (20000 of 20000)"),
            (0, 0, "Reading sessions [##############################] 100 % (0 of 0)"),
        ] {
            assert_eq!(bar(done, total), line);
        }
    }

    /// Hands on what is written.
    struct Told(Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_is_drawn_while_the_work_lasts_and_wiped_out_after_it() {
        let (tell, told) = channel();
        let done = AtomicUsize::new(5);
        let result = watched(10, &done, &mut Told(tell), || {
            let mut drawn = String::new();
            while !drawn.contains("50 % (5 of 10)") {
                drawn += &told.recv().unwrap();
            }
            7
        });
        assert_eq!(result, 7);
        let rest: String = told.try_iter().collect();
        let width = bar(5, 10).chars().count();
        assert!(rest.ends_with(&format!("\r{:width$}\r", "")), "{rest:?}");
    }

    #[test]
    fn statistics_in_words() {
        let mut totals = Totals::since(at("2026-01-01T12:30:00Z"));
        assert_eq!(told(false, None), "\nOutages so far: monitoring.enable-statistics is false.\n");
        assert_eq!(told(true, None), "\nOutages so far: no statistics yet.\n");
        let head = "\nLogins since 2026-01-01 12:30 UTC: 0 verified, 0 let in by policy, 0 refused.\n";
        assert_eq!(told(true, Some(&totals)), head.to_owned() + "No outage so far.\n");
        totals.verified = 12;
        totals.fallback = 3;
        totals.refused = [("no-session", 4), ("locked", 1), ("banned", 2), ("bad-name", 9)]
            .map(|(r, n)| (r.to_owned(), n))
            .into();
        totals.outages.count = 7;
        totals.outages.seconds = 2 * 86_400 + 3 * 3600;
        let outage = |started, ended: Option<&str>, seconds| Outage {
            ended: ended.map(at),
            seconds,
            ..Outage::begun(at(started))
        };
        totals.outages.newest = vec![
            outage("2026-02-01T10:00:00Z", Some("2026-02-01T10:00:40Z"), 40),
            outage("2026-02-02T10:00:00Z", Some("2026-02-02T10:02:05Z"), 125),
            outage("2026-02-03T10:00:00Z", None, 3720),
        ];
        assert_eq!(
            told(true, Some(&totals)),
            "\nLogins since 2026-01-01 12:30 UTC: 12 verified, 3 let in by policy, 16 refused \
             (most often: bad-name 9, no-session 4, banned 2).\n\
             7 outages so far, 2 d 3 h together; newest first:\n  \
             2026-02-03 10:00 UTC, no end seen yet; 1 h 2 min when it was last looked at\n  \
             2026-02-02 10:00 UTC to 2026-02-02 10:02 UTC, 2 min 5 s\n  \
             2026-02-01 10:00 UTC to 2026-02-01 10:00 UTC, 40 s\n"
        );
    }
}
