//! Whole replicas under random faults: messages are lost, repeated and overtake each other, links
//! are cut, disks are slow, nodes crash and lose what was not durable; and clients with sessions
//! repeat their commands on any node until they have an answer. All the time it is checked that
//!
//! - a term has one leader (election safety), who has all that was ever applied (leader completeness),
//! - logs that agree on an entry agree on all before it (log matching),
//! - all replicas apply the same entries with the same outcomes (state machine safety),
//! - no command is executed twice, and every client is told the one answer of its command,
//! - a read sees all that was answered before it began;
//!
//! and, when the faults have ended, that all commands are answered and all replicas are equal.
//!
//! A failure prints its seed and what happened. `SEED=n` runs that seed alone, `SEEDS=n` so many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use common::DeferredLog;
use common::parts::{Counter, Link, Random};
use raft_core::client::protocol::{Consistency, RoleName};
use raft_core::configuration::{Configuration, Member};
use raft_core::message::{ForwardTicket, Message, ProposeError};
use raft_core::raft::config::Config;
use raft_core::raft::{ReadId, ReadState, StepError};
use raft_core::replica::{Observer, Replica};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, bytes_needed};
use raft_core::session::operation::{Operation, Outcome};
use raft_core::types::{ClusterId, EntryId, Instant, Millis, NodeId, Nonce, Sequence, SessionId, Term};
use raft_core::wire::Bytes;

const CLIENTS: usize = 3;
const FAULTY_MILLIS: u64 = 3_000;
/// The most that a healed cluster may take for the commands that remain.
const HEALED_MILLIS: u64 = 20_000;
const ANSWER_MILLIS: u64 = 150;

const LIMITS: SessionLimits = SessionLimits {
    sessions: 4,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(600_000),
    time_step_max: Millis(30_000),
    evict_idle: None,
};
const SESSION_BYTES: usize = bytes_needed(&LIMITS, 8);

type Node = Replica<DeferredLog, Link, Counter, FixedMemory<4, SESSION_BYTES>, 5>;
type Trace = Rc<RefCell<Vec<String>>>;

/// What one node told while it was polled.
#[derive(Default)]
struct Told {
    applied: Vec<(EntryId, String)>,
    opened: Vec<(EntryId, SessionId)>,
    answered: Vec<(EntryId, u64)>,
    forwarded: Vec<(ForwardTicket, Result<EntryId, ProposeError>)>,
}

impl Observer for Told {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.applied.push((entry, format!("{outcome:?}")));
        match outcome {
            Some(Outcome::Opened { session, .. }) => self.opened.push((entry, session)),
            Some(Outcome::Answered { answer, .. }) => {
                self.answered.push((entry, u64::from_le_bytes(answer.0.try_into().unwrap())));
            }
            _ => {}
        }
    }

    fn forwarded(&mut self, ticket: ForwardTicket, outcome: Result<EntryId, ProposeError>) {
        self.forwarded.push((ticket, outcome));
    }

    fn ignored(&mut self, from: NodeId, error: StepError) {
        panic!("node {from} sent what no correct member sends: {error}");
    }
}

/// A client that has one command under way at a time.
struct Client {
    nonce: Nonce,
    session: Option<SessionId>,
    sequence: u64,
    answered: u64,
    attempt: Option<(u64, Attempt)>,
    give_up_at: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    Appended(EntryId),
    Forwarded(ForwardTicket),
}

#[allow(clippy::large_enum_variant, reason = "there are few, in a test")]
enum State {
    Up(Box<Node>),
    Down(DeferredLog),
}

struct World {
    random: Random,
    trace: Trace,
    now: u64,
    /// Whether the trace tells of every message: it does when one seed is run alone.
    verbose: bool,
    config: Config,
    nodes: Vec<State>,
    clock_ahead: Vec<u64>,
    starts: u64,
    flights: BTreeMap<(u64, u64), (u64, Vec<u8>)>,
    flown: u64,
    cut: BTreeSet<(u64, u64)>,
    /// How often, in a thousand: a message is lost, a node crashes, a sync completes.
    lossy: u64,
    crashes: u64,
    disk: u64,
    clients: Vec<Client>,
    reads: Vec<(u64, ReadId, u64)>,
    reads_done: u64,
    /// Everything that was ever applied, and with what outcome.
    applied: Vec<(EntryId, String)>,
    /// How much of that each node has applied in its present life.
    applied_by: Vec<usize>,
    leaders: BTreeMap<Term, u64>,
    /// The highest answer any client has got.
    answered: u64,
}

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

