//! Every key there is: its name, its default, what may stand under it, and whether it is in force.
//!
//! One call per key, in the order of the example file.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use reqwest::Url;
use uuid::Uuid;

use super::{
    kinds::{
        ServerAddress,
        Unit::{Days, Hours, Milliseconds, Minutes, Seconds},
        asn, backend_names, base_url, boolean, favicon, geo_url, host_header, host_pattern, list,
        listen_addresses, listen_or_off, number, one_of, path, player, player_id, player_text,
        server_address, storage_type, time, time_or_zero, trusted_network, webhook_url,
    },
    problem::{Findings, Spot, show},
    read::{At, Section},
};
use crate::{
    admin,
    alert::webhook::{Format, Hook, Topic},
    backend::ForwardingMode,
    geo,
    login::{self, FallbackMode},
    messages::{MessageKey, Messages},
    pin, status,
};

/// A network prefix of at least this length tells strangers apart; shorter ones cover whole countries.
const NARROW_V4: u8 = 16;
const NARROW_V6: u8 = 32;
/// Within less nobody reads, thinks and types.
const SHORTEST_PIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever takes longer has left.
const LONGEST_PIN_TIMEOUT: Duration = Duration::from_mins(10);

/// Everything the file says that is in force, defaults filled in.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) bind: Vec<SocketAddr>,
    pub(super) backends: Vec<BackendValues>,
    pub(super) try_order: Vec<usize>,
    pub(super) forced_hosts: Vec<(String, Vec<usize>)>,
    pub(super) secret_file: PathBuf,
    pub(super) secret_spot: Spot,
    pub(super) auth: Auth,
    pub(super) session_cache: SessionCache,
    pub(super) security: Security,
    pub(super) monitoring: Monitoring,
    pub(super) messages: Messages,
    pub(super) status: status::Config,
    pub(super) network: Network,
    pub(super) staff: Vec<String>,
    pub(super) webhooks: Vec<Hook>,
    pub(super) admin: admin::Config,
}

#[derive(Debug)]
pub(super) struct BackendValues {
    pub(super) name: String,
    pub(super) address: ServerAddress,
    pub(super) forwarding: ForwardingMode,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_spot: Spot,
    pub(super) send_proxy_protocol: bool,
}

#[derive(Debug)]
pub(super) struct Auth {
    pub(super) session_server: Option<Url>,
    pub(super) services: Option<Url>,
    pub(super) timeout: Duration,
    pub(super) unknown_logins_per_minute: u32,
    pub(super) prevent_client_proxy_connections: bool,
    pub(super) treat_throttling_as_outage: bool,
    pub(super) login: login::Config,
}

#[derive(Debug)]
pub(super) struct SessionCache {
    pub(super) max_session_age: Duration,
    pub(super) directory: PathBuf,
    pub(super) strict_ip_check: bool,
    pub(super) allow_ip_range_match: bool,
    pub(super) ipv4_range_prefix: u8,
    pub(super) ipv6_range_prefix: u8,
    pub(super) max_address_age: Duration,
    pub(super) cleanup_on_startup: bool,
}

#[derive(Debug)]
pub(super) struct Security {
    pub(super) min_login_history: u32,
    pub(super) recent_activity: Option<Duration>,
    pub(super) max_accounts_per_address: u32,
    pub(super) trust_private_addresses: bool,
    pub(super) require_mojang_auth: HashSet<Uuid>,
    pub(super) enable_geo_checks: bool,
    pub(super) alert_on_geo_change: bool,
    pub(super) alert_on_fallback: bool,
    pub(super) pins: pin::Config,
    pub(super) require_pin: bool,
    pub(super) allow_pin_for_changed_address: bool,
    pub(super) deny_on_geo_change: bool,
    pub(super) deny_on_geo_unknown: bool,
    pub(super) blocked_asns: HashSet<u32>,
    pub(super) max_failed_attempts: u32,
    pub(super) max_failed_attempts_per_subnet: u32,
    pub(super) max_failed_attempts_per_asn: u32,
    pub(super) failure_ban_duration: Duration,
    pub(super) ban_file: PathBuf,
}

