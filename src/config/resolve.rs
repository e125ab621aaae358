//! From what the file says to what each room runs by.

use std::path::Path;

use super::{
    Config, Purpose, Settings,
    kinds::ServerAddress,
    problem::Findings,
    schema::{BackendValues, Values},
    secret::{self, Environment},
};
use crate::{
    alert, audit,
    backend::{self, Backend, ForwardingMode, Lookup, NameServers, srv::DEFAULT_PORT},
    geo, limit, login, mojang, net,
    policy::rules::Rules,
    relay, session, statistics,
};

/// Composes the rooms' configurations and finds the secrets they need. `None` only if an error was found.
pub(super) fn resolve(
    values: Values,
    mut settings: Settings,
    path: &Path,
    environment: &Environment,
    purpose: Purpose,
    findings: &Findings,
) -> Option<Config> {
    let backends = backends(&values, &mut settings, environment, purpose, findings);
    let Values { bind, try_order, forced_hosts, auth, session_cache, security, monitoring, .. } = values;
    Some(Config {
        net: net::Config {
            bind,
            accept_proxy_protocol: values.network.accept_proxy_protocol,
            trusted_proxies: values.network.trusted_proxies,
        },
        login: login::Config { compression_threshold: values.network.compression_threshold, ..auth.login },
        pins: security.pins.clone(),
        alerts: alert::Config {
            staff: values.staff,
            on_fallback: security.alert_on_fallback,
            webhooks: values.webhooks,
        },
        session_server: mojang::session_server::Config {
            base_url: auth.session_server?,
            timeout: auth.timeout,
            prevent_client_proxy_connections: auth.prevent_client_proxy_connections,
            unknown_logins_per_minute: auth.unknown_logins_per_minute,
        },
        player_keys: mojang::player_keys::Config { services: auth.services?, timeout: auth.timeout },
        health: mojang::health::Config {
            check_interval: monitoring.health_check_interval,
            retry_interval: monitoring.probe_retry_interval,
            failure_threshold: monitoring.failure_threshold,
            recovery_threshold: monitoring.recovery_threshold,
            treat_throttling_as_outage: auth.treat_throttling_as_outage,
            outage_file: session_cache.directory.join("outage.json"),
        },
        rules: Rules {
            max_session_age: session_cache.max_session_age,
            recent_activity: security.recent_activity,
            min_login_history: security.min_login_history,
            trust_private_addresses: security.trust_private_addresses,
            max_accounts_per_address: security.max_accounts_per_address,
            strict_ip_check: session_cache.strict_ip_check,
            allow_ip_range_match: session_cache.allow_ip_range_match,
            ipv4_range_prefix: session_cache.ipv4_range_prefix,
            ipv6_range_prefix: session_cache.ipv6_range_prefix,
            max_address_age: session_cache.max_address_age,
            require_mojang_auth: security.require_mojang_auth,
            geo_checks: security.enable_geo_checks,
            blocked_asns: security.blocked_asns,
            deny_on_geo_change: security.deny_on_geo_change,
            deny_on_geo_unknown: security.deny_on_geo_unknown,
            pins: security.pins.enabled,
            require_pin: security.require_pin,
            allow_pin_for_changed_address: security.allow_pin_for_changed_address,
        },
        session: session::Config {
            directory: session_cache.directory,
            cleanup_on_startup: session_cache.cleanup_on_startup,
            max_address_age: session_cache.max_address_age,
            ipv4_range_prefix: session_cache.ipv4_range_prefix,
            ipv6_range_prefix: session_cache.ipv6_range_prefix,
        },
        backend: backend::Config {
            backends,
            try_order,
            forced_hosts,
            connect_timeout: values.network.connection_timeout,
        },
        relay: relay::Config { read_timeout: values.network.read_timeout },
        status: values.status,
        audit: audit::Config {
            path: monitoring.audit_log,
            max_size: monitoring.audit_log_max_size,
            keep: monitoring.audit_log_keep,
            compress: monitoring.audit_log_compress,
        },
        geo: geo::Config {
            enabled: security.enable_geo_checks,
            source: monitoring.geo_source,
            timeout: monitoring.geo_lookup_timeout,
            cache_ttl: monitoring.geo_cache_ttl,
        },
        metrics: monitoring.metrics,
        alert_on_geo_change: security.alert_on_geo_change,
        limit: limit::Config {
            bans: limit::bans::Config {
                per_client: security.max_failed_attempts,
                per_subnet: security.max_failed_attempts_per_subnet,
                per_asn: security.max_failed_attempts_per_asn,
                duration: security.failure_ban_duration,
                file: security.ban_file,
                ipv4_subnet_prefix: session_cache.ipv4_range_prefix,
            },
            max_connections: values.network.max_connections,
            max_connections_per_address: values.network.max_connections_per_address,
            max_pending_logins: values.network.max_pending_logins,
            login_interval: values.network.login_ratelimit,
        },
        statistics: statistics::Config { path: monitoring.statistics_file },
        admin: values.admin,
        messages: values.messages,
        shutdown_grace: values.network.shutdown_grace,
        source: path.to_owned(),
        settings,
    })
}

/// The backends, each with the secret it needs: its own, else the shared one. A secret that nobody needs is not looked
/// for. A missing shared one is written last, when nothing else stands in the way of the start.
fn backends(
    values: &Values,
    settings: &mut Settings,
    environment: &Environment,
    purpose: Purpose,
    findings: &Findings,
) -> Vec<Backend> {
    let signs = |backend: &BackendValues| {
        matches!(backend.forwarding, ForwardingMode::Modern | ForwardingMode::BungeeGuard)
    };
    let lacks_own = |backend: &BackendValues| signs(backend) && backend.secret_file.is_none();
    let (shared, unwritten) = if values.backends.iter().any(lacks_own) {
        secret::global(environment, &values.secret_file, &values.secret_spot, purpose, findings)
    } else {
        (None, None)
    };
    if environment.holds_the_secret() {
        settings.ignore(&values.secret_spot.key);
    }
    if let Some(shared) = &shared {
        settings.hold(&values.secret_spot.key, shared);
    }
    let backends: Vec<Backend> = values
        .backends
        .iter()
        .map(|backend| {
            let (host, port, lookup) = match &backend.address {
                ServerAddress::Host(host, port) => (host, *port, Lookup::Host),
                ServerAddress::Domain(name) => (name, DEFAULT_PORT, Lookup::Service(NameServers::System)),
            };
            Backend {
                name: backend.name.clone(),
                host: host.clone(),
                port,
                lookup,
                forwarding: backend.forwarding,
                secret: match &backend.secret_file {
                    _ if !signs(backend) => None,
                    Some(file) => secret::from_file(file, &backend.secret_spot, findings),
                    None => shared.clone(),
                },
                send_proxy_protocol: backend.send_proxy_protocol,
            }
        })
        .collect();
    for (backend, values) in backends.iter().zip(&values.backends) {
        if let (Some(own), Some(_)) = (&backend.secret, &values.secret_file) {
            settings.hold(&values.secret_spot.key, own);
        }
    }
    if let Some(unwritten) = unwritten.filter(|_| !findings.any_error()) {
        unwritten.write(findings);
    }
    backends
}
