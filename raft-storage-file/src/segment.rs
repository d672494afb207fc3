//! A segment that is written: made from zeros, filled batch by batch, sealed.

use raft_core::crc::crc32c;
use raft_core::storage::HardState;
use raft_core::types::{EntryId, Incarnation};

use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};
use crate::format::{self, BATCH_HEADER_BYTES, BatchHeader, FIRST_BATCH, SegmentHeader, batch_start};

/// A segment that gets longer than was planned does so by multiples of this.
const GROW_BYTES: u64 = 4 << 10;
/// How many zeros are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The last segment of the log, to which batches are added.
#[derive(Debug)]
pub(crate) struct Segment<F: Files> {
    pub(crate) number: u64,
    file: F::File,
    salt: u64,
    /// How many bytes were filled with zeros ahead. Writing beyond them works, but is slower.
    pub(crate) prepared_bytes: u64,
    /// Where the last batch ends.
    pub(crate) end: u64,
    /// The checksum of the last batch of the log.
    pub(crate) chain: u32,
}

/// What a batch makes durable besides its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFrame {
    /// The entry that the records follow.
    pub(crate) previous: EntryId,
    pub(crate) hard_state: HardState,
    pub(crate) entries: u32,
    /// Whether a snapshot takes the place of the log, of which `previous` is the last entry.
    pub(crate) resets: bool,
}

/// What the log is where a segment begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) incarnation: Incarnation,
    pub(crate) base: EntryId,
    pub(crate) last: EntryId,
    pub(crate) hard_state: HardState,
}

impl<F: Files> Segment<F> {
    /// Makes the first segment of a log, durably.
    pub(crate) fn first(files: &F, beginning: Beginning, bytes: u64) -> Result<Segment<F>, DiskError> {
        let file = zeros(files, bytes)?;
        Segment::begin(files, file, beginning, bytes, 1, 0, 0)
    }

    /// Takes a segment that holds the batches up to `end` already.
    pub(crate) fn resume(file: F::File, header: &SegmentHeader, end: u64, chain: u32) -> Segment<F> {
        let (number, salt, prepared_bytes) = (header.number, header.salt, header.prepared_bytes.max(end));
        Segment { number, file, salt, prepared_bytes, end, chain }
    }

    /// Makes the segment behind this one from the spare file, which holds `bytes` zeros. When it is
    /// durable, seals this one: so that a log whose last segment is gone is not taken for whole.
    pub(crate) fn next(
        &self,
        files: &F,
        spare: F::File,
        beginning: Beginning,
        bytes: u64,
    ) -> Result<Segment<F>, DiskError> {
        let next = Segment::begin(files, spare, beginning, bytes, self.number + 1, self.end, self.chain)?;
        self.seal(files, beginning)?;
        Ok(next)
    }

    fn begin(
        files: &F,
        file: F::File,
        beginning: Beginning,
        prepared_bytes: u64,
        number: u64,
        previous_end: u64,
        chain: u32,
    ) -> Result<Segment<F>, DiskError> {
        let Beginning { incarnation, base, last, hard_state } = beginning;
        let salt = format::salt(incarnation, number, chain);
        let header =
            SegmentHeader { incarnation, number, salt, prepared_bytes, base, last, hard_state, previous_end, chain };
        files.write_at(&file, &header.encode(), 0).map_err(DiskError::at(Operation::Write, Name::Spare, 0))?;
        // The header is durable before the name is: a segment without a header is always damage.
        files.sync_data(&file).map_err(DiskError::of(Operation::Sync, Name::Spare))?;
        let name = Name::Segment(number);
        files.rename(Name::Spare, name).map_err(DiskError::of(Operation::Rename, name))?;
        files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;
        Ok(Segment { number, file, salt, prepared_bytes, end: FIRST_BATCH, chain })
    }

    /// Writes the last batch of this segment, which says that there is a next one.
    pub(crate) fn seal(&self, files: &F, beginning: Beginning) -> Result<(), DiskError> {
        let frame =
            BatchFrame { previous: beginning.last, hard_state: beginning.hard_state, entries: 0, resets: false };
        let header = self.header(frame, &[], true);
        self.write(files, &header.encode(), header.offset)
    }

