//! A node that was expelled has no part in anything, in that life and every later one of its storage, until a committed
//! configuration has added it since.

use std::collections::BTreeMap;

use raft_core::message::Body;
use raft_core::raft::event::Expulsion;
use raft_core::types::{Incarnation, NodeId};

use crate::violation::Violation;

/// What each storage has made durable of that.
#[derive(Clone, Debug, Default)]
pub struct Expulsions {
    saved: BTreeMap<Incarnation, Saved>,
}

#[derive(Clone, Copy, Debug)]
struct Saved {
    expelled: Expulsion,
    /// Whether the storage had been tampered with by then: what is done to it afterwards may take that away as well.
    tampered: bool,
}

impl Expulsions {
    /// That is durable in a storage: it is expelled, or it is not or no more.
    pub fn saved(&mut self, storage: Incarnation, tampered: bool, expelled: Option<Expulsion>) {
        match expelled {
            Some(expelled) => self.saved.insert(storage, Saved { expelled, tampered }),
            None => self.saved.remove(&storage),
        };
    }

    /// The disk of that storage is another one from now on.
    pub fn replaced(&mut self, storage: Incarnation) {
        self.saved.remove(&storage);
    }

    /// A node has started over a storage that says this. Returns whether there was something to keep.
    ///
    /// # Errors
    /// It had been expelled, and does not know that any more.
    pub fn started(
        &self,
        node: NodeId,
        storage: Incarnation,
        tampered: bool,
        expelled: Option<Expulsion>,
    ) -> Result<bool, Violation> {
        match self.saved.get(&storage) {
            Some(saved) if saved.tampered == tampered => match expelled == Some(saved.expelled) {
                true => Ok(true),
                false => Err(Violation::ExpulsionLost { node, expelled: saved.expelled }),
            },
            _ => Ok(false),
        }
    }

    /// Whether that storage is expelled.
    #[must_use]
    pub fn holds(&self, storage: Incarnation) -> bool {
        self.saved.contains_key(&storage)
    }

    /// A node that was expelled before this turn, and still is, sends a message.
    ///
    /// # Errors
    /// It votes, campaigns, leads, or acknowledges something that counts.
    pub fn sends(node: NodeId, body: &Body<'_>) -> Result<(), Violation> {
        let what = match body {
            Body::PreVote { .. } | Body::Vote { .. } => "campaigns",
            Body::PreVoteReply { granted: true, .. } | Body::VoteReply { granted: true } => "votes",
            Body::AppendReply { counts: true, .. } | Body::SnapshotReply { counts: true, .. } => "acknowledges",
            Body::Append { .. } | Body::Snapshot { .. } | Body::Campaign => "leads",
            _ => return Ok(()),
        };
        Err(Violation::ActsThoughExpelled { node, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{EntryId, Index, Term};

    #[test]
    fn an_expulsion_that_is_lost_and_one_that_is_disregarded_are_found() {
        let (node, storage) = (NodeId::new(3).unwrap(), Incarnation(7));
        let acknowledged = EntryId::new(Term(2), Index(9));
        let forgot = Some(Expulsion::Forgot { acknowledged, added: Index(1) });
        let mut expulsions = Expulsions::default();
        assert_eq!(expulsions.started(node, storage, true, None), Ok(false));
        expulsions.saved(storage, true, forgot);
        assert_eq!(expulsions.started(node, storage, true, forgot), Ok(true));
        let lost = expulsions.started(node, storage, true, None);
        assert!(matches!(lost, Err(Violation::ExpulsionLost { .. })));
        assert!(expulsions.holds(storage));
        expulsions.saved(storage, true, None);
        assert_eq!(expulsions.started(node, storage, true, None), Ok(false), "it was added since");
        expulsions.saved(storage, false, forgot);
        assert_eq!(expulsions.started(node, storage, true, None), Ok(false), "its disk has decayed since");
        expulsions.replaced(storage);
        assert_eq!(expulsions.started(node, storage, false, None), Ok(false));
        assert_eq!(Expulsions::sends(node, &Body::VoteReply { granted: false }), Ok(()));
        let votes = Expulsions::sends(node, &Body::VoteReply { granted: true });
        assert!(matches!(votes, Err(Violation::ActsThoughExpelled { .. })));
    }
}
