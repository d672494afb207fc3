//! What must hold all the time, and when the faults have ended.

use std::collections::BTreeSet;

use raft_core::client::protocol::RoleName;
use raft_core::configuration::{Configuration, Suffrage};
use raft_core::entry::EntryKind;
use raft_core::machine::StateMachine;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Index};

use super::common::DeferredLog;
use super::told::Told;
use super::world::{State, World, id};

impl World {
    /// Compares what a node applied with what all others did, and its state after that.
    pub(crate) fn check_applied(&mut self, node: u64, told: &Told) {
        let (place, witness) = (node as usize - 1, self.witnesses.contains(&node));
        if let Some(snapshot) = told.restored {
            let through = snapshot.through.index.0 as usize;
            assert!(through > self.applied_by[place], "node {node} restores what it had not applied");
            assert!(through <= self.applied.len(), "node {node} restores what nobody has applied");
            assert_eq!(self.applied[through - 1].0, snapshot.through, "snapshots hold what is committed");
            self.applied_by[place] = through;
        }
        for (entry, outcome) in &told.applied {
            let at = self.applied_by[place];
            assert_eq!(entry.index.0, at as u64 + 1, "node {node} applies every entry once, in order");
            let outcome = (!witness).then(|| outcome.clone());
            match self.applied.get_mut(at) {
                Some((known, known_outcome)) => {
                    assert_eq!(known, entry, "node {node} applies what all others do");
                    match (&known_outcome, outcome) {
                        (Some(known), Some(outcome)) => {
                            assert_eq!(*known, outcome, "node {node}: {entry} has one outcome")
                        }
                        (None, outcome) => *known_outcome = outcome,
                        _ => {}
                    }
                }
                None => self.applied.push((*entry, outcome)),
            }
            self.applied_by[place] = at + 1;
        }
        let applied = self.applied_by[place] as u64;
        if witness || self.decayed == Some(node) || (told.applied.is_empty() && told.restored.is_none()) {
            return;
        }
        let replica = self.node(node).unwrap();
        let state = replica.machine().digest() << 32 | u64::from(replica.sessions().digest());
        let known = *self.states.entry(applied).or_insert(state);
        assert_eq!(known, state, "node {node} has another state after entry {applied}");
    }

    pub(crate) fn check_leader(&mut self, node: u64) {
        let raft = self.node(node).unwrap().raft();
        let term = raft.term();
        if raft.role() != RoleName::Leader {
            return;
        }
        let (base, ids) = (raft.storage().base().index.0, raft.storage().ids().collect::<Vec<EntryId>>());
        let known = self.leaders.insert(term, node);
        assert!(known.is_none_or(|known| known == node), "nodes {known:?} and {node} lead term {term}");
        if known.is_none() {
            let applied = self.applied.iter().skip(base as usize);
            let missing = applied.zip(&ids).find(|((applied, _), held)| applied != *held);
            assert_eq!(missing, None, "the leader of term {term} lacks what was applied");
            assert!(
                self.applied.len() <= base as usize + ids.len(),
                "the leader of term {term} lacks what was applied"
            );
            self.covered.transfers_done += u64::from(self.handing == Some((node, term)));
        }
    }

    /// Takes note of the members that are committed; all nodes agree on them.
    pub(crate) fn check_configuration(&mut self, node: u64) {
        let replica = self.node(node).unwrap();
        let (entry, commit) = (replica.raft().configuration_entry(), replica.raft().commit());
        let configuration = replica.configuration().clone();
        self.committed = self.committed.max(commit.0);
        let stale = self.configurations.contains_key(&entry.index.0);
        if entry.index > commit || entry == EntryId::ZERO {
            return;
        }
        if stale {
            return assert_eq!(self.configurations[&entry.index.0], (entry, configuration), "node {node}'s members");
        }
        self.configurations.insert(entry.index.0, (entry, configuration));
    }

    /// Of two configurations committed one after the other, any two quorums have a member in common.
    pub(crate) fn check_changes(&self) {
        let known = self.configurations.values();
        for ((from, before), (to, after)) in known.clone().zip(known.skip(1)) {
            let between = self.applied[from.index.0 as usize..to.index.0 as usize - 1].iter();
            if !between.clone().any(|(entry, _)| self.changes.contains(entry)) {
                assert!(follows(before, after), "{to}: {after:?} cannot follow {from}: {before:?}");
            }
        }
    }

