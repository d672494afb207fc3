//! A snapshot while it is being made or received.

use raft_core::crc::crc32c;
use raft_core::storage::SnapshotId;
use raft_core::types::Incarnation;

use super::Stored;
use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};
use crate::format::{SNAPSHOT_HEADER_BYTES, SnapshotHeader};

/// How much of a draft is put together in memory before it is written.
const BUFFER_BYTES: usize = 16 << 10;

/// Where the content begins in the file.
pub(super) const CONTENT: u64 = SNAPSHOT_HEADER_BYTES as u64;

/// A file that grows. It is always one buffer longer than what it holds, so that once bytes were
/// taken there is room for them: a full disk is found out when a draft is extended, and never when
/// it is adopted.
#[derive(Debug)]
pub(super) struct Draft<F: Files> {
    pub(super) name: Name,
    file: F::File,
    /// How many bytes of content were taken.
    pub(super) bytes: u64,
    /// Their checksum.
    pub(super) checksum: u32,
    /// The last of them.
    buffer: Vec<u8>,
    /// How many of the buffer's bytes are in the file already.
    settled: usize,
}

impl<F: Files> Draft<F> {
    /// An empty draft.
    pub(super) fn begin(files: &F, number: u64) -> Result<Draft<F>, DiskError> {
        let name = Name::Draft(number);
        let file = files.create(name).map_err(DiskError::of(Operation::Open, name))?;
        let draft = Draft { name, file, bytes: 0, checksum: 0, buffer: Vec::new(), settled: 0 };
        draft.write(files, &[0; BUFFER_BYTES + SNAPSHOT_HEADER_BYTES], 0)?;
        Ok(draft)
    }

    /// Puts `bytes` behind those it has. After an error it is of no use any more.
    pub(super) fn extend(&mut self, files: &F, bytes: &[u8]) -> Result<(), DiskError> {
        self.checksum = crc32c(self.checksum, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
            let (taken, behind) = rest.split_at(room.min(rest.len()));
            self.buffer.extend_from_slice(taken);
            self.bytes = self.bytes.saturating_add(taken.len() as u64);
            rest = behind;
            if self.buffer.len() == BUFFER_BYTES {
                self.write(files, &[0; BUFFER_BYTES], CONTENT.saturating_add(self.bytes))?;
                self.settle(files)?;
                self.buffer.clear();
                self.settled = 0;
            }
        }
        Ok(())
    }

    /// Puts into the file what is only in memory.
    pub(super) fn settle(&mut self, files: &F) -> Result<(), DiskError> {
        let unsettled = self.buffer.get(self.settled..).unwrap_or(&[]);
        if !unsettled.is_empty() {
            let end = CONTENT.saturating_add(self.bytes);
            self.write(files, unsettled, end.saturating_sub(unsettled.len() as u64))?;
            self.settled = self.buffer.len();
        }
        Ok(())
    }

    /// Reads from `offset` into `buffer`, as [`Stored::read`] does.
    pub(super) fn read(
        &mut self,
        files: &F,
        offset: u64,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), DiskError> {
        self.settle(files)?;
        read(files, (&self.file, self.name), self.bytes, offset, bytes_max, buffer)
    }

    /// The whole snapshot, of which nothing is durable yet.
    pub(super) fn finish(
        mut self,
        files: &F,
        id: SnapshotId,
        incarnation: Incarnation,
    ) -> Result<Stored<F>, DiskError> {
        self.settle(files)?;
        self.write(files, &SnapshotHeader { incarnation, id }.encode(), 0)?;
        Ok(Stored { id, name: self.name, file: self.file })
    }

    fn write(&self, files: &F, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        files.write_at(&self.file, bytes, offset).map_err(DiskError::at(Operation::Write, self.name, offset))
    }
}

/// Fills `buffer` with the content from `offset` on: `bytes_max` bytes, or all that are left of
/// `length`.
pub(super) fn read<F: Files>(
    files: &F,
    (file, name): (&F::File, Name),
    length: u64,
    offset: u64,
    bytes_max: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), DiskError> {
    let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    buffer.clear();
    buffer.resize(left.min(bytes_max), 0);
    let at = CONTENT.saturating_add(offset);
    let read = if buffer.is_empty() { Ok(()) } else { files.read_at(file, buffer, at) };
    read.map_err(DiskError::at(Operation::Read, name, at))
}
