//! How the rest of the program reaches a relayed connection.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use crate::{
    net::activity::Activity,
    protocol::{play::write_system_chat, text::Text, version::Dialect},
};

/// Packets that may wait for a connection to reach a place where they can be put in. Staff lines are rare; a
/// connection that cannot take this many is stuck, and loses the newest.
const WAITING_PACKETS: usize = 16;

/// A handle, and what a [`Relay`](super::Relay) needs to obey it. The handle can be used before the relay runs and
/// after it ended.
pub fn link(dialect: Dialect, activity: Arc<Activity>) -> (Handle, Link) {
    let mailbox = Arc::<Mailbox>::default();
    let handle = Handle { dialect, mailbox: Arc::clone(&mailbox) };
    (handle, Link { dialect, mailbox, activity })
}

/// What one connection was asked for. A channel of its own for each would cost an idle player two kilobytes.
#[derive(Debug, Default)]
struct Mailbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    // Apart from the packets: a closing must not wait behind them, nor be lost because there are many.
    close: Option<Text>,
    packets: VecDeque<Vec<u8>>,
    /// The relay's task, once it runs.
    reader: Option<Waker>,
    /// Nobody reads any more.
    over: bool,
}

/// Packets may be anybody's chat: they are counted, not shown.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("packets", &self.packets.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is in it, and wakes the relay.
    fn put(&self, change: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        if mail.over {
            return;
        }
        change(&mut mail);
        let reader = mail.reader.take();
        drop(mail);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The relay's end of a [`Handle`].
#[derive(Debug)]
pub struct Link {
    pub(super) dialect: Dialect,
    mailbox: Arc<Mailbox>,
    pub(super) activity: Arc<Activity>,
}

impl Link {
    /// Has the task woken when something is asked for from now on.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        let mut mail = self.mailbox.lock();
        match &mut mail.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    pub(super) fn take_close(&self) -> Option<Text> {
        self.mailbox.lock().close.take()
    }

    pub(super) fn take_insertion(&self) -> Option<Vec<u8>> {
        self.mailbox.lock().packets.pop_front()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Handles may live on.
        *self.mailbox.lock() = Mail { over: true, ..Mail::default() };
    }
}

/// Talks to one relayed connection. Clones talk to the same. Nothing here waits.
#[derive(Clone, Debug)]
pub struct Handle {
    dialect: Dialect,
    mailbox: Arc<Mailbox>,
}

impl Handle {
    /// Closes the connection and tells the player why. Only the first text is shown.
    pub fn close(&self, text: Text) {
        self.mailbox.put(|mail| {
            mail.close.get_or_insert(text);
        });
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
        self.mailbox.put(|mail| {
            if mail.packets.len() < WAITING_PACKETS {
                mail.packets.push_back(packet);
            } else {
                tracing::debug!("too many packets wait for a player's connection; one was dropped");
            }
        });
    }
}
