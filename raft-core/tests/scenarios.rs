//! Scripts of consensus: each file in `scripts/` says on top what it shows, then gives commands,
//! and under each of them, indented, what the nodes did. Read one as a trace of the protocol.
//!
//! `REWRITE=1 cargo test -p raft-core --test scenarios` writes what the nodes do now; look at the
//! difference before you keep it. Commands:
//!
//! | command | what it does |
//! |---|---|
//! | `nodes N [one-by-one]` | a new cluster of nodes 1 to N, which may send one entry in a message |
//! | `timeout N` | node N's clock moves to its deadline: an election, or a heartbeat |
//! | `elect N` | the same, until it is quiet; only what all are then is shown |
//! | `advance MS N..` | the clocks of these nodes move ahead (without nodes: all clocks) |
//! | `propose N WORDS` | a client of node N proposes an entry for each word |
//! | `deliver [A>B [COUNT]]` | messages arrive: all until it is quiet, all on one link, or its first few |
//! | `drop A>B [COUNT]` | messages that are under way are lost |
//! | `duplicate A>B`, `swap A>B` | the first message stays under way; the first two change places |
//! | `partition A B.. / C..` | what is sent between the groups is lost, also what is under way |
//! | `heal` | nothing is lost any more |
//! | `defer N`, `save N` | syncs of N wait from now on; the oldest one completes |
//! | `room N E` | the log of N has room for E entries from now on |
//! | `slow N`, `fast N` | N does not apply entries from now on; it does again |
//! | `crash N`, `restart N` | N loses what was not durable; it starts again |
//! | `read N NAME`, `reads N` | a read begins on N; what has become of N's reads |
//! | `state [N]` | what each node is and holds |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use common::DeferredLog;
use raft_core::configuration::{Configuration, voters};
use raft_core::entry::{Entry, EntryKind, Records};
use raft_core::message::{Body, Message, ReadTicket};
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, ReadId};
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, Instant, Millis, NodeId};

/// One script may not need more messages than this to become quiet.
const DELIVERIES_MAX: usize = 2000;

#[derive(Default)]
struct World {
    configuration: Option<Configuration>,
    nodes: BTreeMap<u64, Node>,
    links: BTreeMap<(u64, u64), VecDeque<Vec<u8>>>,
    cut: BTreeSet<(u64, u64)>,
    message_bytes_max: usize,
    /// Tickets begin at random, so they are shown by the order in which they appear.
    tickets: Vec<ReadTicket>,
    trace: String,
}

struct Node {
    state: State,
    now: Instant,
    starts: u64,
    slow: bool,
    reads: Vec<(String, ReadId)>,
    shown: String,
}

#[allow(clippy::large_enum_variant, reason = "there are few, in a test")]
enum State {
    Up(Raft<DeferredLog, 5>),
    Down(DeferredLog),
}

impl Node {
    fn raft(&mut self) -> &mut Raft<DeferredLog, 5> {
        match &mut self.state {
            State::Up(raft) => raft,
            State::Down(_) => panic!("the node is down"),
        }
    }
}

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

