//! Three replicas, the time they share, and the wires between them.

use heapless::Vec;
use raft_core::client::protocol::RoleName;
use raft_core::configuration::{self, Configuration};
use raft_core::entry::HEADER_BYTES;
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::replica::{Observer, Replica};
use raft_core::ring::RingLog;
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, bytes_needed};
use raft_core::session::operation::{OPERATION_HEAD_BYTES_MAX, Operation, Outcome, Refusal};
use raft_core::types::{EntryId, Index, Instant, Millis, NodeId, Nonce, SessionId};

use crate::counter::{Counter, NUMBER_BYTES};
use crate::links::{ENTRY_BYTES_MAX, Links};

/// The members of the group.
pub(crate) const NODES: usize = 3;

/// The limits of the session table, the same on every node.
pub(crate) const LIMITS: SessionLimits = SessionLimits {
    sessions: 4,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(60_000),
    time_step_max: Millis(6_000),
    evict_idle: None,
};

/// The log: so many entries, and so many bytes of their records.
const LOG_ENTRIES: usize = 16;
const LOG_BYTES: usize = 1024;

/// The longest payload of an entry: an operation with its command.
const PAYLOAD_BYTES_MAX: usize = OPERATION_HEAD_BYTES_MAX + NUMBER_BYTES;
const _: () = assert!(HEADER_BYTES + PAYLOAD_BYTES_MAX <= ENTRY_BYTES_MAX, "each entry fits in a message");

/// More rounds than anything here takes.
const ROUNDS_MAX: usize = 1_000;

type Log = RingLog<LOG_ENTRIES, LOG_BYTES>;
type Sessions = FixedMemory<{ LIMITS.sessions as usize }, { bytes_needed(&LIMITS, NUMBER_BYTES) }>;
/// One replica with all of its memory.
pub(crate) type Node = Replica<Log, Links<{ NODES - 1 }>, Counter, Sessions, NODES>;

/// The group.
pub(crate) struct Group {
    nodes: &'static mut Vec<Node, NODES>,
    /// A clock that moves when there is nothing to do before a node's deadline. On a board it is
    /// a timer, and the wait a sleep.
    now: Instant,
    /// The node whose frames are lost in both directions.
    cut_off: Option<NodeId>,
}

/// What a client is told of its operation, and of which entry that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A session is open.
    Opened(SessionId),
    /// A command was executed at that entry, where the counter became `value`: by this operation
    /// or, if it is `replayed`, by an earlier one.
    Counted { index: Index, value: u64, replayed: bool },
    /// The session layer refused it.
    Refused(Refusal),
    /// An answer that the counter never gives.
    Other,
}

impl From<Outcome<'_>> for Reply {
    fn from(outcome: Outcome<'_>) -> Reply {
        match outcome {
            Outcome::Opened { session, .. } => Reply::Opened(session),
            Outcome::Answered { index, answer, replayed } => match answer.0.try_into() {
                Ok(value) => Reply::Counted { index, value: u64::from_le_bytes(value), replayed },
                Err(_) => Reply::Other,
            },
            Outcome::Refused(refusal) => Reply::Refused(refusal),
            _ => Reply::Other,
        }
    }
}

/// Waits for the outcome of an entry. It is the same on every node, so it does not matter which
/// one applies it first.
#[derive(Default)]
struct Await {
    entry: Option<EntryId>,
    reply: Option<Reply>,
}

impl Observer for Await {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        if self.entry == Some(entry) {
            self.reply = outcome.map(Reply::from);
        }
    }

    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}

    fn ignored(&mut self, from: NodeId, error: StepError) {
        panic!("a message of node {from} was ignored: {error}");
    }

    #[cfg(feature = "events")]
    fn event(&mut self, at: Instant, event: raft_core::raft::event::Event) {
        cortex_m_semihosting::hprintln!("  {} ms: {:?}", at.0, event);
    }
}

impl Group {
    /// Starts the members of `configuration` in the memory of `nodes`.
    pub(crate) fn start(nodes: &'static mut Vec<Node, NODES>, configuration: &Configuration) -> Group {
        let now = Instant(0);
        for member in configuration.members() {
            start_node(nodes, member.id, configuration, now);
        }
        Group { nodes, now, cut_off: None }
    }

    /// The replicas, to look at.
    pub(crate) fn nodes(&self) -> &[Node] {
        self.nodes
    }

