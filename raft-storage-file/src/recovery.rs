//! What a start makes of the files it finds.
//!
//! Everything is read and judged before anything is changed. The cases:
//!
//! | what is found | what happens |
//! |---|---|
//! | no directory, or no file of ours | [`OpenError::NotCreated`] |
//! | `identity.tmp` and no `identity` | [`OpenError::CreationUnfinished`]; creating again cleans up |
//! | segments and no `identity` | [`OpenError::IdentityMissing`] |
//! | `identity` with a wrong checksum or length | [`OpenError::IdentityDamaged`] |
//! | `identity` or a segment of a later format | [`OpenError::Newer`] |
//! | another cluster or node in `identity` | [`OpenError::WrongCluster`], [`OpenError::WrongNode`] |
//! | another process holds `lock` | [`OpenError::Locked`] |
//! | a gap in the segments, none at all, or a sealed one at the end | [`OpenError::SegmentMissing`] |
//! | a segment's header with a wrong checksum | [`OpenError::SegmentDamaged`] |
//! | a segment of another incarnation, number or chain | [`OpenError::SegmentForeign`] |
//! | a segment shorter than it was prepared | [`OpenError::SegmentShort`] |
//! | a bad batch in a segment that has a successor, or that a later batch proves to have been durable | [`OpenError::Damaged`] |
//! | whole batches that contradict each other, or hold damaged entries | [`OpenError::Contradiction`] |
//! | zeros behind the last batch | the log is whole |
//! | a last batch of which sectors were never written | cut, kept as `.torn`, said in [`Report::cut`] |
//! | a last batch that is damaged otherwise | [`OpenError::Suspect`], or cut: [`SuspectTail`] |
//! | `spare.tmp`, `rewrite.tmp` | removed |
//!
//! Only the last batch can be torn, because every batch is synced before the next is written. A sector of it that has
//! decayed to zeros looks like one that was never written: only
//! [`Storage::witness`](raft_core::storage::Storage::witness) rules that out.
//!
//! When the last segment holds batches, they are copied to a new file that is synced and takes its place, and the
//! log goes on in a new segment. The copy is for a log whose last sync failed: the system may
//! show bytes then that are not on the disk, and would let them be acknowledged.

use std::fmt;

use raft_core::storage::HardState;
use raft_core::types::{EntryId, Index};

use crate::disk::DiskReader;
use crate::error::{DiskError, OpenError, Operation, StorageError};
use crate::files::{Files, Name};
use crate::format::{BatchHeader, FIRST_BATCH, HeaderError, Identity, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::Log;
use crate::options::{Options, SuspectTail};
use crate::scan::{Scanner, Step, Tail};
use crate::segment::{self, Beginning, Segment};

/// How many cut-off tails are kept for people to look at.
const TORN_FILES_MAX: usize = 8;

/// What a start found: a value to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last entry, or the base if there is none.
    pub last: EntryId,
    /// How many entries the log holds.
    pub entries: u64,
    /// How many segments it lies in.
    pub segments: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// What was cut off the end.
    pub cut: Option<Cut>,
}

impl Report {
    /// What was cut off although it may have been acknowledged: see [`SuspectTail::Cut`] for what
    /// the node must not do then.
    #[must_use]
    pub fn suspect(&self) -> Option<Cut> {
        self.cut.filter(|cut| cut.suspect)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { last, entries, segments, .. } = self;
        write!(formatter, "{entries} entries in {segments} segments, the last is {last}")?;
        match &self.cut {
            Some(cut) => write!(formatter, "; {cut}"),
            None => Ok(()),
        }
    }
}

/// A tail that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub name: Name,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// The last entry before the cut.
    pub after: EntryId,
    /// The file that the bytes were copied to.
    pub kept: Name,
    /// Whether they may have been acknowledged.
    pub suspect: bool,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { name, offset, bytes, after, kept, suspect } = self;
        let tail = if *suspect { "suspect tail" } else { "torn tail" };
        write!(formatter, "cut {bytes} bytes of a {tail} in {name} at offset {offset}, behind entry {after}; ")?;
        write!(formatter, "they are kept in {kept}")
    }
}

