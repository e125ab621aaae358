//! Players in plain numbers: made up by a seeded generator, as sessions and as documents.

#![allow(missing_docs, unreachable_pub, reason = "a part of one test")]

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use postern::{
    identity::Username,
    place::{Country, Place},
    session::record::{Rehearsal, Session, VerifiedAddress},
};
use serde_json::{Value, json};
use uuid::Uuid;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A small generator (xorshift64*); the same seed is the same store on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// So many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A verified address. Times are seconds before now.
#[derive(Clone, Debug)]
pub struct Address {
    pub ip: IpAddr,
    pub ago: i64,
    pub country: Option<&'static str>,
    pub asn: Option<u32>,
}

/// The newest verified login, and the verified addresses before it.
#[derive(Clone, Debug)]
pub struct Login {
    pub ago: i64,
    pub ip: IpAddr,
    pub country: Option<&'static str>,
    pub asn: Option<u32>,
    pub protocol: i32,
    pub before: Vec<Address>,
}

#[derive(Clone, Debug)]
pub struct Friend {
    pub id: u128,
    pub name: Option<String>,
    pub last_verified: i64,
    pub present: Option<i64>,
    pub logins: u32,
    pub locked: bool,
    pub pin: bool,
    /// Somebody was asked for the PIN on a backend, and did not know it.
    pub unproven: bool,
    /// Came by an import, and has not logged in since.
    pub imported: bool,
    pub addresses: Vec<Address>,
    pub denied: Vec<(Option<&'static str>, Option<u32>)>,
    pub login: Option<Login>,
}

impl Friend {
    /// Whom the built-in rules let in: ten logins, the newest an hour ago, from the same address as ever.
    pub fn at_home(number: u128) -> Self {
        let ip = "203.0.113.5".parse().unwrap();
        let address = |ago| Address { ip, ago, country: None, asn: None };
        Self {
            id: number,
            name: Some(format!("Friend{number}")),
            last_verified: HOUR,
            present: None,
            logins: 10,
            locked: false,
            pin: false,
            unproven: false,
            imported: false,
            addresses: vec![address(HOUR)],
            denied: Vec::new(),
            login: Some(Login {
                ago: HOUR,
                ip,
                country: None,
                asn: None,
                protocol: 774,
                before: vec![address(5 * HOUR)],
            }),
        }
    }

