//! Alerts that are told together.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{hub::News, story::Story};
use crate::alert::{Alert, Sum};

/// How long the first of a batch waits for others. An outage that begins meanwhile takes the logins among them along.
const COLLECTED: Duration = Duration::from_secs(5);
/// From one batch to the next: more messages nobody reads, and receivers limit them.
const APART: Duration = Duration::from_secs(30);
/// Alerts of a batch that are told one by one; the rest is counted.
const MOST: usize = 50;

/// Alerts that wait to be told together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    items: Vec<Arc<News>>,
    left_out: Sum,
    /// When it is due; `None` while it is empty.
    due: Option<Instant>,
    /// Before that the next one is not due.
    not_before: Option<Instant>,
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Never state changes.
    pub(super) items: Vec<Arc<News>>,
    /// Those that are not told one by one.
    pub(super) left_out: Sum,
}

impl Batch {
    pub(super) fn add(&mut self, news: Arc<News>) {
        if self.items.len() < MOST {
            self.items.push(news);
        } else {
            self.left_out.add(&news.alert);
        }
        if self.due.is_none() {
            self.due = (Instant::now() + COLLECTED).max(self.not_before.unwrap_or_else(Instant::now)).into();
        }
    }

    /// An outage has begun: the logins that wait are part of it.
    pub(super) fn leave_logins_to(&mut self, story: &mut Story) {
        self.items.retain(|news| !matches!(&news.alert, Alert::Fallback(login) if story.takes(login)));
        if story.takes_more(self.left_out.fallbacks) {
            self.left_out.fallbacks = 0;
        }
        if self.items.is_empty() && self.left_out.is_empty() {
            self.due = None;
        }
    }

    /// When it is to be told.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// What is to be told, if there is anything.
    pub(super) fn take(&mut self) -> Option<Told> {
        self.due.take()?;
        self.not_before = Some(Instant::now() + APART);
        Some(Told { items: mem::take(&mut self.items), left_out: mem::take(&mut self.left_out) })
    }
}

impl Told {
    /// All of it, by kind.
    pub(super) fn sum(&self) -> Sum {
        let mut sum = self.left_out;
        for news in &self.items {
            sum.add(&news.alert);
        }
        sum
    }
}
