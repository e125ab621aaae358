//! What may stand under a key: each function here checks one value and turns it into what the proxy uses.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use reqwest::Url;
use uuid::Uuid;

use super::{
    problem::{cut, nearest, show},
    read::At,
};
use crate::{
    disk,
    identity::{Username, parse_id},
};

/// The unit that a key counts time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl Unit {
    /// `count` of this unit.
    pub(super) const fn times(self, count: u64) -> Duration {
        match self {
            Self::Milliseconds => Duration::from_millis(count),
            Self::Seconds => Duration::from_secs(count),
            Self::Minutes => Duration::from_secs(count.saturating_mul(60)),
            Self::Hours => Duration::from_secs(count.saturating_mul(3600)),
            Self::Days => Duration::from_secs(count.saturating_mul(86_400)),
        }
    }

    /// Longest time that makes sense: above it a slip, such as another unit, is likelier than intent.
    const fn most(self) -> i64 {
        match self {
            Self::Milliseconds => 3_600_000,
            Self::Seconds => 86_400,
            Self::Minutes => 525_600,
            Self::Hours => 87_600,
            Self::Days => 3650,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::Days => "days",
        }
    }
}

/// A time in `unit`, at least one.
pub(super) fn time(unit: Unit) -> impl Fn(&At<'_, '_>) -> Option<Duration> {
    time_from(1, unit)
}

/// A time in `unit`, where 0 has a meaning of its own.
pub(super) fn time_or_zero(unit: Unit) -> impl Fn(&At<'_, '_>) -> Option<Duration> {
    time_from(0, unit)
}

fn time_from(least: i64, unit: Unit) -> impl Fn(&At<'_, '_>) -> Option<Duration> {
    move |at| {
        at.takes(|| format!("{}, {least} to {}", unit.name(), unit.most()));
        within(at, &(least..=unit.most()), unit.name()).map(|count| unit.times(count))
    }
}

/// A whole number in `range`.
pub(super) fn number<N: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&At<'_, '_>) -> Option<N> {
    move |at| {
        at.takes(|| format!("whole number, {} to {}", range.start(), range.end()));
        within(at, &range, "")
    }
}

fn within<N: TryFrom<i64>>(at: &At<'_, '_>, range: &RangeInclusive<i64>, unit: &str) -> Option<N> {
    let number = at.integer()?;
    let fits = range.contains(&number).then(|| N::try_from(number).ok()).flatten();
    if fits.is_none() {
        let (least, most) = (range.start(), range.end());
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        at.error(format!("out of range: {number}"), format!("from {least} to {most}{unit}"));
    }
    fits
}

/// `true` or `false`.
pub(super) fn boolean(at: &At<'_, '_>) -> Option<bool> {
    at.takes(|| "true or false".to_owned());
    at.boolean()
}

/// A text for players: no control characters save line ends, and of a length that fits the protocol with room to spare.
pub(super) fn player_text(at: &At<'_, '_>) -> Option<String> {
    const MOST: usize = 2000;
    at.takes(|| format!("text for players, up to {MOST} characters"));
    let text = at.text()?;
    if text.chars().count() > MOST {
        at.error("too long", format!("at most {MOST} characters"));
    } else if text.chars().any(|c| c.is_control() && c != '\n') {
        at.error("holds a control character", "remove it; colours are written with &, as in &e");
    } else {
        return Some(text.to_owned());
    }
    None
}

/// One of the words given, each with its value.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&At<'_, '_>) -> Option<T> {
    move |at| {
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        at.takes(|| format!("one of {all}"));
        let text =
            at.text_or(|_| format!("one of {all}; other words that YAML gives a meaning need quotes"))?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean {near}? One of {all}"),
                None => format!("one of {all}"),
            };
            at.error(format!("unknown value {}", show(text)), hint);
        }
        found
    }
}

