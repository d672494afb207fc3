//! The log in memory: its ends, the terms of its entries, where on disk they lie, and its tail.

use raft_core::entry::{EntryHeader, RecordError, Records};
use raft_core::storage::HardState;
use raft_core::types::{ClusterTime, EntryId, Index, Term};

use crate::cache::Cache;

/// How far apart two marks are, in bytes: what a read from disk has to skip at most, against some
/// 40 bytes of memory for each.
const MARK_BYTES: u64 = 64 << 10;

/// Where on disk an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The entry's index.
    pub(crate) index: Index,
    /// The segment.
    pub(crate) segment: u64,
    /// Where in it the record starts.
    pub(crate) offset: u64,
    /// Where the batch that holds the record ends.
    pub(crate) batch_end: u64,
    /// Where it starts in [`Log::position`]'s count.
    pub(crate) position: u64,
}

/// What is known of the log without the disk. Changes of it are what a flush makes durable.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) hard_state: HardState,
    pub(crate) base: EntryId,
    /// The cluster time of the base if that is the snapshot's last entry. It is asked for only
    /// then: what a snapshot covers is never truncated.
    pub(crate) base_time: ClusterTime,
    /// Invariant: the term of `last.index` by `terms` is `last.term`.
    pub(crate) last: EntryId,
    pub(crate) last_time: ClusterTime,
    /// Whether `last_time` is: not after a truncation to an entry that is only on disk.
    pub(crate) last_time_known: bool,
    /// The first index of every run of entries of one term, from the base on. Never empty.
    terms: Vec<(Index, Term)>,
    /// By index. The entries from one mark up to the next one lie one behind the other on disk.
    marks: Vec<Mark>,
    /// Whether the next batch with entries will stand right behind the last one: not after a
    /// truncation, when entries that are dropped stand between them.
    continues: bool,
    /// The bytes of all records up to the last, counted from anywhere.
    position: u64,
    pub(crate) cache: Cache,
}

impl Log {
    /// A log that holds nothing behind `base`.
    pub(crate) fn new(base: EntryId, hard_state: HardState, cache_bytes: usize) -> Log {
        Log {
            hard_state,
            base,
            base_time: ClusterTime::default(),
            last: base,
            last_time: ClusterTime::default(),
            last_time_known: true,
            terms: vec![(base.index, base.term)],
            marks: Vec::new(),
            continues: true,
            position: 0,
            cache: Cache::new(base.index.next(), cache_bytes),
        }
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let runs = self.terms.partition_point(|&(first, _)| first <= index);
        self.terms.get(runs.checked_sub(1)?).map(|&(_, term)| term)
    }

    pub(crate) fn id(&self, index: Index) -> Option<EntryId> {
        Some(EntryId::new(self.term(index)?, index))
    }