/// A log that is ready to go on.
pub(crate) struct Recovered<F: Files> {
    pub(crate) log: Log,
    pub(crate) segment: Segment<F>,
    pub(crate) report: Report,
}

/// Reads the log of a directory whose identity is `identity` and whose files are `names`, and makes
/// it ready to go on.
pub(crate) fn recover<F: Files>(
    files: &F,
    identity: &Identity,
    names: &[Name],
    options: &Options,
) -> Result<Recovered<F>, OpenError> {
    let headers = read_headers(files, identity, names)?;
    let Some((last_header, _)) = headers.split_last() else { return Err(missing(1)) };
    let Some(first) = headers.first() else { return Err(missing(1)) };
    let mut log = Log::new(first.last, first.hard_state, options.cache_bytes);
    let mut unsealed = None;
    for (header, next) in headers.iter().zip(headers.iter().skip(1)) {
        unsealed = read_sealed(files, *header, next, &mut log)?;
    }
    let mut last = open_scanner(files, *last_header, &log)?;
    let tail = read_last(&mut last, &mut log)?;
    let cut = judge(&last, tail, &log, options)?;
    if !log.last_time_known {
        let (name, after) = (Name::Segment(last_header.number), log.last);
        log.last_time = DiskReader::default().time(files, &log, log.last.index).map_err(|error| match error {
            StorageError::Disk(error) => OpenError::Disk(error),
            // What was verified a moment ago reads differently now.
            _ => OpenError::Contradiction { name, offset: 0, after },
        })?;
        log.last_time_known = true;
    }
    // Everything has been judged: from here on things are changed.
    clean_up(files, names)?;
    let beginning =
        Beginning { incarnation: identity.incarnation, base: log.base, last: log.last, hard_state: log.hard_state };
    let segment = if last.end == FIRST_BATCH && tail == Tail::Clean {
        // Nothing was written to it yet, so there is nothing to distrust.
        if let Some(unsealed) = unsealed {
            unsealed.seal(files, beginning)?;
        }
        Segment::resume(last.file, last_header, last.end, last.chain)
    } else {
        if let Some(cut) = &cut {
            keep(files, &last, cut, names)?;
        }
        let rewritten = rewrite(files, last)?;
        let spare = segment::zeros(files, options.segment_bytes_first)?;
        rewritten.next(files, spare, beginning, options.segment_bytes_first)?
    };
    let report = Report {
        last: log.last,
        entries: log.last.index.since(log.base.index),
        segments: headers.len() as u64,
        hard_state: log.hard_state,
        cut,
    };
    Ok(Recovered { log, segment, report })
}

fn missing(number: u64) -> OpenError {
    OpenError::SegmentMissing { name: Name::Segment(number) }
}

