//! Damage, missing files, full and failing disks, mistakes.

use std::io;

use super::*;
use crate::error::{OpenError, StorageError};

#[test]
fn a_snapshot_whose_name_was_not_synced_is_named_durably_before_segments_go() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 50);
    drop(storage);
    // A start that finds no batch in the last segment has no other reason to sync the names.
    let mut storage = open(&disk);
    let snapshot = draft(&mut storage, id(1, 50), 10);
    storage.adopt_draft(snapshot);
    let sync = disk.calls().iter().rposition(|&call| call == Call::SyncDirectory).unwrap();
    drop(storage);

    let disk = Disk::new();
    let mut storage = create(&disk);
    fill(&mut storage, 50);
    drop(storage);
    let mut storage = open(&disk);
    let snapshot = draft(&mut storage, id(1, 50), 10);
    disk.fail_at(sync, io::ErrorKind::Other);
    storage.adopt_draft(snapshot);
    storage.flush().unwrap_err();
    drop(storage);
    let mut storage = open(&disk);
    assert_eq!(storage.snapshot(), Some(snapshot), "it can be seen");
    storage.compact(Index(50));
    drop(storage);
    let removed = |thing| matches!(thing, Unsynced::Name(Name::Segment(_)));
    let disk = disk.after_power_loss(|thing| if removed(thing) { Fate::Kept } else { Fate::Lost });
    assert_eq!((open(&disk).snapshot(), segments(&disk).len()), (Some(snapshot), 1));
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
    let mut other = bytes.clone();
    other[8] = 1;
    for bytes in [&mut foreign, &mut other] {
        let checksum = crc32c(0, &bytes[..92]);
        bytes[92..96].copy_from_slice(&checksum.to_le_bytes());
    }
    disk.put(name, foreign);
    assert!(matches!(refused(&disk), OpenError::SnapshotForeign { .. }));
    disk.put(name, other);
    assert!(matches!(refused(&disk), OpenError::OtherVersion { version: 1, .. }));
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
            // In memory it is as it was asked for, even if the disk has failed.
            assert_eq!(storage.term(through.index), Some(through.term));
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
