//! Any sequence of calls, starts and power losses, held against a log that is a vector.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, ReadError, Saved, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, Identity, OpenError, Options};

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
    /// Make a snapshot of the state after one of the entries that are saved.
    Take {
        back: u64,
        bytes: usize,
    },
    /// Receive a snapshot of an entry that the log does not hold.
    Receive {
        ahead: u64,
        bytes: usize,
    },
    /// Begin a draft, and leave it at that.
    Begin {
        bytes: usize,
    },
    Compact {
        index: u64,
    },
    Reopen,
    /// What is not synced by then is lost, or kept, by these bits.
    LosePower(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0..700usize, prop::bool::weighted(0.1)).prop_map(|(bytes, newer)| Action::Append { bytes, newer }),
        3 => (0..12usize).prop_map(|back| Action::Truncate { back }),
        2 => (any::<bool>(), 0..4u64).prop_map(|(newer, vote)| Action::Vote { newer, vote }),
        8 => Just(Action::Flush),
        6 => (0..40usize, 0..3000usize).prop_map(|(from, bytes)| Action::Read { from, bytes }),
        2 => (0..8u64, 0..40_000usize).prop_map(|(back, bytes)| Action::Take { back, bytes }),
        1 => (0..20u64, 0..40_000usize).prop_map(|(ahead, bytes)| Action::Receive { ahead, bytes }),
        1 => (0..40_000usize).prop_map(|bytes| Action::Begin { bytes }),
        2 => (0..100u64).prop_map(|index| Action::Compact { index }),
        2 => Just(Action::Reopen),
        2 => any::<u64>().prop_map(Action::LosePower),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    /// The entry before the first one: that of the snapshot that took the log's place last.
    base: EntryId,
    /// Those that are compacted are here still.
    entries: Vec<(EntryId, Vec<u8>)>,
    snapshot: Option<SnapshotId>,
}

impl Model {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |(id, _)| *id)
    }

    fn id(&self, index: Index) -> EntryId {
        index
            .since(self.base.index)
            .checked_sub(1)
            .map_or(self.base, |place| self.entries[usize::try_from(place).unwrap()].0)
    }

    /// The last entry that a snapshot covers.
    fn covered(&self) -> Index {
        self.snapshot.map_or(Index::ZERO, |snapshot| snapshot.through.index)
    }
}

/// The storage, and what it should hold.
struct World {
    disk: Disk,
    storage: FileStorage<Disk>,
    view: Model,
    saved: Model,
    /// The last entry of the view that is on disk.
    kept: Index,
    /// Up to where the view is compacted.
    compacted: Index,
}

fn options() -> Options {
    Options {
        segment_bytes: 4096,
        segment_bytes_first: 1024,
        cache_bytes: 1000,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn open(disk: &Disk) -> FileStorage<Disk> {
    let identity = Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(9) };
    match FileStorage::open(disk.clone(), options()) {
        Err(OpenError::NotCreated) => FileStorage::create(disk.clone(), identity, options()).unwrap().0,
        opened => opened.unwrap().0,
    }
}

fn content(through: EntryId, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| u8::try_from((at * 3 + through.index.0 + through.term.0) % 251).unwrap()).collect()
}

impl World {
    fn new() -> World {
        let disk = Disk::new();
        let storage = open(&disk);
        let (view, saved) = (Model::default(), Model::default());
        World { disk, storage, view, saved, kept: Index::ZERO, compacted: Index::ZERO }
    }

    /// Compares everything that can be asked.
    fn check(&mut self) {
        let World { storage, view, saved, compacted, .. } = self;
        let base = view.id(*compacted);
        assert_eq!((storage.hard_state(), storage.base(), storage.last()), (view.hard_state, base, view.last()));
        assert_eq!(storage.last_time(), ClusterTime(view.last().index.0));
        assert_eq!(storage.snapshot(), view.snapshot);
        assert_eq!(storage.saved().unwrap(), Saved { hard_state: saved.hard_state, through: saved.last() });
        assert!(storage.is_pending() || view == saved);
        let mut bytes = 0;
        for (id, payload) in view.entries.iter().rev().take_while(|(id, _)| id.index > *compacted) {
            assert_eq!(storage.term(id.index), Some(id.term));
            assert!(storage.bytes_behind(id.index).abs_diff(bytes) < 66_000);
            bytes += 32 + payload.len() as u64;
        }
        assert_eq!((storage.term(*compacted), storage.term(view.last().index.next())), (Some(base.term), None));
        if compacted.0 > 0 {
            assert_eq!(storage.term(compacted.previous()), None);
            assert!(matches!(storage.read(*compacted, Index(u64::MAX), 9), Err(ReadError::Missing(_))));
        }
    }

    /// Reads from an index on, and compares; gives the index behind.
    fn read(&mut self, from: Index, bytes: usize) -> Index {
        let records = self.storage.read(from, Index(u64::MAX), bytes).unwrap();
        let found: Vec<_> = records.iter().map(|entry| (entry.header.id(), entry.payload.to_vec())).collect();
        assert!(found.len() == 1 || (!found.is_empty() && records.bytes().len() <= bytes));
        let place = usize::try_from(from.since(self.view.base.index)).unwrap() - 1;
        assert_eq!(found, self.view.entries[place..place + found.len()]);
        from.plus(found.len() as u64)
    }

