//! Snapshots as the core sees them, on a simulated disk.

use std::io;

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};

use crate::error::{OpenError, StorageError};
use crate::files::Name;
use crate::format::Identity;
use crate::options::Options;
use crate::simulated::{Call, Disk, Fate};
use crate::storage::FileStorage;

fn identity() -> Identity {
    Identity { cluster: ClusterId(0xc1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(0x1234_5678) }
}

fn small() -> Options {
    Options { segment_bytes: 4096, segment_bytes_first: 2048, cache_bytes: 1024, ..Options::default() }
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

fn create(disk: &Disk) -> FileStorage<Disk> {
    FileStorage::create(disk.clone(), identity(), small()).unwrap().0
}

fn open(disk: &Disk) -> FileStorage<Disk> {
    FileStorage::open(disk.clone(), small()).unwrap().0
}

fn refused(disk: &Disk) -> OpenError {
    FileStorage::open(disk.clone(), small()).map(drop).unwrap_err()
}

/// Appends entries of 100 bytes up to `last`, in term 1, and saves each.
fn fill(storage: &mut FileStorage<Disk>, last: u64) {
    while storage.last().index < Index(last) {
        let (id, payload) = (EntryId::new(Term(1), storage.last().index.next()), [7; 100]);
        let header = EntryHeader::new(id, ClusterTime(id.index.0 * 10), EntryKind::Operation, &[&payload]).unwrap();
        storage.append(&header, &[&payload]).unwrap();
        storage.flush().unwrap();
    }
}

fn content(through: EntryId, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u64 * 31 + through.index.0 * 7 + through.term.0) as u8).collect()
}

/// Makes a draft of the snapshot through `through`, and gives its id.
fn draft(storage: &mut FileStorage<Disk>, through: EntryId, length: usize) -> SnapshotId {
    let content = content(through, length);
    storage.begin_draft();
    for piece in content.chunks(1000) {
        storage.extend_draft(piece).unwrap();
    }
    let checksum = crc32c(0, &content);
    SnapshotId { through, time: ClusterTime(through.index.0 * 10), bytes: content.len() as u64, checksum }
}

fn take(storage: &mut FileStorage<Disk>, through: EntryId, length: usize) -> SnapshotId {
    let snapshot = draft(storage, through, length);
    storage.adopt_draft(snapshot);
    snapshot
}

fn read_back(storage: &mut FileStorage<Disk>) -> Vec<u8> {
    let (bytes, mut read) = (storage.snapshot().unwrap().bytes, Vec::new());
    while (read.len() as u64) < bytes {
        let piece = storage.read_snapshot(read.len() as u64, 777).unwrap();
        assert!(!piece.is_empty());
        read.extend_from_slice(piece);
    }
    assert_eq!(storage.read_snapshot(bytes, 777).unwrap(), []);
    read
}

fn snapshot_files(disk: &Disk) -> Vec<Name> {
    let ours = |name: &Name| matches!(name, Name::Snapshot(_) | Name::Draft(_));
    disk.contents().into_keys().filter(ours).collect()
}

fn segments(disk: &Disk) -> Vec<u64> {
    let number = |name| if let Name::Segment(number) = name { Some(number) } else { None };
    disk.contents().into_keys().filter_map(number).collect()
}

