//! Starting a node and waiting for its end.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use raft_core::clock::Clock;
use raft_core::configuration::{self, BootstrapError, Configuration, LoadError};
use raft_core::machine::StateMachine;
use raft_core::raft::event::Expulsion;
use raft_core::replica::{self, PollError, Replica};
use raft_core::session::memory::{CapacityError, HeapMemory};
use raft_core::storage::Storage;
use raft_core::transport::Network;
use raft_core::types::{EntryId, Index};
use thiserror::Error;

use crate::answer::BoundedVec;
use crate::handle::Handle;
use crate::limits::{self, LimitsDisagree, NetworkLimits};
use crate::mailbox::mailbox;
use crate::operator::Orders;
use crate::options::NodeOptions;
use crate::run::{EventLoop, NodeReplica};
use crate::waiting::Waiting;

/// A running node.
#[derive(Debug)]
pub struct Node<S, N> {
    handle: Handle,
    thread: JoinHandle<Result<(), Stopped<S, N>>>,
}

/// What [`start`] gives for a storage `S` and a network `N`.
type Started<S, N> = Result<Node<<S as Storage>::Error, <N as Network>::Error>, StartError<<S as Storage>::Error>>;

/// What [`EventLoop::new`] gives.
type LoopAndHandle<S, N, M, C> = Result<(EventLoop<S, N, M, C>, Handle), StartError<<S as Storage>::Error>>;

/// Creates a cluster, as far as one of its first members is concerned: gives an empty storage its first entry, durably.
/// All members that the cluster is created with have to be given the same configuration, once, on purpose: whoever
/// creates whenever a storage is empty creates a second cluster out of members that were wiped.
///
/// [`start`] and [`join`] never do this.
///
/// # Errors
/// [`StartError::Create`] for a storage that holds anything: it was not changed. [`StartError::Storage`] if it failed.
pub fn create<S: Storage>(storage: &mut S, configuration: &Configuration) -> Result<(), StartError<S::Error>> {
    configuration::bootstrap(storage, configuration)?;
    storage.flush().map_err(StartError::Storage)?;
    while storage.saved().map_err(StartError::Storage)?.through.index < Index::FIRST {
        thread::yield_now();
    }
    Ok(())
}

/// Starts a node whose storage belongs to a cluster, on a thread of its own.
///
/// # Errors
/// [`StartError`] says what does not fit; the storage is as it was. [`StartError::Empty`] for one that holds no log: see
/// [`create`] and [`join`].
pub fn start<S, N, M, C>(
    options: NodeOptions,
    storage: S,
    network: N,
    peers: N::Peers,
    machine: M,
    clock: C,
) -> Started<S, N>
where
    S: Storage + Send + 'static,
    S::Error: Error + Send + 'static,
    N: Network + Send + 'static,
    N::Peers: Send + 'static,
    N::Error: Error + Send + 'static,
    M: StateMachine + Send + 'static,
    C: Clock + Send + 'static,
{
    spawn(EventLoop::new(options, storage, network, peers, machine, clock)?)
}

/// Starts a node that joins a cluster, on a thread of its own: its storage is empty and gets all it will hold from the
/// leader, once the node has been added. `configuration` is what one of the members says.
///
/// # Errors
/// [`StartError`] says what does not fit, as that the storage holds a log already; it is as it was.
pub fn join<S, N, M, C>(
    options: NodeOptions,
    configuration: Configuration,
    storage: S,
    network: N,
    peers: N::Peers,
    machine: M,
    clock: C,
) -> Started<S, N>
where
    S: Storage + Send + 'static,
    S::Error: Error + Send + 'static,
    N: Network + Send + 'static,
    N::Peers: Send + 'static,
    N::Error: Error + Send + 'static,
    M: StateMachine + Send + 'static,
    C: Clock + Send + 'static,
{
    spawn(EventLoop::join(options, configuration, storage, network, peers, machine, clock)?)
}

fn spawn<S, N, M, C>((mut event_loop, handle): (EventLoop<S, N, M, C>, Handle)) -> Started<S, N>
where
    S: Storage + Send + 'static,
    S::Error: Error + Send + 'static,
    N: Network + Send + 'static,
    N::Peers: Send + 'static,
    N::Error: Error + Send + 'static,
    M: StateMachine + Send + 'static,
    C: Clock + Send + 'static,
{
    let name = format!("raft-{}", event_loop.options.id);
    let thread = thread::Builder::new().name(name).spawn(move || event_loop.run()).map_err(StartError::Thread)?;
    Ok(Node { handle, thread })
}

