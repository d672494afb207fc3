//! Reading entries that are no longer in memory.

use raft_core::entry::{Entry, EntryHeader, HEADER_BYTES, RecordError, Records};
use raft_core::types::{ClusterTime, Index};

use crate::error::{DiskError, Operation, StorageError};
use crate::files::{Files, Name};
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, batch_start};
use crate::log::{Log, Mark};
use crate::reader::Window;

/// Reads entries from the segments, one segment open at a time.
#[derive(Debug)]
pub(crate) struct DiskReader<F: Files> {
    open: Option<OpenSegment<F>>,
    records: Vec<u8>,
}

#[derive(Debug)]
struct OpenSegment<F: Files> {
    number: u64,
    file: F::File,
}

impl<F: Files> Default for DiskReader<F> {
    fn default() -> DiskReader<F> {
        DiskReader { open: None, records: Vec::new() }
    }
}

impl<F: Files> DiskReader<F> {
    /// Reads the records of `from ..= through`, which are on disk: as many as fit into `bytes_max`
    /// but at least one, and possibly fewer. Their checksums are verified.
    pub(crate) fn read(
        &mut self,
        files: &F,
        log: &Log,
        from: Index,
        through: Index,
        bytes_max: usize,
    ) -> Result<Records<'_>, StorageError> {
        let (mark, mark_through) = log.locate(from).expect("every entry on disk lies behind a mark");
        let previous = log.id(from.previous()).expect("the entry before one that is held is held, or the base");
        self.collect(files, mark, from, through.min(mark_through), bytes_max)?;
        let damaged = |source| StorageError::Damaged {
            name: Name::Segment(mark.segment),
            offset: mark.offset,
            index: from,
            source,
        };
        let records = Records::check(previous, &self.records).map_err(damaged)?;
        let last = records.last();
        if log.holds(last) { Ok(records) } else { Err(damaged(RecordError::Order { previous, found: last })) }
    }

    /// Lets go of a segment before `number`: the system frees a removed file when nobody has it open.
    pub(crate) fn release_before(&mut self, number: u64) {
        self.open.take_if(|open| open.number < number);
    }

    /// The cluster time of the entry at `index`, which is on disk.
    pub(crate) fn time(&mut self, files: &F, log: &Log, index: Index) -> Result<ClusterTime, StorageError> {
        let records = self.read(files, log, index, index, 0)?;
        Ok(records.iter().next().map_or(ClusterTime::default(), |entry: Entry<'_>| entry.header.time))
    }

    /// Puts the records' bytes into `self.records`.
    fn collect(
        &mut self,
        files: &F,
        mark: Mark,
        from: Index,
        through: Index,
        bytes_max: usize,
    ) -> Result<(), StorageError> {
        self.records.clear();
        let name = Name::Segment(mark.segment);
        let segment = match self.open.take() {
            Some(open) if open.number == mark.segment => open,
            _ => {
                let file = files.open(name).map_err(DiskError::of(Operation::Open, name))?;
                OpenSegment { number: mark.segment, file }
            }
        };
        let length = files.length(&segment.file).map_err(DiskError::of(Operation::Read, name))?;
        let (offset, batch_end) = (mark.offset, mark.batch_end);
        let window = Window::new(READ_BYTES);
        let mut cursor = Cursor { files, file: &segment.file, name, length, window, offset, batch_end, index: from };
        let mut index = mark.index;
        while index <= through {
            let header = cursor.header()?;
            if header.index != index {
                return Err(cursor.damaged());
            }
            let fits = self.records.len().saturating_add(header.record_bytes()) <= bytes_max;
            if index >= from && !(fits || self.records.is_empty()) {
                break;
            }
            let record = cursor.take(header.record_bytes())?;
            if index >= from {
                self.records.extend_from_slice(record);
            }
            index = index.next();
        }
        self.open = Some(segment);
        Ok(())
    }
}

/// How much is read at once: about what lies between two marks.
const READ_BYTES: usize = 64 << 10;

/// A place in a segment, within the records of a batch or at their end.
struct Cursor<'a, F: Files> {
    files: &'a F,
    file: &'a F::File,
    name: Name,
    length: u64,
    window: Window,
    offset: u64,
    batch_end: u64,
    /// The entry that is looked for, for errors.
    index: Index,
}

impl<F: Files> Cursor<'_, F> {
    fn damaged(&self) -> StorageError {
        StorageError::DamagedBatch { name: self.name, offset: self.offset, index: self.index }
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], StorageError> {
        let damaged = self.damaged();
        let bytes = self.window.get(self.files, self.file, self.length, self.offset, length);
        bytes.map_err(DiskError::at(Operation::Read, self.name, self.offset))?.ok_or(damaged)
    }

    /// The header of the next record, which may be in a later batch.
    fn header(&mut self) -> Result<EntryHeader, StorageError> {
        while self.offset >= self.batch_end {
            self.offset = batch_start(self.batch_end);
            let batch = self.bytes(BATCH_HEADER_BYTES)?.first_chunk().and_then(BatchHeader::decode);
            let batch = batch.filter(|batch| batch.offset == self.offset).ok_or(self.damaged())?;
            (self.offset, self.batch_end) = (batch.records_offset(), batch.end());
        }
        let header = EntryHeader::decode(self.bytes(HEADER_BYTES)?).map_err(|_| self.damaged())?;
        let end = self.offset.saturating_add(header.record_bytes() as u64);
        if end > self.batch_end { Err(self.damaged()) } else { Ok(header) }
    }

    /// The next `length` bytes; goes on behind them.
    fn take(&mut self, length: usize) -> Result<&[u8], StorageError> {
        let damaged = self.damaged();
        let offset = self.offset;
        self.offset = offset.saturating_add(length as u64);
        let bytes = self.window.get(self.files, self.file, self.length, offset, length);
        bytes.map_err(DiskError::at(Operation::Read, self.name, offset))?.ok_or(damaged)
    }
}
