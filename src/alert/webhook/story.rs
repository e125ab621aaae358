//! An outage as a hook is told of it: its start, and its end with what came of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::alert::{AuthState, Fallback, Outage};

/// The verdict must have been other than Down for so long until the end is told: one that comes and goes is one outage.
const SETTLED: Duration = Duration::from_mins(1);
/// Players whom the digest names.
const NAMES: usize = 20;

/// Says what became of the logins of the outage that began then; `None` if it is not remembered.
pub type Tally = Arc<dyn Fn(Timestamp) -> Option<Logins> + Send + Sync>;

/// What became of the logins of an outage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// Those that policy let in.
    pub admitted: u64,
    /// Those refused, by reason code.
    pub refused: BTreeMap<String, u64>,
}

impl Logins {
    fn add(&mut self, other: &Self) {
        self.admitted = self.admitted.saturating_add(other.admitted);
        for (reason, count) in &other.refused {
            let sum = self.refused.entry(reason.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// What has come since then.
    fn since(mut self, then: &Self) -> Self {
        self.admitted = self.admitted.saturating_sub(then.admitted);
        for (reason, count) in &mut self.refused {
            *count = count.saturating_sub(then.refused.get(reason).copied().unwrap_or_default());
        }
        self.refused.retain(|_, count| *count > 0);
        self
    }
}

/// The start of an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Began {
    pub(super) at: Timestamp,
    pub(super) cause: String,
}

/// The end of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) logins: Logins,
    pub(super) players: Players,
}

impl Ended {
    pub(super) fn lasted(&self) -> Duration {
        Duration::try_from(self.to.duration_since(self.from)).unwrap_or_default()
    }
}

/// Some of the players who were let in, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Players {
    pub(super) names: Vec<String>,
    /// Whether there were others.
    pub(super) more: bool,
}

impl Players {
    fn note(&mut self, name: &str) {
        if self.names.iter().any(|known| known == name) {
            return;
        }
        if self.names.len() < NAMES {
            self.names.push(name.to_owned());
        } else {
            self.more = true;
        }
    }
}

/// What a hook knows of outages.
///
/// ```text
/// quiet ──goes on──> told of the start ──over──> settling ──a minute──> told of the end, quiet
///                          ^                        │
///                          └───────goes on──────────┘
/// ```
pub(super) struct Story {
    /// When this run of the proxy began.
    run_begun: Timestamp,
    tally: Tally,
    /// Whether players are named.
    names: bool,
    /// The outage that is being told.
    open: Option<Open>,
    /// The newest one whose end was told, by its beginning, and its logins until then: it may go on after all.
    told: Option<(Timestamp, Logins)>,
}

struct Open {
    /// Since when, as it was or would have been told.
    since: Timestamp,
    /// The outage that is going on in it, as the tally knows it.
    started: Timestamp,
    /// Its logins that belong to what was told before.
    before: Logins,
    /// Logins of outages that were over in between.
    earlier: Logins,
    /// Players who were let in, counted here: also those before the verdict.
    admitted: u64,
    players: Players,
    /// When it ended, and from when on that is settled.
    over: Option<(Timestamp, Instant)>,
}

impl Story {
    pub(super) fn new(run_begun: Timestamp, tally: Tally, names: bool) -> Self {
        Self { run_begun, tally, names, open: None, told: None }
    }

    /// The verdict changed at that time. Returns the start of an outage that is to be told. `known` is what others were
    /// told of before.
    pub(super) fn hear(&mut self, state: &AuthState, at: Timestamp, known: bool) -> Option<Began> {
        match (state.outage?, &mut self.open) {
            (Outage::GoesOn { started }, Some(open)) => {
                open.over = None;
                if open.started != started {
                    let logins = open.logins(&self.tally);
                    open.earlier.add(&logins);
                    (open.started, open.before) = (started, Logins::default());
                }
                None
            }
            (Outage::GoesOn { started }, None) => {
                let told = self.told.as_ref().filter(|(told, _)| *told == started);
                // Again, in an outage whose end was told.
                let since = if told.is_some() { at } else { started };
                let is_old = started < self.run_begun && told.is_none();
                let before = told.map(|(_, logins)| logins.clone()).unwrap_or_default();
                self.open = Some(Open::new(since, started, before));
                (!known && !is_old).then(|| Began { at: since, cause: state.cause.clone() })
            }
            (Outage::Over { started, ended }, open) => {
                // Without a start: one that the run before left open.
                let open = open.get_or_insert_with(|| Open::new(started, started, Logins::default()));
                open.over = Some((ended, Instant::now() + SETTLED));
                None
            }
        }
    }

    /// Whether that login is part of an outage that is being told.
    pub(super) fn takes(&mut self, login: &Fallback) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.admitted = open.admitted.saturating_add(1);
        if self.names {
            open.players.note(&login.player.name);
        }
        true
    }

    /// So many logins more, of which nothing else is known.
    pub(super) fn takes_more(&mut self, logins: u32) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.admitted = open.admitted.saturating_add(logins.into());
        open.players.more |= self.names && logins > 0;
        true
    }

    /// When the end is to be told.
    pub(super) fn settled(&self) -> Option<Instant> {
        self.open.as_ref()?.over.map(|(_, settled)| settled)
    }

    /// The end, settled or not; `None` if none is in sight.
    pub(super) fn end(&mut self) -> Option<Ended> {
        let (ended, _) = self.open.as_ref()?.over?;
        let open = self.open.take()?;
        let mut logins = open.logins(&self.tally);
        logins.add(&open.earlier);
        // One is known by its tally, the other by what was heard, of which some may have got lost.
        logins.admitted = logins.admitted.max(open.admitted);
        self.told = Some((open.started, (self.tally)(open.started).unwrap_or_default()));
        Some(Ended { from: open.since, to: ended, logins, players: open.players })
    }
}

impl Open {
    fn new(since: Timestamp, started: Timestamp, before: Logins) -> Self {
        let (earlier, players) = (Logins::default(), Players::default());
        Self { since, started, before, earlier, admitted: 0, players, over: None }
    }

    /// Those of the outage that is going on.
    fn logins(&self, tally: &Tally) -> Logins {
        tally(self.started).unwrap_or_default().since(&self.before)
    }
}
