//! Sessions that come from elsewhere: the export of a plug-in, or of another proxy.
//!
//! What such a file says was proven by nobody here. So a row must be right in all its parts or is refused whole, nothing
//! that a login has proven here gives way to it, and unless the owner vouches for the file its sessions are locked: the
//! first verified login here makes them count.

use std::{collections::HashMap, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::record::{CLOCK_SLACK, Session, UNUSED_AFTER, VerifiedAddress};
use crate::{
    address, foreign,
    identity::{NameKey, Property, Username, parse_id},
    place::Place,
};

/// Longest property value, in bytes: the most that login success carries.
const MAX_VALUE: usize = 32_767;
/// Longest property signature, in bytes: the same.
const MAX_SIGNATURE: usize = 1024;
/// The one property that is taken. Others are a proxy's own, such as a token that vouches for players.
const TEXTURES: &str = "textures";
/// Every key of a row.
const KEYS: [&str; 7] = ["uuid", "username", "ip", "last-login", "logins", "properties", "pin-sha256"];
/// How a PIN hash of elsewhere is marked: it verifies once, and is replaced by a better one.
const PIN_PREFIX: &str = "$sha256$";
/// Longest foreign text in a message, in characters.
const SHOWN: usize = 40;
/// A time in milliseconds that lies before this many is most likely one in seconds: 2001-09-09.
const LIKELY_SECONDS: i64 = 1_000_000_000_000;

/// Whether the owner vouches for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its sessions count at once.
    Yes,
    /// Its sessions are locked until their next verified login.
    No,
}

/// A row that is right in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it makes.
    pub session: Session,
    /// Its name, which the session has, too.
    pub name: Username,
    /// Its profile properties.
    pub properties: Vec<Property>,
    /// What its owner should know.
    pub notes: Vec<String>,
}

impl Row {
    /// Reads a row.
    ///
    /// # Errors
    /// What is wrong with it, in words for its owner; the first thing only.
    pub fn read(row: &Value, trust: Trust, now: Timestamp) -> Result<Self, String> {
        let Value::Object(row) = row else {
            return Err("it is not an object, as in {\"uuid\": …, \"username\": …, …}".to_owned());
        };
        let mut notes = Vec::new();
        for key in row.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            notes.push(format!("the key {} is not known and was left out", quoted(key)));
        }
        let id = id(text(row, "uuid")?)?;
        let username = text(row, "username")?;
        let name =
            Username::parse(username).map_err(|error| format!("username {}: {error}", quoted(username)))?;
        let address = text(row, "ip")?;
        let address: IpAddr = address
            .parse()
            .map(address::unmap)
            .map_err(|_| format!("ip {} is no address, as in 203.0.113.5", quoted(address)))?;
        if address::is_private(address) {
            notes.push(format!(
                "{address} is a private address: it proves nothing unless security.trust-private-addresses is true"
            ));
        }
        let last = last_login(row.get("last-login").unwrap_or(&Value::Null), now)?;
        let pin_hash = pin_hash(row.get("pin-sha256"))?;
        if pin_hash.is_some() {
            notes.push(
                "pin-sha256: in an outage the player is asked for this PIN. Whoever gets this file finds a short PIN out of \
                 such a hash within seconds, so delete the file; here a better hash takes its place once the PIN was \
                 entered"
                    .to_owned(),
            );
        }
        let session = Session {
            id,
            name: Some(name.clone()),
            // When the first one was is not known.
            first_verified: last,
            last_verified: last,
            last_present: None,
            verified_logins: logins(row.get("logins"))?,
            fallback_logins: 0,
            addresses: vec![VerifiedAddress { address, verified: last, place: Place::default() }],
            last_without_dialogs: None,
            last_with_dialogs: None,
            pin_hash,
            locked: trust == Trust::No,
            unproven_quarantine: false,
            denied_networks: Vec::new(),
            rehearsal: None,
        };
        Ok(Self { session, name, properties: properties(row.get("properties"))?, notes })
    }

    /// What is to be stored of it, with what the store knows: the session of its id, and the one of its name.
    pub(super) fn beside(
        &self,
        same_id: Option<&Session>,
        same_name: Option<&Session>,
        now: Timestamp,
    ) -> Result<Session, Conflict> {
        // What is unused for so long is as good as absent: its name may be somebody else's by now.
        let known = same_id.filter(|known| !known.is_unused(now));
        if known.is_some_and(|known| !known.is_imported()) {
            return Err(Conflict::Known);
        }
        // Also an imported one: of two claims to a name within 36 days one is wrong, and which cannot be told.
        if let Some(holder) = same_name.filter(|known| known.id != self.session.id && !known.is_unused(now)) {
            return Err(Conflict::NameHeld { by: holder.id, imported: holder.is_imported() });
        }
        let mut session = self.session.clone();
        if let Some(known) = known {
            // A file is told of nothing that happened here. A lock is lifted by a verified login, or with the session.
            session.locked |= known.locked;
            session.denied_networks.clone_from(&known.denied_networks);
            session.fallback_logins = known.fallback_logins;
            session.unproven_quarantine = known.unproven_quarantine;
            // One that was entered or set here is newer than any file.
            let is_own = |hash: &&String| !hash.starts_with(PIN_PREFIX);
            if let Some(own) = known.pin_hash.as_ref().filter(is_own) {
                session.pin_hash = Some(own.clone());
            }
        }
        Ok(session)
    }

    /// The row as it would be read again.
    pub fn as_json(&self) -> Value {
        let session = &self.session;
        let pin = session.pin_hash.as_deref().and_then(|hash| hash.strip_prefix(PIN_PREFIX));
        json!({
            "uuid": session.id,
            "username": self.name,
            "ip": session.addresses.first().map(|known| known.address),
            "last-login": session.last_verified,
            "logins": session.verified_logins,
            "properties": self.properties,
            "pin-sha256": pin,
        })
    }
}

