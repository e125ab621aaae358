//! What the commands do that ask or change what the proxy remembers, or what it does right now.
//!
//! While no proxy runs they work on the files themselves. While one does, the files are its own: what it holds in memory
//! is newer, and it would write over any change. So they ask it, through its admin interface: at the address that the
//! proxy noted in the lock file of its store, and nowhere else, for whoever is asked is shown the token. Where the
//! configuration says that it listens, somebody else may do so.

use std::{fmt::Display, io::Write};

use crate::{
    cli::{AuthAction, BansAction, EXIT_OK, EXIT_UNAVAILABLE, SessionsAction},
    clock::Clock,
    config::Config,
    identity::Whom,
    session::{Holder, Owner, Role, import::Trust, query::Query},
};

pub mod audit;
mod auth;
mod bans;
mod client;
mod import;
mod output;
pub mod papers;
mod players;
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
    /// `postern auth`
    Auth(AuthAction),
    /// `postern players`
    Players {
        /// Whether the answer is for programs.
        json: bool,
    },
    /// `postern kick`
    Kick {
        /// Whom.
        player: Whom,
        /// What the player reads; `None` is the configured text.
        reason: Option<String>,
    },
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
        Ask::Auth(action) => auth::auth(action, config).await,
        Ask::Players { json } => players::list(*json, config).await,
        Ask::Kick { player, reason } => players::kick(player, reason.as_deref(), config).await,
        Ask::Bans(BansAction::List { json }) => bans::list(*json, config, clock).await,
        Ask::Bans(BansAction::Lift { target, .. }) => bans::lift(target.as_ref(), config, clock).await,
    };
    answer.unwrap_or_else(|failure| failure.answer(String::new()))
}

/// The way to the proxy that runs, for what nobody else knows or can do.
async fn proxy(config: &Config) -> Result<Client, Failure> {
    running(config).await?.ok_or_else(|| {
        let directory = config.session.directory.display();
        Failure::unavailable(format_args!(
            "no proxy runs on the sessions in {directory}; start it, or name the configuration it runs with (--config)"
        ))
    })
}

/// The way to the proxy that holds the store, if one does.
async fn running(config: &Config) -> Result<Option<Client>, Failure> {
    match Owner::of(&config.session.directory) {
        // What another command changes is in the files at once, each of which is whole at any time. What keeps the lock
        // from being looked at keeps the rest from being read, too, and is told then.
        Owner::Held(Holder { role: Role::Command, .. }) | Owner::Nobody | Owner::Unknown => Ok(None),
        Owner::Held(holder) => client(config, &holder).await.map(Some),
    }
}

/// The way to the proxy that holds the store.
async fn client(config: &Config, holder: &Holder) -> Result<Client, Failure> {
    let directory = &config.session.directory;
    let process = holder.process.map_or_else(String::new, |process| format!(" (process {process})"));
    let held = |by: &str| format!("the sessions in {} are held by {by}{process}", directory.display());
    let admin = match holder.role {
        Role::Proxy { admin: Some(admin) } => admin,
        Role::Proxy { admin: None } => {
            let why = if config.admin.listen.is_none() {
                "its admin interface is off (admin.listen); switch it on and restart the proxy"
            } else {
                "it runs without its admin interface: admin.listen was off or its address taken when it started, as its \
                 log says; mend that and restart it"
            };
            let held = held("a running proxy");
            return Err(Failure::unavailable(format_args!(
                "{held}, and {why}, or stop the proxy and try again"
            )));
        }
        Role::Command => {
            let held = held("another command");
            return Err(Failure::unavailable(format_args!("{held}; wait for it to end and try again")));
        }
        Role::Unknown => {
            let held = held("another command or a proxy");
            return Err(Failure::unavailable(format_args!(
                "{held}, which has not said yet where it is asked; wait a moment and try again. If that does not help, it \
                 is a proxy of another version: restart it"
            )));
        }
    };
    let client = Client::connect(&config.admin, admin, held("a running proxy")).await?;
    // A proxy that ended just now has given its address back, and anybody may have it.
    if Owner::of(directory) != Owner::Held(*holder) {
        let held = held("a running proxy");
        return Err(Failure::unavailable(format_args!("{held}, which ends just now; try again")));
    }
    Ok(client)
}
