//! What a program talks to its node through.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll, Waker};
use std::thread::{self, Thread};

use futures_channel::oneshot;
use raft_core::client::protocol::{Consistency, NodeStatus, NotExecuted};
use raft_core::configuration::Configuration;
use raft_core::configuration::change::MemberChange;
use raft_core::message::ProposeError;
use raft_core::raft::PeerStatus;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::transport::Wake;
use raft_core::types::{NodeId, Nonce};
use thiserror::Error;

use crate::mailbox::{Returned, Slot};
use crate::operator::{Order, OrderDone};

/// A node, as its program sees it. Clones are cheap and may be used from any thread.
///
/// Requests may be made on any node: one that does not lead brings them to the leader.
#[derive(Clone)]
pub struct Handle {
    slot: Slot<Letter>,
    waker: Arc<dyn Wake + Send + Sync>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failed {
    /// It was not executed and will not be.
    #[error("not executed: {0}")]
    NotExecuted(#[from] NotExecuted),
    /// It may have been executed, or may yet be. A command of a session can be sent again; what it
    /// then gets is the truth.
    #[error("the outcome is unknown: the command may have been executed")]
    Unknown,
}

type Answer<T> = oneshot::Sender<Result<T, Failed>>;

/// What goes into a node's mailbox.
#[derive(Debug)]
pub(crate) enum Letter {
    Operate { secret: Option<Nonce>, operation: OwnedOperation, answer: Answer<OwnedOutcome> },
    Query { consistency: Consistency, query: Vec<u8>, answer: Answer<Vec<u8>> },
    Status { answer: Answer<NodeStatus> },
    Leader { answer: Answer<NodeId> },
    Followers { answer: Answer<Vec<PeerStatus>> },
    Members { answer: Answer<Configuration> },
    Order { order: Order, answer: Answer<OrderDone> },
    Stop,
}

impl Handle {
    pub(crate) fn new(slot: Slot<Letter>, waker: Arc<dyn Wake + Send + Sync>) -> Handle {
        Handle { slot, waker }
    }

    /// Carries out an operation, through the log. `secret` is that of the operation's session:
    /// the nonce it was opened with.
    ///
    /// Fails with [`Failed`]. Dropping the result does not take the operation back.
    pub fn propose(&self, secret: Option<Nonce>, operation: OwnedOperation) -> Pending<OwnedOutcome> {
        self.send(|answer| Letter::Operate { secret, operation, answer })
    }

    /// Executes a command without a session: at most once for this call, but a program that calls
    /// again after [`Failed::Unknown`] may execute it twice.
    pub fn propose_plain(&self, command: Vec<u8>) -> Pending<OwnedOutcome> {
        self.propose(None, OwnedOperation::Plain { command })
    }

    /// Queries the state machine.
    ///
    /// Fails with [`Failed::NotExecuted`] only: a query that failed can always be made again.
    pub fn read(&self, consistency: Consistency, query: Vec<u8>) -> Pending<Vec<u8>> {
        self.send(|answer| Letter::Query { consistency, query, answer })
    }

    /// How the node is.
    pub fn status(&self) -> Pending<NodeStatus> {
        self.send(|answer| Letter::Status { answer })
    }

    /// The leader, as soon as this node knows of one that takes requests: now, or after the next election.
    ///
    /// Fails with [`Failed::NotExecuted`] when there is none for as long as a request may take.
    pub fn leader(&self) -> Pending<NodeId> {
        self.send(|answer| Letter::Leader { answer })
    }

    /// How the followers are, if this node leads: how far each is, and when it was heard from.
    pub fn followers(&self) -> Pending<Vec<PeerStatus>> {
        self.send(|answer| Letter::Followers { answer })
    }

    /// Who the members are, as this node knows it.
    pub fn members(&self) -> Pending<Configuration> {
        self.send(|answer| Letter::Members { answer })
    }

    /// Changes the members, if this node leads: all of `changes` at once, with `force` also if a
    /// majority of the new voters does not answer. Done when it is committed, and the old voters have
    /// been left behind. Fails with [`Failed`], which names the leader where it is another node.
    pub fn change_members(&self, changes: Vec<MemberChange>, force: bool) -> Pending<OrderDone> {
        self.send(|answer| Letter::Order { order: Order::Change { changes, force }, answer })
    }

    /// Hands leadership over, if this node leads: to that node, or to the one with most of the log.
    /// Done when the other leads.
    pub fn transfer(&self, to: Option<NodeId>) -> Pending<OrderDone> {
        self.send(|answer| Letter::Order { order: Order::Transfer { to }, answer })
    }

    /// Makes a snapshot of this node's state. Done when it is durable.
    pub fn snapshot(&self) -> Pending<OrderDone> {
        self.send(|answer| Letter::Order { order: Order::Snapshot, answer })
    }

    /// Begins an orderly stop: leadership is handed over, nothing new is taken, what is under way is waited for a while.
    /// [`crate::Node::join`] waits for the end.
    pub fn stop(&self) {
        // A full mailbox is emptied soon; a closed one means that the node has stopped.
        while let Err(Returned::Full(_)) = self.slot.put(Letter::Stop) {
            self.wake();
            thread::yield_now();
        }
        self.wake();
    }

    /// Makes the node look at its clock, its network and its mailbox now.
    pub fn wake(&self) {
        self.waker.wake();
    }

    fn send<T>(&self, letter: impl FnOnce(Answer<T>) -> Letter) -> Pending<T> {
        let (answer, receiver) = oneshot::channel();
        match self.slot.put(letter(answer)) {
            Ok(false) => {}
            Ok(true) => self.wake(),
            Err(Returned::Full(_)) => return Pending::refused(NotExecuted::Refused(ProposeError::Busy)),
            Err(Returned::Closed(_)) => return Pending::refused(NotExecuted::Stopping),
        }
        Pending { state: State::Waiting(receiver) }
    }
}

/// A result that is on its way: a future for any executor, or [`Pending::wait`] for a thread.
#[derive(Debug)]
#[must_use = "await it, wait for it, or drop it on purpose"]
pub struct Pending<T> {
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Refused(NotExecuted),
    Waiting(oneshot::Receiver<Result<T, Failed>>),
}

impl<T> Pending<T> {
    fn refused(reason: NotExecuted) -> Pending<T> {
        Pending { state: State::Refused(reason) }
    }

    /// Blocks this thread until the result is there.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn wait(mut self) -> Result<T, Failed> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self).poll(&mut context) {
                return result;
            }
            thread::park();
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Failed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Refused(reason) => Poll::Ready(Err(Failed::NotExecuted(*reason))),
            State::Waiting(receiver) => Pin::new(receiver).poll(context).map(|answer| match answer {
                Ok(result) => result,
                // The node stopped with the letter in its hands.
                Err(oneshot::Canceled) => Err(Failed::Unknown),
            }),
        }
    }
}

struct Unpark(Thread);

impl task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
