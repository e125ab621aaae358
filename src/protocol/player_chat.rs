//! Chat of other players as the server passes it on, and how it is shown without its signature.
//!
//! From 1.19.3 on, client and server both remember which signed lines the client got. Once one was left out, every later
//! one would make the client leave, so from then on they are shown as lines that nobody signed.

use sha2::{Digest, Sha256};

use super::{
    ids::{PacketId, play_clientbound},
    nbt,
    reader::{Malformed, Reader},
    text::Text,
    version::{Dialect, PlayerChatForm, TextForm},
    writer::Writer,
};

/// Bytes of a signature.
const SIGNATURE: usize = 256;
/// Longest signature where its length stands before it, in bytes.
const MAX_SIGNATURE: usize = 4096;
/// Longest line, in UTF-16 units.
const MAX_MESSAGE: usize = 256;
/// Longest component as JSON, in UTF-16 units.
const MAX_JSON: usize = 262_144;
/// Most lines of others that a line names as seen.
const MAX_SEEN: usize = 20;
/// Most things in a chat type that stands in the packet itself; the game's have three.
const MAX_PARAMETERS: usize = 64;
/// Longest text of a chat type, in UTF-16 units.
const MAX_STRING: usize = 32767;

/// Whether a player chat packet, of which the first bytes are there from its id on, is signed. Never where signed
/// lines are not counted.
///
/// # Errors
/// [`Malformed::Truncated`] if it takes more of the packet, at most 32 bytes; or it is no player chat.
pub fn is_signed(dialect: &Dialect, head: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(head);
    let id = reader.varint()?;
    if dialect.id(play_clientbound::PLAYER_CHAT) != Some(id) {
        return Err(Malformed::UnexpectedPacket(id));
    }
    if dialect.player_chat == PlayerChatForm::Other {
        return Ok(false);
    }
    read_sender(dialect.player_chat, &mut reader)?;
    reader.bool()
}

/// The signature of a player chat packet, from its id on; `None` if it has none. Nothing behind it is looked at.
///
/// # Errors
/// It is no player chat of a release whose signed lines are counted, or it ends too early.
pub fn signature<'a>(dialect: &Dialect, packet: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut reader = Reader::new(packet);
    let id = reader.varint()?;
    if dialect.id(play_clientbound::PLAYER_CHAT) != Some(id) || dialect.player_chat == PlayerChatForm::Other {
        return Err(Malformed::UnexpectedPacket(id));
    }
    read_sender(dialect.player_chat, &mut reader)?;
    reader.option(|reader| reader.fixed(SIGNATURE))
}

/// Player chat as disguised chat: the same line by the same name in the same way, but signed by nobody. `None` where
/// the dialect has no such thing, where the packet is none that the game would read, and for a line that the server
/// says this player is not to see.
pub fn disguise(dialect: &Dialect, packet: &[u8]) -> Option<Vec<u8>> {
    let id = dialect.id(play_clientbound::DISGUISED_CHAT)?;
    read(dialect, packet).ok()?.disguised(dialect, id)
}

/// What stands in for player chat that this client is not to see, in 1.19.1 and 1.19.2: each signature of a player covers
/// the one before, so a client that misses a line takes the next one for forged, and leaves. The header has the
/// signatures and a hash in place of the words. `None` where the dialect has no such thing, for what nobody signed, and
/// for words that the backend has decorated: their hash is over the backend's own spelling of them.
pub fn header(dialect: &Dialect, packet: &[u8]) -> Option<Vec<u8>> {
    let id = dialect.id(play_clientbound::PLAYER_CHAT_HEADER).filter(|_| dialect.chat_headers)?;
    read_header(dialect, packet, id).ok()?
}

