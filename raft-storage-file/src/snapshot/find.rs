//! Which of the snapshots in a directory count.

use raft_core::crc::crc32c;
use raft_core::types::{EntryId, Incarnation};

use super::draft::CONTENT;
use super::{Found, Stored};
use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Name};
use crate::format::{HeaderError, SNAPSHOT_HEADER_BYTES, SnapshotHeader};
use crate::log::Log;

/// How much of a content is read at once.
const STEP_BYTES: u64 = 256 << 10;

/// Finds the newest snapshot that is not damaged and whose last entry `log` holds, or begins behind.
/// The content of older ones is not looked at.
pub(crate) fn find<F: Files>(
    files: &F,
    incarnation: Incarnation,
    names: &[Name],
    log: &Log,
) -> Result<Found<F>, OpenError> {
    let of_snapshot = |&name: &Name| match name {
        Name::Snapshot(through) => Some((through, name)),
        _ => None,
    };
    let mut candidates: Vec<(EntryId, Name)> = names.iter().filter_map(of_snapshot).collect();
    candidates.sort_unstable_by_key(|(through, _)| std::cmp::Reverse((through.index, through.term)));
    let mut found = Found { latest: None, older: Vec::new(), needless: Vec::new(), damaged: None };
    for (through, name) in candidates {
        let header = read_header(files, name)?;
        if !log.holds(through) {
            // It was received, and the power went before the log said so; or its removal was not durable.
            found.needless.push(name);
        } else if found.latest.is_some() {
            found.older.push(name);
        } else {
            let header = header.map(|header| judge(header, incarnation, through, name)).transpose()?;
            match header.map(|header| read_content(files, name, &header)).transpose()?.flatten() {
                Some(snapshot) => found.latest = Some(snapshot),
                None => {
                    found.damaged = found.damaged.or(Some(name));
                    found.older.push(name);
                }
            }
        }
    }
    Ok(found)
}

/// The header of a snapshot's file; `None` if it is damaged.
fn read_header<F: Files>(files: &F, name: Name) -> Result<Option<SnapshotHeader>, OpenError> {
    let file = files.open(name).map_err(DiskError::of(Operation::Open, name))?;
    let length = files.length(&file).map_err(DiskError::of(Operation::Read, name))?;
    if length < CONTENT {
        return Ok(None);
    }
    let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
    files.read_at(&file, &mut bytes, 0).map_err(DiskError::at(Operation::Read, name, 0))?;
    match SnapshotHeader::decode(&bytes) {
        Ok(header) => Ok(Some(header)),
        Err(HeaderError::Damaged) => Ok(None),
        Err(HeaderError::OtherVersion { version }) => Err(OpenError::OtherVersion { name, version }),
    }
}

fn judge(
    header: SnapshotHeader,
    incarnation: Incarnation,
    through: EntryId,
    name: Name,
) -> Result<SnapshotHeader, OpenError> {
    if header.incarnation == incarnation && header.id.through == through {
        Ok(header)
    } else {
        Err(OpenError::SnapshotForeign { name })
    }
}

/// The snapshot if its content is what was written.
fn read_content<F: Files>(files: &F, name: Name, header: &SnapshotHeader) -> Result<Option<Stored<F>>, DiskError> {
    let id = header.id;
    let file = files.open(name).map_err(DiskError::of(Operation::Open, name))?;
    let length = files.length(&file).map_err(DiskError::of(Operation::Read, name))?;
    if id.bytes > length.saturating_sub(CONTENT) {
        return Ok(None);
    }
    let (mut checksum, mut offset, mut step) = (0, 0, Vec::new());
    while offset < id.bytes {
        step.resize(usize::try_from((id.bytes - offset).min(STEP_BYTES)).unwrap_or(0), 0);
        files.read_at(&file, &mut step, CONTENT + offset).map_err(DiskError::at(
            Operation::Read,
            name,
            CONTENT + offset,
        ))?;
        checksum = crc32c(checksum, &step);
        offset += step.len() as u64;
    }
    Ok((checksum == id.checksum).then_some(Stored { id, name, file }))
}
