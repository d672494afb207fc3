//! One machine of the world: a disk, a clock, a process that runs the node's event loop, or none.

use std::cell::RefCell;
use std::rc::Rc;

use raft_core::configuration::{Configuration, Member};
use raft_core::machine::StateMachine;
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::raft::event::{Event, Expulsion};
use raft_core::replica::Observer;
use raft_core::session::operation::Outcome;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::{SnapshotId, Storage};
use raft_core::types::{EntryId, Index, Instant, Millis, NodeId};
use raft_node::{EventLoop, Handle, NodeOptions, StartError};
use raft_storage_file::simulated::Disk;
use raft_storage_file::{FileStorage, Identity, OpenError, Options as StorageOptions, StorageError, SuspectTail};
use thiserror::Error;

use crate::check::refusals::{Scene, Standing};
use crate::endpoint::{Post, SharedPost, SimNetwork, SimPeers};
use crate::network::Place;
use crate::random::Random;
use crate::thread::{NodeClock, Pace, Thread, ThreadClock};
use crate::watched::{Execution, LogChange, Seen, WatchedMachine, WatchedStorage};
use crate::world::Mail;

/// How many of its last configurations are remembered of a node.
const CONFIGURATIONS_MAX: usize = 3;

/// The event loop that ships, over simulated parts.
pub(crate) type Process<M> = EventLoop<WatchedStorage, SimNetwork, WatchedMachine<M>, ThreadClock>;

/// What a node does at present.
pub(crate) enum State<M> {
    Up(Box<Process<M>>),
    /// Its process is there and does not run, until then.
    Paused(Box<Process<M>>),
    Down,
}

/// What a node's loop has told in one turn.
pub(crate) struct Hearing {
    thread: Rc<Thread>,
    pub(crate) applied: Vec<(EntryId, Option<OwnedOutcome>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) ignored: Vec<(NodeId, StepError)>,
    pub(crate) restored: Vec<SnapshotId>,
}

impl Hearing {
    pub(crate) fn new(thread: Rc<Thread>) -> Hearing {
        Hearing { thread, applied: Vec::new(), events: Vec::new(), ignored: Vec::new(), restored: Vec::new() }
    }
}

impl Observer for Hearing {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.thread.has_applied(entry.index);
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
        self.thread.has_applied(snapshot.through.index);
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

/// What takes the processor from the thread that turns a node's loop, or puts the whole machine to sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupting {
    /// When the turn began that it interrupts; `None` while there was none since it was planned.
    pub(crate) since: Option<u64>,
    /// At which call of the loop.
    pub(crate) call: u64,
    /// For how long, in microseconds.
    pub(crate) micros: u64,
    /// Whether the whole machine sleeps: nothing reaches it.
    pub(crate) asleep: bool,
    /// The last entry that any node knew to be committed when the turn began.
    pub(crate) committed: Index,
}

/// Sockets that are not read for a while: those from one place, or all.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub(crate) until: u64,
    pub(crate) from: Option<Place>,
    pub(crate) mail: Vec<(Place, Mail)>,
}

/// A machine.
pub(crate) struct Node<M> {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    pub(crate) disk: Disk,
    /// What the disk held once: a copy that somebody made.
    pub(crate) old_disk: Option<Disk>,
    pub(crate) thread: Rc<Thread>,
    pub(crate) interrupting: Option<Interrupting>,
    pub(crate) unread: Unread,
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
    /// Whether it is given up: its storage was refused, or it was told that it is no member any more.
    pub(crate) gone: bool,
    /// For what it was expelled last.
    pub(crate) expelled_for: Option<Expulsion>,
    /// Whether an operator has taken it away for good.
    pub(crate) taken_away: bool,
    /// Whether it was expelled before its last turn, and still is.
    pub(crate) expelled: bool,
    /// How often its process has ended for a reason that will be there again.
    pub(crate) ends: u32,
    /// The configurations that held here last, the latest one last: after a power loss one of them holds again.
    pub(crate) configurations: Vec<(EntryId, Configuration)>,
    /// Faults that it has met, and of which it is not known yet what came of them.
    pub(crate) met: Vec<Met>,
    /// Its own settings.
    pub(crate) raft: Config,
    /// What it was before the last turn of its loop, and after it.
    pub(crate) standings: (Standing, Standing),
    /// To whom it began to hand over in that turn.
    pub(crate) handed_to: Vec<NodeId>,
    /// Whether it appended a configuration in the last turn.
    pub(crate) changed: bool,
    /// Whether it was asked to stop in this life.
    pub(crate) stopping: bool,
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
    pub(crate) fn new(identity: Identity, random: Random, clock: NodeClock, joins: Option<Configuration>) -> Node<M> {
        let id = identity.node;
        let post = Rc::new(RefCell::new(Post::new(id, identity.incarnation, usize::MAX)));
        Node {
            thread: Rc::new(Thread::new(random, clock, Rc::clone(&post))),
            interrupting: None,
            unread: Unread::default(),
            post,
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
            gone: false,
            expelled_for: None,
            taken_away: false,
            expelled: false,
            ends: 0,
            configurations: Vec::new(),
            met: Vec::new(),
            raft: Config::default(),
            standings: Default::default(),
            handed_to: Vec::new(),
            changed: false,
            stopping: false,
            id,
            identity,
            joins,
        }
    }

