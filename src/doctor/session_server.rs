//! The way to the session server, step by step, each with its time; and this machine's clock beside that server's.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use reqwest::Url;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::report::{Area, Finding};
use crate::{
    address,
    clock::Clock,
    mojang::{
        classify::{Outcome, Why},
        session_server::{Config, Examined, SessionServer},
    },
};

/// Most addresses of the name that are tried. Real answers hold two to eight.
const MAX_ADDRESSES: usize = 8;

/// A clock that differs by less is right: dates in answers are whole seconds, and answers take time.
const GOOD_CLOCK: SignedDuration = SignedDuration::from_secs(10);

/// From here on sessions count as from the future, certificates as not valid yet, and player keys as expired.
const BAD_CLOCK: SignedDuration = SignedDuration::from_mins(5);

const AREA: Area = Area::SessionServer;

/// Examines the session server, and the clock by its answer.
pub(super) async fn examine(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    let host = config.base_url.host_str().unwrap_or_default();
    let subject = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = config.base_url.port_or_known_default().unwrap_or(443);
    let stream = connect(&subject, port, config.timeout, &mut findings).await;
    if let Some(stream) = stream {
        findings.push(shake_hands(&config.base_url, &subject, stream, config.timeout).await);
        match SessionServer::new(config, clock.clone()) {
            Ok(server) => {
                let examined = server.examine().await;
                findings.push(of_answer(&examined));
                findings.insert(0, of_clock(examined.clock_ahead));
            }
            Err(error) => {
                let mend = "install the package ca-certificates of this system";
                findings.push(Finding::error(AREA, "has-joined", error.to_string(), mend));
            }
        }
    } else {
        findings.push(Finding::skipped(AREA, "tls", "no TLS handshake: it cannot be reached"));
        findings.push(Finding::skipped(AREA, "has-joined", "no login check: it cannot be reached"));
    }
    if !findings.iter().any(|finding| finding.area == Area::Clock) {
        findings.insert(0, of_clock(None));
    }
    let named = |finding: Finding| if finding.area == AREA { finding.of(&subject) } else { finding };
    findings.into_iter().map(named).collect()
}

/// Looks the name up and tries all its addresses at once; the first that takes the connection is gone on with.
async fn connect(
    host: &str,
    port: u16,
    patience: Duration,
    findings: &mut Vec<Finding>,
) -> Option<TcpStream> {
    let begun = Instant::now();
    let found = match timeout(patience, lookup_host((host, port))).await {
        Ok(found) => found.map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    };
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        failed => {
            let why = failed.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
            let mend = "check the name servers of this machine (/etc/resolv.conf), and with them another name: getent hosts example.com";
            findings.push(Finding::error(AREA, "dns", format!("its name cannot be resolved: {why}"), mend));
            return None;
        }
    };
    findings.push(of_addresses(host, &addresses).took(begun.elapsed()));

    let mut trying = JoinSet::new();
    for address in addresses {
        trying.spawn(async move {
            let begun = Instant::now();
            let connected = match timeout(patience, TcpStream::connect(address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            };
            (address, connected, begun.elapsed())
        });
    }
    let (mut first, mut failed) = (None, Vec::new());
    while let Some(tried) = trying.join_next().await {
        match tried {
            Ok((_, Ok(stream), took)) if first.is_none() => first = Some((stream, took)),
            Ok((_, Ok(_), _)) | Err(_) => {}
            Ok((address, Err(error), _)) => failed.push((address.ip(), error.to_string())),
        }
    }
    findings.push(of_connections(first.as_ref().map(|(_, took)| *took), &failed, port));
    first.map(|(stream, _)| stream)
}

fn of_addresses(host: &str, addresses: &[SocketAddr]) -> Finding {
    let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let listed = listed.join(", ");
    let mojangs = host == "mojang.com" || host.ends_with(".mojang.com");
    if mojangs && addresses.iter().any(|address| address::is_private(address.ip())) {
        let cause =
            format!("the name leads to {listed}, which is not Mojang's: something answers in its place");
        let mend =
            "look for the name in /etc/hosts, and for a filter or login page at this network's name server";
        return Finding::error(AREA, "dns", cause, mend);
    }
    Finding::ok(AREA, "dns", format!("the name leads to {listed}"))
}

