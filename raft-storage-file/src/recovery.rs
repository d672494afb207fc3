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
//! | `identity` or a segment of another format | [`OpenError::OtherVersion`] |
//! | another cluster or node in `identity` | [`OpenError::WrongCluster`], [`OpenError::WrongNode`] |
//! | another process holds `lock` | [`OpenError::Locked`] |
//! | a gap in the segments, or none in the beginning, and no snapshot that covers what is missing | [`OpenError::SegmentMissing`] |
//! | no segment at all, or a sealed one at the end | [`OpenError::SegmentMissing`] |
//! | a gap in the segments, and a snapshot that covers all before its end | what lies before it is removed |
//! | a segment's header with a wrong checksum | [`OpenError::SegmentDamaged`] |
//! | a segment of another incarnation, number or chain | [`OpenError::SegmentForeign`] |
//! | a segment shorter than it was prepared | [`OpenError::SegmentShort`] |
//! | a bad batch in a segment that has a successor, or that a later one (or what is left of it) proves to have been durable | [`OpenError::Damaged`] |
//! | whole batches that contradict each other, or hold damaged entries | [`OpenError::Contradiction`] |
//! | zeros behind the last batch | the log is whole |
//! | a last batch of which sectors were never written | cut, kept as `.torn`, said in [`Report::cut`] |
//! | a last batch that is damaged otherwise | [`OpenError::Suspect`], or cut, and `suspect` says so: [`SuspectTail`] |
//! | `suspect` | [`OpenError::StillSuspect`], or [`Report::suspect_through`]: [`SuspectTail`] |
//! | `suspect` with a wrong checksum or length | [`OpenError::SuspectMarkDamaged`] |
//! | a snapshot of which the log does not hold the last entry | removed: it was received, but never took the log's place |
//! | a damaged snapshot, and an older one that the log reaches (or a log that reaches back to its first entry) | that is used, and it is said in [`Report::damaged_snapshot`] |
//! | a damaged snapshot otherwise | [`OpenError::SnapshotDamaged`] |
//! | none, and a log that begins where one ended | [`OpenError::SnapshotMissing`] |
//! | a snapshot of another incarnation, or under another's name | [`OpenError::SnapshotForeign`] |
//! | `reserve` | kept, if it has the length that is asked for; else removed |
//! | `spare.tmp`, `suspect.tmp`, drafts of snapshots | removed |
//!
//! Only the last batch can be torn, because every batch is synced before the next is written. A sector of it that has
//! decayed to zeros looks like one that was never written: only
//! [`Storage::witness`](raft_core::storage::Storage::witness) rules that out.
//!
//! The log goes on in the last segment, so that a start needs no room. All that is good in it is written where it stands and
//! synced once more before: for a log one of whose last syncs failed, the system may show bytes that are not on the disk,
//! and would let them be acknowledged. What is cut off is overwritten with zeros.

use std::fmt;

use raft_core::storage::{HardState, SnapshotId};
use raft_core::types::{ClusterTime, EntryId, Incarnation, Index};

use crate::disk::DiskReader;
use crate::error::{DiskError, OpenError, Operation, StorageError};
use crate::files::{Files, Name};
use crate::format::{BatchHeader, Identity, SegmentHeader};
use crate::log::Log;
use crate::options::{Options, SuspectTail};
use crate::reserve::Reserve;
use crate::scan::{Scanner, Step, Tail};
use crate::segment::{BatchFrame, Beginning, Segment};
use crate::segments::{Place, Segments};
use crate::snapshot::{self, Found};
use crate::suspect;

use self::headers::{Headers, missing, read_headers};

mod headers;

/// How many cut-off tails are kept for people to look at.
const TORN_FILES_MAX: usize = 8;

/// What a start found: a value to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last entry, or the base if there is none.
    pub last: EntryId,
    /// The entry before the first one that the log holds.
    pub base: EntryId,
    /// The latest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// A later snapshot that is damaged: an alarm, for the disk is failing. The log still reached back to the
    /// one before it, or to the first entry.
    pub damaged_snapshot: Option<Name>,
    /// How many entries the log holds.
    pub entries: u64,
    /// How many segments it lies in.
    pub segments: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// What was cut off the end.
    pub cut: Option<Cut>,
    /// Entries up to this one may have been acknowledged and are lost, since this start or an earlier one has cut off a
    /// suspect tail; the storage tells the core so itself: see [`SuspectTail::Cut`].
    pub suspect_through: Option<Index>,
}

