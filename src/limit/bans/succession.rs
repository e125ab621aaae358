//! Another configuration while the proxy runs.

use std::{sync::Arc, time::Duration};

use super::{Bans, Config, Former, Now, OpenError, PerKind, State, Stored, Table, Target, signed};

/// Another configuration, with its file read; see [`Bans::prepare`].
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    /// What the other file holds; `None` if it is the same one.
    stored: Option<Stored>,
}

impl Bans {
    /// Makes ready to ban by another configuration. Another file is read; nothing is changed.
    ///
    /// # Errors
    /// Another file that cannot be read, or could not be written for want of its folder.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, OpenError> {
        let config = config.clone();
        {
            let state = self.state();
            if state.config.file == config.file {
                return Ok(Prepared { config, stored: None });
            }
            // What it is to hold is not there yet.
            if let Some(former) = state.former.iter().find(|former| former.path == config.file) {
                let stored = Stored { bans: former.bans.to_vec(), damaged: None };
                return Ok(Prepared { config, stored: Some(stored) });
            }
        }
        let read = tokio::task::spawn_blocking(move || {
            let stored = Stored::read(&config)?;
            Ok(Prepared { config, stored: Some(stored) })
        });
        // The task cannot be cancelled while somebody waits for it.
        read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Bans by it from now on, as after a start with that configuration. No ban lasts for longer than one would that is
    /// set now. With another file, what that holds is in force, and the one before is left as it should be. Failures that
    /// were counted still count.
    pub fn adopt(&self, Prepared { config, stored }: Prepared) {
        let now = self.now();
        let mut state = self.state();
        state.judge_by(&config);
        let events = match stored {
            None => {
                state.end_within(config.duration, now);
                state.config = config;
                Vec::new()
            }
            Some(stored) => {
                let bans = Arc::new(state.in_force(now));
                let path = std::mem::replace(&mut state.config, config).file;
                let damaged = state.damaged.take();
                // None has an entry for the file that was in use until now.
                state.former.push(Former { path, bans, damaged });
                // Nobody else writes it any more.
                let file = state.config.file.clone();
                let unwritten = state.former.extract_if(.., |former| former.path == file).next();
                state.banned = PerKind::nobody();
                let events = state.take_up(stored.bans, now);
                state.unsaved |= unwritten.is_some() || stored.damaged.is_some();
                state.damaged = unwritten.and_then(|former| former.damaged).or(stored.damaged);
                events
            }
        };
        drop(state);
        self.0.moved.notify_one();
        self.0.changed.notify_one();
        self.tell(&events);
    }
}

impl State {
    fn judge_by(&mut self, config: &Config) {
        let PerKind { client, subnet, asn, pair } = &mut self.counters;
        client.adopt(config.per_client, config.duration);
        subnet.adopt(config.per_subnet, config.duration);
        asn.adopt(config.per_asn, config.duration);
        pair.adopt(config.per_client, config.duration);
        self.refused.adopt(config.duration);
    }

    /// Ends all bans after this time at the latest.
    fn end_within(&mut self, duration: Duration, now: Now) {
        let Ok(until) = now.wall.checked_add(signed(duration)) else { return };
        let ends = now.steady + duration;
        let all = self.banned.each().into_iter().flat_map(Table::iter);
        let longer: Vec<Target> =
            all.filter(|(_, entry)| entry.ends > ends).map(|(target, _)| *target).collect();
        for target in longer {
            if let Some(entry) = self.banned.of(&target).get_mut(&target) {
                entry.ends = ends;
                entry.ban.until = entry.ban.until.min(until);
                self.unsaved = true;
            }
        }
    }
}
