//! One node among members that the test speaks for, and a small cluster whose messages arrive when
//! the test says so.

use std::collections::BTreeSet;

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Member, Suffrage, voters};
use raft_core::entry::{EntryHeader, EntryKind, Records};
use raft_core::message::{Body, Message, ProposeError, ReadTicket, Rejection, Round};
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, ReadId, ReadState, StepError};
use raft_core::snapshot::{HEAD_BYTES_MAX, Head, Terms};
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Instant, Millis, NodeId, Term};

use crate::common::DeferredLog;

pub(crate) type Node = Raft<DeferredLog, 8>;

/// The shortest election timeout, and the time between heartbeats.
pub(crate) const TIMEOUT: u64 = 100;
pub(crate) const HEARTBEAT: u64 = 10;

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

pub(crate) fn at(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// What a node has said, without borrowing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    PreVote(EntryId),
    PreVoteReply(bool),
    Vote(EntryId),
    VoteReply(bool),
    Append { previous: EntryId, entries: Vec<EntryId>, commit: u64, round: u64 },
    AppendReply { matched: u64, rejected: Option<Rejection> },
    ReadRequest,
    ReadReply(u64),
    Campaign,
    Expelled,
    Other,
}

impl Said {
    fn of(body: &Body<'_>) -> Said {
        match *body {
            Body::PreVote { last } => Said::PreVote(last),
            Body::PreVoteReply { granted } => Said::PreVoteReply(granted),
            Body::Vote { last, .. } => Said::Vote(last),
            Body::VoteReply { granted } => Said::VoteReply(granted),
            Body::Append { previous, entries, commit, round } => Said::Append {
                previous,
                entries: entries.iter().map(|entry| entry.header.id()).collect(),
                commit: commit.0,
                round: round.0,
            },
            Body::AppendReply { matched, rejected, .. } => Said::AppendReply { matched: matched.0, rejected },
            Body::ReadRequest { .. } => Said::ReadRequest,
            Body::ReadReply { index, .. } => Said::ReadReply(index.0),
            Body::Campaign => Said::Campaign,
            Body::Expelled { .. } => Said::Expelled,
            _ => Said::Other,
        }
    }
}

pub(crate) fn config(seed: u64) -> Config {
    Config {
        election_timeout: Millis(TIMEOUT),
        heartbeat_interval: Millis(HEARTBEAT),
        entry_bytes_max: 64,
        disk_stall_max: Millis(1 << 40),
        seed,
        ..Config::default()
    }
}

/// Records of one byte each, right behind `previous`, of these terms.
pub(crate) fn records(previous: EntryId, terms: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (&term, index) in terms.iter().zip(previous.index.0 + 1..) {
        let header = EntryHeader::new(at(term, index), ClusterTime(0), EntryKind::Operation, &[b"x"]).unwrap();
        bytes.extend_from_slice(&header.encode());
        bytes.push(b'x');
    }
    bytes
}

/// A node, and the test in the place of all others.
pub(crate) struct Lone {
    pub(crate) raft: Node,
    pub(crate) now: Instant,
}

impl Lone {
    /// Member 1 of a new cluster.
    pub(crate) fn of(members: u64) -> Lone {
        Lone::with(voters(ClusterId(1), members).unwrap())
    }

    pub(crate) fn with(configuration: Configuration) -> Lone {
        Lone::set(config(1), &configuration)
    }

    pub(crate) fn set(config: Config, configuration: &Configuration) -> Lone {
        let raft = Raft::new(id(1), config, DeferredLog::new(configuration), Instant(0)).unwrap();
        Lone { raft, now: Instant(0) }
    }

    /// Member 1 whose log holds entries of these terms behind entry 1, and whose term is the last of
    /// them. None is known to be committed.
    pub(crate) fn with_log(members: u64, terms: &[u64]) -> Lone {
        let mut node = Lone::of(members);
        let term = terms.last().copied().unwrap_or(1);
        node.append(2, term, at(1, 1), terms, 0).unwrap();
        node.save();
        node.said(2);
        node
    }

    pub(crate) fn step(&mut self, from: u64, term: u64, body: Body<'_>) -> Result<(), StepError> {
        let message = Message { from: id(from), to: id(1), term: Term(term), body };
        self.raft.step(self.now, &message).map(|ready| ready.later())
    }

