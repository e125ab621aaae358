//! `postern health`: for whoever restarts what hangs.
//!
//! It must not say that a proxy full of players is ill because its owner is in the middle of an edit. So it needs no
//! configuration that is good, and no token.

use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Answer, Failure, client::reached_at};
use crate::{
    config::Whereabouts,
    session::{Holder, Owner, Role},
};

/// Longest wait for an answer: less than health checks are given by those who run them.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// How the answer of a proxy that is alive begins.
const ALIVE: &[u8] = b"HTTP/1.1 200 ";

/// Asks whether the proxy of the configuration at `path` is alive. A file that makes no sense, or cannot be read, counts as
/// one in which nothing is written.
pub async fn health(path: &Path) -> Answer {
    examine(path).await.map_or_else(|failure| failure.answer(String::new()), Answer::well)
}

async fn examine(path: &Path) -> Result<String, Failure> {
    let by_default = Whereabouts::by_default(path);
    let place = Whereabouts::of(path).unwrap_or_else(|_| by_default.clone());
    // What the file says may be news to the proxy: that it is, or was before, in the default place is the best guess.
    let Some((directory, holder)) = [place.directory, by_default.directory].into_iter().find_map(held) else {
        return match place.admin.listen {
            Some(address) => asked(reached_at(address)).await,
            None => Err(Failure::new("no proxy runs on the sessions that the configuration names")),
        };
    };
    let process = holder.process.map_or_else(String::new, |process| format!(" (process {process})"));
    match holder.role {
        Role::Proxy { admin: Some(address) } => asked(reached_at(address)).await,
        Role::Proxy { admin: None } => Ok(format!(
            "a proxy runs{process}; whether it hangs cannot be told, since its admin interface is off\n"
        )),
        Role::Command | Role::Unknown => Err(Failure::new(format_args!(
            "the sessions in {} are held{process} by what has not said that it is a proxy",
            directory.display()
        ))),
    }
}

/// Who holds the sessions in a folder.
fn held(directory: PathBuf) -> Option<(PathBuf, Holder)> {
    match Owner::of(&directory) {
        Owner::Held(holder) => Some((directory, holder)),
        Owner::Nobody | Owner::Unknown => None,
    }
}

/// Asks the admin interface there.
async fn asked(address: SocketAddr) -> Result<String, Failure> {
    let failed =
        |why: &dyn Display| Failure::new(format_args!("the proxy does not answer at {address}: {why}"));
    let request = format!("GET /live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answered = timeout(ANSWER_TIME, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut start = [0; ALIVE.len()];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(start)
    });
    match answered.await {
        Ok(Ok(start)) if start == ALIVE => Ok(format!("the proxy answers at {address}\n")),
        Ok(Ok(_)) => Err(failed(&"what comes from there says something else")),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"no answer")),
    }
}
