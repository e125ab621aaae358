//! What waits for the writer, and who is left out when too much does.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{
    coalesce::Coalescer,
    event::{Event, Kind},
};

/// Events that may wait: some 4 MB, and half a minute of logins at more than a hundred a second.
const CAPACITY: usize = 4096;

/// Events written at a time.
const BATCH: usize = 256;

/// Events that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) refusals: u64,
    pub(super) others: u64,
    newest: Timestamp,
}

impl Dropped {
    /// The event that tells of them.
    pub(super) fn event(self) -> Event {
        Event::new(Kind::AuditDropped, self.newest)
            .field("refusals", self.refusals)
            .field("others", self.others)
    }
}

/// Events in order of arrival, bounded.
#[derive(Default)]
pub(super) struct Queue {
    /// Refusals apart from all else, so that one can make room for an event that matters more; each with its place.
    refusals: VecDeque<(u64, Event)>,
    others: VecDeque<(u64, Event)>,
    next_place: u64,
    coalescer: Coalescer,
    dropped: Option<Dropped>,
    /// Events dropped so far, told or not.
    dropped_in_all: u64,
}

impl Queue {
    /// Takes one event, or drops it or a refusal that waits.
    pub(super) fn push(&mut self, event: Event) {
        let mut out = Vec::new();
        self.coalescer.close_due(event.time(), &mut out);
        if event.is_refusal() {
            self.coalescer.offer(event, &mut out);
        } else {
            out.push(event);
        }
        self.append(out);
    }

    /// Queues the counts of refusals whose minute is not over yet.
    pub(super) fn push_counts(&mut self) {
        let mut out = Vec::new();
        self.coalescer.close_all(&mut out);
        self.append(out);
    }

    /// Whether refusals are being counted.
    pub(super) fn is_counting(&self) -> bool {
        !self.coalescer.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.others.is_empty() && self.dropped.is_none()
    }

    /// Events that wait.
    pub(super) fn len(&self) -> usize {
        self.refusals.len() + self.others.len()
    }

    /// Events dropped so far; a count among them weighs what it stands for.
    pub(super) fn dropped_in_all(&self) -> u64 {
        self.dropped_in_all
    }

    /// The place of the next event to come.
    pub(super) fn end(&self) -> u64 {
        self.next_place
    }

    /// Whether an event waits that came before that place was the next.
    pub(super) fn waits_before(&self, place: u64) -> bool {
        self.oldest().is_some_and(|oldest| oldest < place)
    }

    fn oldest(&self) -> Option<u64> {
        let first = |queue: &VecDeque<(u64, Event)>| queue.front().map(|(place, _)| *place);
        first(&self.refusals).into_iter().chain(first(&self.others)).min()
    }

    /// The next events, oldest first, none of that place or later; and once no more wait, what was dropped.
    pub(super) fn take(&mut self, before: u64) -> (Vec<Event>, Option<Dropped>) {
        let next = || if self.waits_before(before) { self.pop() } else { None };
        let events: Vec<Event> = std::iter::from_fn(next).take(BATCH).collect();
        let all = self.refusals.is_empty() && self.others.is_empty();
        let dropped = if all { self.dropped.take() } else { None };
        (events, dropped)
    }