    pub(crate) fn process(&self) -> Option<&Process<M>> {
        match &self.state {
            State::Up(process) | State::Paused(process) => Some(process),
            State::Down => None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether the thread that turns its loop has lost the processor in the midst of a turn.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupting.is_some_and(|interrupting| interrupting.since.is_some())
    }

    /// Whether the machine sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.is_interrupted() && self.interrupting.is_some_and(|interrupting| interrupting.asleep)
    }

    /// Hands something to the mailbox of its process, if there is one.
    pub(crate) fn hand(&self, letter: impl FnOnce(&Handle) + 'static) {
        let Some(handle) = self.handle.clone() else { return };
        if self.is_interrupted() {
            self.thread.hold(Box::new(move || letter(&handle)));
        } else {
            letter(&handle);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// A turn is over before and after which it was expelled, or not. It is given up no more if it has been added again.
    pub(crate) fn note_expulsion(&mut self, expelled: bool) {
        self.gone &= self.process().is_none_or(|process| process.replica().raft().expelled().is_some());
        self.expelled = expelled;
    }

    /// Whether it was expelled, and a member was added since that is the same node with the same storage.
    pub(crate) fn is_added_again(&self, member: Option<&Member>) -> bool {
        let since = |member: &Member| self.expelled_for.is_some_and(|reason| !reason.concerns(member.added));
        self.gone && !self.tampered && !self.taken_away && member.is_some_and(since)
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
            reserve_bytes: 20 << 10,
            suspect_tail: SuspectTail::Cut,
        };
        let (storage, report) = match FileStorage::open(self.disk.clone(), options) {
            // Also where the disk was wiped: the operator of this world makes every mistake there is.
            Err(OpenError::NotCreated | OpenError::CreationUnfinished) => {
                FileStorage::create(self.disk.clone(), self.identity, options)
            }
            opened => opened,
        }
        .map_err(CannotStart::Storage)?;
        self.suspect |= report.suspect_through.is_some();
        self.thread.begin(now, Pace { call_max: 0, sync: (0, 0) }, Index::ZERO, None);
        self.lives += 1;
        self.changes.borrow_mut().clear();
        self.executions.borrow_mut().clear();
        let mut storage = WatchedStorage::new(storage, Rc::clone(&self.thread), Rc::clone(&self.changes));
        let machine = WatchedMachine::new(machine, Rc::clone(&self.thread), Rc::clone(&self.executions));
        *self.post.borrow_mut() = Post::new(self.id, self.identity.incarnation, raft.message_bytes_max);
        self.raft = raft;
        let options = NodeOptions {
            raft: self.raft,
            // After so long a node tells a client that it does not know the outcome.
            request_timeout: Millis(2 * raft.election_timeout.0),
            stop_timeout: Millis(500),
            ..NodeOptions::new(self.id)
        };
        let network = SimNetwork::new(Rc::clone(&self.thread), Rc::clone(&self.post));
        let peers = SimPeers::new(Rc::clone(&self.thread), Rc::clone(&self.post));
        let (clock, is_empty) = (ThreadClock(Rc::clone(&self.thread)), storage.last() == EntryId::ZERO);
        let started = match self.joins.clone().filter(|_| is_empty) {
            Some(known) => EventLoop::join(options, known, storage, network, peers, machine, clock),
            None if is_empty => raft_node::create(&mut storage, first)
                .and_then(|()| EventLoop::new(options, storage, network, peers, machine, clock)),
            None => EventLoop::new(options, storage, network, peers, machine, clock),
        };
        let (process, handle) = started.map_err(CannotStart::Node)?;
        self.state = State::Up(Box::new(process));
        self.stopping = false;
        self.standings = Default::default();
        self.handle = Some(handle);
        self.busy_until = now;
        Ok(())
    }

    /// The last turn of its loop, as the judge sees it.
    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene {
            node: self.id,
            before: self.standings.0,
            after: self.standings.1,
            handed_to: &self.handed_to,
            changed: self.changed,
            disk_failed: self.may_stop,
            stopping: self.stopping,
            config: &self.raft,
        }
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
        self.interrupting = None;
        self.unread = Unread::default();
        self.thread.forget();
        self.post.borrow_mut().clear();
    }
}
