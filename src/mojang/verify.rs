//! What a login asks of the session server, from the first call to a confirmed outage.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    classify::{LocalFault, Oddity, Outcome, OutcomeClass, Verified, Why},
    health::Health,
    machine::Vote,
    metrics::Again,
    session_server::{SessionServer, Standing},
};
use crate::identity::Username;

/// Longest Retry-After that a player is made to wait for.
const SHORT_RETRY_AFTER: Duration = Duration::from_secs(3);

/// An outage that this very login met, confirmed by an active probe begun after its own failure. With it the login may
/// be judged by policy in place. Made only by [`SessionServer::verify`].
#[derive(Debug, PartialEq, Eq)]
pub struct ConfirmedOutage {
    since: Timestamp,
    at: Instant,
}

impl ConfirmedOutage {
    /// The start of the outage: the one that is kept until Mojang is well again, also over a while of Degraded; if
    /// there is none, this login's own failure.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// When it was confirmed.
    pub fn at(&self) -> Instant {
        self.at
    }
}

/// What a login's verification came to.
#[derive(Debug, PartialEq, Eq)]
pub enum VerifyResult {
    /// Proven.
    Verified(Verified),
    /// A definite no.
    NotJoined,
    /// Throttled to the end.
    Throttled,
    /// Unreachable, but no outage was confirmed: the player is to try again.
    Unreachable(Why),
    /// An answer that makes no sense.
    Unexpected(Oddity),
    /// Our own fault.
    Local(LocalFault),
    /// Unreachable twice, and so was the probe: policy may judge.
    OutageConfirmed(ConfirmedOutage),
}

impl VerifyResult {
    /// The class of the deciding outcome, for audit and metrics.
    pub const fn class(&self) -> OutcomeClass {
        match self {
            Self::Verified(_) => OutcomeClass::Verified,
            Self::NotJoined => OutcomeClass::NotJoined,
            Self::Throttled => OutcomeClass::Throttled,
            Self::Unreachable(_) | Self::OutageConfirmed(_) => OutcomeClass::Unreachable,
            Self::Unexpected(_) => OutcomeClass::Unexpected,
            Self::Local(_) => OutcomeClass::Local,
        }
    }
}

impl SessionServer {
    /// Asks whether the player has joined, retries once where that may help, and votes.
    ///
    /// - Unreachable: one retry on a new connection, and at the same time an active probe begun after this failure. A
    ///   retry that is answered decides. If it fails too, a failed probe confirms the outage (unless the owner forces
    ///   Up); a healthy one means "try again": nobody can wait for one stray 500 to be let in unproven.
    /// - Throttled: one retry after a Retry-After of at most 3 s.
    ///
    /// Nothing outlasts `deadline`. What it cuts off is `Unreachable` without a vote, since the silence may be ours.
    pub async fn verify(
        &self,
        health: &Health,
        standing: Standing,
        name: &Username,
        server_id_hash: &str,
        client_ip: Option<IpAddr>,
        deadline: Instant,
    ) -> VerifyResult {
        let mut outcome =
            timeout_at(deadline, self.has_joined(standing, name, server_id_hash, client_ip)).await;
        if let Ok(Outcome::Throttled { retry_after: Some(wait) } | Outcome::Held { left: wait }) = outcome
            && wait <= SHORT_RETRY_AFTER
            && Instant::now() + wait < deadline
        {
            sleep(wait).await;
            self.metrics().again(Again::Throttled);
            outcome = timeout_at(deadline, self.has_joined(standing, name, server_id_hash, client_ip)).await;
        }
        match outcome {
            Ok(Outcome::Unreachable(why)) => {
                let probe = health.probe_now();
                let failed_at = self.clock().now();
                self.metrics().again(Again::Unreachable);
                let retry = self.has_joined_afresh(standing, name, server_id_hash, client_ip);
                match timeout_at(deadline, retry).await {
                    Err(_) => VerifyResult::Unreachable(why),
                    Ok(Outcome::Unreachable(why)) => {
                        health.vote(Vote::Unreachable(why));
                        let probed = timeout_at(deadline, probe).await;
                        let confirmed = probed.is_ok_and(|probed| probed.failed);
                        confirm(health, confirmed, failed_at, why)
                    }
                    Ok(outcome) => settle(health, outcome),
                }
            }
            Ok(outcome) => settle(health, outcome),
            Err(_) => VerifyResult::Unreachable(Why::TimedOut),
        }
    }
}

fn confirm(health: &Health, confirmed: bool, failed_at: Timestamp, why: Why) -> VerifyResult {
    let status = health.status();
    if !confirmed || status.is_forced_up() {
        return VerifyResult::Unreachable(why);
    }
    let since = status.outage_started.unwrap_or(failed_at);
    VerifyResult::OutageConfirmed(ConfirmedOutage { since, at: Instant::now() })
}

/// The end of a login whose last call did not fail to reach the server, and its vote.
fn settle(health: &Health, outcome: Outcome) -> VerifyResult {
    match outcome {
        Outcome::Verified(verified) => {
            health.vote(Vote::Answered);
            VerifyResult::Verified(verified)
        }
        Outcome::NotJoined => {
            health.vote(Vote::Answered);
            VerifyResult::NotJoined
        }
        Outcome::Throttled { .. } => {
            health.vote(Vote::Throttled);
            VerifyResult::Throttled
        }
        // No vote either: nothing was asked.
        Outcome::Held { .. } => VerifyResult::Throttled,
        Outcome::Unreachable(why) => VerifyResult::Unreachable(why),
        Outcome::Unexpected(oddity) => VerifyResult::Unexpected(oddity),
        Outcome::Local(fault) => {
            if fault == LocalFault::QueueFull {
                health.note_limit_hit();
            } else {
                health.note_local_limit();
            }
            VerifyResult::Local(fault)
        }
    }
}
