//! A few lines, and the rest as one: whoever is told too much reads nothing.

use std::{collections::VecDeque, fmt, mem, time::Duration};

use tokio::time::Instant;

use super::Alert;

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines within [`WINDOW`].
const LINES: usize = 3;

/// Says which alerts get a line of their own. At most three lines within any 10 s; what is beyond is summed up in one
/// line, which is the next that there is room for.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the newest lines were told, as many as there may be, oldest first.
    told: VecDeque<Instant>,
    left_out: Sum,
}

/// Alerts that got no line of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub(super) fallbacks: u32,
    moved: u32,
    bans: u32,
    /// The newest verdict on the session server, if that changed.
    state: Option<&'static str>,
}

impl Pace {
    /// Whether this alert is told now: then it comes back. Else it is added to what [`Pace::due`] sums up.
    pub fn offer(&mut self, alert: Alert) -> Option<Alert> {
        if self.left_out.is_empty() && self.next() <= Instant::now() {
            self.tell();
            return Some(alert);
        }
        self.left_out.add(&alert);
        None
    }

    /// These get no line of their own.
    pub fn leave_out(&mut self, alerts: Sum) {
        self.left_out.merge(alerts);
    }

    /// From when on there is room for a line.
    fn next(&self) -> Instant {
        match self.told.front() {
            Some(oldest) if self.told.len() == LINES => *oldest + WINDOW,
            _ => Instant::now(),
        }
    }

    /// A line is told now.
    fn tell(&mut self) {
        if self.told.len() == LINES {
            self.told.pop_front();
        }
        self.told.push_back(Instant::now());
    }

    /// Waits until there is something to sum up and it may be told; for ever if there is nothing.
    pub async fn due(&mut self) -> Sum {
        if self.left_out.is_empty() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.next()).await;
        self.tell();
        mem::take(&mut self.left_out)
    }
}

impl Sum {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many there are, changes of the verdict apart.
    pub(super) fn count(&self) -> u64 {
        u64::from(self.fallbacks) + u64::from(self.moved) + u64::from(self.bans)
    }

    /// Adds what came behind it.
    fn merge(&mut self, newer: Self) {
        self.fallbacks = self.fallbacks.saturating_add(newer.fallbacks);
        self.moved = self.moved.saturating_add(newer.moved);
        self.bans = self.bans.saturating_add(newer.bans);
        self.state = newer.state.or(self.state);
    }

    pub(super) fn add(&mut self, alert: &Alert) {
        match alert {
            Alert::Fallback(_) => self.fallbacks = self.fallbacks.saturating_add(1),
            Alert::GeoChanged(_) => self.moved = self.moved.saturating_add(1),
            Alert::BanAdded(_) => self.bans = self.bans.saturating_add(1),
            Alert::AuthState(change) => self.state = Some(change.to),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (count, one, many) in [
            (self.fallbacks, "login without Mojang", "logins without Mojang"),
            (self.moved, "player from elsewhere", "players from elsewhere"),
            (self.bans, "ban", "bans"),
        ] {
            if count > 0 {
                write!(f, "{before}{count} {}", if count == 1 { one } else { many })?;
                before = ", ";
            }
        }
        match self.state {
            Some(state) => write!(f, "{before}authentication servers are now {state}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::alert::{AuthState, BanAdded};

    fn ban() -> Alert {
        Alert::BanAdded(BanAdded {
            target: "203.0.113.5".to_owned(),
            failures: 3,
            until: Timestamp::UNIX_EPOCH,
        })
    }

    fn state(to: &'static str) -> Alert {
        Alert::AuthState(AuthState { from: "up", to, cause: String::new(), lasted: None, outage: None })
    }

    fn told(pace: &mut Pace, alerts: usize) -> usize {
        (0..alerts).filter(|_| pace.offer(ban()).is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn three_lines_then_one_that_sums_up() {
        let mut pace = Pace::default();
        assert_eq!(told(&mut pace, 1000), 3);
        let began = Instant::now();
        assert_eq!(pace.due().await.to_string(), "997 bans");
        assert_eq!(began.elapsed(), WINDOW);
        // The sum was a line too.
        assert_eq!(told(&mut pace, 1000), 2);
        assert_eq!(pace.due().await.to_string(), "998 bans");
        advance(WINDOW).await;
        assert_eq!(told(&mut pace, 4), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_three_in_any_ten_seconds() {
        let mut pace = Pace::default();
        let began = Instant::now();
        let mut lines = Vec::new();
        // Offered ten times a second, but for a pause in which the first lines have a time of their own each.
        for step in 0..1000 {
            if (1..70).contains(&(step % 100)) && step < 300 {
                advance(Duration::from_millis(100)).await;
                continue;
            }
            if pace.offer(ban()).is_some() {
                lines.push(began.elapsed());
            }
            if timeout(Duration::from_millis(100), pace.due()).await.is_ok() {
                lines.push(began.elapsed());
            }
        }
        assert!(lines.len() > 20, "{lines:?}");
        for (first, fourth) in lines.iter().zip(lines.iter().skip(LINES)) {
            assert!(*fourth >= *first + WINDOW, "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_lost_before_is_summed_up() {
        let mut pace = Pace::default();
        pace.leave_out(Sum::default());
        assert_eq!(told(&mut pace, 1), 1, "nothing got lost");
        pace.leave_out(Sum { fallbacks: 2, moved: 1, bans: 3, state: Some("down") });
        pace.offer(state("up"));
        pace.leave_out(Sum { bans: 1, ..Sum::default() });
        let said =
            "2 logins without Mojang, 1 player from elsewhere, 4 bans, authentication servers are now up";
        assert_eq!(pace.due().await.to_string(), said);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_all_gets_no_sum() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            assert_eq!(told(&mut pace, 3), 3);
            timeout(WINDOW, pace.due()).await.unwrap_err();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_overtakes_the_sum() {
        let mut pace = Pace::default();
        assert_eq!(told(&mut pace, 4), 3);
        advance(WINDOW * 2).await;
        assert_eq!(pace.offer(state("down")), None, "it belongs to what is summed up");
        assert_eq!(pace.due().await.to_string(), "1 ban, authentication servers are now down");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_may_be_broken_off() {
        let mut pace = Pace::default();
        told(&mut pace, 4);
        timeout(WINDOW / 2, pace.due()).await.unwrap_err();
        told(&mut pace, 1);
        assert_eq!(pace.due().await.bans, 2);
    }

    #[test]
    fn sums_in_words() {
        let sum = Sum { fallbacks: 1, moved: 2, bans: 1, state: Some("up") };
        let said =
            "1 login without Mojang, 2 players from elsewhere, 1 ban, authentication servers are now up";
        assert_eq!(sum.to_string(), said);
        let sum = Sum { fallbacks: 12, ..Sum::default() };
        assert_eq!(sum.to_string(), "12 logins without Mojang");
    }
}
