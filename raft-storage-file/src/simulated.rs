//! A disk in memory that loses power, or fails, on command: for tests and simulators.
//!
//! It promises what [`Files`](crate::Files) promises and nothing more. Each 512-byte sector that was written, each
//! change of a file's length and each change of a name is a thing of its own that may or may not
//! be there after a power loss, unless the right sync came before. On command it also does what disks should
//! not: a call fails, a sector cannot be read, a sync says it is done and is not.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::inode::Inode;
use self::state::{Fault, State};
use crate::files::Name;

mod digest;
mod files;
mod inode;
mod state;
#[cfg(test)]
mod tests;

const SECTOR: usize = 512;

/// A call that changed, or was to change, the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A file was made.
    Create(Name),
    /// Bytes were written to a file.
    Write,
    /// A file was synced.
    Sync,
    /// A file was renamed.
    Rename(Name, Name),
    /// A file was unlinked.
    Remove(Name),
    /// The directory was synced.
    SyncDirectory,
    /// Something was read, listed, opened or locked.
    Look,
}

/// Something that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsynced {
    /// A sector of a file (an inode, by number).
    Sector {
        /// The file.
        inode: usize,
        /// The sector's number in it.
        sector: usize,
    },
    /// The length of a file. Without it the file keeps its old length, whatever was written behind.
    Length {
        /// The file.
        inode: usize,
    },
    /// A name that was given to a file, or taken from it.
    Name(Name),
}

/// What a power loss makes of something that is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as it was before.
    Lost,
    /// It is there.
    Kept,
    /// It is a sector, and where it was to change it holds neither the old bytes nor the new ones:
    /// worse than what disks are expected to do. Other things are kept.
    Garbage,
}

/// A simulated disk with one directory. Clones are handles of the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`Disk`].
#[derive(Debug)]
pub struct SimulatedFile {
    inode: usize,
}

/// A sync of a file of a [`Disk`] that was begun on the side.
#[derive(Debug)]
pub struct SimulatedSync {
    inode: usize,
    done: Option<io::Result<()>>,
}

/// The lock of a [`Disk`].
#[derive(Debug)]
pub struct SimulatedLock {
    state: Arc<Mutex<State>>,
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

impl Disk {
    /// A disk without the directory.
    #[must_use]
    pub fn new() -> Disk {
        Disk::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls so far that were not forgotten, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Forgets the calls so far, so that a long simulation does not fill the memory. They still count.
    pub fn forget_calls(&self) {
        let mut state = self.state();
        state.forgotten += state.calls.len();
        state.calls.clear();
    }

    /// From call `call` on (the first is 0), nothing works any more.
    pub fn power_off_at(&self, call: usize) {
        self.state().fault = Some(Fault::PowerOff { call });
    }

    /// Call `call` (the first is 0) fails with an error of that kind.
    pub fn fail_at(&self, call: usize, kind: io::ErrorKind) {
        self.state().fault = Some(Fault::Error { call, kind });
    }

    /// After so many calls that still work, nothing works any more.
    pub fn power_off_in(&self, calls: usize) {
        let mut state = self.state();
        state.fault = Some(Fault::PowerOff { call: state.call_in(calls) });
    }

    /// Whether the power has gone, so that nothing works any more.
    #[must_use]
    pub fn power_is_off(&self) -> bool {
        let state = self.state();
        matches!(state.fault, Some(Fault::PowerOff { call }) if state.call_in(0) > call)
    }

    /// Whether there is a limit to what the files may grow to.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.state().capacity.is_some()
    }

    /// After so many calls that still work, one fails with an error of that kind.
    pub fn fail_in(&self, calls: usize, kind: io::ErrorKind) {
        let mut state = self.state();
        state.fault = Some(Fault::Error { call: state.call_in(calls), kind });
    }

    /// After so many calls, the next sync of a file with something to sync says that it is done, and has made
    /// nothing durable: neither bytes nor length. They can be read until the power goes
    /// ([`Disk::after_power_loss`] asks nobody about them), and sectors that are written and synced again are
    /// durable then. What disks do that lose a write.
    pub fn lose_synced_in(&self, calls: usize) {
        let mut state = self.state();
        state.loses_sync_from = Some(state.call_in(calls));
    }

    /// How many syncs have lost what they said was durable.
    #[must_use]
    pub fn syncs_lost(&self) -> usize {
        self.state().syncs_lost
    }

