//! A node's directory with arbitrary changes is opened: that may be refused, but never panics, never asks for memory
//! that the files do not warrant, and what it finds once it finds always.
//!
//! The input is a list of changes to the files of a small log: the file, where, how many bytes, and the
//! bytes. Its first byte says which log, and whether the checksums are made right again afterwards, so that
//! what stands behind them is reached.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::format::{BATCH_HEADER_BYTES, IDENTITY_BYTES, SEGMENT_HEADER_BYTES, SNAPSHOT_HEADER_BYTES};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Name, Options, SuspectTail};

fn options() -> Options {
    let sizes = Options {
        segment_bytes: 2048,
        segment_bytes_first: 1024,
        cache_bytes: 200,
        reserve_bytes: 0,
        ..Options::default()
    };
    Options { suspect_tail: SuspectTail::Cut, ..sizes }
}

/// Logs with votes, batches, a truncation and a rotation: a whole one, one that is compacted behind the latest of
/// two snapshots, and one whose beginning was replaced by a snapshot.
static LOGS: LazyLock<[Disk; 3]> = LazyLock::new(|| {
    let whole = log(|_, _| ());
    let compacted = log(|storage, term| {
        if term > 3 {
            adopt(storage, storage.last());
            storage.compact(Index(storage.last().index.0 - 2));
        }
    });
    let replaced = log(|storage, term| {
        if term == 3 {
            adopt(storage, EntryId::new(Term(term), Index(50)));
        }
    });
    [whole, compacted, replaced]
});

fn log(after_term: fn(&mut FileStorage<Disk>, u64)) -> Disk {
    let disk = Disk::new();
    let node = NodeId::new(7).expect("7 is not 0");
    let identity = Identity { cluster: ClusterId(1), node, incarnation: Incarnation(99) };
    let (mut storage, _) = FileStorage::create(disk.clone(), identity, options()).expect("the disk is well");
    for term in 1..=6u64 {
        storage.set_hard_state(HardState { term: Term(term), vote: NodeId::new(term), expelled: None });
        if storage.snapshot().is_none() {
            storage.truncate(Index(term));
        }
        for length in [0, 60, 150] {
            let id = EntryId::new(Term(term), storage.last().index.next());
            let payload = vec![7; length];
            let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[&payload]);
            storage.append(&header.expect("it is short"), &[&payload]).expect("there is room");
        }
        storage.flush().expect("the disk is well");
        after_term(&mut storage, term);
    }
    storage.flush().expect("the disk is well");
    disk
}

fn adopt(storage: &mut FileStorage<Disk>, through: EntryId) {
    let content = [5; 700];
    storage.begin_draft();
    storage.extend_draft(&content).expect("there is room");
    let (time, bytes, checksum) = (ClusterTime(through.index.0), content.len() as u64, crc32c(0, &content));
    storage.adopt_draft(SnapshotId { through, time, bytes, checksum });
}

fuzz_target!(|data: &[u8]| {
    let Some((&repairs, changes)) = data.split_first() else { return };
    let disk = LOGS[usize::from(repairs >> 1) % LOGS.len()].after_power_loss(|_| Fate::Kept);
    change(&disk, changes);
    if repairs & 1 == 1 {
        repair(&disk);
    }
    let Ok((mut storage, report)) = FileStorage::open(disk.clone(), options()) else { return };
    let found = image(&mut storage);
    assert_eq!(report.last, storage.last());
    storage.flush().expect("the disk is well");
    drop(storage);
    let (mut storage, report) = FileStorage::open(disk, options()).expect("it was opened before");
    assert_eq!(report.cut, None, "everything was cut that had to be");
    assert_eq!(image(&mut storage), found);
});

fn change(disk: &Disk, mut changes: &[u8]) {
    let names: Vec<Name> = disk.contents().into_keys().collect();
    while let Some(([file, low, high, length], rest)) = changes.split_first_chunk() {
        let (new, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        changes = rest;
        let name = names[usize::from(*file) % names.len()];
        let mut bytes = disk.bytes(name).expect("it was listed");
        let offset = usize::from(u16::from_le_bytes([*low, *high]));
        match length {
            // Nothing to put there: the file ends there, or gets longer.
            0 => bytes.resize(offset, 0),
            _ => bytes.iter_mut().skip(offset).zip(new).for_each(|(place, byte)| *place = *byte),
        }
        disk.put(name, bytes);
    }
}

/// Makes the checksums of the identity, of headers of segments and snapshots, and of batches right.
fn repair(disk: &Disk) {
    for (name, mut bytes) in disk.contents() {
        let header = match name {
            Name::Identity => IDENTITY_BYTES,
            Name::Snapshot(_) => SNAPSHOT_HEADER_BYTES,
            _ => SEGMENT_HEADER_BYTES,
        };
        if let Some(header) = bytes.get_mut(..header) {
            let (covered, checksum) = header.split_at_mut(header.len() - 4);
            checksum.copy_from_slice(&crc32c(0, covered).to_le_bytes());
        }
        for at in (SEGMENT_HEADER_BYTES..bytes.len()).step_by(8) {
            if bytes[at..].starts_with(b"RBAT") {
                repair_batch(&mut bytes[at..]);
            }
        }
        disk.put(name, bytes);
    }
}

fn repair_batch(bytes: &mut [u8]) {
    let Some((header, rest)) = bytes.split_first_chunk_mut::<BATCH_HEADER_BYTES>() else { return };
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if let Some(records) = rest.get(..length) {
        header[76..80].copy_from_slice(&crc32c(0, records).to_le_bytes());
    }
    let checksum = crc32c(0, &header[8..]);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// What the log holds, and the snapshot.
fn image(storage: &mut FileStorage<Disk>) -> (HardState, EntryId, EntryId, Vec<u8>) {
    let (mut next, mut bytes) = (storage.base().index.next(), Vec::new());
    if let Some(snapshot) = storage.snapshot() {
        assert!(storage.base().index <= snapshot.through.index);
        let content = storage.read_snapshot(0, usize::MAX).expect("it was verified at the start");
        assert_eq!((content.len() as u64, crc32c(0, content)), (snapshot.bytes, snapshot.checksum));
        bytes.extend_from_slice(content);
    }
    while next <= storage.last().index {
        let records = storage.read(next, Index(u64::MAX), 400).expect("everything was verified at the start");
        bytes.extend_from_slice(records.bytes());
        next = records.last().index.next();
    }
    (storage.hard_state(), storage.base(), storage.last(), bytes)
}
