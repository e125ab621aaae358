//! Spans and points of time as they are written on the command line.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};

/// Longest span, in days: ten years. Nothing here is older, and no sum with a point in time leaves the calendar.
const MAX_DAYS: i64 = 3653;

/// A span of time: a whole number and its unit, as in `90s`, `30m`, `2h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(SignedDuration);

/// The text is no span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time span is a number and its unit, as in 90s, 30m, 2h or 7d, up to ten years")]
pub struct BadSpan;

impl Span {
    /// Its length; never negative.
    pub fn length(self) -> SignedDuration {
        self.0
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let (digits, seconds_each) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
            .into_iter()
            .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|digits| (digits, seconds)))
            .ok_or(BadSpan)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSpan);
        }
        let number: i64 = digits.parse().map_err(|_| BadSpan)?;
        let seconds = number.checked_mul(seconds_each).ok_or(BadSpan)?;
        if seconds > MAX_DAYS * 86_400 {
            return Err(BadSpan);
        }
        Ok(Self(SignedDuration::from_secs(seconds)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (seconds_each, unit) = [(86_400, "d"), (3600, "h"), (60, "m")]
            .into_iter()
            .find(|(each, _)| seconds != 0 && seconds % each == 0)
            .unwrap_or((1, "s"));
        write!(f, "{}{unit}", seconds / seconds_each)
    }
}

/// A point in time: so long ago, or at a stated moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(Span),
    /// Then.
    At(Timestamp),
}

/// The text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a point in time is how long ago, as in 90s, 30m, 2h or 7d, or RFC 3339, as in 2026-11-21T20:00:00Z")]
pub struct BadMoment;

impl Moment {
    /// The moment itself, for a clock that shows `now`.
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => now.saturating_sub(span.length()).unwrap_or(Timestamp::MIN),
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        match text.parse() {
            Ok(span) => Ok(Self::Ago(span)),
            Err(BadSpan) => text.parse().map(Self::At).map_err(|_| BadMoment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, seconds, shown) in [
            ("0s", 0, "0s"),
            ("90s", 90, "90s"),
            ("30m", 1800, "30m"),
            ("120m", 7200, "2h"),
            ("2h", 7200, "2h"),
            ("7d", 604_800, "7d"),
            ("3653d", 315_619_200, "3653d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.length().as_secs(), span.to_string().as_str()), (seconds, shown), "{text}");
        }
        for bad in [
            "",
            "s",
            "7",
            "7 d",
            "-7d",
            "+7d",
            "7D",
            "1.5h",
            "1h30m",
            "7w",
            "3654d",
            "99999999999999999999s",
            "7€d",
        ] {
            assert_eq!(bad.parse::<Span>(), Err(BadSpan), "{bad:?}");
        }
    }

    #[test]
    fn points_in_time() {
        let now: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
        for (text, moment) in [
            ("2h", "2026-11-21T18:00:00Z"),
            ("7d", "2026-11-14T20:00:00Z"),
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T00:00:00+02:00", "2026-10-31T22:00:00Z"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().seen_from(now).to_string(), moment, "{text}");
        }
        for bad in ["", "yesterday", "2026-11-01", "2026-11-01T00:00:00", "1763000000"] {
            assert_eq!(bad.parse::<Moment>(), Err(BadMoment), "{bad:?}");
        }
    }
}