    /// From now on no read that touches that 512-byte sector of a file works: it fails with an error of that kind, until
    /// the sector is written (a power loss before the next sync brings the error back) or the disk is healed. Gives
    /// whether there is such a file and sector. What disks do of which a sector has decayed.
    pub fn spoil_sector(&self, name: Name, sector: usize, kind: io::ErrorKind) -> bool {
        let mut state = self.state();
        let Some(&number) = state.names.get(&name) else { return false };
        state.inode(number).is_ok_and(|inode| inode.spoil(sector, kind))
    }

    /// Whatever was to fail or to be lost is not, and every sector can be read again.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.loses_sync_from) = (None, None);
        state.inodes.iter_mut().for_each(Inode::mend);
    }

    /// From now on files may not grow when all of them together have `bytes`, or would have more; `None` for no limit.
    pub fn set_capacity(&self, bytes: impl Into<Option<usize>>) {
        self.state().capacity = bytes.into();
    }

    /// Whether syncs that are begun on the side ([`Files::begin_sync`](crate::Files::begin_sync)) from now on wait until this
    /// is taken back. Without it they are done at once.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().syncs_held = hold;
    }

    /// What a power loss now would put at risk, in the order of [`Disk::after_power_loss`]: nothing of files that
    /// will have no name in any case.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let state = self.state();
        let mut unsynced = Vec::new();
        let nameable = state.nameable();
        for (number, inode) in state.inodes.iter().enumerate().filter(|(number, _)| nameable.contains(number)) {
            unsynced.extend(inode.length_dirty().then_some(Unsynced::Length { inode: number }));
            unsynced.extend(inode.unsynced_sectors().map(|sector| Unsynced::Sector { inode: number, sector }));
        }
        unsynced.extend(state.name_changes.iter().filter_map(|change| change.name()).map(Unsynced::Name));
        unsynced
    }

    /// The disk after a power loss: durable things, and of the others those that `fate` keeps.
    /// `fate` is asked once for each thing of [`Disk::unsynced`], in that order. This disk stays as it is.
    #[must_use]
    pub fn after_power_loss(&self, mut fate: impl FnMut(Unsynced) -> Fate) -> Disk {
        let state = self.state();
        let mut inodes = Vec::new();
        let nameable = state.nameable();
        for (number, inode) in state.inodes.iter().enumerate().filter(|(number, _)| nameable.contains(number)) {
            let of_part = |sector| match sector {
                Some(sector) => Unsynced::Sector { inode: number, sector },
                None => Unsynced::Length { inode: number },
            };
            inodes.push((number, inode.after_power_loss(|part| fate(of_part(part)))));
        }
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            if change.name().is_some_and(|name| fate(Unsynced::Name(name)) != Fate::Lost) {
                change.apply(&mut names);
            }
        }
        // What has no name any more is gone, and the others get new numbers.
        inodes.retain(|(number, _)| names.values().any(|named| named == number));
        for inode in names.values_mut() {
            let place = inodes.iter().position(|(number, _)| number == inode);
            *inode = place.expect("what may have a name was kept");
        }
        let inodes = inodes.into_iter().map(|(_, inode)| inode).collect();
        let state = State { exists: state.exists, inodes, durable_names: names.clone(), names, ..State::default() };
        Disk { state: Arc::new(Mutex::new(state)) }
    }

    /// The bytes of a file as they can be read; `None` if there is none. What a read error hides, this shows.
    #[must_use]
    pub fn bytes(&self, name: Name) -> Option<Vec<u8>> {
        self.state().named(name).map(|inode| inode.bytes.to_vec())
    }

    /// A number that disks share which hold the same files with the same bytes, as they can be read, and others hardly
    /// ever; the same in every build.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let state = self.state();
        let mut digest = digest::Digest::new();
        for (name, inode) in &state.names {
            name.hash(&mut digest);
            state.inodes.get(*inode).map(|inode| inode.bytes.digest()).hash(&mut digest);
        }
        digest.finish()
    }

    /// Replaces a file's bytes durably, or makes the file: what decay and people do.
    pub fn put(&self, name: Name, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode::durable(bytes));
        state.names.insert(name, inode);
        state.durable_names.insert(name, inode);
        state.exists = true;
    }

    /// Takes a file away durably.
    pub fn take(&self, name: Name) {
        let mut state = self.state();
        state.names.remove(&name);
        state.durable_names.remove(&name);
    }

    /// All files and their bytes, as they can be read.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Name, Vec<u8>> {
        let state = self.state();
        let bytes = |inode: &usize| state.inodes.get(*inode).map(|inode| inode.bytes.to_vec()).unwrap_or_default();
        state.names.iter().map(|(name, inode)| (*name, bytes(inode))).collect()
    }
}
