//! The state of both directions, and what may pass in it.

use super::{
    head::{Content, Inflater, Opener},
    pipe::{Fate, Gate},
    workshop::Shelf,
};
use crate::protocol::{
    frame,
    ids::{PacketId, login_serverbound, play_clientbound},
    play::{RelayIds, RelayState, is_proxy_channel},
    reader::{Malformed, Reader},
    version::Dialect,
};

/// Bytes of a channel that tell whether it is a proxy's: one more than the longest fixed name has.
pub(super) const CHANNEL: usize = 16;

/// Longest packet of a backend that is looked at: all that move a direction's state are empty but for an id and at
/// most one number, five bytes each.
const SIGNAL: usize = 10;

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
#[derive(Debug)]
pub(super) struct Course {
    ids: RelayIds,
    login_acknowledged: Option<PacketId>,
    /// What else a client may send before it acknowledges.
    late_answers: [Option<PacketId>; 2],
    bundle_delimiter: Option<PacketId>,
    /// 1.8 can change compression in play. No known server does. It would leave us unable to tell how frames already
    /// under way are to be read, so it ends the connection.
    set_compression: Option<PacketId>,
    serverbound: RelayState,
    clientbound: RelayState,
    /// Changes passed to the client that it has not acknowledged.
    unacknowledged: u32,
    /// Whether the client is collecting packets that it handles together.
    in_bundle: bool,
}

impl Course {
    /// The states right behind login success.
    pub(super) fn new(dialect: &Dialect) -> Self {
        let ids = RelayIds::of(dialect);
        let (serverbound, clientbound) = if ids.configuration {
            (RelayState::AwaitingAcknowledge, RelayState::Configuration)
        } else {
            (RelayState::Play, RelayState::Play)
        };
        Self {
            ids,
            login_acknowledged: dialect.id(login_serverbound::LOGIN_ACKNOWLEDGED),
            late_answers: [
                dialect.id(login_serverbound::LOGIN_PLUGIN_RESPONSE),
                dialect.id(login_serverbound::COOKIE_RESPONSE),
            ],
            bundle_delimiter: dialect.id(play_clientbound::BUNDLE_DELIMITER),
            set_compression: dialect.id(play_clientbound::SET_COMPRESSION),
            serverbound,
            clientbound,
            unacknowledged: 0,
            in_bundle: false,
        }
    }

    /// The state in which the client reads.
    pub(super) fn clientbound(&self) -> RelayState {
        self.clientbound
    }

    /// Whether the client would handle a packet at once: inside a bundle it keeps it for later.
    pub(super) fn is_settled(&self) -> bool {
        !self.in_bundle
    }

    /// Whether anything a backend sends is of interest.
    fn watches_backend(&self) -> bool {
        self.ids.configuration || self.bundle_delimiter.is_some() || self.set_compression.is_some()
    }

    /// Judges a packet of the client by its head, and moves on if it changes the state.
    fn judge_client(&mut self, head: &[u8]) -> Result<Verdict, Malformed> {
        let mut reader = Reader::new(head);
        let id = reader.varint()?;
        let (plugin_message, acknowledged, next) = match self.serverbound {
            RelayState::AwaitingAcknowledge => {
                if self.login_acknowledged == Some(id) {
                    self.serverbound = RelayState::Configuration;
                } else if !self.late_answers.contains(&Some(id)) {
                    return Err(Malformed::UnexpectedPacket(id));
                }
                return Ok(Verdict::Pass);
            }
            RelayState::Configuration => {
                (self.ids.configuration_plugin_message, self.ids.finish_acknowledged, RelayState::Play)
            }
            RelayState::Play => {
                (self.ids.play_plugin_message, self.ids.configuration_acknowledged, RelayState::Configuration)
            }
        };
        if plugin_message == Some(id) {
            return judge_channel(&mut reader);
        }
        if acknowledged == Some(id) {
            self.unacknowledged =
                self.unacknowledged.checked_sub(1).ok_or(Malformed::UnexpectedPacket(id))?;
            self.serverbound = next;
        }
        Ok(Verdict::Pass)
    }

