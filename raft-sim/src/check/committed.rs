//! What is committed at each index: all nodes know the same, and what is said of an entry is held against it.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, Index, NodeId, Term};

use crate::violation::Violation;

/// The committed entries, as far as any node knows.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    terms: BTreeMap<Index, Term>,
    /// How far each life of each machine has come: place and life.
    reached: BTreeMap<(usize, u64), Index>,
}

impl Committed {
    /// A node, whose log is `log`, knows that everything up to `commit` is committed.
    ///
    /// # Errors
    /// Another node knows another entry to be committed somewhere there.
    pub fn learns(
        &mut self,
        life: (usize, u64),
        node: NodeId,
        commit: Index,
        log: &BTreeMap<Index, Term>,
    ) -> Result<(), Violation> {
        let reached = self.reached.insert(life, commit).unwrap_or(Index::ZERO);
        if commit <= reached {
            return Ok(());
        }
        for (index, term) in log.range(reached.next()..=commit) {
            let known = *self.terms.entry(*index).or_insert(*term);
            if known != *term {
                let (one, other) = (EntryId::new(known, *index), EntryId::new(*term, *index));
                return Err(Violation::CommittedOtherwise { node, one, other });
            }
        }
        Ok(())
    }

    /// Whether this entry is committed; `None` if nobody knows what is at its index.
    #[must_use]
    pub fn holds(&self, entry: EntryId) -> Option<bool> {
        self.terms.get(&entry.index).map(|term| *term == entry.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_entries_that_are_committed_at_one_index_are_found() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let log = |terms: &[(u64, u64)]| -> BTreeMap<Index, Term> {
            terms.iter().map(|(index, term)| (Index(*index), Term(*term))).collect()
        };
        let mut committed = Committed::default();
        assert_eq!(committed.learns((0, 1), one, Index(2), &log(&[(1, 1), (2, 1), (3, 1)])), Ok(()));
        assert_eq!(committed.holds(EntryId::new(Term(1), Index(2))), Some(true));
        assert_eq!(committed.holds(EntryId::new(Term(2), Index(2))), Some(false));
        assert_eq!(committed.holds(EntryId::new(Term(1), Index(3))), None);
        // What is not committed may differ, and so may what a snapshot has taken the place of.
        assert_eq!(committed.learns((1, 1), two, Index(3), &log(&[(2, 1), (3, 2)])), Ok(()));
        let otherwise = committed.learns((0, 1), one, Index(3), &log(&[(1, 1), (2, 1), (3, 1)]));
        assert!(matches!(otherwise, Err(Violation::CommittedOtherwise { .. })));
    }
}
