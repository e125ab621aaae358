//! `postern auth status|force-down|force-up|auto`

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Failure,
    output::{count, lasting, minute},
    proxy,
};
use crate::{
    admin::{
        auth::Mode,
        status::{Auth, Current, Forced, LastProbe, Status},
    },
    cli::{AuthAction, time::Span},
    config::Whereabouts,
    foreign,
};

/// Reasons of refusals that are shown.
const SHOWN_REASONS: usize = 5;

/// What the proxy answers to an order.
#[derive(Debug, Deserialize)]
struct Ordered {
    auth: Auth,
}

/// What the proxy says of the verdict.
struct Told {
    auth: Auth,
    outage: Option<Current>,
    now: Timestamp,
}

pub(super) async fn auth(action: &AuthAction, place: &Whereabouts) -> Result<Answer, Failure> {
    let mut proxy = proxy(place).await?;
    let Status { auth: before, outage, now, .. } = proxy.get("/api/status").await?;
    let (order, json) = match action {
        AuthAction::Status { json } => (None, *json),
        AuthAction::ForceDown { lasting, json } => (Some(order(Mode::Down, Some(*lasting))), *json),
        AuthAction::ForceUp { lasting, json } => (Some(order(Mode::Up, Some(*lasting))), *json),
        AuthAction::Auto { json } => (Some(order(Mode::Auto, None)), *json),
    };
    let Some(order) = order else {
        return Ok(Answer::well(if json {
            json!({ "auth": before, "outage": outage }).to_string() + "\n"
        } else {
            Told { auth: before, outage, now }.to_string()
        }));
    };
    let Ordered { auth: after } = proxy.post("/api/auth", &order).await?;
    Ok(Answer::well(if json {
        json!({ "auth": after }).to_string() + "\n"
    } else {
        obeyed(&before, &after, now)
    }))
}

fn order(mode: Mode, lasting: Option<Span>) -> Value {
    match lasting {
        Some(span) => json!({ "mode": mode, "for_seconds": span.length().as_secs() }),
        None => json!({ "mode": mode }),
    }
}

/// What an order came to.
fn obeyed(before: &Auth, after: &Auth, now: Timestamp) -> String {
    match &after.forced {
        Some(forced) if forced.mode == "down" => {
            let players = match after.fallback.as_str() {
                "dry-run" => {
                    "auth.fallback is dry-run: known players are judged, and nobody is let in by policy."
                }
                "disabled" => "auth.fallback is disabled: logins go on as before, each checked with Mojang.",
                _ => "Known players are let in by policy, without Mojang's word.",
            };
            format!("Forced down until {}. {players}\n{}", until(forced, now), END_IT)
        }
        Some(forced) => format!(
            "Forced up until {}. Each login is checked with Mojang, and nobody is let in by policy, even if Mojang \
             does not answer.\n{END_IT}",
            until(forced, now)
        ),
        None => {
            let was = if before.forced.is_some() { "The override is over" } else { "There was no override" };
            format!("{was}: the checks decide. The verdict is {}.\n", foreign::clean(&after.state))
        }
    }
}

const END_IT: &str = "After that the checks decide again; `postern auth auto` ends it sooner.\n";

fn until(forced: &Forced, now: Timestamp) -> String {
    format!("{} UTC ({} from now)", minute(forced.until), lasting(seconds(now, forced.until)))
}

/// From then to later; nothing if a clock was set back in between.
fn seconds(then: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.duration_since(then).as_secs()).unwrap_or_default()
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { auth, outage, now } = self;
        let since =
            |then: Timestamp| format!("since {} UTC ({})", minute(then), lasting(seconds(then, *now)));
        match auth.state.as_str() {
            "up" => writeln!(f, "up: logins are checked with Mojang, {}.", since(auth.since))?,
            "down" => {
                let began = outage.as_ref().map_or(auth.since, |outage| outage.started);
                writeln!(f, "down: an outage, {}.", since(began))?;
                if let Some(outage) = outage {
                    writeln!(f, "{}", tally(outage))?;
                }
            }
            state => writeln!(
                f,
                "{}, {}: Mojang's session server fails now and then, throttles this machine, or was not checked yet. \
                 Logins are checked with it all the same.",
                foreign::clean(state),
                since(auth.since)
            )?,
        }
        if let Some(forced) = &auth.forced {
            write!(
                f,
                "Forced {} by the owner until {}. {END_IT}",
                foreign::clean(&forced.mode),
                until(forced, *now)
            )?;
        }
        match &auth.last_probe {
            Some(LastProbe { at, outcome }) => {
                writeln!(f, "Last check {} UTC: {}.", minute(*at), spelt(outcome))?;
            }
            None => writeln!(f, "Not checked yet.")?,
        }
        match auth.fallback.as_str() {
            "enabled" => Ok(()),
            "disabled" => {
                writeln!(f, "auth.fallback is disabled: nobody is let in by policy, outage or not.")
            }
            mode => {
                let mode = foreign::clean(mode);
                writeln!(f, "auth.fallback is {mode}: in an outage players are judged, and nobody is let in.")
            }
        }
    }
}

