//! The hold: a player with a PIN is asked for it in the configuration state, before any backend knows of the player.
//!
//! ```text
//! set compression, login success ──> login acknowledged ──> dialog ──> code ─┬─ right ──> ProvenPin
//!                                                             ^              │
//!                                                             └── wrong ─────┘ three times, or no time left: refused
//! ```
//!
//! The client has left the login state with this and is in our hands until a backend takes it over: what it says of
//! itself meanwhile is kept for that, and keep-alives keep it patient.

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Duration, Instant, sleep_until};
use uuid::Uuid;

use super::{
    Attempt, LoginCx, PinEvent,
    refusal::Refusal,
    roster::{Line, Reads},
};
use crate::{
    identity::{Profile, Username},
    messages::MessageKey,
    net::{
        configuring::{Configuring, Said},
        conn::{Conn, ConnError, Io, limit},
    },
    pin::{Gate, Outcome, ProvenPin, Trial, Tried},
    protocol::{
        dialog::{Click, PinDialog, write_show_dialog},
        login::{LoginSuccess, read_acknowledged, write_set_compression},
        reader::Malformed,
        text::Text,
        version::Dialect,
    },
    reason::Reason,
};

/// What a code that came in time may take beyond that: a few others may be ahead of it.
const LAST_CODE: Duration = Duration::from_secs(15);

/// Who is asked.
pub(super) struct Guest<'a> {
    /// The session's id.
    pub(super) id: Uuid,
    /// The session's name, and what its client is told of it.
    pub(super) profile: Profile,
    /// What the client speaks.
    pub(super) dialect: &'a Dialect,
    /// Whether it comes from an exact verified address.
    pub(super) is_exact: bool,
    /// From how many bytes on packets are compressed.
    pub(super) threshold: Option<usize>,
}

/// Lets the client into the configuration state and asks for the PIN until it is right.
///
/// # Errors
/// The client did not give the right one, in whatever way. Where its player was asked, that is counted.
pub(super) async fn ask<S: Io>(
    conn: &mut Conn<S>,
    guest: Guest<'_>,
    cx: &LoginCx,
    attempt: &Attempt<'_>,
) -> Result<(ProvenPin, Box<Configuring>), Refusal> {
    let Guest { id, profile, dialect, is_exact, threshold } = guest;
    let name = profile.name.clone();
    welcome(conn, profile, dialect, threshold, attempt.line).await?;
    let time = cx.pins.timeout();
    let end = Instant::now() + time;
    attempt.deadline.begin_anew(time + LAST_CODE, time + LAST_CODE);
    let asn = cx.geo.at_hand(attempt.address).and_then(|place| place.asn);
    let trial = cx.pins.trial(Tried { id, name: name.key(), address: attempt.address, asn, is_exact });
    let mut trying = Trying { trial: Some(trial), line: attempt.line };
    let configuring = Box::new(Configuring::new(*dialect));
    let mut asking = Asking { conn, configuring, dialect, id, name: &name, end, cx, attempt, open: false };
    asking.show(None).await?;
    asking.note(PinEvent::Prompted);
    loop {
        let code = tokio::select! {
            biased;
            () = sleep_until(end) => return Err(Refusal::new(Reason::PinTimeout)),
            code = asking.code() => code?,
        };
        let Some(trial) = &mut trying.trial else { return Err(Refusal::new(Reason::Local)) };
        let told = match trial.attempt(&code).await {
            Outcome::Right(proven) => {
                trying.trial = None;
                asking.note(PinEvent::Verified);
                return Ok((proven, asking.configuring));
            }
            Outcome::Wrong { left } => {
                asking.note(PinEvent::Failed { left });
                MessageKey::PinFailure
            }
            Outcome::Over => {
                asking.note(PinEvent::Failed { left: 0 });
                return Err(Refusal::new(Reason::PinFailed));
            }
            Outcome::Barred(bar) => return Err(Refusal::pin_barred(bar)),
            Outcome::Gone => {
                trying.trial = None;
                return Err(Refusal::pin_gone());
            }
            Outcome::Busy | Outcome::Local => MessageKey::PinBusy,
        };
        asking.show(Some(told)).await?;
    }
}

