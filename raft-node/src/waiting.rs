//! Who waits for what: proposals for their entries, forwarded operations for the leader's answer,
//! reads for their confirmation.

use std::collections::VecDeque;

use futures_channel::oneshot;
use raft_core::client::protocol::RequestId;
use raft_core::message::ForwardTicket;
use raft_core::raft::ReadId;
use raft_core::session::owned::OwnedOutcome;
use raft_core::transport::ClientId;
use raft_core::types::{EntryId, Index, Instant};

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

/// All that wait. Its owner bounds how many there are by [`Waiting::len`].
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Ordered by index; of two at one index, at most one is that of the entry applied there.
    proposed: VecDeque<Waiter<EntryId, OwnedOutcome>>,
    /// Ordered by ticket.
    forwarded: VecDeque<Waiter<ForwardTicket, OwnedOutcome>>,
    /// In the order in which they were begun, and so will be confirmed.
    pub(crate) reads: VecDeque<Waiter<Query, Vec<u8>>>,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.proposed.len() + self.forwarded.len() + self.reads.len()
    }

    pub(crate) fn proposed(&mut self, waiter: Waiter<EntryId, OwnedOutcome>) {
        // Nearly always the last one.
        let at = self.proposed.partition_point(|other| other.key.index <= waiter.key.index);
        self.proposed.insert(at, waiter);
    }

    pub(crate) fn forwarded(&mut self, waiter: Waiter<ForwardTicket, OwnedOutcome>) {
        self.forwarded.push_back(waiter);
    }

    /// Takes out who waits for the leader's answer to `ticket`.
    pub(crate) fn take_forwarded(&mut self, ticket: ForwardTicket) -> Option<Waiter<ForwardTicket, OwnedOutcome>> {
        let at = self.forwarded.iter().position(|waiter| waiter.key == ticket)?;
        self.forwarded.remove(at)
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
    fn overdue_operations_come_out_and_others_stay() {
        let mut waiting = Waiting::default();
        waiting.proposed(waiter(1, 4));
        waiting.proposed(waiter(1, 5));
        assert!(waiting.take_overdue(Instant(5)).is_some());
        assert!(waiting.take_overdue(Instant(5)).is_none());
        assert_eq!(waiting.len(), 1);
    }
}
