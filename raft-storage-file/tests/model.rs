//! Any sequence of calls, starts and power losses, held against a log that is a vector.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, Saved, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Options};

#[derive(Clone, Debug)]
enum Action {
    Append {
        bytes: usize,
        newer: bool,
    },
    Truncate {
        back: usize,
    },
    Vote {
        newer: bool,
        vote: u64,
    },
    Flush,
    Read {
        from: usize,
        bytes: usize,
    },
    Reopen,
    /// What is not synced by then is lost, or kept, by these bits.
    LosePower(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..700usize, prop::bool::weighted(0.1)).prop_map(|(bytes, newer)| Action::Append { bytes, newer }),
        2 => (0..12usize).prop_map(|back| Action::Truncate { back }),
        1 => (any::<bool>(), 0..4u64).prop_map(|(newer, vote)| Action::Vote { newer, vote }),
        4 => Just(Action::Flush),
        3 => (0..40usize, 0..3000usize).prop_map(|(from, bytes)| Action::Read { from, bytes }),
        1 => Just(Action::Reopen),
        1 => any::<u64>().prop_map(Action::LosePower),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    entries: Vec<(EntryId, Vec<u8>)>,
}

impl Model {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::ZERO, |(id, _)| *id)
    }
}

fn options() -> Options {
    Options { segment_bytes: 4096, segment_bytes_first: 1024, cache_bytes: 1000, ..Options::default() }
}

fn open(disk: &Disk) -> FileStorage<Disk> {
    let identity = Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(9) };
    FileStorage::open_or_create(disk.clone(), identity, options()).unwrap().0
}

/// Compares everything that can be asked.
fn check(storage: &mut FileStorage<Disk>, view: &Model, saved: &Model) {
    assert_eq!((storage.hard_state(), storage.last()), (view.hard_state, view.last()));
    assert_eq!(storage.last_time(), ClusterTime(view.last().index.0));
    assert_eq!(storage.saved().unwrap(), Saved { hard_state: saved.hard_state, through: saved.last() });
    assert!(storage.is_pending() || view == saved);
    for (id, _) in &view.entries {
        assert_eq!(storage.term(id.index), Some(id.term));
    }
    assert_eq!(storage.term(view.last().index.next()), None);
}

/// Reads from an index on, and compares; gives how far that came.
fn read(storage: &mut FileStorage<Disk>, view: &Model, from: usize, bytes: usize) -> usize {
    let records = storage.read(Index(from as u64 + 1), Index(u64::MAX), bytes).unwrap();
    let found: Vec<_> = records.iter().map(|entry| (entry.header.id(), entry.payload.to_vec())).collect();
    assert!(found.len() == 1 || (!found.is_empty() && records.bytes().len() <= bytes));
    assert_eq!(found, view.entries[from..from + found.len()]);
    from + found.len()
}

fn run(actions: &[Action]) {
    let mut disk = Disk::new();
    let mut storage = open(&disk);
    let (mut view, mut saved) = (Model::default(), Model::default());
    for action in actions {
        match *action {
            Action::Append { bytes, newer } => {
                let term = Term(view.hard_state.term.0.max(view.last().term.0).max(1) + u64::from(newer));
                let id = EntryId::new(term, view.last().index.next());
                let payload = vec![u8::try_from(id.index.0 % 251).unwrap(); bytes];
                let time = ClusterTime(id.index.0);
                let header = EntryHeader::new(id, time, EntryKind::Operation, &[&payload]).unwrap();
                storage.append(&header, &[&payload]).unwrap();
                view.entries.push((id, payload));
            }
            Action::Truncate { back } => {
                view.entries.truncate(view.entries.len().saturating_sub(back));
                storage.truncate(view.last().index);
            }
            Action::Vote { newer, vote } => {
                let old = view.hard_state;
                let term = Term(old.term.0.max(view.last().term.0) + u64::from(newer));
                let kept = old.vote.filter(|_| term == old.term);
                view.hard_state = HardState { term, vote: kept.or(NodeId::new(vote)) };
                storage.set_hard_state(view.hard_state);
            }
            Action::Flush => {
                storage.flush().unwrap();
                saved = view.clone();
            }
            Action::Read { from, bytes } if from < view.entries.len() => {
                read(&mut storage, &view, from, bytes);
            }
            Action::Read { .. } => {}
            Action::Reopen | Action::LosePower(_) => {
                drop(storage);
                if let Action::LosePower(mut bits) = *action {
                    disk = disk.after_power_loss(|_| {
                        bits = bits.rotate_left(1);
                        if bits & 1 == 1 { Fate::Kept } else { Fate::Lost }
                    });
                }
                storage = open(&disk);
                view = saved.clone();
            }
        }
        check(&mut storage, &view, &saved);
    }
    let mut from = 0;
    while from < view.entries.len() {
        from = read(&mut storage, &view, from, 2000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(0x4a55),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_calls_gives_what_a_vector_gives(actions in prop::collection::vec(action(), 1..120)) {
        run(&actions);
    }
}
