//! A node that does what a script says until the power goes, and what it may leave behind.

use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{EntryId, Index, NodeId, Term};
use raft_storage_file::FileStorage;
use raft_storage_file::simulated::Disk;

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
        let mut run = Run::default();
        let Ok((storage, _)) = FileStorage::create(disk.clone(), identity(), script.options) else { return run };
        run.acknowledged = Some(Image::default());
        if let Some(mut storage) = run.act(disk, script, storage) {
            let found = Image::of(&mut storage);
            assert!(run.allowed().iter().any(|image| image.is(&found)), "found {found:?} after {run:?}");
        }
        run
    }

    /// Gives the storage if it comes to the end.
    fn act(&mut self, disk: &Disk, script: &Script, mut storage: FileStorage<Disk>) -> Option<FileStorage<Disk>> {
        let mut view = Image::default();
        for action in &script.actions {
            match action {
                Action::Reopen => {
                    drop(storage);
                    storage = FileStorage::open(disk.clone(), script.options).ok()?.0;
                    view = self.acknowledged.clone().unwrap();
                }
                Action::HoldSyncs(hold) => disk.hold_syncs(*hold),
                Action::Flush => self.flush(&view, || storage.flush().ok())?,
                Action::Witness => self.flush(&view, || storage.witness().ok())?,
                _ => self.do_in_memory(action, &mut view, &mut storage),
            }
            let saved = storage.saved().ok()?;
            let acknowledged = self.acknowledged.as_mut().unwrap();
            let durable = (acknowledged.last(), acknowledged.hard_state);
            assert_eq!((saved.through, saved.hard_state), durable, "{action:?}");
            // One that the storage gives is durable, unless it takes the place of a log that is not saved.
            let snapshot = storage.snapshot();
            if view.base == acknowledged.base {
                (acknowledged.snapshot, view.snapshot) = (snapshot, snapshot);
            }
            assert_eq!(snapshot, view.snapshot, "{action:?}");
        }
        Some(storage)
    }

    fn flush(&mut self, view: &Image, flush: impl FnOnce() -> Option<()>) -> Option<()> {
        self.in_flight = Some(view.clone());
        flush()?;
        self.acknowledged = self.in_flight.take();
        Some(())
    }

    /// What takes effect with the next flush, or in its own time.
    fn do_in_memory(&mut self, action: &Action, view: &mut Image, storage: &mut FileStorage<Disk>) {
        match action {
            Action::Append(term, lengths) => {
                for &length in lengths {
                    let id = EntryId::new(Term(*term), view.last().index.next());
                    append(storage, id, length);
                    view.entries.push((id, length));
                }
            }
            Action::Vote(term, vote) => {
                view.hard_state = HardState { term: Term(*term), vote: NodeId::new(*vote) };
                storage.set_hard_state(view.hard_state);
            }
            Action::Truncate(last) => {
                storage.truncate(Index(*last));
                view.entries.retain(|(id, _)| id.index <= Index(*last));
            }
            Action::Take(index) => {
                let through = view.entries.iter().find(|(id, _)| id.index == Index(*index)).unwrap().0;
                self.taken.push(snapshot_of(through));
                adopt(storage, through);
            }
            Action::Receive(term, index) => {
                let through = EntryId::new(Term(*term), Index(*index));
                let snapshot = Some(adopt(storage, through));
                *view = Image { base: through, entries: Vec::new(), snapshot, hard_state: view.hard_state };
            }
            Action::Begin => {
                storage.begin_draft();
                let _ = storage.extend_draft(&[1; 700]);
            }
            Action::Compact(index) => storage.compact(Index(*index)),
            Action::Flush | Action::Witness | Action::HoldSyncs(_) | Action::Reopen => unreachable!("{action:?}"),
        }
    }
}

/// Appends an entry.
pub(crate) fn append(storage: &mut FileStorage<Disk>, id: EntryId, length: usize) {
    let payload = payload(id, length);
    let header = EntryHeader::new(id, time(id), EntryKind::Operation, &[&payload]).unwrap();
    storage.append(&header, &[&payload]).unwrap();
}

/// Makes a snapshot of the state after an entry, or receives it.
pub(crate) fn adopt(storage: &mut FileStorage<Disk>, through: EntryId) -> SnapshotId {
    let snapshot = snapshot_of(through);
    storage.begin_draft();
    let _ = storage.extend_draft(&content(through));
    storage.adopt_draft(snapshot);
    snapshot
}
