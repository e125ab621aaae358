//! What is put in the place of a frame that was taken out of its stream.

use super::{
    course::{Errand, Shown},
    exchange::Exchange,
    gates::Fit,
    link::Heard,
    special::Said,
};
use crate::{
    net::conn::Io,
    protocol::{
        command_tree,
        frame::{self, MAX_FRAME, MAX_INFLATED},
        pin_command::{SpeechIds, Spoken, write_chat_ack},
        reader::Malformed,
    },
};

/// The packet in a whole frame. `limit` bounds its length.
fn open(framed: &[u8], threshold: Option<usize>, limit: usize) -> Result<Vec<u8>, Malformed> {
    let header = frame::header(framed)?.ok_or(Malformed::Truncated)?;
    let content = framed.get(header.prefix..).unwrap_or_default();
    match threshold {
        Some(_) => frame::decompress(content, limit),
        None if content.len() > limit => Err(Malformed::FrameTooLarge),
        None => Ok(content.to_vec()),
    }
}

/// A packet as one frame; `None` if there is no frame that could hold it.
fn framed(packet: &[u8], threshold: Option<usize>) -> Option<Vec<u8>> {
    /// Bytes of the longest length.
    const LENGTH: usize = 3;
    let mut framed = Vec::new();
    frame::put_frame(&mut framed, packet, threshold);
    (framed.len() <= LENGTH + MAX_FRAME).then_some(framed)
}

impl<C: Io, B: Io> Exchange<C, B> {
    /// Tells the backend of signed chat that the client did not get.
    pub(super) fn acknowledge_withheld(&mut self) {
        let count = self.course.take_acknowledgement();
        self.acknowledge(count);
    }

    /// Reports chat as seen to the backend, at the place where the client's stream stands.
    fn acknowledge(&mut self, count: u32) {
        if count > 0
            && let Some(packet) = write_chat_ack(&self.link.dialect, count)
        {
            self.up.insert(&packet, self.thresholds.backend());
        }
    }

    /// Puts something in the place of a frame of the client, or nothing. Returns the length of the packet in it.
    pub(super) fn replace_up(&mut self, taken: Vec<u8>) -> Result<usize, Malformed> {
        let (client, backend) = (self.thresholds.client(), self.thresholds.backend());
        let packet = open(&taken, client, MAX_FRAME)?;
        if self.course.taken_up() == Errand::Speech {
            let speech = SpeechIds::of(&self.link.dialect).read(&packet)?;
            let said = match speech.spoken {
                Spoken::Command(typed) => {
                    if typed.signed {
                        self.course.break_chain(&self.link);
                    }
                    self.link.hear(Heard::Command(typed));
                    Said::Drop
                }
                Spoken::Suggestion => Said::Drop,
                Spoken::Other { signed } => self.course.hear(signed, &self.link),
            };
            if said == Said::Unsaid {
                self.link.hear(Heard::Unsaid);
            }
            if said != Said::Pass {
                self.acknowledge(speech.acknowledges);
                return Ok(packet.len());
            }
            if Fit::to_server(client, backend) == Fit::All {
                self.up.insert_frame(taken);
                return Ok(packet.len());
            }
        }
        self.up.insert_frame(framed(&packet, backend).ok_or(Malformed::FrameTooLarge)?);
        Ok(packet.len())
    }

    /// Puts something in the place of a frame of the backend, or nothing. Returns the length of the packet in it.
    pub(super) fn replace_down(&mut self, taken: Vec<u8>) -> Result<usize, Malformed> {
        let (client, backend) = (self.thresholds.client(), self.thresholds.backend());
        let errand = self.course.taken_down();
        let packet = open(&taken, backend, MAX_INFLATED);
        let len = packet.as_ref().map_or(taken.len(), Vec::len);
        match (errand, &packet) {
            (Errand::Tree, Ok(packet)) => {
                let tree = command_tree::with_pin_commands(&self.link.dialect, packet);
                if let Some(ours) = tree.and_then(|tree| framed(&tree, client)) {
                    self.down.insert_frame(ours);
                    return Ok(len);
                }
            }
            (Errand::Chat, Ok(packet)) => {
                if let Shown::Instead(shown) = self.course.withhold(packet, &self.link.dialect) {
                    if let Some(ours) = shown.and_then(|shown| framed(&shown, client)) {
                        self.down.insert_frame(ours);
                    }
                    return Ok(len);
                }
            }
            _ => {}
        }
        let fit = Fit::to_client(backend, client, self.link.dialect.configuration);
        // A tree that is not understood, or cannot be read at all, is the client's to judge.
        let passes = fit == Fit::All && (packet.is_ok() || errand == Errand::Tree);
        self.down.insert_frame(if passes {
            taken
        } else {
            framed(&packet?, client).ok_or(Malformed::FrameTooLarge)?
        });
        Ok(len)
    }
}
