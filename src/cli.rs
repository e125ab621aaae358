//! The command line: what can be asked of the program, and the codes it ends with.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    admin::players::MAX_REASON,
    audit::Wanted,
    config,
    identity::Whom,
    limit::bans::Target,
    mojang::health::MAX_OVERRIDE,
    session::query::{Network, Sort},
};

pub mod time;

use time::{Moment, Span};

/// All is well.
pub const EXIT_OK: u8 = 0;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 64;
/// The proxy that runs, or its admin interface, cannot be reached.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration has problems.
pub const EXIT_CONFIG: u8 = 78;

/// What no option says.
const AFTER_HELP: &str = "\
SIGTERM and SIGINT stop the proxy: players are told and closed, and logins and writes may finish; a second one stops it \
at once. SIGHUP has it read its configuration again, all of it or, if anything is wrong with it, nothing, and open \
audit.log anew.

Ends with 0 if all is well, 64 on bad usage, 69 if the proxy that runs or its admin interface cannot be reached, 78 on \
problems of the configuration, and 1 on anything else. (postern doctor ends with 1 on warnings and 2 on errors.)";

/// A login proxy for Minecraft: Java Edition that stays open, to known players only, while the session servers are down.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "postern", version, disable_help_subcommand = true, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// Configuration file [default: config.yml in the working folder, which `run` writes if it does not exist]
    #[arg(long, global = true, env = "POSTERN_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to do; nothing said is `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the proxy (the default)
    #[default]
    Run,
    /// Check the configuration, print every problem or "ok", and touch nothing
    Check,
    /// Examine this installation and say what to mend; ends with 0 if all is well, 1 on warnings, 2 on errors
    Doctor {
        /// The report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say who could join if the session servers went down now, and why the others could not
    Readiness {
        /// Another configuration file, whose rules are judged beside those in use
        #[arg(long, value_name = "PATH")]
        with: Option<PathBuf>,
        /// Show some of the players with each reason
        #[arg(long)]
        names: bool,
        /// The report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List remembered players, show one, forget or lock one, or import some
    Sessions {
        /// What to do with them.
        #[command(subcommand)]
        action: SessionsAction,
    },
    /// Show what audit.log says, with its rotated files, the oldest first
    Audit(AuditArguments),
    /// Show the verdict on Mojang's session server, or force one for a while
    Auth {
        /// What to do about it.
        #[command(subcommand)]
        action: AuthAction,
    },
    /// List who is connected, and how each was proven
    Players {
        /// The list as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Send a player away; who may join may come back
    Kick {
        /// Name or id
        player: Whom,
        /// What the player reads, & colour codes and all [default: messages.kicked]
        #[arg(long, value_name = "TEXT", value_parser = kick_reason)]
        reason: Option<String>,
    },
    /// List bans, or end them before their time
    Bans {
        /// What to do with them.
        #[command(subcommand)]
        action: BansAction,
    },
    /// Say whether the proxy is alive; ends with 0 if it is
    // For those who restart what hangs. People have `auth status`.
    #[command(hide = true)]
    Health,
    /// What packages are made of.
    #[command(flatten)]
    Paper(Paper),
}

/// What the program can write about itself. Not shown in its help: packages hold these.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Paper {
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man {
        /// Write the pages of all commands into this folder instead
        #[arg(long, value_name = "PATH")]
        dir: Option<PathBuf>,
    },
    /// Print the reference of all keys of the configuration, in Markdown
    #[command(hide = true)]
    Reference,
}

/// What to show of audit.log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct AuditArguments {
    /// Go on with events as they happen; without --since, the newest 10 before
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
    /// Events of this name, as in login.refused, or of this kind, as in login; may be given several times
    #[arg(long, value_name = "EVENT")]
    pub event: Vec<Wanted>,
    /// Events about this player: name or id, proven or claimed
    #[arg(long, value_name = "PLAYER")]
    pub player: Option<Whom>,
    /// Events since then: so long ago, as in 90s, 30m, 2h or 7d, or at a time, as in 2026-11-21T20:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Events until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// The lines as they are: one JSON object each
    #[arg(long)]
    pub json: bool,
    /// Files to read instead of those that the configuration names; may be compressed with gzip; - is standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// What to do with remembered players.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SessionsAction {
    /// List remembered players
    List {
        /// Those with this in their name, in any case
        #[arg(long, value_name = "PART")]
        name: Option<String>,
        /// Those who have come from this address or network, as in 203.0.113.5 or 2001:db8::/32
        #[arg(long, value_name = "ADDRESS")]
        address: Option<Network>,
        /// Those whose session is locked
        #[arg(long)]
        locked: bool,
        /// Those seen within so long, as in 90s, 30m, 2h or 7d
        #[arg(long, value_name = "TIME")]
        seen_within: Option<Span>,
        /// Order: name, seen (newest first) or logins (most first)
        #[arg(long, value_name = "ORDER", default_value = "name")]
        sort: Sort,
        /// At most so many
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// The list as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show all that is remembered of a player
    Show {
        /// Name or id
        player: Whom,
        /// The session as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove the session of a player, or what is left of one; audit.log and bans stay
    Forget {
        /// Name or id
        player: Whom,
    },
    /// Let nobody in with a player's session during an outage until the player has logged in online once
    Lock {
        /// Name or id
        player: Whom,
    },
    /// Import players from a JSON array of {uuid, username, ip, last-login, logins, properties, pin-sha256}
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// Let the sessions count at once; else each counts once its player has logged in online
        #[arg(long)]
        trust: bool,
        /// Say what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
        /// What became of each row, as one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// What to do about the verdict on Mojang's session server.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AuthAction {
    /// Show it: whether logins are checked with Mojang, or there is an outage
    Status {
        /// The verdict as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Act as in an outage for a while: known players are let in by policy
    ForceDown {
        /// For how long, 1s to 24h, as in 90s, 30m or 2h; then the checks decide again
        #[arg(long = "for", value_name = "TIME", value_parser = override_span)]
        lasting: Span,
        /// The verdict as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Act as if Mojang answered for a while: nobody is let in by policy
    ForceUp {
        /// For how long, 1s to 24h, as in 90s, 30m or 2h; then the checks decide again
        #[arg(long = "for", value_name = "TIME", value_parser = override_span)]
        lasting: Span,
        /// The verdict as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let the checks decide again
    Auto {
        /// The verdict as one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// For how long a verdict may be forced.
fn override_span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: time::BadSpan| error.to_string())?;
    let seconds = span.length().unsigned_abs();
    if seconds.is_zero() || seconds > MAX_OVERRIDE {
        return Err("a verdict can be forced for 1s to 24h".to_owned());
    }
    Ok(span)
}

/// What a player who is sent away may read.
fn kick_reason(text: &str) -> Result<String, String> {
    if text.chars().nth(MAX_REASON).is_some() {
        return Err(format!("at most {MAX_REASON} characters"));
    }
    Ok(text.to_owned())
}

/// What to do with bans.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum BansAction {
    /// List the bans in force
    List {
        /// The list as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// End a ban, or all
    Lift {
        /// Whose, as `bans list` shows it: 203.0.113.5, 203.0.113.0/24, 2001:db8:1:2::/64, AS64496 or ID@ADDRESS
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        target: Option<Target>,
        /// All bans
        #[arg(long)]
        all: bool,
    },
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

impl Cli {
    /// Reads the command line, the program's name first. If there is nothing to do, because help was asked for or the
    /// arguments make no sense, that is said on the terminal.
    ///
    /// # Errors
    /// The code to end with: [`EXIT_OK`] after help and version, [`EXIT_USAGE`] after bad usage.
    pub fn read<I>(arguments: I) -> Result<Self, u8>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        Self::try_parse_from(arguments).map_err(|error| {
            // With standard output closed there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() { EXIT_USAGE } else { EXIT_OK }
        })
    }

    /// What to do.
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or_default()
    }

    /// The configuration file to use.
    pub fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Whether no file was named, so that `run` may write the default one.
    pub fn uses_default_config(&self) -> bool {
        self.config.is_none()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn run_is_the_default() {
        for (arguments, command) in [
            (&["postern"][..], Command::Run),
            (&["postern", "run"], Command::Run),
            (&["postern", "check"], Command::Check),
            (&["postern", "doctor"], Command::Doctor { json: false }),
            (&["postern", "doctor", "--json"], Command::Doctor { json: true }),
            (&["postern", "readiness"], Command::Readiness { with: None, names: false, json: false }),
            (
                &["postern", "readiness", "--with", "other.yml", "--names", "--json"],
                Command::Readiness { with: Some("other.yml".into()), names: true, json: true },
            ),
            (
                &["postern", "sessions", "show", "Notch"],
                Command::Sessions {
                    action: SessionsAction::Show { player: "Notch".parse().unwrap(), json: false },
                },
            ),
            (&["postern", "audit"], Command::Audit(AuditArguments::default())),
            (
                &["postern", "audit", "-f", "--event", "login", "--event", "ban.added", "a.log", "b.log"],
                Command::Audit(AuditArguments {
                    follow: true,
                    event: vec!["login".parse().unwrap(), "ban.added".parse().unwrap()],
                    files: vec!["a.log".into(), "b.log".into()],
                    ..AuditArguments::default()
                }),
            ),
            (
                &["postern", "auth", "force-down", "--for", "2h"],
                Command::Auth {
                    action: AuthAction::ForceDown { lasting: "2h".parse().unwrap(), json: false },
                },
            ),
            (
                &["postern", "kick", "Notch", "--reason", "Dinner is ready"],
                Command::Kick { player: "Notch".parse().unwrap(), reason: Some("Dinner is ready".into()) },
            ),
            (
                &["postern", "bans", "lift", "--all"],
                Command::Bans { action: BansAction::Lift { target: None, all: true } },
            ),
            (&["postern", "man", "--dir", "a"], Command::Paper(Paper::Man { dir: Some("a".into()) })),
        ] {
            assert_eq!(Cli::read(arguments).unwrap().command(), command, "{arguments:?}");
        }
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for arguments in [
            ["postern", "--config", "a.yml", "--log-format", "json", "check"],
            ["postern", "check", "--config", "a.yml", "--log-format", "json"],
        ] {
            let cli = Cli::read(arguments).unwrap();
            assert_eq!(cli.config_path(), Path::new("a.yml"));
            assert!(!cli.uses_default_config());
            assert_eq!((cli.log_format, cli.command()), (LogFormat::Json, Command::Check));
        }
    }

    #[test]
    fn bad_usage_ends_with_64_and_help_with_0() {
        for arguments in [
            &["postern", "dance"][..],
            &["postern", "--log-format", "xml"],
            &["postern", "run", "now"],
            &["postern", "check", "--json"],
            &["postern", "sessions"],
            &["postern", "sessions", "show"],
            &["postern", "sessions", "show", "a b"],
            &["postern", "sessions", "forget", "Notch", "Jeb"],
            &["postern", "sessions", "list", "--seen-within", "yesterday"],
            &["postern", "sessions", "list", "--address", "example.com"],
            &["postern", "sessions", "list", "--sort", "age"],
            &["postern", "sessions", "list", "--limit", "-1"],
            &["postern", "sessions", "import"],
            &["postern", "audit", "--event", "dance"],
            &["postern", "audit", "--player", "a b"],
            &["postern", "audit", "--since", "yesterday"],
            &["postern", "audit", "-f", "--until", "1h"],
            &["postern", "bans", "lift"],
            &["postern", "bans", "lift", "nobody"],
            &["postern", "bans", "lift", "203.0.113.5", "--all"],
            &["postern", "auth"],
            &["postern", "auth", "force-down"],
            &["postern", "auth", "force-down", "--for", "25h"],
            &["postern", "auth", "force-up", "--for", "0s"],
            &["postern", "auth", "force-up", "2h"],
            &["postern", "auth", "auto", "--for", "1h"],
            &["postern", "kick"],
            &["postern", "kick", "a b"],
        ] {
            assert_eq!(Cli::read(arguments), Err(EXIT_USAGE), "{arguments:?}");
        }
        for arguments in [["postern", "--help"], ["postern", "--version"]] {
            assert_eq!(Cli::read(arguments), Err(EXIT_OK), "{arguments:?}");
        }
    }
}
