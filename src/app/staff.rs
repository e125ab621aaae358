//! Staff in the game: who of those listed is connected and proven, and the lines they get.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    alert::{
        Alert, AuthState, BanAdded, Fallback, GeoChanged, Inbox, Lasting, News, Pace, Subject, Sum,
        Whereabouts,
    },
    foreign,
    identity::{Username, Whom},
    messages::{MessageKey, Messages},
    place::Place,
    policy::Proof,
    protocol::text::Text,
    relay::Handle,
    task::Shutdown,
};

/// Longest foreign text in a line, in characters.
const MAX_FOREIGN: usize = 100;
/// Places of a player that a line names; more of them say no more.
const MAX_PLACES: usize = 3;

/// Those who are listed, and who is connected that could be. Clones share everything. Short locks.
#[derive(Clone, Debug)]
pub(super) struct Staff(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    terms: Mutex<Arc<Terms>>,
    /// Connected and proven, by the number of their [`Present`]: whoever is listed while connected is told at once, and
    /// whoever is not any more hears nothing further.
    present: Mutex<HashMap<u64, Known>>,
    serial: AtomicU64,
}

/// What the configuration says of it.
#[derive(Debug)]
struct Terms {
    listed: Vec<Whom>,
    messages: Arc<Messages>,
}

impl Terms {
    fn new(listed: &[String], messages: Arc<Messages>) -> Arc<Self> {
        // The configuration takes nothing that is neither an id nor a name.
        let listed = listed.iter().filter_map(|whom| whom.parse().ok()).collect();
        Arc::new(Self { listed, messages })
    }

    fn lists(&self, known: &Known) -> bool {
        self.listed.iter().any(|whom| match whom {
            Whom::Id(listed) => *listed == known.id,
            Whom::Name(listed) => listed.same_as(&known.name),
        })
    }
}

/// Somebody who is connected and proven.
#[derive(Debug)]
struct Known {
    id: Uuid,
    name: Username,
    handle: Handle,
}

/// Somebody proven is connected. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Present {
    staff: Staff,
    number: u64,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.staff.present().remove(&self.number);
    }
}

impl Staff {
    /// Ids or names of those who are to be told, and the texts.
    pub(super) fn new(listed: &[String], messages: Arc<Messages>) -> Self {
        let terms = Mutex::new(Terms::new(listed, messages));
        Self(Arc::new(Shared { terms, present: Mutex::default(), serial: AtomicU64::new(0) }))
    }

    /// Goes by these from now on, also with players who are connected already.
    pub(super) fn adopt(&self, listed: &[String], messages: Arc<Messages>) {
        *self.0.terms.lock().unwrap_or_else(PoisonError::into_inner) = Terms::new(listed, messages);
    }

    fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.0.terms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn present(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a player is in. Whoever has not proven who it is never counts as staff.
    pub(super) fn enter(&self, id: Uuid, name: &Username, proof: Proof, handle: &Handle) -> Option<Present> {
        let is_proven = match proof {
            Proof::Verified | Proof::Pinned => true,
            Proof::Fallback | Proof::Held => false,
        };
        if !is_proven {
            return None;
        }
        let number = self.0.serial.fetch_add(1, Ordering::Relaxed);
        self.present().insert(number, Known { id, name: name.clone(), handle: handle.clone() });
        Some(Present { staff: self.clone(), number })
    }

    /// Whether anybody who is listed is connected.
    fn is_anybody_here(&self) -> bool {
        let terms = self.terms();
        !terms.listed.is_empty() && self.present().values().any(|known| terms.lists(known))
    }

    /// Tells those who are connected of what comes in, until the program stops.
    pub(super) async fn tell(self, mut inbox: Inbox, stop: Shutdown) {
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                () = stop.requested() => return,
                sum = pace.due() => self.say(&self.sum(sum)),
                news = inbox.next() => match news {
                    // Whoever is here next has read none of what was told before.
                    Some(_) if !self.is_anybody_here() => pace = Pace::default(),
                    Some(News::Alert(alert)) => if let Some(alert) = pace.offer(alert) {
                        self.say(&self.line(&alert));
                    },
                    Some(News::Missed(missed)) => pace.leave_out(missed),
                    None => return,
                },
            }
        }
    }

    fn say(&self, line: &Text) {
        let terms = self.terms();
        for known in self.present().values().filter(|known| terms.lists(known)) {
            known.handle.chat(line);
        }
    }

    fn sum(&self, sum: Sum) -> Text {
        Text::parse(self.terms().messages.text(MessageKey::AlertMore), &[("count", &sum.to_string())])
    }

    fn line(&self, alert: &Alert) -> Text {
        let (key, values) = worded(alert);
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Text::parse(self.terms().messages.text(key), &values)
    }
}

