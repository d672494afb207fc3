//! The memory of a suspect tail that was cut off: a file that lasts until the log is trusted again.

use raft_core::entry::HEADER_BYTES;
use raft_core::types::{Incarnation, Index};

use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Name};
use crate::format::{HeaderError, SUSPECT_BYTES, SuspectMark};
use crate::recovery::Cut;

/// Up to which entry the log may lack what it acknowledged, by what an earlier start has written down.
pub(crate) fn read<F: Files>(files: &F, incarnation: Incarnation, names: &[Name]) -> Result<Option<Index>, OpenError> {
    const NAME: Name = Name::Suspect;
    if !names.contains(&NAME) {
        return Ok(None);
    }
    let file = files.open(NAME).map_err(DiskError::of(Operation::Open, NAME))?;
    if files.length(&file).map_err(DiskError::of(Operation::Read, NAME))? != SUSPECT_BYTES as u64 {
        return Err(OpenError::SuspectMarkDamaged);
    }
    let mut bytes = [0; SUSPECT_BYTES];
    files.read_at(&file, &mut bytes, 0).map_err(DiskError::at(Operation::Read, NAME, 0))?;
    match SuspectMark::decode(&bytes) {
        Ok(mark) if mark.incarnation == incarnation => Ok(Some(mark.through)),
        Ok(_) | Err(HeaderError::Damaged) => Err(OpenError::SuspectMarkDamaged),
        Err(HeaderError::OtherVersion { version }) => Err(OpenError::OtherVersion { name: NAME, version }),
    }
}

/// The last entry that may have been in what was cut off, each record of which is at least a header.
pub(crate) fn through(cut: &Cut) -> Index {
    cut.after.index.plus(cut.bytes / HEADER_BYTES as u64)
}

/// Writes that down, durably, before anything is cut.
pub(crate) fn write<F: Files>(files: &F, incarnation: Incarnation, through: Index) -> Result<(), DiskError> {
    const DRAFT: Name = Name::SuspectDraft;
    let mark = SuspectMark { incarnation, through };
    let file = files.create(DRAFT).map_err(DiskError::of(Operation::Open, DRAFT))?;
    files.write_at(&file, &mark.encode(), 0).map_err(DiskError::at(Operation::Write, DRAFT, 0))?;
    files.sync_data(&file).map_err(DiskError::of(Operation::Sync, DRAFT))?;
    files.rename(DRAFT, Name::Suspect).map_err(DiskError::of(Operation::Rename, Name::Suspect))?;
    files.sync_directory().map_err(DiskError::of(Operation::Sync, Name::Suspect))
}

/// Forgets it. That need not be durable: a log that is distrusted once more than needed loses nothing.
pub(crate) fn remove<F: Files>(files: &F) -> Result<(), DiskError> {
    files.remove(Name::Suspect).map_err(DiskError::of(Operation::Remove, Name::Suspect))
}
