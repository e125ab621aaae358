//! MaxMind DB files.

use std::{fs, net::IpAddr, path::Path};

use jiff::Timestamp;
use maxminddb::{Reader, geoip2};

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
}

impl Database {
    /// Reads the whole file. Blocks.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::from_bytes(fs::read(path)?)
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        Ok(Self { reader: Reader::from_source(bytes)? })
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
        let found = self.reader.lookup(address)?;
        // Fields that a kind does not have are left out by both.
        let country: Option<geoip2::Country<'_>> = found.decode()?;
        let network: Option<geoip2::Asn<'_>> = found.decode()?;
        Ok(Place {
            country: country.and_then(|found| Country::parse(found.country.iso_code?)),
            asn: network.and_then(|found| found.autonomous_system_number).filter(|asn| *asn != 0),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A database in which every IPv4 address has these data, written out by the format's definition.
    pub(crate) fn file(kind: &str, built: u64, data: &[u8]) -> Vec<u8> {
        // One node; both its records lead to the first byte of the data: number of nodes, plus 16, plus 0.
        let mut bytes = vec![0, 0, 17, 0, 0, 17];
        bytes.extend([0; 16]);
        bytes.extend(data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        let number = |value: u64| [&[0x08, 0x02][..], &value.to_be_bytes()].concat();
        let fields: [(&str, Vec<u8>); 9] = [
            ("binary_format_major_version", vec![0xa1, 2]),
            ("binary_format_minor_version", vec![0xa0]),
            ("build_epoch", number(built)),
            ("database_type", text(kind)),
            ("description", vec![0xe0]),
            ("ip_version", vec![0xa1, 4]),
            ("languages", vec![0x00, 0x04]),
            ("node_count", vec![0xc1, 1]),
            ("record_size", vec![0xa1, 24]),
        ];
        bytes.push(0xe0 | 9);
        for (name, value) in fields {
            bytes.extend(text(name));
            bytes.extend(value);
        }
        bytes
    }

    /// A text of up to 28 bytes.
    pub(crate) fn text(text: &str) -> Vec<u8> {
        assert!(text.len() <= 28);
        [&[0x40 | u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
    }

    /// `{"country": {"iso_code": code}}`
    pub(crate) fn country(code: &str) -> Vec<u8> {
        [vec![0xe1], text("country"), vec![0xe1], text("iso_code"), text(code)].concat()
    }

    /// `{"autonomous_system_number": asn}`
    pub(crate) fn network(asn: u32) -> Vec<u8> {
        [vec![0xe1], text("autonomous_system_number"), vec![0xc4], asn.to_be_bytes().to_vec()].concat()
    }

    #[test]
    fn countries_and_networks() {
        let address = "203.0.113.5".parse().unwrap();
        for (kind, data, expected) in [
            ("GeoLite2-Country", country("US"), "country US, no network"),
            ("GeoLite2-ASN", network(64_496), "no country, network AS64496"),
            ("GeoLite2-Country", country("us"), "no country, no network"),
            ("GeoLite2-ASN", network(0), "no country, no network"),
        ] {
            let database = Database::from_bytes(file(kind, 1_700_000_000, &data)).unwrap();
            assert_eq!(database.kind(), kind);
            assert_eq!(database.built_at().to_string(), "2023-11-14T22:13:20Z");
            assert_eq!(database.look_up(address).unwrap().to_string(), expected);
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
        let whole = file("GeoLite2-Country", 1, &country("US"));
        for len in 0..whole.len() {
            if let Ok(database) = Database::from_bytes(whole[..len].to_vec()) {
                let _ = database.look_up("203.0.113.5".parse().unwrap());
            }
        }
    }
}
