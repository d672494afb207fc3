//! [`FileStorage`]: the log in memory, and what brings it to disk.

use raft_core::entry::{EntryHeader, EntryKind, HEADER_BYTES, Records};
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage, StorageMetrics};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

use crate::directory::Directory;
use crate::disk::DiskReader;
use crate::error::StorageError;
use crate::files::Files;
use crate::format::{BATCH_HEADER_BYTES, FIRST_BATCH, Identity, Origin};
use crate::log::Log;
use crate::options::Options;
use crate::recovery::{Recovered, hard_state_follows};
use crate::reserve::Reserve;
use crate::segment::{BatchFrame, Beginning, Segment};
use crate::segments::{Place, Segments};
use crate::snapshot::Snapshots;
use crate::spare::Spare;
use crate::suspect;

pub(crate) mod open;
mod snapshots;
#[cfg(test)]
mod tests;

/// How much of a segment is kept free of clients' entries when there is no room for another segment, so that votes and
/// the first entries of leaders can still be saved: enough for some hundreds of them.
const RESERVE_BYTES: u64 = 64 << 10;
/// How much more is kept free by a leader, which takes no commands when that is gone: so that its followers have room for
/// all that it took although their segments end elsewhere. At most an eighth of the longest segment.
const LEADER_RESERVE_BYTES: u64 = 1 << 20;
/// A segment that was made when there was little room is followed by one of this length at least, if there is room.
const SHORT_BYTES: u64 = 64 << 10;
/// Whether there is room again is looked for each time that the storage was asked so often what is saved.
const LOOK_EVERY: u32 = 16;

/// The buffer of a batch is given back when it has become longer than this.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// What an entry is that is to have room: the rarer it is, the less is kept free of it.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Of the cluster itself: a leader's first one, a configuration.
    Own,
    /// A client's, which a leader has taken.
    Sent,
    /// A client's, which a leader is asked to take.
    Asked,
}

/// What a storage has done since it was opened. Entries per sync are `entries / syncs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Flushes that had something to save, each of which was one sync.
    pub syncs: u64,
    /// Entries that they saved.
    pub entries: u64,
    /// Bytes that they wrote.
    pub bytes: u64,
    /// New segments that were begun; each is three syncs more.
    pub rotations: u64,
    /// Old segments that were removed since a snapshot covers them.
    pub segments_removed: u64,
    /// Snapshots that became durable.
    pub snapshots: u64,
    /// Reads of entries that had to go to the disk.
    pub disk_reads: u64,
}

/// The log, hard state and identity of one node, in one directory.
///
/// [`FileStorage::create`] and [`FileStorage::open`] make one, and so does
/// [`WaitingDirectory::complete`](crate::WaitingDirectory::complete).
/// [`Storage::flush`] writes and syncs before it returns, on the caller's thread; a flush with
/// nothing new to save does nothing.
#[derive(Debug)]
pub struct FileStorage<F: Files = Directory> {
    identity: Identity,
    origin: Option<Origin>,
    options: Options,
    log: Log,
    /// The last entry on disk that the log still has: what is behind it waits for a flush.
    pending_after: EntryId,
    saved: Saved,
    /// Whether an empty batch stands behind the last one, or a later segment.
    witnessed: bool,
    segment: Segment<F>,
    segments: Segments,
    snapshots: Snapshots<F>,
    /// The base when the last batch was saved.
    saved_base: EntryId,
    reader: DiskReader<F>,
    buffer: Vec<u8>,
    metrics: Metrics,
    /// Up to where the log is suspect, as the disk remembers it, and whether it is to be trusted again once that is saved.
    suspect_through: Option<Index>,
    trusted: bool,
    /// Whether an entry of a client found no room, and how often it was asked since what is saved.
    full: bool,
    looks: u32,
    /// Once there is one, it is the answer to everything.
    failed: Option<StorageError>,
    // Dropped in this order: the directory is free only when nobody writes to it any more.
    spare: Spare<F>,
    reserve: Reserve<F>,
    files: F,
    _lock: F::Lock,
}

