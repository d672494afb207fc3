//! Bits flip, sectors decay, are lost or written in the wrong place: every one of a small log.
//!
//! What must hold each time: the damage is found, or it is provably harmless (the log is whole). The one
//! exception is what nobody can tell from a torn write: a sector of the very last batch that is zeros.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Name, Options};

const SECTOR: usize = 512;

fn options() -> Options {
    Options { segment_bytes: 1536, segment_bytes_first: 1024, cache_bytes: 400, reserve_bytes: 0, ..Options::default() }
}

/// A log of a few segments and batches. The last one spans sectors, some of which are all zeros, which
/// must not be taken for sectors that were never written.
fn disk() -> Disk {
    let disk = Disk::new();
    let identity = Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(99) };
    let (mut storage, _) = FileStorage::create(disk.clone(), identity, options()).unwrap();
    for term in 1..=7u64 {
        storage.set_hard_state(HardState { term: Term(term), vote: NodeId::new(term), expelled: None });
        for length in [0, 40, 90] {
            let id = EntryId::new(Term(term), storage.last().index.next());
            let payload = match (term, length) {
                (7, 40) => vec![0; 1200],
                _ => vec![u8::try_from(id.index.0).unwrap(); length],
            };
            let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[&payload]).unwrap();
            storage.append(&header, &[&payload]).unwrap();
        }
        storage.flush().unwrap();
    }
    disk
}

/// A log that begins with a snapshot that was received, of the same entries as the last ones of the other, and with a
/// later snapshot of its own.
fn disk_with_snapshots() -> Disk {
    let disk = disk();
    let (mut storage, _) = FileStorage::open(disk.clone(), options()).unwrap();
    adopt(&mut storage, EntryId::new(Term(8), Index(40)));
    storage.set_hard_state(HardState { term: Term(8), vote: None, expelled: None });
    storage.flush().unwrap();
    for index in 41..=52 {
        let payload = [u8::try_from(index).unwrap(); 200];
        let id = EntryId::new(Term(8), Index(index));
        let header = EntryHeader::new(id, ClusterTime(index), EntryKind::Operation, &[&payload]).unwrap();
        storage.append(&header, &[&payload]).unwrap();
        storage.flush().unwrap();
    }
    adopt(&mut storage, EntryId::new(Term(8), Index(45)));
    storage.witness().unwrap();
    disk
}

fn adopt(storage: &mut FileStorage<Disk>, through: EntryId) {
    let content: Vec<u8> = (0..200).map(|at| u8::try_from((at * 3 + through.index.0) % 251).unwrap()).collect();
    storage.begin_draft();
    storage.extend_draft(&content).unwrap();
    let (time, bytes, checksum) = (ClusterTime(through.index.0), content.len() as u64, crc32c(0, &content));
    storage.adopt_draft(SnapshotId { through, time, bytes, checksum });
}

fn last_segment(disk: &Disk) -> Name {
    disk.contents().into_keys().rfind(|name| matches!(name, Name::Segment(_))).unwrap()
}

type Image = (HardState, Vec<u8>);

fn image(storage: &mut FileStorage<Disk>) -> Image {
    let (mut next, mut bytes) = (storage.base().index.next(), Vec::new());
    while next <= storage.last().index {
        let records = storage.read(next, Index(u64::MAX), 1000).unwrap();
        bytes.extend_from_slice(records.bytes());
        next = records.last().index.next();
    }
    (storage.hard_state(), bytes)
}

enum Outcome {
    Refused,
    Whole,
    /// Something was cut off, and that was said.
    Cut,
}

fn outcome(disk: &Disk, expected: &Image, context: &str) -> Outcome {
    let Ok((mut storage, report)) = FileStorage::open(disk.clone(), options()) else { return Outcome::Refused };
    let found = image(&mut storage);
    if found == *expected {
        return Outcome::Whole;
    }
    assert!(report.cut.is_some(), "{context}: something is missing, and nothing is said");
    assert!(
        expected.1.starts_with(&found.1) && report.last.index == Index(18),
        "{context}: only the last batch may go"
    );
    Outcome::Cut
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let disk = disk();
    let whole = disk.contents();
    let expected = image(&mut FileStorage::open(disk.after_power_loss(|_| Fate::Kept), options()).unwrap().0);
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in &whole {
        for bit in 0..bytes.len() * 8 {
            // Behind the end of the log one bit of each byte will do.
            if bytes[bit / 8..].iter().all(|&byte| byte == 0) && bit % 8 > 0 {
                continue;
            }
            let damaged = disk.after_power_loss(|_| Fate::Kept);
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            damaged.put(*name, bytes);
            match outcome(&damaged, &expected, &format!("bit {bit} of {name}")) {
                Outcome::Refused => refused += 1,
                Outcome::Whole => harmless += 1,
                Outcome::Cut => panic!("bit {bit} of {name}: acknowledged entries are gone"),
            }
        }
    }
    println!("{} files, {refused} flipped bits found, {harmless} harmless", whole.len());
    assert!(refused > 20 * harmless / 10);
}

