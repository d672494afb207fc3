//! What operators do: members, leadership, snapshots.

use raft_core::client::protocol::{Request, RequestBody, RequestId, encode_changes};
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Member, Suffrage};
use raft_core::types::{Incarnation, NodeId};
use raft_core::wire::Bytes;
use raft_storage_file::Identity;

use super::clients::Sender;
use super::{CLUSTER, World};
use crate::connections::address;
use crate::workload::Workload;

/// The most nodes there ever are.
const IDS_MAX: u64 = 24;
/// The most members at a time.
const MEMBERS_MAX: usize = 7;

impl<W: Workload> World<W> {
    /// Asks the leader, if there is one, for another set of members.
    pub(super) fn change_members(&mut self) {
        let leaders: Vec<usize> = self.leaders().filter(|place| self.is_up(*place)).collect();
        let Some(place) = self.random.pick(&leaders).copied() else { return };
        let Some(configuration) =
            self.nodes_mut(place).process().map(|process| process.replica().configuration().clone())
        else {
            return;
        };
        let mut changes = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            changes.extend(self.some_change(&configuration));
        }
        if changes.is_empty() {
            return;
        }
        let force = self.random.chance(100_000);
        self.coverage.count("members", "asked for a change");
        self.trace.say(self.now, &format!("asks for {changes:?}, forced: {force}"));
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let changes = encode_changes(&changes, &mut buffer).expect("three changes are short enough");
        self.order(place, RequestBody::Change { changes: Bytes(changes), force });
    }

    /// A change that makes sense, or hardly any.
    fn some_change(&mut self, configuration: &Configuration) -> Option<MemberChange> {
        let members: Vec<Member> = configuration.members().to_vec();
        // Those that cannot come back are replaced.
        let dead: Vec<NodeId> = members
            .iter()
            .map(|member| member.id)
            .filter(|id| self.nodes.iter().any(|node| node.id == *id && (node.tampered || node.is_gone())))
            .collect();
        if let Some(id) = self.random.pick(&dead) {
            return Some(MemberChange::Remove(*id));
        }
        if let Some(again) = self.some_former_member(configuration) {
            return Some(MemberChange::Add(again));
        }
        let some = self.random.pick(&members)?.clone();
        match self.random.below(10) {
            0..=4 if members.len() < MEMBERS_MAX && self.ids < IDS_MAX => {
                Some(MemberChange::Add(self.new_member(configuration)))
            }
            0..=6 if members.len() > 1 => Some(MemberChange::Remove(some.id)),
            7 if some.votes() => Some(MemberChange::Demote(some.id)),
            7 => Some(MemberChange::Promote(some.id)),
            8 => Some(MemberChange::Prioritize {
                id: some.id,
                priority: u8::try_from(self.random.below(3)).unwrap_or(0),
            }),
            _ => Some(MemberChange::Promote(some.id)),
        }
    }

    /// A new machine, to be added; it starts at once, and waits for somebody to speak to it.
    fn new_member(&mut self, configuration: &Configuration) -> Member {
        self.ids += 1;
        let id = NodeId::new(self.ids).expect("ids begin at 1");
        let incarnation = Incarnation(u128::from(self.random.bits()));
        let identity = Identity { cluster: CLUSTER, node: id, incarnation };
        self.add_node(identity, Some(configuration.clone()));
        for caller in &mut self.clients {
            caller.client.learn(id);
        }
        self.engines_learn(id);
        let suffrage = match self.random.below(10) {
            0..=1 => Suffrage::Learner,
            2..=3 => Suffrage::JoiningWitness,
            _ => Suffrage::Joining,
        };
        let incarnation = self.random.chance(500_000).then_some(incarnation);
        Member { incarnation, ..Member::new(id, suffrage, &address(id)).expect("addresses are short enough") }
    }

    /// A node that was a member once, with the storage it has had all the time: a supervisor starts it again and again, and now it
    /// is to be one again.
    fn some_former_member(&mut self, configuration: &Configuration) -> Option<Member> {
        if self.options.processes.supervised == 0 || configuration.members().len() >= MEMBERS_MAX {
            return None;
        }
        let former = |(place, node): &(usize, &crate::node::Node<W::Machine>)| {
            let (member, whole) = (configuration.member(node.id), !node.tampered && !node.taken_away);
            member.is_none() && whole && node.lives > 0 && !self.judge.is_without_state(*place)
        };
        let former: Vec<Identity> =
            self.nodes.iter().enumerate().filter(former).map(|(_, node)| node.identity).collect();
        let identity = self.random.pick(&former).copied().filter(|_| self.random.chance(300_000))?;
        let suffrage = if self.random.chance(700_000) { Suffrage::Joining } else { Suffrage::Learner };
        let incarnation = self.random.chance(500_000).then_some(identity.incarnation);
        self.coverage.count("supervisor", "has started one that is added again");
        Some(Member {
            incarnation,
            ..Member::new(identity.node, suffrage, "").expect("an empty address is short enough")
        })
    }

    pub(super) fn transfer(&mut self) {
        let leaders: Vec<usize> = self.leaders().filter(|place| self.is_up(*place)).collect();
        let Some(place) = self.random.pick(&leaders).copied() else { return };
        let to = if self.random.chance(500_000) { NodeId::new(1 + self.random.below(self.ids)) } else { None };
        self.coverage.count("leadership", "asked to be handed over");
        self.trace.say(self.now, &format!("leadership is to be handed over to {to:?}"));
        self.order(place, RequestBody::Transfer { to });
    }

    pub(super) fn make_snapshot(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.coverage.count("snapshot", "asked for");
        self.order(place, RequestBody::Snapshot);
    }

    /// Asks a node, or now and then another one, to do that. What it answers is looked at when the answer leaves.
    fn order(&mut self, place: usize, body: RequestBody<'_>) {
        let to =
            if self.random.chance(100_000) { 1 + self.random.below(self.ids) } else { self.nodes_mut(place).id.get() };
        let (id, forward) = (RequestId(self.random.bits()), self.random.chance(500_000));
        self.send_for_nobody(to, &Request { id, forward, body }, Sender::Operator);
    }
}
