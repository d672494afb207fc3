//! What a world is like: drawn from its seed, so that no two are alike.
//!
//! Each kind of fault is switched on or off by itself (swarm testing: Groce and others, ISSTA 2012): what is rare when
//! everything happens at once becomes common in a world where little else does.

use std::fmt;

use raft_core::configuration::Lease;
use raft_core::raft::config::Config;
use raft_core::session::limits::SessionLimits;
use raft_core::types::{Millis, NodeId};

use crate::random::Random;

/// How often something happens: the mean time between two, in simulated milliseconds; 0 for never.
pub type Every = u64;

/// A world. Every field may be changed by hand before it begins.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is named for what it is; the units stand in their groups")]
pub struct Options {
    pub nodes: u64,
    pub clients: usize,
    /// For how long faults happen, in milliseconds.
    pub faulty_millis: u64,
    /// What is replicated.
    pub limits: SessionLimits,
    pub lease: Option<Lease>,
    /// What each node has for itself.
    pub raft: Config,
    /// Whether nodes differ in that.
    pub mixed: bool,
    pub segment_bytes: u64,
    pub network: NetworkOptions,
    pub disks: DiskOptions,
    pub clocks: ClockOptions,
    pub processes: ProcessOptions,
    pub operator: OperatorOptions,
    pub load: LoadOptions,
    pub engines: EngineOptions,
}

/// The network. Chances are parts of a million for each packet, times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct NetworkOptions {
    pub latency_min: u64,
    pub latency_max: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Packets of long ago that arrive once more, for each that is sent.
    pub replayed: u64,
    pub damaged: u64,
    /// Packets that take up to `slow_max` instead.
    pub slow: u64,
    pub slow_max: u64,
    /// Partitions and their ends.
    pub parted: Every,
    pub healed: Every,
    /// How many of a hundred partitions let one side be heard.
    pub one_way_percent: u64,
    /// Single links that go down for a while, without a pattern.
    pub clogged: Every,
    /// All links of one node, always the same, that go down and come up again by turns.
    pub flapping: Every,
    /// Sockets that a node does not read for a while.
    pub unread: Every,
    /// Turns, in a million, in which a node reads only a part of what has arrived.
    pub part_read: u64,
    /// What a link carries in a millisecond; 0 for no limit.
    pub bytes_per_milli: u64,
    /// Whether packets go on to be lost, late, repeated and damaged when the faults have ended, but between those that
    /// were healed.
    pub faulty_after: bool,
}

/// Disks. Times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct DiskOptions {
    pub sync_min: u64,
    pub sync_max: u64,
    /// Disks that are slow for a while, and how long a sync takes then at most.
    pub stalled: Every,
    pub stall_max: u64,
    /// Calls that fail.
    pub failed: Every,
    /// Disks that are full for a while.
    pub full: Every,
    /// Bits that flip in what is durable.
    pub decayed: Every,
    /// Sectors that cannot be read any more.
    pub unreadable: Every,
    /// Syncs that make nothing durable and say that they have.
    pub lost_sync: Every,
    /// Whether sectors that were being written when the power went may hold anything.
    pub garbage: bool,
}

/// Clocks.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct ClockOptions {
    /// How much faster or slower than the world's a clock runs, in parts of a million at most.
    pub drift: u64,
    pub jumped: Every,
    pub jump_max_millis: u64,
    /// Whether they go on while their machines sleep. Leases rest on it.
    pub counts_sleep: bool,
}

/// Processes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct ProcessOptions {
    /// Power losses of one node, between two turns of its loop or in the midst of one.
    pub crashed: Every,
    /// Kills: what was written survives, whether it was synced or not.
    pub killed: Every,
    /// Power losses of all nodes together.
    pub blackout: Every,
    /// How long a node that was down stays so at most, in milliseconds.
    pub down_max_millis: u64,
    pub paused: Every,
    pub pause_max_millis: u64,
    /// Turns of a node's loop in whose midst its thread loses the processor for as long as a pause.
    pub interrupted: Every,
    /// Machines that sleep for as long as a pause.
    pub asleep: Every,
    /// Turns, in a million, in which each call takes milliseconds.
    pub slow_turn: u64,
    /// Orderly stops.
    pub stopped: Every,
    /// Disks that are wiped, or come back as they were long ago, under the same id.
    pub wiped: Every,
    pub restored: Every,
    /// After so many milliseconds a process that was given up is started again with the same directory, and again and again,
    /// each time after twice as long; 0 for never.
    pub supervised: u64,
    /// A second node that claims the id of another.
    pub doubled: Every,
}

