//! What a PIN command comes to: a pure function of the command and how the connection stands, and how often one may be
//! given.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{messages::MessageKey, policy::Proof, protocol::pin_command::PinCommand};

/// Between two commands of one connection.
const BETWEEN: Duration = Duration::from_secs(2);
/// Commands of one connection within [`WHILE`].
const MOST: usize = 5;
const WHILE: Duration = Duration::from_mins(10);
/// Between two lines that tell a player to rejoin because of its chat.
const REJOIN_EVERY: Duration = Duration::from_secs(10);

/// How a connection stands when a command comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How its player was proven. [`Proof::Held`] is a verification that is pending.
    pub(super) proof: Proof,
    /// Whether the player has a PIN.
    pub(super) is_set: bool,
    /// Whether there is an outage. Where the session server only has trouble, it still vouches for who logs in.
    pub(super) is_down: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Set the PIN, in place of any other.
    Set,
    /// Try the code.
    Verify,
    /// Remove the PIN.
    Reset,
    /// Say again what is asked for.
    Prompt,
    /// Nothing but say this.
    Say(MessageKey),
}

/// What a command comes to. `with_code` tells whether anything stands behind its name.
///
/// | | verified | PIN proven | by policy alone | held |
/// | --- | --- | --- | --- | --- |
/// | `/setpin` | sets or replaces | sets or replaces | no | no: asks again |
/// | `/pin` | sets if there is none | sets if there is none | no | verifies |
/// | `/resetpin` | removes; not in an outage | no | no | no: asks again |
pub(super) fn action(command: PinCommand, with_code: bool, standing: Standing) -> Action {
    let Standing { proof, is_set, is_down } = standing;
    match (command, proof) {
        // Whoever came in on an address and a name alone must neither set nor learn anything about a PIN. What replaces
        // a PIN is the old one or Mojang's word; to go without needs Mojang's word.
        (_, Proof::Fallback) | (PinCommand::ResetPin, Proof::Pinned) => Action::Say(MessageKey::PinNotNow),
        (PinCommand::Pin, Proof::Held) if with_code => Action::Verify,
        (_, Proof::Held) => Action::Prompt,
        (PinCommand::Pin, Proof::Verified | Proof::Pinned) if is_set => Action::Say(MessageKey::PinExists),
        (PinCommand::SetPin | PinCommand::Pin, Proof::Verified | Proof::Pinned) => {
            if with_code {
                Action::Set
            } else {
                Action::Say(MessageKey::PinUsage)
            }
        }
        // Who forgot it is back by Mojang's word, which nobody gives in an outage: without a PIN the next login might be
        // refused. Healthy is every other verdict: where the session server has trouble, logins are still verified.
        (PinCommand::ResetPin, Proof::Verified) if is_down => Action::Say(MessageKey::PinResetLater),
        (PinCommand::ResetPin, Proof::Verified) if is_set => Action::Reset,
        (PinCommand::ResetPin, Proof::Verified) => Action::Say(MessageKey::PinNone),
    }
}

/// How often one connection may give commands: at most one in 2 s and five in 10 min. Those that come too fast cost
/// nothing, nor do those that came to nothing because others are at work. Of memory it takes next to nothing before the
/// first one.
#[derive(Debug, Default)]
pub(in super::super) struct Pace(Option<Box<Past>>);

#[derive(Debug, Default)]
struct Past {
    /// When those were given that count, oldest first.
    given: VecDeque<Instant>,
    /// When the last one was heard, whether it counts or not.
    last: Option<Instant>,
    /// When the player last heard that it is too fast.
    told: Option<Instant>,
    /// When it was last told to rejoin.
    told_to_rejoin: Option<Instant>,
}

/// Whether a command is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is.
    Now,
    /// It is not, as it comes right behind another; the player is to hear that.
    TooFast,
    /// It is not, as there were too many; the player is to hear when the next one may be given.
    TooMany {
        /// Until then.
        wait: Duration,
    },
    /// It is not, and the player has just heard why.
    Again,
}

