//! How the rest of the program reaches a relayed connection.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    net::activity::Activity,
    protocol::{
        pin_command::Typed,
        play::{write_action_bar, write_system_chat},
        text::Text,
        version::Dialect,
    },
};

/// Packets that may wait for a connection to reach a place where they can be put in. Staff lines are rare; a
/// connection that cannot take this many is stuck, and loses the newest.
const WAITING_PACKETS: usize = 16;

/// What was heard of a player and may wait for whoever attends to it. Nobody types this fast; of somebody who does,
/// the newest is lost.
const WAITING_HEARD: usize = 4;

/// What a player did that is not for the backend.
#[derive(Debug)]
pub enum Heard {
    /// A PIN command was typed. The backend saw nothing of it.
    Command(Typed),
    /// Signed chat was left out, since the backend would throw the player out for it: earlier signed chat did not reach
    /// the backend, be it because the player was [held](super::Terms::held) or because it was a PIN command. Joining
    /// anew mends it.
    Unsaid,
}

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
    /// The quarantine is to end.
    released: bool,
    /// The relay's task, once it runs.
    reader: Option<Waker>,
    /// Nobody reads any more.
    over: bool,
    /// The other way: what the relay tells whoever holds the handle.
    told: Told,
}

#[derive(Default)]
struct Told {
    /// Tasks that wait for something to be told.
    listeners: Vec<Waker>,
    heard: VecDeque<Heard>,
    joined: bool,
    out_of_tune: bool,
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

    /// Notes something for those who hold the handle, and wakes who waits for it.
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        let mut mail = self.lock();
        change(&mut mail.told);
        let listeners = mem::take(&mut mail.told.listeners);
        drop(mail);
        listeners.into_iter().for_each(Waker::wake);
    }

    /// Waits until something that was told is there. A future of a few bytes, for every player who is in has one.
    fn await_told<T>(&self, mut take: impl FnMut(&mut Told) -> Option<T>) -> impl Future<Output = T> {
        poll_fn(move |cx| {
            let told = &mut self.lock().told;
            if let Some(found) = take(told) {
                return Poll::Ready(found);
            }
            if !told.listeners.iter().any(|listener| listener.will_wake(cx.waker())) {
                told.listeners.push(cx.waker().clone());
            }
            Poll::Pending
        })
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
    /// Has the task woken when something is asked for from now on. Whether the quarantine was to end meanwhile.
    pub(super) fn listen(&self, cx: &Context<'_>) -> bool {
        let mut mail = self.mailbox.lock();
        match &mut mail.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        mem::take(&mut mail.released)
    }

    pub(super) fn take_close(&self) -> Option<Text> {
        self.mailbox.lock().close.take()
    }

    pub(super) fn take_insertion(&self) -> Option<Vec<u8>> {
        self.mailbox.lock().packets.pop_front()
    }

    /// Passes on what was heard of the player.
    pub(super) fn hear(&self, heard: Heard) {
        self.mailbox.tell(|told| {
            if told.heard.len() < WAITING_HEARD {
                told.heard.push_back(heard);
            } else {
                tracing::debug!("a player types faster than it is attended to; one command was dropped");
            }
        });
    }

    /// The player is in the world.
    pub(super) fn set_joined(&self) {
        self.mailbox.tell(|told| told.joined = true);
    }

    /// Whether signed chat of the player was left out, so that the backend would not take any more of it.
    pub(super) fn set_out_of_tune(&self, is: bool) {
        self.mailbox.tell(|told| told.out_of_tune = is);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Handles may live on. What was told stays told.
        let mut mail = self.mailbox.lock();
        let told = mem::take(&mut mail.told);
        *mail = Mail { over: true, told, ..Mail::default() };
    }
}

/// Talks to one relayed connection. Clones talk to the same. Nothing here waits, save for what is to be
/// [heard](Handle::heard).
#[derive(Clone, Debug)]
pub struct Handle {
    dialect: Dialect,
    mailbox: Arc<Mailbox>,
}

impl Handle {
    /// Closes the connection and tells the player why, in the state the client is in. Only the first text is shown.
    ///
    /// Unlike a [line](Self::chat) it waits for nothing but the end of a frame or bundle: a client understands a
    /// disconnect in configuration, and in play also before it has joined the world.
    pub fn close(&self, text: Text) {
        self.mailbox.put(|mail| {
            mail.close.get_or_insert(text);
        });
    }

    /// Shows the player a system chat line, once it is in the world.
    pub fn chat(&self, text: &Text) {
        if let Some(packet) = write_system_chat(&self.dialect, text) {
            self.insert(packet);
        }
    }

    /// Shows the player a line above its hotbar for some seconds, once it is in the world. Before 1.8 there is no such
    /// line.
    pub fn action_bar(&self, text: &Text) {
        if let Some(packet) = write_action_bar(&self.dialect, text) {
            self.insert(packet);
        }
    }

    /// Puts a packet of the play state (id and fields) in towards the client, at the next place between two frames
    /// where the client is in the world: behind the packet that takes it there, which a client must have before any
    /// other, and not while it is back in configuration. Dropped if too many wait already.
    pub fn insert(&self, packet: Vec<u8>) {
        self.mailbox.put(|mail| {
            if mail.packets.len() < WAITING_PACKETS {
                mail.packets.push_back(packet);
            } else {
                tracing::debug!("too many packets wait for a player's connection; one was dropped");
            }
        });
    }

    /// The next thing heard of the player. For one listener; of several each hears a part. Waits for ever once the
    /// connection is over and all was heard.
    pub fn heard(&self) -> impl Future<Output = Heard> + Send {
        self.mailbox.await_told(|told| told.heard.pop_front())
    }

    /// Waits until the player is in the world for the first time. For ever, if the connection ends before that.
    pub fn joined(&self) -> impl Future<Output = ()> + Send {
        self.mailbox.await_told(|told| told.joined.then_some(()))
    }

    /// Ends the quarantine of a connection that is [held](super::Terms::held): from the next frames on all passes, but
    /// for chat that fell out of step.
    pub fn release(&self) {
        self.mailbox.put(|mail| mail.released = true);
    }

    /// Whether signed chat of the player was left out, so that the backend would not take any more of it: see
    /// [`Heard::Unsaid`].
    pub fn is_out_of_tune(&self) -> bool {
        self.mailbox.lock().told.out_of_tune
    }
}