impl Report {
    /// What this start cut off although it may have been acknowledged: see [`SuspectTail::Cut`] for what
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
        if let Some(snapshot) = self.snapshot {
            write!(formatter, "; a snapshot of {} bytes through {}", snapshot.bytes, snapshot.through)?;
        }
        if let Some(name) = self.damaged_snapshot {
            write!(formatter, "; {name} is damaged and was not used: see to the disk")?;
        }
        if let Some(cut) = &self.cut {
            write!(formatter, "; {cut}")?;
        }
        match self.suspect_through {
            Some(through) => write!(formatter, "; entries up to {through} may have been acknowledged and are lost"),
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
    /// The file that the bytes were copied to; `None` if there was no room for it.
    pub kept: Option<Name>,
    /// Whether they may have been acknowledged.
    pub suspect: bool,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { name, offset, bytes, after, kept, suspect } = self;
        let tail = if *suspect { "suspect tail" } else { "torn tail" };
        write!(formatter, "cut {bytes} bytes of a {tail} in {name} at offset {offset}, behind entry {after}; ")?;
        match kept {
            Some(kept) => write!(formatter, "they are kept in {kept}"),
            None => formatter.write_str("there was no room to keep them"),
        }
    }
}

/// A log that is ready to go on.
pub(crate) struct Recovered<F: Files> {
    pub(crate) log: Log,
    pub(crate) segment: Segment<F>,
    pub(crate) segments: Segments,
    pub(crate) snapshots: Found<F>,
    pub(crate) report: Report,
    /// Whether an empty batch stands behind the last one that is not, or that is in an earlier segment.
    pub(crate) witnessed: bool,
    pub(crate) reserve: Reserve<F>,
}

/// The log as it was saved, batch by batch.
struct Replay {
    log: Log,
    /// Whether entries before the base were there once, in segments that are removed: the log may have been cut back
    /// to one of them.
    began_before: bool,
    /// The last segment with a batch that drops the log.
    reset_in: Option<u64>,
    /// Whether the last batch in the present segment, if there is one, has made nothing durable but that the one before it was.
    witnessed: bool,
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
    let (Some(first), Some(last_header)) = (headers.run.first(), headers.run.last()) else { return Err(missing(1)) };
    let log = Log::new(first.last, first.hard_state, options.cache_bytes);
    let mut replay = Replay { log, began_before: first.number > 1, reset_in: None, witnessed: true };
    let mut unsealed = None;
    for (header, next) in headers.run.iter().zip(headers.run.iter().skip(1)) {
        unsealed = read_sealed(files, *header, next, &mut replay)?;
    }
    replay.witnessed = true;
    let mut last = open_scanner(files, *last_header, &replay.log)?;
    let tail = read_last(&mut last, &mut replay)?;
    let cut = judge(&last, tail, &replay.log, options)?;
    let marked = suspect::read(files, identity.incarnation, names)?;
    if let Some(through) = marked.filter(|_| options.suspect_tail == SuspectTail::Refuse) {
        return Err(OpenError::StillSuspect { through });
    }
    let snapshots = choose_snapshot(files, identity.incarnation, names, &headers, &replay)?;
    let Replay { mut log, reset_in, witnessed, .. } = replay;
    find_times(files, &mut log, last_header.number, snapshots.latest.as_ref().map(|latest| latest.id))?;
    // Everything has been judged: from here on things are changed.
    clean_up(files, names, &headers, &snapshots)?;
    let suspect_through = marked.max(cut.filter(|cut| cut.suspect).as_ref().map(suspect::through));
    if let Some(through) = suspect_through.filter(|_| suspect_through != marked) {
        suspect::write(files, identity.incarnation, through)?;
    }
    let beginning =
        Beginning { incarnation: identity.incarnation, base: log.base, last: log.last, hard_state: log.hard_state };
    let segments = Segments::new(headers.run.iter().map(|header| {
        let dropped = reset_in.is_some_and(|number| header.number <= number);
        Place { number: header.number, after: if dropped { Index::ZERO } else { header.last.index } }
    }));
    let report = Report { suspect_through, ..report(&log, segments.count(), &snapshots, cut) };
    if let Some(unsealed) = unsealed {
        unsealed.seal(files, beginning)?;
    }
    let report = match cut {
        Some(cut) => Report { cut: Some(keep(files, &last, cut, names)?), ..report },
        None => report,
    };
    write_again(files, &last, cut)?;
    let mut segment = Segment::resume(last.file, last_header, last.end, last.chain);
    let has_room = segment.end_with(0) <= segment.prepared_bytes;
    if !witnessed && has_room {
        // From now on, damage to the last batch is told from a write that was torn.
        let frame = BatchFrame { previous: log.last, hard_state: log.hard_state, entries: 0, resets: false };
        segment.append(files, frame, &[], &mut Vec::new())?;
    }
    let witnessed = witnessed || has_room;
    let reserve = Reserve::find(files, names, options.reserve_bytes)?;
    Ok(Recovered { log, segment, segments, snapshots, report, witnessed, reserve })
}

