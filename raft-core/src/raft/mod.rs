//! Consensus: the Raft state machine, without I/O, clock, threads or heap.
//!
//! A program feeds a [`Raft`] with inputs ([`Raft::tick`], [`Raft::step`], [`Raft::propose`],
//! [`Raft::read`], [`Raft::saved`], [`Raft::applied`]); each gives a [`Ready`], which borrows it
//! and holds what there is to do, in the order in which it is done: messages to form, state to
//! save, entries to apply. A Ready that is left alone loses nothing: the next one holds it too.
//!
//! Nothing that is unsafe to send is ever handed out: while the hard state is not durable nothing
//! is, and an acknowledgement covers no more of the log than is durable.

mod clock;
pub mod config;
mod election;
mod follower;
mod leader;
mod progress;
mod ready;
mod role;
mod status;

use heapless::Vec;
use thiserror::Error;

use crate::client::protocol::RoleName;
use crate::configuration::Configuration;
use crate::message::{Body, Message, ReadTicket, Round};
use crate::raft::config::{Config, ConfigError};
use crate::raft::role::{Follower, Following, Role};
use crate::random::Random;
use crate::storage::{HardState, Saved, Storage};
use crate::types::{EntryId, Index, Instant, NodeId, Term};

pub use ready::Ready;
pub use status::{PeerStatus, Status};

/// A message owed to a member, formed when its link can take one. A newer one takes the place of
/// an older: that is as if the older had been lost, and no member waits for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// Whether this node would vote for the member in that term.
    PreVote { term: Term, granted: bool },
    /// Whether it does, in that term.
    Vote { term: Term, granted: bool },
    /// The member's append was of an earlier term.
    Outdated,
}

/// One replica's part in consensus, over a log `S`, in a cluster of at most `NODES` members.
///
/// Inputs: [`tick`](Raft::tick), [`step`](Raft::step), [`propose`](Raft::propose),
/// [`read`](Raft::read), [`saved`](Raft::saved), [`applied`](Raft::applied). Everything else only
/// looks. Handle each [`Ready`] in this order: save what [`Ready::to_save`] tells after (leaders)
/// or before (it makes no difference to safety) forming messages, then apply.
///
/// Invariants: `applied <= commit <= last`, `applied <= saved <= last`, the term never goes down,
/// and one vote is given in each.
#[derive(Clone, Debug)]
pub struct Raft<S, const NODES: usize> {
    id: NodeId,
    config: Config,
    storage: S,
    /// All members, this one included, in the order of their ids.
    members: Vec<NodeId, NODES>,
    now: Instant,
    random: Random,
    saved: Saved,
    commit: Index,
    applied: Index,
    role: Role<NODES>,
    replies: [Option<Reply>; NODES],
    /// The latest read begun as a follower, and the term in which it was.
    last_ticket: ReadTicket,
    last_ticket_term: Term,
    elections_won: u64,
}

/// A read that waits for its leader to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadId {
    term: Term,
    kind: ReadKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ReadKind {
    /// When a quorum has answered the round, the leader still led when it had committed so much.
    Leader { round: Round, index: Index },
    /// The leader was asked about this read, or will be.
    Follower(ReadTicket),
}

