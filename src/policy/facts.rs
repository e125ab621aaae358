//! What is known about one attempt.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::evidence::{self, AddressMatch};
use crate::{identity::Username, place::Place, session::record::Session};

/// Everything the verdict on one attempt rests on, gathered before judging. Nothing in it was proven by the client.
#[derive(Clone)]
pub struct Facts {
    /// The name in login start.
    pub name: Username,
    /// The id in login start, which from protocol 764 on is always there. A claim: it is only ever compared.
    pub claimed_id: Option<Uuid>,
    /// The client address.
    pub address: IpAddr,
    /// The session under `name`; if there is none, the one of `claimed_id`. A session that is neither counts as none.
    pub session: Option<Arc<Session>>,
    /// When the session server stopped answering.
    pub outage_started: Timestamp,
    /// How many different ids have a live verified session from exactly this address, or were admitted by policy
    /// from it in the last 24 h. **This player is one of them**, whether it came from here before or not: so the
    /// limit is the number of players who can share an address, and a newcomer beyond it is refused instead of
    /// using up the place of those who were there first.
    pub accounts_at_address: u32,
    /// The connection of the session's id that is up, if one is. A player who is asked for the PIN before any backend
    /// sees it is not up; one who is asked on its backend is, to whoever would meet it there.
    pub online: Option<Online>,
    /// Which bans cover it.
    pub bans: Bans,
    /// Where the client address is.
    pub location: Location,
    /// Whether the client has dialogs (protocol 771 and above): then it is asked for the PIN before any backend sees it.
    pub has_dialogs: bool,
    /// Wrong PIN codes for the session's id within 24 h, from wherever.
    pub wrong_pin_codes: u32,
    /// Whether this attempt has given the right PIN.
    pub pin_proven: bool,
}

/// Which bans cover an attempt. The ban of a network (ASN) counts only if the address's is known without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// The client address's.
    pub client: bool,
    /// Its subnet's.
    pub subnet: bool,
    /// Its network's (ASN).
    pub asn: bool,
    /// The one of the session's id at this client address.
    pub pair: bool,
}

impl Bans {
    /// What is banned, in words for audit.log.
    pub(super) fn labels(self) -> Vec<&'static str> {
        let all = [
            (self.client, "address"),
            (self.subnet, "subnet"),
            (self.asn, "asn"),
            (self.pair, "id-and-address"),
        ];
        all.into_iter().filter_map(|(banned, label)| banned.then_some(label)).collect()
    }
}

/// What is known of where the client address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// Nobody has been asked yet. To the rules this is no better than not known.
    #[default]
    NotAsked,
    /// It was looked up, and that told nothing.
    Unknown,
    /// It was looked up.
    Known(Place),
}

impl Location {
    /// What was looked up, if it told anything.
    pub fn place(self) -> Option<Place> {
        match self {
            Self::Known(place) if !place.is_unknown() => Some(place),
            _ => None,
        }
    }
}

/// How the player of a connection was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// By the session server.
    Verified,
    /// Admitted by policy, then by the right PIN.
    Pinned,
    /// Admitted by policy alone.
    Fallback,
    /// Let to its backend by policy, to be asked for the PIN there: not in before that is right.
    Held,
}

impl Proof {
    /// The word for logs and audit.log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Pinned => "pinned",
            Self::Fallback => "fallback",
            Self::Held => "held",
        }
    }
}

/// A connection of the same id that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Online {
    /// How its player was proven.
    pub proof: Proof,
    /// Whether it comes from exactly the address of this attempt.
    pub same_exact_address: bool,
    /// How long nothing has come from its client.
    #[serde(rename = "silent_seconds", serialize_with = "evidence::seconds")]
    pub silent_for: Duration,
    /// How its address matched when it was admitted; of no weight if it is proven.
    pub address_match: AddressMatch,
}

impl Facts {
    /// The session, if it really is one this attempt may be judged by: found by the name, or by the claimed id and
    /// not without a name of its own (another id has verified with that name since).
    pub(super) fn known(&self) -> Option<Known<'_>> {
        let session = self.session.as_deref()?;
        let name = session.name.as_ref()?;
        let found_by = if name.same_as(&self.name) {
            evidence::FoundBy::Name
        } else if self.claimed_id == Some(session.id) {
            evidence::FoundBy::ClaimedId
        } else {
            return None;
        };
        Some(Known { session, name, found_by })
    }
}

/// A session that the attempt may be judged by.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) session: &'a Session,
    pub(super) name: &'a Username,
    pub(super) found_by: evidence::FoundBy,
}
