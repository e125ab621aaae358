//! The state of both directions, and what may pass in it.

use super::{
    Begin, Terms,
    link::Link,
    special::{Said, Special},
};
use crate::protocol::{
    frame::MAX_FRAME,
    ids::{PacketId, login_serverbound, play_clientbound},
    pin_command::SpeechIds,
    play::{RelayIds, RelayState, is_proxy_channel},
    player_chat,
    quarantine::{Down, Up},
    reader::{Malformed, Reader},
    version::Dialect,
};

/// Bytes of a channel that tell whether it is a proxy's: one more than the longest fixed name has.
pub(super) const CHANNEL: usize = 16;

/// Longest packet of a backend that is looked at in any case: all that move a direction's state are empty but for an id
/// and at most one number, five bytes each.
const SIGNAL: usize = 10;

/// Frames behind the one that takes the client into the world in which a tree of its commands is looked for.
/// Servers send one among the first, and another once they know what the player may do; not all that they ever send must
/// be opened for that.
const PATIENCE: u16 = 2048;

/// Answers that may come before login acknowledged: as many as a login may have left open. Answers of mods may come
/// late, but there is no end to what somebody who never acknowledges could send.
const LATE_ANSWERS: u16 = 1024;

/// Longest tree that is rewritten, inflated: as long as the longest frame of a stream without compression. A tree has
/// some tens of bytes for each command, so this is far more than servers have commands for.
const LONGEST_TREE: usize = MAX_FRAME;

/// Longest line of chat that is shown in another form.
const LONGEST_CHAT: usize = MAX_FRAME;

/// The states of a relayed connection. Each direction changes behind the frame that says so:
///
/// ```text
///  towards the client                          towards the backend
///
///  (login success)                             AwaitingAcknowledge
///        v                                             v login acknowledged
///  Configuration <──────────┐                  Configuration <──────────────┐
///        v finish           │ start                    v finish             │ configuration
///        v configuration    │ configuration            v acknowledged       │ acknowledged
///      Play ────────────────┘                        Play ──────────────────┘
/// ```
///
/// An acknowledgement passes only if what it acknowledges was passed before: with one too many, the client could make
/// us read its packets by the ids of a state that the backend is not in. Releases without configuration are in play
/// all the time.
///
/// In play, nothing of ours may go to the client before it has joined the world: the backend's login packet (Join Game)
/// comes first, again each time it is back from configuration.
#[derive(Debug)]
pub(super) struct Course {
    /// Whether there is the configuration state.
    configuration: bool,
    finish_configuration: Option<PacketId>,
    start_configuration: Option<PacketId>,
    bundle_delimiter: Option<PacketId>,
    /// 1.8 can change compression in play. No known server does. It would leave us unable to tell how frames already
    /// under way are to be read, so it ends the connection.
    set_compression: Option<PacketId>,
    /// Takes the client into the world.
    login: Option<PacketId>,
    /// The tree of commands, if PIN commands are to be in it.
    tree: Option<PacketId>,
    /// What the client sends in play and is looked into.
    watched: IdSet,
    serverbound: RelayState,
    clientbound: RelayState,
    /// Answers that may still come before login acknowledged.
    late_answers: u16,
    /// Changes passed to the client that it has not acknowledged.
    unacknowledged: u32,
    /// Whether the client is collecting packets that it handles together.
    in_bundle: bool,
    /// Whether the client is in the world.
    joined: bool,
    /// Frames in which the tree is still looked for.
    patience: u16,
    /// Whether everything that the backend sends is looked into.
    seeking: bool,
    /// Lengths of packets that may be another tree: one is sent again when permissions change, and is about as long.
    like_tree: (u32, u32),
    /// What few connections have.
    special: Option<Box<Special>>,
    /// Why a frame of the client is being taken.
    taken_up: Errand,
    /// Why a frame of the backend is being taken.
    taken_down: Errand,
}

