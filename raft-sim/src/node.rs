//! One machine of the world: a disk, a clock, a process that runs the node's event loop, or none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use raft_core::configuration::Configuration;
use raft_core::machine::StateMachine;
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::replica::Observer;
use raft_core::session::operation::Outcome;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::SnapshotId;
use raft_core::types::{EntryId, Instant, Millis, NodeId};
use raft_node::{Clock, EventLoop, Handle, NodeOptions, StartError};
use raft_storage_file::simulated::Disk;
use raft_storage_file::{FileStorage, Identity, OpenError, Options as StorageOptions, StorageError, SuspectTail};
use thiserror::Error;

use crate::endpoint::{Post, SharedPost, SimNetwork, SimPeers};
use crate::watched::{Execution, LogChange, Seen, WatchedMachine, WatchedStorage};

/// How many of its last configurations are remembered of a node.
const CONFIGURATIONS_MAX: usize = 3;

/// A node's monotonic clock. It runs at a rate of its own and jumps ahead; it never goes back.
#[derive(Clone, Debug)]
pub(crate) struct NodeClock {
    /// What it shows, in milliseconds, while the node looks at it.
    shown: Rc<Cell<u64>>,
    /// Parts of a million; 1,000,000 is the world's own rate.
    rate: u64,
    ahead_millis: u64,
}

impl NodeClock {
    pub(crate) fn new(rate: u64, ahead_millis: u64) -> NodeClock {
        NodeClock { shown: Rc::new(Cell::new(0)), rate, ahead_millis }
    }

    /// What it shows at `now` of the world, in microseconds.
    pub(crate) fn read(&self, now: u64) -> Instant {
        Instant(self.ahead_millis + now * self.rate / 1_000_000_000)
    }

    /// The first moment of the world at which it shows `at` or later.
    pub(crate) fn moment(&self, at: Instant) -> u64 {
        if at == Instant::NEVER {
            return u64::MAX;
        }
        let millis = at.0.saturating_sub(self.ahead_millis);
        millis.saturating_mul(1_000_000_000).div_ceil(self.rate)
    }

    pub(crate) fn jump(&mut self, millis: u64) {
        self.ahead_millis += millis;
    }

    pub(crate) fn show(&self, now: u64) {
        self.shown.set(self.read(now).0);
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Instant {
        Instant(self.shown.get())
    }
}

/// The event loop that ships, over simulated parts.
pub(crate) type Process<M> = EventLoop<WatchedStorage, SimNetwork, WatchedMachine<M>, NodeClock>;

/// What a node does at present.
pub(crate) enum State<M> {
    Up(Box<Process<M>>),
    /// Its process is there and does not run, until then.
    Paused(Box<Process<M>>),
    Down,
    /// It will not come back: its storage was refused, or it was told that it is no member any more.
    Gone,
}

/// What a node's loop has told in one turn.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    pub(crate) applied: Vec<(EntryId, Option<OwnedOutcome>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) ignored: Vec<(NodeId, StepError)>,
    pub(crate) restored: Vec<SnapshotId>,
}

impl Observer for Hearing {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.applied.push((entry, outcome.map(OwnedOutcome::from)));
    }

    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}

    fn ignored(&mut self, from: NodeId, error: StepError) {
        self.ignored.push((from, error));
    }

    fn event(&mut self, _: Instant, event: Event) {
        self.events.push(event);
    }

    fn restored(&mut self, snapshot: SnapshotId) {
        self.restored.push(snapshot);
    }
}

/// A fault that a node has met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) fault: &'static str,
    /// What the node was then.
    pub(crate) role: &'static str,
    /// How often it had started.
    pub(crate) lives: u64,
    /// When the fault is over, if the process lives on.
    pub(crate) over_at: u64,
}

/// A machine.
pub(crate) struct Node<M> {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    pub(crate) disk: Disk,
    /// What the disk held once: a copy that somebody made.
    pub(crate) old_disk: Option<Disk>,
    pub(crate) clock: NodeClock,
    pub(crate) post: SharedPost,
    pub(crate) state: State<M>,
    pub(crate) handle: Option<Handle>,
    pub(crate) changes: Seen<LogChange>,
    pub(crate) executions: Seen<Execution>,
    /// How often it has started.
    pub(crate) lives: u64,
    /// When its loop is turned next, and the number of that turn.
    pub(crate) turn_at: u64,
    pub(crate) turn_number: u64,
    /// Until when it is at work and takes nothing in.
    pub(crate) busy_until: u64,
    /// Until when its disk is slow.
    pub(crate) stalled_until: u64,
    /// Whether something was done to it after which its process may end by itself.
    pub(crate) may_stop: bool,
    /// Whether its storage was tampered with so that it may lack what it acknowledged.
    pub(crate) tampered: bool,
    /// Whether its storage cut something off that it may have acknowledged: it neither votes nor leads for a while.
    pub(crate) suspect: bool,
    /// The configurations that held here last, the latest one last: after a power loss one of them holds again.
    pub(crate) configurations: Vec<(EntryId, Configuration)>,
    /// Faults that it has met, and of which it is not known yet what came of them.
    pub(crate) met: Vec<Met>,
    /// Its own settings.
    pub(crate) raft: Config,
    /// What configuration it is told to join with, if it is not of the first members.
    pub(crate) joins: Option<Configuration>,
}