    pub fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.id)
    }

    /// Whether its newest login was with a game that has dialogs; where nothing tells, it was.
    pub fn dialogs(&self) -> bool {
        self.login.as_ref().is_none_or(|login| login.protocol >= 771)
    }

    /// Came by a trusted import.
    pub fn import(&mut self) {
        (self.imported, self.login) = (true, None);
    }

    /// Its newest login was so long ago.
    pub fn stay_away(&mut self, seconds: i64) {
        self.last_verified = seconds;
        self.addresses[0].ago = seconds;
        if let Some(login) = &mut self.login {
            login.ago = seconds;
            login.before[0].ago = seconds + HOUR;
        }
    }

    /// Its newest login came from the second address, all before from the first.
    pub fn move_to(&mut self, from: &str, to: &str) {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        self.addresses[0].ip = to;
        if let Some(login) = &mut self.login {
            login.ip = to;
            login.before[0].ip = from;
        }
    }

    pub fn session(&self, now: Timestamp) -> Session {
        let at = |ago: i64| now - SignedDuration::from_secs(ago);
        let place = |country: Option<&str>, asn| Place { country: country.and_then(Country::parse), asn };
        let addresses = |addresses: &[Address]| {
            let known = |known: &Address| VerifiedAddress {
                address: known.ip,
                verified: at(known.ago),
                place: place(known.country, known.asn),
            };
            addresses.iter().map(known).collect()
        };
        Session {
            id: self.uuid(),
            name: self.name.as_ref().map(|name| Username::parse(name).unwrap()),
            first_verified: at(100 * DAY),
            last_verified: at(self.last_verified),
            last_present: self.present.map(at),
            verified_logins: self.logins,
            fallback_logins: 0,
            addresses: addresses(&self.addresses),
            last_without_dialogs: (!self.imported && !self.dialogs()).then(|| at(self.last_verified)),
            last_with_dialogs: (!self.imported && self.dialogs()).then(|| at(self.last_verified)),
            unproven_quarantine: self.unproven,
            pin_hash: self.pin.then(|| "$argon2id$".to_owned()),
            locked: self.locked,
            denied_networks: self.denied.iter().map(|(country, asn)| place(*country, *asn)).collect(),
            rehearsal: self.login.as_ref().map(|login| {
                Box::new(Rehearsal {
                    at: at(login.ago),
                    address: login.ip,
                    place: place(login.country, login.asn),
                    protocol: login.protocol,
                    addresses: addresses(&login.before),
                })
            }),
        }
    }

    /// The document on disk: its path in the store, and its text.
    pub fn document(&self, now: Timestamp) -> (String, String) {
        let at = |ago: i64| json!((now - SignedDuration::from_secs(ago)).to_string());
        let with_place = |mut value: Value, country: Option<&str>, asn: Option<u32>| {
            if let Some(country) = country {
                value["country"] = json!(country);
            }
            if let Some(asn) = asn {
                value["asn"] = json!(asn);
            }
            value
        };
        let addresses = |addresses: &[Address]| -> Vec<Value> {
            let known = |known: &Address| {
                let value = json!({"address": known.ip.to_string(), "verified": at(known.ago)});
                with_place(value, known.country, known.asn)
            };
            addresses.iter().map(known).collect()
        };
        let mut document = json!({
            "version": 1,
            "id": self.uuid().to_string(),
            "name": self.name,
            "first_verified": at(100 * DAY),
            "last_verified": at(self.last_verified),
            "last_present": self.present.map(at),
            "verified_logins": self.logins,
            "addresses": addresses(&self.addresses),
            "locked": self.locked,
            "properties": [],
        });
        if !self.imported {
            let kind = if self.dialogs() { "last_with_dialogs" } else { "last_without_dialogs" };
            document[kind] = at(self.last_verified);
        }
        if self.pin {
            document["pin_hash"] = json!("$argon2id$");
        }
        if self.unproven {
            document["unproven_quarantine"] = json!(true);
        }
        if !self.denied.is_empty() {
            let denied = self.denied.iter().map(|(country, asn)| with_place(json!({}), *country, *asn));
            document["denied_networks"] = denied.collect();
        }
        if let Some(login) = &self.login {
            let mut rehearsal = json!({
                "at": at(login.ago),
                "address": login.ip.to_string(),
                "protocol": login.protocol,
                "addresses": addresses(&login.before),
            });
            if login.country.is_some() || login.asn.is_some() {
                rehearsal["place"] = with_place(json!({}), login.country, login.asn);
            }
            document["rehearsal"] = rehearsal;
        }
        let id = self.uuid().to_string();
        (format!("{}/{id}.json", &id[..2]), document.to_string())
    }
}

/// Those that the store does not take for unused.
pub fn live(friends: &[Friend]) -> usize {
    friends.iter().filter(|friend| seen(friend) < 36 * DAY).count()
}

/// When a friend was seen last.
pub fn seen(friend: &Friend) -> i64 {
    friend.present.map_or(friend.last_verified, |present| present.min(friend.last_verified))
}

/// A store full of people. Every time lies half an hour beside the full hour, so that no rule's limit, in hours, is met
/// within the seconds that a test takes.
pub fn friends(count: u64, seed: u64) -> Vec<Friend> {
    let mut random = Random(seed);
    (0..count).map(|number| friend(number, count, &mut random)).collect()
}

fn hours(random: &mut Random, most: u64) -> i64 {
    random.below(most) as i64 * HOUR + HOUR / 2
}