impl Course {
    /// The states in which a relay begins.
    pub(super) fn new(dialect: &Dialect, terms: Terms) -> Self {
        let ids = RelayIds::of(dialect);
        let (serverbound, clientbound) = if !ids.configuration {
            (RelayState::Play, RelayState::Play)
        } else if terms.begin == Begin::InConfiguration {
            (RelayState::Configuration, RelayState::Configuration)
        } else {
            (RelayState::AwaitingAcknowledge, RelayState::Configuration)
        };
        let speech = (terms.pins || terms.held).then(|| SpeechIds::of(dialect));
        let mut course = Self {
            configuration: ids.configuration,
            finish_configuration: ids.finish_configuration,
            start_configuration: ids.start_configuration,
            bundle_delimiter: dialect.id(play_clientbound::BUNDLE_DELIMITER),
            set_compression: dialect.id(play_clientbound::SET_COMPRESSION),
            login: dialect.id(play_clientbound::LOGIN),
            tree: speech.as_ref().and_then(|_| dialect.id(play_clientbound::COMMANDS)),
            watched: IdSet::of(|id| {
                [ids.play_plugin_message, ids.configuration_acknowledged].contains(&Some(id))
                    || speech.as_ref().is_some_and(|speech| speech.is_speech(id))
            }),
            serverbound,
            clientbound,
            late_answers: LATE_ANSWERS,
            unacknowledged: 0,
            in_bundle: false,
            joined: false,
            patience: 0,
            seeking: false,
            like_tree: (u32::MAX, 0),
            special: terms.held.then(|| Box::new(Special::held(dialect))),
            taken_up: Errand::Reframe,
            taken_down: Errand::Reframe,
        };
        course.seek();
        course
    }

    /// The state in which the client reads.
    pub(super) fn clientbound(&self) -> RelayState {
        self.clientbound
    }

    /// Whether the client would handle a packet at once: inside a bundle it keeps it for later.
    pub(super) fn is_settled(&self) -> bool {
        !self.in_bundle
    }

    /// Whether the client is in the world.
    pub(super) fn has_joined(&self) -> bool {
        self.joined
    }

    /// What becomes of something that the client said and that is no PIN command.
    pub(super) fn hear(&mut self, signed: bool, link: &Link) -> Said {
        self.special.as_mut().map_or(Said::Pass, |special| special.hear(signed, link))
    }

    /// What the client gets of a line of player chat that was taken. The line may have begun before the quarantine ended
    /// and be whole only now.
    pub(super) fn withhold(&mut self, packet: &[u8], dialect: &Dialect) -> Shown {
        let Some(special) = &mut self.special else { return Shown::Line };
        special.withhold(dialect, packet);
        if special.is_held() {
            Shown::Instead(player_chat::header(dialect, packet))
        } else if special.is_out_of_step() {
            Shown::Instead(player_chat::disguise(dialect, packet))
        } else {
            Shown::Line
        }
    }

    /// The signed chat that the backend is to hear of now.
    pub(super) fn take_acknowledgement(&mut self) -> u32 {
        let count = self.special.as_mut().map_or(0, |special| special.take_acknowledgement());
        self.settle();
        count
    }

    /// Signed chat of the client was taken out of its chain.
    pub(super) fn break_chain(&mut self, link: &Link) {
        self.special.get_or_insert_with(|| Box::new(Special::free(&link.dialect))).break_chain(link);
        self.settle();
    }

    /// Ends the quarantine.
    pub(super) fn release(&mut self) {
        if let Some(special) = &mut self.special {
            special.release();
        }
        self.settle();
    }

    /// Whether the backend is to hear now of chat that did not reach the client.
    pub(super) fn acknowledgement_is_due(&self) -> bool {
        self.serverbound == RelayState::Play
            && self.special.as_ref().is_some_and(|special| special.acknowledgement_is_due())
    }

    /// Why the frame taken last was taken.
    pub(super) fn taken_up(&self) -> Errand {
        self.taken_up
    }

    /// Why the frame taken last was taken.
    pub(super) fn taken_down(&self) -> Errand {
        self.taken_down
    }

    /// Whether anything a backend sends is of interest.
    pub(super) fn watches_backend(&self) -> bool {
        self.configuration
            || self.bundle_delimiter.is_some()
            || self.set_compression.is_some()
            || self.seeking
            || self.tree.is_some()
    }

    /// Whether a packet of the backend is of interest: one that has this length and, if it is not compressed, begins with
    /// this byte. Servers write a tree's id in one byte.
    pub(super) fn looks_into(&self, packet: usize, first: Option<u8>) -> bool {
        packet <= SIGNAL
            || self.seeking
            || first.is_some_and(|first| self.tree == Some(first.into()))
            || self.is_like_tree(packet)
    }

    fn is_like_tree(&self, packet: usize) -> bool {
        let (from, to) = self.like_tree;
        from as usize <= packet && packet <= to as usize
    }

