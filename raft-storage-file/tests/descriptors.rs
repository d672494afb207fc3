//! A log in a process that has no file descriptors left. The limit is that of the whole process, so this is one test in
//! a program of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected is to panic")]

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::{Directory, FileStorage, Identity, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DESCRIPTORS: u64 = 64;

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(1).unwrap(), incarnation: Incarnation(2) }
}

fn small() -> Options {
    Options {
        segment_bytes: 16 << 10,
        segment_bytes_first: 4 << 10,
        cache_bytes: 1024,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn append(storage: &mut FileStorage, entries: u64) {
    for _ in 0..entries {
        let id = EntryId::new(Term(1), storage.last().index.next());
        let payload: &[u8] = &[7; 300];
        let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[payload]).unwrap();
        storage.append(&header, &[payload]).unwrap();
        storage.flush().unwrap();
    }
}

fn snapshot(storage: &mut FileStorage) {
    let content = vec![5; 10_000];
    storage.begin_draft();
    storage.extend_draft(&content).unwrap();
    let through = storage.last();
    let time = ClusterTime(through.index.0);
    let id = SnapshotId { through, time, bytes: content.len() as u64, checksum: crc32c(0, &content) };
    storage.adopt_draft(id);
    while storage.snapshot() != Some(id) {
        storage.saved().unwrap();
        std::thread::yield_now();
    }
    storage.compact(through.index);
}

/// Opens files until there are no descriptors left.
fn hoard(files: &mut Vec<File>) {
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
}

#[test]
fn a_shortage_of_descriptors_is_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let (mut storage, _) = FileStorage::create(Directory::new(&directory), identity(), small()).unwrap();
    append(&mut storage, 100);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: limit.maximum }).unwrap();

    // The others take all there are, once: the log has its reserve.
    let mut files = Vec::new();
    hoard(&mut files);
    append(&mut storage, 100);
    snapshot(&mut storage);
    storage.read(Index(storage.base().index.0 + 1), Index(u64::MAX), 1000).err();
    drop(files);

    // They take every one that is closed: the log goes on when they let go.
    let (greedy, through) = (AtomicBool::new(true), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !through.load(Ordering::Relaxed) {
                let mut files = Vec::new();
                for _ in 0..20 {
                    hoard(&mut files);
                    std::thread::sleep(Duration::from_millis(1));
                }
                greedy.store(false, Ordering::Relaxed);
                drop(files);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        while greedy.load(Ordering::Relaxed) || storage.last().index < Index(1000) {
            append(&mut storage, 50);
            snapshot(&mut storage);
        }
        through.store(true, Ordering::Relaxed);
    });
    let last = storage.last();
    drop(storage);
    let (storage, report) = FileStorage::open(Directory::new(&directory), small()).unwrap();
    assert_eq!((storage.last(), report.cut), (last, None));
}