    /// Moves on if a short packet of the backend changes the state.
    fn follow_backend(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let id = Reader::new(head).varint()?;
        if self.clientbound != RelayState::Play {
            if self.ids.finish_configuration == Some(id) {
                self.turn(RelayState::Play);
            }
        } else if self.ids.start_configuration == Some(id) {
            self.turn(RelayState::Configuration);
        } else if self.bundle_delimiter == Some(id) {
            self.in_bundle = !self.in_bundle;
        } else if self.set_compression == Some(id) {
            return Err(Malformed::UnexpectedPacket(id));
        }
        Ok(())
    }

    fn turn(&mut self, to: RelayState) {
        self.clientbound = to;
        self.in_bundle = false;
        self.unacknowledged = self.unacknowledged.saturating_add(1);
    }
}

/// What becomes of a client's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
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

/// The gate for what the client sends.
#[derive(Debug)]
pub(super) struct Serverbound<'a> {
    /// The states.
    pub course: &'a mut Course,
    /// For this direction alone.
    pub opener: &'a mut Opener,
    /// For the opener.
    pub inflaters: &'a Shelf<Inflater>,
    /// Whether frames are those of a compressed stream.
    pub compression: bool,
}

impl Gate for Serverbound<'_> {
    fn judge(&mut self, bytes: &[u8]) -> Result<Fate, Malformed> {
        let Some(header) = frame::header(bytes)? else { return Ok(Fate::Open) };
        let there = bytes.get(header.prefix..).unwrap_or_default();
        let Some(content) = Content::of(there, header.content, self.compression)? else {
            return Ok(Fate::Open);
        };
        let (head, more) = self.opener.head(&content, self.inflaters)?;
        let verdict = match self.course.judge_client(head) {
            Err(Malformed::Truncated) if more => return Ok(Fate::Open),
            verdict => verdict?,
        };
        self.opener.close(self.inflaters);
        let len = header.prefix + header.content;
        Ok(match verdict {
            Verdict::Pass => Fate::Pass(len),
            Verdict::Drop => Fate::Drop(len),
        })
    }

    fn pauses(&self) -> bool {
        false
    }
}

/// For what the way to the client is to be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Not at all.
    Nothing,
    /// To put a packet of the play state in.
    Insertion,
    /// To say why the connection closes.
    Farewell,
}

/// The gate for what the backend sends: all of it passes.
#[derive(Debug)]
pub(super) struct Clientbound<'a> {
    /// The states.
    pub course: &'a mut Course,
    /// For this direction alone.
    pub opener: &'a mut Opener,
    /// For the opener.
    pub inflaters: &'a Shelf<Inflater>,
    /// Whether frames are those of a compressed stream.
    pub compression: bool,
    /// What to pause for.
    pub wanted: Wanted,
}

impl Gate for Clientbound<'_> {
    fn judge(&mut self, bytes: &[u8]) -> Result<Fate, Malformed> {
        let Some(header) = frame::header(bytes)? else { return Ok(Fate::Open) };
        let pass = Fate::Pass(header.prefix + header.content);
        if !self.course.watches_backend() {
            return Ok(pass);
        }
        let there = bytes.get(header.prefix..).unwrap_or_default();
        let Some(content) = Content::of(there, header.content, self.compression)? else {
            return Ok(Fate::Open);
        };
        if content.packet > SIGNAL {
            return Ok(pass);
        }
        let (head, more) = self.opener.head(&content, self.inflaters)?;
        match self.course.follow_backend(head) {
            Err(Malformed::Truncated) if more => return Ok(Fate::Open),
            followed => followed?,
        }
        self.opener.close(self.inflaters);
        Ok(pass)
    }

    fn pauses(&self) -> bool {
        let in_time = match self.wanted {
            Wanted::Nothing => false,
            Wanted::Insertion => self.course.clientbound == RelayState::Play,
            Wanted::Farewell => true,
        };
        in_time && self.course.is_settled()
    }
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