fn of_connections(first: Option<Duration>, failed: &[(IpAddr, String)], port: u16) -> Finding {
    let listed: Vec<String> = failed.iter().map(|(ip, error)| format!("{ip}: {error}")).collect();
    let listed = listed.join("; ");
    match first {
        Some(took) if failed.is_empty() => Finding::ok(AREA, "tcp", "takes connections").took(took),
        Some(took) => {
            let only_v6 = failed.iter().all(|(ip, _)| ip.is_ipv6());
            let cause = format!("takes connections, but not at every address ({listed})");
            let mend = if only_v6 {
                "mend this machine's IPv6, or switch it off: logins may wait for it"
            } else {
                "if it stays so, ask the provider of this machine: logins may wait for these addresses"
            };
            Finding::warning(AREA, "tcp", cause, mend).took(took)
        }
        None => {
            let cause =
                format!("no connection: {listed}. Without it nobody's login can be checked, as in an outage");
            let mend = format!(
                "let this machine connect out on TCP port {port} (firewall, container network, hoster); if it may, the session server is down"
            );
            Finding::error(AREA, "tcp", cause, mend)
        }
    }
}

/// One TLS handshake, with the checks that logins make.
async fn shake_hands(url: &Url, host: &str, stream: TcpStream, patience: Duration) -> Finding {
    if url.scheme() != "https" {
        let cause = "no TLS handshake: auth.session-server begins with http://";
        return Finding::skipped(AREA, "tls", cause);
    }
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (config, name) = match (ClientConfig::with_platform_verifier(), ServerName::try_from(host.to_owned()))
    {
        (Ok(config), Ok(name)) => (config, name),
        (Err(error), _) => {
            let mend = "install the package ca-certificates of this system";
            return Finding::error(AREA, "tls", format!("cannot be set up here: {error}"), mend);
        }
        (_, Err(error)) => {
            return Finding::error(AREA, "tls", error.to_string(), "correct auth.session-server");
        }
    };
    let begun = Instant::now();
    match timeout(patience, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(Ok(_)) => Finding::ok(AREA, "tls", "shows a valid certificate").took(begun.elapsed()),
        Ok(Err(error)) => of_tls_error(&error),
        Err(_) => {
            let mend = "look for a firewall or filter that lets TCP through but not TLS";
            Finding::error(AREA, "tls", "does not answer the TLS handshake in time", mend)
        }
    }
}

fn of_tls_error(error: &io::Error) -> Finding {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let mend = match inner {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "set this machine's clock: to it, the certificate is out of its time",
        Some(rustls::Error::InvalidCertificate(_)) => {
            "something between here and Mojang answers in its place (a filter, an antivirus, a login page), or ca-certificates is missing or old on this machine"
        }
        _ => "look for a firewall or filter that breaks TLS between here and there",
    };
    Finding::error(AREA, "tls", format!("the TLS handshake fails: {error}"), mend)
}

/// What one login check tells. The player asked for cannot have joined, so the healthy answer is no.
fn of_answer(examined: &Examined) -> Finding {
    const CHECK: &str = "has-joined";
    let status = examined.status.unwrap_or_default();
    let finding = match &examined.outcome {
        Outcome::NotJoined => Finding::ok(AREA, CHECK, "answers login checks"),
        Outcome::Verified(_) => Finding::error(
            AREA,
            CHECK,
            "vouches for a player who cannot have joined: whatever this is, it says yes to everybody",
            "take auth.session-server out of the configuration, so that Mojang is asked; then look at who has joined",
        ),
        Outcome::Throttled { .. } | Outcome::Held { .. } if status == 403 => Finding::error(
            AREA,
            CHECK,
            "refuses this machine's address (status 403): nobody can log in, and this counts as no outage",
            "some hosters' addresses are blocked: ask yours for another one, or look for a filter in between that answers so",
        ),
        Outcome::Throttled { .. } | Outcome::Held { .. } => Finding::error(
            AREA,
            CHECK,
            format!(
                "limits this machine's address (status {status}): nobody can log in, and this counts as no outage"
            ),
            "wait some minutes; then find out what asks so often from this address: a flood of bots (auth.unknown-logins-per-minute), or another proxy behind the same address",
        ),
        Outcome::Unreachable(Why::Answered(status)) => Finding::error(
            AREA,
            CHECK,
            format!(
                "answers {status}: an outage at Mojang. Only players who were proven here before may join, under the rules of this configuration"
            ),
            "nothing to mend here; it passes",
        ),
        Outcome::Unreachable(why) => Finding::error(
            AREA,
            CHECK,
            format!(
                "gives no answer to login checks: {why}. An outage at Mojang, or something in between swallows the answer"
            ),
            "ask again in a few minutes; if it stays so while other servers' players can log in, look at firewalls and filters in between",
        ),
        Outcome::Unexpected(oddity) => Finding::error(
            AREA,
            CHECK,
            format!(
                "what answers there is not Mojang's session server: {oddity}. Nobody can log in, and this counts as no outage"
            ),
            "correct auth.session-server, or take it out; if it is right, a filter or login page in between answers in Mojang's place",
        ),
        Outcome::Local(fault) => Finding::error(
            AREA,
            CHECK,
            format!("could not be asked: {fault}"),
            "this machine is short of something: open files (ulimit -n), memory, ports or a route",
        ),
    };
    finding.took(examined.took)
}

