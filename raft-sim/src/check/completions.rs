//! A client's engine brings each request that was submitted to one end, and nothing else to any; it sends only what is
//! awaited, each command under a number of its own; it acknowledges only what it has said the end of; and what it calls
//! done was sent.
//!
//! That a command that is done ran with this answer, and one that is not executed never does, is checked by `sessions`,
//! which knows commands by their numbers. Those are found out here, from what the engine sends: the commands that an
//! engine has under way differ in their bytes.

use std::collections::BTreeMap;

use raft_core::types::{Nonce, Sequence};

use crate::violation::Violation;

/// A request, by the number that its submitter gave it.
pub type RequestNumber = usize;

/// What was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A command of a session.
    Command(Vec<u8>),
    /// A command without a session.
    Plain(Vec<u8>),
    /// What changes nothing.
    Question,
}

/// A request that has not come to its end.
#[derive(Clone, Debug)]
struct Awaited {
    submitted: Submitted,
    sent: bool,
    /// Of a command of a session, once it was sent: by whose nonce, and which.
    key: Option<(Nonce, Sequence)>,
}

/// The requests of one engine.
#[derive(Clone, Debug, Default)]
pub struct Completions {
    awaited: BTreeMap<RequestNumber, Awaited>,
    /// Whose each number is.
    numbers: BTreeMap<(u128, Sequence), RequestNumber>,
}

impl Completions {
    /// How many requests have not come to their ends.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// The requests that have not come to their ends.
    pub fn awaits(&self) -> impl Iterator<Item = RequestNumber> {
        self.awaited.keys().copied()
    }

    /// Whether a command with these bytes is awaited.
    #[must_use]
    pub fn awaits_command(&self, bytes: &[u8]) -> bool {
        self.find(bytes).is_some()
    }

    fn find(&self, bytes: &[u8]) -> Option<RequestNumber> {
        let is_it = |awaited: &Awaited| match &awaited.submitted {
            Submitted::Command(command) | Submitted::Plain(command) => command == bytes,
            Submitted::Question => false,
        };
        self.awaited.iter().find(|(_, awaited)| is_it(awaited)).map(|(number, _)| *number)
    }

    /// A request was taken in.
    pub fn submitted(&mut self, number: RequestNumber, submitted: Submitted) {
        let before = self.awaited.insert(number, Awaited { submitted, sent: false, key: None });
        assert!(before.is_none(), "each request has a number of its own");
    }

    /// The engine sends a command of a session. Returns the request, if it got this number just now.
    ///
    /// # Errors
    /// Nobody awaits it, or not under that number.
    pub fn command_sent(
        &mut self,
        nonce: Nonce,
        sequence: Sequence,
        bytes: &[u8],
    ) -> Result<Option<RequestNumber>, Violation> {
        let unasked = Violation::SentUnasked { sequence };
        let known = self.numbers.get(&(nonce.0, sequence)).copied();
        let Some(number) = known.or_else(|| self.find(bytes)) else { return Err(unasked) };
        let Some(awaited) = self.awaited.get_mut(&number) else { return Err(unasked) };
        let right = awaited.key.is_none_or(|key| key == (nonce, sequence));
        if !right || awaited.submitted != Submitted::Command(bytes.to_vec()) {
            return Err(unasked);
        }
        (awaited.sent, awaited.key) = (true, Some((nonce, sequence)));
        self.numbers.insert((nonce.0, sequence), number);
        Ok(known.is_none().then_some(number))
    }

    /// The engine acknowledges everything below a number.
    ///
    /// # Errors
    /// It has sent a command below it, and not said its end.
    pub fn acknowledged(&self, nonce: Nonce, acknowledge: Sequence) -> Result<(), Violation> {
        let keys = self.awaited.values().filter_map(|awaited| awaited.key);
        let unheard =
            keys.filter(|(of, sequence)| *of == nonce && *sequence < acknowledge).map(|(_, sequence)| sequence);
        unheard.min().map_or(Ok(()), |sequence| Err(Violation::AcknowledgedUnheard { sequence }))
    }

