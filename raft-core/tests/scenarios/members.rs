//! Commands that change who the members are, and who leads them.

use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Lease, Member, Suffrage};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, Instant, Millis};

use crate::common::DeferredLog;
use crate::world::{Node, World, id};

fn member(words: &[&str]) -> Member {
    let suffrage = match words.get(1) {
        None => Suffrage::Joining,
        Some(&"learner") => Suffrage::Learner,
        Some(&"witness") => Suffrage::Witness,
        Some(&"voter") => Suffrage::Voter,
        Some(other) => panic!("nobody is added as {other}"),
    };
    Member::new(id(words[0].parse().unwrap()), suffrage, "").unwrap()
}

fn change(words: &[&str]) -> MemberChange {
    let node = || id(words[1].parse().unwrap());
    match words[0] {
        "add" => MemberChange::Add(member(&words[1..])),
        "remove" => MemberChange::Remove(node()),
        "promote" => MemberChange::Promote(node()),
        "demote" => MemberChange::Demote(node()),
        "priority" => MemberChange::Prioritize { id: node(), priority: words[2].parse().unwrap() },
        other => panic!("there is no change {other}"),
    }
}

impl World {
    pub(crate) fn create(&mut self, nodes: u64, options: &[&str]) {
        let mut members: Vec<Member> = (1..=nodes).map(|node| Member::voter(id(node), "").unwrap()).collect();
        let (mut options, mut lease) = (options.iter(), None);
        while let Some(&option) = options.next() {
            let mut number = || options.next().unwrap().parse::<u64>().unwrap();
            match option {
                "one-by-one" => self.config.message_bytes_max = 1,
                "lease" => lease = Some(Lease { duration: Millis(number()), drift_per_mille: 0 }),
                "witness" => members[number() as usize - 1].suffrage = Suffrage::Witness,
                "learner" => members[number() as usize - 1].suffrage = Suffrage::Learner,
                "priority" => {
                    let member = number() as usize - 1;
                    members[member].priority = number() as u8;
                }
                other => panic!("there is no option {other}"),
            }
        }
        let configuration = Configuration::new(ClusterId(1), SessionLimits::default(), members).unwrap();
        let configuration = match lease {
            Some(lease) => configuration.with_lease(lease).unwrap(),
            None => configuration,
        };
        self.configuration = Some(configuration.clone());
        for node in 1..=nodes {
            let now = Instant(1000 * node);
            let state = self.start(node, DeferredLog::new(&configuration), 0, now);
            self.nodes.insert(node, Node::new(state, now));
        }
        let created = core::mem::take(&mut self.trace);
        (1..=nodes).for_each(|node| self.settle(node));
        self.trace = created;
    }

    pub(crate) fn change(&mut self, node: u64, words: &[&str]) {
        let force = words.first() == Some(&"force");
        let all = words[usize::from(force)..].join(" ");
        let each = all.split(',').map(|one| change(&one.split_whitespace().collect::<Vec<_>>()));
        let changes: Vec<MemberChange> = each.collect();
        let this = self.node(node);
        let now = this.now;
        let outcome = this.raft().change_members(now, &changes, force).map(|(_, ready)| ready.later());
        if let Err(error) = outcome {
            self.say(format!("{node} refuses: {error}"));
        }
        self.settle(node);
    }

    pub(crate) fn transfer(&mut self, node: u64, to: Option<u64>) {
        let this = self.node(node);
        let now = this.now;
        match this.raft().transfer(now, to.map(id)).map(|ready| ready.later()) {
            Ok(()) => {
                let to = self.node(node).raft().status().transfer.unwrap();
                self.say(format!("{node} hands over to {to}"));
            }
            Err(error) => self.say(format!("{node} refuses: {error}")),
        }
        self.settle(node);
    }
}