/// A list of `kind`; every wrong item is reported.
pub(super) fn list<T>(kind: impl Fn(&At<'_, '_>) -> Option<T>) -> impl Fn(&At<'_, '_>) -> Option<Vec<T>> {
    move |at| {
        at.takes(|| "list; each".to_owned());
        if at.is_probed() {
            // There is no item to ask, and what may stand in its place is asked here.
            return kind(at).and(None);
        }
        let items = at.items()?;
        let values: Vec<T> = items.iter().filter_map(&kind).collect();
        (values.len() == items.len()).then_some(values)
    }
}

/// A file or folder, relative to `base`. Whether it exists is its user's question.
pub(super) fn path(base: &Path) -> impl Fn(&At<'_, '_>) -> Option<PathBuf> {
    let base = base.to_owned();
    move |at| {
        at.takes(|| "path".to_owned());
        let text = at.text()?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            at.error(
                format!("{} is no path", show(text)),
                "write a file name, relative to this file's folder",
            );
            return None;
        }
        Some(base.join(text))
    }
}

/// A PNG file of 64x64 pixels, small enough for a server list answer.
pub(super) fn favicon(base: &Path) -> impl Fn(&At<'_, '_>) -> Option<PathBuf> {
    /// In base64 a third larger, and an answer is at most 32767 characters long.
    const MOST: usize = 20_000;
    const WANTED: &str = "a PNG of 64x64 pixels, at most 20000 bytes";
    let path = path(base);
    move |at| {
        let file = path(at);
        at.takes(|| format!(": {WANTED}"));
        let file = file?;
        let bytes = match disk::read_small(&file, MOST) {
            Ok(bytes) => bytes,
            Err(error) => {
                at.error(format!("cannot be read: {error}"), WANTED);
                return None;
            }
        };
        // Signature, then the header chunk: length, name, width, height.
        let header = bytes.get(..24).and_then(|head| head.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"));
        if header != Some(&[0, 0, 0, 64, 0, 0, 0, 64]) {
            at.error("is no icon that a client would show", WANTED);
            return None;
        }
        Some(file)
    }
}

/// An address to listen on.
pub(super) fn listen_address(at: &At<'_, '_>) -> Option<SocketAddr> {
    at.takes(|| "IP address and port".to_owned());
    let text = at.text_or(|_| "in quotes, an IP address and a port, as in \"0.0.0.0:25565\"".to_owned())?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    at.error(
        format!("{} is no address to listen on", show(text)),
        "an IP address and a port, as in \"0.0.0.0:25565\" or \"[::]:25565\"",
    );
    None
}

/// One address to listen on, or a list of them.
pub(super) fn listen_addresses(at: &At<'_, '_>) -> Option<Vec<SocketAddr>> {
    if !at.is_list() {
        let address = listen_address(at);
        at.takes(|| ", or a list of them".to_owned());
        return address.map(|address| vec![address]);
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let items = at.items()?;
    for item in &items {
        if let Some(address) = listen_address(item) {
            if address.port() != 0 && addresses.contains(&address) {
                item.error(format!("{address} is listed twice"), "remove one");
            }
            addresses.push(address);
        }
    }
    if items.is_empty() {
        at.error("lists no address", "at least one, as in \"0.0.0.0:25565\"");
    }
    Some(addresses)
}

/// Where the admin interface listens; empty is off.
#[expect(clippy::option_option, reason = "the outer one is whether the value is right, the inner one is off")]
pub(super) fn listen_or_off(at: &At<'_, '_>) -> Option<Option<SocketAddr>> {
    if at.is_probed() {
        let nothing = listen_address(at).and(None);
        at.takes(|| ", or \"\" for off".to_owned());
        return nothing;
    }
    if at.text()?.is_empty() { Some(None) } else { listen_address(at).map(Some) }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAddress {
    /// Host and port.
    Host(String, u16),
    /// A domain, whose SRV records say where.
    Domain(String),
}

/// Host and port of a server, or its domain.
pub(super) fn server_address(at: &At<'_, '_>) -> Option<ServerAddress> {
    at.takes(|| "host and port, or a domain".to_owned());
    let text = at.text_or(|_| "in quotes, host and port, as in \"127.0.0.1:25566\"".to_owned())?;
    if let Some((host, port)) = split_host_port(text) {
        return Some(ServerAddress::Host(host, port));
    }
    if is_domain(text) {
        return Some(ServerAddress::Domain(text.to_owned()));
    }
    let hint = if is_host(text) || text.parse::<Ipv6Addr>().is_ok() {
        let host = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
        format!(
            "add the port, as in \"{host}:25565\"; only a domain, as in \"mc.example.com\", can do without"
        )
    } else {
        "host and port, as in \"127.0.0.1:25566\", \"lobby.internal:25565\" or \"[::1]:25566\"; or a domain with \
         SRV records, as in \"mc.example.com\""
            .to_owned()
    };
    at.error(format!("{} is no server address", show(text)), hint);
    None
}

/// Whether this can be the name of a domain: a host name of several parts, and no IP address.
fn is_domain(text: &str) -> bool {
    let inner = text.strip_suffix('.').unwrap_or(text);
    inner.contains('.') && is_host(text) && inner.parse::<IpAddr>().is_err()
}

fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|n| *n != 0 && port.bytes().all(|b| b.is_ascii_digit()))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| is_host(host))?,
    };
    Some((host.to_owned(), port))
}