    /// From now on, what this node sends is lost, and so is what is sent to it; `None`: nothing is.
    pub(crate) fn cut_off(&mut self, node: Option<NodeId>) {
        self.cut_off = node;
    }

    /// Runs the group until one of the nodes that reach each other leads them; gives which.
    pub(crate) fn elect(&mut self) -> NodeId {
        for _ in 0..ROUNDS_MAX {
            if let Some(leader) = self.leader() {
                return leader.raft().id();
            }
            self.round(&mut Await::default());
        }
        panic!("nobody was elected");
    }

    /// Has the leader commit `operation`, and gives what came of it.
    pub(crate) fn call(&mut self, secret: Nonce, operation: &Operation<'_>) -> Reply {
        let mut waiting = Await::default();
        for _ in 0..ROUNDS_MAX {
            if let Some(reply) = waiting.reply {
                return reply;
            }
            if waiting.entry.is_none() {
                waiting.entry = self.propose(secret, operation);
            }
            self.round(&mut waiting);
        }
        panic!("the operation was not committed");
    }

    /// Runs the group until all of its nodes have applied as much as the leader has committed.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some(commit) = self.leader().map(|leader| leader.raft().commit())
                && self.nodes.iter().all(|node| node.raft().last_applied() == commit)
            {
                return;
            }
            self.round(&mut Await::default());
        }
        panic!("the nodes did not come to the same state");
    }

    /// `None` while there is no leader that takes it.
    fn propose(&mut self, secret: Nonce, operation: &Operation<'_>) -> Option<EntryId> {
        let (now, leader) = (self.now, self.leader()?.raft().id());
        match self.node(leader)?.propose(now, Some(secret), operation) {
            Ok(entry) => Some(entry),
            Err(ProposeError::NotReady | ProposeError::NotLeader { .. } | ProposeError::Busy) => None,
            Err(error) => panic!("the leader refuses the operation: {error}"),
        }
    }

    /// The latest leader among the nodes that reach each other. One that was cut off goes on to
    /// think that it leads.
    fn leader(&self) -> Option<&Node> {
        let leaders = self.nodes.iter().filter(|node| node.raft().role() == RoleName::Leader);
        leaders.filter(|node| Some(node.raft().id()) != self.cut_off).max_by_key(|node| node.raft().term())
    }

    fn node(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.raft().id() == id)
    }

    /// Every node does what it has to do, and what they have sent is carried. If that is nothing,
    /// time moves to the first deadline.
    fn round(&mut self, observer: &mut Await) {
        let mut deadline = Instant::NEVER;
        for node in self.nodes.iter_mut() {
            let next = node.poll(&|| self.now, observer).expect("a log in memory does not fail");
            deadline = deadline.min(next);
        }
        if !self.carry() {
            self.now = self.now.max(deadline);
        }
    }

    /// Carries what the nodes have sent; gives whether that was anything.
    fn carry(&mut self) -> bool {
        let mut carried = false;
        for sender in 0..self.nodes.len() {
            while let Some(node) = self.nodes.get_mut(sender)
                && let Some((to, frame)) = node.transport_mut().take_outgoing()
            {
                carried = true;
                let from = node.raft().id();
                if self.cut_off != Some(from)
                    && self.cut_off != Some(to)
                    && let Some(receiver) = self.node(to)
                {
                    receiver.transport_mut().bring(frame);
                }
            }
        }
        carried
    }
}

/// Starts a node with an empty log in its place in `nodes`. It is made on the stack and then moved
/// there, so this has a stack frame of its own, which is gone when the group runs.
#[inline(never)]
fn start_node(nodes: &mut Vec<Node, NODES>, id: NodeId, configuration: &Configuration, now: Instant) {
    let mut log = Log::new();
    configuration::bootstrap(&mut log, configuration).expect("an empty log has room for its first entry");
    let peers = configuration.members().iter().map(|peer| peer.id).filter(|&peer| peer != id);
    let config = Config {
        entry_bytes_max: PAYLOAD_BYTES_MAX,
        message_bytes_max: ENTRY_BYTES_MAX,
        inflight_entries_max: 8,
        inflight_bytes_max: 512,
        uncommitted_entries_max: 8,
        uncommitted_bytes_max: 512,
        seed: id.get(),
        ..Config::default()
    };
    match Replica::new(id, config, log, Links::new(peers), Counter::default(), Sessions::new(), now) {
        Ok(node) => assert!(nodes.push(node).is_ok(), "there is memory for each member"),
        Err(error) => panic!("node {id} does not start: {error}"),
    }
}
