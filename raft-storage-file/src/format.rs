//! The bytes on disk.
//!
//! All numbers are little-endian; checksums are CRC-32C; "0" marks bytes that are zero and are
//! checked to be. A vote of 0 is no vote.
//!
//! # `identity`, 64 bytes
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `RAFTNODE` |
//! | 8 | 4 | format version: 2 |
//! | 12 | 4 | 0 |
//! | 16 | 16 | cluster id |
//! | 32 | 8 | node id |
//! | 40 | 16 | incarnation |
//! | 56 | 4 | 0 |
//! | 60 | 4 | checksum over bytes 0..60 |
//!
//! All versions have the first 12 bytes and the last 4 in their places, so that each can
//! tell another one from damage.
//!
//! # `origin`, 76 bytes and a configuration
//!
//! How a node came to its cluster. It is made with the directory, before there is an identity, and written again once, when
//! the node is given a cluster: durably, before the node says so. A directory with an origin and no identity is that of a node
//! that waits; one with an identity and no origin is of a node whose program made it without waiting.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `RAFTORIG` |
//! | 8 | 4 | format version: 2 |
//! | 12 | 4 | 0 |
//! | 16 | 16 | incarnation |
//! | 32 | 4 | 0 it waits for a cluster, 1 the cluster is created with it, 2 it joins |
//! | 36 | 4 | length of the configuration in bytes; 0 while it waits |
//! | 40 | 8 | node id; 0 while it waits |
//! | 48 | 16 | cluster key; 0 while it waits |
//! | 64 | 8 | 0 |
//! | 72 | … | the configuration: the payload of its entry |
//! | at the end | 4 | checksum over all before it |
//!
//! # `suspect`, 64 bytes
//!
//! There while the log may lack entries that it acknowledged: a last batch was damaged in a way that no power cut explains, and was
//! cut off. It is made durable before that, and removed when a leader of a later term has brought the log past its index and that is durable.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `RAFTSUSP` |
//! | 8 | 4 | format version: 2 |
//! | 12 | 4 | 0 |
//! | 16 | 16 | incarnation of the node |
//! | 32 | 8 | index of the last entry that may be lacking |
//! | 40 | 20 | 0 |
//! | 60 | 4 | checksum over bytes 0..60 |
//!
//! # `<number>.wal`: a segment
//!
//! A header of 160 bytes, batches, and zeros up to the end of the file. Segments are numbered
//! without gaps, and the log is all their batches in order. Segments whose entries a snapshot covers
//! are removed, oldest first; after a power loss some of them may be there again, before a gap.
//! The log then begins at the first segment behind the last gap, with what its header says it follows.
//! A batch of it may cut the log back to an entry before that; then it begins there.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `RAFT WAL` |
//! | 8 | 4 | format version: 2 |
//! | 12 | 4 | 0 |
//! | 16 | 16 | incarnation of the node |
//! | 32 | 8 | number of the segment, as in its name; the first is 1 |
//! | 40 | 8 | salt: repeated in every batch, so that no other segment's batches are taken for its own |
//! | 48 | 8 | prepared bytes: the file is never shorter |
//! | 56 | 16 | base: term and index of the entry before the first that the log held when the segment began |
//! | 72 | 16 | last: term and index of the last entry before the segment |
//! | 88 | 48 | hard state before the segment |
//! | 136 | 8 | where the batches of the segment before end; 0 in the first |
//! | 144 | 4 | checksum of the last batch before the segment; 0 if there is none |
//! | 148 | 8 | 0 |
//! | 156 | 4 | checksum over bytes 0..156 |
//!
//! # A batch: what one flush saved
//!
//! A header of 120 bytes and the records of the entries behind it, as they are on the wire. It starts at
//! the next multiple of 8 behind the batch before (zeros between), or at the next multiple of 512
//! if its header would cross one: so a disk that writes sectors whole writes a header whole.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `RBAT` |
//! | 4 | 4 | checksum over bytes 8..120 |
//! | 8 | 4 | length of the records in bytes |
//! | 12 | 4 | number of records |
//! | 16 | 8 | salt of the segment |
//! | 24 | 8 | offset of this batch in the file |
//! | 32 | 8 | durable: all of the file before this offset was synced when the batch was written |
//! | 40 | 16 | previous: term and index of the entry that the records follow; entries behind it are dropped |
//! | 56 | 48 | hard state |
//! | 104 | 4 | chain: checksum of the batch before, across segments; 0 in the first batch of a log |
//! | 108 | 4 | checksum over the records |
//! | 112 | 4 | zero sectors: how many 512-byte sectors behind the header's hold only zeros of this batch |
//! | 116 | 4 | flags: 1 seals the segment, and the next one exists; 2 drops the log, of which "previous" becomes the base |
//!
//! The hard state, in segments and batches:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | term |
//! | 8 | 8 | vote |
//! | 16 | 8 | 0; or why the node neither votes nor campaigns: 1 it was removed, 2 it lacks what it had acknowledged, 3 a leader contradicted what is committed here |
//! | 24 | 16 | term and index of the configuration that removed it, of the acknowledged entry, or of the one that contradicts; 0 if there is none |
//! | 40 | 8 | of kind 2: the index of the configuration that added the member which acknowledged it; else 0 |
//!
//! A batch takes effect as a whole. The count of zero sectors tells a batch of which sectors were
//! never written from one that has decayed. A batch that drops the log is written when the
//! snapshot that takes the log's place is durable.
//!
//! # `<index>-<term>.snap`: a snapshot
//!
//! A header of 96 bytes, the content, and zeros. Index and term are those of the last entry whose effect it
//! holds. It counts if the log has that entry, or begins right behind it; else it was received,
//! and the power went before the log said so. `<number>.draft` is one that is not whole or not
//! durable yet, and means nothing to a start.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `RAFTSNAP` |
//! | 8 | 4 | format version: 2 |
//! | 12 | 4 | 0 |
//! | 16 | 16 | incarnation of the node |
//! | 32 | 16 | term and index of the last entry whose effect it holds |
//! | 48 | 8 | cluster time of that entry |
//! | 56 | 8 | length of the content |
//! | 64 | 4 | checksum over the content |
//! | 68 | 24 | 0 |
//! | 92 | 4 | checksum over bytes 0..92 |