fn friend(number: u64, count: u64, random: &mut Random) -> Friend {
    let longest = random.one_of(&[40, 40, 100, 24 * 12, 24 * 45]);
    let last_verified = hours(random, longest);
    let home = ip(number, count, random);
    let country = |random: &mut Random| random.one_of(&[None, None, Some("DE"), Some("DE"), Some("FR")]);
    let asn =
        |random: &mut Random| random.one_of(&[None, Some(64496), Some(64497), Some(64498), Some(64499)]);
    let known = |ip: IpAddr, ago: i64, random: &mut Random| Address {
        ip,
        ago,
        country: country(random),
        asn: asn(random),
    };
    let mut before = Vec::new();
    let mut ago = last_verified;
    for _ in 0..random.below(4) {
        // Half an hour more, or the sum would be whole hours.
        ago += HOUR / 2 + hours(random, 150);
        let from = if random.percent(60) { near(home, random) } else { ip(number, count, random) };
        before.push(known(from, ago, random));
    }
    let from = if random.percent(5) { near(home, random) } else { home };
    let newest = known(from, last_verified, random);
    let mut addresses = vec![newest.clone()];
    addresses.extend(before.iter().filter(|known| known.ip != from).take(3).cloned());
    let login = Login {
        ago: last_verified,
        ip: from,
        country: newest.country,
        asn: newest.asn,
        protocol: random.one_of(&[47, 340, 765, 766, 770, 771, 774, 774]),
        before,
    };
    // Of a few the name is shared with the one before, in another case, or gone.
    let name = if random.percent(1) {
        Some(format!("PLAYER{}", number.saturating_sub(1)))
    } else {
        (!random.percent(1)).then(|| format!("Player{number}"))
    };
    let imported = random.percent(5);
    Friend {
        id: u128::from(number % 256) << 120 | u128::from(number + 1),
        name,
        last_verified,
        present: random.percent(50).then(|| (last_verified - random.below(30) as i64 * HOUR).max(0)),
        logins: if random.percent(20) { random.below(4) as u32 + 1 } else { random.below(500) as u32 + 3 },
        locked: random.percent(2),
        pin: random.percent(20),
        unproven: random.percent(30),
        addresses,
        denied: if random.percent(5) { vec![(country(random), asn(random))] } else { Vec::new() },
        imported,
        login: (!imported && random.percent(95)).then_some(login),
    }
}

/// Most have an address of their own; some share one with many, some are behind something.
fn ip(number: u64, count: u64, random: &mut Random) -> IpAddr {
    let own = number * 7 + random.below(3);
    let [.., b, c, d] = own.to_be_bytes();
    match random.below(20) {
        0 => [10, 0, 0, (own % 9) as u8].into(),
        1 | 2 => {
            let house = random.below(count / 100 + 1);
            [81, (house >> 8) as u8, house as u8, 1].into()
        }
        3..=8 => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&[0x24, 0x01, 0xdb, 0x08, b, c, d, random.below(4) as u8]);
            bytes[15] = 1;
            bytes.into()
        }
        _ => [78_u8.wrapping_add(b % 20), c, d, random.below(3) as u8].into(),
    }
}

/// The same address, or one that is near it to some degree.
fn near(home: IpAddr, random: &mut Random) -> IpAddr {
    let degree = random.below(6);
    let mut noise = |byte: u8, mask: u8| byte ^ (random.next() as u8 & mask);
    match home {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            match degree {
                0..=2 => home,
                3 => [a, b, c, noise(d, 0xff)].into(),
                4 => [a, b, noise(c, 0x0f), d].into(),
                _ => [a, b, noise(c, 0xff), d].into(),
            }
        }
        IpAddr::V6(v6) => {
            let mut bytes = v6.octets();
            match degree {
                0..=2 => {}
                3 => bytes[15] = noise(bytes[15], 0xff),
                4 => bytes[7] = noise(bytes[7], 0xff),
                _ => bytes[6] = noise(bytes[6], 0xff),
            }
            bytes.into()
        }
    }
}
