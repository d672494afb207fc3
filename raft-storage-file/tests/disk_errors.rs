//! Disks that say no, and disks that lie: errors of each kind at every call, sectors that cannot be read, and syncs that say
//! they are done and are not.
//!
//! What must hold each time: the error is a typed one that names what was asked and of which file; it is final; and a
//! start on a healed disk, after a power loss too, finds what was acknowledged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod power;

use std::io::ErrorKind;

use raft_core::storage::{ReadError, Storage};
use raft_core::types::{EntryId, Index, Term};
use raft_storage_file::simulated::{Call, Disk, Fate};
use raft_storage_file::{FileStorage, Name, OpenError, Operation, Options, StorageError};

use power::image::{Image, content};
use power::run::{Run, adopt, append, open_or_create};
use power::script::{Script, identity, of_logs, of_snapshots};

/// What systems say, besides that the disk is bad: no such file (somebody removed the directory), not allowed, a
/// file system that went read-only, no room, a quota that is used up, too many open files (which has no kind of its own).
const KINDS: [ErrorKind; 7] = [
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::StorageFull,
    ErrorKind::QuotaExceeded,
    ErrorKind::ResourceBusy,
    ErrorKind::Other,
];

/// What a storage may say was asked of the system at a call.
fn fits(operation: Operation, call: Call) -> bool {
    match call {
        Call::Create(_) => matches!(operation, Operation::Open | Operation::Zero),
        Call::Write => matches!(operation, Operation::Write | Operation::Zero),
        Call::Sync => matches!(operation, Operation::Sync | Operation::Zero),
        Call::Rename(..) => operation == Operation::Rename,
        Call::Remove(_) => operation == Operation::Remove,
        Call::SyncDirectory => operation == Operation::Sync,
        Call::Look => {
            matches!(operation, Operation::Directory | Operation::Lock | Operation::Open | Operation::Read)
        }
        _ => panic!("{call:?}"),
    }
}

#[test]
fn an_error_of_any_kind_at_any_call_is_named_and_changes_nothing_that_was_acknowledged() {
    let (mut said, mut survived) = (0, 0);
    for script in [of_logs(), of_snapshots()] {
        let whole = Disk::new();
        let mut calls = Vec::new();
        Run::script_until(&whole, &script, |_| {
            calls = whole.calls();
            false
        });
        for (call, what) in calls.into_iter().enumerate() {
            for kind in KINDS {
                let disk = Disk::new();
                disk.fail_at(call, kind);
                let run = Run::script(&disk, &script);
                let context = format!("{kind:?} at call {call}, {what:?}");
                match &run.failed {
                    Some((operation, found)) => {
                        said += 1;
                        assert!(*found == kind && fits(*operation, what), "{context}: {operation:?}, {found:?}");
                        let further = disk.calls().len() - call - 1;
                        assert!(further <= 1, "{context}: the disk was asked for {further} things more");
                    }
                    // A full disk is no failure while nothing depends on what was to be written.
                    None => {
                        survived += 1;
                        assert!(matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded), "{context}");
                    }
                }
                disk.heal();
                disk.hold_syncs(false);
                for disk in [disk.after_power_loss(|_| Fate::Lost), disk] {
                    let opened = open_or_create(disk, identity(), script.options);
                    let (mut storage, _) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
                    let found = Image::of(&mut storage);
                    assert!(run.allowed().iter().any(|image| image.is(&found)), "{context}: {found:?}");
                }
            }
        }
    }
    println!("{said} errors were said, {survived} were no failure");
    assert!(said > 10 * survived && survived > 10);
}

/// A log of three segments behind a snapshot, with an older one that the log still reaches.
fn disk_with_snapshots() -> (Disk, Options) {
    let disk = Disk::new();
    let options = Options { cache_bytes: 100, ..of_logs().options };
    let (mut storage, _) = FileStorage::create(disk.clone(), identity(), options).unwrap();
    for index in 1..=40 {
        append(&mut storage, EntryId::new(Term(1), Index(index)), 150).unwrap();
        storage.flush().unwrap();
        if index == 10 || index == 30 {
            adopt(&mut storage, EntryId::new(Term(1), Index(index))).unwrap();
        }
    }
    storage.compact(Index(10));
    drop(storage);
    (disk, options)
}

fn files(disk: &Disk) -> impl Iterator<Item = (Name, usize)> {
    let files = disk.contents().into_iter();
    files.flat_map(|(name, bytes)| (0..bytes.len().div_ceil(512)).map(move |sector| (name, sector)))
}

#[test]
fn a_sector_that_cannot_be_read_refuses_the_start_and_is_named() {
    let (whole, options) = disk_with_snapshots();
    let expected = Image::of(&mut FileStorage::open(whole.after_power_loss(|_| Fate::Kept), options).unwrap().0);
    let (mut refused, mut not_read) = (0, 0);
    for (name, sector) in files(&whole) {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        assert!(disk.spoil_sector(name, sector, ErrorKind::TimedOut));
        let contents = disk.contents();
        match FileStorage::open(disk.clone(), options) {
            Err(OpenError::Disk(error)) => {
                refused += 1;
                assert_eq!(
                    (error.operation, error.name, error.source.kind()),
                    (Operation::Read, name, ErrorKind::TimedOut)
                );
                let offset = error.offset.expect("it was a read of bytes");
                assert!(offset < (sector as u64 + 1) * 512, "{error}");
                assert!(error.to_string().contains(&format!("reading {name} from offset {offset} on")), "{error}");
                assert_eq!(disk.contents(), contents, "nothing is changed");
                disk.heal();
                assert_eq!(Image::of(&mut FileStorage::open(disk, options).unwrap().0), expected);
            }
            Err(error) => panic!("sector {sector} of {name}: {error}"),
            Ok((mut storage, report)) => {
                not_read += 1;
                assert_eq!((Image::of(&mut storage), report.damaged_snapshot), (expected.clone(), None));
                let needless = matches!(name, Name::Snapshot(_) | Name::Spare);
                assert!(needless, "sector {sector} of {name} was not needed");
            }
        }
    }
    println!("{refused} sectors refused the start, {not_read} were not read");
    assert!(refused > 20 && not_read > 5);
}