/// What operators do.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct OperatorOptions {
    pub members_changed: Every,
    pub transferred: Every,
    pub snapshot_made: Every,
}

/// What clients do. Times are milliseconds.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct LoadOptions {
    /// How long a client thinks between two operations at most.
    pub think_max: u64,
    /// How many operations one client has under way at most.
    pub window: u64,
    pub fifo: bool,
    /// How many of a hundred queries are by lease, and how many stale.
    pub lease_percent: u64,
    pub stale_percent: u64,
    /// How many of a hundred operations have no session.
    pub plain_percent: u64,
    pub forward: bool,
    /// Clients that crash, and how many of a hundred come back with their session.
    pub crashed: Every,
    pub keeps_session_percent: u64,
    /// Clients that stop acknowledging for longer than sessions live.
    pub silent: Every,
    /// Storms of opens by strangers.
    pub storm: Every,
    /// Requests with hostile numbers.
    pub hostile: Every,
    /// Reads by somebody who asks any node, whether it leads or not, and gives up on none.
    pub onlooker: Every,
}

/// Clients that are engines of `raft-client`. Chances are parts of a million, of each answer or each operation.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub struct EngineOptions {
    /// How many there are, and how many sessions each has.
    pub engines: u64,
    pub sessions: u64,
    /// Answers that come late, or a second time, up to three times as long after as sessions live.
    pub late: u64,
    /// Sessions that are closed, and others opened in their place.
    pub replaced: u64,
    /// Connections that end, whatever is under way on them.
    pub broken: u64,
    /// Processes that do not run for up to twice as long as sessions live.
    pub paused: u64,
    pub crashed: u64,
    /// How many of a hundred requests are given up before long.
    pub hasty_percent: u64,
}

