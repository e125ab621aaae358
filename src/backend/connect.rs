//! The TCP connection to a backend.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proxy_header::{ProxiedAddress, ProxyHeader};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::Backend;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

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

/// Connects to a backend. Its name is resolved anew and all its addresses are tried in order, each for at most
/// `timeout`, all together for at most twice that. A backend that wants a PROXY header gets one that names `client`,
/// or, without a client, one that says that the connection is the proxy's own.
///
/// # Errors
/// Every attempt, in order; at least one.
pub async fn connect(
    backend: &Backend,
    client: Option<IpAddr>,
    timeout: Duration,
) -> Result<TcpStream, Vec<Attempt>> {
    let end = Instant::now() + 2 * timeout;
    let failed = |address, error: String| Attempt { backend: backend.name.clone(), address, error };
    let addresses = look_up(backend, timeout).await.map_err(|failed| vec![failed])?;
    let mut attempts = Vec::new();
    for address in addresses {
        let until = end.min(Instant::now() + timeout);
        match timeout_at(until, open(backend, address, client)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => attempts.push(failed(Some(address), error.to_string())),
            Err(_) => attempts.push(failed(Some(address), "no answer in time".to_owned())),
        }
    }
    Err(attempts)
}

/// The addresses that a backend's name leads to just now, at least one, as [`connect`] would find them.
///
/// # Errors
/// What came of asking, within `timeout`.
pub async fn look_up(backend: &Backend, timeout: Duration) -> Result<Vec<SocketAddr>, Attempt> {
    let failed = |error| Attempt { backend: backend.name.clone(), address: None, error };
    let asked = lookup_host((backend.host.as_str(), backend.port));
    let addresses: Vec<SocketAddr> = match timeout_at(Instant::now() + timeout, asked).await {
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
        Ok(Err(error)) => return Err(failed(format!("cannot resolve {}: {error}", backend.host))),
        Err(_) => return Err(failed(format!("cannot resolve {}: no answer in time", backend.host))),
    };
    if addresses.is_empty() { Err(failed(format!("{} has no address", backend.host))) } else { Ok(addresses) }
}

async fn open(backend: &Backend, address: SocketAddr, client: Option<IpAddr>) -> std::io::Result<TcpStream> {
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
fn proxy_header(client: Option<IpAddr>, backend: SocketAddr) -> std::io::Result<Vec<u8>> {
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
    header.encode_v2(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpSocket},
    };

    use super::*;
    use crate::backend::ForwardingMode;

    fn backend(host: &str, port: u16, send_proxy_protocol: bool) -> Backend {
        Backend {
            name: "lobby".to_owned(),
            host: host.to_owned(),
            port,
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
        let stream = connect(&backend("127.0.0.1", port, false), Some(HERE), TIMEOUT).await.unwrap();
        assert!(stream.nodelay().unwrap());
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
