//! `postern audit`
//!
//! Reads the files themselves: it needs no proxy, and none notices it.

use std::{
    borrow::Cow,
    collections::VecDeque,
    ffi::OsStr,
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Failure, output::count};
use crate::{
    audit::{
        Wanted,
        read::{ReadError, Stream},
    },
    cli::{AuditArguments, EXIT_OK, EXIT_USAGE},
    config::Config,
    identity::Whom,
};

mod show;

/// Lines shown before those that are waited for.
const NEWEST: usize = 10;

/// Where the log is.
#[derive(Clone, Copy, Debug)]
pub enum Log<'a> {
    /// Where the configuration says.
    Configured(&'a Config),
    /// In the files that the command line names.
    Named,
}

/// Where lines and complaints go.
pub struct Terminal<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether the lines for people have colours; nothing is said by colour alone.
    pub colour: bool,
    /// Waits until it is time to look for more; false if nobody wants more.
    pub pause: &'a mut dyn FnMut() -> bool,
}

/// Whether to use colours: on a terminal that has them, if its owner wants them. The variables `NO_COLOR` and `TERM` say.
pub fn has_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Shows the lines that are asked for. Returns the code to end with. Blocks.
pub fn run(asked: &AuditArguments, log: Log<'_>, now: Timestamp, terminal: &mut Terminal<'_>) -> u8 {
    let filter = Filter {
        events: &asked.event,
        player: asked.player.as_ref(),
        since: asked.since.map(|since| since.seen_from(now)),
        until: asked.until.map(|until| until.seen_from(now)),
    };
    if let Some(usage) = unfollowable(asked) {
        let _ = writeln!(terminal.err, "error: {usage}");
        return EXIT_USAGE;
    }
    let shown = open(asked, log, &filter, terminal).and_then(|stream| {
        let newest = asked.follow && asked.since.is_none();
        let mut show =
            Show { filter, json: asked.json, held: newest.then(VecDeque::new), damaged: 0, terminal };
        show.all(stream, asked.follow)
    });
    match shown {
        Ok(()) | Err(Ended::Unread) => EXIT_OK,
        Err(Ended::Failed(failure)) => {
            let _ = writeln!(terminal.err, "error: {}", failure.what);
            failure.code
        }
    }
}

/// Why these cannot be followed.
fn unfollowable(asked: &AuditArguments) -> Option<&'static str> {
    let is_input = |file: &PathBuf| file.as_os_str() == "-";
    match asked.files.as_slice() {
        _ if !asked.follow => None,
        [_, _, ..] => {
            Some("-f follows one file; name that one, or none for the log that the configuration names")
        }
        [file] if is_input(file) => {
            Some("-f follows a file, not standard input, which is read to its end without it")
        }
        [] | [_] => None,
    }
}

/// Why there are no more lines.
enum Ended {
    /// Nobody reads them.
    Unread,
    Failed(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(Failure::new(format_args!("cannot write: {error}"))),
        }
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        let denied = |error: &ReadError| matches!(error, ReadError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
        let hint = if denied(&error) {
            "; use the command as the user that the proxy runs as: sudo -u USER postern audit …"
        } else {
            ""
        };
        Self::Failed(Failure::new(format_args!("{error}{hint}")))
    }
}

