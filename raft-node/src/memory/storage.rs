//! A log and its snapshots on the heap.

use std::collections::VecDeque;

use raft_core::entry::{EntryHeader, Records};
use raft_core::ring::Never;
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage, StorageMetrics};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

/// A log on the heap that is as durable as the process, without a bound. What is compacted is freed.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    hard_state: HardState,
    base: EntryId,
    base_time: ClusterTime,
    /// The entries behind the base, without gaps.
    places: VecDeque<Place>,
    /// Their records, one behind the other.
    bytes: Vec<u8>,
    /// The place of the first of these bytes.
    start: u64,
    snapshot: Option<(SnapshotId, Vec<u8>)>,
    draft: Option<Vec<u8>>,
    metrics: StorageMetrics,
    flushed: Saved,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the record ends, counted in bytes since the first that was ever appended.
    end: u64,
    term: Term,
    time: ClusterTime,
}

impl MemoryStorage {
    /// An empty log.
    #[must_use]
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    fn place(&self, index: Index) -> Option<&Place> {
        let position = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.places.get(usize::try_from(position).ok()?)
    }

    /// Where the record of `index` ends in the bytes held; 0 for the base.
    fn end(&self, index: Index) -> usize {
        let end = self.place(index).map_or(0, |place| place.end.saturating_sub(self.start));
        usize::try_from(end).expect("what is held fits into memory")
    }
}

impl Storage for MemoryStorage {
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.hard_state
    }

    fn base(&self) -> EntryId {
        self.base
    }

    fn last(&self) -> EntryId {
        match self.places.back() {
            Some(place) => EntryId::new(place.term, self.base.index.plus(self.places.len() as u64)),
            None => self.base,
        }
    }

    fn last_time(&self) -> ClusterTime {
        self.places.back().map_or(self.base_time, |place| place.time)
    }

    fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index { Some(self.base.term) } else { self.place(index).map(|place| place.term) }
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        if from <= self.base.index || from > self.last().index {
            return Err(ReadError::Missing(from));
        }
        let start = self.end(from.previous());
        let through = through.min(self.last().index);
        let mut last = from;
        while last < through && self.end(last.next()) - start <= bytes_max {
            last = last.next();
        }
        let previous = EntryId::new(self.term(from.previous()).unwrap_or_default(), from.previous());
        let bytes = self.bytes.get(start..self.end(last)).expect("places lie within the bytes");
        Ok(Records::verified(previous, bytes).expect("the log holds what was appended, in order"))
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        assert_eq!(header.index, self.last().index.next(), "entries are appended in order");
        self.bytes.extend_from_slice(&header.encode());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let end = self.start.saturating_add(self.bytes.len() as u64);
        self.places.push_back(Place { end, term: header.term, time: header.time });
        Ok(())
    }

    fn truncate(&mut self, last: Index) {
        assert!(last >= self.base.index, "compacted entries cannot be dropped");
        self.bytes.truncate(if last < self.last().index { self.end(last) } else { usize::MAX });
        self.places.truncate(usize::try_from(last.since(self.base.index)).unwrap_or(usize::MAX));
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    fn flush(&mut self) -> Result<(), Never> {
        let saved = Saved { hard_state: self.hard_state, through: self.last() };
        self.metrics.syncs += 1;
        let flushed = self.flushed.through.index.max(self.base.index);
        self.metrics.entries_synced += saved.through.index.since(flushed);
        self.flushed = saved;
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        Ok(Saved { hard_state: self.hard_state, through: self.last() })
    }

    fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot.as_ref().map(|(id, _)| *id)
    }

    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let (_, bytes) = self.snapshot.as_ref().ok_or(ReadError::Missing(Index::ZERO))?;
        Ok(piece(bytes, offset, bytes_max))
    }

    fn begin_draft(&mut self) {
        self.draft = Some(Vec::new());
    }

    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.draft.as_mut().ok_or(Full)?.extend_from_slice(bytes);
        Ok(())
    }

    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let bytes = self.draft.as_ref().ok_or(ReadError::Missing(Index::ZERO))?;
        Ok(piece(bytes, offset, bytes_max))
    }

    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        let draft = self.draft.take().expect("a draft that is adopted was begun");
        assert_eq!(draft.len() as u64, snapshot.bytes, "a draft that is adopted is whole");
        let SnapshotId { through, time, .. } = snapshot;
        let latest = self.snapshot().map_or(Index::ZERO, |latest| latest.through.index);
        if self.term(through.index) == Some(through.term) {
            if through.index > latest {
                self.snapshot = Some((snapshot, draft));
            }
            return;
        }
        assert!(through.index > latest.max(self.base.index), "a log is not replaced by what lies before it");
        (self.base, self.base_time) = (through, time);
        (self.places, self.bytes) = Default::default();
        self.snapshot = Some((snapshot, draft));
        self.start = 0;
    }

    fn compact(&mut self, index: Index) {
        let Some(id) = self.snapshot() else { return };
        let index = index.min(id.through.index);
        let Some(&place) = self.place(index) else { return };
        let end = self.end(index);
        let entries = usize::try_from(index.since(self.base.index)).unwrap_or(usize::MAX);
        self.bytes.drain(..end);
        self.bytes.shrink_to_fit();
        self.places.drain(..entries.min(self.places.len()));
        self.places.shrink_to_fit();
        (self.base, self.base_time, self.start) = (EntryId::new(place.term, index), place.time, place.end);
    }

    fn bytes_behind(&self, index: Index) -> u64 {
        let behind = if index >= self.last().index { self.bytes.len() } else { self.end(index) };
        self.bytes.len().saturating_sub(behind) as u64
    }

    fn metrics(&self) -> StorageMetrics {
        self.metrics
    }
}