fn list<F: Files>(files: &F) -> Result<Vec<Name>, DiskError> {
    let names = files.list().map_err(DiskError::of(Operation::Directory, Name::Lock))?;
    Ok(names.unwrap_or_default())
}

fn report<F: Files>(log: &Log, segments: u64, snapshots: &Found<F>, cut: Option<Cut>) -> Report {
    Report {
        last: log.last,
        base: log.base,
        snapshot: snapshots.latest.as_ref().map(|latest| latest.id),
        damaged_snapshot: snapshots.damaged,
        entries: log.last.index.since(log.base.index),
        segments,
        hard_state: log.hard_state,
        cut,
        suspect_through: None,
    }
}

/// Finds the snapshot, and refuses a log that does not begin at its first entry and has none that covers what lacks.
fn choose_snapshot<F: Files>(
    files: &F,
    incarnation: Incarnation,
    names: &[Name],
    headers: &Headers,
    replay: &Replay,
) -> Result<Found<F>, OpenError> {
    let found = snapshot::find(files, incarnation, names, &replay.log)?;
    let base = replay.log.base;
    let lacks = (headers.missing(), replay.reset_in);
    if found.latest.is_some() || lacks == (None, None) {
        return Ok(found);
    }
    Err(match (found.damaged, lacks) {
        (Some(name), _) => OpenError::SnapshotDamaged { name, base: base.index },
        (None, (Some(number), None)) => missing(number),
        (None, _) => OpenError::SnapshotMissing { name: Name::Snapshot(base) },
    })
}