impl Pace {
    /// A command was given now.
    pub(super) fn take(&mut self) -> Turn {
        let (past, now) = (self.0.get_or_insert_default(), Instant::now());
        let within = |time: &Instant, span| now.duration_since(*time) < span;
        while past.given.front().is_some_and(|oldest| !within(oldest, WHILE)) {
            past.given.pop_front();
        }
        let most = past.given.front().filter(|_| past.given.len() >= MOST);
        let turn = match most {
            Some(oldest) => Turn::TooMany { wait: (*oldest + WHILE).duration_since(now) },
            None if past.last.is_some_and(|last| within(&last, BETWEEN)) => Turn::TooFast,
            None => {
                past.given.push_back(now);
                past.last = Some(now);
                return Turn::Now;
            }
        };
        if past.told.is_some_and(|told| within(&told, BETWEEN)) {
            return Turn::Again;
        }
        past.told = Some(now);
        turn
    }

    /// The command that was heard last came to nothing, and not by the player's doing: it is none of the five.
    pub(super) fn give_back(&mut self) {
        if let Some(past) = &mut self.0 {
            past.given.pop_back();
        }
    }

    /// Whether the player is to hear again that it has to rejoin: whoever goes on writing knows.
    pub(super) fn tell_to_rejoin(&mut self) -> bool {
        let (past, now) = (self.0.get_or_insert_default(), Instant::now());
        let again = past.told_to_rejoin.is_none_or(|told| now.duration_since(told) >= REJOIN_EVERY);
        if again {
            past.told_to_rejoin = Some(now);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const COMMANDS: [PinCommand; 3] = [PinCommand::SetPin, PinCommand::Pin, PinCommand::ResetPin];
    const PROOFS: [Proof; 4] = [Proof::Verified, Proof::Pinned, Proof::Fallback, Proof::Held];

    /// Every combination there is: command, code, proof, PIN, verdict.
    fn all() -> impl Iterator<Item = (PinCommand, bool, Standing)> {
        COMMANDS.into_iter().flat_map(|command| {
            PROOFS.into_iter().flat_map(move |proof| {
                (0..8).map(move |bits| {
                    let [with_code, is_set, is_down] = [1, 2, 4].map(|bit| bits & bit != 0);
                    (command, with_code, Standing { proof, is_set, is_down })
                })
            })
        })
    }

    #[test]
    fn every_combination() {
        use MessageKey::{PinExists, PinNone, PinNotNow, PinResetLater, PinUsage};
        /// What a row leaves open.
        type Any = Option<bool>;
        const ANY: Any = None;
        const YES: Any = Some(true);
        const NO: Any = Some(false);
        let rows: &[(PinCommand, Proof, Any, Any, Any, Action)] = &[
            // command, proof, with code, PIN is set, Down
            (PinCommand::SetPin, Proof::Verified, YES, ANY, ANY, Action::Set),
            (PinCommand::SetPin, Proof::Verified, NO, ANY, ANY, Action::Say(PinUsage)),
            (PinCommand::SetPin, Proof::Pinned, YES, ANY, ANY, Action::Set),
            (PinCommand::SetPin, Proof::Pinned, NO, ANY, ANY, Action::Say(PinUsage)),
            (PinCommand::SetPin, Proof::Fallback, ANY, ANY, ANY, Action::Say(PinNotNow)),
            (PinCommand::SetPin, Proof::Held, ANY, ANY, ANY, Action::Prompt),
            (PinCommand::Pin, Proof::Verified, ANY, YES, ANY, Action::Say(PinExists)),
            (PinCommand::Pin, Proof::Verified, YES, NO, ANY, Action::Set),
            (PinCommand::Pin, Proof::Verified, NO, NO, ANY, Action::Say(PinUsage)),
            (PinCommand::Pin, Proof::Pinned, ANY, YES, ANY, Action::Say(PinExists)),
            (PinCommand::Pin, Proof::Pinned, YES, NO, ANY, Action::Set),
            (PinCommand::Pin, Proof::Pinned, NO, NO, ANY, Action::Say(PinUsage)),
            (PinCommand::Pin, Proof::Fallback, ANY, ANY, ANY, Action::Say(PinNotNow)),
            (PinCommand::Pin, Proof::Held, YES, ANY, ANY, Action::Verify),
            (PinCommand::Pin, Proof::Held, NO, ANY, ANY, Action::Prompt),
            (PinCommand::ResetPin, Proof::Verified, ANY, YES, NO, Action::Reset),
            (PinCommand::ResetPin, Proof::Verified, ANY, NO, NO, Action::Say(PinNone)),
            (PinCommand::ResetPin, Proof::Verified, ANY, ANY, YES, Action::Say(PinResetLater)),
            (PinCommand::ResetPin, Proof::Pinned, ANY, ANY, ANY, Action::Say(PinNotNow)),
            (PinCommand::ResetPin, Proof::Fallback, ANY, ANY, ANY, Action::Say(PinNotNow)),
            (PinCommand::ResetPin, Proof::Held, ANY, ANY, ANY, Action::Prompt),
        ];
        let fits = |wanted: Any, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let mut seen = 0;
        for (command, with_code, standing) in all() {
            let of = rows.iter().filter(|(named, proof, code, set, down, _)| {
                (*named, *proof) == (command, standing.proof)
                    && fits(*code, with_code)
                    && fits(*set, standing.is_set)
                    && fits(*down, standing.is_down)
            });
            let expected: Vec<Action> = of.map(|row| row.5).collect();
            assert_eq!(
                expected,
                [action(command, with_code, standing)],
                "{command:?} {with_code} {standing:?}"
            );
            seen += 1;
        }
        assert_eq!(seen, 3 * 4 * 8);
    }

    #[test]
    fn only_the_proven_change_a_pin_and_only_the_held_are_asked() {
        for (command, with_code, standing) in all() {
            let action = action(command, with_code, standing);
            let changes = matches!(action, Action::Set | Action::Reset);
            assert!(!changes || matches!(standing.proof, Proof::Verified | Proof::Pinned));
            assert_eq!(matches!(action, Action::Verify | Action::Prompt), standing.proof == Proof::Held);
            // Nobody unproven learns whether there is a PIN.
            if !matches!(standing.proof, Proof::Verified | Proof::Pinned) {
                let other = Standing { is_set: !standing.is_set, ..standing };
                assert_eq!(super::action(command, with_code, other), action);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_two_seconds_and_five_in_ten_minutes() {
        let mut pace = Pace::default();
        assert_eq!([(); 3].map(|()| pace.take()), [Turn::Now, Turn::TooFast, Turn::Again]);
        advance(Duration::from_millis(1999)).await;
        assert_eq!(pace.take(), Turn::Again);
        advance(Duration::from_millis(1)).await;
        for _ in 0..4 {
            assert_eq!(pace.take(), Turn::Now);
            advance(BETWEEN).await;
        }
        // 10 s after the first.
        let too_many = |wait| Turn::TooMany { wait: Duration::from_millis(wait) };
        assert_eq!([(); 2].map(|()| pace.take()), [too_many(590_000), Turn::Again]);
        advance(Duration::from_millis(589_999)).await;
        assert_eq!(pace.take(), too_many(1));
        for _ in 0..5 {
            advance(BETWEEN).await;
            assert_eq!(pace.take(), Turn::Now, "as many as are ten minutes ago");
        }
        advance(BETWEEN).await;
        assert_eq!(pace.take(), too_many(590_000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_to_nothing_is_none_of_the_five() {
        let mut pace = Pace::default();
        pace.give_back();
        for _ in 0..20 {
            assert_eq!(pace.take(), Turn::Now);
            pace.give_back();
            assert_eq!(pace.take(), Turn::TooFast, "but not to be given at once again");
            advance(BETWEEN).await;
        }
        for _ in 0..MOST {
            assert_eq!(pace.take(), Turn::Now);
            advance(BETWEEN).await;
        }
        assert!(matches!(pace.take(), Turn::TooMany { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_player_who_goes_on_writing_is_told_now_and_then() {
        let mut pace = Pace::default();
        assert_eq!([(); 3].map(|()| pace.tell_to_rejoin()), [true, false, false]);
        advance(REJOIN_EVERY).await;
        assert_eq!([(); 2].map(|()| pace.tell_to_rejoin()), [true, false]);
    }
}
