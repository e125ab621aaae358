//! What the connections of one thread share, so that none of them holds what it does not use.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{batch::Batch, head::Inflater, metrics::Tally};

/// Bytes of a buffer: all that a connection can make the relay hold in one direction. Large enough that a burst of
/// chunks costs few system calls, small enough that those being encrypted together stay in a core's cache. It
/// must hold the largest head that is looked at (some 5 KiB).
pub(super) const BUFFER: usize = 16 << 10;

/// Buffers kept for whoever is next. More are in use while many peers are slow; those go back to the system.
const SPARE_BUFFERS: usize = 32;

/// Inflaters kept, 47 KiB each. One is in use only while the beginning of a compressed frame is awaited.
const SPARE_INFLATERS: usize = 4;

/// Buffers and inflaters to borrow, and the place where the encryption of several connections meets. Connections
/// that are served by one thread share one.
#[derive(Debug)]
pub struct Workshop {
    pub(super) buffers: Shelf<[u8; BUFFER]>,
    pub(super) inflaters: Shelf<Inflater>,
    pub(super) batch: Batch,
    /// What is counted of its connections.
    pub(super) tally: Arc<Tally>,
}

impl Default for Workshop {
    /// Empty: what is borrowed first is made first.
    fn default() -> Self {
        Self::counting(Arc::default())
    }
}

impl Workshop {
    /// Empty, and counted in that.
    pub(super) fn counting(tally: Arc<Tally>) -> Self {
        Self {
            buffers: Shelf::new(SPARE_BUFFERS, || Box::new([0; BUFFER])),
            inflaters: Shelf::new(SPARE_INFLATERS, Box::default),
            batch: Batch::default(),
            tally,
        }
    }
}

/// Things to borrow.
pub(super) struct Shelf<T> {
    spare: Mutex<Vec<Box<T>>>,
    most: usize,
    make: fn() -> Box<T>,
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in them was players', and is nobody's to print.
        f.debug_struct("Shelf").field("most", &self.most).finish_non_exhaustive()
    }
}

impl<T> Shelf<T> {
    fn new(most: usize, make: fn() -> Box<T>) -> Self {
        Self { spare: Mutex::default(), most, make }
    }

    /// One that was given back, as it was then, or a new one.
    #[expect(clippy::unnecessary_box_returns, reason = "it stays where it is, and so it comes back")]
    pub(super) fn take(&self) -> Box<T> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(self.make)
    }

    #[cfg(test)]
    pub(super) fn spare(&self) -> usize {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Gives one back.
    pub(super) fn put(&self, thing: Box<T>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < self.most {
            spare.push(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_lent_again_up_to_a_bound() {
        let shelf: Shelf<u8> = Shelf::new(2, || Box::new(0));
        for n in 1..=3 {
            shelf.put(Box::new(n));
        }
        assert_eq!([(); 3].map(|()| *shelf.take()), [2, 1, 0]);
    }
}
