//! What takes away a node's right to vote, to campaign and to acknowledge, and what gives it back. It is part of the hard
//! state: whoever is started again is still expelled.

use crate::raft::event::{Event, Expulsion, StepDown};
use crate::raft::{Raft, StepError};
use crate::storage::{HardState, Storage};
use crate::types::{EntryId, NodeId};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Whether this node remembers all that it ever acknowledged and voted, and is not known to be no member.
    pub(super) fn counts(&self) -> bool {
        self.suspect.is_none() && self.storage.hard_state().expelled.is_none()
    }

    /// Somebody says that this node has no part in anything any more.
    pub(super) fn on_expelled(&mut self, from: NodeId, reason: Expulsion) {
        let own = self.membership.find(self.id);
        // What is said of an earlier member with this id does not touch the one that was added since.
        let concerns = own.is_none_or(|own| reason.concerns(own.added));
        let holds = match reason {
            Expulsion::Removed { by } => {
                let known = self.membership.entry;
                by.index > known.index || (by == known && own.is_none())
            }
            // What is committed here may have been compacted, and was not forgotten.
            Expulsion::Forgot { acknowledged: EntryId { term, index }, .. } => {
                index > self.commit && self.storage.term(index) != Some(term)
            }
            // That is for each node to find out.
            Expulsion::Contradicted { .. } => false,
        };
        // A node whose storage was wiped knows no members: but it hears who leads.
        let can_know = self.membership.find(from).is_some() || self.leader() == Some(from);
        if !(concerns && holds && can_know && self.storage.hard_state().expelled.is_none()) {
            return;
        }
        match reason {
            Expulsion::Removed { .. } if self.removed.is_some() => return,
            // Whoever says so may not know yet that this node was added again.
            Expulsion::Removed { by } => self.removed = Some(by),
            Expulsion::Forgot { .. } | Expulsion::Contradicted { .. } => self.expel(reason),
        }
        self.follow_term(self.term(), StepDown::Removed);
    }

    /// `found` stands in a leader's log, or in that of its snapshot, where this node has another, committed entry. Nobody
    /// must build on either log before somebody has looked.
    pub(super) fn contradicted(&mut self, found: EntryId) -> StepError {
        self.expel(Expulsion::Contradicted { found });
        self.follow_term(self.term(), StepDown::Removed);
        StepError::ContradictsCommitted { found, commit: self.commit }
    }

    /// From now on this node neither votes nor campaigns. It is told once that is durable.
    pub(super) fn expel(&mut self, reason: Expulsion) {
        let hard_state = self.storage.hard_state();
        if hard_state.expelled.is_none() {
            self.storage.set_hard_state(HardState { expelled: Some(reason), ..hard_state });
        }
    }

    /// The configuration that holds is committed: if it added this node after what it was expelled for, its vote means
    /// something again. All that it acknowledged before was counted for the earlier member, which was replaced
    /// by agreement of those that count.
    pub(super) fn readmit(&mut self) {
        let hard_state = self.storage.hard_state();
        if let (Some(reason), Some(own)) = (hard_state.expelled, self.membership.find(self.id))
            && self.membership.entry.index <= self.commit
            && !reason.concerns(own.added)
        {
            self.storage.set_hard_state(HardState { expelled: None, ..hard_state });
        }
    }

    /// Tells what has become durable of that.
    pub(super) fn tell_expulsion(&mut self) {
        let durable = self.saved.hard_state.expelled;
        if durable == self.storage.hard_state().expelled && durable != self.expelled {
            self.expelled = durable;
            if let Some(reason) = durable {
                self.tell(Event::Expelled { reason });
            }
        }
    }
}
