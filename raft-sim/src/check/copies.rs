//! "Not executed" is true of the very copy of an operation that it is said of: of each copy that reached a node, an entry was
//! made, or its client was told that none was, or nobody was told anything. Never the first two together.
//!
//! Copies are counted where they arrive and where they are forwarded, so nothing has to tell them apart: a copy that is refused
//! and appended as well is one more than arrived.

use std::collections::BTreeMap;

use raft_core::session::operation::{OPERATION_HEAD_BYTES_MAX, Operation};
use raft_core::types::{EntryId, NodeId};

use crate::violation::Violation;

/// What an operation says, as a number: equal for equal operations, and for hardly any others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(u64);

impl Content {
    /// The content of an operation.
    #[must_use]
    pub fn of(operation: &Operation<'_>) -> Content {
        let mut head = [0; OPERATION_HEAD_BYTES_MAX];
        let (head, command) = operation.encode(&mut head);
        // FNV-1a.
        let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Content(head.iter().chain(command).fold(0xcbf2_9ce4_8422_2325, mix))
    }
}

/// What became of the copies of one operation.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// Copies at nodes, those on their way between two nodes left out.
    arrived: u64,
    /// Entries that were made of them.
    entries: Vec<EntryId>,
    /// Copies of which it was said that no entry was made.
    refused: u64,
    /// Copies whose entries were said to be lost.
    overtaken: u64,
}

/// All operations that ever reached a node.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    fates: BTreeMap<Content, Fate>,
}

impl Copies {
    /// A copy has arrived at a node, from a client or from another node.
    pub fn arrived(&mut self, content: Content) {
        self.fates.entry(content).or_default().arrived += 1;
    }

    /// A node has sent a copy on to the leader.
    pub fn forwarded(&mut self, content: Content) {
        let fate = self.fates.entry(content).or_default();
        fate.arrived = fate.arrived.saturating_sub(1);
    }

    /// A leader has made an entry of a copy.
    ///
    /// # Errors
    /// All copies but these were refused: it made an entry of one whose client knows that there is none.
    pub fn appended(&mut self, leader: NodeId, content: Content, entry: EntryId) -> Result<(), Violation> {
        self.fates.entry(content).or_default().entries.push(entry);
        self.balance(leader, content)
    }

    /// A node says that no entry was made of a copy, and that none will be.
    ///
    /// # Errors
    /// There is an entry of it.
    pub fn refused(&mut self, node: NodeId, content: Content) -> Result<(), Violation> {
        self.fates.entry(content).or_default().refused += 1;
        self.balance(node, content)
    }

    /// A node says that the entry of a copy was lost to another leader's. `is_lost` says so of an entry.
    ///
    /// # Errors
    /// It was not.
    pub fn overtaken(
        &mut self,
        node: NodeId,
        content: Content,
        is_lost: impl Fn(EntryId) -> bool,
    ) -> Result<(), Violation> {
        let fate = self.fates.entry(content).or_default();
        fate.overtaken += 1;
        let lost = fate.entries.iter().filter(|entry| is_lost(**entry)).count() as u64;
        if fate.overtaken <= lost { Ok(()) } else { Err(Violation::NotOvertaken { node, said: fate.overtaken, lost }) }
    }

    fn balance(&self, node: NodeId, content: Content) -> Result<(), Violation> {
        let Some(Fate { arrived, entries, refused, .. }) = self.fates.get(&content) else { return Ok(()) };
        let (arrived, refused, entries) = (*arrived, *refused, entries.len() as u64);
        if entries + refused <= arrived {
            return Ok(());
        }
        Err(Violation::RefusedAndAppended { node, arrived, refused, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{Index, Sequence, SessionId, Term};
    use raft_core::wire::Bytes;

    fn content(command: &[u8]) -> Content {
        Content::of(&Operation::Plain { command: Bytes(command) })
    }

    fn entry(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    #[test]
    fn a_copy_that_is_refused_and_appended_is_found_in_either_order() {
        let node = NodeId::new(1).unwrap();
        let x = content(b"x");
        let mut copies = Copies::default();
        copies.arrived(x);
        copies.arrived(x);
        // One copy is refused, the one that is sent after it is not.
        assert_eq!(copies.refused(node, x), Ok(()));
        assert_eq!(copies.appended(node, x, entry(1, 5)), Ok(()));
        let both = copies.clone().refused(node, x);
        assert_eq!(both, Err(Violation::RefusedAndAppended { node, arrived: 2, refused: 2, entries: 1 }));
        let both = copies.appended(node, x, entry(1, 6));
        assert!(matches!(both, Err(Violation::RefusedAndAppended { .. })));
    }

    #[test]
    fn a_copy_on_its_way_to_the_leader_can_neither_be_refused_nor_appended() {
        let node = NodeId::new(1).unwrap();
        let x = content(b"x");
        let mut copies = Copies::default();
        copies.arrived(x);
        copies.forwarded(x);
        assert!(matches!(copies.clone().refused(node, x), Err(Violation::RefusedAndAppended { .. })));
        copies.arrived(x);
        assert_eq!(copies.refused(node, x), Ok(()), "the leader refused it");
    }

    #[test]
    fn an_entry_that_is_said_to_be_overtaken_and_is_not_is_found() {
        let node = NodeId::new(1).unwrap();
        let x = content(b"x");
        let mut copies = Copies::default();
        copies.arrived(x);
        copies.appended(node, x, entry(1, 5)).unwrap();
        assert_eq!(copies.clone().overtaken(node, x, |lost| lost == entry(1, 5)), Ok(()));
        let untrue = copies.overtaken(node, x, |_| false);
        assert_eq!(untrue, Err(Violation::NotOvertaken { node, said: 1, lost: 0 }));
    }

    #[test]
    fn contents_differ_where_operations_do() {
        let command = |acknowledge, command| {
            let (session, sequence, acknowledge) = (SessionId(3), Sequence(1), Sequence(acknowledge));
            Content::of(&Operation::Command { session, sequence, acknowledge, command: Bytes(command) })
        };
        assert_eq!(command(1, b"x"), command(1, b"x"));
        assert_ne!(command(1, b"x"), command(2, b"x"));
        assert_ne!(command(1, b"x"), command(1, b"y"));
    }
}
