//! What policy is asked about a client, and what it says of it: the facts of one attempt, judged as of now.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Attempt, FallbackMode, LoginCx, Named, Terms, accounts_at,
    refusal::{Moved, Refusal},
    roster::{AtTheGate, Company, Judged, Line, NotSeated, Seated},
};
use crate::{
    identity::Username,
    limit::bans::Hits,
    mojang::{health::Verdict, verify::ConfirmedOutage},
    pin::{Gate, ProvenPin},
    policy::{Bans, Decision, Evidence, Facts, Location, judge, objections, wants_location},
    protocol::version::Dialect,
    reason::Reason,
    session::record::Session,
};

/// Why policy may decide at all.
#[derive(Debug)]
pub(super) enum Basis {
    /// The verdict was Down when the login began.
    Down { outage_started: Timestamp },
    /// The session server did not answer for this very login, and a probe begun later failed too.
    InPlace(ConfirmedOutage),
}

impl Basis {
    pub(super) fn outage_started(&self) -> Timestamp {
        match self {
            Self::Down { outage_started } => *outage_started,
            Self::InPlace(confirmed) => confirmed.since(),
        }
    }

    /// Whether it still holds, as of now. An attempt that was parked during a blip is not admitted after it. A login's own
    /// failure is a moment old where nothing was asked of its player; one who has taken time to enter its PIN goes by
    /// whether the session server has answered anybody since.
    pub(super) fn holds(&self, cx: &LoginCx, was_asked: bool) -> bool {
        let status = cx.health.status();
        match self {
            Self::Down { .. } => status.verdict.is_down(),
            Self::InPlace(_) if status.is_forced_up() => false,
            Self::InPlace(confirmed) => {
                let answered = || status.last_answer.is_some_and(|answer| answer > confirmed.at());
                !was_asked || status.verdict.is_down() || status.verdict != Verdict::Up && !answered()
            }
        }
    }

    /// The same, as a refusal if not.
    fn check(&self, cx: &LoginCx, was_asked: bool) -> Result<(), Refusal> {
        if self.holds(cx, was_asked) {
            return Ok(());
        }
        Err(Refusal::new(Reason::Unreachable).fact("cause", "the outage ended meanwhile"))
    }
}

/// The no to a link that nothing can encrypt.
pub(super) fn unencrypted() -> Refusal {
    Refusal::new(Reason::NewerVersionNeeded).fact("cause", "the link cannot be encrypted")
}

/// Whether nothing could encrypt the link without Mojang, and the owner wants that.
pub(super) fn lacks_encryption(named: &Named, terms: &Terms) -> bool {
    !named.hello.dialect.authenticate_flag && !terms.allow_plaintext_fallback
}

/// What a client says of itself, and where it comes from: what policy judges, with what is on record.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) name: &'a Username,
    pub(super) claimed_id: Option<Uuid>,
    pub(super) has_dialogs: bool,
    /// Whether its link can be encrypted without Mojang.
    pub(super) can_encrypt: bool,
    pub(super) address: IpAddr,
    pub(super) cx: &'a LoginCx,
}

impl<'a> Claim<'a> {
    pub(super) fn of(named: &'a Named, address: IpAddr, cx: &'a LoginCx) -> Self {
        let Named { name, claimed_id, hello, .. } = named;
        let Dialect { dialogs: has_dialogs, authenticate_flag: can_encrypt, .. } = hello.dialect;
        Self { name, claimed_id: *claimed_id, has_dialogs, can_encrypt, address, cx }
    }

    fn session(self) -> Option<Arc<Session>> {
        self.cx.store.find(self.name, self.claimed_id)
    }

    /// What policy says as of now.
    pub(super) fn judged(self, outage_started: Timestamp, location: Location) -> Decision {
        judge(&self.cx.terms.current().rules, &self.gather(outage_started, location), self.cx.clock.now())
    }

    /// What policy judges by, as of now.
    fn gather(self, outage_started: Timestamp, location: Location) -> Facts {
        let session = self.session();
        let company = self.cx.roster.company(session.as_ref().map(|session| session.id), self.address);
        self.facts(outage_started, session, company, location, false)
    }

