//! Log Matching (Raft paper, figure 3): entries of the same term and index are the same, and so is all before them.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, NodeId, Term};

use crate::violation::Violation;

/// What is known of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    before: Term,
    /// Of its kind, time and payload; `None` while only witnesses hold it, which strip it.
    sum: Option<u32>,
}

/// The logs of all nodes.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    entries: BTreeMap<EntryId, Known>,
}

impl Logs {
    /// A node has appended `entry` behind one of term `before`. `sum` is a checksum over all that is in it.
    ///
    /// # Errors
    /// Another node holds something else under the same term and index, or something else before it.
    pub fn appended(&mut self, node: NodeId, entry: EntryId, before: Term, sum: Option<u32>) -> Result<(), Violation> {
        let known = self.entries.entry(entry).or_insert(Known { before, sum });
        known.sum = known.sum.or(sum);
        if known.before != before || (sum.is_some() && known.sum != sum) {
            return Err(Violation::LogsDiffer { node, entry });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Index;

    fn entry(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    #[test]
    fn entries_that_differ_or_follow_different_ones_are_found() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let mut logs = Logs::default();
        assert_eq!(logs.appended(one, entry(2, 5), Term(1), None), Ok(()));
        assert_eq!(logs.appended(two, entry(2, 5), Term(1), Some(7)), Ok(()));
        assert_eq!(logs.appended(one, entry(2, 5), Term(1), Some(7)), Ok(()));
        assert!(matches!(logs.appended(one, entry(2, 5), Term(1), Some(8)), Err(Violation::LogsDiffer { .. })));
        assert!(matches!(logs.appended(one, entry(2, 5), Term(2), None), Err(Violation::LogsDiffer { .. })));
    }
}
