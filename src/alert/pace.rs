//! A few lines, and the rest as one: whoever is told too much reads nothing.

use std::{fmt, mem, time::Duration};

use tokio::time::Instant;

use super::Alert;

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines within [`WINDOW`].
const LINES: u32 = 3;

/// Says which alerts get a line of their own. At most three within 10 s; what is beyond is summed up in one line at the
/// end of them, which is the first of the next 10 s.
#[derive(Debug, Default)]
pub struct Pace {
    window: Option<Window>,
    left_out: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Instant,
    told: u32,
}

/// Alerts that got no line of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    fallbacks: u32,
    moved: u32,
    bans: u32,
    /// The newest verdict on the session server, if that changed.
    state: Option<&'static str>,
}

impl Pace {
    /// Whether this alert is told now: then it comes back. Else it is added to what [`Pace::due`] sums up.
    pub fn offer(&mut self, alert: Alert) -> Option<Alert> {
        let now = Instant::now();
        if self.left_out.is_empty() {
            let window = self.window.filter(|window| now < window.ends);
            let window = window.unwrap_or(Window { ends: now + WINDOW, told: 0 });
            if window.told < LINES {
                self.window = Some(Window { told: window.told + 1, ..window });
                return Some(alert);
            }
        }
        self.left_out.add(&alert);
        None
    }

    /// Waits until there is something to sum up and it may be told; for ever if there is nothing.
    pub async fn due(&mut self) -> Sum {
        match self.window {
            Some(window) if !self.left_out.is_empty() => tokio::time::sleep_until(window.ends).await,
            _ => std::future::pending().await,
        }
        self.window = Some(Window { ends: Instant::now() + WINDOW, told: 1 });
        mem::take(&mut self.left_out)
    }
}

impl Sum {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, alert: &Alert) {
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
        Alert::AuthState(AuthState { from: "up", to, cause: String::new(), lasted: None })
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
