//! The header of a snapshot's file.

use raft_core::storage::SnapshotId;
use raft_core::types::{ClusterTime, Incarnation};

use super::fields::{Reader, Writer};
use super::{FORMAT_VERSION, HeaderError, SNAPSHOT_HEADER_BYTES};

const SNAPSHOT_MAGIC: [u8; 8] = *b"RAFTSNAP";

/// What a snapshot's file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) incarnation: Incarnation,
    pub(crate) id: SnapshotId,
}

impl SnapshotHeader {
    pub(crate) fn encode(&self) -> [u8; SNAPSHOT_HEADER_BYTES] {
        let SnapshotId { through, time, bytes, checksum } = self.id;
        let mut writer = Writer::<SNAPSHOT_HEADER_BYTES>::new();
        writer.bytes(&SNAPSHOT_MAGIC).u32(FORMAT_VERSION).u32(0);
        writer.u128(self.incarnation.0).entry_id(through).u64(time.0).u64(bytes).u32(checksum);
        writer.u32(0).u64(0).u64(0).u32(0);
        writer.checksummed()
    }

    pub(crate) fn decode(bytes: &[u8; SNAPSHOT_HEADER_BYTES]) -> Result<SnapshotHeader, HeaderError> {
        let mut reader = Reader::header(bytes, SNAPSHOT_MAGIC)?;
        let header = SnapshotHeader {
            incarnation: Incarnation(reader.u128()),
            id: SnapshotId {
                through: reader.entry_id(),
                time: ClusterTime(reader.u64()),
                bytes: reader.u64(),
                checksum: reader.u32(),
            },
        };
        if header.encode() == *bytes { Ok(header) } else { Err(HeaderError::Damaged) }
    }
}
