//! Who is connected: players who are in, and those who are held until their PIN is right. For whoever asks the admin
//! interface; nothing else rests on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use uuid::Uuid;

use super::pins::About;
use crate::{
    admin::{self, players::Which, status::Counts},
    login::roster::Line,
    policy::Proof,
    protocol::version::Dialect,
    reason::Reason,
};

/// Everybody who is in or held. Clones are the same. One short lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Players(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    by_number: HashMap<u64, Row>,
    next: u64,
    counts: Counts,
}

/// A player.
#[derive(Clone, Debug)]
struct Row {
    about: Arc<About>,
    line: Arc<Line>,
    proof: Proof,
    since: Timestamp,
}

/// A player's row in the list. Dropping it takes the row out.
#[derive(Debug)]
pub(super) struct Listing {
    players: Players,
    number: u64,
}

impl Players {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a player who is in or held from now on, and whose connection that line closes.
    pub(super) fn enter(&self, about: Arc<About>, proof: Proof, line: Arc<Line>, now: Timestamp) -> Listing {
        let mut rows = self.rows();
        let number = rows.next;
        rows.next += 1;
        *count(&mut rows.counts, proof) += 1;
        rows.counts.total += 1;
        rows.by_number.insert(number, Row { about, line, proof, since: now });
        Listing { players: self.clone(), number }
    }

    /// Those who are in on the session server's word.
    pub(super) fn verified(&self) -> Vec<Uuid> {
        let rows = self.rows();
        let verified = rows.by_number.values().filter(|row| row.proof == Proof::Verified);
        verified.map(|row| row.about.id).collect()
    }

    /// Those who fit, as of now.
    fn those(&self, fits: impl Fn(&Row) -> bool) -> Vec<Row> {
        self.rows().by_number.values().filter(|row| fits(row)).cloned().collect()
    }
}

/// Where players of that proof are counted.
fn count(counts: &mut Counts, proof: Proof) -> &mut usize {
    match proof {
        Proof::Verified => &mut counts.verified,
        Proof::Fallback => &mut counts.fallback,
        Proof::Pinned => &mut counts.pinned,
        Proof::Held => &mut counts.held,
    }
}

impl Listing {
    /// The player is proven in another way now, and in since then.
    pub(super) fn set_proof(&self, proof: Proof, now: Timestamp) {
        self.change(proof, now, None);
    }

    /// The player met its backend: that is what is known of it now.
    pub(super) fn met_backend(&self, about: Arc<About>, proof: Proof, now: Timestamp) {
        self.change(proof, now, Some(about));
    }

    fn change(&self, proof: Proof, now: Timestamp, about: Option<Arc<About>>) {
        let mut rows = self.players.rows();
        let Rows { by_number, counts, .. } = &mut *rows;
        if let Some(row) = by_number.get_mut(&self.number) {
            *count(counts, row.proof) -= 1;
            *count(counts, proof) += 1;
            row.proof = proof;
            row.since = now;
            row.about = about.unwrap_or_else(|| Arc::clone(&row.about));
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut rows = self.players.rows();
        if let Some(row) = rows.by_number.remove(&self.number) {
            *count(&mut rows.counts, row.proof) -= 1;
            rows.counts.total -= 1;
        }
    }
}

impl Row {
    fn told(&self) -> admin::players::Player {
        let About { caller, name, id, backend, .. } = &*self.about;
        let dialect = caller.protocol.map(Dialect::of).filter(Dialect::is_known);
        admin::players::Player {
            name: name.as_str().to_owned(),
            id: *id,
            connection: caller.conn.to_string(),
            proof: self.proof.label().to_owned(),
            address: caller.address,
            protocol: caller.protocol.map(|protocol| protocol.0),
            version: dialect.map(|dialect| dialect.game_version().to_owned()),
            backend: backend.clone(),
            host: caller.host.clone(),
            since: self.since,
        }
    }
}

impl admin::players::Players for Players {
    fn counts(&self) -> Counts {
        self.rows().counts
    }

    fn list(&self) -> Box<dyn ExactSizeIterator<Item = admin::players::Player> + Send> {
        let mut rows = self.those(|_| true);
        rows.sort_by_cached_key(|row| (row.about.name.key(), row.since));
        Box::new(rows.into_iter().map(|row| row.told()))
    }

    fn kick(&self, which: &Which, text: Option<&str>) -> Vec<admin::players::Player> {
        let meant = self.those(|row| which.means(&row.about.caller.conn, row.about.id, &row.about.name));
        // Whoever is leaving already is not sent away by this.
        let sent = meant.iter().filter(|row| row.line.send_away(Reason::Kicked, text));
        sent.map(Row::told).collect()
    }
}
