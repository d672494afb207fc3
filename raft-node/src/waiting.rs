//! Who waits for what: proposals for their entries, forwarded operations for the leader's answer,
//! reads for their confirmation.

use std::collections::VecDeque;

use futures_channel::oneshot;
use raft_core::client::protocol::RequestId;
use raft_core::message::ForwardTicket;
use raft_core::raft::ReadId;
use raft_core::session::owned::OwnedOutcome;
use raft_core::transport::ClientId;
use raft_core::types::{EntryId, Index, Instant, NodeId};

use crate::handle::Failed;

/// Whom to answer: a client of the network, or a caller of the handle.
#[derive(Debug)]
pub(crate) enum Origin<T> {
    Client(ClientId, RequestId),
    Caller(oneshot::Sender<Result<T, Failed>>),
}

/// A request that waits, since when.
#[derive(Debug)]
pub(crate) struct Waiter<K, T> {
    pub(crate) key: K,
    pub(crate) since: Instant,
    pub(crate) origin: Origin<T>,
}

/// A query that waits for its read to be confirmed.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) read: ReadId,
    pub(crate) bytes: Vec<u8>,
}

/// An operation that was sent to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    pub(crate) ticket: ForwardTicket,
    /// The leader that it was sent to.
    pub(crate) to: NodeId,
    /// It belongs to a session: sending it again is safe.
    pub(crate) repeatable: bool,
}

/// A caller that wants to know of a leader.
pub(crate) type LeaderWaiter = (Instant, oneshot::Sender<Result<NodeId, Failed>>);

/// All that wait. Its owner bounds how many there are by [`Waiting::len`].
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Ordered by index; of two at one index, at most one is that of the entry applied there.
    proposed: VecDeque<Waiter<EntryId, OwnedOutcome>>,
    /// Ordered by ticket.
    forwarded: VecDeque<Waiter<Forwarded, OwnedOutcome>>,
    /// In the order in which they were begun, and so will be confirmed.
    pub(crate) reads: VecDeque<Waiter<Query, Vec<u8>>>,
    /// For a leader that takes requests, in the order in which they came.
    pub(crate) leaders: VecDeque<LeaderWaiter>,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.proposed.len() + self.forwarded.len() + self.reads.len() + self.leaders.len()
    }

    pub(crate) fn proposed(&mut self, waiter: Waiter<EntryId, OwnedOutcome>) {
        // Nearly always the last one.
        let at = self.proposed.partition_point(|other| other.key.index <= waiter.key.index);
        self.proposed.insert(at, waiter);
    }

    pub(crate) fn forwarded(&mut self, waiter: Waiter<Forwarded, OwnedOutcome>) {
        self.forwarded.push_back(waiter);
    }

    /// Takes out who waits for the leader's answer to `ticket`.
    pub(crate) fn take_forwarded(&mut self, ticket: ForwardTicket) -> Option<Waiter<Forwarded, OwnedOutcome>> {
        let at = self.forwarded.iter().position(|waiter| waiter.key.ticket == ticket)?;
        self.forwarded.remove(at)
    }

    /// Takes out one of those whose operation the node `peer` was sent and will hardly answer.
    pub(crate) fn take_unanswered(&mut self, peer: NodeId) -> Option<Origin<OwnedOutcome>> {
        let at = self.forwarded.iter().position(|waiter| waiter.key.to == peer)?;
        self.forwarded.remove(at).map(|waiter| waiter.origin)
    }

    /// Takes out one whose operation was sent to another node than `leader`, who leads now, and can be sent again.
    pub(crate) fn take_superseded(&mut self, leader: NodeId) -> Option<Origin<OwnedOutcome>> {
        let at = self.forwarded.iter().position(|waiter| waiter.key.to != leader && waiter.key.repeatable)?;
        self.forwarded.remove(at).map(|waiter| waiter.origin)
    }

    /// Takes out one of those who wait for an entry at or before `index`.
    pub(crate) fn take_proposed(&mut self, index: Index) -> Option<Waiter<EntryId, OwnedOutcome>> {
        self.proposed.front().filter(|waiter| waiter.key.index <= index)?;
        self.proposed.pop_front()
    }

    /// Takes out one operation that has waited since before `before`.
    pub(crate) fn take_overdue(&mut self, before: Instant) -> Option<Origin<OwnedOutcome>> {
        if self.proposed.front().is_some_and(|waiter| waiter.since < before) {
            return self.proposed.pop_front().map(|waiter| waiter.origin);
        }
        if self.forwarded.front().is_some_and(|waiter| waiter.since < before) {
            return self.forwarded.pop_front().map(|waiter| waiter.origin);
        }
        None
    }

    /// Whether operations are under way.
    pub(crate) fn has_operations(&self) -> bool {
        !self.proposed.is_empty() || !self.forwarded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use raft_core::types::Term;

    use super::*;

    fn waiter(term: u64, index: u64) -> Waiter<EntryId, OwnedOutcome> {
        let key = EntryId::new(Term(term), Index(index));
        Waiter { key, since: Instant(index), origin: Origin::Client(ClientId(0), RequestId(index)) }
    }

    #[test]
    fn those_at_one_index_come_out_together_whatever_their_terms() {
        let mut waiting = Waiting::default();
        for (term, index) in [(1, 4), (1, 5), (2, 4)] {
            waiting.proposed(waiter(term, index));
        }
        let mut order = Vec::new();
        while let Some(waiter) = waiting.take_proposed(Index(4)) {
            order.push((waiter.key.term.0, waiter.key.index.0));
        }
        assert_eq!(order, [(1, 4), (2, 4)]);
        assert!(waiting.has_operations());
    }

    #[test]
    fn what_was_forwarded_is_let_go_when_it_will_not_be_answered() {
        let (one, two) = (NodeId::new(1).unwrap(), NodeId::new(2).unwrap());
        let mut waiting = Waiting::default();
        for (number, to, repeatable) in [(1, one, true), (2, one, false), (3, two, true), (4, two, false)] {
            let key = Forwarded { ticket: ForwardTicket(number), to, repeatable };
            let origin = Origin::Client(ClientId(0), RequestId(number));
            waiting.forwarded(Waiter { key, since: Instant(0), origin });
        }
        let number = |origin| if let Origin::Client(_, RequestId(number)) = origin { number } else { 0 };
        // Node 2 leads now: what node 1 was sent goes to it, but for what could run twice.
        assert_eq!(waiting.take_superseded(two).map(number), Some(1));
        assert!(waiting.take_superseded(two).is_none());
        // The connection to node 1 has ended.
        assert_eq!(waiting.take_unanswered(one).map(number), Some(2));
        assert!(waiting.take_unanswered(one).is_none());
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn overdue_operations_come_out_and_others_stay() {
        let mut waiting = Waiting::default();
        waiting.proposed(waiter(1, 4));
        waiting.proposed(waiter(1, 5));
        assert!(waiting.take_overdue(Instant(5)).is_some());
        assert!(waiting.take_overdue(Instant(5)).is_none());
        assert_eq!(waiting.len(), 1);
    }
}
