//! What goes wrong, and when; and the atlas that keeps it within what must be survived.
//!
//! The atlas: crashes, kills, pauses, cuts, delays, full and slow disks and failing calls may meet any number of nodes
//! at a time, for no acknowledged entry is lost by them. What takes away what a node acknowledged (a wiped disk, one
//! that was restored from an old copy, decay) meets at most as many members at a time as a majority can spare.

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::storage::Storage;
use raft_core::types::{Incarnation, NodeId};
use raft_storage_file::simulated::{Fate, Unsynced};
use raft_storage_file::{Identity, Name};

use super::{CLUSTER, Due, MILLI, World};
use crate::network::Place;
use crate::node::{NodeClock, State};
use crate::options::Every;
use crate::violation::Violation;
use crate::workload::Workload;

/// The most nodes there ever are.
const IDS_MAX: u64 = 24;
/// The most members at a time.
const MEMBERS_MAX: usize = 7;

/// A kind of fault, or of something that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    Crash,
    Kill,
    Blackout,
    Pause,
    Stop,
    Partition,
    Heal,
    Clog,
    SlowDisk,
    FailingCall,
    FullDisk,
    Decay,
    ClockJump,
    Wipe,
    Restore,
    Impostor,
    ChangeMembers,
    Transfer,
    Snapshot,
    ClientCrash,
    ClientSilence,
    Storm,
    Hostile,
}

impl Fault {
    pub(crate) const ALL: [Fault; 23] = [
        Fault::Crash,
        Fault::Kill,
        Fault::Blackout,
        Fault::Pause,
        Fault::Stop,
        Fault::Partition,
        Fault::Heal,
        Fault::Clog,
        Fault::SlowDisk,
        Fault::FailingCall,
        Fault::FullDisk,
        Fault::Decay,
        Fault::ClockJump,
        Fault::Wipe,
        Fault::Restore,
        Fault::Impostor,
        Fault::ChangeMembers,
        Fault::Transfer,
        Fault::Snapshot,
        Fault::ClientCrash,
        Fault::ClientSilence,
        Fault::Storm,
        Fault::Hostile,
    ];
}

impl<W: Workload> World<W> {
    /// How often a fault happens in this world.
    fn every(&mut self, fault: Fault) -> &mut Every {
        let options = &mut self.options;
        match fault {
            Fault::Crash => &mut options.processes.crashed,
            Fault::Kill => &mut options.processes.killed,
            Fault::Blackout => &mut options.processes.blackout,
            Fault::Pause => &mut options.processes.paused,
            Fault::Stop => &mut options.processes.stopped,
            Fault::Partition => &mut options.network.parted,
            Fault::Heal => &mut options.network.healed,
            Fault::Clog => &mut options.network.clogged,
            Fault::SlowDisk => &mut options.disks.stalled,
            Fault::FailingCall => &mut options.disks.failed,
            Fault::FullDisk => &mut options.disks.full,
            Fault::Decay => &mut options.disks.decayed,
            Fault::ClockJump => &mut options.clocks.jumped,
            Fault::Wipe => &mut options.processes.wiped,
            Fault::Restore => &mut options.processes.restored,
            Fault::Impostor => &mut options.processes.doubled,
            Fault::ChangeMembers => &mut options.operator.members_changed,
            Fault::Transfer => &mut options.operator.transferred,
            Fault::Snapshot => &mut options.operator.snapshot_made,
            Fault::ClientCrash => &mut options.load.crashed,
            Fault::ClientSilence => &mut options.load.silent,
            Fault::Storm => &mut options.load.storm,
            Fault::Hostile => &mut options.load.hostile,
        }
    }

    /// Puts the first fault of each kind into the queue.
    pub(super) fn plan_faults(&mut self) {
        for fault in Fault::ALL {
            self.plan(fault);
        }
    }

