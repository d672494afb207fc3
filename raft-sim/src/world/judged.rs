//! What nodes do, brought before the judge.

use raft_core::client::protocol::{Response, RoleName};
use raft_core::configuration::Configuration;
use raft_core::machine::StateMachine;
use raft_core::raft::event::Event;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Index, Instant, NodeId, Term};
use raft_node::NodeReplica;

use super::World;
use super::heal::is_full;
use crate::check::reads::leases_are_over;
use crate::check::refusals::Standing;
use crate::endpoint::SimNetwork;
use crate::history;
use crate::judge::Life;
use crate::node::Hearing;
use crate::violation::Violation;
use crate::watched::WatchedStorage;
use crate::workload::Workload;

impl<W: Workload> World<W> {
    fn life(&self, place: usize) -> Life {
        let node = self.nodes.get(place).expect("nodes are never taken away from the list");
        Life { node: node.id, storage: node.identity.incarnation, place, number: node.lives, tampered: node.tampered }
    }

    /// A node has started.
    pub(super) fn judge_start(&mut self, place: usize) -> Result<(), Violation> {
        let life = self.life(place);
        // What it was told while it started belongs to what it holds now.
        self.nodes_mut(place).changes.borrow_mut().clear();
        let Some(process) = self.nodes.get(place).and_then(crate::node::Node::process) else { return Ok(()) };
        let standing = standing(process.replica());
        let storage = process.replica().raft().storage();
        let restored = storage.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        let restored = restored.min(process.replica().raft().last_applied());
        self.judge.started(life, storage, restored)?;
        self.nodes_mut(place).standings = (standing, standing);
        Ok(())
    }

    /// A node's loop was turned.
    pub(super) fn judge_turn(&mut self, place: usize, hearing: &mut Hearing) -> Result<(), Violation> {
        let life = self.life(place);
        let node = self.nodes.get(place).expect("nodes are never taken away from the list");
        let changes = core::mem::take(&mut *node.changes.borrow_mut());
        let executions = core::mem::take(&mut *node.executions.borrow_mut());
        let mut post = node.post.borrow_mut();
        if post.taken_damaged > 0 {
            return Err(Violation::DamageTaken { node: life.node, frames: post.taken_damaged });
        }
        self.coverage.add(("packet", "", "found damaged"), post.found_damaged);
        post.found_damaged = 0;
        let before = node.standings.1;
        core::mem::take(&mut post.forwardings).into_iter().for_each(|forwarding| self.judge.passed_on(forwarding));
        drop(post);
        let expelled = self.judge.is_expelled(life);
        let Some(process) = node.process() else { return Ok(()) };
        let after = standing(process.replica());
        let raft = process.replica().raft();
        for change in &changes {
            self.judge.log_changed(life, change)?;
        }
        for event in &hearing.events {
            if let Event::Follows { term, leader } = event {
                self.judge.followed(*term, *leader)?;
            }
            if let Event::BecameLeader { term, start } = event {
                let storage = raft.storage();
                let holds = |entry: EntryId| {
                    entry.index <= storage.base().index || storage.term(entry.index) == Some(entry.term)
                };
                self.judge.elected(life, (*term, *start), holds)?;
            }
        }
        for snapshot in &hearing.restored {
            self.judge.restored(life, snapshot.through.index);
            if self.latest_configuration().member(life.node).is_some_and(|member| !is_full(member.suffrage)) {
                // It was sent a snapshot without a state, before it knew why.
                self.judge.has_no_state(life);
            }
        }
        let mut executions = executions.iter().peekable();
        for (entry, outcome) in hearing.applied.drain(..) {
            let executed = executions.next_if(|execution| execution.index == entry.index);
            self.judge.applied(life, entry, outcome, executed)?;
        }
        let commit = raft.commit();
        if let Some(term) = raft.storage().term(commit) {
            let committed = EntryId::new(term, commit);
            self.judge.committed(life, committed)?;
            if raft.role() == RoleName::Leader {
                self.judge.leader_commits(life, raft.term(), committed)?;
                // A clock that stands still while its machine sleeps keeps no bound.
                let bounded = self.options.clocks.counts_sleep;
                if bounded && raft.term_start().is_some_and(|start| commit >= start) {
                    let older = self.leases_before(raft.term());
                    leases_are_over(life.node, raft.term(), older)?;
                }
            }
        }
        let sessions = process.replica().sessions();
        self.judge.turned(life, raft, &node.raft, sessions)?;
        let expelled = expelled && self.judge.is_expelled(life);
        let node = self.nodes_mut(place);
        node.note_expulsion(expelled);
        node.standings = (before, after);
        let begun = |event: &Event| if let Event::TransferBegan { to, .. } = event { Some(*to) } else { None };
        node.handed_to = hearing.events.iter().filter_map(begun).collect();
        node.changed = hearing.events.iter().any(|event| matches!(event, Event::ConfigurationAppended { .. }));
        Ok(())
    }

