//! The yardstick: a plain TCP relay, as little as a relay on this runtime can do. It runs in a process of its own.

use std::{io, net::SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// How the line begins that says where a child listens.
pub(crate) const LISTENING: &str = "Listening on ";

/// Relays every connection to `backend` until the process is killed.
#[expect(clippy::print_stdout, reason = "the parent reads the address from there")]
pub(crate) fn run(backend: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{LISTENING}{}", listener.local_addr()?);
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A connection that breaks is the other side's to notice.
                let _ = relay(client, backend).await;
            });
        }
    })
}

async fn relay(mut client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut backend = TcpStream::connect(backend).await?;
    backend.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}
