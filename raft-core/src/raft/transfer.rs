//! Handing leadership over (dissertation, section 3.10): the leader takes no proposals, waits until
//! the other has all entries, and tells it to campaign at once.

use thiserror::Error;

use crate::client::protocol::RoleName;
use crate::raft::event::{Event, StepDown, TransferReason};
use crate::raft::membership::Peer;
use crate::raft::progress::Progress;
use crate::raft::role::{Role, Transfer};
use crate::raft::{Raft, Ready};
use crate::storage::Storage;
use crate::types::{Instant, Millis, NodeId};

/// After a hand-over that nobody asked for and that came to nothing, the next one waits for so many
/// election timeouts.
const HAND_OVER_PAUSE: u64 = 10;

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Hands leadership over to `to`, or to the member that has most of the log. It takes an
    /// election timeout at most; in the meantime proposals are refused, and say so.
    ///
    /// # Errors
    /// [`TransferError`]: this node goes on as before.
    pub fn transfer(&mut self, now: Instant, to: Option<NodeId>) -> Result<Ready<'_, S, NODES>, TransferError> {
        self.now = self.now.max(now);
        let Role::Leader(leader) = &self.role else {
            return Err(TransferError::NotLeader { leader: self.leader() });
        };
        if let Some(transfer) = leader.transfer {
            return Err(TransferError::UnderWay { to: transfer.to });
        }
        let to = match to {
            Some(to) if to == self.id => return Err(TransferError::LeadsAlready),
            Some(to) => to,
            None => self.best_successor(|_, _| true).ok_or(TransferError::Nobody)?,
        };
        if !self.membership.find(to).is_some_and(|peer| peer.incoming && peer.may_lead()) {
            return Err(TransferError::NotVoter { to });
        }
        if self.best_successor(|peer, _| peer.id == to).is_none() {
            return Err(TransferError::Unreachable { to });
        }
        self.begin_transfer(to, TransferReason::Asked);
        Ok(self.ready())
    }

    /// Of the members that may lead, answer, and fulfil the condition, the one with most of the log;
    /// of two, the one with the higher priority.
    pub(super) fn best_successor(&self, wanted: impl Fn(&Peer, &Progress) -> bool) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let (now, timeout) = (self.now, self.config.election_timeout);
        let answers = |follower: &Progress| {
            !follower.forgot && follower.counts && follower.is_replicating() && now.since(follower.heard_at) < timeout
        };
        let peers = self.membership.peers().iter().zip(&leader.followers);
        peers
            .filter(|(peer, _)| peer.id != self.id && peer.incoming && peer.may_lead())
            .filter(|(peer, follower)| answers(follower) && wanted(peer, follower))
            .max_by_key(|(peer, follower)| (follower.matched, peer.priority))
            .map(|(peer, _)| peer.id)
    }

    pub(super) fn begin_transfer(&mut self, to: NodeId, reason: TransferReason) {
        let until = self.now.after(self.config.election_timeout);
        let pause = Millis(self.config.election_timeout.0.saturating_mul(HAND_OVER_PAUSE));
        let hand_over_at = self.now.after(pause);
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer = Some(Transfer { to, until, told: None });
            self.hand_over_at = hand_over_at;
            self.tell(Event::TransferBegan { to, reason });
        }
    }

    /// Goes on as leader if the other has not taken over in time.
    pub(super) fn give_up_transfer(&mut self) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(transfer) = leader.transfer.take_if(|transfer| self.now >= transfer.until)
        {
            self.tell(Event::TransferFailed { to: transfer.to });
            if self.is_left_out() {
                self.follow_term(self.term(), StepDown::Removed);
            }
        }
    }

    /// The leader hands over to this node: it campaigns without asking first, unless its log has no room for the
    /// entry that its term would begin with.
    pub(super) fn on_campaign(&mut self, from: NodeId) {
        let follows = self.role() == RoleName::Follower && self.leader() == Some(from);
        if follows && self.may_campaign() && self.storage.has_room(0) {
            self.campaign(true);
        }
    }
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node is not the leader; ask the leader")]
    NotLeader {
        /// Who leads, where it is known.
        leader: Option<NodeId>,
    },
    /// It is this node that is to lead.
    #[error("it leads already")]
    LeadsAlready,
    /// Another hand-over is under way.
    #[error("leadership is being handed over to node {to} already; try again shortly")]
    UnderWay {
        /// To whom.
        to: NodeId,
    },
    /// Only voters lead.
    #[error("node {to} is no voter that could lead; look at the list of members")]
    NotVoter {
        /// The node.
        to: NodeId,
    },
    /// It does not answer, or its log is far behind.
    #[error("node {to} does not answer, or lacks much of the log; try another one")]
    Unreachable {
        /// The node.
        to: NodeId,
    },
    /// There is no other voter that answers.
    #[error("there is no other voter that answers")]
    Nobody,
}
