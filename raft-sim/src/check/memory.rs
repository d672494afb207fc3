//! Memory: what a node keeps is bounded by what it was told at its start, whatever clients and peers do.

use std::collections::BTreeMap;

use raft_core::raft::config::Config;
use raft_core::raft::{Replication, Status};
use raft_core::types::NodeId;

use crate::violation::Violation;

/// Entries that a leader appends by itself, beside those of clients: the start of its term, a configuration and the one
/// that follows it, a clock entry, an order to compare replicas and its verdict.
const OWN_ENTRIES_MAX: u64 = 6;

/// The memory of each life of each machine.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    sessions: BTreeMap<(usize, u64), usize>,
}

impl Memory {
    /// The session table of that life takes so many bytes.
    ///
    /// # Errors
    /// It took another number before.
    pub fn sessions(&mut self, life: (usize, u64), node: NodeId, bytes: usize) -> Result<(), Violation> {
        let before = *self.sessions.entry(life).or_insert(bytes);
        if before == bytes { Ok(()) } else { Err(Violation::MemoryGrew { node, before, bytes }) }
    }

    /// What a leader has under way.
    ///
    /// # Errors
    /// More entries than its settings allow are on their way to a follower, or not committed yet. `uncommitted` counts
    /// those of its own term.
    pub fn leader<const NODES: usize>(
        status: &Status<NODES>,
        uncommitted: u64,
        config: &Config,
    ) -> Result<(), Violation> {
        let over = |what, entries, most| Err(Violation::OverTheLimit { node: status.id, what, entries, most });
        let most = config.uncommitted_entries_max + OWN_ENTRIES_MAX;
        if uncommitted > most {
            return over("not committed", uncommitted, most);
        }
        for follower in status.followers.iter().filter(|follower| follower.replication == Replication::Replicating) {
            let inflight = follower.next.since(follower.matched.next());
            let most = config.inflight_entries_max;
            if inflight > most {
                return over("on their way to a follower", inflight, most);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_found_and_another_life_may_have_more() {
        let node = NodeId::new(1).unwrap();
        let mut memory = Memory::default();
        assert_eq!(memory.sessions((0, 1), node, 100), Ok(()));
        assert_eq!(memory.sessions((0, 1), node, 100), Ok(()));
        assert_eq!(memory.sessions((0, 2), node, 200), Ok(()));
        let grew = memory.sessions((0, 1), node, 101);
        assert_eq!(grew, Err(Violation::MemoryGrew { node, before: 100, bytes: 101 }));
    }
}
