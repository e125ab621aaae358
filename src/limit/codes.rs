//! Wrong PIN codes of each player's id, from wherever they came: whoever has many addresses has as few tries.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::table::{MANY, Table};

/// How long a wrong code counts.
const COUNTS: Duration = Duration::from_hours(24);

/// Codes of one id that are remembered: more than any rule asks for. Beyond that the oldest is forgotten.
const MOST: usize = 32;

/// The counts. Clones share them. They are of 28 000 ids at most, half a kilobyte each; only ids that have a PIN can get
/// one, and of more, those go first that had one wrong code only. In memory alone: a restart of the proxy is not a
/// guesser's to make. So whatever the machine's clock is set to does not matter.
#[derive(Clone)]
pub struct WrongCodes(Arc<Mutex<ById>>);

/// When there were any, oldest first; never empty.
type ById = Table<Uuid, Vec<Instant>>;

/// A code that counts as wrong unless it is given back.
#[derive(Debug)]
#[must_use]
pub struct ChargedCode {
    codes: WrongCodes,
    id: Uuid,
    at: Instant,
}

impl Default for WrongCodes {
    /// Nobody has entered any.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table::new(MANY))))
    }
}

impl WrongCodes {
    /// How many there were for the id within 24 h, up to 32.
    pub fn count(&self, id: Uuid) -> u32 {
        let by_id = self.lock();
        let codes = by_id.get(&id).into_iter().flatten().filter(|at| counts(**at)).count();
        u32::try_from(codes).unwrap_or(u32::MAX)
    }

    /// Counts one more.
    pub fn charge(&self, id: Uuid) -> ChargedCode {
        let now = Instant::now();
        let mut by_id = self.lock();
        by_id.drop_ended(|codes| !codes.last().is_some_and(|at| counts(*at)));
        if let Some(codes) = by_id.get_mut(&id) {
            codes.retain(|at| counts(*at));
            if codes.len() >= MOST {
                codes.remove(0);
            }
            codes.push(now);
            by_id.keep(&id);
        } else {
            by_id.put(id, vec![now]);
        }
        ChargedCode { codes: self.clone(), id, at: now }
    }

    fn lock(&self) -> MutexGuard<'_, ById> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChargedCode {
    /// The code was right.
    pub fn give_back(self) {
        let mut by_id = self.codes.lock();
        let Some(codes) = by_id.get_mut(&self.id) else { return };
        if let Some(at) = codes.iter().rposition(|at| *at == self.at) {
            codes.remove(at);
        }
        if codes.is_empty() {
            by_id.remove(&self.id);
        }
    }
}

fn counts(at: Instant) -> bool {
    at.elapsed() < COUNTS
}

impl fmt::Debug for WrongCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrongCodes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(1);

    #[tokio::test(start_paused = true)]
    async fn counted_for_a_day_and_given_back() {
        let codes = WrongCodes::default();
        for hour in 0..20_u32 {
            assert_eq!(codes.count(ID), hour);
            let _ = codes.charge(ID);
            codes.charge(ID).give_back();
            tokio::time::advance(Duration::from_hours(1)).await;
        }
        assert_eq!((codes.count(ID), codes.count(Uuid::from_u128(2))), (20, 0));
        tokio::time::advance(Duration::from_hours(4) - Duration::from_millis(1)).await;
        assert_eq!(codes.count(ID), 20);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(codes.count(ID), 19);
        tokio::time::advance(Duration::from_hours(24)).await;
        assert_eq!(codes.count(ID), 0);
        let first = codes.charge(Uuid::from_u128(2));
        assert_eq!(codes.lock().len(), 1, "what is over goes by itself");
        first.give_back();
        assert_eq!(codes.lock().len(), 0);
    }

    #[test]
    fn bounded_for_one_id_and_for_all() {
        let codes = WrongCodes::default();
        for _ in 0..1000 {
            let _ = codes.charge(ID);
        }
        assert_eq!(codes.count(ID), 32);
        for n in 0..100_000 {
            let _ = codes.charge(Uuid::from_u128(1000 + n));
        }
        assert_eq!(codes.lock().len(), MANY);
        assert_eq!(codes.count(ID), 32, "who has many is not forgotten for those who have one");
    }
}