    fn facts(
        self,
        outage_started: Timestamp,
        session: Option<Arc<Session>>,
        company: Company,
        location: Location,
        pin_proven: bool,
    ) -> Facts {
        let Self { name, claimed_id, has_dialogs, address, cx, .. } = self;
        let id = session.as_ref().map(|session| session.id);
        Facts {
            name: name.clone(),
            claimed_id,
            address,
            accounts_at_address: accounts_at(cx, address, company.admitted_here, id),
            bans: self.bans(id),
            wrong_pin_codes: id.map_or(0, |id| cx.pins.wrong_codes(id)),
            session,
            outage_started,
            online: company.online,
            location,
            has_dialogs,
            pin_proven,
        }
    }

    /// The bans that cover an attempt. Nobody is asked for the network (ASN): a stranger must not cause look-ups.
    fn bans(self, id: Option<Uuid>) -> Bans {
        let asn = self.cx.geo.at_hand(self.address).and_then(|place| place.asn);
        let Hits { client, subnet, asn, pair } = self.cx.bans.hits(self.address, asn, id);
        Bans { client, subnet, asn, pair }
    }

    /// Where the client address is: from memory if it is there; asked for only if a rule would weigh it and nothing else
    /// refuses.
    pub(super) async fn locate(self, outage_started: Timestamp) -> Location {
        let at_hand = self.at_hand();
        let facts = self.gather(outage_started, at_hand);
        if !wants_location(&self.cx.terms.current().rules, &facts, self.cx.clock.now()) {
            return at_hand;
        }
        self.cx.geo.look_up(self.address).await.map_or(Location::Unknown, Location::Known)
    }

    fn at_hand(self) -> Location {
        self.cx.geo.at_hand(self.address).map_or(Location::NotAsked, Location::Known)
    }

    /// The no of terms that admit nobody, or no client such as this one. A dry run says what it would have said instead.
    fn closed(self, terms: &Terms, basis: &Basis, location: Location) -> Option<Refusal> {
        let Some(closed) = terms.closed() else {
            // A login that met the outage itself is encrypted already.
            let is_plain = matches!(basis, Basis::Down { .. }) && !self.can_encrypt;
            return (is_plain && !terms.allow_plaintext_fallback).then(unencrypted);
        };
        if terms.fallback == FallbackMode::Disabled {
            return Some(closed);
        }
        Some(match self.judged(basis.outage_started(), location) {
            Decision::Refuse { reason, evidence } => refusal(reason, &evidence, self.cx),
            Decision::Admit { permit: _, evidence } => closed.evidence(&evidence),
        })
    }

    /// The moment of admission: everything is read again, the terms in force too, and the place is taken in one step.
    /// With the proof of the PIN, if it was asked for.
    pub(super) fn take_place(
        self,
        basis: &Basis,
        location: Location,
        line: &Arc<Line>,
        proven: Option<&ProvenPin>,
    ) -> Result<Seated, NoPlace> {
        let cx = self.cx;
        // A rule that is new may weigh what nobody asked for before.
        let location = if location == Location::NotAsked { self.at_hand() } else { location };
        let terms = cx.terms.current();
        basis.check(cx, proven.is_some())?;
        if let Some(refusal) = self.closed(&terms, basis, location) {
            return Err(refusal.into());
        }
        let session = self.session();
        let id = session.as_ref().map(|session| session.id);
        let judged = cx.roster.seat_by_policy(id, self.address, line, proven, |company| {
            let facts = self.facts(basis.outage_started(), session, company, location, proven.is_some());
            judge(&terms.rules, &facts, cx.clock.now())
        });
        judged.map_err(|not_seated| match not_seated {
            NotSeated::Refused(no) => NoPlace::Refused(refusal(no.0, &no.1, cx)),
            NotSeated::PinWanted => NoPlace::PinWanted,
        })
    }

