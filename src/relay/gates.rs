//! What each direction's pipe asks about a frame.

use super::{
    course::{Course, Errand, Verdict},
    head::{self, Content, HEAD, ID, Inflater, LONGEST, LONGEST_UP, Opener},
    link::Link,
    pipe::{Fate, Gate},
    workshop::Shelf,
};
use crate::protocol::{
    frame::{self, Header},
    play::RelayState,
    reader::Malformed,
};

/// Longest frame and packet of a client that is taken to be read. What can be typed has 256 characters; a command among
/// them that signs eight arguments and names six lines of others, as in 1.19.1 and 1.19.2, takes less than 5 KiB.
const LONGEST_SPEECH: usize = 8 << 10;

/// Which frames of one side the other side takes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// All.
    All,
    /// None: only one side's stream is compressed.
    None,
    /// Compressed ones of packets from a length on, and others up to a length.
    Some {
        /// Shortest packet that may be compressed.
        deflated_from: usize,
        /// Longest packet that may be not compressed.
        plain_to: usize,
    },
}

impl Fit {
    /// Towards a server. Those of the game refuse what is compressed though it is shorter than their threshold, some
    /// forks and proxies what is longer and is not.
    pub(super) fn to_server(client: Option<usize>, backend: Option<usize>) -> Self {
        match (client, backend) {
            (from, to) if from == to => Self::All,
            (Some(_), Some(to)) => Self::Some { deflated_from: to, plain_to: to },
            _ => Self::None,
        }
    }

    /// Towards a client. Those `lenient` do not care; others refuse what is compressed though it is shorter than their
    /// threshold.
    pub(super) fn to_client(backend: Option<usize>, client: Option<usize>, lenient: bool) -> Self {
        match (backend, client) {
            (from, to) if from == to => Self::All,
            (Some(_), Some(_)) if lenient => Self::All,
            (Some(_), Some(to)) => Self::Some { deflated_from: to, plain_to: usize::MAX },
            _ => Self::None,
        }
    }

    fn takes(self, content: &Content<'_>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some { deflated_from, .. } if content.deflated => content.packet >= deflated_from,
            Self::Some { plain_to, .. } => content.packet <= plain_to,
        }
    }
}

/// The gate for what the client sends.
#[derive(Debug)]
pub(super) struct Serverbound<'a> {
    /// The states.
    pub course: &'a mut Course,
    /// The rest of the program.
    pub link: &'a Link,
    /// For this direction alone.
    pub opener: &'a mut Opener,
    /// For the opener.
    pub inflaters: &'a Shelf<Inflater>,
    /// Whether frames are those of a compressed stream.
    pub compression: bool,
    /// What the backend takes.
    pub fit: Fit,
}

impl Gate for Serverbound<'_> {
    fn judge(&mut self, bytes: &[u8]) -> Result<Fate, Malformed> {
        let Some(header) = frame::header(bytes)? else { return Ok(Fate::Open) };
        let there = bytes.get(header.prefix..).unwrap_or_default();
        let Some(content) = Content::of(there, header.content, self.compression)? else {
            return Ok(Fate::Open);
        };
        let mut want = HEAD;
        let verdict = loop {
            let (head, more) = self.opener.head(&content, want, self.inflaters)?;
            match self.course.judge_client(head, self.link) {
                Err(Malformed::Truncated) if more => return Ok(Fate::Open),
                // Its id says that more of it matters.
                verdict @ Err(Malformed::Truncated) => {
                    let Some(next) = head::more(want, content.packet, LONGEST_UP) else { break verdict? };
                    want = next;
                }
                verdict => break verdict?,
            }
        };
        self.opener.close(self.inflaters);
        let len = length(header);
        Ok(match verdict {
            Verdict::Pass if self.fit.takes(&content) => Fate::Pass(len),
            Verdict::Pass => {
                self.course.take_up(Errand::Reframe);
                Fate::Take(len)
            }
            Verdict::Drop => Fate::Drop(len),
            Verdict::Take(_) if header.content.max(content.packet) > LONGEST_SPEECH => {
                return Err(Malformed::FrameTooLarge);
            }
            Verdict::Take(errand) => {
                self.course.take_up(errand);
                Fate::Take(len)
            }
        })
    }

    fn pauses(&self) -> bool {
        self.course.acknowledgement_is_due()
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

/// The gate for what the backend sends.
#[derive(Debug)]
pub(super) struct Clientbound<'a> {
    /// The states.
    pub course: &'a mut Course,
    /// The rest of the program.
    pub link: &'a Link,
    /// For this direction alone.
    pub opener: &'a mut Opener,
    /// For the opener.
    pub inflaters: &'a Shelf<Inflater>,
    /// Whether frames are those of a compressed stream.
    pub compression: bool,
    /// What the client takes.
    pub fit: Fit,
    /// What to pause for.
    pub wanted: Wanted,
}

impl Gate for Clientbound<'_> {
    fn judge(&mut self, bytes: &[u8]) -> Result<Fate, Malformed> {
        let Some(header) = frame::header(bytes)? else { return Ok(Fate::Open) };
        let len = length(header);
        if self.fit == Fit::All && !self.course.watches_backend() {
            return Ok(Fate::Pass(len));
        }
        let there = bytes.get(header.prefix..).unwrap_or_default();
        let Some(content) = Content::of(there, header.content, self.compression)? else {
            return Ok(Fate::Open);
        };
        let mut verdict = Verdict::Pass;
        if self.course.looks_into(content.packet, content.first()) {
            let mut want = ID;
            verdict = loop {
                let (head, more) = self.opener.head(&content, want, self.inflaters)?;
                match self.course.judge_backend(head, content.packet, self.link) {
                    Err(Malformed::Truncated) if more => return Ok(Fate::Open),
                    verdict @ Err(Malformed::Truncated) => {
                        let Some(next) = head::more(want, content.packet, LONGEST) else { break verdict? };
                        want = next;
                    }
                    verdict => break verdict?,
                }
            };
            self.opener.close(self.inflaters);
        }
        Ok(match verdict {
            Verdict::Pass if self.fit.takes(&content) => Fate::Pass(len),
            Verdict::Pass => {
                self.course.take_down(Errand::Reframe);
                Fate::Take(len)
            }
            Verdict::Drop => Fate::Drop(len),
            Verdict::Take(errand) => {
                self.course.take_down(errand);
                Fate::Take(len)
            }
        })
    }

    fn pauses(&self) -> bool {
        let in_time = match self.wanted {
            Wanted::Nothing => false,
            Wanted::Insertion => self.course.clientbound() == RelayState::Play && self.course.has_joined(),
            Wanted::Farewell => true,
        };
        in_time && self.course.is_settled()
    }
}

/// Bytes of a whole frame.
fn length(header: Header) -> usize {
    header.prefix + header.content
}