#[test]
fn a_draft_is_read_back_wherever_its_bytes_are() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    assert_eq!(storage.snapshot(), None);
    assert!(matches!(storage.read_snapshot(0, 10), Err(ReadError::Missing(_))));
    assert!(matches!(storage.read_draft(0, 10), Err(ReadError::Missing(_))));
    assert_eq!(storage.extend_draft(b"x"), Err(Full), "no draft was begun");
    let content = content(id(1, 5), 200_000);
    storage.begin_draft();
    let mut taken = 0;
    for length in [1, 999, 65_536, 65_535, 3, 60_000, 7_926] {
        storage.extend_draft(&content[taken..taken + length]).unwrap();
        taken += length;
        assert_eq!(storage.read_draft(0, usize::MAX).unwrap(), &content[..taken]);
        let from = taken - length.min(10);
        assert_eq!(storage.read_draft(from as u64, 5).unwrap(), &content[from..taken.min(from + 5)]);
    }
    assert_eq!(taken, content.len());
    assert_eq!(storage.read_draft(taken as u64 + 1, 5).unwrap(), []);
    storage.begin_draft();
    assert_eq!((storage.read_draft(0, 5).unwrap().len(), snapshot_files(&disk)), (0, vec![Name::Draft(2)]));
    assert!(!disk.calls()[disk.calls().len() - 30..].contains(&Call::Sync), "a draft is not synced while it grows");
}

#[test]
fn an_own_snapshot_counts_when_it_is_durable() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 100);
    disk.hold_syncs(true);
    let first = take(&mut storage, id(1, 60), 5000);
    storage.flush().unwrap();
    assert_eq!((storage.saved().unwrap().through, storage.snapshot()), (id(1, 100), None));
    storage.compact(Index(50));
    assert_eq!(storage.base(), EntryId::ZERO, "nothing may go before its snapshot is durable");
    // Drafts that are begun meanwhile disturb nothing; of those that wait the last is made durable next.
    for index in 70..=72 {
        take(&mut storage, id(1, index), 100);
    }
    let unfinished = draft(&mut storage, id(1, 80), 70_000);
    disk.hold_syncs(false);
    storage.saved().unwrap();
    assert_eq!(storage.snapshot(), Some(first));
    assert_eq!(read_back(&mut storage), content(id(1, 60), 5000));
    storage.flush().unwrap();
    assert_eq!(storage.snapshot().unwrap().through, id(1, 72));
    storage.adopt_draft(unfinished);
    assert_eq!((storage.snapshot(), storage.metrics().snapshots), (Some(unfinished), 3));
    assert_eq!(snapshot_files(&disk), [Name::Snapshot(id(1, 72)), Name::Snapshot(id(1, 80))]);
    drop(storage);
    let mut storage = open(&disk.after_power_loss(|_| Fate::Lost));
    assert_eq!((storage.snapshot(), storage.last()), (Some(unfinished), id(1, 100)));
    assert_eq!(read_back(&mut storage), content(id(1, 80), 70_000));
}

#[test]
fn a_snapshot_that_is_not_newer_is_dropped() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 20);
    let snapshot = take(&mut storage, id(1, 10), 50);
    for index in [10, 9] {
        take(&mut storage, id(1, index), 60);
        storage.flush().unwrap();
        assert_eq!((storage.snapshot(), snapshot_files(&disk).len()), (Some(snapshot), 1));
        assert!(matches!(storage.read_draft(0, 1), Err(ReadError::Missing(_))));
    }
}

#[test]
fn compaction_removes_segments_and_snapshots_that_nothing_needs() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 100);
    let before = segments(&disk);
    take(&mut storage, id(1, 30), 10);
    let snapshot = take(&mut storage, id(1, 80), 10);
    assert_eq!(snapshot_files(&disk).len(), 2, "the log reaches back to the older one");
    storage.compact(Index(95));
    assert_eq!((storage.base(), storage.term(Index(79)), storage.term(Index(80))), (id(1, 80), None, Some(Term(1))));
    assert!(matches!(storage.read(Index(80), Index(80), 10), Err(ReadError::Missing(_))));
    assert_eq!(storage.read(Index(81), Index(81), 10).unwrap().last(), id(1, 81));
    let after = segments(&disk);
    assert!(before.ends_with(&after) && before.len() - after.len() == storage.metrics().segments_removed as usize);
    assert!(after.len() >= 2 && before.len() - after.len() >= 2, "{before:?} {after:?}");
    assert_eq!(snapshot_files(&disk), [Name::Snapshot(id(1, 80))]);
    storage.compact(Index(10));
    assert_eq!(storage.base(), id(1, 80));
    fill(&mut storage, 120);
    drop(storage);
    for disk in [disk.after_power_loss(|_| Fate::Kept), disk.after_power_loss(|_| Fate::Lost)] {
        let (mut storage, report) = FileStorage::open(disk.clone(), small()).unwrap();
        assert_eq!((report.snapshot, report.base, report.damaged_snapshot), (Some(snapshot), storage.base(), None));
        assert!(storage.base().index <= Index(80));
        assert_eq!((storage.last(), storage.last_time()), (id(1, 120), ClusterTime(1200)));
        let mut next = storage.base().index.next();
        while next <= storage.last().index {
            next = storage.read(next, Index(u64::MAX), 500).unwrap().last().index.next();
        }
        storage.compact(Index(80));
        assert_eq!((storage.base(), segments(&disk)[0] >= after[0]), (id(1, 80), true));
    }
}

