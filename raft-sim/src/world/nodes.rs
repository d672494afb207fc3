//! Nodes' processes: how they start, are turned, and end.

use std::fmt::Write;

use raft_core::client::protocol::RoleName;
use raft_core::raft::config::Config;
use raft_core::raft::event::{Event, Expulsion};
use raft_core::replica::PollError;
use raft_core::types::NodeId;
use raft_node::Stopped;
use raft_storage_file::simulated::Fate;

use super::{Due, MILLI, World};
use crate::node::{CannotStart, Hearing, Node, State};
use crate::violation::Violation;
use crate::workload::Workload;

impl<W: Workload> World<W> {
    /// Starts the process of a node, if there is none.
    pub(super) fn start(&mut self, place: usize) -> Result<(), Violation> {
        let (now, seed) = (self.now, self.random.bits() | 1);
        let (first, machine) = (self.first.clone(), self.workload.machine());
        let id = self.nodes_mut(place).id;
        let raft = Config { seed, ..self.options.raft_of(id) };
        let segment_bytes = self.options.segment_bytes;
        let supervised = self.options.processes.supervised;
        let node = self.nodes_mut(place);
        let stays_away = node.taken_away || (node.gone && supervised == 0);
        if stays_away || !matches!(node.state, State::Down) {
            return Ok(());
        }
        let started = node.start(now, raft, &first, segment_bytes, machine);
        let (id, lives) = (node.id, node.lives);
        self.trace.note(now, &[1, id.get(), lives], |line| write!(line, "node {id} starts"));
        match started {
            Ok(()) => {
                self.copy_disk(place);
                self.judge_start(place)?;
                self.wake(place);
                self.plan_kill(place);
                Ok(())
            }
            Err(error) => self.could_not_start(place, &error),
        }
    }

    /// Somebody makes a copy of the node's files now and then, and may bring it back one day.
    fn copy_disk(&mut self, place: usize) {
        if self.options.processes.restored > 0 && self.random.chance(500_000) {
            let node = self.nodes_mut(place);
            node.old_disk = Some(node.disk.after_power_loss(|_| Fate::Lost));
        }
    }

    fn could_not_start(&mut self, place: usize, error: &CannotStart) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes_mut(place);
        let (id, tampered, may_stop) = (node.id, node.tampered, node.may_stop);
        self.trace.say(now, &format!("node {id} cannot start: {error}"));
        if tampered {
            // It is refused for good, as it should be: an operator replaces it.
            self.coverage.count("storage", "refused at start");
            self.settle_as(place, "is refused at its start");
            self.give_up(place);
            return Ok(());
        }
        if may_stop {
            // A call failed while it started, or the power went. It is tried again.
            self.end_failed(place);
            self.queue.put(now + 100 * MILLI, Due::Start(place));
            return Ok(());
        }
        Err(Violation::CannotStart { node: id, error: error.to_string() })
    }

    /// Takes note of what a node has told.
    pub(super) fn watch(&mut self, place: usize, hearing: &Hearing) {
        let (now, id) = (self.now, self.nodes_mut(place).id);
        for event in &hearing.events {
            self.trace.say(now, &format!("node {id}: {event:?}"));
            self.coverage.event(event);
            if matches!(event, Event::BecameLeader { .. }) {
                self.doubt_older_leaders(place);
            }
        }
        for (from, error) in &hearing.ignored {
            self.trace.say(now, &format!("node {id} ignores a message of {from}: {error}"));
            self.coverage.count("message", "ignored");
        }
    }

    /// A process has ended by itself.
    pub(super) fn stopped(
        &mut self,
        place: usize,
        stopped: &Stopped<raft_storage_file::StorageError, std::convert::Infallible>,
    ) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes_mut(place);
        let (id, may_stop, tampered) = (node.id, node.may_stop, node.tampered);
        self.trace.say(now, &format!("node {id} has ended: {stopped:?}"));
        match stopped {
            Stopped::Expelled(expulsion) => {
                self.coverage.count("member", "told that it is none");
                // While it is there to be asked: it may be the last one that is up, and those that know better be down.
                let member = self.latest_configuration().member(id).is_some() && !self.is_known_without(id, expulsion);
                self.nodes_mut(place).end_process();
                self.nodes_mut(place).expelled_for = Some(*expulsion);
                self.settle_as(place, "is told that it is no member");
                self.give_up(place);
                self.was_told(place, expulsion);
                self.judge.expelled(id, tampered, member)
            }
            Stopped::Replica(PollError::Diverged { .. } | PollError::UnknownOperation { .. }) => {
                Err(Violation::Stopped { node: id, error: format!("{stopped:?}") })
            }
            Stopped::Replica(_) if may_stop => {
                self.coverage.count("storage", "stopped by an error");
                self.end_failed(place);
                self.start_later(place);
                Ok(())
            }
            Stopped::Replica(_) if tampered => {
                // What cannot be read now may be read at a start, or be refused there.
                self.coverage.count("storage", "stopped by decay");
                self.nodes_mut(place).end_process();
                self.start_later(place);
                Ok(())
            }
            _ => Err(Violation::Stopped { node: id, error: format!("{stopped:?}") }),
        }
    }

    /// Whether the entry that is said to have removed a node is known to some node, up or down, and does so.
    fn is_known_without(&self, id: NodeId, expulsion: &Expulsion) -> bool {
        let Expulsion::Removed { by } = expulsion else { return false };
        let known = self.nodes.iter().flat_map(|node| &node.configurations);
        known.filter(|(entry, _)| entry == by).any(|(_, configuration)| configuration.member(id).is_none())
    }

    /// A process that ended is started again before long; at once when the faults are over, for it may be one that is needed:
    /// a node that was told to stop just before does so yet.
    pub(super) fn start_later(&mut self, place: usize) {
        let most = if self.faulty { self.options.processes.down_max_millis.max(1) } else { 1 };
        let after = self.random.between(1, most) * MILLI;
        self.queue.put(self.now + after, Due::Start(place));
    }

    pub(super) fn resume(&mut self, place: usize) -> Result<(), Violation> {
        let node = self.nodes_mut(place);
        if let State::Paused(_) = node.state
            && let State::Paused(process) = core::mem::replace(&mut node.state, State::Down)
        {
            node.state = State::Up(process);
            self.wake(place);
        }
        Ok(())
    }

    /// The nodes that lead, or believe so.
    pub(super) fn leaders(&self) -> impl Iterator<Item = usize> + '_ {
        let leads = |node: &Node<W::Machine>| {
            node.process().is_some_and(|process| process.replica().raft().role() == RoleName::Leader)
        };
        (0..self.nodes.len()).filter(move |place| self.nodes.get(*place).is_some_and(leads))
    }
}
