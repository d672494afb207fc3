//! Room that is kept free for snapshots, so that a full log can be made shorter: a file of zeros that is removed when a
//! snapshot is begun on a full disk, and made again when there is room.

use std::io;

use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};

/// The state of the file.
#[derive(Debug)]
pub(crate) enum Reserve<F: Files> {
    /// It was never made in this life.
    None,
    /// Being filled.
    Making(F::Zeroing),
    /// There.
    Held,
    /// Removed. Until it is there again, what it had is for snapshots only.
    Released,
    /// As before, and being filled again.
    MakingAgain(F::Zeroing),
}

impl<F: Files> Reserve<F> {
    /// Takes the file that is there, if it is whole; removes it if not.
    pub(crate) fn find(files: &F, names: &[Name], bytes: u64) -> Result<Reserve<F>, DiskError> {
        if !names.contains(&Name::Reserve) {
            return Ok(Reserve::None);
        }
        let file = files.open(Name::Reserve).map_err(DiskError::of(Operation::Open, Name::Reserve))?;
        let length = files.length(&file).map_err(DiskError::of(Operation::Read, Name::Reserve))?;
        if bytes > 0 && length == bytes {
            return Ok(Reserve::Held);
        }
        files.remove(Name::Reserve).map_err(DiskError::of(Operation::Remove, Name::Reserve))?;
        Ok(Reserve::None)
    }

    /// Makes the file of `bytes`, if it is not there and there is room.
    pub(crate) fn prepare(&mut self, files: &F, bytes: u64) -> Result<(), DiskError> {
        let again = self.is_released();
        if bytes > 0 && matches!(self, Reserve::None | Reserve::Released) {
            *self = match files.begin_zeroing(Name::Reserve, bytes) {
                Ok(zeroing) if again => Reserve::MakingAgain(zeroing),
                Ok(zeroing) => Reserve::Making(zeroing),
                Err(error) => Reserve::failed(error, again)?,
            };
        }
        if let Reserve::Making(zeroing) | Reserve::MakingAgain(zeroing) = self
            && let Some(zeroed) = files.zeroed(zeroing)
        {
            *self = match zeroed {
                Ok(_) => Reserve::Held,
                Err(error) => Reserve::failed(error, again)?,
            };
        }
        Ok(())
    }

    /// Gives its room free.
    pub(crate) fn release(&mut self, files: &F) -> Result<(), DiskError> {
        if matches!(self, Reserve::Held) {
            files.remove(Name::Reserve).map_err(DiskError::of(Operation::Remove, Name::Reserve))?;
            *self = Reserve::Released;
        }
        Ok(())
    }

    /// Whether its room is for snapshots only.
    pub(crate) fn is_released(&self) -> bool {
        matches!(self, Reserve::Released | Reserve::MakingAgain(_))
    }

    /// A full disk is no failure: there is no more than before.
    fn failed(error: io::Error, again: bool) -> Result<Reserve<F>, DiskError> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if again => Ok(Reserve::Released),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(Reserve::None),
            _ => Err(DiskError::of(Operation::Zero, Name::Reserve)(error)),
        }
    }
}
