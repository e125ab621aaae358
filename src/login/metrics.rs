//! What is counted of logins, from accept to admission or refusal.

use std::{sync::Arc, time::Duration};

use super::roster::Roster;
use crate::{
    limit::gate::{Figures, Gate},
    metric::{CLIENT, Counters, Error, Readings, Registry, Timings, length, number},
    pin,
    policy::Proof,
    reason::Reason,
};

/// How a player who is in can have been proven.
const PROOFS: [Proof; 3] = [Proof::Verified, Proof::Fallback, Proof::Pinned];

/// Where players are asked for their PIN.
const GATES: [pin::Gate; 2] = [pin::Gate::Dialog, pin::Gate::Quarantine];

/// What became of a PIN outside an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinChange {
    /// It is the player's first.
    Set,
    /// It took the place of another.
    Replaced,
    /// It was given up.
    Reset,
}

impl PinChange {
    const ALL: [Self; 3] = [Self::Set, Self::Replaced, Self::Reset];

    const fn label(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Replaced => "replaced",
            Self::Reset => "reset",
        }
    }
}

/// What is counted of logins. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    accepted: Counters<0>,
    handshakes: Timings<0>,
    logins: Counters<2>,
    took: Timings<1>,
    fallback: Counters<1>,
    prompts: Counters<1>,
    pins: Counters<1>,
}

impl Default for Metrics {
    /// Nothing has happened yet.
    fn default() -> Self {
        let admitted = [["verified", "ok"], ["fallback", "ok"]];
        let refused = Reason::ALL.iter().map(|reason| ["refused", reason.code()]);
        Self {
            accepted: Counters::one(
                "postern_connections_accepted_total",
                "Connections let in at the door, pings among them; those over a limit are not.",
            ),
            handshakes: Timings::one(
                "postern_handshake_seconds",
                "From accept to a client's handshake.",
                CLIENT,
            ),
            logins: Counters::new(
                "postern_logins_total",
                "Logins that came to an end: verified by the session server, admitted by policy during an outage \
                 (fallback), or refused, for which the reason says why.",
                ["result", "reason"],
                admitted.into_iter().chain(refused),
            ),
            took: Timings::new(
                "postern_login_seconds",
                "From accept to login success, by how the player was proven; with the time it took to enter a PIN.",
                CLIENT,
                ["proof"],
                PROOFS.map(|proof| [proof.label()]),
            ),
            fallback: Counters::new(
                "postern_fallback_admissions_total",
                "Players admitted by policy during an outage, by what spoke for them: their session alone (fallback), or \
                 their PIN as well (pinned).",
                ["proof"],
                [Proof::Fallback, Proof::Pinned].map(|proof| [proof.label()]),
            ),
            prompts: Counters::new(
                "postern_pin_prompts_total",
                "Players asked for their PIN, by a dialog or in quarantine on their backend.",
                ["gate"],
                GATES.map(|gate| [gate.label()]),
            ),
            pins: Counters::new(
                "postern_pin_changes_total",
                "PINs set, replaced and given up by their players.",
                ["change"],
                PinChange::ALL.map(|change| [change.label()]),
            ),
        }
    }
}

impl Metrics {
    /// A connection was let in at the door.
    pub fn accepted(&self) {
        self.accepted.count([]);
    }

    /// A client's handshake came, so long after accept.
    pub fn shook_hands(&self, time: Duration) {
        self.handshakes.took([], time);
    }

    /// A player is in.
    pub fn admitted(&self, proof: Proof) {
        match proof {
            Proof::Verified => self.logins.count(["verified", "ok"]),
            Proof::Fallback | Proof::Pinned => {
                self.logins.count(["fallback", "ok"]);
                self.fallback.count([proof.label()]);
            }
            // Not in yet.
            Proof::Held => {}
        }
    }

    /// It took the player so long from accept.
    pub fn took(&self, proof: Proof, time: Duration) {
        if PROOFS.contains(&proof) {
            self.took.took([proof.label()], time);
        }
    }

    /// A login was refused, or broken off.
    pub fn refused(&self, reason: Reason) {
        self.logins.count(["refused", reason.code()]);
    }

    /// A player was asked for its PIN.
    pub fn prompted(&self, gate: pin::Gate) {
        self.prompts.count([gate.label()]);
    }

    /// A player set, replaced or gave up its PIN.
    pub fn changed_pin(&self, change: PinChange) {
        self.pins.count([change.label()]);
    }

    /// Has all of it, and how many connections are how far, read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, gate: &Gate, roster: &Arc<Roster>, registry: &Registry) -> Result<(), Error> {
        self.accepted.register(registry)?;
        self.handshakes.register(registry)?;
        self.logins.register(registry)?;
        self.took.register(registry)?;
        self.fallback.register(registry)?;
        self.prompts.register(registry)?;
        self.pins.register(registry)?;
        let (gate, seen) = (gate.clone(), Arc::clone(roster));
        Readings::gauge(
            "postern_connections",
            "Open connections of clients: before their handshake or pinging (handshake), logging in (login), waiting for \
             the right PIN (held), in or on the way to their backend (playing).",
            ["state"],
            move || connections(gate.figures(), seen.held(), seen.len()).into(),
        )
        .register(registry)?;
        let roster = Arc::clone(roster);
        Readings::gauge(
            "postern_players",
            "Players who are in, by how they were proven.",
            ["proof"],
            move || PROOFS.iter().map(|proof| ([proof.label()], length(roster.proven_by(*proof)))).collect(),
        )
        .register(registry)
    }
}

/// How many connections are how far. What is read in one moment after the other need not add up.
fn connections(figures: Figures, held: usize, playing: usize) -> [([&'static str; 1], f64); 4] {
    let (open, pending) = (number(figures.open.into()), number(figures.pending_logins.into()));
    let (held, playing) = (length(held), length(playing));
    // Whoever is held has proven nothing yet.
    let login = (pending - held).max(0.0);
    let handshake = (open - playing - held - login).max(0.0);
    [(["handshake"], handshake), (["login"], login), (["held"], held), (["playing"], playing)]
}