fn read_header(dialect: &Dialect, packet: &[u8], id: PacketId) -> Result<Option<Vec<u8>>, Malformed> {
    /// What stands between the parts that are hashed.
    const SEPARATOR: [u8; 1] = [70];
    let mut reader = Reader::new(packet);
    let own = reader.varint()?;
    if dialect.id(play_clientbound::PLAYER_CHAT) != Some(own) {
        return Err(Malformed::UnexpectedPacket(own));
    }
    let mut is_signed = false;
    // The same at the start of both packets: the signature before, who said it, and the signature.
    let start = reader.span(|reader| {
        reader.option(|reader| reader.bytes(MAX_SIGNATURE))?;
        reader.uuid()?;
        is_signed = !reader.bytes(MAX_SIGNATURE)?.is_empty();
        Ok(())
    })?;
    let message = reader.string(MAX_MESSAGE)?;
    let is_decorated = reader.option(|reader| reader.string(MAX_JSON))?.is_some();
    if !is_signed || is_decorated {
        return Ok(None);
    }
    let (milliseconds, salt) = (reader.i64()?, reader.i64()?);
    let mut hash = Sha256::new()
        .chain_update(salt.to_be_bytes())
        .chain_update(milliseconds.div_euclid(1000).to_be_bytes())
        .chain_update(message)
        .chain_update(SEPARATOR);
    for _ in 0..reader.count(MAX_SEEN)? {
        hash.update(SEPARATOR);
        hash.update(reader.uuid()?.as_bytes());
        hash.update(reader.bytes(MAX_SIGNATURE)?);
    }
    Ok(Some(Writer::packet(id).raw(start).bytes(&hash.finalize()).finish()))
}

/// The parts of a player chat packet that are shown.
struct Line<'a> {
    message: &'a str,
    unsigned: Option<&'a [u8]>,
    filter: Filter<'a>,
    /// Chat type, name, and who it goes to: as disguised chat has them too.
    shown: &'a [u8],
}

/// What of a line this player is not to see.
enum Filter<'a> {
    Nothing,
    All,
    /// The characters whose bit is set, the lowest bit first.
    Some(Bits<'a>),
}

/// A set of bits.
enum Bits<'a> {
    /// In words of eight bytes, big endian.
    Words(&'a [u8]),
    /// In bytes.
    Bytes(&'a [u8]),
}

impl Bits<'_> {
    fn has(&self, at: usize) -> bool {
        let byte = match self {
            Self::Words(words) => words.get(at / 64 * 8 + 7 - at % 64 / 8),
            Self::Bytes(bytes) => bytes.get(at / 8),
        };
        byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }
}

fn read<'a>(dialect: &Dialect, packet: &'a [u8]) -> Result<Line<'a>, Malformed> {
    let form = dialect.player_chat;
    let mut reader = Reader::new(packet);
    let id = reader.varint()?;
    if dialect.id(play_clientbound::PLAYER_CHAT) != Some(id) || form == PlayerChatForm::Other {
        return Err(Malformed::UnexpectedPacket(id));
    }
    read_sender(form, &mut reader)?;
    reader.option(|reader| reader.fixed(SIGNATURE))?;
    let message = reader.string(MAX_MESSAGE)?;
    // Time and salt.
    reader.fixed(16)?;
    for _ in 0..reader.count(MAX_SEEN)? {
        // A number from the memory that both have, or the signature itself.
        if reader.varint()? == 0 {
            reader.fixed(SIGNATURE)?;
        }
    }
    let component = |reader: &mut Reader<'_>| skip_component(dialect, reader);
    let unsigned = reader.option(|reader| reader.span(component))?;
    let filter = match reader.varint()? {
        0 => Filter::Nothing,
        1 => Filter::All,
        2 => {
            // No more of them than a line of the greatest length needs.
            Filter::Some(if form == PlayerChatForm::NumberedBytes {
                Bits::Bytes(reader.bytes(MAX_MESSAGE / 8)?)
            } else {
                let words = reader.count(MAX_MESSAGE / 64)?;
                Bits::Words(reader.fixed(words * 8)?)
            })
        }
        _ => return Err(Malformed::BadValue),
    };
    let shown = reader.span(|reader| {
        skip_type(dialect, reader)?;
        component(reader)?;
        reader.option(component).map(|_| ())
    })?;
    reader.finish()?;
    Ok(Line { message, unsigned, filter, shown })
}

impl Line<'_> {
    fn disguised(&self, dialect: &Dialect, id: PacketId) -> Option<Vec<u8>> {
        let mut writer = Writer::packet(id);
        match (&self.filter, self.unsigned) {
            (Filter::All, _) => return None,
            (Filter::Nothing, Some(unsigned)) => {
                writer.raw(unsigned);
            }
            (Filter::Nothing, None) => Text::plain(self.message).write(dialect, &mut writer),
            // The words of the line itself, as the client does it.
            (Filter::Some(bits), _) => Text::plain(&masked(self.message, bits)).write(dialect, &mut writer),
        }
        Some(writer.raw(self.shown).finish())
    }
}