#[test]
fn an_empty_log_behind_its_snapshot_knows_its_time() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 40);
    take(&mut storage, id(1, 40), 10);
    storage.compact(Index(40));
    assert_eq!((storage.base(), storage.last(), storage.last_time()), (id(1, 40), id(1, 40), ClusterTime(400)));
    drop(storage);
    // The second start finds a segment without a batch.
    for _ in 0..2 {
        let mut storage = open(&disk);
        assert_eq!((storage.last(), storage.last_time()), (id(1, 40), ClusterTime(400)));
        storage.compact(Index(40));
        assert_eq!((storage.base(), storage.last_time(), segments(&disk).len()), (id(1, 40), ClusterTime(400), 1));
    }
    let mut storage = open(&disk);
    assert_eq!((storage.base(), storage.last_time()), (id(1, 40), ClusterTime(400)));
    fill(&mut storage, 50);
    storage.truncate(Index(40));
    assert_eq!(storage.last_time(), ClusterTime(400));
    storage.truncate(Index(39));
    assert!(matches!(storage.flush(), Err(StorageError::TruncatedBase { .. })));
}

#[test]
fn a_received_snapshot_takes_the_place_of_the_log_with_the_next_flush() {
    for flushed in [false, true] {
        let disk = Disk::new();
        let mut storage = create(&disk);
        fill(&mut storage, 50);
        take(&mut storage, id(1, 20), 300);
        storage.compact(Index(20));
        let old = storage.saved().unwrap();
        let snapshot = take(&mut storage, id(4, 500), 100_000);
        assert_eq!((storage.base(), storage.last(), storage.last_time()), (id(4, 500), id(4, 500), ClusterTime(5000)));
        assert_eq!((storage.snapshot(), storage.saved().unwrap()), (Some(snapshot), old));
        assert!(storage.is_pending());
        assert_eq!(read_back(&mut storage), content(id(4, 500), 100_000));
        assert_eq!((storage.term(Index(50)), storage.term(Index(500))), (None, Some(Term(4))));
        let hard_state = HardState { term: Term(4), vote: None };
        storage.set_hard_state(hard_state);
        let header = EntryHeader::new(id(4, 501), ClusterTime(6000), EntryKind::Noop, &[]).unwrap();
        storage.append(&header, &[]).unwrap();
        storage.compact(Index(500));
        assert_eq!(snapshot_files(&disk).len(), 2, "the old one stays until the new one is durable");
        if flushed {
            storage.flush().unwrap();
            assert_eq!(storage.saved().unwrap(), Saved { hard_state, through: id(4, 501) });
            assert_eq!((snapshot_files(&disk), segments(&disk).len()), (vec![Name::Snapshot(id(4, 500))], 1));
        }
        drop(storage);
        let mut storage = open(&disk.after_power_loss(|_| Fate::Lost));
        if flushed {
            assert_eq!((storage.base(), storage.last(), storage.snapshot()), (id(4, 500), id(4, 501), Some(snapshot)));
            assert_eq!((storage.hard_state(), storage.last_time()), (hard_state, ClusterTime(6000)));
            assert_eq!(read_back(&mut storage), content(id(4, 500), 100_000));
            fill(&mut storage, 501);
        } else {
            assert_eq!((storage.last(), storage.snapshot().unwrap().through), (id(1, 50), id(1, 20)));
            fill(&mut storage, 60);
        }
        assert_eq!(storage.saved().unwrap().through, storage.last());
    }
}