impl World {
    fn new(seed: u64, members: u64, trace: Trace) -> World {
        let mut random = Random(seed);
        let list = (1..=members).map(|node| Member::voter(id(node), "").unwrap());
        let configuration = Configuration::new(ClusterId(1), LIMITS, list).unwrap();
        let config = Config {
            election_timeout: Millis(100),
            heartbeat_interval: Millis(20),
            message_bytes_max: [1, 200, 4000][random.below(3) as usize],
            inflight_entries_max: 1 + random.below(20),
            inflight_bytes_max: 1 + random.below(500),
            uncommitted_entries_max: 4 + random.below(20),
            ..Config::default()
        };
        let nonce = |client| Nonce(client as u128 + 1);
        let client = |client| Client {
            nonce: nonce(client),
            session: None,
            sequence: 1,
            answered: 0,
            attempt: None,
            give_up_at: 0,
        };
        let mut world = World {
            clock_ahead: (0..members).map(|_| random.below(10_000)).collect(),
            lossy: random.below(200),
            crashes: 2 + random.below(12),
            disk: 100 + random.below(900),
            random,
            trace,
            now: 0,
            nodes: (0..members).map(|_| State::Down(DeferredLog::new(&configuration))).collect(),
            verbose: std::env::var_os("SEED").is_some(),
            config,
            starts: 0,
            flights: BTreeMap::new(),
            flown: 0,
            cut: BTreeSet::new(),
            clients: (0..CLIENTS).map(client).collect(),
            reads: Vec::new(),
            reads_done: 0,
            applied: Vec::new(),
            applied_by: vec![0; members as usize],
            leaders: BTreeMap::new(),
            answered: 0,
        };
        (1..=members).for_each(|node| world.start(node));
        world
    }

    fn note(&self, event: impl FnOnce() -> String) {
        self.trace.borrow_mut().push(format!("{:>6} {}", self.now, event()));
    }

    fn members(&self) -> u64 {
        self.nodes.len() as u64
    }

    fn node(&mut self, node: u64) -> Option<&mut Node> {
        match &mut self.nodes[node as usize - 1] {
            State::Up(replica) => Some(replica),
            State::Down(_) => None,
        }
    }

    fn clock(&self, node: u64) -> Instant {
        Instant(self.now + self.clock_ahead[node as usize - 1])
    }

    fn start(&mut self, node: u64) {
        let (now, at) = (self.clock(node), node as usize - 1);
        let State::Down(log) = &self.nodes[at] else { return };
        self.starts += 1;
        let config = Config { seed: self.random.0 ^ self.starts, ..self.config };
        let (link, machine, memory) = (Link::default(), Counter::default(), FixedMemory::new());
        let mut log = log.clone();
        log.deferred = true;
        let replica = Replica::new(id(node), config, log, link, machine, memory, now).unwrap();
        self.nodes[at] = State::Up(Box::new(replica));
        self.applied_by[at] = 0;
        self.note(|| format!("{node} starts"));
    }

    fn crash(&mut self, node: u64) {
        let Some(replica) = self.node(node) else { return };
        let mut log = replica.raft().storage().clone();
        let unsaved = log.unsaved() as u64;
        let survive = self.random.below(unsaved + 1);
        log.crash(survive as usize);
        log.allowed = Rc::default();
        self.nodes[node as usize - 1] = State::Down(log);
        self.reads.retain(|&(reader, ..)| reader != node);
        self.note(|| format!("{node} crashes, {survive} of {unsaved} unsaved changes survive"));
    }

    fn faults(&mut self) {
        let node = 1 + self.random.below(self.members());
        if self.random.chance(self.crashes) {
            self.crash(node);
        }
        if self.random.chance(20) {
            self.start(node);
        }
        if self.random.chance(8) {
            self.cut.clear();
            let side: Vec<bool> = (0..self.members()).map(|_| self.random.chance(500)).collect();
            let one_way = self.random.chance(300);
            for (from, to) in
                (1..=self.members()).flat_map(|from| (1..=self.nodes.len() as u64).map(move |to| (from, to)))
            {
                let (here, there) = (side[from as usize - 1], side[to as usize - 1]);
                if here != there && (here || !one_way) {
                    self.cut.insert((from, to));
                }
            }
            let cut = self.cut.len();
            self.note(|| format!("{cut} links are cut"));
        }
        if self.random.chance(8) {
            self.cut.clear();
            self.note(|| "no link is cut".to_owned());
        }
    }

