//! Receiving a snapshot and putting it in the place of the log (Raft paper, figure 13).

use crate::crc::crc32c;
use crate::message::Round;
use crate::raft::event::{Event, SnapshotRefusal};
use crate::raft::membership::Membership;
use crate::raft::role::Received;
use crate::raft::{INDEX_MAX, Raft, StepError};
use crate::snapshot::{self, OpenError, Which};
use crate::storage::{SnapshotId, Storage};
use crate::types::{EntryId, Index, NodeId, Term};

/// How often the wait for room doubles, from an election timeout on.
const DOUBLINGS_MAX: u32 = 3;

/// A snapshot that is arriving.
#[derive(Clone, Debug, Hash)]
pub(super) struct Draft {
    snapshot: SnapshotId,
    /// The term of the leader that sent a part of it last.
    term: Term,
    /// So much is there, without gaps, and its checksum.
    received: u64,
    checksum: u32,
    /// The round in which it was told last that a part is missing, or the snapshot was refused: once
    /// is enough, since all that was sent behind that part arrives too late, and what was refused is
    /// refused again at once.
    resend_told: Option<Round>,
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    pub(super) fn on_snapshot(
        &mut self,
        from: NodeId,
        snapshot: SnapshotId,
        offset: u64,
        round: Round,
        data: &[u8],
    ) -> Result<(), StepError> {
        if snapshot.through.term > self.term() {
            return Err(StepError::EntryOfLaterTerm { found: snapshot.through });
        }
        if snapshot.through.index > INDEX_MAX {
            return Err(StepError::IndexTooHigh { index: snapshot.through.index });
        }
        self.hear(from)?;
        if let Some(following) = self.following_mut() {
            following.round = following.round.max(round);
        }
        if let Some(matched) = self.holds(snapshot.through)? {
            self.drop_draft();
            self.match_through(matched);
            return Ok(());
        }
        let received = self.receive(snapshot, offset, round, data)?;
        if let Some(following) = self.following_mut() {
            following.received = received;
        }
        Ok(())
    }

    /// Lets go of a snapshot that is arriving and is not needed any more.
    pub(super) fn drop_draft(&mut self) {
        self.receive_again.end();
        if self.draft.take().is_some() {
            self.storage.drop_draft();
        }
    }

    /// An append of the leader was taken. If the log has caught up with the snapshot that is arriving, or another
    /// leader than the one that sent it goes on with entries, that is not needed any more.
    pub(super) fn drop_needless_draft(&mut self) {
        let (term, commit) = (self.term(), self.commit);
        let needless = |draft: &Draft| draft.snapshot.through.index <= commit || draft.term < term;
        if self.draft.as_ref().is_some_and(needless) {
            self.drop_draft();
        }
    }

