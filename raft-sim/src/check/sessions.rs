//! Exactly once: a command of a session runs at most once, every answer to it is the same, and what its client was told
//! is what happened.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::session::operation::Operation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{Index, Nonce, Sequence, SessionId};

use crate::violation::Violation;

/// A command, by the secret of its session and its number: what its client knows it by. A client that opens another
/// session takes another secret.
type CommandKey = (u128, Sequence);

/// A command that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ran {
    at: Index,
    /// What the state machine answered, as far as anybody has said.
    answer: Option<Vec<u8>>,
}

/// All sessions there ever were.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Who opened each.
    secrets: BTreeMap<SessionId, u128>,
    /// The last command that ran in each of those whose commands run in order.
    in_order: BTreeMap<SessionId, Sequence>,
    closed: BTreeSet<SessionId>,
    ran: BTreeMap<(SessionId, Sequence), Ran>,
    /// In which session a command of a client ran last.
    ran_in: BTreeMap<CommandKey, SessionId>,
    /// Commands whose clients were told that they would never run.
    refused: BTreeSet<CommandKey>,
}

impl Sessions {
    /// An operation was applied at `index`, for the first time by any node.
    ///
    /// # Errors
    /// It ran although it had run before or was to run never, or the answer is not the one given before.
    pub fn applied(
        &mut self,
        index: Index,
        operation: &Operation<'_>,
        outcome: &OwnedOutcome,
    ) -> Result<(), Violation> {
        match (operation, outcome) {
            (Operation::Open { nonce, fifo }, OwnedOutcome::Opened { session, again, .. }) => {
                if *fifo {
                    self.in_order.entry(*session).or_insert(Sequence(0));
                }
                self.opened(index, *nonce, *session, *again)
            }
            (Operation::Close { session }, OwnedOutcome::Closed) => {
                self.closed.insert(*session);
                Ok(())
            }
            (Operation::Command { session, sequence, .. }, OwnedOutcome::Answered { index: at, answer, replayed }) => {
                self.ran(index, (*session, *sequence), *at, Some(answer), *replayed)
            }
            (Operation::Command { session, sequence, .. }, OwnedOutcome::Executed { index: at, replayed }) => {
                self.ran(index, (*session, *sequence), *at, None, *replayed)
            }
            _ => Ok(()),
        }
    }

    fn opened(&mut self, index: Index, nonce: Nonce, session: SessionId, again: bool) -> Result<(), Violation> {
        let known = self.secrets.insert(session, nonce.0);
        let right = match known {
            Some(opener) => again && opener == nonce.0 && !self.closed.contains(&session),
            // Ids are indexes, and so only grow.
            None => !again && session.0 == index.0,
        };
        if right { Ok(()) } else { Err(Violation::SessionMixedUp { session, index }) }
    }

    fn ran(
        &mut self,
        index: Index,
        (session, sequence): (SessionId, Sequence),
        at: Index,
        answer: Option<&Vec<u8>>,
        replayed: bool,
    ) -> Result<(), Violation> {
        let Some(secret) = self.secrets.get(&session) else {
            return Err(Violation::SessionMixedUp { session, index });
        };
        let key = (*secret, sequence);
        match self.ran.get_mut(&(session, sequence)) {
            None if replayed || at != index => Err(Violation::ReplayOfNothing { session, sequence, index }),
            None if self.refused.contains(&key) => Err(Violation::RanAfterRefusal { session, sequence, index }),
            None if self.in_order.get(&session).is_some_and(|last| sequence < *last) => {
                Err(Violation::RanOutOfOrder { session, sequence, index })
            }
            None => {
                if let Some(last) = self.in_order.get_mut(&session) {
                    *last = sequence;
                }
                self.ran.insert((session, sequence), Ran { at, answer: answer.cloned() });
                self.ran_in.insert(key, session);
                Ok(())
            }
            Some(ran) if !replayed => Err(Violation::RanTwice { session, sequence, first: ran.at, second: index }),
            Some(ran)
                if ran.at != at || (answer.is_some() && ran.answer.is_some() && ran.answer.as_ref() != answer) =>
            {
                Err(Violation::AnswersDiffer { sequence, index })
            }
            Some(_) => Ok(()),
        }
    }

    /// A client has got an answer of the log to a command, at whatever time and from whatever node.
    ///
    /// # Errors
    /// The command did not run, or the answer is not the one that the state machine gave.
    pub fn heard(&mut self, nonce: Nonce, sequence: Sequence, answer: Option<&Vec<u8>>) -> Result<(), Violation> {
        match self.command(nonce, sequence) {
            None => Err(Violation::AnsweredAndDidNotRun { sequence }),
            Some(ran) if answer.is_some() && ran.answer.is_some() && ran.answer.as_ref() != answer => {
                Err(Violation::AnswersDiffer { sequence, index: ran.at })
            }
            Some(_) => Ok(()),
        }
    }

    /// A client was told for good that a command did not run and never will.
    ///
    /// # Errors
    /// It ran.
    pub fn refused(&mut self, nonce: Nonce, sequence: Sequence) -> Result<(), Violation> {
        self.refused.insert((nonce.0, sequence));
        match self.command(nonce, sequence) {
            Some(ran) => Err(Violation::RefusedAndRan { sequence, index: ran.at }),
            None => Ok(()),
        }
    }