/// What has become of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadState {
    /// The leader has not been confirmed yet, or its entries have not been applied.
    Waiting,
    /// The state machine may be queried.
    Ready,
    /// There is no such leader any more: begin anew.
    Lost,
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// A node that starts, or starts again, with what its storage holds, as a follower.
    ///
    /// All that is in the storage's view must be durable already.
    ///
    /// # Errors
    /// Says what in the settings, the configuration or the storage does not fit.
    pub fn new(
        id: NodeId,
        config: Config,
        configuration: &Configuration,
        mut storage: S,
        now: Instant,
    ) -> Result<Raft<S, NODES>, NewError<S::Error>> {
        const { assert!(NODES > 0, "a cluster has at least one member") };
        config.check()?;
        if configuration.member(id).is_none() {
            return Err(NewError::NotMember { id });
        }
        let mut members = Vec::new();
        for member in configuration.members() {
            let too_many = NewError::TooManyMembers { members: configuration.members().len(), most: NODES };
            members.push(member.id).map_err(|_| too_many)?;
        }
        let saved = storage.saved().map_err(NewError::Storage)?;
        let durable = Saved { hard_state: storage.hard_state(), through: storage.last() };
        if saved != durable || durable.through.index < Index::FIRST {
            return Err(NewError::NotSaved);
        }
        let mut random = Random::new(config.seed);
        let last_ticket = ReadTicket(random.next() >> 1);
        let election_at = now.after(random.timeout(config.election_timeout));
        let raft = Raft {
            id,
            config,
            members,
            now,
            random,
            saved,
            // Every member begins with entry 1, so that it is committed without a leader.
            commit: Index::FIRST.max(storage.base().index),
            applied: storage.base().index,
            role: Role::Follower(Follower { election_at, leader: None }),
            replies: [None; NODES],
            last_ticket,
            last_ticket_term: Term::ZERO,
            elections_won: 0,
            storage,
        };
        raft.check_invariants();
        Ok(raft)
    }

    /// Time has passed: it is `now`. Call it at [`Raft::deadline`], or earlier, or as often as it
    /// pleases; one call begins at most one election, however late it comes.
    pub fn tick(&mut self, now: Instant) -> Ready<'_, S, NODES> {
        self.now = self.now.max(now);
        match &self.role {
            Role::Follower(follower) if self.now >= follower.election_at => self.begin_pre_vote(),
            Role::PreCandidate(election) | Role::Candidate(election) if self.now >= election.again_at => {
                self.give_up_election();
            }
            Role::Leader(leader) if self.now >= leader.heartbeat_at => self.heartbeat(),
            _ => {}
        }
        self.ready()
    }

    /// When [`Raft::tick`] must be called next, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.role {
            Role::Follower(follower) => follower.election_at,
            Role::PreCandidate(election) | Role::Candidate(election) => election.again_at,
            Role::Leader(leader) => leader.heartbeat_at,
        }
    }

    /// A message has arrived.
    ///
    /// # Errors
    /// [`StepError`] for a message that no correct member sends. It was ignored.
    pub fn step(&mut self, now: Instant, message: &Message<'_>) -> Result<Ready<'_, S, NODES>, StepError> {
        self.now = self.now.max(now);
        if message.to != self.id {
            return Err(StepError::NotForThisNode { to: message.to });
        }
        let from = self.position(message.from).filter(|_| message.from != self.id);
        let from = from.ok_or(StepError::NotMember { from: message.from })?;
        if self.admit(from, message) {
            self.dispatch(from, message)?;
        }
        Ok(self.ready())
    }

    /// Settles what the message's term means (Raft paper, figure 2, "All Servers"); gives whether
    /// the message is then to be taken.
    fn admit(&mut self, from: usize, message: &Message<'_>) -> bool {
        let term = self.term();
        match &message.body {
            // Of a term that may never come: changes nothing here (dissertation, section 9.6).
            Body::PreVote { .. } | Body::PreVoteReply { granted: true } => return true,
            Body::Vote { transfer: false, .. } if message.term > term && self.hears_leader(message.from) => {
                return false;
            }
            _ => {}
        }
        if message.term > term {
            self.follow_term(message.term);
            return true;
        }
        if message.term < term {
            match message.body {
                Body::Append { .. } => self.reply(from, Reply::Outdated),
                Body::Vote { .. } => self.reply(from, Reply::Vote { term, granted: false }),
                _ => {}
            }
            return false;
        }
        true
    }

    fn dispatch(&mut self, from: usize, message: &Message<'_>) -> Result<(), StepError> {
        match message.body {
            Body::PreVote { last } => self.on_pre_vote(from, message.from, message.term, last),
            Body::PreVoteReply { granted } => self.on_pre_vote_reply(from, message.term, granted),
            Body::Vote { last, .. } => self.on_vote(from, message.from, last),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { previous, commit, round, entries } => {
                return self.on_append(message.from, previous, commit, round, entries);
            }
            Body::AppendReply { round, matched, rejected } => {
                return self.on_append_reply(from, round, matched, rejected);
            }
            Body::ReadRequest { ticket } => self.on_read_request(from, ticket),
            Body::ReadReply { ticket, index } => self.on_read_reply(message.from, ticket, index),
            // These pass between replicas, above consensus.
            Body::Forward { .. } | Body::Forwarded { .. } | Body::Digest { .. } => {}
            Body::Campaign | Body::Removed { .. } | Body::Snapshot { .. } | Body::SnapshotReply { .. } => {}
        }
        Ok(())
    }

    /// The storage has made this durable.
    pub fn saved(&mut self, saved: Saved) -> Ready<'_, S, NODES> {
        assert!(saved.hard_state.term <= self.term(), "a term was saved that was never reached");
        let order = |hard_state: HardState| (hard_state.term, hard_state.vote.is_some());
        if order(saved.hard_state) < order(self.saved.hard_state) {
            return self.ready(); // Overtaken by a later report.
        }
        self.saved.hard_state = saved.hard_state;
        // The entries of a leader that has been overruled since may have been saved late: only an
        // entry that still stands at its index says something about this log. One that was dropped
        // and came back may stand there too, while the disk is yet to hold another in between: but
        // never within a term, since its leader's log has only one entry there.
        if saved.hard_state.term == self.term()
            && self.storage.term(saved.through.index) == Some(saved.through.term)
            && saved.through.index > self.saved.through.index
        {
            self.saved.through = saved.through;
        }
        match &self.role {
            Role::Candidate(_) if self.hard_state_is_saved() => self.count_own_vote(),
            Role::Leader(_) => {
                self.advance_commit();
                self.confirm_reads();
            }
            _ => {}
        }
        self.ready()
    }

    /// The state machine has applied all entries up to `index`.
    ///
    /// # Panics
    /// If that goes back, or beyond what [`Ready::apply`] handed out: the program is at fault.
    pub fn applied(&mut self, index: Index) -> Ready<'_, S, NODES> {
        assert!(index >= self.applied, "applied entries are not applied again");
        assert!(index <= self.appliable(), "entries are applied once they are committed and durable");
        self.applied = index;
        self.ready()
    }

    /// What there is to do now, without a new input.
    pub fn ready(&mut self) -> Ready<'_, S, NODES> {
        self.check_invariants();
        Ready::new(self)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The latest term seen.
    #[must_use]
    pub fn term(&self) -> Term {
        self.storage.hard_state().term
    }

    /// What the node is in that term.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// Who leads that term, where it is known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower(Follower { leader: Some(following), .. }) => Some(following.leader),
            _ => None,
        }
    }

    /// The last entry known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last entry applied.
    #[must_use]
    pub fn last_applied(&self) -> Index {
        self.applied
    }

    /// The members, this node included, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The log.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The log, to flush it or to read entries. Changing it from outside breaks the node.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Goes back to following, in `term` if that is later; whoever leads it is not known yet.
    fn follow_term(&mut self, term: Term) {
        if term > self.term() {
            self.storage.set_hard_state(HardState { term, vote: None });
            self.replies = [None; NODES];
        }
        let election_at = match &self.role {
            // A higher term alone is no reason to wait longer: only a leader or a vote is.
            Role::Follower(follower) => follower.election_at,
            _ => self.election_timeout(),
        };
        self.role = Role::Follower(Follower { election_at, leader: None });
    }

    fn election_timeout(&mut self) -> Instant {
        self.now.after(self.random.timeout(self.config.election_timeout))
    }

    fn following_mut(&mut self) -> Option<&mut Following> {
        match &mut self.role {
            Role::Follower(follower) => follower.leader.as_mut(),
            _ => None,
        }
    }

    fn reply(&mut self, to: usize, reply: Reply) {
        if let Some(slot) = self.replies.get_mut(to) {
            *slot = Some(reply);
        }
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|&member| member == node)
    }

    fn own_position(&self) -> usize {
        self.position(self.id).expect("a node is a member of its cluster")
    }

    /// The votes or acknowledgements that decide: more than half.
    fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn hard_state_is_saved(&self) -> bool {
        self.saved.hard_state == self.storage.hard_state()
    }

    /// Entries are applied when they are committed and durable here too, so that a state machine
    /// that keeps its own state never runs ahead of its log.
    fn appliable(&self) -> Index {
        self.commit.min(self.saved.through.index)
    }

    fn check_invariants(&self) {
        let (last, saved) = (self.storage.last(), self.saved.through);
        assert!(self.applied <= self.commit, "an entry was applied before it was committed");
        assert!(self.commit <= last.index, "an entry is committed that is not in the log");
        assert!(saved.index <= last.index, "an entry is durable that is not in the log");
        assert!(self.applied <= saved.index, "an entry was applied before it was durable");
        assert!(last.term <= self.term(), "an entry is of a later term than the node's");
        if let Role::Leader(leader) = &self.role {
            assert!(self.hard_state_is_saved(), "a leader's vote for itself is durable");
            assert!(leader.term_start <= last.index, "a leader's log holds the start of its term");
        }
    }
}

