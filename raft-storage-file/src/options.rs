//! What can be set, and its bounds.

use thiserror::Error;

/// The smallest segment: room for its header and a few batches. Small ones are for tests.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 10;
/// The largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 32;
/// The most that may be waiting for one sync.
pub const PENDING_BYTES_MAX: usize = 1 << 28;

/// The sizes of a log. All are local to a node, and may differ from start to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a segment file is, in bytes: it is filled with zeros ahead of its use. 1 KiB to
    /// 4 GiB; 64 MiB unless set. A batch that does not fit goes into the next segment; one that
    /// is longer than a segment makes its segment longer.
    pub segment_bytes: u64,
    /// How long the segment is that is made at a start, which has to wait for it, in bytes; those
    /// after it double up to `segment_bytes`. At most `segment_bytes`; 4 MiB unless set.
    pub segment_bytes_first: u64,
    /// How many bytes of the log's tail are kept in memory once they are saved, so that peers that
    /// are not far behind are served without the disk. Up to twice as much memory is used; 8 MiB
    /// unless set.
    pub cache_bytes: usize,
    /// How many bytes of entries may wait for a flush before `append` answers `Full`: 1 byte to
    /// 256 MiB (a single entry is always taken); 64 MiB unless set.
    pub pending_bytes_max: usize,
    /// How many bytes of the disk are kept free for a snapshot, so that a log on a full disk can be made shorter; none
    /// if 0; 2 MiB unless set. A state that is larger needs more: the room is also that of the snapshot before.
    pub reserve_bytes: u64,
    /// What to do with a tail of which it cannot be known whether it was acknowledged.
    pub suspect_tail: SuspectTail,
}

/// What to do with a last batch that is damaged in a way which no power cut explains, but which
/// nothing proves to have been durable either: a torn write on an unusual disk, or decay of the
/// last thing that was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuspectTail {
    /// Do not start: the only safe answer of a node on its own.
    #[default]
    Refuse,
    /// Cut it off, and say so in [`Report::suspect_through`](crate::Report::suspect_through). The node may have
    /// forgotten entries that it acknowledged and a vote that it gave: it must neither vote nor
    /// campaign nor count for a quorum until a leader of a newer term has brought its log past
    /// what was cut. The storage tells the core so by
    /// [`Storage::suspect_through`](raft_core::storage::Storage::suspect_through). The directory remembers it across starts,
    /// until the core calls [`Storage::trust`](raft_core::storage::Storage::trust). Do not use it in a cluster of one.
    Cut,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            segment_bytes_first: 4 << 20,
            cache_bytes: 8 << 20,
            pending_bytes_max: 64 << 20,
            reserve_bytes: 2 << 20,
            suspect_tail: SuspectTail::Refuse,
        }
    }
}

impl Options {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        let segment = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !segment.contains(&self.segment_bytes) {
            return Err(OptionsError::SegmentBytes { bytes: self.segment_bytes });
        }
        if !(SEGMENT_BYTES_MIN..=self.segment_bytes).contains(&self.segment_bytes_first) {
            return Err(OptionsError::SegmentBytesFirst { bytes: self.segment_bytes_first, max: self.segment_bytes });
        }
        if !(1..=PENDING_BYTES_MAX).contains(&self.pending_bytes_max) {
            return Err(OptionsError::PendingBytesMax { bytes: self.pending_bytes_max });
        }
        Ok(())
    }
}

/// Why options are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// `segment_bytes` is out of bounds.
    #[error("segment_bytes is {bytes}; set it to {SEGMENT_BYTES_MIN} up to {SEGMENT_BYTES_MAX}")]
    SegmentBytes {
        /// The value.
        bytes: u64,
    },
    /// `segment_bytes_first` is out of bounds.
    #[error("segment_bytes_first is {bytes}; set it to {SEGMENT_BYTES_MIN} up to segment_bytes, which is {max}")]
    SegmentBytesFirst {
        /// The value.
        bytes: u64,
        /// `segment_bytes`.
        max: u64,
    },
    /// `pending_bytes_max` is out of bounds.
    #[error("pending_bytes_max is {bytes}; set it to 1 up to {PENDING_BYTES_MAX}")]
    PendingBytesMax {
        /// The value.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        let good = Options::default();
        assert_eq!(good.check(), Ok(()));
        for bytes in [0, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MAX + 1] {
            let options = Options { segment_bytes: bytes, ..good };
            assert_eq!(options.check(), Err(OptionsError::SegmentBytes { bytes }));
        }
        let options = Options { segment_bytes_first: good.segment_bytes + 1, ..good };
        assert!(matches!(options.check(), Err(OptionsError::SegmentBytesFirst { .. })));
        for bytes in [0, PENDING_BYTES_MAX + 1] {
            let options = Options { pending_bytes_max: bytes, ..good };
            assert_eq!(options.check(), Err(OptionsError::PendingBytesMax { bytes }));
        }
    }
}
