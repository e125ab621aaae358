//! NBT as packets carry it since 1.20.2: the root has a type and no name. A writer for the few tags the proxy makes,
//! and a reader that is bounded by the bytes that are there.

use serde_json::Value;

use super::reader::{Malformed, Reader};

pub(super) const END: u8 = 0;
pub(super) const BYTE: u8 = 1;
const SHORT: u8 = 2;
pub(super) const INT: u8 = 3;
const LONG: u8 = 4;
const FLOAT: u8 = 5;
const DOUBLE: u8 = 6;
const BYTE_ARRAY: u8 = 7;
pub(super) const STRING: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const COMPOUND: u8 = 10;
const INT_ARRAY: u8 = 11;
const LONG_ARRAY: u8 = 12;

/// Lists and compounds within each other in what a server sends: as many as the game itself reads.
const DEPTH_OF_SERVERS: u32 = 512;

/// The same in what a client sends, where the game reads no more either.
const DEPTH_OF_CLIENTS: u32 = 16;

/// Passes over one tag of a backend: its type and what it holds. A lone zero, "no tag", is one too.
///
/// # Errors
/// The bytes end before the tag does, a length is impossible, or the tag is nested deeper than the game reads.
pub fn skip(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let tag = reader.u8()?;
    skip_payload(reader, tag, DEPTH_OF_SERVERS)
}

/// The text under a key of the compound that a client sent. `None` if the compound has no such key; of a key that
/// stands there twice the last one counts, as in the game.
///
/// # Errors
/// The bytes are not one whole compound nested at most 16 deep, what stands under the key is no text, or its text is
/// not Java's modified UTF-8.
pub fn string_at(nbt: &[u8], key: &str) -> Result<Option<String>, Malformed> {
    let mut reader = Reader::new(nbt);
    if reader.u8()? != COMPOUND {
        return Err(Malformed::BadValue);
    }
    let mut found = None;
    loop {
        let tag = reader.u8()?;
        if tag == END {
            break;
        }
        let name = reader.short_bytes(usize::from(u16::MAX))?;
        if name != key.as_bytes() {
            skip_payload(&mut reader, tag, DEPTH_OF_CLIENTS - 1)?;
        } else if tag == STRING {
            found = Some(Ok(reader.short_bytes(usize::from(u16::MAX))?));
        } else {
            skip_payload(&mut reader, tag, DEPTH_OF_CLIENTS - 1)?;
            found = Some(Err(Malformed::BadValue));
        }
    }
    reader.finish()?;
    found.transpose()?.map(decode).transpose()
}

/// Passes over what a tag of this type holds; it may have `depth` lists and compounds within each other.
fn skip_payload(reader: &mut Reader<'_>, tag: u8, depth: u32) -> Result<(), Malformed> {
    match tag {
        END => {}
        BYTE | SHORT | INT | FLOAT | LONG | DOUBLE => {
            reader.fixed(size_of(tag))?;
        }
        BYTE_ARRAY => skip_items(reader, 1)?,
        INT_ARRAY => skip_items(reader, 4)?,
        LONG_ARRAY => skip_items(reader, 8)?,
        STRING => {
            reader.short_bytes(usize::from(u16::MAX))?;
        }
        LIST => {
            let depth = depth.checked_sub(1).ok_or(Malformed::BadValue)?;
            let item = reader.u8()?;
            match size_of(item) {
                0 => {
                    let count = length(reader)?;
                    if item == END && count > 0 {
                        return Err(Malformed::BadValue);
                    }
                    // Each of these takes at least one byte: the count ends with the bytes, whatever it says.
                    for _ in 0..count {
                        skip_payload(reader, item, depth)?;
                    }
                }
                size => skip_items(reader, size)?,
            }
        }
        COMPOUND => {
            let depth = depth.checked_sub(1).ok_or(Malformed::BadValue)?;
            loop {
                let tag = reader.u8()?;
                if tag == END {
                    break;
                }
                reader.short_bytes(usize::from(u16::MAX))?;
                skip_payload(reader, tag, depth)?;
            }
        }
        _ => return Err(Malformed::BadValue),
    }
    Ok(())
}

