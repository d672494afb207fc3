//! Making snapshots, restoring from them, and dropping what they cover from the log (dissertation,
//! chapter 5).

use crate::configuration::{self, CONFIGURATION_BYTES_MAX};
use crate::crc::crc32c;
use crate::machine::{Sink, Source, StateMachine};
use crate::raft::event::Event;
use crate::replica::{Core, Observer, PollError};
use crate::session::memory::SessionMemory;
use crate::snapshot::{self, HEAD_BYTES_MAX, Head, OpenError, Terms, Which};
use crate::storage::{ReadError, SnapshotId, Storage};
use crate::types::{ClusterTime, EntryId, Index, Instant};

/// The bytes of state that are read at once while it is restored.
const RESTORE_BYTES: usize = 64 << 10;
/// What is asked for to read one entry's header: one entry is read whatever its length.
const ENTRY_BYTES: usize = 1;

/// How often the wait for room doubles, from an election timeout on: a whole state is written in vain each time.
const DOUBLINGS_MAX: u32 = 7;

/// Writes the draft of a snapshot.
struct Draft<'a, S> {
    storage: &'a mut S,
    bytes: u64,
    checksum: u32,
    full: bool,
}

impl<S: Storage> Sink for Draft<'_, S> {
    fn write(&mut self, bytes: &[u8]) {
        if self.full {
            return;
        }
        self.full = self.storage.extend_draft(bytes).is_err();
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.checksum = crc32c(self.checksum, bytes);
    }
}

/// Counts bytes.
struct Length(u64);

impl Sink for Length {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len() as u64);
    }
}

/// Reads the state in a snapshot, from `offset` to its end.
struct State<'a, S: Storage> {
    storage: &'a mut S,
    offset: u64,
    failed: Option<S::Error>,
}

impl<S: Storage> Source for State<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let wanted = buffer.len().min(RESTORE_BYTES);
        match self.storage.read_snapshot(self.offset, wanted) {
            Ok(bytes) => {
                if let Some(place) = buffer.get_mut(..bytes.len()) {
                    place.copy_from_slice(bytes);
                }
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                bytes.len()
            }
            Err(ReadError::Failed(error)) => {
                self.failed = Some(error);
                0
            }
            Err(ReadError::Missing(_)) => 0,
        }
    }
}

impl<S: Storage, M: StateMachine, X: SessionMemory, const NODES: usize> Core<S, M, X, NODES> {
    /// Makes a snapshot if one is due, and drops what the latest one covers from the log. Returns what is to be
    /// told of it.
    pub(super) fn keep_log_short(&mut self, now: Instant) -> Result<Option<Event>, PollError<S::Error>> {
        let event = if self.snapshot_is_due(now) { self.make_snapshot(now)? } else { None };
        let storage = self.raft.storage();
        if let Some(snapshot) = storage.snapshot()
            && (snapshot.through.index > self.compacted
                || (storage.metrics().full && snapshot.through.index > storage.base().index))
            && !self.raft.awaits_restore()
        {
            self.compacted = snapshot.through.index;
            let keep_from = self.keep_from(snapshot);
            self.raft.storage_mut().compact(keep_from);
        }
        Ok(event)
    }

    /// The entry behind which the log is kept when there is that snapshot.
    fn keep_from(&self, snapshot: SnapshotId) -> Index {
        let (storage, through) = (self.raft.storage(), snapshot.through.index);
        if storage.metrics().full {
            return through;
        }
        let bytes_max = storage.bytes_behind(through).saturating_add(self.config.keep_bytes_max(snapshot.bytes));
        let (mut from, mut to) = (through.0.saturating_sub(self.config.snapshot_keep_entries), through.0);
        // The longest tail that is within the bound on bytes.
        while from < to {
            let middle = from + (to - from) / 2;
            let fits = storage.bytes_behind(Index(middle)) <= bytes_max;
            (from, to) = if fits { (from, middle) } else { (middle + 1, to) };
        }
        Index(to)
    }

    fn snapshot_is_due(&self, now: Instant) -> bool {
        let (storage, applied) = (self.raft.storage(), self.raft.last_applied());
        let latest = storage.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        // One is under way to the disk, one arrives, or there is nothing new to put into one.
        if latest < self.snapshot_made || self.raft.receives_snapshot() || applied <= latest {
            return false;
        }
        if self.snapshot_wanted {
            return true;
        }
        let entries = applied.since(latest);
        let over = |times: u64| {
            entries >= self.config.snapshot_after_entries.saturating_mul(times)
                || storage.bytes_behind(latest) >= self.config.snapshot_after_bytes.saturating_mul(times)
        };
        // A follower that is being sent the latest one would have to begin anew. But the log does not grow without end
        // for the sake of one that takes too long, and one that has no room makes some.
        let due = storage.metrics().full || over(4) || (over(1) && !self.raft.sends_snapshot());
        due && self.snapshot_again.is_over(now)
    }

