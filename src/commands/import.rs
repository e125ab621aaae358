//! `postern sessions import`
//!
//! The file is read and judged as a whole here, so that rows which contradict each other are found wherever they stand.
//! What is good is handed over in small parts. Each part is durable before the next one goes, and an import that broke
//! off is simply begun again: rows that are stored already are stored once more.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Client, EXIT_FAILED, Failure,
    output::count,
    running,
    store::{self, Holder, Missing, Ours},
};
use crate::{
    audit::Kind,
    clock::Clock,
    config::Config,
    session::import::{Known, Outcome, Row, Told, Trust, read_rows},
};

/// Longest file, in bytes. It is in memory as a whole, several times over.
const MAX_FILE: u64 = 256 << 20;
/// Most rows that are handed over at once: a part must be on disk within seconds.
const PART_ROWS: usize = 100;
/// Most bytes of them; half of what a proxy takes, since one row more may be on top.
const PART_BYTES: usize = 512 << 10;

/// Most notes that people are shown; programs get all. An export of a server on a LAN has one for each row.
const SHOWN_NOTES: usize = 20;

/// What is to be imported, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// `-` is standard input.
    pub(super) file: &'a Path,
    pub(super) trust: Trust,
    /// Whether nothing is changed.
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// A proxy's answer.
#[derive(Debug, Deserialize)]
struct Part {
    rows: Vec<Told>,
}

pub(super) async fn import(
    order: &Order<'_>,
    config: &Config,
    clock: &Clock,
    terminal: Option<&mut dyn Write>,
) -> Result<Answer, Failure> {
    let rows = read(order.file)?;
    let (good, mut told) = read_rows(&rows, order.trust, clock.now());
    let mut progress = Progress { terminal, done: 0, all: good.len() };
    let mut remarks = String::new();
    let failed = if good.is_empty() {
        None
    } else if order.dry_run {
        if let Some(mut proxy) = running(config).await? {
            hand_over(&mut proxy, &good, order, &mut told, &mut progress).await.err()
        } else {
            let scan = store::read(config, clock)?;
            let known = Known::of(&scan.sessions);
            let now = clock.now();
            told.extend(good.iter().map(|(index, row)| {
                let result = known.could_import(row, now);
                Told::of(*index, row, result.as_ref().map_err(|conflict| *conflict))
            }));
            None
        }
    } else {
        match store::hold(config, clock, Missing::Make).await? {
            Holder::Proxy(mut proxy) => {
                hand_over(&mut proxy, &good, order, &mut told, &mut progress).await.err()
            }
            Holder::Command(ours) => {
                remarks.clone_from(&ours.remarks);
                let stored = put(&ours, &good, order.trust, &mut told, &mut progress).await;
                let finished = ours.finish().await;
                stored.and(finished).err()
            }
            Holder::Nobody => None,
        }
    };
    progress.clear();
    told.sort_by_key(|told| told.index);
    Ok(report(order, &told, rows.len(), remarks, failed))
}

/// The rows of a file.
fn read(file: &Path) -> Result<Vec<Value>, Failure> {
    let unread = |error: io::Error| Failure::new(format_args!("{} cannot be read: {error}", file.display()));
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unread)?;
    } else {
        File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(unread)?;
    }
    if bytes.len() as u64 > MAX_FILE {
        let most = MAX_FILE >> 20;
        return Err(Failure::new(format_args!("{} has more than {most} MiB; split it", file.display())));
    }
    // Some exports begin with a byte order mark.
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|error| {
        let what = "it must be a JSON array of objects, as in [{\"uuid\": …, \"username\": …, \"ip\": …, \
            \"last-login\": …}]";
        Failure::new(format_args!("{}: {error}; {what}", file.display()))
    })
}

/// Stores rows in the store that this command holds.
async fn put(
    ours: &Ours,
    good: &[(usize, Row)],
    trust: Trust,
    told: &mut Vec<Told>,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    for part in good.chunks(PART_ROWS) {
        for (index, row) in part {
            let result = ours.store.import(row);
            if let Ok(session) = &result {
                let event = ours.note(Kind::SessionImported, session.id, session.name.as_ref());
                let event = event.field("trusted", trust == Trust::Yes).field("locked", session.locked);
                ours.audit.emit(event);
            }
            told.push(Told::of(*index, row, result.as_ref().map_err(|conflict| *conflict)));
        }
        ours.store.flush().await.map_err(Failure::new)?;
        progress.advance(part.len());
    }
    Ok(())
}

