//! A simulated disk as the log sees it.

use std::io;
use std::sync::Arc;

use super::{Call, Disk, SimulatedFile, SimulatedLock, SimulatedSync};
use crate::files::{Files, Locking, Name};

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
        state.inode(file.inode)?.read(bytes, offset)
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
