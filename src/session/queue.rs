//! Changes that are to be written: at most one per player, oldest first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{StoreError, record::Session};
use crate::identity::Property;

/// What is to become of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is to hold this.
    Write {
        session: Arc<Session>,
        /// `None`: the properties that the document has.
        properties: Option<Arc<[Property]>>,
    },
    /// It is to go.
    Remove,
}

impl Change {
    /// The change that does what `self` and then `later` would do.
    fn then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Write { properties, .. }, Self::Write { session, properties: None }) => {
                Self::Write { session, properties }
            }
            (Self::Remove, Self::Write { session, properties: None }) => {
                Self::Write { session, properties: Some(Arc::default()) }
            }
            (_, later) => later,
        }
    }
}

#[derive(Debug)]
struct Queued {
    change: Change,
    /// The number of the oldest change in it; its key in [`Queue::unsettled`].
    since: u64,
}

/// Somebody who waits until changes are durable.
#[derive(Debug)]
struct Waiter {
    /// The newest change waited for.
    until: u64,
    /// Whose changes; `None` is everybody's.
    only: Option<Uuid>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// The queue between logins and the disk. A change is *ready*, *being written* or *failed* (waiting for another
/// try); until it is durable it is unsettled.
#[derive(Debug, Default)]
pub(super) struct Queue {
    last_number: u64,
    /// Ready and failed ones.
    changes: HashMap<Uuid, Queued>,
    writing: Option<(Uuid, Queued)>,
    unsettled: BTreeMap<u64, Uuid>,
    ready: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    waiters: Vec<Waiter>,
    failures: u64,
    closed: bool,
}

impl Queue {
    /// Adds a change. A player's earlier one that is not being written yet is merged with it and keeps its place.
    /// False once the queue is closed: nobody would write it.
    pub(super) fn push(&mut self, id: Uuid, change: Change) -> bool {
        if self.closed {
            return false;
        }
        self.last_number += 1;
        let since = self.last_number;
        if let Some(queued) = self.changes.get_mut(&id) {
            let earlier = std::mem::replace(&mut queued.change, Change::Remove);
            queued.change = earlier.then(change);
            // The number is spent all the same: a waiter for it waits for the merged change, which is older.
        } else {
            self.changes.insert(id, Queued { change, since });
            self.unsettled.insert(since, id);
            self.ready.insert(since);
        }
        true
    }

    /// The next change to write; [`settle`](Self::settle) must follow.
    pub(super) fn take(&mut self) -> Option<(Uuid, Change)> {
        let since = self.ready.pop_first()?;
        let id = *self.unsettled.get(&since)?;
        let queued = self.changes.remove(&id)?;
        let change = queued.change.clone();
        self.writing = Some((id, queued));
        Some((id, change))
    }

    /// Says how writing the taken change ended. A failed one is kept for [`retry`](Self::retry), together with
    /// what was queued for the same player meanwhile.
    pub(super) fn settle(&mut self, result: Result<(), &StoreError>) {
        let Some((id, mut queued)) = self.writing.take() else { return };
        let since = queued.since;
        match result {
            Ok(()) => {
                self.unsettled.remove(&since);
                self.answer_waiters(|queue, waiter| queue.is_settled(waiter).then_some(Ok(())));
            }
            Err(error) => {
                self.failures += 1;
                if let Some(later) = self.changes.remove(&id) {
                    self.unsettled.remove(&later.since);
                    self.ready.remove(&later.since);
                    queued.change = queued.change.then(later.change);
                }
                self.changes.insert(id, queued);
                self.failed.insert(since);
                let why = error.to_string();
                self.answer_waiters(|_, waiter| {
                    let concerned = waiter.until >= since && waiter.only.is_none_or(|only| only == id);
                    concerned.then(|| Err(StoreError::NotSaved { why: why.clone() }))
                });
            }
        }
    }

    /// Makes the failed changes ready again.
    pub(super) fn retry(&mut self) {
        self.ready.append(&mut self.failed);
    }