    /// A node answers somebody.
    pub(super) fn judge_answer(
        &mut self,
        place: usize,
        client: usize,
        applied: Index,
        response: &Response<'_>,
    ) -> Result<(), Violation> {
        let life = self.life(place);
        let node = self.nodes.get(place).expect("nodes are never taken away from the list");
        let mut known: Vec<&Configuration> = node.configurations.iter().map(|(_, known)| known).collect();
        known.extend(node.process().map(|process| process.replica().configuration()));
        self.judge.answers(client, life, (&node.scene(), applied), &known, response)
    }

    /// Nodes that lead in a term before `term`: when the lease of each ends, and what its clock shows.
    fn leases_before(&self, term: Term) -> impl Iterator<Item = (NodeId, Instant, Instant)> {
        self.nodes.iter().filter_map(move |node| {
            let raft = node.process()?.replica().raft();
            let until = raft.lease_until().filter(|_| raft.term() < term)?;
            Some((node.id, until, node.thread.clock.get().read(self.now)))
        })
    }

    /// The verdict on what clients saw.
    pub(crate) fn verdict(&mut self) -> Result<(), Violation> {
        self.checked = self.judge.finish(&self.workload)?;
        Ok(())
    }

    /// What clients saw, for other checkers.
    pub(crate) fn history(&self) -> Vec<history::Operation> {
        self.judge.history(&self.workload)
    }

    /// Puts what was counted elsewhere to the marks.
    pub(crate) fn count_outcomes(&mut self) {
        for place in 0..self.nodes.len() {
            self.settle_as(place, "stays away");
        }
        for (outcome, times) in &self.judge.outcomes {
            self.coverage.add(("session", "", outcome), *times);
        }
        for (check, times) in &self.judge.checked {
            self.coverage.checked(check, *times);
        }
        let counts = self.links.counts;
        self.coverage.add(("packet", "", "sent"), counts.sent);
        self.coverage.add(("packet", "", "cut"), counts.cut);
        self.coverage.add(("packet", "", "lost"), counts.lost);
        self.coverage.add(("packet", "", "doubled"), counts.doubled);
        self.coverage.add(("packet", "", "replayed"), counts.replayed);
        self.coverage.add(("packet", "", "slow"), counts.slow);
        self.coverage.add(("packet", "", "damaged"), counts.damaged);
    }
}

/// What a node is now.
fn standing<M: StateMachine>(replica: &NodeReplica<WatchedStorage, SimNetwork, M>) -> Standing {
    let raft = replica.raft();
    let leads = raft.role() == RoleName::Leader;
    Standing {
        role: raft.role(),
        term: raft.term(),
        leader: raft.leader(),
        commit: raft.commit(),
        applied: raft.last_applied(),
        last: raft.storage().last().index,
        snapshot: raft.storage().snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index),
        term_start: raft.term_start(),
        transfer: if leads { raft.status().transfer } else { None },
        configuration: raft.configuration_entry().index,
        joint: replica.configuration().is_joint(),
    }
}
