//! `postern bans list|lift`

use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, Client, Failure, client,
    output::{Table, count, minute},
    running,
    store::{self, BY},
};
use crate::{
    audit::{Event, Kind},
    clock::Clock,
    config::Config,
    limit::bans::{self, Ban, FileError, Target},
    session::{Hold, StoreError},
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
    let held = match running(config).await? {
        Some(proxy) => Held::Proxy(proxy),
        // So that asking for nothing makes no folder.
        None if read(config, clock)?.is_empty() => Held::Nothing,
        None => hold(config).await?,
    };
    let lifted = match held {
        Held::Proxy(mut proxy) => {
            let what = match target {
                Some(target) => json!({ "target": target }),
                None => json!({ "all": true }),
            };
            let Lifted { lifted } = proxy.post("/api/bans/lift", &what).await?;
            lifted
        }
        Held::Command(_hold) => lift_here(target, config, clock).await?,
        Held::Nothing => Vec::new(),
    };
    if let Some(target) = target.filter(|_| lifted.is_empty()) {
        return Err(Failure::new(format_args!("{target} is not banned")));
    }
    Ok(Answer::well(match (target, lifted.len()) {
        (Some(target), _) => format!("Lifted the ban of {target}.\n"),
        (None, 0) => "Nobody is banned.\n".to_owned(),
        (None, number) => format!("Lifted {}.\n", count(number, "ban", "bans")),
    }))
}

/// What holds the bans.
enum Held {
    /// This command. A proxy that started meanwhile would have read the file already, and write it back.
    Command(Hold),
    /// A proxy.
    Proxy(Client),
    /// There are none.
    Nothing,
}

/// Takes hold of the store, and with it of the bans.
async fn hold(config: &Config) -> Result<Held, Failure> {
    let directory = &config.session.directory;
    store::keep_owner(directory)?;
    match Hold::take(directory) {
        Ok(hold) => Ok(Held::Command(hold)),
        Err(StoreError::Locked { holder, .. }) => client(config, &holder).await.map(Held::Proxy),
        Err(error) => Err(Failure::new(error)),
    }
}

async fn lift_here(target: Option<&Target>, config: &Config, clock: &Clock) -> Result<Vec<Target>, Failure> {
    let file = &config.limit.bans.file;
    store::keep_owner(file)?;
    let audit = store::audit(&config.audit)?;
    let lifted = bans::lift_in_file(file, target, clock.now());
    for ban in lifted.iter().flatten() {
        audit.emit(event(ban, clock));
    }
    audit.close().await;
    let lifted = lifted.map_err(|error| Failure::new(format_args!("the bans cannot be changed: {error}")))?;
    Ok(lifted.into_iter().map(|ban| ban.target).collect())
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
    bans::read_file(&config.limit.bans.file, clock.now()).map_err(|error| {
        let hint = match error {
            FileError::Damaged { .. } => {
                "; the proxy sets it aside at its next start and begins with no bans"
            }
            FileError::Io { .. } => "",
        };
        Failure::new(format_args!("the bans cannot be read: {error}{hint}"))
    })
}
