//! The storage as the core sees it, on a simulated disk.

use std::io;

use raft_core::entry::EntryKind;
use raft_core::types::{ClusterId, Incarnation, NodeId};

use super::*;
use crate::error::{OpenError, Operation};
use crate::files::Name;
use crate::format::{BatchHeader, IDENTITY_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::options::SuspectTail;
use crate::simulated::{Call, Disk, Fate};

mod damage;
mod full;

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

fn header(term: u64, index: u64, payload: &[u8]) -> EntryHeader {
    let id = EntryId::new(Term(term), Index(index));
    EntryHeader::new(id, ClusterTime(index), EntryKind::Operation, &[payload]).unwrap()
}

fn append(storage: &mut FileStorage<Disk>, term: u64, payload: &[u8]) {
    let index = storage.last().index.next().0;
    storage.append(&header(term, index, payload), &[payload]).unwrap();
}

fn payloads(storage: &mut FileStorage<Disk>) -> Vec<Vec<u8>> {
    let (mut next, mut payloads) = (storage.base().index.next(), Vec::new());
    while next <= storage.last().index {
        let through = storage.last().index;
        let records = storage.read(next, through, 200).unwrap();
        assert!(!records.is_empty());
        payloads.extend(records.iter().map(|entry| entry.payload.to_vec()));
        next = records.last().index.next();
    }
    payloads
}

fn create(disk: &Disk) -> FileStorage<Disk> {
    FileStorage::create(disk.clone(), identity(), small()).unwrap().0
}

#[test]
fn what_was_saved_is_there_after_reopening() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    let hard_state = HardState { term: Term(3), vote: NodeId::new(2), expelled: None };
    storage.set_hard_state(hard_state);
    for n in 0..100u8 {
        append(&mut storage, 3, &[n; 50]);
        if n % 7 == 0 {
            storage.flush().unwrap();
        }
    }
    assert_eq!(storage.saved().unwrap().through, EntryId::new(Term(3), Index(99)));
    storage.flush().unwrap();
    let saved = storage.saved().unwrap();
    assert_eq!(saved, Saved { hard_state, through: EntryId::new(Term(3), Index(100)) });
    let expected: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 50]).collect();
    assert_eq!(payloads(&mut storage), expected);
    assert!(storage.metrics().rotations > 1 && storage.metrics().disk_reads > 0);
    drop(storage);
    for _ in 0..3 {
        let (mut storage, report) = FileStorage::open(disk.clone(), small()).unwrap();
        assert_eq!((report.entries, report.last, report.cut), (100, saved.through, None));
        assert_eq!(storage.saved().unwrap(), saved);
        assert_eq!(storage.last_time(), ClusterTime(100));
        assert_eq!(payloads(&mut storage), expected);
    }
}

#[test]
fn a_flush_with_nothing_new_does_nothing() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    append(&mut storage, 1, b"x");
    storage.flush().unwrap();
    let calls = disk.calls().len();
    storage.flush().unwrap();
    storage.set_hard_state(storage.hard_state());
    storage.flush().unwrap();
    assert_eq!(disk.calls().len(), calls);
    assert_eq!(storage.metrics(), Metrics { syncs: 1, entries: 1, bytes: 120 + 33, ..Metrics::default() });
}

#[test]
fn a_truncation_reaches_back_beyond_the_cache_and_across_segments() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    for n in 0..100u8 {
        append(&mut storage, 1, &[n; 50]);
        storage.flush().unwrap();
    }
    storage.truncate(Index(10));
    assert_eq!((storage.last(), storage.last_time()), (EntryId::new(Term(1), Index(10)), ClusterTime(10)));
    assert_eq!(payloads(&mut storage).len(), 10);
    append(&mut storage, 2, b"new");
    // An entry that waits is dropped before it is ever written.
    append(&mut storage, 2, b"never saved");
    storage.truncate(Index(11));
    storage.flush().unwrap();
    storage.truncate(Index(4));
    storage.flush().unwrap();
    append(&mut storage, 3, b"newer");
    storage.flush().unwrap();
    let mut expected: Vec<Vec<u8>> = (0..4u8).map(|n| vec![n; 50]).collect();
    expected.push(b"newer".to_vec());
    assert_eq!(payloads(&mut storage), expected);
    drop(storage);
    let (mut storage, _) = FileStorage::open(disk, small()).unwrap();
    assert_eq!(payloads(&mut storage), expected);
    assert_eq!((storage.term(Index(4)), storage.term(Index(5))), (Some(Term(1)), Some(Term(3))));
}

