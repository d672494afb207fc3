//! What a node holds.

use raft_core::crc::crc32c;
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterTime, EntryId, Index};
use raft_storage_file::FileStorage;
use raft_storage_file::simulated::Disk;

/// What a node holds. An entry's bytes follow from its id and its length ([`payload`]), those of a snapshot from
/// its last entry ([`content`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) hard_state: HardState,
    /// What the first entry follows: not behind the base of the log, which may be compacted further.
    pub(crate) base: EntryId,
    pub(crate) entries: Vec<(EntryId, usize)>,
    pub(crate) snapshot: Option<SnapshotId>,
}

/// The payload of an entry: every third is all zeros, as the disk is.
pub(crate) fn payload(id: EntryId, length: usize) -> Vec<u8> {
    let byte = u8::try_from((id.index.0 * 3 + id.term.0) % 251).unwrap();
    vec![if id.index.0.is_multiple_of(3) { 0 } else { byte }; length]
}

/// The cluster time of an entry.
pub(crate) fn time(id: EntryId) -> ClusterTime {
    ClusterTime(id.index.0 * 10)
}

/// The state after an entry, which takes one to three sectors.
pub(crate) fn content(through: EntryId) -> Vec<u8> {
    let length = 100 + usize::try_from(through.index.0 * 37 % 1100).unwrap();
    (0..length as u64).map(|at| u8::try_from((at * 7 + through.index.0 + through.term.0) % 251).unwrap()).collect()
}

/// The snapshot of that state.
pub(crate) fn snapshot_of(through: EntryId) -> SnapshotId {
    let content = content(through);
    SnapshotId { through, time: time(through), bytes: content.len() as u64, checksum: crc32c(0, &content) }
}

impl Image {
    /// What the storage holds; everything in it is consistent, and every byte what was written.
    pub(crate) fn of(storage: &mut FileStorage<Disk>) -> Image {
        let (hard_state, base, snapshot) = (storage.hard_state(), storage.base(), storage.snapshot());
        let mut entries = Vec::new();
        let mut next = base.index.next();
        while next <= storage.last().index {
            let records = storage.read(next, Index(u64::MAX), 300).unwrap();
            for entry in records.iter() {
                let (id, length) = (entry.header.id(), entry.payload.len());
                assert!(entry.payload == payload(id, length) && entry.header.time == time(id), "{id}");
                entries.push((id, length));
            }
            next = records.last().index.next();
        }
        let last = entries.last().map_or(base, |(id, _)| *id);
        assert_eq!((storage.last(), storage.last_time()), (last, time(last)));
        let saved = storage.saved().unwrap();
        assert_eq!((saved.through, saved.hard_state), (last, hard_state));
        assert!(base.index <= snapshot.map_or(Index::ZERO, |snapshot| snapshot.through.index));
        if let Some(id) = snapshot {
            assert_eq!(storage.term(id.through.index), Some(id.through.term), "the log goes on from the snapshot");
            assert_eq!(storage.read_snapshot(0, usize::MAX).unwrap(), content(id.through), "{id:?}");
        }
        Image { hard_state, base, entries, snapshot }
    }

    /// Whether that is what was found, which may be compacted.
    pub(crate) fn is(&self, found: &Image) -> bool {
        let dropped = usize::try_from(found.base.index.since(self.base.index)).unwrap();
        let base = dropped.checked_sub(1).map_or(Some(self.base), |last| Some(self.entries.get(last)?.0));
        (self.hard_state, self.snapshot) == (found.hard_state, found.snapshot)
            && base == Some(found.base)
            && self.entries.get(dropped..) == Some(&found.entries)
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |(id, _)| *id)
    }

    /// Whether it has an entry.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.entries.iter().any(|(entry, _)| *entry == id)
    }
}