impl<F: Files> FileStorage<F> {
    fn new(
        files: F,
        lock: F::Lock,
        (identity, origin): (Identity, Option<Origin>),
        options: Options,
        recovered: Recovered<F>,
    ) -> FileStorage<F> {
        let Recovered { log, segment, segments, snapshots, report, witnessed, reserve } = recovered;
        FileStorage {
            identity,
            origin,
            options,
            pending_after: log.last,
            saved: Saved { hard_state: log.hard_state, through: log.last },
            witnessed,
            saved_base: log.base,
            log,
            segment,
            segments,
            snapshots: Snapshots::new(identity.incarnation, snapshots),
            reader: DiskReader::default(),
            buffer: Vec::new(),
            metrics: Metrics::default(),
            suspect_through: report.suspect_through,
            trusted: false,
            full: false,
            looks: 0,
            failed: None,
            spare: Spare::None,
            reserve,
            files,
            _lock: lock,
        }
    }

    /// Whose directory it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How the node came to its cluster; `None` if its program made the directory by [`FileStorage::create`].
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// What it has done so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics
    }

    /// Whether there is something that is not durable yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.saved != Saved { hard_state: self.log.hard_state, through: self.log.last }
            || self.pending_after != self.saved.through
            || self.snapshots.is_installing()
    }

    fn check(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Forgets that the log was suspect, if it is not any more and what makes it so is durable.
    fn forget_suspicion(&mut self) -> Result<(), StorageError> {
        if self.trusted && self.suspect_through.take_if(|through| *through <= self.saved.through.index).is_some() {
            suspect::remove(&self.files)?;
        }
        Ok(())
    }

    /// Keeps the first error.
    fn fail(&mut self, error: StorageError) {
        self.failed.get_or_insert(error);
    }

    fn pending(&self) -> &[u8] {
        self.log.cache.tail(self.pending_after.index.next())
    }

    /// Whether there is room for `bytes` more of entries. What is taken has its room, so that a flush never finds
    /// none. Entries of clients leave some for votes, and for what a new leader has to write.
    fn fits(&mut self, bytes: usize, entry: Entry) -> bool {
        let pending = self.pending().len();
        let wanted = pending.saturating_add(bytes);
        if pending > 0 && wanted > self.options.pending_bytes_max {
            return false;
        }
        let prepared = self.segment.prepared_bytes;
        let reserve = RESERVE_BYTES.min(prepared / 4);
        let reserve = match entry {
            Entry::Own => 0,
            Entry::Sent => reserve,
            Entry::Asked => reserve.saturating_add(self.leader_reserve()),
        };
        let needed = self.segment.end_with(wanted).saturating_add(reserve);
        let fits = needed <= prepared || self.fits_elsewhere(wanted, reserve, needed, entry);
        self.full = match entry {
            // A leader that has too little room may still have enough for what it is sent.
            Entry::Asked => !fits,
            Entry::Own | Entry::Sent => self.full || !fits,
        };
        fits
    }

    /// Whether so many bytes of entries fit into the next segment, or into a present one of `needed` bytes.
    fn fits_elsewhere(&mut self, wanted: usize, reserve: u64, needed: u64, entry: Entry) -> bool {
        self.prepare_spare();
        let next = Segment::<F>::bytes_with(wanted).saturating_add(reserve);
        if self.segment.end > FIRST_BATCH && self.spare.ready_bytes().is_some_and(|bytes| next <= bytes) {
            return true;
        }
        if self.failed.is_some() {
            return true;
        }
        if self.reserve.is_released() && !matches!(entry, Entry::Own) {
            return false;
        }
        // The next one is not ready, too short, or has no room.
        match self.segment.grow(&self.files, needed) {
            Ok(has_room) => has_room,
            Err(error) => {
                self.fail(error.into());
                true
            }
        }
    }

    fn prepare_spare(&mut self) {
        if let Err(error) = self.reserve.prepare(&self.files, self.options.reserve_bytes) {
            self.fail(error.into());
        }
        if self.reserve.is_released() {
            return;
        }
        // Each segment is twice as long as the one before, so that a small log stays small.
        let bytes = self.segment.prepared_bytes.max(self.options.segment_bytes_first.min(SHORT_BYTES));
        if let Err(error) = self.spare.begin(&self.files, bytes.saturating_mul(2).min(self.options.segment_bytes)) {
            self.fail(error.into());
        }
    }

    fn leader_reserve(&self) -> u64 {
        LEADER_RESERVE_BYTES.min(self.options.segment_bytes / 8)
    }

    /// While there is no room, looks once in a while whether there is some; for more than what is kept free, so that it
    /// is not all used up at once.
    fn look_for_room(&mut self) {
        if self.full {
            self.looks = self.looks.wrapping_add(1);
            if self.looks.is_multiple_of(LOOK_EVERY) {
                let bytes = usize::try_from(self.leader_reserve()).unwrap_or(usize::MAX);
                self.fits(bytes, Entry::Asked);
            }
        }
    }

    fn beginning(&self) -> Beginning {
        let Saved { hard_state, through } = self.saved;
        Beginning { incarnation: self.identity.incarnation, base: self.saved_base, last: through, hard_state }
    }

    /// Begins the next segment if the batch does not fit into this one and the next one is ready. If
    /// it is not, this one gets longer than was planned, which is slower but waits for nothing.
    fn rotate_if_full(&mut self, records_bytes: usize) -> Result<(), StorageError> {
        let prepared = self.segment.prepared_bytes;
        let end = self.segment.end_with(records_bytes);
        if end > prepared / 2 {
            self.prepare_spare();
            self.check()?;
        }
        if end <= prepared || self.segment.end == FIRST_BATCH {
            return Ok(());
        }
        if let Some((file, bytes)) = self.spare.take() {
            self.segment = self.segment.next(&self.files, file, self.beginning(), bytes)?;
            self.segments.push(Place { number: self.segment.number, after: self.saved.through.index });
            self.metrics.rotations += 1;
        }
        Ok(())
    }

    /// Makes all that is new durable, in one write and one sync.
    fn save(&mut self) -> Result<(), StorageError> {
        // The batch that drops the log comes when what takes its place is there.
        let resets = self.snapshots.save_installed(&self.files)?;
        let records_bytes = self.pending().len();
        self.rotate_if_full(records_bytes)?;
        let entries = self.log.last.index.since(self.pending_after.index);
        let frame = BatchFrame {
            previous: self.pending_after,
            hard_state: self.log.hard_state,
            entries: u32::try_from(entries).expect("4 billion records are more than may be pending"),
            resets,
        };
        let records = self.log.cache.tail(self.pending_after.index.next());
        let offset = self.segment.append(&self.files, frame, records, &mut self.buffer)?;
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        if entries > 0 {
            self.log.mark(self.pending_after.index.next(), self.segment.number, offset);
        }
        self.pending_after = self.log.last;
        self.saved = Saved { hard_state: self.log.hard_state, through: self.log.last };
        self.saved_base = self.log.base;
        self.log.cache.evict(self.saved.through.index);
        self.witnessed = false;
        self.metrics.syncs += 1;
        self.metrics.entries += entries;
        self.metrics.bytes += (BATCH_HEADER_BYTES + records_bytes) as u64;
        if resets {
            self.metrics.snapshots += 1;
            self.segments.drop_entries();
            self.snapshots.remove_older(&self.files)?;
            self.remove_needless()?;
        }
        Ok(())
    }
}

