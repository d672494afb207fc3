//! A disk in memory that loses power, or fails, on command: for tests and simulators.
//!
//! It promises what [`Files`] promises and nothing more. Each 512-byte sector that was written, each
//! change of a file's length and each change of a name is a thing of its own that may or may not
//! be there after a power loss, unless the right sync came before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{Files, Locking, Name};

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

/// What is to happen at some call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call and all later ones fail and do nothing.
    PowerOff { call: usize },
    /// The call fails: a write has written half of its bytes, a sync has made nothing durable although
    /// everything can still be read.
    Error { call: usize, kind: io::ErrorKind },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    length_dirty: bool,
}

impl Inode {
    fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
        let start = (sector * SECTOR).min(bytes.len());
        bytes.get(start..bytes.len().min(start + SECTOR)).unwrap_or(&[])
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.length_dirty = true;
        }
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        if let Some(place) = self.bytes.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
    }

    /// Makes durable what was written since the last sync, and nothing else.
    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for &sector in &self.dirty {
            let start = sector * SECTOR;
            for (place, byte) in self.durable.iter_mut().skip(start).zip(Inode::sector_of(&self.bytes, sector)) {
                *place = *byte;
            }
        }
    }

    /// The sectors whose loss would show.
    fn unsynced_sectors(&self) -> impl Iterator<Item = usize> {
        let differs = |&sector: &usize| {
            let (new, old) = (Inode::sector_of(&self.bytes, sector), Inode::sector_of(&self.durable, sector));
            let zeros_behind = new.iter().skip(old.len()).all(|&byte| byte == 0);
            !(new.starts_with(old) && zeros_behind)
        };
        self.dirty.iter().copied().filter(differs)
    }
}

