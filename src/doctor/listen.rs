//! The addresses that players connect to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
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
    session::{Holder, Owner, Role},
};

/// How long this machine may take to answer itself. For its answer in the server list the proxy may wait for a backend,
/// which is to be added.
const PATIENCE: Duration = Duration::from_secs(5);

const AREA: Area = Area::Listen;

/// Examines every address, from this machine. The store tells whether the proxy runs.
///
/// `backend_time` is how long the proxy may wait for a backend before it answers the server list.
pub(super) async fn examine(config: &net::Config, store: &Path, backend_time: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &config.bind {
        let found = try_address(*address, config, store, backend_time + PATIENCE).await;
        findings.push(found.of(address.to_string()));
    }
    if config.bind.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        let cause = "is reached from this machine alone: right behind a proxy or tunnel on it, else set bind to \"0.0.0.0:25565\"";
        findings.push(Finding::ok(AREA, "reach", cause));
    }
    findings
}

async fn try_address(
    bound: SocketAddr,
    config: &net::Config,
    store: &Path,
    answer_time: Duration,
) -> Finding {
    if bound.port() == 0 {
        return Finding::skipped(AREA, "answers", "has another port at each start");
    }
    let mut failed = None;
    for address in nearest(bound) {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return question(stream, bound, config, store, answer_time).await,
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = Some(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        }
    }
    match failed {
        // No such address here, or nobody there: a wildcard is not less of an address for it.
        Some(error)
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable) =>
        {
            nobody(bound, config, owner(store).await)
        }
        Some(error) => {
            let mend = "look for a firewall on this machine, and whether bind is one of its addresses";
            let cause = format!("cannot be reached from this machine itself: {error}");
            Finding::error(AREA, "answers", cause, mend)
        }
        None => Finding::skipped(AREA, "answers", "is no address to connect to"),
    }
}

async fn owner(store: &Path) -> Owner {
    let store = store.to_owned();
    // A disk that hangs hides what it knows.
    let looked = timeout(PATIENCE, tokio::task::spawn_blocking(move || Owner::of(&store))).await;
    match looked.ok().and_then(Result::ok).unwrap_or(Owner::Unknown) {
        // Then no proxy does.
        Owner::Held(Holder { role: Role::Command, .. }) => Owner::Nobody,
        owner => owner,
    }
}

/// Where this machine reaches the address: an unspecified one is every address that it has, and an IPv6 one of these
/// takes IPv4 connections, too, where there is no IPv6.
fn nearest(bound: SocketAddr) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let ips = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        ip => vec![ip],
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

/// Nobody listens: could the proxy?
fn nobody(bound: SocketAddr, config: &net::Config, owner: Owner) -> Finding {
    if let Owner::Held(Holder { process: number, .. }) = owner {
        let cause = format!(
            "a proxy holds the session store{}, but nothing listens there as seen from here",
            process(number)
        );
        let mend = "if bind was changed since the proxy started, restart it; if it runs in another container, run this in that one";
        return Finding::warning(AREA, "answers", cause, mend);
    }
    match listener::can_bind(bound, &config.bind) {
        Ok(()) => Finding::ok(AREA, "answers", "is free: the proxy is not running"),
        Err(error) => {
            let mend = error.hint().unwrap_or("see bind in the configuration");
            Finding::error(AREA, "answers", format!("cannot be listened on: {}", error.source), mend)
        }
    }
}

fn process(number: Option<u32>) -> String {
    number.map(|number| format!(" (process {number})")).unwrap_or_default()
}

/// Asks whoever listens for its entry in the server list.
async fn question(
    stream: TcpStream,
    bound: SocketAddr,
    config: &net::Config,
    store: &Path,
    answer_time: Duration,
) -> Finding {
    let source = stream.local_addr().map(|source| address::unmap(source.ip()));
    // From a trusted proxy's address the header is required, and this machine is one as a rule.
    let needs_header = config.accept_proxy_protocol
        && source.is_ok_and(|source| config.trusted_proxies.iter().any(|trusted| trusted.contains(&source)));
    match timeout(answer_time, ask(stream, bound, needs_header)).await {
        Ok(Ok(())) => of_answer(bound, owner(store).await, store),
        Ok(Err(error)) => not_ours(&error.to_string()),
        Err(_) => not_ours("no answer in time"),
    }
}