impl<F: Files> Storage for FileStorage<F> {
    type Error = StorageError;

    /// After this, damage to what was saved last is told from a write that a power cut has torn,
    /// and is never cut off. Costs one sync, and nothing when called again.
    fn witness(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        if !self.witnessed {
            self.save().inspect_err(|error| self.failed = Some(error.clone()))?;
            self.witnessed = true;
        }
        Ok(())
    }

    fn metrics(&self) -> StorageMetrics {
        let Metrics { syncs, entries, bytes, .. } = self.metrics;
        StorageMetrics { syncs, entries_synced: entries, bytes_written: bytes, full: self.full }
    }

    fn hard_state(&self) -> HardState {
        self.log.hard_state
    }

    fn base(&self) -> EntryId {
        self.log.base
    }

    fn last(&self) -> EntryId {
        self.log.last
    }

    fn last_time(&self) -> ClusterTime {
        self.log.last_time
    }

    fn term(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<StorageError>> {
        self.check().map_err(ReadError::Failed)?;
        let through = through.min(self.log.last.index);
        if from <= self.log.base.index || from > through {
            return Err(ReadError::Missing(from));
        }
        let FileStorage { log, reader, files, failed, metrics, .. } = self;
        if let Some(bytes) = log.cache.read(from, through, bytes_max) {
            let previous = log.id(from.previous()).expect("the entry before one that is held is held, or the base");
            let records = Records::verified(previous, bytes);
            return Ok(records.expect("the cache holds what was checked when it was appended"));
        }
        metrics.disk_reads += 1;
        let through = through.min(log.cache.first().previous());
        reader.read(files, log, from, through, bytes_max).map_err(|error| {
            failed.get_or_insert(error.clone());
            ReadError::Failed(error)
        })
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        if !self.fits(header.record_bytes(), if header.kind == EntryKind::Operation { Entry::Sent } else { Entry::Own })
        {
            return Err(Full);
        }
        let (last, found) = (self.log.last, header.id());
        let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let follows = found.index == last.index.next() && found.term >= last.term;
        if !follows || header.time < self.log.last_time || payload_bytes != header.payload_bytes() {
            self.fail(StorageError::Order { last, found });
        } else {
            self.log.push(header, &header.encode(), parts);
        }
        Ok(())
    }

    fn has_room(&mut self, payload_bytes: usize) -> bool {
        self.fits(HEADER_BYTES.saturating_add(payload_bytes), Entry::Asked)
    }

    fn truncate(&mut self, last: Index) {
        if last >= self.log.last.index {
            return;
        }
        if last < self.log.base.index {
            self.fail(StorageError::TruncatedBase { index: last, base: self.log.base });
            return;
        }
        let covered = self.snapshots.latest().map_or(Index::ZERO, |latest| latest.through.index);
        if last < covered {
            self.fail(StorageError::TruncatedSnapshot { index: last, covered });
            return;
        }
        self.log.truncate(last);
        if last < self.pending_after.index {
            self.pending_after = self.log.last;
        }
        if !self.log.last_time_known {
            match self.reader.time(&self.files, &self.log, last) {
                Ok(time) => (self.log.last_time, self.log.last_time_known) = (time, true),
                Err(error) => self.fail(error),
            }
        }
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        if hard_state_follows(self.log.hard_state, hard_state) {
            self.log.hard_state = hard_state;
        } else {
            self.fail(StorageError::HardState { old: self.log.hard_state, new: hard_state });
        }
    }

    fn suspect_through(&self) -> Option<Index> {
        self.suspect_through
    }

    fn trust(&mut self) {
        self.trusted = true;
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if self.is_pending() {
            self.save().inspect_err(|error| self.failed = Some(error.clone()))?;
        }
        self.forget_suspicion().inspect_err(|error| self.failed = Some(error.clone()))?;
        self.poll_snapshots().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn saved(&mut self) -> Result<Saved, StorageError> {
        self.check()?;
        self.poll_snapshots().inspect_err(|error| self.failed = Some(error.clone()))?;
        self.look_for_room();
        Ok(self.saved)
    }

    /// A snapshot that takes the place of the log, until the next flush, included.
    fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshots.latest()
    }

    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<StorageError>> {
        self.check().map_err(ReadError::Failed)?;
        FileStorage::<F>::read_of(&mut self.failed, self.snapshots.read(&self.files, offset, bytes_max))
    }

    fn begin_draft(&mut self) {
        self.start_draft();
    }

    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.fill_draft(bytes)
    }

    fn drop_draft(&mut self) {
        let dropped = self.snapshots.drop_draft(&self.files);
        self.keep_error(dropped);
    }

    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<StorageError>> {
        self.check().map_err(ReadError::Failed)?;
        FileStorage::<F>::read_of(&mut self.failed, self.snapshots.read_draft(&self.files, offset, bytes_max))
    }

    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        let held = self.log.holds(snapshot.through);
        if let Err(error) = self.adopt(snapshot, held) {
            self.fail(error);
        }
        if !held {
            // Whatever the disk says to it: that is for `flush` to report.
            self.log.reset(snapshot.through, snapshot.time);
            self.pending_after = snapshot.through;
        }
    }

    fn compact(&mut self, index: Index) {
        if let Err(error) = self.compact_through(index) {
            self.fail(error);
        }
    }

    fn bytes_behind(&self, index: Index) -> u64 {
        self.log.bytes_behind(index)
    }
}
