//! How the rest of the program reaches a relayed connection.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    net::activity::Activity,
    protocol::{play::write_system_chat, text::Text, version::Dialect},
};

/// Packets that may wait for a connection to reach a place where they can be put in. Staff lines are rare; a
/// connection that cannot take this many is stuck, and loses the newest.
const WAITING_PACKETS: usize = 16;

/// A handle, and what [`run`](super::run) needs to obey it. The handle can be used before the relay runs and after it
/// ended.
pub fn link(dialect: Dialect, activity: Arc<Activity>) -> (Handle, Link) {
    let (close, closes) = mpsc::channel(1);
    let (insert, insertions) = mpsc::channel(WAITING_PACKETS);
    let handle = Handle { dialect, close, insert };
    (handle, Link { dialect, closes, insertions, activity })
}

/// The relay's end of a [`Handle`].
#[derive(Debug)]
pub struct Link {
    pub(super) dialect: Dialect,
    // Apart from the insertions: a closing must not wait behind them, nor be lost because there are many.
    pub(super) closes: mpsc::Receiver<Text>,
    pub(super) insertions: mpsc::Receiver<Vec<u8>>,
    pub(super) activity: Arc<Activity>,
}

/// Talks to one relayed connection. Clones talk to the same. Nothing here waits.
#[derive(Clone, Debug)]
pub struct Handle {
    dialect: Dialect,
    close: mpsc::Sender<Text>,
    insert: mpsc::Sender<Vec<u8>>,
}

impl Handle {
    /// Closes the connection and tells the player why. Only the first text is shown.
    pub fn close(&self, text: Text) {
        // Full: it is closing already. Closed: it is over.
        let _ = self.close.try_send(text);
    }

    /// Shows the player a system chat line, once the client is in the play state.
    pub fn chat(&self, text: &Text) {
        if let Some(packet) = write_system_chat(&self.dialect, text) {
            self.insert(packet);
        }
    }

    /// Puts a packet of the play state (id and fields) in towards the client, at the next place between two frames
    /// where the client is in that state. Dropped if too many wait already.
    pub fn insert(&self, packet: Vec<u8>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.insert.try_send(packet) {
            tracing::debug!("too many packets wait for a player's connection; one was dropped");
        }
    }
}