/// Bytes of a number; 0 for all else.
fn size_of(tag: u8) -> usize {
    match tag {
        BYTE => 1,
        SHORT => 2,
        INT | FLOAT => 4,
        LONG | DOUBLE => 8,
        _ => 0,
    }
}

/// A length of four bytes.
fn length(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    let length = reader.i32()?;
    usize::try_from(length).map_err(|_| Malformed::LengthOutOfRange)
}

/// Passes over a length and so many things of `size` bytes.
fn skip_items(reader: &mut Reader<'_>, size: usize) -> Result<(), Malformed> {
    let bytes = length(reader)?.checked_mul(size).ok_or(Malformed::LengthOutOfRange)?;
    reader.fixed(bytes).map(|_| ())
}

/// Java's modified UTF-8 as Java reads it: UTF-16 units of one to three bytes each. Two surrogates that belong
/// together are a character, a lone one is none.
fn decode(bytes: &[u8]) -> Result<String, Malformed> {
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().map(u16::from);
    while let Some(first) = rest.next() {
        let mut next = || match rest.next() {
            Some(byte) if byte & 0xc0 == 0x80 => Ok(byte & 0x3f),
            _ => Err(Malformed::NotUtf8),
        };
        units.push(match first {
            0..=0x7f => first,
            0xc0..=0xdf => (first & 0x1f) << 6 | next()?,
            0xe0..=0xef => (first & 0x0f) << 12 | next()? << 6 | next()?,
            _ => return Err(Malformed::NotUtf8),
        });
    }
    String::from_utf16(&units).map_err(|_| Malformed::NotUtf8)
}

/// Writes the type and the name of a tag within a compound.
pub(super) fn put_name(out: &mut Vec<u8>, tag: u8, name: &str) {
    out.push(tag);
    put_text(out, name);
}

/// Writes a text within a compound.
pub(super) fn put_string(out: &mut Vec<u8>, name: &str, value: &str) {
    put_name(out, STRING, name);
    put_text(out, value);
}

/// Writes a yes or no within a compound.
pub(super) fn put_bool(out: &mut Vec<u8>, name: &str, value: bool) {
    put_name(out, BYTE, name);
    out.push(u8::from(value));
}

/// Writes a number within a compound.
pub(super) fn put_int(out: &mut Vec<u8>, name: &str, value: i32) {
    put_name(out, INT, name);
    out.extend(value.to_be_bytes());
}

/// Writes a list of compounds within a compound, up to its first item; each item ends with [`END`].
pub(super) fn put_compounds(out: &mut Vec<u8>, name: &str, count: usize) {
    put_name(out, LIST, name);
    out.push(COMPOUND);
    out.extend(i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

/// NBT text is Java's "modified UTF-8": characters beyond U+FFFF are two surrogates of three bytes each, and NUL is
/// two bytes. At most 65535 bytes; longer texts are cut between characters.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        let mut one = Vec::with_capacity(6);
        for unit in c.encode_utf16(&mut [0; 2]) {
            let unit = *unit;
            let low = |shift: u16| 0x80 | ((unit >> shift) & 0x3f) as u8;
            match unit {
                1..=0x7f => one.push((unit & 0x7f) as u8),
                0 | 0x80..=0x7ff => one.extend([0xc0 | ((unit >> 6) & 0x1f) as u8, low(0)]),
                _ => one.extend([0xe0 | (unit >> 12) as u8, low(6), low(0)]),
            }
        }
        if bytes.len() + one.len() > usize::from(u16::MAX) {
            break;
        }
        bytes.extend(one);
    }
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(bytes);
}

/// A text component that is JSON, as NBT with its type before it. The names of its fields are the same in both.
pub(super) fn of_component(component: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match component {
        Value::String(_) | Value::Object(_) => {
            out.push(tag_of(component));
            put_value(&mut out, component);
        }
        // The game takes the first of a list, with the others in it.
        Value::Array(parts) => {
            out.push(COMPOUND);
            put_string(&mut out, "text", "");
            put_name(&mut out, LIST, "extra");
            put_list(&mut out, parts);
            out.push(END);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            out.push(STRING);
            put_text(&mut out, &component.to_string());
        }
    }
    out
}