use raft_core::crc::crc32c;
use raft_core::storage::HardState;
use raft_core::types::{ClusterId, EntryId, Incarnation, NodeId};

use self::fields::{Reader, Writer};
pub use self::origin::{How, Origin};
pub(crate) use self::origin::{ORIGIN_BYTES_MAX, OriginFile};
pub(crate) use self::snapshot::SnapshotHeader;
pub(crate) use self::suspect::SuspectMark;

mod fields;
mod origin;
mod snapshot;
mod suspect;

/// The version of the format that this code writes and reads.
pub const FORMAT_VERSION: u32 = 2;
/// The length of the identity file.
pub const IDENTITY_BYTES: usize = 64;
/// The length of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 160;
/// The length of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 120;
/// The length of a snapshot's header.
pub const SNAPSHOT_HEADER_BYTES: usize = 96;
/// The length of the file that says that the log is suspect.
pub const SUSPECT_BYTES: usize = 64;
/// What a disk is taken to write whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

pub(crate) const FIRST_BATCH: u64 = SEGMENT_HEADER_BYTES as u64;
const IDENTITY_MAGIC: [u8; 8] = *b"RAFTNODE";
const SEGMENT_MAGIC: [u8; 8] = *b"RAFT WAL";
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"RBAT";
const SEALED: u32 = 1;
const RESETS: u32 = 2;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// This life of the node's storage: random bits made when the directory is created.
    pub incarnation: Incarnation,
}

/// Why an identity or a segment's header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Damaged,
    OtherVersion { version: u32 },
}

impl Identity {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut writer = Writer::<IDENTITY_BYTES>::new();
        writer.bytes(&IDENTITY_MAGIC).u32(FORMAT_VERSION).u32(0);
        writer.u128(self.cluster.0).u64(self.node.get()).u128(self.incarnation.0).u32(0);
        writer.checksummed()
    }

    pub(crate) fn decode(bytes: &[u8; IDENTITY_BYTES]) -> Result<Identity, HeaderError> {
        let mut reader = Reader::header(bytes, IDENTITY_MAGIC)?;
        let (cluster, node, incarnation) = (reader.u128(), reader.u64(), reader.u128());
        let identity = Identity {
            cluster: ClusterId(cluster),
            node: NodeId::new(node).ok_or(HeaderError::Damaged)?,
            incarnation: Incarnation(incarnation),
        };
        // Bytes that mean nothing yet are zero: then equal identities have equal bytes.
        if identity.encode() == *bytes { Ok(identity) } else { Err(HeaderError::Damaged) }
    }
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) incarnation: Incarnation,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) prepared_bytes: u64,
    pub(crate) base: EntryId,
    pub(crate) last: EntryId,
    pub(crate) hard_state: HardState,
    pub(crate) previous_end: u64,
    pub(crate) chain: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut writer = Writer::<SEGMENT_HEADER_BYTES>::new();
        writer.bytes(&SEGMENT_MAGIC).u32(FORMAT_VERSION).u32(0);
        writer.u128(self.incarnation.0).u64(self.number).u64(self.salt).u64(self.prepared_bytes);
        writer.entry_id(self.base).entry_id(self.last).hard_state(self.hard_state);
        writer.u64(self.previous_end).u32(self.chain).u64(0);
        writer.checksummed()
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<SegmentHeader, HeaderError> {
        let mut reader = Reader::header(bytes, SEGMENT_MAGIC)?;
        let header = SegmentHeader {
            incarnation: Incarnation(reader.u128()),
            number: reader.u64(),
            salt: reader.u64(),
            prepared_bytes: reader.u64(),
            base: reader.entry_id(),
            last: reader.entry_id(),
            hard_state: reader.hard_state(),
            previous_end: reader.u64(),
            chain: reader.u32(),
        };
        if header.encode() == *bytes { Ok(header) } else { Err(HeaderError::Damaged) }
    }
}

