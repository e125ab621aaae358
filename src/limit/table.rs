//! A map that never holds more than it was made for.

use std::{collections::HashMap, hash::Hash, iter::successors};

/// Entries of a table that anybody can add to. A little less than fill half of a hash table of 65 536 places: it then
/// grows to that and not beyond, however many come and go.
pub(super) const MANY: usize = 28_000;

/// The same for a quarter of that.
pub(super) const FEWER: usize = 7_000;

/// A map of bounded size that knows the order of last use, in two ranks. Every step takes the same time, however many
/// entries there are.
///
/// New entries are plain; [`Table::keep`] makes one kept. When room is wanted, the plain entry goes that was used longest
/// ago. Kept ones are at most half of all: of more, the one used longest ago is plain again. So a flood of new entries
/// pushes out its like, not those that matter; and many that matter leave room for new ones.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    places: HashMap<K, Place>,
    /// Without gaps: the last one moves to where one was removed.
    slots: Vec<Slot<K, V>>,
    plain: Ends,
    kept: Ends,
    capacity: usize,
}

/// An index of `slots`; [`NONE`] is none.
type Place = u32;
const NONE: Place = Place::MAX;

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    kept: bool,
    /// The neighbours of its rank.
    older: Place,
    newer: Place,
}

/// The ends of one rank's list.
#[derive(Debug)]
struct Ends {
    oldest: Place,
    newest: Place,
    len: usize,
}

impl Default for Ends {
    fn default() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// Room for so many, but at least two; memory is taken as they come.
    pub(super) fn new(capacity: usize) -> Self {
        let (plain, kept) = (Ends::default(), Ends::default());
        Self { places: HashMap::new(), slots: Vec::new(), plain, kept, capacity: capacity.max(2) }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.slot(*self.places.get(key)?).map(|slot| &slot.value)
    }

