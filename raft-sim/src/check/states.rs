//! State Machine Safety (Raft paper, figure 3): all nodes apply the same entries, with the same outcome, to the same
//! state, at every index.

use std::collections::BTreeMap;

use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{ClusterTime, EntryId, Index, NodeId};

use crate::violation::Violation;

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub entry: EntryId,
    /// Its outcome, if it was an operation.
    pub outcome: Option<OwnedOutcome>,
    /// The state's digest and the cluster time, if a command was executed.
    pub executed: Option<(u64, ClusterTime)>,
}

/// What was applied, by the first that did, at each index.
#[derive(Clone, Debug, Default)]
pub struct States {
    applied: BTreeMap<Index, Applied>,
    /// How far each life of each node has come: place and life.
    reached: BTreeMap<(usize, u64), Index>,
}

impl States {
    /// The life of a node begins, or its state is made anew, from the state after `index`.
    pub fn restored(&mut self, life: (usize, u64), index: Index) {
        self.reached.insert(life, index);
    }

    /// An entry was applied. Gives whether it was the first time.
    ///
    /// # Errors
    /// Another node applied something else there, or this one left an index out.
    pub fn applied(&mut self, life: (usize, u64), node: NodeId, applied: Applied) -> Result<bool, Violation> {
        let index = applied.entry.index;
        let before = self.reached.insert(life, index).unwrap_or(Index::ZERO);
        if before.next() != index {
            return Err(Violation::AppliedOutOfOrder { node, before, index });
        }
        match self.applied.get(&index) {
            None => {
                self.applied.insert(index, applied);
                Ok(true)
            }
            Some(first) if *first == applied => Ok(false),
            Some(first) => {
                Err(Violation::StatesDiffer { node, first: format!("{first:?}"), here: format!("{applied:?}") })
            }
        }
    }

    /// The last entry that any node has applied.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.applied.last_key_value().map_or(EntryId::ZERO, |(_, applied)| applied.entry)
    }

    /// What was applied at an index.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<&Applied> {
        self.applied.get(&index)
    }

    /// All that was applied, in order.
    pub fn all(&self) -> impl Iterator<Item = &Applied> {
        self.applied.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Term;

    #[test]
    fn a_different_entry_outcome_or_state_and_a_gap_are_found() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let apply = |term, index, digest| Applied {
            entry: EntryId::new(Term(term), Index(index)),
            outcome: Some(OwnedOutcome::KeptAlive),
            executed: Some((digest, ClusterTime(0))),
        };
        let mut states = States::default();
        assert_eq!(states.applied((0, 1), one, apply(1, 1, 7)), Ok(true));
        assert_eq!(states.applied((1, 1), two, apply(1, 1, 7)), Ok(false));
        assert_eq!(states.applied((0, 1), one, apply(1, 2, 8)), Ok(true));
        for other in [apply(2, 2, 8), apply(1, 2, 9), Applied { outcome: None, ..apply(1, 2, 8) }] {
            let mut states = states.clone();
            assert!(matches!(states.applied((1, 1), two, other), Err(Violation::StatesDiffer { .. })));
        }
        assert!(matches!(states.applied((0, 1), one, apply(1, 4, 1)), Err(Violation::AppliedOutOfOrder { .. })));
        states.restored((0, 2), Index(1));
        assert_eq!(states.applied((0, 2), one, apply(1, 2, 8)), Ok(false));
        assert_eq!(states.last(), EntryId::new(Term(1), Index(2)));
    }
}
