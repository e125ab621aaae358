//! A player who is held on its backend, below the releases that have dialogs: nothing of what it does reaches the
//! backend until its PIN is right.

use std::{io, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::{super::journal::Pin, About, Pace, Player, decide, note, rules::Action, to_the_end, welcome};
use crate::{
    limit::gate::{self, Full, Passage},
    login::{self, Held, LoginCx, Taken, refusal::Refusal, roster::Line},
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
    /// Not here while a code is being compared.
    trial: Option<Trial>,
    /// It may be asked to make room.
    passage: Passage,
    /// What policy said of it, for audit.log.
    facts: Map<String, Value>,
    /// It is in the world, and was asked. Before that nobody could have known the code.
    asked: bool,
    /// The code was right, or something of ours failed: what comes then is no failure of the player's.
    excused: bool,
    /// Why it was sent away.
    refused: Option<Refusal>,
}

/// What one code came to.
enum Tried {
    Admitted(Box<Taken>),
    Refused(Box<Refusal>),
    Again,
}

/// What an attempt without the right code counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Towards a ban, and as an attempt in vain.
    Fully,
    /// As an attempt in vain.
    Uncharged,
    Nothing,
}

impl Quarantine {
    /// A player who has not been asked yet, and may meet its backend for these facts.
    pub(in super::super) fn new(
        held: Held,
        facts: Map<String, Value>,
        passage: Passage,
        login: &LoginCx,
    ) -> Self {
        let trial = Some(held.trial(login));
        Self { held, trial, passage, facts, asked: false, excused: false, refused: None }
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
    pub(in super::super) fn fail(self, player: &Player, line: &Line, ended: &Ended) -> Refusal {
        let asked = line.asked_to_close();
        let counts = match &self.refused {
            _ if self.excused || !self.asked => Counts::Nothing,
            Some(refusal) => counts(refusal.reason, false),
            None => match asked {
                Some(reason) => counts(reason, line.gave_way_to_admission()),
                None => counts(blame(&ended.cause), false),
            },
        };
        // As long as the last code is being compared, its trial is with that.
        let trial = || self.trial.unwrap_or_else(|| self.held.trial(&player.cx.login));
        match counts {
            Counts::Fully => trial().fail(Gate::Quarantine),
            Counts::Uncharged => trial().fail_uncharged(Gate::Quarantine),
            Counts::Nothing => {}
        }
        let refusal = match (self.refused, asked) {
            (Some(refusal), _) => refusal,
            (None, Some(reason)) => Refusal::new(reason),
            (None, None) => Refusal::new(blame(&ended.cause)).fact("cause", ended.cause.to_string()),
        };
        tell(&player.about, self.facts, refusal)
    }

    /// The player was never asked: this machine could not do it.
    pub(in super::super) fn lost(self, about: &About, cause: &io::Error) -> Refusal {
        tell(about, self.facts, Refusal::new(Reason::Local).fact("cause", cause.to_string()))
    }
}

/// The end of an attempt, with all that is known of it. What its end adds stands over what was weighed at its start.
fn tell(about: &About, mut facts: Map<String, Value>, mut refusal: Refusal) -> Refusal {
    facts.append(&mut refusal.facts);
    refusal.facts = facts;
    refusal.who.id = Some(about.id);
    refusal.named(&about.name, about.claimed_id).fact("gate", Gate::Quarantine.label())
}

/// What an end without the right code counts for. `for_admission`: it was closed because its player was let in by
/// another connection.
///
/// Every end does but two: that one, and the proxy's own stop. It does not matter who closed it. A guesser can have its
/// backend throw it out, by what even a held player sends or by not answering it; can have known addresses crowd it out;
/// and can come again, to be held in the place of its own silent connection. If such an end were free, it could do so
/// without limit. But nobody is banned because others needed its place, a backend fell over or the owner sent it away.
fn counts(reason: Reason, for_admission: bool) -> Counts {
    match reason {
        Reason::ShuttingDown => Counts::Nothing,
        Reason::Displaced if for_admission => Counts::Nothing,
        Reason::TooManyConnections | Reason::BackendUnavailable | Reason::Kicked => Counts::Uncharged,
        _ => Counts::Fully,
    }
}

/// What to call the end of a connection whose player was held and whom nobody asked to leave.
fn blame(cause: &EndCause) -> Reason {
    match cause {
        EndCause::BackendClosed
        | EndCause::BackendTimeout
        | EndCause::Broken { side: Side::Backend, .. }
        | EndCause::Malformed { side: Side::Backend, .. } => Reason::BackendUnavailable,
        EndCause::ClientTimeout => Reason::ClientTimeout,
        EndCause::Malformed { side: Side::Client, .. } => Reason::BadHandshake,
        EndCause::ClientClosed | EndCause::Kicked | EndCause::Broken { side: Side::Client, .. } => {
            Reason::ClientLeft
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
    quarantine.asked = true;
    welcome(player, Proof::Held);
    note(&player.about, &player.cx, Pin::Prompted(Gate::Quarantine));
    let ends = Instant::now() + player.cx.login.pins.timeout();
    let mut beat = interval(PROMPT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0_u32;
    loop {
        tokio::select! {
            biased;
            heard = player.handle.heard() => match heard {
                Heard::Command(typed) => match one(player, quarantine, typed, pace, ends).await {
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
    typed: Typed,
    pace: &mut Pace,
    ends: Instant,
) -> Tried {
    match decide(player, Proof::Held, &typed, pace) {
        Some(Action::Verify) => {}
        Some(Action::Prompt) => {
            // It tried nothing, and may have only these seconds for the right one.
            pace.give_back();
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
    match attempt(player, quarantine, typed).await {
        Outcome::Right(proven) => {
            quarantine.excused = true;
            match login::admit_held(&quarantine.held, proven, &player.cx.login) {
                Ok(taken) => Tried::Admitted(Box::new(taken)),
                Err(refusal) => Tried::Refused(Box::new(refusal)),
            }
        }
        Outcome::Wrong { .. } => {
            player.say(MessageKey::PinFailure);
            prompt(player, ends);
            Tried::Again
        }
        Outcome::Over => Tried::Refused(Box::new(Refusal::new(Reason::PinFailed))),
        Outcome::Barred(bar) => Tried::Refused(Box::new(Refusal::pin_barred(bar))),
        Outcome::Gone => {
            quarantine.excused = true;
            Tried::Refused(Box::new(Refusal::pin_gone()))
        }
        Outcome::Busy | Outcome::Local => {
            pace.give_back();
            player.say(MessageKey::PinBusy);
            Tried::Again
        }
    }
}

/// Tries a code, and puts on record what came of it, also if its player does not wait for that.
async fn attempt(player: &Player, quarantine: &mut Quarantine, typed: Typed) -> Outcome {
    // One that was lost with its work is made anew only when the program stops.
    let trial = quarantine.trial.take();
    let mut trial = trial.unwrap_or_else(|| quarantine.held.trial(&player.cx.login));
    let (about, cx) = (Arc::clone(&player.about), Arc::clone(&player.cx));
    let tried = to_the_end("comparing a PIN", async move {
        let outcome = trial.attempt(&typed.words).await;
        let became = match &outcome {
            Outcome::Right(_) => Some(Pin::Verified(Gate::Quarantine)),
            Outcome::Wrong { left } => Some(Pin::Failed(Gate::Quarantine, *left)),
            Outcome::Over => Some(Pin::Failed(Gate::Quarantine, 0)),
            Outcome::Barred(_) | Outcome::Gone | Outcome::Busy | Outcome::Local => None,
        };
        if let Some(became) = became {
            note(&about, &cx, became);
        }
        (trial, outcome)
    });
    match tried.await {
        Some((trial, outcome)) => {
            quarantine.trial = Some(trial);
            outcome
        }
        None => Outcome::Local,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_counts_but_two() {
        for reason in Reason::ALL {
            let expected = match reason {
                Reason::ShuttingDown => Counts::Nothing,
                Reason::TooManyConnections | Reason::BackendUnavailable | Reason::Kicked => Counts::Uncharged,
                _ => Counts::Fully,
            };
            assert_eq!(counts(*reason, false), expected, "{reason:?}");
        }
        assert_eq!(counts(Reason::Displaced, true), Counts::Nothing);
    }
}
