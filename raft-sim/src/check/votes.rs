//! One vote in a term, over all lives of a storage; and a term that never goes back (Raft paper, figure 2).

use std::collections::BTreeMap;

use raft_core::storage::HardState;
use raft_core::types::{Incarnation, NodeId};

use crate::violation::Violation;

/// What each storage has promised.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    saved: BTreeMap<Incarnation, HardState>,
}

impl Votes {
    /// Term and vote are durable: from now on they may have been told to anybody.
    ///
    /// # Errors
    /// An earlier promise is broken.
    pub fn saved(&mut self, node: NodeId, storage: Incarnation, state: HardState) -> Result<(), Violation> {
        if let Some(before) = self.saved.insert(storage, state) {
            Votes::compare(node, before, state)?;
        }
        Ok(())
    }

    /// A node has started, with what its storage gave back.
    ///
    /// # Errors
    /// It does not hold what was saved.
    pub fn started(&self, node: NodeId, storage: Incarnation, state: HardState) -> Result<(), Violation> {
        match self.saved.get(&storage) {
            Some(before) => Votes::compare(node, *before, state),
            None => Ok(()),
        }
    }

    fn compare(node: NodeId, before: HardState, after: HardState) -> Result<(), Violation> {
        if after.term < before.term {
            return Err(Violation::TermWentBack { node, before: before.term, after: after.term });
        }
        if after.term == before.term && before.vote.is_some() && before.vote != after.vote {
            return Err(Violation::VotedTwice { node, term: after.term, one: before.vote, other: after.vote });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Term;

    #[test]
    fn a_vote_that_changes_and_one_that_is_forgotten_are_found() {
        let [node, one, two] = [9, 1, 2].map(|id| NodeId::new(id).unwrap());
        let storage = Incarnation(5);
        let state = |term, vote| HardState { term: Term(term), vote, expelled: None };
        let mut votes = Votes::default();
        assert_eq!(votes.started(node, storage, state(0, None)), Ok(()));
        assert_eq!(votes.saved(node, storage, state(2, None)), Ok(()));
        assert_eq!(votes.saved(node, storage, state(2, Some(one))), Ok(()));
        assert!(matches!(votes.started(node, storage, state(2, None)), Err(Violation::VotedTwice { .. })));
        assert!(matches!(votes.started(node, storage, state(1, None)), Err(Violation::TermWentBack { .. })));
        assert!(matches!(votes.saved(node, storage, state(2, Some(two))), Err(Violation::VotedTwice { .. })));
        assert_eq!(votes.saved(node, storage, state(3, Some(two))), Ok(()));
    }
}
