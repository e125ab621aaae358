//! Shapes of runtime under the same relay: one runtime for all threads or one for each, every connection encrypted
//! alone or together with others; over sockets, in one process.
//!
//! `cargo bench --bench shapes -- [FILTER] [--shape NAME]... [--rounds N] [--megabytes N] [--json]`
//!
//! Processor time is that of the relaying threads alone. Clients and backends are threads with blocking sockets on the
//! same processors, so megabytes per second tell what is left for the relay, not what it could do; latencies hold
//! the waiting of those threads too. Each round takes every shape through every flow, one after the other; what is
//! printed are the medians of the rounds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may panic")]
#![allow(clippy::print_stdout, reason = "figures are what it is for")]
#![allow(clippy::cast_precision_loss, reason = "figures are not that precise")]

mod flow;
mod load;
#[allow(dead_code, unused_imports, reason = "the load generator needs more of it, and tests it")]
#[path = "../../examples/load/numbers.rs"]
mod numbers;
#[allow(dead_code, reason = "the load generator needs more of it")]
#[path = "../../examples/load/proc.rs"]
mod proc;
mod shape;

use std::collections::BTreeMap;

use clap::Parser;
use serde_json::json;

use crate::{
    flow::{Flow, Size},
    shape::Shape,
};

/// Compares shapes of runtime under the relay.
#[derive(Debug, Parser)]
struct Options {
    /// Only flows whose name has this in it.
    filter: Option<String>,
    /// Only this shape. Can be given several times.
    #[arg(long = "shape", value_parser = Shape::named)]
    shapes: Vec<Shape>,
    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// MB to relay in each flood.
    #[arg(long, default_value_t = 128)]
    megabytes: u64,
    /// Prints the figures of every round as JSON.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`. Without it, as `cargo test --benches` does, the flows are only tried.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A flow and one of its figures; of each shape, the values of all rounds.
type Row = ((usize, &'static str), BTreeMap<&'static str, Vec<f64>>);

fn main() {
    let options = Options::parse();
    let (rounds, size) = if options.bench {
        (options.rounds, Size { megabytes: options.megabytes, echoes: 2000 })
    } else {
        (1, Size { megabytes: 1, echoes: 50 })
    };
    let wanted = |flow: &&Flow| options.filter.as_ref().is_none_or(|part| flow.name.contains(part));
    let flows: Vec<&Flow> = Flow::ALL.iter().filter(wanted).collect();
    let shapes = if options.shapes.is_empty() { Shape::ALL.to_vec() } else { options.shapes };
    let mut figures: BTreeMap<(usize, &'static str), BTreeMap<&'static str, Vec<f64>>> = BTreeMap::new();
    for round in 0..rounds {
        for (number, flow) in flows.iter().enumerate() {
            // No shape is always the one behind the same other.
            for turn in 0..shapes.len() {
                let shape = shapes[(turn + round) % shapes.len()];
                for (unit, value) in flow.measure(shape, size) {
                    let row = figures.entry((number, unit)).or_default();
                    row.entry(shape.name()).or_default().push(value);
                }
            }
        }
    }
    if options.json {
        print_json(&flows, figures);
    } else {
        print_table(&flows, &shapes, figures);
    }
}

fn print_table(flows: &[&Flow], shapes: &[Shape], figures: impl IntoIterator<Item = Row>) {
    print!("{:<44} {:<10}", "flow", "");
    for shape in shapes {
        print!(" {:>16}", shape.name());
    }
    println!();
    for ((number, unit), row) in figures {
        print!("{:<44} {unit:<10}", flows[number].name);
        for shape in shapes {
            let median = row.get(shape.name()).and_then(|values| numbers::median(values));
            print!(" {:>16}", median.map_or_else(|| "-".into(), |median| format!("{median:.2}")));
        }
        println!();
    }
}

fn print_json(flows: &[&Flow], figures: impl IntoIterator<Item = Row>) {
    let rows: Vec<_> = figures
        .into_iter()
        .map(|((number, unit), row)| {
            let medians: BTreeMap<_, _> =
                row.iter().map(|(shape, values)| (*shape, numbers::median(values))).collect();
            json!({ "flow": flows[number].name, "unit": unit, "medians": medians, "rounds": row })
        })
        .collect();
    println!("{:#}", json!({ "machine": proc::machine(), "figures": rows }));
}
