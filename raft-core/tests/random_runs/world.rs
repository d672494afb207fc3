//! The world: nodes, their disks and clocks, the network between them, and what goes wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raft_core::configuration::{Configuration, Lease, Member};
use raft_core::message::Message;
use raft_core::raft::ReadState;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::replica::{PollError, Replica};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, bytes_needed};
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, EntryId, Instant, Millis, NodeId, Term};

use super::clients::{CLIENTS, Client, Read};
use super::common::DeferredLog;
use super::common::parts::{Link, Random};
use super::machine::Machine;
use super::told::{Coverage, Told};

const FAULTY_MILLIS: u64 = 3_000;
/// The most that a healed cluster may take for the commands that remain.
const HEALED_MILLIS: u64 = 20_000;
/// Within so many entries replicas are compared several times, in runs in which they are compared.
const COMPARED_ENTRIES: usize = 100;
/// The most nodes that there ever are in a run.
pub(crate) const NODES_MAX: u64 = 12;

const LIMITS: SessionLimits = SessionLimits {
    sessions: 4,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(600_000),
    time_step_max: Millis(30_000),
    evict_idle: None,
};
const SESSION_BYTES: usize = bytes_needed(&LIMITS, 8);

pub(crate) type Node = Replica<DeferredLog, Link, Machine, FixedMemory<4, SESSION_BYTES>, 12>;
pub(crate) type Trace = Rc<RefCell<Vec<String>>>;

/// What happens in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The members stay the same.
    Steady,
    /// They change, and disks are wiped.
    Changing,
    /// They stay the same, and when the faults have ended the state of one decays.
    Decay,
}

#[allow(clippy::large_enum_variant, reason = "there are few, in a test")]
pub(crate) enum State {
    Up(Box<Node>),
    Down(DeferredLog),
    /// It has found that its state differs from that of the others.
    Stopped(DeferredLog),
}

pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) random: Random,
    trace: Trace,
    pub(crate) now: u64,
    /// Whether the trace tells of every message: it does when one seed is run alone.
    verbose: bool,
    config: Config,
    /// The configuration of entry 1.
    configuration: Configuration,
    pub(crate) leased: bool,
    entries_max: usize,
    pub(crate) nodes: Vec<State>,
    /// How far each node's clock is ahead, and how fast it runs, in thousandths.
    clocks: Vec<(u64, u64)>,
    starts: u64,
    pub(crate) flights: BTreeMap<(u64, u64), (u64, u64, Vec<u8>)>,
    flown: u64,
    cut: BTreeSet<(u64, u64)>,
    /// How often, in a thousand: a message is lost, a node crashes, a sync completes.
    lossy: u64,
    crashes: u64,
    disk: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) reads: Vec<Read>,
    pub(crate) witnesses: BTreeSet<u64>,
    pub(crate) wiped: Option<u64>,
    pub(crate) decayed: Option<u64>,
    /// Everything that was ever applied, and with what outcome, unless only witnesses did.
    pub(crate) applied: Vec<(EntryId, Option<Option<String>>)>,
    /// How much of that each node has applied in its present life.
    pub(crate) applied_by: Vec<usize>,
    /// The digest of the state after an entry.
    pub(crate) states: BTreeMap<u64, u64>,
    pub(crate) leaders: BTreeMap<Term, u64>,
    /// To whom leadership is being handed over, in the term after that.
    pub(crate) handing: Option<(u64, Term)>,
    /// The configurations that some node knew to be committed, by index.
    pub(crate) configurations: BTreeMap<u64, (EntryId, Configuration)>,
    pub(crate) committed: u64,
    /// The entries of configurations that any leader has appended.
    pub(crate) changes: BTreeSet<EntryId>,
    /// The highest answer any client has got.
    pub(crate) answered: u64,
    snapshots: Vec<u64>,
    faulty: bool,
    pub(crate) covered: Coverage,
}

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64, kind: Kind, trace: Trace) -> World {
        let mut random = Random(seed ^ (kind as u64) << 40);
        let members = 3 + random.below(3);
        let list = (1..=members).map(|node| Member::voter(id(node), "").unwrap());
        let ttl = Millis([600_000, 400][random.below(2) as usize]);
        let mut configuration =
            Configuration::new(ClusterId(1), SessionLimits { ttl, time_step_max: Millis(ttl.0 / 2), ..LIMITS }, list)
                .unwrap();
        let leased = random.chance(500);
        let drift = random.below(100);
        if leased {
            let lease = Lease { duration: Millis(30 + random.below(120)), drift_per_mille: drift as u16 };
            configuration = configuration.with_lease(lease).unwrap();
        }
        let config = Config {
            election_timeout: Millis(100),
            heartbeat_interval: Millis(20),
            message_bytes_max: [100, 400, 4000][random.below(3) as usize],
            inflight_entries_max: 1 + random.below(20),
            inflight_bytes_max: 1 + random.below(500),
            uncommitted_entries_max: 4 + random.below(20),
            snapshot_inflight_bytes_max: 4000 + random.below(8000),
            disk_stall_max: Millis([200, 5_000][random.below(2) as usize]),
            // Less, and a snapshot is outdated before it has arrived, again and again.
            snapshot_after_entries: 20 + random.below(30),
            snapshot_keep_entries: random.below(20),
            check_after_entries: if kind == Kind::Decay { 5 + random.below(20) } else { random.below(3) * 10 },
            ..Config::default()
        };
        let mut world = World {
            kind,
            lossy: random.below(200),
            crashes: 2 + random.below(12),
            disk: 100 + random.below(900),
            entries_max: [usize::MAX, 200][random.below(2) as usize],
            random,
            trace,
            now: 0,
            nodes: Vec::new(),
            clocks: Vec::new(),
            verbose: std::env::var_os("SEED").is_some(),
            config,
            configuration,
            leased,
            starts: 0,
            flights: BTreeMap::new(),
            flown: 0,
            cut: BTreeSet::new(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            reads: Vec::new(),
            witnesses: BTreeSet::new(),
            wiped: None,
            decayed: None,
            applied: Vec::new(),
            applied_by: Vec::new(),
            states: BTreeMap::new(),
            leaders: BTreeMap::new(),
            handing: None,
            configurations: BTreeMap::new(),
            committed: 0,
            changes: BTreeSet::new(),
            answered: 0,
            snapshots: Vec::new(),
            faulty: true,
            covered: Coverage::default(),
        };
        world.note(|| format!("{} {:?}", world.configuration.members().len(), world.config));
        for _ in 0..members {
            world.add_node();
            *world.nodes.last_mut().unwrap() = State::Down(DeferredLog::new(&world.configuration));
            world.start(world.size());
        }
        world
    }

    /// A node with an empty log, which does not run yet.
    pub(crate) fn add_node(&mut self) {
        let drift = self.configuration.lease().map_or(0, |lease| u64::from(lease.drift_per_mille));
        self.clocks.push((self.random.below(10_000), 1000 + self.random.below(drift + 1)));
        self.applied_by.push(0);
        self.snapshots.push(0);
        self.nodes.push(State::Down(DeferredLog::blank()));
    }

    pub(crate) fn note(&self, event: impl FnOnce() -> String) {
        self.trace.borrow_mut().push(format!("{:>6} {}", self.now, event()));
    }

    /// How many nodes there are, members or not.
    pub(crate) fn size(&self) -> u64 {
        self.nodes.len() as u64
    }

    pub(crate) fn node(&mut self, node: u64) -> Option<&mut Node> {
        match &mut self.nodes[node as usize - 1] {
            State::Up(replica) => Some(replica),
            State::Down(_) | State::Stopped(_) => None,
        }
    }

    pub(crate) fn clock(&self, node: u64) -> Instant {
        let (ahead, rate) = self.clocks[node as usize - 1];
        Instant(ahead + self.now * rate / 1000)
    }

    fn start(&mut self, node: u64) {
        let (now, at) = (self.clock(node), node as usize - 1);
        let State::Down(log) = &self.nodes[at] else { return };
        self.starts += 1;
        let config = Config { seed: self.random.0 ^ self.starts, ..self.config };
        let (link, machine, memory) = (Link::default(), Machine::default(), FixedMemory::new());
        let mut log = log.clone();
        log.deferred = true;
        log.entries_max = self.entries_max;
        log.draft_bytes_max = if self.faulty && self.random.chance(50) { 200 } else { usize::MAX };
        let replica = if log.last() == EntryId::ZERO {
            let configuration = self.configuration.clone();
            Replica::join(id(node), config, configuration, log, link, machine, memory, now).unwrap()
        } else {
            Replica::new(id(node), config, log, link, machine, memory, now).unwrap()
        };
        self.nodes[at] = State::Up(Box::new(replica));
        self.applied_by[at] = 0;
        self.note(|| format!("{node} starts"));
    }

    pub(crate) fn crash(&mut self, node: u64) {
        let Some(replica) = self.node(node) else { return };
        let mut log = replica.raft().storage().clone();
        let unsaved = log.unsaved() as u64;
        let survive = self.random.below(unsaved + 1);
        log.crash(survive as usize);
        log.allowed = Rc::default();
        self.nodes[node as usize - 1] = State::Down(log);
        self.reads.retain(|read| read.node != node);
        self.covered.crashes += 1;
        self.note(|| format!("{node} crashes, {survive} of {unsaved} unsaved changes survive"));
    }

    fn faults(&mut self) {
        let node = 1 + self.random.below(self.size());
        if self.random.chance(self.crashes) {
            self.crash(node);
        }
        if self.random.chance(25) {
            self.start(node);
        }
        if self.random.chance(8) {
            self.cut.clear();
            let side: Vec<bool> = (0..NODES_MAX).map(|_| self.random.chance(500)).collect();
            let one_way = self.random.chance(300);
            for (from, to) in (1..=NODES_MAX).flat_map(|from| (1..=NODES_MAX).map(move |to| (from, to))) {
                let (here, there) = (side[from as usize - 1], side[to as usize - 1]);
                if here != there && (here || !one_way) {
                    self.cut.insert((from, to));
                }
            }
            let cut = self.cut.len();
            self.note(|| format!("{cut} links are cut: {side:?}"));
        }
        if self.random.chance(12) {
            self.cut.clear();
            self.note(|| "no link is cut".to_owned());
        }
        if self.random.chance(5) {
            self.transfer();
        }
        if self.kind == Kind::Changing {
            if self.random.chance(15) {
                self.change_members();
            }
            if self.random.chance(1) {
                self.wipe();
            }
        }
    }

    /// One to five milliseconds pass.
    fn step(&mut self) {
        self.now += 1 + self.random.below(5);
        self.arrive();
        for node in 1..=self.size() {
            if !self.faulty || self.random.chance(700) {
                self.poll(node);
            }
        }
        for client in 0..CLIENTS {
            self.act(client);
        }
        if self.random.chance(300) {
            self.begin_read();
        }
        self.check_reads();
        self.check_logs();
    }

    fn arrive(&mut self) {
        while let Some(flight) = self.flights.first_entry().filter(|flight| flight.key().0 <= self.now) {
            let (_, to, bytes) = flight.remove();
            if let Some(replica) = self.node(to) {
                replica.transport_mut().arrived.push_back(bytes);
            }
        }
    }

    fn poll(&mut self, node: u64) {
        let (now, mut told) = (self.clock(node), Told::default());
        let closed = (1..=NODES_MAX).filter(|_| self.faulty && self.random.chance(50)).collect();
        let disk = if self.faulty { u32::from(self.random.chance(self.disk)) } else { 100 };
        let Some(replica) = self.node(node) else { return };
        replica.transport_mut().closed = closed;
        replica.raft().storage().allowed.set(disk);
        let outcome = replica.poll(&|| now, &mut told);
        let sent = core::mem::take(&mut replica.transport_mut().sent);
        let log = replica.raft().storage();
        let snapshot = log.snapshot().map_or(0, |snapshot| snapshot.through.index.0);
        sent.into_iter().for_each(|(to, bytes)| self.fly(node, to, bytes));
        if let Err(error) = outcome {
            assert!(matches!(error, PollError::Diverged { .. }), "node {node} cannot go on: {error:?}");
            assert_eq!(self.decayed, Some(node), "who stops is the one whose state has decayed");
            let log = self.node(node).unwrap().raft().storage().clone();
            self.nodes[node as usize - 1] = State::Stopped(log);
            self.covered.diverged += 1;
            return self.note(|| format!("{node} stops"));
        }
        let known = core::mem::replace(&mut self.snapshots[node as usize - 1], snapshot);
        let installed = told.events.iter().any(|event| matches!(event, Event::SnapshotInstalled { .. }));
        self.covered.snapshots_made += u64::from(snapshot > known && !installed);
        self.hear(node, told);
    }

    fn hear(&mut self, node: u64, told: Told) {
        for event in &told.events {
            self.covered.meet(event);
            self.note(|| format!("{node} {event:?}"));
            if let Event::ConfigurationAppended { entry, .. } = event {
                self.changes.insert(*entry);
            }
            if let Event::TransferBegan { to, .. } = event {
                let term = self.node(node).unwrap().raft().term();
                self.handing = Some((to.get(), term.next()));
            }
        }
        self.check_leader(node);
        self.check_applied(node, &told);
        self.check_configuration(node);
        self.answer(node, &told);
    }

    fn fly(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        let refused = self.wiped.is_some_and(|wiped| wiped == from || wiped == to);
        let faulty = self.faulty;
        let lost = refused || faulty && (self.cut.contains(&(from, to)) || self.random.chance(self.lossy));
        if self.verbose {
            let Message { term, body, .. } = Message::decode(&bytes).unwrap();
            self.note(|| format!("{from}>{to} term {term}{} {body:?}", if lost { " lost" } else { "" }));
        }
        let copies = if lost { 0 } else { 1 + u64::from(faulty && self.random.chance(30)) };
        for _ in 0..copies {
            let slow = if faulty && self.random.chance(30) { 300 } else { 8 };
            self.flown += 1;
            // On a healthy link nothing overtakes.
            let due = self.now + if faulty { self.random.below(slow) } else { 2 };
            self.flights.insert((due, self.flown), (from, to, bytes.clone()));
        }
    }

    pub(crate) fn run(&mut self) {
        while self.now < FAULTY_MILLIS {
            self.faults();
            self.step();
        }
        self.check_executed();
        self.heal();
        let healed = self.applied.len();
        self.clients.iter_mut().for_each(|client| client.goal = client.finished + 5);
        let at_work = |world: &World| world.clients.iter().any(|client| client.finished < client.goal);
        while at_work(self) || !self.is_settled() {
            self.step();
            self.decay(healed);
            if !at_work(self) && self.kind == Kind::Decay && self.covered.diverged == 0 {
                // Replicas are compared as entries are applied.
                self.clients.iter_mut().for_each(|client| client.goal += 5);
            }
            if self.wiped.is_some() && self.random.chance(20) {
                self.change_members();
            }
            if self.now >= FAULTY_MILLIS + HEALED_MILLIS {
                self.describe();
                panic!("a healed cluster makes progress");
            }
        }
        self.check_executed();
        self.check_changes();
    }

    fn heal(&mut self) {
        self.note(|| "the faults end".to_owned());
        self.faulty = false;
        self.cut.clear();
        for node in 1..=self.size() {
            // A disk that was too small is replaced by a larger one.
            self.crash(node);
            self.start(node);
        }
    }

    /// Once replicas have been compared in a healed cluster, so that those which began with a snapshot of another are known
    /// to have the same state, that of one decays.
    fn decay(&mut self, healed: usize) {
        let compared = self.applied_by.iter().all(|&applied| applied >= healed + COMPARED_ENTRIES);
        if self.kind == Kind::Decay && self.decayed.is_none() && compared {
            let node = 1 + self.random.below(self.size());
            self.node(node).unwrap().machine().decayed.set(true);
            self.decayed = Some(node);
            self.covered.decays += 1;
        }
    }

    fn describe(&mut self) {
        for node in 1..=self.size() {
            let wiped = self.wiped == Some(node);
            let Some(replica) = self.node(node) else { continue };
            let status = replica.raft().status();
            let reads = replica.read(&|| Instant(0), raft_core::client::protocol::Consistency::Linearizable);
            let state = reads.map(|read| replica.read_state(read) == ReadState::Ready);
            let members = replica.configuration().members().to_vec();
            self.note(|| format!("wiped: {wiped}, {status:?} reads: {state:?} {members:?}"));
        }
        let settled = self.is_settled();
        self.note(|| format!("applied {} {:?}, settled: {settled}", self.applied.len(), self.applied_by));
    }
}
