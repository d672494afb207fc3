//! A log with snapshots in fixed memory: the storage of a device whose machine is small.
//!
//! Two areas of `BYTES` bytes each stand beside the log: one holds the latest snapshot, the other
//! the draft. A snapshot that does not fit cannot be made or received; then the log fills up, so
//! `BYTES` has to be chosen for the largest state and session table there can be.

use crate::entry::{EntryHeader, Records};
use crate::ring::{Never, RingLog};
use crate::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage};
use crate::types::{ClusterTime, EntryId, Index, Term};

/// A [`RingLog`] and its snapshots of at most `BYTES` bytes each:
/// `RingSnapshots<RingLog<64, 4096>, 2048>`.
#[derive(Clone, Debug)]
pub struct RingSnapshots<L, const BYTES: usize> {
    log: L,
    snapshot: Option<SnapshotId>,
    /// How long the draft is.
    draft: Option<usize>,
    areas: [[u8; BYTES]; 2],
    /// Which of the areas holds the snapshot.
    first_is_snapshot: bool,
}

impl<const ENTRIES: usize, const LOG_BYTES: usize, const BYTES: usize> Default
    for RingSnapshots<RingLog<ENTRIES, LOG_BYTES>, BYTES>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const ENTRIES: usize, const LOG_BYTES: usize, const BYTES: usize>
    RingSnapshots<RingLog<ENTRIES, LOG_BYTES>, BYTES>
{
    /// An empty log without a snapshot.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(BYTES > 0, "a snapshot has room for a byte") };
        RingSnapshots {
            log: RingLog::new(),
            snapshot: None,
            draft: None,
            areas: [[0; BYTES]; 2],
            first_is_snapshot: true,
        }
    }
}

impl<L, const BYTES: usize> RingSnapshots<L, BYTES> {
    /// The log alone.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.log
    }

    fn snapshot_area(&self) -> &[u8; BYTES] {
        let [first, second] = &self.areas;
        if self.first_is_snapshot { first } else { second }
    }

    fn draft_area(&mut self) -> &mut [u8; BYTES] {
        let [first, second] = &mut self.areas;
        if self.first_is_snapshot { second } else { first }
    }
}

impl<const ENTRIES: usize, const LOG_BYTES: usize, const BYTES: usize> Storage
    for RingSnapshots<RingLog<ENTRIES, LOG_BYTES>, BYTES>
{
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.log.hard_state()
    }

    fn base(&self) -> EntryId {
        self.log.base()
    }

    fn last(&self) -> EntryId {
        self.log.last()
    }

    fn last_time(&self) -> ClusterTime {
        self.log.last_time()
    }

    fn term(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        self.log.read(from, through, bytes_max)
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        self.log.append(header, parts)
    }

    fn append_records(&mut self, records: Records<'_>) -> Result<(), Full> {
        self.log.append_records(records)
    }

    fn truncate(&mut self, last: Index) {
        self.log.truncate(last);
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.log.set_hard_state(hard_state);
    }

    fn flush(&mut self) -> Result<(), Never> {
        self.log.flush()
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        self.log.saved()
    }

    fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot
    }

    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let snapshot = self.snapshot.ok_or(ReadError::Missing(Index::ZERO))?;
        let length = usize::try_from(snapshot.bytes).unwrap_or(BYTES);
        Ok(piece(self.snapshot_area(), length, offset, bytes_max))
    }

    fn begin_draft(&mut self) {
        self.draft = Some(0);
    }

    /// A draft that outgrows its area is dropped.
    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let length = self.draft.take().ok_or(Full)?;
        let room = self.draft_area().get_mut(length..).and_then(|rest| rest.get_mut(..bytes.len()));
        room.ok_or(Full)?.copy_from_slice(bytes);
        self.draft = Some(length + bytes.len());
        Ok(())
    }

    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Never>> {
        let length = self.draft.ok_or(ReadError::Missing(Index::ZERO))?;
        Ok(piece(self.draft_area(), length, offset, bytes_max))
    }

    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        let length = self.draft.take().expect("a draft that is adopted was begun");
        assert_eq!(length as u64, snapshot.bytes, "a draft that is adopted is whole");
        let through = snapshot.through;
        let latest = self.snapshot.map_or(Index::ZERO, |latest| latest.through.index);
        if self.log.term(through.index) != Some(through.term) {
            assert!(through.index > latest.max(self.log.base().index), "a log is not replaced by what lies before it");
            self.log.reset(through, snapshot.time);
        } else if through.index <= latest {
            return;
        }
        self.snapshot = Some(snapshot);
        self.first_is_snapshot = !self.first_is_snapshot;
    }

    fn compact(&mut self, index: Index) {
        if let Some(snapshot) = self.snapshot {
            self.log.compact(index.min(snapshot.through.index));
        }
    }

    fn bytes_behind(&self, index: Index) -> u64 {
        self.log.bytes_behind(index)
    }
}

