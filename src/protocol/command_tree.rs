//! The commands about PINs in the command tree that a backend sends (1.13 on), so that the client completes them and does
//! not paint them red.
//!
//! Every known server writes the root of the tree as its first node, and the root's number as the last byte. So only the
//! first node needs to be understood: the nodes of the proxy are added behind all others, and nothing in between is
//! looked at. If the backend has a command of the same name, the game itself merges the two.

use super::{
    ids::play_clientbound,
    pin_command::PinCommand,
    reader::{Malformed, Reader},
    version::{Dialect, ParserForm},
    writer::Writer,
};

/// Kind of a node, in the lowest two bits of its flags: 0 is the root.
const KIND: u8 = 0x03;
const LITERAL: u8 = 0x01;
const ARGUMENT: u8 = 0x02;
/// Flag of a node at which a command can end.
const EXECUTABLE: u8 = 0x04;
/// Flag of a node that names another to go on at.
const REDIRECT: u8 = 0x08;
/// `brigadier:string` among the numbered parsers, in every release that numbers them.
const STRING: i32 = 5;
/// It takes one word.
const ONE_WORD: i32 = 0;
/// What stands for the code while it is typed.
const CODE: &str = "code";
/// Most nodes of a tree. A node takes two bytes at least, so a packet cannot hold more.
const MAX_NODES: usize = 4 << 20;

/// A commands packet with the commands about PINs added. `None` where the dialect has no such packet, or the packet is
/// not as every known server writes it; the client is then to get the original.
pub fn with_pin_commands(dialect: &Dialect, packet: &[u8]) -> Option<Vec<u8>> {
    rewrite(dialect, packet).ok()
}

fn rewrite(dialect: &Dialect, packet: &[u8]) -> Result<Vec<u8>, Malformed> {
    // The number of the root: the first node, so zero. A zero at the end of a longer number would be none that a
    // server writes.
    let [nodes @ .., before, 0] = packet else { return Err(Malformed::BadValue) };
    if before & 0x80 != 0 {
        return Err(Malformed::BadValue);
    }
    let nodes = packet.get(..=nodes.len()).unwrap_or_default();
    let mut reader = Reader::new(nodes);
    let id = reader.varint()?;
    if dialect.id(play_clientbound::COMMANDS) != Some(id) {
        return Err(Malformed::UnexpectedPacket(id));
    }
    let count = reader.count(MAX_NODES)?;
    let flags = reader.u8()?;
    if count == 0 || flags & (KIND | REDIRECT) != 0 {
        return Err(Malformed::BadValue);
    }
    let children = reader.count(count)?;
    let child_numbers = reader.span(|reader| {
        for _ in 0..children {
            reader.count(count - 1)?;
        }
        Ok(())
    })?;
    let others = reader.rest();
    if others.len() < (count - 1) * 2 {
        return Err(Malformed::Truncated);
    }

    let mut writer = Writer::packet(id);
    // The argument comes before those that have it: older clients put the tree together in this order.
    let code = count;
    let literals = [(PinCommand::SetPin, true), (PinCommand::Pin, true), (PinCommand::ResetPin, false)];
    writer.count(count + 1 + literals.len());
    writer.u8(flags).count(children + literals.len()).raw(child_numbers);
    for literal in 1..=literals.len() {
        writer.count(code + literal);
    }
    writer.raw(others);
    writer.u8(ARGUMENT | EXECUTABLE).count(0).string(CODE);
    match dialect.parsers {
        ParserForm::Name => writer.string("brigadier:string"),
        ParserForm::Number => writer.varint(STRING),
    };
    writer.varint(ONE_WORD);
    for (command, has_code) in literals {
        if has_code {
            writer.u8(LITERAL).count(1).count(code);
        } else {
            writer.u8(LITERAL | EXECUTABLE).count(0);
        }
        writer.string(command.name());
    }
    Ok(writer.varint(0).finish())
}
