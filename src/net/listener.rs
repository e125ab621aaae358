//! Listening sockets and the loop that takes connections from them.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
};
use tracing::{debug, error, info};

use crate::task::Shutdown;

/// Wait after a failed accept: descriptors are short for a while, and trying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(.source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  hint: another program uses this port; stop it, or choose another port for `bind`"
        }
        io::ErrorKind::PermissionDenied => {
            "\n  hint: ports below 1024 need extra rights; choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  hint: this machine does not have that address; 0.0.0.0 means all"
        }
        _ => "",
    }
}

/// Listens on every address, or on none.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener =
            TcpListener::bind(address).await.map_err(|source| BindError { address: *address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Serves every connection in a task of its own until the program stops. The loop never waits for a client.
///
/// Returns the connections that are still up.
pub async fn accept_loop<F>(
    listener: TcpListener,
    shutdown: Shutdown,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
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
                connections.spawn(serve(stream, peer));
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
                tokio::select! {
                    () = shutdown.requested() => return connections,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// A panic ends one connection, and is logged.
pub fn note_panic(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        error!("a connection's task panicked; this is a bug in Postern, please report it");
    }
}
