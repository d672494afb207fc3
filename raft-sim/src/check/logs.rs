//! Log Matching (Raft paper, figure 3), and that no node loses what it acknowledged.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, Incarnation, Index, NodeId, Term};

use crate::judge::Violation;

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
    /// The last entry that each storage has said to be durable.
    acknowledged: BTreeMap<Incarnation, EntryId>,
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

    /// A storage has everything up to `entry`.
    pub fn saved(&mut self, storage: Incarnation, entry: EntryId) {
        self.acknowledged.insert(storage, entry);
    }

    /// Entries behind `last` were dropped, as a leader wanted it: they need not be there any more.
    pub fn truncated(&mut self, storage: Incarnation, last: EntryId) {
        if let Some(acknowledged) = self.acknowledged.get_mut(&storage)
            && acknowledged.index > last.index
        {
            *acknowledged = last;
        }
    }

    /// A node has started. `holds` tells whether its log, or its snapshot, reaches an entry.
    ///
    /// # Errors
    /// It lacks what it had said to be durable.
    pub fn started(
        &self,
        node: NodeId,
        storage: Incarnation,
        holds: impl FnOnce(EntryId) -> bool,
    ) -> Result<(), Violation> {
        match self.acknowledged.get(&storage) {
            Some(acknowledged) if !holds(*acknowledged) => Err(Violation::Lost { node, acknowledged: *acknowledged }),
            _ => Ok(()),
        }
    }

    /// Forgets entries of long ago: no node can append them any more.
    pub fn forget_before(&mut self, index: Index) {
        self.entries.retain(|entry, _| entry.index >= index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        logs.forget_before(Index(6));
        assert_eq!(logs.appended(one, entry(2, 5), Term(2), None), Ok(()));
    }

    #[test]
    fn what_was_acknowledged_must_be_there_after_a_start_unless_a_leader_dropped_it() {
        let (node, storage) = (NodeId::new(1).unwrap(), Incarnation(3));
        let mut logs = Logs::default();
        assert_eq!(logs.started(node, storage, |_| false), Ok(()));
        logs.saved(storage, entry(2, 9));
        assert!(matches!(logs.started(node, storage, |_| false), Err(Violation::Lost { .. })));
        logs.truncated(storage, entry(1, 4));
        assert_eq!(logs.started(node, storage, |wanted| wanted == entry(1, 4)), Ok(()));
    }
}