/// The bytes from `offset` on: `bytes_max` of them, or all that are left.
fn piece(bytes: &[u8], offset: u64, bytes_max: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(bytes_max).min(bytes.len());
    bytes.get(start..end).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::crc::crc32c;
    use raft_core::entry::EntryKind;

    fn append(log: &mut MemoryStorage, term: u64, payload: &[u8]) {
        let id = EntryId::new(Term(term), log.last().index.next());
        let header = EntryHeader::new(id, ClusterTime(id.index.0 * 10), EntryKind::Operation, &[payload]).unwrap();
        log.append(&header, &[payload]).unwrap();
    }

    fn snapshot(log: &mut MemoryStorage, through: EntryId, content: &[u8]) -> SnapshotId {
        log.begin_draft();
        log.extend_draft(content).unwrap();
        let time = ClusterTime(through.index.0 * 10);
        let id = SnapshotId { through, time, bytes: content.len() as u64, checksum: crc32c(0, content) };
        log.adopt_draft(id);
        id
    }

    fn payloads(log: &mut MemoryStorage) -> Vec<u8> {
        let (from, through) = (log.base().index.next(), log.last().index);
        log.read(from, through, usize::MAX).unwrap().iter().map(|entry| entry.payload[0]).collect()
    }

    #[test]
    fn compaction_frees_what_a_snapshot_covers() {
        let mut log = MemoryStorage::new();
        for byte in b"abcdef" {
            append(&mut log, 1, &[*byte; 1000]);
        }
        log.compact(Index(3));
        assert_eq!(log.base(), EntryId::ZERO, "there is no snapshot");
        let id = snapshot(&mut log, EntryId::new(Term(1), Index(4)), b"state");
        assert_eq!((log.snapshot(), payloads(&mut log)), (Some(id), b"abcdef".to_vec()));
        log.compact(Index(3));
        assert_eq!(
            (log.base().index, payloads(&mut log), log.bytes_behind(Index(5))),
            (Index(3), b"def".to_vec(), 1032)
        );
        log.compact(Index(9));
        assert_eq!(
            (log.base().index, payloads(&mut log), log.bytes_behind(Index(0))),
            (Index(4), b"ef".to_vec(), 2064)
        );
        assert!(log.bytes.capacity() < 2100 && log.term(Index(3)).is_none());
        assert_eq!(log.read(Index(4), Index(4), 1), Err(ReadError::Missing(Index(4))));
        append(&mut log, 2, b"g");
        log.truncate(Index(5));
        append(&mut log, 3, b"h");
        assert_eq!((payloads(&mut log), log.last_time()), (b"eh".to_vec(), ClusterTime(60)));
        log.truncate(Index(4));
        assert_eq!((log.last(), log.last_time()), (log.base(), ClusterTime(40)));
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_hold_replaces_it() {
        let mut log = MemoryStorage::new();
        append(&mut log, 1, b"a");
        append(&mut log, 1, b"b");
        log.flush().unwrap();
        let id = snapshot(&mut log, EntryId::new(Term(2), Index(2)), b"state");
        log.flush().unwrap();
        assert_eq!((log.base(), log.last(), log.last_time()), (id.through, id.through, ClusterTime(20)));
        assert_eq!((log.snapshot(), log.metrics().entries_synced), (Some(id), 2));
        assert_eq!(log.read_snapshot(1, 3), Ok(b"tat".as_slice()));
        assert_eq!(log.read_snapshot(9, 3), Ok([].as_slice()));
        append(&mut log, 2, b"c");
        assert_eq!((payloads(&mut log), log.bytes_behind(Index(2))), (b"c".to_vec(), 33));
        snapshot(&mut log, EntryId::new(Term(2), Index(2)), b"again");
        assert_eq!(log.snapshot(), Some(id), "it is no newer");
        assert_eq!(log.read_draft(0, 3), Err(ReadError::Missing(Index::ZERO)));
    }
}
