//! Listening sockets and the loop that takes connections from them.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tracing::{debug, error, info};

use crate::{
    local,
    task::{Shutdown, note_panic},
};

/// Wait after a failed accept: descriptors are short for a while, and trying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait for accept; the system lowers it to its own limit.
const BACKLOG: i32 = 1024;

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", self.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl BindError {
    /// What to do about it, where the system's own words do not say enough.
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                Some("another program uses this port; stop it, or choose another port for `bind`")
            }
            io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need extra rights; choose a higher one")
            }
            io::ErrorKind::AddrNotAvailable => {
                Some("this machine does not have that address; 0.0.0.0 means all")
            }
            _ => None,
        }
    }
}

/// Listens on every address, or on none.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = bound(*address, addresses)
            .and_then(listen)
            .map_err(|source| BindError { address: *address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Whether one of these addresses could be listened on now. Takes the port for a moment, but no connection.
///
/// # Errors
/// Why not.
pub fn can_bind(address: SocketAddr, addresses: &[SocketAddr]) -> Result<(), BindError> {
    bound(address, addresses).map(drop).map_err(|source| BindError { address, source })
}

/// A socket on one of these addresses.
fn bound(address: SocketAddr, addresses: &[SocketAddr]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // An IPv6 socket would take IPv4 connections too, and so the port of an IPv4 one beside it.
    let beside_v4 = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
    if address.is_ipv6() && beside_v4 {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' last minute. On Windows it need not, and the same option would let
    // another program take the port away.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Serves every connection in a task of its own until the program stops. The loop never waits for a client.
///
/// `serve` gives no task for a connection that is one too many, which it has closed by that. `on_limit` hears of every
/// accept that fails for want of descriptors or memory. Returns the connections whose players are not in yet.
pub async fn accept_loop<F>(
    listener: TcpListener,
    shutdown: Shutdown,
    serve: impl Fn(TcpStream, SocketAddr) -> Option<F>,
    on_limit: impl Fn(),
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return connections,
            Some(ended) = connections.join_next() => {
                note_panic(&ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut failing) {
                    info!("accepting connections again");
                }
                if let Err(error) = stream.set_nodelay(true) {
                    // The client is gone already; its first read will say so.
                    debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                if let Some(serving) = serve(stream, peer) {
                    connections.spawn(serving);
                }
            }
            // The client gave up while it waited: nothing is wrong here.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                if !failing {
                    error!(
                        error = %e,
                        "cannot accept connections; most often the limit of open files is too low (ulimit -n)"
                    );
                }
                failing = true;
                if local::is_shortage(&e) {
                    on_limit();
                }
                tokio::select! {
                    () = shutdown.requested() => return connections,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_on_one_port() {
        // Nothing connects here; the wildcards are the point, for only they overlap.
        let free = bind(&["0.0.0.0:0".parse().unwrap()]).unwrap();
        let port = free[0].local_addr().unwrap().port();
        drop(free);
        let both = ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let taken = bind(&both).unwrap();
        let error = bind(&both[..1]).unwrap_err().to_string();
        assert!(error.contains("cannot listen on 0.0.0.0") && error.contains("hint"), "{error}");
        drop(taken);
        // Alone, an IPv6 wildcard takes both families.
        let alone = bind(&both[1..]).unwrap().swap_remove(0);
        assert!(!Socket::from(alone.into_std().unwrap()).only_v6().unwrap());
    }
}