    /// To change it in place; its age stays.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        self.slot_mut(place).map(|slot| &mut slot.value)
    }

    /// Adds an entry that is plain and newest, in place of any under this key. What had to go to make room is returned.
    pub(super) fn put(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let gone = if self.len() < self.capacity { None } else { self.pop() };
        // The capacity is a number of the program's own, far below what a place can count.
        let place = Place::try_from(self.len()).unwrap_or(NONE);
        self.places.insert(key, place);
        self.slots.push(Slot { key, value, kept: false, older: NONE, newer: NONE });
        self.append(place, false);
        gone
    }

    /// Makes an entry the newest of those that are kept.
    pub(super) fn keep(&mut self, key: &K) {
        if let Some(place) = self.places.get(key).copied() {
            self.unlink(place);
            self.append(place, true);
        }
        if self.kept.len > self.capacity / 2 {
            let oldest = self.kept.oldest;
            self.unlink(oldest);
            self.append(oldest, false);
        }
    }

    /// Makes an entry the newest of its rank.
    pub(super) fn touch(&mut self, key: &K) {
        let Some(place) = self.places.get(key).copied() else { return };
        let Some(kept) = self.slot(place).map(|slot| slot.kept) else { return };
        self.unlink(place);
        self.append(place, kept);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.places.remove(key)?;
        Some(self.take(place)?.1)
    }

    /// Drops the oldest entries of both ranks while they are over, at most two of each. Called at every event that may
    /// add one, this keeps up with any number that end together.
    pub(super) fn drop_ended(&mut self, is_over: impl Fn(&V) -> bool) {
        for kept in [false, true] {
            for _ in 0..2 {
                let oldest = self.slot(self.ends(kept).oldest);
                let Some(key) = oldest.filter(|slot| is_over(&slot.value)).map(|slot| slot.key) else {
                    break;
                };
                self.remove(&key);
            }
        }
    }

    /// All entries, plain before kept and each oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let rank = |ends: &Ends| successors(self.slot(ends.oldest), |slot| self.slot(slot.newer));
        rank(&self.plain).chain(rank(&self.kept)).map(|slot| (&slot.key, &slot.value))
    }

    /// Bytes on the heap, without what the values hold there.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // A hash table is at most 7/8 full and has a byte for each of its places.
        let hashed = self.places.capacity() * 8 / 7 * (size_of::<(K, Place)>() + 1);
        hashed + self.slots.capacity() * size_of::<Slot<K, V>>()
    }

    fn pop(&mut self) -> Option<(K, V)> {
        let place = if self.plain.len > 0 { self.plain.oldest } else { self.kept.oldest };
        let (key, value) = self.take(place)?;
        self.places.remove(&key);
        Some((key, value))
    }

    /// Removes what is there, but from `places`.
    fn take(&mut self, place: Place) -> Option<(K, V)> {
        self.unlink(place);
        let at = usize::try_from(place).ok().filter(|at| *at < self.slots.len())?;
        let slot = self.slots.swap_remove(at);
        // Whoever knew the last one by its place gets to know its new one.
        if let Some(moved) = self.slots.get(at) {
            let (key, kept, older, newer) = (moved.key, moved.kept, moved.older, moved.newer);
            self.places.insert(key, place);
            self.join(kept, older, place);
            self.join(kept, place, newer);
        }
        Some((slot.key, slot.value))
    }

    fn append(&mut self, place: Place, kept: bool) {
        let newest = self.ends(kept).newest;
        if let Some(slot) = self.slot_mut(place) {
            slot.kept = kept;
            self.join(kept, newest, place);
            self.join(kept, place, NONE);
            self.ends_mut(kept).len += 1;
        }
    }

    fn unlink(&mut self, place: Place) {
        if let Some(&Slot { kept, older, newer, .. }) = self.slot(place) {
            self.join(kept, older, newer);
            self.ends_mut(kept).len -= 1;
        }
    }

    /// Makes two entries of a rank neighbours; with [`NONE`], the other one is the end of its list.
    fn join(&mut self, kept: bool, older: Place, newer: Place) {
        match self.slot_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.ends_mut(kept).oldest = newer,
        }
        match self.slot_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.ends_mut(kept).newest = older,
        }
    }

    fn slot(&self, place: Place) -> Option<&Slot<K, V>> {
        self.slots.get(usize::try_from(place).ok()?)
    }

    fn slot_mut(&mut self, place: Place) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(usize::try_from(place).ok()?)
    }

    fn ends(&self, kept: bool) -> &Ends {
        if kept { &self.kept } else { &self.plain }
    }

    fn ends_mut(&mut self, kept: bool) -> &mut Ends {
        if kept { &mut self.kept } else { &mut self.plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table<u32, u32>) -> Vec<u32> {
        let keys: Vec<u32> = table.iter().map(|(key, _)| *key).collect();
        assert_eq!((keys.len(), table.places.len()), (table.len(), table.len()));
        assert_eq!(table.plain.len + table.kept.len, table.len());
        for (rank, ends) in [(false, &table.plain), (true, &table.kept)] {
            // The same backwards.
            let back = successors(table.slot(ends.newest), |slot| table.slot(slot.older));
            let back: Vec<u32> = back.map(|slot| slot.key).collect();
            assert_eq!(back.len(), ends.len);
            assert!(back.iter().all(|key| table.slot(table.places[key]).unwrap().kept == rank));
            let forth = if rank { &keys[keys.len() - ends.len..] } else { &keys[..ends.len] };
            assert!(back.iter().rev().eq(forth), "{back:?} {forth:?}");
        }
        keys
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

    /// The same, written plainly.
    #[derive(Default)]
    struct Model {
        plain: Vec<u32>,
        kept: Vec<u32>,
    }

    impl Model {
        fn remove(&mut self, key: u32) -> Option<bool> {
            let was_kept = self.kept.contains(&key);
            let there = was_kept || self.plain.contains(&key);
            self.plain.retain(|other| *other != key);
            self.kept.retain(|other| *other != key);
            there.then_some(was_kept)
        }

        fn all(&self) -> Vec<u32> {
            [self.plain.clone(), self.kept.clone()].concat()
        }
    }

    proptest::proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(steps in proptest::collection::vec((0..5_u8, 0..12_u32), 0..300)) {
            let (mut table, mut model) = (Table::new(7), Model::default());
            for (step, key) in steps {
                match step {
                    0 | 1 => {
                        model.remove(key);
                        if model.all().len() >= 7 {
                            let gone = if model.plain.is_empty() { model.kept.remove(0) } else { model.plain.remove(0) };
                            proptest::prop_assert_eq!(table.put(key, key), Some((gone, gone)));
                        } else {
                            proptest::prop_assert_eq!(table.put(key, key), None);
                        }
                        model.plain.push(key);
                    }
                    2 => {
                        table.keep(&key);
                        if model.remove(key).is_some() {
                            model.kept.push(key);
                        }
                        if model.kept.len() > 3 {
                            let oldest = model.kept.remove(0);
                            model.plain.push(oldest);
                        }
                    }
                    3 => {
                        table.touch(&key);
                        match model.remove(key) {
                            Some(true) => model.kept.push(key),
                            Some(false) => model.plain.push(key),
                            None => {}
                        }
                    }
                    _ => proptest::prop_assert_eq!(table.remove(&key).is_some(), model.remove(key).is_some()),
                }
                proptest::prop_assert_eq!(keys(&table), model.all());
            }
        }
    }
}