/// Ends the login state with the client, as a backend would.
async fn welcome<S: Io>(
    conn: &mut Conn<S>,
    profile: Profile,
    dialect: &Dialect,
    threshold: Option<usize>,
    line: &Line,
) -> Result<(), Refusal> {
    let mut run = [0; 16];
    getrandom::fill(&mut run)
        .map_err(|error| Refusal::new(Reason::Local).fact("cause", error.to_string()))?;
    let stated = threshold.and_then(|threshold| i32::try_from(threshold).ok());
    if let Some(packet) = stated.and_then(|threshold| write_set_compression(dialect, threshold)) {
        conn.queue_packet(&packet);
        conn.set_threshold(threshold);
    }
    let success = LoginSuccess { profile, strict_errors: true, session_id: Uuid::from_bytes(run) };
    line.set_reads(Reads::Configuration);
    conn.write_packet(&success.write(dialect)).await?;
    let packet = conn.read_packet(limit::BEFORE_LOGIN).await?;
    Ok(read_acknowledged(&packet, dialect).map_err(ConnError::Malformed)?)
}

/// An attempt at the PIN. However it ends, it ends unproven, unless the trial was taken out.
struct Trying<'a> {
    trial: Option<Trial>,
    line: &'a Line,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        match self.line.asked_to_close() {
            // Its player came in by another way, or we stop.
            Some(Reason::ShuttingDown) => {}
            Some(Reason::Displaced) if self.line.gave_way_to_admission() => {}
            // It made room for others, or the owner sent it away.
            Some(Reason::TooManyConnections | Reason::Kicked) => trial.fail_uncharged(Gate::Dialog),
            _ => trial.fail(Gate::Dialog),
        }
    }
}

/// A client that is asked.
struct Asking<'a, S> {
    conn: &'a mut Conn<S>,
    configuring: Box<Configuring>,
    dialect: &'a Dialect,
    id: Uuid,
    name: &'a Username,
    end: Instant,
    cx: &'a LoginCx,
    attempt: &'a Attempt<'a>,
    /// Whether the dialog is open: each click closes it.
    open: bool,
}

impl<S: Io> Asking<'_, S> {
    fn note(&self, event: PinEvent) {
        self.attempt.on_pin.tell(self.id, self.name, event);
    }

    fn text(&self, key: MessageKey) -> Text {
        // The second that has begun counts.
        let left = self.end.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        let values = [("player", self.name.as_str()), ("timeout", &*format!("{left:.0}"))];
        Text::parse(self.cx.messages.text(key), &values)
    }

    /// Shows the dialog, with what there is to say of the last answer above its text.
    async fn show(&mut self, told: Option<MessageKey>) -> Result<(), Refusal> {
        let body: Vec<Text> =
            told.into_iter().chain([MessageKey::PinDialogText]).map(|key| self.text(key)).collect();
        let [title, label, submit, leave] = [
            MessageKey::PinDialogTitle,
            MessageKey::PinDialogField,
            MessageKey::PinDialogSubmit,
            MessageKey::PinDialogLeave,
        ]
        .map(|key| self.text(key));
        let dialog = PinDialog { title: &title, body: &body, label: &label, submit: &submit, leave: &leave };
        let Some(packet) = write_show_dialog(self.dialect, &dialog) else {
            return Err(Refusal::new(Reason::NewerVersionNeeded).fact("cause", "the client has no dialogs"));
        };
        self.open = true;
        self.attempt.line.set_reads(Reads::Dialog);
        self.conn.write_packet(&packet).await?;
        Ok(())
    }

    /// The code that the player hands in next. May be cancelled.
    async fn code(&mut self) -> Result<SecretString, Refusal> {
        loop {
            match self.configuring.hear(self.conn).await? {
                // The same answer once more: it was dealt with.
                Said::Click(Click::Code(_)) if !self.open => {}
                Said::Click(Click::Code(code)) => {
                    self.open = false;
                    self.attempt.line.set_reads(Reads::Configuration);
                    // No code has spaces, and some keyboards write one behind each word.
                    let trimmed = code.expose_secret().trim();
                    if !trimmed.is_empty() {
                        return Ok(SecretString::from(trimmed));
                    }
                    // Nothing was tried with that.
                    self.show(None).await?;
                }
                Said::Click(Click::Leave) => {
                    self.attempt.line.set_reads(Reads::Configuration);
                    let message = MessageKey::MojangDownNotice;
                    let refusal = Refusal { message, ..Refusal::new(Reason::ClientLeft) };
                    return Err(refusal.fact("cause", "the player chose to leave"));
                }
                Said::Click(Click::Foreign) => {
                    let cause = "an answer to a dialog that was not shown";
                    return Err(Refusal::new(Reason::BadHandshake).fact("cause", cause));
                }
                Said::Pong(_) | Said::Cookie { .. } => {
                    return Err(ConnError::Malformed(Malformed::BadValue).into());
                }
            }
        }
    }
}
