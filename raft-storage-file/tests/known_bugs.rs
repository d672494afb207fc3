//! What went wrong in the storages of other implementations, by the numbers of the list of such bugs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::Disk;
use raft_storage_file::{FileStorage, Identity, Name, Options};

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(1).unwrap(), incarnation: Incarnation(2) }
}

/// Several segments, and a cache that holds the last few entries.
fn options() -> Options {
    Options { segment_bytes: 4096, segment_bytes_first: 2048, cache_bytes: 600, reserve_bytes: 0, ..Options::default() }
}

/// A log beside a vector that says what it should hold.
struct Pair {
    storage: FileStorage<Disk>,
    entries: Vec<(EntryId, Vec<u8>)>,
}

impl Pair {
    fn create(disk: &Disk) -> Pair {
        let (storage, _) = FileStorage::create(disk.clone(), identity(), options()).unwrap();
        Pair { storage, entries: Vec::new() }
    }

    /// Appends entries of a term, each of another length and content.
    fn append(&mut self, term: u64, count: usize) {
        for _ in 0..count {
            let id = EntryId::new(Term(term), self.storage.last().index.next());
            let byte = u8::try_from((term * 31 + id.index.0) % 251).unwrap();
            let payload = vec![byte; 40 + usize::from(byte) % 50];
            let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[&payload]).unwrap();
            self.storage.append(&header, &[&payload]).unwrap();
            self.entries.push((id, payload));
        }
    }

    fn truncate(&mut self, last: usize) {
        self.storage.truncate(Index(last as u64));
        self.entries.truncate(last);
    }

    /// Every entry, read alone and with those behind it, is the one that was appended last at its index.
    fn assert_holds_what_was_appended_last(&mut self) {
        assert_eq!(self.storage.last(), self.entries.last().unwrap().0);
        for (at, (id, _)) in self.entries.iter().enumerate() {
            assert_eq!(self.storage.term(id.index), Some(id.term));
            for bytes_max in [1, 200, 1 << 20] {
                let records = self.storage.read(id.index, self.storage.last().index, bytes_max).unwrap();
                let read: Vec<_> = records.iter().map(|entry| (entry.header.id(), entry.payload.to_vec())).collect();
                assert!(!read.is_empty());
                assert_eq!(read, self.entries[at..at + read.len()], "from {id:?} on, {bytes_max} bytes");
            }
        }
        let behind = self.storage.last().index.next();
        assert_eq!(self.storage.term(behind), None);
        assert!(self.storage.read(behind, behind, 1).is_err(), "what was dropped cannot be read");
    }

    /// Closes it, which loses what was not flushed, and opens it again.
    fn reopen(self, disk: &Disk) -> Pair {
        let Pair { storage, entries } = self;
        drop(storage);
        Pair { storage: FileStorage::open(disk.clone(), options()).unwrap().0, entries }
    }
}

#[test]
fn known_bug_40_the_cache_forgets_what_is_truncated() {
    // Within what waits for its sync, within what the cache holds, at its edge, and far before it; and whether
    // what takes the place is read before it is saved, after that, or after a start.
    for last in [59, 57, 54, 50, 45, 30, 7] {
        for flush_before in [false, true] {
            let disk = Disk::new();
            let mut log = Pair::create(&disk);
            log.append(1, 50);
            log.storage.flush().unwrap();
            log.append(1, 10);
            if flush_before {
                log.storage.flush().unwrap();
            }
            log.assert_holds_what_was_appended_last();
            log.truncate(last);
            log.assert_holds_what_was_appended_last();
            log.append(2, 5);
            log.assert_holds_what_was_appended_last();
            log.truncate(last + 1);
            log.append(3, 8);
            log.assert_holds_what_was_appended_last();
            log.storage.flush().unwrap();
            log.assert_holds_what_was_appended_last();
            assert!(log.storage.metrics().disk_reads > 0, "some of them were read from the files");
            let mut log = log.reopen(&disk);
            log.assert_holds_what_was_appended_last();
        }
    }
}

#[test]
fn known_bug_62_a_log_that_lacks_a_segment_or_has_a_blank_one_does_not_open() {
    let disk = Disk::new();
    let mut log = Pair::create(&disk);
    for _ in 0..20 {
        log.append(1, 10);
        log.storage.flush().unwrap();
    }
    let contents = disk.contents();
    let segments: Vec<Name> = contents.keys().copied().filter(|name| matches!(name, Name::Segment(_))).collect();
    assert!(segments.len() >= 4, "{segments:?}");
    for &name in &segments {
        for blank in [None, Some(Vec::new()), Some(vec![0; contents[&name].len()])] {
            let without = Disk::new();
            contents.iter().for_each(|(&name, bytes)| without.put(name, bytes.clone()));
            without.take(name);
            let what = if blank.is_some() { "blank" } else { "missing" };
            if let Some(bytes) = blank {
                without.put(name, bytes);
            }
            let opened = FileStorage::open(without, options());
            assert!(opened.is_err(), "{name:?} is {what}, and the log opened");
        }
    }
}

#[test]
fn known_bug_62_entries_follow_each_other_across_segments_and_starts() {
    let disk = Disk::new();
    let mut log = Pair::create(&disk);
    for round in 1..=30 {
        log.append(round, 7);
        log.storage.flush().unwrap();
        // What was not flushed is gone after the start, and what follows leaves no gap behind what was.
        let saved = log.entries.len();
        log.append(round, 3);
        log.entries.truncate(saved);
        log = log.reopen(&disk);
        log.assert_holds_what_was_appended_last();
    }
    let segments = disk.contents().into_keys().filter(|name| matches!(name, Name::Segment(_))).count();
    assert!(segments >= 4, "{segments} segments");
}
