//! What the core asks of a log: the pluggable part called `Storage`.
//!
//! A storage is two things: an in-memory view, which every method here reads and changes at once
//! and without blocking on the disk, and a durable copy of it, which follows when
//! [`Storage::flush`] is called and is reported by [`Storage::saved`]. The core makes sure that
//! nothing which rests on the part that is not yet durable leaves the node.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{EntryHeader, Records};
use crate::raft::event::Expulsion;
use crate::types::{ClusterTime, EntryId, Index, NodeId, Term};

/// What Raft must remember besides its log (Raft paper, figure 2, "persistent state"), and what the node has learnt about
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this node has seen. Never goes down.
    pub term: Term,
    /// The node that got this node's vote in that term.
    pub vote: Option<NodeId>,
    /// Why this node neither votes nor campaigns, and acknowledges nothing that counts. It stays so in every later life of
    /// the node, until it is added to the cluster again.
    pub expelled: Option<Expulsion>,
}

/// What a storage has made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Saved {
    /// The hard state that is on disk.
    pub hard_state: HardState,
    /// The last entry that is on disk, by term and index: after a truncation the index alone
    /// could mean another leader's entry.
    pub through: EntryId,
}

/// What names a snapshot: the state after all entries up to `through`, as so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last entry whose effect it holds.
    pub through: EntryId,
    /// The cluster time of that entry.
    pub time: ClusterTime,
    /// Its length in bytes.
    pub bytes: u64,
    /// The CRC-32C of these bytes.
    pub checksum: u32,
}

/// The log, the hard state, the latest snapshot, and their durable copy.
///
/// Methods that change (`append`, `truncate`, `set_hard_state`) take effect in the view at once
/// and become durable in the order they were called. A storage that cannot keep that promise any
/// more (a failed write or sync) returns an error from `flush`, `saved` or `read`, and is then
/// used no further: disk errors are final.
pub trait Storage {
    /// Why the storage failed for good.
    type Error;

    /// The hard state in the view.
    fn hard_state(&self) -> HardState;

    /// The entry just before the first one that is held: [`EntryId::ZERO`] for a whole log, the
    /// last entry of the snapshot for a compacted one.
    fn base(&self) -> EntryId;

    /// The last entry in the view; [`Storage::base`] if there is none.
    fn last(&self) -> EntryId;

    /// The cluster time of the last entry; of the base if there is none.
    fn last_time(&self) -> ClusterTime;

    /// The term of the entry at `index`, for `base().index ..= last().index`; `None` outside.
    fn term(&self, index: Index) -> Option<Term>;

    /// Whole records from `from` on: as many as fit into `bytes_max` and lie at or before
    /// `through`, but at least one, and possibly fewer than would fit. The checksums have been
    /// verified on this read or when the bytes came into memory.
    ///
    /// # Errors
    /// [`ReadError::Missing`] if `from` is not held; [`ReadError::Failed`] if the storage failed.
    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Self::Error>>;

    /// Appends the entry whose header is `header` and whose payload is `parts`, one behind the
    /// other, right behind the last one.
    ///
    /// # Errors
    /// [`Full`] if there is no room: nothing was appended, and the call may be made again when
    /// there is. Whatever else goes wrong is reported by `flush`.
    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full>;

    /// Returns whether a leader may take a client's entry with a payload of `payload_bytes`. A storage with little room
    /// left returns false before [`Storage::append`] fails: of nodes with disks of the same size, the followers then
    /// have room for whatever their leader took, and none of them is left behind. A node that returns false is not made
    /// the leader by one whose log is full. Return true if unknown.
    fn has_room(&mut self, payload_bytes: usize) -> bool {
        let _ = payload_bytes;
        true
    }

    /// Appends `records`, which follow the last entry, one after the other. A storage that can copy
    /// them at once does that.
    ///
    /// # Errors
    /// [`Full`] if there is no room for all of them: those before the first one that does not fit
    /// were appended.
    fn append_records(&mut self, records: Records<'_>) -> Result<(), Full> {
        records.iter().try_for_each(|entry| self.append(&entry.header, &[entry.payload]))
    }

    /// Drops all entries behind `last`, which is at or behind the base.
    fn truncate(&mut self, last: Index);

    /// Replaces the hard state.
    fn set_hard_state(&mut self, hard_state: HardState);

