//! One replica: consensus, log, network, sessions and state machine tied together, driven by
//! [`Replica::poll`]. Nothing here blocks, and nothing is allocated.
//!
//! The way of a command: [`Replica::propose`] appends it (and [`Replica::forward`] brings it to
//! the leader); `poll` sends and saves it; when it is committed, `poll` applies it and hands the
//! outcome to the [`Observer`], under the entry's id. The program that proposed it knows that id
//! and so whom to answer. An entry of another term at the same index means that the proposal is
//! lost for good: not executed.

mod divergence;
mod forwards;
mod members;
mod snapshots;
mod terms;

use thiserror::Error;

use crate::back_off::BackOff;
use crate::client::protocol::{Consistency, NodeStatus, RoleName};
use crate::clock::Clock;
use crate::configuration::change::MemberChange;
use crate::configuration::{self, Configuration, LoadError};
use crate::entry::{Entry, EntryKind};
use crate::machine::{Damaged, StateMachine};
use crate::message::{Body, ForwardTicket, Message, ProposeError};
use crate::raft::config::Config;
use crate::raft::event::Event;
use crate::raft::{ChangeMembersError, NewError, Raft, ReadId, ReadState, StepError, TransferError};
use crate::replica::divergence::Checks;
use crate::replica::forwards::{Forwards, Origin};
use crate::session::encode::TableDecodeError;
use crate::session::memory::{CapacityError, SessionMemory};
use crate::session::operation::{OPERATION_HEAD_BYTES_MAX, Operation, OperationError, Outcome};
use crate::session::table::{SecretCheck, SessionTable};
use crate::snapshot::{Comparison, SnapshotError};
use crate::storage::{ReadError, SnapshotId, Storage};
use crate::transport::Transport;
use crate::types::{EntryId, Index, Instant, NodeId, Nonce, SessionId};

/// The most messages one poll takes in.
const MESSAGES_PER_POLL_MAX: usize = 256;
/// The most bytes of entries one read for applying asks for, and the most such reads in a poll.
const APPLY_BYTES: usize = 256 << 10;
const APPLY_READS_MAX: usize = 16;

/// What a program is told while its replica is polled.
pub trait Observer {
    /// The entry has been applied, with that outcome; `None` for entries that are no operations.
    /// Called for every entry, in the order of the log.
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>);

    /// The leader has answered a forwarded operation: appended as that entry, or not at all.
    fn forwarded(&mut self, ticket: ForwardTicket, outcome: Result<EntryId, ProposeError>);

    /// The connection to that node was closed at its end. A forwarded operation that it has not answered may have been
    /// appended there, and will hardly be answered any more.
    fn link_closed(&mut self, peer: NodeId) {
        let _ = peer;
    }

    /// A message was ignored because no correct member sends it.
    fn ignored(&mut self, from: NodeId, error: StepError);

    /// Something has happened that an operator may want to know.
    fn event(&mut self, at: Instant, event: Event) {
        let _ = (at, event);
    }

    /// The state machine has been made anew from a snapshot: it is as it was after that entry.
    /// What was appended before it and not applied one by one has an outcome that is not known here.
    fn restored(&mut self, snapshot: SnapshotId) {
        let _ = snapshot;
    }
}

/// One replica over a storage `S`, a transport `T`, a state machine `M` and the memory `X` of its
/// session table, in a cluster of at most `NODES` members.
///
/// Call [`Replica::poll`] whenever something has arrived, was proposed, or its last result's time
/// has come.
#[derive(Debug)]
pub struct Replica<S, T, M, X, const NODES: usize> {
    core: Core<S, M, X, NODES>,
    transport: T,
    /// The first ticket of this life, and the next one.
    first_ticket: ForwardTicket,
    next_ticket: ForwardTicket,
}

/// All but the transport, so that a message can be borrowed from that while it is handled.
#[derive(Debug)]
struct Core<S, M, X, const NODES: usize> {
    raft: Raft<S, NODES>,
    machine: M,
    sessions: SessionTable<X>,
    config: Config,
    /// The configuration that holds, and its entry.
    configuration: Configuration,
    configuration_entry: EntryId,
    /// Whether leaders have yet to learn what storage a member has.
    unregistered: bool,
    /// Whether entries were applied without their payloads: this is a witness, which has no state.
    stripped: bool,
    checks: Checks<NODES>,
    forwards: Forwards<NODES>,
    /// Whether a snapshot was asked for, and the last entry of the last one that was made.
    snapshot_wanted: bool,
    snapshot_made: Index,
    /// When a snapshot that found no room is tried again, and how many found none.
    snapshot_again: BackOff,
    snapshots_failed: u64,
    /// The log was told to drop what this snapshot, by its last entry, covers.
    compacted: Index,
}

