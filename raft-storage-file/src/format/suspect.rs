//! The mark of a log that may lack what it acknowledged.

use raft_core::types::{Incarnation, Index};

use super::fields::{Reader, Writer};
use super::{FORMAT_VERSION, HeaderError, SUSPECT_BYTES};

const SUSPECT_MAGIC: [u8; 8] = *b"RAFTSUSP";

/// The file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SuspectMark {
    pub(crate) incarnation: Incarnation,
    /// The last entry that may have been acknowledged and lost.
    pub(crate) through: Index,
}

impl SuspectMark {
    pub(crate) fn encode(&self) -> [u8; SUSPECT_BYTES] {
        let mut writer = Writer::<SUSPECT_BYTES>::new();
        writer.bytes(&SUSPECT_MAGIC).u32(FORMAT_VERSION).u32(0);
        writer.u128(self.incarnation.0).u64(self.through.0).u64(0).u64(0).u32(0);
        writer.checksummed()
    }

    pub(crate) fn decode(bytes: &[u8; SUSPECT_BYTES]) -> Result<SuspectMark, HeaderError> {
        let mut reader = Reader::header(bytes, SUSPECT_MAGIC)?;
        let mark = SuspectMark { incarnation: Incarnation(reader.u128()), through: Index(reader.u64()) };
        if mark.encode() == *bytes { Ok(mark) } else { Err(HeaderError::Damaged) }
    }
}