    pub(crate) fn append(
        &mut self,
        from: u64,
        term: u64,
        previous: EntryId,
        terms: &[u64],
        commit: u64,
    ) -> Result<(), StepError> {
        let bytes = records(previous, terms);
        let entries = Records::check(previous, &bytes).unwrap();
        self.step(from, term, Body::Append { previous, commit: Index(commit), round: Round(1), entries })
    }

    pub(crate) fn ask_vote(&mut self, from: u64, term: u64, last: EntryId) -> bool {
        self.step(from, term, Body::Vote { last, transfer: false }).unwrap();
        self.save();
        self.said(from).contains(&Said::VoteReply(true))
    }

    /// Acknowledges up to `matched` in the name of `from`, in the leader's present term.
    pub(crate) fn acknowledge(&mut self, from: u64, matched: u64) {
        let round = self.said(from).iter().rev().find_map(|said| match said {
            Said::Append { round, .. } => Some(*round),
            _ => None,
        });
        let reply = Body::AppendReply {
            round: Round(round.unwrap_or(0)),
            matched: Index(matched),
            rejected: None,
            counts: true,
        };
        self.step(from, self.raft.term().0, reply).unwrap();
    }

    pub(crate) fn save(&mut self) {
        self.raft.storage_mut().flush().unwrap();
        let saved = self.raft.storage_mut().saved().unwrap();
        self.raft.saved(saved).later();
    }

    /// All it has to say to a node now.
    pub(crate) fn said(&mut self, to: u64) -> Vec<Said> {
        let mut all = Vec::new();
        while let Some(message) = self.raft.ready().message(id(to), 1 << 16).unwrap() {
            assert_eq!(message.to, id(to));
            assert!(all.len() < 1000, "it has no end of things to say");
            all.push(Said::of(&message.body));
        }
        all
    }

    /// The number of the read that it asks a node about now.
    pub(crate) fn read_ticket(&mut self, of: u64) -> Option<ReadTicket> {
        while let Some(message) = self.raft.ready().message(id(of), 1 << 16).unwrap() {
            if let Body::ReadRequest { ticket } = message.body {
                return Some(ticket);
            }
        }
        None
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.raft.tick(self.now).later();
    }

    /// Time passes until it wants to do something.
    pub(crate) fn time_out(&mut self) {
        let deadline = self.raft.deadline();
        self.tick(deadline);
    }

    /// It asks whether it would be elected, and hears from all others that it would be.
    pub(crate) fn campaign(&mut self) {
        self.time_out();
        let term = self.raft.term().0 + 1;
        let others: Vec<u64> = self.raft.members().map(NodeId::get).filter(|&node| node != 1).collect();
        for other in others {
            self.said(other);
            self.step(other, term, Body::PreVoteReply { granted: true }).unwrap();
        }
        assert_eq!(self.raft.role(), RoleName::Candidate);
    }

    /// It is elected by all, and its first entry is saved; nobody has acknowledged anything.
    pub(crate) fn lead(&mut self) {
        self.campaign();
        self.save();
        let others: Vec<u64> = self.raft.members().map(NodeId::get).filter(|&node| node != 1).collect();
        for &other in &others {
            self.said(other);
        }
        for other in others {
            self.step(other, self.raft.term().0, Body::VoteReply { granted: true }).unwrap();
        }
        assert_eq!(self.raft.role(), RoleName::Leader);
        self.save();
    }

    pub(crate) fn propose(&mut self) -> Result<EntryId, ProposeError> {
        let proposed = self.raft.propose(self.now, EntryKind::Operation, &[b"x"]);
        proposed.map(|(entry, ready)| {
            ready.later();
            entry
        })
    }

    pub(crate) fn propose_some(&mut self, entries: usize) {
        for _ in 0..entries {
            self.propose().unwrap();
        }
    }

    pub(crate) fn log(&self) -> Vec<EntryId> {
        self.raft.storage().ids().collect()
    }

    /// It stops, loses what was not durable, and starts again.
    pub(crate) fn restart(&mut self) {
        let mut log = self.raft.storage().clone();
        log.crash(0);
        self.raft = Raft::new(id(1), config(2), log, self.now).unwrap();
    }

    pub(crate) fn role(&self) -> RoleName {
        self.raft.role()
    }