impl<S, T, M, X, const NODES: usize> Replica<S, T, M, X, NODES>
where
    S: Storage,
    T: Transport,
    M: StateMachine,
    X: SessionMemory,
{
    /// A replica that starts, or starts again, with what its storage holds. The storage has its
    /// first entry (see [`configuration::bootstrap`]) and all of it is durable; the state machine
    /// is as it was before the first entry, and everything committed is applied to it again.
    ///
    /// # Errors
    /// Says what does not fit; nothing has been changed.
    pub fn new(
        id: NodeId,
        config: Config,
        mut storage: S,
        transport: T,
        machine: M,
        memory: X,
        now: Instant,
    ) -> Result<Self, StartError<S::Error>> {
        let configuration = configuration::first(&mut storage)?;
        let raft = Raft::new(id, config, storage, now)?;
        Replica::with(raft, config, configuration, transport, machine, memory)
    }

    /// A replica that joins a cluster that runs: its log is empty, and `configuration` is what one
    /// of the members says (see [`Raft::join`]). It takes part once it has been added as a member.
    ///
    /// # Errors
    /// Says what does not fit; nothing has been changed.
    #[allow(clippy::too_many_arguments, reason = "each is a part of its own, and there is no other constructor")]
    pub fn join(
        id: NodeId,
        config: Config,
        configuration: Configuration,
        storage: S,
        mut transport: T,
        machine: M,
        memory: X,
        now: Instant,
    ) -> Result<Self, StartError<S::Error>> {
        let raft = Raft::join(id, config, &configuration, storage, now)?;
        transport.configure(&configuration);
        Replica::with(raft, config, configuration, transport, machine, memory)
    }

    fn with(
        raft: Raft<S, NODES>,
        config: Config,
        configuration: Configuration,
        transport: T,
        machine: M,
        memory: X,
    ) -> Result<Self, StartError<S::Error>> {
        let sessions = SessionTable::new(configuration.limits(), memory)?;
        // The log goes on where an earlier life of this node left off, tickets do not.
        let first_ticket = ForwardTicket(config.seed.rotate_left(32) >> 1);
        let id = raft.id();
        let core = Core {
            raft,
            machine,
            sessions,
            config,
            configuration,
            configuration_entry: EntryId::ZERO,
            unregistered: true,
            stripped: false,
            checks: Checks::new(id),
            forwards: Forwards::default(),
            snapshot_wanted: false,
            snapshot_made: Index::ZERO,
            snapshot_again: BackOff::default(),
            snapshots_failed: 0,
            compacted: Index::ZERO,
        };
        Ok(Replica { core, transport, first_ticket, next_ticket: first_ticket })
    }

    /// Does all there is to do: takes in what has arrived, sends, saves, sends what that released, applies. Returns the
    /// time at which to call again at the latest. `clock` is read after each message, so that no entry counts as taken
    /// before it was there.
    ///
    /// A leader's messages go out before its own write, so that its disk and its followers' work
    /// at the same time; what arrives meanwhile joins the next round.
    ///
    /// # Errors
    /// The replica cannot go on. That is final: stop, and do not poll again.
    pub fn poll(&mut self, clock: &impl Clock, observer: &mut impl Observer) -> Result<Instant, PollError<S::Error>> {
        let taken = self.receive(clock, observer);
        let now = clock.now();
        self.notice_closed_links(now, observer);
        self.core.raft.tick(now).later();
        self.core.keep_time(now);
        self.follow_configuration(now)?;
        self.send()?;
        if self.core.save()? {
            self.send()?;
        }
        self.core.restore(observer)?;
        let applied_all = self.core.apply(observer)?;
        if let Some(check) = self.compare(now) {
            observer.event(now, Event::Diverged { check });
        }
        if let Some(event) = self.core.keep_log_short(now)? {
            observer.event(now, event);
        }
        self.send()?;
        while let Some((at, event)) = self.core.raft.event() {
            observer.event(at, event);
        }
        if taken == MESSAGES_PER_POLL_MAX || !applied_all {
            return Ok(now);
        }
        Ok(self.core.raft.deadline())
    }

    fn receive(&mut self, clock: &impl Clock, observer: &mut impl Observer) -> usize {
        for taken in 0..MESSAGES_PER_POLL_MAX {
            let Some(message) = self.transport.receive() else { return taken };
            let now = clock.now();
            let from = message.from;
            if let Some(reply) = self.core.take(now, &message, observer) {
                let term = self.core.raft.term();
                let reply = Message { from: self.core.raft.id(), to: from, term, body: reply };
                self.transport.send(&reply);
            }
        }
        MESSAGES_PER_POLL_MAX
    }

    fn notice_closed_links(&mut self, now: Instant, observer: &mut impl Observer) {
        while let Some(peer) = self.transport.closed_link() {
            self.core.raft.link_down(now, peer).later();
            observer.link_closed(peer);
        }
    }

    /// Forms messages for the links that can take them.
    fn send(&mut self) -> Result<(), PollError<S::Error>> {
        let mut number = 0;
        while let Some(peer) = self.core.raft.recipient(number) {
            number += 1;
            while let Some(room) = self.transport.room(peer) {
                match self.core.raft.ready().message(peer, room).map_err(PollError::Storage)? {
                    Some(message) => self.transport.send(&message),
                    None => break,
                }
            }
        }
        self.transport.flush();
        Ok(())
    }

    /// Appends an operation to the log, if this node leads. Poll the replica afterwards.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended, and it will not be executed.
    pub fn propose(
        &mut self,
        now: Instant,
        secret: Option<Nonce>,
        operation: &Operation<'_>,
    ) -> Result<EntryId, ProposeError> {
        self.core.propose(now, secret, operation)
    }

    /// Begins a linearizable read, on any node but a witness. Poll the replica, and query the state
    /// machine once [`Replica::read_state`] says so. With [`Consistency::Lease`], and if this node
    /// leads with a lease, that is at once: see [`Raft::read_by_lease`]. Call it once the request has been taken: the
    /// lease is judged by what `clock` shows then.
    ///
    /// # Errors
    /// [`ProposeError`]: there is no leader that could confirm it now.
    pub fn read(&mut self, clock: &impl Clock, consistency: Consistency) -> Result<ReadId, ProposeError> {
        if self.core.stripped {
            return Err(ProposeError::NotLeader { leader: self.core.raft.leader() });
        }
        let now = clock.now();
        let (read, ready) = match consistency {
            Consistency::Lease => self.core.raft.read_by_lease(now)?,
            _ => self.core.raft.read(now)?,
        };
        ready.later();
        Ok(read)
    }

    /// Changes the members, if this node leads: see [`Raft::change_members`]. The observer is told
    /// when the entry is applied; a joint configuration is left by itself.
    ///
    /// # Errors
    /// [`ChangeMembersError`]: nothing was changed.
    pub fn change_members(
        &mut self,
        now: Instant,
        changes: &[MemberChange],
        force: bool,
    ) -> Result<EntryId, ChangeMembersError<S::Error>> {
        let (entry, ready) = self.core.raft.change_members(now, changes, force)?;
        ready.later();
        Ok(entry)
    }

    /// Hands leadership over: see [`Raft::transfer`].
    ///
    /// # Errors
    /// [`TransferError`]: nothing has changed.
    pub fn transfer(&mut self, now: Instant, to: Option<NodeId>) -> Result<(), TransferError> {
        self.core.raft.transfer(now, to)?.later();
        Ok(())
    }

    /// Has a snapshot made by one of the next polls, and gives the entry that it will reach at
    /// least. It is there once [`Status::snapshot`](crate::raft::Status) says so.
    pub fn make_snapshot(&mut self) -> Index {
        self.core.snapshot_wanted = true;
        self.core.raft.last_applied()
    }

    /// What has become of a read.
    #[must_use]
    pub fn read_state(&self, read: ReadId) -> ReadState {
        // A witness that is new may have begun it before it knew that it is one.
        if self.core.stripped { ReadState::Lost } else { self.core.raft.read_state(read) }
    }

    /// Tells the storage that nothing has been saved for a while: see [`Storage::witness`].
    ///
    /// # Errors
    /// As [`Replica::poll`].
    pub fn witness(&mut self) -> Result<(), PollError<S::Error>> {
        self.core.raft.storage_mut().witness().map_err(PollError::Storage)
    }

    /// The state machine, to query it.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.core.machine
    }

    /// The session table, to look at.
    #[must_use]
    pub fn sessions(&self) -> &SessionTable<X> {
        &self.core.sessions
    }

    /// The consensus part, to look at.
    #[must_use]
    pub fn raft(&self) -> &Raft<S, NODES> {
        &self.core.raft
    }

    /// The cluster's configuration.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.core.configuration
    }

    /// The transport, to wait for it.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let (status, metrics) = (self.core.raft.status(), self.core.raft.storage().metrics());
        let (sessions, counters) = (&self.core.sessions, self.core.sessions.counters());
        NodeStatus {
            node: status.id,
            role: status.role,
            term: status.term,
            leader: status.leader,
            configuration: status.configuration,
            joint: status.joint,
            expelled: status.expelled.is_some(),
            snapshot: status.snapshot,
            base: status.base,
            last: status.last,
            saved: status.saved,
            commit: status.commit,
            applied: status.applied,
            cluster_time: sessions.time(),
            sessions: sessions.sessions(),
            sessions_max: self.core.configuration.limits().sessions,
            session_bytes: sessions.bytes() as u64,
            executed: counters.executed,
            replayed: counters.replayed,
            refused: counters.refused,
            elections_won: status.elections_won,
            syncs: metrics.syncs,
            entries_synced: metrics.entries_synced,
            bytes_written: metrics.bytes_written,
            log_bytes: self.core.raft.storage().bytes_behind(status.base),
            full: metrics.full,
            snapshots_failed: self.core.snapshots_failed,
        }
    }
}

