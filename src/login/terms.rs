//! What closes or opens the fallback, of the configuration that is in force now.
//!
//! A login may take long: its player looks for a PIN. Whatever else it goes by is that of its beginning, but whether it
//! is admitted by policy is decided at the end, and then by what the owner wants by then: whoever was parked when the
//! fallback was closed does not come in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Config, FallbackMode, refusal::Refusal};
use crate::{messages::MessageKey, policy::Rules, reason::Reason};

/// By what players are admitted without the session server's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What to do during an outage.
    pub fallback: FallbackMode,
    /// Whether fallback is open to clients whose link cannot be encrypted without Mojang.
    pub allow_plaintext_fallback: bool,
    /// The owner's rules for outages.
    pub rules: Rules,
}

impl Terms {
    /// Those of a configuration.
    pub fn of(config: &Config, rules: &Rules) -> Self {
        let Config { fallback, allow_plaintext_fallback, .. } = *config;
        Self { fallback, allow_plaintext_fallback, rules: rules.clone() }
    }

    /// Why nobody is admitted by policy, whoever it is; `None` if somebody may be.
    pub(super) fn closed(&self) -> Option<Refusal> {
        match self.fallback {
            FallbackMode::Enabled => None,
            FallbackMode::DryRun => {
                let refusal =
                    Refusal { message: MessageKey::MojangDownNotice, ..Refusal::new(Reason::Unreachable) };
                Some(refusal.fact("dry_run", "would be admitted"))
            }
            FallbackMode::Disabled => {
                Some(Refusal::new(Reason::Unreachable).fact("cause", "the fallback is disabled"))
            }
        }
    }
}

/// The terms in force, for logins of every generation. One short lock. Clones are the same.
#[derive(Clone, Debug)]
pub struct TermsInForce(Arc<Mutex<Arc<Terms>>>);

impl TermsInForce {
    /// Begins with those.
    pub fn new(terms: Terms) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(terms))))
    }

    /// As of now.
    pub fn current(&self) -> Arc<Terms> {
        Arc::clone(&self.lock())
    }

    /// From now on those, also for logins under way.
    pub fn adopt(&self, terms: Terms) {
        *self.lock() = Arc::new(terms);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Terms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
