//! Elections: pre-vote, vote, and when neither is given (Raft paper, section 5.2 and 5.4.1;
//! dissertation, sections 3.4, 3.6.1, 4.2.3 and 9.6).

use crate::entry::EntryKind;
use crate::message::Round;
use crate::raft::clock::ClusterClock;
use crate::raft::event::{Event, Expulsion, StepDown};
use crate::raft::membership::{Membership, Peer};
use crate::raft::progress::{Progress, Uncommitted};
use crate::raft::role::{Election, Follower, Leader, LeaseMark, Role};
use crate::raft::{Raft, Ready, Reply};
use crate::storage::{HardState, Storage};
use crate::types::{EntryId, Index, Instant, Millis, NodeId, Term};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// No leader was heard of for an election timeout.
    pub(super) fn miss_leader(&mut self) {
        if let Some(leader) = self.leader() {
            self.tell(Event::LostLeader { leader });
        }
        if let Some(by) = self.removed.take() {
            self.expel(Expulsion::Removed { by });
        }
        if self.may_campaign() {
            return self.begin_pre_vote();
        }
        let election_at = self.election_timeout();
        self.role = Role::Follower(Follower { election_at, leader: None });
    }

    /// The link to `peer` was closed or reset at its other end, as it is when that process has died. What came over it
    /// before has been given to [`Raft::step`].
    ///
    /// If that node leads, it is no longer taken to be heard: this node would vote for another one, and stands for
    /// election itself after a fraction of an election timeout, unless it hears the leader before. Members that still
    /// hear the leader refuse it in the pre-vote. A link to any other node changes nothing.
    pub fn link_down(&mut self, now: Instant, peer: NodeId) -> Ready<'_, S, NODES> {
        self.now = self.now.max(now);
        let tenth = Millis((self.config.election_timeout.0 / 10).max(1));
        let turns = u64::from(self.better_successors(peer));
        if let Role::Follower(Follower { election_at, leader: Some(following) }) = &mut self.role
            && following.leader == peer
        {
            following.link_down = true;
            let jitter = self.random.timeout(Millis(tenth.0.div_ceil(2)));
            let wait = Millis(tenth.0.saturating_mul(turns).saturating_add(jitter.0));
            *election_at = self.now.after(wait).min(*election_at);
        }
        self.ready()
    }

    /// How many members come before this one when `leader` has died: all notice it at once, so they take turns, by
    /// priority and then by id.
    fn better_successors(&self, leader: NodeId) -> u8 {
        let own = self.membership.find(self.id).map_or((0, 0), |peer| (peer.priority, u64::MAX - peer.id.get()));
        let before = |peer: &&Peer| {
            let order = (peer.priority, u64::MAX - peer.id.get());
            peer.may_lead() && peer.id != leader && peer.id != self.id && order > own
        };
        u8::try_from(self.membership.peers().iter().filter(before).count()).unwrap_or(u8::MAX)
    }

    /// Whether this node may stand for election: as a voter, with entries to lead with. One that a
    /// change leaves out which is not known to be committed may, though its own vote does not count:
    /// it may be the only one that has the change (dissertation, section 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let votes = |membership: &Membership<NODES>| membership.find(self.id).is_some_and(Peer::may_lead);
        let left_out = self.membership.entry.index > self.commit && self.previous.as_ref().is_some_and(votes);
        self.counts() && self.removed.is_none() && (votes(&self.membership) || left_out)
    }

    /// Whether this node's vote means something: it remembers all it ever acknowledged. Whether it
    /// is a voter is for the candidate to know: this log may lack the change that made it one. But
    /// an empty log is that of a node which nobody can count on yet, or one whose disk was wiped.
    fn may_vote(&self) -> bool {
        self.counts() && self.storage.last() != EntryId::ZERO
    }

    /// How long to wait for a leader. Who is outranked gives the others a chance to be first.
    pub(super) fn election_timeout(&mut self) -> Instant {
        let timeout = self.random.timeout(self.config.election_timeout);
        let peers = self.membership.peers();
        let own = self.membership.find(self.id).map_or(u8::MAX, |peer| peer.priority);
        let outranked = peers.iter().any(|peer| peer.may_lead() && peer.priority > own);
        let more = if outranked { self.config.election_timeout } else { Millis(0) };
        self.now.after(timeout).after(more)
    }

    /// Asks everybody whether they would vote, which changes nothing anywhere: a node that cannot
    /// win disturbs nobody and its term does not grow. Forgets the leader it had.
    fn begin_pre_vote(&mut self) {
        let mut election = Election::new(self.election_timeout());
        election.votes = self.with_own_vote(election.votes);
        self.role = Role::PreCandidate(election);
        self.campaign_if_wanted();
    }

    fn campaign_if_wanted(&mut self) {
        if let Role::PreCandidate(election) = &self.role
            && self.is_won(&election.votes)
        {
            self.campaign(false);
        }
    }

    /// Asks everybody for their vote, in a new term. The requests go out, and the own vote counts,
    /// once term and vote are durable. `transfer`: the leader itself asked for it.
    pub(super) fn campaign(&mut self, transfer: bool) {
        let term = self.term().next();
        self.storage.set_hard_state(HardState { term, vote: Some(self.id), ..self.storage.hard_state() });
        self.replies.clear();
        self.tell(Event::NewTerm { term });
        self.role = Role::Candidate(Election { transfer, ..Election::new(self.election_timeout()) });
    }

    /// Begins anew, since nobody has won in time. But the own vote is waited for, however slow the
    /// disk is: a node alone would otherwise never get to its end.
    pub(super) fn give_up_election(&mut self) {
        let (again_at, saved) = (self.election_timeout(), self.hard_state_is_saved());
        match &mut self.role {
            Role::Candidate(election) if !saved => election.again_at = again_at,
            _ => self.begin_pre_vote(),
        }
    }

    pub(super) fn count_own_vote(&mut self) {
        assert_eq!(self.storage.hard_state().vote, Some(self.id), "a candidate has voted for itself");
        if let Role::Candidate(election) = &self.role {
            let votes = self.with_own_vote(election.votes);
            self.tally(votes);
        }
    }

    fn with_own_vote(&self, mut votes: [Option<bool>; NODES]) -> [Option<bool>; NODES] {
        if let Some(own) = self.membership.position(self.id).and_then(|position| votes.get_mut(position)) {
            *own = Some(true);
        }
        votes
    }

    /// Whether this node has heard from another leader than `asker` within the shortest election
    /// timeout, over a link that has not been closed since, or is one itself: then it votes for nobody (dissertation, section 4.2.3).
    pub(super) fn hears_leader(&self, asker: NodeId) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(Follower { leader: Some(following), .. }) => {
                let heard = self.now.since(following.heard_at) < self.config.election_timeout;
                following.leader != asker && heard && !following.link_down
            }
            _ => false,
        }
    }

    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        let granted = self.may_vote() && term > self.term() && last >= self.storage.last() && !self.hears_leader(from);
        self.reply(from, Reply::PreVote { term, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        let expected = if granted { self.term().next() } else { self.term() };
        if let Some(position) = self.membership.position(from)
            && let Role::PreCandidate(election) = &mut self.role
            && term == expected
            && let Some(vote) = election.votes.get_mut(position)
        {
            *vote = Some(granted);
            self.campaign_if_wanted();
        }
    }

    pub(super) fn on_vote(&mut self, candidate: NodeId, last: EntryId) {
        let hard_state = self.storage.hard_state();
        let HardState { term, vote, .. } = hard_state;
        // Candidates and leaders are not free: they voted for themselves.
        let free = vote.is_none_or(|voted| voted == candidate);
        let granted = self.may_vote() && free && last >= self.storage.last();
        if granted {
            self.storage.set_hard_state(HardState { vote: Some(candidate), ..hard_state });
            let election_at = self.election_timeout();
            match &mut self.role {
                Role::Follower(follower) => follower.election_at = election_at,
                _ => self.role = Role::Follower(Follower { election_at, leader: None }),
            }
        }
        self.reply(candidate, Reply::Vote { term, granted });
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        let Some(position) = self.membership.position(from) else { return };
        if let Role::Candidate(election) = &self.role {
            let (mut votes, asked) = (election.votes, election.asked.get(position) == Some(&true));
            // Nobody is asked, and so nobody answers, before the own vote is durable.
            if asked && let Some(vote) = votes.get_mut(position) {
                // The first answer stands: a member does not change its vote within a term.
                *vote = vote.or(Some(granted));
                self.tally(votes);
            }
        }
    }

    fn is_won(&self, votes: &[Option<bool>; NODES]) -> bool {
        self.membership.agree(|position, _| votes.get(position) == Some(&Some(true)))
    }

    fn tally(&mut self, votes: [Option<bool>; NODES]) {
        if let Role::Candidate(election) = &mut self.role {
            election.votes = votes;
        }
        if self.is_won(&votes) {
            self.lead();
        }
    }

    /// Begins to lead, with an entry of the new term: only by it can the leader find out which
    /// entries of earlier terms are committed (section 5.4.2; dissertation, section 6.4).
    fn lead(&mut self) {
        assert!(self.hard_state_is_saved(), "votes are counted when the own one is durable");
        self.drop_draft();
        let (last, now) = (self.storage.last(), self.now);
        let step_max = Millis(self.config.election_timeout.0.saturating_mul(2));
        let clock = ClusterClock::new(self.storage.last_time(), now, step_max);
        let commit_from = self.lease.map_or(now, |lease| self.taken_at.after(lease.wait()));
        self.role = Role::Leader(Leader {
            term_start: Index::ZERO,
            clock,
            heartbeat_at: now.after(self.config.heartbeat_interval),
            followers: core::array::from_fn(|_| Progress::new(last.index, now)),
            uncommitted: Uncommitted::default(),
            // The first append of a term carries round 1, so that its answer shows contact.
            round: Round(1),
            round_used: false,
            round_confirmed: Round(0),
            reads_asked: false,
            transfer: None,
            full: false,
            full_tried: None,
            unsaved: None,
            lease: LeaseMark { pending: None, until: Instant(0), commit_from },
        });
        self.elections_won = self.elections_won.saturating_add(1);
        let term = self.term();
        match self.append_as_leader(EntryKind::Noop, &[]) {
            Ok(start) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.term_start = start.index;
                }
                self.tell(Event::BecameLeader { term, start: start.index });
                self.advance_commit();
            }
            // Without room for one entry it cannot lead; somebody else may.
            Err(_) => self.follow_term(term, StepDown::NoSpace),
        }
    }
}
