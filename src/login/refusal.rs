//! A login that ends without admission, and why.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    identity::Username, limit::bans::Failure, messages::MessageKey, net::conn::ConnError, pin::Bar,
    place::Place, policy::Evidence, reason::Reason,
};

/// What is known of who tried, for audit.log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The name in login start, as sent; it may be no username at all.
    pub name: Option<String>,
    /// The id in login start: a claim.
    pub claimed_id: Option<Uuid>,
    /// The id that the session server vouched for, or of the session that was found.
    pub id: Option<Uuid>,
}

/// The no to one attempt.
#[derive(Debug)]
pub struct Refusal {
    /// The stable code.
    pub reason: Reason,
    /// What policy said of a client that did not wait for it.
    pub judged_as: Option<Reason>,
    /// The text for the player.
    pub message: MessageKey,
    /// What the player reads instead, if somebody found words for it.
    pub words: Option<Box<str>>,
    /// Who tried.
    pub who: Who,
    /// Whether there is nobody left to tell.
    pub(super) gone: bool,
    /// Whether it was kept back when the player hung up on it: what kept it out then was counted then.
    pub(super) kept_back: bool,
    /// If the country and network are new for the player, and have not been refused before.
    pub moved: Option<Box<Moved>>,
    /// What the refusal rests on.
    pub facts: Map<String, Value>,
}

/// A player who comes from a country or network that is none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the client address is.
    pub place: Place,
    /// Where the player's verified addresses are.
    pub known: Vec<Place>,
}

impl Refusal {
    /// A refusal with the reason's own text.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            judged_as: None,
            message: reason.message(),
            words: None,
            who: Who::default(),
            gone: false,
            kept_back: false,
            moved: None,
            facts: Map::new(),
        }
    }

    /// No code is compared any more, not even the right one.
    pub fn pin_barred(bar: Bar) -> Self {
        Self::new(Reason::PinFailed).fact("pin_barred", bar.label())
    }

    /// The player has no PIN any more. The next attempt is judged without one.
    pub fn pin_gone() -> Self {
        Self::new(Reason::Unreachable).fact("cause", "the session or its PIN changed meanwhile")
    }

    /// Adds a fact for audit.log.
    #[must_use]
    pub fn fact(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }

    /// The end of a login whose client did not wait to hear this: the end's reason and text, and the facts of both.
    #[must_use]
    pub(super) fn unheard(self, end: Self) -> Self {
        let judged_as = Some(self.reason);
        let Self { reason, message, words, gone, facts, .. } = end.fact("refused_as", self.reason.code());
        let facts = self.facts.into_iter().chain(facts).collect();
        Self { reason, judged_as, message, words, gone, facts, ..self }
    }

    /// What kept the player out, for the tally of an outage: what policy said, also of a client that hung up or ran out of
    /// time before it could be told. `None` if that was counted at the attempt before.
    pub fn kept_out_by(&self) -> Option<Reason> {
        (!self.kept_back).then(|| self.judged_as.unwrap_or(self.reason))
    }

    /// Adds what policy weighed.
    #[must_use]
    pub fn evidence(mut self, evidence: &Evidence) -> Self {
        self.who.id = self.who.id.or(evidence.session_id);
        if let Ok(Value::Object(facts)) = serde_json::to_value(evidence) {
            self.facts.extend(facts);
        }
        self
    }

    /// Says who was refused; what is known already stays.
    #[must_use]
    pub fn named(mut self, name: &Username, claimed_id: Option<Uuid>) -> Self {
        self.who.name.get_or_insert_with(|| name.as_str().to_owned());
        self.who.claimed_id = self.who.claimed_id.or(claimed_id);
        self
    }

    /// What it counts for towards a ban; `None` for most: friends who are impatient, or meet an outage, fail nobody.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.judged_as.unwrap_or(self.reason) {
            Reason::NotJoined => Some(Failure::NotJoined),
            Reason::IdMismatch | Reason::AddressChanged | Reason::BlockedAsn | Reason::GeoChanged => {
                Some(Failure::Refused)
            }
            _ => None,
        }
    }

    /// Whether there is nobody left to tell.
    pub fn is_gone(&self) -> bool {
        self.gone
    }
}

impl From<ConnError> for Refusal {
    fn from(error: ConnError) -> Self {
        let (reason, gone) = match error {
            ConnError::Malformed(_) => (Reason::BadHandshake, false),
            ConnError::Closed | ConnError::Cut | ConnError::Broken(_) => (Reason::ClientLeft, true),
        };
        Self { gone, ..Self::new(reason) }.fact("cause", error.to_string())
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        ConnError::Broken(error).into()
    }
}