#[test]
fn a_second_received_snapshot_replaces_one_that_was_not_saved() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 5);
    disk.hold_syncs(true);
    take(&mut storage, id(1, 4), 10);
    take(&mut storage, id(2, 50), 10);
    let snapshot = take(&mut storage, id(3, 70), 10);
    assert_eq!(snapshot_files(&disk), [Name::Draft(3)]);
    storage.flush().unwrap();
    disk.hold_syncs(false);
    storage.flush().unwrap();
    assert_eq!((storage.snapshot(), storage.saved().unwrap().through), (Some(snapshot), id(3, 70)));
    assert_eq!(snapshot_files(&disk), [Name::Snapshot(id(3, 70))]);
}

#[test]
fn a_damaged_snapshot_is_passed_over_if_the_log_reaches_back() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 100);
    let flip = |disk: &Disk, name: Name, at: usize| {
        let mut bytes = disk.bytes(name).unwrap();
        bytes[at] ^= 4;
        disk.put(name, bytes);
    };
    let (first, second) = (Name::Snapshot(id(1, 30)), Name::Snapshot(id(1, 80)));
    let older = take(&mut storage, id(1, 30), 10);
    take(&mut storage, id(1, 80), 10);
    drop(storage);
    for at in [0, 10, 90, 96, 105] {
        let disk = disk.after_power_loss(|_| Fate::Kept);
        flip(&disk, second, at);
        let (mut storage, report) = FileStorage::open(disk.clone(), small()).unwrap();
        assert_eq!((report.snapshot, report.damaged_snapshot), (Some(older), Some(second)));
        assert!(report.to_string().contains("0000000080-1.snap is damaged"), "{report}");
        assert_eq!(read_back(&mut storage), content(id(1, 30), 10));
        // The next one replaces it.
        let next = take(&mut storage, id(1, 80), 10);
        assert_eq!(storage.snapshot(), Some(next));
        drop(storage);
        assert_eq!(FileStorage::open(disk, small()).unwrap().1.damaged_snapshot, None);
    }
    flip(&disk, second, 100);
    let both = disk.after_power_loss(|_| Fate::Kept);
    flip(&both, first, 100);
    let (storage, report) = FileStorage::open(both, small()).unwrap();
    assert_eq!((storage.snapshot(), report.damaged_snapshot, report.entries), (None, Some(second), 100));
    let mut storage = open(&disk);
    let newest = take(&mut storage, id(1, 90), 10).through;
    storage.compact(Index(90));
    drop(storage);
    let newest = Name::Snapshot(newest);
    let missing = disk.after_power_loss(|_| Fate::Kept);
    flip(&disk, newest, 100);
    let error = refused(&disk);
    assert!(matches!(error, OpenError::SnapshotDamaged { name, .. } if name == newest), "{error}");
    missing.take(newest);
    let first = segments(&missing)[0];
    assert!(matches!(refused(&missing), OpenError::SegmentMissing { name } if name == Name::Segment(first - 1)));
}

