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
    },
    /// Full of zeros, which are durable.
    Ready {
        /// The file.
        file: F::File,
        /// How long it is.
        bytes: u64,
    },
    /// There was no room for so many bytes. Asking for fewer may help, or asking again.
    NoRoom {
        /// How many.
        bytes: u64,
    },
}

/// A log goes on in segments as short as this before it is said that there is no room: long enough for some dozens of
/// votes, or of short entries.
const BYTES_MIN: u64 = 64 << 10;

impl<F: Files> Spare<F> {
    /// Begins to fill a file of `bytes`, if there is none yet; of half as many as there was no room for.
    pub(crate) fn begin(&mut self, files: &F, bytes: u64) -> Result<(), DiskError> {
        let bytes = match *self {
            Spare::None => bytes,
            Spare::NoRoom { bytes: short } => bytes.min((short / 2).max(BYTES_MIN)),
            Spare::Zeroing { .. } | Spare::Ready { .. } => return self.poll(files),
        };
        *self = match files.begin_zeroing(Name::Spare, bytes) {
            Ok(zeroing) => Spare::Zeroing { zeroing, bytes },
            Err(error) => Spare::failed(error, bytes)?,
        };
        self.poll(files)
    }

    /// Sees how far it is.
    pub(crate) fn poll(&mut self, files: &F) -> Result<(), DiskError> {
        if let Spare::Zeroing { zeroing, bytes } = self
            && let Some(zeroed) = files.zeroed(zeroing)
        {
            *self = match zeroed {
                Ok(file) => Spare::Ready { file, bytes: *bytes },
                Err(error) => Spare::failed(error, *bytes)?,
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

    /// How long the file is that is ready.
    pub(crate) fn ready_bytes(&self) -> Option<u64> {
        match self {
            Spare::Ready { bytes, .. } => Some(*bytes),
            _ => None,
        }
    }

    /// A full disk is no failure of the log: nothing of it was to be on that file yet.
    fn failed(error: io::Error, bytes: u64) -> Result<Spare<F>, DiskError> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(Spare::NoRoom { bytes }),
            _ => Err(DiskError::of(Operation::Zero, Name::Spare)(error)),
        }
    }
}
