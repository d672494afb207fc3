//! What operators ask of a node: other members, another leader, a snapshot. It takes a while, so it
//! is looked at in each turn of the loop.

use raft_core::client::protocol::{NotExecuted, RequestBody, Response, ResponseBody, RoleName, decode_changes};
use raft_core::configuration::change::MemberChange;
use raft_core::machine::StateMachine;
use raft_core::message::ProposeError;
use raft_core::raft::{ChangeMembersError, Status};
use raft_core::replica::Replica;
use raft_core::session::memory::HeapMemory;
use raft_core::storage::Storage;
use raft_core::transport::{Network, Transport};
use raft_core::types::{EntryId, Index, Instant, NodeId, Term};

use crate::answer::fail;
use crate::handle::Failed;
use crate::run::NODES_MAX;
use crate::waiting::Origin;

/// The most orders that are under way at once; beyond, it answers `Busy`.
const ORDERS_MAX: usize = 64;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Change { changes: Vec<MemberChange>, force: bool },
    Transfer { to: Option<NodeId> },
    Snapshot,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderDone {
    /// The change of the members is committed, and so is what followed from it.
    Changed {
        /// Its entry.
        entry: EntryId,
    },
    /// Another node leads, in a later term: the one that was asked for, if one was.
    Transferred {
        /// Who does.
        to: NodeId,
    },
    /// The snapshot is durable.
    SnapshotMade {
        /// The last entry that it covers.
        through: Index,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// The change in that entry.
    Changed { entry: EntryId, fate: Fate },
    /// A leader after the one of `term`: `to`, or anybody.
    Transferred { term: Term, to: Option<NodeId> },
    /// A durable snapshot through that entry, or a later one.
    Snapshot(Index),
}

/// What has become of an appended entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing is applied at its index yet: it may be lost, also if another entry stands there for now.
    Open,
    /// It was applied here, so it is committed.
    Committed,
    /// Another entry was applied at its index.
    Lost,
    /// A snapshot has taken the place of the log, past its index.
    Skipped,
}

#[derive(Debug)]
struct Waiter {
    wanted: Wanted,
    since: Instant,
    origin: Origin<OrderDone>,
}

/// The orders under way.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Vec<Waiter>,
}

type NodeReplica<S, T, M> = Replica<S, T, M, HeapMemory, NODES_MAX>;

impl Order {
    /// The order in a request, if it is one.
    pub(crate) fn of(body: &RequestBody<'_>) -> Option<Result<Order, NotExecuted>> {
        match *body {
            RequestBody::Change { changes, force } => Some(match decode_changes(changes.0) {
                Ok(changes) => Ok(Order::Change { changes: changes.into_iter().collect(), force }),
                Err(_) => Err(NotExecuted::Unsupported),
            }),
            RequestBody::Transfer { to } => Some(Ok(Order::Transfer { to })),
            RequestBody::Snapshot => Some(Ok(Order::Snapshot)),
            _ => None,
        }
    }
}

impl Orders {
    /// Begins what is asked, or says at once why not.
    pub(crate) fn begin<S: Storage, T: Transport, M: StateMachine, N: Network>(
        &mut self,
        now: Instant,
        replica: &mut NodeReplica<S, T, M>,
        network: &mut N,
        order: Result<Order, NotExecuted>,
        origin: Origin<OrderDone>,
    ) {
        let busy = self.waiting.len() >= ORDERS_MAX;
        let begun = match order {
            _ if busy => Err(NotExecuted::Refused(ProposeError::Busy)),
            Ok(order) => begin(now, replica, &order),
            Err(reason) => Err(reason),
        };
        match begun {
            Ok(wanted) => self.waiting.push(Waiter { wanted, since: now, origin }),
            Err(reason) => fail(network, Some(replica.configuration()), origin, Failed::NotExecuted(reason)),
        }
    }

    /// An entry was applied.
    pub(crate) fn applied(&mut self, applied: EntryId) {
        for waiter in &mut self.waiting {
            if let Wanted::Changed { entry, fate } = &mut waiter.wanted
                && entry.index == applied.index
            {
                *fate = if *entry == applied { Fate::Committed } else { Fate::Lost };
            }
        }
    }

    /// A snapshot has taken the place of all entries through `through`.
    pub(crate) fn restored(&mut self, through: Index) {
        for waiter in &mut self.waiting {
            if let Wanted::Changed { entry, fate: fate @ Fate::Open } = &mut waiter.wanted
                && entry.index <= through
            {
                *fate = Fate::Skipped;
            }
        }
    }