    fn adopt(&mut self, through: EntryId, bytes: usize) -> SnapshotId {
        let content = content(through, bytes);
        self.storage.begin_draft();
        for piece in content.chunks(7_000) {
            self.storage.extend_draft(piece).unwrap();
        }
        assert_eq!(self.storage.read_draft(0, usize::MAX).unwrap(), content);
        let (bytes, checksum) = (content.len() as u64, crc32c(0, &content));
        let snapshot = SnapshotId { through, time: ClusterTime(through.index.0), bytes, checksum };
        self.storage.adopt_draft(snapshot);
        snapshot
    }

    fn append(&mut self, bytes: usize, newer: bool) {
        let view = &mut self.view;
        let term = Term(view.hard_state.term.0.max(view.last().term.0).max(1) + u64::from(newer));
        let id = EntryId::new(term, view.last().index.next());
        let payload = vec![u8::try_from(id.index.0 % 251).unwrap(); bytes];
        let time = ClusterTime(id.index.0);
        let header = EntryHeader::new(id, time, EntryKind::Operation, &[&payload]).unwrap();
        self.storage.append(&header, &[&payload]).unwrap();
        view.entries.push((id, payload));
    }

    fn truncate(&mut self, back: usize) {
        let view = &mut self.view;
        let covered = usize::try_from(view.covered().since(view.base.index)).unwrap();
        view.entries.truncate(view.entries.len().saturating_sub(back).max(covered));
        self.storage.truncate(view.last().index);
        self.kept = self.kept.min(view.last().index);
    }

    fn vote(&mut self, newer: bool, vote: u64) {
        let old = self.view.hard_state;
        let term = Term(old.term.0.max(self.view.last().term.0) + u64::from(newer));
        let kept = old.vote.filter(|_| term == old.term);
        self.view.hard_state = HardState { term, vote: kept.or(NodeId::new(vote)), expelled: None };
        self.storage.set_hard_state(self.view.hard_state);
    }

    fn take(&mut self, back: u64, bytes: usize) {
        let index = Index(self.kept.0.saturating_sub(back));
        // Not while the snapshot that takes the log's place is not saved.
        if index > self.view.covered() && self.view.base == self.saved.base {
            let snapshot = Some(self.adopt(self.view.id(index), bytes));
            (self.view.snapshot, self.saved.snapshot) = (snapshot, snapshot);
        }
    }

    fn receive(&mut self, ahead: u64, bytes: usize) {
        let last = self.view.last();
        // Behind the log, or within it by a later term.
        let index = Index((last.index.0 + ahead).saturating_sub(5)).max(self.view.covered().next());
        let through = EntryId::new(last.term.next(), index);
        let snapshot = Some(self.adopt(through, bytes));
        self.view = Model { base: through, entries: Vec::new(), snapshot, ..self.view };
        (self.kept, self.compacted) = (index, index);
    }

    fn reopen(&mut self, bits: Option<u64>) {
        if let Some(mut bits) = bits {
            self.disk = self.disk.after_power_loss(|_| {
                bits = bits.rotate_left(1);
                if bits & 1 == 1 { Fate::Kept } else { Fate::Lost }
            });
            self.storage = open(&self.disk);
        } else {
            // The old one has to let go of the directory first.
            let elsewhere = open(&Disk::new());
            drop(std::mem::replace(&mut self.storage, elsewhere));
            self.storage = open(&self.disk);
        }
        self.view = self.saved.clone();
        self.kept = self.view.last().index;
        self.compacted = self.storage.base().index;
        assert!((self.view.base.index..=self.view.covered()).contains(&self.compacted));
        if let Some(snapshot) = self.view.snapshot {
            let content = content(snapshot.through, usize::try_from(snapshot.bytes).unwrap());
            assert_eq!(self.storage.read_snapshot(0, usize::MAX).unwrap(), content);
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append { bytes, newer } => self.append(bytes, newer),
            Action::Truncate { back } => self.truncate(back),
            Action::Vote { newer, vote } => self.vote(newer, vote),
            Action::Flush => {
                self.storage.flush().unwrap();
                self.saved = self.view.clone();
                self.kept = self.view.last().index;
            }
            Action::Read { from, bytes } => {
                let from = self.compacted.plus(from as u64 + 1);
                if from <= self.view.last().index {
                    self.read(from, bytes);
                }
            }
            Action::Take { back, bytes } => self.take(back, bytes),
            Action::Receive { ahead, bytes } => self.receive(ahead, bytes),
            Action::Begin { bytes } => {
                self.storage.begin_draft();
                self.storage.extend_draft(&vec![1; bytes]).unwrap();
            }
            Action::Compact { index } => {
                self.storage.compact(Index(index));
                self.compacted = self.compacted.max(Index(index).min(self.view.covered()));
            }
            Action::Reopen => self.reopen(None),
            Action::LosePower(bits) => self.reopen(Some(bits)),
        }
        self.check();
    }
}

fn run(actions: &[Action]) {
    let mut world = World::new();
    for action in actions {
        world.act(action);
    }
    let mut from = world.compacted.next();
    while from <= world.view.last().index {
        from = world.read(from, 2000);
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
