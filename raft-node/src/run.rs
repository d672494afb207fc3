//! The event loop: one replica, and all that is between it and those who ask.

use raft_core::client::protocol::{Consistency, NotExecuted, Request, RequestBody, Response, ResponseBody, RoleName};
use raft_core::clock::Clock;
use raft_core::configuration::CONFIGURATION_BYTES_MAX;
use raft_core::machine::StateMachine;
use raft_core::message::ProposeError;
use raft_core::raft::ReadState;
use raft_core::raft::event::Expulsion;
use raft_core::replica::{Observer, PollError, Replica};
use raft_core::session::memory::HeapMemory;
use raft_core::session::operation::Operation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::Storage;
use raft_core::transport::Network;
use raft_core::types::{EntryId, Instant, Millis, NodeId, Nonce, Term};
use raft_core::wire::Bytes;

use crate::answer::{Answering, BoundedVec, Nobody, answer_query, fail};
use crate::handle::{Failed, Letter};
use crate::mailbox::Mailbox;
use crate::operator::{Order, OrderDone, Orders};
use crate::options::NodeOptions;
use crate::start::Stopped;
use crate::waiting::{Forwarded, Origin, Query, Waiter, Waiting};

/// The most members of a cluster that a node can run in.
pub(crate) const NODES_MAX: usize = raft_core::configuration::MEMBERS_MAX;

/// The most requests of clients that one turn of the loop takes in.
const REQUESTS_PER_TURN_MAX: usize = 4096;

/// After so long without a write, the storage is told that there is a pause.
const WITNESS_AFTER: Millis = Millis(100);

/// The replica of an [`EventLoop`].
pub type NodeReplica<S, N, M> = Replica<S, <N as Network>::Peers, M, HeapMemory, NODES_MAX>;

/// A node's event loop, for a program that turns it itself: a simulator, say, or one with a loop of its own. All
/// others call [`crate::start`], which gives it a thread.
///
/// Call [`EventLoop::turn`] when something has arrived, and at the time that the last turn gave.
pub struct EventLoop<S, N: Network, M, C> {
    pub(crate) replica: NodeReplica<S, N, M>,
    pub(crate) network: N,
    pub(crate) clock: C,
    pub(crate) mailbox: Mailbox<Letter>,
    pub(crate) options: NodeOptions,
    pub(crate) waiting: Waiting,
    pub(crate) orders: Orders,
    /// Letters being read; kept for its memory.
    pub(crate) letters: Vec<Letter>,
    /// The answer to a query, while it is written; kept for its memory.
    pub(crate) answer: BoundedVec,
    /// The time by which the node stops, once it was asked to.
    pub(crate) stop_at: Option<Instant>,
    /// How many bytes the storage had written when that was looked at last.
    pub(crate) written: u64,
    /// When the storage is to be told that it has written nothing for a while.
    pub(crate) pause_at: Option<Instant>,
    /// What an earlier life of the node was expelled for: this one waits to be added again.
    pub(crate) expelled_before: Option<Expulsion>,
    /// What was logged last.
    pub(crate) logged: (RoleName, Term, Option<NodeId>),
    pub(crate) logged_full: bool,
    /// The leader that was known last, and its term.
    pub(crate) led: Option<(Term, NodeId)>,
}

/// Where an operation has been put.
enum Place {
    Entry(EntryId),
    Forwarded(Forwarded),
}

/// What a loop wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To be turned again at that time at the latest.
    By(Instant),
    /// Nothing: it was asked to stop, and has. What it holds can be dropped.
    Ended,
}

impl<S: Storage, N: Network, M: StateMachine, C: Clock> EventLoop<S, N, M, C> {
    /// Turns until the node has been stopped.
    pub(crate) fn run(&mut self) -> Result<(), Stopped<S::Error, N::Error>> {
        let mut next = self.clock.now();
        loop {
            let timeout = next.since(self.clock.now());
            self.network.wait(self.replica.transport_mut(), Some(timeout)).map_err(Stopped::Network)?;
            match self.turn(&mut Nobody)? {
                Turn::By(at) => next = at,
                Turn::Ended => return Ok(()),
            }
        }
    }

