//! What a snapshot holds, byte by byte (dissertation, section 5.1).
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |--:|---|
//! | 4 | `RSNP` |
//! | 4 | version: 1, or 2 if the last order to compare replicas is told |
//! | 8, 8 | term and index of the configuration |
//! | 4 | length of the configuration |
//! | 8 | length of the session table; 0 for a witness, which has none |
//! | 8, 8, 8 | in version 2: term and index of the last order to compare, and the digest at it |
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

/// The bytes before the configuration, at least and at most.
pub const HEAD_BYTES: usize = 36;
/// As [`HEAD_BYTES`].
pub const HEAD_BYTES_MAX: usize = HEAD_BYTES + 24;

const MAGIC: [u8; 4] = *b"RSNP";
const VERSION: u32 = 1;
/// The version in which the last order to compare is told.
const VERSION_WITH_CHECK: u32 = 2;

/// What stands before the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The entry of the configuration.
    pub configuration: EntryId,
    /// The length of its payload.
    pub configuration_bytes: u32,
    /// The length of the session table.
    pub session_bytes: u64,
    /// The last order to compare replicas that the state has seen, and the digest that it had then:
    /// what is restored from the snapshot finds in the log whether it was the right one.
    pub check: Option<(EntryId, u64)>,
}

impl Head {
    /// The bytes, in `buffer`.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; HEAD_BYTES_MAX]) -> &'b [u8] {
        let version = if self.check.is_some() { VERSION_WITH_CHECK } else { VERSION };
        let (check, digest) = self.check.unwrap_or((EntryId::ZERO, 0));
        let fields: [&[u8]; 9] = [
            &MAGIC,
            &version.to_le_bytes(),
            &self.configuration.term.0.to_le_bytes(),
            &self.configuration.index.0.to_le_bytes(),
            &self.configuration_bytes.to_le_bytes(),
            &self.session_bytes.to_le_bytes(),
            &check.term.0.to_le_bytes(),
            &check.index.0.to_le_bytes(),
            &digest.to_le_bytes(),
        ];
        let mut rest: &mut [u8] = buffer;
        for field in fields {
            let (place, behind) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = behind;
        }
        buffer.split_at(self.bytes()).0
    }

    /// How many bytes it has.
    fn bytes(&self) -> usize {
        if self.check.is_some() { HEAD_BYTES_MAX } else { HEAD_BYTES }
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
        if version != VERSION && version != VERSION_WITH_CHECK {
            return Err(SnapshotError::Version { version });
        }
        let configuration = take_id(&mut rest)?;
        let configuration_bytes = u32::from_le_bytes(take(&mut rest)?);
        let session_bytes = u64::from_le_bytes(take(&mut rest)?);
        if configuration_bytes as usize > CONFIGURATION_BYTES_MAX {
            return Err(SnapshotError::Damaged);
        }
        let check = match version {
            VERSION_WITH_CHECK => Some((take_id(&mut rest)?, u64::from_le_bytes(take(&mut rest)?))),
            _ => None,
        };
        Ok(Head { configuration, configuration_bytes, session_bytes, check })
    }

    /// Where the configuration begins.
    #[must_use]
    pub fn configuration_at(&self) -> u64 {
        self.bytes() as u64
    }

    /// Where the session table begins.
    #[must_use]
    pub fn sessions_at(&self) -> u64 {
        self.configuration_at() + u64::from(self.configuration_bytes)
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

fn take_id(rest: &mut &[u8]) -> Result<EntryId, SnapshotError> {
    let term = Term(u64::from_le_bytes(take(rest)?));
    Ok(EntryId::new(term, Index(u64::from_le_bytes(take(rest)?))))
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
    let head = Head::decode(read(storage, which, 0, HEAD_BYTES_MAX)?)?;
    let bytes = read(storage, which, head.configuration_at(), head.configuration_bytes as usize)?;
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
    #[error("the snapshot has format {version}, and this program reads formats up to {VERSION_WITH_CHECK}; upgrade it")]
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
        let head = Head { configuration, configuration_bytes: 50, session_bytes: 70, check: None };
        let checked = Head { check: Some((EntryId::new(Term(2), Index(9)), 77)), ..head };
        assert_eq!((head.sessions_at(), head.state_at()), (86, 156));
        assert_eq!((checked.configuration_at(), checked.sessions_at(), checked.state_at()), (60, 110, 180));
        let mut buffer = [0; HEAD_BYTES_MAX];
        for head in [checked, head] {
            let bytes = head.encode(&mut buffer);
            assert_eq!(Head::decode(bytes), Ok(head));
            assert_eq!(bytes.len() as u64, head.configuration_at());
            for length in 0..bytes.len() {
                assert_eq!(Head::decode(&bytes[..length]), Err(SnapshotError::Damaged));
            }
        }
        let bytes = buffer;
        let mut newer = bytes;
        newer[4] = 3;
        assert_eq!(Head::decode(&newer), Err(SnapshotError::Version { version: 3 }));
        let mut foreign = bytes;
        foreign[0] = b'X';
        assert_eq!(Head::decode(&foreign), Err(SnapshotError::Damaged));
        let long = Head { configuration_bytes: u32::MAX, ..head };
        assert_eq!(Head::decode(long.encode(&mut buffer)), Err(SnapshotError::Damaged));
        let longest = Head { configuration_bytes: u32::try_from(CONFIGURATION_BYTES_MAX).unwrap(), ..head };
        assert_eq!(Head::decode(longest.encode(&mut buffer)), Ok(longest));
    }
}
