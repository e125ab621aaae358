//! The first bytes of a packet, compressed or not.

use flate2::{Decompress, FlushDecompress, Status};

use super::workshop::{BUFFER, Shelf};
use crate::protocol::{
    pin_command::SpeechIds,
    quarantine::Quarantine,
    reader::{Malformed, peek_varint},
};

/// Bytes of a packet that tell its id.
pub(super) const ID: usize = 5;

/// Bytes of a plugin message that are looked at: an id and the length of a channel at five bytes each, and
/// [`CHANNEL`](super::course::CHANNEL) bytes of the channel.
pub(super) const HEAD: usize = 10 + super::course::CHANNEL;

/// Most bytes of a client's packet that are ever looked at.
pub(super) const LONGEST_UP: usize = longest(&[HEAD, SpeechIds::LOOK, Quarantine::LOOK_UP]);

/// Most bytes of any packet that are ever looked at.
pub(super) const LONGEST: usize = longest(&[LONGEST_UP, Quarantine::LOOK]);

/// Compressed bytes looked at for a head, beyond the head's own length. A dynamic Huffman table takes less than 300, so
/// a frame that tells less than the head by then was made to hide it.
const INFLATE_LIMIT: usize = 1024;

// A head that is awaited must fit into the buffer, with the lengths before it.
const _: () = assert!(LONGEST + INFLATE_LIMIT + 8 < BUFFER);

/// How much of a packet to look at once so many bytes do not tell; `None` if there is no more that would. Step by step:
/// few packets need all that is ever looked at, and who sends such on purpose must not be served at any price.
pub(super) fn more(want: usize, packet: usize, longest: usize) -> Option<usize> {
    (want < packet.min(longest)).then(|| (4 * want).min(longest))
}

const fn longest(lengths: &[usize]) -> usize {
    let mut longest = 0;
    let mut rest = lengths;
    while let [first, others @ ..] = rest {
        if *first > longest {
            longest = *first;
        }
        rest = others;
    }
    longest
}

/// Compressed bytes inflated at once: the rest of a frame is not ours to inflate, and this many mostly hold the head.
const PIECE: usize = 128;

/// What is there of one frame's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    /// Length of the packet, as the frame states it.
    pub packet: usize,
    /// Whether it is compressed.
    pub deflated: bool,
    body: &'a [u8],
    whole: bool,
}

impl<'a> Content<'a> {
    /// Looks at a content of `len` bytes, of which the first are there. `None` if they do not tell enough.
    pub(super) fn of(there: &'a [u8], len: usize, compression: bool) -> Result<Option<Self>, Malformed> {
        let there = there.get(..len).unwrap_or(there);
        let whole = there.len() == len;
        if !compression {
            let content = Self { packet: len, body: there, whole, deflated: false };
            return Ok((whole || !there.is_empty()).then_some(content));
        }
        match peek_varint(there, 5)? {
            None if whole => Err(Malformed::Truncated),
            None => Ok(None),
            Some((stated, prefix)) => {
                let body = there.get(prefix..).unwrap_or_default();
                let stated = usize::try_from(stated).map_err(|_| Malformed::LengthOutOfRange)?;
                let deflated = stated != 0;
                let packet = if deflated { stated } else { len.saturating_sub(prefix) };
                Ok((whole || !body.is_empty()).then_some(Self { packet, deflated, body, whole }))
            }
        }
    }

    /// The first byte of a packet that is not compressed. Such a one is there, unless the packet is empty.
    pub(super) fn first(&self) -> Option<u8> {
        self.body.first().copied().filter(|_| !self.deflated)
    }
}

/// Finds the heads of the packets of one direction, one after the other.
#[derive(Debug, Default)]
pub(super) struct Opener {
    // Borrowed until the head of the frame at hand is known.
    inflater: Option<Box<Inflater>>,
}

/// Inflates the beginnings of frames.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    head: [u8; LONGEST],
    made: usize,
    fed: usize,
    ended: bool,
}

impl Opener {
    /// The first bytes of the packet as far as they can be known, `want` or more if the packet has them, and whether more
    /// of these can become known once more of the frame is there. To be called with the same frame until
    /// [`close`](Self::close).
    pub(super) fn head<'a>(
        &'a mut self,
        content: &Content<'a>,
        want: usize,
        inflaters: &Shelf<Inflater>,
    ) -> Result<(&'a [u8], bool), Malformed> {
        if !content.deflated {
            return Ok((content.body, !content.whole));
        }
        let want = content.packet.min(want).min(LONGEST);
        let limit = want + INFLATE_LIMIT;
        let inflater = self.inflater.get_or_insert_with(|| inflaters.take());
        inflater.feed(content.body, want, limit)?;
        let all = inflater.ended
            || inflater.made >= want
            || inflater.fed >= limit
            || (content.whole && inflater.fed >= content.body.len());
        Ok((inflater.head.get(..inflater.made).unwrap_or_default(), !all))
    }

    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.inflater.is_some()
    }

    /// Done with this frame.
    pub(super) fn close(&mut self, inflaters: &Shelf<Inflater>) {
        if let Some(mut inflater) = self.inflater.take() {
            inflater.restart();
            inflaters.put(inflater);
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(true), head: [0; LONGEST], made: 0, fed: 0, ended: false }
    }
}

impl Inflater {
    fn restart(&mut self) {
        if self.fed > 0 {
            self.stream.reset(true);
            (self.made, self.fed, self.ended) = (0, 0, false);
        }
    }

