//! Where an address is: country and network (ASN), from a web provider or from MaxMind DB files.
//!
//! The two say the same in the same type, [`Place`]; [`Config`] says which of them is asked. [`Geo`] is the handle for
//! logins: it asks about public addresses only, and never takes longer than the configuration allows.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{address, place::Place, task::Shutdown};

mod answer;
mod cache;
pub mod database;
mod files;
pub mod provider;
mod web;

use database::DatabaseError;
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

/// The proxy cannot start. Each message says what to do.
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
pub struct Geo(By);

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
        Ok(Self(match &config.source {
            _ if !config.enabled => By::Nobody,
            Source::Web { url } => {
                let provider = Provider::new(url, config.timeout).map_err(StartError::Provider)?;
                By::Web(web::Web::new(provider, config.timeout, config.cache_ttl))
            }
            Source::Files { country, asn } => {
                By::Files(Arc::new(files::Files::open(country.as_deref(), asn.as_deref())?))
            }
        }))
    }

    /// Whether anything is looked up at all.
    pub fn is_enabled(&self) -> bool {
        !matches!(self.0, By::Nobody)
    }

    /// What is known of an address without asking anybody: an answer that is kept, or what the databases say. `None`
    /// also for a private address.
    pub fn at_hand(&self, address: IpAddr) -> Option<Place> {
        let address = asked(address)?;
        match &self.0 {
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
        match &self.0 {
            By::Nobody => None,
            By::Web(web) => web.look_up(address).await,
            By::Files(files) => files.look_up(address),
        }
    }

    /// Notices databases that are replaced, until the program stops. Returns at once if there are none.
    pub async fn run(self, stop: Shutdown) {
        if let By::Files(files) = self.0 {
            files.watch(stop).await;
        }
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
        let (_trigger, stop) = Shutdown::new();
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
