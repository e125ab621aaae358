//! Where an address is: country and network (ASN), from a web provider or from MaxMind DB files.
//!
//! The two say the same in the same type, [`Place`]; [`Config`] says which of them is asked. [`Geo`] is the handle for
//! logins: it asks about public addresses only, and never takes longer than the configuration allows.

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{address, place::Place, task::Shutdown};

mod answer;
mod cache;
pub mod database;
mod files;
mod metrics;
pub mod provider;
mod web;

use database::DatabaseError;
use metrics::{Lookup, Metrics};
use provider::{LookupError, Provider};

pub use files::{KNOWN, Subject};

/// How addresses are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether they are looked up at all.
    pub enabled: bool,
    /// Who is asked.
    pub source: Source,
    /// Longest wait for one look-up by a web service.
    pub timeout: Duration,
    /// How long the answers of a web service are kept; zero is not at all.
    pub cache_ttl: Duration,
}

/// Who is asked where an address is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A web service: its URL, in which `{ip}` stands for the address.
    Web {
        /// The URL.
        url: String,
    },
    /// MaxMind DB files: no address leaves the machine. At least one is named.
    Files {
        /// Has countries.
        country: Option<PathBuf>,
        /// Has networks.
        asn: Option<PathBuf>,
    },
}

/// Without the URL, which may hold the owner's key for the service.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web { .. } => f.debug_struct("Web").finish_non_exhaustive(),
            Self::Files { country, asn } => {
                f.debug_struct("Files").field("country", country).field("asn", asn).finish()
            }
        }
    }
}

/// Addresses cannot be looked up so. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing can be asked over HTTPS from here.
    #[error("monitoring.geo-provider-url: {0}")]
    Provider(#[source] LookupError),
    /// A database is missing or broken.
    #[error(
        "monitoring.{}: {} {error}; download it anew (geoipupdate does it), correct its path, or leave the key out",
        subject.key(), path.display()
    )]
    Database {
        /// Which one.
        subject: Subject,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: DatabaseError,
    },
}

