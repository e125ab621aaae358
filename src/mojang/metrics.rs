//! What is counted of calls to the session server, and of the verdict on it.

use std::time::Duration;

use super::{
    classify::{Outcome, OutcomeClass},
    health::{Event, ForcedVerdict, Health},
};
use crate::metric::{Counters, Error, NETWORK, Readings, Registry, Timings, alone, one_of};

/// Who asks the session server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A login.
    Login,
    /// A check of ours.
    Probe,
}

impl Asker {
    const ALL: [Self; 2] = [Self::Login, Self::Probe];

    const fn label(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Probe => "probe",
        }
    }
}

/// Why a login asks once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The session server did not answer as it should.
    Unreachable,
    /// It asked for a short wait.
    Throttled,
}

impl Again {
    const ALL: [Self; 2] = [Self::Unreachable, Self::Throttled];

    const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
        }
    }
}

/// What is counted of calls. Clones count together.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    calls: Counters<2>,
    took: Timings<1>,
    retries: Counters<1>,
    withheld: Counters<0>,
}

impl Default for CallMetrics {
    /// Nothing has happened yet.
    fn default() -> Self {
        let classes = OutcomeClass::ALL.iter().map(|class| class.label());
        let calls = classes.flat_map(|class| Asker::ALL.map(|asker| [asker.label(), class]));
        Self {
            calls: Counters::new(
                "postern_has_joined_calls_total",
                "Has-joined calls to the session server, of logins and of probes, by the class of their outcome.",
                ["caller", "outcome"],
                calls,
            ),
            took: Timings::new(
                "postern_has_joined_seconds",
                "How long has-joined calls took, whatever came of them.",
                NETWORK,
                ["caller"],
                Asker::ALL.map(|asker| [asker.label()]),
            ),
            retries: Counters::new(
                "postern_has_joined_retries_total",
                "Logins that asked the session server a second time, by what the first call came to.",
                ["after"],
                Again::ALL.map(|again| [again.label()]),
            ),
            withheld: Counters::one(
                "postern_has_joined_withheld_total",
                "Calls of logins that were not made, because the session server had asked for a wait that is not over.",
            ),
        }
    }
}

impl CallMetrics {
    /// A call is over. One that was not made is no call.
    pub(super) fn called(&self, asker: Asker, outcome: &Outcome, time: Duration) {
        if matches!(outcome, Outcome::Held { .. }) {
            return self.withheld.count([]);
        }
        self.calls.count([asker.label(), outcome.class().label()]);
        self.took.took([asker.label()], time);
    }

    /// A login asks once more.
    pub(super) fn again(&self, why: Again) {
        self.retries.count([why.label()]);
    }

    /// Has all of it read with the others.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.calls.register(registry)?;
        self.took.register(registry)?;
        self.retries.register(registry)?;
        self.withheld.register(registry)
    }
}

/// What a verdict can be.
const VERDICTS: [&str; 3] = ["up", "degraded", "down"];

/// What is counted of the verdict. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct VerdictMetrics {
    probes: Counters<1>,
    changes: Counters<2>,
}

impl Default for VerdictMetrics {
    fn default() -> Self {
        let pairs = VERDICTS.iter().flat_map(|from| VERDICTS.map(|to| [*from, to]));
        Self {
            probes: Counters::new(
                "postern_auth_probes_total",
                "Probes of the session server, by what they count as for the verdict: silence while this machine was at \
                 a limit of its own is local.",
                ["outcome"],
                OutcomeClass::ALL.iter().map(|class| [class.label()]),
            ),
            changes: Counters::new(
                "postern_auth_state_changes_total",
                "Changes of the verdict on the session server.",
                ["from", "to"],
                pairs.filter(|[from, to]| from != to),
            ),
        }
    }
}

impl VerdictMetrics {
    /// A probe is over, and counts as this.
    pub(super) fn probed(&self, class: OutcomeClass) {
        self.probes.count([class.label()]);
    }

    /// The monitor tells of something.
    pub(super) fn heard(&self, event: &Event) {
        if let Event::State(change) = event
            // Of two outages one may follow the other at once.
            && change.from.label() != change.to.label()
        {
            self.changes.count([change.from.label(), change.to.label()]);
        }
    }

    /// Has all of it, and the verdict itself, read with the others.
    pub(super) fn register(&self, health: &Health, registry: &Registry) -> Result<(), Error> {
        self.probes.register(registry)?;
        self.changes.register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_auth_state",
            "The verdict on the session server: 1 for the state that logins go by now.",
            ["state"],
            move || one_of(&VERDICTS, Some(seen.verdict().label())),
        )
        .register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_auth_state_since_timestamp_seconds",
            "When the verdict became what it is.",
            [],
            move || alone(seen.status().since.as_duration().as_secs_f64()),
        )
        .register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_auth_override",
            "Whether the owner forces a verdict, and which: 1 for the one that is forced.",
            ["mode"],
            move || {
                let modes = [ForcedVerdict::Up.label(), ForcedVerdict::Down.label()];
                one_of(&modes, seen.status().forced.map(|forced| forced.verdict.label()))
            },
        )
        .register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_auth_override_until_timestamp_seconds",
            "When the forced verdict ends by itself; 0 while none is forced.",
            [],
            move || alone(seconds(seen.status().forced.map(|forced| forced.until))),
        )
        .register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_outage_started_timestamp_seconds",
            "When the outage that is going on began, over restarts; 0 while the session server is not down.",
            [],
            move || {
                let status = seen.status();
                alone(seconds(status.outage_started.filter(|_| status.verdict.is_down())))
            },
        )
        .register(registry)?;
        let seen = health.clone();
        Readings::gauge(
            "postern_auth_last_probe_timestamp_seconds",
            "When the newest probe of the session server ended; 0 before the first.",
            [],
            move || alone(seconds(seen.status().last_probe.map(|(at, _)| at))),
        )
        .register(registry)
    }
}

fn seconds(at: Option<jiff::Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_duration().as_secs_f64())
}
