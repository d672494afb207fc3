//! Leading: proposing, counting acknowledgements, committing, confirming reads (Raft paper,
//! sections 5.3 and 5.4; dissertation, sections 6.2 and 6.4).

use crate::entry::{EntryHeader, EntryKind};
use crate::message::{ProposeError, ReadTicket, Rejection, Round};
use crate::raft::follower::last_of_term_at_most;
use crate::raft::role::{Follower, Leader, Role};
use crate::raft::{Raft, ReadId, ReadKind, ReadState, Ready, StepError};
use crate::storage::Storage;
use crate::types::{ClusterTime, EntryId, Index, Instant};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Appends an entry whose payload is `parts`, one behind the other, if this node leads. The
    /// entry may still be lost; it is decided when an entry at its index is applied.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended.
    pub fn propose(
        &mut self,
        now: Instant,
        kind: EntryKind,
        parts: &[&[u8]],
    ) -> Result<(EntryId, Ready<'_, S, NODES>), ProposeError> {
        self.now = self.now.max(now);
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > self.config.entry_bytes_max {
            let limit = u32::try_from(self.config.entry_bytes_max).unwrap_or(u32::MAX);
            return Err(ProposeError::TooLong { limit });
        }
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        let (entries, under_way) = (self.storage.last().index.since(self.commit), leader.uncommitted.bytes());
        // One entry alone may be over the limit of bytes, or it could never be appended.
        if entries >= self.config.uncommitted_entries_max
            || (under_way > 0 && under_way.saturating_add(bytes as u64) > self.config.uncommitted_bytes_max)
        {
            return Err(ProposeError::Busy);
        }
        let id = self.append_as_leader(kind, parts)?;
        Ok((id, self.ready()))
    }

    pub(super) fn append_as_leader(&mut self, kind: EntryKind, parts: &[&[u8]]) -> Result<EntryId, ProposeError> {
        let (term, now) = (self.term(), self.now);
        let Role::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        let id = EntryId::new(term, self.storage.last().index.next());
        let header = EntryHeader::new(id, leader.clock.read(now), kind, parts)
            .expect("the entry's length was checked, and a leader's term is not 0");
        self.storage.append(&header, parts).map_err(|_| ProposeError::NoSpace)?;
        let limit = self.config.uncommitted_bytes_max;
        leader.uncommitted.appended(id, header.payload_bytes() as u64, limit);
        Ok(id)
    }

    /// The cluster time, while this node leads.
    pub fn cluster_time(&mut self, now: Instant) -> Option<ClusterTime> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader.clock.read(now.max(self.now))),
            _ => None,
        }
    }

    /// The entry this node's term as leader began with.
    #[must_use]
    pub fn term_start(&self) -> Option<Index> {
        match &self.role {
            Role::Leader(leader) => Some(leader.term_start),
            _ => None,
        }
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: usize,
        round: Round,
        matched: Index,
        rejected: Option<Rejection>,
    ) -> Result<(), StepError> {
        let last = self.storage.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        if matched > last || round > leader.round {
            return Err(StepError::NeverSent);
        }
        let Some(follower) = leader.followers.get_mut(from) else { return Ok(()) };
        follower.heard_at = self.now;
        follower.round_heard = follower.round_heard.max(round);
        let news = match rejected {
            None => follower.acknowledged(matched),
            Some(_) => follower.acknowledged_in_part(matched),
        };
        if let Some(rejection) = rejected {
            let storage = &self.storage;
            let agree = || last_of_term_at_most(storage, rejection.hint.term, rejection.hint.index.min(last)).index;
            follower.rejected(rejection.previous, agree);
        }
        if news {
            self.advance_commit();
        }
        self.confirm_reads();
        Ok(())
    }

    /// Commits what a quorum holds durably, if it is of this term; what lies before it is then
    /// committed too (Raft paper, figure 8 and section 5.4.2).
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let own = self.own_position();
        let matched = |(position, follower): (usize, &crate::raft::progress::Progress)| {
            if position == own { self.saved.through.index } else { follower.matched }
        };
        let mut held: heapless::Vec<Index, NODES> =
            leader.followers.iter().enumerate().take(self.members.len()).map(matched).collect();
        held.sort_unstable();
        let by_quorum = held.get(self.members.len() - self.quorum()).copied().unwrap_or_default();
        if by_quorum > self.commit && self.storage.term(by_quorum) == Some(self.term()) {
            self.commit = by_quorum;
            if let Role::Leader(leader) = &mut self.role {
                leader.uncommitted.committed(by_quorum);
            }
        }
    }

    /// A new round, which shows both sides that they are alive; and the end of leading if a
    /// quorum was not heard for the shortest election timeout (dissertation, section 6.2).
    pub(super) fn heartbeat(&mut self) {
        let heard = self.count_followers(|now, timeout, follower| now.since(follower.heard_at) < timeout);
        if heard < self.quorum() {
            self.follow_term(self.term());
            return;
        }
        let at = self.now.after(self.config.heartbeat_interval);
        if let Role::Leader(leader) = &mut self.role {
            leader.heartbeat_at = at;
            leader.begin_round();
        }
    }

    /// How many members, the leader included, the condition holds for.
    fn count_followers(
        &self,
        holds: impl Fn(Instant, crate::types::Millis, &crate::raft::progress::Progress) -> bool,
    ) -> usize {
        let Role::Leader(leader) = &self.role else { return 0 };
        let (own, timeout) = (self.own_position(), self.config.election_timeout);
        let followers = leader.followers.iter().enumerate().take(self.members.len());
        followers.filter(|&(position, follower)| position == own || holds(self.now, timeout, follower)).count()
    }

    /// Begins a linearizable read. Reads begun together share one exchange with a quorum.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if there is no leader to ask; [`ProposeError::NotReady`] if
    /// this node leads and nothing of its term is committed yet.
    pub fn read(&mut self, now: Instant) -> Result<(ReadId, Ready<'_, S, NODES>), ProposeError> {
        self.now = self.now.max(now);
        let (term, commit) = (self.term(), self.commit);
        let kind = match &mut self.role {
            Role::Leader(leader) if commit < leader.term_start => return Err(ProposeError::NotReady),
            Role::Leader(leader) => {
                // A message that is under way was sent before this read: it cannot confirm it.
                if leader.round_used {
                    leader.begin_round();
                }
                ReadKind::Leader { round: leader.round, index: commit }
            }
            Role::Follower(Follower { leader: Some(following), .. }) => {
                self.last_ticket = ReadTicket(self.last_ticket.0.wrapping_add(1));
                self.last_ticket_term = term;
                following.read_wanted = Some(self.last_ticket);
                ReadKind::Follower(self.last_ticket)
            }
            _ => return Err(ProposeError::NotLeader { leader: None }),
        };
        self.confirm_reads();
        Ok((ReadId { term, kind }, self.ready()))
    }

    /// What has become of a read. Once it is ready it stays so while this node leads, or follows
    /// the same leader.
    #[must_use]
    pub fn read_state(&self, read: ReadId) -> ReadState {
        let confirmed = match (&self.role, read.kind) {
            _ if read.term != self.term() => return ReadState::Lost,
            (Role::Leader(leader), ReadKind::Leader { round, index }) if round <= leader.round_confirmed => index,
            (Role::Leader(_), ReadKind::Leader { .. }) => return ReadState::Waiting,
            (Role::Follower(Follower { leader: Some(following), .. }), ReadKind::Follower(ticket)) => {
                match following.read_confirmed {
                    _ if following.read_reached.is_some_and(|reached| ticket <= reached) => return ReadState::Ready,
                    Some((confirmed, index)) if ticket <= confirmed => index,
                    _ => return ReadState::Waiting,
                }
            }
            _ => return ReadState::Lost,
        };
        if self.applied >= confirmed { ReadState::Ready } else { ReadState::Waiting }
    }

    pub(super) fn on_read_request(&mut self, from: usize, ticket: ReadTicket) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.round_used {
            leader.begin_round();
        }
        let round = leader.round;
        if let Some(follower) = leader.followers.get_mut(from) {
            follower.heard_at = self.now;
            follower.read = Some((ticket, round));
        }
        self.confirm_reads();
    }

    /// Confirms the rounds that a quorum has answered.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.commit < leader.term_start {
            return;
        }
        let own = self.own_position();
        let round = |(position, follower): (usize, &crate::raft::progress::Progress)| {
            if position == own { leader.round } else { follower.round_heard }
        };
        let mut heard: heapless::Vec<Round, NODES> =
            leader.followers.iter().enumerate().take(self.members.len()).map(round).collect();
        heard.sort_unstable();
        let by_quorum = heard.get(self.members.len() - self.quorum()).copied().unwrap_or_default();
        let (commit, quorum_is_self) = (self.commit, self.quorum() == 1);
        if let Role::Leader(leader) = &mut self.role
            && (by_quorum > leader.round_confirmed || quorum_is_self)
        {
            leader.round_confirmed = by_quorum;
            for follower in &mut leader.followers {
                if let Some((ticket, round)) = follower.read
                    && round <= by_quorum
                {
                    follower.read_reply = Some((ticket, commit));
                    follower.read = None;
                }
            }
        }
    }
}

impl<const NODES: usize> Leader<NODES> {
    /// Begins a round: messages formed from now on carry it.
    pub(super) fn begin_round(&mut self) {
        self.round = Round(self.round.0.saturating_add(1));
        self.round_used = false;
    }
}