    /// Begins to make all that is in the view durable; a storage may be done when it returns, or
    /// later. Several calls may be served by one sync.
    ///
    /// # Errors
    /// The storage failed for good.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// What is durable by now: hard state and entries of one and the same moment, which never go
    /// back in the order in which the view was changed.
    ///
    /// # Errors
    /// The storage failed for good.
    fn saved(&mut self) -> Result<Saved, Self::Error>;

    /// Entries up to this one may have been acknowledged and are lost, and a vote with them: the storage found damage at
    /// the end of the log that it could not tell from a torn write, and cut it off, at this start or an earlier one. `None`
    /// for a log that is known to be whole. Asked once, when the node starts: the node then neither votes nor campaigns,
    /// and nothing that it acknowledges counts, until a leader of a later term than that of its start has brought its log
    /// to this entry.
    fn suspect_through(&self) -> Option<Index> {
        None
    }

    /// The view holds all that may have been lost ([`Storage::suspect_through`]), by a leader of a later term: the storage
    /// forgets that it was suspect when the view is durable.
    fn trust(&mut self) {}

    /// The latest snapshot; `None` while there is none. Entries that it covers are dropped by
    /// [`Storage::compact`] alone.
    fn snapshot(&self) -> Option<SnapshotId> {
        None
    }

    /// Bytes of the latest snapshot from `offset` on: `bytes_max` of them, or all that are left.
    ///
    /// # Errors
    /// [`ReadError::Missing`] if there is no snapshot; [`ReadError::Failed`] if the storage failed.
    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Self::Error>> {
        let _ = (offset, bytes_max);
        Err(ReadError::Missing(Index::ZERO))
    }

    /// Begins the draft of a snapshot, which is made here or received; an earlier draft is dropped.
    /// A draft does not outlive the process.
    fn begin_draft(&mut self) {}

    /// Puts `bytes` behind those that the draft has.
    ///
    /// # Errors
    /// [`Full`] if there is no room for them. Whatever else goes wrong is reported by `flush`.
    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let _ = bytes;
        Err(Full)
    }

    /// Drops the draft, if there is one, and frees its room.
    fn drop_draft(&mut self) {
        self.begin_draft();
    }

    /// Bytes of the draft, as [`Storage::read_snapshot`] gives those of the snapshot.
    ///
    /// # Errors
    /// [`ReadError::Missing`] if there is no draft; [`ReadError::Failed`] if the storage failed.
    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<Self::Error>> {
        let _ = (offset, bytes_max);
        Err(ReadError::Missing(Index::ZERO))
    }

    /// The draft is whole, and becomes the latest snapshot.
    ///
    /// If the view holds the entry `snapshot.through`, with that term, the log stays as it is, and
    /// the storage may take its time: [`Storage::snapshot`] gives the new one once it is durable.
    /// A draft that is begun meanwhile must not disturb that.
    ///
    /// If it does not, the snapshot takes the place of the whole log at once: no entry is held any
    /// more, base and last entry are `snapshot.through` with its time, and `snapshot()` gives it.
    /// All of it becomes durable with the next [`Storage::flush`], as a whole: a crash finds the
    /// old log with the old snapshot, or the new ones.
    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        let _ = snapshot;
    }

    /// Drops all entries up to `index`, at most that of the latest snapshot, as far as it is
    /// convenient: the base moves there, or anywhere before. Nothing if it lies before the base.
    fn compact(&mut self, index: Index) {
        let _ = index;
    }

    /// The bytes of the records behind the entry `index`; an estimate will do.
    fn bytes_behind(&self, index: Index) -> u64 {
        let _ = index;
        0
    }

    /// Nothing has been saved for a while, about 100 ms: a storage may use the time to make it
    /// provable that what was saved last was saved, so that damage to it is later told from a
    /// write that was torn. Does nothing unless a storage needs it.
    ///
    /// # Errors
    /// The storage failed for good.
    fn witness(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// What the storage has done since its start.
    fn metrics(&self) -> StorageMetrics {
        StorageMetrics::default()
    }
}

/// What a storage has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageMetrics {
    /// Syncs that made entries or hard states durable.
    pub syncs: u64,
    /// Entries these syncs made durable.
    pub entries_synced: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Whether there is no room for what the log needs next: no entry of a client is taken before there is.
    pub full: bool,
}

/// There is no room for another entry: try again when entries have been applied and compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the log is full; try again when there is room")]
pub struct Full;

/// Why entries could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// The entry is not held: compacted, or not there yet.
    #[error("entry {0} is not held by this log")]
    Missing(Index),
    /// The storage failed for good.
    #[error("the log could not be read")]
    Failed(#[source] E),
}
