//! Secrets: a session is used by nobody but those who know the secret it was opened with. Nothing is proposed for others, however
//! well they guess its id and its numbers; and who knows the secret is never told that it is a wrong one.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, NodeId, Nonce, SessionId};

use super::copies::Content;
use crate::violation::Violation;

/// Copies of operations on sessions, by what secret came with them.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    arrived: BTreeMap<(Content, u128), u64>,
    entries: BTreeMap<Content, u64>,
}

impl Secrets {
    /// A copy has arrived at a node, from a client or from another node.
    pub fn arrived(&mut self, content: Content, secret: Nonce) {
        *self.arrived.entry((content, secret.0)).or_default() += 1;
    }

    /// A node has sent a copy on to the leader.
    pub fn forwarded(&mut self, content: Content, secret: Nonce) {
        let arrived = self.arrived.entry((content, secret.0)).or_default();
        *arrived = arrived.saturating_sub(1);
    }

    /// A leader has made an entry of a copy, for a session that its log says was opened with `opener`.
    ///
    /// # Errors
    /// No copy that came with this secret is left: it was made for somebody who guessed.
    pub fn appended(
        &mut self,
        leader: NodeId,
        entry: EntryId,
        session: SessionId,
        content: Content,
        opener: Nonce,
    ) -> Result<(), Violation> {
        let entries = self.entries.entry(content).or_default();
        *entries += 1;
        let arrived = self.arrived.get(&(content, opener.0)).copied().unwrap_or(0);
        if *entries <= arrived { Ok(()) } else { Err(Violation::ProposedWithoutSecret { leader, session, entry }) }
    }

    /// A node says that `secret` is not that of the session, which was opened with `opener` if at all.
    ///
    /// # Errors
    /// It is the right one, or there was nothing to compare it with.
    pub fn called_wrong(
        node: NodeId,
        session: SessionId,
        secret: Option<Nonce>,
        opener: Option<Nonce>,
    ) -> Result<(), Violation> {
        match (secret, opener) {
            (Some(secret), Some(opener)) if secret == opener => Err(Violation::RightSecretRefused { node, session }),
            (Some(_), None) => Err(Violation::RightSecretRefused { node, session }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::session::operation::Operation;
    use raft_core::types::{Index, Term};

    #[test]
    fn an_entry_that_was_made_for_somebody_who_guessed_is_found() {
        let (leader, session) = (NodeId::new(1).unwrap(), SessionId(5));
        let (owner, stranger) = (Nonce(7), Nonce(8));
        let close = Content::of(&Operation::Close { session });
        let entry = |index| EntryId::new(Term(1), Index(index));
        let mut secrets = Secrets::default();
        secrets.arrived(close, stranger);
        let guessed = secrets.clone().appended(leader, entry(6), session, close, owner);
        assert_eq!(guessed, Err(Violation::ProposedWithoutSecret { leader, session, entry: entry(6) }));
        secrets.arrived(close, owner);
        assert_eq!(secrets.appended(leader, entry(6), session, close, owner), Ok(()));
        let second = secrets.appended(leader, entry(7), session, close, owner);
        assert!(matches!(second, Err(Violation::ProposedWithoutSecret { .. })), "the owner asked once");
    }

    #[test]
    fn a_right_secret_that_is_called_wrong_is_found_and_so_is_one_of_no_session() {
        let (node, session) = (NodeId::new(1).unwrap(), SessionId(5));
        let wrong = |secret, opener| Secrets::called_wrong(node, session, secret, opener);
        assert_eq!(wrong(Some(Nonce(7)), Some(Nonce(8))), Ok(()));
        assert_eq!(wrong(None, Some(Nonce(8))), Ok(()));
        assert!(matches!(wrong(Some(Nonce(8)), Some(Nonce(8))), Err(Violation::RightSecretRefused { .. })));
        assert!(matches!(wrong(Some(Nonce(8)), None), Err(Violation::RightSecretRefused { .. })));
    }
}