/// The salt of a segment: differs from that of every other segment of every other node. It is made
/// from things that clients, whose payloads stand in segments too, do not know.
pub(crate) fn salt(incarnation: Incarnation, number: u64, chain: u32) -> u64 {
    let bytes = incarnation.0.to_le_bytes();
    let mut reader = Reader::new(&bytes);
    let (low, high) = (reader.u64(), reader.u64());
    let mut salt = 0x9e37_79b9_7f4a_7c15;
    for part in [low, high, number, u64::from(chain)] {
        // The finalizer of SplitMix64 spreads every bit of its input over all of its output.
        salt ^= part;
        salt = (salt ^ (salt >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        salt = (salt ^ (salt >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        salt ^= salt >> 31;
    }
    salt
}

/// What a batch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) records_bytes: u32,
    pub(crate) entries: u32,
    pub(crate) salt: u64,
    pub(crate) offset: u64,
    pub(crate) durable: u64,
    pub(crate) previous: EntryId,
    pub(crate) hard_state: HardState,
    pub(crate) chain: u32,
    pub(crate) records_checksum: u32,
    pub(crate) zero_sectors: u32,
    pub(crate) seals: bool,
    /// A snapshot takes the place of the log; `previous` is its last entry.
    pub(crate) resets: bool,
}

impl BatchHeader {
    pub(crate) fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut writer = Writer::<BATCH_HEADER_BYTES>::new();
        writer.bytes(&BATCH_MAGIC).u32(0).u32(self.records_bytes).u32(self.entries);
        writer.u64(self.salt).u64(self.offset).u64(self.durable);
        writer.entry_id(self.previous).hard_state(self.hard_state);
        writer.u32(self.chain).u32(self.records_checksum).u32(self.zero_sectors);
        writer.u32(if self.seals { SEALED } else { 0 } | if self.resets { RESETS } else { 0 });
        let mut bytes = writer.finish();
        let checksum = BatchHeader::checksum(&bytes);
        if let Some(place) = bytes.get_mut(4..8) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    /// Reads a header; `None` if it is none, or damaged.
    pub(crate) fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Option<BatchHeader> {
        let mut reader = Reader::new(bytes);
        if reader.array() != BATCH_MAGIC || reader.u32() != BatchHeader::checksum(bytes) {
            return None;
        }
        let mut header = BatchHeader {
            records_bytes: reader.u32(),
            entries: reader.u32(),
            salt: reader.u64(),
            offset: reader.u64(),
            durable: reader.u64(),
            previous: reader.entry_id(),
            hard_state: reader.hard_state(),
            chain: reader.u32(),
            records_checksum: reader.u32(),
            zero_sectors: reader.u32(),
            seals: false,
            resets: false,
        };
        let flags = reader.u32();
        (header.seals, header.resets) = (flags & SEALED != 0, flags & RESETS != 0);
        (header.encode() == *bytes).then_some(header)
    }

    /// The checksum of the header, and through that of the records of the whole batch.
    fn checksum(bytes: &[u8; BATCH_HEADER_BYTES]) -> u32 {
        let (_, covered) = bytes.split_at(8);
        crc32c(0, covered)
    }

    /// What the next batch says it follows.
    pub(crate) fn link(&self) -> u32 {
        BatchHeader::checksum(&self.encode())
    }

    pub(crate) fn records_offset(&self) -> u64 {
        self.offset.saturating_add(BATCH_HEADER_BYTES as u64)
    }

    pub(crate) fn end(&self) -> u64 {
        self.records_offset().saturating_add(u64::from(self.records_bytes))
    }
}

/// Where a batch starts if the one before it ends at `end`.
pub(crate) fn batch_start(end: u64) -> u64 {
    let start = end.next_multiple_of(8);
    if start % SECTOR_BYTES > SECTOR_BYTES - BATCH_HEADER_BYTES as u64 {
        start.next_multiple_of(SECTOR_BYTES)
    } else {
        start
    }
}

/// How many of the sectors that `records` touches from `offset` on hold only zeros of it; the
/// sector of the batch's header, which ends at `offset`, is not counted.
pub(crate) fn zero_sectors(offset: u64, records: &[u8]) -> u32 {
    let in_header_sector = offset.next_multiple_of(SECTOR_BYTES) - offset;
    let behind = usize::try_from(in_header_sector).ok().and_then(|bytes| records.get(bytes..)).unwrap_or(&[]);
    let sector_bytes = usize::try_from(SECTOR_BYTES).unwrap_or(usize::MAX);
    let zero = |sector: &&[u8]| sector.iter().all(|&byte| byte == 0);
    u32::try_from(behind.chunks(sector_bytes).filter(zero).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