    /// The engine sends a command without a session.
    ///
    /// # Errors
    /// Nobody awaits it.
    pub fn plain_sent(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let found = self.find(bytes).and_then(|number| self.awaited.get_mut(&number));
        match found.filter(|awaited| matches!(awaited.submitted, Submitted::Plain(_))) {
            Some(awaited) => awaited.sent = true,
            None => return Err(Violation::SentUnasked { sequence: Sequence(0) }),
        }
        Ok(())
    }

    /// The engine says that a request has come to its end, and whether it was done. Returns the number under which it was
    /// sent, if it is a command of a session that was.
    ///
    /// # Errors
    /// It was not awaited, or is done and was not sent.
    pub fn ended(&mut self, request: RequestNumber, done: bool) -> Result<Option<(Nonce, Sequence)>, Violation> {
        let Some(Awaited { submitted, sent, key }) = self.awaited.remove(&request) else {
            return Err(Violation::EndedUnasked { request });
        };
        if done && !sent && submitted != Submitted::Question {
            return Err(Violation::DoneUnsent { request });
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce(5);
    const UNASKED: Violation = Violation::SentUnasked { sequence: Sequence(1) };

    fn completions() -> Completions {
        let mut completions = Completions::default();
        completions.submitted(7, Submitted::Command(b"a".to_vec()));
        completions.submitted(8, Submitted::Plain(b"p".to_vec()));
        completions.submitted(9, Submitted::Question);
        completions
    }

    #[test]
    fn each_request_comes_to_one_end() {
        let mut completions = completions();
        assert_eq!(completions.command_sent(NONCE, Sequence(1), b"a"), Ok(Some(7)));
        assert_eq!(completions.command_sent(NONCE, Sequence(1), b"a"), Ok(None));
        assert_eq!(completions.ended(7, true), Ok(Some((NONCE, Sequence(1)))));
        assert_eq!(completions.ended(7, true), Err(Violation::EndedUnasked { request: 7 }));
        assert_eq!(completions.plain_sent(b"p"), Ok(()));
        assert_eq!((completions.ended(8, true), completions.ended(9, true)), (Ok(None), Ok(None)));
        assert_eq!(completions.awaited(), 0);
    }

    #[test]
    fn what_is_acknowledged_and_awaited_is_found() {
        let mut completions = completions();
        completions.command_sent(NONCE, Sequence(1), b"a").unwrap();
        assert_eq!(completions.acknowledged(NONCE, Sequence(1)), Ok(()));
        assert_eq!(completions.acknowledged(Nonce(6), Sequence(2)), Ok(()));
        let unheard = Violation::AcknowledgedUnheard { sequence: Sequence(1) };
        assert_eq!(completions.acknowledged(NONCE, Sequence(2)), Err(unheard));
        completions.ended(7, true).unwrap();
        assert_eq!(completions.acknowledged(NONCE, Sequence(2)), Ok(()));
    }

    #[test]
    fn what_is_done_and_was_never_sent_is_found() {
        for request in [7, 8] {
            assert_eq!(completions().ended(request, true), Err(Violation::DoneUnsent { request }));
            assert_eq!(completions().ended(request, false), Ok(None));
        }
    }

    #[test]
    fn what_is_sent_and_not_awaited_or_under_a_second_number_is_found() {
        assert_eq!(completions().command_sent(NONCE, Sequence(1), b"other"), Err(UNASKED));
        assert_eq!(completions().command_sent(NONCE, Sequence(1), b"p"), Err(UNASKED));
        assert!(completions().plain_sent(b"a").is_err());
        let mut completions = completions();
        completions.command_sent(NONCE, Sequence(2), b"a").unwrap();
        assert_eq!(completions.command_sent(NONCE, Sequence(1), b"a"), Err(UNASKED));
        assert_eq!(completions.command_sent(Nonce(6), Sequence(1), b"a"), Err(UNASKED));
        completions.submitted(10, Submitted::Command(b"b".to_vec()));
        assert!(completions.command_sent(NONCE, Sequence(2), b"b").is_err());
        completions.ended(7, false).unwrap();
        assert!(completions.command_sent(NONCE, Sequence(2), b"a").is_err());
    }
}