impl Options {
    /// The world of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Options {
        let mut random = Random::new(seed ^ 0x5eed_0f00_7175);
        let random = &mut random;
        let nodes = *random.pick(&[3, 3, 3, 3, 5, 5, 1, 2, 4]).unwrap_or(&3);
        let raft = raft(random);
        let timeout = raft.election_timeout.0;
        let lease = random.chance(400_000).then(|| Lease {
            // Some end while their leader still leads, some outlast the next election.
            duration: Millis(if random.chance(500_000) {
                random.between(timeout / 4, timeout)
            } else {
                random.between(timeout, 4 * timeout)
            }),
            drift_per_mille: u16::try_from(random.between(20, 120)).unwrap_or(20),
        });
        let network = network(random);
        let load = load(random);
        let options = Options {
            nodes,
            clients: usize::try_from(random.between(1, 4)).unwrap_or(1),
            faulty_millis: random.between(5_000, 30_000),
            limits: limits(random),
            lease,
            segment_bytes: *random.pick(&[4 << 10, 16 << 10, 64 << 10]).unwrap_or(&4096),
            network,
            disks: disks(random, nodes),
            clocks: clocks(random, lease),
            processes: processes(random, nodes),
            operator: operator(random),
            load,
            raft,
            mixed: random.chance(300_000),
            engines: EngineOptions::default(),
        }
        .with_engines(&mut Random::new(seed ^ 0xe46_14e5));
        let options = if options.lease.is_some() { options.without_slow_turns() } else { options };
        if options.processes.restored + options.disks.lost_sync > 0 {
            options.with_forgetful_disks_alone()
        } else {
            options
        }
    }

    /// Leases are judged by a clock that was read before the request was taken, so far: that is wrong where a turn takes time.
    fn without_slow_turns(mut self) -> Options {
        (self.processes.interrupted, self.processes.asleep, self.processes.slow_turn) = (0, 0, 0);
        self
    }

    /// Of a disk that comes back as it was long ago, or without what it said was durable, only a leader can tell that it
    /// lacks what it acknowledged, for the life of its storage is the right one. So one that knows must be there, or
    /// nobody can be blamed: all that ends leaders is left out.
    fn with_forgetful_disks_alone(mut self) -> Options {
        let ProcessOptions { restored, down_max_millis, supervised, .. } = self.processes;
        self.processes = ProcessOptions { restored, down_max_millis, supervised, ..ProcessOptions::default() };
        let DiskOptions { sync_min, sync_max, lost_sync, .. } = self.disks;
        self.disks = DiskOptions { sync_min, sync_max: sync_max.min(10_000), lost_sync, ..DiskOptions::default() };
        let NetworkOptions { latency_min, latency_max, .. } = self.network;
        self.network = NetworkOptions { latency_min, latency_max, ..NetworkOptions::default() };
        self.operator.transferred = 0;
        self.operator.members_changed = 0;
        self.raft.election_timeout = Millis(self.raft.election_timeout.0.max(300));
        self
    }

    /// Some clients are engines. All sessions that are renewed find room, and one more of each engine, which is being closed.
    fn with_engines(mut self, random: &mut Random) -> Options {
        let some = *random.pick(&[0, 0, 0, 1, 1, 2]).unwrap_or(&1);
        let (engines, sessions) =
            if self.limits.sessions > 4 { (some, random.between(1, 2)) } else { (some.min(1), 1) };
        let room = u64::from(self.limits.sessions).saturating_sub(engines * (sessions + 1));
        self.clients = self.clients.min(usize::try_from(room).unwrap_or(usize::MAX));
        // Where it pauses all the time, no session lives for long, and the next one soon uses its numbers.
        let paused_max = *random.pick(&[5_000, 200_000]).unwrap_or(&5_000);
        let late_max = *random.pick(&[20_000, 60_000, 300_000]).unwrap_or(&20_000);
        self.engines = EngineOptions {
            engines,
            sessions,
            late: sometimes(random, 60, 1_000, late_max),
            replaced: sometimes(random, 40, 1_000, 50_000),
            broken: sometimes(random, 40, 1_000, 50_000),
            paused: sometimes(random, 50, 1_000, paused_max),
            crashed: sometimes(random, 20, 100, 5_000),
            hasty_percent: sometimes(random, 40, 1, 8),
        };
        self
    }

    /// The settings of one node. None of them may change what is replicated.
    #[must_use]
    pub fn raft_of(&self, id: NodeId) -> Config {
        if !self.mixed {
            return self.raft;
        }
        let mut random = Random::new(id.get());
        let heartbeat = self.raft.heartbeat_interval.0;
        Config {
            election_timeout: Millis(self.raft.election_timeout.0 + random.below(heartbeat)),
            message_bytes_max: *random.pick(&[200, 1_000, 100_000]).unwrap_or(&1_000),
            inflight_entries_max: random.between(50, 100),
            uncommitted_entries_max: random.between(4, 200),
            snapshot_after_entries: random.between(30, 1_000),
            snapshot_keep_entries: random.below(40),
            ..self.raft
        }
    }

    /// Whether a leader's lease has ended when it believes so: not if its clock stands still while its machine sleeps.
    #[must_use]
    pub fn leases_hold(&self) -> bool {
        self.lease.is_none() || self.processes.asleep == 0 || self.clocks.counts_sleep
    }

    /// How long a client waits for an answer at first: with the longest wait, which is ten times that, it has asked
    /// another node long before it loses patience.
    #[must_use]
    pub fn attempt_timeout(&self) -> Millis {
        Millis(self.raft.election_timeout.0 * 2 / 3)
    }

    /// A world without faults, in which three nodes should live in peace.
    #[must_use]
    pub fn calm(seed: u64) -> Options {
        let mut options = Options::draw(seed);
        let NetworkOptions { latency_min, latency_max, .. } = options.network;
        options.nodes = 3;
        options.network = NetworkOptions { latency_min, latency_max, ..NetworkOptions::default() };
        options.disks = DiskOptions {
            sync_min: options.disks.sync_min,
            sync_max: options.disks.sync_max,
            ..DiskOptions::default()
        };
        options.mixed = false;
        options.clocks.jumped = 0;
        options.processes = ProcessOptions::default();
        let EngineOptions { engines, sessions, .. } = options.engines;
        options.engines = EngineOptions { engines, sessions, ..EngineOptions::default() };
        options.operator = OperatorOptions::default();
        options.raft.election_timeout = Millis(options.raft.election_timeout.0.max(200));
        options
    }
}