/// What the outage has come to so far.
fn tally(outage: &Current) -> String {
    let admitted = usize::try_from(outage.admitted).unwrap_or(usize::MAX);
    let mut text =
        format!("{} let in by policy so far, {} refused", count(admitted, "login", "logins"), outage.refused);
    let mut reasons: Vec<_> = outage.refused_by_reason.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (at, (reason, count)) in reasons.iter().take(SHOWN_REASONS).enumerate() {
        let _ = write!(text, "{}{} {count}", if at == 0 { " (" } else { ", " }, foreign::clean(reason));
    }
    text + if reasons.is_empty() { "." } else { ")." }
}

/// An outcome in words.
fn spelt(outcome: &str) -> String {
    let words = match outcome {
        "verified" | "not-joined" => "it answered as it should",
        "throttled" => "it limits how often this machine may ask",
        "unreachable" => "it did not answer as it should",
        "unexpected" => "its answer made no sense",
        "local" => "it could not be asked, for a reason of this machine",
        other => return foreign::clean(other),
    };
    format!("{words} ({outcome})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn up() -> Auth {
        Auth {
            state: "up".to_owned(),
            since: at("2026-01-01T10:00:00Z"),
            forced: None,
            last_probe: Some(LastProbe { at: at("2026-01-01T12:29:50Z"), outcome: "not-joined".to_owned() }),
            fallback: "enabled".to_owned(),
        }
    }

    fn forced(mode: &str) -> Forced {
        Forced { mode: mode.to_owned(), until: at("2026-01-01T14:30:00Z") }
    }

    #[test]
    fn the_verdict_in_words() {
        let now = at("2026-01-01T12:30:00Z");
        let told = |auth: Auth, outage| Told { auth, outage, now }.to_string();
        assert_eq!(
            told(up(), None),
            "up: logins are checked with Mojang, since 2026-01-01 10:00 UTC (2 h 30 min).\n\
             Last check 2026-01-01 12:29 UTC: it answered as it should (not-joined).\n"
        );
        let outage = Current {
            started: at("2026-01-01T12:18:00Z"),
            admitted: 38,
            refused: 4,
            refused_by_reason: [("no-session", 1), ("address-changed", 3)]
                .map(|(reason, count)| (reason.to_owned(), count))
                .into(),
        };
        let auth = Auth {
            state: "down".to_owned(),
            forced: Some(forced("down")),
            fallback: "dry-run".to_owned(),
            ..up()
        };
        assert_eq!(
            told(auth, Some(outage)),
            "down: an outage, since 2026-01-01 12:18 UTC (12 min 0 s).\n\
             38 logins let in by policy so far, 4 refused (address-changed 3, no-session 1).\n\
             Forced down by the owner until 2026-01-01 14:30 UTC (2 h 0 min from now). After that the checks decide \
             again; `postern auth auto` ends it sooner.\n\
             Last check 2026-01-01 12:29 UTC: it answered as it should (not-joined).\n\
             auth.fallback is dry-run: in an outage players are judged, and nobody is let in.\n"
        );
        let auth =
            Auth { state: "degraded".to_owned(), last_probe: None, fallback: "disabled".to_owned(), ..up() };
        let text = told(auth, None);
        assert!(text.contains("Not checked yet.\nauth.fallback is disabled"), "{text}");
    }

    #[test]
    fn what_orders_come_to() {
        let now = at("2026-01-01T12:30:00Z");
        for (before, after, words) in [
            (up(), Auth { forced: Some(forced("down")), ..up() }, "Known players are let in by policy"),
            (
                up(),
                Auth { forced: Some(forced("down")), fallback: "disabled".to_owned(), ..up() },
                "auth.fallback is disabled",
            ),
            (
                up(),
                Auth { forced: Some(forced("up")), ..up() },
                "Forced up until 2026-01-01 14:30 UTC (2 h 0 min from now)",
            ),
            (up(), up(), "There was no override: the checks decide. The verdict is up."),
            (Auth { forced: Some(forced("up")), ..up() }, up(), "The override is over: the checks decide."),
        ] {
            let text = obeyed(&before, &after, now);
            assert!(text.contains(words), "{text}");
        }
    }
}
