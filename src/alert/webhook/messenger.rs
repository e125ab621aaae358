//! What one hook's task does: hears alerts, makes messages of them, and hands these over one by one.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    Format,
    batch::Batch,
    hub::{News, Standing, Totals},
    message::Message,
    post::{Answer, Post, Trying},
    story::Story,
};
use crate::{alert::Alert, task::Shutdown};

/// Starts and ends of outages that may wait. The oldest goes first.
const WAITING: usize = 16;
/// Pauses after failed tries: doubled with each, with jitter, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Longest pause that a receiver may ask for, and the rest of a hook whose receiver says that it does not exist.
const REST: Duration = Duration::from_hours(1);
/// Longest time for which the last messages are sent once the proxy stops.
const CLOSING: Duration = Duration::from_secs(3);

/// The task of one hook.
pub(super) struct Messenger {
    format: Format,
    inbox: mpsc::Receiver<Arc<News>>,
    post: Post,
    story: Story,
    batch: Batch,
    /// Starts and ends of outages, oldest first.
    waiting: VecDeque<Message>,
    /// The message that is being handed over, until it was.
    current: Option<Bytes>,
    /// Failed tries since the last that did not.
    failures: u32,
    /// No try before that.
    not_before: Option<Instant>,
    standing: Arc<Standing>,
    totals: Arc<Totals>,
}

impl Messenger {
    pub(super) fn new(
        format: Format,
        inbox: mpsc::Receiver<Arc<News>>,
        post: Post,
        story: Story,
        standing: Arc<Standing>,
        totals: Arc<Totals>,
    ) -> Self {
        Self {
            format,
            inbox,
            post,
            story,
            batch: Batch::default(),
            waiting: VecDeque::new(),
            current: None,
            failures: 0,
            not_before: None,
            standing,
            totals,
        }
    }

    /// Works until `stop`, then sends what waits.
    pub(super) async fn run(mut self, stop: Shutdown) {
        let mut trying: Option<Trying> = None;
        loop {
            self.count();
            let (settled, next_try) = (self.story.settled(), self.next_try());
            tokio::select! {
                biased;
                () = stop.requested() => break,
                answer = end_of(&mut trying) => self.hear_back(answer),
                news = self.inbox.recv() => match news {
                    Some(news) => self.hear(news),
                    None => break,
                },
                () = at(settled) => self.tell_end(),
                () = at(next_try), if trying.is_none() => trying = self.begin(),
            }
        }
        self.close(trying).await;
    }

    /// How much is kept, for whoever asks.
    fn count(&self) {
        let kept = self.batch.len() + self.waiting.len() + usize::from(self.current.is_some());
        self.standing.kept.store(kept, Ordering::Relaxed);
    }

    fn hear(&mut self, news: Arc<News>) {
        match &news.alert {
            Alert::AuthState(state) => {
                if let Some(began) = self.story.hear(state, news.at, news.known) {
                    self.keep(Message::Began(began));
                }
                self.batch.leave_logins_to(&mut self.story);
            }
            Alert::Fallback(login) if self.story.takes(login) => {}
            Alert::Fallback(_) | Alert::GeoChanged(_) | Alert::BanAdded(_) => self.batch.add(news),
        }
    }

    fn tell_end(&mut self) {
        if let Some(ended) = self.story.end() {
            self.keep(Message::Ended(ended));
        }
    }