/// A name given or taken away; a rename does both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameChange {
    taken: Option<Name>,
    given: Option<(Name, usize)>,
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<Name, usize>) {
        if let Some(name) = self.taken {
            names.remove(&name);
        }
        if let Some((name, inode)) = self.given {
            names.insert(name, inode);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    exists: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<Name, usize>,
    durable_names: BTreeMap<Name, usize>,
    name_changes: Vec<NameChange>,
    locked: bool,
    /// How many bytes all files together may have.
    capacity: Option<usize>,
    /// Whether syncs that were begun on the side are not done yet.
    syncs_held: bool,
    /// The calls since they were last forgotten, and how many there were before.
    calls: Vec<Call>,
    forgotten: usize,
    fault: Option<Fault>,
}

impl State {
    /// Takes note of a call; `Err` if it fails.
    fn call(&mut self, call: Call) -> io::Result<()> {
        let number = self.forgotten + self.calls.len();
        self.calls.push(call);
        match self.fault {
            Some(Fault::PowerOff { call }) if number >= call => Err(io::Error::other("the power is off")),
            Some(Fault::Error { call, kind }) if number == call => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// Whether a failing call leaves something behind: not when the power is off.
    fn half_done(&self) -> bool {
        matches!(self.fault, Some(Fault::Error { .. }))
    }

    fn change(&mut self, taken: Option<Name>, given: Option<(Name, usize)>) {
        let change = NameChange { taken, given };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    /// The files that may have a name after a power loss. Nothing of the others can be found then.
    fn nameable(&self) -> BTreeSet<usize> {
        let given = self.name_changes.iter().filter_map(|change| change.given).map(|(_, inode)| inode);
        self.durable_names.values().copied().chain(given).collect()
    }

    fn inode(&mut self, number: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(number).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, name: Name) -> io::Result<SimulatedFile> {
        self.call(Call::Create(name))?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        if self.names.contains_key(&name) {
            self.change(Some(name), None);
        }
        self.change(None, Some((name, inode)));
        Ok(SimulatedFile { inode })
    }

    fn write(&mut self, inode: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let called = self.call(Call::Write).and_then(|()| self.has_room(inode, offset + bytes.len()));
        let written = match &called {
            Ok(()) => bytes.len(),
            Err(_) if self.half_done() => bytes.len() / 2,
            Err(_) => 0,
        };
        self.inode(inode)?.write(bytes.get(..written).unwrap_or(bytes), offset);
        called
    }

    /// Whether the file may become `end` bytes long.
    fn has_room(&self, inode: usize, end: usize) -> io::Result<()> {
        let length = |&number: &usize| self.inodes.get(number).map_or(0, |inode| inode.bytes.len());
        let used: usize = self.names.values().map(length).sum();
        let grown = end.saturating_sub(length(&inode));
        if grown > 0 && self.capacity.is_some_and(|capacity| used + grown > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        let called = self.call(Call::Sync);
        let half_done = self.half_done();
        let inode = self.inode(inode)?;
        if called.is_ok() {
            inode.sync();
        } else if !half_done {
            return called;
        }
        // As Linux does: after an error the pages count as clean, although they are not on disk.
        inode.dirty.clear();
        inode.length_dirty = false;
        called
    }
}

/// A byte that is neither of the two.
fn garbage(old: u8, new: u8) -> u8 {
    [0xa5, 0x5a, 0x3c].into_iter().find(|&byte| byte != old && byte != new).unwrap_or(0)
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
        let call = state.forgotten + state.calls.len() + calls;
        state.fault = Some(Fault::PowerOff { call });
    }

    /// After so many calls that still work, one fails with an error of that kind.
    pub fn fail_in(&self, calls: usize, kind: io::ErrorKind) {
        let mut state = self.state();
        let call = state.forgotten + state.calls.len() + calls;
        state.fault = Some(Fault::Error { call, kind });
    }

    /// Whatever was to fail does not.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// From now on files may not grow when all of them together have `bytes`, or would have more; `None` for no limit.
    pub fn set_capacity(&self, bytes: impl Into<Option<usize>>) {
        self.state().capacity = bytes.into();
    }

    /// Whether syncs that are begun on the side ([`Files::begin_sync`]) from now on wait until this
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
            unsynced.extend(inode.length_dirty.then_some(Unsynced::Length { inode: number }));
            unsynced.extend(inode.unsynced_sectors().map(|sector| Unsynced::Sector { inode: number, sector }));
        }
        for change in &state.name_changes {
            let name = change.given.map(|(name, _)| name).or(change.taken);
            unsynced.extend(name.map(Unsynced::Name));
        }
        unsynced
    }

    /// The disk after a power loss: durable things, and of the others those that `fate` keeps.
    /// `fate` is asked once for each thing of [`Disk::unsynced`], in that order. This disk stays as it is.
    #[must_use]
    pub fn after_power_loss(&self, mut fate: impl FnMut(Unsynced) -> Fate) -> Disk {
        let state = self.state();
        let mut inodes = Vec::with_capacity(state.inodes.len());
        let nameable = state.nameable();
        for (number, inode) in state.inodes.iter().enumerate() {
            if !nameable.contains(&number) {
                inodes.push(Inode::default());
                continue;
            }
            let mut bytes = inode.durable.clone();
            if inode.length_dirty && fate(Unsynced::Length { inode: number }) != Fate::Lost {
                bytes.resize(inode.bytes.len(), 0);
            }
            for sector in inode.unsynced_sectors() {
                let fate = fate(Unsynced::Sector { inode: number, sector });
                let start = (sector * SECTOR).min(bytes.len());
                for (place, byte) in bytes.iter_mut().skip(start).zip(Inode::sector_of(&inode.bytes, sector)) {
                    match fate {
                        Fate::Lost => {}
                        Fate::Kept => *place = *byte,
                        Fate::Garbage if place == byte => {}
                        Fate::Garbage => *place = garbage(*place, *byte),
                    }
                }
            }
            inodes.push(Inode { durable: bytes.clone(), bytes, ..Inode::default() });
        }
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            let name = change.given.map(|(name, _)| name).or(change.taken);
            if name.is_some_and(|name| fate(Unsynced::Name(name)) != Fate::Lost) {
                change.apply(&mut names);
            }
        }
        // What has no name any more is gone.
        for (number, inode) in inodes.iter_mut().enumerate() {
            if !names.values().any(|&named| named == number) {
                *inode = Inode::default();
            }
        }
        let state = State { exists: state.exists, inodes, durable_names: names.clone(), names, ..State::default() };
        Disk { state: Arc::new(Mutex::new(state)) }
    }

    /// The bytes of a file as they can be read; `None` if there is none.
    #[must_use]
    pub fn bytes(&self, name: Name) -> Option<Vec<u8>> {
        let state = self.state();
        state.inodes.get(*state.names.get(&name)?).map(|inode| inode.bytes.clone())
    }

    /// Replaces a file's bytes durably, or makes the file: what decay and people do.
    pub fn put(&self, name: Name, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { durable: bytes.clone(), bytes, ..Inode::default() });
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
        let bytes = |inode: &usize| state.inodes.get(*inode).map(|inode| inode.bytes.clone()).unwrap_or_default();
        state.names.iter().map(|(name, inode)| (*name, bytes(inode))).collect()
    }
}

