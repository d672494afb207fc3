//! Leader Completeness (Raft paper, figure 3): whoever leads holds what was committed before. And the rule that it rests on:
//! a leader counts replicas of entries of its own term only (section 5.4.2).

use std::collections::BTreeMap;

use raft_core::types::{EntryId, NodeId, Term};

use crate::violation::Violation;

/// What is known to be committed.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    /// By the Log Matching property the last one stands for all of them.
    committed: EntryId,
    /// What each leader knew to be committed when it was looked at last, by its place and term.
    of_leaders: BTreeMap<(usize, Term), EntryId>,
}

impl Completeness {
    /// A node knows that `entry` is committed.
    pub fn committed(&mut self, entry: EntryId) {
        if entry.index > self.committed.index {
            self.committed = entry;
        }
    }

    /// The last entry that any node has known to be committed.
    pub fn last(&self) -> EntryId {
        self.committed
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

    /// A node leads in `term`, and knows that `commit` is committed.
    ///
    /// # Errors
    /// It has committed an entry of another term since it was looked at last, while it led.
    pub fn leader_commits(
        &mut self,
        (place, node): (usize, NodeId),
        term: Term,
        commit: EntryId,
    ) -> Result<(), Violation> {
        match self.of_leaders.insert((place, term), commit) {
            Some(known) if commit.index > known.index && commit.term != term => {
                Err(Violation::CommittedByCounting { leader: node, term, committed: commit })
            }
            _ => Ok(()),
        }
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

    #[test]
    fn a_leader_that_commits_an_entry_of_an_earlier_term_is_found() {
        let leader = (0, NodeId::new(1).unwrap());
        let entry = |term, index| EntryId::new(Term(term), Index(index));
        let mut completeness = Completeness::default();
        // What it learned as a follower is of an earlier term, and so is what it still knows when it begins to lead.
        for commit in [entry(2, 4), entry(2, 4), entry(3, 7), entry(3, 9)] {
            assert_eq!(completeness.leader_commits(leader, Term(3), commit), Ok(()));
        }
        assert_eq!(completeness.leader_commits(leader, Term(5), entry(3, 9)), Ok(()));
        let counted = completeness.leader_commits(leader, Term(5), entry(3, 10));
        assert!(matches!(counted, Err(Violation::CommittedByCounting { .. })));
    }
}
