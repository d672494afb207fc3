//! A file of the simulated disk: what can be read of it, what is durable, and what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::digest::Digest;
use super::{Fate, SECTOR};

/// The bytes of a file, and their digest once somebody has asked for it.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    digest: OnceLock<u64>,
}

impl Clone for Bytes {
    /// A copy is made to be changed.
    fn clone(&self) -> Bytes {
        Bytes { bytes: self.bytes.clone(), digest: OnceLock::new() }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bytes {
    pub(super) fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let mut digest = Digest::new();
            digest.bytes(&self.bytes);
            digest.number()
        })
    }

    /// The bytes, to be changed for this file alone.
    fn of_this_file(shared: &mut Arc<Bytes>) -> &mut Vec<u8> {
        let bytes = Arc::make_mut(shared);
        bytes.digest.take();
        &mut bytes.bytes
    }
}

/// A file. Disks that came from one another share the bytes of files until one of them writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Arc<Bytes>,
    durable: Arc<Bytes>,
    dirty: BTreeSet<usize>,
    length_dirty: bool,
    /// Sectors that cannot be read, and those that could not be after a power loss.
    spoiled: BTreeMap<usize, io::ErrorKind>,
    durably_spoiled: BTreeMap<usize, io::ErrorKind>,
}

/// A sector of what may be shorter, or end within it.
fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    let start = (sector * SECTOR).min(bytes.len());
    bytes.get(start..bytes.len().min(start + SECTOR)).unwrap_or(&[])
}

/// A byte that is neither of the two.
fn garbage(old: u8, new: u8) -> u8 {
    [0xa5, 0x5a, 0x3c].into_iter().find(|&byte| byte != old && byte != new).unwrap_or(0)
}

impl Inode {
    /// A file whose bytes are durable.
    pub(super) fn durable(bytes: Vec<u8>) -> Inode {
        let bytes = Arc::new(Bytes { bytes, digest: OnceLock::new() });
        Inode { durable: Arc::clone(&bytes), bytes, ..Inode::default() }
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.saturating_add(bytes.len());
        let found = self.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        if let Some((_, &kind)) = self.spoiled.range(start / SECTOR..end.div_ceil(SECTOR)).next() {
            return Err(kind.into());
        }
        bytes.copy_from_slice(found);
        Ok(())
    }

    /// Writes, which makes sectors readable again that were not.
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        let held = Bytes::of_this_file(&mut self.bytes);
        if end > held.len() {
            held.resize(end, 0);
            self.length_dirty = true;
        }
        if let Some(place) = held.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        if !self.spoiled.is_empty() {
            self.spoiled.retain(|sector, _| !sectors.contains(sector));
        }
        self.dirty.extend(sectors);
    }

    /// Makes durable what was written since the last sync, and nothing else.
    pub(super) fn sync(&mut self) {
        let durable = Bytes::of_this_file(&mut self.durable);
        durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let new = sector_of(&self.bytes, sector);
            let start = sector * SECTOR;
            if let Some(place) = durable.get_mut(start..start + new.len()) {
                place.copy_from_slice(new);
            }
            self.durably_spoiled.remove(&sector);
        }
        self.length_dirty = false;
    }

    /// Takes what was written for durable, although it is not: it can be read until the power goes.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
        self.length_dirty = false;
    }

    /// Whether anything was written since the last sync.
    pub(super) fn is_dirty(&self) -> bool {
        self.length_dirty || !self.dirty.is_empty()
    }

    /// Makes a sector unreadable; gives whether the file has one of that number.
    pub(super) fn spoil(&mut self, sector: usize, kind: io::ErrorKind) -> bool {
        let there = sector < self.bytes.len().div_ceil(SECTOR);
        if there {
            self.spoiled.insert(sector, kind);
            self.durably_spoiled.insert(sector, kind);
        }
        there
    }

    /// Makes all sectors readable again.
    pub(super) fn mend(&mut self) {
        self.spoiled.clear();
        self.durably_spoiled.clear();
    }

    /// Whether the file's length is not durable.
    pub(super) fn length_dirty(&self) -> bool {
        self.length_dirty
    }

    /// The sectors whose loss would show.
    pub(super) fn unsynced_sectors(&self) -> impl Iterator<Item = usize> {
        let differs = |&sector: &usize| {
            let (new, old) = (sector_of(&self.bytes, sector), sector_of(&self.durable, sector));
            let zeros_behind = new.iter().skip(old.len()).all(|&byte| byte == 0);
            self.durably_spoiled.contains_key(&sector) || !(new.starts_with(old) && zeros_behind)
        };
        self.dirty.iter().copied().filter(differs)
    }

    /// The file after a power loss. `fate` says what becomes of its length (`None`) and of each of
    /// [`Inode::unsynced_sectors`].
    pub(super) fn after_power_loss(&self, mut fate: impl FnMut(Option<usize>) -> Fate) -> Inode {
        let mut after =
            Inode { bytes: Arc::clone(&self.durable), spoiled: self.durably_spoiled.clone(), ..Inode::default() };
        if self.length_dirty && fate(None) != Fate::Lost {
            Bytes::of_this_file(&mut after.bytes).resize(self.bytes.len(), 0);
        }
        for sector in self.unsynced_sectors() {
            let fate = fate(Some(sector));
            if fate == Fate::Lost {
                continue;
            }
            after.spoiled.remove(&sector);
            let start = (sector * SECTOR).min(after.bytes.len());
            let places = Bytes::of_this_file(&mut after.bytes).iter_mut().skip(start);
            for (place, &byte) in places.zip(sector_of(&self.bytes, sector)) {
                match fate {
                    Fate::Garbage if *place != byte => *place = garbage(*place, byte),
                    _ => *place = byte,
                }
            }
        }
        after.durable = Arc::clone(&after.bytes);
        after.durably_spoiled = after.spoiled.clone();
        after
    }
}
