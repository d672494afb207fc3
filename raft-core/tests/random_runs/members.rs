//! Changing the members and handing leadership over, at random; and disks that are wiped.

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Member, Suffrage};

use super::common::DeferredLog;
use super::world::{NODES_MAX, State, World, id};

impl World {
    fn some_leader(&mut self) -> Option<u64> {
        let leaders: Vec<u64> = (1..=self.size())
            .filter(|&node| self.node(node).is_some_and(|replica| replica.raft().role() == RoleName::Leader))
            .collect();
        let chosen = self.random.below(leaders.len().max(1) as u64);
        leaders.get(chosen as usize).copied()
    }

    /// Asks a leader for one to three changes at once.
    pub(crate) fn change_members(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let members: Vec<Member> = self.node(leader).unwrap().configuration().members().to_vec();
        let changes: Vec<MemberChange> =
            (0..1 + self.random.below(3)).filter_map(|_| self.some_change(leader, &members)).collect();
        let clock = self.clock(leader);
        let outcome = self.node(leader).unwrap().change_members(clock, &changes, false);
        match outcome {
            Ok(entry) => {
                self.covered.changes_asked += 1;
                self.note(|| format!("{leader} changes members in {entry}: {changes:?}"));
            }
            Err(_) => self.covered.changes_refused += 1,
        }
    }

    fn some_change(&mut self, leader: u64, members: &[Member]) -> Option<MemberChange> {
        let member = members.get(self.random.below(members.len().max(1) as u64) as usize)?;
        let voters = members.iter().filter(|member| member.votes()).count();
        if self.wiped.is_some() {
            return self
                .wiped
                .filter(|&node| members.iter().any(|m| m.id == id(node)))
                .map(|node| MemberChange::Remove(id(node)));
        }
        // The voters that can lead must be a majority by themselves: a witness may be the only one
        // to have an entry that is not committed, and then it votes for none of them.
        let may_be_witness = voters > 2 && self.witnesses.is_empty();
        let least = 2 + self.witnesses.len();
        Some(match self.random.below(8) {
            0..3 if self.size() < NODES_MAX && members.len() < 7 => MemberChange::Add(self.new_member(may_be_witness)?),
            3 => MemberChange::Promote(member.id),
            4 if voters > least => MemberChange::Demote(member.id),
            5 if voters > least => MemberChange::Remove(member.id),
            6 if voters > least => MemberChange::Remove(id(leader)),
            _ => MemberChange::Prioritize { id: member.id, priority: self.random.below(3) as u8 },
        })
    }

    /// A node that was made and is no member yet, or one that is made now.
    fn new_member(&mut self, may_be_witness: bool) -> Option<Member> {
        let witness = may_be_witness && self.random.chance(300);
        let suffrage = match self.random.below(2) {
            _ if witness => Suffrage::Witness,
            0 => Suffrage::Learner,
            _ => Suffrage::Joining,
        };
        self.add_node();
        let node = self.size();
        if witness {
            self.witnesses.insert(node);
        }
        Member::new(id(node), suffrage, "").ok()
    }

    pub(crate) fn transfer(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let to = 1 + self.random.below(self.size());
        let to = self.random.chance(700).then_some(id(to));
        let clock = self.clock(leader);
        match self.node(leader).unwrap().transfer(clock, to) {
            Ok(()) => self.covered.transfers_asked += 1,
            Err(_) => self.covered.transfers_refused += 1,
        }
        self.note(|| format!("{leader} is asked to hand over to {to:?}"));
    }

    /// A disk is wiped, and the node comes back with a new one under the same id. The transport
    /// refuses it, as it has another incarnation. From then on nothing is changed but that it goes,
    /// or there might be no quorum left.
    pub(crate) fn wipe(&mut self) {
        let node = 1 + self.random.below(self.size());
        let Some(leader) = self.some_leader().filter(|&leader| leader != node) else { return };
        let replica = self.node(leader).unwrap();
        let settled = replica.raft().commit() >= replica.raft().configuration_entry().index;
        let members = replica.configuration().members().to_vec();
        let votes = members.iter().filter(|member| member.votes()).count();
        let joint = replica.configuration().is_joint();
        // A witness that is new does not vote before it has an entry: with it, two would be missing.
        if self.wiped.is_some()
            || !self.witnesses.is_empty()
            || votes < 3
            || joint
            || !settled
            || !members.iter().any(|m| m.id == id(node))
        {
            return;
        }
        self.crash(node);
        self.nodes[node as usize - 1] = State::Down(DeferredLog::blank());
        self.wiped = Some(node);
        self.flights.retain(|_, (_, to, _)| *to != node);
        self.covered.wipes += 1;
        self.note(|| format!("the disk of {node} is wiped"));
    }
}
