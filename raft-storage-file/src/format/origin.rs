//! How a node came to its cluster.

use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration};
use raft_core::crc::crc32c;
use raft_core::types::{ClusterKey, Incarnation, NodeId};

use super::fields::{Reader, Writer};
use super::{FORMAT_VERSION, HeaderError};

/// The fields before the configuration, in bytes.
const HEAD_BYTES: usize = 72;
/// The longest such file, in bytes.
pub(crate) const ORIGIN_BYTES_MAX: usize = HEAD_BYTES + CONFIGURATION_BYTES_MAX + 4;

const ORIGIN_MAGIC: [u8; 8] = *b"RAFTORIG";

/// How a node comes to its cluster, and what it needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node's id in the cluster.
    pub node: NodeId,
    /// The secret of the cluster's nodes.
    pub key: ClusterKey,
    /// Whether it is one of those that the cluster is created with.
    pub how: How,
    /// The configuration that the cluster is created with; that of a node that joins is a later one, as a member knew it.
    pub configuration: Configuration,
}

/// How a node comes to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The cluster is created with it: its log begins with the configuration.
    Created,
    /// It is added to a cluster that runs: it gets all of its log from the leader.
    Joined,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginFile {
    pub(crate) incarnation: Incarnation,
    /// `None` while the node waits.
    pub(crate) origin: Option<Origin>,
}

impl OriginFile {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let (state, node, key, configuration) = match &self.origin {
            None => (0, 0, ClusterKey::NONE, &[][..]),
            Some(origin) => {
                let configuration = origin.configuration.encode(&mut buffer).expect("the buffer has room for any");
                let state = if origin.how == How::Created { 1 } else { 2 };
                (state, origin.node.get(), origin.key, configuration)
            }
        };
        let length = u32::try_from(configuration.len()).expect("a configuration is short");
        let mut writer = Writer::<HEAD_BYTES>::new();
        writer.bytes(&ORIGIN_MAGIC).u32(FORMAT_VERSION).u32(0);
        writer.u128(self.incarnation.0).u32(state).u32(length).u64(node).u128(key.0).u64(0);
        let mut bytes = [writer.finish().as_slice(), configuration].concat();
        bytes.extend(crc32c(0, &bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<OriginFile, HeaderError> {
        let Some((covered, checksum)) = bytes.split_last_chunk::<4>() else { return Err(HeaderError::Damaged) };
        let Some((_, configuration)) = covered.split_at_checked(HEAD_BYTES) else { return Err(HeaderError::Damaged) };
        let mut reader = Reader::versioned(covered, *checksum, ORIGIN_MAGIC)?;
        let (incarnation, state, _, node) = (Incarnation(reader.u128()), reader.u32(), reader.u32(), reader.u64());
        let (key, how) = (ClusterKey(reader.u128()), if state == 1 { How::Created } else { How::Joined });
        let origin = match state {
            0 => None,
            _ => Some(Origin {
                node: NodeId::new(node).ok_or(HeaderError::Damaged)?,
                key,
                how,
                configuration: Configuration::decode(configuration).map_err(|_| HeaderError::Damaged)?,
            }),
        };
        let file = OriginFile { incarnation, origin };
        // There is one way to write what it says.
        if file.encode() == bytes { Ok(file) } else { Err(HeaderError::Damaged) }
    }
}