/// Why a node could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewError<E> {
    /// The settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node is not in the configuration.
    #[error("node {id} is not a member of the cluster; add it there first, or give it the right id")]
    NotMember {
        /// The node.
        id: NodeId,
    },
    /// The cluster is larger than this program was built for.
    #[error("the cluster has {members} members, and this program was built for at most {most}")]
    TooManyMembers {
        /// Its members.
        members: usize,
        /// What the program was built for.
        most: usize,
    },
    /// The storage holds something that is not durable, or no first entry.
    #[error("the storage must hold its first entry, and all of it must be durable: bootstrap and flush it first")]
    NotSaved,
    /// The storage failed.
    #[error("the storage failed")]
    Storage(#[source] E),
}

/// What is wrong with a message that was ignored: no correct member sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StepError {
    /// It is for somebody else.
    #[error("the message is for node {to}")]
    NotForThisNode {
        /// Whom it is for.
        to: NodeId,
    },
    /// The sender is no member, or claims to be this node.
    #[error("node {from} is no other member of the cluster")]
    NotMember {
        /// The sender.
        from: NodeId,
    },
    /// A second leader in one term.
    #[error("node {from} claims to lead term {term}, which has another leader")]
    SecondLeader {
        /// The sender.
        from: NodeId,
        /// The term.
        term: Term,
    },
    /// An entry contradicts a committed one.
    #[error("entry {found} contradicts what is committed up to index {commit}")]
    ContradictsCommitted {
        /// The entry (term/index).
        found: EntryId,
        /// The commit index.
        commit: Index,
    },
    /// An entry of a later term than the message.
    #[error("entry {found} is of a later term than its message")]
    EntryOfLaterTerm {
        /// The entry (term/index).
        found: EntryId,
    },
    /// An acknowledgement of entries or rounds that were never sent.
    #[error("the sender acknowledges what was never sent")]
    NeverSent,
}
