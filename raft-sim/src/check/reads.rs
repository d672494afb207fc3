//! Read freshness: a read that is not stale shows every entry that any node knew to be committed when a
//! node took it from its network.
//!
//! Linearizability asks for less: only for what clients had been told, and only where a value gives it away. But a leader
//! whose right to answer has been confirmed, or whose lease lasts, knows all that is committed (dissertation, section 6.4):
//! one that answers without some entry has been replaced, whether a client could tell or not.

use std::collections::BTreeMap;

use raft_core::client::protocol::RequestId;
use raft_core::types::{Index, Instant, NodeId, Term};

use crate::violation::Violation;

/// Reads under way.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// What each read must show, by client and the request's number there; and whether a node has taken it yet.
    floors: BTreeMap<(usize, RequestId), (Index, bool)>,
}

impl Reads {
    /// A client sends a read that is not stale, while `committed` is the last entry that any node has known to be committed.
    pub fn sent(&mut self, client: usize, request: RequestId, committed: Index) {
        self.floors.insert((client, request), (committed, false));
    }

    /// A node takes a read from its network for the first time: it must show what was committed by then. Another copy of the
    /// request is taken later, and so shows that too.
    pub fn taken(&mut self, client: usize, request: RequestId, committed: Index) {
        if let Some((floor, taken @ false)) = self.floors.get_mut(&(client, request)) {
            (*floor, *taken) = (committed.max(*floor), true);
        }
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
            Some((floor, _)) if applied < *floor => Err(Violation::StaleRead { node, applied, committed: *floor }),
            Some(_) => Ok(true),
        }
    }
}

/// A node has committed in `term`. `older` are the leaders of earlier terms that do not know of it, each with the end of
/// its lease and what its clock shows: none of them may read by its lease any more, for a client could have asked.
///
/// # Errors
/// One of them may.
pub fn leases_are_over(
    newer: NodeId,
    term: Term,
    older: impl IntoIterator<Item = (NodeId, Instant, Instant)>,
) -> Result<(), Violation> {
    let lasting = older.into_iter().find(|(_, until, now)| now < until);
    lasting.map_or(Ok(()), |(older, ..)| Err(Violation::LeaseTooLong { older, newer, term }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_misses_what_was_committed_before_it_was_sent_is_found() {
        let (node, read) = (NodeId::new(2).unwrap(), RequestId(1));
        let mut reads = Reads::default();
        reads.sent(0, read, Index(7));
        reads.sent(0, RequestId(2), Index(9));
        assert_eq!(reads.shown(0, read, node, Index(7)), Ok(true));
        let stale = reads.shown(0, read, node, Index(6));
        assert_eq!(stale, Err(Violation::StaleRead { node, applied: Index(6), committed: Index(7) }));
        reads.taken(0, read, Index(8));
        reads.taken(0, read, Index(9));
        let stale = reads.shown(0, read, node, Index(7));
        assert_eq!(stale, Err(Violation::StaleRead { node, applied: Index(7), committed: Index(8) }));
        assert_eq!(reads.shown(0, read, node, Index(8)), Ok(true), "a second copy may be taken later");
        assert_eq!(reads.shown(1, read, node, Index(0)), Ok(false), "a stale read promises nothing");
    }

    #[test]
    fn a_lease_that_lasts_beyond_the_first_commit_of_a_later_term_is_found() {
        let [newer, older] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let over = |until, now| leases_are_over(newer, Term(4), [(older, Instant(until), Instant(now))]);
        assert_eq!(over(9, 9), Ok(()));
        assert_eq!(over(10, 9), Err(Violation::LeaseTooLong { older, newer, term: Term(4) }));
    }
}
