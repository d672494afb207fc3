//! No node loses what it acknowledged, over all lives of its storage.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, Incarnation, NodeId};

use crate::violation::Violation;

/// The last entry that each storage has said to be durable.
#[derive(Clone, Debug, Default)]
pub struct Durability {
    acknowledged: BTreeMap<Incarnation, EntryId>,
    /// The last entry of a snapshot that has taken the place of the log, until that is known to be durable.
    replaced: BTreeMap<Incarnation, EntryId>,
}

impl Durability {
    /// A storage has everything up to `entry`.
    pub fn saved(&mut self, storage: Incarnation, entry: EntryId) {
        self.acknowledged.insert(storage, entry);
        self.replaced.remove(&storage);
    }

    /// Entries behind `last` were dropped, as a leader wanted it: they need not be there any more.
    pub fn truncated(&mut self, storage: Incarnation, last: EntryId) {
        if let Some(acknowledged) = self.acknowledged.get_mut(&storage)
            && acknowledged.index > last.index
        {
            *acknowledged = last;
        }
    }

    /// A snapshot through `entry` has taken the place of the log. That becomes durable as a whole: a start finds the old
    /// log or the snapshot, also if the storage failed before it could say which.
    pub fn replaced(&mut self, storage: Incarnation, entry: EntryId) {
        self.replaced.insert(storage, entry);
    }

    /// A node has started. `holds` tells whether its log, or its snapshot, reaches an entry.
    ///
    /// # Errors
    /// It lacks what it had said to be durable.
    pub fn started(
        &self,
        node: NodeId,
        storage: Incarnation,
        holds: impl Fn(EntryId) -> bool,
    ) -> Result<(), Violation> {
        match self.acknowledged.get(&storage) {
            _ if self.replaced.get(&storage).is_some_and(|entry| holds(*entry)) => Ok(()),
            Some(acknowledged) if !holds(*acknowledged) => Err(Violation::Lost { node, acknowledged: *acknowledged }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{Index, Term};

    #[test]
    fn what_was_acknowledged_must_be_there_after_a_start_unless_a_leader_dropped_it() {
        let entry = |term, index| EntryId::new(Term(term), Index(index));
        let (node, storage) = (NodeId::new(1).unwrap(), Incarnation(3));
        let mut durability = Durability::default();
        assert_eq!(durability.started(node, storage, |_| false), Ok(()));
        durability.saved(storage, entry(2, 9));
        assert!(matches!(durability.started(node, storage, |_| false), Err(Violation::Lost { .. })));
        durability.replaced(storage, entry(3, 7));
        assert_eq!(durability.started(node, storage, |wanted| wanted == entry(3, 7)), Ok(()), "the snapshot");
        assert_eq!(durability.started(node, storage, |wanted| wanted == entry(2, 9)), Ok(()), "the old log");
        assert!(durability.started(node, storage, |_| false).is_err());
        durability.saved(storage, entry(3, 7));
        assert!(durability.started(node, storage, |wanted| wanted == entry(2, 9)).is_err());
        durability.truncated(storage, entry(1, 4));
        assert_eq!(durability.started(node, storage, |wanted| wanted == entry(1, 4)), Ok(()));
    }
}