/// Sessions that somebody read, by id and name.
#[derive(Debug, Default)]
pub struct Known<'a> {
    by_id: HashMap<Uuid, &'a Session>,
    by_name: HashMap<NameKey, &'a Session>,
}

impl<'a> Known<'a> {
    /// From all there are.
    pub fn of(sessions: impl IntoIterator<Item = &'a Session>) -> Self {
        let mut known = Self::default();
        for session in sessions {
            known.by_id.insert(session.id, session);
            if let Some(name) = &session.name {
                known.by_name.insert(name.key(), session);
            }
        }
        known
    }

    /// What would be stored of a row beside them.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn could_import(&self, row: &Row, now: Timestamp) -> Result<Session, Conflict> {
        let same_id = self.by_id.get(&row.session.id).copied();
        row.beside(same_id, self.by_name.get(&row.name.key()).copied(), now)
    }
}

/// Why a row that is right in itself is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The player has logged in here, which says more than the row.
    #[error("known already: this player has logged in here, and nothing was changed")]
    Known,
    /// Another player has the name.
    #[error(
        "the name belongs to {by}, {}",
        if *imported { "which was imported before; forget that one first if it is wrong" }
        else { "who has logged in here with it" }
    )]
    NameHeld {
        /// Whose it is.
        by: Uuid,
        /// Whether that session was imported, too.
        imported: bool,
    },
    /// Another row before it is about the same player.
    #[error("row {row} is about the same id")]
    IdTwice {
        /// The row.
        row: usize,
    },
    /// Another row before it has the same name.
    #[error("row {row} has the same name")]
    NameTwice {
        /// The row.
        row: usize,
    },
}

/// Who stood in the rows of one file so far.
#[derive(Debug, Default)]
pub struct Taken {
    ids: HashMap<Uuid, usize>,
    names: HashMap<NameKey, usize>,
}

impl Taken {
    /// Takes id and name of a row for it.
    ///
    /// # Errors
    /// Which row has them.
    pub fn take(&mut self, index: usize, row: &Row) -> Result<(), Conflict> {
        if let Some(row) = self.ids.get(&row.session.id) {
            return Err(Conflict::IdTwice { row: *row });
        }
        if let Some(row) = self.names.get(&row.name.key()) {
            return Err(Conflict::NameTwice { row: *row });
        }
        self.ids.insert(row.session.id, index);
        self.names.insert(row.name.key(), index);
        Ok(())
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its session is stored, or would be.
    Imported,
    /// The player has logged in here; the row was left alone.
    Known,
    /// It is wrong.
    Refused,
}

/// What became of a row, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its place in the array; the first is 0.
    pub index: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// Its id, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its name, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<Username>,
    /// Why it was not imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What its owner should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Told {
    /// About a row that cannot be read.
    pub fn unread(index: usize, row: &Value, why: String) -> Self {
        let text = |key| row.get(key).and_then(Value::as_str);
        Self {
            index,
            outcome: Outcome::Refused,
            id: text("uuid").and_then(parse_id),
            player: text("username").and_then(|name| Username::parse(name).ok()),
            why: Some(why),
            notes: Vec::new(),
        }
    }

    /// About a row that could be read, and what was stored of it.
    pub fn of(index: usize, row: &Row, result: Result<&Session, Conflict>) -> Self {
        let outcome = match result {
            Ok(_) => Outcome::Imported,
            Err(Conflict::Known) => Outcome::Known,
            Err(_) => Outcome::Refused,
        };
        let mut notes = if outcome == Outcome::Imported { row.notes.clone() } else { Vec::new() };
        if result.is_ok_and(|session| session.locked && !row.session.locked) {
            notes.push(format!(
                "it was locked before and stays so, whoever vouches for the file; if it is to count at once, use postern \
                 sessions forget {} and import it again",
                row.name
            ));
        }
        Self {
            index,
            outcome,
            id: Some(row.session.id),
            player: Some(row.name.clone()),
            why: result.err().map(|conflict| conflict.to_string()),
            notes,
        }
    }
}

