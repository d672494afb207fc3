//! What a snapshot holds, byte by byte (dissertation, section 5.1).
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |--:|---|
//! | 4 | `RSNP` |
//! | 4 | version: 1 |
//! | 8, 8 | term and index of the configuration |
//! | 4 | length of the configuration |
//! | 8 | length of the session table; 0 for a witness, which has none |
//! | … | the configuration: the payload of its entry |
//! | … | the session table, as [`crate::session::encode`] writes it |
//! | … | the state of the machine, to the end |
//!
//! Its last entry, that entry's cluster time, the length and the checksum over all of it stand in
//! its [`SnapshotId`](crate::storage::SnapshotId), which travels with it.

use thiserror::Error;

use crate::configuration::{CONFIGURATION_BYTES_MAX, Configuration, ConfigurationError};
use crate::storage::{ReadError, Storage};
use crate::types::{EntryId, Index, Term};

/// The bytes before the configuration.
pub const HEAD_BYTES: usize = 36;

const MAGIC: [u8; 4] = *b"RSNP";
const VERSION: u32 = 1;

/// What stands before the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The entry of the configuration.
    pub configuration: EntryId,
    /// The length of its payload.
    pub configuration_bytes: u32,
    /// The length of the session table.
    pub session_bytes: u64,
}

impl Head {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &self.configuration.term.0.to_le_bytes(),
            &self.configuration.index.0.to_le_bytes(),
            &self.configuration_bytes.to_le_bytes(),
            &self.session_bytes.to_le_bytes(),
        ];
        let mut rest: &mut [u8] = &mut bytes;
        for field in fields {
            let (place, behind) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = behind;
        }
        bytes
    }

    /// Reads the beginning of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]: it is none that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Head, SnapshotError> {
        let mut rest = bytes;
        let magic: [u8; 4] = take(&mut rest)?;
        let version = u32::from_le_bytes(take(&mut rest)?);
        if magic != MAGIC {
            return Err(SnapshotError::Damaged);
        }
        if version != VERSION {
            return Err(SnapshotError::Version { version });
        }
        let term = Term(u64::from_le_bytes(take(&mut rest)?));
        let index = Index(u64::from_le_bytes(take(&mut rest)?));
        let configuration_bytes = u32::from_le_bytes(take(&mut rest)?);
        let session_bytes = u64::from_le_bytes(take(&mut rest)?);
        if configuration_bytes as usize > CONFIGURATION_BYTES_MAX {
            return Err(SnapshotError::Damaged);
        }
        Ok(Head { configuration: EntryId::new(term, index), configuration_bytes, session_bytes })
    }

    /// Where the session table begins.
    #[must_use]
    pub fn sessions_at(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.configuration_bytes)
    }

    /// Where the state of the machine begins.
    #[must_use]
    pub fn state_at(&self) -> u64 {
        self.sessions_at().saturating_add(self.session_bytes)
    }
}

fn take<const COUNT: usize>(rest: &mut &[u8]) -> Result<[u8; COUNT], SnapshotError> {
    let (taken, behind) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    *rest = behind;
    Ok(*taken)
}

/// Which of a storage's snapshots is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The latest whole one.
    Latest,
    /// The draft.
    Draft,
}

/// Reads the head and the configuration of a snapshot.
///
/// # Errors
/// [`OpenError`]: it is not valid, or could not be read.
pub fn open<S: Storage>(storage: &mut S, which: Which) -> Result<(Head, Configuration), OpenError<S::Error>> {
    let head = Head::decode(read(storage, which, 0, HEAD_BYTES)?)?;
    let bytes = read(storage, which, HEAD_BYTES as u64, head.configuration_bytes as usize)?;
    let configuration = Configuration::decode(bytes).map_err(SnapshotError::Configuration)?;
    Ok((head, configuration))
}

fn read<S: Storage>(storage: &mut S, which: Which, offset: u64, bytes: usize) -> Result<&[u8], ReadError<S::Error>> {
    match which {
        Which::Latest => storage.read_snapshot(offset, bytes),
        Which::Draft => storage.read_draft(offset, bytes),
    }
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They are none.
    #[error("the bytes are no snapshot, or a damaged one")]
    Damaged,
    /// They are one of another version.
    #[error("the snapshot has format {version}, and this program reads format {VERSION}; upgrade it")]
    Version {
        /// The version found.
        version: u32,
    },
    /// Its configuration is not valid.
    #[error("the configuration in the snapshot is not valid")]
    Configuration(#[source] ConfigurationError),
}

/// Why a snapshot could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError<E> {
    /// Its bytes are not valid.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The storage failed, or has none.
    #[error("the snapshot could not be read")]
    Read(#[from] ReadError<E>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_every_cut_is_found() {
        let configuration = EntryId::new(Term(3), Index(4));
        let head = Head { configuration, configuration_bytes: 50, session_bytes: 70 };
        let bytes = head.encode();
        assert_eq!(Head::decode(&bytes), Ok(head));
        assert_eq!((head.sessions_at(), head.state_at()), (86, 156));
        for length in 0..HEAD_BYTES {
            assert_eq!(Head::decode(&bytes[..length]), Err(SnapshotError::Damaged));
        }
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(Head::decode(&newer), Err(SnapshotError::Version { version: 2 }));
        let mut foreign = bytes;
        foreign[0] = b'X';
        assert_eq!(Head::decode(&foreign), Err(SnapshotError::Damaged));
        let long = Head { configuration_bytes: u32::MAX, ..head };
        assert_eq!(Head::decode(&long.encode()), Err(SnapshotError::Damaged));
        let longest = Head { configuration_bytes: u32::try_from(CONFIGURATION_BYTES_MAX).unwrap(), ..head };
        assert_eq!(Head::decode(&longest.encode()), Ok(longest));
    }
}