    fn make_snapshot(&mut self, now: Instant) -> Result<Option<Event>, PollError<S::Error>> {
        let applied = self.raft.last_applied();
        // An older configuration than the last two held at that entry: wait until it does not.
        let Some(entry) = self.raft.applied_configuration() else { return Ok(None) };
        let storage = self.raft.storage_mut();
        let Some((through, time)) = entry_at(storage, applied)? else { return Ok(None) };
        let configuration = match entry.index > storage.base().index {
            true => configuration::load(storage, entry.index),
            false => snapshot::open(storage, Which::Latest).map(|opened| opened.1).map_err(Into::into),
        };
        let configuration = configuration.map_err(PollError::Configuration)?;
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let payload = configuration.encode(&mut buffer).expect("the buffer holds every valid configuration");
        let before = storage.snapshot().and_then(|_| snapshot::open(storage, Which::Latest).ok());
        let terms = Terms::of(storage, through, before.map_or(Terms::NONE, |(head, _)| head.terms));
        let mut sessions = Length(0);
        if !self.stripped {
            self.sessions.encode(&mut sessions);
        }
        let head = Head {
            configuration: entry,
            configuration_bytes: u32::try_from(payload.len()).expect("a configuration is short"),
            session_bytes: sessions.0,
            // A witness has no state that could have had a digest.
            check: Some(self.checks.last_comparison()).filter(|_| !self.stripped),
            terms,
        };
        storage.begin_draft();
        let mut draft = Draft { storage, bytes: 0, checksum: 0, full: false };
        draft.write(head.encode(&mut [0; HEAD_BYTES_MAX]));
        draft.write(payload);
        if !self.stripped {
            self.sessions.encode(&mut draft);
            self.machine.snapshot(&mut draft);
        }
        let Draft { bytes, checksum, full, .. } = draft;
        self.snapshot_wanted = false;
        if full {
            storage.drop_draft();
            self.snapshot_made = Index::ZERO;
            self.snapshots_failed = self.snapshots_failed.saturating_add(1);
            let is_news = self.snapshot_again.failed(now, self.config.election_timeout, DOUBLINGS_MAX);
            return Ok(is_news.then_some(Event::SnapshotFailed { through }));
        }
        self.snapshot_made = applied;
        storage.adopt_draft(SnapshotId { through, time, bytes, checksum });
        // Nothing else may be to save for a long while.
        storage.flush().map_err(PollError::Storage)?;
        self.snapshot_again.end();
        if self.raft.storage().metrics().full {
            // Should it not have made room, the next one is not worth its price at once.
            self.snapshot_again.failed(now, self.config.election_timeout, DOUBLINGS_MAX);
        }
        Ok(None)
    }

    /// Makes sessions and state machine anew, if the log begins behind what they hold.
    pub(super) fn restore(&mut self, observer: &mut impl Observer) -> Result<(), PollError<S::Error>> {
        let Some(snapshot) = self.raft.ready().restore() else { return Ok(()) };
        let storage = self.raft.storage_mut();
        let (head, _) = snapshot::open(storage, Which::Latest).map_err(|error| match error {
            OpenError::Snapshot(error) => PollError::Snapshot(error),
            OpenError::Read(error) => read_failed(error),
        })?;
        // A witness was sent no more than head and configuration, or wrote no more.
        self.stripped = snapshot.bytes <= head.sessions_at();
        if !self.stripped {
            let length = usize::try_from(head.session_bytes).unwrap_or(usize::MAX);
            let bytes = storage.read_snapshot(head.sessions_at(), length).map_err(read_failed)?;
            self.sessions.decode(bytes, snapshot.through.index)?;
            let mut state = State { storage, offset: head.state_at(), failed: None };
            let restored = self.machine.restore(&mut state);
            if let Some(error) = state.failed {
                return Err(PollError::Storage(error));
            }
            restored?;
        }
        self.raft.restored().later();
        self.snapshot_made = Index::ZERO;
        self.checks.restored(snapshot.through, head.check.filter(|_| !self.stripped));
        observer.restored(snapshot);
        Ok(())
    }
}

/// Term, index and time of the entry at `index`, which is applied; `None` if all there is of it is a
/// snapshot that covers it already.
fn entry_at<S: Storage>(storage: &mut S, index: Index) -> Result<Option<(EntryId, ClusterTime)>, PollError<S::Error>> {
    if index <= storage.base().index {
        return Ok(None);
    }
    let records = storage.read(index, index, ENTRY_BYTES).map_err(read_failed)?;
    Ok(records.iter().next().map(|entry| (entry.header.id(), entry.header.time)))
}

fn read_failed<E>(error: ReadError<E>) -> PollError<E> {
    match error {
        ReadError::Failed(error) => PollError::Storage(error),
        ReadError::Missing(index) => panic!("entry {index} is held, or there is a snapshot"),
    }
}