/// Reads the headers of all segments, and checks that they are those of one log without gaps.
fn read_headers<F: Files>(files: &F, identity: &Identity, names: &[Name]) -> Result<Vec<SegmentHeader>, OpenError> {
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| match name {
            Name::Segment(number) => Some(*number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    let mut headers: Vec<SegmentHeader> = Vec::with_capacity(numbers.len());
    for (expected, number) in (1..).zip(numbers) {
        if number != expected {
            return Err(missing(expected));
        }
        let after = headers.last().map_or(Index::ZERO, |header| header.last.index);
        let header = read_header(files, number, after)?;
        let start = headers.is_empty().then_some((0, 0, EntryId::ZERO));
        let fits_start = start.is_none_or(|start| start == (header.previous_end, header.chain, header.last));
        if header.incarnation != identity.incarnation || header.number != number || !fits_start {
            return Err(OpenError::SegmentForeign { name: Name::Segment(number) });
        }
        headers.push(header);
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
    files.read_at(&file, &mut header, 0).map_err(DiskError::of(Operation::Read, name))?;
    let header = SegmentHeader::decode(&header).map_err(|error| match error {
        HeaderError::Damaged => OpenError::SegmentDamaged { name, after },
        HeaderError::Newer { version } => OpenError::Newer { name, version },
    })?;
    if bytes < header.prepared_bytes { Err(short(header.prepared_bytes)) } else { Ok(header) }
}

fn open_scanner<'f, F: Files>(files: &'f F, header: SegmentHeader, log: &Log) -> Result<Scanner<'f, F>, OpenError> {
    let name = Name::Segment(header.number);
    if (header.last, header.hard_state) != (log.last, log.hard_state) {
        return Err(OpenError::Contradiction { name, offset: 0, after: log.last });
    }
    let file = files.open(name).map_err(DiskError::of(Operation::Open, name))?;
    let length = files.length(&file).map_err(DiskError::of(Operation::Read, name))?;
    Ok(Scanner::new(files, file, header, length))
}

/// Reads a segment that has a successor, up to where that says it ends: all of it was durable. Gives
/// the segment if the power went before it was sealed.
fn read_sealed<F: Files>(
    files: &F,
    header: SegmentHeader,
    next: &SegmentHeader,
    log: &mut Log,
) -> Result<Option<Segment<F>>, OpenError> {
    let name = Name::Segment(header.number);
    let mut scanner = open_scanner(files, header, log)?;
    while scanner.end < next.previous_end {
        let offset = scanner.start();
        match scanner.step()? {
            Step::Batch(batch, records) => apply(log, header.number, &batch, records)?,
            Step::End(_) => {
                let (first, last) = (log.last.index.next(), next.last.index);
                return Err(OpenError::Damaged { name, offset, first, last });
            }
        }
    }
    if (scanner.end, scanner.chain) != (next.previous_end, next.chain) {
        return Err(OpenError::SegmentForeign { name: Name::Segment(next.number) });
    }
    let sealed = matches!(scanner.step()?, Step::End(Tail::Sealed));
    let (end, chain) = (next.previous_end, next.chain);
    Ok((!sealed).then(|| Segment::resume(scanner.file, &header, end, chain)))
}

/// Reads the last segment, up to where its good batches end.
fn read_last<F: Files>(scanner: &mut Scanner<'_, F>, log: &mut Log) -> Result<Tail, OpenError> {
    let number = scanner.header.number;
    loop {
        match scanner.step()? {
            Step::Batch(batch, records) => apply(log, number, &batch, records)?,
            Step::End(tail) => return Ok(tail),
        }
    }
}

/// Does again what the batch did when it was saved.
fn apply(log: &mut Log, segment: u64, batch: &BatchHeader, records: &[u8]) -> Result<(), OpenError> {
    let (name, offset, after) = (Name::Segment(segment), batch.offset, log.last);
    let contradiction = OpenError::Contradiction { name, offset, after };
    if !log.holds(batch.previous) || !hard_state_follows(log.hard_state, batch.hard_state) {
        return Err(contradiction);
    }
    if batch.previous != log.last {
        log.truncate(batch.previous.index);
    }
    log.hard_state = batch.hard_state;
    let first = log.last.index.next();
    if log.push_records(records).ok() != Some(batch.entries) {
        return Err(contradiction);
    }
    if batch.entries > 0 {
        log.mark(first, segment, batch.records_offset());
        log.cache.evict(log.last.index);
    }
    Ok(())
}

/// Whether a node that knew `old` may know `new` next: terms do not go down, and a vote stays for
/// its term.
pub(crate) fn hard_state_follows(old: HardState, new: HardState) -> bool {
    new.term > old.term || (new.term == old.term && (old.vote.is_none() || old.vote == new.vote))
}

/// Decides what becomes of what stands behind the last good batch.
fn judge<F: Files>(last: &Scanner<'_, F>, tail: Tail, log: &Log, options: &Options) -> Result<Option<Cut>, OpenError> {
    let (number, offset) = (last.header.number, last.start());
    let name = Name::Segment(number);
    let (through, suspect) = match tail {
        Tail::Clean => return Ok(None),
        Tail::Sealed => return Err(missing(number.saturating_add(1))),
        Tail::Damaged { witness } => {
            let (first, last) = (log.last.index.next(), witness.previous.index);
            return Err(OpenError::Damaged { name, offset, first, last });
        }
        Tail::Torn { through } => (through, false),
        Tail::Suspect { .. } if options.suspect_tail == SuspectTail::Refuse => {
            return Err(OpenError::Suspect { name, offset, after: log.last.index });
        }
        Tail::Suspect { through } => (through, true),
    };
    let kept = Name::Torn { segment: number, offset };
    Ok(Some(Cut { name, offset, bytes: through.saturating_sub(offset), after: log.last, kept, suspect }))
}

/// Removes what a start or a rotation that was cut short has left.
fn clean_up<F: Files>(files: &F, names: &[Name]) -> Result<(), DiskError> {
    for &name in names {
        if matches!(name, Name::Spare | Name::Rewrite | Name::IdentityDraft) {
            files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
        }
    }
    Ok(())
}

/// Copies what is cut off to a file of its own, and removes the oldest of such files if there are
/// many.
fn keep<F: Files>(files: &F, last: &Scanner<'_, F>, cut: &Cut, names: &[Name]) -> Result<(), DiskError> {
    let mut kept: Vec<Name> = names.iter().copied().filter(|name| matches!(name, Name::Torn { .. })).collect();
    kept.sort_unstable();
    for &name in kept.iter().rev().skip(TORN_FILES_MAX - 1) {
        files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
    }
    let file = files.create(cut.kept).map_err(DiskError::of(Operation::Open, cut.kept))?;
    copy(files, (&last.file, cut.name), cut.offset, cut.bytes, (&file, cut.kept), 0)?;
    files.sync_data(&file).map_err(DiskError::of(Operation::Sync, cut.kept))
}

/// Replaces the last segment by a copy of what is good in it.
fn rewrite<F: Files>(files: &F, last: Scanner<'_, F>) -> Result<Segment<F>, DiskError> {
    let (header, end) = (SegmentHeader { prepared_bytes: last.end, ..last.header }, last.end);
    let name = Name::Segment(header.number);
    let file = files.create(Name::Rewrite).map_err(DiskError::of(Operation::Open, Name::Rewrite))?;
    files.write_at(&file, &header.encode(), 0).map_err(DiskError::of(Operation::Write, Name::Rewrite))?;
    let bytes = end.saturating_sub(FIRST_BATCH);
    copy(files, (&last.file, name), FIRST_BATCH, bytes, (&file, Name::Rewrite), FIRST_BATCH)?;
    files.sync_data(&file).map_err(DiskError::of(Operation::Sync, Name::Rewrite))?;
    files.rename(Name::Rewrite, name).map_err(DiskError::of(Operation::Rename, name))?;
    files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;
    Ok(Segment::resume(file, &header, end, last.chain))
}

fn copy<F: Files>(
    files: &F,
    (from, from_name): (&F::File, Name),
    from_offset: u64,
    bytes: u64,
    (to, to_name): (&F::File, Name),
    to_offset: u64,
) -> Result<(), DiskError> {
    const STEP_BYTES: u64 = 256 << 10;
    let mut step = Vec::new();
    let mut done = 0;
    while done < bytes {
        step.resize(usize::try_from((bytes - done).min(STEP_BYTES)).unwrap_or(0), 0);
        files.read_at(from, &mut step, from_offset + done).map_err(DiskError::of(Operation::Read, from_name))?;
        files.write_at(to, &step, to_offset + done).map_err(DiskError::of(Operation::Write, to_name))?;
        done += step.len() as u64;
    }
    Ok(())
}