    /// One to five milliseconds pass.
    fn step(&mut self, faulty: bool) {
        self.now += 1 + self.random.below(5);
        self.arrive();
        for node in 1..=self.members() {
            if !faulty || self.random.chance(700) {
                self.poll(node, faulty);
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
            let (to, bytes) = flight.remove();
            if let Some(replica) = self.node(to) {
                replica.transport_mut().arrived.push_back(bytes);
            }
        }
    }

    fn poll(&mut self, node: u64, faulty: bool) {
        let (now, mut told) = (self.clock(node), Told::default());
        let closed = (1..=self.members()).filter(|_| faulty && self.random.chance(50)).collect();
        let disk = if faulty { u32::from(self.random.chance(self.disk)) } else { 100 };
        let Some(replica) = self.node(node) else { return };
        replica.transport_mut().closed = closed;
        replica.raft().storage().allowed.set(disk);
        replica.poll(now, &mut told).unwrap();
        let sent = core::mem::take(&mut replica.transport_mut().sent);
        sent.into_iter().for_each(|(to, bytes)| self.fly(node, to, bytes, faulty));
        self.check_leader(node);
        self.hear(node, told);
    }

    fn fly(&mut self, from: u64, to: u64, bytes: Vec<u8>, faulty: bool) {
        let lost = faulty && (self.cut.contains(&(from, to)) || self.random.chance(self.lossy));
        if self.verbose {
            let Message { term, body, .. } = Message::decode(&bytes).unwrap();
            self.note(|| format!("{from}>{to} term {term}{} {body:?}", if lost { " lost" } else { "" }));
        }
        let copies = if lost { 0 } else { 1 + u64::from(faulty && self.random.chance(30)) };
        for _ in 0..copies {
            let slow = if faulty && self.random.chance(30) { 300 } else { 8 };
            self.flown += 1;
            let due = self.now + self.random.below(slow);
            self.flights.insert((due, self.flown), (to, bytes.clone()));
        }
    }

    /// Takes what a node told: compares what it applied, and brings clients their answers.
    fn hear(&mut self, node: u64, told: Told) {
        for (entry, outcome) in told.applied {
            let at = self.applied_by[node as usize - 1];
            assert_eq!(entry.index.0, at as u64 + 1, "node {node} applies every entry once, in order");
            match self.applied.get(at) {
                Some(known) => assert_eq!(known, &(entry, outcome), "node {node} applies what all others do"),
                None => self.applied.push((entry, outcome)),
            }
            self.applied_by[node as usize - 1] = at + 1;
        }
        for (ticket, outcome) in told.forwarded {
            let forwarded = Some((node, Attempt::Forwarded(ticket)));
            if let Some(client) = self.clients.iter_mut().find(|client| client.attempt == forwarded) {
                client.attempt = outcome.ok().map(|entry| (node, Attempt::Appended(entry)));
            }
        }
        for (entry, session) in told.opened {
            self.finish(node, entry, |client| client.session = Some(session));
        }
        for (entry, answer) in told.answered {
            let executed = self.node(node).unwrap().machine().executed[answer as usize - 1].clone();
            self.finish(node, entry, |client| {
                assert_eq!(executed, command(client), "the answer is that of the client's command");
                (client.sequence, client.answered) = (client.sequence + 1, answer);
            });
        }
        self.answered = self.clients.iter().map(|client| client.answered).max().unwrap_or(0);
    }

    fn finish(&mut self, node: u64, entry: EntryId, act: impl FnOnce(&mut Client)) {
        let attempt = Some((node, Attempt::Appended(entry)));
        if let Some(client) = self.clients.iter_mut().find(|client| client.attempt == attempt) {
            client.attempt = None;
            act(client);
        }
    }

    /// A client that waits for nothing, or has waited too long, tries any node.
    fn act(&mut self, client: usize) {
        let now = self.now;
        let this = &mut self.clients[client];
        if this.attempt.is_some() && now < this.give_up_at {
            return;
        }
        (this.attempt, this.give_up_at) = (None, now + ANSWER_MILLIS);
        let (secret, bytes) = (this.nonce, command(this));
        let operation = match this.session {
            None => Operation::Open { nonce: secret, fifo: false },
            Some(session) => {
                let sequence = Sequence(this.sequence);
                Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(&bytes) }
            }
        };
        let secret = this.session.map(|_| secret);
        let node = 1 + self.random.below(self.members());
        let clock = self.clock(node);
        let Some(replica) = self.node(node) else { return };
        let attempt = match replica.propose(clock, secret, &operation) {
            Ok(entry) => Some(Attempt::Appended(entry)),
            Err(ProposeError::NotLeader { leader: Some(_) }) => {
                replica.forward(secret, &operation).ok().map(Attempt::Forwarded)
            }
            Err(_) => None,
        };
        self.clients[client].attempt = attempt.map(|attempt| (node, attempt));
    }