    /// Answers the orders that have come to their end.
    pub(crate) fn look<S: Storage, T: Transport, M: StateMachine, N: Network>(
        &mut self,
        before: Instant,
        replica: &NodeReplica<S, T, M>,
        network: &mut N,
    ) {
        let mut number = 0;
        while let Some(waiter) = self.waiting.get(number) {
            let end = match state(replica, waiter.wanted) {
                None if waiter.since < before => Some(Err(Failed::Unknown)),
                state => state,
            };
            match end {
                None => number += 1,
                Some(end) => answer(network, replica, self.waiting.swap_remove(number).origin, end),
            }
        }
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn begin<S: Storage, T: Transport, M: StateMachine>(
    now: Instant,
    replica: &mut NodeReplica<S, T, M>,
    order: &Order,
) -> Result<Wanted, NotExecuted> {
    match order {
        Order::Change { changes, force } => match replica.change_members(now, changes, *force) {
            Ok(entry) => Ok(Wanted::Changed { entry, fate: Fate::Open }),
            Err(ChangeMembersError::Propose(error)) => Err(NotExecuted::Refused(error)),
            Err(ChangeMembersError::Change(error)) => Err(NotExecuted::Change(error)),
            // The storage has failed, and the node is about to stop.
            Err(_) => Err(NotExecuted::Stopping),
        },
        Order::Transfer { to } => {
            replica.transfer(now, *to).map_err(NotExecuted::Transfer)?;
            Ok(Wanted::Transferred { term: replica.raft().term(), to: *to })
        }
        Order::Snapshot => Ok(Wanted::Snapshot(replica.make_snapshot())),
    }
}

/// What has come of it, if it has come to its end.
fn state<S: Storage, T: Transport, M: StateMachine>(
    replica: &NodeReplica<S, T, M>,
    wanted: Wanted,
) -> Option<Result<OrderDone, Failed>> {
    let status = replica.raft().status();
    match wanted {
        Wanted::Changed { entry, fate } => changed(&status, entry, fate),
        Wanted::Transferred { term, to } => transferred(&status, term, to),
        // One that was received takes the place of the log at once, and is durable with the next save.
        Wanted::Snapshot(index) if status.snapshot >= index && status.snapshot <= status.saved => {
            Some(Ok(OrderDone::SnapshotMade { through: status.snapshot }))
        }
        Wanted::Snapshot(_) => None,
    }
}

type NodeStatus = Status<NODES_MAX>;

fn changed(status: &NodeStatus, entry: EntryId, fate: Fate) -> Option<Result<OrderDone, Failed>> {
    let latest = status.configuration;
    match fate {
        Fate::Open => None,
        Fate::Lost => Some(Err(Failed::NotExecuted(NotExecuted::Overtaken))),
        // The log has no configuration at the entry's index, or another one.
        Fate::Skipped if latest.index <= entry.index && latest != entry => {
            Some(Err(Failed::NotExecuted(NotExecuted::Overtaken)))
        }
        // Later ones have taken its place, or that of the one that was committed instead of it.
        Fate::Skipped if latest != entry => Some(Err(Failed::Unknown)),
        Fate::Skipped | Fate::Committed => {
            // The next change begins when this one is over. Until then the latest configuration is this one's second
            // step, or follows that.
            let is_over = if latest == entry { !status.joint } else { status.joint || status.commit >= latest.index };
            is_over.then_some(Ok(OrderDone::Changed { entry }))
        }
    }
}

/// Whether `to`, or anybody, leads after this node, which led `term`. Who is asked to take over campaigns in the next
/// term, and in no later one by that: so if another leads the next one, it has failed.
fn transferred(status: &NodeStatus, term: Term, to: Option<NodeId>) -> Option<Result<OrderDone, Failed>> {
    let not_taken_over = Some(Err(Failed::NotExecuted(NotExecuted::NotTakenOver)));
    if status.role == RoleName::Leader && status.term == term {
        return if status.transfer.is_some() { None } else { not_taken_over };
    }
    let leader = status.leader.filter(|_| status.term > term)?;
    if leader != status.id && to.is_none_or(|to| to == leader) {
        return Some(Ok(OrderDone::Transferred { to: leader }));
    }
    if status.term == term.next() { not_taken_over } else { Some(Err(Failed::Unknown)) }
}

fn answer<S: Storage, T: Transport, M: StateMachine, N: Network>(
    network: &mut N,
    replica: &NodeReplica<S, T, M>,
    origin: Origin<OrderDone>,
    end: Result<OrderDone, Failed>,
) {
    match (origin, end) {
        (Origin::Client(client, id), Ok(done)) => {
            let body = match done {
                OrderDone::Changed { entry } => ResponseBody::Changed { entry },
                OrderDone::Transferred { to } => ResponseBody::Transferred { to },
                OrderDone::SnapshotMade { through } => ResponseBody::SnapshotMade { through },
            };
            network.respond(client, &Response { id, body });
        }
        (Origin::Caller(caller), Ok(done)) => drop(caller.send(Ok(done))),
        (origin, Err(failed)) => fail(network, Some(replica.configuration()), origin, failed),
    }
}
