//! What a client says in the play state, and whether it is one of the commands about PINs.

use secrecy::SecretString;

use super::{
    ids::{PacketId, play_serverbound},
    reader::{Malformed, Reader},
    version::{Dialect, SpeechForm, SuggestionForm},
    writer::Writer,
};

/// Longest text of a command, in UTF-16 units: what the newest releases allow, the others allow less.
const MAX_COMMAND: usize = 32767;
/// Longest time, salt and other fields behind a text are read in full; a signature takes this many bytes from 1.19.3 on.
const SIGNATURE: usize = 256;
/// Longest signature before that, in bytes.
const MAX_SIGNATURE: usize = 4096;
/// Most arguments that a command may sign.
const MAX_SIGNED: usize = 8;
/// Longest name of an argument, in UTF-16 units.
const MAX_ARGUMENT: usize = 16;
/// Most lines of others named as seen last, in 1.19.1 and 1.19.2.
const MAX_SEEN: usize = 5;

/// The commands about PINs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinCommand {
    /// `/setpin`: sets or replaces the PIN.
    SetPin,
    /// `/pin`: proves it, or sets one where there is none.
    Pin,
    /// `/resetpin`: forgets it.
    ResetPin,
}

impl PinCommand {
    const ALL: [(&'static str, Self); 3] =
        [("setpin", Self::SetPin), ("pin", Self::Pin), ("resetpin", Self::ResetPin)];

    /// As it is typed, without slash.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetPin => "setpin",
            Self::Pin => "pin",
            Self::ResetPin => "resetpin",
        }
    }

    /// The command by its name, in any case and with any namespace before a colon.
    fn named(word: &str) -> Option<Self> {
        let name = word.rsplit_once(':').map_or(word, |(_, name)| name);
        Self::ALL.iter().find(|(own, _)| name.eq_ignore_ascii_case(own)).map(|(_, command)| *command)
    }
}

/// A command about PINs with what was typed behind it. Debug shows the command alone.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Which one.
    pub command: PinCommand,
    /// What stands behind its name, without spaces around it. It may hold a code.
    pub words: SecretString,
    /// Whether its arguments were signed in the player's chain of signatures: left out of it, all that follows is
    /// out of order. The commands as the proxy adds them have nothing to sign; a backend's own may.
    pub signed: bool,
}

/// What a client said.
#[derive(Clone, Debug)]
pub enum Spoken {
    /// One of the commands.
    Command(Typed),
    /// It asks for suggestions while it types one.
    Suggestion,
    /// Something else.
    Other {
        /// Whether it is a link of the player's chain of signatures: left out of it, all that follows is out of order.
        signed: bool,
    },
}

/// One packet of a client that says something.
#[derive(Clone, Debug)]
pub struct Speech {
    /// What.
    pub spoken: Spoken,
    /// How many lines of others it reports as seen. A backend that does not get this packet must get this number in
    /// another way ([`write_chat_ack`]); 0 where it has none.
    pub acknowledges: u32,
}

/// The packets by which a client can say something in the play state, for one dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeechIds {
    chat_message: Option<PacketId>,
    chat_command: Option<PacketId>,
    chat_command_signed: Option<PacketId>,
    suggestions_request: Option<PacketId>,
    speech: SpeechForm,
    bare_commands: bool,
    suggestions: SuggestionForm,
}

/// What a packet of speech is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A chat line; a command if it begins with a slash.
    Chat,
    /// A command without its slash and without signatures.
    BareCommand,
    /// A command without its slash, maybe with signatures.
    Command,
    /// A request for suggestions, with a slash, or without one and with something behind the name.
    Suggestions,
}

impl SpeechIds {
    /// Most bytes of a packet, from its id on, that it takes to tell whether it is about PINs. Chat lines and commands
    /// fit into them whole up to 1.20.4; nobody types a longer run of spaces or a longer namespace before a command.
    pub const LOOK: usize = 1024;