#[test]
fn long_batches_and_long_entries_go_beyond_a_segment() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    append(&mut storage, 1, &[1; 10_000]);
    append(&mut storage, 1, &[2; 20_000]);
    storage.flush().unwrap();
    assert_eq!(storage.metrics().rotations, 0, "no segment stays empty");
    append(&mut storage, 1, &[3; 100]);
    storage.flush().unwrap();
    let lengths = |storage: &mut FileStorage<Disk>| payloads(storage).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&mut storage), [10_000, 20_000, 100]);
    drop(storage);
    let (mut storage, _) = FileStorage::open(disk, small()).unwrap();
    assert_eq!(lengths(&mut storage), [10_000, 20_000, 100]);
}

#[test]
fn what_is_not_held_cannot_be_read() {
    let mut storage = create(&Disk::new());
    append(&mut storage, 1, b"x");
    for (from, through) in [(0, 1), (2, 2), (1, 0)] {
        let read = storage.read(Index(from), Index(through), 100);
        assert!(matches!(read, Err(ReadError::Missing(_))));
    }
    assert_eq!(storage.read(Index(1), Index(u64::MAX), 0).unwrap().entries(), 1);
}

#[test]
fn mistakes_of_the_caller_are_final_and_are_not_written() {
    type Mistake = fn(&mut FileStorage<Disk>);
    let mistakes: [Mistake; 4] = [
        |storage| storage.append(&header(1, 5, b""), &[]).unwrap(),
        |storage| storage.append(&header(1, 2, b"abc"), &[b"ab"]).unwrap(),
        |storage| storage.set_hard_state(HardState { term: Term(1), vote: None, expelled: None }),
        |storage| storage.set_hard_state(HardState { term: Term(2), vote: NodeId::new(2), expelled: None }),
    ];
    for mistake in mistakes {
        let disk = Disk::new();
        let mut storage = create(&disk);
        storage.set_hard_state(HardState { term: Term(2), vote: NodeId::new(1), expelled: None });
        append(&mut storage, 1, b"x");
        storage.flush().unwrap();
        let contents = disk.contents();
        mistake(&mut storage);
        let error = storage.flush().unwrap_err().to_string();
        assert!(error.contains("nothing was written"), "{error}");
        assert_eq!(storage.saved().unwrap_err().to_string(), error);
        assert_eq!(disk.contents(), contents);
    }
}

#[test]
fn a_full_disk_is_said_before_anything_is_taken() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    disk.set_capacity(2048 + 4096 + 1000);
    let try_append = |storage: &mut FileStorage<Disk>| {
        let index = storage.last().index.next().0;
        storage.append(&header(1, index, &[6; 50]), &[&[6; 50]])
    };
    let mut refused = 0;
    for _ in 0..100 {
        refused += usize::from(try_append(&mut storage).is_err());
        storage.flush().unwrap();
    }
    assert!(refused > 40, "there is room for fewer than 60 entries");
    // Votes can be saved still, and all is as it was when there is room again.
    storage.set_hard_state(HardState { term: Term(9), vote: None, expelled: None });
    storage.flush().unwrap();
    disk.set_capacity(100_000);
    let before = storage.last().index;
    for _ in 0..100 {
        try_append(&mut storage).unwrap();
        storage.flush().unwrap();
    }
    assert_eq!(storage.last().index, before.plus(100));
    drop(storage);
    assert_eq!(FileStorage::open(disk, small()).unwrap().1.last.index, before.plus(100));
}

#[test]
fn what_waits_for_a_flush_is_bounded() {
    let options = Options { pending_bytes_max: 100, ..small() };
    let mut storage = FileStorage::create(Disk::new(), identity(), options).unwrap().0;
    let long = [7; 200];
    storage.append(&header(1, 1, &long), &[&long]).unwrap();
    assert!(!storage.has_room(0));
    assert_eq!(storage.append(&header(1, 2, b""), &[]), Err(Full));
    storage.flush().unwrap();
    assert!(storage.has_room(0));
    storage.append(&header(1, 2, b""), &[]).unwrap();
}

