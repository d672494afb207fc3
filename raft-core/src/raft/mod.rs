//! Consensus: the Raft state machine, without I/O, clock, threads or heap.
//!
//! A program feeds a [`Raft`] with inputs ([`Raft::tick`], [`Raft::step`], [`Raft::propose`],
//! [`Raft::read`], [`Raft::saved`], [`Raft::applied`]); each gives a [`Ready`], which borrows it
//! and holds what there is to do, in the order in which it is done: messages to form, state to
//! save, entries to apply. A Ready that is left alone loses nothing: the next one holds it too.
//!
//! Nothing that is unsafe to send is ever handed out: while the hard state is not durable nothing
//! is, and an acknowledgement covers no more of the log than is durable.

mod change;
mod clock;
pub mod config;
mod election;
pub mod event;
mod expulsion;
mod fingerprint;
mod follower;
mod install;
mod leader;
mod membership;
mod progress;
mod read;
mod ready;
mod role;
mod snapshot;
mod start;
mod status;
mod step_error;
mod transfer;

use heapless::Vec;

use crate::back_off::BackOff;
use crate::client::protocol::RoleName;
use crate::configuration::Lease;
use crate::message::{Body, Message, ReadTicket, Round};
use crate::raft::config::Config;
use crate::raft::event::{Event, Events, Expulsion, StepDown};
use crate::raft::install::Draft;
use crate::raft::membership::{Membership, Peer};
use crate::raft::progress::{Answer, Progress, ProgressState};
use crate::raft::role::{Follower, Following, Role};
use crate::random::Random;
use crate::storage::{HardState, Saved, Storage};
use crate::types::{ClusterId, EntryId, Index, Instant, Millis, NodeId, Term};

pub use change::ChangeMembersError;
pub use read::{ReadId, ReadState};
pub use ready::Ready;
pub use start::NewError;
pub use status::{PeerStatus, Replication, Status};
pub use step_error::StepError;
pub use transfer::TransferError;

/// The most terms that a message may be ahead: no cluster holds so many elections, and whoever
/// could make others take over a term near the last one would end all elections for ever.
const TERMS_AHEAD_MAX: u64 = 1 << 40;

/// The highest index that a snapshot may end at: no cluster writes so many entries, and whoever could make others take
/// over an index near the last one would leave them none to append at.
const INDEX_MAX: Index = Index(1 << 62);

/// A message owed to a node, formed when its link can take one. A newer one takes the place of
/// an older: that is as if the older had been lost, and no node waits for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reply {
    /// Whether this node would vote for it in that term.
    PreVote { term: Term, granted: bool },
    /// Whether it does, in that term.
    Vote { term: Term, granted: bool },
    /// Its append was of an earlier term.
    Outdated,
    /// It takes part in nothing any more.
    Expelled(Expulsion),
}