    /// Takes in what has arrived, polls the replica once, and answers; it does not wait, and the network's
    /// [`Network::wait`] is the caller's to call. `told` hears of all that the replica tells.
    ///
    /// # Errors
    /// [`Stopped`]: the node has ended, and is to be turned no more.
    pub fn turn(&mut self, told: &mut impl Observer) -> Result<Turn, Stopped<S::Error, N::Error>> {
        self.read_letters();
        self.read_requests();
        let applied = self.replica.raft().last_applied();
        let (waiting, orders, network) = (&mut self.waiting, &mut self.orders, &mut self.network);
        let mut answering = Answering { waiting, orders, network, applied, told };
        let mut next = self.replica.poll(&self.clock, &mut answering).map_err(Stopped::Replica)?;
        let now = self.clock.now();
        self.answer_reads();
        self.notice_leader();
        self.give_up(now);
        let before = Instant(now.0.saturating_sub(self.options.request_timeout.0));
        if !self.orders.is_empty() {
            self.orders.look(before, &self.replica, &mut self.network);
        }
        self.network.flush();
        let expelled = self.replica.raft().expelled();
        if let Some(reason) = expelled.filter(|_| expelled != self.expelled_before) {
            return Err(Stopped::Expelled(reason));
        }
        self.expelled_before = expelled;
        self.log_changes();
        next = next.min(self.witness(now).map_err(Stopped::Replica)?);
        if let Some(at) = self.stop_at {
            let hands_over = self.replica.raft().status().transfer.is_some();
            if now >= at || !(hands_over || self.waiting.has_operations()) {
                return Ok(Turn::Ended);
            }
            next = next.min(at);
        }
        Ok(Turn::By(next))
    }

    /// The replica, to look at.
    #[must_use]
    pub fn replica(&self) -> &NodeReplica<S, N, M> {
        &self.replica
    }

    /// The network, to bring it what has arrived.
    pub fn network_mut(&mut self) -> &mut N {
        &mut self.network
    }

    /// The links to the members, to bring them what has arrived.
    pub fn peers_mut(&mut self) -> &mut N::Peers {
        self.replica.transport_mut()
    }

    /// Takes in what callers of the handle have asked.
    fn read_letters(&mut self) {
        let mut letters = core::mem::take(&mut self.letters);
        self.mailbox.take(&mut letters);
        let now = self.clock.now();
        for letter in letters.drain(..) {
            match letter {
                Letter::Operate { secret, operation, answer } => {
                    let place = self
                        .replica_and_room()
                        .and_then(|replica| submit(replica, now, true, secret, &operation.borrow()));
                    self.wait_for(now, place, Origin::Caller(answer));
                }
                Letter::Query { consistency, query, answer } => {
                    self.query(true, consistency, query, Origin::Caller(answer));
                }
                // A caller that has gone wants no answer.
                Letter::Status { answer } => drop(answer.send(Ok(self.replica.status()))),
                Letter::Leader { answer } => match self.refusal() {
                    Some(reason) => {
                        let _ = answer.send(Err(Failed::NotExecuted(reason)));
                    }
                    None => self.waiting.leaders.push_back((now, answer)),
                },
                Letter::Followers { answer } => {
                    let followers = self.replica.raft().status().followers;
                    drop(answer.send(Ok(followers.into_iter().collect())));
                }
                Letter::Members { answer } => drop(answer.send(Ok(self.replica.configuration().clone()))),
                Letter::Order { order, answer } => self.order(now, Ok(order), Origin::Caller(answer)),
                Letter::Stop => self.begin_stop(now),
            }
        }
        self.letters = letters;
    }