#[derive(Debug)]
pub(super) struct Monitoring {
    pub(super) health_check_interval: Duration,
    pub(super) failure_threshold: u32,
    pub(super) recovery_threshold: u32,
    pub(super) probe_retry_interval: Duration,
    pub(super) audit_log: Option<PathBuf>,
    pub(super) audit_log_max_size: u64,
    pub(super) audit_log_keep: u32,
    pub(super) audit_log_compress: bool,
    pub(super) metrics: bool,
    pub(super) geo_source: geo::Source,
    pub(super) geo_lookup_timeout: Duration,
    pub(super) geo_cache_ttl: Duration,
    pub(super) statistics_file: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) connection_timeout: Duration,
    pub(super) read_timeout: Duration,
    pub(super) shutdown_grace: Duration,
    pub(super) accept_proxy_protocol: bool,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) login_ratelimit: Duration,
    pub(super) max_connections: u32,
    pub(super) max_connections_per_address: u32,
    pub(super) max_pending_logins: u32,
    pub(super) compression_threshold: Option<usize>,
}

/// Walks the whole file. `base` is the folder that its paths are relative to.
pub(super) fn values(mut root: Section<'_, '_>, base: &Path, findings: &Findings) -> Values {
    let bind = root.get("bind", vec![SocketAddr::from(([0, 0, 0, 0], 25565))], listen_addresses);
    // Before `backends`, because it holds their default; `secret-file` is used only if one of them needs it.
    let mut forwarding = root.section("forwarding");
    let mode = forwarding.get("mode", ForwardingMode::Modern, forwarding_mode);
    let secret_spot = forwarding.spot("secret-file");
    let secret_file = forwarding.get("secret-file", base.join(super::secret::DEFAULT_FILE), path(base));
    forwarding.finish();

    let backends = root.optional("backends", |at| backends(at, mode, &bind, base));
    if !root.has("backends") {
        let hint = "name at least one, as in backends: {lobby: {address: \"127.0.0.1:25566\"}}";
        root.error("backends", "is missing", hint);
    }
    let backends = backends.unwrap_or_default();
    let names: Vec<&str> = backends.iter().map(|backend| backend.name.as_str()).collect();
    let try_order = root.get("try", (0..names.len()).collect(), backend_names(&names));
    let forced_hosts = root.get("forced-hosts", Vec::new(), |at| forced_hosts(at, &names));

    let (staff, webhooks) = alerts(root.section("alerts"));
    let values = Values {
        staff,
        webhooks,
        auth: auth(root.section("auth")),
        session_cache: session_cache(root.section("session-cache"), base, findings),
        security: security(root.section("security"), base, findings),
        monitoring: monitoring(root.section("monitoring"), base),
        messages: messages(root.section("messages")),
        status: status(root.section("status"), base),
        network: network(root.section("network"), findings),
        admin: admin(root.section("admin"), base, findings),
        bind,
        try_order,
        forced_hosts,
        backends,
        secret_file,
        secret_spot,
    };
    root.finish();
    values
}

fn backends(
    at: &At<'_, '_>,
    mode: ForwardingMode,
    bind: &[SocketAddr],
    base: &Path,
) -> Option<Vec<BackendValues>> {
    at.takes(|| "section: a section for each backend, by its name".to_owned());
    let entries = at.entries()?;
    if entries.is_empty() {
        at.error("names no backend", "at least one, as in lobby: {address: \"127.0.0.1:25566\"}");
    }
    let mut backends = Vec::new();
    for (name, entry) in entries {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            entry.error(
                format!("{} is no name for a backend", show(name)),
                "1 to 64 of A-Z, a-z, 0-9, -, _ and .",
            );
        }
        let Some(mut section) = entry.section() else { continue };
        let address = section.optional("address", |at| {
            let address = server_address(at)?;
            if bind.iter().any(|bound| is_own(*bound, &address)) {
                at.error(
                    "is this proxy's own address",
                    "give the backend a port of its own, as in \"127.0.0.1:25566\"",
                );
            }
            Some(address)
        });
        if !section.has("address") {
            section.error("address", "is missing", "host and port, as in \"127.0.0.1:25566\"");
        }
        let forwarding = section.get("forwarding", mode, forwarding_mode);
        let secret_spot = section.spot("secret-file");
        let secret_file = section.optional("secret-file", path(base));
        let send_proxy_protocol = section.get("send-proxy-protocol", false, boolean);
        section.finish();
        backends.push(BackendValues {
            name: name.to_owned(),
            // Wrong ones have been reported; the name is still known to the keys that refer to it.
            address: address.unwrap_or(ServerAddress::Domain(String::new())),
            forwarding,
            secret_file,
            secret_spot,
            send_proxy_protocol,
        });
    }
    Some(backends)
}

