//! PINs in the game: what a player who is in types about its own, and the wait of one who is held until it is right.
//!
//! ```text
//! relay ──heard──> Pace ──> rules::action ─┬─> set, reset ──> pin.set, pin.reset
//!                                          ├─> verify ──> Trial ──right──> admission (quarantine)
//!                                          └─> a line that says what to do
//! ```

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tracing::error;
use uuid::Uuid;

use super::{
    connection::Caller,
    journal::{self, Guest, Pin},
    staff::Present,
    stay::StayCx,
};
use crate::{
    identity::Username,
    messages::MessageKey,
    pin::{NotSaved, Saved},
    policy::Proof,
    protocol::{pin_command::Typed, text::Text},
    relay::{Handle, Heard},
    task,
};

mod quarantine;
mod rules;

pub(super) use quarantine::{Quarantine, wait};
pub(super) use rules::Pace;

use rules::{Action, Standing, Turn};

/// Who is in, as far as it is told or asked for.
#[derive(Debug)]
pub(super) struct About {
    pub(super) caller: Caller,
    pub(super) name: Username,
    pub(super) id: Uuid,
    pub(super) claimed_id: Option<Uuid>,
    /// The backend's name; `None` for one who has not met any.
    pub(super) backend: Option<String>,
}

impl About {
    /// The same, for the journal.
    pub(super) fn guest(&self) -> Guest<'_> {
        Guest { name: &self.name, id: self.id, claimed_id: self.claimed_id, backend: self.backend.as_deref() }
    }
}

/// A player, and the way to talk to it.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) about: Arc<About>,
    pub(super) handle: Handle,
    pub(super) cx: Arc<StayCx>,
}

impl Player {
    /// A text as the owner worded it.
    pub(super) fn text(&self, key: MessageKey, values: &[(&str, &str)]) -> Text {
        let name = [("player", self.about.name.as_str())];
        let values: Vec<(&str, &str)> = name.iter().chain(values).copied().collect();
        Text::parse(self.cx.messages.text(key), &values)
    }

    /// Counts the player among those who are connected and proven, if it is: staff is chosen from them.
    pub(super) fn present(&self, proof: Proof) -> Option<Present> {
        self.cx.staff.enter(self.about.id, &self.about.name, proof, &self.handle)
    }

    pub(super) fn say(&self, key: MessageKey) {
        self.handle.chat(&self.text(key, &[]));
    }
}

/// Attends to a player who is in until its connection ends. What only some need has memory of its own, and only while
/// they do.
pub(super) async fn attend(player: &Player, proof: Proof, pace: &mut Pace) {
    if !player.cx.login.pins.are_on() {
        std::future::pending::<()>().await;
    }
    loop {
        // Nothing of what was heard is kept here while it is attended to.
        let attending = match player.handle.heard().await {
            Heard::Command(typed) => Some(Box::pin(obey(player, proof, typed, pace))),
            Heard::Unsaid => {
                if pace.tell_to_rejoin() {
                    player.say(MessageKey::PinRejoin);
                }
                None
            }
        };
        if let Some(attending) = attending {
            attending.await;
        }
    }
}

/// Says what a player who comes in reads first, once it is in the world.
pub(super) fn welcome(player: &Player, proof: Proof) {
    match proof {
        Proof::Verified => {
            if lacks_pin(player) {
                player.say(MessageKey::PinRequiredNotice);
            }
        }
        Proof::Fallback | Proof::Held => player.say(MessageKey::FallbackAuthActive),
        // In a dialog, where there was no room to say so.
        Proof::Pinned => {
            player.say(MessageKey::FallbackAuthActive);
            player.say(MessageKey::PinSuccess);
        }
    }
}

/// Whether an outage would find the player without the PIN that it takes.
fn lacks_pin(player: &Player) -> bool {
    let (pins, terms) = (&player.cx.login.pins, player.cx.login.terms.current());
    pins.are_on() && terms.rules.require_pin && !pins.is_set(player.about.id)
}

/// Ends the quarantine of a player who is in now.
pub(super) fn release(player: &Player) {
    let is_out_of_tune = player.handle.is_out_of_tune();
    player.handle.release();
    player.say(MessageKey::PinSuccess);
    if is_out_of_tune {
        player.say(MessageKey::PinRejoin);
    }
}

