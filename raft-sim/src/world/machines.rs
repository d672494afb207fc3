//! What happens to machines and their processes: power, kills, pauses, stops, clocks, and names that two claim.

use raft_core::types::Incarnation;
use raft_storage_file::Identity;

use super::faults::UNTIL_A_START;
use super::{Due, MILLI, World};
use crate::network::Place;
use crate::node::State;
use crate::thread::NodeClock;
use crate::workload::Workload;

/// After so long it is seen what came of a second node under one id.
const IMPOSTOR_MILLIS: u64 = 500;

impl<W: Workload> World<W> {
    pub(super) fn crash_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "power loss", UNTIL_A_START);
        if self.random.chance(500_000) {
            // The power goes in the midst of a turn, at one of the next calls to the disk.
            let calls = usize::try_from(self.random.below(12)).unwrap_or(0);
            let node = self.nodes_mut(place);
            node.may_stop = true;
            node.disk.power_off_in(calls);
            return;
        }
        self.lose_power(place);
        self.start_later(place);
    }

    pub(super) fn kill_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.end_by_kill(place);
    }

    pub(super) fn end_by_kill(&mut self, place: usize) {
        self.meets(place, "kill", UNTIL_A_START);
        self.nodes_mut(place).end_process();
        self.break_links(place);
        self.start_later(place);
    }

    /// The system closes the connections of a process that was killed, which most of the others see at once.
    fn break_links(&mut self, place: usize) {
        let id = self.nodes_mut(place).id;
        for other in 0..self.nodes.len() {
            let to = Place::Node(self.nodes_mut(other).id.get());
            let runs = other != place && self.nodes_mut(other).process().is_some();
            if runs && !self.links.is_cut(Place::Node(id.get()), to) && self.random.chance(900_000) {
                self.nodes_mut(other).post.borrow_mut().ended.insert(id);
                self.wake(other);
            }
        }
    }

    pub(super) fn blackout(&mut self) {
        self.coverage.count("blackout", "all nodes");
        self.trace.say(self.now, "the power of all nodes is gone");
        for place in 0..self.nodes.len() {
            if self.nodes_mut(place).process().is_some() {
                self.lose_power(place);
                self.start_later(place);
            }
        }
    }

    pub(super) fn pause_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        let after = self.random.between(1, self.options.processes.pause_max_millis.max(1)) * MILLI;
        self.meets(place, "pause", self.now + after);
        let node = self.nodes_mut(place);
        if let State::Up(process) = core::mem::replace(&mut node.state, State::Down) {
            node.state = State::Paused(process);
        }
        self.queue.put(self.now + after, Due::Resume(place));
    }

    pub(super) fn stop_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "stop", UNTIL_A_START);
        let node = self.nodes_mut(place);
        node.stopping = true;
        node.hand(raft_node::Handle::stop);
        self.wake(place);
    }

    pub(super) fn jump_clock(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "clock jump", self.now);
        let millis = self.random.between(1, self.options.clocks.jump_max_millis.max(1));
        let thread = &self.nodes_mut(place).thread;
        let mut clock = thread.clock.get();
        clock.jump(millis);
        thread.clock.set(clock);
        self.wake(place);
    }

    /// A second machine claims the id of a node, with an empty disk.
    pub(super) fn impostor(&mut self) {
        let Some(place) = self.pick_up() else { return };
        if self.nodes.len() > 30 {
            return;
        }
        self.meets(place, "impostor", self.now + IMPOSTOR_MILLIS * MILLI);
        let identity =
            Identity { incarnation: Incarnation(u128::from(self.random.bits())), ..self.nodes_mut(place).identity };
        let configuration = self.latest_configuration();
        let other = self.nodes.len();
        let clock = NodeClock::new(1_000_000, self.random.below(100_000_000));
        let mut node = crate::node::Node::new(identity, self.random.fork(), clock, Some(configuration));
        node.tampered = true;
        self.nodes.push(node);
        self.queue.put(self.now, Due::Start(other));
    }
}