fn open(
    asked: &AuditArguments,
    log: Log<'_>,
    filter: &Filter<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Stream, Ended> {
    let path = match (log, asked.files.as_slice()) {
        (Log::Configured(config), _) => match &config.audit.path {
            Some(path) => path,
            None => {
                return Err(Ended::Failed(Failure::new(
                    "the audit log is off (monitoring.enable-audit-log); to read one from before, name its files: \
                     postern audit FILE…",
                )));
            }
        },
        (Log::Named, [file]) if asked.follow => return follow(asked, file, filter, terminal),
        (Log::Named, files) => return Ok(Stream::of_files(files)?),
    };
    if asked.follow {
        return follow(asked, path, filter, terminal);
    }
    let stream = Stream::of_log(path, filter.since)?;
    // With nothing left of that time, there is a log all the same.
    if stream.is_empty() && Stream::of_newest(path)?.is_empty() {
        return Err(Ended::Failed(Failure::new(format_args!(
            "there is no {}: the proxy makes it when it starts. If it runs with another configuration, name that one: \
             postern --config PATH audit; or name the files: postern audit FILE…",
            path.display()
        ))));
    }
    Ok(stream)
}

fn follow(
    asked: &AuditArguments,
    path: &Path,
    filter: &Filter<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Stream, Ended> {
    let stream =
        if asked.since.is_some() { Stream::of_log(path, filter.since)? } else { Stream::of_newest(path)? };
    if stream.is_empty() {
        let _ = writeln!(terminal.err, "there is no {} yet; waiting for it", path.display());
    }
    Ok(stream.followed(path))
}

/// What is asked for.
struct Filter<'a> {
    /// All, if there are none.
    events: &'a [Wanted],
    player: Option<&'a Whom>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// What a line is chosen by.
#[derive(Deserialize)]
struct Head<'a> {
    ts: Timestamp,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default, borrow)]
    player: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    claimed_id: Option<Cow<'a, str>>,
}

impl Filter<'_> {
    fn wants(&self, head: &Head<'_>) -> bool {
        let event = self.events.is_empty() || self.events.iter().any(|wanted| wanted.covers(&head.event));
        event
            && self.since.is_none_or(|since| head.ts >= since)
            && self.until.is_none_or(|until| head.ts <= until)
            && self.player.is_none_or(|player| is_about(head, player))
    }
}

fn is_about(head: &Head<'_>, player: &Whom) -> bool {
    match player {
        Whom::Name(name) => {
            head.player.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name.as_str()))
        }
        Whom::Id(id) => {
            let id = id.to_string();
            let is =
                |known: &Option<Cow<'_, str>>| known.as_ref().is_some_and(|k| k.eq_ignore_ascii_case(&id));
            is(&head.id) || is(&head.claimed_id)
        }
    }
}

/// The lines on their way.
struct Show<'a, 'b> {
    filter: Filter<'a>,
    json: bool,
    /// The newest lines, as long as there may be newer ones that were written before.
    held: Option<VecDeque<Vec<u8>>>,
    /// Lines that are no events.
    damaged: u64,
    terminal: &'a mut Terminal<'b>,
}

impl Show<'_, '_> {
    fn all(&mut self, mut stream: Stream, follow: bool) -> Result<(), Ended> {
        loop {
            while stream.advance() {
                self.take(stream.line())?;
            }
            for line in self.held.take().unwrap_or_default() {
                self.terminal.out.write_all(&line)?;
            }
            self.terminal.out.flush()?;
            for trouble in stream.troubles() {
                let _ = writeln!(self.terminal.err, "warning: {trouble}");
            }
            if !follow || !(self.terminal.pause)() {
                break;
            }
        }
        let left_out = self.damaged + stream.too_long();
        if left_out > 0 {
            let lines = count(usize::try_from(left_out).unwrap_or(usize::MAX), "line is", "lines are");
            let _ = writeln!(self.terminal.err, "warning: {lines} damaged and left out");
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Ended> {
        // Lines end like this where a file was edited on another system.
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.is_empty() {
            return Ok(());
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(text) else {
            self.damaged += 1;
            return Ok(());
        };
        if !self.filter.wants(&head) {
            return Ok(());
        }
        let mut shown = if self.json {
            text.to_owned()
        } else {
            let Ok(entry) = serde_json::from_slice::<Map<String, Value>>(text) else {
                self.damaged += 1;
                return Ok(());
            };
            show::line(head.ts, &head.event, &entry, self.terminal.colour).into_bytes()
        };
        shown.push(b'\n');
        let Some(newest) = &mut self.held else { return Ok(self.terminal.out.write_all(&shown)?) };
        if newest.len() >= NEWEST {
            newest.pop_front();
        }
        newest.push_back(shown);
        Ok(())
    }
}
