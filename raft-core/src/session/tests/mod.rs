//! Tests of the table: by rule, by trap, by invariant, and by what went wrong elsewhere.

mod invariants;
mod known_bugs;
mod rules;
mod snapshot;
mod traps;

use std::vec::Vec;

use crate::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use crate::session::limits::SessionLimits;
use crate::session::memory::{FixedMemory, SessionMemory, bytes_needed};
use crate::session::operation::{Operation, Outcome, Refusal};
use crate::session::table::SessionTable;
use crate::types::{ClusterTime, Index, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

/// Small, so that every bound is near.
const LIMITS: SessionLimits = SessionLimits {
    sessions: 3,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(100),
    time_step_max: Millis(10),
    evict_idle: None,
};
const EVICTING: SessionLimits = SessionLimits { evict_idle: Some(Millis(50)), ..LIMITS };

const ANSWER_BYTES_MAX: usize = 16;
const MEMORY_BYTES: usize = bytes_needed(&LIMITS, ANSWER_BYTES_MAX);

type Memory = FixedMemory<3, MEMORY_BYTES>;

/// Answers `<n` bytes>` with that many, and anything else with the command and how many it has
/// executed by then: a second execution would be seen.
#[derive(Default)]
struct Recorder {
    executed: Vec<(Position, Vec<u8>)>,
}

impl StateMachine for Recorder {
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.executed.push((position, command.to_vec()));
        match command {
            [b'<', length] => (0..*length).for_each(|byte| answer.write(&[byte])),
            _ => {
                answer.write(command);
                answer.write(&[b'#', b'0' + u8::try_from(self.executed.len() % 10).unwrap()]);
            }
        }
    }

    fn query(&self, _query: &[u8], _answer: &mut dyn Sink) {}

    fn snapshot(&self, _state: &mut dyn Sink) {}

    fn restore(&mut self, _state: &mut dyn Source) -> Result<(), Damaged> {
        Ok(())
    }
}

/// A table, what it executes on, and the log's end.
struct Bench<M = Memory> {
    table: SessionTable<M>,
    machine: Recorder,
    index: Index,
    stamp: ClusterTime,
}

impl Bench {
    fn new(limits: SessionLimits) -> Bench {
        Bench::with_memory(limits, FixedMemory::new())
    }
}

impl<M: SessionMemory> Bench<M> {
    fn with_memory(limits: SessionLimits, memory: M) -> Bench<M> {
        let table = SessionTable::new(limits, memory).unwrap();
        Bench { table, machine: Recorder::default(), index: Index(10), stamp: ClusterTime(0) }
    }

    /// Applies an entry with an operation, stamped as the one before.
    fn apply(&mut self, operation: Operation<'_>) -> Outcome<'_> {
        self.index = self.index.next();
        self.table.advance(self.stamp);
        self.table.apply(self.index, operation, &mut self.machine)
    }

    fn try_open(&mut self, nonce: u128) -> Outcome<'_> {
        self.apply(Operation::Open { nonce: Nonce(nonce), fifo: false })
    }

    fn open_as(&mut self, nonce: u128, fifo: bool) -> SessionId {
        match self.apply(Operation::Open { nonce: Nonce(nonce), fifo }) {
            Outcome::Opened { session, .. } => session,
            other => panic!("not opened: {other:?}"),
        }
    }

    fn open(&mut self, nonce: u128) -> SessionId {
        self.open_as(nonce, false)
    }

    fn keep_alive(&mut self, session: SessionId) -> Outcome<'_> {
        self.apply(Operation::KeepAlive { session, acknowledge: Sequence(1) })
    }

    fn acknowledge(&mut self, session: SessionId, acknowledge: u64) -> Outcome<'_> {
        self.apply(Operation::KeepAlive { session, acknowledge: Sequence(acknowledge) })
    }

    fn close(&mut self, session: SessionId) -> Outcome<'_> {
        self.apply(Operation::Close { session })
    }

    /// Applies a command of a client that still waits for all its answers.
    fn command(&mut self, session: SessionId, sequence: u64, command: &[u8]) -> Outcome<'_> {
        self.acknowledging(session, sequence, 1, command)
    }

    fn acknowledging(&mut self, session: SessionId, sequence: u64, acknowledge: u64, command: &[u8]) -> Outcome<'_> {
        let (sequence, acknowledge) = (Sequence(sequence), Sequence(acknowledge));
        self.apply(Operation::Command { session, sequence, acknowledge, command: Bytes(command) })
    }

    /// Applies as many clock entries as it takes for so much time to pass.
    fn pass(&mut self, millis: u64) {
        let end = self.stamp.after(Millis(millis));
        while self.stamp < end {
            self.clock(self.stamp.after(LIMITS.time_step_max).min(end).0);
        }
    }

    /// Applies one clock entry with this stamp.
    fn clock(&mut self, stamp: u64) {
        self.index = self.index.next();
        self.stamp = ClusterTime(stamp);
        self.table.advance(self.stamp);
    }

    fn runs(&self) -> usize {
        self.machine.executed.len()
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Written::default();
        self.table.encode(&mut bytes);
        bytes.0
    }

    fn alive(&self, session: SessionId) -> bool {
        self.table.place(session).is_some()
    }
}

#[derive(Default)]
struct Written(Vec<u8>);

impl Sink for Written {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn answered(index: u64, answer: &[u8]) -> Outcome<'_> {
    Outcome::Answered { index: Index(index), answer: Bytes(answer), replayed: false }
}

fn replayed(index: u64, answer: &[u8]) -> Outcome<'_> {
    Outcome::Answered { index: Index(index), answer: Bytes(answer), replayed: true }
}

/// Whether a command that was executed had been executed before.
fn was_replayed(outcome: Outcome<'_>) -> Option<bool> {
    match outcome {
        Outcome::Answered { replayed, .. } | Outcome::Executed { replayed, .. } => Some(replayed),
        _ => None,
    }
}

const STALE: Outcome<'_> = Outcome::Refused(Refusal::Stale);
const EXPIRED: Outcome<'_> = Outcome::Refused(Refusal::SessionExpired);
const MISMATCH: Outcome<'_> = Outcome::Refused(Refusal::Mismatch);
const WINDOW_FULL: Outcome<'_> = Outcome::Refused(Refusal::WindowFull);
const OUT_OF_ORDER: Outcome<'_> = Outcome::Refused(Refusal::OutOfOrder);

fn table_full(retry_after: u64) -> Outcome<'static> {
    Outcome::Refused(Refusal::TableFull { retry_after: Millis(retry_after) })
}
