//! What the commands do that ask or change what the proxy remembers, or what it does right now.
//!
//! While no proxy runs they work on the files themselves. While one does, the files are its own: what it holds in memory
//! is newer, and it would write over any change. So they ask it, through its admin interface: at the address that the
//! proxy noted in the lock file of its store, and nowhere else, for whoever is asked is shown the token. Where the
//! configuration says that it listens, somebody else may do so.

use std::{fmt::Display, io::Write, path::Path};

use crate::{
    cli::{AuthAction, BansAction, EXIT_OK, EXIT_UNAVAILABLE, SessionsAction},
    clock::Clock,
    config::{Config, Whereabouts},
    identity::Whom,
    session::{Holder, Owner, Role, import::Trust, query::Query},
};

pub mod audit;
mod auth;
mod bans;
mod client;
pub mod health;
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

impl Ask {
    /// Whether only a running proxy can answer, so that nothing but the way to it is needed.
    pub fn is_for_the_proxy(&self) -> bool {
        match self {
            Self::Auth(_) | Self::Players { .. } | Self::Kick { .. } => true,
            Self::Sessions(_) | Self::Bans(_) => false,
        }
    }
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
        Ask::Auth(_) | Ask::Players { .. } | Ask::Kick { .. } => asked(ask, &Whereabouts::from(config)).await,
        Ask::Bans(BansAction::List { json }) => bans::list(*json, config, clock).await,
        Ask::Bans(BansAction::Lift { target, .. }) => bans::lift(target.as_ref(), config, clock).await,
    };
    answer.unwrap_or_else(|failure| failure.answer(String::new()))
}

/// Does what only a running proxy can do, and needs no more than to find it, though its configuration file has problems by
/// now: the proxy goes on with what it read before. `None` if that is not asked for, or no proxy is found.
pub async fn answer_all_the_same(ask: &Ask, path: &Path) -> Option<Answer> {
    if !ask.is_for_the_proxy() {
        return None;
    }
    let place = Whereabouts::of(path).ok()?;
    let Owner::Held(Holder { role: Role::Proxy { .. }, .. }) = Owner::of(&place.directory) else {
        return None;
    };
    let mut answer = asked(ask, &place).await.unwrap_or_else(|failure| failure.answer(String::new()));
    let note = "note: the proxy that runs goes on with what it read before, and was asked all the same\n";
    answer.err.insert_str(0, note);
    Some(answer)
}

/// Does what only a running proxy can do.
async fn asked(ask: &Ask, place: &Whereabouts) -> Result<Answer, Failure> {
    match ask {
        Ask::Auth(action) => auth::auth(action, place).await,
        Ask::Players { json } => players::list(*json, place).await,
        Ask::Kick { player, reason } => players::kick(player, reason.as_deref(), place).await,
        Ask::Sessions(_) | Ask::Bans(_) => Err(Failure::new("this is done without the proxy")),
    }
}

/// What a command could do without the proxy that holds the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// The same, on the files.
    Same,
    /// Nothing.
    Nothing,
}

impl Alone {
    /// The end of an error: another way to have what was asked for.
    fn way_out(self) -> &'static str {
        match self {
            Self::Same => ", or stop the proxy and try again",
            Self::Nothing => "",
        }
    }
}

/// The way to the proxy that runs, for what nobody else knows or can do.
async fn proxy(place: &Whereabouts) -> Result<Client, Failure> {
    find(place, Alone::Nothing).await?.ok_or_else(|| {
        let directory = place.directory.display();
        Failure::unavailable(format_args!(
            "no proxy runs on the sessions in {directory}; start it, or name the configuration it runs with (--config)"
        ))
    })
}

/// The way to the proxy that holds the store, if one does.
async fn running(config: &Config) -> Result<Option<Client>, Failure> {
    find(&Whereabouts::from(config), Alone::Same).await
}

async fn find(place: &Whereabouts, alone: Alone) -> Result<Option<Client>, Failure> {
    match Owner::of(&place.directory) {
        // What another command changes is in the files at once, each of which is whole at any time. What keeps the lock
        // from being looked at keeps the rest from being read, too, and is told then.
        Owner::Held(Holder { role: Role::Command, .. }) | Owner::Nobody | Owner::Unknown => Ok(None),
        Owner::Held(holder) => reach(place, &holder, alone).await.map(Some),
    }
}

/// The way to the proxy that holds the store, for what could be done on the files.
async fn client(config: &Config, holder: &Holder) -> Result<Client, Failure> {
    reach(&Whereabouts::from(config), holder, Alone::Same).await
}

async fn reach(place: &Whereabouts, holder: &Holder, alone: Alone) -> Result<Client, Failure> {
    let directory = &place.directory;
    let process = holder.process.map_or_else(String::new, |process| format!(" (process {process})"));
    let held = |by: &str| format!("the sessions in {} are held by {by}{process}", directory.display());
    let admin = match holder.role {
        Role::Proxy { admin: Some(admin) } => admin,
        Role::Proxy { admin: None } => {
            let why = if place.admin.listen.is_none() {
                "its admin interface is off (admin.listen); switch it on and restart the proxy"
            } else {
                "it runs without its admin interface: admin.listen was off or its address taken when it started, as its \
                 log says; mend that and restart it"
            };
            let held = held("a running proxy");
            return Err(Failure::unavailable(format_args!("{held}, and {why}{}", alone.way_out())));
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
    let client = Client::connect(&place.admin, admin, held("a running proxy"), alone).await?;
    // A proxy that ended just now has given its address back, and anybody may have it.
    if Owner::of(directory) != Owner::Held(*holder) {
        let held = held("a running proxy");
        return Err(Failure::unavailable(format_args!("{held}, which ends just now; try again")));
    }
    Ok(client)
}