impl<S: Storage, M: StateMachine, X: SessionMemory, const NODES: usize> Core<S, M, X, NODES> {
    /// Handles a message; gives the reply to a forwarded operation.
    fn take(&mut self, now: Instant, message: &Message<'_>, observer: &mut impl Observer) -> Option<Body<'static>> {
        match &message.body {
            &Body::Forward { ticket, first, round: heard, secret, ref operation } => {
                let origin = Origin { node: message.from, first, ticket, heard };
                return self.take_forwarded(now, message.term, origin, secret, operation);
            }
            Body::Forwarded { ticket, outcome } => observer.forwarded(*ticket, *outcome),
            &Body::Digest { check, digest, by } => {
                self.checks.reported(message.from, Comparison { check, digest, by });
            }
            _ => match self.raft.step(now, message) {
                Ok(ready) => ready.later(),
                Err(error) => observer.ignored(message.from, error),
            },
        }
        None
    }

    fn propose(
        &mut self,
        now: Instant,
        secret: Option<Nonce>,
        operation: &Operation<'_>,
    ) -> Result<EntryId, ProposeError> {
        // Until it has applied the start of its term, a leader's table lacks sessions that earlier
        // leaders opened, and it could not tell a wrong secret.
        if self.raft.term_start().is_some_and(|start| self.raft.last_applied() < start) {
            return Err(ProposeError::NotReady);
        }
        if let Some(session) = operation.session()
            && self.raft.role() == RoleName::Leader
        {
            self.check_secret(session, secret)?;
        }
        let mut head = [0; OPERATION_HEAD_BYTES_MAX];
        let (head, command) = operation.encode(&mut head);
        let (id, ready) = self.raft.propose(now, EntryKind::Operation, &[head, command])?;
        ready.later();
        Ok(id)
    }

    /// Whether `secret` is that of `session`. An unknown session that was opened before the last applied entry has
    /// ended, and the log refuses it. One that may be opened by a later entry cannot be compared yet: whoever guesses
    /// its id would get into it.
    fn check_secret(&self, session: SessionId, secret: Option<Nonce>) -> Result<(), ProposeError> {
        let secret = secret.ok_or(ProposeError::WrongSecret)?;
        match self.sessions.check_secret(session, secret) {
            SecretCheck::Wrong => Err(ProposeError::WrongSecret),
            SecretCheck::Unknown if session.0 > self.raft.last_applied().0 => Err(ProposeError::NotReady),
            SecretCheck::Unknown | SecretCheck::Right => Ok(()),
        }
    }

    /// Lets sessions expire in an idle cluster: a leader with one that is due commits an entry that
    /// carries nothing but its cluster time.
    fn keep_time(&mut self, now: Instant) {
        let Some(time) = self.raft.cluster_time(now) else { return };
        // Entries under way carry the time too: the start of the term is one, and the last clock entry.
        if self.raft.last_applied() == self.raft.storage().last().index
            && self.sessions.next_expiry().is_some_and(|expiry| time > expiry)
            && let Ok((_, ready)) = self.raft.propose(now, EntryKind::Clock, &[])
        {
            ready.later();
        }
    }

    /// Makes durable what is not; gives whether anything has become so.
    fn save(&mut self) -> Result<bool, PollError<S::Error>> {
        let before = self.raft.ready().to_save();
        if before.is_some() {
            self.raft.storage_mut().flush().map_err(PollError::Storage)?;
        }
        let saved = self.raft.storage_mut().saved().map_err(PollError::Storage)?;
        let after = self.raft.saved(saved).to_save();
        Ok(before != after)
    }

    /// Applies what is committed; gives whether that was all.
    fn apply(&mut self, observer: &mut impl Observer) -> Result<bool, PollError<S::Error>> {
        for _ in 0..APPLY_READS_MAX {
            let Some(range) = self.raft.ready().apply() else { return Ok(true) };
            let records = match self.raft.storage_mut().read(*range.start(), *range.end(), APPLY_BYTES) {
                Ok(records) => records,
                Err(ReadError::Failed(error)) => return Err(PollError::Storage(error)),
                Err(ReadError::Missing(index)) => panic!("entry {index} is to be applied and is not in the log"),
            };
            for entry in records.iter() {
                self.stripped |= entry.header.kind == EntryKind::Stripped;
                let outcome = apply_entry(&mut self.sessions, &mut self.machine, &entry)
                    .map_err(|_| PollError::UnknownOperation { index: entry.header.index })?;
                observer.applied(entry.header.id(), outcome);
                self.checks.applied(&entry, &self.sessions, &self.machine)?;
            }
            let last = records.last().index;
            self.raft.applied(last).later();
        }
        Ok(self.raft.ready().apply().is_none())
    }
}

fn apply_entry<'t, M: StateMachine, X: SessionMemory>(
    sessions: &'t mut SessionTable<X>,
    machine: &mut M,
    entry: &Entry<'_>,
) -> Result<Option<Outcome<'t>>, OperationError> {
    sessions.advance(entry.header.time);
    if entry.header.kind != EntryKind::Operation {
        return Ok(None);
    }
    let operation = Operation::decode(entry.payload)?;
    Ok(Some(sessions.apply(entry.header.index, operation, machine)))
}

