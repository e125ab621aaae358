//! What happened, as far as somebody who has to act on it wants to know. Free of the form in which it is told.

use std::{fmt, net::IpAddr, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::place::Place;

/// Something that staff should hear of at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// A player came in by policy.
    Fallback(Fallback),
    /// A player came from a country or network that is new for it.
    GeoChanged(GeoChanged),
    /// The verdict on the session server changed.
    AuthState(AuthState),
    /// Somebody failed too often.
    BanAdded(BanAdded),
}

/// Whom an alert is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The player's name. Text of others: to be cleaned before it is shown.
    pub name: String,
    /// The id of the session.
    pub id: Uuid,
    /// The client address.
    pub address: IpAddr,
    /// Where that is, as far as it is known.
    pub place: Option<Place>,
}

/// A player whom policy admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Who.
    pub player: Subject,
    /// What speaks for the player, apart from name and id.
    pub ground: Ground,
    /// Whether the player has proven its PIN.
    pub pin_proven: bool,
    /// How long the outage lasts.
    pub outage: Duration,
}

/// What the address of a player whom policy admitted says for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The player was verified at exactly this address, so long ago.
    Exact(Duration),
    /// The player was verified at an address of the same range, so long ago.
    Range(Duration),
    /// Nothing that is remembered.
    Nothing,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(ago) => write!(f, "verified at this address {} ago", Lasting(*ago)),
            Self::Range(ago) => write!(f, "verified in this address range {} ago", Lasting(*ago)),
            Self::Nothing => f.write_str("not at one of the player's remembered addresses"),
        }
    }
}

impl fmt::Display for Fallback {
    /// Why it was allowed, and since when there is an outage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pin_proven {
            f.write_str("PIN proven, ")?;
        }
        write!(f, "{}", self.ground)?;
        if let Some(place) = self.player.place {
            write!(f, ", {}", Whereabouts(place))?;
        }
        write!(f, "; outage for {}", Lasting(self.outage))
    }
}

/// A place as one says it: what is not known of it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts(pub Place);

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place { country: Some(country), asn: Some(asn) } => {
                write!(f, "country {country}, network AS{asn}")
            }
            Place { country: Some(country), asn: None } => write!(f, "country {country}"),
            Place { country: None, asn: Some(asn) } => write!(f, "network AS{asn}"),
            Place { country: None, asn: None } => f.write_str("an unknown place"),
        }
    }
}

/// A player who came from elsewhere than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeoChanged {
    /// Who, and where from.
    pub player: Subject,
    /// Where the player's verified addresses are.
    pub known: Vec<Place>,
    /// How the player was proven, or that it was refused: the word of audit.log.
    pub proof: &'static str,
}

/// A change of the verdict on the session server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    /// What it was.
    pub from: &'static str,
    /// What it is.
    pub to: &'static str,
    /// Why.
    pub cause: String,
    /// How long the outage lasted that ends with it.
    pub lasted: Option<Duration>,
    /// What it means for the outage there is or was, if anything.
    pub outage: Option<Outage>,
}

/// What becomes of an outage. It is known by when it began, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The verdict is Down.
    GoesOn {
        /// When the outage began; earlier than the change if the verdict was Down in it before.
        started: Timestamp,
    },
    /// The verdict is not Down any more.
    Over {
        /// When it began.
        started: Timestamp,
        /// When it ended, or was last seen if nobody saw its end.
        ended: Timestamp,
    },
}

/// A ban that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanAdded {
    /// Whom it is for.
    pub target: String,
    /// For how many failures.
    pub failures: u32,
    /// When it ends.
    pub until: Timestamp,
}

/// A time as one says it: in its largest unit, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting(pub Duration);

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min", seconds / 60),
            // Up to two days a day is too coarse.
            3600..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Country;

    #[test]
    fn times_in_their_largest_unit() {
        for (seconds, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
            (u64::MAX, "213503982334601 days"),
        ] {
            assert_eq!(Lasting(Duration::from_secs(seconds)).to_string(), said);
        }
    }

    #[test]
    fn why_a_player_was_allowed() {
        let place = Place { country: Country::parse("DE"), asn: Some(64_496) };
        let said = |ground, pin_proven, place| {
            let address = "203.0.113.5".parse().unwrap();
            let player = Subject { name: "Ann".to_owned(), id: Uuid::nil(), address, place };
            Fallback { player, ground, pin_proven, outage: Duration::from_mins(12) }.to_string()
        };
        let (hours, days) = (Duration::from_hours(19), Duration::from_hours(75));
        assert_eq!(
            said(Ground::Exact(hours), false, Some(place)),
            "verified at this address 19 h ago, country DE, network AS64496; outage for 12 min"
        );
        assert_eq!(
            said(Ground::Range(days), true, None),
            "PIN proven, verified in this address range 3 days ago; outage for 12 min"
        );
        let said = said(Ground::Nothing, false, Some(Place { asn: None, ..place }));
        assert_eq!(said, "not at one of the player's remembered addresses, country DE; outage for 12 min");
    }

    #[test]
    fn of_a_place_what_is_known() {
        let (country, asn) = (Country::parse("DE"), Some(64_496));
        for (place, said) in [
            (Place { country, asn }, "country DE, network AS64496"),
            (Place { country, asn: None }, "country DE"),
            (Place { country: None, asn }, "network AS64496"),
            (Place::default(), "an unknown place"),
        ] {
            assert_eq!(Whereabouts(place).to_string(), said);
        }
    }
}
