//! Server list pings of clients before 1.7, which do not speak in frames.

use super::text::Text;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// A framed connection: go on reading frames.
    Framed,
    /// Not enough to tell. If nothing follows within a moment, it is this ping.
    Maybe(LegacyPing),
    /// A ping.
    Ping(LegacyPing),
    /// A login of a client before 1.7: no packet of two bytes begins a framed connection.
    Login,
}

/// The eras of pings before 1.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyPing {
    /// `FE`: up to 1.3.
    Bare,
    /// `FE 01`, and `FE 01 FA` with more: 1.4 to 1.6.
    Extended,
}

/// Looks at the first bytes. `FE` alone, `FE 01` alone and `FE 01 FA` are pings; `FE 01 00` is a frame of 254 bytes
/// that begins with packet id 0, a long handshake.
pub fn classify(bytes: &[u8]) -> FirstBytes {
    match bytes {
        [0xfe] => FirstBytes::Maybe(LegacyPing::Bare),
        [0xfe, 0x01] => FirstBytes::Maybe(LegacyPing::Extended),
        [0xfe, 0x01, 0xfa, ..] => FirstBytes::Ping(LegacyPing::Extended),
        [0x02, ..] => FirstBytes::Login,
        _ => FirstBytes::Framed,
    }
}

/// The facts a legacy answer shows.
#[derive(Clone, Debug)]
pub struct LegacyAnswer<'a> {
    /// Server version, as shown to clients that do not match.
    pub version: &'a str,
    /// Description; its line breaks become spaces.
    pub description: &'a Text,
    /// Players online.
    pub online: u32,
    /// Player slots.
    pub max: u32,
}

impl LegacyPing {
    /// The whole answer: `FF`, the length in UTF-16 units, the text in UTF-16BE.
    pub fn answer(self, answer: &LegacyAnswer<'_>) -> Vec<u8> {
        // The text is a list whose separator the description must not contain.
        let text = match self {
            // § is the separator: the description goes without colours.
            Self::Bare => {
                let description = one_line(&answer.description.to_plain(), '§');
                format!("{description}§{}§{}", answer.online, answer.max)
            }
            // 127 is a protocol number that no client of that time has: the version is shown, joining is not offered.
            Self::Extended => {
                let description = one_line(&answer.description.to_section_codes(), '\0');
                format!("§1\0{}\0{}\0{description}\0{}\0{}", 127, answer.version, answer.online, answer.max)
            }
        };
        kick(&text)
    }
}

/// The answer to a login of a client before 1.7, whose first byte is 02: a disconnect in its own format.
pub fn kick(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().take(usize::from(u16::MAX)).collect();
    let mut out = vec![0xff];
    out.extend(u16::try_from(units.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    out
}

fn one_line(text: &str, separator: char) -> String {
    text.replace('\n', " ").replace(separator, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_pings_are_pings() {
        use FirstBytes::{Framed, Login, Maybe, Ping};
        use LegacyPing::{Bare, Extended};
        for (bytes, expected) in [
            (&[0xfe][..], Maybe(Bare)),
            (&[0xfe, 0x01], Maybe(Extended)),
            (&[0xfe, 0x01, 0xfa], Ping(Extended)),
            (&[0xfe, 0x01, 0xfa, 0x00, 0x0b], Ping(Extended)),
            (&[0xfe, 0x01, 0x00], Framed),
            (&[0xfe, 0x02], Framed),
            (&[0x02, 0x3d, 0x00], Login),
            (&[0x10, 0x00], Framed),
        ] {
            assert_eq!(classify(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn answers() {
        let description = Text::parse("&aHi\nthere", &[]);
        let answer = LegacyAnswer { version: "1.21", description: &description, online: 3, max: 20 };
        let text = |bytes: Vec<u8>| {
            let units: Vec<u16> = bytes[3..].chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
            assert_eq!(bytes[0], 0xff);
            assert_eq!(usize::from(u16::from_be_bytes([bytes[1], bytes[2]])), units.len());
            String::from_utf16(&units).unwrap()
        };
        assert_eq!(text(LegacyPing::Bare.answer(&answer)), "Hi there§3§20");
        assert_eq!(
            text(LegacyPing::Extended.answer(&answer)),
            "§1\u{0}127\u{0}1.21\u{0}§aHi there\u{0}3\u{0}20"
        );
    }
}
