//! The end of the faults: a majority is healed for good, everything else stays as it is, and then there must be a leader,
//! progress, and an end to every operation (liveness).

use std::collections::BTreeSet;

use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::types::NodeId;

use super::{Due, MILLI, World};
use crate::network::Place;
use crate::node::{Node, State};
use crate::violation::Violation;
use crate::workload::Workload;

/// After so many election timeouts everything must be well.
const TIMEOUTS_MAX: u64 = 20;
/// After so many if whoever leads may be one that was not healed, over links that go on to lose a part of all packets.
const TIMEOUTS_MAX_FAULTY: u64 = 40;

impl<W: Workload> World<W> {
    /// Ends the faults, and requires that what is left of the cluster does its work.
    ///
    /// # Errors
    /// [`Violation::Stuck`], and whatever else comes to light.
    pub(crate) fn heal_and_finish(&mut self) -> Result<(), Violation> {
        let Some(healed) = self.choose_majority() else {
            // What was taken away for good was more than a majority could spare: nothing is promised then.
            self.coverage.count("healing", "no majority left");
            return Ok(());
        };
        self.faulty = false;
        self.trace.say(self.now, &format!("the faults end; healed for good: {healed:?}"));
        self.coverage.count("healing", "majority");
        let clients = (0..self.clients.len()).map(Place::Client).chain(self.engine_places());
        let safe: Vec<Place> = healed.iter().map(|id| Place::Node(id.get())).chain(clients).collect();
        self.links.make_safe(safe);
        for place in 0..self.nodes.len() {
            if self.nodes.get(place).is_some_and(|node| healed.contains(&node.id) && !node.tampered) {
                self.heal_node(place);
            }
        }
        for number in 0..self.clients.len() {
            self.wake_client(number)?;
        }
        self.wake_engines()?;
        let network = self.options.network;
        if !network.faulty_after {
            self.links.calm_down();
        }
        let timeouts = if network.faulty_after { TIMEOUTS_MAX_FAULTY } else { TIMEOUTS_MAX };
        let patience = timeouts * self.options.raft.election_timeout.0 * MILLI;
        let (began, done) = (self.now, self.judge.done);
        // For a while clients begin new operations, so that there is progress to be made.
        self.run_until(began + patience / 2)?;
        self.open = false;
        let patience = patience + self.engine_patience();
        self.run_until_well(began + patience)?;
        // A table full of sessions that nobody uses any more has room again when they have expired, and not before; a
        // client that was refused waits so long. A packet of long ago may open one more session for nobody meanwhile.
        let limits = self.options.limits;
        let leases = if network.faulty_after && network.replayed > 0 { 2 } else { 1 };
        let expiry = leases * (limits.ttl.0 + limits.time_step_max.0) * MILLI;
        if self.refused_for_room_at.is_some_and(|at| at + expiry > began) {
            self.run_until_well(began + patience + expiry)?;
        }
        if self.nodes.iter().any(|node| healed.contains(&node.id) && node.suspect) {
            self.coverage.count("healing", "suspect log");
            return Ok(());
        }
        self.must_be_well((self.now - began) / MILLI, done)?;
        self.links.calm_down();
        self.run_until_settled(&healed, began, self.now + 2 * patience)
    }

    /// Runs until there is a leader and nothing is awaited, or until the end.
    fn run_until_well(&mut self, end: u64) -> Result<(), Violation> {
        while self.now < end && (self.awaited() > 0 || !self.is_led()) {
            self.run_until((self.now + 10 * MILLI).min(end))?;
        }
        Ok(())
    }

    /// Whether anybody leads: a node that was not healed may do it as well, as far as it reaches the others.
    fn is_led(&self) -> bool {
        self.leaders().next().is_some()
    }

    fn awaited(&self) -> usize {
        self.clients.iter().map(|caller| caller.client.awaited()).sum::<usize>() + self.engines_await().count()
    }

    /// There must be a leader, operations that came to their ends since `done` had, and none that is awaited.
    fn must_be_well(&self, millis: u64, done: u64) -> Result<(), Violation> {
        if !self.is_led() {
            return Err(Violation::Stuck { what: "nobody leads".to_owned(), millis });
        }
        let awaited = self.clients.iter().flat_map(|caller| caller.client.awaits());
        let awaited: Vec<usize> = awaited.chain(self.engines_await()).collect();
        if !awaited.is_empty() {
            return Err(Violation::Stuck { what: format!("operations {awaited:?} have no end"), millis });
        }
        if self.judge.done == done {
            return Err(Violation::Stuck { what: "no operation was done since".to_owned(), millis });
        }
        Ok(())
    }