#[test]
fn the_snapshot_that_a_log_begins_behind_must_be_there() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 3);
    take(&mut storage, id(2, 50), 10);
    storage.flush().unwrap();
    drop(storage);
    let name = Name::Snapshot(id(2, 50));
    let missing = disk.after_power_loss(|_| Fate::Kept);
    missing.take(name);
    assert!(matches!(refused(&missing), OpenError::SnapshotMissing { name: missing } if missing == name));
    // Under another's name, and of another node.
    let bytes = disk.bytes(name).unwrap();
    let mut foreign = bytes.clone();
    foreign[16] ^= 1;
    let mut newer = bytes.clone();
    newer[8] = 2;
    for bytes in [&mut foreign, &mut newer] {
        let checksum = crc32c(0, &bytes[..92]);
        bytes[92..96].copy_from_slice(&checksum.to_le_bytes());
    }
    disk.put(name, foreign);
    assert!(matches!(refused(&disk), OpenError::SnapshotForeign { .. }));
    disk.put(name, newer);
    assert!(matches!(refused(&disk), OpenError::Newer { version: 2, .. }));
    disk.put(name, bytes[..100].to_vec());
    assert!(matches!(refused(&disk), OpenError::SnapshotDamaged { base: Index(50), .. }));
    disk.take(Name::Identity);
    for number in segments(&disk) {
        disk.take(Name::Segment(number));
    }
    assert!(matches!(refused(&disk), OpenError::IdentityMissing));
    let created = FileStorage::create(disk, identity(), small()).map(drop);
    assert!(matches!(created, Err(OpenError::IdentityMissing)));
}

/// A gap before which all is covered by a snapshot is what a power loss may make of a compaction;
/// any other is a hole.
#[test]
fn segments_before_a_gap_are_removed_only_if_a_snapshot_covers_them() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 100);
    let numbers = segments(&disk);
    let whole = disk.after_power_loss(|_| Fate::Kept);
    take(&mut storage, id(1, 60), 10);
    drop(storage);
    let mut removed = 0;
    for &number in &numbers {
        for (disk, covered) in [(&whole, false), (&disk, true)] {
            let disk = disk.after_power_loss(|_| Fate::Kept);
            disk.take(Name::Segment(number));
            match FileStorage::open(disk.clone(), small()) {
                Ok((storage, report)) => {
                    assert!(covered && storage.base().index <= Index(60) && report.base.index > Index::ZERO);
                    assert_eq!(segments(&disk)[0], number + 1);
                    removed += 1;
                }
                Err(error) => {
                    let missing = Name::Segment(number);
                    assert!(matches!(error, OpenError::SegmentMissing { name } if name == missing), "{error}");
                }
            }
        }
    }
    assert!(removed >= 3 && removed < numbers.len() - 1, "{removed} of {numbers:?}");
}

/// The last segment begins with entries that were dropped later, when all before it is removed.
#[test]
fn a_log_that_was_cut_before_the_first_segment_left_is_read_back() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 60);
    drop(storage);
    // The start has begun a new segment, whose header names entry 60.
    let mut storage = open(&disk);
    storage.truncate(Index(45));
    storage.flush().unwrap();
    let header = |index| EntryHeader::new(id(2, index), ClusterTime(1000), EntryKind::Noop, &[]).unwrap();
    for index in 46..=62 {
        storage.append(&header(index), &[]).unwrap();
    }
    storage.flush().unwrap();
    take(&mut storage, id(2, 50), 10);
    storage.compact(Index(50));
    let before = segments(&disk).len();
    take(&mut storage, id(2, 61), 10);
    storage.compact(Index(61));
    assert!(before > 1 && segments(&disk).len() == 1);
    drop(storage);
    let mut storage = open(&disk);
    assert_eq!((storage.base(), storage.last()), (id(1, 45), id(2, 62)));
    assert_eq!(storage.read(Index(46), Index(70), 10_000).unwrap().entries(), 17);
}

#[test]
fn a_full_disk_drops_the_draft_and_nothing_else() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 20);
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(used + 10_000);
    storage.begin_draft();
    assert_eq!(storage.extend_draft(b"x"), Err(Full));
    disk.set_capacity(used + 200_000);
    storage.begin_draft();
    let mut taken = 0;
    while storage.extend_draft(&[1; 1000]).is_ok() {
        taken += 1;
    }
    assert!((100..200).contains(&taken), "{taken}");
    assert!(matches!(storage.read_draft(0, 10), Err(ReadError::Missing(_))));
    assert_eq!(snapshot_files(&disk), []);
    // What was taken has its room, however full the disk is by then.
    let snapshot = draft(&mut storage, id(1, 10), 65_000);
    disk.set_capacity(0);
    storage.adopt_draft(snapshot);
    storage.flush().unwrap();
    assert_eq!(storage.snapshot(), Some(snapshot));
}

