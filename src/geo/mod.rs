//! Where an address is: country and network (ASN), from a web provider or from MaxMind DB files.
//!
//! The two say the same in the same type, [`crate::place::Place`]; [`Config`] says which of them is asked.

use std::{fmt, path::PathBuf, time::Duration};

mod answer;
pub mod database;
pub mod provider;

/// How addresses are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether they are looked up at all.
    pub enabled: bool,
    /// Who is asked.
    pub source: Source,
    /// Longest wait for one look-up.
    pub timeout: Duration,
    /// How long an answer of a web service is kept; zero keeps none.
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
