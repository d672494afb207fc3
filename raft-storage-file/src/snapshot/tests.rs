//! Snapshots as the core sees them, on a simulated disk.

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};

use crate::error::{OpenError, StorageError};
use crate::files::Name;
use crate::format::Identity;
use crate::options::Options;
use crate::simulated::{Call, Disk, Fate, Unsynced};
use crate::storage::FileStorage;

mod failures;

fn identity() -> Identity {
    Identity { cluster: ClusterId(0xc1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(0x1234_5678) }
}

fn small() -> Options {
    Options {
        segment_bytes: 4096,
        segment_bytes_first: 2048,
        cache_bytes: 1024,
        reserve_bytes: 0,
        ..Options::default()
    }
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
    (0..length as u64).map(|at| u8::try_from((at * 31 + through.index.0 * 7 + through.term.0) % 251).unwrap()).collect()
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
    assert!(before.ends_with(&after) && (before.len() - after.len()) as u64 == storage.metrics().segments_removed);
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
fn whatever_the_base_what_is_behind_it_is_there_after_a_power_loss() {
    let whole = Disk::new();
    fill(&mut create(&whole), 60);
    for index in 1..=60 {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        let mut storage = open(&disk);
        take(&mut storage, id(1, index), 10);
        storage.compact(Index(index));
        assert_eq!(storage.base(), id(1, index));
        drop(storage);
        let mut storage = open(&disk.after_power_loss(|_| Fate::Kept));
        assert!(storage.base().index <= Index(index) && storage.last() == id(1, 60));
        let mut next = Index(index + 1);
        while next <= Index(60) {
            next = storage.read(next, Index(u64::MAX), 500).unwrap().last().index.next();
        }
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
    // The entries that the last segment still holds are there until the log is compacted again.
    for _ in 0..2 {
        let mut storage = open(&disk);
        assert_eq!((storage.last(), storage.last_time()), (id(1, 40), ClusterTime(400)));
        assert!(storage.base() < id(1, 40));
        storage.compact(Index(40));
        assert_eq!((storage.base(), storage.last_time(), segments(&disk).len()), (id(1, 40), ClusterTime(400), 1));
    }
    let mut storage = open(&disk);
    storage.compact(Index(40));
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
        let hard_state = HardState { term: Term(4), vote: None, expelled: None };
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

/// A log that goes on further than the snapshot which takes its place, or was cut before it.
#[test]
fn a_received_snapshot_within_the_log_makes_all_of_it_needless() {
    let prepared = || {
        let disk = Disk::new();
        let mut storage = create(&disk);
        fill(&mut storage, 50);
        (disk, storage)
    };
    let (disk, mut storage) = prepared();
    take(&mut storage, id(2, 30), 10);
    let before = disk.calls().len();
    storage.flush().unwrap();
    assert_eq!((storage.last(), segments(&disk).len()), (id(2, 30), 1));
    // The power goes before the first removal: the next start finds out what is needless.
    let removal = disk.calls().iter().skip(before).position(|call| matches!(call, Call::Remove(_))).unwrap();
    let (disk, mut storage) = prepared();
    take(&mut storage, id(2, 30), 10);
    disk.power_off_at(before + removal);
    storage.flush().unwrap_err();
    let disk = disk.after_power_loss(|_| Fate::Lost);
    let mut storage = open(&disk);
    assert_eq!((storage.base(), storage.last(), segments(&disk).len() > 3), (id(2, 30), id(2, 30), true));
    storage.compact(Index(30));
    assert_eq!(segments(&disk).len(), 1);
    // Cut before it, so that what is on disk ends where the snapshot does.
    let (disk, mut storage) = prepared();
    storage.truncate(Index(40));
    let snapshot = take(&mut storage, id(1, 50), 10);
    assert!(storage.is_pending());
    storage.flush().unwrap();
    drop(storage);
    let storage = open(&disk.after_power_loss(|_| Fate::Lost));
    assert_eq!((storage.base(), storage.snapshot()), (id(1, 50), Some(snapshot)));
}

/// After a failed sync of the names, one that can be seen may be lost with the power. It must be durable
/// before what it covers is removed.
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

/// A gap before which all is covered by a snapshot is what a power loss may make of a compaction;
/// any other is a hole.
/// The last segment begins with entries that were dropped later, when all before it is removed.
#[test]
fn a_log_that_was_cut_before_the_first_segment_left_is_read_back() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 60);
    let newest = segments(&disk).into_iter().max();
    while segments(&disk).into_iter().max() == newest {
        let next = storage.last().index.next();
        fill(&mut storage, next.0);
    }
    // A segment has begun whose header names an entry behind the cut.
    let cut = storage.last().index.0 - 15;
    storage.truncate(Index(cut));
    storage.flush().unwrap();
    let header = |index| EntryHeader::new(id(2, index), ClusterTime(1000), EntryKind::Noop, &[]).unwrap();
    for index in cut + 1..=cut + 17 {
        storage.append(&header(index), &[]).unwrap();
    }
    storage.flush().unwrap();
    take(&mut storage, id(2, cut + 5), 10);
    storage.compact(Index(cut + 5));
    let before = segments(&disk).len();
    take(&mut storage, id(2, cut + 16), 10);
    storage.compact(Index(cut + 16));
    assert!(before > 1 && segments(&disk).len() == 1);
    drop(storage);
    let mut storage = open(&disk);
    assert_eq!((storage.base(), storage.last()), (id(1, cut), id(2, cut + 17)));
    assert_eq!(storage.read(Index(cut + 1), Index(cut + 25), 10_000).unwrap().entries(), 17);
}
