//! The load generator measures everything it says, with volumes so small that its figures mean nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

/// The generator's arithmetic, for its tests: cargo runs none that stand in an example.
#[path = "../examples/load/numbers.rs"]
mod numbers;

/// The example's program. Cargo builds examples along with all tests, but names their place to none of them.
fn load(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    // …/debug/deps/load-0123456789abcdef and …/debug/examples/load.
    let mut program: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/load");
    program.set_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is missing: cargo build --example load", program.display());
    // The program ends by itself: each measurement has its limit.
    Command::new(program).args(arguments).output().unwrap()
}

const SMALL: [&str; 20] = [
    "--rounds",
    "1",
    "--megabytes",
    "1",
    "--connections-per-core",
    "1",
    "--echo-rate",
    "200",
    "--echo-seconds",
    "1",
    "--players",
    "5",
    "--settle",
    "0",
    "--logins",
    "8",
    "--pings",
    "16",
    "--concurrency",
    "2",
];

fn measured(more: &[&str]) -> Value {
    let proxy = ["--json", "--proxy-binary", env!("CARGO_BIN_EXE_postern")];
    let run = load(&[&SMALL[..], &proxy, more].concat());
    let errors = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&run.stdout).unwrap()
}

fn check_figures(report: &Value, expected: &[(&str, &str)]) {
    let figures = report["figures"].as_array().unwrap();
    let found: Vec<_> = figures
        .iter()
        .map(|figure| (figure["id"].as_str().unwrap(), figure["unit"].as_str().unwrap()))
        .collect();
    assert_eq!(found, expected);
    for figure in figures {
        for side in ["relay", "proxy"] {
            let rounds = figure[side]["rounds"].as_array().unwrap();
            assert_eq!(rounds.len(), 1, "{figure}");
            assert_eq!(figure[side]["median"], rounds[0], "{figure}");
            // Without /proc neither processor time nor memory is known.
            let from_proc = figure["unit"] == "B" || figure["unit"].as_str().unwrap().starts_with("CPU");
            if cfg!(target_os = "linux") || !from_proc {
                assert!(rounds[0].is_number(), "{figure}");
            }
        }
    }
}

#[test]
fn everything_is_measured() {
    let report = measured(&[]);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(report["options"]["players"], 5);
    check_figures(
        &report,
        &[
            ("to-server.2048.cpu", "CPU-s/GB"),
            ("to-server.2048.rate", "MB/s"),
            ("to-server.128.cpu", "CPU-s/GB"),
            ("to-server.128.rate", "MB/s"),
            ("to-client.2048.one.cpu", "CPU-s/GB"),
            ("to-client.2048.one.rate", "MB/s"),
            ("to-client.128.one.cpu", "CPU-s/GB"),
            ("to-client.128.one.rate", "MB/s"),
            ("to-client.2048.many.cpu", "CPU-s/GB"),
            ("to-client.2048.many.rate", "MB/s"),
            ("to-client.128.many.cpu", "CPU-s/GB"),
            ("to-client.128.many.rate", "MB/s"),
            ("echo.p50", "µs"),
            ("echo.p99", "µs"),
            ("echo.cpu", "CPU-µs"),
            ("echo-busy.p50", "µs"),
            ("echo-busy.p99", "µs"),
            ("echo-busy.flood", "MB/s"),
            ("idle.player", "B"),
            ("idle.left", "B"),
            ("idle.again", "B"),
            ("idle.left-again", "B"),
            ("logins.cpu", "CPU-s"),
            ("logins.rate", "1/s"),
            ("pings.cpu", "CPU-s"),
            ("pings.rate", "1/s"),
        ],
    );
}

#[test]
fn only_what_was_asked_for_and_compressed() {
    let report = measured(&["--only", "to-server,to-client", "--frame-sizes", "700", "--compression"]);
    check_figures(
        &report,
        &[
            ("to-server.700.cpu", "CPU-s/GB"),
            ("to-server.700.rate", "MB/s"),
            ("to-client.700.one.cpu", "CPU-s/GB"),
            ("to-client.700.one.rate", "MB/s"),
            ("to-client.700.many.cpu", "CPU-s/GB"),
            ("to-client.700.many.rate", "MB/s"),
        ],
    );
}

#[test]
fn a_missing_proxy_and_senseless_options_are_named() {
    for (arguments, words) in [
        (&["--proxy-binary", "/nowhere/postern"][..], "there is no file /nowhere/postern"),
        (&["--rounds", "0"], "--rounds must be at least 1"),
        (&["--frame-sizes", "12"], "--frame-sizes are 40 to"),
    ] {
        let run = load(arguments);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert!(run.stdout.is_empty());
    }
}
