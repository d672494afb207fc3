//! Operations on sessions, in any order with any numbers, against the plainest model: a map that remembers every
//! command that a session has executed. Outcomes, time and sessions are the same; no command is executed twice; the
//! table's memory never grows; and one that is restored from its bytes goes on as if nothing had been.

#![no_main]

use std::collections::{BTreeMap, HashMap};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::HeapMemory;
use raft_core::session::operation::Refusal;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::session::table::SessionTable;
use raft_core::types::{ClusterTime, Index, Millis, Nonce, Sequence, SessionId};

/// The longest answer that is told to who asked first.
const SCRATCH_BYTES: usize = 8;
const STEPS_MAX: usize = 200;

#[derive(Debug, Arbitrary)]
struct Life {
    sessions: u8,
    window: u8,
    answer_bytes: u8,
    time_step: u8,
    evict_idle: Option<u8>,
    steps: Vec<(i8, Step)>,
}

/// What happens: sessions are told by how many were opened since, numbers by the session's acknowledgement.
#[derive(Debug, Arbitrary)]
enum Step {
    Open { nonce: u8, fifo: bool },
    KeepAlive { which: u8, ahead: i8 },
    Close { which: u8 },
    Command { which: u8, number: i8, acknowledge: i8, length: u8 },
    Again { length: u8 },
    Extreme { which: u8, sequence: u64, acknowledge: u64 },
    Plain { length: u8 },
    Time(u64),
    Restore,
}

/// Answers the first byte of a command, so many times.
#[derive(Default)]
struct Echo {
    executed: u64,
}

impl StateMachine for Echo {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.executed += 1;
        answer.write(&reply(command, self.executed));
    }

    fn query(&self, _: &[u8], _: &mut dyn Sink) {}

    fn snapshot(&self, _: &mut dyn Sink) {}

    fn restore(&mut self, _: &mut dyn Source) -> Result<(), Damaged> {
        Ok(())
    }
}

fn reply(command: &[u8], executed: u64) -> Vec<u8> {
    executed.to_le_bytes().iter().cycle().take(command.len()).copied().collect()
}

struct Session {
    nonce: u128,
    fifo: bool,
    renewed: u64,
    acknowledge: u64,
    executed: HashMap<u64, (Index, Vec<u8>, Vec<u8>)>,
}

struct Model {
    limits: SessionLimits,
    time: u64,
    stamp: u64,
    executed: u64,
    sessions: BTreeMap<u64, Session>,
}

impl Model {
    fn advance(&mut self, stamp: u64) {
        self.time += stamp.saturating_sub(self.stamp).min(self.limits.time_step_max.0);
        self.stamp = self.stamp.max(stamp);
        let (time, ttl) = (self.time, self.limits.ttl.0);
        self.sessions.retain(|_, session| time <= session.renewed.saturating_add(ttl));
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
            OwnedOperation::Close { session } => {
                self.sessions.remove(&session.0).map_or(expired, |_| OwnedOutcome::Closed)
            }
            OwnedOperation::Command { session, sequence, acknowledge, command } => {
                if self.renew(*session, *acknowledge) {
                    self.command(index, session.0, sequence.0, command)
                } else {
                    expired
                }
            }
            OwnedOperation::Plain { command } => {
                let answer = self.execute(command);
                first(index, answer)
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
        let SessionLimits { ttl, window, sessions, evict_idle, .. } = self.limits;
        let opened = |session, again| OwnedOutcome::Opened { session: SessionId(session), again, ttl, window };
        if let Some((&id, session)) = self.sessions.iter_mut().find(|(_, session)| session.nonce == nonce) {
            if session.fifo != fifo {
                return OwnedOutcome::Refused(Refusal::Mismatch);
            }
            session.renewed = self.time;
            return opened(id, true);
        }
        if self.sessions.len() == sessions as usize {
            let idle = self.sessions.iter().min_by_key(|(id, session)| (session.renewed, **id));
            let (&id, oldest) = idle.expect("there is one");
            let expires = oldest.renewed.saturating_add(ttl.0).saturating_add(1);
            let free_at = evict_idle.map_or(expires, |idle| expires.min(oldest.renewed.saturating_add(idle.0)));
            if free_at > self.time {
                return OwnedOutcome::Refused(Refusal::TableFull { retry_after: Millis(free_at - self.time) });
            }
            self.sessions.remove(&id);
        }
        let session = Session { nonce, fifo, renewed: self.time, acknowledge: 1, executed: HashMap::new() };
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
            return match answer.len() > self.limits.answer_bytes as usize {
                true => OwnedOutcome::Executed { index: *index, replayed: true },
                false => OwnedOutcome::Answered { index: *index, answer: answer.clone(), replayed: true },
            };
        }
        if sequence - session.acknowledge >= u64::from(self.limits.window) {
            return OwnedOutcome::Refused(Refusal::WindowFull);
        }
        if session.fifo && (session.acknowledge..sequence).any(|before| !session.executed.contains_key(&before)) {
            return OwnedOutcome::Refused(Refusal::OutOfOrder);
        }
        let answer = self.execute(command);
        let session = self.sessions.get_mut(&id).expect("it lives");
        session.executed.insert(sequence, (index, command.to_vec(), answer.clone()));
        first(index, answer)
    }

    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        self.executed += 1;
        reply(command, self.executed)
    }
}

