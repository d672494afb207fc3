//! Reading the batches of a segment, and judging what stands where they end.

use raft_core::crc::crc32c;
use raft_core::types::Index;

use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};
use crate::format::{
    BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, FIRST_BATCH, SECTOR_BYTES, SegmentHeader, batch_start, zero_sectors,
};
use crate::reader::Window;

/// What stands behind the last good batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Only zeros: all that was written is there.
    Clean,
    /// The batch that seals the segment: there is a next one.
    Sealed,
    /// A batch that was being written when the power went: parts of it were never written.
    /// `through` is where the last byte that is not zero ends.
    Torn { through: u64 },
    /// A batch that was written in full, as far as one can see, but is damaged. It may have been
    /// acknowledged.
    Suspect { through: u64 },
    /// Something behind it proves that what should stand here was durable; entries up to `last` are concerned at least,
    /// as far as that is known.
    Damaged { last: Index },
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A whole batch with right checksums, at the end of the chain so far.
    Batch(BatchHeader, &'a [u8]),
    /// No batch; said again if asked again.
    End(Tail),
}

/// Goes through the batches of one segment from the first on.
#[derive(Debug)]
pub(crate) struct Scanner<'f, F: Files> {
    files: &'f F,
    pub(crate) file: F::File,
    pub(crate) header: SegmentHeader,
    /// The file's length.
    length: u64,
    window: Window,
    /// Where the last good batch ends.
    pub(crate) end: u64,
    /// The checksum of the last good batch.
    pub(crate) chain: u32,
}

impl<'f, F: Files> Scanner<'f, F> {
    pub(crate) fn new(files: &'f F, file: F::File, header: SegmentHeader, length: u64) -> Scanner<'f, F> {
        Scanner { files, file, header, length, window: Window::new(LOOK_BYTES), end: FIRST_BATCH, chain: header.chain }
    }

    /// Where the next batch starts, if there is one.
    pub(crate) fn start(&self) -> u64 {
        batch_start(self.end)
    }

    /// Reads the next batch.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, DiskError> {
        let start = self.start();
        let header = self.header_at(start)?;
        let Some(header) = header.filter(|header| header.salt == self.header.salt && header.offset == start) else {
            return self.judge(start, None).map(Step::End);
        };
        if header.chain != self.chain {
            // It followed another batch than the one that is there now.
            return Ok(Step::End(Tail::Damaged { last: header.previous.index }));
        }
        if header.seals {
            return Ok(Step::End(Tail::Sealed));
        }
        let whole = self.records(&header)?.is_some_and(|records| crc32c(0, records) == header.records_checksum);
        if !whole {
            return self.judge(start, Some(header)).map(Step::End);
        }
        (self.end, self.chain) = (header.end(), header.link());
        let records = self.records(&header)?.expect("the records were there when they were verified");
        Ok(Step::Batch(header, records))
    }

    /// The header at `offset`, if one that is whole stands there.
    fn header_at(&mut self, offset: u64) -> Result<Option<BatchHeader>, DiskError> {
        let bytes = self.bytes(offset, BATCH_HEADER_BYTES)?;
        Ok(bytes.and_then(|bytes| bytes.first_chunk()).and_then(BatchHeader::decode))
    }

    /// A batch's records, as far as length goes. What is asked for is never more than the file has.
    fn records(&mut self, header: &BatchHeader) -> Result<Option<&[u8]>, DiskError> {
        let Ok(length) = usize::try_from(header.records_bytes) else { return Ok(None) };
        self.bytes(header.records_offset(), length)
    }

    fn bytes(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>, DiskError> {
        let bytes = self.window.get(self.files, &self.file, self.length, offset, length);
        bytes.map_err(DiskError::at(Operation::Read, Name::Segment(self.header.number), offset))
    }

    /// Says what a place is where no good batch starts, from what stands there and behind it.
    /// `header` is the batch's header if that is good and only its records are not.
    fn judge(&mut self, start: u64, header: Option<BatchHeader>) -> Result<Tail, DiskError> {
        let through = match self.look_behind(start)? {
            Behind::Witness(witness) => return Ok(Tail::Damaged { last: witness.previous.index }),
            Behind::Zeros => return Ok(Tail::Clean),
            Behind::Bytes { through } => through,
        };
        if let Some(header) = header
            && through > header.end().next_multiple_of(SECTOR_BYTES)
        {
            // A later batch was begun, which happens only when this one is synced.
            return Ok(Tail::Damaged { last: header.previous.index.plus(u64::from(header.entries)) });
        }
        let torn = match header {
            Some(header) => match self.records(&header)? {
                Some(records) => zero_sectors(header.records_offset(), records) > header.zero_sectors,
                None => true,
            },
            // The sector of a header is written whole or not at all, so that what is neither a
            // header nor zeros is no torn write, unless the file ends within it.
            None => match self.bytes(start, BATCH_HEADER_BYTES)? {
                Some(bytes) => bytes.iter().all(|&byte| byte == 0),
                None => true,
            },
        };
        Ok(if torn { Tail::Torn { through } } else { Tail::Suspect { through } })
    }

    /// Looks for a proof that what stands at `start` was durable: a later batch that says so. That
    /// a later batch is there proves nothing by itself, since sectors reach a disk in any order.
    fn look_behind(&mut self, start: u64) -> Result<Behind, DiskError> {
        let mut through = None;
        let mut offset = start;
        while offset < self.length {
            let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            let Some(bytes) = self.bytes(offset, left.min(LOOK_BYTES))? else { break };
            let read = bytes.len();
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                through = Some(offset.saturating_add(last as u64 + 1));
                let starts_batch = |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(&BATCH_MAGIC));
                let places: Vec<usize> = (0..read).step_by(8).filter(starts_batch).collect();
                for place in places {
                    let at = offset.saturating_add(place as u64);
                    if let Some(witness) = self.header_at(at)?
                        && (witness.salt, witness.offset) == (self.header.salt, at)
                        && witness.durable > start
                    {
                        return Ok(Behind::Witness(witness));
                    }
                }
            }
            offset = offset.saturating_add(read as u64);
        }
        Ok(through.map_or(Behind::Zeros, |through| Behind::Bytes { through }))
    }
}

/// How much is looked through at once. A multiple of 8, as batches start at such.
const LOOK_BYTES: usize = 256 << 10;

enum Behind {
    Zeros,
    Bytes { through: u64 },
    Witness(BatchHeader),
}