/// Why a replica cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PollError<E> {
    /// The storage failed.
    #[error("the storage failed")]
    Storage(#[source] E),
    /// A committed operation is of a kind that this version does not know. If it went on without
    /// it, the replica would part from the others.
    #[error("entry {index} holds an operation that this version does not know; run a newer one")]
    UnknownOperation {
        /// The entry.
        index: Index,
    },
    /// A majority of the replicas had another state after that entry. What this one has cannot be
    /// trusted: remove it, and add a new node.
    #[error("this replica differs from the majority after entry {index}; remove it and add a new node in its place")]
    Diverged {
        /// The entry.
        index: Index,
    },
    /// The configuration in the log could not be read.
    #[error("the configuration could not be read")]
    Configuration(#[source] LoadError<E>),
    /// The snapshot begins with something else.
    #[error("the snapshot is not valid")]
    Snapshot(#[from] SnapshotError),
    /// The snapshot's sessions are not valid, or there is no memory for them.
    #[error("the sessions in the snapshot cannot be restored")]
    Sessions(#[from] TableDecodeError),
    /// The state machine does not know its own snapshot.
    #[error("the state in the snapshot cannot be restored")]
    Machine(#[from] Damaged),
}

/// Why a replica could not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError<E> {
    /// The log's first entry could not be read.
    #[error(transparent)]
    Load(#[from] LoadError<E>),
    /// The memory for sessions is less than the cluster's limits need.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// Settings, id or storage do not fit.
    #[error(transparent)]
    Raft(#[from] NewError<E>),
}