    /// The ids of one dialect.
    pub fn of(dialect: &Dialect) -> Self {
        Self {
            chat_message: dialect.id(play_serverbound::CHAT_MESSAGE),
            chat_command: dialect.id(play_serverbound::CHAT_COMMAND),
            chat_command_signed: dialect.id(play_serverbound::CHAT_COMMAND_SIGNED),
            suggestions_request: dialect.id(play_serverbound::COMMAND_SUGGESTIONS_REQUEST),
            speech: dialect.speech,
            bare_commands: dialect.bare_commands,
            suggestions: dialect.suggestions,
        }
    }

    /// Whether a packet of the play state with this id says something or asks for suggestions.
    pub fn is_speech(&self, id: PacketId) -> bool {
        self.kind(id).is_some()
    }

    /// Whether a packet of the play state, of which the first bytes are there from its id on, is one of the commands
    /// about PINs or a request for suggestions about one. Where [`LOOK`](Self::LOOK) bytes do not tell, it is taken
    /// for one: [`read`](Self::read) tells for sure.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if it takes more of the packet to tell; the whole packet, and [`LOOK`](Self::LOOK)
    /// bytes, are always enough unless the packet ends within its text. What else is wrong with a packet is for the
    /// backend to say.
    pub fn concerns_pins(&self, head: &[u8]) -> Result<bool, Malformed> {
        let head = head.get(..Self::LOOK).unwrap_or(head);
        let mut reader = Reader::new(head);
        let undecided = if head.len() >= Self::LOOK { Ok(true) } else { Err(Malformed::Truncated) };
        let id = match reader.varint() {
            Ok(id) => id,
            Err(Malformed::Truncated) => return undecided,
            Err(_) => return Ok(false),
        };
        let Some(kind) = self.kind(id) else { return Ok(false) };
        let len = match self.before_text(kind, &mut reader).and_then(|()| reader.count(MAX_COMMAND * 3)) {
            Ok(len) => len,
            Err(Malformed::Truncated) => return undecided,
            Err(_) => return Ok(false),
        };
        let there = reader.rest();
        let (text, is_whole) = there.get(..len).map_or((there, false), |text| (text, true));
        let (valid, goes_on) = match std::str::from_utf8(text) {
            Ok(valid) => (valid, !is_whole),
            Err(error) => {
                let valid = text.get(..error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), !is_whole && error.error_len().is_none())
            }
        };
        let end = if goes_on { undecided } else { Ok(false) };
        if valid.trim_start().trim_start_matches('/').trim_start().is_empty() {
            return end;
        }
        let Some(line) = command_line(kind, valid) else {
            return if kind == Kind::Suggestions { end } else { Ok(false) };
        };
        match line.split_once(char::is_whitespace) {
            Some((word, _)) => Ok(PinCommand::named(word).is_some()),
            None if is_whole && valid.len() == len => Ok(PinCommand::named(line).is_some()),
            None => end,
        }
    }

    /// Reads a packet that [is speech](Self::is_speech), whole from its id on.
    ///
    /// # Errors
    /// It is no such packet, or not one as the game writes it.
    pub fn read(&self, packet: &[u8]) -> Result<Speech, Malformed> {
        let mut reader = Reader::new(packet);
        let id = reader.varint()?;
        let kind = self.kind(id).ok_or(Malformed::UnexpectedPacket(id))?;
        self.before_text(kind, &mut reader)?;
        let text = reader.string(MAX_COMMAND)?;
        let tail = self.tail(kind, &mut reader)?;
        reader.finish()?;
        let typed = command_line(kind, text).and_then(|line| {
            let (word, words) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            PinCommand::named(word).map(|command| (command, words.trim()))
        });
        let spoken = match (typed, kind) {
            (Some(_), Kind::Suggestions) => Spoken::Suggestion,
            (Some((command, words)), _) => {
                Spoken::Command(Typed { command, words: SecretString::from(words), signed: tail.signed })
            }
            (None, _) => Spoken::Other { signed: tail.signed },
        };
        Ok(Speech { spoken, acknowledges: tail.acknowledges })
    }

    fn kind(&self, id: PacketId) -> Option<Kind> {
        let id = Some(id);
        if id == self.chat_message {
            Some(Kind::Chat)
        } else if id == self.chat_command {
            Some(if self.bare_commands { Kind::BareCommand } else { Kind::Command })
        } else if id == self.chat_command_signed {
            Some(Kind::Command)
        } else if id == self.suggestions_request {
            Some(Kind::Suggestions)
        } else {
            None
        }
    }

    /// Reads what stands between the id and the text.
    fn before_text(&self, kind: Kind, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        if kind == Kind::Suggestions && self.suggestions == SuggestionForm::Numbered {
            reader.varint()?;
        }
        Ok(())
    }

    /// Reads what stands behind the text.
    fn tail(&self, kind: Kind, reader: &mut Reader<'_>) -> Result<Tail, Malformed> {
        let nothing = Tail { signed: false, acknowledges: 0 };
        match kind {
            Kind::BareCommand => return Ok(nothing),
            Kind::Suggestions => {
                // Positions and flags of the older releases: none of them matters.
                if self.suggestions == SuggestionForm::Text {
                    reader.rest();
                }
                return Ok(nothing);
            }
            Kind::Chat | Kind::Command => {}
        }
        if self.speech == SpeechForm::Bare {
            return Ok(nothing);
        }
        // Time and salt.
        reader.fixed(16)?;
        let is_signed = if kind == Kind::Command {
            let count = reader.count(MAX_SIGNED)?;
            for _ in 0..count {
                reader.string(MAX_ARGUMENT)?;
                self.signature(reader)?;
            }
            count > 0
        } else if matches!(self.speech, SpeechForm::Alone | SpeechForm::LastSeen) {
            !self.signature(reader)?.is_empty()
        } else {
            reader.option(|reader| self.signature(reader))?.is_some()
        };
        let mut acknowledges = 0;
        match self.speech {
            SpeechForm::Bare => {}
            SpeechForm::Alone => {
                reader.bool()?;
            }
            SpeechForm::LastSeen => {
                reader.bool()?;
                for _ in 0..reader.count(MAX_SEEN)? {
                    seen(reader)?;
                }
                reader.option(seen)?;
            }
            SpeechForm::Counted | SpeechForm::CountedChecksum => {
                let count = reader.varint()?;
                acknowledges = u32::try_from(count).map_err(|_| Malformed::BadValue)?;
                // A set of 20 bits.
                reader.fixed(3)?;
                if self.speech == SpeechForm::CountedChecksum {
                    reader.u8()?;
                }
            }
        }
        // Each line of 1.19 is signed for itself; a chain there is from 1.19.1 on.
        Ok(Tail { signed: is_signed && self.speech != SpeechForm::Alone, acknowledges })
    }

    fn signature<'a>(&self, reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
        match self.speech {
            SpeechForm::Counted | SpeechForm::CountedChecksum => reader.fixed(SIGNATURE),
            SpeechForm::Bare | SpeechForm::Alone | SpeechForm::LastSeen => reader.bytes(MAX_SIGNATURE),
        }
    }
}

