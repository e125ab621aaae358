//! What only few connections need: those that are, or were, held until their player proved a PIN.

use super::link::Link;
use crate::protocol::{
    ids::{PacketId, play_clientbound, play_serverbound},
    pin_command::SpeechIds,
    play::RelayState,
    player_chat,
    quarantine::{Down, Quarantine, Up},
    reader::{Malformed, Reader},
    version::{Dialect, PlayerChatForm},
};

/// A quarantine, and what is left of it once it is over.
///
/// Client and backend both count the signed chat that the client got, and remember some of it. What was withheld puts
/// them out of step: from there on player chat may reach the client only in a form that neither counts, until both
/// start anew by way of configuration. The other way round, each signed line of the client builds on the one before:
/// once one was left out, the backend throws the player out for the next.
#[derive(Debug)]
pub(super) struct Special {
    /// While it lasts.
    quarantine: Option<Quarantine>,
    speech: SpeechIds,
    player_chat: Option<PacketId>,
    delete_chat: Option<PacketId>,
    /// Whether the client's signed chat builds on what came before.
    chains: bool,
    /// Whether player chat did not reach the client as it was.
    out_of_step: bool,
    /// Whether signed chat of the client did not reach the backend.
    chain_broken: bool,
    /// Signed chat that did not reach the client as it was, and that the backend has not heard of yet.
    withheld: u32,
    /// Whether the backend may hear of it now. With the client's next packet: as if the client had seen it and said so,
    /// and never while the backend is still about to count what it has just sent.
    due: bool,
    /// The signature counted last. A line sent twice in a row counts once.
    last: Vec<u8>,
}

/// What becomes of something a client said that is no PIN command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The backend gets it after all.
    Pass,
    /// It is left out.
    Drop,
    /// It is left out though the client is not held.
    Unsaid,
}

impl Special {
    /// Of a connection that is held.
    pub(super) fn held(dialect: &Dialect) -> Self {
        Self { quarantine: Some(Quarantine::of(dialect)), ..Self::free(dialect) }
    }

    /// Of one that is not.
    pub(super) fn free(dialect: &Dialect) -> Self {
        let counts = dialect.player_chat != PlayerChatForm::Other;
        Self {
            quarantine: None,
            speech: SpeechIds::of(dialect),
            player_chat: dialect.id(play_clientbound::PLAYER_CHAT).filter(|_| counts),
            delete_chat: dialect.id(play_clientbound::DELETE_CHAT).filter(|_| counts),
            chains: dialect.id(play_serverbound::CHAT_ACK).is_some(),
            out_of_step: false,
            chain_broken: false,
            withheld: 0,
            due: false,
            last: Vec::new(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.quarantine.is_some()
    }

    pub(super) fn release(&mut self) {
        self.quarantine = None;
    }

    /// Whether player chat may reach the client only in a form that is not counted.
    pub(super) fn is_out_of_step(&self) -> bool {
        self.out_of_step
    }

    /// Whether nothing is special any more.
    pub(super) fn is_over(&self) -> bool {
        !self.is_held() && !self.out_of_step && !self.chain_broken && self.withheld == 0
    }

    /// Whether anything that the backend sends may matter.
    pub(super) fn watches_backend(&self) -> bool {
        self.is_held() || self.out_of_step
    }

    pub(super) fn acknowledgement_is_due(&self) -> bool {
        self.due
    }

    /// The signed chat that the backend is to hear of.
    pub(super) fn take_acknowledgement(&mut self) -> u32 {
        self.due = false;
        std::mem::take(&mut self.withheld)
    }

    /// Judges a packet of the client.
    pub(super) fn judge_client(&mut self, state: RelayState, head: &[u8]) -> Result<Up, Malformed> {
        self.due = self.withheld > 0;
        if let Some(quarantine) = &self.quarantine {
            return quarantine.lets_up(state, head);
        }
        let id = Reader::new(head).varint()?;
        let is_speech = self.chain_broken && state == RelayState::Play && self.speech.is_speech(id);
        Ok(if is_speech { Up::Speech } else { Up::Pass })
    }

    /// Judges a packet of the backend.
    pub(super) fn judge_backend(
        &mut self,
        state: RelayState,
        id: PacketId,
        head: &[u8],
    ) -> Result<Down, Malformed> {
        let is_player_chat = state == RelayState::Play && self.player_chat == Some(id);
        if let Some(quarantine) = &self.quarantine {
            let down = quarantine.lets_down(state, head)?;
            self.out_of_step |= is_player_chat && down != Down::Pass;
            return Ok(down);
        }
        if !self.out_of_step || state != RelayState::Play {
            return Ok(Down::Pass);
        }
        Ok(if is_player_chat {
            Down::WithholdSigned
        } else if self.delete_chat == Some(id) {
            // It names a line by what both remember, and they do not any more.
            Down::Withhold
        } else {
            Down::Pass
        })
    }

    /// Counts player chat that does not reach the client as it is, if it was signed.
    pub(super) fn withhold(&mut self, dialect: &Dialect, packet: &[u8]) {
        let Ok(Some(signature)) = player_chat::signature(dialect, packet) else { return };
        if self.last != signature {
            self.last.clear();
            self.last.extend_from_slice(signature);
            self.withheld = self.withheld.saturating_add(1);
        }
    }

    /// What becomes of something that the client said.
    pub(super) fn hear(&mut self, signed: bool, link: &Link) -> Said {
        if self.is_held() {
            if signed {
                self.break_chain(link);
            }
            Said::Drop
        } else if self.chain_broken && signed {
            Said::Unsaid
        } else {
            Said::Pass
        }
    }

    /// Signed chat of the client was left out.
    pub(super) fn break_chain(&mut self, link: &Link) {
        if self.chains && !self.chain_broken {
            self.chain_broken = true;
            link.set_out_of_tune(true);
        }
    }

    /// The client will begin a new chain.
    pub(super) fn mend_chain(&mut self, link: &Link) {
        if std::mem::take(&mut self.chain_broken) {
            link.set_out_of_tune(false);
        }
    }

    /// Client and backend start anew.
    pub(super) fn fall_in_step(&mut self) {
        (self.out_of_step, self.withheld, self.due) = (false, 0, false);
        self.last = Vec::new();
    }
}
