//! A log in memory whose durable copy follows behind: when its syncs complete, and what of the
//! unsynced rest survives a crash, is for the test to say.

pub(crate) mod parts;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use raft_core::configuration::{self, Configuration};
use raft_core::entry::{EntryHeader, Records};
use raft_core::ring::Never;
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage, StorageMetrics};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

/// What a log holds: records one behind the other from the base on, the hard state, a snapshot.
#[derive(Clone, Debug, Default)]
struct Image {
    hard_state: HardState,
    base: EntryId,
    base_time: ClusterTime,
    bytes: Vec<u8>,
    /// Of each entry: its term, its time, and where its record ends.
    entries: Vec<(Term, ClusterTime, usize)>,
    snapshot: Option<(SnapshotId, Rc<Vec<u8>>)>,
    /// Whether that snapshot has taken the place of the log.
    replaced: bool,
}

/// A change, as it is on its way to the disk.
#[derive(Clone, Debug)]
enum Change {
    Append(EntryHeader, Vec<u8>),
    Truncate(Index),
    HardState(HardState),
    Snapshot(SnapshotId, Rc<Vec<u8>>),
    Compact(Index),
}

/// The log.
#[derive(Clone, Debug)]
pub(crate) struct DeferredLog {
    view: Image,
    durable: Image,
    /// Changes of the view that are not durable yet, oldest first.
    changes: VecDeque<Change>,
    draft: Vec<u8>,
    /// Drafts may have so many bytes.
    pub(crate) draft_bytes_max: usize,
    /// The syncs under way: how many of the changes each covers.
    syncs: VecDeque<usize>,
    /// So many more syncs may complete by themselves: for tests that cannot get at the log.
    pub(crate) allowed: Rc<Cell<u32>>,
    /// Whether syncs wait for [`DeferredLog::complete`].
    pub(crate) deferred: bool,
    /// The most entries there is room for.
    pub(crate) entries_max: usize,
    /// Whether there is no room for a draft, and whether the disk is full: for tests that cannot get at the log.
    pub(crate) no_drafts: Rc<Cell<bool>>,
    pub(crate) full: Rc<Cell<bool>>,
    /// How often it was told that nothing has been saved for a while.
    pub(crate) witnessed: u32,
    /// How often it was told that it lacks nothing any more.
    pub(crate) trusted: u32,
    /// What it doubts, until it is told to trust it.
    pub(crate) suspect: Option<Index>,
}

impl Image {
    fn end(&self, index: Index) -> usize {
        let place = index.since(self.base.index) as usize;
        place.checked_sub(1).map_or(0, |at| self.entries[at].2)
    }

    fn last(&self) -> EntryId {
        let index = self.base.index.plus(self.entries.len() as u64);
        self.entries.last().map_or(self.base, |&(term, ..)| EntryId::new(term, index))
    }

    fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(at as usize).map(|&(term, ..)| term)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Append(header, payload) => {
                self.bytes.extend_from_slice(&header.encode());
                self.bytes.extend_from_slice(payload);
                self.entries.push((header.term, header.time, self.bytes.len()));
            }
            Change::Truncate(last) => {
                self.bytes.truncate(self.end(*last));
                self.entries.truncate(last.since(self.base.index) as usize);
            }
            Change::HardState(hard_state) => self.hard_state = *hard_state,
            Change::Snapshot(snapshot, bytes) => {
                self.snapshot = Some((*snapshot, Rc::clone(bytes)));
                self.replaced = self.term(snapshot.through.index) != Some(snapshot.through.term);
                if self.replaced {
                    (self.base, self.base_time) = (snapshot.through, snapshot.time);
                    self.entries.clear();
                    self.bytes.clear();
                }
            }
            Change::Compact(index) => self.compact(*index),
        }
    }

    fn compact(&mut self, index: Index) {
        let covered = self.snapshot.as_ref().map_or(Index::ZERO, |(snapshot, _)| snapshot.through.index);
        assert!(index <= covered, "what is dropped is covered by the snapshot");
        if index > self.base.index {
            let (count, end) = (index.since(self.base.index) as usize, self.end(index));
            let (term, time, _) = self.entries[count - 1];
            (self.base, self.base_time) = (EntryId::new(term, index), time);
            self.bytes.drain(..end);
            self.entries.drain(..count);
            self.entries.iter_mut().for_each(|entry| entry.2 -= end);
        }
    }
}

impl DeferredLog {
    /// The log of a member of a new cluster: durable, and its syncs complete at once.
    pub(crate) fn new(configuration: &Configuration) -> DeferredLog {
        let mut log = DeferredLog::blank();
        configuration::bootstrap(&mut log, configuration).unwrap();
        log.flush().unwrap();
        log
    }

    /// The log of a node that is yet to join a cluster.
    pub(crate) fn blank() -> DeferredLog {
        DeferredLog {
            view: Image::default(),
            durable: Image::default(),
            changes: VecDeque::new(),
            draft: Vec::new(),
            draft_bytes_max: usize::MAX,
            syncs: VecDeque::new(),
            allowed: Rc::default(),
            deferred: false,
            entries_max: usize::MAX,
            no_drafts: Rc::default(),
            full: Rc::default(),
            witnessed: 0,
            trusted: 0,
            suspect: None,
        }
    }

    /// The oldest sync under way completes; gives whether there was one.
    pub(crate) fn complete(&mut self) -> bool {
        let Some(covered) = self.syncs.pop_front() else { return false };
        self.settle(covered);
        true
    }

