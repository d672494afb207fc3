//! What a simulated disk holds and what is to happen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::inode::Inode;
use super::{Call, SimulatedFile};
use crate::files::Name;

/// What is to happen at some call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call and all later ones fail and do nothing.
    PowerOff { call: usize },
    /// The call fails: a write has written half of its bytes, a sync has made nothing durable although
    /// everything can still be read.
    Error { call: usize, kind: io::ErrorKind },
}

/// A name given or taken away; a rename does both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameChange {
    taken: Option<Name>,
    given: Option<(Name, usize)>,
}

impl NameChange {
    pub(super) fn apply(self, names: &mut BTreeMap<Name, usize>) {
        if let Some(name) = self.taken {
            names.remove(&name);
        }
        if let Some((name, inode)) = self.given {
            names.insert(name, inode);
        }
    }

    /// The name that it is about.
    pub(super) fn name(self) -> Option<Name> {
        self.given.map(|(name, _)| name).or(self.taken)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) exists: bool,
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<Name, usize>,
    pub(super) durable_names: BTreeMap<Name, usize>,
    pub(super) name_changes: Vec<NameChange>,
    pub(super) locked: bool,
    /// How many bytes all files together may have.
    pub(super) capacity: Option<usize>,
    /// Whether syncs that were begun on the side are not done yet.
    pub(super) syncs_held: bool,
    /// The calls since they were last forgotten, and how many there were before.
    pub(super) calls: Vec<Call>,
    pub(super) forgotten: usize,
    pub(super) fault: Option<Fault>,
    /// From which call on the next sync that has something to do is to do nothing and say it did.
    pub(super) loses_sync_from: Option<usize>,
    /// How many syncs did so.
    pub(super) syncs_lost: usize,
}

impl State {
    /// The number of the call that is `calls` behind the next one.
    pub(super) fn call_in(&self, calls: usize) -> usize {
        self.forgotten + self.calls.len() + calls
    }

    /// Takes note of a call; `Err` if it fails.
    pub(super) fn call(&mut self, call: Call) -> io::Result<()> {
        let number = self.call_in(0);
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

    pub(super) fn change(&mut self, taken: Option<Name>, given: Option<(Name, usize)>) {
        let change = NameChange { taken, given };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    /// The files that may have a name after a power loss. Nothing of the others can be found then.
    pub(super) fn nameable(&self) -> BTreeSet<usize> {
        let given = self.name_changes.iter().filter_map(|change| change.given).map(|(_, inode)| inode);
        self.durable_names.values().copied().chain(given).collect()
    }

    pub(super) fn inode(&mut self, number: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(number).ok_or(io::ErrorKind::NotFound.into())
    }

    /// The file that has that name now.
    pub(super) fn named(&self, name: Name) -> Option<&Inode> {
        self.inodes.get(*self.names.get(&name)?)
    }

    pub(super) fn create(&mut self, name: Name) -> io::Result<SimulatedFile> {
        self.call(Call::Create(name))?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        if self.names.contains_key(&name) {
            self.change(Some(name), None);
        }
        self.change(None, Some((name, inode)));
        Ok(SimulatedFile { inode })
    }

    pub(super) fn write(&mut self, inode: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
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
        let Some(capacity) = self.capacity else { return Ok(()) };
        let length = |&number: &usize| self.inodes.get(number).map_or(0, |inode| inode.bytes.len());
        let used: usize = self.names.values().map(length).sum();
        let grown = end.saturating_sub(length(&inode));
        if grown > 0 && used + grown > capacity { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, inode: usize) -> io::Result<()> {
        let number = self.call_in(0);
        let called = self.call(Call::Sync);
        let half_done = self.half_done();
        let loses = called.is_ok() && self.loses_sync_from.is_some_and(|call| number >= call);
        let file = self.inode(inode)?;
        if loses && file.is_dirty() {
            file.forget_dirty();
            self.loses_sync_from = None;
            self.syncs_lost += 1;
        } else if called.is_ok() {
            file.sync();
        } else if half_done {
            // As Linux does: after an error the pages count as clean, although they are not on disk.
            file.forget_dirty();
        }
        called
    }
}