fn sometimes(random: &mut Random, percent: u64, least: u64, most: u64) -> Every {
    if random.chance(percent * 10_000) { random.between(least, most) } else { 0 }
}

fn limits(random: &mut Random) -> SessionLimits {
    let ttl = *random.pick(&[1_000, 3_000, 10_000]).unwrap_or(&3_000);
    let evict_idle = random.chance(200_000).then_some(Millis(ttl / 2));
    SessionLimits {
        sessions: *random.pick(&[4, 8, 32]).unwrap_or(&8),
        window: *random.pick(&[1, 4, 16]).unwrap_or(&4),
        answer_bytes: *random.pick(&[8, 32, 64]).unwrap_or(&32),
        ttl: Millis(ttl),
        time_step_max: Millis(ttl / 10),
        evict_idle,
    }
}

fn raft(random: &mut Random) -> Config {
    let heartbeat = random.between(10, 50);
    let inflight_entries_max = random.between(4, 100);
    Config {
        heartbeat_interval: Millis(heartbeat),
        // Several times what a message takes, with its answer and the syncs in between (Raft paper, section 5.6).
        election_timeout: Millis((heartbeat * random.between(4, 10)).max(100)),
        entry_bytes_max: 4096,
        message_bytes_max: *random.pick(&[200, 1_000, 100_000]).unwrap_or(&1_000),
        inflight_entries_max,
        inflight_bytes_max: random.between(200, 100_000),
        // A queue that takes longer than clients wait for only fills up with what they send again.
        uncommitted_entries_max: random.between(4, 200).min(8 * inflight_entries_max),
        uncommitted_bytes_max: random.between(2_000, 1_000_000),
        snapshot_inflight_bytes_max: random.between(1_000, 20_000),
        disk_stall_max: Millis(*random.pick(&[300, 1_000, 5_000]).unwrap_or(&1_000)),
        snapshot_after_entries: *random.pick(&[30, 100, 1_000, 1_000_000]).unwrap_or(&100),
        snapshot_after_bytes: *random.pick(&[20_000, 1 << 30]).unwrap_or(&20_000),
        snapshot_keep_entries: random.below(40),
        snapshot_keep_bytes_max: *random.pick(&[None, Some(0), Some(2_000)]).unwrap_or(&None),
        check_after_entries: *random.pick(&[0, 10, 100]).unwrap_or(&10),
        seed: 1,
    }
}

fn network(random: &mut Random) -> NetworkOptions {
    let latency_min = random.between(50, 2_000);
    let parted = sometimes(random, 60, 300, 5_000);
    NetworkOptions {
        latency_min,
        latency_max: latency_min + random.between(0, 5_000),
        lost: sometimes(random, 50, 1_000, 300_000),
        doubled: sometimes(random, 50, 1_000, 100_000),
        replayed: sometimes(random, 30, 100, 20_000),
        damaged: sometimes(random, 30, 100, 20_000),
        slow: sometimes(random, 50, 1_000, 100_000),
        slow_max: random.between(10_000, 2_000_000),
        parted,
        healed: random.between(300, 3_000),
        one_way_percent: random.between(0, 100),
        clogged: sometimes(random, 40, 100, 3_000),
        flapping: sometimes(random, 15, 30, 600),
        unread: sometimes(random, 30, 300, 5_000),
        part_read: if random.chance(500_000) { 50_000 } else { 0 },
        bytes_per_milli: sometimes(random, 20, 200, 5_000),
        faulty_after: random.chance(500_000),
    }
}