/// Why a node could not start.
#[derive(Debug, Error)]
pub(crate) enum CannotStart {
    #[error("its storage: {0}")]
    Storage(#[from] OpenError),
    #[error("its node: {0}")]
    Node(#[from] StartError<StorageError>),
}

impl<M: StateMachine> Node<M> {
    pub(crate) fn new(id: NodeId, identity: Identity, clock: NodeClock, joins: Option<Configuration>) -> Node<M> {
        Node {
            post: Rc::new(RefCell::new(Post::new(id, identity.incarnation, usize::MAX))),
            disk: Disk::new(),
            old_disk: None,
            state: State::Down,
            handle: None,
            changes: Seen::default(),
            executions: Seen::default(),
            lives: 0,
            turn_at: u64::MAX,
            turn_number: 0,
            busy_until: 0,
            stalled_until: 0,
            may_stop: false,
            tampered: false,
            suspect: false,
            configurations: Vec::new(),
            met: Vec::new(),
            raft: Config::default(),
            id,
            identity,
            clock,
            joins,
        }
    }

    pub(crate) fn process(&self) -> Option<&Process<M>> {
        match &self.state {
            State::Up(process) | State::Paused(process) => Some(process),
            State::Down | State::Gone => None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Starts a process over what the disk holds.
    pub(crate) fn start(
        &mut self,
        now: u64,
        raft: Config,
        first: &Configuration,
        segment_bytes: u64,
        machine: M,
    ) -> Result<(), CannotStart> {
        let options = StorageOptions {
            segment_bytes,
            segment_bytes_first: segment_bytes,
            cache_bytes: 16 << 10,
            pending_bytes_max: 1 << 20,
            suspect_tail: SuspectTail::Cut,
        };
        let (storage, report) =
            FileStorage::open_or_create(self.disk.clone(), self.identity, options).map_err(CannotStart::Storage)?;
        self.suspect |= report.suspect_through.is_some();
        self.clock.show(now);
        self.lives += 1;
        self.changes.borrow_mut().clear();
        self.executions.borrow_mut().clear();
        let storage = WatchedStorage::new(storage, Rc::clone(&self.changes));
        let machine = WatchedMachine::new(machine, Rc::clone(&self.executions));
        *self.post.borrow_mut() = Post::new(self.id, self.identity.incarnation, raft.message_bytes_max);
        self.raft = raft;
        let options = NodeOptions {
            raft: self.raft,
            create: self.joins.is_none().then(|| first.clone()),
            join: self.joins.clone(),
            // After so long a node tells a client that it does not know the outcome.
            request_timeout: Millis(2 * raft.election_timeout.0),
            stop_timeout: Millis(500),
            ..NodeOptions::new(self.id)
        };
        let (network, peers) = (SimNetwork::new(Rc::clone(&self.post)), SimPeers::new(Rc::clone(&self.post)));
        let (process, handle) =
            EventLoop::new(options, storage, network, peers, machine, self.clock.clone()).map_err(CannotStart::Node)?;
        self.state = State::Up(Box::new(process));
        self.handle = Some(handle);
        self.busy_until = now;
        Ok(())
    }

    /// Takes note of the configuration that holds here.
    pub(crate) fn note_configuration(&mut self) {
        let Some(replica) = self.process().map(|process| process.replica()) else { return };
        let entry = replica.raft().configuration_entry();
        if self.configurations.last().is_none_or(|(known, _)| *known != entry) {
            let configuration = replica.configuration().clone();
            self.configurations.push((entry, configuration));
            if self.configurations.len() > CONFIGURATIONS_MAX {
                self.configurations.remove(0);
            }
        }
    }

    /// Its process is no more.
    pub(crate) fn end_process(&mut self) {
        self.state = State::Down;
        self.handle = None;
        self.turn_at = u64::MAX;
        self.turn_number += 1;
        self.post.borrow_mut().arrived.clear();
        self.post.borrow_mut().requests.clear();
    }
}
