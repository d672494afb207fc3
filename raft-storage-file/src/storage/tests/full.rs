//! Full disks: what still works, and how room is found again.

use raft_core::crc::crc32c;

use super::*;

/// How many bytes all files have.
fn used(disk: &Disk) -> usize {
    disk.contents().values().map(Vec::len).sum()
}

/// Asks it often enough what is saved that it looks for room.
fn look(storage: &mut FileStorage<Disk>) {
    for _ in 0..LOOK_EVERY {
        storage.saved().unwrap();
    }
}

fn noop(storage: &FileStorage<Disk>, term: u64) -> EntryHeader {
    let id = EntryId::new(Term(term), storage.last().index.next());
    EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Noop, &[]).unwrap()
}

/// Appends entries of 100 bytes until there is no room for another.
fn fill(storage: &mut FileStorage<Disk>) {
    for _ in 0..100_000 {
        let index = storage.last().index.next().0;
        if storage.append(&header(1, index, &[7; 100]), &[&[7; 100]]).is_err() {
            return;
        }
        storage.flush().unwrap();
    }
    panic!("the disk is never full");
}

/// A log on a disk of so many bytes, of which none is left.
fn full(bytes: usize, options: Options) -> (Disk, FileStorage<Disk>) {
    let disk = Disk::new();
    let mut storage = FileStorage::create(disk.clone(), identity(), options).unwrap().0;
    disk.set_capacity(bytes);
    fill(&mut storage);
    disk.set_capacity(0);
    (disk, storage)
}

fn snapshot(storage: &mut FileStorage<Disk>, index: u64) -> Result<(), Full> {
    let content = [u8::try_from(index).unwrap_or(u8::MAX); 300];
    storage.begin_draft();
    storage.extend_draft(&content)?;
    let through = EntryId::new(Term(1), Index(index));
    let (time, bytes, checksum) = (ClusterTime(index), content.len() as u64, crc32c(0, &content));
    storage.adopt_draft(SnapshotId { through, time, bytes, checksum });
    storage.flush().unwrap();
    Ok(())
}

#[test]
fn a_start_on_a_full_disk_needs_no_room_and_neither_do_elections() {
    // A quarter of a segment that is this short is kept free for it.
    let options = Options { segment_bytes: 64 << 10, segment_bytes_first: 64 << 10, ..small() };
    let (disk, mut storage) = full(200_000, options);
    assert!(Storage::metrics(&storage).full);
    let (filled, before) = (storage.last(), used(&disk));
    for life in 2..=12 {
        storage.set_hard_state(HardState { term: Term(life), vote: NodeId::new(1), expelled: None });
        storage.flush().unwrap();
        // The first entry of a leader; but none of a client.
        let header = noop(&storage, life);
        storage.append(&header, &[]).unwrap();
        assert!(!storage.has_room(0));
        storage.flush().unwrap();
        storage.witness().unwrap();
        let last = storage.last();
        assert_eq!(storage.saved().unwrap().through, last);
        drop(storage);
        let (opened, report) = FileStorage::open(disk.clone(), options).unwrap();
        assert_eq!((report.last, report.hard_state.term), (last, Term(life)));
        storage = opened;
        assert!(used(&disk) <= before);
    }
    assert_eq!(storage.last().index, filled.index.plus(11));
    disk.set_capacity(None);
    look(&mut storage);
    assert!(!Storage::metrics(&storage).full);
    append(&mut storage, 12, &[7; 100]);
    storage.flush().unwrap();
}

/// Of two nodes with the same disk, the one that follows has room for all that the other one took as the leader, also
/// when their segments end elsewhere.
#[test]
fn a_leader_takes_no_more_than_a_follower_with_the_same_disk_has_room_for() {
    let options = Options { segment_bytes: 64 << 10, segment_bytes_first: 4 << 10, ..small() };
    for bytes in (150_000..250_000).step_by(7_777) {
        let [leads, follows] = [(); 2].map(|()| Disk::new());
        let mut leader = FileStorage::create(leads.clone(), identity(), options).unwrap().0;
        let longer = Options { segment_bytes_first: 20 << 10, ..options };
        let mut follower = FileStorage::create(follows.clone(), identity(), longer).unwrap().0;
        [&leads, &follows].into_iter().for_each(|disk| disk.set_capacity(bytes));
        while leader.has_room(100) {
            append(&mut leader, 1, &[7; 100]);
            leader.flush().unwrap();
        }
        assert!(Storage::metrics(&leader).full);
        while follower.last() < leader.last() {
            append(&mut follower, 1, &[7; 100]);
            follower.flush().unwrap();
        }
        assert!(!Storage::metrics(&follower).full);
    }
}

