//! What decides who may join in an outage, key by key.

use std::time::Duration;

use serde::Serialize;

use crate::policy::Rules;

/// The terms on which players are let in during an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rules.
    pub rules: Rules,
    /// Whether fallback is open to clients whose link cannot be encrypted without Mojang.
    pub allow_plaintext_fallback: bool,
}

/// A key in which two configurations differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its dotted path.
    pub key: &'static str,
    /// Its value in the configuration in use.
    pub current: String,
    /// Its value in the other one.
    pub other: String,
}

impl Terms {
    /// The keys whose values differ, in the order of the file.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let ours = self.values().into_iter().zip(other.values());
        ours.filter(|((_, current), (_, other))| current != other)
            .map(|((key, current), (_, other))| Difference { key, current, other })
            .collect()
    }

    /// Every key and its value, as it would be written.
    fn values(&self) -> Vec<(&'static str, String)> {
        // Taken apart, so that a new rule cannot be forgotten here.
        let Self {
            rules:
                Rules {
                    max_session_age,
                    recent_activity,
                    min_login_history,
                    trust_private_addresses,
                    max_accounts_per_address,
                    strict_ip_check,
                    allow_ip_range_match,
                    ipv4_range_prefix,
                    ipv6_range_prefix,
                    max_address_age,
                    require_mojang_auth,
                    geo_checks,
                    blocked_asns,
                    deny_on_geo_change,
                    deny_on_geo_unknown,
                    pins,
                    require_pin,
                    allow_pin_for_changed_address,
                },
            allow_plaintext_fallback,
        } = self;
        vec![
            ("auth.allow-plaintext-fallback", allow_plaintext_fallback.to_string()),
            ("session-cache.max-session-age", hours(*max_session_age).to_string()),
            ("session-cache.strict-ip-check", strict_ip_check.to_string()),
            ("session-cache.allow-ip-range-match", allow_ip_range_match.to_string()),
            ("session-cache.ipv4-range-prefix", ipv4_range_prefix.to_string()),
            ("session-cache.ipv6-range-prefix", ipv6_range_prefix.to_string()),
            ("session-cache.max-address-age", hours(*max_address_age).to_string()),
            ("security.min-login-history", min_login_history.to_string()),
            ("security.require-recent-activity", recent_activity.is_some().to_string()),
            // Without the rule, its number is nobody's.
            (
                "security.recent-activity-days",
                recent_activity.map_or("-".to_owned(), |age| days(age).to_string()),
            ),
            ("security.enable-geo-checks", geo_checks.to_string()),
            ("security.deny-on-geo-change", deny_on_geo_change.to_string()),
            ("security.deny-on-geo-unknown", deny_on_geo_unknown.to_string()),
            ("security.require-pin-on-fallback", require_pin.to_string()),
            ("security.allow-pin-for-changed-address", allow_pin_for_changed_address.to_string()),
            ("security.pin-commands", pins.to_string()),
            ("security.max-accounts-per-address", max_accounts_per_address.to_string()),
            ("security.trust-private-addresses", trust_private_addresses.to_string()),
            ("security.blocked-asns", listed(blocked_asns)),
            ("security.require-mojang-auth", listed(require_mojang_auth)),
        ]
    }
}

/// Whole hours, as `max-session-age` and `max-address-age` are written.
pub(super) fn hours(age: Duration) -> u64 {
    age.as_secs() / 3600
}

/// Whole days, as `recent-activity-days` is written.
pub(super) fn days(age: Duration) -> u64 {
    hours(age) / 24
}

fn listed<'a, T: Ord + ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    let items: Vec<_> = items.into_iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}
