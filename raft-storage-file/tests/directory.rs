//! The log on real files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use std::path::Path;
use std::process::{Command, Stdio};

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::{Directory, FileStorage, Identity, OpenError, Options, StorageError};

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(1).unwrap(), incarnation: Incarnation(2) }
}

fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        segment_bytes_first: 16 << 10,
        cache_bytes: 4096,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn append(storage: &mut FileStorage, payload: &[u8]) {
    let id = EntryId::new(Term(1), storage.last().index.next());
    let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[payload]).unwrap();
    storage.append(&header, &[payload]).unwrap();
}

#[test]
fn a_log_over_many_segments_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("er");
    let (mut storage, _) = FileStorage::create(Directory::new(&path), identity(), small()).unwrap();
    storage.set_hard_state(HardState { term: Term(1), vote: NodeId::new(1), expelled: None });
    for n in 0..2000u32 {
        append(&mut storage, &[n.to_le_bytes().as_slice(), &[9; 200]].concat());
        if n % 10 == 9 {
            storage.flush().unwrap();
        }
    }
    drop(storage);
    let (mut storage, report) = FileStorage::open(Directory::new(&path), small()).unwrap();
    assert_eq!((report.entries, report.cut), (2000, None));
    assert_eq!(storage.hard_state().vote, NodeId::new(1));
    let mut next = Index::FIRST;
    while next <= storage.last().index {
        let records = storage.read(next, Index(u64::MAX), 10_000).unwrap();
        for (index, entry) in (next.0..).zip(records.iter()) {
            assert_eq!(u64::from(u32::from_le_bytes(*entry.payload.first_chunk().unwrap())), index - 1);
        }
        next = records.last().index.next();
    }
}

fn adopt(storage: &mut FileStorage, through: EntryId, content: &[u8]) -> SnapshotId {
    storage.begin_draft();
    for piece in content.chunks(3000) {
        storage.extend_draft(piece).unwrap();
    }
    assert_eq!(storage.read_draft(70_000, 50_000).unwrap(), &content[70_000..120_000]);
    let time = ClusterTime(through.index.0);
    let id = SnapshotId { through, time, bytes: content.len() as u64, checksum: crc32c(0, content) };
    storage.adopt_draft(id);
    id
}

#[test]
fn snapshots_on_real_files_are_made_received_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(FileStorage::create(Directory::new(folder.path()), identity(), small()).unwrap());
    let open = || FileStorage::open(Directory::new(folder.path()), small()).unwrap();
    let files = |ending: &str| {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(ending)).count()
    };
    let content: Vec<u8> = (0..300_000u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let (mut storage, _) = open();
    for _ in 0..1000 {
        append(&mut storage, &[9; 200]);
        storage.flush().unwrap();
    }
    let own = adopt(&mut storage, EntryId::new(Term(1), Index(900)), &content);
    storage.begin_draft();
    while storage.snapshot().is_none() {
        storage.saved().unwrap();
        std::thread::yield_now();
    }
    storage.compact(Index(900));
    assert_eq!((storage.snapshot(), storage.base().index), (Some(own), Index(900)));
    assert!(files(".wal") < 5 && files(".snap") == 1 && files(".draft") == 1);
    drop(storage);
    let (mut storage, report) = open();
    assert_eq!((report.snapshot, report.last.index, files(".draft")), (Some(own), Index(1000), 0));
    assert_eq!(storage.read_snapshot(100_000, 1000).unwrap(), &content[100_000..101_000]);
    let received = adopt(&mut storage, EntryId::new(Term(3), Index(5000)), &content[1000..]);
    storage.flush().unwrap();
    assert_eq!((storage.saved().unwrap().through, files(".wal"), files(".snap")), (received.through, 1, 1));
    drop(storage);
    let (mut storage, report) = open();
    assert_eq!((report.snapshot, report.base, report.last), (Some(received), received.through, received.through));
    assert_eq!(storage.read_snapshot(0, usize::MAX).unwrap(), &content[1000..]);
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    const CHILD: &str = "RAFT_STORAGE_TEST_DIRECTORY";
    if let Some(path) = std::env::var_os(CHILD) {
        let Err(error) = FileStorage::open(Directory::new(Path::new(&path)), small()) else {
            panic!("the directory is in use, and yet it was opened")
        };
        println!("{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = FileStorage::create(Directory::new(folder.path()), identity(), small()).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_told_who_holds_the_directory", "--nocapture"])
        .env(CHILD, folder.path())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    drop(storage);
    drop(FileStorage::open(Directory::new(folder.path()), small()).unwrap());
}

#[test]
fn a_directory_that_is_removed_ends_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    let (mut storage, _) = FileStorage::create(Directory::new(&path), identity(), small()).unwrap();
    append(&mut storage, &[9; 200]);
    storage.flush().unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let mut flushes = 0..1000;
    let error = flushes.find_map(|_| {
        append(&mut storage, &[9; 200]);
        storage.flush().err()
    });
    let Some(StorageError::Disk(error)) = error else { panic!("{error:?}") };
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound, "{error}");
    assert!(storage.flush().is_err() && storage.saved().is_err() && !path.exists());
    drop(storage);
    assert!(matches!(FileStorage::open(Directory::new(&path), small()), Err(OpenError::NotCreated)));
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    for path in [folder.path(), &folder.path().join("none")] {
        assert!(matches!(FileStorage::open(Directory::new(path), small()), Err(OpenError::NotCreated)));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_where_the_directory_should_be_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(FileStorage::open(Directory::new(file.path()), small()), Err(OpenError::Disk(_))));
    let created = FileStorage::create(Directory::new(file.path()), identity(), small());
    assert!(matches!(created, Err(OpenError::Disk(_))));
}