#[test]
fn a_torn_tail_is_cut_on_a_full_disk_too_and_it_is_said_that_it_is_not_kept() {
    let (disk, mut storage) = full(30_000, small());
    let last = storage.last();
    let (name, start) = (
        Name::Segment(storage.segment.number),
        usize::try_from(crate::format::batch_start(storage.segment.end)).unwrap(),
    );
    let header = noop(&storage, 1);
    storage.append(&header, &[]).unwrap();
    storage.flush().unwrap();
    drop(storage);
    // Only the end of the batch has reached the disk.
    let mut bytes = disk.bytes(name).unwrap();
    bytes[start..start + BATCH_HEADER_BYTES].fill(0);
    let disk = disk.after_power_loss(|_| Fate::Kept);
    disk.put(name, bytes);
    disk.set_capacity(0);
    let options = Options { suspect_tail: SuspectTail::Cut, ..small() };
    let (storage, report) = FileStorage::open(disk.clone(), options).unwrap();
    let cut = report.cut.unwrap();
    assert_eq!((storage.last(), cut.kept, cut.suspect), (last, None, false));
    assert!(cut.to_string().contains("no room to keep them"), "{cut}");
    drop(storage);
    assert_eq!(FileStorage::open(disk, options).unwrap().1.cut, None, "it is cut off for good");
}

#[test]
fn a_log_goes_on_in_shorter_segments_while_there_is_little_room() {
    let options = Options { segment_bytes: 4 << 20, segment_bytes_first: 256 << 10, ..small() };
    let disk = Disk::new();
    let mut storage = FileStorage::create(disk.clone(), identity(), options).unwrap().0;
    // A second segment is to have 512 KiB.
    disk.set_capacity((256 + 300) << 10);
    fill(&mut storage);
    let segments: Vec<usize> = disk.contents().into_values().map(|bytes| bytes.len()).collect();
    assert_eq!(segments.iter().filter(|&&bytes| bytes >= 256 << 10).count(), 2, "{segments:?}");
    assert!(segments.contains(&(256 << 10)), "the first one is sealed in its own room: {segments:?}");
    assert!(used(&disk) > (256 + 290) << 10, "hardly any room is left unused: {segments:?}");
    let last = storage.last();
    drop(storage);
    let (mut storage, report) = FileStorage::open(disk.clone(), options).unwrap();
    assert_eq!(report.last, last);
    disk.set_capacity(None);
    append(&mut storage, 1, &[7; 100]);
    storage.flush().unwrap();
}

#[test]
fn a_snapshot_on_a_full_disk_frees_what_it_covers_and_the_log_goes_on() {
    let (disk, mut storage) = full(60_000, small());
    disk.set_capacity(used(&disk) + 40_000);
    snapshot(&mut storage, 100).unwrap();
    let last = storage.last().index;
    snapshot(&mut storage, last.0).unwrap();
    let snapshots = |disk: &Disk| disk.contents().into_keys().filter(|name| matches!(name, Name::Snapshot(_))).count();
    assert_eq!(snapshots(&disk), 1, "the one before it is not kept");
    disk.set_capacity(used(&disk));
    let before = used(&disk);
    storage.compact(last);
    assert!(used(&disk) < before / 2, "{before} bytes before, {} after", used(&disk));
    look(&mut storage);
    assert!(!Storage::metrics(&storage).full, "nobody has to try an append first");
    append(&mut storage, 1, &[7; 100]);
    storage.flush().unwrap();
}

/// For the first snapshot of a log that has filled the disk there is what was kept free for it, in a later life too.
#[test]
fn a_full_log_has_room_for_a_snapshot_and_keeps_some_free_again() {
    for (reserve_bytes, restarts) in [(40 << 10, false), (40 << 10, true), (0, false)] {
        let options = Options { segment_bytes: 32 << 10, segment_bytes_first: 8 << 10, reserve_bytes, ..small() };
        let disk = Disk::new();
        let mut storage = FileStorage::create(disk.clone(), identity(), options).unwrap().0;
        disk.set_capacity(200_000);
        fill(&mut storage);
        disk.set_capacity(used(&disk));
        if restarts {
            drop(storage);
            storage = FileStorage::open(disk.clone(), options).unwrap().0;
            assert!(!storage.has_room(100));
        }
        let last = storage.last().index;
        let made = snapshot(&mut storage, last.0);
        assert_eq!(made.is_ok(), reserve_bytes > 0);
        if reserve_bytes == 0 {
            continue;
        }
        // Nothing else gets the room before it is free again.
        assert!(!storage.has_room(100) || disk.bytes(Name::Reserve).is_some());
        storage.compact(last);
        look(&mut storage);
        assert!(!Storage::metrics(&storage).full);
        assert_eq!(disk.bytes(Name::Reserve).map(|bytes| bytes.len()), Some(40 << 10));
        append(&mut storage, 1, &[7; 100]);
        storage.flush().unwrap();
    }
}
