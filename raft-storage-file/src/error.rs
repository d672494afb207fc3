//! What can go wrong, in words for the person who has to mend it.

use std::fmt;
use std::io;
use std::sync::Arc;

use raft_core::configuration::BootstrapError;
use raft_core::entry::RecordError;
use raft_core::storage::HardState;
use raft_core::types::{ClusterId, EntryId, Index, NodeId};
use thiserror::Error;

use crate::files::Name;
use crate::format::FORMAT_VERSION;
use crate::options::OptionsError;

/// What was asked of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// List the directory, or make it.
    Directory,
    /// Lock the directory.
    Lock,
    /// Open a file or make one.
    Open,
    /// Read from a file, or its length.
    Read,
    /// Write to a file.
    Write,
    /// Make a file's bytes durable.
    Sync,
    /// Rename a file.
    Rename,
    /// Unlink a file.
    Remove,
    /// Fill a new file with zeros.
    Zero,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Operation::Directory => "listing or making the directory",
            Operation::Lock => "locking the directory",
            Operation::Open => "opening",
            Operation::Read => "reading",
            Operation::Write => "writing",
            Operation::Sync => "syncing",
            Operation::Rename => "renaming",
            Operation::Remove => "removing",
            Operation::Zero => "preparing",
        })
    }
}

/// The file system refused.
#[derive(Clone, Debug, Error)]
#[error("{operation}{} failed: {source}", in_words(*operation, *name, *offset))]
#[non_exhaustive]
pub struct DiskError {
    /// What was asked of it.
    pub operation: Operation,
    /// The file.
    pub name: Name,
    /// Where in it the bytes begin that could not be read or written; `None` for what is done to the file as a whole.
    pub offset: Option<u64>,
    /// Its answer.
    pub source: Arc<io::Error>,
}

fn in_words(operation: Operation, name: Name, offset: Option<u64>) -> String {
    match (operation, offset) {
        (Operation::Directory | Operation::Lock, _) => String::new(),
        (_, None) => format!(" {name}"),
        (_, Some(offset)) => format!(" {name} from offset {offset} on"),
    }
}

impl DiskError {
    /// Whether it is that the disk has no room: no failure while nothing depends on what was written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Makes a system's error one of `operation` on `name`, for `map_err`.
    pub(crate) fn of(operation: Operation, name: Name) -> impl FnOnce(io::Error) -> DiskError {
        move |error| DiskError { operation, name, offset: None, source: Arc::new(error) }
    }

    /// The same for what is read or written from `offset` on.
    pub(crate) fn at(operation: Operation, name: Name, offset: u64) -> impl FnOnce(io::Error) -> DiskError {
        move |error| DiskError { operation, name, offset: Some(offset), source: Arc::new(error) }
    }
}

/// Why a log failed for good. Every later call gives the same error; nothing is written any more,
/// because what a disk says after it has failed once cannot be trusted. Start the node again when
/// the disk is well: recovery finds out what is there.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file system refused.
    #[error("the log failed and the node has to stop; see to the disk, then start it again: {0}")]
    Disk(#[from] DiskError),
    /// An entry that was read is not what was written.
    #[error(
        "{name} is damaged from offset {offset} on, in or before entry {index}: {source}; remove this node from the \
         cluster and add it anew with an empty directory"
    )]
    Damaged {
        /// The segment.
        name: Name,
        /// Where in it.
        offset: u64,
        /// The entry that was looked for.
        index: Index,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A batch in a segment that was verified at the start has decayed since.
    #[error(
        "{name} is damaged at offset {offset}, before entry {index}; remove this node from the cluster and add it \
         anew with an empty directory"
    )]
    DamagedBatch {
        /// The segment.
        name: Name,
        /// Where in it.
        offset: u64,
        /// The entry that was looked for.
        index: Index,
    },
    /// The caller's mistake: an entry that cannot follow the last one, or whose header does not fit its payload.
    #[error("entry {found} was appended behind entry {last}, which it cannot follow; nothing was written")]
    Order {
        /// The last entry.
        last: EntryId,
        /// The one that cannot follow.
        found: EntryId,
    },
    /// The caller's mistake: a truncation before the base, or of the hard state's history.
    #[error("entries behind {index} were to be dropped, but the log begins behind {base}; nothing was written")]
    TruncatedBase {
        /// The last entry that was to be kept.
        index: Index,
        /// The log's base.
        base: EntryId,
    },
    /// The caller's mistake: a term that goes down, or another vote in the same term.
    #[error("the hard state {new:?} cannot follow {old:?}; nothing was written")]
    HardState {
        /// The hard state in force.
        old: HardState,
        /// The one that cannot follow it.
        new: HardState,
    },
    /// The caller's mistake: entries that a snapshot covers are committed, and cannot be dropped.
    #[error(
        "entries behind {index} were to be dropped, but the snapshot covers them up to {covered}; nothing was written"
    )]
    TruncatedSnapshot {
        /// The last entry that was to be kept.
        index: Index,
        /// The snapshot's last entry.
        covered: Index,
    },
    /// The caller's mistake: a draft that is not the snapshot it is said to be.
    #[error(
        "the draft of snapshot {through} has {found_bytes} bytes with checksum {found_checksum:08x}, and was to have \
         {bytes} with {checksum:08x}; it was not adopted"
    )]
    Draft {
        /// The snapshot's last entry.
        through: EntryId,
        /// The bytes it was to have.
        bytes: u64,
        /// The checksum it was to have.
        checksum: u32,
        /// The bytes it has.
        found_bytes: u64,
        /// The checksum it has.
        found_checksum: u32,
    },
    /// The caller's mistake: a snapshot from before the latest one, or from before the log, that contradicts them.
    #[error("snapshot {found} was to take the place of a log that is past it, at {latest}; it was not adopted")]
    SnapshotOrder {
        /// The snapshot's last entry.
        found: EntryId,
        /// The latest snapshot's last entry, or the base.
        latest: Index,
    },
}

