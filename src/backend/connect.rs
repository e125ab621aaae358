//! The TCP connection to a backend.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proxy_header::{ProxiedAddress, ProxyHeader};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::{
    Backend, Lookup,
    srv::{self, Target},
};
use crate::local::is_local;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Longest wait for SRV records; less if a connection may take less than twice that. Then the name itself is tried.
const SRV_TIME: Duration = Duration::from_secs(2);

/// How long connecting may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For looking up a name, and for each address.
    pub each: Duration,
    /// For everything together.
    pub all: Duration,
}

/// Time for one address, and for all of them twice that.
impl From<Duration> for Patience {
    fn from(each: Duration) -> Self {
        Self { each, all: 2 * each }
    }
}

/// A connection to a backend.
#[derive(Debug)]
pub struct Connected {
    /// The connection, behind the PROXY header if there is one.
    pub stream: TcpStream,
    /// Where the backend was found: its own host and port, or those that its SRV record names.
    pub target: Target,
}

/// One try that did not lead to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The backend's name in the configuration.
    pub backend: String,
    /// The address tried; `None` if the name could not be resolved.
    pub address: Option<SocketAddr>,
    /// What the operating system said.
    pub error: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} at {address}: {}", self.backend, self.error),
            None => write!(f, "{}: {}", self.backend, self.error),
        }
    }
}

/// Why no connection came about.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Every try, in order; at least one.
    pub attempts: Vec<Attempt>,
    /// What they say together.
    pub miss: Miss,
}

/// What a failure to connect says of the backend. Of several tries, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// Nothing: this machine is at fault.
    Local,
    /// It is not there: refused, unreachable, without a name.
    Failed,
    /// One of its addresses might have answered, given more time.
    TimedOut,
}

impl Miss {
    /// What an error of the system says, and in words.
    fn of(error: &io::Error) -> (Self, String) {
        if is_local(error) {
            (Self::Local, format!("{error}; the fault is on this machine"))
        } else {
            (Self::Failed, error.to_string())
        }
    }
}

/// Connects to a backend, as [`reach`] does.
///
/// # Errors
/// Every attempt, in order; at least one.
pub async fn connect(
    backend: &Backend,
    client: Option<IpAddr>,
    patience: impl Into<Patience>,
) -> Result<Connected, Vec<Attempt>> {
    reach(backend, client, patience.into()).await.map_err(|unreached| unreached.attempts)
}

/// Connects to a backend. Its name is resolved anew and all its addresses are tried, IPv4 and IPv6 in turn, so that
/// one of them being cut off costs one wait. What is left of the time is shared out evenly among what is left to try.
/// A backend that wants a PROXY header gets one that names `client`, or, without a client, one that says that the
/// connection is the proxy's own.
///
/// # Errors
/// Every attempt, and what they say.
pub async fn reach(
    backend: &Backend,
    client: Option<IpAddr>,
    patience: Patience,
) -> Result<Connected, Unreached> {
    let end = Instant::now() + patience.all;
    let targets = targets(backend, patience.each).await.map_err(|error| Unreached {
        attempts: vec![Attempt { backend: backend.name.clone(), address: None, error }],
        miss: Miss::Failed,
    })?;
    let found =
        in_order(&backend.name, targets, patience.each, end, |address| open(backend, address, client));
    found.await.map(|(stream, target)| Connected { stream, target })
}

