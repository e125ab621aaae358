//! `postern bans list|lift`

use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, Failure,
    output::{Table, count, minute},
    running,
    store::{self, BY},
};
use crate::{
    audit::{Event, Kind},
    clock::Clock,
    config::Config,
    limit::bans::{self, Ban, Target},
};

/// The bans in force.
#[derive(Debug, Deserialize)]
struct List {
    bans: Vec<Ban>,
}

/// The bans that were ended.
#[derive(Debug, Deserialize)]
struct Lifted {
    lifted: Vec<Target>,
}

pub(super) async fn list(json: bool, config: &Config, clock: &Clock) -> Result<Answer, Failure> {
    let List { bans } = match running(config).await? {
        Some(mut proxy) => proxy.get("/api/bans").await?,
        None => List { bans: read(config, clock)? },
    };
    if json {
        return Ok(Answer::well(json!({ "bans": bans }).to_string() + "\n"));
    }
    if bans.is_empty() {
        return Ok(Answer::well("Nobody is banned.\n".to_owned()));
    }
    let mut table = Table::new(&["TARGET", "SINCE (UTC)", "UNTIL (UTC)", "FAILURES"], &[3]);
    for ban in &bans {
        table.add(vec![
            ban.target.to_string(),
            minute(ban.since),
            minute(ban.until),
            ban.failures.to_string(),
        ]);
    }
    Ok(Answer::well(format!("{table}{}\n", count(bans.len(), "ban", "bans"))))
}

/// Ends one ban; without a target, all.
pub(super) async fn lift(target: Option<&Target>, config: &Config, clock: &Clock) -> Result<Answer, Failure> {
    let lifted = match running(config).await? {
        Some(mut proxy) => {
            let what = match target {
                Some(target) => json!({ "target": target }),
                None => json!({ "all": true }),
            };
            let Lifted { lifted } = proxy.post("/api/bans/lift", &what).await?;
            lifted
        }
        None => lift_here(target, config, clock).await?,
    };
    Ok(Answer::well(match (target, lifted.len()) {
        (Some(target), _) => format!("Lifted the ban of {target}.\n"),
        (None, 0) => "Nobody is banned.\n".to_owned(),
        (None, number) => format!("Lifted {}.\n", count(number, "ban", "bans")),
    }))
}

async fn lift_here(target: Option<&Target>, config: &Config, clock: &Clock) -> Result<Vec<Target>, Failure> {
    let banned = read(config, clock)?;
    let wanted: Vec<Ban> =
        banned.into_iter().filter(|ban| target.is_none_or(|target| ban.target == *target)).collect();
    if let (Some(target), true) = (target, wanted.is_empty()) {
        return Err(Failure::new(format_args!("{target} is not banned")));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let file = &config.limit.bans.file;
    store::keep_owner(file)?;
    let audit = store::audit(&config.audit)?;
    let mut lifted = Vec::new();
    let mut failed = None;
    for ban in wanted {
        match bans::lift_in_file(file, &ban.target, clock.now()) {
            Ok(true) => {
                audit.emit(event(&ban, clock));
                lifted.push(ban.target);
            }
            // It came to its end by itself.
            Ok(false) => {}
            Err(error) => {
                failed = Some(Failure::new(format_args!("the bans cannot be changed: {error}")));
                break;
            }
        }
    }
    audit.close().await;
    failed.map_or(Ok(lifted), Err)
}

/// The same line as a running proxy writes, but for who did it.
fn event(ban: &Ban, clock: &Clock) -> Event {
    let event = Event::new(Kind::BanLifted, clock.now())
        .field("target", ban.target.to_string())
        .field("failures", ban.failures)
        .field("since", format!("{:.3}", ban.since))
        .field("until", format!("{:.3}", ban.until))
        .field("by", BY);
    match ban.target {
        Target::Pair { id, .. } => event.id(id),
        _ => event,
    }
}

fn read(config: &Config, clock: &Clock) -> Result<Vec<Ban>, Failure> {
    bans::read_file(&config.limit.bans.file, clock.now())
        .map_err(|error| Failure::new(format_args!("the bans cannot be read: {error}")))
}