    /// Takes in what clients of the network have asked.
    fn read_requests(&mut self) {
        let now = self.clock.now();
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let full = self.refusal();
            let Some((client, Request { id, forward, body })) = self.network.request() else { return };
            match body {
                RequestBody::Operate { secret, operation } => {
                    let place = match full {
                        Some(reason) => Err(reason),
                        None => submit(&mut self.replica, now, forward, secret, &operation),
                    };
                    self.wait_for(now, place, Origin::Client(client, id));
                }
                RequestBody::Query { consistency, query } => {
                    let query = query.0.to_vec();
                    self.query(forward, consistency, query, Origin::Client(client, id));
                }
                RequestBody::Status => {
                    let body = ResponseBody::Status(self.replica.status());
                    self.network.respond(client, &Response { id, body });
                }
                RequestBody::Members => {
                    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
                    let entry = self.replica.raft().configuration_entry();
                    let bytes = self.replica.configuration().encode(&mut buffer);
                    let configuration = Bytes(bytes.expect("the buffer holds every valid configuration"));
                    let body = ResponseBody::Members { entry, configuration };
                    self.network.respond(client, &Response { id, body });
                }
                body => match Order::of(&body) {
                    Some(order) => self.order(now, order, Origin::Client(client, id)),
                    None => self.fail(Origin::<()>::Client(client, id), NotExecuted::Unsupported),
                },
            }
        }
    }

    /// Begins an orderly stop. A leader hands over, so that nobody has to wait for an election.
    fn begin_stop(&mut self, now: Instant) {
        if self.stop_at.is_none() {
            self.stop_at = Some(now.after(self.options.stop_timeout));
            if let Err(error) = self.replica.transfer(now, None) {
                tracing::debug!(%error, "nothing to hand over");
            }
        }
    }

    fn order(&mut self, now: Instant, order: Result<Order, NotExecuted>, origin: Origin<OrderDone>) {
        let order = match self.refusal() {
            Some(reason) => Err(reason),
            None => order,
        };
        self.orders.begin(now, &mut self.replica, &mut self.network, order, origin);
    }

    /// Why nothing more can be taken, if so.
    fn refusal(&self) -> Option<NotExecuted> {
        if self.stop_at.is_some() {
            return Some(NotExecuted::Stopping);
        }
        let full = self.waiting.len() >= self.options.waiting_requests_max;
        full.then_some(NotExecuted::Refused(ProposeError::Busy))
    }

    #[allow(clippy::type_complexity, reason = "the replica's type is written out once more nowhere else")]
    fn replica_and_room(&mut self) -> Result<&mut Replica<S, N::Peers, M, HeapMemory, NODES_MAX>, NotExecuted> {
        match self.refusal() {
            Some(reason) => Err(reason),
            None => Ok(&mut self.replica),
        }
    }

    fn wait_for(&mut self, since: Instant, place: Result<Place, NotExecuted>, origin: Origin<OwnedOutcome>) {
        match place {
            Ok(Place::Entry(key)) => self.waiting.proposed(Waiter { key, since, origin }),
            Ok(Place::Forwarded(key)) => self.waiting.forwarded(Waiter { key, since, origin }),
            Err(reason) => self.fail(origin, reason),
        }
    }

    /// Takes in a query. The clock is read here, after its request was taken.
    fn query(&mut self, forward: bool, consistency: Consistency, bytes: Vec<u8>, origin: Origin<Vec<u8>>) {
        if let Some(reason) = self.refusal() {
            return self.fail(origin, reason);
        }
        if consistency == Consistency::Stale {
            return self.answer(&bytes, origin);
        }
        if !forward && self.replica.raft().role() != RoleName::Leader {
            let leader = self.replica.raft().leader();
            return self.fail(origin, NotExecuted::Refused(ProposeError::NotLeader { leader }));
        }
        match self.replica.read(&self.clock, consistency) {
            Ok(read) => {
                let since = self.clock.now();
                self.waiting.reads.push_back(Waiter { key: Query { read, bytes }, since, origin });
            }
            Err(error) => self.fail(origin, NotExecuted::Refused(error)),
        }
    }

    /// Answers the queries whose reads have been confirmed, or cannot be any more.
    fn answer_reads(&mut self) {
        while let Some(waiter) = self.waiting.reads.front() {
            let state = self.replica.read_state(waiter.key.read);
            if state == ReadState::Waiting {
                return;
            }
            let Some(Waiter { key, origin, .. }) = self.waiting.reads.pop_front() else { return };
            match state {
                ReadState::Ready => self.answer(&key.bytes, origin),
                _ => self.fail(origin, NotExecuted::Unconfirmed),
            }
        }
    }

    fn answer(&mut self, query: &[u8], origin: Origin<Vec<u8>>) {
        self.answer.clear();
        self.replica.machine().query(query, &mut self.answer);
        answer_query(&mut self.network, origin, &self.answer);
    }

    fn fail<T>(&mut self, origin: Origin<T>, reason: NotExecuted) {
        fail(&mut self.network, Some(self.replica.configuration()), origin, Failed::NotExecuted(reason));
    }

    /// Tells of a leader that takes requests; what was forwarded to another one and may be sent again is let go, so that
    /// it is.
    fn notice_leader(&mut self) {
        let raft = self.replica.raft();
        let Some(leader) = raft.leader() else { return };
        if self.led != Some((raft.term(), leader)) {
            self.led = Some((raft.term(), leader));
            while let Some(origin) = self.waiting.take_superseded(leader) {
                fail(&mut self.network, None, origin, Failed::Unknown);
            }
        }
        let raft = self.replica.raft();
        if raft.term_start().is_none_or(|start| raft.last_applied() >= start) {
            // A caller that has gone wants no answer.
            for (_, answer) in self.waiting.leaders.drain(..) {
                let _ = answer.send(Ok(leader));
            }
        }
    }

    /// Answers those who have waited for too long.
    fn give_up(&mut self, now: Instant) {
        let before = Instant(now.0.saturating_sub(self.options.request_timeout.0));
        while let Some(origin) = self.waiting.take_overdue(before) {
            fail(&mut self.network, None, origin, Failed::Unknown);
        }
        while self.waiting.leaders.front().is_some_and(|(since, answer)| *since < before || answer.is_canceled()) {
            if let Some((_, answer)) = self.waiting.leaders.pop_front() {
                let reason = NotExecuted::Refused(ProposeError::NotLeader { leader: None });
                let _ = answer.send(Err(Failed::NotExecuted(reason)));
            }
        }
        while self.waiting.reads.front().is_some_and(|waiter| waiter.since < before) {
            if let Some(waiter) = self.waiting.reads.pop_front() {
                self.fail(waiter.origin, NotExecuted::Unconfirmed);
            }
        }
    }

    /// Lets the storage use a pause; gives when there will be one.
    fn witness(&mut self, now: Instant) -> Result<Instant, PollError<S::Error>> {
        let bytes = self.replica.raft().storage().metrics().bytes_written;
        if bytes != self.written {
            (self.written, self.pause_at) = (bytes, Some(now.after(WITNESS_AFTER)));
        }
        match self.pause_at {
            Some(at) if now < at => return Ok(at),
            Some(_) => {
                self.replica.witness()?;
                (self.written, self.pause_at) = (self.replica.raft().storage().metrics().bytes_written, None);
            }
            None => {}
        }
        Ok(Instant::NEVER)
    }

    fn log_changes(&mut self) {
        let raft = self.replica.raft();
        let now = (raft.role(), raft.term(), raft.leader());
        if now != self.logged {
            self.logged = now;
            let (role, term, leader) = (now.0.as_str(), now.1.0, now.2.map(NodeId::get));
            tracing::info!(node = raft.id().get(), role, term, leader, commit = raft.commit().0, "role");
        }
        let full = raft.storage().metrics().full;
        if full != self.logged_full {
            self.logged_full = full;
            match full {
                true => tracing::warn!("the disk is full: no commands are taken; make room on it"),
                false => tracing::info!("the disk has room again"),
            }
        }
    }
}

/// Brings an operation into the log of the leader, be it here or elsewhere.
fn submit<S: Storage, T: raft_core::transport::Transport, M: StateMachine>(
    replica: &mut Replica<S, T, M, HeapMemory, NODES_MAX>,
    now: Instant,
    forward: bool,
    secret: Option<Nonce>,
    operation: &Operation<'_>,
) -> Result<Place, NotExecuted> {
    match replica.propose(now, secret, operation) {
        Ok(entry) => Ok(Place::Entry(entry)),
        Err(ProposeError::NotLeader { leader: Some(to) }) if forward => {
            let ticket = replica.forward(secret, operation).map_err(NotExecuted::Refused)?;
            let repeatable = !matches!(operation, Operation::Plain { .. });
            Ok(Place::Forwarded(Forwarded { ticket, to, repeatable }))
        }
        Err(error) => Err(NotExecuted::Refused(error)),
    }
}