    /// Judges a packet of the client by its head, and moves on if it changes the state.
    pub(super) fn judge_client(&mut self, head: &[u8], link: &Link) -> Result<Verdict, Malformed> {
        let mut reader = Reader::new(head);
        let id = reader.varint()?;
        match self.serverbound {
            RelayState::AwaitingAcknowledge => {
                return self.judge_before_acknowledged(id, head, &link.dialect);
            }
            RelayState::Play if !self.watched.has(id) && self.special.is_none() => return Ok(Verdict::Pass),
            RelayState::Configuration | RelayState::Play => {}
        }
        if let Some(special) = &mut self.special {
            match special.judge_client(self.serverbound, head)? {
                Up::Pass => {}
                Up::Drop => return Ok(Verdict::Drop),
                Up::Speech => return Ok(Verdict::Take(Errand::Speech)),
            }
        }
        // Looked up anew: few packets come here, and none of this is held for every player.
        let ids = RelayIds::of(&link.dialect);
        let (plugin_message, acknowledged, next) = if self.serverbound == RelayState::Play {
            (ids.play_plugin_message, ids.configuration_acknowledged, RelayState::Configuration)
        } else {
            (ids.configuration_plugin_message, ids.finish_acknowledged, RelayState::Play)
        };
        if plugin_message == Some(id) {
            return judge_channel(&mut reader);
        }
        if acknowledged == Some(id) {
            self.unacknowledged =
                self.unacknowledged.checked_sub(1).ok_or(Malformed::UnexpectedPacket(id))?;
            self.serverbound = next;
            if next == RelayState::Configuration
                && let Some(special) = &mut self.special
            {
                // Back in play, the client begins a new chain.
                special.mend_chain(link);
                self.settle();
            }
        } else if self.serverbound == RelayState::Play && self.watched.has(id) {
            let speech = SpeechIds::of(&link.dialect);
            if speech.is_speech(id) && speech.concerns_pins(head)? {
                return Ok(Verdict::Take(Errand::Speech));
            }
        }
        Ok(Verdict::Pass)
    }

    /// Before it acknowledges login success, a client has nothing to send but what it still owes. Of one that is held
    /// not even all of that is for the backend.
    fn judge_before_acknowledged(
        &mut self,
        id: PacketId,
        head: &[u8],
        dialect: &Dialect,
    ) -> Result<Verdict, Malformed> {
        let is = |packet| dialect.id(packet) == Some(id);
        let acknowledges = is(login_serverbound::LOGIN_ACKNOWLEDGED);
        if !acknowledges {
            let is_answer =
                is(login_serverbound::LOGIN_PLUGIN_RESPONSE) || is(login_serverbound::COOKIE_RESPONSE);
            let left = self.late_answers.checked_sub(1).filter(|_| is_answer);
            self.late_answers = left.ok_or(Malformed::UnexpectedPacket(id))?;
        }
        if let Some(special) = &mut self.special
            && special.judge_client(self.serverbound, head)? != Up::Pass
        {
            return Ok(Verdict::Drop);
        }
        if acknowledges {
            self.serverbound = RelayState::Configuration;
        }
        Ok(Verdict::Pass)
    }

    /// Judges a packet of the backend by its head, and moves on if it changes the state. `len` is the packet's length.
    pub(super) fn judge_backend(
        &mut self,
        head: &[u8],
        len: usize,
        link: &Link,
    ) -> Result<Verdict, Malformed> {
        let id = Reader::new(head).varint()?;
        if let Some(special) = &mut self.special {
            match special.judge_backend(self.clientbound, id, head)? {
                Down::Pass => {}
                Down::WithholdSigned if len <= LONGEST_CHAT => return Ok(Verdict::Take(Errand::Chat)),
                Down::Withhold | Down::WithholdSigned => return Ok(Verdict::Drop),
            }
        }
        let is_signal = |signal: Option<PacketId>| len <= SIGNAL && signal == Some(id);
        if self.clientbound != RelayState::Play {
            if is_signal(self.finish_configuration) {
                self.turn(RelayState::Play);
            }
        } else if is_signal(self.start_configuration) {
            self.turn(RelayState::Configuration);
        } else if is_signal(self.bundle_delimiter) {
            self.in_bundle = !self.in_bundle;
        } else if is_signal(self.set_compression) {
            return Err(Malformed::UnexpectedPacket(id));
        } else if self.login == Some(id) {
            self.join(link);
        } else if self.tree == Some(id) {
            let at = |len| u32::try_from(len).unwrap_or(u32::MAX);
            self.like_tree = (at(len - len / 8), at(len + len / 8));
            if len <= LONGEST_TREE {
                return Ok(Verdict::Take(Errand::Tree));
            }
        } else if self.patience > 0 {
            self.patience -= 1;
            self.seek();
        }
        Ok(Verdict::Pass)
    }