/// Whether connecting to `address` would reach this proxy, which listens on `bound`.
fn is_own(bound: SocketAddr, address: &ServerAddress) -> bool {
    // Other names are not looked up here: what they mean may change.
    let ServerAddress::Host(host, port) = address else { return false };
    let ip = if host.eq_ignore_ascii_case("localhost") {
        Ok(IpAddr::from(Ipv4Addr::LOCALHOST))
    } else {
        host.parse()
    };
    let Ok(ip) = ip else { return false };
    bound.port() == *port
        && (bound.ip() == ip || bound.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
}

fn forced_hosts(at: &At<'_, '_>, names: &[&str]) -> Option<Vec<(String, Vec<usize>)>> {
    at.takes(|| "section: a list of names of backends for each host name".to_owned());
    let mut hosts: Vec<(String, Vec<usize>)> = Vec::new();
    for (host, entry) in at.entries()? {
        let indices = backend_names(names)(&entry);
        match host_pattern(host) {
            Err(hint) => entry.error(format!("{} is no host name", show(host)), hint),
            Ok(pattern) if hosts.iter().any(|(known, _)| *known == pattern) => {
                entry.error(format!("{} stands here twice, only spelt otherwise", show(host)), "remove one");
            }
            Ok(pattern) => hosts.push((pattern, indices.unwrap_or_default())),
        }
    }
    Some(hosts)
}

/// How backends learn who a player is.
fn forwarding_mode(at: &At<'_, '_>) -> Option<ForwardingMode> {
    one_of(&[
        ("modern", ForwardingMode::Modern),
        ("legacy", ForwardingMode::Legacy),
        ("bungeeguard", ForwardingMode::BungeeGuard),
        ("none", ForwardingMode::None),
    ])(at)
}

fn auth(mut auth: Section<'_, '_>) -> Auth {
    let fallback_modes = one_of(&[
        ("enabled", FallbackMode::Enabled),
        ("dry-run", FallbackMode::DryRun),
        ("disabled", FallbackMode::Disabled),
    ]);
    let mojang = |url: &str| Url::parse(url).ok();
    let session_server = mojang("https://sessionserver.mojang.com");
    let services = mojang("https://api.minecraftservices.com");
    let timeout = auth.get("timeout", Milliseconds.times(5000), |at| {
        let timeout = time(Milliseconds)(at)?;
        // A login lasts 25 s at most, of which two calls and the client's own must have their share.
        if timeout > Milliseconds.times(10_000) {
            let what = "is so long that a login runs out of time before an outage can be told";
            at.warning(what, "10000 or less");
        }
        Some(timeout)
    });
    let values = Auth {
        session_server: auth.get("session-server", session_server, |at| {
            let danger = "whoever sits on the way can let anybody in as anyone";
            base_url(at, "https://sessionserver.mojang.com", danger).map(Some)
        }),
        services: auth.get("services", services, |at| {
            let danger = "whoever sits on the way can pass made-up chat keys of 1.19 to 1.19.2 off as real";
            base_url(at, "https://api.minecraftservices.com", danger).map(Some)
        }),
        timeout,
        login: login::Config {
            fallback: auth.get("fallback", FallbackMode::Enabled, fallback_modes),
            online_attempt_when_ineligible: auth.get("online-attempt-when-ineligible", true, boolean),
            allow_plaintext_fallback: auth.get("allow-plaintext-fallback", true, boolean),
            accepts_transfers: auth.get("accepts-transfers", false, boolean),
            // The network section has it.
            compression_threshold: None,
        },
        unknown_logins_per_minute: auth.get("unknown-logins-per-minute", 120, number(0..=1_000_000)),
        prevent_client_proxy_connections: auth.get("prevent-client-proxy-connections", false, boolean),
        treat_throttling_as_outage: auth.get("treat-throttling-as-outage", false, boolean),
    };
    auth.finish();
    values
}

fn session_cache(mut cache: Section<'_, '_>, base: &Path, findings: &Findings) -> SessionCache {
    cache.get("storage-type", (), storage_type);
    let values = SessionCache {
        max_session_age: cache.get("max-session-age", Hours.times(72), time(Hours)),
        directory: cache.get("directory", base.join("sessions"), path(base)),
        strict_ip_check: cache.get("strict-ip-check", true, boolean),
        allow_ip_range_match: cache.get("allow-ip-range-match", true, boolean),
        ipv4_range_prefix: cache.get("ipv4-range-prefix", 24, number(1..=32)),
        ipv6_range_prefix: cache.get("ipv6-range-prefix", 64, number(1..=128)),
        max_address_age: cache.get("max-address-age", Hours.times(168), time(Hours)),
        cleanup_on_startup: cache.get("cleanup-on-startup", true, boolean),
    };
    if !values.strict_ip_check {
        let what =
            "during an outage whoever knows a player's name and id can join as that player, from anywhere";
        findings.warning(
            &cache.spot("strict-ip-check"),
            what,
            Some("true, unless all players are friends".into()),
        );
    }
    if values.max_session_age > Days.times(36) {
        let what = "sessions unused for 36 days are dropped whatever stands here";
        findings.warning(&cache.spot("max-session-age"), what, Some("864 hours are 36 days".into()));
    }
    for (key, prefix, narrow) in [
        ("ipv4-range-prefix", values.ipv4_range_prefix, NARROW_V4),
        ("ipv6-range-prefix", values.ipv6_range_prefix, NARROW_V6),
    ] {
        if values.allow_ip_range_match && prefix < narrow {
            let what = format!("/{prefix} is so wide that strangers share it");
            findings.warning(&cache.spot(key), what, Some(format!("{narrow} or more")));
        }
    }
    cache.finish();
    values
}

fn security(mut security: Section<'_, '_>, base: &Path, findings: &Findings) -> Security {
    let max_failed_attempts = security.get("max-failed-attempts", 10, number(1..=1_000_000));
    let failure_ban_duration = security.get("failure-ban-duration", Minutes.times(30), time(Minutes));
    let alert_on_fallback = security.get("alert-on-fallback", true, boolean);
    let enable_geo_checks = security.get("enable-geo-checks", true, boolean);
    let alert_on_geo_change = security.get("alert-on-geo-change", true, boolean);
    let deny_on_geo_change = security.get("deny-on-geo-change", false, boolean);
    let deny_on_geo_unknown = security.get("deny-on-geo-unknown", false, boolean);
    let require_pin = security.get("require-pin-on-fallback", false, boolean);
    let pin_timeout = security.get("pin-timeout-seconds", Seconds.times(60), time(Seconds));
    let pin_min_length = security.get("pin-min-length", 6, number(4..=32));
    let max_failed_attempts_per_subnet =
        security.get("max-failed-attempts-per-subnet", 30, number(1..=1_000_000));
    let max_failed_attempts_per_asn = security.get("max-failed-attempts-per-asn", 100, number(1..=1_000_000));
    let allow_pin_for_changed_address = security.get("allow-pin-for-changed-address", false, boolean);
    let blocked_asns = security.get("blocked-asns", Vec::new(), list(asn));
    let pin_commands = security.get("pin-commands", true, boolean);
    let ban_file = security.get("ban-file", base.join("bans.json"), path(base));
    let required = security.get("require-recent-activity", true, boolean);
    let days = security.get("recent-activity-days", Days.times(30), time(Days));
    let required_online = security.get("require-mojang-auth", Vec::new(), list(player_id));
    for (key, asks) in [
        ("deny-on-geo-change", deny_on_geo_change),
        ("deny-on-geo-unknown", deny_on_geo_unknown),
        ("blocked-asns", !blocked_asns.is_empty()),
    ] {
        if asks && !enable_geo_checks {
            let hint = "set security.enable-geo-checks to true, or remove this";
            let what = "keeps nobody out: security.enable-geo-checks is false";
            findings.warning(&security.spot(key), what, Some(hint.to_owned()));
        }
    }
    if !pin_commands && require_pin {
        let what = "shuts everybody out: security.pin-commands is false, so nobody has a PIN";
        let hint = "set security.pin-commands to true, or remove this";
        findings.error(&security.spot("require-pin-on-fallback"), what, Some(hint.to_owned()));
    }
    for (is_on, switch) in
        [(pin_commands, "security.pin-commands"), (enable_geo_checks, "security.enable-geo-checks")]
    {
        if allow_pin_for_changed_address && !is_on {
            let hint = format!("set {switch} to true, or remove this");
            let what = format!("lets nobody in: {switch} is false");
            findings.warning(&security.spot("allow-pin-for-changed-address"), what, Some(hint));
        }
    }
    if !(SHORTEST_PIN_TIMEOUT..=LONGEST_PIN_TIMEOUT).contains(&pin_timeout) {
        let what = if pin_timeout < SHORTEST_PIN_TIMEOUT {
            "players who read the question first cannot answer in time"
        } else {
            "connections that nobody has proven are held for so long"
        };
        findings.warning(&security.spot("pin-timeout-seconds"), what, Some("10 to 600 seconds".to_owned()));
    }
    let values = Security {
        min_login_history: security.get("min-login-history", 3, number(0..=1_000_000)),
        recent_activity: required.then_some(days),
        max_accounts_per_address: security.get("max-accounts-per-address", 5, number(1..=1_000_000)),
        trust_private_addresses: security.get("trust-private-addresses", false, boolean),
        require_mojang_auth: required_online.into_iter().collect(),
        enable_geo_checks,
        alert_on_geo_change,
        deny_on_geo_change,
        deny_on_geo_unknown,
        blocked_asns: blocked_asns.into_iter().collect(),
        max_failed_attempts,
        max_failed_attempts_per_subnet,
        max_failed_attempts_per_asn,
        failure_ban_duration,
        ban_file,
        alert_on_fallback,
        pins: pin::Config { enabled: pin_commands, min_length: pin_min_length, timeout: pin_timeout },
        require_pin,
        allow_pin_for_changed_address,
    };
    security.finish();
    values
}

fn monitoring(mut monitoring: Section<'_, '_>, base: &Path) -> Monitoring {
    const MIB: u64 = 1024 * 1024;
    let provider = "https://ipwho.is/{ip}?fields=ip,country_code,connection";
    let statistics = monitoring.get("enable-statistics", true, boolean);
    let metrics = monitoring.get("enable-metrics", true, boolean);
    let statistics_file = monitoring.get("statistics-file", base.join("statistics.json"), path(base));
    let geo_lookup_timeout =
        monitoring.get("geo-lookup-timeout", Milliseconds.times(2000), time(Milliseconds));
    let url = monitoring.get("geo-provider-url", provider.to_owned(), geo_url);
    let geo_cache_ttl = monitoring.get("geo-cache-ttl", Seconds.times(300), time_or_zero(Seconds));
    let country = monitoring.optional("geo-country-database", path(base));
    let asn = monitoring.optional("geo-asn-database", path(base));
    let geo_source = match (&country, &asn) {
        (None, None) => geo::Source::Web { url },
        _ => geo::Source::Files { country, asn },
    };
    let enabled = monitoring.get("enable-audit-log", true, boolean);
    let audit_log = monitoring.get("audit-log", base.join("audit.log"), path(base));
    let retry_interval = monitoring.get("probe-retry-interval", Milliseconds.times(2000), time(Milliseconds));
    let values = Monitoring {
        health_check_interval: monitoring.get("health-check-interval", Seconds.times(30), time(Seconds)),
        failure_threshold: monitoring.get("failure-threshold", 3, number(1..=1000)),
        recovery_threshold: monitoring.get("recovery-threshold", 2, number(1..=1000)),
        probe_retry_interval: retry_interval,
        audit_log: enabled.then_some(audit_log),
        audit_log_max_size: monitoring.get("audit-log-max-size", 64, number::<u64>(0..=1_000_000)) * MIB,
        audit_log_keep: monitoring.get("audit-log-keep", 8, number(0..=1000)),
        audit_log_compress: monitoring.get("audit-log-compress", false, boolean),
        metrics,
        geo_source,
        geo_lookup_timeout,
        geo_cache_ttl,
        statistics_file: statistics.then_some(statistics_file),
    };
    monitoring.finish();
    values
}

fn messages(mut section: Section<'_, '_>) -> Messages {
    let mut messages = Messages::default();
    for key in MessageKey::ALL {
        if let Some(text) = section.optional(key.key(), player_text) {
            messages.set(*key, text);
        }
    }
    section.finish();
    messages
}

fn status(mut status: Section<'_, '_>, base: &Path) -> status::Config {
    let modes = one_of(&[("passthrough", status::Mode::Passthrough), ("static", status::Mode::Static)]);
    let values = status::Config {
        mode: status.get("mode", status::Mode::Passthrough, modes),
        description: status.get("description", "&7A Postern proxy".to_owned(), player_text),
        max_players: status.get("max-players", 500, number(0..=i64::from(i32::MAX))),
        favicon: status.optional("favicon", favicon(base)),
        show_outage: status.get("show-outage", true, boolean),
        cache: status.get("cache", Milliseconds.times(5000), time_or_zero(Milliseconds)),
    };
    status.finish();
    values
}

/// Who is alerted: staff in the game, and webhooks.
fn alerts(mut alerts: Section<'_, '_>) -> (Vec<String>, Vec<Hook>) {
    let staff = alerts.get("staff", Vec::new(), list(player));
    let webhooks = alerts.get("webhooks", Vec::new(), list(webhook));
    alerts.finish();
    (staff, webhooks)
}

fn webhook(at: &At<'_, '_>) -> Option<Hook> {
    const EVENTS: &[(&str, Topic)] = &[
        ("auth.state", Topic::AuthState),
        ("login.fallback", Topic::LoginFallback),
        ("geo.changed", Topic::GeoChanged),
        ("ban.added", Topic::BanAdded),
    ];
    at.takes(|| "a section of these keys".to_owned());
    let mut hook = at.section()?;
    let url = hook.optional("url", webhook_url);
    if !hook.has("url") {
        hook.error("url", "is missing", "as in \"https://example.com/hook\"");
    }
    let format =
        hook.get("format", Format::Json, one_of(&[("json", Format::Json), ("discord", Format::Discord)]));
    let topics = hook.get("events", Topic::ALL.to_vec(), |at| {
        let topics = list(one_of(EVENTS))(at)?;
        if topics.is_empty() {
            at.warning(
                "names no event: this hook is never told anything",
                "leave events out for all of them",
            );
        }
        Some(topics)
    });
    hook.finish();
    Some(Hook { url: url?.into(), format, topics })
}

fn network(mut network: Section<'_, '_>, findings: &Findings) -> Network {
    /// Longest packet that a three-byte length can announce.
    const MAX_PACKET: i64 = (1 << 21) - 1;
    let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|text| text.parse().ok()).collect();
    // -1 is how other proxies, and the protocol, say that nothing is compressed.
    let compression_threshold = network.get("compression-threshold", 256, number::<i64>(-1..=MAX_PACKET));
    let values = Network {
        connection_timeout: network.get("connection-timeout", Milliseconds.times(5000), time(Milliseconds)),
        read_timeout: network.get("read-timeout", Milliseconds.times(30_000), time(Milliseconds)),
        shutdown_grace: network.get("shutdown-grace", Seconds.times(20), time_or_zero(Seconds)),
        accept_proxy_protocol: network.get("accept-proxy-protocol", false, boolean),
        trusted_proxies: network.get("trusted-proxies", loopback, list(trusted_network)),
        login_ratelimit: network.get("login-ratelimit", Milliseconds.times(3000), time_or_zero(Milliseconds)),
        max_connections: network.get("max-connections", 20_000, number(1..=10_000_000)),
        max_connections_per_address: network.get("max-connections-per-address", 64, number(1..=10_000_000)),
        max_pending_logins: network.get("max-pending-logins", 2000, number(1..=10_000_000)),
        compression_threshold: usize::try_from(compression_threshold).ok(),
    };
    if values.accept_proxy_protocol && values.trusted_proxies.is_empty() {
        let what = "does nothing: network.trusted-proxies is empty";
        let hint = "list the addresses of the proxies in front of this one";
        findings.warning(&network.spot("accept-proxy-protocol"), what, Some(hint.to_owned()));
    }
    network.finish();
    values
}

fn admin(mut admin: Section<'_, '_>, base: &Path, findings: &Findings) -> admin::Config {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 9464)));
    let listen = admin.get("listen", default, listen_or_off);
    // The file that a first start writes states the default, which nobody chose then.
    let listen_is_chosen = listen != default;
    let token_file = admin.get("token-file", base.join("admin.token"), path(base));
    let allowed_hosts = admin.get("allowed-hosts", Vec::new(), list(host_header));
    if listen.is_some_and(|listen| !listen.ip().to_canonical().is_loopback()) && !token_file.is_file() {
        let what = format!(
            "listening beyond this machine needs a token, and {} does not exist",
            token_file.display()
        );
        let hint = "create it with a long random text as its content, or listen on 127.0.0.1";
        findings.error(&admin.spot("listen"), what, Some(hint.to_owned()));
    }
    admin.finish();
    admin::Config { listen, listen_is_chosen, token_file, allowed_hosts }
}
