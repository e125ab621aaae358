//! MaxMind DB files.

use std::{collections::HashSet, fs, net::IpAddr, path::Path};

use jiff::Timestamp;
use maxminddb::{LookupResult, Reader, WithinOptions, geoip2};

use crate::place::{Country, Place};

/// A database in memory.
#[derive(Debug)]
pub struct Database {
    reader: Reader<Vec<u8>>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file is something else, or damaged.
    #[error("is no whole MaxMind DB file: {0}")]
    Format(#[from] maxminddb::MaxMindDbError),
    /// Its search tree does not end.
    #[error("is no whole MaxMind DB file: it holds more networks than it has room for")]
    Endless,
}

impl Database {
    /// Reads the whole file, and every record in it, so that what is damaged shows now and not at somebody's login:
    /// a second for the largest. Blocks.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::from_bytes(fs::read(path)?)
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let database = Self { reader: Reader::from_source(bytes)? };
        database.read_through()?;
        Ok(database)
    }

    fn read_through(&self) -> Result<(), DatabaseError> {
        // A tree has one leaf more than it has nodes, and here and there a branch is grown on twice; one whose branches
        // lead back up has no end.
        let most = self.reader.metadata().node_count.saturating_mul(3);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut seen = HashSet::new();
        for (count, found) in self.reader.networks(WithinOptions::default())?.enumerate() {
            if count > most {
                return Err(DatabaseError::Endless);
            }
            let found = found?;
            // Many networks share one record.
            if found.offset().is_some_and(|offset| seen.insert(offset)) {
                read(&found)?;
            }
        }
        Ok(())
    }

    /// What it calls itself: `GeoLite2-Country`.
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was made.
    pub fn built_at(&self) -> Timestamp {
        let seconds = i64::try_from(self.reader.metadata().build_epoch).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    /// What it tells of an address: a country, a network, or both, by its kind; nothing if it does not list the
    /// address.
    ///
    /// # Errors
    /// [`DatabaseError::Format`] if the file is damaged there.
    pub fn look_up(&self, address: IpAddr) -> Result<Place, DatabaseError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(Place::default());
        }
        read(&self.reader.lookup(address)?)
    }
}

fn read(found: &LookupResult<'_, Vec<u8>>) -> Result<Place, DatabaseError> {
    // Fields that a kind does not have are left out by both.
    let country: Option<geoip2::Country<'_>> = found.decode()?;
    let network: Option<geoip2::Asn<'_>> = found.decode()?;
    Ok(Place {
        country: country.and_then(|found| Country::parse(found.country.iso_code?)),
        asn: network.and_then(|found| found.autonomous_system_number).filter(|asn| *asn != 0),
    })
}

#[cfg(test)]
#[path = "../../tests/support/mmdb.rs"]
#[allow(unreachable_pub, clippy::pedantic, reason = "it is written for the tests of the whole program")]
pub(crate) mod writer;

#[cfg(test)]
mod tests {
    use super::{
        writer::{Mmdb, country, network},
        *,
    };

    /// A database in which every IPv4 address has these data.
    fn file(kind: &str, data: &[u8]) -> Vec<u8> {
        Mmdb::v4(kind).built(1_700_000_000).with("0.0.0.0/0", data).bytes()
    }

    fn look_up(database: &Database, address: &str) -> String {
        database.look_up(address.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn countries_and_networks() {
        for (kind, data, expected) in [
            ("GeoLite2-Country", country("US"), "country US, no network"),
            ("GeoLite2-ASN", network(64_496), "no country, network AS64496"),
            ("GeoLite2-Country", country("us"), "no country, no network"),
            ("GeoLite2-ASN", network(0), "no country, no network"),
        ] {
            let database = Database::from_bytes(file(kind, &data)).unwrap();
            assert_eq!(database.kind(), kind);
            assert_eq!(database.built_at().to_string(), "2023-11-14T22:13:20Z");
            assert_eq!(look_up(&database, "203.0.113.5"), expected);
            assert_eq!(look_up(&database, "2001:db8::1"), "no country, no network", "it has IPv4 alone");
        }
    }

    #[test]
    fn a_tree_of_ipv6_has_ipv4_in_it() {
        let bytes = Mmdb::v6("GeoLite2-Country")
            .with("203.0.113.0/24", &country("DE"))
            .with("203.0.113.128/25", &country("FR"))
            .with("198.51.100.7/32", &country("NL"))
            .with("2001:db8::/32", &country("US"))
            .with("2001:db8:1::/48", &country("DE"))
            .bytes();
        let database = Database::from_bytes(bytes).unwrap();
        for (address, expected) in [
            ("203.0.113.127", "country DE"),
            ("203.0.113.128", "country FR"),
            ("203.0.112.255", "no country"),
            ("198.51.100.7", "country NL"),
            ("198.51.100.6", "no country"),
            ("2001:db8:2::1", "country US"),
            ("2001:db8:1:ffff::1", "country DE"),
            ("2001:db9::1", "no country"),
        ] {
            assert_eq!(look_up(&database, address), format!("{expected}, no network"), "{address}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [Vec::new(), b"GIF89a".to_vec(), vec![0xff; 4096]] {
            assert!(matches!(Database::from_bytes(bytes), Err(DatabaseError::Format(_))));
        }
        let gone = Database::open(Path::new("/nonexistent/GeoLite2.mmdb")).unwrap_err();
        assert!(gone.to_string().starts_with("cannot be read: "), "{gone}");
        // Cut at every byte: an error, or an answer, but no panic.
        let whole = file("GeoLite2-Country", &country("US"));
        for len in 0..whole.len() {
            if let Ok(database) = Database::from_bytes(whole[..len].to_vec()) {
                let _ = database.look_up("203.0.113.5".parse().unwrap());
            }
        }
    }

    #[test]
    fn damage_shows_when_the_file_is_opened() {
        let data = country("DE");
        let whole =
            Mmdb::v4("GeoLite2-Country").with("203.0.113.0/24", &data).with("1.0.0.0/8", &data).bytes();
        Database::from_bytes(whole.clone()).unwrap();
        // A text whose length leads beyond the end of the data.
        let at = whole.windows(2).position(|two| two == b"DE").unwrap();
        let mut torn = whole.clone();
        torn[at - 1] = 0x5d;
        assert!(matches!(Database::from_bytes(torn), Err(DatabaseError::Format(_))));
        // Every branch of the tree leads back to its root.
        let nodes = whole.windows(16).position(|window| window == [0; 16]).unwrap();
        let mut endless = whole;
        endless[..nodes - nodes % 6].fill(0);
        assert!(Database::from_bytes(endless).is_err());
    }
}