    /// All entries up to `index`, which are committed, are applied, and dropped for a snapshot with members 1 to 3.
    pub(crate) fn compact(&mut self, index: u64) {
        self.raft.applied(Index(index)).later();
        let bytes = snapshot_bytes(at(1, 1), &voters(ClusterId(1), 3).unwrap());
        let log = self.raft.storage_mut();
        let through = EntryId::new(log.term(Index(index)).unwrap(), Index(index));
        log.write_snapshot(through, ClusterTime(0), &bytes);
        log.flush().unwrap();
        log.compact(Index(index));
        log.flush().unwrap();
    }

    /// Member 2 appends a configuration.
    pub(crate) fn configure(&mut self, previous: EntryId, entry: EntryId, configuration: &Configuration) {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let payload = configuration.encode(&mut buffer).unwrap();
        let header = EntryHeader::new(entry, ClusterTime(0), EntryKind::Configuration, &[payload]).unwrap();
        let bytes = [header.encode().as_slice(), payload].concat();
        let entries = Records::check(previous, &bytes).unwrap();
        let append = Body::Append { previous, commit: Index(1), round: Round(1), entries };
        self.step(2, entry.term.0, append).unwrap();
    }
}

/// A snapshot without sessions and state, whose configuration stands in entry `by`.
pub(crate) fn snapshot_bytes(by: EntryId, configuration: &Configuration) -> Vec<u8> {
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let payload = configuration.encode(&mut buffer).unwrap();
    let head = Head {
        configuration: by,
        configuration_bytes: payload.len() as u32,
        session_bytes: 0,
        check: None,
        terms: Terms::NONE,
    };
    [head.encode(&mut [0; HEAD_BYTES_MAX]), payload].concat()
}

/// A cluster whose nodes save and apply at once.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    /// Pairs between which nothing passes.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// What each node has applied.
    pub(crate) applied: Vec<Vec<EntryId>>,
}

impl Cluster {
    pub(crate) fn of(members: u64) -> Cluster {
        let configuration = voters(ClusterId(1), members).unwrap();
        let start = |node| {
            let log = DeferredLog::new(&configuration);
            Raft::new(id(node), config(node), log, Instant(0)).unwrap()
        };
        let nodes: Vec<Node> = (1..=members).map(start).collect();
        let applied = vec![Vec::new(); nodes.len()];
        Cluster { nodes, now: Instant(0), cut: BTreeSet::new(), applied }
    }

    /// One more node, with an empty log.
    pub(crate) fn join(&mut self) -> u64 {
        let node = self.nodes.len() as u64 + 1;
        let configuration = voters(ClusterId(1), 3).unwrap();
        let log = DeferredLog::blank();
        self.nodes.push(Raft::join(id(node), config(node), &configuration, log, self.now).unwrap());
        self.applied.push(Vec::new());
        node
    }

    /// A node loses what was not durable, and starts again.
    pub(crate) fn restart(&mut self, node: u64) {
        let mut log = self.node(node).storage().clone();
        log.crash(0);
        self.nodes[node as usize - 1] = Raft::new(id(node), config(node + 100), log, self.now).unwrap();
        self.applied[node as usize - 1].clear();
    }

    /// The disk of a node is lost, and it starts with an empty one.
    pub(crate) fn wipe(&mut self, node: u64) {
        let configuration = voters(ClusterId(1), 3).unwrap();
        let (config, log) = (config(node + 100), DeferredLog::blank());
        self.nodes[node as usize - 1] = Raft::join(id(node), config, &configuration, log, self.now).unwrap();
        self.applied[node as usize - 1].clear();
    }

    pub(crate) fn node(&mut self, node: u64) -> &mut Node {
        &mut self.nodes[node as usize - 1]
    }

