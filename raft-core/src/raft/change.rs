//! Changing the members, as the leader (dissertation, chapter 4): appending the change, leaving the
//! joint configuration, promoting learners that have caught up.

use thiserror::Error;

use crate::configuration::change::{ChangeError, MemberChange};
use crate::configuration::{self, CONFIGURATION_BYTES_MAX, Configuration, LoadError, Suffrage};
use crate::entry::EntryKind;
use crate::message::ProposeError;
use crate::raft::event::{StepDown, TransferReason};
use crate::raft::membership::{Membership, Peer};
use crate::raft::progress::Progress;
use crate::raft::role::Role;
use crate::raft::{Raft, Ready};
use crate::snapshot::{self, Which};
use crate::storage::Storage;
use crate::types::{EntryId, Instant, NodeId};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Makes all `changes` of the members at once, if this node leads. They hold from this entry
    /// on, and are decided when it is committed; if they touch who votes, the second step follows
    /// by itself. With `force`, also when a majority of the new voters does not answer.
    ///
    /// # Errors
    /// [`ChangeMembersError`]: nothing was changed.
    pub fn change_members(
        &mut self,
        now: Instant,
        changes: &[MemberChange],
        force: bool,
    ) -> Result<(EntryId, Ready<'_, S, NODES>), ChangeMembersError<S::Error>> {
        self.now = self.now.max(now);
        self.accepts(CONFIGURATION_BYTES_MAX)?;
        let Role::Leader(leader) = &self.role else { unreachable!("only a leader accepts proposals") };
        // Otherwise an earlier leader's change might come to hold beside this one: the bug of the
        // single-server changes of 2014 (dissertation, section 4.1, and its correction).
        if self.commit < leader.term_start {
            return Err(ProposeError::NotReady.into());
        }
        if self.membership.entry.index > self.commit || self.membership.is_joint() {
            return Err(ChangeError::UnderWay.into());
        }
        let current = self.configuration()?;
        let index = self.storage.last().index.next();
        let next = current.change(index, changes, |id| self.has_caught_up(id))?;
        if !force {
            self.check_reachable(&next)?;
        }
        let entry = self.append_configuration(&next)?;
        Ok((entry, self.ready()))
    }

    /// The configuration that holds: the latest in the log, committed or not.
    ///
    /// # Errors
    /// [`LoadError`]: it could not be read.
    pub fn configuration(&mut self) -> Result<Configuration, LoadError<S::Error>> {
        let index = self.membership.entry.index;
        if index > self.storage.base().index {
            return configuration::load(&mut self.storage, index);
        }
        Ok(snapshot::open(&mut self.storage, Which::Latest)?.1)
    }

    fn append_configuration(&mut self, next: &Configuration) -> Result<EntryId, ChangeMembersError<S::Error>> {
        let most = u32::try_from(NODES).unwrap_or(u32::MAX);
        let too_many = |_| ChangeMembersError::Change(ChangeError::TooManyMembers { most });
        let mut membership = Membership::new(EntryId::ZERO, next).map_err(too_many)?;
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let payload = next.encode(&mut buffer).expect("the buffer holds every valid configuration");
        membership.entry = self.append_as_leader(EntryKind::Configuration, &[payload])?;
        let entry = membership.entry;
        let (old, last, now) = (&self.membership, self.storage.last().index, self.now);
        if let Role::Leader(leader) = &mut self.role {
            if membership.peers().iter().any(|peer| old.position_of(peer).is_none()) {
                leader.begin_round();
            }
            // What is known of those who stay moves to their new places. Those who are new have been sent nothing before
            // this round, so that an answer of an earlier one is that of an earlier member with the same id.
            let known = |position: usize| {
                let before = membership.peer(position).and_then(|peer| old.position_of(peer));
                before.and_then(|before| leader.followers.get(before)).cloned()
            };
            let since = leader.round;
            let new = |position| known(position).unwrap_or_else(|| Progress { since, ..Progress::new(last, now) });
            let followers = core::array::from_fn(new);
            leader.followers = followers;
        }
        self.adopt_members(membership);
        // One voter alone is a quorum; and who is needed no more may have been all that was missing.
        self.advance_commit();
        Ok(entry)
    }

    /// Whether a learner may vote: its last round was short (dissertation, section 4.2.1), and that is so now: it was heard
    /// within an election timeout, and lacks no more than may be under way to it.
    fn has_caught_up(&self, id: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (now, timeout, last) = (self.now, self.config.election_timeout, self.storage.last().index);
        let follower = self.membership.position(id).and_then(|position| leader.followers.get(position));
        follower.is_some_and(|follower| {
            let done = follower.catch_up.is_done(follower.matched, now, timeout);
            let is_near = last.since(follower.matched) <= self.config.inflight_entries_max;
            let is_heard = now.since(follower.heard_at) < timeout;
            done && is_near && is_heard && follower.is_replicating() && follower.counts && !follower.forgot
        })
    }

    fn check_reachable(&self, next: &Configuration) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        let (now, timeout) = (self.now, self.config.election_timeout);
        let answers = |id: NodeId| {
            let follower = self.membership.position(id).and_then(|position| leader.followers.get(position));
            let heard = |follower: &Progress| !follower.forgot && now.since(follower.heard_at) < timeout;
            id == self.id || follower.is_some_and(heard)
        };
        let voters = next.members().iter().filter(|member| member.votes());
        let (voters, reachable) =
            voters.fold((0, 0), |(voters, reachable), member| (voters + 1, reachable + u32::from(answers(member.id))));
        if reachable > voters / 2 { Ok(()) } else { Err(ChangeError::Unreachable { voters, reachable }) }
    }

    /// Takes the next step when the present configuration has been committed: leaves a joint one,
    /// whichever leader began it; stops leading if this node is left out (section 4.2.2).
    pub(super) fn finish_change(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.membership.entry.index > self.commit || self.commit < leader.term_start {
            return;
        }
        if self.membership.is_joint() {
            // While it hands over, a leader appends nothing that its successor would lack.
            if leader.transfer.is_none()
                && let Ok(joint) = self.configuration()
            {
                // Without room now, the next heartbeat tries again; a storage that failed ends the node.
                drop(self.append_configuration(&joint.leave()));
            }
        } else if self.is_left_out() && leader.transfer.is_none() {
            match self.best_successor(|_, _| true) {
                Some(to) => self.begin_transfer(to, TransferReason::Removed),
                None => self.follow_term(self.term(), StepDown::Removed),
            }
        }
    }

    /// Whether this node is no voter of the configuration that holds.
    pub(super) fn is_left_out(&self) -> bool {
        !self.membership.find(self.id).is_some_and(Peer::votes)
    }

    /// Makes voters of the learners that are to become such and have caught up.
    pub(super) fn promote_joining(&mut self) {
        let joins = |peer: &Peer| matches!(peer.suffrage, Suffrage::Joining | Suffrage::JoiningWitness);
        let wanted = |peer: &&Peer| joins(peer) && self.has_caught_up(peer.id);
        let ready = self.membership.peers().iter().filter(wanted);
        let changes: heapless::Vec<MemberChange, NODES> = ready.map(|peer| MemberChange::Promote(peer.id)).collect();
        if changes.is_empty() || self.promote(&changes) {
            return;
        }
        // What keeps one from becoming a voter keeps no other.
        for change in &changes {
            if self.promote(core::slice::from_ref(change)) {
                return;
            }
        }
    }

    /// While it is refused, for whatever reason, they stay learners, and are tried again.
    fn promote(&mut self, changes: &[MemberChange]) -> bool {
        self.change_members(self.now, changes, false).map(|(_, ready)| ready.later()).is_ok()
    }
}

/// Why the members were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeMembersError<E> {
    /// This node takes no proposals now.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The change makes no sense, or is not safe now.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The present configuration could not be read.
    #[error(transparent)]
    Load(#[from] LoadError<E>),
}
