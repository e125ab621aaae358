//! Many refusals of one kind become one line with a count.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::event::Event;
use crate::address;

/// The time over which refusals of one kind are counted.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// Refusals of one kind that get lines of their own within [`WINDOW`]: enough to see what is going on.
const LINES_PER_WINDOW: u32 = 10;

/// Clients and reasons counted apart within [`WINDOW`]. What a flood from more addresses than that brings is counted by
/// reason alone, so that the log grows by so many lines in a minute at most, however many addresses there are.
const MAX_WINDOWS: usize = 1024;

/// Refusals are alike if they are of one client, as limits count clients, and for one reason.
type Likeness = (Option<IpNet>, Option<&'static str>);

struct Window {
    opened: Timestamp,
    /// It stands for all clients that have none of their own.
    of_many: bool,
    passed: u32,
    /// The newest refusal that got no line of its own, and how many there are.
    held: Option<(Event, u64)>,
}

/// Counts refusals by likeness. Time is the events' own.
#[derive(Default)]
pub(super) struct Coalescer {
    windows: HashMap<Likeness, Window>,
    /// The keys of `windows`, oldest first.
    order: VecDeque<Likeness>,
}

impl Coalescer {
    pub(super) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Takes one refusal; what is to be written now goes to `out`.
    pub(super) fn offer(&mut self, event: Event, out: &mut Vec<Event>) {
        let mut likeness = (event.client().map(address::limit_key), event.code());
        let of_many = self.windows.len() >= MAX_WINDOWS && !self.windows.contains_key(&likeness);
        if of_many {
            likeness.0 = None;
        }
        if let Some(window) = self.windows.get_mut(&likeness) {
            if window.passed < LINES_PER_WINDOW {
                window.passed += 1;
                out.push(event);
            } else {
                let held = window.held.take().map_or(0, |(_, count)| count);
                window.held = Some((event, held + 1));
            }
            return;
        }
        self.windows.insert(likeness, Window { opened: event.time(), of_many, passed: 1, held: None });
        self.order.push_back(likeness);
        out.push(event);
    }

    /// Closes the windows that are over at `now`. Those of the future are over too: the clock was put back.
    pub(super) fn close_due(&mut self, now: Timestamp, out: &mut Vec<Event>) {
        while let Some(window) = self.order.front().and_then(|oldest| self.windows.get(oldest)) {
            if now.duration_since(window.opened).unsigned_abs() < WINDOW {
                return;
            }
            self.close_oldest(out);
        }
    }

    /// Closes all windows.
    pub(super) fn close_all(&mut self, out: &mut Vec<Event>) {
        while !self.order.is_empty() {
            self.close_oldest(out);
        }
    }

    fn close_oldest(&mut self, out: &mut Vec<Event>) {
        let Some(window) = self.order.pop_front().and_then(|oldest| self.windows.remove(&oldest)) else {
            return;
        };
        let Some((newest, count)) = window.held else { return };
        let newest = if window.of_many { newest.of_many() } else { newest };
        out.push(newest.counted(count));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::audit::Kind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn refusal(second: i64, address: &str, reason: &'static str) -> Event {
        Event::new(Kind::LoginRefused, at(second)).address(address.parse().unwrap()).reason(reason)
    }

    /// What goes out when `event` comes in.
    fn offer(coalescer: &mut Coalescer, event: Event) -> Vec<Event> {
        let mut out = Vec::new();
        coalescer.close_due(event.time(), &mut out);
        coalescer.offer(event, &mut out);
        out
    }

    #[test]
    fn ten_lines_then_a_count_at_the_end_of_the_minute() {
        let mut coalescer = Coalescer::default();
        for second in 0..10 {
            let event = refusal(second, "203.0.113.5", "no-session");
            assert_eq!(offer(&mut coalescer, event.clone()), [event]);
        }
        for second in 10..60 {
            assert_eq!(offer(&mut coalescer, refusal(second, "203.0.113.5", "no-session")), []);
        }
        let next = refusal(60, "203.0.113.5", "no-session");
        let count = refusal(59, "203.0.113.5", "no-session").counted(50);
        assert_eq!(offer(&mut coalescer, next.clone()), [count, next]);
    }

    #[test]
    fn clients_and_reasons_are_counted_apart() {
        let mut coalescer = Coalescer::default();
        for _ in 0..20 {
            offer(&mut coalescer, refusal(0, "2001:db8::1", "no-session"));
        }
        for (address, reason, passes) in [
            ("2001:db8::2", "no-session", false),
            ("2001:db8:0:1::2", "no-session", true),
            ("2001:db8::1", "locked", true),
            ("203.0.113.5", "no-session", true),
        ] {
            let out = offer(&mut coalescer, refusal(1, address, reason));
            assert_eq!(!out.is_empty(), passes, "{address} {reason}");
        }
    }

    #[test]
    fn a_quiet_window_leaves_no_line() {
        let mut coalescer = Coalescer::default();
        offer(&mut coalescer, refusal(0, "203.0.113.5", "no-session"));
        let mut out = Vec::new();
        coalescer.close_due(at(59), &mut out);
        assert!(!coalescer.is_empty());
        coalescer.close_due(at(60), &mut out);
        assert!(coalescer.is_empty());
        assert_eq!(out, []);
    }

    #[test]
    fn a_clock_put_back_does_not_hold_counts_for_ever() {
        let mut coalescer = Coalescer::default();
        for _ in 0..12 {
            offer(&mut coalescer, refusal(100_000, "203.0.113.5", "no-session"));
        }
        let event = refusal(0, "203.0.113.5", "no-session");
        let count = refusal(100_000, "203.0.113.5", "no-session").counted(2);
        assert_eq!(offer(&mut coalescer, event.clone()), [count, event]);
    }

    #[test]
    fn memory_is_bounded_and_no_count_is_lost() {
        let mut coalescer = Coalescer::default();
        let mut weight = 0;
        let mut lines = 0;
        for n in 0..3000_u32 {
            let address = IpAddr::from(n.to_be_bytes()).to_string();
            for _ in 0..12 {
                let out = offer(&mut coalescer, refusal(0, &address, "no-session"));
                weight += out.iter().map(Event::weight).sum::<u64>();
                lines += out.len();
            }
            assert!(coalescer.windows.len() <= MAX_WINDOWS + 1);
            assert_eq!(coalescer.windows.len(), coalescer.order.len());
        }
        let mut out = Vec::new();
        coalescer.close_all(&mut out);
        weight += out.iter().map(Event::weight).sum::<u64>();
        lines += out.len();
        assert_eq!(weight, 3000 * 12);
        assert_eq!(lines, 1024 * 11 + 11, "those beyond share one count");
    }

    #[test]
    fn a_flood_from_ever_new_addresses_gets_a_line_that_names_none() {
        let mut coalescer = Coalescer::default();
        let (mut lines, mut last) = (0, Vec::new());
        for n in 0..1_000_000_u32 {
            let address = IpAddr::from((0x2a00_u128 << 112 | u128::from(n) << 64).to_be_bytes()).to_string();
            lines += offer(&mut coalescer, refusal(i64::from(n / 20_000), &address, "rate-limited")).len();
        }
        assert_eq!(lines, 1024 + 10);
        // Another reason is counted for itself.
        assert_eq!(offer(&mut coalescer, refusal(50, "203.0.113.5", "no-session")).len(), 1);
        coalescer.close_due(at(200), &mut last);
        let count = Event::new(Kind::LoginRefused, at(49)).reason("rate-limited");
        assert_eq!(last, [count.field("clients", "many").counted(1_000_000 - 1024 - 10)]);
        assert!(coalescer.is_empty());
        // And afterwards all is as before.
        assert_eq!(offer(&mut coalescer, refusal(200, "203.0.113.5", "rate-limited")).len(), 1);
        assert!(!coalescer.windows[&(Some("203.0.113.5/32".parse().unwrap()), Some("rate-limited"))].of_many);
    }
}