#[test]
fn every_lost_decayed_or_misplaced_sector_is_found_or_harmless() {
    let disk = disk();
    let whole = disk.contents();
    let expected = image(&mut FileStorage::open(disk.after_power_loss(|_| Fate::Kept), options()).unwrap().0);
    let last = last_segment(&disk);
    let mut sources = vec![vec![0; SECTOR], vec![0xa5; SECTOR]];
    for bytes in whole.values() {
        sources.extend(bytes.chunks(SECTOR).map(<[u8]>::to_vec));
    }
    let (mut refused, mut harmless, mut cut) = (0, 0, 0);
    for (name, bytes) in &whole {
        for start in (0..bytes.len()).step_by(SECTOR) {
            for source in &sources {
                let damaged = disk.after_power_loss(|_| Fate::Kept);
                let mut bytes = bytes.clone();
                for (place, byte) in bytes.iter_mut().skip(start).zip(source) {
                    *place = *byte;
                }
                damaged.put(*name, bytes);
                match outcome(&damaged, &expected, &format!("the sector at {start} of {name}")) {
                    Outcome::Refused => refused += 1,
                    Outcome::Whole => harmless += 1,
                    Outcome::Cut => {
                        assert_eq!(*name, last);
                        cut += 1;
                    }
                }
            }
        }
    }
    println!("{refused} sectors found, {harmless} harmless, {cut} taken for a torn write");
}

#[test]
fn a_file_cut_short_anywhere_is_found_or_harmless() {
    let disk = disk();
    let expected = image(&mut FileStorage::open(disk.after_power_loss(|_| Fate::Kept), options()).unwrap().0);
    let last = last_segment(&disk);
    for (name, bytes) in disk.contents() {
        for length in (0..bytes.len()).filter(|length| length % 5 == 0) {
            let damaged = disk.after_power_loss(|_| Fate::Kept);
            damaged.put(name, bytes[..length].to_vec());
            let outcome = outcome(&damaged, &expected, &format!("{name} cut to {length} bytes"));
            // The last batch lies behind what was prepared for the segment, where a torn write ends early.
            let grown = name == last && length >= usize::try_from(options().segment_bytes).unwrap();
            assert!(grown || !matches!(outcome, Outcome::Cut), "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_found() {
    let disk = disk_with_snapshots();
    let expected = image(&mut FileStorage::open(disk.after_power_loss(|_| Fate::Kept), options()).unwrap().0);
    let [received, own] = [40, 45].map(|index| Name::Snapshot(EntryId::new(Term(8), Index(index))));
    // Without its own snapshot, and after a compaction, the log begins where the only one ends.
    let alone = disk.after_power_loss(|_| Fate::Kept);
    alone.take(own);
    let compacted = disk.after_power_loss(|_| Fate::Kept);
    let (mut storage, _) = FileStorage::open(compacted.clone(), options()).unwrap();
    storage.compact(Index(45));
    drop(storage);
    assert_eq!((alone.bytes(received).is_some(), compacted.bytes(received)), (true, None));
    for bit in 0..(96 + 200) * 8 {
        let flipped = |disk: &Disk, name| {
            let disk = disk.after_power_loss(|_| Fate::Kept);
            let mut bytes = disk.bytes(name).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.put(name, bytes);
            FileStorage::open(disk, options())
        };
        for (disk, name) in [(&alone, received), (&compacted, own)] {
            assert!(flipped(disk, name).is_err(), "bit {bit} of {name}, which nothing can replace");
        }
        let (mut storage, report) = flipped(&disk, own).unwrap();
        assert_eq!((report.damaged_snapshot, report.snapshot.unwrap().through.index), (Some(own), Index(40)));
        assert_eq!(image(&mut storage), expected, "bit {bit}: the older one and the log hold everything");
        let (mut storage, report) = flipped(&disk, received).unwrap();
        assert_eq!((report.damaged_snapshot, report.snapshot.unwrap().through.index), (None, Index(45)));
        assert_eq!(image(&mut storage), expected);
    }
}

#[test]
fn every_flipped_bit_of_a_log_behind_a_snapshot_is_found_or_harmless() {
    let disk = disk_with_snapshots();
    let expected = image(&mut FileStorage::open(disk.after_power_loss(|_| Fate::Kept), options()).unwrap().0);
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in disk.contents() {
        let Name::Segment(_) = name else { continue };
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        for byte in 0..=end {
            let damaged = disk.after_power_loss(|_| Fate::Kept);
            let mut bytes = bytes.clone();
            bytes[byte] ^= 1 << (byte % 8);
            damaged.put(name, bytes);
            match outcome(&damaged, &expected, &format!("byte {byte} of {name}")) {
                Outcome::Refused => refused += 1,
                Outcome::Whole => harmless += 1,
                Outcome::Cut => panic!("byte {byte} of {name}: acknowledged entries are gone"),
            }
        }
    }
    println!("{refused} flipped bits found, {harmless} harmless");
    assert!(refused > 5 * harmless);
}
