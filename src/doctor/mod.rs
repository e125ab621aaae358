//! Examines an installation from outside, as an owner would: is everything that players need there, and does it keep
//! strangers out?
//!
//! Nothing is changed and nothing left behind; the proxy may run meanwhile. Each part examines one thing and tells
//! [`report::Finding`]s: what was found, what follows for players, how to mend it.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    clock::Clock,
    config::{self, Config, Loaded},
};

mod admin;
pub mod backends;
mod configuration;
mod disk;
mod geo;
mod listen;
pub mod report;
mod services;
mod session_server;

use report::Report;

/// How long the disk may take to be examined.
const DISK_TIME: Duration = Duration::from_secs(20);

/// Examines the installation that a configuration describes. Takes some 20 s where Mojang's side does not answer, and up
/// to a minute for each eight backends that hang. If the configuration cannot be used, that is the whole report.
pub async fn examine(loaded: Result<Loaded, config::Report>, clock: &Clock) -> Report {
    let mut report = Report::default();
    let config = match loaded {
        Ok(loaded) => {
            report.extend(configuration::of_loaded(&loaded));
            loaded.config
        }
        Err(problems) => {
            report.extend(configuration::of_problems(&problems));
            report.add(configuration::nothing_else());
            return report;
        }
    };
    let Config { session, audit, limit, statistics, admin, .. } = config.clone();
    // Parts that wait for peers wait together; those that ask the disk have a thread.
    let local = tokio::task::spawn_blocking(move || {
        let mut findings = disk::store(&session);
        findings.extend(disk::audit(&audit));
        findings.push(disk::bans(&limit.bans.file));
        findings.extend(statistics.path.as_deref().map(disk::statistics));
        findings.extend(admin::examine(&admin));
        findings
    });
    let (session_server, services, backends, listening, geo, local) = tokio::join!(
        session_server::examine(&config.session_server, clock),
        services::examine(&config.player_keys, clock),
        backends::examine(&config.backend.backends, config.backend.connect_timeout),
        listen::examine(&config.net, &config.session.directory, config.backend.connect_timeout),
        geo::examine(&config.geo, clock.now()),
        timeout(DISK_TIME, local),
    );
    report.extend(session_server);
    report.add(services);
    report.extend(backends);
    report.extend(listening);
    report.extend(geo);
    match local {
        Ok(findings) => {
            report.extend(findings.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
        }
        Err(_) => report.add(disk::hangs()),
    }
    report
}
