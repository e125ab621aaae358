//! The configuration file: read whole, every problem reported at once, and resolved into each room's own `Config`.
//!
//! [`load`] goes through four steps: text to a tree that knows lines and quotes, tree to checked values (one row per
//! key), secrets, and values to the rooms' configurations. Nothing is guessed: an unknown key, a wrong type, a value
//! that YAML may have changed or a rule that this version cannot keep stops the start.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    admin, alert, audit, backend, disk, geo, limit, login, messages::Messages, mojang, net, pin,
    policy::rules::Rules, relay, session, statistics, status,
};

mod kinds;
mod problem;
mod read;
mod reference;
mod resolve;
mod schema;
mod secret;
mod settings;
mod tree;

pub use problem::{Place, Problem, Report, Severity};
pub use reference::reference;
pub use secret::Environment;
pub use settings::{Changes, Settings};

pub use crate::secret::open_to_others;

use problem::{Findings, Spot};
use read::{Reading, Section};

/// The file that is used, and written at the first start, if no other is named.
pub const DEFAULT_PATH: &str = "config.yml";

/// The commented file that a first start writes. Its values are the built-in defaults.
pub const EXAMPLE: &str = include_str!("../../config.example.yml");

/// Longest configuration file, in bytes: a wrong path may lead to anything.
const MAX_FILE: usize = 1024 * 1024;

/// What to do about a file that belongs to somebody else, as a rule to the user that the proxy runs as.
const AS_WHOM: &str = "it must belong to the user that runs Postern, and commands are used as that user: sudo -u USER postern …";

/// What the configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run by it: a missing global secret file is written.
    Run,
    /// To take over changes while running: nothing is written, and a missing secret is a problem.
    Reload,
    /// To check it: nothing is touched. Backends whose secret is still to be written have none.
    Check,
}

/// Everything the proxy runs by. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where connections are taken.
    pub net: net::Config,
    /// How logins are treated.
    pub login: login::Config,
    /// How the session server is asked.
    pub session_server: mojang::session_server::Config,
    /// Where Mojang's keys for players' keys come from.
    pub player_keys: mojang::player_keys::Config,
    /// When the session server counts as down.
    pub health: mojang::health::Config,
    /// Where sessions are kept.
    pub session: session::Config,
    /// How PINs are kept and asked for.
    pub pins: pin::Config,
    /// Whom an outage login lets in.
    pub rules: Rules,
    /// Backends and the way to them.
    pub backend: backend::Config,
    /// How the pipe treats silence.
    pub relay: relay::Config,
    /// How server list pings are answered.
    pub status: status::Config,
    /// Where events go.
    pub audit: audit::Config,
    /// How addresses are looked up.
    pub geo: geo::Config,
    /// Whether counters are kept for Prometheus.
    pub metrics: bool,
    /// Whether audit.log is told of players whose country or network is new for them.
    pub alert_on_geo_change: bool,
    /// Who is alerted of what.
    pub alerts: alert::Config,
    /// How much is taken from whom.
    pub limit: limit::Config,
    /// Where totals are kept.
    pub statistics: statistics::Config,
    /// The admin interface.
    pub admin: admin::Config,
    /// Every text a player sees.
    pub messages: Messages,
    /// How long logins and writes may take to finish when the proxy stops.
    pub shutdown_grace: Duration,
    /// The file all this stands in, as its path was given.
    pub source: PathBuf,
    /// What every key holds, to tell what changed.
    pub settings: Settings,
}

impl Config {
    /// How `fresh` differs from this, key by key. Keys that have no effect in either are left out: those of an admin
    /// interface that is off, and the forwarding secret's file where the environment holds the secret.
    pub fn changes(&self, fresh: &Self) -> Changes {
        self.settings.changes(&fresh.settings, |key| self.means_the_same(fresh, key))
    }

    /// Whether what stands under the key comes to the same, though it is written otherwise. To say that of the addresses
    /// it listens on is to spare owners a restart; to say it of others, a look.
    fn means_the_same(&self, fresh: &Self, key: &str) -> bool {
        match key {
            "bind" => sorted(&self.net.bind) == sorted(&fresh.net.bind),
            "admin.listen" => self.admin.listen == fresh.admin.listen,
            "admin.token-file" | "admin.allowed-hosts" => {
                self.admin.listen.is_none() && fresh.admin.listen.is_none()
            }
            "auth.session-server" => self.session_server.base_url == fresh.session_server.base_url,
            "auth.services" => self.player_keys.services == fresh.player_keys.services,
            "session-cache.directory" => self.session.directory == fresh.session.directory,
            "security.ban-file" => self.limit.bans.file == fresh.limit.bans.file,
            _ => false,
        }
    }
}

/// A good configuration, and what its owner should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run by.
    pub config: Config,
    /// What may hurt.
    pub warnings: Vec<Problem>,
    /// What is good to know.
    pub notes: Vec<Problem>,
}