/// Reads rows and tells what would become of those that are wrong in themselves or among themselves. The others are
/// returned with their places.
pub fn read_rows(rows: &[Value], trust: Trust, now: Timestamp) -> (Vec<(usize, Row)>, Vec<Told>) {
    let mut taken = Taken::default();
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for (index, value) in rows.iter().enumerate() {
        match Row::read(value, trust, now) {
            Err(why) => refused.push(Told::unread(index, value, why)),
            Ok(row) => match taken.take(index, &row) {
                Err(conflict) => refused.push(Told::of(index, &row, Err(conflict))),
                Ok(()) => good.push((index, row)),
            },
        }
    }
    (good, refused)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", foreign::clean_to(text, SHOWN))
}

fn text<'a>(row: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match row.get(key) {
        None | Some(Value::Null) => Err(format!("{key} is missing")),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key} is not a text")),
    }
}

fn id(text: &str) -> Result<Uuid, String> {
    let id = parse_id(text).ok_or_else(|| {
        format!("uuid {} is no player id, as in 069a79f4-44e9-4726-a5be-fca90e38aaf5", quoted(text))
    })?;
    match (id.get_version_num(), id.get_variant()) {
        (4, uuid::Variant::RFC4122) => Ok(id),
        (3, uuid::Variant::RFC4122) => Err(format!(
            "uuid {id} is of version 3: an offline-mode server made it from the name, and no account has it"
        )),
        _ => Err(format!("uuid {id} is not of version 4, as the ids of all accounts are")),
    }
}

fn last_login(value: &Value, now: Timestamp) -> Result<Timestamp, String> {
    const FORM: &str = "RFC 3339, as in \"2026-11-21T20:00:00Z\", or milliseconds since 1970";
    let time = match value {
        Value::Null => return Err("last-login is missing".to_owned()),
        Value::String(text) => {
            text.parse().map_err(|_| format!("last-login {} is not {FORM}", quoted(text)))?
        }
        Value::Number(number) => number
            .as_i64()
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
            .ok_or_else(|| format!("last-login {} is not {FORM}", quoted(&number.to_string())))?,
        _ => return Err(format!("last-login is not {FORM}")),
    };
    let age: SignedDuration = now.duration_since(time);
    if age < -CLOCK_SLACK {
        return Err(format!("last-login {time:.0} lies in the future"));
    }
    if age >= UNUSED_AFTER {
        let seconds = value.as_i64().is_some_and(|number| (0..LIKELY_SECONDS).contains(&number));
        let hint = if seconds { "; are these seconds? milliseconds are wanted" } else { "" };
        return Err(format!(
            "last-login {time:.0} is 36 days ago or more: somebody else may have the name by now{hint}"
        ));
    }
    Ok(time.min(now))
}

fn logins(value: Option<&Value>) -> Result<u32, String> {
    match value {
        None | Some(Value::Null) => Ok(1),
        Some(value) => value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| "logins is not a whole number of 1 or more".to_owned()),
    }
}

fn pin_hash(value: Option<&Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        // What it is instead is not shown: it may be the PIN itself.
        Some(Value::String(hex)) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Some(format!("{PIN_PREFIX}{}", hex.to_ascii_lowercase())))
        }
        Some(_) => Err("pin-sha256 is not a SHA-256 hash in 64 hexadecimal digits".to_owned()),
    }
}

fn properties(value: Option<&Value>) -> Result<Vec<Property>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("properties is not a list".to_owned()),
    };
    let mut properties = Vec::new();
    for value in list {
        let Value::Object(fields) = value else {
            return Err("properties: one is not an object with name, value and signature".to_owned());
        };
        let of_property = |error: String| format!("properties: {error}");
        let name = text(fields, "name").map_err(of_property)?;
        if name != TEXTURES {
            let shown = quoted(name);
            return Err(format!(
                "properties: only \"textures\" is taken, not {shown}; remove it from the row"
            ));
        }
        if !properties.is_empty() {
            return Err("properties: \"textures\" stands there twice".to_owned());
        }
        let value = text(fields, "value").map_err(of_property)?;
        if !is_base64(value) || value.len() > MAX_VALUE {
            return Err(format!("properties: the value is not base64 of at most {MAX_VALUE} characters"));
        }
        let signature = match fields.get("signature") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if is_base64(text) && text.len() <= MAX_SIGNATURE => Some(text.clone()),
            Some(_) => {
                return Err(format!(
                    "properties: the signature is not base64 of at most {MAX_SIGNATURE} characters"
                ));
            }
        };
        properties.push(Property { name: name.to_owned(), value: value.to_owned(), signature });
    }
    Ok(properties)
}

/// Whether the text has the letters of base64, and any. It is not decoded: what it means is the client's to judge.
fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    !letters.is_empty()
        && text.len() - letters.len() <= 2
        && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests;
