//! The dialog that asks for a PIN in the configuration state (1.21.6 on), and its answer.

use secrecy::SecretString;

use super::{
    ids::configuration_clientbound,
    nbt,
    reader::{Malformed, Reader},
    text::Text,
    version::Dialect,
    writer::Writer,
};

/// What the button that hands in the code is called in the client's answer.
const SUBMIT: &str = "postern:pin";
/// The same of the button that leaves.
const LEAVE: &str = "postern:leave";
/// Under this the code stands in the answer.
const CODE: &str = "pin";
/// Longest code that can be typed, in characters.
const MAX_CODE: i32 = 32;
/// Width of the explanation, in the client's own pixels: it wraps seldom, and fits on the smallest window.
const BODY_WIDTH: i32 = 300;
/// Longest payload of an answer that the game reads, in bytes.
const MAX_PAYLOAD: usize = 65536;
/// Longest name of an answer, in UTF-16 units.
const MAX_IDENTIFIER: usize = 32767;

/// What the dialog says.
#[derive(Clone, Copy, Debug)]
pub struct PinDialog<'a> {
    /// Above all.
    pub title: &'a Text,
    /// The explanation, a paragraph each.
    pub body: &'a [Text],
    /// Above the field for the code.
    pub label: &'a Text,
    /// On the button that hands in the code.
    pub submit: &'a Text,
    /// On the button that leaves.
    pub leave: &'a Text,
}

impl PinDialog<'_> {
    /// The dialog as network NBT: one with two buttons, which Escape does not close. Each button closes it, so that the
    /// client can show what comes next, be it the dialog again.
    fn to_nbt(self) -> Vec<u8> {
        let mut out = vec![nbt::COMPOUND];
        nbt::put_string(&mut out, "type", "minecraft:confirmation");
        put_component(&mut out, "title", self.title);
        nbt::put_bool(&mut out, "can_close_with_escape", false);
        nbt::put_bool(&mut out, "pause", false);
        nbt::put_string(&mut out, "after_action", "close");
        nbt::put_compounds(&mut out, "body", self.body.len());
        for paragraph in self.body {
            nbt::put_string(&mut out, "type", "minecraft:plain_message");
            put_component(&mut out, "contents", paragraph);
            nbt::put_int(&mut out, "width", BODY_WIDTH);
            out.push(nbt::END);
        }
        nbt::put_compounds(&mut out, "inputs", 1);
        nbt::put_string(&mut out, "type", "minecraft:text");
        nbt::put_string(&mut out, "key", CODE);
        put_component(&mut out, "label", self.label);
        nbt::put_int(&mut out, "max_length", MAX_CODE);
        out.push(nbt::END);
        put_button(&mut out, "yes", self.submit, SUBMIT);
        put_button(&mut out, "no", self.leave, LEAVE);
        out.push(nbt::END);
        out
    }
}

fn put_component(out: &mut Vec<u8>, name: &str, text: &Text) {
    let component = text.to_nbt();
    // Its first byte is its type, which stands before its name here.
    if let Some((tag, fields)) = component.split_first() {
        nbt::put_name(out, *tag, name);
        out.extend(fields);
    }
}

fn put_button(out: &mut Vec<u8>, name: &str, label: &Text, id: &str) {
    nbt::put_name(out, nbt::COMPOUND, name);
    put_component(out, "label", label);
    nbt::put_name(out, nbt::COMPOUND, "action");
    nbt::put_string(out, "type", "minecraft:dynamic/custom");
    nbt::put_string(out, "id", id);
    out.extend([nbt::END, nbt::END]);
}

/// Writes show dialog for the configuration state; `None` where the client has no dialogs.
pub fn write_show_dialog(dialect: &Dialect, dialog: &PinDialog<'_>) -> Option<Vec<u8>> {
    let id = dialect.id(configuration_clientbound::SHOW_DIALOG)?;
    Some(Writer::packet(id).raw(&dialog.to_nbt()).finish())
}

/// Writes clear dialog for the configuration state; `None` where the client has no dialogs.
pub fn write_clear_dialog(dialect: &Dialect) -> Option<Vec<u8>> {
    dialect.id(configuration_clientbound::CLEAR_DIALOG).map(|id| Writer::packet(id).finish())
}