/// Why a directory could not be opened or created. Nothing of the log was changed; if the disk failed in
/// the middle of a repair, the next start takes it up again.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is out of its bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process uses the directory.
    #[error(
        "the directory is in use by {}; stop it first, or give this node a directory of its own",
        holder.map_or(String::from("another process"), |pid| format!("process {pid}"))
    )]
    Locked {
        /// Its process id, if it could be read.
        holder: Option<u32>,
    },
    /// There is nothing to open.
    #[error("the directory holds no node; create it first, or give the directory that was created")]
    NotCreated,
    /// The directory is that of a node that waits.
    #[error(
        "the directory is that of a node that waits to be created or added, and belongs to no cluster yet; let it wait, \
         or give an empty directory"
    )]
    Waiting,
    /// The node that waits has promised to be created with another cluster, or with this one in another way.
    #[error(
        "the directory is promised to cluster {cluster} as node {node}; complete that, or stop the node and give it an \
         empty directory"
    )]
    Promised {
        /// The cluster.
        cluster: ClusterId,
        /// The node's id there.
        node: NodeId,
    },
    /// The file that says how the node came to its cluster is not what was written, or of another directory.
    #[error(
        "the file origin is damaged, or of another directory; put back a good copy, or remove this node from the cluster \
         and add it under a new id with an empty directory"
    )]
    OriginDamaged,
    /// The first entry of the log could not be written.
    #[error("the log cannot be given its first entry: {0}")]
    FirstEntry(#[from] BootstrapError),
    /// The log failed while it was given its first entry.
    #[error("the log cannot be given its first entry: {0}")]
    Log(#[from] StorageError),
    /// The creation of the directory was cut short.
    #[error("the creation of the directory was cut short; create it again: nothing is lost")]
    CreationUnfinished,
    /// There is something to open.
    #[error("the directory holds node {node} of cluster {cluster} already; open it, or create in an empty one")]
    AlreadyCreated {
        /// The node it holds.
        node: NodeId,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Segments without an identity.
    #[error(
        "the file identity is missing beside the log; put it back, or remove this node from the cluster and add it \
         anew with an empty directory"
    )]
    IdentityMissing,
    /// The identity is not what was written.
    #[error(
        "the file identity is damaged; put back a good copy, or remove this node from the cluster and add it anew \
         with an empty directory"
    )]
    IdentityDamaged,
    /// A file of a later or an earlier format.
    #[error(
        "{name} has format version {version}, and this program reads {FORMAT_VERSION}; start the program that wrote it"
    )]
    OtherVersion {
        /// The file.
        name: Name,
        /// Its format version.
        version: u32,
    },
    /// Another cluster's directory.
    #[error("the directory belongs to cluster {found}, not to {expected}; give the directory of this cluster")]
    WrongCluster {
        /// The cluster asked for.
        expected: ClusterId,
        /// The cluster it belongs to.
        found: ClusterId,
    },
    /// Another node's directory.
    #[error("the directory belongs to node {found}, not to {expected}; give the directory of node {expected}")]
    WrongNode {
        /// The node asked for.
        expected: NodeId,
        /// The node it belongs to.
        found: NodeId,
    },
    /// A part of the log is gone.
    #[error(
        "{name} is missing: it holds a part of the log that no snapshot covers; put it back, or remove this node from \
         the cluster and add it anew with an empty directory"
    )]
    SegmentMissing {
        /// The segment.
        name: Name,
    },
    /// The log begins where a snapshot ends, and that is gone.
    #[error(
        "{name} is missing: the log begins where it ends; put it back, or remove this node from the cluster and add \
         it anew with an empty directory"
    )]
    SnapshotMissing {
        /// The snapshot.
        name: Name,
    },
    /// A snapshot is not what was written, and the log does not reach back to an older one.
    #[error(
        "{name} is damaged, and the log begins behind entry {base}; put back a good copy, or remove this node from the \
         cluster and add it anew with an empty directory"
    )]
    SnapshotDamaged {
        /// The snapshot.
        name: Name,
        /// Where the log begins.
        base: Index,
    },
    /// A snapshot of another node, or under another's name.
    #[error("{name} is a snapshot of another node or another place of the log; put back the right one")]
    SnapshotForeign {
        /// The file.
        name: Name,
    },
    /// A segment's header is not what was written.
    #[error(
        "{name} is damaged in its first 128 bytes, before entry {}; put back a good copy, or remove this node from \
         the cluster and add it anew with an empty directory", after.next()
    )]
    SegmentDamaged {
        /// The segment.
        name: Name,
        /// The last entry before it, as far as it is known.
        after: Index,
    },
    /// A segment of another node, or under another segment's name.
    #[error("{name} is a segment of another node or another place of the log; put back the right one")]
    SegmentForeign {
        /// The file.
        name: Name,
    },
    /// A segment that ends before what was made durable in it.
    #[error(
        "{name} has {bytes} bytes, but {needed} were made durable; put back a good copy, or remove this node from the \
         cluster and add it anew with an empty directory"
    )]
    SegmentShort {
        /// The segment.
        name: Name,
        /// Its length.
        bytes: u64,
        /// What it must have.
        needed: u64,
    },
    /// Something that was made durable is not there any more.
    #[error(
        "{name} is damaged at offset {offset}: entries {first} to {last} cannot be trusted, and they were durable; \
         put back a good copy, or remove this node from the cluster and add it anew with an empty directory"
    )]
    Damaged {
        /// The segment.
        name: Name,
        /// Where in it.
        offset: u64,
        /// The first entry that may be affected.
        first: Index,
        /// The last one, as far as it is known; smaller than `first` if none is, but a vote.
        last: Index,
    },
    /// Perhaps something that was durable is not there any more.
    #[error(
        "{name} is damaged at offset {offset}, behind entry {after}, in a way that no power cut explains, and it \
         cannot be told whether that was acknowledged; with other members that hold the log, remove this node and add \
         it anew with an empty directory; without, put back a good copy"
    )]
    Suspect {
        /// The segment.
        name: Name,
        /// Where in it.
        offset: u64,
        /// The last good entry.
        after: Index,
    },
    /// An earlier start has cut off what may have been acknowledged, and the log has not been trusted since.
    #[error(
        "entries up to {through} may have been acknowledged and are lost: an earlier start has cut them off; with other          members that hold the log, start with the option that cuts suspect tails, or remove this node and add it anew          with an empty directory; without, put back a good copy"
    )]
    StillSuspect {
        /// The last entry that may be lost.
        through: Index,
    },
    /// The file that says up to where the log is suspect is not what was written.
    #[error(
        "the file suspect is damaged, which says how far the log cannot be trusted; remove this node from the cluster          and add it anew with an empty directory"
    )]
    SuspectMarkDamaged,
    /// Batches that are whole but contradict each other, or hold entries that are damaged.
    #[error(
        "{name} holds at offset {offset} what cannot follow entry {after}, although it is what was written: faulty \
         memory or a faulty program wrote it; remove this node from the cluster and add it anew with an empty directory"
    )]
    Contradiction {
        /// The segment.
        name: Name,
        /// Where in it.
        offset: u64,
        /// The last good entry.
        after: EntryId,
    },
}
