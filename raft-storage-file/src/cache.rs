//! The records of the log's tail in memory: what waits for its sync, and what peers read most.

use std::collections::VecDeque;

use raft_core::entry::EntryHeader;
use raft_core::types::{ClusterTime, Index};

/// Records one behind the other, in one piece of memory.
///
/// Places are positions in the stream of all bytes ever pushed, so that dropping bytes at the
/// front moves nothing that is remembered.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes: Vec<u8>,
    /// The position of `bytes`' first byte.
    origin: u64,
    /// The position of the first record; what lies before is dead. Invariant: `origin <= head`.
    head: u64,
    /// The index of the first record, whether it is there yet or not.
    first: Index,
    /// Where each record ends.
    ends: VecDeque<u64>,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache for the records from `first` on.
    pub(crate) fn new(first: Index, bytes_max: usize) -> Cache {
        Cache { bytes: Vec::new(), origin: 0, head: 0, first, ends: VecDeque::new(), bytes_max }
    }

    /// The first index held, or the next one to be pushed if there is none.
    pub(crate) fn first(&self) -> Index {
        self.first
    }

    fn end(&self) -> u64 {
        self.ends.back().copied().unwrap_or(self.head)
    }

    /// The position where the record of `index` starts, which is where the one before it ends;
    /// that of the end for the index behind the last.
    fn start_of(&self, index: Index) -> Option<u64> {
        match index.since(self.first) {
            0 => (index == self.first).then_some(self.head),
            before => self.ends.get(usize::try_from(before - 1).ok()?).copied(),
        }
    }

    fn between(&self, start: u64, end: u64) -> &[u8] {
        let offset = |position: u64| usize::try_from(position.saturating_sub(self.origin)).ok();
        let range = offset(start).zip(offset(end));
        range.and_then(|(start, end)| self.bytes.get(start..end)).expect("positions come from records that are held")
    }

    pub(crate) fn push(&mut self, header: &[u8], payload: &[&[u8]]) {
        self.bytes.extend_from_slice(header);
        for part in payload {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push_back(self.origin.saturating_add(self.bytes.len() as u64));
    }

    /// Drops the records behind `last`.
    pub(crate) fn truncate(&mut self, last: Index) {
        let kept = usize::try_from(last.next().since(self.first)).unwrap_or(usize::MAX);
        self.ends.truncate(kept);
        if last.next() < self.first {
            self.first = last.next();
        }
        let length = usize::try_from(self.end().saturating_sub(self.origin)).unwrap_or(usize::MAX);
        self.bytes.truncate(length);
    }

    /// Drops all records: the next one pushed is that of `first`.
    pub(crate) fn restart(&mut self, first: Index) {
        (self.origin, self.head, self.first) = (self.end(), self.end(), first);
        self.bytes.clear();
        self.ends.clear();
    }

    /// Drops records from the front until no more than the cache's bound is held, but none behind
    /// `through`.
    pub(crate) fn evict(&mut self, through: Index) {
        while self.end().saturating_sub(self.head) > self.bytes_max as u64 && self.first <= through {
            let Some(end) = self.ends.pop_front() else { break };
            self.head = end;
            self.first = self.first.next();
        }
        let dead = usize::try_from(self.head.saturating_sub(self.origin)).unwrap_or(usize::MAX);
        // Moving the living bytes only when the dead are as many as may live makes it cheap.
        if dead > self.bytes_max {
            self.bytes.drain(..dead.min(self.bytes.len()));
            self.origin = self.head;
        }
    }

    /// The bytes of the records of `from ..= through`, as many whole ones as fit into `bytes_max`
    /// but at least one; `None` if `from` is not held.
    pub(crate) fn read(&self, from: Index, through: Index, bytes_max: usize) -> Option<&[u8]> {
        let skipped = usize::try_from(from.since(self.first)).ok()?;
        if from < self.first || through < from || skipped >= self.ends.len() {
            return None;
        }
        let start = self.start_of(from)?;
        let wanted = usize::try_from(through.next().since(self.first)).unwrap_or(usize::MAX).min(self.ends.len());
        // The first record that does not fit any more, found in as many steps as bits.
        let limit = start.saturating_add(bytes_max as u64);
        let fitting = self.ends.partition_point(|&end| end <= limit);
        let last = fitting.clamp(skipped + 1, wanted.max(skipped + 1)) - 1;
        Some(self.between(start, *self.ends.get(last)?))
    }

    /// The bytes of all records from `from` on.
    pub(crate) fn tail(&self, from: Index) -> &[u8] {
        match self.start_of(from) {
            Some(start) => self.between(start, self.end()),
            None => &[],
        }
    }

    /// The first record at or behind `from` that starts `bytes` or more behind its start, and how
    /// far behind it starts.
    pub(crate) fn further(&self, from: Index, bytes: u64) -> Option<(Index, u64)> {
        let start = self.start_of(from)?;
        let before = self.ends.partition_point(|&end| end < start.saturating_add(bytes));
        let end = *self.ends.get(before)?;
        // The last record's end is no record's start.
        (before + 1 < self.ends.len()).then_some((self.first.plus(before as u64 + 1), end.saturating_sub(start)))
    }

    /// The cluster time of the entry at `index`, if it is held.
    pub(crate) fn time(&self, index: Index) -> Option<ClusterTime> {
        let bytes = self.read(index, index, 0)?;
        EntryHeader::decode(bytes).ok().map(|header| header.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes_max: usize) -> Cache {
        let mut cache = Cache::new(Index(5), bytes_max);
        for length in 1..=4 {
            cache.push(&vec![length; usize::from(length)], &[]);
        }
        cache
    }

    #[test]
    fn reads_whole_records_up_to_the_bounds_but_at_least_one() {
        let cache = filled(100);
        assert_eq!(cache.read(Index(5), Index(8), 100).unwrap().len(), 10);
        assert_eq!(cache.read(Index(6), Index(7), 100), Some([2, 2, 3, 3, 3].as_slice()));
        assert_eq!(cache.read(Index(6), Index(8), 4), Some([2, 2].as_slice()));
        assert_eq!(cache.read(Index(8), Index(8), 0), Some([4; 4].as_slice()));
        assert_eq!(cache.read(Index(4), Index(8), 100), None);
        assert_eq!(cache.read(Index(9), Index(9), 100), None);
        assert_eq!(cache.read(Index(6), Index(5), 100), None);
    }

    #[test]
    fn evicts_from_the_front_what_is_saved() {
        let mut cache = filled(4);
        cache.evict(Index(6));
        assert_eq!((cache.first(), cache.tail(Index(7)).len()), (Index(7), 7));
        cache.evict(Index(8));
        assert_eq!((cache.first(), cache.tail(Index(8))), (Index(8), [4; 4].as_slice()));
        cache.push(&[9], &[&[9], &[]]);
        assert_eq!(cache.tail(Index(8)), [4, 4, 4, 4, 9, 9]);
        assert_eq!(cache.tail(Index(10)), []);
    }

    #[test]
    fn truncates_within_and_before_what_is_held() {
        let mut cache = filled(100);
        cache.truncate(Index(6));
        assert_eq!(cache.tail(Index(5)), [1, 2, 2]);
        cache.evict(Index(6));
        cache.truncate(Index(2));
        assert_eq!((cache.first(), cache.tail(Index(3)).len()), (Index(3), 0));
        cache.push(&[7], &[]);
        assert_eq!(cache.tail(Index(3)), [7]);
    }

    #[test]
    fn restarts_anywhere() {
        let mut cache = filled(100);
        cache.restart(Index(50));
        assert_eq!(
            (cache.first(), cache.tail(Index(50)).len(), cache.read(Index(5), Index(5), 9)),
            (Index(50), 0, None)
        );
        cache.push(&[7], &[]);
        assert_eq!(cache.read(Index(50), Index(60), 9), Some([7].as_slice()));
    }

    #[test]
    fn finds_the_record_some_bytes_on() {
        let cache = filled(100);
        assert_eq!(cache.further(Index(5), 1), Some((Index(6), 1)));
        assert_eq!(cache.further(Index(5), 2), Some((Index(7), 3)));
        assert_eq!(cache.further(Index(6), 3), Some((Index(8), 5)));
        assert_eq!(cache.further(Index(5), 7), None);
    }
}
