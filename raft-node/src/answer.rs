//! Answers: from the replica to those who wait.

use raft_core::client::protocol::{NotExecuted, RequestId, Response, ResponseBody};
use raft_core::configuration::Configuration;
use raft_core::machine::Sink;
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::event::{Event, SnapshotRefusal, StepDown};
use raft_core::raft::{StepError, TransferError};
use raft_core::replica::Observer;
use raft_core::session::operation::Outcome;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::SnapshotId;
use raft_core::transport::{ClientId, Network};
use raft_core::types::{EntryId, Index, Instant, NodeId};
use raft_core::wire::Bytes;

use crate::handle::Failed;
use crate::operator::Orders;
use crate::waiting::{Origin, Waiter, Waiting};

/// Tells those who wait what has become of their operations, while the replica is polled.
pub(crate) struct Answering<'a, N, O> {
    pub(crate) waiting: &'a mut Waiting,
    pub(crate) orders: &'a mut Orders,
    pub(crate) network: &'a mut N,
    /// The last entry that the replica has applied.
    pub(crate) applied: Index,
    /// Who else hears of it, first.
    pub(crate) told: &'a mut O,
}

/// Hears of nothing.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn applied(&mut self, _: EntryId, _: Option<Outcome<'_>>) {}
    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}
    fn ignored(&mut self, _: NodeId, _: StepError) {}
}

impl<N: Network, O: Observer> Observer for Answering<'_, N, O> {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.told.applied(entry, outcome);
        self.applied = entry.index;
        self.orders.applied(entry);
        while let Some(Waiter { key, origin, .. }) = self.waiting.take_proposed(entry.index) {
            match outcome {
                Some(outcome) if key == entry => answer_outcome(self.network, origin, outcome),
                // The entry is committed, and this node holds it without what it says: a witness does.
                None if key == entry => fail(self.network, None, origin, Failed::Unknown),
                // Another leader's entry is committed where this one stood: it is lost for good.
                _ => fail(self.network, None, origin, Failed::NotExecuted(NotExecuted::Overtaken)),
            }
        }
    }

    fn forwarded(&mut self, ticket: ForwardTicket, outcome: Result<EntryId, ProposeError>) {
        self.told.forwarded(ticket, outcome);
        let Some(Waiter { since, origin, .. }) = self.waiting.take_forwarded(ticket) else { return };
        match outcome {
            Ok(entry) if entry.index > self.applied => {
                self.waiting.proposed(Waiter { key: entry, since, origin });
            }
            // The answer was overtaken by the entry itself, whose outcome has passed by.
            Ok(_) => fail(self.network, None, origin, Failed::Unknown),
            Err(error) => {
                fail(self.network, None, origin, Failed::NotExecuted(NotExecuted::Refused(error)));
            }
        }
    }

    fn link_closed(&mut self, peer: NodeId) {
        self.told.link_closed(peer);
        while let Some(origin) = self.waiting.take_unanswered(peer) {
            fail(self.network, None, origin, Failed::Unknown);
        }
    }

    fn ignored(&mut self, from: NodeId, error: StepError) {
        self.told.ignored(from, error);
        // That there is no room is told by an event, once.
        if !matches!(error, StepError::Snapshot { reason: SnapshotRefusal::NoSpace, .. }) {
            tracing::warn!(%from, %error, "ignored a message");
        }
    }

    fn event(&mut self, at: Instant, event: Event) {
        self.told.event(at, event);
        match event {
            Event::Expelled { .. }
            | Event::Diverged { .. }
            | Event::PeerForgot { .. }
            | Event::SnapshotRefused { .. }
            | Event::SnapshotFailed { .. }
            | Event::DiskStalled { .. }
            | Event::TransferFailed { .. }
            | Event::SteppedDown { reason: StepDown::LostQuorum | StepDown::NoSpace, .. } => {
                tracing::warn!(?event, "consensus");
            }
            _ => tracing::info!(?event, "consensus"),
        }
    }

    /// What was to be applied up to there will never be seen here: its clients cannot be told.
    fn restored(&mut self, snapshot: SnapshotId) {
        self.told.restored(snapshot);
        self.applied = snapshot.through.index;
        self.orders.restored(snapshot.through.index);
        while let Some(Waiter { origin, .. }) = self.waiting.take_proposed(snapshot.through.index) {
            fail(self.network, None, origin, Failed::Unknown);
        }
    }
}

fn answer_outcome<N: Network>(network: &mut N, origin: Origin<OwnedOutcome>, outcome: Outcome<'_>) {
    match origin {
        Origin::Client(client, id) => network.respond(client, &Response { id, body: ResponseBody::Outcome(outcome) }),
        // A caller that has gone wants no answer.
        Origin::Caller(answer) => drop(answer.send(Ok(outcome.into()))),
    }
}

/// Answers that a request failed, naming the leader to a client that should go there.
pub(crate) fn fail<N: Network, T>(
    network: &mut N,
    configuration: Option<&Configuration>,
    origin: Origin<T>,
    failed: Failed,
) {
    match origin {
        Origin::Client(client, id) => respond_failed(network, configuration, client, id, failed),
        Origin::Caller(answer) => drop(answer.send(Err(failed))),
    }
}

fn respond_failed<N: Network>(
    network: &mut N,
    configuration: Option<&Configuration>,
    client: ClientId,
    id: RequestId,
    failed: Failed,
) {
    let body = match failed {
        Failed::Unknown => ResponseBody::Unknown,
        Failed::NotExecuted(reason) => {
            let leader = match reason {
                NotExecuted::Refused(ProposeError::NotLeader { leader })
                | NotExecuted::Transfer(TransferError::NotLeader { leader }) => leader,
                // A leader that is removed may never learn who follows it: but it knows who is to.
                NotExecuted::Refused(ProposeError::Transferring { to, .. }) => Some(to),
                _ => None,
            };
            let member = leader.and_then(|leader| configuration?.member(leader));
            let leader_address = member.map_or("", |member| member.address.as_str());
            ResponseBody::NotExecuted { reason, leader_address }
        }
    };
    network.respond(client, &Response { id, body });
}

/// Answers a query with what the state machine wrote.
pub(crate) fn answer_query<N: Network>(network: &mut N, origin: Origin<Vec<u8>>, answer: &BoundedVec) {
    let Some(bytes) = answer.bytes() else {
        return fail(network, None, origin, Failed::NotExecuted(NotExecuted::AnswerTooLong));
    };
    match origin {
        Origin::Client(client, id) => {
            network.respond(client, &Response { id, body: ResponseBody::Answer(Bytes(bytes)) });
        }
        Origin::Caller(answer) => drop(answer.send(Ok(bytes.to_vec()))),
    }
}

/// Bytes up to a limit.
#[derive(Debug)]
pub(crate) struct BoundedVec {
    bytes: Vec<u8>,
    bytes_max: usize,
    overflowed: bool,
}

impl BoundedVec {
    pub(crate) fn new(bytes_max: usize) -> BoundedVec {
        BoundedVec { bytes: Vec::new(), bytes_max, overflowed: false }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.overflowed = false;
    }

    /// What was written, or `None` if that was over the limit.
    fn bytes(&self) -> Option<&[u8]> {
        (!self.overflowed).then_some(self.bytes.as_slice())
    }
}

impl Sink for BoundedVec {
    fn write(&mut self, bytes: &[u8]) {
        if self.overflowed || bytes.len() > self.bytes_max - self.bytes.len() {
            self.overflowed = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}