/// Which text tells of an alert, and what its placeholders stand for.
fn worded(alert: &Alert) -> (MessageKey, Vec<(&'static str, String)>) {
    let clean = |text: &str| foreign::clean_to(text, MAX_FOREIGN);
    let subject = |Subject { name, id, address, .. }: &Subject| {
        vec![("player", clean(name)), ("id", id.to_string()), ("address", address.to_string())]
    };
    let (key, mut values) = match alert {
        Alert::Fallback(Fallback { player, .. }) => (MessageKey::AlertFallback, subject(player)),
        Alert::GeoChanged(GeoChanged { player, .. }) => (MessageKey::AlertGeo, subject(player)),
        Alert::AuthState(_) => (MessageKey::AlertState, Vec::new()),
        Alert::BanAdded(_) => (MessageKey::AlertBan, Vec::new()),
    };
    values.extend(match alert {
        Alert::Fallback(fallback) => {
            let place = fallback.player.place.map(|place| Whereabouts(place).to_string()).unwrap_or_default();
            vec![("reason", fallback.to_string()), ("place", place)]
        }
        Alert::GeoChanged(GeoChanged { player, known, proof }) => {
            let place = Whereabouts(player.place.unwrap_or_default());
            let place = format!("{place} ({}, {proof})", player.address);
            vec![("place", place), ("known", listed(known)), ("reason", (*proof).to_owned())]
        }
        Alert::AuthState(AuthState { from, to, cause, lasted, outage: _ }) => {
            let lasted = lasted.map(|lasted| format!("; the outage lasted {}", Lasting(lasted)));
            let reason = clean(cause) + &lasted.unwrap_or_default();
            vec![("state", (*to).to_owned()), ("before", (*from).to_owned()), ("reason", reason)]
        }
        Alert::BanAdded(BanAdded { target, failures, until }) => {
            vec![("target", clean(target)), ("until", minute(*until)), ("count", failures.to_string())]
        }
    });
    (key, values)
}

fn listed(places: &[Place]) -> String {
    let shown: Vec<String> =
        places.iter().take(MAX_PLACES).map(|place| Whereabouts(*place).to_string()).collect();
    shown.join("; ")
}

/// A point in time to the minute.
fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        alert::{self, Ground, queue},
        net::activity::Activity,
        place::Country,
        protocol::version::{Dialect, ProtocolVersion},
        relay,
    };

    fn place(country: &str, asn: u32) -> Place {
        Place { country: Country::parse(country), asn: Some(asn) }
    }

    fn subject(name: &str, place: Option<Place>) -> Subject {
        let address = "203.0.113.5".parse().unwrap();
        Subject { name: name.to_owned(), id: Uuid::from_u128(1), address, place }
    }

    fn said(alert: &Alert) -> String {
        Staff::new(&[], Arc::default()).line(alert).to_plain()
    }

    #[test]
    fn lines_say_who_from_where_and_why() {
        let player = subject("Ann", Some(place("DE", 64_496)));
        let ground = Ground::Exact(Duration::from_hours(19));
        let outage = Duration::from_mins(12);
        let fallback = Alert::Fallback(Fallback { player, ground, pin_proven: false, outage });
        assert_eq!(
            said(&fallback),
            "[Postern] Ann joined without Mojang from 203.0.113.5: verified at this address 19 h ago, country DE, \
             network AS64496; outage for 12 min"
        );
        let player = subject("Ann", Some(place("FR", 64_497)));
        let moved = GeoChanged { player, known: vec![place("DE", 64_496)], proof: "refused" };
        assert_eq!(
            said(&Alert::GeoChanged(moved)),
            "[Postern] Ann came from country FR, network AS64497 (203.0.113.5, refused), so far from country DE, \
             network AS64496"
        );
        let player = subject("Ann", Some(Place { asn: None, ..place("FR", 1) }));
        let moved =
            GeoChanged { player, known: vec![Place { country: None, ..place("DE", 2) }], proof: "pinned" };
        assert_eq!(
            said(&Alert::GeoChanged(moved)),
            "[Postern] Ann came from country FR (203.0.113.5, pinned), so far from network AS2"
        );
        let (cause, lasted) = ("2 good checks in a row".to_owned(), Some(Duration::from_hours(3)));
        assert_eq!(
            said(&Alert::AuthState(AuthState { from: "down", to: "up", cause, lasted, outage: None })),
            "[Postern] authentication servers: up (2 good checks in a row; the outage lasted 3 h)"
        );
        let until = "2026-11-21T20:15:03.123Z".parse().unwrap();
        assert_eq!(
            said(&Alert::BanAdded(BanAdded { target: "203.0.113.5".to_owned(), failures: 10, until })),
            "[Postern] banned 203.0.113.5 until 2026-11-21 20:15 UTC: 10 failures"
        );
    }

    #[test]
    fn foreign_text_is_cleaned_and_cut() {
        let player = subject(&format!("&4§4\u{202e}\n{}", "x".repeat(200)), None);
        let outage = Duration::ZERO;
        let line =
            said(&Alert::Fallback(Fallback { player, ground: Ground::Nothing, pin_proven: true, outage }));
        assert!(!line.contains(['\u{202e}', '\n', '§']), "{line}");
        assert!(line.contains("xxx…") && line.contains("&4"), "{line}");
        assert!(line.chars().count() < 250, "{line}");
    }

    #[test]
    fn only_the_proven_who_are_listed_are_staff() {
        let (ann, ben) = (Username::parse("Ann").unwrap(), Username::parse("Ben").unwrap());
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let staff = Staff::new(&["aNN".to_owned(), two.to_string()], Arc::default());
        let dialect = Dialect::of(ProtocolVersion(774));
        let (handle, _link) = relay::link(dialect, Arc::<Activity>::default());
        for (id, name, proof, told) in [
            (one, &ann, Proof::Verified, true),
            (one, &ann, Proof::Pinned, true),
            (one, &ann, Proof::Fallback, false),
            (one, &ann, Proof::Held, false),
            (two, &ben, Proof::Verified, true),
            (two, &ben, Proof::Fallback, false),
            (one, &ben, Proof::Verified, false),
        ] {
            let present = staff.enter(id, name, proof, &handle);
            assert_eq!(staff.is_anybody_here(), told, "{name} {proof:?}");
            drop(present);
            // One lock at a time.
            assert_eq!(staff.present().len(), 0);
            assert!(!staff.is_anybody_here());
        }
    }

    #[test]
    fn who_is_listed_later_is_staff_at_once_and_who_is_taken_off_is_none() {
        let (ann, id) = (Username::parse("Ann").unwrap(), Uuid::from_u128(1));
        let staff = Staff::new(&[], Arc::default());
        let (handle, _link) = relay::link(Dialect::of(ProtocolVersion(774)), Arc::<Activity>::default());
        let _verified = staff.enter(id, &ann, Proof::Verified, &handle);
        let _by_policy = staff.enter(Uuid::from_u128(2), &ann, Proof::Fallback, &handle);
        for (listed, here) in [(&["Ann"][..], true), (&["Ben"], false), (&[], false)] {
            let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
            staff.adopt(&listed, Arc::default());
            assert_eq!(staff.is_anybody_here(), here, "{listed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_program() {
        let config = alert::Config { staff: Vec::new(), on_fallback: true, webhooks: Vec::new() };
        let (alerts, inbox) = queue(&config);
        let (stop, stopping) = Shutdown::new();
        let task = tokio::spawn(Staff::new(&[], Arc::default()).tell(inbox, stopping));
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        stop.trigger();
        task.await.unwrap();
        drop(alerts);
    }
}
