//! raft-core over its own log in fixed memory, which holds the payloads.
//!
//! A message borrows the log of its sender, so the receiver can be shown it without a copy; its records are then
//! copied once, into the receiver's log. Or it is encoded into a buffer and decoded from there, checksums included.

use raft_core::configuration;
use raft_core::entry::{EntryKind, HEADER_BYTES};
use raft_core::message::Message;
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, Ready};
use raft_core::ring::RingLog;
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, Instant, NodeId};

use crate::work::{Cluster, MESSAGE_BYTES, Payloads, REPLICAS, Tally, Work};

/// How messages pass between replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    Borrowed,
    Encoded,
}

/// The most entries that a log ever holds: what is proposed between two compactions, and the two that a term and a
/// cluster begin with.
const fn entries(work: Work) -> usize {
    work.log_entries() / 2 + 2
}

/// Bytes of a log for so many entries. A record that would cross the end leaves its place empty, and reads stop
/// there: room for two records more.
const fn ring(work: Work) -> usize {
    (entries(work) + 2) * (work.entry_bytes + HEADER_BYTES)
}

const fn work(entry_bytes: usize, in_flight: usize) -> Work {
    Work { entry_bytes, in_flight }
}

/// The size of a ring is part of its type: one for each point that is measured.
pub(crate) fn start(point: Work, passing: Passing) -> Box<dyn Cluster> {
    macro_rules! points {
        ($(($entry_bytes:literal, $in_flight:literal)),*) => {
            match (point.entry_bytes, point.in_flight) {
                $(($entry_bytes, $in_flight) => {
                    const WORK: Work = work($entry_bytes, $in_flight);
                    Box::new(RaftCore::<{ entries(WORK) }, { ring(WORK) }>::start(WORK, passing))
                })*
                _ => panic!("{point:?} is not among the points that are measured"),
            }
        };
    }
    points!((16, 1), (16, 64), (16, 1024), (256, 1), (256, 64), (256, 1024), (4096, 1), (4096, 64), (4096, 1024))
}

/// Nothing waits for time to pass here.
const NOW: Instant = Instant(0);

struct RaftCore<const ENTRIES: usize, const BYTES: usize> {
    work: Work,
    payloads: Payloads,
    wire: Wire,
    leader: Replica<ENTRIES, BYTES>,
    followers: Vec<Replica<ENTRIES, BYTES>>,
}

struct Replica<const ENTRIES: usize, const BYTES: usize> {
    raft: Raft<RingLog<ENTRIES, BYTES>, REPLICAS>,
    tally: Tally,
}

/// What messages pass through.
struct Wire {
    passing: Passing,
    buffer: Vec<u8>,
}

impl<const ENTRIES: usize, const BYTES: usize> RaftCore<ENTRIES, BYTES> {
    fn start(work: Work, passing: Passing) -> Self {
        let mut replicas: Vec<_> = (1..=REPLICAS as u64).map(Replica::start).collect();
        let leader = replicas.remove(0);
        let wire = Wire { passing, buffer: vec![0; BYTES + raft_core::message::MESSAGE_HEAD_BYTES_MAX] };
        let mut cluster = RaftCore { work, payloads: Payloads::new(work), wire, leader, followers: replicas };
        let campaign = cluster.leader.raft.deadline();
        cluster.leader.raft.tick(campaign).later();
        while cluster.leader.raft.term_start().is_none_or(|start| cluster.followers[1].raft.commit() < start) {
            cluster.exchange();
        }
        cluster
    }

    /// Each replica does what its input so far asks of it.
    fn exchange(&mut self) {
        self.send();
        self.leader.save_and_apply(self.work);
        for follower in &mut self.followers {
            follower.save_and_apply(self.work);
            let mut ready = follower.raft.ready();
            while self.wire.pass(&mut ready, &mut self.leader) {}
        }
        self.leader.save_and_apply(self.work);
    }

    /// One message to each follower in turn: what was read for the first is in the cache for the second.
    fn send(&mut self) {
        let mut ready = self.leader.raft.ready();
        let mut said = true;
        while said {
            said = false;
            for follower in &mut self.followers {
                said |= self.wire.pass(&mut ready, follower);
            }
        }
    }

    fn compact(&mut self) {
        for replica in self.followers.iter_mut().chain([&mut self.leader]) {
            let applied = replica.raft.last_applied();
            replica.raft.storage_mut().compact(applied);
        }
    }
}

impl<const ENTRIES: usize, const BYTES: usize> Cluster for RaftCore<ENTRIES, BYTES> {
    fn run(&mut self, turns: u64) {
        for turn in 0..turns {
            if turn % self.work.turns_between_compactions() == 0 {
                self.compact();
            }
            for number in 1..=self.work.in_flight {
                let proposed = self.leader.raft.propose(NOW, EntryKind::Operation, &[self.payloads.next()]);
                proposed.expect("the leader takes all that is in flight").1.later();
                if self.work.sends_at(number) {
                    self.send();
                }
            }
            while self.followers.iter().any(|follower| follower.tally.applied() < self.payloads.proposed()) {
                self.exchange();
            }
            assert_eq!(self.leader.tally.applied(), self.payloads.proposed(), "the leader applies no later");
        }
    }
}

impl<const ENTRIES: usize, const BYTES: usize> Replica<ENTRIES, BYTES> {
    fn start(id: u64) -> Self {
        let configuration = configuration::voters(ClusterId(1), REPLICAS as u64).expect("three voters are few");
        let mut log = RingLog::new();
        configuration::bootstrap(&mut log, &configuration).expect("an empty log takes its first entry");
        let config = Config { message_bytes_max: MESSAGE_BYTES, ..Config::default() };
        let id = NodeId::new(id).expect("ids begin at 1");
        let raft = Raft::new(id, config, log, NOW).expect("the settings are good");
        Replica { raft, tally: Tally::default() }
    }

    fn save_and_apply(&mut self, work: Work) {
        let ready = self.raft.ready();
        let (to_save, mut range) = (ready.to_save(), ready.apply());
        if to_save.is_some() {
            let Ok(()) = self.raft.storage_mut().flush();
            let Ok(saved) = self.raft.storage_mut().saved();
            range = self.raft.saved(saved).apply();
        }
        while let Some(entries) = range {
            let records = self.raft.storage_mut().read(*entries.start(), *entries.end(), usize::MAX);
            let records = records.expect("what is committed is in the log");
            let last = records.last().index;
            for entry in records.iter().filter(|entry| entry.header.kind == EntryKind::Operation) {
                self.tally.apply(entry.payload, work);
            }
            range = self.raft.applied(last).apply();
        }
    }
}

impl Wire {
    /// Passes on the next message to that replica; gives whether there was one.
    fn pass<const ENTRIES: usize, const BYTES: usize>(
        &mut self,
        from: &mut Ready<'_, RingLog<ENTRIES, BYTES>, REPLICAS>,
        to: &mut Replica<ENTRIES, BYTES>,
    ) -> bool {
        let Ok(Some(message)) = &from.message(to.raft.id(), usize::MAX) else { return false };
        let stepped = match self.passing {
            Passing::Borrowed => to.raft.step(NOW, message),
            Passing::Encoded => {
                let bytes = message.encode(&mut self.buffer).expect("the buffer holds a whole log");
                let message = Message::decode(&self.buffer[..bytes]).expect("messages arrive whole");
                to.raft.step(NOW, &message)
            }
        };
        stepped.expect("members say nothing wrong").later();
        true
    }
}