    /// How long a segment is that holds one batch with `records_bytes`, and the one that seals it.
    pub(crate) fn bytes_with(records_bytes: usize) -> u64 {
        sealed_end(FIRST_BATCH, records_bytes)
    }

    /// Where this segment would end with another batch with `records_bytes`, and the one that seals it: on a full disk,
    /// there may be no room for that behind what was prepared.
    pub(crate) fn end_with(&self, records_bytes: usize) -> u64 {
        sealed_end(self.end, records_bytes)
    }

    /// Fills the file with zeros up to `bytes` at least; returns whether there was room for it.
    pub(crate) fn grow(&mut self, files: &F, bytes: u64) -> Result<bool, DiskError> {
        let name = Name::Segment(self.number);
        let end = bytes.next_multiple_of(GROW_BYTES);
        while self.prepared_bytes < end {
            let step = end.saturating_sub(self.prepared_bytes).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(step).unwrap_or(0)).unwrap_or(&ZEROS);
            let offset = self.prepared_bytes;
            match files.write_at(&self.file, zeros, offset).map_err(DiskError::at(Operation::Write, name, offset)) {
                Ok(()) => self.prepared_bytes = offset.saturating_add(zeros.len() as u64),
                Err(error) if error.is_full() => return Ok(self.prepared_bytes >= bytes),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes a batch in one piece and makes it durable; gives where its records start. `buffer` is
    /// memory to put it together in.
    pub(crate) fn append(
        &mut self,
        files: &F,
        frame: BatchFrame,
        records: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<u64, DiskError> {
        let header = self.header(frame, records, false);
        buffer.clear();
        buffer.extend_from_slice(&header.encode());
        buffer.extend_from_slice(records);
        self.write(files, buffer, header.offset)?;
        (self.end, self.chain) = (header.end(), header.link());
        self.prepared_bytes = self.prepared_bytes.max(self.end);
        Ok(header.records_offset())
    }

    fn header(&self, frame: BatchFrame, records: &[u8], seals: bool) -> BatchHeader {
        let offset = batch_start(self.end);
        BatchHeader {
            records_bytes: u32::try_from(records.len()).expect("the bound on what is pending is far below 4 GiB"),
            entries: frame.entries,
            salt: self.salt,
            offset,
            // Every batch is synced before the next one is written.
            durable: offset,
            previous: frame.previous,
            hard_state: frame.hard_state,
            chain: self.chain,
            records_checksum: crc32c(0, records),
            zero_sectors: format::zero_sectors(offset.saturating_add(BATCH_HEADER_BYTES as u64), records),
            seals,
            resets: frame.resets,
        }
    }

    fn write(&self, files: &F, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let name = Name::Segment(self.number);
        files.write_at(&self.file, bytes, offset).map_err(DiskError::at(Operation::Write, name, offset))?;
        files.sync_data(&self.file).map_err(DiskError::of(Operation::Sync, name))
    }
}

fn sealed_end(end: u64, records_bytes: usize) -> u64 {
    let batch_end =
        |end: u64, bytes: u64| batch_start(end).saturating_add(BATCH_HEADER_BYTES as u64).saturating_add(bytes);
    batch_end(batch_end(end, records_bytes as u64), 0)
}

/// Makes the spare file with `bytes` zeros, while the caller waits.
pub(crate) fn zeros<F: Files>(files: &F, bytes: u64) -> Result<F::File, DiskError> {
    const STEP_BYTES: u64 = 256 << 10;
    let file = files.create(Name::Spare).map_err(DiskError::of(Operation::Open, Name::Spare))?;
    let zeros = vec![0; usize::try_from(bytes.min(STEP_BYTES)).unwrap_or(0)];
    let mut offset = 0;
    while offset < bytes {
        let step = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(zeros.len());
        let zeros = zeros.get(..step).unwrap_or(&zeros);
        files.write_at(&file, zeros, offset).map_err(DiskError::at(Operation::Write, Name::Spare, offset))?;
        offset = offset.saturating_add(zeros.len() as u64);
    }
    Ok(file)
}