    fn begin_read(&mut self) {
        let node = 1 + self.random.below(self.members());
        let (clock, answered) = (self.clock(node), self.answered);
        if let Some(read) = self.node(node).and_then(|replica| replica.read(clock, Consistency::Linearizable).ok()) {
            self.reads.push((node, read, answered));
        }
    }

    fn check_reads(&mut self) {
        for (node, read, answered) in core::mem::take(&mut self.reads) {
            let Some(replica) = self.node(node) else { continue };
            match replica.read_state(read) {
                ReadState::Waiting => self.reads.push((node, read, answered)),
                ReadState::Lost => {}
                ReadState::Ready => {
                    let seen = replica.machine().executed.len() as u64;
                    assert!(seen >= answered, "node {node} reads {seen} after {answered} was answered");
                    self.reads_done += 1;
                }
            }
        }
    }

    fn check_leader(&mut self, node: u64) {
        let raft = self.node(node).unwrap().raft();
        let term = raft.term();
        if raft.role() != RoleName::Leader {
            return;
        }
        let log: Vec<EntryId> = raft.storage().ids().collect();
        let known = self.leaders.insert(term, node);
        assert!(known.is_none_or(|known| known == node), "nodes {known:?} and {node} lead term {term}");
        if known.is_none() {
            self.note(|| format!("{node} leads term {term}"));
            let missing = self.applied.iter().zip(&log).find(|((applied, _), held)| applied != *held);
            assert_eq!(missing, None, "the leader of term {term} lacks what was applied");
            assert!(self.applied.len() <= log.len(), "the leader of term {term} lacks what was applied");
        }
    }

    fn check_logs(&mut self) {
        let raft_ids = |state: &State| match state {
            State::Up(replica) => replica.raft().storage().ids().collect(),
            State::Down(log) => log.ids().collect::<Vec<EntryId>>(),
        };
        if !self.random.chance(100) {
            return;
        }
        let logs: Vec<Vec<EntryId>> = self.nodes.iter().map(raft_ids).collect();
        for (one, other) in logs.iter().flat_map(|one| logs.iter().map(move |other| (one, other))) {
            let agree = one.iter().zip(other).rposition(|(one, other)| one == other).map_or(0, |last| last + 1);
            assert_eq!(one[..agree], other[..agree], "logs that agree on an entry agree on all before it");
        }
    }

    fn check_executed(&mut self) {
        for node in 1..=self.members() {
            let Some(replica) = self.node(node) else { continue };
            let executed = &replica.machine().executed;
            let distinct: BTreeSet<&Vec<u8>> = executed.iter().collect();
            assert_eq!(distinct.len(), executed.len(), "node {node} executed a command twice");
        }
    }

    fn run(&mut self) {
        while self.now < FAULTY_MILLIS {
            self.faults();
            self.step(true);
        }
        self.check_executed();
        self.note(|| "the faults end".to_owned());
        self.cut.clear();
        (1..=self.members()).for_each(|node| self.start(node));
        let goals: Vec<u64> = self.clients.iter().map(|client| client.sequence + 5).collect();
        let done = |world: &World| {
            let behind = world.applied_by.iter().any(|&applied| applied != world.applied.len());
            !behind && world.clients.iter().zip(&goals).all(|(client, &goal)| client.sequence >= goal)
        };
        while !done(self) {
            self.step(false);
            assert!(self.now < FAULTY_MILLIS + HEALED_MILLIS, "a healed cluster makes progress");
        }
        self.check_executed();
    }
}

fn command(client: &Client) -> Vec<u8> {
    [client.nonce.0.to_le_bytes().as_slice(), &client.sequence.to_le_bytes()].concat()
}

/// Runs the seeds; gives how many commands were answered and reads served in all.
fn run_seeds(members: u64, seeds: u64) -> (u64, u64) {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(seeds),
    };
    let (mut commands, mut reads) = (0, 0);
    for seed in seeds {
        let trace = Trace::default();
        let run = || {
            let mut world = World::new(seed, members, Rc::clone(&trace));
            world.run();
            (world.answered, world.reads_done)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok((answered, served)) => (commands, reads) = (commands + answered, reads + served),
            Err(panic) => {
                println!("{members} members, SEED={seed}:\n{}", trace.borrow().join("\n"));
                resume_unwind(panic);
            }
        }
    }
    println!("{members} members: {commands} commands, {reads} reads");
    (commands, reads)
}

#[test]
fn three_replicas_under_faults() {
    let (commands, reads) = run_seeds(3, 120);
    assert!(commands > 0 && reads > 0, "the faults leave something to check");
}

#[test]
fn five_replicas_under_faults() {
    let (commands, reads) = run_seeds(5, 80);
    assert!(commands > 0 && reads > 0, "the faults leave something to check");
}