    /// Waits for the changes so far, of one player or all. Failed ones are tried again for it.
    pub(super) fn wait(&mut self, only: Option<Uuid>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter { until: self.last_number, only, answer };
        if self.is_settled(&waiter) {
            // The receiver is in our hands; it cannot have gone.
            let _ = waiter.answer.send(Ok(()));
        } else if self.closed {
            let _ = waiter.answer.send(Err(StoreError::Closed));
        } else {
            self.retry();
            self.waiters.push(waiter);
        }
        answered
    }

    fn is_settled(&self, waiter: &Waiter) -> bool {
        let Some(only) = waiter.only else {
            return self.unsettled.first_key_value().is_none_or(|(oldest, _)| *oldest > waiter.until);
        };
        let writing = self.writing.as_ref().filter(|(id, _)| *id == only).map(|(_, queued)| queued);
        self.changes.get(&only).into_iter().chain(writing).all(|queued| queued.since > waiter.until)
    }

    fn answer_waiters(&mut self, result: impl Fn(&Self, &Waiter) -> Option<Result<(), StoreError>>) {
        for waiter in std::mem::take(&mut self.waiters) {
            match result(self, &waiter) {
                // A waiter that gave up meanwhile does not want to know.
                Some(result) => drop(waiter.answer.send(result)),
                None if waiter.answer.is_closed() => {}
                None => self.waiters.push(waiter),
            }
        }
    }

    /// The newest properties of a player that are not on disk yet.
    pub(super) fn properties(&self, id: Uuid) -> Option<Arc<[Property]>> {
        let writing = self.writing.as_ref().filter(|(writing, _)| *writing == id).map(|(_, queued)| queued);
        self.changes.get(&id).into_iter().chain(writing).find_map(|queued| match &queued.change {
            Change::Write { properties, .. } => properties.clone(),
            Change::Remove => None,
        })
    }

    /// Ends the queue: later changes are refused, and who still waits gets an error.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiters.clear();
    }

