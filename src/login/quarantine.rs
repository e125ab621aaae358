//! Players with a PIN whose clients have no dialogs: they meet their backend, to be asked there, and are admitted later.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Admission, Attempt, LoginCx, Named, Seat,
    admitted::Admitted,
    claim::{Basis, Claim, facts_of, moved},
    fallback::stored_properties,
    refusal::{Moved, Refusal},
    roster::{AtTheGate, Hold, Leaving, Line, Place, Seated},
};
use crate::{
    identity::Username,
    pin::{Gate, ProvenPin, Trial, Tried},
    policy::{AddressMatch, Location},
};

/// Lets a player whose client has no dialogs meet its backend, to be asked there.
pub(super) async fn begin(
    basis: Basis,
    named: Named,
    location: Location,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<Admission, Refusal> {
    let claim = Claim::of(&named, attempt.address, cx);
    let AtTheGate { hold, permit, evidence, leaving } =
        claim.take_hold(&basis, location, attempt.line, Gate::Quarantine)?;
    let properties = stored_properties(permit.id(), cx).await.unwrap_or_default();
    let facts = facts_of(&evidence, &basis);
    let is_exact = permit.address_match() == AddressMatch::Exact;
    let admitted = Admitted::held(permit, properties, attempt.address);
    let held = Held {
        hold,
        basis,
        location,
        name: named.name.clone(),
        claimed_id: named.claimed_id,
        has_dialogs: named.hello.dialect.dialogs,
        can_encrypt: named.hello.dialect.authenticate_flag,
        address: attempt.address,
        is_exact,
        line: Arc::clone(attempt.line),
    };
    let seat = Seat::Held(Box::new(held));
    Ok(Admission {
        admitted,
        seat,
        leaving,
        named,
        player_key: None,
        moved: None,
        facts,
        outage_started: Some(evidence.outage_started),
        begun: None,
    })
}

/// A player whom its backend may meet, but only to be asked for its PIN there. What judging it again takes.
#[derive(Debug)]
pub struct Held {
    hold: Hold,
    basis: Basis,
    location: Location,
    name: Username,
    claimed_id: Option<Uuid>,
    has_dialogs: bool,
    can_encrypt: bool,
    address: IpAddr,
    is_exact: bool,
    line: Arc<Line>,
}

impl Held {
    /// The session's id.
    pub fn id(&self) -> Uuid {
        self.hold.id()
    }

    /// An attempt at the player's PIN.
    pub fn trial(&self, cx: &LoginCx) -> Trial {
        let asn = cx.geo.at_hand(self.address).and_then(|place| place.asn);
        let (id, name) = (self.id(), self.name.key());
        cx.pins.trial(Tried { id, name, address: self.address, asn, is_exact: self.is_exact })
    }
}

/// What a held player gets once its PIN was right.
#[derive(Debug)]
pub struct Taken {
    /// The player's place; dropping it frees it.
    pub place: Place,
    /// The connections of the same player that have to go. None of them is at the backend: it takes an id once.
    pub leaving: Option<Leaving>,
    /// What the admission rests on, for audit.log.
    pub facts: Map<String, Value>,
    /// Since when there is an outage, as policy saw it.
    pub outage_started: Timestamp,
    /// If the country and network are known to be new for the player.
    pub moved: Option<Box<Moved>>,
}

/// The moment of admission for a player in quarantine: everything is read again, and its place is taken.
///
/// # Errors
/// It is not to be admitted any more: the outage is over, or policy says no by now. The connection is to be closed.
#[expect(clippy::needless_pass_by_value, reason = "a proof is used up by the admission it allows")]
pub fn admit_held(held: &Held, proven: ProvenPin, cx: &LoginCx) -> Result<Taken, Refusal> {
    let Held { basis, location, name, line, hold, .. } = held;
    let Held { claimed_id, has_dialogs, can_encrypt, address, .. } = *held;
    let claim = Claim { name, claimed_id, has_dialogs, can_encrypt, address, cx };
    let seated = claim.take_place(basis, *location, line, Some(&proven)).map_err(|no| {
        let mut refusal = Refusal::from(no).named(name, claimed_id);
        refusal.who.id = refusal.who.id.or(Some(hold.id()));
        refusal.fact("gate", Gate::Quarantine.label()).fact("pin", "right")
    })?;
    line.set_judged(None);
    let Seated { place, cleared, evidence, leaving } = seated;
    cx.store.count_fallback(cleared.permit().id());
    let facts = facts_of(&evidence, basis);
    let outage_started = evidence.outage_started;
    Ok(Taken { place, leaving, facts, outage_started, moved: moved(evidence) })
}
