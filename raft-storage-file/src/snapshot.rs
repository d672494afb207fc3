//! The snapshots of a node: the latest, the one before, and those on their way.
//!
//! A draft is a file of its own. When it is whole it becomes a snapshot in one of two ways:
//!
//! - The log holds its last entry. Then nobody waits for it: a thread syncs the file, it gets its name, the
//!   names are synced, and only then it counts. Should the node make snapshots faster than the
//!   disk takes them, the one that waits for the thread is replaced by the next.
//! - It takes the place of the log. Then it counts at once in memory, and the next flush makes it durable:
//!   file, name, and then the batch that drops the log. The files it replaces stay until that batch is durable.
//!
//! The snapshot before the latest stays as long as the log reaches back to it.

use raft_core::storage::SnapshotId;
use raft_core::types::{EntryId, Incarnation, Index};

use self::draft::Draft;
pub(crate) use self::find::find;
use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};

mod draft;
mod find;
#[cfg(test)]
mod tests;

/// A read of a snapshot keeps its buffer for the next one unless it is longer than this.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// A snapshot that is whole, under its name or still under that of a draft.
#[derive(Debug)]
pub(crate) struct Stored<F: Files> {
    pub(crate) id: SnapshotId,
    name: Name,
    file: F::File,
}

impl<F: Files> Stored<F> {
    /// Gives a file that is durable its name, durably.
    fn name_durably(&mut self, files: &F) -> Result<(), DiskError> {
        let name = Name::Snapshot(self.id.through);
        files.rename(self.name, name).map_err(DiskError::of(Operation::Rename, name))?;
        files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;
        self.name = name;
        Ok(())
    }
}

/// What was found when the directory was opened.
#[derive(Debug)]
pub(crate) struct Found<F: Files> {
    pub(crate) latest: Option<Stored<F>>,
    /// Others that the log reaches, and damaged ones.
    pub(crate) older: Vec<Name>,
    /// Files that mean nothing.
    pub(crate) needless: Vec<Name>,
    /// The newest one if it is damaged.
    pub(crate) damaged: Option<Name>,
}

/// A snapshot that the log holds the last entry of, on its way to be durable.
#[derive(Debug)]
struct Adopted<F: Files> {
    snapshot: Stored<F>,
    /// The sync; `None` once it is done.
    syncing: Option<F::Syncing>,
}

/// The snapshots of a node.
#[derive(Debug)]
pub(crate) struct Snapshots<F: Files> {
    incarnation: Incarnation,
    latest: Option<Stored<F>>,
    /// The files of other snapshots.
    older: Vec<Name>,
    draft: Option<Draft<F>>,
    adopted: Option<Adopted<F>>,
    /// The next one to be synced.
    waiting: Option<Stored<F>>,
    /// How many drafts were begun.
    drafts: u64,
    buffer: Vec<u8>,
}

/// Why a draft cannot be adopted: mistakes of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The length and the checksum of the draft; 0 if there is none.
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

impl<F: Files> Snapshots<F> {
    pub(crate) fn new(incarnation: Incarnation, found: Found<F>) -> Snapshots<F> {
        Snapshots {
            incarnation,
            latest: found.latest,
            older: found.older,
            draft: None,
            adopted: None,
            waiting: None,
            drafts: 0,
            buffer: Vec::new(),
        }
    }

    /// The latest one.
    pub(crate) fn latest(&self) -> Option<SnapshotId> {
        self.latest.as_ref().map(|latest| latest.id)
    }