    fn pop(&mut self) -> Option<Event> {
        let older = match (self.refusals.front(), self.others.front()) {
            (Some((refusal, _)), Some((other, _))) if refusal < other => &mut self.refusals,
            (Some(_), None) => &mut self.refusals,
            _ => &mut self.others,
        };
        older.pop_front().map(|(_, event)| event)
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            if self.len() >= CAPACITY {
                if event.is_refusal() {
                    self.drop(&event);
                    continue;
                }
                let Some((_, refusal)) = self.refusals.pop_back() else {
                    self.drop(&event);
                    continue;
                };
                self.drop(&refusal);
            }
            let queue = if event.is_refusal() { &mut self.refusals } else { &mut self.others };
            queue.push_back((self.next_place, event));
            self.next_place += 1;
        }
    }

    fn drop(&mut self, event: &Event) {
        let dropped = self.dropped.get_or_insert(Dropped { refusals: 0, others: 0, newest: event.time() });
        dropped.newest = dropped.newest.max(event.time());
        self.dropped_in_all += event.weight();
        if event.is_refusal() {
            dropped.refusals += event.weight();
        } else {
            dropped.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    /// Refusals so unlike each other that none is coalesced: a few of each client.
    fn refusal(n: u32) -> Event {
        let client = IpAddr::from((n % 1024).to_be_bytes());
        let number = i32::try_from(n).unwrap();
        Event::new(Kind::LoginRefused, at(0)).address(client).protocol(number).reason("no-session")
    }

    fn login(n: i64) -> Event {
        Event::new(Kind::LoginVerified, at(n % 60))
    }

    fn drain(queue: &mut Queue) -> (Vec<Event>, Option<Dropped>) {
        let mut all = Vec::new();
        loop {
            let (events, dropped) = queue.take(u64::MAX);
            all.extend(events);
            if queue.is_empty() {
                return (all, dropped);
            }
            assert_eq!(dropped, None, "told only after the last event");
        }
    }

    #[test]
    fn events_keep_their_order() {
        let mut queue = Queue::default();
        let events: Vec<Event> = (0..600)
            .map(|n| if n % 3 == 0 { login(0).protocol(n) } else { refusal(n.unsigned_abs()) })
            .collect();
        events.iter().cloned().for_each(|event| queue.push(event));
        assert_eq!(drain(&mut queue), (events, None));
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut queue = Queue::default();
        (0..300).for_each(|n| queue.push(login(n)));
        assert_eq!(queue.take(u64::MAX).0.len(), BATCH);
        assert_eq!(queue.take(u64::MAX).0.len(), 300 - BATCH);
    }

    #[test]
    fn what_came_later_waits() {
        let mut queue = Queue::default();
        (0..5).for_each(|n| queue.push(refusal(n)));
        (0..5).for_each(|n| queue.push(login(n)));
        let boundary = queue.end();
        (5..9).for_each(|n| queue.push(login(n)));
        queue.push(refusal(9));
        assert!(queue.waits_before(boundary));
        assert_eq!(queue.take(boundary).0.len(), 10);
        assert!(!queue.waits_before(boundary));
        assert_eq!(queue.take(boundary).0, []);
        let rest: Vec<Event> = (5..9).map(login).chain([refusal(9)]).collect();
        assert_eq!(queue.take(u64::MAX).0, rest);
    }

    #[test]
    fn refusals_are_dropped_when_nothing_more_fits() {
        let mut queue = Queue::default();
        (0..5000).for_each(|n| queue.push(refusal(n)));
        assert_eq!(queue.len(), CAPACITY);
        let (events, dropped) = drain(&mut queue);
        assert_eq!(events.first(), Some(&refusal(0)));
        assert_eq!(events.last(), Some(&refusal(4095)), "the newest goes");
        assert_eq!(dropped, Some(Dropped { refusals: 904, others: 0, newest: at(0) }));
        assert!(queue.is_empty());
    }

    #[test]
    fn refusals_make_room_for_all_else() {
        let mut queue = Queue::default();
        (0..4096).for_each(|n| queue.push(refusal(n)));
        (0..4096).for_each(|n| queue.push(login(n)));
        assert_eq!(queue.len(), CAPACITY);
        queue.push(login(59));
        queue.push(refusal(9999));
        let (events, dropped) = drain(&mut queue);
        assert_eq!(events, (0..4096).map(login).collect::<Vec<_>>());
        assert_eq!(dropped, Some(Dropped { refusals: 4097, others: 1, newest: at(59) }));
        assert_eq!(queue.dropped_in_all(), 4098);
    }

    #[test]
    fn a_dropped_count_weighs_what_it_stands_for() {
        let mut queue = Queue::default();
        (0..30).for_each(|_| queue.push(refusal(1)));
        (0..4086).for_each(|n| queue.push(login(n)));
        assert_eq!(queue.len(), CAPACITY);
        queue.push_counts();
        let dropped = drain(&mut queue).1;
        assert_eq!(dropped, Some(Dropped { refusals: 20, others: 0, newest: at(0) }));
    }

    #[test]
    fn any_event_of_a_later_minute_brings_the_count() {
        let mut queue = Queue::default();
        (0..30).for_each(|_| queue.push(refusal(1)));
        assert_eq!(drain(&mut queue).0.len(), 10);
        assert!(queue.is_counting());
        let later = Event::new(Kind::AuthState, at(61));
        queue.push(later.clone());
        assert_eq!(drain(&mut queue).0, [refusal(1).counted(20), later]);
        assert!(!queue.is_counting());
    }
}
