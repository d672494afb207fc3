//! Replicas over logs in memory and links that the test carries, in virtual time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raft_core::client::protocol::RoleName;
use raft_core::configuration::{Configuration, Lease, Member, Suffrage};
use raft_core::message::{ForwardTicket, Message, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::replica::{Observer, PollError, Replica};
use raft_core::ring::Never;
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, bytes_needed};
use raft_core::session::operation::{Operation, Outcome};
use raft_core::storage::SnapshotId;
use raft_core::transport::Transport;
use raft_core::types::{ClusterId, EntryId, Incarnation, Index, Instant, Millis, NodeId};
use raft_core::wire::Bytes;

use crate::common::DeferredLog;
use crate::common::parts::{Counter, Link};

const LIMITS: SessionLimits = SessionLimits {
    sessions: 4,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(10_000),
    time_step_max: Millis(1_000),
    evict_idle: None,
};
const SESSION_BYTES: usize = bytes_needed(&LIMITS, 8);

/// Links whose handshakes have told which storage each node has.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) link: Link,
    pub(crate) met: BTreeMap<u64, Incarnation>,
    pub(crate) configured: Vec<Vec<u64>>,
    /// The thread loses the processor before it takes the next message: that clock shows so much then.
    pub(crate) pause: Option<(Rc<Cell<u64>>, u64)>,
}

impl Transport for Links {
    fn receive(&mut self) -> Option<Message<'_>> {
        if let Some((clock, now)) = self.pause.take() {
            clock.set(now);
        }
        self.link.receive()
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        self.link.room(peer)
    }

    fn send(&mut self, message: &Message<'_>) {
        self.link.send(message);
    }

    fn flush(&mut self) {}

    fn configure(&mut self, configuration: &Configuration) {
        self.configured.push(configuration.members().iter().map(|member| member.id.get()).collect());
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.met.get(&node.get()).copied()
    }
}

pub(crate) type Node = Replica<DeferredLog, Links, Counter, FixedMemory<4, SESSION_BYTES>, 5>;

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) applied: Vec<EntryId>,
    opened: Vec<EntryId>,
    pub(crate) events: Vec<Event>,
    pub(crate) restored: Vec<SnapshotId>,
    pub(crate) forwarded: Vec<(ForwardTicket, Result<EntryId, ProposeError>)>,
}

impl Observer for Told {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.applied.push(entry);
        if let Some(Outcome::Opened { .. }) = outcome {
            self.opened.push(entry);
        }
    }

    fn forwarded(&mut self, ticket: ForwardTicket, outcome: Result<EntryId, ProposeError>) {
        self.forwarded.push((ticket, outcome));
    }

    fn ignored(&mut self, from: NodeId, error: StepError) {
        panic!("a message of {from} was ignored: {error}");
    }

    fn event(&mut self, _: Instant, event: Event) {
        self.events.push(event);
    }

    fn restored(&mut self, snapshot: SnapshotId) {
        self.restored.push(snapshot);
    }
}

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) told: Vec<Told>,
    pub(crate) now: u64,
    config: Config,
    /// Nodes to and from which nothing gets through.
    pub(crate) cut: BTreeSet<u64>,
    /// Nodes that may find that they cannot go on, and what those that did have said.
    pub(crate) may_stop: BTreeSet<u64>,
    pub(crate) stopped: BTreeMap<u64, PollError<Never>>,
}

impl World {
    pub(crate) fn new(members: &[Suffrage], config: Config) -> World {
        World::of(members, config, None)
    }

    pub(crate) fn of(members: &[Suffrage], config: Config, lease: Option<Lease>) -> World {
        let list = (1..).zip(members).map(|(node, &suffrage)| Member::new(id(node), suffrage, "").unwrap());
        let configuration = Configuration::new(ClusterId(1), LIMITS, list).unwrap();
        let configuration = match lease {
            Some(lease) => configuration.with_lease(lease).unwrap(),
            None => configuration,
        };
        let config = Config { election_timeout: Millis(100), heartbeat_interval: Millis(10), ..config };
        let mut world = World {
            nodes: Vec::new(),
            told: Vec::new(),
            now: 0,
            config,
            cut: BTreeSet::new(),
            may_stop: BTreeSet::new(),
            stopped: BTreeMap::new(),
        };
        for node in 1..=members.len() as u64 {
            let log = DeferredLog::new(&configuration);
            world.start(node, log);
        }
        world
    }

    pub(crate) fn start(&mut self, node: u64, log: DeferredLog) {
        self.start_with(node, log, Counter::default());
    }

    /// Starts a node whose state machine is not as it was before the first entry.
    pub(crate) fn start_with(&mut self, node: u64, log: DeferredLog, machine: Counter) {
        let config = Config { seed: node, ..self.config };
        let (links, now) = (Links::default(), Instant(self.now));
        let replica = Replica::new(id(node), config, log, links, machine, FixedMemory::new(), now);
        let replica = replica.unwrap();
        if let Some(place) = self.nodes.get_mut(node as usize - 1) {
            *place = replica;
            self.told[node as usize - 1] = Told::default();
        } else {
            self.nodes.push(replica);
            self.told.push(Told::default());
        }
    }

    pub(crate) fn node(&mut self, node: u64) -> &mut Node {
        &mut self.nodes[node as usize - 1]
    }

    /// Time passes, a few milliseconds at a time, and messages arrive at once.
    pub(crate) fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(5) {
            self.now += 5;
            for _ in 0..3 {
                (1..=self.nodes.len() as u64).for_each(|node| self.poll(node));
            }
        }
    }

    /// Polls one node, unless it has stopped, and carries what it has sent.
    pub(crate) fn poll(&mut self, node: u64) {
        let at = node as usize - 1;
        if self.stopped.contains_key(&node) {
            return;
        }
        if let Err(error) = self.nodes[at].poll(&|| Instant(self.now), &mut self.told[at]) {
            assert!(self.may_stop.contains(&node), "node {node} cannot go on: {error:?}");
            self.stopped.insert(node, error);
        }
        for (to, bytes) in core::mem::take(&mut self.nodes[at].transport_mut().link.sent) {
            if !self.cut.contains(&to) && !self.cut.contains(&node) {
                self.node(to).transport_mut().link.arrived.push_back(bytes);
            }
        }
    }

    pub(crate) fn leader(&mut self) -> u64 {
        for _ in 0..100 {
            self.pass(10);
            let leads = |node: &&Node| node.raft().role() == RoleName::Leader && node.raft().commit() > Index(1);
            if let Some(node) = self.nodes.iter().find(leads) {
                return node.raft().id().get();
            }
        }
        panic!("nobody leads");
    }

    pub(crate) fn propose(&mut self, node: u64, operation: &Operation<'_>) -> EntryId {
        let now = Instant(self.now);
        self.node(node).propose(now, None, operation).unwrap()
    }

    pub(crate) fn command(&mut self, node: u64) -> EntryId {
        self.propose(node, &Operation::Plain { command: Bytes(b"x") })
    }
}

/// The members of most of these clusters.
pub(crate) const THREE: [Suffrage; 3] = [Suffrage::Voter; 3];
