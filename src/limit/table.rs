//! A map that never holds more than it was made for.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// A map of bounded size in the order of last use, in two ranks. Every step costs the logarithm of its size at most,
/// and nothing is ever searched through.
///
/// New entries are plain; [`Table::keep`] makes one kept. When room is wanted, the plain entry goes that was used longest
/// ago. Kept ones are at most half of all: of more, the one used longest ago is plain again. So a flood of new entries
/// pushes out its like, not those that matter; and many that matter leave room for new ones.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// The keys, plain before kept and each oldest first.
    order: BTreeMap<Place, K>,
    kept: usize,
    capacity: usize,
    next: u64,
}

/// Plain before kept, then by age.
type Place = (bool, u64);

#[derive(Debug)]
struct Entry<V> {
    place: Place,
    value: V,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// Room for so many, but at least two; memory is taken as they come.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), kept: 0, capacity: capacity.max(2), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// To change it in place; its age stays.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Adds an entry that is plain and newest, in place of any under this key. What had to go to make room is returned.
    pub(super) fn put(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let gone = if self.len() < self.capacity { None } else { self.pop() };
        let place = self.next_place(false);
        self.entries.insert(key, Entry { place, value });
        self.order.insert(place, key);
        gone
    }

    /// Makes an entry the newest of those that are kept.
    pub(super) fn keep(&mut self, key: &K) {
        self.renew(key, true);
        if self.kept > self.capacity / 2
            && let Some(oldest) = self.order.range((true, 0)..).next().map(|(_, key)| *key)
        {
            self.renew(&oldest, false);
        }
    }

    /// Makes an entry the newest of its rank.
    pub(super) fn touch(&mut self, key: &K) {
        if let Some(entry) = self.entries.get(key) {
            let kept = entry.place.0;
            self.renew(key, kept);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let Entry { place, value } = self.entries.remove(key)?;
        self.order.remove(&place);
        self.kept -= usize::from(place.0);
        Some(value)
    }

    /// Drops the oldest entries of both ranks while they are over, at most two of each. Called at every event that may
    /// add one, this keeps up with any number that end together.
    pub(super) fn drop_ended(&mut self, is_over: impl Fn(&V) -> bool) {
        for rank in [false, true] {
            for _ in 0..2 {
                let oldest = self.order.range((rank, 0)..=(rank, u64::MAX)).next().map(|(_, key)| *key);
                let Some(key) = oldest.filter(|key| self.get(key).is_some_and(&is_over)) else { break };
                self.remove(&key);
            }
        }
    }

    /// All entries, plain before kept and each oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| Some((key, self.get(key)?)))
    }

    fn pop(&mut self) -> Option<(K, V)> {
        let key = *self.order.first_key_value()?.1;
        Some((key, self.remove(&key)?))
    }

    fn renew(&mut self, key: &K, kept: bool) {
        let place = self.next_place(kept);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let old = std::mem::replace(&mut entry.place, place);
        self.order.remove(&old);
        self.order.insert(place, *key);
        self.kept = self.kept + usize::from(kept) - usize::from(old.0);
    }

    fn next_place(&mut self, kept: bool) -> Place {
        self.next += 1;
        (kept, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table<u32, u32>) -> Vec<u32> {
        assert_eq!(table.entries.len(), table.order.len());
        assert_eq!(table.kept, table.order.keys().filter(|place| place.0).count());
        table.iter().map(|(key, _)| *key).collect()
    }

    fn filled(capacity: usize, keys: impl IntoIterator<Item = u32>) -> Table<u32, u32> {
        let mut table = Table::new(capacity);
        keys.into_iter().for_each(|key| _ = table.put(key, key));
        table
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut table = filled(3, 1..=3);
        table.touch(&1);
        assert_eq!(table.put(4, 4), Some((2, 2)));
        assert_eq!(keys(&table), [3, 1, 4]);
        assert_eq!(table.put(1, 10), None, "it takes its own place");
        assert_eq!((keys(&table), table.get(&1)), (vec![3, 4, 1], Some(&10)));
        assert_eq!(table.remove(&4), Some(4));
        assert_eq!(table.remove(&4), None);
        table.touch(&4);
        *table.get_mut(&3).unwrap() = 30;
        assert_eq!(table.iter().collect::<Vec<_>>(), [(&3, &30), (&1, &10)]);
    }

    #[test]
    fn a_flood_pushes_out_its_like() {
        let mut table = filled(4, 1..=4);
        table.keep(&1);
        for key in 5..1000 {
            table.put(key, key);
        }
        assert_eq!(keys(&table), [997, 998, 999, 1]);
        table.touch(&1);
        assert_eq!(keys(&table), [997, 998, 999, 1], "touched, it stays kept");
    }

    #[test]
    fn at_most_half_are_kept() {
        let mut table = filled(4, 1..=4);
        for key in 1..=3 {
            table.keep(&key);
        }
        assert_eq!(keys(&table), [4, 1, 2, 3], "the first is plain again");
        assert_eq!(table.put(5, 5), Some((4, 4)));
        assert_eq!(table.put(6, 6), Some((1, 1)));
        table.keep(&99);
        assert_eq!(keys(&table), [5, 6, 2, 3]);
        table.remove(&2);
        table.keep(&5);
        assert_eq!(keys(&table), [6, 3, 5]);
    }

    #[test]
    fn the_ended_go_a_few_at_a_time() {
        let mut table = filled(100, 0..10);
        for key in 0..5 {
            table.keep(&key);
        }
        table.drop_ended(|value| *value < 8);
        assert_eq!(keys(&table), [7, 8, 9, 2, 3, 4]);
        table.drop_ended(|value| *value < 8);
        assert_eq!(keys(&table), [8, 9, 4]);
    }
}
