//! Following a leader: taking its entries, and with them its configurations (Raft paper, section
//! 5.3; dissertation, section 4.1).

use crate::configuration::Configuration;
use crate::entry::{Entry, EntryHeader, EntryKind, Records};
use crate::message::{Rejection, Round};
use crate::raft::event::Event;
use crate::raft::membership::{Membership, TooMany};
use crate::raft::role::{Follower, Following, Role};
use crate::raft::{Raft, StepError};
use crate::storage::Storage;
use crate::types::{EntryId, Index, NodeId, Term};

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
                return Err(self.contradicted(previous));
            }
            // Compacted, so committed, so equal in every later leader's log (section 5.4.3).
            None if previous.index < self.storage.base().index => {
                self.compare_with_committed(entries)?;
                (self.commit, None)
            }
            _ => (Index::ZERO, Some(Rejection { previous: previous.index, hint: self.hint(previous) })),
        };
        // Only entries that this leader's log is known to share are committed by its word.
        self.commit_to(commit.min(known_to_match));
        self.trust_again(known_to_match);
        if rejected.is_none() {
            self.drop_needless_draft();
        }
        let following = self.following_mut().expect("this leader was just heard");
        following.matched = following.matched.max(known_to_match);
        following.round = following.round.max(round);
        following.rejected = rejected;
        Ok(())
    }

    /// Entries up to `index` are committed, if they were not before.
    pub(super) fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index);
        let entry = self.membership.entry;
        if entry != self.configured && entry.index <= self.commit {
            self.configured = entry;
            self.tell(Event::ConfigurationCommitted { entry, joint: self.membership.is_joint() });
            if !matches!(self.role, Role::Leader(_)) {
                self.notice_removal();
            }
            self.readmit();
        }
    }

    /// A log that may have lost entries is trusted again when a leader of a later term than that in
    /// which it may have acknowledged them has brought it beyond them.
    fn trust_again(&mut self, matched: Index) {
        if self.suspect.is_some_and(|(through, term)| matched >= through && self.term() > term) {
            self.suspect = None;
            self.storage.trust();
        }
    }

    /// Notes that `from` leads this term and is alive.
    pub(super) fn hear(&mut self, from: NodeId) -> Result<(), StepError> {
        let term = self.term();
        if let Some(leader) = self.leader()
            && leader != from
        {
            return Err(StepError::SecondLeader { from, term });
        }
        self.removed = None; // Whoever said so did not know that it was added again.
        let now = self.now;
        match &mut self.role {
            Role::Follower(Follower { election_at, leader: Some(following) }) => {
                *election_at = now.after(self.patience);
                (following.heard_at, following.link_down) = (now, false);
            }
            _ => {
                let election_at = self.election_timeout();
                self.patience = election_at.since(now);
                let mut following = Following::new(from, now);
                // Reads begun under this leader before it was lost sight of go on.
                following.read_wanted = (self.last_ticket_term == term).then_some(self.last_ticket);
                self.role = Role::Follower(Follower { election_at, leader: Some(following) });
                self.tell(Event::Follows { term, leader: from });
            }
        }
        Ok(())
    }

    /// Appends those of `entries`, which follow `previous`, that are not there; drops what
    /// contradicts them, and nothing else. Gives the last index that is then known to match.
    fn take_entries(&mut self, previous: Index, entries: Records<'_>) -> Result<Index, StepError> {
        // The first entry of all has to be a configuration.
        let new = entries.first().index == self.storage.last().index.next() && entries.first().index > Index::FIRST;
        if new && entries.headers().all(|header| header.kind != EntryKind::Configuration) {
            self.check_time(entries.headers().next())?;
            // If there is no room for some of them, the leader sends those again.
            let _ = self.storage.append_records(entries);
            let last = self.storage.last().index;
            if last > previous {
                self.taken_at = self.now;
            }
            return Ok(last);
        }
        let mut matched = previous;
        for entry in entries.iter() {
            let header = &entry.header;
            match self.storage.term(header.index) {
                Some(term) if term == header.term => {}
                here => {
                    let membership = self.members_in(&entry)?;
                    if here.is_some() {
                        self.drop_from(header.id())?;
                    }
                    self.check_time(Some(*header))?;
                    if self.storage.append(header, &[entry.payload]).is_err() {
                        break; // No room: the leader sends the rest again.
                    }
                    self.taken_at = self.now;
                    if let Some(membership) = membership {
                        self.adopt_members(membership);
                    }
                }
            }
            matched = header.index;
        }
        Ok(matched)
    }

    /// Looks whether entries which are not needed contradict what is committed.
    fn compare_with_committed(&mut self, entries: Records<'_>) -> Result<(), StepError> {
        let another = |header: &EntryHeader| {
            let here = self.storage.term(header.index).filter(|_| header.index <= self.commit);
            here.is_some_and(|term| term != header.term)
        };
        match entries.headers().find(another) {
            Some(header) => Err(self.contradicted(header.id())),
            None => Ok(()),
        }
    }

    /// Cluster time never goes back along a log: storages check that when they start, and whoever is sent its entries.
    /// Of those that follow it in their message this is known.
    fn check_time(&self, next: Option<EntryHeader>) -> Result<(), StepError> {
        match next.filter(|next| next.time < self.storage.last_time()) {
            Some(next) => Err(StepError::TimeGoesBack { found: next.id() }),
            None => Ok(()),
        }
    }

    /// The members in a configuration's entry; none in another.
    fn members_in(&self, entry: &Entry<'_>) -> Result<Option<Membership<NODES>>, StepError> {
        let index = entry.header.index;
        if entry.header.kind != EntryKind::Configuration {
            return if index == Index::FIRST { Err(StepError::NoFirstConfiguration) } else { Ok(None) };
        }
        let configuration =
            Configuration::decode(entry.payload).map_err(|error| StepError::Configuration { index, error })?;
        if configuration.cluster() != self.cluster {
            return Err(StepError::ForeignConfiguration { index });
        }
        let membership = Membership::new(entry.header.id(), &configuration)
            .map_err(|TooMany(members)| StepError::TooManyMembers { members, most: NODES })?;
        Ok(Some(membership))
    }

    /// The configuration was appended, and holds from now on (dissertation, section 4.1).
    pub(super) fn adopt_members(&mut self, membership: Membership<NODES>) {
        let (entry, joint) = (membership.entry, membership.is_joint());
        self.previous = Some(core::mem::replace(&mut self.membership, membership));
        self.tell(Event::ConfigurationAppended { entry, joint });
    }

    /// Drops the entry that `found` contradicts, and all behind it.
    fn drop_from(&mut self, found: EntryId) -> Result<(), StepError> {
        if found.index <= self.commit {
            return Err(self.contradicted(found));
        }
        let last = found.index.previous();
        if self.membership.entry.index > last {
            self.drop_members(found)?;
        }
        self.storage.truncate(last);
        if self.saved.through.index > last {
            let term = self.storage.term(last).expect("the entry before a dropped one is held");
            self.saved.through = EntryId::new(term, last);
        }
        Ok(())
    }

    /// Goes back to the members of before, since their change is about to be dropped. It is at most
    /// one change: each is appended only when the one before it is committed.
    fn drop_members(&mut self, found: EntryId) -> Result<(), StepError> {
        let earlier = self.previous.as_ref().is_some_and(|previous| previous.entry.index < found.index);
        let previous = self.previous.take_if(|_| earlier).ok_or(StepError::DropsConfigurations { found })?;
        let back_to = previous.entry;
        let entry = core::mem::replace(&mut self.membership, previous).entry;
        self.tell(Event::ConfigurationDropped { entry, back_to });
        Ok(())
    }

    /// The last entry at or before `previous` that this log and one with `previous` can share.
    fn hint(&self, previous: EntryId) -> EntryId {
        let start = previous.index.min(self.storage.last().index);
        last_of_term_at_most(&self.storage, previous.term, start)
    }
}

/// The last entry at or before `from` whose term is at most `term`, or one after it if that is
/// far away.
pub(super) fn last_of_term_at_most<S: Storage>(storage: &S, term: Term, from: Index) -> EntryId {
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