    /// Whether a part of a snapshot has arrived, and lies in the storage's draft.
    #[must_use]
    pub fn receives_snapshot(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| draft.received > 0)
    }

    /// How far the log is known to equal the leader's, if the snapshot brings nothing that it lacks:
    /// then not an entry is touched.
    fn holds(&mut self, through: EntryId) -> Result<Option<Index>, StepError> {
        let same = self.storage.term(through.index).map(|term| term == through.term);
        if through.index <= self.commit {
            // What was compacted cannot be compared.
            return if same == Some(false) { Err(self.contradicted(through)) } else { Ok(Some(self.commit)) };
        }
        if same == Some(true) {
            // Snapshots hold only what is committed.
            self.commit_to(through.index);
            return Ok(Some(through.index));
        }
        Ok(None)
    }

    fn match_through(&mut self, index: Index) {
        if let Some(following) = self.following_mut() {
            following.matched = following.matched.max(index);
            following.received = None;
            following.rejected = None;
        }
    }

    /// Takes a part in; gives what is to be told of it, unless the snapshot is installed.
    fn receive(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        round: Round,
        data: &[u8],
    ) -> Result<Option<Received>, StepError> {
        let (through, term) = (snapshot.through, self.term());
        if self.draft.as_ref().is_none_or(|draft| draft.snapshot != snapshot) {
            self.storage.drop_draft();
            self.draft = Some(Draft { snapshot, term, received: 0, checksum: 0, resend_told: None });
        }
        let Some(draft) = &mut self.draft else { return Ok(None) };
        draft.term = term;
        if !self.receive_again.is_over(self.now) {
            // There was no room a short while ago.
            return Ok(Some(Received { through, bytes: 0, resend: false }));
        }
        let known = draft.received.checked_sub(offset);
        let resend = known.is_none() && draft.resend_told.is_none_or(|told| told < round);
        if resend {
            draft.resend_told = Some(round);
        }
        // What is there already comes first in the part.
        let new = known.and_then(|known| data.get(usize::try_from(known).ok()?..)).unwrap_or_default();
        let room = usize::try_from(snapshot.bytes.saturating_sub(draft.received)).unwrap_or(usize::MAX);
        let new = new.get(..new.len().min(room)).unwrap_or_default();
        if draft.received == 0 && !new.is_empty() {
            self.storage.begin_draft();
        }
        if !new.is_empty() && self.storage.extend_draft(new).is_err() {
            return Err(self.refuse(snapshot, round, SnapshotRefusal::NoSpace));
        }
        draft.received = draft.received.saturating_add(new.len() as u64);
        draft.checksum = crc32c(draft.checksum, new);
        if draft.received == snapshot.bytes {
            self.install(snapshot, round)?;
            return Ok(None);
        }
        Ok(Some(Received { through, bytes: draft.received, resend }))
    }

    /// Drops the draft. The leader learns that nothing is there, and with a later heartbeat, that it is wanted from
    /// the beginning: with the next one, or, if there was no room, after a wait that grows from one to eight
    /// election timeouts. That there is no room is told once, until a snapshot has been installed.
    fn refuse(&mut self, snapshot: SnapshotId, round: Round, reason: SnapshotRefusal) -> StepError {
        let (through, term) = (snapshot.through, self.term());
        self.draft = Some(Draft { snapshot, term, received: 0, checksum: 0, resend_told: Some(round) });
        self.storage.drop_draft();
        let is_news = reason != SnapshotRefusal::NoSpace
            || self.receive_again.failed(self.now, self.config.election_timeout, DOUBLINGS_MAX);
        if let Some(following) = self.following_mut() {
            following.received = Some(Received { through, bytes: 0, resend: false });
        }
        if is_news {
            self.tell(Event::SnapshotRefused { through, reason });
        }
        StepError::Snapshot { through, reason }
    }

    /// Puts the whole draft in the place of the log, after all of it has been checked.
    fn install(&mut self, snapshot: SnapshotId, round: Round) -> Result<(), StepError> {
        let through = snapshot.through;
        let draft = self.draft.take().filter(|draft| draft.checksum == snapshot.checksum);
        if draft.is_none() {
            return Err(self.refuse(snapshot, round, SnapshotRefusal::Checksum));
        }
        let (head, configuration) = match snapshot::open(&mut self.storage, Which::Draft) {
            Ok(opened) => opened,
            // A storage that failed says so again when it is flushed.
            Err(OpenError::Snapshot(_) | OpenError::Read(_)) => {
                return Err(self.refuse(snapshot, round, SnapshotRefusal::Invalid));
            }
        };
        if configuration.cluster() != self.cluster {
            return Err(self.refuse(snapshot, round, SnapshotRefusal::Foreign));
        }
        // Both are of one log, along which neither terms nor indexes go back.
        let EntryId { term, index } = head.configuration;
        if term > through.term || index > through.index || term == Term::ZERO || index == Index::ZERO {
            return Err(self.refuse(snapshot, round, SnapshotRefusal::Invalid));
        }
        let Ok(membership) = Membership::new(head.configuration, &configuration) else {
            return Err(self.refuse(snapshot, round, SnapshotRefusal::TooManyMembers));
        };
        // What is committed here has to be part of the snapshot, as far as it says.
        if let (Some(own), Some(found)) = (self.storage.term(self.commit), head.terms.at(self.commit))
            && own != found
        {
            self.storage.drop_draft();
            return Err(self.contradicted(EntryId::new(found, self.commit)));
        }
        // Of the old log, what is committed is part of the snapshot; all else is gone, durable or not.
        if self.saved.through.index > self.commit {
            let term = self.storage.term(self.commit).expect("the last committed entry is held, or is the base");
            self.saved.through = EntryId::new(term, self.commit);
        }
        self.storage.adopt_draft(snapshot);
        self.receive_again.end();
        assert_eq!(self.storage.last(), through, "the snapshot has taken the place of the log");
        self.membership = membership;
        self.previous = None;
        self.commit_to(through.index);
        self.restore = true;
        self.taken_at = self.now;
        self.match_through(through.index);
        self.tell(Event::SnapshotInstalled { through });
        Ok(())
    }
}
