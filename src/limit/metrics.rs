//! What is counted of bans and of limits that were hit.

use super::{
    Target,
    bans::Bans,
    gate::{Full, Gate},
};
use crate::metric::{Counters, Error, Readings, Registry, alone, length, number};

/// What a ban is for.
pub(super) const KINDS: [&str; 4] = ["client", "subnet", "asn", "pair"];

const fn kind(target: &Target) -> &'static str {
    match target {
        Target::Client(_) => "client",
        Target::Subnet(_) => "subnet",
        Target::Asn(_) => "asn",
        Target::Pair { .. } => "pair",
    }
}

/// What is counted of bans. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct BanMetrics(Counters<1>);

impl Default for BanMetrics {
    fn default() -> Self {
        Self(Counters::new(
            "postern_bans_total",
            "Bans set for failed logins, by what they are for.",
            ["kind"],
            KINDS.map(|kind| [kind]),
        ))
    }
}

impl BanMetrics {
    /// A ban was set.
    pub(super) fn added(&self, target: &Target) {
        self.0.count([kind(target)]);
    }
}

impl Bans {
    /// Has what is known of bans read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.metrics().0.register(registry)?;
        let bans = self.clone();
        Readings::gauge("postern_bans", "Bans in force, by what they are for.", ["kind"], move || {
            KINDS
                .into_iter()
                .zip(bans.count_in_force())
                .map(|(kind, count)| ([kind], length(count)))
                .collect()
        })
        .register(registry)
    }
}

/// What is counted at the gate. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct GateMetrics(Counters<1>);

impl Default for GateMetrics {
    fn default() -> Self {
        Self(Counters::new(
            "postern_limit_hits_total",
            "Connections and logins that were one too many, or for which another had to go, by the key of the limit.",
            ["limit"],
            [Full::Connections, Full::PerAddress, Full::PendingLogins].map(|full| [full.key()]),
        ))
    }
}

impl GateMetrics {
    /// A limit was hit.
    pub(super) fn hit(&self, full: Full) {
        self.0.count([full.key()]);
    }
}

impl Gate {
    /// Has what is known at the gate read with the other figures. Who is in, and who of those under way does what, others
    /// know better.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        self.metrics().0.register(registry)?;
        let gate = self.clone();
        Readings::gauge(
            "postern_connections_limit",
            "Most connections at once, as configured or as the limit of descriptors allows.",
            [],
            move || alone(number(gate.figures().max.into())),
        )
        .register(registry)?;
        let gate = self.clone();
        Readings::gauge(
            "postern_pending_logins_limit",
            "Most logins under way at once that have proven nothing yet.",
            [],
            move || alone(number(gate.figures().max_pending_logins.into())),
        )
        .register(registry)
    }
}
