//! Read freshness: a read that is not stale shows every command that was answered anywhere before it was sent.
//!
//! Linearizability says so too. This looks at indexes and not at values, and so also where no value gives it away.

use std::collections::BTreeMap;

use raft_core::client::protocol::RequestId;
use raft_core::types::{Index, NodeId};

use crate::violation::Violation;

/// Reads under way.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// The last entry of which a client was told what came of it.
    answered: Index,
    /// What each read must show: by client, and the request's number there.
    floors: BTreeMap<(usize, RequestId), Index>,
}

impl Reads {
    /// A node tells a client what came of the entry at `index`.
    pub fn answered(&mut self, index: Index) {
        self.answered = self.answered.max(index);
    }

    /// A client sends a read that is not stale.
    pub fn sent(&mut self, client: usize, request: RequestId) {
        self.floors.insert((client, request), self.answered);
    }

    /// A node that has applied all entries up to `applied` answers it. Gives whether it was a read that is known.
    ///
    /// # Errors
    /// The node had not come far enough.
    pub fn shown(
        &mut self,
        client: usize,
        request: RequestId,
        node: NodeId,
        applied: Index,
    ) -> Result<bool, Violation> {
        match self.floors.get(&(client, request)) {
            None => Ok(false),
            Some(floor) if applied < *floor => Err(Violation::StaleRead { node, applied, answered: *floor }),
            Some(_) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_misses_an_answer_from_before_it_was_sent_is_found() {
        let (node, read) = (NodeId::new(2).unwrap(), RequestId(1));
        let mut reads = Reads::default();
        reads.answered(Index(7));
        reads.sent(0, read);
        reads.answered(Index(9));
        assert_eq!(reads.shown(0, read, node, Index(7)), Ok(true));
        let stale = reads.shown(0, read, node, Index(6));
        assert_eq!(stale, Err(Violation::StaleRead { node, applied: Index(6), answered: Index(7) }));
        assert_eq!(reads.shown(1, read, node, Index(0)), Ok(false), "a stale read promises nothing");
    }
}