    /// The last session that was opened with this secret.
    #[must_use]
    pub fn opened_by(&self, nonce: Nonce) -> Option<SessionId> {
        self.secrets.iter().rev().find(|(_, secret)| **secret == nonce.0).map(|(session, _)| *session)
    }

    /// The sessions that were opened with this secret.
    pub fn opened_with(&self, nonce: Nonce) -> impl Iterator<Item = SessionId> {
        self.secrets.iter().filter(move |(_, secret)| **secret == nonce.0).map(|(session, _)| *session)
    }

    /// By whose nonce a session was opened, if it ever was.
    #[must_use]
    pub fn opener(&self, session: SessionId) -> Option<Nonce> {
        self.secrets.get(&session).map(|nonce| Nonce(*nonce))
    }

    /// The session that was opened last, or so many before it.
    #[must_use]
    pub fn opened_last(&self, before: u64) -> Option<SessionId> {
        self.secrets.keys().rev().nth(usize::try_from(before).ok()?).copied()
    }

    /// Where a command ran, if it did.
    #[must_use]
    pub fn ran_at(&self, nonce: Nonce, sequence: Sequence) -> Option<Index> {
        self.command(nonce, sequence).map(|ran| ran.at)
    }

    fn command(&self, nonce: Nonce, sequence: Sequence) -> Option<&Ran> {
        self.ran.get(&(*self.ran_in.get(&(nonce.0, sequence))?, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Millis;
    use raft_core::wire::Bytes;

    const NONCE: Nonce = Nonce(77);

    fn sessions() -> Sessions {
        let mut sessions = Sessions::default();
        let outcome = OwnedOutcome::Opened { session: SessionId(3), again: false, ttl: Millis(1), window: 4 };
        sessions.applied(Index(3), &Operation::Open { nonce: NONCE, fifo: false }, &outcome).unwrap();
        sessions
    }

    fn command(sequence: u64) -> Operation<'static> {
        let (session, sequence) = (SessionId(3), Sequence(sequence));
        Operation::Command { session, sequence, acknowledge: Sequence(1), command: Bytes(b"x") }
    }

    fn answered(index: u64, answer: &[u8], replayed: bool) -> OwnedOutcome {
        OwnedOutcome::Answered { index: Index(index), answer: answer.to_vec(), replayed }
    }

    #[test]
    fn a_command_that_runs_twice_or_changes_its_answer_is_found() {
        let mut sessions = sessions();
        assert_eq!(sessions.applied(Index(4), &command(1), &answered(4, b"a", false)), Ok(()));
        assert_eq!(sessions.applied(Index(5), &command(1), &answered(4, b"a", true)), Ok(()));
        let twice = sessions.clone().applied(Index(6), &command(1), &answered(6, b"a", false));
        assert!(matches!(twice, Err(Violation::RanTwice { .. })));
        let other = sessions.clone().applied(Index(6), &command(1), &answered(4, b"b", true));
        assert!(matches!(other, Err(Violation::AnswersDiffer { .. })));
        let nothing = sessions.applied(Index(6), &command(2), &answered(4, b"b", true));
        assert!(matches!(nothing, Err(Violation::ReplayOfNothing { .. })));
    }

    #[test]
    fn what_a_client_was_told_must_be_what_happened() {
        let mut sessions = sessions();
        let nothing = sessions.heard(NONCE, Sequence(1), None);
        assert!(matches!(nothing, Err(Violation::AnsweredAndDidNotRun { .. })));
        sessions.applied(Index(4), &command(1), &answered(4, b"a", false)).unwrap();
        assert_eq!(sessions.heard(NONCE, Sequence(1), Some(&b"a".to_vec())), Ok(()));
        let other = sessions.heard(NONCE, Sequence(1), Some(&b"b".to_vec()));
        assert!(matches!(other, Err(Violation::AnswersDiffer { .. })));
        assert!(matches!(sessions.refused(NONCE, Sequence(1)), Err(Violation::RefusedAndRan { .. })));
        assert_eq!(sessions.refused(NONCE, Sequence(2)), Ok(()));
        let ran = sessions.applied(Index(5), &command(2), &answered(5, b"a", false));
        assert!(matches!(ran, Err(Violation::RanAfterRefusal { .. })));
    }

    #[test]
    fn a_command_that_runs_out_of_order_is_found_where_order_was_promised() {
        let run = |fifo| {
            let mut sessions = Sessions::default();
            let outcome = OwnedOutcome::Opened { session: SessionId(3), again: false, ttl: Millis(1), window: 4 };
            sessions.applied(Index(3), &Operation::Open { nonce: NONCE, fifo }, &outcome).unwrap();
            sessions.applied(Index(4), &command(2), &answered(4, b"a", false)).unwrap();
            sessions.applied(Index(5), &command(1), &answered(5, b"a", false))
        };
        assert_eq!(run(false), Ok(()));
        assert!(matches!(run(true), Err(Violation::RanOutOfOrder { .. })));
    }

    #[test]
    fn a_session_that_is_opened_by_two_is_found() {
        let mut sessions = sessions();
        let again = OwnedOutcome::Opened { session: SessionId(3), again: true, ttl: Millis(1), window: 4 };
        let by = |nonce| Operation::Open { nonce: Nonce(nonce), fifo: false };
        assert_eq!(sessions.applied(Index(4), &by(77), &again), Ok(()));
        assert!(matches!(sessions.applied(Index(5), &by(78), &again), Err(Violation::SessionMixedUp { .. })));
    }
}