/// Looks addresses up. Clones share everything.
#[derive(Clone, Debug)]
pub struct Geo(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held to look who is asked, not while somebody is.
    state: Mutex<State>,
    /// Others are asked from now on.
    changed: Notify,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct State {
    config: Config,
    by: By,
}

/// Another configuration, with its databases read; see [`Geo::prepare`].
#[derive(Debug)]
pub struct Prepared(State);

#[derive(Clone, Debug)]
enum By {
    /// Look-ups are switched off.
    Nobody,
    Web(web::Web),
    Files(Arc<files::Files>),
}

impl Geo {
    /// Opens what the configuration names; connects to nothing. Blocks while databases are read: not for a network
    /// thread. Switched off, it is a handle that knows nothing.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        let state = State { config: config.clone(), by: By::open(config, None, &metrics)? };
        Ok(Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), metrics })))
    }

    /// Opens what another configuration names, or the same: databases are read in any case, since their owner may have
    /// put others in their place. Connects to nothing, changes nothing.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, StartError> {
        let (before, config, metrics) = (self.state().clone(), config.clone(), self.metrics().clone());
        let opened = tokio::task::spawn_blocking(move || {
            let by = By::open(&config, Some(&before), &metrics)?;
            Ok(Prepared(State { config, by }))
        });
        // The task cannot be cancelled while somebody waits for it.
        opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Looks up as was prepared from now on; look-ups under way end as they began. Answers of the same web service stay,
    /// though none for longer than is said now.
    pub fn adopt(&self, Prepared(state): Prepared) {
        if let By::Web(web) = &state.by {
            web.keep_for(state.config.cache_ttl);
        }
        *self.state() = state;
        self.0.changed.notify_one();
    }

    /// Whether anything is looked up at all.
    pub fn is_enabled(&self) -> bool {
        !matches!(self.by(), By::Nobody)
    }

    /// What is known of an address without asking anybody: an answer that is kept, or what the databases say. `None`
    /// also for a private address.
    pub fn at_hand(&self, address: IpAddr) -> Option<Place> {
        let address = asked(address)?;
        match self.by() {
            By::Nobody => None,
            By::Web(web) => web.at_hand(address),
            By::Files(files) => files.look_up(address),
        }
    }

    /// Where an address is; at least one field of the answer is known. `None`: unknown, for whatever reason, also for a
    /// private address, which nobody is asked about. Takes at most [`Config::timeout`]; may be dropped at any point
    /// without harm to others who wait for the same.
    pub async fn look_up(&self, address: IpAddr) -> Option<Place> {
        let address = asked(address)?;
        match self.by() {
            By::Nobody => None,
            By::Web(web) => web.look_up(address).await,
            By::Files(files) => {
                let found = files.look_up(address);
                self.metrics().looked_up(if found.is_some() { Lookup::Found } else { Lookup::Unknown });
                found
            }
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Notices databases that are replaced, until the program stops.
    pub async fn run(self, stop: Shutdown) {
        loop {
            let by = self.by();
            let watching = async {
                match &by {
                    By::Files(files) => files.watch().await,
                    By::Nobody | By::Web(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.requested() => return,
                () = self.0.changed.notified() => {}
                // The runtime is going.
                () = watching => return,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is replaced whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by(&self) -> By {
        self.state().by.clone()
    }
}

impl By {
    /// Whom this configuration names. What is known of a web service stays, if it was asked `before`. Blocks while
    /// databases are read.
    fn open(config: &Config, before: Option<&State>, metrics: &Metrics) -> Result<Self, StartError> {
        Ok(match &config.source {
            _ if !config.enabled => Self::Nobody,
            Source::Web { url } => {
                let provider = Provider::new(url, config.timeout).map_err(StartError::Provider)?;
                Self::Web(match before {
                    Some(State { by: Self::Web(web), config: before }) if before.source == config.source => {
                        web.successor(provider, config.timeout)
                    }
                    _ => web::Web::new(provider, config.timeout, config.cache_ttl, metrics.clone()),
                })
            }
            Source::Files { country, asn } => {
                Self::Files(Arc::new(files::Files::open(country.as_deref(), asn.as_deref())?))
            }
        })
    }
}

/// The address to ask about: none if it is one that exists in many places.
fn asked(address: IpAddr) -> Option<IpAddr> {
    (!address::is_private(address)).then(|| address::unmap(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(source: Source) -> Config {
        Config { enabled: true, source, timeout: Duration::from_secs(2), cache_ttl: Duration::from_mins(5) }
    }

    #[tokio::test]
    async fn a_switch_turns_it_off() {
        let source = Source::Files { country: Some("/nonexistent".into()), asn: None };
        let off = Geo::new(&Config { enabled: false, ..config(source) }).unwrap();
        assert!(!off.is_enabled());
        let address = "203.0.113.5".parse().unwrap();
        assert_eq!((off.at_hand(address), off.look_up(address).await), (None, None));
        let (trigger, stop) = Shutdown::new();
        trigger.trigger();
        off.run(stop).await;
    }

    #[tokio::test]
    async fn nobody_is_asked_about_private_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{{ip}}", listener.local_addr().unwrap());
        let geo = Geo::new(&config(Source::Web { url })).unwrap();
        assert!(geo.is_enabled());
        for private in
            ["127.0.0.1", "::1", "10.1.2.3", "::ffff:192.168.1.1", "100.64.0.1", "fd00::1", "fe80::1"]
        {
            assert_eq!(geo.look_up(private.parse().unwrap()).await, None, "{private}");
        }
        let waiting = std::pin::pin!(listener.accept());
        assert!(futures_now(waiting).is_none(), "somebody came to ask");
    }

    /// The outcome if there is one by now.
    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    fn database(code: &str) -> Vec<u8> {
        database::writer::Mmdb::v4("GeoLite2-Country")
            .with("0.0.0.0/0", &database::writer::country(code))
            .bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn another_configuration_takes_effect_behind_every_clone_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), database("DE")).unwrap();
        std::fs::write(path("b"), database("FR")).unwrap();
        let files = |name: &str| config(Source::Files { country: Some(path(name)), asn: None });
        let address = "203.0.113.5".parse().unwrap();
        let geo = Geo::new(&Config { enabled: false, ..files("a") }).unwrap();
        let clone = geo.clone();
        let (trigger, stop) = Shutdown::new();
        let running = tokio::spawn(geo.clone().run(stop));
        let says = || clone.at_hand(address).map(|place| place.to_string());

        let prepared = geo.prepare(&files("a")).await.unwrap();
        assert_eq!(says(), None, "not adopted yet");
        drop(prepared);
        for (name, expected) in [("a", "country DE, no network"), ("b", "country FR, no network")] {
            geo.adopt(geo.prepare(&files(name)).await.unwrap());
            assert_eq!(says().as_deref(), Some(expected));
        }
        // The same name, and another file under it.
        std::fs::write(path("b"), database("NL")).unwrap();
        geo.adopt(geo.prepare(&files("b")).await.unwrap());
        assert_eq!(says().as_deref(), Some("country NL, no network"));
        std::fs::write(path("b"), "<html>").unwrap();
        assert!(matches!(geo.prepare(&files("b")).await, Err(StartError::Database { .. })));
        assert_eq!(says().as_deref(), Some("country NL, no network"));
        // It is the new file that is watched now.
        std::fs::write(path("b"), database("US")).unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(says().as_deref(), Some("country US, no network"));
        geo.adopt(geo.prepare(&Config { enabled: false, ..files("b") }).await.unwrap());
        assert!(!clone.is_enabled() && says().is_none());
        trigger.trigger();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_the_same_service_stay() {
        let web = |url: &str| config(Source::Web { url: format!("http://127.0.0.1:1/{url}/{{ip}}") });
        let geo = Geo::new(&web("a")).unwrap();
        let address = "203.0.113.5".parse().unwrap();
        assert_eq!(geo.look_up(address).await, None);
        let By::Web(before) = geo.by() else { panic!("no web") };
        let is_known = || matches!(geo.by(), By::Web(web) if web.knows(address));
        assert!(before.knows(address) && is_known());
        let patient = Config { timeout: Duration::from_secs(9), ..web("a") };
        geo.adopt(geo.prepare(&patient).await.unwrap());
        assert!(is_known());
        let forgetful = Config { cache_ttl: Duration::ZERO, ..web("a") };
        geo.adopt(geo.prepare(&forgetful).await.unwrap());
        assert!(!is_known());
        geo.adopt(geo.prepare(&web("a")).await.unwrap());
        assert_eq!(geo.look_up(address).await, None);
        assert!(is_known());
        geo.adopt(geo.prepare(&web("b")).await.unwrap());
        assert!(!is_known(), "another service may know better");
    }

    #[test]
    fn what_is_wrong_with_a_database_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("asn.mmdb");
        std::fs::write(&broken, "<html>sign in to download</html>").unwrap();
        let missing = folder.path().join("country.mmdb");
        for (source, key, path) in [
            (Source::Files { country: Some(missing.clone()), asn: None }, "geo-country-database", &missing),
            (Source::Files { country: None, asn: Some(broken.clone()) }, "geo-asn-database", &broken),
        ] {
            let said = Geo::new(&config(source)).unwrap_err().to_string();
            for part in [&format!("monitoring.{key}: "), &path.display().to_string(), "geoipupdate"] {
                assert!(said.contains(part), "{said}");
            }
        }
    }
}
