//! What happens to the log when there is a new snapshot.

use raft_core::storage::{Full, ReadError, SnapshotId};
use raft_core::types::{EntryId, Index};

use super::FileStorage;
use crate::error::{DiskError, StorageError};
use crate::files::Files;

impl<F: Files> FileStorage<F> {
    /// Keeps an error of what was tried; says whether there is or was one.
    pub(super) fn keep_error<T>(&mut self, result: Result<T, DiskError>) -> Option<T> {
        result.map_err(|error| self.fail(error.into())).ok()
    }

    pub(super) fn start_draft(&mut self) {
        if self.failed.is_none() {
            if self.full && !self.snapshots.is_installing() {
                let released =
                    self.reserve.release(&self.files).and_then(|()| self.snapshots.remove_older(&self.files));
                self.keep_error(released);
            }
            let begun = self.snapshots.begin_draft(&self.files);
            self.keep_error(begun);
        }
    }

    pub(super) fn fill_draft(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.failed.is_some() {
            return Ok(());
        }
        let extended = self.snapshots.extend_draft(&self.files, bytes);
        // Another error than a full disk is for `flush` to report.
        if self.keep_error(extended) != Some(false) {
            return Ok(());
        }
        // The next one has what is kept free.
        self.full = true;
        Err(Full)
    }

    /// Gives the result of a read of a snapshot, and keeps its error.
    pub(super) fn read_of<'b>(
        failed: &mut Option<StorageError>,
        read: Result<Option<&'b [u8]>, DiskError>,
    ) -> Result<&'b [u8], ReadError<StorageError>> {
        match read {
            Ok(bytes) => bytes.ok_or(ReadError::Missing(Index::ZERO)),
            Err(error) => {
                let error = StorageError::from(error);
                failed.get_or_insert(error.clone());
                Err(ReadError::Failed(error))
            }
        }
    }

    /// Adopts the draft. `held` says whether the log, which stays as it is here, has its last entry.
    pub(super) fn adopt(&mut self, id: SnapshotId, held: bool) -> Result<(), StorageError> {
        self.check()?;
        let through = id.through;
        let latest = self.snapshots.latest().map_or(Index::ZERO, |latest| latest.through.index);
        if held && through.index <= latest {
            // There is a later one, or this one.
            return Ok(self.snapshots.drop_draft(&self.files)?);
        }
        self.snapshots.check_draft(id).map_err(|found| StorageError::Draft {
            through,
            bytes: id.bytes,
            checksum: id.checksum,
            found_bytes: found.bytes,
            found_checksum: found.checksum,
        })?;
        if held {
            self.snapshots.adopt(&self.files, id)?;
            return self.poll_snapshots();
        }
        if through.index <= latest.max(self.log.base.index) {
            return Err(StorageError::SnapshotOrder { found: through, latest: latest.max(self.log.base.index) });
        }
        Ok(self.snapshots.install(&self.files, id)?)
    }

    /// Takes a snapshot for the latest that has become durable meanwhile.
    pub(super) fn poll_snapshots(&mut self) -> Result<(), StorageError> {
        if !self.snapshots.is_adopting() {
            return Ok(());
        }
        let (log, durable) = (&self.log, self.pending_after.index);
        let saved = |through: EntryId| log.holds(through).then_some(through.index <= durable);
        if self.snapshots.poll(&self.files, saved)? {
            self.metrics.snapshots += 1;
            self.snapshots.remove_before(&self.files, self.segments.after())?;
            if self.full {
                self.snapshots.remove_older(&self.files)?;
            }
        }
        Ok(())
    }

    /// Moves the base, and removes what lies before it.
    pub(super) fn compact_through(&mut self, index: Index) -> Result<(), StorageError> {
        self.check()?;
        let Some(snapshot) = self.snapshots.latest() else { return Ok(()) };
        let index = index.min(snapshot.through.index);
        if index > self.log.base.index {
            let time = if index == snapshot.through.index { snapshot.time } else { Default::default() };
            self.log.compact(index, time);
        }
        // Until the batch that drops it is durable, the whole log on disk is needed.
        if self.snapshots.is_installing() { Ok(()) } else { self.remove_needless() }
    }

    /// Removes the segments that the latest snapshot, which is durable, covers up to the base, and then the
    /// snapshots from which the log cannot be played any more.
    pub(super) fn remove_needless(&mut self) -> Result<(), StorageError> {
        let removed = self.segments.remove_through(&self.files, self.log.base.index)?;
        if removed > 0 {
            self.reader.release_before(self.segments.first());
            self.snapshots.remove_before(&self.files, self.segments.after())?;
            self.metrics.segments_removed += removed;
            if self.full {
                self.prepare_spare();
            }
        }
        Ok(())
    }
}
