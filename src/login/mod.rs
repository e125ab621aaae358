//! The login, from handshake to admission.

pub mod admitted;

/// What to do with logins during an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackMode {
    /// Admit known players under policy.
    Enabled,
    /// Judge and audit as if, and refuse.
    DryRun,
    /// A plain online-mode proxy.
    Disabled,
}

/// How logins are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to do during an outage.
    pub fallback: FallbackMode,
    /// Whether a player whom policy refuses gets a try at the online login first.
    pub online_attempt_when_ineligible: bool,
    /// Whether fallback is open to clients whose link cannot be encrypted without Mojang.
    pub allow_plaintext_fallback: bool,
    /// Whether clients that another server sent here may join.
    pub accepts_transfers: bool,
}