/// Hands rows over to the proxy that holds the store.
async fn hand_over(
    proxy: &mut Client,
    good: &[(usize, Row)],
    order: &Order<'_>,
    told: &mut Vec<Told>,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    let mut rest = good;
    while !rest.is_empty() {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (_, row) in rest.iter().take(PART_ROWS) {
            let row = row.as_json();
            bytes += row.to_string().len();
            rows.push(row);
            if bytes >= PART_BYTES {
                break;
            }
        }
        let (part, later) = rest.split_at_checked(rows.len()).unwrap_or((rest, &[]));
        let what = json!({ "rows": rows, "trust": order.trust == Trust::Yes, "dry_run": order.dry_run });
        let Part { rows } = proxy.post("/api/sessions/import", &what).await?;
        for of_part in rows {
            // Its place in the part, and here its place in the file.
            let Some((index, row)) = part.get(of_part.index) else { continue };
            let mut notes = of_part.notes;
            if of_part.outcome == Outcome::Imported {
                // It was handed over without the keys that nobody knows, so their notes are here alone.
                notes.retain(|note| !row.notes.contains(note));
                notes.splice(..0, row.notes.iter().cloned());
            }
            told.push(Told { index: *index, notes, ..of_part });
        }
        progress.advance(part.len());
        rest = later;
    }
    Ok(())
}

/// How far it is, for whoever watches.
struct Progress<'a> {
    terminal: Option<&'a mut dyn Write>,
    done: usize,
    all: usize,
}

impl Progress<'_> {
    fn advance(&mut self, rows: usize) {
        self.done += rows;
        if let Some(terminal) = &mut self.terminal {
            // If nobody reads, nobody watches.
            let _ = write!(terminal, "\r{} of {} rows", self.done, self.all).and_then(|()| terminal.flush());
        }
    }

    fn clear(&mut self) {
        if let Some(terminal) = &mut self.terminal
            && self.done > 0
        {
            let _ = write!(terminal, "\r{:40}\r", "").and_then(|()| terminal.flush());
        }
    }
}

/// What became of all rows. `told` is about as many as there was time for before it `failed`.
fn report(order: &Order<'_>, told: &[Told], all: usize, remarks: String, failed: Option<Failure>) -> Answer {
    let with = |outcome| told.iter().filter(|told| told.outcome == outcome).count();
    let (imported, known, refused) = (with(Outcome::Imported), with(Outcome::Known), with(Outcome::Refused));
    let out = if order.json {
        let report = json!({
            "dry_run": order.dry_run,
            "imported": imported,
            "known": known,
            "refused": refused,
            "rows": told,
        });
        report.to_string() + "\n"
    } else {
        let mut notes = 0;
        let mut lines: Vec<String> = Vec::new();
        for told in told {
            if told.outcome == Outcome::Imported {
                notes += told.notes.len();
                if notes > SHOWN_NOTES {
                    continue;
                }
            }
            lines.extend(lines_of(told));
        }
        if notes > SHOWN_NOTES {
            lines.push(format!("There are {notes} notes in all; --json shows each.\n"));
        }
        if !lines.is_empty() {
            lines.insert(0, "[row, counted from 0]\n".to_owned());
        }
        lines.push(summary(order, imported, known, refused));
        lines.concat()
    };
    match failed {
        Some(failure) => {
            let left = all.saturating_sub(told.len());
            let what = format!(
                "{}; {} not handed over. Once that is mended, import the file again: what is stored already does no harm",
                failure.what,
                count(left, "row was", "rows were")
            );
            let failed = Failure { what, ..failure }.answer(out);
            Answer { err: remarks + &failed.err, ..failed }
        }
        None if refused > 0 => Answer { code: EXIT_FAILED, out, err: remarks },
        None => Answer { err: remarks, ..Answer::well(out) },
    }
}

/// What there is to say about one row.
fn lines_of(told: &Told) -> Vec<String> {
    let who = match (&told.player, told.id) {
        (Some(name), _) => format!(" {name}"),
        (None, Some(id)) => format!(" {id}"),
        (None, None) => String::new(),
    };
    let line = |word: &str, text: &str| format!("[{}]{who}: {word}{text}\n", told.index);
    let why = told.why.as_deref().unwrap_or_default();
    match told.outcome {
        Outcome::Imported => told.notes.iter().map(|note| line("note: ", note)).collect(),
        Outcome::Known => vec![line("", why)],
        Outcome::Refused => vec![line("refused: ", why)],
    }
}

fn summary(order: &Order<'_>, imported: usize, known: usize, refused: usize) -> String {
    let sessions = count(imported, "session", "sessions");
    let mut text = if order.dry_run {
        format!("Would import {sessions}, leave {known} alone and refuse {refused}; nothing was changed.\n")
    } else {
        format!("Imported {sessions}, left {known} alone, refused {refused}.\n")
    };
    if imported > 0 && order.trust == Trust::No {
        text += "Each counts once its player has logged in while the session servers answer; until then it is locked.\n";
    }
    text
}
