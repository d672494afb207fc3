//! As `step`, a node that is lied to, but all of it: with its session table and state machine, the snapshots that it
//! makes and restores, the log that it compacts, and the operations that others have it propose.
//!
//! A lie may end it, by an error that says why. It never panics, the log stays within its room, entries are applied
//! once and in order, and what it says can be read.

#![no_main]

use std::cell::Cell;
use std::rc::Rc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::client::protocol::Consistency;
use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::message::{Body, Message, Round};
use raft_core::raft::config::Config;
use raft_core::replica::{PollError, Replica};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::HeapMemory;
use raft_core::session::operation::Operation;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Instant, Millis, Nonce, Term};
use raft_fuzz::hostile::{CLUSTER, Marks, NODE, Payload, Sent, Snapshot, node};
use raft_fuzz::state::{State, Told};

#[path = "../../raft-core/tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of the core need more of it")]
mod common;

use common::DeferredLog;
use common::parts::Link;

const NODES: usize = 6;
/// The most entries there is room for.
const ENTRIES_MAX: usize = 40;
const INPUTS_MAX: usize = 50;

#[derive(Debug, Arbitrary)]
struct Life {
    beginning: Beginning,
    inputs: Vec<Input>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Beginning {
    Member,
    Alone,
    Joining,
    Witness,
    Leader,
}

#[derive(Debug, Arbitrary)]
enum Input {
    Hear(Sent),
    /// What comes next is heard in the same turn.
    HearMore(Sent),
    Pass(u16),
    Wait,
    Propose {
        secret: Option<u8>,
        payload: Payload,
    },
    Forward(Payload),
    Read(bool),
    MakeSnapshot,
    /// So many syncs may end.
    Sync(u8),
    Close(u8),
    Witness,
    Crash(u8),
}

type Node = Replica<DeferredLog, Link, State, HeapMemory, NODES>;
type End = PollError<raft_core::ring::Never>;

struct World {
    replica: Node,
    told: Told,
    now: Instant,
    syncs: Rc<Cell<u32>>,
    snapshot: Option<Snapshot>,
}

fuzz_target!(|life: Life| {
    let mut world = World::new(life.beginning);
    if matches!(life.beginning, Beginning::Leader) {
        world.lead();
    }
    for input in life.inputs.iter().take(INPUTS_MAX) {
        if let Err(error) = world.take(input) {
            assert!(!error.to_string().is_empty());
            return;
        }
        world.check();
    }
});

fn members(of: Beginning) -> Configuration {
    let voters: &[u64] = if matches!(of, Beginning::Alone) { &[1] } else { &[1, 2, 3] };
    let member = |&id: &u64| {
        let suffrage = if matches!(of, Beginning::Witness) && id == NODE { Suffrage::Witness } else { Suffrage::Voter };
        Member::new(node(id), suffrage, "").expect("the address is short")
    };
    Configuration::new(CLUSTER, limits(), voters.iter().map(member)).expect("they can vote")
}

fn limits() -> SessionLimits {
    let (ttl, time_step_max) = (Millis(1000), Millis(100));
    SessionLimits { sessions: 3, window: 2, answer_bytes: 5, ttl, time_step_max, evict_idle: None }
}

fn start(log: DeferredLog, now: Instant) -> Option<Node> {
    let config = Config {
        seed: 1,
        entry_bytes_max: 1000,
        snapshot_after_entries: 8,
        snapshot_keep_entries: 2,
        check_after_entries: 4,
        ..Config::default()
    };
    let memory = HeapMemory::new(&limits(), 20).expect("there is memory for it");
    let (id, link, state) = (node(NODE), Link::default(), State::default());
    if log.last() == EntryId::ZERO {
        let members = members(Beginning::Member);
        return Replica::join(id, config, members, log, link, state, memory, now).ok();
    }
    Replica::new(id, config, log, link, state, memory, now).ok()
}

impl World {
    fn new(beginning: Beginning) -> World {
        let mut log = match beginning {
            Beginning::Joining => DeferredLog::blank(),
            _ => DeferredLog::new(&members(beginning)),
        };
        let (syncs, now) = (Rc::new(Cell::new(u32::MAX)), Instant(1000));
        (log.deferred, log.entries_max, log.draft_bytes_max) = (true, ENTRIES_MAX, 4 << 10);
        log.allowed = Rc::clone(&syncs);
        let replica = start(log, now).expect("nobody has lied yet");
        World { replica, told: Told::default(), now, syncs, snapshot: None }
    }

