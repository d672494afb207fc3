//! A node that does what a script says until the power goes, and what it may leave behind.

use std::io;

use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::raft::event::Expulsion;
use raft_core::storage::{Full, HardState, SnapshotId, Storage};
use raft_core::types::{EntryId, Index, NodeId, Term};
use raft_storage_file::simulated::Disk;
use raft_storage_file::{FileStorage, Identity, OpenError, Operation, Options, Report, StorageError};

use super::image::{Image, content, payload, snapshot_of, time};
use super::script::{Action, Script, identity};

/// How far a run came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// What is durable for sure; nothing before the directory was created.
    pub(crate) acknowledged: Option<Image>,
    /// What a flush was saving that has not returned.
    pub(crate) in_flight: Option<Image>,
    /// Own snapshots that may be durable.
    taken: Vec<SnapshotId>,
    /// What was asked of the disk when it failed, and what it said.
    pub(crate) failed: Option<(Operation, io::ErrorKind)>,
}

impl Run {
    /// All that may be found after a power loss.
    pub(crate) fn allowed(&self) -> Vec<Image> {
        let mut allowed = Vec::new();
        for image in self.acknowledged.iter().chain(&self.in_flight) {
            allowed.push(image.clone());
            let newer = |id: &&SnapshotId| image.snapshot.is_none_or(|old| old.through.index < id.through.index);
            for &id in self.taken.iter().filter(newer).filter(|id| image.holds(id.through)) {
                allowed.push(Image { snapshot: Some(id), ..image.clone() });
            }
        }
        // Before the directory was acknowledged to be created, an empty log is as good as none.
        if allowed.is_empty() { vec![Image::default()] } else { allowed }
    }

    /// Runs the script until its end, or until the disk fails.
    pub(crate) fn script(disk: &Disk, script: &Script) -> Run {
        Run::script_until(disk, script, |_| false)
    }

    /// The same, or until `stop` says so, which is asked after each action.
    pub(crate) fn script_until(disk: &Disk, script: &Script, mut stop: impl FnMut(&Run) -> bool) -> Run {
        let mut run = Run::default();
        match run.act(disk, script, &mut stop) {
            Ok(mut storage) => {
                let found = Image::of(&mut storage);
                assert!(run.allowed().iter().any(|image| image.is(&found)), "found {found:?} after {run:?}");
            }
            Err(End::Open(OpenError::Disk(error)) | End::Log(StorageError::Disk(error))) => {
                run.failed = Some((error.operation, error.source.kind()));
            }
            Err(End::Open(error)) => panic!("{error}"),
            Err(End::Log(error)) => panic!("{error}"),
            Err(End::Full(Full) | End::Stopped) => {}
        }
        run
    }

    /// The same run, had it made the snapshots of another.
    pub(crate) fn with_snapshots_of(&self, other: &Run) -> Run {
        Run { taken: other.taken.clone(), ..self.clone() }
    }

    fn act(
        &mut self,
        disk: &Disk,
        script: &Script,
        stop: &mut impl FnMut(&Run) -> bool,
    ) -> Result<FileStorage<Disk>, End> {
        let (mut storage, _) = FileStorage::create(disk.clone(), identity(), script.options)?;
        let mut view = Image::default();
        self.acknowledged = Some(view.clone());
        for action in &script.actions {
            match action {
                Action::Reopen => {
                    drop(storage);
                    storage = FileStorage::open(disk.clone(), script.options)?.0;
                    view = self.acknowledged.clone().unwrap();
                }
                Action::HoldSyncs(hold) => disk.hold_syncs(*hold),
                Action::Flush => self.flush(&view, || storage.flush())?,
                Action::Witness => self.flush(&view, || storage.witness())?,
                _ => self.do_in_memory(action, &mut view, &mut storage)?,
            }
            let saved = storage.saved()?;
            let acknowledged = self.acknowledged.as_mut().unwrap();
            let durable = (acknowledged.last(), acknowledged.hard_state);
            assert_eq!((saved.through, saved.hard_state), durable, "{action:?}");
            // One that the storage gives is durable, unless it takes the place of a log that is not saved.
            let snapshot = storage.snapshot();
            if view.base == acknowledged.base {
                (acknowledged.snapshot, view.snapshot) = (snapshot, snapshot);
            }
            assert_eq!(snapshot, view.snapshot, "{action:?}");
            if stop(self) {
                return Err(End::Stopped);
            }
        }
        Ok(storage)
    }

