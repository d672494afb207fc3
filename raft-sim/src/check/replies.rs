//! What a node tells a client came from the committed log: never from a table that lags, and not replaced since by
//! another outcome, whatever became of the session before the reply was sent. A command without a session is the answer to
//! one request only.

use std::collections::BTreeMap;

use raft_core::client::protocol::RequestId;
use raft_core::session::operation::Operation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{Index, NodeId};

use super::copies::Content;
use crate::violation::Violation;

/// Outcomes of operations in the log, and what was told of them.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// What entries of an operation came to: where first, and what.
    outcomes: BTreeMap<Content, Vec<(Index, OwnedOutcome)>>,
    /// Who was told of the execution of a command without a session, by its entry.
    plain: BTreeMap<Index, (usize, RequestId)>,
}

impl Replies {
    /// An entry was applied, for the first time by any node.
    pub fn applied(&mut self, index: Index, operation: &Operation<'_>, outcome: &OwnedOutcome) {
        let outcomes = self.outcomes.entry(Content::of(operation)).or_default();
        if outcomes.iter().all(|(_, known)| known != outcome) {
            outcomes.push((index, outcome.clone()));
        }
    }

    /// A node that has applied all entries up to `applied` tells a client what came of an operation; `plain` says whether it
    /// has no session.
    ///
    /// # Errors
    /// No entry of that operation up to there came to it, or that entry was the answer to another request.
    pub fn told(
        &mut self,
        request: (usize, RequestId),
        node: NodeId,
        applied: Index,
        (content, plain): (Content, bool),
        outcome: &OwnedOutcome,
    ) -> Result<(), Violation> {
        let outcomes = self.outcomes.get(&content).into_iter().flatten();
        let rests = outcomes.into_iter().any(|(index, known)| *index <= applied && known == outcome);
        if !rests {
            return Err(Violation::NotFromTheLog { node, outcome: format!("{outcome:?}") });
        }
        if plain && let OwnedOutcome::Answered { index, .. } | OwnedOutcome::Executed { index, .. } = outcome {
            let first = *self.plain.entry(*index).or_insert(request);
            if first != request {
                return Err(Violation::AnsweredTwo { node, index: *index });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::session::operation::Refusal;
    use raft_core::types::{Nonce, Sequence, SessionId};
    use raft_core::wire::Bytes;

    #[test]
    fn an_outcome_that_no_entry_came_to_yet_is_found() {
        let (node, request) = (NodeId::new(1).unwrap(), (0, RequestId(5)));
        let (session, sequence) = (SessionId(2), Sequence(1));
        let command = Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(b"x") };
        let answered = OwnedOutcome::Answered { index: Index(7), answer: b"a".to_vec(), replayed: false };
        let expired = OwnedOutcome::Refused(Refusal::SessionExpired);
        let mut replies = Replies::default();
        let tell = |replies: &mut Replies, applied, outcome| {
            replies.told(request, node, Index(applied), (Content::of(&command), false), outcome)
        };
        assert!(matches!(tell(&mut replies, 9, &answered), Err(Violation::NotFromTheLog { .. })));
        replies.applied(Index(7), &command, &answered);
        assert_eq!(tell(&mut replies, 7, &answered), Ok(()));
        assert!(matches!(tell(&mut replies, 6, &answered), Err(Violation::NotFromTheLog { .. })), "it lags");
        assert!(matches!(tell(&mut replies, 9, &expired), Err(Violation::NotFromTheLog { .. })), "it was replaced");
        replies.applied(Index(9), &command, &expired);
        assert_eq!(tell(&mut replies, 9, &expired), Ok(()));
    }

    #[test]
    fn an_outcome_of_another_open_or_renewal_is_found() {
        let (node, request) = (NodeId::new(1).unwrap(), (0, RequestId(5)));
        let open = |nonce| Operation::Open { nonce: Nonce(nonce), fifo: false };
        let full = OwnedOutcome::Refused(Refusal::TableFull { retry_after: raft_core::types::Millis(3) });
        let mut replies = Replies::default();
        replies.applied(Index(7), &open(1), &full);
        let mut tell =
            |nonce, outcome| replies.told(request, node, Index(9), (Content::of(&open(nonce)), false), outcome);
        assert_eq!(tell(1, &full), Ok(()));
        assert!(matches!(tell(2, &full), Err(Violation::NotFromTheLog { .. })));
        let shorter = OwnedOutcome::Refused(Refusal::TableFull { retry_after: raft_core::types::Millis(2) });
        assert!(matches!(tell(1, &shorter), Err(Violation::NotFromTheLog { .. })));
    }

    #[test]
    fn an_execution_that_answers_two_requests_is_found() {
        let node = NodeId::new(1).unwrap();
        let plain = Operation::Plain { command: Bytes(b"x") };
        let answered = OwnedOutcome::Answered { index: Index(7), answer: b"a".to_vec(), replayed: false };
        let mut replies = Replies::default();
        replies.applied(Index(7), &plain, &answered);
        let mut tell =
            |client| replies.told((client, RequestId(5)), node, Index(7), (Content::of(&plain), true), &answered);
        assert_eq!(tell(0), Ok(()));
        assert_eq!(tell(0), Ok(()));
        assert_eq!(tell(1), Err(Violation::AnsweredTwo { node, index: Index(7) }));
    }
}
