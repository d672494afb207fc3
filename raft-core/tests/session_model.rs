//! The table of sessions held against a model that remembers everything and looks at everything.
//!
//! Limits are tiny, so that sessions end and windows fill all the time. The same entries go to a
//! table in fixed memory, to one on the heap, and to the model; snapshots are taken in between.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, HeapMemory, SessionMemory, bytes_needed};
use raft_core::session::operation::Refusal;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::session::table::{SecretCheck, SessionTable};
use raft_core::types::{ClusterTime, Index, Millis, Nonce, Sequence, SessionId};

/// The scratch of all tables here.
const ANSWER_BYTES_MAX: usize = 6;
const LARGEST: SessionLimits = SessionLimits {
    sessions: 3,
    window: 4,
    answer_bytes: 4,
    ttl: Millis(20),
    time_step_max: Millis(20),
    evict_idle: None,
};
const FIXED_BYTES: usize = bytes_needed(&LARGEST, ANSWER_BYTES_MAX);

/// Answers a command whose first byte is n with n bytes that no other execution answers with.
#[derive(Default)]
struct Counter {
    executed: u64,
}

fn answer_to(command: &[u8], executed: u64) -> Vec<u8> {
    let length = command.first().copied().unwrap_or(0);
    executed.to_le_bytes().iter().cycle().take(usize::from(length)).copied().collect()
}

impl StateMachine for Counter {
    fn apply(&mut self, _position: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.executed += 1;
        answer.write(&answer_to(command, self.executed));
    }

    fn query(&self, _query: &[u8], _answer: &mut dyn Sink) {}

    fn snapshot(&self, state: &mut dyn Sink) {
        state.write(&self.executed.to_le_bytes());
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        let mut bytes = [0; 8];
        state.read_exact(&mut bytes)?;
        self.executed = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct ModelSession {
    nonce: u128,
    fifo: bool,
    renewed: u64,
    acknowledge: u64,
    /// Every command it ever executed: the index, the command, the answer.
    executed: HashMap<u64, (Index, Vec<u8>, Vec<u8>)>,
}

struct Model {
    limits: SessionLimits,
    scratch: usize,
    time: u64,
    stamp: u64,
    executed: u64,
    sessions: BTreeMap<u64, ModelSession>,
}

impl Model {
    fn advance(&mut self, stamp: u64) {
        if stamp > self.stamp {
            self.time += (stamp - self.stamp).min(self.limits.time_step_max.0);
            self.stamp = stamp;
        }
        let (time, ttl) = (self.time, self.limits.ttl.0);
        self.sessions.retain(|_, session| time <= session.renewed + ttl);
    }

    fn apply(&mut self, index: Index, operation: &OwnedOperation) -> OwnedOutcome {
        let expired = OwnedOutcome::Refused(Refusal::SessionExpired);
        match operation {
            OwnedOperation::Open { nonce, fifo } => self.open(index, nonce.0, *fifo),
            OwnedOperation::KeepAlive { session, acknowledge } => {
                if self.renew(*session, *acknowledge) {
                    OwnedOutcome::KeptAlive
                } else {
                    expired
                }
            }
            OwnedOperation::Close { session } => match self.sessions.remove(&session.0) {
                Some(_) => OwnedOutcome::Closed,
                None => expired,
            },
            OwnedOperation::Command { session, sequence, acknowledge, command } => {
                if !self.renew(*session, *acknowledge) {
                    return expired;
                }
                self.command(index, session.0, sequence.0, command)
            }
            OwnedOperation::Plain { command } => {
                let answer = self.execute(command);
                self.first(index, answer)
            }
        }
    }

    fn renew(&mut self, session: SessionId, acknowledge: Sequence) -> bool {
        let Some(session) = self.sessions.get_mut(&session.0) else { return false };
        session.renewed = self.time;
        session.acknowledge = session.acknowledge.max(acknowledge.0);
        true
    }

    fn open(&mut self, index: Index, nonce: u128, fifo: bool) -> OwnedOutcome {
        let (ttl, window) = (self.limits.ttl, self.limits.window);
        let opened = |session, again| OwnedOutcome::Opened { session: SessionId(session), again, ttl, window };
        let found = self.sessions.iter_mut().find(|(_, session)| session.nonce == nonce);
        if let Some((&id, session)) = found {
            if session.fifo != fifo {
                return OwnedOutcome::Refused(Refusal::Mismatch);
            }
            session.renewed = self.time;
            return opened(id, true);
        }
        if self.sessions.len() == self.limits.sessions as usize {
            let (&id, oldest) = self.sessions.iter().min_by_key(|(id, session)| (session.renewed, **id)).unwrap();
            let expires = oldest.renewed + ttl.0 + 1;
            let free_at = self.limits.evict_idle.map_or(expires, |idle| expires.min(oldest.renewed + idle.0));
            if free_at > self.time {
                return OwnedOutcome::Refused(Refusal::TableFull { retry_after: Millis(free_at - self.time) });
            }
            self.sessions.remove(&id);
        }
        let session = ModelSession { nonce, fifo, renewed: self.time, acknowledge: 1, executed: HashMap::new() };
        self.sessions.insert(index.0, session);
        opened(index.0, false)
    }

    fn command(&mut self, index: Index, id: u64, sequence: u64, command: &[u8]) -> OwnedOutcome {
        let session = &self.sessions[&id];
        if sequence < session.acknowledge {
            return OwnedOutcome::Refused(Refusal::Stale);
        }
        if let Some((index, executed, answer)) = session.executed.get(&sequence) {
            if executed != command {
                return OwnedOutcome::Refused(Refusal::Mismatch);
            }
            if answer.len() > self.limits.answer_bytes as usize {
                return OwnedOutcome::Executed { index: *index, replayed: true };
            }
            return OwnedOutcome::Answered { index: *index, answer: answer.clone(), replayed: true };
        }
        if sequence - session.acknowledge >= u64::from(self.limits.window) {
            return OwnedOutcome::Refused(Refusal::WindowFull);
        }
        if session.fifo && (session.acknowledge..sequence).any(|before| !session.executed.contains_key(&before)) {
            return OwnedOutcome::Refused(Refusal::OutOfOrder);
        }
        let answer = self.execute(command);
        let session = self.sessions.get_mut(&id).unwrap();
        session.executed.insert(sequence, (index, command.to_vec(), answer.clone()));
        self.first(index, answer)
    }

    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        self.executed += 1;
        answer_to(command, self.executed)
    }

    fn first(&self, index: Index, answer: Vec<u8>) -> OwnedOutcome {
        if answer.len() > self.scratch {
            return OwnedOutcome::Executed { index, replayed: false };
        }
        OwnedOutcome::Answered { index, answer, replayed: false }
    }
}

/// A table and its machine.
struct Replica<M> {
    table: SessionTable<M>,
    machine: Counter,
}

impl<M: SessionMemory> Replica<M> {
    fn new(limits: SessionLimits, memory: M) -> Replica<M> {
        Replica { table: SessionTable::new(limits, memory).unwrap(), machine: Counter::default() }
    }

