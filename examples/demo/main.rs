//! An outage of Mojang's session server, told in a few seconds: `cargo run --release --example demo`.
//!
//! The proxy is the real one. Everything around it is a stand-in in this process, on loopback: the session server, a
//! game server, and scripted players. Every line is printed after what it tells was checked, so the exit code is 0
//! only if all of it came true. `RUST_LOG=info` adds the proxy's own log on standard error.
#![expect(clippy::print_stdout, reason = "the story is told on standard output")]

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use tokio::{runtime, task::JoinError, time::timeout};

use teller::{Deviation, Teller};

mod story;
#[path = "../../tests/support/mod.rs"]
mod support;
mod teller;

/// The story takes a few seconds; a step that hangs must not hold up a build.
const LIMIT: Duration = Duration::from_secs(30);
/// How long what is left of a failed story may take to go.
const AFTERMATH: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    }
    let teller = Teller::new();
    match perform(teller) {
        Ok(()) => {
            println!("\nEvery step went as told, in {:.1} s.", teller.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(deviation) => {
            println!("\n{deviation}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the stage, has the story told, and clears everything away however it ended.
fn perform(teller: Teller) -> Result<(), Deviation> {
    let no_stage = |error: io::Error| Deviation::new("setting the stage", "it works", error.to_string());
    let folder = tempfile::tempdir().map_err(no_stage)?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(no_stage)?;
    let ended = runtime.block_on(bounded(teller, folder.path().to_owned()));
    // The proxy of a story that failed still runs, and would make the folder anew to save its sessions.
    runtime.shutdown_timeout(AFTERMATH);
    let cleared = folder.close();
    ended?;
    cleared.map_err(|error| Deviation::new("the temporary folder", "it can be removed", error.to_string()))
}

/// Tells the story within its limit.
async fn bounded(teller: Teller, folder: PathBuf) -> Result<(), Deviation> {
    let mut telling = tokio::spawn(story::tell(teller, folder));
    match timeout(LIMIT, &mut telling).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(broken)) => Err(Deviation::new(NEXT_STEP, "it works", broken_off(broken))),
        Err(_) => {
            telling.abort();
            let _ = timeout(AFTERMATH, telling).await;
            let expected = format!("the story is over within {} s", LIMIT.as_secs());
            Err(Deviation::new(NEXT_STEP, &expected, "it waits still"))
        }
    }
}

/// Where a story that says nothing of itself broke off.
const NEXT_STEP: &str = "the step after the last line above";

/// The stand-ins panic where something is not as it must be, with a message that says what.
fn broken_off(broken: JoinError) -> String {
    let Ok(panic) = broken.try_into_panic() else { return "it was cancelled".to_owned() };
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast::<&str>().map_or("a panic".to_owned(), |message| (*message).to_owned()),
    }
}