    fn keep(&mut self, message: Message) {
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
            self.lose(1);
        }
        self.waiting.push_back(message);
    }

    fn lose(&self, messages: usize) {
        self.totals.dropped.fetch_add(u64::try_from(messages).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the next try is due; `None` if there is nothing to send.
    fn next_try(&self) -> Option<Instant> {
        let due = if self.current.is_some() || !self.waiting.is_empty() {
            Instant::now()
        } else {
            self.batch.due()?
        };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// Begins a try with the message that is next.
    fn begin(&mut self) -> Option<Trying> {
        if self.current.is_none() {
            let message = self.waiting.pop_front().or_else(|| self.batch.take().map(Message::Batch))?;
            self.current = Some(message.body(self.format).into());
        }
        self.current.clone().map(|body| (self.post)(body))
    }

    /// A try has ended.
    fn hear_back(&mut self, answer: Answer) {
        let number = self.standing.number.load(Ordering::Relaxed);
        let format = self.format.label();
        self.standing.failing.store(answer != Answer::Taken, Ordering::Relaxed);
        if answer == Answer::Taken {
            self.current = None;
            self.not_before = None;
            self.totals.sent.fetch_add(1, Ordering::Relaxed);
            let failures = mem::take(&mut self.failures);
            if failures > 0 {
                info!(hook = number, format, failures, "a webhook takes messages again");
            }
            return;
        }
        self.totals.failed.fetch_add(1, Ordering::Relaxed);
        let is_first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        match answer {
            Answer::Taken => {}
            Answer::Later { why, wait } => {
                let pause = pause(self.failures).max(wait.unwrap_or_default().min(REST));
                self.not_before = Some(now + pause);
                if is_first {
                    warn!(hook = number, format, why, "a webhook takes no message; it is tried again");
                }
            }
            Answer::Refused { why } => {
                self.current = None;
                self.lose(1);
                self.not_before = Some(now + FIRST_PAUSE);
                if is_first {
                    warn!(
                        hook = number,
                        format,
                        why,
                        "a webhook refused a message, which is dropped; check its url \
                          and format under alerts.webhooks"
                    );
                }
            }
            Answer::Unwelcome { why } => {
                self.current = None;
                self.lose(1);
                self.not_before = Some(now + REST);
                if is_first {
                    warn!(
                        hook = number,
                        format,
                        why,
                        "a webhook's url is not, or not any more, one to write to; it \
                          rests for an hour. Check its url under alerts.webhooks"
                    );
                }
            }
        }
    }

    /// Sends what waits, one try each, in a short time. What does not get through is lost.
    async fn close(mut self, trying: Option<Trying>) {
        self.inbox.close();
        while let Ok(news) = self.inbox.try_recv() {
            self.hear(news);
        }
        self.tell_end();
        let until = Instant::now() + CLOSING;
        let mut trying = trying.or_else(|| self.begin());
        while trying.is_some() {
            let Ok(answer) = timeout_at(until, end_of(&mut trying)).await else { break };
            let is_taken = answer == Answer::Taken;
            self.hear_back(answer);
            if !is_taken {
                break;
            }
            trying = self.begin();
        }
        let left = self.batch.len() + self.waiting.len() + usize::from(self.current.is_some());
        if left > 0 {
            self.lose(left);
            let hook = self.standing.number.load(Ordering::Relaxed);
            warn!(
                hook,
                format = self.format.label(),
                left,
                "a webhook did not take its last messages; they are lost"
            );
        }
        self.standing.kept.store(0, Ordering::Relaxed);
    }
}

/// Waits until then; for ever if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of a try, which then is none any more; for ever if there is none.
async fn end_of(trying: &mut Option<Trying>) -> Answer {
    let Some(pending) = trying else { return std::future::pending().await };
    let answer = pending.await;
    *trying = None;
    answer
}

/// The pause after so many failed tries in a row, give or take a quarter: many hooks of one receiver do not come back all
/// at once.
fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    let mut byte = [128];
    // Without randomness there is no jitter, which is no harm.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    (doubled.mul_f64(0.75 + f64::from(byte) / 512.0)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_give_or_take_a_quarter() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (u32::MAX, 300.0)]
        {
            for _ in 0..100 {
                let pause = pause(failures).as_secs_f64();
                assert!(
                    (seconds * 0.75..=seconds * 1.25).contains(&pause) && pause <= 300.0,
                    "{failures}: {pause}"
                );
            }
        }
    }
}