    /// Notes that a frame is taken.
    pub(super) fn take_up(&mut self, errand: Errand) {
        self.taken_up = errand;
    }

    /// Notes that a frame is taken.
    pub(super) fn take_down(&mut self, errand: Errand) {
        self.taken_down = errand;
    }

    fn turn(&mut self, to: RelayState) {
        self.clientbound = to;
        self.in_bundle = false;
        self.joined = false;
        self.patience = 0;
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        if to == RelayState::Configuration
            && let Some(special) = &mut self.special
        {
            // The client forgets what chat it has seen, and so does the backend.
            special.fall_in_step();
        }
        self.settle();
    }

    /// The client is in the world, or in another one.
    fn join(&mut self, link: &Link) {
        if !self.joined {
            link.set_joined();
        }
        self.joined = true;
        // Another server behind the backend has other commands.
        self.patience = if self.tree.is_some() { PATIENCE } else { 0 };
        self.seek();
    }

    /// Forgets what is not special any more.
    fn settle(&mut self) {
        if self.special.as_ref().is_some_and(|special| special.is_over()) {
            self.special = None;
        }
        self.seek();
    }

    fn seek(&mut self) {
        self.seeking = self.special.as_ref().is_some_and(|special| special.watches_backend())
            || (self.clientbound == RelayState::Play && (!self.joined || self.patience > 0));
    }
}

/// Packet ids of one state: whether one is among them takes one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdSet([u64; 2]);

impl IdSet {
    /// Ids that it can hold. No serverbound packet that matters has a larger one, in any release.
    const END: PacketId = 128;

    fn of(holds: impl Fn(PacketId) -> bool) -> Self {
        let mut words = [0; 2];
        for id in (0..Self::END).filter(|id| holds(*id)) {
            if let Some((word, bit)) = Self::place(id)
                && let Some(word) = words.get_mut(word)
            {
                *word |= bit;
            }
        }
        Self(words)
    }

    fn place(id: PacketId) -> Option<(usize, u64)> {
        let id = usize::try_from(id).ok()?;
        Some((id / 64, 1 << (id % 64)))
    }

    fn has(&self, id: PacketId) -> bool {
        Self::place(id).is_some_and(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }
}

/// Why a frame is taken out of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The other side would not take it as it is.
    Reframe,
    /// The client says something that may not be for the backend.
    Speech,
    /// The tree of the commands that the client knows.
    Tree,
    /// A line of chat that fell out of step, or is withheld and to be acknowledged.
    Chat,
}

/// What the client gets of a line of player chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The line itself.
    Line,
    /// Another packet, or nothing.
    Instead(Option<Vec<u8>>),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
    Take(Errand),
}

/// Judges a plugin message by its channel.
fn judge_channel(reader: &mut Reader<'_>) -> Result<Verdict, Malformed> {
    let len = reader.count(i32::MAX as usize)?;
    let start = reader.fixed(len.min(CHANNEL))?;
    // A backend reads broken UTF-8 as replacement characters, and no proxy channel has those: what stands before
    // them is all that can match.
    let start = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Ok(if is_proxy_channel(start) { Verdict::Drop } else { Verdict::Pass })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels() {
        let judge = |bytes: &[u8]| judge_channel(&mut Reader::new(bytes));
        for (bytes, verdict) in [
            (&b"\x0abungeecord"[..], Verdict::Drop),
            (b"\x0fbungeecord:main", Verdict::Drop),
            (b"\x10bungeecord:mainz", Verdict::Pass),
            (b"\x0abrandbrand", Verdict::Pass),
            (b"\x00", Verdict::Pass),
            // Only the first bytes need to be there.
            (b"\xff\xff\x01velocity:player_", Verdict::Drop),
            // Broken UTF-8 before, and behind, what matters.
            (b"\x0b\xffvelocity:x", Verdict::Pass),
            (b"\x0bvelocity:\xffx", Verdict::Drop),
        ] {
            assert_eq!(judge(bytes), Ok(verdict), "{bytes:x?}");
        }
        for (bytes, error) in [
            (&b""[..], Malformed::Truncated),
            (b"\x0abungeecor", Malformed::Truncated),
            (b"\x20velocity:player", Malformed::Truncated),
            (b"\xff\xff\xff\xff\x0f", Malformed::LengthOutOfRange),
        ] {
            assert_eq!(judge(bytes), Err(error), "{bytes:x?}");
        }
    }
}