#[test]
fn every_wrong_directory_has_its_own_answer() {
    let open = |disk: &Disk| FileStorage::open(disk.clone(), small()).map(|(_, report)| report);
    assert!(matches!(open(&Disk::new()), Err(OpenError::NotCreated)));
    let whole = Disk::new();
    let mut storage = create(&whole);
    for _ in 0..60 {
        append(&mut storage, 1, &[5; 50]);
        storage.flush().unwrap();
    }
    assert!(matches!(open(&whole), Err(OpenError::Locked { holder: Some(_) })));
    drop(storage);
    let again = FileStorage::create(whole.clone(), identity(), small()).map(drop);
    assert!(matches!(again, Err(OpenError::AlreadyCreated { .. })));
    let (cluster, node) = (identity().cluster, identity().node);
    let as_other = |cluster, node| FileStorage::open_as(whole.clone(), cluster, node, small()).map(drop);
    assert!(matches!(as_other(ClusterId(2), node), Err(OpenError::WrongCluster { .. })));
    assert!(matches!(as_other(cluster, NodeId::new(8).unwrap()), Err(OpenError::WrongNode { .. })));

    let damaged = |damage: &dyn Fn(&Disk)| {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        damage(&disk);
        let contents = disk.contents();
        let error = open(&disk).unwrap_err();
        assert_eq!(disk.contents(), contents, "nothing may be changed before everything was judged");
        error
    };
    let flip = |name, offset: usize| {
        move |disk: &Disk| {
            let mut bytes = disk.bytes(name).unwrap();
            bytes[offset] ^= 1;
            disk.put(name, bytes);
        }
    };
    assert!(matches!(damaged(&|disk| disk.take(Name::Identity)), OpenError::IdentityMissing));
    assert!(matches!(damaged(&flip(Name::Identity, 20)), OpenError::IdentityDamaged));
    assert!(matches!(damaged(&|disk| disk.put(Name::Identity, vec![0; 10])), OpenError::IdentityDamaged));
    assert!(matches!(damaged(&other_version(Name::Identity)), OpenError::OtherVersion { version: 1, .. }));
    assert!(matches!(
        damaged(&other_version(Name::Segment(2))),
        OpenError::OtherVersion { name: Name::Segment(2), version: 1 }
    ));
    let last = whole.contents().keys().filter(|name| matches!(name, Name::Segment(_))).count() as u64;
    assert!(last >= 3);
    for number in 1..=last {
        let name = Name::Segment(number);
        let error = damaged(&|disk| disk.take(name));
        assert!(matches!(error, OpenError::SegmentMissing { name: missing } if missing == name), "{error}");
        assert!(matches!(damaged(&flip(name, 50)), OpenError::SegmentDamaged { .. }));
        assert!(matches!(damaged(&|disk| disk.put(name, vec![1; 100])), OpenError::SegmentShort { .. }));
        let error = damaged(&flip(name, 172));
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let other = whole.bytes(Name::Segment(number % last + 1)).unwrap();
        assert!(matches!(damaged(&|disk| disk.put(name, other.clone())), OpenError::SegmentForeign { .. }));
    }
}

fn other_version(name: Name) -> impl Fn(&Disk) {
    move |disk| {
        let mut bytes = disk.bytes(name).unwrap();
        bytes[8] = 1;
        let header = if name == Name::Identity { IDENTITY_BYTES } else { SEGMENT_HEADER_BYTES };
        let checksum = raft_core::crc::crc32c(0, &bytes[..header - 4]);
        bytes[header - 4..header].copy_from_slice(&checksum.to_le_bytes());
        disk.put(name, bytes);
    }
}