/// Does what a command of a player who is in asks for, or says why not.
async fn obey(player: &Player, proof: Proof, typed: Typed, pace: &mut Pace) {
    match decide(player, proof, &typed, pace) {
        Some(Action::Set) => set(player, typed.words, pace).await,
        Some(Action::Reset) => reset(player, pace).await,
        Some(Action::Say(key)) => player.say(key),
        // Nothing is asked of a player who is in.
        Some(Action::Verify | Action::Prompt) | None => {}
    }
}

/// What a command comes to; `None` for one that comes too fast, which the player is told.
fn decide(player: &Player, proof: Proof, typed: &Typed, pace: &mut Pace) -> Option<Action> {
    match pace.take() {
        Turn::Now => {}
        Turn::TooFast => {
            player.say(MessageKey::PinTooFast);
            return None;
        }
        Turn::TooMany { wait } => {
            // Rounded up: the last second is not none.
            let seconds = wait.as_millis().div_ceil(1000).to_string();
            player.handle.chat(&player.text(MessageKey::PinTooMany, &[("timeout", &seconds)]));
            return None;
        }
        Turn::Again => return None,
    }
    let login = &player.cx.login;
    let is_set = player.cx.login.pins.is_set(player.about.id);
    let standing = Standing { proof, is_set, is_down: login.health.verdict().is_down() };
    Some(rules::action(typed.command, !typed.words.expose_secret().is_empty(), standing))
}

async fn set(player: &Player, words: SecretString, pace: &mut Pace) {
    let (pins, about, cx) = (player.cx.login.pins.clone(), Arc::clone(&player.about), Arc::clone(&player.cx));
    let set = to_the_end("setting a PIN", async move {
        let set = pins.set(about.id, &words).await;
        if let Ok(saved) = set {
            note(&about, &cx, Pin::Set { replaced: saved == Saved::Replaced });
        }
        set
    });
    match set.await.unwrap_or(Err(NotSaved::Local)) {
        Ok(_) => player.say(MessageKey::PinSaved),
        Err(NotSaved::Weak(why)) => {
            let (why, least) = (why.to_string(), player.cx.min_pin_length.to_string());
            player.handle.chat(&player.text(MessageKey::PinWeak, &[("reason", &why), ("length", &least)]));
        }
        Err(error) => not_saved(player, &error, pace),
    }
}

async fn reset(player: &Player, pace: &mut Pace) {
    let (pins, about, cx) = (player.cx.login.pins.clone(), Arc::clone(&player.about), Arc::clone(&player.cx));
    let reset = to_the_end("removing a PIN", async move {
        let reset = pins.reset(about.id).await;
        if let Ok(true) = reset {
            note(&about, &cx, Pin::Reset);
        }
        reset
    });
    match reset.await.unwrap_or(Err(NotSaved::Local)) {
        Ok(true) => player.say(MessageKey::PinReset),
        Ok(false) => player.say(MessageKey::PinNone),
        Err(error) => not_saved(player, &error, pace),
    }
}

fn not_saved(player: &Player, cause: &NotSaved, pace: &mut Pace) {
    match cause {
        NotSaved::Busy | NotSaved::Local => {
            pace.give_back();
            player.say(MessageKey::PinBusy);
        }
        NotSaved::Weak(_) | NotSaved::NoSession | NotSaved::Disk(_) => {
            let About { caller, name, .. } = &*player.about;
            error!(conn = %caller.conn, player = %name, %cause, "a PIN could not be saved");
            player.say(MessageKey::PinNotSaved);
        }
    }
}

/// Does what must not be half done, nor go untold, because its player leaves: what a PIN became, or that a code was
/// wrong. `None` if the program stops meanwhile.
async fn to_the_end<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    task::spawn(what, async move {
        // Whoever has left does not want to know.
        let _ = tell.send(work.await);
    });
    told.await.ok()
}

/// Puts on record what became of a player's PIN.
fn note(about: &About, cx: &StayCx, what: Pin) {
    journal::pin(&*cx.journal, &about.caller, &about.guest(), what);
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_ends_although_nobody_waits_for_it() {
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = Box::pin(to_the_end("a test", async move {
            gone.await.unwrap();
            tell.send("on record").unwrap();
        }));
        assert!(poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(told.await, Ok("on record"));
        assert_eq!(to_the_end("a test", async { 7 }).await, Some(7));
    }
}