/// The message with a `#` for every UTF-16 unit whose bit is set.
fn masked(message: &str, bits: &Bits<'_>) -> String {
    let mask = |(at, unit)| if bits.has(at) { u16::from(b'#') } else { unit };
    let units: Vec<u16> = message.encode_utf16().enumerate().map(mask).collect();
    String::from_utf16_lossy(&units)
}

/// Reads what stands before the signature: numbers, and the id of who said it.
fn read_sender(form: PlayerChatForm, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if matches!(form, PlayerChatForm::Numbered | PlayerChatForm::NumberedBytes) {
        reader.varint()?;
    }
    reader.uuid()?;
    reader.varint().map(|_| ())
}

fn skip_component(dialect: &Dialect, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match dialect.text {
        TextForm::Json => reader.string(MAX_JSON).map(|_| ()),
        TextForm::Nbt => nbt::skip(reader),
    }
}

fn skip_type(dialect: &Dialect, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let number = reader.varint()?;
    if dialect.player_chat == PlayerChatForm::TypeNumber || number != 0 {
        return Ok(());
    }
    // The type itself: how it is shown, and how it is read aloud.
    for _ in 0..2 {
        reader.string(MAX_STRING)?;
        for _ in 0..reader.count(MAX_PARAMETERS)? {
            reader.varint()?;
        }
        nbt::skip(reader)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::version::ProtocolVersion;

    /// A signed line of 1.20.4 up to what stands behind the salt.
    fn start(dialect: &Dialect) -> Writer {
        let mut writer = Writer::packet(dialect.id(play_clientbound::PLAYER_CHAT).unwrap());
        writer.raw(&[7; 16]).varint(0).bool(true).raw(&[8; 256]).string("hi").i64(1).i64(2);
        writer
    }

    const NAME: &[u8] = b"\x08\x00\x05Notch";

    #[test]
    fn hostile_counts() {
        let dialect = Dialect::of(ProtocolVersion(765));
        let whole = start(&dialect).raw(b"\0\0\0\0").raw(NAME).raw(b"\0").finish();
        let disguised = disguise(&dialect, &whole).unwrap();
        assert_eq!(disguised, [&b"\x1c\x0a\x08\x00\x04text\x00\x02hi\x00\x00"[..], NAME, b"\0"].concat());
        assert_eq!(disguise(&dialect, &[&whole[..], b"\0"].concat()), None, "something behind it");
        let huge = b"\xff\xff\xff\xff\x07";
        for (tail, why) in [
            (&b"\x15"[..], "21 lines seen"),
            (huge, "more lines seen than there are"),
            (b"\x01\0", "a signature that is not there"),
            (b"\0\0\x03", "no such filter"),
            (b"\0\0\x02\x05", "more hidden than a line is long"),
            (&[&b"\0\0\x02"[..], huge].concat(), "much more hidden"),
            (b"\0\x01\x09\x08\x7f\xff\xff\xff", "a list without end for a text"),
        ] {
            assert_eq!(disguise(&dialect, &start(&dialect).raw(tail).finish()), None, "{why}");
        }
        // In 1.21.1 a type may stand in the packet itself.
        let dialect = Dialect::of(ProtocolVersion(767));
        for (kind, why) in [
            (&[&b"\0\0\0\0\x01x"[..], huge].concat()[..], "parameters without end"),
            (b"\0\0\0\0\x01x\x41", "more parameters than there are"),
        ] {
            assert_eq!(disguise(&dialect, &start(&dialect).raw(kind).finish()), None, "{why}");
        }
    }

    #[test]
    fn only_where_lines_are_counted() {
        for (version, _) in Dialect::releases() {
            let dialect = Dialect::of(version);
            let counts = dialect.player_chat != PlayerChatForm::Other;
            assert_eq!(counts, dialect.id(play_clientbound::DISGUISED_CHAT).is_some(), "{version}");
            let Some(id) = dialect.id(play_clientbound::PLAYER_CHAT) else { continue };
            let packet = Writer::packet(id).raw(&[1; 64]).finish();
            assert!(signature(&dialect, &packet).is_err(), "{version}");
            assert_eq!(is_signed(&dialect, &packet), Ok(counts), "{version}");
            assert_eq!(is_signed(&dialect, &[0x7e]), Err(Malformed::UnexpectedPacket(0x7e)));
            assert_eq!(disguise(&dialect, &packet), None);
        }
        assert!(is_signed(&Dialect::of(ProtocolVersion(340)), &[0]).is_err());
    }
}