    /// Member 2 votes for it, and acknowledges what it appends.
    fn lead(&mut self) {
        self.take(&Input::Wait).expect("nobody has lied yet");
        let term = self.replica.raft().term().next();
        self.say(term, Body::PreVoteReply { granted: true });
        self.say(term, Body::VoteReply { granted: true });
        let matched = self.replica.raft().storage().last().index;
        self.say(term, Body::AppendReply { round: Round(1), matched, rejected: None, counts: true });
        assert_eq!(self.replica.raft().last_applied(), matched, "it leads, and has committed");
    }

    fn say(&mut self, term: Term, body: Body<'_>) {
        let message = Message { from: node(2), to: node(NODE), term, body };
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).expect("a message fits its bound");
        bytes.truncate(length);
        self.replica.transport_mut().arrived.push_back(bytes);
        self.poll().expect("nobody has lied yet");
    }

    fn take(&mut self, input: &Input) -> Result<(), End> {
        let now = self.now;
        match input {
            Input::Hear(sent) => self.hear(sent),
            Input::HearMore(sent) => {
                self.hear(sent);
                return Ok(());
            }
            Input::Pass(millis) => self.now = now.after(Millis(u64::from(*millis))),
            Input::Wait => self.now = now.max(self.replica.raft().deadline()),
            Input::Propose { secret, payload } => {
                let (_, bytes) = payload.of(&self.marks());
                if let Ok(operation) = Operation::decode(&bytes) {
                    let _ = self.replica.propose(now, secret.map(|secret| Nonce(secret.into())), &operation);
                }
            }
            Input::Forward(payload) => {
                let (_, bytes) = payload.of(&self.marks());
                if let Ok(operation) = Operation::decode(&bytes) {
                    let _ = self.replica.forward(None, &operation);
                }
            }
            Input::Read(lease) => {
                let consistency = if *lease { Consistency::Lease } else { Consistency::Linearizable };
                let read = self.replica.read(&|| now, consistency);
                let _ = read.map(|read| self.replica.read_state(read));
            }
            Input::MakeSnapshot => assert!(self.replica.make_snapshot() <= self.replica.raft().commit()),
            Input::Sync(syncs) => self.syncs.set((*syncs).into()),
            Input::Close(peer) => {
                let closed = &mut self.replica.transport_mut().closed;
                if !closed.remove(&(*peer).into()) {
                    closed.insert((*peer).into());
                }
            }
            Input::Witness => self.replica.witness()?,
            Input::Crash(survive) => self.crash((*survive).into()),
        }
        self.poll()
    }

    fn poll(&mut self) -> Result<(), End> {
        self.replica.poll(&|| self.now, &mut self.told)?;
        for (_, bytes) in core::mem::take(&mut self.replica.transport_mut().sent) {
            Message::decode(&bytes).expect("what is said can be read");
        }
        Ok(())
    }

    fn marks(&self) -> Marks {
        let raft = self.replica.raft();
        let log = raft.storage();
        Marks {
            term: raft.term(),
            applied: raft.last_applied(),
            commit: raft.commit(),
            saved: raft.status().saved,
            last: log.last(),
            base: log.base(),
            time: log.last_time(),
        }
    }

    fn hear(&mut self, sent: &Sent) {
        let marks = self.marks();
        let Some(bytes) = sent.encode(&marks, &mut self.snapshot) else { return };
        // What cannot be read is refused by the transport.
        if Message::decode(&bytes).is_ok() {
            self.replica.transport_mut().arrived.push_back(bytes);
        }
    }

    /// One that cannot be started again, with limits that are a liar's, stays as it is.
    fn crash(&mut self, survive: usize) {
        let mut log = self.replica.raft().storage().clone();
        log.crash(survive);
        if let Some(replica) = start(log, self.now) {
            (self.replica, self.told) = (replica, Told::default());
        }
    }

    fn check(&self) {
        let raft = self.replica.raft();
        assert!(raft.storage().ids().count() <= ENTRIES_MAX, "the log has room for no more");
        assert!(raft.last_applied() <= raft.commit() && raft.commit() <= raft.storage().last().index);
        assert!(self.replica.sessions().sessions() <= limits().sessions, "the table has the memory it began with");
        let _ = self.replica.status();
    }
}