    /// Whether `id` is an entry of the log, or its base.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    pub(crate) fn push(&mut self, header: &EntryHeader, encoded: &[u8], payload: &[&[u8]]) {
        let id = header.id();
        assert!(id.index == self.last.index.next(), "the caller has checked that the entry follows the last one");
        assert!(id.term >= self.last.term, "the caller has checked that terms do not go down");
        if id.term != self.last.term || self.last.index == self.base.index {
            self.terms.push((id.index, id.term));
        }
        self.cache.push(encoded, payload);
        self.position = self.position.saturating_add(header.record_bytes() as u64);
        (self.last, self.last_time, self.last_time_known) = (id, header.time, true);
    }

    /// Appends the records of a batch: `Err` if they do not follow the last entry. Their own
    /// checksums, made by the leader, are verified too, although the batch's was right: what went
    /// wrong in memory before the batch was written is found here.
    pub(crate) fn push_records(&mut self, bytes: &[u8]) -> Result<u32, RecordError> {
        let records = Records::check(self.last, bytes)?;
        for entry in records.iter() {
            self.push(&entry.header, &entry.header.encode(), &[entry.payload]);
        }
        Ok(records.entries())
    }

    /// Drops the entries behind `last`, at or behind the base. The cluster time of the last entry
    /// is the caller's to set if it is not in the cache.
    pub(crate) fn truncate(&mut self, last: Index) {
        assert!(last >= self.base.index, "the caller has checked that the base is kept");
        let Some(id) = self.id(last) else { return };
        let runs = self.terms.partition_point(|&(first, _)| first <= last);
        self.terms.truncate(runs.max(1));
        let marks = self.marks.partition_point(|mark| mark.index <= last);
        self.marks.truncate(marks);
        self.continues = false;
        let time = if last == self.base.index { Some(self.base_time) } else { self.cache.time(last) };
        self.position = self.position_of(last.next());
        self.cache.truncate(last);
        self.last = id;
        self.last_time_known = time.is_some();
        self.last_time = time.unwrap_or_default();
    }

    /// Puts `base` in the place of all that is held; its cluster time is `time`.
    pub(crate) fn reset(&mut self, base: EntryId, time: ClusterTime) {
        (self.base, self.base_time) = (base, time);
        (self.last, self.last_time, self.last_time_known) = (base, time, true);
        self.terms = vec![(base.index, base.term)];
        self.marks.clear();
        self.continues = false;
        self.cache.restart(base.index.next());
    }

    /// Forgets the entries up to `index`, which is held; `time` is its cluster time if a snapshot
    /// ends there.
    pub(crate) fn compact(&mut self, index: Index, time: ClusterTime) {
        let Some(base) = self.id(index) else { return };
        let runs = self.terms.partition_point(|&(first, _)| first <= index);
        self.terms.drain(..runs.saturating_sub(1));
        self.terms.shrink_to(self.terms.len().saturating_mul(2));
        // The mark that leads to the first entry that is left may stand before it.
        let marks = self.marks.partition_point(|mark| mark.index <= index.next());
        self.marks.drain(..marks.saturating_sub(1));
        self.marks.shrink_to(self.marks.len().saturating_mul(2));
        (self.base, self.base_time) = (base, time);
    }

    /// Where the record of `index` starts, or one that is at most [`MARK_BYTES`] and a record before
    /// it; the end for the index behind the last.
    fn position_of(&self, index: Index) -> u64 {
        if index >= self.cache.first() {
            return self.position.saturating_sub(self.cache.tail(index).len() as u64);
        }
        match self.locate(index) {
            Some((mark, _)) => mark.position,
            None => self.marks.first().map_or(self.position, |mark| mark.position),
        }
    }

    /// The bytes of the records behind `index`, and up to [`MARK_BYTES`] and a record more if they are
    /// not all in memory.
    pub(crate) fn bytes_behind(&self, index: Index) -> u64 {
        if index >= self.last.index {
            return 0;
        }
        self.position.saturating_sub(self.position_of(index.max(self.base.index).next()))
    }

    /// Takes note that the entries from `first` to the last, all in the cache, lie in one batch
    /// whose records start at `offset`.
    pub(crate) fn mark(&mut self, first: Index, segment: u64, offset: u64) {
        let records_bytes = self.cache.tail(first).len() as u64;
        let batch_end = offset.saturating_add(records_bytes);
        let start = self.position.saturating_sub(records_bytes);
        let near = |mark: &Mark| mark.segment == segment && offset < mark.offset.saturating_add(MARK_BYTES);
        if !(self.continues && self.marks.last().is_some_and(near)) {
            self.marks.push(Mark { index: first, segment, offset, batch_end, position: start });
        }
        self.continues = true;
        let (mut index, mut at) = (first, offset);
        while let Some((next, bytes)) = self.cache.further(index, MARK_BYTES) {
            (index, at) = (next, at.saturating_add(bytes));
            let position = start.saturating_add(at.saturating_sub(offset));
            self.marks.push(Mark { index, segment, offset: at, batch_end, position });
        }
    }

    /// The last mark at or before `index`, and the last index that lies behind it without a break.
    pub(crate) fn locate(&self, index: Index) -> Option<(Mark, Index)> {
        let before = self.marks.partition_point(|mark| mark.index <= index);
        let mark = self.marks.get(before.checked_sub(1)?)?;
        let through = self.marks.get(before).map_or(self.last.index, |next| next.index.previous());
        Some((*mark, through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::entry::EntryKind;

    fn push(log: &mut Log, term: u64, payload: &[u8]) {
        let id = EntryId::new(Term(term), log.last.index.next());
        let time = ClusterTime(id.index.0 * 10);
        let header = EntryHeader::new(id, time, EntryKind::Operation, &[payload]).unwrap();
        log.push(&header, &header.encode(), &[payload]);
    }

    fn log_of_terms(terms: &[u64]) -> Log {
        let mut log = Log::new(EntryId::ZERO, HardState::default(), 1 << 20);
        for &term in terms {
            push(&mut log, term, b"x");
        }
        log
    }

    #[test]
    fn terms_are_those_of_every_entry() {
        let terms = [1, 1, 2, 4, 4];
        let mut log = log_of_terms(&terms);
        for (index, &term) in (1..).zip(&terms) {
            assert_eq!(log.term(Index(index)), Some(Term(term)));
        }
        assert_eq!((log.term(Index(0)), log.term(Index(6))), (Some(Term(0)), None));
        log.truncate(Index(2));
        assert_eq!((log.last, log.last_time), (EntryId::new(Term(1), Index(2)), ClusterTime(20)));
        assert_eq!(log.term(Index(3)), None);
        push(&mut log, 5, b"y");
        assert!(log.holds(EntryId::new(Term(5), Index(3))));
        assert!(!log.holds(EntryId::new(Term(2), Index(3))));
        log.truncate(Index(0));
        assert_eq!((log.last, log.last_time), (EntryId::ZERO, ClusterTime(0)));
    }

    #[test]
    fn a_compacted_log_keeps_what_is_behind_its_base() {
        let mut log = log_of_terms(&[1, 1, 2, 4, 4, 5]);
        log.mark(Index(1), 1, 216);
        assert_eq!((log.bytes_behind(Index(0)), log.bytes_behind(Index(4)), log.bytes_behind(Index(9))), (198, 66, 0));
        log.compact(Index(4), ClusterTime(40));
        assert_eq!(log.base, EntryId::new(Term(4), Index(4)));
        let terms: Vec<_> = (3..8).map(|index| log.term(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [None, Some(4), Some(4), Some(5), None]);
        assert_eq!(log.locate(Index(5)).unwrap().0.index, Index(1), "the mark before the base leads there");
        assert_eq!(log.bytes_behind(Index(0)), 66);
        log.truncate(Index(4));
        assert_eq!((log.last, log.last_time, log.bytes_behind(Index(3))), (log.base, ClusterTime(40), 0));
        log.reset(EntryId::new(Term(7), Index(90)), ClusterTime(900));
        assert_eq!((log.last_time, log.term(Index(90)), log.term(Index(4))), (ClusterTime(900), Some(Term(7)), None));
        push(&mut log, 7, b"x");
        log.mark(Index(91), 1, 700);
        assert_eq!((log.bytes_behind(Index(90)), log.locate(Index(91)).unwrap().0.offset), (33, 700));
    }

    #[test]
    fn marks_follow_truncations_and_stand_in_long_batches() {
        let mut log = log_of_terms(&[]);
        for _ in 0..5 {
            push(&mut log, 1, &[7; 25 << 10]);
        }
        log.mark(Index(1), 1, 216);
        let record = (25 << 10) + 32;
        let (offset, batch_end) = (216 + 3 * record, 216 + 5 * record);
        let fourth = Mark { index: Index(4), segment: 1, offset, batch_end, position: 3 * record };
        assert_eq!(log.locate(Index(5)), Some((fourth, Index(5))));
        assert_eq!(log.locate(Index(2)).unwrap().1, Index(3));
        log.truncate(Index(4));
        push(&mut log, 2, b"other");
        // Near, but the entry that was dropped lies between.
        let offset = fourth.batch_end + 88;
        log.mark(Index(5), 1, offset);
        assert_eq!(log.locate(Index(4)), Some((fourth, Index(4))));
        assert_eq!(log.locate(Index(5)).unwrap().0.offset, offset);
        // Near, and right behind: found by way of the one before.
        push(&mut log, 2, b"next");
        log.mark(Index(6), 1, offset + 200);
        assert_eq!(log.locate(Index(6)).unwrap().0.index, Index(5));
        // Another segment.
        push(&mut log, 2, b"next");
        log.mark(Index(7), 2, offset + 300);
        assert_eq!(log.locate(Index(7)).unwrap().0.segment, 2);
        assert_eq!(log.locate(Index(0)), None);
    }
}
