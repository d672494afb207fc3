//! Starting a node and waiting for its end.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use raft_core::clock::Clock;
use raft_core::configuration::{self, BootstrapError, LoadError};
use raft_core::machine::StateMachine;
use raft_core::raft::event::Expulsion;
use raft_core::replica::{self, PollError, Replica};
use raft_core::session::memory::{CapacityError, HeapMemory};
use raft_core::storage::Storage;
use raft_core::transport::{Network, Transport};
use raft_core::types::{EntryId, Index};
use thiserror::Error;

use crate::answer::BoundedVec;
use crate::handle::Handle;
use crate::limits::{self, LimitsDisagree, NetworkLimits};
use crate::mailbox::mailbox;
use crate::operator::Orders;
use crate::options::NodeOptions;
use crate::run::EventLoop;
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

/// Starts a node on a thread of its own. An empty storage is given its first entry, by
/// [`NodeOptions::create`].
///
/// # Errors
/// [`StartError`] says what does not fit; the storage is as it was, or has its first entry.
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
    let name = format!("raft-{}", options.id);
    let (mut event_loop, handle) = EventLoop::new(options, storage, network, peers, machine, clock)?;
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
        create(&options, &mut storage)?;
        if options.raft.seed == 0 {
            options.raft.seed = getrandom::u64().map_err(|_| StartError::Random)?;
        }
        let (id, raft, now) = (options.id, options.raft, clock.now());
        let joined = options.join.take().filter(|_| storage.last() == EntryId::ZERO);
        let room = NetworkLimits {
            payload_bytes_max: peers.payload_bytes_max(),
            client_bytes_max: network.client_bytes_max(),
        };
        let replica = if let Some(configuration) = joined {
            limits::check(&options, &configuration.limits(), room)?;
            let memory = HeapMemory::new(&configuration.limits(), options.answer_bytes_max)?;
            Replica::join(id, raft, configuration, storage, peers, machine, memory, now)?
        } else {
            let limits = configuration::first(&mut storage)?.limits();
            limits::check(&options, &limits, room)?;
            let memory = HeapMemory::new(&limits, options.answer_bytes_max)?;
            Replica::new(id, raft, storage, peers, machine, memory, now)?
        };
        let (slot, letters) = mailbox(options.mailbox_letters_max);
        let handle = Handle::new(slot, Arc::new(network.waker()));
        let raft = replica.raft();
        if let Some(reason) = raft.expelled() {
            let node = id.get();
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
        Ok((event_loop, handle))
    }
}

/// Gives an empty storage its first entry, and checks that another one begins with it.
fn create<S: Storage>(options: &NodeOptions, storage: &mut S) -> Result<(), StartError<S::Error>> {
    let Some(wanted) = &options.create else { return Ok(()) };
    if storage.last() == EntryId::ZERO {
        configuration::bootstrap(storage, wanted)?;
        storage.flush().map_err(StartError::Storage)?;
        while storage.saved().map_err(StartError::Storage)?.through.index < Index::FIRST {
            thread::yield_now();
        }
    }
    let found = configuration::first(storage)?;
    // Members change in time; once entry 1 has been compacted, only what never does can be compared.
    let same = found.cluster() == wanted.cluster() && found.limits() == wanted.limits();
    let equal = if storage.base() == EntryId::ZERO { found == *wanted } else { same };
    if equal { Ok(()) } else { Err(StartError::OtherConfiguration) }
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
    /// The storage begins with another configuration than the one asked for.
    #[error(
        "the data belongs to a cluster that was created with other members or limits; \
         start the node with those, or give it an empty directory"
    )]
    OtherConfiguration,
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