/// A Minecraft server answers there. Is it the proxy?
fn of_answer(bound: SocketAddr, owner: Owner, store: &Path) -> Finding {
    const CHECK: &str = "answers";
    let port = bound.port();
    let outside = format!(
        "answers the server list. Whether players reach TCP port {port} through routers and firewalls cannot be told from here"
    );
    match owner {
        Owner::Held(Holder { process: number, .. }) => {
            Finding::ok(AREA, CHECK, format!("the proxy{} {outside}", process(number)))
        }
        Owner::Unknown => Finding::ok(AREA, CHECK, format!("a server {outside}")),
        Owner::Nobody => {
            let store = store.display();
            let cause = format!(
                "a Minecraft server answers there, but no proxy holds the session store {store}: it is another server, or a proxy that was started with another configuration"
            );
            let mend = format!(
                "give that server another port (Paper: server-port in its server.properties), or set another one than {port} in bind; if it is this proxy, restart it"
            );
            Finding::error(AREA, CHECK, cause, mend)
        }
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

    const TIME: Duration = Duration::from_secs(10);

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
    async fn what_answers_is_asked_with_and_without_the_proxy_protocol() {
        let folder = tempfile::tempdir().unwrap();
        for (with_header, header) in [(false, &b""[..]), (true, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let answer = crate::protocol::status::AnswerFrame::new("{}").bytes().to_vec();
            let config = config(address, with_header);
            let (read, found) = tokio::join!(
                answer_once(listener, header.len() + 1, answer),
                examine(&config, folder.path(), TIME)
            );
            assert_eq!(read[..header.len()], *header);
            let told: Vec<_> = found.iter().map(|finding| (finding.check, finding.verdict)).collect();
            // No proxy owns the store: it is another server.
            assert_eq!(told, [("answers", Verdict::Error), ("reach", Verdict::Ok)], "{found:?}");
        }
    }

    #[test]
    fn who_answers() {
        let bound = "0.0.0.0:25565".parse().unwrap();
        let of = |owner| of_answer(bound, owner, Path::new("sessions"));
        let held = |process| Owner::Held(Holder { process, ..Holder::default() });
        assert!(of(held(Some(7))).cause.starts_with("the proxy (process 7) answers"));
        assert_eq!(of(held(None)).verdict, Verdict::Ok);
        assert_eq!(of(Owner::Unknown).verdict, Verdict::Ok);
        let other = of(Owner::Nobody);
        assert_eq!(other.verdict, Verdict::Error);
        assert!(other.cause.contains("sessions") && other.mend.contains("25565"), "{other:?}");
    }

    #[tokio::test]
    async fn what_is_no_minecraft_server() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap(), false);
        let answering = answer_once(listener, 1, b"SSH-2.0-x\r\n".to_vec());
        let (_, found) = tokio::join!(answering, examine(&config, folder.path(), TIME));
        assert_eq!(found[0].verdict, Verdict::Error);
        assert!(found[0].cause.contains("does not answer as a Minecraft server"), "{found:?}");
    }

    #[tokio::test]
    async fn ports_that_nobody_listens_on() {
        let folder = tempfile::tempdir().unwrap();
        // Bound, so that nobody else gets the port, but not listening: refused, and taken.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let config = config(address, false);
        let taken = try_address(address, &config, folder.path(), TIME).await;
        assert_eq!(taken.verdict, Verdict::Error);
        assert!(taken.mend.contains("another program uses this port"), "{taken:?}");
        assert!(!taken.cause.contains('\u{fffd}'), "{taken:?}");
        let free = nobody("127.0.0.1:0".parse().unwrap(), &config, Owner::Nobody);
        assert_eq!((free.verdict, free.cause.as_str()), (Verdict::Ok, "is free: the proxy is not running"));
        let moved = nobody(address, &config, Owner::Held(Holder::default()));
        assert_eq!(moved.verdict, Verdict::Warning);
        assert!(moved.cause.contains("nothing listens there"), "{moved:?}");
        // Kept for documentation: no machine has it, and nothing is sent to bind it.
        let foreign = nobody("192.0.2.1:25565".parse().unwrap(), &config, Owner::Nobody);
        assert!(foreign.mend.contains("this machine does not have that address"), "{foreign:?}");
        let any_port = "127.0.0.1:0".parse().unwrap();
        assert_eq!(try_address(any_port, &config, folder.path(), TIME).await.verdict, Verdict::Skipped);
    }

    #[test]
    fn wildcards_are_reached_on_this_machine() {
        let shown = |bound: &str| -> Vec<_> {
            nearest(bound.parse().unwrap()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown("0.0.0.0:1"), ["127.0.0.1:1"]);
        assert_eq!(shown("[::]:1"), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(shown("203.0.113.5:1"), ["203.0.113.5:1"]);
    }
}
