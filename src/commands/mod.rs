//! What the commands do that ask or change what the proxy remembers.
//!
//! While no proxy runs they work on the files themselves. While one does, the files are its own: what it holds in memory
//! is newer, and it would write over any change. So they ask it, through its admin interface.

use std::{fmt::Display, io::Write, path::Path};

use crate::{
    admin,
    cli::{BansAction, EXIT_OK, EXIT_UNAVAILABLE, SessionsAction},
    clock::Clock,
    config::Config,
    session::{Owner, import::Trust, query::Query},
};

mod bans;
mod client;
mod import;
mod output;
pub mod readiness;
mod sessions;
mod store;

use client::Client;

/// Anything that is neither usage nor configuration, nor a proxy that cannot be reached.
const EXIT_FAILED: u8 = 1;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `postern sessions`
    Sessions(SessionsAction),
    /// `postern bans`
    Bans(BansAction),
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The code to end with.
    pub code: u8,
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
}

impl Answer {
    fn well(out: String) -> Self {
        Self { code: EXIT_OK, out, err: String::new() }
    }
}

/// Why a command came to nothing, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    what: String,
}

impl Failure {
    fn new(what: impl Display) -> Self {
        Self { code: EXIT_FAILED, what: what.to_string() }
    }

    fn unavailable(what: impl Display) -> Self {
        Self { code: EXIT_UNAVAILABLE, what: what.to_string() }
    }

    fn answer(self, out: String) -> Answer {
        Answer { code: self.code, out, err: format!("error: {}\n", self.what) }
    }
}

/// Does what is asked for. How far a long one is goes to `terminal`, if there is one. Blocks on files, so it must have
/// its runtime to itself.
pub async fn answer(ask: &Ask, config: &Config, clock: &Clock, terminal: Option<&mut dyn Write>) -> Answer {
    let answer = match ask {
        Ask::Sessions(SessionsAction::List { name, address, locked, seen_within, sort, limit, json }) => {
            let now = clock.now();
            let query = Query {
                name: name.clone(),
                network: *address,
                locked: locked.then_some(true),
                seen_since: seen_within.and_then(|span| now.saturating_sub(span.length()).ok()),
                sort: *sort,
                limit: *limit,
            };
            sessions::list(&query, *json, config, clock).await
        }
        Ask::Sessions(SessionsAction::Show { player, json }) => {
            sessions::show(player, *json, config, clock).await
        }
        Ask::Sessions(SessionsAction::Forget { player }) => sessions::forget(player, config, clock).await,
        Ask::Sessions(SessionsAction::Lock { player }) => sessions::lock(player, config, clock).await,
        Ask::Sessions(SessionsAction::Import { file, trust, dry_run, json }) => {
            let trust = if *trust { Trust::Yes } else { Trust::No };
            let order = import::Order { file, trust, dry_run: *dry_run, json: *json };
            import::import(&order, config, clock, terminal).await
        }
        Ask::Bans(BansAction::List { json }) => bans::list(*json, config, clock).await,
        Ask::Bans(BansAction::Lift { target, .. }) => bans::lift(target.as_ref(), config, clock).await,
    };
    answer.unwrap_or_else(|failure| failure.answer(String::new()))
}

/// The way to the proxy that holds the store, if one does.
async fn running(config: &Config) -> Result<Option<Client>, Failure> {
    match Owner::of(&config.session.directory) {
        Owner::Proxy(process) => client(&config.admin, &config.session.directory, process).await.map(Some),
        // What keeps the lock from being looked at keeps the rest from being read, too, and is told then.
        Owner::Nobody | Owner::Unknown => Ok(None),
    }
}

/// The way to the proxy that holds the store in this folder.
async fn client(config: &admin::Config, directory: &Path, process: Option<u32>) -> Result<Client, Failure> {
    let process = process.map_or_else(String::new, |process| format!(" (process {process})"));
    let holder = format!("the sessions in {} are held by a running proxy{process}", directory.display());
    Client::connect(config, holder).await
}
