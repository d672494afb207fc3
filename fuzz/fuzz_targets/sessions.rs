//! Operations on sessions, in any order with any numbers, against the rules as the simulator has written them a second
//! time. Outcomes are the same, and so is every byte of the table; the table's memory never grows; and one that is
//! restored from its bytes goes on as if nothing had been.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::HeapMemory;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::session::table::SessionTable;
use raft_core::types::{ClusterTime, Index, Millis, NodeId, Nonce, Sequence, SessionId};
use raft_sim::check::table::Table;

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
    model: &Table,
    last: &Option<OwnedOperation>,
) -> Option<OwnedOperation> {
    let pick = |which: u8| opened.iter().rev().nth(usize::from(which % 8)).copied().unwrap_or(SessionId(which.into()));
    let number = |session: SessionId, by: i8| {
        let acknowledged = model.acknowledged(session).unwrap_or(Sequence(1));
        Sequence(acknowledged.0.saturating_add_signed((by % 8).into()))
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
    let (mut model, node) = (Table::new(limits), NodeId::new(1).expect("1 is not 0"));
    let (bytes, mut opened, mut last, mut stamp) = (table.bytes(), Vec::new(), None, 100u64);
    for (index, (by, step)) in (1..).map(Index).zip(life.steps.iter().take(STEPS_MAX)) {
        stamp = if let Step::Time(stamp) = step { *stamp } else { stamp.saturating_add_signed((by / 4).into()) };
        let stamp = ClusterTime(stamp);
        table.advance(stamp);
        if let Some(operation) = operation(step, &opened, &model, &last) {
            let outcome: OwnedOutcome = table.apply(index, operation.borrow(), &mut machine).into();
            let applied = model.applied(index, stamp, Some((&operation.borrow(), &outcome)));
            assert_eq!(applied, Ok(()), "{operation:?}");
            if let OwnedOutcome::Opened { session, again: false, .. } = outcome {
                opened.push(session);
            }
            last = Some(operation);
        } else {
            assert_eq!(model.applied(index, stamp, None), Ok(()));
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
        assert_eq!(model.compare(node, index, table.digest()), Ok(()), "{step:?}");
        assert_eq!((table.sessions() as usize, table.bytes()), (model.sessions(), bytes));
    }
});