fn first(index: Index, answer: Vec<u8>) -> OwnedOutcome {
    if answer.len() > SCRATCH_BYTES {
        return OwnedOutcome::Executed { index, replayed: false };
    }
    OwnedOutcome::Answered { index, answer, replayed: false }
}

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Life {
    fn limits(&self) -> SessionLimits {
        SessionLimits {
            sessions: u32::from(self.sessions % 4) + 1,
            window: u16::from(self.window % 4) + 1,
            answer_bytes: u32::from(self.answer_bytes) % (SCRATCH_BYTES as u32 + 1),
            ttl: Millis(20),
            time_step_max: Millis(u64::from(self.time_step % 20) + 1),
            evict_idle: self.evict_idle.map(|idle| Millis(10 + u64::from(idle % 15))),
        }
    }
}

/// The operation that a step stands for; `None` if it is none.
fn operation(
    step: &Step,
    opened: &[SessionId],
    model: &Model,
    last: &Option<OwnedOperation>,
) -> Option<OwnedOperation> {
    let pick = |which: u8| opened.iter().rev().nth(usize::from(which % 8)).copied().unwrap_or(SessionId(which.into()));
    let number = |session: SessionId, by: i8| {
        let acknowledged = model.sessions.get(&session.0).map_or(1, |found| found.acknowledge);
        Sequence(acknowledged.saturating_add_signed((by % 8).into()))
    };
    let command = |length: u8| vec![length; usize::from(length % 12)];
    Some(match *step {
        Step::Open { nonce, fifo } => OwnedOperation::Open { nonce: Nonce((nonce % 6).into()), fifo },
        Step::KeepAlive { which, ahead } => {
            OwnedOperation::KeepAlive { session: pick(which), acknowledge: number(pick(which), ahead) }
        }
        Step::Close { which } => OwnedOperation::Close { session: pick(which) },
        Step::Command { which, number: by, acknowledge, length } => OwnedOperation::Command {
            session: pick(which),
            sequence: number(pick(which), by),
            // Most say again what they have said.
            acknowledge: if acknowledge < 100 { Sequence(1) } else { number(pick(which), acknowledge) },
            command: command(length),
        },
        Step::Again { length } => match last.clone()? {
            OwnedOperation::Command { session, sequence, acknowledge, command: before } => {
                let command = if length == 0 { command(length) } else { before };
                OwnedOperation::Command { session, sequence, acknowledge, command }
            }
            other => other,
        },
        Step::Extreme { which, sequence, acknowledge } => OwnedOperation::Command {
            session: pick(which),
            sequence: Sequence(sequence),
            acknowledge: Sequence(acknowledge),
            command: command(1),
        },
        Step::Plain { length } => OwnedOperation::Plain { command: command(length) },
        Step::Time(_) | Step::Restore => return None,
    })
}

fuzz_target!(|life: Life| {
    let limits = life.limits();
    let memory = || HeapMemory::new(&limits, SCRATCH_BYTES).expect("there is memory for it");
    let (mut table, mut machine) = (SessionTable::new(limits, memory()).expect("it fits"), Echo::default());
    let mut model = Model { limits, time: 0, stamp: 0, executed: 0, sessions: BTreeMap::new() };
    let (bytes, mut opened, mut last, mut stamp) = (table.bytes(), Vec::new(), None, 100u64);
    for (index, (by, step)) in (1..).map(Index).zip(life.steps.iter().take(STEPS_MAX)) {
        stamp = if let Step::Time(stamp) = step { *stamp } else { stamp.saturating_add_signed((by / 4).into()) };
        model.advance(stamp);
        table.advance(ClusterTime(stamp));
        if let Some(operation) = operation(step, &opened, &model, &last) {
            let expected = model.apply(index, &operation);
            let outcome: OwnedOutcome = table.apply(index, operation.borrow(), &mut machine).into();
            assert_eq!(outcome, expected, "{operation:?}");
            if let OwnedOutcome::Opened { session, again: false, .. } = outcome {
                opened.push(session);
            }
            last = Some(operation);
        }
        if let Step::Restore = step {
            let mut encoded = Bytes(Vec::new());
            table.encode(&mut encoded);
            table = SessionTable::new(limits, memory()).expect("it fits");
            table.decode(&encoded.0, index).expect("what was written can be read");
            let mut again = Bytes(Vec::new());
            table.encode(&mut again);
            assert_eq!(again.0, encoded.0);
        }
        assert_eq!(machine.executed, model.executed, "executed exactly as often");
        assert_eq!((table.time(), table.bytes()), (ClusterTime(model.time), bytes));
        assert_eq!(table.sessions() as usize, model.sessions.len());
        let first_end = model.sessions.values().map(|session| session.renewed.saturating_add(limits.ttl.0)).min();
        assert_eq!(table.lease_end_min(), first_end.map(ClusterTime));
    }
});