fn tag_of(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => BYTE,
        Value::Number(number) => match number.as_i64() {
            Some(whole) if i32::try_from(whole).is_ok() => INT,
            Some(_) => LONG,
            None => DOUBLE,
        },
        Value::Null | Value::String(_) => STRING,
        Value::Array(_) => LIST,
        Value::Object(_) => COMPOUND,
    }
}

/// What stands behind type and name.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => put_text(out, ""),
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => match i32::try_from(whole) {
                Ok(short) => out.extend(short.to_be_bytes()),
                Err(_) => out.extend(whole.to_be_bytes()),
            },
            None => out.extend(number.as_f64().unwrap_or_default().to_be_bytes()),
        },
        Value::String(text) => put_text(out, text),
        Value::Array(items) => put_list(out, items),
        Value::Object(fields) => {
            for (name, value) in fields {
                put_name(out, tag_of(value), name);
                put_value(out, value);
            }
            out.push(END);
        }
    }
}

/// A list has one type: where texts stand among components, all of them become components.
fn put_list(out: &mut Vec<u8>, items: &[Value]) {
    let first = items.first().map_or(END, tag_of);
    let uniform = items.iter().all(|item| tag_of(item) == first);
    out.push(if uniform { first } else { COMPOUND });
    out.extend(i32::try_from(items.len()).unwrap_or(i32::MAX).to_be_bytes());
    for item in items {
        match item {
            _ if uniform => put_value(out, item),
            Value::Object(_) => put_value(out, item),
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                put_string(out, "text", &text);
                out.push(END);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every kind of tag in one compound, written out by hand.
    const ALL: &[u8] = b"\x0a\
        \x01\x00\x01a\x01\
        \x02\x00\x01b\x00\x01\
        \x03\x00\x01c\x00\x00\x00\x01\
        \x04\x00\x01d\x00\x00\x00\x00\x00\x00\x00\x01\
        \x05\x00\x01e\x00\x00\x00\x00\
        \x06\x00\x01f\x00\x00\x00\x00\x00\x00\x00\x00\
        \x07\x00\x01g\x00\x00\x00\x02\x01\x02\
        \x08\x00\x01h\x00\x02hi\
        \x09\x00\x01i\x08\x00\x00\x00\x02\x00\x01x\x00\x00\
        \x09\x00\x01j\x00\x00\x00\x00\x00\
        \x09\x00\x01k\x03\x00\x00\x00\x01\x00\x00\x00\x09\
        \x09\x00\x01l\x0a\x00\x00\x00\x02\x00\x08\x00\x01m\x00\x00\x00\
        \x0a\x00\x01n\x00\
        \x0b\x00\x01o\x00\x00\x00\x01\x00\x00\x00\x01\
        \x0c\x00\x01p\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\
        \x08\x00\x03pin\x00\x044821\
        \x00";

    fn skipped(bytes: &[u8]) -> Result<usize, Malformed> {
        let mut reader = Reader::new(bytes);
        skip(&mut reader)?;
        Ok(bytes.len() - reader.rest().len())
    }

    #[test]
    fn every_tag_and_nothing_behind_it() {
        assert_eq!(skipped(ALL), Ok(ALL.len()));
        assert_eq!(skipped(&[ALL, b"more"].concat()), Ok(ALL.len()));
        assert_eq!(string_at(ALL, "pin"), Ok(Some("4821".into())));
        assert_eq!(string_at(ALL, "h"), Ok(Some("hi".into())));
        assert_eq!(string_at(ALL, "code"), Ok(None));
        assert_eq!(string_at(&[ALL, b"\0"].concat(), "pin"), Err(Malformed::LeftOver));
        for len in 0..ALL.len() {
            assert_eq!(skipped(&ALL[..len]), Err(Malformed::Truncated), "{len} bytes");
            assert_eq!(string_at(&ALL[..len], "pin"), Err(Malformed::Truncated), "{len} bytes");
        }
        // Another tag than a compound may be a root, too, and none.
        assert_eq!(skipped(b"\x08\x00\x02hi"), Ok(5));
        assert_eq!(skipped(b"\x00"), Ok(1));
    }

    #[test]
    fn the_compound_is_all_there_is() {
        for (bytes, why) in [
            (&b"\x00"[..], "no tag"),
            (b"\x08\x00\x02hi", "a text"),
            (b"\x09\x00\x00\x00\x00\x00", "a list"),
            (b"\x0d", "no such tag"),
            (b"\xff", "no such tag"),
        ] {
            assert_eq!(string_at(bytes, "pin"), Err(Malformed::BadValue), "{why}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_or_holds_something_else() {
        let twice = b"\x0a\x08\x00\x03pin\x00\x01a\x08\x00\x03pin\x00\x01b\x00";
        assert_eq!(string_at(twice, "pin"), Ok(Some("b".into())));
        let number = b"\x0a\x03\x00\x03pin\x00\x00\x12\xd5\x00";
        assert_eq!(string_at(number, "pin"), Err(Malformed::BadValue));
        // The last one counts, whatever stood before.
        let number_first = b"\x0a\x01\x00\x03pin\x01\x08\x00\x03pin\x00\x01b\x00";
        assert_eq!(string_at(number_first, "pin"), Ok(Some("b".into())));
        let text_first = b"\x0a\x08\x00\x03pin\x00\x01b\x01\x00\x03pin\x01\x00";
        assert_eq!(string_at(text_first, "pin"), Err(Malformed::BadValue));
        // One further down is another.
        let inside = b"\x0a\x0a\x00\x01x\x08\x00\x03pin\x00\x01b\x00\x00";
        assert_eq!(string_at(inside, "pin"), Ok(None));
        assert_eq!(string_at(b"\x0a\x08\x00\x00\x00\x01b\x00", ""), Ok(Some("b".into())));
    }

    #[test]
    fn hostile_lengths_take_no_memory() {
        let huge = b"\x7f\xff\xff\xff";
        for tag in [BYTE_ARRAY, INT_ARRAY, LONG_ARRAY] {
            assert_eq!(skipped(&[&[tag], &huge[..]].concat()), Err(Malformed::Truncated));
            assert_eq!(skipped(&[tag, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::LengthOutOfRange));
        }
        for item in BYTE..=LONG_ARRAY {
            assert_eq!(skipped(&[&[LIST, item], &huge[..]].concat()), Err(Malformed::Truncated), "{item}");
            assert_eq!(skipped(&[LIST, item, 0x80, 0, 0, 0]), Err(Malformed::LengthOutOfRange), "{item}");
        }
        // A list of nothing has nothing in it; a type that does not exist is none.
        assert_eq!(skipped(&[&[LIST, END], &huge[..]].concat()), Err(Malformed::BadValue));
        assert_eq!(skipped(&[LIST, 0x0d, 0, 0, 0, 1]), Err(Malformed::BadValue));
        assert_eq!(skipped(b"\x08\xff\xffx"), Err(Malformed::Truncated));
    }

    #[test]
    fn depth_is_bounded() {
        // Lists within each other, an empty one in the middle.
        let lists = |depth: usize| {
            let mut bytes = vec![LIST];
            for _ in 1..depth {
                bytes.extend([LIST, 0, 0, 0, 1]);
            }
            bytes.extend([END, 0, 0, 0, 0]);
            bytes
        };
        assert_eq!(skipped(&lists(512)), Ok(lists(512).len()));
        assert_eq!(skipped(&lists(513)), Err(Malformed::BadValue));
        assert_eq!(skipped(&lists(1_000_000)), Err(Malformed::BadValue));
        let compounds = |depth: usize| {
            let mut bytes = vec![COMPOUND];
            for _ in 1..depth {
                bytes.extend(b"\x0a\x00\x01x");
            }
            bytes.resize(bytes.len() + depth, END);
            bytes
        };
        assert_eq!(string_at(&compounds(16), "pin"), Ok(None));
        assert_eq!(string_at(&compounds(17), "pin"), Err(Malformed::BadValue));
        assert_eq!(skipped(&compounds(512)), Ok(compounds(512).len()));
        assert_eq!(skipped(&compounds(513)), Err(Malformed::BadValue));
    }

    #[test]
    fn modified_utf_8() {
        let at = |text: &[u8]| {
            let len = u16::try_from(text.len()).unwrap().to_be_bytes();
            string_at(&[b"\x0a\x08\x00\x01k", &len[..], text, b"\0"].concat(), "k")
        };
        for (bytes, text) in [
            (&b"4821"[..], "4821"),
            (b"", ""),
            (b"\xc3\xa4\xe2\x82\xac", "ä€"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "😀"),
            (b"a\xc0\x80b", "a\0b"),
            // Longer than needed, as Java reads it.
            (b"\xc1\x81", "A"),
        ] {
            assert_eq!(at(bytes), Ok(Some(text.into())), "{bytes:x?}");
        }
        for (bytes, why) in [
            (&b"\xf0\x9f\x98\x80"[..], "four bytes"),
            (b"\x80", "begins in the middle"),
            (b"\xc3", "cut"),
            (b"\xe2\x82", "cut"),
            (b"\xc3a", "not gone on with"),
            (b"\xed\xa0\xbd", "half of a pair"),
            (b"\xed\xb8\x80\xed\xa0\xbd", "a pair the wrong way round"),
            (b"\xff", "no such byte"),
        ] {
            assert_eq!(at(bytes), Err(Malformed::NotUtf8), "{why}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "4821", "ä€", "😀", "a\0b", "§cNo"] {
            let mut bytes = vec![COMPOUND];
            put_int(&mut bytes, "width", 300);
            put_bool(&mut bytes, "pause", false);
            put_compounds(&mut bytes, "body", 1);
            bytes.push(END);
            put_string(&mut bytes, "pin", text);
            bytes.push(END);
            assert_eq!(string_at(&bytes, "pin"), Ok(Some(text.into())));
        }
        // Longer texts are cut between characters.
        let mut bytes = vec![COMPOUND];
        put_string(&mut bytes, "pin", &"€".repeat(30_000));
        bytes.push(END);
        assert_eq!(string_at(&bytes, "pin"), Ok(Some("€".repeat(21_845))));
    }

    #[test]
    fn components_of_backends() {
        for (component, nbt) in [
            (json!("No."), &b"\x08\x00\x03No."[..]),
            (
                json!({"text": "No.", "bold": true}),
                b"\x0a\x01\x00\x04bold\x01\x08\x00\x04text\x00\x03No.\x00",
            ),
            (
                json!(["a", {"text": "b"}]),
                b"\x0a\x08\x00\x04text\x00\x00\x09\x00\x05extra\x0a\x00\x00\x00\x02\
                  \x08\x00\x04text\x00\x01a\x00\x08\x00\x04text\x00\x01b\x00\x00",
            ),
            (json!({"with": ["x"]}), b"\x0a\x09\x00\x04with\x08\x00\x00\x00\x01\x00\x01x\x00"),
            (json!({"with": []}), b"\x0a\x09\x00\x04with\x00\x00\x00\x00\x00\x00"),
            (json!({"n": -1}), b"\x0a\x03\x00\x01n\xff\xff\xff\xff\x00"),
            (json!(4), b"\x08\x00\x014"),
        ] {
            let made = of_component(&component);
            assert_eq!(made, nbt, "{component}");
            assert_eq!(skipped(&made), Ok(made.len()));
        }
        let long = of_component(&json!({"n": 5_000_000_000_i64, "f": 0.5, "m": [1, "two", {"text": "3"}]}));
        assert_eq!(skipped(&long), Ok(long.len()));
    }
}