impl<S: Storage, N: Network, M: StateMachine, C: Clock> EventLoop<S, N, M, C> {
    /// A loop that is to be turned by the caller, and the handle to talk to it through. It does what [`start`] does,
    /// but for the thread.
    ///
    /// # Errors
    /// As [`start`].
    pub fn new(
        mut options: NodeOptions,
        mut storage: S,
        network: N,
        peers: N::Peers,
        machine: M,
        clock: C,
    ) -> LoopAndHandle<S, N, M, C> {
        if storage.last() == EntryId::ZERO {
            return Err(StartError::Empty);
        }
        seed(&mut options)?;
        let limits = configuration::first(&mut storage)?.limits();
        limits::check(&options, &limits, NetworkLimits::of(&network, &peers))?;
        let memory = HeapMemory::new(&limits, options.answer_bytes_max)?;
        let replica = Replica::new(options.id, options.raft, storage, peers, machine, memory, clock.now())?;
        Ok(EventLoop::of(options, replica, network, clock))
    }

    /// The same for a node that joins a cluster: what [`join`] does, but for the thread.
    ///
    /// # Errors
    /// As [`join`].
    pub fn join(
        mut options: NodeOptions,
        configuration: Configuration,
        storage: S,
        network: N,
        peers: N::Peers,
        machine: M,
        clock: C,
    ) -> LoopAndHandle<S, N, M, C> {
        seed(&mut options)?;
        limits::check(&options, &configuration.limits(), NetworkLimits::of(&network, &peers))?;
        let memory = HeapMemory::new(&configuration.limits(), options.answer_bytes_max)?;
        let (id, raft) = (options.id, options.raft);
        let replica = Replica::join(id, raft, configuration, storage, peers, machine, memory, clock.now())?;
        Ok(EventLoop::of(options, replica, network, clock))
    }

    fn of(options: NodeOptions, replica: NodeReplica<S, N, M>, network: N, clock: C) -> (Self, Handle) {
        let (slot, letters) = mailbox(options.mailbox_letters_max);
        let handle = Handle::new(slot, Arc::new(network.waker()));
        let raft = replica.raft();
        if let Some(reason) = raft.expelled() {
            let node = options.id.get();
            tracing::warn!(node, %reason, "this node neither votes nor leads: it waits to be added again");
        }
        let event_loop = EventLoop {
            written: 0,
            pause_at: None,
            expelled_before: raft.expelled(),
            logged: (raft.role(), raft.term(), raft.leader()),
            logged_full: false,
            led: None,
            replica,
            network,
            clock,
            mailbox: letters,
            waiting: Waiting::default(),
            orders: Orders::default(),
            letters: Vec::new(),
            answer: BoundedVec::new(options.query_bytes_max),
            stop_at: None,
            options,
        };
        (event_loop, handle)
    }
}

/// Draws a seed where the program set none.
fn seed<S>(options: &mut NodeOptions) -> Result<(), StartError<S>> {
    if options.raft.seed == 0 {
        options.raft.seed = getrandom::u64().map_err(|_| StartError::Random)?;
    }
    Ok(())
}

impl<S: Error, N: Error> Node<S, N> {
    /// The handle to talk to it through.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the node's end.
    ///
    /// # Errors
    /// [`Stopped`]: it ended without being asked to. Its data is as it was when it failed; start
    /// it again once the cause is gone.
    pub fn join(self) -> Result<(), Stopped<S, N>> {
        match self.thread.join() {
            Ok(ended) => ended,
            Err(_) => Err(Stopped::Panicked),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Why a node could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError<S> {
    /// An empty storage could not be given its first entry.
    #[error(transparent)]
    Create(#[from] BootstrapError),
    /// The storage of a node that is to be started belongs to no cluster yet.
    #[error("the log is empty: create a cluster with this node, or have it join one; neither is done by starting it")]
    Empty,
    /// The first entry could not be read.
    #[error(transparent)]
    Load(#[from] LoadError<S>),
    /// The limits of the cluster are more than this machine can hold.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// Two limits do not fit together.
    #[error(transparent)]
    Limits(#[from] LimitsDisagree),
    /// The replica could not be made.
    #[error(transparent)]
    Replica(#[from] replica::StartError<S>),
    /// The storage failed.
    #[error("the storage failed")]
    Storage(#[source] S),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The system gives no thread.
    #[error("the node's thread could not be started")]
    Thread(#[source] io::Error),
}

/// Why a node ended without being asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Stopped<S, N> {
    /// The replica cannot go on.
    #[error(transparent)]
    Replica(PollError<S>),
    /// The network failed.
    #[error("the network failed")]
    Network(#[source] N),
    /// The node neither votes nor leads any more: see [`Expulsion`]. That is durable. Started again, it waits to be
    /// added again.
    #[error("the node neither votes nor leads any more: {0}")]
    Expelled(Expulsion),
    /// The state machine or an invariant of the node panicked.
    #[error("the node's thread panicked; the message stands above")]
    Panicked,
}