impl Files for Disk {
    type File = SimulatedFile;
    type Lock = SimulatedLock;
    type Zeroing = Option<io::Result<SimulatedFile>>;
    type Syncing = SimulatedSync;

    fn list(&self) -> io::Result<Option<Vec<Name>>> {
        let mut state = self.state();
        state.call(Call::Look)?;
        Ok(state.exists.then(|| state.names.keys().copied().collect()))
    }

    fn make_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Look)?;
        state.exists = true;
        Ok(())
    }

    fn lock(&self) -> io::Result<Locking<SimulatedLock>> {
        let mut state = self.state();
        state.call(Call::Look)?;
        if std::mem::replace(&mut state.locked, true) {
            return Ok(Locking::Busy { holder: Some(std::process::id()) });
        }
        Ok(Locking::Held(SimulatedLock { state: Arc::clone(&self.state) }))
    }

    fn create(&self, name: Name) -> io::Result<SimulatedFile> {
        self.state().create(name)
    }

    fn open(&self, name: Name) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        state.call(Call::Look)?;
        let inode = *state.names.get(&name).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile { inode })
    }

    fn length(&self, file: &SimulatedFile) -> io::Result<u64> {
        let mut state = self.state();
        state.call(Call::Look)?;
        Ok(state.inode(file.inode)?.bytes.len() as u64)
    }

    fn read_at(&self, file: &SimulatedFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Look)?;
        let inode = state.inode(file.inode)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let range = start..start.saturating_add(bytes.len());
        bytes.copy_from_slice(inode.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, file: &SimulatedFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state().write(file.inode, bytes, offset)
    }

    fn sync_data(&self, file: &SimulatedFile) -> io::Result<()> {
        self.state().sync(file.inode)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::SyncDirectory)?;
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn rename(&self, from: Name, to: Name) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Rename(from, to))?;
        let inode = *state.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        state.change(Some(from), Some((to, inode)));
        Ok(())
    }

    fn remove(&self, name: Name) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Remove(name))?;
        state.names.get(&name).ok_or(io::ErrorKind::NotFound)?;
        state.change(Some(name), None);
        Ok(())
    }

    fn begin_zeroing(&self, name: Name, bytes: u64) -> io::Result<Self::Zeroing> {
        let mut state = self.state();
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        let zeroed = state.create(name).and_then(|file| {
            state.write(file.inode, &zeros, 0)?;
            state.sync(file.inode)?;
            Ok(file)
        });
        if zeroed.is_err() && state.names.contains_key(&name) {
            state.change(Some(name), None);
        }
        Ok(Some(zeroed))
    }

    fn zeroed(&self, zeroing: &mut Self::Zeroing) -> Option<io::Result<SimulatedFile>> {
        zeroing.take()
    }

    fn begin_sync(&self, file: &SimulatedFile) -> io::Result<SimulatedSync> {
        let mut state = self.state();
        let done = (!state.syncs_held).then(|| state.sync(file.inode));
        Ok(SimulatedSync { inode: file.inode, done })
    }

    fn synced(&self, syncing: &mut SimulatedSync) -> Option<io::Result<()>> {
        let mut state = self.state();
        if syncing.done.is_none() && !state.syncs_held {
            syncing.done = Some(state.sync(syncing.inode));
        }
        syncing.done.take()
    }
}