    /// Chooses whom to heal: a majority of every configuration that any node has, if there is one that has lost nothing.
    fn choose_majority(&mut self) -> Option<BTreeSet<NodeId>> {
        let latest = self.latest_configuration();
        let supervised = self.options.processes.supervised > 0;
        let mut configurations = vec![latest.clone()];
        for node in self.nodes.iter().filter(|node| !node.is_gone()) {
            match node.process() {
                Some(process) => configurations.push(process.replica().configuration().clone()),
                None => configurations.extend(node.configurations.iter().map(|(_, known)| known.clone())),
            }
        }
        let ids: BTreeSet<NodeId> =
            configurations.iter().flat_map(|known| known.members().iter().map(|member| member.id)).collect();
        let stays =
            |node: &Node<W::Machine>| !node.is_gone() || (supervised && node.is_added_again(latest.member(node.id)));
        let whole = |id: &NodeId| {
            self.nodes.iter().any(|node| node.id == *id && !node.tampered && !node.suspect && stays(node))
        };
        let mut healed: BTreeSet<NodeId> = ids.into_iter().filter(whole).collect();
        let suffices = |healed: &BTreeSet<NodeId>| configurations.iter().all(|known| has_majority(known, healed));
        if !suffices(&healed) {
            return None;
        }
        // As few as will do, by chance; but who becomes a voter by itself may be needed then. A witness may hold what only
        // a node that is left out could bring.
        let joins = |id: &NodeId| configurations.iter().any(|known| known.member(*id).is_some_and(is_joining));
        let mut candidates: Vec<NodeId> = healed.iter().copied().filter(|id| !joins(id)).collect();
        if configurations.iter().any(has_witness) {
            candidates.clear();
        }
        while !candidates.is_empty() {
            let at = usize::try_from(self.random.below(candidates.len() as u64)).unwrap_or(0);
            let id = candidates.swap_remove(at);
            healed.remove(&id);
            if !suffices(&healed) {
                healed.insert(id);
            }
        }
        Some(healed)
    }

    fn heal_node(&mut self, place: usize) {
        let now = self.now;
        let node = self.nodes_mut(place);
        node.stalled_until = 0;
        node.busy_until = now;
        node.may_stop = false;
        node.disk.heal();
        node.disk.set_capacity(None);
        node.unread.until = 0;
        node.interrupting = node.interrupting.filter(|interrupting| interrupting.since.is_some());
        self.queue.put(now, Due::Read(place));
        match self.nodes_mut(place).state {
            State::Paused(_) => self.queue.put(now, Due::Resume(place)),
            State::Down => self.queue.put(now, Due::Start(place)),
            State::Up(_) => self.wake(place),
        }
    }

    fn wake_client(&mut self, number: usize) -> Result<(), Violation> {
        if let Some(caller) = self.clients.get_mut(number) {
            caller.client.silent_until = raft_core::types::Instant(0);
            caller.client.think_at = raft_core::types::Instant(0);
        }
        self.client_acts(number)
    }
}

fn has_witness(configuration: &Configuration) -> bool {
    configuration.members().iter().any(|member| !is_full(member.suffrage))
}

pub(super) fn is_joining(member: &Member) -> bool {
    matches!(member.suffrage, Suffrage::Joining | Suffrage::JoiningWitness)
}

/// Whether a member of that kind has a state machine.
pub(super) fn is_full(suffrage: Suffrage) -> bool {
    !matches!(suffrage, Suffrage::Witness | Suffrage::LeavingWitness | Suffrage::JoiningWitness)
}

/// Whether these are a majority in both halves of a configuration, with somebody among them who can lead.
fn has_majority(configuration: &Configuration, nodes: &BTreeSet<NodeId>) -> bool {
    let majority = |voters: Vec<(NodeId, bool)>| {
        let there = voters.iter().filter(|(id, _)| nodes.contains(id)).count();
        // Where there are witnesses, only all others together are sure to hold what was committed.
        let witnesses = voters.iter().any(|(_, full)| !full);
        let leads = voters.iter().all(|(id, full)| !full || !witnesses || nodes.contains(id));
        voters.is_empty() || (2 * there > voters.len() && leads)
    };
    let members = configuration.members();
    let new = members.iter().filter(|member| member.votes()).map(|member| (member.id, is_full(member.suffrage)));
    let old = members.iter().filter(|member| member.outgoing_voter).map(|member| (member.id, is_full(member.suffrage)));
    majority(new.collect()) && majority(old.collect())
}
