//! Following a leader: taking its entries, and asking it about reads (Raft paper, section 5.3).

use crate::entry::Records;
use crate::message::{ReadTicket, Rejection, Round};
use crate::raft::role::{Follower, Following, Role};
use crate::raft::{Raft, StepError};
use crate::storage::Storage;
use crate::types::{EntryId, Index, NodeId};

/// The most entries that one rejected append makes a node look at: a worse hint costs one more
/// exchange, and never safety.
pub(super) const HINT_STEPS_MAX: u32 = 1024;

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        previous: EntryId,
        commit: Index,
        round: Round,
        entries: Records<'_>,
    ) -> Result<(), StepError> {
        if entries.last().term > self.term() {
            return Err(StepError::EntryOfLaterTerm { found: entries.last() });
        }
        self.hear(from)?;
        let (known_to_match, rejected) = match self.storage.term(previous.index) {
            Some(term) if term == previous.term => (self.take_entries(previous.index, entries)?, None),
            Some(_) if previous.index <= self.commit => {
                return Err(StepError::ContradictsCommitted { found: previous, commit: self.commit });
            }
            // Compacted, so committed, so equal in every later leader's log (section 5.4.3).
            None if previous.index < self.storage.base().index => (self.commit, None),
            _ => (Index::ZERO, Some(Rejection { previous: previous.index, hint: self.hint(previous) })),
        };
        // Only entries that this leader's log is known to share are committed by its word.
        self.commit = self.commit.max(commit.min(known_to_match));
        let following = self.following_mut().expect("this leader was just heard");
        following.matched = following.matched.max(known_to_match);
        following.round = following.round.max(round);
        following.rejected = rejected;
        Ok(())
    }

    /// Notes that `from` leads this term and is alive.
    fn hear(&mut self, from: NodeId) -> Result<(), StepError> {
        if let Some(leader) = self.leader()
            && leader != from
        {
            return Err(StepError::SecondLeader { from, term: self.term() });
        }
        let (now, election_at) = (self.now, self.election_timeout());
        match &mut self.role {
            Role::Follower(Follower { election_at: at, leader: Some(following) }) => {
                *at = election_at;
                following.heard_at = now;
            }
            _ => {
                let mut following = Following::new(from, now);
                // Reads begun under this leader before it was lost sight of go on.
                following.read_wanted =
                    (self.last_ticket_term == self.storage.hard_state().term).then_some(self.last_ticket);
                self.role = Role::Follower(Follower { election_at, leader: Some(following) });
            }
        }
        Ok(())
    }

    /// Appends those of `entries`, which follow `previous`, that are not there; drops what
    /// contradicts them, and nothing else. Gives the last index that is then known to match.
    fn take_entries(&mut self, previous: Index, entries: Records<'_>) -> Result<Index, StepError> {
        let mut matched = previous;
        for entry in entries.iter() {
            let header = &entry.header;
            match self.storage.term(header.index) {
                Some(term) if term == header.term => {}
                here => {
                    if here.is_some() {
                        self.drop_from(header.id())?;
                    }
                    if self.storage.append(header, &[entry.payload]).is_err() {
                        break; // No room: the leader sends the rest again.
                    }
                }
            }
            matched = header.index;
        }
        Ok(matched)
    }

    /// Drops the entry that `found` contradicts, and all behind it.
    fn drop_from(&mut self, found: EntryId) -> Result<(), StepError> {
        if found.index <= self.commit {
            return Err(StepError::ContradictsCommitted { found, commit: self.commit });
        }
        let last = found.index.previous();
        self.storage.truncate(last);
        if self.saved.through.index > last {
            let term = self.storage.term(last).expect("the entry before a dropped one is held");
            self.saved.through = EntryId::new(term, last);
        }
        Ok(())
    }

    /// The last entry at or before `previous` that this log and one with `previous` can share.
    fn hint(&self, previous: EntryId) -> EntryId {
        let start = previous.index.min(self.storage.last().index);
        last_of_term_at_most(&self.storage, previous.term, start)
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
}

/// The last entry at or before `from` whose term is at most `term`, or one after it if that is
/// far away.
pub(super) fn last_of_term_at_most<S: Storage>(storage: &S, term: crate::types::Term, from: Index) -> EntryId {
    let base = storage.base();
    let mut index = from;
    for _ in 0..HINT_STEPS_MAX {
        match storage.term(index) {
            Some(found) if found <= term => return EntryId::new(found, index),
            Some(_) if index > base.index => index = index.previous(),
            _ => return base,
        }
    }
    EntryId::new(storage.term(index).unwrap_or(base.term), index)
}
