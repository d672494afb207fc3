//! The commands of a script, but for those on members and disks.

use std::collections::VecDeque;

use raft_core::entry::EntryKind;
use raft_core::storage::Storage;
use raft_core::types::{Index, Millis};

use crate::describe;
use crate::world::{State, World, id};

impl World {
    pub(crate) fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = (words[0], &words[1..]);
        let node = || rest[0].parse::<u64>().unwrap();
        let second = || rest.get(1).map(|word| word.parse::<u64>().unwrap());
        match verb {
            "with" => self.set(rest[0], second().unwrap()),
            "nodes" => self.create(node(), &rest[1..]),
            "join" => self.join(node()),
            "timeout" => self.timeout(node()),
            "elect" => self.elect(node()),
            "advance" => self.advance(node(), &rest[1..]),
            "sleep" => {
                let this = self.node(second().unwrap());
                this.now = this.now.after(Millis(rest[0].parse().unwrap()));
            }
            "propose" => rest[1..].iter().for_each(|word| self.propose(node(), word)),
            "change" => self.change(node(), &rest[1..]),
            "transfer" => self.transfer(node(), second()),
            "snapshot" => self.snapshot(node(), rest.get(1) == Some(&"terms")),
            "compact" => self.compact(node(), second()),
            "crash" => self.crash(node(), second().unwrap_or(0) as usize),
            "copy" => self.copy(node()),
            "roll-back" => self.roll_back(node()),
            "wipe" => self.wipe(node()),
            "restart" => {
                assert!(rest.get(1).is_none_or(|word| *word == "suspect"), "restart N [suspect INDEX]");
                self.restart(node(), rest.get(2).map(|index| Index(index.parse().unwrap())));
            }
            "read" => self.read(node(), rest[1], rest.get(2) == Some(&"lease")),
            "reads" => self.show_reads(node()),
            "events" => self.show_events(node()),
            "followers" => self.show_followers(node()),
            "machine" => {
                let words = self.node(node()).machine.join(" ");
                self.say(format!("{} has applied {}", node(), if words.is_empty() { "nothing" } else { &words }));
            }
            "state" if rest.is_empty() => {
                let all: Vec<u64> = self.nodes.keys().copied().collect();
                all.into_iter().for_each(|node| self.show_state(node));
            }
            "state" => self.show_state(node()),
            _ => self.run_on_links(verb, rest),
        }
    }

    /// The commands on links and on the pace of disks and machines.
    fn run_on_links(&mut self, verb: &str, rest: &[&str]) {
        let node = || rest[0].parse::<u64>().unwrap();
        match verb {
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
            "damage" => self.damage(rest[0]),
            "partition" => self.partition(rest),
            "block" => rest.iter().for_each(|link| {
                let link = ends(link);
                self.links.remove(&link);
                self.cut.insert(link);
            }),
            "heal" => self.cut.clear(),
            "link-down" => self.link_down(rest[0]),
            "defer" => self.node(node()).raft().storage_mut().deferred = true,
            "room" => self.node(node()).raft().storage_mut().entries_max = rest[1].parse().unwrap(),
            "draft-room" => self.node(node()).raft().storage_mut().draft_bytes_max = rest[1].parse().unwrap(),
            "save" => {
                assert!(self.node(node()).raft().storage_mut().complete(), "no sync is under way");
                self.settle(node());
            }
            "slow" => self.node(node()).slow = true,
            "fast" => {
                self.node(node()).slow = false;
                self.settle(node());
            }
            other => panic!("there is no command {other}"),
        }
    }

    fn set(&mut self, name: &str, number: u64) {
        let config = &mut self.config;
        match name {
            "message_bytes_max" => config.message_bytes_max = number as usize,
            "inflight_entries_max" => config.inflight_entries_max = number,
            "inflight_bytes_max" => config.inflight_bytes_max = number,
            "uncommitted_entries_max" => config.uncommitted_entries_max = number,
            "uncommitted_bytes_max" => config.uncommitted_bytes_max = number,
            "snapshot_inflight_bytes_max" => config.snapshot_inflight_bytes_max = number,
            "disk_stall_max" => config.disk_stall_max = Millis(number),
            other => panic!("there is no setting {other}"),
        }
    }

    pub(crate) fn link(&mut self, link: &str) -> &mut VecDeque<Vec<u8>> {
        self.links.entry(ends(link)).or_default()
    }

    /// Of a link `from>to`, the receiver sees that the sender's end was closed.
    fn link_down(&mut self, link: &str) {
        let (from, to) = ends(link);
        let this = self.node(to);
        let now = this.now;
        let raft = this.raft();
        raft.link_down(now, id(from)).later();
        let wait = raft.deadline().since(now);
        self.say(format!("{to} looks at the clock again in {} ms", wait.0));
        self.settle(to);
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

    fn on_link(&mut self, words: &[&str], act: fn(&mut World, (u64, u64))) {
        let under_way = self.link(words[0]).len();
        let count = words.get(1).map_or(under_way, |count| count.parse().unwrap());
        assert!(count <= under_way && under_way > 0, "{under_way} messages are under way on {}", words[0]);
        (0..count).for_each(|_| act(self, ends(words[0])));
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

    fn read(&mut self, node: u64, name: &str, lease: bool) {
        let this = self.node(node);
        let now = this.now;
        let raft = this.raft();
        let begun = if lease { raft.read_by_lease(now) } else { raft.read(now) };
        let outcome = begun.map(|(read, ready)| {
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

    fn show_events(&mut self, node: u64) {
        while let Some((_, event)) = self.node(node).raft().event() {
            self.say(format!("{node}: {}", describe::event(event)));
        }
    }

    fn show_followers(&mut self, node: u64) {
        for peer in self.node(node).raft().status().followers {
            let replication = describe::replication(peer.replication);
            self.say(format!("{}: matched {}, next {}, {replication}", peer.id, peer.matched, peer.next));
        }
    }

    fn show_state(&mut self, node: u64) {
        let State::Up(raft) = &mut self.node(node).state else { return self.say(format!("{node} is down")) };
        let status = raft.status();
        let log: Vec<String> = raft.storage().ids().map(|entry| entry.to_string()).collect();
        let base = raft.storage().base();
        let base = if base.index > Index::ZERO { format!("({base}) ") } else { String::new() };
        let line = format!("{node} {:?} of term {}, saved {}", status.role, status.term, status.saved);
        let line = format!("{line}, commit {}, applied {}, log {base}{}", status.commit, status.applied, log.join(" "));
        self.say(line.trim_end());
    }
}

/// The two ends of a link.
fn ends(link: &str) -> (u64, u64) {
    let (from, to) = link.split_once('>').unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
}
