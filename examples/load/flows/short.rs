//! Connections that come and go: logins, pings.

use std::time::{Duration, Instant};

use super::{Bench, Figure};
use crate::{
    client::{CURRENT, Client},
    failure::Outcome,
    proc::{self, pause},
    target::Target,
};

/// How long what a connection leaves behind may take: it belongs to the work, but nobody waits for it.
const AFTERMATH: Duration = Duration::from_millis(200);

/// Logins to login success, the backend having the player, and away.
pub(super) fn logins(bench: &Bench, target: &Target) -> Outcome<Vec<Figure>> {
    bench.backends.compress_from(None);
    let log_in = |_| {
        let name = bench.name();
        let client = Client::log_in(target.address, CURRENT, &name)?;
        let server = bench.backends.claim(&name)?;
        drop(client);
        drop(server);
        Ok(())
    };
    let (rate, cpu) = repeat(bench, target, bench.options.logins, log_in)?;
    Ok(vec![
        Figure::new("logins.cpu", "1000 logins", "CPU-s", cpu),
        Figure::new("logins.rate", "logins", "1/s", Some(rate)),
    ])
}

/// Server list answer, ping, pong.
pub(super) fn pings(bench: &Bench, target: &Target) -> Outcome<Vec<Figure>> {
    let (rate, cpu) = repeat(bench, target, bench.options.pings, |_| Client::ping(target.address))?;
    Ok(vec![
        Figure::new("pings.cpu", "1000 status pings", "CPU-s", cpu),
        Figure::new("pings.rate", "status pings", "1/s", Some(rate)),
    ])
}

/// How many per second, and the processor time of 1000.
fn repeat(
    bench: &Bench,
    target: &Target,
    count: usize,
    step: impl Fn(usize) -> Outcome<()> + Sync,
) -> Outcome<(f64, Option<f64>)> {
    // What is done once, whoever comes first.
    step(0)?;
    pause(AFTERMATH);
    let (outcome, cpu) = proc::cpu_during(target.pid, || {
        let began = Instant::now();
        let outcome = bench.side_by_side(count, &step);
        let time = began.elapsed();
        pause(AFTERMATH);
        outcome.map(|_| time)
    });
    let rate = count as f64 / outcome?.as_secs_f64();
    Ok((rate, cpu.map(|cpu| cpu / count as f64 * 1000.0)))
}