/// One replica's part in consensus, over a log `S`, in a cluster of at most `NODES` members, those
/// that are joining and leaving included.
///
/// Inputs: [`tick`](Raft::tick), [`step`](Raft::step), [`link_down`](Raft::link_down), [`propose`](Raft::propose),
/// [`change_members`](Raft::change_members), [`transfer`](Raft::transfer), [`read`](Raft::read),
/// [`saved`](Raft::saved), [`applied`](Raft::applied), [`restored`](Raft::restored). Everything
/// else only looks. Handle each [`Ready`] in this order: save what [`Ready::to_save`] tells after
/// (leaders) or before (it makes no difference to safety) forming messages, then restore, then apply.
///
/// Invariants: `applied <= commit <= last`, `applied <= saved <= last`, the term never goes down,
/// and one vote is given in each.
#[derive(Clone, Debug)]
pub struct Raft<S, const NODES: usize> {
    id: NodeId,
    cluster: ClusterId,
    config: Config,
    storage: S,
    /// The members of the latest configuration in the log, committed or not.
    membership: Membership<NODES>,
    /// Those of the configuration before, which hold again if the latest is dropped.
    previous: Option<Membership<NODES>>,
    /// The latest configuration whose commitment has been noticed.
    configured: EntryId,
    lease: Option<Lease>,
    now: Instant,
    random: Random,
    /// The election timeout drawn last: one for each time this node begins to follow or campaign.
    patience: Millis,
    saved: Saved,
    commit: Index,
    applied: Index,
    /// Whether the state machine is to be made anew from the latest snapshot.
    restore: bool,
    role: Role<NODES>,
    /// Whom an answer is owed, members or not.
    replies: Vec<(NodeId, Reply), NODES>,
    /// A snapshot that is arriving. It goes on across leaders.
    draft: Option<Draft>,
    /// When a snapshot for which there was no room may be received again.
    receive_again: BackOff,
    /// When an entry of another leader was taken last, or this node started.
    taken_at: Instant,
    /// Not earlier than this is leadership handed over unasked, by whichever term of this node's: the last time may have
    /// been of no use, and cost the cluster an election.
    hand_over_at: Instant,
    /// The latest read begun as a follower, and the term in which it was.
    last_ticket: ReadTicket,
    last_ticket_term: Term,
    /// By which configuration this node is said to be removed. A leader that has it as a member is heard within an
    /// election timeout; if none is, it is so.
    removed: Option<EntryId>,
    /// Why the node neither votes nor campaigns, as far as it is durable and has been told.
    expelled: Option<Expulsion>,
    /// The end of a log that may have lost entries, and the term of the start.
    suspect: Option<(Index, Term)>,
    elections_won: u64,
    events: Events,
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Time has passed: it is `now`. Call it at [`Raft::deadline`], or earlier, or as often as it
    /// pleases; one call begins at most one election, however late it comes.
    pub fn tick(&mut self, now: Instant) -> Ready<'_, S, NODES> {
        self.now = self.now.max(now);
        match &self.role {
            Role::Follower(follower) if self.now >= follower.election_at => self.miss_leader(),
            Role::PreCandidate(election) | Role::Candidate(election) if self.now >= election.again_at => {
                self.give_up_election();
            }
            Role::Leader(_) => self.tick_leader(),
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
            Role::Leader(leader) => {
                let waits = Some(leader.lease.commit_from).filter(|&from| from > self.now);
                let transfer = leader.transfer.map(|transfer| transfer.until);
                [waits, transfer].into_iter().flatten().fold(leader.heartbeat_at, Instant::min)
            }
        }
    }

    /// A message has arrived. It may come from a node that is no member here: this node may not
    /// know of the latest change yet (dissertation, section 4.2.2).
    ///
    /// `now` must have been read after the message arrived: when this node leads later, it waits for as long as a lease
    /// lasts after it took the last entry, and the entry's leader may have appended it after an earlier instant.
    ///
    /// # Errors
    /// [`StepError`] for a message that no correct node sends. It was ignored.
    pub fn step(&mut self, now: Instant, message: &Message<'_>) -> Result<Ready<'_, S, NODES>, StepError> {
        self.now = self.now.max(now);
        if message.to != self.id {
            return Err(StepError::NotForThisNode { to: message.to });
        }
        if message.from == self.id {
            return Err(StepError::FromItself);
        }
        if message.term.0.saturating_sub(self.term().0) > TERMS_AHEAD_MAX {
            return Err(StepError::TermTooFarAhead { term: message.term });
        }
        if self.admit(message) {
            self.dispatch(message)?;
        }
        Ok(self.ready())
    }

    /// Settles what the message's term means (Raft paper, figure 2, "All Servers"); gives whether
    /// the message is then to be taken.
    fn admit(&mut self, message: &Message<'_>) -> bool {
        let (term, from) = (self.term(), message.from);
        if let Some(Expulsion::Contradicted { .. }) = self.storage.hard_state().expelled {
            return false; // What follows would be built on what contradicts this log.
        }
        match &message.body {
            Body::PreVote { last } | Body::Vote { last, .. } if self.has_removed(from, *last) => {
                let by = self.membership.entry;
                self.reply(from, Reply::Expelled(Expulsion::Removed { by }));
                return false;
            }
            // Of a term that may never come: changes nothing here (dissertation, section 9.6).
            Body::PreVote { .. } | Body::PreVoteReply { granted: true } => return true,
            Body::Vote { transfer: false, .. } if message.term > term && self.hears_leader(from) => {
                return false;
            }
            _ => {}
        }
        if message.term > term {
            self.follow_term(message.term, StepDown::HigherTerm);
            return true;
        }
        if message.term < term {
            match message.body {
                Body::Append { .. } | Body::Snapshot { .. } => self.reply(from, Reply::Outdated),
                Body::Vote { .. } => self.reply(from, Reply::Vote { term, granted: false }),
                // It campaigned in vain and is in a later term. What is committed stays so in that too.
                Body::Expelled { reason: Expulsion::Removed { .. } } => return true,
                _ => {}
            }
            return false;
        }
        true
    }

    /// Whether the committed configuration lacks `node`, whose log ends at `last` and goes no further than what is
    /// committed here: so it holds no later configuration that added it. There may be one that is not known here either.
    fn has_removed(&self, node: NodeId, last: EntryId) -> bool {
        let committed = EntryId::new(self.storage.term(self.commit).unwrap_or_default(), self.commit);
        self.membership.find(node).is_none() && self.membership.entry.index <= self.commit && committed >= last
    }

    /// Takes part no more if the committed configuration lacks this node, which was a member before.
    fn notice_removal(&mut self) {
        let by = self.membership.entry;
        let was_member = self.previous.as_ref().is_some_and(|previous| previous.find(self.id).is_some());
        if was_member && by.index <= self.commit && self.membership.find(self.id).is_none() {
            self.expel(Expulsion::Removed { by });
        }
    }

    fn dispatch(&mut self, message: &Message<'_>) -> Result<(), StepError> {
        let from = message.from;
        match message.body {
            Body::PreVote { last } => self.on_pre_vote(from, message.term, last),
            Body::PreVoteReply { granted } => self.on_pre_vote_reply(from, message.term, granted),
            Body::Vote { last, .. } => self.on_vote(from, last),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { previous, commit, round, entries } => {
                return self.on_append(from, previous, commit, round, entries);
            }
            Body::AppendReply { round, matched, rejected, counts } => {
                return self.on_append_reply(from, Answer { round, counts }, matched, rejected);
            }
            Body::ReadRequest { ticket } => self.on_read_request(from, ticket),
            Body::ReadReply { ticket, index } => self.on_read_reply(from, ticket, index),
            Body::Campaign => self.on_campaign(from),
            Body::Expelled { reason } => self.on_expelled(from, reason),
            Body::Snapshot { snapshot, offset, round, data } => {
                return self.on_snapshot(from, snapshot, offset, round, data.0);
            }
            Body::SnapshotReply { through, received, round, resend, counts } => {
                return self.on_snapshot_reply(from, Answer { round, counts }, through, received, resend);
            }
            // These pass between replicas, above consensus.
            Body::Forward { .. } | Body::Forwarded { .. } | Body::Digest { .. } => {}
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
        self.tell_expulsion();
        // The entries of a leader that has been overruled since may have been saved late: only an
        // entry that still stands at its index says something about this log. One that was dropped
        // and came back may stand there too, while the disk is yet to hold another in between: but
        // never within a term, since its leader's log has only one entry there.
        if saved.hard_state.term == self.term()
            && saved.through.index > self.saved.through.index
            && self.storage.term(saved.through.index) == Some(saved.through.term)
        {
            self.saved.through = saved.through;
        }
        match &self.role {
            Role::Candidate(_) if self.hard_state_is_saved() => self.count_own_vote(),
            Role::Leader(_) => {
                self.note_saved();
                if self.saved.through.index > self.commit {
                    self.advance_commit();
                }
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
        assert!(!self.restore, "a snapshot is restored before entries are applied");
        assert!(index >= self.applied, "applied entries are not applied again");
        assert!(index <= self.appliable(), "entries are applied once they are committed and durable");
        self.applied = index;
        self.ready()
    }

    /// The state machine has been made anew from the snapshot that [`Ready::restore`] named.
    ///
    /// # Panics
    /// If it named none: the program is at fault.
    pub fn restored(&mut self) -> Ready<'_, S, NODES> {
        let snapshot = self.ready().restore().expect("a snapshot is restored when that is asked for");
        self.applied = snapshot.through.index;
        self.restore = false;
        self.ready()
    }

    /// What there is to do now, without a new input.
    pub fn ready(&mut self) -> Ready<'_, S, NODES> {
        self.check_invariants();
        Ready::new(self)
    }

    /// Takes the oldest event that has not been taken, with the time at which it happened. When
    /// nobody takes them, the oldest are lost; [`Status::events_lost`] counts these.
    pub fn event(&mut self) -> Option<(Instant, Event)> {
        self.events.pop()
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

    /// The present round of this leader, or the latest one that was heard from the leader.
    #[must_use]
    pub fn round(&self) -> Round {
        match &self.role {
            Role::Leader(leader) => leader.round,
            Role::Follower(Follower { leader: Some(following), .. }) => following.round,
            _ => Round::default(),
        }
    }

    /// Up to which entry the log may have lost what it acknowledged; `None` once a leader of a later term has replaced it
    /// all. Until then the node neither votes nor campaigns.
    #[must_use]
    pub fn suspect_through(&self) -> Option<Index> {
        self.suspect.map(|(through, _)| through)
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

    /// The entry of the latest configuration in the log, committed or not: the one that holds.
    #[must_use]
    pub fn configuration_entry(&self) -> EntryId {
        self.membership.entry
    }

    /// The entry of the configuration that held at the last applied entry; `None` while it is not
    /// known, since two later ones are in the log already.
    #[must_use]
    pub fn applied_configuration(&self) -> Option<EntryId> {
        let latest = core::iter::once(&self.membership).chain(&self.previous);
        latest.map(|membership| membership.entry).find(|entry| entry.index <= self.applied)
    }

    /// Whether the state machine is yet to be made anew from the latest snapshot.
    #[must_use]
    pub fn awaits_restore(&self) -> bool {
        self.restore
    }

    /// Whether a follower that answers is being sent the latest snapshot.
    #[must_use]
    pub fn sends_snapshot(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let answers = |follower: &Progress| self.now.since(follower.heard_at) < self.config.election_timeout;
        let sent = |follower: &Progress| matches!(follower.state, ProgressState::Snapshot(_));
        let members = leader.followers.iter().take(self.membership.peers().len());
        members.into_iter().any(|follower| sent(follower) && answers(follower))
    }

    /// The members of that configuration, this node included where it is one, in the order of their
    /// ids; those that are leaving too.
    pub fn members(&self) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.membership.peers().iter().map(|peer| peer.id)
    }

    /// Whether this node votes, and keeps entries without their payloads: it has no state machine.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.membership.find(self.id).is_some_and(Peer::is_witness)
    }

    /// Why this node neither votes nor campaigns any more, and acknowledges nothing that counts, if so: as far as it is
    /// durable.
    #[must_use]
    pub fn expelled(&self) -> Option<Expulsion> {
        self.expelled
    }

    /// The nodes that there may be messages for, by their numbers from 0 on; `None` behind the
    /// last. Members, those who are owed an answer, and the leader.
    #[must_use]
    pub fn recipient(&self, number: usize) -> Option<NodeId> {
        let stranger = |node: &NodeId| self.membership.find(*node).is_none();
        let owed = self.replies.iter().map(|&(node, _)| node).filter(stranger);
        let leader = self.leader().filter(stranger);
        self.members().chain(owed).chain(leader).nth(number)
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
    fn follow_term(&mut self, term: Term, reason: StepDown) {
        let before = self.term();
        if let Role::Leader(_) = &self.role {
            self.tell(Event::SteppedDown { term: before, reason });
        }
        if term > before {
            self.storage.set_hard_state(HardState { term, vote: None, ..self.storage.hard_state() });
            self.replies.clear();
            self.tell(Event::NewTerm { term });
        }
        let election_at = match &self.role {
            // A higher term alone is no reason to wait longer: only a leader or a vote is.
            Role::Follower(follower) => follower.election_at,
            _ => self.election_timeout(),
        };
        self.role = Role::Follower(Follower { election_at, leader: None });
        self.notice_removal();
    }

    fn following_mut(&mut self) -> Option<&mut Following> {
        match &mut self.role {
            Role::Follower(follower) => follower.leader.as_mut(),
            _ => None,
        }
    }

    fn tell(&mut self, event: Event) {
        self.events.push(self.now, event);
    }

    fn reply(&mut self, to: NodeId, reply: Reply) {
        if let Some((_, owed)) = self.replies.iter_mut().find(|(node, _)| *node == to) {
            *owed = reply;
        } else if self.replies.push((to, reply)).is_err()
            // Members come before strangers.
            && let Some(slot) = self.replies.iter_mut().find(|(node, _)| self.membership.find(*node).is_none())
        {
            *slot = (to, reply);
        }
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
        assert!(self.membership.entry.index <= last.index, "the members are those of an entry in the log");
        if let Role::Leader(leader) = &self.role {
            assert!(self.hard_state_is_saved(), "a leader's vote for itself is durable");
            assert!(leader.term_start <= last.index, "a leader's log holds the start of its term");
        }
    }
}
