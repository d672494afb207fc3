//! The nodes of a script, what is under way between them, and what each does after an input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use raft_core::configuration::Configuration;
use raft_core::message::{Message, ReadTicket};
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, ReadId};
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Index, Instant, Millis, NodeId};

use crate::common::DeferredLog;
use crate::describe;

/// One script may not need more messages than this to become quiet.
const DELIVERIES_MAX: usize = 2000;

pub(crate) type Core = Raft<DeferredLog, 7>;

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) configuration: Option<Configuration>,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) links: BTreeMap<(u64, u64), VecDeque<Vec<u8>>>,
    pub(crate) cut: BTreeSet<(u64, u64)>,
    pub(crate) copies: BTreeMap<u64, DeferredLog>,
    /// Tickets begin at random, so they are shown by the order in which they appear.
    pub(crate) tickets: Vec<ReadTicket>,
    pub(crate) trace: String,
}

pub(crate) struct Node {
    pub(crate) state: State,
    pub(crate) now: Instant,
    pub(crate) starts: u64,
    pub(crate) slow: bool,
    pub(crate) reads: Vec<(String, ReadId)>,
    /// The operations it has applied.
    pub(crate) machine: Vec<String>,
    pub(crate) shown: String,
    /// The configuration shown last.
    pub(crate) members: EntryId,
}

#[allow(clippy::large_enum_variant, reason = "there are few, in a test")]
pub(crate) enum State {
    Up(Core),
    Down(DeferredLog),
}

impl Node {
    pub(crate) fn new(state: State, now: Instant) -> Node {
        let (starts, slow, reads, machine) = (0, false, Vec::new(), Vec::new());
        Node { state, now, starts, slow, reads, machine, shown: String::new(), members: EntryId::ZERO }
    }

    pub(crate) fn raft(&mut self) -> &mut Core {
        match &mut self.state {
            State::Up(raft) => raft,
            State::Down(_) => panic!("the node is down"),
        }
    }
}

impl Default for World {
    fn default() -> World {
        let config = Config {
            election_timeout: Millis(100),
            heartbeat_interval: Millis(10),
            entry_bytes_max: 64,
            message_bytes_max: 400,
            disk_stall_max: Millis(1000),
            ..Config::default()
        };
        World {
            config,
            configuration: None,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            copies: BTreeMap::new(),
            tickets: Vec::new(),
            trace: String::new(),
        }
    }
}

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

impl World {
    pub(crate) fn say(&mut self, line: impl AsRef<str>) {
        writeln!(self.trace, "    {}", line.as_ref()).unwrap();
    }

    pub(crate) fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    /// Starts a node on what its log holds: as one that joins, if that is nothing.
    pub(crate) fn start(&self, node: u64, log: DeferredLog, starts: u64, now: Instant) -> State {
        let config = Config { seed: node * 1000 + starts, ..self.config };
        let first = self.configuration.as_ref().unwrap();
        State::Up(match log.last() {
            EntryId::ZERO => Raft::join(id(node), config, first, log, now).unwrap(),
            _ => Raft::new(id(node), config, log, now).unwrap(),
        })
    }

    pub(crate) fn tick(&mut self, node: u64, now: Instant) {
        let this = self.node(node);
        this.now = this.now.max(now);
        this.raft().tick(now).later();
        self.settle(node);
    }

    pub(crate) fn deliver_all(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            let busy = self.links.iter().find(|(_, queue)| !queue.is_empty()).map(|(&link, _)| link);
            let Some(first) = busy else { return };
            // All that is under way on one link arrives before the next link's turn.
            let count = self.links[&first].len();
            (0..count).for_each(|_| self.deliver(first));
        }
        panic!("the cluster does not become quiet");
    }

    pub(crate) fn deliver(&mut self, link: (u64, u64)) {
        let bytes = self.links.get_mut(&link).unwrap().pop_front().unwrap();
        let line = self.describe(&bytes);
        let Some(Node { state: State::Up(raft), now, .. }) = self.nodes.get_mut(&link.1) else {
            return self.say(format!("to a dead node: {line}"));
        };
        let message = Message::decode(&bytes).unwrap();
        let error = raft.step(*now, &message).map(|ready| ready.later()).err();
        self.say(line);
        if let Some(error) = error {
            self.say(format!("{} ignores it: {error}", link.1));
        }
        self.settle(link.1);
    }

    /// Does all a driver does after an input, until there is nothing left.
    pub(crate) fn settle(&mut self, node: u64) {
        self.show_change(node);
        loop {
            self.send(node);
            let raft = self.node(node).raft();
            let before = raft.ready().to_save();
            if before.is_some() {
                raft.storage_mut().flush().unwrap();
            }
            let saved = raft.storage_mut().saved().unwrap();
            let after = raft.saved(saved).to_save();
            self.show_change(node);
            self.send(node);
            self.restore(node);
            self.apply(node);
            if before == after {
                return;
            }
        }
    }

    fn send(&mut self, from: u64) {
        let raft = self.node(from).raft();
        let recipients: BTreeSet<u64> = (0..).map_while(|number| raft.recipient(number)).map(NodeId::get).collect();
        for to in recipients {
            while let Some(message) = self.node(from).raft().ready().message(id(to), 1 << 16).unwrap() {
                let mut bytes = vec![0; message.bytes_max()];
                let length = message.encode(&mut bytes).unwrap();
                bytes.truncate(length);
                if self.cut.contains(&(from, to)) {
                    let line = self.describe(&bytes);
                    self.say(format!("lost: {line}"));
                } else {
                    self.links.entry((from, to)).or_default().push_back(bytes);
                }
            }
        }
    }

    fn apply(&mut self, node: u64) {
        if self.node(node).slow {
            return;
        }
        while let Some(range) = self.node(node).raft().ready().apply() {
            let records = self.node(node).raft().storage_mut().read(*range.start(), *range.end(), 1 << 16).unwrap();
            let (entries, last) = (describe::entries(&records), records.last().index);
            let words: Vec<String> = describe::operations(&records).collect();
            self.say(format!("{node} applies {entries}"));
            let this = self.node(node);
            this.machine.extend(words);
            this.raft().applied(last).later();
            self.show_change(node);
        }
        self.send(node);
    }

    fn show_change(&mut self, node: u64) {
        let raft = self.node(node).raft();
        let leader = raft.leader().filter(|&leader| leader.get() != node).map(|leader| format!(" of {leader}"));
        let (role, term, commit) = (raft.role(), raft.term(), raft.commit());
        let expelled = raft.expelled().map_or(String::new(), |reason| format!(", {}", describe::expulsion(reason)));
        let line = format!("{node} is {role:?}{}, term {term}, commit {commit}{expelled}", leader.unwrap_or_default());
        let members = raft.configuration_entry();
        let configuration = raft.configuration().ok();
        if self.node(node).members != members {
            // Entry 1 is the same everywhere.
            if members.index > Index::FIRST || self.node(node).members != EntryId::ZERO {
                let shown = configuration.as_ref().map_or("{}".to_owned(), describe::members);
                self.say(format!("{node} has members {shown} by {members}"));
            }
            self.node(node).members = members;
        }
        if self.node(node).shown != line {
            self.say(&line);
            self.node(node).shown = line;
        }
    }
}
