//! The node's storage and state machine with somebody looking over their shoulder: what they are told goes on to the
//! real ones unchanged, and is written down for the checkers.

use std::cell::RefCell;
use std::rc::Rc;

use raft_core::entry::{EntryHeader, Records};
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::storage::{Full, HardState, ReadError, Saved, SnapshotId, Storage, StorageMetrics};
use raft_core::types::{ClusterTime, EntryId, Index, Term};
use raft_storage_file::simulated::Disk;
use raft_storage_file::{FileStorage, StorageError};

use crate::thread::Thread;

/// Something that a storage was told, or told itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogChange {
    Appended {
        header: EntryHeader,
        payload: Vec<u8>,
    },
    Truncated {
        last: Index,
    },
    HardState(HardState),
    Saved(Saved),
    /// A snapshot has taken the place of the log.
    Replaced(SnapshotId),
}

/// What happened, in order, since somebody looked last.
pub(crate) type Seen<T> = Rc<RefCell<Vec<T>>>;

/// The storage that ships, on a simulated disk.
pub(crate) struct WatchedStorage {
    inner: FileStorage<Disk>,
    thread: Rc<Thread>,
    seen: Seen<LogChange>,
    saved: Option<Saved>,
}

impl WatchedStorage {
    pub(crate) fn new(inner: FileStorage<Disk>, thread: Rc<Thread>, seen: Seen<LogChange>) -> WatchedStorage {
        WatchedStorage { inner, thread, seen, saved: None }
    }

    /// The syncs that were waited for: those of the log, and three for a new segment.
    pub(crate) fn syncs(&self) -> u64 {
        let metrics = self.inner.metrics();
        metrics.syncs + 3 * metrics.rotations
    }

    fn see(&self, change: LogChange) {
        self.seen.borrow_mut().push(change);
    }
}

impl Storage for WatchedStorage {
    type Error = StorageError;

    fn hard_state(&self) -> HardState {
        self.inner.hard_state()
    }

    fn base(&self) -> EntryId {
        self.inner.base()
    }

    fn last(&self) -> EntryId {
        self.inner.last()
    }

    fn last_time(&self) -> ClusterTime {
        self.inner.last_time()
    }

    fn term(&self, index: Index) -> Option<Term> {
        self.inner.term(index)
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<StorageError>> {
        self.thread.call();
        self.inner.read(from, through, bytes_max)
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        self.thread.call();
        self.inner.append(header, parts)?;
        self.see(LogChange::Appended { header: *header, payload: parts.concat() });
        Ok(())
    }

    fn has_room(&mut self, payload_bytes: usize) -> bool {
        self.inner.has_room(payload_bytes)
    }

    fn truncate(&mut self, last: Index) {
        self.inner.truncate(last);
        self.see(LogChange::Truncated { last });
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.inner.set_hard_state(hard_state);
        self.see(LogChange::HardState(hard_state));
    }

    fn suspect_through(&self) -> Option<Index> {
        self.inner.suspect_through()
    }

    fn trust(&mut self) {
        self.inner.trust();
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.thread.call();
        let before = self.syncs();
        self.inner.flush()?;
        self.thread.pass_syncs(self.syncs() - before);
        self.thread.call();
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, StorageError> {
        let saved = self.inner.saved()?;
        if self.saved != Some(saved) {
            self.saved = Some(saved);
            self.see(LogChange::Saved(saved));
        }
        Ok(saved)
    }

    fn snapshot(&self) -> Option<SnapshotId> {
        self.inner.snapshot()
    }

    fn read_snapshot(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<StorageError>> {
        self.inner.read_snapshot(offset, bytes_max)
    }

    fn begin_draft(&mut self) {
        self.inner.begin_draft();
    }

    fn extend_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.inner.extend_draft(bytes)
    }

    fn drop_draft(&mut self) {
        self.inner.drop_draft();
    }

    fn read_draft(&mut self, offset: u64, bytes_max: usize) -> Result<&[u8], ReadError<StorageError>> {
        self.inner.read_draft(offset, bytes_max)
    }

    fn adopt_draft(&mut self, snapshot: SnapshotId) {
        self.thread.call();
        let replaces = self.inner.term(snapshot.through.index) != Some(snapshot.through.term);
        self.inner.adopt_draft(snapshot);
        if replaces {
            self.see(LogChange::Replaced(snapshot));
        }
    }

    fn compact(&mut self, index: Index) {
        self.inner.compact(index);
    }

    fn bytes_behind(&self, index: Index) -> u64 {
        self.inner.bytes_behind(index)
    }

    fn witness(&mut self) -> Result<(), StorageError> {
        self.inner.witness()
    }

    fn metrics(&self) -> StorageMetrics {
        Storage::metrics(&self.inner)
    }
}

/// A command that a state machine has executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) index: Index,
    pub(crate) time: ClusterTime,
    pub(crate) command: Vec<u8>,
    /// The digest of the state afterwards.
    pub(crate) digest: u64,
}

/// The user's state machine.
pub(crate) struct WatchedMachine<M> {
    inner: M,
    thread: Rc<Thread>,
    seen: Seen<Execution>,
}

impl<M> WatchedMachine<M> {
    pub(crate) fn new(inner: M, thread: Rc<Thread>, seen: Seen<Execution>) -> WatchedMachine<M> {
        WatchedMachine { inner, thread, seen }
    }
}

impl<M: StateMachine> StateMachine for WatchedMachine<M> {
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.thread.call();
        self.inner.apply(position, command, answer);
        let digest = self.inner.digest();
        let Position { index, time, .. } = position;
        self.seen.borrow_mut().push(Execution { index, time, command: command.to_vec(), digest });
    }

    fn query(&self, query: &[u8], answer: &mut dyn Sink) {
        self.thread.call();
        self.inner.query(query, answer);
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        self.inner.snapshot(state);
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.inner.restore(state)
    }

    fn digest(&self) -> u64 {
        self.inner.digest()
    }
}