#[test]
fn mistakes_of_the_caller_are_final() {
    type Mistake = fn(&mut FileStorage<Disk>);
    let mistakes: [Mistake; 5] = [
        |storage| storage.adopt_draft(SnapshotId { through: id(1, 9), time: ClusterTime(0), bytes: 0, checksum: 0 }),
        |storage| {
            let snapshot = draft(storage, id(1, 9), 10);
            storage.adopt_draft(SnapshotId { bytes: 11, ..snapshot });
        },
        |storage| {
            let snapshot = draft(storage, id(1, 9), 10);
            storage.adopt_draft(SnapshotId { checksum: !snapshot.checksum, ..snapshot });
        },
        |storage| {
            take(storage, id(3, 5), 10);
        },
        |storage| storage.truncate(Index(4)),
    ];
    for (number, mistake) in mistakes.into_iter().enumerate() {
        let disk = Disk::new();
        let mut storage = create(&disk);
        fill(&mut storage, 10);
        take(&mut storage, id(1, 5), 10);
        mistake(&mut storage);
        let error = storage.flush().unwrap_err().to_string();
        assert_eq!(storage.saved().unwrap_err().to_string(), error, "mistake {number}");
        assert!(matches!(storage.read_snapshot(0, 1), Err(ReadError::Failed(_))));
        drop(storage);
        assert_eq!(open(&disk).snapshot().unwrap().through, id(1, 5));
    }
}

#[test]
fn an_error_at_any_call_of_a_snapshot_is_final() {
    let prepared = || {
        let disk = Disk::new();
        let mut storage = create(&disk);
        fill(&mut storage, 40);
        take(&mut storage, id(1, 5), 10);
        (disk, storage)
    };
    let script = |storage: &mut FileStorage<Disk>| -> Result<(), StorageError> {
        for (through, length) in [(id(1, 30), 70_000), (id(1, 40), 10), (id(3, 90), 70_000)] {
            let content = content(through, length);
            storage.begin_draft();
            storage.flush()?;
            if storage.extend_draft(&content).is_err() {
                continue;
            }
            storage.flush()?;
            match storage.read_draft(0, 1000) {
                Ok(read) => assert_eq!(read, &content[..read.len()]),
                Err(ReadError::Failed(error)) => return Err(error),
                Err(error) => panic!("{error}"),
            }
            let checksum = crc32c(0, &content);
            storage.adopt_draft(SnapshotId { through, time: ClusterTime(900), bytes: length as u64, checksum });
            storage.flush()?;
            storage.saved()?;
            storage.compact(through.index);
            storage.flush()?;
        }
        Ok(())
    };
    let (whole, mut storage) = prepared();
    let before = whole.calls().len();
    script(&mut storage).unwrap();
    let (mut failed, mut full) = (0, 0);
    for call in before..whole.calls().len() {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            let (disk, mut storage) = prepared();
            disk.fail_at(call, kind);
            match script(&mut storage) {
                Ok(()) => {
                    assert_eq!(kind, io::ErrorKind::StorageFull, "call {call}");
                    full += 1;
                }
                Err(error) => {
                    assert_eq!(storage.saved().unwrap_err().to_string(), error.to_string());
                    assert!(matches!(storage.read_snapshot(0, 1), Err(ReadError::Failed(_))));
                    assert!(disk.calls().len() <= call + 2, "the disk was asked for more after it had failed");
                    failed += 1;
                }
            }
        }
    }
    assert!(failed > 40 && full >= 6, "{failed} final errors, {full} full disks");
}