#[test]
fn a_sector_that_cannot_be_read_later_ends_the_log_and_nothing_unverified_is_given() {
    let (whole, options) = disk_with_snapshots();
    let expected = Image::of(&mut FileStorage::open(whole.after_power_loss(|_| Fate::Kept), options).unwrap().0);
    let mut failed = 0;
    for (name, sector) in files(&whole) {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        let (mut storage, _) = FileStorage::open(disk.clone(), options).unwrap();
        if !disk.spoil_sector(name, sector, ErrorKind::TimedOut) {
            continue;
        }
        let (mut next, mut error) = (expected.base.index.next(), None);
        while next <= storage.last().index && error.is_none() {
            match storage.read(next, Index(u64::MAX), 300) {
                Ok(records) => {
                    for entry in records.iter() {
                        let id = entry.header.id();
                        assert_eq!(entry.payload, power::image::payload(id, entry.payload.len()));
                        assert!(expected.entries.contains(&(id, entry.payload.len())));
                    }
                    next = records.last().index.next();
                }
                Err(ReadError::Failed(read)) => error = Some(read),
                Err(other) => panic!("{other:?}"),
            }
        }
        if error.is_none() {
            match storage.read_snapshot(0, usize::MAX) {
                Ok(bytes) => assert_eq!(bytes, content(expected.snapshot.unwrap().through)),
                Err(ReadError::Failed(read)) => error = Some(read),
                Err(other) => panic!("{other:?}"),
            }
        }
        let Some(error) = error else { continue };
        failed += 1;
        let StorageError::Disk(disk_error) = &error else { panic!("{error}") };
        assert_eq!((disk_error.operation, disk_error.name), (Operation::Read, name));
        assert!(disk_error.offset.is_some(), "{error}");
        // It is final, whatever the disk says by then.
        disk.heal();
        let (flushed, saved) = (storage.flush().unwrap_err(), storage.saved().map(drop).unwrap_err());
        assert_eq!((flushed.to_string(), saved.to_string()), (error.to_string(), error.to_string()));
        let last = storage.last().index;
        assert!(matches!(storage.read(last, last, 0).map(drop), Err(ReadError::Failed(_))));
    }
    println!("{failed} sectors ended the log");
    assert!(failed > 10);
}

/// What one lost sync leads to, and when.
#[derive(Debug, Default)]
struct Lost {
    harmless: usize,
    refused: usize,
    /// The log is as it was a flush ago, which nobody but a leader can tell.
    gone_back: usize,
}

#[test]
fn a_sync_that_was_lost_is_found_out_unless_it_was_the_last_one() {
    let mut lost = Lost::default();
    for script in [of_logs(), of_snapshots()] {
        let whole = Disk::new();
        Run::script(&whole, &script);
        let calls = whole.calls();
        let syncs = calls.iter().enumerate().filter(|(_, call)| **call == Call::Sync).map(|(number, _)| number);
        for sync in syncs {
            // The power goes after that many further syncs.
            for later in [0, 1, 2, 5, 1000] {
                let disk = Disk::new();
                disk.lose_synced_in(sync);
                lose(&mut lost, &disk, &script, sync, later);
            }
        }
    }
    println!("{lost:?}");
    assert!(lost.harmless > 50 && lost.refused > 50 && lost.gone_back > 10, "{lost:?}");
}

fn lose(lost: &mut Lost, disk: &Disk, script: &Script, sync: usize, later: usize) {
    let mut history: Vec<Run> = Vec::new();
    let run = Run::script_until(disk, script, |run| {
        let entries = |run: &Run| run.acknowledged.as_ref().map(|image| (image.hard_state, image.last()));
        if history.last().map(entries) != Some(entries(run)) {
            history.push(run.clone());
        }
        let syncs_since = disk.calls().iter().skip(sync + 1).filter(|call| **call == Call::Sync).count();
        disk.syncs_lost() > 0 && syncs_since >= later
    });
    assert_eq!((disk.syncs_lost(), run.failed), (1, None));
    let opened = open_or_create(disk.after_power_loss(|_| Fate::Kept), identity(), script.options);
    let Ok((mut storage, report)) = opened else {
        lost.refused += 1;
        return;
    };
    let found = Image::of(&mut storage);
    let is = |run: &Run| run.allowed().iter().any(|image| image.is(&found));
    if report.damaged_snapshot.is_some() {
        lost.refused += 1;
    } else if is(&run) {
        lost.harmless += 1;
    } else {
        lost.gone_back += 1;
        let before = history.iter().rev().nth(1).map_or_else(Run::default, |before| before.with_snapshots_of(&run));
        // What was lost is that a snapshot took the place of the log: the ones before it are removed, and all entries are
        // there since the first one.
        let has_all = found.snapshot.is_none()
            && found.base == EntryId::ZERO
            && before
                .allowed()
                .iter()
                .any(|image| (image.hard_state, image.last()) == (found.hard_state, found.last()));
        assert!(
            is(&before) || has_all,
            "sync {sync} lost, {later} more: more than one flush is gone: {found:?}, {report}"
        );
    }
}