/// Of the first `length` bytes of an area those from `offset` on: `bytes_max`, or all that are left.
fn piece(area: &[u8], length: usize, offset: u64, bytes_max: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(length);
    let end = start.saturating_add(bytes_max).min(length);
    area.get(start..end).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc::crc32c;
    use crate::entry::EntryKind;
    use crate::types::NodeId;

    type Small = RingSnapshots<RingLog<8, 200>, 16>;

    fn append(log: &mut Small, term: u64, payload: &[u8]) -> Result<(), Full> {
        let id = EntryId::new(Term(term), log.last().index.next());
        let header = EntryHeader::new(id, ClusterTime(id.index.0 * 10), EntryKind::Operation, &[payload]).unwrap();
        log.append(&header, &[payload])
    }

    fn snapshot(log: &mut Small, term: u64, index: u64, content: &[u8]) -> SnapshotId {
        log.begin_draft();
        for byte in content {
            log.extend_draft(&[*byte]).unwrap();
        }
        let through = EntryId::new(Term(term), Index(index));
        let time = ClusterTime(index * 10);
        let id = SnapshotId { through, time, bytes: content.len() as u64, checksum: crc32c(0, content) };
        log.adopt_draft(id);
        id
    }

    #[test]
    fn a_snapshot_makes_room_in_the_log() {
        let mut log = Small::new();
        assert_eq!((log.snapshot(), log.read_snapshot(0, 1)), (None, Err(ReadError::Missing(Index::ZERO))));
        for payload in [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"dddddddd", b"eeeeeeee"] {
            append(&mut log, 1, payload).unwrap();
        }
        assert_eq!(append(&mut log, 1, b"f"), Err(Full));
        log.compact(Index(5));
        assert_eq!(log.base(), EntryId::ZERO, "nothing is dropped that no snapshot covers");
        let id = snapshot(&mut log, 1, 3, b"abc");
        assert_eq!((log.snapshot(), log.base(), log.bytes_behind(Index(3))), (Some(id), EntryId::ZERO, 80));
        log.compact(Index(5));
        assert_eq!((log.base(), log.bytes_behind(Index(0))), (id.through, 80));
        append(&mut log, 1, b"ffffffff").unwrap();
        assert_eq!((log.bytes_behind(Index(3)), log.bytes_behind(Index(5)), log.bytes_behind(Index(6))), (120, 40, 0));
        assert_eq!(log.read_snapshot(1, 9), Ok(b"bc".as_slice()));
    }

    #[test]
    fn a_draft_leaves_the_snapshot_alone_and_must_fit() {
        let mut log = Small::new();
        append(&mut log, 1, b"a").unwrap();
        append(&mut log, 1, b"b").unwrap();
        assert_eq!(log.extend_draft(b"x"), Err(Full), "none was begun");
        let id = snapshot(&mut log, 1, 1, b"first");
        log.begin_draft();
        log.extend_draft(b"0123456789").unwrap();
        assert_eq!(log.read_draft(8, 9), Ok(b"89".as_slice()));
        assert_eq!(log.read_draft(11, 1), Ok([].as_slice()));
        assert_eq!(log.extend_draft(b"0123456"), Err(Full));
        assert_eq!(log.read_draft(0, 1), Err(ReadError::Missing(Index::ZERO)), "what did not fit is gone");
        assert_eq!((log.snapshot(), log.read_snapshot(0, 99)), (Some(id), Ok(b"first".as_slice())));
        snapshot(&mut log, 1, 1, b"again");
        assert_eq!(log.read_snapshot(0, 99), Ok(b"first".as_slice()), "it is no newer");
        snapshot(&mut log, 1, 2, b"0123456789abcdef");
        assert_eq!(log.read_snapshot(0, 99), Ok(b"0123456789abcdef".as_slice()));
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_hold_replaces_it() {
        let mut log = Small::new();
        append(&mut log, 1, b"a").unwrap();
        append(&mut log, 1, b"b").unwrap();
        let id = snapshot(&mut log, 3, 2, b"received");
        assert_eq!((log.base(), log.last(), log.last_time()), (id.through, id.through, ClusterTime(20)));
        assert_eq!((log.snapshot(), log.saved().unwrap().through), (Some(id), id.through));
        assert_eq!((log.term(Index(1)), log.read(Index(2), Index(2), 9)), (None, Err(ReadError::Missing(Index(2)))));
        append(&mut log, 3, b"c").unwrap();
        assert_eq!(log.read(Index(3), Index(3), 9).unwrap().last(), EntryId::new(Term(3), Index(3)));
    }

    #[test]
    fn the_log_beside_the_snapshots_is_a_whole_one() {
        let mut log = Small::new();
        let hard_state = HardState { term: Term(2), vote: NodeId::new(3), expelled: None };
        log.set_hard_state(hard_state);
        for payload in [b"a", b"b", b"c"] {
            append(&mut log, 1, payload).unwrap();
        }
        log.truncate(Index(2));
        let last = EntryId::new(Term(1), Index(2));
        assert_eq!((log.last(), log.last_time(), log.term(Index(2))), (last, ClusterTime(20), Some(Term(1))));
        assert_eq!((log.hard_state(), log.saved()), (hard_state, Ok(Saved { hard_state, through: last })));
        let mut copy = Small::new();
        copy.append_records(log.read(Index(1), Index(2), 99).unwrap()).unwrap();
        assert_eq!(copy.last(), last);
    }
}