/// What a player answered to a dialog. Debug does not show the code.
#[derive(Clone, Debug)]
pub enum Click {
    /// It handed in a code.
    Code(SecretString),
    /// It wants to leave.
    Leave,
    /// It answered something that was not asked here.
    Foreign,
}

impl Click {
    /// Reads custom click action, past its id, to its end.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = reader.string(MAX_IDENTIFIER)?;
        // A length with one tag in it; a lone zero is none.
        let payload = reader.bytes(MAX_PAYLOAD)?;
        match id {
            SUBMIT => {
                let code = nbt::string_at(payload, CODE)?.ok_or(Malformed::BadValue)?;
                Ok(Self::Code(SecretString::from(code)))
            }
            LEAVE => Ok(Self::Leave),
            _ => Ok(Self::Foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::{super::configuration::FromClient, *};
    use crate::protocol::{ids::configuration_serverbound, version::ProtocolVersion};

    fn releases() -> impl Iterator<Item = Dialect> {
        Dialect::releases().map(|(version, _)| Dialect::of(version))
    }

    fn click(id: &str, payload: &[u8]) -> Result<Click, Malformed> {
        let dialect = Dialect::newest();
        let packet = dialect.id(configuration_serverbound::CUSTOM_CLICK_ACTION).unwrap();
        let packet = Writer::packet(packet).string(id).bytes(payload).finish();
        match FromClient::read(&packet, &dialect)? {
            FromClient::Click(click) => Ok(click),
            other => panic!("read as {other:?}"),
        }
    }

    #[test]
    fn dialogs_are_there_from_1_21_6_on() {
        let text = Text::plain("x");
        let dialog = PinDialog { title: &text, body: &[], label: &text, submit: &text, leave: &text };
        for dialect in releases() {
            assert_eq!(write_show_dialog(&dialect, &dialog).is_some(), dialect.dialogs);
            assert_eq!(write_clear_dialog(&dialect).is_some(), dialect.dialogs);
        }
        assert!(Dialect::of(ProtocolVersion(771)).dialogs && !Dialect::of(ProtocolVersion(770)).dialogs);
    }

    #[test]
    fn the_dialog_is_pinned() {
        // Written out by hand from the NBT format and the game's description of dialogs.
        let dialog = PinDialog {
            title: &Text::plain("T"),
            body: &[Text::parse("&cB", &[])],
            label: &Text::plain("L"),
            submit: &Text::plain("S"),
            leave: &Text::plain("X"),
        };
        let expected = b"\x0a\
            \x08\x00\x04type\x00\x16minecraft:confirmation\
            \x0a\x00\x05title\x08\x00\x04text\x00\x01T\x00\
            \x01\x00\x15can_close_with_escape\x00\
            \x01\x00\x05pause\x00\
            \x08\x00\x0cafter_action\x00\x05close\
            \x09\x00\x04body\x0a\x00\x00\x00\x01\
                \x08\x00\x04type\x00\x17minecraft:plain_message\
                \x0a\x00\x08contents\x08\x00\x04text\x00\x01B\x08\x00\x05color\x00\x03red\x00\
                \x03\x00\x05width\x00\x00\x01\x2c\
                \x00\
            \x09\x00\x06inputs\x0a\x00\x00\x00\x01\
                \x08\x00\x04type\x00\x0eminecraft:text\
                \x08\x00\x03key\x00\x03pin\
                \x0a\x00\x05label\x08\x00\x04text\x00\x01L\x00\
                \x03\x00\x0amax_length\x00\x00\x00\x20\
                \x00\
            \x0a\x00\x03yes\
                \x0a\x00\x05label\x08\x00\x04text\x00\x01S\x00\
                \x0a\x00\x06action\
                    \x08\x00\x04type\x00\x18minecraft:dynamic/custom\
                    \x08\x00\x02id\x00\x0bpostern:pin\x00\
                \x00\
            \x0a\x00\x02no\
                \x0a\x00\x05label\x08\x00\x04text\x00\x01X\x00\
                \x0a\x00\x06action\
                    \x08\x00\x04type\x00\x18minecraft:dynamic/custom\
                    \x08\x00\x02id\x00\x0dpostern:leave\x00\
                \x00\
            \x00";
        let packet = write_show_dialog(&Dialect::of(ProtocolVersion(771)), &dialog).unwrap();
        assert_eq!(packet, [&b"\x12"[..], expected].concat());
        // After the first code there may be nothing to explain.
        let bare = PinDialog { body: &[], ..dialog };
        let nbt = bare.to_nbt();
        let mut reader = Reader::new(&nbt);
        nbt::skip(&mut reader).unwrap();
        reader.finish().unwrap();
    }

    #[test]
    fn answers() {
        let typed = |text: &[u8]| {
            let len = u16::try_from(text.len()).unwrap().to_be_bytes();
            [b"\x0a\x08\x00\x03pin", &len[..], text, b"\0"].concat()
        };
        for text in ["4821", "", " x ", "€"] {
            match click("postern:pin", &typed(text.as_bytes())) {
                Ok(Click::Code(code)) => assert_eq!(code.expose_secret(), text),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(click("postern:leave", b"\0"), Ok(Click::Leave)));
        assert!(matches!(click("postern:leave", &typed(b"4821")), Ok(Click::Leave)));
        assert!(
            matches!(click("postern:leave", b""), Ok(Click::Leave)),
            "what comes with it does not matter"
        );
        for id in ["postern:other", "minecraft:pin", "pin", "", "postern:pin ", "Postern:pin"] {
            assert!(matches!(click(id, &typed(b"4821")), Ok(Click::Foreign)), "{id}");
        }
        for (payload, why, error) in [
            (&b"\0"[..], "no tag", Malformed::BadValue),
            (b"", "nothing", Malformed::Truncated),
            (b"\x0a\x00", "no code", Malformed::BadValue),
            (b"\x0a\x01\x00\x03pin\x01\x00", "a number", Malformed::BadValue),
            (b"\x08\x00\x044821", "a text without compound", Malformed::BadValue),
            (b"\x0a\x00\x00", "more than one tag", Malformed::LeftOver),
        ] {
            assert_eq!(click("postern:pin", payload).err(), Some(error), "{why}");
        }
    }

    #[test]
    fn answers_are_bounded() {
        let dialect = Dialect::newest();
        let id = dialect.id(configuration_serverbound::CUSTOM_CLICK_ACTION).unwrap();
        let read = |packet: &[u8]| FromClient::read(packet, &dialect).map(drop);
        // The longest payload that the game reads, and one byte more.
        let payload = |len: usize| {
            [
                &b"\x0a\x07\x00\x01x"[..],
                &u32::try_from(len - 10).unwrap().to_be_bytes(),
                &vec![0; len - 10],
                b"\0",
            ]
            .concat()
        };
        let packet = |payload: &[u8]| Writer::packet(id).string("postern:pin").bytes(payload).finish();
        assert_eq!(
            read(&packet(&payload(65536))),
            Err(Malformed::BadValue),
            "read to its end, without a code"
        );
        assert_eq!(read(&packet(&payload(65537))), Err(Malformed::LengthOutOfRange));
        for length in [&b"\xff\xff\xff\xff\x07"[..], b"\xff\xff\xff\xff\x0f"] {
            let packet = Writer::packet(id).string("postern:pin").raw(length).raw(&[0; 40]).finish();
            assert_eq!(read(&packet), Err(Malformed::LengthOutOfRange));
        }
        let whole = packet(b"\x0a\x08\x00\x03pin\x00\x044821\x00");
        assert_eq!(read(&whole), Ok(()));
        for len in 1..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(read(&[&whole[..], b"\0"].concat()), Err(Malformed::LeftOver));
    }

    #[test]
    fn codes_are_in_no_debug_output() {
        let click = click("postern:pin", b"\x0a\x08\x00\x03pin\x00\x044821\x00").unwrap();
        let shown = format!("{:?}", FromClient::Click(click));
        assert!(shown.contains("Code") && !shown.contains("4821"), "{shown}");
    }
}