/// Whether `host` can be a host name or an IPv4 address. Underscores are common in container networks.
fn is_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is a number is an IPv4 address or a typing error for one.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253
        && host.split('.').all(label)
        && (!numeric || host.parse::<std::net::Ipv4Addr>().is_ok())
}

/// A virtual host pattern in the form in which virtual hosts are compared: lower case, no trailing dot.
pub(super) fn host_pattern(text: &str) -> Result<String, &'static str> {
    let pattern = text.to_ascii_lowercase();
    let pattern = pattern.strip_suffix('.').unwrap_or(&pattern);
    let host = pattern.strip_prefix("*.").unwrap_or(pattern);
    if pattern == "*" {
        Err("for all other hosts use the key try")
    } else if !pattern.is_ascii() {
        Err("write names outside ASCII as clients send them, in punycode: \"xn--…\"")
    } else if pattern.contains(':') {
        Err("the host name alone, without a port")
    } else if is_host(host) {
        Ok(pattern.to_owned())
    } else {
        Err("a host name, as in \"survival.example.com\", or \"*.example.com\" for all below it")
    }
}

/// A network whose PROXY headers are believed; one address alone stands for itself.
pub(super) fn trusted_network(at: &At<'_, '_>) -> Option<IpNet> {
    at.takes(|| "an address or network".to_owned());
    let text = at.text()?;
    let Ok(network) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) else {
        at.error(
            format!("{} is no network", show(text)),
            "as in \"10.0.0.0/24\", \"fd00::/64\" or one address",
        );
        return None;
    };
    let least = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(v6) => {
            if v6.network().to_ipv4_mapped().is_some() {
                at.error("IPv4-mapped addresses are treated as IPv4", "write the network in IPv4 form");
                return None;
            }
            16
        }
    };
    if network.prefix_len() < least {
        at.error(
            format!(
                "/{} is too wide to be trusted: any peer in it could claim any address",
                network.prefix_len()
            ),
            format!("/{least} or narrower; best only the addresses of your own proxies"),
        );
        return None;
    }
    Some(network.trunc())
}

/// A base URL to which a path is appended. `danger` is what may come of an unprotected one.
pub(super) fn base_url(at: &At<'_, '_>, example: &str, danger: &str) -> Option<Url> {
    at.takes(|| "http:// or https:// URL".to_owned());
    let hint = &format!("as in \"{example}\"");
    let mut url = web_url(at, at.text()?, hint)?;
    if url.query().is_some() || url.fragment().is_some() {
        at.error("must not hold a query (?) or fragment (#)", hint);
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        at.error("must not hold a user name or password", hint);
        return None;
    }
    if url.scheme() == "http" {
        let hint = "use https:// unless this is a test on your own machine";
        at.warning(format!("http:// is not protected: {danger}"), hint);
    }
    let trimmed = url.path().trim_end_matches('/').to_owned();
    url.set_path(&trimmed);
    Some(url)
}