/// What stands behind a text.
#[derive(Clone, Copy, Debug)]
struct Tail {
    signed: bool,
    acknowledges: u32,
}

/// A line of somebody, as 1.19.1 and 1.19.2 name it: its sender and its signature.
fn seen(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.uuid()?;
    reader.bytes(MAX_SIGNATURE).map(|_| ())
}

/// The text from the name of a command on; `None` if it holds none.
fn command_line(kind: Kind, text: &str) -> Option<&str> {
    let text = text.trim_start();
    let line = match kind {
        // Servers of before 1.19 take the spaces behind the slash for none.
        Kind::Chat => text.strip_prefix('/')?.trim_start(),
        Kind::BareCommand | Kind::Command => text,
        Kind::Suggestions => match text.strip_prefix('/') {
            Some(line) => line.trim_start(),
            // Without a slash it is chat, in which a name may begin so; but what stands behind it may be a code.
            None => Some(text).filter(|text| text.contains(char::is_whitespace))?,
        },
    };
    (!line.is_empty()).then_some(line)
}

/// Writes chat acknowledgement for a backend: so many lines of others were seen since the last report. `None` where
/// the dialect does not count them.
pub fn write_chat_ack(dialect: &Dialect, count: u32) -> Option<Vec<u8>> {
    match dialect.speech {
        SpeechForm::Bare | SpeechForm::Alone | SpeechForm::LastSeen => None,
        SpeechForm::Counted | SpeechForm::CountedChecksum => {
            let mut writer = Writer::packet(dialect.id(play_serverbound::CHAT_ACK)?);
            Some(writer.varint(i32::try_from(count).unwrap_or(i32::MAX)).finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn releases() -> impl Iterator<Item = Dialect> {
        Dialect::releases().map(|(version, _)| Dialect::of(version))
    }

    /// Makes a packet of a text, with so many lines acknowledged.
    type Way = Box<dyn Fn(&str, u32) -> Vec<u8>>;

    /// What a packet has behind its text.
    type Behind = Box<dyn Fn(&mut Writer, u32)>;

    /// The packets by which a client of this dialect can send a text as a command: whether the text has a slash in
    /// front, and how the packet is made.
    fn ways(dialect: &Dialect) -> Vec<(bool, Way)> {
        let form = dialect.speech;
        let mut ways: Vec<(bool, Way)> = Vec::new();
        let mut add = |slash, id: Option<PacketId>, tail: Behind| {
            let Some(id) = id else { return };
            ways.push((
                slash,
                Box::new(move |text, count| {
                    let mut writer = Writer::packet(id);
                    writer.string(text);
                    tail(&mut writer, count);
                    writer.finish()
                }),
            ));
        };
        let counted = move |writer: &mut Writer, count: u32| {
            let count = count.cast_signed();
            match form {
                SpeechForm::Bare => writer,
                SpeechForm::Alone => writer.bool(false),
                SpeechForm::LastSeen => writer.bool(false).count(0).bool(false),
                SpeechForm::Counted => writer.varint(count).raw(&[0; 3]),
                SpeechForm::CountedChecksum => writer.varint(count).raw(&[0; 4]),
            };
        };
        add(
            true,
            dialect.id(play_serverbound::CHAT_MESSAGE),
            Box::new(move |writer, count| {
                if form != SpeechForm::Bare {
                    writer.i64(1).i64(2).bool(false);
                    counted(writer, count);
                }
            }),
        );
        let command = move |writer: &mut Writer, count| {
            writer.i64(1).i64(2).count(0);
            counted(writer, count);
        };
        if dialect.bare_commands {
            add(false, dialect.id(play_serverbound::CHAT_COMMAND), Box::new(|_, _| {}));
            add(false, dialect.id(play_serverbound::CHAT_COMMAND_SIGNED), Box::new(command));
        } else {
            add(false, dialect.id(play_serverbound::CHAT_COMMAND), Box::new(command));
        }
        ways
    }

    fn suggestions(dialect: &Dialect, text: &str) -> Vec<u8> {
        let mut writer = Writer::packet(dialect.id(play_serverbound::COMMAND_SUGGESTIONS_REQUEST).unwrap());
        if dialect.suggestions == SuggestionForm::Numbered {
            writer.varint(300);
        }
        writer.string(text).finish()
    }

    const SETPIN: PinCommand = PinCommand::SetPin;
    const PIN: PinCommand = PinCommand::Pin;
    const RESETPIN: PinCommand = PinCommand::ResetPin;

    /// What is typed without the slash, and what it is.
    const SPELLINGS: &[(&str, Option<(PinCommand, &str)>)] = &[
        ("pin 4821", Some((PIN, "4821"))),
        ("PIN 4821", Some((PIN, "4821"))),
        ("pIn 4821", Some((PIN, "4821"))),
        ("pin", Some((PIN, ""))),
        ("pin ", Some((PIN, ""))),
        ("pin   4821  ", Some((PIN, "4821"))),
        ("pin\t4821", Some((PIN, "4821"))),
        ("pin 48 21", Some((PIN, "48 21"))),
        ("pin pin 4821", Some((PIN, "pin 4821"))),
        ("minecraft:pin 4821", Some((PIN, "4821"))),
        ("Postern:Pin 4821", Some((PIN, "4821"))),
        (":pin 4821", Some((PIN, "4821"))),
        ("a:b:pin 4821", Some((PIN, "4821"))),
        ("\u{e4}\u{f6}:pin 4821", Some((PIN, "4821"))),
        ("setpin 4821", Some((SETPIN, "4821"))),
        ("SetPin 4821", Some((SETPIN, "4821"))),
        ("x:SETPIN 4821", Some((SETPIN, "4821"))),
        ("setpin", Some((SETPIN, ""))),
        ("resetpin", Some((RESETPIN, ""))),
        ("ResetPIN please", Some((RESETPIN, "please"))),
        ("x:resetpin", Some((RESETPIN, ""))),
        ("", None),
        (" ", None),
        ("pins 4821", None),
        ("ping", None),
        ("pi n", None),
        ("pin:4821", None),
        ("pin: 4821", None),
        ("pin4821", None),
        ("p\u{131}n 4821", None),
        ("msg Notch pin 4821", None),
        ("say /pin 4821", None),
        ("setpin:help", None),
        ("unsetpin 1", None),
    ];

    #[test]
    fn every_spelling_in_every_packet_of_every_release() {
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            for (spelling, expected) in SPELLINGS {
                for (spaces, behind) in [("", ""), (" ", ""), ("   ", " "), ("\t", ""), ("", "  ")] {
                    for (slash, way) in ways(&dialect) {
                        let line = format!("{spaces}{}{behind}{spelling}", if slash { "/" } else { "" });
                        let packet = way(&line, 0);
                        let place = format!("{line:?} at {}", dialect.release());
                        let read = match ids.read(&packet).unwrap().spoken {
                            Spoken::Command(typed) => {
                                assert!(!typed.signed);
                                Some((typed.command, typed.words.expose_secret().to_owned()))
                            }
                            Spoken::Other { signed: false } => None,
                            other => panic!("{place}: {other:?}"),
                        };
                        let read = read.as_ref().map(|(command, words)| (*command, words.as_str()));
                        assert_eq!(read, *expected, "{place}");
                        assert_eq!(ids.concerns_pins(&packet), Ok(expected.is_some()), "{place}");
                    }
                    for slash in ["/", ""] {
                        let line = format!("{spaces}{slash}{behind}{spelling}");
                        let packet = suggestions(&dialect, &line);
                        let spoken = ids.read(&packet).unwrap().spoken;
                        let is_ours = matches!(spoken, Spoken::Suggestion);
                        assert!(is_ours || matches!(spoken, Spoken::Other { signed: false }));
                        let counts = slash == "/" || line.trim_start().contains(char::is_whitespace);
                        let expected = expected.is_some() && counts;
                        assert_eq!(is_ours, expected, "{line:?} at {}", dialect.release());
                        assert_eq!(ids.concerns_pins(&packet), Ok(expected));
                    }
                }
            }
        }
    }

    #[test]
    fn slashes_where_the_game_has_none() {
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            for (slash, way) in ways(&dialect) {
                // A chat line without a slash, a command with one more than it has.
                let packet = way(if slash { "pin 4821" } else { "/pin 4821" }, 0);
                assert!(matches!(ids.read(&packet).unwrap().spoken, Spoken::Other { .. }));
                assert_eq!(ids.concerns_pins(&packet), Ok(false));
            }
        }
    }

    #[test]
    fn the_first_bytes_tell_no_more_than_the_whole() {
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            for (spelling, _) in SPELLINGS {
                let mut packets: Vec<_> = ways(&dialect)
                    .iter()
                    .map(|(slash, way)| way(&format!(" {}{spelling}", if *slash { "/ " } else { "" }), 0))
                    .collect();
                packets.push(suggestions(&dialect, spelling));
                let asks = dialect.id(play_serverbound::COMMAND_SUGGESTIONS_REQUEST);
                for packet in packets {
                    let whole = ids.concerns_pins(&packet).unwrap();
                    for len in 0..packet.len() {
                        let part = ids.concerns_pins(&packet[..len]);
                        assert!(part == Ok(whole) || part == Err(Malformed::Truncated), "{spelling:?} {len}");
                        if Reader::new(&packet).varint().ok() != asks {
                            assert!(ids.read(&packet[..len]).is_err(), "{spelling:?} {len}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_hides_behind_many_bytes_is_taken_and_read() {
        let dialect = Dialect::newest();
        let ids = SpeechIds::of(&dialect);
        for hidden in [
            format!("{}pin 4821", " ".repeat(3000)),
            format!("{}:pin 4821", "x".repeat(3000)),
            format!("{}:pin 4821", "\u{20ac}".repeat(1000)),
        ] {
            for (_, way) in ways(&dialect).iter().skip(1) {
                let packet = way(&hidden, 0);
                assert_eq!(ids.concerns_pins(&packet), Ok(true));
                assert_eq!(ids.concerns_pins(&packet[..SpeechIds::LOOK]), Ok(true));
                assert_eq!(ids.concerns_pins(&packet[..SpeechIds::LOOK - 1]), Err(Malformed::Truncated));
                assert!(matches!(ids.read(&packet).unwrap().spoken, Spoken::Command(_)));
            }
        }
        // A long line that begins otherwise is told at once.
        let packet = ways(&dialect)[1].1(&format!("msg Notch {}", "x".repeat(3000)), 0);
        assert_eq!(ids.concerns_pins(&packet[..12]), Ok(false));
        // A name that is longer than any, and never ends, is one of them only when it is read.
        let packet = ways(&dialect)[1].1(&"x".repeat(3000), 0);
        assert_eq!(ids.concerns_pins(&packet), Ok(true));
        assert!(matches!(ids.read(&packet).unwrap().spoken, Spoken::Other { .. }));
    }

    #[test]
    fn acknowledgements_are_handed_on_in_every_form() {
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            let counts = matches!(dialect.speech, SpeechForm::Counted | SpeechForm::CountedChecksum);
            for (slash, way) in ways(&dialect) {
                for line in ["pin 4821", "msg Notch hello"] {
                    for count in [0, 1, 20, 127, 128, 70_000] {
                        let line = format!("{}{line}", if slash { "/" } else { "" });
                        let packet = way(&line, count);
                        let is_bare = dialect.bare_commands
                            && Reader::new(&packet).varint().ok()
                                == dialect.id(play_serverbound::CHAT_COMMAND);
                        let expected = if counts && !is_bare { count } else { 0 };
                        assert_eq!(ids.read(&packet).unwrap().acknowledges, expected);
                    }
                }
                if counts {
                    // Less than none.
                    let result = ids.read(&way("x", u32::MAX));
                    let is_bare = dialect.bare_commands && result.is_ok();
                    assert!(is_bare || result.err() == Some(Malformed::BadValue));
                }
            }
            let ack = write_chat_ack(&dialect, 300);
            assert_eq!(ack.is_some(), counts, "{}", dialect.release());
            if let Some(ack) = ack {
                assert_eq!(ack[1..], [0xac, 0x02]);
            }
        }
    }

    #[test]
    fn signatures_are_told() {
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            let Some(id) = dialect
                .id(play_serverbound::CHAT_COMMAND_SIGNED)
                .or_else(|| dialect.id(play_serverbound::CHAT_COMMAND).filter(|_| !dialect.bare_commands))
            else {
                continue;
            };
            let mut writer = Writer::packet(id);
            writer.string("pin 4821").i64(1).i64(2).count(1).string("words");
            match dialect.speech {
                SpeechForm::Counted => writer.raw(&[7; 256]).varint(5).raw(&[0; 3]),
                SpeechForm::CountedChecksum => writer.raw(&[7; 256]).varint(5).raw(&[0; 4]),
                SpeechForm::LastSeen => writer.bytes(&[7; 256]).bool(false).count(0).bool(false),
                _ => writer.bytes(&[7; 256]).bool(false),
            };
            let Spoken::Command(typed) = ids.read(&writer.finish()).unwrap().spoken else {
                panic!("no command")
            };
            // A chain there is since 1.19.1.
            assert_eq!(typed.signed, dialect.speech != SpeechForm::Alone);
        }
    }

    #[test]
    fn hostile_lengths_end_where_the_bytes_end() {
        const HUGE: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];
        const NEGATIVE: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
        for dialect in releases() {
            let ids = SpeechIds::of(&dialect);
            let chat = dialect.id(play_serverbound::CHAT_MESSAGE).unwrap();
            for length in [HUGE, NEGATIVE] {
                let packet = Writer::packet(chat).raw(&length).raw(b"/pin 4821").finish();
                assert_eq!(ids.read(&packet).err(), Some(Malformed::LengthOutOfRange));
                // For the backend to judge.
                assert_eq!(ids.concerns_pins(&packet), Ok(false));
            }
            // More bytes than there are.
            let packet = Writer::packet(chat).raw(b"\x7f/pin 4821").finish();
            assert_eq!(ids.read(&packet).err(), Some(Malformed::Truncated));
            // Not UTF-8.
            let packet = Writer::packet(chat).raw(b"\x0a/pin \xff4821").finish();
            assert_eq!(ids.read(&packet).err(), Some(Malformed::NotUtf8));
            assert_eq!(ids.concerns_pins(&packet), Ok(true), "its name stands before that");
            let packet = Writer::packet(chat).raw(b"\x05/pin\xff").finish();
            assert_eq!(ids.concerns_pins(&packet), Ok(false));
            // Too many things that are signed or seen.
            if dialect.speech != SpeechForm::Bare && !dialect.bare_commands {
                let command = dialect.id(play_serverbound::CHAT_COMMAND).unwrap();
                for count in [&[9][..], &HUGE, &NEGATIVE] {
                    let mut writer = Writer::packet(command);
                    let packet = writer.string("pin 1").i64(0).i64(0).raw(count).raw(&[0; 4000]).finish();
                    assert_eq!(ids.read(&packet).err(), Some(Malformed::LengthOutOfRange));
                }
            }
            assert_eq!(ids.concerns_pins(&[]), Err(Malformed::Truncated));
            assert_eq!(ids.concerns_pins(&[0x80; 5]), Ok(false));
            assert!(ids.read(&[]).is_err());
            assert_eq!(ids.read(&[0x7e, 0]).err(), Some(Malformed::UnexpectedPacket(0x7e)));
        }
    }

    #[test]
    fn codes_are_in_no_debug_output() {
        let dialect = Dialect::newest();
        let ids = SpeechIds::of(&dialect);
        for (slash, way) in ways(&dialect) {
            let speech = ids.read(&way(if slash { "/pin 4821" } else { "pin 4821" }, 0)).unwrap();
            let shown = format!("{speech:?}");
            assert!(shown.contains("Pin") && !shown.contains("4821"), "{shown}");
        }
    }
}
