//! What goes wrong, and when; and the atlas that keeps it within what must be survived.
//!
//! The atlas: crashes, kills, pauses, cuts, delays, full and slow disks and failing calls may meet any number of nodes
//! at a time, for no acknowledged entry is lost by them. What takes away what a node acknowledged (a wiped disk, one
//! that was restored from an old copy, a sync that was none, decay, a sector that cannot be read) meets at most as many
//! members at a time as a majority can spare.

use raft_core::client::protocol::RoleName;

use super::{Due, MILLI, World};
use crate::network::Place;
use crate::node::Met;
use crate::options::Every;
use crate::violation::Violation;
use crate::workload::Workload;

/// A fault that ends only with the process: what comes of it is seen after the next start.
pub(super) const UNTIL_A_START: u64 = u64::MAX;

/// A kind of fault, or of something that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    Crash,
    Kill,
    Blackout,
    Pause,
    Stop,
    Interrupt,
    Sleep,
    Partition,
    Heal,
    Clog,
    Flap,
    NeglectSockets,
    SlowDisk,
    FailingCall,
    FullDisk,
    Decay,
    Unreadable,
    LostSync,
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
    Onlooker,
}

impl Fault {
    pub(crate) const ALL: [Fault; 30] = [
        Fault::Crash,
        Fault::Kill,
        Fault::Blackout,
        Fault::Pause,
        Fault::Stop,
        Fault::Interrupt,
        Fault::Sleep,
        Fault::Partition,
        Fault::Heal,
        Fault::Clog,
        Fault::Flap,
        Fault::NeglectSockets,
        Fault::SlowDisk,
        Fault::FailingCall,
        Fault::FullDisk,
        Fault::Decay,
        Fault::Unreadable,
        Fault::LostSync,
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
        Fault::Onlooker,
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
            Fault::Interrupt => &mut options.processes.interrupted,
            Fault::Sleep => &mut options.processes.asleep,
            Fault::Partition => &mut options.network.parted,
            Fault::Heal => &mut options.network.healed,
            Fault::Clog => &mut options.network.clogged,
            Fault::Flap => &mut options.network.flapping,
            Fault::NeglectSockets => &mut options.network.unread,
            Fault::SlowDisk => &mut options.disks.stalled,
            Fault::FailingCall => &mut options.disks.failed,
            Fault::FullDisk => &mut options.disks.full,
            Fault::Decay => &mut options.disks.decayed,
            Fault::Unreadable => &mut options.disks.unreadable,
            Fault::LostSync => &mut options.disks.lost_sync,
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
            Fault::Onlooker => &mut options.load.onlooker,
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
            Fault::Interrupt => self.interrupt(false),
            Fault::Sleep => self.interrupt(true),
            Fault::Partition => self.part(),
            Fault::Heal => self.links.mend_all(),
            Fault::Clog => self.clog(),
            Fault::Flap => self.flap(),
            Fault::NeglectSockets => self.neglect_sockets(),
            Fault::SlowDisk => self.slow_disk(),
            Fault::FailingCall => self.failing_call(),
            Fault::FullDisk => self.full_disk(),
            Fault::Decay => self.decay(),
            Fault::Unreadable => self.spoil_sector(),
            Fault::LostSync => self.lose_sync(),
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
            Fault::Onlooker => self.look_on(),
        }
        Ok(())
    }

    /// A node that is up: any, but one that leads as often as not.
    pub(super) fn pick_up(&mut self) -> Option<usize> {
        let leaders: Vec<usize> = self.leaders().filter(|place| self.is_up(*place)).collect();
        let all: Vec<usize> = (0..self.nodes.len()).filter(|place| self.is_up(*place)).collect();
        let from = if !leaders.is_empty() && self.random.chance(500_000) { leaders } else { all };
        self.random.pick(&from).copied()
    }

    pub(super) fn leads(&self, place: usize) -> bool {
        self.leaders().any(|leader| leader == place)
    }

    pub(super) fn is_up(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(crate::node::Node::is_up)
    }

    /// Notes what is done to a node until then, and in which role it meets it.
    pub(super) fn meets(&mut self, place: usize, fault: &'static str, over_at: u64) {
        let role = self.nodes_mut(place).process().map(|process| process.replica().raft().role());
        let role = match role {
            Some(RoleName::Leader) => "leader",
            Some(RoleName::Follower) => "follower",
            Some(_) => "candidate",
            None => "down",
        };
        let now = self.now;
        let node = self.nodes_mut(place);
        node.met.push(Met { fault, role, lives: node.lives, over_at });
        let id = node.id;
        self.trace.say(now, &format!("{fault}: node {id}, {role}"));
    }

    /// Counts what came of the faults that a node has met, once they are over and it leads or knows who does.
    pub(super) fn settle(&mut self, place: usize) {
        let now = self.now;
        let node = self.nodes_mut(place);
        if node.met.is_empty() {
            return;
        }
        let Some(raft) = node.process().map(|process| process.replica().raft()) else { return };
        let leads = raft.role() == RoleName::Leader;
        if !leads && raft.leader().is_none() {
            return;
        }
        let lives = node.lives;
        let over = |met: &Met| lives > met.lives || now >= met.over_at;
        let (over, under_way): (Vec<Met>, Vec<Met>) = core::mem::take(&mut node.met).into_iter().partition(over);
        node.met = under_way;
        for met in over {
            let outcome = match (lives > met.lives, leads) {
                (true, true) => "is back and leads",
                (true, false) => "is back and follows",
                (false, true) => "leads",
                (false, false) => "follows",
            };
            self.coverage.add((met.fault, met.role, outcome), 1);
        }
    }

    /// Counts that this came of all the faults that a node has met.
    pub(super) fn settle_as(&mut self, place: usize, outcome: &'static str) {
        for met in core::mem::take(&mut self.nodes_mut(place).met) {
            self.coverage.add((met.fault, met.role, outcome), 1);
        }
    }

    /// All places, nodes and clients.
    pub(super) fn places(&self) -> Vec<Place> {
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

    /// All links of one node go down, or are up again: each time this happens, and always those of the same node.
    fn flap(&mut self) {
        let some = 1 + self.random.below(self.options.nodes);
        let (node, down) = self.flapping.map_or((some, true), |(node, down)| (node, !down));
        self.flapping = Some((node, down));
        for other in (1..=self.ids).filter(|other| *other != node).map(Place::Node) {
            let here = Place::Node(node);
            for (from, to) in [(here, other), (other, here)] {
                if down { self.links.cut(from, to) } else { self.links.mend(from, to) }
            }
        }
        self.coverage.count("flapping links", if down { "down" } else { "up" });
    }
}
