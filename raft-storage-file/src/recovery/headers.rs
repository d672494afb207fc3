//! The segments of a directory, and where among them the log begins.

use raft_core::types::{EntryId, Index};

use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Name};
use crate::format::{FIRST_BATCH, HeaderError, Identity, SEGMENT_HEADER_BYTES, SegmentHeader};

/// The segments of a directory.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// Those behind the last gap, without gaps.
    pub(super) run: Vec<SegmentHeader>,
    /// Those before it. They were to be removed, if a snapshot covers all before the run; else the
    /// log has a hole.
    pub(super) before: Vec<Name>,
}

impl Headers {
    /// The segment that lacks if no snapshot covers all before the run; `None` if the run is the
    /// whole log.
    pub(super) fn missing(&self) -> Option<u64> {
        let first = self.run.first().map_or(1, |header| header.number);
        first.checked_sub(1).filter(|&number| number > 0)
    }
}

pub(super) fn missing(number: u64) -> OpenError {
    OpenError::SegmentMissing { name: Name::Segment(number) }
}

/// Reads the headers of the last segments, and checks that they are those of one log.
pub(super) fn read_headers<F: Files>(files: &F, identity: &Identity, names: &[Name]) -> Result<Headers, OpenError> {
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| match name {
            Name::Segment(number) => Some(*number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    let follows = |pair: &[u64]| matches!(pair, [one, next] if one.checked_add(1) == Some(*next));
    let run_start = numbers.windows(2).rposition(|pair| !follows(pair)).map_or(0, |gap| gap + 1);
    let run = numbers.split_off(run_start);
    let mut headers = Headers { run: Vec::with_capacity(run.len()), before: Vec::new() };
    headers.before.extend(numbers.into_iter().map(Name::Segment));
    for number in run {
        let after = headers.run.last().map_or(Index::ZERO, |header| header.last.index);
        let header = read_header(files, number, after)?;
        let beginning = (header.previous_end, header.chain, header.last) == (0, 0, EntryId::ZERO);
        if header.incarnation != identity.incarnation || header.number != number || (number == 1 && !beginning) {
            return Err(OpenError::SegmentForeign { name: Name::Segment(number) });
        }
        headers.run.push(header);
    }
    Ok(headers)
}

fn read_header<F: Files>(files: &F, number: u64, after: Index) -> Result<SegmentHeader, OpenError> {
    let name = Name::Segment(number);
    let file = files.open(name).map_err(DiskError::of(Operation::Open, name))?;
    let bytes = files.length(&file).map_err(DiskError::of(Operation::Read, name))?;
    let short = |needed| OpenError::SegmentShort { name, bytes, needed };
    if bytes < FIRST_BATCH {
        return Err(short(FIRST_BATCH));
    }
    let mut header = [0; SEGMENT_HEADER_BYTES];
    files.read_at(&file, &mut header, 0).map_err(DiskError::at(Operation::Read, name, 0))?;
    let header = SegmentHeader::decode(&header).map_err(|error| match error {
        HeaderError::Damaged => OpenError::SegmentDamaged { name, after },
        HeaderError::OtherVersion { version } => OpenError::OtherVersion { name, version },
    })?;
    if bytes < header.prepared_bytes { Err(short(header.prepared_bytes)) } else { Ok(header) }
}