/// Opens the first of the targets' addresses that can be opened.
async fn in_order<T, O: Future<Output = io::Result<T>>>(
    name: &str,
    targets: Vec<Target>,
    each: Duration,
    end: Instant,
    open: impl Fn(SocketAddr) -> O,
) -> Result<(T, Target), Unreached> {
    // A fair share of the rest for one of `tries`, but never more than one may take.
    let share = |tries: usize| {
        let tries = u32::try_from(tries.max(1)).unwrap_or(u32::MAX);
        let now = Instant::now();
        now + each.min(end.saturating_duration_since(now) / tries)
    };
    let mut unreached = Unreached { attempts: Vec::new(), miss: Miss::Local };
    let mut failed = |address, miss: Miss, error: String| {
        unreached.attempts.push(Attempt { backend: name.to_owned(), address, error });
        unreached.miss = unreached.miss.max(miss);
    };
    for (further, target) in (0..targets.len()).rev().zip(targets) {
        let addresses = match resolve(&target, share(further + 1)).await {
            Ok(addresses) => addresses,
            Err((miss, error)) => {
                failed(None, miss, error);
                continue;
            }
        };
        for (others, address) in (0..addresses.len()).rev().zip(addresses) {
            match timeout_at(share(others + 1 + further), open(address)).await {
                Ok(Ok(opened)) => return Ok((opened, target)),
                Ok(Err(error)) => {
                    let (miss, error) = Miss::of(&error);
                    failed(Some(address), miss, error);
                }
                Err(_) => failed(Some(address), Miss::TimedOut, "no answer in time".to_owned()),
            }
        }
    }
    Err(unreached)
}

/// The addresses that a backend's name leads to just now, at least one, as [`connect`] would find them.
///
/// # Errors
/// What came of asking, within `timeout`.
pub async fn look_up(backend: &Backend, timeout: Duration) -> Result<Vec<SocketAddr>, Attempt> {
    let end = Instant::now() + timeout;
    let failed = |error| Attempt { backend: backend.name.clone(), address: None, error };
    let mut found = Vec::new();
    let mut last = format!("{} has no address", backend.host);
    for target in targets(backend, timeout).await.map_err(failed)? {
        match resolve(&target, end).await {
            Ok(addresses) => found.extend(addresses),
            Err((_, error)) => last = error,
        }
    }
    if found.is_empty() { Err(failed(last)) } else { Ok(found) }
}

/// Where a backend is, as its configuration says to find out.
async fn targets(backend: &Backend, each: Duration) -> Result<Vec<Target>, String> {
    match &backend.lookup {
        Lookup::Host => Ok(vec![Target { host: backend.host.clone(), port: backend.port }]),
        Lookup::Service(servers) => {
            let asked = srv::targets(&backend.host, servers, SRV_TIME.min(each / 2)).await;
            asked.map_err(|srv::NoService| {
                format!("the SRV record of {} says that there is no server", backend.host)
            })
        }
    }
}

/// The addresses of a target, at least one.
async fn resolve(Target { host, port }: &Target, until: Instant) -> Result<Vec<SocketAddr>, (Miss, String)> {
    match timeout_at(until, lookup_host((host.as_str(), *port))).await {
        Ok(Ok(addresses)) => {
            let addresses = in_turn(addresses);
            if addresses.is_empty() {
                Err((Miss::Failed, format!("{host} has no address")))
            } else {
                Ok(addresses)
            }
        }
        Ok(Err(error)) => {
            let (miss, error) = Miss::of(&error);
            Err((miss, format!("cannot resolve {host}: {error}")))
        }
        Err(_) => Err((Miss::TimedOut, format!("cannot resolve {host}: no answer in time"))),
    }
}

/// The first addresses, the families in turn, beginning with that of the first: the system knows which is better.
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let v4_first = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv4() == v4_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| match (first.next(), second.next()) {
        (None, None) => None,
        pair => Some(pair),
    });
    pairs.flat_map(|(a, b)| [a, b]).flatten().take(MAX_ADDRESSES).collect()
}

async fn open(backend: &Backend, address: SocketAddr, client: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // Packets of the game are small and late ones are felt.
    stream.set_nodelay(true)?;
    if backend.send_proxy_protocol {
        stream.write_all(&proxy_header(client, address)?).await?;
    }
    Ok(stream)
}

