//! The next segment, while it is being filled with zeros.

use std::io;

use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};

/// The state of the spare file.
#[derive(Debug)]
pub(crate) enum Spare<F: Files> {
    /// Not asked for yet.
    None,
    /// Being filled.
    Zeroing {
        /// The work.
        zeroing: F::Zeroing,
        /// How long it will be.
        bytes: u64,
        /// Whether there was no room for it the last time.
        again: bool,
    },
    /// Full of zeros, which are durable.
    Ready {
        /// The file.
        file: F::File,
        /// How long it is.
        bytes: u64,
    },
    /// There was no room for it. Asking again may help.
    NoRoom,
}

impl<F: Files> Spare<F> {
    /// Begins to fill a file of `bytes`, if there is none yet.
    pub(crate) fn begin(&mut self, files: &F, bytes: u64) -> Result<(), DiskError> {
        if matches!(self, Spare::None | Spare::NoRoom) {
            let again = self.is_short();
            *self = match files.begin_zeroing(Name::Spare, bytes) {
                Ok(zeroing) => Spare::Zeroing { zeroing, bytes, again },
                Err(error) => Spare::failed(error)?,
            };
        }
        self.poll(files)
    }

    /// Sees how far it is.
    pub(crate) fn poll(&mut self, files: &F) -> Result<(), DiskError> {
        if let Spare::Zeroing { zeroing, bytes, .. } = self
            && let Some(zeroed) = files.zeroed(zeroing)
        {
            *self = match zeroed {
                Ok(file) => Spare::Ready { file, bytes: *bytes },
                Err(error) => Spare::failed(error)?,
            };
        }
        Ok(())
    }

    /// Takes the file if it is ready.
    pub(crate) fn take(&mut self) -> Option<(F::File, u64)> {
        match std::mem::replace(self, Spare::None) {
            Spare::Ready { file, bytes } => Some((file, bytes)),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Whether the disk had no room for it, and has not shown since that it has.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self, Spare::NoRoom | Spare::Zeroing { again: true, .. })
    }

    /// A full disk is no failure of the log: nothing of it was to be on that file yet.
    fn failed(error: io::Error) -> Result<Spare<F>, DiskError> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(Spare::NoRoom),
            _ => Err(DiskError::of(Operation::Zero, Name::Spare)(error)),
        }
    }
}
