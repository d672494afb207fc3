//! Election Safety and Leader Completeness (Raft paper, figure 3).

use std::collections::BTreeMap;

use raft_core::types::{EntryId, NodeId, Term};

use crate::judge::Violation;

/// Who was elected, in which term.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<Term, NodeId>,
}

impl Elections {
    /// A node leads in `term`. `holds` tells whether its log holds an entry; `committed` is the last entry that is known
    /// to be committed, so that by the Log Matching property it stands for all of them.
    ///
    /// # Errors
    /// Another node led in that term, or the leader lacks what is committed.
    pub fn won(
        &mut self,
        term: Term,
        node: NodeId,
        committed: EntryId,
        holds: impl FnOnce(EntryId) -> bool,
    ) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader != node {
            return Err(Violation::TwoLeaders { term, one: leader, other: node });
        }
        // What was committed in a later term need not be known to a leader of an earlier one.
        if committed.term < term && !holds(committed) {
            return Err(Violation::LeaderLacks { term, leader: node, committed });
        }
        Ok(())
    }

    /// In how many terms there was a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Index;

    #[test]
    fn two_leaders_of_a_term_and_one_that_lacks_a_committed_entry_are_found() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let mut elections = Elections::default();
        assert_eq!(elections.won(Term(2), one, EntryId::ZERO, |_| true), Ok(()));
        assert_eq!(elections.won(Term(2), one, EntryId::ZERO, |_| true), Ok(()));
        assert!(matches!(elections.won(Term(2), two, EntryId::ZERO, |_| true), Err(Violation::TwoLeaders { .. })));
        let committed = EntryId::new(Term(2), Index(7));
        assert!(matches!(elections.won(Term(3), two, committed, |_| false), Err(Violation::LeaderLacks { .. })));
        assert_eq!(elections.won(Term(1), two, committed, |_| false), Ok(()));
        assert_eq!(elections.terms(), 3);
    }
}