/// A PROXY v2 header. Only the client's address is known here, so its port is 0. Both addresses have to be of one
/// family: an IPv4 address beside an IPv6 one is written as IPv6.
fn proxy_header(client: Option<IpAddr>, backend: SocketAddr) -> io::Result<Vec<u8>> {
    let header = match client {
        None => ProxyHeader::with_local(),
        Some(client) => {
            let as_v6 = |address: IpAddr| match address {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                IpAddr::V6(_) => address,
            };
            let (source, destination) = match (client, backend.ip()) {
                (IpAddr::V4(_), IpAddr::V4(_)) => (client, backend.ip()),
                (_, destination) => (as_v6(client), as_v6(destination)),
            };
            ProxyHeader::with_address(ProxiedAddress::stream(
                SocketAddr::new(source, 0),
                SocketAddr::new(destination, backend.port()),
            ))
        }
    };
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpSocket},
    };

    use super::*;
    use crate::backend::{
        ForwardingMode, NameServers,
        srv::tests::{GOOD, Server, srv},
    };

    fn backend(host: &str, port: u16, send_proxy_protocol: bool) -> Backend {
        Backend {
            name: "lobby".to_owned(),
            host: host.to_owned(),
            port,
            lookup: Lookup::Host,
            forwarding: ForwardingMode::None,
            secret: None,
            send_proxy_protocol,
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn connects_without_delay() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = connect(&backend("127.0.0.1", port, false), Some(HERE), TIMEOUT).await.unwrap();
        assert!(found.stream.nodelay().unwrap());
        assert_eq!(found.target, Target { host: "127.0.0.1".to_owned(), port });
    }

    #[tokio::test]
    async fn every_failed_address_is_named() {
        // Bound, so that nobody else gets the port, but not listening.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((HERE, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let attempts =
            connect(&backend("127.0.0.1", address.port(), false), None, TIMEOUT).await.unwrap_err();
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].backend.as_str(), attempts[0].address), ("lobby", Some(address)));
        assert!(attempts[0].to_string().starts_with(&format!("lobby at {address}: ")), "{}", attempts[0]);
        let attempts = connect(&backend("not a host", 1, false), None, TIMEOUT).await.unwrap_err();
        assert_eq!((attempts.len(), attempts[0].address), (1, None));
    }

    /// A backend that these SRV records lead to.
    async fn service(records: Vec<Vec<u8>>) -> (Server, Backend) {
        let server = Server::answering(GOOD, records).await;
        let lookup = Lookup::Service(NameServers::At(vec![server.address]));
        let backend = Backend { lookup, ..backend("mc.example.com", srv::DEFAULT_PORT, false) };
        (server, backend)
    }

    /// A listener whose queue is full: the system does not answer whoever wants to connect.
    pub(crate) fn hung() -> (std::net::TcpListener, Vec<std::net::TcpStream>, u16) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(HERE, 0).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        (listener, waiting, address.port())
    }

    #[tokio::test]
    async fn srv_records_lead_to_a_backend_and_its_port() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind((HERE, 0).into()).unwrap();
        let closed = closed.local_addr().unwrap();
        let records = vec![srv(1, 0, closed.port(), "127.0.0.1"), srv(2, 0, port, "127.0.0.1")];
        let (_server, backend) = service(records).await;
        let found = connect(&backend, None, TIMEOUT).await.unwrap();
        assert_eq!(found.target, Target { host: "127.0.0.1".to_owned(), port });
        assert_eq!(found.stream.peer_addr().unwrap().port(), port);

        let (_server, backend) = service(vec![srv(0, 0, 0, ".")]).await;
        let attempts = connect(&backend, None, TIMEOUT).await.unwrap_err();
        let texts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["lobby: the SRV record of mc.example.com says that there is no server"]);
    }

    /// Looks for one of these ports: 1 hangs, 2 answers, all else fails with that number as the system's.
    async fn look_for(ports: &[u16]) -> (Result<u16, Unreached>, Duration) {
        let start = Instant::now();
        let targets = ports.iter().map(|port| Target { host: "127.0.0.1".to_owned(), port: *port }).collect();
        let open = async |address: SocketAddr| match address.port() {
            1 => std::future::pending().await,
            2 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.into())),
        };
        let found = in_order("lobby", targets, TIMEOUT, start + 2 * TIMEOUT, open).await;
        (found.map(|((), target)| target.port), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_hang_share_the_time_with_those_that_do_not() {
        // Timers count whole milliseconds.
        let near =
            |took: Duration, seconds: u64| took.abs_diff(Duration::from_secs(seconds)).as_millis() < 10;
        let (found, took) = look_for(&[1, 1, 1, 1, 2]).await;
        assert_eq!(found, Ok(2));
        // Four of five equal shares of ten seconds.
        assert!(near(took, 8), "{took:?}");
        let (found, took) = look_for(&[1, 1, 1, 1]).await;
        let Unreached { attempts, miss } = found.unwrap_err();
        assert_eq!((attempts.len(), miss), (4, Miss::TimedOut));
        assert!(attempts.iter().all(|attempt| attempt.error == "no answer in time"), "{attempts:?}");
        assert!(near(took, 10), "{took:?}");
        // Alone, one gets no more than what is allowed for one.
        let (found, took) = look_for(&[1]).await;
        assert_eq!(found.unwrap_err().miss, Miss::TimedOut);
        assert!(near(took, 5), "{took:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn what_a_failure_says_of_the_backend() {
        const EMFILE: u16 = 24;
        const ENETUNREACH: u16 = 101;
        const REFUSED: u16 = 111;
        for (ports, expected) in [
            (&[EMFILE][..], Miss::Local),
            (&[ENETUNREACH, EMFILE], Miss::Local),
            (&[REFUSED], Miss::Failed),
            // A name of both families, on a machine with only one of them.
            (&[REFUSED, ENETUNREACH], Miss::Failed),
            (&[1, REFUSED, EMFILE], Miss::TimedOut),
        ] {
            let unreached = look_for(ports).await.0.unwrap_err();
            assert_eq!((unreached.attempts.len(), unreached.miss), (ports.len(), expected), "{ports:?}");
            let ours = unreached.attempts.iter().filter(|attempt| attempt.error.ends_with("on this machine"));
            assert_eq!(ours.count(), ports.iter().filter(|port| ![1, REFUSED].contains(port)).count());
        }
    }

    #[tokio::test]
    async fn ipv6_literals_and_names_of_both_families() {
        // Some machines have no IPv6 at all: then nothing listens there, which is as good a test of a dead family.
        let v6 = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).await;
        if let Ok(listener) = &v6 {
            let port = listener.local_addr().unwrap().port();
            let found = connect(&backend("::1", port, false), Some(HERE), TIMEOUT).await.unwrap();
            assert!(found.stream.peer_addr().unwrap().is_ipv6());
        }
        let v4 = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = v4.local_addr().unwrap().port();
        let found = connect(&backend("localhost", port, false), None, TIMEOUT).await.unwrap();
        assert_eq!(found.stream.peer_addr().unwrap().port(), port);
    }

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| -> Vec<SocketAddr> {
            let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
            text.split_whitespace().map(address).collect()
        };
        for (given, expected) in [
            ("", ""),
            ("10.0.0.1", "10.0.0.1"),
            ("::1 ::2 10.0.0.1", "::1 10.0.0.1 ::2"),
            ("10.0.0.1 10.0.0.2 ::1 ::2", "10.0.0.1 ::1 10.0.0.2 ::2"),
            ("::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8 ::9 10.0.0.1", "::1 10.0.0.1 ::2 ::3 ::4 ::5 ::6 ::7"),
        ] {
            assert_eq!(in_turn(parse(given).into_iter()), parse(expected), "{given}");
        }
    }

    #[tokio::test]
    async fn proxy_headers() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let magic = b"\r\n\r\n\0\r\nQUIT\n";
        let port_bytes = port.to_be_bytes();
        let v4 =
            [&magic[..], b"\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x00\x00", &port_bytes].concat();
        let v6 = [
            &magic[..],
            b"\x21\x21\x00\x24",
            b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\0\0",
            &port_bytes,
        ]
        .concat();
        let local = [&magic[..], b"\x20\x00\x00\x00"].concat();
        for (client, expected) in [
            (Some("203.0.113.7".parse().unwrap()), v4),
            (Some("2001:db8::1".parse().unwrap()), v6),
            (None, local),
        ] {
            drop(connect(&backend("127.0.0.1", port, true), client, TIMEOUT).await.unwrap());
            let mut got = Vec::new();
            listener.accept().await.unwrap().0.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, expected, "{client:?}");
        }
    }
}