fn of_clock(ahead: Option<SignedDuration>) -> Finding {
    const CHECK: &str = "skew";
    let Some(ahead) = ahead else {
        return Finding::skipped(Area::Clock, CHECK, "not compared: the session server told no time");
    };
    let away = ahead.abs();
    if away <= GOOD_CLOCK {
        return Finding::ok(Area::Clock, CHECK, "agrees with the session server's");
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    let cause = format!("{} {direction} the session server's", rounded(away));
    let mend = "set the clock and keep it set: timedatectl set-ntp true";
    if away < BAD_CLOCK {
        Finding::warning(Area::Clock, CHECK, cause, mend)
    } else {
        let cause = format!(
            "{cause}: certificates, remembered logins and players' keys count as expired or not valid yet"
        );
        Finding::error(Area::Clock, CHECK, cause, mend)
    }
}

/// A time as people say it.
fn rounded(time: SignedDuration) -> String {
    let seconds = (time.as_millis() + 500) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 600 => format!("{seconds} s"),
        () if hours < 3 => format!("{minutes} minutes"),
        () if days < 3 => format!("{hours} hours"),
        () => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::doctor::report::Verdict::{self, Error, Ok as Good, Skipped, Warning};

    /// A session server that answers every request with these bytes, and a configuration that asks it.
    async fn server(answer: &str) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answer = answer.to_owned();
        tokio::spawn(async move {
            loop {
                let mut stream = listener.accept().await.unwrap().0;
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0
                    {
                    }
                    // Who only tried the connection is gone.
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Config {
            base_url,
            timeout: Duration::from_secs(10),
            prevent_client_proxy_connections: false,
            unknown_logins_per_minute: 0,
        }
    }

    fn clock() -> Clock {
        Clock::starting_at("2026-11-21T20:00:00Z".parse().unwrap())
    }

    async fn findings(answer: &str) -> Vec<(Verdict, &'static str, String)> {
        let found = examine(&server(answer).await, &clock()).await;
        found.into_iter().map(|finding| (finding.verdict, finding.check, finding.cause)).collect()
    }

    #[tokio::test]
    async fn every_answer_is_told_apart() {
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        };
        let made_up = r#"{"id":"069a79f444e94726a5befca90e38aaf5","name":"PosternProbe","properties":[]}"#;
        for (answer, verdict, words) in [
            ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), Good, "answers login checks"),
            (answer("200 OK", made_up), Error, "says yes to everybody"),
            (answer("200 OK", "<html>Please sign in</html>"), Error, "is not Mojang's session server"),
            (answer("302 Found", ""), Error, "is not Mojang's session server: status 302"),
            (answer("404 Not Found", ""), Error, "is not Mojang's session server: status 404"),
            (answer("429 Too Many", ""), Error, "limits this machine's address (status 429)"),
            (answer("403 Forbidden", ""), Error, "refuses this machine's address"),
            (answer("503 Gone fishing", ""), Error, "answers 503: an outage at Mojang"),
            (String::new(), Error, "gives no answer to login checks: connection closed"),
            ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Error, "an answer that is not HTTP"),
        ] {
            let found = findings(&answer).await;
            let checks: Vec<_> = found.iter().map(|(_, check, _)| *check).collect();
            assert_eq!(checks, ["skew", "dns", "tcp", "tls", "has-joined"]);
            assert_eq!(found[3].0, Skipped, "TLS with http://");
            let (found_verdict, _, cause) = &found[4];
            assert_eq!(*found_verdict, verdict, "{answer}: {cause}");
            assert!(cause.contains(words), "{answer}: {cause}");
        }
    }

    #[tokio::test]
    async fn the_clock_is_compared_with_the_answers_date() {
        // The clock shows 20:00 and goes on while the answer takes its time.
        for (date, verdict, words) in [
            ("Sat, 21 Nov 2026 20:00:04 GMT", Good, "agrees"),
            ("Sat, 21 Nov 2026 19:58:00 GMT", Warning, "ahead of"),
            ("Sat, 21 Nov 2026 20:02:00 GMT", Warning, "behind"),
            ("Sat, 21 Nov 2026 21:00:00 GMT", Error, "behind"),
            ("yesterday", Skipped, "told no time"),
        ] {
            let found = findings(&format!("HTTP/1.1 204 No Content\r\nDate: {date}\r\n\r\n")).await;
            assert_eq!(found[0].0, verdict, "{date}");
            assert!(found[0].2.contains(words), "{}", found[0].2);
        }
    }

    #[test]
    fn clocks_that_differ() {
        for (seconds, verdict, words) in [
            (0, Good, "agrees"),
            (10, Good, "agrees"),
            (-10, Good, "agrees"),
            (11, Warning, "11 s ahead of the session server's"),
            (-11, Warning, "11 s behind the session server's"),
            (299, Warning, "299 s ahead of"),
            (300, Error, "300 s ahead of the session server's: certificates"),
            (-3600, Error, "60 minutes behind"),
            (-86_400, Error, "24 hours behind"),
            (1_000_000, Error, "11 days ahead of"),
        ] {
            let finding = of_clock(Some(SignedDuration::from_secs(seconds)));
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.cause.starts_with(words), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_no_connection_is_not_asked() {
        // Bound, so that nobody else gets the port, but not listening.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut config = server("").await;
        config.base_url = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
        let found = examine(&config, &clock()).await;
        let told: Vec<_> = found.iter().map(|finding| (finding.verdict, finding.check)).collect();
        let expected =
            [(Skipped, "skew"), (Good, "dns"), (Error, "tcp"), (Skipped, "tls"), (Skipped, "has-joined")];
        assert_eq!(told, expected);
        assert!(found[2].cause.starts_with("no connection: 127.0.0.1: "), "{}", found[2].cause);
        assert!(found.iter().all(|finding| finding.area == Area::Clock || finding.subject == "127.0.0.1"));
    }

    #[tokio::test]
    async fn tls_failures_say_what_to_look_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut peer = listener.accept().await.unwrap().0;
        peer.write_all(b"HTTP/1.1 400 this is no TLS\r\n\r\n").await.unwrap();
        let url = "https://127.0.0.1".parse().unwrap();
        let finding = shake_hands(&url, "127.0.0.1", stream, Duration::from_secs(10)).await;
        assert_eq!(finding.verdict, Error);
        assert!(finding.mend.contains("breaks TLS"), "{finding:?}");

        let of = |error: CertificateError| {
            of_tls_error(&io::Error::other(rustls::Error::InvalidCertificate(error))).mend
        };
        assert!(of(CertificateError::NotValidYet).contains("clock"));
        assert!(of(CertificateError::UnknownIssuer).contains("answers in its place"));
    }

    #[test]
    fn addresses_that_cannot_be_mojangs() {
        let at = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 443)];
        assert_eq!(of_addresses("sessionserver.mojang.com", &at("192.168.0.1")).verdict, Error);
        assert_eq!(of_addresses("sessionserver.mojang.com", &at("203.0.113.5")).verdict, Good);
        assert_eq!(of_addresses("auth.example.com", &at("192.168.0.1")).verdict, Good);
    }

    #[test]
    fn one_dead_address_is_a_warning() {
        let took = Some(Duration::from_millis(20));
        let failed = [("2001:db8::1".parse().unwrap(), "no route".to_owned())];
        let finding = of_connections(took, &failed, 443);
        assert_eq!(finding.verdict, Warning);
        assert!(finding.mend.contains("IPv6"), "{finding:?}");
        assert_eq!(of_connections(took, &[], 443).verdict, Good);
    }
}