impl World {
    fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = (words[0], &words[1..]);
        let node = || rest[0].parse::<u64>().unwrap();
        match verb {
            "nodes" => self.create(node(), if rest.len() > 1 { 1 } else { 400 }),
            "timeout" => self.timeout(node()),
            "elect" => self.elect(node()),
            "advance" => self.advance(node(), &rest[1..]),
            "propose" => rest[1..].iter().for_each(|word| self.propose(node(), word)),
            "deliver" if rest.is_empty() => self.deliver_all(),
            "deliver" => self.on_link(rest, World::deliver),
            "drop" => self.on_link(rest, |world, link| {
                let bytes = world.links.get_mut(&link).unwrap().pop_front().unwrap();
                let line = world.describe(&bytes);
                world.say(format!("lost: {line}"));
            }),
            "duplicate" => {
                let queue = self.link(rest[0]);
                queue.push_front(queue[0].clone());
            }
            "swap" => self.link(rest[0]).swap(0, 1),
            "partition" => self.partition(rest),
            "heal" => self.cut.clear(),
            "defer" => self.node(node()).raft().storage_mut().deferred = true,
            "room" => self.node(node()).raft().storage_mut().entries_max = rest[1].parse().unwrap(),
            "save" => {
                assert!(self.node(node()).raft().storage_mut().complete(), "no sync is under way");
                self.settle(node());
            }
            "slow" => self.node(node()).slow = true,
            "fast" => {
                self.node(node()).slow = false;
                self.settle(node());
            }
            "crash" => self.crash(node()),
            "restart" => self.restart(node()),
            "read" => self.read(node(), rest[1]),
            "reads" => self.show_reads(node()),
            "state" if rest.is_empty() => (1..=self.nodes.len() as u64).for_each(|node| self.show_state(node)),
            "state" => self.show_state(node()),
            other => panic!("there is no command {other}"),
        }
    }

    fn say(&mut self, line: impl AsRef<str>) {
        writeln!(self.trace, "    {}", line.as_ref()).unwrap();
    }

    fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    fn link(&mut self, link: &str) -> &mut VecDeque<Vec<u8>> {
        let (from, to) = link.split_once('>').unwrap();
        self.links.entry((from.parse().unwrap(), to.parse().unwrap())).or_default()
    }

    fn create(&mut self, nodes: u64, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
        let configuration = voters(ClusterId(1), nodes).unwrap();
        self.configuration = Some(configuration.clone());
        for node in 1..=nodes {
            let log = DeferredLog::new(&configuration);
            let now = Instant(1000 * node);
            let state = self.start(node, log, 0, now);
            let made = Node { state, now, starts: 0, slow: false, reads: Vec::new(), shown: String::new() };
            self.nodes.insert(node, made);
        }
        let created = core::mem::take(&mut self.trace);
        (1..=nodes).for_each(|node| self.settle(node));
        self.trace = created;
    }

    fn start(&self, node: u64, log: DeferredLog, starts: u64, now: Instant) -> State {
        let config = Config {
            election_timeout: Millis(100),
            heartbeat_interval: Millis(10),
            entry_bytes_max: 64,
            message_bytes_max: self.message_bytes_max,
            seed: node * 1000 + starts,
            ..Config::default()
        };
        State::Up(Raft::new(id(node), config, log, now).unwrap())
    }

    fn timeout(&mut self, node: u64) {
        let deadline = self.node(node).raft().deadline();
        self.tick(node, deadline);
    }

    fn elect(&mut self, node: u64) {
        self.timeout(node);
        self.deliver_all();
        self.trace.clear();
        let up = self.nodes.values().filter(|node| matches!(node.state, State::Up(_)));
        let shown: Vec<String> = up.map(|node| node.shown.clone()).collect();
        shown.iter().for_each(|line| self.say(line));
    }

    fn tick(&mut self, node: u64, now: Instant) {
        let this = self.node(node);
        this.now = this.now.max(now);
        this.raft().tick(now).later();
        self.settle(node);
    }

    fn advance(&mut self, millis: u64, nodes: &[&str]) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        let some = nodes.iter().map(|node| node.parse().unwrap()).collect();
        for node in if nodes.is_empty() { all } else { some } {
            let now = self.node(node).now.after(Millis(millis));
            if matches!(self.node(node).state, State::Up(_)) {
                self.tick(node, now);
            }
        }
    }

    fn propose(&mut self, node: u64, word: &str) {
        let this = self.node(node);
        let now = this.now;
        let outcome = this.raft().propose(now, EntryKind::Operation, &[word.as_bytes()]).map(|(id, ready)| {
            ready.later();
            id
        });
        match outcome {
            Ok(entry) => self.say(format!("{node} appends {entry} {word}")),
            Err(error) => self.say(format!("{node} refuses {word}: {error}")),
        }
        self.settle(node);
    }

    fn deliver_all(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            let busy = self.links.iter().find(|(_, queue)| !queue.is_empty()).map(|(&link, _)| link);
            let Some(first) = busy else { return };
            // All that is under way on one link arrives before the next link's turn.
            let count = self.links[&first].len();
            (0..count).for_each(|_| self.deliver(first));
        }
        panic!("the cluster does not become quiet");
    }

    fn on_link(&mut self, words: &[&str], act: fn(&mut World, (u64, u64))) {
        let under_way = self.link(words[0]).len();
        let count = words.get(1).map_or(under_way, |count| count.parse().unwrap());
        assert!(count <= under_way && under_way > 0, "{under_way} messages are under way on {}", words[0]);
        let (from, to) = words[0].split_once('>').unwrap();
        (0..count).for_each(|_| act(self, (from.parse().unwrap(), to.parse().unwrap())));
    }

    fn deliver(&mut self, link: (u64, u64)) {
        let bytes = self.links.get_mut(&link).unwrap().pop_front().unwrap();
        let line = self.describe(&bytes);
        let this = self.nodes.get_mut(&link.1).unwrap();
        let State::Up(raft) = &mut this.state else { return self.say(format!("to a dead node: {line}")) };
        let message = Message::decode(&bytes).unwrap();
        let error = raft.step(this.now, &message).map(|ready| ready.later()).err();
        self.say(line);
        if let Some(error) = error {
            self.say(format!("{} ignores it: {error}", link.1));
        }
        self.settle(link.1);
    }

    fn partition(&mut self, words: &[&str]) {
        let groups: Vec<&[&str]> = words.split(|&word| word == "/").collect();
        for (this, group) in groups.iter().enumerate() {
            for others in groups.iter().enumerate().filter(|&(other, _)| other != this).map(|(_, others)| others) {
                let pairs = group.iter().flat_map(|from| others.iter().map(move |to| (from, to)));
                self.cut.extend(pairs.map(|(from, to)| (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap())));
            }
        }
        let cut = &self.cut;
        self.links.retain(|link, _| !cut.contains(link));
    }

    fn crash(&mut self, node: u64) {
        let this = self.node(node);
        let mut log = this.raft().storage().clone();
        let lost = log.unsaved();
        log.crash(0);
        log.deferred = false;
        this.state = State::Down(log);
        this.reads.clear();
        this.shown.clear();
        self.say(format!("{node} loses {lost} unsaved changes"));
    }

    fn restart(&mut self, node: u64) {
        let this = self.node(node);
        this.starts += 1;
        let (starts, now) = (this.starts, this.now);
        let State::Down(log) = &this.state else { panic!("the node is up") };
        let log = log.clone();
        self.node(node).state = self.start(node, log, starts, now);
        self.settle(node);
    }

    fn read(&mut self, node: u64, name: &str) {
        let this = self.node(node);
        let now = this.now;
        let outcome = this.raft().read(now).map(|(read, ready)| {
            ready.later();
            read
        });
        match outcome {
            Ok(read) => {
                this.reads.push((name.to_owned(), read));
                self.settle(node);
                let state = self.node(node).raft().read_state(read);
                self.say(format!("{node} read {name}: {state:?}"));
            }
            Err(error) => self.say(format!("{node} refuses read {name}: {error}")),
        }
    }

    fn show_reads(&mut self, node: u64) {
        let this = self.node(node);
        for (name, read) in this.reads.clone() {
            let state = self.node(node).raft().read_state(read);
            self.say(format!("{node} read {name}: {state:?}"));
        }
    }

    fn show_state(&mut self, node: u64) {
        let State::Up(raft) = &mut self.node(node).state else { return self.say(format!("{node} is down")) };
        let status = raft.status();
        let log: Vec<String> = raft.storage().ids().map(|entry| entry.to_string()).collect();
        let line = format!("{node} {:?} of term {}, saved {}", status.role, status.term, status.saved);
        let line = format!("{line}, commit {}, applied {}, log {}", status.commit, status.applied, log.join(" "));
        self.say(line);
    }

    /// Does all a driver does after an input, until there is nothing left.
    fn settle(&mut self, node: u64) {
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
            self.apply(node);
            if before == after {
                return;
            }
        }
    }

    fn send(&mut self, from: u64) {
        for to in 1..=self.nodes.len() as u64 {
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
            let (entries, last) = (entries(&records), records.last().index);
            self.say(format!("{node} applies {entries}"));
            self.node(node).raft().applied(last).later();
        }
        self.send(node);
    }

    fn show_change(&mut self, node: u64) {
        let raft = self.node(node).raft();
        let leader = raft.leader().filter(|&leader| leader.get() != node).map(|leader| format!(" of {leader}"));
        let (role, term, commit) = (raft.role(), raft.term(), raft.commit());
        let line = format!("{node} is {role:?}{}, term {term}, commit {commit}", leader.unwrap_or_default());
        if self.node(node).shown != line {
            self.say(&line);
            self.node(node).shown = line;
        }
    }

    fn ticket(&mut self, ticket: ReadTicket) -> String {
        let known = self.tickets.iter().position(|&known| known == ticket);
        let number = known.unwrap_or_else(|| {
            self.tickets.push(ticket);
            self.tickets.len() - 1
        });
        format!("#{}", number + 1)
    }

    fn describe(&mut self, bytes: &[u8]) -> String {
        let Message { from, to, term, body } = Message::decode(bytes).unwrap();
        let yes = |granted: bool| if granted { "yes" } else { "no" };
        let body = match body {
            Body::PreVote { last } => format!("PreVote, last {last}"),
            Body::PreVoteReply { granted } => format!("PreVoteReply: {}", yes(granted)),
            Body::Vote { last, .. } => format!("Vote, last {last}"),
            Body::VoteReply { granted } => format!("VoteReply: {}", yes(granted)),
            Body::Append { previous, commit, round, entries: records } => {
                format!("Append after {previous}: {}; commit {commit}, round {}", entries(&records), round.0)
            }
            Body::AppendReply { round, matched, rejected } => {
                let rejected = rejected.map(|it| format!(", rejected after {}, try {}", it.previous, it.hint));
                format!("AppendReply: matched {matched}, round {}{}", round.0, rejected.unwrap_or_default())
            }
            Body::ReadRequest { ticket } => format!("ReadRequest {}", self.ticket(ticket)),
            Body::ReadReply { ticket, index } => format!("ReadReply {}: index {index}", self.ticket(ticket)),
            other => format!("{other:?}"),
        };
        format!("{from}>{to} term {term} {body}")
    }
}