    pub(crate) fn check_logs(&mut self) {
        if !self.random.chance(50) {
            return;
        }
        let mut logs: Vec<DeferredLog> = Vec::new();
        for state in &self.nodes {
            logs.push(match state {
                State::Up(replica) => replica.raft().storage().clone(),
                State::Down(log) | State::Stopped(log) => log.clone(),
            });
        }
        let ids: Vec<(u64, Vec<EntryId>)> = logs.iter().map(|log| (log.base().index.0, log.ids().collect())).collect();
        for ((base, one), (other_base, other)) in ids.iter().flat_map(|one| ids.iter().map(move |other| (one, other))) {
            let Some(skip) = base.checked_sub(*other_base).map(|skip| skip as usize) else { continue };
            let other = other.get(skip..).unwrap_or_default();
            let agree = one.iter().zip(other).rposition(|(one, other)| one == other).map_or(0, |last| last + 1);
            assert_eq!(one[..agree], other[..agree], "logs that agree on an entry agree on all before it");
        }
        for log in &mut logs {
            let (from, last) = (Index(self.committed.max(log.base().index.0) + 1), log.last().index);
            if from <= last {
                let records = log.read(from, last, usize::MAX).unwrap();
                let changes = records.headers().filter(|header| header.kind == EntryKind::Configuration).count();
                assert!(changes <= 1, "a log holds {changes} configurations that are not committed");
            }
        }
    }

    pub(crate) fn check_executed(&mut self) {
        for node in 1..=self.size() {
            let Some(replica) = self.node(node) else { continue };
            let executed = replica.machine().executed();
            let distinct: BTreeSet<&Vec<u8>> = executed.iter().collect();
            assert_eq!(distinct.len(), executed.len(), "node {node} executed a command twice");
        }
    }

    /// Whether there is a leader whose configuration is committed and final, and all its members are
    /// up to date. One whose state has decayed has stopped, one whose disk was wiped has left.
    pub(crate) fn is_settled(&mut self) -> bool {
        let all: Vec<u64> = (1..=self.size()).collect();
        let leads = |world: &mut World, node| world.node(node).is_some_and(|r| r.raft().role() == RoleName::Leader);
        let Some(leader) = all.iter().copied().find(|&node| leads(self, node)) else { return false };
        let replica = self.node(leader).unwrap();
        let (entry, commit) = (replica.raft().configuration_entry(), replica.raft().commit());
        let configuration = replica.configuration().clone();
        if configuration.is_joint() || entry.index > commit {
            return false;
        }
        let applied = self.applied.len();
        let joining = configuration.members().iter().any(|member| member.suffrage == Suffrage::Joining);
        let stopped = self.decayed.is_none_or(|node| matches!(self.nodes[node as usize - 1], State::Stopped(_)));
        let left = self.wiped.is_none_or(|node| configuration.member(id(node)).is_none());
        let ready = |world: &mut World, node: u64| {
            let up = world
                .node(node)
                .is_some_and(|r| r.raft().configuration_entry() == entry && r.raft().expelled().is_none());
            world.decayed == Some(node) || (up && world.applied_by[node as usize - 1] == applied)
        };
        !joining && stopped && left && configuration.members().iter().all(|member| ready(self, member.id.get()))
    }
}

/// Whether each quorum of one configuration has a member in common with each of the other. A joint
/// one is entered from, and left for, one with the voters of its half.
fn follows(before: &Configuration, after: &Configuration) -> bool {
    let incoming = |of: &Configuration| voters(of, |member| member.votes());
    let outgoing = |of: &Configuration| voters(of, |member| member.outgoing_voter);
    match (before.is_joint(), after.is_joint()) {
        (false, true) => incoming(before) == outgoing(after),
        (true, true) => before == after,
        (_, false) => incoming(before) == incoming(after),
    }
}

fn voters(of: &Configuration, votes: impl Fn(&raft_core::configuration::Member) -> bool) -> BTreeSet<u64> {
    of.members().iter().filter(|member| votes(member)).map(|member| member.id.get()).collect()
}