    fn flush(&mut self, view: &Image, flush: impl FnOnce() -> Result<(), StorageError>) -> Result<(), StorageError> {
        self.in_flight = Some(view.clone());
        flush()?;
        self.acknowledged = self.in_flight.take();
        Ok(())
    }

    /// What takes effect with the next flush, or in its own time.
    fn do_in_memory(&mut self, action: &Action, view: &mut Image, storage: &mut FileStorage<Disk>) -> Result<(), Full> {
        match action {
            Action::Append(term, lengths) => {
                for &length in lengths {
                    let id = EntryId::new(Term(*term), view.last().index.next());
                    append(storage, id, length)?;
                    view.entries.push((id, length));
                }
            }
            Action::Vote(term, vote) => {
                // Whatever else the hard state holds survives with its term: in some it is expelled, in others not any more.
                let entry = EntryId::new(Term(*term), Index(*term));
                let expelled = match term % 3 {
                    0 => Some(Expulsion::Forgot { acknowledged: entry, added: Index(1) }),
                    1 => Some(Expulsion::Removed { by: entry }),
                    _ => None,
                };
                view.hard_state = HardState { term: Term(*term), vote: NodeId::new(*vote), expelled };
                storage.set_hard_state(view.hard_state);
            }
            Action::Truncate(last) => {
                storage.truncate(Index(*last));
                view.entries.retain(|(id, _)| id.index <= Index(*last));
            }
            Action::Take(index) => {
                let through = view.entries.iter().find(|(id, _)| id.index == Index(*index)).unwrap().0;
                self.taken.push(snapshot_of(through));
                adopt(storage, through)?;
            }
            Action::Receive(term, index) => {
                let through = EntryId::new(Term(*term), Index(*index));
                let snapshot = Some(adopt(storage, through)?);
                *view = Image { base: through, entries: Vec::new(), snapshot, hard_state: view.hard_state };
            }
            Action::Begin => {
                storage.begin_draft();
                let _ = storage.extend_draft(&[1; 700]);
            }
            Action::Compact(index) => storage.compact(Index(*index)),
            Action::Flush | Action::Witness | Action::HoldSyncs(_) | Action::Reopen => unreachable!("{action:?}"),
        }
        Ok(())
    }
}

/// Why a script did not come to its end.
enum End {
    Open(OpenError),
    Log(StorageError),
    /// The disk is full, and nothing was changed.
    Full(Full),
    Stopped,
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> End {
        End::Open(error)
    }
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> End {
        End::Log(error)
    }
}

impl From<Full> for End {
    fn from(full: Full) -> End {
        End::Full(full)
    }
}

/// Appends an entry.
pub(crate) fn append(storage: &mut FileStorage<Disk>, id: EntryId, length: usize) -> Result<(), Full> {
    let payload = payload(id, length);
    let header = EntryHeader::new(id, time(id), EntryKind::Operation, &[&payload]).unwrap();
    storage.append(&header, &[&payload])
}

/// Makes a snapshot of the state after an entry, or receives it.
pub(crate) fn adopt(storage: &mut FileStorage<Disk>, through: EntryId) -> Result<SnapshotId, Full> {
    let snapshot = snapshot_of(through);
    storage.begin_draft();
    storage.extend_draft(&content(through))?;
    storage.adopt_draft(snapshot);
    Ok(snapshot)
}

/// Opens a node's directory, or creates it if the power went before it was there.
pub(crate) fn open_or_create(
    disk: Disk,
    identity: Identity,
    options: Options,
) -> Result<(FileStorage<Disk>, Report), OpenError> {
    match FileStorage::open(disk.clone(), options) {
        Err(OpenError::NotCreated | OpenError::CreationUnfinished) => FileStorage::create(disk, identity, options),
        opened => opened,
    }
}
