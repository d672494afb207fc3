//! Elections: pre-vote, vote, and when neither is given (Raft paper, section 5.2 and 5.4.1;
//! dissertation, sections 3.4, 3.6.1, 4.2.3 and 9.6).

use crate::entry::EntryKind;
use crate::message::Round;
use crate::raft::clock::ClusterClock;
use crate::raft::progress::{Progress, Uncommitted};
use crate::raft::role::{Election, Follower, Leader, Role};
use crate::raft::{Raft, Reply};
use crate::storage::{HardState, Storage};
use crate::types::{EntryId, Index, Millis, NodeId, Term};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Asks everybody whether they would vote, which changes nothing anywhere: a node that cannot
    /// win disturbs nobody and its term does not grow. Forgets the leader it had.
    pub(super) fn begin_pre_vote(&mut self) {
        let mut election = Election::new(self.election_timeout());
        election.votes = self.with_own_vote(election.votes);
        self.role = Role::PreCandidate(election);
        if self.quorum() == 1 {
            self.campaign();
        }
    }

    /// Asks everybody for their vote, in a new term. The requests go out, and the own vote counts,
    /// once term and vote are durable.
    fn campaign(&mut self) {
        let term = self.term().next();
        self.storage.set_hard_state(HardState { term, vote: Some(self.id) });
        self.replies = [None; NODES];
        self.role = Role::Candidate(Election::new(self.election_timeout()));
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
        if let Some(own) = votes.get_mut(self.own_position()) {
            *own = Some(true);
        }
        votes
    }

    /// Whether this node has heard from another leader than `asker` within the shortest election
    /// timeout, or is one itself: then it votes for nobody (dissertation, section 4.2.3).
    pub(super) fn hears_leader(&self, asker: NodeId) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(Follower { leader: Some(following), .. }) => {
                following.leader != asker && self.now.since(following.heard_at) < self.config.election_timeout
            }
            _ => false,
        }
    }

    pub(super) fn on_pre_vote(&mut self, from: usize, asker: NodeId, term: Term, last: EntryId) {
        let granted = term > self.term() && last >= self.storage.last() && !self.hears_leader(asker);
        self.reply(from, Reply::PreVote { term, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: usize, term: Term, granted: bool) {
        let expected = if granted { self.term().next() } else { self.term() };
        if let Role::PreCandidate(election) = &mut self.role
            && term == expected
            && let Some(vote) = election.votes.get_mut(from)
        {
            *vote = Some(granted);
            if count(&election.votes) >= self.quorum() {
                self.campaign();
            }
        }
    }

    pub(super) fn on_vote(&mut self, from: usize, candidate: NodeId, last: EntryId) {
        let HardState { term, vote } = self.storage.hard_state();
        // Candidates and leaders are not free: they voted for themselves.
        let granted = vote.is_none_or(|voted| voted == candidate) && last >= self.storage.last();
        if granted {
            self.storage.set_hard_state(HardState { term, vote: Some(candidate) });
            let election_at = self.election_timeout();
            match &mut self.role {
                Role::Follower(follower) => follower.election_at = election_at,
                _ => self.role = Role::Follower(Follower { election_at, leader: None }),
            }
        }
        self.reply(from, Reply::Vote { term, granted });
    }

    pub(super) fn on_vote_reply(&mut self, from: usize, granted: bool) {
        if let Role::Candidate(election) = &self.role {
            let (mut votes, asked) = (election.votes, election.asked.get(from) == Some(&true));
            // Nobody is asked, and so nobody answers, before the own vote is durable.
            if asked && let Some(vote) = votes.get_mut(from) {
                // The first answer stands: a member does not change its vote within a term.
                *vote = vote.or(Some(granted));
                self.tally(votes);
            }
        }
    }

    fn tally(&mut self, votes: [Option<bool>; NODES]) {
        let won = count(&votes) >= self.quorum();
        if let Role::Candidate(election) = &mut self.role {
            election.votes = votes;
        }
        if won {
            self.lead();
        }
    }

    /// Begins to lead, with an entry of the new term: only by it can the leader find out which
    /// entries of earlier terms are committed (section 5.4.2; dissertation, section 6.4).
    fn lead(&mut self) {
        assert!(self.hard_state_is_saved(), "votes are counted when the own one is durable");
        let last = self.storage.last();
        let step_max = Millis(self.config.election_timeout.0.saturating_mul(2));
        let clock = ClusterClock::new(self.storage.last_time(), self.now, step_max);
        self.role = Role::Leader(Leader {
            term_start: Index::ZERO,
            clock,
            heartbeat_at: self.now.after(self.config.heartbeat_interval),
            followers: core::array::from_fn(|_| Progress::new(last.index, self.now)),
            uncommitted: Uncommitted::default(),
            // The first append of a term carries round 1, so that its answer shows contact.
            round: Round(1),
            round_used: false,
            round_confirmed: Round(0),
        });
        self.elections_won = self.elections_won.saturating_add(1);
        match self.append_as_leader(EntryKind::Noop, &[]) {
            Ok(start) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.term_start = start.index;
                }
                self.advance_commit();
            }
            // Without room for one entry it cannot lead; somebody else may.
            Err(_) => self.follow_term(self.term()),
        }
    }
}

fn count(votes: &[Option<bool>]) -> usize {
    votes.iter().filter(|&&vote| vote == Some(true)).count()
}