/// The URL of the geo provider, `{ip}` standing for the address.
///
/// Providers have their customers' keys stand in it: it is a secret.
pub(super) fn geo_url(at: &At<'_, '_>) -> Option<String> {
    at.takes(|| "http:// or https:// URL with {ip} in it".to_owned());
    at.keep_secret();
    let hint = "as in \"https://ipwho.is/{ip}?fields=ip,country_code,connection\"";
    let text = at.text()?;
    if !text.contains("{ip}") {
        at.error("holds no {ip}, which stands for the address", hint);
        return None;
    }
    let url = web_url(at, &text.replace("{ip}", "192.0.2.1"), hint)?;
    if url.scheme() == "http" && !is_own_machine(&url) {
        let what = "http:// is not protected: whoever sits on the way learns the addresses of players, and can lie about \
                    where they are";
        at.warning(what, "use https://, or MaxMind DB files (geo-country-database)");
    }
    Some(text.to_owned())
}

/// Whether what is sent there stays on this machine.
fn is_own_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// A webhook's URL. It is a secret: it stands in no message.
pub(super) fn webhook_url(at: &At<'_, '_>) -> Option<String> {
    at.takes(|| "http:// or https:// URL".to_owned());
    at.keep_secret();
    let text = at.text()?;
    let url = web_url(at, text, "as in \"https://example.com/hook\"")?;
    if url.scheme() == "http" && !is_own_machine(&url) {
        let what = "http:// is not protected: whoever sits on the way reads names and addresses of players, and learns \
                    the url, with which anybody can write there";
        at.warning(what, "use https://, unless the way is your own network");
    }
    Some(text.to_owned())
}

fn web_url(at: &At<'_, '_>, text: &str, hint: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        at.error("is no http:// or https:// URL", hint);
    }
    url
}

/// A Host header to accept.
pub(super) fn host_header(at: &At<'_, '_>) -> Option<String> {
    at.takes(|| "a host name, with or without a port".to_owned());
    let text = at.text()?;
    if is_host(text) || split_host_port(text).is_some() {
        return Some(text.to_ascii_lowercase());
    }
    at.error(
        format!("{} is no host name", show(text)),
        "as in \"admin.example.com\" or \"admin.example.com:8443\"",
    );
    None
}

/// A player id, dashed or not.
pub(super) fn player_id(at: &At<'_, '_>) -> Option<Uuid> {
    at.takes(|| "a player id".to_owned());
    let text = at.text()?;
    let id = parse_id(text);
    if id.is_none() {
        let hint = if Username::parse(text).is_ok() {
            "names change hands; write the id, as in \"069a79f4-44e9-4726-a5be-fca90e38aaf5\""
        } else {
            "as in \"069a79f4-44e9-4726-a5be-fca90e38aaf5\", with or without dashes"
        };
        at.error(format!("{} is no player id", show(text)), hint);
    }
    id
}

/// A player id or name.
pub(super) fn player(at: &At<'_, '_>) -> Option<String> {
    at.takes(|| "a player id or name".to_owned());
    let text = at.text()?;
    if parse_id(text).is_some() || Username::parse(text).is_ok() {
        return Some(text.to_owned());
    }
    at.error(
        format!("{} is neither a player id nor a name", show(text)),
        "a name is 1 to 16 of A-Z, a-z, 0-9 and _",
    );
    None
}

/// An autonomous system number: `64496`, `"AS64496"` or `"as64496"`.
pub(super) fn asn(at: &At<'_, '_>) -> Option<u32> {
    at.takes(|| "a number, 1 to 4294967295, with or without AS".to_owned());
    let digits = at.prefixed("AS").or_else(|| at.prefixed("as"));
    if let Some(digits) = digits {
        let number =
            digits.parse().ok().filter(|n: &u32| *n != 0 && digits.bytes().all(|b| b.is_ascii_digit()));
        if number.is_none() {
            at.error("is no network number", "as in 64496 or \"AS64496\"");
        }
        return number;
    }
    within(at, &(1..=i64::from(u32::MAX)), "")
}

