//! Leading: proposing, counting acknowledgements, committing, and knowing when to stop (Raft
//! paper, sections 5.3 and 5.4; dissertation, section 6.2).

use crate::entry::{EntryHeader, EntryKind};
use crate::message::{ProposeError, Rejection};
use crate::raft::event::{Event, StepDown, TransferReason};
use crate::raft::follower::last_of_term_at_most;
use crate::raft::progress::{Answer, Progress, ProgressState};
use crate::raft::role::Role;
use crate::raft::{Raft, Ready, StepError};
use crate::storage::Storage;
use crate::types::{ClusterTime, EntryId, Index, Instant, NodeId};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Appends an entry whose payload is `parts`, one behind the other, if this node leads. The
    /// entry may still be lost; it is decided when an entry at its index is applied. Members are
    /// changed by [`Raft::change_members`] instead.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended.
    ///
    /// # Panics
    /// For entries that only the core itself may make: configurations and stripped ones.
    pub fn propose(
        &mut self,
        now: Instant,
        kind: EntryKind,
        parts: &[&[u8]],
    ) -> Result<(EntryId, Ready<'_, S, NODES>), ProposeError> {
        assert!(!matches!(kind, EntryKind::Configuration | EntryKind::Stripped), "only the core makes such entries");
        self.now = self.now.max(now);
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > self.config.entry_bytes_max {
            let limit = u32::try_from(self.config.entry_bytes_max).unwrap_or(u32::MAX);
            return Err(ProposeError::TooLong { limit });
        }
        self.accepts(bytes)?;
        if kind == EntryKind::Operation {
            self.check_room(bytes)?;
        }
        let id = self.append_as_leader(kind, parts)?;
        Ok((id, self.ready()))
    }

    /// Whether an entry of so many bytes may be appended now.
    pub(super) fn accepts(&self, bytes: usize) -> Result<(), ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        if let Some(transfer) = leader.transfer {
            return Err(ProposeError::Transferring { to: transfer.to, within: transfer.until.since(self.now) });
        }
        let (entries, under_way) = (self.storage.last().index.since(self.commit), leader.uncommitted.bytes());
        // One entry alone may be over the limit of bytes, or it could never be appended.
        if entries >= self.config.uncommitted_entries_max
            || (under_way > 0 && under_way.saturating_add(bytes as u64) > self.config.uncommitted_bytes_max)
        {
            return Err(ProposeError::Busy);
        }
        Ok(())
    }

    /// Whether a client's entry of so many bytes has room. If not, the next heartbeat hands over.
    fn check_room(&mut self, bytes: usize) -> Result<(), ProposeError> {
        if self.storage.has_room(bytes) {
            return Ok(());
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.full = true;
        }
        Err(ProposeError::NoSpace)
    }

    // Always: an id that came back through memory would be read in one piece while its two halves still wait to be written,
    // behind all bytes of the payload; a processor can only wait for all of these then.
    #[inline(always)]
    pub(super) fn append_as_leader(&mut self, kind: EntryKind, parts: &[&[u8]]) -> Result<EntryId, ProposeError> {
        let (term, now) = (self.term(), self.now);
        let Role::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        let id = EntryId::new(term, self.storage.last().index.next());
        let header = EntryHeader::new(id, leader.clock.read(now), kind, parts)
            .expect("the entry's length was checked, and a leader's term is not 0");
        // If so, the next heartbeat hands over.
        leader.full = self.storage.append(&header, parts).is_err();
        if leader.full {
            return Err(ProposeError::NoSpace);
        }
        let limit = self.config.uncommitted_bytes_max;
        leader.uncommitted.appended(id, header.payload_bytes() as u64, limit);
        leader.unsaved.get_or_insert((id.index, now));
        if self.lease.is_some() {
            leader.lease.pending.get_or_insert((id.index, now));
        }
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
        from: NodeId,
        answer: Answer,
        matched: Index,
        rejected: Option<Rejection>,
    ) -> Result<(), StepError> {
        let (last, base) = (self.storage.last().index, self.storage.base().index);
        let (now, timeout) = (self.now, self.config.election_timeout);
        let Some(position) = self.membership.position(from) else { return Ok(()) };
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let round = answer.round;
        if matched > last || round > leader.round {
            return Err(StepError::NeverSent);
        }
        let Some(follower) = leader.followers.get_mut(position) else { return Ok(()) };
        if !follower.answered(answer, now) {
            return Ok(());
        }
        if let Some(Rejection { hint, .. }) = rejected
            && follower.lacks(hint.index, round)
        {
            follower.forgot = true;
            let event = Event::PeerForgot { peer: from, matched: follower.matched, has: hint.index };
            self.tell(event);
            return Ok(());
        }
        let was_sent_a_snapshot = matches!(follower.state, ProgressState::Snapshot(_));
        let news = match rejected {
            None => follower.acknowledged(matched, base),
            Some(_) => follower.acknowledged_in_part(matched, base),
        };
        if news {
            follower.matched_round = round;
        } else if matched == Index::ZERO && rejected.is_none() {
            follower.has_nothing(round);
        }
        follower.catch_up.acknowledged(follower.matched, last, now, timeout);
        if let Some(rejection) = rejected {
            let storage = &self.storage;
            let agree = || last_of_term_at_most(storage, rejection.hint.term, rejection.hint.index.min(last)).index;
            follower.rejected(rejection.previous, agree);
        }
        if was_sent_a_snapshot && follower.is_replicating() {
            let event = Event::SnapshotSent { to: from, matched: follower.matched };
            self.tell(event);
        }
        if news && matched > self.commit {
            self.advance_commit();
        }
        self.confirm_reads();
        Ok(())
    }

    /// Commits what a quorum holds durably, if it is of this term; what lies before it is then
    /// committed too (Raft paper, figure 8 and section 5.4.2).
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.now < leader.lease.commit_from {
            return; // An earlier leader may still answer reads by its lease.
        }
        let (own, saved, followers) = (self.id, self.saved.through.index, &leader.followers);
        let by_quorum = self.membership.reached(|position, peer| match followers.get(position) {
            _ if peer.id == own => saved,
            Some(follower) if !follower.forgot => follower.matched,
            _ => Index::ZERO,
        });
        if by_quorum > self.commit
            && by_quorum >= leader.term_start
            && self.storage.term(by_quorum) == Some(self.term())
        {
            self.commit_to(by_quorum);
            let lease = self.lease;
            if let Role::Leader(leader) = &mut self.role {
                leader.uncommitted.committed(by_quorum);
                if let (Some(lease), Some((index, appended))) = (lease, leader.lease.pending)
                    && index <= by_quorum
                {
                    leader.lease.until = appended.after(lease.duration);
                    leader.lease.pending = None;
                }
            }
            self.finish_change();
        }
    }

    /// Notes that the log is saved so far.
    pub(super) fn note_saved(&mut self) {
        let (saved, last, now) = (self.saved.through.index, self.storage.last().index, self.now);
        if let Role::Leader(leader) = &mut self.role
            && leader.unsaved.is_some_and(|(index, _)| index <= saved)
        {
            // What is left was appended since, so this is not too early.
            leader.unsaved = (saved < last).then_some((last, now));
        }
    }

    /// What a leader does as time passes.
    pub(super) fn tick_leader(&mut self) {
        self.give_up_transfer();
        if self.lease.is_some() {
            self.advance_commit();
        }
        if let Role::Leader(leader) = &self.role
            && self.now >= leader.heartbeat_at
        {
            self.heartbeat();
        }
    }

    /// A new round, which shows both sides that they are alive; and the end of leading if a
    /// quorum was not heard for the shortest election timeout (dissertation, section 6.2).
    fn heartbeat(&mut self) {
        let (own, now, timeout) = (self.id, self.now, self.config.election_timeout);
        let Role::Leader(leader) = &mut self.role else { return };
        let heard = |follower: &Progress| !follower.forgot && now.since(follower.heard_at) < timeout;
        let followers = &leader.followers;
        if !self.membership.agree(|position, peer| peer.id == own || followers.get(position).is_some_and(heard)) {
            return self.follow_term(self.term(), StepDown::LostQuorum);
        }
        leader.heartbeat_at = now.after(self.config.heartbeat_interval);
        leader.begin_round();
        // A change that could not be finished, for want of room or because of a transfer, is now.
        self.finish_change();
        self.promote_joining();
        self.hand_over_if_wanted();
    }

    /// Hands over if this node's disk has stalled or is full, or a member with a higher priority has caught up.
    fn hand_over_if_wanted(&mut self) {
        let (now, last, commit) = (self.now, self.storage.last().index, self.commit);
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() || now < self.hand_over_at || commit < leader.term_start {
            return;
        }
        let stalled = leader.unsaved.filter(|&(_, since)| now.since(since) >= self.config.disk_stall_max);
        if let Some((_, since)) = stalled {
            self.tell(Event::DiskStalled { unsaved_for: now.since(since) });
            if let Some(to) = self.best_successor(|_, _| true) {
                self.begin_transfer(to, TransferReason::DiskStalled);
            } else {
                // Not to be told with each heartbeat.
                self.hand_over_at = now.after(self.config.election_timeout);
            }
            return;
        }
        if leader.full {
            return self.hand_over_for_room();
        }
        let own = self.membership.find(self.id).map_or(u8::MAX, |peer| peer.priority);
        let near = last.since(commit);
        let higher = self.best_successor(|peer, follower| peer.priority > own && last.since(follower.matched) <= near);
        if let Some(to) = higher {
            self.begin_transfer(to, TransferReason::Priority);
        }
    }

    /// Hands over to somebody whose log has all that this one has, though perhaps no more room either: then it does
    /// not take over, this node goes on, and somebody else is asked the next time.
    fn hand_over_for_room(&mut self) {
        let last = self.storage.last().index;
        let Role::Leader(leader) = &self.role else { return };
        let tried = leader.full_tried;
        let another = self.best_successor(|peer, follower| follower.matched >= last && Some(peer.id) != tried);
        let Some(to) = another.or_else(|| self.best_successor(|_, follower| follower.matched >= last)) else { return };
        self.begin_transfer(to, TransferReason::NoSpace);
        if let Role::Leader(leader) = &mut self.role {
            leader.full_tried = Some(to);
        }
    }
}