fn entries(records: &Records<'_>) -> String {
    let show = |entry: Entry<'_>| match entry.header.kind {
        EntryKind::Operation => format!("{} {}", entry.header.id(), String::from_utf8_lossy(entry.payload)),
        kind => format!("{} {kind:?}", entry.header.id()),
    };
    let shown: Vec<String> = records.iter().map(show).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// What the file should be: its comments and commands, each with what the nodes do now.
fn replay(script: &str) -> String {
    let (mut world, mut lines) = (World::default(), String::new());
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(lines, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            println!("{line}");
            world.run(line);
            print!("{}", world.trace);
            lines.push_str(&core::mem::take(&mut world.trace));
        }
    }
    lines
}

#[test]
fn every_script_goes_as_it_is_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut different = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        println!("script {name}");
        let script = std::fs::read_to_string(&path).unwrap();
        assert!(script.starts_with("# "), "{name} says on top what it shows");
        let now = replay(&script);
        if now != script && std::env::var_os("REWRITE").is_some() {
            std::fs::write(&path, &now).unwrap();
        } else if now != script {
            let line = now.lines().zip(script.lines()).take_while(|(now, script)| now == script).count();
            let (is, was) = (now.lines().nth(line), script.lines().nth(line));
            different.push(format!("{name}:{}: is {is:?}, was {was:?}", line + 1));
        }
    }
    assert!(different.is_empty(), "run with REWRITE=1 and look at the difference:\n{}", different.join("\n"));
}