    /// The same for one who is to be asked for its PIN first.
    pub(super) fn take_hold(
        self,
        basis: &Basis,
        location: Location,
        line: &Arc<Line>,
        gate: Gate,
    ) -> Result<AtTheGate, Refusal> {
        let cx = self.cx;
        // A rule that is new may weigh what nobody asked for before.
        let location = if location == Location::NotAsked { self.at_hand() } else { location };
        let terms = cx.terms.current();
        if let Some(refusal) = self.closed(&terms, basis, location) {
            return Err(refusal);
        }
        let session = self.session();
        let id = session.as_ref().map(|session| session.id);
        let judged = cx.roster.hold_by_policy(id, self.address, line, gate, |company| {
            let facts = self.facts(basis.outage_started(), session, company, location, false);
            judge(&terms.rules, &facts, cx.clock.now())
        });
        let at_the_gate = judged.map_err(|no| refusal(no.0, &no.1, cx))?;
        // For whoever ends it from outside.
        let mut facts = facts_of(&at_the_gate.evidence, basis);
        facts.insert("gate".to_owned(), gate.label().into());
        line.set_judged(Some(Judged { reason: None, id: Some(at_the_gate.permit.id()), facts }));
        Ok(at_the_gate)
    }
}

/// Why there is no place.
pub(super) enum NoPlace {
    Refused(Refusal),
    /// The player has to prove its PIN.
    PinWanted,
}

impl From<Refusal> for NoPlace {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoPlace> for Refusal {
    /// Where a PIN was proven, or none was wanted a moment ago.
    fn from(no: NoPlace) -> Self {
        match no {
            NoPlace::Refused(refusal) => refusal,
            NoPlace::PinWanted => Self::pin_gone(),
        }
    }
}

/// The no of policy. A foreign country and network are noted with the session: they stay denied until its next
/// verified login.
pub(super) fn refusal(reason: Reason, evidence: &Evidence, cx: &LoginCx) -> Refusal {
    let mut refusal = Refusal::new(reason).evidence(evidence);
    if let (Reason::GeoChanged, Some(id), Some(place)) = (reason, evidence.session_id, evidence.place) {
        // Once a network: whoever comes again tells nothing new. Nor does who was never seen anywhere.
        let is_new = cx.store.update(id, |session| session.deny_network(place)) == Some(true);
        if is_new && !evidence.known_places.is_empty() {
            refusal.moved = Some(Box::new(Moved { place, known: evidence.known_places.clone() }));
        }
    }
    refusal
}

/// What would have come of this verified login in an outage, by the session as it stood before: `ok`, or the reason code.
/// Nothing is looked up for it.
pub(super) fn rehearse(
    before: Option<Arc<Session>>,
    named: &Named,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> &'static str {
    let claim = Claim::of(named, attempt.address, cx);
    let (terms, location, now) = (cx.terms.current(), claim.at_hand(), cx.clock.now());
    let nobody = Company { online: None, admitted_here: Vec::new() };
    let facts = claim.facts(now, before, nobody, location, false);
    let needs_place =
        |reason: &Reason| matches!(reason, Reason::BlockedAsn | Reason::GeoChanged | Reason::GeoUnknown);
    let mut objections = objections(&terms.rules, &facts, now).into_iter();
    let first = objections.find(|reason| location != Location::NotAsked || !needs_place(reason));
    let first = first.or_else(|| lacks_encryption(named, &terms).then_some(Reason::NewerVersionNeeded));
    first.map_or("ok", Reason::code)
}

/// What an admission rests on, for audit.log.
pub(super) fn facts_of(evidence: &Evidence, basis: &Basis) -> Map<String, Value> {
    let mut facts = match serde_json::to_value(evidence) {
        Ok(Value::Object(facts)) => facts,
        _ => Map::new(),
    };
    facts.insert("in_place".to_owned(), matches!(basis, Basis::InPlace(_)).into());
    facts
}

/// Whether the player comes from elsewhere, as far as that is known.
pub(super) fn moved(evidence: Evidence) -> Option<Box<Moved>> {
    let moved = evidence.place.filter(|_| evidence.geo_changed && !evidence.known_places.is_empty());
    moved.map(|place| Box::new(Moved { place, known: evidence.known_places }))
}