    /// The power fails: `survive` of the changes that were not durable have reached the disk by
    /// chance, the others are lost.
    pub(crate) fn crash(&mut self, survive: usize) {
        self.settle(survive.min(self.changes.len()));
        self.view = self.durable.clone();
        self.draft.clear();
        self.changes.clear();
        self.syncs.clear();
    }

    /// How many changes are not durable.
    pub(crate) fn unsaved(&self) -> usize {
        self.changes.len()
    }

    /// How long the draft of a snapshot is.
    pub(crate) fn draft_bytes(&self) -> usize {
        self.draft.len()
    }

    /// The ids of all entries in the view.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        let entries = self.view.entries.iter().zip(self.view.base.index.0 + 1..);
        entries.map(|(&(term, ..), index)| EntryId::new(term, Index(index)))
    }

    /// The bytes of a snapshot that ends at `through`, for tests that write one by hand.
    pub(crate) fn write_snapshot(&mut self, through: EntryId, time: ClusterTime, bytes: &[u8]) {
        self.begin_draft();
        self.extend_draft(bytes).unwrap();
        let checksum = raft_core::crc::crc32c(0, bytes);
        self.adopt_draft(SnapshotId { through, time, bytes: bytes.len() as u64, checksum });
    }

    fn settle(&mut self, changes: usize) {
        for change in self.changes.drain(..changes) {
            self.durable.change(&change);
        }
        for covered in &mut self.syncs {
            *covered = covered.saturating_sub(changes);
        }
    }

    fn change(&mut self, change: Change) {
        self.view.change(&change);
        self.changes.push_back(change);
    }
}

impl Storage for DeferredLog {
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.view.hard_state
    }

    fn base(&self) -> EntryId {
        self.view.base
    }

    fn last(&self) -> EntryId {
        self.view.last()
    }

    fn last_time(&self) -> ClusterTime {
        self.view.entries.last().map_or(self.view.base_time, |&(_, time, _)| time)
    }

    fn term(&self, index: Index) -> Option<Term> {
        self.view.term(index)
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        if from <= self.view.base.index || from > self.last().index {
            return Err(ReadError::Missing(from));
        }
        let start = self.view.end(from.previous());
        let fits = |index: &Index| self.view.end(*index) - start <= bytes_max;
        let more = (from.0 + 1..=through.0.min(self.last().index.0)).map(Index).take_while(fits);
        let end = self.view.end(more.last().unwrap_or(from));
        Ok(Records::parse(&self.view.bytes[start..end]).expect("the log holds what was appended"))
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        assert_eq!(header.index, self.last().index.next(), "entries are appended in order");
        if self.view.entries.len() >= self.entries_max {
            return Err(Full);
        }
        self.change(Change::Append(*header, parts.concat()));
        Ok(())
    }

    fn has_room(&mut self, _: usize) -> bool {
        self.view.entries.len() < self.entries_max
    }

    fn truncate(&mut self, last: Index) {
        assert!(last >= self.view.base.index, "what was compacted cannot be dropped");
        self.change(Change::Truncate(last));
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.change(Change::HardState(hard_state));
    }

    fn suspect_through(&self) -> Option<Index> {
        self.suspect
    }

    fn trust(&mut self) {
        self.trusted += 1;
        self.suspect = None;
    }

    fn flush(&mut self) -> Result<(), Never> {
        let covered = self.changes.len();
        if !self.deferred {
            self.settle(covered);
            self.syncs.clear();
        } else if covered > self.syncs.back().copied().unwrap_or(0) {
            self.syncs.push_back(covered);
        }
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        while self.allowed.get() > 0 && self.complete() {
            self.allowed.set(self.allowed.get() - 1);
        }
        Ok(Saved { hard_state: self.durable.hard_state, through: self.durable.last() })
    }

    fn snapshot(&self) -> Option<SnapshotId> {
        // One that was made here is there when it is durable; one that has taken the log's place, at once.
        let image = if self.view.replaced { &self.view } else { &self.durable };
        image.snapshot.as_ref().map(|(snapshot, _)| *snapshot)
    }

    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let snapshot = self.snapshot().ok_or(ReadError::Missing(Index::ZERO))?;
        let images = [&self.view, &self.durable];
        let found = images.into_iter().filter_map(|image| image.snapshot.as_ref()).find(|(id, _)| *id == snapshot);
        let bytes = &found.expect("one of the images has it").1;
        let rest = &bytes[(offset as usize).min(bytes.len())..];
        Ok(&rest[..bytes_max.min(rest.len())])
    }

    fn witness(&mut self) -> Result<(), Never> {
        self.witnessed += 1;
        Ok(())
    }

    fn begin_draft(&mut self) {
        self.draft.clear();
    }

    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.no_drafts.get() || self.draft.len() + bytes.len() > self.draft_bytes_max {
            return Err(Full);
        }
        self.draft.extend_from_slice(bytes);
        Ok(())
    }

    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let rest = &self.draft[(offset as usize).min(self.draft.len())..];
        Ok(&rest[..bytes_max.min(rest.len())])
    }

    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        assert_eq!(self.draft.len() as u64, snapshot.bytes, "the draft is whole");
        let bytes = Rc::new(core::mem::take(&mut self.draft));
        self.change(Change::Snapshot(snapshot, bytes));
    }

    fn compact(&mut self, index: Index) {
        self.change(Change::Compact(index));
    }

    fn metrics(&self) -> StorageMetrics {
        StorageMetrics { full: self.full.get(), ..StorageMetrics::default() }
    }

    fn bytes_behind(&self, index: Index) -> u64 {
        let index = index.max(self.view.base.index).min(self.last().index);
        (self.view.bytes.len() - self.view.end(index)) as u64
    }
}