    fn apply(&mut self, stamp: u64, index: Index, operation: &OwnedOperation) -> OwnedOutcome {
        self.table.advance(ClusterTime(stamp));
        self.table.apply(index, operation.borrow(), &mut self.machine).into()
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        self.table.encode(&mut bytes);
        bytes.0
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What happens, with sessions and numbers told relative to those there are.
#[derive(Clone, Debug)]
enum Step {
    Open {
        nonce: u128,
        fifo: bool,
    },
    KeepAlive {
        which: usize,
        ahead: u64,
    },
    Close {
        which: usize,
    },
    Command {
        which: usize,
        behind: u64,
        number: u64,
        ahead: u64,
        command: Vec<u8>,
    },
    Extreme {
        which: usize,
        sequence: u64,
        acknowledge: u64,
    },
    Plain {
        command: Vec<u8>,
    },
    Clock,
    /// The table on the heap is replaced by a snapshot of the other: as it stands, or after a
    /// restart with an empty one.
    Install {
        restart: bool,
    },
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..9u8, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let extreme = prop_oneof![Just(0), Just(1), Just(u64::MAX - 1), Just(u64::MAX)];
    prop_oneof![
        4 => (0..5u128, prop::bool::weighted(0.3)).prop_map(|(nonce, fifo)| Step::Open { nonce, fifo }),
        2 => (0..6usize, 0..3u64).prop_map(|(which, ahead)| Step::KeepAlive { which, ahead }),
        1 => (0..6usize).prop_map(|which| Step::Close { which }),
        16 => (0..6usize, 0..2u64, 0..6u64, prop_oneof![5 => Just(0), 1 => 0..3u64], command()).prop_map(
            |(which, behind, number, ahead, command)| Step::Command { which, behind, number, ahead, command }
        ),
        1 => (0..6usize, extreme.clone(), extreme).prop_map(
            |(which, sequence, acknowledge)| Step::Extreme { which, sequence, acknowledge }
        ),
        1 => command().prop_map(|command| Step::Plain { command }),
        2 => Just(Step::Clock),
        1 => any::<bool>().prop_map(|restart| Step::Install { restart }),
    ]
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    let idle = prop::option::of((10..24u64).prop_map(Millis));
    (1..=3u32, 1..=4u16, 0..=4u32, 1..=20u64, idle).prop_map(|(sessions, window, answer_bytes, step, evict_idle)| {
        let time_step_max = Millis(step);
        SessionLimits { sessions, window, answer_bytes, ttl: Millis(20), time_step_max, evict_idle }
    })
}

fn stamps() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 4 => 1..8i64, 1 => -5..0i64, 1 => 8..200i64]
}

impl Step {
    /// The operation it stands for; `None` for a clock entry.
    fn operation(&self, opened: &[SessionId], model: &Model) -> Option<OwnedOperation> {
        // The latest sessions, one that lives among them as a rule; and one that never was.
        let pick = |which: usize| opened.iter().rev().nth(which).copied().unwrap_or(SessionId(0));
        let acknowledged = |session: SessionId| model.sessions.get(&session.0).map_or(1, |found| found.acknowledge);
        let ahead = |session, ahead| Sequence(acknowledged(session).saturating_add(ahead));
        Some(match *self {
            Step::Open { nonce, fifo } => OwnedOperation::Open { nonce: Nonce(nonce), fifo },
            Step::KeepAlive { which, ahead: by } => {
                let session = pick(which);
                OwnedOperation::KeepAlive { session, acknowledge: ahead(session, by) }
            }
            Step::Close { which } => OwnedOperation::Close { session: pick(which) },
            Step::Command { which, behind, number, ahead: by, ref command } => {
                let session = pick(which);
                let sequence = Sequence(ahead(session, number).0.saturating_sub(behind));
                OwnedOperation::Command { session, sequence, acknowledge: ahead(session, by), command: command.clone() }
            }
            Step::Extreme { which, sequence, acknowledge } => {
                let (sequence, acknowledge) = (Sequence(sequence), Sequence(acknowledge));
                OwnedOperation::Command { session: pick(which), sequence, acknowledge, command: vec![2] }
            }
            Step::Plain { ref command } => OwnedOperation::Plain { command: command.clone() },
            Step::Clock | Step::Install { .. } => return None,
        })
    }
}

/// All that is compared after each entry.
fn compare<A: SessionMemory, B: SessionMemory>(fixed: &mut Replica<A>, heap: &mut Replica<B>, model: &Model) {
    assert_eq!(fixed.encoded(), heap.encoded());
    assert_eq!(fixed.table.digest(), heap.table.digest());
    assert_eq!(fixed.machine.executed, model.executed, "executed exactly as often");
    assert_eq!(fixed.table.time(), ClusterTime(model.time));
    assert_eq!(fixed.table.sessions() as usize, model.sessions.len());
    let lease_end = model.sessions.values().map(|session| session.renewed + model.limits.ttl.0).min();
    assert_eq!(fixed.table.lease_end_min(), lease_end.map(ClusterTime));
    for (&id, session) in &model.sessions {
        assert_eq!(heap.table.check_secret(SessionId(id), Nonce(session.nonce)), SecretCheck::Right);
        assert_eq!(heap.table.check_secret(SessionId(id), Nonce(session.nonce + 1)), SecretCheck::Wrong);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn tables_in_every_memory_do_what_the_model_does(
        limits in limits(),
        steps in prop::collection::vec((stamps(), step()), 1..200),
    ) {
        let mut fixed = Replica::new(limits, FixedMemory::<3, FIXED_BYTES>::new());
        let scratch = FIXED_BYTES - (bytes_needed(&limits, 0) - limits.answer_bytes as usize);
        let mut heap = Replica::new(limits, HeapMemory::new(&limits, scratch).unwrap());
        let bytes = (fixed.table.bytes(), heap.table.bytes());
        let sessions = BTreeMap::new();
        let mut model = Model { limits, scratch, time: 0, stamp: 0, executed: 0, sessions };
        let (mut opened, mut index, mut stamp) = (Vec::new(), Index(0), 100u64);
        for (by, step) in steps {
            stamp = stamp.saturating_add_signed(by);
            index = index.next();
            model.advance(stamp);
            if let Some(operation) = step.operation(&opened, &model) {
                let outcome = model.apply(index, &operation);
                prop_assert_eq!(&fixed.apply(stamp, index, &operation), &outcome, "{:?}", &operation);
                prop_assert_eq!(&heap.apply(stamp, index, &operation), &outcome, "{:?}", &operation);
                if let OwnedOutcome::Opened { session, again: false, .. } = outcome {
                    opened.push(session);
                }
            } else {
                fixed.table.advance(ClusterTime(stamp));
                heap.table.advance(ClusterTime(stamp));
            }
            if let Step::Install { restart } = step {
                if restart {
                    let other = SessionLimits { window: 1, ..limits };
                    let machine = heap.machine;
                    heap = Replica { machine, ..Replica::new(other, HeapMemory::new(&limits, scratch).unwrap()) };
                }
                heap.table.decode(&fixed.encoded(), index).unwrap();
            }
            compare(&mut fixed, &mut heap, &model);
            prop_assert_eq!((fixed.table.bytes(), heap.table.bytes()), bytes);
        }
    }

    /// Bytes that are nothing in particular, and bytes that are nearly a table.
    #[test]
    fn no_bytes_make_decoding_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), seal in any::<bool>()) {
        if seal {
            let crc = raft_core::crc::crc32c(0, &bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        let mut replica = Replica::new(LARGEST, FixedMemory::<3, FIXED_BYTES>::new());
        let before = replica.encoded();
        if replica.table.decode(&bytes, Index(50)).is_err() {
            prop_assert_eq!(replica.encoded(), before);
        }
    }
}
