//! What a backend has asked the client through us, and the client has not answered.

use crate::protocol::{login::FromClient, reader::Malformed};

/// Most questions to the client that may be open at once. Forge sends its whole registry that way, one message each.
const MAX_OPEN: usize = 1024;

/// A question of the backend's to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A plugin request, by its message id. A backend may use one twice.
    Plugin(i32),
    /// A cookie request, by its key.
    Cookie(String),
}

/// Questions that the client really got and has not answered.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// In the order they were asked.
    questions: Vec<Question>,
    /// How many of the first ones were overtaken: the client answered one that was asked later. Clients read in order,
    /// and some messages of mods are never answered, so nobody waits for these.
    overtaken: usize,
}

impl Open {
    /// Whether no more may be asked.
    pub(super) fn is_full(&self) -> bool {
        self.questions.len() >= MAX_OPEN
    }

    /// Whether there is none, not even an overtaken one.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Adds one that the client is asked now.
    pub(super) fn add(&mut self, question: Question) {
        self.questions.push(question);
    }

    /// Whether the client owes an answer.
    pub(super) fn is_owed(&self) -> bool {
        self.questions.len() > self.overtaken
    }

    /// Crosses the question off that this answers.
    pub(super) fn close(&mut self, answer: &FromClient<'_>) -> Result<(), Malformed> {
        let asks = |question: &Question| match (question, answer) {
            (Question::Plugin(id), FromClient::PluginResponse(response)) => *id == response.message_id,
            (Question::Cookie(asked), FromClient::CookieResponse { key }) => same_cookie(asked, key),
            _ => false,
        };
        let at = self.questions.iter().position(asks).ok_or(Malformed::BadValue)?;
        self.questions.remove(at);
        self.overtaken = if at < self.overtaken { self.overtaken - 1 } else { at };
        Ok(())
    }

    /// A message id that no open question has.
    pub(super) fn free_id(&self) -> i32 {
        // Among more numbers than there are questions, one is free.
        (0..=i32::MAX).find(|id| !self.questions.contains(&Question::Plugin(*id))).unwrap_or_default()
    }
}

/// Identifiers without a namespace are in `minecraft`; the client answers with the whole one.
fn same_cookie(asked: &str, answered: &str) -> bool {
    let path = |key| str::strip_prefix(key, "minecraft:").unwrap_or(key);
    path(asked) == path(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::login::PluginResponse;

    #[test]
    fn answers_overtake_questions() {
        let mut open = Open::default();
        let answer = |message_id| FromClient::PluginResponse(PluginResponse { message_id, data: None });
        assert!(!open.is_owed());
        open.questions.extend([5, 6, 0, 5].map(Question::Plugin));
        open.questions.push(Question::Cookie("a:b".into()));
        assert!(open.is_owed());
        assert_eq!(open.free_id(), 1);
        open.close(&answer(0)).unwrap();
        assert_eq!((open.overtaken, open.is_owed()), (2, true));
        open.close(&FromClient::CookieResponse { key: "a:b" }).unwrap();
        assert_eq!((open.overtaken, open.is_owed()), (3, false));
        // The first of the two that have this id.
        open.close(&answer(5)).unwrap();
        assert_eq!((open.overtaken, open.questions.len()), (2, 2));
        open.questions.push(Question::Plugin(7));
        assert!(open.is_owed());
        open.close(&answer(6)).unwrap();
        assert_eq!((open.overtaken, open.is_owed()), (1, true));
        for (id, left) in [(7, 1), (5, 0)] {
            open.close(&answer(id)).unwrap();
            assert_eq!((open.overtaken, open.questions.len(), open.is_owed()), (left, left, false));
        }
        assert_eq!(open.close(&answer(5)), Err(Malformed::BadValue));
    }
}