/// Reads, checks and resolves the file at `path`. For [`Purpose::Run`], once everything else is good, a missing global
/// secret file is written.
///
/// # Errors
/// A report of every problem found, in the order of the file.
pub fn load(path: &Path, environment: &Environment, purpose: Purpose) -> Result<Loaded, Report> {
    let findings = Findings::new(path);
    let config =
        read_text(path, &findings).and_then(|text| examine(&text, path, environment, purpose, &findings));
    let (config, warnings, notes) = findings.finish(config)?;
    Ok(Loaded { config, warnings, notes })
}

/// Where a running proxy is found.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The folder of its sessions, whose lock file says where it is asked.
    pub directory: PathBuf,
    /// Its admin interface.
    pub admin: admin::Config,
}

impl Whereabouts {
    /// As the file at `path` says, as far as it can be understood, and by default for the rest: whoever has to reach a
    /// proxy that runs does so whatever else is wrong with the file by now.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let bytes = disk::read_small(path, MAX_FILE)?;
        Ok(Self::in_text(&String::from_utf8_lossy(&bytes), path))
    }

    /// As it is by default for a configuration at `path`.
    pub fn by_default(path: &Path) -> Self {
        Self::in_text("", path)
    }

    fn in_text(text: &str, path: &Path) -> Self {
        let findings = Findings::new(path);
        let place = Place { line: 1, column: 1 };
        let empty = || tree::Node { place, value: tree::Value::Mapping(Vec::new()) };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = tree::parse(text, &findings)
            .filter(|root| matches!(root.value, tree::Value::Mapping(_)))
            .unwrap_or_else(empty);
        let reading = Reading::new(&findings);
        let said =
            Section::root(&reading, &root).map(|section| schema::values(section, folder(path), &findings));
        match said {
            Some(values) => Self { directory: values.session_cache.directory, admin: values.admin },
            // Not with a mapping.
            None => Self {
                directory: folder(path).join("sessions"),
                admin: admin::Config {
                    listen: None,
                    listen_is_chosen: false,
                    token_file: folder(path).join("admin.token"),
                    allowed_hosts: Vec::new(),
                },
            },
        }
    }
}

impl From<&Config> for Whereabouts {
    fn from(config: &Config) -> Self {
        Self { directory: config.session.directory.clone(), admin: config.admin.clone() }
    }
}

/// Writes the commented default file at `path`, and `forwarding.secret` with a random secret beside it, readable by the
/// owner only. Files that exist are left alone: if the configuration exists nothing is written.
///
/// Returns the files written, none if the configuration exists.
///
/// # Errors
/// Whatever kept a file from being written; files written before it stay.
pub fn write_default(path: &Path) -> io::Result<Vec<PathBuf>> {
    match crate::secret::write_new(path, EXAMPLE.as_bytes(), false) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut written = vec![path.to_owned()];
    let beside = folder(path).join(secret::DEFAULT_FILE);
    match crate::secret::write_random(&beside) {
        Ok(()) => written.push(beside),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(written)
}

fn sorted(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses
}

fn read_text(path: &Path, findings: &Findings) -> Option<String> {
    let (what, hint) = match disk::read_small(path, MAX_FILE) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Some(text),
            Err(error) => {
                let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let line = good.split(|byte| *byte == b'\n').count();
                (format!("is not UTF-8 text; the first bad byte is in line {line}"), "save the file as UTF-8")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = "check --config and POSTERN_CONFIG; without either, postern run writes a config.yml";
            ("does not exist".to_owned(), hint)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            (format!("cannot be read: {error}"), AS_WHOM)
        }
        Err(error) => (format!("cannot be read: {error}"), "it must be a file that this user may read"),
    };
    findings.error(&Spot::file(), what, Some(hint.to_owned()));
    None
}

/// All steps after reading the file. `None` only if an error was found.
fn examine(
    text: &str,
    path: &Path,
    environment: &Environment,
    purpose: Purpose,
    findings: &Findings,
) -> Option<Config> {
    // Some editors put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(root) = tree::parse(text, findings) else {
        if !findings.any_error() {
            let hint = "name at least one backend, as in backends: {lobby: {address: \"127.0.0.1:25566\"}}";
            findings.error(&Spot::file(), "the file is empty", Some(hint.to_owned()));
        }
        return None;
    };
    let reading = Reading::new(findings);
    let values =
        Section::root(&reading, &root).map(|section| schema::values(section, folder(path), findings));
    let settings = Settings::new(reading.finish(), defaults().as_ref());
    resolve::resolve(values?, settings, path, environment, purpose, findings)
}

/// The commented file as a tree. A test makes sure that it is one.
fn defaults() -> Option<tree::Node> {
    tree::parse(EXAMPLE, &Findings::new(Path::new("")))
}

/// The folder that relative paths are relative to; empty for the working folder.
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests;