/// The only way in which sessions are stored.
pub(super) fn storage_type(at: &At<'_, '_>) -> Option<()> {
    at.takes(|| "\"JSON\"".to_owned());
    let text = at.text()?;
    if text.eq_ignore_ascii_case("json") {
        return Some(());
    }
    let hint = "write \"JSON\": one file per player, in the folder named by session-cache.directory";
    at.error(format!("sessions cannot be stored as {}", show(text)), hint);
    None
}

/// Names of backends, at least one, each of which must be among `known`; resolved to their indices.
pub(super) fn backend_names<'k>(known: &'k [&'k str]) -> impl Fn(&At<'_, '_>) -> Option<Vec<usize>> + 'k {
    move |at| {
        at.takes(|| "list of names of backends, at least one".to_owned());
        let items = at.items()?;
        if items.is_empty() {
            at.error("names no backend", "at least one");
        }
        let mut indices = Vec::new();
        for item in &items {
            let Some(name) = item.text() else { continue };
            match known.iter().position(|known| *known == name) {
                Some(index) if indices.contains(&index) => item.warning("stands here twice", "remove one"),
                Some(index) => indices.push(index),
                // That there are none has been said already.
                None if known.is_empty() => {}
                None => {
                    // The names are the file's own text.
                    let shown = || known.iter().map(|name| cut(name)).collect::<Vec<_>>().join(", ");
                    let hint = match nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean {}?", cut(near)),
                        None => format!("known under backends: {}", shown()),
                    };
                    item.error(format!("there is no backend {}", show(name)), hint);
                }
            }
        }
        Some(indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        for (text, host, port) in [
            ("127.0.0.1:25566", "127.0.0.1", 25566),
            ("[::1]:1", "::1", 1),
            ("lobby:65535", "lobby", 65535),
            ("mc_lobby.internal.:25565", "mc_lobby.internal.", 25565),
        ] {
            assert_eq!(split_host_port(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":",
            "lobby",
            "lobby:",
            ":25565",
            "lobby:0",
            "lobby:65536",
            "lobby:+1",
            "::1:25565",
            "[::1]",
            "[lobby]:1",
            "http://lobby:1",
            "lo bby:1",
            "-a:1",
            "1.2.3:1",
            "1.2.3.256:1",
            "a..b:1",
            "a\0b:1",
        ] {
            assert_eq!(split_host_port(text), None, "{text:?}");
        }
    }

    #[test]
    fn domains() {
        for text in ["mc.example.com", "a.b", "mc_1.example.com.", "xn--mnchen-3ya.de", "1.example.com"] {
            assert!(is_domain(text), "{text}");
        }
        for text in [
            "",
            ".",
            "lobby",
            "lobby.",
            "localhost",
            "127.0.0.1",
            "127.0.0.1.",
            "1.2.3",
            "::1",
            "a..b",
            "a.b:1",
            "-a.b",
        ] {
            assert!(!is_domain(text), "{text:?}");
        }
    }

    #[test]
    fn host_patterns() {
        for (text, pattern) in [
            ("Survival.Example.COM.", "survival.example.com"),
            ("*.example.com", "*.example.com"),
            ("203.0.113.5", "203.0.113.5"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host_pattern(text).unwrap(), pattern, "{text}");
        }
        for text in
            ["", "*", "*.", "a.*.com", "*a.com", "example.com:25565", "ex ample", "münchen.de", "a..b", "::1"]
        {
            assert!(host_pattern(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ids() {
        let id = Uuid::from_u128(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5);
        for text in ["069a79f4-44e9-4726-a5be-fca90e38aaf5", "069A79F444E94726A5BEFCA90E38AAF5"] {
            assert_eq!(parse_id(text), Some(id), "{text}");
        }
        for text in [
            "{069a79f4-44e9-4726-a5be-fca90e38aaf5}",
            "urn:uuid:069a79f4-44e9-4726-a5be-fca90e38aaf5",
            "Notch",
            "",
        ] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