/// The power goes when the next segment is there and the one before does not say so yet.
#[test]
fn a_segment_that_was_not_sealed_is_sealed_at_the_next_start() {
    let rotation = |disk: &Disk| disk.calls().contains(&Call::Rename(Name::Spare, Name::Segment(2)));
    let fill = |disk: &Disk| {
        let mut storage = create(disk);
        while !rotation(disk) {
            append(&mut storage, 1, &[5; 50]);
            let _ = storage.flush();
        }
    };
    let whole = Disk::new();
    fill(&whole);
    let renamed = whole.calls().iter().position(|&call| call == Call::Rename(Name::Spare, Name::Segment(2))).unwrap();
    let disk = Disk::new();
    disk.power_off_at(renamed + 2);
    fill(&disk);
    let disk = disk.after_power_loss(|_| Fate::Lost);
    let (mut storage, _) = FileStorage::open(disk.clone(), small()).unwrap();
    append(&mut storage, 1, b"acknowledged");
    storage.flush().unwrap();
    drop(storage);
    disk.take(Name::Segment(2));
    let missing = FileStorage::open(disk, small()).map(drop);
    assert!(matches!(missing, Err(OpenError::SegmentMissing { name: Name::Segment(2) })));
}

/// After a failed sync the system shows bytes that are not on the disk. A log that is opened then must
/// not let them be acknowledged before they are.
#[test]
fn what_a_start_after_a_failed_sync_shows_survives_a_power_loss() {
    let disk = Disk::new();
    let options = Options { segment_bytes: 16 << 10, segment_bytes_first: 8 << 10, ..small() };
    let mut storage = FileStorage::create(disk.clone(), identity(), options).unwrap().0;
    append(&mut storage, 1, b"saved");
    storage.flush().unwrap();
    // Longer than a sector, which the next write to it would bring to the disk by chance.
    append(&mut storage, 1, &[3; 1500]);
    let sync = disk.calls().len() + 1;
    disk.fail_at(sync, io::ErrorKind::Other);
    storage.flush().unwrap_err();
    assert_eq!(disk.calls().len(), sync + 1);
    drop(storage);
    let (mut storage, report) = FileStorage::open(disk.clone(), small()).unwrap();
    assert_eq!((report.entries, report.cut), (2, None), "the page cache shows it");
    let shown = payloads(&mut storage);
    let after = disk.after_power_loss(|_| Fate::Lost);
    assert_eq!(payloads(&mut FileStorage::open(after, small()).unwrap().0), shown);
}

#[test]
fn an_error_at_any_call_is_final_and_nothing_is_acknowledged_after_it() {
    let script = |disk: &Disk| -> Result<(), StorageError> {
        let Ok((mut storage, _)) = FileStorage::create(disk.clone(), identity(), small()) else {
            return Ok(());
        };
        for n in 0..80u8 {
            if n % 20 == 19 {
                storage.truncate(Index(u64::from(n) / 2));
            }
            let term = 1 + u64::from(n) / 20;
            let index = storage.last().index.next().0;
            let _ = storage.append(&header(term, index, &[n; 50]), &[&[n; 50]]);
            if let Err(error) = storage.flush() {
                let saved = storage.saved().map(|_| ()).unwrap_err().to_string();
                let flushed = storage.flush().unwrap_err().to_string();
                assert_eq!((saved, flushed), (error.to_string(), error.to_string()));
                let read = storage.read(Index(1), Index(1), 10).map(|_| ());
                assert!(matches!(read, Err(ReadError::Failed(_))));
                return Err(error);
            }
            let through = storage.last().index;
            if let Err(ReadError::Failed(error)) = storage.read(Index(1), through, 10).map(|_| ()) {
                assert!(storage.flush().is_err() && storage.saved().is_err());
                return Err(error);
            }
        }
        Ok(())
    };
    let whole = Disk::new();
    script(&whole).unwrap();
    let calls = whole.calls().len();
    let mut failed = 0;
    for call in 0..calls {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            let disk = Disk::new();
            disk.fail_at(call, kind);
            if let Err(error) = script(&disk) {
                failed += 1;
                let StorageError::Disk(error) = error else { panic!("{error}") };
                assert_eq!(error.source.kind(), kind);
                assert!(error.operation != Operation::Lock);
                let after = disk.calls().len();
                assert!(after <= call + 2, "the disk was asked for more after it had failed at call {call}");
            }
        }
    }
    println!("{calls} calls, {failed} final errors");
}