    pub(crate) fn isolate(&mut self, node: u64) {
        for other in 1..=self.nodes.len() as u64 {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    /// Delivers all there is to say, until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            for from in 1..=self.nodes.len() as u64 {
                self.save_and_apply(from);
                let mut number = 0;
                while let Some(to) = self.node(from).recipient(number) {
                    number += 1;
                    while let Some(message) = self.node(from).ready().message(to, 1 << 16).unwrap() {
                        let mut bytes = vec![0; message.bytes_max()];
                        let length = message.encode(&mut bytes).unwrap();
                        quiet = false;
                        self.deliver(from, to.get(), &bytes[..length]);
                    }
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the cluster does not become quiet");
    }

    fn deliver(&mut self, from: u64, to: u64, bytes: &[u8]) {
        if self.cut.contains(&(from, to)) || to > self.nodes.len() as u64 {
            return;
        }
        let now = self.now;
        let message = Message::decode(bytes).unwrap();
        self.node(to).step(now, &message).map(|ready| ready.later()).unwrap();
        self.save_and_apply(to);
    }

    fn save_and_apply(&mut self, node: u64) {
        let raft = self.node(node);
        raft.storage_mut().flush().unwrap();
        let saved = raft.storage_mut().saved().unwrap();
        raft.saved(saved).later();
        while let Some(range) = self.node(node).ready().apply() {
            let raft = self.node(node);
            let records = raft.storage_mut().read(*range.start(), *range.end(), 1 << 16).unwrap();
            let (ids, last) = (records.iter().map(|entry| entry.header.id()).collect::<Vec<_>>(), records.last().index);
            self.applied[node as usize - 1].extend(ids);
            self.node(node).applied(last).later();
        }
    }

    /// Time passes for all, in steps of a heartbeat, and messages arrive.
    pub(crate) fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(HEARTBEAT) {
            self.now = self.now.after(Millis(HEARTBEAT));
            for node in 1..=self.nodes.len() as u64 {
                let now = self.now;
                self.node(node).tick(now).later();
            }
            self.settle();
        }
    }

    /// Time passes until there is a leader among those that are not cut off from a majority.
    pub(crate) fn elect(&mut self) -> u64 {
        for _ in 0..100 {
            self.pass(HEARTBEAT);
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody was elected");
    }

    /// As [`Cluster::elect`], but for another leader than `old`, which was cut off.
    pub(crate) fn elect_after(&mut self, old: u64) -> u64 {
        for _ in 0..100 {
            self.pass(HEARTBEAT);
            if let Some(leader) = self.leader().filter(|&leader| leader != old) {
                return leader;
            }
        }
        panic!("nobody was elected");
    }

    /// The leader of the latest term, once it has committed in it.
    pub(crate) fn leader(&self) -> Option<u64> {
        let led = self.nodes.iter().filter(|node| node.term_start().is_some_and(|start| node.commit() >= start));
        led.max_by_key(|node| node.term()).map(|node| node.id().get())
    }

    pub(crate) fn propose(&mut self, node: u64) -> Result<EntryId, ProposeError> {
        let now = self.now;
        let proposed = self.node(node).propose(now, EntryKind::Operation, &[b"x"]);
        proposed.map(|(entry, ready)| {
            ready.later();
            entry
        })
    }

    /// As many as it takes: a node that does not lead takes none.
    pub(crate) fn propose_some(&mut self, node: u64, entries: usize) {
        for _ in 0..entries {
            if self.propose(node).is_err() {
                return;
            }
        }
    }

    pub(crate) fn read(&mut self, node: u64) -> Result<ReadId, ProposeError> {
        let now = self.now;
        self.node(node).read(now).map(|(read, ready)| {
            ready.later();
            read
        })
    }

    pub(crate) fn read_state(&mut self, node: u64, read: ReadId) -> ReadState {
        self.node(node).read_state(read)
    }

    /// The leader changes the members.
    pub(crate) fn change(&mut self, leader: u64, changes: &[MemberChange]) -> EntryId {
        let now = self.now;
        let (entry, ready) = self.node(leader).change_members(now, changes, false).unwrap();
        ready.later();
        entry
    }

    pub(crate) fn voters(&mut self, node: u64) -> Vec<u64> {
        let configuration = self.node(node).configuration().unwrap();
        let voters = configuration.members().iter().filter(|member| member.votes());
        voters.map(|member| member.id.get()).collect()
    }
}

pub(crate) fn add(node: u64, suffrage: Suffrage) -> MemberChange {
    MemberChange::Add(Member::new(id(node), suffrage, "").unwrap())
}

/// Makes the followers of a lone leader acknowledge all it has, so that it commits.
pub(crate) fn commit_all(node: &mut Lone) {
    let last = node.raft.storage().last().index.0;
    let others: Vec<u64> = node.raft.members().map(NodeId::get).filter(|&other| other != 1).collect();
    others.into_iter().for_each(|other| node.acknowledge(other, last));
    assert_eq!(node.raft.commit(), Index(last));
}
