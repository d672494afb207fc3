//! The work that all systems do: what is proposed, and the state machine that applies it.

use raft_core::entry::HEADER_BYTES;

/// Replicas of a cluster.
pub(crate) const REPLICAS: usize = 3;

/// Of entries in one message: long runs are copied at the best speed, and three of them stay in a cache.
pub(crate) const MESSAGE_BYTES: usize = 256 << 10;

/// Of a core, roughly.
const CACHE_BYTES: usize = 1 << 20;

/// One point of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Bytes of each entry's payload, 8 at least.
    pub(crate) entry_bytes: usize,
    /// Proposals that are under way together.
    pub(crate) in_flight: usize,
}

/// A cluster of one system, its leader elected.
pub(crate) trait Cluster {
    /// So many times: proposes [`Work::in_flight`] entries to the leader, and works until all three replicas have
    /// applied them.
    fn run(&mut self, turns: u64);
}

impl Work {
    /// Logs are compacted when they have at least so many entries: twice what is in flight, and no fewer than 256.
    pub(crate) const fn log_entries(self) -> usize {
        if self.in_flight < 128 { 256 } else { 2 * self.in_flight }
    }

    /// Whether it is best to send what has been proposed, when so many entries of a turn are. Only where the entries of
    /// a turn are too many for a cache: in runs that fill a message, while they are still there. Nothing is acknowledged
    /// before the whole turn is proposed.
    pub(crate) const fn sends_at(self, proposed: usize) -> bool {
        let in_message = MESSAGE_BYTES / (self.entry_bytes + HEADER_BYTES);
        self.in_flight * self.entry_bytes > CACHE_BYTES && proposed.is_multiple_of(in_message)
    }

    /// The turns after which the applied entries are dropped from the logs.
    pub(crate) fn turns_between_compactions(self) -> u64 {
        (self.log_entries() / 2 / self.in_flight).max(1) as u64
    }
}

/// Payloads that tell their own number, so that the order in which they are applied can be checked.
pub(crate) struct Payloads {
    bytes: Vec<u8>,
    number: u64,
}

impl Payloads {
    pub(crate) fn new(work: Work) -> Payloads {
        Payloads { bytes: vec![0xa5; work.entry_bytes], number: 0 }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.number += 1;
        self.bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        &self.bytes
    }

    /// How many there were.
    pub(crate) fn proposed(&self) -> u64 {
        self.number
    }
}

/// The state machine of a replica: it insists on all entries, whole and in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    applied: u64,
}

impl Tally {
    pub(crate) fn apply(&mut self, payload: &[u8], work: Work) {
        self.applied += 1;
        assert_eq!(payload.len(), work.entry_bytes, "a payload is applied whole");
        assert_eq!(payload[..8], self.applied.to_le_bytes(), "entries are applied in order");
    }

    pub(crate) fn applied(self) -> u64 {
        self.applied
    }
}
