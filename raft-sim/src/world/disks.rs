//! What happens to disks: errors, stalls, no room, decay, and those that are taken away or come back as they were once.

use std::io::ErrorKind;

use raft_core::configuration::Configuration;
use raft_core::storage::Storage;
use raft_core::types::{Incarnation, NodeId};
use raft_storage_file::Name;
use raft_storage_file::simulated::{Disk, Fate, Unsynced};

use super::faults::UNTIL_A_START;
use super::{Due, MILLI, World};
use crate::violation::Violation;
use crate::workload::Workload;

const SECTOR_BYTES: usize = 512;
/// After so long it is seen what came of a sector that cannot be read, if the node has not come upon it.
const UNREADABLE_MILLIS: u64 = 500;

impl<W: Workload> World<W> {
    /// The configuration of the node whose log reaches furthest.
    pub(super) fn latest_configuration(&self) -> Configuration {
        let furthest = self
            .nodes
            .iter()
            .filter_map(|node| node.process())
            .max_by_key(|process| process.replica().raft().storage().last());
        furthest.map_or_else(|| self.first.clone(), |process| process.replica().configuration().clone())
    }

    /// The power of a node is gone: what was not synced survives or does not, each piece of it by itself.
    pub(super) fn lose_power(&mut self, place: usize) {
        let garbage = self.options.disks.garbage && self.may_lose_data(place);
        let mut random = self.random.fork();
        // All, none, or any part.
        let kept = *random.pick(&[0, 1_000_000, 500_000, 900_000]).unwrap_or(&0);
        let node = self.nodes_mut(place);
        let mut spoiled = false;
        node.disk = node.disk.after_power_loss(|what| match what {
            Unsynced::Sector { .. } if garbage && random.chance(20_000) => {
                spoiled = true;
                Fate::Garbage
            }
            _ if random.chance(kept) => Fate::Kept,
            _ => Fate::Lost,
        });
        node.tampered |= spoiled;
        node.may_stop = false;
        node.end_process();
    }

    pub(super) fn slow_disk(&mut self) {
        let Some(place) = self.pick_up() else { return };
        let until = self.now + self.random.between(50, 3_000) * MILLI;
        self.meets(place, "slow disk", until);
        self.nodes_mut(place).stalled_until = until;
    }

    /// One of the next calls to the disk fails. The process must end then, and not try again.
    pub(super) fn failing_call(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "failing call", UNTIL_A_START);
        let calls = usize::try_from(self.random.below(20)).unwrap_or(0);
        let node = self.nodes_mut(place);
        node.may_stop = true;
        node.disk.fail_in(calls, ErrorKind::Other);
    }

    pub(super) fn full_disk(&mut self) {
        let Some(place) = self.pick_up() else { return };
        let until = self.now + self.random.between(100, 3_000) * MILLI;
        self.meets(place, "full disk", until);
        let node = self.nodes_mut(place);
        node.may_stop = true;
        node.disk.set_capacity(Some(0));
        self.queue.put(until, Due::Room(place));
    }

    pub(super) fn make_room(&mut self, place: usize) -> Result<(), Violation> {
        self.nodes_mut(place).disk.set_capacity(None);
        Ok(())
    }

    /// Whether this node may lose what it acknowledged: it is no member, or one that a majority can spare.
    fn may_lose_data(&self, place: usize) -> bool {
        let configuration = self.latest_configuration();
        let Some(node) = self.nodes.get(place) else { return false };
        if configuration.is_joint() || node.tampered {
            return false;
        }
        let voters: Vec<NodeId> =
            configuration.members().iter().filter(|member| member.votes()).map(|member| member.id).collect();
        let lost = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id && (node.tampered || node.is_gone()));
        let spoiled = voters.iter().filter(|id| lost(id)).count();
        2 * (spoiled + 1) < voters.len()
    }

    /// Takes a node's disk away, or brings it back as it was once; the node comes back under its old name.
    pub(super) fn wipe(&mut self, restored: bool) {
        let Some(place) = self.pick_up().filter(|place| self.may_lose_data(*place)) else { return };
        if restored && (self.nodes_mut(place).old_disk.is_none() || self.leads(place)) {
            return;
        }
        if restored && self.set_aside(place) {
            return;
        }
        self.take_disk(place, restored);
    }

    pub(super) fn take_disk(&mut self, place: usize, restored: bool) {
        self.meets(place, if restored { "restored disk" } else { "wiped disk" }, UNTIL_A_START);
        let incarnation = Incarnation(u128::from(self.random.bits()));
        let storage = self.nodes_mut(place).identity.incarnation;
        self.judge.disk_replaced(storage);
        let node = self.nodes_mut(place);
        node.end_process();
        node.tampered = true;
        if restored {
            node.disk = node.old_disk.take().unwrap_or_default();
        } else {
            node.disk = Disk::new();
            node.identity.incarnation = incarnation;
        }
        self.start_later(place);
    }

    /// A bit of what a node holds flips while it is down.
    pub(super) fn decay(&mut self) {
        let Some(place) = self.pick_up().filter(|place| self.may_lose_data(*place)) else { return };
        self.meets(place, "decay", UNTIL_A_START);
        self.lose_power(place);
        let mut random = self.random.fork();
        let node = self.nodes_mut(place);
        let contents = node.disk.contents();
        let names: Vec<Name> = contents.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| *name).collect();
        if let Some(name) = random.pick(&names)
            && let Some(mut bytes) = contents.get(name).cloned()
        {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            node.disk.put(*name, bytes);
            node.tampered = true;
        }
        self.start_later(place);
    }
    /// A sector of a file cannot be read any more, while the node runs. It need not notice before its next start, which
    /// may not be long.
    pub(super) fn spoil_sector(&mut self) {
        let Some(place) = self.pick_up().filter(|place| self.may_lose_data(*place)) else { return };
        let mut random = self.random.fork();
        let node = self.nodes_mut(place);
        let contents = node.disk.contents();
        let names: Vec<Name> = contents.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| *name).collect();
        let Some(name) = random.pick(&names).copied() else { return };
        let sectors = contents.get(&name).map_or(0, |bytes| bytes.len().div_ceil(SECTOR_BYTES));
        let sector = usize::try_from(random.below(sectors as u64)).unwrap_or(0);
        if !node.disk.spoil_sector(name, sector, ErrorKind::Other) {
            return;
        }
        node.tampered = true;
        let over_at = self.now + UNREADABLE_MILLIS * MILLI;
        self.meets(place, "unreadable sector", over_at);
        if self.random.chance(500_000) {
            let after = self.random.below(UNREADABLE_MILLIS) * MILLI;
            self.queue.put(self.now + after, Due::PowerLoss(place));
        }
    }

    /// A sync says that it is done and has made nothing durable. That shows when the power goes, before long.
    pub(super) fn lose_sync(&mut self) {
        let may = |world: &World<W>, place: &usize| !world.leads(*place) && world.may_lose_data(*place);
        let Some(place) = self.pick_up().filter(|place| may(self, place)) else { return };
        self.meets(place, "lost sync", UNTIL_A_START);
        let calls = usize::try_from(self.random.below(20)).unwrap_or(0);
        let after = self.random.between(50, 1_000) * MILLI;
        let node = self.nodes_mut(place);
        node.disk.lose_synced_in(calls);
        node.tampered = true;
        self.queue.put(self.now + after, Due::PowerLoss(place));
    }

    pub(super) fn power_goes(&mut self, place: usize) -> Result<(), Violation> {
        if self.is_up(place) {
            self.lose_power(place);
            self.start_later(place);
        }
        Ok(())
    }
}
