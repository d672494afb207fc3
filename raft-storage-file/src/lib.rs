//! The write-ahead log, hard state, snapshots and identity of one Raft node, in one directory.
//!
//! [`FileStorage`] is a [`Storage`](raft_core::storage::Storage) whose durable copy is a log of
//! batches: what one [`flush`](raft_core::storage::Storage::flush) saves (a vote, a truncation,
//! any number of entries) is one write and one sync, and takes effect as a whole or not at all.
//! Snapshots are files of their own; what they cover of the log is removed a segment at a time.
//!
//! ```
//! use raft_core::storage::Storage;
//! use raft_core::types::{ClusterId, Incarnation, NodeId};
//! use raft_storage_file::{Directory, FileStorage, Identity, Options};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("node");
//! let node = NodeId::new(1).expect("1 is not 0");
//! // The cluster's id and the incarnation are random bits.
//! let identity = Identity { cluster: ClusterId(42), node, incarnation: Incarnation(7) };
//! let (storage, _) = FileStorage::create(Directory::new(&path), identity, Options::default())?;
//! drop(storage);
//! // From now on it is opened. To create and to open are two calls, and none does the other's work.
//! let (mut storage, report) = FileStorage::open(Directory::new(&path), Options::default())?;
//! println!("{report}");
//!
//! storage.set_hard_state(raft_core::storage::HardState { vote: Some(node), ..storage.hard_state() });
//! storage.flush()?;
//! assert_eq!(storage.saved()?.hard_state.vote, Some(node));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mod@format`] describes every byte on disk, [`recovery`] what a start makes of what it finds. All
//! calls to the file system go through [`Files`]; [`simulated`] has a disk that loses power.

mod cache;
mod descriptors;
mod directory;
mod disk;
mod error;
mod files;
pub mod format;
mod log;
mod options;
mod reader;
pub mod recovery;
mod reserve;
mod scan;
mod segment;
mod segments;
pub mod simulated;
mod snapshot;
mod spare;
mod storage;
mod suspect;
mod waiting;

pub use descriptors::DESCRIPTORS_MAX;
pub use directory::{Directory, DirectoryLock, SyncThread, ZeroingThread};
pub use error::{DiskError, OpenError, Operation, StorageError};
pub use files::{Files, Locking, Name};
pub use format::{How, Identity, Origin};
pub use options::{Options, OptionsError, PENDING_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SuspectTail};
pub use recovery::{Cut, Report};
pub use storage::{FileStorage, Metrics};
pub use waiting::WaitingDirectory;
