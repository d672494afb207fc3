//! A log on the heap.

use raft_core::entry::{EntryHeader, Records};
use raft_core::ring::Never;
use raft_core::storage::{Full, HardState, ReadError, Saved, Storage, StorageMetrics};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

/// A log on the heap that is as durable as the process. It holds all entries, without a bound.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    hard_state: HardState,
    /// Where each record ends, with the entry's term and time.
    places: Vec<(usize, Term, ClusterTime)>,
    bytes: Vec<u8>,
    metrics: StorageMetrics,
    flushed: Saved,
}

impl MemoryStorage {
    /// An empty log.
    #[must_use]
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    fn place(&self, index: Index) -> Option<&(usize, Term, ClusterTime)> {
        self.places.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    fn end(&self, index: Index) -> usize {
        self.place(index).map_or(0, |&(end, ..)| end)
    }
}

impl Storage for MemoryStorage {
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.hard_state
    }

    fn base(&self) -> EntryId {
        EntryId::ZERO
    }

    fn last(&self) -> EntryId {
        match self.places.last() {
            Some(&(_, term, _)) => EntryId::new(term, Index(self.places.len() as u64)),
            None => EntryId::ZERO,
        }
    }

    fn last_time(&self) -> ClusterTime {
        self.places.last().map_or(ClusterTime::default(), |&(.., time)| time)
    }

    fn term(&self, index: Index) -> Option<Term> {
        if index == Index::ZERO { Some(Term::ZERO) } else { self.place(index).map(|&(_, term, _)| term) }
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        if from == Index::ZERO || from > self.last().index {
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
        self.places.push((self.bytes.len(), header.term, header.time));
        Ok(())
    }

    fn truncate(&mut self, last: Index) {
        self.bytes.truncate(self.end(last));
        self.places.truncate(usize::try_from(last.0).unwrap_or(usize::MAX));
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    fn flush(&mut self) -> Result<(), Never> {
        let saved = Saved { hard_state: self.hard_state, through: self.last() };
        self.metrics.syncs += 1;
        self.metrics.entries_synced += saved.through.index.since(self.flushed.through.index);
        self.flushed = saved;
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        Ok(Saved { hard_state: self.hard_state, through: self.last() })
    }

    fn metrics(&self) -> StorageMetrics {
        self.metrics
    }
}