    fn plan(&mut self, fault: Fault) {
        let every = *self.every(fault);
        if every > 0 {
            let after = self.random.between(every / 2, every * 3 / 2) * MILLI;
            self.queue.put(self.now + after, Due::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        self.plan(fault);
        match fault {
            Fault::Crash => self.crash_one(),
            Fault::Kill => self.kill_one(),
            Fault::Blackout => self.blackout(),
            Fault::Pause => self.pause_one(),
            Fault::Stop => self.stop_one(),
            Fault::Partition => self.part(),
            Fault::Heal => self.links.mend_all(),
            Fault::Clog => self.clog(),
            Fault::SlowDisk => self.slow_disk(),
            Fault::FailingCall => self.failing_call(),
            Fault::FullDisk => self.full_disk(),
            Fault::Decay => self.decay(),
            Fault::ClockJump => self.jump_clock(),
            Fault::Wipe => self.wipe(false),
            Fault::Restore => self.wipe(true),
            Fault::Impostor => self.impostor(),
            Fault::ChangeMembers => self.change_members(),
            Fault::Transfer => self.transfer(),
            Fault::Snapshot => self.make_snapshot(),
            Fault::ClientCrash => return self.crash_client(),
            Fault::ClientSilence => self.silence_client(),
            Fault::Storm => self.storm(),
            Fault::Hostile => self.hostile(),
        }
        Ok(())
    }

    /// A node that is up: any, but one that leads as often as not.
    fn pick_up(&mut self) -> Option<usize> {
        let leaders: Vec<usize> = self.leaders().filter(|place| self.is_up(*place)).collect();
        let all: Vec<usize> = (0..self.nodes.len()).filter(|place| self.is_up(*place)).collect();
        let from = if !leaders.is_empty() && self.random.chance(500_000) { leaders } else { all };
        self.random.pick(&from).copied()
    }

    fn leads(&self, place: usize) -> bool {
        self.leaders().any(|leader| leader == place)
    }

    fn is_up(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(crate::node::Node::is_up)
    }

    /// Notes what is done to a node, and in which role it meets it.
    fn meets(&mut self, place: usize, fault: &str) {
        let role = self.nodes_mut(place).process().map(|process| process.replica().raft().role());
        let role = match role {
            Some(RoleName::Leader) => "leader",
            Some(RoleName::Follower) => "follower",
            Some(_) => "candidate",
            None => "down",
        };
        self.coverage.count(fault, role);
        let (now, id) = (self.now, self.nodes_mut(place).id);
        self.trace.say(now, &format!("{fault}: node {id}, {role}"));
    }

    fn crash_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "power loss");
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

    /// The power of a node is gone: what was not synced survives or does not, each piece of it by itself.
    pub(super) fn lose_power(&mut self, place: usize) {
        let garbage = self.options.disks.garbage && self.may_lose_data(place);
        let mut random = self.random.fork();
        // All, none, or any part.
        let kept = *random.pick(&[0, 1_000_000, 500_000, 900_000]).unwrap_or(&0);
        let node = self.nodes_mut(place);
        let mut spoiled = false;
        node.disk = node.disk.after_power_loss(|what| match what {
            Unsynced::Sector { .. } if garbage && random.chance(20_000) => {
                spoiled = true;
                Fate::Garbage
            }
            _ if random.chance(kept) => Fate::Kept,
            _ => Fate::Lost,
        });
        node.tampered |= spoiled;
        node.may_stop = false;
        node.end_process();
    }

    fn kill_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "kill");
        self.nodes_mut(place).end_process();
        self.start_later(place);
    }

    fn blackout(&mut self) {
        self.coverage.count("blackout", "all nodes");
        self.trace.say(self.now, "the power of all nodes is gone");
        for place in 0..self.nodes.len() {
            if self.nodes_mut(place).process().is_some() {
                self.lose_power(place);
                self.start_later(place);
            }
        }
    }

    fn pause_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "pause");
        let node = self.nodes_mut(place);
        if let State::Up(process) = core::mem::replace(&mut node.state, State::Down) {
            node.state = State::Paused(process);
        }
        let after = self.random.between(1, self.options.processes.pause_max_millis.max(1)) * MILLI;
        self.queue.put(self.now + after, Due::Resume(place));
    }

    fn stop_one(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "stop");
        if let Some(handle) = &self.nodes_mut(place).handle {
            handle.stop();
        }
        self.wake(place);
    }

    /// All places, nodes and clients.
    fn places(&self) -> Vec<Place> {
        let nodes = (1..=self.ids).map(Place::Node);
        nodes.chain((0..self.clients.len()).map(Place::Client)).collect()
    }

    /// Divides nodes and clients in two; one side may still be heard by the other.
    fn part(&mut self) {
        self.links.mend_all();
        let places = self.places();
        // One alone, a bridge between two that do not see each other, or any division.
        let alone = self.random.chance(300_000).then(|| self.random.pick(&places).copied()).flatten();
        let bridge = self.random.chance(200_000).then(|| self.random.pick(&places).copied()).flatten();
        let one_way = self.random.below(100) < self.options.network.one_way_percent;
        let side: Vec<bool> = places
            .iter()
            .map(|place| alone.map_or_else(|| self.random.chance(500_000), |alone| alone == *place))
            .collect();
        for (from, here) in places.iter().zip(&side) {
            for (to, there) in places.iter().zip(&side) {
                let bridges = bridge.is_some_and(|bridge| bridge == *from || bridge == *to);
                if here != there && !bridges && (*here || !one_way) {
                    self.links.cut(*from, *to);
                }
            }
        }
        self.coverage.count("partition", if one_way { "one way" } else { "both ways" });
        let cuts = self.links.cuts();
        self.trace.say(self.now, &format!("{cuts} links are cut: {:?}", places.iter().zip(&side).collect::<Vec<_>>()));
    }

    fn clog(&mut self) {
        let places = self.places();
        let (Some(&from), Some(&to)) = (self.random.pick(&places), self.random.pick(&places)) else { return };
        self.links.cut(from, to);
        let after = self.random.between(10, 3_000) * MILLI;
        self.queue.put(self.now + after, Due::Mend(from, to));
        self.coverage.count("clogged link", "for a while");
    }

    fn slow_disk(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "slow disk");
        let until = self.now + self.random.between(50, 3_000) * MILLI;
        self.nodes_mut(place).stalled_until = until;
    }

    /// One of the next calls to the disk fails. The process must end then, and not try again.
    fn failing_call(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "failing call");
        let calls = usize::try_from(self.random.below(20)).unwrap_or(0);
        let node = self.nodes_mut(place);
        node.may_stop = true;
        node.disk.fail_in(calls, std::io::ErrorKind::Other);
    }

    fn full_disk(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "full disk");
        let node = self.nodes_mut(place);
        node.may_stop = true;
        node.disk.set_capacity(Some(0));
        let after = self.random.between(100, 3_000) * MILLI;
        self.queue.put(self.now + after, Due::Room(place));
    }

    pub(super) fn make_room(&mut self, place: usize) -> Result<(), Violation> {
        self.nodes_mut(place).disk.set_capacity(None);
        Ok(())
    }

    fn jump_clock(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.meets(place, "clock jump");
        let millis = self.random.between(1, self.options.clocks.jump_max_millis.max(1));
        self.nodes_mut(place).clock.jump(millis);
        self.wake(place);
    }

    /// The configuration of the node whose log reaches furthest.
    pub(super) fn latest_configuration(&self) -> Configuration {
        let furthest = self
            .nodes
            .iter()
            .filter_map(|node| node.process())
            .max_by_key(|process| process.replica().raft().storage().last());
        furthest.map_or_else(|| self.first.clone(), |process| process.replica().configuration().clone())
    }

    /// Whether this node may lose what it acknowledged: it is no member, or one that a majority can spare.
    fn may_lose_data(&self, place: usize) -> bool {
        let configuration = self.latest_configuration();
        let Some(node) = self.nodes.get(place) else { return false };
        if configuration.is_joint() || node.tampered {
            return false;
        }
        let voters: Vec<NodeId> =
            configuration.members().iter().filter(|member| member.votes()).map(|member| member.id).collect();
        let lost = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id && (node.tampered || node.is_gone()));
        let spoiled = voters.iter().filter(|id| lost(id)).count();
        2 * (spoiled + 1) < voters.len()
    }

    /// Takes a node's disk away, or brings it back as it was once; the node comes back under its old name.
    fn wipe(&mut self, restored: bool) {
        let Some(place) = self.pick_up().filter(|place| self.may_lose_data(*place)) else { return };
        if restored && (self.nodes_mut(place).old_disk.is_none() || self.leads(place)) {
            return;
        }
        self.meets(place, if restored { "restored disk" } else { "wiped disk" });
        let incarnation = Incarnation(u128::from(self.random.bits()));
        let node = self.nodes_mut(place);
        node.end_process();
        node.tampered = true;
        if restored {
            node.disk = node.old_disk.take().unwrap_or_default();
        } else {
            node.disk = raft_storage_file::simulated::Disk::new();
            node.identity.incarnation = incarnation;
        }
        self.start_later(place);
    }

    /// A bit of what a node holds flips while it is down.
    fn decay(&mut self) {
        let Some(place) = self.pick_up().filter(|place| self.may_lose_data(*place)) else { return };
        self.meets(place, "decay");
        self.lose_power(place);
        let mut random = self.random.fork();
        let node = self.nodes_mut(place);
        let contents = node.disk.contents();
        let names: Vec<Name> = contents.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| *name).collect();
        if let Some(name) = random.pick(&names)
            && let Some(mut bytes) = contents.get(name).cloned()
        {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            node.disk.put(*name, bytes);
            node.tampered = true;
        }
        self.start_later(place);
    }

    /// A second machine claims the id of a node: a copy of its disk, or an empty one.
    fn impostor(&mut self) {
        let Some(place) = self.pick_up() else { return };
        if self.nodes.len() > 30 {
            return;
        }
        self.meets(place, "impostor");
        let identity =
            Identity { incarnation: Incarnation(u128::from(self.random.bits())), ..self.nodes_mut(place).identity };
        let configuration = self.latest_configuration();
        let other = self.nodes.len();
        let clock = NodeClock::new(1_000_000, self.random.below(100_000_000));
        let mut node = crate::node::Node::new(identity.node, identity, clock, Some(configuration));
        node.tampered = true;
        self.nodes.push(node);
        self.queue.put(self.now, Due::Start(other));
    }

    /// Asks the leader, if there is one, for another set of members.
    fn change_members(&mut self) {
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
        if let Some(handle) = &self.nodes_mut(place).handle {
            drop(handle.change_members(changes, force));
        }
        self.wake(place);
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
        let suffrage = match self.random.below(10) {
            0..=1 => Suffrage::Learner,
            2 => Suffrage::JoiningWitness,
            _ => Suffrage::Joining,
        };
        let incarnation = self.random.chance(500_000).then_some(incarnation);
        Member { incarnation, ..Member::new(id, suffrage, "").expect("an empty address is short enough") }
    }

    fn transfer(&mut self) {
        let leaders: Vec<usize> = self.leaders().filter(|place| self.is_up(*place)).collect();
        let Some(place) = self.random.pick(&leaders).copied() else { return };
        let to = if self.random.chance(500_000) { NodeId::new(1 + self.random.below(self.ids)) } else { None };
        self.coverage.count("leadership", "asked to be handed over");
        self.trace.say(self.now, &format!("leadership is to be handed over to {to:?}"));
        if let Some(handle) = &self.nodes_mut(place).handle {
            drop(handle.transfer(to));
        }
        self.wake(place);
    }

    fn make_snapshot(&mut self) {
        let Some(place) = self.pick_up() else { return };
        self.coverage.count("snapshot", "asked for");
        if let Some(handle) = &self.nodes_mut(place).handle {
            drop(handle.snapshot());
        }
        self.wake(place);
    }
}