fn disks(random: &mut Random, nodes: u64) -> DiskOptions {
    let survives = nodes >= 3;
    let sync_min = random.between(20, 2_000);
    DiskOptions {
        sync_min,
        sync_max: sync_min + random.between(0, 10_000),
        stalled: sometimes(random, 30, 1_000, 10_000),
        stall_max: random.between(50_000, 3_000_000),
        failed: sometimes(random, 30, 2_000, 20_000),
        full: sometimes(random, 20, 3_000, 20_000),
        decayed: sometimes(random, 25, 3_000, 20_000),
        unreadable: if survives { sometimes(random, 20, 1_000, 10_000) } else { 0 },
        lost_sync: if survives { sometimes(random, 6, 1_000, 5_000) } else { 0 },
        garbage: random.chance(150_000),
    }
}

fn clocks(random: &mut Random, lease: Option<Lease>) -> ClockOptions {
    // Only lease reads depend on a bound of the drift, and it is part of what the cluster was told.
    let bound = lease.map_or(200_000, |lease| u64::from(lease.drift_per_mille) * 1_000);
    ClockOptions {
        drift: sometimes(random, 70, 0, bound),
        jumped: if lease.is_some() { 0 } else { sometimes(random, 30, 1_000, 20_000) },
        counts_sleep: random.chance(700_000),
        jump_max_millis: *random.pick(&[100, 2_000, 3_600_000, 31_536_000_000]).unwrap_or(&100),
    }
}

fn processes(random: &mut Random, nodes: u64) -> ProcessOptions {
    let survives = nodes >= 3;
    ProcessOptions {
        crashed: sometimes(random, 70, 300, 5_000),
        killed: sometimes(random, 40, 500, 5_000),
        blackout: sometimes(random, 30, 3_000, 20_000),
        down_max_millis: random.between(50, 3_000),
        paused: sometimes(random, 40, 500, 8_000),
        pause_max_millis: random.between(50, 5_000),
        interrupted: sometimes(random, 40, 300, 5_000),
        asleep: sometimes(random, 25, 1_000, 10_000),
        slow_turn: if random.chance(500_000) { random.between(1_000, 50_000) } else { 0 },
        stopped: sometimes(random, 30, 1_000, 10_000),
        wiped: if survives { sometimes(random, 20, 3_000, 20_000) } else { 0 },
        restored: if survives { sometimes(random, 6, 1_000, 5_000) } else { 0 },
        supervised: sometimes(random, 40, 1, 500),
        doubled: if survives { sometimes(random, 10, 5_000, 30_000) } else { 0 },
    }
}

fn operator(random: &mut Random) -> OperatorOptions {
    OperatorOptions {
        members_changed: sometimes(random, 50, 500, 8_000),
        transferred: sometimes(random, 40, 300, 8_000),
        snapshot_made: sometimes(random, 20, 500, 5_000),
    }
}

fn load(random: &mut Random) -> LoadOptions {
    LoadOptions {
        think_max: *random.pick(&[10, 50, 200, 1_000]).unwrap_or(&50),
        window: random.between(1, 8),
        fifo: random.chance(250_000),
        lease_percent: random.between(0, 100),
        stale_percent: random.between(0, 20),
        plain_percent: random.between(0, 15),
        forward: random.chance(500_000),
        crashed: sometimes(random, 40, 1_000, 10_000),
        keeps_session_percent: random.between(0, 100),
        silent: sometimes(random, 30, 1_000, 10_000),
        storm: sometimes(random, 25, 500, 5_000),
        hostile: sometimes(random, 40, 50, 2_000),
        onlooker: sometimes(random, 60, 5, 100),
    }
}

impl fmt::Display for Options {
    /// One line for each group, so that a failure's world can be read at a glance.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} nodes, {} clients, {} ms of faults", self.nodes, self.clients, self.faulty_millis)?;
        writeln!(formatter, "{:?}, {:?}, segments of {} bytes", self.limits, self.lease, self.segment_bytes)?;
        writeln!(formatter, "{:?}, differs between nodes: {}", self.raft, self.mixed)?;
        writeln!(formatter, "{:?}", self.network)?;
        writeln!(formatter, "{:?}", self.disks)?;
        writeln!(formatter, "{:?}", self.clocks)?;
        writeln!(formatter, "{:?}", self.processes)?;
        writeln!(formatter, "{:?}", self.operator)?;
        writeln!(formatter, "{:?}", self.load)?;
        write!(formatter, "{:?}", self.engines)
    }
}