    /// Inflates until `want` bytes are made, or `limit` fed. What was fed of `body` before is not fed again.
    fn feed(&mut self, body: &[u8], want: usize, limit: usize) -> Result<(), Malformed> {
        let end = body.len().min(limit);
        // What was fed last may hold more than there was room for: an empty piece gets it out.
        while self.made < want && !self.ended {
            let piece = body.get(self.fed..end.min(self.fed + PIECE)).unwrap_or_default();
            let room = self.head.get_mut(self.made..want).unwrap_or_default();
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(piece, room, FlushDecompress::None)
                .map_err(|_| Malformed::BadCompression)?;
            // Both are at most the length of a slice.
            let fed = usize::try_from(self.stream.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(self.stream.total_out() - before_out).unwrap_or(usize::MAX);
            self.fed += fed;
            self.made += made;
            self.ended = status == Status::StreamEnd;
            if fed == 0 && made == 0 && !self.ended {
                if piece.is_empty() {
                    break;
                }
                return Err(Malformed::BadCompression);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::{Compression, bufread::ZlibEncoder};

    use super::*;
    use crate::{protocol::frame, relay::workshop::Workshop};

    fn content(packet: &[u8], threshold: usize) -> Vec<u8> {
        let mut framed = Vec::new();
        frame::put_frame(&mut framed, packet, Some(threshold));
        let header = frame::header(&framed).unwrap().unwrap();
        framed.split_off(header.prefix)
    }

    #[test]
    fn heads_byte_by_byte() {
        let shelf = &Workshop::default().inflaters;
        let packet: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for threshold in [1, 10_000] {
            let content = content(&packet, threshold);
            let mut opener = Opener::default();
            for round in 0..2 {
                let mut longest = 0;
                for there in 1..=content.len() {
                    let Some(seen) = Content::of(&content[..there], content.len(), true).unwrap() else {
                        continue;
                    };
                    assert_eq!(seen.packet, 5000);
                    let (head, more) = opener.head(&seen, HEAD, shelf).unwrap();
                    assert!(packet.starts_with(head), "round {round}");
                    assert!(head.len() >= longest);
                    longest = head.len();
                    assert!(more || longest >= HEAD);
                }
                assert!(longest >= HEAD);
                opener.close(shelf);
            }
        }
    }

    #[test]
    fn more_of_a_head_once_its_beginning_is_known() {
        let shelf = &Workshop::default().inflaters;
        // All of it is fed at once, and inflates to more than is wanted first.
        let packet = [&[5][..], &[7; 900]].concat();
        let mut content = vec![0x85, 0x07];
        ZlibEncoder::new(&packet[..], Compression::best()).read_to_end(&mut content).unwrap();
        assert!(content.len() < PIECE);
        let seen = Content::of(&content, content.len(), true).unwrap().unwrap();
        let mut opener = Opener::default();
        for want in [ID, HEAD, 500, LONGEST] {
            let want_here = want.min(packet.len());
            assert_eq!(opener.head(&seen, want, shelf), Ok((&packet[..want_here], false)));
        }
    }

    #[test]
    fn a_head_ends_with_its_packet() {
        let shelf = &Workshop::default().inflaters;
        let content = content(&[5, 6, 7], 0);
        let seen = Content::of(&content, content.len(), true).unwrap().unwrap();
        assert_eq!(Opener::default().head(&seen, HEAD, shelf), Ok((&[5, 6, 7][..], false)));
        // A frame that states less than it holds: the game stops there.
        let lying = [&[2], &content[1..]].concat();
        let seen = Content::of(&lying, lying.len(), true).unwrap().unwrap();
        assert_eq!(Opener::default().head(&seen, HEAD, shelf), Ok((&[5, 6][..], false)));
    }

    #[test]
    fn a_hidden_head() {
        let shelf = &Workshop::default().inflaters;
        // Stored blocks of length zero: they inflate to nothing.
        let mut content = vec![100, 0x78, 0x9c];
        for _ in 0..1000 {
            content.extend([0, 0, 0, 0xff, 0xff]);
        }
        let mut opener = Opener::default();
        let seen = Content::of(&content[..600], content.len(), true).unwrap().unwrap();
        assert_eq!(opener.head(&seen, HEAD, shelf), Ok((&[][..], true)));
        let seen = Content::of(&content, content.len(), true).unwrap().unwrap();
        assert_eq!(opener.head(&seen, HEAD, shelf), Ok((&[][..], false)));
    }

    #[test]
    fn broken_contents() {
        let shelf = &Workshop::default().inflaters;
        let of = |bytes: &[u8]| Content::of(bytes, bytes.len(), true).map(|_| ());
        assert_eq!(of(&[0x80]), Err(Malformed::Truncated));
        assert_eq!(of(&[0x80; 9]), Err(Malformed::VarIntTooLong));
        assert_eq!(of(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Malformed::LengthOutOfRange));
        let not_zlib = [9, 1, 2, 3, 4, 5];
        let seen = Content::of(&not_zlib, not_zlib.len(), true).unwrap().unwrap();
        assert_eq!(Opener::default().head(&seen, HEAD, shelf), Err(Malformed::BadCompression));
        // A preset dictionary nobody has.
        let preset = [9, 0x78, 0xbb, 1, 2, 3, 4, 5];
        let seen = Content::of(&preset, preset.len(), true).unwrap().unwrap();
        assert_eq!(Opener::default().head(&seen, HEAD, shelf), Err(Malformed::BadCompression));
    }
}