    /// Changes that are not durable yet.
    pub(super) fn len(&self) -> usize {
        self.unsettled.len()
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Writes that failed so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::session::record::tests::{at, config, login};

    fn write(id: u128, name: &str, properties: bool) -> Change {
        let login = login(id, name, "192.0.2.1");
        let now = at("2026-01-01T00:00:00Z");
        let session = Arc::new(Session::after_login(None, &login, &config(Path::new("")), now));
        Change::Write { session, properties: properties.then(|| login.profile.properties.into()) }
    }

    fn id(id: u128) -> Uuid {
        Uuid::from_u128(id)
    }

    fn failure() -> StoreError {
        StoreError::io("write", Path::new("/x"))(std::io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn the_latest_state_wins_and_keeps_its_place_and_properties() {
        let mut queue = Queue::default();
        queue.push(id(1), write(1, "One", true));
        queue.push(id(2), write(2, "Two", true));
        queue.push(id(1), write(1, "Uno", false));
        assert_eq!(queue.len(), 2);
        let Some((first, Change::Write { session, properties })) = queue.take() else { panic!("nothing") };
        assert_eq!((first, session.name.as_ref().unwrap().as_str()), (id(1), "Uno"));
        assert_eq!(properties.unwrap()[0].value, "One at 192.0.2.1");

        // A change during the write is a new one, and the one being written still answers for its properties.
        queue.push(id(1), write(1, "Eins", false));
        assert_eq!(queue.properties(id(1)).unwrap()[0].value, "One at 192.0.2.1");
        queue.settle(Ok(()));
        assert_eq!(queue.properties(id(1)), None);
        assert_eq!(queue.take().unwrap().0, id(2));
        queue.settle(Ok(()));
        assert_eq!(queue.take(), Some((id(1), write(1, "Eins", false))));
        queue.settle(Ok(()));
        assert_eq!((queue.take(), queue.len()), (None, 0));
    }

    #[test]
    fn removing_and_writing_follow_each_other() {
        let mut queue = Queue::default();
        queue.push(id(1), write(1, "One", true));
        queue.push(id(1), Change::Remove);
        assert_eq!(queue.properties(id(1)), None);
        queue.push(id(1), write(1, "Uno", false));
        let Some((_, Change::Write { properties, .. })) = queue.take() else { panic!("nothing") };
        assert_eq!(&*properties.unwrap(), [], "those of the removed document must not come back");
        queue.settle(Ok(()));
        queue.push(id(1), write(1, "One", true));
        queue.push(id(1), Change::Remove);
        assert_eq!(queue.take(), Some((id(1), Change::Remove)));
    }

    #[test]
    fn a_failed_write_is_kept_and_merged_with_what_came_meanwhile() {
        let mut queue = Queue::default();
        queue.push(id(1), write(1, "One", true));
        queue.push(id(2), write(2, "Two", true));
        queue.take();
        queue.push(id(1), write(1, "Uno", false));
        queue.settle(Err(&failure()));
        assert_eq!((queue.len(), queue.failures(), queue.has_failed()), (2, 1, true));
        queue.push(id(1), write(1, "Eins", false));
        assert_eq!(queue.take().unwrap().0, id(2), "others do not wait for it");
        queue.settle(Ok(()));
        assert_eq!(queue.take(), None);
        queue.retry();
        let Some((_, Change::Write { session, properties })) = queue.take() else { panic!("nothing") };
        assert_eq!(session.name.as_ref().unwrap().as_str(), "Eins");
        assert_eq!(properties.unwrap()[0].value, "One at 192.0.2.1");
        queue.settle(Ok(()));
        assert_eq!((queue.len(), queue.take(), queue.has_failed()), (0, None, false));
    }

    #[test]
    fn waiting_covers_what_came_before_and_nothing_else() {
        let mut queue = Queue::default();
        assert!(queue.wait(None).try_recv().unwrap().is_ok(), "nothing to wait for");
        queue.push(id(1), write(1, "One", true));
        queue.push(id(2), write(2, "Two", true));
        queue.take();
        queue.push(id(1), write(1, "Uno", false));
        let mut all = queue.wait(None);
        let mut first = queue.wait(Some(id(1)));
        let mut second = queue.wait(Some(id(2)));
        assert!(queue.wait(Some(id(3))).try_recv().unwrap().is_ok());
        queue.push(id(4), write(4, "Four", true));

        queue.settle(Ok(()));
        assert_eq!(first.try_recv().unwrap_err(), TryRecvError::Empty, "its later change is still queued");
        queue.take();
        queue.settle(Ok(()));
        assert!(second.try_recv().unwrap().is_ok());
        assert_eq!(first.try_recv().unwrap_err(), TryRecvError::Empty);
        queue.take();
        queue.settle(Ok(()));
        assert!(first.try_recv().unwrap().is_ok());
        assert!(all.try_recv().unwrap().is_ok(), "the fourth came later");
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_failure_is_told_to_those_who_wait_for_it() {
        let mut queue = Queue::default();
        queue.push(id(1), write(1, "One", true));
        queue.push(id(2), write(2, "Two", true));
        let (mut all, mut first, mut second) =
            (queue.wait(None), queue.wait(Some(id(1))), queue.wait(Some(id(2))));
        queue.take();
        queue.settle(Err(&failure()));
        for waiter in [&mut all, &mut first] {
            let error = waiter.try_recv().unwrap().unwrap_err();
            assert!(matches!(&error, StoreError::NotSaved { why } if why.contains("/x")), "{error}");
        }
        queue.take();
        queue.settle(Ok(()));
        assert!(second.try_recv().unwrap().is_ok());

        let mut again = queue.wait(None);
        assert_eq!(queue.take().unwrap().0, id(1), "waiting tries at once");
        queue.settle(Ok(()));
        assert!(again.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_closed_queue_refuses() {
        let mut queue = Queue::default();
        queue.push(id(1), write(1, "One", true));
        let mut before = queue.wait(None);
        queue.close();
        assert_eq!(before.try_recv().unwrap_err(), TryRecvError::Closed);
        assert!(matches!(queue.wait(None).try_recv().unwrap(), Err(StoreError::Closed)));
        assert!(!queue.push(id(2), Change::Remove));
    }
}
