//! Linearizable reads: confirmed by a round of messages, or by a lease (dissertation, section 6.4).
//!
//! A lease is in the log: a leader that has appended an entry and seen it committed knows that no
//! other leader commits anything for a while, since each new leader waits that long after the last
//! entry it took from another, before it commits. (Davis, Demirbas, Deng: "LeaseGuard", 2025.)

use crate::message::{ProposeError, ReadTicket, Round};
use crate::raft::role::{Follower, Leader, Role};
use crate::raft::{Raft, Ready};
use crate::storage::Storage;
use crate::types::{Index, Instant, NodeId, Term};

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

    /// Begins a read that a lease allows, if this node leads and holds one: then it is confirmed
    /// already. Otherwise it is one as by [`Raft::read`].
    ///
    /// `after_request` must have been read from the clock after the request was taken, from its socket or mailbox: by
    /// an earlier instant, a lease that ended before the client asked would still seem to last. The state machine is
    /// queried after this call.
    ///
    /// # Errors
    /// As [`Raft::read`].
    pub fn read_by_lease(&mut self, after_request: Instant) -> Result<(ReadId, Ready<'_, S, NODES>), ProposeError> {
        self.now = self.now.max(after_request);
        let (term, index) = (self.term(), self.commit);
        if let Role::Leader(leader) = &self.role
            && leader.transfer.is_none()
            && self.now < leader.lease.until
        {
            // The lease comes from a committed entry of this term.
            assert!(index >= leader.term_start, "a leader with a lease has committed in its term");
            let kind = ReadKind::Leader { round: Round(0), index };
            return Ok((ReadId { term, kind }, self.ready()));
        }
        self.read(after_request)
    }

    /// Until when this node, as the leader, may answer reads by its lease; `None` if it does not lead or holds no lease.
    /// It may have ended by now.
    #[must_use]
    pub fn lease_until(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => Some(leader.lease.until).filter(|until| *until > Instant(0)),
            _ => None,
        }
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

    pub(super) fn on_read_request(&mut self, from: NodeId, ticket: ReadTicket) {
        let Some(position) = self.membership.position(from) else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.round_used {
            leader.begin_round();
        }
        let round = leader.round;
        leader.reads_asked = true;
        if let Some(follower) = leader.followers.get_mut(position) {
            follower.heard_at = self.now;
            follower.read = Some((ticket, round));
        }
        self.confirm_reads();
    }

    pub(super) fn on_read_reply(&mut self, from: NodeId, ticket: ReadTicket, index: Index) {
        let (last_ticket, applied) = (self.last_ticket, self.applied);
        if let Some(following) = self.following_mut()
            && following.leader == from
            && ticket <= last_ticket
            && following.read_asked.is_some_and(|(asked, _)| ticket <= asked)
            && following.read_confirmed.is_none_or(|(confirmed, _)| ticket > confirmed)
        {
            if let Some((before, reached)) = following.read_confirmed.replace((ticket, index))
                && reached <= applied
            {
                following.read_reached = Some(before);
            }
            if following.read_wanted.is_some_and(|wanted| wanted <= ticket) {
                following.read_wanted = None;
            }
        }
    }

    /// Confirms the rounds that a quorum has answered, and answers the followers who asked.
    pub(super) fn confirm_reads(&mut self) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        if commit < leader.term_start {
            return;
        }
        if leader.round_confirmed < leader.round {
            let (own, followers) = (self.id, &leader.followers);
            let by_quorum = self.membership.reached(|position, peer| match followers.get(position) {
                _ if peer.id == own => leader.round,
                Some(follower) if !follower.forgot => follower.round_heard,
                _ => Round(0),
            });
            leader.round_confirmed = leader.round_confirmed.max(by_quorum);
        }
        if leader.reads_asked {
            leader.answer_reads(commit);
        }
    }
}

impl<const NODES: usize> Leader<NODES> {
    /// Begins a round: messages formed from now on carry it.
    pub(super) fn begin_round(&mut self) {
        self.round = Round(self.round.0.saturating_add(1));
        self.round_used = false;
    }

    fn answer_reads(&mut self, commit: Index) {
        self.reads_asked = false;
        for follower in &mut self.followers {
            match follower.read {
                Some((ticket, round)) if round <= self.round_confirmed => {
                    follower.read_reply = Some((ticket, commit));
                    follower.read = None;
                }
                Some(_) => self.reads_asked = true,
                None => {}
            }
        }
    }
}
