//! noraft, which holds no payloads, with a ring of payloads beside each replica.
//!
//! Its messages are handed over by reference. A follower copies the payloads of the entries it appends straight from
//! the leader's ring into its own. Its log takes the same room however long it is, so it is never compacted. It tells
//! followers of a commit with the next entries or a heartbeat; one heartbeat for each turn ends it. Of a turn that no cache
//! holds, runs are sent while they are in one, as raft-core does; their replies wait until the turn is proposed.
//!
//! It has no checksums. In the row `checked` a ring keeps one for each payload, made when that is proposed and copied with
//! it, as a log does that will notice decay, and as raft-core's does.

use noraft::{Action, LogIndex, Message, Node, NodeId};
use raft_core::crc::crc32c;

use crate::work::{Cluster, Payloads, REPLICAS, Tally, Work};

pub(crate) struct Noraft {
    work: Work,
    payloads: Payloads,
    leader: Replica,
    followers: Vec<Replica>,
    /// Replies that have not been passed to the leader.
    held: Vec<Message>,
}

struct Replica {
    node: Node,
    ring: Ring,
    applied: LogIndex,
    tally: Tally,
}

/// Whether payloads have a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    None,
    Payloads,
}

/// Payloads by their entries' indexes; the oldest make room.
struct Ring {
    checks: Checks,
    bytes: Vec<u8>,
    sums: Vec<u32>,
    entry_bytes: usize,
    mask: u64,
}

impl Ring {
    fn new(work: Work, checks: Checks) -> Ring {
        // What the other logs have when they are compacted.
        let entries = (work.log_entries() / 2).next_power_of_two();
        let (bytes, sums) = (vec![0; entries * work.entry_bytes], vec![0; entries]);
        Ring { checks, bytes, sums, entry_bytes: work.entry_bytes, mask: entries as u64 - 1 }
    }

    fn number(&self, index: u64) -> usize {
        usize::try_from(index & self.mask).expect("a ring fits into memory")
    }

    fn place(&self, index: u64) -> std::ops::Range<usize> {
        let start = self.number(index) * self.entry_bytes;
        start..start + self.entry_bytes
    }

    /// Takes a payload that is proposed.
    fn put(&mut self, index: u64, payload: &[u8]) {
        let (number, place) = (self.number(index), self.place(index));
        if self.checks == Checks::Payloads {
            self.sums[number] = crc32c(0, payload);
        }
        self.bytes[place].copy_from_slice(payload);
    }

    /// Takes a payload from the leader's ring.
    fn copy(&mut self, index: u64, from: &Ring) {
        let (number, place) = (self.number(index), self.place(index));
        self.sums[number] = from.sums[number];
        self.bytes[place.clone()].copy_from_slice(&from.bytes[place]);
    }

    fn get(&self, index: u64) -> &[u8] {
        &self.bytes[self.place(index)]
    }
}

impl Noraft {
    pub(crate) fn start(work: Work, checks: Checks) -> Noraft {
        let ids: Vec<_> = (0..REPLICAS as u64).map(NodeId::new).collect();
        let replica = |&id: &NodeId| Replica {
            node: Node::start(id),
            ring: Ring::new(work, checks),
            applied: LogIndex::new(0),
            tally: Tally::default(),
        };
        let mut replicas: Vec<_> = ids.iter().map(replica).collect();
        let mut leader = replicas.remove(0);
        leader.node.create_cluster(&ids);
        let mut cluster = Noraft { work, payloads: Payloads::new(work), leader, followers: replicas, held: Vec::new() };
        while !cluster.leader.node.role().is_leader() || cluster.leader.node.commit_index() < LogIndex::new(2) {
            cluster.exchange();
        }
        cluster.tell_commit();
        // What led to this is not counted, so that nobody has to look which entries are commands.
        for replica in cluster.followers.iter_mut().chain([&mut cluster.leader]) {
            assert_eq!(replica.node.commit_index(), replica.node.log().last_position().index);
            replica.applied = replica.node.commit_index();
        }
        cluster
    }

    /// Passes messages until nobody has any.
    fn exchange(&mut self) {
        for reply in self.held.drain(..) {
            self.leader.node.handle_message(&reply).expect("members say nothing wrong");
        }
        self.send::<false>();
    }

    /// Carries out what the leader asks for, and what the followers ask for because of it. Holds back their replies if
    /// `HOLD`, so that all of a turn is in flight together.
    fn send<const HOLD: bool>(&mut self) {
        while let Some(action) = self.leader.node.actions_mut().next() {
            match action {
                Action::BroadcastMessage(message) => {
                    (0..self.followers.len()).for_each(|follower| self.deliver::<HOLD>(follower, &message));
                }
                Action::SendMessage(to, message) => {
                    let follower = self.followers.iter().position(|follower| follower.node.id() == to);
                    self.deliver::<HOLD>(follower.expect("messages go to members"), &message);
                }
                // The payloads were put into the ring when they were proposed; the rest is "durable" at once.
                _ => {}
            }
        }
    }

    fn deliver<const HOLD: bool>(&mut self, follower: usize, message: &Message) {
        let follower = &mut self.followers[follower];
        follower.node.handle_message(message).expect("members say nothing wrong");
        while let Some(action) = follower.node.actions_mut().next() {
            match action {
                Action::AppendLogEntries(entries) => {
                    for index in entries.prev_position().index.get() + 1..=entries.last_position().index.get() {
                        follower.ring.copy(index, &self.leader.ring);
                    }
                }
                Action::SendMessage(_, reply) if HOLD => self.held.push(reply),
                Action::SendMessage(_, reply) => {
                    self.leader.node.handle_message(&reply).expect("members say nothing wrong");
                }
                _ => {}
            }
        }
    }

    fn tell_commit(&mut self) {
        self.leader.node.heartbeat();
        self.exchange();
    }
}

impl Cluster for Noraft {
    fn run(&mut self, turns: u64) {
        for _ in 0..turns {
            for number in 1..=self.work.in_flight {
                let position = self.leader.node.propose_command();
                self.leader.ring.put(position.index.get(), self.payloads.next());
                if self.work.sends_at(number) {
                    self.send::<true>();
                }
            }
            self.exchange();
            self.tell_commit();
            for replica in self.followers.iter_mut().chain([&mut self.leader]) {
                replica.apply(self.work);
                assert_eq!(replica.tally.applied(), self.payloads.proposed(), "all is applied at the end of a turn");
            }
        }
    }
}

impl Replica {
    fn apply(&mut self, work: Work) {
        let commit = self.node.commit_index();
        for index in self.applied.get() + 1..=commit.get() {
            self.tally.apply(self.ring.get(index), work);
        }
        self.applied = commit;
    }
}
