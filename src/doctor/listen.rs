//! The addresses that players connect to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use proxy_header::ProxyHeader;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::report::{Area, Finding};
use crate::{
    address,
    backend::ping,
    net::{
        self,
        conn::{Conn, ConnError},
        listener,
    },
    protocol::version::Dialect,
};

/// How long this machine may take to answer itself.
const PATIENCE: Duration = Duration::from_secs(5);

const AREA: Area = Area::Listen;

/// Examines every address, from this machine.
pub(super) async fn examine(config: &net::Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &config.bind {
        findings.push(try_address(*address, config).await.of(address.to_string()));
    }
    if config.bind.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        let cause = "is reached from this machine alone: right behind a proxy or tunnel on it, else set bind to \"0.0.0.0:25565\"";
        findings.push(Finding::ok(AREA, "reach", cause));
    }
    findings
}

async fn try_address(bound: SocketAddr, config: &net::Config) -> Finding {
    if bound.port() == 0 {
        return Finding::skipped(AREA, "answers", "has another port at each start");
    }
    match timeout(PATIENCE, TcpStream::connect(nearest(bound))).await {
        Ok(Ok(stream)) => question(stream, bound, config).await,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => try_to_bind(bound),
        Ok(Err(error)) => no_way(&error.to_string()),
        Err(_) => no_way("no answer in time"),
    }
}

/// Where this machine reaches the address: an unspecified one is every address that it has.
fn nearest(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Nobody listens: could the proxy?
fn try_to_bind(bound: SocketAddr) -> Finding {
    match listener::bind(&[bound]) {
        Ok(_) => Finding::ok(AREA, "answers", "is free: the proxy is not running"),
        Err(error) => Finding::error(AREA, "answers", error.to_string(), "see bind in the configuration"),
    }
}

fn no_way(why: &str) -> Finding {
    let mend = "check bind: it must be an address of this machine; and look for a firewall on it";
    Finding::error(AREA, "answers", format!("cannot be reached from this machine itself: {why}"), mend)
}

/// Asks whoever listens for its entry in the server list.
async fn question(stream: TcpStream, bound: SocketAddr, config: &net::Config) -> Finding {
    let source = stream.local_addr().map(|source| address::unmap(source.ip()));
    // From a trusted proxy's address the header is required, and this machine is one as a rule.
    let needs_header = config.accept_proxy_protocol
        && source.is_ok_and(|source| config.trusted_proxies.iter().any(|trusted| trusted.contains(&source)));
    match timeout(PATIENCE, ask(stream, bound, needs_header)).await {
        Ok(Ok(())) => {
            let port = bound.port();
            Finding::ok(
                AREA,
                "answers",
                format!(
                    "answers the server list. Whether players reach TCP port {port} through routers and firewalls cannot be told from here"
                ),
            )
        }
        Ok(Err(error)) => not_ours(&error.to_string()),
        Err(_) => not_ours("no answer in time"),
    }
}

fn not_ours(why: &str) -> Finding {
    let cause = format!("something listens there, but does not answer as a Minecraft server does: {why}");
    let mend = "if the proxy runs, look into its log; if not, find out what has the port (ss -ltnp) and stop it, or set another one in bind";
    Finding::error(AREA, "answers", cause, mend)
}

async fn ask(mut stream: TcpStream, bound: SocketAddr, needs_header: bool) -> Result<(), ConnError> {
    if needs_header {
        let mut header = Vec::new();
        // Of ourselves, not of a player.
        ProxyHeader::with_local()
            .encode_v2(&mut header)
            .map_err(|error| io::Error::other(error.to_string()))?;
        stream.write_all(&header).await?;
    }
    ping::ask(Conn::new(stream), "localhost", bound.port(), Dialect::newest().version()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::doctor::report::Verdict;

    fn config(bind: SocketAddr, accept_proxy_protocol: bool) -> net::Config {
        let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        net::Config { bind: vec![bind], accept_proxy_protocol, trusted_proxies }
    }

    /// Answers one connection with these bytes once it has read as many as `expects`; returns what it read.
    async fn answer_once(listener: TcpListener, expects: usize, answer: Vec<u8>) -> Vec<u8> {
        let mut stream = listener.accept().await.unwrap().0;
        let mut read = vec![0; expects];
        stream.read_exact(&mut read).await.unwrap();
        stream.write_all(&answer).await.unwrap();
        read
    }

    #[tokio::test]
    async fn a_proxy_that_runs_answers_with_and_without_the_proxy_protocol() {
        for (with_header, header) in [(false, &b""[..]), (true, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let answer = crate::protocol::status::AnswerFrame::new("{}").bytes().to_vec();
            let config = config(address, with_header);
            let (read, found) =
                tokio::join!(answer_once(listener, header.len() + 1, answer), examine(&config));
            assert_eq!(read[..header.len()], *header);
            let told: Vec<_> = found.iter().map(|finding| (finding.check, finding.verdict)).collect();
            assert_eq!(told, [("answers", Verdict::Ok), ("reach", Verdict::Ok)], "{found:?}");
            assert!(found[0].cause.starts_with("answers the server list"), "{found:?}");
        }
    }

    #[tokio::test]
    async fn somebody_elses_port_and_a_free_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = config(address, false);
        let (_, found) = tokio::join!(answer_once(listener, 1, b"SSH-2.0-x\r\n".to_vec()), examine(&config));
        assert_eq!(found[0].verdict, Verdict::Error);
        assert!(found[0].cause.contains("does not answer as a Minecraft server"), "{found:?}");
        // Its listener is gone, and nobody else was given the port since.
        let found = examine(&config).await;
        assert_eq!(
            (found[0].verdict, found[0].cause.as_str()),
            (Verdict::Ok, "is free: the proxy is not running")
        );
    }

    #[tokio::test]
    async fn addresses_of_other_machines() {
        // Kept for documentation: no machine has it, and nothing is sent to bind it.
        let finding = try_to_bind("192.0.2.1:25565".parse().unwrap());
        assert_eq!(finding.verdict, Verdict::Error);
        assert!(finding.cause.contains("this machine does not have that address"), "{finding:?}");
        assert_eq!(nearest("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(nearest("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        let any_port = "127.0.0.1:0".parse().unwrap();
        assert_eq!(try_address(any_port, &config(any_port, false)).await.verdict, Verdict::Skipped);
    }
}
