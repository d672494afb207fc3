//! Leader Completeness (Raft paper, figure 3): whoever leads holds what was committed before.

use raft_core::types::{EntryId, NodeId, Term};

use crate::violation::Violation;

/// What is known to be committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Completeness {
    /// By the Log Matching property the last one stands for all of them.
    committed: EntryId,
}

impl Completeness {
    /// A node knows that `entry` is committed.
    pub fn committed(&mut self, entry: EntryId) {
        if entry.index > self.committed.index {
            self.committed = entry;
        }
    }

    /// A node leads in `term`. `holds` tells whether its log holds an entry.
    ///
    /// # Errors
    /// It lacks what is committed.
    pub fn leads(&self, term: Term, node: NodeId, holds: impl FnOnce(EntryId) -> bool) -> Result<(), Violation> {
        let committed = self.committed;
        // What was committed in a later term need not be known to a leader of an earlier one.
        if committed.term < term && !holds(committed) {
            return Err(Violation::LeaderLacks { term, leader: node, committed });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Index;

    #[test]
    fn a_leader_that_lacks_a_committed_entry_is_found() {
        let node = NodeId::new(1).unwrap();
        let entry = |term, index| EntryId::new(Term(term), Index(index));
        let mut completeness = Completeness::default();
        assert_eq!(completeness.leads(Term(1), node, |_| true), Ok(()));
        completeness.committed(entry(2, 7));
        completeness.committed(entry(2, 5));
        assert_eq!(completeness.leads(Term(3), node, |wanted| wanted == entry(2, 7)), Ok(()));
        assert!(matches!(completeness.leads(Term(3), node, |_| false), Err(Violation::LeaderLacks { .. })));
        assert_eq!(completeness.leads(Term(1), node, |_| false), Ok(()));
    }
}
