//! All rounds' figures, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::{flows::Figure, numbers::median, options::Options, proc};

/// What players were connected through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The yardstick.
    Relay,
    /// What is measured.
    Proxy,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay => "plain relay",
            Self::Proxy => "this proxy",
        })
    }
}

/// The figures so far.
pub(crate) struct Report {
    head: Value,
    rows: Vec<Row>,
}

/// One kind of figure, of both sides.
struct Row {
    figure: Figure,
    relay: Vec<Option<f64>>,
    proxy: Vec<Option<f64>>,
}

/// The median of what is known.
fn middle(rounds: &[Option<f64>]) -> Option<f64> {
    median(&rounds.iter().copied().flatten().collect::<Vec<_>>())
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (relay, proxy) = (middle(&self.relay)?, middle(&self.proxy)?);
        // Nothing sensible is a multiple of nothing, or of memory that shrank.
        (relay > 0.0 && proxy >= 0.0).then(|| proxy / relay)
    }
}

impl Report {
    /// Without figures yet.
    pub(crate) fn new(options: &Options, proxy: &str) -> Self {
        let head = json!({
            "machine": proc::machine(),
            "proxy": proxy,
            "options": {
                "rounds": options.rounds,
                "megabytes": options.megabytes,
                "frame_sizes": options.frame_sizes,
                "write_size": options.write_size,
                "connections_per_core": options.connections_per_core,
                "compression": options.compression,
                "echo_rate": options.echo_rate,
                "echo_seconds": options.echo_seconds,
                "players": options.players,
                "settle": options.settle,
                "logins": options.logins,
                "pings": options.pings,
                "concurrency": options.concurrency,
            },
        });
        Self { head, rows: Vec::new() }
    }

    /// Adds one measurement.
    pub(crate) fn add(&mut self, side: Side, figures: Vec<Figure>) {
        for figure in figures {
            let value = figure.value;
            let known = self.rows.iter().position(|row| row.figure.id == figure.id);
            let at = known.unwrap_or_else(|| {
                self.rows.push(Row { figure, relay: Vec::new(), proxy: Vec::new() });
                self.rows.len() - 1
            });
            if let Some(row) = self.rows.get_mut(at) {
                match side {
                    Side::Relay => row.relay.push(value),
                    Side::Proxy => row.proxy.push(value),
                }
            }
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![["work", "plain relay", "this proxy", "unit", "ratio"].map(str::to_owned)];
        for row in &self.rows {
            lines.push([
                row.figure.work.clone(),
                shown(middle(&row.relay)),
                shown(middle(&row.proxy)),
                row.figure.unit.to_owned(),
                row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            ]);
        }
        let widths: [usize; 5] = std::array::from_fn(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        });
        let [w0, w1, w2, w3, w4] = widths;
        let machine = self.head.get("machine");
        let fact = |name| machine.and_then(|machine| machine.get(name)).map(plain).unwrap_or_default();
        let proxy = self.head.get("proxy").map(plain).unwrap_or_default();
        let rounds = self.rows.first().map_or(0, |row| row.proxy.len());
        let mut text = format!("{proxy} on {} x {}; medians of {rounds}\n\n", fact("cores"), fact("cpu"));
        for (number, [work, relay, proxy, unit, ratio]) in lines.into_iter().enumerate() {
            let line = [
                format!("| {work:w0$} | {relay:>w1$} | {proxy:>w2$} | {unit:w3$} | {ratio:>w4$} |\n"),
                // Numbers stand to the right, in Markdown too.
                format!("| {:-<w0$} | {:->w1$} | {:->w2$} | {:-<w3$} | {:->w4$} |\n", "", ":", ":", "", ":"),
            ];
            text.extend(line.into_iter().take(if number == 0 { 2 } else { 1 }));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "id": row.figure.id,
                    "work": row.figure.work,
                    "unit": row.figure.unit,
                    "relay": {"median": middle(&row.relay), "rounds": row.relay},
                    "proxy": {"median": middle(&row.proxy), "rounds": row.proxy},
                    "ratio": row.ratio(),
                })
            })
            .collect();
        let mut whole = self.head.clone();
        if let Value::Object(whole) = &mut whole {
            whole.insert("figures".to_owned(), Value::Array(figures));
        }
        format!("{whole:#}\n")
    }
}

/// A value of the machine's without quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Three digits that say something, or more before the point.
fn shown(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let size = value.abs();
    let places = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.places$}")
}
