//! A player who is held on its backend, below the releases that have dialogs: nothing of what it does reaches the
//! backend until its PIN is right.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::{
    super::journal::{Pin, gate_label},
    About, Pace, Player, decide,
    rules::Action,
};
use crate::{
    limit::gate::{self, Full, Passage},
    login::{self, Held, Taken, refusal::Refusal},
    messages::MessageKey,
    pin::{Gate, Outcome, Trial},
    policy::Proof,
    protocol::{pin_command::Typed, text::Text},
    reason::Reason,
    relay::{EndCause, Ended, Heard, Side},
};

/// How long a client may take to load the world before it is asked: large mod packs take a minute.
const LOADING: Duration = Duration::from_mins(2);
/// Between two prompts above the hotbar: a line there fades after 3 s.
const PROMPT_EVERY: Duration = Duration::from_secs(3);
/// Every how many of them a line in chat says the same.
const CHAT_EVERY: u32 = 3;

/// A player who is held, and its tries so far.
#[derive(Debug)]
pub(in super::super) struct Quarantine {
    held: Held,
    trial: Trial,
    /// It may be asked to make room.
    passage: Passage,
    /// The code was right; what comes then is no failure of the player's.
    proven: bool,
    /// Why it was sent away.
    refused: Option<Refusal>,
}

/// What one code came to.
enum Tried {
    Admitted(Box<Taken>),
    Refused(Box<Refusal>),
    Again,
}

impl Quarantine {
    /// A player who has not been asked yet.
    pub(in super::super) fn new(held: Held, trial: Trial, passage: Passage) -> Self {
        Self { held, trial, passage, proven: false, refused: None }
    }

    /// The player is in: what stays is its share of connections.
    pub(in super::super) fn into_share(self) -> gate::Held {
        self.passage.proven();
        self.passage.into_held()
    }

    /// The player was told that it is sent away, and why.
    pub(in super::super) fn refuse(&mut self, refusal: Refusal) {
        self.refused = Some(refusal);
    }

    /// The connection of a player who was not let in has ended: because it was sent away, was asked to close for
    /// another reason, or by itself. Says why, and counts what counts as a failure.
    pub(in super::super) fn fail(self, about: &About, asked: Option<Reason>, ended: &Ended) -> Refusal {
        let (mut refusal, is_own) = match (self.refused, asked) {
            (Some(refusal), _) => {
                let is_own = refusal.reason != Reason::TooManyConnections;
                (refusal, is_own)
            }
            // Somebody else of the same id was let in, or the proxy stops.
            (None, Some(reason)) => (Refusal::new(reason), false),
            (None, None) => {
                let (reason, is_own) = blame(&ended.cause);
                (Refusal::new(reason).fact("cause", ended.cause.to_string()), is_own)
            }
        };
        if is_own && !self.proven {
            self.trial.fail(Gate::Quarantine);
        }
        refusal.who.id = Some(about.id);
        refusal.named(&about.name, about.claimed_id).fact("gate", gate_label(Gate::Quarantine))
    }
}

/// What to call the end of a connection whose player was held, and whether it is the player's own doing.
fn blame(cause: &EndCause) -> (Reason, bool) {
    match cause {
        EndCause::BackendClosed
        | EndCause::BackendTimeout
        | EndCause::Broken { side: Side::Backend, .. }
        | EndCause::Malformed { side: Side::Backend, .. } => (Reason::BackendUnavailable, false),
        EndCause::ClientTimeout => (Reason::ClientTimeout, true),
        EndCause::Malformed { side: Side::Client, .. } => (Reason::BadHandshake, true),
        EndCause::ClientClosed | EndCause::Kicked | EndCause::Broken { side: Side::Client, .. } => {
            (Reason::ClientLeft, true)
        }
    }
}

/// Waits for the right code, and takes the place that it opens. The refusal is still to be told to the player.
pub(in super::super) async fn wait(
    player: &Player,
    quarantine: &mut Quarantine,
    pace: &mut Pace,
) -> Result<Taken, Refusal> {
    tokio::select! {
        loaded = timeout(LOADING, player.handle.joined()) => if loaded.is_err() {
            return Err(Refusal::new(Reason::PinTimeout).fact("cause", "the client did not load the world in time"));
        },
        full = quarantine.passage.asked_to_leave() => return Err(crowded_out(full)),
    }
    player.say(MessageKey::FallbackAuthActive);
    let ends = Instant::now() + player.cx.login.pins.timeout();
    let mut beat = interval(PROMPT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0_u32;
    loop {
        tokio::select! {
            biased;
            heard = player.handle.heard() => match heard {
                Heard::Command(typed) => match one(player, quarantine, &typed, pace, ends).await {
                    Tried::Admitted(taken) => return Ok(*taken),
                    Tried::Refused(refusal) => return Err(*refusal),
                    Tried::Again => {}
                },
                // It is told when its PIN is right: until then it has more urgent things to read.
                Heard::Unsaid => {}
            },
            full = quarantine.passage.asked_to_leave() => return Err(crowded_out(full)),
            () = sleep_until(ends) => return Err(Refusal::new(Reason::PinTimeout)),
            _ = beat.tick() => {
                if beats.is_multiple_of(CHAT_EVERY) {
                    prompt(player, ends);
                }
                player.handle.action_bar(&prompt_text(player, ends));
                beats = beats.wrapping_add(1);
            }
        }
    }
}

/// Its place was wanted, by somebody who is known here.
fn crowded_out(full: Full) -> Refusal {
    Refusal::new(Reason::TooManyConnections).fact("limit", full.key())
}

/// What one command of a held player comes to. A code that came in time is looked at however long that takes.
async fn one(
    player: &Player,
    quarantine: &mut Quarantine,
    typed: &Typed,
    pace: &mut Pace,
    ends: Instant,
) -> Tried {
    match decide(player, Proof::Held, typed, pace) {
        Some(Action::Verify) => {}
        Some(Action::Prompt) => {
            prompt(player, ends);
            return Tried::Again;
        }
        Some(Action::Say(key)) => {
            player.say(key);
            return Tried::Again;
        }
        // Nobody who is held sets or removes anything.
        Some(Action::Set | Action::Reset) | None => return Tried::Again,
    }
    match quarantine.trial.attempt(&typed.words).await {
        Outcome::Right(proven) => {
            quarantine.proven = true;
            player.note(Pin::Verified(Gate::Quarantine));
            match login::admit_held(&quarantine.held, proven, &player.cx.login) {
                Ok(taken) => Tried::Admitted(Box::new(taken)),
                Err(refusal) => Tried::Refused(Box::new(refusal)),
            }
        }
        Outcome::Wrong { left } => {
            player.note(Pin::Failed(Gate::Quarantine, left));
            player.say(MessageKey::PinFailure);
            prompt(player, ends);
            Tried::Again
        }
        Outcome::Over => {
            player.note(Pin::Failed(Gate::Quarantine, 0));
            Tried::Refused(Box::new(Refusal::new(Reason::PinFailed)))
        }
        Outcome::Busy | Outcome::Local => {
            player.say(MessageKey::PinBusy);
            Tried::Again
        }
    }
}

/// Asks for the PIN in chat.
fn prompt(player: &Player, ends: Instant) {
    player.handle.chat(&prompt_text(player, ends));
}

fn prompt_text(player: &Player, ends: Instant) -> Text {
    // Rounded up: the last second is not none.
    let left = ends.saturating_duration_since(Instant::now()).as_millis().div_ceil(1000).to_string();
    player.text(MessageKey::PinPrompt, &[("timeout", &left)])
}