    /// Whether the latest one takes the place of the log and is not durable yet.
    pub(crate) fn is_installing(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| matches!(latest.name, Name::Draft(_)))
    }

    /// The bytes of the latest one from `offset` on; `None` if there is none.
    pub(crate) fn read(&mut self, files: &F, offset: u64, bytes_max: usize) -> Result<Option<&[u8]>, DiskError> {
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        let Some(Stored { id, name, file }) = &self.latest else { return Ok(None) };
        draft::read(files, (file, *name), id.bytes, offset, bytes_max, &mut self.buffer)?;
        Ok(Some(&self.buffer))
    }

    /// The bytes of the draft from `offset` on; `None` if there is none.
    pub(crate) fn read_draft(&mut self, files: &F, offset: u64, bytes_max: usize) -> Result<Option<&[u8]>, DiskError> {
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        let Some(draft) = &mut self.draft else { return Ok(None) };
        draft.read(files, offset, bytes_max, &mut self.buffer)?;
        Ok(Some(&self.buffer))
    }

    /// Begins a draft in the place of the one there is. On a full disk there is none.
    pub(crate) fn begin_draft(&mut self, files: &F) -> Result<(), DiskError> {
        self.drop_draft(files)?;
        self.drafts += 1;
        match Draft::begin(files, self.drafts) {
            Ok(draft) => self.draft = Some(draft),
            Err(error) if error.is_full() => {
                // Whether the file was made before the disk was full is not known.
                let names = files.list().map_err(DiskError::of(Operation::Directory, error.name))?;
                if names.is_some_and(|names| names.contains(&error.name)) {
                    remove(files, error.name)?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Puts `bytes` behind those of the draft; gives whether there was room. If not, there is no draft
    /// any more.
    pub(crate) fn extend_draft(&mut self, files: &F, bytes: &[u8]) -> Result<bool, DiskError> {
        let Some(draft) = &mut self.draft else { return Ok(false) };
        match draft.extend(files, bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => self.drop_draft(files).map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// Drops the draft.
    pub(crate) fn drop_draft(&mut self, files: &F) -> Result<(), DiskError> {
        self.draft.take().map_or(Ok(()), |draft| remove(files, draft.name))
    }

    /// Whether the draft is what `id` says.
    pub(crate) fn check_draft(&self, id: SnapshotId) -> Result<(), Mismatch> {
        let (bytes, checksum) = self.draft.as_ref().map_or((0, 0), |draft| (draft.bytes, draft.checksum));
        let fits = self.draft.is_some() && (bytes, checksum) == (id.bytes, id.checksum);
        if fits { Ok(()) } else { Err(Mismatch { bytes, checksum }) }
    }

    /// Begins to make the draft durable, on the side.
    pub(crate) fn adopt(&mut self, files: &F, id: SnapshotId) -> Result<(), DiskError> {
        let Some(snapshot) = self.finish(files, id)? else { return Ok(()) };
        if let Some(replaced) = self.waiting.replace(snapshot) {
            remove(files, replaced.name)?;
        }
        self.sync_next(files)
    }

    fn finish(&mut self, files: &F, id: SnapshotId) -> Result<Option<Stored<F>>, DiskError> {
        let Some(draft) = self.draft.take() else { return Ok(None) };
        draft.finish(files, id, self.incarnation).map(Some)
    }

    fn sync_next(&mut self, files: &F) -> Result<(), DiskError> {
        if self.adopted.is_none()
            && let Some(snapshot) = self.waiting.take()
        {
            let syncing = files.begin_sync(&snapshot.file).map_err(DiskError::of(Operation::Sync, snapshot.name))?;
            self.adopted = Some(Adopted { snapshot, syncing: Some(syncing) });
        }
        Ok(())
    }

    /// Whether [`Snapshots::poll`] may have something to do.
    pub(crate) fn is_adopting(&self) -> bool {
        self.adopted.is_some()
    }

    /// Sees whether an adopted snapshot is durable, and if so makes it the latest. `saved` says of its
    /// last entry whether that is durable too, or `None` if the log does not hold it any more. Gives
    /// whether there is a new latest one.
    pub(crate) fn poll(&mut self, files: &F, saved: impl Fn(EntryId) -> Option<bool>) -> Result<bool, DiskError> {
        let Some(Adopted { snapshot, syncing }) = &mut self.adopted else { return Ok(false) };
        if let Some(thread) = syncing {
            let Some(synced) = files.synced(thread) else { return Ok(false) };
            synced.map_err(DiskError::of(Operation::Sync, snapshot.name))?;
            *syncing = None;
        }
        let durable = saved(snapshot.id.through);
        if durable == Some(false) {
            return Ok(false);
        }
        let Some(Adopted { mut snapshot, .. }) = self.adopted.take() else { return Ok(false) };
        if durable.is_none() {
            remove(files, snapshot.name)?;
            return self.sync_next(files).map(|()| false);
        }
        snapshot.name_durably(files)?;
        let replaced = self.latest.replace(snapshot).map(|replaced| replaced.name);
        self.remove_older(files)?;
        self.older.extend(replaced);
        self.sync_next(files)?;
        Ok(true)
    }

    /// Makes the draft the latest one, in memory.
    pub(crate) fn install(&mut self, files: &F, id: SnapshotId) -> Result<(), DiskError> {
        let Some(snapshot) = self.finish(files, id)? else { return Ok(()) };
        // What was on its way covers less, or entries that are dropped.
        let adopted = self.adopted.take().map(|adopted| adopted.snapshot);
        for needless in adopted.into_iter().chain(self.waiting.take()) {
            remove(files, needless.name)?;
        }
        match self.latest.replace(snapshot).map(|replaced| replaced.name) {
            Some(name @ Name::Draft(_)) => remove(files, name),
            replaced => {
                self.older.extend(replaced);
                Ok(())
            }
        }
    }

    /// Makes the file of the latest one durable, if it is not; gives whether that is the case.
    pub(crate) fn save_installed(&mut self, files: &F) -> Result<bool, DiskError> {
        if !self.is_installing() {
            return Ok(false);
        }
        if let Some(latest) = &mut self.latest {
            files.sync_data(&latest.file).map_err(DiskError::of(Operation::Sync, latest.name))?;
            latest.name_durably(files)?;
        }
        Ok(true)
    }

    /// Removes all but the latest one.
    pub(crate) fn remove_older(&mut self, files: &F) -> Result<(), DiskError> {
        let latest = self.latest.as_ref().map(|latest| latest.name);
        // A good one may have taken the name of a damaged one.
        self.older.drain(..).filter(|&name| Some(name) != latest).try_for_each(|name| remove(files, name))
    }

    /// Removes those that a log which begins behind `after` does not reach.
    pub(crate) fn remove_before(&mut self, files: &F, after: Index) -> Result<(), DiskError> {
        let unreached = |name: &mut Name| matches!(name, Name::Snapshot(through) if through.index < after);
        self.older.extract_if(.., unreached).try_for_each(|name| remove(files, name))
    }
}

fn remove<F: Files>(files: &F, name: Name) -> Result<(), DiskError> {
    files.remove(name).map_err(DiskError::of(Operation::Remove, name))
}
