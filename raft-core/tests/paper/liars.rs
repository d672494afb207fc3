//! Raft does not survive members that lie, and nothing is asked of what a node then believes. But a lie never makes
//! it panic, nor leaves behind a log that it could not start with or pass on.

use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, voters};
use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind, Records};
use raft_core::message::{Body, Round};
use raft_core::raft::event::SnapshotRefusal;
use raft_core::raft::{Raft, StepError};
use raft_core::storage::{SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Instant};
use raft_core::wire::Bytes;

use crate::common::DeferredLog;
use crate::harness::{Lone, at, config, id, snapshot_bytes};

fn configuration(cluster: u128) -> Configuration {
    voters(ClusterId(cluster), 3).unwrap()
}

/// An entry at a time of the liar's choice.
fn record(entry: EntryId, time: u64, kind: EntryKind, payload: &[u8]) -> Vec<u8> {
    let header = EntryHeader::new(entry, ClusterTime(time), kind, &[payload]).unwrap();
    [header.encode().as_slice(), payload].concat()
}

fn append(node: &mut Lone, previous: EntryId, record: &[u8]) -> Result<(), StepError> {
    let entries = Records::check(previous, record).unwrap();
    node.step(2, 2, Body::Append { previous, commit: Index(0), round: Round(1), entries })
}

/// Sends a whole snapshot through `through`, whose configuration is that of the entry `by`.
fn install(node: &mut Lone, through: EntryId, by: EntryId) -> Result<(), StepError> {
    let content = snapshot_bytes(by, &configuration(1));
    let (bytes, checksum) = (content.len() as u64, crc32c(0, &content));
    let snapshot = SnapshotId { through, time: ClusterTime(0), bytes, checksum };
    node.step(2, 2, Body::Snapshot { snapshot, offset: 0, round: Round(1), data: Bytes(&content) })
}

/// A node whose log is empty.
fn blank() -> Lone {
    let raft = Raft::join(id(1), config(1), &configuration(1), DeferredLog::blank(), Instant(0)).unwrap();
    Lone { raft, now: Instant(0) }
}

#[test]
fn a_snapshot_whose_configuration_lies_behind_its_end_is_refused() {
    for by in [at(1, 6), at(2, 6), at(0, 3), at(3, 3)] {
        let mut node = Lone::of(3);
        let refused = install(&mut node, at(2, 5), by);
        assert_eq!(refused, Err(StepError::Snapshot { through: at(2, 5), reason: SnapshotRefusal::Invalid }), "{by}");
        assert_eq!(node.raft.storage().last(), at(1, 1));
    }
    for by in [at(1, 5), at(2, 4)] {
        assert_eq!(install(&mut Lone::of(3), at(2, 5), by), Ok(()));
    }
}

/// Behind the last index there is no other, and a leader has to append.
#[test]
fn a_snapshot_through_an_index_that_no_log_can_have_reached_is_refused() {
    for (index, taken) in [(u64::MAX, false), ((1 << 62) + 1, false), (1 << 62, true)] {
        let mut node = Lone::of(3);
        let refused = Err(StepError::IndexTooHigh { index: Index(index) });
        assert_eq!(install(&mut node, at(2, index), at(1, 1)), if taken { Ok(()) } else { refused });
    }
}

/// Storages and peers check that time never goes back along a log: one in which it did could be neither read
/// after a start nor passed on.
#[test]
fn an_entry_of_an_earlier_time_than_the_one_before_it_is_refused() {
    let mut node = Lone::of(3);
    append(&mut node, at(1, 1), &record(at(2, 2), 100, EntryKind::Operation, b"x")).unwrap();
    for kind in [EntryKind::Operation, EntryKind::Configuration] {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let configuration = configuration(1);
        let payload = configuration.encode(&mut buffer).unwrap();
        let found = at(2, 3);
        assert_eq!(
            append(&mut node, at(2, 2), &record(found, 99, kind, payload)),
            Err(StepError::TimeGoesBack { found })
        );
        assert_eq!(node.raft.storage().last(), at(2, 2));
    }
    append(&mut node, at(2, 2), &record(at(2, 3), 100, EntryKind::Operation, b"x")).unwrap();
}

/// Of an entry in the place of another, the time that counts is that of the one before them both.
#[test]
fn an_entry_in_the_place_of_another_may_be_of_an_earlier_time() {
    let mut node = Lone::of(3);
    append(&mut node, at(1, 1), &record(at(1, 2), 100, EntryKind::Operation, b"x")).unwrap();
    append(&mut node, at(1, 1), &record(at(2, 2), 50, EntryKind::Operation, b"x")).unwrap();
    assert_eq!(node.raft.storage().last(), at(2, 2));
}

#[test]
fn a_log_begins_with_a_configuration_and_nothing_else() {
    let mut node = blank();
    let refused = append(&mut node, EntryId::ZERO, &record(at(1, 1), 0, EntryKind::Noop, b""));
    assert_eq!(refused, Err(StepError::NoFirstConfiguration));
    assert_eq!(node.raft.storage().last(), EntryId::ZERO);
}

#[test]
fn a_configuration_of_another_cluster_is_refused() {
    for (mut node, previous, entry) in [(blank(), EntryId::ZERO, at(1, 1)), (Lone::of(3), at(1, 1), at(1, 2))] {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let configuration = configuration(2);
        let payload = configuration.encode(&mut buffer).unwrap();
        let refused = append(&mut node, previous, &record(entry, 0, EntryKind::Configuration, payload));
        assert_eq!(refused, Err(StepError::ForeignConfiguration { index: entry.index }));
        assert_eq!(node.raft.storage().last(), previous);
    }
}
