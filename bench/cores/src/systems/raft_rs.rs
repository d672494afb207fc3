//! raft-rs (`raft` on crates.io) over a log in memory.
//!
//! The log is as its `MemStorage`, without the lock that one thread does not need and without its costs to compact.
//! Entries of a turn are proposed in one message; payloads are reference-counted `Bytes`, which followers put into their
//! logs as they come, or as copies of their own. Appends are batched and messages as long as need be; nothing is logged; there is
//! no check of a quorum and no pre-vote.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::{Config, GetEntriesContext, RaftState, RawNode, StateRole, Storage, StorageError, util};

use super::Payload;
use crate::work::{Cluster, Payloads, REPLICAS, Tally, Work};

const LEADER: u64 = 1;

pub(crate) struct RaftRs {
    work: Work,
    payloads: Payloads,
    replicas: Vec<Replica>,
    /// Messages under way, reused.
    sent: Vec<Message>,
    turns: u64,
}

struct Replica {
    node: RawNode<Log>,
    tally: Tally,
}

/// Entries, behind the one before them.
struct Log {
    payload: Payload,
    conf_state: ConfState,
    hard_state: HardState,
    base: (u64, u64),
    entries: VecDeque<Entry>,
}

impl RaftRs {
    pub(super) fn start(work: Work, payload: Payload) -> RaftRs {
        let replicas = (1..=REPLICAS as u64).map(|id| Replica::start(id, payload)).collect();
        let mut cluster = RaftRs { work, payloads: Payloads::new(work), replicas, sent: Vec::new(), turns: 0 };
        cluster.replicas[0].node.campaign().expect("a member can campaign");
        cluster.exchange();
        assert_eq!(cluster.replicas[0].node.raft.state, StateRole::Leader);
        cluster
    }

    /// Works until nobody has anything left to do.
    fn exchange(&mut self) {
        loop {
            for replica in &mut self.replicas {
                replica.handle_ready(self.work, &mut self.sent);
            }
            if self.sent.is_empty() {
                return;
            }
            for message in self.sent.drain(..) {
                let to = usize::try_from(message.to - 1).expect("messages go to members");
                self.replicas[to].node.step(message).expect("members say nothing wrong");
            }
        }
    }
}

impl Cluster for RaftRs {
    fn run(&mut self, turns: u64) {
        for _ in 0..turns {
            self.turns += 1;
            if self.turns.is_multiple_of(self.work.turns_between_compactions()) {
                for replica in &mut self.replicas {
                    let applied = replica.node.raft.raft_log.applied;
                    replica.node.mut_store().compact(applied);
                }
            }
            let entry = |payload: &[u8]| Entry { data: Bytes::copy_from_slice(payload), ..Entry::default() };
            let entries = (0..self.work.in_flight).map(|_| entry(self.payloads.next())).collect::<Vec<_>>();
            let mut propose = Message { from: LEADER, to: LEADER, entries: entries.into(), ..Message::default() };
            propose.set_msg_type(MessageType::MsgPropose);
            self.replicas[0].node.step(propose).expect("the leader takes all that is in flight");
            self.exchange();
            for replica in &self.replicas {
                assert_eq!(replica.tally.applied(), self.payloads.proposed(), "all is applied at the end of a turn");
            }
        }
    }
}

impl Replica {
    fn start(id: u64, payload: Payload) -> Replica {
        let config = Config {
            id,
            max_size_per_msg: raft::NO_LIMIT,
            max_inflight_msgs: 256,
            batch_append: true,
            ..Config::default()
        };
        let conf_state = ConfState { voters: (1..=REPLICAS as u64).collect(), ..ConfState::default() };
        let hard_state = HardState::default();
        // What the leader's log holds was allocated for it when it was proposed.
        let payload = if id == LEADER { Payload::Shared } else { payload };
        let log = Log { payload, conf_state, hard_state, base: (0, 0), entries: VecDeque::new() };
        let quiet = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &quiet).expect("the settings are good");
        Replica { node, tally: Tally::default() }
    }

    fn handle_ready(&mut self, work: Work, sent: &mut Vec<Message>) {
        if !self.node.has_ready() {
            return;
        }
        let mut ready = self.node.ready();
        sent.append(&mut ready.take_messages());
        self.apply(ready.take_committed_entries(), work);
        let entries = ready.take_entries();
        self.node.mut_store().append(entries);
        if let Some(hard_state) = ready.hs() {
            self.node.mut_store().hard_state = hard_state.clone();
        }
        sent.append(&mut ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        sent.append(&mut light.take_messages());
        self.apply(light.take_committed_entries(), work);
        self.node.advance_apply();
    }

    fn apply(&mut self, entries: Vec<Entry>, work: Work) {
        // The entry without data begins the leader's term.
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            self.tally.apply(&entry.data, work);
        }
    }
}

impl Log {
    fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.base.0 - 1).expect("a log fits into memory")
    }

    fn append(&mut self, entries: Vec<Entry>) {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.position(first.index));
            let payload = self.payload;
            self.entries.extend(entries.into_iter().map(|entry| Entry { data: payload.keep(entry.data), ..entry }));
        }
    }

    fn compact(&mut self, applied: u64) {
        while self.base.0 < applied
            && let Some(entry) = self.entries.pop_front()
        {
            self.base = (entry.index, entry.term);
        }
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let mut entries: Vec<_> = self.entries.range(self.position(low)..self.position(high)).cloned().collect();
        util::limit_size(&mut entries, bytes_max.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get(self.position(index));
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
