//! What a node tells a client came from the committed log: never from a table that lags, and not replaced since by
//! another outcome, whatever became of the session before the reply was sent. And who has the secret of a session is not
//! told that it is a wrong one, whatever became of the session; for who has not, nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::client::protocol::RequestId;
use raft_core::session::operation::Operation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{Index, NodeId, Sequence, SessionId};

use crate::violation::Violation;

/// A command, as the table knows it.
type Command = (SessionId, Sequence);

/// Outcomes of commands in the log, and the requests that ask for them.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// What entries of a command came to: where first, and what.
    outcomes: BTreeMap<Command, Vec<(Index, OwnedOutcome)>>,
    /// Which commands the requests ask for, by client and number. A stranger's numbers are chosen by chance.
    asked: BTreeMap<(usize, RequestId), Command>,
    /// What was asked of sessions without their secrets.
    guesses: BTreeSet<RequestId>,
}

impl Replies {
    /// An entry was applied, for the first time by any node.
    pub fn applied(&mut self, index: Index, operation: &Operation<'_>, outcome: &OwnedOutcome) {
        if let Operation::Command { session, sequence, .. } = operation {
            let outcomes = self.outcomes.entry((*session, *sequence)).or_default();
            if outcomes.iter().all(|(_, known)| known != outcome) {
                outcomes.push((index, outcome.clone()));
            }
        }
    }

    /// A client asks for an operation.
    pub fn sent(&mut self, client: usize, request: RequestId, operation: &Operation<'_>) {
        if let Operation::Command { session, sequence, .. } = operation {
            self.asked.insert((client, request), (*session, *sequence));
        }
    }

    /// Somebody asks something of a session whose secret it does not know.
    pub fn guessed(&mut self, request: RequestId) {
        self.guesses.insert(request);
    }

    /// A node that has applied all entries up to `applied` tells the client that outcome.
    ///
    /// # Errors
    /// No entry of that command up to there came to it; or it was done for somebody without the secret.
    pub fn told(
        &mut self,
        client: usize,
        request: RequestId,
        node: NodeId,
        applied: Index,
        outcome: &OwnedOutcome,
    ) -> Result<(), Violation> {
        if self.guesses.contains(&request) && !matches!(outcome, OwnedOutcome::Refused(_)) {
            return Err(Violation::WrongSecretLetIn { node, outcome: format!("{outcome:?}") });
        }
        let Some(command) = self.asked.get(&(client, request)) else { return Ok(()) };
        let outcomes = self.outcomes.get(command).into_iter().flatten();
        let rests = outcomes.into_iter().any(|(index, known)| *index <= applied && known == outcome);
        if !rests {
            let (session, sequence) = *command;
            return Err(Violation::NotFromTheLog { node, session, sequence, outcome: format!("{outcome:?}") });
        }
        Ok(())
    }

    /// A node tells the client that its secret is not that of the session.
    ///
    /// # Errors
    /// It is: clients ask for commands of their own sessions only.
    pub fn told_of_wrong_secret(&self, client: usize, request: RequestId, node: NodeId) -> Result<(), Violation> {
        match self.asked.get(&(client, request)) {
            Some((session, _)) => Err(Violation::RightSecretRefused { node, session: *session }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::session::operation::Refusal;
    use raft_core::wire::Bytes;

    #[test]
    fn an_outcome_that_no_entry_came_to_yet_is_found() {
        let (node, request) = (NodeId::new(1).unwrap(), RequestId(5));
        let (session, sequence) = (SessionId(2), Sequence(1));
        let command = Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(b"x") };
        let answered = OwnedOutcome::Answered { index: Index(7), answer: b"a".to_vec(), replayed: false };
        let expired = OwnedOutcome::Refused(Refusal::SessionExpired);
        let mut replies = Replies::default();
        replies.sent(0, request, &command);
        let early = replies.told(0, request, node, Index(9), &answered);
        assert!(matches!(early, Err(Violation::NotFromTheLog { .. })));
        replies.applied(Index(7), &command, &answered);
        assert_eq!(replies.told(0, request, node, Index(7), &answered), Ok(()));
        let lags = replies.told(0, request, node, Index(6), &answered);
        assert!(matches!(lags, Err(Violation::NotFromTheLog { .. })));
        let replaced = replies.told(0, request, node, Index(9), &expired);
        assert!(matches!(replaced, Err(Violation::NotFromTheLog { .. })));
        replies.applied(Index(9), &command, &expired);
        assert_eq!(replies.told(0, request, node, Index(9), &expired), Ok(()));
        assert_eq!(replies.told(3, request, node, Index(0), &expired), Ok(()), "nobody asked for that");
    }

    #[test]
    fn a_right_secret_that_is_called_wrong_and_a_wrong_one_that_is_let_in_are_found() {
        let (node, request) = (NodeId::new(1).unwrap(), RequestId(5));
        let (session, sequence) = (SessionId(2), Sequence(1));
        let mut replies = Replies::default();
        replies.sent(
            0,
            request,
            &Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(b"x") },
        );
        let refused = replies.told_of_wrong_secret(0, request, node);
        assert_eq!(refused, Err(Violation::RightSecretRefused { node, session }));
        assert_eq!(replies.told_of_wrong_secret(7, request, node), Ok(()), "a stranger guesses");
        let guess = RequestId(6);
        replies.guessed(guess);
        let expired = OwnedOutcome::Refused(Refusal::SessionExpired);
        assert_eq!(replies.told(7, guess, node, Index(1), &expired), Ok(()), "there is no such session");
        let let_in = replies.told(7, guess, node, Index(1), &OwnedOutcome::Closed);
        assert!(matches!(let_in, Err(Violation::WrongSecretLetIn { .. })));
    }
}