/// Finds the cluster times of the last entry and of the base.
fn find_times<F: Files>(files: &F, log: &mut Log, segment: u64, snapshot: Option<SnapshotId>) -> Result<(), OpenError> {
    if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.through == log.base) {
        log.base_time = snapshot.time;
    }
    if log.last == log.base {
        (log.last_time, log.last_time_known) = (log.base_time, true);
    }
    if !log.last_time_known {
        let (name, after) = (Name::Segment(segment), log.last);
        log.last_time = DiskReader::default().time(files, log, log.last.index).map_err(|error| match error {
            StorageError::Disk(error) => OpenError::Disk(error),
            // What was verified a moment ago reads differently now.
            _ => OpenError::Contradiction { name, offset: 0, after },
        })?;
        log.last_time_known = true;
    }
    Ok(())
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
    replay: &mut Replay,
) -> Result<Option<Segment<F>>, OpenError> {
    let name = Name::Segment(header.number);
    let mut scanner = open_scanner(files, header, &replay.log)?;
    while scanner.end < next.previous_end {
        let offset = scanner.start();
        match scanner.step()? {
            Step::Batch(batch, records) => replay.apply(header.number, &batch, records)?,
            Step::End(_) => {
                let (first, last) = (replay.log.last.index.next(), next.last.index);
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
fn read_last<F: Files>(scanner: &mut Scanner<'_, F>, replay: &mut Replay) -> Result<Tail, OpenError> {
    let number = scanner.header.number;
    loop {
        match scanner.step()? {
            Step::Batch(batch, records) => replay.apply(number, &batch, records)?,
            Step::End(tail) => return Ok(tail),
        }
    }
}

impl Replay {
    /// Does again what the batch did when it was saved.
    fn apply(&mut self, segment: u64, batch: &BatchHeader, records: &[u8]) -> Result<(), OpenError> {
        let (name, offset, after) = (Name::Segment(segment), batch.offset, self.log.last);
        let contradiction = OpenError::Contradiction { name, offset, after };
        let log = &mut self.log;
        let cuts_before = self.began_before && batch.previous.index < log.base.index;
        if !hard_state_follows(log.hard_state, batch.hard_state)
            || !(batch.resets || cuts_before || log.holds(batch.previous))
        {
            return Err(contradiction);
        }
        if batch.resets || cuts_before {
            // The time is known when the snapshot is.
            log.reset(batch.previous, ClusterTime::default());
        } else if batch.previous != log.last {
            log.truncate(batch.previous.index);
        }
        if batch.resets {
            (self.began_before, self.reset_in) = (false, Some(segment));
        }
        self.witnessed =
            batch.entries == 0 && !batch.resets && (batch.previous, batch.hard_state) == (log.last, log.hard_state);
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
        Tail::Damaged { last } => {
            let first = log.last.index.next();
            return Err(OpenError::Damaged { name, offset, first, last });
        }
        Tail::Torn { through } => (through, false),
        Tail::Suspect { .. } if options.suspect_tail == SuspectTail::Refuse => {
            return Err(OpenError::Suspect { name, offset, after: log.last.index });
        }
        Tail::Suspect { through } => (through, true),
    };
    let kept = Some(Name::Torn { segment: number, offset });
    Ok(Some(Cut { name, offset, bytes: through.saturating_sub(offset), after: log.last, kept, suspect }))
}

/// Removes what was cut short: a start, a rotation, a snapshot on its way, the removal of files.
fn clean_up<F: Files>(files: &F, names: &[Name], headers: &Headers, snapshots: &Found<F>) -> Result<(), DiskError> {
    let cut_short = |name: &&Name| {
        matches!(name, Name::Spare | Name::SuspectDraft | Name::IdentityDraft | Name::OriginDraft | Name::Draft(_))
    };
    let cut_short = names.iter().filter(cut_short);
    for &name in cut_short.chain(&headers.before).chain(&snapshots.needless) {
        files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
    }
    match snapshots.latest {
        // Its name may be there only as far as one can see, if the last sync of the names failed; and what
        // it covers may be removed from now on.
        Some(_) => files.sync_directory().map_err(DiskError::of(Operation::Sync, Name::Lock)),
        None => Ok(()),
    }
}

/// Copies what is cut off to a file of its own, unless there is no room for it, and removes the oldest of such files if
/// there are many. Returns what is to be said of it.
fn keep<F: Files>(files: &F, last: &Scanner<'_, F>, cut: Cut, names: &[Name]) -> Result<Cut, DiskError> {
    let Some(name) = cut.kept else { return Ok(cut) };
    let mut kept: Vec<Name> = names.iter().copied().filter(|name| matches!(name, Name::Torn { .. })).collect();
    kept.sort_unstable();
    for &name in kept.iter().rev().skip(TORN_FILES_MAX - 1) {
        files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
    }
    let copied = files.create(name).map_err(DiskError::of(Operation::Open, name)).and_then(|file| {
        copy(files, (&last.file, cut.name), cut.offset, cut.bytes, (&file, name))?;
        files.sync_data(&file).map_err(DiskError::of(Operation::Sync, name))
    });
    match copied {
        Err(error) if error.is_full() => {
            if list(files)?.contains(&name) {
                files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
            }
            Ok(Cut { kept: None, ..cut })
        }
        copied => copied.map(|()| cut),
    }
}

/// Writes zeros over what is cut off the last segment, and all that is good in it once more, and syncs it and the names.
/// That needs no room. Not the last batch alone: kernels were seen to tell of a write that came to nothing only at the
/// sync after the next write.
fn write_again<F: Files>(files: &F, last: &Scanner<'_, F>, cut: Option<Cut>) -> Result<(), DiskError> {
    let name = Name::Segment(last.header.number);
    let mut step = Vec::new();
    let rest = cut.map_or((last.end, 0), |cut| (cut.offset, cut.bytes));
    for ((offset, bytes), zeros) in [(rest, true), ((0, last.end), false)] {
        let mut done = 0;
        while done < bytes {
            step.clear();
            step.resize(usize::try_from((bytes - done).min(COPY_STEP_BYTES)).unwrap_or(0), 0);
            let at = offset.saturating_add(done);
            if !zeros {
                files.read_at(&last.file, &mut step, at).map_err(DiskError::at(Operation::Read, name, at))?;
            }
            files.write_at(&last.file, &step, at).map_err(DiskError::at(Operation::Write, name, at))?;
            done = done.saturating_add(step.len() as u64);
        }
    }
    files.sync_data(&last.file).map_err(DiskError::of(Operation::Sync, name))?;
    files.sync_directory().map_err(DiskError::of(Operation::Sync, name))
}

/// How much is copied at once.
const COPY_STEP_BYTES: u64 = 256 << 10;

fn copy<F: Files>(
    files: &F,
    (from, from_name): (&F::File, Name),
    from_offset: u64,
    bytes: u64,
    (to, to_name): (&F::File, Name),
) -> Result<(), DiskError> {
    let mut step = Vec::new();
    let mut done = 0;
    while done < bytes {
        step.resize(usize::try_from((bytes - done).min(COPY_STEP_BYTES)).unwrap_or(0), 0);
        let read_at = from_offset.saturating_add(done);
        files.read_at(from, &mut step, read_at).map_err(DiskError::at(Operation::Read, from_name, read_at))?;
        files.write_at(to, &step, done).map_err(DiskError::at(Operation::Write, to_name, done))?;
        done = done.saturating_add(step.len() as u64);
    }
    Ok(())
}
